//! A client: the traits of [`gofer_vfs::remote`] over one Unix stream socket, and channels in
//! shared memory beside it.
//!
//! - `communicator.rs` owns socket and channels and gives each to one caller at a time;
//!   `incoming.rs` is one response on its way in.
//! - `connection.rs` turns typed requests into typed responses, with the checks of lisafs 10.
//! - `attached.rs`, `file.rs`, `handle.rs`, `socket.rs` implement the traits.
//!
//! Callers drive the transports themselves: there is no thread. The loss of the connection shows
//! in the calls it meets and the first one after it, and from then on in all, as `EIO`.
//!
//! Locks: the gate of the communicator, the queue of closes, the pool of buffers and the list of
//! subscribers are leaves, held for moments and never over a wait. The lock on a directory
//! handle's listing is held over the request of `read_dir`, which its callers do not share.

mod attached;
mod closes;
mod communicator;
mod connection;
pub(crate) mod convert;
pub(crate) mod donated;
mod file;
mod handle;
mod incoming;
mod listing;
mod socket;
#[cfg(test)]
mod tests;
mod walk;
mod xattr;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gofer_transport::{Stream, Tracer, TransportKind};
use gofer_vfs::Errno;
use gofer_vfs::error::printable;
use gofer_vfs::remote::{Call, Fate, RemoteError, RemoteFilesystem};

use attached::Attached;
use communicator::Loss;
use connection::Connection;

use crate::direct::DirectFilesystem;

/// How long connecting may take when [`Config::timeout`] does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The most channels one connection has.
pub const CHANNELS_MAX: u32 = 64;

/// How to connect.
#[derive(Clone, Default, Debug)]
pub struct Config {
    /// The directory (or file) below the server's root that becomes the root; empty for the
    /// server's root itself. No component may be a symbolic link.
    pub aname: Vec<u8>,
    /// Bounds every call that has no deadline of its own, with `ETIMEDOUT`; connecting takes at
    /// most 30 seconds without it.
    pub timeout: Option<Duration>,
    /// The most channels to open beside the socket: more callers than that share them and the
    /// socket. 0 uses the socket only; [`CHANNELS_MAX`] is the most. `None` is as many as there
    /// are CPUs to use them, at most 4.
    pub channels: Option<u32>,
    /// Work on the descriptor of its root that the server gives away, instead of asking it; only
    /// Unix sockets are left to it. A server that gives none is [`ConnectError::Refused`] with
    /// `EINVAL`. A thread watches the connection, whose end is that of the tree; each file that is
    /// held costs a descriptor of this process. Needs `/proc`.
    pub directfs: bool,
    /// Gets one line per message.
    pub tracer: Tracer,
}

impl Config {
    /// How many channels to ask for.
    fn channel_count(&self) -> usize {
        let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
        match self.channels {
            Some(count) => count.min(CHANNELS_MAX) as usize,
            None => cpus().min(4),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The socket does not work.
    #[error("cannot use the connection: {0}")]
    Io(Errno),
    /// The server ended the connection instead of answering.
    #[error("the server closed the connection (does it speak another protocol?)")]
    Closed,
    /// What the server answered is not lisafs.
    #[error("the server does not speak lisafs: {0}")]
    Protocol(&'static str),
    /// The server, or the clock, said no.
    #[error("{what}: {errno}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Why not.
        errno: Errno,
    },
}

impl ConnectError {
    /// The error number that fits best.
    pub fn errno(&self) -> Errno {
        match self {
            ConnectError::Io(errno) | ConnectError::Refused { errno, .. } => *errno,
            ConnectError::Closed => Errno::ECONNRESET,
            ConnectError::Protocol(_) => Errno::EPROTO,
        }
    }
}

/// Mounts over a connected Unix stream socket, and finds [`Config::aname`] below its root.
///
/// Blocks until the server has answered, 30 seconds at most or as [`Config::timeout`] says. A
/// TCP connection is [`ConnectError::Io`] with `EINVAL` (semantics 2.4): it carries no
/// descriptors.
pub fn connect(stream: Stream, config: Config) -> Result<Arc<dyn RemoteFilesystem>, ConnectError> {
    if stream.kind() != TransportKind::Unix {
        return Err(ConnectError::Io(Errno::EINVAL));
    }
    // Nothing that is frequent goes over the connection of direct file access (lisafs 10.1).
    let channels = match config.directfs {
        true => 0,
        false => config.channel_count(),
    };
    let watched = config
        .directfs
        .then(|| stream.duplicate_input())
        .transpose();
    let watched = watched.map_err(|error| ConnectError::Io((&error).into()))?;
    let connection = Arc::new(Connection::new(stream, config.timeout, config.tracer));
    let timeout = config.timeout.unwrap_or(CONNECT_TIMEOUT);
    let call = Call {
        deadline: Instant::now().checked_add(timeout),
        cancel: None,
    };
    match Attached::new(connection.clone(), &config.aname, channels, &call) {
        Ok(mut attached) => {
            tracing::debug!(channels = connection.channels(), "connected");
            // Closed here if nobody asked for it.
            let donated = attached.take_donated_root();
            match watched {
                Some(socket) => {
                    go_direct(Arc::new(attached), donated, &config.aname, socket, &call)
                }
                None => Ok(Arc::new(attached)),
            }
        }
        Err(error) => {
            let reason = reason(connection.loss(), error, &config.aname);
            connection.shutdown();
            Err(reason)
        }
    }
}

/// Goes on with the descriptor of the root that came with Mount.
fn go_direct(
    server: Arc<Attached>,
    donated: Option<OwnedFd>,
    aname: &[u8],
    connection: OwnedFd,
    call: &Call<'_>,
) -> Result<Arc<dyn RemoteFilesystem>, ConnectError> {
    let refused = |what: &str, errno| ConnectError::Refused {
        what: format!("directfs: {what}"),
        errno,
    };
    let result = match donated {
        None => Err(refused(
            "the server gives away no descriptor of its root",
            Errno::EINVAL,
        )),
        Some(donated) => server
            .root(call)
            .and_then(|known| {
                DirectFilesystem::attach(donated, aname, server.clone(), known.key, connection)
            })
            .map_err(|error| refused("attach", error.errno)),
    };
    match result {
        Ok(direct) => Ok(Arc::new(direct)),
        Err(error) => {
            server.shutdown();
            Err(error)
        }
    }
}

fn reason(loss: Option<Loss>, error: RemoteError, aname: &[u8]) -> ConnectError {
    match (loss, error.fate) {
        (Some(Loss::Closed | Loss::Io(Errno::ECONNRESET)), _) => ConnectError::Closed,
        (Some(Loss::Io(errno)), _) => ConnectError::Io(errno),
        (Some(Loss::Garbage), _) => ConnectError::Protocol("what it sent is no response"),
        (_, Fate::Unknown) if error.errno != Errno::ETIMEDOUT => {
            ConnectError::Protocol("its response is malformed")
        }
        _ => {
            let what = match aname {
                [] => "mount".to_string(),
                aname => format!("mount {}", printable(aname)),
            };
            ConnectError::Refused {
                what,
                errno: error.errno,
            }
        }
    }
}
