//! lisafs, gVisor's file protocol, over a Unix stream socket.
//!
//! - [`wire`]: bytes to messages and back, for clients and servers.

#![forbid(unsafe_code)]

pub mod wire;
