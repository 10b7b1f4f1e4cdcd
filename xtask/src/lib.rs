//! Developer tasks, one module for each, and what they share.
//!
//! - [`tidy`]: rules no compiler checks.
//! - [`process`], [`watchdog`]: servers and test cases under control.
//! - [`outcome`]: results and how they are shown.

#![forbid(unsafe_code)]

pub mod outcome;
pub mod process;
pub mod tidy;
pub mod watchdog;
pub mod workspace;
