//! A ping-pong between two processes over a Unix socket pair: the floor of any round trip.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode};

use criterion::Criterion;

/// A request starts with its own size and that of the answer; the rest of it is padding.
pub(crate) const REQUEST_MIN: usize = 8;
const REQUEST: usize = 32;

/// Bytes the other side asks the kernel for at once.
const ROOM: usize = (1 << 20) + 4096;

/// Answers that are measured: as large as those of the operations they stand beside. The walk of
/// eight components brings eight sets of attributes.
const ANSWERS: [(&str, usize); 4] = [
    ("stat", 160),
    ("walk-8", 8 * 160),
    ("read-4k", 4 << 10),
    ("read-1m", 1 << 20),
];

/// Starts this program again with `stdin` as its standard input.
pub(crate) fn spawn_on(stdin: OwnedFd, args: &[&str]) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(args)
        .stdin(stdin)
        .stdout(std::process::Stdio::null())
        .spawn()
}

/// Starts this program again with one end of a socket pair as its standard input.
pub(crate) fn spawn(args: &[&str]) -> std::io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((spawn_on(theirs.into(), args)?, ours))
}

/// The other side: answers until the socket is closed.
pub(crate) fn pong() -> ExitCode {
    match gofer_transport::inherit(0) {
        Ok(fd) => {
            answer_all(&mut UnixStream::from(fd));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("no socket: {error}");
            ExitCode::FAILURE
        }
    }
}

fn answer_all(socket: &mut UnixStream) {
    let mut request = vec![0; ROOM];
    let answer = vec![0; ROOM];
    // One call takes a request with all that it brings, unless it is too large for the socket.
    while let Ok(mut received @ REQUEST_MIN..) = socket.read(&mut request) {
        let size = |at: usize| {
            let word = request[at..at + 4].first_chunk().copied();
            u32::from_le_bytes(word.unwrap_or_default()) as usize
        };
        let (own, answered) = (size(0).min(ROOM), size(4).min(ROOM));
        while received < own {
            match socket.read(&mut request[received..own]) {
                Ok(more @ 1..) => received += more,
                _ => return,
            }
        }
        if socket.write_all(&answer[..answered]).is_err() {
            return;
        }
    }
}

/// A ping-pong with requests and answers of given sizes.
pub(crate) struct PingPong {
    child: Child,
    socket: UnixStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl PingPong {
    pub(crate) fn start(request: usize, answer: usize) -> PingPong {
        let (child, socket) = spawn(&["pong"]).expect("start the other side");
        let mut padded = vec![0; request.max(REQUEST_MIN)];
        padded[..4].copy_from_slice(&(request as u32).to_le_bytes());
        padded[4..8].copy_from_slice(&(answer as u32).to_le_bytes());
        PingPong {
            child,
            socket,
            request: padded,
            answer: vec![0; answer],
        }
    }

    pub(crate) fn once(&mut self) {
        self.socket.write_all(&self.request).expect("send");
        self.socket.read_exact(&mut self.answer).expect("receive");
    }
}

impl Drop for PingPong {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(self.socket.as_fd(), rustix::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("socket");
    for (name, size) in ANSWERS {
        let mut ping = PingPong::start(REQUEST, size);
        group.bench_function(name, |bencher| bencher.iter(|| ping.once()));
    }
    group.finish();
}
