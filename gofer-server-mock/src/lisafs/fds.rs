//! The FDIDs of a connection: numbers for control FDs, open FDs and bound sockets.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
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
    fds: HashMap<Fdid, Fd, BuildHasherDefault<NumberHasher>>,
    /// How many more were promised to requests that are under way.
    reserved: usize,
    /// Numbers are never used again, also those of requests that failed.
    next: u64,
}

impl Fds {
    pub(super) fn new(limit: usize) -> Fds {
        Fds {
            limit,
            table: Mutex::new(Table {
                fds: HashMap::default(),
                reserved: 0,
                next: 1,
            }),
        }
    }

    /// Room for `count` more, `EMFILE` if there is none. Taken before a request changes anything.
    pub(super) fn reserve(&self, count: usize) -> Result<Room<'_>> {
        let mut table = self.table.lock();
        let used = table.fds.len() + table.reserved;
        if count > self.limit.saturating_sub(used) {
            return Err(Errno::MFILE);
        }
        table.reserved += count;
        Ok(Room {
            fds: self,
            left: count,
        })
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

/// Room for the FDIDs that a request is about to hand out. What it does not use is free again when
/// it ends; nobody else gets it before.
#[derive(Debug)]
pub(super) struct Room<'a> {
    fds: &'a Fds,
    left: usize,
}

impl Room<'_> {
    pub(super) fn add_control(&mut self, node: Arc<Node>) -> Fdid {
        self.add(Fd::Control(node))
    }

    pub(super) fn add_open(&mut self, file: OpenFile) -> (Fdid, Arc<OpenFd>) {
        let open = Arc::new(OpenFd {
            file,
            position: Mutex::new(0),
        });
        (self.add(Fd::Open(open.clone())), open)
    }

    pub(super) fn add_bound(&mut self, socket: BoundSocket) -> Fdid {
        self.add(Fd::Bound(Arc::new(socket)))
    }

    fn add(&mut self, fd: Fd) -> Fdid {
        debug_assert!(self.left > 0, "a request hands out what it asked room for");
        let mut table = self.fds.table.lock();
        self.left -= 1;
        table.reserved -= 1;
        let id = Fdid::new(table.next);
        table.next += 1;
        table.fds.insert(id, fd);
        id
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if self.left > 0 {
            self.fds.table.lock().reserved -= self.left;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Export, Policy};

    #[test]
    fn room_is_for_one_request_and_what_it_does_not_use_is_free_again() {
        let dir = tempfile::tempdir().unwrap();
        let export = Export::open(dir.path(), Policy::default()).unwrap();
        let fds = Fds::new(3);
        let mut room = fds.reserve(2).unwrap();
        assert_eq!(fds.reserve(2).unwrap_err(), Errno::MFILE);
        let first = room.add_control(export.root().clone());
        drop(room);
        drop(fds.reserve(2).unwrap());
        assert_eq!(fds.reserve(3).unwrap_err(), Errno::MFILE);
        fds.close(first);
        drop(fds.reserve(3).unwrap());
        assert_eq!(fds.reserve(usize::MAX).unwrap_err(), Errno::MFILE);
        assert_eq!(fds.control(first).unwrap_err(), Errno::BADF);
    }
}

/// Spreads FDIDs. The server chooses them, so nobody can make them collide.
#[derive(Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(size_of::<u64>()) {
            let mut number = [0; size_of::<u64>()];
            number[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(number));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The golden ratio, so that both ends of the product differ for numbers in a row.
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
