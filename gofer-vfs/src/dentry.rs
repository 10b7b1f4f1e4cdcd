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

mod absent;
mod children;
mod name;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, Ordering};

use crate::attr::FileType;
use crate::dentry_cache::Seat;
use crate::freshness::Moment;
use crate::inode::Inode;
use crate::locks::{ANCESTRY, Mutex};
use crate::reconnect::note_dentry;
use crate::remote::{FileKey, Promptness, RemoteFile};
use crate::superblock::Superblock;
use crate::times;
use crate::versions::Subject;

#[cfg(test)]
pub(crate) use absent::ABSENT_TOTAL_MAX;
pub(crate) use absent::AbsentDirectories;
pub(crate) use children::{Child, Directory, hash, hash_path};
use name::SmallName;

/// In place of a number of references: the dentry is gone for good.
const DESTROYED: i32 = i32::MIN / 2;

/// It has its name.
const LIVE: u8 = 0;
/// The server has another file, or none, by its name: open descriptions go on using it.
const INVALID: u8 = 1;
/// Its name was removed through this client.
const DELETED: u8 = 2;

/// A name in a directory: the edge from a parent to an inode. There are as many of these as
/// cached names: every byte counts.
pub(crate) struct Dentry {
    pub(crate) inode: Arc<Inode>,
    /// The file as reached by this name.
    remote: Arc<dyn RemoteFile>,
    ancestry: Mutex<Ancestry, ANCESTRY>,
    directory: Option<Box<Directory>>,
    refs: AtomicI32,
    /// Its place in the [`DentryCache`](crate::dentry_cache::DentryCache).
    pub(crate) seat: Seat,
    /// When the server last confirmed the name, and the attributes with it: a [`Moment`].
    checked: AtomicU32,
    state: AtomicU8,
    /// Another filesystem is mounted on it.
    covered: AtomicBool,
}

struct Ancestry {
    /// Counts among the parent's references; the root has none.
    parent: Option<Arc<Dentry>>,
    name: SmallName,
}

impl Dentry {
    /// Whether there are no references, and the dentry can still be used again.
    pub(crate) fn is_unused(&self) -> bool {
        self.refs.load(Ordering::SeqCst) == 0
    }

    /// Whether nothing is to be found by its name any more: it was removed, or is not cached.
    pub(crate) fn is_gone(&self) -> bool {
        self.state.load(Ordering::SeqCst) == DELETED || self.refs.load(Ordering::SeqCst) < 0
    }

    /// Where it is: its parent and its name. The root has neither, and what was destroyed has no
    /// parent.
    pub(crate) fn above(&self) -> (Option<Arc<Dentry>>, Box<[u8]>) {
        let ancestry = self.ancestry.lock();
        (ancestry.parent.clone(), ancestry.name.as_bytes().into())
    }

    fn is_dead(&self) -> bool {
        self.state.load(Ordering::SeqCst) != LIVE
    }

    /// The file as reached by this name.
    pub(crate) fn remote(&self) -> &Arc<dyn RemoteFile> {
        &self.remote
    }

    /// Its name is gone, in the way of `state`. The lock of its parent's children is held, if it
    /// is in there.
    fn die(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
        if self.covered.load(Ordering::Relaxed) {
            self.inode.sb.mounts.note_cut();
        }
        self.inode.unbind(self);
        if self.inode.key.is_synthetic() {
            self.inode.sb.synthetics.name_gone(self);
        }
        if state == INVALID {
            // The caller references it too, so none of these is the last.
            drop(self.inode.sb.watches.cut_off(self));
        }
    }

    /// Destroys the dentry if it is unused, and if the server need not be told its time before.
    fn destroy_if_unused(self: &Arc<Dentry>) -> End {
        self.destroy(times::is_owed(&self.inode))
    }

