//! What a command is given: the connected tree and a place to speak.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use gofer_vfs::{File, Node};

use crate::client::Client;
use crate::commands::files::OpenFiles;
use crate::ui::Ui;

/// One user at one tree.
pub struct Session {
    /// The tree.
    pub client: Client,
    /// The output.
    pub ui: Ui,
    /// Told when a line is being typed.
    pub at_prompt: Arc<AtomicBool>,
    /// Whether commands come from a shell, which may keep things from one to the next.
    pub is_shell: bool,
    /// Files that `open` opened.
    pub files: OpenFiles,
    /// Files whose locks this shell holds.
    pub held: Vec<(Node, File)>,
    /// Lines typed in this shell and before, for `history`.
    pub history: Vec<String>,
}
