//! What only this client has, and what has no name: in an image, and back (semantics 11, 21).

use std::io::Read;
use std::os::unix::net::UnixStream;

use super::*;
use crate::remote::SocketType;
use crate::{Event, EventMask, SetTime};

const NONBLOCK: OpenFlags = OpenFlags::NONBLOCK;

fn refusing() -> MemConfig {
    let mut config = MemConfig::like_lisafs();
    config.makes_fifos = false;
    config
}

/// A mount of a server that makes no fifos, and refuses what is to be mounted on.
fn local(mode: InteropMode) -> Rig {
    let mut setup = Setup::new(mode);
    setup.config = refusing();
    setup.mount()
}

fn mknod(rig: &Rig, path: &str, file_type: FileType) {
    let (cx, device) = (rig.cx(), Device::default());
    let made = rig.fs.mknod(&cx, rig.at(path), file_type, 0o640, device);
    made.unwrap();
}

fn mount_point(rig: &Rig, path: &str) {
    rig.remote.inject(Op::Make, 0, Fault::Refuse(Errno::EROFS));
    let made = rig.fs.mkdir_mount_point(&rig.cx(), rig.at(path), 0o750);
    made.unwrap();
}

fn names(restored: &Restored, path: &str) -> Vec<String> {
    let creds = Credentials::root();
    let cx = Context::new(&creds);
    let root = restored.fs.root();
    let at = At::new(&root, path.as_bytes());
    let dir = restored.fs.open(&cx, at, OpenFlags::DIRECTORY, 0).unwrap();
    let mut names = Vec::new();
    dir.read_dir(&cx, &mut |entry| {
        names.push(String::from_utf8(entry.name.to_vec()).unwrap());
        ControlFlow::Continue(())
    })
    .unwrap();
    names.sort();
    names.split_off(2)
}

#[test]
fn files_of_this_client_alone_come_back_in_their_places() {
    for mode in InteropMode::ALL {
        let rig = local(mode);
        rig.mkdir("d").unwrap();
        rig.outside.write(b"d/real", b"").unwrap();
        mknod(&rig, "d/fifo", FileType::Fifo);
        mknod(&rig, "socket", FileType::Socket);
        for path in ["m", "m/n", "m/o"] {
            mount_point(&rig, path);
        }
        let set = SetAttr {
            uid: Some(7),
            mtime: Some(SetTime::At(Timestamp { sec: 77, nsec: 8 })),
            ..SetAttr::default()
        };
        rig.set_attr("d/fifo", set).unwrap();
        let paths = ["d/fifo", "socket", "m", "m/n"];
        let before: Vec<Stat> = paths.iter().map(|path| rig.lstat(path).unwrap()).collect();
        let image = save(&rig, &[], &[]);
        for config in [MemConfig::like_lisafs(), MemConfig::like_9p()] {
            let restored = restore_with(&rig, config, &image, Verify::default()).unwrap();
            for (path, before) in paths.iter().zip(&before) {
                let stat = stat_of(&restored, path).unwrap();
                // The time of birth is not kept.
                let attr = Attr {
                    btime: before.attr.btime,
                    ..stat.attr
                };
                assert_eq!(
                    (stat.ino, attr),
                    (before.ino, before.attr),
                    "{path}, {mode}"
                );
            }
            assert_eq!(names(&restored, "d"), ["fifo", "real"]);
            assert_eq!(names(&restored, "m"), ["n", "o"]);
            assert_eq!(restored.fs.stats().synthetic_files, 5);
            // Another does not get a number that is in use.
            let creds = Credentials::root();
            let cx = Context::new(&creds);
            let root = restored.fs.root();
            restored
                .fs
                .mkdir_mount_point(&cx, At::new(&root, b"m/p"), 0o700)
                .unwrap();
            let new = stat_of(&restored, "m/p").unwrap().ino;
            assert!(before.iter().all(|one| one.ino != new));
            assert_eq!(stat_of(&restored, "m").unwrap().attr.nlink, 5);
        }
        assert!(!rig.outside.exists(b"d/fifo"));
    }
}

