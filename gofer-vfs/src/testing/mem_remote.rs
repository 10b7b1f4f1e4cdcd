//! A server in memory, behind the real traits: what the engine is tested against.
//!
//! A [`MemServer`] owns one tree and a clock of its own. Each [`MemServer::connect`] gives a
//! [`MemRemote`], one client's connection: with its own capabilities, call log, faults to inject
//! and leak counters. [`MemServer::outside`] changes the tree behind every client's back.

mod data;
mod file;
mod handle;
mod link;
mod outside;
mod tree;

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::flags::RenameFlags;
use crate::remote::{
    Call, Capabilities, Found, Holdings, RemoteEvents, RemoteFilesystem, RemoteHandle,
    RemoteResult, Traffic,
};
use crate::testing::TestClock;

pub use link::{Fault, Op};
pub use outside::MemOutside;

use file::MemFile;
use link::{Link, When};
use tree::{ROOT, Tree};

/// What a connection can do, and how its answers come.
#[derive(Clone, Debug)]
pub struct MemConfig {
    /// Told to the client as it is; `multi_walk` and `rename_flags` are acted upon, too.
    pub capabilities: Capabilities,
    /// Whether the reply to making a name carries the new file, as in lisafs; not in 9P.
    pub found_on_make: bool,
    /// Entries of a directory in one reply.
    pub dir_batch: usize,
    /// The longest name that the server tells of, in bytes; 0 does not tell.
    pub name_length: u64,
    /// Whether fifos and sockets are made; `EPERM` if not.
    pub makes_fifos: bool,
}

impl MemConfig {
    /// A connection that behaves like lisafs: whole paths in one walk, files named in replies.
    pub fn like_lisafs() -> MemConfig {
        MemConfig {
            capabilities: Capabilities {
                protocol: "memory, whole paths".to_owned(),
                rename_flags: RenameFlags::empty(),
                multi_walk: true,
                owner_on_create: true,
                locks: false,
                xattrs: true,
                allocate: true,
                read_size_max: 1 << 20,
                write_size_max: 1 << 20,
            },
            found_on_make: true,
            dir_batch: 128,
            name_length: 255,
            makes_fifos: true,
        }
    }

    /// A connection that behaves like 9P: one name a walk, no file in replies to `make`.
    pub fn like_9p() -> MemConfig {
        let mut config = MemConfig::like_lisafs();
        config.capabilities.protocol = "memory, one name at a time".to_owned();
        config.capabilities.multi_walk = false;
        config.found_on_make = false;
        config
    }
}

impl Default for MemConfig {
    fn default() -> MemConfig {
        MemConfig::like_lisafs()
    }
}

/// A tree that any number of clients connect to.
#[derive(Clone)]
pub struct MemServer {
    tree: Arc<Mutex<Tree>>,
    clock: Arc<TestClock>,
}

impl MemServer {
    /// A server with an empty root directory (mode 0755, owner 0), whose clock stands at
    /// 2001-09-09 and moves on by a microsecond at each change.
    pub fn new() -> MemServer {
        MemServer::with_contents(false)
    }

    /// As [`MemServer::new`], with contents in files of the host: a descriptor is donated with
    /// every handle of a regular file, unless [`MemRemote::donate`] says otherwise.
    pub fn on_host() -> MemServer {
        MemServer::with_contents(true)
    }

    fn with_contents(on_host: bool) -> MemServer {
        let clock = Arc::new(TestClock::at(1_000_000_000));
        MemServer {
            tree: Arc::new(Mutex::new(Tree::new(Arc::clone(&clock), on_host))),
            clock,
        }
    }

    /// The server's clock.
    pub fn clock(&self) -> &TestClock {
        &self.clock
    }

    /// A client's connection.
    pub fn connect(&self, config: MemConfig) -> MemRemote {
        MemRemote {
            link: Arc::new(Link::new(Arc::clone(&self.tree), config)),
        }
    }

    /// Somebody on the server's own machine.
    pub fn outside(&self) -> MemOutside {
        MemOutside::new(Arc::clone(&self.tree))
    }
}

impl Default for MemServer {
    fn default() -> MemServer {
        MemServer::new()
    }
}

