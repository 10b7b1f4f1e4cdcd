//! `head`: prints the beginning of files.

use clap::Args;

use super::cat::{CHUNK, copy, header, open};
use crate::client::{Client, PathArg};
use crate::error::{CliResult, Tally};
use crate::session::Session;
use crate::ui::Ui;
use crate::ui::format::parse_size;

/// Arguments of `head`.
#[derive(Args, Debug)]
pub struct HeadArgs {
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

/// A size argument.
pub fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "expected a size such as 512, 64K or 1.5M".to_owned())
}

/// Runs `head`.
pub fn run(session: &mut Session, args: &HeadArgs) -> CliResult<()> {
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
    args: &HeadArgs,
    path: &[u8],
    index: usize,
) -> CliResult<()> {
    let file = open(client, path)?;
    if args.paths.len() > 1 {
        header(ui, path, index == 0)?;
    }
    if let Some(bytes) = args.bytes {
        return copy(client, ui, &file, bytes);
    }
    let mut buffer = vec![0; CHUNK / 16];
    let mut left = args.lines;
    while left > 0 {
        let got = file.read(&client.cx(), &mut buffer)?;
        if got == 0 {
            break;
        }
        let mut end = 0;
        for line in buffer[..got].split_inclusive(|byte| *byte == b'\n') {
            end += line.len();
            if line.ends_with(b"\n") {
                left -= 1;
            }
            if left == 0 {
                break;
            }
        }
        ui.write(&buffer[..end])?;
    }
    Ok(())
}
