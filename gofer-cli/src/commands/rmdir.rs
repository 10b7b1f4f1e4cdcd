//! `rmdir`: removes empty directories.

use clap::Args;

use crate::client::{PathArg, show};
use crate::error::{CliResult, Tally};
use crate::session::Session;

/// Arguments of `rmdir`.
#[derive(Args, Debug)]
pub struct RmdirArgs {
    /// Directories to remove
    #[arg(required = true, value_name = "DIR")]
    pub paths: Vec<PathArg>,
}

/// Runs `rmdir`.
pub fn run(session: &mut Session, args: &RmdirArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let mut tally = Tally::default();
    for path in &args.paths {
        let result = client.fs.rmdir(&client.cx(), client.at(path));
        if result.is_ok() {
            ui.did(|| format!("removed {}", show(path)));
        }
        client.note(ui, &mut tally, result.map_err(Into::into))?;
    }
    tally.finish()
}
