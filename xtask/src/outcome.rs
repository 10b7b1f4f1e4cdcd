//! What came out of running the behaviour suite in a number of cells, and how it is shown.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

/// How one case went in one cell.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "verdict", content = "why", rename_all = "snake_case")]
pub enum Verdict {
    /// It held.
    Passed,
    /// It did not, or took too long.
    Failed(String),
    /// It makes no sense in this cell.
    Inapplicable(String),
    /// It fails for a reason on the committed list of what the peer cannot do.
    Known(String),
}

/// One case in one cell.
#[derive(Debug, Serialize)]
pub struct CaseResult {
    /// Name of the case.
    pub case: String,
    /// How it went.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How long it took.
    pub seconds: f64,
}

/// What became of a cell.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "snake_case")]
pub enum CellState {
    /// Its cases ran.
    Ran,
    /// There is no such combination.
    NotApplicable(String),
    /// It should have run and could not.
    CouldNotRun(String),
}

/// One cell: a row and a column of the grid.
#[derive(Debug, Serialize)]
pub struct CellResult {
    /// Peer or protocol and transport.
    pub row: String,
    /// Cache mode.
    pub column: String,
    /// What became of it.
    #[serde(flatten)]
    pub state: CellState,
    /// Every case, in the order of the suite.
    pub cases: Vec<CaseResult>,
    /// How long it took.
    pub seconds: f64,
}

impl CellResult {
    /// `row/column`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.row, self.column)
    }

    fn count(&self, of: fn(&Verdict) -> bool) -> usize {
        self.cases.iter().filter(|case| of(&case.verdict)).count()
    }

    fn passed(&self) -> usize {
        self.count(|verdict| matches!(verdict, Verdict::Passed))
    }

    fn failed(&self) -> usize {
        self.count(|verdict| matches!(verdict, Verdict::Failed(_)))
    }

    /// Cases that say nothing here: inapplicable, or known not to work with this peer.
    fn set_aside(&self) -> usize {
        self.cases.len() - self.passed() - self.failed()
    }

    /// One line for a log.
    pub fn line(&self) -> String {
        let name = self.name();
        match &self.state {
            CellState::NotApplicable(reason) => format!("cell {name} ... not applicable: {reason}"),
            CellState::CouldNotRun(reason) => format!("cell {name} ... COULD NOT RUN: {reason}"),
            CellState::Ran => format!(
                "cell {name} ... {} ({} passed, {} failed, {} inapplicable, {:.1}s)",
                if self.failed() == 0 { "ok" } else { "FAILED" },
                self.passed(),
                self.failed(),
                self.set_aside(),
                self.seconds
            ),
        }
    }

    fn square(&self) -> String {
        match &self.state {
            CellState::NotApplicable(_) => "n/a".to_owned(),
            CellState::CouldNotRun(_) => "NOT RUN".to_owned(),
            CellState::Ran => {
                format!("{}/{}/{}", self.passed(), self.failed(), self.set_aside())
            }
        }
    }
}

/// A whole run.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Every cell that was chosen.
    pub cells: Vec<CellResult>,
    /// Cells that may be missing.
    #[serde(skip)]
    pub allow_missing: Vec<String>,
    /// How long it all took.
    pub seconds: f64,
}

impl Outcome {
    /// Whether a case failed, or a cell that had to run did not, or nothing ran at all.
    pub fn failed(&self) -> bool {
        let missing = self.could_not_run();
        let excused = |cell: &&CellResult| {
            self.allow_missing
                .iter()
                .any(|name| cell.name().contains(name.as_str()))
        };
        let nothing = !self.cells.iter().any(|cell| !cell.cases.is_empty());
        self.cells.iter().any(|cell| cell.failed() > 0)
            || missing.iter().any(|cell| !excused(cell))
            || (nothing && missing.is_empty())
    }

    fn could_not_run(&self) -> Vec<&CellResult> {
        let missing = |cell: &&CellResult| matches!(cell.state, CellState::CouldNotRun(_));
        self.cells.iter().filter(missing).collect()
    }

    /// The cells that could not run, with their reasons.
    pub fn missing(&self) -> Vec<String> {
        let cells = self.could_not_run();
        cells.into_iter().map(CellResult::line).collect()
    }

    /// The totals as test runners print them.
    pub fn summary(&self) -> String {
        let sum = |of: fn(&CellResult) -> usize| self.cells.iter().map(of).sum::<usize>();
        format!(
            "test result: {}. {} passed; {} failed; {} ignored; 0 measured; 0 filtered out; \
             finished in {:.2}s",
            if self.failed() { "FAILED" } else { "ok" },
            sum(CellResult::passed),
            sum(CellResult::failed),
            sum(CellResult::set_aside),
            self.seconds
        )
    }

