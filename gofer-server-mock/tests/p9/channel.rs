//! Requests in shared memory, and windows in the hands of clients that mean harm.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering;

use gofer_9p::wire::{
    Data, Fid, GetattrMask, HEADER_SIZE, Message, OpenFlags, RMessage, Rchannel, Rgetattr, Rlerror,
    Rread, Rreaddir, Rversion, Rwrite, TMessage, Tag, Tchannel, Tclunk, Tflush, Tgetattr, Tlopen,
    Tread, Treaddir, Tversion, Twrite, Txattrcreate, XattrFlags,
};
use gofer_server_mock::host::Export;
use gofer_server_mock::limits::Limits;
use gofer_transport::flipcall::{Endpoint, FlipError, Side, StateWord};
use gofer_transport::shm::Window;
use gofer_transport::{FdQueue, PacketSocket, Stream};
use serde_json::Value;

use super::client::{Answer, BASE, Client, GOOGLE, ROOT};
use super::transcripts::{memory_tree, shape, unhex};
use crate::common::{ALL, Server, given_up, has_user_xattrs, patience};

const EBADF: u32 = 9;
const EINVAL: u32 = 22;
const ENOSYS: u32 = 38;
const EPROTO: u32 = 71;
const EMSGSIZE: u32 = 90;
const EOPNOTSUPP: u32 = 95;

/// The client's side of a channel.
struct Channel {
    endpoint: Endpoint,
    socket: PacketSocket,
}

impl Channel {
    /// Asks for channel `id` and opens it.
    fn open(client: &Client, id: u32) -> Channel {
        let channel = Channel::request(client, id);
        channel.endpoint.connect(&mut patience()).unwrap();
        channel
    }

    /// A channel without its handshake.
    fn request(client: &Client, id: u32) -> Channel {
        let [(place, memory), (again, socket)] = [0, 1].map(|control| {
            let mut answer = client.ask(&Tchannel { id, control }).unwrap();
            let place: Rchannel = answer.of();
            (place, answer.fds.pop().unwrap())
        });
        assert_eq!(place, again);
        let window = Window::map(memory.as_fd(), place.offset, place.length).unwrap();
        Channel {
            endpoint: Endpoint::new(window, Side::Client),
            socket: PacketSocket::from_fd(socket).unwrap(),
        }
    }

    /// Sends a datagram and receives one, with what came beside it.
    fn exchange_bytes(&self, datagram: &[u8]) -> Result<Answer, FlipError> {
        let window = self.endpoint.window();
        window.write(0, datagram);
        let length = self.endpoint.exchange(datagram.len(), &mut patience())?;
        let mut head = [0; 2];
        window.read(0, &mut head);
        let mut body = vec![0; length - head.len()];
        window.read(head.len(), &mut body);
        let mut fds = FdQueue::new(1);
        if head[1] == 1 {
            self.socket.receive_now(&mut [], &mut fds).unwrap();
        }
        Ok(Answer {
            kind: head[0],
            tag: Tag(0),
            body,
            fds: std::iter::from_fn(|| fds.pop()).collect(),
        })
    }

    fn ask<'m>(&self, request: &impl Message<'m>) -> Result<Answer, u32> {
        let answer = self.exchange_bytes(&datagram(request)).unwrap();
        match answer.error() {
            Some(ecode) => Err(ecode),
            None => Ok(answer),
        }
    }
}

fn datagram<'m, M: Message<'m>>(request: &M) -> Vec<u8> {
    let mut message = Vec::new();
    request.encode(Tag(0), &mut message);
    [&[M::KIND, 0], &message[HEADER_SIZE..]].concat()
}

/// A tree with `file`, `large` and many entries.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "content").unwrap();
    let large: Vec<u8> = (0..1 << 20).map(|index: u32| (index >> 8) as u8).collect();
    fs::write(dir.path().join("large"), large).unwrap();
    fs::create_dir(dir.path().join("many")).unwrap();
    for number in 0..100 {
        fs::write(dir.path().join(format!("many/entry-{number}")), "").unwrap();
    }
    dir
}

