//! Serves connections: finds out which protocol a client speaks and runs its session.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gofer_transport::{Stream, TransportKind, Wait};

use crate::host::Export;
use crate::limits::Limits;

/// Bytes that tell the protocols apart.
const FIRST_BYTES: usize = 6;
/// How long a client that sent one byte may take for the others.
const FIRST_BYTES_TIME: Duration = Duration::from_secs(10);
/// How long to wait before looking again for bytes of a client that sends them one by one.
const PEEK_PAUSE: Duration = Duration::from_millis(2);

/// Which protocol a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// lisafs: Unix sockets only.
    Lisafs,
    /// 9P2000.L and its dialects.
    P9,
    /// Whichever the client's first bytes are of.
    Auto,
}

/// Serves one connection until it ends, on the calling thread. An `Err` says why it ended before
/// its client wanted; nothing of the connection is left either way.
///
/// Sets the umask of the process to 0: the modes of new files are the client's to choose.
pub fn serve(
    stream: impl Into<Arc<Stream>>,
    export: Arc<Export>,
    protocol: Protocol,
    limits: &Limits,
) -> io::Result<()> {
    rustix::process::umask(rustix::fs::Mode::empty());
    let stream = stream.into();
    let protocol = match protocol {
        Protocol::P9 => Protocol::P9,
        told => match detect(&stream, told)? {
            FirstBytes::End => return Ok(()),
            FirstBytes::Mount => Protocol::Lisafs,
            FirstBytes::Tversion if told == Protocol::Auto => Protocol::P9,
            // As a lisafs frame it announces more bytes than a Tversion has: without this check
            // both sides would wait for the other.
            FirstBytes::Tversion => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the client speaks 9P to a lisafs server",
                ));
            }
            FirstBytes::Other if told == Protocol::Lisafs => Protocol::Lisafs,
            FirstBytes::Other => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the first bytes are neither a 9P Tversion nor a lisafs Mount",
                ));
            }
        },
    };
    tracing::debug!(?protocol, "session starts");
    match protocol {
        Protocol::P9 => crate::p9::serve(stream, export, limits),
        // Its clients say whom files are for, and not who they are.
        Protocol::Lisafs | Protocol::Auto if export.acts_for_others() => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "lisafs clients name no user, and this export acts for users",
        )),
        Protocol::Lisafs | Protocol::Auto if stream.kind() != TransportKind::Unix => Err(
            io::Error::new(io::ErrorKind::InvalidInput, "lisafs needs a Unix socket"),
        ),
        Protocol::Lisafs | Protocol::Auto => crate::lisafs::serve(&stream, export, limits),
    }
}

/// As [`serve`], on a thread of its own.
pub fn spawn(
    stream: impl Into<Arc<Stream>>,
    export: Arc<Export>,
    protocol: Protocol,
    limits: Limits,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let stream = stream.into();
    thread::Builder::new()
        .name("connection".into())
        .spawn(move || serve(stream, export, protocol, &limits))
}

/// What a client begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FirstBytes {
    /// Nothing: it left without a word.
    End,
    /// The frame of a lisafs Mount.
    Mount,
    /// A 9P Tversion. Its type, 100, is no lisafs message.
    Tversion,
    Other,
}

/// Looks at the first bytes without taking them. Waits for enough of them where they decide; a
/// client of the wrong protocol sends its Tversion in one piece.
fn detect(stream: &Stream, protocol: Protocol) -> io::Result<FirstBytes> {
    let mut bytes = [0; FIRST_BYTES];
    let mut deadline = None;
    loop {
        let wait = Wait {
            deadline,
            cancel: None,
        };
        let count = stream.peek(&mut bytes, &wait)?;
        match bytes.get(..count) {
            None | Some([]) => return Ok(FirstBytes::End),
            Some([0, 0, 0, 0, 1, 0]) => return Ok(FirstBytes::Mount),
            Some([_, _, _, _, 100, ..]) => return Ok(FirstBytes::Tversion),
            Some(few) if few.len() < FIRST_BYTES && protocol == Protocol::Auto => {}
            Some(_) => return Ok(FirstBytes::Other),
        }
        // A peek returns at once from now on.
        let until = *deadline.get_or_insert_with(|| Instant::now() + FIRST_BYTES_TIME);
        if Instant::now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(PEEK_PAUSE);
    }
}
