//! A bounded queue of events with a descriptor that tells whether there are any.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use super::{Event, EventMask};
use crate::error::Errno;
use crate::stats::Counter;
use crate::sync::Mutex;

/// Events that may wait, as Linux's default.
const LENGTH_MAX: usize = 16384;

/// See the module.
pub(super) struct Queue {
    /// Never reused while the filesystem is mounted.
    pub(super) id: u64,
    /// A lock without a rank: nothing else is locked while it is held.
    waiting: Mutex<Waiting>,
    /// Counts 1 while there are events.
    ready: OwnedFd,
    /// Events that wait in this queue and others.
    queued: Arc<Counter>,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    overflowed: bool,
}

impl Queue {
    pub(super) fn new(id: u64, queued: Arc<Counter>) -> Result<Arc<Queue>, Errno> {
        Ok(Arc::new(Queue {
            id,
            waiting: Mutex::new(Waiting::default()),
            ready: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            queued,
        }))
    }

    /// Adds an event, unless it says the same as the last one. In place of those that find no
    /// room one event tells that some are lost.
    pub(super) fn push(&self, event: Event) {
        let mut waiting = self.waiting.lock();
        let repeats = waiting
            .events
            .back()
            .is_some_and(|last| last.says_the_same(&event));
        if repeats {
            return;
        }
        let event = match waiting.events.len() < LENGTH_MAX {
            true => event,
            false if waiting.overflowed => return,
            false => {
                waiting.overflowed = true;
                Event {
                    watch: -1,
                    mask: EventMask::Q_OVERFLOW,
                    cookie: 0,
                    name: Vec::new(),
                }
            }
        };
        waiting.events.push_back(event);
        self.queued.one();
        if waiting.events.len() == 1 {
            // Cannot fail: the counter is 0.
            let _ = rustix::io::write(&self.ready, &1u64.to_ne_bytes());
        }
    }

    /// The oldest events, at most `max`.
    pub(super) fn take(&self, max: usize) -> Vec<Event> {
        let mut waiting = self.waiting.lock();
        let count = max.min(waiting.events.len());
        let taken: Vec<Event> = waiting.events.drain(..count).collect();
        if taken
            .iter()
            .any(|event| event.mask == EventMask::Q_OVERFLOW)
        {
            waiting.overflowed = false;
        }
        self.queued.sub(count as u64);
        if count > 0 && waiting.events.is_empty() {
            let _ = rustix::io::read(&self.ready, &mut [0u8; 8]);
        }
        taken
    }

    /// What waits, left where it is.
    pub(super) fn peek(&self) -> Vec<Event> {
        self.waiting.lock().events.iter().cloned().collect()
    }
}

impl Event {
    /// The end of a watch is told each time.
    fn says_the_same(&self, other: &Event) -> bool {
        !self.mask.contains(EventMask::IGNORED)
            && (self.mask, self.watch) == (other.mask, other.watch)
            && self.name == other.name
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.queued.sub(self.waiting.lock().events.len() as u64);
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}
