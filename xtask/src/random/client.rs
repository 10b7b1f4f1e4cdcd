//! Operations on a mounted file system, within this process.

use std::ops::ControlFlow;

use gofer_vfs::testing::behaviour::Client;
use gofer_vfs::{
    At, Context, Credentials, Device, Errno, Error, File, FileType, Filesystem, Follow, Mapping,
    OpenFlags, Protection, SetAttr, SetTime, Sharing, Timestamp, Whence,
};

use super::op::{Answer, Facts, MapKind, Op, Outcome, PAGE, SLOTS, Seek, Side, Target, Time, User};

/// A mount and what is open on it.
pub struct Mounted {
    clients: [Client; 3],
    files: [Option<File>; SLOTS],
    maps: [Option<Mapping>; SLOTS],
}

impl Mounted {
    /// Nothing is open yet.
    pub fn new(fs: &Filesystem) -> Mounted {
        let client = |user: User| {
            let (uid, gid, groups) = user.ids();
            Client::new(fs, Credentials::user(uid, gid, groups.to_vec()))
        };
        Mounted {
            clients: [User::Root, User::One, User::Two].map(client),
            files: Default::default(),
            maps: Default::default(),
        }
    }

    /// The mount.
    pub fn fs(&self) -> &Filesystem {
        &self.clients[0].fs
    }
}

fn errno(error: Error) -> Errno {
    error.errno()
}

fn done<T>(result: gofer_vfs::Result<T>) -> Outcome {
    result.map(|_| Answer::Done).map_err(errno)
}

fn number(result: gofer_vfs::Result<usize>) -> Outcome {
    result.map(|n| Answer::Number(n as u64)).map_err(errno)
}

fn filled(mut buffer: Vec<u8>, read: gofer_vfs::Result<usize>) -> Outcome {
    buffer.truncate(read.map_err(errno)?);
    Ok(Answer::Bytes(buffer))
}

/// Where a file is that is known by a path, and whether a last link is followed.
fn place(target: &Target) -> Option<(&[u8], Follow)> {
    match target {
        Target::Path(path) => Some((path.as_bytes(), Follow::Yes)),
        Target::Link(path) => Some((path.as_bytes(), Follow::No)),
        Target::Slot(_) => None,
    }
}

impl Side for Mounted {
    fn run(&mut self, user: User, op: &Op) -> Outcome {
        let [root, one, two] = &self.clients;
        let client = match user {
            User::Root => root,
            User::One => one,
            User::Two => two,
        };
        let work = Work {
            client,
            cx: client.cx(),
            files: &mut self.files,
            maps: &mut self.maps,
        };
        work.run(op)
    }
}

/// One operation at work.
struct Work<'w> {
    client: &'w Client,
    cx: Context<'w>,
    files: &'w mut [Option<File>; SLOTS],
    maps: &'w mut [Option<Mapping>; SLOTS],
}

/// Runs the body with the file in a slot.
macro_rules! with {
    ($self:ident, $slot:expr, |$file:ident| $body:expr) => {
        match &$self.files[*$slot] {
            Some($file) => $body,
            None => Ok(Answer::Nothing),
        }
    };
}

