//! Listings of directories: snapshots, and the cache of snapshots.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use hashbrown::HashTable;
use lru::LruCache;

use crate::attr::FileType;
use crate::context::Context;
use crate::dentry::{Node, hash};
use crate::error::Errno;
use crate::handle::Handle;
use crate::locks::{LISTINGS, Mutex};
use crate::remote::DirPos;
use crate::stats::Counters;
use crate::superblock::{Res, Superblock};

/// Memory that cached listings of one filesystem may take, in bytes.
pub(crate) const CACHED_BYTES_MAX: usize = 16 << 20;

/// What the index adds to an entry, in bytes.
const INDEX_BYTES: usize = 8;

/// How often a listing is begun anew because the connection was lost in its middle.
const ATTEMPTS_MAX: usize = 16;

/// One entry of a directory, as [`crate::File::read_dir`] shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirectoryEntry<'a> {
    /// The number `stat` shows for it.
    pub ino: u64,
    /// The name; the first two are `.` and `..`.
    pub name: &'a [u8],
    /// The type, where the server says.
    pub file_type: Option<FileType>,
    /// Where to seek to go on after this entry.
    pub next: u64,
}

/// The entries of a directory at one moment, `.` and `..` left out.
pub(crate) struct Listing {
    /// All names, one after the other.
    names: Vec<u8>,
    entries: Vec<Entry>,
    /// By name; made when the first name is looked for.
    index: OnceLock<HashTable<u32>>,
}

struct Entry {
    ino: u64,
    /// Where the name ends; it begins where the one before ends.
    end: usize,
    file_type: Option<FileType>,
}

impl Listing {
    fn new() -> Listing {
        Listing {
            names: Vec::new(),
            entries: Vec::new(),
            index: OnceLock::new(),
        }
    }

    fn push(&mut self, ino: u64, name: &[u8], file_type: Option<FileType>) {
        self.names.extend_from_slice(name);
        self.entries.push(Entry {
            ino,
            end: self.names.len(),
            file_type,
        });
    }

    fn get(&self, index: usize) -> Option<(u64, &[u8], Option<FileType>)> {
        let entry = self.entries.get(index)?;
        let begin = match index {
            0 => 0,
            _ => self.entries.get(index - 1)?.end,
        };
        let name = self.names.get(begin..entry.end)?;
        Some((entry.ino, name, entry.file_type))
    }

    /// Memory it takes, or will take.
    fn bytes(&self) -> usize {
        let entry = size_of::<Entry>() + INDEX_BYTES;
        size_of::<Listing>() + self.names.capacity() + self.entries.capacity() * entry
    }

    /// Whether `name` is in the directory (semantics 25.5).
    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        self.position(name).is_some()
    }

    /// Where `name` is.
    fn position(&self, name: &[u8]) -> Option<u32> {
        let index = self.index.get_or_init(|| self.make_index());
        let is = |&at: &u32| self.name(at) == name;
        index.find(hash(name), is).copied()
    }

    fn name(&self, at: u32) -> &[u8] {
        self.get(at as usize).map_or(&[], |entry| entry.1)
    }

    fn make_index(&self) -> HashTable<u32> {
        let hash_of = |&at: &u32| hash(self.name(at));
        let mut index = HashTable::with_capacity(self.entries.len());
        for at in (0..=u32::MAX).take(self.entries.len()) {
            index.insert_unique(hash_of(&at), at, hash_of);
        }
        index
    }

    fn shrink(&mut self) {
        self.names.shrink_to_fit();
        self.entries.shrink_to_fit();
    }
}

/// Where an open directory stands: its snapshot, and the offset of the next entry.
#[derive(Default)]
pub(crate) struct Stream {
    snapshot: Option<Arc<Listing>>,
    pub(crate) offset: u64,
    /// The name before the place where another listing stood: this one goes on behind it.
    after: Option<Box<[u8]>>,
}

impl Stream {
    /// Moves to `offset`; to the start means to look again.
    pub(crate) fn seek(&mut self, offset: u64, rewind: bool) {
        self.offset = offset;
        self.after = None;
        if rewind && offset == 0 {
            self.snapshot = None;
        }
    }

    /// The name before the current offset, if it is known.
    pub(crate) fn name_before(&self) -> Option<&[u8]> {
        let index = usize::try_from(self.offset.checked_sub(3)?).ok()?;
        let listed = self
            .snapshot
            .as_ref()
            .and_then(|listing| listing.get(index));
        listed.map(|entry| entry.1).or(self.after.as_deref())
    }

    /// Goes on behind `name` in a listing that is yet to be read, or at `offset` if it is gone.
    pub(crate) fn go_on(&mut self, offset: u64, name: &[u8]) {
        self.offset = offset;
        self.after = (!name.is_empty()).then(|| name.into());
    }

