//! What tests of this crate and of others share; with the feature `testing`.

pub mod clock;

pub use clock::TestClock;
