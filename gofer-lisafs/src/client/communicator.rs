//! One exchange at a time: the transport that carries requests out and responses in.
//!
//! lisafs has no tags, so a transport belongs to one caller from the first byte of a request to
//! the last byte of its response. There is one transport today, the socket; channels in shared
//! memory will stand beside it here, each taken by one caller at a time.
//!
//! A caller that gives up (deadline, cancel) leaves the rest of its exchange to the next one,
//! who finishes it before its own, within its own bounds.

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use gofer_transport::{Cancel, Stream, Wait};
use gofer_vfs::Errno;
use gofer_vfs::remote::{RemoteError, RemoteResult};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::incoming::{Ended, Incoming, Scatter};

/// How often newcomers may take the transport before somebody who waits for it. Handing it over
/// in strict order would cost a wake-up per call; without a bound a waiter could starve.
const OVERTAKES_MAX: u32 = 8;

/// The most parts a request may be sent from.
pub(super) const PARTS_MAX: usize = 16;

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

/// The socket and whose turn it is.
pub(super) struct Communicator {
    stream: Stream,
    gate: Arc<Gate>,
}

struct Gate {
    state: Mutex<State>,
    /// Told when the transport is given back, and of loss.
    freed: Condvar,
}

#[derive(Default)]
struct State {
    taken: bool,
    waiting: usize,
    overtakes: u32,
    loss: Option<Loss>,
    abandoned: Option<Abandoned>,
}

/// An exchange whose caller gave up.
struct Abandoned {
    /// What of the request has not been sent.
    unsent: Vec<u8>,
    incoming: Incoming,
}

impl Communicator {
    pub(super) fn new(stream: Stream) -> Communicator {
        let gate = Gate {
            state: Mutex::default(),
            freed: Condvar::new(),
        };
        Communicator {
            stream,
            gate: Arc::new(gate),
        }
    }

    /// Why the connection is of no more use, if it is.
    pub(super) fn loss(&self) -> Option<Loss> {
        self.gate.state.lock().loss
    }

    /// Ends the connection and wakes everybody who uses or waits for it. The first reason stays.
    pub(super) fn lose(&self, loss: Loss) {
        self.gate.state.lock().loss.get_or_insert(loss);
        self.stream.shutdown();
        self.gate.freed.notify_all();
    }

    /// Sends a request and receives its response. `orphan` gets the complete response of an
    /// exchange that was given up before.
    ///
    /// Blocks until it is this caller's turn and then until the response is there, both within
    /// `wait`. No lock is held while waiting.
    pub(super) fn exchange(
        &self,
        request: &[IoSlice<'_>],
        mut incoming: Incoming,
        into: &mut Scatter<'_, '_>,
        wait: &Wait<'_>,
        orphan: &dyn Fn(&Incoming),
    ) -> RemoteResult<Incoming> {
        let mut turn = self.enter(wait)?;
        turn.finish_abandoned(wait, orphan)?;
        let mut parts = [IoSlice::new(&[]); PARTS_MAX];
        let count = request.len().min(PARTS_MAX);
        debug_assert_eq!(count, request.len());
        parts[..count].copy_from_slice(&request[..count]);
        let mut unsent = &mut parts[..count];
        let before = bytes(unsent);
        let result = self.transfer(&mut unsent, &mut incoming, into, wait);
        let fate = match bytes(unsent) == before {
            true => RemoteError::not_sent,
            false => RemoteError::unknown,
        };
        match result {
            Ok(()) => Ok(incoming),
            Err(Ended::Lost(loss)) => {
                self.lose(loss);
                Err(fate(Errno::EIO))
            }
            Err(Ended::GaveUp(errno)) => {
                if bytes(unsent) < before {
                    let unsent = unsent
                        .iter()
                        .flat_map(|part| part.iter().copied())
                        .collect();
                    turn.abandoned = Some(Abandoned { unsent, incoming });
                }
                Err(fate(errno))
            }
        }
    }

    /// Sends what is unsent and then receives what has not been received.
    fn transfer(
        &self,
        unsent: &mut &mut [IoSlice<'_>],
        incoming: &mut Incoming,
        into: &mut Scatter<'_, '_>,
        wait: &Wait<'_>,
    ) -> Result<(), Ended> {
        IoSlice::advance_slices(unsent, 0);
        while !unsent.is_empty() {
            match self.stream.try_send(unsent, &[]) {
                Ok(sent) => IoSlice::advance_slices(unsent, sent),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stream
                        .wait_output(false, wait)
                        .map_err(|error| Ended::of(&error))?;
                }
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    return Err(Ended::Lost(Loss::Closed));
                }
                Err(error) => return Err(Ended::of(&error)),
            }
        }
        incoming.receive(&self.stream, into, wait)
    }

