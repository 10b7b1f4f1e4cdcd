//! Deadlines and cancels: of the call on the wire, of those that wait for it, and what the next
//! caller finds.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use gofer_lisafs::wire::{
    FStatResp, Fdid, Message, Mid, OpenAtResp, OpenCreateAtResp, PReadResp, PWriteReq, PWriteResp,
    ReadData, WalkResp, WalkStatus, WriteData,
};
use gofer_transport::Wait;
use gofer_vfs::remote::{Call, Cancel, Fate, OpenMode, Owner, RemoteHandle, RemoteResult};
use gofer_vfs::{Access, Attr, AttrMask, Errno, Name};

use crate::common::peer::{Marked, Peer, Session, call, inode, session, short_call, stat};

const READ_WRITE: OpenMode = OpenMode {
    access: Access::ReadWrite,
    truncate: false,
};

fn encoded<'r>(message: &impl Message<'r>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

/// A session whose script goes on when told.
fn stepped<T: Send + 'static>(
    script: impl FnOnce(&Peer, Receiver<()>) -> T + Send + 'static,
) -> (Session<T>, Sender<()>) {
    let (go, told) = channel();
    (session(move |peer| script(&peer, told)), go)
}

fn attr<T>(session: &Session<T>, call: &Call<'_>) -> RemoteResult<Attr> {
    session.root.file.attr(call, AttrMask::BASIC)
}

fn answer_attr(peer: &Peer, ino: u64) {
    peer.expect(Mid::FSTAT);
    peer.reply(
        &FStatResp {
            stat: stat(ino, 0o100644),
        },
        &[],
    );
}

#[test]
fn a_late_answer_is_not_taken_for_that_of_the_next_call() {
    // Cut at every interesting place: what is there before the caller gives up, and after.
    let late = encoded(&FStatResp {
        stat: stat(66, 0o100600),
    });
    for cut in [0, 1, 8, 9, 100] {
        let (before, after) = (late[..cut].to_vec(), late[cut..].to_vec());
        let (session, go) = stepped(move |peer, told| {
            peer.expect(Mid::FSTAT);
            if !before.is_empty() {
                peer.send(&before, &[]);
            }
            told.recv().unwrap();
            peer.send(&after, &[]);
            answer_attr(peer, 5);
        });
        let error = attr(&session, &short_call()).unwrap_err();
        assert_eq!(
            (error.errno, error.fate),
            (Errno::ETIMEDOUT, Fate::Unknown),
            "cut at {cut}"
        );
        // Still silent: the next caller gives up as well, without having sent anything.
        let error = attr(&session, &short_call()).unwrap_err();
        assert_eq!((error.errno, error.fate), (Errno::ETIMEDOUT, Fate::NotSent));
        go.send(()).unwrap();
        assert_eq!(attr(&session, &call()).unwrap().mode, 0o644, "cut at {cut}");
        session.finish();
    }
}

#[test]
fn what_a_late_answer_brings_is_closed() {
    let host = Arc::new(Marked::new());
    let given = host.clone();
    let (session, go) = stepped(move |peer, told| {
        peer.expect(Mid::OPEN_CREATE_AT);
        told.recv().unwrap();
        let child = inode(31, 0o100644);
        peer.reply(
            &OpenCreateAtResp {
                child,
                open_fd: Fdid::new(32),
            },
            &[given.fd()],
        );
        peer.expect(Mid::WALK);
        told.recv().unwrap();
        let inodes = [inode(33, 0o040755), inode(34, 0o040755)];
        peer.reply(
            &WalkResp {
                status: WalkStatus::SUCCESS,
                inodes: &inodes,
            },
            &[],
        );
        answer_attr(peer, 5);
        peer.expect_close()
    });
    let file = &session.root.file;
    let name = Name::new(b"n").unwrap();
    let result = file.create(&short_call(), name, 0o644, Owner::default(), READ_WRITE);
    assert_eq!(result.err().unwrap().errno, Errno::ETIMEDOUT);
    go.send(()).unwrap();
    // Given up before it was sent, a walk brings nothing: until one has been sent.
    while file
        .walk(&short_call(), &[name, name], &mut drop)
        .unwrap_err()
        .fate
        == Fate::NotSent
    {}
    go.send(()).unwrap();
    attr(&session, &call()).unwrap();
    session.fs.flush_closes(&call()).unwrap();
    assert_eq!(session.finish(), [31, 32, 33, 34]);
    assert_eq!(host.copies(), 0);
}

