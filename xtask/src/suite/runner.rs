//! Runs cells side by side, and in each the cases one after the other.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use anyhow::Result;
use gofer_vfs::testing::HostOutside;
use gofer_vfs::testing::behaviour::{self, Case, Fixture, Remount};

use super::progress::Progress;
use super::{Cell, Health, Options, Place, Selection};
use crate::outcome::{CaseResult, CellResult, CellState, Outcome, Verdict, seconds};
use crate::watchdog::{self, End};

/// Runs what `options` chooses of `cells`.
pub fn run(options: &Options, cells: &[Cell]) -> Outcome {
    let start = Instant::now();
    let selection = Selection::new(&options.only);
    let chosen: Vec<(&Cell, Vec<&'static Case>)> = cells
        .iter()
        .map(|cell| (cell, chosen_cases(&selection, cell)))
        .filter(|(_, cases)| !cases.is_empty())
        .collect();
    let running =
        |(cell, cases): &(&Cell, Vec<_>)| if cell.place.is_ok() { cases.len() } else { 0 };
    let progress = Progress::new(chosen.iter().map(running).sum());
    let next = AtomicUsize::new(0);
    let (sender, results) = channel();
    thread::scope(|scope| {
        for _ in 0..options.jobs().min(chosen.len()) {
            let sender = sender.clone();
            let (chosen, next, progress) = (&chosen, &next, &progress);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((cell, cases)) = chosen.get(index) else {
                        break;
                    };
                    let result = run_cell(options, cell, cases, progress);
                    progress.cell_done(&result);
                    // The receiver outlives this scope.
                    let _ = sender.send((index, result));
                }
            });
        }
    });
    drop(sender);
    progress.finish();
    let mut cells: Vec<(usize, CellResult)> = results.into_iter().collect();
    cells.sort_by_key(|(index, _)| *index);
    Outcome {
        cells: cells.into_iter().map(|(_, cell)| cell).collect(),
        allow_missing: options.allow_missing.clone(),
        seconds: seconds(start.elapsed()),
    }
}

/// Prints what `options` chooses of `cells`, and why some of it does not apply.
pub fn list(options: &Options, cells: &[Cell]) -> Result<()> {
    let selection = Selection::new(&options.only);
    for cell in cells {
        let name = cell.name();
        let cases = chosen_cases(&selection, cell);
        let maker = match &cell.place {
            _ if cases.is_empty() => continue,
            Ok(maker) => maker,
            Err(reason) => {
                println!("{name}: not applicable: {reason}");
                continue;
            }
        };
        // Whether a case applies depends on what the server can do: ask one.
        let mut place = maker()?;
        let (fixture, _) = fixture(cell, place.as_mut())?;
        for case in cases {
            match (case.applies)(&fixture) {
                Ok(()) => println!("{name}::{}", case.name),
                Err(reason) => println!("{name}::{}: inapplicable: {reason}", case.name),
            }
        }
    }
    Ok(())
}

fn chosen_cases(selection: &Selection, cell: &Cell) -> Vec<&'static Case> {
    let name = cell.name();
    behaviour::cases()
        .iter()
        .chain(cell.more)
        .filter(|case| selection.has(&name, case.name))
        .collect()
}

