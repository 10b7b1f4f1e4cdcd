//! What the specification asks for beyond the recordings.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use gofer_lisafs::wire::*;
use gofer_server_mock::host::{Export, Fifos, Policy, Sockets};
use gofer_server_mock::limits::Limits;
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, makedev, mknodat};

use crate::common::{ALL, Client, READONLY, has_user_xattrs, is_root, read_all};

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ENXIO: i32 = 6;
const EACCES: i32 = 13;
const EXDEV: i32 = 18;
const EINVAL: i32 = 22;
const EMFILE: i32 = 24;
const EROFS: i32 = 30;
const ERANGE: i32 = 34;
const ENAMETOOLONG: i32 = 36;
const ENODATA: i32 = 61;

fn create(dir: Fdid) -> CreateCommon {
    CreateCommon::new(dir, NO_ID, NO_ID, 0o640)
}

fn open(client: &Client, fd: Fdid, flags: u32) -> Result<Fdid, i32> {
    let answer = client.ask(&OpenAtReq { fd, flags })?;
    Ok(OpenAtResp::decode(&answer.payload).unwrap().open_fd)
}

fn stat(client: &Client, fd: Fdid) -> Statx {
    let answer = client.ask(&FStatReq { fd }).unwrap();
    FStatResp::decode(&answer.payload).unwrap().stat
}

fn set_stat(fd: Fdid, mask: StatxMask) -> SetStatReq {
    SetStatReq {
        fd,
        mask: mask.bits(),
        mode: 0,
        uid: NO_ID,
        gid: NO_ID,
        size: 0,
        atime: Timespec::default(),
        mtime: Timespec::default(),
    }
}

fn read(client: &Client, fd: Fdid, offset: u64, count: u32) -> Result<Vec<u8>, i32> {
    let answer = client.ask(&PReadReq { offset, fd, count })?;
    Ok(PReadResp::decode(&answer.payload).unwrap().data.0.to_vec())
}

#[test]
fn every_change_of_a_read_only_export_is_refused_and_nothing_writable_is_given_away() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "data").unwrap();
    let client = Client::of(dir.path(), READONLY);
    let root = client.mount();
    let file = client.walk_to(root, &["file"]);
    let answer = client.ask(&OpenAtReq { fd: file, flags: 0 }).unwrap();
    let open = OpenAtResp::decode(&answer.payload).unwrap().open_fd;
    let common = create(root);
    let common = CreateCommon {
        mode: 0o100640.into(),
        ..common
    };
    let name = &b"new"[..];
    let (dir_fd, uid, gid) = (root, NO_ID, NO_ID);
    let refused = [
        client.ask(&set_stat(file, StatxMask::MODE)).unwrap_err(),
        client.ask(&OpenAtReq { fd: file, flags: 1 }).unwrap_err(),
        client.ask(&OpenAtReq { fd: file, flags: 2 }).unwrap_err(),
        client
            .ask(&OpenAtReq {
                fd: file,
                flags: 0o1000,
            })
            .unwrap_err(),
        client
            .ask(&OpenCreateAtReq {
                common,
                flags: 0,
                name,
            })
            .unwrap_err(),
        client
            .ask(&PWriteReq {
                offset: 0,
                fd: open,
                data: WriteData(b"x"),
            })
            .unwrap_err(),
        client.ask(&MkdirAtReq { common, name }).unwrap_err(),
        client
            .ask(&MknodAtReq {
                common,
                minor: 0,
                major: 0,
                name,
            })
            .unwrap_err(),
        client
            .ask(&SymlinkAtReq {
                dir_fd,
                uid,
                gid,
                name,
                target: b"t",
            })
            .unwrap_err(),
        client
            .ask(&LinkAtReq {
                dir_fd,
                target: file,
                name,
            })
            .unwrap_err(),
        client
            .ask(&FAllocateReq {
                fd: open,
                mode: 0,
                offset: 0,
                length: 1,
            })
            .unwrap_err(),
        client
            .ask(&UnlinkAtReq {
                dir_fd,
                flags: 0,
                name: b"file",
            })
            .unwrap_err(),
        client
            .ask(&RenameAtReq {
                old_dir: root,
                new_dir: root,
                old_name: b"file",
                new_name: name,
            })
            .unwrap_err(),
        client
            .ask(&RenameAt2Req {
                old_dir: root,
                new_dir: root,
                old_name: b"file",
                new_name: name,
                flags: 1,
            })
            .unwrap_err(),
        client
            .ask(&FSetXattrReq {
                fd: file,
                flags: 0,
                name: b"user.a",
                value: b"",
            })
            .unwrap_err(),
        client
            .ask(&FRemoveXattrReq {
                fd: file,
                name: b"user.a",
            })
            .unwrap_err(),
        client
            .ask(&BindAtReq {
                common,
                sock_type: 1,
                name,
            })
            .unwrap_err(),
    ];
    assert_eq!(refused, [EROFS; 17]);
    let access = fcntl_getfl(&answer.fds[0]).unwrap() & OFlags::ACCMODE;
    assert_eq!(access, OFlags::RDONLY);
    assert_eq!(read_all(&answer.fds[0]), b"data");
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "something was made: {names:?}");
}

