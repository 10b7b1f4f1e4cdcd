//! Channels at mount: how many, and what is not fit to be one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gofer_lisafs::client::{Config, ConnectError, connect};
use gofer_lisafs::wire::{ChannelResp, FStatResp, Mid};
use gofer_transport::shm::WindowFile;
use gofer_vfs::AttrMask;
use gofer_vfs::remote::RemoteFilesystem;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::common::channel::{Channel, MESSAGE_SIZE, channel};
use crate::common::peer::{Marked, Peer, all, call, connecting, start, stat};

const ENOMEM: u32 = 12;

fn config(channels: Option<u32>) -> Config {
    Config {
        channels,
        timeout: Some(Duration::from_secs(20)),
        ..Config::default()
    }
}

/// Answers a request for a channel and makes the handshake.
fn give(peer: &Peer, file: &mut WindowFile) -> Channel {
    peer.expect(Mid::CHANNEL);
    let (mut channel, place, fds) = channel(file);
    peer.reply(&place, &[fds[0].as_fd(), fds[1].as_fd()]);
    channel.greet();
    channel
}

/// Answers FStat on the socket once: nothing else may come there.
fn serve_on_socket(peer: &Peer) {
    peer.expect(Mid::FSTAT);
    let stat = stat(5, 0o100644);
    peer.reply(&FStatResp { stat }, &[]);
    assert_eq!(peer.rest(), []);
}

fn stat_root(fs: &Arc<dyn RemoteFilesystem>) {
    let root = fs.root(&call()).unwrap();
    root.file.attr(&call(), AttrMask::BASIC).unwrap();
}

#[test]
fn as_many_are_asked_for_as_the_option_says() {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    for (option, expected) in [(Some(0), 0), (Some(3), 3), (None, cpus.min(4))] {
        let (stream, server) = start(move |peer| {
            peer.mount(all(), MESSAGE_SIZE);
            let mut file = WindowFile::create().unwrap();
            let channels: Vec<_> = (0..expected).map(|_| give(&peer, &mut file)).collect();
            assert_eq!(peer.rest(), []);
            drop(channels);
        });
        connect(stream, config(option)).unwrap().shutdown();
        server.join().unwrap();
    }
}

#[test]
fn a_server_that_lists_none_is_not_asked() {
    let (stream, server) = start(move |peer| {
        peer.mount(&[Mid::MOUNT, Mid::FSTAT], MESSAGE_SIZE);
        serve_on_socket(&peer);
    });
    let fs = connect(stream, config(Some(4))).unwrap();
    stat_root(&fs);
    fs.shutdown();
    server.join().unwrap();
}

#[test]
fn those_there_are_are_used_when_the_server_gives_no_more() {
    for given in [0, 1, 2] {
        let (stream, server) = start(move |peer| {
            peer.mount(all(), MESSAGE_SIZE);
            let mut file = WindowFile::create().unwrap();
            let mut channels: Vec<_> = (0..given).map(|_| give(&peer, &mut file)).collect();
            peer.expect(Mid::CHANNEL);
            peer.error(ENOMEM);
            let Some(last) = channels.last_mut() else {
                return serve_on_socket(&peer);
            };
            last.expect(Mid::FSTAT);
            let stat = stat(5, 0o100644);
            last.reply(&FStatResp { stat }, &[]);
            assert_eq!(peer.rest(), []);
        });
        let fs = connect(stream, config(Some(4))).unwrap();
        stat_root(&fs);
        fs.shutdown();
        server.join().unwrap();
    }
}

