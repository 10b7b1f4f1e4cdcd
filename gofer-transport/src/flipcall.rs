//! flipcall: two endpoints pass control of a window back and forth through its state word.
//!
//! The word is 0 while the client is active, 1 while the server is, and 2 for good once either
//! side shut down. Only the active side touches the datagram. The rules are those of the lisafs
//! specification, section 8.
//!
//! The turn-taking ([`Turn`], in `turn.rs`) is generic over the word ([`StateWord`]), so that a
//! model checker can drive it; `spin.rs` says how long to spin; [`Endpoint`] puts both on a mapped
//! [`Window`].

mod spin;
mod turn;

use std::io;
use std::time::Duration;

use crate::shm::Window;

pub use turn::{Side, StateWord, Turn};

/// Why a window is of no use any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FlipError {
    /// This side or the peer shut it down.
    #[error("the channel is shut down")]
    ShutDown,
    /// The state word holds a value it cannot have.
    #[error("the peer wrote state {0} into the channel")]
    BadState(u32),
    /// The length word says more than the window holds.
    #[error("the peer announced {0} bytes, more than the channel holds")]
    BadLength(u32),
    /// What should open the channel is no JSON object.
    #[error("the peer did not open the channel")]
    BadHello,
    /// The caller does not want to wait any longer. The exchange goes on without it and can be
    /// finished with [`Endpoint::receive`].
    #[error("the wait was given up")]
    GaveUp,
    /// The kernel refused a wait.
    #[error("waiting on the channel failed: errno {0}")]
    Wait(i32),
}

impl From<FlipError> for io::Error {
    fn from(error: FlipError) -> io::Error {
        io::Error::other(error)
    }
}

/// The datagram that opens a channel, in both directions: an empty JSON object.
const HELLO: &[u8] = b"{}\n";

/// One side of a mapped window. One thread at a time exchanges datagrams; any may shut down.
///
/// Where a wait takes `alive`, that is asked before every sleep, and never otherwise: it says how
/// long the sleep may last, or ends the wait with its error. A peer that died cannot wake anybody.
#[derive(Debug)]
pub struct Endpoint {
    window: Window,
    turn: Turn,
}

impl Endpoint {
    /// Puts `side` on `window`, which must be fresh or in the hands of that side.
    pub fn new(window: Window, side: Side) -> Endpoint {
        Endpoint {
            window,
            turn: Turn::new(side, spin::worthwhile()),
        }
    }

    /// The memory, to write a datagram into or read one from while this side is active.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Client: the handshake. Afterwards this side is active.
    pub fn connect(
        &self,
        alive: &mut dyn FnMut() -> Result<Duration, FlipError>,
    ) -> Result<(), FlipError> {
        self.window.write(0, HELLO);
        let length = self.exchange(HELLO.len(), alive)?;
        self.check_hello(length)
    }

    /// Server: the handshake, and the wait for the first datagram, whose length is returned.
    pub fn accept(
        &self,
        alive: &mut dyn FnMut() -> Result<Duration, FlipError>,
    ) -> Result<usize, FlipError> {
        let length = self.receive(alive)?;
        self.check_hello(length)?;
        self.window.write(0, HELLO);
        self.exchange(HELLO.len(), alive)
    }

    /// Hands over a datagram of `length` bytes that is in the window, and waits for the answer,
    /// whose length (checked) is returned.
    pub fn exchange(
        &self,
        length: usize,
        alive: &mut dyn FnMut() -> Result<Duration, FlipError>,
    ) -> Result<usize, FlipError> {
        debug_assert!(length <= self.window.capacity());
        self.window.set_datagram_length(length as u32);
        self.turn.pass(self.window.state())?;
        self.receive(alive)
    }

    /// Whether [`Endpoint::receive`] would have to wait.
    pub fn is_with_peer(&self) -> bool {
        matches!(self.turn.is_here(self.window.state()), Ok(false))
    }

    /// Wakes waiters of this window, so that they ask `alive` again. One that has asked and does
    /// not sleep yet may miss it, and asks when its sleep is over.
    pub fn nudge(&self) {
        self.window.state().wake(true);
    }

    /// Ends the channel for both sides. Idempotent.
    pub fn shut_down(&self) {
        self.turn.shut_down(self.window.state());
    }

    /// Waits for a datagram and returns its length (checked): after [`FlipError::GaveUp`], to
    /// finish the exchange that was given up.
    pub fn receive(
        &self,
        alive: &mut dyn FnMut() -> Result<Duration, FlipError>,
    ) -> Result<usize, FlipError> {
        self.turn.wait(self.window.state(), alive)?;
        let length = self.window.datagram_length();
        if length as usize > self.window.capacity() {
            return Err(FlipError::BadLength(length));
        }
        Ok(length as usize)
    }

