//! Changing attributes, and extended attributes.

use std::fmt;

use parking_lot::RwLockWriteGuard;
use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid,
    XattrFlags,
};

use super::{Errno, Node, Owner, Result, sys};

/// How often the size of an extended attribute may change between asking for it and reading it.
const XATTR_ATTEMPTS: usize = 8;

/// A time to set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SetTime {
    /// Leave it alone.
    #[default]
    Omit,
    /// The host's clock.
    Now,
    /// Seconds since 1970 and nanoseconds; the host refuses nanoseconds of a second and more.
    At {
        /// Seconds, negative before 1970.
        sec: i64,
        /// Nanoseconds.
        nsec: i64,
    },
}

impl SetTime {
    fn timespec(self) -> Timespec {
        let (tv_sec, tv_nsec) = match self {
            SetTime::Omit => (0, UTIME_OMIT),
            SetTime::Now => (0, UTIME_NOW),
            SetTime::At { sec, nsec } => (sec, nsec),
        };
        Timespec { tv_sec, tv_nsec }
    }
}

/// An exclusive hold on a node (level *write*) to change some of its attributes in the order a
/// protocol asks for. Each change succeeds or fails by itself. Nothing follows a symbolic link.
pub struct Edit<'a> {
    node: &'a Node,
    _lock: RwLockWriteGuard<'a, ()>,
}

impl fmt::Debug for Edit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edit")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl Edit<'_> {
    /// Sets the permission bits, type bits aside. A symbolic link has none: `EOPNOTSUPP`.
    pub fn set_mode(&mut self, mode: u32) -> Result<()> {
        if self.node.file_type() == FileType::Symlink {
            return Err(Errno::OPNOTSUPP);
        }
        let mode = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::chmod(sys::magic_path(self.node), mode)
    }

    /// Sets the size of a regular file through a descriptor of this server's own, so the access
    /// rights of the client's handle do not matter. A directory is `EISDIR`, another type `EINVAL`.
    pub fn set_size(&mut self, size: u64) -> Result<()> {
        match self.node.file_type() {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Errno::ISDIR),
            _ => return Err(Errno::INVAL),
        }
        // O_NONBLOCK: do not wait for the holder of a lease.
        let file = sys::reopen(self.node, OFlags::WRONLY | OFlags::NONBLOCK)?;
        rustix::fs::ftruncate(&file, size)
    }

    /// Sets the times of last access and of last change.
    pub fn set_times(&mut self, atime: SetTime, mtime: SetTime) -> Result<()> {
        let times = Timestamps {
            last_access: atime.timespec(),
            last_modification: mtime.timespec(),
        };
        rustix::fs::utimensat(self.node, c"", &times, AtFlags::EMPTY_PATH)
    }

    /// Sets owner and group; `None` leaves one alone, and nothing is done for two of them.
    pub fn set_owner(&mut self, owner: Owner) -> Result<()> {
        set_owner(self.node, owner)
    }
}

/// Sets the owner of what `fd` names, with whatever its mode was afterwards.
pub(super) fn set_owner(node: &Node, owner: Owner) -> Result<()> {
    if owner == Owner::default() {
        return Ok(());
    }
    // The "no change" value of the system call is not an id.
    if owner.uid == Some(u32::MAX) || owner.gid == Some(u32::MAX) {
        return Err(Errno::INVAL);
    }
    let uid = owner.uid.map(Uid::from_raw);
    let gid = owner.gid.map(Gid::from_raw);
    rustix::fs::chownat(node, c"", uid, gid, AtFlags::EMPTY_PATH)
}

impl Node {
    /// Starts changing attributes; `EROFS` on a read-only export. Locks: write, while it lives.
    pub fn edit(&self) -> Result<Edit<'_>> {
        self.policy().check_writable()?;
        Ok(Edit {
            node: self,
            _lock: self.lock.write(),
        })
    }

    /// The value of an extended attribute. Locks: read.
    pub fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        let _file = self.lock.read();
        let path = sys::magic_path(self);
        sized(|buffer| match buffer {
            None => rustix::fs::getxattr_query(&path, name),
            Some(buffer) => rustix::fs::getxattr(&path, name, spare_capacity(buffer)),
        })
    }

    /// Sets an extended attribute; `flags` as in setxattr(2). Locks: write.
    pub fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        self.policy().check_writable()?;
        let _file = self.lock.write();
        let flags = XattrFlags::from_bits_retain(flags);
        rustix::fs::setxattr(sys::magic_path(self), name, value, flags)
    }

    /// The names of the extended attributes, each followed by a zero byte. Locks: read.
    pub fn list_xattr(&self) -> Result<Vec<u8>> {
        let _file = self.lock.read();
        let path = sys::magic_path(self);
        sized(|buffer| match buffer {
            None => rustix::fs::listxattr_query(&path),
            Some(buffer) => rustix::fs::listxattr(&path, spare_capacity(buffer)),
        })
    }

    /// Removes an extended attribute. Locks: write.
    pub fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.policy().check_writable()?;
        let _file = self.lock.write();
        rustix::fs::removexattr(sys::magic_path(self), name)
    }
}

/// Asks for a size, makes room and reads, again while the value grows in between. The kernel
/// bounds the size by 64 KiB.
fn sized(mut call: impl FnMut(Option<&mut Vec<u8>>) -> Result<usize>) -> Result<Vec<u8>> {
    for _ in 0..XATTR_ATTEMPTS {
        let size = call(None)?;
        if size == 0 {
            return Ok(Vec::new());
        }
        let mut buffer = Vec::with_capacity(size);
        match call(Some(&mut buffer)) {
            Err(Errno::RANGE) => {}
            result => return result.map(|_| buffer),
        }
    }
    Err(Errno::RANGE)
}
