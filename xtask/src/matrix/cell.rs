//! The cells of the matrix and the server processes behind them.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gofer_transport::{DetachedMount, Stream};
use gofer_vfs::InteropMode;
use gofer_vfs::testing::behaviour::ServerTraits;
use rustix::process::geteuid;
use tempfile::TempDir;

use crate::connect;
use crate::process::Server;
use crate::suite::{Health, Mounter, Place, Site};

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a client may take to notice that its server is gone when it asks it for nothing.
const NOTICE: Duration = Duration::from_millis(200);

/// What is spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// `9P2000.L` and nothing more.
    Plain,
    /// The highest dialect of gVisor's extensions.
    Google,
    /// lisafs over its channels.
    Lisafs,
    /// lisafs over its channels, with contents cached although descriptors are donated.
    LisafsPages,
    /// lisafs over its socket only.
    LisafsSocket,
    /// lisafs with direct file access.
    LisafsDirect,
}

impl Protocol {
    /// Every protocol, in the order of the grid's rows.
    pub const ALL: [Protocol; 6] = [
        Protocol::Plain,
        Protocol::Google,
        Protocol::Lisafs,
        Protocol::LisafsPages,
        Protocol::LisafsSocket,
        Protocol::LisafsDirect,
    ];

    /// The name in rows and patterns.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Plain => "9p2000.L",
            Protocol::Google => "9p-google",
            Protocol::Lisafs => "lisafs",
            Protocol::LisafsPages => "lisafs-pages",
            Protocol::LisafsSocket => "lisafs-socket",
            Protocol::LisafsDirect => "lisafs-direct",
        }
    }

    /// What the server's `--protocol` calls it.
    fn served_as(self) -> &'static str {
        match self {
            Protocol::Plain | Protocol::Google => "9p",
            Protocol::Lisafs
            | Protocol::LisafsPages
            | Protocol::LisafsSocket
            | Protocol::LisafsDirect => "lisafs",
        }
    }

    fn is_lisafs(self) -> bool {
        self.served_as() == "lisafs"
    }

    /// The mount options that ask for it, and for nothing less.
    pub(crate) fn options(self) -> &'static str {
        match self {
            Protocol::Plain => "version=9P2000.L",
            Protocol::Google => "version=9P2000.L.Google.13",
            Protocol::Lisafs => "lisafs=true",
            Protocol::LisafsPages => "force_page_cache,lisafs=true",
            Protocol::LisafsSocket => "lisafs=true,channels=0",
            Protocol::LisafsDirect => "lisafs=true,directfs",
        }
    }
}

/// What carries it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// One end of a socket pair that the server inherits; a server for each mount.
    Fd,
    /// A Unix socket that the server listens on; one server for the cell.
    Unix,
    /// The same over TCP.
    Tcp,
}

impl Transport {
    /// Every transport, in the order of the grid's rows.
    pub const ALL: [Transport; 3] = [Transport::Fd, Transport::Unix, Transport::Tcp];

    /// The word of the mount option `trans`.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Fd => "fd",
            Transport::Unix => "unix",
            Transport::Tcp => "tcp",
        }
    }
}

/// Why `protocol` does not go over `transport`, if it does not.
pub(super) fn impossible(protocol: Protocol, transport: Transport) -> Option<&'static str> {
    if protocol.is_lisafs() && transport == Transport::Tcp {
        return Some("lisafs passes descriptors, and TCP cannot carry them");
    }
    if protocol == Protocol::LisafsPages && transport != Transport::Unix {
        return Some("one transport shows what the page cache does");
    }
    (protocol == Protocol::LisafsDirect && !can_donate_roots())
        .then_some("copying a mount needs CAP_SYS_ADMIN and Linux 5.12")
}

/// Whether servers here may give away descriptors of their roots.
fn can_donate_roots() -> bool {
    fs::File::open("/").is_ok_and(|root| DetachedMount::copy_of(root.as_fd(), true).is_ok())
}

/// What the servers of a cell are started with.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) program: PathBuf,
    pub(super) protocol: Protocol,
    pub(super) transport: Transport,
    pub(super) mode: InteropMode,
}

impl Plan {
    fn command(&self, root: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["serve", "--die-with-parent", "--protocol"]);
        command.arg(self.protocol.served_as());
        command.arg("--root").arg(root);
        if self.is_direct() {
            command.arg("--donate-root");
        }
        if self.is_direct() || self.protocol == Protocol::LisafsSocket {
            command.args(["--host-uds", "all"]);
        }
        if !self.leaves_fifos_to_clients() {
            command.args(["--host-fifo", "open"]);
            if self.protocol == Protocol::LisafsSocket {
                command.arg("--all-types");
            }
        }
        command
    }

    /// lisafs servers make no fifos unless they are told to (lisafs MkdirAt and MknodAt).
    fn leaves_fifos_to_clients(&self) -> bool {
        matches!(self.protocol, Protocol::Lisafs | Protocol::LisafsPages)
    }

    fn is_direct(&self) -> bool {
        self.protocol == Protocol::LisafsDirect
    }

    /// The mount option string, with `trans` for how the server is reached.
    fn mount_options(&self, trans: &str, aname: &str) -> String {
        let (mode, protocol) = (self.mode.name(), self.protocol.options());
        format!("{trans},aname={aname},cache={mode},{protocol}")
    }
}

