//! A server of a tree as large as one likes that is not stored but follows from a rule: for tests
//! of what the client keeps of it.
//!
//! The root has directories, each of them has as many files. Nothing can be changed or opened but
//! directories, which can be listed.

use std::io::{IoSlice, IoSliceMut, Write as _};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::attr::{Attr, AttrMask, FileType, SetAttr, SetAttrReport, StatFs, Timestamp};
use crate::error::Errno;
use crate::flags::{AllocMode, RenameFlags, XattrFlags};
use crate::name::Name;
use crate::remote::{
    Call, Capabilities, DirEntry, DirPos, FileKey, FileLock, Found, Holdings, Moved, New, OpenMode,
    Owner, Promptness, RemoteError, RemoteEvents, RemoteFile, RemoteFilesystem, RemoteHandle,
    RemoteResult, RemoteSocket, Seen, SocketType, Traffic, WalkEnd,
};
use crate::testing::mem_remote::MemConfig;

/// Entries in one answer to a listing.
const BATCH: u64 = 1000;

/// Where the numbers of files in directory `d` begin: `d * DIRECTORY`. The directory itself is
/// the first of them, and the root is 0.
const DIRECTORY: u64 = 1 << 32;

/// See the module. Clones are the same connection.
#[derive(Clone)]
pub struct WideRemote(Arc<Tree>);

struct Tree {
    directories: u64,
    files: u64,
    capabilities: Capabilities,
    round_trips: AtomicU64,
}

impl WideRemote {
    /// A tree of `directories` directories (`d0`, `d1`, ...) with `files` files (`file0`, ...)
    /// each.
    pub fn new(directories: u64, files: u64) -> WideRemote {
        WideRemote(Arc::new(Tree {
            directories,
            files,
            capabilities: MemConfig::like_lisafs().capabilities,
            round_trips: AtomicU64::new(0),
        }))
    }
}

impl Tree {
    fn trip(&self) {
        self.round_trips.fetch_add(1, Ordering::Relaxed);
    }

    fn is_dir(ino: u64) -> bool {
        ino.is_multiple_of(DIRECTORY)
    }

    /// The prefix of the names in a directory, and how many there are.
    fn names(&self, dir: u64) -> (&'static str, u64) {
        match dir {
            0 => ("d", self.directories),
            _ => ("file", self.files),
        }
    }

    /// The file of an index in a directory.
    fn child(dir: u64, index: u64) -> u64 {
        match dir {
            0 => (index + 1) * DIRECTORY,
            _ => dir + index + 1,
        }
    }

    fn lookup(&self, dir: u64, name: &[u8]) -> Option<u64> {
        let (prefix, count) = self.names(dir);
        let digits = std::str::from_utf8(name).ok()?.strip_prefix(prefix)?;
        let index: u64 = digits.parse().ok()?;
        (index < count && digits == index.to_string()).then(|| Tree::child(dir, index))
    }

    fn attr(ino: u64) -> Attr {
        let is_dir = Tree::is_dir(ino);
        let mut attr = Attr::of_type(match is_dir {
            true => FileType::Directory,
            false => FileType::Regular,
        });
        attr.mask = AttrMask::all();
        attr.mode = if is_dir { 0o755 } else { 0o644 };
        attr.nlink = if is_dir { 2 } else { 1 };
        attr.block_size = 4096;
        let time = Timestamp {
            sec: 1_000_000_000 + (ino % 1000) as i64,
            nsec: 5,
        };
        (attr.atime, attr.mtime, attr.ctime, attr.btime) = (time, time, time, time);
        attr
    }
}

/// A place in the tree, and also what is open.
struct WideFile {
    tree: Arc<Tree>,
    ino: u64,
}

impl WideFile {
    fn found(tree: &Arc<Tree>, ino: u64) -> Found {
        Found {
            file: Arc::new(WideFile {
                tree: tree.clone(),
                ino,
            }),
            key: key(ino),
            attr: Tree::attr(ino),
        }
    }
}

fn key(ino: u64) -> FileKey {
    FileKey {
        epoch: 0,
        id: [ino + 1, 0],
    }
}

fn refused<T>(errno: Errno) -> RemoteResult<T> {
    Err(RemoteError::refused(errno))
}

