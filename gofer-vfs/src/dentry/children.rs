//! The names in a directory: which are cached, which are known to be absent, and how they come,
//! go and move.

use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock, Weak};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use lru::LruCache;

use super::name::SmallName;
use super::{DELETED, Dentry, INVALID, Node, settle};
use crate::directory::Listing;
use crate::inode::Inode;
use crate::locks::{CHILDREN, Mutex, MutexGuard, NAMES, READING, RwLock};
use crate::superblock::Superblock;
use crate::versions::Subject;

/// Absent names remembered per directory (semantics 4.11).
const ABSENT_MAX: usize = 1000;

/// A map keeps room for so many names, however few there are.
const SPARSE_MIN: usize = 64;

/// What only directories have.
pub(crate) struct Directory {
    /// See [`Node::id`].
    pub(super) id: u64,
    /// Held shared while the server is asked about names, exclusively while names change.
    pub(crate) names: RwLock<(), NAMES>,
    /// Held while the directory is listed.
    pub(crate) reading: Mutex<(), READING>,
    children: Mutex<Children, CHILDREN>,
}

/// What is known of the names in a directory.
#[derive(Default)]
pub(crate) struct Children {
    /// By the name each dentry has in its ancestry, which changes under this lock only.
    present: HashTable<Arc<Dentry>>,
    /// Names known to be absent, oldest out first.
    absent: Option<Box<LruCache<SmallName, ()>>>,
    /// A listing that is still true: a name that is not in it is absent.
    listing: Weak<Listing>,
}

/// What the cache says about a name.
pub(crate) enum Child {
    Present(Node),
    Absent,
    Unknown,
}

impl Directory {
    pub(super) fn new(id: u64) -> Directory {
        Directory {
            id,
            names: RwLock::new(()),
            reading: Mutex::new(()),
            children: Mutex::new(Children::default()),
        }
    }

    pub(super) fn lock_children(&self) -> MutexGuard<'_, Children> {
        self.children.lock()
    }

    /// Forgets all absent names, and those that a listing tells of; returns how many there were
    /// of the first.
    pub(super) fn forget_absent(&self) -> u64 {
        let mut children = self.children.lock();
        let absent = children.absent.take();
        let listing = std::mem::take(&mut children.listing);
        drop(children);
        drop(listing);
        absent.map_or(0, |names| names.len() as u64)
    }
}

