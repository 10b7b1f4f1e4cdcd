//! A connection: typed calls with everything the protocol asks a client to check.

use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, Weak};
use std::time::{Duration, Instant};

use gofer_transport::{FdQueue, Stream, Tracer, Wait};
use gofer_vfs::Errno;
use gofer_vfs::remote::{Call, Fate, Promptness, RemoteError, RemoteEvents, RemoteResult, Traffic};
use parking_lot::Mutex;

use super::closes::Closes;
use super::communicator::{Communicator, Loss, Outgoing};
use super::incoming::{Fault, Incoming, Scatter};
use crate::trace;
use crate::wire::{
    AnyResponse, ChannelReq, CloseReq, ErrorResp, Fdid, MAX_MESSAGE_SIZE_BEFORE_MOUNT, Message,
    Mid, MountResp, PReadReq, PWriteReq, PWriteResp, Request,
};

/// The largest message this client takes part in, whatever the server allows.
const MESSAGE_SIZE_MAX: u32 = 16 << 20;

/// Scratches kept for the next calls, and the most memory that is worth keeping in one.
const SCRATCHES_MAX: usize = 8;
const SCRATCH_SIZE_MAX: usize = 256 << 10;

/// How long the handshake of a channel may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// What Mount said of the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Largest payload, either direction.
    pub(super) max_message_size: u32,
    /// Bit n: message n is supported. Those from 64 on this client does not send.
    supported: u64,
}

impl Terms {
    const BEFORE_MOUNT: Terms = Terms {
        max_message_size: MAX_MESSAGE_SIZE_BEFORE_MOUNT,
        supported: 1 << Mid::MOUNT.get(),
    };

    pub(super) fn new(mount: &MountResp<'_>) -> Terms {
        let bits = mount.supported_mids.iter().map(|mid| bit(*mid));
        Terms {
            max_message_size: mount.max_message_size.min(MESSAGE_SIZE_MAX),
            supported: bits.fold(bit(Mid::MOUNT), |all, bit| all | bit),
        }
    }

    pub(super) fn supports(&self, mid: Mid) -> bool {
        self.supported & bit(mid) != 0
    }
}

fn bit(mid: Mid) -> u64 {
    1u64.checked_shl(mid.get().into()).unwrap_or(0)
}

/// A connection to a server.
pub(super) struct Connection {
    communicator: Communicator,
    pub(super) closes: Closes,
    terms: OnceLock<Terms>,
    timeout: Option<Duration>,
    tracer: Tracer,
    /// Lent to one call at a time each. Boxed, since to move one would cost each call more.
    #[allow(clippy::vec_box)]
    scratch: Mutex<Vec<Box<Scratch>>>,
    subscribers: Mutex<Vec<Weak<dyn RemoteEvents>>>,
    loss_told: AtomicBool,
}

/// What one call works with, and its memory.
#[derive(Default)]
struct Scratch {
    /// Socket header and payload, but for bulk data.
    request: Vec<u8>,
    incoming: Incoming,
}

impl Connection {
    pub(super) fn new(stream: Stream, timeout: Option<Duration>, tracer: Tracer) -> Connection {
        Connection {
            communicator: Communicator::new(stream),
            closes: Closes::default(),
            terms: OnceLock::new(),
            timeout,
            tracer,
            scratch: Mutex::default(),
            subscribers: Mutex::default(),
            loss_told: AtomicBool::new(false),
        }
    }

    /// What the server agreed to; before Mount, what clients assume (semantics 3.3).
    pub(super) fn terms(&self) -> &Terms {
        self.terms.get().unwrap_or(&Terms::BEFORE_MOUNT)
    }

    /// Keeps what the first Mount said. It holds for the whole connection.
    pub(super) fn agree(&self, terms: Terms) {
        let _ = self.terms.set(terms);
    }

