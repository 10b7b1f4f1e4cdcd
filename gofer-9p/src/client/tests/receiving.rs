//! How replies arrive: in pieces, many at once, with descriptors, large ones.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use gofer_vfs::remote::{Call, Found, OpenMode, RemoteHandle};
use gofer_vfs::{Access, AttrMask, Name};

use super::peer::{Incoming, Peer, attached, attr, block, bytes, dir, file};
use crate::client::Filesystem;
use crate::wire::{
    Data, GetattrMask, Message, Qids, Rlopen, Rread, Rwalk, Rwalkgetattr, TMessage, Tag, Tread,
    Version,
};

const CALL: Call<'static> = Call {
    deadline: None,
    cancel: None,
};

fn receives(filesystem: &Filesystem) -> u64 {
    filesystem.line.session().counts.receives.load(Relaxed)
}

#[test]
fn a_lone_call_is_one_receive_and_so_are_many_replies_at_once() {
    let (filesystem, root, thread) = attached(Version::NEWEST, |peer| {
        peer.getattr(dir(1), 0o40755);
        let mut replies = Vec::new();
        for count in 1..=3 {
            let walk = peer.expect("Twalkgetattr");
            let qids = [dir(2), dir(3), dir(4)];
            let reply = Rwalkgetattr {
                valid: GetattrMask::BASIC,
                attr: block(0o40755),
                wqids: Qids::new(&qids[..count]),
            };
            reply.encode(walk.tag, &mut replies);
        }
        peer.send(&replies, &[]);
    });
    let before = receives(&filesystem);
    root.file.attr(&CALL, AttrMask::BASIC).unwrap();
    assert_eq!(receives(&filesystem) - before, 1);
    let names = [b"a", b"b", b"c"].map(|name| Name::new(name).unwrap());
    let mut found = Vec::new();
    root.file
        .walk(&CALL, &names, &mut |file| found.push(file))
        .unwrap();
    assert_eq!((found.len(), receives(&filesystem) - before), (3, 2));
    thread.join().unwrap();
}

#[test]
fn a_reply_is_put_together_wherever_it_was_cut() {
    let (_filesystem, root, thread) = attached(Version::Base, |peer| {
        for cut in 1..160 {
            let request = peer.expect("Tgetattr");
            let bytes = bytes(request.tag, attr(dir(1), 0o40755));
            peer.send(&bytes[..cut], &[]);
            std::thread::yield_now();
            peer.send(&bytes[cut..], &[]);
        }
    });
    for _ in 1..160 {
        let attr = root.file.attr(&CALL, AttrMask::BASIC).unwrap();
        assert_eq!(attr.mode, 0o755);
    }
    thread.join().unwrap();
}

fn open(root: &Found) -> Arc<dyn RemoteHandle> {
    let mode = OpenMode {
        access: Access::ReadWrite,
        truncate: false,
    };
    root.file.open(&CALL, mode).unwrap()
}

/// Answers the walk before an open.
fn cloned(peer: &Peer) {
    let wqids = Qids::new(&[]);
    peer.reply(peer.expect("Twalk").tag, Rwalk { wqids });
}

fn opened(tag: Tag) -> Vec<u8> {
    let (qid, iounit) = (file(1), 0);
    bytes(tag, Rlopen { qid, iounit })
}

/// The requests of a stat and an open, the walk of which is answered.
fn both(peer: &Peer) -> (Incoming, Incoming) {
    let (mut stat, mut open) = (None, None);
    loop {
        let request = peer.next().unwrap();
        match request.message() {
            TMessage::Tgetattr(_) => stat = Some(request),
            TMessage::Tlopen(_) => open = Some(request),
            _ => peer.reply(
                request.tag,
                Rwalk {
                    wqids: Qids::new(&[]),
                },
            ),
        }
        if let (Some(_), Some(_)) = (&stat, &open) {
            return (stat.unwrap(), open.unwrap());
        }
    }
}

#[test]
fn a_descriptor_finds_its_message_among_others_in_one_receive() {
    let files: Vec<OwnedFd> = (0..3)
        .map(|_| tempfile::tempfile().unwrap().into())
        .collect();
    let inodes: Vec<u64> = files
        .iter()
        .map(|file| rustix::fs::fstat(file).unwrap().st_ino)
        .collect();
    let (_filesystem, root, thread) = attached(Version::Base, move |peer| {
        for (round, fd) in files.iter().enumerate() {
            let (getattr, open) = both(&peer);
            let stat = bytes(getattr.tag, attr(dir(1), 0o40755));
            let open = opened(open.tag);
            let fd: &[BorrowedFd<'_>] = &[fd.as_fd()];
            match round {
                // A chunk of its own, as it should be, behind or before another.
                0 => {
                    peer.send(&stat, &[]);
                    peer.send(&open, fd);
                }
                1 => {
                    peer.send(&open, fd);
                    peer.send(&stat, &[]);
                }
                // Glued together, as it should not be.
                _ => peer.send(&[open, stat].concat(), fd),
            }
        }
    });
    let mut open_files = Vec::new();
    for inode in inodes {
        let handle = std::thread::scope(|scope| {
            let stat = scope.spawn(|| root.file.attr(&CALL, AttrMask::BASIC).unwrap());
            let handle = open(&root);
            stat.join().unwrap();
            handle
        });
        let fd = handle.host_fd().unwrap();
        assert_eq!(rustix::fs::fstat(fd).unwrap().st_ino, inode);
        open_files.push(handle);
    }
    thread.join().unwrap();
}

#[test]
fn large_data_comes_in_any_pieces_with_the_next_reply_behind_it() {
    const SIZE: usize = 300_000;
    let data: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    let expected = data.clone();
    let (_filesystem, root, thread) = attached(Version::Base, move |peer| {
        cloned(&peer);
        let tag = peer.expect("Tlopen").tag;
        peer.send(&opened(tag), &[]);
        for chunk in [1, 7, 11, 12, 4096, 70_000, SIZE + 200] {
            let mut requests = [peer.next().unwrap(), peer.next().unwrap()];
            requests.sort_by_key(|request| request.kind);
            let [getattr, read] = requests;
            let TMessage::Tread(Tread { count, .. }) = read.message() else {
                panic!("{}", read.message().name());
            };
            assert_eq!(count as usize, SIZE);
            let data = Data::new(&data);
            let mut all = bytes(read.tag, Rread { data });
            all.extend(bytes(getattr.tag, attr(dir(1), 0o40755)));
            // The first bytes in small pieces, the rest in one.
            let (first, rest) = all.split_at(all.len().min(20 * chunk));
            for piece in first.chunks(chunk) {
                peer.send(piece, &[]);
            }
            peer.send(rest, &[]);
        }
    });
    let handle = open(&root);
    for _ in 0..7 {
        let (mut one, mut two) = (vec![0; 100_001], vec![0; SIZE - 100_001]);
        std::thread::scope(|scope| {
            let stat = scope.spawn(|| root.file.attr(&CALL, AttrMask::BASIC).unwrap());
            let mut into = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
            let moved = handle.read_at(&CALL, &mut into, 0);
            assert_eq!((moved.n, moved.error), (SIZE, None));
            stat.join().unwrap();
        });
        assert!([one, two].concat() == expected);
    }
    thread.join().unwrap();
}
