//! Calls over channels, and windows in the hands of servers that mean harm or die.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gofer_lisafs::wire::{
    AnyRequest, FStatResp, Fdid, Mid, OpenAtResp, OpenCreateAtResp, PReadResp, PWriteResp, ReadData,
};
use gofer_vfs::remote::{
    Call, Cancel, Fate, FileKey, OpenMode, Owner, RemoteEvents, RemoteHandle, RemoteResult,
};
use gofer_vfs::{Access, Attr, AttrMask, Errno, Name};

use crate::common::channel::{Channel, with_channels};
use crate::common::peer::{Marked, Peer, Session, call, inode, short_call, stat};

const READ_WRITE: OpenMode = OpenMode {
    access: Access::ReadWrite,
    truncate: false,
};

fn attr<T>(session: &Session<T>, call: &Call<'_>) -> RemoteResult<Attr> {
    session.root.file.attr(call, AttrMask::BASIC)
}

fn file_of(ino: u64) -> FStatResp {
    FStatResp {
        stat: stat(ino, 0o100644),
    }
}

/// Answers FStat with this inode number.
fn answer_attr(channel: &mut Channel, ino: u64) {
    channel.expect(Mid::FSTAT);
    channel.reply(&file_of(ino), &[]);
}

fn answer_attr_on_socket(peer: &Peer) {
    peer.expect(Mid::FSTAT);
    peer.reply(&file_of(1), &[]);
}

fn open<T>(session: &Session<T>) -> Arc<dyn RemoteHandle> {
    session.root.file.open(&call(), READ_WRITE).unwrap()
}

fn answer_open(channel: &mut Channel) {
    channel.expect(Mid::OPEN_AT);
    let open_fd = Fdid::new(9);
    channel.reply(&OpenAtResp { open_fd }, &[]);
}

#[test]
fn calls_go_over_the_channel_and_data_moves_in_the_window() {
    let session = with_channels(1, |peer, mut channels| {
        let channel = &mut channels[0];
        let mut asked = vec![channel.expect(Mid::FSTAT)];
        channel.reply(&file_of(5), &[]);
        answer_open(channel);
        asked.push(channel.expect(Mid::PWRITE));
        channel.reply(&PWriteResp { count: 11 }, &[]);
        asked.push(channel.expect(Mid::PREAD));
        let data = ReadData(b"some bytes");
        channel.reply(&PReadResp { data }, &[]);
        channel.rest();
        (asked, peer.rest())
    });
    assert_eq!(attr(&session, &call()).unwrap().size, 5);
    let handle = open(&session);
    let parts = [&b"hello "[..], b"", b"world"].map(IoSlice::new);
    let moved = handle.write_at(&call(), &parts, 3);
    assert_eq!((moved.n, moved.error), (11, None));
    let (mut one, mut two) = ([0; 4], [0; 8]);
    let into = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
    let moved = handle.read_at(&call(), into, 7);
    assert_eq!((moved.n, moved.error), (10, None));
    assert_eq!((&one, &two[..6]), (b"some", &b" bytes"[..]));
    let traffic = session.fs.traffic();
    assert_eq!(traffic.requests, traffic.round_trips);
    drop(handle);
    let (asked, on_socket) = session.finish();
    assert_eq!(
        asked,
        [
            "> FStat fd 1",
            "> PWrite offset 3 fd 9 data 11 bytes",
            "> PRead offset 7 fd 9 count 12"
        ]
    );
    assert_eq!(on_socket, []);
}

#[test]
fn descriptors_come_beside_the_window() {
    // How many are announced, how many come, and whether the handle has one.
    for (announced, sent, taken) in [(1, 1, true), (0, 0, false), (1, 0, false), (9, 3, true)] {
        let host = Arc::new(Marked::new());
        let given = host.clone();
        let session = with_channels(1, move |_peer, mut channels| {
            let channel = &mut channels[0];
            channel.expect(Mid::OPEN_AT);
            for _ in 0..sent {
                channel.socket.send(&[], &[given.fd()]).unwrap();
            }
            let open_fd = 9u64.to_le_bytes();
            channel.answer(Mid::OPEN_AT, announced, &open_fd);
            answer_attr(channel, 5);
            channel.rest();
        });
        let handle = open(&session);
        assert_eq!(handle.host_fd().is_some(), taken);
        assert_eq!(host.copies(), usize::from(taken));
        attr(&session, &call()).unwrap();
        drop(handle);
        session.finish();
        assert_eq!(host.copies(), 0);
    }
}

