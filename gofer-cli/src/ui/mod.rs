//! All output goes through here: data to standard output, talk to standard error.
//!
//! Names are escaped on a terminal and raw in a pipe, colours follow `--color` and the usual
//! variables, and with `--json` errors become objects.

pub mod color;
pub mod format;
pub mod json;
pub mod progress;
pub mod table;

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use gofer_vfs::error::printable;
use serde::Serialize;

use crate::args::{ColorChoice, OutputArgs};
use crate::error::{CliError, CliResult};
use color::FileColors;

/// Where a command speaks.
pub struct Ui {
    out: BufWriter<Stdout>,
    /// Whether data goes out as JSON.
    pub json: bool,
    /// Whether standard output is a terminal.
    pub terminal: bool,
    /// Columns of the terminal.
    pub width: usize,
    /// Whether notes and progress are off.
    pub quiet: bool,
    /// Whether each change is named.
    pub verbose: bool,
    /// Whether copies show progress.
    pub progress: bool,
    /// Colours of names; `None` without colour.
    pub colors: Option<FileColors>,
    color_errors: bool,
    prefix: &'static str,
    place: String,
}

impl Ui {
    /// Looks at the terminal and the environment.
    pub fn new(args: &OutputArgs) -> Ui {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let stderr_terminal = io::stderr().is_terminal();
        let wants = |terminal| color::wanted(args.color, terminal, |key| std::env::var_os(key));
        Ui {
            out: BufWriter::with_capacity(64 << 10, stdout),
            json: args.json,
            terminal,
            width: terminal_width(),
            quiet: args.quiet,
            verbose: args.verbose > 0,
            progress: stderr_terminal && !args.quiet && !args.no_progress && !args.json,
            colors: wants(terminal).then(FileColors::from_env),
            color_errors: wants(stderr_terminal),
            prefix: "gofer-cli: ",
            place: String::new(),
        }
    }

    /// Applies the output flags that a shell line brings, for that line; returns what undoes it.
    pub fn push(&mut self, args: &OutputArgs) -> Saved {
        let saved = Saved {
            json: self.json,
            quiet: self.quiet,
            verbose: self.verbose,
            progress: self.progress,
            colors: self.colors.clone(),
        };
        self.json |= args.json;
        self.quiet |= args.quiet;
        self.verbose |= args.verbose > 0;
        self.progress &= !(args.quiet || args.no_progress || args.json);
        match args.color {
            ColorChoice::Auto => {}
            ColorChoice::Always if self.colors.is_none() => {
                self.colors = Some(FileColors::from_env());
            }
            ColorChoice::Always => {}
            ColorChoice::Never => self.colors = None,
        }
        saved
    }

    /// Undoes [`Ui::push`].
    pub fn pop(&mut self, saved: Saved) {
        self.json = saved.json;
        self.quiet = saved.quiet;
        self.verbose = saved.verbose;
        self.progress = saved.progress;
        self.colors = saved.colors;
    }

    /// Drops the program's name from messages: in an interactive shell everybody knows it.
    pub fn without_prefix(&mut self) {
        self.prefix = "";
    }

    /// Puts `place`, such as `line 3: `, before messages from now on.
    pub fn set_place(&mut self, place: String) {
        self.place = place;
    }

    /// Writes data.
    pub fn write(&mut self, bytes: &[u8]) -> CliResult<()> {
        self.out
            .write_all(bytes)
            .map_err(|error| CliError::output(&error))
    }

    /// Writes one line of data.
    pub fn line(&mut self, line: impl AsRef<[u8]>) -> CliResult<()> {
        self.write(line.as_ref())?;
        self.write(b"\n")
    }

    /// Writes one JSON document and a line end.
    pub fn json(&mut self, value: &impl Serialize) -> CliResult<()> {
        let written = if self.terminal {
            serde_json::to_writer_pretty(&mut self.out, value)
        } else {
            serde_json::to_writer(&mut self.out, value)
        };
        written.map_err(|error| CliError::output(&error.into()))?;
        self.write(b"\n")
    }

    /// Hands everything written to the system.
    pub fn flush(&mut self) -> CliResult<()> {
        self.out.flush().map_err(|error| CliError::output(&error))
    }

    /// A name or path as data: escaped for a terminal, raw for a pipe.
    pub fn name<'a>(&self, name: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.terminal {
            return Cow::Borrowed(name);
        }
        match printable(name) {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }
    }

    /// Says something that is no data.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }

    /// With `-v`, says what was done.
    pub fn did(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            self.note(&text());
        }
    }

    /// Shows an error and its hints.
    pub fn error(&self, error: &CliError) {
        if error.is_told() {
            return;
        }
        if self.json {
            say(&error.to_json().to_string());
            return;
        }
        let mut text = if self.color_errors {
            let bold = color::ERROR;
            format!("{bold}{}{}{error}{bold:#}", self.prefix, self.place)
        } else {
            format!("{}{}{error}", self.prefix, self.place)
        };
        if !self.quiet {
            for hint in error.hints() {
                text.push_str("\n  hint: ");
                text.push_str(hint);
            }
        }
        say(&text);
    }
}

/// What [`Ui::push`] replaced.
pub struct Saved {
    json: bool,
    quiet: bool,
    verbose: bool,
    progress: bool,
    colors: Option<FileColors>,
}

/// One write per message, so that lines of several threads do not mix. Nobody can be told when
/// standard error is gone.
fn say(text: &str) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

fn terminal_width() -> usize {
    let asked = std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok());
    let found = || {
        let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
        Some(usize::from(size.ws_col))
    };
    asked
        .or_else(found)
        .filter(|width| *width > 0)
        .unwrap_or(80)
}
