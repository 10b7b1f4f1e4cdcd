//! Requests in shared memory, and windows in the hands of clients that mean harm.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use gofer_lisafs::wire::{
    ChannelHeader, ChannelResp, ErrorResp, FStatResp, Message, Mid, OpenAtReq, OpenAtResp, Strings,
    WalkReq, WalkResp,
};
use gofer_server_mock::host::Export;
use gofer_server_mock::limits::Limits;
use gofer_transport::flipcall::{Endpoint, Side, StateWord};
use gofer_transport::shm::Window;
use gofer_transport::{FdQueue, PacketSocket};

use crate::common::{ALL, Answer, Client, given_up, patience, vector_tree};

/// The client's side of a channel.
#[derive(Debug)]
pub struct Channel {
    pub endpoint: Endpoint,
    pub socket: PacketSocket,
}

impl Channel {
    /// Asks for a channel and opens it.
    pub fn open(client: &Client) -> Channel {
        let channel = Channel::request(client);
        channel.endpoint.connect(&mut patience()).unwrap();
        channel
    }

    /// A channel without its handshake.
    pub fn request(client: &Client) -> Channel {
        let mut answer = client.exchange(Mid::CHANNEL, &[]);
        let place = ChannelResp::decode(&answer.payload).unwrap();
        let socket = answer.fds.pop().unwrap();
        let memory = answer.fds.pop().unwrap();
        let offset = place.data_offset as u64;
        let window = Window::map(memory.as_fd(), offset, place.data_length).unwrap();
        Channel {
            endpoint: Endpoint::new(window, Side::Client),
            socket: PacketSocket::from_fd(socket).unwrap(),
        }
    }

    /// Sends a payload and receives its answer.
    pub fn exchange(&self, mid: Mid, payload: &[u8]) -> Answer {
        let window = self.endpoint.window();
        let mut header = ChannelHeader::new(mid, 0).encode();
        window.write(0, &header);
        window.write(header.len(), payload);
        let length = header.len() + payload.len();
        let length = self.endpoint.exchange(length, &mut patience()).unwrap();
        window.read(0, &mut header);
        let mut payload = vec![0; length - header.len()];
        window.read(header.len(), &mut payload);
        let header = ChannelHeader::decode(&header);
        let mut fds = FdQueue::new(8);
        for _ in 0..header.num_fds {
            self.socket.receive_now(&mut [], &mut fds).unwrap();
        }
        Answer {
            mid: header.message,
            payload,
            fds: std::iter::from_fn(|| fds.pop()).collect(),
        }
    }
}

fn client(channels: usize) -> (tempfile::TempDir, Client) {
    let tree = vector_tree(0o644);
    let export = Export::open(tree.path(), ALL).unwrap();
    let limits = Limits {
        channels,
        ..Limits::default()
    };
    let client = Client::with_limits(&export, limits);
    (tree, client)
}

#[test]
fn channels_and_socket_share_fdids_and_bring_descriptors() {
    let (_tree, client) = client(2);
    let root = client.mount();
    let (one, two) = (Channel::open(&client), Channel::open(&client));
    let names: [&[u8]; 2] = [b"dir1", b"file.txt"];
    let mut walk = Vec::new();
    WalkReq {
        dir_fd: root,
        path: Strings::new(&names),
    }
    .encode(&mut walk);
    let answer = one.exchange(Mid::WALK, &walk[8..]);
    let found = WalkResp::decode(&answer.payload).unwrap().inodes.to_vec();
    let file = found[1].control_fd;
    let mut open = Vec::new();
    OpenAtReq { fd: file, flags: 0 }.encode(&mut open);
    let answer = two.exchange(Mid::OPEN_AT, &open[8..]);
    OpenAtResp::decode(&answer.payload).unwrap();
    let mut text = [0; 32];
    let read = rustix::io::pread(&answer.fds[0], &mut text, 0).unwrap();
    assert_eq!(&text[..read], b"hello lisafs\n");
    let answer = client.exchange(Mid::FSTAT, &file.get().to_le_bytes());
    assert_eq!(
        FStatResp::decode(&answer.payload).unwrap().stat.size.get(),
        13
    );
}

#[test]
fn a_server_without_channels_does_not_list_them() {
    let (_tree, client) = client(0);
    let mount = client.exchange(Mid::MOUNT, &[]);
    let listed = mount.payload[158..].chunks(2);
    assert!(listed.clone().any(|mid| mid == [1, 0]));
    assert!(!listed.clone().any(|mid| mid == [2, 0]));
    let answer = client.exchange(Mid::CHANNEL, &[]);
    assert_eq!(ErrorResp::decode(&answer.payload).unwrap().errno, 95);
}

#[test]
fn a_window_full_of_garbage_ends_its_channel_and_nothing_else() {
    let (_tree, client) = client(6);
    client.mount();
    let good = Channel::open(&client);
    type Harm = fn(&Channel);
    let harms: [Harm; 5] = [
        // No JSON object opens the channel.
        |channel| {
            channel.endpoint.window().write(0, b"no\n");
            let _ = channel.endpoint.exchange(3, &mut patience());
        },
        // A length beyond the window.
        |channel| {
            let window = channel.endpoint.window();
            window.set_datagram_length(u32::MAX);
            window.state().store(1, Ordering::Release);
            StateWord::wake(window.state(), true);
        },
        // A state that does not exist.
        |channel| {
            let window = channel.endpoint.window();
            window.state().store(77, Ordering::Release);
            StateWord::wake(window.state(), true);
        },
        // Too short for a header.
        |channel| {
            channel.endpoint.connect(&mut patience()).unwrap();
            let _ = channel.endpoint.exchange(3, &mut patience());
        },
        // The client ends it.
        |channel| {
            channel.endpoint.connect(&mut patience()).unwrap();
            channel.endpoint.shut_down();
        },
    ];
    for harm in harms {
        let channel = Channel::request(&client);
        harm(&channel);
        assert!(given_up(&channel.endpoint));
    }
    assert_eq!(good.exchange(Mid::new(999), b"").mid, Mid::ERROR);
    let answer = client.exchange(Mid::CHANNEL, &[]);
    assert_eq!(ErrorResp::decode(&answer.payload).unwrap().errno, 12);
}