    /// Everything a person wants to know: failures first, then the grid and the totals. `verbose`
    /// adds every inapplicable case with its reason.
    pub fn report(&self, verbose: bool) -> String {
        let mut out = String::new();
        for cell in &self.cells {
            for case in &cell.cases {
                let (word, why) = match &case.verdict {
                    Verdict::Failed(why) => ("FAILED", why),
                    Verdict::Inapplicable(why) if verbose => ("inapplicable", why),
                    Verdict::Known(why) if verbose => ("known", why),
                    _ => continue,
                };
                let why = why.trim_end().replace('\n', "\n    ");
                let _ = writeln!(
                    out,
                    "test {}::{} ... {word}\n    {why}",
                    cell.name(),
                    case.case
                );
            }
        }
        let _ = write!(out, "\npassed/failed/inapplicable\n{}", self.grid());
        for line in self.missing() {
            let _ = writeln!(out, "{line}");
        }
        let _ = writeln!(out, "{}", self.summary());
        out
    }

    fn grid(&self) -> String {
        let mut columns: Vec<&str> = Vec::new();
        let mut rows: Vec<&str> = Vec::new();
        for cell in &self.cells {
            if !columns.contains(&cell.column.as_str()) {
                columns.push(&cell.column);
            }
            if !rows.contains(&cell.row.as_str()) {
                rows.push(&cell.row);
            }
        }
        let square = |row: &str, column: &str| {
            let at = |cell: &&CellResult| cell.row == row && cell.column == column;
            self.cells
                .iter()
                .find(at)
                .map_or_else(String::new, CellResult::square)
        };
        let mut lines = vec![
            std::iter::once("")
                .chain(columns.iter().copied())
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        ];
        for row in rows {
            let squares = columns.iter().map(|column| square(row, column));
            lines.push(std::iter::once(row.to_owned()).chain(squares).collect());
        }
        table(&lines)
    }
}

/// Lines of columns, the first flush left and the others flush right.
pub fn table(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for (index, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            match index {
                0 => {
                    let _ = write!(text, "{cell:<width$}");
                }
                _ => {
                    let _ = write!(text, "  {cell:>width$}");
                }
            }
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// Seconds of `time`, for [`CaseResult`] and its like.
pub fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, verdict: Verdict) -> CaseResult {
        CaseResult {
            case: name.to_owned(),
            verdict,
            seconds: 0.0,
        }
    }

    fn cell(row: &str, column: &str, state: CellState, cases: Vec<CaseResult>) -> CellResult {
        CellResult {
            row: row.to_owned(),
            column: column.to_owned(),
            state,
            cases,
            seconds: 0.0,
        }
    }

    fn outcome(cells: Vec<CellResult>) -> Outcome {
        Outcome {
            cells,
            allow_missing: Vec::new(),
            seconds: 0.0,
        }
    }

    #[test]
    fn the_report_shows_failures_grid_and_totals() {
        let run = outcome(vec![
            cell(
                "lisafs/unix",
                "none",
                CellState::Ran,
                vec![
                    case("read", Verdict::Passed),
                    case("write", Verdict::Failed("3 is not 4\nat line 7".to_owned())),
                    case("lock", Verdict::Inapplicable("no locks".to_owned())),
                ],
            ),
            cell(
                "lisafs/tcp",
                "none",
                CellState::NotApplicable("no descriptors".to_owned()),
                vec![],
            ),
        ]);
        assert!(run.failed());
        assert_eq!(
            run.report(false),
            "test lisafs/unix/none::write ... FAILED\n    3 is not 4\n    at line 7\n\n\
             passed/failed/inapplicable\n              none\n\
             lisafs/unix  1/1/1\nlisafs/tcp     n/a\n\
             test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; \
             finished in 0.00s\n"
        );
        assert!(
            run.report(true)
                .contains("::lock ... inapplicable\n    no locks")
        );
    }

    #[test]
    fn a_cell_that_could_not_run_fails_unless_allowed() {
        let broken = CellState::CouldNotRun("no such program".to_owned());
        let mut run = outcome(vec![
            cell("diod/unix", "none", broken, vec![]),
            cell(
                "a",
                "none",
                CellState::Ran,
                vec![case("read", Verdict::Passed)],
            ),
        ]);
        assert!(run.failed());
        assert_eq!(run.missing().len(), 1);
        run.allow_missing.push("diod".to_owned());
        assert!(!run.failed());
    }

    #[test]
    fn a_run_of_nothing_is_no_success() {
        assert!(outcome(vec![]).failed());
    }
}
