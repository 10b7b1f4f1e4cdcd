//! Paths: bytes, as people read them.

use std::fmt;

/// What is shown of a long one, from its beginning.
const SHOWN: usize = 60;

/// A path, relative to the root of the tree.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<u8>);

impl Path {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// It, a slash, and a name.
    pub fn join(&self, name: &[u8]) -> Path {
        Path([self.as_bytes(), b"/", name].concat())
    }
}

impl From<&str> for Path {
    fn from(text: &str) -> Path {
        Path(text.into())
    }
}

impl From<Vec<u8>> for Path {
    fn from(bytes: Vec<u8>) -> Path {
        Path(bytes)
    }
}

impl AsRef<[u8]> for Path {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..SHOWN) {
            Some(begin) => write!(f, "{}...({} bytes)", begin.escape_ascii(), self.0.len()),
            None => self.0.escape_ascii().fmt(f),
        }
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}
