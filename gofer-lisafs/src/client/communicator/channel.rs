//! One channel: a window of shared memory for messages, and a socket for descriptors
//! (lisafs 7, 8).
//!
//! The server may write anything anywhere in the window at any time. So a response is copied out
//! once, and what is looked at is the copy.

use std::io;
use std::sync::Arc;

use gofer_transport::flipcall::FlipError;
use gofer_transport::{ChannelEnd, FdQueue, Stream, Wait};
use gofer_vfs::Errno;

use super::{Ended, Failed, Loss, Outgoing};
use crate::client::incoming::{Incoming, Scatter};
use crate::wire::{ChannelHeader, ChannelResp};

/// A channel, for one exchange at a time.
pub(super) struct Channel(Arc<gofer_transport::Channel>);

impl Channel {
    /// Maps the window at `place` and takes the descriptors that belong to it. An error where it
    /// could not carry a message of `max_message_size` bytes, or not safely.
    pub(super) fn open(
        place: &ChannelResp,
        fds: &mut FdQueue,
        max_message_size: u32,
        connection: Arc<Stream>,
    ) -> io::Result<Channel> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let (Some(memory), Some(socket)) = (fds.pop(), fds.pop()) else {
            return Err(invalid("its two descriptors did not come"));
        };
        let offset = u64::try_from(place.data_offset).map_err(|_| invalid("its offset"))?;
        let needed = ChannelHeader::SIZE + max_message_size as usize;
        let place = (offset, place.data_length);
        let channel = gofer_transport::Channel::open((memory, socket), place, needed, connection)?;
        Ok(Channel(Arc::new(channel)))
    }

    /// The handshake (lisafs 8.4).
    pub(super) fn greet(&self, wait: &Wait<'_>) -> Result<(), Ended> {
        self.0.greet(wait).map_err(ended)
    }

    /// Sends a request and receives its response.
    pub(super) fn exchange(
        &self,
        request: &Outgoing<'_>,
        incoming: &mut Incoming,
        into: &mut Scatter<'_, '_>,
        wait: &Wait<'_>,
    ) -> Result<(), Failed> {
        let length = self.write(request);
        let result = match self.0.exchange(length, wait) {
            Ok(length) => self.take(length, incoming, into),
            Err(end) => Err(ended(end)),
        };
        result.map_err(|ended| Failed {
            ended,
            unsent: Some(Vec::new()),
        })
    }

    /// Completes an exchange that was given up.
    pub(super) fn finish(&self, incoming: &mut Incoming, wait: &Wait<'_>) -> Result<(), Ended> {
        match self.0.finish(wait) {
            Ok(length) => self.take(length, incoming, &mut Scatter::new(&mut [])),
            Err(end) => Err(ended(end)),
        }
    }

    /// Whether [`Channel::finish`] would not have to wait.
    pub(super) fn is_answered(&self) -> bool {
        self.0.is_answered()
    }

    /// Ends the channel and wakes who uses it. Idempotent.
    pub(super) fn shut_down(&self) {
        self.0.shut_down();
    }

    /// Puts a request into the window; the length of the datagram. It fits: the window holds the
    /// largest message there may be.
    fn write(&self, request: &Outgoing<'_>) -> usize {
        let window = self.0.window();
        let header = ChannelHeader::new(request.message, 0).encode();
        let head = request.payload_head();
        window.write(0, &header);
        window.write(header.len(), head);
        let mut length = header.len() + head.len();
        for part in request.data {
            window.write(length, part);
            length += part.len();
        }
        length
    }

    /// Takes the response out of the window, and the descriptors that belong to it.
    fn take(
        &self,
        length: usize,
        incoming: &mut Incoming,
        into: &mut Scatter<'_, '_>,
    ) -> Result<(), Ended> {
        let num_fds = incoming.copy(self.0.window(), length, into)?;
        // One that is not there is not waited for (lisafs 7.3).
        self.0.take_fds(num_fds as usize, &mut incoming.fds);
        Ok(())
    }
}

fn ended(end: ChannelEnd) -> Ended {
    match end {
        ChannelEnd::TimedOut => Ended::GaveUp(Errno::ETIMEDOUT),
        ChannelEnd::Cancelled => Ended::GaveUp(Errno::EINTR),
        ChannelEnd::HungUp => Ended::Lost(Loss::Closed),
        ChannelEnd::Broken(error) => {
            if error != FlipError::ShutDown {
                tracing::warn!(%error, "a channel failed");
            }
            Ended::Broken
        }
    }
}