#[test]
fn a_pipe_comes_back_with_what_waits_in_it() {
    for mode in InteropMode::ALL {
        let rig = local(mode);
        mknod(&rig, "p", FileType::Fifo);
        let reader = rig.open("p", OpenFlags::RDONLY | NONBLOCK).unwrap();
        let writer = rig.open("p", OpenFlags::WRONLY | NONBLOCK).unwrap();
        writer.write(&rig.cx(), b"early").unwrap();
        // The one that is deleted lives between its ends.
        rig.unlink("p").unwrap();
        mknod(&rig, "p", FileType::Fifo);
        let other = rig.open("p", OpenFlags::RDWR | NONBLOCK).unwrap();
        other.write(&rig.cx(), b"other").unwrap();
        let image = save(&rig, &[(1, &writer), (2, &reader), (3, &other)], &[]);
        let mut into = [0; 16];
        assert_eq!(reader.read(&rig.cx(), &mut into).unwrap(), 5, "it goes on");
        drop((reader, writer, other));

        let restored = restore(&rig, &image);
        let [(1, writer), (2, reader), (3, other)] = &restored.files[..] else {
            panic!("three files");
        };
        writer.write(&rig.cx(), b"late").unwrap();
        let n = reader.read(&rig.cx(), &mut into).unwrap();
        assert_eq!(&into[..n], b"earlylate", "{mode}");
        assert_eq!(reader.stat(&rig.cx()).unwrap().attr.nlink, 0);
        let n = other.read(&rig.cx(), &mut into).unwrap();
        assert_eq!(&into[..n], b"other");
        assert_eq!(errno(reader.read(&rig.cx(), &mut into)), Errno::EAGAIN);
    }
}

#[test]
fn a_bound_socket_comes_back_with_its_listener() {
    let rig = local(InteropMode::Exclusive);
    let cx = rig.cx();
    let listener = rig
        .fs
        .bind(&cx, rig.at("s"), SocketType::SeqPacket, 0o600)
        .unwrap();
    listener.listen(&cx, 3).unwrap();
    let mut image = Vec::new();
    let keep = Keep {
        listeners: &[(9, &listener)],
        ..Keep::default()
    };
    rig.fs.checkpoint(&cx, &keep, &mut image).unwrap();
    drop(listener);
    let restored = restore(&rig, &image);
    let [(9, listener)] = &restored.listeners[..] else {
        panic!("one socket");
    };
    assert_eq!(listener.node().path(), b"/s");
    let root = restored.fs.root();
    let connect = |kind| restored.fs.connect(&cx, At::new(&root, b"s"), kind);
    assert_eq!(errno(connect(SocketType::Stream)), Errno::EPROTOTYPE);
    let ours = connect(SocketType::SeqPacket).unwrap();
    let mut theirs = UnixStream::from(listener.accept(&cx).unwrap());
    rustix::io::write(&ours, b"hello").unwrap();
    let mut into = [0; 9];
    assert_eq!(theirs.read(&mut into).unwrap(), 5);
    // A socket without its listener refuses, as one whose owner has gone.
    let image = save(&rig, &[], &[]);
    let restored = restore(&rig, &image);
    let root = restored.fs.root();
    let refused = restored
        .fs
        .connect(&cx, At::new(&root, b"s"), SocketType::Any);
    assert_eq!(errno(refused), Errno::ECONNREFUSED);
}

#[test]
fn watches_come_back_with_their_numbers_and_what_they_told() {
    for mode in InteropMode::ALL {
        let rig = local(mode);
        rig.mkdir("d").unwrap();
        for name in ["d/kept", "d/gone"] {
            drop(rig.create(name).unwrap());
        }
        let notifier = rig.fs.notifier().unwrap();
        let add = |path| notifier.add(&rig.cx(), rig.at(path), EventMask::OPEN);
        let (dir, kept, gone) = (
            add("d").unwrap(),
            add("d/kept").unwrap(),
            add("d/gone").unwrap(),
        );
        drop(rig.open("d/kept", OpenFlags::RDONLY).unwrap());
        let mut image = Vec::new();
        let keep = Keep {
            notifiers: &[(5, &notifier)],
            ..Keep::default()
        };
        rig.fs.checkpoint(&rig.cx(), &keep, &mut image).unwrap();
        let verify = Verify {
            mtime: false,
            ..Verify::default()
        };
        drop(notifier);
        let restored = restore_with(&rig, MemConfig::like_9p(), &image, verify).unwrap();
        let [(5, notifier)] = &restored.notifiers[..] else {
            panic!("one queue");
        };
        let told = |notifier: &crate::Notifier| -> Vec<(i32, String)> {
            let events: Vec<Event> = notifier.try_read(usize::MAX);
            let short = events.into_iter().map(|event| {
                assert_eq!(event.mask, EventMask::OPEN, "{mode}");
                (event.watch, String::from_utf8(event.name).unwrap())
            });
            short.collect()
        };
        let opened = [(dir, "kept".to_owned()), (kept, String::new())];
        assert_eq!(told(notifier), opened, "what waited, {mode}");
        let root = restored.fs.root();
        let at = At::new(&root, b"d/gone");
        drop(
            restored
                .fs
                .open(&rig.cx(), at, OpenFlags::RDONLY, 0)
                .unwrap(),
        );
        let opened = [(dir, "gone".to_owned()), (gone, String::new())];
        assert_eq!(told(notifier), opened, "what came later, {mode}");
        assert_eq!(restored.fs.stats().watches, 3);
    }
}

