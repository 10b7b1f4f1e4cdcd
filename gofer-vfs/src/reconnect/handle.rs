//! [`RemoteHandle`] over all connections: opened again, without truncating, on the first use
//! after a loss.

use std::any::Any;
use std::io::{IoSlice, IoSliceMut};
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::line::Line;
use super::locks::HeldLocks;
use super::place::{Place, Spot, Step};
use super::{is_lost, lasting_key};
use crate::attr::{Attr, AttrMask, FileType};
use crate::error::Errno;
use crate::flags::{Access, AllocMode};
use crate::remote::{
    Call, DirEntry, DirPos, Fate, FileLock, Moved, OpenMode, Promptness, RemoteError, RemoteHandle,
    RemoteResult,
};
use crate::sync;

/// Handles that are synced together.
const SYNC_MAX: usize = 32;

/// What stands for a handle on the connection of a generation.
type Bound = (u64, Arc<dyn RemoteHandle>);

/// See the module.
pub(super) struct Opened {
    line: Arc<Line>,
    spot: Arc<Spot>,
    access: Access,
    /// A request may be repeated: there are offsets.
    seekable: bool,
    /// As it was opened first. Its descriptor is the same file whatever becomes of connections.
    first: Arc<dyn RemoteHandle>,
    // No other lock is taken while this one is held.
    bound: sync::Mutex<Bound>,
    /// The generation of the listing that is being read: places in it mean nothing to another.
    listing: AtomicU64,
    locks: sync::Mutex<HeldLocks>,
    /// A lock could not be taken again.
    poisoned: AtomicBool,
    closed: AtomicBool,
    me: Weak<Opened>,
}

impl Opened {
    /// What `place` was opened as, on the connection of `generation`.
    pub(super) fn wrap(
        place: &Place,
        generation: u64,
        access: Access,
        handle: Arc<dyn RemoteHandle>,
    ) -> Arc<dyn RemoteHandle> {
        let seekable = matches!(place.file_type, FileType::Regular | FileType::Directory);
        Arc::new_cyclic(|me| Opened {
            line: place.line.clone(),
            spot: place.spot.clone(),
            access,
            seekable,
            bound: sync::Mutex::new((generation, handle.clone())),
            first: handle,
            listing: AtomicU64::new(generation),
            locks: sync::Mutex::default(),
            poisoned: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            me: me.clone(),
        })
    }

