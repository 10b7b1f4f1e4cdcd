//! Developer tasks, one module for each, and what they share.
//!
//! - [`ci`]: everything a change must pass.
//! - [`matrix`], [`interop`]: the behaviour suite against our server and against other people's.
//! - [`random`]: random operations on mounts and on the host.
//! - [`suites`]: other people's tests and programs on a mount.
//! - [`mod@bench`]: what operations cost.
//! - [`hammer`]: many clients at once.
//! - [`tidy`]: rules no compiler checks.
//! - [`suite`], [`watchdog`], [`outcome`]: running cases and showing results.
//! - [`process`], [`connect`], [`workspace`]: servers, mounts, and building them.

#![forbid(unsafe_code)]

pub mod bench;
pub mod ci;
pub mod connect;
pub mod hammer;
pub mod interop;
pub mod matrix;
pub mod outcome;
pub mod process;
pub mod random;
pub mod suite;
pub mod suites;
pub mod tidy;
pub mod watchdog;
pub mod workspace;

/// The README, so that its example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
