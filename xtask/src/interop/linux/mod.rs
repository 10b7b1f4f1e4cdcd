//! The Linux kernel's own 9P client against our server: Debian's kernel in a virtual machine
//! without any acceleration mounts the server over TCP and runs a program of checks, and then the
//! host looks at what is on the disk.
//!
//! Each way to mount is a cell, and has the checks of `xtask/interop/linux/guest`. What v9fs cannot
//! do is a list with reasons. With `--control` the server is diod instead: a check that fails there
//! as well says little about ours.

mod guest;
mod host;
mod initramfs;
mod kernel;
mod known;
mod results;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{diod, install, install_package};
use crate::outcome::{CaseResult, CellResult, CellState, Outcome, Verdict, seconds};
use crate::process::Server;
use crate::suite::{Options, Selection};
use crate::workspace::{self, Profile};
use kernel::Kernel;
use results::{Answer, Results};

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A way to mount.
pub(super) struct Mounted {
    /// Also a directory of the export.
    pub(super) name: &'static str,
    options: &'static str,
}

const fn mounted(name: &'static str, options: &'static str) -> Mounted {
    Mounted { name, options }
}

/// What is always run.
const USUAL: [Mounted; 3] = [
    mounted("none", "cache=none"),
    mounted("loose", "cache=loose"),
    mounted("mmap", "cache=mmap"),
];

/// What `--full` adds.
const FULL: [Mounted; 6] = [
    mounted("none-small", "cache=none,msize=8192"),
    mounted("loose-large", "cache=loose,msize=1048576"),
    mounted("none-user", "cache=none,access=user"),
    mounted("loose-user", "cache=loose,access=user"),
    mounted("none-any", "cache=none,access=any,uname=root"),
    mounted("loose-acl", "cache=loose,access=client,posixacl"),
];

/// Whose server the guest mounts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Ours,
    Diod,
}

/// Runs what `options` choose. An error means that nothing could run.
pub(super) fn run(options: &Options, full: bool, side: Side) -> Result<Outcome> {
    let start = Instant::now();
    let selection = Selection::new(&options.only);
    let row = match side {
        Side::Ours => "v9fs/own server",
        Side::Diod => "v9fs/diod",
    };
    let more = if full { &FULL[..] } else { &[] };
    let cells: Vec<&Mounted> = USUAL
        .iter()
        .chain(more)
        .filter(|cell| selection.has(&format!("{row}/{}", cell.name), ""))
        .collect();
    install("qemu-system-x86_64", "qemu-system-x86")?;
    install("cpio", "cpio")?;
    // The other busybox has no static one's freedom from libraries.
    if !Path::new("/usr/share/doc/busybox-static").exists() {
        install_package("busybox-static")?;
    }
    let kernel = Kernel::fetch()?;
    let base = tempfile::Builder::new().prefix("gofer-linux-").tempdir()?;
    let export = base.path().join("export");
    fs::create_dir(&export)?;
    let (server, port) = serve(side, &export)?;
    let mounts: Vec<(&str, String)> = cells
        .iter()
        .map(|cell| (cell.name, mount_options(cell, side, port, &export)))
        .collect();
    let image = initramfs::build(&kernel, base.path(), &mounts)?;
    let ended = guest::run(&kernel, &image, base.path(), cells.len())?;
    let results = Results::parse(&ended.results);
    let mut run = Vec::new();
    for cell in cells {
        let made = results.of(cell.name);
        let cases = judge_all(cell, side, &made, &export.join(cell.name));
        let mut result = CellResult {
            row: row.to_owned(),
            column: cell.name.to_owned(),
            state: CellState::Ran,
            cases,
            seconds: seconds(ended.took) / mounts.len() as f64,
        };
        if !made.ended {
            let why = format!(
                "the guest stopped in the middle: {}\n{}\n{}",
                ended.how,
                ended.console,
                server.log()
            );
            result
                .cases
                .push(case("the guest comes to its end", Verdict::Failed(why)));
        }
        println!("{}", result.line());
        run.push(result);
    }
    run.push(whole(row, &results, &ended, server));
    Ok(Outcome {
        cells: run,
        allow_missing: options.allow_missing.clone(),
        seconds: seconds(start.elapsed()),
    })
}

