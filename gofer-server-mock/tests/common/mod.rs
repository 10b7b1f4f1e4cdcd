//! What several test modules use: fixtures, a raw lisafs client, server processes.

use std::fs;
use std::io::{BufRead, BufReader, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gofer_lisafs::wire::{
    ErrorResp, Fdid, Inode, Message, Mid, MountResp, Request, SocketHeader, Strings, WalkReq,
    WalkResp,
};
use gofer_server_mock::host::{Export, Fifos, Policy, Sockets, Users};
use gofer_server_mock::limits::Limits;
use gofer_server_mock::server::{Protocol, spawn};
use gofer_transport::flipcall::{Endpoint, FlipError, StateWord};
use gofer_transport::{FdQueue, Stream, Wait};
use zerocopy::IntoBytes;

/// Everything is allowed.
pub const ALL: Policy = Policy {
    readonly: false,
    sockets: Sockets::All,
    fifos: Fifos::Open,
    all_types: false,
    donate: true,
    users: Users::Server,
};

/// Everything is allowed but changes.
pub const READONLY: Policy = Policy {
    readonly: true,
    ..ALL
};

/// Longer than anything in a test takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A second, after which a dead peer must have left nothing; more where the machine is busy.
pub const SOON: Duration = Duration::from_secs(5);

/// The tree the vectors were recorded on. The mode of `big.bin` is not the same in all recordings.
pub fn vector_tree(big_mode: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir(root.join("dir1")).unwrap();
    fs::write(root.join("dir1/file.txt"), "hello lisafs\n").unwrap();
    fs::write(root.join("big.bin"), vec![0; 1024]).unwrap();
    symlink("dir1", root.join("link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    fs::create_dir(root.join("many")).unwrap();
    for number in 0..12 {
        fs::write(root.join(format!("many/entry-{number:02}")), "").unwrap();
    }
    for path in ["", "dir1", "many"] {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let files = (0..12).map(|number| format!("many/entry-{number:02}"));
    for path in files.chain(["dir1/file.txt".into()]) {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o644)).unwrap();
    }
    fs::set_permissions(root.join("big.bin"), fs::Permissions::from_mode(big_mode)).unwrap();
    dir
}

/// What came back for a request.
#[derive(Debug)]
pub struct Answer {
    pub mid: Mid,
    pub payload: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

/// A lisafs client that sends what it is told.
#[derive(Debug)]
pub struct Client {
    pub stream: Arc<Stream>,
}

impl Client {
    /// A client of a server in this process that serves `root`.
    pub fn of(root: &Path, policy: Policy) -> Client {
        Client::of_export(&Export::open(root, policy).unwrap())
    }

    /// A further client of `export`.
    pub fn of_export(export: &Arc<Export>) -> Client {
        Client::with_limits(export, Limits::default())
    }

    pub fn with_limits(export: &Arc<Export>, limits: Limits) -> Client {
        let (ours, theirs) = Stream::pair().unwrap();
        spawn(theirs, export.clone(), Protocol::Lisafs, limits).unwrap();
        Client::on(ours)
    }

    pub fn on(stream: Stream) -> Client {
        Client {
            stream: Arc::new(stream),
        }
    }

    /// Sends bytes that may be no frame at all.
    pub fn send(&self, bytes: &[u8]) {
        let wait = Wait::default();
        self.stream
            .send(&[IoSlice::new(bytes)], &[], &wait)
            .unwrap();
    }

    /// Receives a response; `None` at the end of the stream.
    pub fn receive(&self) -> Option<Answer> {
        let wait = Wait {
            deadline: Some(Instant::now() + PATIENCE),
            cancel: None,
        };
        let mut fds = FdQueue::new(8);
        let mut header = [0; SocketHeader::SIZE];
        match self
            .stream
            .receive_exact(&mut header, Some(&mut fds), &wait)
        {
            Ok(true) => {}
            Ok(false) => return None,
            // A server that hangs up before it has read all resets the connection.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("receive: {error}"),
        }
        let header = SocketHeader::decode(&header);
        let mut payload = vec![0; header.payload_len.get() as usize];
        if !payload.is_empty() {
            assert!(
                self.stream
                    .receive_exact(&mut payload, None, &wait)
                    .unwrap()
            );
        }
        Some(Answer {
            mid: header.message,
            payload,
            fds: std::iter::from_fn(|| fds.pop()).collect(),
        })
    }

    /// Sends a payload and receives its answer.
    pub fn exchange(&self, mid: Mid, payload: &[u8]) -> Answer {
        let header = SocketHeader::new(mid, payload.len() as u32);
        self.send(&[header.as_bytes(), payload].concat());
        self.receive().expect("the server hung up")
    }

    /// Sends a request; the answer, or the number in an Error response.
    pub fn ask<'q>(&self, request: &impl Request<'q>) -> Result<Answer, i32> {
        ask_by(request, |mid, payload| self.exchange(mid, payload))
    }

    /// Mounts; the control FD of the root.
    pub fn mount(&self) -> Fdid {
        let answer = self.exchange(Mid::MOUNT, &[]);
        let mount = MountResp::decode(&answer.payload).unwrap();
        mount.root.control_fd
    }

    /// Walks; what was found on the way.
    pub fn walk(&self, dir: Fdid, names: &[&str]) -> Result<Vec<Inode>, i32> {
        let names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        let path = Strings::new(&names);
        let answer = self.ask(&WalkReq { dir_fd: dir, path })?;
        Ok(WalkResp::decode(&answer.payload).unwrap().inodes.to_vec())
    }

    /// Walks to a file that is there.
    pub fn walk_to(&self, dir: Fdid, names: &[&str]) -> Fdid {
        let found = self.walk(dir, names).unwrap();
        assert_eq!(found.len(), names.len(), "{names:?} is not all there");
        found.last().unwrap().control_fd
    }
}

/// Has `exchange` carry a request; the answer, or the number in an Error response.
pub fn ask_by<'q, R: Request<'q>>(
    request: &R,
    exchange: impl FnOnce(Mid, &[u8]) -> Answer,
) -> Result<Answer, i32> {
    let mut frame = Vec::new();
    request.encode(&mut frame);
    let answer = exchange(R::MID, &frame[SocketHeader::SIZE..]);
    if answer.mid == Mid::ERROR {
        let error = ErrorResp::decode(&answer.payload).unwrap();
        return Err(error.errno as i32);
    }
    assert_eq!(answer.mid, R::MID);
    Ok(answer)
}

/// What a process has of everything that could leak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resources {
    pub descriptors: usize,
    pub threads: usize,
    /// Mappings of packet windows.
    pub windows: usize,
}

impl Resources {
    /// Of the process whose directory in `/proc` this is.
    pub fn of(process: &str) -> Resources {
        let count = |what: &str| fs::read_dir(format!("{process}/{what}")).unwrap().count();
        let maps = fs::read_to_string(format!("{process}/maps")).unwrap();
        Resources {
            descriptors: count("fd"),
            threads: count("task"),
            windows: maps.matches("flipcall_packet_windows").count(),
        }
    }
}

/// What the descriptors of a process are, for a message.
fn open_files(process: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    entries
        .flatten()
        .flat_map(|entry| fs::read_link(entry.path()))
        .collect()
}

/// A server process. Killed when the test ends early.
#[derive(Debug)]
pub struct Server {
    pub child: Child,
    pub ready: String,
}

pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_gofer-server-mock"))
}

