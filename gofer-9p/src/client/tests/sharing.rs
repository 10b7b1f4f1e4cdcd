//! Many callers on one connection, clunks in passing, and bytes both ways at once.

use std::collections::HashSet;
use std::io::{IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gofer_transport::{Cancel, Tracer};
use gofer_vfs::remote::{
    Call, Found, OpenMode, Promptness, RemoteFilesystem, RemoteHandle, Traffic,
};
use gofer_vfs::{Access, AttrMask, Errno, Name};

use super::peer::{Peer, attached, attached_with, attr, block, dir, file};
use crate::client::Config;
use crate::client::session::Session;
use crate::wire::{
    Data, Fid, GetattrMask, Message, Qids, Rclunk, Rflush, Rfsync, Rlopen, Rread, Rwalk,
    Rwalkgetattr, Rwrite, TMessage, Tag, Tclunk, Tflush, Tgetattr, Twalkgetattr, Twrite, Version,
};

/// Answers requests for attributes and walks, a bunch at a time and last first, until the client
/// is gone. The mode tells the fid.
fn answer_backwards(peer: &Peer) {
    while let Some(first) = peer.next() {
        let mut bunch = vec![first];
        while bunch.len() < 7 && peer.has_input() {
            bunch.extend(peer.next());
        }
        // A flush is answered after everything that came before it.
        let (flushes, others): (Vec<_>, Vec<_>) = bunch
            .iter()
            .partition(|request| request.kind == Tflush::KIND);
        for request in others.into_iter().rev().chain(flushes) {
            match request.message() {
                TMessage::Tgetattr(Tgetattr { fid, .. }) => {
                    peer.reply(
                        request.tag,
                        attr(file(u64::from(fid.0)), 0o100000 | fid.0 & 0o777),
                    );
                }
                TMessage::Twalkgetattr(Twalkgetattr { newfid, .. }) => peer.reply(
                    request.tag,
                    Rwalkgetattr {
                        valid: GetattrMask::BASIC,
                        attr: block(0o100000 | newfid.0 & 0o777),
                        wqids: Qids::new(&[file(u64::from(newfid.0))]),
                    },
                ),
                TMessage::Tclunk(_) => peer.reply(request.tag, Rclunk {}),
                TMessage::Tflush(_) => peer.reply(request.tag, Rflush {}),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn every_caller_gets_its_own_reply() {
    let (filesystem, root, thread) = attached(Version::NEWEST, |peer| answer_backwards(&peer));
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let call = Call::default();
                for round in 0..300 {
                    let mut found = Vec::new();
                    let name = [Name::new(b"a").unwrap()];
                    root.file
                        .walk(&call, &name, &mut |file| found.push(file))
                        .unwrap();
                    let walked = found.pop().unwrap();
                    let attr = walked.file.attr(&call, AttrMask::BASIC).unwrap();
                    assert_eq!(walked.key.id[0] & 0o777, u64::from(walked.attr.mode));
                    assert_eq!(attr.mode, walked.attr.mode);
                    // Prompt ones are sent beside what others are sending.
                    if round % 2 == 0 {
                        walked.file.release(Promptness::Prompt);
                    }
                }
            });
        }
    });
    let session = filesystem.line.session();
    let state = session.lock();
    // At most the clunks of the last files are still on their way.
    assert!(
        state.table.fids_in_use() <= 13,
        "{}",
        state.table.fids_in_use()
    );
    drop(state);
    filesystem.shutdown();
    thread.join().unwrap();
}

#[test]
fn callers_that_give_up_at_any_moment_disturb_nobody_and_leak_nothing() {
    let (filesystem, root, thread) = attached(Version::NEWEST, |peer| answer_backwards(&peer));
    std::thread::scope(|scope| {
        for seed in 0..8u32 {
            let root = &root;
            scope.spawn(move || {
                let mut random = seed;
                for _ in 0..400 {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    // Every other call has between no time at all and some.
                    let time = Duration::from_micros(u64::from(random >> 20) % 300);
                    let patient = random & 1 << 18 != 0;
                    let deadline = if patient {
                        None
                    } else {
                        Some(Instant::now() + time)
                    };
                    let call = Call {
                        deadline,
                        cancel: None,
                    };
                    let mut found = Vec::new();
                    let name = [Name::new(b"a").unwrap()];
                    match root.file.walk(&call, &name, &mut |file| found.push(file)) {
                        Ok(_) => {
                            let found = found.pop().unwrap();
                            assert_eq!(found.key.id[0] & 0o777, u64::from(found.attr.mode));
                        }
                        Err(error) => {
                            assert!(!patient);
                            assert_eq!(error.errno, Errno::ETIMEDOUT);
                        }
                    }
                }
            });
        }
    });
    // Late replies and clunks are seen to in passing.
    let settled = || {
        let session = filesystem.line.session();
        let state = session.lock();
        (state.table.tags_in_use(), state.table.fids_in_use()) == (0, 1)
    };
    let patience = Instant::now() + Duration::from_secs(20);
    while !settled() {
        root.file.attr(&Call::default(), AttrMask::BASIC).unwrap();
        assert!(Instant::now() < patience, "something is left");
    }
    filesystem.shutdown();
    thread.join().unwrap();
}

