//! Attributes, read and changed.

use super::*;

#[test]
fn all_the_host_has_is_filled_in_and_said_so() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, BASE);
    client.walk(ROOT, Fid(1), &["dir", "file"]).unwrap();
    let reply = getattr(&client, Fid(1)).unwrap();
    let found = fs::metadata(dir.path().join("dir/file")).unwrap();
    assert!(reply.valid.contains(GetattrMask::BASIC));
    assert!(
        !reply
            .valid
            .intersects(GetattrMask::GEN | GetattrMask::DATA_VERSION)
    );
    let attr = reply.attr;
    assert_eq!(attr.mode, found.mode());
    assert_eq!(
        (attr.uid, attr.gid, attr.nlink),
        (found.uid(), found.gid(), 1)
    );
    assert_eq!((attr.size, attr.blocks), (7, found.blocks()));
    assert_eq!(attr.mtime_sec as i64, found.mtime());
    assert_eq!(attr.mtime_nsec as i64, found.mtime_nsec());
    assert_eq!(attr.ctime_nsec as i64, found.ctime_nsec());
    assert!(attr.blksize >= 4096);
}

#[test]
fn qids_tell_files_apart_and_change_with_content() {
    let dir = tree();
    fs::hard_link(dir.path().join("dir/file"), dir.path().join("hard")).unwrap();
    let client = Client::attached(dir.path(), ALL, BASE);
    let qid = |names: &[&str]| {
        let qids = client.walk(ROOT, Fid(1), names).unwrap();
        client.clunk(Fid(1)).unwrap();
        *qids.last().unwrap()
    };
    let file = qid(&["dir", "file"]);
    assert_eq!(qid(&["hard"]), file);
    assert_ne!(qid(&["empty"]).path, file.path);
    assert_ne!(file.version, 0);
    assert_eq!(qid(&["dir"]).kind, QidType::DIR);
    assert_eq!(qid(&["link"]).kind, QidType::SYMLINK);
    fs::write(dir.path().join("dir/file"), "other content").unwrap();
    let changed = qid(&["dir", "file"]);
    assert_eq!(changed.path, file.path);
    assert_ne!(changed.version, file.version);
    assert_ne!(changed.version, 0);
}

#[test]
fn several_changes_are_made_in_an_order_that_keeps_them_all() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, BASE);
    client.walk(ROOT, Fid(1), &["dir", "file"]).unwrap();
    let (uid, gid) = if is_root() { (12, 34) } else { (NO_ID, NO_ID) };
    let all = SetattrMask::MODE
        | SetattrMask::UID
        | SetattrMask::GID
        | SetattrMask::SIZE
        | SetattrMask::ATIME
        | SetattrMask::ATIME_SET
        | SetattrMask::MTIME
        | SetattrMask::MTIME_SET
        | SetattrMask::CTIME;
    let request = Tsetattr {
        mode: 0o106_711,
        uid,
        gid,
        size: 3,
        atime_sec: 1_000,
        atime_nsec: 999_999_999,
        mtime_sec: -5i64 as u64,
        mtime_nsec: 7,
        ..setattr(Fid(1), all)
    };
    client.ask(&request).unwrap();
    let found = fs::metadata(dir.path().join("dir/file")).unwrap();
    assert_eq!(found.mode() & 0o7777, 0o6711);
    assert_eq!(found.len(), 3);
    assert_eq!((found.atime(), found.atime_nsec()), (1_000, 999_999_999));
    assert_eq!((found.mtime(), found.mtime_nsec()), (-5, 7));
    if is_root() {
        assert_eq!((found.uid(), found.gid()), (12, 34));
    }
}

#[test]
fn times_without_a_value_are_the_servers_and_odd_values_are_refused() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, BASE);
    client.walk(ROOT, Fid(1), &["dir", "file"]).unwrap();
    let set = SetattrMask::MTIME | SetattrMask::MTIME_SET;
    client
        .ask(&Tsetattr {
            mtime_sec: 5,
            ..setattr(Fid(1), set)
        })
        .unwrap();
    let path = dir.path().join("dir/file");
    assert_eq!(fs::metadata(&path).unwrap().mtime(), 5);
    client.ask(&setattr(Fid(1), SetattrMask::CTIME)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mtime(), 5);
    client
        .ask(&setattr(Fid(1), SetattrMask::ATIME | SetattrMask::MTIME))
        .unwrap();
    assert!(fs::metadata(&path).unwrap().mtime() > 1_000_000_000);
    // "Now" and "leave it alone" of the host, and anything else above a second.
    for mtime_nsec in [(1 << 30) - 1, (1 << 30) - 2, 1_000_000_000, u64::MAX] {
        let request = Tsetattr {
            mtime_nsec,
            ..setattr(Fid(1), set)
        };
        assert_eq!(error(&client, &request), Some(EINVAL));
    }
}

