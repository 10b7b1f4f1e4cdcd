//! The attributes of an inode as this client knows them: how replies are merged in, what local
//! operations change, which times the server has not seen yet.
//!
//! # Replies and local changes
//!
//! No lock is held while a reply is under way. Instead every request for attributes takes a
//! *ticket* (a number that only grows) before it is sent, and its reply is applied only if
//! nothing that happened later is known already:
//!
//! - a reply to a later ticket was applied: this one is older news and is dropped;
//! - a local change completed after the ticket was taken: the reply may show the state before
//!   it, so the caller asks again ([`Merge::Outdated`]).

use crate::attr::{Attr, AttrMask, FileType, Timestamp};
use crate::error::Errno;
use crate::options::MountOptions;

/// The id that stands for "no id" on the wire, and what it is shown as.
const NO_ID: u32 = u32::MAX;
const OVERFLOW_ID: u32 = 65534;
const PAGE_SIZE: u32 = 4096;

/// What became of a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Merge {
    /// It was applied, or something newer had been.
    Current,
    /// It may be older than a local change: ask again.
    Outdated,
}

/// Fills in what the server left out (semantics 3.5).
///
/// `EIO` for attributes no node can be built from: without a type, or a regular file without a
/// size, or with a size no file can have.
pub(crate) fn complete(
    mut attr: Attr,
    options: &MountOptions,
    now: impl FnOnce() -> Timestamp,
) -> Result<Attr, Errno> {
    let has = attr.mask;
    let sizeless = attr.file_type == FileType::Regular && !has.contains(AttrMask::SIZE);
    if !has.contains(AttrMask::TYPE) || sizeless || attr.size > i64::MAX as u64 {
        return Err(Errno::EIO);
    }
    if !has.contains(AttrMask::UID) {
        attr.uid = options.dfltuid;
    } else if attr.uid == NO_ID {
        attr.uid = OVERFLOW_ID;
    }
    if !has.contains(AttrMask::GID) {
        attr.gid = options.dfltgid;
    } else if attr.gid == NO_ID {
        attr.gid = OVERFLOW_ID;
    }
    if !has.contains(AttrMask::NLINK) {
        attr.nlink = match attr.file_type {
            FileType::Directory => 2,
            _ => 1,
        };
    }
    if !has.contains(AttrMask::SIZE) {
        attr.size = 0;
    }
    if !has.contains(AttrMask::BLOCKS) {
        attr.blocks = attr.size.div_ceil(512);
    }
    if attr.block_size == 0 {
        attr.block_size = PAGE_SIZE;
    }
    let times = AttrMask::ATIME | AttrMask::MTIME | AttrMask::CTIME;
    if !has.contains(times) {
        let now = now();
        if !has.contains(AttrMask::ATIME) {
            attr.atime = now;
        }
        if !has.contains(AttrMask::MTIME) {
            attr.mtime = now;
        }
        if !has.contains(AttrMask::CTIME) {
            attr.ctime = attr.mtime;
        }
    }
    attr.mode &= 0o7777;
    attr.mask = AttrMask::BASIC | (has & AttrMask::BTIME);
    Ok(attr)
}

/// The attributes of one inode.
pub(crate) struct Metadata {
    attr: Attr,
    /// Whether the server counts links: where it does not, neither do we.
    nlink_known: bool,
    /// Times that the server does not know: its own do not replace them.
    atime_dirty: bool,
    mtime_dirty: bool,
    /// The ticket of the newest reply that was applied.
    applied: u64,
    /// A ticket taken when the last local change completed.
    changed: u64,
    /// A change was under way whose outcome is not known: the copy is not the truth, in any
    /// mode, until the server was asked.
    pub(crate) doubtful: bool,
}

impl Metadata {
    /// Of an inode that was just found. `attr` went through [`complete`].
    pub(crate) fn new(attr: Attr, sent: AttrMask) -> Metadata {
        Metadata {
            attr,
            nlink_known: sent.contains(AttrMask::NLINK),
            atime_dirty: false,
            mtime_dirty: false,
            applied: 0,
            changed: 0,
            doubtful: false,
        }
    }

    #[inline]
    pub(crate) fn attr(&self) -> &Attr {
        &self.attr
    }

