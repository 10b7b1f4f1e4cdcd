//! `mkdir`: makes directories.

use clap::Args;
use gofer_vfs::{Errno, Follow, SetAttr};

use super::chmod::Mode;
use crate::client::{Client, PathArg, show, trim_slashes};
use crate::error::{CliResult, Tally};
use crate::session::Session;

/// Arguments of `mkdir`.
#[derive(Args, Debug)]
pub struct MkdirArgs {
    /// Directories to make
    #[arg(required = true, value_name = "DIR")]
    pub paths: Vec<PathArg>,
    /// Parents too, and do not mind what is there
    #[arg(short, long)]
    pub parents: bool,
    /// Permissions, as chmod takes them
    #[arg(short, long, value_name = "MODE")]
    pub mode: Option<Mode>,
}

/// Runs `mkdir`.
pub fn run(session: &mut Session, args: &MkdirArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let mut tally = Tally::default();
    for path in &args.paths {
        let result = make(client, args, path);
        if result.is_ok() {
            ui.did(|| format!("made {}", show(path)));
        }
        client.note(ui, &mut tally, result)?;
    }
    tally.finish()
}

fn make(client: &Client, args: &MkdirArgs, path: &[u8]) -> CliResult<()> {
    let cx = client.cx();
    let default = client.masked(0o777);
    let mode = match &args.mode {
        Some(mode) => mode.apply(0o777, true, client.umask),
        None => default,
    };
    if args.parents {
        let path = trim_slashes(path);
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for (end, _) in ends.filter(|(end, _)| *end > 0) {
            // Whoever makes a parent must be able to go on in it.
            make_or_find(client, &path[..end], default | 0o300)?;
        }
        make_or_find(client, path, mode)?;
    } else {
        client.fs.mkdir(&cx, client.at(path), mode)?;
    }
    // mkdir(2) knows no set-ID bits.
    if args.mode.is_some() && mode & 0o7000 != 0 {
        let set = SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        };
        client.fs.set_attr(&cx, client.at(path), Follow::No, &set)?;
    }
    Ok(())
}

fn make_or_find(client: &Client, path: &[u8], mode: u16) -> CliResult<()> {
    match client.fs.mkdir(&client.cx(), client.at(path), mode) {
        // Not being allowed to make what is there does not matter either.
        Err(error)
            if matches!(error.errno(), Errno::EEXIST | Errno::EROFS | Errno::EACCES)
                && client.is_dir(path) =>
        {
            Ok(())
        }
        made => Ok(made?),
    }
}
