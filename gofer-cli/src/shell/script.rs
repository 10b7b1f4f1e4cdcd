//! Scripts: no prompt, and the first error ends them unless told otherwise.

use std::io::BufRead;

use super::run_line;
use crate::commands::Next;
use crate::error::{CliError, CliResult, Tally};
use crate::exit::Exit;
use crate::session::Session;

/// The longest line that is taken for one, in bytes.
const LINE_MAX: u64 = 1 << 20;

/// Runs every line of `input`; with `numbered`, errors name theirs.
pub fn run(
    session: &mut Session,
    input: &mut dyn BufRead,
    numbered: bool,
    keep_going: bool,
) -> CliResult<()> {
    let mut tally = Tally::default();
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let read = std::io::Read::take(&mut *input, LINE_MAX).read_until(b'\n', &mut line);
        let got =
            read.map_err(|error| CliError::new(Exit::Failed, format!("read the script: {error}")))?;
        if got == 0 {
            break;
        }
        if got as u64 == LINE_MAX {
            let text = format!("line {number} is longer than {LINE_MAX} bytes, the limit");
            return Err(CliError::usage(text));
        }
        if numbered {
            session.ui.set_place(format!("line {number}: "));
        }
        let mut failed = false;
        let next = run_line(session, &line, &mut |session, statement, error| {
            // Shown here, where the line is known; what is left is how to exit.
            session.ui.error(&error);
            let exit = error.exit();
            if statement.ignore_error && !error.is_fatal() {
                return Ok(());
            }
            if !keep_going || error.is_fatal() {
                return Err(CliError::told(exit));
            }
            failed = true;
            tally.note(Err(CliError::told(exit)), |_| {})
        })?;
        if !failed {
            tally.note(Ok(()), |_| {})?;
        }
        if next == Next::Leave {
            break;
        }
    }
    session.ui.set_place(String::new());
    tally.finish()
}
