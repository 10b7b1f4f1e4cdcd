//! Operations as system calls of the calling thread.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use gofer_transport::mapping::{Access as MapAccess, Mapping};
use gofer_vfs::{AccessMask, Attr, AttrMask, Device, Errno, FileType, Timestamp};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, RawDir, RenameFlags, SeekFrom, Stat, Timespec,
    Timestamps, XattrFlags,
};

use crate::random::op::{Answer, Facts, MapKind, Op, Outcome, PAGE, SLOTS, Seek, Target, Time};

type Res<T> = Result<T, Errno>;

/// What the thread has open.
#[derive(Default)]
pub(super) struct Calls {
    files: [Option<OwnedFd>; SLOTS],
    /// With the file, for its size.
    maps: [Option<(Mapping, MapKind, OwnedFd)>; SLOTS],
}

fn host<T>(result: rustix::io::Result<T>) -> Res<T> {
    result.map_err(Errno::from)
}

fn done<T>(result: rustix::io::Result<T>) -> Outcome {
    host(result).map(|_| Answer::Done)
}

fn number(result: rustix::io::Result<usize>) -> Outcome {
    host(result).map(|n| Answer::Number(n as u64))
}

fn unix<T>(result: nix::Result<T>) -> Outcome {
    result
        .map(|_| Answer::Done)
        .map_err(|errno| Errno::from_raw(errno as i32))
}

fn filled(buffer: Vec<u8>, read: rustix::io::Result<usize>) -> Res<Vec<u8>> {
    let mut buffer = buffer;
    buffer.truncate(host(read)?);
    Ok(buffer)
}

/// Runs the body with the file in a slot.
macro_rules! with {
    ($self:ident, $slot:expr, |$fd:ident| $body:expr) => {
        match $self.files.get(*$slot).and_then(Option::as_ref) {
            Some($fd) => $body,
            None => Ok(Answer::Nothing),
        }
    };
}

