//! Requests that one caller sends together, and the wait for their replies.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use gofer_transport::codec::Reader;
use gofer_transport::{Channel, Wait, Watch};
use gofer_vfs::Errno;
use gofer_vfs::remote::{Call, RemoteError, RemoteResult};
use parking_lot::MutexGuard;

use super::fid::OwnedFid;
use super::incoming::{End, Reading, Sink};
use super::session::{Session, State};
use super::table::{Effect, Reply, Violation};
use crate::wire::{
    Data, Fid, Message, Request, Rlerror, TMessage, Tag, Tchannel, Tflush, Tlconnect, Tlcreate,
    Tlopen, Tread, Tucreate,
};

/// Most requests in one exchange. More could fill both directions of the socket.
pub(super) const EXCHANGE_MAX: usize = 32;

/// From this size on, the outbox takes no more messages of callers.
const OUTBOX_MAX: usize = 4 << 20;

/// Requests that are sent together, by [`Exchange::run`]. For a stream of requests, those that are
/// done with are retired, and more are pushed and sent while others are under way.
///
/// It owns the fids that its requests make: what the caller does not take with
/// [`Exchange::made`] is clunked in the end, whatever happens.
pub(super) struct Exchange<'s> {
    pub(super) session: &'s Arc<Session>,
    pub(super) wait: Wait<'s>,
    waiter: usize,
    pub(super) desk: Desk,
    /// Requests sent since the last wait for replies.
    uncounted: usize,
    /// Waiter and buffers belong to a [`Parked`] now.
    parked: bool,
}

/// An exchange whose requests are under way while nobody waits. Dropped, the replies are of no
/// use to anybody; that sends nothing.
pub(super) struct Parked {
    session: Arc<Session>,
    waiter: usize,
    desk: Desk,
    uncounted: usize,
}

impl Parked {
    /// Goes on with it within the bounds of `call`.
    pub(super) fn resume<'s>(mut self, session: &'s Arc<Session>, call: &Call<'s>) -> Exchange<'s> {
        debug_assert!(Arc::ptr_eq(&self.session, session));
        Exchange {
            session,
            wait: session.wait_of(call),
            waiter: self.waiter,
            desk: std::mem::take(&mut self.desk),
            uncounted: std::mem::take(&mut self.uncounted),
            parked: false,
        }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        // Empty when it was resumed: then the exchange has the waiter's place.
        let mut desk = std::mem::take(&mut self.desk);
        if desk.entries.is_empty() {
            return;
        }
        let mut state = self.session.lock();
        for entry in desk.entries.drain(..) {
            state.table.disown(entry.tag);
        }
        state.leave(self.waiter, desk);
    }
}

/// The buffers of an exchange, reused by the next.
#[derive(Default)]
pub(super) struct Desk {
    /// The bytes of the requests that were not sent.
    pub(super) out: Vec<u8>,
    /// Clunks that go along.
    pub(super) tail: Vec<u8>,
    entries: Vec<Entry>,
}

struct Entry {
    tag: Tag,
    progress: Progress,
    makes: Option<Fid>,
    taken: bool,
    reply: Reply,
}

/// How far the requests of an exchange have come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Unsent,
    /// In the outbox, or in the hands of another sender.
    Left,
    Sent,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Unsent,
    UnderWay,
    Answered,
    /// The table takes care of it.
    GivenUp,
    /// Over. Its place is free.
    Retired,
}

