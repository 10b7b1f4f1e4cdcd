//! A server for tests: the other end of a socket pair, and a thread that plays it.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::thread::JoinHandle;
use std::time::Instant;

use gofer_transport::{Stream, Wait};
use gofer_vfs::remote::{Call, Found};

use crate::client::{Config, Filesystem, RemoteFilesystem};
use crate::wire::{
    AttrBlock, GetattrMask, HEADER_SIZE, Header, MSIZE_MAX, Qid, QidType, RMessage, Rattach,
    Rgetattr, Rlerror, Rversion, TMessage, Tag, Tversion, Version,
};

/// A request as it came.
pub(super) struct Incoming {
    pub(super) tag: Tag,
    pub(super) kind: u8,
    body: Vec<u8>,
}

impl Incoming {
    pub(super) fn message(&self) -> TMessage<'_> {
        TMessage::decode(self.kind, &self.body).unwrap()
    }
}

/// The server's end.
pub(super) struct Peer {
    stream: Stream,
}

impl Peer {
    /// The next request; `None` when the client has hung up.
    pub(super) fn next(&self) -> Option<Incoming> {
        self.next_head().map(|header| self.next_body(header))
    }

    /// The header of the next request.
    pub(super) fn next_head(&self) -> Option<Header> {
        let mut head = [0; HEADER_SIZE];
        let wait = Wait::default();
        if !self
            .stream
            .receive_exact(&mut head, None, &wait)
            .unwrap_or(false)
        {
            return None;
        }
        Some(Header::decode(&head, MSIZE_MAX).unwrap())
    }

    /// The rest of a request.
    pub(super) fn next_body(&self, header: Header) -> Incoming {
        let mut body = vec![0; header.body_size()];
        assert!(
            self.stream
                .receive_exact(&mut body, None, &Wait::default())
                .unwrap()
        );
        Incoming {
            tag: header.tag,
            kind: header.kind,
            body,
        }
    }

    /// Whether another request waits.
    pub(super) fn has_input(&self) -> bool {
        let now = Wait {
            deadline: Some(Instant::now()),
            cancel: None,
        };
        self.stream.wait_input(&now).is_ok()
    }

    /// The next request, which must come, and is a `name`.
    pub(super) fn expect(&self, name: &str) -> Incoming {
        let incoming = self
            .next()
            .unwrap_or_else(|| panic!("hung up before {name}"));
        assert_eq!(incoming.message().name(), name);
        incoming
    }

    pub(super) fn reply<'a>(&self, tag: Tag, message: impl Into<RMessage<'a>>) {
        self.reply_with(tag, message, &[]);
    }

    pub(super) fn reply_with<'a>(
        &self,
        tag: Tag,
        message: impl Into<RMessage<'a>>,
        fds: &[BorrowedFd<'_>],
    ) {
        self.send(&bytes(tag, message), fds);
    }

    /// As [`Peer::reply`], and says whether the client took it.
    pub(super) fn try_reply<'a>(
        &self,
        tag: Tag,
        message: impl Into<RMessage<'a>>,
    ) -> std::io::Result<()> {
        self.stream
            .send(&[IoSlice::new(&bytes(tag, message))], &[], &Wait::default())
    }

    pub(super) fn error(&self, tag: Tag, errno: u32) {
        self.reply(tag, Rlerror { ecode: errno });
    }

    /// Sends bytes as they are. That the client is gone already is no fault.
    pub(super) fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let _ = self
            .stream
            .send(&[IoSlice::new(bytes)], fds, &Wait::default());
    }

    /// Answers Tversion with what was asked.
    pub(super) fn agree(&self) {
        let incoming = self.expect("Tversion");
        let TMessage::Tversion(Tversion { msize, version }) = incoming.message() else {
            return;
        };
        self.reply(incoming.tag, Rversion { msize, version });
    }

    /// Answers the requests of [`RemoteFilesystem::root`].
    pub(super) fn attach(&self) {
        let attach = self.expect("Tattach");
        self.reply(attach.tag, Rattach { qid: dir(1) });
        self.getattr(dir(1), 0o40755);
    }

    /// Answers a Tgetattr.
    pub(super) fn getattr(&self, qid: Qid, mode: u32) {
        let incoming = self.expect("Tgetattr");
        self.reply(incoming.tag, attr(qid, mode));
    }

    /// Takes whatever comes until the client hangs up, and returns the names of it.
    pub(super) fn drain(&self) -> Vec<&'static str> {
        std::iter::from_fn(|| self.next().map(|incoming| incoming.message().name())).collect()
    }
}

pub(super) fn bytes<'a>(tag: Tag, message: impl Into<RMessage<'a>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.into().encode(tag, &mut bytes);
    bytes
}

pub(super) fn dir(path: u64) -> Qid {
    Qid {
        kind: QidType::DIR,
        version: 0,
        path,
    }
}

pub(super) fn file(path: u64) -> Qid {
    Qid {
        kind: QidType::empty(),
        version: 0,
        path,
    }
}

pub(super) fn attr(qid: Qid, mode: u32) -> Rgetattr {
    Rgetattr {
        valid: GetattrMask::BASIC,
        qid,
        attr: block(mode),
    }
}

pub(super) fn block(mode: u32) -> AttrBlock {
    AttrBlock {
        mode,
        nlink: 1,
        ..AttrBlock::default()
    }
}

/// A peer that `script` plays on a thread, and the client's end.
pub(super) fn play<T: Send + 'static>(
    script: impl FnOnce(Peer) -> T + Send + 'static,
) -> (Stream, JoinHandle<T>) {
    let (ours, theirs) = Stream::pair().unwrap();
    (
        ours,
        std::thread::spawn(move || script(Peer { stream: theirs })),
    )
}

/// As [`play`], over a pipe for each direction.
pub(super) fn play_over_pipes<T: Send + 'static>(
    script: impl FnOnce(Peer) -> T + Send + 'static,
) -> (Stream, JoinHandle<T>) {
    let (there_out, here_in) = rustix::pipe::pipe().map(|(r, w)| (w, r)).unwrap();
    let (there_in, here_out) = rustix::pipe::pipe().unwrap();
    let stream = Stream::from_pipes(there_in, there_out).unwrap();
    let thread = std::thread::spawn(move || script(Peer { stream }));
    (Stream::from_pipes(here_in, here_out).unwrap(), thread)
}

/// A connection of `version` whose peer goes on with `script` after the attach.
pub(super) fn attached<T: Send + 'static>(
    version: Version,
    script: impl FnOnce(Peer) -> T + Send + 'static,
) -> (Filesystem, Found, JoinHandle<T>) {
    attached_with(Config::default(), version, script)
}

pub(super) fn attached_with<T: Send + 'static>(
    config: Config,
    version: Version,
    script: impl FnOnce(Peer) -> T + Send + 'static,
) -> (Filesystem, Found, JoinHandle<T>) {
    let (stream, thread) = play(|peer| {
        peer.agree();
        peer.attach();
        script(peer)
    });
    let config = Config {
        version: Some(version.to_string()),
        channels: config.channels.or(Some(0)),
        ..config
    };
    let filesystem = Filesystem::connect(stream, config).unwrap();
    let root = filesystem.root(&Call::default()).unwrap();
    (filesystem, root, thread)
}
