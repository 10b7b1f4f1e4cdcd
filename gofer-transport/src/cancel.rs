//! Giving up a wait: from another thread, or after some time.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

type Callback = Arc<dyn Fn() + Send + Sync>;

/// A flag that ends waits. Waits on descriptors see it through an eventfd, other waits through
/// [`Cancel::watch`].
pub struct Cancel {
    set: AtomicBool,
    event: OwnedFd,
    watchers: Mutex<Vec<(u64, Callback)>>,
}

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> io::Result<Cancel> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Cancel {
            set: AtomicBool::new(false),
            event,
            watchers: Mutex::new(Vec::new()),
        })
    }

    /// Sets the flag and wakes everybody who waits with it.
    pub fn set(&self) {
        self.set.store(true, Ordering::SeqCst);
        // The counter only has to be non-zero; when it is full it is.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        let watchers = self.watchers.lock().clone();
        for (_, callback) in watchers {
            callback();
        }
    }

    /// Clears the flag, for the next command.
    pub fn reset(&self) {
        let mut counter = [0u8; 8];
        let _ = rustix::io::read(&self.event, &mut counter);
        self.set.store(false, Ordering::SeqCst);
    }

    /// Whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    /// Calls `callback` when the flag is set, until the returned guard is dropped. The caller
    /// checks [`Cancel::is_set`] afterwards: the flag may have been set before.
    pub fn watch(&self, callback: Arc<dyn Fn() + Send + Sync>) -> Watch<'_> {
        let mut watchers = self.watchers.lock();
        let id = watchers.last().map_or(0, |(last, _)| last + 1);
        watchers.push((id, callback));
        Watch { cancel: self, id }
    }
}

impl AsFd for Cancel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel")
            .field("set", &self.is_set())
            .finish_non_exhaustive()
    }
}

/// Ends a [`Cancel::watch`] when dropped.
#[derive(Debug)]
pub struct Watch<'a> {
    cancel: &'a Cancel,
    id: u64,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.cancel.watchers.lock().retain(|(id, _)| *id != self.id);
    }
}

/// How long to wait for a descriptor. The default waits for ever.
#[derive(Clone, Copy, Default, Debug)]
pub struct Wait<'a> {
    /// `ETIMEDOUT` from then on.
    pub deadline: Option<Instant>,
    /// `ECANCELED` (as `ErrorKind::Interrupted` is retried by habit) once it is set.
    pub cancel: Option<&'a Cancel>,
}

impl Wait<'_> {
    /// Whether this wait can end before its event.
    pub fn is_bounded(&self) -> bool {
        self.deadline.is_some() || self.cancel.is_some()
    }

    /// Waits until `fd` has one of `flags` (errors and hang-up always count), or `also`, if
    /// given, becomes readable.
    pub(crate) fn ready(
        &self,
        fd: BorrowedFd<'_>,
        flags: PollFlags,
        also: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        loop {
            if self.cancel.is_some_and(Cancel::is_set) {
                return Err(rustix::io::Errno::CANCELED.into());
            }
            let left = self
                .deadline
                .map(|at| at.saturating_duration_since(Instant::now()));
            // In place: a wait is part of every call, and must not cost an allocation.
            let main = PollFd::from_borrowed_fd(fd, flags);
            let mut polled = [main.clone(), main.clone(), main];
            let mut count = 1;
            for other in self.cancel.map(Cancel::as_fd).into_iter().chain(also) {
                polled[count] = PollFd::from_borrowed_fd(other, PollFlags::IN);
                count += 1;
            }
            let ready = poll(&mut polled[..count], timespec(left).as_ref());
            match ready {
                Ok(0) if left.is_some() => return Err(rustix::io::Errno::TIMEDOUT.into()),
                Ok(_) if self.cancel.is_some_and(Cancel::is_set) => {}
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn timespec(left: Option<Duration>) -> Option<Timespec> {
    left.map(|left| Timespec {
        tv_sec: left.as_secs().min(1 << 32) as i64,
        tv_nsec: i64::from(left.subsec_nanos()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_flag_ends_a_wait_and_a_reset_one_does_not() {
        let (quiet, _writer) = rustix::pipe::pipe().unwrap();
        let cancel = Cancel::new().unwrap();
        let wait = Wait {
            cancel: Some(&cancel),
            deadline: None,
        };
        cancel.set();
        let error = wait.ready(quiet.as_fd(), PollFlags::IN, None).unwrap_err();
        assert_eq!(
            error.raw_os_error(),
            Some(rustix::io::Errno::CANCELED.raw_os_error())
        );
        cancel.reset();
        let wait = Wait {
            deadline: Some(Instant::now()),
            ..wait
        };
        let error = wait.ready(quiet.as_fd(), PollFlags::IN, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn watchers_are_told_until_they_leave() {
        let cancel = Cancel::new().unwrap();
        let calls = Arc::new(Mutex::new(0));
        let count = {
            let calls = calls.clone();
            Arc::new(move || *calls.lock() += 1)
        };
        let watch = cancel.watch(count);
        cancel.set();
        drop(watch);
        cancel.set();
        assert_eq!(*calls.lock(), 1);
    }
}