    /// The content has no meaning, but must look like a JSON object.
    fn check_hello(&self, length: usize) -> Result<(), FlipError> {
        let mut hello = vec![0; length.min(4096)];
        self.window.read(0, &mut hello);
        let hello = hello.trim_ascii();
        if hello.starts_with(b"{") && hello.ends_with(b"}") {
            Ok(())
        } else {
            Err(FlipError::BadHello)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::WindowFile;
    use std::os::fd::AsFd;
    use std::sync::atomic::Ordering;

    fn pair() -> (Endpoint, Endpoint) {
        let mut file = WindowFile::create().unwrap();
        let (offset, length) = file.allocate(8192).unwrap();
        let map = || Window::map(file.as_fd(), offset, length as u64).unwrap();
        (
            Endpoint::new(map(), Side::Client),
            Endpoint::new(map(), Side::Server),
        )
    }

    fn patient() -> impl FnMut() -> Result<Duration, FlipError> {
        || Ok(Duration::from_millis(100))
    }

    fn serve_doubles(server: Endpoint) -> FlipError {
        let mut length = match server.accept(&mut patient()) {
            Ok(length) => length,
            Err(error) => return error,
        };
        loop {
            let mut bytes = vec![0; length];
            server.window().read(0, &mut bytes);
            bytes.extend_from_within(..);
            server.window().write(0, &bytes);
            match server.exchange(bytes.len(), &mut patient()) {
                Ok(next) => length = next,
                Err(error) => return error,
            }
        }
    }

    #[test]
    fn datagrams_go_back_and_forth_until_one_side_ends_it() {
        let (client, server) = pair();
        let serving = std::thread::spawn(move || serve_doubles(server));
        client.connect(&mut patient()).unwrap();
        for round in 0..1000u32 {
            client.window().write(0, &round.to_le_bytes());
            assert_eq!(client.exchange(4, &mut patient()), Ok(8));
            let mut bytes = [0; 8];
            client.window().read(0, &mut bytes);
            assert_eq!(bytes[4..], round.to_le_bytes());
        }
        client.shut_down();
        assert_eq!(serving.join().unwrap(), FlipError::ShutDown);
        assert_eq!(client.exchange(0, &mut patient()), Err(FlipError::ShutDown));
    }

    #[test]
    fn a_window_as_recorded_is_left_by_the_handshake() {
        let (client, server) = pair();
        let serving = std::thread::spawn(move || serve_doubles(server));
        client.connect(&mut patient()).unwrap();
        let mut hello = [0; 3];
        client.window().read(0, &mut hello);
        assert_eq!(&hello, b"{}\n");
        assert_eq!(client.window().state().load(Ordering::Acquire), 0);
        assert_eq!(client.window().datagram_length(), 3);
        client.shut_down();
        serving.join().unwrap();
    }

    #[test]
    fn garbage_from_the_peer_is_an_error() {
        let (client, server) = pair();
        client.window().state().store(7, Ordering::Release);
        assert_eq!(
            client.exchange(0, &mut patient()),
            Err(FlipError::BadState(7))
        );
        server.window().state().store(1, Ordering::Release);
        server.window().set_datagram_length(u32::MAX);
        assert_eq!(
            server.accept(&mut patient()),
            Err(FlipError::BadLength(u32::MAX))
        );
        server.window().set_datagram_length(3);
        server.window().write(0, b"[]\n");
        assert_eq!(server.accept(&mut patient()), Err(FlipError::BadHello));
    }

    #[test]
    fn a_dead_peer_ends_the_wait() {
        let (client, _server) = pair();
        let result = client.exchange(0, &mut || Err(FlipError::ShutDown));
        assert_eq!(result, Err(FlipError::ShutDown));
    }

    #[test]
    fn shutting_down_wakes_the_own_waiter() {
        let (client, _server) = pair();
        let client = std::sync::Arc::new(client);
        let waiting = {
            let client = client.clone();
            std::thread::spawn(move || client.exchange(0, &mut patient()))
        };
        while client.window().state().load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        client.shut_down();
        assert_eq!(waiting.join().unwrap(), Err(FlipError::ShutDown));
    }

    #[test]
    fn an_exchange_that_was_given_up_can_be_finished() {
        let (client, server) = pair();
        client.window().write(0, b"ask");
        let given_up = client.exchange(3, &mut || Err(FlipError::GaveUp));
        assert_eq!(given_up, Err(FlipError::GaveUp));
        assert_eq!(server.receive(&mut patient()), Ok(3));
        server.window().set_datagram_length(7);
        server.turn.pass(server.window().state()).unwrap();
        assert_eq!(client.receive(&mut patient()), Ok(7));
    }

    #[test]
    fn a_nudged_waiter_asks_again() {
        let (client, _server) = pair();
        let given_up = std::thread::scope(|scope| {
            let (asked, asks) = std::sync::mpsc::channel();
            let waiting = scope.spawn({
                let client = &client;
                move || {
                    let mut first = true;
                    client.exchange(0, &mut || match std::mem::take(&mut first) {
                        true => {
                            asked.send(()).unwrap();
                            Ok(Duration::from_secs(3600))
                        }
                        false => Err(FlipError::GaveUp),
                    })
                }
            });
            asks.recv().unwrap();
            while !waiting.is_finished() {
                client.nudge();
                std::thread::yield_now();
            }
            waiting.join().unwrap()
        });
        assert_eq!(given_up, Err(FlipError::GaveUp));
    }
}
