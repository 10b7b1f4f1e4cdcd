//! Where connections come from: Unix and TCP listeners.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use gofer_transport::Stream;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Where to listen: `unix:PATH` or `tcp:HOST:PORT`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Address {
    /// A socket file.
    Unix(PathBuf),
    /// Host and port, IPv6 in brackets, as std resolves it.
    Tcp(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        match text.split_once(':') {
            Some(("unix", "")) => Err("unix: needs a path".into()),
            Some(("unix", path)) => Ok(Address::Unix(path.into())),
            Some(("tcp", address)) => {
                let (host, port) = address.rsplit_once(':').ok_or("tcp: needs HOST:PORT")?;
                if host.is_empty() {
                    return Err("tcp: needs a host: it binds only what it is told".into());
                }
                if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
                    return Err("an IPv6 address goes in brackets: tcp:[::1]:564".into());
                }
                port.parse::<u16>()
                    .map_err(|_| format!("`{port}` is not a port"))?;
                Ok(Address::Tcp(address.into()))
            }
            _ => Err("an address is unix:PATH or tcp:HOST:PORT".into()),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Address, String> {
        text.parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// A bound socket that accepts without blocking. Dropping it removes its socket file, unless
/// another server has put its own there.
#[derive(Debug)]
pub(crate) enum Listener {
    Unix {
        socket: UnixListener,
        path: PathBuf,
        /// Device and inode of the socket file.
        file: (u64, u64),
    },
    Tcp(TcpListener),
}

impl Listener {
    /// Binds `address`. A socket file that nobody listens at is replaced; a live one is
    /// `EADDRINUSE`, a file of another type `EEXIST`.
    pub(crate) fn bind(address: &Address) -> io::Result<Listener> {
        match address {
            Address::Unix(path) => bind_unix(path),
            Address::Tcp(address) => bind_tcp(address),
        }
    }

    /// Takes a connection; `WouldBlock` when there is none.
    pub(crate) fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Unix { socket, .. } => Stream::from_fd(accept(socket.as_fd())?),
            Listener::Tcp(socket) => {
                let connection = accept(socket.as_fd())?;
                // A peer that vanished without a word shall not keep its handles for ever.
                rustix::net::sockopt::set_socket_keepalive(&connection, true)?;
                Stream::from_fd(connection)
            }
        }
    }

    /// The socket file, if there is one.
    pub(crate) fn socket_file(&self) -> Option<&Path> {
        match self {
            Listener::Unix { path, .. } => Some(path),
            Listener::Tcp(_) => None,
        }
    }

    /// The TCP address others outside this machine may reach, if it is one.
    pub(crate) fn public_address(&self) -> Option<SocketAddr> {
        match self {
            Listener::Unix { .. } => None,
            Listener::Tcp(socket) => socket.local_addr().ok().filter(|a| !a.ip().is_loopback()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Unix { socket, .. } => socket.as_fd(),
            Listener::Tcp(socket) => socket.as_fd(),
        }
    }
}

impl fmt::Display for Listener {
    /// The address with the port that was really bound.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listener::Unix { path, .. } => write!(f, "unix:{}", path.display()),
            Listener::Tcp(socket) => match socket.local_addr() {
                Ok(address) => write!(f, "tcp:{address}"),
                Err(error) => write!(f, "tcp:? ({error})"),
            },
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix { path, file, .. } = self
            && socket_file(path).ok().flatten() == Some(*file)
        {
            // Nothing is left to do about a file that stays.
            let _ = fs::remove_file(path);
        }
    }
}

fn bind_unix(path: &Path) -> io::Result<Listener> {
    let bound = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            UnixListener::bind(path)
        }
        result => result,
    };
    let socket = bound?;
    socket.set_nonblocking(true)?;
    let file = socket_file(path)?.ok_or(Errno::NOENT)?;
    Ok(Listener::Unix {
        socket,
        path: path.to_path_buf(),
        file,
    })
}

/// Removes the socket file at `path` when a connection to it is refused.
fn remove_stale(path: &Path) -> io::Result<()> {
    if socket_file(path)?.is_none() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file that is not a socket",
        ));
    }
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        // EAGAIN is a full queue, EPROTOTYPE a socket of another type: somebody lives there.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another server listens there",
        )),
        Err(error) => Err(error.into()),
    }
}

/// Device and inode of the socket file at `path`; `None` for a file of another type.
fn socket_file(path: &Path) -> io::Result<Option<(u64, u64)>> {
    let found = fs::symlink_metadata(path)?;
    let is_socket = found.file_type().is_socket();
    Ok(is_socket.then(|| (found.dev(), found.ino())))
}

fn bind_tcp(address: &str) -> io::Result<Listener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for candidate in address.to_socket_addrs()? {
        match TcpListener::bind(candidate) {
            Ok(socket) => {
                socket.set_nonblocking(true)?;
                return Ok(Listener::Tcp(socket));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn accept(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::net::accept_with(socket, SocketFlags::CLOEXEC)?)
}
