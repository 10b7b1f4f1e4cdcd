//! The nodes the kernel knows, and how often it was told of each.
//!
//! The kernel speaks of files by number. A number stands for a *file*, so the names of a hard
//! link share one; it is the file's inode number where that is free, since fuser sends one number
//! for both. A number stays taken until the kernel has forgotten it.

use std::collections::HashMap;

use gofer_vfs::{FileKey, FileType, Node};
use parking_lot::RwLock;

use crate::trim::Trimmer;

/// The root's number, fixed by FUSE.
pub(crate) const ROOT: u64 = 1;

/// From here on numbers are made up, for files whose own number is taken.
const MADE_UP: u64 = 1 << 63;

/// Names held of one file. Each is another way to reach it when names go; more are of no use.
const NAMES_MAX: usize = 8;

/// See the module.
pub(crate) struct Nodes {
    root: Node,
    table: RwLock<Table>,
    trimmer: Trimmer,
}

#[derive(Default)]
struct Table {
    entries: HashMap<u64, Entry>,
    /// The number of the newest file with this identity.
    numbers: HashMap<FileKey, u64>,
    made_up: u64,
}

struct Entry {
    node: Node,
    /// Other names of the same file.
    others: Vec<Node>,
    /// How often the kernel was told of it, less what it forgot.
    lookups: u64,
}

impl Nodes {
    pub(crate) fn new(root: Node, trimmer: Trimmer) -> Nodes {
        Nodes {
            root,
            table: RwLock::default(),
            trimmer,
        }
    }

    /// The file of a number the kernel was given.
    pub(crate) fn get(&self, number: u64) -> Option<Node> {
        if number == ROOT {
            return Some(self.root.clone());
        }
        let table = self.table.read();
        table.entries.get(&number).map(|entry| entry.node.clone())
    }

    /// Counts that the kernel is told of `node`, and returns the number to tell it.
    pub(crate) fn enter(&self, node: Node) -> u64 {
        if node == self.root {
            return ROOT;
        }
        let mut table = self.table.write();
        let known = table.numbers.get(&node.key()).copied();
        if let Some(number) = known
            && let Some(entry) = table.entries.get_mut(&number)
            && entry.is_of(&node)
        {
            entry.lookups += 1;
            let surplus = entry.add(node);
            drop(table);
            drop(surplus);
            return number;
        }
        let number = table.free_number(node.ino());
        table.numbers.insert(node.key(), number);
        let entry = Entry {
            node,
            others: Vec::new(),
            lookups: 1,
        };
        table.entries.insert(number, entry);
        let count = table.entries.len();
        drop(table);
        self.trimmer.entered(count);
        number
    }

    /// How many the kernel knows.
    pub(crate) fn count(&self) -> usize {
        self.table.read().entries.len()
    }

    /// Before the kernel is told of more: see [`Trimmer::make_room`].
    pub(crate) fn make_room(&self) {
        self.trimmer.make_room(self.count());
    }

    /// As many numbers as there are beyond `keep`, from the `cursor`-th on.
    pub(crate) fn surplus(&self, keep: usize, cursor: usize) -> Vec<u64> {
        let table = self.table.read();
        let known = table.entries.len();
        let numbers = table.entries.keys().cycle();
        numbers
            .skip(cursor.checked_rem(known).unwrap_or(0))
            .take(known.saturating_sub(keep))
            .copied()
            .collect()
    }

    /// The kernel forgets `count` of the times it was told of a file.
    pub(crate) fn forget(&self, number: u64, count: u64) {
        let mut table = self.table.write();
        let Some(entry) = table.entries.get_mut(&number) else {
            return;
        };
        entry.lookups = entry.lookups.saturating_sub(count);
        if entry.lookups > 0 {
            return;
        }
        let gone = table.entries.remove(&number);
        if let Some(entry) = &gone {
            let key = entry.node.key();
            if table.numbers.get(&key) == Some(&number) {
                table.numbers.remove(&key);
            }
        }
        // Dropping nodes may close files on the server.
        drop(table);
        drop(gone);
    }

    /// A number that no file has or will have.
    pub(crate) fn nowhere(&self) -> u64 {
        self.table.write().make_up()
    }

    /// Forgets everything: the kernel is gone.
    pub(crate) fn clear(&self) {
        let gone = std::mem::take(&mut *self.table.write());
        drop(gone);
    }
}

impl Table {
    fn free_number(&mut self, wanted: u64) -> u64 {
        if wanted > ROOT && wanted < MADE_UP && !self.entries.contains_key(&wanted) {
            return wanted;
        }
        self.make_up()
    }

