//! A real gVisor sandbox with our server as its gofer: Debian's runsc runs a shell workload, and
//! the host looks at what came of it.
//!
//! runsc starts its gofer by executing itself. A copy of the program with another path in place of
//! `/proc/self/exe` starts what stands there: a script that runs our server for a gofer, and the
//! unchanged runsc for everything else, the sandbox above all.

mod bundle;
mod gofer;

use std::fs;
use std::io::{Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bundle::{Bundle, Gofer};
pub use gofer::{RunscGofer, run as run_gofer};
use rustix::process::{Pid, Signal, kill_process};

use super::{install, install_package};
use crate::outcome::{CaseResult, CellResult, CellState, Verdict, seconds};
use crate::workspace::{self, Profile};

const ROW: &str = "own server/runsc";
/// The container's name.
const ID: &str = "gofer-interop";
/// Writable directories in the sandbox: one of its root, one of a mount.
const BOTH: &str = "/own /rw";
/// How long the whole workload may take, on a machine that has other work as well.
const WORKLOAD_LIMIT: Duration = Duration::from_secs(300);
/// How long one command may take, or an end that was asked for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs every cell. An error means that no sandbox can run here.
pub(super) fn run() -> Result<Vec<CellResult>> {
    ensure!(rustix::process::geteuid().is_root(), "runsc needs root");
    install("runsc", "runsc")?;
    install("setfattr", "attr")?;
    // The other busybox has no static one's freedom from libraries.
    if !Path::new("/usr/share/doc/busybox-static").exists() {
        install_package("busybox-static")?;
    }
    let server = workspace::build("gofer-server-mock", Profile::Dev)?;
    let site = Site {
        bundle: Bundle::new()?,
        server,
    };
    site.bundle
        .prepare("echo works", &site.server, Gofer::Stock)?;
    let (status, said) = site.run_container(Gofer::Stock, &[], PATIENCE)?;
    ensure!(
        status.success() && said == "works\n",
        "runsc with its own gofer: {status}: {said}"
    );
    let cells = [
        site.workload("exclusive, in its place", Gofer::Ours, "exclusive", BOTH),
        site.workload("shared, in its place", Gofer::Ours, "shared", BOTH),
        site.workload("shared, a server a mount", Gofer::Separate, "shared", "/rw"),
        site.life(),
    ];
    Ok(cells.into())
}

struct Site {
    bundle: Bundle,
    server: PathBuf,
}

/// A look at what happened.
type Check = fn(&Site) -> Result<()>;
/// A case that is more than a line of the workload.
type Case = (&'static str, Check);

const AFTERWARDS: &[Case] = &[
    ("the host has what the sandbox saw", Site::check_manifests),
    (
        "hard links are one file on the host",
        Site::check_hard_links,
    ),
    ("a hole takes no space on the host", Site::check_hole),
    (
        "a single file was written in place",
        Site::check_single_file,
    ),
    ("read-only mounts are as they were", Site::check_read_only),
    ("nothing is left", Site::check_remains),
    ("the server said nothing was wrong", Site::check_log),
];

/// The same for containers that stay; who is their gofer.
const LIFE: &[(&str, Gofer, Check)] = &[
    ("many programs at a time", Gofer::Ours, Site::many_programs),
    (
        "changes of the host are seen",
        Gofer::Ours,
        Site::changes_of_the_host,
    ),
    (
        "the server ends with a container that is killed",
        Gofer::Watched,
        Site::killed_container,
    ),
    (
        "the server ends with a sandbox that is killed",
        Gofer::Watched,
        Site::killed_sandbox,
    ),
    (
        "each of several servers does",
        Gofer::Separate,
        Site::killed_sandbox,
    ),
    (
        "a sandbox survives its server's death",
        Gofer::Watched,
        Site::killed_server,
    ),
];

impl Site {
    /// Runs the container to its end: its status and all it printed.
    fn run_container(
        &self,
        gofer: Gofer,
        flags: &[&str],
        limit: Duration,
    ) -> Result<(ExitStatus, String)> {
        let mut command = self.bundle.runsc(gofer, limit);
        command.args(flags).args(["run", "--bundle"]);
        command.arg(self.bundle.path("")).arg(ID);
        self.finish(command)
    }

    /// Output goes to a file: a sandbox that stays must not keep a pipe open.
    fn finish(&self, mut command: Command) -> Result<(ExitStatus, String)> {
        let mut file = tempfile::tempfile()?;
        command.stdout(file.try_clone()?).stderr(file.try_clone()?);
        let status = command.status().context("run runsc")?;
        let mut said = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut said)?;
        Ok((status, String::from_utf8_lossy(&said).into_owned()))
    }

    fn workload(&self, column: &str, gofer: Gofer, access: &str, dirs: &str) -> CellResult {
        let start = Instant::now();
        let mut cell = cell(column);
        let result = self.run_workload(gofer, access, dirs, &mut cell.cases);
        cell.cases.push(verdict("the workload ends well", result));
        for (name, check) in AFTERWARDS {
            cell.cases.push(verdict(name, check(self)));
        }
        // There is nothing to delete when all went well.
        let _ = self.delete(true);
        done(cell, start)
    }

    fn run_workload(
        &self,
        gofer: Gofer,
        access: &str,
        dirs: &str,
        cases: &mut Vec<CaseResult>,
    ) -> Result<()> {
        let script = format!("sh /workload.sh all {dirs}");
        self.bundle.prepare(&script, &self.server, gofer)?;
        let root = format!("--file-access={access}");
        let mounts = format!("--file-access-mounts={access}");
        let (status, said) = self.run_container(gofer, &[&root, &mounts], WORKLOAD_LIMIT)?;
        cases.extend(said.lines().filter_map(line));
        ensure!(
            status.success() && said.lines().last() == Some("end"),
            "{status}: {}",
            tail(&said)
        );
        Ok(())
    }

    fn check_manifests(&self) -> Result<()> {
        for (name, dir) in [
            ("own", self.bundle.root().join("own")),
            ("rw", self.bundle.path("rw")),
        ] {
            let inside = self.bundle.root().join(format!("manifest-{name}"));
            let inside = String::from_utf8_lossy(&fs::read(&inside)?).into_owned();
            ensure!(inside.ends_with('\n'), "no list: {inside}");
            same_manifest(name, &inside, &self.bundle.manifest(&dir)?)?;
        }
        Ok(())
    }

    /// What the workload made under `name`, in each directory it worked in.
    fn made(&self, name: &str) -> Result<Vec<PathBuf>> {
        let dirs = [self.bundle.root().join("own"), self.bundle.path("rw")];
        let made: Vec<_> = dirs.iter().map(|dir| dir.join(name)).collect();
        let made: Vec<_> = made.into_iter().filter(|path| path.exists()).collect();
        ensure!(!made.is_empty(), "nothing was made at {name}");
        Ok(made)
    }

    fn check_hard_links(&self) -> Result<()> {
        for copy in self.made("copies/copy")? {
            for dir in 1..=3 {
                let dir = copy.join(dir.to_string());
                let (one, two) = (
                    fs::metadata(dir.join("2"))?,
                    fs::metadata(dir.join("same"))?,
                );
                ensure!(
                    one.ino() == two.ino() && one.nlink() == 2,
                    "{}: {one:?} {two:?}",
                    dir.display()
                );
            }
        }
        Ok(())
    }

    fn check_hole(&self) -> Result<()> {
        for file in self.made("sparse/file")? {
            let found = fs::metadata(&file)?;
            ensure!(
                found.len() == (1 << 30) + 3 && found.blocks() < 1024,
                "{} bytes in {} blocks",
                found.len(),
                found.blocks()
            );
        }
        Ok(())
    }

    fn check_single_file(&self) -> Result<()> {
        let found = fs::metadata(self.bundle.path("one"))?;
        let seen = (found.mode() & 0o7777, found.uid(), found.gid());
        ensure!(seen == (0o604, 12, 34), "attributes {seen:?}");
        let content = fs::read_to_string(self.bundle.path("one"))?;
        same("content", "quite different\n", &content)
    }

    fn check_read_only(&self) -> Result<()> {
        let content = fs::read_to_string(self.bundle.path("only-read"))?;
        same("the file", "cannot be written\n", &content)?;
        let content = fs::read_to_string(self.bundle.path("ro/file"))?;
        same("the file in the directory", "from the host\n", &content)?;
        let mut names: Vec<_> = fs::read_dir(self.bundle.path("ro"))?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<Result<_>>()?;
        names.sort();
        ensure!(names == ["dir", "file", "link"], "names {names:?}");
        Ok(())
    }

    /// No process, no state of the container, no socket of the sandbox, no mount.
    fn check_remains(&self) -> Result<()> {
        let pid = fs::read_to_string(self.bundle.path("report/pid")).context("no gofer ran")?;
        let exe = PathBuf::from(format!("/proc/{pid}/exe"));
        eventually(&format!("process {pid} has ended"), || {
            !fs::read_link(&exe).is_ok_and(|exe| self.is_ours(&exe))
        })?;
        let state: Vec<_> = fs::read_dir(self.bundle.path("state"))?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<Result<_>>()?;
        ensure!(
            !state
                .iter()
                .any(|name| name.to_string_lossy().ends_with(".state")),
            "state of runsc: {state:?}"
        );
        let sockets = fs::read_to_string("/proc/net/unix")?;
        let left = sockets.lines().find(|line| line.contains(ID));
        ensure!(left.is_none(), "a socket: {left:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let base = self.bundle.path("");
        let left = mounts
            .lines()
            .find(|line| line.contains(&*base.to_string_lossy()));
        ensure!(left.is_none(), "a mount: {left:?}");
        Ok(())
    }

    fn is_ours(&self, exe: &Path) -> bool {
        exe == self.server || exe.starts_with(self.bundle.path(""))
    }

    fn check_log(&self) -> Result<()> {
        let log = fs::read_to_string(self.bundle.path("report/log"))?;
        let wrong = |line: &&str| {
            ["WARN", "ERROR", "panicked"]
                .iter()
                .any(|word| line.contains(word))
        };
        ensure!(log.contains("serving fd"), "it was not ready: {log}");
        ensure!(log.lines().find(wrong).is_none(), "{}", tail(&log));
        Ok(())
    }

    /// Not for a container that runsc itself brings to its end: it kills the gofer then.
    fn check_ends(&self) -> Result<()> {
        let ends = self.bundle.path("report/ends");
        eventually("the servers' ends are reported", || ends.exists())?;
        let ends = fs::read_to_string(ends)?;
        ensure!(
            ends.lines().count() > 0 && ends.lines().all(|end| end == "exit status: 0"),
            "{ends}"
        );
        Ok(())
    }
}

/// A container that stays, and commands for it.
impl Site {
    fn life(&self) -> CellResult {
        let start = Instant::now();
        let mut cell = cell("containers that stay");
        for (name, gofer, check) in LIFE {
            let result = self.start(*gofer).and_then(|()| check(self));
            let cleaned = self.delete(true).and_then(|()| self.check_remains());
            cell.cases.push(verdict(name, result.and(cleaned)));
        }
        done(cell, start)
    }

    fn start(&self, gofer: Gofer) -> Result<()> {
        let script = "exec sleep 1000";
        self.bundle.prepare(script, &self.server, gofer)?;
        let mut command = self.bundle.runsc(Gofer::Watched, PATIENCE);
        command.args(["run", "--detach", "--bundle"]);
        command.arg(self.bundle.path("")).arg(ID);
        let (status, said) = self.finish(command)?;
        ensure!(status.success(), "run: {status}: {said}");
        Ok(())
    }

    fn runsc(&self, args: &[&str]) -> Result<(ExitStatus, String)> {
        let mut command = self.bundle.runsc(Gofer::Watched, PATIENCE);
        command.args(args);
        self.finish(command)
    }

    /// Runs `script` inside; it must succeed. What it prints.
    fn inside(&self, script: &str) -> Result<String> {
        let (status, said) = self.runsc(&["exec", ID, "/bin/sh", "-ec", script])?;
        ensure!(status.success(), "{script}: {status}: {said}");
        Ok(said)
    }

    fn delete(&self, force: bool) -> Result<()> {
        let args: &[&str] = if force {
            &["delete", "--force", ID]
        } else {
            &["delete", ID]
        };
        let (status, said) = self.runsc(args)?;
        ensure!(status.success(), "delete: {status}: {said}");
        Ok(())
    }

    fn many_programs(&self) -> Result<()> {
        thread::scope(|scope| {
            let work = |number: usize| {
                let script = format!(
                    "for n in $(seq 30); do echo {number} $n >/rw/{number}-$n; \
                     mv /rw/{number}-$n /rw/done-{number}-$n; done; cat /rw/done-{number}-* | wc -l"
                );
                same("lines", "30\n", &self.inside(&script)?)
            };
            let threads: Vec<_> = (0..4)
                .map(|number| scope.spawn(move || work(number)))
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a panic")))
        })?;
        let count = fs::read_dir(self.bundle.path("rw"))?.count();
        ensure!(count == 120, "{count} files on the host");
        Ok(())
    }

    fn changes_of_the_host(&self) -> Result<()> {
        let rw = self.bundle.path("rw");
        self.inside("cd /rw; mkdir dir; echo sandbox >dir/file; ls -l dir; ! cat new 2>/dev/null")?;
        fs::write(rw.join("new"), "host\n")?;
        fs::write(rw.join("dir/file"), "host again\n")?;
        same(
            "contents",
            "host\nhost again\n",
            &self.inside("cat /rw/new /rw/dir/file")?,
        )?;
        fs::rename(rw.join("dir"), rw.join("moved"))?;
        same("names", "moved\nnew\n", &self.inside("ls /rw")?)?;
        fs::remove_file(rw.join("new"))?;
        self.inside("[ ! -e /rw/new ]; [ -e /rw/moved/file ]")
            .map(drop)
    }

    fn killed_container(&self) -> Result<()> {
        self.inside("exec 3>/rw/held; ls -R /ro /own >/dev/null")?;
        let (status, said) = self.runsc(&["kill", ID, "KILL"])?;
        ensure!(status.success(), "kill: {status}: {said}");
        self.check_ends()?;
        self.check_log()
    }

    fn killed_sandbox(&self) -> Result<()> {
        let (_, state) = self.runsc(&["state", ID])?;
        let state: serde_json::Value = serde_json::from_str(&state)?;
        let pid = state["pid"]
            .as_i64()
            .and_then(|pid| Pid::from_raw(pid as i32));
        kill_process(pid.context("no process of the sandbox")?, Signal::KILL)?;
        self.check_ends()?;
        self.check_log()
    }

    /// Every access to a mount fails, in a time that can be waited for.
    fn killed_server(&self) -> Result<()> {
        self.inside("echo before >/rw/file")?;
        let server = self.server_process()?;
        kill_process(server, Signal::KILL)?;
        let start = Instant::now();
        let (status, said) = self.runsc(&["exec", ID, "/bin/sh", "-c", "cat /rw/file"])?;
        ensure!(
            !status.success() && start.elapsed() < PATIENCE,
            "{status} after {:?}: {said}",
            start.elapsed()
        );
        Ok(())
    }

    /// The server below the process that runsc started.
    fn server_process(&self) -> Result<Pid> {
        let parent = fs::read_to_string(self.bundle.path("report/pid"))?;
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
        let child = children.split_whitespace().next().context("no server")?;
        Pid::from_raw(child.parse()?).context("no process has that number")
    }
}

fn cell(column: &str) -> CellResult {
    CellResult {
        row: ROW.to_owned(),
        column: column.to_owned(),
        state: CellState::Ran,
        cases: Vec::new(),
        seconds: 0.0,
    }
}

fn done(mut cell: CellResult, start: Instant) -> CellResult {
    cell.seconds = seconds(start.elapsed());
    println!("{}", cell.line());
    cell
}

fn verdict(case: &str, result: Result<()>) -> CaseResult {
    CaseResult {
        case: case.to_owned(),
        verdict: match result {
            Ok(()) => Verdict::Passed,
            Err(error) => Verdict::Failed(format!("{error:#}")),
        },
        seconds: 0.0,
    }
}

/// A line of the workload: `ok NAME SECONDS`, or `FAIL NAME WHY`.
fn line(line: &str) -> Option<CaseResult> {
    let mut words = line.splitn(3, ' ');
    let (word, case) = (words.next()?, words.next()?);
    let rest = words.next().unwrap_or_default();
    let (verdict, seconds) = match word {
        "ok" => (Verdict::Passed, rest.parse().ok()?),
        "FAIL" => (Verdict::Failed(rest.to_owned()), 0.0),
        _ => return None,
    };
    Some(CaseResult {
        case: case.to_owned(),
        verdict,
        seconds,
    })
}

/// Fails at the first line that is not the same.
fn same(what: &str, expected: &str, found: &str) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    same_lines(what, expected, found, |a, b| a == b)?;
    bail!("{what}: the end of the last line differs")
}

/// As [`same`] for lists of files, whose last word is a time in seconds. A sandbox that has the tree
/// for itself keeps times by its own clock, which can be in another second than the host's.
fn same_manifest(what: &str, expected: &str, found: &str) -> Result<()> {
    let parts = |line: &str| -> Option<(String, u64)> {
        let (rest, time) = line.rsplit_once(' ')?;
        Some((rest.to_owned(), time.parse().ok()?))
    };
    same_lines(what, expected, found, |a, b| match (parts(a), parts(b)) {
        (Some((a, before)), Some((b, after))) => a == b && before.abs_diff(after) <= 1,
        _ => a == b,
    })
}

fn same_lines(
    what: &str,
    expected: &str,
    found: &str,
    agree: impl Fn(&str, &str) -> bool,
) -> Result<()> {
    let (expected, found): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    let at = expected
        .iter()
        .zip(&found)
        .take_while(|(a, b)| agree(a, b))
        .count();
    if at == expected.len() && at == found.len() {
        return Ok(());
    }
    bail!(
        "{what}: line {} is {:?}, not {:?}",
        at + 1,
        found.get(at),
        expected.get(at)
    )
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        ensure!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The last lines of `text`.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_workload_become_results() {
        let passed = line("ok rename:/rw/rename 3").unwrap();
        assert_eq!((&*passed.case, passed.seconds), ("rename:/rw/rename", 3.0));
        let failed = line("FAIL rename:/rw/rename content: expected 'a', found 'b'").unwrap();
        let why = "content: expected 'a', found 'b'".to_owned();
        assert_eq!(failed.verdict, Verdict::Failed(why));
        assert!(line("end").is_none());
    }

    #[test]
    fn a_difference_is_shown_by_its_line() {
        assert!(same("x", "a\nb\n", "a\nb\n").is_ok());
        let error = same("x", "a\nb\n", "a\nc\n").unwrap_err().to_string();
        assert_eq!(error, r#"x: line 2 is Some("c"), not Some("b")"#);
        assert!(same("x", "a 10\n", "a 11\n").is_err());
        assert!(same("x", "a\n", "a").is_err());
        assert!(same_manifest("x", "a 10\nb\n", "a 11\nb\n").is_ok());
        assert!(same_manifest("x", "a 10\n", "a 12\n").is_err());
        assert!(same_manifest("x", "a 10\n", "b 10\n").is_err());
        assert!(same_manifest("x", "a 10\n", "a 10\nb 10\n").is_err());
    }
}
