//! A clock that stands still until it is told to move.

use parking_lot::Mutex;

use crate::attr::Timestamp;
use crate::clock::Clock;

/// A clock under a test's control.
#[derive(Debug)]
pub struct TestClock(Mutex<Timestamp>);

impl TestClock {
    /// A clock that stands at `sec` seconds after 1970.
    pub fn at(sec: i64) -> TestClock {
        TestClock(Mutex::new(Timestamp { sec, nsec: 0 }))
    }

    /// Puts the clock to `now`.
    pub fn set(&self, now: Timestamp) {
        *self.0.lock() = now;
    }

    /// Moves the clock on (or back) by `sec` seconds.
    pub fn advance(&self, sec: i64) {
        let mut now = self.0.lock();
        now.sec = now.sec.saturating_add(sec);
    }

    /// Moves the clock on by a microsecond and reads it: no two ticks are equal.
    pub fn tick(&self) -> Timestamp {
        let mut now = self.0.lock();
        now.nsec += 1000;
        if now.nsec >= 1_000_000_000 {
            now.sec = now.sec.saturating_add(1);
            now.nsec -= 1_000_000_000;
        }
        *now
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }
}
