//! Nothing leads out of the root.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gofer_lisafs::wire::*;
use gofer_server_mock::host::Export;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::common::{ALL, Client};

/// How long a race is tried.
const RACE: Duration = Duration::from_millis(700);

#[test]
fn names_that_lead_elsewhere_are_refused_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("root")).unwrap();
    fs::write(dir.path().join("secret"), "").unwrap();
    let client = Client::of(&dir.path().join("root"), ALL);
    let root = client.mount();
    let common = CreateCommon::new(root, NO_ID, NO_ID, 0o100644);
    for name in [
        &b".."[..],
        b".",
        b"",
        b"/",
        b"../secret",
        b"/etc/passwd",
        b"a/..",
        b"secret/",
    ] {
        let path = [name];
        let (dir_fd, uid, gid) = (root, NO_ID, NO_ID);
        let old = RenameAtReq {
            old_dir: root,
            new_dir: root,
            old_name: name,
            new_name: b"x",
        };
        let new = RenameAtReq {
            old_name: b"x",
            new_name: name,
            ..old
        };
        let mut refused = vec![
            client
                .ask(&WalkReq {
                    dir_fd,
                    path: Strings::new(&path),
                })
                .map(|_| ()),
            client
                .ask(&OpenCreateAtReq {
                    common,
                    flags: 0,
                    name,
                })
                .map(|_| ()),
            client.ask(&MkdirAtReq { common, name }).map(|_| ()),
            client
                .ask(&MknodAtReq {
                    common,
                    minor: 0,
                    major: 0,
                    name,
                })
                .map(|_| ()),
            client
                .ask(&SymlinkAtReq {
                    dir_fd,
                    uid,
                    gid,
                    name,
                    target: b"t",
                })
                .map(|_| ()),
            client
                .ask(&LinkAtReq {
                    dir_fd,
                    target: root,
                    name,
                })
                .map(|_| ()),
            client
                .ask(&UnlinkAtReq {
                    dir_fd,
                    flags: 0,
                    name,
                })
                .map(|_| ()),
            client
                .ask(&BindAtReq {
                    common,
                    sock_type: 1,
                    name,
                })
                .map(|_| ()),
            client.ask(&old).map(|_| ()),
            client.ask(&new).map(|_| ()),
        ];
        if !name.is_empty() {
            let request = WalkStatReq {
                dir_fd,
                path: Strings::new(&path),
            };
            refused.push(client.ask(&request).map(|_| ()));
        }
        assert!(
            refused.iter().all(|answer| *answer == Err(22)),
            "{name:?}: {refused:?}"
        );
    }
    assert!(dir.path().join("secret").exists());
}

#[test]
fn links_are_never_followed() {
    let dir = tempfile::tempdir().unwrap();
    let root_path = dir.path().join("root");
    fs::create_dir(&root_path).unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    fs::write(dir.path().join("outside/file"), "secret").unwrap();
    symlink(dir.path().join("outside"), root_path.join("dir")).unwrap();
    symlink("../outside/file", root_path.join("file")).unwrap();
    let client = Client::of(&root_path, ALL);
    let root = client.mount();
    let walked = client.walk(root, &["dir", "file"]).unwrap();
    assert_eq!(walked.len(), 1);
    let link = walked[0].control_fd;
    let common = CreateCommon::new(link, NO_ID, NO_ID, 0o644);
    assert_eq!(
        client.ask(&MkdirAtReq { common, name: b"x" }).unwrap_err(),
        20
    );
    let file = client.walk_to(root, &["file"]);
    assert_eq!(
        client.ask(&OpenAtReq { fd: file, flags: 0 }).unwrap_err(),
        22
    );
    let answer = client.ask(&OpenCreateAtReq {
        common: CreateCommon::new(root, NO_ID, NO_ID, 0o644),
        flags: 2,
        name: b"file",
    });
    assert_eq!(answer.unwrap_err(), 17);
    // Attributes of the link change, not those of what it points to.
    let before = fs::metadata(dir.path().join("outside/file")).unwrap();
    let request = SetStatReq {
        fd: file,
        mask: (StatxMask::MODE | StatxMask::SIZE | StatxMask::MTIME | StatxMask::UID).bits(),
        mode: 0o777,
        uid: rustix::process::getuid().as_raw(),
        gid: NO_ID,
        size: 0,
        atime: Timespec::default(),
        mtime: Timespec::default(),
    };
    let answer = client.ask(&request).unwrap();
    let failed = SetStatResp::decode(&answer.payload).unwrap().failure_mask;
    assert_eq!(failed, (StatxMask::MODE | StatxMask::SIZE).bits());
    let after = fs::metadata(dir.path().join("outside/file")).unwrap();
    assert_eq!(
        (after.mode(), after.len(), after.mtime()),
        (before.mode(), 6, before.mtime())
    );
}

