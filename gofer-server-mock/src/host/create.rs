//! Creation: make the file, set its owner through a descriptor, look at it; undo on failure.

use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, makedev};

use super::attr::set_owner;
use super::node::{Found, Identity, Node, file_type};
use super::{Errno, Name, OpenFile, Owner, Result, Stat, sys};

/// Rounds of "is it there? create it!" before a creation gives up on names that come and go.
const CREATE_ATTEMPTS: usize = 16;

/// What must be found under a name for it to be what was just made there.
#[derive(Clone, Copy)]
pub(super) enum Made {
    /// This file.
    File(Identity),
    /// A fresh file of this type: with one name (a directory may have any number), and owned by
    /// this process. The host gives no descriptor of what it made, and somebody else with access
    /// to the directory may have put another file there, to have it given away.
    Fresh(FileType),
}

impl Made {
    fn check(self, stat: &Stat) -> Result<()> {
        let as_made = match self {
            Made::File(made) => made == Identity::of(stat),
            Made::Fresh(made) => {
                file_type(stat) == made
                    && (made == FileType::Directory || stat.stx_nlink == 1)
                    && stat.stx_uid == rustix::process::geteuid().as_raw()
            }
        };
        if as_made { Ok(()) } else { Err(Errno::AGAIN) }
    }
}

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
        let made = Made::File(Identity::of(&made));
        let result = self.finish(name, mode, owner, made).and_then(|found| {
            let file = OpenFile::new(found.node.clone(), fd, open)?;
            Ok(Created { found, file })
        });
        self.undo_on_error(name, made, AtFlags::empty(), result)
    }

    /// Creates the directory `name`. Locks: write.
    pub fn mkdir(self: &Arc<Node>, name: Name<'_>, mode: u32, owner: Owner) -> Result<Found> {
        self.policy().check_writable()?;
        let _names = self.tree.rename.read();
        let _dir = self.lock.write();
        let bits = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::mkdirat(self, name.as_bytes(), bits)?;
        let made = Made::Fresh(FileType::Directory);
        let result = self.finish(name, 0, owner, made);
        self.undo_on_error(name, made, AtFlags::REMOVEDIR, result)
    }

    /// Creates a file of type `kind`, with device number `major`:`minor` for a device. Locks: write.
    pub fn mknod(
        self: &Arc<Node>,
        name: Name<'_>,
        kind: FileType,
        mode: u32,
        device: (u32, u32),
        owner: Owner,
    ) -> Result<Found> {
        self.policy().check_writable()?;
        let _names = self.tree.rename.read();
        let _dir = self.lock.write();
        let bits = Mode::from_raw_mode(mode & 0o7777);
        let device = makedev(device.0, device.1);
        rustix::fs::mknodat(self, name.as_bytes(), kind, bits, device)?;
        let made = Made::Fresh(kind);
        let result = self.finish(name, mode, owner, made);
        self.undo_on_error(name, made, AtFlags::empty(), result)
    }

    /// Creates the symbolic link `name` to `target`, which is not looked at. Locks: write.
    pub fn symlink(self: &Arc<Node>, name: Name<'_>, target: &[u8], owner: Owner) -> Result<Found> {
        self.policy().check_writable()?;
        let _names = self.tree.rename.read();
        let _dir = self.lock.write();
        rustix::fs::symlinkat(target, self, name.as_bytes())?;
        let made = Made::Fresh(FileType::Symlink);
        let result = self.finish(name, 0, owner, made);
        self.undo_on_error(name, made, AtFlags::empty(), result)
    }

    /// Finds what was just made under `name` and gives it its owner. `EAGAIN` when somebody put
    /// another file there.
    pub(super) fn finish(
        self: &Arc<Node>,
        name: Name<'_>,
        mode: u32,
        owner: Owner,
        made: Made,
    ) -> Result<Found> {
        let found = self.lookup(name)?;
        made.check(&found.stat)?;
        // Not asked for what it has already: whoever may make a file need not be allowed to give
        // it away, in a directory that passes its group on above all.
        let owner = Owner {
            uid: owner.uid.filter(|&uid| uid != found.stat.stx_uid),
            gid: owner.gid.filter(|&gid| gid != found.stat.stx_gid),
        };
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

    /// Removes what a failed creation left under `name`, if it is still that.
    pub(super) fn undo_on_error<T>(
        self: &Arc<Node>,
        name: Name<'_>,
        made: Made,
        flags: AtFlags,
        result: Result<T>,
    ) -> Result<T> {
        if result.is_err() {
            let found = sys::stat_at(self, name.as_bytes());
            if found.is_ok_and(|stat| made.check(&stat).is_ok()) {
                // It failed already; the first error is the one to report.
                let _ = rustix::fs::unlinkat(self, name.as_bytes(), flags);
                self.detach(name.as_bytes());
            }
        }
        result
    }
}
