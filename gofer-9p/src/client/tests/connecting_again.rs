//! A new connection in place of one that was lost.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gofer_transport::Stream;
use gofer_vfs::remote::{
    Call, FileKey, OpenMode, Owner, RemoteError, RemoteEvents, RemoteFilesystem,
};
use gofer_vfs::{Access, AttrMask, Errno, Name};

use super::peer::{Peer, attached, attached_with, dir, file, play};
use crate::client::{Config, Connector};
use crate::wire::{Qids, Rlcreate, Rversion, Rwalk, Version};

/// A connector that hands out these streams, one after the other.
fn connector(streams: impl IntoIterator<Item = Stream>) -> Connector {
    let streams = Mutex::new(streams.into_iter().collect::<VecDeque<_>>());
    Connector::new(move |_: Duration| {
        let next = streams.lock().unwrap().pop_front();
        next.ok_or(std::io::ErrorKind::ConnectionRefused.into())
    })
}

fn with(connector: Connector) -> Config {
    Config {
        connector: Some(connector),
        ..Config::default()
    }
}

struct Losses(Mutex<Vec<u32>>);

impl RemoteEvents for Losses {
    fn lost(&self, epoch: u32) {
        self.0.lock().unwrap().push(epoch);
    }
    fn changed(&self, _: FileKey, _: Option<&[u8]>) {}
    fn overflow(&self) {}
}

#[test]
fn files_of_the_old_connection_are_stale_and_the_root_is_found_anew() {
    let (stream, second) = play(|peer: Peer| {
        peer.agree();
        peer.attach();
        peer.getattr(dir(1), 0o40755);
    });
    let (filesystem, old, first) =
        attached_with(with(connector([stream])), Version::Base, |_peer| {});
    let losses = Arc::new(Losses(Mutex::default()));
    filesystem.subscribe(Arc::downgrade(&losses) as _);
    let call = Call::default();
    first.join().unwrap();
    let lost = old.file.attr(&call, AttrMask::BASIC);
    assert_eq!(lost.err().map(|error| error.errno), Some(Errno::EIO));
    let before = filesystem.traffic();

    filesystem.reattach(&call).unwrap();
    let stale = old.file.attr(&call, AttrMask::BASIC);
    assert_eq!(stale.err(), Some(RemoteError::not_sent(Errno::ESTALE)));
    let new = filesystem.root(&call).unwrap();
    assert_eq!((old.key.epoch, new.key.epoch), (0, 1));
    assert_eq!(old.key.id, new.key.id);
    assert!(new.file.attr(&call, AttrMask::BASIC).is_ok());
    assert!(filesystem.traffic().requests > before.requests);
    second.join().unwrap();
    assert!(new.file.attr(&call, AttrMask::BASIC).is_err());
    // Each connection is told of once, to those who asked during an earlier one, too.
    assert_eq!(*losses.0.lock().unwrap(), [0, 1]);
}

#[test]
fn calls_under_way_on_the_old_connection_end() {
    let (stream, second) = play(|peer: Peer| {
        peer.agree();
        peer.drain();
    });
    let (asked, answer) = std::sync::mpsc::channel();
    let (filesystem, root, first) =
        attached_with(with(connector([stream])), Version::Base, move |peer| {
            peer.expect("Tgetattr");
            asked.send(()).unwrap();
            peer.drain();
        });
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| root.file.attr(&Call::default(), AttrMask::BASIC));
        answer.recv().unwrap();
        filesystem.reattach(&Call::default()).unwrap();
        let result = waiting.join().unwrap();
        assert_eq!(result.err(), Some(RemoteError::unknown(Errno::EIO)));
    });
    filesystem.shutdown();
    first.join().unwrap();
    second.join().unwrap();
}

#[test]
fn a_server_that_speaks_something_else_now_is_not_taken() {
    let other_version = play(|peer: Peer| {
        let asked = peer.expect("Tversion");
        let (msize, version) = (1 << 20, &b"9P2000.L"[..]);
        peer.reply(asked.tag, Rversion { msize, version });
        peer.drain();
    });
    let smaller = play(|peer: Peer| {
        let asked = peer.expect("Tversion");
        let (msize, version) = (8192, &b"9P2000.L.Google.12"[..]);
        peer.reply(asked.tag, Rversion { msize, version });
        peer.drain();
    });
    let hung_up = play(drop::<Peer>);
    let (streams, threads): (Vec<_>, Vec<_>) =
        [other_version, smaller, hung_up].into_iter().unzip();
    let (filesystem, root, first) =
        attached_with(with(connector(streams)), Version::Google(12), |peer| {
            peer.getattr(dir(1), 0o40755);
        });
    let call = Call::default();
    for errno in [Errno::EPROTO, Errno::EPROTO, Errno::ECONNRESET, Errno::EIO] {
        let failed = filesystem.reattach(&call).err();
        assert_eq!(
            failed.map(|error| error.fate),
            Some(RemoteError::not_sent(errno).fate)
        );
        if errno != Errno::EIO {
            assert_eq!(failed.map(|error| error.errno), Some(errno));
        }
    }
    // The one there is goes on.
    assert!(root.file.attr(&call, AttrMask::BASIC).is_ok());
    first.join().unwrap();
    threads.into_iter().for_each(|thread| drop(thread.join()));
}

#[test]
fn a_file_that_was_made_is_not_said_never_to_have_been_asked_for() {
    let (_filesystem, root, thread) = attached(Version::Base, |peer| {
        let clone = peer.expect("Twalk");
        peer.reply(
            clone.tag,
            Rwalk {
                wqids: Qids::new(&[]),
            },
        );
        let create = peer.expect("Tlcreate");
        let (qid, iounit) = (file(9), 0);
        peer.reply(create.tag, Rlcreate { qid, iounit });
    });
    let name = Name::new(b"new").unwrap();
    let mode = OpenMode {
        access: Access::Write,
        truncate: false,
    };
    let call = Call::default();
    let made = root.file.create(&call, name, 0o644, Owner::default(), mode);
    assert_eq!(made.err(), Some(RemoteError::unknown(Errno::EIO)));
    thread.join().unwrap();
}

#[test]
fn without_a_way_to_connect_or_after_a_shutdown_there_is_no_new_connection() {
    let call = Call::default();
    let (filesystem, _root, thread) = attached(Version::Base, |peer| drop(peer.drain()));
    assert_eq!(
        filesystem.reattach(&call),
        Err(RemoteError::not_sent(Errno::EOPNOTSUPP))
    );
    filesystem.shutdown();
    thread.join().unwrap();

    let dialled = Arc::new(AtomicU32::new(0));
    let counted = dialled.clone();
    let config = with(Connector::new(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Err(std::io::ErrorKind::ConnectionRefused.into())
    }));
    let (filesystem, _root, thread) =
        attached_with(config, Version::Base, |peer| drop(peer.drain()));
    filesystem.shutdown();
    assert_eq!(
        filesystem.reattach(&call),
        Err(RemoteError::not_sent(Errno::EIO))
    );
    assert_eq!(dialled.load(Ordering::SeqCst), 0);
    thread.join().unwrap();
}
