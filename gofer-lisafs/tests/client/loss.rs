//! Servers that die, and clients that end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use gofer_lisafs::wire::{FStatResp, Message, Mid};
use gofer_vfs::remote::{Fate, FileKey, RemoteEvents};
use gofer_vfs::{AttrMask, Errno};

use crate::common::peer::{call, frame, session, stat};

#[derive(Default)]
struct Losses(AtomicU32);

impl RemoteEvents for Losses {
    fn lost(&self, epoch: u32) {
        assert_eq!(epoch, 0);
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn changed(&self, _key: FileKey, _name: Option<&[u8]>) {}
    fn overflow(&self) {}
}

#[test]
fn a_dead_server_is_eio_for_this_call_and_all_later_ones() {
    let session = session(|peer| drop(peer.next()));
    let losses = Arc::new(Losses::default());
    let sink: Arc<dyn RemoteEvents> = losses.clone();
    session.fs.subscribe(Arc::downgrade(&sink));
    let error = session
        .root
        .file
        .attr(&call(), AttrMask::BASIC)
        .unwrap_err();
    assert_eq!((error.errno, error.fate), (Errno::EIO, Fate::Unknown));
    for _ in 0..3 {
        let error = session
            .root
            .file
            .attr(&call(), AttrMask::BASIC)
            .unwrap_err();
        assert_eq!((error.errno, error.fate), (Errno::EIO, Fate::NotSent));
    }
    assert_eq!(losses.0.load(Ordering::SeqCst), 1, "told once");
    let late = Arc::new(Losses::default());
    let sink: Arc<dyn RemoteEvents> = late.clone();
    session.fs.subscribe(Arc::downgrade(&sink));
    assert_eq!(late.0.load(Ordering::SeqCst), 1, "told although late");
    session.finish();
}

#[test]
fn a_response_that_stops_anywhere_is_eio() {
    let mut answer = Vec::new();
    FStatResp {
        stat: stat(5, 0o100644),
    }
    .encode(&mut answer);
    for end in [1, 7, 8, 9, answer.len() - 1] {
        let part = answer[..end].to_vec();
        let session = session(move |peer| {
            peer.expect(Mid::FSTAT);
            peer.send(&part, &[]);
        });
        let error = session
            .root
            .file
            .attr(&call(), AttrMask::BASIC)
            .unwrap_err();
        assert_eq!(error.errno, Errno::EIO, "cut at {end}");
        session.finish();
    }
}

#[test]
fn an_absurd_length_ends_the_connection_at_once() {
    let session = session(|peer| {
        peer.expect(Mid::FSTAT);
        let mut header = frame(3, &[]);
        header[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        peer.send(&header, &[]);
        // Nothing of it follows; the client must not wait for it.
        peer.rest()
    });
    let error = session
        .root
        .file
        .attr(&call(), AttrMask::BASIC)
        .unwrap_err();
    assert_eq!(error.errno, Errno::EIO);
    let error = session
        .root
        .file
        .attr(&call(), AttrMask::BASIC)
        .unwrap_err();
    assert_eq!((error.errno, error.fate), (Errno::EIO, Fate::NotSent));
    assert_eq!(session.finish(), []);
}

#[test]
fn shutdown_wakes_everybody_and_is_no_loss() {
    let (asked, was_asked) = std::sync::mpsc::channel();
    let session = session(move |peer| {
        peer.expect(Mid::FSTAT);
        asked.send(()).unwrap();
        peer.rest()
    });
    let losses = Arc::new(Losses::default());
    let sink: Arc<dyn RemoteEvents> = losses.clone();
    session.fs.subscribe(Arc::downgrade(&sink));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let file = session.root.file.clone();
            std::thread::spawn(move || file.attr(&call(), AttrMask::BASIC).unwrap_err())
        })
        .collect();
    was_asked.recv().unwrap();
    session.fs.shutdown();
    session.fs.shutdown();
    for caller in callers {
        assert_eq!(caller.join().unwrap().errno, Errno::EIO);
    }
    let error = session.fs.root(&call()).err().unwrap();
    assert_eq!((error.errno, error.fate), (Errno::EIO, Fate::NotSent));
    assert_eq!(losses.0.load(Ordering::SeqCst), 0);
    assert_eq!(session.finish(), []);
}
