//! From settings to a connected filesystem: an inherited descriptor, a socket, or a server
//! started for the occasion.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gofer_9p::client::Connector;
use gofer_transport::{Stream, Tracer, inherit};
use gofer_vfs::error::printable;
use gofer_vfs::remote::RemoteFilesystem;
use gofer_vfs::{
    Context, Credentials, Errno, File, Filesystem, MountFlags, MountOptions, Node, RestoreError,
    Trans, Verify,
};

use crate::args::ConnectionArgs;
use crate::error::{CliError, CliResult};
use crate::exit::Exit;
use crate::settings::Layer;
use crate::transfer::raise_descriptor_limit;

/// How long connecting may take when `--timeout` says nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the stream comes from.
#[derive(Clone, Debug)]
enum Endpoint {
    /// A server child on this directory.
    Embedded(PathBuf),
    Inherited {
        rfd: i32,
        wfd: i32,
    },
    Unix(PathBuf),
    Tcp(String),
}

/// Everything needed to connect, checked, with nothing opened yet.
#[derive(Clone)]
pub struct Target {
    endpoint: Endpoint,
    options: MountOptions,
    flags: MountFlags,
    uname: Vec<u8>,
    timeout: Option<Duration>,
    all_types: bool,
    /// Where a server that is started writes what it has to say; `None`: where we do.
    server_log: Option<PathBuf>,
}

/// A mounted tree and what keeps it alive.
pub struct Connection {
    /// The tree.
    pub fs: Filesystem,
    /// The line below it, to ask whether it still stands.
    pub remote: Arc<dyn RemoteFilesystem>,
    /// What to call it in the prompt.
    pub label: String,
    /// The server that was started for it.
    pub server: Option<Child>,
    /// The directory that server serves.
    pub host_root: Option<PathBuf>,
    /// How to make another connection like it.
    pub again: Again,
}

/// What it takes to connect once more.
#[derive(Clone)]
pub struct Again {
    target: Target,
    tracer: Tracer,
}

impl Again {
    /// Connects and restores an image instead of mounting. Also returns what was kept.
    pub fn restore(&self, image: &[u8], verify: Verify) -> CliResult<(Connection, Kept)> {
        if let Endpoint::Inherited { .. } = self.target.endpoint {
            let text = "an inherited descriptor cannot be connected again";
            let hint = "restore needs --root or an address";
            return Err(CliError::usage(text).hint(hint));
        }
        let tracer = || Ok(self.tracer.clone());
        let target = self.target.clone();
        target.establish(&tracer, |remote, options, _| {
            let creds = Credentials::root();
            let cx = Context::new(&creds);
            let restored = Filesystem::restore(&cx, remote, options, image, verify);
            let restored = restored.map_err(|error| match error {
                RestoreError::Failed(error) => error.into(),
                other => CliError::new(Exit::Failed, other.to_string())
                    .with_errno("restore", other.errno()),
            })?;
            Ok((restored.fs, (restored.nodes, restored.files)))
        })
    }
}

/// Places and files out of an image, under their numbers.
pub type Kept = (Vec<(u64, Node)>, Vec<(u64, File)>);

impl Target {
    /// Checks `settings`. `args` tells which of them were given as flags of this command.
    pub fn new(mut settings: Layer, args: &ConnectionArgs) -> CliResult<Target> {
        let trans = settings.get("trans").unwrap_or(b"fd").to_vec();
        settings.set("trans", trans.clone());
        let embedded = trans == b"fd" && !settings.has_descriptors();
        if !embedded && args.root.is_some() {
            return Err(CliError::usage(
                "--root only goes with --trans fd and no descriptors: it starts a server",
            ));
        }
        if trans == b"fd" && settings.get("address").is_some() {
            let hint = "add --trans unix or --trans tcp";
            return Err(CliError::usage("an address does not go with --trans fd").hint(hint));
        }
        if embedded {
            // Stands for the descriptor that is made later.
            settings.set("rfdno", "0");
            settings.set("wfdno", "0");
        } else if let (Some(rfd), None) = (settings.get("rfdno"), settings.get("wfdno")) {
            let rfd = rfd.to_vec();
            settings.set("wfdno", rfd);
        }
        let options = MountOptions::parse(&settings.option_string())
            .map_err(|error| CliError::usage(error.to_string()))?;
        let endpoint = match &options.trans {
            Trans::Fd { .. } if embedded => {
                Endpoint::Embedded(settings.root.clone().unwrap_or_else(|| ".".into()))
            }
            Trans::Fd { rfd, wfd } => Endpoint::Inherited {
                rfd: *rfd,
                wfd: *wfd,
            },
            Trans::Unix { address } => {
                Endpoint::Unix(Path::new(std::ffi::OsStr::from_bytes(address)).to_owned())
            }
            Trans::Tcp { address } => Endpoint::Tcp(address.clone()),
        };
        Ok(Target {
            endpoint,
            options,
            flags: settings.mount_flags(),
            uname: settings.uname.clone().unwrap_or_default(),
            timeout: settings.timeout,
            all_types: false,
            server_log: None,
        })
    }

