//! Handlers of open files: open, create, close, data, space, directory entries.

use std::ops::{ControlFlow, Range};
use std::os::fd::BorrowedFd;

use gofer_lisafs::wire::{
    CloseReq, CloseResp, Dirent, FAllocateReq, FAllocateResp, FSyncReq, FSyncResp, Getdents64Req,
    Getdents64Resp, Message, OpenAtReq, OpenAtResp, OpenCreateAtReq, OpenCreateAtResp, PReadReq,
    PReadResp, PWriteReq, PWriteResp,
};
use gofer_transport::shm::Window;
use rustix::io::Errno;

use super::connection::Reply;
use super::{Session, inode, is_served, owner};
use crate::host::{DirEntry, FileType, Listed, Name, OFlags, Result, record_size};

/// The flags of open(2) that count: access mode and `O_TRUNC` (lisafs 6.7).
fn open_flags(flags: u32) -> OFlags {
    OFlags::from_bits_retain(flags) & (OFlags::ACCMODE | OFlags::TRUNC)
}

impl Session {
    /// lisafs 6.7. Opens deleted files too.
    pub(super) fn open_at(&self, request: &OpenAtReq, reply: &mut Reply) -> Result<()> {
        let flags = open_flags(request.flags);
        if flags != OFlags::RDONLY {
            self.export.policy().check_writable()?;
        }
        let node = self.fds.control(request.fd)?;
        if node.file_type() == FileType::Symlink {
            return Err(Errno::INVAL);
        }
        let mut room = self.fds.reserve(1)?;
        let file = node.open(flags)?;
        let (open_fd, file) = room.add_open(file);
        reply.donate(file);
        reply.set(&OpenAtResp { open_fd });
        Ok(())
    }

    /// lisafs 6.8.
    pub(super) fn open_create_at(
        &self,
        request: &OpenCreateAtReq<'_>,
        reply: &mut Reply,
    ) -> Result<()> {
        let common = &request.common;
        let (dir, mut room) = self.create_place(common, request.name, 2)?;
        let flags = open_flags(request.flags) | OFlags::EXCL;
        let made = dir.create(
            Name::new(request.name)?,
            common.mode.get().into(),
            owner(common.uid.get(), common.gid.get()),
            flags,
        )?;
        let child = inode(&mut room, made.found);
        let (open_fd, file) = room.add_open(made.file);
        reply.donate(file);
        reply.set(&OpenCreateAtResp { child, open_fd });
        Ok(())
    }

    /// lisafs 6.9.
    pub(super) fn close(&self, request: &CloseReq<'_>, reply: &mut Reply) -> Result<()> {
        for &fd in request.fds {
            self.fds.close(fd);
        }
        reply.set(&CloseResp {});
        Ok(())
    }

    /// lisafs 6.10: all are synced, the first failure in their order is reported.
    pub(super) fn fsync(&self, request: &FSyncReq<'_>, reply: &mut Reply) -> Result<()> {
        let mut result = Ok(());
        for &fd in request.fds {
            result = result.and(self.fds.open(fd).and_then(|open| open.file.sync(false)));
        }
        reply.set(&FSyncResp {});
        result
    }

    /// lisafs 6.11.
    pub(super) fn pwrite(&self, request: &PWriteReq<'_>, reply: &mut Reply) -> Result<()> {
        let open = self.fds.open(request.fd)?;
        let count = open.file.write_at(request.data.0, request.offset)?;
        reply.set(&PWriteResp {
            count: count as u64,
        });
        Ok(())
    }

    /// The same for data that lies in a window, of which `available` bytes from `start` on.
    pub(super) fn pwrite_from_window(
        &self,
        head: &[u8],
        (window, start, available): (&Window, usize, usize),
        reply: &mut Reply,
    ) -> Result<()> {
        let (request, size) = PWriteReq::decode_head(head, available).map_err(|_| Errno::IO)?;
        let open = self.fds.open(request.fd)?;
        let write = |file: BorrowedFd<'_>, offset, part: Range<usize>| {
            window.write_to(file, offset, start + part.start, part.len())
        };
        let count = open.file.write_with(size, request.offset, write)?;
        reply.set(&PWriteResp {
            count: count as u64,
        });
        Ok(())
    }

    /// lisafs 6.12.
    pub(super) fn pread(&self, request: &PReadReq, reply: &mut Reply) -> Result<()> {
        let open = self.fds.open(request.fd)?;
        if !open.file.can_read() {
            return Err(Errno::BADF);
        }
        let most = self.max_message_size as usize - <PReadResp<'_> as Message>::MIN_SIZE;
        let count = usize::try_from(request.count).unwrap_or(usize::MAX);
        if count > most {
            return Err(Errno::NOBUFS);
        }
        reply.set_data(&open.file, count, request.offset)
    }

    /// lisafs 6.18. Works on deleted files.
    pub(super) fn fallocate(&self, request: &FAllocateReq, reply: &mut Reply) -> Result<()> {
        let open = self.fds.open(request.fd)?;
        let mode = request.mode as u32;
        open.file.allocate(mode, request.offset, request.length)?;
        reply.set(&FAllocateResp {});
        Ok(())
    }

    /// lisafs 6.24. The budget is measured in the kernel's records.
    pub(super) fn getdents(&self, request: &Getdents64Req, reply: &mut Reply) -> Result<()> {
        let open = self.fds.open(request.dir_fd)?;
        if !open.file.node().is_dir() {
            return Err(Errno::NOTDIR);
        }
        if open.file.node().is_deleted() {
            return Err(Errno::INVAL);
        }
        let mut position = open.position.lock();
        let mut next = if request.count < 0 { 0 } else { *position };
        let mut budget = request.count.unsigned_abs() as usize;
        let room = self.max_message_size as usize - <Getdents64Resp<'_> as Message>::MIN_SIZE;
        let mount_points = open.file.mount_points();
        let policy = open.file.node().policy();
        let mut entries = std::mem::take(&mut reply.dirents);
        entries.clear();
        open.file.read_dir(next, budget, &mut |entry| {
            if matches!(entry.name, b"." | b"..") {
                next = entry.cookie;
                return ControlFlow::Continue(());
            }
            let record = record_size(entry.name);
            let wire = entries.wire_len() + Dirent::FIXED_SIZE + entry.name.len();
            if record > budget || wire > room {
                return ControlFlow::Break(());
            }
            let listed = entry.listed(&mount_points);
            if let Some(listed) = listed.filter(|listed| is_served(policy, listed.file_type)) {
                if !entries.push(&dirent(entry, &listed)) {
                    return ControlFlow::Break(());
                }
                budget -= record;
            }
            next = entry.cookie;
            ControlFlow::Continue(())
        })?;
        *position = next;
        reply.set(&Getdents64Resp {
            dirents: entries.as_dirents(),
        });
        reply.dirents = entries;
        Ok(())
    }
}

fn dirent<'a>(entry: &DirEntry<'a>, listed: &Listed) -> Dirent<'a> {
    Dirent {
        ino: listed.identity.ino,
        dev_minor: listed.identity.dev_minor,
        dev_major: listed.identity.dev_major,
        off: entry.cookie,
        dtype: (listed.file_type.as_raw_mode() >> 12) as u8,
        name: entry.name,
    }
}
