//! The version, the message size, and servers that are none.

use std::io::IoSlice;
use std::time::Duration;

use gofer_vfs::remote::{Call, RemoteFilesystem};
use gofer_vfs::{AttrMask, Errno};

use super::peer::{Peer, play, play_over_pipes};
use crate::client::table::Effect;
use crate::client::{Config, ConnectError, Filesystem};
use crate::wire::{Data, Fid, Rclunk, Rversion, Rwrite, TMessage, Tversion, Twrite, Version};

/// What the server makes of a request for some version.
enum Answer {
    Error(u32),
    Version(&'static str, u32),
}

/// Connects to a server that answers so, and returns what was asked, too.
fn connect(
    version: Option<&str>,
    answer: impl Fn(&str, u32) -> Answer + Send + 'static,
) -> (Result<(Version, u32), ConnectError>, Vec<String>) {
    let (stream, thread) = play(move |peer: Peer| {
        let mut asked = Vec::new();
        while let Some(incoming) = peer.next() {
            let TMessage::Tversion(Tversion { msize, version }) = incoming.message() else {
                panic!(
                    "{} before the version was agreed on",
                    incoming.message().name()
                );
            };
            let version = std::str::from_utf8(version).unwrap();
            asked.push(version.to_owned());
            match answer(version, msize) {
                Answer::Error(errno) => peer.error(incoming.tag, errno),
                Answer::Version(version, msize) => {
                    peer.reply(
                        incoming.tag,
                        Rversion {
                            msize,
                            version: version.as_bytes(),
                        },
                    );
                }
            }
        }
        asked
    });
    let config = Config {
        channels: Some(0),
        version: version.map(str::to_owned),
        ..Config::default()
    };
    let result = Filesystem::connect(stream, config).map(|filesystem| {
        (
            filesystem.line.session().version(),
            filesystem.line.session().msize(),
        )
    });
    (result, thread.join().unwrap())
}

const MIB: u32 = 1 << 20;

#[test]
fn the_newest_dialect_and_a_mebibyte_are_asked_for() {
    let (result, asked) = connect(None, |_, msize| {
        Answer::Version("9P2000.L.Google.13", msize)
    });
    assert_eq!(result.unwrap(), (Version::Google(13), MIB));
    assert_eq!(asked, ["9P2000.L.Google.13"]);
}

#[test]
fn a_server_that_says_try_again_is_asked_for_less_and_less() {
    let (result, asked) = connect(None, |version, msize| match version {
        "9P2000.L.Google.7" => Answer::Version("9P2000.L.Google.7", msize),
        _ => Answer::Error(11),
    });
    assert_eq!(result.unwrap().0, Version::Google(7));
    assert_eq!(asked.len(), 7);

    let (result, asked) = connect(None, |version, msize| match version {
        "9P2000.L" => Answer::Version("9P2000.L", msize),
        _ => Answer::Error(11),
    });
    assert_eq!(result.unwrap().0, Version::Base);
    assert_eq!(asked.last().map(String::as_str), Some("9P2000.L"));
    assert_eq!(asked.len(), 14);

    let (result, _) = connect(None, |_, _| Answer::Error(11));
    assert_eq!(result.unwrap_err().errno(), Errno::EAGAIN);
}

#[test]
fn any_other_answer_leads_to_the_base_once() {
    for other in [
        Answer::Error(5),
        Answer::Version("unknown", MIB),
        Answer::Version("\u{7}", 0),
    ] {
        let other = std::sync::Mutex::new(Some(other));
        let (result, asked) = connect(None, move |version, _| match version {
            "9P2000.L" => Answer::Version("9P2000.L", 65536),
            _ => other.lock().unwrap().take().unwrap(),
        });
        assert_eq!(result.unwrap(), (Version::Base, 65536));
        assert_eq!(asked, ["9P2000.L.Google.13", "9P2000.L"]);
    }
    let (result, asked) = connect(None, |_, _| Answer::Error(5));
    assert_eq!(result.unwrap_err().errno(), Errno::EIO);
    assert_eq!(asked.len(), 2);
}

#[test]
fn a_smaller_dialect_in_the_answer_is_spoken() {
    let (result, _) = connect(None, |_, msize| Answer::Version("9P2000.L", msize));
    assert_eq!(result.unwrap().0, Version::Base);
}

#[test]
fn an_explicit_version_is_exact() {
    let (result, asked) = connect(Some("9P2000.L.Google.9"), |_, _| Answer::Error(5));
    assert_eq!(result.unwrap_err().errno(), Errno::EIO);
    assert_eq!(asked.len(), 1);
    let (result, _) = connect(Some("9P2000.L.Google.9"), |_, m| {
        Answer::Version("9P2000.L", m)
    });
    let text = result.unwrap_err().to_string();
    assert_eq!(text, "asked for version 9P2000.L.Google.9, got 9P2000.L");
    let (result, asked) = connect(Some("9P2000.u"), |_, _| Answer::Error(5));
    assert!(matches!(result, Err(ConnectError::Version { .. })));
    assert!(asked.is_empty());
}

#[test]
fn answers_beyond_what_was_asked_are_refused() {
    let (result, _) = connect(None, |_, m| Answer::Version("9P2000.L.Google.14", m));
    assert!(matches!(result, Err(ConnectError::Version { .. })));
    for msize in [0, 4095, MIB + 1] {
        let (result, _) = connect(None, move |_, _| Answer::Version("9P2000.L", msize));
        assert!(matches!(result, Err(ConnectError::Protocol(_))), "{msize}");
    }
}

#[test]
fn servers_that_are_none_are_told_apart() {
    type Script = fn(Peer);
    let cases: [(&str, Script); 5] = [
        ("closed", |_| {}),
        ("closed", |peer| {
            peer.expect("Tversion");
            peer.send(b"\x15\0\0", &[]);
        }),
        ("no 9P", |peer| {
            peer.expect("Tversion");
            peer.send(b"HTTP/1.1 400 Bad Request\r\n", &[]);
        }),
        ("no 9P", |peer| {
            let tag = peer.expect("Tversion").tag;
            peer.reply(tag, Rclunk {});
        }),
        ("no 9P", |peer| {
            let tag = peer.expect("Tversion").tag;
            let mut bytes = super::peer::bytes(
                tag,
                Rversion {
                    msize: MIB,
                    version: b"9P2000.L",
                },
            );
            bytes[11] = 0xff;
            peer.send(&bytes, &[]);
        }),
    ];
    for (text, script) in cases {
        let (stream, thread) = play(script);
        let error = Filesystem::connect(stream, Config::default())
            .err()
            .unwrap();
        assert!(error.to_string().contains(text), "{error}");
        thread.join().unwrap();
    }
}

#[test]
fn a_silent_server_is_given_up() {
    let (stream, thread) = play(|peer: Peer| peer.drain());
    let config = Config {
        timeout: Some(Duration::from_millis(20)),
        ..Config::default()
    };
    let error = Filesystem::connect(stream, config).err().unwrap();
    assert_eq!(error.errno(), Errno::ETIMEDOUT);
    assert_eq!(thread.join().unwrap(), ["Tversion"]);
}

#[test]
fn pipes_carry_a_connection_both_ways() {
    let (stream, thread) = play_over_pipes(|peer: Peer| {
        peer.agree();
        peer.attach();
        let write = peer.expect("Twrite");
        let TMessage::Twrite(Twrite { data, .. }) = write.message() else {
            return;
        };
        assert!(data.as_bytes().iter().all(|&byte| byte == 3));
        peer.reply(
            write.tag,
            Rwrite {
                count: data.len() as u32,
            },
        );
        peer.expect("Tgetattr");
        peer.drain();
    });
    let filesystem = Filesystem::connect(stream, Config::default()).unwrap();
    let call = Call::default();
    let root = filesystem.root(&call).unwrap();
    // More than a pipe holds.
    let bytes = vec![3; 500_000];
    let written = filesystem.write(&call, &bytes);
    assert_eq!(written, bytes.len() as u32);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| root.file.attr(&call, AttrMask::BASIC));
        while filesystem.line.session().lock().incoming.is_some() {
            std::thread::yield_now();
        }
        filesystem.shutdown();
        let error = waiting.join().unwrap().unwrap_err();
        assert_eq!(error.errno, Errno::EIO);
    });
    drop((root, filesystem));
    thread.join().unwrap();
}

impl Filesystem {
    /// Writes through a fid that the peer does not ask about.
    fn write(&self, call: &Call<'_>, bytes: &[u8]) -> u32 {
        let session = self.line.session();
        let mut exchange = session.begin(call);
        let data = Data::apart(bytes.len());
        let request = Twrite {
            fid: Fid(0),
            offset: 0,
            data,
        };
        let index = exchange.push(request, Effect::None).unwrap();
        exchange.run_with(&[IoSlice::new(bytes)], None, 0).unwrap();
        exchange.reply::<Twrite<'_>>(index).unwrap().count
    }
}
