//! Save and restore (semantics 21) against the in-memory server.

mod contents;
mod damage;
mod more;

use std::io::Write;

use super::*;
use crate::attr::FileType;
use crate::remote::LockKind;
use crate::saving::{Keep, RestoreError, Restored, Verify, check_image};
use crate::testing::mem_remote::Fault;
use crate::{Device, LockOwner, LockRange, Node, RecordLock, SetTime, Timestamp, Whence};

/// An image of these files and nodes.
fn save(rig: &Rig, files: &[(u64, &File)], nodes: &[(u64, &Node)]) -> Vec<u8> {
    let mut image = Vec::new();
    let keep = Keep {
        files,
        nodes,
        ..Keep::default()
    };
    rig.fs.checkpoint(&rig.cx(), &keep, &mut image).unwrap();
    check_image(&image).unwrap();
    image
}

fn options() -> MountOptions {
    MountOptions::new(Trans::Fd { rfd: 9, wfd: 9 })
}

fn restore_with(
    rig: &Rig,
    config: MemConfig,
    image: &[u8],
    verify: Verify,
) -> std::result::Result<Restored, RestoreError> {
    let remote = Arc::new(rig.server.connect(config));
    let clock = rig.clock.clone();
    Filesystem::restore_with_clock(&rig.cx(), remote, options(), image, verify, clock)
}

fn restore(rig: &Rig, image: &[u8]) -> Restored {
    restore_with(rig, MemConfig::like_lisafs(), image, Verify::default()).unwrap()
}

fn refused(rig: &Rig, image: &[u8]) -> String {
    let config = MemConfig::like_lisafs();
    match restore_with(rig, config, image, Verify::default()) {
        Ok(_) => panic!("it should have been refused"),
        Err(error) => {
            assert_eq!(error.errno(), Errno::ESTALE);
            error.to_string()
        }
    }
}

fn stat_of(restored: &Restored, path: &str) -> Result<Stat> {
    let creds = Credentials::root();
    let root = restored.fs.root();
    let at = At::new(&root, path.as_bytes());
    restored.fs.stat(&Context::new(&creds), at, Follow::No)
}

fn content(rig: &Rig, file: &File) -> Vec<u8> {
    let mut into = vec![0; 1 << 20];
    let n = file.read_at(&rig.cx(), &mut into, 0).unwrap();
    into.truncate(n);
    into
}

#[test]
fn open_files_and_places_come_back_over_either_protocol() {
    for mode in InteropMode::ALL {
        for config in [MemConfig::like_lisafs(), MemConfig::like_9p()] {
            let rig = Rig::new(mode);
            rig.mkdir("d").unwrap();
            rig.mkdir("d/e").unwrap();
            let file = rig.create("d/e/f").unwrap();
            file.write(&rig.cx(), b"0123456789").unwrap();
            file.seek(&rig.cx(), Whence::Set(4)).unwrap();
            let appends = rig
                .open("d/e/f", OpenFlags::WRONLY | OpenFlags::APPEND)
                .unwrap();
            let path_only = rig.open("d/e", OpenFlags::PATH).unwrap();
            let dir = rig.open("d/e", OpenFlags::DIRECTORY).unwrap();
            dir.read_dir(&rig.cx(), &mut |_| ControlFlow::Break(()))
                .unwrap();
            let cwd = path_only.node().clone();
            let ino = rig.stat("d/e/f").unwrap().ino;
            let files = [(7, &file), (8, &appends), (9, &path_only), (10, &dir)];
            let image = save(&rig, &files, &[(1, &cwd)]);
            // It was only looked at.
            assert_eq!(file.write(&rig.cx(), b"x").unwrap(), 1, "{mode}");
            rig.outside.write(b"d/e/f", b"").unwrap();
            file.write_at(&rig.cx(), b"0123456789", 0).unwrap();
            file.sync(&rig.cx(), false).unwrap();
            drop((file, appends, path_only, dir, cwd));

            let verify = Verify {
                mtime: false,
                ..Verify::default()
            };
            let restored = restore_with(&rig, config, &image, verify).unwrap();
            assert_eq!(restored.fs.options().cache, mode);
            let ids: Vec<u64> = restored.files.iter().map(|(id, _)| *id).collect();
            assert_eq!(ids, [7, 8, 9, 10]);
            let mut files = restored.files.iter().map(|(_, file)| file);
            let (file, appends) = (files.next().unwrap(), files.next().unwrap());
            let (path_only, dir) = (files.next().unwrap(), files.next().unwrap());
            let mut into = [0; 3];
            file.read(&rig.cx(), &mut into).unwrap();
            assert_eq!(&into, b"456", "{mode}");
            assert_eq!(appends.write(&rig.cx(), b"+").unwrap(), 1);
            assert_eq!(content(&rig, file), b"0123456789+");
            assert_eq!(path_only.flags(), OpenFlags::PATH);
            assert_eq!(rig.names(dir), ["..", "f"]);
            assert_eq!(file.stat(&rig.cx()).unwrap().ino, ino);
            assert_eq!(stat_of(&restored, "d/e/f").unwrap().ino, ino);
            let [(1, cwd)] = &restored.nodes[..] else {
                panic!("one place");
            };
            assert_eq!(cwd.path(), b"/d/e");
            assert_eq!(cwd, path_only.node());
            restored.fs.sync(&rig.cx()).unwrap();
            assert_eq!(rig.outside.read(b"d/e/f").unwrap(), b"0123456789+");
        }
    }
}

