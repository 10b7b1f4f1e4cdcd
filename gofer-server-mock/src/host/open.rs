//! Open files: data, space, directory entries, donated descriptors.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::ops::{ControlFlow, Range};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, FileType, OFlags, RawDir, SeekFrom};
use rustix::io::ReadWriteFlags;

use super::mounts::MountPoints;
use super::node::{Identity, file_type};
use super::sys::{self, Held};
use super::{Errno, Fifos, Node, Result, Stat};

/// Flags of open(2) a client may choose beside the access mode; all others are dropped.
const CLIENT_FLAGS: OFlags = OFlags::TRUNC
    .union(OFlags::APPEND)
    .union(OFlags::SYNC)
    .union(OFlags::DSYNC)
    .union(OFlags::NOATIME)
    .union(OFlags::DIRECTORY);

/// Bytes of host records read at a time from a directory.
const DIRECTORY_BUFFER: usize = 64 << 10;

/// Bytes of the smallest host record.
const RECORD_MIN: usize = 24;

/// Bytes of the host's record for an entry: fixed part, name and terminator, rounded up to 8.
pub fn record_size(name: &[u8]) -> usize {
    (19 + name.len() + 1).next_multiple_of(8)
}

/// What came of reading without waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadNow {
    /// So many bytes were read; none, when the file ends before them.
    Done(usize),
    /// The bytes are not in memory.
    WouldWait,
    /// The host cannot read like this.
    Unknown,
}

/// A file that was opened. Keeps its node.
#[derive(Debug)]
pub struct OpenFile {
    node: Arc<Node>,
    fd: Held,
    access: OFlags,
    /// Whether the descriptor allows no more than the client may.
    is_given: bool,
    /// The host does not say whether reading would have to wait.
    cannot_tell: AtomicBool,
    /// Whether writes wait for storage.
    is_synchronous: bool,
    /// Where the host's position in a directory is; `None` when that is not a known cookie.
    position: Mutex<Option<u64>>,
}

impl Node {
    /// Opens the file. Of `flags` the access mode (3 is neither), `O_TRUNC`, `O_APPEND`, `O_SYNC`,
    /// `O_DSYNC`, `O_NOATIME` and `O_DIRECTORY` count. Never blocks: a FIFO without a reader is
    /// `ENXIO` for writing. `EROFS` for writing on a read-only export, `EISDIR` for writing a
    /// directory, `ELOOP` for a symbolic link, `ENXIO` for a socket; `EPERM` for what the policy
    /// forbids, and for devices. Locks: read, or write for `O_TRUNC`.
    pub fn open(self: &Arc<Node>, flags: OFlags) -> Result<OpenFile> {
        let access = flags & OFlags::ACCMODE;
        let flags = access | (flags & CLIENT_FLAGS) | OFlags::NONBLOCK;
        let writes = access != OFlags::RDONLY || flags.contains(OFlags::TRUNC);
        if writes {
            self.policy().check_writable()?;
        }
        match self.file_type() {
            FileType::RegularFile => {}
            FileType::Directory if writes => return Err(Errno::ISDIR),
            FileType::Directory => {}
            FileType::Symlink => return Err(Errno::LOOP),
            FileType::Fifo if self.policy().fifos == Fifos::Open => {}
            FileType::Socket if self.policy().allows_connect() => return Err(Errno::NXIO),
            _ => return Err(Errno::PERM),
        }
        let (_shared, _exclusive);
        if flags.contains(OFlags::TRUNC) {
            _exclusive = self.lock.write();
        } else {
            _shared = self.lock.read();
        }
        let flags = if self.is_dir() {
            flags | OFlags::DIRECTORY
        } else {
            flags
        };
        if let Some(copy) = self.tree.readonly.as_ref().filter(|_| !self.is_dir()) {
            let given = copy.open(self, flags);
            let is_given = given.is_some();
            let fd = given.map_or_else(|| sys::reopen(self, flags), Ok)?;
            let file = OpenFile::new(self.clone(), fd, flags)?;
            return Ok(OpenFile { is_given, ..file });
        }
        let fd = sys::reopen(self, flags)?;
        OpenFile::new(self.clone(), fd, flags)
    }
}

