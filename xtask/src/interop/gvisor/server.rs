//! A server of gVisor's as the server of a cell: one process that all of the cell's mounts connect
//! to.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use gofer_transport::Stream;
use gofer_vfs::InteropMode;
use gofer_vfs::testing::behaviour::ServerTraits;
use tempfile::TempDir;

use super::go::Programs;
use crate::connect;
use crate::process::Server;
use crate::suite::{Health, Place, Site};

/// How long the gofer may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which of gVisor's servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Which {
    /// Its gofer.
    Lisafs,
    /// That of its package p9, with host files behind it that are our own.
    P9,
}

/// The place of one cell.
pub(super) struct Gofer {
    which: Which,
    /// Mount options beside the usual ones.
    options: String,
    mode: InteropMode,
    base: TempDir,
    server: Arc<Mutex<Running>>,
    cases: usize,
}

struct Running {
    server: Server,
    /// It was killed on purpose.
    killed: bool,
}

impl Gofer {
    pub(super) fn start(
        programs: &Programs,
        which: Which,
        options: &str,
        mode: InteropMode,
    ) -> Result<Gofer> {
        // The gofer reaches sockets by their path, of which there may be 107 bytes.
        let base = tempfile::Builder::new().prefix("gofer-go-").tempdir()?;
        fs::create_dir(base.path().join("export"))?;
        let mut command = match which {
            Which::Lisafs => programs.server(),
            Which::P9 => programs.p9_server(),
        };
        if which == Which::Lisafs {
            command.args(["-host-uds", "all"]);
        }
        command.args([base.path().join("socket"), base.path().join("export")]);
        let mut server = Server::start(command, None)?;
        server.ready_line(PATIENCE)?;
        Ok(Gofer {
            which,
            options: options.to_owned(),
            mode,
            base,
            server: Arc::new(Mutex::new(Running {
                server,
                killed: false,
            })),
            cases: 0,
        })
    }

    fn socket(&self) -> PathBuf {
        self.base.path().join("socket")
    }
}

impl Place for Gofer {
    fn traits(&self) -> ServerTraits {
        ServerTraits {
            name: match self.which {
                Which::Lisafs => "gVisor's gofer".to_owned(),
                Which::P9 => "gVisor's p9 server".to_owned(),
            },
            runs_as_root: true,
            makes_fifos: self.which == Which::P9,
            opens_fifos: false,
            binds_sockets: false,
            links_symlinks: true,
        }
    }

    fn prepare(&mut self) -> Result<Site> {
        let name = format!("case-{}", self.cases);
        self.cases += 1;
        let dir = self.base.path().join("export").join(&name);
        fs::create_dir(&dir)?;
        let socket = self.socket();
        let (mode, extra) = (self.mode.name(), &self.options);
        let address = format!("trans=unix,address={}", socket.display());
        let options = format!("{address},aname=/{name},cache={mode},{extra}");
        let server = self.server.clone();
        Ok(Site {
            dir,
            mount: Arc::new(move |how| {
                connect::mount(Stream::connect_unix(&socket)?, &options, how)
            }),
            kill: Arc::new(move || {
                let mut running = lock(&server);
                running.killed = true;
                running.server.kill();
            }),
        })
    }

    fn check(&mut self) -> Result<Health> {
        let mut running = lock(&self.server);
        if running.killed {
            return Ok(Health::Killed);
        }
        if !running.server.is_running() {
            bail!("it has ended");
        }
        Ok(Health::Well)
    }

    fn finish(&mut self) -> Result<()> {
        // It is made to run until it is killed.
        Ok(())
    }

    fn log(&self) -> String {
        lock(&self.server).server.log()
    }
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}