#[test]
fn attributes_are_set_one_by_one_and_what_failed_is_told() {
    let dir = tempfile::tempdir().unwrap();
    symlink("target", dir.path().join("link")).unwrap();
    fs::write(dir.path().join("file"), "0123456789").unwrap();
    let client = Client::of(dir.path(), ALL);
    let root = client.mount();
    let link = client.walk_to(root, &["link"]);
    let ask = |request: &SetStatReq| {
        let answer = client.ask(request).unwrap();
        SetStatResp::decode(&answer.payload).unwrap()
    };
    let both = StatxMask::MODE | StatxMask::MTIME;
    let answer = ask(&SetStatReq {
        mtime: Timespec {
            sec: (-5).into(),
            nsec: 7.into(),
        },
        ..set_stat(link, both)
    });
    assert_eq!(
        (answer.failure_mask, answer.failure_errno),
        (StatxMask::MODE.bits(), 95)
    );
    let found = fs::symlink_metadata(dir.path().join("link")).unwrap();
    assert_eq!((found.mtime(), found.mtime_nsec()), (-5, 7));

    let file = client.walk_to(root, &["file"]);
    let before = fs::metadata(dir.path().join("file")).unwrap();
    let answer = ask(&SetStatReq {
        mode: 0o100600,
        size: 4,
        atime: Timespec {
            sec: 1.into(),
            nsec: UTIME_OMIT.into(),
        },
        mtime: Timespec {
            sec: 1.into(),
            nsec: UTIME_NOW.into(),
        },
        ..set_stat(file, both | StatxMask::SIZE | StatxMask::ATIME)
    });
    assert_eq!(answer.failure_mask, 0);
    let after = fs::metadata(dir.path().join("file")).unwrap();
    assert_eq!((after.len(), after.mode()), (4, 0o100600));
    assert_eq!(after.atime(), before.atime());
    assert!(after.mtime() >= before.mtime());
    // Nanoseconds of a second and more are the host's to refuse.
    let answer = ask(&SetStatReq {
        mtime: Timespec {
            sec: 1.into(),
            nsec: 2_000_000_000.into(),
        },
        ..set_stat(file, StatxMask::MTIME)
    });
    assert_eq!(
        (answer.failure_mask, answer.failure_errno as i32),
        (StatxMask::MTIME.bits(), EINVAL)
    );
    assert_eq!(
        client.ask(&set_stat(file, StatxMask::NLINK)).unwrap_err(),
        EPERM
    );
}

