//! `tail`: prints the end of files.

use clap::Args;
use gofer_vfs::{File, Whence};

use super::cat::{copy, header, open};
use super::head::size;
use crate::client::{Client, PathArg};
use crate::error::{CliResult, Tally};
use crate::session::Session;
use crate::ui::Ui;

/// Arguments of `tail`.
#[derive(Args, Debug)]
pub struct TailArgs {
    /// Files to print
    #[arg(required = true, value_name = "FILE")]
    pub paths: Vec<PathArg>,
    /// Lines to print
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub lines: u64,
    /// Bytes to print instead of lines
    #[arg(short = 'c', long, value_name = "SIZE", value_parser = size)]
    pub bytes: Option<u64>,
}

/// Runs `tail`.
pub fn run(session: &mut Session, args: &TailArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let mut tally = Tally::default();
    for (index, path) in args.paths.iter().enumerate() {
        let result = print(client, ui, args, path, index);
        client.note(ui, &mut tally, result)?;
    }
    tally.finish()
}

fn print(
    client: &Client,
    ui: &mut Ui,
    args: &TailArgs,
    path: &[u8],
    index: usize,
) -> CliResult<()> {
    let file = open(client, path)?;
    let size = file.stat(&client.cx())?.attr.size;
    let start = match args.bytes {
        Some(bytes) => size.saturating_sub(bytes),
        None => start_of_lines(client, &file, size, args.lines)?,
    };
    if args.paths.len() > 1 {
        header(ui, path, index == 0)?;
    }
    file.seek(
        &client.cx(),
        Whence::Set(i64::try_from(start).unwrap_or(i64::MAX)),
    )?;
    copy(client, ui, &file, u64::MAX)
}

/// Where the last `lines` lines begin, looking backwards from the end.
fn start_of_lines(client: &Client, file: &File, size: u64, lines: u64) -> CliResult<u64> {
    const BLOCK: u64 = 64 << 10;
    if lines == 0 {
        return Ok(size);
    }
    let mut end = size;
    let mut seen = 0;
    let mut buffer = vec![0; BLOCK as usize];
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let block = &mut buffer[..(end - start) as usize];
        let got = file.read_at(&client.cx(), block, start)?;
        for (index, byte) in block[..got].iter().enumerate().rev() {
            let at = start + index as u64;
            // The end of the last line begins none.
            if *byte == b'\n' && at + 1 != size {
                seen += 1;
                if seen == lines {
                    return Ok(at + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}