impl OpenFile {
    /// `flags` are those that `fd` was opened with.
    pub(super) fn new(node: Arc<Node>, fd: OwnedFd, flags: OFlags) -> Result<OpenFile> {
        Ok(OpenFile {
            node,
            fd: Held::new(fd)?,
            access: flags & OFlags::ACCMODE,
            is_given: true,
            cannot_tell: AtomicBool::new(false),
            is_synchronous: flags.intersects(OFlags::SYNC | OFlags::DSYNC),
            position: Mutex::new(Some(0)),
        })
    }

    /// The place it was opened at.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Whether data may be read.
    pub fn can_read(&self) -> bool {
        self.access == OFlags::RDONLY || self.access == OFlags::RDWR
    }

    /// Whether data may be written.
    pub fn can_write(&self) -> bool {
        self.access == OFlags::WRONLY || self.access == OFlags::RDWR
    }

    /// Whether writes wait for storage, as the opener asked.
    pub fn is_synchronous(&self) -> bool {
        self.is_synchronous
    }

    /// Attributes of the file, also after its last name is gone. Locks: read.
    pub fn stat(&self) -> Result<Stat> {
        let _file = self.node.lock.read();
        sys::stat(&self.fd)
    }

    /// Reads until `buffer` is full or the file ends; `EBADF` when not open for reading. From a
    /// FIFO, what is there (`EAGAIN` when nothing is). Locks: read.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.read_with(buffer.len(), offset, |file, at, place| {
            let part = buffer.get_mut(place).unwrap_or_default();
            match at {
                Some(at) => rustix::io::pread(file, part, at),
                None => rustix::io::read(file, part),
            }
        })
    }

    /// As [`OpenFile::read_at`], but without waiting for storage: what is in memory of a regular
    /// file, which may be less than there is before its end. Locks: read.
    pub fn read_now(&self, buffer: &mut [u8], offset: u64) -> Result<ReadNow> {
        if self.node.file_type() != FileType::RegularFile || buffer.is_empty() {
            return self.read_at(buffer, offset).map(ReadNow::Done);
        }
        if !self.can_read() {
            return Err(Errno::BADF);
        }
        // This call would take -1 for the position of the descriptor.
        if offset > i64::MAX as u64 {
            return Err(Errno::INVAL);
        }
        if self.cannot_tell.load(Ordering::Relaxed) {
            return Ok(ReadNow::Unknown);
        }
        let _file = self.node.lock.read();
        let parts = &mut [IoSliceMut::new(buffer)];
        match retry(|| rustix::io::preadv2(&self.fd, parts, offset, ReadWriteFlags::NOWAIT)) {
            Ok(count) => Ok(ReadNow::Done(count)),
            Err(Errno::AGAIN) => Ok(ReadNow::WouldWait),
            // A file system, a kernel, or a sandbox without it.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.cannot_tell.store(true, Ordering::Relaxed);
                Ok(ReadNow::Unknown)
            }
            Err(error) => Err(error),
        }
    }

    /// As [`OpenFile::read_at`], into `length` bytes that only `read` can reach: it reads into
    /// some of them, at an offset of the file or, with `None`, whatever comes next.
    pub fn read_with(
        &self,
        length: usize,
        offset: u64,
        mut read: impl FnMut(BorrowedFd<'_>, Option<u64>, Range<usize>) -> Result<usize>,
    ) -> Result<usize> {
        if !self.can_read() {
            return Err(Errno::BADF);
        }
        let _file = self.node.lock.read();
        if self.node.file_type() == FileType::Fifo {
            return retry(|| read(self.fd.as_fd(), None, 0..length));
        }
        let mut filled = 0;
        while filled < length {
            let at = offset.checked_add(filled as u64).ok_or(Errno::INVAL)?;
            match retry(|| read(self.fd.as_fd(), Some(at), filled..length))? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }

    /// Writes all of `data`, or the part before the first error if there is one; `EBADF` when not
    /// open for writing. Locks: write.
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<usize> {
        self.write_with(data.len(), offset, |file, at, place| {
            let part = data.get(place).unwrap_or_default();
            match at {
                Some(at) => rustix::io::pwrite(file, part, at),
                None => rustix::io::write(file, part),
            }
        })
    }

    /// As [`OpenFile::write_at`], from `length` bytes that only `write` can reach: it writes some
    /// of them, at an offset of the file or, with `None`, behind what was written before.
    pub fn write_with(
        &self,
        length: usize,
        offset: u64,
        mut write: impl FnMut(BorrowedFd<'_>, Option<u64>, Range<usize>) -> Result<usize>,
    ) -> Result<usize> {
        if !self.can_write() {
            return Err(Errno::BADF);
        }
        let _file = self.node.lock.write();
        let fifo = self.node.file_type() == FileType::Fifo;
        let mut written = 0;
        loop {
            let at = match fifo {
                true => None,
                false => Some(offset.checked_add(written as u64).ok_or(Errno::INVAL)?),
            };
            let result = retry(|| write(self.fd.as_fd(), at, written..length));
            match result {
                Ok(count) => written += count,
                Err(error) if written == 0 => return Err(error),
                Err(_) => return Ok(written),
            }
            if written == length || result == Ok(0) {
                return Ok(written);
            }
        }
    }

    /// Sets the size through this descriptor, for which the mode of the file does not matter any
    /// more; `EBADF` when not open for writing. Locks: write.
    pub fn set_size(&self, size: u64) -> Result<()> {
        if !self.can_write() {
            return Err(Errno::BADF);
        }
        let _file = self.node.lock.write();
        rustix::fs::ftruncate(&self.fd, size)
    }

    /// Brings the file to stable storage, or its data alone.
    pub fn sync(&self, data_only: bool) -> Result<()> {
        // The host orders this against changes; a lock would only make writers wait for the disk.
        if data_only {
            rustix::fs::fdatasync(&self.fd)
        } else {
            rustix::fs::fsync(&self.fd)
        }
    }

    /// fallocate(2); `mode` is passed on. `EBADF` when not open for writing. Locks: write.
    pub fn allocate(&self, mode: u32, offset: u64, length: u64) -> Result<()> {
        if !self.can_write() {
            return Err(Errno::BADF);
        }
        let _file = self.node.lock.write();
        let mode = FallocateFlags::from_bits_retain(mode);
        rustix::fs::fallocate(&self.fd, mode, offset, length)
    }

    /// Hands the entries of a directory to `visit`, starting after the entry with `cookie` (0:
    /// the first), until it breaks or there are no more. `.` and `..` are among them. Ends also when
    /// the host's records of the others take `most` bytes together. `ENOTDIR` for another file. Locks: read, also while `visit` runs, which must not start another operation
    /// on the tree than [`DirEntry::stat`].
    pub fn read_dir(
        &self,
        cookie: u64,
        most: usize,
        visit: &mut dyn FnMut(&DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        if !self.node.is_dir() {
            return Err(Errno::NOTDIR);
        }
        let mut position = self.position.lock();
        let _dir = self.node.lock.read();
        if *position != Some(cookie) {
            rustix::fs::seek(&self.fd, SeekFrom::Start(cookie))?;
        }
        *position = None;
        let mut next = cookie;
        let mut buffer: Vec<MaybeUninit<u8>> = Vec::new();
        buffer.resize(most.min(DIRECTORY_BUFFER), MaybeUninit::uninit());
        let mut left = most;
        // The host is never asked for more than may be shown: it would have to go back.
        while left >= RECORD_MIN {
            let room = left.min(DIRECTORY_BUFFER);
            let mut records = RawDir::new(&self.fd, buffer.get_mut(..room).unwrap_or_default());
            loop {
                let record = match records.next() {
                    None => {
                        *position = Some(next);
                        return Ok(());
                    }
                    // The next record does not fit.
                    Some(Err(Errno::INVAL)) if room < DIRECTORY_BUFFER => {
                        *position = Some(next);
                        return Ok(());
                    }
                    Some(record) => record?,
                };
                let entry = DirEntry {
                    dir: &self.node,
                    ino: record.ino(),
                    cookie: record.next_entry_cookie(),
                    file_type: record.file_type(),
                    name: record.file_name().to_bytes(),
                };
                if !matches!(entry.name, b"." | b"..") {
                    left = left.saturating_sub(record_size(entry.name));
                }
                if visit(&entry).is_break() {
                    return Ok(());
                }
                next = entry.cookie;
                if records.is_buffer_empty() {
                    break;
                }
            }
        }
        *position = Some(next);
        Ok(())
    }

    /// The descriptor, if the client may be sent a copy: where the export gives them away, of
    /// regular files and FIFOs, in non-blocking mode, with the access the file was opened with.
    /// `None` for others: the descriptor of a directory would lead out of the root. On a read-only
    /// export it cannot be opened again for writing, where the host can be kept from that.
    pub fn donated(&self) -> Option<BorrowedFd<'_>> {
        let kind = self.node.file_type();
        let given_away = matches!(kind, FileType::RegularFile | FileType::Fifo);
        (given_away && self.is_given && self.node.policy().donate).then(|| self.fd.as_fd())
    }

    /// A copy of [`OpenFile::donated`].
    pub fn donate(&self) -> Option<OwnedFd> {
        rustix::io::fcntl_dupfd_cloexec(self.donated()?, 0).ok()
    }

    /// Which entries [`OpenFile::read_dir`] shows may be mount points.
    pub fn mount_points(&self) -> MountPoints {
        self.node.tree.mounts.beside(&self.fd)
    }
}

impl AsFd for OpenFile {
    /// For what this layer does not do itself, such as locks. Never writable on a read-only
    /// export.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An entry of a directory as the host lists it.
#[derive(Debug)]
pub struct DirEntry<'a> {
    dir: &'a Arc<Node>,
    /// Inode number in the directory's own list; that of a mount point is what it covers.
    pub ino: u64,
    /// Where the next entry starts.
    pub cookie: u64,
    /// Its type, [`FileType::Unknown`] where the host's file system does not list it.
    pub file_type: FileType,
    /// Its name.
    pub name: &'a [u8],
}

/// What a listing shows of an entry.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// Which file it is.
    pub identity: Identity,
    /// Its type.
    pub file_type: FileType,
}

impl DirEntry<'_> {
    /// Which file the entry is. Only one that may be a mount point, or whose type the host does
    /// not list, is asked for: all others are on the device of their directory. `None` if it
    /// cannot be looked at, say because it has gone meanwhile: then a listing does without it.
    pub fn listed(&self, mount_points: &MountPoints) -> Option<Listed> {
        if self.file_type == FileType::Unknown || mount_points.may_include(self.name) {
            let stat = self.stat().ok()?;
            return Some(Listed {
                identity: Identity::of(&stat),
                file_type: file_type(&stat),
            });
        }
        let identity = Identity {
            ino: self.ino,
            ..self.dir.identity()
        };
        Some(Listed {
            identity,
            file_type: self.file_type,
        })
    }

    /// Attributes of the entry, not followed. `..` of the root is the root itself.
    pub fn stat(&self) -> Result<Stat> {
        match self.name {
            b"." => sys::stat(self.dir),
            b".." => sys::stat(&*self.dir.parent()),
            name => sys::stat_at(self.dir, name),
        }
    }

    /// The type, from the attributes where the list does not tell. `None` as for
    /// [`DirEntry::listed`].
    pub fn known_type(&self) -> Option<FileType> {
        match self.file_type {
            FileType::Unknown => Some(file_type(&self.stat().ok()?)),
            known => Some(known),
        }
    }
}

/// Repeats an interrupted call.
fn retry<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
