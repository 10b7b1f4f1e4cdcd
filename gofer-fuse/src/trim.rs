//! Keeps the number of files that the kernel knows within bounds.
//!
//! The kernel remembers each name it was told of until memory is short. Each is kept here as
//! well, and costs the server a descriptor, of which there are fewer. So from a limit on the
//! kernel is asked to forget some (`FUSE_NOTIFY_PRUNE`, since Linux 6.18; fuser does not have
//! it). It keeps those that somebody uses. Where names come faster than they go, whoever asks for
//! more waits for a moment.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::process::{Resource, getrlimit};

use crate::nodes::Nodes;

/// Bounds of the limit.
const LIMIT: (usize, usize) = (64, 1 << 16);

/// Most numbers in one message to the kernel.
const BATCH: usize = 256;

/// The pause after the kernel was asked: it answers with requests, and these take time.
const PAUSE: Duration = Duration::from_millis(5);

/// The longest that somebody waits for the kernel to forget.
const PATIENCE: Duration = Duration::from_millis(50);

/// `enum fuse_notify_code` of Linux.
const FUSE_NOTIFY_PRUNE: i32 = 9;

/// How many files the kernel may know before it is asked to forget some: a part of the
/// descriptors that a process may have, and so may the server that was started for the mount.
pub(crate) fn limit() -> usize {
    limit_of(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

fn limit_of(descriptors: u64) -> usize {
    let part = usize::try_from(descriptors / 4).unwrap_or(usize::MAX);
    part.clamp(LIMIT.0, LIMIT.1)
}

/// Has the kernel asked to forget.
pub(crate) struct Trimmer {
    limit: usize,
    wake: SyncSender<()>,
    rounds: Arc<Rounds>,
}

/// What runs it.
pub(crate) struct Trimming {
    limit: usize,
    wake: Receiver<()>,
    rounds: Arc<Rounds>,
}

/// How often the kernel was asked.
#[derive(Default)]
struct Rounds {
    last: Mutex<Round>,
    done: Condvar,
}

#[derive(Default)]
struct Round {
    number: u64,
    /// It forgot nothing, or cannot be asked: waiting is of no use.
    in_vain: bool,
}

impl Rounds {
    fn end_one(&self, in_vain: bool) {
        let mut last = self.last.lock();
        last.number += 1;
        last.in_vain = in_vain;
        self.done.notify_all();
    }
}

impl Trimmer {
    pub(crate) fn new(limit: usize) -> (Trimmer, Trimming) {
        let (sender, wake) = sync_channel(1);
        let rounds = Arc::<Rounds>::default();
        let trimmer = Trimmer {
            limit,
            wake: sender,
            rounds: rounds.clone(),
        };
        let trimming = Trimming {
            limit,
            wake,
            rounds,
        };
        (trimmer, trimming)
    }

    /// The kernel was told of one more file; it knows `count`.
    #[inline]
    pub(crate) fn entered(&self, count: usize) {
        if count > self.limit
            && let Err(TrySendError::Disconnected(())) = self.wake.try_send(())
        {
            tracing::trace!("the kernel cannot be asked to forget");
        }
    }

    /// The kernel is about to be told of more files, and knows `count`. Waits while it is asked to
    /// forget, if it knows so many that descriptors may run out before it has, and if that was of
    /// use the last time.
    pub(crate) fn make_room(&self, count: usize) {
        if count <= 2 * self.limit {
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        let mut last = self.rounds.last.lock();
        let number = last.number;
        self.entered(count);
        while last.number == number && !last.in_vain {
            if self.rounds.done.wait_until(&mut last, deadline).timed_out() {
                return;
            }
        }
    }
}

impl Trimming {
    /// Asks whenever there are too many, on a thread of its own, until `nodes` are gone. `device`
    /// leads to the kernel.
    pub(crate) fn start(self, device: OwnedFd, nodes: Weak<Nodes>) -> io::Result<()> {
        let device = File::from(device);
        std::thread::Builder::new()
            .name("fuse-trim".to_owned())
            .spawn(move || {
                if let Err(error) = self.run(&device, &nodes) {
                    tracing::debug!(%error, "the kernel does not forget when asked to");
                }
                self.rounds.end_one(true);
            })
            .map(drop)
    }

    fn run(&self, device: &File, nodes: &Weak<Nodes>) -> io::Result<()> {
        let keep = self.limit / 4 * 3;
        // Where the last round ended: those in use are not asked for again and again.
        let mut cursor = 0;
        while let Ok(()) = self.wake.recv() {
            let Some(known) = nodes.upgrade() else { break };
            let numbers = known.surplus(keep, cursor);
            let before = known.count();
            drop(known);
            cursor = cursor.wrapping_add(numbers.len());
            for batch in numbers.chunks(BATCH) {
                (&*device).write_all(&prune(batch))?;
            }
            std::thread::sleep(PAUSE);
            let Some(known) = nodes.upgrade() else { break };
            self.rounds.end_one(known.count() >= before);
        }
        Ok(())
    }
}

/// `struct fuse_out_header`, `struct fuse_notify_prune_out`, and the numbers.
fn prune(numbers: &[u64]) -> Vec<u8> {
    let length = 16 + 16 + 8 * numbers.len();
    let mut message = Vec::with_capacity(length);
    message.extend_from_slice(&(length as u32).to_ne_bytes());
    message.extend_from_slice(&FUSE_NOTIFY_PRUNE.to_ne_bytes());
    message.extend_from_slice(&0u64.to_ne_bytes());
    message.extend_from_slice(&(numbers.len() as u32).to_ne_bytes());
    message.extend_from_slice(&[0; 12]);
    for number in numbers {
        message.extend_from_slice(&number.to_ne_bytes());
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_long_as_they_say() {
        for count in [0, 1, BATCH] {
            let message = prune(&vec![7; count]);
            assert_eq!(message.len(), 32 + 8 * count);
            assert_eq!(message[..4], (message.len() as u32).to_ne_bytes());
            assert_eq!(message[16..20], (count as u32).to_ne_bytes());
        }
    }

    #[test]
    fn who_asks_for_more_waits_for_a_round_unless_that_is_of_no_use() {
        let (trimmer, trimming) = Trimmer::new(8);
        trimmer.make_room(16);
        assert!(trimming.wake.try_recv().is_err());
        // Nobody asks the kernel yet: it is waited for, but not for ever.
        let begun = Instant::now();
        trimmer.make_room(17);
        assert!(begun.elapsed() >= PATIENCE);
        assert!(trimming.wake.try_recv().is_ok());
        let rounds = trimming.rounds.clone();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| trimmer.make_room(17));
            trimming.wake.recv().unwrap();
            rounds.end_one(false);
            waits.join().unwrap();
        });
        assert_eq!(rounds.last.lock().number, 1);
        rounds.end_one(true);
        let begun = Instant::now();
        for _ in 0..1000 {
            trimmer.make_room(17);
        }
        assert!(begun.elapsed() < 500 * PATIENCE, "it waited each time");
    }

    #[test]
    fn the_limit_is_a_part_of_the_descriptors_within_bounds() {
        let table = [
            (16, 64),
            (1024, 256),
            (20_000, 5_000),
            (1 << 20, 1 << 16),
            (u64::MAX, 1 << 16),
        ];
        for (descriptors, limit) in table {
            assert_eq!(limit_of(descriptors), limit, "{descriptors}");
        }
    }
}
