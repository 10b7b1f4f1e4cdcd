//! Every message and header vector, both ways and cut at every byte.

use gofer_lisafs::wire::{
    ChannelHeader, Message, Mid, PReadReq, PReadResp, PWriteReq, ReadData, Request, SocketHeader,
    WriteData,
};
use serde_json::Value as Json;
use zerocopy::IntoBytes;

use super::fields::Any;
use crate::common::{hex, number, text, to_hex, vector_files, vectors};

/// All message vectors with a name for failures.
fn message_vectors() -> Vec<(String, Json)> {
    let mut all = Vec::new();
    for file in vector_files() {
        if file.ends_with("_req.json") || file.ends_with("_resp.json") {
            for vector in vectors(&file) {
                all.push((format!("{file}, {}", text(&vector, "case")), vector));
            }
        }
    }
    all
}

fn mid(vector: &Json) -> Mid {
    Mid::new(u16::try_from(number(vector, "mid")).unwrap())
}

fn is_request(vector: &Json) -> bool {
    text(vector, "kind") == "request"
}

#[test]
fn every_vector_decodes_to_its_fields_and_encodes_to_its_bytes() {
    let mut seen = std::collections::BTreeSet::new();
    for (name, vector) in message_vectors() {
        let payload = hex(text(&vector, "hex"));
        let message = Any::decode(is_request(&vector), mid(&vector), &payload)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(message.to_json(), vector["fields"], "{name}");
        assert_eq!(
            to_hex(&message.encode()),
            text(&vector, "sock_frame_hex"),
            "{name}"
        );
        let mut datagram = ChannelHeader::new(mid(&vector), number(&vector, "num_fds") as u8)
            .as_bytes()
            .to_vec();
        datagram.extend_from_slice(&message.encode()[SocketHeader::SIZE..]);
        assert_eq!(to_hex(&datagram), text(&vector, "chan_frame_hex"), "{name}");
        assert!(
            number(&vector, "num_fds") as usize <= mid(&vector).descriptors(),
            "{name}"
        );
        seen.insert((number(&vector, "mid"), is_request(&vector)));
    }
    // Every message there is, both directions, and Error.
    assert_eq!(seen.len(), 2 * Mid::REQUESTS.len() + 1);
}

#[test]
fn every_truncation_of_every_vector_is_refused() {
    for (name, vector) in message_vectors() {
        let payload = hex(text(&vector, "hex"));
        // The vectors have no surplus bytes, so each prefix lacks something.
        for end in 0..payload.len() {
            let cut = Any::decode(is_request(&vector), mid(&vector), &payload[..end]);
            assert!(
                cut.is_err(),
                "{name} cut to {end} of {} bytes",
                payload.len()
            );
        }
    }
}

#[test]
fn surplus_bytes_are_ignored() {
    for (name, vector) in message_vectors() {
        let mut payload = hex(text(&vector, "hex"));
        payload.extend_from_slice(&[0xff; 9]);
        let message = Any::decode(is_request(&vector), mid(&vector), &payload).unwrap();
        assert_eq!(message.to_json(), vector["fields"], "{name}");
        assert_eq!(
            to_hex(&message.encode()),
            text(&vector, "sock_frame_hex"),
            "{name}"
        );
    }
}

#[test]
fn headers_agree_with_their_vectors() {
    for vector in vectors("header_socket.json") {
        let bytes = hex(text(&vector, "hex"));
        let header = SocketHeader::decode(bytes[..].try_into().unwrap());
        let fields = &vector["fields"];
        assert_eq!(
            u64::from(header.payload_len.get()),
            number(fields, "payload_len")
        );
        assert_eq!(u64::from(header.message.get()), number(fields, "message"));
        let again = SocketHeader::new(header.message, header.payload_len.get());
        assert_eq!(again.as_bytes(), bytes);
    }
    for vector in vectors("header_channel.json") {
        let bytes = hex(text(&vector, "hex"));
        let header = ChannelHeader::decode(bytes[..].try_into().unwrap());
        let fields = &vector["fields"];
        assert_eq!(u64::from(header.message.get()), number(fields, "message"));
        assert_eq!(u64::from(header.num_fds), number(fields, "num_fds"));
        let again = ChannelHeader::new(header.message, header.num_fds);
        assert_eq!(again.as_bytes(), bytes);
    }
}

