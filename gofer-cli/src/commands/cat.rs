//! `cat`: prints files.

use std::io::Write;

use clap::Args;
use gofer_vfs::{File, OpenFlags};

use crate::client::{Client, PathArg};
use crate::error::{CliResult, Tally};
use crate::session::Session;
use crate::ui::Ui;

/// Arguments of `cat`.
#[derive(Args, Debug)]
pub struct CatArgs {
    /// Files to print, one after the other
    #[arg(required = true, value_name = "FILE")]
    pub paths: Vec<PathArg>,
}

/// Bytes asked for at once.
pub const CHUNK: usize = 1 << 20;

/// Runs `cat`.
pub fn run(session: &mut Session, args: &CatArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let mut tally = Tally::default();
    for path in &args.paths {
        let result = print(client, ui, path);
        client.note(ui, &mut tally, result)?;
    }
    tally.finish()
}

fn print(client: &Client, ui: &mut Ui, path: &[u8]) -> CliResult<()> {
    let file = open(client, path)?;
    copy(client, ui, &file, u64::MAX)?;
    Ok(())
}

/// Opens `path` for reading.
pub fn open(client: &Client, path: &[u8]) -> CliResult<File> {
    Ok(client
        .fs
        .open(&client.cx(), client.at(path), OpenFlags::RDONLY, 0)?)
}

/// Prints at most `limit` bytes from the file's position on.
pub fn copy(client: &Client, ui: &mut Ui, file: &File, limit: u64) -> CliResult<()> {
    let mut buffer = vec![0; CHUNK.min(usize::try_from(limit).unwrap_or(CHUNK))];
    let mut left = limit;
    while left > 0 {
        let want = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(buffer.len()));
        let got = file.read(&client.cx(), &mut buffer[..want])?;
        if got == 0 {
            break;
        }
        ui.write(&buffer[..got])?;
        left -= got as u64;
        // A terminal, or a reader of a fifo, wants to see it now.
        if ui.terminal {
            ui.flush()?;
        }
    }
    Ok(())
}

/// The line that names a file among several, as `head` prints it.
pub fn header(ui: &mut Ui, path: &[u8], first: bool) -> CliResult<()> {
    let name = ui.name(path).into_owned();
    let mut line = Vec::new();
    // Writing to a vector cannot fail.
    let _ = line.write_all(if first { b"==> " } else { b"\n==> " });
    line.extend_from_slice(&name);
    line.extend_from_slice(b" <==");
    ui.line(line)
}
