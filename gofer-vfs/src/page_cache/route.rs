//! Which way a file's data goes: through the cache, or by a descriptor or the server directly
//! (semantics 15.1, 15.3).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fill::Reading;
use crate::attr::FileType;
use crate::context::Context;
use crate::inode::Inode;
use crate::mapping::Area;
use crate::superblock::Res;

impl Inode {
    /// Whether reads and writes go through the cache.
    #[inline]
    pub(crate) fn is_cached(&self) -> bool {
        self.opened()
            .is_some_and(|open| open.cached.load(Ordering::Acquire))
    }

    /// Whether they should, with the handles that are open now: where nobody else writes, and
    /// there is not one donated descriptor for everything the file is open for.
    fn wants_cache(&self) -> bool {
        let options = &self.sb.options;
        self.file_type == FileType::Regular
            && self.sb.mode.may_cache_data()
            && (options.force_page_cache || self.open().handles.coherent().is_none())
    }

    /// Decides the way anew after a handle was opened. What is cached is written back before
    /// data goes past the cache; while that is impossible, or while cached pages are mapped, it
    /// goes on as it did.
    ///
    /// `held`: the caller has the data lock exclusively.
    pub(crate) fn settle_route(self: &Arc<Inode>, cx: &Context<'_>, held: bool) {
        self.follow_handle();
        if self.wants_cache() == self.is_cached() {
            return;
        }
        let _data = (!held).then(|| self.open().data.write());
        let wants = self.wants_cache();
        if wants == self.is_cached() {
            return;
        }
        let cache = self.make_cache();
        let budget = &self.sb.pages;
        if wants {
            // A reader may have left something since the cache was last used.
            cache.forget(budget, 0..u64::MAX);
            self.open().cached.store(true, Ordering::Release);
            for area in cache.areas() {
                self.map_cached(cx, &area);
            }
        } else if !cache.is_pinned() && cache.write_back(cx, self, 0..u64::MAX).is_ok() {
            self.open().cached.store(false, Ordering::Release);
            cache.forget(budget, 0..u64::MAX);
            cache.change(budget, |pages| pages.evict(u64::MAX));
        }
    }

    /// Has shared mappings of a donated descriptor show the newest one, where an older one may
    /// show an older file (`overlayfs_stale_read`).
    fn follow_handle(&self) {
        if !self.sb.options.overlayfs_stale_read {
            return;
        }
        if let Some(cache) = self.cache()
            && let Some(handle) = self.open().handles.coherent()
        {
            for area in cache.areas() {
                area.follow(&handle);
            }
        }
    }

    /// Has a shared mapping of a donated descriptor show the cached pages instead: writes go
    /// there from now on. Where that fails it shows them once they are written back.
    fn map_cached(self: &Arc<Inode>, cx: &Context<'_>, area: &Arc<Area>) {
        let reading = Reading {
            cx,
            inode: self,
            handle: &|| self.reader().ok_or(crate::Errno::EBADF.into()),
            size: &|| Ok(self.attr().size),
        };
        let moved: Res<()> = area.show_cache(self.make_cache(), &reading);
        if let Err(failure) = moved {
            tracing::warn!(errno = %failure.errno(), "a mapping stays with its descriptor");
        }
    }
}
