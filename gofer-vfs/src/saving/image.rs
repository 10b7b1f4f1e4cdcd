//! The format of an image, and how one is read that may be damaged or made up.
//!
//! A magic word and a version, then records: length, CRC-32 and the record in postcard's
//! encoding. The last record says how many there were. Any change of the records below is a new
//! version.
//!
//! Reading takes memory in proportion to the image: no length is believed before the bytes are
//! there, and content is borrowed.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::attr::{FileType, Timestamp};
use crate::file_locks::HeldLocks;
use crate::name::Name;
use crate::notify::NotifierImage;
use crate::remote::SocketType;
use crate::synthetic::{COUNT_MAX, PIPE_MAX};

const MAGIC: &[u8; 8] = b"goferimg";
const VERSION: u32 = 2;

/// Most bytes of content in one record.
pub(super) const DATA_MAX: usize = 256 << 10;

/// Most bytes of any record: a listed lock takes some twenty.
const RECORD_MAX: usize = 1 << 20;

/// The longest target of a symbolic link.
const TARGET_MAX: u64 = 4095;

/// Most watches of a queue.
const WATCHES_MAX: usize = 65536;

/// Watches or events in one record.
pub(super) const NOTIFIER_PART: usize = 1024;

/// A number in the order of records of its kind.
pub(super) type Index = u32;

/// One record. References go backwards only.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Record<'a> {
    /// The first.
    #[serde(borrow)]
    Head(Head<'a>),
    /// A file.
    Inode(SavedInode),
    /// Content of the inode at an offset that the server does not have: of a file without a name
    /// all of it (the target of a symbolic link), of a synthetic fifo what waits in it, of others
    /// what could not be written. What comes later replaces.
    Data(Index, u64, &'a [u8]),
    /// A name. The first is the root.
    #[serde(borrow)]
    Dentry(SavedDentry<'a>),
    /// A place to be handed back: its number and its dentry.
    Node(u64, Index),
    /// An open file.
    #[serde(borrow)]
    File(SavedFile<'a>),
    /// A part of a queue of events, with its number; more of it may follow.
    Notifier(u64, NotifierImage),
    /// A socket of this client alone that somebody has bound.
    Listener(SavedListener),
    /// The last: how many came before.
    End(u64),
}

/// What holds for the whole filesystem.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Head<'a> {
    /// Identities compare only on the same.
    pub(super) protocol: &'a str,
    /// The mount option `cache`.
    pub(super) cache: &'a str,
    pub(super) dfltuid: u32,
    pub(super) dfltgid: u32,
    pub(super) server_locks: bool,
    pub(super) readonly: bool,
    pub(super) noatime: bool,
    pub(super) relatime: bool,
    pub(super) connect_sockets: bool,
}

/// Seconds and nanoseconds.
pub(super) type Time = (i64, u32);

/// A file.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct SavedInode {
    /// A `FileType`, by its number in directory entries.
    pub(super) file_type: u8,
    /// The number shown to users.
    pub(super) ino: u64,
    /// The server's identity of it.
    pub(super) id: [u64; 2],
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// As the server had them.
    pub(super) size: u64,
    pub(super) mtime: Time,
    /// As this client showed them: access, modification, change.
    pub(super) shown: [Time; 3],
    /// Whether the server knows the access and the modification time.
    pub(super) known: [bool; 2],
    /// It has no name any more, and its content is in the image.
    pub(super) nameless: bool,
    /// It is known to this client alone.
    pub(super) synthetic: bool,
    /// The device it stands for: major, minor.
    pub(super) rdev: (u32, u32),
}

/// A bound socket.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct SavedListener {
    pub(super) id: u64,
    pub(super) dentry: Index,
    /// Its type, by Linux's number.
    pub(super) kind: u32,
    /// How many connections may wait; 0 until it listens.
    pub(super) backlog: u32,
}

/// A name.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct SavedDentry<'a> {
    /// Another dentry; absent for the root.
    pub(super) parent: Option<Index>,
    #[serde(borrow)]
    pub(super) name: &'a [u8],
    pub(super) inode: Index,
    /// The name is not that of the file any more.
    pub(super) gone: bool,
}

