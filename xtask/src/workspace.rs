//! Where the workspace is, and building parts of it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The directory of the workspace's manifest.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.clone(), PathBuf::from)
}

/// A command that runs the cargo which runs this.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// How an executable is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// With assertions.
    Dev,
    /// Optimised.
    Release,
}

/// Builds the executable of `package` that bears the package's name and says where it is.
pub fn build(package: &str, profile: Profile) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--quiet", "--message-format=json", "-p", package]);
    command.args(["--bin", package]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo")?;
    if !output.status.success() {
        // The compiler's messages are in the JSON; cargo's own went to stderr.
        for message in json_lines(&output.stdout) {
            if let Some(text) = message["message"]["rendered"].as_str() {
                eprint!("{text}");
            }
        }
        bail!("{package} does not build");
    }
    executable(&output.stdout, package)
        .with_context(|| format!("cargo built no executable of {package}"))
}

/// The executable of the target called `target` among cargo's messages in JSON.
pub fn executable(messages: &[u8], target: &str) -> Option<PathBuf> {
    json_lines(messages)
        .filter(|message| message["target"]["name"] == target)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

fn json_lines(bytes: &[u8]) -> impl Iterator<Item = serde_json::Value> {
    bytes
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
}
