//! Which requests are outstanding, and the replies on their way to the client.
//!
//! Two rules meet here (9P 3.1, 3.3): a tag is free before the reply's first byte can reach the
//! client, and nothing answers a tag after an Rflush for it. So the tag is given up and the reply
//! put in line in one step, under the lock of the line.
//!
//! # Locks
//! `line` before `tags`. Both are leaves otherwise, and nobody waits while holding them: bytes are
//! sent only as far as the kernel takes them at once.

mod tags;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use gofer_9p::wire::{Rflush, Tag};
use gofer_transport::{Stream, Wait};
use parking_lot::{Condvar, Mutex};

use super::reply::{Pace, Reply};
use tags::Tags;

/// The client broke the protocol or does not take its replies: the connection has to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Broken;

/// Who puts what is in line on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(super) enum Sending {
    /// Nobody needs to: nothing is in line, or somebody else does it.
    Done,
    /// The caller, see [`Replies::drain`]: the client does not read fast enough.
    Yours,
}

#[derive(Debug)]
pub(super) struct Replies<'a> {
    stream: &'a Stream,
    /// How long the client may take nothing at all before it is dropped.
    patience: Duration,
    line: Mutex<Line>,
    /// The line got shorter.
    shorter: Condvar,
    tags: Mutex<Tags>,
}

/// Replies that wait for the client to read.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Piece>,
    /// Bytes of the first one that have been sent.
    sent: usize,
    /// Memory of what is in line, in bytes.
    size: usize,
    /// Somebody drains the line; others only append.
    drained: bool,
    /// The stream is gone, replies are dropped.
    dead: bool,
    /// It was ended because the client takes no replies.
    starved: bool,
}

/// Bytes that are sent by calls of their own, and the descriptor that goes with the first of them
/// (9P 10.2).
#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    fd: Option<OwnedFd>,
}

impl Piece {
    fn footprint(&self) -> usize {
        size_of::<Piece>() + self.bytes.capacity()
    }
}

impl<'a> Replies<'a> {
    pub(super) fn new(stream: &'a Stream, patience: Duration) -> Replies<'a> {
        Replies {
            stream,
            patience,
            line: Mutex::default(),
            shorter: Condvar::new(),
            tags: Mutex::default(),
        }
    }

    /// Notes that `tag` is outstanding. A tag that is already is the client's mistake.
    pub(super) fn begin(&self, tag: Tag) -> Result<(), Broken> {
        match self.tags.lock().begin(tag) {
            true => Ok(()),
            false => Err(Broken),
        }
    }

    /// Ends a request with the reply in the making, and answers each Tflush that waited for it.
    /// Nothing was kept before it. `reply` may be used for the next.
    pub(super) fn finish(&self, reply: &mut Reply) -> Sending {
        let fd = reply.fd.take();
        reply.keep();
        self.send(reply, fd)
    }

    /// Ends the requests whose replies were kept, in one call.
    pub(super) fn finish_kept(&self, reply: &mut Reply) -> Sending {
        self.send(reply, None)
    }

    fn send(&self, reply: &mut Reply, fd: Option<OwnedFd>) -> Sending {
        let mut line = self.line.lock();
        let mut flushes = Vec::new();
        {
            let mut tags = self.tags.lock();
            for &tag in reply.kept_tags() {
                // Tversion has aborted it and waited for it, so it is alone.
                if !tags.end(tag, &mut flushes) {
                    reply.forget();
                    return Sending::Done;
                }
            }
        }
        line.put(self.stream, reply, fd);
        self.answer_flushes(&mut line, flushes);
        line.sending()
    }

    /// Ends a request that was not carried out, without a reply, and answers whoever flushed it.
    pub(super) fn abandon(&self, tag: Tag) -> Sending {
        let mut line = self.line.lock();
        let mut flushes = Vec::new();
        self.tags.lock().end(tag, &mut flushes);
        self.answer_flushes(&mut line, flushes);
        line.sending()
    }

    /// Carries out Tflush `tag`, which has begun: Rflush now if `old_tag` is not outstanding,
    /// otherwise behind its reply.
    pub(super) fn flush(&self, tag: Tag, old_tag: Tag) -> Sending {
        let mut line = self.line.lock();
        // A Tflush of itself would wait for ever.
        if old_tag != tag && self.tags.lock().wait_for(old_tag, tag) {
            return Sending::Done;
        }
        self.answer_flushes(&mut line, vec![tag]);
        line.sending()
    }

    /// Aborts everything for Tversion: what is still running gets no reply.
    pub(super) fn abort_all(&self) {
        let _line = self.line.lock();
        *self.tags.lock() = Tags::default();
    }

    /// Sends a reply that answers no outstanding tag: Rversion.
    pub(super) fn send_untagged(&self, reply: &mut Reply) -> Sending {
        let mut line = self.line.lock();
        reply.keep();
        line.put(self.stream, reply, None);
        line.sending()
    }

    /// Waits until the replies the client has left to read take at most `most` bytes of memory.
    pub(super) fn wait_for_room(&self, most: usize) {
        let mut line = self.line.lock();
        while line.size > most {
            self.shorter.wait(&mut line);
        }
    }

    /// Sends what is in line, waiting for the client, until nothing is. A client that takes
    /// nothing for too long is cut off.
    pub(super) fn drain(&self) {
        while self.push_line() != Sending::Done {
            self.wait_for_client(false);
        }
    }

    /// As [`Replies::drain`], but gives up when the client has something to say and does not
    /// read: then somebody else has to go on.
    pub(super) fn drain_until_input(&self) -> Sending {
        let mut sending = self.push_line();
        while sending != Sending::Done {
            let before = self.line.lock().progress();
            self.wait_for_client(true);
            sending = self.push_line();
            if self.line.lock().progress() == before {
                break;
            }
        }
        sending
    }

    /// Sends what the kernel takes at once of what is in line. For whoever drains it.
    fn push_line(&self) -> Sending {
        let mut line = self.line.lock();
        line.push(self.stream);
        self.shorter.notify_all();
        if line.waiting.is_empty() {
            line.drained = false;
            return Sending::Done;
        }
        Sending::Yours
    }

    fn wait_for_client(&self, or_input: bool) {
        let wait = Wait {
            deadline: Some(Instant::now() + self.patience),
            cancel: None,
        };
        if self.stream.wait_output(or_input, &wait).is_err() {
            self.line.lock().starved = true;
            self.close();
        }
    }

    /// Ends the stream and drops every reply, now and later.
    pub(super) fn close(&self) {
        self.stream.shutdown();
        self.line.lock().kill();
        self.shorter.notify_all();
    }

    /// Why the stream ended, if it was for the client's not reading.
    pub(super) fn verdict(&self) -> io::Result<()> {
        match self.line.lock().starved {
            true => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client takes no replies (limit: patience)",
            )),
            false => Ok(()),
        }
    }

    /// Puts Rflush in line for each of `flushes`, and for those that wait for these in turn.
    fn answer_flushes(&self, line: &mut Line, mut flushes: Vec<Tag>) {
        if flushes.is_empty() {
            return;
        }
        let mut replies = Reply::new();
        while let Some(tag) = flushes.pop() {
            if !self.tags.lock().end(tag, &mut flushes) {
                continue;
            }
            replies.begin(tag, u32::MAX, Pace::Any);
            // Seven bytes fit.
            let _ = replies.send(Rflush {});
            replies.keep();
        }
        line.put(self.stream, &mut replies, None);
    }
}