#[test]
fn the_end_of_the_socket_ends_its_channels() {
    let (_tree, client) = client(2);
    client.mount();
    let (used, fresh) = (Channel::open(&client), Channel::request(&client));
    client.stream.shutdown();
    assert!(given_up(&used.endpoint) && given_up(&fresh.endpoint));
}

#[test]
fn a_payload_over_the_limit_fits_the_window_and_is_refused() {
    let (_tree, client) = client(1);
    client.mount();
    let channel = Channel::open(&client);
    let limit = Limits::default().message_size as usize;
    for (size, errno) in [(limit, 95), (limit + 1, 5)] {
        let answer = channel.exchange(Mid::new(999), &vec![0; size]);
        assert_eq!(ErrorResp::decode(&answer.payload).unwrap().errno, errno);
    }
}

#[test]
fn a_client_that_takes_no_descriptors_gets_answers_without_them() {
    let (_tree, client) = client(1);
    let root = client.mount();
    let file = client.walk_to(root, &["dir1", "file.txt"]);
    let channel = Channel::open(&client);
    let mut open = Vec::new();
    OpenAtReq { fd: file, flags: 0 }.encode(&mut open);
    let window = channel.endpoint.window();
    let mut header = ChannelHeader::new(Mid::OPEN_AT, 0).encode();
    let mut came = Vec::new();
    while came.last() != Some(&0) {
        window.write(0, &ChannelHeader::new(Mid::OPEN_AT, 0).encode());
        window.write(header.len(), &open[8..]);
        let length = header.len() + open.len() - 8;
        channel.endpoint.exchange(length, &mut patience()).unwrap();
        window.read(0, &mut header);
        let answer = ChannelHeader::decode(&header);
        assert_eq!(answer.message, Mid::OPEN_AT);
        came.push(answer.num_fds);
        assert!(came.len() < 10_000, "the kernel queues without a limit");
    }
    client.stream.shutdown();
    assert!(given_up(&channel.endpoint));
}

#[test]
fn a_handshake_with_members_is_one_and_requests_carry_no_descriptors() {
    let (_tree, client) = client(1);
    let root = client.mount();
    let channel = Channel::request(&client);
    let window = channel.endpoint.window();
    // Members mean nothing (lisafs 8.4).
    let hello = b"{\"version\": [1, {\"x\": \"}\"}]}\n";
    window.write(0, hello);
    let length = channel.endpoint.exchange(hello.len(), &mut patience());
    assert_eq!(length, Ok(3));
    // A number of descriptors in a request is ignored (lisafs 7.3), as is what was sent.
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    channel.socket.send(&[], &[writer.as_fd()]).unwrap();
    drop(writer);
    let mut header = ChannelHeader::new(Mid::FSTAT, 255).encode();
    window.write(0, &header);
    window.write(header.len(), &root.get().to_le_bytes());
    let length = channel.endpoint.exchange(12, &mut patience()).unwrap();
    assert_eq!(length, header.len() + 144);
    window.read(0, &mut header);
    let answer = ChannelHeader::decode(&header);
    assert_eq!((answer.message, answer.num_fds), (Mid::FSTAT, 0));
    // Nobody takes it out of the socket, and the end of the connection frees it.
    client.stream.shutdown();
    assert!(given_up(&channel.endpoint));
    assert_eq!(rustix::io::read(&reader, &mut [0_u8; 1]), Ok(0));
}

#[test]
fn windows_are_fresh_whole_pages_that_do_not_overlap() {
    let (_tree, client) = client(3);
    client.mount();
    let mut ends = vec![0];
    for _ in 0..3 {
        let answer = client.exchange(Mid::CHANNEL, &[]);
        let place = ChannelResp::decode(&answer.payload).unwrap();
        assert_eq!(answer.fds.len(), 2, "the memory file and a socket");
        let (offset, length) = (place.data_offset as u64, place.data_length);
        assert_eq!((offset % 4096, length % 4096), (0, 0));
        assert!(length >= 16 + 4 + u64::from(Limits::default().message_size));
        assert!(offset >= *ends.last().unwrap(), "{offset} overlaps");
        ends.push(offset + length);
        let memory = answer.fds[0].as_fd();
        let window = Window::map(memory, offset, length).unwrap();
        let mut bytes = vec![1; window.capacity()];
        window.read(0, &mut bytes);
        assert!(bytes.iter().all(|byte| *byte == 0), "zeros");
        assert_eq!(StateWord::load(window.state()), 0);
        for fd in &answer.fds {
            let flags = rustix::fs::fcntl_getfl(fd).unwrap();
            assert!(flags.contains(rustix::fs::OFlags::NONBLOCK), "lisafs 7.3");
        }
        let seals = rustix::fs::fcntl_get_seals(memory).unwrap();
        assert!(seals.contains(rustix::fs::SealFlags::SHRINK));
    }
}