#[test]
fn numbers_are_kept_over_protocols_with_other_identities() {
    let rig = Rig::new(InteropMode::Exclusive);
    let file = rig.create("f").unwrap();
    let image = save(&rig, &[(0, &file)], &[]);
    let ino = rig.stat("f").unwrap().ino;
    // The same content in another tree, where the file has another number.
    let other = Rig::new(InteropMode::Exclusive);
    other.outside.write(b"before", b"").unwrap();
    other.outside.write(b"f", b"").unwrap();
    let verify = Verify {
        mtime: false,
        ..Verify::default()
    };
    let foreign = MemConfig::like_9p();
    let restored = restore_with(&other, foreign, &image, verify).unwrap();
    assert_eq!(stat_of(&restored, "f").unwrap().ino, ino);
    let dir = restored.fs.open(
        &other.cx(),
        At::new(&restored.fs.root(), b""),
        OpenFlags::DIRECTORY,
        0,
    );
    let mut listed = None;
    dir.unwrap()
        .read_dir(&other.cx(), &mut |entry| {
            if entry.name == b"f" {
                listed = Some(entry.ino);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(listed, Some(ino));
    // By the same protocol identities count, unless told otherwise.
    let same = MemConfig::like_lisafs();
    let error = restore_with(&other, same.clone(), &image, verify).err();
    assert!(matches!(
        error,
        Some(RestoreError::Mismatch {
            what: "the identity",
            ..
        })
    ));
    let anywhere = Verify {
        identity: false,
        ..verify
    };
    restore_with(&other, same, &image, anywhere).unwrap();
}

#[test]
fn what_differs_is_told_with_its_path() {
    let rig = Rig::new(InteropMode::Exclusive);
    rig.mkdir("d").unwrap();
    let file = rig.create("d/f").unwrap();
    file.write(&rig.cx(), b"12345").unwrap();
    rig.link("d/f", "other").unwrap();
    let other = rig.open("other", OpenFlags::RDONLY).unwrap();
    let image = save(&rig, &[(0, &file), (1, &other)], &[]);
    restore(&rig, &image);

    rig.outside.append(b"d/f", b"6").unwrap();
    assert_eq!(
        refused(&rig, &image),
        "restore /d/f: the size was 5 bytes, is 6 bytes"
    );
    let lax = Verify {
        size: false,
        mtime: false,
        identity: true,
    };
    restore_with(&rig, MemConfig::like_lisafs(), &image, lax).unwrap();
    rig.outside.truncate(b"d/f", 5).unwrap();
    let told = refused(&rig, &image);
    assert!(
        told.starts_with("restore /d/f: the modification time was "),
        "{told}"
    );

    rig.outside.unlink(b"other").unwrap();
    rig.outside.write(b"other", b"12345").unwrap();
    let identity = restore_with(&rig, MemConfig::like_lisafs(), &image, lax).err();
    let told = identity.unwrap().to_string();
    assert!(
        told.starts_with("restore /other: the identity was "),
        "{told}"
    );
    // Also where identities do not compare: it is not the same file as under its other name.
    let links = restore_with(&rig, MemConfig::like_9p(), &image, lax).err();
    assert_eq!(
        links.unwrap().to_string(),
        "restore /other: the file was that of its other names, is another"
    );
    rig.outside.unlink(b"other").unwrap();
    assert_eq!(
        restore_with(&rig, MemConfig::like_9p(), &image, lax)
            .err()
            .unwrap()
            .to_string(),
        "restore /other: the file was there, is missing"
    );
    rig.outside.unlink(b"d/f").unwrap();
    rig.outside.mkdir(b"d/f").unwrap();
    assert_eq!(
        restore_with(&rig, MemConfig::like_9p(), &image, lax)
            .err()
            .unwrap()
            .to_string(),
        "restore /d/f: the type was a file, is a directory"
    );
    rig.outside.rmdir(b"d/f").unwrap();
    rig.outside.rmdir(b"d").unwrap();
    let told = refused(&rig, &image);
    assert_eq!(told, "restore /d: the file was there, is missing");
}

#[test]
fn a_deleted_file_is_saved_with_its_content() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        rig.mkdir("d").unwrap();
        let file = rig.create("d/gone").unwrap();
        file.write_at(&rig.cx(), b"begin", 0).unwrap();
        file.write_at(&rig.cx(), b"end", 700_000).unwrap();
        let reader = rig.open("d/gone", OpenFlags::RDONLY).unwrap();
        reader.seek(&rig.cx(), Whence::Set(2)).unwrap();
        rig.mkdir("d/dir").unwrap();
        let dir = rig
            .fs
            .resolve(&rig.cx(), rig.at("d/dir"), Follow::No)
            .unwrap();
        rig.unlink("d/gone").unwrap();
        rig.rmdir("d/dir").unwrap();
        let before = content(&rig, &file);
        let ino = file.stat(&rig.cx()).unwrap().ino;
        let image = save(&rig, &[(1, &file), (2, &reader)], &[(3, &dir)]);
        assert!(
            image.len() < 600_000,
            "holes take no space: {}",
            image.len()
        );

        let restored = restore(&rig, &image);
        assert!(rig.outside.list(b"d").unwrap().is_empty(), "{mode}");
        let [(1, file), (2, reader)] = &restored.files[..] else {
            panic!("two files");
        };
        assert_eq!(content(&rig, file), before, "{mode}");
        let stat = file.stat(&rig.cx()).unwrap();
        assert_eq!((stat.ino, stat.attr.nlink), (ino, 0), "{mode}");
        assert_eq!(stat.attr.size, before.len() as u64);
        // Both are still one file.
        file.write_at(&rig.cx(), b"BEGIN", 0).unwrap();
        let mut into = [0; 3];
        reader.read(&rig.cx(), &mut into).unwrap();
        assert_eq!(&into, b"GIN");
        file.set_attr(
            &rig.cx(),
            &SetAttr {
                size: Some(1),
                ..SetAttr::default()
            },
        )
        .unwrap();
        assert_eq!(content(&rig, reader), b"B", "{mode}");
        assert_eq!(errno(stat_of(&restored, "d/gone")), Errno::ENOENT);
        assert!(restored.nodes[0].1.is_deleted());
        assert_eq!(restored.nodes[0].1.path(), b"/d/dir");
        // And once more, by way of the restored ones.
        let mut again = Vec::new();
        let keep = Keep {
            files: &[(1, file)],
            nodes: &[],
            ..Keep::default()
        };
        restored
            .fs
            .checkpoint(&rig.cx(), &keep, &mut again)
            .unwrap();
        let restored = restore(&rig, &again);
        assert_eq!(content(&rig, &restored.files[0].1), b"B", "{mode}");
    }
}

#[test]
fn a_name_that_is_gone_while_another_is_open_leads_to_the_same_file() {
    let rig = Rig::new(InteropMode::Exclusive);
    let gone = rig.create("gone").unwrap();
    gone.write(&rig.cx(), b"one").unwrap();
    rig.link("gone", "kept").unwrap();
    let kept = rig.open("kept", OpenFlags::RDWR).unwrap();
    rig.unlink("gone").unwrap();
    let image = save(&rig, &[(1, &gone), (2, &kept)], &[]);
    let restored = restore(&rig, &image);
    let [(1, gone), (2, kept)] = &restored.files[..] else {
        panic!("two files");
    };
    gone.write_at(&rig.cx(), b"ONE", 0).unwrap();
    assert_eq!(content(&rig, kept), b"ONE");
    assert_eq!(gone.node().ino(), kept.node().ino());
    drop(restored);
    // Without the other name nobody knows where the file is.
    drop((kept_is_unknown(&rig), rig));
}

fn kept_is_unknown(rig: &Rig) {
    let file = rig.create("a").unwrap();
    rig.outside.link(b"a", b"elsewhere").unwrap();
    rig.set_attr(
        "a",
        SetAttr {
            mode: Some(0o600),
            ..SetAttr::default()
        },
    )
    .unwrap();
    rig.unlink("a").unwrap();
    let keep = Keep {
        files: &[(1, &file)],
        nodes: &[],
        ..Keep::default()
    };
    let saved = rig.fs.checkpoint(&rig.cx(), &keep, &mut Vec::new());
    let error = saved.unwrap_err();
    assert_eq!(error.errno(), Errno::EOPNOTSUPP);
    assert_eq!(
        error.to_string(),
        "checkpoint /a: not supported (EOPNOTSUPP)"
    );
}

#[test]
fn nothing_that_is_merely_cached_survives() {
    let rig = Rig::new(InteropMode::Exclusive);
    rig.mkdir("d").unwrap();
    let dir = rig.open("d", OpenFlags::DIRECTORY).unwrap();
    rig.create("d/idle").unwrap();
    assert_eq!(rig.names(&dir), [".", "..", "idle"]);
    assert_eq!(errno(rig.stat("d/new")), Errno::ENOENT);
    let image = save(&rig, &[(0, &dir)], &[]);
    rig.outside.write(b"d/new", b"x").unwrap();
    // What was idle is not even missed.
    rig.outside.unlink(b"d/idle").unwrap();
    let restored = restore(&rig, &image);
    assert_eq!(stat_of(&restored, "d/new").unwrap().attr.size, 1);
    let dir = &restored.files[0].1;
    dir.seek(&rig.cx(), Whence::Set(0)).unwrap();
    assert_eq!(rig.names(dir), [".", "..", "new"]);
}

#[test]
fn times_that_only_the_client_knows_are_kept() {
    let rig = Rig::new(InteropMode::Exclusive);
    let file = rig.create("f").unwrap();
    file.write(&rig.cx(), b"x").unwrap();
    rig.clock.set(Timestamp {
        sec: 2_100_000_000,
        nsec: 5,
    });
    content(&rig, &file);
    let before = file.stat(&rig.cx()).unwrap().attr;
    let image = save(&rig, &[(0, &file)], &[]);
    let restored = restore(&rig, &image);
    let after = restored.files[0].1.stat(&rig.cx()).unwrap().attr;
    assert_eq!(
        (after.atime, after.mtime, after.ctime),
        (before.atime, before.mtime, before.ctime)
    );
    // The server hears of them as it would have.
    drop(restored.files);
    restored.fs.unmount(&rig.cx()).unwrap();
    assert_eq!(rig.server_attr("f").mtime, before.mtime);
}

/// A client that leaves after it saved closes its files, which changes nothing on the server.
#[test]
fn what_saved_may_end_before_it_is_restored() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        let file = rig.create("f").unwrap();
        file.write(&rig.cx(), b"x").unwrap();
        rig.link("f", "other").unwrap();
        rig.unlink("f").unwrap();
        let image = save(&rig, &[(0, &file)], &[]);
        let before = file.stat(&rig.cx()).unwrap().attr;
        file.close(&rig.cx()).unwrap();
        rig.fs.drop_caches();
        // By the name it has still, which only the cache knew.
        let restored = restore(&rig, &image);
        let file = &restored.files[0].1;
        assert_eq!(content(&rig, file), b"x", "{mode}");
        let after = file.stat(&rig.cx()).unwrap().attr;
        assert_eq!((after.mtime, after.nlink), (before.mtime, 1), "{mode}");
        file.write_at(&rig.cx(), b"y", 0).unwrap();
        file.sync(&rig.cx(), false).unwrap();
        assert_eq!(rig.outside.read(b"other").unwrap(), b"y", "{mode}");
    }
}

