//! The table of tags and fids by itself.

use super::*;
use crate::wire::{Qid, Qids, RMessage, Rclunk, Rgetattr, Tgetattr, Twalk};

const RLERROR: u8 = Rlerror::KIND;

fn walk_reply(qids: usize) -> Reply {
    let qids = vec![Qid::default(); qids];
    let mut bytes = Vec::new();
    RMessage::from(Rwalk {
        wqids: Qids::new(&qids),
    })
    .encode(Tag(0), &mut bytes);
    Reply {
        kind: Rwalk::KIND,
        body: bytes.split_off(7),
        ..Reply::default()
    }
}

fn bare(kind: u8) -> Reply {
    Reply {
        kind,
        ..Reply::default()
    }
}

/// A walk of two names that has been given up. Returns its tag, the flush's, and the new fid.
fn abandoned_walk(table: &mut Table) -> (Tag, Tag, Fid) {
    let fid = table.new_fid().unwrap();
    let tag = table
        .start(Some(0), Twalk::KIND, Effect::Makes { fid, names: 2 }, false)
        .unwrap();
    let flush = table.give_up(tag).unwrap();
    (tag, flush, fid)
}

fn clunks(table: &mut Table) -> (Vec<Fid>, Vec<Tag>) {
    let mut bytes = Vec::new();
    table.write_clunks(&mut bytes, || {});
    let clunk = |chunk: &[u8]| {
        let tag = u16::from_le_bytes(*chunk[5..].first_chunk().unwrap());
        (
            Fid(u32::from_le_bytes(*chunk[7..].first_chunk().unwrap())),
            Tag(tag),
        )
    };
    bytes.chunks(11).map(clunk).unzip()
}

#[test]
fn a_reply_goes_to_its_waiter_and_its_tag_is_free_after_it_was_consumed() {
    let mut table = Table::default();
    let tag = table
        .start(Some(7), Tgetattr::KIND, Effect::None, false)
        .unwrap();
    let expected = table.expect(Rgetattr::KIND, tag).unwrap();
    assert_eq!((expected.waiter, expected.takes_fd), (Some(7), false));
    assert_eq!(table.deliver(tag, bare(Rgetattr::KIND)), Ok(Some(7)));
    assert_eq!(table.tags_in_use(), 1);
    let reply = table.take_reply(tag).unwrap();
    table.finish(tag, reply, false);
    assert_eq!(table.tags_in_use(), 0);
}

#[test]
fn replies_nobody_asked_for_are_violations() {
    let mut table = Table::default();
    assert!(table.expect(Rclunk::KIND, Tag(0)).is_err());
    let tag = table
        .start(Some(0), Tgetattr::KIND, Effect::None, false)
        .unwrap();
    assert!(table.expect(Rclunk::KIND, tag).is_err());
    assert!(table.expect(RLERROR, Tag::NONE).is_err());
    assert!(table.expect(Rflush::KIND, Tag(tag.0 | FLUSH_BIT)).is_err());
    assert!(table.expect(RLERROR, tag).is_ok());
    table.deliver(tag, bare(RLERROR)).unwrap();
    assert!(table.expect(RLERROR, tag).is_err(), "a second reply");
}

#[test]
fn a_fid_that_was_made_and_not_taken_is_clunked() {
    let mut table = Table::default();
    let fid = table.new_fid().unwrap();
    let tag = table
        .start(Some(0), Twalk::KIND, Effect::Makes { fid, names: 1 }, false)
        .unwrap();
    table.deliver(tag, walk_reply(1)).unwrap();
    let reply = table.take_reply(tag).unwrap();
    table.finish(tag, reply, false);
    let (fids, tags) = clunks(&mut table);
    assert_eq!((fids, table.fids_in_use()), (vec![fid], 1));
    table.expect(Rclunk::KIND, tags[0]).unwrap();
    table.deliver(tags[0], bare(Rclunk::KIND)).unwrap();
    assert_eq!(
        (
            table.fids_in_use(),
            table.tags_in_use(),
            table.clunks_in_flight
        ),
        (0, 0, 0)
    );
}

#[test]
fn a_number_whose_clunk_failed_is_retired_unless_failure_was_expected() {
    let mut table = Table::default();
    let fid = table.new_fid().unwrap();
    table.queue_clunk(fid);
    let (_, tags) = clunks(&mut table);
    table.deliver(tags[0], bare(RLERROR)).unwrap();
    assert_eq!(table.fids_in_use(), 1);

    // A short walk makes no fid; the clunk that diod needs fails elsewhere.
    let fid = table.new_fid().unwrap();
    let tag = table
        .start(Some(0), Twalk::KIND, Effect::Makes { fid, names: 2 }, false)
        .unwrap();
    table.deliver(tag, walk_reply(1)).unwrap();
    let reply = table.take_reply(tag).unwrap();
    table.finish(tag, reply, false);
    let (fids, tags) = clunks(&mut table);
    assert_eq!(fids, [fid]);
    table.deliver(tags[0], bare(RLERROR)).unwrap();
    assert_eq!(table.fids_in_use(), 1);
}

