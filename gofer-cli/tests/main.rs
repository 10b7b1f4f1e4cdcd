//! The program as users run it: a process of its own, over both protocols, in temporary
//! directories.

// In a test, a panic is the report.
#![allow(clippy::unwrap_used)]

mod commands;
mod common;
mod errors;
mod help;
mod image;
mod interactive;
mod mount;
mod reconnect;
mod script;
mod sockets;
mod transfer;
