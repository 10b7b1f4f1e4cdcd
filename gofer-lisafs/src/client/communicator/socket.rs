//! One exchange on the socket (lisafs 2).

use std::io::{ErrorKind, IoSlice};

use gofer_transport::{Stream, Wait};

use super::{Abandoned, Ended, Failed, Loss, Outgoing};
use crate::client::incoming::{Incoming, Scatter};

/// Sends a request and receives its response.
pub(super) fn exchange(
    stream: &Stream,
    request: &Outgoing<'_>,
    incoming: &mut Incoming,
    into: &mut Scatter<'_, '_>,
    wait: &Wait<'_>,
) -> Result<(), Failed> {
    let mut parts = [IoSlice::new(&[]); 1 + Outgoing::DATA_PARTS_MAX];
    let count = 1 + request.data.len().min(Outgoing::DATA_PARTS_MAX);
    debug_assert_eq!(count, 1 + request.data.len());
    parts[0] = IoSlice::new(request.head);
    parts[1..count].copy_from_slice(&request.data[..count - 1]);
    let mut unsent = &mut parts[..count];
    let mut sent = false;
    let result = transfer(stream, &mut unsent, &mut sent, incoming, into, wait);
    result.map_err(|ended| Failed {
        ended,
        unsent: sent.then(|| {
            let left = unsent.iter().flat_map(|part| part.iter());
            left.copied().collect()
        }),
    })
}

/// Completes an exchange that was given up.
pub(super) fn finish(
    stream: &Stream,
    abandoned: &mut Abandoned,
    wait: &Wait<'_>,
) -> Result<(), Ended> {
    let mut part = [IoSlice::new(&abandoned.unsent)];
    let mut unsent = &mut part[..];
    let incoming = &mut abandoned.incoming;
    let into = &mut Scatter::new(&mut []);
    let result = transfer(stream, &mut unsent, &mut false, incoming, into, wait);
    let left: usize = unsent.iter().map(|part| part.len()).sum();
    let sent = abandoned.unsent.len() - left;
    abandoned.unsent.drain(..sent);
    result
}

/// Sends what is unsent and then receives what has not been received. `sent` becomes whether
/// anything was.
fn transfer(
    stream: &Stream,
    unsent: &mut &mut [IoSlice<'_>],
    sent: &mut bool,
    incoming: &mut Incoming,
    into: &mut Scatter<'_, '_>,
    wait: &Wait<'_>,
) -> Result<(), Ended> {
    IoSlice::advance_slices(unsent, 0);
    while !unsent.is_empty() {
        match stream.try_send(unsent, &[]) {
            Ok(count) => {
                *sent = true;
                IoSlice::advance_slices(unsent, count);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                stream
                    .wait_output(false, wait)
                    .map_err(|error| Ended::of(&error))?;
            }
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                return Err(Ended::Lost(Loss::Closed));
            }
            Err(error) => return Err(Ended::of(&error)),
        }
    }
    incoming.receive(stream, into, wait)
}
