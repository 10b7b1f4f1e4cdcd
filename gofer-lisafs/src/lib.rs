//! lisafs, gVisor's file protocol, over a Unix stream socket.
//!
//! - [`wire`]: bytes to messages and back, for clients and servers.
//! - [`trace`]: messages as lines for people.
//! - [`client`]: the [`gofer_vfs::remote`] traits over a connection.

#![forbid(unsafe_code)]

pub mod client;
pub mod trace;
pub mod wire;
