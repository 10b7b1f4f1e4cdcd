//! Developer tasks: `cargo xtask --help`. One module of the library for each.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::bench::{self, Bench};
use xtask::ci::{self, Ci};
use xtask::hammer::{self, Hammer};
use xtask::interop::{self, Interop, RunscGofer};
use xtask::random::{self, Random};
use xtask::suite::Options;
use xtask::suites::{self, Suites};
use xtask::{matrix, tidy};

/// Developer tasks of the workspace
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run everything a change must pass
    Ci(Ci),
    /// Run the behaviour suite over every protocol, transport and cache mode
    TestMatrix(Options),
    /// Run random operations on mounts and on directories of the host, and compare
    Random(Random),
    /// Run the behaviour suite against other people's programs
    Interop(Interop),
    /// Run other people's tests and programs on a mount
    Suites(Suites),
    /// Measure, beside a raw socket and direct system calls
    Bench(Bench),
    /// Stand in for `runsc gofer`: started by the copy of runsc that `interop runsc` makes
    #[command(hide = true)]
    RunscGofer(RunscGofer),
    /// Hammer one tree with many clients over lisafs
    Hammer(Hammer),
    /// Check the rules of the house that no compiler checks
    Tidy,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Ci(options) => ci::run(&options),
        Task::TestMatrix(options) => matrix::run(&options),
        Task::Random(options) => random::run_random(options),
        Task::Interop(options) => interop::run(&options),
        Task::Suites(options) => suites::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::RunscGofer(options) => interop::run_gofer(&options),
        Task::Hammer(options) => hammer::run(&options),
        Task::Tidy => tidy::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
