//! Clauses of the specification that neither the recordings nor `behaviour.rs` come by.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use gofer_lisafs::wire::*;
use gofer_server_mock::host::Export;
use gofer_server_mock::limits::Limits;
use gofer_transport::Stream;
use rustix::process::{Pid, Resource, Rlimit};
use zerocopy::IntoBytes;

use crate::common::{ALL, Answer, Client, Server, has_user_xattrs, is_root, vector_tree};

const EPERM: i32 = 1;
const EIO: i32 = 5;
const EBADF: i32 = 9;
const ENOTDIR: i32 = 20;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;
const EMFILE: i32 = 24;
const ENOBUFS: i32 = 105;
const EOPNOTSUPP: i32 = 95;

const UNKNOWN: Fdid = Fdid::new(1 << 40);

fn create(dir: Fdid) -> CreateCommon {
    CreateCommon::new(dir, NO_ID, NO_ID, 0o100_640)
}

fn open(client: &Client, fd: Fdid, flags: u32) -> Result<Fdid, i32> {
    let answer = client.ask(&OpenAtReq { fd, flags })?;
    Ok(OpenAtResp::decode(&answer.payload).unwrap().open_fd)
}

fn ino(client: &Client, fd: Fdid) -> u64 {
    let answer = client.ask(&FStatReq { fd }).unwrap();
    FStatResp::decode(&answer.payload).unwrap().stat.ino.get()
}

fn read(client: &Client, fd: Fdid, offset: u64, count: u32) -> Result<Vec<u8>, i32> {
    let answer = client.ask(&PReadReq { offset, fd, count })?;
    Ok(PReadResp::decode(&answer.payload).unwrap().data.0.to_vec())
}

fn bind(client: &Client, dir: Fdid, name: &str) -> (Fdid, Fdid) {
    let answer = client.ask(&BindAtReq {
        common: create(dir),
        sock_type: 1,
        name: name.as_bytes(),
    });
    let answer = answer.unwrap();
    let made = BindAtResp::decode(&answer.payload).unwrap();
    (made.child.control_fd, made.bound_socket_fd)
}

fn set_stat(fd: Fdid) -> SetStatReq {
    SetStatReq {
        fd,
        mask: StatxMask::MODE.bits(),
        mode: 0o600,
        uid: NO_ID,
        gid: NO_ID,
        size: 0,
        atime: Timespec::default(),
        mtime: Timespec::default(),
    }
}

/// Every request that names one file, on `fd`; what it answers.
fn requests(client: &Client, fd: Fdid) -> Vec<(&'static str, Result<Answer, i32>)> {
    let common = create(fd);
    let path = [b"x".as_slice()];
    let itself = [b"".as_slice()];
    let (name, target): (&[u8], &[u8]) = (b"x", b"t");
    vec![
        ("FStat", client.ask(&FStatReq { fd })),
        ("SetStat", client.ask(&set_stat(fd))),
        (
            "Walk",
            client.ask(&WalkReq {
                dir_fd: fd,
                path: Strings::new(&path),
            }),
        ),
        (
            "WalkStat",
            client.ask(&WalkStatReq {
                dir_fd: fd,
                path: Strings::new(&itself),
            }),
        ),
        ("OpenAt", client.ask(&OpenAtReq { fd, flags: 0 })),
        (
            "OpenCreateAt",
            client.ask(&OpenCreateAtReq {
                common,
                flags: 0,
                name,
            }),
        ),
        ("FSync", client.ask(&FSyncReq { fds: &[fd] })),
        (
            "PWrite",
            client.ask(&PWriteReq {
                offset: 0,
                fd,
                data: WriteData(b""),
            }),
        ),
        (
            "PRead",
            client.ask(&PReadReq {
                offset: 0,
                fd,
                count: 1,
            }),
        ),
        ("MkdirAt", client.ask(&MkdirAtReq { common, name: b"d" })),
        (
            "MknodAt",
            client.ask(&MknodAtReq {
                common,
                minor: 0,
                major: 0,
                name: b"n",
            }),
        ),
        (
            "SymlinkAt",
            client.ask(&SymlinkAtReq {
                dir_fd: fd,
                uid: NO_ID,
                gid: NO_ID,
                name: b"l",
                target,
            }),
        ),
        (
            "LinkAt",
            client.ask(&LinkAtReq {
                dir_fd: fd,
                target: fd,
                name: b"k",
            }),
        ),
        ("FStatFS", client.ask(&FStatFSReq { fd })),
        (
            "FAllocate",
            client.ask(&FAllocateReq {
                fd,
                mode: 0,
                offset: 0,
                length: 1,
            }),
        ),
        ("ReadLinkAt", client.ask(&ReadLinkAtReq { fd })),
        ("Connect", client.ask(&ConnectReq { fd, sock_type: 1 })),
        (
            "UnlinkAt",
            client.ask(&UnlinkAtReq {
                dir_fd: fd,
                flags: 0,
                name,
            }),
        ),
        (
            "RenameAt",
            client.ask(&RenameAtReq {
                old_dir: fd,
                new_dir: fd,
                old_name: name,
                new_name: b"y",
            }),
        ),
        (
            "Getdents64",
            client.ask(&Getdents64Req {
                dir_fd: fd,
                count: 4096,
            }),
        ),
        (
            "FGetXattr",
            client.ask(&FGetXattrReq {
                fd,
                buf_size: 0,
                name: b"user.x",
            }),
        ),
        (
            "FSetXattr",
            client.ask(&FSetXattrReq {
                fd,
                flags: 0,
                name: b"user.x",
                value: b"",
            }),
        ),
        ("FListXattr", client.ask(&FListXattrReq { fd, size: 0 })),
        (
            "FRemoveXattr",
            client.ask(&FRemoveXattrReq {
                fd,
                name: b"user.x",
            }),
        ),
        (
            "BindAt",
            client.ask(&BindAtReq {
                common,
                sock_type: 1,
                name: b"s",
            }),
        ),
        ("Listen", client.ask(&ListenReq { fd, backlog: 1 })),
        ("Accept", client.ask(&AcceptReq { fd })),
        (
            "ConnectWithCreds",
            client.ask(&ConnectWithCredsReq {
                fd,
                sock_type: 1,
                uid: 0,
                gid: 0,
            }),
        ),
    ]
}

