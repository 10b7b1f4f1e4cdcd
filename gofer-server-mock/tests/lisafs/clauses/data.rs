//! Reading, syncing, listing, setting, and answers that are too large.

use std::fs;
use std::os::unix::fs::MetadataExt;

use gofer_lisafs::wire::*;
use gofer_server_mock::host::Export;
use gofer_server_mock::limits::Limits;

use super::{UNKNOWN, open, read, set_stat};
use crate::common::{ALL, Client, has_user_xattrs, vector_tree};

const EIO: i32 = 5;
const EBADF: i32 = 9;
const ENOTDIR: i32 = 20;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;
const ENOBUFS: i32 = 105;
const EOPNOTSUPP: i32 = 95;

#[test]
fn reads_have_a_limit_and_end_at_the_end() {
    let tree = vector_tree(0o600);
    let client = Client::of(tree.path(), ALL);
    let root = client.mount();
    let file = client.walk_to(root, &["big.bin"]);
    let opened = open(&client, file, 0).unwrap();
    let most = Limits::default().message_size - 8;
    assert_eq!(read(&client, opened, 0, most).unwrap().len(), 1024);
    for count in [most + 1, 0xffff_fff8, u32::MAX] {
        assert_eq!(read(&client, opened, 0, count).unwrap_err(), ENOBUFS);
    }
    for offset in [1024, 5000, 1 << 62] {
        assert_eq!(read(&client, opened, offset, 10).unwrap(), b"");
    }
    for offset in [1 << 63, u64::MAX] {
        assert_eq!(read(&client, opened, offset, 10).unwrap_err(), EINVAL);
    }
    // Without the right: before all else (6.11, 6.12, 6.18).
    let data = WriteData(b"x");
    let (offset, fd) = (0, opened);
    let write = client.ask(&PWriteReq { offset, fd, data });
    assert_eq!(write.unwrap_err(), EBADF);
    let (mode, length) = (0, 1);
    let allocate = FAllocateReq {
        fd,
        mode,
        offset,
        length,
    };
    assert_eq!(client.ask(&allocate).unwrap_err(), EBADF);
    let writer = open(&client, file, 1).unwrap();
    assert_eq!(read(&client, writer, 0, u32::MAX).unwrap_err(), EBADF);
    // Neither reads nor writes; other bits than the access mode and O_TRUNC are dropped (6.7).
    let neither = open(&client, file, 3).unwrap();
    assert_eq!(read(&client, neither, 0, 1).unwrap_err(), EBADF);
    let odd = open(&client, file, !0x203).unwrap();
    assert_eq!(read(&client, odd, 0, 3).unwrap(), [0; 3]);
    let cut = open(&client, file, 0x202).unwrap();
    assert_eq!(read(&client, cut, 0, 3).unwrap(), b"");
}

#[test]
fn fsync_syncs_all_and_tells_the_first_failure() {
    let tree = vector_tree(0o600);
    let client = Client::of(tree.path(), ALL);
    let root = client.mount();
    let opened = open(&client, client.walk_to(root, &["big.bin"]), 2).unwrap();
    let dir = open(&client, root, 0).unwrap();
    let sync = |fds: &[Fdid]| client.ask(&FSyncReq { fds }).map(drop);
    assert_eq!(sync(&[]), Ok(()));
    assert_eq!(sync(&[opened, dir, opened]), Ok(()));
    assert_eq!(sync(&[opened, UNKNOWN, root]), Err(EBADF));
    assert_eq!(sync(&[opened, root, UNKNOWN]), Err(EINVAL));
}

#[test]
fn listings_take_open_directories_and_a_budget() {
    let tree = vector_tree(0o600);
    let client = Client::of(tree.path(), ALL);
    let root = client.mount();
    let many = client.walk_to(root, &["many"]);
    let list = |dir_fd, count| {
        let answer = client.ask(&Getdents64Req { dir_fd, count })?;
        let entries = Getdents64Resp::decode(&answer.payload).unwrap().dirents;
        Ok::<_, i32>(
            entries
                .iter()
                .map(|entry| entry.name.to_vec())
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(list(many, 4096), Err(EINVAL), "a control FD");
    let file = open(&client, client.walk_to(root, &["big.bin"]), 0).unwrap();
    assert_eq!(list(file, 4096), Err(ENOTDIR));
    let dir = open(&client, many, 0).unwrap();
    // 19 + 8 + 1 rounded up to 8 is 32 for each name.
    for count in [0, 31, -31] {
        assert_eq!(list(dir, count), Ok(Vec::new()), "no room for one");
    }
    let first = list(dir, 64).unwrap();
    assert_eq!(first.len(), 2);
    let others = list(dir, i32::MAX).unwrap();
    assert_eq!(others.len(), 10);
    assert!(others.iter().all(|name| !first.contains(name)));
    assert_eq!(list(dir, 4096), Ok(Vec::new()), "the end");
    let all = list(dir, i32::MIN).unwrap();
    assert_eq!(all.len(), 12);
    assert!(
        all.iter().all(|name| name.starts_with(b"entry-")),
        "no dots"
    );
}

#[test]
fn set_stat_refuses_directories_a_size_and_goes_on() {
    let tree = vector_tree(0o600);
    let client = Client::of(tree.path(), ALL);
    let root = client.mount();
    let dir = client.walk_to(root, &["dir1"]);
    let set = |request: &SetStatReq| {
        let answer = client.ask(request).unwrap();
        let set = SetStatResp::decode(&answer.payload).unwrap();
        (set.failure_mask, set.failure_errno as i32)
    };
    let (mode, size) = (StatxMask::MODE.bits(), StatxMask::SIZE.bits());
    let both = SetStatReq {
        mask: mode | size,
        mode: 0o700,
        ..set_stat(dir)
    };
    assert_eq!(set(&both), (size, EISDIR));
    assert_eq!(
        fs::metadata(tree.path().join("dir1")).unwrap().mode() & 0o7777,
        0o700
    );
    let nothing = SetStatReq {
        mask: 0,
        ..set_stat(dir)
    };
    assert_eq!(set(&nothing), (0, 0));
    // Of several failures the last is told: the size before the owner.
    let beyond = SetStatReq {
        mask: mode | size,
        size: u64::MAX,
        ..set_stat(client.walk_to(root, &["big.bin"]))
    };
    assert_eq!(set(&beyond), (size, EINVAL));
    let link = SetStatReq {
        mask: mode | size,
        ..set_stat(client.walk_to(root, &["link"]))
    };
    assert_eq!(
        set(&link),
        (mode | size, EINVAL),
        "and not EOPNOTSUPP {EOPNOTSUPP}"
    );
}

#[test]
fn an_answer_over_the_limit_is_eio_and_the_connection_goes_on() {
    let tree = vector_tree(0o600);
    let value = [b'v'; 3000];
    let file = tree.path().join("big.bin");
    let set = |name: &str| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&file, name, &value, flags)
    };
    let limits = Limits {
        message_size: 2048,
        ..Limits::default()
    };
    if !has_user_xattrs(tree.path()) || set("user.long").is_err() {
        eprintln!("skipped: no long attributes here");
        return;
    }
    let export = Export::open(tree.path(), ALL).unwrap();
    let client = Client::with_limits(&export, limits);
    let root = client.mount();
    let fd = client.walk_to(root, &["big.bin"]);
    let (buf_size, name) = (0, b"user.long".as_slice());
    let long = client.ask(&FGetXattrReq { fd, buf_size, name });
    assert_eq!(long.unwrap_err(), EIO);
    client.ask(&FStatReq { fd }).unwrap();
}