fn lives(client: &Client) {
    let request_mask = GetattrMask::BASIC;
    let fid = ROOT;
    client.ask(&Tgetattr { fid, request_mask }).unwrap();
}

#[test]
fn a_recorded_channel_gets_the_recorded_replies() {
    let dir = tempfile::tempdir().unwrap();
    let _listener = memory_tree(dir.path());
    let client = Client::of(&Export::open(dir.path(), ALL).unwrap());
    let (msize, version) = (1 << 20, GOOGLE.as_bytes());
    client.send(Tag::NONE, &Tversion { msize, version });
    assert_eq!(client.receive().unwrap().of::<Rversion>().msize, msize);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/9p/flipcall.json");
    let vectors: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut answer = client.ask(&Tchannel { id: 0, control: 0 }).unwrap();
    let place: Rchannel = answer.of();
    assert_eq!(vectors["info"]["window_offset"], place.offset);
    assert_eq!(vectors["info"]["window_length"], place.length);
    let seals = rustix::fs::fcntl_get_seals(answer.fds.pop().unwrap()).unwrap();
    assert_eq!(vectors["info"]["file_seals"], seals.bits());
    let channel = Channel::open(&client, 1);
    let mut packets = vectors["packets"].as_array().unwrap()[2..].chunks_exact(2);
    let mut replayed = 0;
    for pair in &mut packets {
        let bytes = |packet: &Value| unhex(packet["data"].as_str().unwrap());
        let (asked, recorded) = (bytes(&pair[0]), bytes(&pair[1]));
        let request = TMessage::decode(asked[0], &asked[2..]).unwrap();
        let theirs = RMessage::decode(recorded[0], &recorded[2..]).unwrap();
        let ours = channel.exchange_bytes(&asked).unwrap();
        let fds = usize::from(recorded[1]);
        assert_eq!(
            shape(&request, &ours.message(), ours.fds.len()),
            shape(&request, &theirs, fds),
            "{}",
            pair[0]["what"]
        );
        replayed += 1;
    }
    assert_eq!(replayed, 12);
    assert!(packets.remainder().is_empty());
}

#[test]
fn channels_and_socket_share_fids_and_bring_descriptors() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, GOOGLE);
    let (one, two) = (Channel::open(&client, 0), Channel::open(&client, 1));
    client.walk(ROOT, Fid(1), &["file"]).unwrap();
    let flags = OpenFlags::RDWR;
    let opened = one.ask(&Tlopen { fid: Fid(1), flags }).unwrap();
    let mut text = [0; 32];
    let read = rustix::io::pread(&opened.fds[0], &mut text, 0).unwrap();
    assert_eq!(&text[..read], b"content");
    let (fid, offset) = (Fid(1), 7);
    let data = Data::new(b" and more");
    let written = two.ask(&Twrite { fid, offset, data }).unwrap();
    assert_eq!(written.of::<Rwrite>().count, 9);
    let offset = 3;
    let read = one
        .ask(&Tread {
            fid,
            offset,
            count: 8,
        })
        .unwrap();
    assert_eq!(read.of::<Rread<'_>>().data.as_bytes(), b"tent and");
    let request_mask = GetattrMask::BASIC;
    let stat: Rgetattr = one.ask(&Tgetattr { fid, request_mask }).unwrap().of();
    assert_eq!(stat.attr.size, 16);
    one.ask(&Tclunk { fid }).unwrap();
    assert_eq!(client.clunk(fid).unwrap_err(), EBADF);
    assert_eq!(two.ask(&Tclunk { fid }).unwrap_err(), EBADF);
}

