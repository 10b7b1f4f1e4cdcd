//! Threads against each other, and what has to be true of the tree afterwards.

use super::*;
use crate::dentry::Node;
use std::collections::HashMap;
use std::sync::Barrier;

/// What must hold of the cached tree when no operation runs and nobody holds a node
/// (semantics 26, item 84).
pub(super) fn check_tree(rig: &Rig) {
    let root = rig.fs.root_ref();
    let mut seen: HashMap<usize, Node> = HashMap::new();
    let mut queue = vec![root.clone()];
    while let Some(node) = queue.pop() {
        for child in node.children() {
            let parent = child.parent().expect("a child has a parent");
            assert!(parent.same(&node), "a child lies where its parent says");
            queue.push(child);
        }
        let twice = seen.insert(node.address(), node);
        assert!(twice.is_none(), "a dentry is reachable in one way only");
    }
    for node in seen.values() {
        // Its children, the one we hold, and for the root the filesystem's.
        let holders = if node.same(root) { 2 } else { 1 };
        let children = node.children();
        assert_eq!(
            i64::from(node.references()),
            children.len() as i64 + holders,
            "references of {:?}",
            String::from_utf8_lossy(&node.path())
        );
    }
    let stats = rig.fs.stats();
    assert_eq!(stats.live_dentries, seen.len() as u64, "no dentry leaked");
    assert_eq!(rig.remote.live_files(), seen.len() as u64);
    drop(seen);
    let unused = root.sb().cache.all();
    for dentry in &unused {
        assert!(dentry.is_unused(), "what waits for eviction is unused");
    }
    assert_eq!(rig.remote.misuses(), 0);
}

/// The client sees what is there, and nothing else.
fn check_truth(rig: &Rig, names: &[&str]) {
    for name in names {
        let there = rig.outside.stat(name.as_bytes()).ok();
        let seen = rig.lstat(name).ok();
        assert_eq!(
            seen.map(|seen| (seen.ino, seen.attr.nlink)),
            there.map(|there| (there.ino, there.attr.nlink)),
            "{name}"
        );
    }
}

/// A few steps of a pseudo-random sequence: what varies between threads and rounds.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = crate::inode::mix([self.0, 1]);
        (self.0 % sides as u64) as usize
    }
}

const NAMES: [&str; 10] = [
    "a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "e", "e/a", "e/b",
];

/// One operation; its outcome depends on the others.
fn disturb(rig: &Rig, dice: &mut Dice) {
    let one = NAMES[dice.roll(NAMES.len())];
    let two = NAMES[dice.roll(NAMES.len())];
    match dice.roll(16) {
        0 | 1 => drop(rig.lstat(one)),
        2 => drop(rig.create(one)),
        3 => drop(rig.mkdir(one)),
        4 => drop(rig.unlink(one)),
        5 => drop(rig.rmdir(one)),
        6 => drop(rig.link(one, two)),
        7 => drop(rig.rename_with(one, two, RenameFlags::NOREPLACE)),
        8 => drop(rig.symlink("nowhere", one)),
        9 => drop(rig.chmod(one, 0o700)),
        10 => drop(
            rig.open(one, OpenFlags::DIRECTORY)
                .map(|dir| rig.names(&dir)),
        ),
        11 => use_file(rig, one, dice),
        12 => watch(rig, one, two),
        13 => rig.fs.drop_caches(),
        // Of directories above others, too.
        _ => drop(rig.rename(one, two)),
    }
}

/// What is done with an open file.
fn use_file(rig: &Rig, path: &str, dice: &mut Dice) {
    let flags = OpenFlags::RDWR | OpenFlags::NOFOLLOW;
    let Ok(file) = rig.open(path, flags) else {
        return;
    };
    let cx = rig.cx();
    let at = dice.roll(3) as u64 * 4096;
    let size = SetAttr {
        size: Some(at),
        ..SetAttr::default()
    };
    drop(file.write_at(&cx, b"some bytes", at));
    drop(file.read_at(&cx, &mut [0; 100], 0));
    match dice.roll(5) {
        0 => drop(file.sync(&cx, false)),
        1 => drop(file.set_attr(&cx, &size)),
        2 => drop(file.flock(&cx, crate::LockKind::Write, false)),
        3 => drop(file.stat(&cx)),
        _ => drop(file.close(&cx)),
    }
}

