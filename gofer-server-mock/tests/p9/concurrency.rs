//! Many requests at a time, on one connection and on many.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;

use gofer_9p::wire::{
    Data, Fid, GetattrMask, Message, Names, OpenFlags, RMessage, Rflush, Rlerror, Rread, Rversion,
    Rwalk, Rwrite, Tag, Tclunk, Tflush, Tfsync, Tgetattr, Tread, Tversion, Twalk, Twrite,
};
use gofer_server_mock::host::Export;
use gofer_server_mock::limits::Limits;

use super::client::{BASE, Client, GOOGLE, ROOT};
use crate::common::ALL;

const SIZE: usize = 1 << 20;

fn content() -> Vec<u8> {
    (0..SIZE as u32)
        .map(|index| (index >> 8 ^ index) as u8)
        .collect()
}

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), content()).unwrap();
    dir
}

#[test]
fn many_requests_of_one_connection_are_each_answered_once() {
    let dir = tree();
    let content = content();
    let client = Client::attached(dir.path(), ALL, BASE);
    client.open(Fid(1), &["file"], OpenFlags::RDWR).unwrap();
    for round in 0..20u16 {
        let mut bytes = Vec::new();
        for tag in 0..200 {
            let offset = u64::from(tag) * 5_000;
            match (tag + round) % 4 {
                0 => Tgetattr {
                    fid: Fid(1),
                    request_mask: GetattrMask::BASIC,
                }
                .encode(Tag(tag), &mut bytes),
                1 => {
                    let data = &content[offset as usize..][..100];
                    Twrite {
                        fid: Fid(1),
                        offset,
                        data: Data::new(data),
                    }
                    .encode(Tag(tag), &mut bytes)
                }
                _ => Tread {
                    fid: Fid(1),
                    offset,
                    count: 3_000,
                }
                .encode(Tag(tag), &mut bytes),
            }
        }
        client.send_bytes(&bytes);
        let mut answered = BTreeSet::new();
        for _ in 0..200 {
            let answer = client.receive().unwrap();
            let tag = answer.tag.0;
            assert!(answered.insert(tag), "{tag} is answered twice");
            let start = usize::from(tag) * 5_000;
            match (tag + round) % 4 {
                0 => assert!(matches!(answer.message(), RMessage::Rgetattr(_))),
                1 => assert_eq!(answer.of::<Rwrite>().count, 100),
                _ => {
                    let data = answer.of::<Rread<'_>>().data;
                    assert_eq!(data.as_bytes(), &content[start..start + 3_000]);
                }
            }
        }
    }
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), content);
}

#[test]
fn many_connections_with_many_requests_each() {
    let dir = tree();
    let export = Export::open(dir.path(), ALL).unwrap();
    let servers: Vec<_> = std::thread::scope(|scope| {
        let clients = (0..64u32).map(|number| {
            let (export, dir) = (&export, &dir);
            scope.spawn(move || {
                let (client, server) = Client::with_limits(export, Limits::default());
                let client = client.start(GOOGLE);
                client.walk(ROOT, Fid(1), &["file"]).unwrap();
                for tag in 0..16u32 {
                    let newfid = Fid(100 + tag);
                    client.send(
                        Tag(tag as u16),
                        &Twalk {
                            fid: ROOT,
                            newfid,
                            wnames: Names::new(&[b"file"]),
                        },
                    );
                }
                for _ in 0..16 {
                    let answer = client.receive().unwrap();
                    assert_eq!(answer.of::<Rwalk<'_>>().wqids.len(), 1);
                }
                let own = dir.path().join(format!("own-{number}"));
                fs::write(&own, number.to_le_bytes()).unwrap();
                let name = format!("own-{number}");
                client.open(Fid(2), &[&name], OpenFlags::RDONLY).unwrap();
                assert_eq!(client.read(Fid(2), 0, 10).unwrap(), number.to_le_bytes());
                for tag in 0..16u32 {
                    client.send(
                        Tag(tag as u16),
                        &Tclunk {
                            fid: Fid(100 + tag),
                        },
                    );
                }
                for _ in 0..16 {
                    assert!(matches!(
                        client.receive().unwrap().message(),
                        RMessage::Rclunk(_)
                    ));
                }
                server
            })
        });
        let clients: Vec<_> = clients.collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    for server in servers {
        server.join().unwrap().unwrap();
    }
}

/// What happens to each flushed request: a reply before Rflush, or none at all; never one behind
/// it. Tags are used again as soon as Rflush has come, so a late reply would answer the wrong
/// request.
#[test]
fn a_flushed_request_is_answered_before_its_flush_or_never() {
    const OLD: Tag = Tag(1);
    const FLUSH: Tag = Tag(2);
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, BASE);
    client.open(Fid(1), &["file"], OpenFlags::RDWR).unwrap();
    let mut outcomes = BTreeMap::new();
    for round in 0..3_000u32 {
        let mut bytes = Vec::new();
        {
            // Something to keep threads busy with, in changing amounts.
            for tag in 0..round % 7 {
                Tread {
                    fid: Fid(1),
                    offset: 0,
                    count: 20_000,
                }
                .encode(Tag(100 + tag as u16), &mut bytes);
            }
            let count = round;
            match round % 3 {
                0 => Tfsync {
                    fid: Fid(1),
                    datasync: Some(1),
                }
                .encode(OLD, &mut bytes),
                _ => Tread {
                    fid: Fid(1),
                    offset: 0,
                    count,
                }
                .encode(OLD, &mut bytes),
            }
            Tflush { oldtag: OLD }.encode(FLUSH, &mut bytes);
        }
        match round % 2 {
            0 => client.send_bytes(&bytes),
            // The flush comes a moment later.
            _ => {
                let (first, second) = bytes.split_at(bytes.len() - 9);
                client.send_bytes(first);
                client.send_bytes(second);
            }
        }
        let mut answered = false;
        let mut others = 0;
        loop {
            let answer = client.receive().unwrap();
            match answer.tag {
                OLD => {
                    assert!(!answered);
                    answered = true;
                    if let RMessage::Rread(reply) = answer.message() {
                        assert_eq!(
                            reply.data.len(),
                            round as usize,
                            "an answer of another round"
                        );
                    }
                }
                FLUSH => {
                    assert_eq!(answer.of::<Rflush>(), Rflush {});
                    break;
                }
                _ => others += 1,
            }
        }
        *outcomes.entry(answered).or_insert(0) += 1;
        // The tag is free now; whoever answers it answers this request.
        client.send(OLD, &Tclunk { fid: Fid(77) });
        while others < round % 7 + 1 {
            let answer = client.receive().unwrap();
            if answer.tag == OLD {
                assert_eq!(answer.of::<Rlerror>().ecode, 9);
            }
            others += 1;
        }
    }
    // Both ways have to occur, or this test has tested one of them only.
    assert_eq!(outcomes.len(), 2, "{outcomes:?}");
}

#[test]
fn flushes_of_flushes_and_of_nothing_are_answered() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, BASE);
    let flush = |tag, oldtag| {
        let mut bytes = Vec::new();
        Tflush {
            oldtag: Tag(oldtag),
        }
        .encode(Tag(tag), &mut bytes);
        bytes
    };
    // Nothing, itself, each other.
    let all = [
        flush(1, 99),
        flush(2, 2),
        flush(3, 4),
        flush(4, 3),
        flush(5, 4),
    ]
    .concat();
    client.send_bytes(&all);
    let tags: BTreeSet<_> = (0..5).map(|_| client.receive().unwrap().tag.0).collect();
    assert_eq!(tags, BTreeSet::from([1, 2, 3, 4, 5]));
}

