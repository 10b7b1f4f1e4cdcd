//! Moves bytes and descriptors between a gofer and its clients, for any protocol.
//!
//! - [`Stream`]: a connected byte stream (Unix socket, TCP, pipes, inherited descriptors) that can
//!   carry descriptors where the kernel allows it.
//! - [`PacketSocket`]: a Unix seqpacket socket, for descriptors that travel beside a channel.
//! - [`FdQueue`]: received descriptors, owned and bounded.
//! - [`Channel`]: both as a client uses them, with the connection they belong to.
//! - [`DetachedMount`]: a copy of a mount whose descriptors lead nowhere else.
//! - [`Mapping`]: a range of a file in memory, read and written without signals.
//! - [`MemoryFile`]: a file in memory that is read at the speed of memory.
//! - [`codec`]: bounds-checked little-endian reading and writing.
//! - [`Cancel`], [`Wait`]: giving up a wait.
//! - [`Tracer`]: where `--trace` lines go.
//!
//! No protocol is known here. This is the only crate of the project with unsafe code.

#![deny(unsafe_code)]

mod cancel;
mod channel;
pub mod codec;
mod fds;
pub mod flipcall;
pub mod mapping;
mod memory;
mod mount;
mod packet;
pub mod shm;
mod stream;
mod trace;

pub use cancel::{Cancel, Wait, Watch};
pub use channel::{Channel, ChannelEnd};
pub use fds::{FdQueue, inherit};
pub use mapping::Mapping;
pub use memory::MemoryFile;
pub use mount::{DetachError, DetachedMount};
pub use packet::PacketSocket;
pub use stream::{Stream, TransportKind};
pub use trace::Tracer;
