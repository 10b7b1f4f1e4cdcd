//! What all dentries and inodes of one filesystem share. Knows no operation.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::answers::Answers;
use crate::attr::Timestamp;
use crate::clock::Clock;
use crate::dentry::{AbsentDirectories, Node};
use crate::dentry_cache::DentryCache;
use crate::directory::ListingCache;
use crate::error::Errno;
use crate::file_locks::{FileLocks, OwnerNumbers};
use crate::filesystem::MountFlags;
use crate::freshness::Freshness;
use crate::handle::Handle;
use crate::inode::{InodeTable, mix};
use crate::interop::InteropMode;
use crate::locks::{Mutex, REGISTRY, TOPOLOGY};
use crate::mounts::Mounts;
use crate::notify::Watches;
use crate::options::MountOptions;
use crate::page_cache::Budget;
use crate::reconnect::Moves;
use crate::remote::{Capabilities, Fate, FileKey, RemoteError, RemoteEvents, RemoteFilesystem};
use crate::stats::Counters;
use crate::synthetic::Synthetics;
use crate::times::Times;
use crate::versions::{Subject, Versions};

/// Why something inside this crate failed. Becomes an [`crate::Error`] where an operation ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    errno: Errno,
    uncertain: bool,
}

impl Failure {
    pub(crate) fn errno(self) -> Errno {
        self.errno
    }

    /// Whether the server may have carried the request out all the same.
    pub(crate) fn is_uncertain(self) -> bool {
        self.uncertain
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure {
            errno,
            uncertain: false,
        }
    }
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Failure {
        Failure {
            errno: error.errno,
            uncertain: error.fate == Fate::Unknown,
        }
    }
}

impl RemoteEvents for Superblock {
    fn lost(&self, _epoch: u32) {
        // With `reconnect` it may come back, and what waited is written then.
        if self.options.reconnect == 0 {
            self.lost.store(true, Ordering::Relaxed);
        }
    }

    fn changed(&self, _key: FileKey, _name: Option<&[u8]>) {}

    fn overflow(&self) {}
}

/// What functions inside this crate return.
pub(crate) type Res<T> = std::result::Result<T, Failure>;

/// See the module.
pub(crate) struct Superblock {
    pub(crate) remote: Arc<dyn RemoteFilesystem>,
    pub(crate) capabilities: Capabilities,
    pub(crate) options: MountOptions,
    pub(crate) mode: InteropMode,
    pub(crate) flags: MountFlags,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) freshness: Freshness,
    pub(crate) counters: Counters,
    pub(crate) inodes: InodeTable,
    pub(crate) cache: DentryCache,
    pub(crate) versions: Versions,
    pub(crate) answers: Answers,
    pub(crate) listings: ListingCache,
    pub(crate) absent: AbsentDirectories,
    pub(crate) times: Times,
    pub(crate) mounts: Mounts,
    pub(crate) watches: Watches,
    pub(crate) synthetics: Synthetics,
    pub(crate) file_locks: FileLocks,
    pub(crate) lock_owners: OwnerNumbers,
    /// Renames under way.
    pub(crate) moves: Moves,
    pub(crate) pages: Budget,
    /// Held by renames between directories.
    pub(crate) topology: Mutex<(), TOPOLOGY>,
    /// The device part of the root's identity: files on it show the server's inode numbers.
    root_device: u64,
    /// Numbers that files had before they were restored, by their identity now.
    numbers: HashMap<[u64; 2], u64>,
    serials: AtomicU64,
    tickets: AtomicU64,
    /// Names removed that were not cached: whose link counts they changed is not known.
    unknown_removals: AtomicU64,
    /// The longest name the server can have, in bytes.
    name_max: usize,
    unmounted: AtomicBool,
    /// The connection is gone for good.
    lost: AtomicBool,
    writable: Mutex<HashMap<u64, Weak<Handle>>, REGISTRY>,
}

