//! Targets of the lisafs decoders. An input is a frame as a socket carries it: eight bytes of
//! header, then a payload, whose length the decoders do not take from the header.

use std::ops::Range;

use gofer_lisafs::trace;
use gofer_lisafs::wire::{AnyRequest, AnyResponse, ChannelHeader, Mid, SocketHeader, Value};
use zerocopy::IntoBytes;

use crate::input::{check_line, without_heap};

/// Decodes a request.
pub fn request(input: &[u8]) {
    let Some((mid, payload)) = split(input) else {
        return;
    };
    let Ok(message) = without_heap(|| AnyRequest::decode(mid, payload)) else {
        return;
    };
    assert_eq!(message.mid(), mid);
    message.fields(&mut |_, value| check_value(&value));
    let mut frame = Vec::new();
    message.encode(&mut frame);
    check_frame(&frame, mid, payload, padding(mid));
    check_line(&trace::request(&message).to_string());
}

/// Decodes a response.
pub fn response(input: &[u8]) {
    let Some((mid, payload)) = split(input) else {
        return;
    };
    let Ok(message) = without_heap(|| AnyResponse::decode(mid, payload)) else {
        return;
    };
    assert_eq!(message.mid(), mid);
    message.fields(&mut |_, value| check_value(&value));
    let mut frame = Vec::new();
    message.encode(&mut frame);
    check_frame(&frame, mid, payload, 0..0);
    check_line(&trace::response(&message, 1).to_string());
}

/// Reads both kinds of header from the front, checks that they are written as they were read,
/// and gives the message number and the payload.
fn split(input: &[u8]) -> Option<(Mid, &[u8])> {
    if let Some(bytes) = input.first_chunk() {
        let header = ChannelHeader::decode(bytes);
        let again = ChannelHeader::new(header.message, header.num_fds).encode();
        assert_eq!(again[..3], bytes[..3]);
    }
    let (bytes, payload) = input.split_first_chunk()?;
    let header = SocketHeader::decode(bytes);
    let again = SocketHeader::new(header.message, header.payload_len.get());
    assert_eq!(again.as_bytes()[..6], bytes[..6]);
    Some((header.message, payload))
}

/// Padding of a request's payload that is not part of a structure (lisafs 3).
fn padding(mid: Mid) -> Range<usize> {
    match mid {
        Mid::OPEN_AT | Mid::LISTEN | Mid::GETDENTS64 | Mid::CONNECT | Mid::CONNECT_WITH_CREDS => {
            12..16
        }
        Mid::PREAD => 20..24,
        _ => 0..0,
    }
}

/// What was decoded encodes to the bytes it was decoded from, surplus and padding apart.
fn check_frame(frame: &[u8], mid: Mid, payload: &[u8], padding: Range<usize>) {
    let (header, encoded) = frame.split_first_chunk().expect("a frame has a header");
    let header = SocketHeader::decode(header);
    assert_eq!(header.message, mid);
    assert_eq!(header.payload_len.get() as usize, encoded.len());
    let mut taken = payload[..encoded.len()].to_vec();
    taken[padding].fill(0);
    assert_eq!(encoded, taken, "{mid}");
}

/// Lists have as many elements as they say.
fn check_value(value: &Value<'_>) {
    match value {
        Value::Texts(strings) => assert_eq!(strings.iter().count(), strings.len()),
        Value::Dirents(entries) => assert_eq!(entries.iter().count(), entries.len()),
        _ => {}
    }
}
