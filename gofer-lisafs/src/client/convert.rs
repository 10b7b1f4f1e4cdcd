//! Between the words of the wire and those of gofer-vfs. Servers are not trusted (semantics 22.5).

use gofer_vfs::remote::{FileKey, Owner};
use gofer_vfs::{Attr, AttrMask, Device, Errno, FileType, SetAttr, SetTime, Timestamp};

use crate::wire::{
    Fdid, NO_ID, SetStatReq, StatFs, Statx, StatxMask, StatxTimestamp, Timespec, UTIME_NOW,
};

/// Stands for an owner that the server cannot name (semantics 3.5).
const OVERFLOW_ID: u32 = 65534;

/// The identity of a file on this connection.
pub(crate) fn key(ino: u64, dev_major: u32, dev_minor: u32) -> FileKey {
    let device = u64::from(dev_major) << 32 | u64::from(dev_minor);
    FileKey {
        epoch: 0,
        id: [ino, device],
    }
}

/// The identity of the file that `stat` is of.
pub(super) fn stat_key(stat: &Statx) -> FileKey {
    key(stat.ino.get(), stat.dev_major.get(), stat.dev_minor.get())
}

/// Attributes, `EIO` without a type, and for a regular file without a size that a file can have
/// (semantics 3.5).
pub(super) fn attr(stat: &Statx) -> Result<Attr, Errno> {
    let valid = stat.valid();
    let mode = u32::from(stat.mode.get());
    let file_type = FileType::from_mode(mode).filter(|_| valid.contains(StatxMask::TYPE));
    let mut attr = Attr::of_type(file_type.ok_or(Errno::EIO)?);
    let has_size = valid.contains(StatxMask::SIZE);
    if has_size && i64::try_from(stat.size.get()).is_err()
        || attr.file_type == FileType::Regular && !has_size
    {
        return Err(Errno::EIO);
    }
    for (bit, field) in MASKS {
        attr.mask.set(field, valid.contains(bit));
    }
    attr.mask |= AttrMask::RDEV;
    attr.mode = (mode & 0o7777) as u16;
    attr.nlink = stat.nlink.get().into();
    attr.uid = id(stat.uid.get());
    attr.gid = id(stat.gid.get());
    attr.rdev = Device {
        major: stat.rdev_major.get(),
        minor: stat.rdev_minor.get(),
    };
    attr.size = stat.size.get();
    attr.blocks = stat.blocks.get();
    attr.block_size = stat.blksize.get();
    for (field, time, into) in [
        (AttrMask::ATIME, &stat.atime, &mut attr.atime),
        (AttrMask::MTIME, &stat.mtime, &mut attr.mtime),
        (AttrMask::CTIME, &stat.ctime, &mut attr.ctime),
        (AttrMask::BTIME, &stat.btime, &mut attr.btime),
    ] {
        match timestamp(time) {
            Some(time) => *into = time,
            None => attr.mask.remove(field),
        }
    }
    Ok(attr)
}

/// The bits of the wire and the fields they stand for, where both have one.
const MASKS: [(StatxMask, AttrMask); 11] = [
    (StatxMask::TYPE, AttrMask::TYPE),
    (StatxMask::MODE, AttrMask::MODE),
    (StatxMask::NLINK, AttrMask::NLINK),
    (StatxMask::UID, AttrMask::UID),
    (StatxMask::GID, AttrMask::GID),
    (StatxMask::ATIME, AttrMask::ATIME),
    (StatxMask::MTIME, AttrMask::MTIME),
    (StatxMask::CTIME, AttrMask::CTIME),
    (StatxMask::SIZE, AttrMask::SIZE),
    (StatxMask::BLOCKS, AttrMask::BLOCKS),
    (StatxMask::BTIME, AttrMask::BTIME),
];

/// The fields that bits of the wire stand for; bits without a field are left out.
pub(crate) fn fields(bits: StatxMask) -> AttrMask {
    MASKS
        .iter()
        .filter(|(bit, _)| bits.contains(*bit))
        .fold(AttrMask::empty(), |all, (_, field)| all | *field)
}

fn bits(fields: AttrMask) -> StatxMask {
    MASKS
        .iter()
        .filter(|(_, field)| fields.contains(*field))
        .fold(StatxMask::empty(), |all, (bit, _)| all | *bit)
}

