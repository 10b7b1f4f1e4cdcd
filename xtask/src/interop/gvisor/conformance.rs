//! gVisor's own client against our server, and the same program against gVisor's gofer.
//!
//! The program says of each step what came out and what should have. Against our server both must
//! be the same. Against the gofer nothing is judged; but what came out must be what came out of
//! ours, but for a committed list of differences. So a client can tell the two apart by nothing
//! that is not on that list.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::go::Programs;
use super::known::{DIFFERENCES, Difference};
use crate::outcome::{CaseResult, CellResult, CellState, Verdict, seconds};
use crate::process::Server;
use crate::suite::Selection;
use crate::workspace::{self, Profile};

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
/// Seconds that a case may take.
const CASE_LIMIT: &str = "60";

const OURS: &str = "gvisor client/own server";
const BESIDE: &str = "gvisor client/gofer as own";

/// How a directory is served: what the program calls it, the flags of our server, and the
/// gofer's.
struct Export {
    name: &'static str,
    own: &'static [&'static str],
    gofer: &'static [&'static str],
}

const EXPORTS: [Export; 3] = [
    Export {
        name: "rw",
        own: &["--host-uds", "all"],
        gofer: &["-host-uds", "all"],
    },
    Export {
        name: "ro",
        own: &["--host-uds", "all", "--readonly"],
        gofer: &["-host-uds", "all", "-ro"],
    },
    Export {
        name: "closed",
        own: &[],
        gofer: &[],
    },
];

/// A line of the program.
#[derive(Deserialize)]
pub(super) struct Line {
    #[serde(default)]
    step: String,
    #[serde(default)]
    got: String,
    #[serde(default)]
    want: String,
    #[serde(default)]
    end: bool,
}

/// What a case saw of one server, step by step.
pub(super) struct Seen {
    steps: Vec<Line>,
    /// Why there may be less than all of it.
    cut_short: Option<String>,
    log: String,
}

/// Prints the cases that `selection` has.
pub(super) fn list(programs: &Programs, selection: &Selection) -> Result<()> {
    for export in &EXPORTS {
        for row in [OURS, BESIDE] {
            let cell = format!("{row}/{}", export.name);
            for case in cases(programs, export, &cell, selection)? {
                println!("{cell}::{case}");
            }
        }
    }
    Ok(())
}

