//! The lock order, and lock types that assert it in debug builds.
//!
//! # Order
//!
//! A thread takes locks in the order of this list only, outermost first:
//!
//! | rank | lock | protects |
//! |---|---|---|
//! | [`POSITION`] | one per open file description | its offset, or its place in a listing |
//! | [`TOPOLOGY`] | one per filesystem | which directory lies in which, against renames between directories |
//! | [`NAMES`] | one per directory, shared or exclusive | what names the *server* has in it |
//! | [`READING`] | one per directory | its handle while it is listed, which one caller can use at a time |
//! | [`DATA`] | one per inode, shared or exclusive | size and the place of appends: shared by writers at an offset |
//! | [`WRITE_BACK`] | one per cached file | what is on its way to the server: kept by truncation and by writing through |
//! | | *no lock below may be held over a remote call* | |
//! | [`CHILDREN`] | one per directory | the map of cached and of absent names |
//! | [`LISTINGS`] | one per filesystem | cached listings |
//! | [`ANCESTRY`] | one per dentry | its parent and its name |
//! | [`INODES`] | one per filesystem | the table from server identity to inode |
//! | [`HANDLES`] | one per inode | its shared handles |
//! | [`METADATA`] | one per inode | its attributes, and which of its names are cached |
//! | [`LRU`] | one per filesystem | unused dentries |
//! | [`REGISTRY`] | one per filesystem | open handles, files with cached pages; and per description: which errors it was told of, who locked through it |
//! | [`FILE_LOCKS`] | one per filesystem | advisory locks and who waits for them |
//! | [`MOUNTS`] | one per filesystem | what is mounted in it, and what it is mounted on |
//! | [`PAGES`] | one per cached file | its pages, shared by readers |
//! | [`WATCHES`] | one per filesystem | who watches which inode |
//! | [`SYNTHETIC`] | one per filesystem | the files that exist in this client alone |
//! | [`ABSENT`] | one per filesystem | which directories have absent names |
//!
//! # Rules
//!
//! - Lookups of uncached names hold `NAMES` shared, changes of names hold it exclusively, both
//!   over the remote call. A lookup that the cache can answer takes `CHILDREN` only and so never
//!   waits for the server.
//! - Two directories (`NAMES`, then `CHILDREN`): the ancestor first; if neither is one, the one
//!   with the lower id. Whoever locks two holds `TOPOLOGY`, which keeps that question settled.
//! - One `WRITE_BACK` at a time: who writes back another file to free memory holds `DATA` of its
//!   own at most.
//! - The list of files whose times wait to be sent ([`crate::times`]) has a lock without a rank:
//!   nothing else is locked while it is held.
//! - Who waits for an advisory lock has a lock without a rank for the outcome, and so have queues
//!   of events and all that is in a synthetic file: nothing else is locked while it is held.
//! - Dentries, inodes, remote files and handles are dropped with no lock of rank `CHILDREN` or
//!   below held: dropping may take any of them.
//! - Attribute replies are applied without a lock over the call: see [`crate::metadata`].

use std::ops::{Deref, DerefMut};

use crate::sync;

/// A place in the order: higher is further in.
pub(crate) type Rank = u8;

pub(crate) const POSITION: Rank = 1;
pub(crate) const TOPOLOGY: Rank = 2;
pub(crate) const NAMES: Rank = 3;
pub(crate) const READING: Rank = 4;
pub(crate) const DATA: Rank = 5;
pub(crate) const WRITE_BACK: Rank = 6;
pub(crate) const CHILDREN: Rank = 10;
pub(crate) const LISTINGS: Rank = 11;
pub(crate) const ANCESTRY: Rank = 12;
pub(crate) const INODES: Rank = 13;
pub(crate) const HANDLES: Rank = 15;
pub(crate) const METADATA: Rank = 16;
pub(crate) const LRU: Rank = 17;
pub(crate) const REGISTRY: Rank = 18;
pub(crate) const FILE_LOCKS: Rank = 19;
pub(crate) const MOUNTS: Rank = 20;
pub(crate) const PAGES: Rank = 21;
pub(crate) const WATCHES: Rank = 22;
pub(crate) const SYNTHETIC: Rank = 23;
pub(crate) const ABSENT: Rank = 24;

/// The last rank that may be held while the server is waited for.
#[cfg(debug_assertions)]
const LAST_OVER_CALL: Rank = WRITE_BACK;

#[cfg(debug_assertions)]
mod held {
    //! The ranks the current thread holds, in the order it took them.

    use super::{LAST_OVER_CALL, Rank};
    use std::cell::RefCell;

    thread_local! {
        static RANKS: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
    }

    #[cfg(test)]
    shuttle::thread_local! {
        /// Of a thread that a scheduler runs.
        static SCHEDULED: RefCell<Vec<Rank>> = RefCell::new(Vec::new());
    }

    /// Shows `look` the ranks of this thread. Not while it ends: then the list is gone.
    fn with<R>(look: impl FnOnce(&mut Vec<Rank>) -> R) -> Option<R> {
        #[cfg(test)]
        if crate::sync::scheduled::is_on() {
            let ranks = SCHEDULED.try_with(|ranks| look(&mut ranks.borrow_mut()));
            return ranks.ok();
        }
        let ranks = RANKS.try_with(|ranks| look(&mut ranks.borrow_mut()));
        ranks.ok()
    }

    /// Proof that a rank was entered; leaves it when dropped.
    pub(crate) struct Held(Rank);

