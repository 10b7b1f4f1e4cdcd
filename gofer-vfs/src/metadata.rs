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
//!
//! Most local changes say what something is from now on. Link counts change *by* something, and a
//! reply that is applied between the request and the count may have it in it or not: see
//! [`Before`].

mod names;
mod times;

use crate::attr::{Attr, AttrMask, Device, FileType, Timestamp};
use crate::error::Errno;
use crate::options::MountOptions;

pub(crate) use names::Names;
use times::PackedTimes;

/// The id that stands for "no id" on the wire, and what it is shown as.
const NO_ID: u32 = u32::MAX;
const OVERFLOW_ID: u32 = 65534;
const PAGE_SIZE: u32 = 4096;

/// Which replies had been applied before a request was sent that changes a link count. If another
/// was applied by the time the change is counted, the server has to be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Before(u64);

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

bitflags::bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Flags: u8 {
        /// The server counts links: where it does not, neither do we.
        const NLINK_KNOWN = 1;
        /// The server does not know the access time: its own does not replace it.
        const ATIME_DIRTY = 1 << 1;
        /// The same of the modification time.
        const MTIME_DIRTY = 1 << 2;
        /// The time of creation is known.
        const BTIME_KNOWN = 1 << 3;
        /// See [`Metadata::doubt`].
        const DOUBTFUL = 1 << 4;
    }
}

/// The attributes of one inode, and which of its names are cached. There are as many of these
/// as cached files: every byte counts.
pub(crate) struct Metadata {
    size: u64,
    /// Of a device, which takes none: its number.
    blocks: u64,
    times: PackedTimes,
    /// The ticket of the newest reply that was applied.
    applied: u64,
    /// A ticket taken when the last local change completed.
    changed: u64,
    /// The names through which the file is reached.
    pub(crate) names: Names,
    /// Saturates: nothing has more links than this.
    nlink: u32,
    uid: u32,
    gid: u32,
    block_size: u32,
    /// What [`Superblock::unknown_removals`](crate::superblock::Superblock::unknown_removals)
    /// was when the attributes came from the server, less its high half.
    removals_seen: u32,
    mode: u16,
    file_type: FileType,
    flags: Flags,
}

impl Metadata {
    /// Of an inode that was just found by the request that took `ticket`. `attr` went through
    /// [`complete`].
    pub(crate) fn new(attr: Attr, sent: AttrMask, ticket: u64, removals: u64) -> Metadata {
        let mut meta = Metadata {
            size: 0,
            blocks: 0,
            times: PackedTimes::default(),
            applied: ticket,
            changed: 0,
            names: Names::default(),
            nlink: 0,
            uid: 0,
            gid: 0,
            block_size: 0,
            removals_seen: removals as u32,
            mode: 0,
            file_type: attr.file_type,
            flags: Flags::empty(),
        };
        meta.flags
            .set(Flags::NLINK_KNOWN, sent.contains(AttrMask::NLINK));
        meta.store(&attr);
        meta
    }

    fn store(&mut self, attr: &Attr) {
        self.size = attr.size;
        self.blocks = match attr.file_type {
            FileType::CharDevice | FileType::BlockDevice => {
                u64::from(attr.rdev.major) << 32 | u64::from(attr.rdev.minor)
            }
            _ => attr.blocks,
        };
        self.times
            .set([attr.atime, attr.mtime, attr.ctime, attr.btime]);
        self.nlink = u32::try_from(attr.nlink).unwrap_or(u32::MAX);
        (self.uid, self.gid) = (attr.uid, attr.gid);
        self.block_size = attr.block_size;
        self.mode = attr.mode;
        self.flags
            .set(Flags::BTIME_KNOWN, attr.mask.contains(AttrMask::BTIME));
    }

    /// The attributes.
    #[inline]
    pub(crate) fn attr(&self) -> Attr {
        let [atime, mtime, ctime, btime] = self.times.get();
        let mut mask = AttrMask::BASIC;
        mask.set(AttrMask::BTIME, self.flags.contains(Flags::BTIME_KNOWN));
        let (rdev, blocks) = match self.file_type {
            FileType::CharDevice | FileType::BlockDevice => {
                let (major, minor) = ((self.blocks >> 32) as u32, self.blocks as u32);
                (Device { major, minor }, 0)
            }
            _ => (Device::default(), self.blocks),
        };
        Attr {
            mask,
            file_type: self.file_type,
            mode: self.mode,
            nlink: u64::from(self.nlink),
            uid: self.uid,
            gid: self.gid,
            rdev,
            size: self.size,
            blocks,
            block_size: self.block_size,
            atime,
            mtime,
            ctime,
            btime,
        }
    }

    /// Mode, owner and group: what decides who may do what.
    pub(crate) fn permissions(&self) -> (u16, u32, u32) {
        (self.mode, self.uid, self.gid)
    }

    /// The size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// A change was under way whose outcome is not known: the copy is not the truth, in any
    /// mode, until the server was asked.
    pub(crate) fn doubt(&mut self) {
        self.flags |= Flags::DOUBTFUL;
    }

