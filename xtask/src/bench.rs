//! `cargo xtask bench`: runs the benchmark `rpc` in two regimes and prints medians and ratios: of
//! lisafs beside the least it could cost, then of all protocols beside a bare socket.
//!
//! Pinned to one processor the figures are reproducible; left free they show what wake-ups across
//! processors add, which differs from run to run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::outcome::table;
use crate::{interop, workspace};

/// Options of `cargo xtask bench`.
#[derive(clap::Args, Debug)]
pub struct Bench {
    /// Seconds to measure each benchmark for
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    seconds: f64,
    /// Run only benchmarks whose name contains this, such as `lisafs/stat`
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// Run in this regime only
    #[arg(long)]
    regime: Option<Regime>,
    /// Measure lisafs beside its floors only
    #[arg(long)]
    floors: bool,
    /// Measure 9P beside diod only
    #[arg(long)]
    p9: bool,
    /// Measure the memory that cached names take, and nothing else
    #[arg(long)]
    memory: bool,
    /// Measure cached lookups, and nothing else
    #[arg(long)]
    lookup: bool,
    /// Measure reads of cached contents beside copying memory, and nothing else
    #[arg(long)]
    page_cache: bool,
    /// Measure files on mounts beside bindfs, and nothing else
    #[arg(long)]
    fuse: bool,
}

/// Where the processes may run.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Regime {
    /// All on one processor.
    Pinned,
    /// Wherever the scheduler puts them.
    Free,
}

impl Regime {
    fn name(self) -> &'static str {
        match self {
            Regime::Pinned => "pinned",
            Regime::Free => "free",
        }
    }
}

/// Operations in the order of the table, and the socket exchange each is compared with.
const OPERATIONS: [(&str, Option<&str>); 9] = [
    ("stat", Some("stat")),
    ("walk-1", Some("stat")),
    ("walk-8", Some("walk-8")),
    ("cached-stat-4", None),
    ("read-4k", Some("read-4k")),
    ("read-4k-donated", None),
    ("read-1m", Some("read-1m")),
    ("read-1m-donated", None),
    ("create-unlink", None),
];

const PROTOCOLS: [&str; 3] = ["9p2000.L", "9p-google", "lisafs"];

/// Median nanoseconds by `group/benchmark`.
type Medians = BTreeMap<String, f64>;

/// Measures and prints.
pub fn run(options: &Bench) -> Result<()> {
    if options.memory {
        let program = build("memory")?;
        return run_in(Regime::Pinned, Command::new(program));
    }
    if options.lookup {
        let program = build("lookup")?;
        return run_in(Regime::Free, Command::new(program));
    }
    if options.page_cache {
        let program = build("page_cache")?;
        return run_in(Regime::Pinned, Command::new(program));
    }
    let regimes = match options.regime {
        Some(regime) => vec![regime],
        None => vec![Regime::Pinned, Regime::Free],
    };
    if options.fuse {
        return measure_mounts(&regimes, options);
    }
    let program = build("rpc")?;
    if options.p9 {
        return measure_p9(&program, &regimes, options);
    }
    for &regime in &regimes {
        println!(
            "==== {}: lisafs beside the least it could cost",
            regime.name()
        );
        println!("{FLOORS}");
        run_in(regime, apart(&program, "floor", regime, options))?;
    }
    if options.floors {
        return Ok(());
    }
    let home = tempfile::Builder::new()
        .prefix("gofer-criterion-")
        .tempdir()?;
    for &regime in &regimes {
        println!("==== {}: all protocols", regime.name());
        measure(&program, home.path(), regime, options)?;
    }
    for regime in regimes {
        let medians = medians(home.path(), regime.name())?;
        println!(
            "\n{}: medians, in microseconds; times the socket, times the system calls",
            regime.name()
        );
        print!("{}", ratios(&medians));
    }
    Ok(())
}

