//! The server as a process: endpoints, readiness, signals, exit status.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use gofer_transport::Stream;
use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing::level_filters::LevelFilter;

use crate::cli::{self, Endpoint, ExportPlan, Plan, Serve};
use crate::config::Config;
use crate::host::{Export, Fifos, Users, raise_descriptor_limit};
use crate::limits::Limits;
use crate::listen::Listener;
use crate::sandbox::{self, Needs, Root};
use crate::server::{self, Protocol};

/// How long connections may take to finish what they do when the server ends.
const GRACE: Duration = Duration::from_secs(2);
/// Pause when accepting fails for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the process ends early.
enum Failure {
    /// The command line or the configuration file is wrong: exit status 2.
    Usage(String),
    /// Something could not be done: exit status 1.
    Failed(String),
}

impl Failure {
    fn failed(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Failure {
        move |error| Failure::Failed(format!("{what}: {}", reason(&error)))
    }
}

/// The text of an error without the "os error" number people do not need.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    let mut text = text[..end].to_string();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    text
}

/// Runs the whole command line: `args` is what the process was started with, its name first.
///
/// Returns the exit status: 0 after a signal or when the last inherited descriptor has closed,
/// 1 on failure, 2 on wrong usage. Changes the process: umask, limit on descriptors, signal
/// handlers, the global log subscriber.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let program = args
        .first()
        .and_then(|path| Path::new(path).file_name())
        .map_or("gofer-server-mock".into(), |name| {
            name.to_string_lossy().into_owned()
        });
    let serve = match cli::parse(args) {
        Ok(serve) => serve,
        Err(error) => {
            // Help goes to standard output with status 0, errors to standard error with 2.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match serve_all(&serve, &program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (text, status) = match failure {
                Failure::Usage(text) => (text, 2),
                Failure::Failed(text) => (text, 1),
            };
            // Standard error may be closed; the status says it too.
            let _ = writeln!(io::stderr(), "{program}: {text}");
            ExitCode::from(status)
        }
    }
}

