//! The line between this crate and the protocols: what a gofer must be able to do.
//!
//! Three object-safe, blocking traits. [`RemoteFilesystem`] is one attached tree,
//! [`RemoteFile`] a place in it that is not open, [`RemoteHandle`] an open file. A protocol crate
//! implements them; nothing else crosses this line.
//!
//! All methods may be called from many threads at once unless they say otherwise. None may be
//! called with a lock held that another reader needs, but for those marked *queues only*.
//! Dropping a file or handle releases it on the server: that queues only, too.

use std::any::Any;
use std::io::{IoSlice, IoSliceMut};
use std::ops::ControlFlow;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Instant;

use crate::attr::{Attr, AttrMask, FileType, SetAttr, SetAttrReport, StatFs};
use crate::error::Errno;
use crate::flags::{Access, AllocMode, RenameFlags, XattrFlags};
use crate::name::Name;

pub use gofer_transport::Cancel;

/// Goes with every call that may block: how long it may take, and how to give it up.
#[derive(Clone, Copy, Default)]
pub struct Call<'a> {
    /// When to give up with `ETIMEDOUT`; `None` waits as long as the connection lives.
    pub deadline: Option<Instant>,
    /// Gives the call up with `EINTR` when it is set off.
    pub cancel: Option<&'a Cancel>,
}

/// What the caller may assume about a failed request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The server answered with this error.
    Refused,
    /// The request never left this process.
    NotSent,
    /// It left, and no answer came: it may or may not have been carried out.
    Unknown,
}

/// Why a remote call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemoteError {
    /// The number for the caller; a dead or malformed peer is `EIO`.
    pub errno: Errno,
    /// What happened to the request.
    pub fate: Fate,
}

impl RemoteError {
    /// The server said no.
    pub fn refused(errno: Errno) -> RemoteError {
        RemoteError {
            errno,
            fate: Fate::Refused,
        }
    }

    /// Failed before anything was sent.
    pub fn not_sent(errno: Errno) -> RemoteError {
        RemoteError {
            errno,
            fate: Fate::NotSent,
        }
    }

    /// Sent, and no usable answer.
    pub fn unknown(errno: Errno) -> RemoteError {
        RemoteError {
            errno,
            fate: Fate::Unknown,
        }
    }
}

/// What remote calls return.
pub type RemoteResult<T> = Result<T, RemoteError>;

/// The server's identity of a file, comparable only within one epoch (one connection).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileKey {
    /// Counts connections of one filesystem.
    pub epoch: u32,
    /// The number of the file, then of the device or whatever else makes it unique.
    pub id: [u64; 2],
}

/// A file that was walked to or made. The receiver owns `file`.
pub struct Found {
    /// The place in the tree.
    pub file: Arc<dyn RemoteFile>,
    /// Its identity.
    pub key: FileKey,
    /// Its attributes at that moment.
    pub attr: Attr,
}

/// A file that was looked at.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Seen {
    pub key: FileKey,
    pub attr: Attr,
}

/// Why a walk ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WalkEnd {
    /// All names were walked.
    Complete,
    /// The name after the last file found does not exist.
    Missing,
    /// The last file found is a symbolic link and names remain.
    Symlink,
    /// More names need another round trip: call again from the last file found.
    CallAgain,
}

/// Bytes moved and the error that stopped the transfer, if any.
///
/// Fewer bytes than asked without an error means end of file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Moved {
    /// Bytes that were moved.
    pub n: usize,
    /// What stopped it.
    pub error: Option<RemoteError>,
}

impl Moved {
    /// Nothing was moved: the request was refused.
    pub fn refused(errno: Errno) -> Moved {
        Moved {
            n: 0,
            error: Some(RemoteError::refused(errno)),
        }
    }
}

/// When a handle or file that is no longer needed reaches the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promptness {
    /// With others, some time.
    Batched,
    /// Now: it frees disk space or wakes somebody.
    Prompt,
}

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct OpenMode {
    pub access: Access,
    pub truncate: bool,
}

/// What [`RemoteFile::make`] makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum New<'a> {
    Dir,
    Regular,
    /// With its target.
    Symlink(&'a [u8]),
    Fifo,
    Socket,
    Char(crate::attr::Device),
    Block(crate::attr::Device),
}

