//! gVisor's own lisafs client against our server: a Go program of ours, built with the package
//! that gVisor itself uses.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::install;
use crate::outcome::{CaseResult, CellResult, CellState, Verdict, seconds};
use crate::process::Server;
use crate::workspace::{self, Profile};

/// Where Debian puts Go packages.
const GOCODE: &str = "/usr/share/gocode";
const PATIENCE: Duration = Duration::from_secs(20);

/// The client program, ready to run; it lives as long as its directory.
struct Program(tempfile::TempDir);

/// Runs every case of the program. An error means that it could not run at all.
pub(super) fn run() -> Result<CellResult> {
    let start = Instant::now();
    install("go", "golang-go")?;
    if !Path::new(GOCODE)
        .join("src/gvisor.dev/gvisor/pkg/lisafs")
        .is_dir()
    {
        super::install_package("golang-gvisor-gvisor-dev")?;
    }
    let program = Program::build()?;
    let mut cell = CellResult {
        row: "own server/unix".to_owned(),
        column: "gVisor's lisafs client".to_owned(),
        state: CellState::Ran,
        cases: program.cases()?,
        seconds: 0.0,
    };
    cell.seconds = seconds(start.elapsed());
    println!("{}", cell.line());
    Ok(cell)
}

impl Program {
    fn build() -> Result<Program> {
        let dir = tempfile::Builder::new().prefix("gofer-gvisor-").tempdir()?;
        let output = Command::new("go")
            .args(["build", "-o"])
            .arg(dir.path().join("client"))
            .arg(".")
            .current_dir(workspace::root().join("xtask/interop/gvisor"))
            .env("GO111MODULE", "off")
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "")
            .env(
                "GOPATH",
                format!("{}:{GOCODE}", dir.path().join("go").display()),
            )
            .env("GOCACHE", dir.path().join("cache"))
            .stdin(Stdio::null())
            .output()
            .context("run go")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "go build: {said}");
        Ok(Program(dir))
    }

    fn cases(&self) -> Result<Vec<CaseResult>> {
        let server = workspace::build("gofer-server-mock", Profile::Dev)?;
        let export = self.0.path().join("export");
        fs::create_dir(&export)?;
        let socket = self.0.path().join("socket");
        let mut command = Command::new(server);
        command.args(["serve", "--die-with-parent", "--protocol", "lisafs"]);
        command.args(["--host-uds", "all", "--root"]).arg(&export);
        command
            .arg("--listen")
            .arg(format!("unix:{}", socket.display()));
        let mut server = Server::start(command, None)?;
        server.ready_line(PATIENCE)?;
        let output = Command::new("timeout")
            .arg("120")
            .arg(self.0.path().join("client"))
            .args([&socket, &export])
            .stdin(Stdio::null())
            .output()
            .context("run the client")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        let log = server.log();
        ensure!(
            text.lines()
                .last()
                .is_some_and(|line| line.ends_with("failed")),
            "the client ended early ({}): {said}\n{log}",
            output.status
        );
        Ok(text.lines().filter_map(|line| case(line, &log)).collect())
    }
}

/// A line of the program: `ok   NAME`, or `FAIL NAME WHY`.
fn case(line: &str, log: &str) -> Option<CaseResult> {
    let mut words = line.split_whitespace();
    let verdict = match words.next()? {
        "ok" => Verdict::Passed,
        "FAIL" => Verdict::Failed(format!("{line}\n{log}")),
        _ => return None,
    };
    Some(CaseResult {
        case: words.next()?.to_owned(),
        verdict,
        seconds: 0.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_program_become_results() {
        let passed = case("ok   walks", "").unwrap();
        assert_eq!(
            (&*passed.case, &passed.verdict),
            ("walks", &Verdict::Passed)
        );
        let failed = case("FAIL names mkdir: EIO", "").unwrap();
        assert_eq!(failed.case, "names");
        assert!(matches!(failed.verdict, Verdict::Failed(_)));
        assert!(case("9 passed, 0 failed", "").is_none());
    }
}
