//! Listings that are read ahead.

use std::ops::ControlFlow;

use gofer_vfs::AttrMask;
use gofer_vfs::remote::{DirPos, RemoteHandle};

use super::agreeable::{CALL, READ_WRITE};
use super::peer::{Incoming, Peer, attached, dir, file};
use crate::wire::*;

/// Answers what opens the root.
fn opened(peer: &Peer) {
    let wqids = Qids::new(&[]);
    peer.reply(peer.expect("Twalk").tag, Rwalk { wqids });
    let (qid, iounit) = (dir(1), 0);
    peer.reply(peer.expect("Tlopen").tag, Rlopen { qid, iounit });
}

/// The next request, a Treaddir from `from` on.
fn asked(peer: &Peer, from: u64) -> Incoming {
    let request = peer.expect("Treaddir");
    let TMessage::Treaddir(Treaddir { offset, .. }) = request.message() else {
        unreachable!()
    };
    assert_eq!(offset, from);
    request
}

/// Answers with the entries of these offsets; their names are the offsets.
fn answer(peer: &Peer, request: &Incoming, offsets: &[u64]) {
    let mut bytes = Vec::new();
    let mut writer = gofer_transport::codec::Writer::new(&mut bytes);
    for &offset in offsets {
        let name = offset.to_string();
        let entry = Dirent {
            qid: file(offset),
            offset,
            kind: 8,
            name: name.as_bytes(),
        };
        entry.write(&mut writer);
    }
    let entries = Dirents::new(&bytes);
    peer.reply(request.tag, Rreaddir { entries });
}

/// What one call lists, and whether there may be more.
fn list(handle: &dyn RemoteHandle, from: u64) -> (Vec<u64>, bool) {
    let mut listed = Vec::new();
    let more = handle.read_dir(&CALL, DirPos(from), &mut |entry| {
        listed.push(entry.next.0);
        ControlFlow::Continue(())
    });
    (listed, more.unwrap())
}

#[test]
fn the_next_part_is_asked_for_while_the_last_one_is_shown() {
    let (filesystem, root, thread) = attached(Version::Base, |peer| {
        opened(&peer);
        answer(&peer, &asked(&peer, 0), &[5, 3]);
        let ahead = asked(&peer, 3);
        // Before anybody wants it; another call's reader takes it in passing.
        answer(&peer, &ahead, &[9]);
        peer.getattr(dir(1), 0o40755);
        let end = asked(&peer, 9);
        answer(&peer, &end, &[]);
    });
    let handle = root.file.open(&CALL, READ_WRITE).unwrap();
    let before = filesystem.line.session().traffic();
    assert_eq!(list(&*handle, 0), (vec![5, 3], true));
    root.file.attr(&CALL, AttrMask::BASIC).unwrap();
    assert_eq!(list(&*handle, 3), (vec![9], true));
    assert_eq!(list(&*handle, 9), (vec![], false));
    let after = filesystem.line.session().traffic();
    assert_eq!(after.requests - before.requests, 4);
    assert_eq!(filesystem.line.session().lock().table.tags_in_use(), 0);
    thread.join().unwrap();
}

#[test]
fn a_rewind_and_a_seek_do_not_take_what_was_read_ahead() {
    let (filesystem, root, thread) = attached(Version::Base, |peer| {
        opened(&peer);
        answer(&peer, &asked(&peer, 0), &[1, 2]);
        let old = asked(&peer, 2);
        let again = asked(&peer, 0);
        answer(&peer, &old, &[3]);
        answer(&peer, &again, &[7]);
        let ahead = asked(&peer, 7);
        let seek = asked(&peer, 1);
        answer(&peer, &seek, &[]);
        answer(&peer, &ahead, &[8]);
        peer.getattr(dir(1), 0o40755);
    });
    let handle = root.file.open(&CALL, READ_WRITE).unwrap();
    assert_eq!(list(&*handle, 0), (vec![1, 2], true));
    assert_eq!(list(&*handle, 0), (vec![7], true));
    assert_eq!(list(&*handle, 1), (vec![], false));
    root.file.attr(&CALL, AttrMask::BASIC).unwrap();
    assert_eq!(filesystem.line.session().lock().table.tags_in_use(), 0);
    thread.join().unwrap();
}

#[test]
fn closing_leaves_what_was_read_ahead_and_flushes_nothing() {
    let (filesystem, root, thread) = attached(Version::Base, |peer| {
        opened(&peer);
        answer(&peer, &asked(&peer, 0), &[1]);
        let ahead = asked(&peer, 1);
        let mut requests = [peer.next().unwrap(), peer.next().unwrap()];
        requests.sort_by_key(|request| request.kind);
        let [getattr, clunk] = requests;
        peer.reply(clunk.tag, Rclunk {});
        answer(&peer, &ahead, &[2]);
        let attr = super::peer::attr(dir(1), 0o40755);
        peer.reply(getattr.tag, attr);
    });
    let handle = root.file.open(&CALL, READ_WRITE).unwrap();
    assert_eq!(list(&*handle, 0), (vec![1], true));
    drop(handle);
    root.file.attr(&CALL, AttrMask::BASIC).unwrap();
    let session = filesystem.line.session();
    let state = session.lock();
    assert_eq!(
        (state.table.fids_in_use(), state.table.tags_in_use()),
        (1, 0)
    );
    drop(state);
    thread.join().unwrap();
}
