//! Our client with direct file access, against our server.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gofer_lisafs::client::{Config, ConnectError, connect};
use gofer_server_mock::host::{Export, Policy, Sockets};
use gofer_server_mock::limits::Limits;
use gofer_server_mock::server::{Protocol, spawn};
use gofer_transport::Stream;
use gofer_vfs::remote::{
    Call, Found, New, OpenMode, Owner, RemoteEvents, RemoteFile, RemoteFilesystem, RemoteResult,
    SocketType, WalkEnd,
};
use gofer_vfs::{Access, AttrMask, Errno, FileType, Name, RenameFlags, SetAttr};
use rustix::io::Errno as HostErrno;

use crate::common::{ALL, PATIENCE, READONLY};

const CALL: Call<'static> = Call {
    deadline: None,
    cancel: None,
};

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn errno<T>(result: RemoteResult<T>) -> Option<Errno> {
    result.err().map(|error| error.errno)
}

/// Connects to a server of its own on `export`; its end of the connection comes along.
fn mount(
    export: &Arc<Export>,
    aname: &str,
) -> (Result<Arc<dyn RemoteFilesystem>, ConnectError>, Arc<Stream>) {
    let (ours, theirs) = Stream::pair().unwrap();
    let theirs = Arc::new(theirs);
    let limits = Limits::default();
    spawn(theirs.clone(), export.clone(), Protocol::Lisafs, limits).unwrap();
    let config = Config {
        aname: aname.into(),
        timeout: Some(PATIENCE),
        directfs: true,
        ..Config::default()
    };
    (connect(ours, config), theirs)
}

/// A tree, its root, and the server's end of the connection.
type Mounted = (Arc<dyn RemoteFilesystem>, Arc<dyn RemoteFile>, Arc<Stream>);

/// A mounted tree; `None` where mounts cannot be copied.
fn direct(dir: &Path, policy: Policy, aname: &str) -> Option<Mounted> {
    match Export::open(dir, policy).unwrap().donating_root() {
        Ok(export) => {
            let (fs, theirs) = mount(&export, aname);
            let fs = fs.unwrap();
            let root = fs.root(&CALL).unwrap().file;
            Some((fs, root, theirs))
        }
        Err(error) => {
            assert!(
                matches!(error.errno, HostErrno::PERM | HostErrno::NOSYS),
                "unexpected: {error}"
            );
            eprintln!("not run: {error}");
            None
        }
    }
}

fn walk(from: &Arc<dyn RemoteFile>, path: &str) -> Found {
    let names: Vec<Name<'_>> = path.split('/').map(name).collect();
    let mut last = None;
    let end = from.walk(&CALL, &names, &mut |found| last = Some(found));
    assert_eq!(end, Ok(WalkEnd::Complete), "{path}");
    last.unwrap()
}

#[test]
fn a_server_that_keeps_its_root_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let export = Export::open(dir.path(), ALL).unwrap();
    let (refused, _theirs) = mount(&export, "/");
    let error = refused.err().unwrap();
    assert_eq!(error.errno(), Errno::EINVAL);
    insta::assert_snapshot!(error, @"directfs: the server gives away no descriptor of its root: invalid argument (EINVAL)");
}

#[test]
fn the_server_is_not_asked_for_files() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("top/d")).unwrap();
    let Some((fs, root, _theirs)) = direct(dir.path(), ALL, "/top") else {
        return;
    };
    assert_eq!(fs.capabilities().protocol, "lisafs, directfs");
    // What was walked to while connecting is closed first.
    fs.flush_closes(&CALL).unwrap();
    let sent = fs.traffic().bytes_sent;
    let found = walk(&root, "d");
    let mode = OpenMode {
        access: Access::ReadWrite,
        truncate: false,
    };
    let (_, handle) = found
        .file
        .create(&CALL, name("f"), 0o640, Owner::default(), mode)
        .unwrap();
    let moved = handle.write_at(&CALL, &[std::io::IoSlice::new(b"x")], 0);
    assert_eq!((moved.n, moved.error), (1, None));
    assert_eq!(fs::read(dir.path().join("top/d/f")).unwrap(), b"x");
    drop((handle, found));
    fs.flush_closes(&CALL).unwrap();
    assert_eq!(fs.traffic().bytes_sent, sent);
}

#[test]
fn a_read_only_tree_changes_in_no_way() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    let Some((_fs, root, _theirs)) = direct(dir.path(), READONLY, "/") else {
        return;
    };
    let file = walk(&root, "f").file;
    let mode = |access, truncate| OpenMode { access, truncate };
    let rofs = Some(Errno::EROFS);
    let handle = file.open(&CALL, mode(Access::Read, false)).unwrap();
    assert_eq!(errno(file.open(&CALL, mode(Access::Write, false))), rofs);
    assert_eq!(errno(file.open(&CALL, mode(Access::Read, true))), rofs);
    let owner = Owner::default();
    let made = root.create(
        &CALL,
        name("n"),
        0o600,
        owner,
        mode(Access::ReadWrite, false),
    );
    assert_eq!(errno(made), rofs);
    assert_eq!(
        errno(root.make(&CALL, name("n"), New::Dir, 0o700, owner)),
        rofs
    );
    assert_eq!(errno(root.link(&CALL, name("n"), &*file)), rofs);
    assert_eq!(errno(root.unlink(&CALL, name("f"), false, None)), rofs);
    let to = (&*root, name("n"));
    let moved = root.rename(&CALL, name("f"), None, to, RenameFlags::empty());
    assert_eq!(errno(moved), rofs);
    let plain = gofer_vfs::XattrFlags::empty();
    assert_eq!(errno(file.set_xattr(&CALL, b"user.a", b"1", plain)), rofs);
    let set = SetAttr {
        mode: Some(0o777),
        uid: Some(7),
        size: Some(0),
        mtime: Some(gofer_vfs::SetTime::Now),
        ..SetAttr::default()
    };
    for through in [None, Some(&*handle)] {
        let report = file.set_attr(&CALL, &set, through).unwrap();
        assert_eq!((report.failed, report.errno), (set.mask(), rofs));
    }
    let bound = root.bind(&CALL, name("s"), SocketType::Stream, 0o600, owner);
    assert_eq!(errno(bound), rofs);
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"x");
}

