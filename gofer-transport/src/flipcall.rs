//! flipcall: two endpoints pass control of a window back and forth through its state word.
//!
//! The word is 0 while the client is active, 1 while the server is, and 2 for good once either
//! side shut down. Only the active side touches the datagram. The rules are those of the lisafs
//! specification, section 8.
//!
//! The turn-taking ([`Turn`]) is generic over the word ([`StateWord`]), so that a model checker
//! can drive it; [`Endpoint`] puts it on a mapped [`Window`].

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{Timespec, futex};

use crate::shm::Window;

/// Which side of a window this is. The client is active first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Side {
    Client,
    Server,
}

impl Side {
    fn own(self) -> u32 {
        match self {
            Side::Client => 0,
            Side::Server => 1,
        }
    }

    fn peer(self) -> u32 {
        1 - self.own()
    }
}

const SHUT_DOWN: u32 = 2;

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
    /// The kernel refused a wait.
    #[error("waiting on the channel failed: errno {0}")]
    Wait(i32),
}

impl From<FlipError> for io::Error {
    fn from(error: FlipError) -> io::Error {
        io::Error::other(error)
    }
}

/// The state word: atomics, and waiting until it changes.
pub trait StateWord {
    /// Loads with acquire order.
    fn load(&self) -> u32;
    /// Compare-and-swap with release order; the value found otherwise.
    fn compare_swap(&self, from: u32, to: u32) -> Result<(), u32>;
    /// Exchanges, with both orders.
    fn swap(&self, to: u32) -> u32;
    /// Sleeps while the word is `value`, at most for `limit`. May return early.
    fn wait_while(&self, value: u32, limit: Duration) -> Result<(), FlipError>;
    /// Wakes one sleeper, or all.
    fn wake(&self, all: bool);
}

impl StateWord for AtomicU32 {
    fn load(&self) -> u32 {
        self.load(Ordering::Acquire)
    }

    fn compare_swap(&self, from: u32, to: u32) -> Result<(), u32> {
        self.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
    }

    fn swap(&self, to: u32) -> u32 {
        AtomicU32::swap(self, to, Ordering::AcqRel)
    }

    fn wait_while(&self, value: u32, limit: Duration) -> Result<(), FlipError> {
        use rustix::io::Errno;
        let limit = Timespec {
            tv_sec: limit.as_secs().min(u64::from(u32::MAX)) as i64,
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        // Shared, not private: the peer is another process.
        match futex::wait(self, futex::Flags::empty(), value, Some(&limit)) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => Ok(()),
            Err(error) => Err(FlipError::Wait(error.raw_os_error())),
        }
    }

    fn wake(&self, all: bool) {
        // Fails only for a word that is not mapped, and this one is.
        let _ = futex::wake(
            self,
            futex::Flags::empty(),
            if all { i32::MAX as u32 } else { 1 },
        );
    }
}

/// How long one sleep lasts before the sleeper asks whether the peer still lives.
const NAP: Duration = Duration::from_millis(100);

/// Loads of the state word before a first sleep, where another CPU could change it meanwhile.
const SPIN_MAX: u32 = 4000;

/// Turn-taking on a state word, for one side.
///
/// One thread at a time takes turns; any thread may shut down.
#[derive(Debug)]
pub struct Turn {
    side: Side,
    closed: AtomicBool,
    /// How long to spin, adapted to whether spinning paid off the last times.
    spin: AtomicU32,
}

impl Turn {
    /// Turn-taking that has not begun. `spin_max` 0 never spins: right where the peer has to run
    /// on the same CPU.
    pub fn new(side: Side, spin_max: u32) -> Turn {
        Turn {
            side,
            closed: AtomicBool::new(false),
            spin: AtomicU32::new(spin_max),
        }
    }

