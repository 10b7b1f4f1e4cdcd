//! The tree of the in-memory server: inodes, names, and the rules a host file system has for them.
//!
//! Everything here is as root would see it on Linux: no permission is checked, since that is the
//! client's business.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::data::Data;
use crate::attr::{
    Attr, AttrMask, Device, FileType, SetAttr, SetAttrReport, SetTime, StatFs, Timestamp,
};
use crate::error::Errno;
use crate::file_locks::RangeLocks;
use crate::flags::{AllocMode, RenameFlags, XattrFlags};
use crate::name::NAME_MAX;
use crate::remote::{New, Owner};
use crate::testing::TestClock;

type Result<T> = std::result::Result<T, Errno>;

/// Number of an inode.
pub(super) type Ino = u64;

/// The number of the root.
pub(super) const ROOT: Ino = 2;

/// The device that gives zeros and takes everything.
const ZERO: Device = Device { major: 1, minor: 5 };

pub(super) struct Entry {
    pub ino: Ino,
    /// Grows with each name made: where a listing resumes, whatever was removed meanwhile.
    pub cookie: u64,
}

pub(super) enum Content {
    Directory(BTreeMap<Vec<u8>, Entry>),
    Regular(Data),
    Symlink(Vec<u8>),
    Fifo {
        bytes: VecDeque<u8>,
        readers: usize,
        writers: usize,
    },
    /// The device [`ZERO`].
    Zeros,
    /// Sockets and other devices: they exist, and that is all.
    Nothing,
}

pub(super) struct Inode {
    pub attr: Attr,
    pub content: Content,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Remote files and handles that keep a deleted inode alive.
    pins: usize,
    /// The parent of a directory.
    parent: Ino,
}

/// All of it.
pub(super) struct Tree {
    inodes: HashMap<Ino, Inode>,
    next_ino: Ino,
    next_cookie: u64,
    clock: Arc<TestClock>,
    /// Contents of new files are files of the host.
    on_host: bool,
    /// Advisory locks, each owner a connection and a number.
    pub locks: HashMap<Ino, RangeLocks<(usize, u32)>>,
}

impl Tree {
    pub fn new(clock: Arc<TestClock>, on_host: bool) -> Tree {
        let mut tree = Tree {
            inodes: HashMap::new(),
            next_ino: ROOT,
            next_cookie: 1,
            clock,
            on_host,
            locks: HashMap::new(),
        };
        let root = tree.insert(&New::Dir, 0o755, 0, 0, ROOT);
        tree.get_mut(root).attr.nlink = 2;
        tree
    }

    /// Pinned inodes and those with a name are always there.
    pub fn get(&self, ino: Ino) -> &Inode {
        &self.inodes[&ino]
    }

    pub fn get_mut(&mut self, ino: Ino) -> &mut Inode {
        self.inodes
            .get_mut(&ino)
            .expect("an inode in use is in the table")
    }

    pub fn pin(&mut self, ino: Ino) {
        self.get_mut(ino).pins += 1;
    }

    pub fn unpin(&mut self, ino: Ino) {
        self.get_mut(ino).pins -= 1;
        self.forget_if_unused(ino);
    }

    fn forget_if_unused(&mut self, ino: Ino) {
        let inode = self.get(ino);
        if inode.pins == 0 && inode.attr.nlink == 0 {
            self.inodes.remove(&ino);
        }
    }

    pub fn attr(&self, ino: Ino) -> Attr {
        let inode = self.get(ino);
        let mut attr = inode.attr;
        match &inode.content {
            Content::Regular(data) => (attr.size, attr.blocks) = (data.size(), data.blocks()),
            Content::Symlink(target) => attr.size = target.len() as u64,
            Content::Directory(_) => attr.size = 4096,
            Content::Fifo { .. } | Content::Zeros | Content::Nothing => {}
        }
        attr
    }

    pub fn now(&self) -> Timestamp {
        self.clock.tick()
    }

    fn touch(&mut self, ino: Ino) {
        let now = self.now();
        let attr = &mut self.get_mut(ino).attr;
        (attr.mtime, attr.ctime) = (now, now);
    }

    fn change(&mut self, ino: Ino) {
        let now = self.now();
        self.get_mut(ino).attr.ctime = now;
    }

