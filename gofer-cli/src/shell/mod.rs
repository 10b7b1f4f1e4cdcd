//! The shell: interactive on a terminal, otherwise a script from standard input, a file or `-c`.

mod complete;
mod history;
pub mod lexer;
mod prompt;
mod script;

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::{Args, Parser};
use rustyline::error::ReadlineError;

use crate::args::{Command, ShellLine};
use crate::client::{Client, join, show};
use crate::commands::{self, Next};
use crate::error::{CliError, CliResult};
use crate::exit::Exit;
use crate::glob::{Names, Word};
use crate::session::Session;
use complete::Helper;
use lexer::Statement;

/// Arguments of `shell`.
#[derive(Args, Debug, Default)]
#[command(after_help = "\
Examples:
  gofer-cli shell --root /usr --lisafs
  gofer-cli shell -c 'cd lib; ls *.so'
  gofer-cli shell --keep-going < script")]
pub struct ShellArgs {
    /// Run these commands, separated by `;`, and leave
    #[arg(short = 'c', value_name = "COMMANDS", conflicts_with = "batch")]
    pub commands: Option<OsString>,
    /// Run the commands in FILE (`-`: standard input) and leave
    #[arg(short = 'b', long, value_name = "FILE")]
    pub batch: Option<PathBuf>,
    /// Go on after errors; the exit code still tells of them
    #[arg(short = 'k', long)]
    pub keep_going: bool,
}

/// Runs the shell that `args` ask for.
pub fn run(session: &mut Session, args: &ShellArgs) -> CliResult<()> {
    if let Some(commands) = &args.commands {
        let text = commands.clone().into_vec();
        return script::run(session, &mut text.as_slice(), false, args.keep_going);
    }
    match args.batch.as_deref() {
        Some(path) if path.as_os_str() != "-" => {
            let file =
                std::fs::File::open(path).map_err(|error| CliError::local("open", path, &error))?;
            script::run(
                session,
                &mut std::io::BufReader::new(file),
                true,
                args.keep_going,
            )
        }
        None if std::io::stdin().is_terminal() => interactive(session),
        _ => script::run(session, &mut std::io::stdin().lock(), true, args.keep_going),
    }
}

fn interactive(session: &mut Session) -> CliResult<()> {
    session.ui.without_prefix();
    let (mut editor, file) = history::editor().map_err(|error| terminal_failed(&error))?;
    session.history = editor.history().iter().cloned().collect();
    if session.ui.terminal {
        session.ui.note("help lists the commands, Ctrl-D leaves");
    }
    let at_prompt = session.at_prompt.clone();
    let cell = RefCell::new(session);
    editor.set_helper(Some(Helper::new(&cell)));
    let mut failed = false;
    let result = loop {
        let prompt = prompt::prompt(&cell.borrow(), failed);
        at_prompt.store(true, Ordering::SeqCst);
        let line = editor.readline(&prompt);
        at_prompt.store(false, Ordering::SeqCst);
        match line {
            Ok(line) => {
                let session = &mut **cell.borrow_mut();
                if editor.add_history_entry(&line).unwrap_or(false) {
                    session.history.push(line.clone());
                }
                match interactive_line(session, line.as_bytes()) {
                    Ok((Next::Leave, _)) => break Ok(()),
                    Ok((Next::GoOn, error)) => failed = error,
                    Err(error) => break Err(error),
                }
            }
            Err(ReadlineError::Interrupted) => failed = false,
            Err(ReadlineError::Eof) => break Ok(()),
            Err(error) => break Err(terminal_failed(&error)),
        }
    };
    history::save(&mut editor, file.as_deref());
    result
}

fn terminal_failed(error: &ReadlineError) -> CliError {
    CliError::new(Exit::Failed, format!("terminal: {error}"))
}

