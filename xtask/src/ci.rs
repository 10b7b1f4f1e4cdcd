//! `cargo xtask ci`: everything a change must pass, in the order of what fails fastest.
//!
//! A step that fails does not stop the next, so one run shows all there is to mend.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::interop::{self, Interop};
use crate::outcome::Outcome;
use crate::suite::Options;
use crate::suites::{self, Suites};
use crate::{matrix, tidy, workspace};

/// Options of `cargo xtask ci`.
#[derive(clap::Args, Debug)]
pub struct Ci {
    /// Do not fail because this cannot run here: `diod`, or a cell of the matrix.
    #[arg(long, value_name = "NAME")]
    allow_missing: Vec<String>,
}

/// How a step went.
enum Step {
    Passed,
    Failed(String),
    /// Some of it could not run; what, and why.
    Missing(Vec<String>),
}

/// Runs every step and prints a summary.
pub fn run(options: &Ci) -> Result<()> {
    let mut done: Vec<(&str, Duration, Step)> = Vec::new();
    let mut step = |name: &'static str, work: &dyn Fn() -> Result<Step>| {
        println!("\n==== {name}");
        let start = Instant::now();
        let step = work().unwrap_or_else(|error| Step::Failed(format!("{error:#}")));
        if let Step::Failed(why) = &step {
            println!("{name}: {why}");
        }
        done.push((name, start.elapsed(), step));
    };

    step("fmt", &|| cargo(&["fmt", "--all", "--check"], &[]));
    step("clippy", &|| {
        let args = "clippy --locked --workspace --all-targets --all-features -- -D warnings";
        cargo(&args.split(' ').collect::<Vec<_>>(), &[])
    });
    step("tidy", &|| tidy::run().map(|()| Step::Passed));
    step("tests", &|| {
        let args = "test --locked --workspace --all-features --no-fail-fast --lib --bins --tests";
        cargo(
            &args.split(' ').collect::<Vec<_>>(),
            &[("INSTA_UPDATE", "no")],
        )
    });
    step("docs", &|| {
        let args = "doc --locked --workspace --all-features --no-deps";
        cargo(
            &args.split(' ').collect::<Vec<_>>(),
            &[("RUSTDOCFLAGS", "-D warnings")],
        )
    });
    step("doctests", &|| {
        let args = "test --locked --workspace --all-features --no-fail-fast --doc";
        cargo(&args.split(' ').collect::<Vec<_>>(), &[])
    });
    step("matrix", &|| {
        let outcome = matrix::run_all(&Options::all(&options.allow_missing))?;
        Ok(judge(&outcome))
    });
    for peer in Interop::for_ci(&options.allow_missing) {
        step(peer.name(), &|| Ok(judge(&interop::run_all(&peer)?)));
    }
    step("suites", &|| {
        let suites = Suites::for_ci(&options.allow_missing);
        Ok(judge(&suites::run_all(&suites)?))
    });
    summarize(&done)
}

fn cargo(args: &[&str], env: &[(&str, &str)]) -> Result<Step> {
    let mut command: Command = workspace::cargo();
    command.args(args).envs(env.iter().copied());
    let status = command.status()?;
    Ok(match status.success() {
        true => Step::Passed,
        false => Step::Failed(format!("cargo {}: {status}", args[0])),
    })
}

fn judge(outcome: &Outcome) -> Step {
    print!("{}", outcome.report(false));
    if outcome.failed() {
        Step::Failed(outcome.summary())
    } else if !outcome.missing().is_empty() {
        Step::Missing(outcome.missing())
    } else {
        Step::Passed
    }
}

fn summarize(done: &[(&str, Duration, Step)]) -> Result<()> {
    println!("\n==== summary");
    let mut failed = Vec::new();
    for (name, time, step) in done {
        let word = match step {
            Step::Passed => "ok",
            Step::Failed(_) => "FAILED",
            Step::Missing(_) => "ok, but not all of it ran",
        };
        println!("{name:<10} {:>7.1}s  {word}", time.as_secs_f64());
        match step {
            Step::Failed(why) => failed.push(format!("{name}: {why}")),
            Step::Missing(what) => what.iter().for_each(|what| println!("    {what}")),
            Step::Passed => {}
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join("; "));
    }
    Ok(())
}
