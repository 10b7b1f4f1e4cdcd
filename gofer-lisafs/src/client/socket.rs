//! A bound socket FD.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use gofer_vfs::Errno;
use gofer_vfs::remote::{Call, Promptness, RemoteError, RemoteResult, RemoteSocket};

use super::connection::Connection;
use super::file::required;
use crate::wire::{AcceptReq, Fdid, ListenReq};

/// A bound socket FD that this client owns, and the host's descriptor of it to poll on.
pub(super) struct BoundSocket {
    connection: Arc<Connection>,
    fd: Fdid,
    host_fd: OwnedFd,
}

impl BoundSocket {
    /// Takes over `fd`; closes it again when the descriptor that must come with it did not.
    pub(super) fn adopt(
        connection: &Arc<Connection>,
        fd: Fdid,
        host_fd: RemoteResult<OwnedFd>,
    ) -> RemoteResult<BoundSocket> {
        let bad = (fd == Fdid::NONE).then_some(RemoteError::unknown(Errno::EIO));
        match bad.map_or(host_fd, Err) {
            Ok(host_fd) => {
                connection.closes.hold();
                Ok(BoundSocket {
                    connection: connection.clone(),
                    fd,
                    host_fd,
                })
            }
            Err(error) => {
                connection.closes.push(fd, Promptness::Batched);
                Err(error)
            }
        }
    }
}

impl RemoteSocket for BoundSocket {
    fn listen(&self, call: &Call<'_>, backlog: u32) -> RemoteResult<()> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        let request = ListenReq {
            fd: self.fd,
            backlog,
        };
        self.connection.call(call, &request, |_, _| Ok(()))
    }

    fn accept(&self, call: &Call<'_>) -> RemoteResult<OwnedFd> {
        self.connection
            .call(call, &AcceptReq { fd: self.fd }, |_, fds| required(fds))
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.host_fd.as_fd()
    }
}

impl Drop for BoundSocket {
    /// Peers see a bound socket go away, so its Close does not wait for a batch (lisafs 10.5).
    fn drop(&mut self) {
        self.connection.closes.give_up(self.fd, Promptness::Prompt);
    }
}
