//! `rename`: exactly one rename(2).

use clap::Args;
use gofer_vfs::RenameFlags;

use crate::client::PathArg;
use crate::error::CliResult;
use crate::session::Session;

/// Arguments of `rename`.
#[derive(Args, Debug)]
pub struct RenameArgs {
    /// The name now
    pub old: PathArg,
    /// The name then
    pub new: PathArg,
    /// Fail when the new name is there
    #[arg(short = 'n', long)]
    pub noreplace: bool,
}

/// Runs `rename`.
pub fn run(session: &mut Session, args: &RenameArgs) -> CliResult<()> {
    let client = &session.client;
    let flags = match args.noreplace {
        true => RenameFlags::NOREPLACE,
        false => RenameFlags::empty(),
    };
    client.fs.rename(
        &client.cx(),
        client.at(&args.old),
        client.at(&args.new),
        flags,
    )?;
    Ok(())
}