#[test]
fn a_long_queue_of_events_fits_into_an_image() {
    let rig = Rig::new(InteropMode::Exclusive);
    let name = "n".repeat(250);
    drop(rig.create(&name).unwrap());
    let notifier = rig.fs.notifier().unwrap();
    notifier.add(&rig.cx(), rig.at(""), EventMask::ALL).unwrap();
    for _ in 0..9000 {
        drop(rig.open(&name, OpenFlags::RDONLY).unwrap());
    }
    let expected = notifier.image();
    assert_eq!(expected.events.len(), 16384 + 1);
    let mut image = Vec::new();
    let keep = Keep {
        notifiers: &[(0, &notifier)],
        ..Keep::default()
    };
    rig.fs.checkpoint(&rig.cx(), &keep, &mut image).unwrap();
    let restored = restore(&rig, &image);
    assert_eq!(restored.notifiers[0].1.image(), expected);
}

#[test]
fn files_of_every_type_come_back_without_a_name() {
    let zero = Device { major: 1, minor: 5 };
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        rig.symlink("some/target", "link").unwrap();
        mknod(&rig, "fifo", FileType::Fifo);
        mknod(&rig, "socket", FileType::Socket);
        let device = FileType::CharDevice;
        rig.fs
            .mknod(&rig.cx(), rig.at("zero"), device, 0o600, zero)
            .unwrap();
        let path = OpenFlags::PATH | OpenFlags::NOFOLLOW;
        let link = rig.open("link", path).unwrap();
        let socket = rig.open("socket", path).unwrap();
        let fifo = rig.open("fifo", OpenFlags::RDWR | NONBLOCK).unwrap();
        fifo.write(&rig.cx(), b"waits").unwrap();
        let device = rig.open("zero", OpenFlags::RDWR).unwrap();
        for name in ["link", "fifo", "socket", "zero"] {
            rig.unlink(name).unwrap();
        }
        let files = [(1, &link), (2, &socket), (3, &fifo), (4, &device)];
        let image = save(&rig, &files, &[]);
        drop((link, socket, fifo, device));
        let restored = restore(&rig, &image);
        let files: Vec<&File> = restored.files.iter().map(|(_, file)| file).collect();
        let types: Vec<FileType> = files.iter().map(|file| file.node().file_type()).collect();
        let expected = [
            FileType::Symlink,
            FileType::Socket,
            FileType::Fifo,
            FileType::CharDevice,
        ];
        assert_eq!(types, expected, "{mode}");
        for file in &files {
            let stat = file.stat(&rig.cx()).unwrap();
            assert_eq!(stat.attr.nlink, 0, "{mode}");
        }
        let target = restored.fs.read_link_node(&rig.cx(), files[0].node());
        assert_eq!(target.unwrap(), b"some/target");
        let mut into = [9; 8];
        assert_eq!(files[2].read(&rig.cx(), &mut into).unwrap(), 5);
        assert_eq!(&into[..5], b"waits");
        assert_eq!(files[3].read_at(&rig.cx(), &mut into, 3).unwrap(), 8);
        assert_eq!(into, [0; 8]);
        assert_eq!(rig.outside.list(b"").unwrap(), Vec::<Vec<u8>>::new());
    }
}

#[test]
fn a_listing_goes_on_behind_the_name_it_had_reached() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        for name in ["a", "b", "c", "d", "e"] {
            rig.outside.write(name.as_bytes(), b"").unwrap();
        }
        let dir = rig.open("", OpenFlags::DIRECTORY).unwrap();
        let mut seen = Vec::new();
        dir.read_dir(&rig.cx(), &mut |entry| {
            seen.push(entry.name.to_vec());
            match seen.len() {
                5 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })
        .unwrap();
        assert_eq!(seen[2..], [b"a", b"b", b"c"]);
        let image = save(&rig, &[(0, &dir)], &[]);
        drop(dir);
        // Two that were seen go, and one comes: the count is another, the place is not.
        rig.outside.unlink(b"a").unwrap();
        rig.outside.unlink(b"b").unwrap();
        rig.outside.write(b"f", b"").unwrap();
        let restored = restore(&rig, &image);
        let dir = &restored.files[0].1;
        assert_eq!(rig.names(dir), ["d", "e", "f"], "{mode}");
        // Once more, before anything was read, and with the name gone: the count is what is left.
        let again = restore(&rig, &image);
        let keep = Keep {
            files: &[(0, &again.files[0].1)],
            ..Keep::default()
        };
        let mut image = Vec::new();
        again.fs.checkpoint(&rig.cx(), &keep, &mut image).unwrap();
        rig.outside.unlink(b"c").unwrap();
        let restored = restore(&rig, &image);
        assert_eq!(rig.names(&restored.files[0].1), [""; 0], "{mode}");
    }
}
