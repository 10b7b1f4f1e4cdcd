//! Calls that are given up: what the server is told, and what becomes of late replies.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use gofer_transport::Cancel;
use gofer_vfs::remote::{Call, OpenMode, Promptness, RemoteError, WalkEnd};
use gofer_vfs::{Access, AttrMask, Errno, Name};

use super::peer::{Incoming, Peer, attached, attr, bytes, dir, file};
use crate::wire::{
    Data, Fid, Qids, Rclunk, Rflush, Rlopen, Rread, Rwalk, Rwrite, TMessage, Tag, Tclunk, Tflush,
    Twalk, Twrite, Version,
};

fn cancel() -> Arc<Cancel> {
    Arc::new(Cancel::new().unwrap())
}

/// Reads a Tflush and checks what it is for.
fn flush_of(peer: &Peer, old: Tag) -> Tag {
    let flush = peer.expect("Tflush");
    assert_eq!(flush.message(), TMessage::Tflush(Tflush { oldtag: old }));
    flush.tag
}

fn newfid(walk: &Incoming) -> Fid {
    match walk.message() {
        TMessage::Twalk(Twalk { newfid, .. }) => newfid,
        other => panic!("{other:?}"),
    }
}

fn clunked(request: &Incoming) -> Fid {
    match request.message() {
        TMessage::Tclunk(Tclunk { fid }) => fid,
        other => panic!("{other:?}"),
    }
}

/// Walks one name with a call that the peer cancels.
fn cancelled_walk(root: &gofer_vfs::remote::Found, cancel: &Cancel) {
    let call = Call {
        deadline: None,
        cancel: Some(cancel),
    };
    let result = root
        .file
        .walk(&call, &[Name::new(b"a").unwrap()], &mut |_| panic!("found"));
    assert_eq!(result, Err(RemoteError::unknown(Errno::EINTR)));
}

#[test]
fn a_reply_before_rflush_counts_and_what_it_made_is_clunked() {
    let flag = cancel();
    let setter = flag.clone();
    let (filesystem, root, thread) = attached(Version::Base, move |peer| {
        let walk = peer.expect("Twalk");
        setter.set();
        let flush = flush_of(&peer, walk.tag);
        peer.reply(
            walk.tag,
            Rwalk {
                wqids: Qids::new(&[file(2)]),
            },
        );
        peer.reply(flush, Rflush {});
        peer.getattr(dir(1), 0o40755);
        // The client has seen the late reply by now.
        let mut kinds = [peer.next().unwrap(), peer.next().unwrap()];
        kinds.sort_by_key(|request| request.kind);
        assert_eq!(kinds[0].message().name(), "Tgetattr");
        assert_eq!(clunked(&kinds[1]), newfid(&walk));
        peer.reply(kinds[1].tag, Rclunk {});
        peer.reply(kinds[0].tag, attr(dir(1), 0o40755));
    });
    cancelled_walk(&root, &flag);
    for _ in 0..2 {
        root.file.attr(&Call::default(), AttrMask::BASIC).unwrap();
    }
    thread.join().unwrap();
    let session = filesystem.line.session();
    let state = session.lock();
    assert_eq!(
        (state.table.fids_in_use(), state.table.tags_in_use()),
        (1, 0)
    );
}

#[test]
fn rflush_without_a_reply_means_that_nothing_was_made() {
    let flag = cancel();
    let setter = flag.clone();
    let (filesystem, root, thread) = attached(Version::Base, move |peer| {
        let walk = peer.expect("Twalk");
        setter.set();
        let flush = flush_of(&peer, walk.tag);
        peer.reply(flush, Rflush {});
        let getattr = peer.expect("Tgetattr");
        assert_ne!(
            getattr.tag, walk.tag,
            "reused too early for gVisor's servers"
        );
        // gVisor may send the reply after all; once is forgiven.
        peer.reply(
            walk.tag,
            Rwalk {
                wqids: Qids::new(&[file(2)]),
            },
        );
        peer.reply(getattr.tag, attr(dir(1), 0o40755));
        let mut requests = [peer.next().unwrap(), peer.next().unwrap()];
        requests.sort_by_key(|request| request.kind);
        assert_eq!(clunked(&requests[1]), newfid(&walk));
        peer.reply(
            walk.tag,
            Rwalk {
                wqids: Qids::new(&[file(2)]),
            },
        );
    });
    cancelled_walk(&root, &flag);
    let stat = || {
        root.file
            .attr(&Call::default(), AttrMask::BASIC)
            .map(|_| ())
    };
    assert_eq!(stat(), Ok(()));
    assert_eq!(
        stat(),
        Err(RemoteError::unknown(Errno::EIO)),
        "twice is too much"
    );
    assert!(filesystem.line.session().lock().dead);
    thread.join().unwrap();
}

