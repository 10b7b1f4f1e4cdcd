//! `cargo xtask interop`: our client against somebody else's server, and their programs against
//! ours.

mod diod;
mod gvisor;
mod known;
mod linux;
mod runsc;
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
pub use diod::start_diod;
use gofer_vfs::InteropMode;
pub use gvisor::P9Programs;
pub use runsc::{RunscGofer, run_gofer};

use crate::matrix::Transport;
use crate::outcome::{CellResult, CellState, Outcome};
use crate::suite::{self, Cell, Options, Selection};

/// What diod listens on.
const TRANSPORTS: [Transport; 2] = [Transport::Unix, Transport::Tcp];

/// Options of `cargo xtask interop`.
#[derive(clap::Args, Debug)]
pub struct Interop {
    /// Whose programs
    peer: Peer,
    /// Measure gVisor's client and gofer beside ours instead
    #[arg(long)]
    bench: bool,
    /// linux: more ways to mount
    #[arg(long)]
    full: bool,
    /// linux: diod in the place of our server
    #[arg(long)]
    control: bool,
    #[command(flatten)]
    options: Options,
}

/// Programs of others.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Peer {
    /// A 9P2000.L server and its tools, from the Debian package of that name.
    Diod,
    /// gVisor's lisafs client and gofer, from the Debian package golang-gvisor-gvisor-dev.
    Gvisor,
    /// A gVisor sandbox with our server as its gofer, from the Debian package runsc.
    Runsc,
    /// The Linux kernel's 9P client in a virtual machine that is emulated: slow, not part of CI.
    Linux,
}

impl Interop {
    /// Each peer, with `allow_missing` as given to `cargo xtask ci`.
    pub fn for_ci(allow_missing: &[String]) -> [Interop; 3] {
        [Peer::Diod, Peer::Gvisor, Peer::Runsc].map(|peer| Interop {
            peer,
            bench: false,
            full: false,
            control: false,
            options: Options::all(allow_missing),
        })
    }

    /// The peer's name.
    pub fn name(&self) -> &'static str {
        match self.peer {
            Peer::Diod => "diod",
            Peer::Gvisor => "gvisor",
            Peer::Runsc => "runsc",
            Peer::Linux => "linux",
        }
    }
}

/// Runs what `interop` chooses and shows it, or lists it.
pub fn run(interop: &Interop) -> Result<()> {
    if interop.bench {
        return match interop.peer {
            Peer::Gvisor => gvisor::measure(),
            _ => bail!("only gvisor is measured"),
        };
    }
    if interop.options.list {
        if interop.peer == Peer::Gvisor {
            return gvisor::list(&interop.options);
        }
        if interop.peer == Peer::Runsc {
            bail!("its cases are a script that runs whole: xtask/interop/runsc/workload.sh");
        }
        if interop.peer == Peer::Linux {
            bail!("its checks run whole: xtask/interop/linux/guest");
        }
        install("diod", "diod")?;
        suite::list(&interop.options, &cells())?;
        let selection = Selection::new(&interop.options.only);
        TRANSPORTS
            .iter()
            .for_each(|transport| tools::list(*transport, &selection));
        return Ok(());
    }
    suite::conclude(&interop.options, &run_all(interop)?)
}

/// Runs what `interop` chooses.
pub fn run_all(interop: &Interop) -> Result<Outcome> {
    match interop.peer {
        Peer::Diod => run_diod(interop),
        Peer::Gvisor => Ok(gvisor::run(&interop.options)
            .unwrap_or_else(|error| nothing_ran(interop, &format!("{error:#}")))),
        Peer::Runsc => Ok(match runsc::run() {
            Ok(cells) => outcome_of(interop, cells),
            Err(error) => nothing_ran(interop, &format!("{error:#}")),
        }),
        Peer::Linux => {
            let side = match interop.control {
                true => linux::Side::Diod,
                false => linux::Side::Ours,
            };
            Ok(linux::run(&interop.options, interop.full, side)
                .unwrap_or_else(|error| nothing_ran(interop, &format!("{error:#}"))))
        }
    }
}

fn run_diod(interop: &Interop) -> Result<Outcome> {
    let options = &interop.options;
    if let Err(error) = install("diod", "diod") {
        return Ok(nothing_ran(interop, &format!("{error:#}")));
    }
    let mut outcome = suite::run(options, &cells());
    let selection = Selection::new(&options.only);
    for transport in TRANSPORTS {
        outcome.cells.extend(tools::run(transport, &selection)?);
    }
    Ok(outcome)
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for transport in TRANSPORTS {
        for mode in InteropMode::ALL {
            cells.push(Cell {
                row: format!("diod/{}", transport.name()),
                mode,
                place: Ok(Box::new(move || {
                    Ok(Box::new(diod::Diod::start(transport, mode)?))
                })),
                known: known::DIOD,
                more: &[],
            });
        }
    }
    cells
}

fn nothing_ran(interop: &Interop, reason: &str) -> Outcome {
    let cell = CellResult {
        row: interop.name().to_owned(),
        column: "all".to_owned(),
        state: CellState::CouldNotRun(reason.to_owned()),
        cases: Vec::new(),
        seconds: 0.0,
    };
    outcome_of(interop, vec![cell])
}

fn outcome_of(interop: &Interop, cells: Vec<CellResult>) -> Outcome {
    Outcome {
        seconds: cells.iter().map(|cell| cell.seconds).sum(),
        cells,
        allow_missing: interop.options.allow_missing.clone(),
    }
}

/// Makes sure that `program` is there, by installing the Debian package of that name.
pub(crate) fn install(program: &str, package: &str) -> Result<()> {
    if find(program).is_some() {
        return Ok(());
    }
    install_package(package)?;
    find(program).map(drop).with_context(|| {
        format!("the package {package} is installed, and there is no program {program}")
    })
}

fn install_package(package: &str) -> Result<()> {
    println!("installing {package}");
    apt_get(&["update"])?;
    apt_get(&["install", "--yes", "--no-install-recommends", package])
}

fn apt_get(args: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("run apt-get")?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("apt-get {}: {}", args.join(" "), why.trim_end());
    }
    Ok(())
}

/// Where `program` is; servers live in directories that are not in everybody's `PATH`.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|dir| dir.join(program))
        .find(|file| Path::is_file(file))
}
