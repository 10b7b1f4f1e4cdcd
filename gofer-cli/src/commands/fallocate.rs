//! `fallocate`: allocates, frees, zeroes and moves ranges of files.

use clap::{ArgGroup, Args};
use gofer_vfs::{AllocMode, OpenFlags};

use crate::client::PathArg;
use crate::error::CliResult;
use crate::session::Session;
use crate::ui::format::parse_size;

/// Arguments of `fallocate`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").args(["punch_hole", "zero_range", "collapse_range", "insert_range"]))]
pub struct FallocateArgs {
    /// The file, made if it is not there
    #[arg(value_name = "FILE")]
    pub path: PathArg,
    /// Where the range begins
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = size)]
    pub offset: u64,
    /// How long it is
    #[arg(short, long, value_name = "SIZE", value_parser = size)]
    pub length: u64,
    /// Leave the size of the file as it is
    #[arg(short = 'n', long)]
    pub keep_size: bool,
    /// Free the range, which reads as zeros then; keeps the size
    #[arg(short, long)]
    pub punch_hole: bool,
    /// Fill the range with zeros
    #[arg(short, long)]
    pub zero_range: bool,
    /// Take the range out and close up
    #[arg(short, long, conflicts_with = "keep_size")]
    pub collapse_range: bool,
    /// Insert a hole
    #[arg(short, long, conflicts_with = "keep_size")]
    pub insert_range: bool,
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "expected a size such as 512, 64K or 1M".to_owned())
}

impl FallocateArgs {
    fn mode(&self) -> AllocMode {
        let mut mode = AllocMode::empty();
        mode.set(AllocMode::PUNCH_HOLE, self.punch_hole);
        mode.set(AllocMode::KEEP_SIZE, self.keep_size || self.punch_hole);
        mode.set(AllocMode::ZERO_RANGE, self.zero_range);
        mode.set(AllocMode::COLLAPSE_RANGE, self.collapse_range);
        mode.set(AllocMode::INSERT_RANGE, self.insert_range);
        mode
    }
}

/// Runs `fallocate`.
pub fn run(session: &mut Session, args: &FallocateArgs) -> CliResult<()> {
    let client = &session.client;
    let cx = client.cx();
    let flags = match args.mode().is_empty() || args.keep_size {
        true => OpenFlags::RDWR | OpenFlags::CREAT,
        false => OpenFlags::RDWR,
    };
    let file = client
        .fs
        .open(&cx, client.at(&args.path), flags, client.masked(0o666))?;
    file.allocate(&cx, args.mode(), args.offset, args.length)?;
    Ok(file.close(&cx)?)
}
