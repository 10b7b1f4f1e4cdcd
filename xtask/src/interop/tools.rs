//! diod's tools as clients of our server.

mod load;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::matrix::Transport;
use crate::outcome::{CaseResult, CellResult, CellState, Verdict, seconds};
use crate::process::Server;
use crate::suite::Selection;
use crate::workspace::{self, Profile};

const PATIENCE: Duration = Duration::from_secs(20);

/// A running server of ours and what it serves.
struct Site {
    server: Server,
    /// As the tools' `-s` takes it.
    address: String,
    base: TempDir,
}

type Case = (&'static str, fn(&Site) -> Result<()>);

const CASES: &[Case] = &[
    ("diodls lists every name", lists_names),
    (
        "diodls lists 2,000 names, 4096 bytes a message",
        lists_many::<4096>,
    ),
    (
        "diodls lists 2,000 names, 8192 bytes a message",
        lists_many::<8192>,
    ),
    (
        "diodls lists 2,000 names, 65536 bytes a message",
        lists_many::<65536>,
    ),
    ("diodls -l shows modes, owners and sizes", lists_long),
    ("diodcat prints a file of many replies", prints_large),
    (
        "diodcat works with the smallest messages",
        prints_small_messages,
    ),
    (
        "diodcat prints 64 MiB, 4096 bytes a message",
        prints::<4096>,
    ),
    (
        "diodcat prints 64 MiB, 8192 bytes a message",
        prints::<8192>,
    ),
    (
        "diodcat prints 64 MiB, 65536 bytes a message",
        prints::<65536>,
    ),
    ("diodcat reports a missing file", reports_missing),
    (
        "diodload copies, 4096 bytes a message",
        load::copies::<4096>,
    ),
    (
        "diodload copies, 8192 bytes a message",
        load::copies::<8192>,
    ),
    (
        "diodload copies, 65536 bytes a message",
        load::copies::<65536>,
    ),
    ("diodload asks for attributes", load::asks_for_attributes),
    ("diodload reports a missing file", load::reports_missing),
];

/// Prints every chosen case over `transport`.
pub(super) fn list(transport: Transport, selection: &Selection) {
    let cell = cell(transport).name();
    for (case, _) in CASES {
        if selection.has(&cell, case) {
            println!("{cell}::{case}");
        }
    }
}

fn cell(transport: Transport) -> CellResult {
    CellResult {
        row: format!("own server/{}", transport.name()),
        column: "diod's tools".to_owned(),
        state: CellState::Ran,
        cases: Vec::new(),
        seconds: 0.0,
    }
}

/// Runs every chosen case over `transport`, which is Unix or TCP.
pub(super) fn run(transport: Transport, selection: &Selection) -> Result<Option<CellResult>> {
    let start = Instant::now();
    let mut cell = cell(transport);
    let name = cell.name();
    let chosen = |(case, _): &&Case| selection.has(&name, case);
    let cases: Vec<&Case> = CASES.iter().filter(chosen).collect();
    if cases.is_empty() {
        return Ok(None);
    }
    let site = Site::start(transport)?;
    for (case, check) in cases {
        let start = Instant::now();
        let verdict = match check(&site) {
            Ok(()) => Verdict::Passed,
            Err(error) => Verdict::Failed(format!("{error:#}\n{}", site.server.log())),
        };
        cell.cases.push(CaseResult {
            case: (*case).to_owned(),
            verdict,
            seconds: seconds(start.elapsed()),
        });
    }
    cell.seconds = seconds(start.elapsed());
    println!("{}", cell.line());
    Ok(Some(cell))
}

impl Site {
    fn start(transport: Transport) -> Result<Site> {
        let program = workspace::build("gofer-server-mock", Profile::Dev)?;
        let base = tempfile::Builder::new().prefix("gofer-diod-").tempdir()?;
        let export = base.path().join("export");
        fs::create_dir_all(export.join("many"))?;
        fs::write(export.join("large"), large())?;
        fs::write(export.join("small"), "a few words\n")?;
        fs::write(export.join("huge"), pattern(64 << 20))?;
        for name in many() {
            fs::write(export.join("many").join(name), "")?;
        }
        load::place(&export)?;
        let socket = base.path().join("socket");
        let mut command = Command::new(program);
        command.args(["serve", "--die-with-parent", "--protocol", "9p", "--root"]);
        command.arg(&export).arg("--listen");
        command.arg(match transport {
            Transport::Tcp => "tcp:127.0.0.1:0".to_owned(),
            _ => format!("unix:{}", socket.display()),
        });
        let mut server = Server::start(command, None)?;
        let line = server.ready_line(PATIENCE)?;
        let address = line.trim_start_matches("listening on ");
        let address = address
            .trim_start_matches("unix:")
            .trim_start_matches("tcp:");
        Ok(Site {
            server,
            address: address.to_owned(),
            base,
        })
    }

    /// Runs one of diod's tools on the whole export.
    fn tool(&self, name: &str, args: &[&str]) -> Result<Output> {
        let program = super::find(name).with_context(|| format!("{name} is not installed"))?;
        Command::new(program)
            .args(["-s", &self.address, "-a", "/", "-t", "60"])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run {name}"))
    }

    /// The same, and it must succeed.
    fn output(&self, name: &str, args: &[&str]) -> Result<Vec<u8>> {
        let output = self.tool(name, args)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name}: {}: {said}", output.status);
        Ok(output.stdout)
    }

    fn export(&self) -> std::path::PathBuf {
        Path::join(self.base.path(), "export")
    }
}

