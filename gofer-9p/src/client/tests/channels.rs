//! Channels in shared memory: which requests go over them, and what a server may do with them.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gofer_transport::PacketSocket;
use gofer_transport::flipcall::{Endpoint, FlipError, Side};
use gofer_transport::shm::{Window, WindowFile};
use gofer_vfs::remote::{Call, Found, RemoteError};
use gofer_vfs::{AttrMask, Errno, Name};

use super::agreeable::{CALL, READ_WRITE};
use super::peer::{Peer, attached_with, attr, block, dir, file};
use crate::client::{Config, Filesystem};
use crate::wire::*;

/// What the client needs for its largest message, in whole pages.
const WINDOW: usize = 1_052_672;

/// The server's end of a channel.
struct ChannelPeer {
    endpoint: Endpoint,
    fds: PacketSocket,
    /// The length of the datagram that is here.
    next: Option<usize>,
}

fn patient() -> impl FnMut() -> Result<Duration, FlipError> {
    || Ok(Duration::from_secs(5))
}

/// Answers the requests for a channel, of which the second is told the place `again`.
fn offer(peer: &Peer, file: &OwnedFd, place: (u64, u64), again: (u64, u64)) -> PacketSocket {
    let (ours, theirs) = PacketSocket::pair().unwrap();
    for (control, (offset, length), fd) in [(0, place, file.as_fd()), (1, again, theirs.as_fd())] {
        let request = peer.expect("Tchannel");
        let TMessage::Tchannel(Tchannel { control: asked, .. }) = request.message() else {
            unreachable!()
        };
        assert_eq!(asked, control);
        peer.reply_with(request.tag, Rchannel { offset, length }, &[fd]);
    }
    ours
}

fn refuse(peer: &Peer) {
    peer.error(peer.expect("Tchannel").tag, 38);
}

impl ChannelPeer {
    /// Offers a channel and greets the client.
    fn open(peer: &Peer, memory: &mut WindowFile) -> ChannelPeer {
        let (offset, length) = memory.allocate(WINDOW).unwrap();
        let place = (offset, length as u64);
        let fds = offer(
            peer,
            &memory.as_fd().try_clone_to_owned().unwrap(),
            place,
            place,
        );
        let window = Window::map(memory.as_fd(), offset, length as u64).unwrap();
        let endpoint = Endpoint::new(window, Side::Server);
        assert_eq!(endpoint.receive(&mut patient()), Ok(3));
        endpoint.window().write(0, b"{}\n");
        // Does not wait, but may see the first request already.
        let next = endpoint.exchange(3, &mut || Err(FlipError::GaveUp)).ok();
        ChannelPeer {
            endpoint,
            fds,
            next,
        }
    }

    /// The next request's datagram; `None` when the client has ended the channel.
    fn next(&mut self) -> Option<Vec<u8>> {
        let length = match self.next.take() {
            Some(length) => length,
            None => self.endpoint.receive(&mut patient()).ok()?,
        };
        let mut bytes = vec![0; length];
        self.endpoint.window().read(0, &mut bytes);
        Some(bytes)
    }

    /// The next request, which must be a `name`.
    fn expect(&mut self, name: &str) -> Vec<u8> {
        let bytes = self.next().unwrap_or_else(|| panic!("ended before {name}"));
        assert_eq!(message(&bytes).name(), name);
        bytes
    }

    fn answer(&mut self, bytes: &[u8]) {
        self.endpoint.window().write(0, bytes);
        self.hand_over(bytes.len());
    }

    fn hand_over(&mut self, length: usize) {
        let next = self
            .endpoint
            .exchange(length, &mut || Err(FlipError::GaveUp));
        self.next = next.ok();
    }

    fn reply<'a>(&mut self, reply: impl Into<RMessage<'a>>) {
        self.answer(&datagram(reply, false));
    }
}

fn message(datagram: &[u8]) -> TMessage<'_> {
    assert_eq!(datagram[1], 0, "clients send no descriptors");
    TMessage::decode(datagram[0], &datagram[2..]).unwrap()
}

