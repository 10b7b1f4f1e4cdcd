//! Words of flags. All keep bits they do not know, since they come from peers.

// The names are Linux's and the specification's.
#![allow(missing_docs)]

bitflags::bitflags! {
    /// Flags of Tlopen, Tlcreate and Tucreate: protocol numbers, those of x86 Linux (9P 7.2).
    ///
    /// The two low bits are the access mode, see [`OpenFlags::access`].
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct OpenFlags: u32 {
        const WRONLY = 1;
        const RDWR = 2;
        const CREATE = 0o100;
        const EXCL = 0o200;
        const NOCTTY = 0o400;
        const TRUNC = 0o1000;
        const APPEND = 0o2000;
        const NONBLOCK = 0o4000;
        const DSYNC = 0o10000;
        const FASYNC = 0o20000;
        const DIRECT = 0o40000;
        const LARGEFILE = 0o100000;
        const DIRECTORY = 0o200000;
        const NOFOLLOW = 0o400000;
        const NOATIME = 0o1000000;
        const CLOEXEC = 0o2000000;
        const SYNC = 0o4000000;
        const _ = !0;
    }

    /// Fields of Tgetattr's mask and of the mask in answers (9P 8.15).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct GetattrMask: u64 {
        const MODE = 0x1;
        const NLINK = 0x2;
        const UID = 0x4;
        const GID = 0x8;
        const RDEV = 0x10;
        const ATIME = 0x20;
        const MTIME = 0x40;
        const CTIME = 0x80;
        const INO = 0x100;
        const SIZE = 0x200;
        const BLOCKS = 0x400;
        const BTIME = 0x800;
        const GEN = 0x1000;
        const DATA_VERSION = 0x2000;
        /// Everything up to `BLOCKS`.
        const BASIC = 0x7ff;
        const _ = !0;
    }

    /// Fields of Tsetattr (9P 8.16). Other numbers than those of [`GetattrMask`].
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct SetattrMask: u32 {
        const MODE = 0x1;
        const UID = 0x2;
        const GID = 0x4;
        const SIZE = 0x8;
        /// The server's clock, unless `ATIME_SET`.
        const ATIME = 0x10;
        /// The server's clock, unless `MTIME_SET`.
        const MTIME = 0x20;
        const CTIME = 0x40;
        /// With `ATIME`: the value in the message.
        const ATIME_SET = 0x80;
        /// With `MTIME`: the value in the message.
        const MTIME_SET = 0x100;
        const _ = !0;
    }

    /// The type byte of a qid (9P 6.1).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct QidType: u8 {
        const DIR = 0x80;
        const APPEND = 0x40;
        const EXCL = 0x20;
        const MOUNT = 0x10;
        const AUTH = 0x08;
        const TMP = 0x04;
        const SYMLINK = 0x02;
        const LINK = 0x01;
        const _ = !0;
    }

    /// Flags of Tlock (9P 8.23).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct LockFlags: u32 {
        const BLOCK = 1;
        const RECLAIM = 2;
        const _ = !0;
    }

    /// Flags of Tunlinkat (9P 8.26).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct UnlinkFlags: u32 {
        /// Remove an empty directory.
        const REMOVEDIR = 0x200;
        const _ = !0;
    }

    /// Flags of Txattrcreate and Tsetxattr (9P 8.18).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct XattrFlags: u32 {
        /// `EEXIST` when the attribute is there.
        const CREATE = 1;
        /// `ENODATA` when it is not.
        const REPLACE = 2;
        const _ = !0;
    }
}

impl OpenFlags {
    /// Reading only: no bit set.
    pub const RDONLY: OpenFlags = OpenFlags::empty();

    /// The access mode: 0 reading, 1 writing, 2 both, 3 neither.
    pub fn access(self) -> u32 {
        self.bits() & 3
    }
}
