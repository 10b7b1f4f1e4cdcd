//! One response on its way in, received in pieces and resumable between any two of them.
//!
//! A caller may give up at any moment; what is still to come of its response is then received
//! by the next caller, from where this one stopped.

use std::io::{self, IoSliceMut};

use gofer_transport::{FdQueue, Stream, Wait};
use gofer_vfs::Errno;

use super::communicator::Loss;
use crate::wire::{Mid, SocketHeader};

/// An announced payload above this is taken for garbage, not for a response that is merely too
/// large, and ends the connection instead of being skipped.
const SKIP_MAX: u32 = 64 << 20;

/// Bytes of the count before the data of a PRead response.
const READ_COUNT_SIZE: usize = 8;

/// Why receiving or sending stopped.
pub(super) enum Ended {
    /// The caller's deadline passed (`ETIMEDOUT`) or its cancel was set (`EINTR`).
    GaveUp(Errno),
    /// The connection is of no more use.
    Lost(Loss),
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
}

/// One response and how much of it is there.
pub(super) struct Incoming {
    /// The request it answers.
    pub(super) request: Mid,
    /// Descriptors that came with the header, at most as many as may come.
    pub(super) fds: FdQueue,
    /// The payload, but for data that went to a [`Scatter`].
    pub(super) body: Vec<u8>,
    descriptors: usize,
    limit: u32,
    header: [u8; SocketHeader::SIZE],
    header_received: usize,
    body_received: usize,
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
    /// This much comes, and was asked for.
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

impl Incoming {
    /// Nothing received yet. `limit` is the largest payload; `body` only lends its memory.
    pub(super) fn new(request: Mid, descriptors: usize, limit: u32, body: Vec<u8>) -> Incoming {
        Incoming {
            request,
            fds: FdQueue::new(descriptors),
            body,
            descriptors,
            limit,
            header: [0; SocketHeader::SIZE],
            header_received: 0,
            body_received: 0,
            left: 0,
            data: Data::None,
            fault: None,
        }
    }

    /// Lets at most `count` bytes of a PRead response go to the scatter.
    pub(super) fn expecting_data(mut self, count: u64) -> Incoming {
        self.data = Data::Asked(count);
        self
    }

    /// The header, once it is there.
    pub(super) fn header(&self) -> SocketHeader {
        SocketHeader::decode(&self.header)
    }

    /// What is wrong with the response as a whole.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Bytes received so far.
    pub(super) fn received(&self) -> u64 {
        match self.header_received {
            SocketHeader::SIZE => {
                8 + u64::from(self.header().payload_len.get()).saturating_sub(self.left)
            }
            part => part as u64,
        }
    }

    /// Goes on until the response is complete.
    pub(super) fn receive(
        &mut self,
        stream: &Stream,
        into: &mut Scatter<'_, '_>,
        wait: &Wait<'_>,
    ) -> Result<(), Ended> {
        if self.header_received < SocketHeader::SIZE {
            self.receive_header(stream, wait)?;
            self.prepare()?;
        }
        while self.body_received < self.body.len() {
            let count = some(stream.receive(&mut self.body[self.body_received..], None, wait))?;
            self.body_received += count;
            self.left -= count as u64;
        }
        if let Data::Asked(asked) = self.data {
            // Checked in 64 bits, before a byte goes to the caller's memory (lisafs 6.12).
            match self.data_count() {
                Some(count) if count <= asked && count <= self.left => {
                    self.data = Data::Coming(count);
                }
                _ => self.fail(Fault::BadCount),
            }
        }
        self.receive_rest(stream, into, wait)
    }

    fn fail(&mut self, fault: Fault) {
        self.fault = Some(fault);
        self.data = Data::None;
    }

    fn receive_header(&mut self, stream: &Stream, wait: &Wait<'_>) -> Result<(), Ended> {
        while self.header_received < SocketHeader::SIZE {
            // Only the header brings descriptors, and only where the type has any: whatever
            // else comes the kernel closes (lisafs 2.3).
            let fds = (self.descriptors > 0).then_some(&mut self.fds);
            let rest = &mut self.header[self.header_received..];
            self.header_received += some(stream.receive(rest, fds, wait))?;
        }
        Ok(())
    }

    /// With the header there: decides where the payload goes.
    fn prepare(&mut self) -> Result<(), Ended> {
        let header = self.header();
        let len = header.payload_len.get();
        self.left = u64::from(len);
        let mut body = len as usize;
        if len > self.limit {
            if len > SKIP_MAX {
                return Err(Ended::Lost(Loss::Garbage));
            }
            self.fail(Fault::TooLarge);
            body = 0;
        } else if matches!(self.data, Data::Asked(_)) {
            match header.message == self.request {
                true => body = body.min(READ_COUNT_SIZE),
                false => self.data = Data::None,
            }
        }
        self.body.clear();
        self.body.resize(body, 0);
        Ok(())
    }

    /// Receives what is not body: data for the scatter, and bytes nobody wants.
    fn receive_rest(
        &mut self,
        stream: &Stream,
        into: &mut Scatter<'_, '_>,
        wait: &Wait<'_>,
    ) -> Result<(), Ended> {
        let mut unwanted = [0; 4096];
        while self.left > 0 {
            let wanted = match self.data {
                Data::Coming(count) => count.saturating_sub(self.data_len() - self.left),
                _ => 0,
            };
            let room = into.next(usize::try_from(wanted).unwrap_or(usize::MAX));
            let count = if room.is_empty() {
                let left = usize::try_from(self.left).unwrap_or(usize::MAX);
                let end = left.min(unwanted.len());
                some(stream.receive(&mut unwanted[..end], None, wait))?
            } else {
                let count = some(stream.receive(room, None, wait))?;
                into.advance(count);
                count
            };
            self.left -= count as u64;
        }
        Ok(())
    }

    /// Bytes of the payload behind the count of data: data, and what is surplus.
    fn data_len(&self) -> u64 {
        u64::from(self.header().payload_len.get()).saturating_sub(READ_COUNT_SIZE as u64)
    }

    /// The count at the start of a PRead response, once it is there.
    pub(super) fn data_count(&self) -> Option<u64> {
        let bytes = self.body.first_chunk::<READ_COUNT_SIZE>()?;
        Some(u64::from_le_bytes(*bytes))
    }
}

/// The end of the stream inside a response is the loss of the connection, and no end of file.
fn some(received: io::Result<usize>) -> Result<usize, Ended> {
    match received {
        Ok(0) => Err(Ended::Lost(Loss::Closed)),
        Ok(count) => Ok(count),
        Err(error) => Err(Ended::of(&error)),
    }
}
