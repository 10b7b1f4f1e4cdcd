//! The mount option `revalidate_after`: how long a check with the server is trusted.
//!
//! In shared mode a cached name is checked before each use. With this option a name that was
//! checked less than so long ago is used as it is, and so are the attributes that came with the
//! check: what others change shows that much later at most. What is changed through this client
//! shows at once: see [`crate::metadata::Metadata::is_current`]. Absent names, link targets,
//! listings and data are asked for each time, and so are attributes through an open file once
//! the time is over.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;

/// Parts that the time is measured in: a check is trusted for 2 of them less, at worst.
const TICKS: u32 = 64;

/// See the module.
pub(crate) struct Freshness {
    clock: Arc<dyn Clock>,
    begin: Duration,
    window: Duration,
    tick: Duration,
}

/// When something was checked; fits a dentry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moment(pub(crate) u32);

impl Moment {
    /// It was not.
    pub(crate) const NEVER: Moment = Moment(0);
}

impl Freshness {
    /// Checks are trusted for `window`; zero: never.
    pub(crate) fn new(clock: Arc<dyn Clock>, window: Duration) -> Freshness {
        Freshness {
            begin: clock.monotonic(),
            clock,
            window,
            tick: (window / TICKS).max(Duration::from_millis(1)),
        }
    }

    /// Whether any check is trusted.
    #[inline]
    pub(crate) fn is_used(&self) -> bool {
        !self.window.is_zero()
    }

    /// The time before a check that is about to be sent.
    pub(crate) fn now(&self) -> Moment {
        if !self.is_used() {
            return Moment::NEVER;
        }
        let ticks = self.elapsed().as_nanos() / self.tick.as_nanos().max(1) + 1;
        // After years nothing is trusted any more.
        Moment(u32::try_from(ticks).unwrap_or(0))
    }

    /// Whether what was checked at `moment` is still trusted.
    pub(crate) fn trusts(&self, moment: Moment) -> bool {
        if !self.is_used() || moment == Moment::NEVER {
            return false;
        }
        // The moment is rounded down.
        let checked = self.tick.saturating_mul(moment.0 - 1);
        self.elapsed().saturating_sub(checked) <= self.window
    }

    fn elapsed(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestClock;

    #[test]
    fn checks_are_trusted_for_no_longer_than_the_time() {
        for window in [1, 7, 64, 1000, 86_400_000] {
            let clock = Arc::new(TestClock::at(0));
            let fresh = Freshness::new(clock.clone(), Duration::from_millis(window));
            clock.pass(Duration::from_micros(1500));
            let checked = fresh.now();
            assert!(fresh.trusts(checked) || window < 3);
            assert!(!fresh.trusts(Moment::NEVER));
            clock.pass(Duration::from_millis(window));
            clock.pass(Duration::from_nanos(1));
            assert!(!fresh.trusts(checked), "{window}");
        }
    }

    #[test]
    fn nothing_is_trusted_without_the_option_and_after_years() {
        let clock = Arc::new(TestClock::at(0));
        let off = Freshness::new(clock.clone(), Duration::ZERO);
        assert!(!off.is_used());
        assert!(!off.trusts(off.now()));
        let fresh = Freshness::new(clock.clone(), Duration::from_millis(1));
        clock.pass(Duration::from_secs(100 * 86400));
        assert!(!fresh.trusts(fresh.now()));
    }
}
