//! The values that messages are made of.

use std::fmt;

use gofer_transport::codec::{DecodeError, Reader, Writer};

use super::flags::{GetattrMask, QidType};

/// A file as the client numbers it (9P 5.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Fid(pub u32);

impl Fid {
    /// "No fid": the `afid` of an attach without authentication. Never a real one.
    pub const NONE: Fid = Fid(u32::MAX);
}

/// A request as the client numbers it (9P 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Tag(pub u16);

impl Tag {
    /// "No tag": the customary tag of Tversion.
    pub const NONE: Tag = Tag(u16::MAX);
}

/// The server's identity of a file (9P 6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Qid {
    /// What kind of file it is.
    pub kind: QidType,
    /// Changes with the content, where the server cares.
    pub version: u32,
    /// Unique while the file exists.
    pub path: u64,
}

impl Qid {
    /// Bytes on the wire.
    pub const SIZE: usize = 13;

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Qid, DecodeError> {
        Ok(Qid {
            kind: QidType::from_bits_retain(reader.u8()?),
            version: reader.u32()?,
            path: reader.u64()?,
        })
    }

    /// Appends the thirteen bytes.
    pub fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.kind.bits());
        out.u32(self.version);
        out.u64(self.path);
    }
}

macro_rules! attr_block {
    ($($field:ident: $type:ident,)*) => {
        /// The attribute block of Rgetattr and its relatives (9P 8.15).
        ///
        /// Times are seconds (two's complement) and nanoseconds. Which fields count is said by
        /// a mask beside the block.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[allow(missing_docs)]
        pub struct AttrBlock { $(pub $field: $type,)* }

        impl AttrBlock {
            /// Bytes on the wire.
            pub const SIZE: usize = 0 $(+ size_of::<$type>())*;

            pub(super) fn read(reader: &mut Reader<'_>) -> Result<AttrBlock, DecodeError> {
                Ok(AttrBlock { $($field: reader.$type()?,)* })
            }

            pub(super) fn write(&self, out: &mut Writer<'_>) {
                $(out.$type(self.$field);)*
            }

            /// Shows each field by its name in the specification.
            pub fn fields(&self, each: &mut dyn FnMut(&'static str, u64)) {
                $(each(stringify!($field).trim_start_matches("r#"), u64::from(self.$field));)*
            }
        }
    };
}

attr_block! {
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u64,
    rdev: u64,
    size: u64,
    blksize: u64,
    blocks: u64,
    atime_sec: u64,
    atime_nsec: u64,
    mtime_sec: u64,
    mtime_nsec: u64,
    ctime_sec: u64,
    ctime_nsec: u64,
    btime_sec: u64,
    btime_nsec: u64,
    r#gen: u64,
    data_version: u64,
}

const _: () = assert!(AttrBlock::SIZE == 132);

/// One record of Rmultigetattr (9P 9.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stat {
    /// Identity.
    pub qid: Qid,
    /// Which fields of `attr` count.
    pub valid: GetattrMask,
    /// Attributes.
    pub attr: AttrBlock,
}

impl Stat {
    /// Bytes on the wire.
    pub const SIZE: usize = Qid::SIZE + 8 + AttrBlock::SIZE;

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Stat, DecodeError> {
        Ok(Stat {
            qid: Qid::read(reader)?,
            valid: GetattrMask::from_bits_retain(reader.u64()?),
            attr: AttrBlock::read(reader)?,
        })
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) {
        self.qid.write(out);
        out.u64(self.valid.bits());
        self.attr.write(out);
    }
}

/// One entry of Rreaddir (9P 8.19).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dirent<'a> {
    /// Identity.
    pub qid: Qid,
    /// Where to go on after this entry: opaque.
    pub offset: u64,
    /// A `DT_*` number, or a qid type from gVisor.
    pub kind: u8,
    /// Any bytes: the receiver checks them.
    pub name: &'a [u8],
}

impl<'a> Dirent<'a> {
    /// Bytes on the wire before the name.
    pub const HEAD_SIZE: usize = Qid::SIZE + 8 + 1 + 2;

    /// Bytes on the wire.
    pub fn size(&self) -> usize {
        Dirent::HEAD_SIZE + self.name.len()
    }

    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Dirent<'a>, DecodeError> {
        Ok(Dirent {
            qid: Qid::read(reader)?,
            offset: reader.u64()?,
            kind: reader.u8()?,
            name: reader.string()?,
        })
    }

    /// Appends the entry: a server gathers them here and sends them as [`super::Dirents`].
    pub fn write(&self, out: &mut Writer<'_>) {
        self.qid.write(out);
        out.u64(self.offset);
        out.u8(self.kind);
        out.string(self.name);
    }
}

/// Bulk data: the content of Rread and Twrite.
///
/// Its bytes may be kept apart from the message ([`Data::apart`]), to be sent from, or received
/// to, where they belong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Data<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Data<'a> {
    /// These bytes.
    pub fn new(bytes: &'a [u8]) -> Data<'a> {
        Data {
            bytes,
            len: bytes.len(),
        }
    }

    /// `len` bytes that are somewhere else; [`Data::as_bytes`] is empty.
    pub fn apart(len: usize) -> Data<'a> {
        Data { bytes: &[], len }
    }

    /// The bytes, as far as they are here.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many bytes there are, here or elsewhere.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}

/// What a lock does (9P 8.23).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LockType(pub u8);

#[allow(missing_docs)]
impl LockType {
    pub const READ: LockType = LockType(0);
    pub const WRITE: LockType = LockType(1);
    pub const UNLOCK: LockType = LockType(2);
}

/// How a lock request ended (9P 8.23).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LockStatus(pub u8);

#[allow(missing_docs)]
impl LockStatus {
    pub const SUCCESS: LockStatus = LockStatus(0);
    pub const BLOCKED: LockStatus = LockStatus(1);
    pub const ERROR: LockStatus = LockStatus(2);
    pub const GRACE: LockStatus = LockStatus(3);
}

/// The kind of socket in Tlconnect: numbers of the protocol, not of the host (9P 9.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketType(pub u32);

#[allow(missing_docs)]
impl SocketType {
    pub const STREAM: SocketType = SocketType(0);
    pub const DATAGRAM: SocketType = SocketType(1);
    pub const SEQPACKET: SocketType = SocketType(2);
    /// Whatever fits; from dialect 5 on.
    pub const ANONYMOUS: SocketType = SocketType(3);
}
