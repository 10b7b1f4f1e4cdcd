//! `cargo xtask hammer`: many clients with several channels each on one tree, for as long as it
//! takes to believe that nothing gives. The work is that of a test of the server, which runs for a
//! few seconds otherwise.

use anyhow::{Result, ensure};

use crate::workspace;

/// The test that does it.
const TEST: &str = "clients_hammering_one_tree_keep_it_right_and_leave_nothing";

/// Options of `cargo xtask hammer`.
#[derive(clap::Args, Debug)]
pub struct Hammer {
    /// How long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Connections
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=64))]
    clients: u64,
    /// Channels of each connection
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(0..=64))]
    channels: u64,
    /// Optimized, and without the checks of debug builds
    #[arg(long)]
    release: bool,
}

/// Runs the test.
pub fn run(options: &Hammer) -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["test", "--locked", "--package", "gofer-server-mock"]);
    command.args(["--test", "main"]);
    if options.release {
        command.arg("--release");
    }
    command.args(["--", TEST, "--nocapture"]);
    command.env("HAMMER_SECONDS", options.seconds.to_string());
    command.env("HAMMER_CLIENTS", options.clients.to_string());
    command.env("HAMMER_CHANNELS", options.channels.to_string());
    let status = command.status()?;
    ensure!(status.success(), "cargo test: {status}");
    Ok(())
}