/// Opens the root as a file.
fn opened(peer: &Peer) {
    peer.reply(
        peer.expect("Twalk").tag,
        Rwalk {
            wqids: Qids::new(&[]),
        },
    );
    peer.reply(
        peer.expect("Tlopen").tag,
        Rlopen {
            qid: file(1),
            iounit: 0,
        },
    );
}

fn open(root: &Found) -> Arc<dyn RemoteHandle> {
    let mode = OpenMode {
        access: Access::ReadWrite,
        truncate: false,
    };
    root.file.open(&Call::default(), mode).unwrap()
}

#[test]
fn a_server_that_takes_nothing_before_its_replies_are_taken_is_no_deadlock() {
    let cancel = Arc::new(Cancel::new().unwrap());
    let setter = cancel.clone();
    let (_filesystem, root, thread) = attached(Version::Base, move |peer| {
        opened(&peer);
        let read = peer.expect("Tread");
        setter.set();
        let flush = peer.expect("Tflush");
        // More than a socket holds, for a caller that has left.
        peer.reply(
            read.tag,
            Rread {
                data: Data::new(&vec![1; 1 << 19]),
            },
        );
        peer.reply(flush.tag, Rflush {});
        let write = peer.expect("Twrite");
        let TMessage::Twrite(Twrite { data, .. }) = write.message() else {
            return;
        };
        assert!(data.as_bytes().iter().all(|&byte| byte == 9));
        peer.reply(
            write.tag,
            Rwrite {
                count: data.len() as u32,
            },
        );
    });
    let handle = open(&root);
    let mut buffer = vec![0; 1 << 19];
    let call = Call {
        deadline: None,
        cancel: Some(&cancel),
    };
    let read = handle.read_at(&call, &mut [IoSliceMut::new(&mut buffer)], 0);
    assert_eq!(read.error.map(|error| error.errno), Some(Errno::EINTR));
    let bytes = vec![9; 1 << 19];
    let written = handle.write_at(&Call::default(), &[IoSlice::new(&bytes)], 0);
    assert_eq!((written.n, written.error), (1 << 19, None));
    thread.join().unwrap();
}

#[test]
fn data_for_another_caller_comes_by_way_of_a_buffer() {
    let (_filesystem, root, thread) = attached(Version::Base, |peer| {
        opened(&peer);
        // Whoever reads, one of the two replies is for the other caller.
        let mut requests = [peer.next().unwrap(), peer.next().unwrap()];
        requests.sort_by_key(|request| request.kind);
        let [getattr, read] = requests;
        peer.reply(
            read.tag,
            Rread {
                data: Data::new(b"hello"),
            },
        );
        peer.reply(getattr.tag, attr(file(1), 0o100644));
        // One that claims five bytes and has none.
        let mut requests = [peer.next().unwrap(), peer.next().unwrap()];
        requests.sort_by_key(|request| request.kind);
        let [_, read] = requests;
        let tag = read.tag.0 as u8;
        peer.send(&[11, 0, 0, 0, 117, tag, 0, 5, 0, 0, 0], &[]);
    });
    let handle = open(&root);
    for round in 0..2 {
        std::thread::scope(|scope| {
            let stat = scope.spawn(|| root.file.attr(&Call::default(), AttrMask::BASIC));
            let mut buffer = [0; 5];
            // Neither a regular file nor the end: one reply is all there is.
            let moved = handle.read_at(&Call::default(), &mut [IoSliceMut::new(&mut buffer)], 0);
            match round {
                0 => {
                    assert_eq!((moved.n, moved.error, &buffer), (5, None, b"hello"));
                    assert!(stat.join().unwrap().is_ok());
                }
                _ => {
                    assert_eq!(moved.n, 0);
                    assert_eq!(moved.error.map(|error| error.errno), Some(Errno::EIO));
                    assert!(stat.join().unwrap().is_err());
                }
            }
        });
    }
    thread.join().unwrap();
}

fn walk(root: &Found, name: &[u8]) -> Found {
    let mut found = Vec::new();
    let name = [Name::new(name).unwrap()];
    root.file
        .walk(&Call::default(), &name, &mut |file| found.push(file))
        .unwrap();
    found.pop().unwrap()
}

