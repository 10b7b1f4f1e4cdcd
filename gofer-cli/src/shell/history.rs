//! The line editor and the file that keeps its lines.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};

use super::complete::Helper;

/// Lines kept.
const LINES: usize = 1000;

/// An editor with the lines of earlier shells, and the file to save them to. Without a home
/// directory there is no file, and nothing to complain about.
pub fn editor<'a, 'b>() -> rustyline::Result<(Editor<Helper<'a, 'b>, FileHistory>, Option<PathBuf>)>
{
    let config = Config::builder()
        .max_history_size(LINES)?
        .history_ignore_dups(true)?
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .build();
    let mut editor = Editor::with_config(config)?;
    let file = location();
    if let Some(file) = &file {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    Ok((editor, file))
}

/// Appends the new lines to the file.
pub fn save(editor: &mut Editor<Helper<'_, '_>, FileHistory>, file: Option<&Path>) {
    let Some(file) = file else { return };
    let saved = file
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .map_err(Into::into)
        .and_then(|()| editor.append_history(file));
    if let Err(error) = saved {
        tracing::warn!(file = %file.display(), %error, "history not saved");
    }
}

fn location() -> Option<PathBuf> {
    let base = etcetera::choose_base_strategy().ok()?;
    Some(base.state_dir()?.join("gofer/history"))
}
