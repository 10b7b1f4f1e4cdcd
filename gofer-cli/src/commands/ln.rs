//! `ln`: makes hard and symbolic links.

use clap::Args;
use gofer_vfs::{Errno, Follow};

use super::mv::{require_directory, target_of};
use crate::client::{PathArg, show};
use crate::error::{CliResult, Tally};
use crate::session::Session;

/// Arguments of `ln`.
#[derive(Args, Debug)]
pub struct LnArgs {
    /// What the link leads to
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<PathArg>,
    /// The link, or the directory to make it in
    #[arg(required = true, value_name = "LINK")]
    pub link: PathArg,
    /// Make symbolic links
    #[arg(short, long)]
    pub symbolic: bool,
    /// Replace what is there
    #[arg(short, long)]
    pub force: bool,
}

/// Runs `ln`.
pub fn run(session: &mut Session, args: &LnArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let into = require_directory(client, args.targets.len(), &args.link)?;
    let mut tally = Tally::default();
    for target in &args.targets {
        let result = target_of(target, &args.link, into).and_then(|link| {
            let make = || match args.symbolic {
                true => client.fs.symlink(&client.cx(), target, client.at(&link)),
                false => {
                    let (old, new) = (client.at(target), client.at(&link));
                    client.fs.link(&client.cx(), old, Follow::No, new)
                }
            };
            match make() {
                Err(error) if error.errno() == Errno::EEXIST && args.force => {
                    client.fs.unlink(&client.cx(), client.at(&link))?;
                    make()?;
                }
                made => made?,
            }
            ui.did(|| format!("{} -> {}", show(&link), show(target)));
            Ok(())
        });
        client.note(ui, &mut tally, result)?;
    }
    tally.finish()
}
