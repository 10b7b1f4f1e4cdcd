//! A real server on one end of a socket pair, a directory for it, and proof that nothing of
//! either is left afterwards.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use gofer_server_mock::host::{Export, Fifos, Policy, Sockets, Users};
use gofer_server_mock::limits::Limits;
use gofer_server_mock::server::{Protocol, serve};
use gofer_transport::Stream;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use tempfile::TempDir;

use crate::input::PATIENCE;

/// One input at a time: descriptors are counted, and they are the whole process's.
#[derive(Debug)]
pub struct Alone {
    _turn: MutexGuard<'static, ()>,
    descriptors: usize,
}

static TURN: Mutex<()> = Mutex::new(());

impl Alone {
    /// Waits for its turn and counts.
    pub fn begin() -> Alone {
        // An input that panicked says so itself.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Alone {
            _turn: turn,
            descriptors: descriptors(),
        }
    }

    /// Panics when more or fewer descriptors are open than at the beginning.
    pub fn end(self) {
        assert_eq!(descriptors(), self.descriptors, "descriptors leak");
    }
}

/// How many descriptors are open, those on /proc apart: the server keeps one there for as long as
/// the process lives.
fn descriptors() -> usize {
    let open = fs::read_dir("/proc/self/fd").expect("list the descriptors");
    open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| !target.starts_with("/proc"))
        .count()
}

/// A tree to serve, in memory where that is possible: the one the lisafs vectors were recorded
/// on, so that seeds made from them find their files.
pub fn tree() -> TempDir {
    let memory = Path::new("/dev/shm");
    let dir = match tempfile::tempdir_in(memory) {
        Ok(dir) => dir,
        Err(_) => tempfile::tempdir().expect("make a directory"),
    };
    fill(dir.path()).expect("fill the directory");
    dir
}

fn fill(root: &Path) -> io::Result<()> {
    fs::create_dir(root.join("dir1"))?;
    fs::write(root.join("dir1/file.txt"), "hello lisafs\n")?;
    fs::write(root.join("big.bin"), [0; 1024])?;
    symlink("dir1", root.join("link"))?;
    symlink("nowhere", root.join("dangling"))?;
    fs::create_dir(root.join("many"))?;
    for number in 0..12 {
        fs::write(root.join(format!("many/entry-{number:02}")), "")?;
    }
    Ok(())
}

/// A server in this process, on a thread of its own.
#[derive(Debug)]
pub struct Session {
    /// The client's end.
    pub stream: UnixStream,
    server: JoinHandle<()>,
    ended: Receiver<()>,
    _tree: TempDir,
}

impl Session {
    /// Serves a fresh tree, with everything allowed.
    pub fn start(protocol: Protocol, limits: Limits) -> Session {
        let policy = Policy {
            readonly: false,
            sockets: Sockets::All,
            fifos: Fifos::Open,
            all_types: true,
            donate: true,
            users: Users::Server,
        };
        let tree = tree();
        let export = Export::open(tree.path(), policy).expect("open the directory");
        let (stream, theirs) = UnixStream::pair().expect("make a socket pair");
        let theirs = Stream::from_fd(theirs.into()).expect("a socket is a stream");
        let (tell, ended) = mpsc::channel();
        let server = thread::spawn(move || {
            // What it says of the end is its own affair.
            let _ = serve(theirs, export, protocol, &limits);
            let _ = tell.send(());
        });
        Session {
            stream,
            server,
            ended,
            _tree: tree,
        }
    }

    /// Sends `input`, ends the sending side, and gives everything that comes back to `output`,
    /// until the server hangs up or `output` says that it is enough. Panics when the server
    /// neither takes nor sends nor hangs up.
    pub fn feed(&mut self, input: &[u8], output: &mut dyn FnMut(&[u8]) -> bool) {
        self.stream.set_nonblocking(true).expect("set a flag");
        let mut unsent = Some(input);
        let mut buffer = vec![0; 64 << 10];
        loop {
            if let Some(bytes) = unsent {
                unsent = match self.stream.write(bytes) {
                    Ok(_) if bytes.is_empty() => {
                        // Fails when the server was faster.
                        let _ = self.stream.shutdown(Shutdown::Write);
                        None
                    }
                    Ok(sent) => Some(&bytes[sent..]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => Some(bytes),
                    Err(_) => None,
                };
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) if output(&buffer[..count]) => {}
                Ok(_) => return,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if unsent.is_none_or(|bytes| !bytes.is_empty()) {
                        self.wait(unsent.is_some());
                    }
                }
                // A server that hangs up with requests unread resets the connection.
                Err(_) => return,
            }
        }
    }

    fn wait(&self, output: bool) {
        let flags = match output {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        };
        let mut polled = [PollFd::new(&self.stream, flags)];
        let limit = Timespec::try_from(PATIENCE).expect("a short time");
        let ready = retry_on_intr(|| poll(&mut polled, Some(&limit)));
        let ready = ready.expect("wait for the server");
        assert!(ready > 0, "the server neither answers nor hangs up");
    }

    /// Hangs up and waits until the server has ended. Panics when it panicked.
    pub fn end(self) {
        drop(self.stream);
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(PATIENCE) {
            panic!("the server goes on without its client");
        }
        self.server.join().expect("the server ends in peace");
    }
}
