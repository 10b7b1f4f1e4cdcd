//! The local end of a copy.

use std::os::fd::{AsFd, OwnedFd};

use gofer_vfs::{Attr, AttrMask, Device, Errno, FileType, SetAttr, SetTime, Timestamp};
use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, SeekFrom};
use rustix::process::umask;

use super::side::{BATCH, Batch, Create, Fault, Reader, Settable, Side, SideResult, Writer};

/// The local file system. While it lives the process has no umask: every mode is given.
pub struct Local {
    umask: Mode,
}

impl Local {
    /// Takes the umask away and allows as many open files as the system lets us.
    pub fn new() -> Local {
        // With fewer, only very deep trees fail.
        raise_descriptor_limit();
        Local {
            umask: umask(Mode::empty()),
        }
    }
}

/// Allows this process as many open files as the system lets it have.
pub fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}

impl Drop for Local {
    fn drop(&mut self) {
        umask(self.umask);
    }
}

fn fault(op: &'static str) -> impl Fn(rustix::io::Errno) -> Fault {
    move |errno| Fault::new(op, errno)
}

fn mode_bits(mode: u16) -> Mode {
    Mode::from_raw_mode(mode.into())
}

const OPEN: OFlags = OFlags::CLOEXEC.union(OFlags::NOCTTY);

impl Side for Local {
    type Dir = OwnedFd;
    type List = rustix::fs::Dir;
    type Reader = OwnedFd;
    type Writer = OwnedFd;

    fn current(&self) -> SideResult<OwnedFd> {
        self.dir_from(CWD, b".", true)
    }

    fn attr(&self, dir: &OwnedFd, name: &[u8], follow: bool) -> SideResult<Attr> {
        let flags = if follow {
            AtFlags::empty()
        } else {
            AtFlags::SYMLINK_NOFOLLOW
        };
        let stat = fs::statat(dir, name, flags).map_err(fault("stat"))?;
        attr(&stat)
    }

    fn dir(&self, dir: &OwnedFd, name: &[u8], follow: bool) -> SideResult<OwnedFd> {
        self.dir_from(dir, name, follow)
    }

    fn list(&self, dir: &OwnedFd) -> SideResult<rustix::fs::Dir> {
        rustix::fs::Dir::read_from(dir).map_err(fault("readdir"))
    }

    fn next(&self, list: &mut rustix::fs::Dir) -> SideResult<Batch> {
        let mut batch = Batch::new();
        while batch.len() < BATCH {
            let Some(entry) = list.read() else { break };
            let entry = entry.map_err(fault("readdir"))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                batch.push((name.to_vec(), file_type(entry.file_type())));
            }
        }
        Ok(batch)
    }

    fn read_link(&self, dir: &OwnedFd, name: &[u8]) -> SideResult<Vec<u8>> {
        let target = fs::readlinkat(dir, name, Vec::new()).map_err(fault("readlink"))?;
        Ok(target.into_bytes())
    }

    fn open(&self, dir: &OwnedFd, name: &[u8], follow: bool) -> SideResult<OwnedFd> {
        // Inside a tree, a fifo that takes the file's place must not hold us up.
        let guarded = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let flags = match follow {
            true => OPEN | OFlags::RDONLY,
            false => OPEN | OFlags::RDONLY | guarded,
        };
        fs::openat(dir, name, flags, Mode::empty()).map_err(fault("open"))
    }

    fn create(&self, dir: &OwnedFd, name: &[u8], how: Create) -> SideResult<OwnedFd> {
        let (flags, mode) = match how {
            Create::New(mode) => (OFlags::CREATE | OFlags::EXCL, mode),
            Create::Over => (OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK, 0),
            Create::Append => (OFlags::NOFOLLOW | OFlags::NONBLOCK, 0),
            Create::Named(mode) => (OFlags::CREATE | OFlags::TRUNC, mode),
        };
        fs::openat(dir, name, OPEN | OFlags::WRONLY | flags, mode_bits(mode)).map_err(fault("open"))
    }

    fn make_dir(&self, dir: &OwnedFd, name: &[u8], mode: u16) -> SideResult<()> {
        fs::mkdirat(dir, name, mode_bits(mode)).map_err(fault("mkdir"))
    }

    fn make_link(&self, dir: &OwnedFd, name: &[u8], target: &[u8]) -> SideResult<()> {
        fs::symlinkat(target, dir, name).map_err(fault("symlink"))
    }

    fn make_node(&self, dir: &OwnedFd, name: &[u8], attr: &Attr) -> SideResult<()> {
        let kind = fs::FileType::from_raw_mode(attr.file_type.mode_bits());
        let device = fs::makedev(attr.rdev.major, attr.rdev.minor);
        fs::mknodat(dir, name, kind, mode_bits(attr.mode & 0o777), device).map_err(fault("mknod"))
    }

    fn unlink(&self, dir: &OwnedFd, name: &[u8]) -> SideResult<()> {
        fs::unlinkat(dir, name, AtFlags::empty()).map_err(fault("unlink"))
    }

    fn set(&self, dir: &OwnedFd, name: &[u8], set: &SetAttr) -> SideResult<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if set.uid.is_some() || set.gid.is_some() {
            let (uid, gid) = owner(set);
            fs::chownat(dir, name, uid, gid, flags).map_err(fault("chown"))?;
        }
        // Modes of nodes are right from the beginning: there is no umask in the way.
        if set.atime.is_some() || set.mtime.is_some() {
            fs::utimensat(dir, name, &times(set), flags).map_err(fault("utimens"))?;
        }
        Ok(())
    }

    fn uid(&self) -> u32 {
        rustix::process::geteuid().as_raw()
    }
}

