//! Tests of the crate from outside.

// Helpers of tests fail by panicking, as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client;
mod common;
mod wire;
