//! Inodes: what a file is, however many names it has; and the table that makes the names of one
//! file meet in one inode.
//!
//! The table does not keep inodes alive: dentries do. Directories have one name and are never
//! shared, so they are not in the table.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Weak};

use hashbrown::HashTable;
use once_cell::race::OnceBox;

use crate::attr::{Attr, AttrMask, FileType};
use crate::context::Context;
use crate::dentry::Dentry;
use crate::error::Errno;
use crate::handle::{Handle, SharedHandles};
use crate::locks::{DATA, INODES, METADATA, Mutex, RwLock};
use crate::metadata::{Before, Merge, Metadata, complete};
use crate::page_cache::PageCache;
use crate::remote::{FileKey, RemoteFile};
use crate::superblock::{Res, Superblock};
use crate::versions::Subject;

/// How often a question is asked again because a local change overtook the answer.
const ATTEMPTS_MAX: usize = 16;

/// A file.
pub(crate) struct Inode {
    pub(crate) key: FileKey,
    /// The number shown to users; derived from the key, constant.
    pub(crate) ino: u64,
    /// Constant: a name whose type changed is another file (semantics 24, item 8).
    pub(crate) file_type: FileType,
    /// Something was changed through this client: see [`InodeTable::changed_since`].
    changed: AtomicBool,
    meta: Mutex<Metadata, METADATA>,
    /// Most files are never opened, so this is made when it is needed.
    open: OnceBox<OpenState>,
    pub(crate) sb: Arc<Superblock>,
}

/// What an inode has once it was opened, or its data changed.
#[derive(Default)]
pub(crate) struct OpenState {
    /// Held shared by writers at an offset, exclusively by whoever moves the end of the file.
    pub(crate) data: RwLock<(), DATA>,
    pub(crate) handles: SharedHandles,
    /// Open file descriptions that may write.
    pub(crate) writers: AtomicU32,
    pub(crate) errors: ErrorLog,
    /// Made when data is first cached or mapped.
    pub(crate) pages: OnceBox<PageCache>,
    /// Reads and writes go through `pages`: see [`Inode::settle_route`].
    pub(crate) cached: AtomicBool,
}

impl Inode {
    /// `sent`: what the server told of `attr`; `ticket` and `removals`: see [`Origin::Found`].
    fn new(
        sb: &Arc<Superblock>,
        key: FileKey,
        (attr, sent): (Attr, AttrMask),
        (ticket, removals): (u64, u64),
    ) -> Inode {
        sb.counters.live_inodes.one();
        Inode {
            key,
            ino: sb.ino(key),
            file_type: attr.file_type,
            changed: AtomicBool::new(false),
            meta: Mutex::new(Metadata::new(attr, sent, ticket, removals)),
            open: OnceBox::new(),
            sb: sb.clone(),
        }
    }

    /// A copy of the attributes as they are known.
    #[inline]
    pub(crate) fn attr(&self) -> Attr {
        self.meta.lock().attr()
    }

    /// The attributes, to look at.
    pub(crate) fn meta(&self) -> impl Deref<Target = Metadata> {
        self.meta.lock()
    }

    /// Changes the attributes: the only way to do that, so that no remembered answer outlives it.
    pub(crate) fn update<R>(&self, update: impl FnOnce(&mut Metadata) -> R) -> R {
        let mut meta = self.meta.lock();
        let before = meta.permissions();
        let updated = update(&mut meta);
        let versions = &self.sb.versions;
        versions.changed(Subject::Attributes(self.key));
        if self.is_dir() && meta.permissions() != before {
            versions.changed(Subject::Directory(self.key));
        }
        updated
    }

