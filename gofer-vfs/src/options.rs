//! Mount options: the string of `mount -o`, read and printed (semantics 2).

mod parse;

pub use parse::nearest;

use std::fmt;
use std::str::FromStr;

use crate::error::{Errno, printable};
use crate::interop::InteropMode;

/// How the server is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trans {
    /// Over descriptors that are already connected. With two different ones the first is read
    /// from and the second written to; 9P only.
    Fd {
        /// The descriptor to read from.
        rfd: i32,
        /// The descriptor to write to.
        wfd: i32,
    },
    /// Over a Unix socket.
    Unix {
        /// Its path.
        address: Vec<u8>,
    },
    /// Over TCP.
    Tcp {
        /// Host and port, as `host:port`.
        address: String,
    },
}

impl Trans {
    /// The word of the option `trans`.
    pub fn name(&self) -> &'static str {
        match self {
            Trans::Fd { .. } => "fd",
            Trans::Unix { .. } => "unix",
            Trans::Tcp { .. } => "tcp",
        }
    }
}

/// Where advisory locks are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LockPlace {
    /// By this client alone: other clients neither see nor hold them.
    #[default]
    Local,
    /// On the server as well, which then arbitrates between its clients.
    Server,
}

impl LockPlace {
    /// The word of the option `locks`.
    pub fn name(self) -> &'static str {
        match self {
            LockPlace::Local => "local",
            LockPlace::Server => "server",
        }
    }
}

/// Bytes of memory for cached contents unless told otherwise.
const PAGE_CACHE_LIMIT: u64 = 256 << 20;

/// Who may use a mount, and so as whom it is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Admission {
    /// Everybody, over one attach for all.
    #[default]
    Any,
    /// One user alone, by number, as whom the tree is attached (9P). Others get `EPERM`.
    Only(u32),
}

impl Admission {
    /// `EPERM` for a user who may not use the mount.
    pub(crate) fn check(self, uid: u32) -> Result<(), Errno> {
        match self {
            Admission::Only(only) if only != uid => Err(Errno::EPERM),
            _ => Ok(()),
        }
    }

    /// The number to attach as, if one is asked for.
    pub fn attach_as(self) -> Option<u32> {
        match self {
            Admission::Any => None,
            Admission::Only(uid) => Some(uid),
        }
    }
}

/// The mount options of one filesystem.
///
/// `Display` prints the string in effect, defaults included, in the order of semantics 2.5. What
/// it prints parses to options that print the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountOptions {
    /// How the server is reached.
    pub trans: Trans,
    /// The tree to attach; an absolute, normalised path.
    pub aname: Vec<u8>,
    /// Who else may change the tree.
    pub cache: InteropMode,
    /// Owner of files whose owner the server does not tell.
    pub dfltuid: u32,
    /// Group of files whose group the server does not tell.
    pub dfltgid: u32,
    /// Largest 9P message, in bytes.
    pub msize: u32,
    /// The 9P version to ask for, and no other; `None` asks for the best the transport allows,
    /// with fall-back.
    pub version: Option<String>,
    /// How many unused dentries are kept.
    pub dentry_cache_limit: u64,
    /// Milliseconds for which a check of a cached name is trusted; in shared modes only.
    pub revalidate_after: u32,
    /// The most shared-memory channels beside the socket, 0 for none; Unix sockets only. `None` is
    /// as many as suit this machine.
    pub channels: Option<u32>,
    /// Where advisory locks are kept.
    pub locks: LockPlace,
    /// Who may use the mount.
    pub access: Admission,
    /// How many seconds the server may be away before the mount gives up; 0: a connection that
    /// is lost stays lost. 9P over an address only.
    pub reconnect: u32,
    /// Bytes of memory for cached contents of files, 0 for no cache.
    pub page_cache_limit: u64,
    /// Cache data even where the server gives descriptors away; and let mappings be cached in
    /// any mode with shared handles.
    pub force_page_cache: bool,
    /// Map host files in small pieces only: a fault reads no more than 64 KiB.
    pub limit_host_fd_translation: bool,
    /// Expect a host file system on which a descriptor opened earlier may show an older file
    /// than one opened later: mappings change over to the newest.
    pub overlayfs_stale_read: bool,
    /// Speak lisafs instead of 9P.
    pub lisafs: bool,
    /// Work on the descriptor of the root that the server gives away; lisafs only.
    pub directfs: bool,
}

