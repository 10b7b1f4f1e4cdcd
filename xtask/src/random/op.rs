//! What a sequence consists of, and what comes of each step.

use std::fmt;

use gofer_vfs::{AccessMask, AllocMode, Errno, FileType, OpenFlags, RenameFlags, XattrFlags};
use gofer_vfs::{Attr, Timestamp};

use super::path::Path;

/// Files and mappings that can be open at once.
pub const SLOTS: usize = 3;

/// On whose behalf.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum User {
    Root,
    /// 1000 of group 1000.
    One,
    /// 1001 of group 1001 and of group 1000.
    Two,
}

impl User {
    /// User, group, further groups.
    pub fn ids(self) -> (u32, u32, &'static [u32]) {
        match self {
            User::Root => (0, 0, &[]),
            User::One => (1000, 1000, &[]),
            User::Two => (1001, 1001, &[1000]),
        }
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ids().0)
    }
}

/// Bytes to write: told from others by their first.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    /// The first byte.
    pub first: u8,
    /// How many.
    pub len: usize,
}

impl Data {
    /// The bytes.
    pub fn bytes(self) -> Vec<u8> {
        let byte = |at: usize| self.first.wrapping_add((at / 7) as u8) | 1;
        (0..self.len).map(byte).collect()
    }
}

/// Where to seek to; see `lseek(2)`.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Seek {
    Set,
    Cur,
    End,
    Data,
    Hole,
}

/// A time to set.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Time {
    Omit,
    Now,
    At(i64, u32),
}

/// What a file is known by: a path, of which a last symbolic link is followed or not, or a slot.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Target {
    Path(Path),
    Link(Path),
    Slot(usize),
}

/// One thing to do, by a client or past it. Slots hold open files, or mappings.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Op {
    Open(usize, Path, OpenFlags, u16),
    Close(usize),
    Read(usize, usize),
    ReadAt(usize, u64, usize),
    Write(usize, Data),
    WriteAt(usize, u64, Data),
    Seek(usize, Seek, i64),
    Sync(usize, bool),
    Allocate(usize, AllocMode, u64, u64),
    Copy(usize, u64, usize, u64, u64),
    /// The names of an open directory, read in pieces: this many, the rest, and that again from
    /// where the first piece ended.
    Pieces(usize, usize),
    Map(usize, usize, MapKind),
    MapRead(usize, usize, usize),
    MapWrite(usize, usize, Data),
    MapSync(usize),
    Unmap(usize),
    /// Bytes of its file from where a mapping begins; for who must not write beyond them.
    Room(usize),
    Stat(Target),
    Access(Path, AccessMask),
    Chmod(Target, u16),
    Chown(Target, Option<u32>, Option<u32>),
    Utimes(Target, Time, Time),
    Truncate(Target, u64),
    SetXattr(Target, &'static str, Data, XattrFlags),
    GetXattr(Target, &'static str, usize),
    ListXattr(Target),
    RemoveXattr(Target, &'static str),
    ReadLink(Path),
    List(Path),
    Mkdir(Path, u16),
    Mkfifo(Path, u16),
    Symlink(Path, Path),
    Link(Target, Path),
    Unlink(Path),
    Rmdir(Path),
    Rename(Path, Path, RenameFlags),
    /// Makes or cuts a file, fills it, closes it.
    Put(Path, Data),
    /// The whole content of a file.
    Content(Path),
    /// The caches of the client are emptied; elsewhere nothing.
    DropCaches,
    /// All that was written is brought to the server; elsewhere nothing.
    SyncAll,
}

/// What is mapped, and how.
#[derive(Clone, Copy, Debug)]
pub struct MapKind {
    /// The first page.
    pub page: u64,
    /// Pages.
    pub pages: usize,
    /// It may be written.
    pub write: bool,
    /// Others see it.
    pub shared: bool,
}

/// Size of a page, in bytes.
pub const PAGE: u64 = 4096;

/// One step of a sequence.
#[derive(Clone, Debug)]
pub enum Step {
    /// The client does it on behalf of a user.
    Client(User, Op),
    /// Somebody else does it, past the client.
    Other(Op),
}

/// What a call returned.
pub type Outcome = Result<Answer, Errno>;

/// What there is to tell of success.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Answer {
    Done,
    /// There is nothing in the slot.
    Nothing,
    Number(u64),
    Bytes(Vec<u8>),
    Names(Vec<(Vec<u8>, Option<FileType>)>),
    Words(Vec<Vec<u8>>),
    Facts(Facts),
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Done => f.write_str("done"),
            Answer::Nothing => f.write_str("nothing in the slot"),
            Answer::Number(number) => number.fmt(f),
            Answer::Bytes(bytes) => brief(bytes, f),
            Answer::Names(names) => f
                .debug_list()
                .entries(names.iter().map(|(name, kind)| (show(name), kind)))
                .finish(),
            Answer::Words(words) => f
                .debug_list()
                .entries(words.iter().map(|word| show(word)))
                .finish(),
            Answer::Facts(facts) => facts.fmt(f),
        }
    }
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Bytes as runs of those that follow each other in [`Data`], or of zeros.
fn brief(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{} bytes:", bytes.len())?;
    let mut at = 0;
    let mut shown = 0;
    while let Some(&first) = bytes.get(at) {
        let rest = bytes.get(at..).unwrap_or_default();
        let run = match first {
            0 => rest.iter().take_while(|byte| **byte == 0).count(),
            _ => rest.iter().take_while(|byte| **byte != 0).count(),
        };
        write!(f, " {at}+{run}={first:#x}")?;
        at += run;
        shown += 1;
        if shown == 12 {
            return f.write_str(" ...");
        }
    }
    Ok(())
}

