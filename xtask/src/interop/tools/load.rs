//! `diodload`: connections that read `zero` and write what they read to `null`, both in the export
//! `ctl`, for a while and as fast as they can.
//!
//! diod makes these files up; here they are files on a disk, so that what was written can be looked
//! at. The program ends with 0 whatever happens: what counts is what it says.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Site;
use crate::process::Server;

/// What it attaches to.
pub(super) const EXPORT: &str = "ctl";
/// Connections at a time.
const CONNECTIONS: &str = "16";
/// How long it may take for the second that it works.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a message of data has beside the data, for this client.
const OVERHEAD: usize = 24;

/// Operations, MB read and MB written in a second.
#[derive(Debug, PartialEq, Eq)]
struct Rates(u64, u64, u64);

/// Makes its files. What it reads is nothing like zero: something else is then seen.
pub(super) fn place(export: &Path) -> Result<()> {
    let dir = export.join(EXPORT);
    fs::create_dir(&dir)?;
    fs::write(dir.join("zero"), super::pattern(128 << 10))?;
    fs::write(dir.join("null"), "")?;
    Ok(())
}

/// It copies, with messages of that many bytes.
pub(super) fn copies<const MSIZE: usize>(site: &Site) -> Result<()> {
    let null = site.export().join(EXPORT).join("null");
    fs::write(&null, "")?;
    let said = run(site, &["-m", &MSIZE.to_string()])?;
    let rates = rates(&said)?;
    ensure!(rates.0 > 0 && rates.1 > 0 && rates.2 > 0, "{said}");
    // All of them write the same to the same place.
    let written = fs::read(&null)?;
    let expected = super::pattern(MSIZE - OVERHEAD);
    ensure!(
        written == expected,
        "{} bytes in the file, not the {} expected ones",
        written.len(),
        expected.len()
    );
    Ok(())
}

/// It asks for attributes alone.
pub(super) fn asks_for_attributes(site: &Site) -> Result<()> {
    let said = run(site, &["-g"])?;
    let rates = rates(&said)?;
    ensure!(rates.0 > 0 && rates.1 == 0 && rates.2 == 0, "{said}");
    Ok(())
}

/// One of the files is missing: every connection hears of it.
pub(super) fn reports_missing(site: &Site) -> Result<()> {
    let export = site.export();
    let (null, aside) = (export.join(EXPORT).join("null"), export.join("aside"));
    fs::rename(&null, &aside)?;
    let said = run(site, &[]);
    fs::rename(&aside, &null)?;
    let said = said?;
    let reports = said
        .lines()
        .filter(|line| line.ends_with("open null: No such file or directory"))
        .count();
    ensure!(reports.to_string() == CONNECTIONS, "{said}");
    Ok(())
}

/// Runs it for a second, and gives what it says.
fn run(site: &Site, args: &[&str]) -> Result<String> {
    let program = super::super::find("diodload").context("diodload is not installed")?;
    let mut command = Command::new(program);
    command.args(["-s", &site.address, "-r", "1", "-n", CONNECTIONS]);
    command.args(args);
    let mut running = Server::start(command, None)?;
    let status = running.wait(PATIENCE)?;
    let said = running.log();
    let status = status.with_context(|| format!("it does not end\n{said}"))?;
    ensure!(status.success(), "{status}\n{said}");
    Ok(said)
}

/// The one line that it says when all went well.
fn rates(said: &str) -> Result<Rates> {
    parse(said).with_context(|| format!("it says\n{said}"))
}

fn parse(said: &str) -> Option<Rates> {
    let line = said.trim_end().strip_prefix("diodload: ")?;
    let mut numbers = [0; 3];
    let mut fields = line.split(", ");
    for (number, unit) in numbers.iter_mut().zip([" ops/s", " rMB/s", " wMB/s"]) {
        *number = fields.next()?.strip_suffix(unit)?.parse().ok()?;
    }
    let [operations, read, written] = numbers;
    fields
        .next()
        .is_none()
        .then_some(Rates(operations, read, written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_the_line_of_rates_is_a_fault() {
        let well = "diodload: 4400 ops/s, 17 rMB/s, 18 wMB/s\n";
        assert_eq!(parse(well), Some(Rates(4400, 17, 18)));
        for fault in [
            "",
            "diodload: open null: No such file or directory\n",
            "diodload: write null: No space left on device\ndiodload: 9 ops/s, 1 rMB/s, 1 wMB/s\n",
            "diodload: 4400 ops/s, 17 rMB/s\n",
        ] {
            assert_eq!(parse(fault), None, "{fault}");
        }
    }
}
