//! Clauses of the specification that neither the recordings nor `behaviour.rs` come by. Here:
//! FDIDs, deleted files, frames.

mod data;
mod resources;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use gofer_lisafs::wire::*;
use zerocopy::IntoBytes;

use crate::common::{ALL, Answer, Client, vector_tree};

const EPERM: i32 = 1;
const EBADF: i32 = 9;
const ENOTDIR: i32 = 20;
const EINVAL: i32 = 22;

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
        mode: 0o700,
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
