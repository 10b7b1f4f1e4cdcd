//! The transports of a connection, and how a request finds one.
//!
//! lisafs has no tags, so a transport belongs to one caller from the first byte of a request to
//! the last byte of its response. There is the socket, and there may be channels in shared
//! memory. A caller takes an idle channel, else the socket, else what becomes free first
//! (`gate.rs`).
//!
//! A caller that gives up (deadline, cancel) leaves the rest of its exchange to a later one, who
//! finishes it before its own, within its own bounds. On a channel that is done only once the
//! response is there.

mod channel;
mod gate;
mod socket;

use std::io::IoSlice;
use std::sync::Arc;

use gofer_transport::{FdQueue, Stream, Wait};
use gofer_vfs::Errno;
use gofer_vfs::remote::{RemoteError, RemoteResult, Traffic};

use super::incoming::{Incoming, Scatter};
use crate::wire::{ChannelResp, Mid, SocketHeader};
use channel::Channel;
use gate::{After, Gate, Taken, Transport};

/// Why the connection is of no more use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Loss {
    /// This side ended it.
    Shutdown,
    /// The server is gone.
    Closed,
    /// The socket failed.
    Io(Errno),
    /// What came in cannot be lisafs.
    Garbage,
}

/// Why receiving or sending stopped.
pub(super) enum Ended {
    /// The caller's deadline passed (`ETIMEDOUT`) or its cancel was set (`EINTR`).
    GaveUp(Errno),
    /// This transport is of no more use.
    Broken,
    /// The connection is of no more use.
    Lost(Loss),
}

/// A request on its way out.
pub(super) struct Outgoing<'a> {
    message: Mid,
    head: &'a [u8],
    data: &'a [IoSlice<'a>],
    payload_len: usize,
}

impl<'a> Outgoing<'a> {
    /// The most parts that bulk data may be sent from.
    pub(super) const DATA_PARTS_MAX: usize = 15;

