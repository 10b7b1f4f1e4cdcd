//! One connection: who sends, who reads, who waits, and how it dies.
//!
//! There is no thread of our own. Two roles pass between the callers: one of them *sends* (a
//! caller who finds the role taken leaves its bytes in the outbox for the sender), one *reads*
//! (for itself and everybody else) until its own replies are there. Whoever leaves hands a role
//! without a holder on to a waiter. So a lone caller sends and receives on its own thread.
//!
//! One lock guards everything here. It is held for moments, never over I/O or a callback, so
//! all of this may be used under any lock of a caller's.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use gofer_transport::{Stream, Tracer, Wait};
use gofer_vfs::remote::{
    Call, Holdings, Promptness, RemoteError, RemoteEvents, RemoteResult, Traffic,
};
use gofer_vfs::{Errno, FileKey, remote};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::channels::Channels;
use super::convert;
use super::exchange::{Desk, Exchange};
use super::incoming::{End, Incoming, Reading};
use super::negotiate::Agreed;
use super::table::{Effect, Table, Violation};
use crate::trace;
use crate::wire::{
    Fid, Header, IO_HEADER_SIZE, Level, Qid, Request, TMessage, Tag, Tclunk, Version,
};

/// Queued clunks that are sent without waiting for a request to go with.
const CLUNKS_QUEUED_MAX: usize = 64;

/// How long a caller waits for a server that is behind with its clunks.
const CLUNKS_PATIENCE: Duration = Duration::from_millis(20);

/// How long the end of a connection waits for the answers to its last clunks.
const GOODBYE_TIME: Duration = Duration::from_millis(500);

/// A connection after its version was agreed on.
pub(super) struct Session {
    pub(super) stream: Arc<Stream>,
    pub(super) tracer: Tracer,
    version: Version,
    msize: u32,
    timeout: Option<Duration>,
    /// Counts the connections of one filesystem.
    epoch: u32,
    state: Mutex<State>,
    pub(super) counts: Arc<Counts>,
    sinks: Arc<Sinks>,
    /// For wake-ups from other threads, which must not keep the session alive.
    me: Weak<Session>,
}

/// What the lock guards.
#[derive(Default)]
pub(super) struct State {
    pub(super) table: Table,
    pub(super) channels: Channels,
    pub(super) waiters: Vec<Waiter>,
    free_waiters: Vec<usize>,
    /// Waiters that sleep.
    sleeping: Vec<usize>,
    /// The reader's role; absent while somebody has it.
    pub(super) incoming: Option<Box<Incoming>>,
    /// Whether somebody has the sender's role.
    pub(super) sending: bool,
    /// Whether somebody sleeps because the outbox is full.
    pub(super) held_up: bool,
    /// Bytes that the sender takes along: whole messages, but the first may be the rest of one.
    pub(super) outbox: Vec<u8>,
    pub(super) dead: bool,
    /// Another connection has taken this one's place.
    superseded: bool,
}

/// Who wants to hear of the end of a connection, this one or a later one of the filesystem.
#[derive(Default)]
pub(super) struct Sinks(Mutex<Vec<Weak<dyn RemoteEvents>>>);

/// What outlives a connection, and what it is told about itself.
#[derive(Clone)]
pub(super) struct Lasting {
    pub(super) tracer: Tracer,
    pub(super) timeout: Option<Duration>,
    /// The most channels of a connection, see [`super::Config::channels`].
    pub(super) channels: Option<u32>,
    pub(super) counts: Arc<Counts>,
    pub(super) sinks: Arc<Sinks>,
}

/// A caller, or room for one.
#[derive(Default)]
pub(super) struct Waiter {
    pub(super) condvar: Arc<Condvar>,
    /// Replies that have not come.
    pub(super) pending: usize,
    /// How many of them it does not wait for.
    pub(super) left: usize,
    /// Its buffers, between calls.
    desk: Desk,
}

impl Waiter {
    /// Whether the replies it waits for have come.
    pub(super) fn has_enough(&self) -> bool {
        self.pending <= self.left
    }
}

/// Traffic so far.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) round_trips: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    pub(super) bytes_received: AtomicU64,
    /// System calls that received something.
    #[cfg(test)]
    pub(super) receives: AtomicU64,
}