#[test]
fn whole_messages_fit() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, GOOGLE);
    let channel = Channel::open(&client, 0);
    client.open(Fid(1), &["large"], OpenFlags::RDWR).unwrap();
    let most = (1 << 20) - 24;
    let (fid, offset) = (Fid(1), 0);
    let count = u32::MAX;
    let read = channel.ask(&Tread { fid, offset, count }).unwrap();
    let large = fs::read(dir.path().join("large")).unwrap();
    assert_eq!(read.of::<Rread<'_>>().data.as_bytes(), &large[..most]);
    let data = vec![9; most];
    let data = Data::new(&data);
    let written = channel.ask(&Twrite { fid, offset, data }).unwrap();
    assert_eq!(written.of::<Rwrite>().count as usize, most);
    assert!(
        fs::read(dir.path().join("large")).unwrap()[..most]
            .iter()
            .all(|byte| *byte == 9)
    );
    client.open(Fid(2), &["many"], OpenFlags::RDONLY).unwrap();
    let (fid, count) = (Fid(2), 1 << 20);
    let listed = channel.ask(&Treaddir { fid, offset, count }).unwrap();
    assert_eq!(listed.of::<Rreaddir<'_>>().entries.iter().count(), 102);
}

#[test]
fn an_attributes_value_is_written_over_a_channel() {
    let dir = tree();
    if !has_user_xattrs(dir.path()) {
        eprintln!("not run: no user attributes in {}", dir.path().display());
        return;
    }
    let client = Client::attached(dir.path(), ALL, GOOGLE);
    let channel = Channel::open(&client, 0);
    client.walk(ROOT, Fid(1), &["file"]).unwrap();
    let (fid, name, flags) = (Fid(1), &b"user.a"[..], XattrFlags::empty());
    let attr_size = 5;
    channel
        .ask(&Txattrcreate {
            fid,
            name,
            attr_size,
            flags,
        })
        .unwrap();
    let (offset, data) = (0, Data::new(b"value"));
    channel.ask(&Twrite { fid, offset, data }).unwrap();
    channel.ask(&Tclunk { fid }).unwrap();
    let mut value = [0; 16];
    let size = rustix::fs::getxattr(dir.path().join("file"), "user.a", &mut value).unwrap();
    assert_eq!(&value[..size], b"value");
}

#[test]
fn who_cannot_have_channels_is_told_to_stay_on_the_socket() {
    let dir = tree();
    let refused = |client: &Client, id, control| client.ask(&Tchannel { id, control }).err();
    for version in [BASE, "9P2000.L.Google.7"] {
        let client = Client::attached(dir.path(), ALL, version);
        assert_eq!(refused(&client, 0, 0), Some(ENOSYS), "{version}");
    }
    let export = Export::open(dir.path(), ALL).unwrap();
    let limited = |channels| {
        let limits = Limits {
            channels,
            ..Limits::default()
        };
        Client::with_limits(&export, limits).0.start(GOOGLE)
    };
    assert_eq!(refused(&limited(0), 0, 0), Some(ENOSYS));
    let client = limited(2);
    // In any order.
    drop(Channel::open(&client, 1));
    drop(Channel::open(&client, 0));
    assert_eq!(refused(&client, 2, 0), Some(ENOSYS));
    assert_eq!(refused(&client, u32::MAX, 1), Some(ENOSYS));
    assert_eq!(refused(&client, 0, 2), Some(EINVAL));
    assert_eq!(
        refused(&client, 0, 0),
        None,
        "the memory is the same for all"
    );
    assert_eq!(
        refused(&client, 0, 1),
        Some(EINVAL),
        "the socket has been given away"
    );
    let args = [
        "serve",
        "--protocol",
        "9p",
        "--listen",
        "tcp:127.0.0.1:0",
        "--root",
    ];
    let mut command = std::process::Command::new(crate::common::program());
    let server = Server::start(command.args(args).arg(dir.path()));
    let address = server.ready.strip_prefix("listening on tcp:").unwrap();
    let stream = Stream::connect_tcp(address, crate::common::PATIENCE).unwrap();
    assert_eq!(
        refused(&Client::on(stream).start(GOOGLE), 0, 0),
        Some(ENOSYS)
    );
}

#[test]
fn requests_that_are_wrong_or_the_sockets_are_answered_by_errors() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, GOOGLE);
    client.open(Fid(1), &["file"], OpenFlags::RDWR).unwrap();
    let channel = Channel::open(&client, 0);
    let error = |bytes: &[u8]| channel.exchange_bytes(bytes).unwrap().error();
    let (msize, version) = (1 << 20, GOOGLE.as_bytes());
    assert_eq!(error(&datagram(&Tversion { msize, version })), Some(EPROTO));
    assert_eq!(error(&datagram(&Tflush { oldtag: Tag(1) })), Some(EPROTO));
    assert_eq!(error(&[0, 0]), Some(EOPNOTSUPP));
    assert_eq!(error(&datagram(&Rlerror { ecode: 1 })), Some(EOPNOTSUPP));
    assert_eq!(error(&[Tclunk::KIND, 0, 1]), Some(EPROTO));
    let (fid, offset, data) = (Fid(1), 0, Data::new(b"1234"));
    let mut short = datagram(&Twrite { fid, offset, data });
    short.pop();
    assert_eq!(error(&short), Some(EPROTO), "fewer bytes than it says");
    assert_eq!(error(&short[..10]), Some(EPROTO));
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"content");
    let mut long = datagram(&Tclunk { fid });
    long.resize((1 << 20) + 100, 0);
    assert_eq!(error(&long), Some(EMSGSIZE));
    channel.ask(&Tclunk { fid }).unwrap();
}

