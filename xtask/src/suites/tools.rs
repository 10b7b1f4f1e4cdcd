//! The suites and programs themselves: installing and running them.

use std::fs;
use std::io::{Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::interop;
use crate::process::Server;
use crate::workspace;

/// Crates that are installed below the build directory, with their versions.
const CRATES: [(&str, &str); 2] = [("pjdfstest", "0.2.2"), ("fsx", "0.3.2")];

/// Debian's programs, with their packages.
const SHORT: &[(&str, &str)] = &[("fusermount3", "fuse3")];
const LONG: &[(&str, &str)] = &[
    ("fio", "fio"),
    ("git", "git"),
    ("sqlite3", "sqlite3"),
    ("rsync", "rsync"),
];

/// How much of what a program said is shown, from its end.
const SAID_MAX: usize = 3000;

/// Where the crates are installed.
pub(super) struct Tools(PathBuf);

impl Tools {
    /// Installs what is missing.
    pub(super) fn install(short: bool) -> Result<Tools> {
        let long: &[_] = if short { &[] } else { LONG };
        for (program, package) in SHORT.iter().chain(long) {
            interop::install(program, package)?;
        }
        let tools = Tools(workspace::root().join("target/suites"));
        for (name, version) in CRATES {
            if tools.program(name).exists() {
                continue;
            }
            println!("installing {name} {version}");
            let mut command = workspace::cargo();
            command
                .args(["install", "--quiet", "--locked", "--version", version])
                .arg("--root")
                .arg(&tools.0)
                .arg(name);
            run(&mut command, super::PATIENCE)?;
        }
        Ok(tools)
    }

    /// One of [`CRATES`].
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.0.join("bin").join(name)
    }
}

/// Runs a program to its end. Fails, with what it said, if it does or takes too long.
pub(super) fn run(command: &mut Command, within: Duration) -> Result<()> {
    say(command, within).map(drop)
}

/// As [`run`]; returns what it wrote to its standard output.
pub(super) fn say(command: &mut Command, within: Duration) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let (status, text, log) = finish(command, within)?;
    if !status.success() {
        bail!("{name}: {status}\n{}\n{log}", end(&text));
    }
    Ok(text)
}

/// As [`say`], for a program whose exit status is no verdict.
pub(super) fn output(command: &mut Command, within: Duration) -> Result<String> {
    let (_, text, _) = finish(command, within)?;
    Ok(text)
}

/// How a program ended, what it wrote to its standard output, and the end of what it wrote to
/// its standard error. One that takes too long is killed.
fn finish(command: &mut Command, within: Duration) -> Result<(ExitStatus, String, String)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut out = tempfile::tempfile().context("make a file")?;
    let mut program = Server::with_output(command, out.try_clone()?)?;
    let status = program.wait(within)?;
    out.rewind()?;
    let mut text = Vec::new();
    out.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    match status {
        Some(status) => Ok((status, text, program.log())),
        None => bail!("{name} takes longer than {within:?}\n{}", end(&text)),
    }
}

/// The end of a long text.
pub(super) fn end(text: &str) -> &str {
    let mut from = text.len().saturating_sub(SAID_MAX);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.get(from..).unwrap_or_default()
}

/// Lets every user work in `dir`.
pub(super) fn open_to_all(dir: &Path) -> Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777))
        .with_context(|| format!("chmod {}", dir.display()))
}
