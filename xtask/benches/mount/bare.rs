//! The least a FUSE server can be: calls of the kernel become system calls on a tree of the host,
//! and nothing is decided, cached or checked. Slower than this is what we add, faster than this
//! no server on the crate `fuser` can be.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use fuser::{
    BsdFileFlags, Config, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat, fstat, openat, statat, unlinkat};

/// For ever.
const TIME: Duration = Duration::from_secs(1 << 30);
const GENERATION: Generation = Generation(0);
/// There is one caller, and the kernel wakes several threads in turns.
const THREADS: usize = 1;

/// Serves `source` on `mountpoint` until it is unmounted.
pub(crate) fn serve(source: &Path, mountpoint: &Path) -> Result<()> {
    let root = rustix::fs::open(source, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    let server = Bare {
        nodes: RwLock::new(HashMap::from([(INodeNo::ROOT.0, Arc::new(root))])),
        files: RwLock::default(),
    };
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    config.mount_options = vec![
        MountOption::FSName("bare".to_owned()),
        MountOption::DefaultPermissions,
    ];
    fuser::mount(server, mountpoint, &config).context("serve")
}

struct Bare {
    nodes: RwLock<HashMap<u64, Arc<OwnedFd>>>,
    files: RwLock<Vec<Open>>,
}

enum Open {
    File(Arc<File>),
    Listing(Arc<Vec<Entry>>),
    Free,
}

/// Number, type and name.
type Entry = (u64, FileType, Vec<u8>);

type Answer<T> = std::result::Result<T, fuser::Errno>;

fn errno(error: rustix::io::Errno) -> fuser::Errno {
    fuser::Errno::from_i32(error.raw_os_error())
}

fn failed(error: io::Error) -> fuser::Errno {
    fuser::Errno::from(error)
}

impl Bare {
    fn node(&self, number: INodeNo) -> Answer<Arc<OwnedFd>> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes.get(&number.0).cloned().ok_or(fuser::Errno::ESTALE)
    }

    fn enter(&self, parent: INodeNo, name: &OsStr) -> Answer<FileAttr> {
        let dir = self.node(parent)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&*dir, name, flags, Mode::empty()).map_err(errno)?;
        let attr = attr(&fstat(&fd).map_err(errno)?);
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        nodes.insert(attr.ino.0, Arc::new(fd));
        Ok(attr)
    }

    fn open_node(&self, number: INodeNo, flags: OFlags) -> Answer<File> {
        let node = self.node(number)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", node.as_raw_fd()));
        let fd = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
        Ok(fd.map_err(errno)?.into())
    }

    fn keep(&self, open: Open) -> FileHandle {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        let free = files.iter().position(|slot| matches!(slot, Open::Free));
        let at = free.unwrap_or(files.len());
        match files.get_mut(at) {
            Some(slot) => *slot = open,
            None => files.push(open),
        }
        FileHandle(at as u64)
    }

    fn file(&self, handle: FileHandle) -> Answer<Arc<File>> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        match files.get(handle.0 as usize) {
            Some(Open::File(file)) => Ok(file.clone()),
            _ => Err(fuser::Errno::EBADF),
        }
    }

    fn close(&self, handle: FileHandle) {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        let slot = files.get_mut(handle.0 as usize);
        let gone = slot.map(|slot| std::mem::replace(slot, Open::Free));
        drop(files);
        drop(gone);
    }

    fn listing(&self, handle: FileHandle) -> Answer<Arc<Vec<Entry>>> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        match files.get(handle.0 as usize) {
            Some(Open::Listing(listing)) => Ok(listing.clone()),
            _ => Err(fuser::Errno::EBADF),
        }
    }
}

