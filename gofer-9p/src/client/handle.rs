//! An open file: an open fid, and perhaps a descriptor of the host's.

use std::io::{IoSlice, IoSliceMut};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::OnceLock;

use gofer_vfs::remote::{
    Call, DirEntry, DirPos, FileLock, LockKind, Moved, Promptness, RemoteError, RemoteHandle,
    RemoteResult,
};
use gofer_vfs::{Access, AllocMode, Attr, AttrMask, Errno, FileType};
use parking_lot::Mutex;
use rustix::fs::OFlags;

use super::convert;
use super::fid::OwnedFid;
use super::file::File;
use super::listing::Ahead;
use super::session::Session;
use crate::wire::{
    Fid, Level, LockFlags, LockStatus, LockType, Tallocate, Tflushf, Tfsync, Tgetlock, Tlock,
};

/// An open file.
pub(super) struct Handle {
    fid: OwnedFid,
    /// Most bytes of one read or write.
    pub(super) io_size: usize,
    /// Whether pieces may be moved in any order, and a short read just means: ask again.
    pub(super) regular: bool,
    fd: Option<OwnedFd>,
    /// The part of a listing that was asked for ahead.
    pub(super) ahead: Mutex<Option<Ahead>>,
}

impl Handle {
    pub(super) fn new(
        fid: OwnedFid,
        file_type: FileType,
        access: Access,
        iounit: u32,
        fd: Option<OwnedFd>,
    ) -> Handle {
        let payload = fid.session().payload();
        let io_size = if iounit == 0 {
            payload
        } else {
            iounit.min(payload)
        };
        Handle {
            fid,
            io_size: io_size as usize,
            regular: file_type == FileType::Regular,
            fd: fd.filter(|fd| is_trusted(fd, file_type, access)),
            ahead: Mutex::new(None),
        }
    }

    pub(super) fn fid(&self) -> Fid {
        self.fid.get()
    }

    /// The fid of a handle of this connection; `ESTALE` for one of an earlier connection, else
    /// `EXDEV`.
    pub(super) fn fid_in(handle: Option<&Handle>, session: &Arc<Session>) -> RemoteResult<Fid> {
        let handle = handle.ok_or(RemoteError::not_sent(Errno::EXDEV))?;
        match Arc::ptr_eq(handle.session(), session) {
            true => Ok(handle.fid()),
            false => Err(session.mismatch(handle.session())),
        }
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        self.fid.session()
    }

    fn send_lock(&self, call: &Call<'_>, lock: &FileLock) -> RemoteResult<()> {
        let request = Tlock {
            fid: self.fid(),
            r#type: lock_type(lock.kind),
            flags: LockFlags::empty(),
            start: lock.start,
            length: lock.length,
            proc_id: lock.owner,
            client_id: client_id(),
        };
        match self.session().call(call, request, |reply| reply.status)? {
            LockStatus::SUCCESS => Ok(()),
            LockStatus::BLOCKED => Err(RemoteError::refused(Errno::EAGAIN)),
            _ => Err(RemoteError::refused(Errno::ENOLCK)),
        }
    }
}

/// A donated descriptor is used only when it is what the handle is, opened for just this access
/// (9P 10.2): a regular file, or a fifo that never blocks, since waiting for one must not hang.
fn is_trusted(fd: &OwnedFd, file_type: FileType, access: Access) -> bool {
    let is = rustix::fs::fstat(fd)
        .ok()
        .and_then(|stat| FileType::from_mode(stat.st_mode));
    let mode = match access {
        Access::Read => OFlags::RDONLY,
        Access::Write => OFlags::WRONLY,
        Access::ReadWrite => OFlags::RDWR,
    };
    let Ok(flags) = rustix::fs::fcntl_getfl(fd) else {
        return false;
    };
    let fits = match is {
        Some(FileType::Regular) => file_type != FileType::Fifo,
        Some(FileType::Fifo) => file_type == FileType::Fifo && flags.contains(OFlags::NONBLOCK),
        _ => false,
    };
    // O_PATH descriptors say RDONLY, too, and cannot be read.
    let usable = flags & OFlags::ACCMODE == mode && !flags.contains(OFlags::PATH);
    fits && usable
}

