//! One connection: reads requests, has them carried out, sends the replies.
//!
//! The reading thread carries out itself what is done at once, one request after the other, and
//! sends the replies to all that had arrived in one call: a caller that is alone waits for no other
//! thread, and many callers share the price of the system calls. What waits for storage, and what
//! moves so many bytes that others would notice, goes to the connection's [`Workers`]; so does a
//! read that turns out to need the disk. The reader itself never waits for the client to read: what
//! a socket does not take at once is left to a worker as soon as the client sends more.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, Scope};

use gofer_9p::wire::{
    DecodeError, Header, MSIZE_MAX, MSIZE_MIN, Message, Rversion, TMessage, Tallocate, Tchannel,
    Tflush, Tfsync, Tlconnect, Tlcreate, Tlopen, Tread, Treaddir, Tucreate, Tversion, Version,
};
use gofer_transport::Stream;

use super::inbox::{Inbox, Incoming};
use super::replies::{Broken, Replies, Sending};
use super::reply::{Pace, Reply};
use super::session::Session;
use super::workers::{Hands, Job, Work, Workers};
use crate::host::{Errno, Export, Result};
use crate::limits::Limits;

/// Largest message before a size has been agreed on (9P 2.5).
const FIRST_MESSAGE_SIZE: u32 = 8192;

/// Most threads of one connection beside the reader: about as many as the kernel client keeps
/// requests in flight, and more would only wait for the same disk.
const THREADS_MAX: usize = 16;

/// Bytes of replies a client may leave unread before no more of its requests are read.
const BACKLOG_MAX: usize = 8 << 20;

/// Requests that move more bytes than this are left to workers when others wait.
const LARGE: u32 = 128 << 10;

/// Bytes of replies that are collected before they are sent although more could be.
const BATCH_MAX: usize = 256 << 10;

/// What the threads of a connection share.
#[derive(Debug)]
struct Connection<'a> {
    replies: Replies<'a>,
    workers: Workers,
}

/// Serves `stream` until it ends.
pub(super) fn run(stream: &Stream, export: &Arc<Export>, limits: &Limits) -> io::Result<()> {
    let connection = Connection {
        replies: Replies::new(stream, limits.patience),
        workers: Workers::new(limits.requests.min(THREADS_MAX)),
    };
    let result = std::thread::scope(|scope| {
        let mut reader = Reader {
            connection: &connection,
            scope,
            stream,
            export,
            limits,
            session: None,
            reply: Reply::new(),
        };
        let result = reader.read_all();
        // Requests that run may finish; nobody gets their replies (9P 3.4).
        connection.replies.close();
        connection.workers.close();
        if let Some(session) = reader.session.take() {
            session.channels.end();
        }
        result
    });
    connection.replies.verdict().and(result)
}

impl Connection<'_> {
    /// What a worker thread does.
    fn work(&self) {
        let mut reply = Reply::new();
        while let Some(work) = self.workers.next() {
            self.carry_out(work, &mut reply);
        }
    }

    fn carry_out(&self, work: Work, reply: &mut Reply) {
        let sending = match work {
            Work::Drain => Sending::Yours,
            Work::Request(job) => {
                reply.begin(job.header.tag, job.session.msize(), Pace::Any);
                job.session.handle(job.header.kind, &job.body, reply);
                // Whoever waits for this request waits for what it holds, too.
                drop(job);
                let sending = self.replies.finish(reply);
                self.workers.done();
                sending
            }
        };
        if sending == Sending::Yours {
            self.replies.drain();
        }
    }
}

/// The reading thread's side.
struct Reader<'scope, 'env> {
    connection: &'env Connection<'env>,
    scope: &'scope Scope<'scope, 'env>,
    stream: &'env Stream,
    export: &'env Arc<Export>,
    limits: &'env Limits,
    /// `None` until Tversion has succeeded.
    session: Option<Arc<Session>>,
    reply: Reply,
}

