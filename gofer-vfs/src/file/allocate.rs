//! fallocate(2): allocating, freeing, zeroing and moving ranges (semantics 15.8).

use std::sync::atomic::Ordering;

use super::{File, OFFSET_MAX, drop_privileges};
use crate::attr::FileType;
use crate::context::Context;
use crate::error::{Errno, Result};
use crate::filesystem::run;
use crate::flags::AllocMode;
use crate::notify::EventMask;
use crate::page_cache::PageCache;
use crate::permissions::mode_after_write;
use crate::superblock::{Failure, Res};

/// The modes that say what is done; at most one of them goes.
const VERBS: AllocMode = AllocMode::PUNCH_HOLE
    .union(AllocMode::ZERO_RANGE)
    .union(AllocMode::COLLAPSE_RANGE)
    .union(AllocMode::INSERT_RANGE)
    .union(AllocMode::UNSHARE_RANGE);

/// The modes that move what lies behind the range.
const MOVING: AllocMode = AllocMode::COLLAPSE_RANGE.union(AllocMode::INSERT_RANGE);

impl File {
    /// Allocates a range, or does with it what `mode` says. What the server, its file system or
    /// the protocol cannot do is `EOPNOTSUPP`. `PUNCH_HOLE` goes with `KEEP_SIZE` only.
    ///
    /// `COLLAPSE_RANGE` and `INSERT_RANGE` move what lies behind the range; while cached pages of
    /// the file are mapped they are `EBUSY`.
    pub fn allocate(&self, cx: &Context<'_>, mode: AllocMode, offset: u64, len: u64) -> Result<()> {
        run("fallocate", &self.path, || {
            self.check_allocate(mode, offset, len)?;
            self.allocate_range(cx, mode, offset, len)?;
            self.moved(EventMask::MODIFY, 1);
            Ok(())
        })
    }

    /// In Linux's order.
    fn check_allocate(&self, mode: AllocMode, offset: u64, len: u64) -> Res<()> {
        if self.is_path() {
            return Err(Errno::EBADF.into());
        }
        if len == 0 || len > OFFSET_MAX || offset > OFFSET_MAX {
            return Err(Errno::EINVAL.into());
        }
        let (verb, keeps) = (mode & VERBS, mode.contains(AllocMode::KEEP_SIZE));
        let one_verb = verb.bits().count_ones() <= 1;
        let must_keep = verb == AllocMode::PUNCH_HOLE;
        let cannot_keep = verb.intersects(MOVING);
        if !(VERBS | AllocMode::KEEP_SIZE).contains(mode)
            || !one_verb
            || (must_keep && !keeps)
            || (cannot_keep && keeps)
        {
            return Err(Errno::EOPNOTSUPP.into());
        }
        self.check_writable()?;
        match self.file_type() {
            FileType::Regular => {}
            FileType::Fifo => return Err(Errno::ESPIPE.into()),
            FileType::Directory => return Err(Errno::EISDIR.into()),
            _ => return Err(Errno::ENODEV.into()),
        }
        if offset + len > OFFSET_MAX {
            return Err(Errno::EFBIG.into());
        }
        Ok(())
    }

    fn allocate_range(&self, cx: &Context<'_>, mode: AllocMode, offset: u64, len: u64) -> Res<()> {
        let moves = mode.intersects(MOVING);
        let grows = !moves && !mode.contains(AllocMode::KEEP_SIZE);
        let end = offset + len;
        if grows && end > cx.file_size_limit {
            return Err(Errno::EFBIG.into());
        }
        let inode = self.node.inode();
        let _end = inode.open().data.write();
        let authoritative = self.node.sb().mode.may_cache_metadata();
        if authoritative && mode.is_empty() && end <= self.size(cx)? {
            return Ok(());
        }
        if moves {
            self.before_moving(cx, offset)?;
        }
        let cache = inode.cache();
        let turn = cache.map(PageCache::stop_writing_back);
        inode.about_to_change();
        // What is moved goes from here: a reply that comes meanwhile may have it moved already.
        let before = inode.meta().size();
        let handle = self.writer()?;
        if let Err(error) = handle.remote.allocate(&cx.call(), mode, offset, len) {
            let failure = Failure::from(error);
            if failure.is_uncertain() {
                inode.change(|meta| meta.doubt());
                if let Some(cache) = cache {
                    cache.forget(&inode.sb.pages, offset..u64::MAX);
                }
            }
            return Err(failure);
        }
        self.wrote.store(true, Ordering::Relaxed);
        let now = self.node.sb().stamp();
        let size = inode.change(|meta| {
            match mode & VERBS {
                verb if verb == AllocMode::COLLAPSE_RANGE => {
                    meta.set_size(before.saturating_sub(len))
                }
                verb if verb == AllocMode::INSERT_RANGE => meta.set_size(before + len),
                _ if grows => meta.grow(end, len),
                _ => {}
            }
            if let Some(now) = now {
                meta.touch_mtime(now);
            }
            meta.size()
        });
        if let Some(cache) = cache {
            let budget = &inode.sb.pages;
            if mode.intersects(AllocMode::PUNCH_HOLE | AllocMode::ZERO_RANGE) {
                cache.zero(budget, offset..end.min(size));
            }
            if moves {
                cache.forget(budget, offset..u64::MAX);
            }
            cache.resize(budget, size);
        }
        drop(turn);
        let mode = mode_after_write(cx.creds, &inode.attr());
        drop_privileges(cx, &self.node, mode);
        Ok(())
    }

    /// Content from `offset` on is about to be somewhere else: the server must have all of it,
    /// and the cache none.
    fn before_moving(&self, cx: &Context<'_>, offset: u64) -> Res<()> {
        let inode = self.node.inode();
        let Some(cache) = inode.cache() else {
            return Ok(());
        };
        if cache.is_pinned() {
            return Err(Errno::EBUSY.into());
        }
        cache.write_back(cx, inode, offset..u64::MAX)
    }
}