    /// Opens up to `count` channels. Those the server does not give, or that cannot be used, are
    /// done without; that the connection is lost shows in the next call.
    pub(super) fn open_channels(&self, call: &Call<'_>, count: usize) {
        if !self.terms().supports(Mid::CHANNEL) {
            return;
        }
        let limit = self.terms().max_message_size;
        for _ in 0..count {
            let added = self.call(call, &ChannelReq {}, |place, fds| {
                let patience = Instant::now().checked_add(HANDSHAKE_TIMEOUT);
                let wait = Wait {
                    deadline: call.deadline.into_iter().chain(patience).min(),
                    cancel: call.cancel,
                };
                Ok(self.communicator.add_channel(&place, fds, limit, &wait))
            });
            match added {
                Ok(Some(())) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(errno = %error.errno, "no more channels");
                    break;
                }
            }
        }
        self.communicator.use_channels();
    }

    /// How many channels are in use.
    pub(super) fn channels(&self) -> usize {
        self.communicator.channels()
    }

    pub(super) fn loss(&self) -> Option<Loss> {
        self.communicator.loss()
    }

    /// Ends the connection and wakes every caller.
    pub(super) fn shutdown(&self) {
        self.communicator.lose(Loss::Shutdown);
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.communicator.traffic()
    }

    /// Tells `sink` of loss, at once if it has happened.
    pub(super) fn subscribe(&self, sink: Weak<dyn RemoteEvents>) {
        let mut subscribers = self.subscribers.lock();
        subscribers.retain(|known| known.strong_count() > 0);
        subscribers.push(sink.clone());
        let told = self.loss_told.load(Ordering::SeqCst);
        drop(subscribers);
        if told && let Some(sink) = sink.upgrade() {
            sink.lost(0);
        }
    }

    /// Sends `request` and hands its response, with the descriptors that came, to `take`.
    ///
    /// Descriptors that `take` leaves are closed. No lock is held while `take` runs.
    pub(super) fn call<'q, R, T>(
        &self,
        call: &Call<'_>,
        request: &R,
        take: impl for<'r> FnOnce(R::Response<'r>, &mut FdQueue) -> RemoteResult<T>,
    ) -> RemoteResult<T>
    where
        R: Request<'q>,
    {
        let wait = self.begin(call, R::MID)?;
        self.ask(&wait, request, take)
    }

    /// Reads into `into`, at most `limit` bytes; the data does not pass through a buffer.
    pub(super) fn read(
        &self,
        call: &Call<'_>,
        (fd, offset, limit): (Fdid, u64, u32),
        into: &mut Scatter<'_, '_>,
    ) -> RemoteResult<usize> {
        let wait = self.begin(call, Mid::PREAD)?;
        let request = PReadReq {
            offset,
            fd,
            count: limit,
        };
        let mut scratch = self.borrow_scratch();
        request.encode_head(&mut scratch.request);
        self.tracer.line(|| trace::message(&request));
        let max_size = self.terms().max_message_size;
        let incoming = &mut scratch.incoming;
        incoming.expect(Mid::PREAD, 0, max_size, Some(limit));
        let outgoing = Outgoing::new(Mid::PREAD, &scratch.request, &[]);
        self.transact(&wait, &outgoing, incoming, into)?;
        let count = || {
            let count = incoming.data_count();
            count.and_then(|count| usize::try_from(count).ok())
        };
        let result = check(incoming).and_then(|()| count().ok_or(RemoteError::unknown(Errno::EIO)));
        self.return_scratch(scratch);
        result
    }

    /// Writes `data` (at most [`Outgoing::DATA_PARTS_MAX`] parts) from where it lies.
    pub(super) fn write(
        &self,
        call: &Call<'_>,
        (fd, offset): (Fdid, u64),
        data: &[IoSlice<'_>],
    ) -> RemoteResult<u64> {
        let wait = self.begin(call, Mid::PWRITE)?;
        let len = data.iter().map(|part| part.len()).sum();
        let mut scratch = self.borrow_scratch();
        PWriteReq::encode_head_for(offset, fd, len, &mut scratch.request);
        self.tracer.line(|| {
            std::fmt::from_fn(move |f| {
                write!(
                    f,
                    "> {} offset {offset} fd {fd} data {len} bytes",
                    Mid::PWRITE
                )
            })
        });
        let max_size = self.terms().max_message_size;
        let incoming = &mut scratch.incoming;
        incoming.expect(Mid::PWRITE, 0, max_size, None);
        let outgoing = Outgoing::new(Mid::PWRITE, &scratch.request, data);
        self.transact(&wait, &outgoing, incoming, &mut Scatter::new(&mut []))?;
        let result = check(incoming).and_then(|()| decode::<PWriteResp>(incoming.body()));
        let result = result.map(|response| response.count);
        self.return_scratch(scratch);
        result
    }

    /// Sends the FDIDs that wait to be closed. What a Close answers is of no interest; only
    /// that the caller gave up or the connection is lost is an error (lisafs 10.5).
    pub(super) fn flush_closes(&self, call: &Call<'_>) -> RemoteResult<()> {
        self.send_closes(&self.wait(call), self.closes.take_all())
    }

    /// Whether a request may be sent, and how long it may take. Sends closes that are due.
    fn begin<'c>(&self, call: &Call<'c>, mid: Mid) -> RemoteResult<Wait<'c>> {
        if !self.terms().supports(mid) {
            return Err(RemoteError::not_sent(Errno::EOPNOTSUPP));
        }
        let wait = self.wait(call);
        let due = self.closes.take_due();
        if !due.is_empty() {
            // If this failed, so will what comes next, and says why.
            let _ = self.send_closes(&wait, due);
        }
        Ok(wait)
    }

    fn wait<'c>(&self, call: &Call<'c>) -> Wait<'c> {
        let timeout = || {
            self.timeout
                .and_then(|timeout| Instant::now().checked_add(timeout))
        };
        Wait {
            deadline: call.deadline.or_else(timeout),
            cancel: call.cancel,
        }
    }

    fn send_closes(&self, wait: &Wait<'_>, fds: Vec<Fdid>) -> RemoteResult<()> {
        if !self.terms().supports(Mid::CLOSE) {
            return Ok(());
        }
        let room = (self.terms().max_message_size as usize).saturating_sub(CloseReq::MIN_SIZE);
        let most = (room / size_of::<Fdid>()).clamp(1, usize::from(u16::MAX));
        let mut batches = fds.chunks(most);
        for batch in batches.by_ref() {
            let Err(error) = self.ask(wait, &CloseReq { fds: batch }, |_, _| Ok(())) else {
                continue;
            };
            if !self.is_final(error) {
                tracing::warn!(errno = %error.errno, "the server refused a Close");
                continue;
            }
            // What was not sent waits for another occasion.
            let unsent = if error.fate == Fate::NotSent {
                batch
            } else {
                &[]
            };
            for fd in unsent.iter().chain(batches.flatten()) {
                self.closes.push(*fd, Promptness::Batched);
            }
            return Err(error);
        }
        self.closes.recycle(fds);
        Ok(())
    }

    /// Whether an error is the end of waiting, and not an answer.
    fn is_final(&self, error: RemoteError) -> bool {
        self.loss().is_some() || matches!(error.errno, Errno::EINTR | Errno::ETIMEDOUT)
    }

    /// One request and its response, without looking at anything but the two.
    fn ask<'q, R, T>(
        &self,
        wait: &Wait<'_>,
        request: &R,
        take: impl for<'r> FnOnce(R::Response<'r>, &mut FdQueue) -> RemoteResult<T>,
    ) -> RemoteResult<T>
    where
        R: Request<'q>,
    {
        let mut scratch = self.borrow_scratch();
        request.encode_head(&mut scratch.request);
        self.tracer.line(|| trace::message(request));
        let max_size = self.terms().max_message_size;
        let incoming = &mut scratch.incoming;
        incoming.expect(R::MID, R::DESCRIPTORS, max_size, None);
        let bulk = [IoSlice::new(request.data())];
        let outgoing = Outgoing::new(R::MID, &scratch.request, &bulk);
        self.transact(wait, &outgoing, incoming, &mut Scatter::new(&mut []))?;
        let result = check(incoming).and_then(|()| {
            let (body, fds) = incoming.split();
            take(decode::<R::Response<'_>>(body)?, fds)
        });
        self.return_scratch(scratch);
        result
    }

    /// Exchanges the bytes. What came back is not looked at.
    fn transact(
        &self,
        wait: &Wait<'_>,
        request: &Outgoing<'_>,
        incoming: &mut Incoming,
        into: &mut Scatter<'_, '_>,
    ) -> RemoteResult<()> {
        let mid = incoming.request;
        if request.payload_len() > self.terms().max_message_size as usize {
            return Err(RemoteError::not_sent(Errno::EIO));
        }
        let orphan = |orphan: &Incoming| {
            self.trace_response(orphan);
            self.closes.adopt(orphan);
        };
        let result = self
            .communicator
            .exchange(request, incoming, into, wait, &orphan);
        result.inspect_err(|error| {
            tracing::debug!(message = %mid, errno = %error.errno, "no response");
            self.tell_loss();
        })?;
        self.trace_response(incoming);
        Ok(())
    }

    fn trace_response(&self, incoming: &Incoming) {
        if !self.tracer.is_on() {
            return;
        }
        let mid = incoming.message();
        match AnyResponse::decode(mid, incoming.body()) {
            _ if incoming.fault().is_some() => {
                let len = incoming.payload_len() as usize;
                self.tracer.line(|| trace::malformed(mid, len));
            }
            Ok(response) => self
                .tracer
                .line(|| trace::response(&response, incoming.fds.len())),
            Err(_) if mid == Mid::PREAD && incoming.data_count().is_some() => {
                let count = incoming.data_count().unwrap_or(0);
                self.tracer.line(|| trace::data_read(count as usize));
            }
            Err(_) => self
                .tracer
                .line(|| trace::malformed(mid, incoming.body().len())),
        }
    }

    /// Tells the subscribers, once, that the connection is gone; nothing after a shutdown.
    fn tell_loss(&self) {
        if matches!(self.loss(), None | Some(Loss::Shutdown)) {
            return;
        }
        let subscribers = {
            let mut subscribers = self.subscribers.lock();
            match self.loss_told.swap(true, Ordering::SeqCst) {
                true => return,
                false => std::mem::take(&mut *subscribers),
            }
        };
        for sink in subscribers.iter().filter_map(Weak::upgrade) {
            sink.lost(0);
        }
    }

    fn borrow_scratch(&self) -> Box<Scratch> {
        let mut scratch = self.scratch.lock().pop().unwrap_or_default();
        scratch.request.clear();
        scratch
    }

    /// Keeps `scratch` for another call; descriptors that nobody took are closed.
    fn return_scratch(&self, mut scratch: Box<Scratch>) {
        scratch.incoming.fds.clear();
        if scratch.request.capacity().max(scratch.incoming.capacity()) <= SCRATCH_SIZE_MAX {
            let mut all = self.scratch.lock();
            if all.len() < SCRATCHES_MAX {
                all.push(scratch);
            }
        }
    }
}