    fn destroy(self: &Arc<Dentry>, owes_time: bool) -> End {
        let claim = |count| {
            self.refs
                .compare_exchange(0, count, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        };
        loop {
            if self.is_dead() {
                self.inode.sb.inodes.note_forgotten(&self.inode);
                return match claim(DESTROYED) {
                    true => End::Destroyed,
                    false => End::Used,
                };
            }
            // The root never gets here: the filesystem references it.
            let Some(parent) = self.parent_dentry() else {
                return End::Used;
            };
            let Some(directory) = &parent.directory else {
                return End::Used;
            };
            let mut children = directory.lock_children();
            let ancestry = self.ancestry.lock();
            let moved = !ancestry
                .parent
                .as_ref()
                .is_some_and(|now| Arc::ptr_eq(now, &parent));
            if moved || self.is_dead() {
                continue;
            }
            if owes_time {
                return match claim(1) {
                    true => End::OwesTime,
                    false => End::Used,
                };
            }
            self.inode.sb.inodes.note_forgotten(&self.inode);
            if !claim(DESTROYED) {
                return End::Used;
            }
            let name = Subject::Name(directory.id, ancestry.name.as_bytes());
            self.inode.sb.versions.changed(name);
            drop(ancestry);
            let gone = children.remove(self);
            drop(children);
            drop(gone);
            return End::Destroyed;
        }
    }

    /// Releases what a destroyed dentry had; returns its parent if that is unused now.
    fn dismantle(&self) -> Option<Arc<Dentry>> {
        let sb = &self.inode.sb;
        sb.cache.remove(self);
        if let Some(directory) = &self.directory {
            sb.listings.forget(directory.id, &sb.counters);
        }
        self.inode.unbind(self);
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

/// What became of a dentry that was to be destroyed.
enum End {
    /// The caller drops what it left: see [`settle`].
    Destroyed,
    /// Somebody references it.
    Used,
    /// It is referenced again, once: the server has to be told its modification time.
    OwesTime,
}

impl Drop for Dentry {
    fn drop(&mut self) {
        let counters = &self.inode.sb.counters;
        counters.live_dentries.sub(1);
        if let Some(directory) = &self.directory {
            counters.negative_entries.sub(directory.forget_absent());
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
        let mut end = dentry.destroy_if_unused();
        if let End::OwesTime = end {
            dentry.inode.sb.times.send_later(&Node::of_child(&dentry));
            // Unless it waits there and is referenced, by this name or another, it was sent.
            end = match dentry.unref() {
                true => dentry.destroy(false),
                false => End::Used,
            };
        }
        if let End::Destroyed = end
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
        let mut owing = Vec::new();
        for dentry in unused {
            match dentry.destroy_if_unused() {
                End::Destroyed => {
                    if let Some(parent) = dentry.dismantle() {
                        settle(&parent);
                    }
                }
                End::OwesTime => owing.push(Node(dentry)),
                End::Used => {}
            }
        }
        times::send_now(owing);
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
        let sb = &inode.sb;
        sb.counters.live_dentries.one();
        let directory = inode
            .is_dir()
            .then(|| Box::new(Directory::new(sb.next_serial())));
        let dentry = Arc::new(Dentry {
            inode,
            remote,
            ancestry: Mutex::new(Ancestry {
                parent: parent.map(Node::counted),
                name: SmallName::new(name),
            }),
            directory,
            refs: AtomicI32::new(1),
            seat: Seat::default(),
            checked: AtomicU32::new(Moment::NEVER.0),
            state: AtomicU8::new(LIVE),
            covered: AtomicBool::new(false),
        });
        dentry.inode.bind(&dentry);
        note_dentry(&dentry.remote, &dentry);
        Node(dentry)
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

    /// Where it is now, from the root of the filesystem, or of the outermost one if that is
    /// mounted in another: `/` for the root itself. For a removed file: where it was.
    pub fn path(&self) -> Vec<u8> {
        let mut names: Vec<SmallName> = Vec::new();
        let mut at = self.clone();
        loop {
            let ancestry = at.0.ancestry.lock();
            let up = match ancestry.parent.as_ref().map(Node::of_child) {
                Some(parent) => {
                    names.push(ancestry.name.clone());
                    Some(parent)
                }
                None => None,
            };
            drop(ancestry);
            match up.or_else(|| at.sb().mounts.covers()) {
                Some(up) => at = up,
                None => break,
            }
        }
        if names.is_empty() {
            return b"/".to_vec();
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
        }
        path
    }

    /// Whether `other` is the same file, by this or another name.
    pub fn same_file(&self, other: &Node) -> bool {
        Arc::ptr_eq(&self.0.inode, &other.0.inode)
    }

    /// Whether its name was removed through this client.
    pub fn is_deleted(&self) -> bool {
        self.0.state.load(Ordering::SeqCst) == DELETED
    }

    /// Whether its name is gone, for whatever reason.
    pub(crate) fn is_dead(&self) -> bool {
        self.0.is_dead()
    }

    /// Whether another filesystem is mounted on it.
    #[inline]
    pub(crate) fn is_covered(&self) -> bool {
        self.0.covered.load(Ordering::Relaxed)
    }

    /// Marks it as covered, or not. For the table of mounts alone, which tells of it by
    /// [`Node::cover_changed`] when it is not locked any more.
    pub(crate) fn set_covered(&self, covered: bool) {
        self.0.covered.store(covered, Ordering::SeqCst);
    }

    /// Its name leads somewhere else since it was covered, or uncovered.
    pub(crate) fn cover_changed(&self) {
        // A rename that comes in between raises the versions itself, and later.
        let ancestry = self.0.ancestry.lock();
        if let Some(parent) = &ancestry.parent
            && let Some(directory) = &parent.directory
        {
            let name = Subject::Name(directory.id, ancestry.name.as_bytes());
            self.sb().versions.changed(name);
        }
    }

    /// Whether it still has its name in its directory.
    pub(crate) fn has_name(&self) -> bool {
        !self.0.is_dead()
    }

    /// Its name, or the one it had; none for the root.
    pub(crate) fn name(&self) -> Vec<u8> {
        self.0.ancestry.lock().name.as_bytes().to_vec()
    }

    /// Its name was removed, and it is in no directory's map.
    pub(crate) fn lose_name(&self) {
        self.0.die(DELETED);
    }

    /// Of a directory: never reused while the filesystem is mounted. Also the order in which two
    /// unrelated directories are locked.
    pub(crate) fn id(&self) -> u64 {
        self.directory().map_or(0, |directory| directory.id)
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

    /// The file as reached by this very name.
    pub(crate) fn named_remote(&self) -> &dyn RemoteFile {
        &*self.0.remote
    }

    #[inline]
    pub(crate) fn directory(&self) -> Option<&Directory> {
        self.0.directory.as_deref()
    }

    /// The server told of this name and its attributes in answer to a request sent at `moment`.
    pub(crate) fn set_checked(&self, moment: Moment) {
        self.0.checked.store(moment.0, Ordering::Relaxed);
    }

    /// Whether the last check is recent enough to do without another.
    pub(crate) fn is_fresh(&self) -> bool {
        let moment = Moment(self.0.checked.load(Ordering::Relaxed));
        self.sb().freshness.trusts(moment) && self.inode().meta().is_current()
    }

    pub(crate) fn same(&self, other: &Node) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether this is the only reference to its file.
    pub(crate) fn is_sole(&self) -> bool {
        self.0.refs.load(Ordering::SeqCst) == 1 && Arc::strong_count(&self.0.inode) == 1
    }

    pub(crate) fn is(&self, dentry: &Dentry) -> bool {
        std::ptr::eq(&*self.0, dentry)
    }

    /// The directory it is in, or was in, and its name there.
    pub(crate) fn place(&self) -> Option<(Arc<Inode>, Vec<u8>)> {
        let ancestry = self.0.ancestry.lock();
        let parent = ancestry.parent.as_ref()?;
        Some((parent.inode.clone(), ancestry.name.as_bytes().to_vec()))
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

    /// Of two directories: whether this is the one to lock first. `TOPOLOGY` is held.
    pub(crate) fn is_locked_before(&self, other: &Node) -> bool {
        self.is_above(other) || (!other.is_above(self) && self.id() < other.id())
    }

    /// What tells two nodes apart as long as they live.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// How many references there are: each `Node`, and each child that is cached.
    pub(crate) fn references(&self) -> i32 {
        self.0.refs.load(Ordering::SeqCst)
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
