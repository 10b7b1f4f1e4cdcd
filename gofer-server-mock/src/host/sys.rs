//! System calls of the host, each relative to a descriptor, and the budget of descriptors.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::path::DecInt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Errno, Result, Stat};

/// Flags of every descriptor that only names a place.
pub(super) const PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Descriptors kept back from clients: for accepting connections, donations and internal opens.
const RESERVED_DESCRIPTORS: u64 = 256;

static HELD: AtomicUsize = AtomicUsize::new(0);
static HELD_MAX: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Raises the soft limit on open descriptors to the hard one, and keeps clients from using up the
/// last of them. Returns the limit.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // No limit at all means that the kernel's own bound holds.
    let current = current.unwrap_or(1 << 20);
    limit_descriptors(
        current
            .saturating_sub(RESERVED_DESCRIPTORS)
            .max(current / 2),
    );
    current
}

/// Sets how many descriptors all clients of this process together may hold; beyond it they get
/// `ENFILE`.
pub fn limit_descriptors(most: u64) {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    HELD_MAX.store(most, Ordering::Relaxed);
}

/// A descriptor that is held for clients and counts against the budget.
#[derive(Debug)]
pub(super) struct Held(OwnedFd);

impl Held {
    /// Counts `fd`. `ENFILE`, and `fd` is closed, when the budget is used up.
    pub(super) fn new(fd: OwnedFd) -> Result<Held> {
        // Counted first, so that dropping it on the error path is balanced.
        let before = HELD.fetch_add(1, Ordering::Relaxed);
        let held = Held(fd);
        if before >= HELD_MAX.load(Ordering::Relaxed) {
            return Err(Errno::NFILE);
        }
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens the entry `name` of `dir`, a checked [`Name`](super::Name), as a place, without following
/// anything.
pub(super) fn lookup(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    // One component that is not `..`, and not followed: openat2(2) has nothing to add.
    rustix::fs::openat(&dir, name, PLACE, Mode::empty())
}

/// Attributes of what `fd` stands for, symbolic links included.
pub(super) fn stat(fd: impl AsFd) -> Result<Stat> {
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, wanted())
}

/// Attributes of the entry `name` of `dir`, not followed.
pub(super) fn stat_at(dir: impl AsFd, name: &[u8]) -> Result<Stat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(dir, name, flags, wanted())
}

fn wanted() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::BTIME
}

/// A path that names what `fd` names, for system calls that only take paths. It is the calling
/// process's own descriptor also where `/proc` belongs to an outer process namespace.
pub(super) fn magic_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// The directory of [`magic_path`], opened once: it stands for this process, which does not fork.
pub(super) fn own_descriptors() -> Result<BorrowedFd<'static>> {
    static OWN: OnceLock<Result<OwnedFd>> = OnceLock::new();
    let own = OWN.get_or_init(|| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, c"/proc/self/fd", flags, Mode::empty())
    });
    own.as_ref().map(AsFd::as_fd).map_err(|&error| error)
}

/// Opens what `fd` names, which is no symbolic link, with other flags.
pub(super) fn reopen(fd: impl AsFd, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    if flags.contains(OFlags::DIRECTORY) {
        match rustix::fs::openat(&fd, c".", flags, Mode::empty()) {
            // It may be read but not searched, which this looked like.
            Err(Errno::ACCESS) => {}
            opened => return opened,
        }
    }
    let own = own_descriptors()?;
    rustix::fs::openat(own, DecInt::from_fd(fd), flags, Mode::empty())
}
