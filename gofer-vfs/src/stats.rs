//! Counters of what the caches did, and of what the tables hold.
//!
//! # Bounds
//!
//! No table grows without bound, whatever the server says and the users ask:
//!
//! | table | bound | counter |
//! |---|---|---|
//! | unused dentries and their inodes | option `dentry_cache_limit` | `lru_length` |
//! | dentries and inodes in use | what users hold, and the directories above | `live_dentries`, `live_inodes` |
//! | absent names | 1,000 in a directory, 65,536 in all | `negative_entries`, `negative_directories` |
//! | answers about whole paths | 1,024, of paths of up to 512 bytes | `answers`, `answer_bytes` |
//! | listings | 16 MiB | `listings`, `listing_bytes` |
//! | cached contents | option `page_cache_limit`; 256 memory files; 8,192 ranges of a file | `page_cache_bytes`, `page_cache_dirty`, `page_cache_files` |
//! | files with times or data to send | 1,024, and as many again that were refused | `times_waiting` |
//! | files of this client alone | 65,536; 64 KiB of content in a fifo | `synthetic_files` |
//! | watches | 65,536 | `watches` |
//! | events of one queue | 16,384 and one that tells of the loss | `queued_events` |
//! | names of watched directories | 65,536 of one, 262,144 in all | `watched_names` |
//! | locks | 8,192 ranges of a file | `file_locks` |
//! | handles open for writing | one or two of each file that users hold open, one of each open description in `cache=none` | `writable_handles` |
//! | mounts | each is a [`Filesystem`](crate::Filesystem) that its user made, with its connection | `mounts` |
//! | queues of events | each has a descriptor of this process, whose limit holds | |
//!
//! Handles, mounts and queues have no limit of their own: a user who may open as many files, or
//! connections, holds more with each than this client does.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $kind:ty,)*) => {
        /// What the caches of a filesystem did since it was mounted, and what they hold now.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Stats {
            /// Every counter with its name.
            pub fn fields(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }

        /// The counters behind [`Stats`].
        #[derive(Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: $kind,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Names looked up in directories.
    lookups: Busy,
    /// Lookups answered with a cached dentry.
    cache_hits: Busy,
    /// Lookups answered with a remembered absence.
    negative_hits: Busy,
    /// Paths answered as a whole; their names count as lookups and hits all the same.
    answer_hits: Busy,
    /// Answers about whole paths that are kept.
    answers: Counter,
    /// Memory they take, in bytes.
    answer_bytes: Counter,
    /// Batches of cached dentries that were checked with the server.
    revalidations: Counter,
    /// Dentries that a check found gone or replaced.
    invalidated: Counter,
    /// Unused dentries that were dropped to stay within the limit.
    evictions: Counter,
    /// Dentries that exist.
    live_dentries: Counter,
    /// Unused dentries that are kept.
    lru_length: Counter,
    /// Inodes that exist.
    live_inodes: Counter,
    /// Absent names that are remembered.
    negative_entries: Counter,
    /// Directories with absent names to forget when there are too many in all.
    negative_directories: Counter,
    /// Listings served from the cache.
    listing_hits: Counter,
    /// Lookups answered with the absence of a name from a cached listing.
    listing_absences: Counter,
    /// Listings that are kept.
    listings: Counter,
    /// Memory they take, in bytes.
    listing_bytes: Counter,
    /// Handles opened on the server.
    remote_opens: Counter,
    /// Reads through a donated descriptor.
    host_reads: Counter,
    /// Writes through a donated descriptor.
    host_writes: Counter,
    /// Handles that are open for writing, which a sync has to reach.
    writable_handles: Counter,
    /// Filesystems that are mounted on files of this one.
    mounts: Counter,
    /// Read calls made to the server.
    remote_reads: Counter,
    /// Write calls made to the server.
    remote_writes: Counter,
    /// Files and handles that the server keeps for this client.
    remote_files: Counter,
    /// Of those, such as were given up and of which the server has still to be told.
    remote_closing: Counter,
    /// Files that exist in this client alone.
    synthetic_files: Counter,
    /// Watches for events.
    watches: Counter,
    /// Events that wait to be read from the queues of watches.
    queued_events: Counter,
    /// Names of watched directories that are kept to find what others changed.
    watched_names: Counter,
    /// Advisory locks that are held.
    file_locks: Counter,
    /// Reads answered from cached pages alone.
    page_cache_hits: Busy,
    /// Requests for contents that were not cached.
    page_cache_fills: Counter,
    /// Requests that brought cached data to the server.
    page_cache_write_backs: Counter,
    /// Pages dropped to stay within the limit, or because they were asked to be.
    page_cache_evicted: Counter,
    /// Bytes of memory that cached contents take.
    page_cache_bytes: Counter,
    /// Of those, bytes that the server does not have yet.
    page_cache_dirty: Counter,
    /// Files in memory that hold them, a descriptor each.
    page_cache_files: Counter,
    /// Files that wait to have their times, and data that was refused, sent to the server.
    times_waiting: Counter,
    /// Modification times sent to the server after the last writer had closed.
    times_sent: Counter,
}

/// One counter. Never orders anything but itself.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Cells of a busy counter.
const CELLS: usize = 8;

/// A counter that many threads add to at once: each has a cell, shared with few others.
#[derive(Default)]
pub(crate) struct Busy([Cell; CELLS]);

/// As large as what processors hand to each other.
#[derive(Default)]
#[repr(align(64))]
struct Cell(AtomicU64);

impl Busy {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static CELL: usize = THREADS.fetch_add(1, Ordering::Relaxed) % CELLS;
        }
        // A thread that is ending counts, too.
        let cell = CELL.try_with(|&cell| cell).unwrap_or(0);
        if let Some(Cell(count)) = self.0.get(cell) {
            count.fetch_add(n, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        let counts = self.0.iter().map(|Cell(count)| count);
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }
}
