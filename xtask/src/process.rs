//! Server processes: starting them, waiting until they are ready, ending them.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How much of a server's standard error is shown, from its end.
const LOG_SHOWN: u64 = 4096;

/// A child that is killed and waited for when dropped. Its standard error is kept.
pub struct Server {
    child: Child,
    /// Knows of the end of the child without a signal handler or a thread.
    pidfd: OwnedFd,
    stdout: Option<ChildStdout>,
    log: File,
}

impl Server {
    /// Starts `command` with `input` as its standard input, or none.
    pub fn start(mut command: Command, input: Option<OwnedFd>) -> Result<Server> {
        command
            .stdin(input.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped());
        Server::spawn(&mut command)
    }

    /// Starts `command`, which writes what it has to say to `output`.
    pub fn with_output(command: &mut Command, output: File) -> Result<Server> {
        command.stdin(Stdio::null()).stdout(output);
        Server::spawn(command)
    }

    fn spawn(command: &mut Command) -> Result<Server> {
        let log = tempfile::tempfile().context("make a log file")?;
        let mut child = command
            .stderr(log.try_clone()?)
            .spawn()
            .with_context(|| format!("start {}", command.get_program().to_string_lossy()))?;
        let stdout = child.stdout.take();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
        let pidfd = match pidfd {
            Ok(pidfd) => pidfd,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error).context("watch the server");
            }
        };
        Ok(Server {
            child,
            pidfd,
            stdout,
            log,
        })
    }

    /// The first line the server writes to its standard output, without the line end.
    pub fn ready_line(&mut self, within: Duration) -> Result<String> {
        let deadline = Instant::now() + within;
        let mut stdout = self.stdout.take().context("the line was read before")?;
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            if !readable_before(&stdout, deadline)? {
                bail!("no line from the server within {within:?}\n{}", self.log());
            }
            if stdout.read(&mut byte)? == 0 {
                bail!("the server ended before it was ready\n{}", self.log());
            }
            match byte {
                [b'\n'] => break,
                [other] => line.push(other),
            }
        }
        // Kept open: a server that prints more must not die of it.
        self.stdout = Some(stdout);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Waits for the server to end by itself; `None` when it has not in time.
    pub fn wait(&mut self, within: Duration) -> Result<Option<ExitStatus>> {
        if !readable_before(&self.pidfd, Instant::now() + within)? {
            return Ok(None);
        }
        Ok(Some(self.child.wait()?))
    }

    /// Whether the server still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks the server to end, as a service manager does, and waits for it.
    pub fn terminate(&mut self, within: Duration) -> Result<Option<ExitStatus>> {
        pidfd_send_signal(&self.pidfd, Signal::TERM).context("send SIGTERM")?;
        self.wait(within)
    }

    /// Ends the server at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The end of what the server wrote to its standard error.
    pub fn log(&self) -> String {
        let size = self.log.metadata().map_or(0, |metadata| metadata.len());
        let mut tail = vec![0; size.min(LOG_SHOWN) as usize];
        match self
            .log
            .read_exact_at(&mut tail, size.saturating_sub(LOG_SHOWN))
        {
            Ok(()) => String::from_utf8_lossy(&tail).into_owned(),
            Err(error) => format!("(the log cannot be read: {error})"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn readable_before(fd: &impl AsFd, deadline: Instant) -> Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(error) if std::io::Error::from(error).kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Server {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Server::start(command, None).unwrap()
    }

    #[test]
    fn a_ready_line_and_an_exit_are_seen() {
        let mut server = shell("echo listening on x; echo more; exit 3");
        assert_eq!(server.ready_line(LONG).unwrap(), "listening on x");
        assert_eq!(server.wait(LONG).unwrap().unwrap().code(), Some(3));
    }

    #[test]
    fn a_server_that_dies_early_is_reported_with_what_it_said() {
        let mut server = shell("echo no such directory >&2");
        let error = server.ready_line(LONG).unwrap_err().to_string();
        assert!(error.contains("no such directory"), "{error}");
    }

    #[test]
    fn silence_is_not_waited_for_beyond_the_limit() {
        let mut server = shell("exec sleep 60");
        assert!(server.ready_line(Duration::ZERO).is_err());
        assert_eq!(server.wait(Duration::ZERO).unwrap(), None);
        assert!(server.is_running());
        let status = server.terminate(LONG).unwrap().unwrap();
        assert!(!status.success() && !server.is_running());
    }
}
