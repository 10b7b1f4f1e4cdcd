//! Error numbers, and the error every operation of this crate returns.

use std::borrow::Cow;
use std::fmt;

/// A positive Linux error number (x86 and arm64 numbering), as it travels on the wire.
///
/// Unlike an enum this keeps numbers it has no name for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(i32);

macro_rules! errno_table {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        #[allow(missing_docs)]
        impl Errno {
            $(pub const $name: Errno = Errno($number);)*

            /// The symbolic name, such as `ENOENT`; `None` for a number without one.
            pub fn name(self) -> Option<&'static str> {
                match self.0 { $($number => Some(stringify!($name)),)* _ => None }
            }

            /// A short description in lower case; empty for a number without one.
            pub fn text(self) -> &'static str {
                match self.0 { $($number => $text,)* _ => "" }
            }

            /// The number that goes by `name`, such as `ENOENT`.
            pub fn from_name(name: &str) -> Option<Errno> {
                match name { $(stringify!($name) => Some(Errno($number)),)* _ => None }
            }
        }
    };
}

errno_table! {
    EPERM = 1, "operation not permitted";
    ENOENT = 2, "no such file or directory";
    ESRCH = 3, "no such process";
    EINTR = 4, "interrupted";
    EIO = 5, "input/output error";
    ENXIO = 6, "no such device or address";
    E2BIG = 7, "value too long";
    EBADF = 9, "bad file descriptor";
    EAGAIN = 11, "try again";
    ENOMEM = 12, "out of memory";
    EACCES = 13, "permission denied";
    EFAULT = 14, "bad address";
    EBUSY = 16, "in use";
    EEXIST = 17, "file exists";
    EXDEV = 18, "on another file system";
    ENODEV = 19, "no such device";
    ENOTDIR = 20, "not a directory";
    EISDIR = 21, "is a directory";
    EINVAL = 22, "invalid argument";
    ENFILE = 23, "too many open files in the system";
    EMFILE = 24, "too many open files";
    ENOTTY = 25, "not a terminal";
    ETXTBSY = 26, "text file busy";
    EFBIG = 27, "file too large";
    ENOSPC = 28, "no space left on device";
    ESPIPE = 29, "illegal seek";
    EROFS = 30, "read-only file system";
    EMLINK = 31, "too many links";
    EPIPE = 32, "broken pipe";
    ERANGE = 34, "result does not fit";
    EDEADLK = 35, "deadlock avoided";
    ENAMETOOLONG = 36, "name too long";
    ENOLCK = 37, "no locks available";
    ENOSYS = 38, "not implemented";
    ENOTEMPTY = 39, "directory not empty";
    ELOOP = 40, "too many levels of symbolic links";
    ENODATA = 61, "no such attribute";
    EPROTO = 71, "protocol error";
    EOVERFLOW = 75, "value too large";
    ENOTSOCK = 88, "not a socket";
    EMSGSIZE = 90, "message too long";
    EPROTOTYPE = 91, "wrong socket type";
    EOPNOTSUPP = 95, "not supported";
    EADDRINUSE = 98, "address in use";
    ECONNABORTED = 103, "connection aborted";
    ECONNRESET = 104, "connection reset";
    ENOBUFS = 105, "no buffer space";
    EISCONN = 106, "already connected";
    ENOTCONN = 107, "not connected";
    ETIMEDOUT = 110, "timed out";
    ECONNREFUSED = 111, "connection refused";
    EINPROGRESS = 115, "in progress";
    ESTALE = 116, "stale file handle";
    EREMOTEIO = 121, "remote failure";
    EDQUOT = 122, "quota exceeded";
    ECANCELED = 125, "cancelled";
}

impl Errno {
    /// Takes a number from a wire or a system call. Zero, negative numbers and numbers above
    /// 4095 mean nothing as an error and become `EIO`.
    pub fn from_raw(raw: i32) -> Errno {
        if (1..=4095).contains(&raw) {
            Errno(raw)
        } else {
            Errno::EIO
        }
    }