    /// See [`Metadata::doubt`].
    #[inline]
    pub(crate) fn is_doubtful(&self) -> bool {
        self.flags.contains(Flags::DOUBTFUL)
    }

    /// Whether one of this file's names, of which so many are `known`, may have been removed
    /// without being known here, after so many removals that were not.
    #[inline]
    pub(crate) fn links_in_doubt(&self, removals: u64, known: u64) -> bool {
        u64::from(self.nlink) > known
            && self.file_type != FileType::Directory
            && self.removals_seen != removals as u32
    }

    /// The attributes are those from after so many unknown removals.
    pub(crate) fn saw_removals(&mut self, removals: u64) {
        self.removals_seen = removals as u32;
    }

    /// Merges the reply to the request that took `ticket` (semantics 6.7).
    pub(crate) fn merge(&mut self, ticket: u64, mut reply: Attr) -> Merge {
        if ticket < self.changed {
            return Merge::Outdated;
        }
        if ticket >= self.applied {
            self.applied = ticket;
            let [atime, mtime, _, btime] = self.times.get();
            if self.flags.contains(Flags::ATIME_DIRTY) {
                reply.atime = atime;
            }
            if self.flags.contains(Flags::MTIME_DIRTY) {
                reply.mtime = mtime;
            }
            if !reply.mask.contains(AttrMask::BTIME) {
                reply.btime = btime;
                reply
                    .mask
                    .set(AttrMask::BTIME, self.flags.contains(Flags::BTIME_KNOWN));
            }
            self.store(&reply);
            self.flags -= Flags::DOUBTFUL;
        }
        Merge::Current
    }

    /// Whether nothing was changed here since the server last told: what it tells next is the
    /// doing of others.
    pub(crate) fn is_as_told(&self) -> bool {
        self.changed <= self.applied
    }

    /// Whether nothing was changed through this client since the newest reply.
    pub(crate) fn is_current(&self) -> bool {
        self.is_as_told() && !self.is_doubtful()
    }

    /// Records that a local change has completed: replies to earlier requests no longer count.
    pub(crate) fn completed(&mut self, ticket: u64) {
        self.changed = self.changed.max(ticket);
    }

    /// Access, modification and change time, as far as they are given.
    #[inline]
    fn change_times(&mut self, times: [Option<Timestamp>; 3]) {
        for (which, time) in times.into_iter().enumerate() {
            if let Some(time) = time {
                self.times.change(which, time);
            }
        }
    }

    /// Whether the server knows the access and the modification time.
    pub(crate) fn times_known(&self) -> [bool; 2] {
        [Flags::ATIME_DIRTY, Flags::MTIME_DIRTY].map(|flag| !self.flags.contains(flag))
    }

    /// Takes on access, modification and change time as they were shown before, and which of
    /// them the server knows.
    pub(crate) fn resume_times(&mut self, times: [Timestamp; 3], known: [bool; 2]) {
        let [_, _, _, btime] = self.times.get();
        let [atime, mtime, ctime] = times;
        self.times.set([atime, mtime, ctime, btime]);
        self.flags.set(Flags::ATIME_DIRTY, !known[0]);
        self.flags.set(Flags::MTIME_DIRTY, !known[1]);
    }

    pub(crate) fn touch_atime(&mut self, now: Timestamp) {
        self.change_times([Some(now), None, None]);
        self.flags |= Flags::ATIME_DIRTY;
    }

    /// Content changed: modification and change time.
    pub(crate) fn touch_mtime(&mut self, now: Timestamp) {
        self.change_times([None, Some(now), Some(now)]);
        self.flags |= Flags::MTIME_DIRTY;
    }

    pub(crate) fn touch_ctime(&mut self, now: Timestamp) {
        self.change_times([None, None, Some(now)]);
    }

    /// Sets times that the server knows as well.
    pub(crate) fn set_times(&mut self, atime: Option<Timestamp>, mtime: Option<Timestamp>) {
        self.change_times([atime, mtime, None]);
        if atime.is_some() {
            self.flags -= Flags::ATIME_DIRTY;
        }
        if mtime.is_some() {
            self.flags -= Flags::MTIME_DIRTY;
        }
    }

    /// The modification time to send, if the server does not know it; and, since that is sent
    /// anyway, the access time if it does not know that.
    pub(crate) fn unsent_times(&self) -> Option<(Timestamp, Option<Timestamp>)> {
        let [atime, mtime, ..] = self.times.get();
        let atime = self.flags.contains(Flags::ATIME_DIRTY).then_some(atime);
        self.flags
            .contains(Flags::MTIME_DIRTY)
            .then_some((mtime, atime))
    }

    /// The server has stamped the file by a write of ours that is older: where our clock counts,
    /// it has to be told the time again.
    pub(crate) fn server_stamped(&mut self, client_clock: bool) {
        self.flags.set(
            Flags::MTIME_DIRTY,
            self.flags.contains(Flags::MTIME_DIRTY) || client_clock,
        );
    }