/// The place of one cell: a directory, and servers on it.
pub(super) struct OwnServer {
    plan: Plan,
    /// Holds a directory for each case, and the socket.
    base: TempDir,
    /// Where the one server of the cell listens; none over inherited descriptors.
    address: Option<String>,
    servers: Arc<Mutex<Servers>>,
    cases: usize,
}

#[derive(Default)]
struct Servers {
    /// The one that listens, or one for each mount of the case at hand.
    running: Vec<Server>,
    /// They were killed on purpose.
    killed: bool,
}

impl OwnServer {
    pub(super) fn start(plan: Plan) -> Result<OwnServer> {
        let base = tempfile::Builder::new().prefix("gofer-matrix-").tempdir()?;
        fs::create_dir(base.path().join("export"))?;
        let mut place = OwnServer {
            plan,
            base,
            address: None,
            servers: Arc::default(),
            cases: 0,
        };
        if place.plan.transport != Transport::Fd {
            place.listen()?;
        }
        Ok(place)
    }

    fn export(&self) -> PathBuf {
        self.base.path().join("export")
    }

    fn listen(&mut self) -> Result<()> {
        let mut command = self.plan.command(&self.export());
        command.arg("--listen").arg(match self.plan.transport {
            Transport::Tcp => "tcp:127.0.0.1:0".to_owned(),
            _ => format!("unix:{}", self.base.path().join("socket").display()),
        });
        let mut server = Server::start(command, None)?;
        let line = server.ready_line(PATIENCE)?;
        let address = line
            .strip_prefix("listening on ")
            .and_then(|address| address.split_once(':'))
            .with_context(|| format!("the server says `{line}`"))?;
        self.address = Some(address.1.to_owned());
        lock(&self.servers).running.push(server);
        Ok(())
    }

    /// Mounts over a listener name the case's directory as their `aname`.
    fn mount_by_address(&self, name: &str, address: &str) -> Mounter {
        let plan = self.plan.clone();
        let address = address.to_owned();
        let trans = format!("trans={},address={address}", plan.transport.name());
        let options = plan.mount_options(&trans, &format!("/{name}"));
        Arc::new(move |how| {
            let stream = match plan.transport {
                Transport::Tcp => Stream::connect_tcp(&address, PATIENCE)?,
                _ => Stream::connect_unix(Path::new(&address))?,
            };
            connect::mount(stream, &options, how)
        })
    }

    /// Mounts over inherited descriptors have a server whose root is the case's directory.
    fn mount_by_descriptor(&self, root: &Path) -> Mounter {
        let plan = self.plan.clone();
        let root = root.to_path_buf();
        let servers = self.servers.clone();
        Arc::new(move |how| {
            let (ours, theirs) = UnixStream::pair()?;
            let mut command = plan.command(&root);
            command.args(["--fd", "0"]);
            let server = Server::start(command, Some(OwnedFd::from(theirs)))?;
            // Kept before anything can fail: its log says why.
            lock(&servers).running.push(server);
            let options = plan.mount_options("trans=fd,rfdno=0,wfdno=0", "/");
            connect::mount(Stream::from_fd(ours.into())?, &options, how)
        })
    }
}

impl Place for OwnServer {
    fn traits(&self) -> ServerTraits {
        ServerTraits {
            name: self.plan.protocol.name().to_owned(),
            runs_as_root: geteuid().is_root(),
            makes_fifos: !self.plan.leaves_fifos_to_clients(),
            opens_fifos: true,
            binds_sockets: self.plan.is_direct() || self.plan.protocol == Protocol::LisafsSocket,
            links_symlinks: true,
        }
    }

    fn prepare(&mut self) -> Result<Site> {
        let name = format!("case-{}", self.cases);
        self.cases += 1;
        let dir = self.export().join(&name);
        fs::create_dir(&dir)?;
        let mount = match &self.address {
            Some(address) => self.mount_by_address(&name, address),
            None => self.mount_by_descriptor(&dir),
        };
        let servers = self.servers.clone();
        let notice = match self.plan.is_direct() {
            true => NOTICE,
            false => Duration::ZERO,
        };
        let kill = Arc::new(move || {
            let mut servers = lock(&servers);
            servers.killed = true;
            servers.running.iter_mut().for_each(Server::kill);
            thread::sleep(notice);
        });
        Ok(Site { dir, mount, kill })
    }

    fn check(&mut self) -> Result<Health> {
        let mut servers = lock(&self.servers);
        if servers.killed {
            return Ok(Health::Killed);
        }
        if self.address.is_some() {
            if !servers.running.iter_mut().all(Server::is_running) {
                bail!("it has ended");
            }
            return Ok(Health::Well);
        }
        // The case is over and its mounts are gone: their servers must end by themselves.
        for mut server in servers.running.drain(..) {
            let status = server.wait(PATIENCE)?;
            judge_end("after its connection closed", status, &server)?;
        }
        Ok(Health::Well)
    }

    fn finish(&mut self) -> Result<()> {
        for mut server in lock(&self.servers).running.drain(..) {
            let status = server.terminate(PATIENCE)?;
            judge_end("after SIGTERM", status, &server)?;
        }
        Ok(())
    }

    fn log(&self) -> String {
        let servers = lock(&self.servers);
        servers.running.iter().map(Server::log).collect()
    }
}

fn judge_end(when: &str, status: Option<ExitStatus>, server: &Server) -> Result<()> {
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("{when} it ended with {status}\n{}", server.log()),
        None => bail!("{when} it still runs\n{}", server.log()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
