//! A copy of a mount that belongs to no directory tree, so that a descriptor of it leads nowhere
//! else.
//!
//! The root of a detached mount is its own parent, so `..` stays there, and what the mount forbids
//! it forbids to every descriptor that is opened through it, `/proc/self/fd` included.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

/// A tree of mounts without a place. It exists as long as this value or any descriptor opened
/// below it.
#[derive(Debug)]
pub struct DetachedMount {
    tree: OwnedFd,
}

/// Why there is no detached mount: the system call and what it answered.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {}", io::Error::from(*.errno))]
#[allow(missing_docs)]
pub struct DetachError {
    pub call: &'static str,
    pub errno: Errno,
}

impl DetachedMount {
    /// Copies the mount that `root` is on, with `root` (a directory or any other file) as its
    /// root and with every mount below it.
    ///
    /// The copy opens no devices and honours no set-user-ID bits; with `readonly` it takes no
    /// change. All of it is private: what is mounted below the original later, writable maybe,
    /// does not appear in it. Needs `CAP_SYS_ADMIN` (`EPERM`), Linux 5.12 (`ENOSYS`), and a
    /// `root` in the mount namespace of the caller (`EINVAL`).
    pub fn copy_of(root: BorrowedFd<'_>, readonly: bool) -> Result<DetachedMount, DetachError> {
        let failed = |call| move |errno| DetachError { call, errno };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let tree = open_tree(root, c"", flags).map_err(failed("open_tree"))?;
        let limits = libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID;
        let readonly = if readonly { libc::MOUNT_ATTR_RDONLY } else { 0 };
        let mount = DetachedMount { tree };
        mount
            .restrict(limits | readonly)
            .map_err(failed("mount_setattr"))?;
        Ok(mount)
    }

    /// mount_setattr(2) on all of the tree: adds `attributes` and makes it private.
    #[allow(unsafe_code)]
    fn restrict(&self, attributes: u64) -> Result<(), Errno> {
        let change = libc::mount_attr {
            attr_set: attributes,
            attr_clr: 0,
            propagation: libc::MS_PRIVATE,
            userns_fd: 0,
        };
        // SAFETY: neither rustix nor nix has this call. The path is a constant string with its
        // zero byte; `change` is a `struct mount_attr` of the size given, which the kernel only
        // reads, before the call returns; the descriptor is open, as this value owns it.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                self.tree.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
                &raw const change,
                size_of::<libc::mount_attr>(),
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
        }
    }
}

impl AsFd for DetachedMount {
    /// The root, named but not opened (`O_PATH`).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags, openat, unlinkat};
    use std::fs;

    /// A directory with a file, and a copy of its mount; `None` where the kernel or the lack of
    /// privileges forbids copying mounts.
    fn copy(readonly: bool) -> Option<(tempfile::TempDir, DetachedMount)> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "x").unwrap();
        let root = fs::File::open(dir.path()).unwrap();
        match DetachedMount::copy_of(root.as_fd(), readonly) {
            Ok(mount) => Some((dir, mount)),
            Err(error) => {
                assert!(
                    matches!(error.errno, Errno::PERM | Errno::NOSYS),
                    "unexpected: {error}"
                );
                eprintln!("not run: {error}");
                None
            }
        }
    }

    fn open(dir: impl AsFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        openat(dir, name, flags | OFlags::CLOEXEC, Mode::empty())
    }

    #[test]
    fn the_parent_of_the_root_is_the_root() {
        let Some((dir, mount)) = copy(false) else {
            return;
        };
        let up = open(&mount, "../../..", OFlags::PATH).unwrap();
        let (up, root) = (rustix::fs::fstat(up), rustix::fs::stat(dir.path()));
        assert_eq!(up.unwrap().st_ino, root.unwrap().st_ino);
        open(&mount, "f", OFlags::RDWR).unwrap();
    }

    #[test]
    fn a_read_only_copy_opens_nothing_for_writing_by_any_way() {
        let Some((dir, mount)) = copy(true) else {
            return;
        };
        assert_eq!(open(&mount, "f", OFlags::RDWR).unwrap_err(), Errno::ROFS);
        let read = open(&mount, "f", OFlags::RDONLY).unwrap();
        let again = format!("/proc/self/fd/{}", read.as_raw_fd());
        let again = rustix::fs::open(again, OFlags::WRONLY, Mode::empty());
        assert_eq!(again.unwrap_err(), Errno::ROFS);
        let gone = unlinkat(&mount, "f", rustix::fs::AtFlags::empty());
        assert_eq!(gone.unwrap_err(), Errno::ROFS);
        // The original is as writable as before.
        fs::write(dir.path().join("f"), "y").unwrap();
    }

    #[test]
    fn devices_do_not_open_through_a_copy() {
        let Some((dir, mount)) = copy(false) else {
            return;
        };
        let null = rustix::fs::makedev(1, 3);
        let mode = Mode::from_raw_mode(0o666);
        let device = dir.path().join("null");
        let kind = rustix::fs::FileType::CharacterDevice;
        if rustix::fs::mknodat(rustix::fs::CWD, &device, kind, mode, null).is_err() {
            eprintln!("not run: may not make devices here");
            return;
        }
        let opened = open(&mount, "null", OFlags::RDONLY);
        assert_eq!(opened.unwrap_err(), Errno::ACCESS);
    }
}
