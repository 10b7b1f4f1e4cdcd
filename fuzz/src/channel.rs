//! Target: a lisafs client with a channel, whose server does with the window, and with the
//! socket, what the input says.
//!
//! An input is the largest message (16 bits, little-endian), then one record per request: what to
//! do (low two bits: how many descriptors; the next three: which harm), which descriptors (a byte
//! each), the answer with its count, and what the harm needs. A request on the socket takes a
//! record, too, without the harm. After the last record the server hangs up.

use std::io::IoSlice;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gofer_lisafs::client::{Config, connect};
use gofer_lisafs::wire::{
    ChannelHeader, ChannelResp, Fdid, Inode, Message, Mid, MountResp, SocketHeader, Statx,
};
use gofer_transport::flipcall::StateWord;
use gofer_transport::shm::{WINDOW_HEADER, Window, WindowFile};
use gofer_transport::{PacketSocket, Stream, Wait};

use crate::client::{descriptor, is_whole, lisafs_frame, lisafs_size, workload};
use crate::input::{Input, PATIENCE};
use crate::session::Alone;
use crate::window::{SHUT_DOWN, put, set_state, write};

/// Descriptors sent beside the window in one run: what the client leaves there fills the socket.
const FDS_MAX: usize = 32;

/// Server of one connection with one channel.
struct Server<'a> {
    max_message_size: u32,
    socket: Stream,
    file: WindowFile,
    place: ChannelResp,
    window: Window,
    beside: PacketSocket,
    /// The client's end of `beside`.
    theirs: PacketSocket,
    script: Mutex<Input<'a>>,
    fds_sent: AtomicUsize,
    ended: AtomicBool,
}

/// What to do with one request.
struct Record<'a> {
    harm: u8,
    kinds: &'a [u8],
    answer: &'a [u8],
}

/// A client of lisafs that may have one channel.
pub fn lisafs_client(input: &[u8]) {
    let alone = Alone::begin();
    let begin = Instant::now();
    let (ours, theirs) = Stream::pair().expect("make a socket pair");
    let server = Server::new(theirs, Input::new(input));
    thread::scope(|scope| {
        let threads = [
            scope.spawn(|| server.serve_socket()),
            scope.spawn(|| server.serve_window()),
        ];
        let config = Config {
            timeout: Some(PATIENCE),
            channels: Some(1),
            ..Config::default()
        };
        if let Ok(fs) = connect(ours, config) {
            workload(fs.as_ref());
            fs.shutdown();
        }
        for thread in threads {
            thread.join().expect("the server does what it is told");
        }
    });
    assert!(begin.elapsed() < PATIENCE, "a call does not come back");
    drop(server);
    alone.end();
}

impl<'a> Server<'a> {
    fn new(socket: Stream, mut script: Input<'a>) -> Server<'a> {
        let max_message_size = u32::from(script.number());
        let size = WINDOW_HEADER + ChannelHeader::SIZE + max_message_size as usize;
        let mut file = WindowFile::create().expect("make a memory file");
        let (offset, length) = file.allocate(size).expect("make a window");
        let place = ChannelResp {
            data_offset: offset as i64,
            data_length: length as u64,
        };
        let window = Window::map(file.as_fd(), offset, length as u64).expect("map it");
        let (beside, theirs) = PacketSocket::pair().expect("make a socket pair");
        Server {
            max_message_size,
            socket,
            file,
            place,
            window,
            beside,
            theirs,
            script: Mutex::new(script),
            fds_sent: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        }
    }

    /// The next record; `None` after the last.
    fn record(&self) -> Option<Record<'a>> {
        let mut script = self.script.lock().expect("nobody panics with it");
        if script.is_empty() {
            return None;
        }
        let what = script.byte();
        Some(Record {
            harm: what >> 2 & 7,
            kinds: script.bytes(usize::from(what & 3)),
            answer: script.counted(),
        })
    }

    /// Ends the connection, and with it all waits for it.
    fn hang_up(&self) {
        self.ended.store(true, Ordering::Release);
        self.socket.shutdown();
        set_state(&self.window, SHUT_DOWN);
    }

    /// Answers Mount and Channel as one should, and everything else with records.
    fn serve_socket(&self) {
        while let Some(request) = lisafs_frame(&self.socket, None) {
            let header = SocketHeader::decode(request.first_chunk().expect("a whole frame"));
            let answered = match header.message {
                Mid::MOUNT => self.mount(),
                Mid::CHANNEL => self.channel(),
                _ => self.answer(),
            };
            if answered.is_none() {
                break;
            }
        }
        self.hang_up();
    }

    fn mount(&self) -> Option<()> {
        let root = Inode {
            control_fd: Fdid::new(1),
            stat: Statx {
                mask: 0x7ff.into(),
                mode: 0o040_755.into(),
                ino: 2.into(),
                ..Statx::default()
            },
        };
        let mut frame = Vec::new();
        MountResp {
            root,
            max_message_size: self.max_message_size,
            supported_mids: Mid::REQUESTS,
        }
        .encode(&mut frame);
        let parts = [IoSlice::new(&frame)];
        self.socket.send(&parts, &[], &Wait::default()).ok()
    }

    fn channel(&self) -> Option<()> {
        let mut frame = Vec::new();
        self.place.encode(&mut frame);
        let parts = [IoSlice::new(&frame)];
        let fds = [self.file.as_fd(), self.theirs.as_fd()];
        self.socket.send(&parts, &fds, &Wait::default()).ok()
    }

    fn answer(&self) -> Option<()> {
        let record = self.record()?;
        let fds: Vec<_> = record.kinds.iter().copied().map(descriptor).collect();
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let parts = [IoSlice::new(record.answer)];
        self.socket.send(&parts, &fds, &Wait::default()).ok()?;
        is_whole(record.answer, lisafs_size).then_some(())
    }

    /// Does something to the window whenever it is the server's turn.
    fn serve_window(&self) {
        while self.await_turn() {
            let Some(record) = self.record() else {
                return self.hang_up();
            };
            self.take_turn(&record);
        }
    }

    fn await_turn(&self) -> bool {
        let word = self.window.state();
        while !self.ended.load(Ordering::Acquire) {
            match StateWord::load(word) {
                1 => return true,
                state => word
                    .wait_while(state, Duration::from_millis(10))
                    .expect("wait for the client"),
            }
        }
        false
    }

    fn take_turn(&self, record: &Record<'_>) {
        for &kind in record.kinds {
            if self.fds_sent.fetch_add(1, Ordering::Relaxed) < FDS_MAX {
                let fd = descriptor(kind);
                let _ = self.beside.send(&[], &[fd.as_fd()]);
            }
        }
        let length = put(&self.window, record.answer);
        self.window.set_datagram_length(length as u32);
        let mut script = self.script.lock().expect("nobody panics with it");
        match record.harm {
            4 => {
                let (low, high) = (script.number(), script.number());
                let length = u32::from(low) | u32::from(high) << 16;
                self.window.set_datagram_length(length);
                set_state(&self.window, 0);
            }
            5 => {
                set_state(&self.window, script.byte().into());
            }
            6 => {
                set_state(&self.window, 0);
                write(&self.window, script.number().into(), script.counted());
            }
            7 => {
                drop(script);
                self.hang_up();
            }
            _ => {
                set_state(&self.window, 0);
            }
        }
    }
}