/// What a server gives instead of a channel.
type Offer = fn(ChannelResp, &[OwnedFd; 2], &mut dyn FnMut(ChannelResp, &[BorrowedFd<'_>]));

#[test]
fn what_is_not_fit_to_be_a_channel_leaves_the_socket() {
    let offers: [Offer; 10] = [
        // Descriptors: none, one, the wrong way round, of the wrong kinds.
        |place, _, give| give(place, &[]),
        |place, fds, give| give(place, &[fds[0].as_fd()]),
        |place, fds, give| give(place, &[fds[1].as_fd(), fds[0].as_fd()]),
        |place, fds, give| give(place, &[fds[0].as_fd(), fds[0].as_fd()]),
        |place, fds, give| {
            let file = tempfile::tempfile().unwrap();
            file.set_len(1 << 20).unwrap();
            give(place, &[file.as_fd(), fds[1].as_fd()]);
        },
        // Memory that could vanish.
        |place, fds, give| {
            let unsealed = memfd_create(c"unsealed", MemfdFlags::ALLOW_SEALING).unwrap();
            ftruncate(&unsealed, 1 << 20).unwrap();
            give(place, &[unsealed.as_fd(), fds[1].as_fd()]);
        },
        // Places: before the file, beyond it, off a page, too small.
        |place, fds, give| {
            let data_offset = -4096;
            let place = ChannelResp {
                data_offset,
                ..place
            };
            give(place, &[fds[0].as_fd(), fds[1].as_fd()]);
        },
        |place, fds, give| {
            let data_offset = 1 << 40;
            let place = ChannelResp {
                data_offset,
                ..place
            };
            give(place, &[fds[0].as_fd(), fds[1].as_fd()]);
        },
        |place, fds, give| {
            let data_length = u64::MAX;
            let place = ChannelResp {
                data_length,
                ..place
            };
            give(place, &[fds[0].as_fd(), fds[1].as_fd()]);
        },
        |place, fds, give| {
            let data_length = 16 + 4 + u64::from(MESSAGE_SIZE) - 1;
            let place = ChannelResp {
                data_length,
                ..place
            };
            give(place, &[fds[0].as_fd(), fds[1].as_fd()]);
        },
    ];
    for (index, offer) in offers.into_iter().enumerate() {
        let (stream, server) = start(move |peer| {
            peer.mount(all(), MESSAGE_SIZE);
            peer.expect(Mid::CHANNEL);
            let (_channel, place, fds) = channel(&mut WindowFile::create().unwrap());
            offer(place, &fds, &mut |place, fds| peer.reply(&place, fds));
            serve_on_socket(&peer);
        });
        let fs = connect(stream, config(Some(4)));
        stat_root(&fs.unwrap_or_else(|error| panic!("offer {index}: {error}")));
        server.join().unwrap();
    }
}

#[test]
fn a_handshake_that_fails_leaves_the_socket() {
    let answers: [fn(&mut Channel); 4] = [
        |channel| {
            channel.endpoint.window().write(0, b"no\n");
            channel.pass(3);
        },
        |channel| channel.pass(0),
        |channel| channel.set_state(5),
        |channel| channel.endpoint.shut_down(),
    ];
    for answer in answers {
        let (stream, server) = start(move |peer| {
            peer.mount(all(), MESSAGE_SIZE);
            peer.expect(Mid::CHANNEL);
            let (mut channel, place, fds) = channel(&mut WindowFile::create().unwrap());
            peer.reply(&place, &[fds[0].as_fd(), fds[1].as_fd()]);
            let hello = channel.endpoint.receive(&mut || Ok(Duration::from_secs(1)));
            assert_eq!(hello, Ok(3));
            answer(&mut channel);
            serve_on_socket(&peer);
        });
        let fs = connect(stream, config(Some(2))).unwrap();
        stat_root(&fs);
        fs.shutdown();
        server.join().unwrap();
    }
}

#[test]
fn a_server_that_does_not_answer_a_handshake_is_not_waited_for_long() {
    let (stream, server) = start(move |peer| {
        peer.mount(all(), MESSAGE_SIZE);
        peer.expect(Mid::CHANNEL);
        let (_channel, place, fds) = channel(&mut WindowFile::create().unwrap());
        peer.reply(&place, &[fds[0].as_fd(), fds[1].as_fd()]);
        serve_on_socket(&peer);
    });
    let began = Instant::now();
    let config = Config {
        timeout: Some(Duration::from_millis(200)),
        ..config(Some(2))
    };
    let fs = connect(stream, config).unwrap();
    assert!(began.elapsed() < Duration::from_secs(3));
    stat_root(&fs);
    fs.shutdown();
    server.join().unwrap();
}

#[test]
fn a_server_that_dies_while_channels_are_opened_is_an_error_at_once() {
    let deaths: [fn(&Peer); 3] = [
        |_| {},
        |peer| {
            peer.expect(Mid::CHANNEL);
        },
        |peer| {
            peer.expect(Mid::CHANNEL);
            let (_channel, place, fds) = channel(&mut WindowFile::create().unwrap());
            peer.reply(&place, &[fds[0].as_fd(), fds[1].as_fd()]);
        },
    ];
    for death in deaths {
        let began = Instant::now();
        let (result, ()) = connecting(config(Some(2)), move |peer| {
            peer.mount(all(), MESSAGE_SIZE);
            death(&peer);
        });
        assert!(matches!(result, Err(ConnectError::Closed)));
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn surplus_descriptors_are_closed() {
    let mark = Arc::new(Marked::new());
    let surplus = mark.clone();
    let (stream, server) = start(move |peer| {
        peer.mount(all(), MESSAGE_SIZE);
        peer.expect(Mid::CHANNEL);
        let (mut channel, place, fds) = channel(&mut WindowFile::create().unwrap());
        peer.reply(
            &place,
            &[fds[0].as_fd(), fds[1].as_fd(), surplus.fd(), surplus.fd()],
        );
        channel.greet();
        assert_eq!(channel.rest(), []);
    });
    let fs = connect(stream, config(Some(1))).unwrap();
    assert_eq!(mark.copies(), 0);
    fs.shutdown();
    server.join().unwrap();
}