#[test]
fn sizes_go_through_the_descriptor_of_an_open_fid() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, BASE);
    client
        .open(Fid(1), &["dir", "file"], OpenFlags::RDWR)
        .unwrap();
    let path = dir.path().join("dir/file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
    let to = |size| Tsetattr {
        size,
        ..setattr(Fid(1), SetattrMask::SIZE)
    };
    client.ask(&to(2)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 2);
    assert_eq!(error(&client, &to(u64::MAX)), Some(EINVAL));
    fs::remove_file(&path).unwrap();
    client.ask(&to(5)).unwrap();
    assert_eq!(client.read(Fid(1), 0, 100).unwrap(), b"co\0\0\0");
    client
        .ask(&Tsetattr {
            mode: 0o640,
            ..setattr(Fid(1), SetattrMask::MODE)
        })
        .unwrap();
    assert_eq!(getattr(&client, Fid(1)).unwrap().attr.mode, 0o100_640);
    let directory = Tsetattr {
        size: 1,
        ..setattr(ROOT, SetattrMask::SIZE)
    };
    assert_eq!(error(&client, &directory), Some(EISDIR));
}

#[test]
fn links_have_owners_and_times_of_their_own_but_no_mode() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, BASE);
    client.walk(ROOT, Fid(1), &["link"]).unwrap();
    let mode = Tsetattr {
        mode: 0o600,
        ..setattr(Fid(1), SetattrMask::MODE)
    };
    assert_eq!(error(&client, &mode), Some(EOPNOTSUPP));
    let set = SetattrMask::MTIME | SetattrMask::MTIME_SET;
    client
        .ask(&Tsetattr {
            mtime_sec: 77,
            ..setattr(Fid(1), set)
        })
        .unwrap();
    let link = fs::symlink_metadata(dir.path().join("link")).unwrap();
    assert_eq!(link.mtime(), 77);
    assert_ne!(fs::metadata(dir.path().join("link")).unwrap().mtime(), 77);
    if is_root() {
        let ids = SetattrMask::UID | SetattrMask::GID;
        client
            .ask(&Tsetattr {
                uid: 12,
                gid: 34,
                ..setattr(Fid(1), ids)
            })
            .unwrap();
        let link = fs::symlink_metadata(dir.path().join("link")).unwrap();
        assert_eq!((link.uid(), link.gid()), (12, 34));
    }
    let answer = client.ask(&Treadlink { fid: Fid(1) }).unwrap();
    assert_eq!(answer.of::<Rreadlink<'_>>().target, b"dir/file");
    assert_eq!(error(&client, &Treadlink { fid: ROOT }), Some(EINVAL));
}

#[test]
fn set_and_clunk_ends_the_fid_in_any_case() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, GOOGLE);
    let request = |size| Tsetattrclunk {
        fid: Fid(1),
        valid: SetattrMask::SIZE,
        mode: 0,
        uid: 0,
        gid: 0,
        size,
        atime_sec: 0,
        atime_nsec: 0,
        mtime_sec: 0,
        mtime_nsec: 0,
    };
    client.walk(ROOT, Fid(1), &["dir", "file"]).unwrap();
    client.ask(&request(1)).unwrap();
    assert_eq!(client.clunk(Fid(1)).unwrap_err(), EBADF);
    client.walk(ROOT, Fid(1), &["dir"]).unwrap();
    assert_eq!(error(&client, &request(1)), Some(EISDIR));
    assert_eq!(client.clunk(Fid(1)).unwrap_err(), EBADF);
    assert_eq!(error(&client, &request(1)), Some(EBADF));
    assert_eq!(fs::read(dir.path().join("dir/file")).unwrap(), b"c");
}

#[test]
fn numbers_of_the_file_system_are_the_hosts() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, BASE);
    let answer = client.ask(&Tstatfs { fid: ROOT }).unwrap();
    let reply: Rstatfs = answer.of();
    let host = rustix::fs::statvfs(dir.path()).unwrap();
    assert_eq!((reply.blocks, reply.files), (host.f_blocks, host.f_files));
    assert_eq!(
        (reply.fsid, u64::from(reply.namelen)),
        (host.f_fsid, host.f_namemax)
    );
    assert_eq!(u64::from(reply.bsize), host.f_bsize);
}