    /// An argument of the engine's; `EXDEV` if it is of another filesystem.
    pub(super) fn of<'h>(
        line: &Arc<Line>,
        handle: &'h dyn RemoteHandle,
    ) -> RemoteResult<&'h Opened> {
        (handle as &dyn Any)
            .downcast_ref::<Opened>()
            .filter(|opened| Arc::ptr_eq(&opened.line, line))
            .ok_or(RemoteError::not_sent(Errno::EXDEV))
    }

    /// The handle on the connection in use, opened again if need be.
    pub(super) fn bound(&self, call: &Call<'_>) -> Step<Bound> {
        let generation = self.line.generation();
        let bound = self.bound.lock().clone();
        let refused = |errno| (generation, RemoteError::refused(errno));
        if self.poisoned.load(Ordering::SeqCst) {
            return Err(refused(Errno::EIO));
        }
        if bound.0 == generation {
            return Ok(bound);
        }
        if self.closed.load(Ordering::SeqCst) {
            return Err(refused(Errno::EBADF));
        }
        let file = self.spot.file().ok_or(refused(Errno::ESTALE))?;
        let place = (&*file as &dyn Any).downcast_ref::<Place>();
        let (generation, file) = place.ok_or(refused(Errno::ESTALE))?.bound(call)?;
        let fail = |error| (generation, error);
        let mode = OpenMode {
            access: self.access,
            truncate: false,
        };
        let handle = file.open(call, mode).map_err(fail)?;
        let locks = self.locks.lock().clone();
        for lock in locks.iter() {
            match handle.lock(call, lock) {
                Err(error) if is_lost(error) => return Err(fail(error)),
                Err(_) => {
                    self.poisoned.store(true, Ordering::SeqCst);
                    return Err(refused(Errno::EIO));
                }
                Ok(()) => {}
            }
        }
        Ok(self.bind(generation, handle))
    }

    /// Takes on what was opened, unless somebody else was faster.
    fn bind(&self, generation: u64, handle: Arc<dyn RemoteHandle>) -> Bound {
        let mut bound = self.bound.lock();
        let old = match bound.0 >= generation {
            true => handle,
            false => std::mem::replace(&mut *bound, (generation, handle)).1,
        };
        let now = bound.clone();
        drop(bound);
        drop(old);
        now
    }

    /// Opens it again, once, for its locks.
    pub(super) fn reopen(&self, call: &Call<'_>) -> RemoteResult<()> {
        match self.closed.load(Ordering::SeqCst) {
            true => Ok(()),
            false => self.bound(call).map(drop).map_err(|(_, error)| error),
        }
    }

    /// Runs a request that may be sent any number of times.
    fn again<T>(
        &self,
        call: &Call<'_>,
        mut ask: impl FnMut(&dyn RemoteHandle) -> RemoteResult<T>,
    ) -> RemoteResult<T> {
        self.line.attempts(call).run(|| {
            let (generation, handle) = self.bound(call)?;
            ask(&*handle).map_err(|error| (generation, error))
        })
    }

    /// Moves data. What is repeated begins at the beginning, at the same offset; a stream has
    /// none, and what it may have moved is not moved again.
    fn transfer(&self, call: &Call<'_>, mut go: impl FnMut(&dyn RemoteHandle) -> Moved) -> Moved {
        let run = self.line.attempts(call).run(|| {
            let (generation, handle) = self.bound(call)?;
            let moved = go(&*handle);
            match moved.error {
                Some(error) if !is_lost(error) => Ok(moved),
                Some(error) if !self.seekable && (moved.n > 0 || error.fate == Fate::Unknown) => {
                    Ok(moved)
                }
                Some(error) => Err((generation, error)),
                None => Ok(moved),
            }
        });
        run.unwrap_or_else(|error| Moved {
            n: 0,
            error: Some(error),
        })
    }

    /// [`crate::remote::RemoteFilesystem::sync_all`].
    pub(super) fn sync_all(
        line: &Arc<Line>,
        call: &Call<'_>,
        handles: &[Arc<dyn RemoteHandle>],
        done: &mut dyn FnMut(usize, RemoteResult<()>),
    ) {
        for (chunk, handles) in handles.chunks(SYNC_MAX).enumerate() {
            Opened::sync_some(line, call, handles, &mut |index, result| {
                done(chunk * SYNC_MAX + index, result);
            });
        }
    }

    /// A few at a time: however often the connection is lost, something gets done.
    fn sync_some(
        line: &Arc<Line>,
        call: &Call<'_>,
        handles: &[Arc<dyn RemoteHandle>],
        done: &mut dyn FnMut(usize, RemoteResult<()>),
    ) {
        let mut left: Vec<usize> = (0..handles.len()).collect();
        let mut attempts = line.attempts(call);
        while !left.is_empty() {
            let mut bound = Vec::with_capacity(left.len());
            let mut lost: Vec<(usize, u64, RemoteError)> = Vec::new();
            for index in left.drain(..) {
                let handle = handles.get(index).ok_or(RemoteError::not_sent(Errno::EIO));
                let opened = handle.and_then(|handle| Opened::of(line, &**handle));
                match opened.map(|opened| opened.bound(call)) {
                    Ok(Ok((generation, handle))) => bound.push((index, generation, handle)),
                    Ok(Err((generation, error))) if is_lost(error) => {
                        lost.push((index, generation, error));
                    }
                    Ok(Err((_, error))) | Err(error) => done(index, Err(error)),
                }
            }
            let raw: Vec<_> = bound.iter().map(|(_, _, handle)| handle.clone()).collect();
            line.remote.sync_all(call, &raw, &mut |at, result| {
                let Some((index, generation, _)) = bound.get(at) else {
                    return;
                };
                match result {
                    Err(error) if is_lost(error) => lost.push((*index, *generation, error)),
                    result => done(*index, result),
                }
            });
            let Some((_, generation, error)) = lost.first().copied() else {
                return;
            };
            if let Err(error) = attempts.lost(generation, error) {
                lost.iter().for_each(|(index, ..)| done(*index, Err(error)));
                return;
            }
            left.extend(lost.iter().map(|(index, ..)| *index));
        }
    }
}

