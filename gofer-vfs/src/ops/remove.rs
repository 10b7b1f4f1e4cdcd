//! Removing names: unlink and rmdir (semantics 8).

use crate::attr::Attr;
use crate::context::{At, Context};
use crate::dentry::{Child, Node};
use crate::error::{Errno, Result};
use crate::filesystem::Filesystem;
use crate::lookup::fetch_locked;
use crate::name::Name;
use crate::notify::EventMask;
use crate::ops::{check_change_names, lost_name};
use crate::permissions::{S_ISVTX, check_sticky};
use crate::resolve::{Form, Walk};
use crate::superblock::Res;

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    File,
    Directory,
}

impl Filesystem {
    /// Removes the name of a file that is not a directory (`EISDIR`). The file stays usable
    /// where it is open. `EACCES` without permission to write the parent, `EPERM` for files of
    /// others in a sticky one, `EBUSY` where something is mounted.
    pub fn unlink(&self, cx: &Context<'_>, at: At<'_>) -> Result<()> {
        self.run("unlink", at.path, || self.remove(cx, at, What::File))
    }

    /// Removes an empty directory. `ENOTEMPTY`, also for `..`; `EINVAL` for `.`; `EBUSY` for `/` and
    /// where something is mounted; permissions as of [`Filesystem::unlink`].
    pub fn rmdir(&self, cx: &Context<'_>, at: At<'_>) -> Result<()> {
        self.run("rmdir", at.path, || self.remove(cx, at, What::Directory))
    }

    /// [`Filesystem::unlink`] by node.
    pub fn unlink_in(&self, cx: &Context<'_>, dir: &Node, name: Name<'_>) -> Result<()> {
        self.unlink(cx, At::new(dir, name.as_bytes()))
    }

    /// [`Filesystem::rmdir`] by node.
    pub fn rmdir_in(&self, cx: &Context<'_>, dir: &Node, name: Name<'_>) -> Result<()> {
        self.rmdir(cx, At::new(dir, name.as_bytes()))
    }

    fn remove(&self, cx: &Context<'_>, at: At<'_>, what: What) -> Res<()> {
        if at.path.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        let mut walk = Walk::new(cx, at, self.root_ref(), Form::Parent)?;
        let last = walk.reach_parent()?;
        check_dots(last.name(), what)?;
        walk.dir.sb().check_writable()?;
        if let Child::Absent = walk.known(&last)? {
            return Err(Errno::ENOENT.into());
        }
        let needs_child = last.slash && what == What::File;
        if needs_child {
            return Err(match walk.look_up(&last)? {
                None => Errno::ENOENT,
                Some(child) if child.inode().is_dir() => Errno::EISDIR,
                Some(_) => Errno::ENOTDIR,
            }
            .into());
        }
        if let Err(failure) = check_change_names(cx, &walk.dir) {
            // That there is nothing to remove comes first.
            return match walk.look_up(&last)? {
                None => Err(Errno::ENOENT.into()),
                Some(_) => Err(failure),
            };
        }
        walk.forget_ahead();
        // Dropped after the directory is unlocked: that may close the file on the server.
        let mut child = None;
        remove_from(cx, &walk.dir, Name::new(last.name())?, what, &mut child)
    }
}

fn check_dots(name: &[u8], what: What) -> Res<()> {
    let errno = match (what, name) {
        (What::File, b"" | b"." | b"..") => Errno::EISDIR,
        (What::Directory, b"") => Errno::EBUSY,
        (What::Directory, b".") => Errno::EINVAL,
        (What::Directory, b"..") => Errno::ENOTEMPTY,
        _ => return Ok(()),
    };
    Err(errno.into())
}

fn remove_from(
    cx: &Context<'_>,
    dir: &Node,
    name: Name<'_>,
    what: What,
    child: &mut Option<Node>,
) -> Res<()> {
    let Some(directory) = dir.directory() else {
        return Err(Errno::ENOTDIR.into());
    };
    let _names = directory.names.write();
    let parent = dir.inode().attr();
    *child = match dir.child(name.as_bytes()) {
        Child::Present(node) => Some(node),
        Child::Absent => return Err(Errno::ENOENT.into()),
        // Whose file it is matters in a sticky directory; that it exists, if the answer may be
        // lost.
        Child::Unknown if parent.mode & S_ISVTX != 0 || dir.sb().looks_first() => {
            let fetched = fetch_locked(cx, dir, &[name])?;
            Some(fetched.ok_or(Errno::ENOENT)?.first)
        }
        Child::Unknown => None,
    };
    if let Some(child) = child {
        check_child(cx, &parent, child, what)?;
    }
    let before = dir.inode().about_to_count();
    let child_before = child.as_ref().map(|child| child.inode().about_to_count());
    let file = child.as_ref().map(Node::remote);
    let asked = match child {
        Some(child) if child.is_synthetic() => Ok(()),
        _ => dir
            .remote()
            .unlink(&cx.call(), name, what == What::Directory, file.as_deref()),
    };
    let sb = dir.sb();
    match asked {
        Ok(()) => {
            match child.as_ref().zip(child_before) {
                Some((child, child_before)) => {
                    dir.detach(name.as_bytes(), child, true);
                    let last = lost_name(cx, child, child_before);
                    if what == What::File {
                        child.notify_inode(EventMask::ATTRIB);
                    }
                    sb.watches.name_removed(child.inode(), last);
                    if last && child.is_sole() {
                        // Nobody has it open: Linux tells of its end before its directory's loss.
                        sb.watches.inode_gone(child.inode());
                    }
                }
                None if what == What::File => sb.unknown_name_went(),
                None => {}
            }
            dir.notify_name(EventMask::DELETE, name.as_bytes(), what == What::Directory);
            dir.mark_absent(name.as_bytes());
            let links = if what == What::Directory { -1 } else { 0 };
            sb.touch_names(dir, links, before);
            Ok(())
        }
        Err(error) => {
            let failure = crate::superblock::Failure::from(error);
            if failure.is_uncertain() {
                sb.distrust_name(dir, name.as_bytes(), child.as_ref());
                if let Some(child) = child {
                    child.inode().change(|meta| meta.doubt());
                }
            } else if failure.errno() == Errno::ENOENT && child.is_none() {
                dir.mark_absent(name.as_bytes());
            }
            Err(failure)
        }
    }
}

/// What can be refused without asking the server.
fn check_child(cx: &Context<'_>, parent: &Attr, child: &Node, what: What) -> Res<()> {
    check_sticky(cx.creds, parent, &child.inode().attr())?;
    let is_dir = child.inode().is_dir();
    match what {
        What::File if is_dir => Err(Errno::EISDIR.into()),
        What::Directory if !is_dir => Err(Errno::ENOTDIR.into()),
        _ if child.is_covered() => Err(Errno::EBUSY.into()),
        What::Directory if !child.synthetic_children().is_empty() => Err(Errno::ENOTEMPTY.into()),
        What::Directory if child.sb().mode.may_cache_metadata() && child.has_cached_children() => {
            Err(Errno::ENOTEMPTY.into())
        }
        _ => Ok(()),
    }
}
