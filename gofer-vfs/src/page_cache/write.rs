//! Writing with a cache (semantics 15.5): into it where that is enough, else to the server first.

use std::sync::Arc;

use super::PageCache;
use crate::context::Context;
use crate::handle::Handle;
use crate::inode::Inode;
use crate::superblock::{Failure, Res};

/// Ranges of one file that are told apart; a file written in so many pieces is written back, and
/// dropped from the cache.
const FRAGMENTS_MAX: usize = 8192;

impl PageCache {
    /// Writes at `offset`: how many bytes went, and what stopped them. Where the mode lets writes
    /// wait, what replaces cached bytes does; the rest goes to the server at once, so that it is
    /// never fetched only to be written, and an error is this write's own. The inode's data lock
    /// is held.
    pub(crate) fn write(
        &self,
        cx: &Context<'_>,
        inode: &Inode,
        handle: &Handle,
        from: &[u8],
        offset: u64,
    ) -> (usize, Option<Failure>) {
        let budget = &inode.sb.pages;
        self.touch(budget);
        let waits = inode.sb.may_defer_writes();
        let mut done = 0;
        while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            let n = match waits {
                true => self.change(budget, |pages| pages.overwrite(at, rest)),
                false => 0,
            };
            done += n;
            if n > 0 {
                continue;
            }
            let gap = match waits {
                true => self.pages.read().gap_length(at, rest.len()),
                false => rest.len(),
            };
            let gap = rest.get(..gap).unwrap_or(rest);
            let (n, stopped) = self.write_through(cx, inode, handle, gap, at);
            done += n;
            if n < gap.len() {
                return (done, stopped);
            }
        }
        self.keep_in_bounds(cx, inode);
        (done, None)
    }

    /// Writes back when too much waits. A failure is kept for the next fsync: the write that came
    /// last is done.
    fn keep_in_bounds(&self, cx: &Context<'_>, inode: &Inode) {
        let budget = &inode.sb.pages;
        let fragmented = self.pages.read().fragments() > FRAGMENTS_MAX;
        if fragmented || budget.is_too_dirty() {
            let written = self.write_back(cx, inode, 0..u64::MAX);
            if fragmented && written.is_ok() {
                self.change(budget, |pages| pages.evict(u64::MAX));
            }
        }
    }

    /// Writes to the server, then into the cache what it took. One writer of a file at a time,
    /// so that both see the same order.
    fn write_through(
        &self,
        cx: &Context<'_>,
        inode: &Inode,
        handle: &Handle,
        from: &[u8],
        offset: u64,
    ) -> (usize, Option<Failure>) {
        let budget = &inode.sb.pages;
        let range = offset..offset + from.len() as u64;
        let missing = self.pages.read().missing(&range);
        let cached = budget.admit(&inode.sb, inode, missing);
        let _turn = self.write_back.lock();
        let (n, stopped) = handle.write_at(cx, from, offset);
        let (written, rest) = from.split_at(n);
        self.change(budget, |pages| {
            if !cached || pages.store(offset, written, false).is_err() {
                pages.update(offset, written);
            }
            if stopped.is_some_and(Failure::is_uncertain) && !rest.is_empty() {
                pages.forget(offset + n as u64..range.end);
            }
        });
        (n, stopped)
    }

    /// Writes past the cache: what it has of the range is written back before, and replaced
    /// after (semantics 15.5.6). The inode's data lock is held exclusively.
    pub(crate) fn write_around(
        &self,
        cx: &Context<'_>,
        inode: &Inode,
        handle: &Arc<Handle>,
        from: &[u8],
        offset: u64,
    ) -> (usize, Option<Failure>) {
        let range = offset..offset + from.len() as u64;
        if let Err(failure) = self.write_back(cx, inode, range.clone()) {
            return (0, Some(failure));
        }
        let budget = &inode.sb.pages;
        let _turn = self.write_back.lock();
        let (n, stopped) = handle.write_at(cx, from, offset);
        self.change(budget, |pages| {
            pages.update(offset, from.get(..n).unwrap_or_default());
            if stopped.is_some_and(Failure::is_uncertain) {
                pages.forget(offset + n as u64..range.end);
            }
        });
        (n, stopped)
    }

    /// Reads past the cache, after what it has of the range was written back (semantics 15.4.3).
    pub(crate) fn read_around(
        &self,
        cx: &Context<'_>,
        inode: &Inode,
        handle: &Handle,
        into: &mut [u8],
        offset: u64,
    ) -> Res<usize> {
        let range = offset..offset.saturating_add(into.len() as u64);
        self.write_back(cx, inode, range)?;
        handle.read_at(cx, into, offset)
    }
}
