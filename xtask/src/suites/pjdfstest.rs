//! pjdfstest: POSIX behaviour, on the mount and on the host's own file system.
//!
//! What fails on the host as well says nothing about us; anything else that fails does, and so
//! does a test that runs on the host and not on the mount.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Bench, tools};

/// Both users exist on every Debian system.
const CONFIGURATION: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.01
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["games", "games"]]
"#;

/// Fewer tests than this is not the suite.
const TESTS_MIN: usize = 300;

/// Tests that run on the host and cannot on a mount, with the reason.
const NOT_ON_A_MOUNT: &[(&str, &str)] = &[(
    "link::link_count_max",
    "the C library tells the largest number of links by the type of the file system, and knows none for FUSE",
)];

type Results = BTreeMap<String, String>;

/// Runs it on the mount, and once on the host.
pub(super) fn run(bench: &Bench<'_>) -> Result<()> {
    static HOST: OnceLock<Results> = OnceLock::new();
    let other = OtherFileSystem::mount(bench.scratch)?;
    let expected = match HOST.get() {
        Some(results) => results,
        None => {
            let dir = bench.scratch.join("host");
            fs::create_dir(&dir)?;
            tools::open_to_all(&dir)?;
            let (results, _) = results_on(bench, &dir, &other)?;
            println!("pjdfstest on the host: {}", summary(&results));
            HOST.get_or_init(|| results)
        }
    };
    let (results, output) = results_on(bench, bench.dir, &other)?;
    println!("pjdfstest on the mount: {}", summary(&results));
    let mut wrong = Vec::new();
    for (test, on_host) in expected {
        let known = NOT_ON_A_MOUNT.iter().find(|(known, _)| known == test);
        if let Some((_, why)) = known
            && results.get(test).map(String::as_str) == Some("skipped")
        {
            println!("pjdfstest: {test} did not run: {why}");
            continue;
        }
        let here = results.get(test).map_or("missing", String::as_str);
        let worse = match on_host.as_str() {
            "ok" => here != "ok",
            "skipped" => here == "FAILED" || here == "missing",
            _ => here == "missing",
        };
        if worse {
            let said = said(&output, test);
            wrong.push(format!("{test}: {here}, and {on_host} on the host: {said}"));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

fn summary(results: &Results) -> String {
    let count = |word: &str| results.values().filter(|result| *result == word).count();
    let (ok, skipped, failed) = (count("ok"), count("skipped"), count("FAILED"));
    format!("{ok} passed, {skipped} skipped, {failed} failed")
}

fn results_on(bench: &Bench<'_>, dir: &Path, other: &OtherFileSystem) -> Result<(Results, String)> {
    let configuration = bench.scratch.join("pjdfstest.toml");
    fs::write(&configuration, CONFIGURATION)?;
    let mut command = Command::new(bench.tools.program("pjdfstest"));
    command
        .arg("-c")
        .arg(&configuration)
        .arg("-p")
        .arg(dir)
        .arg("-s")
        .arg(&other.0);
    // It exits with an error when a test fails: that is for us to judge.
    let output = tools::output(&mut command, super::PATIENCE)?;
    let results = parse(&output);
    if results.len() < TESTS_MIN || !output.contains("Summary:") {
        bail!("pjdfstest did not run to its end:\n{}", tools::end(&output));
    }
    Ok((results, output))
}

/// What a test said: the line after its result.
fn said<'o>(output: &'o str, test: &str) -> &'o str {
    let mut lines = output.lines();
    let found = lines.any(|line| line.split_whitespace().next() == Some(test));
    let next = if found { lines.next() } else { None };
    next.unwrap_or_default().trim()
}

/// The result of each test, from lines of its name and the result.
fn parse(output: &str) -> Results {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (test, result) = (words.next()?, words.next()?);
        let known = matches!(result, "ok" | "skipped" | "FAILED") && words.next().is_none();
        (known && test.contains("::")).then(|| (test.to_owned(), result.to_owned()))
    };
    output.lines().filter_map(line).collect()
}

/// A tmpfs, for what must not work between two file systems.
struct OtherFileSystem(PathBuf);

impl OtherFileSystem {
    fn mount(scratch: &Path) -> Result<OtherFileSystem> {
        let dir = scratch.join("tmpfs");
        fs::create_dir(&dir)?;
        let none: Option<&str> = None;
        mount(Some("none"), &dir, Some("tmpfs"), MsFlags::empty(), none)
            .context("mount a tmpfs")?;
        let mounted = OtherFileSystem(dir);
        tools::open_to_all(&mounted.0)?;
        Ok(mounted)
    }
}

impl Drop for OtherFileSystem {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_between_what_failing_tests_say() {
        let output = "\
unlink::a::fifo                                            FAILED
\tcalled `Result::unwrap()` on an `Err` value: EPERM
Backtrace:
   0: pjdfstest::main::{{closure}}
unlink::b                                                  ok
utimensat::c                                               skipped
Summary: 1 failed, 1 skipped, 1 passed, 0 expected failures, 3 total
";
        let results = parse(output);
        assert_eq!(summary(&results), "1 passed, 1 skipped, 1 failed");
        assert_eq!(results["unlink::a::fifo"], "FAILED");
        let why = said(output, "unlink::a::fifo");
        assert_eq!(why, "called `Result::unwrap()` on an `Err` value: EPERM");
    }
}
