//! Unused dentries: the least recently used go when there are more than the limit.
//!
//! Only dentries without references are here, and children are references, so only leaves are.
//! A dentry that is referenced again may stay until it is its turn; then it just leaves.

use std::sync::Arc;

use lru::LruCache;

use crate::dentry::Dentry;
use crate::locks::{LRU, Mutex};

/// See the module.
pub(crate) struct DentryCache {
    unused: Mutex<Unused, LRU>,
}

struct Unused {
    /// By dentry id. Unbounded for the crate: we pop under the lock and drop after it.
    by_age: LruCache<u64, Arc<Dentry>>,
    limit: u64,
}

impl DentryCache {
    pub(crate) fn new(limit: u64) -> DentryCache {
        DentryCache {
            unused: Mutex::new(Unused {
                by_age: LruCache::unbounded(),
                limit,
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
        if unused.by_age.promote(&dentry.id) {
            return;
        }
        // Checked under the lock: a dentry is marked as destroyed before it is removed below,
        // so that it cannot come back after that.
        if !dentry.is_unused() {
            return;
        }
        unused.by_age.put(dentry.id, dentry.clone());
        while unused.by_age.len() as u64 > unused.limit {
            match unused.by_age.pop_lru() {
                Some((_, victim)) => victims.push(victim),
                None => break,
            }
        }
        dentry
            .inode
            .sb
            .counters
            .lru_length
            .set(unused.by_age.len() as u64);
    }

    /// Takes a dentry out: it is in use for long, or gone.
    pub(crate) fn remove(&self, dentry: &Dentry) {
        let mut unused = self.unused.lock();
        let removed = unused.by_age.pop(&dentry.id);
        dentry
            .inode
            .sb
            .counters
            .lru_length
            .set(unused.by_age.len() as u64);
        drop(unused);
        drop(removed);
    }

    /// Takes everything out. With `forever`, nothing is kept from now on.
    pub(crate) fn drain(&self, forever: bool) -> Vec<Arc<Dentry>> {
        let mut unused = self.unused.lock();
        if forever {
            unused.limit = 0;
        }
        let mut all = Vec::with_capacity(unused.by_age.len());
        while let Some((_, dentry)) = unused.by_age.pop_lru() {
            all.push(dentry);
        }
        all
    }

    #[cfg(test)]
    pub(crate) fn all(&self) -> Vec<Arc<Dentry>> {
        let unused = self.unused.lock();
        unused
            .by_age
            .iter()
            .map(|(_, dentry)| dentry.clone())
            .collect()
    }
}
