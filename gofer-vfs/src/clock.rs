//! Where this client's time comes from.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use crate::attr::Timestamp;

/// A source of wall-clock time, for the modes in which the client's clock stamps files
/// (semantics 13.7).
pub trait Clock: Send + Sync {
    /// The time now. Never blocks.
    fn now(&self) -> Timestamp;

    /// Time since some moment in the past, that never goes back and is not set by anybody.
    fn monotonic(&self) -> Duration {
        static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        BEGIN.elapsed()
    }
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}
