//! Whose turn it is: which transports are free, and who waits for one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gofer_transport::{Cancel, Wait};
use gofer_vfs::Errno;
use gofer_vfs::remote::{RemoteError, RemoteResult, Traffic};
use parking_lot::{Condvar, Mutex};

use super::channel::Channel;
use super::{Abandoned, Loss};
use crate::client::incoming::Incoming;
use crate::wire::{ChannelHeader, SocketHeader};

/// How often newcomers may take a transport before somebody who waits for one. Handing it over
/// in strict order would cost a wake-up per call; without a bound a waiter could starve.
const OVERTAKES_MAX: u32 = 8;

/// How often somebody who waits looks whether an exchange that was given up on a channel is
/// complete: nobody is told of that.
const LOOK: Duration = Duration::from_millis(20);

/// What can carry a request.
pub(super) enum Transport {
    Socket,
    Channel(Arc<Channel>),
}

/// Gives out transports, each to one caller at a time.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    /// Told when a transport is given back, and of loss.
    freed: Condvar,
}

struct State {
    socket_is_free: bool,
    left_on_socket: Option<Box<Abandoned>>,
    /// Those nobody uses, the last one used at the end.
    idle: Vec<Arc<Channel>>,
    /// Those that are with the server although nobody waits for it.
    left_on_channels: Vec<(Arc<Channel>, Box<Abandoned>)>,
    /// All that have not failed.
    channels: Vec<Arc<Channel>>,
    waiting: usize,
    overtakes: u32,
    loss: Option<Loss>,
    traffic: Traffic,
}

impl Default for State {
    fn default() -> State {
        State {
            socket_is_free: true,
            left_on_socket: None,
            idle: Vec::new(),
            left_on_channels: Vec::new(),
            channels: Vec::new(),
            waiting: 0,
            overtakes: 0,
            loss: None,
            traffic: Traffic::default(),
        }
    }
}

