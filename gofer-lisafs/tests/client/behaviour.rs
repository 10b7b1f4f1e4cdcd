//! `client_behaviour.json`: what a client reports when an answer is altered on the way.

use std::io::IoSliceMut;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use gofer_lisafs::wire::FStatResp;
use gofer_lisafs::wire::{
    ConnectResp, Fdid, Message, Mid, OpenAtResp, PReadResp, ReadData, WalkResp, WalkStatus,
};
use gofer_vfs::remote::{Call, Found, OpenMode, RemoteHandle, RemoteResult, SocketType, WalkEnd};
use gofer_vfs::{Access, AttrMask, Errno, Name};

use crate::common::peer::{Marked, Peer, call, frame, inode, session, stat};
use crate::common::{text, vectors};

const READ: OpenMode = OpenMode {
    access: Access::Read,
    truncate: false,
};

/// Frames of the unaltered answers.
fn fstat_answer() -> Vec<u8> {
    encoded(&FStatResp {
        stat: stat(5, 0o100644),
    })
}

fn encoded<'r>(message: &impl Message<'r>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

/// Plays the server's side of a scenario; the request is still to be received.
fn play(scenario: &str, peer: &Peer, host: &Marked) {
    let host = host.fd();
    let open = encoded(&OpenAtResp {
        open_fd: Fdid::new(9),
    });
    let walk = |status, inodes: &[_]| {
        peer.expect(Mid::WALK);
        peer.reply(&WalkResp { status, inodes }, &[]);
    };
    let read = |data: &[u8]| {
        peer.reply(
            &PReadResp {
                data: ReadData(data),
            },
            &[],
        )
    };
    match scenario {
        "unaltered" => fstat(peer, &fstat_answer()),
        "answer carries another message ID" => {
            let mut answer = fstat_answer();
            answer[4..6].copy_from_slice(&17u16.to_le_bytes());
            fstat(peer, &answer);
        }
        "answer one byte short" => fstat(peer, &frame(3, &fstat_answer()[8..151])),
        "answer eight bytes long" => {
            fstat(peer, &frame(3, &[&fstat_answer()[8..], &[7; 8]].concat()));
        }
        "answer larger than max_message_size" => fstat(peer, &frame(3, &vec![0; 2093057])),
        "Error with ENOENT" => fstat(peer, &frame(0, &2u32.to_le_bytes())),
        "Error with errno 0" => fstat(peer, &frame(0, &0u32.to_le_bytes())),
        "Error with trailing bytes" => fstat(peer, &frame(0, &[13, 0, 0, 0, 1, 2, 3])),
        "non-zero header padding" => {
            let mut answer = fstat_answer();
            answer[6..8].fill(0xff);
            fstat(peer, &answer);
        }
        "frame sent one byte at a time" => {
            peer.expect(Mid::FSTAT);
            fstat_answer()
                .iter()
                .for_each(|byte| peer.send(&[*byte], &[]));
        }
        "socket closed instead of an answer" => {
            peer.expect(Mid::FSTAT);
            peer.stream.shutdown();
        }
        "socket closed inside the answer" => {
            fstat(peer, &fstat_answer()[..60]);
            peer.stream.shutdown();
        }
        "OpenAt with its fd" => opened(peer, &open, &[host]),
        "OpenAt without an fd" => opened(peer, &open, &[]),
        "OpenAt with two fds" => opened(peer, &open, &[host; 2]),
        "OpenAt with three fds" => opened(peer, &open, &[host; 3]),
        "OpenAt whose fd comes with the first byte only" => {
            opened(peer, &open[..1], &[host]);
            peer.send(&open[1..], &[]);
        }
        "OpenAt whose fd comes with the payload" => {
            opened(peer, &open[..8], &[]);
            peer.send(&open[8..], &[host]);
        }
        "an Error with an fd" => opened(peer, &frame(0, &13u32.to_le_bytes()), &[host]),
        "FStat with an fd that was not asked for" => {
            peer.expect(Mid::FSTAT);
            peer.send(&fstat_answer(), &[host]);
        }
        "Connect without an fd" => {
            peer.expect(Mid::CONNECT);
            peer.reply(&ConnectResp {}, &[]);
        }
        "Connect with a payload" => {
            peer.expect(Mid::CONNECT);
            peer.send(&frame(21, b"payload"), &[host]);
        }
        "Walk: success, no inode" => walk(WalkStatus::SUCCESS, &[]),
        "Walk of one name: two inodes" => {
            walk(
                WalkStatus::SUCCESS,
                &[inode(21, 0o040755), inode(22, 0o100644)],
            );
        }
        "Walk: status 1" => walk(WalkStatus::MISSING, &[]),
        "Walk: status 2" => walk(WalkStatus::SYMLINK, &[]),
        "PRead of 16: a short answer" => {
            opened(peer, &open, &[]);
            peer.expect(Mid::PREAD);
            read(b"four");
        }
        "PRead of 16: no data" => {
            opened(peer, &open, &[]);
            peer.expect(Mid::PREAD);
            read(b"");
        }
        "PRead of 16: more data than was asked for" => {
            opened(peer, &open, &[]);
            peer.expect(Mid::PREAD);
            read(&[7; 17]);
        }
        other => panic!("no script for {other}"),
    }
}

