//! Reading and writing: pieces, limits, donated descriptors.

use std::io::{IoSlice, IoSliceMut, Read, Seek, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use gofer_lisafs::wire::{
    AnyRequest, FAllocateResp, FSyncResp, Fdid, FlushResp, Mid, OpenAtResp, PReadResp, PWriteResp,
    ReadData, WalkResp, WalkStatus,
};
use gofer_vfs::remote::{OpenMode, Promptness, RemoteHandle};
use gofer_vfs::{Access, AllocMode, Errno, Name};

use crate::common::peer::{Marked, Peer, Session, all, call, inode, session, session_with};

const READ_WRITE: OpenMode = OpenMode {
    access: Access::ReadWrite,
    truncate: false,
};

/// A session in which FD 9 has been opened, without a donated descriptor.
fn opened<T: Send + 'static>(
    max_message_size: u32,
    script: impl FnOnce(&Peer) -> T + Send + 'static,
) -> (Session<T>, Arc<dyn RemoteHandle>) {
    let session = session_with(all(), max_message_size, move |peer| {
        peer.expect(Mid::OPEN_AT);
        peer.reply(
            &OpenAtResp {
                open_fd: Fdid::new(9),
            },
            &[],
        );
        script(&peer)
    });
    let handle = session.root.file.open(&call(), READ_WRITE).unwrap();
    (session, handle)
}

/// A file of which `bytes` says what is at each offset.
fn bytes(offset: u64, count: u64) -> Vec<u8> {
    (offset..offset + count)
        .map(|at| (at % 251) as u8)
        .collect()
}

/// Answers PRead requests of a file of `size` bytes until the client leaves; what was asked.
fn serve_reads(peer: &Peer, size: u64) -> Vec<(u64, u32)> {
    let mut asked = Vec::new();
    while let Some((mid, payload)) = peer.next() {
        let Ok(AnyRequest::PRead(read)) = AnyRequest::decode(mid, &payload) else {
            continue;
        };
        asked.push((read.offset, read.count));
        let count = u64::from(read.count).min(size.saturating_sub(read.offset));
        peer.reply(
            &PReadResp {
                data: ReadData(&bytes(read.offset, count)),
            },
            &[],
        );
    }
    asked
}

#[test]
fn reads_go_in_pieces_and_across_buffers() {
    let (session, handle) = opened(1008, |peer| serve_reads(peer, 2500));
    let (mut a, mut b, mut c) = ([0; 700], [0; 0], [0; 2000]);
    let buffers = &mut [
        IoSliceMut::new(&mut a),
        IoSliceMut::new(&mut b),
        IoSliceMut::new(&mut c),
    ];
    let moved = handle.read_at(&call(), buffers, 100);
    assert_eq!((moved.n, moved.error), (2400, None));
    assert_eq!([&a[..], &c[..1700]].concat(), bytes(100, 2400));
    assert!(
        c[1700..].iter().all(|&byte| byte == 0),
        "nothing beyond the data is touched"
    );
    let end = handle.read_at(&call(), &mut [IoSliceMut::new(&mut a)], 2500);
    assert_eq!((end.n, end.error), (0, None));
    drop(handle);
    assert_eq!(
        session.finish(),
        [(100, 1000), (1100, 1000), (2100, 700), (2500, 700)]
    );
}

#[test]
fn a_read_of_nothing_asks_nothing() {
    let (session, handle) = opened(1008, |peer| serve_reads(peer, 10));
    let moved = handle.read_at(&call(), &mut [], 0);
    assert_eq!((moved.n, moved.error), (0, None));
    drop(handle);
    assert_eq!(session.finish(), []);
}

#[test]
fn an_error_after_some_pieces_keeps_what_came() {
    let (session, handle) = opened(1008, |peer| {
        peer.expect(Mid::PREAD);
        peer.reply(
            &PReadResp {
                data: ReadData(&bytes(0, 1000)),
            },
            &[],
        );
        peer.expect(Mid::PREAD);
        peer.error(5);
    });
    let mut buffer = [0; 3000];
    let moved = handle.read_at(&call(), &mut [IoSliceMut::new(&mut buffer)], 0);
    assert_eq!(
        (moved.n, moved.error.map(|e| e.errno)),
        (1000, Some(Errno::EIO))
    );
    assert_eq!(buffer[..1000], bytes(0, 1000));
    drop(handle);
    session.finish();
}

#[test]
fn counts_that_lie_touch_no_memory_and_leave_the_connection_usable() {
    let payload = |count: u64, data: &[u8]| [&count.to_le_bytes()[..], data].concat();
    let lies = [
        payload(1 << 32 | 4, b"abcd"),
        payload(17, &[7; 17]),
        payload(8, b"abcd"),
        payload(u64::MAX, b""),
        payload(1, b""),
        b"short".to_vec(),
    ];
    for lie in lies {
        let (session, handle) = opened(65536, move |peer| {
            peer.expect(Mid::PREAD);
            peer.send(&crate::common::peer::frame(12, &lie), &[]);
            peer.expect(Mid::PREAD);
            // More payload than data: ignored.
            peer.send(
                &crate::common::peer::frame(12, &payload(2, b"ok and more")),
                &[],
            );
        });
        let mut buffer = [0; 16];
        let moved = handle.read_at(&call(), &mut [IoSliceMut::new(&mut buffer)], 0);
        assert_eq!(
            (moved.n, moved.error.map(|e| e.errno)),
            (0, Some(Errno::EIO))
        );
        assert_eq!(buffer, [0; 16]);
        let moved = handle.read_at(&call(), &mut [IoSliceMut::new(&mut buffer)], 0);
        assert_eq!((moved.n, moved.error), (2, None));
        assert_eq!(&buffer[..3], b"ok\0");
        drop(handle);
        session.finish();
    }
}

