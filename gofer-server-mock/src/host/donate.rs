//! Giving clients a descriptor of the root, with which they do the work themselves.
//!
//! A descriptor of the directory as the host has it would do more than the client may: its holder
//! walks `..` out of the root and, on a read-only export, opens for writing below it. So the
//! descriptor is of a copy of the mount, which has nothing above the root and is read-only where
//! the export is. Devices do not open through it. What no mount can forbid is left to the holder's
//! own kernel: FIFOs and sockets below the root open and connect whatever [`Policy`] says.
//!
//! [`Policy`]: super::Policy

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use gofer_transport::{DetachError, DetachedMount};
use rustix::fs::OFlags;

use super::{Errno, Export, Result, sys};

impl Export {
    /// The same export, whose clients are given a descriptor of its root when they mount it.
    /// Fails where the mount cannot be copied: without `CAP_SYS_ADMIN` and before Linux 5.12.
    ///
    /// Makes the copy at once, so it must be called before the process gives up the right to.
    /// What is mounted below the root afterwards is not in the copy.
    pub fn donating_root(&self) -> std::result::Result<Arc<Export>, DetachError> {
        let root = self.root().clone();
        let copy = DetachedMount::copy_of(root.as_fd(), self.policy().readonly)?;
        Ok(Arc::new(Export {
            root,
            copy: Some(copy),
            identities: self.identities.clone(),
        }))
    }

    /// A descriptor of the root for one client, if clients are given one: open for reading, so
    /// that it has a position of its own, and non-blocking (lisafs 2.3); only a place (`O_PATH`)
    /// where this process may not read the root.
    pub fn donated_root(&self) -> Result<Option<OwnedFd>> {
        let Some(copy) = &self.copy else {
            return Ok(None);
        };
        let kind = if self.root().is_dir() {
            OFlags::DIRECTORY
        } else {
            OFlags::empty()
        };
        let read = kind | OFlags::RDONLY | OFlags::NONBLOCK;
        match sys::reopen(copy, read) {
            Err(Errno::ACCESS) => sys::reopen(copy, kind | OFlags::PATH).map(Some),
            opened => opened.map(Some),
        }
    }
}
