//! One channel as a client has it: a window for messages, a socket for descriptors, and the
//! connection they belong to.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::flipcall::{Endpoint, FlipError, Side};
use crate::shm::Window;
use crate::{Cancel, FdQueue, PacketSocket, Stream, Wait, Watch};

/// How long the first sleep for a response lasts. Most are over before.
const FIRST_NAP: Duration = Duration::from_millis(10);

/// How long the later ones last. Between two of them the sleeper looks whether the server lives.
const NAP: Duration = Duration::from_millis(100);

/// How long the end of a channel may come before that of the connection, when both end.
const END_TOGETHER: Duration = Duration::from_millis(100);

/// Why a wait for the server ended without its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChannelEnd {
    /// The caller's deadline passed. The exchange can be finished.
    TimedOut,
    /// The caller's flag was set. The exchange can be finished.
    Cancelled,
    /// This channel is of no more use. [`FlipError::ShutDown`]: the server ended it.
    Broken(FlipError),
    /// The connection has ended.
    HungUp,
}

/// A channel, for one exchange at a time.
#[derive(Debug)]
pub struct Channel {
    endpoint: Endpoint,
    fds: PacketSocket,
    /// The connection's socket, which tells whether the server lives.
    connection: Arc<Stream>,
}

impl Channel {
    /// Maps the window of `length` bytes at `offset` of `memory` and takes the socket on which
    /// descriptors travel. An error where a datagram of `needed` bytes would not fit, or where
    /// the memory is not safe to use.
    pub fn open(
        (memory, socket): (OwnedFd, OwnedFd),
        (offset, length): (u64, u64),
        needed: usize,
        connection: Arc<Stream>,
    ) -> io::Result<Channel> {
        let window = Window::map(memory.as_fd(), offset, length)?;
        if window.capacity() < needed {
            let text = "its window is too small for a message";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Channel {
            endpoint: Endpoint::new(window, Side::Client),
            fds: PacketSocket::from_fd(socket)?,
            connection,
        })
    }

    /// The memory, to write a request into and read a response from.
    pub fn window(&self) -> &Window {
        self.endpoint.window()
    }

    /// The handshake. Blocks within `wait`.
    pub fn greet(self: &Arc<Channel>, wait: &Wait<'_>) -> Result<(), ChannelEnd> {
        let mut vigil = Vigil::new(self, wait);
        let result = self.endpoint.connect(&mut || vigil.ask());
        result.map_err(|error| vigil.end(error))
    }

    /// Hands over the datagram of `length` bytes that is in the window, and waits for the answer,
    /// whose length is returned. It fits in the window.
    pub fn exchange(
        self: &Arc<Channel>,
        length: usize,
        wait: &Wait<'_>,
    ) -> Result<usize, ChannelEnd> {
        let mut vigil = Vigil::new(self, wait);
        let result = self.endpoint.exchange(length, &mut || vigil.ask());
        result.map_err(|error| vigil.end(error))
    }

    /// As [`Channel::exchange`], for an exchange that was given up.
    pub fn finish(self: &Arc<Channel>, wait: &Wait<'_>) -> Result<usize, ChannelEnd> {
        let mut vigil = Vigil::new(self, wait);
        let result = self.endpoint.receive(&mut || vigil.ask());
        result.map_err(|error| vigil.end(error))
    }

    /// Takes descriptors that have come. One that is not there is not waited for.
    pub fn take_fds(&self, count: usize, fds: &mut FdQueue) {
        for _ in 0..count {
            if self.fds.receive_now(&mut [], fds).is_err() {
                break;
            }
        }
    }

    /// Whether [`Channel::finish`] would not have to wait.
    pub fn is_answered(&self) -> bool {
        !self.endpoint.is_with_peer()
    }

    /// Ends the channel and wakes who uses it. Idempotent.
    pub fn shut_down(&self) {
        self.endpoint.shut_down();
    }

    /// Why the channel ended: with its connection, or alone.
    fn ended(&self) -> ChannelEnd {
        match self.connection.is_hung_up(END_TOGETHER) {
            true => ChannelEnd::HungUp,
            false => ChannelEnd::Broken(FlipError::ShutDown),
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
    ended: Option<ChannelEnd>,
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
                return Err(self.stop(ChannelEnd::HungUp));
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
            return Err(self.stop(ChannelEnd::Cancelled));
        }
        let Some(deadline) = self.wait.deadline else {
            return Ok(nap);
        };
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(self.stop(ChannelEnd::TimedOut)),
            left => Ok(nap.min(left)),
        }
    }

    fn stop(&mut self, ended: ChannelEnd) -> FlipError {
        self.ended = Some(ended);
        FlipError::GaveUp
    }

    /// What the end of the wait means.
    fn end(&mut self, error: FlipError) -> ChannelEnd {
        match self.ended.take() {
            Some(ended) => ended,
            None if error == FlipError::ShutDown => self.channel.ended(),
            None => ChannelEnd::Broken(error),
        }
    }
}