    pub fn entries(&self, dir: Ino) -> Result<&BTreeMap<Vec<u8>, Entry>> {
        match &self.get(dir).content {
            Content::Directory(entries) => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn entries_mut(&mut self, dir: Ino) -> &mut BTreeMap<Vec<u8>, Entry> {
        match &mut self.get_mut(dir).content {
            Content::Directory(entries) => entries,
            _ => unreachable!("checked to be a directory"),
        }
    }

    pub fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Ino> {
        let entries = self.entries(dir)?;
        check_name(name)?;
        entries
            .get(name)
            .map(|entry| entry.ino)
            .ok_or(Errno::ENOENT)
    }

    fn is_dir(&self, ino: Ino) -> bool {
        self.get(ino).attr.file_type == FileType::Directory
    }

    fn insert(&mut self, new: &New<'_>, mode: u16, uid: u32, gid: u32, parent: Ino) -> Ino {
        let ino = self.next_ino;
        self.next_ino += 1;
        let (file_type, content, rdev) = match *new {
            New::Dir => (
                FileType::Directory,
                Content::Directory(BTreeMap::new()),
                None,
            ),
            New::Regular => {
                let data = Data::new(self.on_host);
                (FileType::Regular, Content::Regular(data), None)
            }
            New::Symlink(target) => (FileType::Symlink, Content::Symlink(target.into()), None),
            New::Fifo => {
                let fifo = Content::Fifo {
                    bytes: VecDeque::new(),
                    readers: 0,
                    writers: 0,
                };
                (FileType::Fifo, fifo, None)
            }
            New::Socket => (FileType::Socket, Content::Nothing, None),
            New::Char(ZERO) => (FileType::CharDevice, Content::Zeros, Some(ZERO)),
            New::Char(device) => (FileType::CharDevice, Content::Nothing, Some(device)),
            New::Block(device) => (FileType::BlockDevice, Content::Nothing, Some(device)),
        };
        let now = self.now();
        let attr = Attr {
            mask: AttrMask::BASIC | AttrMask::BTIME,
            mode,
            uid,
            gid,
            rdev: rdev.unwrap_or(Device::default()),
            block_size: 4096,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            ..Attr::of_type(file_type)
        };
        let inode = Inode {
            attr,
            content,
            xattrs: BTreeMap::new(),
            pins: 0,
            parent,
        };
        self.inodes.insert(ino, inode);
        ino
    }

    /// Puts a name to an inode and counts it. `moved`: the inode is only moved there.
    fn add_name(&mut self, dir: Ino, name: &[u8], ino: Ino, moved: bool) {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.entries_mut(dir)
            .insert(name.to_vec(), Entry { ino, cookie });
        if !moved {
            self.get_mut(ino).attr.nlink += 1;
            self.change(ino);
        }
        if self.is_dir(ino) {
            self.get_mut(ino).parent = dir;
            self.get_mut(dir).attr.nlink += 1;
        }
        self.touch(dir);
    }

    /// Takes a name away. Unless `moved`, the inode loses it for good.
    fn drop_name(&mut self, dir: Ino, name: &[u8], moved: bool) {
        let Some(entry) = self.entries_mut(dir).remove(name) else {
            return;
        };
        let directory = self.is_dir(entry.ino);
        if directory {
            self.get_mut(dir).attr.nlink -= 1;
        }
        self.touch(dir);
        self.change(entry.ino);
        if !moved {
            let nlink = &mut self.get_mut(entry.ino).attr.nlink;
            *nlink = if directory { 0 } else { *nlink - 1 };
            self.forget_if_unused(entry.ino);
        }
    }

    /// A directory that may get a new name.
    fn open_for_names(&self, dir: Ino, name: &[u8]) -> Result<()> {
        let entries = self.entries(dir)?;
        check_name(name)?;
        if entries.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        if self.get(dir).attr.nlink == 0 {
            return Err(Errno::ENOENT);
        }
        Ok(())
    }

    pub fn make(
        &mut self,
        dir: Ino,
        name: &[u8],
        new: &New<'_>,
        mode: u16,
        owner: Owner,
    ) -> Result<Ino> {
        self.open_for_names(dir, name)?;
        let parent = self.get(dir).attr;
        let setgid = parent.mode & 0o2000;
        let inherited = if setgid != 0 { parent.gid } else { 0 };
        let mode = match new {
            New::Dir => mode | setgid,
            New::Symlink(_) => 0o777,
            _ => mode,
        };
        let gid = owner.gid.unwrap_or(inherited);
        let ino = self.insert(new, mode & 0o7777, owner.uid.unwrap_or(0), gid, dir);
        self.add_name(dir, name, ino, false);
        if matches!(new, New::Dir) {
            self.get_mut(ino).attr.nlink = 2;
        }
        Ok(ino)
    }

    pub fn link(&mut self, dir: Ino, name: &[u8], target: Ino) -> Result<()> {
        self.open_for_names(dir, name)?;
        if self.is_dir(target) {
            return Err(Errno::EPERM);
        }
        if self.get(target).attr.nlink == 0 {
            return Err(Errno::ENOENT);
        }
        self.add_name(dir, name, target, false);
        Ok(())
    }

    pub fn unlink(&mut self, dir: Ino, name: &[u8], directory: bool) -> Result<()> {
        let ino = self.lookup(dir, name)?;
        match (directory, self.is_dir(ino)) {
            (true, false) => return Err(Errno::ENOTDIR),
            (false, true) => return Err(Errno::EISDIR),
            (true, true) if !self.entries(ino)?.is_empty() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        self.drop_name(dir, name, false);
        Ok(())
    }

    fn is_inside(&self, mut dir: Ino, ancestor: Ino) -> bool {
        loop {
            if dir == ancestor {
                return true;
            }
            let parent = self.get(dir).parent;
            if dir == parent || dir == ROOT || !self.inodes.contains_key(&parent) {
                return false;
            }
            dir = parent;
        }
    }

    pub fn rename(
        &mut self,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        flags: RenameFlags,
    ) -> Result<()> {
        self.entries(to.0)?;
        check_name(to.1)?;
        let source = self.lookup(from.0, from.1)?;
        let target = self.entries(to.0)?.get(to.1).map(|entry| entry.ino);
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        if self.is_dir(source) && self.is_inside(to.0, source) {
            return Err(Errno::EINVAL);
        }
        if self.get(to.0).attr.nlink == 0 {
            return Err(Errno::ENOENT);
        }
        match target {
            Some(_) if flags.contains(RenameFlags::NOREPLACE) => return Err(Errno::EEXIST),
            None if exchange => return Err(Errno::ENOENT),
            Some(target) if target == source => return Ok(()),
            Some(target) if exchange => {
                if self.is_dir(target) && self.is_inside(from.0, target) {
                    return Err(Errno::EINVAL);
                }
                self.drop_name(to.0, to.1, true);
                self.drop_name(from.0, from.1, true);
                self.add_name(from.0, from.1, target, true);
            }
            Some(target) => {
                self.may_replace(source, target)?;
                self.drop_name(to.0, to.1, false);
                self.drop_name(from.0, from.1, true);
            }
            None => self.drop_name(from.0, from.1, true),
        }
        self.add_name(to.0, to.1, source, true);
        Ok(())
    }

    fn may_replace(&self, source: Ino, target: Ino) -> Result<()> {
        match (self.is_dir(source), self.is_dir(target)) {
            (true, false) => Err(Errno::ENOTDIR),
            (false, true) => Err(Errno::EISDIR),
            (true, true) if !self.entries(target)?.is_empty() => Err(Errno::ENOTEMPTY),
            _ => Ok(()),
        }
    }

    /// Changes what is asked for but `refused`; what cannot be changed is reported.
    pub fn set_attr(
        &mut self,
        ino: Ino,
        set: &SetAttr,
        refused: Option<(AttrMask, Errno)>,
    ) -> SetAttrReport {
        let mut report = SetAttrReport::default();
        let now = self.now();
        let inode = self.get_mut(ino);
        let mut may = |mask: AttrMask, by_type: Option<Errno>| {
            let refused = refused.filter(|refused| refused.0.intersects(mask));
            match refused.map(|refused| refused.1).or(by_type) {
                Some(errno) => {
                    report.failed |= mask;
                    report.errno = Some(errno);
                    false
                }
                None => true,
            }
        };
        if let Some(size) = set.size {
            let by_type = match inode.content {
                Content::Regular(_) => None,
                Content::Directory(_) => Some(Errno::EISDIR),
                _ => Some(Errno::EINVAL),
            };
            if may(AttrMask::SIZE, by_type)
                && let Content::Regular(data) = &mut inode.content
            {
                data.set_size(size);
                inode.attr.mtime = now;
            }
        }
        let attr = &mut inode.attr;
        for (mask, id) in [(AttrMask::UID, set.uid), (AttrMask::GID, set.gid)] {
            let Some(id) = id.filter(|_| may(mask, None)) else {
                continue;
            };
            match mask {
                AttrMask::UID => attr.uid = id,
                _ => attr.gid = id,
            }
            if attr.file_type != FileType::Directory {
                attr.mode &= if attr.mode & 0o010 != 0 {
                    !0o6000
                } else {
                    !0o4000
                };
            }
        }
        if let Some(mode) = set.mode {
            let symlink = attr.file_type == FileType::Symlink;
            if may(AttrMask::MODE, symlink.then_some(Errno::EOPNOTSUPP)) {
                attr.mode = mode & 0o7777;
            }
        }
        let time = |time| match time {
            SetTime::Now => now,
            SetTime::At(time) => time,
        };
        if let Some(atime) = set.atime.filter(|_| may(AttrMask::ATIME, None)) {
            attr.atime = time(atime);
        }
        if let Some(mtime) = set.mtime.filter(|_| may(AttrMask::MTIME, None)) {
            attr.mtime = time(mtime);
        }
        attr.ctime = now;
        report
    }

    pub fn read(&mut self, ino: Ino, into: &mut [u8], offset: u64) -> Result<usize> {
        let now = self.now();
        let inode = self.get_mut(ino);
        let n = match &mut inode.content {
            Content::Regular(data) => data.read(into, offset),
            Content::Fifo { bytes, writers, .. } => {
                if bytes.is_empty() && *writers > 0 {
                    return Err(Errno::EAGAIN);
                }
                let n = into.len().min(bytes.len());
                for (slot, byte) in into.iter_mut().zip(bytes.drain(..n)) {
                    *slot = byte;
                }
                n
            }
            Content::Zeros => {
                into.fill(0);
                into.len()
            }
            Content::Directory(_) => return Err(Errno::EISDIR),
            Content::Symlink(_) | Content::Nothing => return Err(Errno::EINVAL),
        };
        inode.attr.atime = now;
        Ok(n)
    }

    pub fn write(&mut self, ino: Ino, from: &[u8], offset: u64) -> Result<usize> {
        match &mut self.get_mut(ino).content {
            Content::Regular(data) => {
                if offset.saturating_add(from.len() as u64) > i64::MAX as u64 {
                    return Err(Errno::EFBIG);
                }
                data.write(from, offset);
            }
            Content::Fifo { readers: 0, .. } => return Err(Errno::EPIPE),
            Content::Fifo { bytes, .. } => bytes.extend(from),
            Content::Zeros => {}
            _ => return Err(Errno::EINVAL),
        }
        self.touch(ino);
        Ok(from.len())
    }

    pub fn allocate(&mut self, ino: Ino, mode: AllocMode, offset: u64, len: u64) -> Result<()> {
        let punch = AllocMode::PUNCH_HOLE | AllocMode::KEEP_SIZE;
        let zeroes =
            mode == punch || mode.difference(AllocMode::KEEP_SIZE) == AllocMode::ZERO_RANGE;
        let moves = [AllocMode::COLLAPSE_RANGE, AllocMode::INSERT_RANGE].contains(&mode);
        if !zeroes && !moves && !AllocMode::KEEP_SIZE.contains(mode) {
            return Err(Errno::EOPNOTSUPP);
        }
        let Content::Regular(data) = &mut self.get_mut(ino).content else {
            return Err(Errno::ENODEV);
        };
        let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        if zeroes {
            data.zero(offset, len);
        }
        if moves {
            let (from, to) = match mode {
                AllocMode::COLLAPSE_RANGE => (end, offset),
                _ => (offset, end),
            };
            if from >= data.size() || !(offset | len).is_multiple_of(4096) {
                return Err(Errno::EINVAL);
            }
            data.shift(from, to).ok_or(Errno::EOPNOTSUPP)?;
        } else if !mode.contains(AllocMode::KEEP_SIZE) && end > data.size() {
            data.set_size(end);
        }
        self.touch(ino);
        Ok(())
    }

    pub fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        match &self.get(ino).content {
            Content::Symlink(target) => Ok(target.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    pub fn stat_fs(&self) -> StatFs {
        StatFs {
            fs_type: 0x858458f6,
            block_size: 4096,
            blocks: 1 << 20,
            blocks_free: 1 << 19,
            blocks_available: 1 << 18,
            files: 1 << 16,
            files_free: (1 << 16) - self.inodes.len() as u64,
            name_length: NAME_MAX as u64,
        }
    }

    pub fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        self.get(ino)
            .xattrs
            .get(name)
            .cloned()
            .ok_or(Errno::ENODATA)
    }

    pub fn xattr_names(&self, ino: Ino) -> Vec<Vec<u8>> {
        self.get(ino).xattrs.keys().cloned().collect()
    }

    pub fn set_xattr(
        &mut self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<()> {
        let present = self.get(ino).xattrs.contains_key(name);
        if present && flags.contains(XattrFlags::CREATE) {
            return Err(Errno::EEXIST);
        }
        if !present && flags.contains(XattrFlags::REPLACE) {
            return Err(Errno::ENODATA);
        }
        self.get_mut(ino)
            .xattrs
            .insert(name.to_vec(), value.to_vec());
        self.change(ino);
        Ok(())
    }

    pub fn remove_xattr(&mut self, ino: Ino, name: &[u8]) -> Result<()> {
        self.get_mut(ino)
            .xattrs
            .remove(name)
            .ok_or(Errno::ENODATA)?;
        self.change(ino);
        Ok(())
    }
}

fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok(())
}