#[test]
fn new_files_get_exactly_the_mode_and_owner_that_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::of(dir.path(), ALL);
    let root = client.mount();
    let ids = if is_root() { (12, 34) } else { (NO_ID, NO_ID) };
    let common = CreateCommon::new(root, ids.0, ids.1, 0o6751);
    client
        .ask(&OpenCreateAtReq {
            common,
            flags: 2,
            name: b"file",
        })
        .unwrap();
    let common = CreateCommon::new(root, ids.0, ids.1, 0o1733);
    client
        .ask(&MkdirAtReq {
            common,
            name: b"dir",
        })
        .unwrap();
    let link = SymlinkAtReq {
        dir_fd: root,
        uid: ids.0,
        gid: ids.1,
        name: b"link",
        target: b"x/\xff",
    };
    let answer = client.ask(&link).unwrap();
    let link = SymlinkAtResp::decode(&answer.payload)
        .unwrap()
        .symlink
        .control_fd;
    let found = |name| fs::symlink_metadata(dir.path().join(name)).unwrap();
    assert_eq!(found("file").mode(), 0o106751);
    assert_eq!(found("dir").mode(), 0o041733);
    if is_root() {
        let owners = ["file", "dir", "link"].map(|name| (found(name).uid(), found(name).gid()));
        assert_eq!(owners, [(12, 34); 3]);
    }
    let answer = client.ask(&ReadLinkAtReq { fd: link }).unwrap();
    assert_eq!(
        ReadLinkAtResp::decode(&answer.payload).unwrap().target,
        b"x/\xff"
    );
}

#[test]
fn a_creation_whose_mode_denies_access_still_gives_the_access_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::of(
        dir.path(),
        Policy {
            donate: false,
            ..ALL
        },
    );
    let root = client.mount();
    let common = CreateCommon::new(root, NO_ID, NO_ID, 0);
    let answer = client
        .ask(&OpenCreateAtReq {
            common,
            flags: 2,
            name: b"file",
        })
        .unwrap();
    assert!(answer.fds.is_empty(), "donated against the policy");
    let fd = OpenCreateAtResp::decode(&answer.payload).unwrap().open_fd;
    client
        .ask(&PWriteReq {
            offset: 3,
            fd,
            data: WriteData(b"abc"),
        })
        .unwrap();
    assert_eq!(read(&client, fd, 0, 100).unwrap(), b"\0\0\0abc");
    assert_eq!(read(&client, fd, 5, 1).unwrap(), b"c");
    assert_eq!(read(&client, fd, 6, 1).unwrap(), b"");
}

#[test]
fn a_large_directory_is_listed_once_each_in_pieces_and_again_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..3000 {
        fs::write(
            dir.path()
                .join(format!("{number}{}", "x".repeat(number % 200))),
            "",
        )
        .unwrap();
    }
    let client = Client::of(dir.path(), ALL);
    let root = client.mount();
    let dir_fd = open(&client, root, 0).unwrap();
    for _ in 0..2 {
        let mut names = Vec::new();
        let mut count = -4096;
        loop {
            let answer = client.ask(&Getdents64Req { dir_fd, count }).unwrap();
            let entries = Getdents64Resp::decode(&answer.payload).unwrap().dirents;
            if entries.is_empty() {
                break;
            }
            let records: usize = entries
                .iter()
                .map(|e| (20 + e.name.len()).next_multiple_of(8))
                .sum();
            assert!(records <= 4096, "the budget was exceeded: {records}");
            names.extend(entries.iter().map(|entry| entry.name.to_vec()));
            count = 4096;
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 3000);
    }
}

#[test]
fn listings_never_exceed_the_message_size() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..400 {
        fs::write(dir.path().join(format!("{number:0>200}")), "").unwrap();
    }
    let export = Export::open(dir.path(), ALL).unwrap();
    let limits = Limits {
        message_size: Limits::MESSAGE_SIZE_MIN,
        ..Limits::default()
    };
    let client = Client::with_limits(&export, limits);
    let root = client.mount();
    let dir_fd = open(&client, root, 0).unwrap();
    let mut total = 0;
    loop {
        let answer = client
            .ask(&Getdents64Req {
                dir_fd,
                count: i32::MAX,
            })
            .unwrap();
        assert!(answer.payload.len() <= limits.message_size as usize);
        match Getdents64Resp::decode(&answer.payload)
            .unwrap()
            .dirents
            .len()
        {
            0 => break,
            count => total += count,
        }
    }
    assert_eq!(total, 400);
}

