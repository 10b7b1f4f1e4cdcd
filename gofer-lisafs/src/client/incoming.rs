//! One response on its way in: from the socket in pieces, resumable between any two of them, or
//! from a window at once.
//!
//! A caller may give up at any moment; what is still to come of its response is then received
//! by the next caller, from where this one stopped.

use std::io::{self, IoSliceMut};

use gofer_transport::shm::Window;
use gofer_transport::{FdQueue, Stream, Wait};
use gofer_vfs::Errno;

use super::communicator::{Ended, Loss};
use crate::wire::{ChannelHeader, Mid, SocketHeader};

/// An announced payload above this is taken for garbage, not for a response that is merely too
/// large, and ends the connection instead of being skipped.
const SKIP_MAX: u32 = 64 << 20;

/// Bytes of the count before the data of a PRead response.
const READ_COUNT_SIZE: usize = 8;

/// Where the payload begins in the memory of a response, whichever way it comes.
const BODY: usize = SocketHeader::SIZE;

/// The least memory of a response. One system call takes a response in that fits: those of all
/// requests for one file do, and that of a read of a page.
const MEMORY_SIZE_MIN: usize = 8 << 10;

/// A caller's buffers, filled one after the other.
pub(super) struct Scatter<'s, 'b> {
    slices: &'s mut [IoSliceMut<'b>],
    /// Bytes of the first slice that are filled.
    filled: usize,
}

impl<'s, 'b> Scatter<'s, 'b> {
    pub(super) fn new(slices: &'s mut [IoSliceMut<'b>]) -> Scatter<'s, 'b> {
        Scatter { slices, filled: 0 }
    }

    /// Bytes there is still room for.
    pub(super) fn room(&self) -> usize {
        self.slices.iter().map(|slice| slice.len()).sum::<usize>() - self.filled
    }

    /// Unfilled bytes that lie together, at most `limit`; empty when all is filled.
    fn next(&mut self, limit: usize) -> &mut [u8] {
        while self
            .slices
            .first()
            .is_some_and(|slice| slice.len() == self.filled)
        {
            self.slices = &mut std::mem::take(&mut self.slices)[1..];
            self.filled = 0;
        }
        match self.slices.first_mut() {
            Some(slice) => {
                let end = slice.len().min(self.filled.saturating_add(limit));
                &mut slice[self.filled..end]
            }
            None => &mut [],
        }
    }

    fn advance(&mut self, count: usize) {
        self.filled += count;
    }

    /// Has `copy` fill in up to `count` bytes, as far as there is room: it gets how many came
    /// before, and the place of the next.
    fn fill(&mut self, count: usize, mut copy: impl FnMut(usize, &mut [u8])) {
        let mut done = 0;
        while done < count {
            let room = self.next(count - done);
            if room.is_empty() {
                return;
            }
            let copied = room.len();
            copy(done, room);
            self.advance(copied);
            done += copied;
        }
    }
}

/// One response and how much of it is there. Used for one after the other.
pub(super) struct Incoming {
    /// The request it answers.
    pub(super) request: Mid,
    /// Descriptors that came with it, at most as many as may come.
    pub(super) fds: FdQueue,
    descriptors: usize,
    limit: u32,
    /// Header and payload, but for data that went to a [`Scatter`].
    memory: Vec<u8>,
    /// Where in the memory that what has been received ends.
    filled: usize,
    /// Where in the memory that what is kept of the response ends.
    end: usize,
    message: Mid,
    payload_len: u32,
    /// Bytes received, header included.
    received: u64,
    /// Payload bytes that have not been received.
    left: u64,
    data: Data,
    fault: Option<Fault>,
}

/// The data of a PRead response that goes to the scatter.
#[derive(Clone, Copy)]
enum Data {
    /// There is none: all of the payload is body.
    None,
    /// At most this much was asked for.
    Asked(u64),
    /// This much is still to come, and was asked for.
    Coming(u64),
}

/// What makes a complete response useless.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Larger than the connection's limit.
    TooLarge,
    /// A count of data that is not there or was not asked for.
    BadCount,
}

impl Default for Incoming {
    /// Memory to come, and nothing expected.
    fn default() -> Incoming {
        Incoming {
            request: Mid::ERROR,
            fds: FdQueue::default(),
            descriptors: 0,
            limit: 0,
            memory: Vec::new(),
            filled: 0,
            end: BODY,
            message: Mid::ERROR,
            payload_len: 0,
            received: 0,
            left: 0,
            data: Data::None,
            fault: None,
        }
    }
}

