//! A control FD: a place in the tree.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gofer_transport::FdQueue;
use gofer_vfs::remote::{
    Call, Found, New, OpenMode, Owner, Promptness, RemoteError, RemoteFile, RemoteHandle,
    RemoteResult, RemoteSocket, Seen, SocketType, WalkEnd,
};
use gofer_vfs::{
    Attr, AttrMask, Errno, FileType, Name, RenameFlags, SetAttr, SetAttrReport, StatFs, XattrFlags,
};

use super::connection::Connection;
use super::convert;
use super::handle::OpenFile;
use super::socket::BoundSocket;
use super::{walk, xattr};
use crate::wire::{
    AT_REMOVEDIR, BindAtReq, ConnectReq, CreateCommon, FStatFSReq, FStatReq, Fdid, Inode,
    LinkAtReq, Mid, MkdirAtReq, MknodAtReq, OpenAtReq, OpenCreateAtReq, ReadLinkAtReq,
    RenameAt2Req, RenameAtReq, StatxMask, SymlinkAtReq, UnlinkAtReq,
};

/// `O_TRUNC` of Linux.
const O_TRUNC: u32 = 0o1000;

/// Type numbers of sockets (lisafs 6.21).
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const SOCK_SEQPACKET: u32 = 5;

/// A control FD that this client owns.
pub(super) struct ControlFile {
    pub(super) connection: Arc<Connection>,
    pub(super) fd: Fdid,
    pub(super) file_type: FileType,
    released: AtomicBool,
}

impl ControlFile {
    /// Takes over the control FD of `inode`. A file that cannot be one is `EIO`, and its FD is
    /// closed (semantics 3.5).
    pub(super) fn adopt(connection: &Arc<Connection>, inode: &Inode) -> RemoteResult<Found> {
        match convert::attr(&inode.stat) {
            Ok(attr) if inode.control_fd != Fdid::NONE => {
                connection.closes.hold();
                Ok(Found {
                    file: Arc::new(ControlFile {
                        connection: connection.clone(),
                        fd: inode.control_fd,
                        file_type: attr.file_type,
                        released: AtomicBool::new(false),
                    }),
                    key: convert::stat_key(&inode.stat),
                    attr,
                })
            }
            _ => {
                connection
                    .closes
                    .push(inode.control_fd, Promptness::Batched);
                Err(RemoteError::unknown(Errno::EIO))
            }
        }
    }

    /// Whether [`ControlFile::adopt`] would succeed.
    pub(super) fn can_adopt(inode: &Inode) -> bool {
        inode.control_fd != Fdid::NONE && convert::attr(&inode.stat).is_ok()
    }

    /// As [`ControlFile::adopt`], for a file that was made as `file_type`: any other is `EIO`.
    fn adopt_new(&self, inode: &Inode, file_type: FileType) -> RemoteResult<Found> {
        let found = ControlFile::adopt(&self.connection, inode)?;
        match found.attr.file_type == file_type {
            true => Ok(found),
            false => Err(RemoteError::unknown(Errno::EIO)),
        }
    }

    /// `other` as a file of this connection; any other is `EXDEV`.
    pub(super) fn sibling<'f>(&self, other: &'f dyn RemoteFile) -> RemoteResult<&'f ControlFile> {
        let other: &dyn Any = other;
        other
            .downcast_ref::<ControlFile>()
            .filter(|other| Arc::ptr_eq(&self.connection, &other.connection))
            .ok_or(RemoteError::not_sent(Errno::EXDEV))
    }

    fn common(&self, mode: u32, owner: Owner) -> CreateCommon {
        let (uid, gid) = convert::owner(owner);
        // Type bits and permission bits together have 16 bits.
        CreateCommon::new(self.fd, uid, gid, mode as u16)
    }

    fn connect_as(&self, call: &Call<'_>, sock_type: u32) -> RemoteResult<OwnedFd> {
        let request = ConnectReq {
            fd: self.fd,
            sock_type,
        };
        self.connection.call(call, &request, |_, fds| required(fds))
    }
}

impl Drop for ControlFile {
    fn drop(&mut self) {
        self.release(Promptness::Batched);
    }
}

/// A descriptor without which the call has failed (lisafs 6.21).
pub(super) fn required(fds: &mut FdQueue) -> RemoteResult<OwnedFd> {
    fds.pop().ok_or(RemoteError::unknown(Errno::EBADF))
}

/// Checks a string that travels with a 16-bit length.
fn fits(bytes: &[u8], errno: Errno) -> RemoteResult<()> {
    match bytes.len() <= usize::from(u16::MAX) {
        true => Ok(()),
        false => Err(RemoteError::not_sent(errno)),
    }
}

fn name_fits(name: Name<'_>) -> RemoteResult<()> {
    fits(name.as_bytes(), Errno::ENAMETOOLONG)
}

