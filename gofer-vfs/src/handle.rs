//! Files opened on the server: one [`Handle`] each, and the pair an inode shares between all
//! its open file descriptions ([`SharedHandles`]).

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::attr::{Attr, AttrMask};
use crate::context::{Context, unattended_call};
use crate::error::Errno;
use crate::flags::Access;
use crate::locks::{self, HANDLES, REGISTRY};
use crate::remote::{OpenMode, Promptness, RemoteFile, RemoteHandle};
use crate::socket::Connection;
use crate::superblock::{Failure, Res, Superblock};
use crate::synthetic::PipeEnd;

/// A handle of the server, with the descriptor that came with it if any.
pub(crate) struct Handle {
    pub(crate) remote: Arc<dyn RemoteHandle>,
    pub(crate) access: Access,
    /// Names it in the superblock's list of handles to sync.
    serial: u64,
    /// Close it at once: somebody may wait for what that frees (semantics 4.9).
    prompt: AtomicBool,
    /// Taken out of a fifo and not read yet.
    pushed_back: locks::Mutex<Vec<u8>, REGISTRY>,
    sb: Arc<Superblock>,
}

impl Handle {
    /// Wraps a handle that was just opened.
    pub(crate) fn new(
        sb: &Arc<Superblock>,
        remote: Arc<dyn RemoteHandle>,
        access: Access,
    ) -> Arc<Handle> {
        sb.counters.remote_opens.one();
        let handle = Arc::new(Handle {
            remote,
            access,
            serial: sb.next_serial(),
            prompt: AtomicBool::new(sb.mode.close_promptly()),
            pushed_back: locks::Mutex::new(Vec::new()),
            sb: sb.clone(),
        });
        // What the server does not know it cannot bring to stable storage either.
        if access.can_write() && !handle.is_local() {
            sb.register_writable(handle.serial, &handle);
        }
        handle
    }

    /// Whether the server knows nothing of it.
    fn is_local(&self) -> bool {
        let any: &dyn std::any::Any = &*self.remote;
        any.is::<PipeEnd>() || any.is::<Connection>()
    }

    /// The end of a synthetic fifo that this is.
    pub(crate) fn pipe_end(&self) -> Option<&PipeEnd> {
        let any: &dyn std::any::Any = &*self.remote;
        any.downcast_ref()
    }

    /// Opens `file` on the server.
    pub(crate) fn open(
        sb: &Arc<Superblock>,
        cx: &Context<'_>,
        file: &dyn RemoteFile,
        access: Access,
        truncate: bool,
    ) -> Res<Arc<Handle>> {
        let remote = file.open(&cx.call(), OpenMode { access, truncate })?;
        tracing::trace!(?access, donated = remote.host_fd().is_some(), "open");
        Ok(Handle::new(sb, remote, access))
    }

    /// A number of its own.
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// Puts back what was taken out: it is read before anything else.
    pub(crate) fn push_back(&self, data: &[u8]) {
        let mut kept = self.pushed_back.lock();
        let mut data = data.to_vec();
        data.append(&mut kept);
        *kept = data;
    }

    /// Reads what was put back; `None` if there is nothing.
    pub(crate) fn take_back(&self, into: &mut [u8]) -> Option<usize> {
        let mut kept = self.pushed_back.lock();
        let n = kept.len().min(into.len());
        for (to, from) in into.iter_mut().zip(kept.drain(..n)) {
            *to = from;
        }
        (n > 0).then_some(n)
    }

    /// Whether something was put back and not read yet.
    pub(crate) fn has_back(&self) -> bool {
        !self.pushed_back.lock().is_empty()
    }

