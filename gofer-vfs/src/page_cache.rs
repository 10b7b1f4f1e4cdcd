//! Cached contents of regular files (semantics 15), for modes in which this client may keep them
//! and files whose server donates no descriptor that could be used instead.
//!
//! - [`PageCache`] belongs to one inode. Its bytes lie in one memory file, at the offset they have
//!   in the file, so that a mapping of that is a mapping of the file and truncation acts on both.
//! - What is there is known by the byte ([`RangeSet`]): *valid* bytes can be read, *dirty* ones
//!   are not on the server yet, *resident* pages take memory. So a write never has to fetch the
//!   rest of its page first.
//! - [`Budget`] bounds the memory and the number of memory files of a whole filesystem.
//!
//! # Who waits for whom
//!
//! The lock on [`Pages`] is short. A *fill* is registered before its bytes are asked for: others
//! that need them wait for it, and whatever changes the content meanwhile takes its range out of
//! the fill, whose reply is too old for it. Writing back holds the write-back lock over its call,
//! which truncation, writing through and allocation take, too: so no older bytes arrive at the
//! server after newer ones, and none beyond the new end of a file.

mod budget;
mod fill;
mod pages;
mod ranges;
mod route;
mod write;
mod write_back;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::inode::Inode;
use crate::locks::{Mutex, PAGES, REGISTRY, RwLock, WRITE_BACK};
use crate::mapping::Area;

pub(crate) use budget::{Budget, write_back_unattended};
pub(crate) use fill::{ReadAhead, Reading};
use pages::Pages;
pub(crate) use ranges::PAGE;
use ranges::pages_around;

/// The cached content of one inode; see the module.
pub(crate) struct PageCache {
    pages: RwLock<Pages, PAGES>,
    write_back: Mutex<(), WRITE_BACK>,
    /// [`Budget`]'s time of the last use.
    used: AtomicU64,
    areas: Mutex<Vec<Weak<Area>>, REGISTRY>,
}

impl PageCache {
    /// An empty cache, of an inode that is [entered](Budget::enter) in the budget.
    pub(crate) fn new() -> PageCache {
        PageCache {
            pages: RwLock::new(Pages::default()),
            write_back: Mutex::new(()),
            used: AtomicU64::new(0),
            areas: Mutex::new(Vec::new()),
        }
    }

    /// Changes what is cached, and counts by how much.
    fn change<R>(&self, budget: &Budget, change: impl FnOnce(&mut Pages) -> R) -> R {
        let mut pages = self.pages.write();
        let before = pages.sizes();
        let changed = change(&mut pages);
        budget.account(before, pages.sizes());
        changed
    }

    /// Whether there are bytes here that the server does not have.
    pub(crate) fn is_dirty(&self) -> bool {
        self.pages.read().unsent_end() > 0
    }

    /// Where the bytes end that the server may not have; 0 if it has all.
    pub(crate) fn unsent_end(&self) -> u64 {
        self.pages.read().unsent_end()
    }

    /// The ranges of bytes that the server does not have, in order. They stay what they are only
    /// as long as nobody writes.
    pub(crate) fn unsent(&self) -> Vec<Range<u64>> {
        self.pages.read().unsent()
    }

    /// Copies cached bytes from `at` on; returns how many there are before the first gap.
    pub(crate) fn peek(&self, into: &mut [u8], at: u64) -> usize {
        self.pages.read().copy_out(into, at)
    }

    /// The size changed: bytes beyond it are gone, and new ones are zeros. The inode's data lock
    /// and [`PageCache::stop_writing_back`] are held.
    pub(crate) fn resize(&self, budget: &Budget, size: u64) {
        self.change(budget, |pages| pages.resize(size));
    }

    /// The file was found to end at `size`: bytes beyond it are gone.
    pub(crate) fn shrink(&self, budget: &Budget, size: u64) {
        if self.pages.read().valid.end() > size {
            self.change(budget, |pages| pages.resize(size));
        }
    }

