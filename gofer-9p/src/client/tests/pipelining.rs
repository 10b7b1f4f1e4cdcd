//! Large reads and writes: how many pieces are under way, and what ends a transfer in the middle.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

use gofer_transport::Cancel;
use gofer_vfs::remote::{Call, Found, Moved, RemoteError, RemoteFilesystem, RemoteHandle};
use gofer_vfs::{Errno, Name};

use super::agreeable::{CALL, READ_WRITE};
use super::peer::{Incoming, Peer, attached, attr, file};
use crate::client::Filesystem;
use crate::wire::*;

/// Bytes of one piece.
const PIECE: usize = 100;

/// Most pieces under way.
const PIECES: usize = 16;

/// What the file holds at an offset.
fn byte_at(offset: u64) -> u8 {
    (offset % 251) as u8
}

/// Answers what leads to an open file, then goes on with `script`. The root and the file have to
/// be kept, or their clunks come between.
fn opened<T: Send + 'static>(script: impl FnOnce(Peer) -> T + Send + 'static) -> Opened<T> {
    opened_as(0o100644, script)
}

type Opened<T> = (
    Filesystem,
    [Found; 2],
    Arc<dyn RemoteHandle>,
    std::thread::JoinHandle<T>,
);

/// The same for a file of another mode.
fn opened_as<T: Send + 'static>(
    mode: u32,
    script: impl FnOnce(Peer) -> T + Send + 'static,
) -> Opened<T> {
    let (filesystem, root, thread) = attached(Version::Base, move |peer| {
        let wqids = [file(2)];
        let wqids = Qids::new(&wqids);
        peer.reply(peer.expect("Twalk").tag, Rwalk { wqids });
        peer.reply(peer.expect("Tgetattr").tag, attr(file(2), mode));
        let wqids = Qids::new(&[]);
        peer.reply(peer.expect("Twalk").tag, Rwalk { wqids });
        let (qid, iounit) = (file(2), PIECE as u32);
        peer.reply(peer.expect("Tlopen").tag, Rlopen { qid, iounit });
        script(peer)
    });
    let mut found = Vec::new();
    let name = [Name::new(b"f").unwrap()];
    root.file
        .walk(&CALL, &name, &mut |file| found.push(file))
        .unwrap();
    let found = found.pop().unwrap();
    let handle = found.file.open(&CALL, READ_WRITE).unwrap();
    (filesystem, [root, found], handle, thread)
}

/// Offset and size of a Tread or Twrite.
fn piece(request: &Incoming) -> (u64, usize) {
    match request.message() {
        TMessage::Tread(Tread { offset, count, .. }) => (offset, count as usize),
        TMessage::Twrite(Twrite { offset, data, .. }) => {
            let content = data.as_bytes().iter().enumerate();
            for (at, byte) in content {
                assert_eq!(*byte, byte_at(offset + at as u64));
            }
            (offset, data.len())
        }
        other => panic!("{other:?}"),
    }
}

/// Answers a Tread or Twrite with `len` bytes.
fn answer(peer: &Peer, request: &Incoming, len: usize) {
    if request.kind == Twrite::KIND {
        let count = len as u32;
        return peer.reply(request.tag, Rwrite { count });
    }
    let (offset, _) = piece(request);
    let bytes: Vec<u8> = (offset..offset + len as u64).map(byte_at).collect();
    let data = Data::new(&bytes);
    peer.reply(request.tag, Rread { data });
}

fn answer_all(peer: &Peer, requests: &[Incoming]) {
    for request in requests {
        answer(peer, request, piece(request).1);
    }
}

fn take(peer: &Peer, count: usize) -> Vec<Incoming> {
    (0..count).map(|_| peer.next().unwrap()).collect()
}

/// Both directions, one after the other.
#[derive(Clone, Copy)]
enum Way {
    Read,
    Write,
}

const BOTH: [Way; 2] = [Way::Read, Way::Write];

/// Moves `size` bytes from offset 7 on, and checks those that were read.
fn transfer(way: Way, handle: &dyn RemoteHandle, call: &Call<'_>, size: usize) -> Moved {
    let content: Vec<u8> = (7..7 + size as u64).map(byte_at).collect();
    match way {
        Way::Write => {
            let (one, two) = content.split_at(size / 3);
            handle.write_at(call, &[IoSlice::new(one), IoSlice::new(two)], 7)
        }
        Way::Read => {
            let mut buffer = vec![0; size];
            let (one, two) = buffer.split_at_mut(size / 3);
            let mut into = [IoSliceMut::new(one), IoSliceMut::new(two)];
            let moved = handle.read_at(call, &mut into, 7);
            assert!(buffer[..moved.n] == content[..moved.n]);
            moved
        }
    }
}

#[test]
fn a_window_of_pieces_is_under_way_and_answers_come_in_any_order() {
    for way in BOTH {
        let (_filesystem, _files, handle, thread) = opened(|peer| {
            let mut first = take(&peer, PIECES);
            let offsets: Vec<_> = first.iter().map(|request| piece(request).0).collect();
            let expected: Vec<_> = (0..PIECES).map(|at| (7 + at * PIECE) as u64).collect();
            assert_eq!(offsets, expected);
            assert!(!peer.has_input(), "more than the window");
            // The oldest is answered last: nothing goes on before.
            let oldest = first.remove(0);
            first.reverse();
            answer_all(&peer, &first);
            assert!(!peer.has_input(), "the window moved without its oldest");
            answer_all(&peer, &[oldest]);
            let rest = take(&peer, 5);
            assert_eq!(piece(&rest[4]).1, 30);
            answer_all(&peer, &rest);
        });
        let size = (PIECES + 4) * PIECE + 30;
        let moved = transfer(way, &*handle, &CALL, size);
        assert_eq!((moved.n, moved.error), (size, None));
        drop(handle);
        thread.join().unwrap();
    }
}

