//! Numbers and structures of fixed layout (lisafs 3 and 4).

use std::fmt;

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// "No user" or "no group" (lisafs 3).
pub const NO_ID: u32 = u32::MAX;

/// In [`Timespec::nsec`]: set to the server's clock.
pub const UTIME_NOW: i64 = 0x3fff_ffff;

/// In [`Timespec::nsec`]: leave alone.
pub const UTIME_OMIT: i64 = 0x3fff_fffe;

/// The number of a message. Keeps numbers it has no name for: below 256 they belong to the
/// protocol, above to whoever likes.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct Mid([u8; 2]);

const _: () = assert!(size_of::<Mid>() == 2);

impl Mid {
    /// The message of this number.
    pub const fn new(number: u16) -> Mid {
        Mid(number.to_le_bytes())
    }

    /// The number.
    pub const fn get(self) -> u16 {
        u16::from_le_bytes(self.0)
    }
}

impl fmt::Display for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "message {}", self.get()),
        }
    }
}

impl fmt::Debug for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Names an object of the server, within one connection. Never 0.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct Fdid([u8; 8]);

const _: () = assert!(size_of::<Fdid>() == 8);

impl Fdid {
    /// The number that names nothing.
    pub const NONE: Fdid = Fdid::new(0);

    /// The object of this number.
    pub const fn new(number: u64) -> Fdid {
        Fdid(number.to_le_bytes())
    }

    /// The number.
    pub const fn get(self) -> u64 {
        u64::from_le_bytes(self.0)
    }
}

impl fmt::Display for Fdid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

impl fmt::Debug for Fdid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fdid({})", self.get())
    }
}

/// How a walk ended (lisafs 6.5). Keeps values it has no name for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WalkStatus(pub u8);

impl WalkStatus {
    /// All components were walked.
    pub const SUCCESS: WalkStatus = WalkStatus(0);
    /// A component does not exist.
    pub const MISSING: WalkStatus = WalkStatus(1);
    /// A component that is not the last is a symbolic link.
    pub const SYMLINK: WalkStatus = WalkStatus(2);
}

bitflags::bitflags! {
    /// Bits of [`Statx::mask`] and of SetStat's masks: `STATX_*` of Linux.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct StatxMask: u32 {
        /// The file type in `mode`.
        const TYPE = 0x1;
        /// The permission bits in `mode`.
        const MODE = 0x2;
        /// Number of names.
        const NLINK = 0x4;
        /// Owner.
        const UID = 0x8;
        /// Group.
        const GID = 0x10;
        /// Last access.
        const ATIME = 0x20;
        /// Last change of content.
        const MTIME = 0x40;
        /// Last change of attributes.
        const CTIME = 0x80;
        /// Inode number.
        const INO = 0x100;
        /// Size.
        const SIZE = 0x200;
        /// Allocated 512-byte units.
        const BLOCKS = 0x400;
        /// Creation.
        const BTIME = 0x800;
        /// What SetStat can set (lisafs 6.4).
        const SETTABLE = 0x27a;
        // What a newer server may report; it is passed on as it is (lisafs 4.1).
        const _ = !0;
    }
}

/// A time in [`Statx`].
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    Debug,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct StatxTimestamp {
    /// Seconds since 1970.
    pub sec: I64,
    /// Nanoseconds.
    pub nsec: U32,
    /// 0 when written, ignored when read.
    pub padding: [u8; 4],
}

const _: () = assert!(size_of::<StatxTimestamp>() == 16);

/// Attributes of a file: the first 144 bytes of Linux's `struct statx` (lisafs 4.1).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Debug,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Statx {
    /// Which fields are valid: [`StatxMask`].
    pub mask: U32,
    pub blksize: U32,
    pub attributes: U64,
    pub nlink: U32,
    pub uid: U32,
    pub gid: U32,
    /// Type and permission bits, as `st_mode`.
    pub mode: U16,
    /// 0 when written, ignored when read.
    pub padding: [u8; 2],
    pub ino: U64,
    pub size: U64,
    /// In units of 512 bytes.
    pub blocks: U64,
    pub attributes_mask: U64,
    pub atime: StatxTimestamp,
    pub btime: StatxTimestamp,
    pub ctime: StatxTimestamp,
    pub mtime: StatxTimestamp,
    pub rdev_major: U32,
    pub rdev_minor: U32,
    pub dev_major: U32,
    pub dev_minor: U32,
}

const _: () = assert!(size_of::<Statx>() == 144);

impl Statx {
    /// Which fields are valid.
    pub fn valid(&self) -> StatxMask {
        StatxMask::from_bits_retain(self.mask.get())
    }
}

/// A control FD and the attributes of its file (lisafs 4.2).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Debug,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Inode {
    /// The control FD; the receiver owns it.
    pub control_fd: Fdid,
    /// Attributes.
    pub stat: Statx,
}

const _: () = assert!(size_of::<Inode>() == 152);

/// A time to set (lisafs 4.3).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    Debug,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Timespec {
    /// Seconds since 1970.
    pub sec: I64,
    /// Nanoseconds, [`UTIME_NOW`] or [`UTIME_OMIT`].
    pub nsec: I64,
}

const _: () = assert!(size_of::<Timespec>() == 16);

/// The start of requests that make something (lisafs 4.4).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Debug,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct CreateCommon {
    /// Control FD of the directory.
    pub dir_fd: Fdid,
    /// Owner, or [`NO_ID`].
    pub uid: U32,
    /// Group, or [`NO_ID`].
    pub gid: U32,
    /// Type (where it counts) and permission bits.
    pub mode: U16,
    /// 0 when written, ignored when read.
    pub padding: [u8; 6],
}

const _: () = assert!(size_of::<CreateCommon>() == 24);

impl CreateCommon {
    /// With zero padding.
    pub fn new(dir_fd: Fdid, uid: u32, gid: u32, mode: u16) -> CreateCommon {
        CreateCommon {
            dir_fd,
            uid: uid.into(),
            gid: gid.into(),
            mode: mode.into(),
            padding: [0; 6],
        }
    }
}

/// Numbers of a file system (lisafs 4.5).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Debug,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
#[allow(missing_docs)]
pub struct StatFs {
    /// Magic number of the file system's type.
    pub fs_type: U64,
    pub block_size: I64,
    pub blocks: U64,
    pub blocks_free: U64,
    pub blocks_available: U64,
    pub files: U64,
    pub files_free: U64,
    pub name_length: U64,
}

const _: () = assert!(size_of::<StatFs>() == 64);
