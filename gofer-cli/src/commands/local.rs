//! `lcd`, `lpwd`, `lls`: the local side, for get and put.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::client::PathArg;
use crate::error::{CliError, CliResult};
use crate::exit::Exit;
use crate::session::Session;

/// Arguments of `lcd`.
#[derive(Args, Debug)]
pub struct LcdArgs {
    /// Where to [default: the home directory]
    #[arg(value_name = "DIR")]
    pub path: Option<PathArg>,
}

/// Arguments of `lls`.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub struct LlsArgs {
    /// Handed to the system's ls
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    pub args: Vec<std::ffi::OsString>,
}

/// Runs `lcd`.
pub fn lcd(args: &LcdArgs) -> CliResult<()> {
    let path: PathBuf = match &args.path {
        Some(path) => path.local().to_owned(),
        None => std::env::home_dir().unwrap_or_else(|| "/".into()),
    };
    std::env::set_current_dir(&path).map_err(|error| CliError::local("cd", &path, &error))
}

/// Runs `lpwd`.
pub fn lpwd(session: &mut Session) -> CliResult<()> {
    let path =
        std::env::current_dir().map_err(|error| CliError::local("pwd", Path::new("."), &error))?;
    if session.ui.json {
        return session
            .ui
            .json(&crate::ui::json::name(path.as_os_str().as_bytes()));
    }
    let shown = session
        .ui
        .name(&path.into_os_string().into_vec())
        .into_owned();
    session.ui.line(shown)
}

/// Runs `lls`.
pub fn lls(session: &mut Session, args: &LlsArgs) -> CliResult<()> {
    session.ui.flush()?;
    let status = Command::new("ls")
        .args(&args.args)
        .status()
        .map_err(|error| CliError::local("run", Path::new("ls"), &error))?;
    // It has said what was wrong.
    if status.success() {
        Ok(())
    } else {
        Err(CliError::told(Exit::Failed))
    }
}
