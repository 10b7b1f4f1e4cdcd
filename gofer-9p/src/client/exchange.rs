//! Requests that one caller sends together, and the wait for their replies.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use gofer_transport::codec::Reader;
use gofer_transport::{TransportKind, Wait, Watch};
use gofer_vfs::Errno;
use gofer_vfs::remote::{RemoteError, RemoteResult};
use parking_lot::MutexGuard;

use super::fid::OwnedFid;
use super::incoming::{End, Incoming, Reading, Sink};
use super::session::{Session, State};
use super::table::{Effect, Reply, Violation};
use crate::wire::{
    Data, Fid, Message, Request, Rlerror, TMessage, Tag, Tflush, Tlconnect, Tlcreate, Tlopen,
    Tread, Tucreate,
};

/// Most requests in one exchange. More could fill both directions of the socket.
pub(super) const EXCHANGE_MAX: usize = 32;

/// From this size on, the outbox takes no more messages of callers.
const OUTBOX_MAX: usize = 4 << 20;

/// How long a sender without room leaves the reading to others before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Parts of one send that are kept on the stack.
const PARTS_MAX: usize = 8;

/// Requests that are sent together. Sent once, by [`Exchange::run`].
///
/// It owns the fids that its requests make: what the caller does not take with
/// [`Exchange::made`] is clunked in the end, whatever happens.
pub(super) struct Exchange<'s> {
    session: &'s Arc<Session>,
    wait: Wait<'s>,
    waiter: usize,
    desk: Desk,
}