impl Node {
    /// What the cache knows of `name` in this directory.
    #[inline]
    pub(crate) fn child(&self, name: &[u8]) -> Child {
        let Some(directory) = self.directory() else {
            return Child::Unknown;
        };
        let children = directory.children.lock();
        if let Some(dentry) = children.get(name) {
            return Child::Present(Node::of_child(dentry));
        }
        if let Some(absent) = &children.absent
            && absent.contains(name)
        {
            return Child::Absent;
        }
        match children.listing.upgrade() {
            Some(listing) if !listing.contains(name) => {
                // The last one to use it may drop it here: not under the lock.
                drop(children);
                self.sb().counters.listing_absences.one();
                Child::Absent
            }
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
        let there = children.get(name);
        if !accept(there.map(|dentry| &*dentry.inode)) {
            return Err(there.map(Node::of_child));
        }
        let old = there.map(Node::of_child);
        if let Some(old) = &old {
            old.0.die(INVALID);
        }
        let replaced = children.insert(name, &child.0);
        children.no_longer_absent(sb, name);
        sb.versions.changed(Subject::Name(directory.id, name));
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
        let removed = there.then(|| children.remove(&child.0));
        self.name_changed(name);
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
        if children.get(name).is_some() || self.0.is_dead() {
            return;
        }
        let is_first = children.absent.is_none();
        let absent = children
            .absent
            .get_or_insert_with(|| Box::new(LruCache::unbounded()));
        if absent.put(SmallName::new(name), ()).is_none() {
            sb.counters.negative_entries.one();
        }
        if absent.len() > ABSENT_MAX {
            absent.pop_lru();
            sb.counters.negative_entries.sub(1);
        }
        drop(children);
        if is_first {
            sb.absent.add(&self.0);
        }
        sb.absent.keep_bounded(sb);
    }

    /// Sets the listing that tells which names there are; `None`: it is not true any more.
    pub(crate) fn set_listing(&self, listing: Option<&Arc<Listing>>) {
        if let Some(directory) = self.directory() {
            let listing = listing.map(Arc::downgrade).unwrap_or_default();
            let old = std::mem::replace(&mut directory.children.lock().listing, listing);
            drop(old);
        }
    }

    /// Forgets that `name` is absent.
    pub(crate) fn forget_absent(&self, name: &[u8]) {
        if let Some(directory) = self.directory() {
            let mut children = directory.children.lock();
            children.no_longer_absent(self.sb(), name);
            self.name_changed(name);
        }
    }

    /// What is known of a name here was changed: under the lock of the children.
    fn name_changed(&self, name: &[u8]) {
        self.sb().versions.changed(Subject::Name(self.id(), name));
    }

    /// The same of all names.
    fn names_changed(&self) {
        let versions = &self.sb().versions;
        versions.changed(Subject::Directory(self.key()));
    }

    /// Forgets every absent name in the cached tree from here down.
    pub(crate) fn forget_all_absent(&self) {
        let mut all = vec![self.clone()];
        while let Some(node) = all.pop() {
            let Some(directory) = node.directory() else {
                continue;
            };
            let forgotten = directory.forget_absent();
            let children = directory.children.lock();
            node.names_changed();
            let found: Vec<Node> = children
                .present
                .iter()
                .filter(|dentry| dentry.inode.is_dir())
                .map(Node::of_child)
                .collect();
            drop(children);
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
            source.remove(&self.0);
            let target = target.unwrap_or(&mut source);
            target.no_longer_absent(self.sb(), new);
            let former = self.set_ancestry(parent, new);
            target.insert(new, &self.0);
            from.name_changed(old);
            to.name_changed(new);
            former
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
        let former = with_children(from, to, |source, target| {
            let at_new = target.as_deref().unwrap_or(&*source);
            let (ours, theirs) = (source.holds(old, self), at_new.holds(new, other));
            if ours {
                source.remove(&self.0);
            }
            let at_new = target.unwrap_or(&mut *source);
            if theirs {
                at_new.remove(&other.0);
            }
            let mut former = (parent, other_parent);
            if ours {
                former.0 = self.set_ancestry(former.0, new);
                at_new.insert(new, &self.0);
            }
            if theirs {
                former.1 = other.set_ancestry(former.1, old);
                source.insert(old, &other.0);
            }
            from.name_changed(old);
            to.name_changed(new);
            former
        });
        settle_former(former.0);
        settle_former(former.1);
    }

    /// Sets the name and, if it changes, the parent; returns the former parent, still counted.
    fn set_ancestry(&self, parent: Option<Arc<Dentry>>, name: &[u8]) -> Option<Arc<Dentry>> {
        let mut ancestry = self.0.ancestry.lock();
        ancestry.name = SmallName::new(name);
        let parent = parent?;
        ancestry.parent.replace(parent)
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
            let found: Vec<Node> = cut.iter().map(Node::of_child).collect();
            for node in &found {
                node.0.die(INVALID);
            }
            node.names_changed();
            drop(children);
            all.extend(found);
        }
        // Leaves first, so that each drop frees one dentry and not a chain.
        while all.pop().is_some() {}
    }

    /// The names that are cached.
    pub(crate) fn children(&self) -> Vec<Node> {
        let Some(directory) = self.directory() else {
            return Vec::new();
        };
        let children = directory.children.lock();
        children.present.iter().map(Node::of_child).collect()
    }

    #[cfg(test)]
    pub(crate) fn absent_names(&self) -> usize {
        self.directory().map_or(0, |directory| {
            let children = directory.children.lock();
            children.absent.as_ref().map_or(0, |names| names.len())
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

/// Keyed once per process: names come from others, who could make them collide.
#[inline]
pub(crate) fn hash(name: &[u8]) -> u64 {
    KEYS.hash_one(name)
}

/// The same of a whole path that begins in a directory with that id.
#[inline]
pub(crate) fn hash_path(start: u64, path: &[u8]) -> u64 {
    KEYS.hash_one((start, path))
}

static KEYS: LazyLock<hashbrown::DefaultHashBuilder> = LazyLock::new(Default::default);

impl Children {
    #[inline]
    fn get(&self, name: &[u8]) -> Option<&Arc<Dentry>> {
        self.present.find(hash(name), |dentry| {
            dentry.ancestry.lock().name.as_bytes() == name
        })
    }

    /// Puts a dentry in that has the name `name`; returns what was there.
    fn insert(&mut self, name: &[u8], dentry: &Arc<Dentry>) -> Option<Arc<Dentry>> {
        let hash_of = |one: &Arc<Dentry>| hash(one.ancestry.lock().name.as_bytes());
        let is = |one: &Arc<Dentry>| one.ancestry.lock().name.as_bytes() == name;
        match self.present.entry(hash(name), is, hash_of) {
            Entry::Occupied(mut there) => Some(std::mem::replace(there.get_mut(), dentry.clone())),
            Entry::Vacant(free) => {
                free.insert(dentry.clone());
                None
            }
        }
    }

    /// Takes a dentry out, if it is in here.
    pub(super) fn remove(&mut self, dentry: &Dentry) -> Option<Arc<Dentry>> {
        let hash_of = |one: &Dentry| hash(one.ancestry.lock().name.as_bytes());
        let there = self
            .present
            .find_entry(hash_of(dentry), |one| std::ptr::eq(&**one, dentry));
        let removed = there.ok().map(|entry| entry.remove().0);
        let (len, capacity) = (self.present.len(), self.present.capacity());
        if capacity > SPARSE_MIN && len < capacity / 8 {
            self.present.shrink_to(len * 2, |one| hash_of(one));
        }
        removed
    }

    /// Whether `name` is that of `node`.
    fn holds(&self, name: &[u8], node: &Node) -> bool {
        let there = self.get(name);
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
