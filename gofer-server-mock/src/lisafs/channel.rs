//! Shared-memory channels of a connection (lisafs 7): one window and one thread each.
//!
//! All windows lie in one memory file. The client may write anything anywhere in it at any time,
//! so a request is copied out once, and what is decoded is the copy. Only data that is read from
//! or written to a file stays in the window, where the kernel puts or takes it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gofer_lisafs::wire::{ChannelHeader, ChannelResp, Message, Mid, PWriteReq};
use gofer_transport::PacketSocket;
use gofer_transport::flipcall::{Endpoint, FlipError, Side};
use gofer_transport::shm::{WINDOW_HEADER, Window, WindowFile};
use parking_lot::Mutex;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Session;
use super::connection::{Payload, Reply};
use crate::host::Result;

/// How long one sleep for a request lasts: there is nothing to look at meanwhile, and the end of a
/// channel wakes its thread.
const NAP: Duration = Duration::MAX;

/// Between two attempts to wake a thread that has to end.
const END_PAUSE: Duration = Duration::from_millis(1);

/// The channels of one connection. One that died still counts (lisafs 7.1).
#[derive(Debug)]
pub(super) struct Channels {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<WindowFile>,
    /// Windows that were cut from the file. They stay in it also when opening a channel failed.
    windows: usize,
    running: Vec<(Arc<Endpoint>, JoinHandle<()>)>,
    ended: bool,
}

impl Channels {
    /// Room for `limit` channels; 0 allows none.
    pub(super) fn new(limit: usize) -> Channels {
        Channels {
            limit,
            state: Mutex::default(),
        }
    }

    /// Whether Channel is worth listing.
    pub(super) fn are_allowed(&self) -> bool {
        self.limit > 0
    }

    /// Ends all channels and waits for the requests in progress on them.
    pub(super) fn end(&self) {
        let running = {
            let mut state = self.state.lock();
            state.ended = true;
            std::mem::take(&mut state.running)
        };
        for (endpoint, _) in &running {
            endpoint.shut_down();
        }
        for (endpoint, thread) in running {
            // A client that writes over the mark can put a thread to sleep again, once for each
            // time that it is woken (lisafs 8.6).
            while !thread.is_finished() {
                thread::sleep(END_PAUSE);
                endpoint.shut_down();
            }
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Session {
    /// lisafs 6.2.
    pub(super) fn channel(self: &Arc<Session>, reply: &mut Reply) -> Result<()> {
        let mut state = self.channels.state.lock();
        if state.ended {
            return Err(Errno::NOSYS);
        }
        if state.windows >= self.channels.limit {
            return Err(Errno::NOMEM);
        }
        let opened = self.open_channel(&mut state).map_err(|error| {
            tracing::debug!(%error, "a channel could not be opened");
            Errno::from_io_error(&error).unwrap_or(Errno::NOMEM)
        })?;
        reply.fds.extend(opened.fds);
        reply.set(&opened.window);
        Ok(())
    }

    fn open_channel(self: &Arc<Session>, state: &mut State) -> io::Result<Opened> {
        let size = WINDOW_HEADER + ChannelHeader::SIZE + self.max_message_size as usize;
        let file = match &mut state.file {
            Some(file) => file,
            none => none.insert(WindowFile::create()?),
        };
        let (offset, length) = file.allocate(size)?;
        state.windows += 1;
        let window = Window::map(file.as_fd(), offset, length as u64)?;
        let memory = file.as_fd().try_clone_to_owned()?;
        let (ours, theirs) = PacketSocket::pair()?;
        let theirs = OwnedFd::from(theirs);
        // Ours as well: a client that takes no descriptors must not hold up the channel's thread.
        for fd in [memory.as_fd(), theirs.as_fd(), ours.as_fd()] {
            rustix::fs::fcntl_setfl(fd, OFlags::NONBLOCK)?;
        }
        let endpoint = Arc::new(Endpoint::new(window, Side::Server));
        let thread = {
            let (session, endpoint) = (self.clone(), endpoint.clone());
            thread::Builder::new()
                .name("channel".into())
                .spawn(move || run(&session, &endpoint, &ours))?
        };
        state.running.push((endpoint, thread));
        Ok(Opened {
            window: ChannelResp {
                data_offset: offset as i64,
                data_length: length as u64,
            },
            fds: [memory, theirs],
        })
    }
}

/// What a client gets to use a channel.
struct Opened {
    window: ChannelResp,
    fds: [OwnedFd; 2],
}

/// Answers the requests of one channel until either side ends it.
pub(super) fn run(session: &Arc<Session>, endpoint: &Arc<Endpoint>, socket: &PacketSocket) {
    let _hang_up = HangUp(endpoint);
    let mut buffers = Buffers {
        request: Vec::new(),
        reply: Reply::in_window(endpoint.clone()),
    };
    let mut next = endpoint.accept(&mut || Ok(NAP));
    loop {
        next = match next {
            // Too short to be answered: the peer says that it was the last (lisafs 7.4).
            Ok(length) if length < ChannelHeader::SIZE => break,
            Ok(length) => buffers.answer(session, endpoint, socket, length),
            Err(FlipError::ShutDown) => break,
            Err(error) => {
                tracing::debug!(%error, "a channel ends");
                break;
            }
        };
    }
}

/// Tells the client that its channel has ended, in whatever way.
struct HangUp<'a>(&'a Endpoint);

impl Drop for HangUp<'_> {
    fn drop(&mut self) {
        self.0.shut_down();
    }
}

/// Memory of one channel, kept from request to request.
struct Buffers {
    request: Vec<u8>,
    reply: Reply,
}

impl Buffers {
    /// Handles the request in the window and hands the response over; returns the length of the
    /// next request.
    fn answer(
        &mut self,
        session: &Arc<Session>,
        endpoint: &Endpoint,
        socket: &PacketSocket,
        length: usize,
    ) -> std::result::Result<usize, FlipError> {
        let window = endpoint.window();
        let mut header = [0; ChannelHeader::SIZE];
        window.read(0, &mut header);
        let request = ChannelHeader::decode(&header).message;
        let payload = length - header.len();
        // The window is larger than the limit: it has whole pages.
        let mid = if payload > session.max_message_size as usize {
            self.reply.set_error(Errno::IO);
            Mid::ERROR
        } else {
            // Data to be written stays where it is: the kernel takes it from there.
            let is_write = request == Mid::PWRITE;
            let copied = match is_write {
                true => payload.min(<PWriteReq<'_> as Message<'_>>::MIN_SIZE),
                false => payload,
            };
            self.request.resize(copied, 0);
            window.read(header.len(), &mut self.request);
            let rest = (window, header.len() + copied, payload - copied);
            let payload = Payload {
                bytes: &self.request,
                rest: is_write.then_some(rest),
            };
            session.answer(request, payload, &mut self.reply)
        };
        let sent = self.reply.send_fds(|fds| send_fds(socket, fds));
        window.write(0, self.reply.datagram_head(ChannelHeader::new(mid, sent)));
        endpoint.exchange(header.len() + self.reply.payload_len(), &mut || Ok(NAP))
    }
}

/// Sends each descriptor in an empty packet of its own (lisafs 7.3); how many got through.
fn send_fds(socket: &PacketSocket, fds: &[BorrowedFd<'_>]) -> u8 {
    let mut sent = 0;
    for fd in fds {
        if let Err(error) = socket.send(&[], &[*fd]) {
            tracing::debug!(%error, "a descriptor could not be sent");
            break;
        }
        sent += 1;
    }
    sent
}
