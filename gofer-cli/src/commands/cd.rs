//! `cd`: changes the directory.

use clap::Args;
use gofer_vfs::{AccessMask, At, Errno, FileType, Follow};

use crate::client::PathArg;
use crate::error::{CliError, CliResult};
use crate::session::Session;

/// Arguments of `cd`.
#[derive(Args, Debug)]
pub struct CdArgs {
    /// Where to; `-` for the directory before
    #[arg(
        value_name = "DIR",
        default_value = "/",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub path: PathArg,
}

/// Runs `cd`.
pub fn run(session: &mut Session, args: &CdArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let node = if &*args.path == b"-" {
        let Some(previous) = client.previous.clone() else {
            return Err(CliError::usage(
                "cd -: there is no directory before this one",
            ));
        };
        ui.note(&crate::client::show(&previous.path()));
        previous
    } else {
        client
            .fs
            .resolve(&client.cx(), client.at(&args.path), Follow::Yes)?
    };
    if node.file_type() != FileType::Directory {
        return Err(gofer_vfs::Error::at("cd", &*args.path, Errno::ENOTDIR).into());
    }
    client
        .fs
        .access(&client.cx(), At::new(&node, b""), AccessMask::EXECUTE)
        .map_err(|error| gofer_vfs::Error::at("cd", &*args.path, error.errno()))?;
    client.previous = Some(std::mem::replace(&mut client.cwd, node));
    Ok(())
}
