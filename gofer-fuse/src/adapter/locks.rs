//! Locks that the server keeps (`locks=server`). Without that option the kernel is not asked to
//! pass them on, and keeps them itself.
//!
//! fuser does not say whether a request comes from flock(2) or from fcntl(2). Both are range
//! locks of an owner the kernel names, an open file for flock(2) and a process's table of files
//! for fcntl(2); as on NFS the two kinds see each other. What fcntl(2) may not ask for is
//! flock(2)'s: an exclusive lock through a file that cannot be written, a shared one through a
//! file that cannot be read.

use std::sync::Arc;

use fuser::{FileHandle, ReplyEmpty, ReplyLock, Request};
use gofer_vfs::{Context, Errno, File, LockKind, LockOwner, LockRange, RecordLock};

use super::{Adapter, Caller, Reply, empty};
use crate::convert;
use crate::requests::Waits;

/// `l_type` of `struct flock`.
const F_RDLCK: i32 = 0;
const F_WRLCK: i32 = 1;
const F_UNLCK: i32 = 2;

/// What the kernel asks for, in its words.
pub(super) struct Asked {
    owner: fuser::LockOwner,
    start: u64,
    /// The last byte, or the last that any file can have.
    end: u64,
    kind: i32,
    pid: u32,
}

impl Asked {
    pub(super) fn new(
        owner: fuser::LockOwner,
        [start, end]: [u64; 2],
        kind: i32,
        pid: u32,
    ) -> Asked {
        Asked {
            owner,
            start,
            end,
            kind,
            pid,
        }
    }

    fn lock(&self) -> Result<RecordLock, Errno> {
        let kind = match self.kind {
            F_RDLCK => LockKind::Read,
            F_WRLCK => LockKind::Write,
            F_UNLCK => LockKind::Unlock,
            _ => return Err(Errno::EINVAL),
        };
        let start = i64::try_from(self.start).map_err(|_| Errno::EINVAL)?;
        let length = match i64::try_from(self.end) {
            Ok(i64::MAX) | Err(_) => 0,
            Ok(end) => end
                .checked_sub(start)
                .filter(|more| *more >= 0)
                .ok_or(Errno::EINVAL)?
                .saturating_add(1),
        };
        Ok(RecordLock {
            kind,
            range: LockRange::new(start, length)?,
            owner: LockOwner::Process(self.owner.0),
            pid: self.pid,
        })
    }
}

impl Adapter {
    /// Sets or removes a lock. Whoever has to wait does so on a thread of its own, where nobody
    /// else waits to be served, and until a signal comes.
    pub(super) fn set_lock(
        &self,
        request: &Request,
        handle: FileHandle,
        asked: &Asked,
        wait: bool,
        reply: ReplyEmpty,
    ) {
        let lock = asked.lock().map_err(convert::errno);
        let tried = lock.and_then(|lock| {
            let file = self.file(handle)?;
            let caller = Caller::of(request);
            match self.run(request, |cx| set(cx, &file, &lock, false)) {
                Err(errno) if wait && errno.code() == Errno::EAGAIN.raw() => {
                    Ok(Some((file, lock, caller)))
                }
                done => done.map(|()| None),
            }
        });
        let (file, lock, caller) = match tried {
            Ok(Some(waits)) => waits,
            Ok(None) => return reply.ok(),
            Err(errno) => return reply.error(errno),
        };
        let requests = self.requests.clone();
        let waiting = move || {
            let done = caller.run(&requests, Waits::AnySignal, |cx| {
                set(cx, &file, &lock, true).map_err(convert::error)
            });
            // Before the caller can close it.
            drop(file);
            empty(reply, done);
        };
        let spawned = std::thread::Builder::new()
            .name("fuse-lock".to_owned())
            .spawn(waiting);
        if let Err(error) = spawned {
            // The caller has been told: the reply went with the closure.
            tracing::warn!(%error, "no thread to wait for a lock on");
        }
    }

    /// Tells of a lock that is in the way.
    pub(super) fn get_lock(
        &self,
        request: &Request,
        handle: FileHandle,
        asked: &Asked,
        reply: ReplyLock,
    ) {
        let lock = asked.lock().map_err(convert::errno);
        let found = lock.and_then(|lock| {
            let file = self.file(handle)?;
            self.run(request, |cx| file.get_lock(cx, &lock))
        });
        match found {
            Ok(Some(held)) => {
                let kind = match held.kind {
                    LockKind::Read => F_RDLCK,
                    _ => F_WRLCK,
                };
                let start = held.range.start();
                let end = match held.range.length() {
                    0 => i64::MAX.cast_unsigned(),
                    length => start + length - 1,
                };
                reply.locked(start, end, kind, held.pid);
            }
            Ok(None) => reply.locked(0, 0, F_UNLCK, 0),
            Err(errno) => reply.error(errno),
        }
    }

    /// What each close of a descriptor does to the locks of who closes it.
    pub(super) fn release_locks(
        &self,
        request: &Request,
        file: &File,
        owner: fuser::LockOwner,
    ) -> Reply<()> {
        match self.policy.locks {
            true => self.run(request, |cx| file.release_locks(cx, owner.0)),
            false => Ok(()),
        }
    }
}

fn set(cx: &Context<'_>, file: &Arc<File>, lock: &RecordLock, wait: bool) -> gofer_vfs::Result<()> {
    let whole = lock.range == LockRange::WHOLE;
    let access = file.flags().access_bits();
    let beyond = match lock.kind {
        LockKind::Read => access == 1,
        LockKind::Write => access == 0,
        LockKind::Unlock => false,
    };
    if whole && (beyond || lock.kind == LockKind::Unlock) {
        // It may hold the other kind.
        let unlock = RecordLock {
            kind: LockKind::Unlock,
            ..*lock
        };
        file.set_lock(cx, &unlock, false)?;
        return file.flock(cx, lock.kind, wait);
    }
    file.set_lock(cx, lock, wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(start: u64, end: u64, kind: i32) -> Asked {
        Asked::new(fuser::LockOwner(7), [start, end], kind, 1)
    }

    #[test]
    fn ranges_of_the_kernel_are_ranges_here() {
        let range = |start, end| asked(start, end, F_WRLCK).lock().map(|lock| lock.range);
        let last = i64::MAX.cast_unsigned();
        assert_eq!(range(0, last), Ok(LockRange::WHOLE));
        assert_eq!(range(5, 5), Ok(LockRange::new(5, 1).unwrap()));
        assert_eq!(range(5, last), Ok(LockRange::new(5, 0).unwrap()));
        assert_eq!(range(0, last - 1), Ok(LockRange::new(0, i64::MAX).unwrap()));
        assert_eq!(range(6, 5), Err(Errno::EINVAL));
        assert_eq!(range(u64::MAX, u64::MAX), Err(Errno::EINVAL));
        assert_eq!(asked(0, 0, 3).lock(), Err(Errno::EINVAL));
    }
}