#[test]
fn a_deadline_ends_the_call_and_not_the_connection() {
    let (_filesystem, root, thread) = attached(Version::Base, |peer| {
        let lost = peer.expect("Tgetattr");
        let flush = flush_of(&peer, lost.tag);
        peer.reply(flush, Rflush {});
        peer.getattr(dir(1), 0o40755);
    });
    let soon = Some(Instant::now() + Duration::from_millis(20));
    let result = root.file.attr(
        &Call {
            deadline: soon,
            cancel: None,
        },
        AttrMask::BASIC,
    );
    assert_eq!(result.err(), Some(RemoteError::unknown(Errno::ETIMEDOUT)));
    assert!(root.file.attr(&Call::default(), AttrMask::BASIC).is_ok());
    thread.join().unwrap();
}

#[test]
fn the_timeout_of_the_connection_bounds_calls_without_a_deadline() {
    let config = crate::client::Config {
        timeout: Some(Duration::from_millis(50)),
        ..crate::client::Config::default()
    };
    let (_filesystem, root, thread) =
        super::peer::attached_with(config, Version::Base, |peer| peer.drain());
    let result = root.file.attr(&Call::default(), AttrMask::BASIC);
    assert_eq!(result.err(), Some(RemoteError::unknown(Errno::ETIMEDOUT)));
    drop((_filesystem, root));
    assert_eq!(thread.join().unwrap()[..2], ["Tgetattr", "Tflush"]);
}

#[test]
fn what_is_over_before_it_began_is_not_sent() {
    let (filesystem, root, thread) = attached(Version::Base, |peer| peer.drain());
    let flag = cancel();
    flag.set();
    let cancelled = Call {
        deadline: None,
        cancel: Some(&flag),
    };
    let late = Call {
        deadline: Some(Instant::now()),
        cancel: None,
    };
    for (call, errno) in [(cancelled, Errno::EINTR), (late, Errno::ETIMEDOUT)] {
        let walked = root
            .file
            .walk(&call, &[Name::new(b"a").unwrap()], &mut |_| ());
        assert_eq!(walked, Err(RemoteError::not_sent(errno)));
    }
    assert_eq!(filesystem.line.session().lock().table.fids_in_use(), 1);
    drop((root, filesystem));
    assert_eq!(thread.join().unwrap(), ["Tclunk"]);
}

#[test]
fn a_descriptor_that_comes_too_late_is_closed() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let flag = cancel();
    let setter = flag.clone();
    let (_filesystem, root, thread) = attached(Version::NEWEST, move |peer| {
        peer.reply(
            peer.expect("Twalk").tag,
            Rwalk {
                wqids: Qids::new(&[]),
            },
        );
        let open = peer.expect("Tlopen");
        setter.set();
        let flush = flush_of(&peer, open.tag);
        peer.reply_with(
            open.tag,
            Rlopen {
                qid: file(1),
                iounit: 0,
            },
            &[writer.as_fd()],
        );
        drop(writer);
        peer.reply(flush, Rflush {});
        // The clone that was to be the open file goes.
        let mut requests = [peer.next().unwrap(), peer.next().unwrap()];
        requests.sort_by_key(|request| request.kind);
        clunked(&requests[1]);
        peer.reply(requests[0].tag, attr(dir(1), 0o40755));
    });
    let call = Call {
        deadline: None,
        cancel: Some(&flag),
    };
    let mode = OpenMode {
        access: Access::Read,
        truncate: false,
    };
    let error = root.file.open(&call, mode).err();
    assert_eq!(error, Some(RemoteError::unknown(Errno::EINTR)));
    assert!(root.file.attr(&Call::default(), AttrMask::BASIC).is_ok());
    thread.join().unwrap();
    assert_eq!(rustix::io::read(&reader, &mut [0u8; 1]), Ok(0));
}

/// A peer that tells what it got, and sends what it is told.
fn remote_controlled(
    version: Version,
) -> (
    crate::client::Filesystem,
    gofer_vfs::remote::Found,
    Receiver<Incoming>,
    Arc<Peer>,
) {
    let (to_test, from_peer): (Sender<Incoming>, _) = channel();
    let (peer_to_test, peer_from_thread) = channel();
    let (filesystem, root, _) = attached(version, move |peer| {
        let peer = Arc::new(peer);
        peer_to_test.send(peer.clone()).unwrap();
        while let Some(incoming) = peer.next() {
            if to_test.send(incoming).is_err() {
                return;
            }
        }
    });
    let peer = peer_from_thread.recv().unwrap();
    (filesystem, root, from_peer, peer)
}

