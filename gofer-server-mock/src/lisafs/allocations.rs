//! How often the threads that answer requests ask for memory: a request of the usual kinds not at
//! all, and a new file once.

use std::io::IoSlice;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gofer_lisafs::wire::{
    ChannelHeader, CloseReq, FStatReq, Fdid, Inode, Message, Mid, MountReq, MountResp, OpenAtReq,
    OpenAtResp, PReadReq, PWriteReq, Request, SocketHeader, Strings, WalkReq, WalkResp, WriteData,
};
use gofer_transport::flipcall::{Endpoint, Side};
use gofer_transport::shm::{Window, WindowFile};
use gofer_transport::{PacketSocket, Stream, Wait};

use super::fds::Fds;
use super::{Session, channel, connection};
use crate::channels::Channels;
use crate::host::{Export, Policy};
use crate::limits::Limits;

/// A client of a session whose one thread counts.
enum Client {
    Socket(Stream),
    Channel(Endpoint),
}

impl Client {
    /// Sends a request, and returns the payload of its answer.
    fn ask<'q, R: Request<'q>>(&self, request: &R) -> Vec<u8> {
        let mut frame = Vec::new();
        request.encode(&mut frame);
        let (mid, payload) = match self {
            Client::Socket(stream) => over_socket(stream, &frame),
            Client::Channel(endpoint) => over_channel(endpoint, R::MID, &frame),
        };
        assert_eq!(mid, R::MID, "the request fails");
        payload
    }

    fn mount(&self) -> Fdid {
        let answer = self.ask(&MountReq {});
        MountResp::decode(&answer).unwrap().root.control_fd
    }

    fn walk(&self, dir_fd: Fdid, names: &[&[u8]]) -> Vec<Inode> {
        let path = Strings::new(names);
        let answer = self.ask(&WalkReq { dir_fd, path });
        let found = WalkResp::decode(&answer).unwrap().inodes.to_vec();
        assert_eq!(found.len(), names.len());
        found
    }
}

fn over_socket(stream: &Stream, frame: &[u8]) -> (Mid, Vec<u8>) {
    let wait = Wait::default();
    stream.send(&[IoSlice::new(frame)], &[], &wait).unwrap();
    let mut header = [0; SocketHeader::SIZE];
    assert!(stream.receive_exact(&mut header, None, &wait).unwrap());
    let header = SocketHeader::decode(&header);
    let mut payload = vec![0; header.payload_len.get() as usize];
    stream.receive_exact(&mut payload, None, &wait).unwrap();
    (header.message, payload)
}

fn over_channel(endpoint: &Endpoint, mid: Mid, frame: &[u8]) -> (Mid, Vec<u8>) {
    let window = endpoint.window();
    let payload = &frame[SocketHeader::SIZE..];
    let mut header = ChannelHeader::new(mid, 0).encode();
    window.write(0, &header);
    window.write(header.len(), payload);
    let length = header.len() + payload.len();
    let length = endpoint
        .exchange(length, &mut || Ok(Duration::from_millis(100)))
        .unwrap();
    window.read(0, &mut header);
    let mut payload = vec![0; length - header.len()];
    window.read(header.len(), &mut payload);
    (ChannelHeader::decode(&header).message, payload)
}

/// Runs `client` against a session on `root`; how often the thread of the session asked for memory.
fn count(root: &Path, over_channel: bool, client: &dyn Fn(&Client)) -> u64 {
    let limits = Limits::default();
    let session = Arc::new(Session {
        export: Export::open(root, Policy::default()).unwrap(),
        max_message_size: limits.message_size,
        fds: Fds::new(limits.handles),
        channels: Channels::new(limits.channels),
    });
    if !over_channel {
        let (ours, theirs) = Stream::pair().unwrap();
        let serving = std::thread::spawn(move || {
            allocation_counter::measure(|| connection::run(&theirs, &session).unwrap())
        });
        client(&Client::Socket(ours));
        return serving.join().unwrap().count_total;
    }
    let mut file = WindowFile::create().unwrap();
    let (offset, length) = file.allocate(1 << 20).unwrap();
    let window = || Window::map(file.as_fd(), offset, length as u64).unwrap();
    let ours = Endpoint::new(window(), Side::Client);
    let theirs = Arc::new(Endpoint::new(window(), Side::Server));
    let (_kept, socket) = PacketSocket::pair().unwrap();
    let serving = std::thread::spawn(move || {
        allocation_counter::measure(|| channel::run(&session, &theirs, &socket))
    });
    ours.connect(&mut || Ok(Duration::from_millis(100)))
        .unwrap();
    let ours = Client::Channel(ours);
    client(&ours);
    if let Client::Channel(endpoint) = &ours {
        endpoint.shut_down();
    }
    serving.join().unwrap().count_total
}

/// How often one more turn of `turn` makes the session ask for memory, over a socket and over a
/// channel. `begin` makes what the turns work on.
fn of_one_turn<T>(begin: &dyn Fn(&Client) -> T, turn: &dyn Fn(&Client, &T)) -> [f64; 2] {
    const TURNS: u64 = 100;
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(tree.path().join("a/b/c")).unwrap();
    std::fs::write(tree.path().join("file"), [7; 8192]).unwrap();
    [false, true].map(|over_channel| {
        let of = |turns| {
            count(tree.path(), over_channel, &|client| {
                let begun = begin(client);
                (0..turns).for_each(|_| turn(client, &begun));
            })
        };
        // Buffers have grown to their size by then.
        let few = of(TURNS);
        (of(2 * TURNS) - few) as f64 / TURNS as f64
    })
}

/// The file, open for reading and writing.
fn open(client: &Client) -> Fdid {
    let fd = client.walk(client.mount(), &[b"file"])[0].control_fd;
    let answer = client.ask(&OpenAtReq { fd, flags: 2 });
    OpenAtResp::decode(&answer).unwrap().open_fd
}

#[test]
fn stats_take_no_memory() {
    let counts = of_one_turn(&Client::mount, &|client, &fd| {
        client.ask(&FStatReq { fd });
    });
    assert_eq!(counts, [0.0; 2]);
}

#[test]
fn reads_and_writes_take_no_memory() {
    let read = of_one_turn(&open, &|client, &fd| {
        let (offset, count) = (0, 4096);
        client.ask(&PReadReq { offset, fd, count });
    });
    assert_eq!(read, [0.0; 2]);
    let write = of_one_turn(&open, &|client, &fd| {
        let data = WriteData(&[9; 4096]);
        client.ask(&PWriteReq {
            offset: 0,
            fd,
            data,
        });
    });
    assert_eq!(write, [0.0; 2]);
}

#[test]
fn a_walk_takes_memory_once_for_each_new_file() {
    let names: [&[u8]; 3] = [b"a", b"b", b"c"];
    let fresh = of_one_turn(&Client::mount, &|client, &root| {
        let found = client.walk(root, &names);
        let fds: Vec<Fdid> = found.iter().map(|inode| inode.control_fd).collect();
        client.ask(&CloseReq { fds: &fds });
    });
    assert_eq!(fresh, [3.0; 2]);
    let known = of_one_turn(
        &|client| {
            let root = client.mount();
            client.walk(root, &names);
            root
        },
        &|client, &root| {
            let found = client.walk(root, &names);
            let fds: Vec<Fdid> = found.iter().map(|inode| inode.control_fd).collect();
            client.ask(&CloseReq { fds: &fds });
        },
    );
    assert_eq!(known, [0.0; 2]);
}
