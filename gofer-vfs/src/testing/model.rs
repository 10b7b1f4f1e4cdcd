//! Random operations, by this client and by others, compared step by step with a [`Reference`].

mod reference;

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use self::reference::{Facts, Ino, Kind, Reference};
use super::behaviour::Client;
use super::mem_remote::{Fault, MemConfig, MemOutside, MemRemote, MemServer};
use super::outside::Outside;
use crate::attr::{Attr, FileType, SetAttr};
use crate::error::Errno;
use crate::flags::OpenFlags;
use crate::interop::InteropMode;
use crate::options::{MountOptions, Trans};
use crate::permissions::Credentials;
use crate::{File, Filesystem, Follow, MountFlags};

/// One thing to do. Paths have at most three names out of three, so that they meet.
#[derive(Clone, Debug)]
enum Op {
    Create(String),
    Mkdir(String),
    Symlink(String, String),
    Link(String, String),
    Unlink(String),
    Rmdir(String),
    Rename(String, String),
    Write(String, usize, u8),
    Truncate(String, usize),
    Chmod(String, u16),
    Stat(String),
    Read(String),
    List(String),
    ReadLink(String),
    Open(usize, String),
    WriteOpen(usize, usize, u8),
    TruncateOpen(usize, usize),
    Look(usize),
    Close(usize),
    DropCaches,
}

const SLOTS: usize = 3;

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["a", "b", "c"], 1..=3).prop_map(|names| names.join("/"))
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        path(),
        path().prop_map(|path| format!("/{path}")),
        path().prop_map(|path| format!("../{path}")),
        Just("..".to_owned()),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let size = || 0..5000usize;
    prop_oneof![
        4 => path().prop_map(Op::Create),
        4 => path().prop_map(Op::Mkdir),
        2 => (target(), path()).prop_map(|(target, path)| Op::Symlink(target, path)),
        2 => (path(), path()).prop_map(|(old, new)| Op::Link(old, new)),
        2 => path().prop_map(Op::Unlink),
        2 => path().prop_map(Op::Rmdir),
        4 => (path(), path()).prop_map(|(old, new)| Op::Rename(old, new)),
        2 => (path(), size(), any::<u8>()).prop_map(|(path, at, byte)| Op::Write(path, at, byte)),
        1 => (path(), size()).prop_map(|(path, size)| Op::Truncate(path, size)),
        1 => (path(), 0..0o1000u16).prop_map(|(path, mode)| Op::Chmod(path, mode)),
        4 => path().prop_map(Op::Stat),
        2 => path().prop_map(Op::Read),
        2 => path().prop_map(Op::List),
        1 => path().prop_map(Op::ReadLink),
        3 => (0..SLOTS, path()).prop_map(|(slot, path)| Op::Open(slot, path)),
        2 => (0..SLOTS, size(), any::<u8>()).prop_map(|(slot, at, b)| Op::WriteOpen(slot, at, b)),
        1 => (0..SLOTS, size()).prop_map(|(slot, size)| Op::TruncateOpen(slot, size)),
        2 => (0..SLOTS).prop_map(Op::Look),
        1 => (0..SLOTS).prop_map(Op::Close),
        1 => Just(Op::DropCaches),
    ]
}

/// Something that goes wrong with one of the next calls.
fn fault() -> impl Strategy<Value = (u64, Fault)> {
    let fault = prop_oneof![
        Just(Fault::Refuse(Errno::ENOSPC)),
        Just(Fault::Refuse(Errno::EACCES)),
        Just(Fault::Late(Errno::ETIMEDOUT)),
        Just(Fault::Short(3)),
    ];
    (0..3u64, fault)
}

/// The client under test, somebody else, and what both should see.
struct World {
    client: Client,
    outside: MemOutside,
    remote: MemRemote,
    model: Reference,
    open: Vec<Option<(File, Ino)>>,
    /// The client's inode numbers of the model's inodes.
    numbers: HashMap<Ino, u64>,
}

type Outcome<T> = Result<T, Errno>;

fn errno<T>(result: crate::Result<T>) -> Outcome<T> {
    result.map_err(|error| error.errno())
}

macro_rules! agree {
    ($found:expr, $expected:expr) => {{
        let (found, expected) = ($found, $expected);
        prop_assert_eq!(found, expected);
    }};
}

impl World {
    fn new(mode: InteropMode, config: MemConfig, limit: u64) -> World {
        let server = MemServer::new();
        let remote = server.connect(config);
        let options = MountOptions {
            cache: mode,
            dentry_cache_limit: limit,
            ..MountOptions::new(Trans::Fd { rfd: 0, wfd: 0 })
        };
        let fs = Filesystem::mount(Arc::new(remote.clone()), options, MountFlags::default());
        World {
            client: Client::new(&fs.expect("a mount"), Credentials::root()),
            outside: server.outside(),
            remote,
            model: Reference::new(),
            open: (0..SLOTS).map(|_| None).collect(),
            numbers: HashMap::new(),
        }
    }

