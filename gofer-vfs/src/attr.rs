//! What is known of a file: type, mode, owner, sizes, times. Shaped like `statx(2)`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The type of a file, the `S_IFMT` part of a mode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum FileType {
    Regular,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

impl FileType {
    /// The type bits of a Linux `st_mode`; `None` when they name no type.
    pub fn from_mode(mode: u32) -> Option<FileType> {
        match mode & 0o170000 {
            0o100000 => Some(FileType::Regular),
            0o040000 => Some(FileType::Directory),
            0o120000 => Some(FileType::Symlink),
            0o010000 => Some(FileType::Fifo),
            0o140000 => Some(FileType::Socket),
            0o020000 => Some(FileType::CharDevice),
            0o060000 => Some(FileType::BlockDevice),
            _ => None,
        }
    }

    /// The type bits as in `st_mode`.
    pub fn mode_bits(self) -> u32 {
        match self {
            FileType::Regular => 0o100000,
            FileType::Directory => 0o040000,
            FileType::Symlink => 0o120000,
            FileType::Fifo => 0o010000,
            FileType::Socket => 0o140000,
            FileType::CharDevice => 0o020000,
            FileType::BlockDevice => 0o060000,
        }
    }

    /// The type a `DT_*` number of a directory entry stands for; `None` for unknown.
    pub fn from_dirent_type(dt: u8) -> Option<FileType> {
        FileType::from_mode(u32::from(dt) << 12)
    }

    /// The `DT_*` number.
    pub fn dirent_type(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }
}

bitflags::bitflags! {
    /// Which fields of an [`Attr`] are valid, or wanted.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct AttrMask: u32 {
        /// The file type.
        const TYPE = 1;
        /// Permission bits.
        const MODE = 1 << 1;
        /// Number of names.
        const NLINK = 1 << 2;
        /// Owner.
        const UID = 1 << 3;
        /// Group.
        const GID = 1 << 4;
        /// Time of last access.
        const ATIME = 1 << 5;
        /// Time of last change of content.
        const MTIME = 1 << 6;
        /// Time of last change of attributes.
        const CTIME = 1 << 7;
        /// Size in bytes.
        const SIZE = 1 << 8;
        /// Allocated 512-byte units.
        const BLOCKS = 1 << 9;
        /// Time of creation.
        const BTIME = 1 << 10;
        /// Device number of a device file.
        const RDEV = 1 << 11;
        /// All but the time of creation.
        const BASIC = 0xbff;
    }
}

/// A point in time: seconds since 1970 (negative before) and nanoseconds below 10^9.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub sec: i64,
    /// Nanoseconds, 0..10^9, always added.
    pub nsec: u32,
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Timestamp {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Timestamp {
                sec: after.as_secs() as i64,
                nsec: after.subsec_nanos(),
            },
            Err(error) => {
                let before = error.duration();
                match before.subsec_nanos() {
                    0 => Timestamp {
                        sec: -(before.as_secs() as i64),
                        nsec: 0,
                    },
                    nsec => Timestamp {
                        sec: -(before.as_secs() as i64) - 1,
                        nsec: 1_000_000_000 - nsec,
                    },
                }
            }
        }
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> SystemTime {
        let nanos = Duration::from_nanos(u64::from(time.nsec));
        if time.sec >= 0 {
            UNIX_EPOCH + Duration::from_secs(time.sec as u64) + nanos
        } else {
            UNIX_EPOCH - Duration::from_secs(time.sec.unsigned_abs()) + nanos
        }
    }
}

/// A device number in its two parts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[allow(missing_docs)]
pub struct Device {
    pub major: u32,
    pub minor: u32,
}

