//! The tree of places and its locks.
//!
//! A node is a name in a directory together with the file found there. All handles of all
//! connections for one place share its node. A node keeps its parent alive; a parent knows its
//! children only weakly, so a node goes when the last handle at or below it goes.
//!
//! The host may be changed by others. A lookup that finds another file than the node remembers
//! makes a new node; the old one stays with its handles, without a name to be found under.
//!
//! # Locks
//! The three levels of lisafs 9.2, taken in this order:
//!
//! 1. `Tree::rename`: shared by everything that depends on names, exclusive for renames (*global*).
//! 2. `Node::lock`: shared for what only looks (*read*), exclusive for what changes the node or its
//!    entries (*write*). Of two nodes the directory comes first, then its entry or the link's
//!    target, which is never a directory. Nobody holds more than these two.
//! 3. `Node::children` and `Node::place`: leaves, held for a few instructions. No node may be
//!    dropped under `children`, since dropping a node locks the `children` of its parent.
//!
//! Data is read and written without `Tree::rename`: it depends on no name. No lock is held over
//! anything that waits for another party: FIFOs, devices and sockets are non-blocking.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use rustix::fs::{FileType, Mode, OFlags};

use super::children::{Children, EntryName};
use super::mounts::Mounts;
use super::readonly::ReadonlyCopy;
use super::sys::{self, Held};
use super::{Errno, Name, Policy, Result, Stat};

/// Which file a node stands for, told apart from every other that exists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub struct Identity {
    pub dev_major: u32,
    pub dev_minor: u32,
    pub ino: u64,
}

impl Identity {
    /// The identity in `stat`.
    pub fn of(stat: &Stat) -> Identity {
        Identity {
            dev_major: stat.stx_dev_major,
            dev_minor: stat.stx_dev_minor,
            ino: stat.stx_ino,
        }
    }
}

/// What all nodes of an export share.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) rename: RwLock<()>,
    policy: Policy,
    pub(super) mounts: Mounts,
    pub(super) readonly: Option<ReadonlyCopy>,
}

/// Where a node is: directory and name.
pub(super) type Place = (Arc<Node>, EntryName);

/// A place in the tree of an export, held by a descriptor that names it without opening it.
#[derive(Debug)]
pub struct Node {
    pub(super) tree: Arc<Tree>,
    pub(super) lock: RwLock<()>,
    fd: Held,
    file_type: FileType,
    identity: Identity,
    /// Set when this server removed the file, or a directory above it (lisafs 9.3).
    deleted: AtomicBool,
    /// `None` for the root. Changes only while `Tree::rename` is held exclusively.
    place: Mutex<Option<Place>>,
    children: Mutex<Children>,
}

/// What a lookup or a creation finds: the node and its attributes.
#[derive(Debug)]
pub struct Found {
    /// The place.
    pub node: Arc<Node>,
    /// Its attributes when it was found.
    pub stat: Stat,
}