#[test]
fn a_waiter_keeps_its_own_deadline_and_cancel() {
    let (asked, was_asked) = channel();
    let (session, go) = stepped(move |peer, told| {
        peer.expect(Mid::FSTAT);
        asked.send(()).unwrap();
        told.recv().unwrap();
        peer.reply(
            &FStatResp {
                stat: stat(5, 0o100644),
            },
            &[],
        );
        peer.rest()
    });
    let cancel = Cancel::new().unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| attr(&session, &call()));
        was_asked.recv().unwrap();
        let error = attr(&session, &short_call()).unwrap_err();
        assert_eq!((error.errno, error.fate), (Errno::ETIMEDOUT, Fate::NotSent));
        let cancelled = Call {
            cancel: Some(&cancel),
            deadline: None,
        };
        let session = &session;
        let waiter = scope.spawn(move || attr(session, &cancelled));
        cancel.set();
        let error = waiter.join().unwrap().unwrap_err();
        assert_eq!((error.errno, error.fate), (Errno::EINTR, Fate::NotSent));
        go.send(()).unwrap();
        assert!(first.join().unwrap().is_ok());
    });
    assert_eq!(session.finish(), []);
}

#[test]
fn a_cancel_ends_a_call_on_the_wire() {
    let (asked, was_asked) = channel();
    let (session, go) = stepped(move |peer, told| {
        peer.expect(Mid::FSTAT);
        asked.send(()).unwrap();
        told.recv().unwrap();
        peer.reply(
            &FStatResp {
                stat: stat(6, 0o100600),
            },
            &[],
        );
        answer_attr(peer, 5);
    });
    let cancel = Cancel::new().unwrap();
    std::thread::scope(|scope| {
        let cancelled = Call {
            cancel: Some(&cancel),
            deadline: None,
        };
        let session = &session;
        let caller = scope.spawn(move || attr(session, &cancelled));
        was_asked.recv().unwrap();
        cancel.set();
        let error = caller.join().unwrap().unwrap_err();
        assert_eq!((error.errno, error.fate), (Errno::EINTR, Fate::Unknown));
    });
    go.send(()).unwrap();
    assert_eq!(attr(&session, &call()).unwrap().mode, 0o644);
    session.finish();
}

#[test]
fn a_cancel_that_is_set_or_a_deadline_that_has_passed_sends_nothing() {
    let session = session(|peer| peer.rest());
    let cancel = Cancel::new().unwrap();
    cancel.set();
    let error = attr(
        &session,
        &Call {
            cancel: Some(&cancel),
            deadline: None,
        },
    )
    .unwrap_err();
    assert_eq!((error.errno, error.fate), (Errno::EINTR, Fate::NotSent));
    let past = Call {
        deadline: Some(std::time::Instant::now()),
        cancel: None,
    };
    let error = attr(&session, &past).unwrap_err();
    assert_eq!((error.errno, error.fate), (Errno::ETIMEDOUT, Fate::NotSent));
    assert_eq!(session.finish(), []);
}

fn open(session: &Session<impl Sized>) -> Arc<dyn RemoteHandle> {
    session.root.file.open(&call(), READ_WRITE).unwrap()
}

fn answer_open(peer: &Peer) {
    peer.expect(Mid::OPEN_AT);
    peer.reply(
        &OpenAtResp {
            open_fd: Fdid::new(9),
        },
        &[],
    );
}

