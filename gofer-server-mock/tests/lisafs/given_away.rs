//! What clients can do with the descriptors they are given.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use gofer_lisafs::wire::*;
use gofer_server_mock::host::Export;
use gofer_transport::{DetachedMount, Stream};
use rustix::fs::{Mode, OFlags};

use crate::common::{ALL, Client, READONLY, Server, read_all};

fn open(client: &Client, fd: Fdid, flags: u32) -> (Fdid, Option<OwnedFd>) {
    let mut answer = client.ask(&OpenAtReq { fd, flags }).unwrap();
    let fd = OpenAtResp::decode(&answer.payload).unwrap().open_fd;
    (fd, answer.fds.pop())
}

/// Opens what a descriptor names once more.
fn reopen(fd: &OwnedFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

/// Whether this process may copy mounts. Without, nobody can keep others from opening again.
fn copies_mounts() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let dir = fs::File::open(dir.path()).unwrap();
    DetachedMount::copy_of(dir.as_fd(), true).is_ok()
}

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/b/f"), "content").unwrap();
    dir
}

/// The descriptor shows the file and lets nobody write it, by whatever way.
fn check_readonly(fd: &OwnedFd) {
    assert_eq!(read_all(fd), b"content");
    assert_eq!(rustix::io::write(fd, b"x"), Err(rustix::io::Errno::BADF));
    drop(reopen(fd, OFlags::RDONLY).unwrap());
    if copies_mounts() {
        for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::TRUNC] {
            let again = reopen(fd, flags);
            assert_eq!(again.unwrap_err(), rustix::io::Errno::ROFS);
        }
        let mode = rustix::fs::fchmod(fd, Mode::RUSR);
        assert_eq!(mode.unwrap_err(), rustix::io::Errno::ROFS);
    }
}

#[test]
fn a_descriptor_of_a_read_only_export_cannot_be_made_writable() {
    let dir = tree();
    let export = Export::open(dir.path(), READONLY).unwrap();
    let client = Client::of_export(&export);
    let root = client.mount();
    let file = client.walk_to(root, &["a", "b", "f"]);
    check_readonly(&open(&client, file, 0).1.unwrap());
    // Moved by others: the server does not find it in the copy, and serves it all the same.
    fs::rename(dir.path().join("a/b/f"), dir.path().join("g")).unwrap();
    let (opened, given) = open(&client, file, 0);
    assert_eq!(given.is_some(), !copies_mounts());
    let answer = client.ask(&PReadReq {
        offset: 0,
        fd: opened,
        count: 100,
    });
    let answer = answer.unwrap();
    let read = PReadResp::decode(&answer.payload).unwrap();
    assert_eq!(read.data.0, b"content");
    // Another file by the same path is not taken for it.
    fs::write(dir.path().join("a/b/f"), "another").unwrap();
    let (_, given) = open(&client, file, 0);
    assert_eq!(given.is_some(), !copies_mounts());
}

#[test]
fn a_read_only_root_that_is_a_file_is_given_away_read_only() {
    let dir = tree();
    let export = Export::open(&dir.path().join("a/b/f"), READONLY).unwrap();
    let client = Client::of_export(&export);
    let root = client.mount();
    check_readonly(&open(&client, root, 0).1.unwrap());
}

#[test]
fn a_sandboxed_server_gives_read_only_descriptors_away_too() {
    let dir = tree();
    let place = tempfile::tempdir().unwrap();
    let (_server, socket) = Server::at(place.path(), dir.path(), &["--readonly"]);
    let client = Client::on(Stream::connect_unix(&socket).unwrap());
    let root = client.mount();
    let file = client.walk_to(root, &["a", "b", "f"]);
    check_readonly(&open(&client, file, 0).1.unwrap());
}

#[test]
fn a_descriptor_of_a_writable_export_allows_what_was_asked_for() {
    let dir = tree();
    let client = Client::of(dir.path(), ALL);
    let root = client.mount();
    let file = client.walk_to(root, &["a", "b", "f"]);
    let (_, reader) = open(&client, file, 0);
    let reader = reader.unwrap();
    assert_eq!(
        rustix::io::write(&reader, b"x"),
        Err(rustix::io::Errno::BADF)
    );
    let (_, writer) = open(&client, file, 1);
    let writer = writer.unwrap();
    assert_eq!(rustix::io::pwrite(&writer, b"C", 0), Ok(1));
    assert_eq!(
        rustix::io::read(&writer, &mut [0_u8; 1]),
        Err(rustix::io::Errno::BADF)
    );
    assert_eq!(read_all(&reader), b"Content");
    for fd in [&reader, &writer] {
        let flags = rustix::fs::fcntl_getfl(fd).unwrap();
        assert!(flags.contains(OFlags::NONBLOCK), "lisafs 2.3");
    }
}
