//! Files that exist in this client alone (semantics 11): directories, fifos and sockets that the
//! server refused to make.
//!
//! [`Synthetic`] stands where other files have what they are on the server: it answers the same
//! questions from memory, by this client's clock, so that everything above treats both alike. It
//! is never handed to the server. A synthetic file is held by the filesystem from its birth until
//! its name goes, since nobody could find it again.

mod directory;
mod pipe;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut};
use std::ops::ControlFlow;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::attr::{Attr, AttrMask, FileType, SetAttr, SetAttrReport, SetTime, StatFs};
use crate::clock::Clock;
use crate::dentry::{Dentry, Node};
use crate::error::Errno;
use crate::flags::{RenameFlags, XattrFlags};
use crate::locks::{Mutex, SYNTHETIC};
use crate::name::Name;
use crate::remote::{
    Call, FileKey, Found, New, OpenMode, Owner, Promptness, RemoteError, RemoteFile, RemoteHandle,
    RemoteResult, RemoteSocket, Seen, SocketType, WalkEnd,
};
use crate::superblock::Superblock;
use crate::sync;

pub(crate) use pipe::{CAPACITY as PIPE_MAX, PipeEnd};
pub(crate) use socket::{Endpoint, LocalSocket};

/// The epoch of identities that no server gives.
const EPOCH: u32 = u32::MAX;

/// Synthetic files of one filesystem.
pub(crate) const COUNT_MAX: usize = 65536;

/// What a synthetic file is in place of a server's file.
pub(crate) struct Synthetic {
    /// A lock without a rank: nothing else is locked while it is held.
    attr: Arc<sync::Mutex<Attr>>,
    what: What,
    clock: Arc<dyn Clock>,
}

enum What {
    Directory,
    Fifo(Arc<pipe::Pipe>),
    Socket(Endpoint),
}

/// All synthetic files of a filesystem, each held by its node.
pub(crate) struct Synthetics {
    count: AtomicUsize,
    nodes: Mutex<HashMap<u64, Node>, SYNTHETIC>,
}

impl FileKey {
    /// Whether it is a file of this client alone.
    pub(crate) fn is_synthetic(&self) -> bool {
        self.epoch == EPOCH
    }
}

impl Synthetic {
    /// A new file, not yet anywhere. `EPERM` for types that cannot be synthetic.
    pub(crate) fn found(
        sb: &Superblock,
        new: &New<'_>,
        perm: u16,
        owner: (u32, u32),
        endpoint: Option<Endpoint>,
    ) -> Result<Found, Errno> {
        let what = match new {
            New::Dir => What::Directory,
            New::Fifo => What::Fifo(pipe::Pipe::new()),
            New::Socket => What::Socket(endpoint.unwrap_or_default()),
            _ => return Err(Errno::EPERM),
        };
        if sb.synthetics.count.load(Ordering::Relaxed) >= COUNT_MAX {
            return Err(Errno::ENOSPC);
        }
        let now = sb.clock.now();
        let attr = Attr {
            mask: AttrMask::BASIC | AttrMask::BTIME,
            mode: perm & 0o7777,
            nlink: if *new == New::Dir { 2 } else { 1 },
            uid: owner.0,
            gid: owner.1,
            block_size: 4096,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            ..Attr::of_type(new.file_type())
        };
        let id = [sb.next_serial(), u64::MAX];
        Ok(Synthetic::with(sb, what, attr, id))
    }

    /// One as it was when it was saved. `content` is what waits in a fifo.
    pub(crate) fn again(
        sb: &Superblock,
        attr: Attr,
        id: [u64; 2],
        content: &[u8],
        endpoint: Option<Endpoint>,
    ) -> Result<Found, Errno> {
        let what = match attr.file_type {
            FileType::Directory => What::Directory,
            FileType::Fifo => What::Fifo(pipe::Pipe::holding(content)),
            FileType::Socket => What::Socket(endpoint.unwrap_or_default()),
            _ => return Err(Errno::EPERM),
        };
        sb.serials_after(id[0]);
        Ok(Synthetic::with(sb, what, attr, id))
    }

    fn with(sb: &Superblock, what: What, attr: Attr, id: [u64; 2]) -> Found {
        let file = Arc::new(Synthetic {
            attr: Arc::new(sync::Mutex::new(attr)),
            what,
            clock: sb.clock.clone(),
        });
        Found {
            file,
            key: FileKey { epoch: EPOCH, id },
            attr,
        }
    }

    /// The synthetic file behind a node's remote file, if it is one.
    fn of(file: &dyn RemoteFile) -> Option<&Synthetic> {
        let any: &dyn std::any::Any = file;
        any.downcast_ref()
    }

    fn change(&self, change: impl FnOnce(&mut Attr)) {
        let mut attr = self.attr.lock();
        change(&mut attr);
        attr.ctime = self.clock.now();
    }