impl Calls {
    pub(super) fn run(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Open(slot, path, flags, mode) => {
                let flags = OFlags::from_bits_retain(flags.bits()) | OFlags::CLOEXEC;
                let file = host(rustix::fs::openat(
                    CWD,
                    path.as_bytes(),
                    flags,
                    Mode::from_bits_retain((*mode).into()),
                ));
                self.files[*slot] = None;
                self.files[*slot] = Some(file?);
                Ok(Answer::Done)
            }
            Op::Close(slot) => match self.files[*slot].take() {
                Some(file) => unix(nix::unistd::close(file)),
                None => Ok(Answer::Nothing),
            },
            Op::Read(slot, len) => with!(self, slot, |fd| {
                let mut buffer = vec![0; *len];
                let read = rustix::io::read(fd, buffer.as_mut_slice());
                filled(buffer, read).map(Answer::Bytes)
            }),
            Op::ReadAt(slot, at, len) => with!(self, slot, |fd| {
                let mut buffer = vec![0; *len];
                let read = rustix::io::pread(fd, buffer.as_mut_slice(), *at);
                filled(buffer, read).map(Answer::Bytes)
            }),
            Op::Write(slot, data) => with!(self, slot, |fd| {
                number(rustix::io::write(fd, &data.bytes()))
            }),
            Op::WriteAt(slot, at, data) => with!(self, slot, |fd| {
                number(rustix::io::pwrite(fd, &data.bytes(), *at))
            }),
            Op::Seek(slot, whence, to) => with!(self, slot, |fd| seek(fd, *whence, *to)),
            Op::Sync(slot, data_only) => with!(self, slot, |fd| {
                done(match data_only {
                    true => rustix::fs::fdatasync(fd),
                    false => rustix::fs::fsync(fd),
                })
            }),
            Op::Allocate(slot, mode, at, len) => with!(self, slot, |fd| {
                let mode = FallocateFlags::from_bits_retain(mode.bits());
                done(rustix::fs::fallocate(fd, mode, *at, *len))
            }),
            Op::Copy(from, from_at, to, to_at, len) => {
                self.copy(*from, *from_at, *to, *to_at, *len)
            }
            Op::Pieces(slot, first) => with!(self, slot, |fd| pieces(fd, *first)),
            Op::Map(slot, map, kind) => with!(self, slot, |fd| {
                let access = MapAccess {
                    write: kind.write,
                    execute: false,
                    shared: kind.shared,
                };
                let length = kind.pages * PAGE as usize;
                let at = kind.page * PAGE;
                let mapping = Mapping::new(fd.as_fd(), at, length, access)
                    .map_err(|error| Errno::from(&error))?;
                self.maps[*map] = Some((mapping, *kind, host(rustix::io::dup(fd))?));
                Ok(Answer::Done)
            }),
            Op::MapRead(map, at, len) => match &self.maps[*map] {
                Some((mapping, ..)) => {
                    let mut buffer = vec![0; *len];
                    let read = mapping.read(*at, &mut buffer);
                    buffer.truncate(read.map_err(|error| Errno::from(&error))?);
                    Ok(Answer::Bytes(buffer))
                }
                None => Ok(Answer::Nothing),
            },
            Op::MapWrite(map, at, data) => match &self.maps[*map] {
                Some((_, kind, _)) if !kind.write => Err(Errno::EACCES),
                Some((mapping, ..)) => {
                    let written = mapping.write(*at, &data.bytes());
                    let n = written.map_err(|error| Errno::from(&error))?;
                    Ok(Answer::Number(n as u64))
                }
                None => Ok(Answer::Nothing),
            },
            Op::MapSync(map) => match &self.maps[*map] {
                Some((mapping, ..)) => {
                    let synced = mapping.sync(0, mapping.length());
                    synced
                        .map(|()| Answer::Done)
                        .map_err(|error| Errno::from(&error))
                }
                None => Ok(Answer::Nothing),
            },
            Op::Unmap(map) => {
                let there = self.maps[*map].take().is_some();
                Ok(if there { Answer::Done } else { Answer::Nothing })
            }
            Op::Room(map) => match &self.maps[*map] {
                Some((_, kind, file)) => {
                    let size = host(rustix::fs::fstat(file))?.st_size as u64;
                    Ok(Answer::Number(size.saturating_sub(kind.page * PAGE)))
                }
                None => Ok(Answer::Nothing),
            },
            Op::DropCaches | Op::SyncAll => Ok(Answer::Done),
            op => self.by_name(op),
        }
    }

    fn by_name(&self, op: &Op) -> Outcome {
        match op {
            Op::Stat(target) => self.stat(target),
            Op::Access(path, want) => {
                let access = rustix::fs::Access::from_bits_retain(want_bits(*want));
                done(rustix::fs::accessat(
                    CWD,
                    path.as_bytes(),
                    access,
                    AtFlags::EACCESS,
                ))
            }
            Op::Chmod(target, mode) => {
                let mode = Mode::from_bits_retain((*mode).into());
                match target {
                    Target::Path(path) | Target::Link(path) => done(rustix::fs::chmodat(
                        CWD,
                        path.as_bytes(),
                        mode,
                        AtFlags::empty(),
                    )),
                    Target::Slot(slot) => {
                        with!(self, slot, |fd| done(rustix::fs::fchmod(fd, mode)))
                    }
                }
            }
            Op::Chown(target, uid, gid) => {
                let uid = uid.map(rustix::fs::Uid::from_raw);
                let gid = gid.map(rustix::fs::Gid::from_raw);
                match target {
                    Target::Path(path) => done(rustix::fs::chownat(
                        CWD,
                        path.as_bytes(),
                        uid,
                        gid,
                        AtFlags::empty(),
                    )),
                    Target::Link(path) => done(rustix::fs::chownat(
                        CWD,
                        path.as_bytes(),
                        uid,
                        gid,
                        AtFlags::SYMLINK_NOFOLLOW,
                    )),
                    Target::Slot(slot) => {
                        with!(self, slot, |fd| done(rustix::fs::fchown(fd, uid, gid)))
                    }
                }
            }
            Op::Utimes(target, atime, mtime) => {
                let times = Timestamps {
                    last_access: timespec(*atime),
                    last_modification: timespec(*mtime),
                };
                match target {
                    Target::Path(path) => done(rustix::fs::utimensat(
                        CWD,
                        path.as_bytes(),
                        &times,
                        AtFlags::empty(),
                    )),
                    Target::Link(path) => done(rustix::fs::utimensat(
                        CWD,
                        path.as_bytes(),
                        &times,
                        AtFlags::SYMLINK_NOFOLLOW,
                    )),
                    Target::Slot(slot) => {
                        with!(self, slot, |fd| done(rustix::fs::futimens(fd, &times)))
                    }
                }
            }
            Op::Truncate(target, size) => match target {
                Target::Path(path) | Target::Link(path) => {
                    unix(nix::unistd::truncate(path.as_bytes(), *size as i64))
                }
                Target::Slot(slot) => {
                    with!(self, slot, |fd| done(rustix::fs::ftruncate(fd, *size)))
                }
            },
            Op::SetXattr(..) | Op::GetXattr(..) | Op::ListXattr(_) | Op::RemoveXattr(..) => {
                self.xattr(op)
            }
            Op::ReadLink(path) => {
                let target = host(rustix::fs::readlinkat(CWD, path.as_bytes(), Vec::new()))?;
                Ok(Answer::Bytes(target.into_bytes()))
            }
            Op::List(path) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let dir = host(rustix::fs::openat(
                    CWD,
                    path.as_bytes(),
                    flags,
                    Mode::empty(),
                ))?;
                sorted(rest(&dir)?)
            }
            Op::Mkdir(path, mode) => {
                let mode = Mode::from_bits_retain((*mode).into());
                done(rustix::fs::mkdirat(CWD, path.as_bytes(), mode))
            }
            Op::Mkfifo(path, mode) => {
                let mode = Mode::from_bits_retain((*mode).into());
                let kind = rustix::fs::FileType::Fifo;
                done(rustix::fs::mknodat(CWD, path.as_bytes(), kind, mode, 0))
            }
            Op::Symlink(target, path) => done(rustix::fs::symlinkat(
                target.as_bytes(),
                CWD,
                path.as_bytes(),
            )),
            Op::Link(Target::Path(old), new) => done(rustix::fs::linkat(
                CWD,
                old.as_bytes(),
                CWD,
                new.as_bytes(),
                AtFlags::SYMLINK_FOLLOW,
            )),
            Op::Link(Target::Link(old), new) => done(rustix::fs::linkat(
                CWD,
                old.as_bytes(),
                CWD,
                new.as_bytes(),
                AtFlags::empty(),
            )),
            Op::Unlink(path) => done(rustix::fs::unlinkat(CWD, path.as_bytes(), AtFlags::empty())),
            Op::Rmdir(path) => done(rustix::fs::unlinkat(
                CWD,
                path.as_bytes(),
                AtFlags::REMOVEDIR,
            )),
            Op::Rename(old, new, flags) => {
                let flags = RenameFlags::from_bits_retain(flags.bits());
                done(rustix::fs::renameat_with(
                    CWD,
                    old.as_bytes(),
                    CWD,
                    new.as_bytes(),
                    flags,
                ))
            }
            Op::Put(path, data) => {
                let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NONBLOCK;
                let file = host(rustix::fs::openat(
                    CWD,
                    path.as_bytes(),
                    flags,
                    Mode::from_raw_mode(0o644),
                ))?;
                number(rustix::io::write(&file, &data.bytes()))
            }
            Op::Content(path) => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK;
                let file = host(rustix::fs::openat(
                    CWD,
                    path.as_bytes(),
                    flags,
                    Mode::empty(),
                ))?;
                content(&file)
            }
            op => unreachable!("{op:?} is nothing this can do"),
        }
    }

    fn copy(&self, from: usize, mut from_at: u64, to: usize, mut to_at: u64, len: u64) -> Outcome {
        let (Some(from), Some(to)) = (&self.files[from], &self.files[to]) else {
            return Ok(Answer::Nothing);
        };
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let copied =
            rustix::fs::copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), len);
        number(copied)
    }

    fn stat(&self, target: &Target) -> Outcome {
        let stat = match target {
            Target::Path(path) => host(rustix::fs::statat(CWD, path.as_bytes(), AtFlags::empty()))?,
            Target::Link(path) => host(rustix::fs::statat(
                CWD,
                path.as_bytes(),
                AtFlags::SYMLINK_NOFOLLOW,
            ))?,
            Target::Slot(slot) => match &self.files[*slot] {
                Some(fd) => host(rustix::fs::fstat(fd))?,
                None => return Ok(Answer::Nothing),
            },
        };
        let attr = attr(&stat);
        Ok(Answer::Facts(Facts::new(&attr, stat.st_ino)))
    }

    fn xattr(&self, op: &Op) -> Outcome {
        match op {
            Op::SetXattr(target, name, data, flags) => {
                let flags = XattrFlags::from_bits_retain(flags.bits());
                let value = data.bytes();
                match target {
                    Target::Path(path) => {
                        done(rustix::fs::setxattr(path.as_bytes(), *name, &value, flags))
                    }
                    Target::Link(path) => {
                        done(rustix::fs::lsetxattr(path.as_bytes(), *name, &value, flags))
                    }
                    Target::Slot(slot) => with!(self, slot, |fd| {
                        done(rustix::fs::fsetxattr(fd, *name, &value, flags))
                    }),
                }
            }
            Op::GetXattr(target, name, size) => {
                let mut buffer = vec![0; if *size == 0 { 1 << 16 } else { *size }];
                let into = buffer.as_mut_slice();
                let read = match target {
                    Target::Path(path) => rustix::fs::getxattr(path.as_bytes(), *name, into),
                    Target::Link(path) => rustix::fs::lgetxattr(path.as_bytes(), *name, into),
                    Target::Slot(slot) => match &self.files[*slot] {
                        Some(fd) => rustix::fs::fgetxattr(fd, *name, into),
                        None => return Ok(Answer::Nothing),
                    },
                };
                filled(buffer, read).map(Answer::Bytes)
            }
            Op::ListXattr(target) => {
                let mut buffer = vec![0; 1 << 16];
                let into = buffer.as_mut_slice();
                let read = match target {
                    Target::Path(path) => rustix::fs::listxattr(path.as_bytes(), into),
                    Target::Link(path) => rustix::fs::llistxattr(path.as_bytes(), into),
                    Target::Slot(slot) => match &self.files[*slot] {
                        Some(fd) => rustix::fs::flistxattr(fd, into),
                        None => return Ok(Answer::Nothing),
                    },
                };
                let list = filled(buffer, read)?;
                let names = list.split(|byte| *byte == 0).map(<[u8]>::to_vec);
                let mut names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
                names.sort();
                Ok(Answer::Words(names))
            }
            Op::RemoveXattr(target, name) => match target {
                Target::Path(path) => done(rustix::fs::removexattr(path.as_bytes(), *name)),
                Target::Link(path) => done(rustix::fs::lremovexattr(path.as_bytes(), *name)),
                Target::Slot(slot) => {
                    with!(self, slot, |fd| done(rustix::fs::fremovexattr(fd, *name)))
                }
            },
            op => unreachable!("{op:?} is about no attribute"),
        }
    }
}

