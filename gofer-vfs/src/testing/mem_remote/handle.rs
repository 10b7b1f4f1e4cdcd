//! Open files of the in-memory server.

use std::io::{IoSlice, IoSliceMut};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::file::key_of;
use super::link::{Link, Op};
use super::tree::{Content, Ino, Tree};
use crate::attr::{Attr, AttrMask, FileType};
use crate::error::Errno;
use crate::file_locks::{HeldRange, LockRange};
use crate::flags::{Access, AllocMode};
use crate::name::Name;
use crate::remote::{
    Call, DirEntry, DirPos, FileLock, LockKind, Moved, OpenMode, Promptness, RemoteError,
    RemoteHandle, RemoteResult,
};

pub(super) struct MemHandle {
    link: Arc<Link>,
    ino: Ino,
    access: Access,
    donated: Option<OwnedFd>,
    epoch: u32,
    closed: AtomicBool,
}

impl MemHandle {
    pub fn open(
        link: &Arc<Link>,
        tree: &mut Tree,
        ino: Ino,
        mode: OpenMode,
    ) -> Result<MemHandle, Errno> {
        let (reads, writes) = (mode.access.can_read(), mode.access.can_write());
        let now = tree.now();
        let inode = tree.get_mut(ino);
        match &mut inode.content {
            Content::Directory(_) if writes || mode.truncate => return Err(Errno::EISDIR),
            Content::Symlink(_) => return Err(Errno::ELOOP),
            Content::Nothing => return Err(Errno::ENXIO),
            Content::Fifo { readers: 0, .. } if !reads => return Err(Errno::ENXIO),
            Content::Fifo {
                readers, writers, ..
            } => {
                *readers += usize::from(reads);
                *writers += usize::from(writes);
            }
            Content::Regular(data) if mode.truncate => {
                data.set_size(0);
                (inode.attr.mtime, inode.attr.ctime) = (now, now);
            }
            Content::Directory(_) | Content::Regular(_) | Content::Zeros => {}
        }
        let donated = match &tree.get(ino).content {
            Content::Regular(data) if link.donates() => data.donate(mode.access),
            _ => None,
        };
        tree.pin(ino);
        link.handles.fetch_add(1, Ordering::Relaxed);
        Ok(MemHandle {
            link: Arc::clone(link),
            ino,
            access: mode.access,
            donated,
            epoch: link.epoch(),
            closed: AtomicBool::new(false),
        })
    }

    fn run<T>(
        &self,
        call: &Call<'_>,
        op: Op,
        work: impl FnOnce(&mut Tree, Option<usize>) -> Result<T, Errno>,
    ) -> RemoteResult<T> {
        if self.closed.load(Ordering::Acquire) {
            return Err(self.link.misuse());
        }
        self.link.check_epoch(self.epoch)?;
        let passage = self.link.enter(call, op)?;
        let done = work(&mut self.link.tree.lock(), passage.short).map_err(RemoteError::refused)?;
        self.link.leave(passage)?;
        Ok(done)
    }

    /// A lock of this client, as the tree keeps it.
    fn held(&self, lock: &FileLock) -> HeldRange<(usize, u32)> {
        HeldRange {
            owner: (Arc::as_ptr(&self.link) as usize, lock.owner),
            exclusive: lock.kind == LockKind::Write,
            range: LockRange::from_server(lock.start, lock.length),
            pid: 0,
        }
    }

    fn retire(&self) {
        let mut tree = self.link.tree.lock();
        if let Content::Fifo {
            readers, writers, ..
        } = &mut tree.get_mut(self.ino).content
        {
            *readers -= usize::from(self.access.can_read());
            *writers -= usize::from(self.access.can_write());
        }
        tree.unpin(self.ino);
        self.link.handles.fetch_sub(1, Ordering::Relaxed);
    }
}

fn moved(result: RemoteResult<usize>) -> Moved {
    match result {
        Ok(n) => Moved { n, error: None },
        Err(error) => Moved {
            n: 0,
            error: Some(error),
        },
    }
}

