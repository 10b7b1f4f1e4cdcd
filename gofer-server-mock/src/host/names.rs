//! Operations on names: unlink, link, rename. The tree follows each of them.

use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, RenameFlags};

use super::create::Made;
use super::node::{Found, Identity, Node, Place};
use super::{Errno, Name, Result, sys};

impl Node {
    /// Removes the entry `name`; `flags` as in unlinkat(2): 0, or 0x200 (`AT_REMOVEDIR`) for a
    /// directory. The node of that name, with all below it, is marked deleted. Locks: write, then
    /// write on the entry.
    pub fn unlink(self: &Arc<Node>, name: Name<'_>, flags: u32) -> Result<()> {
        self.policy().check_writable()?;
        let _names = self.tree.rename.read();
        self.unlink_locked(name, flags)
    }

    /// Removes this file, or this empty directory, under the name it was found by; `EINVAL` for
    /// the root. Locks: as [`Node::unlink`].
    pub fn remove(self: &Arc<Node>) -> Result<()> {
        self.policy().check_writable()?;
        let _names = self.tree.rename.read();
        let (parent, name) = self.current_place()?;
        let flags = if self.is_dir() {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        parent.unlink_locked(Name(&name), flags.bits())
    }

    fn unlink_locked(self: &Arc<Node>, name: Name<'_>, flags: u32) -> Result<()> {
        let _dir = self.lock.write();
        let child = self.child(name.as_bytes());
        let _entry = child.as_ref().map(|child| child.lock.write());
        let gone = child.as_ref().filter(|child| self.has(name, child));
        rustix::fs::unlinkat(self, name.as_bytes(), AtFlags::from_bits_retain(flags))?;
        self.detach(name.as_bytes());
        if let Some(gone) = gone {
            gone.mark_deleted();
        }
        Ok(())
    }

    /// Gives `target` the further name `name` in this directory and returns the new place. A
    /// directory as `target` is `EPERM`; a symbolic link is linked itself. Locks: write, then read
    /// on the target.
    pub fn link(self: &Arc<Node>, target: &Node, name: Name<'_>) -> Result<Found> {
        self.policy().check_writable()?;
        if target.is_dir() {
            return Err(Errno::PERM);
        }
        let _names = self.tree.rename.read();
        let _dir = self.lock.write();
        let _target = target.lock.read();
        let old = sys::magic_path(target);
        rustix::fs::linkat(CWD, old, self, name.as_bytes(), AtFlags::SYMLINK_FOLLOW)?;
        let made = Made::File(target.identity());
        let result = self.lookup(name);
        self.undo_on_error(name, made, AtFlags::empty(), result)
    }

    /// Renames `old_name` in this directory to `new_name` in `new_dir`; `flags` as in
    /// renameat2(2). The same directory and name is success without a look at the host. Every
    /// handle of what moved stays valid; what was replaced is marked deleted. Locks: global.
    pub fn rename(
        self: &Arc<Node>,
        old_name: Name<'_>,
        new_dir: &Arc<Node>,
        new_name: Name<'_>,
        flags: u32,
    ) -> Result<()> {
        self.policy().check_writable()?;
        let _names = self.tree.rename.write();
        self.rename_locked(old_name, new_dir, new_name, flags)
    }

    /// Moves this file to `new_name` in `new_dir` from wherever it is; `EINVAL` for the root.
    /// Locks: global.
    pub fn move_to(self: &Arc<Node>, new_dir: &Arc<Node>, new_name: Name<'_>) -> Result<()> {
        self.policy().check_writable()?;
        let _names = self.tree.rename.write();
        let (parent, name) = self.current_place()?;
        parent.rename_locked(Name(&name), new_dir, new_name, 0)
    }

    fn rename_locked(
        self: &Arc<Node>,
        old_name: Name<'_>,
        new_dir: &Arc<Node>,
        new_name: Name<'_>,
        flags: u32,
    ) -> Result<()> {
        if Arc::ptr_eq(self, new_dir) && old_name == new_name {
            return Ok(());
        }
        let flags = RenameFlags::from_bits_retain(flags);
        let moved = self.child(old_name.as_bytes());
        let replaced = new_dir.child(new_name.as_bytes());
        // Read before the call: afterwards the host cannot say any more what stood where.
        let old = sys::stat_at(self, old_name.as_bytes()).map(|stat| Identity::of(&stat))?;
        let new = sys::stat_at(new_dir, new_name.as_bytes()).map(|stat| Identity::of(&stat));
        rename_at(self, old_name, new_dir, new_name, flags)?;
        if new == Ok(old) {
            // Two names of one file: rename(2) does nothing.
            return Ok(());
        }
        let moved = moved.filter(|node| node.identity() == old);
        let replaced = replaced.filter(|node| new == Ok(node.identity()));
        self.detach(old_name.as_bytes());
        new_dir.detach(new_name.as_bytes());
        if let Some(moved) = &moved {
            new_dir.attach(new_name.as_bytes(), moved);
        }
        match &replaced {
            Some(other) if flags.contains(RenameFlags::EXCHANGE) => {
                self.attach(old_name.as_bytes(), other);
            }
            Some(gone) => gone.mark_deleted(),
            None => {}
        }
        Ok(())
    }

    /// Directory and name, if this file is still there. `EINVAL` for the root, `ENOENT` for a
    /// file that has gone. The caller holds `Tree::rename`.
    fn current_place(self: &Arc<Node>) -> Result<Place> {
        let (parent, name) = self.place().ok_or(Errno::INVAL)?;
        if self.is_deleted() || !parent.has(Name(&name), self) {
            return Err(Errno::NOENT);
        }
        Ok((parent, name))
    }

    /// Whether the host has the file of `node` under `name` here.
    fn has(&self, name: Name<'_>, node: &Node) -> bool {
        sys::stat_at(self, name.as_bytes()).is_ok_and(|stat| Identity::of(&stat) == node.identity())
    }
}

/// renameat2(2), without flags by the older call that every file system has.
fn rename_at(
    old_dir: &Node,
    old_name: Name<'_>,
    new_dir: &Node,
    new_name: Name<'_>,
    flags: RenameFlags,
) -> Result<()> {
    let (old_name, new_name) = (old_name.as_bytes(), new_name.as_bytes());
    if flags.is_empty() {
        rustix::fs::renameat(old_dir, old_name, new_dir, new_name)
    } else {
        rustix::fs::renameat_with(old_dir, old_name, new_dir, new_name, flags)
    }
}