    pub(crate) fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        self.remote.host_fd()
    }

    /// Counts a read from the donated descriptor that does not go through here.
    pub(crate) fn count_host_read(&self) {
        self.sb.counters.host_reads.one();
    }

    /// Counts a write to the donated descriptor that does not go through here.
    pub(crate) fn count_host_write(&self) {
        self.sb.counters.host_writes.one();
    }

    /// Has it closed at once rather than with others.
    pub(crate) fn close_promptly(&self) {
        self.prompt.store(true, Ordering::Relaxed);
    }

    /// Reads at `offset` from the donated descriptor, else from the server. Fewer bytes than
    /// asked are the end of the file; an error after some bytes is left for the next read.
    pub(crate) fn read_at(&self, cx: &Context<'_>, into: &mut [u8], offset: u64) -> Res<usize> {
        match self.read_vectored(cx, &mut [IoSliceMut::new(into)], offset) {
            (0, Some(failure)) => Err(failure),
            (n, _) => Ok(n),
        }
    }

    /// As [`Handle::read_at`], into several buffers with one call: how many bytes came, and what
    /// stopped them if it was not the end of the file.
    pub(crate) fn read_vectored(
        &self,
        cx: &Context<'_>,
        into: &mut [IoSliceMut<'_>],
        offset: u64,
    ) -> (usize, Option<Failure>) {
        locks::assert_may_call();
        if let Some(fd) = self.host_fd() {
            self.sb.counters.host_reads.one();
            return read_host(fd, into, offset);
        }
        self.sb.counters.remote_reads.one();
        let moved = self.remote.read_at(&cx.call(), into, offset);
        let asked = into.iter().map(|part| part.len()).sum();
        (moved.n.min(asked), moved.error.map(Into::into))
    }

    /// Writes at `offset` to the donated descriptor, else to the server: how many bytes went,
    /// and what stopped them.
    pub(crate) fn write_at(
        &self,
        cx: &Context<'_>,
        from: &[u8],
        offset: u64,
    ) -> (usize, Option<Failure>) {
        locks::assert_may_call();
        if let Some(fd) = self.host_fd() {
            self.sb.counters.host_writes.one();
            return match all_of(from.len(), |done| {
                rustix::io::pwrite(fd, &from[done..], offset + done as u64)
            }) {
                Ok(n) => (n, None),
                Err(failure) => (0, Some(failure)),
            };
        }
        self.sb.counters.remote_writes.one();
        let moved = self
            .remote
            .write_at(&cx.call(), &[IoSlice::new(from)], offset);
        (moved.n, moved.error.map(Into::into))
    }

    /// Attributes of the open file.
    pub(crate) fn attr(&self, cx: &Context<'_>) -> Res<Attr> {
        Ok(self.remote.attr(&cx.call(), AttrMask::all())?)
    }

    /// fsync or fdatasync, on the donated descriptor if there is one (semantics 20.3).
    pub(crate) fn sync(&self, cx: &Context<'_>, data_only: bool) -> Res<()> {
        locks::assert_may_call();
        if let Some(fd) = self.host_fd() {
            let synced = if data_only {
                rustix::fs::fdatasync(fd)
            } else {
                rustix::fs::fsync(fd)
            };
            return synced.map_err(|errno| Errno::from(errno).into());
        }
        Ok(self.remote.sync(&cx.call(), data_only)?)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.access.can_write() {
            self.sb.unregister_writable(self.serial);
        }
        // At the end of everything closes go together, and nobody waits for each.
        if self.prompt.load(Ordering::Relaxed) && !self.sb.is_unmounted() {
            let closed = self.remote.close(&unattended_call(), Promptness::Prompt);
            if let Err(error) = closed {
                tracing::debug!(errno = %error.errno, "closing a handle failed");
            }
        }
    }
}

/// Repeats `step` (given the bytes done so far) until `len` bytes are moved or none are. An
/// error counts only if nothing was moved before it.
fn all_of(len: usize, mut step: impl FnMut(usize) -> rustix::io::Result<usize>) -> Res<usize> {
    let mut done = 0;
    while done < len {
        match step(done) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) if done > 0 => break,
            Err(errno) => return Err(Errno::from(errno).into()),
        }
    }
    Ok(done)
}

