//! Advisory file locks (semantics 18): ranges as of `fcntl(2)`, owned by processes or by open
//! file descriptions, and whole files as of `flock(2)`. The two kinds do not see each other.
//!
//! Locks are kept here, one set per inode. With the mount option `locks=server` each one is
//! asked of the server as well, after it was granted here: waiting for the server is asking again
//! and again, since no protocol tells when a lock becomes free. There, and only there, the two
//! kinds of locks meet.

mod ranges;
mod server;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::context::{Context, unattended_call};
use crate::error::{Errno, Result};
use crate::file::{File, Whence};
use crate::filesystem::run;
use crate::locks::{self, REGISTRY};
use crate::permissions::Credentials;
use crate::remote::LockKind;
use crate::superblock::Res;

use ranges::Held;
pub use ranges::LockRange;
#[cfg(any(test, feature = "testing"))]
pub(crate) use ranges::{Held as HeldRange, RangeLocks};
pub(crate) use server::OwnerNumbers;
use server::ServerLocks;
pub(crate) use table::FileLocks;
use table::{Owner, Request};

/// Who a range lock belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub enum LockOwner {
    /// A process, by a number of the caller's choice (`F_SETLK`): all its descriptions of a file
    /// share its locks, and lose them when it closes one.
    Process(u64),
    /// The open file description the lock is asked through (`F_OFD_SETLK`).
    Description,
}

/// A lock on a range of a file, as `fcntl(2)` has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordLock {
    /// Shared (`Read`), exclusive (`Write`), or none.
    pub kind: LockKind,
    /// Where.
    pub range: LockRange,
    /// Whose.
    pub owner: LockOwner,
    /// The process that is named to those who ask who is in the way; it decides nothing.
    pub pid: u32,
}

/// What is held through a description, for an image that outlives the mount: taking each of it
/// again brings it back.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct HeldLocks {
    /// The lock on the whole file: exclusive or shared.
    pub whole_exclusive: Option<bool>,
    /// Range locks: exclusive or shared, where, whose, and the process told.
    pub ranges: Vec<(bool, LockRange, LockOwner, u32)>,
}

/// What a description has to do with locks.
pub(crate) struct Description {
    /// Never reused while the filesystem is mounted.
    id: u64,
    /// Processes that took range locks through it.
    processes: locks::Mutex<BTreeSet<u64>, REGISTRY>,
    server: ServerLocks,
}

impl Description {
    pub(crate) fn new(id: u64) -> Description {
        Description {
            id,
            processes: locks::Mutex::new(BTreeSet::new()),
            server: ServerLocks::new(),
        }
    }
}

impl File {
    fn lock_key(&self) -> usize {
        Arc::as_ptr(self.node().inode()) as usize
    }

    /// The range of a lock as `fcntl(2)` takes it, from the start of the file, from where this
    /// description stands, or from the end. `EINVAL` for other places.
    pub fn lock_range(&self, cx: &Context<'_>, from: Whence, length: i64) -> Result<LockRange> {
        run("fcntl", self.path(), || {
            let (base, by) = match from {
                Whence::Set(by) => (0, by),
                Whence::Cur(by) => (self.offset(), by),
                Whence::End(by) => (self.fresh_size(cx)?, by),
                Whence::Data(_) | Whence::Hole(_) => return Err(Errno::EINVAL.into()),
            };
            let base = i64::try_from(base).map_err(|_| Errno::EOVERFLOW)?;
            let start = base.checked_add(by).ok_or(Errno::EOVERFLOW)?;
            Ok(LockRange::new(start, length)?)
        })
    }

    /// Sets, changes or removes a range lock. While somebody else's is in the way: `EAGAIN`, or,
    /// with `wait`, waits for it to go; `EDEADLK` if that never happens because its owner waits
    /// for this one. Changing a lock is one step: until it succeeds the old one stays.
    ///
    /// A shared lock needs a file that is open for reading, an exclusive one one that is open for
    /// writing (`EBADF`). `ENOLCK` for too many, and with `locks=server` on a server without.
    pub fn set_lock(&self, cx: &Context<'_>, lock: &RecordLock, wait: bool) -> Result<()> {
        run("fcntl", self.path(), || self.set_range(cx, lock, wait))
    }

    fn set_range(&self, cx: &Context<'_>, lock: &RecordLock, wait: bool) -> Res<()> {
        let allowed = match lock.kind {
            LockKind::Read => self.is_readable(),
            LockKind::Write => self.is_writable(),
            LockKind::Unlock => !self.is_path(),
        };
        if !allowed {
            return Err(Errno::EBADF.into());
        }
        let sb = self.node().sb();
        let (file, counters) = (self.lock_key(), &sb.counters);
        let description = &self.locks;
        let owner = Owner::of(lock.owner, description.id);
        if lock.kind == LockKind::Unlock {
            let told = description.server.release(cx, self, owner, lock.range);
            sb.file_locks
                .release_range(counters, file, owner, lock.range);
            return told;
        }
        if let LockOwner::Process(process) = lock.owner {
            description.processes.lock().insert(process);
        }
        let wanted = Held {
            owner,
            exclusive: lock.kind == LockKind::Write,
            range: lock.range,
            pid: lock.pid,
        };
        let before = sb.file_locks.held_in(file, owner, lock.range);
        sb.file_locks
            .take(cx, counters, file, Request::Range(wanted), wait)?;
        let asked = description.server.take(cx, self, owner, lock, wait);
        if asked.is_err() {
            sb.file_locks
                .restore(counters, file, owner, lock.range, &before);
        }
        asked
    }