fn want_bits(want: AccessMask) -> u32 {
    want.bits().into()
}

fn seek(fd: &OwnedFd, whence: Seek, to: i64) -> Outcome {
    // Negative offsets go through the same number the kernel gets.
    let from_start = to as u64;
    let seek = match whence {
        Seek::Set => SeekFrom::Start(from_start),
        Seek::Cur => SeekFrom::Current(to),
        Seek::End => SeekFrom::End(to),
        Seek::Data => SeekFrom::Data(from_start),
        Seek::Hole => SeekFrom::Hole(from_start),
    };
    host(rustix::fs::seek(fd, seek)).map(Answer::Number)
}

fn timespec(time: Time) -> Timespec {
    let (tv_sec, tv_nsec) = match time {
        Time::Omit => (0, rustix::fs::UTIME_OMIT),
        Time::Now => (0, rustix::fs::UTIME_NOW),
        Time::At(sec, nsec) => (sec, nsec.into()),
    };
    Timespec { tv_sec, tv_nsec }
}

fn content(file: &OwnedFd) -> Outcome {
    let mut all = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match host(rustix::io::read(file, buffer.as_mut_slice()))? {
            0 => return Ok(Answer::Bytes(all)),
            n => all.extend_from_slice(&buffer[..n]),
        }
    }
}

