//! A copy of a mount that belongs to no directory tree, so that a descriptor of it leads nowhere
//! else.
//!
//! The root of a detached mount is its own parent, so `..` stays there, and what the mount forbids
//! it forbids to every descriptor that is opened through it, `/proc/self/fd` included.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

/// A tree of mounts without a place, which nobody can change any more. It exists as long as this
/// value or any descriptor opened below it.
#[derive(Debug)]
pub struct DetachedMount {
    root: OwnedFd,
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
        restrict(&tree, limits | readonly).map_err(failed("mount_setattr"))?;
        // With the descriptor of open_tree(2) the tree is unmounted, and lives on below this one.
        // While it was mounted, whoever held a descriptor of it and was root in a user namespace
        // of his own could have taken the limits off again.
        let root = same_file(&tree).map_err(failed("open"))?;
        Ok(DetachedMount { root })
    }
}

/// mount_setattr(2) on all of `tree`: adds `attributes` and makes it private.
#[allow(unsafe_code)]
fn restrict(tree: impl AsFd, attributes: u64) -> Result<(), Errno> {
    let change = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: neither rustix nor nix has this call. The path is a constant string with its zero
    // byte; `change` is a `struct mount_attr` of the size given, which the kernel only reads,
    // before the call returns; the descriptor is borrowed for as long.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
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

/// Another descriptor of the file at the root of `tree`, on the same mount.
fn same_file(tree: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match FileType::from_raw_mode(fstat(tree)?.st_mode) {
        FileType::Directory => openat(tree, c".", flags, Mode::empty()),
        _ => open(
            format!("/proc/self/fd/{}", tree.as_raw_fd()),
            flags,
            Mode::empty(),
        ),
    }
}

impl AsFd for DetachedMount {
    /// The root, named but not opened (`O_PATH`).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::unlinkat;
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

    fn below(dir: impl AsFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        openat(dir, name, flags | OFlags::CLOEXEC, Mode::empty())
    }

    #[test]
    fn the_parent_of_the_root_is_the_root() {
        let Some((dir, mount)) = copy(false) else {
            return;
        };
        let up = below(&mount, "../../..", OFlags::PATH).unwrap();
        let (up, root) = (rustix::fs::fstat(up), rustix::fs::stat(dir.path()));
        assert_eq!(up.unwrap().st_ino, root.unwrap().st_ino);
        below(&mount, "f", OFlags::RDWR).unwrap();
    }

    #[test]
    fn a_read_only_copy_opens_nothing_for_writing_by_any_way() {
        let Some((dir, mount)) = copy(true) else {
            return;
        };
        assert_eq!(below(&mount, "f", OFlags::RDWR).unwrap_err(), Errno::ROFS);
        let read = below(&mount, "f", OFlags::RDONLY).unwrap();
        let again = format!("/proc/self/fd/{}", read.as_raw_fd());
        let again = open(again, OFlags::WRONLY, Mode::empty());
        assert_eq!(again.unwrap_err(), Errno::ROFS);
        let gone = unlinkat(&mount, "f", rustix::fs::AtFlags::empty());
        assert_eq!(gone.unwrap_err(), Errno::ROFS);
        // The original is as writable as before.
        fs::write(dir.path().join("f"), "y").unwrap();
    }

    #[test]
    fn nobody_who_holds_a_descriptor_can_change_or_place_the_copy() {
        let Some((dir, mount)) = copy(true) else {
            return;
        };
        // The kernel asks no more of a user who is root in a namespace of his own than of root.
        assert_eq!(restrict(&mount, 0), Err(Errno::INVAL));
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_EMPTY_PATH;
        assert_eq!(open_tree(&mount, c"", flags).unwrap_err(), Errno::INVAL);
        let flags = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        let moved = rustix::mount::move_mount(&mount, c"", rustix::fs::CWD, dir.path(), flags);
        assert_eq!(moved, Err(Errno::INVAL));
    }

    /// A file system of its own on a directory, for as long as this lives.
    struct Mounted(std::path::PathBuf);

    impl Mounted {
        fn at(path: std::path::PathBuf) -> Mounted {
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount(c"none", &path, c"tmpfs", flags, None).unwrap();
            Mounted(path)
        }
    }

    impl Drop for Mounted {
        fn drop(&mut self) {
            let detach = rustix::mount::UnmountFlags::DETACH;
            rustix::mount::unmount(&self.0, detach).unwrap();
        }
    }

    #[test]
    fn mounts_below_are_part_of_the_copy_and_later_ones_are_not() {
        let Some((dir, _)) = copy(true) else {
            return;
        };
        let sub = dir.path().join("sub");
        fs::create_dir(&sub).unwrap();
        let _sub = Mounted::at(sub.clone());
        fs::write(sub.join("inner"), "x").unwrap();
        fs::create_dir(sub.join("later")).unwrap();
        let root = fs::File::open(dir.path()).unwrap();
        let mount = DetachedMount::copy_of(root.as_fd(), true).unwrap();
        let _later = Mounted::at(sub.join("later"));
        fs::write(sub.join("later/new"), "x").unwrap();
        below(&mount, "sub/inner", OFlags::RDONLY).unwrap();
        let written = below(&mount, "sub/inner", OFlags::WRONLY);
        assert_eq!(written.unwrap_err(), Errno::ROFS);
        let new = below(&mount, "sub/later/new", OFlags::PATH);
        assert_eq!(new.unwrap_err(), Errno::NOENT);
    }

    #[test]
    fn a_single_file_can_be_the_root() {
        let Some((dir, _)) = copy(true) else {
            return;
        };
        let file = fs::File::open(dir.path().join("f")).unwrap();
        let mount = DetachedMount::copy_of(file.as_fd(), true).unwrap();
        let again = format!("/proc/self/fd/{}", mount.as_fd().as_raw_fd());
        open(&again, OFlags::RDONLY, Mode::empty()).unwrap();
        let written = open(&again, OFlags::WRONLY, Mode::empty());
        assert_eq!(written.unwrap_err(), Errno::ROFS);
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
        let opened = below(&mount, "null", OFlags::RDONLY);
        assert_eq!(opened.unwrap_err(), Errno::ACCESS);
    }
}
