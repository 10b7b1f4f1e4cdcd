//! `cp`: copies within the server's tree.

use clap::Args;
use gofer_vfs::Follow;

use super::get::{destination, into_itself, require_dir};
use crate::client::{Client, PathArg, join, trim_slashes};
use crate::error::{CliResult, Tally};
use crate::session::Session;
use crate::transfer::{Copy, CopyFlags, Place, Remote};

/// Arguments of `cp`.
#[derive(Args, Debug)]
pub struct CpArgs {
    /// What to copy
    #[arg(required = true, value_name = "SOURCE")]
    pub sources: Vec<PathArg>,
    /// The new name, or the directory to copy into
    #[arg(required = true, value_name = "TARGET")]
    pub target: PathArg,
    #[command(flatten)]
    pub flags: CopyFlags,
    /// Everything: -r and -p
    #[arg(short = 'a', long)]
    pub archive: bool,
}

/// Runs `cp`.
pub fn run(session: &mut Session, args: &CpArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let mut flags = args.flags.clone();
    flags.recursive |= args.archive;
    flags.preserve |= args.archive;
    let into = client.is_dir(&args.target);
    require_dir(&args.sources, &args.target, into)?;
    let remote = Remote::new(client);
    let end = (&remote, Place::Remote);
    let copy = Copy::new(client, ui, &flags, end, end);
    let mut tally = Tally::default();
    for source in &args.sources {
        match destination(source, &args.target, into) {
            Ok(to) if is_within(client, source, &to) => copy.fail(into_itself(source, &to))?,
            Ok(to) => copy.run(source, &to)?,
            Err(error) => client.note(ui, &mut tally, Err(error))?,
        }
    }
    copy.finish().and(tally.finish())
}

/// Whether `to`, a name to be made, is `source` or lies in it.
fn is_within(client: &Client, source: &[u8], to: &[u8]) -> bool {
    let cx = client.cx();
    let resolve = |path| client.fs.resolve(&cx, client.at(path), Follow::Yes);
    let Ok(tree) = resolve(source) else {
        return false;
    };
    if let Ok(there) = resolve(to)
        && there.key() == tree.key()
    {
        return true;
    }
    let whole = trim_slashes(to);
    let (dir, name) = match whole.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&whole[..at + 1], &whole[at + 1..]),
        None => (&b"."[..], whole),
    };
    let Ok(dir) = resolve(dir) else {
        return false;
    };
    let place = join(&dir.path(), name);
    let tree = tree.path();
    let rest = place.strip_prefix(trim_slashes(&tree));
    tree == b"/" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
