//! What a connection is made of, gathered from flags, `-o`, environment, profile and file.
//!
//! Each source gives a [`Layer`]; a higher layer hides what a lower one says. The keys of
//! `-o` and the flags of the same names meet here, so that `trans=unix` means the same wherever
//! it stands.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use gofer_vfs::{Credentials, MountFlags};

use crate::args::{ConnectionArgs, TransArg};
use crate::error::{CliError, CliResult};

/// Words of fstab and mount(8) that mean nothing here.
pub const NOISE: [&[u8]; 19] = [
    b"auto",
    b"noauto",
    b"user",
    b"users",
    b"nouser",
    b"owner",
    b"group",
    b"defaults",
    b"_netdev",
    b"nofail",
    b"suid",
    b"nosuid",
    b"dev",
    b"nodev",
    b"exec",
    b"noexec",
    b"async",
    b"silent",
    b"loud",
];

/// What one source says.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Layer {
    /// Mount options by key, unescaped.
    pub keys: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Directory an embedded server is started on.
    pub root: Option<PathBuf>,
    /// User to attach as.
    pub uname: Option<Vec<u8>>,
    /// Longest wait for an answer.
    pub timeout: Option<Duration>,
    /// Refuse every change.
    pub readonly: Option<bool>,
    /// Never touch access times.
    pub noatime: Option<bool>,
    /// Access times only where they tell something.
    pub relatime: Option<bool>,
    /// Opening a socket connects to it.
    pub connect_sockets: Option<bool>,
    /// Credentials to act with.
    pub uid: Option<u32>,
    /// Primary group.
    pub gid: Option<u32>,
    /// Supplementary groups.
    pub groups: Option<Vec<u32>>,
}

impl Layer {
    /// This layer on top of `lower`.
    #[must_use]
    pub fn over(mut self, mut lower: Layer) -> Layer {
        // Another transport makes the addresses of the lower one meaningless.
        if self.keys.contains_key(b"trans".as_slice()) {
            for key in ["address", "rfdno", "wfdno"] {
                lower.keys.remove(key.as_bytes());
            }
            lower.root = None;
        }
        if self.uid.is_some() {
            lower.gid = None;
            lower.groups = None;
        }
        lower.keys.append(&mut self.keys);
        Layer {
            keys: lower.keys,
            root: self.root.or(lower.root),
            uname: self.uname.or(lower.uname),
            timeout: self.timeout.or(lower.timeout),
            readonly: self.readonly.or(lower.readonly),
            noatime: self.noatime.or(lower.noatime),
            relatime: self.relatime.or(lower.relatime),
            connect_sockets: self.connect_sockets.or(lower.connect_sockets),
            uid: self.uid.or(lower.uid),
            gid: self.gid.or(lower.gid),
            groups: self.groups.or(lower.groups),
        }
    }

    /// Sets one mount option.
    pub fn set(&mut self, key: &str, value: impl Into<Vec<u8>>) {
        self.keys.insert(key.into(), value.into());
    }

    /// Takes one text of `-o`; later items win.
    pub fn add_options(&mut self, text: &[u8]) {
        for item in split_commas(text) {
            let (key, value) = match item.iter().position(|byte| *byte == b'=') {
                Some(at) => (item[..at].to_vec(), item[at + 1..].to_vec()),
                None => (item, Vec::new()),
            };
            match key.as_slice() {
                b"" => {}
                b"ro" => self.readonly = Some(true),
                b"rw" => self.readonly = Some(false),
                b"noatime" => self.noatime = Some(true),
                b"atime" => self.noatime = Some(false),
                b"relatime" => {
                    self.noatime = Some(false);
                    self.relatime = Some(true);
                }
                b"norelatime" => self.relatime = Some(false),
                b"connect_sockets" => self.connect_sockets = Some(true),
                b"strictatime" => {
                    self.noatime = Some(false);
                    self.relatime = Some(false);
                }
                b"uname" => self.uname = Some(value),
                key if NOISE.contains(&key) => {}
                key if key.starts_with(b"x-") || key == b"comment" => {}
                _ => {
                    self.keys.insert(key, value);
                }
            }
        }
    }

