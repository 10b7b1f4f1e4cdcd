//! Going on after the connection was lost (`reconnect=SECONDS`).
//!
//! With the option, a [`Lasting`] stands between the engine and the protocol, and behind each
//! remote file and handle that the engine holds is one of the connection in use, or one of an
//! earlier connection. What is of an earlier one is found again when it is needed next, and not
//! before: a [`Place`] by walking the path its dentry has *now*, an [`Opened`] by opening that
//! place once more. A file that is found under another identity, or not at all, is `ESTALE`:
//! nobody ever gets another file's data. So is an open file whose last name was removed, which
//! a new server cannot know.
//!
//! # What is sent again
//!
//! A request that never left is sent again. One whose fate is unknown is sent again if twice is
//! as good as once: looking and reading, setting attributes, data at an offset, opening without
//! creating, locks. The others (making, removing, renaming a name) are *settled* by looking what
//! became of the name; where that does not tell, the caller gets `EIO`. In a tree that nobody
//! else changes it always tells: the engine makes sure before it makes a name that the name is
//! free, and before it removes one that it is there ([`Superblock::looks_first`]).
//!
//! What was written and acknowledged is in the page cache of the server's host, which survives
//! the server's *process*: nothing is sent again for that, and an `fsync` through the new server
//! covers it. A *host* that goes down with unsynced data loses it, as it does its own programs'.
//!
//! Locks on the server end with the connection. They are taken again at once; when somebody was
//! faster, the description that had the lock is `EIO` for good.
//!
//! # Waiting
//!
//! The first caller who meets the loss connects again, and goes on trying until the time is up;
//! the others wait for that. The time counts from that first meeting. After it the mount is dead:
//! every call fails with `EIO`, at once. A caller's own deadline or cancellation ends its wait
//! before; then another one who waits takes over.

mod file;
mod handle;
mod line;
mod locks;
mod moves;
mod place;

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::interop::InteropMode;
use crate::remote::{
    Call, Capabilities, Fate, FileKey, Found, Holdings, RemoteError, RemoteEvents,
    RemoteFilesystem, RemoteHandle, RemoteResult, Traffic,
};
use crate::superblock::Superblock;

use handle::Opened;
use line::Line;
use place::Place;

pub(crate) use moves::Moves;
pub(crate) use place::note_dentry;

/// A remote filesystem that survives the loss of its connection. See the module.
pub(crate) struct Lasting {
    line: Arc<Line>,
}

impl Lasting {
    /// `remote`, whose connection may be away for `window` at a time.
    pub(crate) fn new(
        remote: Arc<dyn RemoteFilesystem>,
        window: Duration,
        mode: InteropMode,
    ) -> Arc<Lasting> {
        let line = Line::new(remote, window, mode.may_cache_metadata());
        Arc::new(Lasting { line })
    }
}

/// Whether an error says that the connection is gone, or that the file is of an earlier one.
fn is_lost(error: RemoteError) -> bool {
    use crate::Errno;
    error.fate != Fate::Refused && matches!(error.errno, Errno::EIO | Errno::ESTALE)
}

/// An identity as the engine sees it: the same over all connections.
fn lasting_key(key: FileKey) -> FileKey {
    FileKey { epoch: 0, ..key }
}

impl RemoteFilesystem for Lasting {
    fn root(&self, call: &Call<'_>) -> RemoteResult<Found> {
        let generation = self.line.generation();
        let found = self.line.remote.root(call)?;
        self.line.begin(&found);
        Ok(Place::wrap(&self.line, generation, found))
    }

    fn capabilities(&self) -> &Capabilities {
        self.line.remote.capabilities()
    }

    fn traffic(&self) -> Traffic {
        self.line.remote.traffic()
    }

    fn holdings(&self) -> Holdings {
        self.line.remote.holdings()
    }

    fn sync_all(
        &self,
        call: &Call<'_>,
        handles: &[Arc<dyn RemoteHandle>],
        done: &mut dyn FnMut(usize, RemoteResult<()>),
    ) {
        Opened::sync_all(&self.line, call, handles, done);
    }

    fn flush_closes(&self, call: &Call<'_>) -> RemoteResult<()> {
        match self.line.remote.flush_closes(call) {
            // They were closed by that.
            Err(error) if is_lost(error) => Ok(()),
            flushed => flushed,
        }
    }

    fn subscribe(&self, sink: Weak<dyn RemoteEvents>) {
        self.line.remote.subscribe(sink);
    }

    fn reattach(&self, call: &Call<'_>) -> RemoteResult<()> {
        self.line.recover(call, self.line.generation())
    }

    fn shutdown(&self) {
        self.line.end();
    }
}

impl Superblock {
    /// Whether names are looked up before they are made or removed, so that it can be told
    /// afterwards what became of a request without an answer. Only where nobody else changes
    /// them meanwhile.
    pub(crate) fn looks_first(&self) -> bool {
        self.options.reconnect > 0 && self.mode.may_cache_metadata()
    }
}