#[test]
fn more_qids_than_names_are_a_violation() {
    let mut table = Table::default();
    let fid = table.new_fid().unwrap();
    let tag = table
        .start(Some(0), Twalk::KIND, Effect::Makes { fid, names: 2 }, false)
        .unwrap();
    assert!(table.deliver(tag, walk_reply(3)).is_err());
}

#[test]
fn an_abandoned_walk_that_succeeds_before_its_flush_is_clunked() {
    let mut table = Table::default();
    let (tag, flush, fid) = abandoned_walk(&mut table);
    assert_eq!(table.deliver(tag, walk_reply(2)), Ok(None));
    assert_eq!(clunks(&mut table).0, [fid]);
    assert_eq!(table.tags_in_use(), 2, "walk until Rflush, and clunk");
    table.expect(Rflush::KIND, flush).unwrap();
    table.deliver(flush, bare(Rflush::KIND)).unwrap();
    assert_eq!(table.tags_in_use(), 1);
    assert!(
        table.expect(Rflush::KIND, flush).is_err(),
        "a second Rflush"
    );
}

#[test]
fn a_reply_after_rflush_is_forgiven_once_and_its_fid_clunked() {
    let mut table = Table::default();
    let (tag, flush, fid) = abandoned_walk(&mut table);
    table.deliver(flush, bare(Rflush::KIND)).unwrap();
    assert_eq!(table.tags_in_use(), 0);
    // Neither number is reused for a while.
    assert_ne!(table.new_fid(), Some(fid));
    assert_ne!(
        table.start(Some(0), Tgetattr::KIND, Effect::None, false),
        Some(tag)
    );
    table.expect(Rwalk::KIND, tag).unwrap();
    table.deliver(tag, walk_reply(2)).unwrap();
    assert_eq!(clunks(&mut table).0, [fid]);
    assert!(table.expect(Rwalk::KIND, tag).is_err());
}

#[test]
fn flushed_tags_and_fids_come_back_in_the_end() {
    let mut table = Table::default();
    for _ in 0..QUARANTINE_MAX * 3 {
        let (_, flush, _) = abandoned_walk(&mut table);
        table.deliver(flush, bare(Rflush::KIND)).unwrap();
    }
    assert_eq!(table.fids_in_use(), QUARANTINE_MAX);
    assert_eq!(table.slots.len(), QUARANTINE_MAX + 1);
}

#[test]
fn a_flushed_clunk_is_sent_again() {
    let mut table = Table::default();
    let fid = table.new_fid().unwrap();
    let ends = Effect::Ends { fid, retire: true };
    let tag = table.start(Some(0), Tclunk::KIND, ends, false).unwrap();
    let flush = table.give_up(tag).unwrap();
    table.deliver(flush, bare(Rflush::KIND)).unwrap();
    assert_eq!(clunks(&mut table).0, [fid]);
}

#[test]
fn requests_under_way_are_bounded() {
    let mut table = Table::default();
    for _ in 0..TAGS_MAX {
        table
            .start(Some(0), Tgetattr::KIND, Effect::None, false)
            .unwrap();
    }
    let fid = table.new_fid().unwrap();
    let makes = Effect::Makes { fid, names: 0 };
    assert_eq!(table.start(Some(0), Twalk::KIND, makes, false), None);
    assert_eq!(table.fids_in_use(), 0);
    // Clunks wait until there are tags again.
    let fid = table.new_fid().unwrap();
    table.queue_clunk(fid);
    assert_eq!(clunks(&mut table).0, []);
    table.unstart(Tag(5));
    assert_eq!(clunks(&mut table).0, [fid]);
}

#[test]
fn clunks_on_their_way_are_bounded() {
    let mut table = Table::default();
    for _ in 0..CLUNKS_IN_FLIGHT_MAX + 10 {
        let fid = table.new_fid().unwrap();
        table.queue_clunk(fid);
    }
    let (_, tags) = clunks(&mut table);
    assert_eq!(tags.len(), CLUNKS_IN_FLIGHT_MAX);
    table.deliver(tags[0], bare(Rclunk::KIND)).unwrap();
    assert_eq!(clunks(&mut table).0.len(), 1);
}

#[test]
fn a_request_that_never_left_has_no_effect() {
    let mut table = Table::default();
    let fid = table.new_fid().unwrap();
    let tag = table
        .start(Some(0), Twalk::KIND, Effect::Makes { fid, names: 1 }, false)
        .unwrap();
    table.unstart(tag);
    assert_eq!((table.fids_in_use(), table.tags_in_use()), (0, 0));
}
