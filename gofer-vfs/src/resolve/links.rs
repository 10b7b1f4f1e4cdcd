//! Symbolic links.

use std::sync::Arc;

use super::Walk;
use super::ahead::Ahead;
use super::text::Text;
use crate::attr::FileType;
use crate::context::Context;
use crate::dentry::Node;
use crate::error::Errno;
use crate::name::PATH_MAX;
use crate::superblock::Res;

/// Symbolic links followed in one path, as in Linux.
const LINKS_MAX: u32 = 40;

impl Walk<'_> {
    /// Puts the target of `link`, whose name ends at `end`, in front of what is left.
    pub(super) fn follow(&mut self, link: &Node, end: usize) -> Res<()> {
        self.proof = None;
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::ELOOP.into());
        }
        let (target, calls) = read_target(self.cx, link)?;
        self.round_trips += calls;
        if let Some(step) = self.trace.as_mut().and_then(|trace| trace.last_mut()) {
            step.link_target = Some(target.to_vec());
            step.round_trips += calls;
        }
        if target.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        if target.len() > PATH_MAX {
            return Err(Errno::ENAMETOOLONG.into());
        }
        if target.first() == Some(&b'/') {
            self.dir = self.root.clone();
            self.current = self.dir.sb().mode.may_cache_metadata();
        }
        let rest = self.text.bytes().get(end..).unwrap_or_default();
        self.text = Text::Spliced([&*target, rest].concat().into());
        self.at = 0;
        // What follows was not checked: the link may lead anywhere (semantics 24, item 15).
        self.ahead = Ahead::default();
        Ok(())
    }
}

/// The target of a symbolic link, and how many round trips it took (semantics 5.8).
pub(crate) fn read_target(cx: &Context<'_>, link: &Node) -> Res<(Arc<[u8]>, u64)> {
    let inode = link.inode();
    let sb = link.sb();
    if inode.file_type != FileType::Symlink {
        return Err(Errno::EINVAL.into());
    }
    if sb.mode.must_revalidate() {
        return Ok((link.remote().read_link(&cx.call())?.into(), 1));
    }
    sb.touch_atime(inode);
    if let Some(target) = inode.link_target() {
        return Ok((target, 0));
    }
    let target: Arc<[u8]> = link.remote().read_link(&cx.call())?.into();
    inode.remember_link_target(target.clone());
    Ok((target, 1))
}