fn fstat(peer: &Peer, answer: &[u8]) {
    peer.expect(Mid::FSTAT);
    peer.send(answer, &[]);
}

fn opened(peer: &Peer, answer: &[u8], fds: &[BorrowedFd<'_>]) {
    peer.expect(Mid::OPEN_AT);
    peer.send(answer, fds);
}

/// What the client reports, in the words of the vectors where they name something.
fn report(root: &Found, answer_to: &str, call: &Call<'_>) -> String {
    match answer_to {
        "FStat" => outcome(root.file.attr(call, AttrMask::BASIC).map(|_| String::new())),
        "OpenAt" => outcome(
            root.file
                .open(call, READ)
                .map(|handle| match handle.host_fd() {
                    Some(_) => ", host fd".to_string(),
                    None => ", no host fd".to_string(),
                }),
        ),
        "Connect" => outcome(
            root.file
                .connect(call, SocketType::Stream)
                .map(|_| ", fd".to_string()),
        ),
        "Walk" => {
            let name = Name::new(b"name").unwrap();
            outcome(match root.file.walk(call, &[name], &mut drop) {
                Ok(WalkEnd::Missing) => return "error: ENOENT".to_string(),
                Ok(_) => Ok(String::new()),
                Err(error) => Err(error),
            })
        }
        "PRead" => {
            let handle = root.file.open(call, READ).unwrap();
            let mut buffer = [0; 16];
            let moved = handle.read_at(call, &mut [IoSliceMut::new(&mut buffer)], 0);
            match moved.error {
                None => format!("{} bytes", moved.n),
                Some(error) => format!("{} bytes, error: {:?}", moved.n, error.errno),
            }
        }
        other => panic!("no call for {other}"),
    }
}

fn outcome(result: RemoteResult<String>) -> String {
    match result {
        Ok(detail) => format!("success{detail}"),
        Err(error) => format!("error: {:?}", error.errno),
    }
}

/// Where this client says the same in other words, or says more than the recorded one.
fn expected(recorded: &str) -> String {
    match recorded {
        // A failure without a reason is EIO (lisafs 5.2).
        "error: errno 0" => "error: EIO",
        "success, host fd regular file" => "success, host fd",
        "success, fd unix socket, stream" => "success, fd",
        // No bytes without an error are the end of the file.
        "0 bytes, error: EOF" => "0 bytes",
        "0 bytes, error: input/output error" => "0 bytes, error: EIO",
        same => same,
    }
    .to_string()
}

#[test]
fn altered_answers_are_reported_as_recorded_and_leak_no_descriptor() {
    let scenarios = vectors("client_behaviour.json");
    assert_eq!(scenarios.len(), 29);
    for entry in scenarios {
        let scenario = text(&entry, "scenario").to_string();
        let host = Arc::new(Marked::new());
        let session = {
            let (scenario, host) = (scenario.clone(), host.clone());
            session(move |peer| {
                play(&scenario, &peer, &host);
                peer.rest()
            })
        };
        let got = report(&session.root, text(&entry, "answer_to"), &call());
        assert_eq!(got, expected(text(&entry, "client_result")), "{scenario}");
        // Unless it ended the connection, the next call finds it as it should be.
        session.finish();
        assert_eq!(host.copies(), 0, "{scenario}");
    }
}

#[test]
fn the_call_after_an_altered_answer_works() {
    let altered: [Vec<u8>; 6] = [
        frame(17, &[0; 64]),
        frame(3, &[0; 143]),
        frame(3, &vec![0; 2093057]),
        frame(0, &[]),
        frame(0, &0u32.to_le_bytes()),
        frame(999, &[1, 2, 3]),
    ];
    let count = altered.len();
    let session = session(move |peer| {
        for answer in altered {
            fstat(&peer, &answer);
            fstat(&peer, &fstat_answer());
        }
    });
    for index in 0..count {
        let error = session
            .root
            .file
            .attr(&call(), AttrMask::BASIC)
            .unwrap_err();
        let expected = match index {
            0 | 5 => Errno::EINVAL,
            _ => Errno::EIO,
        };
        assert_eq!(error.errno, expected, "answer {index}");
        session.root.file.attr(&call(), AttrMask::BASIC).unwrap();
    }
    session.finish();
}

#[test]
fn a_handle_lives_on_its_own_after_its_file() {
    let session = session(|peer| {
        opened(
            &peer,
            &encoded(&OpenAtResp {
                open_fd: Fdid::new(9),
            }),
            &[],
        );
        peer.expect(Mid::FSTAT);
        peer.send(&fstat_answer(), &[]);
    });
    let handle: Arc<dyn RemoteHandle> = session.root.file.open(&call(), READ).unwrap();
    assert!(handle.host_fd().is_none());
    assert_eq!(handle.attr(&call(), AttrMask::BASIC).unwrap().size, 5);
    session.finish();
}