    fn set(&self, set: &SetAttr) {
        let now = self.clock.now();
        let time = |time| match time {
            SetTime::Now => now,
            SetTime::At(time) => time,
        };
        self.change(|attr| {
            attr.mode = set.mode.unwrap_or(attr.mode) & 0o7777;
            attr.uid = set.uid.unwrap_or(attr.uid);
            attr.gid = set.gid.unwrap_or(attr.gid);
            attr.atime = set.atime.map_or(attr.atime, time);
            attr.mtime = set.mtime.map_or(attr.mtime, time);
        });
    }
}

impl Node {
    /// Whether the file exists in this client alone.
    #[inline]
    pub fn is_synthetic(&self) -> bool {
        self.key().is_synthetic()
    }

    /// Names in this directory were changed; `links` directories were added. Real directories
    /// learn of that from the server, or know by themselves.
    pub(crate) fn synthetic_names_changed(&self, links: i64) {
        if self.is_synthetic()
            && let Some(file) = Synthetic::of(self.named_remote())
        {
            file.change(|attr| {
                attr.mtime = file.clock.now();
                attr.nlink = attr.nlink.saturating_add_signed(links);
            });
        }
    }

    /// The name of this synthetic file is gone.
    pub(crate) fn synthetic_unlinked(&self) {
        if let Some(file) = Synthetic::of(self.named_remote()) {
            file.change(|attr| attr.nlink = 0);
        }
    }

    /// This synthetic file has given way to one of the server's: nobody else has it by another name,
    /// so it is deleted.
    pub(crate) fn give_way(&self) {
        self.lose_name();
        self.synthetic_unlinked();
        let now = self.sb().clock.now();
        self.inode().change(|meta| {
            meta.no_links();
            meta.touch_ctime(now);
        });
        self.sb().watches.name_removed(self.inode(), true);
    }

    /// An end of this synthetic fifo, for who may wait for the other end.
    pub(crate) fn open_synthetic_fifo(&self, access: crate::Access) -> Result<PipeEnd, Errno> {
        match Synthetic::of(self.named_remote()) {
            Some(file) => match &file.what {
                What::Fifo(pipe) => pipe.open(access, &file.attr, true),
                _ => Err(Errno::ENXIO),
            },
            None => Err(Errno::ENXIO),
        }
    }

    /// What waits in this synthetic fifo.
    pub(crate) fn synthetic_content(&self) -> Vec<u8> {
        match Synthetic::of(self.named_remote()).map(|file| &file.what) {
            Some(What::Fifo(pipe)) => pipe.content(),
            _ => Vec::new(),
        }
    }

    /// The synthetic files in this directory, by name.
    pub(crate) fn synthetic_children(&self) -> Vec<(Vec<u8>, Node)> {
        let synthetics = &self.sb().synthetics;
        if synthetics.count.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let nodes: Vec<Node> = synthetics.nodes.lock().values().cloned().collect();
        let mut children: Vec<(Vec<u8>, Node)> = nodes
            .into_iter()
            .filter(|node| node.parent().is_some_and(|parent| parent.same(self)))
            .filter_map(|node| Some((node.place()?.1, node)))
            .collect();
        children.sort_by(|one, other| one.0.cmp(&other.0));
        children
    }

    /// The nearest directory above, or this file, that the server knows.
    pub(crate) fn nearest_real(&self) -> Node {
        let mut at = self.clone();
        while at.is_synthetic()
            && let Some(parent) = at.parent()
        {
            at = parent;
        }
        at
    }
}

impl Synthetics {
    pub(crate) fn new() -> Synthetics {
        Synthetics {
            count: AtomicUsize::new(0),
            nodes: Mutex::new(HashMap::new()),
        }
    }

    /// Holds a file that was given its name.
    pub(crate) fn hold(&self, node: &Node) {
        let mut nodes = self.nodes.lock();
        let old = nodes.insert(node.key().id[0], node.clone());
        self.counted(&nodes, node.sb());
        drop(nodes);
        drop(old);
    }

    fn counted(&self, nodes: &HashMap<u64, Node>, sb: &Superblock) {
        self.count.store(nodes.len(), Ordering::Relaxed);
        sb.counters.synthetic_files.set(nodes.len() as u64);
    }

    /// A name is gone. The caller references the dentry, so this drops no last reference.
    pub(crate) fn name_gone(&self, dentry: &Dentry) {
        let mut nodes = self.nodes.lock();
        let key = dentry.inode.key.id[0];
        let held = nodes.get(&key).is_some_and(|node| node.is(dentry));
        let node = if held { nodes.remove(&key) } else { None };
        self.counted(&nodes, &dentry.inode.sb);
        drop(nodes);
        drop(node);
    }

    /// The filesystem goes.
    pub(crate) fn clear(&self) {
        let nodes = std::mem::take(&mut *self.nodes.lock());
        self.count.store(0, Ordering::Relaxed);
        drop(nodes);
    }
}

