//! The reader's role: takes off the stream whatever has arrived, and gives each reply to whom it
//! belongs.
//!
//! One receive takes as much as there is, and small replies are cut from it. A large message
//! that is not all there gets the rest of its bytes where they belong, without a copy. A reader
//! may leave in the middle of a message; the next one goes on there.

mod buffer;
mod sink;

use std::sync::atomic::Ordering::Relaxed;

use gofer_transport::Wait;

use self::buffer::Buffer;
pub(super) use self::sink::{Piece, Sink};
use super::exchange::gave_up;
use super::session::{Session, State, Waiter};
use super::table::{Expected, Reply, Violation};
use crate::trace;
use crate::wire::{Data, HEADER_SIZE, Header, Message, RMessage, Rread, Tag};

/// Bytes of the count before the data of an Rread.
const COUNT_SIZE: usize = 4;

/// A message above this size is not waited for in the buffer. A reader that expects so much data
/// asks for no more than this at first, so that not more has to be copied.
const SMALL_MAX: usize = 4096;

/// Bytes that are skipped by one receive.
const SKIP_SIZE: usize = 64 << 10;

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

/// Who reads, and what for.
pub(super) struct Reading<'r, 's, 'a, 'b> {
    pub(super) waiter: Option<usize>,
    pub(super) sink: Option<&'r mut Sink<'a, 'b>>,
    pub(super) wait: &'r Wait<'s>,
}

/// Where the stream stands.
pub(super) struct Incoming {
    msize: u32,
    /// What has arrived: the beginning of a message, or nothing, while `large` is there.
    buffer: Buffer,
    large: Option<Large>,
    scratch: Vec<u8>,
}

/// A message whose beginning has arrived, and whose rest will not go by way of the buffer.
struct Large {
    header: Header,
    /// Bytes of it that have not arrived.
    left: usize,
    reply: Reply,
    to: To,
}

/// Where the next bytes of a large message go.
#[derive(Clone, Copy)]
enum To {
    /// The body of the reply, from here on.
    Body(usize),
    /// The reader's buffers, between these offsets; the rest nowhere.
    Sink(usize, usize),
    Nowhere,
}

impl Large {
    /// Whether it goes to the buffers of the reader who met it.
    fn is_placed(&self) -> bool {
        matches!(self.to, To::Sink(..))
    }
}

impl Incoming {
    pub(super) fn new(msize: u32) -> Incoming {
        Incoming {
            msize,
            buffer: Buffer::new(),
            large: None,
            scratch: Vec::new(),
        }
    }

    /// Takes in at least one message, and all others that came along. Returns whether the waiter
    /// who reads now has all its replies.
    pub(super) fn next(
        &mut self,
        session: &Session,
        reading: &mut Reading<'_, '_, '_, '_>,
    ) -> Result<bool, End> {
        loop {
            let finished = match self.large.take() {
                Some(large) => Some(self.finish(session, large, reading)?),
                None => {
                    let room = reading.room();
                    let received = self.buffer.receive(&session.stream, room, reading.wait);
                    counted(session, received, reading.wait)?;
                    None
                }
            };
            if session.tracer.is_on() {
                self.buffer.each_whole(self.msize, |tag, kind, body| {
                    session.trace_reply(tag, kind, body);
                });
            }
            let mut state = session.lock();
            let mut delivered = finished.is_some();
            if let Some((tag, reply)) = finished {
                deliver(&mut state, tag, reply)?;
            }
            self.buffer.assign(self.msize, &mut state.table);
            while let Some((tag, reply)) = self.cut(&mut state, reading)? {
                deliver(&mut state, tag, reply)?;
                delivered = true;
            }
            if delivered {
                let waiter = reading.waiter.and_then(|own| state.waiters.get(own));
                let enough = waiter.is_some_and(Waiter::has_enough);
                // Whoever reads next has other buffers: what has begun to go to ours ends there.
                if enough && self.large.as_ref().is_some_and(Large::is_placed) {
                    continue;
                }
                return Ok(enough);
            }
        }
    }

    /// The next reply in the buffer, if it is whole. A large one that is not is begun.
    fn cut(
        &mut self,
        state: &mut State,
        reading: &mut Reading<'_, '_, '_, '_>,
    ) -> Result<Option<(Tag, Reply)>, End> {
        let Some(header) = self.buffer.header(self.msize)? else {
            return Ok(None);
        };
        let (size, have) = (header.size as usize, self.buffer.len());
        // Of a large message enough must be there to say where the rest goes.
        if have < size && (size <= SMALL_MAX || have < HEADER_SIZE + COUNT_SIZE) {
            return Ok(None);
        }
        let Expected {
            mut body,
            takes_fd,
            waiter,
        } = state.table.expect(header.kind, header.tag)?;
        let fd = self.buffer.take_fd().filter(|_| takes_fd);
        let content = self.buffer.take(size);
        let content = content.get(HEADER_SIZE..).unwrap_or_default();
        body.clear();
        let own = reading.waiter.is_some() && waiter == reading.waiter;
        let placed = match own && header.kind == Rread::KIND {
            true => reading.place(header, content)?,
            false => None,
        };
        let to = placed.map_or(To::Body(content.len()), |(to, _)| to);
        if placed.is_none() {
            body.extend_from_slice(content);
            // What a peer announces is bounded by msize.
            body.resize(header.body_size(), 0);
        }
        let reply = Reply {
            kind: header.kind,
            body,
            fd,
            placed: placed.map(|(_, len)| len),
        };
        if have >= size {
            return Ok(Some((header.tag, reply)));
        }
        self.large = Some(Large {
            header,
            left: size - have,
            reply,
            to,
        });
        Ok(None)
    }