/// Our name as an owner of locks.
fn client_id() -> &'static [u8] {
    static NAME: OnceLock<Vec<u8>> = OnceLock::new();
    NAME.get_or_init(|| rustix::system::uname().nodename().to_bytes().to_vec())
}

fn lock_type(kind: LockKind) -> LockType {
    match kind {
        LockKind::Read => LockType::READ,
        LockKind::Write => LockType::WRITE,
        LockKind::Unlock => LockType::UNLOCK,
    }
}

impl RemoteHandle for Handle {
    fn read_at(&self, call: &Call<'_>, into: &mut [IoSliceMut<'_>], offset: u64) -> Moved {
        self.read_all(call, into, offset)
    }

    fn write_at(&self, call: &Call<'_>, from: &[IoSlice<'_>], offset: u64) -> Moved {
        self.write_all(call, from, offset)
    }

    fn read_dir(
        &self,
        call: &Call<'_>,
        from: DirPos,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> RemoteResult<bool> {
        self.list(call, from.0, each)
    }

    fn attr(&self, call: &Call<'_>, want: AttrMask) -> RemoteResult<Attr> {
        File::getattr(self.session(), call, self.fid(), want)
    }

    fn flush(&self, call: &Call<'_>) -> RemoteResult<()> {
        match self.session().has(Level::Flushf) {
            true => self
                .session()
                .call(call, Tflushf { fid: self.fid() }, |_| ()),
            false => Ok(()),
        }
    }

    fn sync(&self, call: &Call<'_>, data_only: bool) -> RemoteResult<()> {
        let request = Tfsync {
            fid: self.fid(),
            datasync: Some(u32::from(data_only)),
        };
        self.session().call(call, request, |_| ())
    }

    fn allocate(
        &self,
        call: &Call<'_>,
        mode: AllocMode,
        offset: u64,
        len: u64,
    ) -> RemoteResult<()> {
        if !self.session().has(Level::Allocate) {
            return Err(RemoteError::not_sent(Errno::EOPNOTSUPP));
        }
        let request = Tallocate {
            fid: self.fid(),
            mode: mode.bits(),
            offset,
            length: len,
        };
        self.session().call(call, request, |_| ())
    }

    fn seek_data(&self, _call: &Call<'_>, _offset: u64, _hole: bool) -> RemoteResult<u64> {
        // 9P has no message for it.
        Err(RemoteError::not_sent(Errno::EOPNOTSUPP))
    }

    fn lock(&self, call: &Call<'_>, lock: &FileLock) -> RemoteResult<()> {
        self.send_lock(call, lock).map_err(convert::unsupported)
    }

    fn test_lock(&self, call: &Call<'_>, lock: &FileLock) -> RemoteResult<Option<FileLock>> {
        let request = Tgetlock {
            fid: self.fid(),
            r#type: lock_type(lock.kind),
            start: lock.start,
            length: lock.length,
            proc_id: lock.owner,
            client_id: client_id(),
        };
        let found = self.session().call(call, request, |reply| {
            let kind = match reply.r#type {
                LockType::UNLOCK => return Ok(None),
                LockType::READ => LockKind::Read,
                LockType::WRITE => LockKind::Write,
                _ => return Err(RemoteError::refused(Errno::EIO)),
            };
            let (start, length, owner) = (reply.start, reply.length, reply.proc_id);
            Ok(Some(FileLock {
                kind,
                start,
                length,
                owner,
            }))
        });
        found.and_then(|found| found).map_err(convert::unsupported)
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    fn close(&self, call: &Call<'_>, when: Promptness) -> RemoteResult<()> {
        match when {
            Promptness::Batched => self.fid.release(when),
            Promptness::Prompt => {
                if let Some(fid) = self.fid.disown() {
                    return self.session().clunk_now(call, fid);
                }
            }
        }
        Ok(())
    }
}
