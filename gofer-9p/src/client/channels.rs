//! Shared-memory channels beside the socket (9P 11): one request each at a time, without tags.
//!
//! A request that is alone in its exchange goes over the channel used last, if one is idle, else
//! over the socket. Its tag is reserved all the same: the table knows by it whose the reply is and
//! which fid it makes. A caller that gives up leaves the channel to the server until it answers;
//! there is nothing to flush.
//!
//! The server may write anything anywhere in the window at any time. So a reply is copied out
//! once, and what is looked at is the copy.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use gofer_transport::flipcall::FlipError;
use gofer_transport::{Channel, ChannelEnd, FdQueue, TransportKind, Wait};
use gofer_vfs::Errno;
use gofer_vfs::remote::{Call, RemoteError, RemoteResult};

use super::incoming::{End, Reading};
use super::session::{Session, State};
use super::table::{Effect, Reply};
use crate::wire::{HEADER_SIZE, Level, Message, Rread, Tag, Tchannel};

/// The most channels one connection has.
pub const CHANNELS_MAX: u32 = 64;

/// Bytes of a datagram before the body: the type, and whether a descriptor follows.
const HEAD_SIZE: usize = 2;

/// Bytes of the count before the data of an Rread.
const COUNT_SIZE: usize = 4;

/// How long the server may take to open a channel that it has offered.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The channels of a connection.
#[derive(Default)]
pub(super) struct Channels {
    /// All that have not failed.
    all: Vec<Arc<Channel>>,
    /// Those nobody uses, the one used last at the end.
    idle: Vec<Arc<Channel>>,
    /// Those that are with the server although nobody waits, and the tags of their requests.
    left: Vec<(Arc<Channel>, Tag)>,
}

impl Channels {
    /// Those that are to be ended with the connection.
    pub(super) fn drain(&mut self) -> Vec<Arc<Channel>> {
        (self.idle, self.left) = (Vec::new(), Vec::new());
        std::mem::take(&mut self.all)
    }

    /// Whether some are with the server although nobody waits.
    pub(super) fn has_left(&self) -> bool {
        !self.left.is_empty()
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> (usize, usize) {
        (self.all.len(), self.idle.len())
    }

    fn discard(&mut self, channel: &Arc<Channel>) {
        self.all.retain(|other| !Arc::ptr_eq(other, channel));
    }
}

/// Opens a session's channels: up to `count`, or as many as there are processors to use them, at
/// most 4. Blocks within the bounds of `call`. Those that the server does not give, or that cannot
/// be used, are done without.
pub(super) fn open(session: &Arc<Session>, call: &Call<'_>, count: Option<u32>) {
    let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
    let count = match count {
        Some(count) => count.min(CHANNELS_MAX),
        None => cpus().min(4) as u32,
    };
    if !session.has(Level::Channels) || session.stream.kind() != TransportKind::Unix {
        return;
    }
    let mut opened = Vec::new();
    for id in 0..count {
        match open_one(session, call, id) {
            Ok(Some(channel)) => opened.push(channel),
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(errno = %error.errno, "no more channels");
                break;
            }
        }
    }
    let mut state = session.lock();
    if state.dead {
        opened.iter().for_each(|channel| channel.shut_down());
        return;
    }
    state.channels.all = opened.clone();
    state.channels.idle = opened;
}

/// Opens one channel; `None` when what the server offers is of no use.
fn open_one(
    session: &Arc<Session>,
    call: &Call<'_>,
    id: u32,
) -> RemoteResult<Option<Arc<Channel>>> {
    let ask = |control| {
        let mut exchange = session.begin(call);
        let index = exchange.push(Tchannel { id, control }, Effect::None)?;
        exchange.run()?;
        let reply = exchange.reply::<Tchannel>(index)?;
        Ok(((reply.offset, reply.length), exchange.fd(index)))
    };
    let (place, memory) = ask(0)?;
    let (again, socket) = ask(1)?;
    let (Some(memory), Some(socket)) = (memory, socket) else {
        tracing::warn!("the server's channel came without its descriptors");
        return Ok(None);
    };
    if place != again {
        tracing::warn!("the server's channel has two places");
        return Ok(None);
    }
    let needed = HEAD_SIZE + session.msize() as usize - HEADER_SIZE;
    let channel = match Channel::open((memory, socket), place, needed, session.stream.clone()) {
        Ok(channel) => Arc::new(channel),
        Err(error) => {
            tracing::warn!(%error, "the server's channel cannot be used");
            return Ok(None);
        }
    };
    let patience = Instant::now().checked_add(HANDSHAKE_TIMEOUT);
    let wait = Wait {
        deadline: call.deadline.into_iter().chain(patience).min(),
        cancel: call.cancel,
    };
    match channel.greet(&wait) {
        Ok(()) => Ok(Some(channel)),
        Err(end) => {
            tracing::warn!(?end, "the server did not open a channel");
            channel.shut_down();
            if end == ChannelEnd::HungUp {
                session.fail("the server hung up");
            }
            Ok(None)
        }
    }
}

