//! [`File`]: an open file description. Regular files and directories are done here; files
//! without offsets in [`crate::special`].

mod extent;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::attr::{AttrMask, FileType, SetAttr};
use crate::context::{Context, unattended_call};
use crate::dentry::Node;
use crate::directory::{DirectoryEntry, Stream};
use crate::error::{Errno, Result};
use crate::file_locks;
use crate::filesystem::{Stat, run};
use crate::flags::{OpenFlags, XattrFlags};
use crate::handle::Handle;
use crate::inode::Seen;
use crate::locks::{Mutex, POSITION, REGISTRY, ReadGuard, WriteGuard};
use crate::ops;
use crate::permissions::{Credentials, mode_after_write};
use crate::special;
use crate::superblock::{Failure, Res};

pub use extent::Whence;

/// The largest offset a file can have.
const OFFSET_MAX: u64 = i64::MAX as u64;

/// An open file. Dropping it closes it and loses the error; [`File::close`] returns it.
///
/// Methods may be called from many threads. Those that use the offset wait for each other.
pub struct File {
    node: Node,
    flags: OpenFlags,
    /// A handle of this description alone; others share the inode's.
    own: Option<Arc<Handle>>,
    position: Mutex<Position, POSITION>,
    errors_seen: Mutex<Seen, REGISTRY>,
    /// Written through this description: closing tells the server.
    wrote: AtomicBool,
    closed: bool,
    path: Box<[u8]>,
    pub(crate) locks: file_locks::Description,
}

#[derive(Default)]
struct Position {
    offset: u64,
    stream: Stream,
}

