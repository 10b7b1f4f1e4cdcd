//! `mv`: moves files, into a directory or to another name.

use clap::Args;
use gofer_vfs::{Errno, RenameFlags};

use crate::client::{Client, PathArg, base_name, join, show};
use crate::error::{CliError, CliResult, Tally};
use crate::session::Session;

/// Arguments of `mv`.
#[derive(Args, Debug)]
pub struct MvArgs {
    /// What to move
    #[arg(required = true, value_name = "SOURCE")]
    pub sources: Vec<PathArg>,
    /// The new name, or the directory to move into
    #[arg(required = true, value_name = "TARGET")]
    pub target: PathArg,
    /// Replace nothing
    #[arg(short = 'n', long)]
    pub no_clobber: bool,
    /// TARGET is a name, even when a directory is there
    #[arg(short = 'T', long)]
    pub no_target_directory: bool,
}

/// Runs `mv`.
pub fn run(session: &mut Session, args: &MvArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let into = !args.no_target_directory && client.is_dir(&args.target);
    if args.sources.len() > 1 && !into {
        return Err(CliError::usage(format!(
            "mv: several files need a directory as target, and {} is none",
            show(&args.target)
        )));
    }
    let flags = match args.no_clobber {
        true => RenameFlags::NOREPLACE,
        false => RenameFlags::empty(),
    };
    let mut tally = Tally::default();
    for source in &args.sources {
        let result = target_of(source, &args.target, into).and_then(|target| {
            let (from, to) = (client.at(source), client.at(&target));
            let moved = client.fs.rename(&client.cx(), from, to, flags);
            moved.map_err(|error| match error.errno() {
                Errno::EXDEV => CliError::from(error)
                    .hint("these are two trees: `cp -a` copies from one to the other"),
                _ => error.into(),
            })?;
            ui.did(|| format!("{} -> {}", show(source), show(&target)));
            Ok(())
        });
        client.note(ui, &mut tally, result)?;
    }
    tally.finish()
}

/// Where `source` goes: `target` itself or, with `into`, a name in it.
pub fn target_of(source: &[u8], target: &[u8], into: bool) -> CliResult<Vec<u8>> {
    if !into {
        return Ok(target.to_vec());
    }
    match base_name(source) {
        Some(name) => Ok(join(target, name)),
        None => Err(CliError::usage(format!(
            "{}: has no name to use in {}",
            show(source),
            show(target)
        ))),
    }
}

/// Splits `paths` into sources and the target for commands that take `SOURCE... TARGET`.
pub fn require_directory(client: &Client, sources: usize, target: &[u8]) -> CliResult<bool> {
    let into = client.is_dir(target);
    if sources > 1 && !into {
        return Err(CliError::usage(format!(
            "several files need a directory as target, and {} is none",
            show(target)
        )));
    }
    Ok(into)
}
