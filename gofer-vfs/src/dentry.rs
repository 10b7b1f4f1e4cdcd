//! Dentries: the cached tree of names. [`Node`] is a counted reference to one.
//!
//! # Life of a dentry
//!
//! It is born referenced, by whoever looked it up. Each child is a reference to its parent. When
//! the last reference goes, the dentry is *unused*: if it still has its name it waits in the
//! [`DentryCache`](crate::dentry_cache::DentryCache) to be used again or evicted, else it is
//! destroyed at once. Destroying one may leave its parent unused, and so on upwards.
//!
//! A reference to an unused dentry can be taken only through its parent's map of children, under
//! that map's lock; and a dentry is marked as destroyed under the same lock. So nobody can take
//! a reference to a dentry that is about to go.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};

use lru::LruCache;

use crate::attr::FileType;
use crate::inode::Inode;
use crate::locks::{ANCESTRY, CHILDREN, Mutex, NAMES, RwLock};
use crate::remote::{FileKey, Promptness, RemoteFile};
use crate::superblock::Superblock;

/// Absent names remembered per directory (semantics 4.11).
const ABSENT_MAX: usize = 1000;

/// In place of a number of references: the dentry is gone for good.
const DESTROYED: i64 = i64::MIN / 2;

/// It has its name.
const LIVE: u8 = 0;
/// The server has another file, or none, by its name: open descriptions go on using it.
const INVALID: u8 = 1;
/// Its name was removed through this client.
const DELETED: u8 = 2;

/// A name in a directory: the edge from a parent to an inode.
pub(crate) struct Dentry {
    /// Never reused while the filesystem is mounted. Also the order in which two unrelated
    /// directories are locked.
    pub(crate) id: u64,
    pub(crate) inode: Arc<Inode>,
    /// The file as reached by this name.
    remote: Arc<dyn RemoteFile>,
    refs: AtomicI64,
    state: AtomicU8,
    ancestry: Mutex<Ancestry, ANCESTRY>,
    directory: Option<Box<Directory>>,
}

struct Ancestry {
    /// Counts among the parent's references; the root has none.
    parent: Option<Arc<Dentry>>,
    name: Box<[u8]>,
}

/// What only directories have.
pub(crate) struct Directory {
    /// Held shared while the server is asked about names, exclusively while names change.
    pub(crate) names: RwLock<(), NAMES>,
    children: Mutex<Children, CHILDREN>,
}

/// What is known of the names in a directory.
#[derive(Default)]
pub(crate) struct Children {
    present: HashMap<Box<[u8]>, Arc<Dentry>, lru::DefaultHasher>,
    /// Names known to be absent, oldest out first.
    absent: Option<LruCache<Box<[u8]>, ()>>,
}

/// What the cache says about a name.
pub(crate) enum Child {
    Present(Node),
    Absent,
    Unknown,
}

impl Dentry {
    /// Whether there are no references, and the dentry can still be used again.
    pub(crate) fn is_unused(&self) -> bool {
        self.refs.load(Ordering::SeqCst) == 0
    }

    fn is_dead(&self) -> bool {
        self.state.load(Ordering::SeqCst) != LIVE
    }

    /// Its name is gone, in the way of `state`. The lock of its parent's children is held, if it
    /// is in there.
    fn die(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
        self.inode.unbind(self.id);
    }

