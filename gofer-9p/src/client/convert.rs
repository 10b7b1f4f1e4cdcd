//! Between the attributes of the wire and those of gofer-vfs.

use gofer_vfs::remote::{FileKey, RemoteError};
use gofer_vfs::{Attr, AttrMask, Device, Errno, FileType, SetAttr, SetTime, StatFs, Timestamp};

use crate::wire::{
    AttrBlock, Fid, GetattrMask, Level, NO_ID, Qid, QidType, Rstatfs, SetattrMask, Tsetattr,
    Version,
};

/// Owner of files whose server says "no id": Linux's overflow id.
const OVERFLOW_ID: u32 = 65534;

/// Size of transfers where the server says 0 (9P 8.15).
const BLOCK_SIZE: u32 = 4096;

/// The identity that a qid is on the connection of this epoch.
pub(super) fn key(epoch: u32, qid: Qid) -> FileKey {
    FileKey {
        epoch,
        id: [qid.path, 0],
    }
}

/// The type as far as a qid tells: directory, link, or something else.
pub(super) fn qid_type(qid: Qid) -> Option<FileType> {
    if qid.kind.contains(QidType::DIR) {
        Some(FileType::Directory)
    } else if qid.kind.contains(QidType::SYMLINK) {
        Some(FileType::Symlink)
    } else {
        None
    }
}

/// Attributes from an attribute block. Without a file type, or with a size that no file can
/// have, the reply is useless: `EIO`.
pub(super) fn attr(
    version: Version,
    qid: Qid,
    valid: GetattrMask,
    block: &AttrBlock,
) -> Result<Attr, RemoteError> {
    let useless = RemoteError::refused(Errno::EIO);
    if !valid.contains(GetattrMask::MODE) || i64::try_from(block.size).is_err() {
        return Err(useless);
    }
    let file_type = FileType::from_mode(block.mode)
        .or(qid_type(qid))
        .ok_or(useless)?;
    let mut mode = (block.mode & 0o7777) as u16;
    let old_directory = !version.has(Level::DirectoryModes) && file_type == FileType::Directory;
    if old_directory && mode & 0o770 == 0 {
        // Old servers fill in the bits of "others" only (9P 9.14).
        mode |= (mode & 7) << 3 | (mode & 7) << 6;
    }
    Ok(Attr {
        mask: attr_mask(valid),
        file_type,
        mode,
        nlink: block.nlink,
        uid: owner(block.uid),
        gid: owner(block.gid),
        rdev: device(block.rdev),
        size: block.size,
        blocks: block.blocks,
        block_size: match u32::try_from(block.blksize) {
            Ok(0) | Err(_) => BLOCK_SIZE,
            Ok(size) => size,
        },
        atime: time(block.atime_sec, block.atime_nsec),
        mtime: time(block.mtime_sec, block.mtime_nsec),
        ctime: time(block.ctime_sec, block.ctime_nsec),
        btime: time(block.btime_sec, block.btime_nsec),
    })
}

const MASKS: [(GetattrMask, AttrMask); 12] = [
    (GetattrMask::MODE, AttrMask::TYPE),
    (GetattrMask::MODE, AttrMask::MODE),
    (GetattrMask::NLINK, AttrMask::NLINK),
    (GetattrMask::UID, AttrMask::UID),
    (GetattrMask::GID, AttrMask::GID),
    (GetattrMask::RDEV, AttrMask::RDEV),
    (GetattrMask::ATIME, AttrMask::ATIME),
    (GetattrMask::MTIME, AttrMask::MTIME),
    (GetattrMask::CTIME, AttrMask::CTIME),
    (GetattrMask::SIZE, AttrMask::SIZE),
    (GetattrMask::BLOCKS, AttrMask::BLOCKS),
    (GetattrMask::BTIME, AttrMask::BTIME),
];

fn attr_mask(valid: GetattrMask) -> AttrMask {
    let known = MASKS.iter().filter(|(wire, _)| valid.contains(*wire));
    known.fold(AttrMask::empty(), |mask, (_, ours)| mask | *ours)
}

/// What to ask for. The type is always wanted: no attributes are of use without it.
pub(super) fn request_mask(want: AttrMask) -> GetattrMask {
    let wanted = MASKS.iter().filter(|(_, ours)| want.contains(*ours));
    wanted.fold(GetattrMask::MODE | GetattrMask::INO, |mask, (wire, _)| {
        mask | *wire
    })
}

fn owner(id: u32) -> u32 {
    if id == NO_ID { OVERFLOW_ID } else { id }
}

/// Splits a device number in the kernel's external encoding (9P 8.15).
fn device(rdev: u64) -> Device {
    Device {
        major: (rdev >> 8 & 0xfff) as u32,
        minor: (rdev & 0xff | rdev >> 12 & 0xf_ff00) as u32,
    }
}

fn time(sec: u64, nsec: u64) -> Timestamp {
    Timestamp {
        sec: sec.cast_signed(),
        nsec: nsec.min(999_999_999) as u32,
    }
}

