//! Tchannel, and requests and replies in shared memory (9P 11).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use gofer_9p::wire::{
    DecodeError, Fid, HEADER_SIZE, Level, MSIZE_MAX, Message, Rchannel, Tag, Tchannel, Twrite,
};
use gofer_transport::PacketSocket;
use gofer_transport::codec::Reader;
use gofer_transport::flipcall::Endpoint;
use parking_lot::Mutex;

use super::reply::{Pace, Reply};
use super::session::Session;
use crate::channels::{self, Channels, send_fds};
use crate::host::{Errno, Result};
use crate::survive::survive;

/// What a datagram begins with: type, and whether a descriptor follows.
const HEAD_SIZE: usize = 2;

/// Room in a window, whatever msize was agreed on: as much as stock servers have. The size of a
/// message and its tag are not in a datagram.
const DATAGRAM_MAX: usize = MSIZE_MAX as usize - HEADER_SIZE + HEAD_SIZE;

/// Where in a window the data of Rread is: behind its count.
pub(super) const READ_DATA_AT: usize = HEAD_SIZE + 4;

/// What a Twrite has before its data: fid, offset and count.
const WRITE_FIELDS: usize = 16;

/// The channels of one session.
#[derive(Debug)]
pub(super) struct SessionChannels {
    channels: Channels,
    /// By id, what their client may still fetch.
    offers: Mutex<Vec<Option<Offer>>>,
}

/// A channel that was opened.
#[derive(Debug)]
struct Offer {
    window: Rchannel,
    memory: OwnedFd,
    /// Given once: nothing of it stays here.
    socket: Option<OwnedFd>,
}

impl SessionChannels {
    /// Room for `limit` channels; 0 allows none.
    pub(super) fn new(limit: usize) -> SessionChannels {
        SessionChannels {
            channels: Channels::new(limit),
            offers: Mutex::default(),
        }
    }

    /// Ends all of them and waits for the requests in progress on them.
    pub(super) fn end(&self) {
        self.channels.end();
    }
}

impl Session {
    /// Gives the client the memory of channel `id`, or the socket for its descriptors. The first of
    /// these requests opens the channel. `ENOSYS` tells the client to stay on the socket: where
    /// descriptors cannot travel, below level 8, and for an id that is not below the limit.
    pub(super) fn channel(self: &Arc<Session>, request: Tchannel, reply: &mut Reply) -> Result<()> {
        let limit = self.channels.channels.limit();
        let id = request.id as usize;
        if !self.carries_descriptors() || !self.speaks(Level::Channels) || id >= limit {
            return Err(Errno::NOSYS);
        }
        if request.control > 1 {
            return Err(Errno::INVAL);
        }
        let mut offers = self.channels.offers.lock();
        if offers.len() <= id {
            offers.resize_with(id + 1, || None);
        }
        // There are as many as were just made.
        let offer = offers.get_mut(id).ok_or(Errno::NOSYS)?;
        let offer = match offer {
            Some(offer) => offer,
            none => none.insert(self.open_channel()?),
        };
        reply.fd = Some(match request.control {
            0 => offer.memory.try_clone().map_err(|_| Errno::MFILE)?,
            _ => offer.socket.take().ok_or(Errno::INVAL)?,
        });
        reply.send(offer.window)
    }

    fn open_channel(self: &Arc<Session>) -> Result<Offer> {
        let session = self.clone();
        let serve = move |endpoint: &Arc<Endpoint>, socket: &PacketSocket| {
            run(&session, endpoint, socket);
        };
        let opened = self.channels.channels.open(DATAGRAM_MAX, serve)?;
        let (offset, length) = (opened.offset, opened.length);
        Ok(Offer {
            window: Rchannel { offset, length },
            memory: opened.memory,
            socket: Some(opened.socket),
        })
    }
}

/// Answers the requests of one channel until either side ends it.
pub(super) fn run(session: &Arc<Session>, endpoint: &Arc<Endpoint>, socket: &PacketSocket) {
    let mut request = Vec::new();
    let mut reply = Reply::in_window(endpoint.clone());
    channels::serve(endpoint, HEAD_SIZE, |length| {
        answer(session, endpoint, length, &mut request, &mut reply);
        let fd = reply.fd.take();
        let fd_follows = fd.map_or(0, |fd| send_fds(socket, &[fd.as_fd()]));
        let window = endpoint.window();
        let message = reply.in_the_making();
        // Size and tag, around the type, are the socket's.
        let kind = message.get(4).copied().unwrap_or_default();
        window.write(0, &[kind, fd_follows]);
        let body = message.get(HEADER_SIZE..).unwrap_or_default();
        window.write(HEAD_SIZE, body);
        HEAD_SIZE + body.len() + reply.apart()
    });
}

/// Makes the reply to the request in the window.
fn answer(
    session: &Arc<Session>,
    endpoint: &Endpoint,
    length: usize,
    request: &mut Vec<u8>,
    reply: &mut Reply,
) {
    let window = endpoint.window();
    reply.begin(Tag(0), session.msize(), Pace::Any);
    let body_len = length - HEAD_SIZE;
    // The window is larger than the largest message: it has whole pages.
    if body_len + HEADER_SIZE > session.msize() as usize {
        return reply.fail(Errno::MSGSIZE);
    }
    let mut head = [0; HEAD_SIZE];
    window.read(0, &mut head);
    let [kind, _] = head;
    // Data to be written stays where it is: the kernel takes it from there.
    let is_write = kind == Twrite::KIND && body_len >= WRITE_FIELDS;
    request.resize(if is_write { WRITE_FIELDS } else { body_len }, 0);
    window.read(HEAD_SIZE, request);
    if !is_write {
        return session.handle(kind, request, reply);
    }
    let room = body_len - WRITE_FIELDS;
    let done = write_fields(request).and_then(|(fid, offset, count)| {
        if count > room {
            return Err(Errno::PROTO);
        }
        let at = HEAD_SIZE + WRITE_FIELDS;
        survive(|| session.write_from(window, at..at + count, fid, offset, reply))
    });
    if let Err(errno) = done {
        reply.fail(errno);
    }
}

fn write_fields(fields: &[u8]) -> Result<(Fid, u64, usize)> {
    let mut fields = Reader::new(fields);
    let mut read = || {
        let (fid, offset) = (fields.u32()?, fields.u64()?);
        Ok((Fid(fid), offset, fields.u32()? as usize))
    };
    read().map_err(|_: DecodeError| Errno::PROTO)
}
