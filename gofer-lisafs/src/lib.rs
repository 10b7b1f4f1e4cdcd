//! lisafs, gVisor's file protocol, over a Unix stream socket.
//!
//! - [`wire`]: bytes to messages and back, for clients and servers.
//! - [`trace`]: messages as lines for people.
//! - [`client`]: the [`gofer_vfs::remote`] traits over a connection.
//! - `direct`: the same traits over a descriptor that the server gave away.

#![forbid(unsafe_code)]

pub mod client;
mod direct;
pub mod trace;
pub mod wire;
