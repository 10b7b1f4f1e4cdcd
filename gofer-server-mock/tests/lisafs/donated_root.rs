//! The descriptor of the root that Mount gives away: what its holder can do, and cannot.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Command, Stdio};
use std::sync::Arc;

use gofer_lisafs::wire::{Message, Mid, MountResp};
use gofer_server_mock::host::{Export, Policy};
use gofer_server_mock::limits::Limits;
use gofer_transport::Stream;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, UTIME_NOW, chmodat, chownat, fcntl_getfl, fstat, linkat,
    makedev, mkdirat, mknodat, open, openat, renameat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::common::{ALL, Client, READONLY, Server, is_root, program, read_all};

/// An export of `dir` that gives its root away; `None` where mounts cannot be copied.
fn donating(dir: &std::path::Path, policy: Policy) -> Option<Arc<Export>> {
    match Export::open(dir, policy).unwrap().donating_root() {
        Ok(export) => Some(export),
        Err(error) => {
            assert!(
                matches!(error.errno, Errno::PERM | Errno::NOSYS),
                "unexpected: {error}"
            );
            eprintln!("not run: {error}");
            None
        }
    }
}

/// Mounts; the descriptors that came and the inode number of the root.
fn mount(client: &Client) -> (Vec<OwnedFd>, u64) {
    let answer = client.exchange(Mid::MOUNT, &[]);
    let ino = MountResp::decode(&answer.payload).unwrap().root.stat.ino;
    (answer.fds, ino.get())
}

fn donated(client: &Client) -> OwnedFd {
    let (mut fds, ino) = mount(client);
    assert_eq!(fds.len(), 1);
    let fd = fds.remove(0);
    assert_eq!(fstat(&fd).unwrap().st_ino, ino);
    fd
}

fn at(dir: impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(dir, path, flags | OFlags::CLOEXEC, Mode::empty())
}

fn again(fd: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

#[test]
fn without_the_switch_nothing_comes() {
    let dir = tempfile::tempdir().unwrap();
    assert!(mount(&Client::of(dir.path(), ALL)).0.is_empty());
}

#[test]
fn every_mount_has_a_descriptor_with_a_position_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "content").unwrap();
    let Some(export) = donating(dir.path(), ALL) else {
        return;
    };
    let client = Client::of_export(&export);
    let (one, other) = (donated(&client), donated(&client));
    assert!(fcntl_getfl(&one).unwrap().contains(OFlags::NONBLOCK));
    let names = |fd: &OwnedFd| {
        let entries = rustix::fs::Dir::read_from(fd).unwrap();
        entries.filter(|entry| entry.is_ok()).count()
    };
    // A shared position would leave nothing for the second.
    assert_eq!((names(&one), names(&other)), (3, 3));
    let file = at(&one, "f", OFlags::RDWR).unwrap();
    rustix::io::pwrite(&file, b"CON", 0).unwrap();
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"CONtent");
}

#[test]
fn it_does_not_lead_out_of_the_root() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(base.path().join("secret"), "").unwrap();
    symlink("../secret", root.join("out")).unwrap();
    let Some(export) = donating(&root, ALL) else {
        return;
    };
    let fd = donated(&Client::of_export(&export));
    let ino = fs::metadata(&root).unwrap().ino();
    for path in ["..", "../..", "sub/../..", "sub/../../../.."] {
        let up = at(&fd, path, OFlags::PATH).unwrap();
        assert_eq!(fstat(&up).unwrap().st_ino, ino, "{path}");
    }
    for path in ["../secret", "out", "sub/../../secret"] {
        assert_eq!(
            at(&fd, path, OFlags::PATH).unwrap_err(),
            Errno::NOENT,
            "{path}"
        );
    }
    let sub = at(&fd, "sub", OFlags::RDONLY | OFlags::DIRECTORY).unwrap();
    let up = at(&sub, "../..", OFlags::PATH).unwrap();
    assert_eq!(fstat(&up).unwrap().st_ino, ino);
}

