//! Byte-range locks of all clients of a server (9P 8.23, 8.24).
//!
//! They are advice among 9P clients: the host's own processes neither see nor hold any. An owner
//! is a process of a client, told by session, client id and process number; its locks on one file
//! never conflict, and a later one replaces an earlier one where they overlap. A lock ends with the
//! fid it was taken through.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gofer_9p::wire::LockType;
use parking_lot::Mutex;

use crate::host::{Errno, Identity, Result};

/// Most locks on one file. Splitting and searching take time in proportion.
const FILE_LOCKS_MAX: usize = 1024;

/// Most locks of one session, on all files.
const SESSION_LOCKS_MAX: usize = 16_384;

/// Longest client id in bytes: it is the name of a node.
const CLIENT_ID_MAX: usize = 255;

/// Who holds a lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Owner {
    session: u64,
    pub(super) proc_id: u32,
    pub(super) client_id: Vec<u8>,
}

impl Owner {
    /// A process of a client; `ENAMETOOLONG` for a client id that is no name of a node.
    pub(super) fn new(session: u64, proc_id: u32, client_id: &[u8]) -> Result<Owner> {
        if client_id.len() > CLIENT_ID_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        Ok(Owner {
            session,
            proc_id,
            client_id: client_id.to_vec(),
        })
    }
}

/// A lock: bytes from `start` to `last`, both included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lock {
    pub(super) exclusive: bool,
    pub(super) start: u64,
    pub(super) last: u64,
    pub(super) owner: Owner,
}

impl Lock {
    /// A lock of `length` bytes, 0 meaning all the rest; one that reaches beyond the last
    /// possible byte is `EINVAL`.
    pub(super) fn new(exclusive: bool, start: u64, length: u64, owner: Owner) -> Result<Lock> {
        let last = match length {
            0 => u64::MAX,
            length => start.checked_add(length - 1).ok_or(Errno::INVAL)?,
        };
        Ok(Lock {
            exclusive,
            start,
            last,
            owner,
        })
    }

    /// Its length as the protocol says it: 0 to the end of the file.
    pub(super) fn length(&self) -> u64 {
        match self.last {
            u64::MAX => 0,
            last => last - self.start + 1,
        }
    }

    /// As which type it shows.
    pub(super) fn kind(&self) -> LockType {
        if self.exclusive {
            LockType::WRITE
        } else {
            LockType::READ
        }
    }

    fn overlaps(&self, other: &Lock) -> bool {
        self.start <= other.last && other.start <= self.last
    }

    fn conflicts(&self, other: &Lock) -> bool {
        self.owner != other.owner && self.overlaps(other) && (self.exclusive || other.exclusive)
    }

    /// What is left of it without the range of `other`: a part before and one behind.
    fn without(&self, other: &Lock) -> impl Iterator<Item = Lock> {
        let before = other
            .start
            .checked_sub(1)
            .filter(|last| *last >= self.start);
        let before = before.map(|last| Lock {
            last,
            ..self.clone()
        });
        let behind = other
            .last
            .checked_add(1)
            .filter(|start| *start <= self.last);
        let behind = behind.map(|start| Lock {
            start,
            ..self.clone()
        });
        before.into_iter().chain(behind)
    }
}

/// A lock with the handle that has to end before it does.
#[derive(Debug)]
struct Held {
    lock: Lock,
    handle: u64,
}

/// All locks.
#[derive(Debug, Default)]
pub(super) struct Locks {
    /// A leaf: no other lock is taken under it.
    table: Mutex<Table>,
    next_handle: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    /// Never empty lists.
    files: HashMap<Identity, Vec<Held>>,
    /// How many locks each session has; never none.
    sessions: HashMap<u64, usize>,
}

impl Locks {
    /// A handle for locks of `session` on `file`; they end when it is dropped.
    pub(super) fn handle(self: &Arc<Locks>, session: u64, file: Identity) -> Handle {
        Handle {
            locks: self.clone(),
            session,
            file,
            number: self.next_handle.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Table {
    fn held(&self, file: Identity) -> &[Held] {
        self.files.get(&file).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether `session` may not have another lock on `file`.
    fn is_full(&self, file: Identity, session: u64) -> bool {
        let own = self.sessions.get(&session).copied().unwrap_or_default();
        self.held(file).len() >= FILE_LOCKS_MAX || own >= SESSION_LOCKS_MAX
    }

    /// Lets `change` change the locks of `session` on `file`, and counts what is left.
    fn change(&mut self, file: Identity, session: u64, change: impl FnOnce(&mut Vec<Held>)) {
        let mut held = self.files.remove(&file).unwrap_or_default();
        let before = held.len();
        change(&mut held);
        let own = self.sessions.remove(&session).unwrap_or_default() + held.len() - before;
        if own > 0 {
            self.sessions.insert(session, own);
        }
        if !held.is_empty() {
            self.files.insert(file, held);
        }
    }
}

/// Keeps the locks that were taken through it.
#[derive(Debug)]
pub(super) struct Handle {
    locks: Arc<Locks>,
    session: u64,
    file: Identity,
    number: u64,
}

impl Handle {
    /// Takes `lock`, replacing what its owner holds in that range; `false` when somebody else's
    /// stands in the way, and then nothing changes. Never waits. `ENOLCK` when there are too many.
    pub(super) fn take(&self, lock: Lock) -> Result<bool> {
        let mut table = self.locks.table.lock();
        if table
            .held(self.file)
            .iter()
            .any(|held| held.lock.conflicts(&lock))
        {
            return Ok(false);
        }
        if table.is_full(self.file, self.session) {
            return Err(Errno::NOLCK);
        }
        table.change(self.file, self.session, |held| {
            cut(held, &lock);
            held.push(Held {
                lock,
                handle: self.number,
            });
        });
        Ok(true)
    }

    /// Gives back what the owner of `range` holds in it, through whichever handle. `ENOLCK` when
    /// that would leave too many pieces.
    pub(super) fn give_back(&self, range: &Lock) -> Result<()> {
        let mut table = self.locks.table.lock();
        if table.is_full(self.file, self.session) && splits(table.held(self.file), range) {
            return Err(Errno::NOLCK);
        }
        table.change(self.file, self.session, |held| cut(held, range));
        Ok(())
    }

    /// A lock of somebody else that stands in the way of `lock`.
    pub(super) fn conflict(&self, lock: &Lock) -> Option<Lock> {
        let table = self.locks.table.lock();
        let mut held = table.held(self.file).iter();
        held.find(|held| held.lock.conflicts(lock))
            .map(|held| held.lock.clone())
    }

    /// Ends the locks that were taken through this handle.
    pub(super) fn end(&self) {
        let mut table = self.locks.table.lock();
        table.change(self.file, self.session, |held| {
            held.retain(|held| held.handle != self.number);
        });
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether removing the range of `lock` cuts a lock of its owner in two.
fn splits(held: &[Held], lock: &Lock) -> bool {
    let mut own = held.iter().filter(|held| held.lock.owner == lock.owner);
    own.any(|held| held.lock.start < lock.start && lock.last < held.lock.last)
}

/// Removes the range of `lock` from the locks of its owner.
fn cut(held: &mut Vec<Held>, lock: &Lock) {
    let mut parts = Vec::new();
    held.retain(|held| {
        if held.lock.owner != lock.owner || !held.lock.overlaps(lock) {
            return true;
        }
        let handle = held.handle;
        parts.extend(held.lock.without(lock).map(|lock| Held { lock, handle }));
        false
    });
    held.append(&mut parts);
}

#[cfg(test)]
mod tests;
