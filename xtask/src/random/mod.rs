//! Random operations on a mount and on a plain directory beside it: what calls return, contents
//! and attributes have to be the same, whoever else works on the tree.
//!
//! - `op`, `path`: operations and what comes of them; `strategy`: sequences of them;
//!   `sequences`: by their seeds.
//! - `client`: on a mount within this process; `host`: by system calls; `mounted`: by system
//!   calls on a mount of the kernel's.
//! - `world`: a sequence on both; `survey`: all there is in a tree.
//! - `allowed`: in what they may differ.
//!
//! The seeds of CI are fixed. `cargo xtask random` runs others, more, or one again.

mod allowed;
mod client;
mod host;
pub mod mounted;
mod op;
mod open;
mod path;
mod sequences;
mod strategy;
mod survey;
mod world;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use gofer_vfs::testing::behaviour::{Case, CaseResult, Failure, Fixture, Mounter, Remount};
use gofer_vfs::{Credentials, Filesystem};
use tempfile::TempDir;

use crate::matrix;
use crate::suite::Options;
use crate::watchdog::{self, End};
use client::Mounted;
use host::HostTree;
use op::Side as _;
use sequences::{PATIENCE, Plan, Seeds};
use strategy::{Scope, Sequence};
use world::{Client, World};

/// The case that the matrix runs beside the behaviour suite.
pub const CASES: &[Case] = &[Case {
    name: "random_operations_give_what_the_host_gives",
    applies,
    run,
}];

/// Sequences where each mount needs a process.
const FEW: u64 = 15;

/// Options of `cargo xtask random`.
#[derive(clap::Args, Debug)]
pub struct Random {
    /// The seed of the first sequence; the others follow it [default: another each time]
    #[arg(long)]
    seed: Option<u64>,
    /// Sequences in each cell
    #[arg(long, default_value_t = 1000)]
    sequences: u64,
    /// Steps of a sequence, at most
    #[arg(long, default_value_t = Plan::for_ci().steps)]
    steps: usize,
    /// Seconds for which a failing sequence is made shorter
    #[arg(long, default_value_t = 30)]
    shrink: u32,
    /// Go on after a failure, to find more
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    options: Options,
}

/// What the command line says; nothing in CI.
static PLAN: OnceLock<Plan> = OnceLock::new();

/// Runs what `random` chooses and shows it.
pub fn run_random(random: Random) -> Result<()> {
    let fresh = || {
        std::time::UNIX_EPOCH
            .elapsed()
            .map(|now| now.as_nanos() as u64 % 1_000_000_007)
    };
    let seed = match random.seed {
        Some(seed) => seed,
        None => fresh().context("read the clock")?,
    };
    println!("the first seed is {seed}");
    PLAN.get_or_init(|| Plan {
        seed,
        sequences: random.sequences,
        steps: random.steps,
        shrinking: random.shrink.saturating_mul(1000),
        keep_going: random.keep_going,
    });
    let mut options = random.options;
    // A long run is meant to be long; each sequence has its own limit.
    options.case_timeout = u64::from(u32::MAX);
    let of_cell = |pattern: &String| format!("{pattern}::{}", CASES[0].name);
    options.only = match options.only.as_slice() {
        [] => vec![format!("::{}", CASES[0].name)],
        patterns => patterns.iter().map(of_cell).collect(),
    };
    matrix::run(&options)
}

fn applies(fx: &Fixture) -> Result<(), &'static str> {
    match fx.server.runs_as_root && rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => Err("acting as several users, and in trees of their own, needs root"),
    }
}

fn run(fx: &Fixture) -> CaseResult {
    let per_process = matches!(fx.fs.options().trans, gofer_vfs::Trans::Fd { .. });
    let plan = PLAN.get().copied().unwrap_or_else(|| match per_process {
        true => Plan {
            sequences: FEW,
            ..Plan::for_ci()
        },
        false => Plan::for_ci(),
    });
    let place = Place::new(fx).map_err(|error| Failure::new(format!("{error:#}")))?;
    let mut failures = Vec::new();
    let seeds = Seeds {
        cell: &place.cell,
        scope: place.scope,
    };
    for seed in plan.seeds() {
        let checked = seeds.check(seed, &plan, &|sequence| place.check(sequence));
        if let Err(why) = checked {
            failures.push(why);
            if !plan.keep_going {
                break;
            }
        }
    }
    match failures.as_slice() {
        [] => Ok(()),
        _ => Err(Failure::new(failures.join("\n"))),
    }
}

