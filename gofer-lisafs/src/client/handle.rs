//! An open FD.

use std::any::Any;
use std::io::{IoSlice, IoSliceMut};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gofer_vfs::remote::{
    Call, DirEntry, DirPos, FileLock, Moved, Promptness, RemoteError, RemoteHandle, RemoteResult,
};
use gofer_vfs::{AllocMode, Attr, AttrMask, Errno, FileType};
use parking_lot::Mutex;

use super::communicator::Outgoing;
use super::connection::Connection;
use super::incoming::Scatter;
use super::listing::Listing;
use super::{convert, donated};
use crate::wire::{
    FAllocateReq, FStatReq, FSyncReq, Fdid, FlushReq, Message, Mid, PReadResp, PWriteReq,
};

/// Most data bytes of one message where there are channels. What one side puts into a window is
/// still in the processor's caches when the other takes it out, which saves more than further
/// round trips cost.
const CHANNEL_CHUNK: usize = 256 << 10;

/// An open FD that this client owns, and the host's descriptor of it, if one was donated.
pub(super) struct OpenFile {
    connection: Arc<Connection>,
    fd: Fdid,
    file_type: FileType,
    host_fd: Option<OwnedFd>,
    listing: Mutex<Listing>,
    closed: AtomicBool,
}

impl OpenFile {
    /// Takes over `fd`. 0 is `EIO`.
    pub(super) fn adopt(
        connection: &Arc<Connection>,
        fd: Fdid,
        file_type: FileType,
        host_fd: Option<OwnedFd>,
    ) -> RemoteResult<OpenFile> {
        if fd == Fdid::NONE {
            return Err(RemoteError::unknown(Errno::EIO));
        }
        connection.closes.hold();
        Ok(OpenFile {
            connection: connection.clone(),
            fd,
            file_type,
            host_fd,
            listing: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// `handle` as an open FD of `connection`; any other is `EXDEV`.
    pub(super) fn of<'h>(
        connection: &Arc<Connection>,
        handle: &'h dyn RemoteHandle,
    ) -> RemoteResult<&'h OpenFile> {
        let handle: &dyn Any = handle;
        handle
            .downcast_ref::<OpenFile>()
            .filter(|handle| Arc::ptr_eq(connection, &handle.connection))
            .ok_or(RemoteError::not_sent(Errno::EXDEV))
    }

    pub(super) fn fd(&self) -> Fdid {
        self.fd
    }

    /// The donated descriptor, where reading and writing at an offset work on it. It replaces
    /// PRead and PWrite (lisafs 10.7).
    fn data_fd(&self) -> Option<BorrowedFd<'_>> {
        self.host_fd()
            .filter(|_| self.file_type == FileType::Regular)
    }

    /// Most data bytes of one message beside `fixed` others.
    fn chunk(&self, fixed: usize) -> RemoteResult<usize> {
        match (self.connection.terms().max_message_size as usize).saturating_sub(fixed) {
            0 => Err(RemoteError::not_sent(Errno::EIO)),
            chunk if self.connection.channels() > 0 => Ok(chunk.min(CHANNEL_CHUNK)),
            chunk => Ok(chunk),
        }
    }

    fn read_remote(
        &self,
        call: &Call<'_>,
        into: &mut Scatter<'_, '_>,
        offset: u64,
        n: &mut usize,
    ) -> RemoteResult<()> {
        let chunk = self.chunk(PReadResp::MIN_SIZE)?;
        loop {
            let asked = into.room().min(chunk);
            if asked == 0 {
                return Ok(());
            }
            // An offset of -1 says "current position", and says so for every piece.
            let at = offset.saturating_add(*n as u64);
            let read = self
                .connection
                .read(call, (self.fd, at, asked as u32), into)?;
            *n += read;
            // A short piece is the end of the file (semantics 3.7).
            if read < asked {
                return Ok(());
            }
        }
    }

    fn write_remote(
        &self,
        call: &Call<'_>,
        from: &[IoSlice<'_>],
        offset: u64,
        n: &mut usize,
    ) -> RemoteResult<()> {
        let chunk = self.chunk(PWriteReq::MIN_SIZE)?;
        let mut from = Gather::new(from);
        loop {
            let mut parts = [IoSlice::new(&[]); Outgoing::DATA_PARTS_MAX];
            let (parts, asked) = from.next(chunk, &mut parts);
            if asked == 0 {
                return Ok(());
            }
            let at = offset.saturating_add(*n as u64);
            let written = self.connection.write(call, (self.fd, at), parts)?;
            // Nothing without an error must not be tried for ever, and more than was sent is
            // nonsense (semantics 3.7).
            let written = match usize::try_from(written) {
                Ok(written) if 0 < written && written <= asked => written,
                _ => return Err(RemoteError::unknown(Errno::EIO)),
            };
            *n += written;
            if written < asked {
                return Ok(());
            }
        }
    }
}

/// A caller's data, taken one piece after the other.
struct Gather<'s, 'd> {
    slices: &'s [IoSlice<'d>],
    /// Bytes of the first slice that were taken.
    taken: usize,
}

