//! Target of the 9P decoders. An input is a message as a stream carries it: seven bytes of
//! header, then a body. The dialects share one numbering, so each body is read as whatever its
//! number says.

use gofer_9p::trace;
use gofer_9p::wire::{
    DecodeError, HEADER_SIZE, Header, MSIZE_MAX, RMessage, TMessage, Tag, Value, Version,
};

use crate::input::{check_line, without_heap};

/// Decodes a request or a reply.
pub fn message(input: &[u8]) {
    let Some((bytes, body)) = input.split_first_chunk::<HEADER_SIZE>() else {
        return;
    };
    let Ok(header) = Header::decode(bytes, MSIZE_MAX) else {
        return;
    };
    assert!(header.body_size() + HEADER_SIZE <= MSIZE_MAX as usize);
    let Header { kind, tag, .. } = header;
    let request = without_heap(|| TMessage::decode(kind, body));
    let reply = without_heap(|| RMessage::decode(kind, body));
    let unknown = Some(DecodeError::UnknownType(kind.into()));
    assert!(
        request.err() == unknown || reply.err() == unknown,
        "type {kind} goes both ways"
    );
    if let Ok(request) = request {
        request.fields(&mut |_, value| check_value(&value));
        let mut again = Vec::new();
        request.encode(tag, &mut again);
        check_message(&again, kind, tag, body);
        check_line(&trace::Sent(tag, request).to_string());
    }
    if let Ok(reply) = reply {
        reply.fields(&mut |_, value| check_value(&value));
        let mut again = Vec::new();
        reply.encode(tag, &mut again);
        check_message(&again, kind, tag, body);
        check_line(&trace::Received(tag, reply).to_string());
    }
}

/// What was decoded encodes to the bytes it was decoded from, surplus apart.
fn check_message(again: &[u8], kind: u8, tag: Tag, body: &[u8]) {
    let (bytes, encoded) = again
        .split_first_chunk::<HEADER_SIZE>()
        .expect("a message has a header");
    let size = u32::try_from(again.len()).expect("no input is that long");
    let header = Header::decode(bytes, size).expect("our own header");
    assert_eq!(header, Header { size, kind, tag });
    assert_eq!(encoded, &body[..encoded.len()], "type {kind}");
}

/// Lists have as many elements as they say; entries end at the first that is cut.
fn check_value(value: &Value<'_>) {
    match value {
        Value::Names(names) => assert_eq!(names.iter().count(), names.len()),
        Value::Qids(qids) => assert_eq!(qids.iter().count(), qids.len()),
        Value::Stats(stats) => assert_eq!(stats.iter().count(), stats.len()),
        Value::Dirents(entries) => {
            let good = entries.iter().take_while(Result::is_ok).flatten();
            let size: usize = good.map(|entry| entry.size()).sum();
            assert!(size <= entries.as_bytes().len());
            assert!(entries.iter().filter(Result::is_err).count() <= 1);
        }
        Value::Text(text) => check_version(text),
        _ => {}
    }
}

/// A version that is understood is written as it was read.
fn check_version(text: &[u8]) {
    if let Some(version) = Version::parse(text) {
        assert_eq!(version.to_string().as_bytes(), text);
    }
}
