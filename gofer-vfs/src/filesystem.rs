//! [`Filesystem`]: a mounted tree. Mounting, unmounting and what concerns the whole; the
//! operations on files are in [`crate::ops`].

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::attr::{Attr, StatFs};
use crate::clock::{Clock, SystemClock};
use crate::context::{At, Context, Follow};
use crate::dentry::{Node, evict_all};
use crate::error::{Errno, Error, Result, printable};
use crate::handle::Handle;
use crate::inode::Origin;
use crate::locks;
use crate::name::NAME_MAX;
use crate::options::MountOptions;
use crate::reconnect::Lasting;
use crate::remote::{Call, Capabilities, Found, RemoteFilesystem, RemoteHandle, Traffic};
use crate::resolve::{Form, Walk, WalkStep};
use crate::stats::Stats;
use crate::superblock::{Res, Superblock};
use crate::times;

/// How long mounting and unmounting may take if the caller sets no deadline (semantics 3.8).
const MOUNT_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest name that a message has room for, in bytes (semantics 13.8).
const NAME_SENT_MAX: u64 = 65535;

/// The magic number `statfs` shows, that of 9P whatever the protocol (semantics 13.8).
const V9FS_MAGIC: u64 = 0x0102_1997;

/// Flags of a mount that are not part of its option string.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MountFlags {
    /// Nothing can be changed: `EROFS`.
    pub readonly: bool,
    /// Reading leaves access times alone.
    pub noatime: bool,
    /// Reading sets an access time only if it is not later than the last change of the file, or
    /// older than a day.
    pub relatime: bool,
    /// Opening a socket of the server connects to it, and the file is the connection; without
    /// this it is `ENXIO`, as on Linux.
    pub connect_sockets: bool,
}

/// What `stat` shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// The inode number, constant while the filesystem is mounted.
    pub ino: u64,
    /// All attributes; [`Attr::mask`] lacks the time of creation where it is not known.
    pub attr: Attr,
}

/// A mounted tree. Clones are the same filesystem; all methods may be called from many threads.
///
/// Operations block for as long as the server takes, unless the [`Context`] limits that; what is
/// cached is found meanwhile, and no lock of this crate is held when they return. They return
/// errors that name the operation and the path as it was given.
///
/// # Errors
///
/// What is said of a method are the errors of its own. Beside them, every path may fail with
/// `ENOENT`, `ENOTDIR`, `EACCES` (no search permission on the way), `ELOOP` (more than 40 links),
/// `ENAMETOOLONG` (a path of more than 4095 bytes, a name longer than the server's) and `EXDEV` (it
/// starts on a filesystem that is neither this nor mounted in it); every change with `EROFS`; and
/// whatever asks the server with `EIO` once the connection is lost, `ETIMEDOUT` at the deadline,
/// `EINTR` when cancelled, and what the server refuses it with. Where two apply, Linux's order
/// decides.
#[derive(Clone)]
pub struct Filesystem(Arc<Mounted>);

struct Mounted {
    sb: Arc<Superblock>,
    root: Node,
}

impl Filesystem {
    /// Attaches the tree of `remote`. `EIO` if the root makes no sense.
    pub fn mount(
        remote: Arc<dyn RemoteFilesystem>,
        options: MountOptions,
        flags: MountFlags,
    ) -> Result<Filesystem> {
        Filesystem::mount_with_clock(remote, options, flags, Arc::new(SystemClock))
    }

    /// As [`Filesystem::mount`], with another source of time.
    pub fn mount_with_clock(
        remote: Arc<dyn RemoteFilesystem>,
        options: MountOptions,
        flags: MountFlags,
        clock: Arc<dyn Clock>,
    ) -> Result<Filesystem> {
        locks::assert_may_call();
        let call = Call {
            deadline: Some(Instant::now() + MOUNT_TIMEOUT),
            cancel: None,
        };
        let fail = |errno| Error::new("mount", errno);
        let remote = Filesystem::lasting(remote, &options);
        let found = remote.root(&call).map_err(|error| fail(error.errno))?;
        let numbers = HashMap::new();
        Filesystem::assemble(&call, remote, options, flags, clock, numbers, found).map_err(fail)
    }

    /// The remote as the options want it: with or without a way to go on over a loss.
    pub(crate) fn lasting(
        remote: Arc<dyn RemoteFilesystem>,
        options: &MountOptions,
    ) -> Arc<dyn RemoteFilesystem> {
        match options.reconnect {
            0 => remote,
            seconds => {
                let window = Duration::from_secs(u64::from(seconds));
                Lasting::new(remote, window, options.cache)
            }
        }
    }