/// An open file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct SavedFile<'a> {
    pub(super) id: u64,
    pub(super) dentry: Index,
    pub(super) flags: u32,
    pub(super) offset: u64,
    /// In a directory that is being listed: the name before that place.
    #[serde(borrow)]
    pub(super) after: &'a [u8],
    /// Written through: closing tells the server.
    pub(super) wrote: bool,
    /// An error it has not been told of.
    pub(super) error: Option<i32>,
    /// The path it was opened by.
    #[serde(borrow)]
    pub(super) path: &'a [u8],
    /// Read from a fifo, and not yet by anybody.
    #[serde(borrow)]
    pub(super) drained: &'a [u8],
    pub(super) locks: HeldLocks,
}

impl SavedInode {
    pub(super) fn file_type(&self) -> Option<FileType> {
        FileType::from_dirent_type(self.file_type)
    }

    /// How much content there may be of it, in bytes.
    fn content_max(&self) -> u64 {
        match self.file_type() {
            Some(FileType::Regular) if self.nameless => self.size,
            Some(FileType::Regular) => i64::MAX as u64,
            Some(FileType::Symlink) if self.nameless => TARGET_MAX,
            Some(FileType::Fifo) if self.synthetic => PIPE_MAX as u64,
            _ => 0,
        }
    }
}

/// The time of a record.
pub(super) fn time(time: Timestamp) -> Time {
    (time.sec, time.nsec)
}

/// And back.
pub(super) fn timestamp((sec, nsec): Time) -> Timestamp {
    Timestamp { sec, nsec }
}

const SOCKET_TYPES: [(u32, SocketType); 3] = [
    (1, SocketType::Stream),
    (2, SocketType::Datagram),
    (5, SocketType::SeqPacket),
];

/// The type of a socket by its number.
pub(super) fn socket_type(number: u32) -> Option<SocketType> {
    let found = SOCKET_TYPES.iter().find(|one| one.0 == number);
    found.map(|one| one.1)
}

/// And back.
pub(super) fn socket_number(kind: SocketType) -> u32 {
    let found = SOCKET_TYPES.iter().find(|one| one.1 == kind);
    found.map_or(1, |one| one.0)
}

/// What is wrong with an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ImageError {
    /// It does not begin like one.
    NoImage,
    /// It is of another version.
    Version {
        /// Which.
        found: u32,
    },
    /// It ends before its end.
    Truncated,
    /// What is there cannot be what was written.
    Damaged {
        /// Where, in bytes.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::NoImage => f.write_str("this is no image of a file system"),
            ImageError::Version { found } => {
                write!(f, "the image has version {found}, not {VERSION}")
            }
            ImageError::Truncated => f.write_str("the image is cut off"),
            ImageError::Damaged { offset, what } => {
                write!(f, "the image is damaged at byte {offset}: {what}")
            }
        }
    }
}

impl std::error::Error for ImageError {}

/// Writes an image, record by record.
pub(super) struct Writer<'w> {
    out: &'w mut dyn Write,
    records: u64,
}

impl<'w> Writer<'w> {
    pub(super) fn begin(out: &'w mut dyn Write) -> io::Result<Writer<'w>> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        Ok(Writer { out, records: 0 })
    }

    pub(super) fn put(&mut self, record: &Record<'_>) -> io::Result<()> {
        let bytes = postcard::to_allocvec(record).map_err(io::Error::other)?;
        if bytes.len() > RECORD_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.out.write_all(&(bytes.len() as u32).to_le_bytes())?;
        self.out.write_all(&crc32fast::hash(&bytes).to_le_bytes())?;
        self.out.write_all(&bytes)?;
        self.records += 1;
        Ok(())
    }

    pub(super) fn end(mut self) -> io::Result<()> {
        self.put(&Record::End(self.records))?;
        self.out.flush()
    }
}

/// An image whose every reference leads somewhere sensible.
pub(super) struct Image<'a> {
    pub(super) head: Head<'a>,
    pub(super) inodes: Vec<SavedInode>,
    pub(super) data: Vec<(Index, u64, &'a [u8])>,
    pub(super) dentries: Vec<SavedDentry<'a>>,
    pub(super) nodes: Vec<(u64, Index)>,
    pub(super) files: Vec<SavedFile<'a>>,
    pub(super) notifiers: BTreeMap<u64, NotifierImage>,
    pub(super) listeners: Vec<SavedListener>,
    /// Synthetic files that have a dentry.
    synthetic: HashSet<Index>,
}