fn id(raw: u32) -> u32 {
    if raw == NO_ID { OVERFLOW_ID } else { raw }
}

/// `None` for nanoseconds that are none.
fn timestamp(time: &StatxTimestamp) -> Option<Timestamp> {
    let nsec = time.nsec.get();
    (nsec < 1_000_000_000).then(|| Timestamp {
        sec: time.sec.get(),
        nsec,
    })
}

/// The request that changes `set` of the file `fd`.
pub(super) fn set_stat(fd: Fdid, set: &SetAttr) -> SetStatReq {
    let time = |time: Option<SetTime>| match time {
        None => Timespec::default(),
        Some(SetTime::Now) => Timespec {
            sec: 0.into(),
            nsec: UTIME_NOW.into(),
        },
        Some(SetTime::At(at)) => Timespec {
            sec: at.sec.into(),
            nsec: i64::from(at.nsec).into(),
        },
    };
    SetStatReq {
        fd,
        mask: bits(set.mask()).bits(),
        mode: set.mode.map_or(0, |mode| u32::from(mode & 0o7777)),
        uid: set.uid.unwrap_or(NO_ID),
        gid: set.gid.unwrap_or(NO_ID),
        size: set.size.unwrap_or(0),
        atime: time(set.atime),
        mtime: time(set.mtime),
    }
}

/// User and group as the wire has them.
pub(super) fn owner(owner: Owner) -> (u32, u32) {
    (owner.uid.unwrap_or(NO_ID), owner.gid.unwrap_or(NO_ID))
}

/// Numbers of a file system; a block size below 0 is nonsense and becomes 0.
pub(super) fn stat_fs(fs: &StatFs) -> gofer_vfs::StatFs {
    gofer_vfs::StatFs {
        fs_type: fs.fs_type.get(),
        block_size: u64::try_from(fs.block_size.get()).unwrap_or(0),
        blocks: fs.blocks.get(),
        blocks_free: fs.blocks_free.get(),
        blocks_available: fs.blocks_available.get(),
        files: fs.files.get(),
        files_free: fs.files_free.get(),
        name_length: fs.name_length.get(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regular() -> Statx {
        Statx {
            mask: 0x7ff.into(),
            mode: 0o104755.into(),
            size: 5.into(),
            ..Statx::default()
        }
    }

    #[test]
    fn attributes_without_a_type_or_a_file_without_a_size_are_refused() {
        assert_eq!(attr(&regular()).unwrap().st_mode(), 0o104755);
        for bad in [
            Statx {
                mask: 0x7fe.into(),
                ..regular()
            },
            Statx {
                mask: 0x5ff.into(),
                ..regular()
            },
            Statx {
                mode: 0o755.into(),
                ..regular()
            },
            Statx {
                size: (1 << 63).into(),
                ..regular()
            },
        ] {
            assert_eq!(attr(&bad), Err(Errno::EIO));
        }
        let dir = Statx {
            mask: 1.into(),
            mode: 0o040000.into(),
            ..regular()
        };
        assert_eq!(attr(&dir).unwrap().mask, AttrMask::TYPE | AttrMask::RDEV);
    }

    #[test]
    fn nameless_owners_and_impossible_times_are_mended() {
        let mut stat = Statx {
            uid: NO_ID.into(),
            gid: 7.into(),
            ..regular()
        };
        stat.mtime.nsec = 1_000_000_000.into();
        let attr = attr(&stat).unwrap();
        assert_eq!((attr.uid, attr.gid), (OVERFLOW_ID, 7));
        assert!(!attr.mask.contains(AttrMask::MTIME));
        assert!(attr.mask.contains(AttrMask::ATIME));
    }

    #[test]
    fn only_what_is_set_is_in_the_mask_of_a_change() {
        let set = SetAttr {
            mode: Some(0o4755),
            gid: Some(9),
            mtime: Some(SetTime::Now),
            ..SetAttr::default()
        };
        let request = set_stat(Fdid::new(3), &set);
        assert_eq!(request.mask, 0x52);
        assert_eq!((request.mode, request.uid, request.gid), (0o4755, NO_ID, 9));
        assert_eq!(request.mtime.nsec.get(), UTIME_NOW);
        assert_eq!(
            fields(StatxMask::from_bits_retain(0x52)),
            AttrMask::MODE | AttrMask::GID | AttrMask::MTIME
        );
    }
}