#[test]
fn handles_follow_a_renamed_directory_and_see_what_another_connection_removes() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::create_dir(dir.path().join("c")).unwrap();
    fs::write(dir.path().join("a/b/file"), "data").unwrap();
    let export = Export::open(dir.path(), ALL).unwrap();
    let (one, two) = (Client::of_export(&export), Client::of_export(&export));
    let (root, root_two) = (one.mount(), two.mount());
    let b = one.walk_to(root, &["a", "b"]);
    let file_two = two.walk_to(root_two, &["a", "b", "file"]);
    let c = one.walk_to(root, &["c"]);
    let rename = RenameAtReq {
        old_dir: root,
        new_dir: c,
        old_name: b"a",
        new_name: b"moved",
    };
    one.ask(&rename).unwrap();
    // Made through the old handle, found under the new name.
    one.ask(&MkdirAtReq {
        common: create(b),
        name: b"new",
    })
    .unwrap();
    assert!(dir.path().join("c/moved/b/new").is_dir());
    assert_eq!(one.walk(root, &["a"]).unwrap().len(), 0);
    let again = two.walk(root_two, &["c", "moved", "b", "file"]).unwrap();
    assert_eq!(stat(&two, file_two).ino, again[3].stat.ino);

    one.ask(&UnlinkAtReq {
        dir_fd: b,
        flags: 0,
        name: b"file",
    })
    .unwrap();
    let deleted = two.ask(&LinkAtReq {
        dir_fd: root_two,
        target: file_two,
        name: b"back",
    });
    assert_eq!(deleted.unwrap_err(), EINVAL);
    assert_eq!(stat(&two, file_two).nlink.get(), 0);
    // Opened after its removal.
    let open_two = open(&two, file_two, 0).unwrap();
    assert_eq!(read(&two, open_two, 0, 10).unwrap(), b"data");
    // A new file of the same name is another one.
    fs::write(dir.path().join("c/moved/b/file"), "other").unwrap();
    let fresh = two.walk_to(root_two, &["c", "moved", "b", "file"]);
    two.ask(&LinkAtReq {
        dir_fd: root_two,
        target: fresh,
        name: b"linked",
    })
    .unwrap();
    assert_eq!(fs::read(dir.path().join("linked")).unwrap(), b"other");
}

#[test]
fn rename_flags_are_those_of_the_host() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "a").unwrap();
    fs::write(dir.path().join("b"), "b").unwrap();
    let client = Client::of(dir.path(), ALL);
    let root = client.mount();
    let (a, b) = (client.walk_to(root, &["a"]), client.walk_to(root, &["b"]));
    let rename = |flags| {
        client
            .ask(&RenameAt2Req {
                old_dir: root,
                new_dir: root,
                old_name: b"a",
                new_name: b"b",
                flags,
            })
            .map(|_| ())
    };
    assert_eq!(rename(1).unwrap_err(), 17, "RENAME_NOREPLACE");
    assert_eq!(rename(0x100).unwrap_err(), EINVAL);
    rename(2).unwrap();
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"b");
    // Both handles are alive and stand at each other's place.
    client
        .ask(&LinkAtReq {
            dir_fd: root,
            target: a,
            name: b"from-a",
        })
        .unwrap();
    client
        .ask(&LinkAtReq {
            dir_fd: root,
            target: b,
            name: b"from-b",
        })
        .unwrap();
    assert_eq!(fs::read(dir.path().join("from-a")).unwrap(), b"a");
    client
        .ask(&UnlinkAtReq {
            dir_fd: root,
            flags: 0,
            name: b"b",
        })
        .unwrap();
    let gone = client.ask(&LinkAtReq {
        dir_fd: root,
        target: a,
        name: b"again",
    });
    assert_eq!(
        gone.unwrap_err(),
        EINVAL,
        "the file at b is the one that was at a"
    );
}

#[test]
fn renaming_one_name_of_a_file_to_its_other_name_leaves_both() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "").unwrap();
    fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
    let client = Client::of(dir.path(), ALL);
    let root = client.mount();
    let (a, b) = (client.walk_to(root, &["a"]), client.walk_to(root, &["b"]));
    client
        .ask(&RenameAtReq {
            old_dir: root,
            new_dir: root,
            old_name: b"a",
            new_name: b"b",
        })
        .unwrap();
    assert!(dir.path().join("a").exists() && dir.path().join("b").exists());
    // Neither counts as deleted.
    client
        .ask(&LinkAtReq {
            dir_fd: root,
            target: a,
            name: b"c",
        })
        .unwrap();
    client
        .ask(&LinkAtReq {
            dir_fd: root,
            target: b,
            name: b"d",
        })
        .unwrap();
}

