//! What the copy engine needs from either end: the local file system or the remote tree.
//!
//! Everything is named relative to a held directory, so that neither long paths nor links put
//! in the way while copying lead elsewhere.

use gofer_vfs::{Attr, Errno, FileType, SetAttr, SetTime};

use crate::error::CliError;

/// An operation of one side that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// In the words of the system calls.
    pub op: &'static str,
    /// Why.
    pub errno: Errno,
}

impl Fault {
    /// `op` failed with `errno`.
    pub fn new(op: &'static str, errno: impl Into<Errno>) -> Fault {
        Fault {
            op,
            errno: errno.into(),
        }
    }
}

impl From<gofer_vfs::Error> for Fault {
    fn from(error: gofer_vfs::Error) -> Fault {
        Fault {
            op: error.op(),
            errno: error.errno(),
        }
    }
}

/// What operations of a side return.
pub type SideResult<T> = Result<T, Fault>;

/// Names and, where known, types of directory entries.
pub type Batch = Vec<(Vec<u8>, Option<FileType>)>;

/// Entries asked for at once: bounds the memory that a huge directory takes.
pub const BATCH: usize = 1024;

/// One end of a copy.
pub trait Side: Sync {
    /// A held directory.
    type Dir: Settable + Send + Sync;
    /// A listing in progress.
    type List;
    /// A file being read.
    type Reader: Reader;
    /// A file being written.
    type Writer: Writer;

    /// The directory that relative paths of the user start from.
    fn current(&self) -> SideResult<Self::Dir>;

    /// Attributes of `name`; of what it leads to, when `follow`.
    fn attr(&self, dir: &Self::Dir, name: &[u8], follow: bool) -> SideResult<Attr>;

    /// Holds a directory. Inside a copied tree a link in its place is an error.
    fn dir(&self, dir: &Self::Dir, name: &[u8], follow: bool) -> SideResult<Self::Dir>;

    /// Starts to list a held directory.
    fn list(&self, dir: &Self::Dir) -> SideResult<Self::List>;

    /// The next entries, at most [`BATCH`], without `.` and `..`; none at the end.
    fn next(&self, list: &mut Self::List) -> SideResult<Batch>;

    /// What a link says.
    fn read_link(&self, dir: &Self::Dir, name: &[u8]) -> SideResult<Vec<u8>>;

    /// Opens a regular file.
    fn open(&self, dir: &Self::Dir, name: &[u8], follow: bool) -> SideResult<Self::Reader>;

    /// Makes or finds a file, see [`Create`].
    fn create(&self, dir: &Self::Dir, name: &[u8], how: Create) -> SideResult<Self::Writer>;

    /// Makes a directory with `mode`.
    fn make_dir(&self, dir: &Self::Dir, name: &[u8], mode: u16) -> SideResult<()>;

    /// Makes a symbolic link.
    fn make_link(&self, dir: &Self::Dir, name: &[u8], target: &[u8]) -> SideResult<()>;

    /// Makes a fifo or device like the one `attr` describes.
    fn make_node(&self, dir: &Self::Dir, name: &[u8], attr: &Attr) -> SideResult<()>;

    /// Removes a file that is no directory.
    fn unlink(&self, dir: &Self::Dir, name: &[u8]) -> SideResult<()>;

    /// Changes attributes of `name` itself, never of what it leads to.
    fn set(&self, dir: &Self::Dir, name: &[u8], set: &SetAttr) -> SideResult<()>;

    /// Whom new files belong to here.
    fn uid(&self) -> u32;
}

/// How [`Side::create`] opens a file for writing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Create {
    /// A new one with this mode; `EEXIST` when something is there.
    New(u16),
    /// The regular file that is there, cut to nothing; no link is followed.
    Over,
    /// The file that is there, as it is; no link is followed.
    Append,
    /// What the user's path leads to, through links, cut to nothing; made when missing.
    Named(u16),
}

/// A file or directory whose attributes can be changed.
pub trait Settable {
    /// Attributes now.
    fn attr(&self) -> SideResult<Attr>;

    /// Changes attributes.
    fn set(&self, set: &SetAttr) -> SideResult<()>;
}

/// A file being read.
pub trait Reader {
    /// Attributes of the file that was opened.
    fn attr(&self) -> SideResult<Attr>;

    /// Reads some bytes; none is the end.
    fn read_at(&self, into: &mut [u8], offset: u64) -> SideResult<usize>;

    /// Where data begins at or after `offset`; `None` when only a hole is left. A side that
    /// cannot tell says `offset`.
    fn next_data(&self, offset: u64) -> SideResult<Option<u64>>;
}

/// A file being written.
pub trait Writer: Settable {
    /// Writes all of `from`.
    fn write_at(&self, from: &[u8], offset: u64) -> SideResult<()>;

    /// Brings everything to stable storage.
    fn sync(&self) -> SideResult<()>;

    /// Ends, and reports what could not be written.
    fn close(self) -> SideResult<()>;
}

/// Gives `target`, a copy of what `source` describes, its final attributes: the mode always,
/// owner and times with `preserve`. `uid` is who does it.
///
/// Set-ID bits of a file are only given to the same owner: a copy of a program of somebody else
/// must not run with the rights of whoever copied it.
pub fn settle(target: &dyn Settable, source: &Attr, preserve: bool, uid: u32) -> SideResult<()> {
    let now = target.attr()?;
    let mut same_owner = (now.uid, now.gid) == (source.uid, source.gid);
    let mut given = false;
    if preserve && !same_owner {
        let owner = SetAttr {
            uid: Some(source.uid),
            gid: Some(source.gid),
            ..SetAttr::default()
        };
        match target.set(&owner) {
            Ok(()) => (same_owner, given) = (true, true),
            // As cp -p does: only root can give files away, others do not hear of it.
            Err(fault) if fault.errno == Errno::EPERM && uid != 0 => {}
            Err(fault) => return Err(fault),
        }
    }
    let strip = !same_owner && source.file_type == FileType::Regular;
    let mode = if strip {
        source.mode & !0o6000
    } else {
        source.mode
    };
    let is_link = source.file_type == FileType::Symlink;
    let rest = SetAttr {
        // Giving a file away may have cleared bits.
        mode: (!is_link && (given || now.mode != mode)).then_some(mode),
        atime: preserve.then_some(SetTime::At(source.atime)),
        mtime: preserve.then_some(SetTime::At(source.mtime)),
        ..SetAttr::default()
    };
    if rest.mask().is_empty() {
        return Ok(());
    }
    target.set(&rest)
}

/// A name in a directory, for [`settle`].
pub struct Placed<'a, S: Side> {
    /// The side it is on.
    pub side: &'a S,
    /// Its directory.
    pub dir: &'a S::Dir,
    /// Its name.
    pub name: &'a [u8],
}

impl<S: Side> Settable for Placed<'_, S> {
    fn attr(&self) -> SideResult<Attr> {
        self.side.attr(self.dir, self.name, false)
    }

    fn set(&self, set: &SetAttr) -> SideResult<()> {
        self.side.set(self.dir, self.name, set)
    }
}

/// Which side a fault happened on, to name it in the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Place {
    Local,
    Remote,
}

impl Place {
    /// The error of a fault at `path`.
    pub fn blame(self, fault: Fault, path: &[u8]) -> CliError {
        match self {
            Place::Local => CliError::local_bytes(fault.op, path, fault.errno),
            Place::Remote => gofer_vfs::Error::at(fault.op, path, fault.errno).into(),
        }
    }
}
