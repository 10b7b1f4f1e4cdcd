//! Set-ID bits, which changes of a file's content and owner take away.
//!
//! The kernel would see to that itself, and ask for the attribute `security.capability` before
//! each write to know whether it has to. Where it keeps pages it is told that it is done here
//! (`FUSE_HANDLE_KILLPRIV_V2`). Then it says of each write whether the writer may leave the bits
//! (`CAP_FSETID`). It says so of new sizes, too, which fuser does not pass on, and nothing of
//! space that is allocated and of copies: there root may, and nobody else.

use fuser::{INodeNo, Request};
use gofer_vfs::permissions::{S_ISGID, S_ISUID, S_IXGRP};
use gofer_vfs::{Caps, Context, Credentials, FileType, Node, SetAttr};

use super::{Adapter, Reply};
use crate::convert;

impl Adapter {
    /// Whether a change of content that the kernel says nothing more of takes the bits away.
    pub(super) fn takes_set_id(&self, request: &Request) -> bool {
        self.policy.takes_set_id && request.uid() != 0
    }

    /// Changes the content of a file, as somebody who may leave its bits or not.
    pub(super) fn change_content<T>(
        &self,
        request: &Request,
        (number, node): (INodeNo, &Node),
        takes_set_id: bool,
        work: impl FnOnce(&Context<'_>) -> gofer_vfs::Result<T>,
    ) -> Reply<T> {
        if !takes_set_id {
            return self.run(request, work);
        }
        self.run_with(request, |cx| {
            let has_bits = self
                .fs
                .known_stat_node(cx, node)
                .is_ok_and(|stat| stat.attr.mode & (S_ISUID | S_ISGID) != 0);
            let creds = Credentials {
                caps: cx.creds.caps - Caps::FSETID,
                ..cx.creds.clone()
            };
            let done = work(&Context {
                creds: &creds,
                ..*cx
            });
            // The kernel would go on to run it with the bits it knows.
            if has_bits
                && self.policy.keep
                && let Some(kernel) = self.kernel.get()
                && let Err(error) = kernel.inval_inode(number, -1, 0)
            {
                tracing::debug!(%error, "the kernel does not know the file any more");
            }
            done.map_err(convert::error)
        })
    }

    /// What becomes of the mode when the kernel asks for a new owner and leaves the bits to us:
    /// they go, whoever asks, as chown(2) has it.
    pub(super) fn mode_of_new_owner(
        &self,
        cx: &Context<'_>,
        node: &Node,
        set: &SetAttr,
    ) -> Reply<Option<u16>> {
        let changes_owner = set.uid.is_some() || set.gid.is_some();
        let is_ours = self.policy.takes_set_id && node.file_type() != FileType::Directory;
        if !changes_owner || !is_ours || set.mode.is_some() {
            return Ok(set.mode);
        }
        let stat = self.fs.known_stat_node(cx, node).map_err(convert::error)?;
        let mut mode = stat.attr.mode & !S_ISUID;
        // Without group-execute it is no privilege.
        if mode & S_IXGRP != 0 {
            mode &= !S_ISGID;
        }
        Ok((mode != stat.attr.mode).then_some(mode & 0o7777))
    }
}
