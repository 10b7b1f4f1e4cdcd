//! What goes with every operation: on whose behalf, how long, and where a path starts.

use std::time::{Duration, Instant};

use crate::dentry::Node;
use crate::locks;
use crate::permissions::Credentials;
use crate::remote::{Call, Cancel};

/// On whose behalf an operation runs, and for how long.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Whose permissions are checked.
    pub creds: &'a Credentials,
    /// When to give up with `ETIMEDOUT`; `None` waits as long as the connection lives.
    pub deadline: Option<Instant>,
    /// Gives up with `EINTR` when it is set off.
    pub cancel: Option<&'a Cancel>,
    /// The largest size a file may be given, in bytes (`RLIMIT_FSIZE`).
    pub file_size_limit: u64,
}

impl<'a> Context<'a> {
    /// For `creds`: no deadline, no way to cancel, files of any size.
    pub fn new(creds: &'a Credentials) -> Context<'a> {
        Context {
            creds,
            deadline: None,
            cancel: None,
            file_size_limit: u64::MAX,
        }
    }

    /// What a remote call is given. Asserts, in debug builds, that the locks held allow one.
    #[track_caller]
    pub(crate) fn call(&self) -> Call<'a> {
        locks::assert_may_call();
        Call {
            deadline: self.deadline,
            cancel: self.cancel,
        }
    }
}

/// How long the server may take for what nobody asked for with a context: closing a file that
/// was dropped, sending times.
pub(crate) const UNATTENDED_TIMEOUT: Duration = Duration::from_secs(30);

/// What a remote call is given that nobody waits for with a context.
#[track_caller]
pub(crate) fn unattended_call() -> Call<'static> {
    locks::assert_may_call();
    Call {
        deadline: Some(Instant::now() + UNATTENDED_TIMEOUT),
        cancel: None,
    }
}

/// A path and where it starts, as in `openat(2)`.
///
/// A relative path starts in `dir`, an absolute one (and every absolute symbolic link on the
/// way) at `root`, above which `..` does not lead. The empty path means `dir` itself, except
/// where a name is made, removed or renamed: there it is `ENOENT`.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// Where relative paths start.
    pub dir: &'a Node,
    /// Where absolute paths start; `None` is the root of the filesystem.
    pub root: Option<&'a Node>,
    /// The path, in bytes.
    pub path: &'a [u8],
}

impl<'a> At<'a> {
    /// `path` from `dir`, with the filesystem's root as root.
    pub fn new(dir: &'a Node, path: &'a [u8]) -> At<'a> {
        At {
            dir,
            root: None,
            path,
        }
    }
}

/// Whether a symbolic link at the end of a path stands for its target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Follow {
    /// It does.
    Yes,
    /// It stands for itself, unless the path goes on with a slash.
    No,
}