impl Incoming {
    /// Nothing received yet, of the response to `request`. At most `descriptors` come with it,
    /// and its payload is at most `limit` bytes; with `data`, so many of a PRead response go to the
    /// scatter.
    pub(super) fn expect(
        &mut self,
        request: Mid,
        descriptors: usize,
        limit: u32,
        data: Option<u32>,
    ) {
        self.request = request;
        self.fds.reset(descriptors);
        self.descriptors = descriptors;
        self.limit = limit;
        self.filled = 0;
        self.end = BODY;
        self.message = Mid::ERROR;
        self.payload_len = 0;
        self.received = 0;
        self.left = 0;
        self.data = data.map_or(Data::None, |count| Data::Asked(count.into()));
        self.fault = None;
    }

    /// Which message came.
    pub(super) fn message(&self) -> Mid {
        self.message
    }

    /// Bytes of its payload, data for the scatter included.
    pub(super) fn payload_len(&self) -> u32 {
        self.payload_len
    }

    /// The payload, but for data that went to the scatter.
    pub(super) fn body(&self) -> &[u8] {
        self.memory.get(BODY..self.end).unwrap_or_default()
    }

    /// The count at the start of a PRead response, once it is there.
    pub(super) fn data_count(&self) -> Option<u64> {
        let bytes = self.body().first_chunk::<READ_COUNT_SIZE>()?;
        Some(u64::from_le_bytes(*bytes))
    }

    /// What is wrong with the response as a whole.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Bytes received so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// The payload, and the descriptors that came.
    pub(super) fn split(&mut self) -> (&[u8], &mut FdQueue) {
        let body = self.memory.get(BODY..self.end).unwrap_or_default();
        (body, &mut self.fds)
    }

    /// Bytes of memory it holds.
    pub(super) fn capacity(&self) -> usize {
        self.memory.capacity()
    }

    /// Receives from the socket until the response is complete.
    pub(super) fn receive(
        &mut self,
        stream: &Stream,
        into: &mut Scatter<'_, '_>,
        wait: &Wait<'_>,
    ) -> Result<(), Ended> {
        if self.filled < BODY {
            self.receive_header(stream, wait)?;
        }
        while self.filled < self.end {
            let room = &mut self.memory[self.filled..self.end];
            let count = some(stream.receive(room, None, wait))?;
            self.arrived(count);
        }
        let surplus = self.end..self.filled;
        self.filled = self.end;
        let data = self.check_data();
        into.fill(data.min(surplus.len()), |done, room| {
            let start = surplus.start + done;
            room.copy_from_slice(&self.memory[start..start + room.len()]);
        });
        self.delivered(surplus.len());
        self.receive_rest(stream, into, wait)
    }

    /// Receives the header. Where no descriptors can come, whatever comes with it as well: there
    /// is nothing behind this response that could be lost (lisafs 2.2).
    fn receive_header(&mut self, stream: &Stream, wait: &Wait<'_>) -> Result<(), Ended> {
        self.reserve(BODY);
        while self.filled < BODY {
            // Only the header brings descriptors, and only where the type has any: whatever
            // else comes the kernel closes (lisafs 2.3).
            let (fds, end) = match self.descriptors {
                0 => (None, self.memory.len()),
                _ => (Some(&mut self.fds), BODY),
            };
            let room = &mut self.memory[self.filled..end];
            let count = some(stream.receive(room, fds, wait))?;
            self.filled += count;
            self.received += count as u64;
        }
        let header = self.memory.first_chunk().map(SocketHeader::decode);
        let header = header.ok_or(Ended::Lost(Loss::Garbage))?;
        let payload_len = header.payload_len.get();
        let excess = (self.filled - BODY) as u64 > u64::from(payload_len);
        if excess || payload_len > SKIP_MAX {
            return Err(Ended::Lost(Loss::Garbage));
        }
        self.begin(header.message, payload_len);
        self.left -= (self.filled - BODY) as u64;
        Ok(())
    }

