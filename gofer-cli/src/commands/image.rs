//! `checkpoint` and `restore`: the state of the shell in a file, and back.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

use clap::Args;
use gofer_vfs::{File, Keep, Node, Verify};

use crate::client::{PathArg, show};
use crate::error::{CliError, CliResult};
use crate::session::Session;

/// The numbers of what is kept: the current directory, the one before, the files whose locks are
/// held, and from the last number on those that are open.
const CURRENT: u64 = 0;
const PREVIOUS: u64 = 1;
const HELD: u64 = 16;
const OPEN: u64 = 1 << 32;

/// An image is written beside its file before it takes its place.
const PART: &str = ".part";

/// Arguments of `checkpoint`.
#[derive(Args, Debug)]
#[command(after_help = "\
Saved are the current directory, the one before it, files that are open or locked with their
offsets, and what the server says of all of them. Data is written to the server before.
Example:
  checkpoint session.img")]
pub struct CheckpointArgs {
    /// A local file
    pub file: PathArg,
}

/// Arguments of `restore`.
#[derive(Args, Debug)]
#[command(after_help = "\
A new connection is made with the flags of this shell; it may speak another protocol than the one
that was saved. Everything saved must be on the server as it was.
Examples:
  restore session.img
  restore --any-mtime --any-identity session.img    on a copy of the tree")]
pub struct RestoreArgs {
    /// A local file that `checkpoint` wrote
    pub file: PathArg,
    /// Files may have another size now
    #[arg(long)]
    pub any_size: bool,
    /// Files may have another modification time now
    #[arg(long)]
    pub any_mtime: bool,
    /// Files may be others, if they look the same
    #[arg(long)]
    pub any_identity: bool,
}

/// Runs `checkpoint`.
pub fn checkpoint(session: &mut Session, args: &CheckpointArgs) -> CliResult<()> {
    let Session {
        client,
        ui,
        held,
        files: open,
        ..
    } = session;
    let path = args.file.local();
    let mut name = path.as_os_str().to_owned();
    name.push(PART);
    let part = Path::new(&name);
    let local = |op, error: &std::io::Error| CliError::local(op, part, error);
    let out = fs::File::create(part).map_err(|error| local("create", &error))?;
    let mut out = BufWriter::new(out);
    let mut nodes: Vec<(u64, &Node)> = vec![(CURRENT, &client.cwd)];
    nodes.extend(client.previous.as_ref().map(|node| (PREVIOUS, node)));
    let mut files: Vec<(u64, &File)> = (HELD..).zip(held.iter().map(|(_, file)| file)).collect();
    let open = open.saved().into_iter();
    files.extend(open.map(|(slot, file)| (OPEN + slot, file)));
    let keep = Keep {
        files: &files,
        nodes: &nodes,
        ..Keep::default()
    };
    let written = client
        .fs
        .checkpoint(&client.cx(), &keep, &mut out)
        .map_err(CliError::from)
        .and_then(|()| out.flush().map_err(|error| local("write", &error)))
        .and_then(|()| {
            let file = out.get_ref();
            file.sync_all().map_err(|error| local("fsync", &error))
        })
        .and_then(|()| {
            fs::rename(part, path).map_err(|error| CliError::local("rename", path, &error))
        });
    if written.is_err() {
        // What is half written is of no use to anybody.
        let _ = fs::remove_file(part);
    }
    written?;
    ui.did(|| format!("saved to {}", show(&args.file)));
    Ok(())
}

/// Runs `restore`.
pub fn restore(session: &mut Session, args: &RestoreArgs) -> CliResult<()> {
    let path = args.file.local();
    let image = fs::read(path).map_err(|error| CliError::local("read", path, &error))?;
    let verify = Verify {
        size: !args.any_size,
        mtime: !args.any_mtime,
        identity: !args.any_identity,
    };
    // Locks of the old connection go with it.
    let (nodes, files) = session.client.restore(&image, verify)?;
    session.held.clear();
    for (number, node) in nodes {
        match number {
            CURRENT => session.client.cwd = node,
            PREVIOUS => session.client.previous = Some(node),
            _ => {}
        }
    }
    let mut open = Vec::new();
    for (number, file) in files {
        match number.checked_sub(OPEN) {
            Some(slot) => open.push((usize::try_from(slot).unwrap_or(usize::MAX), file)),
            None => session.held.push((file.node().clone(), file)),
        }
    }
    session.files.resume(open);
    session
        .ui
        .did(|| format!("restored from {}", show(&args.file)));
    Ok(())
}