impl RemoteHandle for Opened {
    fn read_at(&self, call: &Call<'_>, into: &mut [IoSliceMut<'_>], offset: u64) -> Moved {
        self.transfer(call, |handle| handle.read_at(call, into, offset))
    }

    fn write_at(&self, call: &Call<'_>, from: &[IoSlice<'_>], offset: u64) -> Moved {
        self.transfer(call, |handle| handle.write_at(call, from, offset))
    }

    fn read_dir(
        &self,
        call: &Call<'_>,
        from: DirPos,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> RemoteResult<bool> {
        let begins = from == DirPos::default();
        let mut emitted = false;
        self.line.attempts(call).run(|| {
            let (generation, handle) = self.bound(call)?;
            if emitted || (!begins && self.listing.load(Ordering::SeqCst) != generation) {
                // The caller has to begin anew: that is for it to know, not for us to hide.
                return Ok(Err(RemoteError::refused(Errno::ESTALE)));
            }
            let more = handle.read_dir(call, from, &mut |entry| {
                emitted = true;
                each(DirEntry {
                    key: lasting_key(entry.key),
                    ..entry
                })
            });
            let more = more.map_err(|error| (generation, error))?;
            if begins {
                self.listing.store(generation, Ordering::SeqCst);
            }
            Ok(Ok(more))
        })?
    }

    fn attr(&self, call: &Call<'_>, want: AttrMask) -> RemoteResult<Attr> {
        self.again(call, |handle| handle.attr(call, want))
    }

    fn flush(&self, call: &Call<'_>) -> RemoteResult<()> {
        self.again(call, |handle| handle.flush(call))
    }

    fn sync(&self, call: &Call<'_>, data_only: bool) -> RemoteResult<()> {
        self.again(call, |handle| handle.sync(call, data_only))
    }

    fn allocate(
        &self,
        call: &Call<'_>,
        mode: AllocMode,
        offset: u64,
        len: u64,
    ) -> RemoteResult<()> {
        self.again(call, |handle| handle.allocate(call, mode, offset, len))
    }

    fn seek_data(&self, call: &Call<'_>, offset: u64, hole: bool) -> RemoteResult<u64> {
        self.again(call, |handle| handle.seek_data(call, offset, hole))
    }

    fn lock(&self, call: &Call<'_>, lock: &FileLock) -> RemoteResult<()> {
        self.again(call, |handle| handle.lock(call, lock))?;
        let holds = {
            let mut locks = self.locks.lock();
            locks.apply(lock);
            !locks.is_empty()
        };
        if holds {
            self.line.holds_lock(&self.me);
        }
        Ok(())
    }

    fn test_lock(&self, call: &Call<'_>, lock: &FileLock) -> RemoteResult<Option<FileLock>> {
        self.again(call, |handle| handle.test_lock(call, lock))
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        self.first.host_fd()
    }

    fn close(&self, call: &Call<'_>, when: Promptness) -> RemoteResult<()> {
        self.closed.store(true, Ordering::SeqCst);
        let (_, handle) = self.bound.lock().clone();
        match handle.close(call, when) {
            // The end of its connection has closed it.
            Err(error) if is_lost(error) => Ok(()),
            closed => closed,
        }
    }
}
