//! A few threads under a scheduler that chooses, at each lock and at each call to the server, who
//! goes on. `SCHEDULES=100000 cargo test -p gofer-vfs --lib schedules` looks at more of them
//! than the usual number; a failure prints how to see its schedule again.

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner, thread};

use super::races::check_tree;
use super::*;
use crate::sync::scheduled;

/// The same schedules each time.
const SEED: u64 = 0x60fe;

/// Debug builds need more than the usual few kilobytes.
const STACK: usize = 512 << 10;

/// Runs `test` in many schedules, by chance and by priorities that change now and then.
fn schedules(usual: usize, test: fn()) {
    let asked = std::env::var("SCHEDULES").ok();
    let count = asked.and_then(|text| text.parse().ok()).unwrap_or(usual);
    let mut config = Config::new();
    config.stack_size = STACK;
    scheduled::run(|| {
        let random = RandomScheduler::new_from_seed(SEED, count);
        Runner::new(random, config.clone()).run(test);
        let pct = PctScheduler::new_from_seed(SEED, 3, count);
        Runner::new(pct, config).run(test);
    });
}

/// Runs the tasks side by side on one mount and waits for them.
fn side_by_side(rig: Rig, tasks: &[fn(&Rig)]) -> Rig {
    let rig = Arc::new(rig);
    let threads: Vec<_> = tasks
        .iter()
        .map(|task| {
            let (task, rig) = (*task, rig.clone());
            thread::spawn(move || task(&rig))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    Arc::into_inner(rig).unwrap()
}

/// Nothing is left of a mount but what its server has.
fn check_end(rig: Rig) {
    rig.fs.drop_caches();
    let stats = rig.fs.stats();
    assert_eq!((stats.live_dentries, stats.live_inodes), (1, 1));
    assert_eq!((rig.remote.live_files(), rig.remote.live_handles()), (1, 0));
    rig.fs.unmount(&rig.cx()).unwrap();
    let Rig { fs, remote, .. } = rig;
    drop(fs);
    assert_eq!((remote.live_files(), remote.live_handles()), (0, 0));
    assert_eq!(remote.misuses(), 0);
}

fn names_come_and_go(mode: InteropMode, limit: u64) {
    let rig = Setup::new(mode).limit(limit).mount();
    for dir in [&b"d"[..], b"e"] {
        rig.outside.mkdir(dir).unwrap();
    }
    rig.outside.write(b"d/f", b"content").unwrap();
    rig.outside.write(b"g", b"").unwrap();
    let rig = side_by_side(
        rig,
        &[
            |rig| {
                // It is in one place or in the other, or between two looks in none.
                let _ = rig.lstat("d/f");
                let _ = rig.lstat("e/f");
            },
            |rig| {
                let _ = rig.lstat("d/f");
                rig.fs.drop_caches();
            },
            |rig| {
                // Where only one may stay, this one drives others out.
                rig.lstat("g").unwrap();
                rig.lstat("e").unwrap();
            },
            |rig| rig.rename("d/f", "e/f").unwrap(),
        ],
    );
    check_tree(&rig);
    assert_eq!(errno(rig.lstat("d/f")), Errno::ENOENT);
    assert_eq!(rig.lstat("e/f").unwrap().attr.size, 7);
    check_tree(&rig);
    check_end(rig);
}

#[test]
fn lookups_meet_an_eviction_and_a_rename() {
    schedules(60, || names_come_and_go(InteropMode::Exclusive, 1));
    schedules(60, || names_come_and_go(InteropMode::Shared, 1000));
}

#[test]
fn a_directory_moves_under_those_who_work_below_it() {
    schedules(60, || {
        let rig = Setup::new(InteropMode::Exclusive).limit(2).mount();
        for dir in [&b"a"[..], b"a/b", b"c"] {
            rig.outside.mkdir(dir).unwrap();
        }
        rig.outside.write(b"a/b/f", b"content").unwrap();
        let rig = side_by_side(
            rig,
            &[
                |rig| drop(rig.rename("a/b", "c/b")),
                |rig| drop(rig.create("a/b/new")),
                |rig| drop(rig.unlink("a/b/f")),
                |rig| drop(rig.rename("c", "a/b/c")),
            ],
        );
        check_tree(&rig);
        for name in ["a/b/new", "c/b/new", "a/b/f", "c/b/f", "a/b/c", "c"] {
            let there = rig.outside.stat(name.as_bytes()).ok().map(|stat| stat.ino);
            assert_eq!(rig.lstat(name).ok().map(|stat| stat.ino), there, "{name}");
        }
        check_end(rig);
    });
}

#[test]
fn names_of_one_file_are_counted_once() {
    schedules(60, || {
        let rig = Rig::new(InteropMode::Exclusive);
        rig.outside.write(b"a", b"").unwrap();
        rig.outside.link(b"a", b"b").unwrap();
        rig.outside.link(b"a", b"unknown").unwrap();
        rig.lstat("a").unwrap();
        rig.lstat("b").unwrap();
        let rig = side_by_side(
            rig,
            &[
                |rig| rig.unlink("unknown").unwrap(),
                |rig| rig.unlink("a").unwrap(),
                |rig| rig.link("b", "c").unwrap(),
                |rig| {
                    for _ in 0..2 {
                        let links = rig.attr("b").nlink;
                        assert!((1..=4).contains(&links), "{links}");
                    }
                },
            ],
        );
        check_tree(&rig);
        assert_eq!((rig.attr("b").nlink, rig.attr("c").nlink), (2, 2));
        check_end(rig);
    });
}

fn handles_are_shared(mode: InteropMode) {
    let rig = Rig::new(mode);
    rig.outside.write(b"f", b"content").unwrap();
    let rig = side_by_side(
        rig,
        &[
            |rig| {
                let file = rig.open("f", OpenFlags::RDONLY).unwrap();
                let mut into = [0; 7];
                assert_eq!(file.read_at(&rig.cx(), &mut into, 0).unwrap(), 7);
                assert!(&into == b"content" || &into == b"CONtent", "{into:?}");
                file.close(&rig.cx()).unwrap();
            },
            |rig| {
                // The handle that others read from becomes one that can do both.
                let file = rig.open("f", OpenFlags::RDWR).unwrap();
                assert_eq!(file.write_at(&rig.cx(), b"CON", 0).unwrap(), 3);
                let mut into = [0; 3];
                file.read_at(&rig.cx(), &mut into, 0).unwrap();
                assert_eq!(&into, b"CON");
                file.close(&rig.cx()).unwrap();
            },
            |rig| {
                let file = rig.open("f", OpenFlags::WRONLY).unwrap();
                rig.fs.drop_caches();
                file.close(&rig.cx()).unwrap();
            },
        ],
    );
    rig.fs.sync(&rig.cx()).unwrap();
    assert_eq!(rig.outside.read(b"f").unwrap(), b"CONtent");
    check_end(rig);
}

#[test]
fn handles_are_shared_raised_and_closed() {
    schedules(60, || handles_are_shared(InteropMode::Exclusive));
    schedules(60, || handles_are_shared(InteropMode::Shared));
}

const PAGE: usize = 4096;

#[test]
fn fills_meet_truncation_and_write_back() {
    schedules(60, || {
        let rig = Rig::new(InteropMode::Exclusive);
        rig.outside.write(b"f", &[1; 3 * PAGE]).unwrap();
        let rig = side_by_side(
            rig,
            &[
                |rig| {
                    let file = rig.open("f", OpenFlags::RDONLY).unwrap();
                    let mut into = [9; 3 * PAGE];
                    let n = file.read_at(&rig.cx(), &mut into, 0).unwrap();
                    // Old bytes, new ones, or zeros where it was cut off and grew again.
                    assert!(into[..n].iter().all(|byte| *byte <= 2), "foreign bytes");
                },
                |rig| {
                    let file = rig.open("f", OpenFlags::RDWR).unwrap();
                    file.write_at(&rig.cx(), &[2; 100], 50).unwrap();
                    file.sync(&rig.cx(), false).unwrap();
                    let mut into = [0; 100];
                    file.read_at(&rig.cx(), &mut into, 50).unwrap();
                    assert_eq!(into, [2; 100], "a lost write");
                },
                |rig| {
                    let size = |size| SetAttr {
                        size: Some(size),
                        ..SetAttr::default()
                    };
                    let file = rig.open("f", OpenFlags::RDWR).unwrap();
                    file.set_attr(&rig.cx(), &size(PAGE as u64 + 10)).unwrap();
                    file.set_attr(&rig.cx(), &size(2 * PAGE as u64)).unwrap();
                    let mut into = [9; PAGE];
                    let n = file.read_at(&rig.cx(), &mut into, PAGE as u64 + 10);
                    assert!(into[..n.unwrap()].iter().all(|byte| *byte == 0));
                },
            ],
        );
        rig.fs.sync(&rig.cx()).unwrap();
        let mut expected = vec![1; PAGE + 10];
        expected[50..150].fill(2);
        expected.resize(2 * PAGE, 0);
        assert!(rig.read_all("f").unwrap() == expected, "here");
        assert!(rig.outside.read(b"f").unwrap() == expected, "there");
        check_end(rig);
    });
}

#[test]
fn appends_are_not_lost() {
    schedules(60, || {
        let rig = Rig::new(InteropMode::Exclusive);
        rig.outside.write(b"log", b"").unwrap();
        let rig = side_by_side(
            rig,
            &[
                |rig| append_to(rig, b'a'),
                |rig| append_to(rig, b'b'),
                |rig| rig.fs.sync(&rig.cx()).unwrap(),
            ],
        );
        rig.fs.sync(&rig.cx()).unwrap();
        let mut content = rig.outside.read(b"log").unwrap();
        content.sort_unstable();
        assert_eq!(content, [[b'a'; 20], [b'b'; 20]].concat());
        check_end(rig);
    });
}

fn append_to(rig: &Rig, letter: u8) {
    let flags = OpenFlags::WRONLY | OpenFlags::APPEND;
    let file = rig.open("log", flags).unwrap();
    for _ in 0..2 {
        assert_eq!(file.write(&rig.cx(), &[letter; 10]).unwrap(), 10);
    }
    file.close(&rig.cx()).unwrap();
}
