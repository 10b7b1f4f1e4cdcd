//! Many callers on one connection, and what is closed when nobody needs it any more.

use std::io::IoSliceMut;
use std::sync::Arc;

use gofer_lisafs::wire::{
    AnyRequest, CloseResp, FStatResp, Fdid, Mid, OpenAtResp, PReadResp, ReadData, WalkResp,
    WalkStatus,
};
use gofer_vfs::remote::{Call, Fate, Found, OpenMode, Promptness, RemoteFile};
use gofer_vfs::{Access, AttrMask, Errno, Name};

use crate::common::peer::{Marked, Peer, call, inode, session, stat};

/// Walks give an ever new FD to a file whose inode number is the FD's plus 100; FStat tells the
/// same number as size; PRead reads the FD's number. Returns the FDs that stayed open.
fn serve(peer: &Peer, host: &Marked) -> Vec<u64> {
    let mut open = std::collections::BTreeSet::new();
    let mut next = 10;
    while let Some((mid, payload)) = peer.next() {
        match AnyRequest::decode(mid, &payload).unwrap() {
            AnyRequest::Walk(walk) => {
                let inodes: Vec<_> = (next..).take(walk.path.len()).collect();
                next += inodes.len() as u64;
                open.extend(&inodes);
                let last = inodes.len() - 1;
                let inodes: Vec<_> = inodes
                    .iter()
                    .enumerate()
                    .map(|(at, fd)| inode(*fd, if at < last { 0o040755 } else { 0o100644 }))
                    .collect();
                peer.reply(
                    &WalkResp {
                        status: WalkStatus::SUCCESS,
                        inodes: &inodes,
                    },
                    &[],
                );
            }
            AnyRequest::FStat(request) => {
                let mut stat = stat(request.fd.get(), 0o100644);
                stat.size = (request.fd.get() + 100).into();
                peer.reply(&FStatResp { stat }, &[]);
            }
            AnyRequest::OpenAt(_) => {
                open.insert(next);
                let fds: &[_] = if next % 2 == 0 { &[host.fd()] } else { &[] };
                peer.reply(
                    &OpenAtResp {
                        open_fd: Fdid::new(next),
                    },
                    fds,
                );
                next += 1;
            }
            AnyRequest::PRead(read) => {
                let text = format!("fd {}", read.fd);
                peer.reply(
                    &PReadResp {
                        data: ReadData(text.as_bytes()),
                    },
                    &[],
                );
            }
            AnyRequest::Close(close) => {
                for fd in close.fds {
                    assert!(open.remove(&fd.get()), "{fd} closed twice");
                }
                peer.reply(&CloseResp {}, &[]);
            }
            other => panic!("unexpected {}", other.mid()),
        }
    }
    open.into_iter().collect()
}

fn walk(file: &Arc<dyn RemoteFile>, names: usize) -> Vec<Found> {
    let names = vec![Name::new(b"n").unwrap(); names];
    let mut all = Vec::new();
    file.walk(&call(), &names, &mut |found| all.push(found))
        .unwrap();
    all
}

#[test]
fn each_of_many_callers_gets_its_own_answers_and_nothing_leaks() {
    let host = Arc::new(Marked::new());
    let given = host.clone();
    let session = session(move |peer| serve(&peer, &given));
    let work = |root: &Arc<dyn RemoteFile>| {
        for round in 0..200 {
            let found = walk(root, 1 + round % 3).pop().unwrap();
            let attr = found.file.attr(&call(), AttrMask::BASIC).unwrap();
            assert_eq!(attr.size, found.key.id[0]);
            let mode = OpenMode {
                access: Access::Read,
                truncate: false,
            };
            // Read over the wire: the root is a directory, so a donated FD is not used for data.
            let handle = root.open(&call(), mode).unwrap();
            let size = handle.attr(&call(), AttrMask::BASIC).unwrap().size;
            let mut buffer = [0; 64];
            let moved = handle.read_at(&call(), &mut [IoSliceMut::new(&mut buffer)], 0);
            let text = std::str::from_utf8(&buffer[..moved.n]).unwrap();
            assert_eq!(text, format!("fd {}", size - 100));
            if round % 5 == 0 {
                handle.close(&call(), Promptness::Prompt).unwrap();
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| work(&session.root.file));
        }
    });
    session.fs.flush_closes(&call()).unwrap();
    assert!(session.finish().is_empty());
    assert_eq!(host.copies(), 0);
}

#[test]
fn closes_wait_for_a_hundred_and_ride_with_the_next_call() {
    let session = session(|peer| {
        let mut seen = Vec::new();
        while let Some((mid, payload)) = peer.next() {
            match AnyRequest::decode(mid, &payload).unwrap() {
                AnyRequest::Walk(_) => {
                    let inodes = [inode(10 + seen.len() as u64, 0o100644)];
                    let status = WalkStatus::SUCCESS;
                    peer.reply(
                        &WalkResp {
                            status,
                            inodes: &inodes,
                        },
                        &[],
                    );
                }
                AnyRequest::Close(close) => {
                    seen.push(Mid::CLOSE.get() as usize * 1000 + close.fds.len());
                    // What a Close answers does not matter.
                    peer.error(5);
                    continue;
                }
                other => panic!("unexpected {}", other.mid()),
            }
            seen.push(mid.get() as usize);
        }
        seen
    });
    for _ in 0..101 {
        drop(walk(&session.root.file, 1));
    }
    let seen = session.finish();
    let walks = vec![Mid::WALK.get() as usize; 100];
    assert_eq!(seen, [&walks[..], &[9100, 5]].concat());
}

#[test]
fn an_urgent_release_rides_with_the_next_call() {
    let session = session(|peer| {
        peer.expect(Mid::WALK);
        let inodes = [inode(10, 0o100644)];
        peer.reply(
            &WalkResp {
                status: WalkStatus::SUCCESS,
                inodes: &inodes,
            },
            &[],
        );
        assert_eq!(peer.expect_close(), [10]);
        peer.expect(Mid::FSTAT);
        peer.reply(
            &FStatResp {
                stat: stat(1, 0o040755),
            },
            &[],
        );
        peer.rest()
    });
    let file = walk(&session.root.file, 1).pop().unwrap().file;
    file.release(Promptness::Prompt);
    file.release(Promptness::Prompt);
    drop(file);
    session.root.file.attr(&call(), AttrMask::BASIC).unwrap();
    assert_eq!(session.finish(), []);
}

#[test]
fn closes_that_could_not_be_sent_are_sent_later() {
    let session = session(|peer| {
        peer.expect(Mid::WALK);
        let inodes: Vec<_> = (10..13).map(|fd| inode(fd, 0o040755)).collect();
        peer.reply(
            &WalkResp {
                status: WalkStatus::SUCCESS,
                inodes: &inodes,
            },
            &[],
        );
        peer.expect_close()
    });
    drop(walk(&session.root.file, 3));
    let past = Call {
        deadline: Some(std::time::Instant::now()),
        cancel: None,
    };
    let error = session.fs.flush_closes(&past).unwrap_err();
    assert_eq!((error.errno, error.fate), (Errno::ETIMEDOUT, Fate::NotSent));
    session.fs.flush_closes(&call()).unwrap();
    assert_eq!(session.finish(), [10, 11, 12]);
}
