//! All watches of a filesystem, by the inode they are on.
//!
//! A watch holds a node of its file, so that a watched file is never evicted, until the file has
//! lost its last name: then it lives as long as it is open, and its end is told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::look::{Kept, Names};
use super::queue::Queue;
use super::{Event, EventMask};
use crate::dentry::{Dentry, Node};
use crate::error::Errno;
use crate::inode::Inode;
use crate::locks::{Mutex, WATCHES};
use crate::stats::{Counter, Counters};
use crate::superblock::Res;

/// Watches on one filesystem, as Linux's default for one user.
const COUNT_MAX: usize = 65536;

/// See the module.
pub(crate) struct Watches {
    count: AtomicUsize,
    cookies: AtomicU32,
    /// Events that wait in all queues.
    queued: Arc<Counter>,
    /// Names that are kept of watched directories.
    names: Arc<Counter>,
    table: Mutex<Table, WATCHES>,
}

#[derive(Default)]
struct Table {
    /// By the address of the inode, which tells of its end before the address is used again.
    by_inode: HashMap<usize, OnInode>,
    /// The inode of each watch of each queue.
    by_number: HashMap<(u64, i32), usize>,
    /// The last number each queue gave.
    numbers: HashMap<u64, i32>,
}

#[derive(Default)]
struct OnInode {
    watches: Vec<Watch>,
    /// Its last name was removed.
    deleted: bool,
    /// The names in the directory, as they were last looked at and told since.
    names: Option<Kept>,
}

struct Watch {
    number: i32,
    queue: Arc<Queue>,
    mask: EventMask,
    pin: Option<Node>,
}

impl Watch {
    fn tell(&self, mask: EventMask, name: &[u8], cookie: u32) {
        self.queue.push(Event {
            watch: self.number,
            mask,
            cookie,
            name: name.to_vec(),
        });
    }
}

fn key(inode: &Inode) -> usize {
    std::ptr::from_ref(inode) as usize
}

impl Watches {
    pub(crate) fn new() -> Watches {
        Watches {
            count: AtomicUsize::new(0),
            cookies: AtomicU32::new(1),
            queued: Arc::default(),
            names: Arc::default(),
            table: Mutex::new(Table::default()),
        }
    }

    /// Whether nothing is watched. Whoever adds a watch sees what happens from then on.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// A queue whose events are counted here.
    pub(super) fn new_queue(&self, id: u64) -> Result<Arc<Queue>, Errno> {
        Queue::new(id, self.queued.clone())
    }

    /// Shows what waits to be read, and what is kept to be compared.
    pub(crate) fn count(&self, counters: &Counters) {
        counters.queued_events.set(self.queued.get());
        counters.watched_names.set(self.names.get());
    }

    pub(super) fn next_cookie(&self) -> u32 {
        // 0 means that there is none.
        let cookie = self.cookies.fetch_add(1, Ordering::Relaxed);
        if cookie == 0 {
            self.next_cookie()
        } else {
            cookie
        }
    }

    /// Adds a watch, or changes the one that is there; `number` asks for a number.
    pub(super) fn add(
        &self,
        queue: &Arc<Queue>,
        node: &Node,
        mask: EventMask,
        number: Option<i32>,
    ) -> Res<i32> {
        let flags = EventMask::MASK_ADD | EventMask::MASK_CREATE;
        let keep = mask & !(flags | EventMask::ONLYDIR | EventMask::DONT_FOLLOW);
        let mut guard = self.table.lock();
        let table = &mut *guard;
        let at = key(node.inode());
        let there = table.by_inode.get_mut(&at).and_then(|on_inode| {
            let mut watches = on_inode.watches.iter_mut();
            watches.find(|watch| watch.queue.id == queue.id)
        });
        if let Some(watch) = there {
            if mask.contains(EventMask::MASK_CREATE) {
                return Err(Errno::EEXIST.into());
            }
            match mask.contains(EventMask::MASK_ADD) {
                true => watch.mask |= keep,
                false => watch.mask = keep,
            }
            return Ok(watch.number);
        }
        if table.by_number.len() >= COUNT_MAX || node.sb().is_unmounted() {
            return Err(Errno::ENOSPC.into());
        }
        let last = table.numbers.entry(queue.id).or_insert(0);
        let number = match number {
            Some(number) => number,
            None => last.checked_add(1).ok_or(Errno::ENOSPC)?,
        };
        *last = number.max(*last);
        table.by_number.insert((queue.id, number), at);
        let on_inode = table.by_inode.entry(at).or_default();
        on_inode.watches.push(Watch {
            number,
            queue: queue.clone(),
            mask: keep,
            pin: (!on_inode.deleted).then(|| node.clone()),
        });
        self.counted(table, &node.sb().counters);
        Ok(number)
    }