    /// Copies the datagram of `length` bytes in `window`, but for its descriptors, whose number
    /// is returned. Each byte is read once: the peer may write there at any time.
    pub(super) fn copy(
        &mut self,
        window: &Window,
        length: usize,
        into: &mut Scatter<'_, '_>,
    ) -> Result<u8, Ended> {
        let payload_len = length.checked_sub(ChannelHeader::SIZE);
        // Too short for a header (lisafs 7.4); windows are smaller than 4 GiB.
        let Some(payload_len) = payload_len.and_then(|len| u32::try_from(len).ok()) else {
            return Err(Ended::Broken);
        };
        let mut header = [0; ChannelHeader::SIZE];
        window.read(0, &mut header);
        let header = ChannelHeader::decode(&header);
        self.begin(header.message, payload_len);
        self.received = length as u64;
        self.left = 0;
        window.read(ChannelHeader::SIZE, &mut self.memory[BODY..self.end]);
        self.filled = self.end;
        let start = ChannelHeader::SIZE + READ_COUNT_SIZE;
        let data = self.check_data();
        into.fill(data, |done, room| window.read(start + done, room));
        Ok(header.num_fds)
    }

    /// With the header there: decides where the payload goes.
    fn begin(&mut self, message: Mid, payload_len: u32) {
        self.message = message;
        self.payload_len = payload_len;
        self.left = u64::from(payload_len);
        let mut body = payload_len as usize;
        if payload_len > self.limit {
            self.fail(Fault::TooLarge);
            body = 0;
        } else if matches!(self.data, Data::Asked(_)) {
            match message == self.request {
                true => body = body.min(READ_COUNT_SIZE),
                false => self.data = Data::None,
            }
        }
        self.end = BODY + body;
        self.reserve(self.end);
    }

    fn reserve(&mut self, size: usize) {
        if self.memory.len() < size {
            self.memory.resize(size.max(MEMORY_SIZE_MIN), 0);
        }
    }

    fn arrived(&mut self, count: usize) {
        self.filled += count;
        self.received += count as u64;
        self.left -= count as u64;
    }

    /// With the body there: how many bytes of data there are to deliver. Checked in 64 bits,
    /// before a byte goes to the caller's memory (lisafs 6.12).
    fn check_data(&mut self) -> usize {
        if let Data::Asked(asked) = self.data {
            let there = u64::from(self.payload_len).saturating_sub(READ_COUNT_SIZE as u64);
            match self.data_count() {
                Some(count) if count <= asked && count <= there => self.data = Data::Coming(count),
                _ => self.fail(Fault::BadCount),
            }
        }
        match self.data {
            Data::Coming(count) => usize::try_from(count).unwrap_or(usize::MAX),
            _ => 0,
        }
    }

    fn delivered(&mut self, count: usize) {
        if let Data::Coming(left) = &mut self.data {
            *left = left.saturating_sub(count as u64);
        }
    }

    fn fail(&mut self, fault: Fault) {
        self.fault = Some(fault);
        self.data = Data::None;
    }

    /// Receives what is not body: data for the scatter, and bytes nobody wants.
    fn receive_rest(
        &mut self,
        stream: &Stream,
        into: &mut Scatter<'_, '_>,
        wait: &Wait<'_>,
    ) -> Result<(), Ended> {
        while self.left > 0 {
            let wanted = match self.data {
                Data::Coming(count) => usize::try_from(count).unwrap_or(usize::MAX),
                _ => 0,
            };
            let room = into.next(wanted);
            let count = if room.is_empty() {
                skip(stream, self.left, wait)?
            } else {
                let count = some(stream.receive(room, None, wait))?;
                into.advance(count);
                count
            };
            self.delivered(count);
            self.received += count as u64;
            self.left -= count as u64;
        }
        Ok(())
    }
}

/// Receives some of `left` bytes that nobody wants.
fn skip(stream: &Stream, left: u64, wait: &Wait<'_>) -> Result<usize, Ended> {
    let mut unwanted = [0; 4096];
    let end = usize::try_from(left).map_or(unwanted.len(), |left| left.min(unwanted.len()));
    some(stream.receive(&mut unwanted[..end], None, wait))
}

/// The end of the stream inside a response is the loss of the connection, and no end of file.
fn some(received: io::Result<usize>) -> Result<usize, Ended> {
    match received {
        Ok(0) => Err(Ended::Lost(Loss::Closed)),
        Ok(count) => Ok(count),
        Err(error) => Err(Ended::of(&error)),
    }
}

impl Ended {
    /// Tells the caller's bounds from failures of the connection.
    pub(super) fn of(error: &io::Error) -> Ended {
        match Errno::from(error) {
            Errno::ETIMEDOUT => Ended::GaveUp(Errno::ETIMEDOUT),
            Errno::ECANCELED => Ended::GaveUp(Errno::EINTR),
            errno => Ended::Lost(Loss::Io(errno)),
        }
    }
}
