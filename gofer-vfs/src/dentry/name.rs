//! A name as a dentry keeps it.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};

/// The longest name that needs no memory of its own.
const INLINE_MAX: usize = 22;

/// The bytes of a name; most need no allocation.
#[derive(Clone)]
pub(crate) enum SmallName {
    Inline { len: u8, bytes: [u8; INLINE_MAX] },
    Boxed(Box<[u8]>),
}

impl SmallName {
    pub(crate) fn new(name: &[u8]) -> SmallName {
        let mut bytes = [0; INLINE_MAX];
        match bytes.get_mut(..name.len()) {
            Some(room) => {
                room.copy_from_slice(name);
                let len = name.len() as u8;
                SmallName::Inline { len, bytes }
            }
            None => SmallName::Boxed(name.into()),
        }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            SmallName::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            SmallName::Boxed(bytes) => bytes,
        }
    }
}

impl PartialEq for SmallName {
    fn eq(&self, other: &SmallName) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for SmallName {}

impl Hash for SmallName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Borrow<[u8]> for SmallName {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_length_are_kept() {
        for len in [0, 1, INLINE_MAX - 1, INLINE_MAX, INLINE_MAX + 1, 255, 4096] {
            let name: Vec<u8> = (0..len).map(|at| at as u8 | 1).collect();
            let kept = SmallName::new(&name);
            assert_eq!(kept.as_bytes(), name);
            assert!(kept == kept.clone());
        }
        assert_eq!(size_of::<SmallName>(), 24);
    }
}
