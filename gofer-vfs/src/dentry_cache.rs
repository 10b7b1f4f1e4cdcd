//! Unused dentries: the least recently used go when there are more than the limit.
//!
//! Only dentries without references are here, and children are references, so only leaves are.
//! A dentry that is referenced again may stay until it is its turn; then it just leaves.
//!
//! The order is a doubly linked list in a vector; each dentry knows its seat in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::dentry::Dentry;
use crate::locks::{LRU, Mutex};

/// See the module.
pub(crate) struct DentryCache {
    unused: Mutex<Unused, LRU>,
}

/// Where a dentry sits in the cache: an index, or [`NOWHERE`]. Changes under the cache's lock.
pub(crate) struct Seat(AtomicU32);

const NOWHERE: u32 = u32::MAX;

impl Default for Seat {
    fn default() -> Seat {
        Seat(AtomicU32::new(NOWHERE))
    }
}

impl Seat {
    fn get(&self) -> Option<u32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&seat| seat != NOWHERE)
    }

    fn set(&self, seat: u32) {
        self.0.store(seat, Ordering::Relaxed);
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
                // One seat more than the limit is taken for a moment.
                limit: limit.min(NOWHERE as usize - 1),
            }),
        }
    }

    /// A dentry has no references any more: makes it the most recently used one. Whatever
    /// exceeds the limit then goes to `victims`.
    pub(crate) fn keep(&self, dentry: &Arc<Dentry>, victims: &mut Vec<Arc<Dentry>>) {
        let mut unused = self.unused.lock();
        if unused.limit == 0 {
            drop(unused);
            victims.push(dentry.clone());
            return;
        }
        if let Some(seat) = dentry.seat.get() {
            unused.unlink(seat);
            unused.link(seat);
            return;
        }
        // Checked under the lock: a dentry is marked as destroyed before it is removed below,
        // so that it cannot come back after that.
        if !dentry.is_unused() {
            return;
        }
        unused.insert(dentry);
        while unused.len > unused.limit {
            match unused.pop_oldest() {
                Some(victim) => victims.push(victim),
                None => break,
            }
        }
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