/// Runs a line and shows its errors. Tells whether there were any; only what ends the shell is
/// an error here.
fn interactive_line(session: &mut Session, line: &[u8]) -> CliResult<(Next, bool)> {
    let mut failed = false;
    let next = run_line(session, line, &mut |session, statement, error| {
        match error.exit() {
            Exit::Lost => return Err(error),
            // The bar or listing it cut off may have left the cursor anywhere.
            Exit::Interrupted => session.ui.note("interrupted"),
            _ => session.ui.error(&error),
        }
        failed |= !statement.ignore_error;
        Ok(())
    })?;
    Ok((next, failed))
}

/// What is done with the error of a statement: `Err` ends the line.
type OnError<'a> = dyn FnMut(&mut Session, &Statement, CliError) -> CliResult<()> + 'a;

/// Runs the statements of a line, one after the other.
fn run_line(session: &mut Session, line: &[u8], on_error: &mut OnError<'_>) -> CliResult<Next> {
    if let Some(command) = line.trim_ascii_start().strip_prefix(b"!") {
        let result = local_shell(session, command);
        if let Err(error) = result {
            on_error(session, &Statement::default(), error)?;
        }
        return Ok(Next::GoOn);
    }
    let statements = match lexer::parse(line) {
        Ok(statements) => statements,
        Err(error) => {
            on_error(
                session,
                &Statement::default(),
                CliError::usage(error.to_string()),
            )?;
            return Ok(Next::GoOn);
        }
    };
    for statement in &statements {
        session.client.cancel.reset();
        match run_statement(session, statement) {
            Ok(Next::GoOn) => {}
            Ok(Next::Leave) => return Ok(Next::Leave),
            Err(error) => {
                let interrupted = error.exit() == Exit::Interrupted;
                on_error(session, statement, error)?;
                if interrupted {
                    break;
                }
            }
        }
    }
    Ok(Next::GoOn)
}

fn run_statement(session: &mut Session, statement: &Statement) -> CliResult<Next> {
    let words = expand(&session.client, statement)?;
    run_words(session, words)
}

/// Runs one command given as words, none of them a pattern any more.
pub fn run_words(session: &mut Session, words: Vec<OsString>) -> CliResult<Next> {
    let line = match ShellLine::try_parse_from(words) {
        Ok(line) => line,
        Err(error) if !error.use_stderr() => {
            session.ui.write(error.to_string().as_bytes())?;
            session.ui.flush()?;
            return Ok(Next::GoOn);
        }
        Err(error) => return Err(crate::usage_error(&error)),
    };
    let saved = session.ui.push(&line.output);
    let result = commands::run_in_shell(session, &line.command);
    // The error is shown the way the line asked for.
    let result = result.map_err(|error| match (line.output.json, error.is_told()) {
        (true, false) => {
            session.ui.error(&error);
            CliError::told(error.exit())
        }
        _ => error,
    });
    session.ui.pop(saved);
    result
}

/// `!command`: the local shell.
fn local_shell(session: &mut Session, command: &[u8]) -> CliResult<()> {
    session.ui.flush()?;
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let mut process = std::process::Command::new(&shell);
    let command = command.trim_ascii();
    if !command.is_empty() {
        process.arg("-c").arg(OsString::from_vec(command.to_vec()));
    }
    let status = process
        .status()
        .map_err(|error| CliError::local("run", shell.as_ref(), &error))?;
    session.client.cancel.reset();
    if status.success() {
        return Ok(());
    }
    Err(CliError::new(
        Exit::Failed,
        format!("local command: {status}"),
    ))
}

/// Which side a command's patterns and completions are about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Remote,
    Local,
}

/// The side of argument number `index` (without flags) of `command`.
fn side(command: &[u8], index: usize) -> Side {
    match (command, index) {
        (b"put", 0) | (b"lcd" | b"lls" | b"checkpoint" | b"restore", _) => Side::Local,
        (b"get", 1..) => Side::Local,
        _ => Side::Remote,
    }
}

