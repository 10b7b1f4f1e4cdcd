//! What the server has to be told of a file after its last writer has closed: data that was
//! cached, then its modification time, and with that the access time.
//!
//! Where this client's clock stamps files, the server has another modification time than the
//! one programs saw, and it would show after an eviction. So once the last writer has closed,
//! the time is sent: by a thread of its own, a moment later, so that nobody waits and a file
//! that is written again or removed soon costs nothing (semantics 13.6). Data that was cached
//! goes first, as writing it changes the server's time. A directory that was changed, and whatever
//! else was changed without a writer, has its time sent before it is evicted.
//!
//! A file that waits here is referenced, so it is not evicted before all was sent. One whose data
//! the server does not take goes on waiting: its data is tried again from time to time, and by
//! whoever syncs.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::attr::{SetAttr, SetTime, Timestamp};
use crate::context::{UNATTENDED_TIMEOUT, unattended_call};
use crate::dentry::Node;
use crate::error::Errno;
use crate::inode::Inode;
use crate::metadata::Metadata;
use crate::page_cache::{PageCache, write_back_unattended};
use crate::remote::Call;
use crate::superblock::Superblock;
use crate::sync;

/// How long a file waits, so that what happens to it meanwhile is sent together.
const DELAY: Duration = Duration::from_millis(200);

/// How long after a failure data is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How long an eviction of everything waits for times to be taken.
const PATIENCE: Duration = Duration::from_secs(5);

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
    /// As many again, whose data the server did not take.
    stuck: HashMap<usize, Node>,
    running: bool,
    /// The thread has taken what waited and is at it.
    sending: bool,
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

    /// Has what the server does not know of `node` sent.
    pub(crate) fn send_later(&self, node: &Node) {
        if unsent(node).is_none() && !has_unsent_data(node) {
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
            if send(node, Instant::now() + UNATTENDED_TIMEOUT) == Sent::Not {
                self.shared.stuck_now([node.clone()]);
            }
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
        let forgotten = (state.waiting.remove(&key), state.stuck.remove(&key));
        drop(state);
        drop(forgotten);
    }

    /// Sends what waits, now. With `forever`, nothing waits from now on.
    pub(crate) fn drain(&self, forever: bool) {
        let mut state = self.shared.state.lock();
        state.closed |= forever;
        let waiting = std::mem::take(&mut state.waiting);
        let stuck = std::mem::take(&mut state.stuck);
        drop(state);
        self.shared.wake.notify_one();
        let left = send_all(waiting.into_values().chain(stuck.into_values()));
        if !forever {
            self.shared.stuck_now(left);
        }
    }

    /// How many files wait.
    pub(crate) fn waiting(&self) -> u64 {
        let state = self.shared.state.lock();
        (state.waiting.len() + state.stuck.len()) as u64
    }

    /// Whether nothing waits and nothing is being sent.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.shared.state.lock();
        state.waiting.is_empty() && state.stuck.is_empty() && !state.sending
    }

    /// Starts the thread if it does not run; false if there can be none.
    fn start(&self, state: &mut State) -> bool {
        if !state.running {
            let shared = self.shared.clone();
            let sb = self.sb.clone();
            state.running = sync::start("gofer-times", move || run(&shared, &sb));
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

impl Shared {
    /// Keeps files whose data the server did not take.
    fn stuck_now(&self, nodes: impl IntoIterator<Item = Node>) {
        for node in nodes {
            let key = Arc::as_ptr(node.inode()) as usize;
            let mut state = self.state.lock();
            let room = state.stuck.len() < WAITING_MAX && !state.closed;
            let replaced = match room {
                true => state.stuck.insert(key, node),
                false => Some(node),
            };
            drop(state);
            drop(replaced);
        }
    }
}

/// The thread: ends when nothing waits any more and the filesystem is gone.
fn run(shared: &Shared, sb: &Weak<Superblock>) {
    let mut state = shared.state.lock();
    loop {
        while state.waiting.is_empty() && !state.closed {
            if state.stuck.is_empty() {
                shared.wake.wait(&mut state);
            } else if shared.wake.wait_for(&mut state, RETRY).timed_out() {
                break;
            }
        }
        if state.closed || sb.strong_count() == 0 {
            break;
        }
        let due = Instant::now() + DELAY;
        while !state.closed && !shared.wake.wait_until(&mut state, due).timed_out() {}
        let waiting = std::mem::take(&mut state.waiting);
        let stuck = std::mem::take(&mut state.stuck);
        state.sending = true;
        drop(state);
        let left = send_all(waiting.into_values().chain(stuck.into_values()));
        shared.stuck_now(left);
        state = shared.state.lock();
        state.sending = false;
    }
    state.running = false;
}

/// The times to send, if the server does not know them and the file still has a name.
fn unsent(node: &Node) -> Option<(Timestamp, Option<Timestamp>)> {
    let meta = node.inode().meta();
    meta.unsent_times().filter(|_| meta.attr().nlink > 0)
}

/// Whether the server has to be told a time before the file is evicted.
pub(crate) fn is_owed(inode: &Inode) -> bool {
    let meta = inode.meta();
    meta.unsent_times().is_some() && meta.attr().nlink > 0
}

/// Tells the server the times of files that are about to be evicted, all together within
/// [`PATIENCE`].
pub(crate) fn send_now(nodes: Vec<Node>) {
    let until = Instant::now() + PATIENCE;
    let mut silent = false;
    for node in nodes {
        silent = silent || Instant::now() >= until || send(&node, until) == Sent::Silence;
        if silent {
            node.inode().update(Metadata::forget_unsent_times);
        }
    }
}

/// Whether data of the file is not on the server, and the file still has a name.
fn has_unsent_data(node: &Node) -> bool {
    let inode = node.inode();
    inode.cache().is_some_and(PageCache::is_dirty) && inode.meta().attr().nlink > 0
}

/// What came of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// There is nothing left to tell, or what is left does not matter.
    All,
    /// The server did not take the data.
    Not,
    /// Only its time; and the server does not answer.
    Silence,
}

/// Sends what waited; returns the files whose data is still here. A server that does not answer
/// is not asked again for each file.
fn send_all(waiting: impl Iterator<Item = Node>) -> Vec<Node> {
    let mut left = Vec::new();
    let mut silent = false;
    for node in waiting {
        if silent {
            if has_unsent_data(&node) {
                left.push(node);
            }
            continue;
        }
        match send(&node, Instant::now() + UNATTENDED_TIMEOUT) {
            Sent::All => {}
            Sent::Not => {
                left.push(node);
                silent = true;
            }
            Sent::Silence => silent = true,
        }
    }
    left
}

/// Sends data, then the modification time, of one file. That the time does not arrive is not the
/// user's failure: the server keeps its own, and shows it once the file was evicted.
fn send(node: &Node, until: Instant) -> Sent {
    let inode = node.inode();
    if has_unsent_data(node) && write_back_unattended(inode).is_err() {
        return Sent::Not;
    }
    let Some(times) = unsent(node) else {
        return Sent::All;
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
    let call = Call {
        deadline: Some(until),
        ..unattended_call()
    };
    let sent = node.remote().set_attr(&call, &set, through);
    // Also if it was refused: asking again and again would not help.
    inode.update(|meta| meta.sent_times(times));
    match sent {
        Ok(_) => Sent::All,
        Err(error) => {
            tracing::debug!(errno = %error.errno, "sending a modification time failed");
            match error.errno {
                Errno::EIO | Errno::ETIMEDOUT => Sent::Silence,
                _ => Sent::All,
            }
        }
    }
}
