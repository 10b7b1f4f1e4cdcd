//! Replies to a client that reads slowly or not at all.

use gofer_9p::wire::{HEADER_SIZE, Header, Message, Rclunk, Rread, Rrename};

use super::*;

const PATIENCE: Duration = Duration::from_millis(50);

/// A reply to `tag` of a few bytes.
fn small(tag: u16) -> Reply {
    let mut reply = Reply::new();
    reply.begin(Tag(tag), 1000, Pace::Any);
    reply.send(Rclunk {}).unwrap();
    reply
}

/// A reply that no socket takes at once.
fn large(tag: u16) -> Reply {
    let mut reply = Reply::new();
    reply.begin(Tag(tag), u32::MAX, Pace::Any);
    reply
        .send_read(4 << 20, |buffer| {
            buffer.fill(tag as u8);
            Ok(buffer.len())
        })
        .unwrap();
    reply
}

/// Type and tag of the replies that are there to be read.
fn received(client: &Stream, count: usize) -> Vec<(u8, u16)> {
    let receive = |bytes: &mut [u8]| {
        assert!(client.receive_exact(bytes, None, &Wait::default()).unwrap());
    };
    let all = (0..count).map(|_| {
        let mut head = [0; HEADER_SIZE];
        receive(&mut head);
        let header = Header::decode(&head, u32::MAX).unwrap();
        receive(&mut vec![0; header.body_size()]);
        (header.kind, header.tag.0)
    });
    all.collect()
}

/// Whether nothing is there to be read.
fn silent(client: &Stream) -> bool {
    let wait = Wait {
        deadline: Some(Instant::now()),
        cancel: None,
    };
    client.wait_input(&wait).is_err()
}

const CLUNKED: u8 = Rclunk::KIND;
const FLUSHED: u8 = Rflush::KIND;

#[test]
fn a_flush_is_answered_behind_the_reply_it_waits_for() {
    let (client, server) = Stream::pair().unwrap();
    let replies = Replies::new(&server, PATIENCE);
    for tag in 1..=4 {
        replies.begin(Tag(tag)).unwrap();
    }
    assert_eq!(replies.flush(Tag(2), Tag(1)), Sending::Done);
    assert_eq!(replies.flush(Tag(3), Tag(1)), Sending::Done);
    // A flush of a flush has to wait, too.
    assert_eq!(replies.flush(Tag(4), Tag(3)), Sending::Done);
    assert!(silent(&client));
    assert_eq!(replies.finish(&mut small(1)), Sending::Done);
    let all = received(&client, 4);
    assert_eq!(all[0], (CLUNKED, 1));
    let position = |tag| {
        all.iter()
            .position(|reply| *reply == (FLUSHED, tag))
            .unwrap()
    };
    assert!(position(3) < position(4) && position(2) > 0);
    for tag in 1..=4 {
        replies.begin(Tag(tag)).unwrap();
    }
}

#[test]
fn a_flush_of_nothing_or_of_itself_is_answered_at_once() {
    let (client, server) = Stream::pair().unwrap();
    let replies = Replies::new(&server, PATIENCE);
    replies.begin(Tag(1)).unwrap();
    assert_eq!(replies.flush(Tag(1), Tag(9)), Sending::Done);
    replies.begin(Tag(1)).unwrap();
    assert_eq!(replies.flush(Tag(1), Tag(1)), Sending::Done);
    assert_eq!(received(&client, 2), [(FLUSHED, 1), (FLUSHED, 1)]);
}

#[test]
fn an_abandoned_request_has_no_reply_but_its_flush_has() {
    let (client, server) = Stream::pair().unwrap();
    let replies = Replies::new(&server, PATIENCE);
    replies.begin(Tag(1)).unwrap();
    replies.begin(Tag(2)).unwrap();
    assert_eq!(replies.flush(Tag(2), Tag(1)), Sending::Done);
    assert_eq!(replies.abandon(Tag(1)), Sending::Done);
    assert_eq!(replies.finish(&mut small(1)), Sending::Done);
    assert_eq!(received(&client, 1), [(FLUSHED, 2)]);
    assert!(silent(&client));
}

#[test]
fn a_tag_in_use_is_refused_and_a_finished_one_free() {
    let (_client, server) = Stream::pair().unwrap();
    let replies = Replies::new(&server, PATIENCE);
    replies.begin(Tag(1)).unwrap();
    assert_eq!(replies.begin(Tag(1)), Err(Broken));
    assert_eq!(replies.finish(&mut small(1)), Sending::Done);
    replies.begin(Tag(1)).unwrap();
}

#[test]
fn nothing_aborted_is_answered() {
    let (client, server) = Stream::pair().unwrap();
    let replies = Replies::new(&server, PATIENCE);
    replies.begin(Tag(1)).unwrap();
    replies.begin(Tag(2)).unwrap();
    assert_eq!(replies.flush(Tag(2), Tag(1)), Sending::Done);
    replies.abort_all();
    assert_eq!(replies.finish(&mut small(1)), Sending::Done);
    assert!(silent(&client));
    let mut reply = small(9);
    reply.send(Rrename {}).unwrap();
    assert_eq!(replies.send_untagged(&mut reply), Sending::Done);
    assert_eq!(received(&client, 1), [(Rrename::KIND, 9)]);
}

#[test]
fn what_does_not_fit_is_sent_as_the_client_reads_by_one_thread() {
    let (client, server) = Stream::pair().unwrap();
    let replies = Replies::new(&server, Duration::from_secs(30));
    for tag in 1..=3 {
        replies.begin(Tag(tag)).unwrap();
    }
    assert_eq!(replies.finish(&mut large(1)), Sending::Yours);
    assert_eq!(
        replies.finish(&mut large(2)),
        Sending::Done,
        "somebody drains already"
    );
    assert_eq!(replies.finish(&mut small(3)), Sending::Done);
    let reader = std::thread::spawn(move || received(&client, 3));
    replies.wait_for_room(64 << 20);
    replies.drain();
    let read = Rread::KIND;
    assert_eq!(reader.join().unwrap(), [(read, 1), (read, 2), (CLUNKED, 3)]);
    replies.wait_for_room(0);
}

#[test]
fn draining_stops_for_a_client_that_talks_instead_of_reading() {
    let (client, server) = Stream::pair().unwrap();
    let replies = Replies::new(&server, Duration::from_secs(30));
    replies.begin(Tag(1)).unwrap();
    assert_eq!(replies.finish(&mut large(1)), Sending::Yours);
    client
        .send(&[IoSlice::new(b"x")], &[], &Wait::default())
        .unwrap();
    assert_eq!(replies.drain_until_input(), Sending::Yours);
    let reader = std::thread::spawn(move || received(&client, 1));
    replies.drain();
    assert_eq!(reader.join().unwrap(), [(Rread::KIND, 1)]);
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let (client, server) = Stream::pair().unwrap();
    let replies = Replies::new(&server, PATIENCE);
    replies.begin(Tag(1)).unwrap();
    replies.begin(Tag(2)).unwrap();
    assert_eq!(replies.finish(&mut large(1)), Sending::Yours);
    replies.drain();
    assert_eq!(
        replies.verdict().unwrap_err().kind(),
        io::ErrorKind::TimedOut
    );
    assert_eq!(replies.finish(&mut large(2)), Sending::Done, "dropped");
    replies.wait_for_room(0);
    drop(client);
}