#[test]
fn shared_trees_take_on_what_the_server_says() {
    let rig = Rig::new(InteropMode::Shared);
    let file = rig.create("f").unwrap();
    let replaced = rig.create("replaced").unwrap();
    replaced.write(&rig.cx(), b"old").unwrap();
    // Somebody puts another file there, which this client has not noticed.
    rig.outside.write(b"new", b"new content").unwrap();
    rig.outside.rename(b"new", b"replaced").unwrap();
    let image = save(&rig, &[(0, &file), (1, &replaced)], &[]);
    rig.outside.chmod(b"f", 0o600).unwrap();
    let restored = restore(&rig, &image);
    let [(0, file), (1, replaced)] = &restored.files[..] else {
        panic!("two files");
    };
    assert_eq!(file.stat(&rig.cx()).unwrap().attr.mode, 0o600);
    assert_eq!(content(&rig, replaced), b"old");
    assert_eq!(stat_of(&restored, "replaced").unwrap().attr.size, 11);
}

#[test]
fn locks_come_back() {
    let rig = Rig::new(InteropMode::Exclusive);
    let file = rig.create("f").unwrap();
    let lock = RecordLock {
        kind: LockKind::Write,
        range: LockRange::new(10, 5).unwrap(),
        owner: LockOwner::Process(42),
        pid: 42,
    };
    file.set_lock(&rig.cx(), &lock, false).unwrap();
    file.flock(&rig.cx(), LockKind::Read, false).unwrap();
    let image = save(&rig, &[(0, &file)], &[]);
    let restored = restore(&rig, &image);
    let restored_file = &restored.files[0].1;
    assert_eq!(restored_file.held_locks(), file.held_locks());
    let creds = Credentials::root();
    let cx = Context::new(&creds);
    let root = restored.fs.root();
    let second = restored
        .fs
        .open(&cx, At::new(&root, b"f"), OpenFlags::RDWR, 0)
        .unwrap();
    let other = RecordLock {
        owner: LockOwner::Process(43),
        ..lock
    };
    assert_eq!(errno(second.set_lock(&cx, &other, false)), Errno::EAGAIN);
    assert_eq!(
        errno(second.flock(&cx, LockKind::Write, false)),
        Errno::EAGAIN
    );
}