    /// The positive number.
    pub fn raw(self) -> i32 {
        self.0
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Errno {
        Errno::from_raw(errno.raw_os_error())
    }
}

impl From<&std::io::Error> for Errno {
    fn from(error: &std::io::Error) -> Errno {
        error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} ({name})", self.text()),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

/// What this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation that failed: which, on what, and why.
///
/// Reads like `rename a -> b: directory not empty (ENOTEMPTY)`. One pointer wide.
pub struct Error(Box<Inner>);

struct Inner {
    op: &'static str,
    path: Vec<u8>,
    target: Option<Vec<u8>>,
    errno: Errno,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of operation `op` on nothing in particular.
    pub fn new(op: &'static str, errno: Errno) -> Error {
        Error(Box::new(Inner {
            op,
            path: Vec::new(),
            target: None,
            errno,
            source: None,
        }))
    }

    /// An error of operation `op` on `path`.
    pub fn at(op: &'static str, path: impl Into<Vec<u8>>, errno: Errno) -> Error {
        let mut error = Error::new(op, errno);
        error.0.path = path.into();
        error
    }

    /// Names the second path of a two-path operation.
    #[must_use]
    pub fn with_target(mut self, target: impl Into<Vec<u8>>) -> Error {
        self.0.target = Some(target.into());
        self
    }

    /// Keeps what caused the error.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        self.0.source = Some(Box::new(source));
        self
    }

    /// The error number.
    pub fn errno(&self) -> Errno {
        self.0.errno
    }

    /// The operation, in the words of the system calls: `open`, `rename`, ...
    pub fn op(&self) -> &'static str {
        self.0.op
    }

    /// The path as the caller gave it; empty when there was none.
    pub fn path(&self) -> &[u8] {
        &self.0.path
    }

    /// The second path, of rename and link.
    pub fn target(&self) -> Option<&[u8]> {
        self.0.target.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op)?;
        if !self.0.path.is_empty() {
            write!(f, " {}", printable(&self.0.path))?;
        }
        if let Some(target) = &self.0.target {
            write!(f, " -> {}", printable(target))?;
        }
        write!(f, ": {}", self.0.errno)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        }
    }
}

/// `bytes` as text for a person: control characters and bytes that are not UTF-8 are escaped as
/// `\n` or `\xNN`, so that no name can steer a terminal or forge a line.
pub fn printable(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => return Cow::Borrowed(text),
        _ => {}
    }
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                out.extend(c.escape_default())
            } else {
                out.push(c)
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_operation_paths_and_errno() {
        let error = Error::at("rename", *b"a", Errno::ENOTEMPTY).with_target(*b"b");
        assert_eq!(
            error.to_string(),
            "rename a -> b: directory not empty (ENOTEMPTY)"
        );
        assert_eq!(
            Error::new("sync", Errno::EIO).to_string(),
            "sync: input/output error (EIO)"
        );
    }

    #[test]
    fn names_cannot_forge_a_line() {
        let error = Error::at("stat", *b"a\n\x1b[2Jb\xff", Errno::ENOENT);
        assert_eq!(
            error.to_string(),
            "stat a\\n\\u{1b}[2Jb\\xff: no such file or directory (ENOENT)"
        );
    }

    #[test]
    fn numbers_without_a_meaning_become_eio() {
        assert_eq!(Errno::from_raw(0), Errno::EIO);
        assert_eq!(Errno::from_raw(-2), Errno::EIO);
        assert_eq!(Errno::from_raw(5000), Errno::EIO);
        assert_eq!(Errno::from_raw(2), Errno::ENOENT);
        assert_eq!(Errno::from_raw(200).to_string(), "error 200");
        assert_eq!(Errno::from_name("ESTALE"), Some(Errno::ESTALE));
    }
}