impl New<'_> {
    /// The type of what is made.
    pub fn file_type(&self) -> FileType {
        match self {
            New::Dir => FileType::Directory,
            New::Regular => FileType::Regular,
            New::Symlink(_) => FileType::Symlink,
            New::Fifo => FileType::Fifo,
            New::Socket => FileType::Socket,
            New::Char(_) => FileType::CharDevice,
            New::Block(_) => FileType::BlockDevice,
        }
    }
}

/// Owner of a file that is made; `None` leaves the choice to the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Owner {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// The type of a Unix socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum SocketType {
    Stream,
    Datagram,
    SeqPacket,
    /// Whatever the listener is.
    Any,
}

/// A place in a listing: opaque, 0 is the start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct DirPos(pub u64);

/// One entry of a listing, borrowed from the reply.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// A valid name; `.` and `..` never come.
    pub name: Name<'a>,
    /// Its identity.
    pub key: FileKey,
    /// The type, where the server says.
    pub file_type: Option<FileType>,
    /// Attributes, from servers that list with attributes.
    pub attr: Option<Attr>,
    /// Where to go on after this entry.
    pub next: DirPos,
}

/// A byte-range lock. `length` 0 reaches to the end of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct FileLock {
    pub kind: LockKind,
    pub start: u64,
    pub length: u64,
    /// Who holds it, a number of the caller's choice.
    pub owner: u32,
}

/// What a [`FileLock`] does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum LockKind {
    Read,
    Write,
    Unlock,
}

/// What a server can do. Constant while a connection lives.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// Protocol and version in words, such as `9P2000.L.Google.13`.
    pub protocol: String,
    /// Flags that [`RemoteFile::rename`] may be given.
    pub rename_flags: RenameFlags,
    /// Whether a walk can find several names in one round trip.
    pub multi_walk: bool,
    /// Whether files are made with the owner asked for.
    pub owner_on_create: bool,
    /// Whether [`RemoteHandle::lock`] works.
    pub locks: bool,
    /// Whether extended attributes may work.
    pub xattrs: bool,
    /// Whether [`RemoteHandle::allocate`] may work.
    pub allocate: bool,
    /// Most data bytes of one read request.
    pub read_size_max: usize,
    /// Most data bytes of one write request.
    pub write_size_max: usize,
}

/// Counts of what went over a connection since it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Times a caller waited for the server; requests sent together count once.
    pub round_trips: u64,
    /// Requests sent.
    pub requests: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
}

/// What a connection holds now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Holdings {
    /// Files and handles that the server keeps for this client.
    pub files: u64,
    /// Of those, such as were given up and of which the server has still to be told.
    pub closing: u64,
}