/// Runs the cases that `selection` has: two cells for each export.
pub(super) fn run(programs: &Programs, selection: &Selection) -> Result<Vec<CellResult>> {
    let differences: Vec<&Difference> = DIFFERENCES.iter().collect();
    let mut server = None;
    let mut cells = Vec::new();
    for export in &EXPORTS {
        let mut ours = cell(OURS, export);
        let mut beside = cell(BESIDE, export);
        let judged = cases(programs, export, &ours.name(), selection)?;
        let compared = cases(programs, export, &beside.name(), selection)?;
        let mut all = judged.clone();
        all.extend(
            compared
                .iter()
                .filter(|case| !judged.contains(case))
                .cloned(),
        );
        for case in &all {
            let start = Instant::now();
            let server = match &server {
                Some(server) => server,
                None => server.insert(workspace::build("gofer-server-mock", Profile::Dev)?),
            };
            let own = run_case(programs, own_command(server, export), case)?;
            if judged.contains(case) {
                add(&mut ours, start, vec![(case.clone(), judge(&own))]);
            }
            if compared.contains(case) {
                let start = Instant::now();
                let gofer = run_case(programs, gofer_command(programs, export), case)?;
                add(
                    &mut beside,
                    start,
                    compare(case, &own, &gofer, &differences),
                );
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

fn cell(row: &str, export: &Export) -> CellResult {
    CellResult {
        row: row.to_owned(),
        column: export.name.to_owned(),
        state: CellState::Ran,
        cases: Vec::new(),
        seconds: 0.0,
    }
}

fn add(cell: &mut CellResult, start: Instant, results: Vec<(String, Verdict)>) {
    let took = seconds(start.elapsed());
    cell.seconds += took;
    cell.cases
        .extend(results.into_iter().map(|(case, verdict)| CaseResult {
            case,
            verdict,
            seconds: took,
        }));
}

fn cases(
    programs: &Programs,
    export: &Export,
    cell: &str,
    selection: &Selection,
) -> Result<Vec<String>> {
    let output = programs.client().args(["cases", export.name]).output()?;
    ensure!(output.status.success(), "the client lists no cases");
    let text = String::from_utf8(output.stdout)?;
    Ok(text
        .lines()
        .filter(|case| selection.has(cell, case))
        .map(str::to_owned)
        .collect())
}

/// Our server, but for where it listens and what it serves.
fn own_command(server: &Path, export: &Export) -> impl Fn(&Path, &Path) -> Command {
    move |socket, dir| {
        let mut command = Command::new(server);
        command.args(["serve", "--die-with-parent", "--protocol", "lisafs"]);
        command.args(export.own).arg("--root").arg(dir);
        let address = format!("unix:{}", socket.display());
        command.args(["--listen", &address]);
        command
    }
}

fn gofer_command(programs: &Programs, export: &Export) -> impl Fn(&Path, &Path) -> Command {
    move |socket, dir| {
        let mut command = programs.server();
        command.args(export.gofer).args([socket, dir]);
        command
    }
}

/// Runs a case against a server of its own: the gofer closes a descriptor twice after some cases,
/// which must not hit the next.
fn run_case(
    programs: &Programs,
    command: impl Fn(&Path, &Path) -> Command,
    case: &str,
) -> Result<Seen> {
    let base = tempfile::Builder::new().prefix("gofer-go-").tempdir()?;
    let (socket, dir) = (base.path().join("socket"), base.path().join("export"));
    fs::create_dir(&dir)?;
    let mut server = Server::start(command(&socket, &dir), None)?;
    server.ready_line(PATIENCE)?;
    ask(&mut server, programs.client(), case, &socket, &dir)
}

/// What `client` sees of a server, which serves `dir`.
pub(super) fn ask(
    server: &mut Server,
    client: Command,
    case: &str,
    socket: &Path,
    dir: &Path,
) -> Result<Seen> {
    let output = Command::new("timeout")
        .arg(CASE_LIMIT)
        .arg(client.get_program())
        .args(["run", case])
        .args([socket, dir])
        .stdin(Stdio::null())
        .output()
        .context("run the client")?;
    let mut steps = read_lines(&output.stdout)?;
    let ended = steps.last().is_some_and(|line| line.end);
    steps.retain(|line| !line.end);
    let said = String::from_utf8_lossy(&output.stderr);
    let cut_short = match ended && output.status.success() {
        true if server.is_running() => None,
        true => Some("the server has ended".to_owned()),
        false => Some(format!("the client ended with {}\n{said}", output.status)),
    };
    Ok(Seen {
        steps,
        cut_short,
        log: server.log(),
    })
}

pub(super) fn read_lines(output: &[u8]) -> Result<Vec<Line>> {
    output
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).context("the client's output"))
        .collect()
}

/// Everything must have come out as it should.
pub(super) fn judge(seen: &Seen) -> Verdict {
    let wrong = seen.steps.iter().filter(|line| line.got != line.want);
    let mut why: Vec<String> = wrong
        .map(|line| format!("{}: {}, want {}", line.step, line.got, line.want))
        .collect();
    why.extend(seen.cut_short.clone());
    if seen.steps.is_empty() {
        why.push("no step was taken".to_owned());
    }
    match why.is_empty() {
        true => Verdict::Passed,
        false => Verdict::Failed(format!("{}\n{}", why.join("\n"), seen.log)),
    }
}

/// The same must have come out of both, but for what is listed. One result for the case, and one
/// for each listed difference.
pub(super) fn compare(
    case: &str,
    own: &Seen,
    gofer: &Seen,
    differences: &[&Difference],
) -> Vec<(String, Verdict)> {
    let (ours, theirs) = (by_step(own), by_step(gofer));
    let listed: Vec<&&Difference> = differences
        .iter()
        .filter(|difference| difference.case == case)
        .collect();
    let mut met = vec![false; listed.len()];
    let mut why = Vec::new();
    let mut steps: Vec<&&str> = ours.keys().chain(theirs.keys()).collect();
    steps.sort_unstable();
    steps.dedup();
    for step in steps {
        let (one, other) = (ours.get(*step), theirs.get(*step));
        if one == other {
            continue;
        }
        match listed.iter().position(|listed| listed.covers(step)) {
            Some(index) => met[index] = true,
            None => why.push(format!("{step}: {one:?} from us, {other:?} from the gofer")),
        }
    }
    why.extend(own.cut_short.iter().map(|text| format!("own: {text}")));
    why.extend(gofer.cut_short.iter().map(|text| format!("gofer: {text}")));
    let verdict = match why.is_empty() {
        true => Verdict::Passed,
        false => Verdict::Failed(format!("{}\n{}", why.join("\n"), gofer.log)),
    };
    let mut results = vec![(case.to_owned(), verdict)];
    for (listed, met) in listed.iter().zip(met) {
        let verdict = match met {
            true => Verdict::Known(listed.reason.to_owned()),
            false => Verdict::Failed(format!(
                "the same from both, though it is listed: {}",
                listed.reason
            )),
        };
        results.push((format!("{case}: {}", listed.step), verdict));
    }
    results
}

fn by_step(seen: &Seen) -> BTreeMap<&str, &str> {
    let steps = seen.steps.iter();
    steps
        .map(|line| (line.step.as_str(), line.got.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(lines: &str) -> Seen {
        let mut steps = read_lines(lines.as_bytes()).unwrap();
        let ended = steps.last().is_some_and(|line| line.end);
        steps.retain(|line| !line.end);
        Seen {
            steps,
            cut_short: (!ended).then(|| "killed".to_owned()),
            log: String::new(),
        }
    }

    const LISTED: &[Difference] = &[Difference {
        case: "names",
        step: "mk*",
        reason: "it is old",
    }];

    const END: &str = r#"{"case":"names","end":true}"#;

    #[test]
    fn a_case_passes_when_every_step_came_out_as_it_should() {
        let good = r#"{"case":"names","step":"mkdir","got":"ok","want":"ok"}"#;
        let bad = r#"{"case":"names","step":"mkdir","got":"EIO","want":"ok"}"#;
        assert_eq!(judge(&seen(&format!("{good}\n{END}"))), Verdict::Passed);
        assert!(matches!(
            judge(&seen(&format!("{bad}\n{END}"))),
            Verdict::Failed(_)
        ));
        assert!(matches!(judge(&seen(good)), Verdict::Failed(_)));
        assert!(matches!(judge(&seen(END)), Verdict::Failed(_)));
    }

    #[test]
    fn servers_may_differ_only_where_it_is_listed() {
        let step = |name: &str, got: &str| {
            let line = format!(r#"{{"case":"names","step":"{name}","got":"{got}","want":"ok"}}"#);
            seen(&format!("{line}\n{END}"))
        };
        let verdicts = |case: &str, own: &Seen, gofer: &Seen| -> Vec<&'static str> {
            let listed: Vec<&Difference> = LISTED.iter().collect();
            compare(case, own, gofer, &listed)
                .into_iter()
                .map(|(_, verdict)| match verdict {
                    Verdict::Passed => "passed",
                    Verdict::Known(_) => "known",
                    _ => "failed",
                })
                .collect()
        };
        let (good, bad) = (step("mkdir", "ok"), step("mkdir", "EIO"));
        assert_eq!(verdicts("names", &good, &bad), ["passed", "known"]);
        assert_eq!(verdicts("names", &good, &good), ["passed", "failed"]);
        assert_eq!(verdicts("other", &good, &good), ["passed"]);
        assert_eq!(verdicts("other", &good, &bad), ["failed"]);
        // A step that only one server came to is a difference, too.
        let more = step("stat", "ok");
        assert_eq!(verdicts("other", &more, &seen(END)), ["failed"]);
    }
}