/// Which kinds of FDID a request takes (lisafs 6): control, open, bound socket.
fn kinds(request: &str) -> [bool; 3] {
    match request {
        "FStat" => [true, true, false],
        "FSync" | "PWrite" | "PRead" | "FAllocate" | "Getdents64" => [false, true, false],
        "Listen" | "Accept" => [false, false, true],
        _ => [true, false, false],
    }
}

#[test]
fn an_unknown_fdid_is_ebadf_and_one_of_the_wrong_kind_einval_in_every_request() {
    let tree = vector_tree(0o600);
    let client = Client::of(tree.path(), ALL);
    let root = client.mount();
    for fd in [UNKNOWN, Fdid::NONE] {
        for (request, answer) in requests(&client, fd) {
            assert_eq!(answer.unwrap_err(), EBADF, "{request}");
        }
    }
    let file = client.walk_to(root, &["dir1", "file.txt"]);
    let opened = open(&client, file, 2).unwrap();
    let (_, bound) = bind(&client, root, "sock");
    for (kind, fd) in [file, opened, bound].into_iter().enumerate() {
        for (request, answer) in requests(&client, fd) {
            if !kinds(request)[kind] {
                assert_eq!(answer.unwrap_err(), EINVAL, "{request}, kind {kind}");
            }
        }
    }
    // Closed: unknown again. Closing twice, or what never was, is no error (5.3, 6.9).
    for fds in [
        &[file, opened, file, bound, UNKNOWN, Fdid::NONE][..],
        &[file],
        &[],
    ] {
        client.ask(&CloseReq { fds }).unwrap();
    }
    for fd in [file, opened, bound] {
        for (request, answer) in requests(&client, fd) {
            assert_eq!(answer.unwrap_err(), EBADF, "{request}");
        }
    }
}

/// What 9.3 says of each request on a deleted directory and a deleted file: `Ok`, or the errno.
fn on_deleted(request: &str, is_dir: bool) -> Result<(), i32> {
    match request {
        "FStat" | "SetStat" | "FStatFS" | "OpenAt" | "WalkStat" | "FListXattr" => Ok(()),
        "Walk" if is_dir => Ok(()),
        "Walk" | "OpenCreateAt" | "MkdirAt" | "MknodAt" | "SymlinkAt" | "BindAt" | "UnlinkAt"
        | "RenameAt" | "LinkAt"
            if !is_dir =>
        {
            Err(ENOTDIR)
        }
        // A directory is no target of a link.
        "LinkAt" => Err(EPERM),
        "Connect" | "ConnectWithCreds" => Err(88),
        _ => Err(EINVAL),
    }
}