impl Superblock {
    pub(crate) fn new(
        remote: Arc<dyn RemoteFilesystem>,
        options: MountOptions,
        flags: MountFlags,
        clock: Arc<dyn Clock>,
        root: FileKey,
        name_max: usize,
        numbers: HashMap<[u64; 2], u64>,
    ) -> Arc<Superblock> {
        // What is not even kept for a name is not for a path.
        let answers = options.cache.may_cache_metadata() && options.dentry_cache_limit > 0;
        Arc::new_cyclic(|this| Superblock {
            capabilities: remote.capabilities().clone(),
            mode: options.cache,
            cache: DentryCache::new(options.dentry_cache_limit),
            versions: Versions::new(answers),
            answers: Answers::new(answers),
            freshness: Freshness::new(
                clock.clone(),
                Duration::from_millis(options.revalidate_after.into()),
            ),
            remote,
            flags,
            clock,
            counters: Counters::default(),
            inodes: InodeTable::new(),
            listings: ListingCache::new(),
            absent: AbsentDirectories::default(),
            times: Times::new(this.clone()),
            mounts: Mounts::default(),
            watches: Watches::new(),
            synthetics: Synthetics::new(),
            file_locks: FileLocks::new(),
            lock_owners: OwnerNumbers::new(),
            moves: Moves::default(),
            pages: Budget::new(options.page_cache_limit),
            topology: Mutex::new(()),
            root_device: root.id[1],
            numbers,
            serials: AtomicU64::new(1),
            tickets: AtomicU64::new(1),
            unknown_removals: AtomicU64::new(0),
            name_max,
            unmounted: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            writable: Mutex::new(HashMap::new()),
            options,
        })
    }

    /// The time, where this client's clock stamps files; `None` where the server's does.
    pub(crate) fn stamp(&self) -> Option<Timestamp> {
        self.mode.client_clock().then(|| self.clock.now())
    }

    /// As [`Superblock::stamp`] for one file: those of this client alone have no other clock.
    pub(crate) fn stamp_of(&self, node: &Node) -> Option<Timestamp> {
        let ours = node.is_synthetic() || self.mode.client_clock();
        ours.then(|| self.clock.now())
    }

    /// The inode number shown for a file: the server's own on the root's device, else one that
    /// is derived from both halves of the identity. Never 0, which listings cannot carry.
    pub(crate) fn ino(&self, key: FileKey) -> u64 {
        if !self.numbers.is_empty()
            && let Some(number) = self.numbers.get(&key.id)
        {
            return (*number).max(1);
        }
        let ino = if key.id[1] == self.root_device {
            key.id[0]
        } else {
            mix(key.id)
        };
        ino.max(1)
    }

    pub(crate) fn next_serial(&self) -> u64 {
        self.serials.fetch_add(1, Ordering::Relaxed)
    }

    /// Serials from now on are larger than this one.
    pub(crate) fn serials_after(&self, serial: u64) {
        let next = serial.saturating_add(1);
        self.serials.fetch_max(next, Ordering::Relaxed);
    }

    /// A number larger than all before; see [`crate::metadata`].
    pub(crate) fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::SeqCst)
    }

    /// `ENAMETOOLONG` for a name the server cannot have (semantics 5.3).
    #[inline]
    pub(crate) fn check_name(&self, name: &[u8]) -> Res<()> {
        if name.len() > self.name_max {
            return Err(Errno::ENAMETOOLONG.into());
        }
        Ok(())
    }

    /// `EROFS` on a read-only mount.
    pub(crate) fn check_writable(&self) -> Res<()> {
        if self.flags.readonly {
            return Err(Errno::EROFS.into());
        }
        Ok(())
    }

    /// A name was removed of a file that is not known, and so not counted at the file.
    pub(crate) fn unknown_name_went(&self) {
        self.unknown_removals.fetch_add(1, Ordering::Relaxed);
        self.versions.changed(Subject::Removals);
    }

    /// How many such names went so far.
    pub(crate) fn unknown_removals(&self) -> u64 {
        self.unknown_removals.load(Ordering::Relaxed)
    }

    /// Marks the filesystem as gone; false if it was before.
    pub(crate) fn begin_unmount(&self) -> bool {
        !self.unmounted.swap(true, Ordering::SeqCst)
    }

    pub(crate) fn is_unmounted(&self) -> bool {
        self.unmounted.load(Ordering::SeqCst)
    }

    /// Whether a write may wait here for the server. Not for one that is gone: then its caller is
    /// to hear of it.
    pub(crate) fn may_defer_writes(&self) -> bool {
        self.mode.may_defer_writes() && !self.lost.load(Ordering::Relaxed) && !self.is_unmounted()
    }

    pub(crate) fn register_writable(&self, serial: u64, handle: &Arc<Handle>) {
        let handle = Arc::downgrade(handle);
        self.writable.lock().insert(serial, handle);
    }

    pub(crate) fn unregister_writable(&self, serial: u64) {
        self.writable.lock().remove(&serial);
    }

    /// How many handles [`Superblock::writable_handles`] would give.
    pub(crate) fn writable_count(&self) -> u64 {
        self.writable.lock().len() as u64
    }

    /// Every handle that may have written, for a sync.
    pub(crate) fn writable_handles(&self) -> Vec<Arc<Handle>> {
        let writable = self.writable.lock();
        writable.values().filter_map(Weak::upgrade).collect()
    }
}
