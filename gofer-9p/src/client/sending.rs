//! The sender's role: what others left, own requests and clunks in one system call.

use std::io::{self, IoSlice};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use gofer_transport::{TransportKind, Wait};
use parking_lot::MutexGuard;

use super::exchange::{Exchange, Stage, gave_up};
use super::incoming::{End, Incoming, Reading};
use super::session::{Session, State};

/// How long a sender without room leaves the reading to others before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Parts of one send that are kept on the stack.
const PARTS_MAX: usize = 8;

impl<'s> Exchange<'s> {
    /// Takes the sender's role and sends the outbox, the own requests, and clunks.
    pub(super) fn send<'g>(
        &mut self,
        mut state: MutexGuard<'g, State>,
        payload: &[IoSlice<'_>],
    ) -> (MutexGuard<'g, State>, Stage)
    where
        's: 'g,
    {
        state.sending = true;
        let mut first = std::mem::take(&mut state.outbox);
        self.desk.tail.clear();
        self.session.write_clunks(&mut state, &mut self.desk.tail);
        drop(state);
        self.session.trace_bytes(&self.desk.tail);

        let (out, tail) = (&self.desk.out[..], &self.desk.tail[..]);
        let mut few = [IoSlice::new(&[]); PARTS_MAX];
        let mut many = Vec::new();
        let parts: &mut [IoSlice<'_>] = match few.get_mut(..payload.len() + 3) {
            Some(few) => few,
            None => {
                many.resize(payload.len() + 3, IoSlice::new(&[]));
                &mut many
            }
        };
        let all = [IoSlice::new(&first), IoSlice::new(out)].into_iter();
        let all = all
            .chain(payload.iter().copied())
            .chain([IoSlice::new(tail)]);
        parts
            .iter_mut()
            .zip(all)
            .for_each(|(part, bytes)| *part = bytes);
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let sent = self.session.transmit(parts, &self.wait);

        let mut state = self.session.lock();
        let mut unsent = false;
        if sent == total {
            first.clear();
        } else {
            // Given up. A message that has begun must be finished by whoever sends next; one that
            // has not is taken back.
            unsent = sent <= first.len();
            let before = first.len();
            if !unsent {
                first.extend_from_slice(out);
                payload
                    .iter()
                    .for_each(|part| first.extend_from_slice(part));
            }
            debug_assert!(unsent || sent > before);
            first.extend_from_slice(tail);
            first.drain(..sent.min(first.len()));
        }
        state.return_outbox(first);
        (state, if unsent { Stage::Unsent } else { Stage::Sent })
    }

    /// Takes the sender's role for what others left.
    pub(super) fn send_outbox<'g>(&self, mut state: MutexGuard<'g, State>) -> MutexGuard<'g, State>
    where
        's: 'g,
    {
        state.sending = true;
        let mut bytes = std::mem::take(&mut state.outbox);
        drop(state);
        let sent = self
            .session
            .transmit(&mut [IoSlice::new(&bytes)], &self.wait);
        bytes.drain(..sent.min(bytes.len()));
        let mut state = self.session.lock();
        state.return_outbox(bytes);
        state
    }
}

impl Session {
    /// Sends `parts` and returns how many bytes went: all, unless `wait` ended it or the
    /// connection failed. While there is no room, and nobody reads, it reads: a server may take
    /// nothing before its replies are taken.
    fn transmit(&self, mut parts: &mut [IoSlice<'_>], wait: &Wait<'_>) -> usize {
        let mut sent = 0;
        let mut role: Option<Box<Incoming>> = None;
        let mut woken = false;
        let end = loop {
            IoSlice::advance_slices(&mut parts, 0);
            if parts.is_empty() {
                break Ok(());
            }
            match self.stream.try_send(parts, &[]) {
                Ok(count) => {
                    sent += count;
                    woken = false;
                    IoSlice::advance_slices(&mut parts, count);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break Err("sending failed"),
            }
            if let Some(incoming) = role.as_mut().filter(|_| woken) {
                // Woken, and not for output.
                match incoming.next(self, &mut Reading::for_others(wait)) {
                    Ok(_) => {}
                    Err(End::GaveUp) => break Ok(()),
                    Err(End::Lost(reason)) => break Err(reason),
                }
            }
            if role.is_none() && self.stream.kind() != TransportKind::Pipes {
                role = self.lock().incoming.take();
            }
            // Whoever reads now may leave without a successor: look again, now and then.
            let look_again = Instant::now() + LOOK_AGAIN;
            let brief = Wait {
                deadline: Some(
                    wait.deadline
                        .map_or(look_again, |deadline| deadline.min(look_again)),
                ),
                ..*wait
            };
            let bounds = if role.is_some() { wait } else { &brief };
            match self.stream.wait_output(role.is_some(), bounds) {
                Ok(()) => woken = true,
                Err(_) if gave_up(wait).is_some() => break Ok(()),
                Err(_) if gave_up(bounds).is_some() => woken = false,
                Err(_) => break Err("sending failed"),
            }
        };
        self.counts.bytes_sent.fetch_add(sent as u64, Relaxed);
        if let Some(incoming) = role {
            let mut state = self.lock();
            state.incoming = Some(incoming);
            state.hand_on();
        }
        if let Err(reason) = end {
            self.fail(reason);
        }
        sent
    }
}

impl State {
    /// Lays down the sender's role with what could not be sent. What others added meanwhile
    /// goes behind.
    pub(super) fn return_outbox(&mut self, mut rest: Vec<u8>) {
        rest.append(&mut self.outbox);
        self.outbox = rest;
        self.sending = false;
        if std::mem::take(&mut self.held_up) {
            self.wake_all();
        }
    }
}
