//! The error every command returns: what to say, what hints help, how to exit.

use std::fmt;
use std::io;
use std::path::Path;

use gofer_vfs::Errno;
use gofer_vfs::error::printable;
use serde_json::{Value, json};

use crate::exit::Exit;

/// What commands return.
pub type CliResult<T> = Result<T, CliError>;

/// A failure on its way to the user.
#[derive(Debug)]
pub struct CliError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    exit: Exit,
    message: String,
    hints: Vec<String>,
    errno: Option<Errno>,
    op: Option<String>,
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    /// The user has seen it already; only the exit code is left to give.
    told: bool,
}

impl CliError {
    /// A failure with a message of its own.
    pub fn new(exit: Exit, message: impl Into<String>) -> CliError {
        CliError(Box::new(Inner {
            exit,
            message: message.into(),
            hints: Vec::new(),
            errno: None,
            op: None,
            path: None,
            target: None,
            told: false,
        }))
    }

    /// Wrong use of a command.
    pub fn usage(message: impl Into<String>) -> CliError {
        CliError::new(Exit::Usage, message)
    }

    /// A failure whose messages were printed as they came.
    pub fn told(exit: Exit) -> CliError {
        let mut error = CliError::new(exit, "");
        error.0.told = true;
        error
    }

    /// Ctrl-C.
    pub fn interrupted() -> CliError {
        CliError::new(Exit::Interrupted, "interrupted").with_errno("interrupt", Errno::EINTR)
    }

    /// A failed operation on the local side.
    pub fn local(op: &str, path: &Path, error: &io::Error) -> CliError {
        use std::os::unix::ffi::OsStrExt;
        CliError::local_bytes(op, path.as_os_str().as_bytes(), Errno::from(error))
    }

    /// [`CliError::local`] for a path in bytes.
    pub fn local_bytes(op: &str, path: &[u8], errno: Errno) -> CliError {
        let mut error = CliError::new(
            Exit::Failed,
            format!("local {op} {}: {errno}", printable(path)),
        )
        .with_errno(op, errno);
        error.0.path = Some(path.to_vec());
        error
    }