    /// A filesystem that has its root. `numbers` are inode numbers to show instead of those that
    /// follow from the identity.
    pub(crate) fn assemble(
        call: &Call<'_>,
        remote: Arc<dyn RemoteFilesystem>,
        options: MountOptions,
        flags: MountFlags,
        clock: Arc<dyn Clock>,
        numbers: HashMap<[u64; 2], u64>,
        found: Found,
    ) -> std::result::Result<Filesystem, Errno> {
        // A server that does not tell has names as long as everybody's.
        let name_max = match found.file.stat_fs(call).map(|numbers| numbers.name_length) {
            Ok(0) | Err(_) => NAME_MAX,
            Ok(told) => told.min(NAME_SENT_MAX) as usize,
        };
        let sb = Superblock::new(remote, options, flags, clock, found.key, name_max, numbers);
        let sink: Weak<Superblock> = Arc::downgrade(&sb);
        sb.remote.subscribe(sink);
        let inode = sb
            .inodes
            .adopt(&sb, found.key, found.attr, Origin::Made)?
            .ok_or(Errno::EIO)?;
        let root = Node::new(None, b"", inode, found.file);
        Ok(Filesystem(Arc::new(Mounted { sb, root })))
    }

    pub(crate) fn sb(&self) -> &Arc<Superblock> {
        &self.0.sb
    }

    pub(crate) fn root_ref(&self) -> &Node {
        &self.0.root
    }

    /// The options in effect.
    pub fn options(&self) -> &MountOptions {
        &self.0.sb.options
    }

    /// The flags in effect.
    pub fn flags(&self) -> MountFlags {
        self.0.sb.flags
    }

