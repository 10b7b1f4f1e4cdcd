//! Servers that die or talk nonsense: every call fails at once with `EIO`, nothing leaks.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use gofer_vfs::remote::{Call, FileKey, OpenMode, RemoteError, RemoteEvents, RemoteFilesystem};
use gofer_vfs::{Access, AttrMask, Errno};

use super::peer::{Incoming, Peer, attached, attr, bytes, dir, file};
use crate::wire::{
    Data, Qids, Rclunk, Rflush, Rlerror, Rlopen, Rread, Rreaddir, Rwalk, Tag, Version,
};

/// A reply that breaks a connection, made from the request.
type Nonsense = fn(&Peer, &Incoming);

const NONSENSE: [(&str, Nonsense); 12] = [
    ("hang-up", |_, _| {}),
    ("half a header", |peer, _| peer.send(&[160, 0, 0], &[])),
    ("half a body", |peer, request| {
        let bytes = bytes(request.tag, attr(dir(1), 0o40755));
        peer.send(&bytes[..100], &[]);
    }),
    ("size 6", |peer, _| peer.send(&[6, 0, 0, 0, 25, 0, 0], &[])),
    ("size above msize", |peer, _| {
        peer.send(&[0, 0, 0x11, 0, 25, 0, 0], &[])
    }),
    ("unknown tag", |peer, _| {
        peer.reply(Tag(77), attr(dir(1), 0o40755))
    }),
    ("tag of no flush", |peer, _| {
        peer.reply(Tag(0x8000), Rflush {})
    }),
    ("wrong type", |peer, request| {
        peer.reply(request.tag, Rclunk {})
    }),
    ("unknown type", |peer, request| {
        let tag = request.tag.0 as u8;
        peer.send(&[7, 0, 0, 0, 200, tag, 0], &[]);
    }),
    ("error without a tag", |peer, _| peer.error(Tag::NONE, 5)),
    ("short body", |peer, request| {
        let mut bytes = bytes(request.tag, attr(dir(1), 0o40755));
        bytes.truncate(50);
        bytes[0] = 50;
        peer.send(&bytes, &[]);
    }),
    ("short error", |peer, request| {
        let tag = request.tag.0 as u8;
        peer.send(&[9, 0, 0, 0, 7, tag, 0, 1, 2], &[]);
    }),
];

#[test]
fn nonsense_ends_the_connection_for_this_call_and_all_later_ones() {
    for (what, nonsense) in NONSENSE {
        let (filesystem, root, thread) = attached(Version::Base, move |peer| {
            let request = peer.expect("Tgetattr");
            nonsense(&peer, &request);
        });
        let call = Call::default();
        let first = root.file.attr(&call, AttrMask::BASIC);
        assert_eq!(
            first.err(),
            Some(RemoteError::unknown(Errno::EIO)),
            "{what}"
        );
        let later = root.file.attr(&call, AttrMask::BASIC);
        assert_eq!(
            later.err(),
            Some(RemoteError::not_sent(Errno::EIO)),
            "{what}"
        );
        assert_eq!(
            filesystem.root(&call).err(),
            Some(RemoteError::not_sent(Errno::EIO))
        );
        thread.join().unwrap();
    }
}

#[test]
fn counts_beyond_what_was_asked_end_the_connection() {
    let open = |peer: &Peer, qid| {
        peer.reply(
            peer.expect("Twalk").tag,
            Rwalk {
                wqids: Qids::new(&[]),
            },
        );
        peer.reply(peer.expect("Tlopen").tag, Rlopen { qid, iounit: 0 });
    };
    let (filesystem, root, thread) = attached(Version::Base, move |peer| {
        open(&peer, file(1));
        let tag = peer.expect("Tread").tag;
        peer.reply(
            tag,
            Rread {
                data: Data::new(&[7; 11]),
            },
        );
    });
    let call = Call::default();
    let mode = OpenMode {
        access: Access::Read,
        truncate: false,
    };
    let handle = root.file.open(&call, mode).unwrap();
    let mut buffer = [0; 10];
    let moved = handle.read_at(&call, &mut [std::io::IoSliceMut::new(&mut buffer)], 0);
    assert_eq!(
        (moved.n, moved.error),
        (0, Some(RemoteError::unknown(Errno::EIO)))
    );
    assert_eq!(buffer, [0; 10]);
    assert!(filesystem.line.session().lock().dead);
    thread.join().unwrap();

    let (filesystem, root, thread) = attached(Version::Base, |peer| {
        let request = peer.expect("Twalk");
        peer.reply(
            request.tag,
            Rwalk {
                wqids: Qids::new(&[dir(2), dir(3)]),
            },
        );
    });
    let name = gofer_vfs::Name::new(b"a").unwrap();
    let error = root
        .file
        .walk(&Call::default(), &[name], &mut |_| ())
        .unwrap_err();
    assert_eq!(error, RemoteError::unknown(Errno::EIO));
    assert!(filesystem.line.session().lock().dead);
    thread.join().unwrap();
}