/// One client's connection to a [`MemServer`]. Clones are the same connection.
#[derive(Clone)]
pub struct MemRemote {
    link: Arc<Link>,
}

impl MemRemote {
    /// A connection with the default configuration to a new server, and that server.
    pub fn new() -> (MemRemote, MemServer) {
        let server = MemServer::new();
        (server.connect(MemConfig::default()), server)
    }

    /// The operations called so far, in order, and forgets them.
    pub fn take_log(&self) -> Vec<Op> {
        self.link.take_log()
    }

    /// How often `op` was called since the connection began.
    pub fn count(&self, op: Op) -> u64 {
        self.link.count(op)
    }

    /// The `nth` call of `op` from now on (0 is the next) runs into `fault`, once.
    pub fn inject(&self, op: Op, nth: u64, fault: Fault) {
        self.link.inject(Some(op), nth, fault);
    }

    /// The `nth` call from now on that waits for the server (0 is the next) runs into `fault`,
    /// once, whatever it is.
    pub fn inject_any(&self, nth: u64, fault: Fault) {
        self.link.inject(None, nth, fault);
    }

    /// Every call of `op` from now on fails with `fault`, until [`MemRemote::heal`].
    pub fn inject_always(&self, op: Op, fault: Fault) {
        self.link.inject_always(op, fault);
    }

    /// Whether descriptors go with the handles that are opened from now on.
    pub fn donate(&self, donates: bool) {
        self.link.set_donates(donates);
    }

    /// Forgets all faults that were injected. A dropped connection stays dropped.
    pub fn heal(&self) {
        self.link.heal();
    }

    /// Runs `hook` right before the next call of `op` reaches the tree, with no lock held: the
    /// place to change the tree in a race, or to wait.
    pub fn before(&self, op: Op, hook: impl FnOnce() + Send + 'static) {
        self.link.hook(op, When::Before, Box::new(hook));
    }

    /// As [`MemRemote::before`], right after the next call of `op` on a file or a handle was
    /// carried out, before its caller hears of it.
    pub fn after(&self, op: Op, hook: impl FnOnce() + Send + 'static) {
        self.link.hook(op, When::After, Box::new(hook));
    }

    /// Cuts the connection: every call fails with `EIO` until the client connects again, and
    /// subscribers hear of it.
    pub fn drop_connection(&self) {
        self.link.drop_connection();
    }

    /// Remote files that were handed out and not released.
    pub fn live_files(&self) -> u64 {
        self.link.live_files()
    }

    /// Handles that were handed out and not closed.
    pub fn live_handles(&self) -> u64 {
        self.link.live_handles()
    }

    /// Calls on files after their release and on handles after their close: bugs of the client.
    pub fn misuses(&self) -> u64 {
        self.link.misuses()
    }
}

impl RemoteFilesystem for MemRemote {
    fn root(&self, call: &Call<'_>) -> RemoteResult<Found> {
        self.link.enter(call, Op::Root)?;
        Ok(MemFile::found(&self.link, &mut self.link.tree.lock(), ROOT))
    }

    fn capabilities(&self) -> &Capabilities {
        &self.link.config.capabilities
    }

    fn traffic(&self) -> Traffic {
        self.link.traffic()
    }

    fn holdings(&self) -> Holdings {
        Holdings {
            files: self.live_files() + self.live_handles(),
            closing: 0,
        }
    }

    fn sync_all(
        &self,
        call: &Call<'_>,
        handles: &[Arc<dyn RemoteHandle>],
        done: &mut dyn FnMut(usize, RemoteResult<()>),
    ) {
        for index in 0..handles.len() {
            done(index, self.link.enter(call, Op::SyncAll).map(drop));
        }
    }

    fn flush_closes(&self, call: &Call<'_>) -> RemoteResult<()> {
        self.link.enter_silently(call, Op::FlushCloses).map(drop)
    }

    fn subscribe(&self, sink: Weak<dyn RemoteEvents>) {
        self.link.subscribe(sink);
    }

    fn reattach(&self, _call: &Call<'_>) -> RemoteResult<()> {
        self.link.reattach()
    }

    fn shutdown(&self) {
        self.link.close();
    }
}

#[cfg(test)]
mod tests;
