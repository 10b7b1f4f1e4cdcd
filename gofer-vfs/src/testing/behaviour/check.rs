//! How a case says what went wrong, and where.

use std::fmt;
use std::panic::Location;

use crate::error::{Errno, Error};

/// What went wrong in a case, with its place in the source.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure(String);

/// What a case returns.
pub type CaseResult = Result<(), Failure>;

impl Failure {
    /// A failure at the caller's place.
    #[track_caller]
    pub fn new(what: impl fmt::Display) -> Failure {
        let at = Location::caller();
        // The file's own name tells enough; its directory is this one.
        let file = at.file().rsplit('/').next().unwrap_or_default();
        Failure(format!("{file}:{}: {what}", at.line()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Failure {
    #[track_caller]
    fn from(error: Error) -> Failure {
        Failure::new(error)
    }
}

/// A call past the client that failed.
impl From<Errno> for Failure {
    #[track_caller]
    fn from(errno: Errno) -> Failure {
        Failure::new(format!("outside: {errno}"))
    }
}

/// Fails the case unless the condition holds; the rest is the message.
macro_rules! check {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err($crate::testing::behaviour::Failure::new(format!($($message)+)));
        }
    };
}

/// Fails the case unless both are equal; the rest says what is compared.
macro_rules! check_eq {
    ($found:expr, $expected:expr, $($what:tt)+) => {{
        let (found, expected) = (&$found, &$expected);
        if found != expected {
            let what = format!($($what)+);
            let message = format!("{what}: found {found:?}, expected {expected:?}");
            return Err($crate::testing::behaviour::Failure::new(message));
        }
    }};
}

/// Fails the case unless the operation fails with this error number.
macro_rules! check_errno {
    ($result:expr, $errno:ident) => {
        match $result {
            Err(error) if error.errno() == $crate::Errno::$errno => {}
            Err(error) => {
                let message = format!("{error}, expected {}", stringify!($errno));
                return Err($crate::testing::behaviour::Failure::new(message));
            }
            Ok(_) => {
                let what = stringify!($result);
                let message = format!("{what} succeeds, expected {}", stringify!($errno));
                return Err($crate::testing::behaviour::Failure::new(message));
            }
        }
    };
}

/// A table of cases: `name`, or `name: what it needs`.
macro_rules! cases {
    ($($name:ident $(: $need:ident)?),* $(,)?) => {
        pub(super) const CASES: &[$crate::testing::behaviour::Case] = &[
            $($crate::testing::behaviour::Case {
                name: stringify!($name),
                applies: cases!(@need $($need)?),
                run: $name,
            }),*
        ];
    };
    (@need) => { $crate::testing::behaviour::needs::nothing };
    (@need $need:ident) => { $crate::testing::behaviour::needs::$need };
}
