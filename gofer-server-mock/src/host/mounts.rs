//! Which entries of a directory may be mount points, known without asking for each of them.
//!
//! The kernel lists all mounts of this process in one file and says on a poll whether they have
//! changed, so the list is read once and again after changes only.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, StatxFlags};

use super::Errno;

/// The mounts of this process.
#[derive(Debug)]
pub(super) struct Mounts {
    /// `None`: there is no such list.
    list: Option<Mutex<List>>,
}

#[derive(Debug)]
struct List {
    file: File,
    /// Names of mount points by the mount they are in. `None` before the first look.
    within: Option<Within>,
}

type Within = HashMap<u64, Arc<Names>>;

/// Names, and a filter before them: most entries of a listing are none of them.
#[derive(Debug, Default)]
struct Names {
    filter: [u64; 4],
    names: HashSet<Vec<u8>>,
}

impl Names {
    /// Word and bit of the filter for `name`.
    fn place(name: &[u8]) -> (usize, u64) {
        let byte = |byte: Option<&u8>| byte.map_or(0, |&byte| usize::from(byte));
        let mixed = 31 * name.len() + 7 * byte(name.first()) + byte(name.last());
        (mixed / 64 % 4, 1 << (mixed % 64))
    }

    fn insert(&mut self, name: &[u8]) {
        let (word, bit) = Names::place(name);
        self.filter[word] |= bit;
        self.names.insert(name.to_vec());
    }

    fn contains(&self, name: &[u8]) -> bool {
        let (word, bit) = Names::place(name);
        self.filter[word] & bit != 0 && self.names.contains(name)
    }
}

/// Names of mount points in the directories of one mount.
#[derive(Clone, Debug)]
pub struct MountPoints(Option<Arc<Names>>);

impl MountPoints {
    /// Where nobody knows.
    #[cfg(test)]
    pub(super) fn unknown() -> MountPoints {
        MountPoints(None)
    }

    /// Whether the entry `name` of such a directory may be a mount point. Always, where nobody
    /// knows.
    pub fn may_include(&self, name: &[u8]) -> bool {
        self.0.as_ref().is_none_or(|names| names.contains(name))
    }
}

impl Mounts {
    /// Opens the list. Done at start, since a sandbox may stand in the way later.
    pub(super) fn new() -> Mounts {
        let open = File::open("/proc/self/mountinfo");
        let list = open.map(|file| List { file, within: None });
        Mounts {
            list: list.ok().map(Mutex::new),
        }
    }

    /// The mount points in the directories of the mount that `directory` is on.
    pub(super) fn beside(&self, directory: impl AsFd) -> MountPoints {
        let names = self.list.as_ref().and_then(|list| {
            let mount = mount_id(directory)?;
            list.lock().look()?.get(&mount).cloned()
        });
        MountPoints(names)
    }
}

impl List {
    /// What is there now. `None`: it cannot be read.
    fn look(&mut self) -> Option<&Within> {
        let mut polled = [PollFd::new(&self.file, PollFlags::PRI)];
        let changed = poll(&mut polled, Some(&Timespec::default())) != Ok(0);
        if changed || self.within.is_none() {
            self.within = None;
            let mut text = Vec::new();
            self.file.rewind().ok()?;
            self.file.read_to_end(&mut text).ok()?;
            self.within = Some(parse(&text));
        }
        self.within.as_ref()
    }
}

/// Mount points by the mount they are in, from the lines of mountinfo (proc_pid_mountinfo(5)).
/// Every mount has an entry.
fn parse(text: &[u8]) -> Within {
    let mut within: HashMap<u64, Names> = HashMap::new();
    for line in text.split(|&byte| byte == b'\n') {
        let mut words = line.split(|&byte| byte == b' ');
        let mut number = || std::str::from_utf8(words.next()?).ok()?.parse::<u64>().ok();
        let (Some(mount), Some(parent)) = (number(), number()) else {
            continue;
        };
        within.entry(mount).or_default();
        // Device and root of the mount come between.
        let point = unescape(words.nth(2).unwrap_or_default());
        let name = Path::new(std::ffi::OsStr::from_bytes(&point)).file_name();
        if let Some(name) = name {
            let names = within.entry(parent).or_default();
            names.insert(name.as_bytes());
        }
    }
    let shared = |(mount, names)| (mount, Arc::new(names));
    within.into_iter().map(shared).collect()
}

/// Undoes `\040` and the like.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, behind)) = rest.split_first() {
        let code = match (first, behind) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        out.push(code.unwrap_or(first));
        rest = match code {
            Some(_) => behind.get(3..).unwrap_or_default(),
            None => behind,
        };
    }
    out
}

/// The number of the mount that `fd` is on. `None` before Linux 5.8.
fn mount_id(fd: impl AsFd) -> Option<u64> {
    let stat: Result<_, Errno> =
        rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
    let stat = stat.ok()?;
    StatxFlags::from_bits_retain(stat.stx_mask)
        .contains(StatxFlags::MNT_ID)
        .then_some(stat.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_known_by_name_and_mount() {
        let text = b"25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
            30 25 0:5 / /dev rw shared:2 - devtmpfs devtmpfs rw\n\
            31 25 0:9 /sub /srv/with\\040space rw - tmpfs none rw\n\
            nonsense\n";
        let within = parse(text);
        let names = |mount: u64| MountPoints(within.get(&mount).cloned());
        assert!(names(25).may_include(b"dev"));
        assert!(names(25).may_include(b"with space"));
        assert!(!names(25).may_include(b"home"));
        assert!(!names(30).may_include(b"dev"));
        assert!(names(99).may_include(b"anything"), "an unknown mount");
    }

    #[test]
    fn the_mounts_of_this_process_are_known() {
        let mounts = Mounts::new();
        let root = File::open("/").unwrap();
        let points = mounts.beside(&root);
        assert!(points.may_include(b"proc"));
        assert!(!points.may_include(b"no mount point"));
    }
}
