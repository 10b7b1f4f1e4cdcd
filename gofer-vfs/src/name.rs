//! Names: one component of a path, in bytes.

use std::fmt;

use crate::error::{Errno, printable};

/// The longest name this client sends unless the server says otherwise, in bytes.
pub const NAME_MAX: usize = 255;

/// The longest path accepted, in bytes, as Linux's `PATH_MAX` (which counts a final zero byte).
pub const PATH_MAX: usize = 4095;

/// One valid path component: not empty, not `.` or `..`, without `/` and zero bytes.
///
/// A borrowed view; its length is not limited here, since the limit is the server's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Checks `bytes`. An invalid name is `EINVAL`.
    pub fn new(bytes: &'a [u8]) -> Result<Name<'a>, Errno> {
        let bad = bytes.is_empty()
            || bytes == b"."
            || bytes == b".."
            || bytes.iter().any(|&byte| byte == b'/' || byte == 0);
        if bad {
            Err(Errno::EINVAL)
        } else {
            Ok(Name(bytes))
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", printable(self.0))
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_components_are_names() {
        for good in [&b"a"[..], b"...", b"\xff", b"a b"] {
            assert_eq!(Name::new(good).unwrap().as_bytes(), good);
        }
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
            assert_eq!(Name::new(bad), Err(Errno::EINVAL));
        }
    }
}
