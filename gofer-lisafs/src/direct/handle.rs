//! An open file.

use std::any::Any;
use std::io::{IoSlice, IoSliceMut};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use gofer_vfs::remote::{
    Call, DirEntry, DirPos, FileKey, FileLock, Moved, OpenMode, Promptness, RemoteError,
    RemoteHandle, RemoteResult,
};
use gofer_vfs::{Access, AllocMode, Attr, AttrMask, Errno, FileType};
use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::retry_on_intr;

use super::file::DirectFile;
use super::host::{self, refused};
use super::listing::Listing;
use super::{Tree, attr};
use crate::client::donated;

/// A file with a descriptor of its own. Closed when it is dropped.
pub(super) struct DirectHandle {
    pub(super) tree: Arc<Tree>,
    pub(super) fd: OwnedFd,
    pub(super) key: FileKey,
    pub(super) access: Access,
    file_type: FileType,
    listing: Mutex<Listing>,
}

impl DirectHandle {
    /// Takes over `fd`, which has `file` open for `access`.
    pub(super) fn new(file: &DirectFile, fd: OwnedFd, access: Access) -> DirectHandle {
        DirectHandle {
            tree: file.tree.clone(),
            fd,
            key: file.key,
            access,
            file_type: file.file_type,
            listing: Mutex::default(),
        }
    }

    /// Opens `file`. Devices are `EPERM`, as servers have it (lisafs 9.6).
    pub(super) fn open(file: &DirectFile, mode: OpenMode) -> host::Result<DirectHandle> {
        use rustix::io::Errno;
        // O_NONBLOCK: do not wait for the other end of a fifo, or for the holder of a lease.
        let mut flags = OFlags::from_bits_retain(mode.access.bits()) | OFlags::NONBLOCK;
        flags.set(OFlags::TRUNC, mode.truncate);
        match file.file_type {
            FileType::Regular | FileType::Fifo => {}
            FileType::Directory if mode.access.can_write() || mode.truncate => {
                return Err(Errno::ISDIR);
            }
            FileType::Directory => flags |= OFlags::DIRECTORY,
            FileType::Symlink => return Err(Errno::LOOP),
            FileType::Socket => return Err(Errno::NXIO),
            FileType::CharDevice | FileType::BlockDevice => return Err(Errno::PERM),
        }
        let fd = host::reopen(&file.fd, flags)?;
        Ok(DirectHandle::new(file, fd, mode.access))
    }

    /// `handle` as an open file of `tree`; any other is `EXDEV`.
    pub(super) fn of<'h>(
        tree: &Arc<Tree>,
        handle: &'h dyn RemoteHandle,
    ) -> RemoteResult<&'h DirectHandle> {
        let handle: &dyn Any = handle;
        handle
            .downcast_ref::<DirectHandle>()
            .filter(|handle| Arc::ptr_eq(tree, &handle.tree))
            .ok_or(RemoteError::not_sent(Errno::EXDEV))
    }
}

impl RemoteHandle for DirectHandle {
    fn read_at(&self, call: &Call<'_>, into: &mut [IoSliceMut<'_>], offset: u64) -> Moved {
        if let Err(error) = self.tree.admit(call) {
            return stopped(error);
        }
        if self.file_type == FileType::Fifo {
            return moved(retry_on_intr(|| rustix::io::readv(&self.fd, into)));
        }
        donated::read_at(self.fd.as_fd(), into, offset)
    }

    fn write_at(&self, call: &Call<'_>, from: &[IoSlice<'_>], offset: u64) -> Moved {
        if let Err(error) = self.tree.admit(call) {
            return stopped(error);
        }
        if self.file_type == FileType::Fifo {
            return moved(retry_on_intr(|| rustix::io::writev(&self.fd, from)));
        }
        donated::write_at(self.fd.as_fd(), from, offset)
    }

    fn read_dir(
        &self,
        call: &Call<'_>,
        from: DirPos,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> RemoteResult<bool> {
        self.tree.admit(call)?;
        if self.file_type != FileType::Directory {
            return Err(RemoteError::refused(Errno::ENOTDIR));
        }
        let mut listing = self.listing.lock();
        listing
            .read(&self.fd, self.key, from, each)
            .map_err(refused)
    }

    fn attr(&self, call: &Call<'_>, _want: AttrMask) -> RemoteResult<Attr> {
        self.tree.admit(call)?;
        attr::look(host::stat(&self.fd)).map(|(_, attr)| attr)
    }

    /// The host does what there is to do when the descriptor is closed.
    fn flush(&self, _call: &Call<'_>) -> RemoteResult<()> {
        Ok(())
    }

    fn sync(&self, call: &Call<'_>, data_only: bool) -> RemoteResult<()> {
        self.tree.admit(call)?;
        retry_on_intr(|| match data_only {
            true => rustix::fs::fdatasync(&self.fd),
            false => rustix::fs::fsync(&self.fd),
        })
        .map_err(refused)
    }

    fn allocate(
        &self,
        call: &Call<'_>,
        mode: AllocMode,
        offset: u64,
        len: u64,
    ) -> RemoteResult<()> {
        self.tree.admit(call)?;
        let mode = FallocateFlags::from_bits_retain(mode.bits());
        retry_on_intr(|| rustix::fs::fallocate(&self.fd, mode, offset, len)).map_err(refused)
    }

    fn seek_data(&self, call: &Call<'_>, offset: u64, hole: bool) -> RemoteResult<u64> {
        self.tree.admit(call)?;
        if self.file_type != FileType::Regular {
            return Err(RemoteError::refused(Errno::EOPNOTSUPP));
        }
        donated::seek_data(self.fd.as_fd(), offset, hole)
    }

    fn lock(&self, _call: &Call<'_>, _lock: &FileLock) -> RemoteResult<()> {
        Err(RemoteError::not_sent(Errno::EOPNOTSUPP))
    }

    fn test_lock(&self, _call: &Call<'_>, _lock: &FileLock) -> RemoteResult<Option<FileLock>> {
        Err(RemoteError::not_sent(Errno::EOPNOTSUPP))
    }

    /// Of what has data. A directory's own position belongs to its listing.
    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        matches!(self.file_type, FileType::Regular | FileType::Fifo).then(|| self.fd.as_fd())
    }

    /// Nothing is queued: dropping the handle closes its descriptor.
    fn close(&self, _call: &Call<'_>, _when: Promptness) -> RemoteResult<()> {
        Ok(())
    }
}

fn moved(result: host::Result<usize>) -> Moved {
    match result {
        Ok(n) => Moved { n, error: None },
        Err(errno) => stopped(refused(errno)),
    }
}

fn stopped(error: RemoteError) -> Moved {
    Moved {
        n: 0,
        error: Some(error),
    }
}