impl Line {
    /// Sends the replies that were kept in `replies`, or puts in line what is left of them. `fd` goes
    /// with their first byte.
    fn put(&mut self, stream: &Stream, replies: &mut Reply, mut fd: Option<OwnedFd>) {
        if self.dead || replies.kept().is_empty() {
            return replies.forget();
        }
        if self.waiting.is_empty() {
            self.sent = 0;
            match send_some(stream, replies.kept(), &mut fd) {
                Ok(sent) if sent == replies.kept().len() => return replies.forget(),
                Ok(sent) => self.sent = sent,
                Err(_) => {
                    replies.forget();
                    return self.kill();
                }
            }
        }
        let bytes = replies.take();
        let piece = Piece { bytes, fd };
        self.size += piece.footprint();
        self.waiting.push_back(piece);
    }

    /// Sends what the kernel takes at once.
    fn push(&mut self, stream: &Stream) {
        while let Some(first) = self.waiting.front_mut() {
            let rest = first.bytes.get(self.sent..).unwrap_or_default();
            match send_some(stream, rest, &mut first.fd) {
                Ok(sent) => self.sent += sent,
                Err(_) => return self.kill(),
            }
            if self.sent < first.bytes.len() {
                return;
            }
            self.size -= first.footprint();
            self.sent = 0;
            self.waiting.pop_front();
        }
    }

    fn sending(&mut self) -> Sending {
        if self.waiting.is_empty() || self.drained {
            return Sending::Done;
        }
        self.drained = true;
        Sending::Yours
    }

    /// Changes whenever something is sent, as long as one thread sends.
    fn progress(&self) -> (usize, usize) {
        (self.waiting.len(), self.sent)
    }

    fn kill(&mut self) {
        self.dead = true;
        self.waiting.clear();
        self.size = 0;
    }
}

/// Sends some of `bytes` and says how many; 0 when the client has to read first. `fd` is gone once
/// it was sent.
fn send_some(stream: &Stream, bytes: &[u8], fd: &mut Option<OwnedFd>) -> io::Result<usize> {
    let borrowed = fd.as_ref().map(AsFd::as_fd);
    match stream.try_send(&[IoSlice::new(bytes)], borrowed.as_slice()) {
        Ok(sent) => {
            *fd = None;
            Ok(sent)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
