//! Walk and WalkStat.

use gofer_lisafs::wire::{Inode, Mid, Statx, WalkResp, WalkStatResp, WalkStatus};
use gofer_vfs::remote::{Found, RemoteFile, RemoteResult, WalkEnd};
use gofer_vfs::{Errno, FileType, Name};

use crate::common::peer::{all, call, inode, session, session_with, stat};

const DIR: u16 = 0o040755;
const FILE: u16 = 0o100644;
const LINK: u16 = 0o120777;

fn names<'a>(path: &'a str) -> Vec<Name<'a>> {
    path.split('/')
        .map(|name| Name::new(name.as_bytes()).unwrap())
        .collect()
}

/// Walks `path` while the server answers with this; what came, and the FDs closed afterwards.
fn walk(
    path: &str,
    status: u8,
    inodes: &[Inode],
) -> (RemoteResult<WalkEnd>, Vec<[u64; 2]>, Vec<u64>) {
    let inodes = inodes.to_vec();
    let session = session(move |peer| {
        peer.expect(Mid::WALK);
        peer.reply(
            &WalkResp {
                status: WalkStatus(status),
                inodes: &inodes,
            },
            &[],
        );
        match inodes.is_empty() {
            true => Vec::new(),
            false => peer.expect_close(),
        }
    });
    let mut keys = Vec::new();
    let result = session
        .root
        .file
        .walk(&call(), &names(path), &mut |found| keys.push(found.key.id));
    session.fs.flush_closes(&call()).unwrap();
    (result, keys, session.finish())
}

#[test]
fn several_names_are_one_round_trip() {
    let session = session(|peer| {
        assert_eq!(
            peer.expect(Mid::WALK),
            "> Walk dir_fd 1 path [usr, share, a b]"
        );
        let inodes = [inode(2, DIR), inode(3, DIR), inode(4, FILE)];
        peer.reply(
            &WalkResp {
                status: WalkStatus::SUCCESS,
                inodes: &inodes,
            },
            &[],
        );
    });
    let before = session.fs.traffic().round_trips;
    let mut found: Vec<Found> = Vec::new();
    let end = session
        .root
        .file
        .walk(&call(), &names("usr/share/a b"), &mut |f| found.push(f));
    assert_eq!(end, Ok(WalkEnd::Complete));
    assert_eq!(session.fs.traffic().round_trips - before, 1);
    let types: Vec<_> = found.iter().map(|found| found.attr.file_type).collect();
    assert_eq!(
        types,
        [FileType::Directory, FileType::Directory, FileType::Regular]
    );
    session.finish();
}

#[test]
fn status_and_number_of_inodes_say_how_a_walk_ended() {
    let (dir, link, file) = (inode(2, DIR), inode(3, LINK), inode(4, FILE));
    let id = |fd: u64| [100 + fd, 8 << 32 | 1];
    let refused = |errno| Err(gofer_vfs::remote::RemoteError::refused(errno));
    let cases = [
        ("a/b", 1, vec![dir], Ok(WalkEnd::Missing), vec![id(2)]),
        ("a/b", 1, vec![], Ok(WalkEnd::Missing), vec![]),
        (
            "a/b/c",
            2,
            vec![dir, link],
            Ok(WalkEnd::Symlink),
            vec![id(2), id(3)],
        ),
        ("a/b", 0, vec![], Ok(WalkEnd::Missing), vec![]),
        (
            "a/b",
            0,
            vec![dir, link],
            Ok(WalkEnd::Complete),
            vec![id(2), id(3)],
        ),
        ("a", 0, vec![file], Ok(WalkEnd::Complete), vec![id(4)]),
        ("a", 2, vec![link], refused(Errno::ENOTDIR), vec![]),
        ("a/b", 2, vec![], refused(Errno::ENOTDIR), vec![]),
    ];
    for (path, status, inodes, expected, emitted) in cases {
        let (end, keys, mut closed) = walk(path, status, &inodes);
        assert_eq!((end, keys), (expected, emitted), "{path} {status}");
        // The test dropped what it got; either way nothing stays open.
        closed.sort();
        let given: Vec<u64> = inodes.iter().map(|inode| inode.control_fd.get()).collect();
        assert_eq!(closed, given, "{path} {status}");
    }
}

#[test]
fn walks_that_contradict_themselves_are_eio_and_close_what_came() {
    let (dir, link, file) = (inode(2, DIR), inode(3, LINK), inode(4, FILE));
    let mut typeless = inode(5, DIR);
    typeless.stat.mask = 0.into();
    let mut sizeless = inode(6, FILE);
    sizeless.stat.mask = 0x5ff.into();
    let cases = [
        ("a", 0, vec![dir, file], "more than asked for"),
        (
            "a",
            2,
            vec![dir, link],
            "more than asked for, before a link",
        ),
        ("a/b", 0, vec![dir], "fewer, yet complete"),
        ("a/b", 1, vec![dir, file], "nothing is missing"),
        ("a/b", 2, vec![dir, link], "no name remains"),
        ("a/b/c", 2, vec![dir, file], "stopped at a file"),
        ("a/b", 9, vec![dir], "no such status"),
        ("a/b", 0, vec![file, file], "below a file"),
        ("a/b", 0, vec![link, file], "below a link"),
        ("a/b", 0, vec![dir, typeless], "without a type"),
        ("a/b", 0, vec![dir, sizeless], "without a size"),
    ];
    for (path, status, inodes, why) in cases {
        let (end, keys, closed) = walk(path, status, &inodes);
        assert_eq!(end.map_err(|error| error.errno), Err(Errno::EIO), "{why}");
        assert!(keys.is_empty(), "{why}");
        let given: Vec<u64> = inodes.iter().map(|inode| inode.control_fd.get()).collect();
        assert_eq!(closed, given, "{why}");
    }
}