#[test]
fn a_fifo_is_drained_and_read_first_and_its_writer_opened_last() {
    let rig = Rig::new(InteropMode::Exclusive);
    rig.fs
        .mknod(
            &rig.cx(),
            rig.at("p"),
            FileType::Fifo,
            0o600,
            Device::default(),
        )
        .unwrap();
    let flags = OpenFlags::NONBLOCK;
    let reader = rig.open("p", OpenFlags::RDONLY | flags).unwrap();
    let writer = rig.open("p", OpenFlags::WRONLY | flags).unwrap();
    writer.write(&rig.cx(), b"early").unwrap();
    let image = save(&rig, &[(1, &writer), (2, &reader)], &[]);
    // Those who go on find it as well.
    let mut into = [0; 16];
    assert_eq!(reader.read(&rig.cx(), &mut into).unwrap(), 5);
    drop((reader, writer));
    let restored = restore(&rig, &image);
    let [(1, writer), (2, reader)] = &restored.files[..] else {
        panic!("two files");
    };
    writer.write(&rig.cx(), b"late").unwrap();
    let mut read = Vec::new();
    while read.len() < 9 {
        let n = reader.read(&rig.cx(), &mut into).unwrap();
        read.extend_from_slice(&into[..n]);
    }
    assert_eq!(read, b"earlylate");
}

