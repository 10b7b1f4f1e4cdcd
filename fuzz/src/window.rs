//! Targets that put a window of shared memory into the hands of a peer that does whatever the
//! input says: as the client of a flipcall server, as its server, and as the client of a whole
//! lisafs server.
//!
//! The side that is tested must end in bounded time with an error or an answer, and never touch
//! what is not in the window.
//!
//! An input is a script: see `Act`.

use std::os::fd::AsFd;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use gofer_lisafs::wire::{ChannelHeader, ChannelResp, Message, Mid, SocketHeader};
use gofer_server_mock::limits::Limits;
use gofer_server_mock::server::Protocol;
use gofer_transport::flipcall::{Endpoint, FlipError, Side, StateWord};
use gofer_transport::shm::{Window, WindowFile};
use gofer_transport::{FdQueue, PacketSocket, Stream, Wait};
use zerocopy::IntoBytes;

use crate::input::{Input, PATIENCE};
use crate::server::{check_lisafs_answer, reserves_much};
use crate::session::{Alone, Session};

/// Bytes of a window where the server does not say.
const WINDOW_SIZE: usize = 8192;

/// The state word of a window that is of no more use.
pub(crate) const SHUT_DOWN: u32 = 2;

/// Most acts of one input: some make the tested side do work.
const ACTS_MAX: usize = 256;

/// What a peer does to a window.
#[derive(Clone, Copy, Debug)]
enum Act<'a> {
    /// Puts bytes somewhere into the datagram.
    Write { at: usize, bytes: &'a [u8] },
    /// Announces a length.
    Length(u32),
    /// Sets the state word and wakes who waits for it.
    State(u32),
    /// Takes a turn as one should, with this datagram.
    Turn(&'a [u8]),
    /// Sends a request over the socket, where there is one.
    Socket(&'a [u8]),
}

/// The acts of an input: a byte for which, then what it needs.
fn acts<'a>(mut input: Input<'a>) -> impl Iterator<Item = Act<'a>> {
    let next = move || {
        (!input.is_empty()).then(|| match input.byte() % 8 {
            0 => Act::Write {
                at: input.number().into(),
                bytes: input.counted(),
            },
            1 => Act::Length(u32::from(input.number()) | u32::from(input.number()) << 16),
            2 => Act::State(u32::from(input.byte())),
            3 => Act::Socket(input.counted()),
            _ => Act::Turn(input.counted()),
        })
    };
    std::iter::from_fn(next).take(ACTS_MAX)
}

/// Puts as much of `bytes` as fits into the datagram at `at`.
pub(crate) fn write(window: &Window, at: usize, bytes: &[u8]) {
    let at = at.min(window.capacity());
    let count = bytes.len().min(window.capacity() - at);
    window.write(at, &bytes[..count]);
}

/// Puts a whole datagram into the window; its length.
pub(crate) fn put(window: &Window, bytes: &[u8]) -> usize {
    write(window, 0, bytes);
    bytes.len().min(window.capacity())
}

/// Sets the state word and wakes who waits for it. `false` when the tested side had ended: nobody
/// is there to answer any more, whatever the word says from now on.
pub(crate) fn set_state(window: &Window, state: u32) -> bool {
    let before = StateWord::swap(window.state(), state);
    StateWord::wake(window.state(), true);
    before != SHUT_DOWN
}

/// The limit of each sleep, and the end of all patience.
fn patient() -> impl FnMut() -> Result<Duration, FlipError> {
    let until = Instant::now() + PATIENCE;
    move || {
        assert!(Instant::now() < until, "the peer neither answers nor ends");
        Ok(Duration::from_millis(100))
    }
}

/// A flipcall server whose client is the input.
pub fn server_side(input: &[u8]) {
    endpoint(input, Side::Server, |ours| {
        let mut length = ours.accept(&mut patient())?;
        loop {
            length = ours.exchange(echo(ours, length), &mut patient())?;
        }
    });
}

/// A flipcall client whose server is the input.
pub fn client_side(input: &[u8]) {
    endpoint(input, Side::Client, |ours| {
        ours.connect(&mut patient())?;
        let mut length = 8;
        loop {
            length = ours.exchange(echo(ours, length), &mut patient())?;
        }
    });
}

/// Reads a datagram and writes it back, all of it.
fn echo(endpoint: &Endpoint, length: usize) -> usize {
    let mut datagram = vec![0; length];
    endpoint.window().read(0, &mut datagram);
    put(endpoint.window(), &datagram)
}

/// Runs `ours` on one side of a window and the input on the other.
fn endpoint(input: &[u8], side: Side, ours: fn(&Endpoint) -> Result<(), FlipError>) {
    let alone = Alone::begin();
    let mut file = WindowFile::create().expect("make a memory file");
    let (offset, length) = file.allocate(WINDOW_SIZE).expect("make a window");
    let map = || Window::map(file.as_fd(), offset, length as u64).expect("map it");
    let (tested, theirs) = (Endpoint::new(map(), side), map());
    let (tell, ended) = mpsc::channel();
    thread::scope(|scope| {
        let running = scope.spawn(|| {
            let error = ours(&tested).expect_err("nobody ends it otherwise");
            tested.shut_down();
            let _ = tell.send(error);
        });
        let (mine, other) = match side {
            Side::Client => (1, 0),
            Side::Server => (0, 1),
        };
        for act in acts(Input::new(input)) {
            match act {
                Act::Write { at, bytes } => write(&theirs, at, bytes),
                Act::Length(length) => theirs.set_datagram_length(length),
                Act::State(state) => {
                    if !set_state(&theirs, state) {
                        break;
                    }
                }
                Act::Turn(bytes) => {
                    if !await_state(theirs.state(), mine) {
                        break;
                    }
                    let length = put(&theirs, bytes);
                    theirs.set_datagram_length(length as u32);
                    if !set_state(&theirs, other) {
                        break;
                    }
                }
                Act::Socket(_) => thread::yield_now(),
            }
        }
        tested.shut_down();
        ended.recv_timeout(PATIENCE).expect("the endpoint ends");
        running.join().expect("the endpoint ends in peace");
    });
    drop((tested, theirs, file));
    alone.end();
}

