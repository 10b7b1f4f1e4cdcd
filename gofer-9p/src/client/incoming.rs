//! The reader's role: takes messages off the stream, one at a time, for whoever they are.
//!
//! A reader may leave in the middle of a message; the next one goes on there.

use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;

use gofer_transport::{FdQueue, Wait};

use super::exchange::gave_up;
use super::session::Session;
use super::table::{Reply, Violation};
use crate::trace;
use crate::wire::{Data, HEADER_SIZE, Header, Message, RMessage, Rread, Tag};

/// Descriptors kept of one message. One is ever used; the rest is closed.
const FDS_MAX: usize = 2;

/// Why reading ended before the message did.
#[derive(Debug)]
pub(super) enum End {
    /// The reader's time is up, or it was cancelled.
    GaveUp,
    /// The connection is of no more use.
    Lost(&'static str),
}

impl From<Violation> for End {
    fn from(violation: Violation) -> End {
        End::Lost(violation.0)
    }
}

/// Where the stream stands.
pub(super) struct Incoming {
    msize: u32,
    head: [u8; HEADER_SIZE],
    /// Bytes of `head` that are there.
    have: usize,
    fds: FdQueue,
    stage: Stage,
    scratch: Vec<u8>,
}

enum Stage {
    /// Before or in a header.
    Head,
    /// In a body that goes to a buffer.
    Body {
        header: Header,
        body: Vec<u8>,
        filled: usize,
        fd: Option<OwnedFd>,
    },
    /// In data that nobody wants any more.
    Skip { header: Header, left: usize },
}

/// The buffers of somebody who reads a file: data goes there from the socket.
pub(super) struct Sink<'a, 'b> {
    pub(super) into: &'a mut [IoSliceMut<'b>],
    pub(super) pieces: &'a [Piece],
}

/// Where the data of one Rread belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) tag: Tag,
    /// Offset in the buffers, taken as one.
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Sink<'_, '_> {
    /// The buffer at `start`, as far as it is in one piece, at most `len` bytes.
    pub(super) fn part(&mut self, mut start: usize, len: usize) -> &mut [u8] {
        for buffer in self.into.iter_mut() {
            if start < buffer.len() {
                let end = buffer.len().min(start.saturating_add(len));
                return buffer.get_mut(start..end).unwrap_or_default();
            }
            start -= buffer.len();
        }
        &mut []
    }

    fn piece(&self, tag: Tag) -> Option<Piece> {
        self.pieces.iter().find(|piece| piece.tag == tag).copied()
    }
}

impl Incoming {
    pub(super) fn new(msize: u32) -> Incoming {
        Incoming {
            msize,
            head: [0; HEADER_SIZE],
            have: 0,
            fds: FdQueue::new(FDS_MAX),
            stage: Stage::Head,
            scratch: Vec::new(),
        }
    }

    /// Takes in one message. Returns whether `waiter` now has all its replies.
    pub(super) fn next(
        &mut self,
        session: &Session,
        waiter: Option<usize>,
        sink: Option<&mut Sink<'_, '_>>,
        wait: &Wait<'_>,
    ) -> Result<bool, End> {
        if let Stage::Head = self.stage {
            self.receive_head(session, wait)?;
            let header = Header::decode(&self.head, self.msize)
                .map_err(|_| End::Lost("message of an impossible size"))?;
            self.have = 0;
            if let Some(reply) = self.begin(session, header, waiter, sink, wait)? {
                return deliver(session, header.tag, reply, waiter);
            }
        }
        let (tag, reply) = self.finish(session, wait)?;
        deliver(session, tag, reply, waiter)
    }

    /// Receives up to the end of the header, with room for a descriptor: the first byte brings
    /// it (9P 10.2).
    fn receive_head(&mut self, session: &Session, wait: &Wait<'_>) -> Result<(), End> {
        while let Some(rest) = self
            .head
            .get_mut(self.have..)
            .filter(|rest| !rest.is_empty())
        {
            let received = session.stream.receive(rest, Some(&mut self.fds), wait);
            self.have += counted(session, received, wait)?;
        }
        Ok(())
    }

    /// Decides where the body goes. Data for the sink is received here and now.
    fn begin(
        &mut self,
        session: &Session,
        header: Header,
        waiter: Option<usize>,
        sink: Option<&mut Sink<'_, '_>>,
        wait: &Wait<'_>,
    ) -> Result<Option<Reply>, End> {
        let expected = session.lock().table.expect(header.kind, header.tag)?;
        let fd = self.fds.pop().filter(|_| expected.takes_fd);
        self.fds.clear();
        let own = waiter.is_some() && expected.waiter == waiter && header.kind == Rread::KIND;
        let (mut body, size) = (expected.body, header.body_size());
        if let Some(sink) = sink.filter(|_| own)
            && let Some(piece) = sink.piece(header.tag)
            && size >= 4
        {
            return self
                .receive_data(session, header, body, sink, piece, wait)
                .map(Some);
        }
        // The buffer was used before, or is small: what a peer announces is bounded by msize.
        body.clear();
        body.resize(size, 0);
        self.stage = Stage::Body {
            header,
            body,
            filled: 0,
            fd,
        };
        Ok(None)
    }