/// The message whose structure the edge vectors call `name`.
fn named(name: &str) -> (bool, Mid) {
    let mid = match name {
        "StatReq" | "Statx" => Mid::FSTAT,
        "OpenAtReq" => Mid::OPEN_AT,
        "MkdirAtReq" => Mid::MKDIR_AT,
        "ListenReq" => Mid::LISTEN,
        "ReadLinkAtResp" => Mid::READ_LINK_AT,
        "WalkReq" | "WalkResp" => Mid::WALK,
        "WalkStatResp" => Mid::WALK_STAT,
        "CloseReq" | "CloseResp" => Mid::CLOSE,
        "MountResp" => Mid::MOUNT,
        "PWriteReq" => Mid::PWRITE,
        "PReadResp" => Mid::PREAD,
        "Getdents64Resp" => Mid::GETDENTS64,
        "RenameAtReq" => Mid::RENAME_AT,
        other => panic!("no message for {other}"),
    };
    (name.ends_with("Req"), mid)
}

#[test]
fn edge_cases_are_accepted_and_refused_as_recorded() {
    for vector in vectors("decode_edge.json") {
        let name = format!("{}, {}", text(&vector, "message"), text(&vector, "case"));
        let payload = hex(text(&vector, "hex"));
        let (request, mid) = named(text(&vector, "message"));
        let decoded = Any::decode(request, mid, &payload);
        // The reader's buffer is the caller's: a client asks for that much and compares.
        let fits = match (
            vector["reader_buffer_len"].as_u64(),
            PReadResp::decode(&payload),
        ) {
            (Some(room), Ok(response)) => response.data.0.len() as u64 <= room,
            _ => true,
        };
        if text(&vector, "result") != "accepted" {
            assert!(decoded.is_err() || !fits, "{name}");
            continue;
        }
        let message = decoded.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(fits, "{name}");
        let fields = vector
            .get("fields")
            .cloned()
            .unwrap_or_else(|| serde_json::json!({}));
        assert_eq!(message.to_json(), fields, "{name}");
        let consumed = message.encode().len() - SocketHeader::SIZE;
        assert_eq!(consumed as u64, number(&vector, "consumed"), "{name}");
    }
}

#[test]
fn the_head_leaves_bulk_data_to_the_caller() {
    let request = PWriteReq {
        offset: 3,
        fd: gofer_lisafs::wire::Fdid::new(6),
        data: WriteData(b"hello"),
    };
    let (mut head, mut frame) = (Vec::new(), Vec::new());
    request.encode_head(&mut head);
    request.encode(&mut frame);
    assert_eq!(request.data(), b"hello");
    assert_eq!(frame, [&head[..], b"hello"].concat());
    assert_eq!(head[..4], 25u32.to_le_bytes());

    let response = PReadResp {
        data: ReadData(b"abc"),
    };
    head.clear();
    response.encode_head(&mut head);
    assert_eq!(head[8..], 3u64.to_le_bytes());
    assert_eq!(PReadReq::DESCRIPTORS, 0);
}

#[test]
fn numbers_without_a_name_are_kept_and_refused_as_messages() {
    for number in [34, 255, 256, 65535] {
        let mid = Mid::new(number);
        assert_eq!((mid.get(), mid.name()), (number, None));
        assert!(Any::decode(true, mid, &[0; 64]).is_err());
        assert!(Any::decode(false, mid, &[0; 64]).is_err());
    }
    assert!(
        Any::decode(true, Mid::ERROR, &[0; 4]).is_err(),
        "clients never send Error"
    );
    assert_eq!(Mid::RENAME_AT2.to_string(), "RenameAt2");
    assert_eq!(Mid::new(300).to_string(), "message 300");
}
