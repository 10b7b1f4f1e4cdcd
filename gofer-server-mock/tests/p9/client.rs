//! A 9P client that sends what it is told, right or wrong.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use gofer_9p::wire::{
    Fid, HEADER_SIZE, Header, Message, NO_ID, Names, OpenFlags, Qid, RMessage, Request, Rlerror,
    Rversion, Tag, Tattach, Tclunk, Tlopen, Tread, Tversion, Twalk,
};
use gofer_server_mock::host::{Export, Policy};
use gofer_server_mock::limits::Limits;
use gofer_server_mock::server::{Protocol, spawn};
use gofer_transport::codec::Reader;
use gofer_transport::{FdQueue, Stream, Wait};

use crate::common::PATIENCE;

/// The fid that [`Client::attached`] makes.
pub const ROOT: Fid = Fid(0);

/// The dialect with everything.
pub const GOOGLE: &str = "9P2000.L.Google.13";

/// The base dialect.
pub const BASE: &str = "9P2000.L";

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub kind: u8,
    pub tag: Tag,
    pub body: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

impl Answer {
    /// The message, as any.
    pub fn message(&self) -> RMessage<'_> {
        RMessage::decode(self.kind, &self.body).unwrap()
    }

    /// The message, which has to be of this type.
    pub fn of<'a, M: Message<'a>>(&'a self) -> M {
        assert_eq!(self.kind, M::KIND, "{:?} is no {}", self.message(), M::NAME);
        M::decode(&mut Reader::new(&self.body)).unwrap()
    }

    /// The number in an Rlerror.
    pub fn error(&self) -> Option<u32> {
        (self.kind == Rlerror::KIND).then(|| self.of::<Rlerror>().ecode)
    }
}

#[derive(Debug)]
pub struct Client {
    pub stream: Arc<Stream>,
}

impl Client {
    /// A client of a server in this process.
    pub fn of(export: &Arc<Export>) -> Client {
        Client::with_limits(export, Limits::default()).0
    }

    /// As [`Client::of`], with the thread that serves.
    pub fn with_limits(
        export: &Arc<Export>,
        limits: Limits,
    ) -> (Client, JoinHandle<std::io::Result<()>>) {
        let (ours, theirs) = Stream::pair().unwrap();
        let server = spawn(theirs, export.clone(), Protocol::P9, limits).unwrap();
        (Client::on(ours), server)
    }

    pub fn on(stream: Stream) -> Client {
        Client {
            stream: Arc::new(stream),
        }
    }

    /// A client that has agreed on `version` and made [`ROOT`].
    pub fn attached(root: &Path, policy: Policy, version: &str) -> Client {
        Client::of(&Export::open(root, policy).unwrap()).start(version)
    }

    /// Agrees on `version` and makes [`ROOT`].
    pub fn start(self, version: &str) -> Client {
        let msize = 1 << 20;
        self.send(
            Tag::NONE,
            &Tversion {
                msize,
                version: version.as_bytes(),
            },
        );
        let answer = self.receive().unwrap();
        assert_eq!(
            answer.of::<Rversion>(),
            Rversion {
                msize,
                version: version.as_bytes()
            }
        );
        self.attach(ROOT, b"").unwrap();
        self
    }

    /// Sends bytes that may be no message at all.
    pub fn send_bytes(&self, bytes: &[u8]) {
        let wait = Wait {
            deadline: Some(Instant::now() + PATIENCE),
            cancel: None,
        };
        self.stream
            .send(&[IoSlice::new(bytes)], &[], &wait)
            .unwrap();
    }

    pub fn send<'m>(&self, tag: Tag, message: &impl Message<'m>) {
        let mut bytes = Vec::new();
        message.encode(tag, &mut bytes);
        self.send_bytes(&bytes);
    }

    /// Receives a message; `None` at the end of the stream.
    pub fn receive(&self) -> Option<Answer> {
        let wait = Wait {
            deadline: Some(Instant::now() + PATIENCE),
            cancel: None,
        };
        let mut fds = FdQueue::new(8);
        let mut head = [0; HEADER_SIZE];
        match self.stream.receive_exact(&mut head, Some(&mut fds), &wait) {
            Ok(true) => {}
            Ok(false) => return None,
            // A server that hangs up before it has read all resets the connection.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("receive: {error}"),
        }
        let header = Header::decode(&head, u32::MAX).unwrap();
        let mut body = vec![0; header.body_size()];
        if !body.is_empty() {
            assert!(self.stream.receive_exact(&mut body, None, &wait).unwrap());
        }
        Some(Answer {
            kind: header.kind,
            tag: header.tag,
            body,
            fds: std::iter::from_fn(|| fds.pop()).collect(),
        })
    }

    /// Sends a request and receives its reply, or the number in an Rlerror.
    pub fn ask<'m, M: Request<'m>>(&self, request: &M) -> Result<Answer, u32> {
        self.send(Tag(1), request);
        let answer = self.receive().expect("the server hung up");
        assert_eq!(answer.tag, Tag(1));
        match answer.error() {
            Some(ecode) => Err(ecode),
            None => {
                assert_eq!(answer.kind, M::KIND + 1, "{:?}", answer.message());
                Ok(answer)
            }
        }
    }

    pub fn attach(&self, fid: Fid, aname: &[u8]) -> Result<Answer, u32> {
        self.ask(&Tattach {
            fid,
            afid: Fid::NONE,
            uname: b"",
            aname,
            n_uname: NO_ID,
        })
    }

    /// Makes `fid` the root for a user, by number or by name.
    pub fn attach_as(&self, fid: Fid, uname: &str, n_uname: u32) -> Result<Answer, u32> {
        self.ask(&Tattach {
            fid,
            afid: Fid::NONE,
            uname: uname.as_bytes(),
            aname: b"",
            n_uname,
        })
    }

    /// Walks; the qids.
    pub fn walk(&self, fid: Fid, newfid: Fid, names: &[&str]) -> Result<Vec<Qid>, u32> {
        let names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        let wnames = Names::new(&names);
        let answer = self.ask(&Twalk {
            fid,
            newfid,
            wnames,
        })?;
        let qids = answer
            .of::<gofer_9p::wire::Rwalk<'_>>()
            .wqids
            .iter()
            .collect();
        Ok(qids)
    }

    /// Walks to a file from the root and opens it.
    pub fn open(&self, newfid: Fid, names: &[&str], flags: OpenFlags) -> Result<Answer, u32> {
        self.walk(ROOT, newfid, names)?;
        self.ask(&Tlopen { fid: newfid, flags })
    }

    pub fn clunk(&self, fid: Fid) -> Result<Answer, u32> {
        self.ask(&Tclunk { fid })
    }

    pub fn read(&self, fid: Fid, offset: u64, count: u32) -> Result<Vec<u8>, u32> {
        let answer = self.ask(&Tread { fid, offset, count })?;
        Ok(answer
            .of::<gofer_9p::wire::Rread<'_>>()
            .data
            .as_bytes()
            .to_vec())
    }
}