/// Attributes of a file. Fields outside [`Attr::mask`] hold nothing of meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attr {
    /// Which fields are valid.
    pub mask: AttrMask,
    /// The type.
    pub file_type: FileType,
    /// Permission bits with set-user-ID, set-group-ID and sticky: `mode & 0o7777`.
    pub mode: u16,
    /// Number of names.
    pub nlink: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What device a device file stands for.
    pub rdev: Device,
    /// Size in bytes.
    pub size: u64,
    /// Allocated space in units of 512 bytes.
    pub blocks: u64,
    /// Preferred size of transfers, in bytes; 0 when the server does not say.
    pub block_size: u32,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of attributes.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
}

impl Attr {
    /// Attributes of which only the type is known.
    pub fn of_type(file_type: FileType) -> Attr {
        Attr {
            mask: AttrMask::TYPE,
            file_type,
            mode: 0,
            nlink: 0,
            uid: 0,
            gid: 0,
            rdev: Device::default(),
            size: 0,
            blocks: 0,
            block_size: 0,
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            btime: Timestamp::default(),
        }
    }

    /// Type and permission bits together, as `st_mode`.
    pub fn st_mode(&self) -> u32 {
        self.file_type.mode_bits() | u32::from(self.mode)
    }
}

/// A time to set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// The clock of whoever is authoritative.
    Now,
    /// This time.
    At(Timestamp),
}

/// Attributes to change; `None` leaves one alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct SetAttr {
    /// Permission bits (`0o7777`).
    pub mode: Option<u16>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// New size in bytes: truncates or extends.
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
}

impl SetAttr {
    /// The fields that are to change.
    pub fn mask(&self) -> AttrMask {
        let mut mask = AttrMask::empty();
        mask.set(AttrMask::MODE, self.mode.is_some());
        mask.set(AttrMask::UID, self.uid.is_some());
        mask.set(AttrMask::GID, self.gid.is_some());
        mask.set(AttrMask::SIZE, self.size.is_some());
        mask.set(AttrMask::ATIME, self.atime.is_some());
        mask.set(AttrMask::MTIME, self.mtime.is_some());
        mask
    }

    /// The same but for the fields of `mask`, which are left alone.
    pub(crate) fn without(&self, mask: AttrMask) -> SetAttr {
        let left = |field| !mask.contains(field);
        SetAttr {
            mode: self.mode.filter(|_| left(AttrMask::MODE)),
            uid: self.uid.filter(|_| left(AttrMask::UID)),
            gid: self.gid.filter(|_| left(AttrMask::GID)),
            size: self.size.filter(|_| left(AttrMask::SIZE)),
            atime: self.atime.filter(|_| left(AttrMask::ATIME)),
            mtime: self.mtime.filter(|_| left(AttrMask::MTIME)),
        }
    }
}

/// What a change of attributes achieved. Everything outside `failed` was set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetAttrReport {
    /// The fields that could not be set.
    pub failed: AttrMask,
    /// Why, for one of them.
    pub errno: Option<crate::Errno>,
}

/// Numbers of a file system, as `statfs(2)` gives them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StatFs {
    /// Magic number of the file system's type.
    pub fs_type: u64,
    /// Bytes per block; the unit of the next three.
    pub block_size: u64,
    /// All blocks.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks for ordinary users.
    pub blocks_available: u64,
    /// All inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Longest name, in bytes; 0 when the server does not say.
    pub name_length: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_survive_both_encodings() {
        for bits in 0..16u32 {
            if let Some(file_type) = FileType::from_mode(bits << 12) {
                assert_eq!(file_type.mode_bits(), bits << 12);
                assert_eq!(
                    FileType::from_dirent_type(file_type.dirent_type()),
                    Some(file_type)
                );
            }
        }
        assert_eq!(FileType::from_mode(0o644), None);
    }

    #[test]
    fn times_before_1970_round_trip() {
        for time in [
            Timestamp {
                sec: -1,
                nsec: 250_000_000,
            },
            Timestamp { sec: -5, nsec: 0 },
            Timestamp {
                sec: 7,
                nsec: 999_999_999,
            },
        ] {
            assert_eq!(Timestamp::from(SystemTime::from(time)), time);
        }
    }
}
