//! `chmod`: changes permission bits, given in octal or as `u+rwX,go-w`.

use std::str::FromStr;

use clap::Args;
use gofer_vfs::{FileType, Follow, SetAttr};

use crate::client::{Client, PathArg, show};
use crate::error::{CliResult, Tally};
use crate::session::Session;
use crate::traverse::{Item, Step, Visitor, named, traverse};
use crate::ui::Ui;

/// Arguments of `chmod`.
#[derive(Args, Debug)]
pub struct ChmodArgs {
    /// Octal such as 755, or symbolic such as u+rwX,go-w
    #[arg(allow_hyphen_values = true)]
    pub mode: Mode,
    /// Files to change
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathArg>,
    /// Everything below directories, too; links are left alone
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// A change of permission bits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mode {
    /// To exactly these.
    Octal(u16),
    /// One after the other.
    Symbolic(Vec<Clause>),
}

/// One of the parts between commas: who, and what is done to their bits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Clause {
    /// Bits of `u`, `g` and `o` as a mask of modes; 0 when nobody was named.
    who: u16,
    operator: u8,
    letters: Vec<u8>,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        let wrong = || format!("`{text}` is no mode; try 755 or u+w,go-rwx");
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let mode = u16::from_str_radix(text, 8).map_err(|_| wrong())?;
            return if mode <= 0o7777 {
                Ok(Mode::Octal(mode))
            } else {
                Err(wrong())
            };
        }
        let clauses: Option<Vec<Clause>> = text.split(',').map(clause).collect();
        clauses.map(Mode::Symbolic).ok_or_else(wrong)
    }
}

fn clause(text: &str) -> Option<Clause> {
    let at = text.find(['+', '-', '='])?;
    let mut who = 0;
    for letter in text[..at].bytes() {
        who |= match letter {
            b'u' => 0o4700,
            b'g' => 0o2070,
            b'o' => 0o1007,
            b'a' => 0o7777,
            _ => return None,
        };
    }
    let letters = text.as_bytes()[at + 1..].to_vec();
    if !letters.iter().all(|letter| b"rwxXstugo".contains(letter)) {
        return None;
    }
    Some(Clause {
        who,
        operator: text.as_bytes()[at],
        letters,
    })
}

impl Mode {
    /// The mode of a file that has `mode` now. Where a clause names nobody, `umask` protects
    /// its bits.
    pub fn apply(&self, mode: u16, is_dir: bool, umask: u16) -> u16 {
        match self {
            Mode::Octal(mode) => *mode,
            Mode::Symbolic(clauses) => clauses
                .iter()
                .fold(mode, |mode, clause| clause.apply(mode, is_dir, umask)),
        }
    }
}

impl Clause {
    fn apply(&self, mode: u16, is_dir: bool, umask: u16) -> u16 {
        let who = if self.who == 0 {
            0o7777 & !umask
        } else {
            self.who
        };
        let mut bits = 0;
        for letter in &self.letters {
            bits |= match letter {
                b'r' => 0o444,
                b'w' => 0o222,
                b'x' => 0o111,
                b'X' if is_dir || mode & 0o111 != 0 => 0o111,
                b's' => 0o6000,
                b't' => 0o1000,
                b'u' => spread(mode >> 6),
                b'g' => spread(mode >> 3),
                b'o' => spread(mode),
                _ => 0,
            };
        }
        // The sticky bit belongs to nobody: `+t` and `u+t` both set it, as `a+t` does.
        let sticky = if self.letters.contains(&b't') {
            0o1000
        } else {
            0
        };
        let bits = bits & (who | sticky);
        match self.operator {
            b'+' => mode | bits,
            b'-' => mode & !bits,
            _ => {
                // `=` on a directory keeps the set-ID bits that were not named.
                let keep = if is_dir { 0o6000 & !bits } else { 0 };
                let clear = if self.who == 0 { 0o7777 } else { who };
                (mode & (!clear | keep)) | bits
            }
        }
    }
}

/// Three bits for everybody.
fn spread(bits: u16) -> u16 {
    let bits = bits & 7;
    bits << 6 | bits << 3 | bits
}

struct Chmod<'a> {
    client: &'a Client,
    mode: &'a Mode,
}

impl Visitor for Chmod<'_> {
    fn visit(&mut self, ui: &mut Ui, item: &Item<'_>) -> CliResult<Step> {
        let attr = &item.stat.attr;
        if attr.file_type == FileType::Symlink {
            return Ok(Step::Over);
        }
        // Only at the start can a name still be a link here.
        let follow = if item.depth == 0 {
            Follow::Yes
        } else {
            Follow::No
        };
        let mode = self.mode.apply(attr.mode, item.is_dir(), self.client.umask);
        let set = SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        };
        let done = self
            .client
            .fs
            .set_attr(&self.client.cx(), item.at(), follow, &set);
        done.map_err(|error| named(error, item.path))?;
        ui.did(|| format!("{}: mode {mode:04o}", show(item.path)));
        Ok(Step::Into)
    }
}

/// Runs `chmod`.
pub fn run(session: &mut Session, args: &ChmodArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let mut tally = Tally::default();
    let mut visitor = Chmod {
        client,
        mode: &args.mode,
    };
    for path in &args.paths {
        let result = if args.recursive {
            traverse(client, ui, &mut tally, path, Follow::Yes, &mut visitor)
        } else {
            client.stat(path).map_err(Into::into).and_then(|stat| {
                let item = Item {
                    parent: &client.cwd,
                    name: path,
                    path,
                    stat: &stat,
                    depth: 0,
                };
                visitor.visit(ui, &item).map(drop)
            })
        };
        client.note(ui, &mut tally, result)?;
    }
    tally.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_applied_as_chmod_does() {
        for (text, before, is_dir, after) in [
            ("755", 0, false, 0o755),
            ("0", 0o777, false, 0),
            ("u+w,go-rwx", 0o477, false, 0o600),
            ("+x", 0o644, false, 0o755),
            ("+w", 0o444, false, 0o644),
            ("a+w", 0o444, false, 0o666),
            ("=r", 0o777, false, 0o444),
            ("u=rwX", 0o644, false, 0o644),
            ("u=rwX", 0o744, false, 0o744),
            ("a+X", 0o600, true, 0o711),
            ("g=u", 0o740, false, 0o770),
            ("u+s,+t", 0o755, false, 0o5755),
            ("g=rx", 0o2755, true, 0o2755),
            ("g=rx", 0o2755, false, 0o755),
        ] {
            let mode: Mode = text.parse().unwrap();
            assert_eq!(
                mode.apply(before, is_dir, 0o022),
                after,
                "{text} on {before:o}"
            );
        }
    }

    #[test]
    fn nonsense_is_no_mode() {
        for text in [
            "",
            "8",
            "10000",
            "u",
            "u+q",
            "z+r",
            "u+r,,",
            "99999999999",
            "é+r",
        ] {
            assert!(text.parse::<Mode>().is_err(), "{text}");
        }
    }
}