impl MountOptions {
    /// Options with every default of semantics 2.2.
    pub fn new(trans: Trans) -> MountOptions {
        MountOptions {
            trans,
            aname: b"/".to_vec(),
            cache: InteropMode::default(),
            dfltuid: u32::MAX - 1,
            dfltgid: u32::MAX - 1,
            msize: 1 << 20,
            version: None,
            dentry_cache_limit: 1000,
            revalidate_after: 0,
            channels: None,
            locks: LockPlace::default(),
            access: Admission::default(),
            reconnect: 0,
            page_cache_limit: PAGE_CACHE_LIMIT,
            force_page_cache: false,
            limit_host_fd_translation: false,
            overlayfs_stale_read: false,
            lisafs: false,
            directfs: false,
        }
    }

    /// Reads an option string. Values are bytes; a backslash escapes a comma or a backslash.
    ///
    /// The first bad option in the order of semantics 2.3 is reported.
    pub fn parse(text: &[u8]) -> Result<MountOptions, OptionError> {
        parse::parse(text)
    }

    /// The 9P version that is asked for first: the one given, or the best of the transport.
    pub fn effective_version(&self) -> &str {
        match (&self.version, &self.trans) {
            (Some(version), _) => version,
            (None, Trans::Tcp { .. }) => "9P2000.L",
            (None, _) => "9P2000.L.Google.13",
        }
    }

    /// Every option in effect, in the order of printing: key, value (empty for a bare flag) and
    /// what it means.
    pub fn describe(&self) -> Vec<(String, String, &'static str)> {
        self.items()
            .into_iter()
            .map(|(key, value)| {
                let value = value.unwrap_or_default();
                let value = printable(&value).into_owned();
                (key.to_owned(), value, meaning(key))
            })
            .collect()
    }

    /// Key and unescaped value of each option that is printed; flags have none.
    fn items(&self) -> Vec<(&'static str, Option<Vec<u8>>)> {
        let mut items = vec![("trans", Some(self.trans.name().into()))];
        match &self.trans {
            Trans::Fd { rfd, wfd } => {
                items.push(("rfdno", Some(rfd.to_string().into())));
                items.push(("wfdno", Some(wfd.to_string().into())));
            }
            Trans::Unix { address } => items.push(("address", Some(address.clone()))),
            Trans::Tcp { address } => items.push(("address", Some(address.clone().into()))),
        }
        items.push(("aname", Some(self.aname.clone())));
        items.push(("dfltuid", Some(self.dfltuid.to_string().into())));
        items.push(("dfltgid", Some(self.dfltgid.to_string().into())));
        items.push(("msize", Some(self.msize.to_string().into())));
        // lisafs has no version; printing one only misled people (semantics 24, item 72).
        if !self.lisafs {
            items.push(("version", Some(self.effective_version().into())));
        }
        let limit = self.dentry_cache_limit.to_string();
        items.push(("dentry_cache_limit", Some(limit.into())));
        items.push(("cache", Some(self.cache.name().into())));
        if let Some(channels) = self.channels {
            items.push(("channels", Some(channels.to_string().into())));
        }
        if self.locks != LockPlace::default() {
            items.push(("locks", Some(self.locks.name().into())));
        }
        if let Admission::Only(uid) = self.access {
            items.push(("access", Some(uid.to_string().into())));
        }
        if self.reconnect > 0 {
            items.push(("reconnect", Some(self.reconnect.to_string().into())));
        }
        if self.page_cache_limit != PAGE_CACHE_LIMIT {
            let limit = self.page_cache_limit.to_string();
            items.push(("page_cache_limit", Some(limit.into())));
        }
        if self.revalidate_after != 0 {
            items.push((
                "revalidate_after",
                Some(self.revalidate_after.to_string().into()),
            ));
        }
        let flags = [
            ("force_page_cache", self.force_page_cache),
            ("limit_host_fd_translation", self.limit_host_fd_translation),
            ("overlayfs_stale_read", self.overlayfs_stale_read),
            ("lisafs", self.lisafs),
            ("directfs", self.directfs),
        ];
        items.extend(
            flags
                .into_iter()
                .filter(|flag| flag.1)
                .map(|flag| (flag.0, None)),
        );
        items
    }

