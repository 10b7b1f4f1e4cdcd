//! Completion: commands, their flags, remote paths, and local ones where a command takes them.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use clap::CommandFactory;
use gofer_vfs::{At, Context, FileType, Follow, OpenFlags};
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};

use super::lexer::{LexError, lex, quote};
use super::{Local, Side, command_names, side};
use crate::args::ShellLine;
use crate::client::{Client, show};
use crate::glob::Names;
use crate::session::Session;

/// How long the server may take to list a directory for a key press.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the line editor asks.
pub struct Helper<'a, 'b> {
    session: &'a RefCell<&'b mut Session>,
}

impl<'a, 'b> Helper<'a, 'b> {
    /// Completes in the tree of `session`.
    pub fn new(session: &'a RefCell<&'b mut Session>) -> Helper<'a, 'b> {
        Helper { session }
    }
}

impl rustyline::Helper for Helper<'_, '_> {}
impl Highlighter for Helper<'_, '_> {}

impl Hinter for Helper<'_, '_> {
    type Hint = String;
}

impl Validator for Helper<'_, '_> {
    fn validate(&self, ctx: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        // An open quote goes on in the next line, as in sh.
        Ok(match lex(ctx.input().as_bytes()).error {
            Some(LexError::Unclosed(_) | LexError::Backslash) => ValidationResult::Incomplete,
            _ => ValidationResult::Valid(None),
        })
    }
}

impl Completer for Helper<'_, '_> {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &rustyline::Context<'_>,
    ) -> Result<(usize, Vec<Pair>), ReadlineError> {
        let session = self.session.borrow();
        let before = line.get(..pos).unwrap_or(line);
        Ok(complete(&session.client, before))
    }
}

/// Where the word at the end of `line` begins, and what it may become.
fn complete(client: &Client, line: &str) -> (usize, Vec<Pair>) {
    let mut lexed = lex(line.as_bytes());
    let mut statement = lexed.statements.pop().unwrap_or_default();
    let (word, start) = match (lexed.in_word, statement.words.pop(), statement.starts.pop()) {
        (true, Some(word), Some(start)) => (word.bytes, start),
        (_, Some(word), _) => {
            statement.words.push(word);
            (Vec::new(), line.len())
        }
        _ => (Vec::new(), line.len()),
    };
    let mut words: Vec<&[u8]> = statement.words.iter().map(|word| &*word.bytes).collect();
    // What follows `as WHO` is a command of its own.
    while words.len() >= 2 && words[0] == b"as" {
        words.drain(..2);
    }
    let text = String::from_utf8_lossy(&word).into_owned();
    let pairs = match words.split_first() {
        None | Some((&b"help" | &b"?", _)) => commands(&text),
        Some((command, _)) if text.starts_with('-') => flags(command, &text),
        Some((command, rest)) => {
            let index = rest.iter().filter(|word| !word.starts_with(b"-")).count();
            let only_dirs = matches!(*command, b"cd" | b"lcd" | b"rmdir");
            match side(command, index) {
                Side::Remote => paths(&word, only_dirs, &|dir| remote(client, dir)),
                Side::Local => paths(&word, only_dirs, &local),
            }
        }
    };
    (start, pairs)
}

fn pair(text: &str) -> Pair {
    Pair {
        display: text.to_owned(),
        replacement: format!("{text} "),
    }
}

fn commands(prefix: &str) -> Vec<Pair> {
    let mut names = Vec::new();
    command_names(&mut |name| {
        if name.starts_with(prefix) {
            names.push(pair(name));
        }
        ControlFlow::Continue(())
    });
    names
}

fn flags(command: &[u8], prefix: &str) -> Vec<Pair> {
    let mut root = ShellLine::command();
    root.build();
    let Ok(name) = std::str::from_utf8(command) else {
        return Vec::new();
    };
    let Some(command) = root.find_subcommand(name) else {
        return Vec::new();
    };
    let mut names: Vec<String> = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .flat_map(|arg| {
            let long = arg.get_long().map(|long| format!("--{long}"));
            long.into_iter()
                .chain(arg.get_short().map(|short| format!("-{short}")))
        })
        .filter(|flag| flag.starts_with(prefix))
        .collect();
    names.sort();
    names.iter().map(|name| pair(name)).collect()
}

