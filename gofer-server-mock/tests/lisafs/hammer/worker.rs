//! One thread of a connection: in a directory of its own it knows exactly what is there; in the
//! shared ones it meets all others.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use gofer_lisafs::wire::*;

use super::content::{BLOCK, Dice, content};
use super::team::{Pool, Way, World};

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const ENOTDIR: i32 = 20;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;

/// Others may have been faster: it is there, it is gone, it is of another type, it is not empty,
/// its directory was removed or is the one that moves.
const LATE: [i32; 6] = [ENOENT, EEXIST, ENOTDIR, EISDIR, EINVAL, 39];
const EBADF: i32 = 9;

const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
const EXCHANGE: u32 = 2;
const BLOCKS_MAX: usize = 40;

/// What a name of the own directory stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item {
    File { id: u64, ino: u64, blocks: u64 },
    Directory,
}

pub struct Worker<'w> {
    pub way: Way,
    pub pool: &'w Pool,
    pub world: &'w World,
    pub dice: Dice,
    /// The directory of this thread, and where it is: one of the two it moves between.
    pub home: Fdid,
    pub name: String,
    pub places: [Fdid; 2],
    pub place: usize,
    pub shared: Vec<Fdid>,
    pub items: BTreeMap<&'static str, Item>,
}

impl Worker<'_> {
    /// Works until it is told to stop.
    pub fn run(&mut self) {
        while !self.world.stop.load(Ordering::Relaxed) {
            match self.dice.roll(8) {
                0..3 => self.work_at_home(),
                3..6 => self.work_with_others(),
                6 => self.pool.use_one(&self.way, &mut self.dice, self.world),
                _ => self.visit(),
            }
            self.world.steps.fetch_add(1, Ordering::Relaxed);
        }
        self.list_home();
    }

    /// The FDIDs that nobody else has.
    pub fn all_fds(&self) -> Vec<Fdid> {
        let own = [self.home, self.places[0], self.places[1]];
        own.into_iter().chain(self.shared.iter().copied()).collect()
    }

    fn common(&self, dir: Fdid, mode: u16) -> CreateCommon {
        CreateCommon::new(dir, NO_ID, NO_ID, mode)
    }

    /// Makes a file with content.
    fn create(&mut self, dir: Fdid, name: &str) -> Result<Item, i32> {
        let id = self.world.new_file();
        let blocks = self.dice.roll(BLOCKS_MAX) as u64;
        let answer = self.way.ask(&OpenCreateAtReq {
            common: self.common(dir, 0o600),
            flags: 2,
            name: name.as_bytes(),
        })?;
        let made = OpenCreateAtResp::decode(&answer.payload).unwrap();
        let (child, open) = (made.child, made.open_fd);
        let ino = child.stat.ino.get();
        self.world.remember(id, ino);
        self.way.write(open, &content(id, blocks)).unwrap();
        if self.dice.roll(2) == 0 {
            self.pool.add_control(&self.way, &mut self.dice, &child);
            self.pool.add_open(&self.way, &mut self.dice, open, ino);
        } else {
            self.way.close(&[open, child.control_fd]);
        }
        Ok(Item::File { id, ino, blocks })
    }

    fn mkdir(&mut self, dir: Fdid, name: &str) -> Result<(), i32> {
        let answer = self.way.ask(&MkdirAtReq {
            common: self.common(dir, 0o700),
            name: name.as_bytes(),
        })?;
        let made = MkdirAtResp::decode(&answer.payload).unwrap();
        self.way.close(&[made.child_dir.control_fd]);
        Ok(())
    }

    fn link(&self, dir_fd: Fdid, target: Fdid, name: &str) -> Result<(), i32> {
        let name = name.as_bytes();
        let answer = self.way.ask(&LinkAtReq {
            dir_fd,
            target,
            name,
        })?;
        let made = LinkAtResp::decode(&answer.payload).unwrap();
        self.way.close(&[made.link.control_fd]);
        Ok(())
    }

    fn unlink(&self, dir_fd: Fdid, name: &str, flags: u32) -> Result<(), i32> {
        let name = name.as_bytes();
        let request = UnlinkAtReq {
            dir_fd,
            flags,
            name,
        };
        self.way.ask(&request).map(drop)
    }

    fn rename(&self, old: (Fdid, &str), new: (Fdid, &str), flags: u32) -> Result<(), i32> {
        let request = RenameAt2Req {
            old_dir: old.0,
            new_dir: new.0,
            old_name: old.1.as_bytes(),
            new_name: new.1.as_bytes(),
            flags,
        };
        self.way.ask(&request).map(drop)
    }

    /// Nobody else changes this directory, so every answer is known beforehand.
    fn work_at_home(&mut self) {
        let home = self.home;
        let (one, two) = (*self.dice.pick(&NAMES), *self.dice.pick(&NAMES));
        let (there, other) = (self.items.get(one).copied(), self.items.get(two).copied());
        let absent = there.map_or(Ok(()), |_| Err(EEXIST));
        let (did, should) = match self.dice.roll(11) {
            0 | 1 => match self.create(home, one) {
                Ok(item) => {
                    self.items.insert(one, item);
                    (Ok(()), absent)
                }
                Err(errno) => (Err(errno), absent),
            },
            2 => {
                let did = self.mkdir(home, one);
                if did.is_ok() {
                    self.items.insert(one, Item::Directory);
                }
                (did, absent)
            }
            3 => {
                let should = match there {
                    None => Err(ENOENT),
                    Some(Item::Directory) => Err(EISDIR),
                    Some(_) => self.items.remove(one).map(drop).ok_or(0),
                };
                (self.unlink(home, one, 0), should)
            }
            4 => {
                let should = match there {
                    None => Err(ENOENT),
                    Some(Item::Directory) => self.items.remove(one).map(drop).ok_or(0),
                    Some(_) => Err(ENOTDIR),
                };
                (self.unlink(home, one, AT_REMOVEDIR), should)
            }
            5 | 6 => {
                let should = self.expect_rename(one, there, two, other);
                (self.rename((home, one), (home, two), 0), should)
            }
            7 => {
                let should = match (there, other) {
                    _ if one == two => Ok(()),
                    (Some(there), Some(other)) => {
                        self.items.extend([(one, other), (two, there)]);
                        Ok(())
                    }
                    _ => Err(ENOENT),
                };
                (self.rename((home, one), (home, two), EXCHANGE), should)
            }
            8 => return self.link_at_home(one, two),
            9 => return self.list_home(),
            _ => return self.move_home(),
        };
        assert_eq!(did, should, "{one} {there:?}, {two} {other:?}");
        self.look(one);
    }

    fn expect_rename(
        &mut self,
        one: &'static str,
        there: Option<Item>,
        two: &'static str,
        other: Option<Item>,
    ) -> Result<(), i32> {
        match (there, other) {
            _ if one == two => return Ok(()),
            (None, _) => return Err(ENOENT),
            (Some(Item::File { .. }), Some(Item::Directory)) => return Err(EISDIR),
            (Some(Item::Directory), Some(Item::File { .. })) => return Err(ENOTDIR),
            // Two names of one file stay.
            (Some(Item::File { id, .. }), Some(Item::File { id: same, .. })) if id == same => {
                return Ok(());
            }
            (Some(there), _) => self.items.insert(two, there),
        };
        self.items.remove(one);
        Ok(())
    }

    fn link_at_home(&mut self, one: &'static str, two: &'static str) {
        let Some(target) = self.way.find(self.home, one).unwrap() else {
            return assert_eq!(self.items.get(one), None);
        };
        let should = match (self.items.get(one), self.items.get(two)) {
            (Some(Item::Directory), _) => Err(1),
            (_, Some(_)) => Err(EEXIST),
            _ => Ok(()),
        };
        let did = self.link(self.home, target.control_fd, two);
        assert_eq!(did, should, "link {one} {two}");
        if did.is_ok() {
            self.items.insert(two, self.items[one]);
        }
        self.way.close(&[target.control_fd]);
    }

    /// The name stands for what it should, down to the last byte.
    fn look(&mut self, name: &'static str) {
        let found = self.way.find(self.home, name).unwrap();
        let item = self.items.get(name).copied();
        let (Some(found), Some(item)) = (found, item) else {
            return assert_eq!(found.is_some(), item.is_some(), "{name}");
        };
        if let Item::File { id, ino, blocks } = item {
            assert_eq!(found.stat.ino.get(), ino, "{name}");
            assert_eq!(found.stat.size.get(), blocks * BLOCK as u64, "{name}");
            let open = self.way.open(found.control_fd, 0).unwrap();
            let is = self.way.read(open, 1 << 16).unwrap();
            assert!(is == content(id, blocks), "content of {name}");
            self.way.close(&[open]);
        } else {
            assert_eq!(found.stat.mode.get() >> 12, 0o4, "{name}");
        }
        match self.dice.roll(3) {
            // Others would make names in a directory.
            0 if item != Item::Directory => {
                self.pool.add_control(&self.way, &mut self.dice, &found)
            }
            _ => self.way.close(&[found.control_fd]),
        }
    }

    /// Lists the own directory, in pieces.
    fn list_home(&self) {
        let open = self.way.open(self.home, 0).unwrap();
        let mut seen = Vec::new();
        let mut count = -128;
        loop {
            let entries = self.way.list(open, count).unwrap();
            if entries.is_empty() {
                break;
            }
            seen.extend(entries);
            count = 128;
        }
        self.way.close(&[open]);
        seen.sort();
        let should: Vec<_> = self.items.keys().map(|name| name.as_bytes()).collect();
        assert_eq!(seen, should, "names at home");
    }

    /// Moves the own directory to the other place. All handles stay what they are.
    fn move_home(&mut self) {
        let (from, to) = (self.places[self.place], self.places[1 - self.place]);
        self.rename((from, &self.name), (to, &self.name), 1)
            .unwrap();
        self.place = 1 - self.place;
        assert!(self.way.find(from, &self.name).unwrap().is_none());
    }

    /// Looks into what belongs to others, wherever it is.
    fn visit(&mut self) {
        let thread = format!("home-{}", self.dice.roll(self.world.homes()));
        let place = *self.dice.pick(&self.places);
        let name = *self.dice.pick(&NAMES);
        let found = self.way.walk(place, &[&thread, name]).unwrap();
        let fds: Vec<Fdid> = found.iter().map(|inode| inode.control_fd).collect();
        if let Some(file) = found.get(1) {
            self.read_any(file);
        }
        self.way.close(&fds);
        let path = [b"".as_slice(), thread.as_bytes(), name.as_bytes()];
        let request = WalkStatReq {
            dir_fd: place,
            path: Strings::new(&path),
        };
        let answer = self.way.ask(&request).unwrap();
        let stats = WalkStatResp::decode(&answer.payload).unwrap().stats;
        assert!((1..=3).contains(&stats.len()));
    }

    /// A file's content is its own, or, where it was not all written yet, nobody's.
    fn read_any(&self, file: &Inode) {
        if file.stat.mode.get() >> 12 == 0o4 {
            return;
        }
        let open = self.way.open(file.control_fd, 0).unwrap();
        let content = self.way.read(open, 1 << 16).unwrap();
        self.world.check(&content, file.stat.ino.get());
        self.way.close(&[open]);
    }

    /// Everybody changes these names at once. What must hold is that each success is one, that
    /// each failure says that somebody was faster, and that content stays with its file.
    fn work_with_others(&mut self) {
        let dirs = [0, 1].map(|_| match self.dice.roll(4) {
            0 => self.pool.directory(&mut self.dice),
            _ => None,
        });
        let [from, to] = dirs.map(|dir| dir.unwrap_or(*self.dice.pick(&self.shared)));
        let (one, two) = (*self.dice.pick(&NAMES), *self.dice.pick(&NAMES));
        let names = &self.world.names;
        let count = |by| {
            move |()| {
                names.fetch_add(by, Ordering::Relaxed);
            }
        };
        let what = self.dice.roll(12);
        let did = match what {
            0 | 1 => self.create(from, one).map(drop).map(count(1)),
            2 => self.mkdir(from, one).map(count(1)),
            3 => self.unlink(from, one, 0).map(count(-1)),
            4 => self.unlink(from, one, AT_REMOVEDIR).map(count(-1)),
            5 | 6 => {
                let replacing = &self.world.replacing;
                let did = self.rename((from, one), (to, two), 0);
                did.inspect(|()| _ = replacing.fetch_add(1, Ordering::Relaxed))
            }
            7 => self.rename((from, one), (to, two), 1),
            8 => self.rename((from, one), (to, two), EXCHANGE),
            9 => self.link_shared((from, one), (to, two)).map(count(1)),
            10 => self.walk_shared(from, &[one, two]),
            _ => self.resize_shared(from, one),
        };
        if what <= 2 && did == Err(EINVAL) {
            self.check_removed(from);
        }
        let closed = dirs.iter().any(Option::is_some);
        let harmless = |errno| LATE.contains(&errno) || (closed && errno == EBADF);
        assert!(did.map_or_else(harmless, |()| true), "{did:?}");
    }

    /// A directory in which nothing can be made is one that was removed.
    fn check_removed(&self, dir: Fdid) {
        match self.way.ask(&FStatReq { fd: dir }) {
            Ok(answer) => {
                let stat = FStatResp::decode(&answer.payload).unwrap().stat;
                assert_eq!(stat.nlink.get(), 0, "taken for removed");
            }
            Err(errno) => assert_eq!(errno, EBADF),
        }
    }

    fn link_shared(&self, old: (Fdid, &str), new: (Fdid, &str)) -> Result<(), i32> {
        let target = self.way.find(old.0, old.1)?.ok_or(ENOENT)?;
        let did = self.link(new.0, target.control_fd, new.1);
        self.way.close(&[target.control_fd]);
        match did {
            // A directory, which may not be linked.
            Err(1) => Err(EISDIR),
            did => did,
        }
    }

    fn walk_shared(&mut self, dir: Fdid, names: &[&str]) -> Result<(), i32> {
        for found in self.way.walk(dir, names)? {
            self.read_any(&found);
            self.pool.add_control(&self.way, &mut self.dice, &found);
        }
        Ok(())
    }

    /// Cuts a file off between two blocks; nothing else of it changes.
    fn resize_shared(&mut self, dir: Fdid, name: &str) -> Result<(), i32> {
        let found = self.way.find(dir, name)?.ok_or(ENOENT)?;
        let answer = self.way.ask(&SetStatReq {
            fd: found.control_fd,
            mask: StatxMask::SIZE.bits(),
            mode: 0,
            uid: NO_ID,
            gid: NO_ID,
            size: (self.dice.roll(BLOCKS_MAX) * BLOCK) as u64,
            atime: Timespec::default(),
            mtime: Timespec::default(),
        });
        self.way.close(&[found.control_fd]);
        let answer = answer?;
        let set = SetStatResp::decode(&answer.payload).unwrap();
        match set.failure_errno {
            0 => Ok(()),
            errno => Err(errno as i32),
        }
    }
}