impl Work<'_> {
    fn at<'p>(&'p self, path: &'p [u8]) -> At<'p> {
        At::new(&self.client.root, path)
    }

    fn run(mut self, op: &Op) -> Outcome {
        let cx = self.cx;
        match op {
            Op::Open(slot, path, flags, mode) => {
                let file = self.client.open_mode(path, *flags, *mode).map_err(errno);
                // The number is free for the new file only then.
                self.files[*slot] = None;
                self.files[*slot] = Some(file?);
                Ok(Answer::Done)
            }
            Op::Close(slot) => match self.files[*slot].take() {
                Some(file) => done(file.close(&cx)),
                None => Ok(Answer::Nothing),
            },
            Op::Read(slot, len) => with!(self, slot, |file| {
                let mut buffer = vec![0; *len];
                let read = file.read(&cx, &mut buffer);
                filled(buffer, read)
            }),
            Op::ReadAt(slot, at, len) => with!(self, slot, |file| {
                let mut buffer = vec![0; *len];
                let read = file.read_at(&cx, &mut buffer, *at);
                filled(buffer, read)
            }),
            Op::Write(slot, data) => {
                with!(self, slot, |file| number(file.write(&cx, &data.bytes())))
            }
            Op::WriteAt(slot, at, data) => with!(self, slot, |file| {
                number(file.write_at(&cx, &data.bytes(), *at))
            }),
            Op::Seek(slot, whence, to) => with!(self, slot, |file| {
                let sought = file.seek(&cx, whence_of(*whence, *to));
                sought.map(Answer::Number).map_err(errno)
            }),
            Op::Sync(slot, data_only) => {
                with!(self, slot, |file| done(file.sync(&cx, *data_only)))
            }
            Op::Allocate(slot, mode, at, len) => {
                with!(self, slot, |file| done(
                    file.allocate(&cx, *mode, *at, *len)
                ))
            }
            Op::Copy(from, from_at, to, to_at, len) => {
                let (Some(from), Some(to)) = (&self.files[*from], &self.files[*to]) else {
                    return Ok(Answer::Nothing);
                };
                let copied = from.copy_range(&cx, *from_at, to, *to_at, *len);
                copied.map(Answer::Number).map_err(errno)
            }
            Op::Pieces(slot, first) => with!(self, slot, |file| self.pieces(file, *first)),
            Op::DropCaches => {
                self.client.fs.drop_caches();
                Ok(Answer::Done)
            }
            Op::SyncAll => done(self.client.fs.sync(&cx)),
            Op::Map(..) | Op::MapRead(..) | Op::MapWrite(..) | Op::MapSync(_) | Op::Unmap(_) => {
                self.map(op)
            }
            op => self.by_name(op),
        }
    }

    fn map(&mut self, op: &Op) -> Outcome {
        let cx = self.cx;
        match op {
            Op::Map(slot, map, kind) => {
                let Some(file) = &self.files[*slot] else {
                    return Ok(Answer::Nothing);
                };
                let mapped = map_file(&cx, file, kind).map_err(errno)?;
                self.maps[*map] = Some(mapped);
                Ok(Answer::Done)
            }
            Op::MapRead(map, at, len) => match &self.maps[*map] {
                Some(mapping) => {
                    let mut buffer = vec![0; *len];
                    let read = mapping.read(*at, &mut buffer);
                    filled(buffer, read)
                }
                None => Ok(Answer::Nothing),
            },
            Op::MapWrite(map, at, data) => match &self.maps[*map] {
                Some(mapping) => number(mapping.write(*at, &data.bytes())),
                None => Ok(Answer::Nothing),
            },
            Op::MapSync(map) => match &self.maps[*map] {
                Some(mapping) => done(mapping.sync(&cx, 0, mapping.length())),
                None => Ok(Answer::Nothing),
            },
            Op::Unmap(map) => {
                let there = self.maps[*map].take().is_some();
                Ok(if there { Answer::Done } else { Answer::Nothing })
            }
            op => unreachable!("{op:?} is about no mapping"),
        }
    }

    fn by_name(&self, op: &Op) -> Outcome {
        let (fs, cx) = (&self.client.fs, &self.cx);
        match op {
            Op::Stat(target) => {
                let stat = match target {
                    Target::Path(path) => self.client.stat(path),
                    Target::Link(path) => self.client.lstat(path),
                    Target::Slot(slot) => match &self.files[*slot] {
                        Some(file) => file.stat(cx),
                        None => return Ok(Answer::Nothing),
                    },
                };
                let facts = stat.map(|stat| Facts::new(&stat.attr, stat.ino));
                facts.map(Answer::Facts).map_err(errno)
            }
            Op::Access(path, want) => done(self.client.access(path, *want)),
            Op::Chmod(target, mode) => self.set(
                target,
                &SetAttr {
                    mode: Some(*mode),
                    ..SetAttr::default()
                },
            ),
            Op::Chown(target, uid, gid) => self.set(
                target,
                &SetAttr {
                    uid: *uid,
                    gid: *gid,
                    ..SetAttr::default()
                },
            ),
            Op::Utimes(target, atime, mtime) => self.set(
                target,
                &SetAttr {
                    atime: set_time(*atime),
                    mtime: set_time(*mtime),
                    ..SetAttr::default()
                },
            ),
            Op::Truncate(target, size) => self.set(
                target,
                &SetAttr {
                    size: Some(*size),
                    ..SetAttr::default()
                },
            ),
            Op::SetXattr(..) | Op::GetXattr(..) | Op::ListXattr(_) | Op::RemoveXattr(..) => {
                self.xattr(op)
            }
            Op::ReadLink(path) => {
                let target = self.client.read_link(path);
                target.map(Answer::Bytes).map_err(errno)
            }
            Op::List(path) => {
                let dir = self
                    .client
                    .open(path, OpenFlags::DIRECTORY)
                    .map_err(errno)?;
                sorted(self.entries(&dir, 0)?)
            }
            Op::Mkdir(path, mode) => done(self.client.mkdir_mode(path, *mode)),
            Op::Mkfifo(path, mode) => {
                let (kind, device) = (FileType::Fifo, Device::default());
                done(fs.mknod(cx, self.at(path.as_bytes()), kind, *mode, device))
            }
            Op::Symlink(target, path) => done(self.client.symlink(target, path)),
            Op::Link(target, new) => match place(target) {
                Some((old, follow)) => {
                    done(fs.link(cx, self.at(old), follow, self.at(new.as_bytes())))
                }
                None => unreachable!("no file is linked by its slot"),
            },
            Op::Unlink(path) => done(self.client.unlink(path)),
            Op::Rmdir(path) => done(self.client.rmdir(path)),
            Op::Rename(old, new, flags) => done(self.client.rename_with(old, new, *flags)),
            Op::Put(path, data) => {
                let flags = OpenFlags::CREAT | OpenFlags::TRUNC | OpenFlags::WRONLY;
                let file = self.client.open(path, flags | OpenFlags::NONBLOCK);
                let file = file.map_err(errno)?;
                let written = number(file.write(cx, &data.bytes()));
                done(file.close(cx)).and(written)
            }
            Op::Content(path) => {
                let flags = OpenFlags::RDONLY | OpenFlags::NONBLOCK;
                let file = self.client.open(path, flags).map_err(errno)?;
                self.content(&file)
            }
            op => unreachable!("{op:?} is nothing this can do"),
        }
    }

    fn content(&self, file: &File) -> Outcome {
        let mut all = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match file.read(&self.cx, &mut buffer).map_err(errno)? {
                0 => return Ok(Answer::Bytes(all)),
                n => all.extend_from_slice(&buffer[..n]),
            }
        }
    }

    fn set(&self, target: &Target, set: &SetAttr) -> Outcome {
        match (target, place(target)) {
            (_, Some((path, follow))) => done(self.client.fs.set_attr(
                &self.cx,
                self.at(path),
                follow,
                set,
            )),
            (Target::Slot(slot), None) => {
                with!(self, slot, |file| done(file.set_attr(&self.cx, set)))
            }
            (target, None) => unreachable!("{target:?} has a place"),
        }
    }

    fn xattr(&self, op: &Op) -> Outcome {
        let (fs, cx) = (&self.client.fs, &self.cx);
        match op {
            Op::SetXattr(target, name, data, flags) => {
                let (name, value) = (name.as_bytes(), data.bytes());
                match (target, place(target)) {
                    (_, Some((path, follow))) => {
                        done(fs.set_xattr(cx, self.at(path), follow, name, &value, *flags))
                    }
                    (Target::Slot(slot), None) => with!(self, slot, |file| {
                        done(file.set_xattr(cx, name, &value, *flags))
                    }),
                    (target, None) => unreachable!("{target:?} has a place"),
                }
            }
            Op::GetXattr(target, name, size) => {
                let name = name.as_bytes();
                let value = match (target, place(target)) {
                    (_, Some((path, follow))) => {
                        fs.get_xattr(cx, self.at(path), follow, name, *size)
                    }
                    (Target::Slot(slot), None) => match &self.files[*slot] {
                        Some(file) => file.get_xattr(cx, name, *size),
                        None => return Ok(Answer::Nothing),
                    },
                    (target, None) => unreachable!("{target:?} has a place"),
                };
                value.map(Answer::Bytes).map_err(errno)
            }
            Op::ListXattr(target) => {
                let names = match (target, place(target)) {
                    (_, Some((path, follow))) => fs.list_xattr(cx, self.at(path), follow),
                    (Target::Slot(slot), None) => match &self.files[*slot] {
                        Some(file) => file.list_xattr(cx),
                        None => return Ok(Answer::Nothing),
                    },
                    (target, None) => unreachable!("{target:?} has a place"),
                };
                let mut names = names.map_err(errno)?;
                names.sort();
                Ok(Answer::Words(names))
            }
            Op::RemoveXattr(target, name) => match (target, place(target)) {
                (_, Some((path, follow))) => {
                    done(fs.remove_xattr(cx, self.at(path), follow, name.as_bytes()))
                }
                (Target::Slot(slot), None) => {
                    with!(self, slot, |file| done(
                        file.remove_xattr(cx, name.as_bytes())
                    ))
                }
                (target, None) => unreachable!("{target:?} has a place"),
            },
            op => unreachable!("{op:?} is about no attribute"),
        }
    }

    fn entries(&self, dir: &File, from: u64) -> Result<Entries, Errno> {
        let mut found = Vec::new();
        let read = dir.read_dir_at(&self.cx, from, &mut |entry| {
            found.push((entry.name.to_vec(), entry.file_type, entry.next));
            ControlFlow::Continue(())
        });
        read.map(|()| found).map_err(errno)
    }

    fn pieces(&self, dir: &File, first: usize) -> Outcome {
        let all = self.entries(dir, 0)?;
        let Some((_, _, cookie)) = first.checked_sub(1).and_then(|last| all.get(last)) else {
            return sorted(all);
        };
        let again = self.entries(dir, *cookie)?;
        let name = |entry: &(Vec<u8>, Option<FileType>, u64)| entry.0.clone();
        let expected: Vec<_> = all.iter().skip(first).map(name).collect();
        let found: Vec<_> = again.iter().map(name).collect();
        if expected != found {
            return Ok(Answer::Words(vec![b"read again it differs".to_vec()]));
        }
        sorted(all)
    }
}

