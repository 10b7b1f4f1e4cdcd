//! gVisor's package p9 at every level of its dialect: our client against its server, and its client
//! against ours.
//!
//! Our client runs the behaviour suite, at each level in one of the cache modes. gVisor's client
//! runs a conformance program: against our server each step must come out as it should, and against
//! gVisor's own the same, but for a committed list of differences.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use gofer_vfs::InteropMode;

use super::conformance::{Seen, ask, compare, judge};
use super::go::Programs;
use super::known::{Difference, P9_DIFFERENCES, P9_LEVEL_10, P9_PLAIN};
use super::server::{Gofer, Which};
use crate::outcome::{CaseResult, CellResult, CellState, Verdict, seconds};
use crate::process::Server;
use crate::suite::{Cell, Selection};
use crate::workspace::{self, Profile};

/// Plain 9P2000.L is 0.
const LEVELS: std::ops::RangeInclusive<u32> = 0..=13;
/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

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
        }
    };
    LEVELS.zip(modes).map(cell).collect()
}

/// Prints the cases of gVisor's client that `selection` has.
pub(super) fn list(programs: &Programs, selection: &Selection) -> Result<()> {
    let cases = cases(programs)?;
    for level in LEVELS {
        for row in [OURS, BESIDE] {
            let cell = cell(row, level).name();
            for case in cases.iter().filter(|case| selection.has(&cell, case)) {
                println!("{cell}::{case}");
            }
        }
    }
    Ok(())
}

/// Runs gVisor's client on what `selection` has: two cells for each level.
pub(super) fn run(programs: &Programs, selection: &Selection) -> Result<Vec<CellResult>> {
    let cases = cases(programs)?;
    let chosen = |cell: &CellResult| -> Vec<String> {
        let has = |case: &&String| selection.has(&cell.name(), case);
        cases.iter().filter(has).cloned().collect()
    };
    let (mut server, mut cells) = (None, Vec::new());
    for level in LEVELS {
        let (mut ours, mut beside) = (cell(OURS, level), cell(BESIDE, level));
        let (judged, compared) = (chosen(&ours), chosen(&beside));
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

fn listed(level: u32) -> Vec<&'static Difference> {
    let here = |(from, to, _): &&(u32, u32, Difference)| (*from..=*to).contains(&level);
    let found = P9_DIFFERENCES.iter().filter(here);
    found.map(|(_, _, difference)| difference).collect()
}

fn cell(row: &str, level: u32) -> CellResult {
    CellResult {
        row: row.to_owned(),
        column: format!("level {level}"),
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
