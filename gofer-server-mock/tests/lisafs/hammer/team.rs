//! One connection and the threads that share it: how requests travel, and FDIDs that everybody
//! uses while others close them.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use gofer_lisafs::wire::*;

use super::super::channel::Channel;
use super::content::{Dice, identify};
use crate::common::{Answer, Client, ask_by};

/// How one thread's requests travel.
#[derive(Debug)]
pub enum Way {
    Socket(Client),
    Channel(Channel),
}

impl Way {
    pub fn ask<'q>(&self, request: &impl Request<'q>) -> Result<Answer, i32> {
        ask_by(request, |mid, payload| match self {
            Way::Socket(client) => client.exchange(mid, payload),
            Way::Channel(channel) => channel.exchange(mid, payload),
        })
    }

    /// Walks `names`; the files that were found.
    pub fn walk(&self, dir_fd: Fdid, names: &[&str]) -> Result<Vec<Inode>, i32> {
        let names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        let path = Strings::new(&names);
        let answer = self.ask(&WalkReq { dir_fd, path })?;
        Ok(WalkResp::decode(&answer.payload).unwrap().inodes.to_vec())
    }

    /// The file `name`, if it is there.
    pub fn find(&self, dir: Fdid, name: &str) -> Result<Option<Inode>, i32> {
        Ok(self.walk(dir, &[name])?.first().copied())
    }

    /// The file at the end of a path that is there.
    pub fn reach(&self, dir: Fdid, names: &[&str]) -> Fdid {
        let mut found = self.walk(dir, names).unwrap();
        assert_eq!(found.len(), names.len(), "{names:?}");
        let last = found.pop().unwrap();
        let above: Vec<Fdid> = found.iter().map(|inode| inode.control_fd).collect();
        self.close(&above);
        last.control_fd
    }

    /// The names of some entries of an open directory.
    pub fn list(&self, dir_fd: Fdid, count: i32) -> Result<Vec<Vec<u8>>, i32> {
        let answer = self.ask(&Getdents64Req { dir_fd, count })?;
        let entries = Getdents64Resp::decode(&answer.payload).unwrap().dirents;
        Ok(entries.iter().map(|entry| entry.name.to_vec()).collect())
    }

    pub fn open(&self, fd: Fdid, flags: u32) -> Result<Fdid, i32> {
        let answer = self.ask(&OpenAtReq { fd, flags })?;
        Ok(OpenAtResp::decode(&answer.payload).unwrap().open_fd)
    }

    pub fn read(&self, fd: Fdid, count: u32) -> Result<Vec<u8>, i32> {
        let answer = self.ask(&PReadReq {
            offset: 0,
            fd,
            count,
        })?;
        Ok(PReadResp::decode(&answer.payload).unwrap().data.0.to_vec())
    }

    pub fn write(&self, fd: Fdid, data: &[u8]) -> Result<(), i32> {
        let data = WriteData(data);
        let answer = self.ask(&PWriteReq {
            offset: 0,
            fd,
            data,
        })?;
        let written = PWriteResp::decode(&answer.payload).unwrap().count;
        assert_eq!(written, data.0.len() as u64);
        Ok(())
    }

    pub fn close(&self, fds: &[Fdid]) {
        self.ask(&CloseReq { fds }).unwrap();
    }
}

/// What all threads of all clients know.
#[derive(Debug, Default)]
pub struct World {
    /// The inode of each file that was ever made.
    pub files: Mutex<HashMap<u64, u64>>,
    next: AtomicU64,
    pub stop: AtomicBool,
    /// Requests that were answered.
    pub steps: AtomicU64,
    /// Names made less names removed in the shared directories.
    pub names: AtomicI64,
    /// Renames there that may have replaced a name.
    pub replacing: AtomicI64,
    homes: usize,
}

impl World {
    /// For as many threads as `homes`.
    pub fn new(homes: usize) -> World {
        World {
            homes,
            ..World::default()
        }
    }

    /// How many threads there are, each with a directory of its own.
    pub fn homes(&self) -> usize {
        self.homes
    }

