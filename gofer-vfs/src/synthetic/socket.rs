//! Where a synthetic socket's connections go: to whoever bound it in this process.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Weak;

use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType as HostType, socketpair};

use super::*;

/// Connections that may wait, at most, as Linux's default.
const BACKLOG_MAX: u32 = 4096;

/// The way to a listener; the default leads nowhere.
#[derive(Clone, Default)]
pub(crate) struct Endpoint(Weak<Listening>);

/// The other side of an [`Endpoint`].
pub(crate) struct LocalSocket(Arc<Listening>);

struct Listening {
    kind: SocketType,
    /// A lock without a rank: nothing else is locked while it is held.
    waiting: sync::Mutex<Waiting>,
    /// Counts 1 while connections wait.
    ready: OwnedFd,
}

#[derive(Default)]
struct Waiting {
    connections: VecDeque<OwnedFd>,
    /// How many may wait; 0 until it listens.
    backlog: usize,
}

impl LocalSocket {
    /// A socket that is bound and does not listen yet.
    pub(crate) fn new(kind: SocketType) -> Result<LocalSocket, Errno> {
        Ok(LocalSocket(Arc::new(Listening {
            kind,
            waiting: sync::Mutex::new(Waiting::default()),
            ready: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })))
    }

    /// One as it was; nobody waits for it.
    pub(crate) fn again(kind: SocketType, backlog: u32) -> Result<LocalSocket, Errno> {
        let socket = LocalSocket::new(kind)?;
        socket.0.waiting.lock().backlog = backlog.min(BACKLOG_MAX) as usize;
        Ok(socket)
    }

    /// Its type, and how many connections may wait.
    pub(crate) fn terms(&self) -> (SocketType, u32) {
        let backlog = self.0.waiting.lock().backlog;
        (self.0.kind, u32::try_from(backlog).unwrap_or(BACKLOG_MAX))
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint(Arc::downgrade(&self.0))
    }
}

impl Endpoint {
    /// A connected socket whose other end the listener will accept. `ECONNREFUSED` without one,
    /// `EPROTOTYPE` for one of another type, `EAGAIN` when too many wait.
    pub(super) fn connect(&self, kind: SocketType) -> Result<OwnedFd, Errno> {
        let listening = self.0.upgrade().ok_or(Errno::ECONNREFUSED)?;
        if kind != SocketType::Any && kind != listening.kind {
            return Err(Errno::EPROTOTYPE);
        }
        let host = match listening.kind {
            SocketType::SeqPacket => HostType::SEQPACKET,
            SocketType::Datagram => HostType::DGRAM,
            SocketType::Stream | SocketType::Any => HostType::STREAM,
        };
        let mut waiting = listening.waiting.lock();
        if waiting.backlog == 0 {
            return Err(Errno::ECONNREFUSED);
        }
        if waiting.connections.len() >= waiting.backlog {
            return Err(Errno::EAGAIN);
        }
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, host, flags, None)?;
        waiting.connections.push_back(theirs);
        if waiting.connections.len() == 1 {
            // Cannot fail: the counter is 0.
            let _ = rustix::io::write(&listening.ready, &1u64.to_ne_bytes());
        }
        Ok(ours)
    }
}

impl RemoteSocket for LocalSocket {
    fn listen(&self, _call: &Call<'_>, backlog: u32) -> RemoteResult<()> {
        self.0.waiting.lock().backlog = backlog.clamp(1, BACKLOG_MAX) as usize;
        Ok(())
    }

    fn accept(&self, _call: &Call<'_>) -> RemoteResult<OwnedFd> {
        let mut waiting = self.0.waiting.lock();
        let Some(connection) = waiting.connections.pop_front() else {
            return refused(Errno::EAGAIN);
        };
        if waiting.connections.is_empty() {
            let _ = rustix::io::read(&self.0.ready, &mut [0u8; 8]);
        }
        Ok(connection)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.0.ready.as_fd()
    }
}