impl Server {
    /// Starts `command` and waits until it says that it is ready.
    pub fn start(command: &mut Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut ready).unwrap();
        Server {
            child,
            ready: ready.trim_end().to_string(),
        }
    }

    /// Serves `root` at a socket in `dir`, with further arguments.
    pub fn at(dir: &Path, root: &Path, more: &[&str]) -> (Server, PathBuf) {
        let socket = dir.join("socket");
        let mut command = Command::new(program());
        command.args(["serve", "--root"]).arg(root);
        command
            .arg("--listen")
            .arg(format!("unix:{}", socket.display()));
        let server = Server::start(command.args(more));
        assert_eq!(
            server.ready,
            format!("listening on unix:{}", socket.display())
        );
        (server, socket)
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// How many descriptors the process has open.
    pub fn descriptors(&self) -> usize {
        self.use_of_resources().descriptors
    }

    /// What the process has of everything that could leak.
    pub fn use_of_resources(&self) -> Resources {
        Resources::of(&format!("/proc/{}", self.child.id()))
    }

    /// Waits until the process has what it had.
    #[track_caller]
    pub fn settle_at(&self, wanted: Resources) {
        let until = Instant::now() + SOON;
        while self.use_of_resources() != wanted {
            assert!(
                Instant::now() < until,
                "{:?} are in use, not {wanted:?}: {:?}",
                self.use_of_resources(),
                open_files(self.child.id())
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until the process has as many descriptors open as `wanted`.
    pub fn settle(&self, wanted: usize) {
        let until = Instant::now() + PATIENCE;
        while self.descriptors() != wanted {
            assert!(
                Instant::now() < until,
                "{} descriptors are open, not {wanted}",
                self.descriptors()
            );
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether files in `dir` can have attributes of users.
pub fn has_user_xattrs(dir: &Path) -> bool {
    let flags = rustix::fs::XattrFlags::empty();
    let works = rustix::fs::setxattr(dir, "user.probe", b"1", flags).is_ok();
    let _ = rustix::fs::removexattr(dir, "user.probe");
    works
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Ends a wait for a server that does not answer on a channel.
pub fn patience() -> impl FnMut() -> Result<Duration, FlipError> {
    let until = Instant::now() + PATIENCE;
    move || match Instant::now() < until {
        true => Ok(Duration::from_millis(100)),
        false => Err(FlipError::GaveUp),
    }
}

/// Waits until the server has given a channel up.
pub fn given_up(endpoint: &Endpoint) -> bool {
    let word = endpoint.window().state();
    let until = Instant::now() + PATIENCE;
    loop {
        let state = StateWord::load(word);
        if state == 2 || Instant::now() > until {
            return state == 2;
        }
        word.wait_while(state, PATIENCE).unwrap();
    }
}

/// Bytes of an open descriptor, from its start.
pub fn read_all(fd: impl AsFd) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 16];
    let count = rustix::io::pread(fd, &mut bytes, 0).unwrap();
    bytes.truncate(count);
    bytes
}
