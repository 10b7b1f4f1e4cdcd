//! How often things were changed that remembered answers rest on.
//!
//! What was found at the end of a path stays true until something on the way changes. Each such
//! thing, a [`Subject`], has a *version*, a number that grows with each change. An answer that is
//! remembered ([`crate::answers`]) keeps [`Evidence`]: the versions of all it rests on. As long as
//! they are the same the answer is, too, and to see that takes no lock and writes nothing.
//!
//! Versions are kept in a table of fixed size, by hash. Subjects that share a place make answers
//! doubtful that are not, and that is all; so no dentry or inode is larger for it or kept alive.
//!
//! # Order
//!
//! Whoever changes a subject raises its version while holding the lock under which others read it,
//! or, where there is none, after the change. Whoever gathers evidence reads the version before
//! the subject. So a version is never newer than what was seen with it; and whoever may know of a
//! change (because the call that made it has returned, or from what the lock protects) finds the
//! version raised.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::dentry::hash;
use crate::inode::mix;
use crate::remote::FileKey;

/// Places in a table: a power of two. A path has about two subjects per name.
const PLACES: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 12;

/// What an answer may rest on.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'n> {
    /// What a directory, told by its id, has by a name: nothing, a file, one that is covered.
    Name(u64, &'n [u8]),
    /// A directory as a whole: who may search it, and all that is known of its names.
    Directory(FileKey),
    /// The attributes of a file.
    Attributes(FileKey),
    /// Names that were removed without being known: see
    /// [`Superblock::unknown_removals`](crate::superblock::Superblock::unknown_removals).
    Removals,
    /// The order of unused dentries. Answers leave no mark on what they speak of, so after some
    /// evictions each path has to be walked again: see [`crate::dentry_cache`].
    Turnover,
}

/// The versions of all subjects of a filesystem.
pub(crate) struct Versions(Box<[AtomicU64]>);

impl Versions {
    /// If they are not `used` there are none.
    pub(crate) fn new(used: bool) -> Versions {
        let places = if used { PLACES } else { 0 };
        Versions((0..places).map(|_| AtomicU64::new(0)).collect())
    }

    fn place(subject: Subject<'_>) -> u16 {
        let of_file = |key: FileKey| [key.id[0], key.id[1] ^ u64::from(key.epoch).rotate_left(40)];
        let hash = match subject {
            Subject::Name(directory, name) => mix([hash(name), directory]),
            Subject::Directory(key) => mix(of_file(key)),
            Subject::Attributes(key) => !mix(of_file(key)),
            Subject::Removals => 0,
            Subject::Turnover => u64::MAX,
        };
        (hash >> (u64::BITS - PLACE_BITS)) as u16
    }

    /// The version of a subject that is about to be read.
    pub(crate) fn now(&self, subject: Subject<'_>) -> Version {
        let place = Versions::place(subject);
        Version {
            place,
            number: self.at(place),
        }
    }

    fn at(&self, place: u16) -> u64 {
        let version = self.0.get(usize::from(place));
        version.map_or(0, |version| version.load(Ordering::Acquire))
    }

    /// Raises the version of a subject: see the module for when.
    #[inline]
    pub(crate) fn changed(&self, subject: Subject<'_>) {
        if self.0.is_empty() {
            return;
        }
        if let Some(version) = self.0.get(usize::from(Versions::place(subject))) {
            version.fetch_add(1, Ordering::Release);
        }
    }
}

/// The version that a subject had.
pub(crate) struct Version {
    place: u16,
    number: u64,
}

/// The versions of some subjects, as they were.
#[derive(Default)]
pub(crate) struct Evidence {
    places: Vec<u16>,
    /// Versions only grow, so their sum is the same only if each of them is.
    sum: u64,
}

impl Evidence {
    /// Adds the version of a subject that is about to be read.
    pub(crate) fn rest_on(&mut self, versions: &Versions, subject: Subject<'_>) {
        self.add(versions.now(subject));
    }

    /// Adds the version of a subject that was read since.
    pub(crate) fn add(&mut self, version: Version) {
        self.sum = self.sum.wrapping_add(version.number);
        self.places.push(version.place);
    }

    /// Whether nothing has changed since, in the order in which it was gathered.
    #[inline]
    pub(crate) fn holds(&self, versions: &Versions) -> bool {
        let now = self.places.iter().map(|&place| versions.at(place));
        now.fold(0, u64::wrapping_add) == self.sum
    }

    /// Memory it takes besides its own, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.places.capacity() * size_of::<u16>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u64) -> FileKey {
        FileKey {
            epoch: 0,
            id: [id, 1],
        }
    }

    #[test]
    fn evidence_falls_with_each_thing_it_rests_on_and_with_no_other() {
        let subjects = [
            Subject::Name(1, b"a"),
            Subject::Name(1, b"b"),
            Subject::Name(2, b"a"),
            Subject::Directory(key(1)),
            Subject::Directory(key(2)),
            Subject::Attributes(key(1)),
            Subject::Removals,
            Subject::Turnover,
        ];
        let apart =
            |one: Subject<'_>, other: Subject<'_>| Versions::place(one) != Versions::place(other);
        for (at, &changed) in subjects.iter().enumerate() {
            let versions = Versions::new(true);
            let mut on = Evidence::default();
            on.rest_on(&versions, changed);
            let mut on_others = Evidence::default();
            for (other, &subject) in subjects.iter().enumerate() {
                if other != at && apart(subject, changed) {
                    on_others.rest_on(&versions, subject);
                }
            }
            assert!(on.holds(&versions) && on_others.holds(&versions));
            versions.changed(changed);
            assert!(!on.holds(&versions) && on_others.holds(&versions));
        }
    }
}
