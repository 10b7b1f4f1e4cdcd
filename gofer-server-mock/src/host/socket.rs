//! Unix sockets in the tree: connect, bind, listen, accept. Every socket is non-blocking.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with,
};
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::create::Made;
use super::sys::{self, Held};
use super::{Errno, Found, Name, Node, Owner, Result};

/// A socket that was bound to a place in the tree. Keeps the node.
#[derive(Debug)]
pub struct BoundSocket {
    node: Arc<Node>,
    fd: Held,
}

/// What [`Node::bind`] made.
#[derive(Debug)]
pub struct Bound {
    /// The socket file.
    pub found: Found,
    /// The socket bound to it.
    pub socket: BoundSocket,
    /// A copy of the socket, for the client to wait on.
    pub copy: OwnedFd,
}

impl Node {
    /// Connects to the socket file. `sock_type` is the host's number; others than stream, datagram
    /// and seqpacket are `ENXIO`. `EPERM` when the policy forbids it, `ENOTSOCK` for another file.
    /// Does not wait: a full backlog is `EAGAIN`.
    ///
    /// With `owner`, the other side sees these ids as its peer's, if this process may take them.
    pub fn connect(&self, sock_type: u32, owner: Owner) -> Result<OwnedFd> {
        if !self.policy().allows_connect() {
            return Err(Errno::PERM);
        }
        if self.file_type() != FileType::Socket {
            return Err(Errno::NOTSOCK);
        }
        let socket = new_socket(sock_type)?;
        let address = SocketAddrUnix::new(sys::magic_path(self))?;
        if owner == Owner::default() {
            connect(&socket, &address)?;
        } else {
            connect_as(&socket, &address, owner)?;
        }
        Ok(socket)
    }

    /// Creates the socket file `name` and binds a socket to it. `EPERM` when the
    /// policy forbids it, `EINVAL` when the name is too long for a socket address, `EADDRINUSE`
    /// when it exists. Locks: write.
    pub fn bind(
        self: &Arc<Node>,
        name: Name<'_>,
        sock_type: u32,
        mode: u32,
        owner: Owner,
    ) -> Result<Bound> {
        self.policy().check_writable()?;
        if !self.policy().allows_bind() {
            return Err(Errno::PERM);
        }
        let socket = new_socket(sock_type)?;
        // Whatever can fail without having made anything comes first.
        let copy = rustix::io::fcntl_dupfd_cloexec(&socket, 0)?;
        let fd = Held::new(socket)?;
        let _names = self.tree.rename.read();
        let _dir = self.lock.write();
        // The file takes its permission bits from the socket.
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode & 0o7777))?;
        let path = [sys::magic_path(&**self).as_bytes(), b"/", name.as_bytes()].concat();
        // The address does not fit 107 bytes.
        let address = SocketAddrUnix::new(path).map_err(|_| Errno::INVAL)?;
        bind(&fd, &address)?;
        let made = Made::Fresh(FileType::Socket);
        let result = self.finish(name, mode, owner, made);
        let found = self.undo_on_error(name, made, AtFlags::empty(), result)?;
        let node = found.node.clone();
        Ok(Bound {
            found,
            socket: BoundSocket { node, fd },
            copy,
        })
    }
}

impl BoundSocket {
    /// The socket file.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Lets others connect; a negative backlog is the longest.
    pub fn listen(&self, backlog: i32) -> Result<()> {
        listen(&self.fd, backlog)
    }

    /// Takes a connection; `EAGAIN` when there is none.
    pub fn accept(&self) -> Result<OwnedFd> {
        accept_with(&self.fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
    }
}

fn new_socket(sock_type: u32) -> Result<OwnedFd> {
    let sock_type = match sock_type {
        1 => SocketType::STREAM,
        2 => SocketType::DGRAM,
        5 => SocketType::SEQPACKET,
        _ => return Err(Errno::NXIO),
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(AddressFamily::UNIX, sock_type, flags, None)
}

/// Connects with other effective ids, on a thread that ends with them: nothing has to be changed
/// back, and no other request ever runs with them. Ids this process may not take are not taken.
fn connect_as(socket: &OwnedFd, address: &SocketAddrUnix, owner: Owner) -> Result<()> {
    std::thread::scope(|scope| {
        let work = || {
            if let Some(gid) = owner.gid {
                let _ = set_thread_groups(&[]);
                let _ = set_thread_res_gid(None, Gid::from_raw(gid), None);
            }
            if let Some(uid) = owner.uid {
                let _ = set_thread_res_uid(None, Uid::from_raw(uid), None);
            }
            connect(socket.as_fd(), address)
        };
        let thread = std::thread::Builder::new()
            .spawn_scoped(scope, work)
            .map_err(|_| Errno::AGAIN)?;
        thread.join().unwrap_or(Err(Errno::IO))
    })
}