    fn counted(&self, table: &Table, counters: &Counters) {
        self.count.store(table.by_number.len(), Ordering::Relaxed);
        counters.watches.set(table.by_number.len() as u64);
    }

    /// Tells who watches `inode`. `unlinked`: the name it happened through is gone.
    pub(super) fn tell(
        &self,
        inode: &Inode,
        mask: EventMask,
        name: &[u8],
        cookie: u32,
        unlinked: bool,
    ) {
        let mut table = self.table.lock();
        let Some(on_inode) = table.by_inode.get_mut(&key(inode)) else {
            return;
        };
        on_inode.keep_names(mask, name);
        let mut once = Vec::new();
        for watch in &on_inode.watches {
            let excluded = unlinked
                && watch.mask.contains(EventMask::EXCL_UNLINK)
                && mask.intersects(EventMask::OF_DESCRIPTIONS | EventMask::MODIFY);
            if excluded || !watch.mask.intersects(mask & EventMask::ALL) {
                continue;
            }
            watch.tell(mask, name, cookie);
            if watch.mask.contains(EventMask::ONESHOT) {
                once.push((watch.queue.id, watch.number));
            }
        }
        let gone: Vec<Watch> = once
            .into_iter()
            .filter_map(|number| table.take(number))
            .collect();
        if !gone.is_empty() {
            self.counted(&table, &inode.sb.counters);
        }
        drop(table);
        end(gone);
    }

    pub(super) fn remove(
        &self,
        counters: &Counters,
        queue: &Queue,
        number: i32,
    ) -> Result<(), Errno> {
        let mut table = self.table.lock();
        let gone = table.take((queue.id, number)).ok_or(Errno::EINVAL)?;
        self.counted(&table, counters);
        drop(table);
        end(vec![gone]);
        Ok(())
    }

    /// The queue goes: nobody is told any more.
    pub(super) fn remove_queue(&self, counters: &Counters, queue: &Queue) {
        let mut table = self.table.lock();
        table.numbers.remove(&queue.id);
        let mine = table.by_number.keys().filter(|(id, _)| *id == queue.id);
        let mine: Vec<(u64, i32)> = mine.copied().collect();
        let gone: Vec<Watch> = mine
            .into_iter()
            .filter_map(|number| table.take(number))
            .collect();
        self.counted(&table, counters);
        drop(table);
        drop(gone);
    }

    /// A name of `inode` was removed through this client; `last`: it has none any more. From then
    /// on its watches do not keep it.
    pub(crate) fn name_removed(&self, inode: &Inode, last: bool) {
        if self.is_idle() || !last {
            return;
        }
        let mut table = self.table.lock();
        let Some(on_inode) = table.by_inode.get_mut(&key(inode)) else {
            return;
        };
        on_inode.deleted = true;
        let pins = on_inode.pins(|_| true);
        drop(table);
        drop(pins);
    }

    /// The name of `dentry` is not that of its file any more: what watches that by this name lets
    /// go of it. The caller has another reference to each node that is returned.
    #[must_use]
    pub(crate) fn cut_off(&self, dentry: &Dentry) -> Vec<Node> {
        if self.is_idle() {
            return Vec::new();
        }
        let mut table = self.table.lock();
        let on_inode = table.by_inode.get_mut(&key(&dentry.inode));
        on_inode.map_or_else(Vec::new, |on_inode| on_inode.pins(|pin| pin.is(dentry)))
    }

