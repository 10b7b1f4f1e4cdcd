//! The in-memory server keeps the promises of the remote traits.

use std::io::{IoSlice, IoSliceMut};
use std::ops::ControlFlow;

use super::*;
use crate::attr::{AttrMask, SetAttr};
use crate::error::Errno;
use crate::flags::Access;
use crate::name::Name;
use crate::remote::{DirPos, New, OpenMode, Owner, Promptness, RemoteFile, WalkEnd};
use crate::testing::Outside;

const RW: OpenMode = OpenMode {
    access: Access::ReadWrite,
    truncate: false,
};

fn name(bytes: &[u8]) -> Name<'_> {
    Name::new(bytes).unwrap()
}

fn walk(from: &dyn RemoteFile, names: &[&[u8]]) -> (Vec<Found>, RemoteResult<WalkEnd>) {
    let names: Vec<Name<'_>> = names.iter().map(|bytes| name(bytes)).collect();
    let mut found = Vec::new();
    let end = from.walk(&Call::default(), &names, &mut |one| found.push(one));
    (found, end)
}

fn root_of(remote: &MemRemote) -> Found {
    remote.root(&Call::default()).unwrap()
}

#[test]
fn walks_end_where_the_trait_says() {
    let server = MemServer::new();
    let outside = server.outside();
    outside.mkdir(b"d").unwrap();
    outside.write(b"d/f", b"x").unwrap();
    outside.symlink(b"d", b"l").unwrap();
    let remote = server.connect(MemConfig::like_lisafs());
    let root = root_of(&remote);
    let ends = |names: &[&[u8]]| {
        let (found, end) = walk(&*root.file, names);
        (found.len(), end.map_err(|error| error.errno))
    };
    assert_eq!(ends(&[b"d", b"f"]), (2, Ok(WalkEnd::Complete)));
    assert_eq!(ends(&[b"d", b"g", b"h"]), (1, Ok(WalkEnd::Missing)));
    assert_eq!(ends(&[b"g"]), (0, Ok(WalkEnd::Missing)));
    assert_eq!(ends(&[b"l"]), (1, Ok(WalkEnd::Complete)));
    assert_eq!(ends(&[b"l", b"f"]), (1, Ok(WalkEnd::Symlink)));
    assert_eq!(ends(&[b"d", b"f", b"g"]), (2, Err(Errno::ENOTDIR)));
    let single = server.connect(MemConfig::like_9p());
    let (found, end) = walk(&*root_of(&single).file, &[b"d", b"f"]);
    assert_eq!((found.len(), end.unwrap()), (1, WalkEnd::CallAgain));
}

#[test]
fn deleted_files_live_while_they_are_open() {
    let (remote, server) = MemRemote::new();
    let call = Call::default();
    let root = root_of(&remote);
    let owner = Owner::default();
    let (found, handle) = root
        .file
        .create(&call, name(b"f"), 0o600, owner, RW)
        .unwrap();
    root.file.unlink(&call, name(b"f"), false, None).unwrap();
    assert_eq!(handle.write_at(&call, &[IoSlice::new(b"text")], 0).n, 4);
    let mut buffer = [0; 8];
    let moved = handle.read_at(&call, &mut [IoSliceMut::new(&mut buffer)], 0);
    assert_eq!((moved.n, &buffer[..4]), (4, &b"text"[..]));
    assert_eq!(handle.attr(&call, AttrMask::BASIC).unwrap().nlink, 0);
    assert!(!server.outside().exists(b"f"));
    assert_eq!((remote.live_files(), remote.live_handles()), (2, 1));
    drop((found, handle));
    assert_eq!((remote.live_files(), remote.live_handles()), (1, 0));
    assert_eq!(server.tree.lock().stat_fs().files_free, (1 << 16) - 1);
}