type Entries = Vec<(Vec<u8>, Option<FileType>, u64)>;

fn rest(dir: &OwnedFd) -> Res<Entries> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut found = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = host(entry)?;
        let kind = entry.file_type().as_raw_mode();
        found.push((
            entry.file_name().to_bytes().to_vec(),
            FileType::from_mode(kind),
            entry.next_entry_cookie(),
        ));
    }
    Ok(found)
}

/// See [`Op::Pieces`].
fn pieces(dir: &OwnedFd, first: usize) -> Outcome {
    // What is no directory says so here, and stays where it is.
    rest(dir)?;
    host(rustix::fs::seek(dir, SeekFrom::Start(0)))?;
    let all = rest(dir)?;
    let Some((_, _, cookie)) = first.checked_sub(1).and_then(|last| all.get(last)) else {
        return sorted(all);
    };
    host(rustix::fs::seek(dir, SeekFrom::Start(*cookie)))?;
    let again = rest(dir)?;
    let name = |entry: &(Vec<u8>, Option<FileType>, u64)| entry.0.clone();
    let expected: Vec<_> = all.iter().skip(first).map(name).collect();
    let found: Vec<_> = again.iter().map(name).collect();
    if expected != found {
        return Ok(Answer::Words(vec![b"read again it differs".to_vec()]));
    }
    sorted(all)
}

fn sorted(mut entries: Entries) -> Outcome {
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    let names = entries.into_iter().map(|(name, kind, _)| (name, kind));
    Ok(Answer::Names(names.collect()))
}

fn attr(stat: &Stat) -> Attr {
    let time = |sec, nsec: u64| Timestamp {
        sec,
        nsec: u32::try_from(nsec).unwrap_or_default(),
    };
    let mode = stat.st_mode;
    Attr {
        mask: AttrMask::BASIC,
        mode: (mode & 0o7777) as u16,
        nlink: stat.st_nlink,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: Device::default(),
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        ..Attr::of_type(FileType::from_mode(mode).unwrap_or(FileType::Regular))
    }
}
