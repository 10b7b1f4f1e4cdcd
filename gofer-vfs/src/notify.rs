//! Watches for events on files, as `inotify(7)` (semantics 19).
//!
//! Watches are on inodes: an event through any name of a file reaches it. Changes through this
//! client are told in Linux's order; in shared mode those by others are told when a check finds
//! them, which may be late, or several at once.
//!
//! Where nothing is watched an operation pays one relaxed load.

mod image;
mod look;
mod queue;
#[cfg(test)]
mod tests;
mod watches;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::attr::SetAttr;
use crate::context::{At, Context, Follow};
use crate::dentry::Node;
use crate::error::{Errno, Error, Result};
use crate::filesystem::{Filesystem, run};
use crate::inode::Inode;
use crate::permissions::{AccessMask, check_access};
use crate::superblock::{Res, Superblock};

pub use image::{NotifierImage, WatchImage};
#[cfg(test)]
pub(crate) use look::KEPT_MAX;
use queue::Queue;
pub(crate) use watches::Watches;

bitflags::bitflags! {
    /// Events, and flags of a watch: Linux's numbers.
    #[derive(
        Clone, Copy, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize,
    )]
    #[serde(from = "u32", into = "u32")]
    pub struct EventMask: u32 {
        /// Data or a directory was read.
        const ACCESS = 1;
        /// Data was written, or the size changed.
        const MODIFY = 2;
        /// Attributes changed.
        const ATTRIB = 4;
        /// A description that could write was closed.
        const CLOSE_WRITE = 8;
        /// Another description was closed.
        const CLOSE_NOWRITE = 0x10;
        /// It was opened.
        const OPEN = 0x20;
        /// A name left the directory.
        const MOVED_FROM = 0x40;
        /// A name came into the directory.
        const MOVED_TO = 0x80;
        /// A name was made in the directory.
        const CREATE = 0x100;
        /// A name was removed from the directory.
        const DELETE = 0x200;
        /// The file has no name any more and nobody has it open.
        const DELETE_SELF = 0x400;
        /// The file was renamed.
        const MOVE_SELF = 0x800;
        /// Told, not asked for: the file system was unmounted.
        const UNMOUNT = 0x2000;
        /// Told, not asked for: events were lost.
        const Q_OVERFLOW = 0x4000;
        /// Told, not asked for: the watch is gone.
        const IGNORED = 0x8000;
        /// Flag: `ENOTDIR` unless it is a directory.
        const ONLYDIR = 0x0100_0000;
        /// Flag: a symbolic link stands for itself.
        const DONT_FOLLOW = 0x0200_0000;
        /// Flag: no events of descriptions whose file has lost its name.
        const EXCL_UNLINK = 0x0400_0000;
        /// Flag: `EEXIST` if the file is watched already.
        const MASK_CREATE = 0x1000_0000;
        /// Flag: add to what is watched already.
        const MASK_ADD = 0x2000_0000;
        /// Told: it is about a directory.
        const ISDIR = 0x4000_0000;
        /// Flag: the watch goes with its first event.
        const ONESHOT = 0x8000_0000;
    }
}

impl From<u32> for EventMask {
    fn from(bits: u32) -> EventMask {
        EventMask::from_bits_truncate(bits)
    }
}

impl From<EventMask> for u32 {
    fn from(mask: EventMask) -> u32 {
        mask.bits()
    }
}

impl EventMask {
    /// Every event that can be asked for.
    pub const ALL: EventMask = EventMask::from_bits_truncate(0xfff);

    const CLOSE: EventMask = EventMask::CLOSE_WRITE.union(EventMask::CLOSE_NOWRITE);

    /// Events of descriptions, which `EXCL_UNLINK` is about.
    const OF_DESCRIPTIONS: EventMask = EventMask::ACCESS
        .union(EventMask::OPEN)
        .union(EventMask::CLOSE);
}

/// Something happened to a watched file.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Event {
    /// The watch; -1 for [`EventMask::Q_OVERFLOW`].
    pub watch: i32,
    /// What happened, one event, and `ISDIR` if it is about a directory.
    pub mask: EventMask,
    /// The same for the two halves of a rename; otherwise 0.
    pub cookie: u32,
    /// The name in a watched directory that it is about; empty if it is the watched file itself.
    pub name: Vec<u8>,
}

/// A queue of events and the watches that fill it. Dropping it removes the watches.
pub struct Notifier {
    fs: Filesystem,
    queue: Arc<Queue>,
}

impl Filesystem {
    /// A new queue, without watches.
    pub fn notifier(&self) -> Result<Notifier> {
        let id = self.sb().next_serial();
        let queue = self.sb().watches.new_queue(id);
        let queue = queue.map_err(|errno| Error::new("inotify", errno))?;
        Ok(Notifier {
            fs: self.clone(),
            queue,
        })
    }
}

impl Notifier {
    pub(crate) fn sb(&self) -> &Arc<Superblock> {
        self.fs.sb()
    }

    /// Watches a file for the events of `mask`, under its flags, and returns the watch's number.
    /// A file that this queue watches already keeps its number and gets the new mask.
    ///
    /// `EACCES` without permission to read it, `EINVAL` for a mask that makes no sense, `ENOSPC`
    /// beyond the limit of watches.
    pub fn add(&self, cx: &Context<'_>, at: At<'_>, mask: EventMask) -> Result<i32> {
        run("inotify_add_watch", at.path, || {
            check_mask(mask)?;
            let follow = match mask.contains(EventMask::DONT_FOLLOW) {
                true => Follow::No,
                false => Follow::Yes,
            };
            let node = self.fs.walk_to_end(cx, at, follow)?;
            self.add_checked(cx, &node, mask)
        })
    }