impl Session {
    pub(super) fn new(
        stream: Stream,
        agreed: Agreed,
        epoch: u32,
        lasting: Lasting,
    ) -> Arc<Session> {
        let Agreed { version, msize } = agreed;
        let Lasting {
            tracer,
            timeout,
            counts,
            sinks,
            ..
        } = lasting;
        let state = State {
            incoming: Some(Box::new(Incoming::new(msize))),
            ..State::default()
        };
        Arc::new_cyclic(|me| Session {
            stream: Arc::new(stream),
            tracer,
            version,
            msize,
            timeout,
            epoch,
            state: Mutex::new(state),
            counts,
            sinks,
            me: me.clone(),
        })
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn has(&self, level: Level) -> bool {
        self.version.has(level)
    }

    pub(super) fn msize(&self) -> u32 {
        self.msize
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Why a file or handle of `other` is no argument here: it is of another filesystem, or of
    /// another connection of this one.
    pub(super) fn mismatch(&self, other: &Session) -> RemoteError {
        let related = Arc::ptr_eq(&self.counts, &other.counts);
        RemoteError::not_sent(if related { Errno::ESTALE } else { Errno::EXDEV })
    }

    /// The identity that a qid is on this connection.
    pub(super) fn key(&self, qid: Qid) -> FileKey {
        convert::key(self.epoch, qid)
    }

    /// Most data bytes of one Tread, Twrite or Treaddir (9P 4.4).
    pub(super) fn payload(&self) -> u32 {
        self.msize - IO_HEADER_SIZE
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            round_trips: self.counts.round_trips.load(Relaxed),
            requests: self.counts.requests.load(Relaxed),
            bytes_sent: self.counts.bytes_sent.load(Relaxed),
            bytes_received: self.counts.bytes_received.load(Relaxed),
        }
    }

    pub(super) fn holdings(&self) -> Holdings {
        self.lock().table.holdings()
    }

    /// Bounds of a call: its own, or else the connection's timeout from now on.
    pub(super) fn wait_of<'a>(&self, call: &Call<'a>) -> Wait<'a> {
        let deadline = call
            .deadline
            .or_else(|| self.timeout.map(|limit| Instant::now() + limit));
        Wait {
            deadline,
            cancel: call.cancel,
        }
    }

    /// Begins an exchange: requests that are sent together.
    pub(super) fn begin<'a>(self: &'a Arc<Self>, call: &Call<'a>) -> Exchange<'a> {
        let wait = self.wait_of(call);
        let mut state = self.lock();
        let waiter = state.free_waiters.pop().unwrap_or_else(|| {
            state.waiters.push(Waiter::default());
            state.waiters.len() - 1
        });
        let desk = state
            .waiters
            .get_mut(waiter)
            .map(|waiter| std::mem::take(&mut waiter.desk))
            .unwrap_or_default();
        drop(state);
        Exchange::new(self, wait, waiter, desk)
    }

    /// Sends one request that neither makes nor ends a fid, and hands its reply to `then`.
    pub(super) fn call<'a, T: Request<'a> + Into<TMessage<'a>>, R>(
        self: &Arc<Self>,
        call: &Call<'_>,
        request: T,
        then: impl for<'r> FnOnce(T::Reply<'r>) -> R,
    ) -> RemoteResult<R> {
        let mut exchange = self.begin(call);
        let index = exchange.push(request, Effect::None)?;
        exchange.run()?;
        exchange.reply::<T>(index).map(then)
    }

    /// A fid that is not in use. It must be pushed with a request that makes it.
    pub(super) fn new_fid(&self) -> RemoteResult<Fid> {
        let fid = self.lock().table.new_fid();
        fid.ok_or(RemoteError::not_sent(Errno::ENFILE))
    }

    /// Queues the clunk of `fid`. Does not wait, whatever `when` says.
    pub(super) fn clunk(&self, fid: Fid, when: Promptness) {
        let queued = self.lock().table.queue_clunk(fid);
        if when == Promptness::Prompt || queued > CLUNKS_QUEUED_MAX {
            self.kick();
        }
    }

    /// Ends `fid` and waits for the answer.
    pub(super) fn clunk_now(self: &Arc<Self>, call: &Call<'_>, fid: Fid) -> RemoteResult<()> {
        let mut exchange = self.begin(call);
        let index = exchange.push(Tclunk { fid }, Effect::Ends { fid, retire: true })?;
        exchange.run()?;
        exchange.reply::<Tclunk>(index).map(|_| ())
    }

    /// Sends queued clunks, and what else waits to be sent, as far as that needs no waiting.
    pub(super) fn kick(&self) {
        let mut state = self.lock();
        if state.sending || state.dead {
            return;
        }
        let mut bytes = std::mem::take(&mut state.outbox);
        let old = bytes.len();
        self.write_clunks(&mut state, &mut bytes);
        if bytes.is_empty() {
            state.outbox = bytes;
            return;
        }
        state.sending = true;
        drop(state);
        self.trace_bytes(bytes.get(old..).unwrap_or_default());
        let sent = self.stream.try_send(&[io::IoSlice::new(&bytes)], &[]);
        let count = match &sent {
            Ok(count) => *count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.fail("sending failed");
                bytes.len()
            }
        };
        self.counts.bytes_sent.fetch_add(count as u64, Relaxed);
        bytes.drain(..count);
        let mut state = self.lock();
        state.return_outbox(bytes);
        state.hand_on();
    }

    /// Counts requests that were sent and whose replies were waited for.
    pub(super) fn count_trip(&self, requests: usize) {
        self.counts.round_trips.fetch_add(1, Relaxed);
        self.counts.requests.fetch_add(requests as u64, Relaxed);
    }

    /// Moves clunks that may go now to `out`.
    pub(super) fn write_clunks(&self, state: &mut State, out: &mut Vec<u8>) {
        let mut count = 0;
        state.table.write_clunks(out, || count += 1);
        self.counts.requests.fetch_add(count, Relaxed);
    }

    /// Writes a line for each request in `bytes`, which are whole messages of ours.
    pub(super) fn trace_bytes(&self, mut bytes: &[u8]) {
        while self.tracer.is_on()
            && let Some((head, rest)) = bytes.split_first_chunk()
            && let Ok(header) = Header::decode(head, self.msize)
            && let Some((body, rest)) = rest.split_at_checked(header.body_size())
        {
            if let Ok(message) = TMessage::decode(header.kind, body) {
                self.tracer.line(|| trace::Sent(header.tag, message));
            }
            bytes = rest;
        }
    }

    /// Writes a line for a request.
    pub(super) fn trace_request<'a>(&self, tag: Tag, request: impl Into<TMessage<'a>>) {
        self.tracer.line(|| trace::Sent(tag, request.into()));
    }

    /// Ends the connection for good: everybody who waits gets `EIO`, and so does every later
    /// call. Idempotent. Must not be called with the lock held.
    pub(super) fn fail(&self, reason: &str) {
        {
            let mut state = self.lock();
            if state.dead {
                return;
            }
            state.dead = true;
            state.wake_all();
        }
        self.end_channels();
        tracing::warn!(reason, "9P connection lost");
        self.stream.shutdown();
        let sinks = self.sinks.0.lock().clone();
        for sink in sinks.iter().filter_map(Weak::upgrade) {
            sink.lost(self.epoch);
        }
    }

    /// Ends the channels and wakes who uses them.
    fn end_channels(&self) {
        let channels = self.lock().channels.drain();
        channels.iter().for_each(|channel| channel.shut_down());
    }

    /// Fails the connection because of what the server sent.
    pub(super) fn violation(&self, violation: Violation) {
        self.fail(violation.0);
    }

    /// Sends the queued clunks and waits a little for the answers, unless others are at work: a
    /// server may be killed by the reply that it cannot send any more (diod is).
    pub(super) fn say_goodbye(&self) {
        let wait = Wait {
            deadline: Some(Instant::now() + GOODBYE_TIME),
            cancel: None,
        };
        loop {
            self.kick();
            let mut state = self.lock();
            if state.dead || state.table.no_clunks() {
                return;
            }
            let Some(mut incoming) = state.incoming.take() else {
                return;
            };
            drop(state);
            let end = incoming.next(self, &mut Reading::for_others(&wait));
            let mut state = self.lock();
            state.incoming = Some(incoming);
            state.hand_on();
            if end.is_err() {
                return;
            }
        }
    }

    /// Takes what answers have come on the socket: where all requests go over channels, nobody
    /// else does. Waits only for a server that is so far behind with its clunks that it may run
    /// out of what they free.
    pub(super) fn settle_clunks(&self) {
        let mut state = self.lock();
        let behind = state.table.are_clunks_behind();
        let Some(mut incoming) = state.incoming.take() else {
            return;
        };
        drop(state);
        let patience = match behind {
            true => CLUNKS_PATIENCE,
            false => Duration::ZERO,
        };
        let mut wait = Wait {
            deadline: Some(Instant::now() + patience),
            cancel: None,
        };
        let end = loop {
            if let Err(end) = incoming.next(self, &mut Reading::for_others(&wait)) {
                break end;
            }
            // Many at a time: then many more can be sent.
            if !self.lock().table.are_clunks_crowded() {
                wait.deadline = Some(Instant::now());
            }
        };
        let mut state = self.lock();
        state.incoming = Some(incoming);
        state.hand_on();
        drop(state);
        if behind {
            self.kick();
        }
        if let End::Lost(reason) = end {
            self.fail(reason);
        }
    }

    /// Ends the connection because we want to. Nobody is told that it was lost.
    pub(super) fn shutdown(&self) {
        self.say_goodbye();
        let mut state = self.lock();
        state.dead = true;
        state.wake_all();
        drop(state);
        self.end_channels();
        self.stream.shutdown();
    }

    /// Ends the connection because another one took its place: what is called from now on was
    /// never sent, and is stale rather than lost.
    pub(super) fn supersede(&self) {
        self.fail("replaced by a new connection");
        let mut state = self.lock();
        state.superseded = true;
        state.wake_all();
    }

    pub(super) fn subscribe(&self, sink: Weak<dyn remote::RemoteEvents>) {
        let late = self.lock().dead.then(|| sink.upgrade()).flatten();
        let mut sinks = self.sinks.0.lock();
        sinks.retain(|sink| sink.strong_count() > 0);
        sinks.push(sink);
        drop(sinks);
        if let Some(sink) = late {
            sink.lost(self.epoch);
        }
    }

    /// What wakes a sleeping waiter from another thread.
    pub(super) fn waker(&self, waiter: usize) -> Arc<dyn Fn() + Send + Sync> {
        let me = self.me.clone();
        Arc::new(move || {
            if let Some(session) = me.upgrade() {
                // Under the lock, so that it comes before or after the sleep, not between the
                // sleeper's last look and its sleep.
                session.lock().wake(waiter);
            }
        })
    }
}