/// No two blocks alike.
fn pattern(size: usize) -> Vec<u8> {
    let mut data = vec![0; size];
    let words = data.chunks_exact_mut(4).zip(0u32..);
    words.for_each(|(word, number)| word.copy_from_slice(&number.to_le_bytes()));
    data
}

/// More than several messages can carry.
fn large() -> Vec<u8> {
    pattern(1_200_000)
}

fn many() -> impl Iterator<Item = String> {
    (0..2000).map(|index| format!("file-{index:04}"))
}

fn sorted_lines(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.retain(|line| line != "." && line != "..");
    lines.sort();
    lines
}

fn lists_names(site: &Site) -> Result<()> {
    let names = sorted_lines(&site.output("diodls", &[])?);
    ensure!(
        names == [load::EXPORT, "huge", "large", "many", "small"],
        "it lists {names:?}"
    );
    Ok(())
}

fn lists_many<const MSIZE: usize>(site: &Site) -> Result<()> {
    let msize = MSIZE.to_string();
    let names = sorted_lines(&site.output("diodls", &["-m", &msize, "many"])?);
    ensure!(
        names.iter().cloned().eq(many()),
        "it lists {} names: {names:?}",
        names.len()
    );
    Ok(())
}

fn lists_long(site: &Site) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(site.export().join("small"), mode)?;
    let output = site.output("diodls", &["-l"])?;
    let text = String::from_utf8_lossy(&output).into_owned();
    let line = text.lines().find(|line| line.ends_with("small"));
    let line = line.with_context(|| format!("no line for the file in\n{text}"))?;
    ensure!(line.starts_with("-rw-r-----"), "mode in `{line}`");
    ensure!(
        line.split_whitespace().any(|word| word == "12"),
        "size in `{line}`"
    );
    Ok(())
}

fn prints_large(site: &Site) -> Result<()> {
    let output = site.output("diodcat", &["large"])?;
    ensure!(output == large(), "{} other bytes", output.len());
    Ok(())
}

fn prints_small_messages(site: &Site) -> Result<()> {
    let output = site.output("diodcat", &["-m", "4096", "small", "large"])?;
    let expected = [b"a few words\n".as_slice(), &large()].concat();
    ensure!(output == expected, "{} other bytes", output.len());
    Ok(())
}

fn prints<const MSIZE: usize>(site: &Site) -> Result<()> {
    let output = site.output("diodcat", &["-m", &MSIZE.to_string(), "huge"])?;
    let expected = pattern(64 << 20);
    ensure!(
        output.len() == expected.len(),
        "{} bytes of {}",
        output.len(),
        expected.len()
    );
    let same = output.iter().zip(&expected).position(|(is, was)| is != was);
    ensure!(same.is_none(), "other bytes from {same:?} on");
    Ok(())
}

fn reports_missing(site: &Site) -> Result<()> {
    let output = site.tool("diodcat", &["nothing"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "it succeeds");
    ensure!(said.contains("No such file or directory"), "it says {said}");
    Ok(())
}