impl RemoteFilesystem for WideRemote {
    fn root(&self, _: &Call<'_>) -> RemoteResult<Found> {
        self.0.trip();
        Ok(WideFile::found(&self.0, 0))
    }

    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    fn traffic(&self) -> Traffic {
        let round_trips = self.0.round_trips.load(Ordering::Relaxed);
        Traffic {
            round_trips,
            requests: round_trips,
            ..Traffic::default()
        }
    }

    /// Files have no state.
    fn holdings(&self) -> Holdings {
        Holdings::default()
    }

    fn sync_all(
        &self,
        _: &Call<'_>,
        handles: &[Arc<dyn RemoteHandle>],
        done: &mut dyn FnMut(usize, RemoteResult<()>),
    ) {
        (0..handles.len()).for_each(|index| done(index, Ok(())));
    }

    fn flush_closes(&self, _: &Call<'_>) -> RemoteResult<()> {
        Ok(())
    }

    fn subscribe(&self, _: Weak<dyn RemoteEvents>) {}

    fn shutdown(&self) {}
}

impl RemoteFile for WideFile {
    fn walk(
        &self,
        _: &Call<'_>,
        names: &[Name<'_>],
        found: &mut dyn FnMut(Found),
    ) -> RemoteResult<WalkEnd> {
        self.tree.trip();
        let mut here = self.ino;
        for (index, name) in names.iter().enumerate() {
            if !Tree::is_dir(here) {
                return match index {
                    0 => refused(Errno::ENOTDIR),
                    _ => Ok(WalkEnd::CallAgain),
                };
            }
            match self.tree.lookup(here, name.as_bytes()) {
                Some(ino) => here = ino,
                None => return Ok(WalkEnd::Missing),
            }
            found(WideFile::found(&self.tree, here));
        }
        Ok(WalkEnd::Complete)
    }

    fn revalidate(
        &self,
        _: &Call<'_>,
        known: &[(Name<'_>, &dyn RemoteFile)],
        seen: &mut dyn FnMut(Seen),
    ) -> RemoteResult<()> {
        self.tree.trip();
        let mut here = self.ino;
        let mut see = |ino| {
            seen(Seen {
                key: key(ino),
                attr: Tree::attr(ino),
            });
        };
        see(here);
        for (name, _) in known {
            match self.tree.lookup(here, name.as_bytes()) {
                Some(ino) if Tree::is_dir(here) => here = ino,
                _ => break,
            }
            see(here);
        }
        Ok(())
    }

    fn attr(&self, _: &Call<'_>, _: AttrMask) -> RemoteResult<Attr> {
        self.tree.trip();
        Ok(Tree::attr(self.ino))
    }

    fn open(&self, _: &Call<'_>, mode: OpenMode) -> RemoteResult<Arc<dyn RemoteHandle>> {
        self.tree.trip();
        match Tree::is_dir(self.ino) {
            true if mode.access.can_write() => refused(Errno::EISDIR),
            true => Ok(Arc::new(WideFile {
                tree: self.tree.clone(),
                ino: self.ino,
            })),
            false => refused(Errno::EACCES),
        }
    }

    fn stat_fs(&self, _: &Call<'_>) -> RemoteResult<StatFs> {
        self.tree.trip();
        Ok(StatFs::default())
    }

    fn set_attr(
        &self,
        _: &Call<'_>,
        _: &SetAttr,
        _: Option<&dyn RemoteHandle>,
    ) -> RemoteResult<SetAttrReport> {
        refused(Errno::EROFS)
    }

    fn create(
        &self,
        _: &Call<'_>,
        _: Name<'_>,
        _: u16,
        _: Owner,
        _: OpenMode,
    ) -> RemoteResult<(Found, Arc<dyn RemoteHandle>)> {
        refused(Errno::EROFS)
    }

    fn make(
        &self,
        _: &Call<'_>,
        _: Name<'_>,
        _: New<'_>,
        _: u16,
        _: Owner,
    ) -> RemoteResult<Option<Found>> {
        refused(Errno::EROFS)
    }

    fn link(&self, _: &Call<'_>, _: Name<'_>, _: &dyn RemoteFile) -> RemoteResult<Option<Found>> {
        refused(Errno::EROFS)
    }

    fn unlink(
        &self,
        _: &Call<'_>,
        _: Name<'_>,
        _: bool,
        _: Option<&dyn RemoteFile>,
    ) -> RemoteResult<()> {
        refused(Errno::EROFS)
    }

    fn rename(
        &self,
        _: &Call<'_>,
        _: Name<'_>,
        _: Option<&dyn RemoteFile>,
        _: (&dyn RemoteFile, Name<'_>),
        _: RenameFlags,
    ) -> RemoteResult<()> {
        refused(Errno::EROFS)
    }

    fn read_link(&self, _: &Call<'_>) -> RemoteResult<Vec<u8>> {
        refused(Errno::EINVAL)
    }

    fn get_xattr(&self, _: &Call<'_>, _: &[u8], _: usize) -> RemoteResult<Vec<u8>> {
        refused(Errno::ENODATA)
    }

    fn set_xattr(&self, _: &Call<'_>, _: &[u8], _: &[u8], _: XattrFlags) -> RemoteResult<()> {
        refused(Errno::EROFS)
    }

    fn list_xattr(&self, _: &Call<'_>, _: &mut dyn FnMut(&[u8])) -> RemoteResult<()> {
        Ok(())
    }

    fn remove_xattr(&self, _: &Call<'_>, _: &[u8]) -> RemoteResult<()> {
        refused(Errno::EROFS)
    }

    fn connect(&self, _: &Call<'_>, _: SocketType) -> RemoteResult<OwnedFd> {
        refused(Errno::ECONNREFUSED)
    }

    fn bind(
        &self,
        _: &Call<'_>,
        _: Name<'_>,
        _: SocketType,
        _: u16,
        _: Owner,
    ) -> RemoteResult<(Found, Box<dyn RemoteSocket>)> {
        refused(Errno::EROFS)
    }

    fn release(&self, _: Promptness) {}
}

impl RemoteHandle for WideFile {
    fn read_dir(
        &self,
        _: &Call<'_>,
        from: DirPos,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> RemoteResult<bool> {
        self.tree.trip();
        let (prefix, count) = self.tree.names(self.ino);
        let end = from.0.saturating_add(BATCH).min(count);
        let mut name = Vec::with_capacity(32);
        for index in from.0..end {
            let ino = Tree::child(self.ino, index);
            name.clear();
            let written = write!(name, "{prefix}{index}");
            let Ok(valid) = Name::new(&name) else {
                return refused(Errno::EIO);
            };
            let entry = DirEntry {
                name: valid,
                key: key(ino),
                file_type: Some(Tree::attr(ino).file_type),
                attr: None,
                next: DirPos(index + 1),
            };
            if written.is_err() || each(entry).is_break() {
                return Ok(true);
            }
        }
        Ok(end < count)
    }

    fn attr(&self, call: &Call<'_>, want: AttrMask) -> RemoteResult<Attr> {
        RemoteFile::attr(self, call, want)
    }

    fn read_at(&self, _: &Call<'_>, _: &mut [IoSliceMut<'_>], _: u64) -> Moved {
        Moved::refused(Errno::EISDIR)
    }

    fn write_at(&self, _: &Call<'_>, _: &[IoSlice<'_>], _: u64) -> Moved {
        Moved::refused(Errno::EISDIR)
    }

    fn sync(&self, _: &Call<'_>, _: bool) -> RemoteResult<()> {
        Ok(())
    }

    fn allocate(&self, _: &Call<'_>, _: AllocMode, _: u64, _: u64) -> RemoteResult<()> {
        refused(Errno::EOPNOTSUPP)
    }

    fn seek_data(&self, _: &Call<'_>, _: u64, _: bool) -> RemoteResult<u64> {
        refused(Errno::EOPNOTSUPP)
    }

    fn lock(&self, _: &Call<'_>, _: &FileLock) -> RemoteResult<()> {
        refused(Errno::EOPNOTSUPP)
    }

    fn test_lock(&self, _: &Call<'_>, _: &FileLock) -> RemoteResult<Option<FileLock>> {
        refused(Errno::EOPNOTSUPP)
    }

    fn close(&self, _: &Call<'_>, _: Promptness) -> RemoteResult<()> {
        Ok(())
    }
}