/// What is not about one mount: how the guest ended, and how the server does.
fn whole(row: &str, results: &Results, ended: &guest::Ended, mut server: Server) -> CellResult {
    let of_guest = match results.ended() {
        true => Verdict::Passed,
        false => Verdict::Failed(format!("{}\n{}", ended.how, ended.console)),
    };
    let of_server = match server.is_running() {
        true => Verdict::Passed,
        false => Verdict::Failed(format!("it has ended\n{}", server.log())),
    };
    let mut cases = vec![
        case("the guest comes to its end", of_guest),
        case("the server is there", of_server),
    ];
    for complaint in results.complaints() {
        cases.push(case(
            "the guest works",
            Verdict::Failed(complaint.to_owned()),
        ));
    }
    CellResult {
        row: row.to_owned(),
        column: "whole".to_owned(),
        state: CellState::Ran,
        cases,
        seconds: 0.0,
    }
}

fn case(name: &str, verdict: Verdict) -> CaseResult {
    CaseResult {
        case: name.to_owned(),
        verdict,
        seconds: 0.0,
    }
}

/// A server on a port of the loopback interface.
fn serve(side: Side, export: &Path) -> Result<(Server, u16)> {
    if side == Side::Diod {
        install("diod", "diod")?;
        let (server, address) = diod::start_on_tcp(export)?;
        return Ok((server, port_of(&address)?));
    }
    let program = workspace::build("gofer-server-mock", Profile::Dev)?;
    let mut command = Command::new(program);
    command.args(["serve", "--die-with-parent", "--protocol", "9p", "--root"]);
    // The guest's users are told by number, each in an attach of its own.
    command.arg(export).args(["--users", "attach"]);
    command.args(["--listen", "tcp:127.0.0.1:0"]);
    let mut server = Server::start(command, None)?;
    let port = port_of(&server.ready_line(PATIENCE)?)?;
    Ok((server, port))
}

fn port_of(line: &str) -> Result<u16> {
    let digits = line.rsplit(':').next().unwrap_or_default();
    digits
        .parse()
        .with_context(|| format!("no port in `{line}`"))
}

fn mount_options(cell: &Mounted, side: Side, port: u16, export: &Path) -> String {
    // A lock that has to wait is asked for again every second.
    let common = format!("trans=tcp,port={port},version=9p2000.L,locktimeout=1");
    match side {
        Side::Ours => format!("{common},{}", cell.options),
        Side::Diod => format!(
            "{common},aname={},uname=root,{}",
            export.display(),
            cell.options
        ),
    }
}

/// Weighs every answer of the guest, and what the host has to say to it.
fn judge_all(cell: &Mounted, side: Side, made: &results::Cell, dir: &Path) -> Vec<CaseResult> {
    let mut cases = Vec::new();
    for (name, answer) in &made.answers {
        cases.push(case(name, judge(cell, side, name, answer)));
    }
    for (name, look) in host::LOOKS {
        let checked = made.answers.iter().find(|(check, _)| check == name);
        let verdict = match checked {
            None => continue,
            Some((_, Answer::Failed(_))) => {
                Verdict::Inapplicable("the guest's own check failed before".to_owned())
            }
            Some((_, Answer::Ok)) => match look(&dir.join(name)) {
                Ok(()) => Verdict::Passed,
                Err(error) => Verdict::Failed(format!("{error:#}")),
            },
        };
        cases.push(case(&format!("{name}, on the host"), verdict));
    }
    cases
}

fn judge(cell: &Mounted, side: Side, name: &str, answer: &Answer) -> Verdict {
    let known = known::LIMITS
        .iter()
        .find(|limit| limit.covers(side, cell.name, name));
    match (answer, known) {
        (Answer::Ok, None) => Verdict::Passed,
        (Answer::Failed(_), Some(known)) => Verdict::Known(known.reason.to_owned()),
        (Answer::Failed(why), None) => Verdict::Failed(why.clone()),
        (Answer::Ok, Some(known)) => Verdict::Failed(format!(
            "passes, though it is listed as known to fail: {}",
            known.reason
        )),
    }
}