    /// The server has been told these times.
    pub(crate) fn sent_times(&mut self, (mtime, atime): (Timestamp, Option<Timestamp>)) {
        let [atime_now, mtime_now, ..] = self.times.get();
        if mtime_now == mtime {
            self.flags -= Flags::MTIME_DIRTY;
        }
        if Some(atime_now) == atime {
            self.flags -= Flags::ATIME_DIRTY;
        }
    }

    /// The server is not told times it does not know: it shows its own once this was evicted.
    pub(crate) fn forget_unsent_times(&mut self) {
        self.flags -= Flags::ATIME_DIRTY | Flags::MTIME_DIRTY;
    }

    pub(crate) fn set_mode(&mut self, mode: u16) {
        self.mode = mode & 0o7777;
    }

    pub(crate) fn set_owner(&mut self, uid: Option<u32>, gid: Option<u32>) {
        self.uid = uid.unwrap_or(self.uid);
        self.gid = gid.unwrap_or(self.gid);
    }

    /// A truncation to `size`, in either direction.
    pub(crate) fn set_size(&mut self, size: u64) {
        if size < self.size {
            self.blocks = self.blocks.min(size.div_ceil(512));
        }
        self.size = size;
    }

    /// `n` bytes were written up to `end`.
    pub(crate) fn grow(&mut self, end: u64, n: u64) {
        if end > self.size {
            // Only what was written takes space: a gap before it is a hole.
            let new = n.min(end - self.size);
            self.blocks += new.div_ceil(512);
            self.size = end;
        }
    }

    /// See [`Before`].
    pub(crate) fn before(&self) -> Before {
        Before(self.applied)
    }

    /// Whether a reply was applied since, which leaves the count in doubt.
    fn told_since(&mut self, before: Before) -> bool {
        let told = self.before() != before;
        if told {
            self.doubt();
        }
        told
    }

    /// Adds `by` links, where links are counted (semantics 13.4).
    pub(crate) fn add_links(&mut self, by: i64, before: Before) {
        if by != 0 && self.flags.contains(Flags::NLINK_KNOWN) && !self.told_since(before) {
            let links = u64::from(self.nlink).saturating_add_signed(by);
            self.nlink = u32::try_from(links).unwrap_or(u32::MAX);
        }
    }

    /// A name is gone; `last`: the last one that is known here, which is all there is to go by
    /// where links are not counted.
    pub(crate) fn lose_link(&mut self, last: bool, before: Before) {
        if self.flags.contains(Flags::NLINK_KNOWN) {
            if !self.told_since(before) {
                self.nlink = self.nlink.saturating_sub(1);
            }
        } else if last {
            self.nlink = 0;
        }
    }

    /// No name is left: a directory was removed.
    pub(crate) fn no_links(&mut self) {
        self.nlink = 0;
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
        let mut meta = Metadata::new(regular(), AttrMask::BASIC, 0, 0);
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
        // So does what the file was found with.
        let mut found = Metadata::new(sized(50), AttrMask::BASIC, 5, 0);
        assert_eq!(found.merge(4, sized(40)), Merge::Current);
        assert_eq!(found.attr().size, 50);
    }

    #[test]
    fn dirty_times_survive_a_reply() {
        let mut meta = Metadata::new(regular(), AttrMask::BASIC, 0, 0);
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
        let mut meta = Metadata::new(regular(), AttrMask::BASIC, 0, 0);
        meta.grow(1 << 20, 512);
        assert_eq!((meta.attr().size, meta.attr().blocks), (1 << 20, 1));
        meta.set_size(0);
        assert_eq!(meta.attr().blocks, 0);
    }

    #[test]
    fn links_are_counted_only_where_the_server_counts_them() {
        let mut counted = Metadata::new(regular(), AttrMask::BASIC, 0, 0);
        let before = counted.before();
        counted.add_links(2, before);
        assert_eq!(counted.attr().nlink, 2);
        let mut uncounted = regular();
        uncounted.nlink = 1;
        let mut unknown = Metadata::new(uncounted, AttrMask::TYPE, 0, 0);
        let before = unknown.before();
        unknown.add_links(2, before);
        unknown.lose_link(false, before);
        assert_eq!(unknown.attr().nlink, 1);
        unknown.lose_link(true, before);
        assert_eq!(unknown.attr().nlink, 0);
    }

    #[test]
    fn a_count_is_not_changed_by_what_a_reply_may_have_in_it() {
        let mut two = regular();
        two.nlink = 2;
        let mut meta = Metadata::new(two, AttrMask::BASIC, 0, 0);
        let before = meta.before();
        let mut one = regular();
        one.nlink = 1;
        // Of a request that was sent before or after ours: nobody knows.
        assert_eq!(meta.merge(3, one), Merge::Current);
        meta.lose_link(false, before);
        assert_eq!((meta.attr().nlink, meta.is_doubtful()), (1, true));
        let before = meta.before();
        meta.add_links(0, before);
        meta.add_links(1, before);
        assert_eq!(meta.attr().nlink, 2);
    }
}
