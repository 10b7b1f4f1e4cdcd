//! The fids of a session (9P 5).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use gofer_9p::wire::{Fid, XattrFlags};
use parking_lot::Mutex;

use super::locks::Handle;
use crate::host::{Errno, Node, OpenFile, Result, User};

/// Largest value of an extended attribute on Linux, and so the most a fid keeps of one.
pub(super) const XATTR_SIZE_MAX: usize = 65_536;

/// Fids for which a session has room from the start.
const FIDS_USUAL: usize = 64;

/// Most bytes of attribute values that the fids of a session keep.
const XATTR_BYTES_MAX: usize = 4 << 20;

/// What a fid stands for. Never changes: a request that turns a fid into something else puts
/// another one in its place, so requests that run at the same time keep what they found. A clone is
/// another hold on the same.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) node: Arc<Node>,
    /// Which Tattach the fid comes from.
    pub(super) attach: Arc<Attach>,
    pub(super) state: State,
}

/// What a Tattach hands down to every fid that comes from it (9P 5.1).
#[derive(Debug)]
pub(super) struct Attach {
    /// Where it was; `..` does not lead further up (9P 8.3).
    pub(super) root: Arc<Node>,
    /// As whom requests are carried out.
    pub(super) user: User,
}

/// The states of 9P 5.2.
#[derive(Clone, Debug)]
pub(super) enum State {
    Unopened,
    Open(Arc<Open>),
    /// The value of an extended attribute, as it was when the fid was made (9P 8.17).
    XattrRead(Arc<XattrBytes>),
    /// Stored when the fid is clunked (9P 8.18).
    XattrWrite(Arc<XattrWrite>),
}

/// An open file, and the locks taken through this fid.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) file: OpenFile,
    pub(super) handle: Handle,
}

/// A value that is being written.
#[derive(Debug)]
pub(super) struct XattrWrite {
    pub(super) name: Vec<u8>,
    /// Bytes the client has announced.
    pub(super) size: usize,
    pub(super) flags: XattrFlags,
    pub(super) value: Mutex<XattrBytes>,
}

impl Target {
    pub(super) fn unopened(node: Arc<Node>, attach: Arc<Attach>) -> Target {
        Target {
            node,
            attach,
            state: State::Unopened,
        }
    }

    /// The same file in another state.
    pub(super) fn with(&self, state: State) -> Target {
        Target {
            node: self.node.clone(),
            attach: self.attach.clone(),
            state,
        }
    }

    /// The file of a fid that stands for a place in the tree: `EINVAL` for an attribute's value.
    pub(super) fn file(&self) -> Result<&Arc<Node>> {
        match self.state {
            State::Unopened | State::Open(_) => Ok(&self.node),
            State::XattrRead(_) | State::XattrWrite(_) => Err(Errno::INVAL),
        }
    }

    /// The file of a fid that is not open yet: `EINVAL` for any other.
    pub(super) fn unopened_file(&self) -> Result<&Arc<Node>> {
        match self.state {
            State::Unopened => Ok(&self.node),
            _ => Err(Errno::INVAL),
        }
    }