fn serve_all(serve: &Serve, program: &str) -> Result<(), Failure> {
    let config = match &serve.config {
        Some(file) => Config::read(file).map_err(|error| Failure::Usage(error.to_string()))?,
        None => Config::default(),
    };
    let plan = serve.plan(config).map_err(Failure::Usage)?;
    // First of all: the numbers that are inherited must not be taken by descriptors of our own.
    let inherited = adopt(&plan)?;
    log_to_stderr(serve.verbose);
    if serve.die_with_parent {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
            .map_err(|error| Failure::failed("watch the parent process")(error.into()))?;
    }
    if !Path::new("/proc/self/fd").is_dir() {
        let text = "/proc is not mounted here: no file could be opened";
        return Err(Failure::Failed(text.into()));
    }
    let signals = signals().map_err(Failure::failed("install signal handlers"))?;
    let limit = raise_descriptor_limit();
    tracing::debug!(limit, "open descriptors");
    let mode = plan.sandbox;
    let mut daemon = Daemon::open(plan, inherited, program)?;
    // Only now: socket files are made with the umask of whoever started the server.
    rustix::process::umask(rustix::fs::Mode::empty());
    if mode != sandbox::Mode::Off {
        let applied = sandbox::apply(&daemon.needs());
        if mode == sandbox::Mode::Require {
            let failed =
                |missing| Failure::Failed(format!("cannot sandbox this process: {missing}"));
            applied.require().map_err(failed)?;
        }
        if serve.die_with_parent {
            // Part of another program, whose user did not start a server.
            tracing::info!("sandbox: {applied}");
        } else {
            // In one piece, beside whatever else writes there.
            let line = format!("{program}: sandbox: {applied}\n");
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }
    daemon.announce();
    let result = daemon.serve(&signals);
    daemon.connections.end(GRACE);
    result
}

/// Takes the inherited descriptors of `plan`, in its order.
fn adopt(plan: &Plan) -> Result<Vec<Stream>, Failure> {
    let numbers = plan
        .exports
        .iter()
        .filter_map(|export| match export.endpoint {
            Endpoint::Fd(number) => Some(number),
            Endpoint::Listen(_) => None,
        });
    numbers
        .map(|number| {
            gofer_transport::inherit(number)
                .and_then(Stream::from_fd)
                .map_err(Failure::failed(format!("descriptor {number}")))
        })
        .collect()
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // Fails only when the program that calls this logs already.
    let _ = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_max_level(level)
        .try_init();
}

/// A socket that becomes readable when the server is to end.
fn signals() -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// A listener and what it serves.
struct Door {
    listener: Listener,
    export: Arc<Export>,
    protocol: Protocol,
}

/// An inherited connection, until it is served.
struct Inherited {
    number: i32,
    stream: Stream,
    export: Arc<Export>,
    protocol: Protocol,
}

struct Daemon {
    doors: Vec<Door>,
    inherited: Vec<Inherited>,
    connections: Arc<Connections>,
    limits: Limits,
}

impl Daemon {
    /// Opens every root and every listener, so that what cannot work fails before anything is
    /// announced.
    fn open(plan: Plan, inherited: Vec<Stream>, program: &str) -> Result<Daemon, Failure> {
        let mut daemon = Daemon {
            doors: Vec::new(),
            inherited: Vec::new(),
            connections: Arc::default(),
            limits: plan.limits,
        };
        let mut streams = inherited.into_iter();
        for ExportPlan {
            root,
            policy,
            donate_root,
            protocol,
            endpoint,
        } in plan.exports
        {
            let mut export = Export::open(&root, policy).map_err(|error| match error {
                Errno::INVAL => Failure::Failed(format!(
                    "{}: neither a directory nor a regular file",
                    root.display()
                )),
                Errno::PERM if policy.users != Users::Server => Failure::Failed(format!(
                    "cannot act as others (--users {}): only root can",
                    policy.users
                )),
                error => Failure::failed(root.display())(error.into()),
            })?;
            if donate_root {
                export = export.donating_root().map_err(|error| {
                    let root = root.display();
                    Failure::Failed(format!("cannot donate the root {root}: {error}"))
                })?;
                if policy.fifos == Fifos::None || !policy.allows_connect() {
                    let _ = writeln!(
                        io::stderr(),
                        "{program}: warning: --donate-root lets clients open FIFOs and connect to \
                         sockets below {}, whatever --host-fifo and --host-uds say",
                        root.display()
                    );
                }
            }
            match endpoint {
                Endpoint::Listen(address) => {
                    let listener = Listener::bind(&address)
                        .map_err(Failure::failed(format!("listen on {address}")))?;
                    if let Some(address) = listener.public_address() {
                        let _ = writeln!(
                            io::stderr(),
                            "{program}: warning: {address} can be reached from other machines, \
                             and clients are not authenticated"
                        );
                    }
                    daemon.doors.push(Door {
                        listener,
                        export,
                        protocol,
                    });
                }
                Endpoint::Fd(number) => {
                    let stream = streams.next().ok_or_else(|| {
                        Failure::Failed(format!("descriptor {number} was not adopted"))
                    })?;
                    daemon.inherited.push(Inherited {
                        number,
                        stream,
                        export,
                        protocol,
                    });
                }
            }
        }
        Ok(daemon)
    }

    /// What is needed from now on.
    fn needs(&self) -> Needs<'_> {
        let mut needs = Needs::default();
        let doors = self.doors.iter().map(|door| &door.export);
        for export in doors.chain(self.inherited.iter().map(|inherited| &inherited.export)) {
            let policy = export.policy();
            needs.roots.push(Root {
                fd: export.root().as_fd(),
                is_dir: export.root().is_dir(),
                readonly: policy.readonly,
            });
            needs.connect |= policy.allows_connect();
            needs.users |= export.acts_for_others();
            needs.bind |= policy.allows_bind() && !policy.readonly;
        }
        let listeners = self.doors.iter().map(|door| &door.listener);
        needs.socket_files = listeners.filter_map(Listener::socket_file).collect();
        needs
    }

    /// Says that the endpoints are ready. Nobody has to listen.
    fn announce(&self) {
        let mut out = io::stdout().lock();
        for door in &self.doors {
            let _ = writeln!(out, "listening on {}", door.listener);
        }
        for inherited in &self.inherited {
            let _ = writeln!(out, "serving fd {}", inherited.number);
        }
        let _ = out.flush();
    }

    /// Serves until a signal comes, or, without listeners, until the last connection has ended.
    fn serve(&mut self, signals: &UnixStream) -> Result<(), Failure> {
        let all_ended = (|| {
            let (read, write) = UnixStream::pair()?;
            for inherited in self.inherited.drain(..) {
                let name = format!("fd {}", inherited.number);
                let end = write.try_clone()?;
                let Inherited {
                    stream,
                    export,
                    protocol,
                    ..
                } = inherited;
                self.connections
                    .start(name, stream, export, protocol, self.limits, Some(end))?;
            }
            Ok(read)
        })()
        .map_err(Failure::failed("start serving"))?;
        loop {
            let mut polled = vec![PollFd::new(signals, PollFlags::IN)];
            if self.doors.is_empty() {
                polled.push(PollFd::new(&all_ended, PollFlags::IN));
            }
            polled.extend(
                self.doors
                    .iter()
                    .map(|door| PollFd::new(&door.listener, PollFlags::IN)),
            );
            match poll(&mut polled, None) {
                Err(Errno::INTR) => continue,
                Err(error) => return Err(Failure::failed("poll")(error.into())),
                Ok(_) => {}
            }
            let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
            match ready.split_first() {
                Some((true, _)) | None => return Ok(()),
                // The last copy of the other end is gone: every inherited connection has ended.
                Some((false, _)) if self.doors.is_empty() => return Ok(()),
                Some((false, doors)) => {
                    for (door, _) in self.doors.iter().zip(doors).filter(|(_, ready)| **ready) {
                        self.accept(door);
                    }
                }
            }
        }
    }

    fn accept(&self, door: &Door) {
        let stream = match door.listener.accept() {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                thread::sleep(ACCEPT_PAUSE);
                return;
            }
        };
        if self.connections.count() >= self.limits.connections {
            tracing::warn!(
                limit = self.limits.connections,
                "connection refused: too many"
            );
            return;
        }
        let name = door.listener.to_string();
        let (export, protocol) = (door.export.clone(), door.protocol);
        let started = self
            .connections
            .start(name, stream, export, protocol, self.limits, None);
        if let Err(error) = started {
            tracing::warn!(%error, "connection refused");
        }
    }
}

