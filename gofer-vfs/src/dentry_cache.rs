//! Unused dentries: when there are more than the limit, those go that were not used again.
//!
//! Only dentries without references are here, and children are references, so only leaves are.
//! A dentry that is referenced again may stay until it is its turn; then it just leaves.
//!
//! The order is a doubly linked list in a vector, in which each dentry knows its seat. Using a
//! dentry that has a seat does not move it, which would cost a lock at each use: it is marked.
//! Whoever looks for the oldest gives one that is marked a second chance instead: it loses the
//! mark and becomes the newest. So what was used since its last turn outlives what was not; among
//! those that were used the order is that of their turns, not of their uses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::dentry::Dentry;
use crate::locks::{LRU, Mutex};
use crate::versions::Subject;

/// How often paths that are answered as a whole ([`crate::answers`], which mark nothing) are
/// walked while all that is kept has its turn.
const TURNS: usize = 4;

/// See the module.
pub(crate) struct DentryCache {
    unused: Mutex<Unused, LRU>,
}

/// Where a dentry sits in the cache: an index, and perhaps [`USED`]; or [`NOWHERE`]. Only the
/// mark changes without the cache's lock.
pub(crate) struct Seat(AtomicU32);

const NOWHERE: u32 = u32::MAX;
/// Used since its last turn.
const USED: u32 = 1 << 31;

/// Second chances given in one search for a victim: nobody waits for more of them. Then the next
/// one goes, marked or not.
const CHANCES_MAX: usize = 4096;

impl Default for Seat {
    fn default() -> Seat {
        Seat(AtomicU32::new(NOWHERE))
    }
}

impl Seat {
    fn get(&self) -> Option<u32> {
        let seat = Some(self.0.load(Ordering::SeqCst));
        seat.filter(|&seat| seat != NOWHERE)
            .map(|seat| seat & !USED)
    }

    fn set(&self, seat: u32) {
        self.0.store(seat, Ordering::SeqCst);
    }

    /// Marks it as used, if it is one. This is where the last reference to a dentry goes, and
    /// what makes sure that it is not lost: whoever takes away its seat looks for references
    /// after that, and we look for the seat after giving up the reference.
    #[inline]
    fn mark(&self) -> bool {
        let seat = self.0.load(Ordering::SeqCst);
        if seat & USED == 0 {
            // Nothing is lost if it has no seat by now: that is all ones.
            return self.0.fetch_or(USED, Ordering::SeqCst) != NOWHERE;
        }
        seat != NOWHERE
    }

    /// Takes the mark away; whether it was there.
    fn unmark(&self) -> bool {
        let seat = self.0.load(Ordering::SeqCst);
        let marked = seat & USED != 0;
        if marked {
            self.set(seat & !USED);
        }
        marked
    }
}

/// One place in the list; a free one has no dentry, and the next free one in `older`.
struct Link {
    dentry: Option<Arc<Dentry>>,
    newer: u32,
    older: u32,
}

struct Unused {
    links: Vec<Link>,
    newest: u32,
    oldest: u32,
    free: u32,
    len: usize,
    limit: usize,
    /// Dentries looked at in search of victims since [`Subject::Turnover`] was last raised.
    looked_at: usize,
}

impl DentryCache {
    pub(crate) fn new(limit: u64) -> DentryCache {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        DentryCache {
            unused: Mutex::new(Unused {
                links: Vec::new(),
                newest: NOWHERE,
                oldest: NOWHERE,
                free: NOWHERE,
                len: 0,
                looked_at: 0,
                limit: limit.min(USED as usize - 1),
            }),
        }
    }

    /// A dentry has no references any more: it was just used. Whatever exceeds the limit then
    /// goes to `victims`.
    pub(crate) fn keep(&self, dentry: &Arc<Dentry>, victims: &mut Vec<Arc<Dentry>>) {
        if dentry.seat.mark() {
            return;
        }
        let mut unused = self.unused.lock();
        if unused.limit == 0 {
            drop(unused);
            victims.push(dentry.clone());
            return;
        }
        // Somebody else gave it a seat meanwhile.
        if dentry.seat.mark() {
            return;
        }
        // Checked under the lock: a dentry is marked as destroyed before it is removed below,
        // so that it cannot come back after that.
        if !dentry.is_unused() {
            return;
        }
        while unused.len >= unused.limit {
            match unused.pop_victim() {
                Some(victim) => victims.push(victim),
                None => break,
            }
        }
        if unused.looked_at * TURNS > unused.limit {
            unused.looked_at = 0;
            dentry.inode.sb.versions.changed(Subject::Turnover);
        }
        unused.insert(dentry);
        let length = unused.len as u64;
        dentry.inode.sb.counters.lru_length.set(length);
    }

