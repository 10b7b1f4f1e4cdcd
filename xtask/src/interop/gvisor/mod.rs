//! gVisor's lisafs and its 9P, both halves of each: its client against our server, and our client
//! against its server.

mod bench;
mod client;
mod conformance;
mod go;
mod known;
mod p9;
mod probe;
mod server;

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use gofer_vfs::InteropMode;

use crate::outcome::{Outcome, seconds};
use crate::suite::{self, Cell, Options, Selection};
pub use go::P9Programs;
use go::Programs;
use server::{Gofer, Which};

/// Rows of our client: what they are called, and their mount options.
const ROWS: [(&str, &str); 2] = [
    ("gofer/channels", "lisafs=true"),
    ("gofer/socket", "lisafs=true,channels=0"),
];

/// Prints what `options` choose.
pub(super) fn list(options: &Options) -> Result<()> {
    let programs = Arc::new(Programs::build()?);
    let selection = Selection::new(&options.only);
    suite::list(options, &cells(&programs))?;
    client::list(&selection);
    conformance::list(&programs, &selection)?;
    p9::list(&programs, &selection)
}

/// Measures gVisor's programs beside ours.
pub(super) fn measure() -> Result<()> {
    bench::run()
}

/// Runs what `options` choose. An error means that nothing could run.
pub(super) fn run(options: &Options) -> Result<Outcome> {
    let programs = Arc::new(Programs::build()?);
    let start = Instant::now();
    let mut outcome = suite::run(options, &cells(&programs));
    let selection = Selection::new(&options.only);
    outcome.cells.extend(client::run(&programs, &selection));
    let conformance = conformance::run(&programs, &selection)?;
    outcome.cells.extend(conformance);
    outcome.cells.extend(p9::run(&programs, &selection)?);
    outcome.seconds = seconds(start.elapsed());
    Ok(outcome)
}

fn cells(programs: &Arc<Programs>) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (row, options) in ROWS {
        for mode in InteropMode::ALL {
            let programs = programs.clone();
            cells.push(Cell {
                row: row.to_owned(),
                mode,
                place: Ok(Box::new(move || {
                    Ok(Box::new(Gofer::start(
                        &programs,
                        Which::Lisafs,
                        options,
                        mode,
                    )?))
                })),
                known: known::GOFER,
                more: &[],
            });
        }
    }
    cells.extend(p9::cells(programs));
    cells
}
