//! The connection: which it is, and who makes the next one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use gofer_transport::Watch;

use super::handle::Opened;
use super::is_lost;
use crate::attr::FileType;
use crate::error::Errno;
use crate::remote::RemoteResult;
use crate::remote::{Call, Cancel, Found, RemoteError, RemoteFile, RemoteFilesystem};
use crate::sync;

/// The pause after the first failure to connect; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A request that has met the end of more connections than this, for as long as the server may
/// be away, is the likely reason for it.
const LOSSES_MAX: u32 = 8;

/// See the module.
pub(super) struct Line {
    pub(super) remote: Arc<dyn RemoteFilesystem>,
    /// How long the server may be away.
    window: Duration,
    /// Nobody else changes the tree: what is found after an unknown outcome is our own doing.
    pub(super) exclusive: bool,
    /// Counts connections.
    generation: AtomicU64,
    /// What the root has to be.
    root: OnceLock<([u64; 2], FileType)>,
    // No other lock is taken while this one is held.
    state: sync::Mutex<State>,
    changed: sync::Condvar,
    /// Handles that hold locks on the server, which are the first to be opened again.
    locked: sync::Mutex<Vec<Weak<Opened>>>,
    over: AtomicBool,
    me: Weak<Line>,
}

#[derive(Default)]
struct State {
    /// Since when the connection is known to be gone.
    lost: Option<Instant>,
    /// Somebody is making a new one.
    busy: bool,
    /// The root on the connection of this generation; absent if it is another file there.
    root: Option<(u64, Arc<dyn RemoteFile>)>,
}

impl Line {
    pub(super) fn new(
        remote: Arc<dyn RemoteFilesystem>,
        window: Duration,
        exclusive: bool,
    ) -> Arc<Line> {
        Arc::new_cyclic(|me| Line {
            remote,
            window,
            exclusive,
            generation: AtomicU64::new(0),
            root: OnceLock::new(),
            state: sync::Mutex::default(),
            changed: sync::Condvar::new(),
            locked: sync::Mutex::default(),
            over: AtomicBool::new(false),
            me: me.clone(),
        })
    }

    /// The connection in use, or the last one that was.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// The tree was attached for the first time.
    pub(super) fn begin(&self, root: &Found) {
        let _ = self.root.set((root.key.id, root.attr.file_type));
    }

    /// The root on the connection of `generation`; `ESTALE` if that serves another tree.
    pub(super) fn root(&self, generation: u64) -> RemoteResult<Arc<dyn RemoteFile>> {
        let state = self.state.lock();
        match &state.root {
            Some((at, root)) if *at == generation => Ok(root.clone()),
            _ if generation != self.generation() => Err(RemoteError::not_sent(Errno::ESTALE)),
            _ => Err(RemoteError::refused(Errno::ESTALE)),
        }
    }

    /// A handle has taken a lock on the server.
    pub(super) fn holds_lock(&self, handle: &Weak<Opened>) {
        let mut locked = self.locked.lock();
        locked.retain(|other| other.strong_count() > 0 && !other.ptr_eq(handle));
        locked.push(handle.clone());
    }