    /// A number for a new file.
    pub fn new_file(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn remember(&self, file: u64, ino: u64) {
        self.files.lock().unwrap().insert(file, ino);
    }

    /// The content says which file it is of, and that file is the one it was read from.
    pub fn check(&self, content: &[u8], ino: u64) {
        let found = identify(content).unwrap_or_else(|wrong| panic!("wrong content: {wrong}"));
        if let Some(id) = found {
            let of = self.files.lock().unwrap().get(&id).copied();
            assert_eq!(of, Some(ino), "content of file {id} in another");
        }
    }
}

/// An FDID for everybody on a connection.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    fd: Fdid,
    ino: u64,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    File,
    Directory,
    Open,
}

const POOL_MAX: usize = 40;

/// The FDIDs of a connection that all its threads use.
#[derive(Debug, Default)]
pub struct Pool(Mutex<Vec<Shared>>);

impl Pool {
    /// Adds a control FD. One that is in there may have to go for it.
    pub fn add_control(&self, way: &Way, dice: &mut Dice, inode: &Inode) {
        let kind = match inode.stat.mode.get() >> 12 {
            0o4 => Kind::Directory,
            _ => Kind::File,
        };
        let ino = inode.stat.ino.get();
        let fd = inode.control_fd;
        self.add(way, dice, Shared { fd, ino, kind });
    }

    pub fn add_open(&self, way: &Way, dice: &mut Dice, fd: Fdid, ino: u64) {
        let kind = Kind::Open;
        self.add(way, dice, Shared { fd, ino, kind });
    }

    fn add(&self, way: &Way, dice: &mut Dice, new: Shared) {
        let gone = {
            let mut pool = self.0.lock().unwrap();
            pool.push(new);
            let full = pool.len() > POOL_MAX;
            full.then(|| dice.roll(pool.len()))
                .map(|at| pool.swap_remove(at).fd)
        };
        // Others may be using it.
        way.close(gone.as_slice());
    }

    /// A directory to work in, which may be closed or removed at any time.
    pub fn directory(&self, dice: &mut Dice) -> Option<Fdid> {
        let pool = self.0.lock().unwrap();
        let dirs: Vec<_> = pool
            .iter()
            .filter(|shared| shared.kind == Kind::Directory)
            .collect();
        (!dirs.is_empty()).then(|| dice.pick(&dirs).fd)
    }

    /// Uses one of them. It may be closed meanwhile, and then it is EBADF and nothing else.
    pub fn use_one(&self, way: &Way, dice: &mut Dice, world: &World) {
        let shared = {
            let pool = self.0.lock().unwrap();
            if pool.is_empty() {
                return;
            }
            *dice.pick(&pool)
        };
        let ended = match (shared.kind, dice.roll(4)) {
            (_, 0) => way.ask(&FStatReq { fd: shared.fd }).map(|answer| {
                let stat = FStatResp::decode(&answer.payload).unwrap().stat;
                assert_eq!(stat.ino.get(), shared.ino, "attributes of another file");
            }),
            (Kind::Open, 1) => way.ask(&FSyncReq { fds: &[shared.fd] }).map(drop),
            (Kind::Open, _) => way.read(shared.fd, 1 << 16).map(|content| {
                world.check(&content, shared.ino);
            }),
            (Kind::File, _) => way.open(shared.fd, 0).map(|open| {
                let content = way.read(open, 1 << 16).unwrap();
                world.check(&content, shared.ino);
                way.close(&[open]);
            }),
            (Kind::Directory, _) => way.open(shared.fd, 0).map(|open| {
                // EINVAL when it was removed.
                let _ = way.list(open, -4096);
                way.close(&[open]);
            }),
        };
        assert!(matches!(ended, Ok(()) | Err(9)), "{shared:?}: {ended:?}");
    }

    /// Gives all of them up.
    pub fn close_all(&self, way: &Way) {
        let fds: Vec<Fdid> = self.0.lock().unwrap().drain(..).map(|one| one.fd).collect();
        way.close(&fds);
    }
}
