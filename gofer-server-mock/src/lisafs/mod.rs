//! lisafs over the host layer.
//!
//! - `connection.rs`: frames in and out, the order of checks before a handler runs.
//! - `channel.rs`: requests and responses in shared memory instead.
//! - `fds.rs`: the FDIDs of a connection.
//! - `tree.rs`, `file.rs`, `attr.rs`, `socket.rs`: the handlers.
//!
//! Behaves as gVisor's main branch (lisafs 12.3), without its flaws. The socket and each channel
//! have a thread of their own and carry one request at a time.

#[cfg(test)]
mod allocations;
mod attr;
mod channel;
mod connection;
mod fds;
mod file;
mod socket;
mod tree;

use std::io;
use std::sync::Arc;

use gofer_lisafs::wire::{Inode, Mid, NO_ID, Statx, StatxTimestamp};
use gofer_transport::Stream;
use rustix::io::Errno;

use crate::channels::Channels;
use crate::host::{Export, FileType, Found, Owner, Policy, Result, Stat};
use crate::limits::Limits;
use fds::{Fds, Room};

/// Serves one lisafs connection until it ends.
pub fn serve(stream: &Stream, export: Arc<Export>, limits: &Limits) -> io::Result<()> {
    let session = Arc::new(Session {
        export,
        max_message_size: limits.message_size,
        fds: Fds::new(limits.handles),
        channels: Channels::new(limits.channels),
    });
    let _end = EndOfSession(&session);
    connection::run(stream, &session)
}

/// Ends the channels when the socket has ended, in whatever way: their threads keep the session.
struct EndOfSession<'a>(&'a Session);

impl Drop for EndOfSession<'_> {
    fn drop(&mut self) {
        self.0.channels.end();
    }
}

/// What Mount lists: all but Flush, which has nothing to do. Channel comes first, so that it can be
/// left out.
const SUPPORTED: [Mid; 32] = [
    Mid::CHANNEL,
    Mid::MOUNT,
    Mid::FSTAT,
    Mid::SET_STAT,
    Mid::WALK,
    Mid::WALK_STAT,
    Mid::OPEN_AT,
    Mid::OPEN_CREATE_AT,
    Mid::CLOSE,
    Mid::FSYNC,
    Mid::PWRITE,
    Mid::PREAD,
    Mid::MKDIR_AT,
    Mid::MKNOD_AT,
    Mid::SYMLINK_AT,
    Mid::LINK_AT,
    Mid::FSTATFS,
    Mid::FALLOCATE,
    Mid::READ_LINK_AT,
    Mid::CONNECT,
    Mid::UNLINK_AT,
    Mid::RENAME_AT,
    Mid::GETDENTS64,
    Mid::FGET_XATTR,
    Mid::FSET_XATTR,
    Mid::FLIST_XATTR,
    Mid::FREMOVE_XATTR,
    Mid::BIND_AT,
    Mid::LISTEN,
    Mid::ACCEPT,
    Mid::CONNECT_WITH_CREDS,
    Mid::RENAME_AT2,
];

/// Requests that a read-only connection refuses before it looks at them (lisafs 6): [`bits`].
const CHANGES: u64 = bits(&[
    Mid::SET_STAT,
    Mid::OPEN_CREATE_AT,
    Mid::PWRITE,
    Mid::MKDIR_AT,
    Mid::MKNOD_AT,
    Mid::SYMLINK_AT,
    Mid::LINK_AT,
    Mid::FALLOCATE,
    Mid::UNLINK_AT,
    Mid::RENAME_AT,
    Mid::FSET_XATTR,
    Mid::FREMOVE_XATTR,
    Mid::BIND_AT,
    Mid::RENAME_AT2,
]);

/// Bit n for message n. There is none for a number that no message has.
const fn bit(mid: Mid) -> u64 {
    match mid.get() {
        number @ 0..64 => 1 << number,
        _ => 0,
    }
}

/// The bits of several messages.
const fn bits(mids: &[Mid]) -> u64 {
    match mids {
        [first, others @ ..] => bit(*first) | bits(others),
        [] => 0,
    }
}

/// The state of one connection.
#[derive(Debug)]
struct Session {
    export: Arc<Export>,
    /// Bytes of the largest payload, in either direction (lisafs 2.4).
    max_message_size: u32,
    fds: Fds,
    channels: Channels,
}

impl Session {
    /// The messages that are served.
    fn supported(&self) -> &'static [Mid] {
        let [_channel, others @ ..] = &SUPPORTED;
        if self.channels.limit() > 0 {
            &SUPPORTED
        } else {
            others
        }
    }

    /// Whether a message is among them.
    fn supports(&self, mid: Mid) -> bool {
        const BITS: u64 = bits(&SUPPORTED);
        BITS & bit(mid) != 0 && (mid != Mid::CHANNEL || self.channels.limit() > 0)
    }
}

/// Hands out a control FD for what was found.
fn inode(room: &mut Room<'_>, found: Found) -> Inode {
    Inode {
        control_fd: room.add_control(found.node),
        stat: statx(&found.stat),
    }
}

/// `EPERM` for a type that is not served (lisafs 9.6).
fn check_type(policy: &Policy, stat: &Stat) -> Result<()> {
    match is_served(policy, FileType::from_raw_mode(u32::from(stat.stx_mode))) {
        true => Ok(()),
        false => Err(Errno::PERM),
    }
}

/// Whether clients get to see files of this type (lisafs 9.6).
fn is_served(policy: &Policy, file_type: FileType) -> bool {
    match file_type {
        FileType::BlockDevice => policy.all_types,
        FileType::Unknown => false,
        _ => true,
    }
}

/// The name check of lisafs 5.4, which comes before FDIDs are looked up. Zero bytes are refused
/// later, where the host layer takes the name.
fn check_name(name: &[u8]) -> Result<()> {
    if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
        Err(Errno::INVAL)
    } else {
        Ok(())
    }
}

/// Owner of a new file; 0xFFFFFFFF leaves what the host chose.
fn owner(uid: u32, gid: u32) -> Owner {
    let id = |id| (id != NO_ID).then_some(id);
    Owner {
        uid: id(uid),
        gid: id(gid),
    }
}

/// Attributes for the wire. The mask is the kernel's own; attribute flags stay zero (lisafs 4.1).
fn statx(stat: &Stat) -> Statx {
    let time = |time: &rustix::fs::StatxTimestamp| StatxTimestamp {
        sec: time.tv_sec.into(),
        nsec: time.tv_nsec.into(),
        padding: [0; 4],
    };
    Statx {
        mask: stat.stx_mask.into(),
        blksize: stat.stx_blksize.into(),
        nlink: stat.stx_nlink.into(),
        uid: stat.stx_uid.into(),
        gid: stat.stx_gid.into(),
        mode: stat.stx_mode.into(),
        ino: stat.stx_ino.into(),
        size: stat.stx_size.into(),
        blocks: stat.stx_blocks.into(),
        atime: time(&stat.stx_atime),
        btime: time(&stat.stx_btime),
        ctime: time(&stat.stx_ctime),
        mtime: time(&stat.stx_mtime),
        rdev_major: stat.stx_rdev_major.into(),
        rdev_minor: stat.stx_rdev_minor.into(),
        dev_major: stat.stx_dev_major.into(),
        dev_minor: stat.stx_dev_minor.into(),
        ..Statx::default()
    }
}