#[test]
fn a_waiter_that_is_not_the_reader_wakes_on_cancel_and_on_its_deadline() {
    let (_filesystem, root, requests, peer) = remote_controlled(Version::Base);
    let flag = cancel();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| root.file.attr(&Call::default(), AttrMask::BASIC));
        let first = requests.recv().unwrap();
        let waiter = scope.spawn(|| {
            let call = Call {
                deadline: None,
                cancel: Some(&flag),
            };
            root.file.attr(&call, AttrMask::BASIC)
        });
        let second = requests.recv().unwrap();
        flag.set();
        let error = waiter.join().unwrap().unwrap_err();
        assert_eq!(error, RemoteError::unknown(Errno::EINTR));
        let flush = requests.recv().unwrap();
        assert_eq!(
            flush.message(),
            TMessage::Tflush(Tflush { oldtag: second.tag })
        );

        let soon = Some(Instant::now() + Duration::from_millis(20));
        let late = root.file.attr(
            &Call {
                deadline: soon,
                cancel: None,
            },
            AttrMask::BASIC,
        );
        assert_eq!(late.unwrap_err(), RemoteError::unknown(Errno::ETIMEDOUT));
        peer.reply(first.tag, attr(dir(1), 0o40700));
        assert_eq!(reader.join().unwrap().unwrap().mode, 0o700);
    });
}

#[test]
fn a_reader_that_leaves_in_the_middle_of_a_message_is_succeeded() {
    let (_filesystem, root, requests, peer) = remote_controlled(Version::Base);
    let flag = cancel();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let call = Call {
                deadline: None,
                cancel: Some(&flag),
            };
            root.file.attr(&call, AttrMask::BASIC)
        });
        let first = requests.recv().unwrap();
        let waiter = scope.spawn(|| root.file.attr(&Call::default(), AttrMask::BASIC));
        let second = requests.recv().unwrap();
        // The reader is told of its own reply, and then left hanging in it.
        let whole = bytes(first.tag, attr(dir(1), 0o40700));
        let (now, later) = whole.split_at(90);
        peer.send(now, &[]);
        flag.set();
        let error = reader.join().unwrap().unwrap_err();
        assert_eq!(error, RemoteError::unknown(Errno::EINTR));
        let flush = requests.recv().unwrap();
        peer.send(later, &[]);
        peer.reply(flush.tag, Rflush {});
        peer.reply(second.tag, attr(dir(1), 0o40711));
        assert_eq!(waiter.join().unwrap().unwrap().mode, 0o711);
    });
}

#[test]
fn data_that_nobody_wants_any_more_is_skipped() {
    let (filesystem, root, requests, peer) = remote_controlled(Version::Base);
    let flag = cancel();
    let handle = std::sync::OnceLock::new();
    std::thread::scope(|scope| {
        let opened = scope.spawn(|| {
            let mode = OpenMode {
                access: Access::Read,
                truncate: false,
            };
            root.file.open(&Call::default(), mode).unwrap()
        });
        peer.reply(
            requests.recv().unwrap().tag,
            Rwalk {
                wqids: Qids::new(&[]),
            },
        );
        peer.reply(
            requests.recv().unwrap().tag,
            Rlopen {
                qid: file(1),
                iounit: 0,
            },
        );
        let handle = handle.get_or_init(|| opened.join().unwrap());

        let reading = scope.spawn(|| {
            let call = Call {
                deadline: None,
                cancel: Some(&flag),
            };
            let mut buffer = vec![0; 100_000];
            handle.read_at(&call, &mut [IoSliceMut::new(&mut buffer)], 0)
        });
        let read = requests.recv().unwrap();
        let data = vec![7; 100_000];
        let whole = bytes(
            read.tag,
            Rread {
                data: Data::new(&data),
            },
        );
        let (now, later) = whole.split_at(50_000);
        peer.send(now, &[]);
        flag.set();
        let moved = reading.join().unwrap();
        assert_eq!(
            (moved.n, moved.error),
            (0, Some(RemoteError::unknown(Errno::EINTR)))
        );
        let flush = requests.recv().unwrap();

        let stat = scope.spawn(|| root.file.attr(&Call::default(), AttrMask::BASIC));
        let getattr = requests.recv().unwrap();
        peer.send(later, &[]);
        peer.reply(flush.tag, Rflush {});
        peer.reply(getattr.tag, attr(dir(1), 0o40755));
        assert!(stat.join().unwrap().is_ok());
    });
    assert_eq!(filesystem.line.session().lock().table.tags_in_use(), 0);
}