    /// The client does it.
    fn client_does(&mut self, op: &Op) -> Result<(), TestCaseError> {
        let (client, model) = (&self.client, &mut self.model);
        let file = |content: &[u8]| Kind::Regular(content.to_vec());
        match op {
            Op::Create(path) => agree!(
                errno(client.create(path, path)),
                model.make(path, file(path.as_bytes()), 0o644).map(drop)
            ),
            Op::Mkdir(path) => agree!(
                errno(client.mkdir(path)),
                model
                    .make(path, Kind::Directory(Default::default()), 0o755)
                    .map(drop)
            ),
            Op::Symlink(target, path) => agree!(
                errno(client.symlink(target, path)),
                model
                    .make(path, Kind::Symlink(target.clone()), 0o777)
                    .map(drop)
            ),
            Op::Link(old, new) => agree!(errno(client.link(old, new)), model.link(old, new)),
            Op::Unlink(path) => agree!(errno(client.unlink(path)), model.remove(path, false)),
            Op::Rmdir(path) => agree!(errno(client.rmdir(path)), model.remove(path, true)),
            Op::Rename(old, new) => agree!(errno(client.rename(old, new)), model.rename(old, new)),
            Op::Write(path, at, byte) => {
                let done = client
                    .open(path, OpenFlags::WRONLY)
                    .and_then(|file| client.write_all(&file, &[*byte; 9], *at as u64));
                let ino = model.resolve(path, true);
                agree!(
                    errno(done),
                    ino.and_then(|ino| model.write(ino, *at, &[*byte; 9]))
                );
            }
            Op::Truncate(path, size) => {
                let set = SetAttr {
                    size: Some(*size as u64),
                    ..SetAttr::default()
                };
                let at = client.at(path);
                let done = client.fs.set_attr(&client.cx(), at, Follow::Yes, &set);
                let ino = model.resolve(path, true);
                agree!(errno(done), ino.and_then(|ino| model.set_size(ino, *size)));
            }
            Op::Chmod(path, mode) => {
                agree!(errno(client.chmod(path, *mode)), model.chmod(path, *mode));
            }
            Op::Stat(path) => self.compare_stat(path)?,
            Op::Read(path) => {
                let expected = model.resolve(path, true).and_then(|ino| model.content(ino));
                agree!(errno(client.read(path)), expected.cloned());
            }
            Op::List(path) => {
                let expected = model.list(path);
                let found = errno(client.list(path)).map(|names| names.into_iter().map(text));
                agree!(found.map(Iterator::collect::<Vec<_>>), expected);
            }
            Op::ReadLink(path) => {
                let found = errno(client.read_link(path)).map(text);
                let expected = model.resolve(path, false).and_then(|ino| model.target(ino));
                agree!(found, expected);
            }
            Op::Open(slot, path) => {
                let ino = model.resolve(path, true);
                let ino = ino.and_then(|ino| model.content(ino).map(|_| ino));
                let file = errno(client.open(path, OpenFlags::RDWR));
                agree!(file.as_ref().map(drop).map_err(|e| *e), ino.map(drop));
                self.open[*slot] = file.ok().zip(ino.ok());
            }
            Op::WriteOpen(slot, at, byte) => {
                if let Some((file, ino)) = &self.open[*slot] {
                    let done = client.write_all(file, &[*byte; 9], *at as u64);
                    agree!(errno(done), model.write(*ino, *at, &[*byte; 9]));
                }
            }
            Op::TruncateOpen(slot, size) => {
                if let Some((file, ino)) = &self.open[*slot] {
                    let set = SetAttr {
                        size: Some(*size as u64),
                        ..SetAttr::default()
                    };
                    let done = file.set_attr(&client.cx(), &set);
                    agree!(errno(done), model.set_size(*ino, *size));
                }
            }
            Op::Look(slot) => {
                if let Some((file, ino)) = &self.open[*slot] {
                    agree!(errno(client.read_all(file)), model.content(*ino).cloned());
                    let attr = errno(file.stat(&client.cx()).map(|stat| stat.attr));
                    let facts = model.facts(*ino);
                    let found = attr.map(|attr| (Some(attr.size), attr.nlink, attr.mode));
                    agree!(found, Ok((facts.size, facts.nlink, facts.mode)));
                }
            }
            Op::Close(slot) => {
                if let Some((file, _)) = self.open[*slot].take() {
                    agree!(errno(file.close(&client.cx())), Ok(()));
                }
            }
            Op::DropCaches => client.fs.drop_caches(),
        }
        Ok(())
    }