#[test]
fn of_a_read_only_root_it_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    let Some(export) = donating(dir.path(), READONLY) else {
        return;
    };
    let fd = donated(&Client::of_export(&export));
    let mode = Mode::from_raw_mode(0o777);
    let read = at(&fd, "f", OFlags::RDONLY).unwrap();
    let place = at(&fd, "f", OFlags::PATH).unwrap();
    let plain = AtFlags::empty();
    let now = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        },
    };
    let value = |fd: &OwnedFd| {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(path, "user.a", b"1", flags)
    };
    let uid = Some(rustix::fs::Uid::from_raw(7));
    let create = OFlags::CREATE | OFlags::RDONLY;
    let block = makedev(1, 0);
    let attempts = [
        ("open", at(&fd, "f", OFlags::RDWR).map(drop)),
        ("truncate", at(&fd, "f", OFlags::TRUNC).map(drop)),
        ("reopen", again(&read, OFlags::RDWR).map(drop)),
        ("reopen a place", again(&place, OFlags::WRONLY).map(drop)),
        ("create", openat(&fd, "new", create, mode).map(drop)),
        ("fchmod", rustix::fs::fchmod(&read, mode)),
        ("chmod", chmodat(&fd, "f", mode, plain)),
        ("fchown", rustix::fs::fchown(&read, uid, None)),
        (
            "chown",
            chownat(&fd, "f", uid, None, AtFlags::SYMLINK_NOFOLLOW),
        ),
        ("utimens", utimensat(&fd, "f", &now, plain)),
        ("setxattr", value(&read)),
        ("unlink", unlinkat(&fd, "f", plain)),
        ("rmdir", unlinkat(&fd, "d", AtFlags::REMOVEDIR)),
        ("mkdir", mkdirat(&fd, "new", mode)),
        ("symlink", symlinkat("x", &fd, "new")),
        ("link", linkat(&fd, "f", &fd, "new", plain)),
        ("rename", renameat(&fd, "f", &fd, "new")),
        ("fifo", mknodat(&fd, "new", FileType::Fifo, mode, 0)),
        (
            "device",
            mknodat(&fd, "new", FileType::BlockDevice, mode, block),
        ),
    ];
    for (what, result) in attempts {
        assert_eq!(result, Err(Errno::ROFS), "{what}");
    }
    // A mapping that could be written would need a descriptor that can.
    assert_eq!(read_all(&read), b"x");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn devices_do_not_open_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let Some(export) = donating(dir.path(), ALL) else {
        return;
    };
    let mode = Mode::from_raw_mode(0o666);
    let null = makedev(1, 3);
    let kind = FileType::CharacterDevice;
    if mknodat(CWD, dir.path().join("null"), kind, mode, null).is_err() {
        eprintln!("not run: may not make devices here");
        return;
    }
    let fd = donated(&Client::of_export(&export));
    assert_eq!(at(&fd, "null", OFlags::RDONLY).unwrap_err(), Errno::ACCESS);
    let place = at(&fd, "null", OFlags::PATH).unwrap();
    assert_eq!(again(&place, OFlags::RDWR).unwrap_err(), Errno::ACCESS);
}

#[test]
fn a_single_file_can_be_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f");
    fs::write(&file, "content").unwrap();
    let Some(export) = donating(&file, READONLY) else {
        return;
    };
    let fd = donated(&Client::of_export(&export));
    assert_eq!(read_all(&fd), b"content");
    assert_eq!(again(&fd, OFlags::WRONLY).unwrap_err(), Errno::ROFS);
    let writable = donating(&file, ALL).unwrap();
    let fd = donated(&Client::of_export(&writable));
    let file = again(&fd, OFlags::WRONLY).unwrap();
    assert_eq!(rustix::io::pwrite(&file, b"C", 0), Ok(1));
}

