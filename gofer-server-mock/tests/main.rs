//! Tests of the server over its connections and as a process.

#![allow(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, helpers included"
)]

mod command_line;
mod common;
mod lisafs;
mod p9;
