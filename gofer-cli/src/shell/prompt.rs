//! The prompt: protocol and target, directory, and a mark after an error.

use gofer_vfs::error::printable;

use crate::session::Session;
use crate::ui::color::{ERROR, STRONG};

/// The prompt, plain and coloured.
pub fn prompt(session: &Session, failed: bool) -> (String, String) {
    let client = &session.client;
    let path = client.cwd.path();
    let gone = if client.cwd.is_deleted() {
        " (deleted)"
    } else {
        ""
    };
    let cwd = format!("{}{gone}", printable(&path));
    let label = &client.label;
    // As other shells do: `#` is a warning.
    let end = if client.creds.uid == 0 { '#' } else { '$' };
    let mark = if failed { " !" } else { "" };
    let plain = format!("[{label}] {cwd}{mark} {end} ");
    if session.ui.colors.is_none() {
        return (plain.clone(), plain);
    }
    let styled = format!("[{label}] {STRONG}{cwd}{STRONG:#}{ERROR}{mark}{ERROR:#} {end} ");
    (plain, styled)
}
