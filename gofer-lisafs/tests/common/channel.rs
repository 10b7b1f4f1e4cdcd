//! The server's side of channels, in the hands of a test.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gofer_lisafs::client::{Config, connect};
use gofer_lisafs::wire::{AnyRequest, ChannelHeader, ChannelResp, Message, Mid};
use gofer_transport::PacketSocket;
use gofer_transport::flipcall::{Endpoint, FlipError, Side, StateWord};
use gofer_transport::shm::{WINDOW_HEADER, Window, WindowFile};

use super::peer::{Peer, Session, all, call, start};

/// What the scripted servers allow: small windows make many of them cheap.
pub const MESSAGE_SIZE: u32 = 64 << 10;

/// A window in the server's hands, and the socket beside it.
pub struct Channel {
    pub endpoint: Arc<Endpoint>,
    pub socket: PacketSocket,
    /// Length of a request that came while the answer before it was handed over.
    request: Option<usize>,
}

/// Ends a wait for a client that does not come.
fn patient() -> impl FnMut() -> Result<Duration, FlipError> {
    let until = Instant::now() + Duration::from_secs(20);
    move || match Instant::now() < until {
        true => Ok(Duration::from_millis(100)),
        false => Err(FlipError::GaveUp),
    }
}

/// A channel's two sides: the server's, and what the client is to get.
pub fn channel(file: &mut WindowFile) -> (Channel, ChannelResp, [OwnedFd; 2]) {
    let size = WINDOW_HEADER + ChannelHeader::SIZE + MESSAGE_SIZE as usize;
    let (offset, length) = file.allocate(size).unwrap();
    let window = Window::map(file.as_fd(), offset, length as u64).unwrap();
    let memory = file.as_fd().try_clone_to_owned().unwrap();
    let (socket, theirs) = PacketSocket::pair().unwrap();
    let channel = Channel {
        endpoint: Arc::new(Endpoint::new(window, Side::Server)),
        socket,
        request: None,
    };
    let place = ChannelResp {
        data_offset: offset as i64,
        data_length: length as u64,
    };
    (channel, place, [memory, theirs.into()])
}

impl Channel {
    /// The handshake.
    pub fn greet(&mut self) {
        self.endpoint.receive(&mut patient()).unwrap();
        self.endpoint.window().write(0, b"{}\n");
        self.pass(3);
    }

    /// The next request; `None` at the end.
    pub fn next(&mut self) -> Option<(Mid, Vec<u8>)> {
        let length = match self.request.take() {
            Some(length) => length,
            None => self.endpoint.receive(&mut patient()).ok()?,
        };
        let mut bytes = vec![0; length];
        self.endpoint.window().read(0, &mut bytes);
        let payload = bytes.split_off(ChannelHeader::SIZE);
        let header = ChannelHeader::decode(bytes.first_chunk().unwrap());
        assert_eq!((header.num_fds, header.padding), (0, 0));
        Some((header.message, payload))
    }

    /// The next request, which must be `mid`; shown as the trace shows it.
    pub fn expect(&mut self, mid: Mid) -> String {
        let (got, payload) = self
            .next()
            .unwrap_or_else(|| panic!("{mid} expected, client left"));
        assert_eq!(got, mid);
        let request = AnyRequest::decode(got, &payload).unwrap();
        gofer_lisafs::trace::request(&request).to_string()
    }

    /// Answers with these bytes.
    pub fn answer(&mut self, mid: Mid, num_fds: u8, payload: &[u8]) {
        let window = self.endpoint.window();
        let header = ChannelHeader::new(mid, num_fds).encode();
        window.write(0, &header);
        window.write(header.len(), payload);
        self.pass(header.len() + payload.len());
    }

    /// Answers with a message and descriptors, each in a packet of its own.
    pub fn reply<'r, M: Message<'r>>(&mut self, response: &M, fds: &[BorrowedFd<'_>]) {
        for fd in fds {
            self.socket.send(&[], &[*fd]).unwrap();
        }
        let mut frame = Vec::new();
        response.encode(&mut frame);
        self.answer(M::MID, fds.len() as u8, &frame[8..]);
    }

    /// Hands the window over as it is, with `length` for the datagram, and does not wait.
    pub fn pass(&mut self, length: usize) {
        let next = self
            .endpoint
            .exchange(length, &mut || Err(FlipError::GaveUp));
        self.request = next.ok();
    }

    /// Requests until the client leaves; their numbers.
    pub fn rest(&mut self) -> Vec<Mid> {
        std::iter::from_fn(|| self.next().map(|(mid, _)| mid)).collect()
    }

    /// Writes the state word, whoever's turn it is, and wakes the client.
    pub fn set_state(&self, state: u32) {
        let word = self.endpoint.window().state();
        word.store(state, Ordering::Release);
        word.wake(true);
    }
}

/// Runs `script` with the socket and `count` channels of a client that has mounted.
pub fn with_channels<T: Send + 'static>(
    count: usize,
    script: impl FnOnce(Peer, Vec<Channel>) -> T + Send + 'static,
) -> Session<T> {
    let (stream, server) = start(move |peer| {
        peer.mount(all(), MESSAGE_SIZE);
        let channels = open(&peer, count);
        script(peer, channels)
    });
    let config = Config {
        channels: Some(count as u32),
        ..Config::default()
    };
    let fs = connect(stream, config).unwrap();
    let root = fs.root(&call()).unwrap();
    Session { fs, root, server }
}

/// Answers `count` requests for channels, each with its handshake.
fn open(peer: &Peer, count: usize) -> Vec<Channel> {
    let mut file = WindowFile::create().unwrap();
    let opened = (0..count).map(|_| {
        peer.expect(Mid::CHANNEL);
        let (mut channel, place, fds) = channel(&mut file);
        peer.reply(&place, &[fds[0].as_fd(), fds[1].as_fd()]);
        channel.greet();
        channel
    });
    opened.collect()
}