fn build(bench: &str) -> Result<PathBuf> {
    let output = workspace::cargo()
        .args(["bench", "--quiet", "--no-run", "--message-format=json"])
        .args(["-p", "xtask", "--bench", bench])
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo bench")?;
    if !output.status.success() {
        bail!("the benchmark does not build");
    }
    workspace::executable(&output.stdout, bench).context("cargo built no benchmark")
}

fn measure(program: &Path, home: &Path, regime: Regime, options: &Bench) -> Result<()> {
    let mut command = Command::new(program);
    command
        .args(["--bench", "--quiet", "--noplot", "--sample-size", "20"])
        .args(["--warm-up-time", "0.2"])
        .args(["--measurement-time", &options.seconds.to_string()])
        .args(["--save-baseline", regime.name()])
        .args(&options.only)
        .env("CRITERION_HOME", home)
        .stdin(Stdio::null());
    run_in(regime, command)
}

/// What the first table means.
const FLOORS: &str = "\
Medians of one run. A floor is a ping-pong between two processes over the same transport, with
messages of the operation's sizes, plus the bare system calls of the operation. A channel's
ping-pong writes each request into the window and copies each answer out of it. Servers and
floors run without a sandbox.";

/// The environment variable that names the directory of gVisor's programs for 9P to the benchmark
/// `rpc`.
pub const P9_PROGRAMS: &str = "GOFER_BENCH_P9_PROGRAMS";

/// What the tables of 9P mean.
const P9: &str = "\
Medians of one run, in microseconds for each operation, all that stands in a line measured in turns.
Every server has the same client, over a Unix socket, with plain 9P2000.L and messages of 64 KiB.
call: our client, one call at a time. lanes: bare messages, 16 requests in one send, and the next
when all are answered. threads: our client, called by 16 threads. The floor is a ping-pong over a
bare socket, with one message of the operation's sizes, plus the bare system calls. The last table
has gVisor's client, one call at a time, with the newest dialect and its channels.";

/// Measures 9P beside diod, and beside gVisor's programs where they can be built.
fn measure_p9(program: &Path, regimes: &[Regime], options: &Bench) -> Result<()> {
    let gvisor = interop::P9Programs::build();
    if let Err(error) = &gvisor {
        println!("without gVisor's programs: {error:#}");
    }
    println!("{P9}");
    for &regime in regimes {
        println!("==== {}: 9P2000.L", regime.name());
        let mut command = apart(program, "p9", regime, options);
        if let Ok(programs) = &gvisor {
            command.env(P9_PROGRAMS, programs.dir());
        }
        run_in(regime, command)?;
    }
    Ok(())
}

/// The environment variable that names our program to the benchmark `mount`.
pub const CLI: &str = "GOFER_BENCH_CLI";

/// What the tables of mounts mean.
const MOUNTS: &str = "\
One tree each: the host's directory, a bare FUSE server (the crate fuser and system calls), bindfs
-o big_writes, and our mounts. All that stands in a line is measured in turns of one run. Cold:
the kernel knows nothing of it on this mount. Each turn that writes ends with a close.";

/// Measures files on mounts.
fn measure_mounts(regimes: &[Regime], options: &Bench) -> Result<()> {
    let cli = workspace::build("gofer-cli", workspace::Profile::Release)?;
    let program = build("mount")?;
    println!("{MOUNTS}");
    for &regime in regimes {
        println!("\n==== {}: files on mounts", regime.name());
        let mut command = Command::new(&program);
        command
            .args(["measure", &options.seconds.to_string()])
            .args(&options.only)
            .env(CLI, &cli)
            .stdin(Stdio::null());
        run_in(regime, command)?;
    }
    Ok(())
}

/// A part of the benchmark that is not criterion's.
fn apart(program: &Path, part: &str, regime: Regime, options: &Bench) -> Command {
    let mut command = Command::new(program);
    command
        .args([part, regime.name(), &options.seconds.to_string()])
        .args(&options.only)
        .stdin(Stdio::null());
    command
}