#[test]
fn requests_on_deleted_files_answer_as_the_table_says() {
    let tree = vector_tree(0o600);
    fs::create_dir(tree.path().join("gone")).unwrap();
    symlink("x", tree.path().join("gone-link")).unwrap();
    let client = Client::of(tree.path(), ALL);
    let root = client.mount();
    let dir = client.walk_to(root, &["gone"]);
    let file = client.walk_to(root, &["big.bin"]);
    let link = client.walk_to(root, &["gone-link"]);
    let (listed, opened) = (
        open(&client, dir, 0).unwrap(),
        open(&client, file, 2).unwrap(),
    );
    let (socket, bound) = bind(&client, root, "sock");
    client
        .ask(&ListenReq {
            fd: bound,
            backlog: 1,
        })
        .unwrap();
    for (name, flags) in [
        ("gone", AT_REMOVEDIR),
        ("big.bin", 0),
        ("gone-link", 0),
        ("sock", 0),
    ] {
        let name = name.as_bytes();
        client
            .ask(&UnlinkAtReq {
                dir_fd: root,
                flags,
                name,
            })
            .unwrap();
    }
    for (fd, is_dir) in [(dir, true), (file, false)] {
        for (request, answer) in requests(&client, fd) {
            if kinds(request)[0] {
                let did = answer.as_ref().map(drop).map_err(|errno| *errno);
                assert_eq!(did, on_deleted(request, is_dir), "{request}");
            }
            if request == "Walk" && is_dir {
                let answer = answer.unwrap();
                let walked = WalkResp::decode(&answer.payload).unwrap();
                assert_eq!(
                    (walked.status, walked.inodes.len()),
                    (WalkStatus::MISSING, 0)
                );
            }
        }
    }
    for request in ["PRead", "PWrite", "FSync", "FAllocate"] {
        let mut answers = requests(&client, opened).into_iter();
        let (_, answer) = answers.find(|(name, _)| *name == request).unwrap();
        answer.unwrap();
    }
    let count = 4096;
    let listing = client.ask(&Getdents64Req {
        dir_fd: listed,
        count,
    });
    assert_eq!(listing.unwrap_err(), EINVAL);
    let target = client.ask(&ReadLinkAtReq { fd: link }).unwrap();
    assert_eq!(ReadLinkAtResp::decode(&target.payload).unwrap().target, b"");
    for fd in [socket, bound] {
        for (request, answer) in requests(&client, fd) {
            if matches!(
                request,
                "Connect" | "ConnectWithCreds" | "Listen" | "Accept"
            ) {
                assert_eq!(answer.unwrap_err(), EINVAL, "{request}");
            }
        }
    }
}

#[test]
fn a_control_fd_can_be_closed_under_its_open_fd_and_its_name_be_reused() {
    let tree = vector_tree(0o600);
    let client = Client::of(tree.path(), ALL);
    let root = client.mount();
    let file = client.walk_to(root, &["dir1", "file.txt"]);
    let opened = open(&client, file, 0).unwrap();
    client.ask(&CloseReq { fds: &[file] }).unwrap();
    assert_eq!(client.ask(&FStatReq { fd: file }).unwrap_err(), EBADF);
    assert_eq!(read(&client, opened, 0, 5).unwrap(), b"hello");
    let number = ino(&client, opened);
    // The file moves away, another takes its name: each handle stays with its file (6.3, 6.23).
    let dir = client.walk_to(root, &["dir1"]);
    let before = client.walk_to(root, &["dir1", "file.txt"]);
    client
        .ask(&RenameAtReq {
            old_dir: dir,
            new_dir: root,
            old_name: b"file.txt",
            new_name: b"moved",
        })
        .unwrap();
    fs::write(tree.path().join("dir1/file.txt"), "another").unwrap();
    let another = client.walk_to(root, &["dir1", "file.txt"]);
    let moved = client.walk_to(root, &["moved"]);
    for fd in [opened, before, moved] {
        assert_eq!(ino(&client, fd), number);
    }
    assert_ne!(ino(&client, another), number);
    assert_eq!(
        ino(&client, another),
        fs::metadata(tree.path().join("dir1/file.txt"))
            .unwrap()
            .ino()
    );
}

#[test]
fn frames_may_come_in_pieces_and_several_at_once() {
    let tree = vector_tree(0o600);
    let client = Client::of(tree.path(), ALL);
    let root = client.mount();
    let mut frame = Vec::new();
    FStatReq { fd: root }.encode(&mut frame);
    for byte in &frame {
        client.send(&[*byte]);
    }
    assert_eq!(client.receive().unwrap().mid, Mid::FSTAT);
    // Bytes after the structure are ignored (3), and each frame has its own answer.
    let header = SocketHeader::new(Mid::FSTAT, 8 + 3);
    let longer = [header.as_bytes(), &frame[8..], b"abc"].concat();
    let unknown = SocketHeader::new(Mid::new(400), 0);
    client.send(&[&longer[..], unknown.as_bytes(), &frame].concat());
    let mids: Vec<_> = (0..3).map(|_| client.receive().unwrap().mid).collect();
    assert_eq!(mids, [Mid::FSTAT, Mid::ERROR, Mid::FSTAT]);
}

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