    /// Waits for the transport.
    fn enter(&self, wait: &Wait<'_>) -> RemoteResult<Turn<'_>> {
        let mut state = self.gate.state.lock();
        check(&state, wait)?;
        let newcomers_may = state.waiting == 0 || state.overtakes < OVERTAKES_MAX;
        if !state.taken && newcomers_may {
            state.overtakes += u32::from(state.waiting > 0);
        } else {
            drop(state);
            state = self.gate.wait(wait)?;
            state.overtakes = 0;
        }
        state.taken = true;
        let abandoned = state.abandoned.take();
        Ok(Turn {
            communicator: self,
            abandoned,
        })
    }
}

/// Whether a caller must not go on: the connection is lost, or its bounds are reached.
fn check(state: &State, wait: &Wait<'_>) -> RemoteResult<()> {
    let errno = if state.loss.is_some() {
        Errno::EIO
    } else if wait.cancel.is_some_and(Cancel::is_set) {
        Errno::EINTR
    } else if wait
        .deadline
        .is_some_and(|deadline| deadline <= Instant::now())
    {
        Errno::ETIMEDOUT
    } else {
        return Ok(());
    };
    Err(RemoteError::not_sent(errno))
}

fn bytes(parts: &[IoSlice<'_>]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

impl Gate {
    /// Waits until the transport is free, behind those who wait already.
    fn wait(self: &Arc<Gate>, wait: &Wait<'_>) -> RemoteResult<MutexGuard<'_, State>> {
        let _watch = wait.cancel.map(|cancel| {
            let gate = self.clone();
            cancel.watch(Arc::new(move || {
                // The lock keeps the flag from being set between a waiter's look and its sleep.
                let _state = gate.state.lock();
                gate.freed.notify_all();
            }))
        });
        let mut state = self.state.lock();
        // While the transport is free and others wait, one of them has been told so. Whatever it
        // does, it tells the next: so behind others there is a wake-up to come, and only then.
        let mut blocked = state.taken || state.waiting > 0;
        state.waiting += 1;
        let mut result = check(&state, wait);
        while result.is_ok() && blocked {
            match wait.deadline {
                Some(deadline) => drop(self.freed.wait_until(&mut state, deadline)),
                None => self.freed.wait(&mut state),
            }
            result = check(&state, wait);
            blocked = state.taken;
        }
        state.waiting -= 1;
        if result.is_err() && !state.taken {
            // The notification may have been meant for whoever waits next.
            self.freed.notify_one();
        }
        result.map(|()| state)
    }
}

/// The transport in one caller's hands; given back when dropped.
struct Turn<'a> {
    communicator: &'a Communicator,
    abandoned: Option<Abandoned>,
}

impl Turn<'_> {
    /// Completes the exchange that another caller gave up.
    fn finish_abandoned(
        &mut self,
        wait: &Wait<'_>,
        orphan: &dyn Fn(&Incoming),
    ) -> RemoteResult<()> {
        let Some(mut abandoned) = self.abandoned.take() else {
            return Ok(());
        };
        let mut part = [IoSlice::new(&abandoned.unsent)];
        let mut unsent = &mut part[..];
        let incoming = &mut abandoned.incoming;
        let into = &mut Scatter::new(&mut []);
        let result = self
            .communicator
            .transfer(&mut unsent, incoming, into, wait);
        let left = bytes(unsent);
        match result {
            Ok(()) => {
                orphan(incoming);
                Ok(())
            }
            Err(Ended::Lost(loss)) => {
                self.communicator.lose(loss);
                Err(RemoteError::not_sent(Errno::EIO))
            }
            Err(Ended::GaveUp(errno)) => {
                let sent = abandoned.unsent.len() - left;
                abandoned.unsent.drain(..sent);
                self.abandoned = Some(abandoned);
                Err(RemoteError::not_sent(errno))
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let gate = &self.communicator.gate;
        let mut state = gate.state.lock();
        state.abandoned = self.abandoned.take();
        state.taken = false;
        if state.waiting > 0 {
            gate.freed.notify_one();
        }
    }
}
