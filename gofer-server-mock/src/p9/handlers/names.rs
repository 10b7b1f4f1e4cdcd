//! Names: Tlink, Trename, Trenameat, Tunlinkat, Tremove.

use std::sync::Arc;

use gofer_9p::wire::{
    Rlink, Rremove, Rrename, Rrenameat, Runlinkat, Tlink, Tremove, Trename, Trenameat, Tunlinkat,
    UnlinkFlags,
};

use crate::host::{Errno, Name, Node, Result};
use crate::p9::fids::Target;
use crate::p9::session::Session;

impl Session {
    /// Gives a file another name; a symbolic link is linked itself (9P 8.20).
    pub(super) fn link(&self, request: Tlink<'_>) -> Result<Rlink> {
        let (dir, _acting) = self.act(request.dfid)?;
        let target = self.target(request.fid)?;
        dir.file()?.link(target.file()?, Name::new(request.name)?)?;
        Ok(Rlink {})
    }

    /// Moves the file of a fid; the fid goes with it (9P 8.13).
    pub(super) fn rename(&self, request: Trename<'_>) -> Result<Rrename> {
        let (target, _acting) = self.act(request.fid)?;
        let dir = self.target(request.dfid)?;
        below_root(&target)?.move_to(dir.file()?, Name::new(request.name)?)?;
        Ok(Rrename {})
    }

    /// renameat(2); every fid of what moves goes with it (9P 8.25).
    pub(super) fn rename_at(&self, request: Trenameat<'_>) -> Result<Rrenameat> {
        let (old_dir, _acting) = self.act(request.olddirfid)?;
        let new_dir = self.target(request.newdirfid)?;
        let old_name = Name::new(request.oldname)?;
        let new_name = Name::new(request.newname)?;
        old_dir
            .file()?
            .rename(old_name, new_dir.file()?, new_name, 0)?;
        Ok(Rrenameat {})
    }

    /// unlinkat(2); fids of the file stay (9P 8.26).
    pub(super) fn unlink_at(&self, request: Tunlinkat<'_>) -> Result<Runlinkat> {
        let (dir, _acting) = self.act(request.dirfid)?;
        if !UnlinkFlags::REMOVEDIR.contains(request.flags) {
            return Err(Errno::INVAL);
        }
        // The number is the host's, too.
        dir.file()?
            .unlink(Name::new(request.name)?, request.flags.bits())?;
        Ok(Runlinkat {})
    }

    /// Removes the file of a fid, under the name it was walked to; the fid ends whatever comes of
    /// it (9P 8.5).
    pub(super) fn remove(&self, request: Tremove) -> Result<Rremove> {
        let target = self.fids.remove(request.fid)?;
        let _acting = target.attach.user.assume()?;
        below_root(&target)?.remove()?;
        Ok(Rremove {})
    }
}

/// The file of a fid that may be moved and removed: `EINVAL` for the root of an attach.
fn below_root(target: &Target) -> Result<&Arc<Node>> {
    let node = target.file()?;
    if node.identity() == target.attach.root.identity() {
        return Err(Errno::INVAL);
    }
    Ok(node)
}
