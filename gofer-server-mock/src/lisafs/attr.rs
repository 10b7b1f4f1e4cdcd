//! Handlers of attributes: FStat, SetStat, FStatFS, ReadLinkAt, extended attributes.

use gofer_lisafs::wire::{
    FGetXattrReq, FGetXattrResp, FListXattrReq, FListXattrResp, FRemoveXattrReq, FRemoveXattrResp,
    FSetXattrReq, FSetXattrResp, FStatFSReq, FStatFSResp, FStatReq, FStatResp, Fdid, ReadLinkAtReq,
    ReadLinkAtResp, SetStatReq, SetStatResp, StatFs, StatxMask, Strings, Timespec, UTIME_NOW,
    UTIME_OMIT,
};
use rustix::io::Errno;
use std::sync::Arc;

use super::connection::Reply;
use super::{Session, owner, statx};
use crate::host::{FileType, Node, Result, SetTime};

impl Session {
    /// lisafs 6.3.
    pub(super) fn fstat(&self, request: &FStatReq, reply: &mut Reply) -> Result<()> {
        reply.set(&FStatResp {
            stat: statx(&self.fds.stat(request.fd)?),
        });
        Ok(())
    }

    /// lisafs 6.4: mode, size, times, owner; each may fail by itself.
    pub(super) fn set_stat(&self, request: &SetStatReq, reply: &mut Reply) -> Result<()> {
        let node = self.fds.control(request.fd)?;
        let mask = StatxMask::from_bits_retain(request.mask);
        if !StatxMask::SETTABLE.contains(mask) {
            return Err(Errno::PERM);
        }
        let mut edit = node.edit()?;
        let mut failed = StatxMask::empty();
        let mut errno = 0;
        let mut note = |part: StatxMask, result: Result<()>| {
            if let Err(error) = result {
                failed |= part;
                errno = error.raw_os_error().unsigned_abs();
            }
        };
        if mask.contains(StatxMask::MODE) {
            note(StatxMask::MODE, edit.set_mode(request.mode));
        }
        if mask.contains(StatxMask::SIZE) {
            note(StatxMask::SIZE, edit.set_size(request.size));
        }
        let times = mask & (StatxMask::ATIME | StatxMask::MTIME);
        if !times.is_empty() {
            let atime = set_time(mask.contains(StatxMask::ATIME), &request.atime);
            let mtime = set_time(mask.contains(StatxMask::MTIME), &request.mtime);
            note(times, edit.set_times(atime, mtime));
        }
        let ids = mask & (StatxMask::UID | StatxMask::GID);
        if !ids.is_empty() {
            let mut owner = owner(request.uid, request.gid);
            owner.uid = owner.uid.filter(|_| mask.contains(StatxMask::UID));
            owner.gid = owner.gid.filter(|_| mask.contains(StatxMask::GID));
            note(ids, edit.set_owner(owner));
        }
        reply.set(&SetStatResp {
            failure_mask: failed.bits(),
            failure_errno: errno,
        });
        Ok(())
    }

    /// lisafs 6.17.
    pub(super) fn fstatfs(&self, request: &FStatFSReq, reply: &mut Reply) -> Result<()> {
        let found = self.fds.control(request.fd)?.statfs()?;
        reply.set(&FStatFSResp {
            statfs: StatFs {
                fs_type: (found.f_type as u64).into(),
                block_size: found.f_bsize.into(),
                blocks: found.f_blocks.into(),
                blocks_free: found.f_bfree.into(),
                blocks_available: found.f_bavail.into(),
                files: found.f_files.into(),
                files_free: found.f_ffree.into(),
                name_length: (found.f_namelen as u64).into(),
            },
        });
        Ok(())
    }

    /// lisafs 6.19. Of a deleted link the target is empty, as clients of HEAD know it (9.3).
    pub(super) fn read_link_at(&self, request: &ReadLinkAtReq, reply: &mut Reply) -> Result<()> {
        let node = self.fds.control(request.fd)?;
        if node.file_type() != FileType::Symlink {
            return Err(Errno::INVAL);
        }
        let target = if node.is_deleted() {
            Vec::new()
        } else {
            node.read_link()?
        };
        reply.set(&ReadLinkAtResp { target: &target });
        Ok(())
    }

    /// lisafs 6.25.
    pub(super) fn get_xattr(&self, request: &FGetXattrReq<'_>, reply: &mut Reply) -> Result<()> {
        let value = self.living(request.fd)?.get_xattr(request.name)?;
        if request.buf_size != 0 && value.len() > request.buf_size as usize {
            return Err(Errno::RANGE);
        }
        // The length of a string has 16 bits, a value may have 65536 bytes.
        if value.len() > usize::from(u16::MAX) {
            return Err(Errno::TOOBIG);
        }
        reply.set(&FGetXattrResp { value: &value });
        Ok(())
    }

    /// lisafs 6.26.
    pub(super) fn set_xattr(&self, request: &FSetXattrReq<'_>, reply: &mut Reply) -> Result<()> {
        let node = self.living(request.fd)?;
        node.set_xattr(request.name, request.value, request.flags)?;
        reply.set(&FSetXattrResp {});
        Ok(())
    }

    /// lisafs 6.27. A deleted file has no names, as clients of HEAD know it (9.3).
    pub(super) fn list_xattr(&self, request: &FListXattrReq, reply: &mut Reply) -> Result<()> {
        let node = self.fds.control(request.fd)?;
        let list = if node.is_deleted() {
            Vec::new()
        } else {
            node.list_xattr()?
        };
        if request.size != 0 && list.len() as u64 > request.size {
            return Err(Errno::RANGE);
        }
        let names: Vec<&[u8]> = list
            .split(|&byte| byte == 0)
            .filter(|name| !name.is_empty())
            .collect();
        reply.set(&FListXattrResp {
            xattrs: Strings::new(&names),
        });
        Ok(())
    }

    /// lisafs 6.28.
    pub(super) fn remove_xattr(
        &self,
        request: &FRemoveXattrReq<'_>,
        reply: &mut Reply,
    ) -> Result<()> {
        self.living(request.fd)?.remove_xattr(request.name)?;
        reply.set(&FRemoveXattrResp {});
        Ok(())
    }

    /// The node of a control FD; `EINVAL` when it was deleted.
    fn living(&self, fd: Fdid) -> Result<Arc<Node>> {
        let node = self.fds.control(fd)?;
        if node.is_deleted() {
            Err(Errno::INVAL)
        } else {
            Ok(node)
        }
    }
}

fn set_time(wanted: bool, time: &Timespec) -> SetTime {
    match time.nsec.get() {
        _ if !wanted => SetTime::Omit,
        UTIME_OMIT => SetTime::Omit,
        UTIME_NOW => SetTime::Now,
        nsec => SetTime::At {
            sec: time.sec.get(),
            nsec,
        },
    }
}