fn datagram<'a>(reply: impl Into<RMessage<'a>>, fd: bool) -> Vec<u8> {
    let reply = reply.into();
    let mut bytes = Vec::new();
    reply.encode(Tag(0), &mut bytes);
    [&[reply.kind(), u8::from(fd)], &bytes[HEADER_SIZE..]].concat()
}

/// A connection whose peer plays `script` from the first Tchannel on. The attach goes over the
/// socket or the channel that was opened last, so it is the script's part, too.
fn with_channels<T: Send + 'static>(
    count: u32,
    script: impl FnOnce(Peer) -> T + Send + 'static,
) -> (Filesystem, JoinHandle<T>) {
    let (stream, thread) = super::peer::play(|peer| {
        peer.agree();
        script(peer)
    });
    let config = Config {
        channels: Some(count),
        ..Config::default()
    };
    (Filesystem::connect(stream, config).unwrap(), thread)
}

fn attach(channel: &mut ChannelPeer) {
    channel.expect("Tattach");
    channel.reply(Rattach { qid: dir(1) });
    channel.expect("Tgetattr");
    channel.reply(attr(dir(1), 0o40755));
}

fn root(filesystem: &Filesystem) -> Found {
    use gofer_vfs::remote::RemoteFilesystem;
    filesystem.root(&CALL).unwrap()
}

fn channels(filesystem: &Filesystem) -> (usize, usize) {
    filesystem.line.session().lock().channels.count()
}

fn stat(root: &Found) -> Result<u16, RemoteError> {
    let attr = root.file.attr(&CALL, AttrMask::BASIC);
    attr.map(|attr| attr.mode)
}

#[test]
fn lone_requests_go_over_the_channel_used_last_and_others_over_the_socket() {
    let (filesystem, thread) = with_channels(3, |peer| {
        let mut memory = WindowFile::create().unwrap();
        let _first = ChannelPeer::open(&peer, &mut memory);
        let mut last = ChannelPeer::open(&peer, &mut memory);
        refuse(&peer);
        attach(&mut last);
        for _ in 0..3 {
            last.expect("Tgetattr");
            last.reply(attr(dir(1), 0o40755));
        }
        // Two requests at once are one round trip on the socket.
        for names in [&[b"a"][..], &[b"a", b"b"]] {
            let walk = peer.expect("Twalkgetattr");
            let qids = [dir(2), dir(3)];
            let reply = Rwalkgetattr {
                valid: GetattrMask::BASIC,
                attr: block(0o40755),
                wqids: Qids::new(&qids[..names.len()]),
            };
            peer.reply(walk.tag, reply);
        }
        last.next()
    });
    assert_eq!(channels(&filesystem), (2, 2));
    let root = root(&filesystem);
    for _ in 0..3 {
        assert_eq!(stat(&root), Ok(0o755));
    }
    let names = [b"a", b"b"].map(|name| Name::new(name).unwrap());
    let mut found = Vec::new();
    root.file
        .walk(&CALL, &names, &mut |file| found.push(file))
        .unwrap();
    assert_eq!(found.len(), 2);
    // The end of the connection ends the channels.
    filesystem.line.session().fail("test");
    assert_eq!(thread.join().unwrap(), None);
}

