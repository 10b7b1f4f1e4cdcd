//! How far a run is: a bar on a terminal, one line per cell elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::outcome::CellResult;

/// Shared by all who run cells.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// For a run of `cases` cases.
    pub fn new(cases: usize) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(cases as u64), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{elapsed} {wide_bar} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        Progress { bar }
    }

    /// A case of `cell` is done.
    pub fn case_done(&self, cell: &str) {
        self.bar.set_message(cell.to_owned());
        self.bar.inc(1);
    }

    /// A cell is done.
    pub fn cell_done(&self, cell: &CellResult) {
        if self.bar.is_hidden() {
            println!("{}", cell.line());
        }
    }

    /// Everything is done: takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
