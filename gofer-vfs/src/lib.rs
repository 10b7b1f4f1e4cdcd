//! A client file system over a *gofer*: a file server that holds the host's files for somebody
//! who must not touch them directly.
//!
//! This crate knows no protocol. A protocol crate implements the traits of [`remote`], and
//! [`Filesystem`] turns them into a cached, permission-checked tree.
//!
//! # Model
//!
//! - A *dentry* is a name in a directory: an edge from a parent to an *inode*.
//! - An *inode* is a file: its cached attributes, its remote files (one per live name), its open
//!   handles. Hard links are several dentries that meet in one inode.
//! - A *handle* is a file opened on the server; a [`File`] is an open file description on top.
//! - [`InteropMode`] says who else may change the tree, and so what may be cached.

#![forbid(unsafe_code)]

pub mod attr;
pub mod clock;
pub mod error;
pub mod flags;
pub mod interop;
pub mod name;
pub mod options;
pub mod permissions;
pub mod remote;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use attr::{
    Attr, AttrMask, Device, FileType, SetAttr, SetAttrReport, SetTime, StatFs, Timestamp,
};
pub use clock::{Clock, SystemClock};
pub use error::{Errno, Error, Result};
pub use flags::{Access, AllocMode, OpenFlags, RenameFlags, XattrFlags};
pub use interop::InteropMode;
pub use name::Name;
pub use options::{MountOptions, OptionError, Trans};
pub use permissions::{AccessMask, Caps, Credentials};
