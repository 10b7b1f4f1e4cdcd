//! Reading directories.

use std::ops::ControlFlow;
use std::sync::Arc;

use gofer_lisafs::wire::{Dirent, DirentsBuf, Fdid, Getdents64Resp, Mid, OpenAtResp};
use gofer_vfs::remote::{DirPos, OpenMode, RemoteHandle};
use gofer_vfs::{Access, Errno, FileType};

use crate::common::peer::{Peer, Session, call, session};

/// Answers the next Getdents64, which must ask for `count`, with `names`.
fn list(peer: &Peer, count: i32, names: &[&str]) {
    assert_eq!(
        peer.expect(Mid::GETDENTS64),
        format!("> Getdents64 dir_fd 9 count {count}")
    );
    let mut entries = DirentsBuf::default();
    for (index, name) in names.iter().enumerate() {
        let ino = 40 + index as u64;
        let name = name.as_bytes();
        let entry = Dirent {
            ino,
            dev_minor: 1,
            dev_major: 8,
            off: 99,
            dtype: 4,
            name,
        };
        assert!(entries.push(&entry));
    }
    peer.reply(
        &Getdents64Resp {
            dirents: entries.as_dirents(),
        },
        &[],
    );
}

fn open<T: Send + 'static>(
    script: impl FnOnce(&Peer) -> T + Send + 'static,
) -> (Session<T>, Arc<dyn RemoteHandle>) {
    let session = session(move |peer| {
        peer.expect(Mid::OPEN_AT);
        peer.reply(
            &OpenAtResp {
                open_fd: Fdid::new(9),
            },
            &[],
        );
        script(&peer)
    });
    let mode = OpenMode {
        access: Access::Read,
        truncate: false,
    };
    let handle = session.root.file.open(&call(), mode).unwrap();
    (session, handle)
}

/// Reads from `at`, at most `limit` entries: names, where to go on, and whether more may follow.
fn read(
    handle: &Arc<dyn RemoteHandle>,
    at: u64,
    limit: usize,
) -> Result<(Vec<String>, u64, bool), Errno> {
    let (mut names, mut next) = (Vec::new(), at);
    let more = handle
        .read_dir(&call(), DirPos(at), &mut |entry| {
            names.push(String::from_utf8(entry.name.as_bytes().to_vec()).unwrap());
            next = entry.next.0;
            match names.len() < limit {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })
        .map_err(|error| error.errno)?;
    Ok((names, next, more))
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

#[test]
fn a_listing_starts_with_a_rewind_and_ends_with_nothing() {
    let (session, handle) = open(|peer| {
        list(peer, -65536, &[".", "..", "a", "b"]);
        list(peer, 65536, &["c"]);
        list(peer, 65536, &[]);
    });
    assert_eq!(read(&handle, 0, 99), Ok((strings(&["a", "b"]), 4, true)));
    assert_eq!(read(&handle, 4, 99), Ok((strings(&["c"]), 5, true)));
    assert_eq!(read(&handle, 5, 99), Ok((vec![], 5, false)));
    session.finish();
}

#[test]
fn entries_carry_identity_and_type() {
    let (session, handle) = open(|peer| list(peer, -65536, &["a"]));
    handle
        .read_dir(&call(), DirPos(0), &mut |entry| {
            assert_eq!(entry.key.id, [40, 8 << 32 | 1]);
            assert_eq!(entry.file_type, Some(FileType::Directory));
            ControlFlow::Continue(())
        })
        .unwrap();
    session.finish();
}

#[test]
fn what_a_reader_left_comes_without_another_request() {
    let (session, handle) = open(|peer| {
        list(peer, -65536, &["a", "b", "c", "d"]);
        list(peer, 65536, &[]);
    });
    assert_eq!(read(&handle, 0, 2), Ok((strings(&["a", "b"]), 2, true)));
    assert_eq!(
        read(&handle, 1, 1),
        Ok((strings(&["b"]), 2, true)),
        "back within what is kept"
    );
    assert_eq!(read(&handle, 2, 99), Ok((strings(&["c", "d"]), 4, true)));
    assert_eq!(read(&handle, 4, 99), Ok((vec![], 4, false)));
    session.finish();
}

#[test]
fn position_zero_rewinds() {
    let (session, handle) = open(|peer| {
        list(peer, -65536, &["a", "b"]);
        list(peer, -65536, &["b", "new"]);
        list(peer, -65536, &[]);
    });
    assert_eq!(read(&handle, 0, 1), Ok((strings(&["a"]), 1, true)));
    assert_eq!(read(&handle, 0, 99), Ok((strings(&["b", "new"]), 2, true)));
    assert_eq!(read(&handle, 0, 99), Ok((vec![], 0, false)));
    session.finish();
}

#[test]
fn a_place_that_is_gone_is_reached_again_from_the_start() {
    let (session, handle) = open(|peer| {
        list(peer, -65536, &["a", "b"]);
        list(peer, 65536, &["c", "d"]);
        // Back to 1, which is behind what is kept.
        list(peer, -65536, &["a", "b"]);
        // Ahead to 3.
        list(peer, 65536, &["c", "d"]);
    });
    read(&handle, 0, 99).unwrap();
    read(&handle, 2, 99).unwrap();
    assert_eq!(read(&handle, 1, 99), Ok((strings(&["b"]), 2, true)));
    assert_eq!(read(&handle, 3, 99), Ok((strings(&["d"]), 4, true)));
    session.finish();
}

#[test]
fn names_that_are_none_fail_the_listing_and_the_next_starts_over() {
    for bad in ["", "a/b", "a\0b"] {
        let (session, handle) = open(move |peer| {
            list(peer, -65536, &["ok", bad]);
            list(peer, -65536, &["ok"]);
        });
        assert_eq!(read(&handle, 0, 99), Err(Errno::EIO), "{bad:?}");
        assert_eq!(read(&handle, 0, 99), Ok((strings(&["ok"]), 1, true)));
        session.finish();
    }
}

#[test]
fn after_a_failure_the_position_is_found_again() {
    let (session, handle) = open(|peer| {
        list(peer, -65536, &["a", "b"]);
        peer.expect(Mid::GETDENTS64);
        peer.error(5);
        list(peer, -65536, &["a", "b"]);
        list(peer, 65536, &["c"]);
    });
    read(&handle, 0, 99).unwrap();
    assert_eq!(read(&handle, 2, 99), Err(Errno::EIO));
    assert_eq!(read(&handle, 2, 99), Ok((strings(&["c"]), 3, true)));
    session.finish();
}