fn attr(stat: &Stat) -> FileAttr {
    let time = |sec: i64, nsec: u64| {
        SystemTime::UNIX_EPOCH + Duration::new(sec.cast_unsigned(), nsec as u32)
    };
    FileAttr {
        ino: INodeNo(stat.st_ino),
        size: stat.st_size.cast_unsigned(),
        blocks: stat.st_blocks.cast_unsigned(),
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        crtime: SystemTime::UNIX_EPOCH,
        kind: kind(rustix::fs::FileType::from_raw_mode(stat.st_mode)),
        perm: (stat.st_mode & 0o7777) as u16,
        nlink: stat.st_nlink as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn kind(file_type: rustix::fs::FileType) -> FileType {
    match file_type {
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        _ => FileType::RegularFile,
    }
}

impl Filesystem for Bare {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO;
        for flag in wanted.iter() {
            let _ = config.add_capabilities(flag);
        }
        let _ = config.set_max_write(1 << 20);
        let _ = config.set_max_readahead(1 << 20);
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.enter(parent, name) {
            Ok(attr) => reply.entry(&TIME, &attr, GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    fn forget(&self, _: &Request, number: INodeNo, _: u64) {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        let gone = nodes.remove(&number.0);
        drop(nodes);
        drop(gone);
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let found = self
            .node(number)
            .and_then(|node| fstat(&*node).map_err(errno));
        match found {
            Ok(stat) => reply.attr(&TIME, &attr(&stat)),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let done = match size {
            Some(size) => self
                .open_node(number, OFlags::WRONLY)
                .and_then(|file| file.set_len(size).map_err(failed)),
            None => Ok(()),
        };
        let found = done
            .and_then(|()| self.node(number))
            .and_then(|node| fstat(&*node).map_err(errno));
        match found {
            Ok(stat) => reply.attr(&TIME, &attr(&stat)),
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self
            .node(parent)
            .and_then(|dir| unlinkat(&*dir, name, AtFlags::empty()).map_err(errno));
        match done {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let access = OFlags::from_bits_retain(flags.0.cast_unsigned()) & OFlags::ACCMODE;
        match self.open_node(number, access) {
            Ok(file) => {
                let handle = self.keep(Open::File(Arc::new(file)));
                reply.opened(handle, keep_flags(access != OFlags::RDONLY));
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.node(parent).and_then(|dir| {
            let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(mode & 0o7777);
            let fd = openat(&*dir, name, flags, mode).map_err(errno)?;
            Ok((File::from(fd), self.enter(parent, name)?))
        });
        match made {
            Ok((file, attr)) => {
                let handle = self.keep(Open::File(Arc::new(file)));
                reply.created(&TIME, &attr, GENERATION, handle, keep_flags(true));
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        thread_local! {
            static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
        }
        BUFFER.with_borrow_mut(|buffer| {
            let size = size as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let buffer = buffer.get_mut(..size).unwrap_or_default();
            let read = self
                .file(handle)
                .and_then(|file| file.read_at(buffer, offset).map_err(failed));
            match read {
                Ok(n) => reply.data(buffer.get(..n).unwrap_or_default()),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn write(
        &self,
        _: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self
            .file(handle)
            .and_then(|file| file.write_all_at(data, offset).map_err(failed));
        match written {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    /// The kernel asks before each write for what a write takes away, and would not ask again if
    /// it were told that nobody has attributes.
    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(fuser::Errno::ENODATA);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.close(handle);
        reply.ok();
    }

    fn fsync(
        &self,
        _: &Request,
        _number: INodeNo,
        handle: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        let done = self.file(handle).and_then(|file| match datasync {
            true => file.sync_data().map_err(failed),
            false => file.sync_all().map_err(failed),
        });
        match done {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let listed = self
            .open_node(number, OFlags::RDONLY | OFlags::DIRECTORY)
            .and_then(|dir| Dir::read_from(&dir).map_err(errno));
        match listed {
            Ok(dir) => {
                let entry = |entry: rustix::fs::DirEntry| {
                    let name = entry.file_name().to_bytes().to_vec();
                    (entry.ino(), kind(entry.file_type()), name)
                };
                let listing = dir.filter_map(|found| found.ok().map(entry)).collect();
                let handle = self.keep(Open::Listing(Arc::new(listing)));
                let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR;
                reply.opened(handle, flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        match self.listing(handle) {
            Ok(listing) => {
                for (next, (number, kind, name)) in (1..).zip(listing.iter()).skip(offset as usize)
                {
                    if reply.add(INodeNo(*number), next, *kind, OsStr::from_bytes(name)) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let listing = match self.listing(handle) {
            Ok(listing) => listing,
            Err(errno) => return reply.error(errno),
        };
        for (next, (inode, _, name)) in (1..).zip(listing.iter()).skip(offset as usize) {
            let name = OsStr::from_bytes(name);
            let attr = match name.as_bytes() {
                b"." | b".." => self.node(number).and_then(|dir| {
                    let stat = statat(&*dir, name, AtFlags::empty()).map_err(errno)?;
                    Ok(attr(&stat))
                }),
                _ => self.enter(number, name),
            };
            let Ok(attr) = attr else { continue };
            if reply.add(INodeNo(*inode), next, name, &TIME, &attr, GENERATION) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.close(handle);
        reply.ok();
    }
}

/// `writes`: it can be written to.
fn keep_flags(writes: bool) -> FopenFlags {
    match writes {
        true => FopenFlags::FOPEN_KEEP_CACHE,
        false => FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH,
    }
}
