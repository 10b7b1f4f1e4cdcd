//! gVisor's package p9 at every level of its dialect: our client against its server, and its client
//! against ours.
//!
//! Our client runs the behaviour suite, at each level in one of the cache modes. gVisor's client
//! runs a conformance program: against our server each step must come out as it should, and at some
//! levels against gVisor's own the same, but for a committed list of differences.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use gofer_vfs::{AttrMask, InteropMode};

use super::conformance::{Seen, ask, compare, judge};
use super::go::Programs;
use super::known::{Difference, P9_DIFFERENCES, P9_LEVEL_10, P9_PLAIN};
use super::probe::{CALL, Probe, works};
use super::server::{Gofer, Which};
use crate::outcome::{CaseResult, CellResult, CellState, Verdict, seconds};
use crate::process::Server;
use crate::suite::{Cell, Selection};
use crate::workspace::{self, Profile};

/// Plain 9P2000.L is 0.
const LEVELS: std::ops::RangeInclusive<u32> = 0..=13;
/// Those at which gVisor's client is run on gVisor's server as well: the plain dialect, the last one
/// without channels, and the newest.
const COMPARED: [u32; 3] = [0, 7, 13];
/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// What each connection of our client has to use: a channel for its requests, or the socket.
const CHANNELS: [(&str, &str, bool); 4] = [
    ("level 7 has none", "version=9P2000.L.Google.7", false),
    ("level 8 has them", "version=9P2000.L.Google.8", true),
    ("level 13 has them", "version=9P2000.L.Google.13", true),
    (
        "level 13 does without",
        "version=9P2000.L.Google.13,channels=0",
        false,
    ),
];

const CHANNELS_OF: &str = "own client/p9 server";
const OURS: &str = "gvisor p9 client/own server";
const BESIDE: &str = "gvisor p9 client/p9 as own";

/// Our client: a cell for each level.
pub(super) fn cells(programs: &Arc<Programs>) -> Vec<Cell> {
    let modes = InteropMode::ALL.into_iter().cycle();
    let cell = |(level, mode): (u32, InteropMode)| {
        let programs = programs.clone();
        let version = match level {
            0 => "version=9P2000.L".to_owned(),
            level => format!("version=9P2000.L.Google.{level}"),
        };
        Cell {
            row: format!("p9 server/level {level}"),
            mode,
            place: Ok(Box::new(move || {
                Ok(Box::new(Gofer::start(
                    &programs,
                    Which::P9,
                    &version,
                    mode,
                )?))
            })),
            known: match level {
                0 => P9_PLAIN,
                10 => P9_LEVEL_10,
                _ => &[],
            },
            more: &[],
        }
    };
    LEVELS.zip(modes).map(cell).collect()
}

/// Prints the cases of gVisor's client that `selection` has.
pub(super) fn list(programs: &Programs, selection: &Selection) -> Result<()> {
    let cell = cell(CHANNELS_OF, "channels").name();
    for (case, ..) in CHANNELS
        .iter()
        .filter(|(case, ..)| selection.has(&cell, case))
    {
        println!("{cell}::{case}");
    }
    let cases = cases(programs)?;
    for level in LEVELS {
        for row in rows(level) {
            let cell = at_level(row, level).name();
            for case in cases.iter().filter(|case| selection.has(&cell, case)) {
                println!("{cell}::{case}");
            }
        }
    }
    Ok(())
}

/// Runs what `selection` has beside the behaviour suite.
pub(super) fn run(programs: &Programs, selection: &Selection) -> Result<Vec<CellResult>> {
    let mut cells = Vec::new();
    cells.extend(run_channels(programs, selection));
    cells.extend(run_client(programs, selection)?);
    Ok(cells)
}

/// Whether our client uses the channels of gVisor's server, as the server sees it.
fn run_channels(programs: &Programs, selection: &Selection) -> Option<CellResult> {
    let start = Instant::now();
    let mut cell = cell(CHANNELS_OF, "channels");
    let name = cell.name();
    for (case, options, expected) in CHANNELS {
        if selection.has(&name, case) {
            let verdict = match uses_channels(programs, options, expected) {
                Ok(()) => Verdict::Passed,
                Err(error) => Verdict::Failed(format!("{error:#}")),
            };
            cell.cases.push(result(case.to_owned(), verdict));
        }
    }
    cell.seconds = seconds(start.elapsed());
    (!cell.cases.is_empty()).then(|| {
        println!("{}", cell.line());
        cell
    })
}

fn uses_channels(programs: &Programs, options: &str, expected: bool) -> Result<()> {
    let mut command = programs.p9_server();
    command.arg("-debug");
    let probe = Probe::start(command, options)?;
    for _ in 0..3 {
        works("getattr", probe.root.attr(&CALL, AttrMask::BASIC))?;
    }
    let log = probe.server.log();
    let received = |from: &str| {
        let lines = log.lines().filter(|line| line.contains("Tgetattr"));
        lines.filter(|line| line.contains(from)).count()
    };
    let (channel, socket) = (received("recv [channel "), received("recv [FD "));
    let (right, wrong) = match expected {
        true => (channel, socket),
        false => (socket, channel),
    };
    ensure!(
        right >= 3 && wrong == 0,
        "{channel} requests over a channel, {socket} over the socket\n{log}"
    );
    Ok(())
}