    /// What the server can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.0.sb.capabilities
    }

    /// The root of the tree, which need not be a directory.
    pub fn root(&self) -> Node {
        self.0.root.clone()
    }

    /// What the caches did and hold.
    pub fn stats(&self) -> Stats {
        let sb = &self.0.sb;
        sb.pages.count(&sb.counters);
        sb.counters.times_waiting.set(sb.times.waiting());
        sb.watches.count(&sb.counters);
        sb.counters.writable_handles.set(sb.writable_count());
        sb.counters.mounts.set(sb.mounts.count());
        let holdings = sb.remote.holdings();
        sb.counters.remote_files.set(holdings.files);
        sb.counters.remote_closing.set(holdings.closing);
        sb.counters.snapshot()
    }

    /// What went over the connection.
    pub fn traffic(&self) -> Traffic {
        self.0.sb.remote.traffic()
    }

    /// See [`run`].
    pub(crate) fn run<T>(
        &self,
        op: &'static str,
        path: &[u8],
        run: impl FnOnce() -> Res<T>,
    ) -> Result<T> {
        let done = self::run(op, path, run);
        self.0.sb.mounts.reap();
        done
    }

    /// Walks `at` and returns its end.
    pub(crate) fn walk_to_end(&self, cx: &Context<'_>, at: At<'_>, follow: Follow) -> Res<Node> {
        let mut walk = Walk::new(cx, at, &self.0.root, Form::Full(follow))?;
        walk.reach_end()?;
        Ok(walk.into_end())
    }

    /// The place a path leads to, kept in the cache as long as the [`Node`] lives.
    pub fn resolve(&self, cx: &Context<'_>, at: At<'_>, follow: Follow) -> Result<Node> {
        self.run("lookup", at.path, || self.walk_to_end(cx, at, follow))
    }

    /// As [`Filesystem::resolve`], with every step on the way, also on the way to an error.
    pub fn trace_walk(
        &self,
        cx: &Context<'_>,
        at: At<'_>,
        follow: Follow,
    ) -> (Vec<WalkStep>, Result<Node>) {
        let mut steps = Vec::new();
        let walked = self.run("walk", at.path, || {
            let mut walk = Walk::new(cx, at, &self.0.root, Form::Full(follow))?;
            walk.record();
            let end = walk.reach_end().map(|()| walk.dir.clone());
            steps = walk.into_steps();
            end
        });
        (steps, walked)
    }

    /// Numbers of the file system a file is on, as the server tells them now; of a file of this
    /// client alone, of the nearest directory the server has. Sizes are in blocks of
    /// [`StatFs::block_size`] bytes. `EOPNOTSUPP` from servers that do not tell.
    pub fn statfs(&self, cx: &Context<'_>, at: At<'_>) -> Result<StatFs> {
        self.run("statfs", at.path, || {
            let node = self.walk_to_end(cx, at, Follow::Yes)?;
            let real = node.nearest_real();
            let mut numbers = real.remote().stat_fs(&cx.call())?;
            numbers.fs_type = V9FS_MAGIC;
            numbers.name_length = match numbers.name_length {
                0 => NAME_MAX as u64,
                told => told.min(NAME_SENT_MAX),
            };
            Ok(numbers)
        })
    }

    /// Has everything written through this client reach stable storage, as `syncfs(2)`: cached
    /// data is sent, then times that wait, then every handle open for writing is synced. Goes on
    /// after an error (`EIO`, `ENOSPC`, whatever the server says) and returns the first. Blocks.
    pub fn sync(&self, cx: &Context<'_>) -> Result<()> {
        self.run("sync", b"", || self.sync_all(cx))
    }

    fn sync_all(&self, cx: &Context<'_>) -> Res<()> {
        let sb = &self.0.sb;
        let mut outcome = Ok(());
        for inode in sb.pages.files() {
            // What has no name any more is of no interest after a crash.
            if inode.meta().attr().nlink == 0 {
                continue;
            }
            outcome = outcome.and(inode.write_back(cx));
        }
        sb.times.drain(false);
        let handles: Vec<Arc<Handle>> = sb.writable_handles();
        let remotes: Vec<Arc<dyn RemoteHandle>> =
            handles.iter().map(|handle| handle.remote.clone()).collect();
        if !remotes.is_empty() {
            sb.remote.sync_all(&cx.call(), &remotes, &mut |_, result| {
                // Fifos and their like have nothing to sync, which is no error of a sync of all
                // (fsync(2): EINVAL).
                if let Err(error) = result
                    && error.errno != Errno::EINVAL
                    && outcome.is_ok()
                {
                    outcome = Err(error.into());
                }
            });
        }
        outcome
    }

    /// Drops every cached name that is not in use, every listing and every absent name, and
    /// contents that are not mapped. What the server does not have yet is sent before.
    pub fn drop_caches(&self) {
        let sb = &self.0.sb;
        sb.times.drain(false);
        evict_all(sb, false);
        self.0.root.forget_all_absent();
        sb.listings.clear(&sb.counters);
        sb.answers.clear(&sb.counters);
        sb.pages.drop_clean();
    }

    /// Syncs, closes and disconnects. The first error of the sync is returned, but nothing stops
    /// it; a second call does nothing. Without a deadline it may take 30 seconds.
    pub fn unmount(&self, cx: &Context<'_>) -> Result<()> {
        let sb = &self.0.sb;
        if !sb.begin_unmount() {
            return Ok(());
        }
        let cx = Context {
            deadline: Some(
                cx.deadline
                    .unwrap_or_else(|| Instant::now() + MOUNT_TIMEOUT),
            ),
            ..*cx
        };
        for inner in sb.mounts.take_all() {
            if let Err(error) = inner.unmount(&cx) {
                tracing::warn!(%error, "what was mounted in it");
            }
        }
        self.run("unmount", b"", || {
            let synced = self.sync_all(&cx);
            if synced.is_err() {
                // The server is gone or does not answer: end every wait for it.
                sb.remote.shutdown();
            }
            sb.times.drain(true);
            sb.watches.remove_all(&sb.counters, true);
            sb.synthetics.clear();
            evict_all(sb, true);
            times::send_now(vec![self.root()]);
            sb.listings.clear(&sb.counters);
            let flushed = sb.remote.flush_closes(&cx.call());
            if let Err(error) = flushed {
                tracing::debug!(errno = %error.errno, "closing handles at unmount failed");
            }
            sb.remote.shutdown();
            synced
        })
    }
}

/// Runs one operation, in a span, and makes its failure an error.
#[inline]
pub(crate) fn run<T>(op: &'static str, path: &[u8], run: impl FnOnce() -> Res<T>) -> Result<T> {
    let _span = tracing::debug_span!("vfs", op, path = %printable(path)).entered();
    run().map_err(|failure| {
        let errno = failure.errno();
        tracing::debug!(%errno, "failed");
        Error::at(op, path, errno)
    })
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Dentries, the cache and mounts reference each other: take that apart.
        drop(self.sb.mounts.take_all());
        self.sb.times.drain(true);
        self.sb.watches.remove_all(&self.sb.counters, false);
        self.sb.synthetics.clear();
        evict_all(&self.sb, true);
        self.sb.listings.clear(&self.sb.counters);
    }
}
