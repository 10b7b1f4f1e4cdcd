//! Each call of the kernel, by the name FUSE has for it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, KernelConfig,
    LockOwner, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyLock, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use gofer_vfs::{
    AccessMask, AllocMode, At, FileType, Follow, OpenFlags, RenameFlags, SetAttr, Whence,
    XattrFlags,
};

use super::locks::Asked;
use super::{
    Adapter, GENERATION, empty, flow, permissions, reply_sized, reply_written, with_buffer,
};
use crate::convert;

/// The kernel does the other kinds of lseek(2) itself.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        self.policy.configure(config)
    }

    fn destroy(&mut self) {
        drop(self.files.clear());
        self.nodes.clear();
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.nodes.make_room();
        let found = self.run_with(request, |cx| {
            let (dir, name) = (self.node(parent)?, convert::name(name)?);
            let node = self.fs.lookup(cx, &dir, name).map_err(convert::error)?;
            self.entry(cx, node)
        });
        match (found, self.policy.negative) {
            (Err(errno), Some(time)) if errno.code() == fuser::Errno::ENOENT.code() => {
                let nothing = convert::no_file(0, FileType::Regular);
                reply.entry_with_ttls(&Duration::ZERO, &time, &nothing, GENERATION);
            }
            (found, _) => self.reply_entry(reply, found),
        }
    }

    fn forget(&self, _: &Request, number: INodeNo, count: u64) {
        self.nodes.forget(number.0, count);
    }

    fn getattr(&self, request: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.reply_attr(reply, self.run_with(request, |cx| self.attr(cx, number)));
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttr {
            mode: mode.map(permissions),
            uid,
            gid,
            size,
            atime: atime.map(convert::set_time),
            mtime: mtime.map(convert::set_time),
        };
        let done = self.set_attr(request, number, handle, set);
        self.reply_attr(reply, done);
    }

    fn readlink(&self, request: &Request, number: INodeNo, reply: ReplyData) {
        match self.on_node(request, number, |cx, node| self.fs.read_link_node(cx, node)) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let made = self.run_with(request, |cx| {
            let (dir, name) = (self.node(parent)?, convert::name(name)?);
            let file_type = FileType::from_mode(mode).ok_or(fuser::Errno::EINVAL)?;
            let device = convert::decode_device(rdev);
            let node = self
                .fs
                .mknod_in(cx, &dir, name, file_type, permissions(mode), device)
                .map_err(convert::error)?;
            self.made(cx, node)
        });
        self.reply_entry(reply, made);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.run_with(request, |cx| {
            let (dir, name) = (self.node(parent)?, convert::name(name)?);
            let made = self.fs.mkdir_in(cx, &dir, name, permissions(mode));
            self.made(cx, made.map_err(convert::error)?)
        });
        self.reply_entry(reply, made);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.run_with(request, |cx| {
            let (dir, name) = (self.node(parent)?, convert::name(name)?);
            self.fs.unlink_in(cx, &dir, name).map_err(convert::error)
        });
        empty(reply, done);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.run_with(request, |cx| {
            let (dir, name) = (self.node(parent)?, convert::name(name)?);
            self.fs.rmdir_in(cx, &dir, name).map_err(convert::error)
        });
        empty(reply, done);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let made = self.run_with(request, |cx| {
            let (dir, name) = (self.node(parent)?, convert::name(name)?);
            let target = target.as_os_str().as_bytes();
            let made = self.fs.symlink_in(cx, target, &dir, name);
            self.made(cx, made.map_err(convert::error)?)
        });
        self.reply_entry(reply, made);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: fuser::RenameFlags,
        reply: ReplyEmpty,
    ) {
        let done = self.run_with(request, |cx| {
            let (from, to) = (self.node(parent)?, self.node(new_parent)?);
            let old = (&from, convert::name(name)?);
            let new = (&to, convert::name(new_name)?);
            let flags = RenameFlags::from_bits_retain(flags.bits());
            self.fs
                .rename_in(cx, old, new, flags)
                .map_err(convert::error)
        });
        empty(reply, done);
    }

    fn link(
        &self,
        request: &Request,
        number: INodeNo,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
    ) {
        let made = self.run_with(request, |cx| {
            let (old, dir) = (self.node(number)?, self.node(parent)?);
            let made = self.fs.link_in(cx, &old, &dir, convert::name(name)?);
            let made = made.map_err(convert::error)?;
            // The reply tells of the name, and not what became of the file by it.
            let stat = self.fs.stat_node(cx, &made).map_err(convert::error)?;
            Ok(convert::attr(self.nodes.enter(made), &stat.attr))
        });
        self.reply_entry(reply, made);
    }

    fn open(&self, request: &Request, number: INodeNo, flags: fuser::OpenFlags, reply: ReplyOpen) {
        match self.open_node(request, number, flags.0) {
            Ok(file) => {
                let (handle, flags) = self.opened(file);
                reply.opened(handle, flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        // The kernel has followed every link it knows of; one that appeared since is no file.
        let flags = OpenFlags::from_bits_truncate(flags as u32) | OpenFlags::NOFOLLOW;
        let made = self.run_with(request, |cx| {
            let (dir, name) = (self.node(parent)?, convert::name(name)?);
            let file = self
                .fs
                .create_in(cx, &dir, name, flags, permissions(mode))
                .map_err(convert::error)?;
            let attr = self.made(cx, file.node().clone())?;
            Ok((file, attr))
        });
        match made {
            Ok((file, attr)) => {
                let (handle, flags) = self.opened(file);
                reply.created(&self.policy.entry, &attr, GENERATION, handle, flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: fuser::OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        with_buffer(size as usize, |buffer| {
            let read = self.on_file(request, handle, |cx, file| file.read_at(cx, buffer, offset));
            match read {
                Ok(n) => reply.data(buffer.get(..n).unwrap_or(buffer)),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn write(
        &self,
        request: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: fuser::OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.write_file(request, (number, handle), data, offset, write_flags);
        reply_written(reply, written.map(|n| n as u64));
    }

    fn flush(
        &self,
        request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let file = self.files.closing(handle).ok_or(fuser::Errno::EBADF);
        let done = file.and_then(|file| {
            let unlocked = self.release_locks(request, &file, owner);
            self.run(request, |cx| file.flush(cx)).and(unlocked)
        });
        empty(reply, done);
    }

    fn release(
        &self,
        request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: fuser::OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.close(request, handle));
    }

    fn fsync(
        &self,
        request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        let done = self.on_file(request, handle, |cx, file| file.sync(cx, datasync));
        empty(reply, done);
    }

    fn opendir(
        &self,
        request: &Request,
        number: INodeNo,
        flags: fuser::OpenFlags,
        reply: ReplyOpen,
    ) {
        match self.open_node(request, number, flags.0) {
            Ok(dir) => reply.opened(self.files.add(dir), self.policy.open_dir_flags()),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(
        &self,
        request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.on_file(request, handle, |cx, dir| {
            dir.read_dir_at(cx, offset, &mut |entry| {
                let kind = convert::file_type(entry.file_type.unwrap_or(FileType::Regular));
                let name = OsStr::from_bytes(entry.name);
                flow(reply.add(INodeNo(entry.ino), entry.next, kind, name))
            })
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.nodes.make_room();
        let listed = self.on_file(request, handle, |cx, dir| {
            dir.read_dir_at(cx, offset, &mut |entry| {
                flow(self.add_plus(cx, dir.node(), &entry, &mut reply))
            })
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn releasedir(
        &self,
        request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: fuser::OpenFlags,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.close(request, handle));
    }

    fn fsyncdir(
        &self,
        request: &Request,
        number: INodeNo,
        handle: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.fsync(request, number, handle, datasync, reply);
    }

    fn statfs(&self, request: &Request, number: INodeNo, reply: ReplyStatfs) {
        let numbers = self.on_node(request, number, |cx, node| {
            self.fs.statfs(cx, At::new(node, b""))
        });
        match numbers {
            Ok(s) => {
                let block = u32::try_from(s.block_size).unwrap_or(u32::MAX);
                let name = u32::try_from(s.name_length).unwrap_or(u32::MAX);
                reply.statfs(
                    s.blocks,
                    s.blocks_free,
                    s.blocks_available,
                    s.files,
                    s.files_free,
                    block,
                    name,
                    block,
                );
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn setxattr(
        &self,
        request: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let flags = XattrFlags::from_bits_retain(flags as u32);
        let done = self.on_node(request, number, |cx, node| {
            self.fs.set_xattr(
                cx,
                At::new(node, b""),
                Follow::No,
                name.as_bytes(),
                value,
                flags,
            )
        });
        empty(reply, done);
    }

    fn getxattr(
        &self,
        request: &Request,
        number: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let value = self.on_node(request, number, |cx, node| {
            self.fs.get_xattr(
                cx,
                At::new(node, b""),
                Follow::No,
                name.as_bytes(),
                size as usize,
            )
        });
        reply_sized(reply, size, value);
    }

    fn listxattr(&self, request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.on_node(request, number, |cx, node| {
            self.fs.list_xattr(cx, At::new(node, b""), Follow::No)
        });
        let list = names.map(|names| {
            let mut list = Vec::new();
            for name in names {
                list.extend_from_slice(&name);
                list.push(0);
            }
            list
        });
        reply_sized(reply, size, list);
    }

    fn removexattr(&self, request: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.on_node(request, number, |cx, node| {
            let at = At::new(node, b"");
            self.fs.remove_xattr(cx, at, Follow::No, name.as_bytes())
        });
        empty(reply, done);
    }

    fn access(&self, request: &Request, number: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let mask = AccessMask::from_bits_truncate(mask.bits() as u16);
        let done = self.on_node(request, number, |cx, node| {
            self.fs.access_node(cx, node, mask)
        });
        empty(reply, done);
    }

    fn getlk(
        &self,
        request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        reply: ReplyLock,
    ) {
        let asked = Asked::new(owner, [start, end], kind, pid);
        self.get_lock(request, handle, &asked, reply);
    }

    fn setlk(
        &self,
        request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        let asked = Asked::new(owner, [start, end], kind, pid);
        self.set_lock(request, handle, &asked, sleep, reply);
    }

    fn copy_file_range(
        &self,
        request: &Request,
        _from: INodeNo,
        from: FileHandle,
        offset: u64,
        number: INodeNo,
        to: FileHandle,
        to_offset: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let copied = self.file(from).and_then(|from| {
            let to = self.file(to)?;
            let takes = self.takes_set_id(request);
            self.change_content(request, (number, to.node()), takes, |cx| {
                from.copy_range(cx, offset, &to, to_offset, length)
            })
        });
        reply_written(reply, copied);
    }

    fn fallocate(
        &self,
        request: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mode = AllocMode::from_bits_retain(mode as u32);
        let done = self.file(handle).and_then(|file| {
            let takes = self.takes_set_id(request);
            self.change_content(request, (number, file.node()), takes, |cx| {
                file.allocate(cx, mode, offset, length)
            })
        });
        empty(reply, done);
    }

    fn lseek(
        &self,
        request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let to = match whence {
            SEEK_DATA => Whence::Data(offset),
            SEEK_HOLE => Whence::Hole(offset),
            _ => return reply.error(fuser::Errno::EINVAL),
        };
        match self.on_file(request, handle, |cx, file| file.seek(cx, to)) {
            Ok(at) => reply.offset(at as i64),
            Err(errno) => reply.error(errno),
        }
    }
}
