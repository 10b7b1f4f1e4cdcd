//! 9P2000.L and the `9P2000.L.Google.N` dialects.
//!
//! - [`wire`]: messages and their bytes, for clients and servers.
//! - [`client`]: a connection to a server, as gofer-vfs wants it.
//! - [`trace`]: messages as lines for people.

#![forbid(unsafe_code)]

pub mod client;
pub mod trace;
pub mod wire;