#[test]
fn descriptors_nobody_asked_for_are_closed() {
    let host = Arc::new(Marked::new());
    let given = host.clone();
    let session = with_channels(1, move |_peer, mut channels| {
        let channel = &mut channels[0];
        for mid in [Mid::ERROR, Mid::FSTAT, Mid::new(999)] {
            channel.expect(Mid::FSTAT);
            channel.socket.send(&[], &[given.fd()]).unwrap();
            channel.answer(mid, 1, &[13; 4]);
        }
        channel.rest();
    });
    for errno in [Errno::from_raw(0x0d0d0d0d), Errno::EIO, Errno::EINVAL] {
        assert_eq!(attr(&session, &call()).unwrap_err().errno, errno);
        assert_eq!(host.copies(), 0);
    }
    session.finish();
}

#[test]
fn what_is_wrong_with_a_response_does_not_end_its_channel() {
    let session = with_channels(1, |peer, mut channels| {
        let channel = &mut channels[0];
        answer_open(channel);
        for payload in [
            // More than was asked for, more than is there, no count at all.
            &[5, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5][..],
            &[4, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3],
            &[4, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4],
            &[1, 2, 3],
        ] {
            channel.expect(Mid::PREAD);
            channel.answer(Mid::PREAD, 0, payload);
        }
        for (mid, payload) in [
            (Mid::FSTAT, &[0; 143][..]),
            (Mid::WALK, &[0; 144]),
            (Mid::ERROR, &[2, 0, 0]),
            (Mid::ERROR, &[2, 0, 0, 0]),
        ] {
            channel.expect(Mid::FSTAT);
            channel.answer(mid, 0, payload);
        }
        answer_attr(channel, 5);
        channel.rest();
        peer.rest()
    });
    let handle = open(&session);
    for _ in 0..4 {
        let mut buffer = [7; 4];
        let moved = handle.read_at(&call(), &mut [IoSliceMut::new(&mut buffer)], 0);
        assert_eq!(moved.error.unwrap().errno, Errno::EIO);
        assert_eq!((moved.n, buffer), (0, [7; 4]));
    }
    for errno in [Errno::EIO, Errno::EINVAL, Errno::EIO, Errno::ENOENT] {
        assert_eq!(attr(&session, &call()).unwrap_err().errno, errno);
    }
    attr(&session, &call()).unwrap();
    drop(handle);
    assert_eq!(session.finish(), []);
}

#[test]
fn a_window_full_of_garbage_ends_its_channel_and_nothing_else() {
    type Harm = fn(&mut Channel);
    let harms: [Harm; 6] = [
        |channel| channel.set_state(7),
        |channel| channel.set_state(u32::MAX),
        |channel| {
            channel.endpoint.window().set_datagram_length(u32::MAX);
            channel.set_state(0);
        },
        // Too short for a header, and a byte more than the window holds.
        |channel| channel.pass(3),
        |channel| {
            let capacity = channel.endpoint.window().capacity() as u32;
            channel.endpoint.window().set_datagram_length(capacity + 1);
            channel.set_state(0);
        },
        |channel| channel.endpoint.shut_down(),
    ];
    for (index, harm) in harms.into_iter().enumerate() {
        let session = with_channels(2, move |peer, mut channels| {
            // The last used goes first, and the last opened before.
            let bad = &mut channels[1];
            answer_attr(bad, 5);
            bad.expect(Mid::FSTAT);
            harm(bad);
            answer_attr(&mut channels[0], 6);
            channels[0].rest();
            peer.rest()
        });
        attr(&session, &call()).unwrap();
        let error = attr(&session, &call()).unwrap_err();
        assert_eq!(
            (error.errno, error.fate),
            (Errno::EIO, Fate::Unknown),
            "harm {index}"
        );
        attr(&session, &call()).unwrap();
        assert_eq!(session.finish(), [], "harm {index}");
    }
}

