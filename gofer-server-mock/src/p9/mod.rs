//! 9P2000.L and its Google dialects over the host layer.
//!
//! - `connection`: the threads of one connection; `inbox` cuts its stream into requests,
//!   `workers` carries several out at a time, `replies` knows which are outstanding and sends
//!   what they answer.
//! - `channel`: requests and replies in shared memory instead, each channel with a thread.
//! - `session`: what one Tversion begins and the next ends; `fids` is its table.
//! - `handlers`: one method for each request, by family.
//! - `locks`: byte-range locks between the clients of this process; `qid`: identities and
//!   attributes.
//!
//! The rules are those of the 9P specification, section 17 above all; code that needs a reason
//! names the section. Tbind, which no dialect announces, is `EOPNOTSUPP`.
//!
//! # Locks
//! Outermost first: the line of replies, its tags; the workers' queue; the table of fids; locks on
//! files; numbers of qids. The last four are leaves. None is held while the host is asked for
//! anything.

#[cfg(test)]
mod allocations;
mod channel;
mod connection;
mod fids;
mod handlers;
mod inbox;
mod locks;
mod qid;
mod replies;
mod reply;
mod session;
mod workers;

use std::io;
use std::sync::{Arc, LazyLock};

use gofer_transport::Stream;

use crate::host::Export;
use crate::limits::Limits;

/// What all sessions of the process share: files belong to the host, not to an export.
static SHARED: LazyLock<Shared> = LazyLock::new(Shared::default);

#[derive(Debug, Default)]
struct Shared {
    locks: Arc<locks::Locks>,
    qid_paths: qid::QidPaths,
}

/// Serves one connection until it ends, on the calling thread and a few of its own. When it
/// returns, every fid, lock and descriptor of the connection has been released. The error says why
/// the server ended it: malformed framing, a tag used twice, a client that takes no replies.
pub fn serve(stream: Arc<Stream>, export: Arc<Export>, limits: &Limits) -> io::Result<()> {
    connection::run(&stream, &export, limits)
}