impl<'s> Exchange<'s> {
    pub(super) fn new(
        session: &'s Arc<Session>,
        wait: Wait<'s>,
        waiter: usize,
        desk: Desk,
    ) -> Exchange<'s> {
        Exchange {
            session,
            wait,
            waiter,
            desk,
            uncounted: 0,
            parked: false,
        }
    }

    /// Adds a request and returns its index. The fid of `effect` belongs to the exchange.
    pub(super) fn push<'a, T: Request<'a> + Into<TMessage<'a>>>(
        &mut self,
        request: T,
        effect: Effect,
    ) -> RemoteResult<usize> {
        let takes_fd = [
            Tlopen::KIND,
            Tlcreate::KIND,
            Tucreate::KIND,
            Tlconnect::KIND,
            Tchannel::KIND,
        ]
        .contains(&T::KIND);
        let tag = self
            .session
            .lock()
            .table
            .start(Some(self.waiter), T::KIND, effect, takes_fd);
        let tag = tag.ok_or(RemoteError::not_sent(Errno::ENOBUFS))?;
        request.encode_head(tag, &mut self.desk.out);
        self.desk
            .out
            .extend_from_slice(request.payload().as_bytes());
        self.session.trace_request(tag, request);
        let entry = Entry {
            tag,
            progress: Progress::Unsent,
            makes: match effect {
                Effect::Makes { fid, .. } => Some(fid),
                _ => None,
            },
            taken: false,
            reply: Reply::default(),
        };
        let entries = &mut self.desk.entries;
        let mut places = entries.iter_mut().enumerate();
        if let Some((index, place)) = places.find(|(_, old)| old.progress == Progress::Retired) {
            *place = entry;
            return Ok(index);
        }
        debug_assert!(entries.len() < EXCHANGE_MAX);
        entries.push(entry);
        Ok(entries.len() - 1)
    }

    /// The tag of a request.
    pub(super) fn tag(&self, index: usize) -> Tag {
        self.desk
            .entries
            .get(index)
            .map_or(Tag::NONE, |entry| entry.tag)
    }

    /// Sends everything and waits for all replies.
    pub(super) fn run(&mut self) -> RemoteResult<()> {
        self.run_with(&[], None, 0)
    }

    /// Sends what was pushed, and waits until at most `left` of all requests have no reply.
    /// `payload` is the bulk data of the last request, if that was pushed without; `sink` takes
    /// the data of Rread replies where that saves a copy.
    pub(super) fn run_with(
        &mut self,
        payload: &[IoSlice<'_>],
        mut sink: Option<&mut Sink<'_, '_>>,
        left: usize,
    ) -> RemoteResult<()> {
        let mut watch = None;
        let new = self.count(Progress::Unsent);
        let mut stage = if new > 0 { Stage::Unsent } else { Stage::Left };
        let mut state = self.session.lock();
        if let Some(place) = state.waiters.get_mut(self.waiter) {
            place.pending += new;
            place.left = left;
        }
        if state.channels.has_left() {
            drop(state);
            self.session.settle_channels();
            state = self.session.lock();
        }
        if self.desk.entries.len() == 1
            && (new, left) == (1, 0)
            && self.ended(&state).is_none()
            && let Some(channel) = state.take_channel()
        {
            drop(state);
            return self.run_over(channel, payload, sink);
        }
        let result = loop {
            if stage != Stage::Unsent && self.has_enough(&state) {
                break Ok(());
            }
            if let Some(errno) = self.ended(&state) {
                break Err(match stage {
                    Stage::Unsent if state.dead => RemoteError::not_sent(state.dead_errno()),
                    Stage::Unsent => RemoteError::not_sent(errno),
                    Stage::Left | Stage::Sent => RemoteError::unknown(errno),
                });
            }
            let work = !state.sending && !state.outbox.is_empty();
            match stage {
                Stage::Unsent if !state.sending => (state, stage) = self.send(state, payload),
                Stage::Unsent if state.outbox.len() < OUTBOX_MAX => {
                    state.outbox.extend_from_slice(&self.desk.out);
                    payload
                        .iter()
                        .for_each(|part| state.outbox.extend_from_slice(part));
                    stage = Stage::Left;
                }
                Stage::Left | Stage::Sent if work => state = self.send_outbox(state),
                Stage::Left if !state.sending => stage = Stage::Sent,
                Stage::Sent if state.incoming.is_some() => {
                    state = self.read(state, sink.as_deref_mut());
                }
                _ => state = self.sleep(state, stage, &mut watch),
            }
        };
        let mut flushes = Vec::new();
        if stage != Stage::Unsent {
            self.desk.out.clear();
            self.advance(Progress::Unsent, Progress::UnderWay);
        }
        match result {
            Ok(()) => self.collect(&mut state),
            Err(_) => self.give_up(&mut state, &mut flushes),
        }
        state.outbox.extend_from_slice(&flushes);
        let work = !state.sending && !state.outbox.is_empty();
        state.hand_on();
        drop(state);
        self.session.trace_bytes(&flushes);
        if work {
            self.session.kick();
        }
        if stage != Stage::Unsent {
            self.uncounted += new;
        }
        if left != usize::MAX && self.uncounted > 0 {
            self.session.count_trip(std::mem::take(&mut self.uncounted));
        }
        result
    }

    /// Leaves the requests, which were sent, under way.
    pub(super) fn park(mut self) -> Parked {
        self.parked = true;
        Parked {
            session: self.session.clone(),
            waiter: self.waiter,
            desk: std::mem::take(&mut self.desk),
            uncounted: std::mem::take(&mut self.uncounted),
        }
    }

    /// As [`Exchange::run_with`] for a single request, over a channel.
    fn run_over(
        &mut self,
        channel: Arc<Channel>,
        payload: &[IoSlice<'_>],
        sink: Option<&mut Sink<'_, '_>>,
    ) -> RemoteResult<()> {
        let mut reading = Reading {
            waiter: Some(self.waiter),
            sink,
            wait: &self.wait,
        };
        let request = (self.tag(0), &self.desk.out[..]);
        let session = self.session;
        let result = session.exchange_over(channel, request, payload, &mut reading);
        self.desk.out.clear();
        self.advance(Progress::Unsent, Progress::UnderWay);
        session.count_trip(1);
        let mut state = session.lock();
        match result {
            Ok(()) => self.collect(&mut state),
            // The table knows.
            Err(_) => self.advance(Progress::UnderWay, Progress::GivenUp),
        }
        let crowded = state.table.are_clunks_crowded();
        drop(state);
        if crowded {
            session.settle_clunks();
        }
        result
    }

    /// The reply to request `index`, or the server's error. A reply that does not decode ends
    /// the connection.
    pub(super) fn reply<'a, T: Request<'a>>(&self, index: usize) -> RemoteResult<T::Reply<'_>> {
        let entry = self.desk.entries.get(index);
        let Some(Entry {
            reply,
            progress: Progress::Answered,
            ..
        }) = entry
        else {
            return Err(RemoteError::unknown(Errno::EIO));
        };
        let mut body = Reader::new(&reply.body);
        let decoded = if reply.kind == Rlerror::KIND {
            Rlerror::decode(&mut body).map(|error| Err(error.ecode))
        } else {
            T::Reply::decode(&mut body).map(Ok)
        };
        match decoded {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(ecode)) => {
                let errno = Errno::from_raw(i32::try_from(ecode).unwrap_or(0));
                Err(RemoteError::refused(errno))
            }
            Err(_) => Err(self.broken("reply that does not decode")),
        }
    }

    /// The data of an Rread: apart, where the sink took it.
    pub(super) fn data(&self, index: usize) -> RemoteResult<Data<'_>> {
        let entry = self.desk.entries.get(index);
        match entry.and_then(|entry| entry.reply.placed) {
            Some(count) => Ok(Data::apart(count)),
            None => self.reply::<Tread>(index).map(|reply| reply.data),
        }
    }

    /// Takes the fid that request `index` made. To be called when its reply says success.
    pub(super) fn made(&mut self, index: usize) -> RemoteResult<OwnedFid> {
        match self.desk.entries.get_mut(index) {
            Some(Entry {
                makes: Some(fid),
                taken: taken @ false,
                ..
            }) => {
                *taken = true;
                Ok(OwnedFid::new(self.session.clone(), *fid))
            }
            _ => Err(RemoteError::unknown(Errno::EIO)),
        }
    }

    /// Takes the descriptor that came with reply `index`.
    pub(super) fn fd(&mut self, index: usize) -> Option<OwnedFd> {
        self.desk
            .entries
            .get_mut(index)
            .and_then(|entry| entry.reply.fd.take())
    }

    /// Ends the connection because a reply makes no sense.
    pub(super) fn broken(&self, what: &'static str) -> RemoteError {
        self.session.violation(Violation(what));
        RemoteError::unknown(Errno::EIO)
    }

    /// Whether the reply to request `index` is there.
    pub(super) fn is_answered(&self, index: usize) -> bool {
        let entry = self.desk.entries.get(index);
        entry.is_some_and(|entry| entry.progress == Progress::Answered)
    }

    /// Is done with request `index` and its reply.
    pub(super) fn retire(&mut self, index: usize) {
        if let Some(entry) = self.desk.entries.get_mut(index)
            && entry.progress == Progress::Answered
        {
            entry.progress = Progress::Retired;
            let reply = std::mem::take(&mut entry.reply);
            let mut state = self.session.lock();
            state.table.finish(entry.tag, reply, entry.taken);
        }
    }

    fn has_enough(&self, state: &State) -> bool {
        let waiter = state.waiters.get(self.waiter);
        waiter.is_none_or(|waiter| waiter.has_enough())
    }

    fn count(&self, progress: Progress) -> usize {
        let entries = self.desk.entries.iter();
        entries.filter(|entry| entry.progress == progress).count()
    }

    fn advance(&mut self, from: Progress, to: Progress) {
        for entry in &mut self.desk.entries {
            if entry.progress == from {
                entry.progress = to;
            }
        }
    }

    /// Takes the reader's role until all own replies are there.
    fn read<'g>(
        &self,
        mut state: MutexGuard<'g, State>,
        sink: Option<&mut Sink<'_, '_>>,
    ) -> MutexGuard<'g, State>
    where
        's: 'g,
    {
        let Some(mut incoming) = state.incoming.take() else {
            return state;
        };
        drop(state);
        let mut reading = Reading {
            waiter: Some(self.waiter),
            sink,
            wait: &self.wait,
        };
        let end = loop {
            match incoming.next(self.session, &mut reading) {
                Ok(false) => {}
                Ok(true) | Err(End::GaveUp) => break None,
                Err(End::Lost(reason)) => break Some(reason),
            }
        };
        let mut state = self.session.lock();
        state.incoming = Some(incoming);
        if let Some(reason) = end {
            drop(state);
            self.session.fail(reason);
            state = self.session.lock();
        }
        state
    }

    /// Sleeps until there may be something to do.
    fn sleep<'g>(
        &self,
        mut state: MutexGuard<'g, State>,
        stage: Stage,
        watch: &mut Option<Watch<'s>>,
    ) -> MutexGuard<'g, State>
    where
        's: 'g,
    {
        if let (Some(cancel), None) = (self.wait.cancel, &watch) {
            // Without the lock. The caller looks at everything again before it really sleeps.
            drop(state);
            *watch = Some(cancel.watch(self.session.waker(self.waiter)));
            return self.session.lock();
        }
        state.held_up |= stage == Stage::Unsent;
        let condvar = state.sleeps(self.waiter);
        match self.wait.deadline {
            Some(deadline) => drop(condvar.wait_until(&mut state, deadline)),
            None => condvar.wait(&mut state),
        }
        state.woke(self.waiter);
        state
    }

    /// Why there is no point in going on, if so.
    fn ended(&self, state: &State) -> Option<Errno> {
        if state.dead {
            Some(Errno::EIO)
        } else {
            gave_up(&self.wait)
        }
    }

    /// Takes the replies that are there.
    fn collect(&mut self, state: &mut State) {
        for entry in &mut self.desk.entries {
            if entry.progress == Progress::UnderWay
                && let Some(reply) = state.table.take_reply(entry.tag)
            {
                (entry.progress, entry.reply) = (Progress::Answered, reply);
            }
        }
    }

    /// Leaves what has no reply yet to the table, and appends a Tflush for it.
    fn give_up(&mut self, state: &mut State, flushes: &mut Vec<u8>) {
        for entry in &mut self.desk.entries {
            if entry.progress != Progress::UnderWay {
                continue;
            }
            entry.progress = Progress::GivenUp;
            if let Some(flush) = state.table.give_up(entry.tag) {
                Tflush { oldtag: entry.tag }.encode(flush, flushes);
            }
        }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        if self.parked {
            return;
        }
        let mut flushes = Vec::new();
        let mut state = self.session.lock();
        self.give_up(&mut state, &mut flushes);
        let mut desk = std::mem::take(&mut self.desk);
        for entry in desk.entries.drain(..) {
            match entry.progress {
                Progress::Unsent => state.table.unstart(entry.tag),
                Progress::Answered => state.table.finish(entry.tag, entry.reply, entry.taken),
                Progress::UnderWay | Progress::GivenUp | Progress::Retired => {}
            }
        }
        desk.out.clear();
        state.leave(self.waiter, desk);
        if !flushes.is_empty() {
            state.outbox.extend_from_slice(&flushes);
            drop(state);
            self.session.trace_bytes(&flushes);
            self.session.kick();
        }
    }
}

/// Why a wait has ended, if it has.
pub(super) fn gave_up(wait: &Wait<'_>) -> Option<Errno> {
    if wait.cancel.is_some_and(|cancel| cancel.is_set()) {
        return Some(Errno::EINTR);
    }
    match wait.deadline {
        Some(deadline) if deadline <= Instant::now() => Some(Errno::ETIMEDOUT),
        _ => None,
    }
}
