//! Remote files of the in-memory server.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::handle::MemHandle;
use super::link::{Link, Op, Passage};
use super::tree::{Ino, Tree};
use crate::attr::{Attr, AttrMask, FileType, SetAttr, SetAttrReport, StatFs};
use crate::error::Errno;
use crate::flags::{RenameFlags, XattrFlags};
use crate::name::Name;
use crate::remote::{
    Call, FileKey, Found, New, OpenMode, Owner, Promptness, RemoteError, RemoteFile, RemoteHandle,
    RemoteResult, RemoteSocket, Seen, SocketType, WalkEnd,
};

pub(super) fn key_of(epoch: u32, ino: Ino) -> FileKey {
    FileKey {
        epoch,
        id: [ino, 0],
    }
}

/// A place in the tree that a client holds.
pub(super) struct MemFile {
    link: Arc<Link>,
    ino: Ino,
    epoch: u32,
    released: AtomicBool,
}

impl MemFile {
    /// Hands out a new remote file.
    pub fn found(link: &Arc<Link>, tree: &mut Tree, ino: Ino) -> Found {
        tree.pin(ino);
        link.files.fetch_add(1, Ordering::Relaxed);
        let file = MemFile {
            link: Arc::clone(link),
            ino,
            epoch: link.epoch(),
            released: AtomicBool::new(false),
        };
        Found {
            file: Arc::new(file),
            key: key_of(link.epoch(), ino),
            attr: tree.attr(ino),
        }
    }

    /// Begins a call. One that finds the file released is a misuse, also when the release came
    /// while it was under way: then it reaches the server first, or not, as luck has it.
    fn enter(&self, call: &Call<'_>, op: Op) -> RemoteResult<Passage> {
        self.check_held()?;
        let passage = self.link.enter(call, op)?;
        self.check_held()?;
        Ok(passage)
    }

    fn check_held(&self) -> RemoteResult<()> {
        match self.released.load(Ordering::Acquire) {
            true => Err(self.link.misuse()),
            false => self.link.check_epoch(self.epoch),
        }
    }

    /// Runs one call: enters, does `work` on the tree, leaves.
    fn run<T>(
        &self,
        call: &Call<'_>,
        op: Op,
        work: impl FnOnce(&mut Tree, Passage) -> Result<T, Errno>,
    ) -> RemoteResult<T> {
        let passage = self.enter(call, op)?;
        let done = work(&mut self.link.tree.lock(), passage).map_err(RemoteError::refused)?;
        self.link.leave(passage)?;
        Ok(done)
    }

    /// The inode of a file that came as an argument; `EXDEV` when it is of another filesystem.
    fn argument(&self, file: &dyn RemoteFile) -> RemoteResult<Ino> {
        let any: &dyn Any = file;
        match any.downcast_ref::<MemFile>() {
            Some(file) if !Arc::ptr_eq(&file.link, &self.link) => {
                Err(RemoteError::not_sent(Errno::EXDEV))
            }
            Some(file) if file.released.load(Ordering::Acquire) => Err(self.link.misuse()),
            Some(file) => Ok(file.ino),
            None => Err(RemoteError::not_sent(Errno::EXDEV)),
        }
    }
}