#[test]
fn long_names_and_zero_bytes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::of(dir.path(), ALL);
    let root = client.mount();
    let long = [b'n'; 256];
    let make = |name: &[u8]| {
        client
            .ask(&MkdirAtReq {
                common: create(root),
                name,
            })
            .map(|_| ())
    };
    assert_eq!(make(&long), Err(ENAMETOOLONG));
    assert_eq!(make(&[b'n'; 65535]), Err(ENAMETOOLONG));
    assert_eq!(make(b"a\0b"), Err(EINVAL));
    assert_eq!(make(&long[..255]), Ok(()));
    let path = [&b"a\0b"[..]];
    let request = WalkStatReq {
        dir_fd: root,
        path: Strings::new(&path),
    };
    assert_eq!(client.ask(&request).unwrap_err(), EINVAL);
}

#[test]
fn a_walk_that_cannot_be_answered_is_refused_before_it_starts() {
    let dir = tempfile::tempdir().unwrap();
    let export = Export::open(dir.path(), ALL).unwrap();
    let limits = Limits {
        message_size: 8192,
        ..Limits::default()
    };
    let client = Client::with_limits(&export, limits);
    let root = client.mount();
    let names = vec![&b"missing"[..]; 54];
    for (count, expected) in [(53, Ok(())), (54, Err(5))] {
        let path = Strings::new(&names[..count]);
        let answer = client.ask(&WalkReq { dir_fd: root, path }).map(|_| ());
        assert_eq!(answer, expected, "{count} components");
    }
}

#[test]
fn extended_attributes_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    if !has_user_xattrs(dir.path()) {
        eprintln!("not run: the file system has no user attributes");
        return;
    }
    fs::write(dir.path().join("file"), "").unwrap();
    let client = Client::of(dir.path(), ALL);
    let root = client.mount();
    let fd = client.walk_to(root, &["file"]);
    let get = |buf_size| {
        client
            .ask(&FGetXattrReq {
                fd,
                buf_size,
                name: b"user.a",
            })
            .map(|answer| {
                FGetXattrResp::decode(&answer.payload)
                    .unwrap()
                    .value
                    .to_vec()
            })
    };
    assert_eq!(get(0), Err(ENODATA));
    client
        .ask(&FSetXattrReq {
            fd,
            flags: 0,
            name: b"user.a",
            value: b"value",
        })
        .unwrap();
    client
        .ask(&FSetXattrReq {
            fd,
            flags: 1,
            name: b"user.b",
            value: b"",
        })
        .unwrap();
    let exists = client.ask(&FSetXattrReq {
        fd,
        flags: 1,
        name: b"user.b",
        value: b"",
    });
    assert_eq!(exists.unwrap_err(), 17);
    assert_eq!(
        (get(0), get(5), get(4)),
        (Ok(b"value".to_vec()), Ok(b"value".to_vec()), Err(ERANGE))
    );
    let list = |size| {
        client.ask(&FListXattrReq { fd, size }).map(|answer| {
            let list = FListXattrResp::decode(&answer.payload).unwrap().xattrs;
            let mut names: Vec<_> = list.iter().map(<[u8]>::to_vec).collect();
            names.retain(|name| name.starts_with(b"user."));
            names.sort();
            names
        })
    };
    assert_eq!(list(0).unwrap(), [b"user.a", b"user.b"]);
    assert_eq!(list(1), Err(ERANGE));
    client
        .ask(&FRemoveXattrReq {
            fd,
            name: b"user.a",
        })
        .unwrap();
    assert_eq!(list(0).unwrap(), [b"user.b"]);
    client
        .ask(&UnlinkAtReq {
            dir_fd: root,
            flags: 0,
            name: b"file",
        })
        .unwrap();
    assert_eq!((get(0), list(0)), (Err(EINVAL), Ok(Vec::new())));
}