/// Expands braces and patterns. A pattern without a match is an error that names it.
fn expand(client: &Client, statement: &Statement) -> CliResult<Vec<OsString>> {
    let command = statement.words.first().map(|word| word.bytes.clone());
    let command = command.unwrap_or_default();
    let mut words = Vec::new();
    for word in statement.words.iter().cloned().flat_map(Word::braces) {
        let bare = word.quoted.iter().all(|quoted| !quoted);
        if bare
            && matches!(
                &*word.bytes,
                b"|" | b"||" | b">" | b">>" | b"<" | b"&" | b"&&"
            )
        {
            let text = format!(
                "there are no pipes and redirections here: {}",
                show(&word.bytes)
            );
            let hint = "your own shell has them: gofer-cli ls | head; quotes make it a name";
            return Err(CliError::usage(text).hint(hint));
        }
        // The name of a command, and of a flag, is no path.
        if words.is_empty() || !word.is_pattern() || word.bytes.starts_with(b"--") {
            words.push(OsString::from_vec(word.bytes));
            continue;
        }
        // Several patterns of `put` are all local, and those of `get` all remote.
        let found = match command.as_slice() {
            b"put" | b"lcd" | b"lls" | b"checkpoint" | b"restore" => word.expand(&Local),
            _ => word.expand(&Remote(client)),
        };
        if found.is_empty() {
            client.check_cancel()?;
            return Err(
                CliError::new(Exit::Failed, format!("no match for {}", show(&word.bytes)))
                    .hint("quotes make a pattern mean itself: 'a*'"),
            );
        }
        for path in found {
            // A file that is called -rf must not become a flag.
            let dash = path.starts_with(b"-");
            words.push(OsString::from_vec(if dash {
                join(b".", &path)
            } else {
                path
            }));
        }
    }
    Ok(words)
}

/// The remote tree, for patterns.
struct Remote<'a>(&'a Client);

impl Names for Remote<'_> {
    fn list(&self, path: &[u8]) -> Vec<(Vec<u8>, bool)> {
        let entries = self.0.list(self.0.at(path), false).unwrap_or_default();
        entries
            .into_iter()
            .map(|entry| {
                let is_dir = entry.file_type == Some(gofer_vfs::FileType::Directory);
                (entry.name, is_dir)
            })
            .collect()
    }

    fn exists(&self, path: &[u8]) -> bool {
        self.0.lstat(path).is_ok()
    }

    fn is_dir(&self, path: &[u8]) -> bool {
        self.0.is_dir(path)
    }
}

/// The local file system, for patterns.
struct Local;

impl Local {
    fn path(path: &[u8]) -> PathBuf {
        let path = if path.is_empty() { b"." } else { path };
        PathBuf::from(OsString::from_vec(path.to_vec()))
    }
}

impl Names for Local {
    fn list(&self, path: &[u8]) -> Vec<(Vec<u8>, bool)> {
        let entries = std::fs::read_dir(Local::path(path));
        let entries = entries.into_iter().flatten().flatten();
        entries
            .map(|entry| {
                let is_dir = entry.file_type().is_ok_and(|file_type| file_type.is_dir());
                (entry.file_name().into_vec(), is_dir)
            })
            .collect()
    }

    fn exists(&self, path: &[u8]) -> bool {
        Local::path(path).symlink_metadata().is_ok()
    }

    fn is_dir(&self, path: &[u8]) -> bool {
        Local::path(path).is_dir()
    }
}

/// Calls `each` for every command name and its flags, for completion.
fn command_names(each: &mut dyn FnMut(&str) -> ControlFlow<()>) {
    use clap::CommandFactory;
    for command in ShellLine::command().get_subcommands() {
        for name in std::iter::once(command.get_name()).chain(command.get_visible_aliases()) {
            if each(name).is_break() {
                return;
            }
        }
    }
}

/// Whether a command means anything outside a shell.
pub fn needs_shell(command: &Command) -> bool {
    matches!(
        command,
        Command::History | Command::Checkpoint(_) | Command::Restore(_)
    )
}