/// An image of these records as they are encoded, for tests of what reads them.
#[cfg(any(test, feature = "testing"))]
pub fn seal<'r>(records: impl IntoIterator<Item = &'r [u8]>) -> Vec<u8> {
    let mut image = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
    for record in records {
        image.extend((record.len() as u32).to_le_bytes());
        image.extend(crc32fast::hash(record).to_le_bytes());
        image.extend(record);
    }
    image
}

/// Whether `bytes` are an image, without restoring it.
#[cfg(any(test, feature = "testing"))]
pub fn check(bytes: &[u8]) -> Result<(), ImageError> {
    Image::read(bytes).map(drop)
}

impl<'a> Image<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Image<'a>, ImageError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(ImageError::NoImage)?;
        let (version, rest) = rest.split_first_chunk().ok_or(ImageError::Truncated)?;
        match u32::from_le_bytes(*version) {
            VERSION => {}
            found => return Err(ImageError::Version { found }),
        }
        let mut reader = Reader {
            all: bytes.len(),
            rest,
        };
        let Record::Head(head) = reader.next()? else {
            return Err(reader.damaged("the first record is no head"));
        };
        let mut image = Image {
            head,
            inodes: Vec::new(),
            data: Vec::new(),
            dentries: Vec::new(),
            nodes: Vec::new(),
            files: Vec::new(),
            notifiers: BTreeMap::new(),
            listeners: Vec::new(),
            synthetic: HashSet::new(),
        };
        for count in 1u64.. {
            match reader.next()? {
                Record::End(said) if said == count && reader.rest.is_empty() => break,
                Record::End(_) => return Err(reader.damaged("an end that is none")),
                record => image.take(record).map_err(|what| reader.damaged(what))?,
            }
        }
        match image.dentries.is_empty() {
            true => Err(reader.damaged("there is no root")),
            false => Ok(image),
        }
    }

    fn take(&mut self, record: Record<'a>) -> Result<(), &'static str> {
        match record {
            Record::Head(_) | Record::End(_) => return Err("a second head"),
            Record::Inode(inode) => {
                check_inode(&inode)?;
                self.inodes.push(inode);
            }
            Record::Data(inode, offset, data) => {
                let file = self.inode(inode).ok_or("content of no file")?;
                let end = offset.checked_add(data.len() as u64);
                if end.is_none_or(|end| end > file.content_max()) {
                    return Err("content that does not belong to its file");
                }
                self.data.push((inode, offset, data));
            }
            Record::Dentry(dentry) => {
                self.check_dentry(&dentry)?;
                let synthetic = self.inode(dentry.inode).is_some_and(|file| file.synthetic);
                if synthetic && !self.synthetic.insert(dentry.inode) {
                    return Err("two names of a synthetic file");
                }
                if self.synthetic.len() > COUNT_MAX {
                    return Err("too many synthetic files");
                }
                self.dentries.push(dentry);
            }
            Record::Node(id, dentry) => {
                self.inode_of(dentry).ok_or("a place that is none")?;
                self.nodes.push((id, dentry));
            }
            Record::File(file) => {
                self.inode_of(file.dentry)
                    .ok_or("an open file that is none")?;
                if !file.locks.ranges.iter().all(|lock| lock.1.is_valid()) {
                    return Err("a lock on no range");
                }
                if i64::try_from(file.offset).is_err() {
                    return Err("an offset no file has");
                }
                self.files.push(file);
            }
            Record::Notifier(id, part) => self.take_notifier(id, part)?,
            Record::Listener(listener) => {
                let file = self.inode_of(listener.dentry);
                let socket = file.is_some_and(|file| {
                    file.synthetic && file.file_type() == Some(FileType::Socket)
                });
                if !socket || socket_type(listener.kind).is_none() {
                    return Err("a bound socket that is none");
                }
                self.listeners.push(listener);
            }
        }
        Ok(())
    }

    /// Numbers of watches are unique.
    fn take_notifier(&mut self, id: u64, mut part: NotifierImage) -> Result<(), &'static str> {
        let whole = self.notifiers.entry(id).or_default();
        whole.watches.append(&mut part.watches);
        whole.events.append(&mut part.events);
        let numbers: HashSet<i32> = whole.watches.iter().map(|watch| watch.watch).collect();
        let sound = numbers.len() == whole.watches.len() && numbers.iter().all(|one| *one > 0);
        match sound && whole.watches.len() <= WATCHES_MAX {
            true => Ok(()),
            false => Err("watches that are none"),
        }
    }

    fn check_dentry(&self, dentry: &SavedDentry<'_>) -> Result<(), &'static str> {
        let inode = self.inode(dentry.inode).ok_or("a name of no file")?;
        let Some(parent) = dentry.parent else {
            let root = self.dentries.is_empty() && dentry.name.is_empty();
            let named = !inode.nameless && !dentry.gone && !inode.synthetic;
            return match root && named {
                true => Ok(()),
                false => Err("a second root"),
            };
        };
        let above = self.inode_of(parent).ok_or("a name in no directory")?;
        if above.file_type() != Some(FileType::Directory) {
            return Err("a name in what is no directory");
        }
        Name::new(dentry.name).map_err(|_| "a name that is none")?;
        if above.synthetic && !inode.synthetic {
            return Err("a name in a synthetic directory");
        }
        let parent_gone = self.dentry(parent).is_some_and(|parent| parent.gone);
        match (inode.nameless || parent_gone) && !dentry.gone {
            true => Err("a name of a file without names"),
            false => Ok(()),
        }
    }

    pub(super) fn inode(&self, index: Index) -> Option<&SavedInode> {
        self.inodes.get(usize::try_from(index).ok()?)
    }

    pub(super) fn dentry(&self, index: Index) -> Option<&SavedDentry<'a>> {
        self.dentries.get(usize::try_from(index).ok()?)
    }

    pub(super) fn inode_of(&self, dentry: Index) -> Option<&SavedInode> {
        self.inode(self.dentry(dentry)?.inode)
    }

    /// Where a dentry is, or was.
    pub(super) fn path(&self, dentry: Index) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = self.dentry(dentry);
        while let Some(dentry) = at
            && let Some(parent) = dentry.parent
        {
            names.push(dentry.name);
            at = self.dentry(parent);
        }
        if names.is_empty() {
            return b"/".to_vec();
        }
        names
            .iter()
            .rev()
            .flat_map(|name| [&b"/"[..], name])
            .collect::<Vec<_>>()
            .concat()
    }
}