#[test]
fn without_a_channel_left_calls_go_over_the_socket() {
    let session = with_channels(1, |peer, mut channels| {
        channels[0].expect(Mid::FSTAT);
        channels[0].set_state(9);
        answer_attr_on_socket(&peer);
        answer_attr_on_socket(&peer);
    });
    attr(&session, &call()).unwrap_err();
    attr(&session, &call()).unwrap();
    attr(&session, &call()).unwrap();
    session.finish();
}

#[test]
fn a_response_that_changes_while_it_is_read_is_no_danger() {
    let session = with_channels(1, |_peer, mut channels| {
        let channel = &mut channels[0];
        let endpoint = channel.endpoint.clone();
        let (stop, stopped) = mpsc::channel();
        let scribbler = std::thread::spawn(move || {
            while let Err(mpsc::TryRecvError::Empty) = stopped.try_recv() {
                for byte in [0u8, 12, 0xff] {
                    endpoint.window().write(0, &[byte; 200]);
                }
            }
        });
        while channel
            .endpoint
            .receive(&mut || Ok(Duration::from_millis(100)))
            .is_ok()
        {
            channel.pass(200);
        }
        stop.send(()).unwrap();
        scribbler.join().unwrap();
    });
    for _ in 0..2000 {
        // Any result will do, and in the end there is one.
        let _ = attr(&session, &call());
    }
    session.finish();
}

#[derive(Default)]
struct Losses(AtomicU32);

impl RemoteEvents for Losses {
    fn lost(&self, _epoch: u32) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn changed(&self, _key: FileKey, _name: Option<&[u8]>) {}
    fn overflow(&self) {}
}

#[test]
fn the_death_of_the_server_is_eio_for_everybody_within_a_second() {
    let (asked, was_asked) = mpsc::channel();
    let (die, told) = mpsc::channel::<()>();
    let session = with_channels(2, move |peer, mut channels| {
        for channel in &mut channels {
            channel.expect(Mid::FSTAT);
        }
        peer.expect(Mid::FSTAT);
        asked.send(()).unwrap();
        told.recv().unwrap();
        // As a process that is killed does: nothing is written, everything is closed.
    });
    let losses = Arc::new(Losses::default());
    let sink: Arc<dyn RemoteEvents> = losses.clone();
    session.fs.subscribe(Arc::downgrade(&sink));
    // Two on channels, one on the socket, three that wait for their turn.
    let callers: Vec<_> = (0..6)
        .map(|_| {
            let file = session.root.file.clone();
            std::thread::spawn(move || {
                let error = file.attr(&Call::default(), AttrMask::BASIC).unwrap_err();
                (error.errno, Instant::now())
            })
        })
        .collect();
    was_asked.recv().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let died = Instant::now();
    die.send(()).unwrap();
    for caller in callers {
        let (errno, when) = caller.join().unwrap();
        assert_eq!(errno, Errno::EIO);
        assert!(when.duration_since(died) < Duration::from_secs(1));
    }
    assert_eq!(losses.0.load(Ordering::SeqCst), 1);
    let error = attr(&session, &call()).unwrap_err();
    assert_eq!((error.errno, error.fate), (Errno::EIO, Fate::NotSent));
    session.finish();
}

#[test]
fn a_death_is_seen_from_a_channel_alone() {
    let (asked, was_asked) = mpsc::channel();
    let (die, told) = mpsc::channel::<()>();
    let session = with_channels(1, move |_peer, mut channels| {
        channels[0].expect(Mid::FSTAT);
        asked.send(()).unwrap();
        told.recv().unwrap();
    });
    let losses = Arc::new(Losses::default());
    let sink: Arc<dyn RemoteEvents> = losses.clone();
    session.fs.subscribe(Arc::downgrade(&sink));
    let file = session.root.file.clone();
    let caller =
        std::thread::spawn(move || file.attr(&Call::default(), AttrMask::BASIC).unwrap_err());
    was_asked.recv().unwrap();
    let died = Instant::now();
    die.send(()).unwrap();
    assert_eq!(caller.join().unwrap().errno, Errno::EIO);
    assert!(died.elapsed() < Duration::from_secs(1));
    assert_eq!(losses.0.load(Ordering::SeqCst), 1);
    session.finish();
}