    /// Receives the body of an Rread straight to where it belongs.
    fn receive_data(
        &mut self,
        session: &Session,
        header: Header,
        mut body: Vec<u8>,
        sink: &mut Sink<'_, '_>,
        piece: Piece,
        wait: &Wait<'_>,
    ) -> Result<Reply, End> {
        let mut left = header.body_size();
        let mut count = [0; 4];
        let mut at = 0;
        while let Some(rest) = count.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let received = session.stream.receive(rest, None, wait);
            at += self.counted_or_skip(session, header, left, received, wait)?;
            left = header.body_size() - at;
        }
        let len = usize::try_from(u32::from_le_bytes(count)).unwrap_or(usize::MAX);
        if len > piece.len || len > left {
            return Err(End::Lost("more data than was asked for"));
        }
        let mut start = piece.start;
        let end = piece.start + len;
        while start < end {
            let part = sink.part(start, end - start);
            let received = session.stream.receive(part, None, wait);
            let received = self.counted_or_skip(session, header, left, received, wait)?;
            (start, left) = (start + received, left - received);
        }
        session.tracer.line(|| {
            trace::Received(
                header.tag,
                Rread {
                    data: Data::apart(len),
                }
                .into(),
            )
        });
        // Surplus bytes are legal; nobody sends them.
        self.stage = Stage::Skip { header, left };
        self.finish(session, wait)?;
        body.clear();
        Ok(Reply {
            kind: header.kind,
            body,
            fd: None,
            placed: Some(len),
        })
    }

    /// As [`counted`]; a reader that leaves lets the rest of the data be skipped.
    fn counted_or_skip(
        &mut self,
        session: &Session,
        header: Header,
        left: usize,
        received: std::io::Result<usize>,
        wait: &Wait<'_>,
    ) -> Result<usize, End> {
        let result = counted(session, received, wait);
        if let Err(End::GaveUp) = result {
            self.stage = Stage::Skip { header, left };
        }
        result
    }

    /// Receives what is left of the message.
    fn finish(&mut self, session: &Session, wait: &Wait<'_>) -> Result<(Tag, Reply), End> {
        match &mut self.stage {
            Stage::Head => Err(End::Lost("no message to finish")),
            Stage::Body {
                header,
                body,
                filled,
                fd,
            } => {
                while let Some(rest) = body.get_mut(*filled..).filter(|rest| !rest.is_empty()) {
                    let received = session.stream.receive(rest, None, wait);
                    *filled += counted(session, received, wait)?;
                }
                let reply = Reply {
                    kind: header.kind,
                    body: std::mem::take(body),
                    fd: fd.take(),
                    placed: None,
                };
                let tag = header.tag;
                self.stage = Stage::Head;
                session.trace_reply(tag, reply.kind, &reply.body);
                Ok((tag, reply))
            }
            Stage::Skip { header, left } => {
                self.scratch.resize((*left).min(64 << 10), 0);
                while *left > 0 {
                    let size = self.scratch.len().min(*left);
                    let part = self.scratch.get_mut(..size).unwrap_or_default();
                    let received = session.stream.receive(part, None, wait);
                    *left -= counted(session, received, wait)?;
                }
                let (tag, kind) = (header.tag, header.kind);
                self.stage = Stage::Head;
                Ok((
                    tag,
                    Reply {
                        kind,
                        ..Reply::default()
                    },
                ))
            }
        }
    }
}

fn deliver(session: &Session, tag: Tag, reply: Reply, reader: Option<usize>) -> Result<bool, End> {
    let mut state = session.lock();
    let Some(waiter) = state.table.deliver(tag, reply)? else {
        return Ok(false);
    };
    state.answered(waiter);
    let done = state
        .waiters
        .get(waiter)
        .is_some_and(|waiter| waiter.pending == 0);
    Ok(done && reader == Some(waiter))
}

/// Sorts out how a receive went; the end of the stream is the end of the connection.
fn counted(
    session: &Session,
    received: std::io::Result<usize>,
    wait: &Wait<'_>,
) -> Result<usize, End> {
    match received {
        Ok(0) => Err(End::Lost("the server hung up")),
        Ok(count) => {
            session
                .counts
                .bytes_received
                .fetch_add(count as u64, Relaxed);
            Ok(count)
        }
        Err(_) if gave_up(wait).is_some() => Err(End::GaveUp),
        Err(_) => Err(End::Lost("receiving failed")),
    }
}

impl Session {
    /// Writes a line for a reply.
    fn trace_reply(&self, tag: Tag, kind: u8, body: &[u8]) {
        if self.tracer.is_on()
            && let Ok(message) = RMessage::decode(kind, body)
        {
            self.tracer.line(|| trace::Received(tag, message));
        }
    }
}