    /// Merges the reply to the request that took `ticket` (semantics 6.7).
    pub(crate) fn merge(&mut self, ticket: u64, mut reply: Attr) -> Merge {
        if ticket < self.changed {
            return Merge::Outdated;
        }
        if ticket >= self.applied {
            self.applied = ticket;
            if self.atime_dirty {
                reply.atime = self.attr.atime;
            }
            if self.mtime_dirty {
                reply.mtime = self.attr.mtime;
            }
            reply.mask |= self.attr.mask & AttrMask::BTIME;
            if !reply.mask.contains(AttrMask::BTIME) {
                reply.btime = self.attr.btime;
            }
            self.attr = reply;
            self.doubtful = false;
        }
        Merge::Current
    }

    /// Records that a local change has completed: replies to earlier requests no longer count.
    pub(crate) fn completed(&mut self, ticket: u64) {
        self.changed = self.changed.max(ticket);
    }

    pub(crate) fn touch_atime(&mut self, now: Timestamp) {
        self.attr.atime = now;
        self.atime_dirty = true;
    }

    /// Content changed: modification and change time.
    pub(crate) fn touch_mtime(&mut self, now: Timestamp) {
        self.attr.mtime = now;
        self.attr.ctime = now;
        self.mtime_dirty = true;
    }

    pub(crate) fn touch_ctime(&mut self, now: Timestamp) {
        self.attr.ctime = now;
    }

    /// Sets times that the server knows as well.
    pub(crate) fn set_times(&mut self, atime: Option<Timestamp>, mtime: Option<Timestamp>) {
        if let Some(atime) = atime {
            self.attr.atime = atime;
            self.atime_dirty = false;
        }
        if let Some(mtime) = mtime {
            self.attr.mtime = mtime;
            self.mtime_dirty = false;
        }
    }

    /// The modification time to send, if the server does not know it; and, since that is sent
    /// anyway, the access time if it does not know that.
    pub(crate) fn unsent_times(&self) -> Option<(Timestamp, Option<Timestamp>)> {
        let atime = self.atime_dirty.then_some(self.attr.atime);
        self.mtime_dirty.then_some((self.attr.mtime, atime))
    }

    /// The server has been told these times.
    pub(crate) fn sent_times(&mut self, (mtime, atime): (Timestamp, Option<Timestamp>)) {
        self.mtime_dirty &= self.attr.mtime != mtime;
        self.atime_dirty &= Some(self.attr.atime) != atime;
    }

    pub(crate) fn set_mode(&mut self, mode: u16) {
        self.attr.mode = mode & 0o7777;
    }

    pub(crate) fn set_owner(&mut self, uid: Option<u32>, gid: Option<u32>) {
        self.attr.uid = uid.unwrap_or(self.attr.uid);
        self.attr.gid = gid.unwrap_or(self.attr.gid);
    }

    /// A truncation to `size`, in either direction.
    pub(crate) fn set_size(&mut self, size: u64) {
        if size < self.attr.size {
            self.attr.blocks = self.attr.blocks.min(size.div_ceil(512));
        }
        self.attr.size = size;
    }

    /// `n` bytes were written up to `end`.
    pub(crate) fn grow(&mut self, end: u64, n: u64) {
        if end > self.attr.size {
            // Only what was written takes space: a gap before it is a hole.
            let new = n.min(end - self.attr.size);
            self.attr.blocks += new.div_ceil(512);
            self.attr.size = end;
        }
    }

    /// Adds `by` links, where links are counted (semantics 13.4).
    pub(crate) fn add_links(&mut self, by: i64) {
        if self.nlink_known {
            self.attr.nlink = self.attr.nlink.saturating_add_signed(by);
        }
    }

    /// A name is gone; `last`: the last one that is known here, which is all there is to go by
    /// where links are not counted.
    pub(crate) fn lose_link(&mut self, last: bool) {
        if self.nlink_known {
            self.attr.nlink = self.attr.nlink.saturating_sub(1);
        } else if last {
            self.attr.nlink = 0;
        }
    }