/// Checks a response in the order of lisafs 10.4, up to decoding.
fn check(incoming: &Incoming) -> RemoteResult<()> {
    let (asked, got) = (incoming.request, incoming.message());
    if incoming.fault() == Some(Fault::TooLarge) {
        return Err(RemoteError::unknown(Errno::EIO));
    }
    if got == Mid::ERROR {
        return Err(match ErrorResp::decode(incoming.body()) {
            Ok(error) => RemoteError::refused(errno(error.errno)),
            Err(_) => RemoteError::unknown(Errno::EIO),
        });
    }
    if got != asked {
        tracing::warn!(%asked, %got, "a response of another type");
        return Err(RemoteError::unknown(Errno::EINVAL));
    }
    match incoming.fault() {
        Some(_) => Err(RemoteError::unknown(Errno::EIO)),
        None => Ok(()),
    }
}

fn decode<'r, M: Message<'r>>(body: &'r [u8]) -> RemoteResult<M> {
    M::decode(body).map_err(|error| {
        tracing::warn!(message = %M::MID, %error, "a response does not decode");
        RemoteError::unknown(Errno::EIO)
    })
}

/// The number of an Error response; 0, and what no errno can be, is `EIO`.
fn errno(raw: u32) -> Errno {
    Errno::from_raw(i32::try_from(raw).unwrap_or(0))
}