#[test]
fn writes_go_in_pieces_and_across_buffers() {
    let (session, handle) = opened(1020, |peer| {
        let mut written = Vec::new();
        while let Some((mid, payload)) = peer.next() {
            let Ok(AnyRequest::PWrite(write)) = AnyRequest::decode(mid, &payload) else {
                continue;
            };
            assert_eq!(
                (write.offset, write.fd),
                (50 + written.len() as u64, Fdid::new(9))
            );
            written.extend_from_slice(write.data.0);
            peer.reply(
                &PWriteResp {
                    count: write.data.0.len() as u64,
                },
                &[],
            );
        }
        written
    });
    let data = bytes(0, 2500);
    let parts: Vec<IoSlice<'_>> = data.chunks(61).map(IoSlice::new).collect();
    let moved = handle.write_at(&call(), &parts, 50);
    assert_eq!((moved.n, moved.error), (2500, None));
    drop(handle);
    assert_eq!(session.finish(), data);
}

#[test]
fn a_short_write_ends_the_call_and_a_senseless_one_fails_it() {
    for (count, expected) in [
        (3, (3, None)),
        (0, (0, Some(Errno::EIO))),
        (11, (0, Some(Errno::EIO))),
        (u64::MAX, (0, Some(Errno::EIO))),
    ] {
        let (session, handle) = opened(65536, move |peer| {
            peer.expect(Mid::PWRITE);
            peer.reply(&PWriteResp { count }, &[]);
        });
        let moved = handle.write_at(&call(), &[IoSlice::new(b"ten bytes!")], 0);
        assert_eq!(
            (moved.n, moved.error.map(|e| e.errno)),
            expected,
            "{count} of 10"
        );
        drop(handle);
        session.finish();
    }
}

#[test]
fn a_donated_descriptor_of_a_file_replaces_reading_and_writing() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"hello world").unwrap();
    let given = file.try_clone().unwrap();
    let session = session(move |peer| {
        peer.expect(Mid::WALK);
        let inodes = [inode(8, 0o100644)];
        peer.reply(
            &WalkResp {
                status: WalkStatus::SUCCESS,
                inodes: &inodes,
            },
            &[],
        );
        peer.expect(Mid::OPEN_AT);
        peer.reply(
            &OpenAtResp {
                open_fd: Fdid::new(9),
            },
            &[given.as_fd()],
        );
        peer.rest()
    });
    let mut found = None;
    let name = Name::new(b"f").unwrap();
    session
        .root
        .file
        .walk(&call(), &[name], &mut |file| found = Some(file))
        .unwrap();
    let handle = found.unwrap().file.open(&call(), READ_WRITE).unwrap();
    let (mut a, mut b) = ([0; 4], [0; 20]);
    let buffers = &mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
    let moved = handle.read_at(&call(), buffers, 2);
    assert_eq!((moved.n, moved.error), (9, None));
    assert_eq!((&a, &b[..5]), (b"llo ", &b"world"[..]));
    let parts = [IoSlice::new(b"J"), IoSlice::new(b""), IoSlice::new(b"olly")];
    let moved = handle.write_at(&call(), &parts, 0);
    assert_eq!((moved.n, moved.error), (5, None));
    assert_eq!(handle.seek_data(&call(), 0, true), Ok(11));
    drop(handle);
    assert_eq!(session.finish(), [], "not one request");
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "Jolly world");
}

#[test]
fn flush_sync_and_allocate_go_to_the_open_fd() {
    let (session, handle) = opened(65536, |peer| {
        assert_eq!(peer.expect(Mid::FLUSH), "> Flush fd 9");
        peer.reply(&FlushResp {}, &[]);
        assert_eq!(peer.expect(Mid::FSYNC), "> FSync fds [9]");
        peer.reply(&FSyncResp {}, &[]);
        let request = peer.expect(Mid::FALLOCATE);
        assert_eq!(request, "> FAllocate fd 9 mode 3 offset 4096 length 100");
        peer.reply(&FAllocateResp {}, &[]);
    });
    handle.flush(&call()).unwrap();
    handle.sync(&call(), true).unwrap();
    let mode = AllocMode::KEEP_SIZE | AllocMode::PUNCH_HOLE;
    handle.allocate(&call(), mode, 4096, 100).unwrap();
    let error = handle.seek_data(&call(), 0, false).unwrap_err();
    assert_eq!(error.errno, Errno::EOPNOTSUPP);
    drop(handle);
    session.finish();
}

#[test]
fn a_prompt_close_takes_along_what_was_collected() {
    let host = Arc::new(Marked::new());
    let given = host.clone();
    let session = session(move |peer| {
        for fd in [20, 21] {
            peer.expect(Mid::OPEN_AT);
            peer.reply(
                &OpenAtResp {
                    open_fd: Fdid::new(fd),
                },
                &[given.fd()],
            );
        }
        let closed = peer.expect_close();
        (closed, peer.rest())
    });
    let open = || session.root.file.open(&call(), READ_WRITE).unwrap();
    let (first, second) = (open(), open());
    assert!(first.host_fd().is_some());
    drop(first);
    second.close(&call(), Promptness::Prompt).unwrap();
    second.close(&call(), Promptness::Prompt).unwrap();
    drop(second);
    let (closed, rest) = session.finish();
    assert_eq!(closed, [20, 21]);
    assert_eq!(rest, []);
    assert_eq!(host.copies(), 0);
}
