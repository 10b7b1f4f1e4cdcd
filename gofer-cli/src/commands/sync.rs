//! `sync`: writes everything to stable storage.

use clap::Args;
use gofer_vfs::OpenFlags;

use crate::client::PathArg;
use crate::error::{CliResult, Tally};
use crate::session::Session;

/// Arguments of `sync`.
#[derive(Args, Debug)]
pub struct SyncArgs {
    /// These files only
    #[arg(value_name = "FILE")]
    pub paths: Vec<PathArg>,
}

/// Runs `sync`.
pub fn run(session: &mut Session, args: &SyncArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let cx = client.cx();
    if args.paths.is_empty() {
        return Ok(client.fs.sync(&cx)?);
    }
    let mut tally = Tally::default();
    for path in &args.paths {
        let file = client.fs.open(&cx, client.at(path), OpenFlags::RDONLY, 0);
        let result = file.and_then(|file| {
            file.sync(&cx, false)?;
            file.close(&cx)
        });
        client.note(ui, &mut tally, result.map_err(Into::into))?;
    }
    tally.finish()
}
