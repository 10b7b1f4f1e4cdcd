//! Counters of what the caches did.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
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
            $(pub(crate) $name: Counter,)*
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
    lookups,
    /// Lookups answered with a cached dentry.
    cache_hits,
    /// Lookups answered with a remembered absence.
    negative_hits,
    /// Batches of cached dentries that were checked with the server.
    revalidations,
    /// Dentries that a check found gone or replaced.
    invalidated,
    /// Unused dentries that were dropped to stay within the limit.
    evictions,
    /// Dentries that exist.
    live_dentries,
    /// Unused dentries that are kept.
    lru_length,
    /// Inodes that exist.
    live_inodes,
    /// Absent names that are remembered.
    negative_entries,
    /// Directories with absent names to forget when there are too many in all.
    negative_directories,
    /// Listings served from the cache.
    listing_hits,
    /// Lookups answered with the absence of a name from a cached listing.
    listing_absences,
    /// Listings that are kept.
    listings,
    /// Memory they take, in bytes.
    listing_bytes,
    /// Handles opened on the server.
    remote_opens,
    /// Reads through a donated descriptor.
    host_reads,
    /// Writes through a donated descriptor.
    host_writes,
    /// Read calls made to the server.
    remote_reads,
    /// Write calls made to the server.
    remote_writes,
    /// Files that exist in this client alone.
    synthetic_files,
    /// Watches for events.
    watches,
    /// Advisory locks that are held.
    file_locks,
    /// Reads answered from cached pages alone.
    page_cache_hits,
    /// Requests for contents that were not cached.
    page_cache_fills,
    /// Requests that brought cached data to the server.
    page_cache_write_backs,
    /// Pages dropped to stay within the limit, or because they were asked to be.
    page_cache_evicted,
    /// Bytes of memory that cached contents take.
    page_cache_bytes,
    /// Of those, bytes that the server does not have yet.
    page_cache_dirty,
    /// Files in memory that hold them, a descriptor each.
    page_cache_files,
    /// Modification times sent to the server after the last writer had closed.
    times_sent,
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
