//! The process that serves a mount: connects, mounts, and stays until it is unmounted.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use gofer_fuse::{Detach, Session};
use gofer_transport::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::ending::Ending;
use super::options::Plan;
use super::{MountArgs, failure};
use crate::args::{ConnectionArgs, OutputArgs};
use crate::client::Client;
use crate::error::{CliError, CliResult};
use crate::exit::Exit;
use crate::target::Target;
use crate::transfer::raise_descriptor_limit;
use crate::ui::Ui;
use crate::{ids, logging};

/// What the copy in the background says when the mount answers.
pub const READY: &str = "mounted";

/// How long those who use the mount may go on after a signal to end.
const GRACE: Duration = Duration::from_secs(1);

/// Why the wait is over.
enum Event {
    /// Unmounted, and nobody uses it any more.
    Ended(std::io::Result<()>),
    Signal,
}

/// Serves until the mount is gone.
pub fn run(
    args: &MountArgs,
    mut plan: Plan,
    connection: &ConnectionArgs,
    output: &OutputArgs,
    ui: &mut Ui,
) -> CliResult<()> {
    let background = args.in_background();
    if background {
        // Away from the terminal; refused to the leader of a group, which is not needed then.
        let _ = rustix::process::setsid();
    }
    let settings = crate::settings(&plan.connection)?;
    let credentials = settings.credentials(ids::caller());
    let trace = connection.trace.clone();
    // Nothing is opened before this: inherited descriptors are still the only ones.
    let log = args.log_file.as_deref().unwrap_or(Path::new("/dev/null"));
    let log = background.then_some(log);
    let (target, trusted) = Target::new(settings, &plan.connection)?
        .with_all_types()
        .with_server_log(log)
        .with_checks_trusted_by_caller();
    plan.fuse.checks_trusted = trusted;
    let connected = target.connect(&|| logging::tracer(trace.as_deref()))?;
    let signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| no_signals(&error))?;
    raise_descriptor_limit();
    logging::start(output.verbose);
    let cancel = std::sync::Arc::new(Cancel::new().map_err(|error| no_signals(&error))?);
    let client = Client::new(connected, credentials, cancel);
    let mut known = Known::default();
    let served = serve(args, &plan, &client, signals, log, &mut known, ui);
    let outcome = served.and(client.close());
    if let Some(ending) = known.ending.take() {
        ending.tell(&outcome);
    }
    outcome
}

/// How others know of this process, until everything is written.
#[derive(Default)]
struct Known {
    pid_file: Option<PidFile>,
    ending: Option<Ending>,
}

fn no_signals(error: &std::io::Error) -> CliError {
    CliError::new(Exit::Failed, format!("cannot listen for signals: {error}"))
}

fn serve(
    args: &MountArgs,
    plan: &Plan,
    client: &Client,
    signals: Signals,
    log: Option<&Path>,
    known: &mut Known,
    ui: &mut Ui,
) -> CliResult<()> {
    let path = &args.mountpoint;
    let session = Session::mount(client.fs.clone(), path, &plan.fuse)
        .map_err(|error| failure("mount", path, &error))?;
    // It answers: somebody asks.
    std::fs::metadata(session.path())
        .map_err(|error| CliError::local("stat", path, &error).with_exit(Exit::Mount))?;
    known.pid_file = args.pid_file.as_deref().map(PidFile::write).transpose()?;
    known.ending = Ending::announce(session.path())
        .inspect_err(|error| tracing::warn!(%error, "umount will not wait for this process"))
        .ok();
    if let Some(path) = log {
        let log = open_log(path)?;
        ui.write(format!("{READY}\n").as_bytes())?;
        ui.flush()?;
        leave_terminal(&log)?;
    } else {
        ui.write(
            format!(
                "{} is mounted on {}\n",
                client.label,
                session.path().display()
            )
            .as_bytes(),
        )?;
        ui.flush()?;
    }
    wait(session, signals, path)
}

/// Waits until the mount is gone, or a signal asks for that.
fn wait(session: Session, mut signals: Signals, path: &Path) -> CliResult<()> {
    let stopper = session.stopper();
    let (events, received) = channel();
    let ended = events.clone();
    let lost = |error: &std::io::Error| {
        CliError::new(Exit::Mount, format!("serve {}: {error}", path.display()))
    };
    spawn("unmounted", move || {
        let _ = ended.send(Event::Ended(session.wait()));
    })
    .map_err(|error| lost(&error))?;
    spawn("signals", move || {
        for _ in signals.forever() {
            let _ = events.send(Event::Signal);
        }
    })
    .map_err(|error| lost(&error))?;
    match received.recv() {
        Ok(Event::Ended(ended)) => return ended.map_err(|error| lost(&error)),
        Ok(Event::Signal) => {}
        Err(_) => return Ok(()),
    }
    // In use, it goes from its place at once, and from its users after a while.
    stopper
        .stop(Detach::IfIdle)
        .or_else(|_| stopper.stop(Detach::Lazily))
        .map_err(|error| failure("umount", path, &error))?;
    wait_for_users(&received).map_err(|error| lost(&error))
}

/// Waits for those who use what was unmounted, but not for long; another signal ends that, too.
fn wait_for_users(received: &Receiver<Event>) -> std::io::Result<()> {
    match received.recv_timeout(GRACE) {
        Ok(Event::Ended(ended)) => ended,
        Ok(Event::Signal) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Ok(())
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
}

/// The number of this process, in a file that goes with it.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> CliResult<PidFile> {
        let failed = |error: std::io::Error| CliError::local("write", path, &error);
        let mut file = File::create(path).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        Ok(PidFile(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn open_log(path: &Path) -> CliResult<File> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| CliError::local("open", path, &error))
}

/// Writes to `log` what would go to the terminal, and keeps no directory in use.
fn leave_terminal(log: &File) -> CliResult<()> {
    let failed =
        |error: std::io::Error| CliError::local("redirect to", Path::new("the log"), &error);
    rustix::stdio::dup2_stdout(log).map_err(|errno| failed(errno.into()))?;
    rustix::stdio::dup2_stderr(log).map_err(|errno| failed(errno.into()))?;
    std::env::set_current_dir("/").map_err(failed)
}
