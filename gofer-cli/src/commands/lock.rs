//! `lock`: holds an advisory lock while a local command runs, or until told otherwise.

use std::ffi::OsString;
use std::process::Command;

use clap::Args;
use gofer_vfs::{Errno, File, LockKind, LockOwner, LockRange, OpenFlags, RecordLock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use crate::client::{Client, PathArg, show};
use crate::error::{CliError, CliResult};
use crate::exit::Exit;
use crate::session::Session;
use crate::ui::json as shapes;

/// How often whoever holds a lock looks whether the server is still there.
const LOOK_AGAIN: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Arguments of `lock`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  lock -w build.lock -- make        run make while no other `lock` of the file does
  lock -s data.db                   hold it: in the shell until `lock -u data.db` or its end,
                                    outside until Ctrl-C
  lock -x --range 0:100 data.db     fail if somebody has any of the first 100 bytes
Locks are kept by this client unless the tree is mounted with -o locks=server.")]
pub struct LockArgs {
    /// The file; made if it is missing
    pub path: PathArg,
    /// Together with others who hold it so
    #[arg(short, long)]
    pub shared: bool,
    /// Alone (the default)
    #[arg(short = 'x', long, conflicts_with = "shared")]
    pub exclusive: bool,
    /// Give up what this shell holds of the file
    #[arg(short, long, conflicts_with_all = ["shared", "exclusive", "range", "wait", "command"])]
    pub unlock: bool,
    /// Only LEN bytes from START, 0 for all the rest; as fcntl(2), not as flock(2)
    #[arg(long, value_name = "START:LEN", value_parser = range)]
    pub range: Option<LockRange>,
    /// Wait until the lock can be had
    #[arg(short, long)]
    pub wait: bool,
    /// A command of this machine to run meanwhile; its exit status is passed on
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

fn range(text: &str) -> Result<LockRange, String> {
    let (start, length) = text.split_once(':').ok_or("expected START:LEN")?;
    let number = |text: &str| text.parse::<i64>().map_err(|_| "expected whole numbers");
    LockRange::new(number(start)?, number(length)?)
        .map_err(|_| "no file can have these bytes".to_owned())
}

/// Runs `lock`.
pub fn run(session: &mut Session, args: &LockArgs) -> CliResult<()> {
    if args.unlock {
        return unlock(session, &args.path);
    }
    let Session { client, ui, .. } = session;
    let kind = match args.shared {
        true => LockKind::Read,
        false => LockKind::Write,
    };
    let file = open(client, &args.path, kind, args.range.is_some())?;
    take(client, &file, args, kind)?;
    if ui.json {
        let kind = match kind {
            LockKind::Read => "shared",
            _ => "exclusive",
        };
        ui.json(&json!({ "path": shapes::name(&args.path), "lock": kind }))?;
    } else {
        ui.did(|| format!("locked {}", show(&args.path)));
    }
    ui.flush()?;
    if let Some((program, words)) = args.command.split_first() {
        let status = Command::new(program).args(words).status();
        client.cancel.reset();
        let status = status.map_err(|error| CliError::local("run", program.as_ref(), &error))?;
        file.close(&client.cx())?;
        return match status.code() {
            Some(0) => Ok(()),
            Some(code) => Err(CliError::told(Exit::Local(code as u8))),
            None => Err(CliError::new(
                Exit::Failed,
                format!("{}: {status}", program.display()),
            )),
        };
    }
    if session.is_shell {
        session.held.push((file.node().clone(), file));
        return Ok(());
    }
    // Until Ctrl-C.
    while !session.client.cancel.is_set() {
        let mut interrupted = [PollFd::new(&*session.client.cancel, PollFlags::IN)];
        match poll(&mut interrupted, Some(&LOOK_AGAIN)) {
            Ok(0) => session.client.check_connection("lock")?,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(CliError::new(Exit::Failed, errno.to_string())),
        }
    }
    session.client.cancel.reset();
    Ok(file.close(&session.client.cx())?)
}

/// Opens for the lock; a lock on a range needs a file that is open for what it keeps others from.
fn open(client: &Client, path: &[u8], kind: LockKind, ranged: bool) -> CliResult<File> {
    let access = match ranged && kind == LockKind::Write {
        true => OpenFlags::RDWR,
        false => OpenFlags::RDONLY,
    };
    let flags = access | OpenFlags::NONBLOCK;
    let open = |flags| {
        let (cx, mode) = (client.cx(), client.masked(0o666));
        client.fs.open(&cx, client.at(path), flags, mode)
    };
    match open(flags) {
        Err(error) if error.errno() == Errno::ENOENT => Ok(open(flags | OpenFlags::CREAT)?),
        opened => Ok(opened?),
    }
}

fn take(client: &Client, file: &File, args: &LockArgs, kind: LockKind) -> CliResult<()> {
    let cx = client.cx();
    let taken = match args.range {
        Some(range) => {
            let pid = std::process::id();
            let owner = LockOwner::Description;
            let lock = RecordLock {
                kind,
                range,
                owner,
                pid,
            };
            file.set_lock(&cx, &lock, args.wait)
        }
        None => file.flock(&cx, kind, args.wait),
    };
    taken.map_err(|error| match error.errno() {
        Errno::EAGAIN => CliError::new(
            Exit::Failed,
            format!("{}: locked by somebody else", show(&args.path)),
        )
        .hint("--wait waits for it"),
        _ => error.into(),
    })
}

/// Gives up every lock of this shell on a file, by whatever name it was taken.
fn unlock(session: &mut Session, path: &[u8]) -> CliResult<()> {
    let Session { client, held, .. } = session;
    let ino = client.stat(path)?.ino;
    let cx = client.cx();
    let mut closed = None;
    let (of_file, others) = std::mem::take(held)
        .into_iter()
        .partition(|(node, _)| node.ino() == ino);
    *held = others;
    for (_, file) in of_file {
        closed = Some(closed.unwrap_or(Ok(())).and(file.close(&cx)));
    }
    match closed {
        Some(closed) => Ok(closed?),
        None => Err(CliError::new(
            Exit::Failed,
            format!("{}: not locked by this shell", show(path)),
        )),
    }
}