    /// What the command line says: flags on top of `-o`.
    pub fn from_args(args: &ConnectionArgs) -> CliResult<Layer> {
        let mut options = Layer::default();
        for text in &args.options {
            options.add_options(text.as_bytes());
        }
        let mut flags = Layer {
            root: args.root.clone(),
            uname: args.uname.clone().map(OsString::into_vec),
            timeout: args.timeout.map(timeout).transpose()?,
            readonly: args.readonly.then_some(true),
            uid: args.uid,
            gid: args.gid,
            groups: args.groups.clone(),
            ..Layer::default()
        };
        if let Some(trans) = args.trans {
            let word = match trans {
                TransArg::Fd => "fd",
                TransArg::Unix => "unix",
                TransArg::Tcp => "tcp",
            };
            flags.set("trans", word);
        }
        for (key, number) in [("rfdno", args.rfdno), ("wfdno", args.wfdno)] {
            if let Some(number) = number {
                flags.set(key, number.to_string());
            }
        }
        for (key, value) in [("address", &args.address), ("aname", &args.aname)] {
            if let Some(value) = value {
                flags.set(key, value.as_bytes());
            }
        }
        if args.lisafs {
            flags.set("lisafs", "true");
        }
        // A flag names one key; it must not hide the rest of what `-o` says of the transport.
        let mut both = options;
        both.keys.append(&mut flags.keys);
        Ok(flags.over(both))
    }

    /// What the environment says.
    pub fn from_env(env: impl Fn(&str) -> Option<OsString>) -> CliResult<Layer> {
        let get = |key: &str| env(key).filter(|value| !value.is_empty());
        let mut layer = Layer::default();
        if let Some(options) = get("GOFER_OPTIONS") {
            layer.add_options(options.as_bytes());
        }
        for (variable, key) in [
            ("GOFER_TRANS", "trans"),
            ("GOFER_ADDRESS", "address"),
            ("GOFER_ANAME", "aname"),
            ("GOFER_LISAFS", "lisafs"),
        ] {
            if let Some(value) = get(variable) {
                layer.set(key, value.into_vec());
            }
        }
        layer.root = get("GOFER_ROOT").map(PathBuf::from);
        layer.uname = get("GOFER_UNAME").map(OsString::into_vec).or(layer.uname);
        if let Some(text) = get("GOFER_TIMEOUT") {
            let seconds = text.to_str().and_then(|text| text.parse().ok());
            let Some(seconds) = seconds else {
                return Err(CliError::usage(
                    "GOFER_TIMEOUT: expected a number of seconds",
                ));
            };
            layer.timeout = Some(timeout(seconds)?);
        }
        Ok(layer)
    }

    /// Whether any source named a descriptor.
    pub fn has_descriptors(&self) -> bool {
        ["rfdno", "wfdno"]
            .iter()
            .any(|key| self.keys.contains_key(key.as_bytes()))
    }

    /// The value of one mount option.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.keys.get(key.as_bytes()).map(Vec::as_slice)
    }

    /// The mount options as one string, with what needs it escaped.
    pub fn option_string(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, value) in &self.keys {
            if !out.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(key);
            out.push(b'=');
            out.extend_from_slice(&escaped(value));
        }
        out
    }

    /// The generic mount flags.
    pub fn mount_flags(&self) -> MountFlags {
        MountFlags {
            connect_sockets: self.connect_sockets.unwrap_or(false),
            readonly: self.readonly.unwrap_or(false),
            noatime: self.noatime.unwrap_or(false),
            relatime: self.relatime.unwrap_or(false),
        }
    }

    /// The credentials, given those of the caller. Another uid brings none of the caller's
    /// groups along.
    pub fn credentials(&self, caller: Credentials) -> Credentials {
        let (uid, gid, groups) = match self.uid {
            Some(uid) => (uid, uid, Vec::new()),
            None => (caller.uid, caller.gid, caller.groups),
        };
        Credentials::user(
            uid,
            self.gid.unwrap_or(gid),
            self.groups.clone().unwrap_or(groups),
        )
    }
}

