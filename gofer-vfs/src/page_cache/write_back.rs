//! Bringing dirty bytes to the server (semantics 15.6).

use std::ops::Range;

use super::PageCache;
use crate::context::Context;
use crate::error::Errno;
use crate::inode::Inode;
use crate::superblock::{Failure, Res};

impl Inode {
    /// Brings everything that was written to the server, as far as it can be. A failure is noted
    /// for every open description, and what could not be written stays dirty.
    pub(crate) fn write_back(&self, cx: &Context<'_>) -> Res<()> {
        match self.cache() {
            Some(cache) => cache.write_back(cx, self, 0..u64::MAX),
            None => Ok(()),
        }
    }
}

impl PageCache {
    /// [`Inode::write_back`] of a range.
    pub(crate) fn write_back(&self, cx: &Context<'_>, inode: &Inode, range: Range<u64>) -> Res<()> {
        if self.pages.read().unsent_end() <= range.start {
            return Ok(());
        }
        let _turn = self.write_back.lock();
        let size = inode.attr().size;
        let within = range.start.min(size)..range.end.min(size);
        let budget = &inode.sb.pages;
        self.change(budget, |pages| pages.suspect_mapped(&within));
        let mut wrote = false;
        let outcome = loop {
            match self.write_back_one(cx, inode, &range) {
                Ok(true) => wrote = true,
                Ok(false) => break Ok(()),
                Err(failure) => break Err(failure),
            }
        };
        if wrote {
            // The server's clock has stamped the file; ours is to count.
            let client = inode.sb.mode.client_clock();
            inode.change(|meta| meta.server_stamped(client));
        }
        if let Err(failure) = outcome {
            tracing::warn!(ino = inode.ino, errno = %failure.errno(), "write-back failed");
            // Who gave up knows, and the others lost nothing.
            if failure.errno() != Errno::EINTR {
                inode.open().errors.record(failure.errno());
            }
        }
        outcome
    }

    /// Sends the first dirty bytes; false if there are none.
    fn write_back_one(&self, cx: &Context<'_>, inode: &Inode, range: &Range<u64>) -> Res<bool> {
        let budget = &inode.sb.pages;
        if !self.pages.read().is_dirty_in(range) {
            return Ok(false);
        }
        let handle = inode.writer().ok_or(Errno::EBADF)?;
        let mut buffer = budget.buffer();
        let most = inode.sb.capabilities.write_size_max.max(1);
        let room = most.min(buffer.bytes.len()).min(1 << 20);
        let into = buffer.bytes.get_mut(..room).unwrap_or_default();
        let Some((at, n)) = self.change(budget, |pages| pages.take_dirty(range, into)) else {
            return Ok(false);
        };
        let from = into.get(..n).unwrap_or_default();
        let (done, stopped) = handle.write_at(cx, from, at);
        let done = done.min(n);
        self.change(budget, |pages| pages.wrote_back(at, n, done));
        inode.sb.counters.page_cache_write_backs.one();
        match stopped {
            Some(failure) if done < n => Err(failure),
            // No progress and no reason: trying again would never end.
            None if done == 0 => Err(Failure::from(Errno::EIO)),
            _ => Ok(true),
        }
    }
}
