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
//!
//! # Invariants
//!
//! - Every operation by path is a walk that ends in an operation on nodes ([`Node`] is a counted
//!   reference to a dentry); users of nodes, such as FUSE, run the same code.
//! - Permissions are checked here, in the order of Linux; the server may refuse more.
//! - No lock that another reader needs is held over a call to the server. The order of locks
//!   stands in `locks.rs` and is asserted in debug builds.
//! - Nothing here trusts the server: what makes no sense is `EIO`, and never a panic.
//! - Whatever grows has a limit: unused dentries, absent names, listings, answers about
//!   paths, times not yet sent.

#![forbid(unsafe_code)]

mod answers;
pub mod attr;
pub mod clock;
mod context;
mod dentry;
mod dentry_cache;
mod directory;
pub mod error;
mod file;
mod file_locks;
mod filesystem;
pub mod flags;
mod freshness;
mod handle;
mod inode;
pub mod interop;
mod locks;
mod lookup;
mod mapping;
mod metadata;
mod mounts;
pub mod name;
mod notify;
mod ops;
pub mod options;
mod page_cache;
pub mod permissions;
mod reconnect;
pub mod remote;
mod resolve;
mod revalidate;
pub mod saving;
mod socket;
mod special;
mod stats;
mod superblock;
mod sync;
mod synthetic;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod times;
mod versions;

pub use attr::{
    Attr, AttrMask, Device, FileType, SetAttr, SetAttrReport, SetTime, StatFs, Timestamp,
};
pub use clock::{Clock, SystemClock};
pub use context::{At, Context, Follow};
pub use dentry::Node;
pub use directory::DirectoryEntry;
pub use error::{Errno, Error, Result};
pub use file::{File, Readiness, Whence};
pub use file_locks::{HeldLocks, LockOwner, LockRange, RecordLock};
pub use filesystem::{Filesystem, MountFlags, Stat};
pub use flags::{Access, AllocMode, OpenFlags, RenameFlags, XattrFlags};
pub use interop::InteropMode;
pub use mapping::{Mapping, Protection, Sharing};
pub use mounts::MountPoint;
pub use name::Name;
pub use notify::{Event, EventMask, Notifier, NotifierImage, WatchImage};
pub use options::{Admission, LockPlace, MountOptions, OptionError, Trans};
pub use permissions::{AccessMask, Caps, Credentials};
pub use remote::{Cancel, Capabilities, FileKey, LockKind, SocketType, Traffic};
pub use resolve::{StepSource, WalkStep};
pub use saving::{Keep, RestoreError, Restored, Verify};
pub use socket::Listener;
pub use stats::Stats;
