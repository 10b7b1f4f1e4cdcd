//! Seeking, also to where a file's data lies (semantics 15.10).

use super::{File, OFFSET_MAX};
use crate::attr::FileType;
use crate::context::Context;
use crate::error::{Errno, Result};
use crate::filesystem::run;
use crate::ops;
use crate::special;
use crate::superblock::{Failure, Res};

/// Where to seek to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whence {
    /// To this offset.
    Set(i64),
    /// By this much from where the file stands.
    Cur(i64),
    /// By this much from the end.
    End(i64),
    /// To the first data at or after this offset.
    Data(i64),
    /// To the first hole at or after this offset; the end of the file counts as one.
    Hole(i64),
}

impl File {
    /// Moves to another offset, in bytes, and returns it. Directories know `Set` and `Cur`, and count
    /// entries; setting to 0 makes the next read look again. `EINVAL` for negative offsets,
    /// `ENXIO` for data or a hole at or beyond the end, `ESPIPE` for fifos and sockets. Looking for
    /// data and holes writes back what is cached, and takes all for data where nobody can tell.
    pub fn seek(&self, cx: &Context<'_>, to: Whence) -> Result<u64> {
        run("lseek", &self.path, || self.seek_to(cx, to))
    }

    fn seek_to(&self, cx: &Context<'_>, to: Whence) -> Res<u64> {
        if self.is_path() {
            return Err(Errno::EBADF.into());
        }
        if !special::is_seekable(self.file_type()) {
            return Err(Errno::ESPIPE.into());
        }
        let mut position = self.position.lock();
        let directory = self.file_type() == FileType::Directory;
        let here = if directory {
            position.stream.offset
        } else {
            position.offset
        };
        let new = match to {
            Whence::Set(offset) => u64::try_from(offset).ok(),
            Whence::Cur(by) => here.checked_add_signed(by),
            _ if directory => None,
            Whence::End(by) => self.fresh_size(cx)?.checked_add_signed(by),
            Whence::Data(from) => Some(self.seek_data(cx, from, false)?),
            Whence::Hole(from) => Some(self.seek_data(cx, from, true)?),
        };
        let new = new.filter(|new| *new <= OFFSET_MAX).ok_or(Errno::EINVAL)?;
        if directory {
            let rewind = matches!(to, Whence::Set(_));
            position.stream.seek(new, rewind);
        } else {
            position.offset = new;
        }
        Ok(new)
    }

    pub(crate) fn fresh_size(&self, cx: &Context<'_>) -> Res<u64> {
        Ok(ops::fresh_stat(cx, &self.node, self.own.as_deref())?
            .attr
            .size)
    }

    /// The host or the server may know about holes; where not, all is data (semantics 15.10).
    fn seek_data(&self, cx: &Context<'_>, from: i64, hole: bool) -> Res<u64> {
        let size = self.fresh_size(cx)?;
        let from = u64::try_from(from).ok().filter(|from| *from < size);
        let from = from.ok_or(Errno::ENXIO)?;
        let inode = self.node.inode();
        let shared = || inode.any_handle();
        let Some(handle) = self.own.clone().or_else(shared) else {
            return Err(Errno::EBADF.into());
        };
        // What the server has not got yet it takes for a hole.
        if inode.write_back(cx).is_err() {
            return Ok(if hole { size } else { from });
        }
        let found: Res<u64> = match handle.host_fd() {
            Some(fd) => {
                let to = if hole {
                    rustix::fs::SeekFrom::Hole(from)
                } else {
                    rustix::fs::SeekFrom::Data(from)
                };
                rustix::fs::seek(fd, to).map_err(|errno| Errno::from(errno).into())
            }
            None => handle
                .remote
                .seek_data(&cx.call(), from, hole)
                .map_err(Failure::from),
        };
        match found {
            Err(failure) if failure.errno() == Errno::EOPNOTSUPP => {
                Ok(if hole { size } else { from })
            }
            found => found,
        }
    }
}
