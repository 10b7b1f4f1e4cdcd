//! Qids and attributes of host files (9P 6, 8.15).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use gofer_9p::wire::{AttrBlock, GetattrMask, Qid, QidType};
use parking_lot::Mutex;
use rustix::fs::StatxFlags;

use crate::host::{FileType, Identity, Stat};

/// Bits of a path that are of the inode number.
const INO_BITS: u32 = 48;

/// Bits of an inode number that are left as they are.
const INO_LOW: u64 = (1 << INO_BITS) - 1;

/// The prefix of paths that had to be drawn: by then all others have been given away.
const DRAWN: u64 = 0xffff;

/// Makes one 64-bit number of device and inode number, unique while the server lives.
#[derive(Debug, Default)]
pub(super) struct QidPaths {
    /// The first part of all that was met, which has the prefix 0: for most servers the only one.
    first: OnceLock<Part>,
    others: Mutex<HashMap<Part, u64>>,
    /// Chosen by chance when the server starts.
    draw: RandomState,
}

/// All files of a device whose inode numbers begin alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Part {
    dev_major: u32,
    dev_minor: u32,
    ino_high: u64,
}

impl QidPaths {
    /// The `path` of a file's qid: the low 48 bits of its inode number, and above them a number
    /// for its device and the upper bits, counted as such pairs are met. File systems use few upper
    /// bits, if any, so there is a number for each; for one that does not, what is beyond the
    /// 65,535th is hashed, and nothing grows.
    pub(super) fn path(&self, file: Identity) -> u64 {
        let part = Part {
            dev_major: file.dev_major,
            dev_minor: file.dev_minor,
            ino_high: file.ino >> INO_BITS,
        };
        let low = file.ino & INO_LOW;
        if *self.first.get_or_init(|| part) == part {
            return low;
        }
        match self.prefix(part) {
            Some(prefix) => prefix << INO_BITS | low,
            None => DRAWN << INO_BITS | self.draw.hash_one(file) & INO_LOW,
        }
    }

    fn prefix(&self, part: Part) -> Option<u64> {
        let mut others = self.others.lock();
        if let Some(prefix) = others.get(&part) {
            return Some(*prefix);
        }
        let next = others.len() as u64 + 1;
        if next >= DRAWN {
            return None;
        }
        others.insert(part, next);
        Some(next)
    }

    /// The qid of the file that `stat` describes.
    pub(super) fn qid(&self, stat: &Stat) -> Qid {
        Qid {
            kind: qid_type(file_type(stat)),
            version: version(stat),
            path: self.path(Identity::of(stat)),
        }
    }
}

/// The type of the file that `stat` describes.
pub(super) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(u32::from(stat.stx_mode))
}

/// The type byte of a qid.
pub(super) fn qid_type(file_type: FileType) -> QidType {
    match file_type {
        FileType::Directory => QidType::DIR,
        FileType::Symlink => QidType::SYMLINK,
        _ => QidType::empty(),
    }
}

/// The number for directory entries, as in `DT_*` (9P 8.19).
pub(super) fn entry_type(file_type: FileType) -> u8 {
    match file_type {
        FileType::Fifo => 1,
        FileType::CharacterDevice => 2,
        FileType::Directory => 4,
        FileType::BlockDevice => 6,
        FileType::RegularFile => 8,
        FileType::Symlink => 10,
        FileType::Socket => 12,
        FileType::Unknown => 0,
    }
}

/// Changes with times and size of a regular file and is never 0, which would tell newer kernels
/// not to cache it (9P 6.2); 0 for others.
fn version(stat: &Stat) -> u32 {
    if file_type(stat) != FileType::RegularFile {
        return 0;
    }
    let parts = [
        stat.stx_ctime.tv_sec as u64,
        u64::from(stat.stx_ctime.tv_nsec),
        stat.stx_mtime.tv_sec as u64,
        u64::from(stat.stx_mtime.tv_nsec),
        stat.stx_size,
    ];
    // FNV-1a over whole words, folded.
    let hash = parts.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, part| {
        (hash ^ part).wrapping_mul(0x0100_0000_01b3)
    });
    ((hash >> 32) as u32 ^ hash as u32).max(1)
}

/// The attribute block of `stat` and which of its fields count: all that the host tells.
pub(super) fn attributes(stat: &Stat) -> (GetattrMask, AttrBlock) {
    let has_btime = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    let (btime_sec, btime_nsec, btime) = match has_btime {
        true => (
            stat.stx_btime.tv_sec,
            stat.stx_btime.tv_nsec,
            GetattrMask::BTIME,
        ),
        false => (0, 0, GetattrMask::empty()),
    };
    let attr = AttrBlock {
        mode: u32::from(stat.stx_mode),
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        nlink: u64::from(stat.stx_nlink),
        rdev: device_number(stat.stx_rdev_major, stat.stx_rdev_minor),
        size: stat.stx_size,
        // Programs divide by it.
        blksize: u64::from(stat.stx_blksize).max(4096),
        blocks: stat.stx_blocks,
        atime_sec: stat.stx_atime.tv_sec as u64,
        atime_nsec: u64::from(stat.stx_atime.tv_nsec),
        mtime_sec: stat.stx_mtime.tv_sec as u64,
        mtime_nsec: u64::from(stat.stx_mtime.tv_nsec),
        ctime_sec: stat.stx_ctime.tv_sec as u64,
        ctime_nsec: u64::from(stat.stx_ctime.tv_nsec),
        btime_sec: btime_sec as u64,
        btime_nsec: u64::from(btime_nsec),
        ..AttrBlock::default()
    };
    (GetattrMask::BASIC | btime, attr)
}

/// The kernel's external encoding of a device number.
fn device_number(major: u32, minor: u32) -> u64 {
    let (major, minor) = (u64::from(major), u64::from(minor));
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dev_minor: u32, ino: u64) -> Identity {
        Identity {
            dev_major: 8,
            dev_minor,
            ino,
        }
    }

    #[test]
    fn files_of_different_devices_never_share_a_path() {
        let paths = QidPaths::default();
        let files = [
            file(1, 7),
            file(2, 7),
            file(1, INO_LOW),
            file(1, INO_LOW + 8),
            file(2, INO_LOW + 8),
            file(1, u64::MAX),
        ];
        let first: Vec<_> = files.iter().map(|file| paths.path(*file)).collect();
        let mut distinct = first.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), files.len(), "{first:x?}");
        assert_eq!(first[0], 7, "the first device needs no prefix");
        let again: Vec<_> = files.iter().map(|file| paths.path(*file)).collect();
        assert_eq!(again, first);
    }

    #[test]
    fn paths_of_many_devices_are_distinct_and_take_bounded_memory() {
        let paths = QidPaths::default();
        let mut distinct = std::collections::HashSet::new();
        for minor in 0..200_000 {
            assert!(distinct.insert(paths.path(file(minor, 7))), "{minor}");
        }
        assert!(paths.others.lock().len() < 1 << 16);
        let odd = paths.path(file(199_999, 7));
        assert_eq!(paths.path(file(199_999, 7)), odd);
        assert_eq!(odd >> INO_BITS, DRAWN);
        assert_eq!(paths.path(file(0, 8)), 8);
    }

    #[test]
    fn device_numbers_are_encoded_as_the_kernel_does() {
        assert_eq!(device_number(1, 3), 259);
        assert_eq!(device_number(4, 0x12345), 0x1230_0445);
    }
}
