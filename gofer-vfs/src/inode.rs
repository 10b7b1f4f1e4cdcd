//! Inodes: what a file is, however many names it has; and the table that makes the names of one
//! file meet in one inode.
//!
//! The table does not keep inodes alive: dentries do. Directories have one name and are never
//! shared, so they are not in the table.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::attr::{Attr, AttrMask, FileType};
use crate::context::Context;
use crate::error::Errno;
use crate::handle::SharedHandles;
use crate::locks::{DATA, INODES, METADATA, Mutex, REMOTES, RwLock};
use crate::metadata::{Merge, Metadata, complete};
use crate::remote::{FileKey, RemoteFile};
use crate::superblock::{Res, Superblock};

/// How often a question is asked again because a local change overtook the answer.
const ATTEMPTS_MAX: usize = 16;

/// A file.
pub(crate) struct Inode {
    pub(crate) key: FileKey,
    /// The number shown to users; derived from the key, constant.
    pub(crate) ino: u64,
    /// Constant: a name whose type changed is another file (semantics 24, item 8).
    pub(crate) file_type: FileType,
    pub(crate) meta: Mutex<Metadata, METADATA>,
    /// Held shared by writers at an offset, exclusively by whoever moves the end of the file.
    pub(crate) data: RwLock<(), DATA>,
    pub(crate) handles: SharedHandles,
    /// Open file descriptions that may write.
    pub(crate) writers: AtomicU32,
    pub(crate) errors: ErrorLog,
    remotes: Mutex<Remotes, REMOTES>,
    /// [`Superblock::unknown_removals`] when the attributes came from the server.
    removals_seen: AtomicU64,
    /// Something was changed through this client: see [`InodeTable::changed_since`].
    changed: AtomicBool,
    pub(crate) sb: Arc<Superblock>,
}

/// What an inode is reached through.
struct Remotes {
    /// One remote file per name that is still there, with the id of the dentry.
    names: Vec<(u64, Arc<dyn RemoteFile>)>,
    /// The target of a symbolic link, once it was read.
    link_target: Option<Arc<[u8]>>,
}

impl Inode {
    fn new(sb: &Arc<Superblock>, key: FileKey, attr: Attr, sent: AttrMask) -> Inode {
        sb.counters.live_inodes.one();
        Inode {
            key,
            ino: sb.ino(key),
            file_type: attr.file_type,
            meta: Mutex::new(Metadata::new(attr, sent)),
            data: RwLock::new(()),
            handles: SharedHandles::new(),
            writers: AtomicU32::new(0),
            errors: ErrorLog::default(),
            remotes: Mutex::new(Remotes {
                names: Vec::new(),
                link_target: None,
            }),
            removals_seen: AtomicU64::new(sb.unknown_removals()),
            changed: AtomicBool::new(false),
            sb: sb.clone(),
        }
    }

