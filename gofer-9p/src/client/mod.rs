//! The client: [`connect`] turns a stream into a [`RemoteFilesystem`].
//!
//! - `connector`: how to connect again; `negotiate`: the first messages; `session`, `exchange`, `sending`, `incoming`, `table`, `ids`: the
//!   connection, requests, replies, tags and fids.
//! - `channels`: shared memory beside the socket.
//! - `file`, `walk`, `create`, `xattr`: a place in the tree; `handle`: an open file;
//!   `transfer`, `listing`: its data.
//! - `convert`: attributes.
//!
//! All calls run on the caller's thread: there is no other.

mod channels;
mod connector;
mod convert;
mod create;
mod exchange;
mod fid;
mod file;
mod handle;
mod ids;
mod incoming;
mod listing;
mod negotiate;
mod sending;
mod session;
mod table;
mod transfer;
mod walk;
mod xattr;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use gofer_transport::{Stream, Tracer, Wait};
use gofer_vfs::remote::{
    Call, Capabilities, Found, Holdings, RemoteEvents, RemoteFilesystem, RemoteHandle,
    RemoteResult, Traffic,
};
use gofer_vfs::{Errno, RenameFlags};

pub use self::channels::CHANNELS_MAX;
use self::connector::Line;
use self::exchange::EXCHANGE_MAX;
use self::file::File;
use self::handle::Handle;
use self::negotiate::Link;
use self::session::{Counts, Lasting, Session};
use self::table::Effect;
use crate::wire::{Fid, GetattrMask, Level, MSIZE_MAX, NO_ID, Tattach, Tfsync, Tgetattr, Version};

pub use self::connector::Connector;

/// How long [`connect`] may take without a timeout of the caller's.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How to connect.
#[derive(Clone, Debug)]
pub struct Config {
    /// Largest message in bytes, of either direction; kept within 4096 and 1 MiB.
    pub msize: u32,
    /// The version string to ask for. `None`: the newest Google dialect on Unix sockets and
    /// pipes, or less as the server likes; `9P2000.L` on TCP.
    pub version: Option<String>,
    /// Which tree to attach to.
    pub aname: Vec<u8>,
    /// Name of the user to attach as.
    pub uname: Vec<u8>,
    /// Number of the user to attach as; the number wins over the name.
    pub n_uname: Option<u32>,
    /// Bounds every call that has no deadline of its own.
    pub timeout: Option<Duration>,
    /// The most shared-memory channels beside the socket, where the dialect has them (9P 11) and
    /// the socket is a Unix socket. 0 uses the socket only; [`CHANNELS_MAX`] is the most. `None`
    /// is as many as there are CPUs to use them, at most 4.
    pub channels: Option<u32>,
    /// Gets one line per message.
    pub tracer: Tracer,
    /// How to reach the server again; `None`: a connection that is lost stays lost.
    pub connector: Option<Connector>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            msize: MSIZE_MAX,
            version: None,
            aname: Vec::new(),
            uname: Vec::new(),
            n_uname: None,
            timeout: None,
            channels: None,
            tracer: Tracer::default(),
            connector: None,
        }
    }
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The stream failed, or the time was up.
    #[error("connection failed")]
    Io(#[source] io::Error),
    /// The server hung up.
    #[error("the server closed the connection (does it speak another protocol?)")]
    Closed,
    /// The server sent something else than 9P.
    #[error("this is no 9P server: {0}")]
    Protocol(String),
    /// The server does not speak the version.
    #[error("asked for version {asked}, got {got}")]
    Version {
        /// The version that was asked for.
        asked: String,
        /// What the server answered.
        got: String,
    },
    /// The server answered with an error.
    #[error("the server refused the {what}: {errno}")]
    Refused {
        /// What it refused.
        what: &'static str,
        /// Its error.
        errno: Errno,
    },
}

impl ConnectError {
    /// An error number for those who need one.
    pub fn errno(&self) -> Errno {
        match self {
            ConnectError::Io(error) if error.kind() == io::ErrorKind::TimedOut => Errno::ETIMEDOUT,
            ConnectError::Io(error) => Errno::from(error),
            ConnectError::Closed => Errno::ECONNRESET,
            ConnectError::Protocol(_) | ConnectError::Version { .. } => Errno::EPROTO,
            ConnectError::Refused { errno, .. } => *errno,
        }
    }
}

/// Agrees with the server at the other end of `stream` on a version. Blocks, at most for the
/// configured timeout, or else 30 seconds.
pub fn connect(stream: Stream, config: Config) -> Result<Arc<dyn RemoteFilesystem>, ConnectError> {
    Ok(Arc::new(Filesystem::connect(stream, config)?))
}

/// Whether the server can remove and rename by name. Both until it says no (9P 8.25, 8.26).
#[derive(Default)]
struct ByName {
    no_unlinkat: AtomicBool,
    no_renameat: AtomicBool,
}

struct Filesystem {
    line: Line,
    capabilities: Capabilities,
    names: Arc<ByName>,
    aname: Vec<u8>,
    uname: Vec<u8>,
    n_uname: Option<u32>,
}