    /// Whether this and `other` are of one fid that has not been turned into something else, as
    /// far as an unopened one can be told apart.
    fn is_still(&self, other: &Target) -> bool {
        let same_state = match (&self.state, &other.state) {
            (State::Unopened, State::Unopened) => true,
            (State::Open(one), State::Open(other)) => Arc::ptr_eq(one, other),
            (State::XattrRead(one), State::XattrRead(other)) => Arc::ptr_eq(one, other),
            (State::XattrWrite(one), State::XattrWrite(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        same_state
            && Arc::ptr_eq(&self.node, &other.node)
            && Arc::ptr_eq(&self.attach, &other.attach)
    }

    /// The open file: `EBADF` for a fid that is none.
    pub(super) fn open(&self) -> Result<&Open> {
        match &self.state {
            State::Open(open) => Ok(open),
            _ => Err(Errno::BADF),
        }
    }
}

/// The fids of a session by number. The lock is a leaf: nothing is closed under it.
#[derive(Debug)]
pub(super) struct Fids {
    table: Mutex<HashMap<Fid, Target>>,
    max: usize,
    /// The log has been told that there are too many.
    told: AtomicBool,
    xattr_bytes: Arc<AtomicUsize>,
}

impl Fids {
    /// At most `max` fids at a time.
    pub(super) fn new(max: usize) -> Fids {
        Fids {
            table: Mutex::new(HashMap::with_capacity(FIDS_USUAL.min(max))),
            max,
            told: AtomicBool::new(false),
            xattr_bytes: Arc::default(),
        }
    }

    /// What `fid` stands for; `EBADF` when nothing.
    pub(super) fn get(&self, fid: Fid) -> Result<Target> {
        self.table.lock().get(&fid).cloned().ok_or(Errno::BADF)
    }

    /// Whether `fid` could be made: `EINVAL` when it is in use or no fid at all, `EMFILE` when
    /// there are too many. For requests that should fail before they do anything.
    pub(super) fn check_new(&self, fid: Fid) -> Result<()> {
        let table = self.table.lock();
        if fid == Fid::NONE || table.contains_key(&fid) {
            return Err(Errno::INVAL);
        }
        self.check_room(table.len())
    }

    /// Makes `fid`; errors as [`Fids::check_new`].
    pub(super) fn insert(&self, fid: Fid, target: Target) -> Result<()> {
        let mut table = self.table.lock();
        if fid == Fid::NONE || table.contains_key(&fid) {
            return Err(Errno::INVAL);
        }
        self.check_room(table.len())?;
        table.insert(fid, target);
        Ok(())
    }

    /// `EMFILE` when there are `count` fids and that is the limit, which the log is told once.
    fn check_room(&self, count: usize) -> Result<()> {
        if count < self.max {
            return Ok(());
        }
        if !self.told.swap(true, Ordering::Relaxed) {
            let limit = self.max;
            tracing::warn!(
                limit,
                "a client has all the fids it may have (limit: handles)"
            );
        }
        Err(Errno::MFILE)
    }

    /// Turns `fid` from `old` into `new`; `EINVAL` when it is not `old` any more, because another
    /// request was faster.
    pub(super) fn replace(&self, fid: Fid, old: &Target, new: Target) -> Result<()> {
        let replaced = {
            let mut table = self.table.lock();
            let place = table.get_mut(&fid).filter(|target| target.is_still(old));
            std::mem::replace(place.ok_or(Errno::INVAL)?, new)
        };
        // Outside the lock: something may be closed.
        drop(replaced);
        Ok(())
    }

    /// Ends `fid`; `EBADF` when there is none. Requests that use it keep its target.
    pub(super) fn remove(&self, fid: Fid) -> Result<Target> {
        self.table.lock().remove(&fid).ok_or(Errno::BADF)
    }

    /// Counts `bytes` of an attribute's value. Larger than any value can be is `E2BIG`, too much
    /// in all fids together `ENOMEM`.
    pub(super) fn xattr_bytes(&self, bytes: Vec<u8>, room: usize) -> Result<XattrBytes> {
        if room > XATTR_SIZE_MAX {
            return Err(Errno::TOOBIG);
        }
        let before = self.xattr_bytes.fetch_add(room, Ordering::Relaxed);
        // Counted first, so that dropping it on the error path is balanced.
        let kept = XattrBytes {
            bytes,
            room,
            total: self.xattr_bytes.clone(),
        };
        if before + room > XATTR_BYTES_MAX {
            return Err(Errno::NOMEM);
        }
        Ok(kept)
    }
}

/// The value of an extended attribute that counts against its session's budget.
#[derive(Debug)]
pub(super) struct XattrBytes {
    pub(super) bytes: Vec<u8>,
    room: usize,
    total: Arc<AtomicUsize>,
}

impl Drop for XattrBytes {
    fn drop(&mut self) {
        self.total.fetch_sub(self.room, Ordering::Relaxed);
    }
}