    /// The option string as bytes, exact even where `aname` or an address is not UTF-8.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, value) in self.items() {
            if !out.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(key.as_bytes());
            if let Some(value) = value {
                out.push(b'=');
                for byte in value {
                    if matches!(byte, b',' | b'\\') {
                        out.push(b'\\');
                    }
                    out.push(byte);
                }
            }
        }
        out
    }
}

impl fmt::Display for MountOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

impl FromStr for MountOptions {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<MountOptions, OptionError> {
        MountOptions::parse(text.as_bytes())
    }
}

/// Every key, in the order of evaluation (semantics 2.3), with its meaning in words.
const KEYS: [(&str, &str); 22] = [
    ("trans", "how the server is reached: fd, unix or tcp"),
    ("rfdno", "descriptor that is read from"),
    ("wfdno", "descriptor that is written to"),
    ("address", "path of the Unix socket, or host:port"),
    ("aname", "path on the server that becomes the root"),
    (
        "cache",
        "who else may change the tree, and so what is cached",
    ),
    (
        "dfltuid",
        "owner of files whose owner the server does not tell",
    ),
    (
        "dfltgid",
        "group of files whose group the server does not tell",
    ),
    ("msize", "largest 9P message, in bytes"),
    ("version", "9P version that is asked for"),
    ("dentry_cache_limit", "unused dentries that are kept"),
    (
        "channels",
        "shared-memory channels beside the socket, at most",
    ),
    ("locks", "where advisory locks are kept: local or server"),
    (
        "access",
        "who may use the mount: any, or one user by number",
    ),
    (
        "reconnect",
        "seconds the server may be away before the mount gives up",
    ),
    (
        "page_cache_limit",
        "bytes of memory for cached contents of files",
    ),
    (
        "revalidate_after",
        "milliseconds for which a check with the server is trusted",
    ),
    (
        "force_page_cache",
        "cache data where the server gives descriptors away, too",
    ),
    (
        "limit_host_fd_translation",
        "map host files in small pieces only",
    ),
    (
        "overlayfs_stale_read",
        "expect host descriptors to show an older file once there is a newer one",
    ),
    ("lisafs", "speak lisafs instead of 9P"),
    (
        "directfs",
        "work on a descriptor of the root that the server gives away",
    ),
];

/// Every key of an option string.
pub fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(key, _)| *key)
}

fn meaning(key: &str) -> &'static str {
    KEYS.iter()
        .find(|entry| entry.0 == key)
        .map_or("", |entry| entry.1)
}

/// A mount option that is wrong; always `EINVAL`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OptionError {
    /// The key of the option, as it was given.
    pub key: String,
    /// What is wrong with it, for people.
    pub message: String,
}

impl OptionError {
    fn new(key: &str, message: impl Into<String>) -> OptionError {
        OptionError {
            key: key.to_owned(),
            message: message.into(),
        }
    }

    /// The error number: `EINVAL`.
    pub fn errno(&self) -> Errno {
        Errno::EINVAL
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mount option `{}`: {}", self.key, self.message)
    }
}

impl std::error::Error for OptionError {}

#[cfg(test)]
mod tests;