impl Filesystem {
    fn connect(stream: Stream, config: Config) -> Result<Filesystem, ConnectError> {
        let asked = config.version.as_deref().map(parse_version).transpose()?;
        let counts = Arc::new(Counts::default());
        let deadline = Instant::now() + config.timeout.unwrap_or(CONNECT_TIMEOUT);
        let link = Link {
            stream: &stream,
            tracer: &config.tracer,
            counts: &counts,
            wait: Wait {
                deadline: Some(deadline),
                cancel: None,
            },
        };
        let agreed = negotiate::negotiate(&link, asked, config.msize)?;
        let Config {
            aname,
            uname,
            n_uname,
            timeout,
            channels,
            tracer,
            connector,
            ..
        } = config;
        let lasting = Lasting {
            tracer,
            timeout,
            channels,
            counts,
            sinks: Arc::default(),
        };
        let line = Line::new(stream, agreed, connector, lasting);
        line.open_channels(&Call {
            deadline: Some(deadline),
            cancel: None,
        });
        let capabilities = capabilities(&line.session());
        let names = Arc::new(ByName::default());
        Ok(Filesystem {
            line,
            capabilities,
            names,
            aname,
            uname,
            n_uname,
        })
    }
}

fn parse_version(text: &str) -> Result<Version, ConnectError> {
    Version::parse(text.as_bytes()).ok_or_else(|| ConnectError::Version {
        asked: text.into(),
        got: "only 9P2000.L and its dialects are spoken here".into(),
    })
}

fn capabilities(session: &Session) -> Capabilities {
    let base = session.version().level() == 0;
    let payload = session.payload() as usize;
    Capabilities {
        protocol: session.version().to_string(),
        rename_flags: RenameFlags::empty(),
        multi_walk: true,
        owner_on_create: session.has(Level::CreateWithOwner),
        // gVisor, who made the dialects, has no locks (9P 15.2).
        locks: base,
        xattrs: base || session.has(Level::Xattr),
        allocate: session.has(Level::Allocate),
        read_size_max: payload,
        write_size_max: payload,
    }
}

impl RemoteFilesystem for Filesystem {
    fn root(&self, call: &Call<'_>) -> RemoteResult<Found> {
        let session = &self.line.session();
        let fid = session.new_fid()?;
        let mut exchange = session.begin(call);
        let attach = Tattach {
            fid,
            afid: Fid::NONE,
            uname: &self.uname,
            aname: &self.aname,
            n_uname: self.n_uname.unwrap_or(NO_ID),
        };
        let index = exchange.push(attach, Effect::Makes { fid, names: 0 })?;
        exchange.run()?;
        exchange.reply::<Tattach<'_>>(index)?;
        let fid = exchange.made(index)?;
        drop(exchange);
        // Its qid may be that of another file (9P 8.2): only Tgetattr's counts.
        let request = Tgetattr {
            fid: fid.get(),
            request_mask: GetattrMask::BASIC,
        };
        let reply = session.call(call, request, |reply| reply)?;
        File::found(fid, &self.names, reply.qid, reply.valid, &reply.attr)
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn traffic(&self) -> Traffic {
        self.line.session().traffic()
    }

    fn holdings(&self) -> Holdings {
        self.line.session().holdings()
    }

    fn sync_all(
        &self,
        call: &Call<'_>,
        handles: &[Arc<dyn RemoteHandle>],
        done: &mut dyn FnMut(usize, RemoteResult<()>),
    ) {
        let session = &self.line.session();
        for (chunk, handles) in handles.chunks(EXCHANGE_MAX).enumerate() {
            let mut exchange = session.begin(call);
            let pushed: Vec<_> = handles
                .iter()
                .map(|handle| {
                    let handle = (handle.as_ref() as &dyn Any).downcast_ref::<Handle>();
                    let fid = Handle::fid_in(handle, session)?;
                    exchange.push(
                        Tfsync {
                            fid,
                            datasync: Some(0),
                        },
                        Effect::None,
                    )
                })
                .collect();
            let run = match pushed.iter().any(Result::is_ok) {
                true => exchange.run(),
                false => Ok(()),
            };
            for (index, pushed) in pushed.into_iter().enumerate() {
                let result = pushed
                    .and_then(|request| run.map(|()| request))
                    .and_then(|request| exchange.reply::<Tfsync>(request).map(|_| ()));
                done(chunk * EXCHANGE_MAX + index, result);
            }
        }
    }

    fn flush_closes(&self, _call: &Call<'_>) -> RemoteResult<()> {
        self.line.session().kick();
        Ok(())
    }

    fn subscribe(&self, sink: Weak<dyn RemoteEvents>) {
        self.line.session().subscribe(sink);
    }

    fn reattach(&self, call: &Call<'_>) -> RemoteResult<()> {
        self.line.renew(call)
    }

    fn shutdown(&self) {
        self.line.shutdown();
    }
}

impl Drop for Filesystem {
    fn drop(&mut self) {
        self.line.session().say_goodbye();
    }
}
