//! `history`: the lines typed before.

use crate::error::CliResult;
use crate::session::Session;

/// Runs `history`.
pub fn run(session: &mut Session) -> CliResult<()> {
    let Session { ui, history, .. } = session;
    if ui.json {
        return ui.json(history);
    }
    for (index, line) in history.iter().enumerate() {
        let shown = ui.name(line.as_bytes()).into_owned();
        let mut text = format!("{:5}  ", index + 1).into_bytes();
        text.extend_from_slice(&shown);
        ui.line(text)?;
    }
    Ok(())
}
