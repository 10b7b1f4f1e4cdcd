//! The operations of [`Filesystem`](crate::Filesystem), one file per family.
//!
//! Every operation comes in two forms: by path, and by node and name, which FUSE uses. The
//! second is the first with a path of one name (or none), so both are the same code.
//!
//! Checks come in the order of Linux (semantics 24, item 73): where two conditions fail at
//! once, the caller sees the error a local file system would give.

mod create;
mod open;
mod remove;
mod rename;
mod setattr;
mod stat;
mod xattr;

pub(crate) use open::wanted;
pub(crate) use setattr::{change_attributes, check_size, learn_permissions};
pub(crate) use stat::fresh_stat;
pub(crate) use xattr::{check_xattr, check_xattr_name, get, list, remove, set};

use crate::attr::{Attr, Timestamp};
use crate::context::Context;
use crate::dentry::Node;
use crate::error::Errno;
use crate::inode::Inode;
use crate::metadata::Before;
use crate::permissions::AccessMask;
use crate::resolve::check_dir;
use crate::superblock::{Failure, Res, Superblock};

/// Whether the caller may change the names in `dir`. Search permission was checked on the way.
fn check_change_names(cx: &Context<'_>, dir: &Node) -> Res<()> {
    check_dir(cx, dir, AccessMask::WRITE | AccessMask::EXECUTE)
}

impl Superblock {
    /// Sets the access time after a read, where this client's clock stamps files.
    pub(crate) fn touch_atime(&self, inode: &Inode) {
        let ours = self.mode.client_clock() || inode.key.is_synthetic();
        if ours && !self.flags.noatime && !self.flags.readonly {
            let now = self.clock.now();
            if !self.flags.relatime || is_atime_old(&inode.attr(), now) {
                inode.update(|meta| meta.touch_atime(now));
            }
        }
    }

    /// The names in `dir` were changed by an operation that has just completed on the server;
    /// `links` directories were added. `before`: what `dir` was when that was sent.
    fn touch_names(&self, dir: &Node, links: i64, before: Before) {
        self.names_changed(dir);
        dir.synthetic_names_changed(links);
        let now = self.stamp_of(dir);
        dir.inode().change(|meta| {
            if let Some(now) = now {
                meta.touch_mtime(now);
                meta.add_links(links, before);
            }
        });
    }

    /// It is not known whether an operation on `name` in `dir` was carried out: what was cached
    /// of that is no longer the truth.
    fn distrust_name(&self, dir: &Node, name: &[u8], child: Option<&Node>) {
        self.names_changed(dir);
        dir.forget_absent(name);
        dir.inode().change(|meta| meta.doubt());
        if let Some(child) = child
            && dir.detach(name, child, false)
        {
            child.invalidate_below();
        }
    }
}

/// Whether a relative access time has to be set again: see `relatime` in mount(8).
fn is_atime_old(attr: &Attr, now: Timestamp) -> bool {
    const DAY: i64 = 24 * 60 * 60;
    attr.atime <= attr.mtime || attr.atime <= attr.ctime || now.sec - attr.atime.sec >= DAY
}

/// Whether a server says so of a file that it does not find any more.
fn is_of_nothing(failure: Failure) -> bool {
    matches!(failure.errno(), Errno::ENOENT | Errno::ESTALE)
}

/// The name of `child` was removed on the server and detached here. Whether it was its last, as
/// far as is known. `before`: what the file was when that was sent.
fn lost_name(cx: &Context<'_>, child: &Node, before: Before) -> bool {
    let inode = child.inode();
    let sb = child.sb();
    let now = sb.stamp_of(child);
    child.synthetic_unlinked();
    let last = inode.live_remote().is_none();
    let (mut left, doubtful) = inode.change(|meta| {
        let Some(now) = now else {
            // The server tells those who ask through an open description.
            let left = !last || (!inode.is_dir() && meta.attr().nlink > 1);
            return (u64::from(left), false);
        };
        if inode.is_dir() {
            meta.no_links();
        } else {
            meta.lose_link(last, before);
        }
        meta.touch_ctime(now);
        (meta.attr().nlink, meta.is_doubtful())
    });
    if doubtful && last && left == 1 {
        // This name is in the count, or one that is not known here.
        left = match inode.refresh(cx, &*child.remote(), None) {
            Ok(()) => inode.attr().nlink,
            Err(failure) => u64::from(!is_of_nothing(failure)),
        };
    }
    if left == 0 {
        sb.times.forget(child);
    }
    left == 0
}
