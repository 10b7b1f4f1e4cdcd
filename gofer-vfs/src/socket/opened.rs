//! A socket file that was opened: a connection to its listener (semantics 10.6).

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::connected;
use crate::attr::{Attr, AttrMask};
use crate::context::Context;
use crate::dentry::Node;
use crate::error::Errno;
use crate::flags::OpenFlags;
use crate::handle::Handle;
use crate::ops::wanted;
use crate::remote::{
    Call, FileLock, Moved, Promptness, RemoteFile, RemoteHandle, RemoteResult, SocketType,
};
use crate::superblock::Res;

/// A connection of a description's own. The server's part in it is over.
pub(crate) struct Connection {
    socket: OwnedFd,
    /// The socket file.
    file: Arc<dyn RemoteFile>,
}

/// Connects in place of opening. The listener may be of any type.
pub(crate) fn open(cx: &Context<'_>, node: &Node, flags: OpenFlags) -> Res<Arc<Handle>> {
    if flags.contains(OpenFlags::DIRECT) {
        return Err(Errno::EINVAL.into());
    }
    let file = node.remote();
    let socket = connected(file.connect(&cx.call(), SocketType::Any))?;
    // Waiting for it is done where that can be given up.
    let now = rustix::fs::fcntl_getfl(&socket).map_err(Errno::from)?;
    rustix::fs::fcntl_setfl(&socket, now | OFlags::NONBLOCK).map_err(Errno::from)?;
    let connection = Arc::new(Connection { socket, file });
    let handle = Handle::new(node.sb(), connection, wanted(flags));
    handle.close_promptly();
    Ok(handle)
}

/// Reading and writing is done on the descriptor.
impl RemoteHandle for Connection {
    fn read_at(&self, _call: &Call<'_>, _into: &mut [IoSliceMut<'_>], _offset: u64) -> Moved {
        Moved::refused(Errno::ESPIPE)
    }

    fn write_at(&self, _call: &Call<'_>, _from: &[IoSlice<'_>], _offset: u64) -> Moved {
        Moved::refused(Errno::ESPIPE)
    }

    fn attr(&self, call: &Call<'_>, want: AttrMask) -> RemoteResult<Attr> {
        self.file.attr(call, want)
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    /// Nobody but this client has any.
    fn lock(&self, _call: &Call<'_>, _lock: &FileLock) -> RemoteResult<()> {
        Ok(())
    }

    fn test_lock(&self, _call: &Call<'_>, _lock: &FileLock) -> RemoteResult<Option<FileLock>> {
        Ok(None)
    }

    fn close(&self, _call: &Call<'_>, _when: Promptness) -> RemoteResult<()> {
        Ok(())
    }
}