/// Where the sequences of one cell run.
struct Place {
    mounter: Mounter,
    served: PathBuf,
    twin: TempDir,
    scope: Scope,
    cell: String,
}

impl Place {
    fn new(fx: &Fixture) -> Result<Place> {
        let capabilities = fx.fs.capabilities();
        let plain = capabilities.protocol == "9P2000.L";
        let scope = Scope {
            mode: fx.mode,
            kernel: false,
            owners: capabilities.owner_on_create,
            fifos: fx.server.makes_fifos,
            // Servers have to be told to, and of ours only these are.
            opens_fifos: fx.fs.options().directfs,
            allocate: capabilities.allocate,
            rename_flags: capabilities.rename_flags,
            finds_holes: fx.fs.options().lisafs,
            by_name: fx.fs.options().lisafs,
            private_pages: fx.fs.options().force_page_cache && fx.mode.must_revalidate(),
            xattrs: capabilities.xattrs && fx.outside.supports_xattrs(),
            old_modes: plain,
            empty_xattrs: !plain,
        };
        let served = fx.outside.directory().context("no directory of the host")?;
        Ok(Place {
            mounter: fx.mount.clone(),
            served: served.to_path_buf(),
            // Where the served directory is as well.
            twin: TempDir::with_prefix("gofer-random-")?,
            scope,
            cell: format!("{} {}", fx.server.name, fx.mode.name()),
        })
    }

    fn check(&self, sequence: &Sequence) -> Result<(), String> {
        let (mounter, scope) = (self.mounter.clone(), self.scope);
        let (served, twin) = (self.served.clone(), self.twin.path().to_path_buf());
        let sequence = sequence.clone();
        let end = watchdog::run(PATIENCE, move || {
            check_within(&sequence, &scope, &served, &twin, &mounter)
        });
        match end {
            End::Returned(result) => result,
            End::Panicked(why) => Err(format!("panic: {why}")),
            End::TimedOut => Err(format!("no end within {PATIENCE:?}")),
        }
    }
}

fn check_within(
    sequence: &Sequence,
    scope: &Scope,
    served: &Path,
    twin: &Path,
    mounter: &Mounter,
) -> Result<(), String> {
    let begin = || -> Result<World<'_>> {
        let mut trees = Vec::new();
        for dir in [served, twin] {
            host::clear(dir, sequence.root_mode)?;
            let mut tree = HostTree::new(dir)?;
            if sequence.populated {
                world::population(&mut tree)?;
            }
            trees.push(tree);
        }
        let (Some(twin), Some(served)) = (trees.pop(), trees.pop()) else {
            bail!("there are two trees");
        };
        let how = Remount {
            dentry_cache_limit: sequence.dentry_limit,
            page_cache_limit: sequence.page_limit,
            ..Remount::default()
        };
        let fs: Filesystem = mounter(&how).map_err(anyhow::Error::msg)?;
        let client = Box::new(Mounted::new(&fs));
        Ok(World::new(scope, sequence, client, served, twin))
    };
    let world = begin().map_err(|error| format!("cannot begin: {error:#}"))?;
    world.run(sequence)
}

impl Client for Mounted {
    fn end(mut self: Box<Self>) -> Result<(), String> {
        for slot in 0..op::SLOTS {
            for op in [op::Op::Unmap(slot), op::Op::Close(slot)] {
                self.run(op::User::Root, &op)
                    .map_err(|errno| format!("{op:?}: {errno:?}"))?;
            }
        }
        let root = Credentials::root();
        let ended = self.fs().unmount(&gofer_vfs::Context::new(&root));
        ended.map_err(|error| format!("unmount: {error}"))
    }
}