/// Reads from a donated descriptor until all is there or the file ends.
fn read_host(
    fd: BorrowedFd<'_>,
    mut into: &mut [IoSliceMut<'_>],
    offset: u64,
) -> (usize, Option<Failure>) {
    let mut done = 0;
    loop {
        if into.iter().all(|part| part.is_empty()) {
            return (done, None);
        }
        match rustix::io::preadv(fd, into, offset + done as u64) {
            Ok(0) => return (done, None),
            Ok(n) => {
                done += n;
                IoSliceMut::advance_slices(&mut into, n);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return (done, Some(Errno::from(errno).into())),
        }
    }
}

/// The handles all descriptions of an inode share: one for reading and one for writing, often
/// the same (semantics 15.1). Closed only when the inode goes.
#[derive(Default)]
pub(crate) struct Pair {
    pub(crate) read: Option<Arc<Handle>>,
    pub(crate) write: Option<Arc<Handle>>,
}

impl Pair {
    /// A handle that can do all of `access`.
    fn covering(&self, access: Access) -> Option<&Arc<Handle>> {
        match access {
            Access::Read => self.read.as_ref(),
            Access::Write => self.write.as_ref(),
            Access::ReadWrite => self.write.as_ref().filter(|one| one.access.can_read()),
        }
    }

    /// What is open, together with `access`.
    fn union(&self, access: Access) -> Access {
        let read = self.read.is_some() || access.can_read();
        let write = self.write.is_some() || access.can_write();
        match (read, write) {
            (true, true) => Access::ReadWrite,
            (false, true) => Access::Write,
            _ => Access::Read,
        }
    }

    /// Whether `new`, which was opened to truncate, can do no more than a handle that is here.
    /// What comes with a descriptor can.
    fn makes_surplus(&self, new: &Handle) -> bool {
        let covering = self.covering(new.access);
        covering.is_some_and(|old| old.host_fd().is_some() && new.host_fd().is_none())
    }

    /// The handle by whose descriptor everything goes that the file is open for.
    fn coherent(&self) -> Option<&Arc<Handle>> {
        let one = match (&self.read, &self.write) {
            (Some(read), Some(write)) if !Arc::ptr_eq(read, write) => return None,
            (read, write) => read.as_ref().or(write.as_ref())?,
        };
        one.host_fd().is_some().then_some(one)
    }

    /// Puts `new` in every role it can play; returns what it replaces, to be dropped unlocked.
    #[must_use]
    fn install(&mut self, new: &Arc<Handle>) -> Pair {
        let mut old = Pair::default();
        if new.access.can_read() {
            old.read = self.read.replace(new.clone());
        }
        if new.access.can_write() {
            old.write = self.write.replace(new.clone());
        }
        old
    }
}

/// See [`Pair`].
#[derive(Default)]
pub(crate) struct SharedHandles(locks::Mutex<Pair, HANDLES>);

impl SharedHandles {
    pub(crate) fn reader(&self) -> Option<Arc<Handle>> {
        self.0.lock().read.clone()
    }

    pub(crate) fn writer(&self) -> Option<Arc<Handle>> {
        self.0.lock().write.clone()
    }

    /// Any open handle, the writing one first.
    pub(crate) fn any(&self) -> Option<Arc<Handle>> {
        let pair = self.0.lock();
        pair.write.as_ref().or(pair.read.as_ref()).cloned()
    }

    /// The one handle for everything the file is open for, if a descriptor came with it.
    pub(crate) fn coherent(&self) -> Option<Arc<Handle>> {
        self.0.lock().coherent().cloned()
    }

    pub(crate) fn install(&self, new: &Arc<Handle>) {
        let old = self.0.lock().install(new);
        drop(old);
    }

    /// Takes the handles out, for the end of the inode.
    pub(crate) fn take(&self) -> Pair {
        std::mem::take(&mut self.0.lock())
    }

    /// A handle for `access`, one that is open already if possible. A new one is opened for
    /// everything the inode is open for, so that one handle serves all; if the server refuses
    /// that, for `access` alone. Opening with truncation always asks the server.
    ///
    /// Two callers may open at the same time; the second handle to arrive is surplus unless it
    /// can do more, and is closed.
    pub(crate) fn acquire(
        &self,
        sb: &Arc<Superblock>,
        cx: &Context<'_>,
        file: &dyn RemoteFile,
        access: Access,
        truncate: bool,
    ) -> Res<()> {
        let union = {
            let pair = self.0.lock();
            if !truncate && pair.covering(access).is_some() {
                return Ok(());
            }
            pair.union(access)
        };
        let new = match Handle::open(sb, cx, file, union, truncate) {
            Err(error) if error.errno() == Errno::EACCES && union != access => {
                Handle::open(sb, cx, file, access, truncate)?
            }
            other => other?,
        };
        let mut pair = self.0.lock();
        let surplus = match truncate {
            false => pair.covering(new.access).is_some(),
            true => pair.makes_surplus(&new),
        };
        let old = if surplus {
            Pair::default()
        } else {
            pair.install(&new)
        };
        drop(pair);
        drop(old);
        Ok(())
    }
}
