//! Reading through the cache: what is missing is asked for once, with more behind it where a
//! file is read from front to back (semantics 15.4).

use std::io::IoSliceMut;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::PageCache;
use super::pages::Gap;
use super::ranges::PAGE;
use crate::context::Context;
use crate::error::Errno;
use crate::handle::Handle;
use crate::inode::Inode;
use crate::locks;
use crate::remote::Cancel;
use crate::superblock::Res;
use crate::sync;

/// Bytes asked for when a file begins to be read in sequence.
const WINDOW_MIN: u64 = 64 << 10;

/// How one description reads a file.
#[derive(Default)]
pub(crate) struct ReadAhead {
    /// Where the next read begins if the file is read in sequence.
    next: AtomicU64,
    /// Bytes to ask for then.
    window: AtomicU64,
}

impl ReadAhead {
    /// A read of what is not there begins at `at`: how much to ask for, at most `most`.
    fn window(&self, at: u64, most: u64) -> u64 {
        // Several threads may read with one description; then it is not in sequence, and what
        // they see of each other does not matter.
        let window = match self.next.load(Ordering::Relaxed) == at {
            true => (self.window.load(Ordering::Relaxed) * 2).max(WINDOW_MIN),
            false => 0,
        };
        let window = window.min(most);
        self.window.store(window, Ordering::Relaxed);
        window
    }

    /// A read ended at `end`.
    #[inline]
    pub(super) fn ended(&self, end: u64) {
        self.next.store(end, Ordering::Relaxed);
    }
}

/// Opened once, for all who wait at it.
#[derive(Default)]
pub(super) struct Latch {
    // Without a rank, as a condition variable releases it; nothing is locked while it is held.
    open: sync::Mutex<bool>,
    opened: sync::Condvar,
}

impl Latch {
    pub(super) fn open(&self) {
        *self.open.lock() = true;
        self.opened.notify_all();
    }

    /// Waits until it is open: `ETIMEDOUT` at the deadline, `EINTR` when cancelled.
    fn wait(self: &Arc<Latch>, cx: &Context<'_>) -> Res<()> {
        locks::assert_may_call();
        let this: Weak<Latch> = Arc::downgrade(self);
        let _watch = cx.cancel.map(|cancel| {
            cancel.watch(Arc::new(move || {
                if let Some(latch) = this.upgrade() {
                    let _open = latch.open.lock();
                    latch.opened.notify_all();
                }
            }))
        });
        let mut open = self.open.lock();
        while !*open {
            if cx.cancel.is_some_and(Cancel::is_set) {
                return Err(Errno::EINTR.into());
            }
            match cx.deadline {
                None => self.opened.wait(&mut open),
                Some(deadline) => {
                    if Instant::now() >= deadline {
                        return Err(Errno::ETIMEDOUT.into());
                    }
                    self.opened.wait_until(&mut open, deadline);
                }
            }
        }
        Ok(())
    }
}

/// One read through the cache.
pub(crate) struct Reading<'r> {
    pub(crate) cx: &'r Context<'r>,
    pub(crate) inode: &'r Inode,
    /// What to ask where something is missing.
    pub(crate) handle: &'r dyn Fn() -> Res<Arc<Handle>>,
    /// The size of the file.
    pub(crate) size: &'r dyn Fn() -> Res<u64>,
}

