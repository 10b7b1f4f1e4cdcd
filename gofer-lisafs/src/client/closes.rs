//! FDIDs that nobody needs any more, on their way to a Close (lisafs 10.5).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gofer_vfs::remote::{Holdings, Promptness};
use parking_lot::Mutex;

use super::incoming::Incoming;
use crate::wire::{AnyResponse, Fdid, Value};

/// How many FDIDs are collected before a call takes them along.
const BATCH: usize = 100;

/// Collects FDIDs. Adding one never blocks and may be done under any lock.
#[derive(Default)]
pub(super) struct Closes {
    queue: Mutex<Queue>,
    /// FDIDs that somebody has.
    held: AtomicU64,
    /// Whether the next call should send them: the batch is full, or one of them is urgent.
    due: AtomicBool,
}

#[derive(Default)]
struct Queue {
    fds: Vec<Fdid>,
    /// Memory for the next batch.
    spare: Vec<Fdid>,
}

impl Closes {
    /// Adds one. 0 names nothing and is ignored.
    pub(super) fn push(&self, fd: Fdid, when: Promptness) {
        if fd == Fdid::NONE {
            return;
        }
        let mut queue = self.queue.lock();
        queue.fds.push(fd);
        if when == Promptness::Prompt || queue.fds.len() >= BATCH {
            self.due.store(true, Ordering::Release);
        }
    }

    /// Counts one that somebody has from now on, until [`Closes::give_up`].
    pub(super) fn hold(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds one that was held.
    pub(super) fn give_up(&self, fd: Fdid, when: Promptness) {
        self.push(fd, when);
        self.held.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn holdings(&self) -> Holdings {
        let closing = self.queue.lock().fds.len() as u64;
        Holdings {
            files: self.held.load(Ordering::Relaxed) + closing,
            closing,
        }
    }

    /// Takes all, if it is time to send them.
    pub(super) fn take_due(&self) -> Vec<Fdid> {
        match self.due.load(Ordering::Acquire) {
            true => self.take_all(),
            false => Vec::new(),
        }
    }

    /// Takes all.
    pub(super) fn take_all(&self) -> Vec<Fdid> {
        let mut queue = self.queue.lock();
        self.due.store(false, Ordering::Release);
        let spare = std::mem::take(&mut queue.spare);
        std::mem::replace(&mut queue.fds, spare)
    }

    /// Keeps the memory of what was taken for another batch.
    pub(super) fn recycle(&self, mut fds: Vec<Fdid>) {
        if fds.capacity() <= 2 * BATCH {
            fds.clear();
            self.queue.lock().spare = fds;
        }
    }

    /// Adds whatever FDIDs came with the response of a call that was given up.
    pub(super) fn adopt(&self, orphan: &Incoming) {
        let mid = orphan.message();
        if mid != orphan.request || orphan.fault().is_some() {
            return;
        }
        let Ok(response) = AnyResponse::decode(mid, orphan.body()) else {
            return;
        };
        response.fields(&mut |_, value| match value {
            Value::Fdid(fd) => self.push(fd, Promptness::Batched),
            Value::Inode(inode) => self.push(inode.control_fd, Promptness::Batched),
            Value::Inodes(inodes) => {
                for inode in inodes {
                    self.push(inode.control_fd, Promptness::Batched);
                }
            }
            _ => {}
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_become_due_by_number_and_by_urgency() {
        let closes = Closes::default();
        for number in 0..BATCH as u64 {
            closes.push(Fdid::new(number), Promptness::Batched);
        }
        assert!(
            closes.take_due().is_empty(),
            "0 names nothing and does not count"
        );
        closes.push(Fdid::new(1000), Promptness::Batched);
        assert_eq!(closes.take_due().len(), BATCH);
        closes.push(Fdid::new(7), Promptness::Batched);
        closes.push(Fdid::new(8), Promptness::Prompt);
        assert_eq!(closes.take_due(), [Fdid::new(7), Fdid::new(8)]);
        assert!(closes.take_due().is_empty());
    }
    #[test]
    fn no_more_wait_than_somebody_had() {
        const HELD: u64 = 50_000;
        let closes = Closes::default();
        (0..HELD).for_each(|_| closes.hold());
        // Files that go at once, as when all that is cached is dropped: no call is made between.
        for number in 1..=HELD {
            closes.give_up(Fdid::new(number), Promptness::Batched);
            let holdings = closes.holdings();
            assert_eq!((holdings.files, holdings.closing), (HELD, number));
        }
        let taken = closes.take_due();
        assert_eq!(taken.len() as u64, HELD);
        assert_eq!(closes.holdings(), Holdings::default());
        closes.recycle(taken);
        assert!(closes.queue.lock().spare.capacity() <= 2 * BATCH);
        // Where calls are made, each may take them along.
        for number in 1..=HELD {
            closes.push(Fdid::new(number), Promptness::Batched);
            let due = closes.take_due();
            assert!(due.is_empty() || due.len() == BATCH);
            closes.recycle(due);
            assert!(closes.holdings().closing < BATCH as u64);
        }
    }
}