fn check_inode(inode: &SavedInode) -> Result<(), &'static str> {
    let Some(file_type) = inode.file_type() else {
        return Err("a file of no type");
    };
    let may_be = [FileType::Directory, FileType::Fifo, FileType::Socket];
    if inode.synthetic && !may_be.contains(&file_type) {
        return Err("a synthetic file of another type");
    }
    if i64::try_from(inode.size).is_err() || inode.mode > 0o7777 {
        return Err("attributes no file has");
    }
    let times = inode.shown.iter().chain([&inode.mtime]);
    if times.into_iter().any(|time| time.1 >= 1_000_000_000) {
        return Err("a time that is none");
    }
    Ok(())
}

struct Reader<'a> {
    all: usize,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn damaged(&self, what: &'static str) -> ImageError {
        ImageError::Damaged {
            offset: self.all - self.rest.len(),
            what,
        }
    }

    fn next(&mut self) -> Result<Record<'a>, ImageError> {
        let cut = ImageError::Truncated;
        let (length, rest) = self.rest.split_first_chunk().ok_or(cut.clone())?;
        let (sum, rest) = rest.split_first_chunk().ok_or(cut.clone())?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > RECORD_MAX {
            return Err(self.damaged("a record that is too long"));
        }
        let (bytes, rest) = rest.split_at_checked(length).ok_or(cut)?;
        if crc32fast::hash(bytes) != u32::from_le_bytes(*sum) {
            return Err(self.damaged("the checksum is wrong"));
        }
        match postcard::take_from_bytes(bytes) {
            Ok((record, [])) => {
                self.rest = rest;
                Ok(record)
            }
            _ => Err(self.damaged("a record that does not decode")),
        }
    }
}
