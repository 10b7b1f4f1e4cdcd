//! `cargo xtask suites`: other people's tests and programs on a mount, over each protocol and in
//! each cache mode.
//!
//! A row is a protocol, a column a mode, a case a suite or a program. `host` is the row of the
//! file system below, where pjdfstest says what may be expected.

mod fsx;
mod mounted;
mod pjdfstest;
mod programs;
mod tools;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use gofer_vfs::InteropMode;
use tempfile::TempDir;

use crate::matrix::Protocol;
use crate::outcome::{CaseResult, CellResult, CellState, Outcome, Verdict};
use crate::random::mounted::Place;
use crate::suite::{self, Options, Selection};
use crate::workspace::{self, Profile};
use mounted::Mounted;
use tools::Tools;

/// Longest time a program may take.
const PATIENCE: Duration = Duration::from_secs(1200);

/// Options of `cargo xtask suites`.
#[derive(clap::Args, Debug)]
pub struct Suites {
    /// The part that CI runs: pjdfstest in exclusive mode and a short fsx, over each protocol
    #[arg(long)]
    short: bool,
    /// Mount an optimised build
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    options: Options,
}

impl Suites {
    /// What `cargo xtask ci` runs.
    pub fn for_ci(allow_missing: &[String]) -> Suites {
        Suites {
            short: true,
            release: false,
            options: Options::all(allow_missing),
        }
    }
}

/// What a case works with.
struct Bench<'b> {
    tools: &'b Tools,
    /// Where it may work: on the mount.
    dir: &'b Path,
    /// Where it may keep things: on the host.
    scratch: &'b Path,
    /// What is mounted, on the host.
    served: &'b Path,
    protocol: Protocol,
    mode: InteropMode,
    /// The short form is asked for.
    short: bool,
}

