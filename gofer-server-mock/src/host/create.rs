//! Creation: make the file, set its owner through a descriptor, look at it; undo on failure.

use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, makedev};

use super::attr::set_owner;
use super::node::{Found, Identity, Node};
use super::{Errno, Name, OpenFile, Owner, Result, sys};

/// Rounds of "is it there? create it!" before a creation gives up on names that come and go.
const CREATE_ATTEMPTS: usize = 16;

/// What [`Node::create`] made or found.
#[derive(Debug)]
pub struct Created {
    /// The file.
    pub found: Found,
    /// It, opened.
    pub file: OpenFile,
}

impl Node {
    /// Creates the regular file `name`, or without `O_EXCL` in `flags` takes the one that is there,
    /// and opens it; `flags` as for [`Node::open`]. A new file gets the permission bits of `mode`,
    /// whatever access they allow, and `owner`. Locks: write.
    pub fn create(
        self: &Arc<Node>,
        name: Name<'_>,
        mode: u32,
        owner: Owner,
        flags: OFlags,
    ) -> Result<Created> {
        self.policy().check_writable()?;
        for _ in 0..CREATE_ATTEMPTS {
            match self.create_new(name, mode, owner, flags) {
                Err(Errno::EXIST) if !flags.contains(OFlags::EXCL) => {}
                result => return result,
            }
            match self.walk(name) {
                Err(Errno::NOENT) => {}
                found => {
                    let found = found?;
                    let file = found.node.open(flags)?;
                    return Ok(Created { found, file });
                }
            }
        }
        Err(Errno::AGAIN)
    }

    fn create_new(
        self: &Arc<Node>,
        name: Name<'_>,
        mode: u32,
        owner: Owner,
        flags: OFlags,
    ) -> Result<Created> {
        let _names = self.tree.rename.read();
        let _dir = self.lock.write();
        let access = flags & OFlags::ACCMODE;
        // The descriptor of the creation is the client's: opening the file again would need
        // access that `mode` may deny.
        let open = access
            | (flags & (OFlags::APPEND | OFlags::SYNC | OFlags::DSYNC))
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        let bits = Mode::from_raw_mode(mode & 0o7777);
        let fd = rustix::fs::openat(self, name.as_bytes(), open, bits)?;
        let made = sys::stat(&fd)?;
        let result = self.finish(name, mode, owner, Some(Identity::of(&made)));
        let result = result.and_then(|found| {
            let file = OpenFile::new(found.node.clone(), fd, access)?;
            Ok(Created { found, file })
        });
        self.undo_on_error(name, Some(Identity::of(&made)), AtFlags::empty(), result)
    }

    /// Creates the directory `name`. Locks: write.
    pub fn mkdir(self: &Arc<Node>, name: Name<'_>, mode: u32, owner: Owner) -> Result<Found> {
        self.policy().check_writable()?;
        let _names = self.tree.rename.read();
        let _dir = self.lock.write();
        let bits = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::mkdirat(self, name.as_bytes(), bits)?;
        let result = self.finish(name, 0, owner, None);
        self.undo_on_error(name, None, AtFlags::REMOVEDIR, result)
    }

    /// Creates a file of `file_type`, with device number `major`:`minor` for a device. Locks: write.
    pub fn mknod(
        self: &Arc<Node>,
        name: Name<'_>,
        file_type: FileType,
        mode: u32,
        device: (u32, u32),
        owner: Owner,
    ) -> Result<Found> {
        self.policy().check_writable()?;
        let _names = self.tree.rename.read();
        let _dir = self.lock.write();
        let bits = Mode::from_raw_mode(mode & 0o7777);
        let device = makedev(device.0, device.1);
        rustix::fs::mknodat(self, name.as_bytes(), file_type, bits, device)?;
        let result = self.finish(name, mode, owner, None);
        self.undo_on_error(name, None, AtFlags::empty(), result)
    }

    /// Creates the symbolic link `name` to `target`, which is not looked at. Locks: write.
    pub fn symlink(self: &Arc<Node>, name: Name<'_>, target: &[u8], owner: Owner) -> Result<Found> {
        self.policy().check_writable()?;
        let _names = self.tree.rename.read();
        let _dir = self.lock.write();
        rustix::fs::symlinkat(target, self, name.as_bytes())?;
        let result = self.finish(name, 0, owner, None);
        self.undo_on_error(name, None, AtFlags::empty(), result)
    }

    /// Finds what was just made under `name` and gives it its owner. `made` says which file it has
    /// to be where that is known; `EAGAIN` when somebody put another one there.
    pub(super) fn finish(
        self: &Arc<Node>,
        name: Name<'_>,
        mode: u32,
        owner: Owner,
        made: Option<Identity>,
    ) -> Result<Found> {
        let found = self.lookup(name)?;
        if made.is_some_and(|made| made != found.node.identity()) {
            return Err(Errno::AGAIN);
        }
        if owner == Owner::default() {
            return Ok(found);
        }
        set_owner(&found.node, owner)?;
        if mode & 0o6000 != 0 {
            // The host drops these bits when the owner changes.
            let bits = Mode::from_raw_mode(mode & 0o7777);
            rustix::fs::chmod(sys::magic_path(&*found.node), bits)?;
        }
        let stat = sys::stat(&*found.node)?;
        Ok(Found { stat, ..found })
    }

    /// Removes what a failed creation left under `name`, unless it is known to be another file.
    pub(super) fn undo_on_error<T>(
        self: &Arc<Node>,
        name: Name<'_>,
        made: Option<Identity>,
        flags: AtFlags,
        result: Result<T>,
    ) -> Result<T> {
        if result.is_err() {
            let ours = match made {
                Some(made) => sys::stat_at(self, name.as_bytes())
                    .is_ok_and(|stat| Identity::of(&stat) == made),
                None => true,
            };
            if ours {
                // It failed already; the first error is the one to report.
                let _ = rustix::fs::unlinkat(self, name.as_bytes(), flags);
                self.detach(name.as_bytes());
            }
        }
        result
    }
}