/// Waits until the tested side has passed control; `false` when the window is of no more use.
fn await_state(word: &AtomicU32, wanted: u32) -> bool {
    let until = Instant::now() + PATIENCE;
    loop {
        match StateWord::load(word) {
            state if state == wanted => return true,
            state @ (0 | 1) => {
                assert!(
                    Instant::now() < until,
                    "the tested side does not pass control"
                );
                let _ = word.wait_while(state, Duration::from_millis(100));
            }
            _ => return false,
        }
    }
}

/// A lisafs server, mounted and with one channel, whose client is the input.
pub fn lisafs_server(input: &[u8]) {
    let alone = Alone::begin();
    let session = Session::start(Protocol::Lisafs, Limits::default());
    let socket = session.stream.try_clone().expect("copy a descriptor");
    let socket = Stream::from_fd(socket.into()).expect("a socket is a stream");
    ask(&socket, Mid::MOUNT, &[]);
    let (place, mut fds) = ask(&socket, Mid::CHANNEL, &[]);
    let channel = Channel::map(&place, &mut fds);
    for act in acts(Input::new(input)) {
        if !channel.act(act, &socket) {
            break;
        }
    }
    drop((channel, fds, socket));
    session.end();
    alone.end();
}

/// Sends a request over the socket and receives its answer.
fn ask(socket: &Stream, mid: Mid, payload: &[u8]) -> (Vec<u8>, FdQueue) {
    let wait = Wait {
        deadline: Some(Instant::now() + PATIENCE),
        cancel: None,
    };
    let header = SocketHeader::new(mid, payload.len() as u32);
    let frame = [header.as_bytes(), payload].concat();
    let parts = [std::io::IoSlice::new(&frame)];
    socket
        .send(&parts, &[], &wait)
        .expect("the server takes a request");
    let mut fds = FdQueue::new(8);
    let mut header = [0; SocketHeader::SIZE];
    let answered = socket.receive_exact(&mut header, Some(&mut fds), &wait);
    assert!(answered.expect("the server answers"), "the server hung up");
    let header = SocketHeader::decode(&header);
    let mut answer = vec![0; header.payload_len.get() as usize];
    if !answer.is_empty() {
        let whole = socket.receive_exact(&mut answer, None, &wait);
        assert!(whole.expect("the server answers"), "the server hung up");
    }
    check_lisafs_answer(mid, header.message, &answer);
    (answer, fds)
}

/// A window of a server, and the socket beside it.
struct Channel {
    endpoint: Endpoint,
    socket: PacketSocket,
}

impl Channel {
    fn map(place: &[u8], fds: &mut FdQueue) -> Channel {
        let place = ChannelResp::decode(place).expect("a place in a file");
        let memory = fds.pop().expect("a memory file");
        let socket = fds.pop().expect("a socket");
        let offset = place.data_offset as u64;
        let window = Window::map(memory.as_fd(), offset, place.data_length).expect("map it");
        Channel {
            endpoint: Endpoint::new(window, Side::Client),
            socket: PacketSocket::from_fd(socket).expect("a packet socket"),
        }
    }

    /// `false` ends the script.
    fn act(&self, act: Act<'_>, socket: &Stream) -> bool {
        let window = self.endpoint.window();
        match act {
            Act::Write { at, bytes } => write(window, at, bytes),
            Act::Length(length) => window.set_datagram_length(length),
            Act::State(state) => {
                if self.is_costly() {
                    return false;
                }
                return set_state(window, state);
            }
            Act::Turn(bytes) => return self.turn(bytes),
            Act::Socket(bytes) => {
                let Some((header, payload)) = bytes.split_first_chunk() else {
                    return true;
                };
                let mid = ChannelHeader::decode(header).message;
                if reserves_much(mid, payload) {
                    return false;
                }
                ask(socket, mid, payload);
            }
        }
        true
    }

    /// One exchange. The answer belongs to the request unless the script meddled before.
    fn turn(&self, bytes: &[u8]) -> bool {
        let length = put(self.endpoint.window(), bytes);
        if self.is_costly() {
            return false;
        }
        let Ok(length) = self.endpoint.exchange(length, &mut patient()) else {
            return false;
        };
        let mut answer = vec![0; length];
        self.endpoint.window().read(0, &mut answer);
        let Some((header, _)) = answer.split_first_chunk() else {
            return true;
        };
        let mut fds = FdQueue::new(1);
        for _ in 0..ChannelHeader::decode(header).num_fds {
            if self.socket.receive_now(&mut [], &mut fds).is_err() {
                break;
            }
        }
        true
    }

    /// Whether the request in the window would fill the host's disk.
    fn is_costly(&self) -> bool {
        let mut request = [0; 64];
        self.endpoint.window().read(0, &mut request);
        let (header, payload) = request.split_first_chunk().expect("long enough");
        reserves_much(ChannelHeader::decode(header).message, payload)
    }
}
