//! Clients that break the rules, or just do not behave. Nobody else pays for them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, IoSlice};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use gofer_9p::wire::{
    Fid, GetattrMask, Message, OpenFlags, Rclunk, Rflush, Rlerror, Rread, Tag, Tattach, Tclunk,
    Tflush, Tgetattr, Tlopen, Tread, Tversion,
};
use gofer_server_mock::host::Export;
use gofer_server_mock::limits::Limits;
use gofer_transport::{Stream, Wait};
use serde_json::Value;

use super::client::{BASE, Client, GOOGLE, ROOT};
use super::transcripts::unhex;
use crate::common::{ALL, Server};

const EBADF: u32 = 9;
const EPROTO: u32 = 71;
const EOPNOTSUPP: u32 = 95;

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "content").unwrap();
    fs::write(dir.path().join("large"), vec![7; 4 << 20]).unwrap();
    dir
}

/// A header of our own making.
fn frame(size: u32, kind: u8, tag: u16, body: &[u8]) -> Vec<u8> {
    [&size.to_le_bytes()[..], &[kind], &tag.to_le_bytes(), body].concat()
}

/// Whether the server still answers on this connection.
fn lives(client: &Client) {
    let request_mask = GetattrMask::BASIC;
    let request = Tgetattr {
        fid: ROOT,
        request_mask,
    };
    client.ask(&request).unwrap();
}

#[test]
fn recorded_malformed_input_is_survived_as_the_specification_says() {
    // What comes back: an error with this number, or nothing any more.
    let expected = BTreeMap::from([
        ("size smaller than a header", None),
        ("size zero", None),
        ("size of 2 MiB announced", None),
        ("body cut by one byte", Some(EPROTO)),
        ("body missing", Some(EPROTO)),
        ("string runs past the end", Some(EPROTO)),
        ("walk announces more names than it has", Some(EPROTO)),
        // Decodes, with bytes left over: fid 1 is what is wrong.
        ("walk announces fewer names than it has", Some(EBADF)),
        ("write count larger than the data", Some(EPROTO)),
        ("write count smaller than the data", Some(EBADF)),
        ("trailing byte", Some(0)),
        ("type 0", Some(EOPNOTSUPP)),
        ("type 6, the request that never exists", Some(EOPNOTSUPP)),
        (
            "type 106, the error request of the old protocol",
            Some(EOPNOTSUPP),
        ),
        ("type 255", Some(EOPNOTSUPP)),
    ]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/9p/malformed.json");
    let cases: Vec<Value> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(cases.len(), expected.len());
    let dir = tree();
    for case in cases {
        let what = case["what"].as_str().unwrap();
        let bytes = unhex(case["hex"].as_str().unwrap());
        let client = Client::attached(dir.path(), ALL, GOOGLE);
        client.send_bytes(&bytes);
        let answer = client.receive();
        let Some(ecode) = expected[what] else {
            assert!(answer.is_none(), "{what}: {answer:?}");
            continue;
        };
        let answer = answer.unwrap_or_else(|| panic!("{what}: hung up"));
        assert_eq!(answer.tag.0.to_le_bytes(), bytes[5..7], "{what}");
        assert_eq!(answer.error().unwrap_or(0), ecode, "{what}");
        if bytes[4] == Tversion::KIND {
            client.start(BASE);
        } else {
            lives(&client);
        }
    }
}

#[test]
fn nothing_is_served_before_a_version() {
    let dir = tree();
    let client = Client::of(&Export::open(dir.path(), ALL).unwrap());
    assert_eq!(client.attach(ROOT, b"").unwrap_err(), EPROTO);
    assert_eq!(client.clunk(ROOT).unwrap_err(), EPROTO);
    client.send(Tag(3), &Tflush { oldtag: Tag(1) });
    assert_eq!(client.receive().unwrap().of::<Rflush>(), Rflush {});
    client.send_bytes(&frame(9, 0, 5, b"xx"));
    assert_eq!(client.receive().unwrap().error(), Some(EPROTO));
    client.send_bytes(&frame(8193, Tattach::KIND, 5, b""));
    assert!(client.receive().is_none(), "nor is anything large read");
}

#[test]
fn replies_as_requests_are_of_unknown_type() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, GOOGLE);
    client.send(Tag(1), &Rlerror { ecode: 5 });
    assert_eq!(client.receive().unwrap().error(), Some(EOPNOTSUPP));
    client.send(Tag(1), &Rclunk {});
    assert_eq!(client.receive().unwrap().error(), Some(EOPNOTSUPP));
    lives(&client);
}

/// Numbers that look like chance and are the same every time.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn every_request_of_random_bytes_gets_one_reply() {
    let dir = tree();
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let export = Export::open(dir.path(), ALL).unwrap();
    let (client, server) = Client::with_limits(&export, Limits::default());
    let client = client.start(GOOGLE);
    for tag in 0..20_000u64 {
        let kind = match chance.next() as u8 {
            // It would end the session.
            Tversion::KIND => 0,
            kind => kind,
        };
        let body: Vec<u8> = (0..chance.next() % 60)
            .map(|_| chance.next() as u8 % 4)
            .collect();
        let size = 7 + body.len() as u32;
        let tag = tag as u16;
        client.send_bytes(&frame(size, kind, tag, &body));
        let answer = client.receive().unwrap();
        assert_eq!(answer.tag, Tag(tag));
        assert!(answer.kind == Rlerror::KIND || answer.kind == kind + 1);
    }
    drop(client);
    server.join().unwrap().unwrap();
}

