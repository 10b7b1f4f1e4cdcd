//! gVisor's client of package p9, with gVisor's server and with ours: the newest dialect, requests
//! over channels, one call at a time.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xtask::outcome::table;
use xtask::process::Server;

use super::{micros, ratio};
use crate::{Tree, UNBOXED};

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the servers take turns.
const ROUNDS: usize = 7;

/// As the client calls them.
const OPERATIONS: [&str; 9] = [
    "getattr",
    "walk-1+clunk",
    "walk-8+clunk",
    "open+clunk",
    "read-4k",
    "write-4k",
    "read-msize",
    "write-msize",
    "create+unlink",
];

/// Nanoseconds by operation, one for each round: with our server, and with gVisor's.
type Samples = BTreeMap<&'static str, [Vec<f64>; 2]>;

/// The table. `programs` is the directory of gVisor's client and server.
pub(super) fn rows(tree: &Tree, programs: &Path, only: &str) -> Result<String> {
    let operations: Vec<&'static str> = OPERATIONS
        .into_iter()
        .filter(|operation| format!("gvisor/{operation}").contains(only))
        .collect();
    let mut samples = Samples::new();
    if !operations.is_empty() {
        let sockets = [tree.path("ours.socket"), tree.path("gvisor.socket")];
        let _servers = [
            start(own_command(tree, &sockets[0])?)?,
            start(gvisor_command(tree, programs, &sockets[1]))?,
        ];
        for _ in 0..ROUNDS {
            for (server, socket) in sockets.iter().enumerate() {
                let mut client = Command::new(programs.join("p9client"));
                client.arg("bench").arg(socket).args(&operations);
                for (operation, cost) in operations.iter().zip(costs(client, operations.len())?) {
                    samples.entry(operation).or_default()[server].push(cost);
                }
            }
        }
        for socket in &sockets {
            let _ = std::fs::remove_file(socket);
        }
    }
    let mut lines = vec![
        ["us by gVisor's client", "ours", "gVisor", "gVisor/ours"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for operation in operations {
        let [ours, theirs] = samples.remove(operation).unwrap_or_default().map(median);
        let mut line = vec![operation.to_owned(), micros(ours), micros(theirs)];
        line.push(ratio(Some(theirs / ours)));
        lines.push(line);
    }
    Ok(table(&lines))
}

fn start(command: Command) -> Result<Server> {
    let mut server = Server::start(command, None)?;
    server.ready_line(PATIENCE)?;
    Ok(server)
}

/// This program as our server.
fn own_command(tree: &Tree, socket: &Path) -> Result<Command> {
    let mut listen = OsStr::new("unix:").to_os_string();
    listen.push(socket);
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "--die-with-parent", "--protocol", "9p", "--root"]);
    command.arg(tree.path("")).arg("--listen").arg(listen);
    command.args(UNBOXED);
    Ok(command)
}

fn gvisor_command(tree: &Tree, programs: &Path, socket: &Path) -> Command {
    let mut command = Command::new(programs.join("p9server"));
    command.arg(socket).arg(tree.path(""));
    command
}

/// What the client prints: a line for each operation, its name and its cost in nanoseconds.
fn costs(mut client: Command, operations: usize) -> Result<Vec<f64>> {
    let output = client
        .stdin(Stdio::null())
        .output()
        .context("run gVisor's client")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let costs: Option<Vec<f64>> = text
        .lines()
        .map(|line| line.split_once(' ')?.1.parse().ok())
        .collect();
    let costs = costs.with_context(|| format!("gVisor's client says {text}"))?;
    ensure!(costs.len() == operations, "gVisor's client says {text}");
    Ok(costs)
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
