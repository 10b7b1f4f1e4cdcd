//! The bounds of all page caches of one filesystem: bytes of memory and memory files.
//!
//! Whoever wants to cache more asks before, and if there is no room has the least recently used
//! files give theirs back: clean pages first, then dirty ones that are written back for it. If
//! that frees nothing, the caller does without a cache. So the limit may be passed only by what
//! several threads store at the same moment.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::pages::Sizes;
use super::ranges::PAGE;
use crate::context::Context;
use crate::context::unattended_call;
use crate::inode::Inode;
use crate::locks::{Mutex, REGISTRY};
use crate::permissions::Credentials;
use crate::stats::Counters;
use crate::superblock::{Failure, Superblock};

/// Memory files, each of which takes a descriptor.
const FILES_MAX: u64 = 256;

/// Buffers that are kept for the next fill or write-back.
const SPARE_BUFFERS_MAX: usize = 4;

/// Bytes of the largest request.
const REQUEST_MAX: usize = 1 << 20;

/// See the module.
pub(crate) struct Budget {
    limit: u64,
    resident: AtomicU64,
    dirty: AtomicU64,
    pinned: AtomicU64,
    memory_files: AtomicU64,
    /// Counts uses; larger than the time of a file that was not used yet.
    clock: AtomicU64,
    /// By the address of the inode, which takes itself out before it goes.
    files: Mutex<HashMap<usize, Weak<Inode>>, REGISTRY>,
    spare: Mutex<Vec<Box<[u8]>>, REGISTRY>,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Budget {
        Budget {
            limit,
            resident: AtomicU64::new(0),
            dirty: AtomicU64::new(0),
            pinned: AtomicU64::new(0),
            memory_files: AtomicU64::new(0),
            clock: AtomicU64::new(1),
            files: Mutex::new(HashMap::new()),
            spare: Mutex::new(Vec::new()),
        }
    }

    /// An inode gets a cache.
    pub(super) fn enter(&self, inode: &Arc<Inode>) {
        let key = Arc::as_ptr(inode) as usize;
        self.files.lock().insert(key, Arc::downgrade(inode));
    }

    /// An inode goes.
    pub(crate) fn leave(&self, inode: &Inode) {
        let Some(cache) = inode.cache() else {
            return;
        };
        self.files.lock().remove(&(inode as *const Inode as usize));
        let left = cache.pages.read().sizes();
        if left.dirty > 0 && inode.meta().attr().nlink > 0 {
            tracing::error!(
                ino = inode.ino,
                bytes = left.dirty,
                "data is lost: the server did not take it"
            );
        }
        self.account(left, Sizes::default());
    }

    /// The time of the last use of any file.
    pub(super) fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// A later time than that, for finding what was not used for the longest.
    pub(super) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn account(&self, before: Sizes, after: Sizes) {
        let adjust = |total: &AtomicU64, before: u64, after: u64| {
            if before != after {
                total.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
            }
        };
        adjust(&self.resident, before.resident, after.resident);
        adjust(&self.dirty, before.dirty, after.dirty);
        adjust(&self.memory_files, before.files, after.files);
    }

    /// Shows what is cached now.
    pub(crate) fn count(&self, counters: &Counters) {
        let get = |total: &AtomicU64| total.load(Ordering::Relaxed);
        counters.page_cache_bytes.set(get(&self.resident));
        counters.page_cache_dirty.set(get(&self.dirty));
        counters.page_cache_files.set(get(&self.memory_files));
    }

    /// Whether so much is dirty that whoever made it so should write it back.
    pub(super) fn is_too_dirty(&self) -> bool {
        self.dirty.load(Ordering::Relaxed) > self.limit / 2
    }

    /// Sets `bytes` aside for a mapping, if mappings may have so many.
    pub(super) fn pin(&self, bytes: u64) -> Option<()> {
        let fits = |pinned: u64| pinned.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.pinned
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .ok()
            .map(drop)
    }

    pub(super) fn unpin(&self, bytes: u64) {
        self.pinned.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn has_room(&self, bytes: u64, files: u64) -> bool {
        let resident = self.resident.load(Ordering::Relaxed);
        let open = self.memory_files.load(Ordering::Relaxed);
        resident.saturating_add(bytes) <= self.limit && open + files <= FILES_MAX
    }

    /// Whether `inode` may cache `bytes` more; makes room if need be. No lock of write-back or
    /// below may be held.
    pub(super) fn admit(&self, sb: &Superblock, inode: &Inode, bytes: u64) -> bool {
        if bytes == 0 {
            return true;
        }
        if bytes > self.limit {
            return false;
        }
        let files = match inode.cache() {
            Some(cache) => u64::from(!cache.pages.read().has_memory()),
            None => 1,
        };
        if self.has_room(bytes, files) {
            return true;
        }
        // More than is needed, so that this is not done for every page.
        let want = bytes.max(self.limit / 16);
        self.reclaim(sb, want, files);
        self.has_room(bytes, files)
    }

    /// The files with a cache, the least recently used first.
    pub(crate) fn files(&self) -> Vec<Arc<Inode>> {
        let files = self.files.lock();
        let mut all: Vec<Arc<Inode>> = files.values().filter_map(Weak::upgrade).collect();
        drop(files);
        all.sort_by_cached_key(|inode| {
            inode
                .cache()
                .map_or(0, |cache| cache.used.load(Ordering::Relaxed))
        });
        all
    }

    fn reclaim(&self, sb: &Superblock, want: u64, files: u64) {
        let all = self.files();
        let enough = || self.has_room(want, files);
        for write_back in [false, true] {
            for inode in &all {
                if enough() {
                    return;
                }
                let Some(cache) = inode.cache() else {
                    continue;
                };
                if write_back && cache.is_dirty() && write_back_unattended(inode).is_err() {
                    continue;
                }
                let short = self.shortage(want);
                // A file that is to give up its memory file gives up all.
                let short = if short == 0 { u64::MAX } else { short };
                let freed = cache.change(self, |pages| pages.evict(short));
                sb.counters.page_cache_evicted.add(freed / PAGE);
            }
        }
    }

    fn shortage(&self, want: u64) -> u64 {
        let resident = self.resident.load(Ordering::Relaxed);
        resident.saturating_add(want).saturating_sub(self.limit)
    }

    /// Drops every page that is clean and not mapped.
    pub(crate) fn drop_clean(&self) {
        for inode in self.files() {
            if let Some(cache) = inode.cache() {
                cache.change(self, |pages| pages.evict(u64::MAX));
            }
        }
    }

    /// A buffer for the largest request.
    pub(crate) fn buffer(&self) -> Buffer<'_> {
        let spare = self.spare.lock().pop();
        Buffer {
            bytes: spare.unwrap_or_else(|| vec![0; REQUEST_MAX + PAGE as usize].into()),
            budget: self,
        }
    }
}

/// Writes back what nobody waits for; a failure is for the file's next fsync.
pub(crate) fn write_back_unattended(inode: &Inode) -> Result<(), Failure> {
    let creds = Credentials::root();
    let cx = Context {
        deadline: unattended_call().deadline,
        ..Context::new(&creds)
    };
    inode.write_back(&cx)
}

/// A buffer that returns to where it came from.
pub(crate) struct Buffer<'b> {
    pub(crate) bytes: Box<[u8]>,
    budget: &'b Budget,
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        let mut spare = self.budget.spare.lock();
        if spare.len() < SPARE_BUFFERS_MAX {
            spare.push(std::mem::take(&mut self.bytes));
        }
    }
}