    /// Hands control to the peer.
    pub fn pass(&self, word: &impl StateWord) -> Result<(), FlipError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(FlipError::ShutDown);
        }
        match word.compare_swap(self.side.own(), self.side.peer()) {
            Ok(()) => word.wake(false),
            Err(SHUT_DOWN) => return Err(FlipError::ShutDown),
            Err(other) => return Err(FlipError::BadState(other)),
        }
        Ok(())
    }

    /// Waits until control is here. `alive` is asked from time to time and ends the wait with its
    /// error: a peer that died cannot wake anybody.
    pub fn wait(
        &self,
        word: &impl StateWord,
        alive: &mut dyn FnMut() -> Result<(), FlipError>,
    ) -> Result<(), FlipError> {
        let mut spins = self.spin.load(Ordering::Relaxed);
        let began_with = spins;
        let mut slept = false;
        loop {
            let state = word.load();
            if state == self.side.own() {
                break;
            }
            if state == SHUT_DOWN || self.closed.load(Ordering::Acquire) {
                return Err(FlipError::ShutDown);
            }
            if state != self.side.peer() {
                return Err(FlipError::BadState(state));
            }
            if spins > 0 {
                spins -= 1;
                std::hint::spin_loop();
            } else {
                if slept {
                    alive()?;
                }
                word.wait_while(state, NAP)?;
                slept = true;
            }
        }
        self.adapt(began_with, slept);
        Ok(())
    }

    /// Ends the turn-taking for both sides. Idempotent.
    pub fn shut_down(&self, word: &impl StateWord) {
        self.closed.store(true, Ordering::Release);
        word.swap(SHUT_DOWN);
        word.wake(true);
    }

    /// Spins longer where a spin was enough, shorter where it was in vain; never gives up wholly,
    /// so that it can find out that things changed.
    fn adapt(&self, began_with: u32, slept: bool) {
        if began_with == 0 {
            return;
        }
        let next = if slept {
            (began_with / 2).max(SPIN_MAX / 64)
        } else {
            (began_with * 2).min(SPIN_MAX)
        };
        if next != began_with {
            self.spin.store(next, Ordering::Relaxed);
        }
    }
}

/// The datagram that opens a channel, in both directions: an empty JSON object.
const HELLO: &[u8] = b"{}\n";

/// One side of a mapped window. One thread at a time exchanges datagrams; any may shut down.
#[derive(Debug)]
pub struct Endpoint {
    window: Window,
    turn: Turn,
}

impl Endpoint {
    /// Puts `side` on `window`, which must be fresh or in the hands of that side.
    pub fn new(window: Window, side: Side) -> Endpoint {
        let alone = std::thread::available_parallelism().map_or(1, usize::from) < 2;
        Endpoint {
            window,
            turn: Turn::new(side, if alone { 0 } else { SPIN_MAX }),
        }
    }

    /// The memory, to write a datagram into or read one from while this side is active.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Client: the handshake. Afterwards this side is active.
    pub fn connect(
        &self,
        alive: &mut dyn FnMut() -> Result<(), FlipError>,
    ) -> Result<(), FlipError> {
        self.window.write(0, HELLO);
        let length = self.exchange(HELLO.len(), alive)?;
        self.check_hello(length)
    }

    /// Server: the handshake, and the wait for the first datagram, whose length is returned.
    pub fn accept(
        &self,
        alive: &mut dyn FnMut() -> Result<(), FlipError>,
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
        alive: &mut dyn FnMut() -> Result<(), FlipError>,
    ) -> Result<usize, FlipError> {
        debug_assert!(length <= self.window.capacity());
        self.window.set_datagram_length(length as u32);
        self.turn.pass(self.window.state())?;
        self.receive(alive)
    }

    /// Ends the channel for both sides. Idempotent.
    pub fn shut_down(&self) {
        self.turn.shut_down(self.window.state());
    }

    fn receive(
        &self,
        alive: &mut dyn FnMut() -> Result<(), FlipError>,
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

    fn pair() -> (Endpoint, Endpoint) {
        let mut file = WindowFile::create().unwrap();
        let (offset, length) = file.allocate(8192).unwrap();
        let map = || Window::map(file.as_fd(), offset, length as u64).unwrap();
        (
            Endpoint::new(map(), Side::Client),
            Endpoint::new(map(), Side::Server),
        )
    }

    fn patient() -> impl FnMut() -> Result<(), FlipError> {
        || Ok(())
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
}