/// Watches one name while another is moved.
fn watch(rig: &Rig, one: &str, two: &str) {
    let notifier = rig.fs.notifier().unwrap();
    let added = notifier.add(&rig.cx(), rig.at(one), crate::EventMask::ALL);
    drop(rig.rename(one, two));
    if let Ok(watch) = added {
        // It may have gone with its file.
        drop(notifier.remove(watch));
    }
}

/// Until no thread of the filesystem's own is at work.
fn settle(rig: &Rig) {
    rig.fs.sync(&rig.cx()).unwrap();
    while !rig.fs.sb().times.is_idle() {
        std::thread::yield_now();
    }
}

fn storm(setup: Setup) {
    const THREADS: usize = 8;
    const STEPS: usize = 150;
    let rig = setup.mount();
    for round in 0..4 {
        let start = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (rig, start) = (&rig, &start);
                scope.spawn(move || {
                    let mut dice = Dice((round * THREADS + thread) as u64 + 1);
                    start.wait();
                    for _ in 0..STEPS {
                        disturb(rig, &mut dice);
                    }
                });
            }
        });
        // What was written is sent by a thread of its own, which holds the file until then.
        settle(&rig);
        check_tree(&rig);
        check_truth(&rig, &NAMES);
        // To look evicts, and times are sent before.
        settle(&rig);
        check_tree(&rig);
        assert_eq!(rig.fs.stats().watches, 0);
        assert_eq!(rig.fs.stats().file_locks, 0);
    }
    settle(&rig);
    rig.fs.drop_caches();
    let stats = rig.fs.stats();
    assert_eq!((stats.live_dentries, stats.live_inodes), (1, 1));
    assert_eq!(rig.remote.live_files(), 1);
    assert_eq!(stats.page_cache_bytes, 0);
}

#[test]
fn the_tree_survives_a_storm_of_changes() {
    for mode in InteropMode::ALL {
        storm(Setup::new(mode));
        storm(Setup::new(mode).like_9p());
    }
}

#[test]
fn the_tree_survives_a_storm_with_hardly_any_cache() {
    for limit in [0, 1, 2] {
        storm(Setup::new(InteropMode::Exclusive).limit(limit));
        storm(Setup::new(InteropMode::Shared).limit(limit));
    }
}

#[test]
fn cached_names_are_found_while_another_lookup_waits_for_the_server() {
    let rig = Arc::new(Rig::new(InteropMode::Exclusive));
    rig.outside.write(b"cached", b"x").unwrap();
    rig.stat("cached").unwrap();
    let other = rig.clone();
    // Inside the slow lookup, another thread stats what is cached. It would hang here if that
    // needed a lock that is held over the call.
    rig.remote.before(Op::Walk, move || {
        std::thread::spawn(move || other.stat("cached").map(drop))
            .join()
            .unwrap()
            .unwrap();
    });
    assert_eq!(errno(rig.stat("slow")), Errno::ENOENT);
}

#[test]
fn reads_and_stats_do_not_wait_for_a_slow_write() {
    let rig = Arc::new(Rig::new(InteropMode::Exclusive));
    rig.outside.write(b"f", b"content").unwrap();
    let file = Arc::new(rig.open("f", OpenFlags::RDWR | OpenFlags::APPEND).unwrap());
    let (other, reader) = (rig.clone(), file.clone());
    rig.remote.before(Op::Write, move || {
        std::thread::spawn(move || {
            let mut buffer = [0; 7];
            assert_eq!(reader.read_at(&other.cx(), &mut buffer, 0).unwrap(), 7);
            assert_eq!(other.stat("f").unwrap().attr.size, 7);
        })
        .join()
        .unwrap();
    });
    file.write(&rig.cx(), b"more").unwrap();
    assert_eq!(rig.stat("f").unwrap().attr.size, 11);
}

#[test]
fn concurrent_appends_do_not_overwrite_each_other() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        drop(rig.create("log").unwrap());
        std::thread::scope(|scope| {
            for letter in [b'a', b'b', b'c'] {
                let rig = &rig;
                scope.spawn(move || {
                    let flags = OpenFlags::WRONLY | OpenFlags::APPEND;
                    let file = rig.open("log", flags).unwrap();
                    for _ in 0..50 {
                        file.write(&rig.cx(), &[letter; 10]).unwrap();
                    }
                });
            }
        });
        let content = rig.read_all("log").unwrap();
        assert_eq!(content.len(), 1500, "{mode}");
        for record in content.chunks(10) {
            assert!(record.iter().all(|byte| *byte == record[0]), "{mode}");
        }
    }
}

