//! One client's connection: what it counts, logs, and what goes wrong on purpose.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;

use super::MemConfig;
use super::tree::Tree;
use crate::attr::AttrMask;
use crate::error::Errno;
use crate::remote::{Call, RemoteError, RemoteEvents, RemoteResult, Traffic};

/// The calls of the remote traits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Op {
    Root,
    Reattach,
    SyncAll,
    FlushCloses,
    Walk,
    Revalidate,
    Attr,
    SetAttr,
    Open,
    Create,
    Make,
    Link,
    Unlink,
    Rename,
    ReadLink,
    StatFs,
    GetXattr,
    SetXattr,
    ListXattr,
    RemoveXattr,
    Connect,
    Bind,
    Release,
    Read,
    Write,
    ReadDir,
    HandleAttr,
    Flush,
    Sync,
    Allocate,
    SeekData,
    Lock,
    TestLock,
    Close,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The server answers with this error and does nothing.
    Refuse(Errno),
    /// `set_attr` does not set these fields, for this reason; the others it does. A `create`,
    /// `read` or any other call is not affected.
    RefuseFields(AttrMask, Errno),
    /// A read or write moves at most this many bytes.
    Short(usize),
    /// The request is carried out and answered, but the caller has given up with this error by
    /// then.
    Late(Errno),
    /// The connection is cut before the request is carried out.
    Cut,
    /// The connection is cut after the request was carried out, before the reply.
    CutAfter,
}

/// What [`Link::enter`] found for a call that may go ahead.
#[derive(Clone, Copy, Default)]
pub(super) struct Passage {
    op: Option<Op>,
    pub refuse_fields: Option<(AttrMask, Errno)>,
    pub short: Option<usize>,
    pub late: Option<Errno>,
    pub cut_after: bool,
}

type Hook = Box<dyn FnOnce() + Send>;

/// When a hook runs: before the request reaches the tree, or before its reply reaches the caller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Before,
    After,
}

#[derive(Default)]
struct Faults {
    /// `None` counts every call that waits for the server.
    once: Vec<(Option<Op>, u64, Fault)>,
    always: HashMap<Op, Fault>,
    hooks: Vec<(Op, When, Hook)>,
}

/// The log forgets its beginning beyond this many calls.
const LOG_MAX: usize = 1 << 16;

pub(super) struct Link {
    pub tree: Arc<Mutex<Tree>>,
    pub config: MemConfig,
    donates: AtomicBool,
    faults: Mutex<Faults>,
    log: Mutex<Vec<Op>>,
    counts: Mutex<HashMap<Op, u64>>,
    cut: AtomicBool,
    /// Nobody connects again.
    closed: AtomicBool,
    epoch: AtomicU32,
    round_trips: AtomicU64,
    requests: AtomicU64,
    pub files: AtomicU64,
    pub handles: AtomicU64,
    misuses: AtomicU64,
    sinks: Mutex<Vec<Weak<dyn RemoteEvents>>>,
}

impl Link {
    pub fn new(tree: Arc<Mutex<Tree>>, config: MemConfig) -> Link {
        Link {
            tree,
            config,
            donates: AtomicBool::new(true),
            faults: Mutex::default(),
            log: Mutex::default(),
            counts: Mutex::default(),
            cut: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            epoch: AtomicU32::new(0),
            round_trips: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            files: AtomicU64::new(0),
            handles: AtomicU64::new(0),
            misuses: AtomicU64::new(0),
            sinks: Mutex::default(),
        }
    }

    /// Whether descriptors go with the handles that are opened.
    pub fn donates(&self) -> bool {
        self.donates.load(Ordering::Relaxed)
    }

    pub fn set_donates(&self, donates: bool) {
        self.donates.store(donates, Ordering::Relaxed);
    }

    /// Begins a call that costs a round trip: logs it, runs its hook, meets its fault.
    pub fn enter(&self, call: &Call<'_>, op: Op) -> RemoteResult<Passage> {
        if !self.cut.load(Ordering::Relaxed) {
            self.round_trips.fetch_add(1, Ordering::Relaxed);
        }
        self.pass(call, op, true)
    }

    /// Begins a call that nobody waits for.
    pub fn enter_silently(&self, call: &Call<'_>, op: Op) -> RemoteResult<Passage> {
        self.pass(call, op, false)
    }

    fn pass(&self, call: &Call<'_>, op: Op, waits: bool) -> RemoteResult<Passage> {
        if call.cancel.is_some_and(gofer_transport::Cancel::is_set) {
            return Err(RemoteError::not_sent(Errno::EINTR));
        }
        if call
            .deadline
            .is_some_and(|deadline| deadline <= Instant::now())
        {
            return Err(RemoteError::not_sent(Errno::ETIMEDOUT));
        }
        self.note(op);
        #[cfg(test)]
        crate::sync::scheduled::step();
        if let Some(hook) = self.take_hook(op, When::Before) {
            hook();
        }
        let fault = self.take_fault(op, waits);
        if fault == Some(Fault::Cut) {
            self.drop_connection();
        }
        if self.cut.load(Ordering::Relaxed) {
            return Err(RemoteError::unknown(Errno::EIO));
        }
        let mut passage = Passage {
            op: Some(op),
            ..Passage::default()
        };
        match fault {
            Some(Fault::Refuse(errno)) => return Err(RemoteError::refused(errno)),
            Some(Fault::RefuseFields(mask, errno)) => passage.refuse_fields = Some((mask, errno)),
            Some(Fault::Short(bytes)) => passage.short = Some(bytes),
            Some(Fault::Late(errno)) => passage.late = Some(errno),
            Some(Fault::CutAfter) => passage.cut_after = true,
            Some(Fault::Cut) | None => {}
        }
        Ok(passage)
    }