/// A suite or a program.
struct Case {
    name: &'static str,
    /// Also in the short form; there only in exclusive mode.
    short: bool,
    run: fn(&Bench<'_>) -> Result<()>,
}

const CASES: &[Case] = &[
    Case {
        name: "pjdfstest",
        short: true,
        run: pjdfstest::run,
    },
    Case {
        name: "fsx",
        short: true,
        run: fsx::run,
    },
    Case {
        name: "random",
        short: true,
        run: random,
    },
    Case {
        name: "fio-verify",
        short: false,
        run: programs::fio,
    },
    Case {
        name: "git",
        short: false,
        run: programs::git,
    },
    Case {
        name: "sqlite-wal",
        short: false,
        run: programs::sqlite_wal,
    },
    Case {
        name: "sqlite-rollback",
        short: false,
        run: programs::sqlite_rollback,
    },
    Case {
        name: "tar",
        short: true,
        run: programs::tar,
    },
    Case {
        name: "rsync",
        short: false,
        run: programs::rsync,
    },
    Case {
        name: "cargo-build",
        short: false,
        run: programs::cargo_build,
    },
];

/// Random operations, as on the host beside it.
fn random(bench: &Bench<'_>) -> Result<()> {
    let beside = bench.scratch.join("twins");
    std::fs::create_dir(&beside)?;
    let place = Place {
        mount: bench.dir,
        served: bench.served,
        beside: &beside,
        protocol: bench.protocol,
        mode: bench.mode,
    };
    place.run(if bench.short { 30 } else { 500 })
}

/// Runs what `suites` chooses and shows it, or lists it.
pub fn run(suites: &Suites) -> Result<()> {
    if suites.options.list {
        for cell in cells(suites) {
            CASES
                .iter()
                .filter(|case| case.short || !suites.short)
                .for_each(|case| println!("{}::{}", cell.name(), case.name));
        }
        return Ok(());
    }
    suite::conclude(&suites.options, &run_all(suites)?)
}

/// One cell that is to run.
struct Plan {
    protocol: Protocol,
    mode: InteropMode,
}

impl Plan {
    fn name(&self) -> String {
        format!("{}/{}", self.protocol.name(), self.mode.name())
    }
}

fn cells(suites: &Suites) -> Vec<Plan> {
    let modes: &[InteropMode] = match suites.short {
        true => &[InteropMode::Exclusive],
        false => &InteropMode::ALL,
    };
    let both = |protocol| modes.iter().map(move |&mode| Plan { protocol, mode });
    Protocol::ALL.into_iter().flat_map(both).collect()
}

/// Runs what `suites` chooses.
pub fn run_all(suites: &Suites) -> Result<Outcome> {
    let begun = Instant::now();
    let options = &suites.options;
    let selection = Selection::new(&options.only);
    let mut cells = Vec::new();
    match prepare(suites) {
        Ok((program, tools)) => {
            for plan in self::cells(suites) {
                let cell = run_cell(suites, &plan, &program, &tools, &selection);
                if let Some(cell) = cell {
                    println!("{}", cell.line());
                    cells.push(cell);
                }
            }
        }
        Err(error) => cells.push(CellResult {
            row: "suites".to_owned(),
            column: "all".to_owned(),
            state: CellState::CouldNotRun(format!("{error:#}")),
            cases: Vec::new(),
            seconds: 0.0,
        }),
    }
    Ok(Outcome {
        cells,
        allow_missing: options.allow_missing.clone(),
        seconds: begun.elapsed().as_secs_f64(),
    })
}

fn prepare(suites: &Suites) -> Result<(PathBuf, Tools)> {
    if !Path::new("/dev/fuse").exists() {
        bail!("there is no /dev/fuse here");
    }
    if !rustix::process::geteuid().is_root() {
        bail!("pjdfstest acts as several users: it needs root");
    }
    let tools = Tools::install(suites.short)?;
    let profile = match suites.release {
        true => Profile::Release,
        false => Profile::Dev,
    };
    Ok((workspace::build("gofer-cli", profile)?, tools))
}

/// `None`: nothing of it was chosen.
fn run_cell(
    suites: &Suites,
    plan: &Plan,
    program: &Path,
    tools: &Tools,
    selection: &Selection,
) -> Option<CellResult> {
    let name = plan.name();
    let begun = Instant::now();
    let mut cases = Vec::new();
    let chosen = CASES
        .iter()
        .filter(|case| case.short || !suites.short)
        .filter(|case| selection.has(&name, case.name));
    for case in chosen {
        let begun = Instant::now();
        let outcome = run_case(suites, plan, program, tools, case);
        let verdict = match outcome {
            Ok(()) => Verdict::Passed,
            Err(error) => Verdict::Failed(format!("{error:#}")),
        };
        let seconds = begun.elapsed().as_secs_f64();
        println!("  {name}::{} {seconds:.1}s", case.name);
        if let Verdict::Failed(why) = &verdict {
            println!("    {}", why.replace('\n', "\n    "));
        }
        cases.push(CaseResult {
            case: case.name.to_owned(),
            verdict,
            seconds,
        });
    }
    (!cases.is_empty()).then(|| CellResult {
        row: plan.protocol.name().to_owned(),
        column: plan.mode.name().to_owned(),
        state: CellState::Ran,
        cases,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

/// Each case has a mount of its own: what one leaves behind harms no other.
fn run_case(
    suites: &Suites,
    plan: &Plan,
    program: &Path,
    tools: &Tools,
    case: &Case,
) -> Result<()> {
    let base = TempDir::with_prefix("gofer-suites-").context("make a directory")?;
    // Other users go through it.
    tools::open_to_all(base.path())?;
    let scratch = base.path().join("scratch");
    std::fs::create_dir(&scratch)?;
    let mounted = Mounted::start(program, base.path(), plan.protocol, plan.mode)?;
    let ran = (case.run)(&Bench {
        tools,
        dir: mounted.dir(),
        scratch: &scratch,
        served: mounted.served(),
        protocol: plan.protocol,
        mode: plan.mode,
        short: suites.short,
    });
    let ended = mounted.end();
    match (ran, ended) {
        // A mount that went away by itself explains much.
        (Err(error), Err(end)) => Err(anyhow!("{error:#}\nand after it: {end:#}")),
        (ran, ended) => ran.and(ended),
    }
}