    /// For one request of a caller.
    pub(super) fn attempts<'a>(&'a self, call: &'a Call<'a>) -> Attempts<'a> {
        Attempts {
            line: self,
            call,
            losses: 0,
            first: None,
        }
    }

    /// Waits until there is a connection after that of generation `after`, and makes it if
    /// nobody else does. `EIO` when the time is up, or was; else the caller's own reason to stop.
    pub(super) fn recover(&self, call: &Call<'_>, after: u64) -> RemoteResult<()> {
        let _watch = self.watch(call.cancel);
        let mut state = self.state.lock();
        let lost = loop {
            if self.over.load(Ordering::SeqCst) {
                return Err(RemoteError::not_sent(Errno::EIO));
            }
            if self.generation() != after {
                return Ok(());
            }
            if let Some(errno) = ended(call) {
                return Err(RemoteError::not_sent(errno));
            }
            let lost = *state.lost.get_or_insert_with(|| {
                tracing::warn!(window = ?self.window, "connection lost, connecting again");
                Instant::now()
            });
            if !state.busy {
                break lost;
            }
            match call.deadline {
                Some(deadline) => drop(self.changed.wait_until(&mut state, deadline)),
                None => self.changed.wait(&mut state),
            }
        };
        state.busy = true;
        drop(state);
        let made = self.make_connection(call, lost + self.window);
        let mut state = self.state.lock();
        state.busy = false;
        let outcome = match made {
            Ok(root) => {
                let next = after + 1;
                state.root = root.map(|root| (next, root));
                state.lost = None;
                self.generation.store(next, Ordering::SeqCst);
                Ok(())
            }
            Err(errno) => Err(RemoteError::not_sent(errno)),
        };
        drop(state);
        self.changed.notify_all();
        if outcome.is_ok() {
            self.retake_locks(call);
        }
        outcome
    }

    /// Tries until `until`. `Ok(None)`: the server has another tree now.
    fn make_connection(
        &self,
        call: &Call<'_>,
        until: Instant,
    ) -> Result<Option<Arc<dyn RemoteFile>>, Errno> {
        let mut pause = PAUSE;
        loop {
            let bounds = Call {
                deadline: Some(call.deadline.map_or(until, |deadline| deadline.min(until))),
                ..*call
            };
            let error = match self.attach(&bounds) {
                Ok(root) => return Ok(root),
                Err(error) => error,
            };
            if self.over.load(Ordering::SeqCst) {
                return Err(Errno::EIO);
            }
            if let Some(errno) = ended(call) {
                return Err(errno);
            }
            if Instant::now() >= until || error.errno == Errno::EOPNOTSUPP {
                tracing::error!(errno = %error.errno, "the server did not come back");
                self.over.store(true, Ordering::SeqCst);
                return Err(Errno::EIO);
            }
            let again = (Instant::now() + pause).min(until);
            pause = (2 * pause).min(PAUSE_MAX);
            self.sleep(call, again);
        }
    }

    fn attach(&self, call: &Call<'_>) -> RemoteResult<Option<Arc<dyn RemoteFile>>> {
        self.remote.reattach(call)?;
        let found = self.remote.root(call)?;
        let known = self.root.get();
        let same = known == Some(&(found.key.id, found.attr.file_type));
        if !same {
            tracing::error!("the server that came back has another tree");
        }
        Ok(same.then_some(found.file))
    }

    /// What was locked must not be used by others any longer than can be helped.
    fn retake_locks(&self, call: &Call<'_>) {
        let locked = self.locked.lock().clone();
        for handle in locked.iter().filter_map(Weak::upgrade) {
            if let Err(error) = handle.reopen(call) {
                tracing::warn!(errno = %error.errno, "a file that was locked is not there again");
            }
        }
    }

    /// Sleeps until `until`, or until somebody has news.
    pub(super) fn sleep(&self, call: &Call<'_>, until: Instant) {
        let until = call.deadline.map_or(until, |deadline| deadline.min(until));
        let mut state = self.state.lock();
        while Instant::now() < until
            && ended(call).is_none()
            && !self.over.load(Ordering::SeqCst)
            && !self.changed.wait_until(&mut state, until).timed_out()
        {}
    }

    /// Wakes those who wait when `cancel` is set.
    fn watch<'a>(&self, cancel: Option<&'a Cancel>) -> Option<Watch<'a>> {
        let me = self.me.clone();
        let wake = move || {
            if let Some(line) = me.upgrade() {
                // Under the lock: before or after a sleep, not between the last look and it.
                let _state = line.state.lock();
                line.changed.notify_all();
            }
        };
        cancel.map(|cancel| cancel.watch(Arc::new(wake)))
    }

    /// No connection any more, and none to come.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        {
            let _state = self.state.lock();
            self.changed.notify_all();
        }
        self.remote.shutdown();
    }
}

/// The losses that one request has met.
pub(super) struct Attempts<'a> {
    line: &'a Line,
    call: &'a Call<'a>,
    losses: u32,
    first: Option<Instant>,
}

impl Attempts<'_> {
    /// The connection of `generation` was lost, with the request ending as `error` says. Returns
    /// when there is a new one; else the error for the caller.
    pub(super) fn lost(&mut self, generation: u64, error: RemoteError) -> RemoteResult<()> {
        self.losses += 1;
        let fail = |errno| RemoteError {
            errno,
            fate: error.fate,
        };
        let first = *self.first.get_or_insert_with(Instant::now);
        if self.losses > LOSSES_MAX && first.elapsed() >= self.line.window {
            return Err(fail(Errno::EIO));
        }
        if self.losses > 1 {
            // Whatever it is, it is not to go round in a circle at full speed.
            let pause = (PAUSE * (1 << (self.losses - 1).min(8))).min(PAUSE_MAX);
            self.line.sleep(self.call, Instant::now() + pause);
        }
        let recovered = self.line.recover(self.call, generation);
        recovered.map_err(|why| fail(why.errno))
    }

    /// Runs `step`, which tells the generation it worked with, until it does not meet a loss.
    pub(super) fn run<T>(
        &mut self,
        mut step: impl FnMut() -> Result<T, (u64, RemoteError)>,
    ) -> RemoteResult<T> {
        loop {
            match step() {
                Ok(done) => return Ok(done),
                Err((generation, error)) if is_lost(error) => self.lost(generation, error)?,
                Err((_, error)) => return Err(error),
            }
        }
    }
}

/// Why the caller does not want to wait any longer.
fn ended(call: &Call<'_>) -> Option<Errno> {
    if call.cancel.is_some_and(Cancel::is_set) {
        return Some(Errno::EINTR);
    }
    let late = call
        .deadline
        .is_some_and(|deadline| deadline <= Instant::now());
    late.then_some(Errno::ETIMEDOUT)
}