/// One attached tree.
pub trait RemoteFilesystem: Send + Sync {
    /// Attaches and returns the root, which need not be a directory. May be repeated.
    fn root(&self, call: &Call<'_>) -> RemoteResult<Found>;

    /// What the server can do; the same after [`RemoteFilesystem::reattach`].
    fn capabilities(&self) -> &Capabilities;

    /// Counts so far.
    fn traffic(&self) -> Traffic;

    /// What is held now. Does not wait for the server.
    fn holdings(&self) -> Holdings;

    /// Writes everything these handles have to stable storage. `done` gets one result per
    /// handle; they stay referenced throughout.
    fn sync_all(
        &self,
        call: &Call<'_>,
        handles: &[Arc<dyn RemoteHandle>],
        done: &mut dyn FnMut(usize, RemoteResult<()>),
    );

    /// Sends queued closes now.
    fn flush_closes(&self, call: &Call<'_>) -> RemoteResult<()>;

    /// Tells `sink` of loss and of changes by others. Called with no lock held.
    fn subscribe(&self, sink: Weak<dyn RemoteEvents>);

    /// Makes a new connection in place of the old one, of the next epoch. Files and handles of
    /// the old one answer `ESTALE` with [`Fate::NotSent`] from then on; identities of the two
    /// compare if the server numbers files alike. Fails with [`Fate::NotSent`] and leaves things
    /// as they are where the server cannot be reached; `EOPNOTSUPP` where it never can again.
    fn reattach(&self, call: &Call<'_>) -> RemoteResult<()> {
        let _ = call;
        Err(RemoteError::not_sent(Errno::EOPNOTSUPP))
    }

    /// Ends the connection: wakes every caller with `EIO`. Bounded time, idempotent.
    fn shutdown(&self);
}

/// What a connection may report by itself.
pub trait RemoteEvents: Send + Sync {
    /// The connection of this epoch is gone.
    fn lost(&self, epoch: u32);
    /// A file changed; with `name`: that entry of this directory.
    fn changed(&self, key: FileKey, name: Option<&[u8]>);
    /// Changes were missed: anything may have changed.
    fn overflow(&self);
}

/// A place in the tree, not open.
///
/// `&dyn RemoteFile` arguments that belong to another filesystem are `EXDEV`.
pub trait RemoteFile: Any + Send + Sync {
    /// Walks down `names` (at least one), following no link, and emits each file found, in
    /// order. One round trip: where more names would need another, ends with
    /// [`WalkEnd::CallAgain`]. What was emitted is the caller's, even on error. A first name that
    /// is missing is `Ok(Missing)` with nothing emitted.
    fn walk(
        &self,
        call: &Call<'_>,
        names: &[Name<'_>],
        found: &mut dyn FnMut(Found),
    ) -> RemoteResult<WalkEnd>;

    /// Looks at this file and then at each of `known`, which lies in the one before. One round
    /// trip; a protocol without a message for it pipelines. Emits what it sees, in order, under
    /// the *names*; ends without error at the first name that is missing and after the first
    /// file that is not a directory.
    fn revalidate(
        &self,
        call: &Call<'_>,
        known: &[(Name<'_>, &dyn RemoteFile)],
        seen: &mut dyn FnMut(Seen),
    ) -> RemoteResult<()>;

    /// Attributes now. May give more or fewer fields than wanted. Works on unlinked files.
    fn attr(&self, call: &Call<'_>, want: AttrMask) -> RemoteResult<Attr>;

    /// Changes attributes. Partial success is `Ok` with the failures in the report. `through` is
    /// an open handle of the same file, for servers that need one once the name is gone.
    fn set_attr(
        &self,
        call: &Call<'_>,
        set: &SetAttr,
        through: Option<&dyn RemoteHandle>,
    ) -> RemoteResult<SetAttrReport>;

    /// Opens the file. Never blocks on a fifo: `ENXIO` for writing without a reader.
    fn open(&self, call: &Call<'_>, mode: OpenMode) -> RemoteResult<Arc<dyn RemoteHandle>>;

    /// Makes a regular file in this directory and opens it. Always exclusive: `EEXIST` when the
    /// name is taken. `perm` is taken as it is, without a umask.
    fn create(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        perm: u16,
        owner: Owner,
        mode: OpenMode,
    ) -> RemoteResult<(Found, Arc<dyn RemoteHandle>)>;

    /// Makes anything else in this directory. `None` where naming the result would cost another
    /// round trip.
    fn make(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        new: New<'_>,
        perm: u16,
        owner: Owner,
    ) -> RemoteResult<Option<Found>>;

    /// Makes `name` in this directory another name of `target`. `None` as for `make`.
    fn link(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        target: &dyn RemoteFile,
    ) -> RemoteResult<Option<Found>>;

    /// Removes `name` from this directory; `dir`: it is an (empty) directory. `child` is the
    /// file of that name if the caller has it, for servers that cannot remove by name.
    fn unlink(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        dir: bool,
        child: Option<&dyn RemoteFile>,
    ) -> RemoteResult<()>;

    /// Renames `from` in this directory to `to.1` in directory `to.0`. `moved` is the file if the
    /// caller has it, for servers that cannot rename by name. `flags` only from
    /// [`Capabilities::rename_flags`].
    fn rename(
        &self,
        call: &Call<'_>,
        from: Name<'_>,
        moved: Option<&dyn RemoteFile>,
        to: (&dyn RemoteFile, Name<'_>),
        flags: RenameFlags,
    ) -> RemoteResult<()>;

    /// The target of a symbolic link; never empty.
    fn read_link(&self, call: &Call<'_>) -> RemoteResult<Vec<u8>>;

    /// Numbers of the file system this file is on.
    fn stat_fs(&self, call: &Call<'_>) -> RemoteResult<StatFs>;

    /// The whole value of an extended attribute. `limit` is the caller's buffer, a hint; 0: none.
    fn get_xattr(&self, call: &Call<'_>, name: &[u8], limit: usize) -> RemoteResult<Vec<u8>>;

    /// Sets an extended attribute.
    fn set_xattr(
        &self,
        call: &Call<'_>,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> RemoteResult<()>;

    /// Emits the name of each extended attribute.
    fn list_xattr(&self, call: &Call<'_>, each: &mut dyn FnMut(&[u8])) -> RemoteResult<()>;

    /// Removes an extended attribute.
    fn remove_xattr(&self, call: &Call<'_>, name: &[u8]) -> RemoteResult<()>;

    /// Connects to the Unix socket this file is.
    fn connect(&self, call: &Call<'_>, kind: SocketType) -> RemoteResult<OwnedFd>;

    /// Makes a Unix socket `name` in this directory, bound.
    fn bind(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        kind: SocketType,
        perm: u16,
        owner: Owner,
    ) -> RemoteResult<(Found, Box<dyn RemoteSocket>)>;

    /// Gives the file up on the server. Queues only, safe under any lock, idempotent; no other
    /// call may follow. Dropping does `release(Batched)`.
    fn release(&self, when: Promptness);
}

/// An open file. All methods may run at once, but for `read_dir`.
///
/// What is provided are the answers of a stream that no server has a part in: one of this client
/// alone. A handle on a server implements all.
pub trait RemoteHandle: Any + Send + Sync {
    /// Reads at `offset`, splitting to what the protocol can carry.
    fn read_at(&self, call: &Call<'_>, into: &mut [IoSliceMut<'_>], offset: u64) -> Moved;

    /// Writes at `offset`. A server that takes nothing without an error is `EIO`.
    fn write_at(&self, call: &Call<'_>, from: &[IoSlice<'_>], offset: u64) -> Moved;

    /// Reads entries after `from`, at most one round trip. `each` may break: the last entry's
    /// `next` then resumes. Returns whether more may follow; `false` is the end.
    fn read_dir(
        &self,
        call: &Call<'_>,
        from: DirPos,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> RemoteResult<bool> {
        let _ = (call, from, each);
        Err(RemoteError::refused(Errno::ENOTDIR))
    }

    /// Attributes of the open file, also when it has no name any more.
    fn attr(&self, call: &Call<'_>, want: AttrMask) -> RemoteResult<Attr>;

    /// What close(2) does before it closes a written file; success where the server has none.
    fn flush(&self, call: &Call<'_>) -> RemoteResult<()> {
        let _ = call;
        Ok(())
    }

    /// fsync(2), or fdatasync(2) where the protocol knows the difference.
    fn sync(&self, call: &Call<'_>, data_only: bool) -> RemoteResult<()> {
        let _ = (call, data_only);
        Err(RemoteError::refused(Errno::EINVAL))
    }

    /// fallocate(2).
    fn allocate(
        &self,
        call: &Call<'_>,
        mode: AllocMode,
        offset: u64,
        len: u64,
    ) -> RemoteResult<()> {
        let _ = (call, mode, offset, len);
        Err(RemoteError::refused(Errno::ESPIPE))
    }

    /// Where data (or a hole) begins at or after `offset`; `EOPNOTSUPP` where unknown.
    fn seek_data(&self, call: &Call<'_>, offset: u64, hole: bool) -> RemoteResult<u64> {
        let _ = (call, offset, hole);
        Err(RemoteError::refused(Errno::ESPIPE))
    }

    /// Sets or removes a lock on the server. Never waits: `EAGAIN` when another holds it. Success
    /// where there is nobody but this client.
    fn lock(&self, call: &Call<'_>, lock: &FileLock) -> RemoteResult<()>;

    /// A lock that would stand in the way.
    fn test_lock(&self, call: &Call<'_>, lock: &FileLock) -> RemoteResult<Option<FileLock>>;

    /// A host descriptor of the same file with no more rights than this handle, if the server
    /// donated one. Non-blocking.
    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Closes the handle on the server. `Prompt` waits for the answer. Idempotent. Dropping does
    /// `close(Batched)`, which queues only.
    fn close(&self, call: &Call<'_>, when: Promptness) -> RemoteResult<()>;
}

/// A Unix socket bound on the server.
pub trait RemoteSocket: Any + Send + Sync {
    /// listen(2).
    fn listen(&self, call: &Call<'_>, backlog: u32) -> RemoteResult<()>;
    /// accept(2). Never waits: `EAGAIN`; [`RemoteSocket::poll_fd`] tells when to try again.
    fn accept(&self, call: &Call<'_>) -> RemoteResult<OwnedFd>;
    /// Becomes readable when a connection waits.
    fn poll_fd(&self) -> BorrowedFd<'_>;
}