/// When something happened, as far as two trees can agree on it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Since the sequence began.
    Recently,
    /// At a time that was asked for.
    At(i64, u32),
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::Recently => f.write_str("now"),
            When::At(sec, nsec) => write!(f, "{sec}.{nsec:09}"),
        }
    }
}

impl From<Timestamp> for When {
    fn from(time: Timestamp) -> When {
        // No time that is asked for is of this century's second quarter.
        match time.sec {
            1_750_000_000.. => When::Recently,
            sec => When::At(sec, time.nsec),
        }
    }
}

/// Attributes. They are equal if two trees agree as far as they can.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Facts {
    pub kind: FileType,
    pub mode: u16,
    pub nlink: u64,
    pub owner: (u32, u32),
    /// Not of directories: what they take is their own affair.
    pub size: Option<u64>,
    pub atime: When,
    pub mtime: When,
    /// Which file it is; each tree has numbers of its own.
    pub ino: u64,
    /// Of the tree's own clock.
    pub ctime: Timestamp,
}

impl Facts {
    /// Those of `attr`, of the file with this number.
    pub fn new(attr: &Attr, ino: u64) -> Facts {
        Facts {
            kind: attr.file_type,
            mode: attr.mode,
            nlink: attr.nlink,
            owner: (attr.uid, attr.gid),
            size: Some(attr.size).filter(|_| attr.file_type != FileType::Directory),
            atime: attr.atime.into(),
            mtime: attr.mtime.into(),
            ino,
            ctime: attr.ctime,
        }
    }

    /// The same, accessed nobody knows when.
    pub fn without_atime(self) -> Facts {
        Facts {
            atime: When::At(0, 0),
            ..self
        }
    }
}

impl PartialEq for Facts {
    fn eq(&self, other: &Facts) -> bool {
        let shared = |facts: &Facts| {
            let Facts {
                kind,
                mode,
                nlink,
                owner,
                size,
                atime,
                mtime,
                ..
            } = *facts;
            (kind, mode, nlink, owner, size, atime, mtime)
        };
        shared(self) == shared(other)
    }
}

impl Eq for Facts {}

/// Somewhere operations are done.
pub trait Side {
    /// Does it.
    fn run(&mut self, user: User, op: &Op) -> Outcome;
}
