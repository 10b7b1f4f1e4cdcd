//! The codec against bytes that other implementations made.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::*;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn json(name: &str) -> Vec<Json> {
    let text = std::fs::read_to_string(vectors().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// A message of either direction.
#[derive(PartialEq, Debug)]
enum Any<'a> {
    T(TMessage<'a>),
    R(RMessage<'a>),
}

impl<'a> Any<'a> {
    fn decode(kind: u8, body: &'a [u8]) -> Result<Any<'a>, DecodeError> {
        match TMessage::decode(kind, body) {
            Err(DecodeError::UnknownType(_)) => RMessage::decode(kind, body).map(Any::R),
            result => result.map(Any::T),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Any::T(message) => message.name(),
            Any::R(message) => message.name(),
        }
    }

    fn encode(&self, tag: Tag) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Any::T(message) => message.encode(tag, &mut out),
            Any::R(message) => message.encode(tag, &mut out),
        }
        out
    }

    fn json(&self) -> Json {
        let mut object = Map::new();
        let mut each = |name: &str, value: Value<'_>| put(&mut object, name, value);
        match self {
            Any::T(message) => message.fields(&mut each),
            Any::R(message) => message.fields(&mut each),
        }
        Json::Object(object)
    }
}

/// Adds a field in the form that the vectors use.
fn put(object: &mut Map<String, Json>, name: &str, value: Value<'_>) {
    let value = match value {
        Value::Number(number) | Value::Flags(number) => number.into(),
        Value::Text(bytes) => text(bytes),
        Value::Data(data) => hex(data.as_bytes()),
        Value::Qid(value) => qid(value),
        Value::Attr(block) => {
            block.fields(&mut |name, number| drop(object.insert(name.into(), number.into())));
            return;
        }
        Value::Names(names) => names.iter().map(text).collect(),
        Value::Qids(qids) => qids.iter().map(qid).collect(),
        Value::Dirents(entries) => entries.iter().map(|entry| dirent(entry.unwrap())).collect(),
        Value::Stats(stats) => stats.iter().map(stat).collect(),
        Value::Absent => return,
    };
    object.insert(name.into(), value);
}

fn hex(bytes: &[u8]) -> Json {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    serde_json::json!({ "hex": digits })
}

fn text(bytes: &[u8]) -> Json {
    std::str::from_utf8(bytes).map_or_else(|_| hex(bytes), Json::from)
}

fn qid(qid: Qid) -> Json {
    serde_json::json!({ "type": qid.kind.bits(), "version": qid.version, "path": qid.path })
}

fn dirent(entry: Dirent<'_>) -> Json {
    serde_json::json!({
        "qid": qid(entry.qid), "offset": entry.offset, "type": entry.kind, "name": text(entry.name),
    })
}

fn stat(stat: Stat) -> Json {
    let mut object = Map::new();
    put(&mut object, "qid", Value::Qid(stat.qid));
    put(&mut object, "valid", Value::Flags(stat.valid.bits()));
    put(&mut object, "attr", Value::Attr(stat.attr));
    Json::Object(object)
}

fn split(bytes: &[u8]) -> (Header, &[u8]) {
    let (head, body) = bytes.split_first_chunk::<HEADER_SIZE>().unwrap();
    let header = Header::decode(head, MSIZE_MAX).unwrap();
    assert_eq!(header.body_size(), body.len());
    (header, body)
}

#[test]
fn every_vector_decodes_to_its_fields_and_encodes_to_its_bytes() {
    let mut seen = std::collections::BTreeSet::new();
    for vector in json("messages-base.json")
        .into_iter()
        .chain(json("messages-google.json"))
    {
        let bytes = unhex(vector["hex"].as_str().unwrap());
        let (header, body) = split(&bytes);
        let message = Any::decode(header.kind, body).unwrap();
        assert_eq!(u64::from(header.kind), vector["type"].as_u64().unwrap());
        assert_eq!(u64::from(header.tag.0), vector["tag"].as_u64().unwrap());
        assert_eq!(message.name(), vector["message"].as_str().unwrap());
        assert_eq!(message.json(), vector["fields"], "{}", message.name());
        assert_eq!(message.encode(header.tag), bytes, "{}", message.name());
        seen.insert(header.kind);
    }
    let known = |kind: &u8| {
        TMessage::name_of(*kind)
            .or(RMessage::name_of(*kind))
            .is_some()
    };
    let table: Vec<u8> = (0..=255).filter(known).collect();
    assert_eq!(table, Vec::from_iter(seen), "messages without a vector");
}

#[test]
fn every_truncation_of_every_vector_is_refused() {
    for vector in json("messages-base.json")
        .into_iter()
        .chain(json("messages-google.json"))
    {
        let bytes = unhex(vector["hex"].as_str().unwrap());
        let (header, body) = split(&bytes);
        for end in 0..body.len() {
            let cut = Any::decode(header.kind, &body[..end]);
            // The one message with an optional tail: cut before it, it is the old form (9P 8.22).
            if let Ok(Any::T(TMessage::Tfsync(Tfsync { datasync: None, .. }))) = cut {
                assert_eq!(end, 4);
                continue;
            }
            assert!(
                matches!(cut, Err(DecodeError::Truncated { .. })),
                "{} cut to {end}: {cut:?}",
                vector["message"],
            );
        }
        // And the header that goes with it.
        let short = u32::try_from(bytes.len() - 1).unwrap();
        assert!(Header::decode(bytes.first_chunk().unwrap(), short).is_err());
    }
}

#[test]
fn damaged_vectors_are_refused_or_are_other_messages() {
    for vector in json("messages-base.json")
        .into_iter()
        .chain(json("messages-google.json"))
    {
        let bytes = unhex(vector["hex"].as_str().unwrap());
        let (header, body) = split(&bytes);
        for at in 0..body.len() {
            for damage in [0, 1, 0x7f, 0x80, 0xff] {
                let mut body = body.to_vec();
                body[at] = damage;
                let Ok(message) = Any::decode(header.kind, &body) else {
                    continue;
                };
                // What decodes is a message: it encodes to a prefix of the bytes. The rest is
                // surplus, since a count may have become smaller.
                let again = message.encode(header.tag);
                assert!(
                    body.starts_with(&again[HEADER_SIZE..]),
                    "{}",
                    vector["message"]
                );
            }
        }
    }
}

#[test]
fn malformed_messages_are_refused_where_they_must_be() {
    for case in json("malformed.json") {
        let what = case["what"].as_str().unwrap();
        let bytes = unhex(case["hex"].as_str().unwrap());
        let (head, body) = bytes.split_first_chunk().unwrap();
        let ours = match Header::decode(head, MSIZE_MAX) {
            Err(_) => "drops the connection",
            Ok(header) => match TMessage::decode(header.kind, body) {
                Err(_) => "answers with an error",
                Ok(_) => "accepts",
            },
        };
        let theirs = match what {
            // The rest is ignored as any surplus; gVisor compares the count with the body.
            "write count smaller than the data" => "accepts",
            _ => case["gvisor_p9"].as_str().unwrap(),
        };
        assert_eq!(ours, theirs, "{what}");
    }
}

#[test]
fn recorded_connections_survive_decoding_and_encoding() {
    let mut unequal = Vec::new();
    let mut count = 0;
    for file in std::fs::read_dir(vectors().join("transcripts")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let Some((direction, rest)) = line.split_once(' ').filter(|(d, _)| *d != "#") else {
                continue;
            };
            let bytes = unhex(rest.split(' ').next().unwrap());
            let (header, body) = split(&bytes);
            let message = match direction {
                ">" => TMessage::decode(header.kind, body).map(Any::T),
                "<" => RMessage::decode(header.kind, body).map(Any::R),
                other => panic!("{other} in {name}"),
            };
            count += 1;
            match message {
                Ok(message) if message.encode(header.tag) == bytes => {}
                Ok(message) => {
                    unequal.push(format!("{name}: {} has surplus bytes", message.name()))
                }
                Err(error) => unequal.push(format!("{name}: type {}: {error}", header.kind)),
            }
        }
    }
    assert!(count > 1000, "{count} messages");
    unequal.sort();
    // No recording holds a message with surplus bytes or a body that does not decode.
    assert_eq!(unequal, Vec::<String>::new());
}

