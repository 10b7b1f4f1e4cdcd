//! `get`: copies from the server to this machine.

use std::path::Path;

use clap::Args;
use gofer_vfs::Follow;

use super::mv::target_of;
use crate::client::{Client, PathArg, base_name, show};
use crate::error::{CliError, CliResult};
use crate::session::Session;
use crate::transfer::{Copy, CopyFlags, Local, Place, Remote};

/// Arguments of `get`.
#[derive(Args, Debug)]
#[command(after_help = "\
Without TARGET, files go to the local directory. `get -r dir/. here` copies what is in dir.
Examples:
  get notes.txt
  get -rp src /tmp/backup
  get -a big.iso          go on where an earlier get was cut off")]
pub struct GetArgs {
    /// Remote files and, last when there are several, the local name or directory
    #[arg(required = true, value_name = "SOURCE... [TARGET]")]
    pub paths: Vec<PathArg>,
    #[command(flatten)]
    pub flags: CopyFlags,
    /// Go on with files that are there already, from their ends
    #[arg(short = 'a', long)]
    pub resume: bool,
}

/// Runs `get`.
pub fn run(session: &mut Session, args: &GetArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let (sources, target) = split(&args.paths);
    let into = target.local().is_dir();
    require_dir(sources, &target, into)?;
    let (remote, local) = (Remote::new(client), Local::new());
    let ends = ((&remote, Place::Remote), (&local, Place::Local));
    let mut copy = Copy::new(client, ui, &args.flags, ends.0, ends.1);
    copy.resume = args.resume;
    for source in sources {
        match destination(source, &target, into) {
            Ok(to) if args.flags.recursive && is_within(client, source, &to) => {
                copy.fail(into_itself(source, &to))?;
            }
            Ok(to) => copy.run(source, &to)?,
            Err(error) => copy.fail(error)?,
        }
    }
    copy.finish()
}

/// Sources, and the target: the last of several paths, or the current directory.
pub fn split(paths: &[PathArg]) -> (&[PathArg], PathArg) {
    match paths {
        [sources @ .., target] if !sources.is_empty() => (sources, target.clone()),
        _ => (paths, PathArg::from(b".".as_slice())),
    }
}

/// Refuses several sources for a target that is no directory.
pub fn require_dir(sources: &[PathArg], target: &[u8], into: bool) -> CliResult<()> {
    if sources.len() > 1 && !into {
        return Err(CliError::usage(format!(
            "several files need a directory as target, and {} is none",
            show(target)
        )));
    }
    Ok(())
}

/// Where a source goes. One without a name of its own, such as `.` or `/`, gives its contents.
pub fn destination(source: &[u8], target: &[u8], into: bool) -> CliResult<Vec<u8>> {
    match base_name(source) {
        None => Ok(target.to_vec()),
        Some(_) => target_of(source, target, into),
    }
}

/// The error of a tree copied into itself, which would never end.
pub fn into_itself(source: &[u8], target: &[u8]) -> CliError {
    CliError::usage(format!(
        "cannot copy {} into itself, {}",
        show(source),
        show(target)
    ))
}

/// Whether `to`, a local name to be made, lies in the remote tree at `source`. That can only be
/// known of a server started for us.
fn is_within(client: &Client, source: &[u8], to: &[u8]) -> bool {
    let node = client
        .fs
        .resolve(&client.cx(), client.at(source), Follow::Yes);
    let tree = node.ok().and_then(|node| client.host_path(&node.path()));
    let place = PathArg::from(to);
    match (tree, real_place(place.local())) {
        (Some(tree), Some(place)) => place.starts_with(tree),
        _ => false,
    }
}

/// The real path of something that may still have to be made.
pub fn real_place(path: &Path) -> Option<std::path::PathBuf> {
    if let Ok(real) = path.canonicalize() {
        return Some(real);
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Some(parent.canonicalize().ok()?.join(path.file_name()?))
}