#[test]
fn renames_follow_the_rules_of_the_host() {
    let server = MemServer::new();
    let outside = server.outside();
    for dir in [&b"a"[..], b"a/b", b"full", b"full/x", b"empty"] {
        outside.mkdir(dir).unwrap();
    }
    outside.write(b"f", b"1").unwrap();
    outside.link(b"f", b"g").unwrap();
    let rows: [(&[u8], &[u8], OutsideRename); 6] = [
        (b"a", b"a/b/c", Err(Errno::EINVAL)),
        (b"a", b"full", Err(Errno::ENOTEMPTY)),
        (b"a", b"f", Err(Errno::ENOTDIR)),
        (b"f", b"a", Err(Errno::EISDIR)),
        (b"f", b"g", Ok(())),
        (b"missing", b"g", Err(Errno::ENOENT)),
    ];
    for (old, new, expected) in rows {
        assert_eq!(outside.rename(old, new), expected);
    }
    assert!(outside.exists(b"f"), "two names of one file stay two names");
    outside.rename(b"a", b"empty").unwrap();
    assert_eq!(outside.list(b"empty").unwrap(), [b"b"]);
    assert_eq!(outside.stat(b"").unwrap().attr.nlink, 4);
    outside.exchange(b"f", b"full").unwrap();
    assert_eq!(outside.list(b"f").unwrap(), [b"x"]);
}

type OutsideRename = Result<(), Errno>;

#[test]
fn listings_resume_after_removals() {
    let server = MemServer::new();
    let outside = server.outside();
    for index in 0..10u8 {
        outside.write(&[b'a' + index], b"").unwrap();
    }
    let remote = server.connect(MemConfig {
        dir_batch: 3,
        ..MemConfig::default()
    });
    let call = Call::default();
    let dir = OpenMode {
        access: Access::Read,
        truncate: false,
    };
    let handle = root_of(&remote).file.open(&call, dir).unwrap();
    let mut names = Vec::new();
    let mut position = DirPos::default();
    loop {
        let more = handle.read_dir(&call, position, &mut |entry| {
            names.push(entry.name.as_bytes()[0]);
            position = entry.next;
            ControlFlow::Continue(())
        });
        if names.len() == 3 {
            outside.unlink(b"c").unwrap();
            outside.unlink(b"e").unwrap();
        }
        if !more.unwrap() {
            break;
        }
    }
    assert_eq!(names, b"abcdfghij");
}

#[test]
fn faults_strike_the_call_they_are_meant_for() {
    let (remote, server) = MemRemote::new();
    let call = Call::default();
    let root = root_of(&remote);
    let make = |bytes| {
        root.file
            .make(&call, name(bytes), New::Dir, 0o755, Owner::default())
    };
    remote.inject(Op::Make, 1, Fault::Refuse(Errno::ENOSPC));
    assert!(make(b"a").is_ok());
    assert_eq!(make(b"b").map(drop).unwrap_err().errno, Errno::ENOSPC);
    assert!(make(b"b").is_ok());
    let no_owner = Fault::RefuseFields(AttrMask::UID, Errno::EPERM);
    remote.inject(Op::SetAttr, 0, no_owner);
    let set = SetAttr {
        mode: Some(0o700),
        uid: Some(5),
        ..SetAttr::default()
    };
    let report = root.file.set_attr(&call, &set, None).unwrap();
    assert_eq!(
        (report.failed, report.errno),
        (AttrMask::UID, Some(Errno::EPERM))
    );
    let attr = root.file.attr(&call, AttrMask::BASIC).unwrap();
    assert_eq!((attr.mode, attr.uid), (0o700, 0));
    remote.inject(Op::Make, 0, Fault::CutAfter);
    assert_eq!(make(b"c").map(drop).unwrap_err().errno, Errno::EIO);
    assert!(server.outside().exists(b"c"), "the request was carried out");
    assert_eq!(make(b"d").map(drop).unwrap_err().errno, Errno::EIO);
    assert_eq!(remote.count(Op::Make), 5);
}

#[test]
fn use_after_release_is_noticed() {
    let (remote, _server) = MemRemote::new();
    let root = root_of(&remote);
    root.file.release(Promptness::Prompt);
    root.file.release(Promptness::Prompt);
    let call = Call::default();
    assert_eq!(
        root.file.attr(&call, AttrMask::SIZE).unwrap_err().errno,
        Errno::EBADF
    );
    assert_eq!((remote.misuses(), remote.live_files()), (1, 0));
}

#[test]
fn files_of_another_connection_are_on_another_filesystem() {
    let server = MemServer::new();
    let (one, two) = (
        server.connect(MemConfig::default()),
        server.connect(MemConfig::default()),
    );
    let (a, b) = (root_of(&one), root_of(&two));
    let linked = a.file.link(&Call::default(), name(b"x"), &*b.file);
    assert_eq!(linked.map(drop).unwrap_err().errno, Errno::EXDEV);
}