    /// The inode is about to go.
    pub(crate) fn inode_gone(&self, inode: &Inode) {
        if self.is_idle() {
            return;
        }
        let mut table = self.table.lock();
        let Some(on_inode) = table.by_inode.remove(&key(inode)) else {
            return;
        };
        for watch in &on_inode.watches {
            table.by_number.remove(&(watch.queue.id, watch.number));
        }
        self.counted(&table, &inode.sb.counters);
        drop(table);
        if on_inode.deleted {
            for watch in &on_inode.watches {
                if watch.mask.contains(EventMask::DELETE_SELF) {
                    watch.tell(EventMask::DELETE_SELF, b"", 0);
                }
            }
        }
        end(on_inode.watches);
    }

    /// The filesystem goes; `told`: by unmounting it.
    pub(crate) fn remove_all(&self, counters: &Counters, told: bool) {
        let mut table = self.table.lock();
        let all = std::mem::take(&mut table.by_inode);
        table.by_number.clear();
        self.counted(&table, counters);
        drop(table);
        let mut watches: Vec<Watch> = all.into_values().flat_map(|one| one.watches).collect();
        watches.sort_by_key(|watch| (watch.queue.id, watch.number));
        for watch in &watches {
            if told {
                watch.tell(EventMask::UNMOUNT, b"", 0);
            }
        }
        end(watches);
    }

    /// Notes the names in a watched directory, if there is room; returns those noted before.
    pub(super) fn exchange_names(&self, dir: &Inode, names: Names) -> Option<Names> {
        let mut table = self.table.lock();
        let on_inode = table.by_inode.get_mut(&key(dir))?;
        let before = on_inode.names.take().map(Kept::into_names);
        on_inode.names = Kept::new(names, &self.names);
        before
    }

    /// The watches of a queue: number, mask and node.
    pub(super) fn of_queue(&self, queue: &Queue) -> Vec<(i32, EventMask, Option<Node>)> {
        let table = self.table.lock();
        let all = table.by_inode.values().flat_map(|one| &one.watches);
        let mine = all.filter(|watch| watch.queue.id == queue.id);
        let mut mine: Vec<_> = mine
            .map(|watch| (watch.number, watch.mask, watch.pin.clone()))
            .collect();
        drop(table);
        mine.sort_by_key(|watch| watch.0);
        mine
    }
}

/// Tells each watch's end.
fn end(gone: Vec<Watch>) {
    for watch in gone {
        watch.tell(EventMask::IGNORED, b"", 0);
    }
}

impl OnInode {
    /// What is told of a name is not news at the next look.
    fn keep_names(&mut self, mask: EventMask, name: &[u8]) {
        let Some(names) = &mut self.names else {
            return;
        };
        if mask.intersects(EventMask::CREATE | EventMask::MOVED_TO) {
            if !names.add(name, mask.contains(EventMask::ISDIR)) {
                self.names = None;
            }
        } else if mask.intersects(EventMask::DELETE | EventMask::MOVED_FROM) {
            names.remove(name);
        }
    }

    fn pins(&mut self, which: impl Fn(&Node) -> bool) -> Vec<Node> {
        let watches = self.watches.iter_mut();
        watches
            .filter(|watch| watch.pin.as_ref().is_some_and(&which))
            .filter_map(|watch| watch.pin.take())
            .collect()
    }
}

impl Table {
    fn take(&mut self, number: (u64, i32)) -> Option<Watch> {
        let at = self.by_number.remove(&number)?;
        let on_inode = self.by_inode.get_mut(&at)?;
        let index = on_inode
            .watches
            .iter()
            .position(|watch| (watch.queue.id, watch.number) == number)?;
        let watch = on_inode.watches.remove(index);
        if on_inode.watches.is_empty() {
            self.by_inode.remove(&at);
        }
        Some(watch)
    }
}