impl<'s, 'd> Gather<'s, 'd> {
    fn new(slices: &'s [IoSlice<'d>]) -> Gather<'s, 'd> {
        Gather { slices, taken: 0 }
    }

    /// Takes the next at most `limit` bytes, in as many parts as there is room for; the parts and
    /// how many bytes they are. 0 only at the end.
    fn next<'p>(
        &mut self,
        limit: usize,
        parts: &'p mut [IoSlice<'s>],
    ) -> (&'p [IoSlice<'s>], usize) {
        let (mut count, mut size) = (0, 0);
        while let (Some((first, others)), true) = (self.slices.split_first(), count < parts.len()) {
            let left = &first[self.taken..];
            let part = &left[..left.len().min(limit - size)];
            self.taken += part.len();
            if self.taken == first.len() {
                (self.slices, self.taken) = (others, 0);
            }
            if !part.is_empty() {
                parts[count] = IoSlice::new(part);
                (count, size) = (count + 1, size + part.len());
            }
            if size == limit {
                break;
            }
        }
        (&parts[..count], size)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if !self.closed.swap(true, Ordering::Relaxed) {
            self.connection.closes.give_up(self.fd, Promptness::Batched);
        }
    }
}

impl RemoteHandle for OpenFile {
    fn read_at(&self, call: &Call<'_>, into: &mut [IoSliceMut<'_>], offset: u64) -> Moved {
        if let Some(host) = self.data_fd() {
            return donated::read_at(host, into, offset);
        }
        let mut n = 0;
        let error = self
            .read_remote(call, &mut Scatter::new(into), offset, &mut n)
            .err();
        Moved { n, error }
    }

    fn write_at(&self, call: &Call<'_>, from: &[IoSlice<'_>], offset: u64) -> Moved {
        if let Some(host) = self.data_fd() {
            return donated::write_at(host, from, offset);
        }
        let mut n = 0;
        let error = self.write_remote(call, from, offset, &mut n).err();
        Moved { n, error }
    }

    fn read_dir(
        &self,
        call: &Call<'_>,
        from: DirPos,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> RemoteResult<bool> {
        self.listing
            .lock()
            .read(&self.connection, self.fd, call, from, each)
    }

    fn attr(&self, call: &Call<'_>, _want: AttrMask) -> RemoteResult<Attr> {
        self.connection
            .call(call, &FStatReq { fd: self.fd }, |response, _| {
                convert::attr(&response.stat).map_err(RemoteError::unknown)
            })
    }

    /// Where Flush is not listed there is nothing to be done (lisafs 10.2).
    fn flush(&self, call: &Call<'_>) -> RemoteResult<()> {
        if !self.connection.terms().supports(Mid::FLUSH) {
            return Ok(());
        }
        self.connection
            .call(call, &FlushReq { fd: self.fd }, |_, _| Ok(()))
    }

    /// The protocol does not know the difference between data and all (lisafs 6.10).
    fn sync(&self, call: &Call<'_>, _data_only: bool) -> RemoteResult<()> {
        self.connection
            .call(call, &FSyncReq { fds: &[self.fd] }, |_, _| Ok(()))
    }

    fn allocate(
        &self,
        call: &Call<'_>,
        mode: AllocMode,
        offset: u64,
        len: u64,
    ) -> RemoteResult<()> {
        let mode = mode.bits().into();
        let request = FAllocateReq {
            fd: self.fd,
            mode,
            offset,
            length: len,
        };
        self.connection.call(call, &request, |_, _| Ok(()))
    }

    /// The protocol has no message for it; a donated descriptor knows.
    fn seek_data(&self, _call: &Call<'_>, offset: u64, hole: bool) -> RemoteResult<u64> {
        let host = self
            .data_fd()
            .ok_or(RemoteError::not_sent(Errno::EOPNOTSUPP))?;
        donated::seek_data(host, offset, hole)
    }

    fn lock(&self, _call: &Call<'_>, _lock: &FileLock) -> RemoteResult<()> {
        Err(RemoteError::not_sent(Errno::EOPNOTSUPP))
    }

    fn test_lock(&self, _call: &Call<'_>, _lock: &FileLock) -> RemoteResult<Option<FileLock>> {
        Err(RemoteError::not_sent(Errno::EOPNOTSUPP))
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        self.host_fd.as_ref().map(AsFd::as_fd)
    }

    fn close(&self, call: &Call<'_>, when: Promptness) -> RemoteResult<()> {
        if self.closed.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        self.connection.closes.give_up(self.fd, when);
        match when {
            Promptness::Batched => Ok(()),
            // With everything that was collected before (lisafs 10.5).
            Promptness::Prompt => self.connection.flush_closes(call),
        }
    }
}
