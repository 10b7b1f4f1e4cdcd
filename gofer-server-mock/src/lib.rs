//! A file server for lisafs and 9P2000.L over a host directory.
//!
//! - [`host`]: the host directory, protocol-free; nothing leaves its root.
//! - [`p9`], [`lisafs`]: the protocols over it.
//! - [`server`]: serves connections in this process.
//! - [`run`]: the whole command line of `gofer-server-mock`.

#![forbid(unsafe_code)]

pub mod host;
pub mod limits;
pub mod lisafs;
pub mod p9;
pub mod server;

mod channels;
mod cli;
mod config;
mod listen;
mod run;
mod sandbox;
mod survive;

pub use run::run;