/// Entries of the directory that `word` names so far, and whether each leads to a directory.
type List<'a> = &'a dyn Fn(&[u8]) -> Vec<(Vec<u8>, bool)>;

fn paths(word: &[u8], only_dirs: bool, list: List<'_>) -> Vec<Pair> {
    let cut = word
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    let (dir, prefix) = word.split_at(cut);
    let mut entries = list(dir);
    entries.retain(|(name, is_dir)| {
        name.starts_with(prefix)
            && (*is_dir || !only_dirs)
            && (!name.starts_with(b".") || prefix.starts_with(b"."))
    });
    entries.sort();
    entries
        .into_iter()
        .map(|(name, is_dir)| {
            // A name like a flag needs a path before it.
            let lead: &[u8] = match dir.is_empty() && name.starts_with(b"-") {
                true => b"./",
                false => dir,
            };
            let end = if is_dir { "/" } else { " " };
            let whole = [lead, name.as_slice()].concat();
            Pair {
                display: format!("{}{}", show(&name), end.trim()),
                replacement: match is_dir {
                    true => quote(&[whole.as_slice(), b"/"].concat()),
                    false => format!("{}{end}", quote(&whole)),
                },
            }
        })
        .collect()
}

fn remote(client: &Client, dir: &[u8]) -> Vec<(Vec<u8>, bool)> {
    let cx = Context {
        deadline: Some(Instant::now() + PATIENCE),
        ..client.cx()
    };
    let flags = OpenFlags::RDONLY | OpenFlags::DIRECTORY;
    let Ok(file) = client.fs.open(&cx, client.at(dir), flags, 0) else {
        return Vec::new();
    };
    let mut entries = Vec::new();
    let listed = file.read_dir(&cx, &mut |entry| {
        if !matches!(entry.name, b"." | b"..") {
            entries.push((entry.name.to_vec(), entry.file_type));
        }
        ControlFlow::Continue(())
    });
    if listed.is_err() {
        return Vec::new();
    }
    entries
        .into_iter()
        .map(|(name, file_type)| {
            let is_dir = match file_type {
                Some(FileType::Symlink) | None => client
                    .fs
                    .resolve(&cx, At::new(file.node(), &name), Follow::Yes)
                    .is_ok_and(|node| node.file_type() == FileType::Directory),
                Some(file_type) => file_type == FileType::Directory,
            };
            (name, is_dir)
        })
        .collect()
}

fn local(dir: &[u8]) -> Vec<(Vec<u8>, bool)> {
    let entries = Local.list(dir).into_iter();
    entries
        .map(|(name, is_dir)| {
            let is_dir = is_dir || Local.is_dir(&[dir, name.as_slice()].concat());
            (name, is_dir)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replacements(pairs: Vec<Pair>) -> Vec<String> {
        pairs.into_iter().map(|pair| pair.replacement).collect()
    }

    #[test]
    fn commands_and_flags_complete() {
        assert_eq!(replacements(commands("mk")), ["mkdir ", "mknod "]);
        assert!(replacements(flags(b"find", "--max")).contains(&"--max-depth ".to_owned()));
        assert!(replacements(flags(b"ls", "-")).contains(&"-R ".to_owned()));
        assert!(flags(b"nothing", "-").is_empty());
    }

    #[test]
    fn paths_are_quoted_and_directories_get_a_slash() {
        let list = |dir: &[u8]| {
            assert_eq!(dir, b"a b/");
            vec![
                (b"x y".to_vec(), true),
                (b"xz".to_vec(), false),
                (b".x".to_vec(), false),
                (b"x\xff".to_vec(), false),
            ]
        };
        assert_eq!(
            replacements(paths(b"a b/x", false, &list)),
            [r"a\ b/x\ y/", r"a\ b/xz ", r"$'a b/x\xff' "]
        );
        assert_eq!(replacements(paths(b"a b/", true, &list)), [r"a\ b/x\ y/"]);
    }

    #[test]
    fn names_like_flags_get_a_path() {
        let list = |_: &[u8]| vec![(b"-rf".to_vec(), false)];
        assert_eq!(replacements(paths(b"", false, &list)), ["./-rf "]);
    }
}
