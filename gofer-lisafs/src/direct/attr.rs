//! Attributes: the host's words into ours, and changing them.

use std::any::Any;
use std::sync::Arc;

use gofer_vfs::remote::{FileKey, Owner, RemoteError, RemoteHandle, RemoteResult};
use gofer_vfs::{
    Attr, AttrMask, Device, Errno, FileType, SetAttr, SetAttrReport, SetTime, StatFs, Timestamp,
};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Statx, StatxTimestamp, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
    Uid,
};

use super::file::DirectFile;
use super::handle::DirectHandle;
use super::host::{self, refused};
use crate::client::convert;
use crate::wire::StatxMask;

/// Identity and attributes out of what statx(2) says.
pub(super) fn look(stat: host::Result<Statx>) -> RemoteResult<(FileKey, Attr)> {
    let stat = stat.map_err(refused)?;
    let key = convert::key(stat.stx_ino, stat.stx_dev_major, stat.stx_dev_minor);
    let mode = u32::from(stat.stx_mode);
    let file_type = FileType::from_mode(mode).ok_or(RemoteError::unknown(Errno::EIO))?;
    let attr = Attr {
        mask: convert::fields(StatxMask::from_bits_retain(stat.stx_mask)) | AttrMask::RDEV,
        file_type,
        mode: (mode & 0o7777) as u16,
        nlink: stat.stx_nlink.into(),
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        rdev: Device {
            major: stat.stx_rdev_major,
            minor: stat.stx_rdev_minor,
        },
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        block_size: stat.stx_blksize,
        atime: timestamp(&stat.stx_atime),
        mtime: timestamp(&stat.stx_mtime),
        ctime: timestamp(&stat.stx_ctime),
        btime: timestamp(&stat.stx_btime),
    };
    Ok((key, attr))
}

fn timestamp(time: &StatxTimestamp) -> Timestamp {
    Timestamp {
        sec: time.tv_sec,
        nsec: time.tv_nsec,
    }
}

/// Numbers of the file system a file is on.
pub(super) fn stat_fs(file: &DirectFile) -> RemoteResult<StatFs> {
    let found = rustix::fs::fstatfs(&file.fd).map_err(refused)?;
    Ok(StatFs {
        fs_type: found.f_type as u64,
        block_size: u64::try_from(found.f_bsize).unwrap_or(0),
        blocks: found.f_blocks,
        blocks_free: found.f_bfree,
        blocks_available: found.f_bavail,
        files: found.f_files,
        files_free: found.f_ffree,
        name_length: u64::try_from(found.f_namelen).unwrap_or(0),
    })
}

/// As `RemoteFile::set_attr`: owner, mode, size, times, in this order, since a new owner takes
/// bits from the mode, and a new size changes times.
pub(super) fn set(
    file: &DirectFile,
    set: &SetAttr,
    through: Option<&dyn RemoteHandle>,
) -> SetAttrReport {
    let mut report = SetAttrReport::default();
    let mut note = |fields: AttrMask, result: host::Result<()>| {
        if let Err(errno) = result {
            report.failed |= fields & set.mask();
            report.errno.get_or_insert(errno.into());
        }
    };
    let owner = Owner {
        uid: set.uid,
        gid: set.gid,
    };
    note(AttrMask::UID | AttrMask::GID, set_owner(file, owner));
    if let Some(mode) = set.mode {
        note(AttrMask::MODE, set_mode(file, mode));
    }
    if let Some(size) = set.size {
        note(AttrMask::SIZE, set_size(file, size, through));
    }
    if set.atime.is_some() || set.mtime.is_some() {
        let times = Timestamps {
            last_access: timespec(set.atime),
            last_modification: timespec(set.mtime),
        };
        let changed = rustix::fs::utimensat(&file.fd, c"", &times, AtFlags::EMPTY_PATH);
        note(AttrMask::ATIME | AttrMask::MTIME, changed);
    }
    report
}

fn timespec(time: Option<SetTime>) -> Timespec {
    let (tv_sec, tv_nsec) = match time {
        None => (0, UTIME_OMIT),
        Some(SetTime::Now) => (0, UTIME_NOW),
        Some(SetTime::At(at)) => (at.sec, at.nsec.into()),
    };
    Timespec { tv_sec, tv_nsec }
}

/// Changes the ids that are given. The id that means "none" to the host is `EINVAL`.
pub(super) fn set_owner(file: &DirectFile, owner: Owner) -> host::Result<()> {
    if owner == Owner::default() {
        return Ok(());
    }
    if owner.uid == Some(u32::MAX) || owner.gid == Some(u32::MAX) {
        return Err(rustix::io::Errno::INVAL);
    }
    let (uid, gid) = (owner.uid.map(Uid::from_raw), owner.gid.map(Gid::from_raw));
    rustix::fs::chownat(&file.fd, c"", uid, gid, AtFlags::EMPTY_PATH)
}

/// Sets the permission bits. A symbolic link has none: `EOPNOTSUPP`.
pub(super) fn set_mode(file: &DirectFile, mode: u16) -> host::Result<()> {
    if file.file_type == FileType::Symlink {
        return Err(rustix::io::Errno::OPNOTSUPP);
    }
    let mode = Mode::from_raw_mode(u32::from(mode & 0o7777));
    rustix::fs::chmod(host::magic_path(&file.fd), mode)
}

/// Sets the size, through the caller's handle where that may write: then the mode of the file does
/// not matter any more.
fn set_size(file: &DirectFile, size: u64, through: Option<&dyn RemoteHandle>) -> host::Result<()> {
    let handle = through
        .and_then(|handle| <dyn Any>::downcast_ref::<DirectHandle>(handle))
        .filter(|handle| Arc::ptr_eq(&handle.tree, &file.tree) && handle.key == file.key);
    if let Some(handle) = handle.filter(|handle| handle.access.can_write()) {
        return rustix::io::retry_on_intr(|| rustix::fs::ftruncate(&handle.fd, size));
    }
    match file.file_type {
        FileType::Regular => {}
        FileType::Directory => return Err(rustix::io::Errno::ISDIR),
        _ => return Err(rustix::io::Errno::INVAL),
    }
    // O_NONBLOCK: do not wait for the holder of a lease.
    let writable = host::reopen(&file.fd, OFlags::WRONLY | OFlags::NONBLOCK)?;
    rustix::io::retry_on_intr(|| rustix::fs::ftruncate(&writable, size))
}