/// The buffers of an exchange, reused by the next.
#[derive(Default)]
pub(super) struct Desk {
    /// The requests' bytes.
    out: Vec<u8>,
    /// Clunks that go along.
    tail: Vec<u8>,
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
enum Stage {
    Unsent,
    /// In the outbox, or in the hands of another sender.
    Left,
    Sent,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Unsent,
    Answered,
    /// The table takes care of it.
    GivenUp,
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
        }
    }

    /// Adds a request and returns its index. The fid of `effect` belongs to the exchange.
    pub(super) fn push<'a, T: Request<'a> + Into<TMessage<'a>>>(
        &mut self,
        request: T,
        effect: Effect,
    ) -> RemoteResult<usize> {
        debug_assert!(self.desk.entries.len() < EXCHANGE_MAX);
        let takes_fd = [
            Tlopen::KIND,
            Tlcreate::KIND,
            Tucreate::KIND,
            Tlconnect::KIND,
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
        self.desk.entries.push(Entry {
            tag,
            progress: Progress::Unsent,
            makes: match effect {
                Effect::Makes { fid, .. } => Some(fid),
                _ => None,
            },
            taken: false,
            reply: Reply::default(),
        });
        Ok(self.desk.entries.len() - 1)
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
        self.run_with(&[], None)
    }

    /// As [`Exchange::run`]. `payload` is the bulk data of the last request, if that was pushed
    /// without; `sink` takes the data of Rread replies where that saves a copy.
    pub(super) fn run_with(
        &mut self,
        payload: &[IoSlice<'_>],
        mut sink: Option<&mut Sink<'_, '_>>,
    ) -> RemoteResult<()> {
        let mut watch = None;
        let mut stage = Stage::Unsent;
        let mut state = self.session.lock();
        if let Some(place) = state.waiters.get_mut(self.waiter) {
            place.pending = self.desk.entries.len();
        }
        let result = loop {
            if self.pending(&state) == 0 {
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
        match (result, stage) {
            (_, Stage::Unsent) => {}
            (Ok(()), _) => self.collect(&mut state),
            (Err(_), _) => self.give_up(&mut state, &mut flushes),
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
            self.session.count_trip(self.desk.entries.len());
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

    fn pending(&self, state: &State) -> usize {
        state
            .waiters
            .get(self.waiter)
            .map_or(0, |waiter| waiter.pending)
    }

    /// Takes the sender's role and sends the outbox, the own requests, and clunks.
    fn send<'g>(
        &mut self,
        mut state: MutexGuard<'g, State>,
        payload: &[IoSlice<'_>],
    ) -> (MutexGuard<'g, State>, Stage)
    where
        's: 'g,
    {
        state.sending = true;
        let mut first = std::mem::take(&mut state.outbox);
        self.desk.tail.clear();
        self.session.write_clunks(&mut state, &mut self.desk.tail);
        drop(state);
        self.session.trace_bytes(&self.desk.tail);

        let (out, tail) = (&self.desk.out[..], &self.desk.tail[..]);
        let mut few = [IoSlice::new(&[]); PARTS_MAX];
        let mut many = Vec::new();
        let parts: &mut [IoSlice<'_>] = match few.get_mut(..payload.len() + 3) {
            Some(few) => few,
            None => {
                many.resize(payload.len() + 3, IoSlice::new(&[]));
                &mut many
            }
        };
        let all = [IoSlice::new(&first), IoSlice::new(out)].into_iter();
        let all = all
            .chain(payload.iter().copied())
            .chain([IoSlice::new(tail)]);
        parts
            .iter_mut()
            .zip(all)
            .for_each(|(part, bytes)| *part = bytes);
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let sent = self.session.transmit(parts, &self.wait);

        let mut state = self.session.lock();
        let mut unsent = false;
        if sent == total {
            first.clear();
        } else {
            // Given up. A message that has begun must be finished by whoever sends next; one that
            // has not is taken back.
            unsent = sent <= first.len();
            let before = first.len();
            if !unsent {
                first.extend_from_slice(out);
                payload
                    .iter()
                    .for_each(|part| first.extend_from_slice(part));
            }
            debug_assert!(unsent || sent > before);
            first.extend_from_slice(tail);
            first.drain(..sent.min(first.len()));
        }
        state.return_outbox(first);
        (state, if unsent { Stage::Unsent } else { Stage::Sent })
    }

    /// Takes the sender's role for what others left.
    fn send_outbox<'g>(&self, mut state: MutexGuard<'g, State>) -> MutexGuard<'g, State>
    where
        's: 'g,
    {
        state.sending = true;
        let mut bytes = std::mem::take(&mut state.outbox);
        drop(state);
        let sent = self
            .session
            .transmit(&mut [IoSlice::new(&bytes)], &self.wait);
        bytes.drain(..sent.min(bytes.len()));
        let mut state = self.session.lock();
        state.return_outbox(bytes);
        state
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

    /// Takes the replies, which are all there.
    fn collect(&mut self, state: &mut State) {
        for entry in &mut self.desk.entries {
            entry.progress = Progress::Answered;
            entry.reply = state.table.take_reply(entry.tag);
        }
    }

    /// Leaves what has no reply yet to the table, and appends a Tflush for it.
    fn give_up(&mut self, state: &mut State, flushes: &mut Vec<u8>) {
        for entry in &mut self.desk.entries {
            entry.progress = Progress::GivenUp;
            if let Some(flush) = state.table.give_up(entry.tag) {
                Tflush { oldtag: entry.tag }.encode(flush, flushes);
            }
        }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        let mut desk = std::mem::take(&mut self.desk);
        let mut state = self.session.lock();
        for entry in desk.entries.drain(..) {
            match entry.progress {
                Progress::Unsent => state.table.unstart(entry.tag),
                Progress::Answered => state.table.finish(entry.tag, entry.reply, entry.taken),
                Progress::GivenUp => {}
            }
        }
        desk.out.clear();
        state.leave(self.waiter, desk);
    }
}

impl Session {
    /// Sends `parts` and returns how many bytes went: all, unless `wait` ended it or the
    /// connection failed. While there is no room, and nobody reads, it reads: a server may take
    /// nothing before its replies are taken.
    fn transmit(&self, mut parts: &mut [IoSlice<'_>], wait: &Wait<'_>) -> usize {
        let mut sent = 0;
        let mut role: Option<Box<Incoming>> = None;
        let mut woken = false;
        let end = loop {
            IoSlice::advance_slices(&mut parts, 0);
            if parts.is_empty() {
                break Ok(());
            }
            match self.stream.try_send(parts, &[]) {
                Ok(count) => {
                    sent += count;
                    woken = false;
                    IoSlice::advance_slices(&mut parts, count);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break Err("sending failed"),
            }
            if let Some(incoming) = role.as_mut().filter(|_| woken) {
                // Woken, and not for output.
                match incoming.next(self, &mut Reading::for_others(wait)) {
                    Ok(_) => {}
                    Err(End::GaveUp) => break Ok(()),
                    Err(End::Lost(reason)) => break Err(reason),
                }
            }
            if role.is_none() && self.stream.kind() != TransportKind::Pipes {
                role = self.lock().incoming.take();
            }
            // Whoever reads now may leave without a successor: look again, now and then.
            let look_again = Instant::now() + LOOK_AGAIN;
            let brief = Wait {
                deadline: Some(
                    wait.deadline
                        .map_or(look_again, |deadline| deadline.min(look_again)),
                ),
                ..*wait
            };
            let bounds = if role.is_some() { wait } else { &brief };
            match self.stream.wait_output(role.is_some(), bounds) {
                Ok(()) => woken = true,
                Err(_) if gave_up(wait).is_some() => break Ok(()),
                Err(_) if gave_up(bounds).is_some() => woken = false,
                Err(_) => break Err("sending failed"),
            }
        };
        self.counts.bytes_sent.fetch_add(sent as u64, Relaxed);
        if let Some(incoming) = role {
            let mut state = self.lock();
            state.incoming = Some(incoming);
            state.hand_on();
        }
        if let Err(reason) = end {
            self.fail(reason);
        }
        sent
    }
}

impl State {
    /// Lays down the sender's role with what could not be sent. What others added meanwhile
    /// goes behind.
    pub(super) fn return_outbox(&mut self, mut rest: Vec<u8>) {
        rest.append(&mut self.outbox);
        self.outbox = rest;
        self.sending = false;
        if std::mem::take(&mut self.held_up) {
            self.wake_all();
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