    fn make_up(&mut self) -> u64 {
        // 2^63 of them will not be used up.
        self.made_up += 1;
        MADE_UP | self.made_up
    }
}

impl Entry {
    /// Whether `node`, which has the same identity, is this file. A directory has one name; one
    /// that was cut off and found again is another node of the same directory.
    fn is_of(&self, node: &Node) -> bool {
        self.node.same_file(node)
            || (self.node.file_type() == FileType::Directory
                && node.file_type() == FileType::Directory)
    }

    /// Takes in another name. Returns what is not held any more, to be dropped without a lock.
    fn add(&mut self, node: Node) -> Option<Node> {
        if self.node == node || self.others.contains(&node) {
            return Some(node);
        }
        if node.file_type() == FileType::Directory {
            return Some(std::mem::replace(&mut self.node, node));
        }
        if self.others.len() + 1 >= NAMES_MAX {
            let oldest = self.others.remove(0);
            self.others.push(node);
            return Some(oldest);
        }
        self.others.push(node);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::Arc;
    use std::time::Duration;

    use gofer_vfs::remote::RemoteFilesystem;
    use gofer_vfs::testing::mem_remote::MemRemote;
    use gofer_vfs::testing::wide_remote::WideRemote;
    use gofer_vfs::{
        At, Context, Credentials, Filesystem, Follow, MountFlags, MountOptions, OpenFlags, Trans,
    };

    use super::*;

    const LIMIT: usize = 64;

    fn mount(remote: Arc<dyn RemoteFilesystem>) -> Filesystem {
        let options = MountOptions::new(Trans::Fd { rfd: 0, wfd: 0 });
        Filesystem::mount(remote, options, MountFlags::default()).unwrap()
    }

    fn find(fs: &Filesystem, path: &str) -> Node {
        let creds = Credentials::root();
        let root = fs.root();
        let at = At::new(&root, path.as_bytes());
        fs.resolve(&Context::new(&creds), at, Follow::No).unwrap()
    }

    /// How many files are known.
    fn count(nodes: &Nodes) -> usize {
        nodes.surplus(0, 0).len()
    }

    #[test]
    fn a_kernel_that_forgets_what_it_is_asked_to_keeps_the_table_short() {
        let fs = mount(Arc::new(WideRemote::new(1, 2000)));
        let (trimmer, trimming) = Trimmer::new(LIMIT);
        let nodes = Arc::new(Nodes::new(fs.root(), trimmer));
        let (kernel, device) = UnixDatagram::pair().unwrap();
        trimming
            .start(device.into(), Arc::downgrade(&nodes))
            .unwrap();
        kernel
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        for round in 0..2 {
            for file in 0..1000 {
                nodes.enter(find(&fs, &format!("d0/file{}", round * 1000 + file)));
            }
            assert!(count(&nodes) > LIMIT);
            while count(&nodes) > LIMIT / 4 * 3 {
                let mut message = [0; 4096];
                let length = kernel.recv(&mut message).unwrap();
                for number in message[32..length].chunks_exact(8) {
                    nodes.forget(u64::from_ne_bytes(*number.first_chunk().unwrap()), 1);
                }
            }
        }
        assert_eq!(nodes.table.read().numbers.len(), count(&nodes));
        nodes.clear();
        assert_eq!(count(&nodes), 0);
    }

    #[test]
    fn few_of_many_names_of_a_file_are_held() {
        let (remote, _server) = MemRemote::new();
        let fs = mount(Arc::new(remote));
        let creds = Credentials::root();
        let cx = Context::new(&creds);
        let root = fs.root();
        let flags = OpenFlags::RDWR | OpenFlags::CREAT;
        drop(fs.open(&cx, At::new(&root, b"f"), flags, 0o600).unwrap());
        let nodes = Nodes::new(fs.root(), Trimmer::new(LIMIT).0);
        let number = nodes.enter(find(&fs, "f"));
        for n in 0..100 {
            let name = format!("name{n}");
            let new = At::new(&root, name.as_bytes());
            fs.link(&cx, At::new(&root, b"f"), Follow::No, new).unwrap();
            assert_eq!(nodes.enter(find(&fs, &name)), number);
        }
        let others = nodes.table.read().entries[&number].others.len();
        assert_eq!((count(&nodes), others), (1, NAMES_MAX - 1));
        // The kernel was told of it by each of them.
        nodes.forget(number, 100);
        assert!(nodes.get(number).is_some());
        nodes.forget(number, 1);
        assert!(nodes.get(number).is_none());
    }
}