/// Answers a Twalkgetattr of one name; returns the new fid.
fn walked(peer: &Peer) -> Fid {
    let request = peer.expect("Twalkgetattr");
    let TMessage::Twalkgetattr(Twalkgetattr { newfid, .. }) = request.message() else {
        panic!("{}", request.message().name());
    };
    let qids = [file(u64::from(newfid.0))];
    let reply = Rwalkgetattr {
        valid: GetattrMask::BASIC,
        attr: block(0o100644),
        wqids: Qids::new(&qids),
    };
    peer.reply(request.tag, reply);
    newfid
}

#[test]
fn clunks_go_with_the_next_request_and_cost_no_round_trip() {
    let (filesystem, root, thread) = attached(Version::NEWEST, |peer| {
        let first = walked(&peer);
        let second = walked(&peer);
        let clunk = peer.expect("Tclunk");
        assert_eq!(clunk.message(), TMessage::Tclunk(Tclunk { fid: first }));
        // Unanswered, the number is not used again.
        let third = walked(&peer);
        assert!(second != first && third != first);
        peer.reply(clunk.tag, Rclunk {});
        peer.getattr(file(1), 0o100644);
        // Answered, it is.
        assert_eq!(walked(&peer), first);
        peer.drain()
    });
    drop(walk(&root, b"a"));
    let before = filesystem.traffic();
    let kept = [walk(&root, b"b"), walk(&root, b"c")];
    root.file.attr(&Call::default(), AttrMask::BASIC).unwrap();
    let last = walk(&root, b"d");
    let after = filesystem.traffic();
    assert_eq!(after.round_trips - before.round_trips, 4);
    assert_eq!(after.requests - before.requests, 5);
    drop((kept, last));
    filesystem.flush_closes(&Call::default()).unwrap();
    root.file.release(Promptness::Prompt);
    root.file.release(Promptness::Prompt);
    filesystem.shutdown();
    assert_eq!(thread.join().unwrap(), ["Tclunk"; 4]);
}

#[test]
fn a_long_queue_of_clunks_is_sent_by_itself() {
    let (_filesystem, root, thread) = attached(Version::NEWEST, |peer| {
        for _ in 0..100 {
            walked(&peer);
        }
        let fids: HashSet<Tag> = (0..65).map(|_| peer.expect("Tclunk").tag).collect();
        fids.len()
    });
    let files: Vec<_> = (0..100).map(|_| walk(&root, b"a")).collect();
    drop(files);
    assert_eq!(thread.join().unwrap(), 65);
}

#[test]
fn a_server_that_is_behind_with_clunks_is_waited_for() {
    const UNDER_WAY: usize = 256;
    let ((answer, told), (report, reports)) = (channel::<()>(), channel::<()>());
    let (filesystem, root, thread) = attached(Version::NEWEST, move |peer| {
        for _ in 0..900 {
            walked(&peer);
        }
        let clunks = || (0..UNDER_WAY).map(|_| peer.expect("Tclunk").tag);
        let first: Vec<Tag> = clunks().collect();
        // No more is sent of those that wait, however long none is answered.
        told.recv().unwrap();
        assert!(!peer.has_input());
        first.iter().for_each(|tag| peer.reply(*tag, Rclunk {}));
        report.send(()).unwrap();
        clunks().for_each(|tag| peer.reply(tag, Rclunk {}));
        report.send(()).unwrap();
        while let Some(request) = peer.next() {
            let _ = peer.try_reply(request.tag, Rclunk {});
        }
    });
    let files: Vec<_> = (0..900).map(|_| walk(&root, b"a")).collect();
    drop(files);
    let session = filesystem.line.session();
    let behind = || session.lock().table.are_clunks_behind();
    assert!(behind());
    // Nothing is answered: whoever comes by waits for it, and no longer than that helps.
    let begin = Instant::now();
    session.settle_clunks();
    assert!(begin.elapsed() >= Duration::from_millis(20));
    assert!(behind());
    answer.send(()).unwrap();
    let soon = Duration::from_secs(10);
    reports.recv_timeout(soon).unwrap();
    session.settle_clunks();
    assert!(!behind());
    // What was answered has made room for as many.
    reports.recv_timeout(soon).unwrap();
    filesystem.shutdown();
    thread.join().unwrap();
}