    /// Receives what is left of a large message. A reader that leaves lets its data be skipped.
    fn finish(
        &mut self,
        session: &Session,
        mut large: Large,
        reading: &mut Reading<'_, '_, '_, '_>,
    ) -> Result<(Tag, Reply), End> {
        while large.left > 0 {
            if let Err(end) = self.receive_large(session, &mut large, reading) {
                if let To::Sink(..) = large.to {
                    (large.to, large.reply.placed) = (To::Nowhere, None);
                }
                self.large = Some(large);
                return Err(end);
            }
        }
        let Large { header, reply, .. } = large;
        session.trace_taken(header.tag, &reply);
        Ok((header.tag, reply))
    }

    fn receive_large(
        &mut self,
        session: &Session,
        large: &mut Large,
        reading: &mut Reading<'_, '_, '_, '_>,
    ) -> Result<(), End> {
        let room = reading.room();
        let part = match (large.to, &mut reading.sink) {
            (To::Body(at), _) => large.reply.body.get_mut(at..).unwrap_or_default(),
            (To::Sink(at, end), Some(sink)) if at < end => sink.part(at, end - at),
            // Surplus bytes are legal; nobody sends them.
            _ => {
                self.scratch.resize(SKIP_SIZE, 0);
                self.scratch.as_mut_slice()
            }
        };
        let size = part.len().min(large.left);
        let part = part.get_mut(..size).unwrap_or_default();
        let count = if size == large.left {
            // What comes behind comes along.
            let stream = &session.stream;
            let received = self.buffer.receive_behind(stream, part, room, reading.wait);
            counted(session, received, reading.wait)?.min(size)
        } else {
            let received = session.stream.receive(part, None, reading.wait);
            counted(session, received, reading.wait)?
        };
        large.left -= count;
        match &mut large.to {
            To::Body(at) | To::Sink(at, _) => *at += count,
            To::Nowhere => {}
        }
        Ok(())
    }
}

impl<'r, 's> Reading<'r, 's, '_, '_> {
    /// By somebody who waits for nothing itself.
    pub(super) fn for_others(wait: &'r Wait<'s>) -> Self {
        Reading {
            waiter: None,
            sink: None,
            wait,
        }
    }

    /// Most bytes to ask for between two messages.
    fn room(&self) -> usize {
        let bulk = |sink: &Sink<'_, '_>| {
            let mut pieces = sink.pieces.iter();
            pieces.any(|piece| piece.len > Buffer::SIZE / 2)
        };
        match self.sink.as_deref().is_some_and(bulk) {
            true => SMALL_MAX,
            false => Buffer::SIZE,
        }
    }

    /// Puts the beginning of an Rread where it belongs, if the reader has a place for it, and
    /// returns where the rest goes, and how much all of it is.
    fn place(&mut self, header: Header, content: &[u8]) -> Result<Option<(To, usize)>, End> {
        let Some(sink) = self.sink.as_deref_mut() else {
            return Ok(None);
        };
        let (Some(piece), Some((count, data))) = (
            sink.piece(header.tag),
            content.split_first_chunk::<COUNT_SIZE>(),
        ) else {
            return Ok(None);
        };
        let len = usize::try_from(u32::from_le_bytes(*count)).unwrap_or(usize::MAX);
        if len > piece.len || len > header.body_size() - COUNT_SIZE {
            return Err(End::Lost("more data than was asked for"));
        }
        let data = data.get(..len).unwrap_or(data);
        sink.fill(piece.start, data);
        let (at, end) = (piece.start + data.len(), piece.start + len);
        Ok(Some((To::Sink(at, end), len)))
    }
}

/// Hands a reply over, and wakes its waiter when that has all of them.
fn deliver(state: &mut State, tag: Tag, reply: Reply) -> Result<(), End> {
    if let Some(waiter) = state.table.deliver(tag, reply)? {
        state.answered(waiter);
    }
    Ok(())
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
            #[cfg(test)]
            session.counts.receives.fetch_add(1, Relaxed);
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
    /// Writes a line for a reply whose data may be in place.
    pub(super) fn trace_taken(&self, tag: Tag, reply: &Reply) {
        match reply.placed {
            Some(count) => self.tracer.line(|| {
                let data = Data::apart(count);
                trace::Received(tag, Rread { data }.into())
            }),
            None => self.trace_reply(tag, reply.kind, &reply.body),
        }
    }

    /// Writes a line for a reply.
    fn trace_reply(&self, tag: Tag, kind: u8, body: &[u8]) {
        if self.tracer.is_on()
            && let Ok(message) = RMessage::decode(kind, body)
        {
            self.tracer.line(|| trace::Received(tag, message));
        }
    }
}
