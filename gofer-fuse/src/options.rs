//! Options of a mount as mount(8) and mount.fuse know them.

use std::time::Duration;

/// Who may use the mount beside the user who made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Share {
    /// Nobody, not even root.
    #[default]
    Owner,
    /// Root.
    Root,
    /// Everybody, as permissions allow.
    Everybody,
}

/// Options of the mount itself, as opposed to those of the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct FuseOptions {
    pub share: Share,
    pub readonly: bool,
    /// Set-user-ID bits count.
    pub suid: bool,
    /// Device files lead to devices.
    pub dev: bool,
    pub exec: bool,
    pub noatime: bool,
    pub dirsync: bool,
    pub sync: bool,
    /// What `mount` shows as the source.
    pub fsname: String,
    /// What `mount` shows after `fuse.` as the type.
    pub subtype: String,
    /// How long the kernel trusts names and attributes that others may change: what the option
    /// `revalidate_after` of the tree is on a mount.
    pub checks_trusted: Duration,
    /// How long the kernel trusts a name; `None`: as the cache mode allows.
    pub entry_timeout: Option<Duration>,
    /// How long it trusts attributes.
    pub attr_timeout: Option<Duration>,
    /// How long it trusts that a name does not exist.
    pub negative_timeout: Option<Duration>,
}

impl Default for FuseOptions {
    /// Device files and set-user-ID do not count unless asked for, as with every FUSE mount.
    fn default() -> FuseOptions {
        FuseOptions {
            share: Share::Owner,
            readonly: false,
            suid: false,
            dev: false,
            exec: true,
            noatime: false,
            dirsync: false,
            sync: false,
            fsname: "gofer".to_owned(),
            subtype: "gofer".to_owned(),
            checks_trusted: Duration::ZERO,
            entry_timeout: None,
            attr_timeout: None,
            negative_timeout: None,
        }
    }
}

/// Every key [`FuseOptions::take`] knows.
pub const KEYS: &[&str] = &[
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "atime",
    "noatime",
    "sync",
    "async",
    "dirsync",
    "allow_other",
    "allow_root",
    "default_permissions",
    "fsname",
    "subtype",
    "entry_timeout",
    "attr_timeout",
    "negative_timeout",
];

/// The longest time the kernel is told to trust anything, in seconds: a hundred years.
const SECONDS_MAX: f64 = 3.2e9;

impl FuseOptions {
    /// Takes one item of `-o`. `Ok(false)`: the key is not one of [`KEYS`].
    ///
    /// # Errors
    /// A value that makes no sense, in words for the user.
    pub fn take(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<bool, String> {
        let Some(known) = KEYS.iter().find(|known| known.as_bytes() == key) else {
            return Ok(false);
        };
        match (*known, value) {
            ("fsname", Some(value)) => self.fsname = source(known, value)?,
            ("subtype", Some(value)) => self.subtype = source(known, value)?,
            ("entry_timeout", Some(value)) => self.entry_timeout = Some(seconds(known, value)?),
            ("attr_timeout", Some(value)) => self.attr_timeout = Some(seconds(known, value)?),
            ("negative_timeout", Some(value)) => {
                self.negative_timeout = Some(seconds(known, value)?);
            }
            (
                "fsname" | "subtype" | "entry_timeout" | "attr_timeout" | "negative_timeout",
                None,
            ) => return Err(format!("{known} needs a value")),
            (_, Some(_)) => return Err(format!("{known} takes no value")),
            (flag, None) => self.take_flag(flag),
        }
        Ok(true)
    }

    fn take_flag(&mut self, flag: &str) {
        match flag {
            "ro" => self.readonly = true,
            "rw" => self.readonly = false,
            "suid" => self.suid = true,
            "nosuid" => self.suid = false,
            "dev" => self.dev = true,
            "nodev" => self.dev = false,
            "exec" => self.exec = true,
            "noexec" => self.exec = false,
            "atime" => self.noatime = false,
            "noatime" => self.noatime = true,
            "sync" => self.sync = true,
            "async" => self.sync = false,
            "dirsync" => self.dirsync = true,
            "allow_other" => self.share = Share::Everybody,
            "allow_root" => self.share = Share::Root,
            // Always on.
            "default_permissions" => {}
            _ => {}
        }
    }
}

/// A word for the kernel's option string, in which it could be read as further options.
fn source(key: &str, value: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(value).map_err(|_| format!("{key}: not UTF-8"))?;
    if text.is_empty() {
        return Err(format!("{key} needs a value"));
    }
    if let Some(bad) = text
        .chars()
        .find(|c| matches!(c, ',' | '\\') || c.is_control())
    {
        return Err(format!("{key}: {bad:?} is not allowed"));
    }
    Ok(text.to_owned())
}

fn seconds(key: &str, value: &[u8]) -> Result<Duration, String> {
    let number = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse::<f64>().ok());
    match number {
        Some(number) if (0.0..=SECONDS_MAX).contains(&number) => {
            Ok(Duration::from_secs_f64(number))
        }
        _ => Err(format!("{key}: expected a number of seconds")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_taken_and_no_other() {
        for key in KEYS {
            let mut options = FuseOptions::default();
            let bare = options.take(key.as_bytes(), None);
            let valued = options.take(key.as_bytes(), Some(b"1"));
            assert!(bare == Ok(true) || valued == Ok(true), "{key}");
            assert!(bare.is_err() || valued.is_err(), "{key}");
        }
        assert_eq!(FuseOptions::default().take(b"msize", Some(b"1")), Ok(false));
    }

    #[test]
    fn later_flags_win() {
        let mut options = FuseOptions::default();
        for flag in ["ro", "dev", "rw", "nodev", "allow_other", "allow_root"] {
            options.take(flag.as_bytes(), None).unwrap();
        }
        let expected = FuseOptions {
            share: Share::Root,
            ..FuseOptions::default()
        };
        assert_eq!(options, expected);
    }

    #[test]
    fn values_that_would_be_read_as_options_are_refused() {
        let mut options = FuseOptions::default();
        for value in ["a,suid", "a\\", "", "a\nb"] {
            for key in ["fsname", "subtype"] {
                let taken = options.take(key.as_bytes(), Some(value.as_bytes()));
                assert!(taken.is_err(), "{key}={value:?}");
            }
        }
        for value in ["-1", "nan", "inf", "1e300", "", "x"] {
            let taken = options.take(b"attr_timeout", Some(value.as_bytes()));
            assert!(taken.is_err(), "{value}");
        }
        assert_eq!(options, FuseOptions::default());
        options.take(b"attr_timeout", Some(b"0.5")).unwrap();
        assert_eq!(options.attr_timeout, Some(Duration::from_millis(500)));
    }
}
