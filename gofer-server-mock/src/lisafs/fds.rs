//! The FDIDs of a connection: numbers for control FDs, open FDs and bound sockets.

use std::collections::HashMap;
use std::sync::Arc;

use gofer_lisafs::wire::Fdid;
use parking_lot::Mutex;
use rustix::io::Errno;

use crate::host::{BoundSocket, Node, OpenFile, Result};

/// An open file with the position of Getdents64.
#[derive(Debug)]
pub(super) struct OpenFd {
    pub(super) file: OpenFile,
    /// Cookie of the next directory entry.
    pub(super) position: Mutex<u64>,
}

#[derive(Clone, Debug)]
enum Fd {
    Control(Arc<Node>),
    Open(Arc<OpenFd>),
    Bound(Arc<BoundSocket>),
}

/// All FDIDs of a connection. A request keeps what it works on, so that closing the number takes
/// effect after it (lisafs 9.4).
#[derive(Debug)]
pub(super) struct Fds {
    limit: usize,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    fds: HashMap<Fdid, Fd>,
    /// Numbers are never used again, also those of requests that failed.
    next: u64,
}

impl Fds {
    pub(super) fn new(limit: usize) -> Fds {
        Fds {
            limit,
            table: Mutex::new(Table {
                fds: HashMap::new(),
                next: 1,
            }),
        }
    }

    /// `EMFILE` unless `count` more fit. Asked before a request changes anything.
    pub(super) fn check_room(&self, count: usize) -> Result<()> {
        let free = self.limit.saturating_sub(self.table.lock().fds.len());
        if count > free {
            Err(Errno::MFILE)
        } else {
            Ok(())
        }
    }

    pub(super) fn add_control(&self, node: Arc<Node>) -> Fdid {
        self.add(Fd::Control(node))
    }

    pub(super) fn add_open(&self, file: OpenFile) -> Fdid {
        self.add(Fd::Open(Arc::new(OpenFd {
            file,
            position: Mutex::new(0),
        })))
    }

    pub(super) fn add_bound(&self, socket: BoundSocket) -> Fdid {
        self.add(Fd::Bound(Arc::new(socket)))
    }

    fn add(&self, fd: Fd) -> Fdid {
        let mut table = self.table.lock();
        let id = Fdid::new(table.next);
        table.next += 1;
        table.fds.insert(id, fd);
        id
    }

    /// The node of a control FD.
    pub(super) fn control(&self, id: Fdid) -> Result<Arc<Node>> {
        match self.get(id)? {
            Fd::Control(node) => Ok(node),
            _ => Err(Errno::INVAL),
        }
    }

    /// The node of a control FD of a directory.
    pub(super) fn directory(&self, id: Fdid) -> Result<Arc<Node>> {
        let node = self.control(id)?;
        if node.is_dir() {
            Ok(node)
        } else {
            Err(Errno::NOTDIR)
        }
    }

    /// An open FD.
    pub(super) fn open(&self, id: Fdid) -> Result<Arc<OpenFd>> {
        match self.get(id)? {
            Fd::Open(file) => Ok(file),
            _ => Err(Errno::INVAL),
        }
    }

    /// A bound socket.
    pub(super) fn bound(&self, id: Fdid) -> Result<Arc<BoundSocket>> {
        match self.get(id)? {
            Fd::Bound(socket) => Ok(socket),
            _ => Err(Errno::INVAL),
        }
    }

    /// Attributes of a control or open FD; a bound socket is `EINVAL`.
    pub(super) fn stat(&self, id: Fdid) -> Result<crate::host::Stat> {
        match self.get(id)? {
            Fd::Control(node) => node.stat(),
            Fd::Open(file) => file.file.stat(),
            Fd::Bound(_) => Err(Errno::INVAL),
        }
    }

    /// Gives a number up. Unknown ones are ignored.
    pub(super) fn close(&self, id: Fdid) {
        let gone = self.table.lock().fds.remove(&id);
        // Outside the lock: the last reference to a file may close it.
        drop(gone);
    }

    fn get(&self, id: Fdid) -> Result<Fd> {
        self.table.lock().fds.get(&id).cloned().ok_or(Errno::BADF)
    }
}