#[test]
fn a_window_full_of_lies_ends_its_channel_alone() {
    let dir = tree();
    let export = Export::open(dir.path(), ALL).unwrap();
    let limits = Limits {
        channels: 6,
        ..Limits::default()
    };
    let client = Client::with_limits(&export, limits).0.start(GOOGLE);
    let good = Channel::open(&client, 0);
    type Harm = fn(&Endpoint);
    let harms: [Harm; 5] = [
        // No JSON object opens the channel.
        |endpoint| {
            endpoint.window().write(0, b"no\n");
            let _ = endpoint.exchange(3, &mut patience());
        },
        // A length beyond the window.
        |endpoint| {
            endpoint.window().set_datagram_length(u32::MAX);
            endpoint.window().state().store(1, Ordering::Release);
            endpoint.window().state().wake(true);
        },
        // A state that does not exist.
        |endpoint| {
            endpoint.window().state().store(77, Ordering::Release);
            endpoint.window().state().wake(true);
        },
        // Too short for a type.
        |endpoint| {
            endpoint.connect(&mut patience()).unwrap();
            let _ = endpoint.exchange(1, &mut patience());
        },
        // The client ends it.
        |endpoint| {
            endpoint.connect(&mut patience()).unwrap();
            endpoint.shut_down();
        },
    ];
    for (harm, id) in harms.into_iter().zip(1..) {
        let channel = Channel::request(&client, id);
        harm(&channel.endpoint);
        assert!(given_up(&channel.endpoint));
    }
    let (fid, request_mask) = (ROOT, GetattrMask::BASIC);
    good.ask(&Tgetattr { fid, request_mask }).unwrap();
    lives(&client);
}

#[test]
fn channels_end_with_their_session_and_leave_nothing() {
    let dir = tree();
    let place = tempfile::tempdir().unwrap();
    let (server, socket) = Server::at(place.path(), dir.path(), &["--protocol", "9p"]);
    let connect = || Client::on(Stream::connect_unix(&socket).unwrap()).start(GOOGLE);
    let one = connect();
    let before = server.use_of_resources();
    for by_version in [false, true] {
        let client = connect();
        let channels = [0, 1].map(|id| Channel::open(&client, id));
        let idle = Channel::request(&one, u32::from(by_version));
        assert!(server.use_of_resources().windows > before.windows);
        if by_version {
            let (msize, version) = (1 << 20, GOOGLE.as_bytes());
            client.send(Tag::NONE, &Tversion { msize, version });
            client.receive().unwrap();
        } else {
            client.stream.shutdown();
        }
        for channel in channels {
            let (fid, request_mask) = (ROOT, GetattrMask::BASIC);
            let bytes = datagram(&Tgetattr { fid, request_mask });
            assert!(matches!(
                channel.exchange_bytes(&bytes),
                Err(FlipError::ShutDown)
            ));
        }
        drop(idle);
    }
    drop(one);
    let two = connect();
    server.settle_at(before);
    drop(two);
}
