//! Handlers of names: Mount, Walk, creation, links, removal, renames.

use gofer_lisafs::wire::{
    CreateCommon, Fdid, Inode, LinkAtReq, LinkAtResp, Message, MkdirAtReq, MkdirAtResp, MknodAtReq,
    MknodAtResp, MountResp, RenameAt2Req, RenameAt2Resp, RenameAtReq, RenameAtResp, Statx,
    SymlinkAtReq, SymlinkAtResp, UnlinkAtReq, UnlinkAtResp, WalkReq, WalkResp, WalkStatReq,
    WalkStatResp, WalkStatus,
};
use rustix::io::Errno;
use std::sync::Arc;

use super::connection::Reply;
use super::fds::Room;
use super::{Session, check_name, check_type, inode, owner, statx};
use crate::host::{FileType, Found, Name, Node, Result};

impl Session {
    /// lisafs 6.1. Where the export gives its root away, a client that does not want it closes it.
    pub(super) fn mount(&self, reply: &mut Reply) -> Result<()> {
        let mut room = self.fds.reserve(1)?;
        let node = self.export.root().clone();
        let stat = node.stat()?;
        reply.fds.extend(self.export.donated_root()?);
        reply.set(&MountResp {
            root: inode(&mut room, Found { node, stat }),
            max_message_size: self.max_message_size,
            supported_mids: self.supported(),
        });
        Ok(())
    }

    /// lisafs 6.5. FDs made before a failure are dropped again; their numbers are used up.
    pub(super) fn walk(&self, request: &WalkReq<'_>, reply: &mut Reply) -> Result<()> {
        let start = self.fds.directory(request.dir_fd)?;
        self.check_fits(
            <WalkResp<'_> as Message>::MIN_SIZE,
            request.path.len(),
            size_of::<Inode>(),
        )?;
        let mut room = self.fds.reserve(request.path.len())?;
        let mut inodes = std::mem::take(&mut reply.inodes);
        inodes.clear();
        let result = walk_down(start, request, &mut room, &mut inodes);
        match result {
            Ok(status) => reply.set(&WalkResp {
                status,
                inodes: &inodes,
            }),
            Err(_) => inodes
                .iter()
                .for_each(|inode| self.fds.close(inode.control_fd)),
        }
        reply.inodes = inodes;
        result.map(|_| ())
    }

    /// lisafs 6.6. Makes no FD, stops at links, does not look at deletion.
    pub(super) fn walk_stat(&self, request: &WalkStatReq<'_>, reply: &mut Reply) -> Result<()> {
        let start = self.fds.control(request.dir_fd)?;
        let mut names = request.path.iter().peekable();
        let itself = names.next_if(|name| name.is_empty()).is_some();
        if names.peek().is_some() && !start.is_dir() {
            return Err(Errno::NOTDIR);
        }
        self.check_fits(
            <WalkStatResp<'_> as Message>::MIN_SIZE,
            request.path.len(),
            size_of::<Statx>(),
        )?;
        for name in request.path.iter().skip(usize::from(itself)) {
            Name::new(name)?;
        }
        let mut stats = Vec::with_capacity(request.path.len());
        if itself {
            stats.push(statx(&start.stat()?));
        }
        // All of them are names, as was just checked.
        start.walk_stat(names.map_while(|name| Name::new(name).ok()), |stat| {
            check_type(start.policy(), stat)?;
            stats.push(statx(stat));
            Ok(())
        })?;
        reply.set(&WalkStatResp { stats: &stats });
        Ok(())
    }

    /// A response of `head` bytes and `count` elements must be allowed before anything is done
    /// for it: `EIO`.
    fn check_fits(&self, head: usize, count: usize, element: usize) -> Result<()> {
        if head + count * element > self.max_message_size as usize {
            return Err(Errno::IO);
        }
        Ok(())
    }

    /// The checks before something is made or removed in a directory: name, directory, deletion.
    fn place(&self, dir: Fdid, name: &[u8]) -> Result<Arc<Node>> {
        check_name(name)?;
        let dir = self.fds.directory(dir)?;
        if dir.is_deleted() {
            return Err(Errno::INVAL);
        }
        Ok(dir)
    }

    /// As [`Session::place`], with room for `fds` new FDIDs.
    pub(super) fn create_place(
        &self,
        common: &CreateCommon,
        name: &[u8],
        fds: usize,
    ) -> Result<(Arc<Node>, Room<'_>)> {
        let dir = self.place(common.dir_fd, name)?;
        Ok((dir, self.fds.reserve(fds)?))
    }

    /// lisafs 6.13.
    pub(super) fn mkdir_at(&self, request: &MkdirAtReq<'_>, reply: &mut Reply) -> Result<()> {
        let common = &request.common;
        let (dir, mut room) = self.create_place(common, request.name, 1)?;
        let owner = owner(common.uid.get(), common.gid.get());
        let made = dir.mkdir(Name::new(request.name)?, common.mode.get().into(), owner)?;
        reply.set(&MkdirAtResp {
            child_dir: inode(&mut room, made),
        });
        Ok(())
    }

