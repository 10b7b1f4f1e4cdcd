//! Recorded conversations: every frame decodes, and encodes to the same bytes.

use gofer_lisafs::wire::{ChannelHeader, Mid, SocketHeader};
use serde_json::Value as Json;
use zerocopy::IntoBytes;

use super::fields::Any;
use crate::common::{hex, number, text, vectors};

/// Bytes of the payload that are padding, which recorded requests do not always leave 0.
fn padding(request: bool, mid: Mid) -> std::ops::Range<usize> {
    match mid {
        Mid::LISTEN | Mid::OPEN_AT | Mid::GETDENTS64 if request => 12..16,
        Mid::PREAD if request => 20..24,
        Mid::CONNECT | Mid::CONNECT_WITH_CREDS if request => 12..16,
        Mid::OPEN_CREATE_AT | Mid::MKDIR_AT | Mid::MKNOD_AT | Mid::BIND_AT if request => 18..24,
        _ => 0..0,
    }
}

/// Decodes `payload` and encodes it again, padding apart.
fn check(name: &str, request: bool, mid: Mid, payload: &[u8]) {
    let message =
        Any::decode(request, mid, payload).unwrap_or_else(|error| panic!("{name}: {mid}: {error}"));
    let again = message.encode();
    let mut masked = payload.to_vec();
    masked[padding(request, mid)].fill(0);
    assert_eq!(again[SocketHeader::SIZE..], masked, "{name}: {mid}");
}

fn check_transcript(file: &str) {
    let mut count = 0;
    for entry in vectors(file) {
        let name = format!("{file} {}", number(&entry, "seq"));
        let request = text(&entry, "dir") == "c2s";
        let frame = hex(text(&entry, "hex"));
        let (mid, payload) = if text(&entry, "transport") == "socket" {
            let (header, payload) = frame.split_first_chunk().unwrap();
            let header = SocketHeader::decode(header);
            assert_eq!(header.payload_len.get() as usize, payload.len(), "{name}");
            (header.message, payload)
        } else {
            let (header, payload) = frame.split_first_chunk().unwrap();
            let header = ChannelHeader::decode(header);
            assert_eq!(
                u64::from(header.num_fds),
                number(&entry, "num_fds"),
                "{name}"
            );
            (header.message, payload)
        };
        assert_eq!(mid.name(), Some(text(&entry, "name")), "{name}");
        assert_eq!(
            payload.len() as u64,
            number(&entry, "payload_len"),
            "{name}"
        );
        check(&name, request, mid, payload);
        count += 1;
    }
    assert!(count > 100, "{file} has {count} frames");
}

#[test]
fn the_socket_transcript_survives_both_ways() {
    check_transcript("transcript_socket.json");
}

#[test]
fn the_channel_transcript_survives_both_ways() {
    check_transcript("transcript_channel.json");
}

/// Splits a recorded frame or part of one; `None` where only a header or less was sent.
fn socket_frame(entry: &Json, key: &str) -> Option<(SocketHeader, Vec<u8>)> {
    let bytes = hex(entry.get(key)?.as_str()?);
    let (header, payload) = bytes.split_first_chunk()?;
    let header = SocketHeader::decode(header);
    (header.payload_len.get() as usize == payload.len()).then(|| (header, payload.to_vec()))
}

#[test]
fn recorded_answers_of_the_server_survive_both_ways() {
    let (mut answers, mut requests) = (0, 0);
    let sections = vectors("server_behaviour.json");
    let exchanges = sections
        .iter()
        .flat_map(|section| section["exchanges"].as_array().unwrap());
    for entry in exchanges {
        let name = text(entry, "note");
        if let Some((header, payload)) = socket_frame(entry, "response_hex") {
            check(name, false, header.message, &payload);
            answers += 1;
        }
        // Requests here are wrong on purpose: those that decode must survive, up to surplus.
        if let Some((header, payload)) = socket_frame(entry, "request_hex")
            && let Ok(message) = Any::decode(true, header.message, &payload)
        {
            let again = message.encode();
            let mut masked = payload.clone();
            masked[padding(true, header.message)].fill(0);
            assert!(masked.starts_with(&again[SocketHeader::SIZE..]), "{name}");
            assert_eq!(again[4..6], header.message.as_bytes()[..], "{name}");
            requests += 1;
        }
    }
    assert!(
        answers > 100 && requests > 100,
        "{answers} answers, {requests} requests"
    );
}