#[test]
fn data_and_descriptors_travel_beside_the_window() {
    let donated: OwnedFd = tempfile::tempfile().unwrap().into();
    let inode = rustix::fs::fstat(&donated).unwrap().st_ino;
    let (filesystem, thread) = with_channels(1, move |peer| {
        let mut memory = WindowFile::create().unwrap();
        let mut channel = ChannelPeer::open(&peer, &mut memory);
        attach(&mut channel);
        channel.expect("Twalk");
        channel.reply(Rwalk {
            wqids: Qids::new(&[]),
        });
        channel.expect("Tlopen");
        channel.fds.send(&[], &[donated.as_fd()]).unwrap();
        let (qid, iounit) = (file(1), 0);
        channel.answer(&datagram(Rlopen { qid, iounit }, true));
        let read = channel.expect("Tread");
        let TMessage::Tread(Tread { count: 70_000, .. }) = message(&read) else {
            panic!("{read:?}");
        };
        let data = Data::new(&[7; 60_000]);
        channel.reply(Rread { data });
        let write = channel.expect("Twrite");
        let TMessage::Twrite(Twrite { data, .. }) = message(&write) else {
            panic!("{write:?}");
        };
        assert_eq!(data.as_bytes(), [[1; 1000], [2; 1000]].concat());
        channel.reply(Rwrite { count: 2000 });
        channel.expect("Tread");
        let data = Data::new(&[7; 11]);
        channel.reply(Rread { data });
        channel.next()
    });
    let root = root(&filesystem);
    let handle = root.file.open(&CALL, READ_WRITE).unwrap();
    let fd = handle.host_fd().unwrap();
    assert_eq!(rustix::fs::fstat(fd).unwrap().st_ino, inode);
    let (mut one, mut two) = (vec![0; 30_000], vec![0; 40_000]);
    let into = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
    let moved = handle.read_at(&CALL, into, 0);
    assert_eq!((moved.n, moved.error), (60_000, None));
    assert!(one == [7; 30_000] && two[..30_000] == [7; 30_000] && two[30_000..] == [0; 10_000]);
    let from = [IoSlice::new(&[1; 1000]), IoSlice::new(&[2; 1000])];
    let moved = handle.write_at(&CALL, &from, 0);
    assert_eq!((moved.n, moved.error), (2000, None));
    // More than was asked for.
    let moved = handle.read_at(&CALL, &mut [IoSliceMut::new(&mut [0; 10])], 0);
    assert_eq!(moved.error, Some(RemoteError::unknown(Errno::EIO)));
    assert!(filesystem.line.session().lock().dead);
    assert_eq!(thread.join().unwrap(), None);
}

#[test]
fn the_socket_is_used_while_all_channels_are_busy() {
    let (asked, busy) = channel::<()>();
    let (release, released): (Sender<()>, Receiver<()>) = channel();
    let (filesystem, thread) = with_channels(1, move |peer| {
        let mut memory = WindowFile::create().unwrap();
        let mut channel = ChannelPeer::open(&peer, &mut memory);
        attach(&mut channel);
        channel.expect("Tgetattr");
        asked.send(()).unwrap();
        peer.getattr(dir(1), 0o40700);
        released.recv().unwrap();
        channel.reply(attr(dir(1), 0o40755));
    });
    let root = root(&filesystem);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| stat(&root));
        busy.recv().unwrap();
        assert_eq!(stat(&root), Ok(0o700));
        release.send(()).unwrap();
        assert_eq!(first.join().unwrap(), Ok(0o755));
    });
    thread.join().unwrap();
}

#[test]
fn what_a_server_offers_and_cannot_be_used_is_done_without() {
    let unsealed = || -> OwnedFd {
        let file = tempfile::tempfile().unwrap();
        file.set_len(WINDOW as u64).unwrap();
        file.into()
    };
    let sealed = || -> OwnedFd {
        let mut memory = WindowFile::create().unwrap();
        memory.allocate(WINDOW).unwrap();
        memory.as_fd().try_clone_to_owned().unwrap()
    };
    let whole = (0, WINDOW as u64);
    type Offer = (fn() -> OwnedFd, (u64, u64), (u64, u64));
    let offers: [Offer; 4] = [
        (unsealed, whole, whole),
        (sealed, (0, 8192), (0, 8192)),
        (sealed, whole, (4096, WINDOW as u64 - 4096)),
        (sealed, (4096, WINDOW as u64), (4096, WINDOW as u64)),
    ];
    for (memory, place, again) in offers {
        let (filesystem, thread) = with_channels(4, move |peer| {
            offer(&peer, &memory(), place, again);
            peer.attach();
        });
        assert_eq!(channels(&filesystem), (0, 0));
        root(&filesystem);
        thread.join().unwrap();
    }
    // None offered, none asked for, none in the dialect.
    let (filesystem, thread) = with_channels(4, |peer| {
        refuse(&peer);
        peer.attach();
    });
    root(&filesystem);
    thread.join().unwrap();
    let four = Config {
        channels: Some(4),
        ..Config::default()
    };
    let (_filesystem, _root, thread) = attached_with(four, Version::Google(7), |_| ());
    thread.join().unwrap();
}

