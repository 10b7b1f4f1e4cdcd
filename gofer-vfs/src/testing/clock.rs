//! A clock that stands still until it is told to move.

use std::time::Duration;

use parking_lot::Mutex;

use crate::attr::Timestamp;
use crate::clock::Clock;

/// A clock under a test's control.
#[derive(Debug)]
pub struct TestClock {
    wall: Mutex<Timestamp>,
    passed: Mutex<Duration>,
}

impl TestClock {
    /// A clock that stands at `sec` seconds after 1970.
    pub fn at(sec: i64) -> TestClock {
        TestClock {
            wall: Mutex::new(Timestamp { sec, nsec: 0 }),
            passed: Mutex::new(Duration::ZERO),
        }
    }

    /// Puts the clock to `now`.
    pub fn set(&self, now: Timestamp) {
        *self.wall.lock() = now;
    }

    /// Lets time pass, which the wall clock does not show.
    pub fn pass(&self, time: Duration) {
        *self.passed.lock() += time;
    }

    /// Moves the clock on (or back) by `sec` seconds.
    pub fn advance(&self, sec: i64) {
        let mut now = self.wall.lock();
        now.sec = now.sec.saturating_add(sec);
    }

    /// Moves the clock on by a microsecond and reads it: no two ticks are equal.
    pub fn tick(&self) -> Timestamp {
        let mut now = self.wall.lock();
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
        *self.wall.lock()
    }

    fn monotonic(&self) -> Duration {
        *self.passed.lock()
    }
}
