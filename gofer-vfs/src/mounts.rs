//! Filesystems mounted on files of others, so that several gofers make one tree.
//!
//! The file that is covered is marked in its dentry and kept in the table of its superblock,
//! together with what covers it; the superblock of what covers it knows it for the way up. A walk
//! changes over at both (semantics 5.2). A filesystem is mounted in at most one place.
//!
//! What covers a name that a check found gone cannot be reached any more. It is let go at the end
//! of the operation that found out, when no lock is held: that may end a connection (semantics
//! 24, item 16).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::context::{At, Context, Follow};
use crate::dentry::{Node, evict_all};
use crate::error::{Errno, Result};
use crate::filesystem::Filesystem;
use crate::locks::{MOUNTS, Mutex};
use crate::permissions::Caps;
use crate::superblock::{Res, Superblock};

/// References to the root of a filesystem that nobody uses: its own, and the path's that leads
/// to it to unmount it.
const ROOT_REFS_UNUSED: i32 = 2;

/// Where filesystems meet: see the module.
#[derive(Default)]
pub(crate) struct Mounts {
    table: Mutex<Table, MOUNTS>,
    /// A covered name has gone.
    cut: AtomicBool,
}

#[derive(Default)]
struct Table {
    /// Files of this filesystem that are covered, and by what.
    covered: Vec<(Node, Filesystem)>,
    /// What the root of this filesystem covers.
    covers: Option<Node>,
}

/// A filesystem that is mounted on a file of another.
#[derive(Clone)]
pub struct MountPoint {
    /// Where, from the root of the outermost filesystem.
    pub path: Vec<u8>,
    /// What is mounted there.
    pub filesystem: Filesystem,
}

impl Mounts {
    /// What covers `node`, which is marked as covered.
    fn over(&self, node: &Node) -> Option<Node> {
        let table = self.table.lock();
        let entry = table.covered.iter().find(|(covered, _)| covered == node);
        entry.map(|(_, filesystem)| filesystem.root())
    }

    /// What the root of this filesystem covers.
    pub(crate) fn covers(&self) -> Option<Node> {
        self.table.lock().covers.clone()
    }

    fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many filesystems are mounted on files of this one.
    pub(crate) fn count(&self) -> u64 {
        self.table.lock().covered.len() as u64
    }

    /// A covered name has gone. Only notes it: any lock may be held.
    pub(crate) fn note_cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// Lets go of what covers names that have gone.
    #[inline]
    pub(crate) fn reap(&self) {
        if self.cut.load(Ordering::Relaxed) {
            self.cut.store(false, Ordering::Relaxed);
            self.take(Node::is_dead);
        }
    }

    /// Takes out what covers the files that `which` chooses.
    fn take(&self, which: impl Fn(&Node) -> bool) -> Vec<Filesystem> {
        let taken: Vec<(Node, Filesystem)> = {
            let mut table = self.table.lock();
            table
                .covered
                .extract_if(.., |(node, _)| which(node))
                .collect()
        };
        let free = |(node, filesystem): (Node, Filesystem)| {
            node.set_covered(false);
            node.cover_changed();
            let covered = filesystem.sb().mounts.table.lock().covers.take();
            drop(covered);
            filesystem
        };
        taken.into_iter().map(free).collect()
    }

    /// Takes out everything that is mounted here, at the end of the filesystem.
    pub(crate) fn take_all(&self) -> Vec<Filesystem> {
        self.take(|_| true)
    }
}

impl Node {
    /// What is seen in its place: the root of what is mounted on it, and so on.
    #[inline]
    pub(crate) fn top(self) -> Node {
        let mut node = self;
        while node.is_covered() {
            match node.sb().mounts.over(&node) {
                Some(root) => node = root,
                None => break,
            }
        }
        node
    }

    /// The file that this covers, at the bottom, if this is the root of a filesystem that is
    /// mounted on another.
    pub(crate) fn bottom(&self) -> Option<Node> {
        let mut bottom = None;
        let mut node = self.clone();
        while node.parent().is_none()
            && let Some(covered) = node.sb().mounts.covers()
        {
            node = covered.clone();
            bottom = Some(covered);
        }
        bottom
    }
}

impl Superblock {
    /// Whether this is `outer` or is mounted in it, at any depth.
    pub(crate) fn is_within(self: &Arc<Superblock>, outer: &Arc<Superblock>) -> bool {
        let mut sb = self.clone();
        loop {
            if Arc::ptr_eq(&sb, outer) {
                return true;
            }
            match sb.mounts.covers() {
                Some(covered) => sb = covered.sb().clone(),
                None => return false,
            }
        }
    }
}