#[test]
fn a_call_that_is_given_up_leaves_its_channel_and_what_it_makes_is_clunked() {
    let (filesystem, thread) = with_channels(1, |peer| {
        let mut memory = WindowFile::create().unwrap();
        let mut channel = ChannelPeer::open(&peer, &mut memory);
        attach(&mut channel);
        let walk = channel.expect("Twalkgetattr");
        let TMessage::Twalkgetattr(Twalkgetattr { newfid, .. }) = message(&walk) else {
            unreachable!()
        };
        // The channel is with us: the next call takes the socket, and flushes nothing.
        peer.getattr(dir(1), 0o40700);
        let wqids = [file(2)];
        channel.reply(Rwalkgetattr {
            valid: GetattrMask::BASIC,
            attr: block(0o100644),
            wqids: Qids::new(&wqids),
        });
        channel.expect("Tgetattr");
        channel.reply(attr(dir(1), 0o40702));
        let clunk = peer.expect("Tclunk");
        assert_eq!(clunk.message(), TMessage::Tclunk(Tclunk { fid: newfid }));
        peer.reply(clunk.tag, Rclunk {});
    });
    let root = root(&filesystem);
    let call = Call {
        deadline: Some(Instant::now() + Duration::from_millis(30)),
        cancel: None,
    };
    let name = [Name::new(b"f").unwrap()];
    let given_up = root.file.walk(&call, &name, &mut |_| panic!("found"));
    assert_eq!(given_up, Err(RemoteError::unknown(Errno::ETIMEDOUT)));
    assert_eq!(channels(&filesystem), (1, 0));
    assert_eq!(stat(&root), Ok(0o700));
    while channels(&filesystem) == (1, 0) {
        filesystem.line.session().settle_channels();
    }
    assert_eq!(stat(&root), Ok(0o702));
    let session = filesystem.line.session();
    session.kick();
    while session.lock().table.fids_in_use() > 1 {
        session.settle_clunks();
    }
    assert_eq!(session.lock().table.tags_in_use(), 0);
    thread.join().unwrap();
}

#[test]
fn a_channel_that_breaks_is_eio_for_its_caller_and_the_socket_goes_on() {
    let (filesystem, thread) = with_channels(1, |peer| {
        let mut memory = WindowFile::create().unwrap();
        let mut channel = ChannelPeer::open(&peer, &mut memory);
        attach(&mut channel);
        channel.expect("Tgetattr");
        // Longer than the window.
        let window = channel.endpoint.window();
        window.set_datagram_length(u32::MAX);
        window.state().store(0, Ordering::Release);
        channel.endpoint.nudge();
        peer.getattr(dir(1), 0o40700);
        channel.next()
    });
    let root = root(&filesystem);
    assert_eq!(stat(&root), Err(RemoteError::unknown(Errno::EIO)));
    assert_eq!(channels(&filesystem), (0, 0));
    assert_eq!(stat(&root), Ok(0o700));
    assert_eq!(thread.join().unwrap(), None);
}

#[test]
fn nonsense_in_a_window_ends_the_connection() {
    let wrong: [&[u8]; 4] = [&[], &[25], &[121, 0], &[25, 0, 1, 2, 3]];
    for bytes in wrong {
        let (filesystem, thread) = with_channels(1, move |peer| {
            let mut memory = WindowFile::create().unwrap();
            let mut channel = ChannelPeer::open(&peer, &mut memory);
            attach(&mut channel);
            channel.expect("Tgetattr");
            channel.answer(bytes);
            channel.next()
        });
        let root = root(&filesystem);
        assert_eq!(stat(&root), Err(RemoteError::unknown(Errno::EIO)));
        assert!(filesystem.line.session().lock().dead, "{bytes:?}");
        assert_eq!(thread.join().unwrap(), None);
    }
}

