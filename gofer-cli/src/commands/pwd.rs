//! `pwd`: prints the directory.

use crate::error::CliResult;
use crate::session::Session;
use crate::ui::json;

/// Runs `pwd`.
pub fn run(session: &mut Session) -> CliResult<()> {
    let path = session.client.cwd.path();
    if session.client.cwd.is_deleted() {
        session.ui.note("this directory has been deleted");
    }
    if session.ui.json {
        return session.ui.json(&json::name(&path));
    }
    let shown = session.ui.name(&path).into_owned();
    session.ui.line(shown)
}