    /// Has a server that is started for the occasion serve files of every type, as a mount needs:
    /// the kernel lets programs make and use them as it does anywhere.
    #[must_use]
    pub fn with_all_types(mut self) -> Target {
        self.all_types = true;
        self
    }

    /// Has such a server write to `log`, if there is one: it outlives the terminal.
    #[must_use]
    pub fn with_server_log(mut self, log: Option<&Path>) -> Target {
        self.server_log = log.map(Path::to_owned);
        self
    }

    /// Leaves to the caller how long checks with the server are trusted (`revalidate_after`): it
    /// does that by itself, and the tree, which it asks afterwards, checks each time.
    #[must_use]
    pub fn with_checks_trusted_by_caller(mut self) -> (Target, Duration) {
        let trusted = std::mem::take(&mut self.options.revalidate_after);
        (self, Duration::from_millis(trusted.into()))
    }

    /// Connects and mounts. Takes over inherited descriptors, so it goes before anything else
    /// that opens files.
    pub fn connect(self, tracer: &dyn Fn() -> CliResult<Tracer>) -> CliResult<Connection> {
        let mounted = self.establish(tracer, |remote, options, flags| {
            let fs = Filesystem::mount(remote, options, flags);
            let fs = fs.map_err(|error| CliError::from(error).with_exit(Exit::Connect))?;
            Ok((fs, ()))
        });
        mounted.map(|(connection, ())| connection)
    }

    /// Connects, and makes a tree of that as `mount` does.
    fn establish<T>(
        mut self,
        tracer: &dyn Fn() -> CliResult<Tracer>,
        mount: impl FnOnce(
            Arc<dyn RemoteFilesystem>,
            MountOptions,
            MountFlags,
        ) -> CliResult<(Filesystem, T)>,
    ) -> CliResult<(Connection, T)> {
        let again = self.clone();
        let mut server = None;
        if self.options.directfs {
            // Each name that is kept holds a descriptor.
            raise_descriptor_limit();
        }
        let (stream, label) = match &self.endpoint {
            Endpoint::Embedded(root) => {
                let (fd, child) = start_server(root, &self)?;
                let number = fd.as_raw_fd();
                self.options.trans = Trans::Fd {
                    rfd: number,
                    wfd: number,
                };
                server = Some(child);
                (Stream::from_fd(fd), display_root(root))
            }
            Endpoint::Inherited { rfd, wfd } => (inherited(*rfd, *wfd), format!("fd {rfd}")),
            Endpoint::Unix(path) => (Stream::connect_unix(path), path.display().to_string()),
            Endpoint::Tcp(address) => (
                Stream::connect_tcp(address, self.timeout.unwrap_or(CONNECT_TIMEOUT)),
                address.clone(),
            ),
        };
        let stream = stream.map_err(|error| self.cannot_connect(&error))?;
        let tracer = tracer()?;
        let remote = self.handshake(stream, tracer.clone())?;
        let (fs, more) = mount(remote.clone(), self.options.clone(), self.flags)?;
        let host_root = match &self.endpoint {
            Endpoint::Embedded(root) => root.canonicalize().ok(),
            _ => None,
        };
        let protocol = if self.options.lisafs { "lisafs" } else { "9p" };
        let label = printable(label.as_bytes()).into_owned();
        let again = Again {
            target: again,
            tracer,
        };
        let connection = Connection {
            fs,
            remote,
            label: format!("{protocol} {label}"),
            server,
            host_root,
            again,
        };
        Ok((connection, more))
    }

