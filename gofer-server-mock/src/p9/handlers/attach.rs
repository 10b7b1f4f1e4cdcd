//! Where fids come from and where they end: Tattach, Tclunk.

use gofer_9p::wire::{Fid, Rattach, Rclunk, Tattach, Tclunk};

use super::xattr::store;
use crate::host::{Errno, Name, Result};
use crate::p9::fids::{State, Target};
use crate::p9::session::Session;

impl Session {
    /// Makes a fid of the root, or of the file that `aname` names below it, with or without
    /// slashes around; links are not followed. The server acts as its own user whoever is named
    /// (9P 8.2).
    pub(super) fn attach(&self, request: Tattach<'_>) -> Result<Rattach> {
        if request.afid != Fid::NONE {
            return Err(Errno::INVAL);
        }
        self.fids.check_new(request.fid)?;
        let mut node = self.export.root().clone();
        for name in request.aname.split(|&byte| byte == b'/') {
            if !name.is_empty() {
                node = node.walk(Name::new(name)?)?.node;
            }
        }
        let qid = self.qid(&node.stat()?);
        let target = Target::unopened(node.clone(), node);
        self.fids.insert(request.fid, target)?;
        Ok(Rattach { qid })
    }

    /// Ends a fid, also when it answers an error (9P 5.3). A value that was written to the fid is
    /// stored now; locks taken through it end.
    pub(super) fn clunk(&self, request: Tclunk) -> Result<Rclunk> {
        let target = self.fids.remove(request.fid)?;
        match &target.state {
            State::XattrWrite(write) => store(&target.node, write)?,
            // Other requests may still hold the target, and with it the handle.
            State::Open(open) => open.handle.end(),
            State::Unopened | State::XattrRead(_) => {}
        }
        Ok(Rclunk {})
    }
}