    /// Takes a dentry out: it is in use for long, or gone.
    pub(crate) fn remove(&self, dentry: &Dentry) {
        let mut unused = self.unused.lock();
        let Some(seat) = dentry.seat.get() else {
            return;
        };
        let removed = unused.take(seat);
        let length = unused.len as u64;
        dentry.inode.sb.counters.lru_length.set(length);
        drop(unused);
        drop(removed);
    }

    /// Takes everything out. With `forever`, nothing is kept from now on.
    pub(crate) fn drain(&self, forever: bool) -> Vec<Arc<Dentry>> {
        let mut unused = self.unused.lock();
        if forever {
            unused.limit = 0;
        }
        let mut all = Vec::with_capacity(unused.len);
        while let Some(dentry) = unused.pop_oldest() {
            all.push(dentry);
        }
        unused.links = Vec::new();
        unused.free = NOWHERE;
        all
    }

    #[cfg(test)]
    pub(crate) fn all(&self) -> Vec<Arc<Dentry>> {
        let unused = self.unused.lock();
        let links = unused.links.iter();
        links.filter_map(|link| link.dentry.clone()).collect()
    }
}

impl Unused {
    fn at(&mut self, seat: u32) -> Option<&mut Link> {
        self.links.get_mut(seat as usize)
    }

    fn insert(&mut self, dentry: &Arc<Dentry>) {
        let seat = match self.free {
            NOWHERE => {
                self.links.push(Link {
                    dentry: None,
                    newer: NOWHERE,
                    older: NOWHERE,
                });
                self.links.len() as u32 - 1
            }
            free => {
                self.free = self.at(free).map_or(NOWHERE, |link| link.older);
                free
            }
        };
        if let Some(link) = self.at(seat) {
            link.dentry = Some(dentry.clone());
        }
        dentry.seat.set(seat);
        self.link(seat);
        self.len += 1;
    }

    /// Frees a seat.
    fn take(&mut self, seat: u32) -> Option<Arc<Dentry>> {
        self.unlink(seat);
        let free = std::mem::replace(&mut self.free, seat);
        self.len -= 1;
        let link = self.at(seat)?;
        link.older = free;
        let dentry = link.dentry.take()?;
        dentry.seat.set(NOWHERE);
        Some(dentry)
    }

    /// Takes the oldest that was not used since its last turn.
    fn pop_victim(&mut self) -> Option<Arc<Dentry>> {
        for _ in 0..self.len.min(CHANCES_MAX) {
            self.looked_at += 1;
            let oldest = self.oldest;
            let dentry = self.at(oldest)?.dentry.as_ref()?;
            if !dentry.seat.unmark() {
                break;
            }
            self.unlink(oldest);
            self.link(oldest);
        }
        self.pop_oldest()
    }

    fn pop_oldest(&mut self) -> Option<Arc<Dentry>> {
        match self.oldest {
            NOWHERE => None,
            oldest => self.take(oldest),
        }
    }

    /// Makes a seat that is in no list the newest.
    fn link(&mut self, seat: u32) {
        let older = std::mem::replace(&mut self.newest, seat);
        if let Some(link) = self.at(seat) {
            (link.newer, link.older) = (NOWHERE, older);
        }
        match self.at(older) {
            Some(older) => older.newer = seat,
            None => self.oldest = seat,
        }
    }

    fn unlink(&mut self, seat: u32) {
        let Some(&mut Link { newer, older, .. }) = self.at(seat) else {
            return;
        };
        match self.at(newer) {
            Some(link) => link.older = older,
            None => self.newest = older,
        }
        match self.at(older) {
            Some(link) => link.newer = newer,
            None => self.oldest = newer,
        }
    }
}
