//! What file operations cost on a mount: the host's own directory, a bare FUSE server, bindfs and
//! our mounts, each over a tree of its own, measured in turns. Run by `cargo xtask bench --fuse`.

mod bare;
mod contenders;
mod work;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use contenders::Contender;
use work::{OPERATIONS, Operation};
use xtask::outcome::table;

/// Which contender the goals compare with; its place among [`contenders::start_all`].
const HOST: &str = "host";
const BARE: &str = "bare";
const BINDFS: &str = "bindfs";

/// Least and most turns of an operation.
const TURNS: std::ops::RangeInclusive<usize> = 5..=41;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["bare", source, mountpoint] => bare::serve(Path::new(source), Path::new(mountpoint)),
        ["measure", seconds, rest @ ..] => match seconds.parse() {
            Ok(seconds) => measure(Duration::from_secs_f64(seconds), rest.first().copied()),
            Err(_) => Err(anyhow::anyhow!("not a number of seconds: {seconds}")),
        },
        _ => Err(anyhow::anyhow!("run `cargo xtask bench --fuse`")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures every operation on every contender for about `time` each.
fn measure(time: Duration, only: Option<&str>) -> Result<()> {
    let base = tempfile::Builder::new()
        .prefix("gofer-bench-")
        .tempdir()
        .context("make a directory")?;
    let mut contenders = contenders::start_all(base.path())?;
    let names: Vec<&str> = contenders.iter().map(Contender::name).collect();
    let mut medians = vec![head(&names)];
    let mut ratios = vec![head(&names)];
    let chosen = OPERATIONS
        .iter()
        .filter(|operation| only.is_none_or(|only| operation.name.contains(only)));
    for operation in chosen {
        let turns = turns(operation, &mut contenders, time)
            .with_context(|| format!("measure {}", operation.name))?;
        let figures: Vec<f64> = (0..names.len())
            .map(|at| median(turns.iter().map(|turn| turn[at]).collect()))
            .collect();
        medians.push(line(operation.name, &figures));
        let base = names.iter().position(|name| *name == operation.beside);
        let Some(base) = base else { continue };
        let figures: Vec<f64> = (0..names.len())
            .map(|at| median(turns.iter().map(|turn| turn[at] / turn[base]).collect()))
            .collect();
        let label = format!("{} / {}", operation.name, operation.beside);
        ratios.push(line(&label, &figures));
    }
    println!("\nmedians, in microseconds for each operation");
    print!("{}", table(&medians));
    println!("\nmedians of the ratios of each turn, to what stands after the stroke");
    print!("{}", table(&ratios));
    contenders
        .into_iter()
        .try_for_each(Contender::end)
        .context("unmount")
}

/// Microseconds of each contender, for each turn. The first turn warms up and is not counted.
fn turns(
    operation: &Operation,
    contenders: &mut [Contender],
    time: Duration,
) -> Result<Vec<Vec<f64>>> {
    let mut turn = |number: usize| -> Result<Vec<f64>> {
        // Who begins changes: what one leaves to the disk does not always hit the same next one.
        let count = contenders.len();
        let mut figures = vec![0.0; count];
        for step in 0..count {
            let at = (step + number) % count;
            let taken = work::run(operation, &mut contenders[at])
                .with_context(|| format!("on {}", contenders[at].name()))?;
            figures[at] = taken.as_nanos() as f64 / 1000.0 / f64::from(operation.count);
        }
        Ok(figures)
    };
    let begun = std::time::Instant::now();
    turn(0)?;
    let each = begun.elapsed().as_secs_f64().max(1e-6);
    let wanted = (time.as_secs_f64() * 7.0 / each) as usize;
    let wanted = wanted.clamp(*TURNS.start(), *TURNS.end());
    (1..=wanted).map(turn).collect()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn head(names: &[&str]) -> Vec<String> {
    std::iter::once("operation")
        .chain(names.iter().copied())
        .map(str::to_owned)
        .collect()
}

fn line(label: &str, figures: &[f64]) -> Vec<String> {
    let figures = figures.iter().map(|figure| format!("{figure:.2}"));
    std::iter::once(label.to_owned()).chain(figures).collect()
}
