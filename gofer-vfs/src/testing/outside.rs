//! Somebody else who works on the tree, past the client under test: what other clients and
//! programs on the server's machine do.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, RenameFlags as HostRename, Timespec, Timestamps};

use crate::attr::{Attr, AttrMask, Device, FileType, Timestamp};
use crate::error::Errno;

/// What outside calls return.
pub type OutsideResult<T> = Result<T, Errno>;

/// An attribute block with the number of the file.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct OutsideStat {
    pub ino: u64,
    pub attr: Attr,
}

/// Access to one directory past the client. Paths are relative to it, and no link in the last
/// component is followed.
#[allow(missing_docs)]
pub trait Outside: Send + Sync {
    /// Makes the file or cuts it, then fills it. The inode stays when there is one.
    fn write(&self, path: &[u8], content: &[u8]) -> OutsideResult<()>;
    fn append(&self, path: &[u8], content: &[u8]) -> OutsideResult<()>;
    fn read(&self, path: &[u8]) -> OutsideResult<Vec<u8>>;
    fn mkdir(&self, path: &[u8]) -> OutsideResult<()>;
    fn symlink(&self, target: &[u8], path: &[u8]) -> OutsideResult<()>;
    fn mkfifo(&self, path: &[u8]) -> OutsideResult<()>;
    fn link(&self, old: &[u8], new: &[u8]) -> OutsideResult<()>;
    fn rename(&self, old: &[u8], new: &[u8]) -> OutsideResult<()>;
    /// Swaps two names in one step.
    fn exchange(&self, a: &[u8], b: &[u8]) -> OutsideResult<()>;
    fn unlink(&self, path: &[u8]) -> OutsideResult<()>;
    fn rmdir(&self, path: &[u8]) -> OutsideResult<()>;
    fn stat(&self, path: &[u8]) -> OutsideResult<OutsideStat>;
    fn read_link(&self, path: &[u8]) -> OutsideResult<Vec<u8>>;
    /// Names in a directory, sorted.
    fn list(&self, path: &[u8]) -> OutsideResult<Vec<Vec<u8>>>;
    fn chmod(&self, path: &[u8], mode: u16) -> OutsideResult<()>;
    fn chown(&self, path: &[u8], uid: u32, gid: u32) -> OutsideResult<()>;
    fn truncate(&self, path: &[u8], size: u64) -> OutsideResult<()>;
    /// Sets both times.
    fn set_times(&self, path: &[u8], atime: Timestamp, mtime: Timestamp) -> OutsideResult<()>;

    /// Whether files may have `user.*` attributes here.
    fn supports_xattrs(&self) -> bool;

    /// The directory of the host that this is, if it is one.
    fn directory(&self) -> Option<&Path> {
        None
    }

    /// Whether anything goes by that name.
    fn exists(&self, path: &[u8]) -> bool {
        self.stat(path).is_ok()
    }
}

/// A directory of the host, reached by the host's own system calls.
pub struct HostOutside {
    dir: PathBuf,
}

impl HostOutside {
    /// Works in `dir`, which must exist.
    pub fn new(dir: impl Into<PathBuf>) -> HostOutside {
        HostOutside { dir: dir.into() }
    }

    fn path(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() {
            return self.dir.clone();
        }
        self.dir.join(Path::new(OsStr::from_bytes(path)))
    }
}

fn io<T>(result: std::io::Result<T>) -> OutsideResult<T> {
    result.map_err(|error| Errno::from(&error))
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec {
        tv_sec: time.sec,
        tv_nsec: time.nsec.into(),
    }
}

impl Outside for HostOutside {
    fn directory(&self) -> Option<&Path> {
        Some(&self.dir)
    }

    fn write(&self, path: &[u8], content: &[u8]) -> OutsideResult<()> {
        io(fs::write(self.path(path), content))
    }

    fn append(&self, path: &[u8], content: &[u8]) -> OutsideResult<()> {
        let mut file = io(fs::OpenOptions::new().append(true).open(self.path(path)))?;
        io(file.write_all(content))
    }

    fn read(&self, path: &[u8]) -> OutsideResult<Vec<u8>> {
        io(fs::read(self.path(path)))
    }

    fn mkdir(&self, path: &[u8]) -> OutsideResult<()> {
        io(fs::create_dir(self.path(path)))
    }

    fn symlink(&self, target: &[u8], path: &[u8]) -> OutsideResult<()> {
        io(std::os::unix::fs::symlink(
            OsStr::from_bytes(target),
            self.path(path),
        ))
    }