    fn handshake(&self, stream: Stream, tracer: Tracer) -> CliResult<Arc<dyn RemoteFilesystem>> {
        let options = &self.options;
        let began = Instant::now();
        if options.lisafs {
            let config = gofer_lisafs::client::Config {
                aname: options.aname.clone(),
                timeout: self.timeout,
                channels: options.channels,
                directfs: options.directfs,
                tracer,
            };
            gofer_lisafs::client::connect(stream, config).map_err(|error| {
                use gofer_lisafs::client::ConnectError as E;
                let foreign = matches!(error, E::Closed | E::Protocol(_));
                self.handshake_failed(&error, error.errno(), foreign, began)
            })
        } else {
            let number = std::str::from_utf8(&self.uname)
                .ok()
                .and_then(|text| text.parse().ok());
            let config = gofer_9p::client::Config {
                msize: options.msize,
                version: options.version.clone(),
                aname: options.aname.clone(),
                uname: self.uname.clone(),
                // The one who may use the mount is who it is attached for.
                n_uname: options.access.attach_as().or(number),
                timeout: self.timeout,
                channels: options.channels,
                tracer,
                connector: self.connector(),
            };
            gofer_9p::client::connect(stream, config).map_err(|error| {
                use gofer_9p::client::ConnectError as E;
                let foreign = matches!(error, E::Closed | E::Protocol(_));
                self.handshake_failed(&error, error.errno(), foreign, began)
            })
        }
    }

    /// How to reach the server again, if that is asked for.
    fn connector(&self) -> Option<Connector> {
        if self.options.reconnect == 0 {
            return None;
        }
        match &self.endpoint {
            Endpoint::Unix(path) => {
                let path = path.clone();
                Some(Connector::new(move |limit| {
                    Stream::connect_unix_within(&path, limit)
                }))
            }
            Endpoint::Tcp(address) => {
                let address = address.clone();
                Some(Connector::new(move |limit| {
                    Stream::connect_tcp(&address, limit)
                }))
            }
            Endpoint::Embedded(_) | Endpoint::Inherited { .. } => None,
        }
    }

    fn handshake_failed(
        &self,
        error: &dyn std::error::Error,
        errno: Errno,
        foreign: bool,
        began: Instant,
    ) -> CliError {
        let (ours, other) = match self.options.lisafs {
            true => ("lisafs", "without --lisafs (9P2000.L)"),
            false => ("9P2000.L", "with --lisafs"),
        };
        let failure = CliError::new(
            Exit::Connect,
            format!("connect to {}: {error}", self.name()),
        )
        .with_errno("connect", errno);
        if errno == Errno::ETIMEDOUT {
            return failure.hint(format!(
                "no answer after {:.1} s; the server may speak another protocol than {ours}: try {other}",
                began.elapsed().as_secs_f64()
            ));
        }
        match foreign {
            true => failure.hint(format!(
                "the server may speak another protocol than {ours}: try {other}"
            )),
            false => failure,
        }
    }

    fn cannot_connect(&self, error: &io::Error) -> CliError {
        let errno = Errno::from(error);
        let text = match error.raw_os_error() {
            Some(_) => errno.to_string(),
            // Names that do not resolve, for one, have no number.
            None => error.to_string(),
        };
        let failure = CliError::new(Exit::Connect, format!("connect to {}: {text}", self.name()))
            .with_errno("connect", errno);
        let hint = match (&self.endpoint, errno) {
            (Endpoint::Unix(path), Errno::ENOENT) => format!(
                "there is no such socket: is the server running? `gofer-cli serve --protocol auto \
                 --root DIR --listen unix:{}` starts one",
                path.display()
            ),
            (Endpoint::Unix(_), Errno::ECONNREFUSED) => {
                "nobody listens behind this socket or the file is no socket: the server has \
                 probably ended; start it again"
                    .to_owned()
            }
            (Endpoint::Tcp(_), Errno::ECONNREFUSED) => {
                "the host answers, but nothing listens on that port".to_owned()
            }
            (Endpoint::Inherited { .. }, Errno::EBADF) => {
                "the parent process must leave the descriptor open, as in \
                 `gofer-cli ls --rfdno 3 3<>...`; without --rfdno a server is started on --root"
                    .to_owned()
            }
            (Endpoint::Inherited { .. }, Errno::ENOTSOCK | Errno::EPROTOTYPE) => {
                "it must be a connected stream socket; two pipes are given as different \
                 --rfdno and --wfdno (9P only)"
                    .to_owned()
            }
            _ => return failure,
        };
        failure.hint(hint)
    }