/// The connections that are being served.
#[derive(Default)]
struct Connections {
    open: Mutex<HashMap<u64, Arc<Stream>>>,
    ended: Condvar,
    next: Mutex<u64>,
}

impl Connections {
    fn count(&self) -> usize {
        self.open.lock().len()
    }

    /// Serves `stream` on a thread of its own. `end` is dropped when it is over.
    fn start(
        self: &Arc<Self>,
        name: String,
        stream: Stream,
        export: Arc<Export>,
        protocol: Protocol,
        limits: Limits,
        end: Option<UnixStream>,
    ) -> io::Result<()> {
        let stream = Arc::new(stream);
        let id = {
            let mut next = self.next.lock();
            *next += 1;
            *next
        };
        self.open.lock().insert(id, stream.clone());
        let registered = Registered {
            connections: self.clone(),
            id,
            _end: end,
        };
        let work = move || {
            let _registered = registered;
            match server::serve(stream, export, protocol, &limits) {
                Ok(()) => tracing::info!(%name, id, "connection ended"),
                Err(error) if is_departure(&error) => {
                    tracing::info!(%name, id, %error, "client left");
                }
                Err(error) => tracing::warn!(%name, id, %error, "connection ended"),
            }
        };
        thread::Builder::new()
            .name(format!("connection {id}"))
            .spawn(work)?;
        Ok(())
    }

    /// Ends all connections and waits for them, `patience` at most.
    fn end(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut open = self.open.lock();
        for stream in open.values() {
            stream.shutdown();
        }
        while !open.is_empty() {
            if self.ended.wait_until(&mut open, until).timed_out() {
                tracing::warn!(count = open.len(), "connections did not end in time");
                return;
            }
        }
    }
}

/// Whether the client just went away, which clients may.
fn is_departure(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Takes a connection off the list when its thread ends, by panic too.
struct Registered {
    connections: Arc<Connections>,
    id: u64,
    _end: Option<UnixStream>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.open.lock().remove(&self.id);
        self.connections.ended.notify_all();
    }
}
