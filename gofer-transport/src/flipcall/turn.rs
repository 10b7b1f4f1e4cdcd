//! Whose turn it is: one word that two sides pass back and forth, and how to wait for it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{Timespec, futex};

use super::FlipError;
use super::spin::Spin;

/// Which side of a window this is. The client is active first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Side {
    Client,
    Server,
}

impl Side {
    fn own(self) -> u32 {
        match self {
            Side::Client => 0,
            Side::Server => 1,
        }
    }

    fn peer(self) -> u32 {
        1 - self.own()
    }
}

const SHUT_DOWN: u32 = 2;

/// The state word: atomics, and waiting until it changes.
pub trait StateWord {
    /// Loads with acquire order.
    fn load(&self) -> u32;
    /// Compare-and-swap with release order; the value found otherwise.
    fn compare_swap(&self, from: u32, to: u32) -> Result<(), u32>;
    /// Exchanges, with both orders.
    fn swap(&self, to: u32) -> u32;
    /// Sleeps while the word is `value`, at most for `limit`, or, with [`Duration::MAX`], for as
    /// long as that takes. May return early.
    fn wait_while(&self, value: u32, limit: Duration) -> Result<(), FlipError>;
    /// Wakes one sleeper, or all.
    fn wake(&self, all: bool);
}

impl StateWord for AtomicU32 {
    fn load(&self) -> u32 {
        self.load(Ordering::Acquire)
    }

    fn compare_swap(&self, from: u32, to: u32) -> Result<(), u32> {
        self.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
    }

    fn swap(&self, to: u32) -> u32 {
        AtomicU32::swap(self, to, Ordering::AcqRel)
    }

    fn wait_while(&self, value: u32, limit: Duration) -> Result<(), FlipError> {
        use rustix::io::Errno;
        // Without a limit the kernel needs no timer.
        let limit = (limit < Duration::MAX).then(|| Timespec {
            tv_sec: limit.as_secs().min(u64::from(u32::MAX)) as i64,
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        // Shared, not private: the peer is another process.
        match futex::wait(self, futex::Flags::empty(), value, limit.as_ref()) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => Ok(()),
            Err(error) => Err(FlipError::Wait(error.raw_os_error())),
        }
    }

    fn wake(&self, all: bool) {
        // Fails only for a word that is not mapped, and this one is.
        let _ = futex::wake(
            self,
            futex::Flags::empty(),
            if all { i32::MAX as u32 } else { 1 },
        );
    }
}

/// Turn-taking on a state word, for one side.
///
/// One thread at a time takes turns; any thread may shut down.
#[derive(Debug)]
pub struct Turn {
    side: Side,
    closed: AtomicBool,
    spin: Spin,
}

impl Turn {
    /// Turn-taking that has not begun. A wait looks at the word at most `spin_max` times before
    /// it sleeps, fewer where that does not pay. 0 never spins: right where the peer has to run
    /// on the same CPU.
    pub fn new(side: Side, spin_max: u32) -> Turn {
        Turn {
            side,
            closed: AtomicBool::new(false),
            spin: Spin::new(spin_max),
        }
    }

    /// Hands control to the peer.
    pub fn pass(&self, word: &impl StateWord) -> Result<(), FlipError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(FlipError::ShutDown);
        }
        match word.compare_swap(self.side.own(), self.side.peer()) {
            Ok(()) => word.wake(false),
            Err(SHUT_DOWN) => return Err(FlipError::ShutDown),
            Err(other) => return Err(FlipError::BadState(other)),
        }
        Ok(())
    }

    /// Waits until control is here.
    ///
    /// `alive` is asked before every sleep, and never otherwise. It says how long that sleep may
    /// last, or ends the wait with its error: a peer that died cannot wake anybody. A wait that it
    /// ended with [`FlipError::GaveUp`] can be taken up again.
    pub fn wait(
        &self,
        word: &impl StateWord,
        alive: &mut dyn FnMut() -> Result<Duration, FlipError>,
    ) -> Result<(), FlipError> {
        if self.is_here(word)? {
            return Ok(());
        }
        let spins = self.spin.budget();
        for _ in 0..spins {
            std::hint::spin_loop();
            if self.is_here(word)? {
                self.spin.paid();
                return Ok(());
            }
        }
        if spins > 0 {
            self.spin.in_vain();
        }
        loop {
            let limit = alive()?;
            word.wait_while(self.side.peer(), limit)?;
            if self.is_here(word)? {
                return Ok(());
            }
        }
    }

    /// Ends the turn-taking for both sides. Idempotent.
    pub fn shut_down(&self, word: &impl StateWord) {
        self.closed.store(true, Ordering::Release);
        word.swap(SHUT_DOWN);
        word.wake(true);
    }

    /// Whether control is here. Only the two sides and the end are states that can be.
    pub(super) fn is_here(&self, word: &impl StateWord) -> Result<bool, FlipError> {
        let state = word.load();
        if state == self.side.own() {
            return Ok(true);
        }
        if state == SHUT_DOWN || self.closed.load(Ordering::Acquire) {
            return Err(FlipError::ShutDown);
        }
        if state != self.side.peer() {
            return Err(FlipError::BadState(state));
        }
        Ok(false)
    }
}
