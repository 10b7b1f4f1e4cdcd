//! Version strings, and what each Google level adds (9P 4.2, 9.1).

use std::fmt;

/// A dialect that both sides can speak.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Version {
    /// `9P2000.L`.
    Base,
    /// `9P2000.L.Google.N`.
    Google(u32),
}

impl Version {
    /// The newest dialect there is.
    pub const NEWEST: Version = Version::Google(13);

    /// What a server answers when it speaks nothing that was asked.
    pub const UNKNOWN: &'static [u8] = b"unknown";

    /// Reads a version string; `None` when it is none of ours.
    pub fn parse(bytes: &[u8]) -> Option<Version> {
        let rest = bytes.strip_prefix(b"9P2000.L")?;
        if rest.is_empty() {
            return Some(Version::Base);
        }
        let digits = rest.strip_prefix(b".Google.")?;
        let leading_zero = digits.len() > 1 && digits.starts_with(b"0");
        if leading_zero || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(digits)
            .ok()?
            .parse()
            .ok()
            .map(Version::Google)
    }

    /// The Google level; the base is level 0.
    pub fn level(self) -> u32 {
        match self {
            Version::Base => 0,
            Version::Google(level) => level,
        }
    }

    /// Whether this dialect has what `level` brought.
    pub fn has(self, level: Level) -> bool {
        self.level() >= level as u32
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Base => f.write_str("9P2000.L"),
            Version::Google(level) => write!(f, "9P2000.L.Google.{level}"),
        }
    }
}

/// The level that brought each thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Tflushf.
    Flushf = 1,
    /// Twalkgetattr.
    WalkGetattr = 2,
    /// Tucreate, Tumkdir, Tumknod, Tusymlink.
    CreateWithOwner = 3,
    /// Tlconnect.
    Connect = 4,
    /// Socket type 3 in Tlconnect.
    AnonymousSocket = 5,
    /// The modes of directories are complete.
    DirectoryModes = 6,
    /// Tallocate.
    Allocate = 7,
    /// Tchannel.
    Channels = 8,
    /// TRUNC in Tlopen.
    OpenTruncate = 9,
    /// Tgetxattr, Tsetxattr.
    Xattr = 10,
    /// Tlistxattr, Tremovexattr.
    XattrList = 11,
    /// Tsetattrclunk.
    SetattrClunk = 12,
    /// Tmultigetattr.
    MultiGetattr = 13,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_exactly() {
        assert_eq!(Version::parse(b"9P2000.L"), Some(Version::Base));
        assert_eq!(
            Version::parse(b"9P2000.L.Google.0"),
            Some(Version::Google(0))
        );
        assert_eq!(
            Version::parse(b"9P2000.L.Google.13"),
            Some(Version::Google(13))
        );
        for other in [
            &b""[..],
            b"unknown",
            b"9P2000",
            b"9P2000.u",
            b"9P2000.Lx",
            b"9P2000.L.",
            b"9P2000.L.Google",
            b"9P2000.L.Google.",
            b"9P2000.L.Google.+1",
            b"9P2000.L.Google.01",
            b"9P2000.L.Google.4294967296",
            b"9P2000.L.Google.1\xff",
        ] {
            assert_eq!(Version::parse(other), None, "{other:?}");
        }
        assert_eq!(Version::NEWEST.to_string(), "9P2000.L.Google.13");
    }

    #[test]
    fn a_level_contains_those_below() {
        assert!(Version::Google(10).has(Level::Xattr));
        assert!(!Version::Google(10).has(Level::XattrList));
        assert!(!Version::Base.has(Level::Flushf));
    }
}