#[test]
fn a_request_given_up_half_sent_is_sent_by_the_next_callers() {
    let data: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
    let expected = encoded(&PWriteReq {
        offset: 7,
        fd: Fdid::new(9),
        data: WriteData(&data),
    });
    let (session, go) = stepped(move |peer, told| {
        answer_open(peer);
        // A megabyte does not fit into the socket, and is read in pieces, when told.
        let mut request = vec![0; expected.len()];
        for part in request.chunks_mut(400_000) {
            told.recv().unwrap();
            let received = peer.stream.receive_exact(part, None, &Wait::default());
            assert!(received.unwrap());
        }
        assert!(request == expected, "the request came over damaged");
        peer.reply(&PWriteResp { count: 1_000_000 }, &[]);
        answer_attr(peer, 5);
    });
    let handle = open(&session);
    let moved = handle.write_at(&short_call(), &[IoSlice::new(&data)], 7);
    assert_eq!(moved.n, 0);
    let error = moved.error.unwrap();
    assert_eq!((error.errno, error.fate), (Errno::ETIMEDOUT, Fate::Unknown));
    // The next callers give up, too, having sent some more of it, and must lose nothing.
    for _ in 0..2 {
        go.send(()).unwrap();
        assert_eq!(
            attr(&session, &short_call()).unwrap_err().fate,
            Fate::NotSent
        );
    }
    go.send(()).unwrap();
    assert_eq!(attr(&session, &call()).unwrap().mode, 0o644);
    session.finish();
}

#[test]
fn data_of_a_read_given_up_is_skipped() {
    let answer = encoded(&PReadResp {
        data: ReadData(&[7; 5000]),
    });
    for cut in [0, 8, 12, 16, 300] {
        let (before, after) = (answer[..cut].to_vec(), answer[cut..].to_vec());
        let (session, go) = stepped(move |peer, told| {
            answer_open(peer);
            peer.expect(Mid::PREAD);
            if !before.is_empty() {
                peer.send(&before, &[]);
            }
            told.recv().unwrap();
            peer.send(&after, &[]);
            peer.expect(Mid::PREAD);
            peer.reply(
                &PReadResp {
                    data: ReadData(b"right"),
                },
                &[],
            );
        });
        let handle = open(&session);
        let mut buffer = [0; 5000];
        let moved = handle.read_at(&short_call(), &mut [IoSliceMut::new(&mut buffer)], 0);
        assert_eq!(moved.error.map(|error| error.errno), Some(Errno::ETIMEDOUT));
        assert_eq!(moved.n, 0);
        go.send(()).unwrap();
        let moved = handle.read_at(&call(), &mut [IoSliceMut::new(&mut buffer)], 0);
        assert_eq!((moved.n, moved.error), (5, None), "cut at {cut}");
        assert_eq!(&buffer[..5], b"right");
        drop(handle);
        session.finish();
    }
}

#[test]
fn callers_that_give_up_all_the_time_stop_nobody() {
    let session = session(|peer| {
        let mut count = 0;
        while let Some((mid, _)) = peer.next() {
            assert_eq!(mid, Mid::FSTAT);
            count += 1;
            // Late now and then, so that some callers give up on the wire.
            if count % 7 == 0 {
                std::thread::yield_now();
            }
            // The last may be for a caller that gave up before everybody left.
            let answer = encoded(&FStatResp {
                stat: stat(5, 0o100644),
            });
            let _ = peer
                .stream
                .send(&[IoSlice::new(&answer)], &[], &Wait::default());
        }
    });
    let patient_done = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..500 {
                    attr(&session, &call()).expect("a patient caller is served");
                }
                patient_done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            });
        }
        for impatience in 0..3u64 {
            let (session, patient_done) = (&session, &patient_done);
            scope.spawn(move || {
                let mut round = impatience;
                while patient_done.load(std::sync::atomic::Ordering::SeqCst) < 3 {
                    round = round * 31 % 397;
                    let cancel = Cancel::new().unwrap();
                    let soon = std::time::Duration::from_micros(round);
                    let deadline = Some(std::time::Instant::now() + soon);
                    let with_cancel = (round % 2 == 0).then_some(&cancel);
                    match attr(
                        session,
                        &Call {
                            deadline,
                            cancel: with_cancel,
                        },
                    ) {
                        Ok(attr) => assert_eq!(attr.mode, 0o644),
                        Err(error) => assert_eq!(error.errno, Errno::ETIMEDOUT),
                    }
                }
            });
        }
    });
    session.finish();
}
