//! How to reach the server once more, and the connection that is in use now.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use gofer_transport::{Stream, Wait};
use gofer_vfs::Errno;
use gofer_vfs::remote::{Call, RemoteError, RemoteResult};
use parking_lot::{Mutex, RwLock};

use super::channels;
use super::negotiate::{self, Agreed, Link};
use super::session::{Lasting, Session};
use super::{CONNECT_TIMEOUT, ConnectError};

/// Makes a new stream to the server in at most the time given.
type Dial = dyn Fn(Duration) -> io::Result<Stream> + Send + Sync;

/// A way to reach the server again after the connection was lost.
#[derive(Clone)]
pub struct Connector(Arc<Dial>);

impl Connector {
    /// `dial` makes a new stream to the same server, in at most the time it is given. It blocks.
    pub fn new(dial: impl Fn(Duration) -> io::Result<Stream> + Send + Sync + 'static) -> Connector {
        Connector(Arc::new(dial))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

/// The connection in use, and the means to put another in its place.
pub(super) struct Line {
    session: RwLock<Arc<Session>>,
    connector: Option<Connector>,
    lasting: Lasting,
    agreed: Agreed,
    /// Held while a connection is made, so that they come one after the other.
    renewing: Mutex<()>,
    /// The filesystem was shut down: no connection is made any more.
    closed: AtomicBool,
}

impl Line {
    pub(super) fn new(
        stream: Stream,
        agreed: Agreed,
        connector: Option<Connector>,
        lasting: Lasting,
    ) -> Line {
        let session = Session::new(stream, agreed, 0, lasting.clone());
        Line {
            session: RwLock::new(session),
            connector,
            lasting,
            agreed,
            renewing: Mutex::new(()),
            closed: AtomicBool::new(false),
        }
    }

    /// Opens the channels of the connection in use.
    pub(super) fn open_channels(&self, call: &Call<'_>) {
        channels::open(&self.session(), call, self.lasting.channels);
    }

    /// The connection in use.
    pub(super) fn session(&self) -> Arc<Session> {
        self.session.read().clone()
    }

    /// Makes a new connection and puts it in place of the old one, whose files are stale then.
    /// Whatever is wrong with it, the old one stays.
    pub(super) fn renew(&self, call: &Call<'_>) -> RemoteResult<()> {
        let fail = RemoteError::not_sent;
        let connector = self.connector.as_ref().ok_or(fail(Errno::EOPNOTSUPP))?;
        let _renewing = self.renewing.lock();
        if self.closed.load(SeqCst) {
            return Err(fail(Errno::EIO));
        }
        let limit = self.lasting.timeout.unwrap_or(CONNECT_TIMEOUT);
        let deadline = Instant::now() + limit;
        let deadline = call.deadline.map_or(deadline, |given| given.min(deadline));
        let wait = Wait {
            deadline: Some(deadline),
            cancel: call.cancel,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let renewed = (connector.0)(left)
            .map_err(ConnectError::from_io)
            .and_then(|stream| self.agree(stream, wait));
        let (stream, epoch) = renewed.map_err(|error| {
            tracing::debug!(%error, "no new connection");
            fail(error.errno())
        })?;
        let new = Session::new(stream, self.agreed, epoch, self.lasting.clone());
        let call = Call {
            deadline: Some(deadline),
            ..*call
        };
        channels::open(&new, &call, self.lasting.channels);
        let old = std::mem::replace(&mut *self.session.write(), new);
        old.supersede();
        tracing::info!(epoch, "connected again");
        if self.closed.load(SeqCst) {
            // Whoever shut down may have met the old one.
            self.session().shutdown();
        }
        Ok(())
    }

    /// Has the new stream speak what the old one spoke: files and limits were made for that.
    fn agree(&self, stream: Stream, wait: Wait<'_>) -> Result<(Stream, u32), ConnectError> {
        let Agreed { version, msize } = self.agreed;
        let link = Link {
            stream: &stream,
            tracer: &self.lasting.tracer,
            counts: &self.lasting.counts,
            wait,
        };
        let agreed = negotiate::negotiate(&link, Some(version), msize)?;
        if agreed != self.agreed {
            let text = format!(
                "messages are at most {} bytes now, not {msize}",
                agreed.msize
            );
            return Err(ConnectError::Protocol(text));
        }
        let epoch = self.session.read().epoch().wrapping_add(1);
        Ok((stream, epoch))
    }

    /// Ends the connection for good.
    pub(super) fn shutdown(&self) {
        self.closed.store(true, SeqCst);
        self.session().shutdown();
    }
}