    /// The lock that stands in the way of `lock`; `None` if it could be had now. `EINVAL` for
    /// `Unlock`.
    pub fn get_lock(&self, cx: &Context<'_>, lock: &RecordLock) -> Result<Option<RecordLock>> {
        run("fcntl", self.path(), || {
            if self.is_path() {
                return Err(Errno::EBADF.into());
            }
            if lock.kind == LockKind::Unlock {
                return Err(Errno::EINVAL.into());
            }
            let wanted = Held {
                owner: Owner::of(lock.owner, self.locks.id),
                exclusive: lock.kind == LockKind::Write,
                range: lock.range,
                pid: lock.pid,
            };
            let found = self
                .node()
                .sb()
                .file_locks
                .conflict(self.lock_key(), &wanted);
            match found {
                Some(held) => Ok(Some(RecordLock {
                    kind: table::kind(held.exclusive),
                    range: held.range,
                    owner: match held.owner {
                        Owner::Process(process) => LockOwner::Process(process),
                        Owner::Description(_) => LockOwner::Description,
                    },
                    pid: held.pid,
                })),
                None => self.locks.server.test(cx, self, &wanted),
            }
        })
    }

    /// Locks the whole file for this description, as `flock(2)`: `Read` is shared, `Write`
    /// exclusive. While another description's is in the way: `EAGAIN`, or, with `wait`, waits.
    /// A lock of the other kind is given up first, so that a failed change loses it.
    pub fn flock(&self, cx: &Context<'_>, kind: LockKind, wait: bool) -> Result<()> {
        run("flock", self.path(), || {
            let usable = self.is_readable() || self.is_writable();
            if self.is_path() || (kind != LockKind::Unlock && !usable) {
                return Err(Errno::EBADF.into());
            }
            self.set_whole(cx, kind, wait)
        })
    }

    fn set_whole(&self, cx: &Context<'_>, kind: LockKind, wait: bool) -> Res<()> {
        let sb = self.node().sb();
        let (file, counters) = (self.lock_key(), &sb.counters);
        let description = &self.locks;
        let (id, server) = (description.id, &description.server);
        let before = sb.file_locks.whole(file, id);
        if before == Some(kind) {
            return Ok(());
        }
        let mut told = Ok(());
        if before.is_some() {
            told = server.release_whole(cx, self, id);
            sb.file_locks.release_whole(counters, file, id);
        }
        if kind == LockKind::Unlock {
            return told;
        }
        let request = Request::Whole {
            owner: id,
            exclusive: kind == LockKind::Write,
        };
        sb.file_locks.take(cx, counters, file, request, wait)?;
        let asked = server.take_whole(cx, self, id, kind, wait);
        if asked.is_err() {
            sb.file_locks.release_whole(counters, file, id);
        }
        asked
    }

    /// Gives up every range lock of a process on this file, as each `close(2)` of any of its
    /// descriptors of the file does. The last close of a description does it by itself for the
    /// processes that took locks through it.
    pub fn release_locks(&self, cx: &Context<'_>, process: u64) -> Result<()> {
        run("close", self.path(), || {
            self.locks.processes.lock().remove(&process);
            self.release_all(cx, Owner::Process(process))
        })
    }

    fn release_all(&self, cx: &Context<'_>, owner: Owner) -> Res<()> {
        let sb = self.node().sb();
        let file = self.lock_key();
        let held = sb.file_locks.held_in(file, owner, LockRange::WHOLE);
        if held.is_empty() {
            return Ok(());
        }
        let told = self.locks.server.release(cx, self, owner, LockRange::WHOLE);
        sb.file_locks
            .release_range(&sb.counters, file, owner, LockRange::WHOLE);
        told
    }

    /// The locks held through this description, and those of processes that took some through it.
    pub fn held_locks(&self) -> HeldLocks {
        let table = &self.node().sb().file_locks;
        let file = self.lock_key();
        let id = self.locks.id;
        let processes = self.locks.processes.lock().clone();
        let owners = processes
            .iter()
            .map(|process| LockOwner::Process(*process))
            .chain([LockOwner::Description]);
        let ranges = owners.flat_map(|owner| {
            let held = table.held_in(file, Owner::of(owner, id), LockRange::WHOLE);
            held.into_iter()
                .map(move |held| (held.exclusive, held.range, owner, held.pid))
        });
        HeldLocks {
            whole_exclusive: table.whole(file, id).map(|kind| kind == LockKind::Write),
            ranges: ranges.collect(),
        }
    }

    /// What the last close does. The server's answer changes nothing.
    pub(crate) fn drop_locks(&self) {
        let counters = &self.node().sb().counters;
        // The cheap question first: nearly no file is locked.
        if counters.file_locks.get() == 0 {
            return;
        }
        let creds = Credentials::root();
        let cx = Context {
            deadline: unattended_call().deadline,
            ..Context::new(&creds)
        };
        let processes = std::mem::take(&mut *self.locks.processes.lock());
        let owners = processes
            .into_iter()
            .map(Owner::Process)
            .chain([Owner::Description(self.locks.id)]);
        for owner in owners {
            if let Err(failure) = self.release_all(&cx, owner) {
                tracing::debug!(errno = %failure.errno(), "unlocking on the server failed");
            }
        }
        if let Err(failure) = self.set_whole(&cx, LockKind::Unlock, false) {
            tracing::debug!(errno = %failure.errno(), "unlocking on the server failed");
        }
    }
}