/// Runs `command`, and whatever it starts, where `regime` says.
fn run_in(regime: Regime, mut command: Command) -> Result<()> {
    let before = sched_getaffinity(None).context("read the processor affinity")?;
    if regime == Regime::Pinned {
        // The benchmark and its servers inherit it.
        sched_setaffinity(None, &first_of(&before)).context("pin to one processor")?;
    }
    let status = command.status();
    sched_setaffinity(None, &before).context("restore the processor affinity")?;
    let status = status.context("run the benchmark")?;
    if !status.success() {
        bail!("the benchmark ended with {status}");
    }
    Ok(())
}

fn first_of(set: &CpuSet) -> CpuSet {
    let mut one = CpuSet::new();
    if let Some(cpu) = (0..CpuSet::MAX_CPU).find(|&cpu| set.is_set(cpu)) {
        one.set(cpu);
    }
    one
}

/// What criterion kept of the run called `baseline`: `GROUP/BENCHMARK/BASELINE/estimates.json`.
fn medians(home: &Path, baseline: &str) -> Result<Medians> {
    let mut medians = Medians::new();
    for group in fs::read_dir(home)? {
        let group = group?;
        for bench in fs::read_dir(group.path())? {
            let bench = bench?;
            let file = bench.path().join(baseline).join("estimates.json");
            let Ok(text) = fs::read_to_string(&file) else {
                continue;
            };
            let estimates: serde_json::Value = serde_json::from_str(&text)?;
            let median = estimates["median"]["point_estimate"]
                .as_f64()
                .with_context(|| format!("no median in {}", file.display()))?;
            let names = [group.file_name(), bench.file_name()];
            medians.insert(
                names
                    .map(|name| name.to_string_lossy().into_owned())
                    .join("/"),
                median,
            );
        }
    }
    Ok(medians)
}

fn ratios(medians: &Medians) -> String {
    let mut head = vec![
        "operation".to_owned(),
        "direct".to_owned(),
        "socket".to_owned(),
    ];
    for protocol in PROTOCOLS {
        head.extend([protocol, "x socket", "x direct"].map(str::to_owned));
    }
    let mut lines = vec![head];
    for (operation, exchange) in OPERATIONS {
        let base = operation.trim_end_matches("-donated");
        let direct = medians.get(&format!("direct/{base}"));
        let socket = exchange.and_then(|name| medians.get(&format!("socket/{name}")));
        let mut line = vec![operation.to_owned(), micros(direct), micros(socket)];
        let mut measured = false;
        for protocol in PROTOCOLS {
            let ours = medians.get(&format!("{protocol}/{operation}"));
            measured |= ours.is_some();
            line.extend([micros(ours), times(ours, socket), times(ours, direct)]);
        }
        if measured {
            lines.push(line);
        }
    }
    table(&lines)
}

fn micros(nanoseconds: Option<&f64>) -> String {
    nanoseconds.map_or_else(|| "-".to_owned(), |ns| format!("{:.2}", ns / 1000.0))
}

fn times(ours: Option<&f64>, base: Option<&f64>) -> String {
    match (ours, base) {
        (Some(ours), Some(base)) => format!("{:.2}", ours / base),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_stand_beside_the_medians() {
        let medians = Medians::from([
            ("direct/stat".to_owned(), 1000.0),
            ("socket/stat".to_owned(), 8000.0),
            ("lisafs/stat".to_owned(), 12_000.0),
            ("direct/read-4k".to_owned(), 500.0),
            ("lisafs/read-4k-donated".to_owned(), 600.0),
        ]);
        let text = ratios(&medians);
        let words = |line: usize| -> Vec<&str> {
            text.lines().nth(line).unwrap().split_whitespace().collect()
        };
        assert_eq!(
            words(1),
            [
                "stat", "1.00", "8.00", "-", "-", "-", "-", "-", "-", "12.00", "1.50", "12.00"
            ]
        );
        assert_eq!(words(2).last(), Some(&"1.20"));
        assert_eq!(text.lines().count(), 3);
    }
}