#[test]
fn sockets_are_bound_and_connected_by_the_server() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("top/d")).unwrap();
    let Some((fs, root, _theirs)) = direct(dir.path(), ALL, "/top") else {
        return;
    };
    let sent = fs.traffic().bytes_sent;
    let place = walk(&root, "d").file;
    let (found, socket) = place
        .bind(
            &CALL,
            name("s"),
            SocketType::Stream,
            0o660,
            Owner::default(),
        )
        .unwrap();
    assert_eq!(found.attr.file_type, FileType::Socket);
    assert_eq!(found.key, walk(&root, "d/s").key);
    assert!(
        fs.traffic().bytes_sent > sent,
        "the server was not asked to"
    );
    socket.listen(&CALL, 4).unwrap();
    // Wherever the socket has gone meanwhile.
    fs::rename(dir.path().join("top/d"), dir.path().join("top/e")).unwrap();
    let ours = found.file.connect(&CALL, SocketType::Stream).unwrap();
    let theirs = socket.accept(&CALL).unwrap();
    let stream = |fd: OwnedFd| {
        let stream = UnixStream::from(fd);
        stream.set_nonblocking(false).unwrap();
        stream
    };
    let (mut ours, mut theirs) = (stream(ours), stream(theirs));
    ours.write_all(b"hello").unwrap();
    let mut bytes = [0; 5];
    theirs.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    let wrong = found.file.connect(&CALL, SocketType::Datagram);
    assert_eq!(errno(wrong), Some(Errno::EPROTOTYPE));
    let again = place.bind(
        &CALL,
        name("s"),
        SocketType::Stream,
        0o600,
        Owner::default(),
    );
    assert_eq!(errno(again), Some(Errno::EADDRINUSE));
    assert_eq!(
        errno(place.connect(&CALL, SocketType::Stream)),
        Some(Errno::ENOTSOCK)
    );
    // One that is gone has no place where the server could find it.
    fs::remove_file(dir.path().join("top/e/s")).unwrap();
    let gone = found.file.connect(&CALL, SocketType::Stream);
    assert_eq!(errno(gone), Some(Errno::ESTALE));
}

#[test]
fn another_socket_under_the_same_name_is_not_connected() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_fs, root, _theirs)) = direct(dir.path(), ALL, "/") else {
        return;
    };
    let path = dir.path().join("s");
    let _first = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let found = walk(&root, "s");
    fs::rename(&path, dir.path().join("t")).unwrap();
    let _second = std::os::unix::net::UnixListener::bind(&path).unwrap();
    found.file.connect(&CALL, SocketType::Stream).unwrap();
    assert_ne!(walk(&root, "s").key, found.key);
    fs::rename(&path, dir.path().join("t")).unwrap();
    let gone = found.file.connect(&CALL, SocketType::Stream);
    assert_eq!(errno(gone), Some(Errno::ESTALE));
}

#[test]
fn the_policy_for_sockets_is_the_servers() {
    let dir = tempfile::tempdir().unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
    let none = Policy {
        sockets: Sockets::None,
        ..ALL
    };
    let Some((_fs, root, _theirs)) = direct(dir.path(), none, "/") else {
        return;
    };
    let found = walk(&root, "s");
    assert_eq!(
        errno(found.file.connect(&CALL, SocketType::Stream)),
        Some(Errno::EPERM)
    );
    let bound = root.bind(
        &CALL,
        name("t"),
        SocketType::Stream,
        0o600,
        Owner::default(),
    );
    assert_eq!(errno(bound), Some(Errno::EPERM));
}

/// Whether the loss was told.
#[derive(Default)]
struct Sink(std::sync::atomic::AtomicBool);

impl RemoteEvents for Sink {
    fn lost(&self, _epoch: u32) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
    fn changed(&self, _key: gofer_vfs::remote::FileKey, _name: Option<&[u8]>) {}
    fn overflow(&self) {}
}

#[test]
fn the_end_of_the_server_is_told_although_nobody_asks_it_anything() {
    let dir = tempfile::tempdir().unwrap();
    let Some((fs, root, theirs)) = direct(dir.path(), ALL, "/") else {
        return;
    };
    let sink = Arc::new(Sink::default());
    let weak = Arc::downgrade(&sink);
    fs.subscribe(weak);
    theirs.shutdown();
    let until = Instant::now() + PATIENCE;
    while !sink.0.load(std::sync::atomic::Ordering::SeqCst) {
        assert!(Instant::now() < until, "nobody noticed");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(errno(root.attr(&CALL, AttrMask::all())), Some(Errno::EIO));
}