#[test]
fn a_message_given_up_in_its_middle_is_finished_by_the_next_sender() {
    let flag = cancel();
    let setter = flag.clone();
    let (_filesystem, root, thread) = attached(Version::Base, move |peer| {
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
        // The message is longer than what a socket holds.
        let header = peer.next_head().unwrap();
        setter.set();
        let write = peer.next_body(header);
        let TMessage::Twrite(Twrite { data, .. }) = write.message() else {
            panic!()
        };
        assert!(data.len() > 1_000_000 && data.as_bytes().iter().all(|&byte| byte == 5));
        let flush = flush_of(&peer, write.tag);
        peer.reply(
            write.tag,
            Rwrite {
                count: data.len() as u32,
            },
        );
        peer.reply(flush, Rflush {});
        peer.getattr(dir(1), 0o40755);
    });
    let mode = OpenMode {
        access: Access::Write,
        truncate: false,
    };
    let handle = root.file.open(&Call::default(), mode).unwrap();
    let call = Call {
        deadline: None,
        cancel: Some(&flag),
    };
    let bytes = vec![5; 1 << 20];
    let moved = handle.write_at(&call, &[IoSlice::new(&bytes)], 0);
    assert_eq!(
        (moved.n, moved.error),
        (0, Some(RemoteError::unknown(Errno::EINTR)))
    );
    assert!(root.file.attr(&Call::default(), AttrMask::BASIC).is_ok());
    thread.join().unwrap();
}

#[test]
fn a_prompt_close_that_is_given_up_still_ends_the_fid() {
    let flag = cancel();
    let setter = flag.clone();
    let (filesystem, root, thread) = attached(Version::Base, move |peer| {
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
        let clunk = peer.expect("Tclunk");
        setter.set();
        let flush = flush_of(&peer, clunk.tag);
        peer.reply(clunk.tag, Rclunk {});
        peer.reply(flush, Rflush {});
        peer.getattr(dir(1), 0o40755);
    });
    let mode = OpenMode {
        access: Access::Read,
        truncate: false,
    };
    let handle = root.file.open(&Call::default(), mode).unwrap();
    let call = Call {
        deadline: None,
        cancel: Some(&flag),
    };
    let error = handle.close(&call, Promptness::Prompt).unwrap_err();
    assert_eq!(error, RemoteError::unknown(Errno::EINTR));
    assert_eq!(
        handle.close(&call, Promptness::Prompt),
        Ok(()),
        "closing is idempotent"
    );
    root.file.attr(&Call::default(), AttrMask::BASIC).unwrap();
    assert_eq!(filesystem.line.session().lock().table.fids_in_use(), 1);
    thread.join().unwrap();
}

#[test]
fn a_walk_of_many_names_that_is_given_up_leaves_no_fid_behind() {
    let flag = cancel();
    let setter = flag.clone();
    let (filesystem, root, thread) = attached(Version::Base, move |peer| {
        let walks: Vec<_> = (0..3).map(|_| peer.expect("Twalk")).collect();
        // Two answers come in time, the third after the flush.
        peer.reply(
            walks[0].tag,
            Rwalk {
                wqids: Qids::new(&[dir(2)]),
            },
        );
        peer.reply(
            walks[2].tag,
            Rwalk {
                wqids: Qids::new(&[dir(2), dir(3), dir(4)]),
            },
        );
        setter.set();
        let mut clunks = 0;
        while let Some(request) = peer.next() {
            match request.message() {
                TMessage::Tflush(Tflush { oldtag }) => {
                    if oldtag == walks[1].tag {
                        peer.reply(
                            oldtag,
                            Rwalk {
                                wqids: Qids::new(&[dir(2), dir(3)]),
                            },
                        );
                    }
                    peer.reply(request.tag, Rflush {});
                }
                TMessage::Tclunk(_) => {
                    peer.reply(request.tag, Rclunk {});
                    clunks += 1;
                }
                _ => peer.reply(request.tag, attr(dir(1), 0o40755)),
            }
        }
        clunks
    });
    let names = [b"a", b"b", b"c"].map(|name| Name::new(name).unwrap());
    let call = Call {
        deadline: None,
        cancel: Some(&flag),
    };
    let result = root.file.walk(&call, &names, &mut |_| panic!("found"));
    assert_ne!(result, Ok(WalkEnd::Complete));
    while filesystem.line.session().lock().table.fids_in_use() > 1 {
        root.file.attr(&Call::default(), AttrMask::BASIC).unwrap();
    }
    filesystem.line.session().shutdown();
    assert_eq!(thread.join().unwrap(), 3);
}
