//! A ping-pong between two processes over a Unix socket pair: the floor of any round trip.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode};

use criterion::Criterion;

/// A request starts with the size of the answer; the rest of it is padding.
const REQUEST: usize = 32;

/// Answers that are measured: as large as those of the operations they stand beside. The walk of
/// eight components brings eight sets of attributes.
const ANSWERS: [(&str, usize); 4] = [
    ("stat", 160),
    ("walk-8", 8 * 160),
    ("read-4k", 4 << 10),
    ("read-1m", 1 << 20),
];

/// Starts this program again with one end of a socket pair as its standard input.
pub(crate) fn spawn(args: &[&str]) -> std::io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = Command::new(std::env::current_exe()?)
        .args(args)
        .stdin(OwnedFd::from(theirs))
        .stdout(std::process::Stdio::null())
        .spawn()?;
    Ok((child, ours))
}

/// The other side: answers until the socket is closed.
pub(crate) fn pong() -> ExitCode {
    let fd = match gofer_transport::inherit(0) {
        Ok(fd) => fd,
        Err(error) => {
            eprintln!("no socket: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut socket = UnixStream::from(fd);
    let mut request = [0; REQUEST];
    let mut answer = Vec::new();
    while socket.read_exact(&mut request).is_ok() {
        let [a, b, c, d, ..] = request;
        answer.resize(u32::from_le_bytes([a, b, c, d]) as usize, 0);
        if socket.write_all(&answer).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

pub(crate) fn measure(criterion: &mut Criterion) {
    let (mut child, mut socket) = spawn(&["pong"]).expect("start the other side");
    let mut group = criterion.benchmark_group("socket");
    for (name, size) in ANSWERS {
        let mut request = [0; REQUEST];
        request[..4].copy_from_slice(&(size as u32).to_le_bytes());
        let mut answer = vec![0; size];
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                socket.write_all(&request).expect("send");
                socket.read_exact(&mut answer).expect("receive");
            });
        });
    }
    group.finish();
    drop(socket);
    let _ = child.wait();
}
