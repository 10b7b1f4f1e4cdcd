//! The first messages of a connection: which dialect, and how large a message (9P 4).

use std::io::{self, IoSlice};
use std::sync::atomic::Ordering::Relaxed;

use gofer_transport::codec::Reader;
use gofer_transport::{FdQueue, Stream, Tracer, TransportKind, Wait};
use gofer_vfs::Errno;

use super::ConnectError;
use super::session::Counts;
use crate::trace;
use crate::wire::{
    HEADER_SIZE, Header, MSIZE_MAX, MSIZE_MIN, Message, RMessage, Rlerror, Rversion, Tag, Tversion,
    Version,
};

/// A reply to Tversion is small.
const REPLY_SIZE_MAX: u32 = 8192;

/// What both sides agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Agreed {
    pub(super) version: Version,
    pub(super) msize: u32,
}

/// What the server made of one Tversion.
enum Answer {
    Speaks(Agreed),
    /// A smaller level may do.
    Smaller,
    /// `unknown`, or a string that says nothing to us.
    Other(String),
    Refused(Errno),
}

/// Agrees on a version. `asked` is exact, but for the countdown of levels that the protocol
/// has; without it the newest dialect is tried first where descriptors may travel.
pub(super) fn negotiate(
    link: &Link<'_>,
    asked: Option<Version>,
    msize: u32,
) -> Result<Agreed, ConnectError> {
    let msize = msize.clamp(MSIZE_MIN, MSIZE_MAX);
    let newest = match link.stream.kind() {
        TransportKind::Unix | TransportKind::Pipes => Version::NEWEST,
        TransportKind::Tcp => Version::Base,
    };
    let mut version = asked.unwrap_or(newest);
    loop {
        let answer = link.ask(version, msize)?;
        version = match (answer, version) {
            (Answer::Speaks(agreed), _) if asked.is_some() && agreed.version != version => {
                return Err(version_error(version, agreed.version.to_string()));
            }
            (Answer::Speaks(agreed), _) => return Ok(agreed),
            (Answer::Smaller, Version::Google(level)) if level > 1 => Version::Google(level - 1),
            (Answer::Smaller, Version::Google(_)) => Version::Base,
            // The base is asked for once, whatever was wrong with the rest.
            (Answer::Other(_) | Answer::Refused(_), Version::Google(_)) if asked.is_none() => {
                Version::Base
            }
            (Answer::Other(got), _) => return Err(version_error(version, got)),
            (Answer::Smaller, Version::Base) => return Err(refused(Errno::EAGAIN)),
            (Answer::Refused(errno), _) => return Err(refused(errno)),
        };
    }
}

fn version_error(asked: Version, got: String) -> ConnectError {
    ConnectError::Version {
        asked: asked.to_string(),
        got,
    }
}

fn refused(errno: Errno) -> ConnectError {
    ConnectError::Refused {
        what: "version",
        errno,
    }
}

/// A connection before anything is agreed on: one message at a time.
pub(super) struct Link<'a> {
    pub(super) stream: &'a Stream,
    pub(super) tracer: &'a Tracer,
    pub(super) counts: &'a Counts,
    pub(super) wait: Wait<'a>,
}

impl Link<'_> {
    fn ask(&self, version: Version, msize: u32) -> Result<Answer, ConnectError> {
        let text = version.to_string();
        let request = Tversion {
            msize,
            version: text.as_bytes(),
        };
        let mut bytes = Vec::new();
        request.encode(Tag::NONE, &mut bytes);
        self.tracer.line(|| trace::Sent(Tag::NONE, request.into()));
        self.stream
            .send(&[IoSlice::new(&bytes)], &[], &self.wait)
            .map_err(ConnectError::from_io)?;
        self.counts.round_trips.fetch_add(1, Relaxed);
        self.counts.requests.fetch_add(1, Relaxed);
        self.counts
            .bytes_sent
            .fetch_add(bytes.len() as u64, Relaxed);
        let (header, body) = self.receive()?;
        let garbage = |_| ConnectError::Protocol("the reply does not decode".into());
        let message = RMessage::decode(header.kind, &body).map_err(garbage)?;
        self.tracer.line(|| trace::Received(header.tag, message));
        // gVisor's server answers with the tag it was given, others must.
        if header.tag != Tag::NONE {
            return Err(ConnectError::Protocol("the reply has another tag".into()));
        }
        let mut body = Reader::new(&body);
        match header.kind {
            Rlerror::KIND => {
                let ecode = Rlerror::decode(&mut body).map_err(garbage)?.ecode;
                match Errno::from_raw(i32::try_from(ecode).unwrap_or(0)) {
                    Errno::EAGAIN => Ok(Answer::Smaller),
                    errno => Ok(Answer::Refused(errno)),
                }
            }
            Rversion::KIND => answer(
                version,
                msize,
                Rversion::decode(&mut body).map_err(garbage)?,
            ),
            _ => Err(ConnectError::Protocol(format!(
                "{} answers Tversion",
                message.name()
            ))),
        }
    }

    fn receive(&self) -> Result<(Header, Vec<u8>), ConnectError> {
        // A descriptor has no business here; whatever comes is closed.
        let mut fds = FdQueue::new(0);
        let mut head = [0; HEADER_SIZE];
        let more = self
            .stream
            .receive_exact(&mut head, Some(&mut fds), &self.wait)
            .map_err(ConnectError::from_io)?;
        if !more {
            return Err(ConnectError::Closed);
        }
        let header = Header::decode(&head, REPLY_SIZE_MAX)
            .map_err(|_| ConnectError::Protocol("the reply is no 9P message".into()))?;
        let mut body = vec![0; header.body_size()];
        let more = self
            .stream
            .receive_exact(&mut body, None, &self.wait)
            .map_err(ConnectError::from_io)?;
        if !more && !body.is_empty() {
            return Err(ConnectError::Closed);
        }
        self.counts
            .bytes_received
            .fetch_add(u64::from(header.size), Relaxed);
        Ok((header, body))
    }
}

fn answer(asked: Version, msize: u32, reply: Rversion<'_>) -> Result<Answer, ConnectError> {
    let Some(version) = Version::parse(reply.version) else {
        let got = gofer_vfs::error::printable(reply.version).into_owned();
        return Ok(Answer::Other(got));
    };
    if version.level() > asked.level() {
        return Err(version_error(asked, version.to_string()));
    }
    if reply.msize < MSIZE_MIN || reply.msize > msize {
        let text = format!(
            "asked for messages of {msize} bytes, answered {}",
            reply.msize
        );
        return Err(ConnectError::Protocol(text));
    }
    Ok(Answer::Speaks(Agreed {
        version,
        msize: reply.msize,
    }))
}

impl ConnectError {
    pub(super) fn from_io(error: io::Error) -> ConnectError {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match error.kind() {
            BrokenPipe | ConnectionReset | UnexpectedEof => ConnectError::Closed,
            _ => ConnectError::Io(error),
        }
    }
}