/// The request that changes attributes. `None` when there is nothing to change.
pub(super) fn setattr(fid: Fid, set: &SetAttr) -> Option<Tsetattr> {
    let mut valid = SetattrMask::empty();
    valid.set(SetattrMask::MODE, set.mode.is_some());
    valid.set(SetattrMask::UID, set.uid.is_some());
    valid.set(SetattrMask::GID, set.gid.is_some());
    valid.set(SetattrMask::SIZE, set.size.is_some());
    let set_time = |time: Option<SetTime>, any: SetattrMask, value: SetattrMask| match time {
        None => (SetattrMask::empty(), 0, 0),
        Some(SetTime::Now) => (any, 0, 0),
        Some(SetTime::At(at)) => (any | value, at.sec.cast_unsigned(), u64::from(at.nsec)),
    };
    let (atime, atime_sec, atime_nsec) =
        set_time(set.atime, SetattrMask::ATIME, SetattrMask::ATIME_SET);
    let (mtime, mtime_sec, mtime_nsec) =
        set_time(set.mtime, SetattrMask::MTIME, SetattrMask::MTIME_SET);
    valid |= atime | mtime;
    (!valid.is_empty()).then(|| Tsetattr {
        fid,
        valid,
        mode: set.mode.map_or(0, u32::from),
        uid: set.uid.unwrap_or(NO_ID),
        gid: set.gid.unwrap_or(NO_ID),
        size: set.size.unwrap_or(0),
        atime_sec,
        atime_nsec,
        mtime_sec,
        mtime_nsec,
    })
}

/// Numbers of a file system.
pub(super) fn statfs(reply: Rstatfs) -> StatFs {
    StatFs {
        fs_type: u64::from(reply.r#type),
        block_size: u64::from(reply.bsize),
        blocks: reply.blocks,
        blocks_free: reply.bfree,
        blocks_available: reply.bavail,
        files: reply.files,
        files_free: reply.ffree,
        name_length: u64::from(reply.namelen),
    }
}

/// "Not implemented" means "not supported" for what a server may lack (9P 18).
pub(super) fn unsupported(error: RemoteError) -> RemoteError {
    match error.errno {
        Errno::ENOSYS => RemoteError {
            errno: Errno::EOPNOTSUPP,
            ..error
        },
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(mode: u32) -> AttrBlock {
        AttrBlock {
            mode,
            ..AttrBlock::default()
        }
    }

    #[test]
    fn only_fields_the_server_vouches_for_are_valid() {
        let valid = GetattrMask::MODE | GetattrMask::SIZE | GetattrMask::INO;
        let got = attr(Version::Base, Qid::default(), valid, &block(0o100644)).unwrap();
        assert_eq!(got.mask, AttrMask::TYPE | AttrMask::MODE | AttrMask::SIZE);
        assert_eq!((got.file_type, got.mode), (FileType::Regular, 0o644));
        assert_eq!(got.block_size, 4096);
    }

    #[test]
    fn attributes_without_a_type_or_with_an_absurd_size_are_an_error() {
        let basic = GetattrMask::BASIC;
        let qid = Qid::default();
        assert!(attr(Version::Base, qid, GetattrMask::SIZE, &block(0o100644)).is_err());
        assert!(attr(Version::Base, qid, basic, &block(0o644)).is_err());
        let huge = AttrBlock {
            size: 1 << 63,
            ..block(0o100644)
        };
        assert!(attr(Version::Base, qid, basic, &huge).is_err());
        // A qid can stand in for missing type bits.
        let dir = Qid {
            kind: QidType::DIR,
            ..qid
        };
        let got = attr(Version::NEWEST, dir, basic, &block(0o755)).unwrap();
        assert_eq!(got.file_type, FileType::Directory);
    }

    #[test]
    fn old_servers_directory_modes_are_completed() {
        let mode = |version, mode| {
            attr(version, Qid::default(), GetattrMask::BASIC, &block(mode))
                .unwrap()
                .mode
        };
        assert_eq!(mode(Version::Google(5), 0o040005), 0o555);
        assert_eq!(mode(Version::Google(6), 0o040005), 0o005);
        assert_eq!(mode(Version::Google(5), 0o040705), 0o705);
        assert_eq!(mode(Version::Google(5), 0o100005), 0o005);
    }

    #[test]
    fn no_id_becomes_the_overflow_id() {
        let block = AttrBlock {
            uid: NO_ID,
            gid: 5,
            ..block(0o100644)
        };
        let got = attr(Version::Base, Qid::default(), GetattrMask::BASIC, &block).unwrap();
        assert_eq!((got.uid, got.gid), (65534, 5));
    }

    #[test]
    fn device_numbers_are_split_as_linux_joins_them() {
        assert_eq!(device(259), Device { major: 1, minor: 3 });
        let joined = (0x345 & 0xff) | 0xabc << 8 | (0x345 & !0xff) << 12;
        assert_eq!(
            device(joined),
            Device {
                major: 0xabc,
                minor: 0x345
            }
        );
    }

    #[test]
    fn times_are_set_to_a_value_or_to_the_servers_clock() {
        let at = Timestamp { sec: -2, nsec: 7 };
        let set = SetAttr {
            atime: Some(SetTime::Now),
            mtime: Some(SetTime::At(at)),
            ..SetAttr::default()
        };
        let request = setattr(Fid(1), &set).unwrap();
        assert_eq!(
            request.valid,
            SetattrMask::ATIME | SetattrMask::MTIME | SetattrMask::MTIME_SET
        );
        assert_eq!(time(request.mtime_sec, request.mtime_nsec), at);
        assert_eq!(setattr(Fid(1), &SetAttr::default()), None);
    }
}
