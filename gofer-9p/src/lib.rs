//! 9P2000.L and the `9P2000.L.Google.N` dialects.
//!
//! - [`wire`]: messages and their bytes, for clients and servers.

#![forbid(unsafe_code)]

pub mod wire;
