//! A gofer's tree as a Linux mount: the adapter from FUSE onto [`gofer_vfs`].
//!
//! What lives here is the kernel's side of the file system: the table of nodes the kernel knows,
//! the table of open files, what the kernel may cache ([`Policy`]), attaching to a mount point
//! ([`Mountpoint`]). What a file system *is* lives in `gofer-vfs`; every request becomes one of
//! its operations on nodes.
//!
//! # Who checks permissions
//!
//! The kernel does (`default_permissions` is always on): it knows the caller's groups and
//! capabilities, and it walks cached names without asking anybody. The file system below is
//! handed the caller's user and group, which own what is made, and every capability, so that
//! nothing is decided twice with half the knowledge.
//!
//! # Faults of the FUSE crate that are worked around
//!
//! - It mounts and unmounts by path, and may unmount somebody else's mount: [`Mountpoint`] does
//!   both instead.
//! - It has no answer to `FUSE_INTERRUPT`: `requests` looks after waiting callers itself.
//! - Times before 1970 arrive with the wrong fraction: `convert::time_from_fuse` undoes that.
//! - It accepts capabilities it does not honour: only those in `policy` are asked for.
//! - A listing with attributes cannot have an entry without: every entry is looked up.
//! - A name of the source with `,` or `\` would be read as options: [`FuseOptions`] refuses it.

#![forbid(unsafe_code)]

mod adapter;
mod convert;
mod crew;
mod files;
mod mountpoint;
mod nodes;
mod options;
mod policy;
mod requests;
mod served;
mod session;
mod trim;
mod untold;

pub use mountpoint::{Detach, MountError, Mountpoint, unmount};
pub use options::{FuseOptions, KEYS, Share};
pub use policy::Policy;
pub use session::{Session, Stopper};
