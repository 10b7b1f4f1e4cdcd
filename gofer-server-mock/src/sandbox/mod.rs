//! What the server process gives up before it reads the first byte of a client.
//!
//! Whoever takes over the process through a flaw must not gain more than its clients have. Four
//! parts, each in a file of its own or one call:
//!
//! - [`capabilities`](self::capabilities): those of root that serving files does not need.
//! - no new privileges: programs with set-user-id bits or file capabilities give none.
//! - [`landlock`](self::landlock): files beyond the exports, TCP, signals to others.
//! - [`seccomp`](self::seccomp): system calls that serving files does not need.
//!
//! They hold for the calling thread and those it starts, so they are applied when there is no
//! other, after everything is open that is opened once: configuration, roots, listeners.
//! Nothing here is for a library's user; the program alone calls it.

mod capabilities;
mod landlock;
mod seccomp;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// `--sandbox`.
#[derive(clap::ValueEnum, serde::Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// What this system offers
    #[default]
    Auto,
    /// All of it, or do not serve
    Require,
    /// Nothing
    Off,
}

/// A served directory or file.
pub(crate) struct Root<'a> {
    /// The root itself, however it was opened.
    pub(crate) fd: BorrowedFd<'a>,
    pub(crate) is_dir: bool,
    pub(crate) readonly: bool,
}

/// What serving needs.
#[derive(Default)]
pub(crate) struct Needs<'a> {
    pub(crate) roots: Vec<Root<'a>>,
    /// Socket files that are removed at the end.
    pub(crate) socket_files: Vec<&'a Path>,
    /// Whether an export lets clients connect to sockets, with user ids of their choice.
    pub(crate) connect: bool,
    /// Whether an export lets clients bind sockets.
    pub(crate) bind: bool,
    /// Whether requests of an export are carried out as others than the server.
    pub(crate) users: bool,
}

/// What became of a part: what it says of itself, or why it could not be applied.
struct Part {
    name: &'static str,
    result: Result<String, String>,
}

/// What became of all parts. Shown as one line.
pub(crate) struct Applied(Vec<Part>);

/// Restricts this thread and those it will start, with every part that can be.
pub(crate) fn apply(needs: &Needs<'_>) -> Applied {
    // rustix asks the kernel for this once, by ways that will be closed.
    let _ = rustix::param::page_size();
    let part = |name, result| Part { name, result };
    // Each needs what the next takes away: capabilities go while prctl is there, and the filter
    // of system calls comes last.
    Applied(vec![
        part("capabilities", capabilities::drop_unneeded(needs)),
        part(
            "no new privileges",
            rustix::thread::set_no_new_privs(true)
                .map(|()| String::new())
                .map_err(|error| crate::run::reason(&error.into())),
        ),
        part("landlock", landlock::restrict(needs)),
        part("seccomp", seccomp::filter(needs)),
    ])
}

impl Applied {
    /// Fails, with the reasons, unless every part was applied.
    pub(crate) fn require(&self) -> Result<(), String> {
        let missing: Vec<String> = self.missing().collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(missing.join("; "))
        }
    }

    fn missing(&self) -> impl Iterator<Item = String> {
        self.0
            .iter()
            .filter_map(|part| Some(format!("{}: {}", part.name, part.result.as_ref().err()?)))
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let applied: Vec<String> = self
            .0
            .iter()
            .filter_map(|part| match part.result.as_deref() {
                Ok("") => Some(part.name.to_owned()),
                Ok(detail) => Some(format!("{} ({detail})", part.name)),
                Err(_) => None,
            })
            .collect();
        match applied.as_slice() {
            [] => f.write_str("none")?,
            applied => f.write_str(&applied.join(", "))?,
        }
        for missing in self.missing() {
            write!(f, "; without {missing}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_was_applied_and_what_was_not() {
        let part = |name, result: Result<&str, &str>| Part {
            name,
            result: result.map(str::to_owned).map_err(str::to_owned),
        };
        let mut applied = Applied(vec![
            part("capabilities", Ok("8 kept")),
            part("no new privileges", Ok("")),
        ]);
        assert_eq!(applied.require(), Ok(()));
        assert_eq!(
            applied.to_string(),
            "capabilities (8 kept), no new privileges"
        );
        applied.0.push(part("landlock", Err("too old")));
        assert_eq!(applied.require(), Err("landlock: too old".to_owned()));
        assert_eq!(
            applied.to_string(),
            "capabilities (8 kept), no new privileges; without landlock: too old"
        );
    }
}