    /// lisafs 6.14: regular files, and the whiteout of an overlay (character device 0:0); others
    /// where the policy says so.
    pub(super) fn mknod_at(&self, request: &MknodAtReq<'_>, reply: &mut Reply) -> Result<()> {
        let common = &request.common;
        let (dir, mut room) = self.create_place(common, request.name, 1)?;
        let mode = u32::from(common.mode.get());
        let device = (request.major, request.minor);
        let file_type = FileType::from_raw_mode(mode);
        match file_type {
            FileType::RegularFile => {}
            FileType::CharacterDevice if device == (0, 0) => {}
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
                if dir.policy().all_types => {}
            _ => return Err(Errno::PERM),
        }
        let owner = owner(common.uid.get(), common.gid.get());
        let made = dir.mknod(Name::new(request.name)?, file_type, mode, device, owner)?;
        reply.set(&MknodAtResp {
            child: inode(&mut room, made),
        });
        Ok(())
    }

    /// lisafs 6.15.
    pub(super) fn symlink_at(&self, request: &SymlinkAtReq<'_>, reply: &mut Reply) -> Result<()> {
        let dir = self.place(request.dir_fd, request.name)?;
        let mut room = self.fds.reserve(1)?;
        let owner = owner(request.uid, request.gid);
        let made = dir.symlink(Name::new(request.name)?, request.target, owner)?;
        reply.set(&SymlinkAtResp {
            symlink: inode(&mut room, made),
        });
        Ok(())
    }

    /// lisafs 6.16.
    pub(super) fn link_at(&self, request: &LinkAtReq<'_>, reply: &mut Reply) -> Result<()> {
        check_name(request.name)?;
        let dir = self.fds.directory(request.dir_fd)?;
        let target = self.fds.control(request.target)?;
        if target.is_dir() {
            return Err(Errno::PERM);
        }
        if dir.is_deleted() || target.is_deleted() {
            return Err(Errno::INVAL);
        }
        let mut room = self.fds.reserve(1)?;
        let made = dir.link(&target, Name::new(request.name)?)?;
        reply.set(&LinkAtResp {
            link: inode(&mut room, made),
        });
        Ok(())
    }

    /// lisafs 6.22.
    pub(super) fn unlink_at(&self, request: &UnlinkAtReq<'_>, reply: &mut Reply) -> Result<()> {
        let dir = self.place(request.dir_fd, request.name)?;
        dir.unlink(Name::new(request.name)?, request.flags)?;
        reply.set(&UnlinkAtResp {});
        Ok(())
    }

    /// lisafs 6.23.
    pub(super) fn rename_at(&self, request: &RenameAtReq<'_>, reply: &mut Reply) -> Result<()> {
        let old = (request.old_dir, request.old_name);
        let new = (request.new_dir, request.new_name);
        self.rename(old, new, 0)?;
        reply.set(&RenameAtResp {});
        Ok(())
    }

    /// lisafs 6.33.
    pub(super) fn rename_at2(&self, request: &RenameAt2Req<'_>, reply: &mut Reply) -> Result<()> {
        let old = (request.old_dir, request.old_name);
        let new = (request.new_dir, request.new_name);
        self.rename(old, new, request.flags)?;
        reply.set(&RenameAt2Resp {});
        Ok(())
    }

    fn rename(&self, old: (Fdid, &[u8]), new: (Fdid, &[u8]), flags: u32) -> Result<()> {
        check_name(old.1)?;
        check_name(new.1)?;
        let old_dir = self.fds.control(old.0)?;
        let new_dir = self.fds.control(new.0)?;
        if !old_dir.is_dir() || !new_dir.is_dir() {
            return Err(Errno::NOTDIR);
        }
        if old_dir.is_deleted() || new_dir.is_deleted() {
            return Err(Errno::INVAL);
        }
        old_dir.rename(Name::new(old.1)?, &new_dir, Name::new(new.1)?, flags)
    }
}

/// Hands out a control FD for each name on the way down. No rename comes in between (lisafs 9.2).
fn walk_down(
    start: Arc<Node>,
    request: &WalkReq<'_>,
    room: &mut Room<'_>,
    inodes: &mut Vec<Inode>,
) -> Result<WalkStatus> {
    let mut at = start.clone();
    let names = start.hold_names();
    for name in request.path.iter() {
        check_name(name)?;
        if at.file_type() == FileType::Symlink {
            return Ok(WalkStatus::SYMLINK);
        }
        if at.is_deleted() {
            return Ok(WalkStatus::MISSING);
        }
        let found = match names.walk(&at, Name::new(name)?) {
            Err(Errno::NOENT) => return Ok(WalkStatus::MISSING),
            found => found?,
        };
        check_type(at.policy(), &found.stat)?;
        at = found.node.clone();
        inodes.push(inode(room, found));
    }
    Ok(WalkStatus::SUCCESS)
}