#[test]
fn fifos_open_without_waiting_and_only_where_allowed() {
    let dir = tempfile::tempdir().unwrap();
    mknodat(
        rustix::fs::CWD,
        dir.path().join("fifo"),
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let client = Client::of(dir.path(), ALL);
    let root = client.mount();
    let fifo = client.walk_to(root, &["fifo"]);
    assert_eq!(open(&client, fifo, 1), Err(ENXIO), "nobody reads");
    let answer = client.ask(&OpenAtReq { fd: fifo, flags: 0 }).unwrap();
    let flags = fcntl_getfl(&answer.fds[0]).unwrap();
    assert!(flags.contains(OFlags::NONBLOCK));
    let write = open(&client, fifo, 1).unwrap();
    client
        .ask(&PWriteReq {
            offset: 0,
            fd: write,
            data: WriteData(b"through"),
        })
        .unwrap();
    let mut buffer = [0; 16];
    assert_eq!(rustix::io::read(&answer.fds[0], &mut buffer), Ok(7));

    let client = Client::of(
        dir.path(),
        Policy {
            fifos: Fifos::None,
            ..ALL
        },
    );
    let root = client.mount();
    let fifo = client.walk_to(root, &["fifo"]);
    assert_eq!(open(&client, fifo, 0), Err(EPERM));
}

#[test]
fn devices_are_not_opened_and_block_devices_not_even_seen() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name, file_type, device| {
        mknodat(
            rustix::fs::CWD,
            dir.path().join(name),
            file_type,
            Mode::from_raw_mode(0o600),
            device,
        )
    };
    let made = make("null", FileType::CharacterDevice, makedev(1, 3)).and(make(
        "disk",
        FileType::BlockDevice,
        makedev(7, 77),
    ));
    if made.is_err() {
        eprintln!("not run: device files cannot be made here");
        return;
    }
    let client = Client::of(dir.path(), ALL);
    let root = client.mount();
    let null = client.walk_to(root, &["null"]);
    assert_eq!(open(&client, null, 0), Err(EPERM));
    assert_eq!(client.walk(root, &["disk"]).unwrap_err(), EPERM);
    let path = [&b"disk"[..]];
    let request = WalkStatReq {
        dir_fd: root,
        path: Strings::new(&path),
    };
    assert_eq!(client.ask(&request).unwrap_err(), EPERM);

    let policy = Policy {
        all_types: true,
        ..ALL
    };
    let client = Client::of(dir.path(), policy);
    let root = client.mount();
    client.walk(root, &["disk"]).unwrap();
}

#[test]
fn files_of_every_type_are_made_where_allowed_and_of_few_elsewhere() {
    let makes = |policy: Policy, kind: FileType, device: (u32, u32)| {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::of(dir.path(), policy);
        let root = client.mount();
        let mode = (kind.as_raw_mode() | 0o600) as u16;
        let request = MknodAtReq {
            common: CreateCommon::new(root, NO_ID, NO_ID, mode),
            minor: device.1,
            major: device.0,
            name: b"made",
        };
        client.ask(&request).map(|_| {
            let made = rustix::fs::lstat(dir.path().join("made")).unwrap();
            assert_eq!(FileType::from_raw_mode(made.st_mode), kind);
        })
    };
    let every = Policy {
        all_types: true,
        ..ALL
    };
    for (kind, device) in [
        (FileType::Fifo, (0, 0)),
        (FileType::Socket, (0, 0)),
        (FileType::CharacterDevice, (1, 3)),
        (FileType::BlockDevice, (7, 77)),
    ] {
        assert_eq!(makes(ALL, kind, device), Err(EPERM), "{kind:?}");
        let made = makes(every, kind, device);
        // Who is not root cannot make devices in any case.
        let device = device != (0, 0) && !rustix::process::geteuid().is_root();
        assert_eq!(made, if device { Err(EPERM) } else { Ok(()) }, "{kind:?}");
    }
    assert_eq!(makes(every, FileType::Directory, (0, 0)), Err(EPERM));
}