    /// A failure to write what the command has to say.
    pub fn output(error: &io::Error) -> CliError {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return CliError::told(Exit::BrokenPipe);
        }
        let errno = Errno::from(error);
        CliError::new(Exit::Failed, format!("write standard output: {errno}"))
            .with_errno("write", errno)
    }

    /// Attaches the operation and the number that scripts look at.
    #[must_use]
    pub fn with_errno(mut self, op: &str, errno: Errno) -> CliError {
        self.0.op = Some(op.to_owned());
        self.0.errno = Some(errno);
        self
    }

    /// Adds a line of advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> CliError {
        self.0.hints.push(hint.into());
        self
    }

    /// Changes how the process ends.
    #[must_use]
    pub fn with_exit(mut self, exit: Exit) -> CliError {
        self.0.exit = exit;
        self
    }

    /// Puts a place (such as `line 3`) before the message.
    #[must_use]
    pub fn within(mut self, place: &str) -> CliError {
        if !self.0.told {
            self.0.message = format!("{place}: {}", self.0.message);
        }
        self
    }

    /// How the process is to end.
    pub fn exit(&self) -> Exit {
        self.0.exit
    }

    /// The error number, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno
    }

    /// Whether the user has seen it.
    pub fn is_told(&self) -> bool {
        self.0.told
    }

    /// Lines of advice.
    pub fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// Whether going on with the next file makes no sense.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self.0.exit,
            Exit::Lost | Exit::Interrupted | Exit::BrokenPipe
        )
    }

    /// The object `--json` prints on standard error.
    pub fn to_json(&self) -> Value {
        let bytes = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(crate::ui::json::name);
        let mut object = json!({
            "error": self.0.message,
            "errno": self.0.errno.map(|errno| match errno.name() {
                Some(name) => Value::from(name),
                None => Value::from(errno.raw()),
            }),
            "op": self.0.op,
            "path": bytes(&self.0.path),
            "exit_code": self.0.exit.code(),
        });
        if let Some(target) = bytes(&self.0.target) {
            object["target"] = target;
        }
        if !self.0.hints.is_empty() {
            object["hints"] = self.0.hints.clone().into();
        }
        object
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl From<gofer_vfs::Error> for CliError {
    fn from(error: gofer_vfs::Error) -> CliError {
        let mut cli =
            CliError::new(Exit::Failed, error.to_string()).with_errno(error.op(), error.errno());
        if !error.path().is_empty() {
            cli.0.path = Some(error.path().to_vec());
        }
        cli.0.target = error.target().map(<[u8]>::to_vec);
        let hint = match error.errno() {
            Errno::ENAMETOOLONG => {
                Some("a name holds at most 255 bytes and a path 4095; `cd` shortens a path")
            }
            Errno::EROFS => {
                Some("mounted with --readonly or -o ro, or the server exports it read-only")
            }
            Errno::ESTALE => {
                Some("the file was replaced on the server; `cache drop` forgets what was known")
            }
            Errno::ETIMEDOUT => Some("--timeout SECONDS sets how long to wait for an answer"),
            Errno::EOPNOTSUPP if error.op() == "checkpoint" => Some(
                "no image can hold it: a removed file that has other names which nobody looked at, \
                 a socket that is bound on the server, or a connection",
            ),
            Errno::EOPNOTSUPP | Errno::ENOSYS => {
                Some("this server, or the protocol it speaks, has no such operation")
            }
            _ => None,
        };
        match hint {
            Some(hint) => cli.hint(hint),
            None => cli,
        }
    }
}

/// Of several operations, how many succeeded. Failures are printed as they come.
#[derive(Default, Debug)]
pub struct Tally {
    done: u64,
    failed: u64,
}

impl Tally {
    /// Counts `result`. An error is shown through `show` and swallowed, unless going on makes
    /// no sense.
    pub fn note(&mut self, result: CliResult<()>, show: impl FnOnce(&CliError)) -> CliResult<()> {
        match result {
            Ok(()) => self.done += 1,
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                // Part of what it stands for succeeded.
                if error.exit() == Exit::Partial {
                    self.done += 1;
                }
                self.failed += 1;
                show(&error);
            }
        }
        Ok(())
    }

    /// What the whole amounts to.
    pub fn finish(self) -> CliResult<()> {
        match (self.done, self.failed) {
            (_, 0) => Ok(()),
            (0, _) => Err(CliError::told(Exit::Failed)),
            _ => Err(CliError::told(Exit::Partial)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vfs_error_keeps_its_words_and_numbers() {
        let error = gofer_vfs::Error::at("rename", *b"a", Errno::ENOTEMPTY).with_target(*b"b");
        let error = CliError::from(error);
        assert_eq!(
            error.to_string(),
            "rename a -> b: directory not empty (ENOTEMPTY)"
        );
        assert_eq!(
            error.to_json(),
            json!({
                "error": "rename a -> b: directory not empty (ENOTEMPTY)",
                "errno": "ENOTEMPTY", "op": "rename", "path": "a", "target": "b", "exit_code": 1,
            })
        );
    }

    #[test]
    fn a_broken_pipe_is_silent_and_counts_as_success() {
        let error = CliError::output(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(error.is_told() && error.is_fatal());
        assert_eq!(error.exit().code(), 0);
    }

    #[test]
    fn a_tally_tells_none_some_and_all_apart() {
        let fail = || Err(CliError::new(Exit::Failed, "x"));
        let run = |results: Vec<CliResult<()>>| {
            let mut tally = Tally::default();
            for result in results {
                tally.note(result, |_| {}).unwrap();
            }
            tally.finish().map_err(|error| error.exit())
        };
        assert_eq!(run(vec![Ok(()), Ok(())]), Ok(()));
        assert_eq!(run(vec![fail(), fail()]), Err(Exit::Failed));
        assert_eq!(run(vec![Ok(()), fail()]), Err(Exit::Partial));
        let lost = Err(CliError::new(Exit::Lost, "gone"));
        assert!(Tally::default().note(lost, |_| {}).is_err());
    }
}