impl PageCache {
    /// Reads at `offset`; fewer bytes than asked are the end of the file. An error counts only if
    /// nothing was read before it.
    pub(crate) fn read(
        &self,
        reading: &Reading<'_>,
        into: &mut [u8],
        offset: u64,
        ahead: &ReadAhead,
    ) -> Res<usize> {
        let sb = &reading.inode.sb;
        self.touch(&sb.pages);
        let (mut done, mut filled) = (0, false);
        let outcome = loop {
            let at = offset + done as u64;
            let wanted = into.get_mut(done..).unwrap_or_default();
            let n = self.pages.read().copy_out(wanted, at);
            done += n;
            if n == wanted.len() {
                // What is valid lies below the size, which so need not be asked for.
                break Ok(());
            }
            let at = at + n as u64;
            let size = (reading.size)()?;
            let left = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX);
            if left == 0 {
                break Ok(());
            }
            let room = (wanted.len() - n).min(left);
            let wanted = wanted.get_mut(n..n + room).unwrap_or_default();
            filled = true;
            match self.fill(reading, wanted, at, size, ahead) {
                Ok(n) => done += n,
                Err(failure) => break Err(failure),
            }
        };
        ahead.ended(offset + done as u64);
        if done > 0 && !filled {
            sb.counters.page_cache_hits.one();
        }
        match outcome {
            Err(failure) if done == 0 => Err(failure),
            _ => Ok(done),
        }
    }

    /// Has all of `range` cached, as far as the file reaches. The range is pinned.
    pub(crate) fn populate(&self, reading: &Reading<'_>, range: Range<u64>) -> Res<()> {
        let mut buffer = reading.inode.sb.pages.buffer();
        let ahead = ReadAhead::default();
        let mut at = range.start;
        while at < range.end {
            let room = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let room = room.min(buffer.bytes.len());
            let into = buffer.bytes.get_mut(..room).unwrap_or_default();
            let n = self.read(reading, into, at, &ahead)?;
            if n == 0 {
                break;
            }
            at += n as u64;
        }
        let end = range.end.min((reading.size)()?);
        match self.pages.read().valid.covers(&(range.start.min(end)..end)) {
            true => Ok(()),
            false => Err(Errno::ENOMEM.into()),
        }
    }

    /// Asks for what is missing at `at`, or waits for who has; returns how many bytes of `wanted`
    /// were filled directly, 0 if the cache is to be looked at again.
    fn fill(
        &self,
        reading: &Reading<'_>,
        wanted: &mut [u8],
        at: u64,
        size: u64,
        ahead: &ReadAhead,
    ) -> Res<usize> {
        let sb = &reading.inode.sb;
        let most = sb.capabilities.read_size_max.clamp(PAGE as usize, 1 << 20) as u64;
        let window = ahead.window(at, most);
        let end = at + wanted.len() as u64;
        let aim = end.max(at + window).div_ceil(PAGE).saturating_mul(PAGE);
        let cached = sb.pages.admit(sb, reading.inode, aim - at);
        let handle = (reading.handle)()?;
        let (id, range) = {
            let mut pages = self.pages.write();
            match pages.gap(at, size) {
                Gap::Filled => return Ok(0),
                Gap::Asked(done) => {
                    drop(pages);
                    done.wait(reading.cx)?;
                    return Ok(0);
                }
                Gap::Open(range) if cached => {
                    let range = range.start..range.end.min(aim);
                    (Some(pages.begin_fill(range.clone())), range)
                }
                Gap::Open(range) => (None, at..range.end.min(end)),
            }
        };
        sb.counters.page_cache_fills.one();
        let mut fill = Asked {
            cache: self,
            inode: reading.inode,
            id,
        };
        let room = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let wanted = match room < wanted.len() {
            true => wanted.get_mut(..room).unwrap_or_default(),
            false => wanted,
        };
        fill.ask(reading.cx, &handle, range, wanted, at)
    }
}

/// A fill under way. Dropped without a reply, it lets the others ask for themselves.
struct Asked<'f> {
    cache: &'f PageCache,
    inode: &'f Inode,
    id: Option<u64>,
}

impl Asked<'_> {
    /// One request for `range`: what lies before and after `wanted`, which begins at `at`, goes
    /// to a buffer on its way to the cache.
    fn ask(
        &mut self,
        cx: &Context<'_>,
        handle: &Handle,
        range: Range<u64>,
        wanted: &mut [u8],
        at: u64,
    ) -> Res<usize> {
        let before = (at - range.start) as usize;
        let end = at + wanted.len() as u64;
        let after = (range.end - end) as usize;
        let mut buffer = (before + after > 0).then(|| self.inode.sb.pages.buffer());
        let bytes = buffer
            .as_mut()
            .map_or(&mut [][..], |buffer| &mut *buffer.bytes);
        let bytes = bytes.get_mut(..before + after).ok_or(Errno::EIO)?;
        let (head, tail) = bytes.split_at_mut(before);
        let length = before + wanted.len() + after;
        let (n, stopped) = {
            let mut parts = [
                IoSliceMut::new(head),
                IoSliceMut::new(wanted),
                IoSliceMut::new(tail),
            ];
            let parts = parts
                .get_mut(usize::from(before == 0)..)
                .unwrap_or_default();
            handle.read_vectored(cx, parts, range.start)
        };
        // Short of the end without an error: the server's file is shorter than ours, because
        // what we wrote beyond is not there yet. In between are zeros.
        let zeros = match stopped {
            None => (length - n) as u64,
            Some(_) => 0,
        };
        let filled = match stopped {
            None => wanted.len(),
            Some(_) => n.saturating_sub(before).min(wanted.len()),
        };
        let got = n.saturating_sub(before).min(wanted.len());
        wanted.get_mut(got..filled).unwrap_or_default().fill(0);
        if let Some(id) = self.id.take() {
            let head = head.get(..n.min(before)).unwrap_or_default();
            let rest = n.saturating_sub(before + wanted.len());
            let tail = tail.get(..rest).unwrap_or_default();
            let parts = [head, wanted.get(..got).unwrap_or_default(), tail];
            let budget = &self.inode.sb.pages;
            self.cache
                .change(budget, |pages| pages.end_fill(id, &parts, zeros));
        }
        match stopped {
            // Beyond what was asked for an error does not matter.
            Some(failure) if filled == 0 => Err(failure),
            _ => Ok(filled),
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let budget = &self.inode.sb.pages;
            self.cache
                .change(budget, |pages| pages.end_fill(id, &[], 0));
        }
    }
}
