//! Copying between open files, as copy_file_range(2).

use super::data::Route;
use super::{File, OFFSET_MAX};
use crate::attr::FileType;
use crate::context::Context;
use crate::error::{Errno, Result};
use crate::filesystem::run;
use crate::flags::OpenFlags;
use crate::notify::EventMask;
use crate::permissions::mode_after_write;
use crate::superblock::Res;

/// The most bytes that one call copies, as in Linux.
const COPY_MAX: u64 = 0x7fff_f000;

impl File {
    /// Copies `len` bytes at `offset` of this file to `to_offset` of `to`; fewer at the end of
    /// this file, or if something goes wrong after some. The host copies where it gave
    /// descriptors of both away, else the bytes pass through a buffer.
    ///
    /// `EXDEV` if the files are of two filesystems, `EINVAL` for ranges of one file that overlap
    /// and for files that are not regular, `EBADF` if `to` is open to append.
    pub fn copy_range(
        &self,
        cx: &Context<'_>,
        offset: u64,
        to: &File,
        to_offset: u64,
        len: u64,
    ) -> Result<u64> {
        run("copy_file_range", &self.path, || {
            let len = self.check_copy(cx, offset, to, to_offset, len)?;
            let copied = self.copy(cx, offset, to, to_offset, len)?;
            if copied > 0 {
                self.moved(EventMask::ACCESS, 1);
                to.moved(EventMask::MODIFY, 1);
            }
            Ok(copied)
        })
    }

    /// In Linux's order; returns how much is to be copied.
    fn check_copy(
        &self,
        cx: &Context<'_>,
        offset: u64,
        to: &File,
        to_offset: u64,
        len: u64,
    ) -> Res<u64> {
        let files = [self, to];
        if files.iter().any(|file| file.is_path()) {
            return Err(Errno::EBADF.into());
        }
        if files
            .iter()
            .any(|file| file.file_type() == FileType::Directory)
        {
            return Err(Errno::EISDIR.into());
        }
        if files
            .iter()
            .any(|file| file.file_type() != FileType::Regular)
        {
            return Err(Errno::EINVAL.into());
        }
        if !self.is_readable() || !to.is_writable() || to.flags.contains(OpenFlags::APPEND) {
            return Err(Errno::EBADF.into());
        }
        if !std::sync::Arc::ptr_eq(self.node.sb(), to.node.sb()) {
            return Err(Errno::EXDEV.into());
        }
        if offset.checked_add(len).is_none() || to_offset.checked_add(len).is_none() {
            return Err(Errno::EOVERFLOW.into());
        }
        if offset > OFFSET_MAX || to_offset > OFFSET_MAX {
            return Err(Errno::EINVAL.into());
        }
        let size = self.fresh_size(cx)?;
        let len = len.min(size.saturating_sub(offset)).min(COPY_MAX);
        let limit = cx.file_size_limit.min(OFFSET_MAX);
        if to_offset >= limit {
            return Err(Errno::EFBIG.into());
        }
        let len = len.min(limit - to_offset);
        let same = std::sync::Arc::ptr_eq(self.node.inode(), to.node.inode());
        if same && offset < to_offset + len && to_offset < offset + len {
            return Err(Errno::EINVAL.into());
        }
        Ok(len)
    }

    fn copy(&self, cx: &Context<'_>, offset: u64, to: &File, to_offset: u64, len: u64) -> Res<u64> {
        let mut done = 0;
        let mut on_host = true;
        while done < len {
            let (from_at, to_at, left) = (offset + done, to_offset + done, len - done);
            let step = match on_host {
                true => self.copy_on_host(cx, from_at, to, to_at, left),
                false => self.copy_by_buffer(cx, from_at, to, to_at, left).map(Some),
            };
            match step {
                Ok(None) => on_host = false,
                Ok(Some(0)) => break,
                Ok(Some(n)) => done += n,
                Err(failure) if done == 0 => return Err(failure),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// `None` where the host cannot do it.
    fn copy_on_host(
        &self,
        cx: &Context<'_>,
        offset: u64,
        to: &File,
        to_offset: u64,
        len: u64,
    ) -> Res<Option<u64>> {
        let (from, into) = (self.reader()?, to.writer()?);
        let (Some(from_fd), Some(into_fd)) = (from.host_fd(), into.host_fd()) else {
            return Ok(None);
        };
        let inode = to.node.inode();
        let _end = inode.open().data.read();
        if !matches!((self.route(), to.route()), (Route::Direct, Route::Direct)) {
            return Ok(None);
        }
        crate::locks::assert_may_call();
        inode.about_to_change();
        let (mut from_at, mut to_at) = (offset, to_offset);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let copied = rustix::fs::copy_file_range(
            from_fd,
            Some(&mut from_at),
            into_fd,
            Some(&mut to_at),
            len,
        );
        // Whatever keeps the host from it does not keep a buffer from it.
        let Ok(n) = copied else {
            return Ok(None);
        };
        let n = n as u64;
        if n == 0 {
            return Ok(None);
        }
        from.count_host_read();
        into.count_host_write();
        to.wrote.store(true, std::sync::atomic::Ordering::Relaxed);
        let now = to.node.sb().stamp();
        inode.change(|meta| {
            meta.grow(to_offset + n, n);
            if let Some(now) = now {
                meta.touch_mtime(now);
            }
        });
        self.touch_atime();
        let mode = mode_after_write(cx.creds, &inode.attr());
        super::drop_privileges(cx, &to.node, mode);
        Ok(Some(n))
    }

    fn copy_by_buffer(
        &self,
        cx: &Context<'_>,
        offset: u64,
        to: &File,
        to_offset: u64,
        len: u64,
    ) -> Res<u64> {
        let mut buffer = self.node.sb().pages.buffer();
        let room = usize::try_from(len)
            .unwrap_or(usize::MAX)
            .min(buffer.bytes.len());
        let bytes = buffer.bytes.get_mut(..room).unwrap_or_default();
        let n = self.read_from(cx, bytes, offset)?;
        let bytes = bytes.get(..n).unwrap_or_default();
        Ok(to.write_to(cx, bytes, to_offset)?.0 as u64)
    }
}
