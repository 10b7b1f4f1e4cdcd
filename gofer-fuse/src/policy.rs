//! What the kernel may cache, and what it is asked for: decided by the interop mode.

use std::time::Duration;

use fuser::{FopenFlags, InitFlags, KernelConfig};
use gofer_vfs::{InteropMode, LockPlace};

use crate::options::FuseOptions;

/// Time for which the kernel trusts what nobody else changes.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86400);

/// The largest read or write, in bytes: what the kernel allows without being told otherwise.
const TRANSFER_MAX: u32 = 1 << 20;

/// Requests the kernel may have under way by itself: read-ahead, releases.
const BACKGROUND_MAX: u16 = 64;

/// What the kernel may keep without asking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Names.
    pub entry: Duration,
    /// Attributes.
    pub attr: Duration,
    /// Absence of names; `None`: never.
    pub negative: Option<Duration>,
    /// Data and listings stay from one open to the next.
    pub keep: bool,
    /// Reads and writes pass the kernel's cache by; only mappings use it.
    pub direct: bool,
    /// The kernel leaves it to us to take set-ID bits away.
    pub takes_set_id: bool,
    /// Locks are passed on; else the kernel keeps them itself.
    pub locks: bool,
}

impl Policy {
    /// What `mode` allows, and `options` ask for instead.
    ///
    /// With another client about (`shared`), the kernel asks every time, and data goes directly:
    /// a mapping is then brought in line by each read and write around it.
    pub fn new(mode: InteropMode, locks: LockPlace, options: &FuseOptions) -> Policy {
        let trusted = match mode.may_cache_metadata() {
            true => FOR_EVER,
            false => options.checks_trusted,
        };
        let negative = mode.may_cache_negative().then_some(FOR_EVER);
        let keep = mode.may_cache_data();
        Policy {
            entry: options.entry_timeout.unwrap_or(trusted),
            attr: options.attr_timeout.unwrap_or(trusted),
            negative: match options.negative_timeout {
                Some(Duration::ZERO) => None,
                Some(time) => Some(time),
                None => negative,
            },
            keep,
            direct: !keep,
            takes_set_id: keep,
            locks: locks == LockPlace::Server,
        }
    }

    /// Tells the kernel what is wanted of it.
    pub(crate) fn configure(&self, config: &mut KernelConfig) -> std::io::Result<()> {
        // Not FUSE_ATOMIC_O_TRUNC: the kernel would have the file emptied by the open, and only
        // then see that a program is run from it and refuse (ETXTBSY). Without it the size is
        // set once the kernel has checked.
        let mut wanted = InitFlags::FUSE_PARALLEL_DIROPS | InitFlags::FUSE_ASYNC_DIO;
        if self.keep {
            wanted |= InitFlags::FUSE_CACHE_SYMLINKS
                | InitFlags::FUSE_EXPLICIT_INVAL_DATA
                | InitFlags::FUSE_DO_READDIRPLUS
                | InitFlags::FUSE_READDIRPLUS_AUTO;
        } else {
            wanted |= InitFlags::FUSE_AUTO_INVAL_DATA;
        }
        if self.direct {
            wanted |= InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP;
        }
        if self.takes_set_id {
            wanted |= InitFlags::FUSE_HANDLE_KILLPRIV_V2;
        }
        if self.locks {
            wanted |= InitFlags::FUSE_POSIX_LOCKS | InitFlags::FUSE_FLOCK_LOCKS;
        }
        for flag in wanted.iter() {
            // What an older kernel cannot do, it does in another way.
            if let Err(missing) = config.add_capabilities(flag) {
                tracing::debug!(?missing, "the kernel lacks a capability");
            }
        }
        let _ = config.set_max_write(TRANSFER_MAX);
        let _ = config.set_max_readahead(TRANSFER_MAX);
        let _ = config.set_max_background(BACKGROUND_MAX);
        Ok(())
    }

    /// What goes with the reply to an open of a file; `writes`: it can be written to.
    pub(crate) fn open_flags(&self, writes: bool) -> FopenFlags {
        let mut flags = FopenFlags::empty();
        if self.keep {
            flags |= FopenFlags::FOPEN_KEEP_CACHE;
        }
        if self.direct {
            flags |= FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        }
        // A close gives up the locks of who closes, through any file.
        if !writes && !self.locks {
            flags |= FopenFlags::FOPEN_NOFLUSH;
        }
        flags
    }

    /// What goes with the reply to an open of a directory.
    pub(crate) fn open_dir_flags(&self) -> FopenFlags {
        match self.keep {
            true => FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR,
            false => FopenFlags::empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_modes_without_other_writers_are_trusted() {
        let options = FuseOptions::default();
        for mode in InteropMode::ALL {
            let policy = Policy::new(mode, LockPlace::Local, &options);
            let trusts = policy.entry > Duration::ZERO;
            assert_eq!(trusts, mode.may_cache_metadata(), "{mode}");
            assert_eq!(policy.attr, policy.entry);
            assert_eq!(policy.negative.is_some(), trusts);
            assert_eq!(policy.direct, mode.must_revalidate());
            let flags = policy.open_flags(true);
            assert_ne!(
                flags.contains(FopenFlags::FOPEN_KEEP_CACHE),
                flags.contains(FopenFlags::FOPEN_DIRECT_IO)
            );
        }
    }

    #[test]
    fn checks_are_trusted_for_a_while_only_where_there_are_any() {
        let options = FuseOptions {
            checks_trusted: Duration::from_millis(250),
            ..FuseOptions::default()
        };
        for mode in InteropMode::ALL {
            let policy = Policy::new(mode, LockPlace::Local, &options);
            let expected = match mode.must_revalidate() {
                true => Duration::from_millis(250),
                false => FOR_EVER,
            };
            assert_eq!((policy.entry, policy.attr), (expected, expected), "{mode}");
        }
    }

    #[test]
    fn timeouts_given_by_the_user_count() {
        let options = FuseOptions {
            attr_timeout: Some(Duration::from_secs(2)),
            negative_timeout: Some(Duration::ZERO),
            ..FuseOptions::default()
        };
        let policy = Policy::new(InteropMode::Exclusive, LockPlace::Local, &options);
        assert_eq!(policy.attr, Duration::from_secs(2));
        assert_eq!(policy.negative, None);
        assert_eq!(policy.entry, FOR_EVER);
    }
}