#[test]
fn a_shutdown_wakes_everybody_and_ends_the_windows() {
    let (asked, was_asked) = mpsc::channel();
    let session = with_channels(2, move |peer, mut channels| {
        channels[1].expect(Mid::FSTAT);
        asked.send(()).unwrap();
        channels.iter_mut().for_each(|channel| {
            channel.rest();
        });
        peer.rest()
    });
    let file = session.root.file.clone();
    let caller =
        std::thread::spawn(move || file.attr(&Call::default(), AttrMask::BASIC).unwrap_err());
    was_asked.recv().unwrap();
    session.fs.shutdown();
    assert_eq!(caller.join().unwrap().errno, Errno::EIO);
    assert_eq!(session.finish(), []);
}

#[test]
fn a_late_answer_is_cleaned_up_and_its_channel_used_again() {
    let host = Arc::new(Marked::new());
    let given = host.clone();
    let (go, told) = mpsc::channel::<()>();
    let (done, is_done) = mpsc::channel();
    let session = with_channels(1, move |peer, mut channels| {
        let channel = &mut channels[0];
        channel.expect(Mid::OPEN_CREATE_AT);
        // Meanwhile the socket serves.
        answer_attr_on_socket(&peer);
        told.recv().unwrap();
        let late = OpenCreateAtResp {
            child: inode(31, 0o100644),
            open_fd: Fdid::new(32),
        };
        channel.reply(&late, &[given.fd()]);
        done.send(()).unwrap();
        answer_attr(channel, 77);
        let (mid, payload) = channel.next().unwrap();
        let Ok(AnyRequest::Close(close)) = AnyRequest::decode(mid, &payload) else {
            panic!("{mid} instead of Close");
        };
        let closed: Vec<u64> = close.fds.iter().map(|fd| fd.get()).collect();
        channel.reply(&gofer_lisafs::wire::CloseResp {}, &[]);
        channel.rest();
        (closed, peer.rest())
    });
    let name = Name::new(b"n").unwrap();
    let file = &session.root.file;
    let result = file.create(&short_call(), name, 0o644, Owner::default(), READ_WRITE);
    let error = result.err().unwrap();
    assert_eq!((error.errno, error.fate), (Errno::ETIMEDOUT, Fate::Unknown));
    assert_eq!(attr(&session, &call()).unwrap().size, 5);
    go.send(()).unwrap();
    is_done.recv().unwrap();
    attr(&session, &call()).unwrap();
    assert_eq!(host.copies(), 0);
    session.fs.flush_closes(&call()).unwrap();
    assert_eq!(session.finish(), (vec![31, 32], vec![]));
}

#[test]
fn who_waits_for_any_transport_gets_the_channel_whose_answer_comes_late() {
    let (go, told) = mpsc::channel::<()>();
    let session = with_channels(1, move |peer, mut channels| {
        let channel = &mut channels[0];
        channel.expect(Mid::FSTAT);
        // The socket's caller is never answered.
        peer.expect(Mid::FSTAT);
        told.recv().unwrap();
        channel.reply(&file_of(1), &[]);
        answer_attr(channel, 2);
        channel.rest();
    });
    attr(&session, &short_call()).unwrap_err();
    let (answer, answers) = mpsc::channel();
    for _ in 0..2 {
        let (file, answer) = (session.root.file.clone(), answer.clone());
        std::thread::spawn(move || answer.send(file.attr(&call(), AttrMask::BASIC)).unwrap());
    }
    std::thread::sleep(Duration::from_millis(50));
    go.send(()).unwrap();
    // One of the two is on the socket and stays there.
    assert!(answers.recv().unwrap().is_ok());
    session.fs.shutdown();
    assert!(answers.recv().unwrap().is_err());
    session.finish();
}