#[test]
fn sockets_are_reached_and_made_only_where_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("server")).unwrap();
    for (sockets, connects, binds) in [
        (Sockets::None, Err(EPERM), Err(EPERM)),
        (Sockets::Open, Ok(1), Err(EPERM)),
        (Sockets::Create, Err(EPERM), Ok(1)),
        (Sockets::All, Ok(1), Ok(1)),
    ] {
        let client = Client::of(dir.path(), Policy { sockets, ..ALL });
        let root = client.mount();
        let fd = client.walk_to(root, &["server"]);
        let answer = client
            .ask(&ConnectReq { fd, sock_type: 1 })
            .map(|answer| answer.fds.len());
        assert_eq!(answer, connects, "{sockets:?}");
        let creds = ConnectWithCredsReq {
            fd,
            sock_type: 1,
            uid: 1,
            gid: 1,
        };
        let answer = client.ask(&creds).map(|answer| answer.fds.len());
        // The socket file is the tester's alone.
        assert!(
            answer == connects || answer == Err(EACCES),
            "{sockets:?}: {answer:?}"
        );
        let name = format!("{sockets:?}");
        let bind = BindAtReq {
            common: create(root),
            sock_type: 1,
            name: name.as_bytes(),
        };
        assert_eq!(
            client.ask(&bind).map(|answer| answer.fds.len()),
            binds,
            "{sockets:?}"
        );
    }
    drop(listener);
}

#[test]
fn the_other_side_of_a_socket_sees_the_ids_of_the_request() {
    if !is_root() {
        eprintln!("not run: only root can take other ids");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let listener = UnixListener::bind(dir.path().join("server")).unwrap();
    fs::set_permissions(dir.path().join("server"), fs::Permissions::from_mode(0o777)).unwrap();
    let client = Client::of(dir.path(), ALL);
    let root = client.mount();
    let fd = client.walk_to(root, &["server"]);
    let mut seen = Vec::new();
    for ids in [Some((1000, 1001)), None] {
        let answer = match ids {
            Some((uid, gid)) => client.ask(&ConnectWithCredsReq {
                fd,
                sock_type: 1,
                uid,
                gid,
            }),
            None => client.ask(&ConnectReq { fd, sock_type: 1 }),
        };
        assert!(answer.unwrap().fds[0].as_raw_fd() > 0);
        let (connection, _) = listener.accept().unwrap();
        let peer = rustix::net::sockopt::socket_peercred(&connection).unwrap();
        seen.push((peer.uid.as_raw(), peer.gid.as_raw()));
    }
    assert_eq!(
        seen,
        [(1000, 1001), (0, 0)],
        "ids must not stay with the server"
    );
}

#[test]
fn a_bound_socket_accepts_for_its_client() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::of(dir.path(), ALL);
    let root = client.mount();
    let common = CreateCommon::new(root, NO_ID, NO_ID, 0o600);
    let answer = client
        .ask(&BindAtReq {
            common,
            sock_type: 1,
            name: b"s",
        })
        .unwrap();
    let fd = BindAtResp::decode(&answer.payload).unwrap().bound_socket_fd;
    assert_eq!(fs::metadata(dir.path().join("s")).unwrap().mode(), 0o140600);
    client.ask(&ListenReq { fd, backlog: 4 }).unwrap();
    assert_eq!(
        client.ask(&AcceptReq { fd }).unwrap_err(),
        11,
        "nobody waits"
    );
    let mut outside = std::os::unix::net::UnixStream::connect(dir.path().join("s")).unwrap();
    let accepted = client.ask(&AcceptReq { fd }).unwrap();
    std::io::Write::write_all(&mut outside, b"hi").unwrap();
    let mut buffer = [0; 8];
    assert_eq!(rustix::io::read(&accepted.fds[0], &mut buffer), Ok(2));
    // A name too long for the address of a socket.
    let long = [b'n'; 120];
    let bind = BindAtReq {
        common,
        sock_type: 1,
        name: &long,
    };
    assert_eq!(client.ask(&bind).unwrap_err(), EINVAL);
    // Removed: it accepts no more.
    client
        .ask(&UnlinkAtReq {
            dir_fd: root,
            flags: 0,
            name: b"s",
        })
        .unwrap();
    assert_eq!(client.ask(&AcceptReq { fd }).unwrap_err(), EINVAL);
}

