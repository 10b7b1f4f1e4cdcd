//! `touch`: makes files, or sets their times.

use clap::Args;
use gofer_vfs::{Errno, Follow, OpenFlags, SetAttr, SetTime, Timestamp};
use jiff::tz::TimeZone;

use crate::client::{Client, PathArg};
use crate::error::{CliResult, Tally};
use crate::session::Session;
use crate::ui::format::parse_time;

/// Arguments of `touch`.
#[derive(Args, Debug)]
pub struct TouchArgs {
    /// Files to make or to touch
    #[arg(required = true, value_name = "FILE")]
    pub paths: Vec<PathArg>,
    /// The time of access only
    #[arg(short)]
    pub access: bool,
    /// The time of modification only
    #[arg(short)]
    pub modification: bool,
    /// Make nothing
    #[arg(short = 'c', long)]
    pub no_create: bool,
    /// This time: `2026-01-31 12:00`, RFC 3339 or `@SECONDS`
    #[arg(short, long, value_name = "TIME", value_parser = time)]
    pub date: Option<Timestamp>,
    /// The link itself, not what it leads to
    #[arg(short = 'P', long)]
    pub no_dereference: bool,
}

fn time(text: &str) -> Result<Timestamp, String> {
    parse_time(text, &TimeZone::system())
        .ok_or_else(|| "expected `2026-01-31 12:00`, RFC 3339 or @SECONDS".to_owned())
}

/// Runs `touch`.
pub fn run(session: &mut Session, args: &TouchArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let mut tally = Tally::default();
    for path in &args.paths {
        let result = touch(client, args, path);
        client.note(ui, &mut tally, result)?;
    }
    tally.finish()
}

fn touch(client: &Client, args: &TouchArgs, path: &[u8]) -> CliResult<()> {
    let to = args.date.map_or(SetTime::Now, SetTime::At);
    let set = SetAttr {
        atime: (args.access || !args.modification).then_some(to),
        mtime: (args.modification || !args.access).then_some(to),
        ..SetAttr::default()
    };
    let follow = if args.no_dereference {
        Follow::No
    } else {
        Follow::Yes
    };
    let cx = client.cx();
    match client.fs.set_attr(&cx, client.at(path), follow, &set) {
        Err(error) if error.errno() == Errno::ENOENT && args.no_create => return Ok(()),
        Err(error) if error.errno() == Errno::ENOENT => {}
        done => return Ok(done?),
    }
    let flags = OpenFlags::WRONLY | OpenFlags::CREAT;
    let file = client
        .fs
        .open(&cx, client.at(path), flags, client.masked(0o666))?;
    if args.date.is_some() {
        file.set_attr(&cx, &set)?;
    }
    Ok(file.close(&cx)?)
}