    /// Emits entries from the current offset until there are no more or `each` breaks; the entry
    /// it breaks at counts as taken. Offsets are 1, 2, 3, ... (semantics 17).
    pub(crate) fn read(
        &mut self,
        cx: &Context<'_>,
        node: &Node,
        each: &mut dyn FnMut(DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Res<()> {
        if node.is_deleted() {
            return Ok(());
        }
        let snapshot = match &self.snapshot {
            Some(snapshot) => snapshot.clone(),
            None => self.snapshot.insert(snapshot(cx, node)?).clone(),
        };
        if let Some(name) = self.after.take()
            && let Some(at) = snapshot.position(&name)
        {
            self.offset = u64::from(at) + 3;
        }
        let parent = node.parent();
        let above = parent.as_ref().unwrap_or(node);
        loop {
            let (ino, name, file_type) = match self.offset {
                0 => (node.ino(), &b"."[..], Some(FileType::Directory)),
                1 => (above.ino(), &b".."[..], Some(above.file_type())),
                offset => {
                    let index = usize::try_from(offset - 2).unwrap_or(usize::MAX);
                    match snapshot.get(index) {
                        Some(entry) => entry,
                        None => return Ok(()),
                    }
                }
            };
            self.offset += 1;
            let entry = DirectoryEntry {
                ino,
                name,
                file_type,
                next: self.offset,
            };
            if each(entry).is_break() {
                return Ok(());
            }
        }
    }
}

/// The cached listing, or one that is read now. Names cannot change through this client
/// meanwhile.
fn snapshot(cx: &Context<'_>, node: &Node) -> Res<Arc<Listing>> {
    let sb = node.sb();
    let Some(directory) = node.directory() else {
        return Err(Errno::ENOTDIR.into());
    };
    let _names = directory.names.read();
    let _reading = directory.reading.lock();
    if let Some(listing) = sb.listings.get(node.id()) {
        sb.counters.listing_hits.one();
        return Ok(listing);
    }
    let listing = Arc::new(read_all(cx, node)?);
    if sb.mode.may_cache_listing() {
        sb.listings.put(node.id(), &listing, &sb.counters);
        node.set_listing(Some(&listing));
    }
    Ok(listing)
}

/// Reads the whole directory from the server.
fn read_all(cx: &Context<'_>, node: &Node) -> Res<Listing> {
    let Some(handle) = node.inode().reader() else {
        return Err(Errno::EBADF.into());
    };
    let mut attempts = 0;
    loop {
        let mut listing = Listing::new();
        match read_through(cx, node, &handle, &mut listing) {
            // The handle is another one now, on a new connection, which cannot go on there.
            Err(failure)
                if failure.errno() == Errno::ESTALE
                    && !listing.entries.is_empty()
                    && attempts < ATTEMPTS_MAX =>
            {
                attempts += 1;
            }
            read => {
                read?;
                add_synthetic(node, &mut listing);
                listing.shrink();
                return Ok(listing);
            }
        }
    }
}

/// Adds the files of this client alone that the server did not list.
fn add_synthetic(node: &Node, listing: &mut Listing) {
    let children = node.synthetic_children();
    if children.is_empty() {
        return;
    }
    let all = 0..listing.entries.len();
    let listed: HashSet<Vec<u8>> = all
        .filter_map(|index| Some(listing.get(index)?.1.to_vec()))
        .collect();
    for (name, child) in children {
        if !listed.contains(&name) {
            listing.push(child.ino(), &name, Some(child.file_type()));
        }
    }
}

fn read_through(cx: &Context<'_>, node: &Node, handle: &Handle, listing: &mut Listing) -> Res<()> {
    let sb = node.sb();
    let mut at = DirPos::default();
    loop {
        let before = at;
        let mut any = false;
        let more = handle.remote.read_dir(&cx.call(), at, &mut |entry| {
            let name = entry.name.as_bytes();
            // Only a name that passed `Name::new` gets here, so `.` and `..` cannot.
            listing.push(sb.ino(entry.key), name, entry.file_type);
            at = entry.next;
            any = true;
            ControlFlow::Continue(())
        })?;
        if !more {
            return Ok(());
        }
        // A server that says there is more but never moves on would keep us here for ever.
        if !any || at == before {
            return Err(Errno::EIO.into());
        }
    }
}

/// Listings that are still true, within a total of bytes; the least recently used go first.
pub(crate) struct ListingCache(Mutex<Cached, LISTINGS>);

struct Cached {
    /// By dentry id.
    by_age: LruCache<u64, Arc<Listing>>,
    bytes: usize,
}

impl ListingCache {
    pub(crate) fn new() -> ListingCache {
        ListingCache(Mutex::new(Cached {
            by_age: LruCache::unbounded(),
            bytes: 0,
        }))
    }

    fn get(&self, dentry: u64) -> Option<Arc<Listing>> {
        self.0.lock().by_age.get(&dentry).cloned()
    }

    fn put(&self, dentry: u64, listing: &Arc<Listing>, counters: &Counters) {
        if listing.bytes() > CACHED_BYTES_MAX {
            return;
        }
        let mut cached = self.0.lock();
        cached.bytes += listing.bytes();
        let mut old = vec![cached.by_age.put(dentry, listing.clone())];
        if let Some(Some(old)) = old.first() {
            cached.bytes -= old.bytes();
        }
        while cached.bytes > CACHED_BYTES_MAX {
            let Some((_, victim)) = cached.by_age.pop_lru() else {
                break;
            };
            cached.bytes -= victim.bytes();
            old.push(Some(victim));
        }
        cached.count(counters);
        drop(cached);
        drop(old);
    }

    /// The names in a directory change, or the directory goes.
    pub(crate) fn forget(&self, dentry: u64, counters: &Counters) {
        let mut cached = self.0.lock();
        if let Some(old) = cached.by_age.pop(&dentry) {
            cached.bytes -= old.bytes();
            cached.count(counters);
            drop(cached);
            drop(old);
        }
    }

    /// Forgets every listing.
    pub(crate) fn clear(&self, counters: &Counters) {
        let mut cached = self.0.lock();
        let old = std::mem::replace(&mut cached.by_age, LruCache::unbounded());
        cached.bytes = 0;
        cached.count(counters);
        drop(cached);
        drop(old);
    }
}

impl Cached {
    fn count(&self, counters: &Counters) {
        counters.listings.set(self.by_age.len() as u64);
        counters.listing_bytes.set(self.bytes as u64);
    }
}

impl Superblock {
    /// What is known of the names in `dir` changed: its listing is no longer true.
    pub(crate) fn names_changed(&self, dir: &Node) {
        dir.set_listing(None);
        self.listings.forget(dir.id(), &self.counters);
    }
}
