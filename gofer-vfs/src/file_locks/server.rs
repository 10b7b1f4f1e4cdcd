//! Locks on the server, for mounts with `locks=server`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::ranges::{Held, LockRange};
use super::table::Owner;
use super::{LockOwner, RecordLock};
use crate::context::Context;
use crate::error::Errno;
use crate::file::File;
use crate::handle::Handle;
use crate::locks::{Mutex, REGISTRY};
use crate::options::LockPlace;
use crate::remote::{FileLock, LockKind};
use crate::superblock::Res;

/// How long to wait before a lock that the server refused is asked for again: twice as long each
/// time, up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// A description's way to the server's locks: the handles that locks were taken through, since a
/// lock ends with its handle, and the description's may be exchanged for another.
pub(crate) struct ServerLocks(Mutex<Vec<Arc<Handle>>, REGISTRY>);

/// The numbers by which the server knows owners, while they have locks anywhere.
pub(crate) struct OwnerNumbers(Mutex<Numbers, REGISTRY>);

struct Numbers {
    next: u32,
    of: HashMap<Owner, u32>,
}

impl OwnerNumbers {
    pub(crate) fn new() -> OwnerNumbers {
        OwnerNumbers(Mutex::new(Numbers {
            next: 1,
            of: HashMap::new(),
        }))
    }

    /// A process that is small enough goes by its own number, for people who look at the server.
    fn of(&self, owner: Owner) -> u32 {
        const OURS: u32 = 1 << 31;
        if let Owner::Process(process) = owner
            && let Ok(process) = u32::try_from(process)
            && process < OURS
        {
            return process;
        }
        let mut numbers = self.0.lock();
        if let Some(number) = numbers.of.get(&owner) {
            return *number;
        }
        let number = OURS | numbers.next;
        numbers.next = numbers.next.wrapping_add(1);
        numbers.of.insert(owner, number);
        number
    }

    fn forget(&self, owner: Owner) {
        self.0.lock().of.remove(&owner);
    }
}

impl ServerLocks {
    pub(super) fn new() -> ServerLocks {
        ServerLocks(Mutex::new(Vec::new()))
    }

    /// Asks for a range that was granted here.
    pub(super) fn take(
        &self,
        cx: &Context<'_>,
        file: &File,
        owner: Owner,
        lock: &RecordLock,
        wait: bool,
    ) -> Res<()> {
        if !is_used(file) {
            return Ok(());
        }
        let handle = self.handle(file, lock.kind)?;
        let asked = ask(cx, file, &handle, owner, lock.kind, lock.range, wait);
        if asked.is_ok() {
            self.keep(handle);
        }
        asked
    }

    /// Gives a range up, before it is given up here, so that whoever waits here finds it free.
    pub(super) fn release(
        &self,
        cx: &Context<'_>,
        file: &File,
        owner: Owner,
        range: LockRange,
    ) -> Res<()> {
        if !is_used(file) {
            return Ok(());
        }
        // The owner may have taken it through another description.
        let mut handles = self.0.lock().clone();
        if handles.is_empty() {
            handles.push(self.handle(file, LockKind::Read)?);
        }
        let mut outcome = Ok(());
        for handle in handles {
            let told = ask(cx, file, &handle, owner, LockKind::Unlock, range, false);
            outcome = outcome.and(told);
        }
        if range == LockRange::WHOLE {
            file.node().sb().lock_owners.forget(owner);
        }
        outcome
    }

    pub(super) fn take_whole(
        &self,
        cx: &Context<'_>,
        file: &File,
        description: u64,
        kind: LockKind,
        wait: bool,
    ) -> Res<()> {
        if !is_used(file) {
            return Ok(());
        }
        let owner = Owner::Description(description);
        let handle = self.handle(file, kind)?;
        let asked = ask(cx, file, &handle, owner, kind, LockRange::WHOLE, wait);
        if asked.is_ok() {
            self.keep(handle);
        }
        asked
    }

    pub(super) fn release_whole(&self, cx: &Context<'_>, file: &File, description: u64) -> Res<()> {
        self.release(cx, file, Owner::Description(description), LockRange::WHOLE)
    }

    /// A lock of another client that is in the way.
    pub(super) fn test(
        &self,
        cx: &Context<'_>,
        file: &File,
        wanted: &Held<Owner>,
    ) -> Res<Option<RecordLock>> {
        if !is_used(file) {
            return Ok(None);
        }
        let kind = super::table::kind(wanted.exclusive);
        let handle = self.handle(file, LockKind::Read)?;
        let number = file.node().sb().lock_owners.of(wanted.owner);
        let request = file_lock(kind, wanted.range, number);
        let found = handle.remote.test_lock(&cx.call(), &request)?;
        Ok(found.map(|found| RecordLock {
            kind: found.kind,
            range: LockRange::from_server(found.start, found.length),
            owner: LockOwner::Process(found.owner.into()),
            pid: found.owner,
        }))
    }

    /// The handle to lock through: one that was locked through before, if it will do.
    fn handle(&self, file: &File, kind: LockKind) -> Res<Arc<Handle>> {
        let suits = |handle: &&Arc<Handle>| match kind {
            LockKind::Write => handle.access.can_write() || !file.is_writable(),
            _ => true,
        };
        if let Some(kept) = self.0.lock().iter().find(suits) {
            return Ok(kept.clone());
        }
        match file.is_writable() {
            true => file.writer(),
            false => file.reader(),
        }
    }

    fn keep(&self, handle: Arc<Handle>) {
        let mut kept = self.0.lock();
        if !kept.iter().any(|other| Arc::ptr_eq(other, &handle)) {
            kept.push(handle);
        }
    }
}

fn is_used(file: &File) -> bool {
    file.node().sb().options.locks == LockPlace::Server
}

fn file_lock(kind: LockKind, range: LockRange, owner: u32) -> FileLock {
    FileLock {
        kind,
        start: range.start(),
        length: range.length(),
        owner,
    }
}

/// Asks the server, again and again if `wait`. Another client that gives its lock up is noticed
/// at the next turn; when something is unlocked here, the turn comes at once.
fn ask(
    cx: &Context<'_>,
    file: &File,
    handle: &Handle,
    owner: Owner,
    kind: LockKind,
    range: LockRange,
    wait: bool,
) -> Res<()> {
    let sb = file.node().sb();
    // As Linux on a network file system without a lock service: the mount works, locks do not.
    if !sb.capabilities.locks {
        return Err(Errno::ENOLCK.into());
    }
    let request = file_lock(kind, range, sb.lock_owners.of(owner));
    let (mut pause, longest) = BACKOFF;
    loop {
        match handle.remote.lock(&cx.call(), &request) {
            Err(error) if wait && error.errno == Errno::EAGAIN => {
                let key = Arc::as_ptr(file.node().inode()) as usize;
                sb.file_locks
                    .wait_for_change(cx, &sb.counters, key, pause)?;
                pause = (pause * 2).min(longest);
            }
            outcome => return Ok(outcome?),
        }
    }
}
