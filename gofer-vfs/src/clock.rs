//! Where this client's time comes from.

use std::time::SystemTime;

use crate::attr::Timestamp;

/// A source of wall-clock time, for the modes in which the client's clock stamps files
/// (semantics 13.7).
pub trait Clock: Send + Sync {
    /// The time now. Never blocks.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}
