//! Qids and attributes of host files (9P 6, 8.15).

use std::collections::HashMap;

use gofer_9p::wire::{AttrBlock, GetattrMask, Qid, QidType};
use parking_lot::Mutex;
use rustix::fs::StatxFlags;

use crate::host::{FileType, Identity, Stat};

/// Inode numbers that leave room for the number of their device above them.
const SMALL_INO: u64 = 1 << INO_BITS;
const INO_BITS: u32 = 48;

/// The number in place of a device's for files whose inode number leaves it no room.
const ODD: u64 = 0xffff;

/// Makes one 64-bit number of device and inode number, unique while the server lives.
#[derive(Debug, Default)]
pub(super) struct QidPaths {
    numbers: Mutex<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    devices: HashMap<(u32, u32), u64>,
    odd: HashMap<Identity, u64>,
}

impl QidPaths {
    /// The `path` of a file's qid: its inode number, with the number of its device in the top 16
    /// bits, counted from 0 as devices are met. An inode number that needs these bits itself gets
    /// a number of its own.
    pub(super) fn path(&self, file: Identity) -> u64 {
        let mut numbers = self.numbers.lock();
        let known = numbers.devices.len() as u64;
        let device = (file.dev_major, file.dev_minor);
        let device = *numbers.devices.entry(device).or_insert(known);
        if file.ino < SMALL_INO && device < ODD {
            return device << INO_BITS | file.ino;
        }
        let known = numbers.odd.len() as u64;
        ODD << INO_BITS | *numbers.odd.entry(file).or_insert(known)
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
            file(1, SMALL_INO - 1),
            file(1, SMALL_INO + 7),
            file(2, SMALL_INO + 7),
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
    fn device_numbers_are_encoded_as_the_kernel_does() {
        assert_eq!(device_number(1, 3), 259);
        assert_eq!(device_number(4, 0x12345), 0x1230_0445);
    }
}