type Entries = Vec<(Vec<u8>, Option<FileType>, u64)>;

fn sorted(mut entries: Entries) -> Outcome {
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    let names = entries.into_iter().map(|(name, kind, _)| (name, kind));
    Ok(Answer::Names(names.collect()))
}

fn map_file(cx: &Context<'_>, file: &File, kind: &MapKind) -> gofer_vfs::Result<Mapping> {
    let protection = match kind.write {
        true => Protection::WRITE,
        false => Protection::empty(),
    };
    let sharing = match kind.shared {
        true => Sharing::Shared,
        false => Sharing::Private,
    };
    let length = kind.pages * PAGE as usize;
    file.map(cx, kind.page * PAGE, length, protection, sharing)
}

fn whence_of(seek: Seek, to: i64) -> Whence {
    match seek {
        Seek::Set => Whence::Set(to),
        Seek::Cur => Whence::Cur(to),
        Seek::End => Whence::End(to),
        Seek::Data => Whence::Data(to),
        Seek::Hole => Whence::Hole(to),
    }
}

fn set_time(time: Time) -> Option<SetTime> {
    match time {
        Time::Omit => None,
        Time::Now => Some(SetTime::Now),
        Time::At(sec, nsec) => Some(SetTime::At(Timestamp { sec, nsec })),
    }
}