impl State {
    /// Whether a caller must not go on: the connection is lost, or its bounds are reached.
    fn check(&self, wait: &Wait<'_>) -> RemoteResult<()> {
        let errno = if self.loss.is_some() {
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

    /// Takes what is free, with the exchange that was given up on it. A channel whose answer has
    /// come late goes first, so that what the answer brought is not kept for long.
    fn take(&mut self) -> Option<(Transport, Option<Box<Abandoned>>)> {
        if let Some(place) = self.answered() {
            let (channel, abandoned) = self.left_on_channels.swap_remove(place);
            Some((Transport::Channel(channel), Some(abandoned)))
        } else if let Some(channel) = self.idle.pop() {
            Some((Transport::Channel(channel), None))
        } else if self.socket_is_free {
            self.socket_is_free = false;
            Some((Transport::Socket, self.left_on_socket.take()))
        } else {
            None
        }
    }

    fn is_any_free(&self) -> bool {
        self.socket_is_free || !self.idle.is_empty() || self.answered().is_some()
    }

    fn answered(&self) -> Option<usize> {
        let mut left = self.left_on_channels.iter();
        left.position(|(channel, _)| channel.is_answered())
    }
}

impl Gate {
    /// Why the connection is of no more use, if it is.
    pub(super) fn loss(&self) -> Option<Loss> {
        self.state.lock().loss
    }

    /// How many channels have not failed.
    pub(super) fn channels(&self) -> usize {
        self.state.lock().channels.len()
    }

    /// What has been sent and received.
    pub(super) fn traffic(&self) -> Traffic {
        self.state.lock().traffic
    }

    /// Keeps a channel for [`Gate::use_channels`], unless the connection is lost.
    pub(super) fn add(&self, channel: Arc<Channel>) {
        let mut state = self.state.lock();
        if state.loss.is_some() {
            channel.shut_down();
            return;
        }
        state.channels.push(channel);
    }

    /// Gives out the channels that were added. Called once.
    pub(super) fn use_channels(&self) {
        let mut state = self.state.lock();
        state.idle = state.channels.clone();
    }

    /// Ends all channels and wakes everybody who uses or waits for a transport. The first reason
    /// stays.
    pub(super) fn lose(&self, loss: Loss) {
        let mut state = self.state.lock();
        state.loss.get_or_insert(loss);
        for channel in &state.channels {
            channel.shut_down();
        }
        drop(state);
        self.freed.notify_all();
    }

    /// Waits for a transport.
    pub(super) fn enter(self: &Arc<Gate>, wait: &Wait<'_>) -> RemoteResult<Taken<'_>> {
        let mut state = self.state.lock();
        state.check(wait)?;
        let newcomers_may = state.waiting == 0 || state.overtakes < OVERTAKES_MAX;
        let free = newcomers_may.then(|| state.take()).flatten();
        let (transport, abandoned) = match free {
            Some(free) => {
                state.overtakes += u32::from(state.waiting > 0);
                free
            }
            None => {
                drop(state);
                self.wait(wait)?
            }
        };
        Ok(Taken {
            gate: self,
            transport,
            abandoned,
            after: After::Reuse,
            sent: 0,
            received: 0,
        })
    }

    /// Waits until a transport is free, behind those who wait already.
    fn wait(
        self: &Arc<Gate>,
        wait: &Wait<'_>,
    ) -> RemoteResult<(Transport, Option<Box<Abandoned>>)> {
        let _watch = wait.cancel.map(|cancel| {
            let gate = self.clone();
            cancel.watch(Arc::new(move || {
                // The lock keeps the flag from being set between a waiter's look and its sleep.
                let _state = gate.state.lock();
                gate.freed.notify_all();
            }))
        });
        let mut state = self.state.lock();
        // While something is free and others wait, one of them has been told so. Whatever it
        // does, it tells the next: so behind others there is a wake-up to come, and only then.
        let mut may_take = state.waiting == 0;
        state.waiting += 1;
        let result = loop {
            if let Err(error) = state.check(wait) {
                break Err(error);
            }
            if let Some(free) = may_take.then(|| state.take()).flatten() {
                state.overtakes = 0;
                break Ok(free);
            }
            may_take = true;
            let look = (!state.left_on_channels.is_empty()).then(|| Instant::now() + LOOK);
            match wait.deadline.into_iter().chain(look).min() {
                Some(until) => drop(self.freed.wait_until(&mut state, until)),
                None => self.freed.wait(&mut state),
            }
        };
        state.waiting -= 1;
        // The notification may have been meant for whoever waits next.
        if state.waiting > 0 && (result.is_err() || state.is_any_free()) {
            self.freed.notify_one();
        }
        result
    }
}

/// What becomes of a transport that is given back.
pub(super) enum After {
    /// The next caller uses it.
    Reuse,
    /// The next caller finishes this on it before.
    Finish(Box<Abandoned>),
    /// Nobody uses it any more.
    Discard,
}

/// A transport in one caller's hands; given back when dropped.
pub(super) struct Taken<'a> {
    gate: &'a Gate,
    pub(super) transport: Transport,
    /// What is to be finished on it first.
    pub(super) abandoned: Option<Box<Abandoned>>,
    pub(super) after: After,
    /// Bytes of a request, if one was sent, and of responses.
    sent: u64,
    received: u64,
}

impl Taken<'_> {
    /// Counts a request.
    pub(super) fn sent(&mut self, payload_len: usize) {
        let header = match self.transport {
            Transport::Socket => SocketHeader::SIZE,
            Transport::Channel(_) => ChannelHeader::SIZE,
        };
        self.sent = (header + payload_len) as u64;
    }

    /// Counts a response.
    pub(super) fn received(&mut self, incoming: &Incoming) {
        self.received += incoming.received();
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let transport = std::mem::replace(&mut self.transport, Transport::Socket);
        let after = std::mem::replace(&mut self.after, After::Reuse);
        let mut state = self.gate.state.lock();
        // No request is sent before the response to the one before it is there.
        state.traffic.requests += u64::from(self.sent > 0);
        state.traffic.round_trips += u64::from(self.sent > 0);
        state.traffic.bytes_sent += self.sent;
        state.traffic.bytes_received += self.received;
        match (transport, after) {
            (Transport::Socket, after) => {
                state.socket_is_free = true;
                if let After::Finish(abandoned) = after {
                    state.left_on_socket = Some(abandoned);
                }
            }
            (Transport::Channel(channel), After::Reuse) => state.idle.push(channel),
            (Transport::Channel(channel), After::Finish(abandoned)) => {
                state.left_on_channels.push((channel, abandoned));
            }
            (Transport::Channel(channel), After::Discard) => {
                channel.shut_down();
                state.channels.retain(|known| !Arc::ptr_eq(known, &channel));
            }
        }
        let told = state.waiting > 0;
        drop(state);
        if told {
            self.gate.freed.notify_one();
        }
    }
}