#[test]
fn no_more_handles_than_the_limit_and_a_refused_creation_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let export = Export::open(dir.path(), ALL).unwrap();
    let limits = Limits {
        handles: 3,
        ..Limits::default()
    };
    let client = Client::with_limits(&export, limits);
    let root = client.mount();
    let common = create(root);
    client
        .ask(&OpenCreateAtReq {
            common,
            flags: 0,
            name: b"a",
        })
        .unwrap();
    let full = [
        client.ask(&MkdirAtReq { common, name: b"b" }).unwrap_err(),
        client.walk(root, &["a"]).unwrap_err(),
        client.ask(&MountReq {}).unwrap_err(),
    ];
    assert_eq!(full, [EMFILE; 3]);
    assert!(!dir.path().join("b").exists());
    client
        .ask(&CloseReq {
            fds: &[Fdid::new(2), Fdid::new(2), Fdid::new(77)],
        })
        .unwrap();
    client.ask(&MkdirAtReq { common, name: b"b" }).unwrap();
}

#[test]
fn a_single_file_can_be_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("only");
    fs::write(&path, "content").unwrap();
    fs::write(dir.path().join("other"), "secret").unwrap();
    let client = Client::of(&path, ALL);
    let root = client.mount();
    assert_eq!(client.walk(root, &["other"]).unwrap_err(), 20);
    let open_fd = open(&client, root, 2).unwrap();
    assert_eq!(read(&client, open_fd, 0, 100).unwrap(), b"content");
    client
        .ask(&PWriteReq {
            offset: 0,
            fd: open_fd,
            data: WriteData(b"C"),
        })
        .unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"Content");
    let file = fs::File::open(&path).unwrap();
    file.read_exact_at(&mut [0; 7], 0).unwrap();
    assert!(
        Export::open(Path::new("/dev/null"), ALL).is_err(),
        "a device as root"
    );
}

#[test]
fn space_is_reserved_and_freed() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::of(dir.path(), ALL);
    let root = client.mount();
    let answer = client
        .ask(&OpenCreateAtReq {
            common: create(root),
            flags: 2,
            name: b"file",
        })
        .unwrap();
    let fd = OpenCreateAtResp::decode(&answer.payload).unwrap().open_fd;
    client
        .ask(&FAllocateReq {
            fd,
            mode: 0,
            offset: 0,
            length: 1 << 16,
        })
        .unwrap();
    assert_eq!(stat(&client, fd).size.get(), 1 << 16);
    let bad = client.ask(&FAllocateReq {
        fd,
        mode: 0,
        offset: 0,
        length: 0,
    });
    assert_eq!(bad.unwrap_err(), EINVAL);
    client.ask(&FSyncReq { fds: &[fd, fd] }).unwrap();
    let missing = client.ask(&UnlinkAtReq {
        dir_fd: root,
        flags: 0,
        name: b"none",
    });
    assert_eq!(missing.unwrap_err(), ENOENT);
}

#[test]
fn a_link_across_file_systems_is_the_hosts_to_refuse() {
    // Two exports never meet in one connection; within one, a mount below the root may.
    let dir = tempfile::tempdir().unwrap();
    let Some(other) = ["/dev/shm", "/proc/self"]
        .iter()
        .map(Path::new)
        .find(|path| {
            fs::metadata(path)
                .is_ok_and(|found| found.dev() != fs::metadata(dir.path()).unwrap().dev())
        })
    else {
        return;
    };
    let client = Client::of(Path::new("/"), ALL);
    let root = client.mount();
    let names = |path: &Path| -> Vec<String> {
        let path = fs::canonicalize(path).unwrap();
        path.iter()
            .skip(1)
            .map(|name| name.to_str().unwrap().to_string())
            .collect()
    };
    let walk = |path: &Path| {
        let names = names(path);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        client.walk_to(root, &names)
    };
    fs::write(dir.path().join("file"), "").unwrap();
    let target = walk(&dir.path().join("file"));
    let link = LinkAtReq {
        dir_fd: walk(other),
        target,
        name: b"gofer-test-link",
    };
    assert_eq!(client.ask(&link).unwrap_err(), EXDEV);
}
