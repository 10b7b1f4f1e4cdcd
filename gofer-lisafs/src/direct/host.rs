//! The system calls, each relative to a descriptor. Interrupted ones are repeated.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use gofer_vfs::Name;
use gofer_vfs::remote::RemoteError;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::{Errno, retry_on_intr};

/// What these calls return.
pub(super) type Result<T> = std::result::Result<T, Errno>;

/// Flags of a descriptor that only names a place.
const PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How often the size of an extended attribute, or of a list of them, may change between asking
/// for it and reading it.
const SIZE_ATTEMPTS: usize = 8;

/// What statfs(2) calls `/proc`.
const PROC_MAGIC: u64 = 0x9fa0;

/// The host's answer to a caller.
pub(super) fn refused(errno: Errno) -> RemoteError {
    RemoteError::refused(errno.into())
}

/// `ENOSYS` without `/proc`, through which files are opened.
pub(super) fn check_proc() -> Result<()> {
    match rustix::fs::statfs(c"/proc/self/fd") {
        Ok(fs) if fs.f_type as u64 == PROC_MAGIC => Ok(()),
        _ => Err(Errno::NOSYS),
    }
}

/// Opens the entry `name` of `dir` as a place, without following anything.
pub(super) fn lookup(dir: impl AsFd, name: Name<'_>) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let (dir, name) = (dir.as_fd(), name.as_bytes());
    match retry_on_intr(|| rustix::fs::openat2(dir, name, PLACE, Mode::empty(), resolve)) {
        // Kernels before 5.6. A checked name with O_NOFOLLOW resolves nothing either.
        Err(Errno::NOSYS) => rustix::fs::openat(dir, name, PLACE, Mode::empty()),
        result => result,
    }
}

/// Goes down `path` name by name.
pub(super) fn descend(from: OwnedFd, path: &[u8]) -> Result<OwnedFd> {
    super::names(path).try_fold(from, |at, name| {
        lookup(&at, name.map_err(|_| Errno::INVAL)?)
    })
}

/// Attributes of what `fd` stands for, symbolic links included.
pub(super) fn stat(fd: impl AsFd) -> Result<Statx> {
    retry_on_intr(|| rustix::fs::statx(fd.as_fd(), c"", AtFlags::EMPTY_PATH, wanted()))
}

/// Attributes of the entry `name` of `dir`, not followed.
pub(super) fn stat_at(dir: impl AsFd, name: Name<'_>) -> Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    retry_on_intr(|| rustix::fs::statx(dir.as_fd(), name.as_bytes(), flags, wanted()))
}

fn wanted() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::BTIME
}

/// A path that names what `fd` names, for system calls that take nothing else.
pub(super) fn magic_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Opens what `fd` names, which is no symbolic link, with other flags. A directory is opened only
/// with `O_DIRECTORY`.
pub(super) fn reopen(fd: impl AsFd, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    if flags.contains(OFlags::DIRECTORY) {
        return retry_on_intr(|| rustix::fs::openat(fd.as_fd(), c".", flags, Mode::empty()));
    }
    let path = magic_path(fd);
    retry_on_intr(|| rustix::fs::open(&path, flags, Mode::empty()))
}

/// A place for what `fd` has open.
pub(super) fn place_of(fd: impl AsFd) -> Result<OwnedFd> {
    reopen(fd, OFlags::PATH)
}

/// The same descriptor under another number.
pub(super) fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0)
}

/// Asks for a size, makes room and reads; again while the value grows in between.
pub(super) fn sized(
    mut call: impl FnMut(Option<&mut Vec<u8>>) -> Result<usize>,
) -> Result<Vec<u8>> {
    for _ in 0..SIZE_ATTEMPTS {
        let size = call(None)?;
        if size == 0 {
            return Ok(Vec::new());
        }
        let mut buffer = Vec::with_capacity(size);
        match call(Some(&mut buffer)) {
            Err(Errno::RANGE) => {}
            result => return result.map(|_| buffer),
        }
    }
    Err(Errno::RANGE)
}
