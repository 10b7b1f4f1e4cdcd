//! `truncate`: sets the size of files.

use clap::Args;
use gofer_vfs::{Errno, Follow, OpenFlags, SetAttr};

use crate::client::{Client, PathArg, show};
use crate::error::{CliError, CliResult, Tally};
use crate::exit::Exit;
use crate::session::Session;
use crate::ui::format::parse_size;

/// Arguments of `truncate`.
#[derive(Args, Debug)]
pub struct TruncateArgs {
    /// Files to cut or to extend
    #[arg(required = true, value_name = "FILE")]
    pub paths: Vec<PathArg>,
    /// The size; `+N` and `-N` are relative to the size now
    #[arg(short, long, value_name = "SIZE", allow_hyphen_values = true, value_parser = change)]
    pub size: Change,
    /// Make nothing
    #[arg(short = 'c', long)]
    pub no_create: bool,
}

/// A size to set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// To this.
    To(u64),
    /// By this much more.
    Grow(u64),
    /// By this much less, down to nothing.
    Shrink(u64),
}

impl Change {
    fn apply(self, size: u64) -> Option<u64> {
        match self {
            Change::To(size) => Some(size),
            Change::Grow(by) => size.checked_add(by),
            Change::Shrink(by) => Some(size.saturating_sub(by)),
        }
    }
}

fn change(text: &str) -> Result<Change, String> {
    let (number, make): (&str, fn(u64) -> Change) = match text.as_bytes().first() {
        Some(b'+') => (&text[1..], Change::Grow),
        Some(b'-') => (&text[1..], Change::Shrink),
        _ => (text, Change::To),
    };
    parse_size(number)
        .map(make)
        .ok_or_else(|| "expected a size such as 512, 64K, +1M or -10".to_owned())
}

/// Runs `truncate`.
pub fn run(session: &mut Session, args: &TruncateArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let mut tally = Tally::default();
    for path in &args.paths {
        let result = truncate(client, args, path);
        client.note(ui, &mut tally, result)?;
    }
    tally.finish()
}

fn truncate(client: &Client, args: &TruncateArgs, path: &[u8]) -> CliResult<()> {
    let cx = client.cx();
    let now = match client.stat(path) {
        Ok(stat) => stat.attr.size,
        Err(error) if error.errno() == Errno::ENOENT && args.no_create => return Ok(()),
        Err(error) if error.errno() == Errno::ENOENT => {
            let flags = OpenFlags::WRONLY | OpenFlags::CREAT;
            let file = client
                .fs
                .open(&cx, client.at(path), flags, client.masked(0o666))?;
            file.close(&cx)?;
            0
        }
        Err(error) => return Err(error.into()),
    };
    let Some(size) = args.size.apply(now) else {
        let text = format!("truncate {}: {}", show(path), Errno::EFBIG);
        return Err(CliError::new(Exit::Failed, text).with_errno("truncate", Errno::EFBIG));
    };
    let set = SetAttr {
        size: Some(size),
        ..SetAttr::default()
    };
    Ok(client
        .fs
        .set_attr(&cx, client.at(path), Follow::Yes, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_absolute_or_relative() {
        assert_eq!(change("4K").unwrap().apply(1), Some(4096));
        assert_eq!(change("+4").unwrap().apply(1), Some(5));
        assert_eq!(change("-4").unwrap().apply(1), Some(0));
        assert_eq!(change("+1").unwrap().apply(u64::MAX), None);
        assert!(change("").is_err() && change("--4").is_err() && change("é").is_err());
    }
}
