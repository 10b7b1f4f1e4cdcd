//! Direct file access: the traits of [`gofer_vfs::remote`] over a descriptor of the tree's root
//! that the server gave away with Mount (lisafs 6.1, semantics 25.11).
//!
//! Everything happens in this process's own system calls, one for an attribute and two for a name;
//! the connection is there for what the host leaves to the server, which is Unix sockets, and for
//! how long the mount lives: when it ends, so does the tree.
//!
//! - `host.rs`: the system calls, each relative to a descriptor.
//! - `file.rs`: a place in the tree, an `O_PATH` descriptor; `walk.rs`, `create.rs`, `attr.rs`,
//!   `xattr.rs` and `socket.rs` are what can be done there.
//! - `handle.rs`: an open file, and `listing.rs` an open directory.
//! - `watch.rs`: notices the end of the connection.
//!
//! # Confinement
//! No path is ever resolved. A name is looked up by itself, relative to the descriptor of its
//! directory and without following a link, so neither links nor `..` nor somebody who moves
//! directories meanwhile lead out of the tree. Files are opened again through their own
//! descriptors (`/proc/self/fd/N`), never by name.
//!
//! # Trust
//! The descriptor comes from the server. It must be of the file that Mount describes, or the mount
//! fails; devices below it are not opened. That a server's file system answers at all is up to the
//! host: system calls cannot be given up, so deadlines and cancellation are looked at before each.
//!
//! There are no locks but the one on a directory handle's listing.

mod attr;
mod create;
mod file;
mod handle;
mod host;
mod listing;
mod socket;
#[cfg(test)]
mod tests;
mod walk;
mod watch;
mod xattr;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use gofer_vfs::remote::{
    Call, Capabilities, FileKey, Found, Holdings, RemoteError, RemoteEvents, RemoteFilesystem,
    RemoteHandle, RemoteResult, Traffic,
};
use gofer_vfs::{Errno, FileType, Name, RenameFlags};

use file::DirectFile;
use handle::DirectHandle;
use host::refused;

/// Bytes that one system call moves at most are of no interest to callers; this is a sensible
/// piece.
const TRANSFER_SIZE: usize = 1 << 20;

/// A mounted tree.
pub(crate) struct DirectFilesystem {
    tree: Arc<Tree>,
    capabilities: Capabilities,
}

/// What all files of a tree share.
struct Tree {
    root: OwnedFd,
    /// The connection.
    server: Arc<dyn RemoteFilesystem>,
    /// Set when the connection has ended, by either side.
    ended: AtomicBool,
    /// Calls that went to the host.
    calls: AtomicU64,
}

impl DirectFilesystem {
    /// Takes over `donated`, a descriptor of the server's root, and goes to `aname` below it, where
    /// the file must be that the root of `server` is, `known` (`EINVAL` otherwise). No component of
    /// `aname` may be a symbolic link. `connection` is a copy of the connection's socket, to notice
    /// its end on. Needs `/proc` (`ENOSYS`).
    pub(crate) fn attach(
        donated: OwnedFd,
        aname: &[u8],
        server: Arc<dyn RemoteFilesystem>,
        known: FileKey,
        connection: OwnedFd,
    ) -> RemoteResult<DirectFilesystem> {
        host::check_proc().map_err(refused)?;
        let root = host::descend(donated, aname).map_err(refused)?;
        let (key, attr) = attr::look(host::stat(&root))?;
        if attr.file_type == FileType::Symlink {
            return Err(RemoteError::refused(Errno::ELOOP));
        }
        if key != known {
            return Err(RemoteError::refused(Errno::EINVAL));
        }
        let capabilities = capabilities(server.capabilities());
        let tree = Arc::new(Tree {
            root,
            server,
            ended: AtomicBool::new(false),
            calls: AtomicU64::new(0),
        });
        watch::start(connection, &tree).map_err(refused)?;
        Ok(DirectFilesystem { tree, capabilities })
    }
}

/// What the host can do, where the server's word does not count.
fn capabilities(server: &Capabilities) -> Capabilities {
    Capabilities {
        protocol: format!("{}, directfs", server.protocol),
        rename_flags: RenameFlags::all(),
        multi_walk: true,
        owner_on_create: true,
        locks: false,
        xattrs: true,
        allocate: true,
        read_size_max: TRANSFER_SIZE,
        write_size_max: TRANSFER_SIZE,
    }
}

impl Tree {
    /// Counts a call, if it may go on: the tree is there, and the caller still wants it.
    fn admit(&self, call: &Call<'_>) -> RemoteResult<()> {
        let errno = if self.ended.load(Ordering::Relaxed) {
            Errno::EIO
        } else if call.cancel.is_some_and(|cancel| cancel.is_set()) {
            Errno::EINTR
        } else if call.deadline.is_some_and(|until| until <= Instant::now()) {
            Errno::ETIMEDOUT
        } else {
            self.calls.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        Err(RemoteError::not_sent(errno))
    }

    /// Refuses all calls from now on.
    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

impl Drop for Tree {
    /// Ends the connection, and with it the thread that watches it.
    fn drop(&mut self) {
        self.server.shutdown();
    }
}

impl RemoteFilesystem for DirectFilesystem {
    fn root(&self, call: &Call<'_>) -> RemoteResult<Found> {
        self.tree.admit(call)?;
        let fd = host::duplicate(&self.tree.root).map_err(refused)?;
        DirectFile::found(&self.tree, fd)
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// What went over the connection, and the calls that went to the host instead.
    fn traffic(&self) -> Traffic {
        let calls = self.tree.calls.load(Ordering::Relaxed);
        let mut traffic = self.tree.server.traffic();
        traffic.round_trips += calls;
        traffic.requests += calls;
        traffic
    }

    /// Descriptors that files and handles here have, and what the server keeps besides.
    fn holdings(&self) -> Holdings {
        let mut holdings = self.tree.server.holdings();
        // Each of them holds the tree, and so does this.
        holdings.files += Arc::strong_count(&self.tree).saturating_sub(1) as u64;
        holdings
    }

    fn sync_all(
        &self,
        call: &Call<'_>,
        handles: &[Arc<dyn RemoteHandle>],
        done: &mut dyn FnMut(usize, RemoteResult<()>),
    ) {
        for (index, handle) in handles.iter().enumerate() {
            let handle = DirectHandle::of(&self.tree, handle.as_ref());
            done(index, handle.and_then(|handle| handle.sync(call, false)));
        }
    }

    /// Of sockets; files close as soon as they are dropped.
    fn flush_closes(&self, call: &Call<'_>) -> RemoteResult<()> {
        self.tree.server.flush_closes(call)
    }

    fn subscribe(&self, sink: Weak<dyn RemoteEvents>) {
        self.tree.server.subscribe(sink);
    }

    fn shutdown(&self) {
        self.tree.end();
        self.tree.server.shutdown();
    }
}

/// The components of a path that has no special ones. Anything else is `EINVAL`.
fn names(path: &[u8]) -> impl Iterator<Item = Result<Name<'_>, Errno>> {
    path.split(|&byte| byte == b'/')
        .filter(|part| !part.is_empty())
        .map(Name::new)
}
