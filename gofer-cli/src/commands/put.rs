//! `put`: copies from this machine to the server.

use std::io;
use std::os::fd::AsFd;

use clap::Args;
use gofer_vfs::{Errno, OpenFlags};
use rustix::event::{PollFd, PollFlags, poll};

use super::get::{destination, into_itself, real_place, require_dir, split};
use crate::client::{Client, PathArg, join, trim_slashes};
use crate::error::{CliError, CliResult};
use crate::session::Session;
use crate::transfer::{Copy, CopyFlags, Local, Place, Remote};

/// Arguments of `put`.
#[derive(Args, Debug)]
#[command(after_help = "\
Without TARGET, files go to the remote directory. `-` is standard input and needs a TARGET.
Examples:
  put notes.txt
  put -rp src /backup
  tar c . | gofer-cli put - all.tar")]
pub struct PutArgs {
    /// Local files and, last when there are several, the remote name or directory
    #[arg(
        required = true,
        value_name = "SOURCE... [TARGET]",
        allow_hyphen_values = false
    )]
    pub paths: Vec<PathArg>,
    #[command(flatten)]
    pub flags: CopyFlags,
    /// Go on with files that are there already, from their ends
    #[arg(short = 'a', long)]
    pub resume: bool,
}

/// Runs `put`.
pub fn run(session: &mut Session, args: &PutArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let (sources, target) = split(&args.paths);
    if let [source] = sources
        && &**source == b"-"
    {
        return from_stdin(client, args, &target);
    }
    let into = client.is_dir(&target);
    require_dir(sources, &target, into)?;
    let (local, remote) = (Local::new(), Remote::new(client));
    let ends = ((&local, Place::Local), (&remote, Place::Remote));
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

/// Whether `to`, a remote name to be made, lies in the local tree at `source`.
fn is_within(client: &Client, source: &PathArg, to: &[u8]) -> bool {
    // Of the remote path only the directory needs to be there already.
    let whole = trim_slashes(to);
    let (dir, name) = match whole.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&whole[..at + 1], &whole[at + 1..]),
        None => (&b"."[..], whole),
    };
    let node = client
        .fs
        .resolve(&client.cx(), client.at(dir), gofer_vfs::Follow::Yes);
    let place = node
        .ok()
        .and_then(|node| client.host_path(&join(&node.path(), name)));
    let tree = source.local().canonicalize().ok();
    match (tree, place.and_then(|place| real_place(&place))) {
        (Some(tree), Some(place)) => place.starts_with(tree),
        _ => false,
    }
}

fn from_stdin(client: &Client, args: &PutArgs, target: &[u8]) -> CliResult<()> {
    if args.paths.len() < 2 {
        return Err(CliError::usage("put -: needs a name to write to"));
    }
    let cx = client.cx();
    let flags = OpenFlags::WRONLY | OpenFlags::CREAT | OpenFlags::TRUNC;
    let file = client
        .fs
        .open(&cx, client.at(target), flags, client.masked(0o666))?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let got = read_stdin(client, &mut buffer)?;
        let mut rest = &buffer[..got];
        if rest.is_empty() {
            break;
        }
        while !rest.is_empty() {
            let n = file.write(&cx, rest)?;
            if n == 0 {
                return Err(gofer_vfs::Error::at("write", target, Errno::EIO).into());
            }
            rest = rest.get(n..).unwrap_or_default();
        }
    }
    if args.flags.fsync {
        file.sync(&cx, false)?;
    }
    Ok(file.close(&cx)?)
}

/// Reads standard input, or gives up when Ctrl-C is pressed while nothing comes.
fn read_stdin(client: &Client, into: &mut [u8]) -> CliResult<usize> {
    let stdin = io::stdin();
    let failed = |errno: rustix::io::Errno| {
        CliError::local("read", "standard input".as_ref(), &errno.into())
    };
    loop {
        let cancel = client.cancel.as_fd();
        let mut fds = [
            PollFd::new(&stdin, PollFlags::IN),
            PollFd::new(&cancel, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => client.check_cancel()?,
            Err(errno) => return Err(failed(errno)),
        }
        if fds[0].revents().is_empty() {
            continue;
        }
        // Not through the buffer of std: poll knows nothing of what that holds.
        match rustix::io::read(&stdin, &mut *into) {
            Ok(got) => return Ok(got),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
}