/// Runs gVisor's client on what `selection` has: one or two cells for each level.
fn run_client(programs: &Programs, selection: &Selection) -> Result<Vec<CellResult>> {
    let cases = cases(programs)?;
    let chosen = |cell: &CellResult| -> Vec<String> {
        let has = |case: &&String| selection.has(&cell.name(), case);
        cases.iter().filter(has).cloned().collect()
    };
    let (mut server, mut cells) = (None, Vec::new());
    for level in LEVELS {
        let (mut ours, mut beside) = (at_level(OURS, level), at_level(BESIDE, level));
        let judged = chosen(&ours);
        let compared = match COMPARED.contains(&level) {
            true => chosen(&beside),
            false => Vec::new(),
        };
        let either = |case: &&String| judged.contains(case) || compared.contains(case);
        let all: Vec<&String> = cases.iter().filter(either).collect();
        if all.is_empty() {
            continue;
        }
        let server = match &server {
            Some(server) => server,
            None => server.insert(workspace::build("gofer-server-mock", Profile::Dev)?),
        };
        let start = Instant::now();
        let own = see_all(programs, Maker::Ours(server), level, &all)?;
        ours.seconds = seconds(start.elapsed());
        let start = Instant::now();
        let gos = match compared.is_empty() {
            true => Vec::new(),
            false => see_all(programs, Maker::Go, level, &all)?,
        };
        beside.seconds = seconds(start.elapsed());
        for (index, case) in all.into_iter().enumerate() {
            if judged.contains(case) {
                ours.cases.push(result(case.clone(), judge(&own[index])));
            }
            if compared.contains(case) {
                let results = compare(case, &own[index], &gos[index], &listed(level));
                let results = results.into_iter();
                beside
                    .cases
                    .extend(results.map(|(case, verdict)| result(case, verdict)));
            }
        }
        for cell in [ours, beside] {
            if !cell.cases.is_empty() {
                println!("{}", cell.line());
                cells.push(cell);
            }
        }
    }
    Ok(cells)
}

fn rows(level: u32) -> &'static [&'static str] {
    match COMPARED.contains(&level) {
        true => &[OURS, BESIDE],
        false => &[OURS],
    }
}

fn listed(level: u32) -> Vec<&'static Difference> {
    let here = |(from, to, _): &&(u32, u32, Difference)| (*from..=*to).contains(&level);
    let found = P9_DIFFERENCES.iter().filter(here);
    found.map(|(_, _, difference)| difference).collect()
}

fn at_level(row: &str, level: u32) -> CellResult {
    cell(row, &format!("level {level}"))
}

fn cell(row: &str, column: &str) -> CellResult {
    CellResult {
        row: row.to_owned(),
        column: column.to_owned(),
        state: CellState::Ran,
        cases: Vec::new(),
        seconds: 0.0,
    }
}

fn result(case: String, verdict: Verdict) -> CaseResult {
    CaseResult {
        case,
        verdict,
        seconds: 0.0,
    }
}

fn cases(programs: &Programs) -> Result<Vec<String>> {
    let output = programs.p9_client().arg("cases").output()?;
    ensure!(output.status.success(), "the client lists no cases");
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Whose server.
#[derive(Clone, Copy)]
enum Maker<'a> {
    /// The program.
    Ours(&'a Path),
    Go,
}

fn command(programs: &Programs, maker: Maker<'_>, socket: &Path, dir: &Path) -> Command {
    match maker {
        Maker::Go => {
            let mut command = programs.p9_server();
            command.args([socket, dir]);
            command
        }
        Maker::Ours(program) => {
            let mut command = Command::new(program);
            command.args(["serve", "--die-with-parent", "--protocol", "9p", "--root"]);
            let address = format!("unix:{}", socket.display());
            command.arg(dir).args(["--listen", &address]);
            command
        }
    }
}

/// What each case sees of one server. Each has a connection and a directory of its own.
fn see_all(
    programs: &Programs,
    maker: Maker<'_>,
    level: u32,
    cases: &[&String],
) -> Result<Vec<Seen>> {
    let base = tempfile::Builder::new().prefix("gofer-go-").tempdir()?;
    let (socket, dir) = (base.path().join("socket"), base.path().join("export"));
    fs::create_dir(&dir)?;
    let mut server = Server::start(command(programs, maker, &socket, &dir), None)?;
    server.ready_line(PATIENCE)?;
    let mut seen = Vec::new();
    for case in cases {
        let case = format!("{case}@{level}");
        seen.push(ask(
            &mut server,
            programs.p9_client(),
            &case,
            &socket,
            &dir,
        )?);
    }
    Ok(seen)
}
