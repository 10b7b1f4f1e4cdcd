//! The same operations on a mount and on a directory of the host, whose kernel is the authority
//! on which events there are and in what order.

use std::collections::HashMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{AtFlags, CWD, RenameFlags as HostRename, Timespec, Timestamps, UTIME_OMIT};

use super::*;
use crate::{RenameFlags, SetTime, Timestamp};

/// What is done, on either side.
#[derive(Clone, Copy, Debug)]
enum Step {
    Mkdir(&'static str),
    Rmdir(&'static str),
    Symlink(&'static str),
    Link(&'static str, &'static str),
    Unlink(&'static str),
    Rename(&'static str, &'static str),
    Exchange(&'static str, &'static str),
    Chmod(&'static str),
    Truncate(&'static str, u64),
    /// Sets access time, modification time.
    Times(&'static str, bool, bool),
    List(&'static str),
    /// Opens into a slot, with `open(2)` flags.
    Open(usize, &'static str, i32),
    Read(usize),
    Write(usize),
    SetLen(usize),
    FChmod(usize),
    Close(usize),
}
use Step::*;

const RD: i32 = 0;
const WR: i32 = 1;
const CREAT: i32 = 0o100;
const TRUNC: i32 = 0o1000;

/// A story: what is there, what is watched, what is done.
struct Story {
    files: &'static [&'static str],
    dirs: &'static [&'static str],
    watched: &'static [(&'static str, EventMask)],
    steps: &'static [Step],
}

/// Events: which watch, the mask, whether there is a cookie, the name.
type Told = Vec<(usize, u32, bool, String)>;

struct Ours {
    rig: Rig,
    notifier: Notifier,
    numbers: HashMap<i32, usize>,
    slots: HashMap<usize, File>,
}

impl Ours {
    fn new(mode: InteropMode, story: &Story) -> Ours {
        let mut setup = Setup::new(mode);
        setup.config.capabilities.rename_flags = RenameFlags::EXCHANGE;
        let rig = setup.mount();
        for dir in story.dirs {
            rig.outside.mkdir(dir.as_bytes()).unwrap();
        }
        for file in story.files {
            rig.outside.write(file.as_bytes(), b"content").unwrap();
        }
        let notifier = rig.fs.notifier().unwrap();
        let mut numbers = HashMap::new();
        for (index, (path, mask)) in story.watched.iter().enumerate() {
            let number = notifier.add(&rig.cx(), rig.at(path), *mask).unwrap();
            numbers.insert(number, index);
        }
        Ours {
            rig,
            notifier,
            numbers,
            slots: HashMap::new(),
        }
    }

    fn step(&mut self, step: Step) -> Result<()> {
        let Ours { rig, slots, .. } = self;
        let fs = &rig.fs;
        let cx = rig.cx();
        let now = Some(SetTime::At(Timestamp { sec: 5, nsec: 0 }));
        let mode = SetAttr {
            mode: Some(0o640),
            ..SetAttr::default()
        };
        match step {
            Mkdir(path) => fs.mkdir(&cx, rig.at(path), 0o755),
            Rmdir(path) => fs.rmdir(&cx, rig.at(path)),
            Symlink(path) => fs.symlink(&cx, b"nowhere", rig.at(path)),
            Link(old, new) => fs.link(&cx, rig.at(old), Follow::No, rig.at(new)),
            Unlink(path) => fs.unlink(&cx, rig.at(path)),
            Rename(old, new) => fs.rename(&cx, rig.at(old), rig.at(new), RenameFlags::empty()),
            Exchange(old, new) => fs.rename(&cx, rig.at(old), rig.at(new), RenameFlags::EXCHANGE),
            Chmod(path) => fs.set_attr(&cx, rig.at(path), Follow::Yes, &mode),
            Truncate(path, size) => {
                let set = SetAttr {
                    size: Some(size),
                    ..SetAttr::default()
                };
                fs.set_attr(&cx, rig.at(path), Follow::Yes, &set)
            }
            Times(path, atime, mtime) => {
                let set = SetAttr {
                    atime: now.filter(|_| atime),
                    mtime: now.filter(|_| mtime),
                    ..SetAttr::default()
                };
                fs.set_attr(&cx, rig.at(path), Follow::Yes, &set)
            }
            List(path) => {
                let dir = fs.open(&cx, rig.at(path), OpenFlags::DIRECTORY, 0)?;
                // The last call finds nothing, and is told all the same.
                for _ in 0..2 {
                    dir.read_dir(&cx, &mut |_| std::ops::ControlFlow::Continue(()))?;
                }
                dir.close(&cx)
            }
            Open(slot, path, flags) => {
                let flags = OpenFlags::from_bits_truncate(flags as u32);
                slots.insert(slot, fs.open(&cx, rig.at(path), flags, 0o644)?);
                Ok(())
            }
            Read(slot) => slots[&slot].read(&cx, &mut [0; 3]).map(drop),
            Write(slot) => slots[&slot].write(&cx, b"more").map(drop),
            SetLen(slot) => {
                let set = SetAttr {
                    size: Some(2),
                    ..SetAttr::default()
                };
                slots[&slot].set_attr(&cx, &set)
            }
            FChmod(slot) => slots[&slot].set_attr(&cx, &mode),
            Close(slot) => slots.remove(&slot).unwrap().close(&cx),
        }
    }

    fn told(&self) -> Told {
        let events = self.notifier.try_read(usize::MAX);
        let short = events.into_iter().map(|event| {
            let name = String::from_utf8(event.name).unwrap();
            let mask = event.mask.bits();
            (self.numbers[&event.watch], mask, event.cookie != 0, name)
        });
        short.collect()
    }
}

struct Host {
    dir: tempfile::TempDir,
    inotify: OwnedFd,
    numbers: HashMap<i32, usize>,
    slots: HashMap<usize, fs::File>,
}

impl Host {
    fn new(story: &Story) -> Host {
        let dir = tempfile::tempdir().unwrap();
        for name in story.dirs {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        for name in story.files {
            fs::write(dir.path().join(name), b"content").unwrap();
        }
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let mut numbers = HashMap::new();
        for (index, (path, mask)) in story.watched.iter().enumerate() {
            let flags = WatchFlags::from_bits_retain(mask.bits());
            let path = dir.path().join(path);
            numbers.insert(inotify::add_watch(&inotify, path, flags).unwrap(), index);
        }
        Host {
            dir,
            inotify,
            numbers,
            slots: HashMap::new(),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn step(&mut self, step: Step) -> std::io::Result<()> {
        let time = |set| Timespec {
            tv_sec: 5,
            tv_nsec: if set { 0 } else { UTIME_OMIT },
        };
        match step {
            Mkdir(path) => fs::create_dir(self.at(path)),
            Rmdir(path) => fs::remove_dir(self.at(path)),
            Symlink(path) => std::os::unix::fs::symlink("nowhere", self.at(path)),
            Link(old, new) => fs::hard_link(self.at(old), self.at(new)),
            Unlink(path) => fs::remove_file(self.at(path)),
            Rename(old, new) => fs::rename(self.at(old), self.at(new)),
            Exchange(old, new) => {
                let (old, new) = (self.at(old), self.at(new));
                Ok(rustix::fs::renameat_with(
                    CWD,
                    old,
                    CWD,
                    new,
                    HostRename::EXCHANGE,
                )?)
            }
            Chmod(path) => fs::set_permissions(self.at(path), PermissionsExt::from_mode(0o640)),
            Truncate(path, size) => Ok(nix::unistd::truncate(&self.at(path), size as i64)?),
            Times(path, atime, mtime) => {
                let times = Timestamps {
                    last_access: time(atime),
                    last_modification: time(mtime),
                };
                Ok(rustix::fs::utimensat(
                    CWD,
                    self.at(path),
                    &times,
                    AtFlags::empty(),
                )?)
            }
            List(path) => fs::read_dir(self.at(path)).map(|entries| assert!(entries.count() < 99)),
            Open(slot, path, flags) => {
                let mut options = fs::File::options();
                options.read(flags & 3 == RD).write(flags & 3 == WR);
                options.custom_flags(flags & !3);
                // The flags of creating go past what the library checks.
                self.slots
                    .insert(slot, options.mode(0o644).open(self.at(path))?);
                Ok(())
            }
            Read(slot) => std::io::Read::read(&mut &self.slots[&slot], &mut [0; 3]).map(drop),
            Write(slot) => std::io::Write::write(&mut &self.slots[&slot], b"more").map(drop),
            SetLen(slot) => self.slots[&slot].set_len(2),
            FChmod(slot) => self.slots[&slot].set_permissions(PermissionsExt::from_mode(0o640)),
            Close(slot) => {
                self.slots.remove(&slot);
                Ok(())
            }
        }
    }

    fn told(&self) -> Told {
        let mut buffer = [MaybeUninit::uninit(); 16384];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut told = Vec::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name().map_or("", |name| name.to_str().unwrap());
            let mask = event.events().bits();
            let index = self.numbers[&event.wd()];
            told.push((index, mask, event.cookie() != 0, name.to_owned()));
        }
        told
    }
}

const ALL: EventMask = EventMask::ALL;
const EXCL: EventMask = EventMask::ALL.union(EventMask::EXCL_UNLINK);

const STORIES: &[Story] = &[
    // Everything in a watched directory, in the order of the table.
    Story {
        files: &["f", "g"],
        dirs: &["d", "e"],
        watched: &[("", ALL), ("f", ALL), ("d", ALL), ("e", ALL), ("g", ALL)],
        steps: &[
            Mkdir("new"),
            Symlink("link"),
            Link("f", "f2"),
            Link("f", "d/f3"),
            Open(0, "made", CREAT | WR),
            Write(0),
            Close(0),
            Open(0, "f", RD),
            Read(0),
            Read(0),
            Close(0),
            Open(0, "f", WR),
            Write(0),
            SetLen(0),
            FChmod(0),
            Close(0),
            Open(0, "f", WR | TRUNC),
            Close(0),
            Open(0, "f", CREAT | TRUNC | WR),
            Close(0),
            Chmod("f"),
            Chmod("d"),
            Truncate("f", 9),
            Truncate("f", 3),
            Times("f", true, true),
            Times("f", true, false),
            Times("f", false, true),
            Times("d", true, true),
            List(""),
            List("d"),
            Rename("f", "h"),
            Rename("h", "d/h"),
            Rename("d/h", "g"),
            Rename("d", "e/d"),
            Rename("new", "newer"),
            Unlink("e/d/f3"),
            Unlink("f2"),
            Unlink("g"),
            Unlink("link"),
            Rmdir("newer"),
            Rmdir("e/d"),
            Rmdir("e"),
        ],
    },
    // Files that lose their name while they are open, and who does not want to hear of that.
    Story {
        files: &["f", "g", "h"],
        dirs: &["d"],
        watched: &[("", ALL), ("f", ALL), ("g", EXCL), ("d", ALL), ("h", ALL)],
        steps: &[
            Open(0, "f", WR),
            Open(1, "g", RD),
            Open(2, "d", RD),
            Unlink("f"),
            Unlink("g"),
            Rmdir("d"),
            Write(0),
            FChmod(0),
            Read(1),
            FChmod(1),
            Close(0),
            Close(1),
            Close(2),
            Open(3, "h", RD),
            Open(4, "f", CREAT | WR),
            Rename("f", "h"),
            Read(3),
            Close(3),
            Close(4),
        ],
    },
    Story {
        files: &["f", "d/g"],
        dirs: &["d"],
        watched: &[("", EXCL), ("d", EXCL)],
        steps: &[
            Open(0, "f", WR),
            Open(1, "d/g", RD),
            Unlink("f"),
            Write(0),
            FChmod(0),
            Close(0),
            Rename("d/g", "g"),
            Read(1),
            Unlink("g"),
            Read(1),
            Close(1),
        ],
    },
    Story {
        files: &["f", "d/g"],
        dirs: &["d", "e"],
        watched: &[("", ALL), ("d", ALL), ("e", ALL), ("f", ALL), ("d/g", ALL)],
        steps: &[Exchange("f", "d/g"), Exchange("d", "e"), Exchange("f", "e")],
    },
];

/// Whether the host's kernel tells of a file's end before its directory is told of the loss, as
/// ours does. Older ones tell in the other order; with them, those two steps are compared without
/// it.
fn ends_come_first() -> bool {
    let story = Story {
        files: &["f"],
        dirs: &[],
        watched: &[("", ALL), ("f", ALL)],
        steps: &[],
    };
    let mut host = Host::new(&story);
    host.step(Unlink("f")).unwrap();
    host.told().last().unwrap().0 == 0
}

fn compare(mode: InteropMode, story: &Story) {
    let mut ours = Ours::new(mode, story);
    let mut host = Host::new(story);
    let in_order = ends_come_first();
    for (index, step) in story.steps.iter().enumerate() {
        let done = ours.step(*step);
        host.step(*step).unwrap();
        done.unwrap_or_else(|error| panic!("{mode:?}: step {index}, {step:?}: {error}"));
        let (mut found, mut expected) = (ours.told(), host.told());
        if !in_order && matches!(step, Unlink(_) | Rmdir(_)) {
            found.sort();
            expected.sort();
        }
        assert_eq!(found, expected, "{mode:?}: step {index}, {step:?}");
    }
}

#[test]
fn events_come_as_the_host_tells_them() {
    for story in STORIES {
        for mode in EW {
            compare(mode, story);
        }
    }
}

#[test]
fn events_come_as_the_host_tells_them_where_others_may_change_the_tree() {
    for story in STORIES {
        for mode in S {
            compare(mode, story);
        }
    }
}
