//! One channel: a window of shared memory for messages, and a socket for descriptors
//! (lisafs 7, 8).
//!
//! The server may write anything anywhere in the window at any time. So a response is copied out
//! once, and what is looked at is the copy.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gofer_transport::flipcall::{Endpoint, FlipError, Side};
use gofer_transport::shm::{WINDOW_HEADER, Window};
use gofer_transport::{Cancel, FdQueue, PacketSocket, Stream, Wait, Watch};
use gofer_vfs::Errno;

use super::{Ended, Failed, Loss, Outgoing};
use crate::client::incoming::{Incoming, Scatter};
use crate::wire::{ChannelHeader, ChannelResp};

/// How long the first sleep for a response lasts. Most are over before.
const FIRST_NAP: Duration = Duration::from_millis(10);

/// How long the later ones last. Between two of them the sleeper looks whether the server lives.
const NAP: Duration = Duration::from_millis(100);

/// How long the end of a channel may come before that of the connection, when both end.
const END_TOGETHER: Duration = Duration::from_millis(100);

/// A channel, for one exchange at a time.
pub(super) struct Channel {
    endpoint: Endpoint,
    fds: PacketSocket,
    /// The connection's socket, which tells whether the server lives.
    connection: Arc<Stream>,
}

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
        let needed = WINDOW_HEADER + ChannelHeader::SIZE + max_message_size as usize;
        if place.data_length < needed as u64 {
            return Err(invalid("its window is too small for a message"));
        }
        let window = Window::map(memory.as_fd(), offset, place.data_length)?;
        Ok(Channel {
            endpoint: Endpoint::new(window, Side::Client),
            fds: PacketSocket::from_fd(socket)?,
            connection,
        })
    }

    /// The handshake (lisafs 8.4).
    pub(super) fn greet(self: &Arc<Channel>, wait: &Wait<'_>) -> Result<(), Ended> {
        let mut vigil = Vigil::new(self, wait);
        let result = self.endpoint.connect(&mut || vigil.ask());
        result.map_err(|error| vigil.end(error))
    }

    /// Sends a request and receives its response.
    pub(super) fn exchange(
        self: &Arc<Channel>,
        request: &Outgoing<'_>,
        incoming: &mut Incoming,
        into: &mut Scatter<'_, '_>,
        wait: &Wait<'_>,
    ) -> Result<(), Failed> {
        let length = self.write(request);
        let mut vigil = Vigil::new(self, wait);
        let result = self.endpoint.exchange(length, &mut || vigil.ask());
        let result = match result {
            Ok(length) => self.take(length, incoming, into),
            Err(error) => Err(vigil.end(error)),
        };
        result.map_err(|ended| Failed {
            ended,
            unsent: Some(Vec::new()),
        })
    }

    /// Completes an exchange that was given up.
    pub(super) fn finish(
        self: &Arc<Channel>,
        incoming: &mut Incoming,
        wait: &Wait<'_>,
    ) -> Result<(), Ended> {
        let mut vigil = Vigil::new(self, wait);
        match self.endpoint.receive(&mut || vigil.ask()) {
            Ok(length) => self.take(length, incoming, &mut Scatter::new(&mut [])),
            Err(error) => Err(vigil.end(error)),
        }
    }

    /// Whether [`Channel::finish`] would not have to wait.
    pub(super) fn is_answered(&self) -> bool {
        !self.endpoint.is_with_peer()
    }

    /// Ends the channel and wakes who uses it. Idempotent.
    pub(super) fn shut_down(&self) {
        self.endpoint.shut_down();
    }

    /// Puts a request into the window; the length of the datagram. It fits: the window holds the
    /// largest message there may be.
    fn write(&self, request: &Outgoing<'_>) -> usize {
        let window = self.endpoint.window();
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
        let num_fds = incoming.copy(self.endpoint.window(), length, into)?;
        for _ in 0..num_fds {
            // One that is not there is not waited for (lisafs 7.3).
            if self.fds.receive_now(&mut [], &mut incoming.fds).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Why the channel ended: with its connection, or alone.
    fn ended(&self) -> Ended {
        match self.connection.is_hung_up(END_TOGETHER) {
            true => Ended::Lost(Loss::Closed),
            false => Ended::Broken,
        }
    }
}

/// Decides before each sleep of one wait whether to go on.
struct Vigil<'a> {
    channel: &'a Arc<Channel>,
    wait: &'a Wait<'a>,
    naps: u32,
    /// Ends a sleep when the cancel is set.
    watch: Option<Watch<'a>>,
    ended: Option<Ended>,
}

impl<'a> Vigil<'a> {
    fn new(channel: &'a Arc<Channel>, wait: &'a Wait<'a>) -> Vigil<'a> {
        Vigil {
            channel,
            wait,
            naps: 0,
            watch: None,
            ended: None,
        }
    }

    /// How long to sleep, at most.
    fn ask(&mut self) -> Result<Duration, FlipError> {
        let channel = self.channel;
        let nap = match self.naps {
            0 => FIRST_NAP,
            _ if channel.connection.is_hung_up(Duration::ZERO) => {
                return Err(self.stop(Ended::Lost(Loss::Closed)));
            }
            _ if channel.fds.is_hung_up() => {
                let ended = channel.ended();
                return Err(self.stop(ended));
            }
            _ => NAP,
        };
        if self.naps == 1 {
            // Not before: a watch costs more than a call that is answered soon.
            self.watch = self.wait.cancel.map(|cancel| {
                let channel = channel.clone();
                cancel.watch(Arc::new(move || channel.endpoint.nudge()))
            });
        }
        self.naps = self.naps.saturating_add(1);
        if self.wait.cancel.is_some_and(Cancel::is_set) {
            return Err(self.stop(Ended::GaveUp(Errno::EINTR)));
        }
        let Some(deadline) = self.wait.deadline else {
            return Ok(nap);
        };
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(self.stop(Ended::GaveUp(Errno::ETIMEDOUT))),
            left => Ok(nap.min(left)),
        }
    }

    fn stop(&mut self, ended: Ended) -> FlipError {
        self.ended = Some(ended);
        FlipError::GaveUp
    }

    /// What the end of the wait means.
    fn end(&mut self, error: FlipError) -> Ended {
        if let Some(ended) = self.ended.take() {
            return ended;
        }
        if error != FlipError::ShutDown {
            tracing::warn!(%error, "a channel failed");
            return Ended::Broken;
        }
        self.channel.ended()
    }
}