fn run_cell(
    options: &Options,
    cell: &Cell,
    cases: &[&'static Case],
    progress: &Progress,
) -> CellResult {
    let start = Instant::now();
    let mut result = CellResult {
        row: cell.row.clone(),
        column: cell.mode.name().to_owned(),
        state: CellState::Ran,
        cases: Vec::new(),
        seconds: 0.0,
    };
    let maker = match &cell.place {
        Ok(maker) => maker,
        Err(reason) => {
            result.state = CellState::NotApplicable((*reason).to_owned());
            return result;
        }
    };
    let mut place = match maker() {
        Ok(place) => place,
        Err(error) => {
            result.state = CellState::CouldNotRun(format!("{error:#}"));
            return result;
        }
    };
    let name = cell.name();
    for case in cases {
        let start = Instant::now();
        let (verdict, lost) = run_case(options, cell, place.as_mut(), case);
        result.cases.push(CaseResult {
            case: case.name.to_owned(),
            verdict,
            seconds: seconds(start.elapsed()),
        });
        progress.case_done(&name);
        if lost {
            match maker() {
                Ok(fresh) => place = fresh,
                Err(error) => {
                    result.state = CellState::CouldNotRun(format!("starting again: {error:#}"));
                    break;
                }
            }
        }
    }
    if let Err(error) = place.finish() {
        result.cases.push(CaseResult {
            case: "the server ends when asked".to_owned(),
            verdict: Verdict::Failed(with_log(&format!("{error:#}"), place.as_ref())),
            seconds: 0.0,
        });
    }
    result.seconds = seconds(start.elapsed());
    result
}

/// Runs one case; the flag says that the place is of no further use.
fn run_case(
    options: &Options,
    cell: &Cell,
    place: &mut dyn Place,
    case: &'static Case,
) -> (Verdict, bool) {
    let (fixture, kill) = match fixture(cell, place) {
        Ok(made) => made,
        Err(error) => {
            let why = with_log(&format!("no mount: {error:#}"), place);
            return (Verdict::Failed(why), true);
        }
    };
    if let Err(why) = (case.applies)(&fixture) {
        drop(fixture);
        return (
            Verdict::Inapplicable(why.to_owned()),
            place.check().is_err(),
        );
    }
    // The fixture, and with it every mount, is gone when the case is over.
    let end = watchdog::run(options.case_limit(), move || case.run_checked(fixture));
    let failure = match end {
        End::Returned(Ok(())) => None,
        End::Returned(Err(failure)) => Some(failure.to_string()),
        End::Panicked(why) => Some(format!("panic: {why}")),
        End::TimedOut => {
            let why = format!("no end within {:?}", options.case_limit());
            let why = with_log(&why, place);
            // Its calls fail now, so its thread may still come to an end.
            kill();
            return (Verdict::Failed(why), true);
        }
    };
    let health = place.check();
    let lost = !matches!(health, Ok(Health::Well));
    let failure = match (failure, health) {
        (Some(why), Err(error)) => Some(format!("{why}\nand the server: {error:#}")),
        (None, Err(error)) => Some(format!("the server: {error:#}")),
        (failure, Ok(_)) => failure,
    };
    (judge(cell, case.name, failure, place), lost)
}

/// Weighs a failure, or its absence, against what the peer is known not to do.
fn judge(cell: &Cell, case: &str, failure: Option<String>, place: &dyn Place) -> Verdict {
    let known = cell
        .known
        .iter()
        .find(|known| known.covers(case, cell.mode));
    match (failure, known) {
        (None, None) => Verdict::Passed,
        (Some(_), Some(known)) => Verdict::Known(known.reason.to_owned()),
        (Some(why), None) => Verdict::Failed(with_log(&why, place)),
        (None, Some(known)) if known.sometimes => Verdict::Passed,
        (None, Some(known)) => Verdict::Failed(format!(
            "passes, though it is listed as known to fail: {}",
            known.reason
        )),
    }
}

/// Mounts a fresh directory, and says how to kill its server.
fn fixture(cell: &Cell, place: &mut dyn Place) -> Result<(Fixture, Arc<dyn Fn() + Send + Sync>)> {
    let site = place.prepare()?;
    fs::set_permissions(&site.dir, fs::Permissions::from_mode(0o755))?;
    let mount = site.mount.clone();
    let fixture = Fixture {
        fs: mount(&Remount::default())?,
        outside: Arc::new(HostOutside::new(site.dir)),
        mode: cell.mode,
        server: place.traits(),
        mount: Arc::new(move |how| mount(how).map_err(|error| format!("{error:#}"))),
        kill: Some(site.kill.clone()),
        others: Default::default(),
    };
    Ok((fixture, site.kill))
}

fn with_log(why: &str, place: &dyn Place) -> String {
    let log = place.log();
    match log.trim() {
        "" => why.to_owned(),
        log => format!("{why}\nthe server said:\n{log}"),
    }
}