#[test]
fn streams_of_garbage_end_without_harm() {
    let dir = tree();
    let export = Export::open(dir.path(), ALL).unwrap();
    let mut chance = Chance(42);
    for _ in 0..200 {
        let (client, server) = Client::with_limits(&export, Limits::default());
        let bytes: Vec<u8> = (0..200).map(|_| chance.next() as u8).collect();
        // The server may be gone before it has all.
        let _ = client
            .stream
            .send(&[IoSlice::new(&bytes)], &[], &Wait::default());
        client.stream.shutdown();
        // Ended by one side or the other, and no thread has panicked.
        let _ = server.join().unwrap();
    }
    lives(&Client::attached(dir.path(), ALL, BASE));
}

#[test]
fn half_a_request_holds_nobody_up() {
    let dir = tree();
    let export = Export::open(dir.path(), ALL).unwrap();
    let (half, server) = Client::with_limits(&export, Limits::default());
    half.send_bytes(&frame(100, Tattach::KIND, 1, b"some"));
    lives(&Client::of(&export).start(BASE));
    drop(half);
    let error = server.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_client_that_does_not_read_is_dropped_and_costs_the_others_nothing() {
    let dir = tree();
    let export = Export::open(dir.path(), ALL).unwrap();
    let limits = Limits {
        patience: Duration::from_millis(300),
        ..Limits::default()
    };
    let (deaf, server) = Client::with_limits(&export, limits);
    let deaf = deaf.start(BASE);
    deaf.open(Fid(1), &["large"], OpenFlags::RDONLY).unwrap();
    // In one piece: the server may give up before another could be sent.
    let mut requests = Vec::new();
    for tag in 0..100 {
        let read = Tread {
            fid: Fid(1),
            offset: 0,
            count: 1 << 20,
        };
        read.encode(Tag(tag), &mut requests);
    }
    deaf.send_bytes(&requests);
    let other = Client::of(&export).start(BASE);
    for _ in 0..100 {
        lives(&other);
    }
    let error = server.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    lives(&other);
}

#[test]
fn a_slow_reader_gets_everything_while_it_goes_on_asking() {
    let dir = tree();
    let content: Vec<u8> = (0..4u32 << 20).map(|index| (index >> 12) as u8).collect();
    fs::write(dir.path().join("large"), &content).unwrap();
    let client = Client::attached(dir.path(), ALL, BASE);
    client.open(Fid(1), &["large"], OpenFlags::RDONLY).unwrap();
    let count = 1_000_000;
    // More than the server keeps: it has to wait for us while it reads on.
    for tag in 0..30 {
        let offset = u64::from(tag) * 100_000;
        client.send(
            Tag(tag),
            &Tread {
                fid: Fid(1),
                offset,
                count,
            },
        );
    }
    for _ in 0..30 {
        let answer = client.receive().unwrap();
        let start = usize::from(answer.tag.0) * 100_000;
        let data = answer.of::<Rread<'_>>().data;
        assert_eq!(data.as_bytes(), &content[start..start + count as usize]);
    }
    lives(&client);
}

#[test]
fn descriptors_and_everything_else_of_a_connection_go_with_it() {
    let dir = tree();
    let socket_dir = tempfile::tempdir().unwrap();
    let (server, socket) = Server::at(socket_dir.path(), dir.path(), &["--protocol", "9p"]);
    // Once one connection is served, the server has opened what it needs for itself.
    let one = Client::on(Stream::connect_unix(&socket).unwrap()).start(BASE);
    let before = server.descriptors();
    for round in 0..20 {
        let client = Client::on(Stream::connect_unix(&socket).unwrap()).start(GOOGLE);
        for fid in 1..50 {
            client.open(Fid(fid), &["file"], OpenFlags::RDWR).unwrap();
        }
        assert!(server.descriptors() > before + 50);
        // Descriptors nobody wants.
        let mut bytes = Vec::new();
        Tclunk { fid: Fid(1) }.encode(Tag(9), &mut bytes);
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        let parts = [IoSlice::new(&bytes)];
        client
            .stream
            .send(&parts, &[pipe.as_fd()], &Wait::default())
            .unwrap();
        assert_eq!(client.receive().unwrap().of::<Rclunk>(), Rclunk {});
        // Left while requests run, in different ways.
        for tag in 10..40 {
            client.send(
                Tag(tag),
                &Tlopen {
                    fid: Fid(u32::from(tag)),
                    flags: OpenFlags::RDONLY,
                },
            );
        }
        if round % 2 == 0 {
            client.send_bytes(&[1, 0, 0, 0]);
        }
    }
    server.settle(before);
    lives(&one);
}