/// Writes a request, header and body in `out` and bulk data behind, into the window of a channel.
/// Returns the length of the datagram. It fits: the window holds the largest message.
fn write(channel: &Channel, out: &[u8], payload: &[IoSlice<'_>]) -> usize {
    let window = channel.window();
    let kind = out.get(4).copied().unwrap_or_default();
    let body = out.get(HEADER_SIZE..).unwrap_or_default();
    window.write(0, &[kind, 0]);
    window.write(HEAD_SIZE, body);
    let mut length = HEAD_SIZE + body.len();
    for part in payload {
        window.write(length, part);
        length += part.len();
    }
    length
}

impl State {
    /// The channel used last, if one is idle.
    pub(super) fn take_channel(&mut self) -> Option<Arc<Channel>> {
        self.channels.idle.pop()
    }
}

impl Session {
    /// Whether there are channels, idle or not.
    pub(super) fn has_channels(&self) -> bool {
        !self.lock().channels.all.is_empty()
    }

    /// Makes a request over a channel. Its reply is in the table afterwards.
    pub(super) fn exchange_over(
        &self,
        channel: Arc<Channel>,
        (tag, out): (Tag, &[u8]),
        payload: &[IoSlice<'_>],
        reading: &mut Reading<'_, '_, '_, '_>,
    ) -> RemoteResult<()> {
        let length = write(&channel, out, payload);
        self.counts.bytes_sent.fetch_add(length as u64, Relaxed);
        match channel.exchange(length, reading.wait) {
            Ok(length) => {
                let taken = self.take_reply(&channel, length, tag, reading);
                self.return_channel(channel);
                taken
            }
            Err(end) => Err(self.left_over(channel, end, tag)),
        }
    }

    /// Takes the replies that came to nobody on channels.
    pub(super) fn settle_channels(&self) {
        loop {
            let mut state = self.lock();
            let left = &mut state.channels.left;
            let Some(at) = left.iter().position(|(channel, _)| channel.is_answered()) else {
                return;
            };
            let (channel, tag) = left.swap_remove(at);
            drop(state);
            // It does not wait: the answer is there, or the end of the channel.
            let wait = Wait::default();
            match channel.finish(&wait) {
                Ok(length) => {
                    let _ = self.take_reply(&channel, length, tag, &mut Reading::for_others(&wait));
                    self.return_channel(channel);
                }
                Err(end) => drop(self.left_over(channel, end, tag)),
            }
        }
    }

    fn return_channel(&self, channel: Arc<Channel>) {
        let mut state = self.lock();
        if !state.dead {
            state.channels.idle.push(channel);
        }
    }

    /// What becomes of a channel whose answer did not come.
    fn left_over(&self, channel: Arc<Channel>, end: ChannelEnd, tag: Tag) -> RemoteError {
        let errno = match end {
            ChannelEnd::TimedOut => Errno::ETIMEDOUT,
            ChannelEnd::Cancelled => Errno::EINTR,
            ChannelEnd::HungUp => {
                self.fail("the server hung up");
                Errno::EIO
            }
            ChannelEnd::Broken(error) => {
                if error != FlipError::ShutDown {
                    tracing::warn!(%error, "a channel failed");
                }
                Errno::EIO
            }
        };
        let mut state = self.lock();
        match end {
            ChannelEnd::TimedOut | ChannelEnd::Cancelled if !state.dead => {
                state.table.leave(tag);
                state.channels.left.push((channel, tag));
            }
            _ => {
                channel.shut_down();
                state.channels.discard(&channel);
                state.table.lose(tag);
            }
        }
        RemoteError::unknown(errno)
    }

    /// Takes the reply out of the window, and the descriptor that belongs to it.
    fn take_reply(
        &self,
        channel: &Channel,
        length: usize,
        tag: Tag,
        reading: &mut Reading<'_, '_, '_, '_>,
    ) -> RemoteResult<()> {
        let result = self.read_reply(channel, length, tag, reading);
        result.map_err(|end| {
            if let End::Lost(reason) = end {
                self.fail(reason);
            }
            RemoteError::unknown(Errno::EIO)
        })
    }

    fn read_reply(
        &self,
        channel: &Channel,
        length: usize,
        tag: Tag,
        reading: &mut Reading<'_, '_, '_, '_>,
    ) -> Result<(), End> {
        let window = channel.window();
        let mut head = [0; HEAD_SIZE];
        let Some(size) = length.checked_sub(HEAD_SIZE) else {
            return Err(End::Lost("reply without a type"));
        };
        if size > self.msize() as usize - HEADER_SIZE {
            return Err(End::Lost("message of an impossible size"));
        }
        window.read(0, &mut head);
        let [kind, follows] = head;
        let expected = self.lock().table.expect(kind, tag)?;
        let mut fds = FdQueue::new(1);
        channel.take_fds(usize::from(follows != 0), &mut fds);
        let mut reply = Reply {
            kind,
            body: expected.body,
            fd: fds.pop().filter(|_| expected.takes_fd),
            placed: None,
        };
        reply.body.clear();
        let sink = reading.sink.as_deref_mut();
        let piece = sink.as_ref().and_then(|sink| sink.piece(tag));
        if let (Some(sink), Some(piece), Rread::KIND, COUNT_SIZE..) = (sink, piece, kind, size) {
            let mut count = [0; COUNT_SIZE];
            window.read(HEAD_SIZE, &mut count);
            let len = usize::try_from(u32::from_le_bytes(count)).unwrap_or(usize::MAX);
            if len > piece.len || len > size - COUNT_SIZE {
                return Err(End::Lost("more data than was asked for"));
            }
            let mut done = 0;
            while done < len {
                let part = sink.part(piece.start + done, len - done);
                if part.is_empty() {
                    break;
                }
                window.read(HEAD_SIZE + COUNT_SIZE + done, part);
                done += part.len();
            }
            reply.placed = Some(len);
        } else {
            reply.body.resize(size, 0);
            window.read(HEAD_SIZE, &mut reply.body);
        }
        self.counts.bytes_received.fetch_add(length as u64, Relaxed);
        self.trace_taken(tag, &reply);
        let mut state = self.lock();
        if let Some(waiter) = state.table.deliver(tag, reply)? {
            state.answered(waiter);
        }
        Ok(())
    }
}