    /// [`Notifier::add`] by node.
    pub fn add_node(&self, cx: &Context<'_>, node: &Node, mask: EventMask) -> Result<i32> {
        run("inotify_add_watch", b"", || {
            check_mask(mask)?;
            self.add_checked(cx, node, mask)
        })
    }

    fn add_checked(&self, cx: &Context<'_>, node: &Node, mask: EventMask) -> Res<i32> {
        if !Arc::ptr_eq(node.sb(), self.sb()) {
            return Err(Errno::EXDEV.into());
        }
        if mask.contains(EventMask::ONLYDIR) && !node.inode().is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        check_access(cx.creds, &node.inode().attr(), AccessMask::READ)?;
        self.sb().watches.add(&self.queue, node, mask, None)
    }

    /// Removes a watch, which is told as its last event. `EINVAL` for a number that is none.
    pub fn remove(&self, watch: i32) -> Result<()> {
        run("inotify_rm_watch", b"", || {
            Ok(self
                .sb()
                .watches
                .remove(&self.sb().counters, &self.queue, watch)?)
        })
    }

    /// The oldest events, at most `max`; none if there are none.
    pub fn try_read(&self, max: usize) -> Vec<Event> {
        self.queue.take(max)
    }

    /// The oldest events, at most `max`: waits for one. `EINTR` when cancelled, `ETIMEDOUT` at
    /// the deadline.
    pub fn read(&self, cx: &Context<'_>, max: usize) -> Result<Vec<Event>> {
        run("read", b"inotify", || {
            loop {
                let events = self.queue.take(max);
                if !events.is_empty() || max == 0 {
                    return Ok(events);
                }
                crate::special::wait_readable(cx, self.queue.as_fd())?;
            }
        })
    }
}

/// Readable while events wait.
impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        let sb = self.sb();
        sb.watches.remove_queue(&sb.counters, &self.queue);
    }
}

fn check_mask(mask: EventMask) -> Res<()> {
    let both = EventMask::MASK_ADD | EventMask::MASK_CREATE;
    if mask.is_empty() || !EventMask::all().contains(mask) || mask.contains(both) {
        return Err(Errno::EINVAL.into());
    }
    Ok(())
}

/// Where events come from. Each function does nothing unless something is watched.
impl Node {
    /// Something happened to the file: told to who watches its directory, then to who watches it.
    #[inline]
    pub(crate) fn notify(&self, mask: EventMask) {
        if !self.sb().watches.is_idle() {
            self.notify_all(mask);
        }
    }

    #[cold]
    fn notify_all(&self, mask: EventMask) {
        let watches = &self.sb().watches;
        let mask = mask | is_dir(self.inode());
        let excluded = self.is_deleted();
        if let Some((parent, name)) = self.place() {
            watches.tell(&parent, mask, &name, 0, excluded);
        }
        watches.tell(self.inode(), mask, b"", 0, excluded);
    }

    /// Something happened to the file alone, whatever its name.
    #[inline]
    pub(crate) fn notify_inode(&self, mask: EventMask) {
        let watches = &self.sb().watches;
        if !watches.is_idle() {
            watches.tell(self.inode(), mask, b"", 0, false);
        }
    }

    /// Something happened to `name` in this directory.
    #[inline]
    pub(crate) fn notify_name(&self, mask: EventMask, name: &[u8], directory: bool) {
        let watches = &self.sb().watches;
        if !watches.is_idle() {
            watches.tell(self.inode(), mask | flag(directory), name, 0, false);
        }
    }

    /// A file was renamed; `replaced` is what had the new name.
    pub(crate) fn notify_moved(
        &self,
        (from, old): (&Node, &[u8]),
        (to, new): (&Node, &[u8]),
        replaced: Option<&Node>,
    ) {
        let watches = &self.sb().watches;
        if watches.is_idle() {
            return;
        }
        let cookie = watches.next_cookie();
        let dir = is_dir(self.inode());
        watches.tell(
            from.inode(),
            EventMask::MOVED_FROM | dir,
            old,
            cookie,
            false,
        );
        watches.tell(to.inode(), EventMask::MOVED_TO | dir, new, cookie, false);
        if let Some(replaced) = replaced {
            replaced.notify_inode(EventMask::ATTRIB | is_dir(replaced.inode()));
        }
        self.notify_inode(EventMask::MOVE_SELF);
    }

    /// Attributes were changed as `set` asked.
    pub(crate) fn notify_set(&self, set: &SetAttr) {
        if self.sb().watches.is_idle() {
            return;
        }
        let times = match (set.atime.is_some(), set.mtime.is_some()) {
            (true, true) => EventMask::ATTRIB,
            (true, false) => EventMask::ACCESS,
            (false, true) => EventMask::MODIFY,
            (false, false) => EventMask::empty(),
        };
        let modified = set.size.map_or(EventMask::empty(), |_| EventMask::MODIFY);
        let changed = set.mode.is_some() || set.uid.is_some() || set.gid.is_some();
        let attributes = match changed {
            true => EventMask::ATTRIB,
            false => EventMask::empty(),
        };
        let mask = times | modified | attributes;
        if !mask.is_empty() {
            self.notify_all(mask);
        }
    }
}

fn is_dir(inode: &Inode) -> EventMask {
    flag(inode.is_dir())
}

fn flag(directory: bool) -> EventMask {
    match directory {
        true => EventMask::ISDIR,
        false => EventMask::empty(),
    }
}
