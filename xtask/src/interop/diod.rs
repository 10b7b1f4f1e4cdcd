//! diod as the server of a cell.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gofer_transport::Stream;
use gofer_vfs::InteropMode;
use gofer_vfs::testing::behaviour::{self, ServerTraits};
use tempfile::TempDir;

use crate::connect;
use crate::matrix::Transport;
use crate::process::Server;
use crate::suite::{Health, Place, Site};

/// How long diod may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause between attempts to connect: diod does not say when it is ready.
const PAUSE: Duration = Duration::from_millis(5);

/// A running diod with one export for each case, because it attaches to whole exports only.
pub(super) struct Diod {
    server: Arc<Mutex<Process>>,
    transport: Transport,
    mode: InteropMode,
    address: String,
    base: TempDir,
    cases: usize,
}

struct Process {
    server: Server,
    /// It was killed on purpose.
    killed: bool,
}

impl Diod {
    pub(super) fn start(transport: Transport, mode: InteropMode) -> Result<Diod> {
        let base = tempfile::Builder::new().prefix("gofer-diod-").tempdir()?;
        let address = match transport {
            Transport::Tcp => free_port()?,
            _ => base.path().join("socket").to_string_lossy().into_owned(),
        };
        let program = super::find("diod").context("diod is not installed")?;
        let mut command = Command::new(program);
        // In the foreground, believing the numeric user of an attach, with no configuration.
        command.args([
            "-f",
            "-n",
            "-N",
            "-c",
            "/dev/null",
            "-L",
            "stderr",
            "-l",
            &address,
        ]);
        for index in 0..behaviour::cases().len() {
            let dir = case_dir(base.path(), index);
            fs::create_dir(&dir)?;
            command.arg("-e").arg(dir);
        }
        let mut server = Server::start(command, None)?;
        wait_until_ready(&mut server, transport, &address)?;
        Ok(Diod {
            server: Arc::new(Mutex::new(Process {
                server,
                killed: false,
            })),
            transport,
            mode,
            address,
            base,
            cases: 0,
        })
    }
}

fn wait_until_ready(server: &mut Server, transport: Transport, address: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Err(error) = dial(transport, address) else {
            return Ok(());
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

fn case_dir(base: &Path, index: usize) -> PathBuf {
    base.join(format!("case-{index}"))
}

/// A port of 127.0.0.1 nobody listened on a moment ago, with its address.
fn free_port() -> Result<String> {
    let probe = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(probe.local_addr()?.to_string())
}

fn dial(transport: Transport, address: &str) -> std::io::Result<Stream> {
    match transport {
        Transport::Tcp => Stream::connect_tcp(address, PATIENCE),
        _ => Stream::connect_unix(Path::new(address)),
    }
}

impl Place for Diod {
    fn traits(&self) -> ServerTraits {
        ServerTraits {
            name: "diod".to_owned(),
            runs_as_root: true,
            makes_fifos: true,
            links_symlinks: true,
        }
    }

    fn prepare(&mut self) -> Result<Site> {
        let dir = case_dir(self.base.path(), self.cases);
        self.cases += 1;
        let (transport, address) = (self.transport, self.address.clone());
        let options = format!(
            "trans={},address={address},aname={},cache={},version=9P2000.L",
            transport.name(),
            dir.display(),
            self.mode.name()
        );
        let server = self.server.clone();
        Ok(Site {
            dir,
            mount: Arc::new(move |how| connect::mount(dial(transport, &address)?, &options, how)),
            kill: Arc::new(move || lock(&server).kill()),
        })
    }

    fn check(&mut self) -> Result<Health> {
        let mut process = lock(&self.server);
        match process.server.is_running() {
            true => Ok(Health::Well),
            false if process.killed => Ok(Health::Killed),
            false => bail!("diod has ended"),
        }
    }

    fn finish(&mut self) -> Result<()> {
        // How diod ends is no affair of ours; it may even crash.
        lock(&self.server).kill();
        Ok(())
    }

    fn log(&self) -> String {
        lock(&self.server).server.log()
    }
}

impl Process {
    fn kill(&mut self) {
        self.killed = true;
        self.server.kill();
    }
}

fn lock(process: &Mutex<Process>) -> MutexGuard<'_, Process> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}