    /// Somebody else does it, if it is something that can be done.
    fn others_do(&mut self, op: &Op) -> Result<(), TestCaseError> {
        let (outside, model) = (&self.outside, &mut self.model);
        let plain = |model: &Reference, path: &str| model.plain_path(path).unwrap_or_default();
        match op {
            Op::Create(path) => {
                let to = plain(model, path);
                let content = path.as_bytes().to_vec();
                if model.make(path, Kind::Regular(content), 0o644).is_ok() {
                    agree!(outside.write(to.as_bytes(), path.as_bytes()), Ok(()));
                }
            }
            Op::Mkdir(path) => {
                let to = plain(model, path);
                if model
                    .make(path, Kind::Directory(Default::default()), 0o755)
                    .is_ok()
                {
                    agree!(outside.mkdir(to.as_bytes()), Ok(()));
                }
            }
            Op::Symlink(target, path) => {
                let to = plain(model, path);
                if model
                    .make(path, Kind::Symlink(target.clone()), 0o777)
                    .is_ok()
                {
                    agree!(outside.symlink(target.as_bytes(), to.as_bytes()), Ok(()));
                }
            }
            Op::Unlink(path) | Op::Rmdir(path) => {
                let (from, dir) = (plain(model, path), matches!(op, Op::Rmdir(_)));
                if model.remove(path, dir).is_ok() {
                    let from = from.as_bytes();
                    let done = if dir {
                        outside.rmdir(from)
                    } else {
                        outside.unlink(from)
                    };
                    agree!(done, Ok(()));
                }
            }
            Op::Link(old, new) | Op::Rename(old, new) => {
                let (from, to) = (plain(model, old), plain(model, new));
                let (from, to) = (from.as_bytes(), to.as_bytes());
                let link = matches!(op, Op::Link(..));
                let may = if link {
                    model.link(old, new)
                } else {
                    model.rename(old, new)
                };
                if may.is_ok() {
                    let done = if link {
                        outside.link(from, to)
                    } else {
                        outside.rename(from, to)
                    };
                    agree!(done, Ok(()));
                }
            }
            Op::Truncate(path, size) => {
                let to = plain(model, path);
                let ino = model.resolve(path, false);
                if ino.and_then(|ino| model.set_size(ino, *size)).is_ok() {
                    agree!(outside.truncate(to.as_bytes(), *size as u64), Ok(()));
                }
            }
            Op::Chmod(path, mode) => {
                let to = plain(model, path);
                if model.chmod(path, *mode).is_ok() {
                    agree!(outside.chmod(to.as_bytes(), *mode), Ok(()));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn compare_stat(&mut self, path: &str) -> Result<(), TestCaseError> {
        let found = errno(self.client.lstat(path));
        let expected = self
            .model
            .resolve(path, false)
            .map(|ino| self.model.facts(ino));
        let number = found.as_ref().map(|stat| stat.ino).unwrap_or_default();
        let ino = expected.as_ref().map(|facts| facts.ino).unwrap_or_default();
        let found = found.map(|stat| Facts {
            ino,
            kind: match stat.attr.file_type {
                FileType::Directory => "directory",
                FileType::Symlink => "link",
                _ => "file",
            },
            mode: stat.attr.mode,
            nlink: stat.attr.nlink,
            size: Some(stat.attr.size).filter(|_| stat.attr.file_type != FileType::Directory),
        });
        prop_assert_eq!(&found, &expected);
        if found.is_ok() {
            let known = *self.numbers.entry(ino).or_insert(number);
            prop_assert_eq!(number, known, "the inode number of {} changed", path);
        }
        Ok(())
    }

    /// Everything below `dir`, through the client and past it.
    fn compare_below(&mut self, dir: &str) -> Result<(), TestCaseError> {
        let names = self.model.list(dir).expect("a directory of the model");
        let found = errno(self.client.list(dir)).map(|names| names.into_iter().map(text).collect());
        prop_assert_eq!(found, Ok(names.clone()));
        let served = self.outside.list(dir.as_bytes());
        prop_assert_eq!(
            served.map(|names| names.into_iter().map(text).collect()),
            Ok(names.clone())
        );
        for name in names {
            let path = if dir.is_empty() {
                name
            } else {
                format!("{dir}/{name}")
            };
            self.compare_stat(&path)?;
            let ino = self
                .model
                .resolve(&path, false)
                .expect("a name of the model");
            if let Ok(content) = self.model.content(ino) {
                prop_assert_eq!(errno(self.client.read(&path)), Ok(content.clone()));
                prop_assert_eq!(self.outside.read(path.as_bytes()), Ok(content.clone()));
            } else if self.model.list(&path).is_ok() && self.model.target(ino).is_err() {
                self.compare_below(&path)?;
            }
        }
        Ok(())
    }

    /// Everything below `dir` on the server, as the client sees it. For when calls have failed
    /// and nobody but the server can know what has happened.
    fn compare_with_server(&self, dir: &str) -> Result<(), TestCaseError> {
        let names = self
            .outside
            .list(dir.as_bytes())
            .expect("a directory of the server");
        let found = errno(self.client.list(dir));
        prop_assert_eq!(found, Ok(names.clone()), "names in {:?}", dir);
        for name in names.into_iter().map(text) {
            let path = if dir.is_empty() {
                name
            } else {
                format!("{dir}/{name}")
            };
            let served = self
                .outside
                .stat(path.as_bytes())
                .expect("a name of the server")
                .attr;
            let attr = errno(self.client.attr(&path));
            let pick = |attr: Attr| {
                let size = Some(attr.size).filter(|_| attr.file_type == FileType::Regular);
                (attr.file_type, attr.mode, attr.nlink, size)
            };
            prop_assert_eq!(attr.map(pick), Ok(pick(served)), "attributes of {}", path);
            match served.file_type {
                FileType::Directory => self.compare_with_server(&path)?,
                FileType::Symlink => {}
                _ => {
                    let content = self.outside.read(path.as_bytes());
                    prop_assert_eq!(errno(self.client.read(&path)), content, "{}", path);
                }
            }
        }
        Ok(())
    }

    /// The end: nothing may be left behind.
    fn finish(mut self) -> Result<(), TestCaseError> {
        // What was written may not be on the server before.
        agree!(errno(self.client.fs.sync(&self.client.cx())), Ok(()));
        self.compare_below("")?;
        self.leave_nothing()
    }

    fn leave_nothing(self) -> Result<(), TestCaseError> {
        let remote = self.remote.clone();
        drop(self);
        let left = (remote.live_files(), remote.live_handles(), remote.misuses());
        prop_assert_eq!(
            left,
            (0, 0, 0),
            "files and handles left, uses after release"
        );
        Ok(())
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn config(like_9p: bool) -> MemConfig {
    if like_9p {
        MemConfig::like_9p()
    } else {
        MemConfig::like_lisafs()
    }
}

#[test]
fn a_refused_write_beyond_the_end_leaves_the_size() {
    let world = World::new(InteropMode::Exclusive, config(false), 1000);
    world.client.create("f", "x").expect("create");
    world.remote.inject_any(0, Fault::Refuse(Errno::ENOSPC));
    let file = world
        .client
        .open("f", OpenFlags::WRONLY)
        .expect("a handle is there");
    let written = errno(file.write_at(&world.client.cx(), b"y", 2));
    assert_eq!(written, Err(Errno::ENOSPC));
    assert_eq!(world.client.attr("f").expect("stat").size, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_client_alone_agrees_with_the_model(
        ops in proptest::collection::vec(op(), 1..60),
        writethrough in any::<bool>(),
        like_9p in any::<bool>(),
        limit in prop_oneof![Just(0u64), Just(1), Just(1000)],
    ) {
        let modes = [InteropMode::Exclusive, InteropMode::Writethrough];
        let mut world = World::new(modes[usize::from(writethrough)], config(like_9p), limit);
        for op in &ops {
            world.client_does(op)?;
        }
        world.finish()?;
    }

    #[test]
    fn a_client_among_others_agrees_with_the_model(
        ops in proptest::collection::vec((op(), proptest::bool::weighted(0.3)), 1..60),
        per_handle in any::<bool>(),
        like_9p in any::<bool>(),
        limit in prop_oneof![Just(0u64), Just(1), Just(1000)],
    ) {
        let modes = [InteropMode::Shared, InteropMode::SharedPerHandle];
        let mut world = World::new(modes[usize::from(per_handle)], config(like_9p), limit);
        for (op, outside) in &ops {
            if *outside {
                world.others_do(op)?;
            } else {
                world.client_does(op)?;
            }
        }
        world.finish()?;
    }

    #[test]
    fn a_client_believes_nothing_that_failed(
        ops in proptest::collection::vec((op(), proptest::option::weighted(0.2, fault())), 1..40),
        mode in 0..4usize,
        like_9p in any::<bool>(),
        limit in prop_oneof![Just(0u64), Just(1000)],
    ) {
        let mut world = World::new(InteropMode::ALL[mode], config(like_9p), limit);
        for (op, fault) in &ops {
            if let Some((nth, fault)) = fault {
                world.remote.inject_any(*nth, *fault);
            }
            // What should come of it the model cannot know.
            let _ = world.client_does(op);
            world.remote.heal();
        }
        // An error of a write that could not be made later is told here; the data is kept, and
        // now there is nothing in its way.
        let _ = world.client.fs.sync(&world.client.cx());
        world.compare_with_server("")?;
        world.leave_nothing()?;
    }
}