#[test]
fn of_two_requests_for_one_new_fid_one_gets_it() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, BASE);
    for _ in 0..500 {
        let mut bytes = Vec::new();
        for tag in 0..4 {
            let wnames = Names::new(&[b"file"]);
            let request = Twalk {
                fid: ROOT,
                newfid: Fid(1),
                wnames,
            };
            request.encode(Tag(tag), &mut bytes);
        }
        client.send_bytes(&bytes);
        let refused: Vec<_> = (0..4)
            .filter_map(|_| client.receive().unwrap().error())
            .collect();
        assert_eq!(refused, [22; 3]);
        client.clunk(Fid(1)).unwrap();
    }
}

#[test]
fn a_version_ends_what_came_before_it() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, BASE);
    for _ in 0..50 {
        client.open(Fid(1), &["file"], OpenFlags::RDONLY).unwrap();
        let mut bytes = Vec::new();
        for tag in 0..100 {
            let request = Tread {
                fid: Fid(1),
                offset: 0,
                count: 10_000,
            };
            request.encode(Tag(tag), &mut bytes);
        }
        let (msize, version) = (1 << 20, BASE.as_bytes());
        let request = Tversion { msize, version };
        request.encode(Tag::NONE, &mut bytes);
        client.send_bytes(&bytes);
        let answer = loop {
            let answer = client.receive().unwrap();
            if answer.tag == Tag::NONE {
                break answer;
            }
        };
        assert_eq!(answer.of::<Rversion<'_>>(), Rversion { msize, version });
        // The next reply is the next request's, and the fid is gone.
        assert_eq!(client.clunk(Fid(1)).unwrap_err(), 9);
        client.attach(ROOT, b"").unwrap();
    }
}

#[test]
fn a_connection_may_end_while_requests_run() {
    let dir = tree();
    let export = Export::open(dir.path(), ALL).unwrap();
    for round in 0..50 {
        let (client, server) = Client::with_limits(&export, Limits::default());
        let client = client.start(BASE);
        client.open(Fid(1), &["file"], OpenFlags::RDWR).unwrap();
        for tag in 0..60 {
            client.send(
                Tag(tag),
                &Tread {
                    fid: Fid(1),
                    offset: 0,
                    count: 100_000,
                },
            );
            client.send(
                Tag(100 + tag),
                &Tfsync {
                    fid: Fid(1),
                    datasync: None,
                },
            );
        }
        if round % 2 == 0 {
            client.receive().unwrap();
        }
        drop(client);
        // However it learns of it, it ends.
        let _ = server.join().unwrap();
    }
    assert_eq!(Arc::strong_count(export.root()), 1, "every fid is gone");
}

#[test]
fn requests_on_one_fid_run_side_by_side_with_its_clunk() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, BASE);
    for _ in 0..200 {
        client.open(Fid(1), &["file"], OpenFlags::RDONLY).unwrap();
        let mut bytes = Vec::new();
        for tag in 0..8 {
            let request = Tread {
                fid: Fid(1),
                offset: 0,
                count: 1_000,
            };
            request.encode(Tag(tag), &mut bytes);
        }
        Tclunk { fid: Fid(1) }.encode(Tag(50), &mut bytes);
        client.send_bytes(&bytes);
        for _ in 0..9 {
            let answer = client.receive().unwrap();
            match answer.message() {
                RMessage::Rread(reply) => assert_eq!(reply.data.len(), 1_000),
                RMessage::Rclunk(_) => {}
                // Behind the clunk.
                other => assert_eq!(other, RMessage::Rlerror(Rlerror { ecode: 9 })),
            }
        }
    }
}
