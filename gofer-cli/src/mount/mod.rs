//! `mount` and `umount`: the tree as a directory of this machine.
//!
//! `mount` starts itself again for the background. The copy connects, mounts, says so on its
//! standard output, which is a pipe to the first, and only then lets go of the terminal; so
//! whatever goes wrong is seen, and the mount answers when the command has ended.

mod ending;
pub mod helper;
mod options;
mod serve;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gofer_fuse::{Detach, MountError};
use gofer_vfs::Errno;

use crate::args::{ConnectionArgs, OutputArgs};
use crate::error::{CliError, CliResult, Tally};
use crate::exit::Exit;
use crate::ui::Ui;

pub use options::KEYS_HELP;

/// Arguments of `mount`.
#[derive(clap::Args, Debug, Clone)]
pub struct MountArgs {
    /// A directory that exists; a file, for a tree that is one file
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: PathBuf,
    /// Stay in the foreground
    #[arg(short, long)]
    foreground: bool,
    /// Write the number of the process that serves the mount to FILE
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Write what the mount has to say in the background to FILE
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Only check the options
    #[arg(long)]
    check: bool,
}

impl MountArgs {
    /// Whether this process is the copy for the background.
    fn in_background(&self) -> bool {
        !self.foreground && std::env::var_os(helper::COPY).is_some()
    }
}

/// Arguments of `umount`.
#[derive(clap::Args, Debug)]
pub struct UmountArgs {
    /// Where trees are mounted
    #[arg(value_name = "MOUNTPOINT", required = true)]
    mountpoints: Vec<PathBuf>,
    /// Unmount at once, also what is in use: it goes away when it is not used any more
    #[arg(short, long)]
    lazy: bool,
}

/// Mounts, in the background unless told otherwise.
pub fn mount(
    args: &MountArgs,
    connection: &ConnectionArgs,
    output: &OutputArgs,
    ui: &mut Ui,
) -> CliResult<()> {
    // Wrong options are told before anything is started.
    let plan = options::Plan::new(args, connection)?;
    if args.check {
        return Ok(());
    }
    if args.foreground || args.in_background() {
        return serve::run(args, plan, connection, output, ui);
    }
    start_copy()
}

/// Starts this program again with the same arguments, and waits until it says that it is ready,
/// or ends.
fn start_copy() -> CliResult<()> {
    let failed = |error: &std::io::Error| {
        CliError::new(
            Exit::Mount,
            format!("cannot start a background process: {error}"),
        )
    };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    // The link leads to the program that runs now, even when its file has been replaced since.
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name).args(arguments).env(helper::COPY, "1");
    let mut copy = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| failed(&error))?;
    let mut line = String::new();
    if let Some(stdout) = copy.stdout.take() {
        // An error is as good as silence: the copy has not said that it is ready.
        let _ = BufReader::new(stdout).read_line(&mut line);
    }
    if line.trim_end() == serve::READY {
        return Ok(());
    }
    let status = copy.wait().map_err(|error| failed(&error))?;
    // What was wrong it has said itself.
    Err(match status.code() {
        Some(code) => CliError::told(Exit::Local(u8::try_from(code).unwrap_or(1))),
        None => CliError::new(
            Exit::Mount,
            format!("the background process ended: {status}"),
        ),
    })
}

/// Unmounts each, and goes on after failures. Waits for the processes behind them, to tell what
/// could not be written.
pub fn umount(args: &UmountArgs, ui: &Ui) -> CliResult<()> {
    let how = match args.lazy {
        true => Detach::Lazily,
        false => Detach::IfIdle,
    };
    let unmount = |path: &PathBuf| {
        let process = match args.lazy {
            true => None,
            false => ending::Wait::for_mount(path),
        };
        gofer_fuse::unmount(path, how).map_err(|error| failure("umount", path, &error))?;
        process.map_or(Ok(()), |process| process.wait(path))
    };
    if let [path] = args.mountpoints.as_slice() {
        return unmount(path);
    }
    let mut tally = Tally::default();
    for path in &args.mountpoints {
        let done = unmount(path);
        tally.note(done, |error| ui.error(error))?;
    }
    tally.finish()
}

/// What went wrong with the mount on `path`, with what may help.
fn failure(op: &str, path: &Path, error: &MountError) -> CliError {
    let errno = error.errno();
    let cause = match error {
        MountError::MountPoint { source, .. } | MountError::Refused { source, .. } => {
            Errno::from(source).to_string()
        }
        other => other.to_string(),
    };
    let failure = CliError::new(Exit::Mount, format!("{op} {}: {cause}", path.display()))
        .with_errno(op, errno);
    match (op, error, errno) {
        ("umount", _, Errno::EBUSY) => {
            failure.hint("somebody uses it: `fuser -vm` tells who; -l unmounts all the same")
        }
        ("umount", _, Errno::EINVAL) => failure.hint("nothing is mounted there"),
        (_, MountError::NoDevice(_), _) => {
            failure.hint("load the kernel's module: `modprobe fuse`")
        }
        (_, MountError::NoHelper(_), _) => {
            failure.hint("users who are not root need fusermount3, from the package fuse3")
        }
        (_, MountError::Helper(text), _) if text.contains("user_allow_other") => {
            failure.hint("put the line user_allow_other into /etc/fuse.conf, or mount as root")
        }
        (_, MountError::MountPoint { .. }, Errno::ENOTCONN) => failure.hint(format!(
            "a mount is there whose server is gone: `gofer-cli umount {}` clears it",
            path.display()
        )),
        ("mount", MountError::MountPoint { .. }, Errno::ENOTDIR) => {
            failure.hint("a directory goes on a directory, and a file on a file")
        }
        _ => failure,
    }
}
