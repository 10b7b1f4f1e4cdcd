//! How much clients may ask for before they are refused.

use std::time::Duration;

/// Limits of a server. Each connection has its own count of everything but connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections at a time; one more is closed at once.
    pub connections: usize,
    /// Handles (fids, FDIDs) of one connection; one more is `EMFILE`.
    pub handles: usize,
    /// Requests in progress on one connection, where a protocol allows several; further ones
    /// wait. 9P works on 17 at a time at most.
    pub requests: usize,
    /// Shared-memory channels of one connection; one more is `ENOMEM`, and with 0 none is offered.
    pub channels: usize,
    /// Bytes of one message: the payload of a lisafs frame, and the msize of 9P, which is never
    /// agreed above 1 MiB.
    pub message_size: u32,
    /// How long a client may take nothing of the replies that wait for it. Then it is dropped.
    pub patience: Duration,
}

impl Limits {
    /// Messages cannot be limited to less than this many bytes: both protocols need room for a
    /// directory entry with the longest name, and 9P clients for a page.
    pub const MESSAGE_SIZE_MIN: u32 = 8192;
    /// Messages cannot be larger than this many bytes.
    pub const MESSAGE_SIZE_MAX: u32 = 16 << 20;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            handles: 65_536,
            requests: 64,
            channels: std::thread::available_parallelism()
                .map_or(2, usize::from)
                .clamp(2, 4),
            message_size: (2 << 20) - 4096,
            patience: Duration::from_secs(30),
        }
    }
}
