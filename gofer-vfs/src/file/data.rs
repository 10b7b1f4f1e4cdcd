//! Reading and writing regular files and devices (semantics 15.4, 15.5, 16.5, 16.6).

use std::sync::atomic::Ordering;

use super::{File, OFFSET_MAX, drop_privileges};
use crate::attr::{AttrMask, FileType};
use crate::context::Context;
use crate::error::{Errno, Result};
use crate::filesystem::run;
use crate::flags::OpenFlags;
use crate::handle::Handle;
use crate::locks::{ReadGuard, WriteGuard};
use crate::notify::EventMask;
use crate::page_cache::{PageCache, Reading};
use crate::permissions::mode_after_write;
use crate::special;
use crate::superblock::{Failure, Res};

/// What keeps the end of a file where it is while it is written: exclusive for appends.
enum Ends<'f> {
    Shared { _held: ReadGuard<'f, ()> },
    Exclusive { _held: WriteGuard<'f, ()> },
}

/// Which way data goes (semantics 15.3).
#[derive(Clone, Copy)]
pub(super) enum Route<'f> {
    /// To the handle; nothing is cached.
    Direct,
    /// Through the page cache.
    Cached(&'f PageCache),
    /// To the handle, and what is cached kept in step.
    Around(&'f PageCache),
}

/// `EINVAL` for what ends where there is no place.
fn check_range(offset: u64, len: usize) -> Res<()> {
    match offset.checked_add(len as u64) {
        Some(..=OFFSET_MAX) => Ok(()),
        _ => Err(Errno::EINVAL.into()),
    }
}

impl File {
    /// Reads at `offset`, in bytes; fewer bytes than asked are the end of the file. `ESPIPE` for
    /// fifos and sockets, `EISDIR` for directories, `EINVAL` beyond 2^63 - 1.
    pub fn read_at(&self, cx: &Context<'_>, into: &mut [u8], offset: u64) -> Result<usize> {
        run("read", &self.path, || {
            check_range(offset, 0)?;
            self.check_seekable()?;
            self.check_readable()?;
            self.read_from(cx, into, offset)
        })
        .inspect(|n| self.moved(EventMask::ACCESS, *n))
    }

    /// Reads where the file stands and moves on. Of a fifo or socket, waits for data unless opened
    /// with `NONBLOCK` (`EAGAIN`), and returns what there is.
    pub fn read(&self, cx: &Context<'_>, into: &mut [u8]) -> Result<usize> {
        run("read", &self.path, || {
            self.check_readable()?;
            if !special::is_seekable(self.file_type()) {
                self.touch_atime();
                return special::read_stream(cx, &*self.reader()?, into, self.blocks());
            }
            let mut position = self.position.lock();
            let n = self.read_from(cx, into, position.offset)?;
            position.offset += n as u64;
            Ok(n)
        })
        .inspect(|n| self.moved(EventMask::ACCESS, *n))
    }

    fn check_readable(&self) -> Res<()> {
        if !self.is_readable() {
            return Err(Errno::EBADF.into());
        }
        Ok(())
    }

    pub(super) fn read_from(&self, cx: &Context<'_>, into: &mut [u8], offset: u64) -> Res<usize> {
        check_range(offset, into.len())?;
        if self.file_type() == FileType::Directory {
            return Err(Errno::EISDIR.into());
        }
        if into.is_empty() {
            return Ok(0);
        }
        // The size is the truth in these modes: no need to ask where there is nothing.
        let regular = self.file_type() == FileType::Regular;
        let authoritative = self.node.sb().mode.may_cache_metadata();
        if regular && authoritative && offset >= self.size(cx)? {
            return Ok(0);
        }
        let inode = self.node.inode();
        let n = match self.route() {
            Route::Direct => self.reader()?.read_at(cx, into, offset),
            Route::Cached(cache) => {
                let reading = Reading {
                    cx,
                    inode,
                    handle: &|| self.reader(),
                    size: &|| self.size(cx),
                };
                cache.read(&reading, into, offset, &self.ahead)
            }
            Route::Around(cache) => cache.read_around(cx, inode, &*self.reader()?, into, offset),
        };
        self.touch_atime();
        n
    }

    /// Which way data goes. It may change when the file is opened once more; for writes it stays
    /// as long as the inode's data lock is held.
    #[inline]
    pub(super) fn route(&self) -> Route<'_> {
        let inode = self.node.inode();
        match inode.cache() {
            Some(cache) if inode.is_cached() => match self.flags.contains(OpenFlags::DIRECT) {
                true => Route::Around(cache),
                false => Route::Cached(cache),
            },
            // Mapped cached pages in a mode that caches nothing else (`force_page_cache`).
            Some(cache) if cache.is_pinned() => Route::Around(cache),
            _ => Route::Direct,
        }
    }

    /// Locks the file's end for a write, and settles which way that goes.
    fn lock_ends(&self, appends: bool) -> (Ends<'_>, Route<'_>) {
        let data = &self.node.inode().open().data;
        if !appends {
            let held = data.read();
            let route = self.route();
            if !matches!(route, Route::Around(_)) {
                return (Ends::Shared { _held: held }, route);
            }
        }
        let held = data.write();
        (Ends::Exclusive { _held: held }, self.route())
    }

    pub(super) fn touch_atime(&self) {
        if !self.flags.contains(OpenFlags::NOATIME) {
            self.node.sb().touch_atime(self.node.inode());
        }
    }

    /// The size as it is known, unless that is in doubt.
    pub(super) fn size(&self, cx: &Context<'_>) -> Res<u64> {
        let inode = self.node.inode();
        let (size, doubtful) = {
            let meta = inode.meta();
            (meta.size(), meta.is_doubtful())
        };
        if doubtful {
            inode.refresh(cx, &*self.node.remote(), self.own.as_deref())?;
            return Ok(inode.attr().size);
        }
        Ok(size)
    }

    /// Writes at `offset`, in bytes, or at the end if opened to append. Returns how many bytes went;
    /// an error counts only if none did. `EFBIG` at [`Context::file_size_limit`], `ESPIPE` for fifos
    /// and sockets. In exclusive mode what replaces cached bytes may wait here: [`File::sync`]
    /// tells whether the server took it.
    pub fn write_at(&self, cx: &Context<'_>, from: &[u8], offset: u64) -> Result<usize> {
        run("write", &self.path, || {
            check_range(offset, 0)?;
            self.check_seekable()?;
            self.check_writable()?;
            Ok(self.write_to(cx, from, offset)?.0)
        })
        .inspect(|n| self.moved(EventMask::MODIFY, *n))
    }

    /// Writes pages that a cache above this has kept back: at `offset` whatever the file was opened
    /// for, since what they hold has its place already.
    pub fn write_back_at(&self, cx: &Context<'_>, from: &[u8], offset: u64) -> Result<usize> {
        run("write", &self.path, || {
            self.check_seekable()?;
            self.check_writable()?;
            Ok(self.place(cx, from, offset, false)?.0)
        })
        .inspect(|n| self.moved(EventMask::MODIFY, *n))
    }

    /// Writes where the file stands, or at the end if opened to append, and moves on behind what was
    /// written. To a fifo or socket, waits for room unless opened with `NONBLOCK` (`EAGAIN`);
    /// `EPIPE` without a reader, and no signal. Else as [`File::write_at`].
    pub fn write(&self, cx: &Context<'_>, from: &[u8]) -> Result<usize> {
        run("write", &self.path, || {
            self.check_writable()?;
            if !special::is_seekable(self.file_type()) {
                return self.write_special(cx, from);
            }
            let mut position = self.position.lock();
            let (n, end) = self.write_to(cx, from, position.offset)?;
            if n > 0 {
                position.offset = end;
            }
            Ok(n)
        })
        .inspect(|n| self.moved(EventMask::MODIFY, *n))
    }

    /// Data was moved, which those who watch the file are told.
    #[inline]
    pub(super) fn moved(&self, event: EventMask, n: usize) {
        if n > 0 {
            self.node.notify(event);
        }
    }

    /// Comes before the question what the file was opened for, as in Linux.
    fn check_seekable(&self) -> Res<()> {
        match self.is_path() || special::is_seekable(self.file_type()) {
            true => Ok(()),
            false => Err(Errno::ESPIPE.into()),
        }
    }

    pub(super) fn check_writable(&self) -> Res<()> {
        if self.is_writable() {
            Ok(())
        } else {
            Err(Errno::EBADF.into())
        }
    }

    fn write_special(&self, cx: &Context<'_>, from: &[u8]) -> Res<usize> {
        if let Some(now) = self.node.sb().stamp_of(&self.node) {
            self.node.inode().change(|meta| meta.touch_mtime(now));
        }
        special::write_stream(cx, &*self.writer()?, from, self.blocks())
    }

    /// Returns the bytes written and the offset after them.
    pub(super) fn write_to(&self, cx: &Context<'_>, from: &[u8], offset: u64) -> Res<(usize, u64)> {
        let regular = self.file_type() == FileType::Regular;
        let appends = self.flags.contains(OpenFlags::APPEND) && regular;
        self.place(cx, from, offset, appends)
    }

    /// Writes at `offset` or at the end (semantics 15.5, 16.6).
    fn place(
        &self,
        cx: &Context<'_>,
        from: &[u8],
        offset: u64,
        appends: bool,
    ) -> Res<(usize, u64)> {
        check_range(offset, from.len())?;
        if from.is_empty() {
            return Ok((0, offset));
        }
        let inode = self.node.inode();
        let (_ends, route) = self.lock_ends(appends);
        let handle = self.writer()?;
        let offset = if appends {
            self.end(cx, &handle)?
        } else {
            offset
        };
        let from = self.within_limit(cx, from, offset)?;
        inode.about_to_change();
        if let Some(now) = self.node.sb().stamp() {
            inode.update(|meta| meta.touch_mtime(now));
        }
        self.wrote.store(true, Ordering::Relaxed);
        let (n, stopped) = match route {
            Route::Direct => handle.write_at(cx, from, offset),
            Route::Cached(cache) => cache.write(cx, inode, &handle, from, offset),
            Route::Around(cache) => cache.write_around(cx, inode, &handle, from, offset),
        };
        let end = offset + n as u64;
        inode.change(|meta| {
            if inode.file_type == FileType::Regular && n > 0 {
                meta.grow(end, n as u64);
            }
            if stopped.is_some_and(Failure::is_uncertain) {
                meta.doubt();
            }
        });
        if n == 0 {
            return Err(stopped.unwrap_or(Errno::EIO.into()));
        }
        if self.flags.contains(OpenFlags::DSYNC) {
            if let Route::Cached(cache) = route {
                cache.write_back(cx, inode, offset..end)?;
            }
            handle.sync(cx, !self.flags.contains(OpenFlags::SYNC))?;
        }
        let mode = mode_after_write(cx.creds, &inode.attr());
        drop_privileges(cx, &self.node, mode);
        Ok((n, end))
    }

    /// Where the file ends now; in shared mode others may have moved that (semantics 15.5.3).
    fn end(&self, cx: &Context<'_>, handle: &Handle) -> Res<u64> {
        if !self.node.sb().mode.must_revalidate() {
            return self.size(cx);
        }
        if let Some(fd) = handle.host_fd() {
            let stat = rustix::fs::fstat(fd).map_err(Errno::from)?;
            return Ok(u64::try_from(stat.st_size).unwrap_or(0));
        }
        let attr = handle.remote.attr(&cx.call(), AttrMask::SIZE)?;
        if !attr.mask.contains(AttrMask::SIZE) || attr.size > OFFSET_MAX {
            return Err(Errno::EIO.into());
        }
        Ok(attr.size)
    }

    /// The part of `from` that a file may take at `offset` (semantics 12.7).
    fn within_limit<'b>(&self, cx: &Context<'_>, from: &'b [u8], offset: u64) -> Res<&'b [u8]> {
        let limit = match self.file_type() {
            FileType::Regular => cx.file_size_limit.min(OFFSET_MAX),
            _ => OFFSET_MAX,
        };
        if offset >= limit {
            return Err(Errno::EFBIG.into());
        }
        let room = usize::try_from(limit - offset).unwrap_or(usize::MAX);
        Ok(from.get(..room).unwrap_or(from))
    }
}
