//! diod as the server of a cell.
//!
//! Each mount has a diod of its own. diod attaches to whole exports only, so one for all cases
//! would need an export for each; and it may crash when a client leaves with files open, which
//! must not hit the case that comes next.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gofer_transport::Stream;
use gofer_vfs::InteropMode;
use gofer_vfs::testing::behaviour::ServerTraits;
use tempfile::TempDir;

use crate::connect;
use crate::matrix::Transport;
use crate::process::Server;
use crate::suite::{Health, Place, Site};

/// How long diod may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause between attempts to connect: diod does not say when it is ready.
const PAUSE: Duration = Duration::from_millis(2);

/// How many ports are tried.
const ATTEMPTS: u32 = 5;
/// Ports to choose from.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

/// The place of one cell.
pub(super) struct Diod {
    transport: Transport,
    mode: InteropMode,
    base: TempDir,
    servers: Arc<Mutex<Vec<Server>>>,
    cases: usize,
}

impl Diod {
    pub(super) fn start(transport: Transport, mode: InteropMode) -> Result<Diod> {
        let base = tempfile::Builder::new().prefix("gofer-diod-").tempdir()?;
        Ok(Diod {
            transport,
            mode,
            base,
            servers: Arc::default(),
            cases: 0,
        })
    }
}

/// A diod that is about to listen at the address.
fn start(transport: Transport, dir: &Path, socket: &Path) -> Result<(Server, String)> {
    let address = match transport {
        Transport::Tcp => next_address(),
        _ => socket.to_string_lossy().into_owned(),
    };
    let program = super::find("diod").context("diod is not installed")?;
    let mut command = Command::new(program);
    // In the foreground, believing the numeric user of an attach, with no configuration.
    command.args(["-f", "-n", "-N", "-c", "/dev/null", "-L", "stderr"]);
    command.args(["-l", &address]).arg("-e").arg(dir);
    Ok((Server::start(command, None)?, address))
}

/// A diod and a connection to it. Tries another port where somebody else has the first.
fn start_and_connect(
    transport: Transport,
    dir: &Path,
    socket: &Path,
) -> Result<(Server, String, Stream)> {
    let mut attempt = 1;
    loop {
        let (mut server, address) = start(transport, dir, socket)?;
        match connect_when_ready(&mut server, transport, &address) {
            Ok(stream) => return Ok((server, address, stream)),
            Err(_) if attempt < ATTEMPTS && server.log().contains("already in use") => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

fn connect_when_ready(server: &mut Server, transport: Transport, address: &str) -> Result<Stream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let attempt = match transport {
            Transport::Tcp => Stream::connect_tcp(address, PATIENCE),
            _ => Stream::connect_unix(Path::new(address)),
        };
        let error = match attempt {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if !server.is_running() {
            bail!("diod ended at once\n{}", server.log());
        }
        if Instant::now() > deadline {
            bail!("diod does not listen: {error}\n{}", server.log());
        }
        thread::sleep(PAUSE);
    }
}

/// A diod that listens on a port of the loopback interface, and its address.
pub(super) fn start_on_tcp(dir: &Path) -> Result<(Server, String)> {
    let (server, address, _) = start_and_connect(Transport::Tcp, dir, Path::new(""))?;
    Ok((server, address))
}

/// A diod on a Unix socket, and a connection to it.
pub fn start_diod(dir: &Path, socket: &Path) -> Result<(Server, UnixStream)> {
    super::install("diod", "diod")?;
    let (mut server, address) = start(Transport::Unix, dir, socket)?;
    drop(connect_when_ready(&mut server, Transport::Unix, &address)?);
    Ok((server, UnixStream::connect(socket)?))
}

/// An address of 127.0.0.1 that was not given out before. The port lies below those the kernel
/// gives to outgoing connections: one of these could take it before diod does, or an attempt to
/// connect could meet itself. Nothing is bound to try it: a process that is just being started
/// would hold a copy of that socket for a moment, and the port with it.
fn next_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let ours = (std::process::id() % 1000) as u16 * 10;
    let next = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(ours);
    format!("127.0.0.1:{}", FIRST_PORT + next % PORTS)
}

impl Place for Diod {
    fn traits(&self) -> ServerTraits {
        ServerTraits {
            name: "diod".to_owned(),
            runs_as_root: true,
            makes_fifos: true,
            opens_fifos: false,
            binds_sockets: false,
            links_symlinks: true,
        }
    }

    fn prepare(&mut self) -> Result<Site> {
        let dir = self.base.path().join(format!("case-{}", self.cases));
        self.cases += 1;
        fs::create_dir(&dir)?;
        let (transport, root) = (self.transport, dir.clone());
        let (mode, aname) = (self.mode.name(), dir.display());
        let options = format!("aname={aname},cache={mode},version=9P2000.L");
        let servers = self.servers.clone();
        let mount = move |how: &_| {
            let socket = socket_of(&root, lock(&servers).len());
            let (server, address, stream) = start_and_connect(transport, &root, &socket)?;
            lock(&servers).push(server);
            let trans = format!("trans={},address={address}", transport.name());
            connect::mount(stream, &format!("{trans},{options}"), how)
        };
        let servers = self.servers.clone();
        Ok(Site {
            dir,
            mount: Arc::new(mount),
            kill: Arc::new(move || lock(&servers).iter_mut().for_each(Server::kill)),
        })
    }

    fn check(&mut self) -> Result<Health> {
        // How diod ends is no affair of ours.
        lock(&self.servers).clear();
        Ok(Health::Well)
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn log(&self) -> String {
        lock(&self.servers).iter().map(Server::log).collect()
    }
}

/// Beside the case's directory, not in it.
fn socket_of(root: &Path, mounts: usize) -> PathBuf {
    root.with_extension(format!("socket-{mounts}"))
}

fn lock(servers: &Mutex<Vec<Server>>) -> MutexGuard<'_, Vec<Server>> {
    servers.lock().unwrap_or_else(PoisonError::into_inner)
}