/// A value of an option string, with what needs it escaped.
pub fn escaped(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for byte in value {
        if matches!(byte, b',' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out
}

/// A timeout from a number of seconds.
pub fn timeout(seconds: f64) -> CliResult<Duration> {
    const LONGEST: f64 = 1e9;
    if seconds > 0.0 && seconds <= LONGEST {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(CliError::usage(format!(
        "timeout of {seconds} seconds: expected more than 0 and at most {LONGEST}"
    )))
}

/// Splits at commas; a backslash escapes a comma or a backslash.
pub fn split_commas(text: &[u8]) -> Vec<Vec<u8>> {
    let mut items = vec![Vec::new()];
    let mut rest = text.iter().peekable();
    while let Some(&byte) = rest.next() {
        let escaped = match (byte, rest.peek()) {
            (b'\\', Some(&&next @ (b',' | b'\\'))) => Some(next),
            _ => None,
        };
        match (escaped, items.last_mut()) {
            (Some(next), Some(item)) => {
                item.push(next);
                rest.next();
            }
            (None, Some(item)) if byte != b',' => item.push(byte),
            _ => items.push(Vec::new()),
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(options: &str) -> Layer {
        let mut layer = Layer::default();
        layer.add_options(options.as_bytes());
        layer
    }

    fn text(layer: &Layer) -> String {
        String::from_utf8(layer.option_string()).unwrap()
    }

    #[test]
    fn later_options_win_and_fstab_words_are_ignored() {
        let layer = layer("ro,cache=none,_netdev,x-systemd.automount,rw,cache=fscache,noatime,,");
        assert_eq!(text(&layer), "cache=fscache");
        assert_eq!(layer.readonly, Some(false));
        assert_eq!(layer.noatime, Some(true));
        assert!(!layer.mount_flags().connect_sockets);
    }

    #[test]
    fn escaped_commas_survive_both_ways() {
        let layer = layer(r"aname=/a\,b\\c\d,cache=none");
        assert_eq!(layer.get("aname"), Some(br"/a,b\c\d".as_slice()));
        assert_eq!(text(&layer), r"aname=/a\,b\\c\\d,cache=none");
    }

    #[test]
    fn a_flag_beats_the_same_key_in_o() {
        let args = ConnectionArgs {
            trans: Some(TransArg::Unix),
            options: vec!["trans=tcp,address=/run/s".into(), "aname=/x".into()],
            aname: Some("/y".into()),
            ..ConnectionArgs::default()
        };
        let layer = Layer::from_args(&args).unwrap();
        assert_eq!(text(&layer), "address=/run/s,aname=/y,trans=unix");
    }

    #[test]
    fn another_transport_hides_the_lower_address() {
        let lower = layer("trans=unix,address=/run/s,cache=none");
        let top = layer("trans=fd");
        assert_eq!(text(&top.over(lower)), "cache=none,trans=fd");
    }

    #[test]
    fn the_environment_is_read_and_checked() {
        let env = |key: &str| match key {
            "GOFER_TRANS" => Some("tcp".into()),
            "GOFER_OPTIONS" => Some("trans=fd,msize=8192".into()),
            "GOFER_ANAME" => Some("".into()),
            _ => None,
        };
        assert_eq!(text(&Layer::from_env(env).unwrap()), "msize=8192,trans=tcp");
        let bad = |key: &str| (key == "GOFER_TIMEOUT").then(|| "soon".into());
        assert!(Layer::from_env(bad).is_err());
        assert!(timeout(f64::NAN).is_err() && timeout(-1.0).is_err());
    }

    #[test]
    fn another_uid_leaves_the_callers_groups_behind() {
        let caller = || Credentials::user(7, 8, vec![9]);
        let with = |uid, gid| {
            let layer = Layer {
                uid,
                gid,
                ..Layer::default()
            };
            let c = layer.credentials(caller());
            (c.uid, c.gid, c.groups)
        };
        assert_eq!(with(None, None), (7, 8, vec![9]));
        assert_eq!(with(Some(1000), None), (1000, 1000, vec![]));
        assert_eq!(with(Some(1000), Some(5)), (1000, 5, vec![]));
        assert_eq!(with(None, Some(5)), (7, 5, vec![9]));
    }
}