    /// A range became zeros on the server.
    pub(crate) fn zero(&self, budget: &Budget, range: Range<u64>) {
        self.change(budget, |pages| pages.zero(range));
    }

    /// Forgets what is clean of a range, but for what is mapped: the server knows better.
    pub(crate) fn forget(&self, budget: &Budget, range: Range<u64>) {
        self.change(budget, |pages| pages.forget(range));
    }

    /// Keeps write-back away, and waits for one that is under way.
    pub(crate) fn stop_writing_back(&self) -> crate::locks::MutexGuard<'_, ()> {
        self.write_back.lock()
    }

    /// The file was used, the last of all.
    #[inline]
    fn touch(&self, budget: &Budget) {
        if self.used.load(Ordering::Relaxed) != budget.now() {
            self.used.store(budget.tick(), Ordering::Relaxed);
        }
    }

    /// A mapping was made.
    pub(crate) fn add_area(&self, area: &Arc<Area>) {
        let mut areas = self.areas.lock();
        areas.retain(|area| area.strong_count() > 0);
        areas.push(Arc::downgrade(area));
    }

    /// The mappings that exist.
    pub(crate) fn areas(&self) -> Vec<Arc<Area>> {
        self.areas.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Sets a range aside for a mapping: it stays until [`PageCache::unpin`]. `None` if that
    /// would be more than the budget allows for all mappings.
    pub(crate) fn pin(&self, budget: &Budget, range: Range<u64>) -> Option<u64> {
        let bytes = pages_around(&range);
        budget.pin(bytes.end - bytes.start)?;
        Some(self.pages.write().pin(bytes))
    }

    /// Ends [`PageCache::pin`].
    pub(crate) fn unpin(&self, budget: &Budget, id: u64, size: u64) {
        let bytes = self.change(budget, |pages| pages.unpin(id, size));
        budget.unpin(bytes);
    }

    /// A mapping is gone. Where nothing but mapped pages is cached (`force_page_cache` in shared
    /// mode) reads now go past the cache: the server gets what it lacks, and nothing is kept.
    pub(crate) fn settle_unmapped(&self, inode: &Inode) {
        if inode.is_cached() || self.is_pinned() {
            return;
        }
        if self.is_dirty() && write_back_unattended(inode).is_err() {
            return;
        }
        self.change(&inode.sb.pages, |pages| {
            pages.forget(0..u64::MAX);
            pages.evict(u64::MAX);
        });
    }

    /// Whether anything is mapped.
    pub(crate) fn is_pinned(&self) -> bool {
        self.pages.read().is_pinned()
    }

    /// Somebody may write to this pinned range without being seen: it counts as dirty from now
    /// on, until it is unpinned.
    pub(crate) fn expect_writes(&self, id: u64) {
        self.pages.write().expect_writes(id);
    }

    /// A part of a pinned range is about to be written.
    pub(crate) fn dirty_pinned(&self, budget: &Budget, range: Range<u64>, size: u64) {
        let range = range.start.min(size)..range.end.min(size);
        self.change(budget, |pages| pages.make_dirty(range));
    }

    /// Has `work` done with the memory file, which reaches to `size` at least.
    pub(crate) fn with_memory<R>(
        &self,
        budget: &Budget,
        size: u64,
        work: impl FnOnce(&gofer_transport::MemoryFile) -> std::io::Result<R>,
    ) -> std::io::Result<R> {
        self.change(budget, |pages| work(pages.memory_of(size)?))
    }
}

impl Inode {
    /// The page cache, if there is one.
    pub(crate) fn cache(&self) -> Option<&PageCache> {
        self.opened()?.pages.get()
    }

    /// The page cache, made if need be.
    pub(crate) fn make_cache(self: &Arc<Inode>) -> &PageCache {
        self.open().pages.get_or_init(|| {
            self.sb.pages.enter(self);
            Box::new(PageCache::new())
        })
    }
}