    /// Enters `rank`; `beside` allows a second lock of the same rank.
    #[track_caller]
    pub(crate) fn enter(rank: Rank, beside: bool) -> Held {
        with(|ranks| {
            if let Some(&top) = ranks.iter().max() {
                assert!(
                    top < rank || (beside && top == rank),
                    "lock order: rank {rank} taken while rank {top} is held"
                );
            }
            ranks.push(rank);
        });
        Held(rank)
    }

    impl Drop for Held {
        fn drop(&mut self) {
            // A guard may be dropped while its thread ends and the list is gone already.
            let _ = with(|ranks| {
                if let Some(at) = ranks.iter().rposition(|&rank| rank == self.0) {
                    ranks.remove(at);
                }
            });
        }
    }

    #[track_caller]
    pub(crate) fn assert_none_beyond_calls() {
        with(|ranks| {
            if let Some(&top) = ranks.iter().max() {
                assert!(
                    top <= LAST_OVER_CALL,
                    "lock order: a remote call while rank {top} is held"
                );
            }
        });
    }
}

#[cfg(not(debug_assertions))]
mod held {
    use super::Rank;

    pub(crate) struct Held;

    #[inline(always)]
    pub(crate) fn enter(_: Rank, _: bool) -> Held {
        Held
    }

    #[inline(always)]
    pub(crate) fn assert_none_beyond_calls() {}
}

/// Panics in debug builds if this thread holds a lock that must not be held over a remote call.
#[track_caller]
#[inline]
pub(crate) fn assert_may_call() {
    held::assert_none_beyond_calls();
}

/// A guard of a ranked lock. Dropping it releases the lock, then the rank.
pub(crate) struct Guard<G> {
    inner: G,
    _held: held::Held,
}

impl<G: Deref> Deref for Guard<G> {
    type Target = G::Target;

    #[inline]
    fn deref(&self) -> &G::Target {
        &self.inner
    }
}

impl<G: DerefMut> DerefMut for Guard<G> {
    #[inline]
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.inner
    }
}

/// A mutex with a place in the order.
#[derive(Default)]
pub(crate) struct Mutex<T, const RANK: Rank>(sync::Mutex<T>);

/// What [`Mutex::lock`] returns.
pub(crate) type MutexGuard<'a, T> = Guard<sync::MutexGuard<'a, T>>;

impl<T, const RANK: Rank> Mutex<T, RANK> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(sync::Mutex::new(value))
    }

    #[track_caller]
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let held = held::enter(RANK, false);
        Guard {
            inner: self.0.lock(),
            _held: held,
        }
    }

    /// Locks although another of this rank is held. The caller follows the rule for two.
    #[track_caller]
    pub(crate) fn lock_beside(&self) -> MutexGuard<'_, T> {
        let held = held::enter(RANK, true);
        Guard {
            inner: self.0.lock(),
            _held: held,
        }
    }
}

/// A reader-writer lock with a place in the order.
#[derive(Default)]
pub(crate) struct RwLock<T, const RANK: Rank>(sync::RwLock<T>);

/// What [`RwLock::read`] returns.
pub(crate) type ReadGuard<'a, T> = Guard<sync::RwLockReadGuard<'a, T>>;
/// What [`RwLock::write`] returns.
pub(crate) type WriteGuard<'a, T> = Guard<sync::RwLockWriteGuard<'a, T>>;

impl<T, const RANK: Rank> RwLock<T, RANK> {
    pub(crate) fn new(value: T) -> Self {
        RwLock(sync::RwLock::new(value))
    }

    #[track_caller]
    pub(crate) fn read(&self) -> ReadGuard<'_, T> {
        let held = held::enter(RANK, false);
        Guard {
            inner: self.0.read(),
            _held: held,
        }
    }

    #[track_caller]
    pub(crate) fn write(&self) -> WriteGuard<'_, T> {
        let held = held::enter(RANK, false);
        Guard {
            inner: self.0.write(),
            _held: held,
        }
    }

    /// Locks although another of this rank is held. The caller follows the rule for two.
    #[track_caller]
    pub(crate) fn write_beside(&self) -> WriteGuard<'_, T> {
        let held = held::enter(RANK, true);
        Guard {
            inner: self.0.write(),
            _held: held,
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn panics(run: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(run)).is_err()
    }

    #[test]
    fn inversion_is_caught_and_the_right_order_is_not() {
        let outer: Mutex<(), NAMES> = Mutex::new(());
        let inner: Mutex<(), CHILDREN> = Mutex::new(());
        assert!(!panics(|| {
            let _outer = outer.lock();
            let _inner = inner.lock();
        }));
        assert!(panics(|| {
            let _inner = inner.lock();
            let _outer = outer.lock();
        }));
        // The failed attempt left no rank behind.
        assert!(!panics(|| {
            let _outer = outer.lock();
        }));
    }

    #[test]
    fn two_of_one_rank_need_to_be_asked_for() {
        let one: RwLock<(), NAMES> = RwLock::new(());
        let two: RwLock<(), NAMES> = RwLock::new(());
        assert!(panics(|| {
            let _one = one.write();
            let _two = two.write();
        }));
        assert!(!panics(|| {
            let _one = one.write();
            let _two = two.write_beside();
        }));
    }

    #[test]
    fn short_locks_are_not_held_over_a_remote_call() {
        let long: RwLock<(), DATA> = RwLock::new(());
        let short: Mutex<(), METADATA> = Mutex::new(());
        let _long = long.read();
        assert!(!panics(assert_may_call));
        let _short = short.lock();
        assert!(panics(assert_may_call));
    }
}