#[test]
fn data_that_the_server_does_not_take_is_in_the_image() {
    let rig = Rig::new(InteropMode::Exclusive);
    let file = rig.create("f").unwrap();
    file.write(&rig.cx(), b"on the server").unwrap();
    file.sync(&rig.cx(), false).unwrap();
    let full = Fault::Refuse(Errno::ENOSPC);
    rig.remote.inject_always(Op::Write, full);
    file.write_at(&rig.cx(), b"HERE", 3).unwrap();
    let expected = content(&rig, &file);
    let image = save(&rig, &[(0, &file)], &[]);
    assert_eq!(rig.outside.read(b"f").unwrap(), b"on the server");
    rig.remote.drop_connection();
    drop(file);
    let restored = restore(&rig, &image);
    assert_eq!(content(&rig, &restored.files[0].1), expected);
    assert_eq!(rig.outside.read(b"f").unwrap(), expected);
    // Who had written it is told that it was in danger.
    let told = restored.files[0].1.sync(&rig.cx(), false);
    assert_eq!(errno(told), Errno::ENOSPC);
    restored.files[0].1.sync(&rig.cx(), false).unwrap();
}

#[test]
fn files_of_another_filesystem_and_images_that_cannot_be_written_are_errors() {
    let rig = Rig::new(InteropMode::Exclusive);
    let other = Rig::new(InteropMode::Exclusive);
    let file = other.create("f").unwrap();
    let keep = Keep {
        files: &[(0, &file)],
        nodes: &[],
        ..Keep::default()
    };
    let saved = rig.fs.checkpoint(&rig.cx(), &keep, &mut Vec::new());
    assert_eq!(errno(saved), Errno::EXDEV);

    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from_raw_os_error(Errno::ENOSPC.raw()))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let saved = other.fs.checkpoint(&other.cx(), &keep, &mut Full);
    assert_eq!(errno(saved), Errno::ENOSPC);
}