impl Node {
    /// The node of an export's root.
    pub(super) fn root(path: &Path, policy: Policy) -> Result<Arc<Node>> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let stat = sys::stat(&fd)?;
        match file_type(&stat) {
            FileType::Directory | FileType::RegularFile => {}
            _ => return Err(Errno::INVAL),
        }
        // Where it is missing, opening files will say so; opened early, nothing stands in the way.
        let _ = sys::own_descriptors();
        let tree = Arc::new(Tree {
            rename: RwLock::new(()),
            policy,
            mounts: Mounts::new(),
            readonly: ReadonlyCopy::of(fd.as_fd(), policy),
        });
        Ok(Arc::new(Node::new(tree, Held::new(fd)?, &stat, None)))
    }

    fn new(tree: Arc<Tree>, fd: Held, stat: &Stat, place: Option<Place>) -> Node {
        Node {
            tree,
            lock: RwLock::new(()),
            fd,
            file_type: file_type(stat),
            identity: Identity::of(stat),
            deleted: AtomicBool::new(false),
            place: Mutex::new(place),
            children: Mutex::default(),
        }
    }

    /// The type of the file.
    pub fn file_type(&self) -> FileType {
        self.file_type
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// Which file it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether this server removed the file, by any connection.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// What clients of the export may do.
    pub fn policy(&self) -> &Policy {
        &self.tree.policy
    }

    /// The directory it is in; the root is in itself.
    pub fn parent(self: &Arc<Node>) -> Arc<Node> {
        match &*self.place.lock() {
            Some((parent, _)) => parent.clone(),
            None => self.clone(),
        }
    }

    /// The path below the root, for logs: `/` for the root. It may have changed when it returns.
    pub fn path(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut place = self.place.lock().clone();
        while let Some((parent, name)) = place {
            names.push(name);
            place = parent.place.lock().clone();
        }
        if names.is_empty() {
            return b"/".to_vec();
        }
        names
            .iter()
            .rev()
            .flat_map(|name| [b"/", &name[..]].concat())
            .collect()
    }

    /// Looks `name` up, not following it. `ENOENT`, `ENOTDIR` when this is no directory, or what
    /// else the host says. Locks: read.
    pub fn walk(self: &Arc<Node>, name: Name<'_>) -> Result<Found> {
        self.hold_names().walk(self, name)
    }

    /// Keeps names where they are for several lookups in a row. Until it is dropped its thread
    /// must call nothing else that locks `Tree::rename`: a rename that waits would be in between.
    pub fn hold_names(&self) -> HeldNames<'_> {
        HeldNames {
            _shared: self.tree.rename.read(),
        }
    }

    /// Attributes along `names`, without making nodes: `each` is called for one component after
    /// the other, and its error is that of the walk. Ends early, with success, before a missing component and after a symbolic
    /// link. Locks: read, of this node alone; below it only descriptors count.
    pub fn walk_stat<'a>(
        &self,
        names: impl IntoIterator<Item = Name<'a>>,
        mut each: impl FnMut(&Stat) -> Result<()>,
    ) -> Result<()> {
        let _names = self.tree.rename.read();
        let _dir = self.lock.read();
        let mut names = names.into_iter().peekable();
        let mut below = None;
        while let Some(name) = names.next() {
            let dir = below.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            let found = if names.peek().is_none() {
                sys::stat_at(dir, name.as_bytes()).map(|stat| (stat, None))
            } else {
                sys::lookup(dir, name.as_bytes()).and_then(|fd| Ok((sys::stat(&fd)?, Some(fd))))
            };
            let (stat, fd) = match found {
                Err(Errno::NOENT) => return Ok(()),
                found => found?,
            };
            each(&stat)?;
            if file_type(&stat) == FileType::Symlink {
                return Ok(());
            }
            below = fd;
        }
        Ok(())
    }

    /// Attributes of the file. Locks: read.
    pub fn stat(&self) -> Result<Stat> {
        let _file = self.lock.read();
        sys::stat(&self.fd)
    }

    /// Numbers of the file system the file is on.
    pub fn statfs(&self) -> Result<rustix::fs::StatFs> {
        rustix::fs::fstatfs(&self.fd)
    }

    /// The number of that file system: the host's first word low.
    pub fn filesystem_id(&self) -> Result<u64> {
        rustix::fs::fstatvfs(&self.fd).map(|numbers| numbers.f_fsid)
    }

    /// The target of a symbolic link; another type is `EINVAL`. Locks: read.
    pub fn read_link(&self) -> Result<Vec<u8>> {
        if self.file_type != FileType::Symlink {
            return Err(Errno::INVAL);
        }
        let _file = self.lock.read();
        let target = rustix::fs::readlinkat(&self.fd, c"", Vec::new())?;
        Ok(target.into_bytes())
    }

    /// As [`Node::walk`], with the locks held by the caller.
    pub(super) fn lookup(self: &Arc<Node>, name: Name<'_>) -> Result<Found> {
        if let Some(found) = self.look_again(name)? {
            return Ok(found);
        }
        let fd = sys::lookup(&self.fd, name.as_bytes())?;
        let stat = sys::stat(&fd)?;
        let node = self.adopt(name, Held::new(fd)?, &stat);
        Ok(Found { node, stat })
    }

    /// The node that stands under `name`, if the host still has its file there. A node pins its
    /// file, so an equal identity is the same file.
    fn look_again(&self, name: Name<'_>) -> Result<Option<Found>> {
        let Some(node) = self.child(name.as_bytes()) else {
            return Ok(None);
        };
        let stat = sys::stat_at(&self.fd, name.as_bytes())?;
        let same = node.identity == Identity::of(&stat);
        Ok(same.then_some(Found { node, stat }))
    }

    /// The node for what was found under `name`: the one that stands there, if it is for the same
    /// file, otherwise a new one.
    fn adopt(self: &Arc<Node>, name: Name<'_>, fd: Held, stat: &Stat) -> Arc<Node> {
        let entry = EntryName::from_slice(name.as_bytes());
        let place = Some((self.clone(), entry.clone()));
        let fresh = Arc::new(Node::new(self.tree.clone(), fd, stat, place));
        let mut children = self.children.lock();
        let standing = children.get(name.as_bytes()).and_then(Weak::upgrade);
        let node = match standing {
            Some(standing) if standing.identity == fresh.identity => standing,
            other => {
                children.insert(entry, Arc::downgrade(&fresh));
                drop(children);
                drop(other);
                return fresh;
            }
        };
        drop(children);
        node
    }

    /// The node that stands under `name`, if a handle keeps one alive.
    pub(super) fn child(&self, name: &[u8]) -> Option<Arc<Node>> {
        self.children.lock().get(name).and_then(Weak::upgrade)
    }

    /// Whether this is `other` or a directory above it, as far as the tree knows.
    fn is_above(self: &Arc<Node>, other: &Arc<Node>) -> bool {
        let mut at = self.is_dir().then(|| other.clone());
        while let Some(node) = at {
            if Arc::ptr_eq(self, &node) {
                return true;
            }
            at = node.place().map(|(parent, _)| parent);
        }
        false
    }

    /// Directory and name; `None` for the root.
    pub(super) fn place(&self) -> Option<Place> {
        self.place.lock().clone()
    }

    /// Takes the node under `name` out of the tree; it keeps its idea of where it was.
    pub(super) fn detach(&self, name: &[u8]) {
        self.children.lock().remove(name);
    }

    /// Puts `node` under `name`. The caller holds `Tree::rename` exclusively.
    ///
    /// Where others moved directories first, `node` may be above this one as far as the tree
    /// knows, although the host has just moved it here. Then it stays detached: directories that
    /// keep each other alive would never be freed.
    pub(super) fn attach(self: &Arc<Node>, name: &[u8], node: &Arc<Node>) {
        if node.is_above(self) {
            return;
        }
        let old = node
            .place
            .lock()
            .replace((self.clone(), EntryName::from_slice(name)));
        self.children
            .lock()
            .insert(EntryName::from_slice(name), Arc::downgrade(node));
        // Outside the locks: it may be the last reference to a directory.
        drop(old);
    }

    /// Marks this node and everything below it as deleted.
    pub(super) fn mark_deleted(self: &Arc<Node>) {
        let mut todo = vec![self.clone()];
        while let Some(node) = todo.pop() {
            node.deleted.store(true, Ordering::Release);
            todo.extend(node.children.lock().nodes().filter_map(Weak::upgrade));
        }
    }

    /// Forgets the entry of a node that is gone, unless another took its place.
    fn forget(&self, name: &[u8]) {
        let mut children = self.children.lock();
        if children
            .get(name)
            .is_some_and(|node| node.strong_count() == 0)
        {
            children.remove(name);
        }
    }
}

/// A hold on the names of a tree, of which none is changed by a rename while it lives.
#[derive(Debug)]
pub struct HeldNames<'a> {
    _shared: RwLockReadGuard<'a, ()>,
}

impl HeldNames<'_> {
    /// As [`Node::walk`], in a directory of the same tree.
    pub fn walk(&self, dir: &Arc<Node>, name: Name<'_>) -> Result<Found> {
        let _dir = dir.lock.read();
        dir.lookup(name)
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Node {
    /// Goes up in a loop: a recursive drop of a deep chain of directories, which a client can
    /// make, would overflow the stack.
    fn drop(&mut self) {
        let mut place = self.place.get_mut().take();
        while let Some((parent, name)) = place {
            parent.forget(&name);
            place = match Arc::into_inner(parent) {
                Some(mut last) => last.place.get_mut().take(),
                None => return,
            };
        }
    }
}

/// The type in `stat`.
pub(super) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(u32::from(stat.stx_mode))
}
