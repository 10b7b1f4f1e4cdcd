//! What tests of this crate and of others share; with the feature `testing`.
//!
//! - [`behaviour`]: the suite that every client and server must pass together.
//! - [`mem_remote`]: a server in memory with faults, a call log and leak counters.
//! - [`wide_remote`]: a server of a tree of any size that is not stored.
//! - [`outside`]: somebody else who changes the tree, on the host or in memory.
//! - [`TestClock`]: a clock that moves when it is told to.

pub mod behaviour;
pub mod clock;
pub mod mem_remote;
#[cfg(test)]
mod model;
pub mod outside;
pub mod wide_remote;

pub use clock::TestClock;
pub use outside::{HostOutside, Outside};