#[test]
fn a_directory_entry_that_does_not_decode_ends_the_connection() {
    let (filesystem, root, thread) = attached(Version::Base, |peer| {
        peer.reply(
            peer.expect("Twalk").tag,
            Rwalk {
                wqids: Qids::new(&[]),
            },
        );
        peer.reply(
            peer.expect("Tlopen").tag,
            Rlopen {
                qid: dir(1),
                iounit: 0,
            },
        );
        let entries = crate::wire::Dirents::new(&[1; 20]);
        peer.reply(peer.expect("Treaddir").tag, Rreaddir { entries });
    });
    let call = Call::default();
    let mode = OpenMode {
        access: Access::Read,
        truncate: false,
    };
    let handle = root.file.open(&call, mode).unwrap();
    let listed = handle.read_dir(&call, Default::default(), &mut |_| panic!("an entry"));
    assert_eq!(listed, Err(RemoteError::unknown(Errno::EIO)));
    assert!(filesystem.line.session().lock().dead);
    thread.join().unwrap();
}

#[derive(Default)]
struct Lost(AtomicU32);

impl RemoteEvents for Lost {
    fn lost(&self, epoch: u32) {
        assert_eq!(epoch, 0);
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn changed(&self, _: FileKey, _: Option<&[u8]>) {}
    fn overflow(&self) {}
}

#[test]
fn the_loss_is_told_once_and_a_shutdown_of_ours_is_none() {
    let (filesystem, root, thread) = attached(Version::Base, |_| ());
    let lost = Arc::new(Lost::default());
    let sink: Arc<dyn RemoteEvents> = lost.clone();
    filesystem.subscribe(Arc::downgrade(&sink));
    thread.join().unwrap();
    let call = Call::default();
    for _ in 0..2 {
        assert!(root.file.attr(&call, AttrMask::BASIC).is_err());
    }
    assert_eq!(lost.0.load(Ordering::SeqCst), 1);
    filesystem.subscribe(Arc::downgrade(&sink));
    assert_eq!(
        lost.0.load(Ordering::SeqCst),
        2,
        "told at once when it is too late"
    );

    let (filesystem, root, thread) = attached(Version::Base, |peer| drop(peer.drain()));
    filesystem.subscribe(Arc::downgrade(&sink));
    filesystem.shutdown();
    filesystem.shutdown();
    assert!(root.file.attr(&call, AttrMask::BASIC).is_err());
    assert_eq!(lost.0.load(Ordering::SeqCst), 2);
    thread.join().unwrap();
}

#[test]
fn a_shutdown_wakes_who_waits() {
    let (filesystem, root, thread) = attached(Version::Base, |peer| {
        peer.expect("Tgetattr");
        peer.expect("Tgetattr");
        peer
    });
    std::thread::scope(|scope| {
        let stat = || root.file.attr(&Call::default(), AttrMask::BASIC);
        let waiting = [scope.spawn(stat), scope.spawn(stat)];
        let peer = thread.join().unwrap();
        filesystem.shutdown();
        for waiter in waiting {
            let error = waiter.join().unwrap().unwrap_err();
            assert_eq!(error, RemoteError::unknown(Errno::EIO));
        }
        drop(peer);
    });
}

/// A pipe whose write end tells, by its closing, that no copy is left.
struct Copies {
    reader: OwnedFd,
    writer: Option<OwnedFd>,
}

impl Copies {
    fn new() -> Copies {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::NONBLOCK).unwrap();
        Copies {
            reader,
            writer: Some(writer),
        }
    }

