//! The file system that fuser is given: an adapter whose threads take turns.

use std::ffi::OsStr;
use std::path::Path;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLock, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::adapter::Adapter;
use crate::crew::Crew;

/// See the module.
pub(crate) struct Served {
    adapter: Adapter,
    crew: Crew,
}

impl Served {
    pub(crate) fn new(adapter: Adapter, crew: Crew) -> Served {
        Served { adapter, crew }
    }
}

macro_rules! served {
    ($($call:ident($($argument:ident: $type:ty),*);)*) => {
        $(fn $call(&self, request: &Request, $($argument: $type),*) {
            let _serving = self.crew.serve();
            self.adapter.$call(request, $($argument),*);
        })*
    };
}

impl Filesystem for Served {
    fn init(&mut self, request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        self.adapter.init(request, config)
    }

    fn destroy(&mut self) {
        self.adapter.destroy();
    }

    served! {
        lookup(parent: INodeNo, name: &OsStr, reply: ReplyEntry);
        forget(number: INodeNo, count: u64);
        getattr(number: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr);
        setattr(number: INodeNo, mode: Option<u32>, uid: Option<u32>, gid: Option<u32>,
            size: Option<u64>, atime: Option<TimeOrNow>, mtime: Option<TimeOrNow>,
            ctime: Option<SystemTime>, handle: Option<FileHandle>, crtime: Option<SystemTime>,
            chgtime: Option<SystemTime>, bkuptime: Option<SystemTime>, flags: Option<BsdFileFlags>,
            reply: ReplyAttr);
        readlink(number: INodeNo, reply: ReplyData);
        mknod(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry);
        mkdir(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry);
        unlink(parent: INodeNo, name: &OsStr, reply: ReplyEmpty);
        rmdir(parent: INodeNo, name: &OsStr, reply: ReplyEmpty);
        symlink(parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry);
        rename(parent: INodeNo, name: &OsStr, new_parent: INodeNo, new_name: &OsStr,
            flags: RenameFlags, reply: ReplyEmpty);
        link(number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry);
        open(number: INodeNo, flags: OpenFlags, reply: ReplyOpen);
        create(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, flags: i32,
            reply: ReplyCreate);
        read(number: INodeNo, handle: FileHandle, offset: u64, size: u32, flags: OpenFlags,
            owner: Option<LockOwner>, reply: ReplyData);
        write(number: INodeNo, handle: FileHandle, offset: u64, data: &[u8],
            write_flags: WriteFlags, flags: OpenFlags, owner: Option<LockOwner>,
            reply: ReplyWrite);
        flush(number: INodeNo, handle: FileHandle, owner: LockOwner, reply: ReplyEmpty);
        release(number: INodeNo, handle: FileHandle, flags: OpenFlags, owner: Option<LockOwner>,
            flush: bool, reply: ReplyEmpty);
        fsync(number: INodeNo, handle: FileHandle, datasync: bool, reply: ReplyEmpty);
        opendir(number: INodeNo, flags: OpenFlags, reply: ReplyOpen);
        readdir(number: INodeNo, handle: FileHandle, offset: u64, reply: ReplyDirectory);
        readdirplus(number: INodeNo, handle: FileHandle, offset: u64, reply: ReplyDirectoryPlus);
        releasedir(number: INodeNo, handle: FileHandle, flags: OpenFlags, reply: ReplyEmpty);
        fsyncdir(number: INodeNo, handle: FileHandle, datasync: bool, reply: ReplyEmpty);
        statfs(number: INodeNo, reply: ReplyStatfs);
        setxattr(number: INodeNo, name: &OsStr, value: &[u8], flags: i32, position: u32,
            reply: ReplyEmpty);
        getxattr(number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr);
        listxattr(number: INodeNo, size: u32, reply: ReplyXattr);
        removexattr(number: INodeNo, name: &OsStr, reply: ReplyEmpty);
        access(number: INodeNo, mask: AccessFlags, reply: ReplyEmpty);
        getlk(number: INodeNo, handle: FileHandle, owner: LockOwner, start: u64, end: u64,
            kind: i32, pid: u32, reply: ReplyLock);
        setlk(number: INodeNo, handle: FileHandle, owner: LockOwner, start: u64, end: u64,
            kind: i32, pid: u32, sleep: bool, reply: ReplyEmpty);
        copy_file_range(from_number: INodeNo, from: FileHandle, offset: u64, to_number: INodeNo,
            to: FileHandle, to_offset: u64, length: u64, flags: CopyFileRangeFlags,
            reply: ReplyWrite);
        fallocate(number: INodeNo, handle: FileHandle, offset: u64, length: u64, mode: i32,
            reply: ReplyEmpty);
        lseek(number: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek);
    }
}