impl Reader<'_, '_> {
    fn read_all(&mut self) -> io::Result<()> {
        let mut inbox = Inbox::new();
        loop {
            let session = self.session.as_ref();
            let limit = session.map_or(FIRST_MESSAGE_SIZE, |session| session.msize());
            if !inbox.is_ready(limit) {
                self.send_batch(inbox.is_empty());
                self.connection.replies.wait_for_room(BACKLOG_MAX);
            }
            let Some(incoming) = inbox.next(self.stream, limit)? else {
                return Ok(());
            };
            let taken = match incoming.header.kind {
                Tversion::KIND => {
                    self.version(&incoming);
                    Ok(())
                }
                Tflush::KIND => self.flush(&incoming),
                _ => self.request(&incoming),
            };
            if let Err(Broken) = taken {
                let text = "a request has the tag of another";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }

    /// Carries the request out here, or leaves it to a worker.
    fn request(&mut self, incoming: &Incoming<'_>) -> std::result::Result<(), Broken> {
        let header = incoming.header;
        self.connection.replies.begin(header.tag)?;
        let Some(session) = self.session.clone() else {
            self.reply.begin(header.tag, FIRST_MESSAGE_SIZE, Pace::Any);
            self.reply.fail(Errno::PROTO);
            self.reply.keep();
            return Ok(());
        };
        let moved = bytes_moved(incoming);
        let is_long = moved > LARGE && !(incoming.alone && self.connection.workers.are_idle());
        if is_long || takes_time(header.kind) {
            self.leave(session, incoming);
            return Ok(());
        }
        let brings_descriptor = may_bring_descriptor(header.kind);
        if brings_descriptor || moved > LARGE {
            // A descriptor's reply has a call of its own, and long work delays nobody's reply.
            self.send_batch(incoming.alone);
        }
        let pace = match incoming.alone {
            true => Pace::Brisk,
            false => Pace::Quick,
        };
        self.reply.begin(header.tag, session.msize(), pace);
        session.handle(header.kind, incoming.body, &mut self.reply);
        if self.reply.is_postponed() {
            self.leave(session, incoming);
        } else if brings_descriptor {
            let sending = self.connection.replies.finish(&mut self.reply);
            self.see_to(sending, incoming.alone);
        } else {
            self.reply.keep();
            if self.reply.kept().len() > BATCH_MAX {
                self.send_batch(incoming.alone);
                self.connection.replies.wait_for_room(BACKLOG_MAX);
            }
        }
        Ok(())
    }

    /// Leaves a request to a worker.
    fn leave(&mut self, session: Arc<Session>, incoming: &Incoming<'_>) {
        // Queueing may wait for a thread. A client that leaves its replies waits with its requests.
        self.send_batch(incoming.alone);
        self.connection.replies.wait_for_room(BACKLOG_MAX);
        let job = Job {
            reply: bytes_moved(incoming).min(session.msize()) as usize,
            session,
            header: incoming.header,
            body: incoming.body.to_vec(),
        };
        let hands = self.connection.workers.push(job);
        self.provide(hands);
    }

    /// Sends the replies that were kept.
    fn send_batch(&mut self, alone: bool) {
        if !self.reply.kept().is_empty() {
            let sending = self.connection.replies.finish_kept(&mut self.reply);
            self.see_to(sending, alone);
        }
    }

    /// Tflush (9P 3.3): a request no thread has begun is dropped without a reply, one that runs is
    /// waited for.
    fn flush(&mut self, incoming: &Incoming<'_>) -> std::result::Result<(), Broken> {
        let connection = self.connection;
        let tag = incoming.header.tag;
        connection.replies.begin(tag)?;
        let Ok(TMessage::Tflush(Tflush { oldtag })) = decode(incoming) else {
            self.reply.begin(tag, FIRST_MESSAGE_SIZE, Pace::Any);
            self.reply.fail(Errno::PROTO);
            self.reply.keep();
            return Ok(());
        };
        // The old request may be among those that have been answered.
        self.send_batch(incoming.alone);
        if connection.workers.cancel(oldtag) {
            let sending = connection.replies.abandon(oldtag);
            self.see_to(sending, incoming.alone);
        }
        let sending = connection.replies.flush(tag, oldtag);
        self.see_to(sending, incoming.alone);
        Ok(())
    }

    /// Tversion (9P 4.1): everything outstanding is aborted and every fid discarded, whatever
    /// comes of it. It may have any tag.
    fn version(&mut self, incoming: &Incoming<'_>) {
        self.send_batch(incoming.alone);
        self.connection.replies.abort_all();
        self.connection.workers.cancel_all();
        if let Some(session) = self.session.take() {
            session.channels.end();
        }
        self.reply
            .begin(incoming.header.tag, FIRST_MESSAGE_SIZE, Pace::Any);
        if let Err(errno) = self.negotiate(incoming) {
            self.reply.fail(errno);
        }
        let sending = self.connection.replies.send_untagged(&mut self.reply);
        self.see_to(sending, incoming.alone);
    }

    fn negotiate(&mut self, incoming: &Incoming<'_>) -> Result<()> {
        let Ok(TMessage::Tversion(Tversion { msize, version })) = decode(incoming) else {
            return Err(Errno::PROTO);
        };
        let msize = msize.min(self.limits.message_size).min(MSIZE_MAX);
        let Some(dialect) = Version::parse(version) else {
            let version = Version::UNKNOWN;
            return self.reply.send(Rversion { msize, version });
        };
        // Not a lower number: clients come down by themselves, and only on this error (9P 4.2).
        if dialect.level() > Version::NEWEST.level() {
            return Err(Errno::AGAIN);
        }
        if msize < MSIZE_MIN {
            return Err(Errno::MSGSIZE);
        }
        self.reply.send(Rversion { msize, version })?;
        let session = Session::new(
            self.export.clone(),
            dialect,
            msize,
            self.limits,
            self.stream.kind(),
        );
        self.session = Some(Arc::new(session));
        Ok(())
    }

    /// Sends what the client did not take at once: here while the client has nothing else to
    /// say, otherwise by a worker.
    fn see_to(&mut self, sending: Sending, alone: bool) {
        if sending == Sending::Done
            || alone && self.connection.replies.drain_until_input() == Sending::Done
        {
            return;
        }
        let hands = self.connection.workers.push_drain();
        self.provide(hands);
    }

    /// Starts a worker if one is needed. Where the host refuses threads the reader does the work.
    fn provide(&mut self, hands: Hands) {
        if hands == Hands::Enough {
            return;
        }
        let connection = self.connection;
        let started = Builder::new()
            .name("9p worker".into())
            .spawn_scoped(self.scope, move || connection.work());
        if started.is_ok() {
            return;
        }
        connection.workers.no_thread();
        while let Some(work) = connection.workers.orphan() {
            connection.carry_out(work, &mut self.reply);
        }
    }
}

/// Whether requests of this type may wait for storage longer than others should wait for them.
fn takes_time(kind: u8) -> bool {
    matches!(kind, Tfsync::KIND | Tallocate::KIND)
}

/// Whether a descriptor may travel beside the reply (9P 10.1).
fn may_bring_descriptor(kind: u8) -> bool {
    matches!(
        kind,
        Tlopen::KIND | Tlcreate::KIND | Tucreate::KIND | Tlconnect::KIND | Tchannel::KIND
    )
}

/// About how many bytes of data a request brings, or asks for.
fn bytes_moved(incoming: &Incoming<'_>) -> u32 {
    let Header { kind, size, .. } = incoming.header;
    match kind {
        // Behind fid and offset.
        Tread::KIND | Treaddir::KIND => match incoming.body.get(12..16) {
            Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
            _ => 0,
        },
        _ => size,
    }
}

fn decode<'a>(incoming: &Incoming<'a>) -> std::result::Result<TMessage<'a>, DecodeError> {
    TMessage::decode(incoming.header.kind, incoming.body)
}