impl RemoteFile for ControlFile {
    fn walk(
        &self,
        call: &Call<'_>,
        names: &[Name<'_>],
        found: &mut dyn FnMut(Found),
    ) -> RemoteResult<WalkEnd> {
        walk::walk(self, call, names, found)
    }

    fn revalidate(
        &self,
        call: &Call<'_>,
        known: &[(Name<'_>, &dyn RemoteFile)],
        seen: &mut dyn FnMut(Seen),
    ) -> RemoteResult<()> {
        walk::revalidate(self, call, known, seen)
    }

    fn attr(&self, call: &Call<'_>, _want: AttrMask) -> RemoteResult<Attr> {
        self.connection
            .call(call, &FStatReq { fd: self.fd }, |response, _| {
                convert::attr(&response.stat).map_err(RemoteError::unknown)
            })
    }

    /// A control FD serves a deleted file as well, so the handle is not needed (lisafs 6.4).
    fn set_attr(
        &self,
        call: &Call<'_>,
        set: &SetAttr,
        _through: Option<&dyn RemoteHandle>,
    ) -> RemoteResult<SetAttrReport> {
        let request = convert::set_stat(self.fd, set);
        self.connection.call(call, &request, |response, _| {
            let failed = StatxMask::from_bits_retain(response.failure_mask);
            let failed = convert::fields(failed) & set.mask();
            let errno = Errno::from_raw(i32::try_from(response.failure_errno).unwrap_or(0));
            Ok(SetAttrReport {
                failed,
                errno: (!failed.is_empty()).then_some(errno),
            })
        })
    }

    fn open(&self, call: &Call<'_>, mode: OpenMode) -> RemoteResult<Arc<dyn RemoteHandle>> {
        let truncate = if mode.truncate { O_TRUNC } else { 0 };
        let request = OpenAtReq {
            fd: self.fd,
            flags: mode.access.bits() | truncate,
        };
        self.connection.call(call, &request, |response, fds| {
            let host_fd = fds.pop();
            let connection = &self.connection;
            let file = OpenFile::adopt(connection, response.open_fd, self.file_type, host_fd)?;
            Ok(Arc::new(file) as Arc<dyn RemoteHandle>)
        })
    }

    fn create(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        perm: u16,
        owner: Owner,
        mode: OpenMode,
    ) -> RemoteResult<(Found, Arc<dyn RemoteHandle>)> {
        name_fits(name)?;
        // Only the access mode is sent: there is nothing to truncate (semantics 3.6).
        let request = OpenCreateAtReq {
            common: self.common((perm & 0o7777).into(), owner),
            flags: mode.access.bits(),
            name: name.as_bytes(),
        };
        self.connection.call(call, &request, |response, fds| {
            let (connection, host_fd) = (&self.connection, fds.pop());
            let file_type = FileType::Regular;
            // Both are adopted before either can fail, so that neither leaks.
            let handle = OpenFile::adopt(connection, response.open_fd, file_type, host_fd);
            let found = self.adopt_new(&response.child, file_type);
            Ok((found?, Arc::new(handle?) as Arc<dyn RemoteHandle>))
        })
    }

    fn make(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        new: New<'_>,
        perm: u16,
        owner: Owner,
    ) -> RemoteResult<Option<Found>> {
        name_fits(name)?;
        let perm = u32::from(perm & 0o7777);
        let node = |file_type: FileType, device: gofer_vfs::Device| {
            let request = MknodAtReq {
                common: self.common(file_type.mode_bits() | perm, owner),
                minor: device.minor,
                major: device.major,
                name: name.as_bytes(),
            };
            self.connection.call(call, &request, |response, _| {
                self.adopt_new(&response.child, file_type)
            })
        };
        let none = gofer_vfs::Device::default();
        let found = match new {
            New::Dir => {
                let request = MkdirAtReq {
                    common: self.common(perm, owner),
                    name: name.as_bytes(),
                };
                self.connection.call(call, &request, |response, _| {
                    self.adopt_new(&response.child_dir, FileType::Directory)
                })
            }
            New::Symlink(target) => {
                fits(target, Errno::ENAMETOOLONG)?;
                let (uid, gid) = convert::owner(owner);
                let (dir_fd, name) = (self.fd, name.as_bytes());
                let request = SymlinkAtReq {
                    dir_fd,
                    uid,
                    gid,
                    name,
                    target,
                };
                self.connection.call(call, &request, |response, _| {
                    self.adopt_new(&response.symlink, FileType::Symlink)
                })
            }
            New::Regular => node(FileType::Regular, none),
            New::Fifo => node(FileType::Fifo, none),
            New::Socket => node(FileType::Socket, none),
            New::Char(device) => node(FileType::CharDevice, device),
            New::Block(device) => node(FileType::BlockDevice, device),
        };
        found.map(Some)
    }

    fn link(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        target: &dyn RemoteFile,
    ) -> RemoteResult<Option<Found>> {
        name_fits(name)?;
        let target = self.sibling(target)?;
        let request = LinkAtReq {
            dir_fd: self.fd,
            target: target.fd,
            name: name.as_bytes(),
        };
        self.connection
            .call(call, &request, |response, _| {
                self.adopt_new(&response.link, target.file_type)
            })
            .map(Some)
    }

    fn unlink(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        dir: bool,
        _child: Option<&dyn RemoteFile>,
    ) -> RemoteResult<()> {
        name_fits(name)?;
        let flags = if dir { AT_REMOVEDIR } else { 0 };
        let request = UnlinkAtReq {
            dir_fd: self.fd,
            flags,
            name: name.as_bytes(),
        };
        self.connection.call(call, &request, |_, _| Ok(()))
    }

    fn rename(
        &self,
        call: &Call<'_>,
        from: Name<'_>,
        _moved: Option<&dyn RemoteFile>,
        to: (&dyn RemoteFile, Name<'_>),
        flags: RenameFlags,
    ) -> RemoteResult<()> {
        name_fits(from)?;
        name_fits(to.1)?;
        let (old_dir, new_dir) = (self.fd, self.sibling(to.0)?.fd);
        let (old_name, new_name) = (from.as_bytes(), to.1.as_bytes());
        if flags.is_empty() {
            let request = RenameAtReq {
                old_dir,
                new_dir,
                old_name,
                new_name,
            };
            return self.connection.call(call, &request, |_, _| Ok(()));
        }
        if !self.connection.terms().supports(Mid::RENAME_AT2) {
            return Err(RemoteError::not_sent(Errno::EINVAL));
        }
        let flags = flags.bits();
        let request = RenameAt2Req {
            old_dir,
            new_dir,
            old_name,
            new_name,
            flags,
        };
        self.connection.call(call, &request, |_, _| Ok(()))
    }

    /// An empty target is how some servers answer for a deleted link (lisafs 6.19): `EINVAL`,
    /// as it was meant.
    fn read_link(&self, call: &Call<'_>) -> RemoteResult<Vec<u8>> {
        self.connection.call(
            call,
            &ReadLinkAtReq { fd: self.fd },
            |response, _| match response.target {
                [] => Err(RemoteError::refused(Errno::EINVAL)),
                target if target.contains(&0) => Err(RemoteError::unknown(Errno::EIO)),
                target => Ok(target.to_vec()),
            },
        )
    }

    fn stat_fs(&self, call: &Call<'_>) -> RemoteResult<StatFs> {
        let request = FStatFSReq { fd: self.fd };
        self.connection.call(call, &request, |response, _| {
            Ok(convert::stat_fs(&response.statfs))
        })
    }

    fn get_xattr(&self, call: &Call<'_>, name: &[u8], limit: usize) -> RemoteResult<Vec<u8>> {
        xattr::get(self, call, name, limit)
    }

    fn set_xattr(
        &self,
        call: &Call<'_>,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> RemoteResult<()> {
        xattr::set(self, call, name, value, flags)
    }

    fn list_xattr(&self, call: &Call<'_>, each: &mut dyn FnMut(&[u8])) -> RemoteResult<()> {
        xattr::list(self, call, each)
    }

    fn remove_xattr(&self, call: &Call<'_>, name: &[u8]) -> RemoteResult<()> {
        xattr::remove(self, call, name)
    }

    /// The trait names no credentials, so this is always Connect (lisafs 10.2). Servers do not
    /// know "any type" (lisafs 6.21): then each type is tried until one is not the wrong one.
    fn connect(&self, call: &Call<'_>, kind: SocketType) -> RemoteResult<OwnedFd> {
        if let Some(sock_type) = sock_type(kind) {
            return self.connect_as(call, sock_type);
        }
        let mut result = self.connect_as(call, SOCK_STREAM);
        for sock_type in [SOCK_SEQPACKET, SOCK_DGRAM] {
            if !matches!(result, Err(error) if error.errno == Errno::EPROTOTYPE) {
                break;
            }
            result = self.connect_as(call, sock_type);
        }
        result
    }

    fn bind(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        kind: SocketType,
        perm: u16,
        owner: Owner,
    ) -> RemoteResult<(Found, Box<dyn RemoteSocket>)> {
        name_fits(name)?;
        let request = BindAtReq {
            common: self.common((perm & 0o7777).into(), owner),
            sock_type: sock_type(kind).ok_or(RemoteError::not_sent(Errno::EINVAL))?,
            name: name.as_bytes(),
        };
        self.connection.call(call, &request, |response, fds| {
            // Both FDs are adopted before anything can fail, so that neither leaks.
            let found = self.adopt_new(&response.child, FileType::Socket);
            let fd = response.bound_socket_fd;
            let socket = BoundSocket::adopt(&self.connection, fd, required(fds));
            Ok((found?, Box::new(socket?) as Box<dyn RemoteSocket>))
        })
    }

    fn release(&self, when: Promptness) {
        if !self.released.swap(true, Ordering::Relaxed) {
            self.connection.closes.give_up(self.fd, when);
        }
    }
}

/// `None` for any type.
fn sock_type(kind: SocketType) -> Option<u32> {
    match kind {
        SocketType::Stream => Some(SOCK_STREAM),
        SocketType::Datagram => Some(SOCK_DGRAM),
        SocketType::SeqPacket => Some(SOCK_SEQPACKET),
        SocketType::Any => None,
    }
}