/// What keeps the end of a file where it is while it is written: exclusive for appends.
enum Ends<'f> {
    Shared { _held: ReadGuard<'f, ()> },
    Exclusive { _held: WriteGuard<'f, ()> },
}

impl File {
    pub(crate) fn new(node: Node, flags: OpenFlags, own: Option<Arc<Handle>>, path: &[u8]) -> File {
        let lock_id = node.sb().next_serial();
        let file = File {
            errors_seen: Mutex::new(node.inode().open().errors.end()),
            node,
            flags,
            own,
            position: Mutex::new(Position::default()),
            wrote: AtomicBool::new(false),
            closed: false,
            path: path.into(),
            locks: file_locks::Description::new(lock_id),
        };
        if file.is_writable() {
            file.node
                .inode()
                .open()
                .writers
                .fetch_add(1, Ordering::SeqCst);
        }
        file
    }

    /// Where it is in the tree.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The flags it was opened with, less those that have no meaning once it is open.
    pub fn flags(&self) -> OpenFlags {
        self.flags
    }

    /// The path it was opened by, for errors.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// Where it stands.
    pub(crate) fn offset(&self) -> u64 {
        self.position.lock().offset
    }

    pub(crate) fn is_path(&self) -> bool {
        self.flags.contains(OpenFlags::PATH)
    }

    pub(crate) fn is_readable(&self) -> bool {
        !self.is_path() && matches!(self.flags.access_bits(), 0 | 2)
    }

    pub(crate) fn is_writable(&self) -> bool {
        !self.is_path() && matches!(self.flags.access_bits(), 1 | 2)
    }

    fn blocks(&self) -> bool {
        !self.flags.contains(OpenFlags::NONBLOCK)
    }

    fn file_type(&self) -> FileType {
        self.node.file_type()
    }

    pub(crate) fn reader(&self) -> Res<Arc<Handle>> {
        let shared = || self.node.inode().reader();
        let handle = self.own.clone().or_else(shared);
        handle.ok_or_else(|| Errno::EBADF.into())
    }

    pub(crate) fn writer(&self) -> Res<Arc<Handle>> {
        let shared = || self.node.inode().writer();
        let handle = self.own.clone().or_else(shared);
        handle.ok_or_else(|| Errno::EBADF.into())
    }

    /// Reads at `offset`; fewer bytes than asked are the end of the file.
    pub fn read_at(&self, cx: &Context<'_>, into: &mut [u8], offset: u64) -> Result<usize> {
        run("read", &self.path, || {
            self.check_readable()?;
            if !special::is_seekable(self.file_type()) {
                return Err(Errno::ESPIPE.into());
            }
            self.read_from(cx, into, offset)
        })
    }

    /// Reads where the file stands and moves on. Blocks on a fifo until there is data.
    pub fn read(&self, cx: &Context<'_>, into: &mut [u8]) -> Result<usize> {
        run("read", &self.path, || {
            self.check_readable()?;
            if !special::is_seekable(self.file_type()) {
                self.touch_atime();
                return special::read_stream(cx, &*self.reader()?, into, self.blocks());
            }
            let mut position = self.position.lock();
            let n = self.read_from(cx, into, position.offset)?;
            position.offset += n as u64;
            Ok(n)
        })
    }

    fn check_readable(&self) -> Res<()> {
        if !self.is_readable() {
            return Err(Errno::EBADF.into());
        }
        if self.file_type() == FileType::Directory {
            return Err(Errno::EISDIR.into());
        }
        Ok(())
    }

    fn read_from(&self, cx: &Context<'_>, into: &mut [u8], offset: u64) -> Res<usize> {
        if offset > OFFSET_MAX {
            return Err(Errno::EINVAL.into());
        }
        if into.is_empty() {
            return Ok(0);
        }
        let inode = self.node.inode();
        let regular = inode.file_type == FileType::Regular;
        // The size is the truth in these modes: no need to ask where there is nothing.
        if regular && self.node.sb().mode.may_cache_metadata() && offset >= self.size(cx)? {
            return Ok(0);
        }
        let n = self.reader()?.read_at(cx, into, offset);
        self.touch_atime();
        n
    }

    fn touch_atime(&self) {
        if !self.flags.contains(OpenFlags::NOATIME) {
            self.node.sb().touch_atime(self.node.inode());
        }
    }

    /// The size as it is known, unless that is in doubt.
    fn size(&self, cx: &Context<'_>) -> Res<u64> {
        let inode = self.node.inode();
        let (size, doubtful) = {
            let meta = inode.meta.lock();
            (meta.size(), meta.is_doubtful())
        };
        if doubtful {
            inode.refresh(cx, &*self.node.remote(), self.own.as_deref())?;
            return Ok(inode.attr().size);
        }
        Ok(size)
    }

    /// Writes at `offset`, or at the end if opened to append. Returns how many bytes went; an
    /// error counts only if none did.
    pub fn write_at(&self, cx: &Context<'_>, from: &[u8], offset: u64) -> Result<usize> {
        run("write", &self.path, || {
            self.check_writable()?;
            if !special::is_seekable(self.file_type()) {
                return Err(Errno::ESPIPE.into());
            }
            Ok(self.write_to(cx, from, offset)?.0)
        })
    }

    /// Writes where the file stands, or at the end if opened to append, and moves on.
    pub fn write(&self, cx: &Context<'_>, from: &[u8]) -> Result<usize> {
        run("write", &self.path, || {
            self.check_writable()?;
            if !special::is_seekable(self.file_type()) {
                return self.write_special(cx, from);
            }
            let mut position = self.position.lock();
            let (n, end) = self.write_to(cx, from, position.offset)?;
            if n > 0 {
                position.offset = end;
            }
            Ok(n)
        })
    }

    fn check_writable(&self) -> Res<()> {
        if self.is_writable() {
            Ok(())
        } else {
            Err(Errno::EBADF.into())
        }
    }

    fn write_special(&self, cx: &Context<'_>, from: &[u8]) -> Res<usize> {
        if let Some(now) = self.node.sb().stamp() {
            self.node.inode().change(|meta| meta.touch_mtime(now));
        }
        special::write_stream(cx, &*self.writer()?, from, self.blocks())
    }

    /// Returns the bytes written and the offset after them (semantics 15.5, 16.6).
    fn write_to(&self, cx: &Context<'_>, from: &[u8], offset: u64) -> Res<(usize, u64)> {
        if offset > OFFSET_MAX {
            return Err(Errno::EINVAL.into());
        }
        if from.is_empty() {
            return Ok((0, offset));
        }
        let inode = self.node.inode();
        let appends =
            self.flags.contains(OpenFlags::APPEND) && inode.file_type == FileType::Regular;
        let _ends = if appends {
            Ends::Exclusive {
                _held: inode.open().data.write(),
            }
        } else {
            Ends::Shared {
                _held: inode.open().data.read(),
            }
        };
        let handle = self.writer()?;
        let offset = if appends {
            self.end(cx, &handle)?
        } else {
            offset
        };
        let from = self.within_limit(cx, from, offset)?;
        inode.about_to_change();
        if let Some(now) = self.node.sb().stamp() {
            inode.meta.lock().touch_mtime(now);
        }
        self.wrote.store(true, Ordering::Relaxed);
        let (n, stopped) = handle.write_at(cx, from, offset);
        let end = offset + n as u64;
        inode.change(|meta| {
            if inode.file_type == FileType::Regular && n > 0 {
                meta.grow(end, n as u64);
            }
            if stopped.is_some_and(Failure::is_uncertain) {
                meta.doubt();
            }
        });
        if n == 0 {
            return Err(stopped.unwrap_or(Errno::EIO.into()));
        }
        if self.flags.contains(OpenFlags::DSYNC) {
            handle.sync(cx, !self.flags.contains(OpenFlags::SYNC))?;
        }
        let mode = mode_after_write(cx.creds, &inode.attr());
        drop_privileges(cx, &self.node, mode);
        Ok((n, end))
    }

    /// Where the file ends now; in shared mode others may have moved that (semantics 15.5.3).
    fn end(&self, cx: &Context<'_>, handle: &Handle) -> Res<u64> {
        if !self.node.sb().mode.must_revalidate() {
            return self.size(cx);
        }
        if let Some(fd) = handle.host_fd() {
            let stat = rustix::fs::fstat(fd).map_err(Errno::from)?;
            return Ok(u64::try_from(stat.st_size).unwrap_or(0));
        }
        let attr = handle.remote.attr(&cx.call(), AttrMask::SIZE)?;
        if !attr.mask.contains(AttrMask::SIZE) || attr.size > OFFSET_MAX {
            return Err(Errno::EIO.into());
        }
        Ok(attr.size)
    }

    /// The part of `from` that a file may take at `offset` (semantics 12.7).
    fn within_limit<'b>(&self, cx: &Context<'_>, from: &'b [u8], offset: u64) -> Res<&'b [u8]> {
        let limit = match self.file_type() {
            FileType::Regular => cx.file_size_limit.min(OFFSET_MAX),
            _ => OFFSET_MAX,
        };
        if offset >= limit {
            return Err(Errno::EFBIG.into());
        }
        let room = usize::try_from(limit - offset).unwrap_or(usize::MAX);
        Ok(from.get(..room).unwrap_or(from))
    }

    /// The attributes; in shared mode as the server knows them now.
    pub fn stat(&self, cx: &Context<'_>) -> Result<Stat> {
        run("fstat", &self.path, || {
            ops::fresh_stat(cx, &self.node, self.own.as_deref())
        })
    }

    /// Changes attributes; a new size needs a file that is open for writing (`EINVAL`).
    pub fn set_attr(&self, cx: &Context<'_>, set: &SetAttr) -> Result<()> {
        run("fsetattr", &self.path, || {
            if self.is_path() {
                return Err(Errno::EBADF.into());
            }
            if set.size.is_some() && !self.is_writable() {
                return Err(Errno::EINVAL.into());
            }
            let handle = if self.is_writable() {
                Some(self.writer()?)
            } else {
                self.own.clone().or_else(|| self.node.inode().any_handle())
            };
            ops::change_attributes(cx, &self.node, set, handle.as_deref())
        })
    }

    /// Has what was written reach stable storage, and tells of errors that nobody was told of.
    pub fn sync(&self, cx: &Context<'_>, data_only: bool) -> Result<()> {
        run("fsync", &self.path, || {
            if self.is_path() {
                return Err(Errno::EBADF.into());
            }
            let inode = self.node.inode();
            let handle = self.own.clone().or_else(|| inode.any_handle());
            let synced = handle.map_or(Ok(()), |handle| handle.sync(cx, data_only));
            if let Err(failure) = synced {
                // For the other descriptions of this file.
                inode.open().errors.record(failure.errno());
            }
            let earlier = inode.open().errors.since(&mut self.errors_seen.lock());
            synced?;
            earlier.map_or(Ok(()), |errno| Err(errno.into()))
        })
    }

    /// Emits the entries of a directory from where it stands, `.` and `..` first, until there
    /// are no more or `each` breaks; the entry it breaks at counts as read. They are those of
    /// the moment of the first read since the start (semantics 17).
    pub fn read_dir(
        &self,
        cx: &Context<'_>,
        each: &mut dyn FnMut(DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        run("readdir", &self.path, || {
            if !self.is_readable() {
                return Err(Errno::EBADF.into());
            }
            if self.file_type() != FileType::Directory {
                return Err(Errno::ENOTDIR.into());
            }
            let mut position = self.position.lock();
            let read = position.stream.read(cx, &self.node, each);
            self.touch_atime();
            read
        })
    }

    /// [`File::read_dir`] from `offset`, which is 0 or what an entry said was next. At 0 it looks
    /// again.
    pub fn read_dir_at(
        &self,
        cx: &Context<'_>,
        offset: u64,
        each: &mut dyn FnMut(DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        if !self.is_path() && self.file_type() == FileType::Directory {
            self.position.lock().stream.seek(offset, true);
        }
        self.read_dir(cx, each)
    }

    /// The value of an extended attribute; see [`crate::Filesystem::get_xattr`].
    pub fn get_xattr(&self, cx: &Context<'_>, name: &[u8], size: usize) -> Result<Vec<u8>> {
        run("fgetxattr", &self.path, || {
            ops::get(cx, self.unless_path()?, name, size)
        })
    }

    /// Sets an extended attribute.
    pub fn set_xattr(
        &self,
        cx: &Context<'_>,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<()> {
        run("fsetxattr", &self.path, || {
            ops::set(cx, self.unless_path()?, name, value, flags)
        })
    }

    /// The names of all extended attributes.
    pub fn list_xattr(&self, cx: &Context<'_>) -> Result<Vec<Vec<u8>>> {
        run("flistxattr", &self.path, || {
            ops::list(cx, self.unless_path()?)
        })
    }

    /// Removes an extended attribute.
    pub fn remove_xattr(&self, cx: &Context<'_>, name: &[u8]) -> Result<()> {
        run("fremovexattr", &self.path, || {
            ops::remove(cx, self.unless_path()?, name)
        })
    }

    fn unless_path(&self) -> Res<&Node> {
        if self.is_path() {
            return Err(Errno::EBADF.into());
        }
        Ok(&self.node)
    }

    /// What closing one of several descriptors of this description does: the server is told of
    /// what was written, and the caller of errors that nobody was told of.
    pub fn flush(&self, cx: &Context<'_>) -> Result<()> {
        run("flush", &self.path, || {
            let inode = self.node.inode();
            let flushed = self.flush_written(cx);
            if let Err(failure) = flushed {
                // For the other descriptions of this file.
                inode.open().errors.record(failure.errno());
            }
            let earlier = inode.open().errors.since(&mut self.errors_seen.lock());
            flushed?;
            earlier.map_or(Ok(()), |errno| Err(errno.into()))
        })
    }

    fn flush_written(&self, cx: &Context<'_>) -> Res<()> {
        if !self.wrote.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        Ok(self.writer()?.remote.flush(&cx.call())?)
    }

    /// Closes the file. It is closed even if this returns an error: that tells that the server
    /// could not keep something that was written.
    pub fn close(mut self, cx: &Context<'_>) -> Result<()> {
        let closed = self.finish(cx);
        run("close", &self.path, || closed)
    }

    /// What close(2) does, once (semantics 15.7, 16.8).
    fn finish(&mut self, cx: &Context<'_>) -> Res<()> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        self.drop_locks();
        if !self.is_writable() {
            return Ok(());
        }
        let flushed = self.flush_written(cx);
        let inode = self.node.inode();
        if let Some(own) = &self.own {
            own.close_promptly();
        }
        let last = inode.open().writers.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && inode.file_type == FileType::Regular {
            self.node.sb().times.send_later(&self.node);
        }
        flushed
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let creds = Credentials::root();
        let cx = Context {
            deadline: unattended_call().deadline,
            ..Context::new(&creds)
        };
        if let Err(failure) = self.finish(&cx) {
            // Nobody hears of it here; a later fsync of the same file does.
            self.node.inode().open().errors.record(failure.errno());
        }
    }
}

/// Takes set-user-ID and set-group-ID away after a write, on the server and here. The write is
/// done: that this fails must not make it look as if it were not (semantics 24, item 51).
pub(crate) fn drop_privileges(cx: &Context<'_>, node: &Node, mode: Option<u16>) {
    let Some(mode) = mode else {
        return;
    };
    let set = SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    };
    let inode = node.inode();
    let handle = inode.any_handle();
    let through = handle.as_ref().map(|handle| &*handle.remote);
    match node.remote().set_attr(&cx.call(), &set, through) {
        Ok(report) if report.failed.is_empty() => inode.change(|meta| meta.set_mode(mode)),
        Ok(_) => {}
        Err(error) => tracing::warn!(errno = %error.errno, "dropping set-user-ID failed"),
    }
}