#[test]
fn pieces_for_a_fifo_go_one_by_one_and_say_no_offset() {
    let (_filesystem, _files, handle, thread) = opened_as(0o010644, |peer| {
        for _ in 0..3 {
            let request = peer.next().unwrap();
            let TMessage::Twrite(Twrite { offset, data, .. }) = request.message() else {
                panic!("no write");
            };
            assert_eq!(offset, u64::MAX);
            assert!(!peer.has_input(), "another before the answer");
            let count = data.len() as u32;
            peer.reply(request.tag, Rwrite { count });
        }
    });
    let content = vec![7; 2 * PIECE + 10];
    let moved = handle.write_at(&CALL, &[IoSlice::new(&content)], u64::MAX);
    assert_eq!((moved.n, moved.error), (content.len(), None));
    drop(handle);
    thread.join().unwrap();
}

#[test]
fn a_short_piece_in_the_middle_is_gone_on_from() {
    for way in BOTH {
        let (_filesystem, _files, handle, thread) = opened(|peer| {
            let pieces = take(&peer, 5);
            // The later ones come first, and do not count.
            for (request, len) in pieces.iter().zip([PIECE, 40, PIECE, PIECE, PIECE]).rev() {
                answer(&peer, request, len);
            }
            let again = take(&peer, 4);
            let offsets: Vec<_> = again.iter().map(piece).collect();
            assert_eq!(offsets, [(147, 100), (247, 100), (347, 100), (447, 60)]);
            answer_all(&peer, &again);
        });
        let moved = transfer(way, &*handle, &CALL, 5 * PIECE);
        assert_eq!((moved.n, moved.error), (5 * PIECE, None));
        drop(handle);
        thread.join().unwrap();
    }
}

#[test]
fn an_empty_piece_in_the_middle_is_the_end() {
    for (way, error) in [
        (Way::Read, None),
        (Way::Write, Some(RemoteError::refused(Errno::EIO))),
    ] {
        let (filesystem, _files, handle, thread) = opened(|peer| {
            let pieces = take(&peer, 4);
            for (request, len) in pieces.iter().zip([PIECE, 0, PIECE, 0]) {
                answer(&peer, request, len);
            }
            peer.drain()
        });
        let moved = transfer(way, &*handle, &CALL, 4 * PIECE);
        assert_eq!((moved.n, moved.error), (PIECE, error));
        drop((handle, _files));
        filesystem.shutdown();
        // Nothing is left to flush.
        assert_eq!(thread.join().unwrap(), ["Tclunk"; 3]);
    }
}

#[test]
fn an_error_in_the_middle_reports_the_bytes_before_it() {
    for way in BOTH {
        let (filesystem, _files, handle, thread) = opened(|peer| {
            let pieces = take(&peer, 4);
            answer_all(&peer, &pieces[3..]);
            peer.error(pieces[2].tag, 28);
            answer_all(&peer, &pieces[..2]);
        });
        let moved = transfer(way, &*handle, &CALL, 4 * PIECE);
        let error = RemoteError::refused(Errno::ENOSPC);
        assert_eq!((moved.n, moved.error), (2 * PIECE, Some(error)));
        assert_eq!(filesystem.line.session().lock().table.tags_in_use(), 0);
        thread.join().unwrap();
    }
}

#[test]
fn cancelling_flushes_all_that_is_under_way() {
    for way in BOTH {
        let cancel = Arc::new(Cancel::new().unwrap());
        let setter = cancel.clone();
        let (filesystem, files, handle, thread) = opened(move |peer| {
            let pieces = take(&peer, PIECES);
            answer_all(&peer, &pieces[..1]);
            let next = peer.next().unwrap();
            setter.set();
            let mut old: Vec<Tag> = pieces[1..].iter().map(|request| request.tag).collect();
            old.push(next.tag);
            for flush in take(&peer, PIECES) {
                let TMessage::Tflush(Tflush { oldtag }) = flush.message() else {
                    panic!("{}", flush.message().name());
                };
                old.retain(|tag| *tag != oldtag);
                peer.reply(flush.tag, Rflush {});
            }
            assert_eq!(old, []);
            let last = peer.next().unwrap();
            peer.reply(last.tag, attr(super::peer::file(2), 0o100644));
        });
        let call = Call {
            deadline: None,
            cancel: Some(&cancel),
        };
        let moved = transfer(way, &*handle, &call, 40 * PIECE);
        let error = RemoteError::unknown(Errno::EINTR);
        assert_eq!((moved.n, moved.error), (PIECE, Some(error)));
        files[1]
            .file
            .attr(&CALL, gofer_vfs::AttrMask::BASIC)
            .unwrap();
        assert_eq!(filesystem.line.session().lock().table.tags_in_use(), 0);
        thread.join().unwrap();
    }
}