impl State {
    /// What a call gets that finds the connection dead before it has sent anything.
    pub(super) fn dead_errno(&self) -> Errno {
        match self.superseded {
            true => Errno::ESTALE,
            false => Errno::EIO,
        }
    }

    /// Gives a waiter's place and buffers back.
    pub(super) fn leave(&mut self, waiter: usize, desk: Desk) {
        if let Some(place) = self.waiters.get_mut(waiter) {
            place.desk = desk;
            (place.pending, place.left) = (0, 0);
            self.free_waiters.push(waiter);
        }
    }

    /// One reply of this waiter has come.
    pub(super) fn answered(&mut self, waiter: usize) {
        if let Some(place) = self.waiters.get_mut(waiter) {
            place.pending = place.pending.saturating_sub(1);
            if place.pending == place.left {
                self.wake(waiter);
            }
        }
    }

    /// Notes that a waiter is about to sleep.
    pub(super) fn sleeps(&mut self, waiter: usize) -> Arc<Condvar> {
        self.sleeping.push(waiter);
        self.waiters
            .get(waiter)
            .map(|waiter| waiter.condvar.clone())
            .unwrap_or_default()
    }

    /// Notes that it is awake.
    pub(super) fn woke(&mut self, waiter: usize) {
        self.sleeping.retain(|&sleeper| sleeper != waiter);
    }

    /// Wakes somebody to take a role that has work and no holder.
    pub(super) fn hand_on(&mut self) {
        let unsent = !self.sending && !self.outbox.is_empty();
        if (self.dead || unsent || self.incoming.is_some())
            && let Some(&waiter) = self.sleeping.last()
        {
            self.wake(waiter);
        }
    }

    fn wake(&mut self, waiter: usize) {
        if let Some(waiter) = self.waiters.get(waiter) {
            waiter.condvar.notify_all();
        }
    }

    pub(super) fn wake_all(&mut self) {
        for waiter in &self.waiters {
            waiter.condvar.notify_all();
        }
    }
}