    /// Ends a call whose request was carried out.
    pub fn leave(&self, passage: Passage) -> RemoteResult<()> {
        let hook = passage.op.and_then(|op| self.take_hook(op, When::After));
        if let Some(hook) = hook {
            hook();
        }
        if passage.cut_after {
            self.drop_connection();
            return Err(RemoteError::unknown(Errno::EIO));
        }
        passage
            .late
            .map_or(Ok(()), |errno| Err(RemoteError::unknown(errno)))
    }

    /// Records a call that does not wait, such as a release.
    pub fn note(&self, op: Op) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        *self.counts.lock().entry(op).or_default() += 1;
        let mut log = self.log.lock();
        if log.len() == LOG_MAX {
            log.drain(..LOG_MAX / 2);
        }
        log.push(op);
    }

    fn take_hook(&self, op: Op, when: When) -> Option<Hook> {
        let hooks = &mut self.faults.lock().hooks;
        let at = hooks
            .iter()
            .position(|hook| (hook.0, hook.1) == (op, when))?;
        Some(hooks.remove(at).2)
    }

    fn take_fault(&self, op: Op, waits: bool) -> Option<Fault> {
        let mut faults = self.faults.lock();
        let mut hit = None;
        faults.once.retain_mut(|(at, nth, fault)| {
            if at.map_or(!waits, |at| at != op) || hit.is_some() {
                return true;
            }
            if *nth == 0 {
                hit = Some(*fault);
                return false;
            }
            *nth -= 1;
            true
        });
        hit.or_else(|| faults.always.get(&op).copied())
    }

    pub fn inject(&self, op: Option<Op>, nth: u64, fault: Fault) {
        self.faults.lock().once.push((op, nth, fault));
    }

    pub fn inject_always(&self, op: Op, fault: Fault) {
        self.faults.lock().always.insert(op, fault);
    }

    pub fn heal(&self) {
        let mut faults = self.faults.lock();
        faults.once.clear();
        faults.always.clear();
    }

    pub fn hook(&self, op: Op, when: When, hook: Hook) {
        self.faults.lock().hooks.push((op, when, hook));
    }

    pub fn drop_connection(&self) {
        if self.cut.swap(true, Ordering::Relaxed) {
            return;
        }
        let sinks = self.sinks.lock().clone();
        for sink in sinks.iter().filter_map(Weak::upgrade) {
            sink.lost(self.epoch());
        }
    }

    /// The connection in use.
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// A new connection, unless the client has left or a fault of [`Op::Reattach`] is met.
    pub fn reattach(&self) -> RemoteResult<()> {
        self.note(Op::Reattach);
        if let Some(hook) = self.take_hook(Op::Reattach, When::Before) {
            hook();
        }
        if let Some(Fault::Refuse(errno)) = self.take_fault(Op::Reattach, false) {
            return Err(RemoteError::not_sent(errno));
        }
        if self.closed.load(Ordering::SeqCst) {
            return Err(RemoteError::not_sent(Errno::EIO));
        }
        self.drop_connection();
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.cut.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Ends the connection for good.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.drop_connection();
    }

    /// `ESTALE` for what is of an earlier connection.
    pub fn check_epoch(&self, epoch: u32) -> RemoteResult<()> {
        match epoch == self.epoch() {
            true => Ok(()),
            false => Err(RemoteError::not_sent(Errno::ESTALE)),
        }
    }

    pub fn subscribe(&self, sink: Weak<dyn RemoteEvents>) {
        self.sinks.lock().push(sink);
    }

    pub fn take_log(&self) -> Vec<Op> {
        std::mem::take(&mut *self.log.lock())
    }

    pub fn count(&self, op: Op) -> u64 {
        self.counts.lock().get(&op).copied().unwrap_or(0)
    }

    pub fn live_files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    pub fn live_handles(&self) -> u64 {
        self.handles.load(Ordering::Relaxed)
    }

    pub fn misuses(&self) -> u64 {
        self.misuses.load(Ordering::Relaxed)
    }

    /// A call on something that was given up.
    pub fn misuse(&self) -> RemoteError {
        self.misuses.fetch_add(1, Ordering::Relaxed);
        RemoteError::not_sent(Errno::EBADF)
    }

    pub fn traffic(&self) -> Traffic {
        Traffic {
            round_trips: self.round_trips.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            bytes_sent: 0,
            bytes_received: 0,
        }
    }
}