    fn mkfifo(&self, path: &[u8]) -> OutsideResult<()> {
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        let kind = rustix::fs::FileType::Fifo;
        Ok(rustix::fs::mknodat(CWD, self.path(path), kind, mode, 0)?)
    }

    fn link(&self, old: &[u8], new: &[u8]) -> OutsideResult<()> {
        io(fs::hard_link(self.path(old), self.path(new)))
    }

    fn rename(&self, old: &[u8], new: &[u8]) -> OutsideResult<()> {
        io(fs::rename(self.path(old), self.path(new)))
    }

    fn exchange(&self, a: &[u8], b: &[u8]) -> OutsideResult<()> {
        let (a, b) = (self.path(a), self.path(b));
        Ok(rustix::fs::renameat_with(
            CWD,
            a,
            CWD,
            b,
            HostRename::EXCHANGE,
        )?)
    }

    fn unlink(&self, path: &[u8]) -> OutsideResult<()> {
        io(fs::remove_file(self.path(path)))
    }

    fn rmdir(&self, path: &[u8]) -> OutsideResult<()> {
        io(fs::remove_dir(self.path(path)))
    }

    fn stat(&self, path: &[u8]) -> OutsideResult<OutsideStat> {
        let meta = io(fs::symlink_metadata(self.path(path)))?;
        let time = |sec, nsec| Timestamp {
            sec,
            nsec: u32::try_from(nsec).unwrap_or(0),
        };
        let attr = Attr {
            mask: AttrMask::BASIC,
            mode: (meta.mode() & 0o7777) as u16,
            nlink: meta.nlink(),
            uid: meta.uid(),
            gid: meta.gid(),
            rdev: Device {
                major: rustix::fs::major(meta.rdev()),
                minor: rustix::fs::minor(meta.rdev()),
            },
            size: meta.len(),
            blocks: meta.blocks(),
            block_size: u32::try_from(meta.blksize()).unwrap_or(0),
            atime: time(meta.atime(), meta.atime_nsec()),
            mtime: time(meta.mtime(), meta.mtime_nsec()),
            ctime: time(meta.ctime(), meta.ctime_nsec()),
            ..Attr::of_type(file_type(meta.file_type()))
        };
        Ok(OutsideStat {
            ino: meta.ino(),
            attr,
        })
    }

    fn read_link(&self, path: &[u8]) -> OutsideResult<Vec<u8>> {
        let target = io(fs::read_link(self.path(path)))?;
        Ok(target.into_os_string().into_vec())
    }

    fn list(&self, path: &[u8]) -> OutsideResult<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for entry in io(fs::read_dir(self.path(path)))? {
            names.push(io(entry)?.file_name().into_vec());
        }
        names.sort();
        Ok(names)
    }

    fn chmod(&self, path: &[u8], mode: u16) -> OutsideResult<()> {
        let permissions = fs::Permissions::from_mode(mode.into());
        io(fs::set_permissions(self.path(path), permissions))
    }

    fn chown(&self, path: &[u8], uid: u32, gid: u32) -> OutsideResult<()> {
        io(std::os::unix::fs::lchown(
            self.path(path),
            Some(uid),
            Some(gid),
        ))
    }

    fn truncate(&self, path: &[u8], size: u64) -> OutsideResult<()> {
        let file = io(fs::OpenOptions::new().write(true).open(self.path(path)))?;
        io(file.set_len(size))
    }

    fn set_times(&self, path: &[u8], atime: Timestamp, mtime: Timestamp) -> OutsideResult<()> {
        let times = Timestamps {
            last_access: timespec(atime),
            last_modification: timespec(mtime),
        };
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::utimensat(
            CWD,
            self.path(path),
            &times,
            nofollow,
        )?)
    }

    fn supports_xattrs(&self) -> bool {
        let (name, flags) = ("user.gofer-probe", rustix::fs::XattrFlags::empty());
        rustix::fs::setxattr(&self.dir, name, b"", flags).is_ok()
            && rustix::fs::removexattr(&self.dir, name).is_ok()
    }
}

fn file_type(file_type: fs::FileType) -> FileType {
    if file_type.is_dir() {
        FileType::Directory
    } else if file_type.is_symlink() {
        FileType::Symlink
    } else if file_type.is_fifo() {
        FileType::Fifo
    } else if file_type.is_socket() {
        FileType::Socket
    } else if file_type.is_char_device() {
        FileType::CharDevice
    } else if file_type.is_block_device() {
        FileType::BlockDevice
    } else {
        FileType::Regular
    }
}
