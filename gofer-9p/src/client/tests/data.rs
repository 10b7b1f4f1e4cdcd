//! What open files do: data, listings, locks, and what a dialect may lack.
//!
//! The snapshots are trace lines: requests as they were sent, replies as they were read.

use std::io::{IoSlice, IoSliceMut};
use std::ops::ControlFlow;

use gofer_vfs::remote::{
    DirPos, FileLock, LockKind, Owner, RemoteError, RemoteFilesystem, SocketType,
};
use gofer_vfs::{AllocMode, Errno, FileType};

use super::agreeable::{CALL, READ_WRITE, name, qid_of, session, session_but};
use super::peer::file;
use crate::wire::{
    Data, Dirent, Dirents, Rlconnect, Rlopen, Rread, Rreaddir, Rwrite, TMessage, Tread, Treaddir,
    Version,
};

#[test]
fn reads_and_writes_go_on_after_short_ones() {
    let session = self::session(Version::Base);
    let (_, found) = session.walk(&["f"]);
    let handle = found[0].file.open(&CALL, READ_WRITE).unwrap();
    session.lines();
    let (mut first, mut second) = ([0; 5], [0; 5]);
    let into = &mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    let moved = handle.read_at(&CALL, into, 0);
    assert_eq!((moved.n, moved.error), (6, None));
    assert_eq!((&first, second[0]), (b"ab\0cd", 0));
    let from = [
        IoSlice::new(b"abc"),
        IoSlice::new(b""),
        IoSlice::new(b"defghi"),
    ];
    let moved = handle.write_at(&CALL, &from, 10);
    assert_eq!((moved.n, moved.error), (9, None));
    insta::assert_snapshot!(session.lines(), @r#"
    > Tread tag 0 fid 2 offset 0 count 10
    < Rread tag 0 data 4 bytes
    > Tread tag 0 fid 2 offset 4 count 6
    < Rread tag 0 data 2 bytes
    > Tread tag 0 fid 2 offset 6 count 4
    < Rread tag 0 data 0 bytes
    > Twrite tag 0 fid 2 offset 10 data 9 bytes
    < Rwrite tag 0 count 4
    > Twrite tag 0 fid 2 offset 14 data 5 bytes
    < Rwrite tag 0 count 4
    > Twrite tag 0 fid 2 offset 18 data 1 bytes
    < Rwrite tag 0 count 1
    "#);
    let moved = handle.write_at(&CALL, &from, u64::MAX - 3);
    assert_eq!(
        (moved.n, moved.error.map(|error| error.errno)),
        (4, Some(Errno::EFBIG))
    );
}

#[test]
fn large_reads_are_under_way_together_and_land_in_place() {
    let session = session_but(Version::Base, |peer, request| match request.message() {
        TMessage::Tlopen(_) => {
            peer.reply(
                request.tag,
                Rlopen {
                    qid: file(1),
                    iounit: 100,
                },
            );
            true
        }
        TMessage::Tread(Tread { offset, count, .. }) => {
            let data: Vec<u8> = (offset..offset + u64::from(count))
                .map(|at| at as u8)
                .collect();
            peer.reply(
                request.tag,
                Rread {
                    data: Data::new(&data),
                },
            );
            true
        }
        _ => false,
    });
    let (_, found) = session.walk(&["f"]);
    let handle = found[0].file.open(&CALL, READ_WRITE).unwrap();
    let mut buffers = [vec![0; 30], vec![0; 470], vec![0; 301]];
    let before = session.filesystem.traffic();
    let mut into = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
    let moved = handle.read_at(&CALL, &mut into, 7);
    assert_eq!((moved.n, moved.error), (801, None));
    let all = buffers.concat();
    assert!(
        all.iter()
            .enumerate()
            .all(|(at, &byte)| byte == (at + 7) as u8)
    );
    let after = session.filesystem.traffic();
    // The iounit of 100 is kept; the pieces go together.
    assert_eq!(
        (
            after.round_trips - before.round_trips,
            after.requests - before.requests
        ),
        (1, 9)
    );
}

#[test]
fn a_server_that_writes_nothing_is_an_error() {
    let session = session_but(Version::Base, |peer, request| match request.message() {
        TMessage::Twrite(_) => {
            peer.reply(request.tag, Rwrite { count: 0 });
            true
        }
        _ => false,
    });
    let moved = session.open().write_at(&CALL, &[IoSlice::new(b"abc")], 0);
    assert_eq!(
        (moved.n, moved.error),
        (0, Some(RemoteError::refused(Errno::EIO)))
    );
}

/// Lists a directory of these entries: name and type byte. Each reply brings two.
fn list(entries: Vec<(&'static [u8], u8)>) -> Result<Vec<(String, Option<FileType>)>, Errno> {
    let session = session_but(Version::Base, move |peer, request| {
        match request.message() {
            TMessage::Treaddir(Treaddir { offset, .. }) => {
                let mut bytes = Vec::new();
                let mut writer = gofer_transport::codec::Writer::new(&mut bytes);
                let from = entries.iter().enumerate().skip(offset as usize).take(2);
                for (at, &(name, kind)) in from {
                    Dirent {
                        qid: qid_of(name),
                        offset: at as u64 + 1,
                        kind,
                        name,
                    }
                    .write(&mut writer);
                }
                peer.reply(
                    request.tag,
                    Rreaddir {
                        entries: Dirents::new(&bytes),
                    },
                );
                true
            }
            _ => false,
        }
    });
    let handle = session.open();
    let (mut listed, mut from) = (Vec::new(), DirPos::default());
    loop {
        let more = handle.read_dir(&CALL, from, &mut |entry| {
            listed.push((entry.name.to_string(), entry.file_type));
            from = entry.next;
            ControlFlow::Continue(())
        });
        match more {
            Ok(true) => {}
            Ok(false) => return Ok(listed),
            Err(error) => return Err(error.errno),
        }
    }
}

#[test]
fn listings_skip_dots_wherever_they_are_and_take_types_from_qids() {
    let listed = list(vec![
        (b".", 4),
        (b"..", 4),
        (b"file", 8),
        (b"dir", 0x80),
        (b"link", 2),
        (b"fifo", 1),
        (b"f", 0),
        (b"f0", 0x40),
        (b"..", 4),
        (b".", 4),
    ]);
    let types: Vec<_> = listed
        .unwrap()
        .into_iter()
        .map(|(_, file_type)| file_type)
        .collect();
    use FileType::{Directory, Fifo, Regular, Symlink};
    assert_eq!(
        types,
        [
            Some(Regular),
            Some(Directory),
            Some(Symlink),
            Some(Fifo),
            None,
            None
        ]
    );
}

#[test]
fn listings_with_names_that_are_none_are_errors() {
    let long: &'static [u8] = Box::leak(vec![b'n'; 256].into_boxed_slice());
    for bad in [&b"a/b"[..], b"", b"a\0b", long] {
        assert_eq!(list(vec![(b"f", 8), (bad, 8)]), Err(Errno::EIO));
    }
    assert_eq!(
        list(vec![(b".", 4); 100]),
        Err(Errno::EIO),
        "dots without end"
    );
}

#[test]
fn a_listing_can_be_left_and_taken_up_again() {
    let session = session_but(Version::Base, |peer, request| match request.message() {
        TMessage::Treaddir(Treaddir { offset, .. }) => {
            let mut bytes = Vec::new();
            let mut writer = gofer_transport::codec::Writer::new(&mut bytes);
            for at in offset..3 {
                let name = [b'f', b'0' + at as u8];
                Dirent {
                    qid: file(at),
                    offset: at + 1,
                    kind: 8,
                    name: &name,
                }
                .write(&mut writer);
            }
            peer.reply(
                request.tag,
                Rreaddir {
                    entries: Dirents::new(&bytes),
                },
            );
            true
        }
        _ => false,
    });
    let handle = session.open();
    let mut seen = Vec::new();
    let mut one = |from| {
        handle.read_dir(&CALL, from, &mut |entry| {
            seen.push((entry.name.to_string(), entry.next.0));
            ControlFlow::Break(())
        })
    };
    assert_eq!(
        [
            one(DirPos(0)),
            one(DirPos(1)),
            one(DirPos(2)),
            one(DirPos(3))
        ],
        [Ok(true), Ok(true), Ok(true), Ok(false),]
    );
    assert_eq!(seen, [("f0".into(), 1), ("f1".into(), 2), ("f2".into(), 3)]);
}

#[test]
fn locks_never_wait_and_statuses_are_errors() {
    let session = self::session(Version::Base);
    let handle = session.open();
    let lock = |owner| FileLock {
        kind: LockKind::Write,
        start: 1,
        length: 2,
        owner,
    };
    let errno = |owner| {
        handle
            .lock(&CALL, &lock(owner))
            .err()
            .map(|error| error.errno)
    };
    // The server answers with the status that the owner's number is.
    let expected = [
        None,
        Some(Errno::EAGAIN),
        Some(Errno::ENOLCK),
        Some(Errno::ENOLCK),
    ];
    assert_eq!([errno(0), errno(1), errno(2), errno(3)], expected);
    assert_eq!(handle.test_lock(&CALL, &lock(2)), Ok(None));
    let other = FileLock {
        kind: LockKind::Read,
        start: 1,
        length: 2,
        owner: 9,
    };
    assert_eq!(handle.test_lock(&CALL, &lock(0)), Ok(Some(other)));
    assert!(handle.test_lock(&CALL, &lock(77)).is_err());
}

#[test]
fn what_a_dialect_lacks_is_not_asked_for() {
    let session = self::session(Version::Base);
    let handle = session.open();
    let not_sent = |errno| Err(RemoteError::not_sent(errno));
    assert_eq!(handle.flush(&CALL), Ok(()));
    assert_eq!(
        handle.allocate(&CALL, AllocMode::empty(), 0, 1),
        not_sent(Errno::EOPNOTSUPP)
    );
    assert_eq!(
        handle.seek_data(&CALL, 0, true),
        Err(RemoteError::not_sent(Errno::EOPNOTSUPP))
    );
    let connected = session.file().connect(&CALL, SocketType::Stream);
    assert_eq!(
        connected.err(),
        Some(RemoteError::not_sent(Errno::ECONNREFUSED))
    );
    let bound = session.file().bind(
        &CALL,
        name("s"),
        SocketType::Stream,
        0o600,
        Owner::default(),
    );
    assert_eq!(bound.err(), Some(RemoteError::not_sent(Errno::EOPNOTSUPP)));
    assert_eq!(session.lines(), "");

    let session = self::session(Version::NEWEST);
    let handle = session.open();
    handle.flush(&CALL).unwrap();
    handle
        .allocate(&CALL, AllocMode::PUNCH_HOLE | AllocMode::KEEP_SIZE, 4096, 1)
        .unwrap();
    handle.sync(&CALL, true).unwrap();
    assert_eq!(session.file().read_link(&CALL).unwrap(), b"to");
    let error = session.file().stat_fs(&CALL).unwrap_err();
    assert_eq!(error, RemoteError::refused(Errno::EOPNOTSUPP));
    insta::assert_snapshot!(session.lines(), @r#"
    > Tflushf tag 0 fid 1
    < Rflushf tag 0
    > Tallocate tag 0 fid 1 mode 03 offset 4096 length 1
    < Rallocate tag 0
    > Tfsync tag 0 fid 1 datasync 1
    < Rfsync tag 0
    > Treadlink tag 0 fid 0
    < Rreadlink tag 0 target "to"
    > Tstatfs tag 0 fid 0
    < Rlerror tag 0 EOPNOTSUPP
    "#);
}

#[test]
fn a_connect_without_a_descriptor_fails() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let mut writer = Some(writer);
    let session = session_but(Version::NEWEST, move |peer, request| {
        match request.message() {
            TMessage::Tlconnect(_) => {
                let fd = writer.take();
                let fds: Vec<_> = fd.iter().map(std::os::fd::AsFd::as_fd).collect();
                peer.reply_with(request.tag, Rlconnect {}, &fds);
                true
            }
            _ => false,
        }
    });
    let socket = session.file().connect(&CALL, SocketType::Any).unwrap();
    rustix::io::write(&socket, b"x").unwrap();
    assert_eq!(rustix::io::read(&reader, &mut [0u8; 2]), Ok(1));
    let error = session.file().connect(&CALL, SocketType::Any).err();
    assert_eq!(error, Some(RemoteError::refused(Errno::EIO)));
}

#[test]
fn below_level_5_a_socket_of_any_type_is_a_stream() {
    for (level, socket_type) in [(4, 0), (5, 3)] {
        let session = session(Version::Google(level));
        let refused = session.file().connect(&CALL, SocketType::Any);
        assert!(refused.is_err());
        let lines = session.lines();
        let asked = format!("socket_type {socket_type}\n");
        assert!(lines.contains(&asked), "{lines}");
    }
}
