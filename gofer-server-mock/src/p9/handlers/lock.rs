//! Byte-range locks: Tlock, Tgetlock.

use gofer_9p::wire::{LockFlags, LockStatus, LockType, Rgetlock, Rlock, Tgetlock, Tlock};

use crate::host::{Errno, Result};
use crate::p9::locks::Lock;
use crate::p9::reply::Reply;
use crate::p9::session::Session;

impl Session {
    /// Takes a lock or gives it back. Never waits: who wants to asks again (9P 8.23).
    pub(super) fn lock(&self, request: Tlock<'_>) -> Result<Rlock> {
        let target = self.target(request.fid)?;
        let open = target.open()?;
        if request.flags.contains(LockFlags::RECLAIM) {
            return Err(Errno::INVAL);
        }
        let owner = self.lock_owner(request.proc_id, request.client_id)?;
        let exclusive = request.r#type == LockType::WRITE;
        let lock = Lock::new(exclusive, request.start, request.length, owner)?;
        let granted = match request.r#type {
            LockType::READ | LockType::WRITE => open.handle.take(lock)?,
            LockType::UNLOCK => {
                open.handle.give_back(&lock)?;
                true
            }
            _ => return Err(Errno::INVAL),
        };
        let status = if granted {
            LockStatus::SUCCESS
        } else {
            LockStatus::BLOCKED
        };
        Ok(Rlock { status })
    }

    /// Tells of one lock that stands in the way. "Unlock" stands for a write lock: the kernel
    /// client always asks like this (9P 8.24).
    pub(super) fn get_lock(&self, request: Tgetlock<'_>, reply: &mut Reply) -> Result<()> {
        let target = self.target(request.fid)?;
        let open = target.open()?;
        let exclusive = match request.r#type {
            LockType::READ => false,
            LockType::WRITE | LockType::UNLOCK => true,
            _ => return Err(Errno::INVAL),
        };
        let owner = self.lock_owner(request.proc_id, request.client_id)?;
        let lock = Lock::new(exclusive, request.start, request.length, owner)?;
        match open.handle.conflict(&lock) {
            Some(held) => reply.send(Rgetlock {
                r#type: held.kind(),
                start: held.start,
                length: held.length(),
                proc_id: held.owner.proc_id,
                client_id: &held.owner.client_id,
            }),
            None => reply.send(Rgetlock {
                r#type: LockType::UNLOCK,
                start: request.start,
                length: request.length,
                proc_id: request.proc_id,
                client_id: request.client_id,
            }),
        }
    }
}