impl Filesystem {
    /// Mounts `other` on the file that `at` leads to: from then on its root is seen in place of
    /// that file, through every method of this filesystem, and `..` leads back out. Operations
    /// on two files need both in one filesystem (`EXDEV`).
    ///
    /// `EPERM` without `CAP_SYS_ADMIN`; `ENOTDIR` unless both or neither are directories; `EBUSY`
    /// if `other` is mounted already; `ELOOP` if this filesystem is mounted in it. `other` stays
    /// usable by itself.
    pub fn mount_at(&self, cx: &Context<'_>, at: At<'_>, other: &Filesystem) -> Result<()> {
        self.run("mount", at.path, || {
            may_mount(cx)?;
            let node = self.walk_to_end(cx, at, Follow::Yes)?;
            if node.inode().is_dir() != other.root_ref().inode().is_dir() {
                return Err(Errno::ENOTDIR.into());
            }
            if self.sb().is_within(other.sb()) {
                return Err(Errno::ELOOP.into());
            }
            cover(&node, other)
        })
    }

    /// Takes the filesystem whose root `at` leads to out of the tree and returns it, still
    /// connected. `EINVAL` if nothing is mounted there, `EBUSY` while something is mounted in it
    /// or anybody uses a file of it: an open file, or a [`Node`] kept.
    pub fn unmount_at(&self, cx: &Context<'_>, at: At<'_>) -> Result<Filesystem> {
        self.run("umount", at.path, || {
            may_mount(cx)?;
            let root = self.walk_to_end(cx, at, Follow::Yes)?;
            uncover(&root)
        })
    }

    /// What is mounted in this tree, at any depth, in the order of paths.
    pub fn mounts(&self) -> Vec<MountPoint> {
        let mut all = Vec::new();
        let mut filesystems = vec![self.clone()];
        while let Some(filesystem) = filesystems.pop() {
            let table = filesystem.sb().mounts.table.lock();
            let here = table.covered.clone();
            drop(table);
            for (node, mounted) in here {
                filesystems.push(mounted.clone());
                all.push(MountPoint {
                    path: node.path(),
                    filesystem: mounted,
                });
            }
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    }
}

fn may_mount(cx: &Context<'_>) -> Res<()> {
    if cx.creds.caps.contains(Caps::SYS_ADMIN) {
        return Ok(());
    }
    Err(Errno::EPERM.into())
}

fn cover(node: &Node, other: &Filesystem) -> Res<()> {
    {
        let mut table = other.sb().mounts.table.lock();
        if table.covers.is_some() {
            return Err(Errno::EBUSY.into());
        }
        table.covers = Some(node.clone());
    }
    let mut table = node.sb().mounts.table.lock();
    table.covered.push((node.clone(), other.clone()));
    node.set_covered(true);
    drop(table);
    node.cover_changed();
    // It may have gone since it was found.
    if node.is_dead() {
        node.sb().mounts.take(|covered| covered == node);
        return Err(Errno::ENOENT.into());
    }
    Ok(())
}

fn uncover(root: &Node) -> Res<Filesystem> {
    let sb = root.sb();
    let covered = match sb.mounts.covers() {
        Some(covered) if root.parent().is_none() => covered,
        _ => return Err(Errno::EINVAL.into()),
    };
    check_unused(root)?;
    let mounts = &covered.sb().mounts;
    let taken = mounts.take(|node| *node == covered);
    let Some(filesystem) = taken.into_iter().next() else {
        // Somebody was faster.
        return Err(Errno::EINVAL.into());
    };
    // Nobody can come in any more: whoever has come meanwhile keeps it.
    if let Err(busy) = check_unused(root) {
        cover(&covered, &filesystem)?;
        return Err(busy);
    }
    Ok(filesystem)
}

/// `EBUSY` if a filesystem is in use.
fn check_unused(root: &Node) -> Res<()> {
    let sb = root.sb();
    if !sb.mounts.is_empty() {
        return Err(Errno::EBUSY.into());
    }
    sb.times.drain(false);
    sb.listings.clear(&sb.counters);
    evict_all(sb, false);
    if root.references() > ROOT_REFS_UNUSED {
        return Err(Errno::EBUSY.into());
    }
    Ok(())
}
