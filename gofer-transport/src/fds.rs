//! Descriptors: received ones as a bounded, owned queue; inherited ones adopted once.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use parking_lot::Mutex;

/// Descriptors that came with a message, in order. What nobody takes is closed.
#[derive(Default, Debug)]
pub struct FdQueue {
    fds: VecDeque<OwnedFd>,
    limit: usize,
}

impl FdQueue {
    /// The most descriptors one receive call can bring, whatever the limit.
    pub const PER_RECEIVE: usize = 16;

    /// An empty queue that keeps at most `limit` descriptors.
    pub fn new(limit: usize) -> FdQueue {
        FdQueue {
            fds: VecDeque::new(),
            limit,
        }
    }

    /// Closes what is left and keeps at most `limit` from now on.
    pub fn reset(&mut self, limit: usize) {
        self.clear();
        self.limit = limit;
    }

    /// Keeps `fd`, or closes it when the queue is full.
    pub fn push(&mut self, fd: OwnedFd) {
        if self.fds.len() < self.limit {
            self.fds.push_back(fd);
        }
    }

    /// The oldest descriptor.
    pub fn pop(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }

    /// How many are waiting.
    pub fn len(&self) -> usize {
        self.fds.len()
    }

    /// Whether none is waiting.
    pub fn is_empty(&self) -> bool {
        self.fds.is_empty()
    }

    /// Closes what is left.
    pub fn clear(&mut self) {
        // Mostly there is nothing, and this is part of every call.
        if !self.fds.is_empty() {
            self.fds.clear();
        }
    }
}

static ADOPTED: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes ownership of a descriptor that this process inherited under `number`, and marks it
/// close-on-exec.
///
/// `EBADF` when there is none, and when the number was adopted before: an owned descriptor is
/// owned once. Call it at start-up, before the process opens descriptors of its own.
#[allow(unsafe_code)]
pub fn inherit(number: RawFd) -> io::Result<OwnedFd> {
    let bad = || io::Error::from(rustix::io::Errno::BADF);
    if number < 0 {
        return Err(bad());
    }
    let mut adopted = ADOPTED.lock();
    if adopted.contains(&number) {
        return Err(bad());
    }
    // SAFETY: the borrow lasts for this one call, which only asks the kernel about the number
    // and fails with EBADF when it is not open; the number is not -1.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    adopted.push(number);
    // SAFETY: the number is open, came from outside by the caller's word, and the list above
    // makes sure that no second owner is made here.
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    debug_assert_eq!(owned.as_raw_fd(), number);
    Ok(owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    #[test]
    fn a_full_queue_closes_what_comes() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut queue = FdQueue::new(1);
        queue.push(reader);
        queue.push(writer);
        assert_eq!(queue.len(), 1);
        // The write end is closed, so the read end is at its end.
        assert_eq!(rustix::io::read(queue.pop().unwrap(), &mut [0u8; 1]), Ok(0));
    }

    #[test]
    fn a_number_is_adopted_once_and_must_be_open() {
        assert!(inherit(-1).is_err());
        assert!(inherit(1_000_000).is_err());
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let number = reader.into_raw_fd();
        let owned = inherit(number).unwrap();
        assert!(inherit(number).is_err());
        assert!(
            rustix::io::fcntl_getfd(&owned)
                .unwrap()
                .contains(rustix::io::FdFlags::CLOEXEC)
        );
    }
}
