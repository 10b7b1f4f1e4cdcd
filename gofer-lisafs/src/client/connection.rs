//! A connection: typed calls with everything the protocol asks a client to check.

use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};
use std::time::{Duration, Instant};

use gofer_transport::{FdQueue, Stream, Tracer, Wait};
use gofer_vfs::Errno;
use gofer_vfs::remote::{Call, Fate, Promptness, RemoteError, RemoteEvents, RemoteResult, Traffic};
use parking_lot::Mutex;

use super::closes::Closes;
use super::communicator::{Communicator, Loss};
use super::incoming::{Fault, Incoming, Scatter};
use crate::trace;
use crate::wire::{
    AnyResponse, CloseReq, ErrorResp, Fdid, MAX_MESSAGE_SIZE_BEFORE_MOUNT, Message, Mid, MountResp,
    PReadReq, PWriteReq, PWriteResp, Request, SocketHeader,
};

/// The largest message this client takes part in, whatever the server allows.
const MESSAGE_SIZE_MAX: u32 = 16 << 20;

/// Buffers kept for the next calls, and the largest that is worth keeping.
const BUFFERS_MAX: usize = 8;
const BUFFER_SIZE_MAX: usize = 256 << 10;

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
    /// Memory of requests and responses, lent to one call at a time.
    buffers: Mutex<Vec<Buffers>>,
    counters: Counters,
    subscribers: Mutex<Vec<Weak<dyn RemoteEvents>>>,
    loss_told: AtomicBool,
}

#[derive(Default)]
struct Buffers {
    request: Vec<u8>,
    response: Vec<u8>,
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
}