    fn all_closed(&mut self) -> bool {
        self.writer = None;
        rustix::io::read(&self.reader, &mut [0u8; 1]) == Ok(0)
    }
}

#[test]
fn descriptors_nobody_asked_for_are_closed() {
    let mut copies = Copies::new();
    let writer = copies.writer.take().unwrap();
    let (filesystem, root, thread) = attached(Version::Base, move |peer| {
        let tag = peer.expect("Tgetattr").tag;
        peer.reply_with(tag, attr(dir(1), 0o40755), &[writer.as_fd()]);
        let tag = peer.expect("Tgetattr").tag;
        peer.reply_with(tag, Rlerror { ecode: 2 }, &[writer.as_fd(), writer.as_fd()]);
        peer.expect("Tgetattr")
    });
    let call = Call::default();
    assert!(root.file.attr(&call, AttrMask::BASIC).is_ok());
    let error = root.file.attr(&call, AttrMask::BASIC).unwrap_err();
    assert_eq!(error, RemoteError::refused(Errno::ENOENT));
    assert!(root.file.attr(&call, AttrMask::BASIC).is_err());
    thread.join().unwrap();
    assert!(copies.all_closed());
    drop(filesystem);
}

/// Opens the root and has these descriptors come along.
fn open_with(
    fds: Vec<OwnedFd>,
    reply: fn(Tag) -> Vec<u8>,
    access: Access,
) -> Option<Arc<dyn gofer_vfs::remote::RemoteHandle>> {
    let (_filesystem, root, thread) = attached(Version::NEWEST, move |peer| {
        peer.reply(
            peer.expect("Twalk").tag,
            Rwalk {
                wqids: Qids::new(&[]),
            },
        );
        let tag = peer.expect("Tlopen").tag;
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        peer.send(&reply(tag), &fds);
        peer.drain();
    });
    let mode = OpenMode {
        access,
        truncate: false,
    };
    let handle = root.file.open(&Call::default(), mode).ok();
    // The peer closes its own copies when it sees the end.
    root.file.release(gofer_vfs::remote::Promptness::Batched);
    _filesystem.shutdown();
    thread.join().unwrap();
    handle
}

fn opened(tag: Tag) -> Vec<u8> {
    bytes(
        tag,
        Rlopen {
            qid: file(9),
            iounit: 0,
        },
    )
}

#[test]
fn a_donated_descriptor_is_kept_with_the_handle() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let donated = std::fs::File::open(file.path()).unwrap();
    let handle = open_with(vec![donated.into()], opened, Access::Read).unwrap();
    assert!(handle.host_fd().is_some());
}

#[test]
fn a_donated_descriptor_with_other_rights_or_of_another_type_is_closed() {
    let temp = tempfile::NamedTempFile::new().unwrap();
    let donated = std::fs::File::options()
        .read(true)
        .write(true)
        .open(temp.path())
        .unwrap();
    let handle = open_with(vec![donated.into()], opened, Access::Read).unwrap();
    assert!(handle.host_fd().is_none(), "more rights than asked for");

    let mut copies = Copies::new();
    let writer = copies.writer.take().unwrap();
    let handle = open_with(vec![writer], opened, Access::Write).unwrap();
    assert!(handle.host_fd().is_none(), "a pipe");
    assert!(copies.all_closed());
}

#[test]
fn surplus_descriptors_and_those_beside_errors_are_closed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let donated = std::fs::File::open(file.path()).unwrap();
    let mut copies = Copies::new();
    let writer = copies.writer.take().unwrap();
    let extra = rustix::io::dup(&writer).unwrap();
    let handle = open_with(vec![donated.into(), writer, extra], opened, Access::Read).unwrap();
    assert!(handle.host_fd().is_some());
    assert!(copies.all_closed());

    let mut copies = Copies::new();
    let writer = copies.writer.take().unwrap();
    let refused = |tag| bytes(tag, Rlerror { ecode: 13 });
    assert!(open_with(vec![writer], refused, Access::Read).is_none());
    assert!(copies.all_closed());

    // And with a reply that does not decode.
    let mut copies = Copies::new();
    let writer = copies.writer.take().unwrap();
    let cut = |tag: Tag| vec![9, 0, 0, 0, 13, tag.0 as u8, 0, 1, 2];
    assert!(open_with(vec![writer], cut, Access::Read).is_none());
    assert!(copies.all_closed());
}