    /// `head` is socket header and payload, but for bulk data; that is in `data`, in at most
    /// [`Outgoing::DATA_PARTS_MAX`] parts.
    pub(super) fn new(message: Mid, head: &'a [u8], data: &'a [IoSlice<'a>]) -> Outgoing<'a> {
        let bulk: usize = data.iter().map(|part| part.len()).sum();
        Outgoing {
            message,
            head,
            data,
            payload_len: head.len() - SocketHeader::SIZE + bulk,
        }
    }

    /// Bytes of the payload.
    pub(super) fn payload_len(&self) -> usize {
        self.payload_len
    }

    /// The payload, but for bulk data.
    fn payload_head(&self) -> &[u8] {
        self.head.get(SocketHeader::SIZE..).unwrap_or_default()
    }
}

/// An exchange whose caller gave up.
struct Abandoned {
    /// What of the request has not been sent.
    unsent: Vec<u8>,
    incoming: Incoming,
}

/// An exchange that did not succeed.
struct Failed {
    ended: Ended,
    /// What of the request has not been sent; `None` when nothing was.
    unsent: Option<Vec<u8>>,
}

/// The transports and whose turn it is.
pub(super) struct Communicator {
    socket: Arc<Stream>,
    gate: Arc<Gate>,
}

impl Communicator {
    pub(super) fn new(stream: Stream) -> Communicator {
        Communicator {
            socket: Arc::new(stream),
            gate: Arc::default(),
        }
    }

    /// Why the connection is of no more use, if it is.
    pub(super) fn loss(&self) -> Option<Loss> {
        self.gate.loss()
    }

    /// How many channels are in use.
    pub(super) fn channels(&self) -> usize {
        self.gate.channels()
    }

    /// What has been sent and received.
    pub(super) fn traffic(&self) -> Traffic {
        self.gate.traffic()
    }

    /// Ends the connection and wakes everybody who uses or waits for it. The first reason stays.
    pub(super) fn lose(&self, loss: Loss) {
        // The reason stands before anybody can see the end.
        self.gate.lose(loss);
        self.socket.shutdown();
    }

    /// Opens a channel that the server has set aside, for messages of at most `max_message_size`
    /// bytes (lisafs 7.1). Blocks for the handshake. `None` when it is of no use; requests go over
    /// the others after [`Communicator::use_channels`].
    pub(super) fn add_channel(
        &self,
        place: &ChannelResp,
        fds: &mut FdQueue,
        max_message_size: u32,
        wait: &Wait<'_>,
    ) -> Option<()> {
        let opened = Channel::open(place, fds, max_message_size, self.socket.clone());
        let channel = opened
            .inspect_err(|error| tracing::warn!(%error, "the server's channel cannot be used"))
            .ok()?;
        let channel = Arc::new(channel);
        match channel.greet(wait) {
            Ok(()) => {
                self.gate.add(channel);
                Some(())
            }
            Err(ended) => {
                tracing::warn!("the server did not open a channel");
                channel.shut_down();
                if let Ended::Lost(loss) = ended {
                    self.lose(loss);
                }
                None
            }
        }
    }

    /// Lets requests go over the channels that were added.
    pub(super) fn use_channels(&self) {
        self.gate.use_channels();
    }

    /// Sends a request and receives its response. `orphan` gets the complete responses of
    /// exchanges that were given up before.
    ///
    /// Blocks until it is this caller's turn and then until the response is there, both within
    /// `wait`. No lock is held while waiting.
    pub(super) fn exchange(
        &self,
        request: &Outgoing<'_>,
        incoming: &mut Incoming,
        into: &mut Scatter<'_, '_>,
        wait: &Wait<'_>,
        orphan: &dyn Fn(&Incoming),
    ) -> RemoteResult<()> {
        let mut taken = self.enter(wait, orphan)?;
        let result = match &taken.transport {
            Transport::Socket => socket::exchange(&self.socket, request, incoming, into, wait),
            Transport::Channel(channel) => channel.exchange(request, incoming, into, wait),
        };
        let Err(Failed { ended, unsent }) = result else {
            taken.sent(request.payload_len());
            taken.received(incoming);
            return Ok(());
        };
        let errno = match ended {
            Ended::GaveUp(errno) => errno,
            Ended::Broken => {
                taken.after = After::Discard;
                Errno::EIO
            }
            Ended::Lost(loss) => {
                self.lose(loss);
                Errno::EIO
            }
        };
        let Some(unsent) = unsent else {
            return Err(RemoteError::not_sent(errno));
        };
        taken.sent(request.payload_len());
        if let Ended::GaveUp(_) = ended {
            let incoming = std::mem::take(incoming);
            taken.after = After::Finish(Box::new(Abandoned { unsent, incoming }));
        }
        Err(RemoteError::unknown(errno))
    }

    /// Waits for a transport, and completes the exchange that another caller gave up on it.
    fn enter(&self, wait: &Wait<'_>, orphan: &dyn Fn(&Incoming)) -> RemoteResult<Taken<'_>> {
        loop {
            let mut taken = self.gate.enter(wait)?;
            let Some(mut abandoned) = taken.abandoned.take() else {
                return Ok(taken);
            };
            let result = match &taken.transport {
                Transport::Socket => socket::finish(&self.socket, &mut abandoned, wait),
                Transport::Channel(channel) => channel.finish(&mut abandoned.incoming, wait),
            };
            match result {
                Ok(()) => {
                    taken.received(&abandoned.incoming);
                    orphan(&abandoned.incoming);
                    return Ok(taken);
                }
                Err(Ended::Broken) => taken.after = After::Discard,
                Err(Ended::Lost(loss)) => {
                    self.lose(loss);
                    return Err(RemoteError::not_sent(Errno::EIO));
                }
                Err(Ended::GaveUp(errno)) => {
                    taken.after = After::Finish(abandoned);
                    return Err(RemoteError::not_sent(errno));
                }
            }
        }
    }
}