#[test]
fn fids_that_are_dropped_while_all_goes_over_channels_do_not_pile_up() {
    let (filesystem, thread) = with_channels(1, |peer| {
        let mut memory = WindowFile::create().unwrap();
        let mut channel = ChannelPeer::open(&peer, &mut memory);
        attach(&mut channel);
        let serving = std::thread::spawn(move || {
            while let Some(request) = channel.next() {
                match message(&request) {
                    TMessage::Twalkgetattr(_) => channel.reply(Rwalkgetattr {
                        valid: GetattrMask::BASIC,
                        attr: block(0o100644),
                        wqids: Qids::new(&[file(2)]),
                    }),
                    _ => channel.reply(attr(dir(1), 0o40755)),
                }
            }
        });
        while let Some(request) = peer.next() {
            peer.reply(request.tag, Rclunk {});
        }
        serving.join().unwrap();
    });
    let root = root(&filesystem);
    let session = filesystem.line.session();
    let in_use = || session.lock().table.fids_in_use();
    let patience = Instant::now() + Duration::from_secs(20);
    let mut walks = 0;
    // Without anybody who takes the answers there would be one more with each walk.
    while walks < 1000 || in_use() > 400 {
        let name = [Name::new(b"f").unwrap()];
        root.file.walk(&CALL, &name, &mut drop).unwrap();
        walks += 1;
        assert!(Instant::now() < patience, "{} fids in use", in_use());
    }
    drop(root);
    session.fail("test");
    thread.join().unwrap();
}

/// The recorded channel of gVisor's server: the same datagrams go into the window, and what came
/// out of it is understood.
#[test]
fn the_recorded_channel_is_reproduced() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/flipcall.json");
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let unhex = |text: &str| -> Vec<u8> {
        let at = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(at).collect()
    };
    let packets = json["packets"].as_array().unwrap().iter().map(|packet| {
        let data = unhex(packet["data"].as_str().unwrap());
        (
            packet["dir"].as_str().unwrap().to_owned(),
            data,
            packet["fd"] == true,
        )
    });
    let packets: Vec<_> = packets.skip(2).collect();
    assert_eq!(json["info"]["window_length"], WINDOW);
    let script = packets.clone();
    let (filesystem, thread) = with_channels(1, move |peer| {
        let mut memory = WindowFile::create().unwrap();
        let mut channel = ChannelPeer::open(&peer, &mut memory);
        let spare = tempfile::tempfile().unwrap();
        for (by, data, fd) in script {
            if by == "client" {
                assert_eq!(channel.next().unwrap(), data);
                continue;
            }
            if fd {
                channel.fds.send(&[], &[spare.as_fd()]).unwrap();
            }
            channel.answer(&data);
        }
        channel.next()
    });
    let session = filesystem.line.session();
    let mut answered = 0;
    for pair in packets.chunks(2) {
        let ((_, request, _), (_, reply, _)) = (&pair[0], &pair[1]);
        macro_rules! call {
            ($($name:ident)*) => {
                match message(request) {
                    $(TMessage::$name(request) => session.call(&CALL, request, |_| ()),)*
                    other => panic!("{other:?}"),
                }
            };
        }
        let result = call!(Tattach Twalkgetattr Tlopen Tread Twalk Tucreate Twrite Tclunk);
        match reply[0] {
            Rlerror::KIND => assert_eq!(result, Err(RemoteError::refused(Errno::ENOENT))),
            _ => assert_eq!(result, Ok(())),
        }
        answered += 1;
    }
    assert_eq!(answered * 2, packets.len());
    session.fail("test");
    assert_eq!(thread.join().unwrap(), None);
}