#[test]
fn a_cancel_ends_a_wait_on_a_channel() {
    let (asked, was_asked) = mpsc::channel();
    let (go, told) = mpsc::channel::<()>();
    let session = with_channels(1, move |_peer, mut channels| {
        for _ in 0..2 {
            channels[0].expect(Mid::FSTAT);
            asked.send(()).unwrap();
            told.recv().unwrap();
            channels[0].reply(&file_of(5), &[]);
        }
        channels[0].rest();
    });
    // Before the first sleep of the wait is over, and in one of those that follow.
    for delay in [0, 150] {
        let cancel = Cancel::new().unwrap();
        let file = &session.root.file;
        std::thread::scope(|scope| {
            let cancelled = Call {
                cancel: Some(&cancel),
                deadline: None,
            };
            let caller = scope.spawn(move || file.attr(&cancelled, AttrMask::BASIC));
            was_asked.recv().unwrap();
            std::thread::sleep(Duration::from_millis(delay));
            let set = Instant::now();
            cancel.set();
            let error = caller.join().unwrap().unwrap_err();
            assert_eq!((error.errno, error.fate), (Errno::EINTR, Fate::Unknown));
            assert!(set.elapsed() < Duration::from_secs(1));
        });
        go.send(()).unwrap();
        // The answer to what was given up is on its way: until it is there the socket is free.
        std::thread::sleep(Duration::from_millis(50));
    }
    session.finish();
}

/// Answers each PRead with its offset, until the client leaves.
fn serve_offsets(mut channel: Channel) -> usize {
    let mut served = 0;
    while let Some((mid, payload)) = channel.next() {
        let offset = match AnyRequest::decode(mid, &payload).unwrap() {
            AnyRequest::PRead(request) => request.offset.to_le_bytes(),
            AnyRequest::OpenAt(_) => {
                channel.reply(
                    &OpenAtResp {
                        open_fd: Fdid::new(9),
                    },
                    &[],
                );
                continue;
            }
            other => panic!("unexpected {}", other.mid()),
        };
        served += 1;
        let data = ReadData(&offset);
        channel.reply(&PReadResp { data }, &[]);
    }
    served
}

#[test]
fn sixteen_callers_share_four_channels_and_the_socket() {
    let session = with_channels(4, |peer, channels| {
        let serving: Vec<_> = channels
            .into_iter()
            .map(|channel| std::thread::spawn(move || serve_offsets(channel)))
            .collect();
        let mut served = 0;
        while let Some((mid, payload)) = peer.next() {
            let AnyRequest::PRead(request) = AnyRequest::decode(mid, &payload).unwrap() else {
                panic!("unexpected {mid}");
            };
            served += 1;
            let offset = request.offset.to_le_bytes();
            let data = ReadData(&offset);
            peer.reply(&PReadResp { data }, &[]);
        }
        let on_channels = serving.into_iter().map(|thread| thread.join().unwrap());
        on_channels.chain([served]).sum::<usize>()
    });
    let handle = open(&session);
    std::thread::scope(|scope| {
        for thread in 0..16u64 {
            let handle = &handle;
            scope.spawn(move || {
                for round in 0..500 {
                    let offset = thread << 32 | round;
                    let mut buffer = [0; 8];
                    let moved =
                        handle.read_at(&call(), &mut [IoSliceMut::new(&mut buffer)], offset);
                    assert_eq!((moved.n, moved.error), (8, None));
                    assert_eq!(u64::from_le_bytes(buffer), offset);
                }
            });
        }
    });
    drop(handle);
    assert_eq!(session.finish(), 16 * 500);
}

#[test]
fn windows_and_sockets_are_gone_with_the_connection() {
    let session = with_channels(3, |_peer, mut channels| {
        let marks: Vec<_> = channels
            .iter()
            .map(|channel| channel.socket.as_fd().try_clone_to_owned().unwrap())
            .collect();
        channels.iter_mut().for_each(|channel| {
            channel.rest();
        });
        marks
    });
    session.fs.shutdown();
    for mark in session.finish() {
        let mut polled = [rustix::event::PollFd::new(
            &mark,
            rustix::event::PollFlags::empty(),
        )];
        rustix::event::poll(&mut polled, None).unwrap();
        assert!(polled[0].revents().contains(rustix::event::PollFlags::HUP));
    }
}
