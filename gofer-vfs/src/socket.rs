//! Unix sockets with a name in the tree: connecting to them and binding them (semantics 11.11,
//! 16.11).

mod opened;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::attr::FileType;
use crate::context::{At, Context, Follow};
use crate::dentry::Node;
use crate::error::{Errno, Result};
use crate::filesystem::{Filesystem, run};
use crate::permissions::{AccessMask, check_access};
use crate::remote::{RemoteResult, RemoteSocket, SocketType};
use crate::special;
use crate::superblock::{Failure, Res};
use crate::synthetic::LocalSocket;

pub(crate) use opened::{Connection, open};

/// A socket that was bound to a name. Its file stays known, so that connecting goes on to work,
/// until this is dropped.
pub struct Listener {
    node: Node,
    socket: Box<dyn RemoteSocket>,
}

impl Filesystem {
    /// Connects to the socket a path leads to. `EACCES` without permission to write it,
    /// `EPROTOTYPE` if it is of another type, `EAGAIN` if too many wait for its listener;
    /// `ECONNREFUSED` for whatever else fails, and for files that are no sockets.
    pub fn connect(&self, cx: &Context<'_>, at: At<'_>, kind: SocketType) -> Result<OwnedFd> {
        self.run("connect", at.path, || {
            let node = self.walk_to_end(cx, at, Follow::Yes)?;
            connect(cx, &node, kind)
        })
    }

    /// [`Filesystem::connect`] by node.
    pub fn connect_node(&self, cx: &Context<'_>, node: &Node, kind: SocketType) -> Result<OwnedFd> {
        self.run("connect", b"", || connect(cx, node, kind))
    }

    /// Makes a socket with a name: on the server where that can, else in this client alone, where
    /// only this client connects to it. `EADDRINUSE` if the name exists.
    pub fn bind(
        &self,
        cx: &Context<'_>,
        at: At<'_>,
        kind: SocketType,
        mode: u16,
    ) -> Result<Listener> {
        self.run("bind", at.path, || {
            let bound = self.bind_name(cx, at, kind, mode & 0o777);
            let (node, socket) = bound.map_err(|failure| match failure.errno() {
                Errno::EEXIST => Failure::from(Errno::EADDRINUSE),
                _ => failure,
            })?;
            Ok(Listener { node, socket })
        })
    }
}

fn connect(cx: &Context<'_>, node: &Node, kind: SocketType) -> Res<OwnedFd> {
    // In Linux's order: permission, then what it is.
    check_access(cx.creds, &node.inode().attr(), AccessMask::WRITE)?;
    if node.file_type() != FileType::Socket {
        return Err(Errno::ECONNREFUSED.into());
    }
    connected(node.remote().connect(&cx.call(), kind))
}

/// The errors of connect(2).
fn connected(outcome: RemoteResult<OwnedFd>) -> Res<OwnedFd> {
    outcome.map_err(|error| match error.errno {
        Errno::EAGAIN | Errno::EPROTOTYPE | Errno::EINTR | Errno::ETIMEDOUT | Errno::EIO => {
            error.into()
        }
        _ => Errno::ECONNREFUSED.into(),
    })
}

impl Listener {
    /// One that came back.
    pub(crate) fn again(node: Node, socket: LocalSocket) -> Listener {
        let socket = Box::new(socket);
        Listener { node, socket }
    }

    /// What there is to save of it: its type and its backlog; `None` if the server has it.
    pub(crate) fn terms(&self) -> Option<(SocketType, u32)> {
        let socket: &dyn std::any::Any = &*self.socket;
        socket.downcast_ref::<LocalSocket>().map(LocalSocket::terms)
    }

    /// Its file.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Lets connections in; at most `backlog` wait.
    pub fn listen(&self, cx: &Context<'_>, backlog: u32) -> Result<()> {
        run("listen", b"", || {
            Ok(self.socket.listen(&cx.call(), backlog)?)
        })
    }

    /// The next connection: waits for one. `EINTR` when cancelled, `ETIMEDOUT` at the deadline.
    pub fn accept(&self, cx: &Context<'_>) -> Result<OwnedFd> {
        run("accept", b"", || {
            loop {
                match self.socket.accept(&cx.call()) {
                    Err(error) if error.errno == Errno::EAGAIN => {
                        special::wait_readable(cx, self.socket.poll_fd())?;
                    }
                    outcome => return Ok(outcome?),
                }
            }
        })
    }

    /// The next connection; `EAGAIN` if none waits.
    pub fn try_accept(&self, cx: &Context<'_>) -> Result<OwnedFd> {
        run("accept", b"", || Ok(self.socket.accept(&cx.call())?))
    }
}

/// Readable while connections wait.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.poll_fd()
    }
}