    /// A copy of the attributes as they are known.
    #[inline]
    pub(crate) fn attr(&self) -> Attr {
        *self.meta.lock().attr()
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// Notes that this client is about to change the file or, for a directory, its names.
    pub(crate) fn about_to_change(&self) {
        // Read when a name goes, by a thread that saw all references to it go.
        if !self.changed.load(Ordering::Relaxed) {
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    /// Applies a local change to the attributes: replies under way are too old from now on.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Metadata) -> R) -> R {
        self.about_to_change();
        let mut meta = self.meta.lock();
        let changed = change(&mut meta);
        meta.completed(self.sb.ticket());
        changed
    }

    /// Whether one of this file's `nlink` names may have been removed without being known here.
    #[inline]
    pub(crate) fn links_in_doubt(&self, nlink: u64) -> bool {
        nlink > 1
            && !self.is_dir()
            && self.removals_seen.load(Ordering::Relaxed) != self.sb.unknown_removals()
    }

    /// Applies a reply to the request that took `ticket`. `EIO` if it makes no sense.
    pub(crate) fn merge(&self, ticket: u64, reply: Attr) -> Result<Merge, Errno> {
        let reply = complete(reply, &self.sb.options, || self.sb.clock.now())?;
        if reply.file_type != self.file_type {
            return Err(Errno::ESTALE);
        }
        Ok(self.meta.lock().merge(ticket, reply))
    }

    /// Gets the attributes from the server, through an open handle where there is one.
    pub(crate) fn refresh(
        &self,
        cx: &Context<'_>,
        file: &dyn RemoteFile,
        through: Option<&crate::handle::Handle>,
    ) -> Res<()> {
        let shared = match through {
            Some(_) => None,
            None => self.handles.any(),
        };
        let through = through.or(shared.as_deref());
        for _ in 0..ATTEMPTS_MAX {
            let ticket = self.sb.ticket();
            let removals = self.sb.unknown_removals();
            let reply = match through {
                Some(handle) => handle.attr(cx)?,
                None => file.attr(&cx.call(), AttrMask::all())?,
            };
            if self.merge(ticket, reply)? == Merge::Current {
                self.removals_seen.store(removals, Ordering::Relaxed);
                break;
            }
        }
        Ok(())
    }

    /// Binds the remote file of a new name.
    pub(crate) fn bind(&self, dentry: u64, file: Arc<dyn RemoteFile>) {
        self.remotes.lock().names.push((dentry, file));
    }

    /// Takes out the remote file of a name that is gone. Its dentry still has it, so nothing is
    /// released here.
    pub(crate) fn unbind(&self, dentry: u64) {
        let mut remotes = self.remotes.lock();
        let at = remotes.names.iter().position(|(id, _)| *id == dentry);
        let gone = at.map(|at| remotes.names.swap_remove(at));
        drop(remotes);
        drop(gone);
    }

    /// The remote file of a name that is still there, if there is one.
    pub(crate) fn live_remote(&self) -> Option<Arc<dyn RemoteFile>> {
        let remotes = self.remotes.lock();
        remotes.names.first().map(|(_, file)| file.clone())
    }

    pub(crate) fn link_target(&self) -> Option<Arc<[u8]>> {
        self.remotes.lock().link_target.clone()
    }

    pub(crate) fn remember_link_target(&self, target: Arc<[u8]>) {
        self.remotes.lock().link_target = Some(target);
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        self.sb.counters.live_inodes.sub(1);
        self.sb.inodes.remove(self);
        let pair = self.handles.take();
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
    /// A request that was sent then found it: [`InodeTable::now`] and a ticket.
    Found { then: u64, ticket: u64 },
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
    map: Mutex<HashMap<FileKey, Weak<Inode>>, INODES>,
    clock: AtomicU64,
    forgotten: Box<[AtomicU64]>,
}

const FORGOTTEN_SLOTS: usize = 512;

impl InodeTable {
    pub(crate) fn new() -> InodeTable {
        InodeTable {
            map: Mutex::new(HashMap::new()),
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
        let new = || Arc::new(Inode::new(sb, key, attr, sent));
        if attr.file_type == FileType::Directory {
            return Ok((!outdated()).then(new));
        }
        let mut map = self.map.lock();
        if let Origin::Found { ticket, .. } = origin
            && let Some(entry) = map.get(&key)
        {
            let Some(inode) = entry.upgrade() else {
                // It is going right now, and whether it was changed is not noted yet.
                if authoritative {
                    return Ok(None);
                }
                let inode = new();
                map.insert(key, Arc::downgrade(&inode));
                return Ok(Some(inode));
            };
            if inode.file_type == attr.file_type {
                drop(map);
                if !authoritative {
                    inode.meta.lock().merge(ticket, attr);
                }
                return Ok(Some(inode));
            }
            // Its number was given to another file. Dropped after the lock.
            let other = new();
            map.insert(key, Arc::downgrade(&other));
            drop(map);
            drop(inode);
            return Ok(Some(other));
        }
        if outdated() {
            return Ok(None);
        }
        let inode = new();
        map.insert(key, Arc::downgrade(&inode));
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
        let mut map = self.map.lock();
        if let Entry::Occupied(entry) = map.entry(inode.key)
            && std::ptr::eq(entry.get().as_ptr(), inode)
        {
            entry.remove();
        }
    }
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
/// happened since it last asked, once (semantics 20.6).
#[derive(Default)]
pub(crate) struct ErrorLog(AtomicU64);

/// How far a description has read an [`ErrorLog`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Seen(u64);

impl ErrorLog {
    /// The low bits hold the error, the others count.
    const ERRNO_BITS: u32 = 16;

    pub(crate) fn record(&self, errno: Errno) {
        let count = self.0.load(Ordering::Relaxed) >> Self::ERRNO_BITS;
        let entry = (count + 1) << Self::ERRNO_BITS | errno.raw() as u64;
        self.0.store(entry, Ordering::Relaxed);
    }

    /// Where a new description begins.
    pub(crate) fn end(&self) -> Seen {
        Seen(self.0.load(Ordering::Relaxed))
    }

    /// The last error recorded after `seen`, which moves to the end.
    pub(crate) fn since(&self, seen: &mut Seen) -> Option<Errno> {
        let end = self.end();
        let news = end != *seen;
        *seen = end;
        news.then(|| Errno::from_raw((end.0 & ((1 << Self::ERRNO_BITS) - 1)) as i32))
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
        let mut late = log.end();
        assert_eq!(log.since(&mut early), Some(Errno::ENOSPC));
        assert_eq!(log.since(&mut early), None);
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