#[test]
fn racing_creators_without_excl_all_succeed() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        let outside = rig.server.outside();
        // Another client makes the file after we decided to, and before the server hears of it.
        rig.remote.before(Op::Create, move || {
            outside.write(b"f", b"theirs").unwrap();
        });
        let file = rig.create("f").unwrap();
        let mut buffer = [0; 6];
        assert_eq!(file.read(&rig.cx(), &mut buffer).unwrap(), 6, "{mode}");
        let excl = OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::RDWR;
        assert_eq!(errno(rig.open("f", excl)), Errno::EEXIST);
    }
}

#[test]
fn a_reply_that_a_local_change_overtook_is_not_applied() {
    let rig = Arc::new(Rig::new(InteropMode::Shared));
    rig.outside.write(b"f", b"").unwrap();
    let file = Arc::new(rig.open("f", OpenFlags::WRONLY).unwrap());
    let (other, writer) = (rig.clone(), file.clone());
    // The write completes after the check was sent; the in-memory server answers afterwards, so
    // what counts is that the size that was written is what everybody sees.
    rig.remote.before(Op::HandleAttr, move || {
        std::thread::spawn(move || {
            writer.write(&other.cx(), b"content").unwrap();
        })
        .join()
        .unwrap();
    });
    let node = rig.fs.resolve(&rig.cx(), rig.at("f"), Follow::Yes).unwrap();
    rig.calls();
    assert_eq!(rig.fs.stat_node(&rig.cx(), &node).unwrap().attr.size, 7);
    // Overtaken, so asked again.
    assert_eq!(rig.calls(), [Op::HandleAttr, Op::Write, Op::HandleAttr]);
}

#[test]
fn a_name_that_goes_is_not_closed_under_a_call_that_borrowed_it() {
    for mode in S {
        let rig = Arc::new(Rig::new(mode));
        rig.outside.write(b"f", b"content").unwrap();
        let held = rig.fs.resolve(&rig.cx(), rig.at("f"), Follow::Yes).unwrap();
        // The name that is held goes, and the file is known by another: calls take that one.
        rig.outside.rename(b"f", b"g").unwrap();
        assert_eq!(errno(rig.stat("f")), Errno::ENOENT);
        rig.stat("g").unwrap();
        assert_eq!(rig.remote.live_files(), 3, "{mode}: the root, f and g");
        let other = rig.clone();
        rig.remote.before(Op::Open, move || {
            std::thread::spawn(move || {
                other.outside.rename(b"g", b"h").unwrap();
                assert_eq!(errno(other.stat("g")), Errno::ENOENT);
            })
            .join()
            .unwrap();
        });
        let cx = rig.cx();
        drop(rig.fs.open_node(&cx, &held, OpenFlags::RDONLY).unwrap());
        assert_eq!(rig.remote.misuses(), 0, "{mode}");
        assert_eq!(rig.remote.live_files(), 2, "{mode}: g was closed after it");
    }
}

#[test]
fn a_name_that_a_check_cut_off_during_its_rename_does_not_come_back() {
    for mode in S {
        let rig = Arc::new(Rig::new(mode));
        rig.outside.write(b"f", b"content").unwrap();
        rig.stat("f").unwrap();
        let other = rig.clone();
        rig.remote.before(Op::Rename, move || {
            std::thread::spawn(move || {
                // Gone for a moment, in which somebody looks.
                other.outside.rename(b"f", b"hidden").unwrap();
                assert_eq!(errno(other.stat("f")), Errno::ENOENT);
                other.outside.rename(b"hidden", b"f").unwrap();
            })
            .join()
            .unwrap();
        });
        rig.rename("f", "g").unwrap();
        // The dentry is dead: if the rename had put it under `g`, that would be of no use.
        for _ in 0..2 {
            assert_eq!(rig.read_all("g").unwrap(), b"content", "{mode}");
        }
        check_tree(&rig);
        check_truth(&rig, &["f", "g"]);
    }
}