#[test]
fn another_process_can_do_no_more_and_the_end_of_the_server_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("root")).unwrap();
    let root = dir.path().join("root");
    fs::write(root.join("f"), "x").unwrap();
    if donating(&root, READONLY).is_none() {
        return;
    }
    let more = ["--readonly", "--donate-root", "--host-fifo", "open"];
    let (mut server, socket) = Server::at(dir.path(), &root, &more);
    let client = Client::on(Stream::connect_unix(&socket).unwrap());
    let fd = donated(&client);
    let holder = |script: &str, fd: &OwnedFd| {
        let stdin = Stdio::from(fd.try_clone().unwrap());
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(stdin);
        command.stderr(Stdio::null()).status().unwrap().success()
    };
    let attempts = [
        "cat /proc/self/fd/0/f",
        "echo y > /proc/self/fd/0/f",
        "cd /proc/self/fd/0 && echo y >> f",
        "cd /proc/self/fd/0 && chmod 777 f",
        "cd /proc/self/fd/0 && rm -f f && test ! -e f",
        "cd -P /proc/self/fd/0/.. && test -e root",
    ];
    let expected = [true, false, false, false, false, false];
    assert_eq!(attempts.map(|script| holder(script, &fd)), expected);
    server.signal(rustix::process::Signal::KILL);
    server.wait();
    assert_eq!(attempts.map(|script| holder(script, &fd)), expected);
    assert_eq!(fs::read(root.join("f")).unwrap(), b"x");
}

#[test]
fn clients_that_leave_it_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("root")).unwrap();
    let root = dir.path().join("root");
    if donating(&root, ALL).is_none() {
        return;
    }
    let (server, socket) = Server::at(dir.path(), &root, &["--donate-root"]);
    let client = Client::on(Stream::connect_unix(&socket).unwrap());
    drop(mount(&client));
    // With the next answer the server has closed what went with the one before.
    client.exchange(Mid::FSTAT, &[]);
    let before = server.descriptors();
    for _ in 0..20 {
        let client = Client::on(Stream::connect_unix(&socket).unwrap());
        drop(mount(&client));
        // The response is not read, and its descriptor lies in the socket.
        client.send(&[0, 0, 0, 0, 1, 0, 0, 0]);
    }
    server.settle(before);
}

#[test]
fn a_server_that_cannot_copy_the_mount_does_not_start() {
    if !is_root() {
        eprintln!("not run: needs user 0 to give its privileges up");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    rustix::fs::chmod(dir.path(), Mode::from_raw_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]);
    command.arg(program()).args(["serve", "--donate-root"]);
    command.arg("--root").arg(dir.path()).args(["--fd", "0"]);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let Ok(output) = command.stdin(OwnedFd::from(theirs)).output() else {
        eprintln!("not run: there is no setpriv");
        return;
    };
    drop(ours);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(output.stdout.is_empty());
    let expected = format!(
        "cannot donate the root {}: open_tree: ",
        dir.path().display()
    );
    assert!(text.contains(&expected), "{text}");
    assert!(text.contains("not permitted"), "{text}");
}

#[test]
fn limits_do_not_hide_it() {
    let dir = tempfile::tempdir().unwrap();
    let Some(export) = donating(dir.path(), ALL) else {
        return;
    };
    let limits = Limits {
        channels: 0,
        ..Limits::default()
    };
    donated(&Client::with_limits(&export, limits));
}

#[test]
fn donating_the_root_and_nothing_contradict_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let root = dir.path().to_str().unwrap();
    fs::write(&file, "donate = false\n").unwrap();
    let serve = |more: &[&str]| {
        let mut command = Command::new(program());
        command.args(["serve", "--donate-root", "--root", root, "--fd", "0"]);
        let output = command.args(more).stdin(Stdio::null()).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (status, text) = serve(&["--no-donate"]);
    assert_eq!(status, Some(2), "{text}");
    assert!(
        text.contains("--donate-root") && text.contains("--no-donate"),
        "{text}"
    );
    let (status, text) = serve(&["--config", file.to_str().unwrap()]);
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("not to donate"), "{text}");
}
