//! Between FUSE's types and the file system's: attributes, times, flags, errors.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, INodeNo, TimeOrNow};
use gofer_vfs::{Attr, Device, Errno, Error, FileType, Name, SetTime, Timestamp};

/// An error number for the kernel.
pub(crate) fn errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.raw())
}

/// The number of an error for the kernel.
pub(crate) fn error(error: Error) -> fuser::Errno {
    errno(error.errno())
}

/// A name the kernel sent.
pub(crate) fn name(name: &OsStr) -> Result<Name<'_>, fuser::Errno> {
    Name::new(name.as_bytes()).map_err(errno)
}

pub(crate) fn file_type(file_type: FileType) -> fuser::FileType {
    match file_type {
        FileType::Regular => fuser::FileType::RegularFile,
        FileType::Directory => fuser::FileType::Directory,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::Socket => fuser::FileType::Socket,
        FileType::CharDevice => fuser::FileType::CharDevice,
        FileType::BlockDevice => fuser::FileType::BlockDevice,
    }
}

/// Attributes for the kernel, under the number it knows the file by.
pub(crate) fn attr(ino: u64, attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime.into(),
        mtime: attr.mtime.into(),
        ctime: attr.ctime.into(),
        crtime: attr.btime.into(),
        kind: file_type(attr.file_type),
        perm: attr.mode,
        nlink: u32::try_from(attr.nlink).unwrap_or(u32::MAX),
        uid: attr.uid,
        gid: attr.gid,
        rdev: encode_device(attr.rdev),
        blksize: attr.block_size,
        flags: 0,
    }
}

/// Attributes of no file: of its type only. Number 0 tells the kernel that there is none.
pub(crate) fn no_file(number: u64, kind: FileType) -> FileAttr {
    attr(number, &Attr::of_type(kind))
}

/// A device number in the 32 bits that FUSE has for it (`new_encode_dev` of Linux).
pub(crate) fn encode_device(device: Device) -> u32 {
    (device.minor & 0xff) | (device.major << 8) | ((device.minor & !0xff) << 12)
}

/// The other way round.
pub(crate) fn decode_device(device: u32) -> Device {
    Device {
        major: (device >> 8) & 0xfff,
        minor: (device & 0xff) | ((device >> 12) & 0xf_ff00),
    }
}

/// A time to set, as fuser hands it over.
pub(crate) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(time_from_fuse(time)),
    }
}

/// What the kernel meant: fuser subtracts the nanoseconds of a time before 1970, where Linux
/// always adds them.
pub(crate) fn time_from_fuse(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timestamp {
            sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            nsec: after.subsec_nanos(),
        },
        Err(error) => {
            let before = error.duration();
            Timestamp {
                sec: 0i64.saturating_sub_unsigned(before.as_secs()),
                nsec: before.subsec_nanos(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// What fuser 0.18.0 makes of seconds and nanoseconds.
    fn as_fuser_does(sec: i64, nsec: u32) -> SystemTime {
        if sec >= 0 {
            UNIX_EPOCH + Duration::new(sec as u64, nsec)
        } else {
            UNIX_EPOCH - Duration::new(sec.unsigned_abs(), nsec)
        }
    }

    #[test]
    fn times_arrive_as_they_were_meant() {
        for (sec, nsec) in [
            (0, 0),
            (0, 1),
            (-1, 0),
            (-1, 999_999_999),
            (-2, 250_000_000),
            (7, 5),
            (i64::MIN, 0),
            (i64::MAX, 0),
        ] {
            let time = time_from_fuse(as_fuser_does(sec, nsec));
            assert_eq!(time, Timestamp { sec, nsec });
        }
    }

    #[test]
    fn devices_survive_their_encoding() {
        for (major, minor) in [(0, 0), (1, 3), (8, 255), (8, 256), (0xfff, 0xf_ffff)] {
            let device = Device { major, minor };
            assert_eq!(decode_device(encode_device(device)), device);
        }
    }
}
