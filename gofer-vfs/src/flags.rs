//! Words of flags, with Linux's numbers.

/// What an open file may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Access {
    Read,
    Write,
    ReadWrite,
}

impl Access {
    /// Whether data may be read.
    pub fn can_read(self) -> bool {
        !matches!(self, Access::Write)
    }

    /// Whether data may be written.
    pub fn can_write(self) -> bool {
        !matches!(self, Access::Read)
    }

    /// The number in the low two bits of `open(2)` flags.
    pub fn bits(self) -> u32 {
        match self {
            Access::Read => 0,
            Access::Write => 1,
            Access::ReadWrite => 2,
        }
    }
}

bitflags::bitflags! {
    /// Flags of `open(2)` beside the access mode, x86-64 numbers.
    ///
    /// The two low bits hold the access mode: see [`OpenFlags::access_bits`].
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct OpenFlags: u32 {
        /// Low bit of the access mode.
        const WRONLY = 1;
        /// High bit of the access mode.
        const RDWR = 2;
        /// Create the file when it is missing.
        const CREAT = 0o100;
        /// With `CREAT`: fail with `EEXIST` when it is there.
        const EXCL = 0o200;
        /// Cut the file to size 0.
        const TRUNC = 0o1000;
        /// Each write goes to the end.
        const APPEND = 0o2000;
        /// Do not wait.
        const NONBLOCK = 0o4000;
        /// Each write reaches stable storage, data only.
        const DSYNC = 0o10000;
        /// Bypass caches.
        const DIRECT = 0o40000;
        /// Fail with `ENOTDIR` when it is not a directory.
        const DIRECTORY = 0o200000;
        /// Fail with `ELOOP` when the last component is a symbolic link.
        const NOFOLLOW = 0o400000;
        /// Leave the access time alone.
        const NOATIME = 0o1000000;
        /// Closed at exec; has no meaning here.
        const CLOEXEC = 0o2000000;
        /// Each write reaches stable storage, attributes too; implies `DSYNC`.
        const SYNC = 0o4010000;
        /// Only a place in the tree, no I/O.
        const PATH = 0o10000000;
        /// The single bit Linux calls `__O_TMPFILE`; `O_TMPFILE` is this and `DIRECTORY`.
        const TMPFILE_BIT = 0o20000000;
    }
}

impl OpenFlags {
    /// Reading only: no bit set.
    pub const RDONLY: OpenFlags = OpenFlags::empty();

    /// The two bits of the access mode: 0 read, 1 write, 2 both, 3 neither.
    pub fn access_bits(self) -> u32 {
        self.bits() & 3
    }
}

bitflags::bitflags! {
    /// Flags of `renameat2(2)`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct RenameFlags: u32 {
        /// Fail with `EEXIST` when the target is there.
        const NOREPLACE = 1;
        /// Swap the two.
        const EXCHANGE = 2;
        /// Leave a whiteout behind.
        const WHITEOUT = 4;
    }

    /// Flags of `setxattr(2)`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct XattrFlags: u32 {
        /// Fail with `EEXIST` when the attribute is there.
        const CREATE = 1;
        /// Fail with `ENODATA` when it is not.
        const REPLACE = 2;
    }

    /// Modes of `fallocate(2)`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct AllocMode: u32 {
        /// The size stays.
        const KEEP_SIZE = 1;
        /// Free the range; it reads as zeros.
        const PUNCH_HOLE = 2;
        /// Reserved by Linux.
        const NO_HIDE_STALE = 4;
        /// Remove the range and close up.
        const COLLAPSE_RANGE = 8;
        /// Fill the range with zeros.
        const ZERO_RANGE = 0x10;
        /// Insert a hole.
        const INSERT_RANGE = 0x20;
        /// Make the range private.
        const UNSHARE_RANGE = 0x40;
    }
}
