//! `cargo xtask interop gvisor --bench`: gVisor's client and gofer beside ours, in all four pairs.
//!
//! All servers run throughout. The pairs take turns, several rounds of them, so that whatever else
//! the machine does hits them all; the table has the medians over the rounds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;

use super::go::Programs;
use crate::outcome::table;
use crate::process::Server;
use crate::workspace::{self, Profile};

const PATIENCE: Duration = Duration::from_secs(20);
const ROUNDS: usize = 9;

/// What is measured with servers that donate descriptors of opened files.
const CALLS: [&str; 7] = [
    "stat",
    "walk-1",
    "walk-8",
    "walkstat-8",
    "open-close",
    "readdir-10000",
    "create-unlink",
];
/// What is measured with servers that keep them: all data goes through messages.
const DATA: [&str; 4] = ["read-4k", "write-4k", "read-1m", "write-1m"];

/// Whose program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Maker {
    Go,
    Ours,
}

/// Client and server. The first pair is what the others are compared with.
const PAIRS: [(Maker, Maker); 4] = [
    (Maker::Go, Maker::Go),
    (Maker::Go, Maker::Ours),
    (Maker::Ours, Maker::Go),
    (Maker::Ours, Maker::Ours),
];

/// Nanoseconds by operation and pair, one for each round.
type Samples = BTreeMap<(&'static str, (Maker, Maker)), Vec<f64>>;

/// The programs, and the directory they work on.
struct Bench {
    go: Programs,
    client: PathBuf,
    server: PathBuf,
    base: TempDir,
}

/// Measures in both regimes and prints a table for each.
pub(super) fn run() -> Result<()> {
    let bench = Bench::new()?;
    let before = sched_getaffinity(None).context("read the processor affinity")?;
    for pinned in [true, false] {
        if pinned {
            // Every client and server inherits it.
            sched_setaffinity(None, &first_of(&before)).context("pin to one processor")?;
        }
        let samples = bench.measure();
        sched_setaffinity(None, &before).context("restore the processor affinity")?;
        let regime = if pinned { "pinned" } else { "free" };
        println!(
            "\n{regime}: client + server, median of {ROUNDS} rounds in microseconds, and times \
             Go + Go"
        );
        print!("{}", report(&samples?));
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

impl Bench {
    fn new() -> Result<Bench> {
        Ok(Bench {
            go: Programs::build()?,
            client: build_client()?,
            server: workspace::build("gofer-server-mock", Profile::Release)?,
            base: tempfile::Builder::new().prefix("gofer-go-").tempdir()?,
        })
    }

    /// Makes the files that both clients expect. Fresh ones for each regime: pages that were read
    /// back are slower to copy.
    fn make_tree(&self, root: &Path) -> Result<()> {
        let deep = root.join("a/b/c/d/e/f/g");
        fs::create_dir_all(&deep)?;
        fs::write(deep.join("file"), "x")?;
        for name in ["data", "target"] {
            fs::write(root.join(name), vec![7; 1 << 20])?;
        }
        fs::create_dir(root.join("new"))?;
        let list = root.join("list");
        fs::create_dir(&list)?;
        for index in 0..10_000 {
            fs::write(list.join(format!("entry-{index:05}")), "")?;
        }
        Ok(())
    }

    fn measure(&self) -> Result<Samples> {
        let dir = tempfile::tempdir_in(self.base.path())?;
        let root = dir.path().join("export");
        self.make_tree(&root)?;
        let mut servers = Vec::new();
        for maker in [Maker::Go, Maker::Ours] {
            for donate in [true, false] {
                let socket = socket_of(dir.path(), maker, donate);
                let mut server = Server::start(self.command(maker, donate, &socket, &root), None)?;
                server.ready_line(PATIENCE)?;
                servers.push(server);
            }
        }
        let mut samples = Samples::new();
        for round in 0..ROUNDS {
            for index in 0..PAIRS.len() {
                let pair = PAIRS[(round + index) % PAIRS.len()];
                for (donate, operations) in [(true, &CALLS[..]), (false, &DATA[..])] {
                    let socket = socket_of(dir.path(), pair.1, donate);
                    for (operation, cost) in self.client(pair.0, &socket, operations)? {
                        samples.entry((operation, pair)).or_default().push(cost);
                    }
                }
            }
        }
        Ok(samples)
    }

    fn command(&self, maker: Maker, donate: bool, socket: &Path, root: &Path) -> Command {
        let mut command = match maker {
            Maker::Go => self.go.server(),
            Maker::Ours => {
                let mut command = Command::new(&self.server);
                command.args(["serve", "--die-with-parent", "--protocol", "lisafs"]);
                command
            }
        };
        match (maker, donate) {
            (_, true) => &mut command,
            (Maker::Go, false) => command.arg("-no-donate"),
            (Maker::Ours, false) => command.arg("--no-donate"),
        };
        match maker {
            Maker::Go => command.args([socket, root]),
            Maker::Ours => command
                .arg("--root")
                .arg(root)
                .arg("--listen")
                .arg(format!("unix:{}", socket.display())),
        };
        command
    }

    /// One run of a client: nanoseconds for each of `operations`.
    fn client(
        &self,
        maker: Maker,
        socket: &Path,
        operations: &[&'static str],
    ) -> Result<Vec<(&'static str, f64)>> {
        let mut command = match maker {
            Maker::Go => {
                let mut command = self.go.client();
                command.arg("bench");
                command
            }
            Maker::Ours => Command::new(&self.client),
        };
        let output = command
            .arg(socket)
            .args(operations)
            .stdin(Stdio::null())
            .output()
            .context("run a client")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{maker:?}: {} {said}",
            output.status
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let mut costs = Vec::new();
        for (operation, line) in operations.iter().zip(text.lines()) {
            let cost = line
                .strip_prefix(operation)
                .and_then(|cost| cost.trim().parse().ok())
                .with_context(|| format!("{maker:?} says `{line}` of {operation}"))?;
            costs.push((*operation, cost));
        }
        if costs.len() < operations.len() {
            bail!("{maker:?} measured {} operations only", costs.len());
        }
        Ok(costs)
    }
}

fn build_client() -> Result<PathBuf> {
    let output = workspace::cargo()
        .args(["bench", "--quiet", "--no-run", "--message-format=json"])
        .args(["-p", "xtask", "--bench", "gvisor"])
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo bench")?;
    ensure!(output.status.success(), "the benchmark does not build");
    workspace::executable(&output.stdout, "gvisor").context("cargo built no benchmark")
}

fn socket_of(dir: &Path, maker: Maker, donate: bool) -> PathBuf {
    dir.join(format!("{maker:?}-{donate}"))
}

fn report(samples: &Samples) -> String {
    let mut head = vec!["operation".to_owned()];
    for (client, server) in PAIRS {
        head.push(format!("{client:?}+{server:?}"));
        if (client, server) != PAIRS[0] {
            head.push("times".to_owned());
        }
    }
    let mut lines = vec![head];
    for operation in CALLS.into_iter().chain(DATA) {
        let base = median(samples.get(&(operation, PAIRS[0])));
        let mut line = vec![operation.to_owned()];
        for pair in PAIRS {
            let cost = median(samples.get(&(operation, pair)));
            line.push(format!("{:.2}", cost / 1000.0));
            if pair != PAIRS[0] {
                line.push(format!("{:.2}", cost / base));
            }
        }
        lines.push(line);
    }
    table(&lines)
}

fn median(samples: Option<&Vec<f64>>) -> f64 {
    let mut sorted = samples.cloned().unwrap_or_default();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_stands_beside_go_with_go() {
        let mut samples = Samples::new();
        for (index, pair) in PAIRS.into_iter().enumerate() {
            let cost = 1000.0 * (index + 1) as f64;
            samples.insert(("stat", pair), vec![cost, 9e9, 0.0]);
        }
        let text = report(&samples);
        let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            words,
            [
                "stat", "1.00", "2.00", "2.00", "3.00", "3.00", "4.00", "4.00"
            ]
        );
        assert_eq!(text.lines().count(), 1 + CALLS.len() + DATA.len());
    }
}