impl RemoteFile for MemFile {
    fn walk(
        &self,
        call: &Call<'_>,
        names: &[Name<'_>],
        found: &mut dyn FnMut(Found),
    ) -> RemoteResult<WalkEnd> {
        let mut here = self.ino;
        let mut emitted = Vec::new();
        let end = self.run(call, Op::Walk, |tree, _| {
            for name in names {
                if tree.get(here).attr.file_type == FileType::Symlink && !emitted.is_empty() {
                    return Ok(Ok(WalkEnd::Symlink));
                }
                if !self.link.config.capabilities.multi_walk && !emitted.is_empty() {
                    return Ok(Ok(WalkEnd::CallAgain));
                }
                match tree.lookup(here, name.as_bytes()) {
                    Ok(ino) => here = ino,
                    Err(Errno::ENOENT) => return Ok(Ok(WalkEnd::Missing)),
                    Err(errno) => return Ok(Err(RemoteError::refused(errno))),
                }
                emitted.push(MemFile::found(&self.link, tree, here));
            }
            Ok(Ok(WalkEnd::Complete))
        });
        // The client may take locks of its own in `found`: the tree's is free by now.
        let end = end?;
        emitted.into_iter().for_each(found);
        end
    }

    fn revalidate(
        &self,
        call: &Call<'_>,
        known: &[(Name<'_>, &dyn RemoteFile)],
        seen: &mut dyn FnMut(Seen),
    ) -> RemoteResult<()> {
        for (_, file) in known {
            self.argument(*file)?;
        }
        let looked_at = self.run(call, Op::Revalidate, |tree, _| {
            let mut here = self.ino;
            let mut looked_at = vec![(here, tree.attr(here))];
            for (name, _) in known {
                if tree.get(here).attr.file_type != FileType::Directory {
                    break;
                }
                match tree.lookup(here, name.as_bytes()) {
                    Ok(ino) => here = ino,
                    Err(Errno::ENOENT) => break,
                    Err(errno) => return Err(errno),
                }
                looked_at.push((here, tree.attr(here)));
            }
            Ok(looked_at)
        })?;
        for (ino, attr) in looked_at {
            seen(Seen {
                key: key_of(self.epoch, ino),
                attr,
            });
        }
        Ok(())
    }

    fn attr(&self, call: &Call<'_>, _want: AttrMask) -> RemoteResult<Attr> {
        self.run(call, Op::Attr, |tree, _| Ok(tree.attr(self.ino)))
    }

    fn set_attr(
        &self,
        call: &Call<'_>,
        set: &SetAttr,
        _through: Option<&dyn RemoteHandle>,
    ) -> RemoteResult<SetAttrReport> {
        self.run(call, Op::SetAttr, |tree, passage| {
            Ok(tree.set_attr(self.ino, set, passage.refuse_fields))
        })
    }

    fn open(&self, call: &Call<'_>, mode: OpenMode) -> RemoteResult<Arc<dyn RemoteHandle>> {
        self.run(call, Op::Open, |tree, _| {
            let handle = MemHandle::open(&self.link, tree, self.ino, mode)?;
            Ok(Arc::new(handle) as Arc<dyn RemoteHandle>)
        })
    }

    fn create(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        perm: u16,
        owner: Owner,
        mode: OpenMode,
    ) -> RemoteResult<(Found, Arc<dyn RemoteHandle>)> {
        self.run(call, Op::Create, |tree, _| {
            let ino = tree.make(self.ino, name.as_bytes(), &New::Regular, perm, owner)?;
            let handle = MemHandle::open(&self.link, tree, ino, mode)?;
            let found = MemFile::found(&self.link, tree, ino);
            Ok((found, Arc::new(handle) as Arc<dyn RemoteHandle>))
        })
    }

    fn make(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        new: New<'_>,
        perm: u16,
        owner: Owner,
    ) -> RemoteResult<Option<Found>> {
        let refused = matches!(new, New::Fifo | New::Socket) && !self.link.config.makes_fifos;
        self.run(call, Op::Make, |tree, _| {
            if refused {
                return Err(Errno::EPERM);
            }
            let ino = tree.make(self.ino, name.as_bytes(), &new, perm, owner)?;
            let named = self.link.config.found_on_make;
            Ok(named.then(|| MemFile::found(&self.link, tree, ino)))
        })
    }

    fn link(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        target: &dyn RemoteFile,
    ) -> RemoteResult<Option<Found>> {
        let target = self.argument(target)?;
        self.run(call, Op::Link, |tree, _| {
            tree.link(self.ino, name.as_bytes(), target)?;
            let named = self.link.config.found_on_make;
            Ok(named.then(|| MemFile::found(&self.link, tree, target)))
        })
    }

    fn unlink(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        dir: bool,
        child: Option<&dyn RemoteFile>,
    ) -> RemoteResult<()> {
        child.map(|child| self.argument(child)).transpose()?;
        self.run(call, Op::Unlink, |tree, _| {
            tree.unlink(self.ino, name.as_bytes(), dir)
        })
    }

    fn rename(
        &self,
        call: &Call<'_>,
        from: Name<'_>,
        moved: Option<&dyn RemoteFile>,
        to: (&dyn RemoteFile, Name<'_>),
        flags: RenameFlags,
    ) -> RemoteResult<()> {
        moved.map(|moved| self.argument(moved)).transpose()?;
        let new_dir = self.argument(to.0)?;
        self.run(call, Op::Rename, |tree, _| {
            if !self.link.config.capabilities.rename_flags.contains(flags) {
                return Err(Errno::EINVAL);
            }
            let to = (new_dir, to.1.as_bytes());
            tree.rename((self.ino, from.as_bytes()), to, flags)
        })
    }

    fn read_link(&self, call: &Call<'_>) -> RemoteResult<Vec<u8>> {
        self.run(call, Op::ReadLink, |tree, _| tree.read_link(self.ino))
    }

    fn stat_fs(&self, call: &Call<'_>) -> RemoteResult<StatFs> {
        let name_length = self.link.config.name_length;
        self.run(call, Op::StatFs, |tree, _| {
            Ok(StatFs {
                name_length,
                ..tree.stat_fs()
            })
        })
    }

    fn get_xattr(&self, call: &Call<'_>, name: &[u8], _limit: usize) -> RemoteResult<Vec<u8>> {
        self.run(call, Op::GetXattr, |tree, _| tree.get_xattr(self.ino, name))
    }

    fn set_xattr(
        &self,
        call: &Call<'_>,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> RemoteResult<()> {
        self.run(call, Op::SetXattr, |tree, _| {
            tree.set_xattr(self.ino, name, value, flags)
        })
    }

    fn list_xattr(&self, call: &Call<'_>, each: &mut dyn FnMut(&[u8])) -> RemoteResult<()> {
        let names = self.run(
            call,
            Op::ListXattr,
            |tree, _| Ok(tree.xattr_names(self.ino)),
        )?;
        names.iter().for_each(|name| each(name));
        Ok(())
    }

    fn remove_xattr(&self, call: &Call<'_>, name: &[u8]) -> RemoteResult<()> {
        self.run(call, Op::RemoveXattr, |tree, _| {
            tree.remove_xattr(self.ino, name)
        })
    }

    /// Nobody listens in memory.
    fn connect(&self, call: &Call<'_>, _kind: SocketType) -> RemoteResult<OwnedFd> {
        self.run(call, Op::Connect, |_, _| Err(Errno::ECONNREFUSED))
    }

    fn bind(
        &self,
        call: &Call<'_>,
        _name: Name<'_>,
        _kind: SocketType,
        _perm: u16,
        _owner: Owner,
    ) -> RemoteResult<(Found, Box<dyn RemoteSocket>)> {
        self.run(call, Op::Bind, |_, _| Err(Errno::EOPNOTSUPP))
    }

    fn release(&self, _when: Promptness) {
        if !self.released.swap(true, Ordering::AcqRel) {
            self.link.note(Op::Release);
            self.link.files.fetch_sub(1, Ordering::Relaxed);
            self.link.tree.lock().unpin(self.ino);
        }
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        self.release(Promptness::Batched);
    }
}