    /// Destroys the dentry if it is unused; true if it did. The caller then drops what it left:
    /// see [`settle`].
    fn destroy_if_unused(&self) -> bool {
        let claim = || {
            self.refs
                .compare_exchange(0, DESTROYED, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        };
        loop {
            if self.is_dead() {
                self.inode.sb.inodes.note_forgotten(&self.inode);
                return claim();
            }
            // The root never gets here: the filesystem references it.
            let Some(parent) = self.parent_dentry() else {
                return false;
            };
            let Some(directory) = &parent.directory else {
                return false;
            };
            let mut children = directory.children.lock();
            let ancestry = self.ancestry.lock();
            let moved = !ancestry
                .parent
                .as_ref()
                .is_some_and(|now| Arc::ptr_eq(now, &parent));
            if moved || self.is_dead() {
                continue;
            }
            self.inode.sb.inodes.note_forgotten(&self.inode);
            if !claim() {
                return false;
            }
            let gone = children.present.remove(&ancestry.name);
            drop(ancestry);
            drop(children);
            drop(gone);
            return true;
        }
    }

    /// Releases what a destroyed dentry had; returns its parent if that is unused now.
    fn dismantle(&self) -> Option<Arc<Dentry>> {
        let sb = &self.inode.sb;
        sb.cache.remove(self);
        sb.listings.forget(self.id);
        self.inode.unbind(self.id);
        let deleted = self.state.load(Ordering::SeqCst) == DELETED;
        let when = if deleted || sb.mode.close_promptly() {
            Promptness::Prompt
        } else {
            Promptness::Batched
        };
        // Somebody may be using it in place of another name that is gone: then it is released
        // when they drop it.
        if Arc::strong_count(&self.remote) == 1 {
            self.remote.release(when);
        }
        let parent = self.ancestry.lock().parent.take();
        parent.filter(|parent| parent.unref())
    }

    /// Gives up a reference; true if it was the last and the caller has to settle.
    #[inline]
    fn unref(&self) -> bool {
        self.refs.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// The parent, without taking a reference: it may be gone by the time it is used.
    fn parent_dentry(&self) -> Option<Arc<Dentry>> {
        self.ancestry.lock().parent.clone()
    }
}

impl Drop for Dentry {
    fn drop(&mut self) {
        let counters = &self.inode.sb.counters;
        counters.live_dentries.sub(1);
        if let Some(directory) = &self.directory {
            let absent = directory.children.lock().absent.take();
            counters
                .negative_entries
                .sub(absent.map_or(0, |names| names.len() as u64));
        }
    }
}

/// Decides what becomes of a dentry whose last reference may have gone (semantics 4.3): kept,
/// or destroyed, and with it whatever that leaves unused. No lock of rank `CHILDREN` or below
/// may be held.
fn settle(dentry: &Arc<Dentry>) {
    let mut doomed = Vec::new();
    judge(dentry, &mut doomed);
    while let Some(dentry) = doomed.pop() {
        if dentry.destroy_if_unused()
            && let Some(parent) = dentry.dismantle()
        {
            drop(dentry);
            judge(&parent, &mut doomed);
        }
    }
}

fn judge(dentry: &Arc<Dentry>, doomed: &mut Vec<Arc<Dentry>>) {
    if dentry.is_dead() {
        doomed.push(dentry.clone());
        return;
    }
    let before = doomed.len();
    let sb = &dentry.inode.sb;
    sb.cache.keep(dentry, doomed);
    if doomed.len() > before {
        sb.counters.evictions.add((doomed.len() - before) as u64);
    }
}

/// Drops every unused dentry; with `forever`, keeps none from now on.
pub(crate) fn evict_all(sb: &Superblock, forever: bool) {
    // Each round frees the leaves of the tree that is left.
    loop {
        let unused = sb.cache.drain(forever);
        sb.counters.lru_length.set(0);
        if unused.is_empty() {
            break;
        }
        sb.counters.evictions.add(unused.len() as u64);
        for dentry in unused {
            if dentry.destroy_if_unused()
                && let Some(parent) = dentry.dismantle()
            {
                settle(&parent);
            }
        }
    }
}

/// A place in the tree: a counted reference to a name and its file.
///
/// Cloning and dropping are cheap. As long as a node exists its file can be used, also after
/// its name was removed. Dropping the last node of a removed file closes it on the server, so
/// it may wait for that.
pub struct Node(Arc<Dentry>);

impl Node {
    /// A new dentry, not yet in its parent's map.
    pub(crate) fn new(
        parent: Option<&Node>,
        name: &[u8],
        inode: Arc<Inode>,
        remote: Arc<dyn RemoteFile>,
    ) -> Node {
        let sb = inode.sb.clone();
        let id = sb.next_serial();
        sb.counters.live_dentries.one();
        inode.bind(id, remote.clone());
        let directory = inode.is_dir().then(|| {
            Box::new(Directory {
                names: RwLock::new(()),
                children: Mutex::new(Children::default()),
            })
        });
        Node(Arc::new(Dentry {
            id,
            inode,
            remote,
            refs: AtomicI64::new(1),
            state: AtomicU8::new(LIVE),
            ancestry: Mutex::new(Ancestry {
                parent: parent.map(Node::counted),
                name: name.into(),
            }),
            directory,
        }))
    }

    /// Takes a reference to a dentry found in a map whose lock is held.
    fn of_child(dentry: &Arc<Dentry>) -> Node {
        dentry.refs.fetch_add(1, Ordering::SeqCst);
        Node(dentry.clone())
    }

    /// A reference that is counted but not dropped by itself.
    fn counted(&self) -> Arc<Dentry> {
        self.0.refs.fetch_add(1, Ordering::SeqCst);
        self.0.clone()
    }

    /// The inode number, constant while the filesystem is mounted.
    pub fn ino(&self) -> u64 {
        self.0.inode.ino
    }

    /// The type of the file; constant.
    pub fn file_type(&self) -> FileType {
        self.0.inode.file_type
    }

    /// The server's identity of the file.
    pub fn key(&self) -> FileKey {
        self.0.inode.key
    }

    /// Where it is now, from the root of the filesystem: `/` for the root itself. For a removed
    /// file: where it was.
    pub fn path(&self) -> Vec<u8> {
        let mut names: Vec<Box<[u8]>> = Vec::new();
        let mut at = self.clone();
        loop {
            let ancestry = at.0.ancestry.lock();
            let Some(parent) = ancestry.parent.as_ref().map(Node::of_child) else {
                break;
            };
            names.push(ancestry.name.clone());
            drop(ancestry);
            at = parent;
        }
        if names.is_empty() {
            return b"/".to_vec();
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }

    /// Whether its name was removed through this client.
    pub fn is_deleted(&self) -> bool {
        self.0.state.load(Ordering::SeqCst) == DELETED
    }

    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    #[inline]
    pub(crate) fn inode(&self) -> &Arc<Inode> {
        &self.0.inode
    }

    pub(crate) fn sb(&self) -> &Arc<Superblock> {
        &self.0.inode.sb
    }

    /// What to reach the file by. A name that is gone may be useless to the server: then by
    /// another name of the file, if one is known.
    pub(crate) fn remote(&self) -> Arc<dyn RemoteFile> {
        if self.0.is_dead()
            && let Some(other) = self.0.inode.live_remote()
        {
            return other;
        }
        self.0.remote.clone()
    }

    #[inline]
    pub(crate) fn directory(&self) -> Option<&Directory> {
        self.0.directory.as_deref()
    }

    pub(crate) fn same(&self, other: &Node) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn parent(&self) -> Option<Node> {
        self.0.ancestry.lock().parent.as_ref().map(Node::of_child)
    }

    /// Whether this is `other` or a directory above it.
    pub(crate) fn is_above(&self, other: &Node) -> bool {
        let mut at = Some(other.clone());
        while let Some(node) = at {
            if node.same(self) {
                return true;
            }
            at = node.parent();
        }
        false
    }

    /// What the cache knows of `name` in this directory.
    #[inline]
    pub(crate) fn child(&self, name: &[u8]) -> Child {
        let Some(directory) = self.directory() else {
            return Child::Unknown;
        };
        let children = directory.children.lock();
        if let Some(dentry) = children.present.get(name) {
            return Child::Present(Node::of_child(dentry));
        }
        match &children.absent {
            Some(absent) if absent.contains(name) => Child::Absent,
            _ => Child::Unknown,
        }
    }

    /// Whether any name in this directory is cached.
    pub(crate) fn has_cached_children(&self) -> bool {
        self.directory()
            .is_some_and(|directory| !directory.children.lock().present.is_empty())
    }

    /// Puts `child` (a new dentry of this directory) into the map, unless `accept` says no to
    /// what it finds there. Returns what was there: on success the dentry that was replaced,
    /// otherwise the one that stays.
    pub(crate) fn publish(
        &self,
        name: &[u8],
        child: &Node,
        accept: impl FnOnce(Option<&Inode>) -> bool,
    ) -> Result<Option<Node>, Option<Node>> {
        let Some(directory) = self.directory() else {
            return Err(None);
        };
        let sb = self.sb();
        let mut children = directory.children.lock();
        let there = children.present.get(name);
        if !accept(there.map(|dentry| &*dentry.inode)) {
            return Err(there.map(Node::of_child));
        }
        let old = there.map(Node::of_child);
        if let Some(old) = &old {
            old.0.die(INVALID);
        }
        let replaced = children.present.insert(name.into(), child.0.clone());
        children.no_longer_absent(sb, name);
        drop(children);
        drop(replaced);
        // The directory is referenced by its child now. Taking it out first makes room.
        sb.cache.remove(&self.0);
        Ok(old)
    }

    /// Gives up a new dentry that was not put into its parent's map, and what was built below.
    pub(crate) fn discard(self) {
        self.0.die(INVALID);
        self.invalidate_below();
    }

    /// Takes `child` out of this directory's map; true if it was there under `name`.
    pub(crate) fn detach(&self, name: &[u8], child: &Node, deleted: bool) -> bool {
        let Some(directory) = self.directory() else {
            return false;
        };
        let mut children = directory.children.lock();
        let there = children.holds(name, child);
        if there || deleted {
            child.0.die(if deleted { DELETED } else { INVALID });
        }
        let removed = if there {
            children.present.remove(name)
        } else {
            None
        };
        drop(children);
        drop(removed);
        there
    }

    /// Remembers that `name` is absent, where the mode allows that.
    pub(crate) fn mark_absent(&self, name: &[u8]) {
        let sb = self.sb();
        let Some(directory) = self.directory() else {
            return;
        };
        if !sb.mode.may_cache_negative() {
            return;
        }
        let mut children = directory.children.lock();
        if children.present.contains_key(name) || self.0.is_dead() {
            return;
        }
        let absent = children.absent.get_or_insert_with(LruCache::unbounded);
        if absent.put(name.into(), ()).is_none() {
            sb.counters.negative_entries.one();
        }
        if absent.len() > ABSENT_MAX {
            absent.pop_lru();
            sb.counters.negative_entries.sub(1);
        }
    }

    /// Forgets that `name` is absent.
    pub(crate) fn forget_absent(&self, name: &[u8]) {
        if let Some(directory) = self.directory() {
            let mut children = directory.children.lock();
            children.no_longer_absent(self.sb(), name);
        }
    }

    /// Forgets every absent name in the cached tree from here down.
    pub(crate) fn forget_all_absent(&self) {
        let mut all = vec![self.clone()];
        while let Some(node) = all.pop() {
            let Some(directory) = node.directory() else {
                continue;
            };
            let mut children = directory.children.lock();
            let absent = children.absent.take();
            let found: Vec<Node> = children
                .present
                .values()
                .filter(|dentry| dentry.inode.is_dir())
                .map(Node::of_child)
                .collect();
            drop(children);
            let forgotten = absent.map_or(0, |names| names.len() as u64);
            node.sb().counters.negative_entries.sub(forgotten);
            all.extend(found);
        }
    }

    /// Moves this dentry from (`from`, `old`) to (`to`, `new`), where nothing may be. All locks
    /// of a rename are held, so nobody else gives either name to a file. But a check may have
    /// found, at the same time, that the name is gone, and cut the dentry off: then it stays so.
    pub(crate) fn rename(&self, (from, old): (&Node, &[u8]), (to, new): (&Node, &[u8])) {
        let parent = (!from.same(to)).then(|| to.counted());
        let former = with_children(from, to, |mut source, target| {
            if !source.holds(old, self) {
                return parent;
            }
            source.present.remove(old);
            let target = target.unwrap_or(&mut source);
            target.no_longer_absent(self.sb(), new);
            target.present.insert(new.into(), self.0.clone());
            self.set_ancestry(parent, new)
        });
        self.sb().cache.remove(&to.0);
        settle_former(former);
    }

    /// Swaps this dentry at (`from`, `old`) with `other` at (`to`, `new`). As for
    /// [`Node::rename`], one that was cut off meanwhile stays so.
    pub(crate) fn exchange(
        &self,
        (from, old): (&Node, &[u8]),
        other: &Node,
        (to, new): (&Node, &[u8]),
    ) {
        let moves = !from.same(to);
        let parent = moves.then(|| to.counted());
        let other_parent = moves.then(|| from.counted());
        let former = with_children(from, to, |source, mut target| {
            let at_new = target.as_deref().unwrap_or(&*source);
            let (ours, theirs) = (source.holds(old, self), at_new.holds(new, other));
            source.present.remove(old);
            target
                .as_deref_mut()
                .unwrap_or(&mut *source)
                .present
                .remove(new);
            let mut former = (parent, other_parent);
            if theirs {
                source.present.insert(old.into(), other.0.clone());
                former.1 = other.set_ancestry(former.1, old);
            }
            if ours {
                let target = target.unwrap_or(source);
                target.present.insert(new.into(), self.0.clone());
                former.0 = self.set_ancestry(former.0, new);
            }
            former
        });
        settle_former(former.0);
        settle_former(former.1);
    }

    /// Sets the name and, if it changes, the parent; returns the former parent, still counted.
    fn set_ancestry(&self, parent: Option<Arc<Dentry>>, name: &[u8]) -> Option<Arc<Dentry>> {
        let mut ancestry = self.0.ancestry.lock();
        ancestry.name = name.into();
        let parent = parent?;
        ancestry.parent.replace(parent)
    }

    /// Of two directories: whether this is the one to lock first. `TOPOLOGY` is held.
    pub(crate) fn is_locked_before(&self, other: &Node) -> bool {
        self.is_above(other) || (!other.is_above(self) && self.id() < other.id())
    }

    /// Cuts everything cached below this dentry off: what lies in a directory that is not there
    /// any more is not there either (semantics 6.6, 24 item 17).
    pub(crate) fn invalidate_below(&self) {
        let mut all = vec![self.clone()];
        let mut next = 0;
        while let Some(node) = all.get(next) {
            next += 1;
            let Some(directory) = node.directory() else {
                continue;
            };
            let mut children = directory.children.lock();
            let cut = std::mem::take(&mut children.present);
            // Referenced first: a dead dentry without references may be destroyed at any time.
            let found: Vec<Node> = cut.values().map(Node::of_child).collect();
            for node in &found {
                node.0.die(INVALID);
            }
            drop(children);
            all.extend(found);
        }
        // Leaves first, so that each drop frees one dentry and not a chain.
        while all.pop().is_some() {}
    }

    #[cfg(test)]
    pub(crate) fn refs(&self) -> i64 {
        self.0.refs.load(Ordering::SeqCst)
    }

    #[cfg(test)]
    pub(crate) fn children(&self) -> Vec<Node> {
        let Some(directory) = self.directory() else {
            return Vec::new();
        };
        let children = directory.children.lock();
        children.present.values().map(Node::of_child).collect()
    }

    #[cfg(test)]
    pub(crate) fn absent_names(&self) -> usize {
        self.directory().map_or(0, |directory| {
            let children = directory.children.lock();
            children.absent.as_ref().map_or(0, LruCache::len)
        })
    }
}

/// Locks the children of two directories that may be one; the second is `None` then. Of two, the
/// caller holds `TOPOLOGY`.
fn with_children<R>(
    from: &Node,
    to: &Node,
    run: impl FnOnce(&mut Children, Option<&mut Children>) -> R,
) -> R {
    let maps = from.directory().zip(to.directory());
    let Some((source, target)) = maps else {
        // Callers hold locks that only directories have.
        return run(&mut Children::default(), None);
    };
    if from.same(to) {
        run(&mut source.children.lock(), None)
    } else if from.is_locked_before(to) {
        let mut first = source.children.lock();
        run(&mut first, Some(&mut target.children.lock_beside()))
    } else {
        let mut first = target.children.lock();
        run(&mut source.children.lock_beside(), Some(&mut first))
    }
}

/// Gives up the count at a parent that was left.
fn settle_former(former: Option<Arc<Dentry>>) {
    if let Some(former) = former
        && former.unref()
    {
        settle(&former);
    }
}

impl Children {
    /// Whether `name` is that of `node`.
    fn holds(&self, name: &[u8], node: &Node) -> bool {
        let there = self.present.get(name);
        there.is_some_and(|dentry| Arc::ptr_eq(dentry, &node.0))
    }

    fn no_longer_absent(&mut self, sb: &Superblock, name: &[u8]) {
        if let Some(absent) = &mut self.absent
            && absent.pop(name).is_some()
        {
            sb.counters.negative_entries.sub(1);
        }
    }
}

impl Clone for Node {
    #[inline]
    fn clone(&self) -> Node {
        Node::of_child(&self.0)
    }
}

impl Drop for Node {
    #[inline]
    fn drop(&mut self) {
        if self.0.unref() {
            settle(&self.0);
        }
    }
}

/// The same file by the same name.
impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.same(other)
    }
}

impl Eq for Node {}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("ino", &self.ino())
            .field("type", &self.file_type())
            .finish_non_exhaustive()
    }
}
