//! Shared-memory channels of a connection, whichever protocol they carry: one window and one
//! thread each.
//!
//! All windows lie in one memory file. The client may write anything anywhere in it at any time,
//! so whoever answers a request copies it out once, and looks at the copy. Only data that is read
//! from or written to a file stays in the window, where the kernel puts or takes it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gofer_transport::PacketSocket;
use gofer_transport::flipcall::{Endpoint, FlipError, Side};
use gofer_transport::shm::{WINDOW_HEADER, Window, WindowFile};
use parking_lot::Mutex;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::host::Result;

/// How long one sleep for a request lasts: there is nothing to look at meanwhile, and the end of a
/// channel wakes its thread.
const NAP: Duration = Duration::MAX;

/// Between two attempts to wake a thread that has to end.
const END_PAUSE: Duration = Duration::from_millis(1);

/// The channels of one connection. One that died still counts (lisafs 7.1).
#[derive(Debug)]
pub(crate) struct Channels {
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

/// What a client gets to use a channel.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Where the window is in the memory file.
    pub(crate) offset: u64,
    /// Its bytes, whole pages.
    pub(crate) length: u64,
    pub(crate) memory: OwnedFd,
    /// The client's end of the socket that descriptors travel on.
    pub(crate) socket: OwnedFd,
}

impl Channels {
    /// Room for `limit` channels; 0 allows none.
    pub(crate) fn new(limit: usize) -> Channels {
        Channels {
            limit,
            state: Mutex::default(),
        }
    }

    /// How many there may be.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Opens another channel, for datagrams of up to `size` bytes, which `serve` answers on a
    /// thread of its own until [`Channels::end`] or the client ends the channel. `ENOMEM` beyond
    /// the limit, `ENOSYS` after the end.
    pub(crate) fn open(
        &self,
        size: usize,
        serve: impl FnOnce(&Arc<Endpoint>, &PacketSocket) + Send + 'static,
    ) -> Result<Opened> {
        let mut state = self.state.lock();
        if state.ended {
            return Err(Errno::NOSYS);
        }
        if state.windows >= self.limit {
            return Err(Errno::NOMEM);
        }
        open(&mut state, size, serve).map_err(|error| {
            tracing::debug!(%error, "a channel could not be opened");
            Errno::from_io_error(&error).unwrap_or(Errno::NOMEM)
        })
    }

    /// Ends all channels and waits for the requests in progress on them.
    pub(crate) fn end(&self) {
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

fn open(
    state: &mut State,
    size: usize,
    serve: impl FnOnce(&Arc<Endpoint>, &PacketSocket) + Send + 'static,
) -> io::Result<Opened> {
    let file = match &mut state.file {
        Some(file) => file,
        none => none.insert(WindowFile::create()?),
    };
    let (offset, length) = file.allocate(WINDOW_HEADER + size)?;
    state.windows += 1;
    let window = Window::map(file.as_fd(), offset, length as u64)?;
    let memory = file.as_fd().try_clone_to_owned()?;
    let (ours, theirs) = PacketSocket::pair()?;
    let socket = OwnedFd::from(theirs);
    // Ours as well: a client that takes no descriptors must not hold up the channel's thread.
    for fd in [memory.as_fd(), socket.as_fd(), ours.as_fd()] {
        rustix::fs::fcntl_setfl(fd, OFlags::NONBLOCK)?;
    }
    let endpoint = Arc::new(Endpoint::new(window, Side::Server));
    let thread = {
        let endpoint = endpoint.clone();
        thread::Builder::new()
            .name("channel".into())
            .spawn(move || serve(&endpoint, &ours))?
    };
    state.running.push((endpoint, thread));
    Ok(Opened {
        offset,
        length: length as u64,
        memory,
        socket,
    })
}

/// Answers the requests of one channel until either side ends it. `answer` is given the length of
/// a request in the window, at least `shortest`, puts the response there and returns its length.
pub(crate) fn serve(endpoint: &Endpoint, shortest: usize, mut answer: impl FnMut(usize) -> usize) {
    let _hang_up = HangUp(endpoint);
    let mut next = endpoint.accept(&mut || Ok(NAP));
    loop {
        next = match next {
            // Too short to be answered: the peer says that it was the last (lisafs 7.4).
            Ok(length) if length < shortest => break,
            Ok(length) => endpoint.exchange(answer(length), &mut || Ok(NAP)),
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

/// Sends each descriptor in an empty packet of its own (lisafs 7.3, 9P 11.6); how many got
/// through.
pub(crate) fn send_fds(socket: &PacketSocket, fds: &[BorrowedFd<'_>]) -> u8 {
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