    fn name(&self) -> String {
        match &self.endpoint {
            Endpoint::Embedded(root) => format!("the server started on {}", root.display()),
            Endpoint::Inherited { rfd, wfd } if rfd == wfd => format!("descriptor {rfd}"),
            Endpoint::Inherited { rfd, wfd } => format!("descriptors {rfd} and {wfd}"),
            Endpoint::Unix(path) => format!("unix:{}", path.display()),
            Endpoint::Tcp(address) => format!("tcp:{address}"),
        }
    }
}

fn inherited(rfd: i32, wfd: i32) -> io::Result<Stream> {
    let input = inherit(rfd)?;
    if rfd == wfd {
        return Stream::from_fd(input);
    }
    Stream::from_pipes(input, inherit(wfd)?)
}

fn display_root(root: &Path) -> String {
    let absolute = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    absolute.display().to_string()
}

/// Starts this very program as a server on `root`. It ends with us, or with the connection.
fn start_server(root: &Path, target: &Target) -> CliResult<(OwnedFd, Child)> {
    let options = &target.options;
    let failed = |op: &str, path: &Path, error: &io::Error| {
        CliError::local(op, path, error).with_exit(Exit::Connect)
    };
    // Known before a server is started, this makes a better message than its own.
    let found = std::fs::metadata(root).map_err(|error| failed("serve", root, &error))?;
    if !found.is_dir() {
        let error = io::Error::from_raw_os_error(Errno::ENOTDIR.raw());
        return Err(failed("serve", root, &error));
    }
    let (ours, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|errno| failed("socketpair", root, &errno.into()))?;
    // The link leads to the program that runs now, even when its file has been replaced since.
    let program = Path::new("/proc/self/exe");
    let mut command = Command::new(program);
    command
        .arg0("gofer-cli")
        .args(["serve", "--protocol"])
        .arg(if options.lisafs { "lisafs" } else { "9p" })
        .arg("--root")
        .arg(root)
        .args(["--fd", "0", "--die-with-parent"])
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        // Ctrl-C is for the command that runs, not for its server.
        .process_group(0);
    if target.flags.readonly {
        command.arg("--readonly");
    }
    if let Some(log) = &target.server_log {
        let opened = std::fs::File::options().create(true).append(true).open(log);
        command.stderr(opened.map_err(|error| failed("open", log, &error))?);
    }
    if options.directfs {
        command.arg("--donate-root");
    }
    if target.all_types {
        command.arg("--all-types");
    }
    if options.directfs || target.all_types {
        // What a descriptor of the root allows anyway.
        command.args(["--host-fifo", "open", "--host-uds", "open"]);
    }
    let child = command
        .spawn()
        .map_err(|error| failed("start", program, &error))?;
    Ok((ours, child))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(options: &str, args: ConnectionArgs) -> CliError {
        let mut options_layer = Layer::default();
        options_layer.add_options(options.as_bytes());
        let settings = Layer::from_args(&args).unwrap().over(options_layer);
        match Target::new(settings, &args) {
            Ok(_) => panic!("accepted"),
            Err(error) => error,
        }
    }

    #[test]
    fn combinations_without_sense_are_usage_errors() {
        let none = ConnectionArgs::default;
        let root = || ConnectionArgs {
            root: Some("/".into()),
            ..none()
        };
        for (options, args) in [
            ("trans=unix", none()),
            ("trans=unix,address=/s", root()),
            ("rfdno=3", root()),
            ("address=/s", none()),
            ("trans=tcp,address=h:1,lisafs", none()),
            ("cache=sometimes", none()),
            ("cahce=none", none()),
            ("lisafs,rfdno=3,wfdno=4", none()),
            ("reconnect=30", none()),
            ("trans=unix,address=/s,lisafs,reconnect=30", none()),
        ] {
            assert_eq!(refuse(options, args).exit(), Exit::Usage, "{options}");
        }
    }

    #[test]
    fn one_descriptor_is_enough_for_a_socket() {
        let args = ConnectionArgs {
            rfdno: Some(9),
            ..ConnectionArgs::default()
        };
        let target = Target::new(Layer::from_args(&args).unwrap(), &args).unwrap();
        assert!(matches!(
            target.endpoint,
            Endpoint::Inherited { rfd: 9, wfd: 9 }
        ));
    }
}