    /// No name is left: a directory was removed.
    pub(crate) fn no_links(&mut self) {
        self.attr.nlink = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Trans;

    const LATER: Timestamp = Timestamp { sec: 900, nsec: 1 };

    fn options() -> MountOptions {
        MountOptions::new(Trans::Fd { rfd: 0, wfd: 0 })
    }

    fn regular() -> Attr {
        let mut attr = Attr::of_type(FileType::Regular);
        attr.mask |= AttrMask::SIZE;
        attr
    }

    #[test]
    fn missing_fields_take_their_defaults() {
        let attr = complete(regular(), &options(), || LATER).unwrap();
        assert_eq!(
            (attr.uid, attr.gid, attr.nlink),
            (u32::MAX - 1, u32::MAX - 1, 1)
        );
        assert_eq!((attr.atime, attr.mtime, attr.ctime), (LATER, LATER, LATER));
        assert_eq!(attr.block_size, 4096);
        assert!(!attr.mask.contains(AttrMask::BTIME));
        let dir = complete(Attr::of_type(FileType::Directory), &options(), || LATER).unwrap();
        assert_eq!(dir.nlink, 2);
    }

    #[test]
    fn unusable_attributes_are_an_error() {
        let mut typeless = regular();
        typeless.mask.remove(AttrMask::TYPE);
        let mut sizeless = regular();
        sizeless.mask.remove(AttrMask::SIZE);
        let mut huge = regular();
        huge.size = 1 << 63;
        for bad in [typeless, sizeless, huge] {
            assert_eq!(complete(bad, &options(), || LATER), Err(Errno::EIO));
        }
    }

    #[test]
    fn no_id_is_shown_as_the_overflow_id() {
        let mut attr = regular();
        attr.mask |= AttrMask::UID | AttrMask::GID;
        (attr.uid, attr.gid) = (u32::MAX, u32::MAX);
        let attr = complete(attr, &options(), || LATER).unwrap();
        assert_eq!((attr.uid, attr.gid), (65534, 65534));
    }

    #[test]
    fn replies_older_than_a_change_or_another_reply_do_not_count() {
        let mut meta = Metadata::new(regular(), AttrMask::BASIC);
        let sized = |size| {
            let mut attr = regular();
            attr.size = size;
            attr
        };
        assert_eq!(meta.merge(5, sized(50)), Merge::Current);
        assert_eq!(meta.merge(4, sized(40)), Merge::Current);
        assert_eq!(meta.attr().size, 50);
        meta.grow(80, 30);
        meta.completed(7);
        assert_eq!(meta.merge(6, sized(60)), Merge::Outdated);
        assert_eq!(meta.attr().size, 80);
        assert_eq!(meta.merge(8, sized(90)), Merge::Current);
        assert_eq!(meta.attr().size, 90);
    }

    #[test]
    fn dirty_times_survive_a_reply() {
        let mut meta = Metadata::new(regular(), AttrMask::BASIC);
        meta.touch_mtime(LATER);
        assert_eq!(meta.merge(1, regular()), Merge::Current);
        assert_eq!(meta.attr().mtime, LATER);
        assert_eq!(meta.unsent_times(), Some((LATER, None)));
        meta.touch_atime(LATER);
        assert_eq!(meta.unsent_times(), Some((LATER, Some(LATER))));
        meta.sent_times((LATER, Some(LATER)));
        assert_eq!(meta.unsent_times(), None);
        // An access time alone is not worth a request.
        meta.touch_atime(LATER);
        assert_eq!(meta.unsent_times(), None);
    }

    #[test]
    fn holes_take_no_blocks() {
        let mut meta = Metadata::new(regular(), AttrMask::BASIC);
        meta.grow(1 << 20, 512);
        assert_eq!((meta.attr().size, meta.attr().blocks), (1 << 20, 1));
        meta.set_size(0);
        assert_eq!(meta.attr().blocks, 0);
    }

    #[test]
    fn links_are_counted_only_where_the_server_counts_them() {
        let mut counted = Metadata::new(regular(), AttrMask::BASIC);
        counted.add_links(2);
        assert_eq!(counted.attr().nlink, 2);
        let mut uncounted = regular();
        uncounted.nlink = 1;
        let mut unknown = Metadata::new(uncounted, AttrMask::TYPE);
        unknown.add_links(2);
        unknown.lose_link(false);
        assert_eq!(unknown.attr().nlink, 1);
        unknown.lose_link(true);
        assert_eq!(unknown.attr().nlink, 0);
    }
}
