//! Modification times, and with them access times, on their way to the server.
//!
//! Where this client's clock stamps files, the server has another modification time than the
//! one programs saw, and it would show after an eviction. So once the last writer has closed,
//! the time is sent: by a thread of its own, a moment later, so that nobody waits and a file
//! that is written again or removed soon costs nothing (semantics 13.6).
//!
//! A file that waits here is referenced, so it is not evicted before its time was sent.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::attr::{SetAttr, SetTime, Timestamp};
use crate::context::unattended_call;
use crate::dentry::Node;
use crate::error::Errno;
use crate::superblock::Superblock;
use crate::sync;

/// How long a file waits, so that what happens to it meanwhile is sent together.
const DELAY: Duration = Duration::from_millis(200);

/// Files that may wait. One more is sent by whoever closes it.
const WAITING_MAX: usize = 1024;

/// See the module.
pub(crate) struct Times {
    sb: Weak<Superblock>,
    shared: Arc<Shared>,
}

struct Shared {
    // Ranks do not fit a lock that a condition variable releases. No other lock is taken while
    // this one is held.
    state: sync::Mutex<State>,
    wake: sync::Condvar,
}

#[derive(Default)]
struct State {
    /// By the address of the inode, which does not go while it is here: two names of one file
    /// wait once.
    waiting: HashMap<usize, Node>,
    running: bool,
    closed: bool,
}

impl Times {
    pub(crate) fn new(sb: Weak<Superblock>) -> Times {
        Times {
            sb,
            shared: Arc::new(Shared {
                state: sync::Mutex::new(State::default()),
                wake: sync::Condvar::new(),
            }),
        }
    }

    /// Has the modification time of `node` sent, if the server does not know it.
    pub(crate) fn send_later(&self, node: &Node) {
        if unsent(node).is_none() {
            return;
        }
        let key = Arc::as_ptr(node.inode()) as usize;
        let mut state = self.shared.state.lock();
        if state.waiting.contains_key(&key) {
            return;
        }
        if state.closed || state.waiting.len() >= WAITING_MAX || !self.start(&mut state) {
            drop(state);
            // A failure is not for whoever closes this file.
            let _ = send(node);
            return;
        }
        let first = state.waiting.is_empty();
        state.waiting.insert(key, node.clone());
        drop(state);
        if first {
            self.shared.wake.notify_one();
        }
    }

    /// The last name of the file was removed: its time is of no interest any more, and it must
    /// not be kept from being closed.
    pub(crate) fn forget(&self, node: &Node) {
        let key = Arc::as_ptr(node.inode()) as usize;
        let mut state = self.shared.state.lock();
        let forgotten = state.waiting.remove(&key);
        drop(state);
        drop(forgotten);
    }

    /// Sends what waits, now. With `forever`, nothing waits from now on.
    pub(crate) fn drain(&self, forever: bool) {
        let mut state = self.shared.state.lock();
        state.closed |= forever;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.shared.wake.notify_one();
        send_all(waiting);
    }

    /// Starts the thread if it does not run; false if there can be none.
    fn start(&self, state: &mut State) -> bool {
        if !state.running {
            let shared = self.shared.clone();
            let sb = self.sb.clone();
            state.running = std::thread::Builder::new()
                .name("gofer-times".to_owned())
                .spawn(move || run(&shared, &sb))
                .is_ok();
        }
        state.running
    }
}

impl Drop for Times {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.wake.notify_one();
    }
}

/// The thread: ends when nothing waits any more and the filesystem is gone.
fn run(shared: &Shared, sb: &Weak<Superblock>) {
    let mut state = shared.state.lock();
    loop {
        while state.waiting.is_empty() && !state.closed {
            shared.wake.wait(&mut state);
        }
        if state.closed || sb.strong_count() == 0 {
            break;
        }
        let due = Instant::now() + DELAY;
        while !state.closed && !shared.wake.wait_until(&mut state, due).timed_out() {}
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        send_all(waiting);
        state = shared.state.lock();
    }
    state.running = false;
}

/// The times to send, if the server does not know them and the file still has a name.
fn unsent(node: &Node) -> Option<(Timestamp, Option<Timestamp>)> {
    let meta = node.inode().meta.lock();
    meta.unsent_times().filter(|_| meta.attr().nlink > 0)
}

/// Sends what waited. A server that does not answer is not asked again for each file.
fn send_all(waiting: HashMap<usize, Node>) {
    for node in waiting.values() {
        if let Err(Errno::EIO | Errno::ETIMEDOUT) = send(node) {
            break;
        }
    }
}

/// Sends the modification time of one file. A failure is not the user's: the server keeps its
/// own time, and shows it once the file was evicted.
fn send(node: &Node) -> Result<(), Errno> {
    let inode = node.inode();
    let Some(times) = unsent(node) else {
        return Ok(());
    };
    let (mtime, atime) = times;
    let set = SetAttr {
        mtime: Some(SetTime::At(mtime)),
        atime: atime.map(SetTime::At),
        ..SetAttr::default()
    };
    node.sb().counters.times_sent.one();
    let writer = inode.writer();
    let through = writer.as_ref().map(|handle| &*handle.remote);
    let sent = node.remote().set_attr(&unattended_call(), &set, through);
    match sent {
        Ok(_) => {
            inode.meta.lock().sent_times(times);
            Ok(())
        }
        Err(error) => {
            tracing::debug!(errno = %error.errno, "sending a modification time failed");
            Err(error.errno)
        }
    }
}