#[test]
fn a_request_left_to_a_kick_that_does_not_come_back_is_sent() {
    // The trace holds the kick up while it has the sender's role.
    let session = Arc::new(OnceLock::<Arc<Session>>::new());
    let (kicking, kicked) = channel();
    let (seen, held) = (session.clone(), AtomicBool::new(false));
    let tracer = Tracer::new(move |line| {
        if line.starts_with("> Tclunk") && !held.swap(true, Ordering::SeqCst) {
            kicking.send(()).unwrap();
            let session = seen.get().unwrap();
            while session.lock().outbox.is_empty() {
                std::thread::yield_now();
            }
        }
    });
    let config = Config {
        tracer,
        ..Config::default()
    };
    let (filesystem, root, thread) = attached_with(config, Version::NEWEST, |peer| {
        walked(&peer);
        let clunk = peer.expect("Tclunk");
        peer.reply(clunk.tag, Rclunk {});
        peer.getattr(file(1), 0o100644);
    });
    session.set(filesystem.line.session()).ok().unwrap();
    let found = walk(&root, b"a");
    std::thread::scope(|scope| {
        scope.spawn(move || found.file.release(Promptness::Prompt));
        kicked.recv().unwrap();
        let deadline = Some(Instant::now() + Duration::from_secs(10));
        let attr = root.file.attr(
            &Call {
                deadline,
                cancel: None,
            },
            AttrMask::BASIC,
        );
        assert_eq!(attr.map(|attr| attr.mode), Ok(0o644));
    });
    thread.join().unwrap();
}

#[test]
fn the_end_waits_for_the_last_clunks_to_be_answered() {
    let (filesystem, root, thread) = attached(Version::NEWEST, |peer| {
        walked(&peer);
        let clunk = peer.expect("Tclunk");
        // A server that is slow, and dies of a reply that nobody takes.
        std::thread::yield_now();
        peer.try_reply(clunk.tag, Rclunk {}).unwrap();
        peer.drain()
    });
    drop(walk(&root, b"a"));
    filesystem.shutdown();
    assert_eq!(thread.join().unwrap(), [""; 0]);
}

#[test]
fn many_syncs_are_sent_together() {
    let (filesystem, root, thread) = attached(Version::Base, |peer| {
        opened(&peer);
        opened(&peer);
        for _ in 0..2 {
            // All of an exchange is there before anything is answered.
            let syncs: Vec<_> = (0..20).map(|_| peer.expect("Tfsync")).collect();
            for (index, sync) in syncs.iter().enumerate() {
                match index {
                    3 => peer.error(sync.tag, 28),
                    _ => peer.reply(sync.tag, Rfsync {}),
                }
            }
        }
    });
    let handles: Vec<_> = [open(&root), open(&root)]
        .into_iter()
        .cycle()
        .take(20)
        .collect();
    let mut results = Vec::new();
    let before = filesystem.traffic();
    for _ in 0..2 {
        filesystem.sync_all(&Call::default(), &handles, &mut |index, result| {
            results.push((index, result.map_err(|error| error.errno)));
        });
    }
    assert_eq!(filesystem.traffic().round_trips - before.round_trips, 2);
    for (at, (index, result)) in results.iter().enumerate() {
        assert_eq!(*index, at % 20);
        assert_eq!(
            *result,
            if *index == 3 {
                Err(Errno::ENOSPC)
            } else {
                Ok(())
            }
        );
    }
    thread.join().unwrap();
}

#[test]
fn traffic_is_counted() {
    let (filesystem, root, thread) = attached(Version::Base, |peer| peer.getattr(dir(1), 0o40755));
    let before = filesystem.traffic();
    root.file.attr(&Call::default(), AttrMask::BASIC).unwrap();
    let Traffic {
        round_trips,
        requests,
        bytes_sent,
        bytes_received,
    } = filesystem.traffic();
    assert_eq!(
        (round_trips - before.round_trips, requests - before.requests),
        (1, 1)
    );
    assert_eq!(bytes_sent - before.bytes_sent, 19);
    assert_eq!(bytes_received - before.bytes_received, 160);
    thread.join().unwrap();
}

#[test]
fn files_and_handles_of_another_connection_are_exdev() {
    let (_first, ours, one) = attached(Version::Base, |peer| peer.drain());
    let (_second, theirs, two) = attached(Version::Base, |peer| peer.drain());
    let call = Call::default();
    let name = Name::new(b"a").unwrap();
    let result = ours.file.link(&call, name, theirs.file.as_ref());
    assert_eq!(result.err().map(|error| error.errno), Some(Errno::EXDEV));
    let result = ours.file.rename(
        &call,
        name,
        None,
        (theirs.file.as_ref(), name),
        Default::default(),
    );
    assert_eq!(result.err().map(|error| error.errno), Some(Errno::EXDEV));
    drop((ours, theirs, _first, _second));
    assert_eq!(
        (one.join().unwrap(), two.join().unwrap()),
        (vec!["Tclunk"], vec!["Tclunk"])
    );
}