impl RemoteHandle for MemHandle {
    fn read_at(&self, call: &Call<'_>, into: &mut [IoSliceMut<'_>], offset: u64) -> Moved {
        moved(self.run(call, Op::Read, |tree, short| {
            if !self.access.can_read() {
                return Err(Errno::EBADF);
            }
            let mut left = short.unwrap_or(usize::MAX);
            let mut total = 0;
            for part in into {
                let want = part.len().min(left);
                let n = tree.read(self.ino, &mut part[..want], offset + total as u64)?;
                total += n;
                left -= n;
                if n < part.len() {
                    break;
                }
            }
            Ok(total)
        }))
    }

    fn write_at(&self, call: &Call<'_>, from: &[IoSlice<'_>], offset: u64) -> Moved {
        moved(self.run(call, Op::Write, |tree, short| {
            if !self.access.can_write() {
                return Err(Errno::EBADF);
            }
            let mut left = short.unwrap_or(usize::MAX);
            let mut total = 0;
            for part in from {
                let take = part.len().min(left);
                total += tree.write(self.ino, &part[..take], offset + total as u64)?;
                left -= take;
            }
            Ok(total)
        }))
    }

    fn read_dir(
        &self,
        call: &Call<'_>,
        from: DirPos,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> RemoteResult<bool> {
        let limit = self.link.config.dir_batch;
        let (batch, more) = self.run(call, Op::ReadDir, |tree, _| {
            let mut rest: Vec<(u64, Ino, FileType, Vec<u8>)> = tree
                .entries(self.ino)?
                .iter()
                .filter(|(_, entry)| entry.cookie > from.0)
                .map(|(name, entry)| {
                    let file_type = tree.get(entry.ino).attr.file_type;
                    (entry.cookie, entry.ino, file_type, name.clone())
                })
                .collect();
            rest.sort_unstable_by_key(|entry| entry.0);
            let more = rest.len() > limit;
            rest.truncate(limit);
            Ok((rest, more))
        })?;
        for (cookie, ino, file_type, name) in &batch {
            let entry = DirEntry {
                name: Name::new(name).map_err(RemoteError::refused)?,
                key: key_of(self.epoch, *ino),
                file_type: Some(*file_type),
                attr: None,
                next: DirPos(*cookie),
            };
            if each(entry).is_break() {
                return Ok(true);
            }
        }
        Ok(more)
    }

    fn attr(&self, call: &Call<'_>, _want: AttrMask) -> RemoteResult<Attr> {
        self.run(call, Op::HandleAttr, |tree, _| Ok(tree.attr(self.ino)))
    }

    fn flush(&self, call: &Call<'_>) -> RemoteResult<()> {
        self.run(call, Op::Flush, |_, _| Ok(()))
    }

    fn sync(&self, call: &Call<'_>, _data_only: bool) -> RemoteResult<()> {
        self.run(call, Op::Sync, |_, _| Ok(()))
    }

    fn allocate(
        &self,
        call: &Call<'_>,
        mode: AllocMode,
        offset: u64,
        len: u64,
    ) -> RemoteResult<()> {
        self.run(call, Op::Allocate, |tree, _| {
            if !self.access.can_write() {
                return Err(Errno::EBADF);
            }
            tree.allocate(self.ino, mode, offset, len)
        })
    }

    fn seek_data(&self, call: &Call<'_>, offset: u64, hole: bool) -> RemoteResult<u64> {
        self.run(call, Op::SeekData, |tree, _| {
            match &tree.get(self.ino).content {
                Content::Regular(data) => data.seek(offset, hole).ok_or(Errno::ENXIO),
                _ => Err(Errno::EOPNOTSUPP),
            }
        })
    }

    fn lock(&self, call: &Call<'_>, lock: &FileLock) -> RemoteResult<()> {
        self.run(call, Op::Lock, |tree, _| {
            if !self.link.config.capabilities.locks {
                return Err(Errno::EOPNOTSUPP);
            }
            let wanted = self.held(lock);
            let locks = tree.locks.entry(self.ino).or_default();
            if lock.kind != LockKind::Unlock && locks.conflicts(&wanted).next().is_some() {
                return Err(Errno::EAGAIN);
            }
            locks.set(wanted.owner, lock.kind, wanted.range, 0);
            Ok(())
        })
    }

    fn test_lock(&self, call: &Call<'_>, lock: &FileLock) -> RemoteResult<Option<FileLock>> {
        self.run(call, Op::TestLock, |tree, _| {
            if !self.link.config.capabilities.locks {
                return Err(Errno::EOPNOTSUPP);
            }
            let locks = tree.locks.entry(self.ino).or_default();
            let found = locks.conflicts(&self.held(lock)).next().copied();
            Ok(found.map(|held| FileLock {
                kind: match held.exclusive {
                    true => LockKind::Write,
                    false => LockKind::Read,
                },
                start: held.range.start(),
                length: held.range.length(),
                owner: held.owner.1,
            }))
        })
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        self.donated.as_ref().map(AsFd::as_fd)
    }

    fn close(&self, call: &Call<'_>, when: Promptness) -> RemoteResult<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.retire();
        match when {
            Promptness::Prompt => self.link.enter(call, Op::Close).map(drop),
            Promptness::Batched => {
                self.link.note(Op::Close);
                Ok(())
            }
        }
    }
}

impl Drop for MemHandle {
    fn drop(&mut self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.link.note(Op::Close);
            self.retire();
        }
    }
}