fn refused<T>(errno: Errno) -> RemoteResult<T> {
    Err(RemoteError::refused(errno))
}

impl RemoteFile for Synthetic {
    /// What is in a synthetic directory is in the cache.
    fn walk(
        &self,
        _call: &Call<'_>,
        _names: &[Name<'_>],
        _found: &mut dyn FnMut(Found),
    ) -> RemoteResult<WalkEnd> {
        match self.what {
            What::Directory => Ok(WalkEnd::Missing),
            _ => refused(Errno::ENOTDIR),
        }
    }

    fn revalidate(
        &self,
        _call: &Call<'_>,
        _known: &[(Name<'_>, &dyn RemoteFile)],
        _seen: &mut dyn FnMut(Seen),
    ) -> RemoteResult<()> {
        // Nobody but this client changes what is here: callers do not ask.
        refused(Errno::EIO)
    }

    fn attr(&self, _call: &Call<'_>, _want: AttrMask) -> RemoteResult<Attr> {
        Ok(*self.attr.lock())
    }

    fn set_attr(
        &self,
        _call: &Call<'_>,
        set: &SetAttr,
        _through: Option<&dyn RemoteHandle>,
    ) -> RemoteResult<SetAttrReport> {
        self.set(set);
        Ok(SetAttrReport::default())
    }

    fn open(&self, _call: &Call<'_>, mode: OpenMode) -> RemoteResult<Arc<dyn RemoteHandle>> {
        match &self.what {
            What::Directory => Ok(Arc::new(directory::Empty(self.attr.clone()))),
            What::Fifo(pipe) => match pipe.open(mode.access, &self.attr, false) {
                Ok(end) => Ok(Arc::new(end)),
                Err(errno) => refused(errno),
            },
            What::Socket(_) => refused(Errno::ENXIO),
        }
    }

    fn create(
        &self,
        _call: &Call<'_>,
        _name: Name<'_>,
        _perm: u16,
        _owner: Owner,
        _mode: OpenMode,
    ) -> RemoteResult<(Found, Arc<dyn RemoteHandle>)> {
        refused(Errno::EPERM)
    }

    fn make(
        &self,
        _call: &Call<'_>,
        _name: Name<'_>,
        _new: New<'_>,
        _perm: u16,
        _owner: Owner,
    ) -> RemoteResult<Option<Found>> {
        refused(Errno::EPERM)
    }

    fn link(
        &self,
        _call: &Call<'_>,
        _name: Name<'_>,
        _target: &dyn RemoteFile,
    ) -> RemoteResult<Option<Found>> {
        refused(Errno::EPERM)
    }

    fn unlink(
        &self,
        _call: &Call<'_>,
        _name: Name<'_>,
        _dir: bool,
        _child: Option<&dyn RemoteFile>,
    ) -> RemoteResult<()> {
        refused(Errno::ENOENT)
    }

    fn rename(
        &self,
        _call: &Call<'_>,
        _from: Name<'_>,
        _moved: Option<&dyn RemoteFile>,
        _to: (&dyn RemoteFile, Name<'_>),
        _flags: RenameFlags,
    ) -> RemoteResult<()> {
        refused(Errno::EPERM)
    }

    fn read_link(&self, _call: &Call<'_>) -> RemoteResult<Vec<u8>> {
        refused(Errno::EINVAL)
    }

    fn stat_fs(&self, _call: &Call<'_>) -> RemoteResult<StatFs> {
        // Callers ask the nearest real directory.
        refused(Errno::EOPNOTSUPP)
    }

    fn get_xattr(&self, _call: &Call<'_>, _name: &[u8], _limit: usize) -> RemoteResult<Vec<u8>> {
        refused(Errno::ENODATA)
    }

    fn set_xattr(
        &self,
        _call: &Call<'_>,
        _name: &[u8],
        _value: &[u8],
        _flags: XattrFlags,
    ) -> RemoteResult<()> {
        refused(Errno::EPERM)
    }

    fn list_xattr(&self, _call: &Call<'_>, _each: &mut dyn FnMut(&[u8])) -> RemoteResult<()> {
        Ok(())
    }

    fn remove_xattr(&self, _call: &Call<'_>, _name: &[u8]) -> RemoteResult<()> {
        refused(Errno::EPERM)
    }

    fn connect(&self, _call: &Call<'_>, kind: SocketType) -> RemoteResult<OwnedFd> {
        match &self.what {
            What::Socket(endpoint) => endpoint.connect(kind).map_err(RemoteError::refused),
            _ => refused(Errno::ECONNREFUSED),
        }
    }

    fn bind(
        &self,
        _call: &Call<'_>,
        _name: Name<'_>,
        _kind: SocketType,
        _perm: u16,
        _owner: Owner,
    ) -> RemoteResult<(Found, Box<dyn RemoteSocket>)> {
        refused(Errno::EPERM)
    }

    fn release(&self, _when: Promptness) {}
}