#[test]
fn names_that_do_not_fit_into_a_message_need_another_walk() {
    // Room for six inodes.
    let session = session_with(all(), 1000, |peer| {
        assert_eq!(
            peer.expect(Mid::WALK),
            "> Walk dir_fd 1 path [a, b, c, d, e, f]"
        );
        let inodes: Vec<_> = (2..8).map(|fd| inode(fd, DIR)).collect();
        peer.reply(
            &WalkResp {
                status: WalkStatus::SUCCESS,
                inodes: &inodes,
            },
            &[],
        );
        // Room for three such names.
        let request = peer.expect(Mid::WALK);
        assert_eq!(request.matches("long").count(), 3);
        let inodes: Vec<_> = (10..13).map(|fd| inode(fd, DIR)).collect();
        peer.reply(
            &WalkResp {
                status: WalkStatus::SUCCESS,
                inodes: &inodes,
            },
            &[],
        );
    });
    let walk = |path: &str| {
        let mut count = 0;
        let end = session
            .root
            .file
            .walk(&call(), &names(path), &mut |_| count += 1);
        (end, count)
    };
    assert_eq!(walk("a/b/c/d/e/f/g/h"), (Ok(WalkEnd::CallAgain), 6));
    let long = format!("long{}", "g".repeat(296));
    let path = [&long[..]; 4].join("/");
    assert_eq!(walk(&path), (Ok(WalkEnd::CallAgain), 3));
    session.finish();
}

#[test]
fn a_name_too_long_for_any_message_is_refused_here() {
    let session = session_with(all(), 1000, |peer| peer.rest());
    let long = "x".repeat(2000);
    let end = session.root.file.walk(&call(), &names(&long), &mut drop);
    assert_eq!(end.map_err(|error| error.errno), Err(Errno::EIO));
    assert_eq!(session.finish(), []);
}

/// Revalidates `/a/b` while the server answers with this; inode numbers seen.
fn revalidate(stats: &[Statx]) -> Result<Vec<u64>, Errno> {
    let stats = stats.to_vec();
    let session = session(move |peer| {
        assert_eq!(
            peer.expect(Mid::WALK_STAT),
            "> WalkStat dir_fd 1 path [, a, b]"
        );
        peer.reply(&WalkStatResp { stats: &stats }, &[]);
    });
    let mut seen = Vec::new();
    let file = &*session.root.file;
    let known: Vec<(Name<'_>, &dyn RemoteFile)> =
        names("a/b").into_iter().map(|name| (name, file)).collect();
    let result = file.revalidate(&call(), &known, &mut |one| seen.push(one.key.id[0]));
    assert!(result.is_err() || session.fs.traffic().round_trips == 2);
    session.finish();
    result.map(|()| seen).map_err(|error| error.errno)
}

#[test]
fn revalidation_sees_the_start_and_each_name_in_one_round_trip() {
    let (root, a, b) = (stat(1, DIR), stat(2, DIR), stat(3, FILE));
    assert_eq!(revalidate(&[root, a, b]), Ok(vec![1, 2, 3]));
    assert_eq!(
        revalidate(&[root, a]),
        Ok(vec![1, 2]),
        "the last is missing"
    );
    assert_eq!(revalidate(&[root]), Ok(vec![1]), "both are missing");
    assert_eq!(revalidate(&[stat(1, LINK)]), Ok(vec![1]), "a link ends it");
    assert_eq!(
        revalidate(&[]),
        Ok(vec![]),
        "even the start may be forgotten"
    );
    assert_eq!(
        revalidate(&[root, stat(2, LINK), b]),
        Ok(vec![1, 2]),
        "below a link"
    );
    assert_eq!(
        revalidate(&[root, a, b, b]),
        Err(Errno::EIO),
        "more than asked for"
    );
    let typeless = Statx {
        mask: 0.into(),
        ..a
    };
    assert_eq!(revalidate(&[root, typeless, b]), Err(Errno::EIO));
}

#[test]
fn revalidation_of_more_than_a_message_holds_goes_on_from_the_last_file() {
    // Room for two results.
    let session = session_with(all(), 300, |peer| {
        peer.expect(Mid::WALK);
        let inodes = [inode(7, DIR)];
        peer.reply(
            &WalkResp {
                status: WalkStatus::SUCCESS,
                inodes: &inodes,
            },
            &[],
        );
        assert_eq!(
            peer.expect(Mid::WALK_STAT),
            "> WalkStat dir_fd 1 path [, a]"
        );
        peer.reply(
            &WalkStatResp {
                stats: &[stat(1, DIR), stat(2, DIR)],
            },
            &[],
        );
        assert_eq!(
            peer.expect(Mid::WALK_STAT),
            "> WalkStat dir_fd 7 path [b, c]"
        );
        peer.reply(
            &WalkStatResp {
                stats: &[stat(3, DIR), stat(4, FILE)],
            },
            &[],
        );
    });
    let mut a = None;
    session
        .root
        .file
        .walk(&call(), &names("a"), &mut |found| a = Some(found))
        .unwrap();
    let a = a.unwrap();
    let known: Vec<(Name<'_>, &dyn RemoteFile)> = names("a/b/c")
        .into_iter()
        .map(|name| (name, &*a.file))
        .collect();
    let mut seen = Vec::new();
    session
        .root
        .file
        .revalidate(&call(), &known, &mut |one| seen.push(one.key.id[0]))
        .unwrap();
    assert_eq!(seen, [1, 2, 3, 4]);
    drop(a);
    session.finish();
}
