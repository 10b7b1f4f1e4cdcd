//! Where fids come from and where they end: Tattach, Tclunk.

use std::sync::Arc;

use gofer_9p::wire::{Fid, NO_ID, Rattach, Rclunk, Tattach, Tclunk};

use super::xattr::store;
use crate::host::{Errno, Name, Result};
use crate::p9::fids::{Attach, State, Target};
use crate::p9::session::Session;

impl Session {
    /// Makes a fid of the root, or of the file that `aname` names below it, with or without
    /// slashes around; links are not followed. Whoever is named is whom all fids that come from it
    /// act as, where the policy has it so (9P 8.2).
    pub(super) fn attach(&self, request: Tattach<'_>) -> Result<Rattach> {
        if request.afid != Fid::NONE {
            return Err(Errno::INVAL);
        }
        self.fids.check_new(request.fid)?;
        let number = Some(request.n_uname).filter(|&uid| uid != NO_ID);
        let user = self.export.user(number, request.uname)?;
        let acting = user.assume()?;
        let mut node = self.export.root().clone();
        for name in request.aname.split(|&byte| byte == b'/') {
            if !name.is_empty() {
                node = node.walk(Name::new(name)?)?.node;
            }
        }
        let qid = self.qid(&node.stat()?);
        drop(acting);
        let root = node.clone();
        let target = Target::unopened(node, Arc::new(Attach { root, user }));
        self.fids.insert(request.fid, target)?;
        Ok(Rattach { qid })
    }

    /// Ends a fid, also when it answers an error (9P 5.3). A value that was written to the fid is
    /// stored now; locks taken through it end.
    pub(super) fn clunk(&self, request: Tclunk) -> Result<Rclunk> {
        let target = self.fids.remove(request.fid)?;
        match &target.state {
            State::XattrWrite(write) => {
                let _acting = target.attach.user.assume()?;
                store(&target.node, write)?;
            }
            // Other requests may still hold the target, and with it the handle.
            State::Open(open) => open.handle.end(),
            State::Unopened | State::XattrRead(_) => {}
        }
        Ok(Rclunk {})
    }
}