#[test]
fn a_directory_swapped_for_a_link_again_and_again_never_lets_a_walk_out() {
    let dir = tempfile::tempdir().unwrap();
    let root_path = dir.path().join("root");
    fs::create_dir_all(root_path.join("a/deep")).unwrap();
    fs::create_dir_all(dir.path().join("outside/deep")).unwrap();
    fs::write(root_path.join("a/deep/file"), "inside").unwrap();
    fs::write(dir.path().join("outside/deep/file"), "secret").unwrap();
    symlink(dir.path().join("outside"), root_path.join("evil")).unwrap();
    let secret = fs::metadata(dir.path().join("outside/deep/file"))
        .unwrap()
        .ino();
    let outside = fs::metadata(dir.path().join("outside/deep")).unwrap().ino();

    let export = Export::open(&root_path, ALL).unwrap();
    let done = AtomicBool::new(false);
    let (mut through, mut stopped) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let (a, evil) = (root_path.join("a"), root_path.join("evil"));
                renameat_with(CWD, &a, CWD, &evil, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let client = Client::of_export(&export);
        let root = client.mount();
        let until = Instant::now() + RACE;
        while Instant::now() < until {
            let found = client.walk(root, &["a", "deep", "file"]).unwrap();
            assert!(
                found
                    .iter()
                    .all(|inode| inode.stat.ino != secret && inode.stat.ino != outside)
            );
            if let [_, deep, file] = &found[..] {
                through += 1;
                let fd = file.control_fd;
                let answer = client.ask(&OpenAtReq { fd, flags: 0 }).unwrap();
                let open = OpenAtResp::decode(&answer.payload).unwrap().open_fd;
                let answer = client
                    .ask(&PReadReq {
                        offset: 0,
                        fd: open,
                        count: 9,
                    })
                    .unwrap();
                assert_eq!(
                    PReadResp::decode(&answer.payload).unwrap().data.0,
                    b"inside"
                );
                let common = CreateCommon::new(deep.control_fd, NO_ID, NO_ID, 0o755);
                client
                    .ask(&MkdirAtReq {
                        common,
                        name: b"made",
                    })
                    .unwrap();
                let (dir_fd, flags) = (deep.control_fd, AT_REMOVEDIR);
                client
                    .ask(&UnlinkAtReq {
                        dir_fd,
                        flags,
                        name: b"made",
                    })
                    .unwrap();
                client.ask(&CloseReq { fds: &[open] }).unwrap();
            } else {
                stopped += 1;
            }
            let path = [&b"a"[..], b"deep", b"file"];
            let request = WalkStatReq {
                dir_fd: root,
                path: Strings::new(&path),
            };
            let answer = client.ask(&request).unwrap();
            let stats = WalkStatResp::decode(&answer.payload).unwrap().stats;
            assert!(
                stats
                    .iter()
                    .all(|stat| stat.ino != secret && stat.ino != outside)
            );
            let fds: Vec<Fdid> = found.iter().map(|inode| inode.control_fd).collect();
            client.ask(&CloseReq { fds: &fds }).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(
        through > 0 && stopped > 0,
        "no race: {through} through, {stopped} stopped"
    );
    assert_eq!(
        fs::read_dir(dir.path().join("outside/deep"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn a_directory_moved_out_of_the_root_gives_no_way_up() {
    let dir = tempfile::tempdir().unwrap();
    let root_path = dir.path().join("root");
    fs::create_dir_all(root_path.join("a/b")).unwrap();
    fs::write(dir.path().join("secret"), "").unwrap();
    let client = Client::of(&root_path, ALL);
    let root = client.mount();
    let b = client.walk_to(root, &["a", "b"]);
    fs::rename(root_path.join("a"), dir.path().join("moved")).unwrap();
    assert_eq!(client.walk(b, &[".."]).unwrap_err(), 22);
    let answer = client.ask(&OpenAtReq { fd: b, flags: 0 }).unwrap();
    assert!(
        answer.fds.is_empty(),
        "a descriptor of a directory was given away"
    );
    let dir_fd = OpenAtResp::decode(&answer.payload).unwrap().open_fd;
    let answer = client
        .ask(&Getdents64Req {
            dir_fd,
            count: -65536,
        })
        .unwrap();
    assert!(
        Getdents64Resp::decode(&answer.payload)
            .unwrap()
            .dirents
            .is_empty()
    );
}
