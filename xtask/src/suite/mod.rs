//! Runs the behaviour suite of gofer-vfs in a number of cells, several at once.

mod progress;
mod runner;
mod selection;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gofer_vfs::testing::behaviour::{Case, Remount, ServerTraits};
use gofer_vfs::{Filesystem, InteropMode};

use crate::outcome::Outcome;

pub use runner::{list, run};
pub use selection::Selection;

/// What every task that runs the suite can be told.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Run only these cells or cases (repeatable): `lisafs/unix`, `rename`, `lisafs/*::rename`
    #[arg(long, value_name = "PATTERN")]
    pub only: Vec<String>,
    /// Print the cells and cases, and why some do not apply, and run nothing
    #[arg(long)]
    pub list: bool,
    /// Write all results to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Do not fail because cells whose name contains this cannot run (repeatable)
    #[arg(long, value_name = "NAME")]
    pub allow_missing: Vec<String>,
    /// Also list the cases that do not apply, with their reasons
    #[arg(short, long)]
    pub verbose: bool,
    /// Seconds after which a case has hung
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub case_timeout: u64,
    /// Cells that run at once [default: the number of processors]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
}

impl Options {
    /// Runs everything and lists only what failed.
    pub fn all(allow_missing: &[String]) -> Options {
        Options {
            only: Vec::new(),
            list: false,
            json: None,
            allow_missing: allow_missing.to_vec(),
            verbose: false,
            case_timeout: 30,
            jobs: None,
        }
    }

    fn case_limit(&self) -> Duration {
        Duration::from_secs(self.case_timeout)
    }

    fn jobs(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.unwrap_or_else(cores).max(1)
    }
}

/// One cell that is to run.
pub struct Cell {
    /// Peer or protocol and transport.
    pub row: String,
    /// Cache mode of its mounts.
    pub mode: InteropMode,
    /// Makes the cell's place, or says why there is no such combination.
    pub place: Result<PlaceMaker, &'static str>,
    /// What the peer cannot do.
    pub known: &'static [Known],
    /// Cases beside those of the behaviour suite.
    pub more: &'static [Case],
}

impl Cell {
    /// `row/mode`, as [`Selection`] sees it.
    pub fn name(&self) -> String {
        format!("{}/{}", self.row, self.mode.name())
    }
}

/// Starts whatever a cell needs.
pub type PlaceMaker = Box<dyn Fn() -> Result<Box<dyn Place>> + Send + Sync>;

/// Mounts the directory of a case, as often as it is called.
pub type Mounter = Arc<dyn Fn(&Remount) -> Result<Filesystem> + Send + Sync>;

/// What a place makes for one case.
pub struct Site {
    /// A fresh directory of the host.
    pub dir: PathBuf,
    /// Mounts it through a server.
    pub mount: Mounter,
    /// Kills the servers of these mounts.
    pub kill: Arc<dyn Fn() + Send + Sync>,
}

/// How a place is after a case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// Ready for the next.
    Well,
    /// Its server was killed on purpose.
    Killed,
}

/// Where the cases of one cell find their server.
pub trait Place {
    /// What cases need to know of the server.
    fn traits(&self) -> ServerTraits;

    /// Makes a site that nothing else uses.
    fn prepare(&mut self) -> Result<Site>;

    /// Called after each case: whether the server took it well.
    fn check(&mut self) -> Result<Health>;

    /// Called after the last case: whether the server ends as it should.
    fn finish(&mut self) -> Result<()>;

    /// What the servers said.
    fn log(&self) -> String;
}

/// A case that fails with a peer for a reason that is not ours.
#[derive(Debug)]
pub struct Known {
    /// The case, or the start of the names of several with a `*` at the end.
    pub case: &'static str,
    /// In these modes only; none means all.
    pub modes: &'static [InteropMode],
    /// What the peer cannot do.
    pub reason: &'static str,
    /// It depends on a race: the case may also pass.
    pub sometimes: bool,
}

/// Fails where an entry names no case of the suite, or no reason.
#[cfg(test)]
pub(crate) fn check_known(list: &[Known]) {
    for known in list {
        let start = known.case.trim_end_matches('*');
        let named = gofer_vfs::testing::behaviour::cases()
            .iter()
            .any(|case| case.name.starts_with(start));
        assert!(named, "no case is called {}", known.case);
        assert!(!known.reason.is_empty(), "{}", known.case);
    }
}

impl Known {
    fn covers(&self, case: &str, mode: InteropMode) -> bool {
        let named = match self.case.strip_suffix('*') {
            Some(start) => case.starts_with(start),
            None => case == self.case,
        };
        named && (self.modes.is_empty() || self.modes.contains(&mode))
    }
}

/// Shows what came out, writes it where asked, and fails when something failed.
pub fn conclude(options: &Options, outcome: &Outcome) -> Result<()> {
    print!("{}", outcome.report(options.verbose));
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(outcome)?;
        std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    if outcome.failed() {
        bail!("not everything passed");
    }
    Ok(())
}
