//! A server that does what a test says, frame by frame, on the other end of a socket pair.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gofer_lisafs::client::{Config, ConnectError, connect};
use gofer_lisafs::wire::{
    AnyRequest, ErrorResp, Fdid, Inode, Message, Mid, MountResp, SocketHeader, Statx,
};
use gofer_transport::{Stream, Wait};
use gofer_vfs::remote::{Call, Found, RemoteFilesystem};
use zerocopy::IntoBytes;

/// The root's control FD in all scripts.
pub const ROOT: Fdid = Fdid::new(1);

/// The server's end.
pub struct Peer {
    pub stream: Stream,
}

impl Peer {
    /// The next request: its number and payload. `None` when the client has left.
    pub fn next(&self) -> Option<(Mid, Vec<u8>)> {
        let mut header = [0; SocketHeader::SIZE];
        match self
            .stream
            .receive_exact(&mut header, None, &Wait::default())
        {
            Ok(true) => {}
            _ => return None,
        }
        let header = SocketHeader::decode(&header);
        let mut payload = vec![0; header.payload_len.get() as usize];
        if !payload.is_empty() {
            let whole = self
                .stream
                .receive_exact(&mut payload, None, &Wait::default());
            assert!(whole.unwrap(), "the client left inside a request");
        }
        Some((header.message, payload))
    }

    /// The next request, which must be `mid`; shown as the trace shows it.
    pub fn expect(&self, mid: Mid) -> String {
        let (got, payload) = self
            .next()
            .unwrap_or_else(|| panic!("{mid} expected, client left"));
        assert_eq!(got, mid);
        let request = AnyRequest::decode(got, &payload).unwrap();
        gofer_lisafs::trace::request(&request).to_string()
    }

    /// Sends bytes as they are, with descriptors on the first.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        self.stream
            .send(&[IoSlice::new(bytes)], fds, &Wait::default())
            .unwrap();
    }

    /// Sends a response.
    pub fn reply<'r>(&self, response: &impl Message<'r>, fds: &[BorrowedFd<'_>]) {
        let mut frame = Vec::new();
        response.encode(&mut frame);
        self.send(&frame, fds);
    }

    /// Sends an Error.
    pub fn error(&self, errno: u32) {
        self.reply(&ErrorResp { errno }, &[]);
    }

    /// Answers the Mount of a client that starts.
    pub fn mount(&self, supported: &[Mid], max_message_size: u32) {
        self.expect(Mid::MOUNT);
        let root = inode(ROOT.get(), 0o040755);
        self.reply(
            &MountResp {
                root,
                max_message_size,
                supported_mids: supported,
            },
            &[],
        );
    }

    /// Reads requests until the client leaves; their numbers.
    pub fn rest(&self) -> Vec<Mid> {
        std::iter::from_fn(|| self.next().map(|(mid, _)| mid)).collect()
    }

    /// A Close from the client, as a sorted list of numbers.
    pub fn expect_close(&self) -> Vec<u64> {
        let (mid, payload) = self.next().expect("a Close");
        let Ok(AnyRequest::Close(close)) = AnyRequest::decode(mid, &payload) else {
            panic!("{mid} instead of Close");
        };
        let mut fds: Vec<u64> = close.fds.iter().map(|fd| fd.get()).collect();
        fds.sort();
        self.reply(&gofer_lisafs::wire::CloseResp {}, &[]);
        fds
    }
}

/// Attributes of a file of this mode; inode number `ino` on device 8:1.
pub fn stat(ino: u64, mode: u16) -> Statx {
    Statx {
        mask: 0x7ff.into(),
        ino: ino.into(),
        mode: mode.into(),
        size: 5.into(),
        nlink: 1.into(),
        dev_major: 8.into(),
        dev_minor: 1.into(),
        ..Statx::default()
    }
}

/// A file with control FD `fd` and inode number 100 + `fd`.
pub fn inode(fd: u64, mode: u16) -> Inode {
    Inode {
        control_fd: Fdid::new(fd),
        stat: stat(100 + fd, mode),
    }
}

/// For scripts that know no channels.
pub fn socket_only() -> Config {
    Config {
        channels: Some(0),
        ..Config::default()
    }
}

/// A mounted client and the thread of its server.
pub struct Session<T> {
    pub fs: Arc<dyn RemoteFilesystem>,
    pub root: Found,
    pub server: JoinHandle<T>,
}

impl<T> Session<T> {
    /// Ends the client and waits for the script to end.
    pub fn finish(self) -> T {
        self.fs.shutdown();
        drop((self.fs, self.root));
        self.server.join().unwrap()
    }
}

/// Every request there is.
pub fn all() -> &'static [Mid] {
    Mid::REQUESTS
}

/// Runs `script` against a client that has mounted.
pub fn session<T: Send + 'static>(script: impl FnOnce(Peer) -> T + Send + 'static) -> Session<T> {
    session_with(all(), 2093056, script)
}

/// As [`session`], with other terms.
pub fn session_with<T: Send + 'static>(
    supported: &'static [Mid],
    max_message_size: u32,
    script: impl FnOnce(Peer) -> T + Send + 'static,
) -> Session<T> {
    let (stream, server) = start(move |peer| {
        peer.mount(supported, max_message_size);
        script(peer)
    });
    let fs = connect(stream, socket_only()).unwrap();
    let root = fs.root(&call()).unwrap();
    Session { fs, root, server }
}

/// Runs `script` on the other end of the returned stream.
pub fn start<T: Send + 'static>(
    script: impl FnOnce(Peer) -> T + Send + 'static,
) -> (Stream, JoinHandle<T>) {
    let (ours, theirs) = Stream::pair().unwrap();
    (
        ours,
        std::thread::spawn(move || script(Peer { stream: theirs })),
    )
}

/// Connects to a server that runs `script`.
pub fn connecting<T: Send + 'static>(
    config: Config,
    script: impl FnOnce(Peer) -> T + Send + 'static,
) -> (Result<Arc<dyn RemoteFilesystem>, ConnectError>, T) {
    let (stream, server) = start(script);
    let result = connect(stream, config);
    (result, server.join().unwrap())
}

/// A call that must not take long: a hang fails the test instead of stopping all.
pub fn call() -> Call<'static> {
    Call {
        deadline: Some(Instant::now() + Duration::from_secs(20)),
        cancel: None,
    }
}

/// A call that gives up soon.
pub fn short_call() -> Call<'static> {
    Call {
        deadline: Some(Instant::now() + Duration::from_millis(60)),
        cancel: None,
    }
}

/// A pipe whose copies in this process can be counted.
pub struct Marked {
    pub reader: OwnedFd,
    pub writer: OwnedFd,
}

impl Marked {
    pub fn new() -> Marked {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        Marked { reader, writer }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }

    /// Descriptors of this process that are this pipe, its own two left out.
    pub fn copies(&self) -> usize {
        let name = |path: std::path::PathBuf| std::fs::read_link(path).ok();
        let own = std::os::fd::AsRawFd::as_raw_fd(&self.reader);
        let target = name(format!("/proc/self/fd/{own}").into()).unwrap();
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let all = open.filter(|entry| name(entry.as_ref().unwrap().path()) == Some(target.clone()));
        all.count() - 2
    }
}

/// The bytes of a frame with this header and payload.
pub fn frame(mid: u16, payload: &[u8]) -> Vec<u8> {
    let header = SocketHeader::new(Mid::new(mid), payload.len() as u32);
    [header.as_bytes(), payload].concat()
}