#[test]
fn bulk_data_may_be_sent_from_elsewhere() {
    let (fid, offset) = (Fid(3), 6);
    let mut whole = Vec::new();
    Twrite {
        fid,
        offset,
        data: Data::new(b"world\n"),
    }
    .encode(Tag(2), &mut whole);
    let mut head = Vec::new();
    Twrite {
        fid,
        offset,
        data: Data::apart(6),
    }
    .encode_head(Tag(2), &mut head);
    assert_eq!([&head[..], b"world\n"].concat(), whole);

    let read = Rread {
        data: Data::new(b"abc"),
    };
    let mut head = Vec::new();
    RMessage::from(read).encode_head(Tag(1), &mut head);
    assert_eq!(head.len(), HEADER_SIZE + 4);
    assert_eq!(head[0], 14);
}

#[test]
fn entries_end_at_the_first_that_does_not_decode() {
    let mut bytes = Vec::new();
    let entry = Dirent {
        qid: Qid::default(),
        offset: 1,
        kind: 4,
        name: b"a",
    };
    entry.write(&mut Writer::new(&mut bytes));
    assert_eq!(bytes.len(), entry.size());
    bytes.extend_from_slice(&[0; 24]);
    bytes.push(9);
    let entries: Vec<_> = Dirents::new(&bytes).iter().collect();
    assert_eq!(entries[0], Ok(entry));
    assert_eq!(entries[1].unwrap().name, b"");
    assert!(entries[2].is_err());
    assert_eq!(entries.len(), 3);
}

#[test]
fn a_count_beyond_the_bytes_is_refused_before_anything_is_made() {
    // 65,535 qids and 4 GiB of data announced, none there.
    assert!(RMessage::decode(Rwalk::KIND, &[0xff, 0xff]).is_err());
    assert!(RMessage::decode(Rread::KIND, &[0xff; 4]).is_err());
}

#[test]
fn types_of_the_other_direction_are_unknown() {
    assert_eq!(
        TMessage::decode(Rclunk::KIND, &[]),
        Err(DecodeError::UnknownType(121))
    );
    assert_eq!(
        RMessage::decode(Tclunk::KIND, &[0; 4]),
        Err(DecodeError::UnknownType(120))
    );
}
