//! Save and restore (semantics 21): [`Filesystem::checkpoint`] writes an *image* of what is in
//! use, [`Filesystem::restore`] brings it back over a new connection, of either protocol.
//!
//! - `image`: the format, and reading it without trust; `save`; `verify`: finding every file by
//!   its path and comparing; `rebuild`: the tree and the open files.
//!
//! An image holds names, what the server said of each file, times that only this client knows,
//! open files with their offsets, flags and locks, and the content of files that have no name
//! any more. What is merely cached stays out of it: unused names, absent names, listings (they
//! may be wrong by the time of a restore). Everything else is on the server.

mod image;
mod nameless;
mod rebuild;
mod save;
mod verify;

use std::fmt;

use crate::dentry::Node;
use crate::error::{Errno, Error, printable};
use crate::file::File;
use crate::filesystem::Filesystem;
use crate::notify::Notifier;
use crate::socket::Listener;

pub use image::ImageError;

#[cfg(any(test, feature = "testing"))]
pub use image::{check as check_image, seal as seal_image};

/// What its users want back from an image, each under a number of their choice.
#[derive(Clone, Copy, Default)]
pub struct Keep<'a> {
    /// Open files.
    pub files: &'a [(u64, &'a File)],
    /// Places in the tree, such as a current directory.
    pub nodes: &'a [(u64, &'a Node)],
    /// Queues of events, with their watches.
    pub notifiers: &'a [(u64, &'a Notifier)],
    /// Sockets of this client alone. Who waits to be let in is not saved.
    pub listeners: &'a [(u64, &'a Listener)],
}

/// What must be on the server as it was, beside the types of all files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verify {
    /// The size of each regular file.
    pub size: bool,
    /// The modification time of each regular file.
    pub mtime: bool,
    /// The server's identity of each file, if the protocol is the same: off for a tree that was
    /// copied to another server.
    pub identity: bool,
}

impl Default for Verify {
    /// Everything.
    fn default() -> Verify {
        Verify {
            size: true,
            mtime: true,
            identity: true,
        }
    }
}

/// What an image became.
pub struct Restored {
    /// The tree.
    pub fs: Filesystem,
    /// The open files, under the numbers they were saved with.
    pub files: Vec<(u64, File)>,
    /// The places, likewise.
    pub nodes: Vec<(u64, Node)>,
    /// The queues of events, likewise. A watch whose file is not there any more is told as gone.
    pub notifiers: Vec<(u64, Notifier)>,
    /// The bound sockets, likewise.
    pub listeners: Vec<(u64, Listener)>,
}

/// Why an image was not restored. Nothing was changed on the server.
#[derive(Debug)]
pub enum RestoreError {
    /// It is no image, or a damaged one.
    Image(ImageError),
    /// The server has not what was there when the image was made.
    Mismatch {
        /// Where.
        path: Vec<u8>,
        /// What differs: type, size, modification time, identity, or existence.
        what: &'static str,
        /// As it was.
        expected: String,
        /// As it is.
        found: String,
    },
    /// A request failed.
    Failed(Error),
}

impl RestoreError {
    /// The error number: `EINVAL` for a bad image, `ESTALE` for a mismatch.
    pub fn errno(&self) -> Errno {
        match self {
            RestoreError::Image(_) => Errno::EINVAL,
            RestoreError::Mismatch { .. } => Errno::ESTALE,
            RestoreError::Failed(error) => error.errno(),
        }
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::Image(error) => write!(f, "restore: {error}"),
            RestoreError::Mismatch {
                path,
                what,
                expected,
                found,
            } => write!(
                f,
                "restore {}: {what} was {expected}, is {found}",
                printable(path)
            ),
            RestoreError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RestoreError {}

impl From<ImageError> for RestoreError {
    fn from(error: ImageError) -> RestoreError {
        RestoreError::Image(error)
    }
}

impl From<Error> for RestoreError {
    fn from(error: Error) -> RestoreError {
        RestoreError::Failed(error)
    }
}
