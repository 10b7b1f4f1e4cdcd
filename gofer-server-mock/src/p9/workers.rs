//! Work that one connection leaves to other threads than its reader.
//!
//! Threads come when work waits and nobody is idle, up to a limit, and go when there has been
//! nothing to do for a while.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use gofer_9p::wire::{Header, Tag};
use parking_lot::{Condvar, Mutex};

use super::session::Session;

/// How long a thread waits for more work before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// Most bytes of requests that wait for a thread, and of their replies. Beyond it the reader stops; below it, a Tflush
/// gets through to requests that have not begun.
const WAITING_BYTES: usize = 4 << 20;

/// What a waiting request costs beside its body, roughly.
const JOB_BYTES: usize = 128;

/// A request that waits for a thread.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) session: Arc<Session>,
    pub(super) header: Header,
    pub(super) body: Vec<u8>,
    /// Bytes that its reply may have.
    pub(super) reply: usize,
}

impl Job {
    fn size(&self) -> usize {
        self.body.len() + self.reply + JOB_BYTES
    }
}

/// What a thread is to do next.
#[derive(Debug)]
pub(super) enum Work {
    Request(Job),
    /// Send what the client is slow to read.
    Drain,
}

/// Whether to start a thread for work that was just queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(super) enum Hands {
    Enough,
    /// A thread that is counted already: start it, or call [`Workers::no_thread`].
    StartThread,
}

#[derive(Debug)]
pub(super) struct Workers {
    /// A leaf: no other lock is taken under it.
    queue: Mutex<Queue>,
    /// Work came, or the end.
    came: Condvar,
    /// Something ended: there may be room, or nothing running any more.
    ended: Condvar,
    threads_max: usize,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Job>,
    waiting_bytes: usize,
    drain: bool,
    threads: usize,
    idle: usize,
    /// Requests that threads work on.
    running: usize,
    closed: bool,
}

impl Workers {
    /// Up to `threads_max` threads, at least one.
    pub(super) fn new(threads_max: usize) -> Workers {
        Workers {
            queue: Mutex::default(),
            came: Condvar::new(),
            ended: Condvar::new(),
            threads_max: threads_max.max(1),
        }
    }

    /// Queues a request, waiting while too much waits already.
    pub(super) fn push(&self, job: Job) -> Hands {
        let mut queue = self.queue.lock();
        while queue.waiting_bytes >= WAITING_BYTES {
            self.ended.wait(&mut queue);
        }
        queue.waiting_bytes += job.size();
        queue.waiting.push_back(job);
        self.hands(&mut queue)
    }

    /// Has somebody drain the replies, before all requests.
    pub(super) fn push_drain(&self) -> Hands {
        let mut queue = self.queue.lock();
        queue.drain = true;
        self.hands(&mut queue)
    }

    fn hands(&self, queue: &mut Queue) -> Hands {
        let work = queue.waiting.len() + usize::from(queue.drain);
        if queue.idle < work && queue.threads < self.threads_max {
            queue.threads += 1;
            return Hands::StartThread;
        }
        self.came.notify_one();
        Hands::Enough
    }

    /// The next work for a thread that was started; `None` ends it. The caller hands back each
    /// request with [`Workers::done`].
    pub(super) fn next(&self) -> Option<Work> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(work) = queue.take() {
                return Some(work);
            }
            if queue.closed {
                break;
            }
            queue.idle += 1;
            let timed_out = self.came.wait_for(&mut queue, IDLE).timed_out();
            queue.idle -= 1;
            if timed_out && queue.waiting.is_empty() && !queue.drain {
                break;
            }
        }
        queue.threads -= 1;
        None
    }

    /// A thread could not be started.
    pub(super) fn no_thread(&self) {
        self.queue.lock().threads -= 1;
        self.came.notify_one();
    }

    /// Work that no thread will ever do, because there is none.
    pub(super) fn orphan(&self) -> Option<Work> {
        let mut queue = self.queue.lock();
        match queue.threads {
            0 => queue.take(),
            _ => None,
        }
    }

    /// A request from [`Workers::next`] or [`Workers::orphan`] has been carried out.
    pub(super) fn done(&self) {
        self.queue.lock().running -= 1;
        self.ended.notify_all();
    }

    /// Whether every request that was queued has been carried out.
    pub(super) fn are_idle(&self) -> bool {
        let queue = self.queue.lock();
        queue.waiting.is_empty() && queue.running == 0
    }

    /// Takes the request with `tag` back, if no thread has begun it.
    pub(super) fn cancel(&self, tag: Tag) -> bool {
        let mut queue = self.queue.lock();
        let index = queue.waiting.iter().position(|job| job.header.tag == tag);
        let job = index.and_then(|index| queue.waiting.remove(index));
        if let Some(job) = &job {
            queue.waiting_bytes -= job.size();
            self.ended.notify_all();
        }
        job.is_some()
    }

    /// Drops every request that has not begun and waits for those that have.
    pub(super) fn cancel_all(&self) {
        let mut queue = self.queue.lock();
        queue.drop_waiting();
        while queue.running > 0 {
            self.ended.wait(&mut queue);
        }
    }

    /// Drops every request that has not begun; threads end when they are done with theirs.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.drop_waiting();
        self.came.notify_all();
    }
}

impl Queue {
    fn take(&mut self) -> Option<Work> {
        if std::mem::take(&mut self.drain) {
            return Some(Work::Drain);
        }
        let job = self.waiting.pop_front()?;
        self.waiting_bytes -= job.size();
        self.running += 1;
        Some(Work::Request(job))
    }

    fn drop_waiting(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
    }
}

#[cfg(test)]
mod tests;