    #[inline]
    pub(crate) fn is_dir(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// What it has as an open file, made if need be.
    pub(crate) fn open(&self) -> &OpenState {
        self.open.get_or_init(Box::default)
    }

    /// What it has as an open file, if it ever was one.
    pub(crate) fn opened(&self) -> Option<&OpenState> {
        self.open.get()
    }

    /// The shared handle for reading.
    pub(crate) fn reader(&self) -> Option<Arc<Handle>> {
        self.opened()?.handles.reader()
    }

    /// The shared handle for writing.
    pub(crate) fn writer(&self) -> Option<Arc<Handle>> {
        self.opened()?.handles.writer()
    }

    /// Any shared handle, the writing one first.
    pub(crate) fn any_handle(&self) -> Option<Arc<Handle>> {
        self.opened()?.handles.any()
    }

    /// Notes that this client is about to change the file or, for a directory, its names.
    pub(crate) fn about_to_change(&self) {
        // Read when a name goes, by a thread that saw all references to it go.
        if !self.changed.load(Ordering::Relaxed) {
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    /// As [`Inode::about_to_change`], for a request that changes how many links there are.
    pub(crate) fn about_to_count(&self) -> Before {
        self.about_to_change();
        self.meta.lock().before()
    }

    /// Applies a local change to the attributes: replies under way are too old from now on.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Metadata) -> R) -> R {
        self.about_to_change();
        self.update(|meta| {
            let changed = change(meta);
            meta.completed(self.sb.ticket());
            changed
        })
    }

    /// Applies a reply to the request that took `ticket`. `EIO` if it makes no sense.
    pub(crate) fn merge(&self, ticket: u64, reply: Attr) -> Result<Merge, Errno> {
        let mut reply = complete(reply, &self.sb.options, || self.sb.clock.now())?;
        if reply.file_type != self.file_type {
            return Err(Errno::ESTALE);
        }
        // Nobody else writes where data is written late: the file ends where the server says,
        // or where what it has not got yet ends.
        if self.sb.mode.may_cache_metadata() {
            let unsent = self.cache().map_or(0, PageCache::unsent_end);
            reply.size = reply.size.max(unsent);
        }
        let merged = self.update(|meta| meta.merge(ticket, reply));
        if let Some(cache) = self.cache() {
            cache.shrink(&self.sb.pages, self.attr().size);
        }
        Ok(merged)
    }

    /// Gets the attributes from the server, through an open handle where there is one. Those of a
    /// file of this client alone are known.
    pub(crate) fn refresh(
        &self,
        cx: &Context<'_>,
        file: &dyn RemoteFile,
        through: Option<&Handle>,
    ) -> Res<()> {
        if self.key.is_synthetic() {
            return Ok(());
        }
        let shared = match through {
            Some(_) => None,
            None => self.any_handle(),
        };
        let through = through.or(shared.as_deref());
        for _ in 0..ATTEMPTS_MAX {
            // In this order: what is known to somebody with a later ticket has these in it.
            let removals = self.sb.unknown_removals();
            let ticket = self.sb.ticket();
            let reply = match through {
                Some(handle) => handle.attr(cx)?,
                None => file.attr(&cx.call(), AttrMask::all())?,
            };
            if self.merge(ticket, reply)? == Merge::Current {
                self.update(|meta| meta.saw_removals(removals));
                break;
            }
        }
        Ok(())
    }

    /// Binds a new name.
    pub(crate) fn bind(&self, dentry: &Arc<Dentry>) {
        self.meta.lock().names.add(dentry);
    }

    /// Takes out a name that is gone. Its dentry still has its remote file, so nothing is
    /// released here.
    pub(crate) fn unbind(&self, dentry: &Dentry) {
        self.meta.lock().names.remove(dentry);
    }

    /// The remote file of a name that is still there, if there is one.
    pub(crate) fn live_remote(&self) -> Option<Arc<dyn RemoteFile>> {
        // Dropped after the lock: one may be the last reference by then.
        let mut touched = Vec::new();
        let meta = self.meta.lock();
        let remote = meta.names.live_remote(&mut touched);
        drop(meta);
        remote
    }

    /// Where in its filesystem a name is that is still there, if there is one.
    pub(crate) fn live_path(&self) -> Option<Vec<u8>> {
        let mut touched = Vec::new();
        let meta = self.meta.lock();
        let found = meta.names.live_remote(&mut touched).is_some();
        drop(meta);
        let mut at = touched.pop().filter(|_| found);
        let mut path = Vec::new();
        while let Some(dentry) = at {
            let (above, name) = dentry.above();
            if above.is_some() {
                path.splice(0..0, [b"/", &*name].concat());
            }
            at = above;
        }
        (!path.is_empty()).then_some(path)
    }

    pub(crate) fn link_target(&self) -> Option<Arc<[u8]>> {
        self.meta.lock().names.link_target()
    }

    pub(crate) fn remember_link_target(&self, target: Arc<[u8]>) {
        self.meta.lock().names.set_link_target(target);
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        self.sb.counters.live_inodes.sub(1);
        self.sb.inodes.remove(self);
        self.sb.pages.leave(self);
        self.sb.watches.inode_gone(self);
        let Some(open) = self.opened() else {
            return;
        };
        let pair = open.handles.take();
        if self.meta.lock().attr().nlink == 0 {
            for handle in pair.read.iter().chain(&pair.write) {
                handle.close_promptly();
            }
        }
    }
}

/// Where the attributes of a file come from that is about to get an inode.
#[derive(Clone, Copy)]
pub(crate) enum Origin {
    /// A request that was sent then found it: [`InodeTable::now`], a ticket, and
    /// [`Superblock::unknown_removals`] as they were before.
    Found {
        then: u64,
        ticket: u64,
        removals: u64,
    },
    /// It was made by the request: it cannot be a file that was known before.
    Made,
}

/// Finds the inode of a file by its identity, and tells whether a reply may be older than
/// changes that were forgotten since.
///
/// While an inode exists its attributes are authoritative (where the mode says so) and a reply
/// is not needed. The gap is a file that was changed and evicted *while* a lookup of it was
/// under way: the reply may show it as it was before. So whenever a name of a changed inode
/// goes, the time is noted, in a slot its key hashes to.
pub(crate) struct InodeTable {
    known: Mutex<HashTable<Known>, INODES>,
    clock: AtomicU64,
    forgotten: Box<[AtomicU64]>,
}

/// An entry of the table.
struct Known {
    hash: u64,
    inode: Weak<Inode>,
}

/// Inodes that were looked at under the table's lock, to be dropped after it.
type Touched = Vec<Arc<Inode>>;

const FORGOTTEN_SLOTS: usize = 512;

/// Room for so many entries is kept, however few there are.
const SPARSE_MIN: usize = 1024;

impl InodeTable {
    pub(crate) fn new() -> InodeTable {
        InodeTable {
            known: Mutex::new(HashTable::new()),
            clock: AtomicU64::new(1),
            forgotten: (0..FORGOTTEN_SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// A time to hand to [`InodeTable::changed_since`], taken before a request is sent.
    pub(crate) fn now(&self) -> u64 {
        self.clock.load(Ordering::SeqCst)
    }

    /// Whether the file may have been changed and forgotten since `then`. May err towards yes.
    pub(crate) fn changed_since(&self, key: FileKey, then: u64) -> bool {
        self.slot(key).load(Ordering::SeqCst) > then
    }

    fn slot(&self, key: FileKey) -> &AtomicU64 {
        &self.forgotten[(mix(key.id) as usize) % FORGOTTEN_SLOTS]
    }

    /// The inode of a file, made if need be. The attributes are applied to an inode that is
    /// known already only in shared mode. `None`: the attributes may be outdated, ask again.
    /// `EIO`: they make no sense.
    pub(crate) fn adopt(
        &self,
        sb: &Arc<Superblock>,
        key: FileKey,
        attr: Attr,
        origin: Origin,
    ) -> Result<Option<Arc<Inode>>, Errno> {
        let sent = attr.mask;
        let attr = complete(attr, &sb.options, || sb.clock.now())?;
        let authoritative = sb.mode.may_cache_metadata();
        let outdated = || match origin {
            Origin::Found { then, .. } => authoritative && self.changed_since(key, then),
            Origin::Made => false,
        };
        let asked = match origin {
            Origin::Found {
                ticket, removals, ..
            } => (ticket, removals),
            Origin::Made => (0, sb.unknown_removals()),
        };
        let new = || Arc::new(Inode::new(sb, key, (attr, sent), asked));
        if attr.file_type == FileType::Directory {
            return Ok((!outdated()).then(new));
        }
        let mut touched = Touched::new();
        let mut known = self.known.lock();
        if let Origin::Found { ticket, .. } = origin {
            match find(&known, key, &mut touched) {
                Some(Some(inode)) if inode.file_type == attr.file_type => {
                    drop(known);
                    if !authoritative {
                        inode.merge(ticket, attr)?;
                    }
                    return Ok(Some(inode));
                }
                Some(Some(inode)) => {
                    // Its number was given to another file. Dropped after the lock.
                    let other = new();
                    insert(&mut known, &other, &mut touched);
                    drop(known);
                    drop(inode);
                    return Ok(Some(other));
                }
                // It is going right now. Whether it was changed was noted before that: whoever
                // sees its last reference gone sees the note.
                Some(None) => fence(Ordering::Acquire),
                None => {}
            }
        }
        if outdated() {
            return Ok(None);
        }
        let inode = new();
        insert(&mut known, &inode, &mut touched);
        Ok(Some(inode))
    }

    /// Notes that a name of `inode` goes. Comes before the name leaves its directory's map and
    /// before the inode is dropped, so that whoever no longer finds them finds the note.
    pub(crate) fn note_forgotten(&self, inode: &Inode) {
        if inode.changed.load(Ordering::Relaxed) {
            self.note(inode.key);
        }
    }

    fn note(&self, key: FileKey) {
        let time = self.clock.fetch_add(1, Ordering::SeqCst) + 1;
        self.slot(key).fetch_max(time, Ordering::SeqCst);
    }

    fn remove(&self, inode: &Inode) {
        if inode.is_dir() {
            return;
        }
        let mut known = self.known.lock();
        let entry = known.find_entry(hash_of(inode.key), |known| {
            std::ptr::eq(known.inode.as_ptr(), inode)
        });
        if let Ok(entry) = entry {
            entry.remove();
        }
        let (len, capacity) = (known.len(), known.capacity());
        if capacity > SPARSE_MIN && len < capacity / 8 {
            known.shrink_to(len * 2, |known| known.hash);
        }
    }
}

/// What the table knows of `key`; `Some(None)`: a file that is going right now.
fn find(
    known: &HashTable<Known>,
    key: FileKey,
    touched: &mut Touched,
) -> Option<Option<Arc<Inode>>> {
    let hash = hash_of(key);
    let mut going = None;
    for entry in known.iter_hash(hash).filter(|known| known.hash == hash) {
        match entry.inode.upgrade() {
            Some(inode) if inode.key == key => return Some(Some(inode)),
            // Another with the same hash.
            Some(inode) => touched.push(inode),
            None => going = Some(None),
        }
    }
    going
}

/// Enters `inode`, in place of another with its key.
fn insert(known: &mut HashTable<Known>, inode: &Arc<Inode>, touched: &mut Touched) {
    let hash = hash_of(inode.key);
    let entry = Known {
        hash,
        inode: Arc::downgrade(inode),
    };
    let former = known.find_mut(hash, |known| {
        known.hash == hash
            && match known.inode.upgrade() {
                Some(other) => {
                    let same = other.key == inode.key;
                    touched.push(other);
                    same
                }
                None => true,
            }
    });
    match former {
        Some(former) => *former = entry,
        None => {
            known.insert_unique(hash, entry, |known| known.hash);
        }
    }
}

fn hash_of(key: FileKey) -> u64 {
    mix([key.id[0], key.id[1] ^ u64::from(key.epoch).rotate_left(40)])
}

/// Spreads the two halves of an identity over 64 bits.
pub(crate) fn mix(id: [u64; 2]) -> u64 {
    // The multipliers of splitmix64's finisher.
    let mut x = id[0] ^ id[1].rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Errors that had nobody to be reported to: each open file description learns of an error that
/// happened since it last asked, once; and one that is opened later of an error that nobody was
/// told of yet, as in Linux (semantics 20.6).
#[derive(Default)]
pub(crate) struct ErrorLog(AtomicU64);

/// How far a description has read an [`ErrorLog`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Seen(u64);

impl ErrorLog {
    /// The low bits hold the error, the one above them whether anybody was told; the others
    /// count.
    const ERRNO_BITS: u32 = 16;
    const TOLD: u64 = 1 << Self::ERRNO_BITS;

    pub(crate) fn record(&self, errno: Errno) {
        let next = |last: u64| {
            let count = last >> (Self::ERRNO_BITS + 1);
            Some((count + 1) << (Self::ERRNO_BITS + 1) | errno.raw() as u64)
        };
        // The closure always gives a value.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Where a new description begins.
    pub(crate) fn end(&self) -> Seen {
        match self.0.load(Ordering::Relaxed) {
            last if last & Self::TOLD != 0 => Seen(last | Self::TOLD),
            _ => Seen::default(),
        }
    }

    /// The last error recorded after `seen`, which moves to the end.
    pub(crate) fn since(&self, seen: &mut Seen) -> Option<Errno> {
        let last = self.0.load(Ordering::Relaxed);
        if last == 0 || last | Self::TOLD == seen.0 {
            return None;
        }
        let end = self.0.fetch_or(Self::TOLD, Ordering::Relaxed) | Self::TOLD;
        *seen = Seen(end);
        Some(Errno::from_raw((end & (Self::TOLD - 1)) as i32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_description_learns_of_an_error_once() {
        let log = ErrorLog::default();
        let mut early = log.end();
        log.record(Errno::ENOSPC);
        // Nobody was told yet: a description that is opened now will be.
        let mut first = log.end();
        assert_eq!(log.since(&mut early), Some(Errno::ENOSPC));
        assert_eq!(log.since(&mut early), None);
        assert_eq!(log.since(&mut first), Some(Errno::ENOSPC));
        assert_eq!(log.since(&mut first), None);
        let mut late = log.end();
        assert_eq!(log.since(&mut late), None);
        log.record(Errno::ENOSPC);
        assert_eq!(log.since(&mut late), Some(Errno::ENOSPC));
        assert_eq!(log.since(&mut early), Some(Errno::ENOSPC));
    }

    #[test]
    fn forgotten_changes_outdate_replies_that_were_under_way() {
        let table = InodeTable::new();
        let key = FileKey {
            epoch: 0,
            id: [7, 1],
        };
        let before = table.now();
        assert!(!table.changed_since(key, before));
        table.note(key);
        assert!(table.changed_since(key, before));
        assert!(!table.changed_since(key, table.now()));
    }
}
