//! Descriptors that a read-only export can give away.
//!
//! Whoever has a descriptor that is open for reading can open the file again for writing, through
//! `/proc`, if the file's mode lets him. A mount that is read-only does not let anybody. So where
//! this process may make a read-only copy of the root's mount, files are opened in that copy, and
//! what cannot be found there is not given away. Where it may not, descriptors are given away as
//! they are: open for reading, no more (lisafs 6.7).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gofer_transport::DetachedMount;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::node::Identity;
use super::{Node, Policy, sys};

/// The copy. Made before this process gives up the right to.
#[derive(Debug)]
pub(super) struct ReadonlyCopy(DetachedMount);

impl ReadonlyCopy {
    /// For a root, if its export gives descriptors away and is read-only.
    pub(super) fn of(root: BorrowedFd<'_>, policy: Policy) -> Option<ReadonlyCopy> {
        if !policy.readonly || !policy.donate {
            return None;
        }
        DetachedMount::copy_of(root, true)
            .inspect_err(|error| tracing::info!(%error, "the mount cannot be copied"))
            .ok()
            .map(ReadonlyCopy)
    }

    /// Opens the file of `node` for reading. `None` where it is not found: its last name is gone,
    /// others moved it, or something was mounted since.
    pub(super) fn open(&self, node: &Node, flags: OFlags) -> Option<OwnedFd> {
        let path = node.path();
        let below = path.get(1..).filter(|below| !below.is_empty());
        let Some(below) = below else {
            // The root is the file.
            return sys::reopen(&self.0, flags).ok();
        };
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = openat2(self.0.as_fd(), below, flags, Mode::empty(), resolve).ok()?;
        // The path may be of another file by now.
        let stat = sys::stat(&fd).ok()?;
        (Identity::of(&stat) == node.identity()).then_some(fd)
    }
}
