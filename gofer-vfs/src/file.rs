//! [`File`]: an open file description. Regular files and directories are done here; files
//! without offsets in [`crate::special`].

mod allocate;
mod copy;
mod data;
mod map;
mod ready;
mod saved;
mod seek;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::attr::{FileType, SetAttr};
use crate::context::{Context, unattended_call};
use crate::dentry::Node;
use crate::directory::{DirectoryEntry, Stream};
use crate::error::{Errno, Result};
use crate::file_locks;
use crate::filesystem::{Stat, run};
use crate::flags::{OpenFlags, XattrFlags};
use crate::handle::Handle;
use crate::inode::Seen;
use crate::locks::{Mutex, POSITION, REGISTRY};
use crate::notify::EventMask;
use crate::ops;
use crate::page_cache::{PageCache, ReadAhead};
use crate::permissions::{Credentials, mode_after_write};
use crate::superblock::Res;

pub use ready::Readiness;
pub(crate) use saved::State as SavedState;
pub use seek::Whence;

/// The largest offset a file can have.
const OFFSET_MAX: u64 = i64::MAX as u64;

/// An open file. Dropping it closes it and loses the error; [`File::close`] returns it.
///
/// Methods may be called from many threads. Those that use the offset wait for each other, and an
/// append for other writes to the file. They block as those of [`crate::Filesystem`] do. `EBADF`
/// for what it was not opened for, and for nearly everything with `PATH`.
pub struct File {
    node: Node,
    flags: OpenFlags,
    /// A handle of this description alone; others share the inode's.
    own: Option<Arc<Handle>>,
    position: Mutex<Position, POSITION>,
    errors_seen: Mutex<Seen, REGISTRY>,
    ahead: ReadAhead,
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

impl File {
    pub(crate) fn new(node: Node, flags: OpenFlags, own: Option<Arc<Handle>>, path: &[u8]) -> File {
        let lock_id = node.sb().next_serial();
        let file = File {
            errors_seen: Mutex::new(node.inode().open().errors.end()),
            node,
            flags,
            own,
            position: Mutex::new(Position::default()),
            ahead: ReadAhead::default(),
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
        if !file.is_path() {
            file.node.notify(EventMask::OPEN);
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

    /// The attributes; in shared mode as the server knows them now.
    pub fn stat(&self, cx: &Context<'_>) -> Result<Stat> {
        run("fstat", &self.path, || {
            ops::fresh_stat(cx, &self.node, self.own.as_deref())
        })
    }

    /// Changes attributes; a new size needs a file that is open for writing (`EINVAL`), and no
    /// permission. Else as [`crate::Filesystem::set_attr`].
    pub fn set_attr(&self, cx: &Context<'_>, set: &SetAttr) -> Result<()> {
        run("fsetattr", &self.path, || {
            ops::check_size(set)?;
            if self.is_path() {
                return Err(Errno::EBADF.into());
            }
            if set.size.is_some() && !self.is_writable() {
                return Err(Errno::EINVAL.into());
            }
            ops::learn_permissions(cx, &self.node, set, self.own.as_deref())?;
            let handle = if self.is_writable() {
                Some(self.writer()?)
            } else {
                self.own.clone().or_else(|| self.node.inode().any_handle())
            };
            ops::change_attributes(cx, &self.node, set, handle.as_deref())
        })
    }

    /// Has what was written to the file, by anybody here, reach stable storage: `fsync(2)`, or
    /// `fdatasync(2)` for the data only. Tells of errors since this description last asked, each
    /// once: `EIO`, `ENOSPC`, whatever the server said of data that was written before.
    pub fn sync(&self, cx: &Context<'_>, data_only: bool) -> Result<()> {
        run("fsync", &self.path, || {
            if self.is_path() {
                return Err(Errno::EBADF.into());
            }
            let inode = self.node.inode();
            let written = inode.write_back(cx);
            let handle = self.own.clone().or_else(|| inode.any_handle());
            let synced = handle.map_or(Ok(()), |handle| handle.sync(cx, data_only));
            if let Err(failure) = synced {
                // For the other descriptions of this file.
                inode.open().errors.record(failure.errno());
            }
            let earlier = inode.open().errors.since(&mut self.errors_seen.lock());
            written?;
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
            if self.is_path() {
                return Err(Errno::EBADF.into());
            }
            if self.file_type() != FileType::Directory {
                return Err(Errno::ENOTDIR.into());
            }
            let mut position = self.position.lock();
            let read = position.stream.read(cx, &self.node, each);
            self.touch_atime();
            drop(position);
            if read.is_ok() {
                self.node.notify(EventMask::ACCESS);
            }
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
            ops::check_xattr_name(name)?;
            ops::get(cx, self.unless_path()?, name, size)
        })
    }

    /// Sets an extended attribute; see [`crate::Filesystem::set_xattr`].
    pub fn set_xattr(
        &self,
        cx: &Context<'_>,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<()> {
        run("fsetxattr", &self.path, || {
            ops::check_xattr(name, value, flags)?;
            ops::set(cx, self.unless_path()?, name, value, flags)
        })
    }

    /// The names of all extended attributes; see [`crate::Filesystem::list_xattr`].
    pub fn list_xattr(&self, cx: &Context<'_>) -> Result<Vec<Vec<u8>>> {
        run("flistxattr", &self.path, || {
            ops::list(cx, self.unless_path()?)
        })
    }

    /// Removes an extended attribute; see [`crate::Filesystem::remove_xattr`].
    pub fn remove_xattr(&self, cx: &Context<'_>, name: &[u8]) -> Result<()> {
        run("fremovexattr", &self.path, || {
            ops::check_xattr_name(name)?;
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
        // What was not sent yet has nothing to be flushed for.
        let unsent = self.node.inode().cache().is_some_and(PageCache::is_dirty);
        if unsent || !self.wrote.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        Ok(self.writer()?.remote.flush(&cx.call())?)
    }

    /// Closes the file. It is closed even if this returns an error: that tells that the server
    /// could not keep something that was written. In exclusive mode it may not have been sent
    /// yet: [`File::sync`] waits for that.
    pub fn close(mut self, cx: &Context<'_>) -> Result<()> {
        let closed = self.finish(cx);
        let inode = self.node.inode();
        let earlier = match self.is_writable() {
            true => inode.open().errors.since(&mut self.errors_seen.lock()),
            false => None,
        };
        run("close", &self.path, || {
            closed?;
            earlier.map_or(Ok(()), |errno| Err(errno.into()))
        })
    }

    /// What close(2) does, once (semantics 15.7, 16.8).
    fn finish(&mut self, cx: &Context<'_>) -> Res<()> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        self.drop_locks();
        if !self.is_path() {
            self.node.notify(match self.is_writable() {
                true => EventMask::CLOSE_WRITE,
                false => EventMask::CLOSE_NOWRITE,
            });
        }
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
    let inode = node.inode();
    let mode = match mode {
        // Others may have set another mode, of which nothing else may be taken or given.
        Some(_) if node.sb().mode.must_revalidate() => {
            let refreshed = inode.refresh(cx, &*node.remote(), None);
            refreshed.map_or(mode, |()| mode_after_write(cx.creds, &inode.attr()))
        }
        mode => mode,
    };
    let Some(mode) = mode else {
        return;
    };
    let set = SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    };
    let handle = inode.any_handle();
    let through = handle.as_ref().map(|handle| &*handle.remote);
    match node.remote().set_attr(&cx.call(), &set, through) {
        Ok(report) if report.failed.is_empty() => {
            inode.change(|meta| meta.set_mode(mode));
            node.notify(EventMask::ATTRIB);
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(errno = %error.errno, "dropping set-user-ID failed"),
    }
}