impl Connection {
    pub(super) fn new(stream: Stream, timeout: Option<Duration>, tracer: Tracer) -> Connection {
        Connection {
            communicator: Communicator::new(stream),
            closes: Closes::default(),
            terms: OnceLock::new(),
            timeout,
            tracer,
            buffers: Mutex::default(),
            counters: Counters::default(),
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

    pub(super) fn loss(&self) -> Option<Loss> {
        self.communicator.loss()
    }

    /// Ends the connection and wakes every caller.
    pub(super) fn shutdown(&self) {
        self.communicator.lose(Loss::Shutdown);
    }

    pub(super) fn traffic(&self) -> Traffic {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            // No request is sent before the response to the one before it is there.
            round_trips: count(&self.counters.requests),
            requests: count(&self.counters.requests),
            bytes_sent: count(&self.counters.bytes_sent),
            bytes_received: count(&self.counters.bytes_received),
        }
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
        let mut buffers = self.borrow_buffers();
        request.encode_head(&mut buffers.request);
        self.tracer.line(|| trace::message(&request));
        let response = std::mem::take(&mut buffers.response);
        let incoming = Incoming::new(Mid::PREAD, 0, self.terms().max_message_size, response)
            .expecting_data(limit.into());
        let parts = [IoSlice::new(&buffers.request)];
        let incoming = self.transact(&wait, &parts, incoming, into)?;
        let count = incoming
            .data_count()
            .and_then(|count| usize::try_from(count).ok());
        buffers.response = incoming.body;
        self.return_buffers(buffers);
        count.ok_or(RemoteError::unknown(Errno::EIO))
    }

    /// Writes `data` (at most [`super::communicator::PARTS_MAX`] - 1 parts) from where it lies.
    pub(super) fn write(
        &self,
        call: &Call<'_>,
        (fd, offset): (Fdid, u64),
        data: &[IoSlice<'_>],
    ) -> RemoteResult<u64> {
        let wait = self.begin(call, Mid::PWRITE)?;
        let len = data.iter().map(|part| part.len()).sum();
        let mut buffers = self.borrow_buffers();
        PWriteReq::encode_head_for(offset, fd, len, &mut buffers.request);
        self.tracer.line(|| {
            std::fmt::from_fn(move |f| {
                write!(
                    f,
                    "> {} offset {offset} fd {fd} data {len} bytes",
                    Mid::PWRITE
                )
            })
        });
        let response = std::mem::take(&mut buffers.response);
        let incoming = Incoming::new(Mid::PWRITE, 0, self.terms().max_message_size, response);
        let parts: Vec<IoSlice<'_>> = std::iter::once(IoSlice::new(&buffers.request))
            .chain(data.iter().copied())
            .collect();
        let incoming = self.transact(&wait, &parts, incoming, &mut Scatter::new(&mut []))?;
        let count = PWriteResp::decode(&incoming.body).map(|response| response.count);
        buffers.response = incoming.body;
        self.return_buffers(buffers);
        count.map_err(|_| RemoteError::unknown(Errno::EIO))
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
        let mut buffers = self.borrow_buffers();
        request.encode_head(&mut buffers.request);
        self.tracer.line(|| trace::message(request));
        let response = std::mem::take(&mut buffers.response);
        let limit = self.terms().max_message_size;
        let incoming = Incoming::new(R::MID, R::DESCRIPTORS, limit, response);
        let parts = [IoSlice::new(&buffers.request), IoSlice::new(request.data())];
        let mut incoming = self.transact(wait, &parts, incoming, &mut Scatter::new(&mut []))?;
        let result = match <R::Response<'_> as Message<'_>>::decode(&incoming.body) {
            Ok(response) => take(response, &mut incoming.fds),
            Err(error) => {
                tracing::warn!(message = %R::MID, %error, "a response does not decode");
                Err(RemoteError::unknown(Errno::EIO))
            }
        };
        buffers.response = incoming.body;
        self.return_buffers(buffers);
        result
    }

    /// Exchanges the bytes and checks the response in the order of lisafs 10.4, up to decoding.
    fn transact(
        &self,
        wait: &Wait<'_>,
        request: &[IoSlice<'_>],
        incoming: Incoming,
        into: &mut Scatter<'_, '_>,
    ) -> RemoteResult<Incoming> {
        let mid = incoming.request;
        let size = request.iter().map(|part| part.len()).sum::<usize>();
        if size - SocketHeader::SIZE > self.terms().max_message_size as usize {
            return Err(RemoteError::not_sent(Errno::EIO));
        }
        let orphan = |orphan: &Incoming| {
            self.count_received(orphan);
            self.trace_response(orphan);
            self.closes.adopt(orphan);
        };
        let result = self
            .communicator
            .exchange(request, incoming, into, wait, &orphan);
        if !matches!(result, Err(error) if error.fate == Fate::NotSent) {
            self.counters.requests.fetch_add(1, Ordering::Relaxed);
            self.counters
                .bytes_sent
                .fetch_add(size as u64, Ordering::Relaxed);
        }
        let incoming = result.inspect_err(|error| {
            tracing::debug!(message = %mid, errno = %error.errno, "no response");
            self.tell_loss();
        })?;
        self.count_received(&incoming);
        self.trace_response(&incoming);
        let header = incoming.header();
        if incoming.fault() == Some(Fault::TooLarge) {
            return Err(RemoteError::unknown(Errno::EIO));
        }
        if header.message == Mid::ERROR {
            return Err(match ErrorResp::decode(&incoming.body) {
                Ok(error) => RemoteError::refused(errno(error.errno)),
                Err(_) => RemoteError::unknown(Errno::EIO),
            });
        }
        if header.message != mid {
            tracing::warn!(asked = %mid, got = %header.message, "a response of another type");
            return Err(RemoteError::unknown(Errno::EINVAL));
        }
        match incoming.fault() {
            Some(_) => Err(RemoteError::unknown(Errno::EIO)),
            None => Ok(incoming),
        }
    }

    fn count_received(&self, incoming: &Incoming) {
        self.counters
            .bytes_received
            .fetch_add(incoming.received(), Ordering::Relaxed);
    }

    fn trace_response(&self, incoming: &Incoming) {
        if !self.tracer.is_on() {
            return;
        }
        let mid = incoming.header().message;
        match AnyResponse::decode(mid, &incoming.body) {
            _ if incoming.fault().is_some() => {
                let len = incoming.header().payload_len.get() as usize;
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
                .line(|| trace::malformed(mid, incoming.body.len())),
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

    fn borrow_buffers(&self) -> Buffers {
        let mut buffers = self.buffers.lock().pop().unwrap_or_default();
        buffers.request.clear();
        buffers
    }

    fn return_buffers(&self, buffers: Buffers) {
        if buffers.request.capacity().max(buffers.response.capacity()) <= BUFFER_SIZE_MAX {
            let mut all = self.buffers.lock();
            if all.len() < BUFFERS_MAX {
                all.push(buffers);
            }
        }
    }
}

/// The number of an Error response; 0, and what no errno can be, is `EIO`.
fn errno(raw: u32) -> Errno {
    Errno::from_raw(i32::try_from(raw).unwrap_or(0))
}