/// Lets a process have descriptors up to a number.
fn limit_descriptors(server: &Server, most: u64) {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(1 << 12),
    };
    let pid = Pid::from_child(&server.child);
    rustix::process::prlimit(Some(pid), Resource::Nofile, limit).unwrap();
}

fn names(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn a_creation_that_runs_out_of_descriptors_leaves_nothing() {
    if !is_root() {
        eprintln!("skipped: the limits of another process are root's to set");
        return;
    }
    let tree = vector_tree(0o600);
    let made = tree.path().join("made");
    fs::create_dir(&made).unwrap();
    let place = tempfile::tempdir().unwrap();
    let options = ["--protocol", "lisafs", "--host-uds", "all"];
    let (server, socket) = Server::at(place.path(), tree.path(), &options);
    let client = Client::on(Stream::connect_unix(&socket).unwrap());
    let root = client.mount();
    let dir = client.walk_to(root, &["made"]);
    let target = client.walk_to(root, &["big.bin"]);
    let common = create(dir);
    let name = b"new".as_slice();
    type Make<'a> = Box<dyn Fn() -> Result<Answer, i32> + 'a>;
    let makes: [(&str, Make<'_>); 6] = [
        (
            "OpenCreateAt",
            Box::new(|| {
                client.ask(&OpenCreateAtReq {
                    common,
                    flags: 2,
                    name,
                })
            }),
        ),
        (
            "MkdirAt",
            Box::new(|| client.ask(&MkdirAtReq { common, name })),
        ),
        (
            "MknodAt",
            Box::new(|| {
                client.ask(&MknodAtReq {
                    common,
                    minor: 0,
                    major: 0,
                    name,
                })
            }),
        ),
        (
            "SymlinkAt",
            Box::new(|| {
                let target = b"t".as_slice();
                let (uid, gid) = (NO_ID, NO_ID);
                client.ask(&SymlinkAtReq {
                    dir_fd: dir,
                    uid,
                    gid,
                    name,
                    target,
                })
            }),
        ),
        (
            "LinkAt",
            Box::new(|| {
                client.ask(&LinkAtReq {
                    dir_fd: dir,
                    target,
                    name,
                })
            }),
        ),
        (
            "BindAt",
            Box::new(|| {
                client.ask(&BindAtReq {
                    common,
                    sock_type: 1,
                    name,
                })
            }),
        ),
    ];
    let base = server.descriptors();
    for (request, make) in makes {
        let mut refused = 0;
        for most in 3..base as u64 + 8 {
            limit_descriptors(&server, most);
            let answer = make();
            limit_descriptors(&server, 1 << 12);
            match answer {
                Err(errno) => {
                    assert_eq!(errno, EMFILE, "{request}");
                    assert_eq!(
                        names(&made),
                        0,
                        "{request} with {most} descriptors left something"
                    );
                    refused += 1;
                }
                Ok(_) => {
                    fs::remove_file(made.join("new"))
                        .or_else(|_| fs::remove_dir(made.join("new")))
                        .unwrap();
                }
            }
        }
        assert!(refused > 0, "{request} was never refused");
    }
}

#[test]
fn sockets_are_given_up_with_their_fdids() {
    let tree = vector_tree(0o600);
    let outside = UnixListener::bind(tree.path().join("outside")).unwrap();
    let place = tempfile::tempdir().unwrap();
    let options = ["--protocol", "lisafs", "--host-uds", "all"];
    let (server, socket) = Server::at(place.path(), tree.path(), &options);
    let client = Client::on(Stream::connect_unix(&socket).unwrap());
    let root = client.mount();
    let before = server.use_of_resources();
    for round in 0..20 {
        let name = format!("sock-{round}");
        let (control, bound) = bind(&client, root, &name);
        for _ in 0..3 {
            client
                .ask(&ListenReq {
                    fd: bound,
                    backlog: 2,
                })
                .unwrap();
            let there = tree.path().join(&name);
            let _peer = std::os::unix::net::UnixStream::connect(there).unwrap();
            client.ask(&AcceptReq { fd: bound }).unwrap();
        }
        let fd = client.walk_to(root, &["outside"]);
        client.ask(&ConnectReq { fd, sock_type: 1 }).unwrap();
        client.ask(&ConnectReq { fd, sock_type: 0 }).unwrap_err();
        let (uid, gid) = (12, 34);
        let connect = ConnectWithCredsReq {
            fd,
            sock_type: 1,
            uid,
            gid,
        };
        client.ask(&connect).unwrap();
        drop((outside.accept().unwrap(), outside.accept().unwrap()));
        client
            .ask(&CloseReq {
                fds: &[control, bound, fd],
            })
            .unwrap();
    }
    server.settle_at(before);
}
