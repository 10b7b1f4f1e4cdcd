//! Exit codes: what a script learns from the way a command ends.

use std::process::ExitCode;

/// How the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// All done.
    Done,
    /// The operation failed; its errno was reported.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// The configuration file does.
    Config,
    /// No connection, or the handshake failed.
    Connect,
    /// The connection was lost midway.
    Lost,
    /// Some of several operations succeeded, some failed.
    Partial,
    /// The tree could not be mounted or unmounted, as mount(8) has it.
    Mount,
    /// Nobody reads our output any more. Nothing is said about it.
    BrokenPipe,
    /// Ctrl-C.
    Interrupted,
    /// As another process that did the work.
    Local(u8),
}

impl Exit {
    /// The number handed to the parent process.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done | Exit::BrokenPipe => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Config => 3,
            Exit::Connect => 4,
            Exit::Lost => 5,
            Exit::Partial => 6,
            Exit::Mount => 32,
            Exit::Interrupted => 130,
            Exit::Local(code) => code,
        }
    }

    /// The exit code mount(8) expects of the helper of a file system type.
    pub fn for_helper(self) -> ExitCode {
        ExitCode::from(match self {
            Exit::Done | Exit::BrokenPipe => 0,
            Exit::Usage | Exit::Config => 1,
            _ => Exit::Mount.code(),
        })
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// The table shown by `--help` and in the man page.
pub const TABLE: &str = "\
Exit codes:
    0  done (also when the reader of our output went away)
    1  the operation failed; the errno is in the message
    2  usage: unknown option, missing argument
    3  the configuration file is wrong
    4  cannot connect, or the handshake failed
    5  the connection was lost midway
    6  partial success: some files of several failed
   32  mounting or unmounting failed
  130  interrupted by Ctrl-C
lock ends as the command it runs.";