impl Local {
    fn dir_from(&self, dir: impl AsFd, name: &[u8], follow: bool) -> SideResult<OwnedFd> {
        let flags = OPEN | OFlags::RDONLY | OFlags::DIRECTORY;
        let flags = if follow {
            flags
        } else {
            flags | OFlags::NOFOLLOW
        };
        fs::openat(dir, name, flags, Mode::empty()).map_err(fault("open"))
    }
}

/// Directories and files alike.
impl Settable for OwnedFd {
    fn attr(&self) -> SideResult<Attr> {
        attr(&fs::fstat(self).map_err(fault("stat"))?)
    }

    fn set(&self, set: &SetAttr) -> SideResult<()> {
        if set.uid.is_some() || set.gid.is_some() {
            let (uid, gid) = owner(set);
            fs::fchown(self, uid, gid).map_err(fault("chown"))?;
        }
        if let Some(mode) = set.mode {
            fs::fchmod(self, mode_bits(mode)).map_err(fault("chmod"))?;
        }
        if let Some(size) = set.size {
            fs::ftruncate(self, size).map_err(fault("truncate"))?;
        }
        if set.atime.is_some() || set.mtime.is_some() {
            fs::futimens(self, &times(set)).map_err(fault("utimens"))?;
        }
        Ok(())
    }
}

impl Reader for OwnedFd {
    fn attr(&self) -> SideResult<Attr> {
        Settable::attr(self)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> SideResult<usize> {
        loop {
            match rustix::io::pread(self, &mut *into, offset) {
                Err(rustix::io::Errno::INTR) => {}
                // A pipe the user named: it has no places, but we go through it in order.
                Err(rustix::io::Errno::SPIPE) => {
                    return rustix::io::read(self, &mut *into).map_err(fault("read"));
                }
                other => return other.map_err(fault("read")),
            }
        }
    }

    fn next_data(&self, offset: u64) -> SideResult<Option<u64>> {
        match fs::seek(self, SeekFrom::Data(offset)) {
            Ok(at) => Ok(Some(at.max(offset))),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            // A file system that does not know holes.
            Err(_) => Ok(Some(offset)),
        }
    }
}

impl Writer for OwnedFd {
    fn write_at(&self, from: &[u8], offset: u64) -> SideResult<()> {
        let (mut from, mut offset) = (from, offset);
        while !from.is_empty() {
            let written = match rustix::io::pwrite(self, from, offset) {
                Err(rustix::io::Errno::SPIPE) => rustix::io::write(self, from),
                written => written,
            };
            match written {
                Ok(0) => return Err(Fault::new("write", Errno::EIO)),
                Ok(n) => {
                    from = &from[n..];
                    offset += n as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Fault::new("write", errno)),
            }
        }
        Ok(())
    }

    fn sync(&self) -> SideResult<()> {
        fs::fsync(self).map_err(fault("fsync"))
    }

    fn close(self) -> SideResult<()> {
        // What a local close could say is said by fsync, which is what -f is for.
        Ok(())
    }
}

fn owner(set: &SetAttr) -> (Option<fs::Uid>, Option<fs::Gid>) {
    (
        set.uid.map(fs::Uid::from_raw),
        set.gid.map(fs::Gid::from_raw),
    )
}

fn times(set: &SetAttr) -> fs::Timestamps {
    let spec = |time: Option<SetTime>| match time {
        None => fs::Timespec {
            tv_sec: 0,
            tv_nsec: fs::UTIME_OMIT,
        },
        Some(SetTime::Now) => fs::Timespec {
            tv_sec: 0,
            tv_nsec: fs::UTIME_NOW,
        },
        Some(SetTime::At(time)) => fs::Timespec {
            tv_sec: time.sec,
            tv_nsec: time.nsec.into(),
        },
    };
    fs::Timestamps {
        last_access: spec(set.atime),
        last_modification: spec(set.mtime),
    }
}

fn file_type(kind: fs::FileType) -> Option<FileType> {
    FileType::from_mode(kind.as_raw_mode())
}

fn attr(stat: &fs::Stat) -> SideResult<Attr> {
    let Some(file_type) = FileType::from_mode(stat.st_mode) else {
        return Err(Fault::new("stat", Errno::EINVAL));
    };
    let time = |sec, nsec: u64| Timestamp {
        sec,
        nsec: nsec as u32,
    };
    Ok(Attr {
        mask: AttrMask::BASIC,
        mode: (stat.st_mode & 0o7777) as u16,
        // Narrower on some machines.
        #[allow(clippy::unnecessary_cast)]
        nlink: stat.st_nlink as u64,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: Device {
            major: fs::major(stat.st_rdev),
            minor: fs::minor(stat.st_rdev),
        },
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        ..Attr::of_type(file_type)
    })
}
