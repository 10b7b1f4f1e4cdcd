//! Every table of the client has a limit and a counter: filled here beyond the limit.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::*;
use crate::dentry::ABSENT_TOTAL_MAX;
use crate::directory::CACHED_BYTES_MAX;
use crate::notify::KEPT_MAX;
use crate::testing::wide_remote::WideRemote;

/// A client of a tree that is not stored.
struct Wide {
    fs: Filesystem,
    creds: Credentials,
}

impl Wide {
    fn new(directories: u64, files: u64, limit: u64) -> Wide {
        let mut options = MountOptions::new(Trans::Fd { rfd: 0, wfd: 0 });
        options.dentry_cache_limit = limit;
        let remote = Arc::new(WideRemote::new(directories, files));
        Wide {
            fs: Filesystem::mount(remote, options, MountFlags::default()).unwrap(),
            creds: Credentials::root(),
        }
    }

    fn stat(&self, path: &str) -> Result<Stat> {
        let root = self.fs.root();
        let at = At::new(&root, path.as_bytes());
        self.fs.stat(&Context::new(&self.creds), at, Follow::No)
    }

    fn open(&self, path: &str) -> File {
        let root = self.fs.root();
        let at = At::new(&root, path.as_bytes());
        self.fs
            .open(&Context::new(&self.creds), at, OpenFlags::DIRECTORY, 0)
            .unwrap()
    }

    fn list(&self, path: &str) -> u64 {
        let mut entries = 0;
        self.open(path)
            .read_dir(&Context::new(&self.creds), &mut |_| {
                entries += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        entries
    }

    fn trips(&self) -> u64 {
        self.fs.traffic().round_trips
    }
}

#[test]
fn absent_names_of_all_directories_are_bounded() {
    let each = 1000;
    let directories = ABSENT_TOTAL_MAX / each + 5;
    let wide = Wide::new(directories, 0, 1 << 20);
    for dir in 0..directories {
        for name in 0..each {
            let path = format!("d{dir}/missing{name}");
            assert_eq!(errno(wide.stat(&path)), Errno::ENOENT);
        }
    }
    let stats = wide.fs.stats();
    assert!(stats.negative_entries <= ABSENT_TOTAL_MAX, "{stats:?}");
    assert!(stats.negative_entries > ABSENT_TOTAL_MAX - each);
    assert!(stats.negative_directories <= directories);
    let before = wide.trips();
    let newest = format!("d{}/missing999", directories - 1);
    assert_eq!(errno(wide.stat(&newest)), Errno::ENOENT);
    assert_eq!(wide.trips(), before, "the newest are remembered");
    assert_eq!(errno(wide.stat("d0/missing999")), Errno::ENOENT);
    assert_eq!(wide.trips(), before + 1, "the oldest are not");
    wide.fs.drop_caches();
    assert_eq!(wide.fs.stats().negative_entries, 0);
}

#[test]
fn cached_listings_are_bounded_in_bytes() {
    let (directories, files) = (60, 10_000);
    let wide = Wide::new(directories, files, 1 << 20);
    for dir in 0..directories {
        assert_eq!(wide.list(&format!("d{dir}")), files + 2);
    }
    let stats = wide.fs.stats();
    assert!(stats.listing_bytes <= CACHED_BYTES_MAX as u64, "{stats:?}");
    assert!(stats.listing_bytes > CACHED_BYTES_MAX as u64 / 2);
    assert!(stats.listings < directories);
    let before = wide.trips();
    wide.list(&format!("d{}", directories - 1));
    assert_eq!(wide.trips(), before, "the newest is kept");
    wide.list("d0");
    assert!(wide.trips() > before, "the oldest is not");
    wide.fs.drop_caches();
    let stats = wide.fs.stats();
    assert_eq!((stats.listings, stats.listing_bytes), (0, 0));
}

#[test]
fn a_listing_larger_than_all_room_drives_out_no_other() {
    let wide = Wide::new(1000, 600_000, 1 << 20);
    wide.list("");
    assert_eq!(wide.fs.stats().listings, 1);
    assert_eq!(wide.list("d0"), 600_002);
    let before = wide.trips();
    wide.list("");
    assert_eq!(wide.trips(), before);
}

#[test]
fn dentries_inodes_and_unused_ones_are_bounded_by_the_limit() {
    let wide = Wide::new(20, 1000, 100);
    for dir in 0..20 {
        for file in 0..1000 {
            wide.stat(&format!("d{dir}/file{file}")).unwrap();
        }
    }
    let stats = wide.fs.stats();
    assert_eq!(stats.lru_length, 100);
    // Unused leaves, and the directories above them.
    assert!(stats.live_dentries <= 100 + 20 + 1, "{stats:?}");
    assert_eq!(stats.live_inodes, stats.live_dentries);
}

#[test]
fn listings_go_with_their_directories() {
    let wide = Wide::new(50, 10, 5);
    for dir in 0..50 {
        wide.list(&format!("d{dir}"));
    }
    assert!(wide.fs.stats().listings <= 6);
}

#[test]
fn a_large_tree_is_walked_in_little_memory() {
    // The full size is for `cargo xtask bench --memory`.
    let wide = Wide::new(10, 10_000, 1000);
    let used = allocation_counter::measure(|| {
        for dir in 0..10 {
            assert_eq!(wide.list(&format!("d{dir}")), 10_002);
            for file in 0..10_000 {
                wide.stat(&format!("d{dir}/file{file}")).unwrap();
            }
        }
    });
    assert!(used.bytes_max < 8 << 20, "{used:?}");
}

#[test]
fn files_of_this_client_alone_are_bounded() {
    let mut setup = Setup::new(InteropMode::Exclusive);
    setup.config.makes_fifos = false;
    let rig = setup.mount();
    let make = |name: &str| {
        let (fifo, device) = (crate::FileType::Fifo, crate::Device::default());
        rig.fs.mknod(&rig.cx(), rig.at(name), fifo, 0o600, device)
    };
    for n in 0..65536 {
        make(&format!("p{n}")).unwrap();
    }
    assert_eq!(rig.fs.stats().synthetic_files, 65536);
    assert_eq!(errno(make("more")), Errno::ENOSPC);
    rig.unlink("p7").unwrap();
    make("more").unwrap();
}

#[test]
fn watches_are_bounded() {
    let wide = Wide::new(8, 8193, 1000);
    let notifier = wide.fs.notifier().unwrap();
    let creds = Credentials::root();
    let cx = Context::new(&creds);
    let root = wide.fs.root();
    let add = |directory: u64, file: u64| {
        let path = format!("d{directory}/file{file}");
        let at = At::new(&root, path.as_bytes());
        notifier.add(&cx, at, crate::EventMask::OPEN)
    };
    for n in 0..65536 {
        add(n % 8, n / 8).unwrap();
    }
    assert_eq!(wide.fs.stats().watches, 65536);
    assert_eq!(errno(add(0, 8192)), Errno::ENOSPC);
    notifier.remove(1).unwrap();
    add(0, 8192).unwrap();
    drop(notifier);
    assert_eq!(wide.fs.stats().watches, 0);
}

#[test]
fn locks_of_a_file_are_bounded() {
    let rig = Rig::new(InteropMode::Exclusive);
    let file = rig.create("f").unwrap();
    let lock = |kind, start: i64| {
        let lock = crate::RecordLock {
            kind,
            range: crate::LockRange::new(start, 1).unwrap(),
            owner: crate::LockOwner::Process(1),
            pid: 1,
        };
        file.set_lock(&rig.cx(), &lock, false)
    };
    for n in 0..8192 {
        lock(crate::LockKind::Write, 2 * n).unwrap();
    }
    assert_eq!(rig.fs.stats().file_locks, 8192);
    let refused = lock(crate::LockKind::Write, 100_000);
    assert_eq!(errno(refused), Errno::ENOLCK);
    lock(crate::LockKind::Unlock, 4).unwrap();
    lock(crate::LockKind::Write, 100_000).unwrap();
}

#[test]
fn files_that_wait_to_be_told_of_are_bounded() {
    let rig = Rig::new(InteropMode::Exclusive);
    for n in 0..1500 {
        let file = rig.create(&format!("f{n}")).unwrap();
        file.write(&rig.cx(), b"x").unwrap();
        file.close(&rig.cx()).unwrap();
        assert!(rig.fs.stats().times_waiting <= 1024);
    }
    rig.fs.sync(&rig.cx()).unwrap();
    for n in [0, 700, 1499] {
        let name = format!("f{n}");
        assert_eq!(rig.server_attr(&name).mtime, rig.attr(&name).mtime, "{n}");
    }
}

#[test]
fn events_that_nobody_reads_are_bounded() {
    let rig = Rig::new(InteropMode::Exclusive);
    let notifier = rig.fs.notifier().unwrap();
    let watched = crate::EventMask::CREATE | crate::EventMask::DELETE;
    notifier.add(&rig.cx(), rig.at("/"), watched).unwrap();
    assert_eq!(rig.fs.stats().queued_events, 0);
    for n in 0..8192 {
        rig.create(&format!("f{n}")).unwrap();
        rig.unlink(&format!("f{n}")).unwrap();
    }
    assert_eq!(rig.fs.stats().queued_events, 16384);
    for n in 0..10 {
        rig.create(&format!("more{n}")).unwrap();
    }
    // One more tells that some are lost.
    assert_eq!(rig.fs.stats().queued_events, 16385);
    assert_eq!(notifier.try_read(385).len(), 385);
    assert_eq!(rig.fs.stats().queued_events, 16000);
    drop(notifier);
    assert_eq!(rig.fs.stats().queued_events, 0);
}

#[test]
fn handles_for_writing_are_as_many_as_their_users_hold() {
    for (mode, each) in [
        (InteropMode::Exclusive, 1),
        (InteropMode::SharedPerHandle, 3),
    ] {
        let rig = Rig::new(mode);
        let mut open = Vec::new();
        for n in 0..500 {
            let name = format!("f{n}");
            open.push(rig.create(&name).unwrap());
            for _ in 0..2 {
                open.push(rig.open(&name, OpenFlags::RDWR).unwrap());
            }
        }
        assert_eq!(rig.fs.stats().writable_handles, 500 * each, "{mode}");
        drop(open);
        rig.fs.sync(&rig.cx()).unwrap();
        rig.fs.drop_caches();
        assert_eq!(rig.fs.stats().writable_handles, 0, "{mode}");
    }
}

#[test]
fn mounts_are_as_many_as_their_users_made() {
    let outer = Rig::new(InteropMode::Exclusive);
    let mut inner = Vec::new();
    for n in 0..50 {
        let name = format!("d{n}");
        outer.mkdir(&name).unwrap();
        let rig = Rig::new(InteropMode::Exclusive);
        outer
            .fs
            .mount_at(&outer.cx(), outer.at(&name), &rig.fs)
            .unwrap();
        inner.push(rig);
        assert_eq!(outer.fs.stats().mounts, n + 1);
    }
    for n in 0..50 {
        let name = format!("d{n}");
        drop(outer.fs.unmount_at(&outer.cx(), outer.at(&name)).unwrap());
    }
    assert_eq!(outer.fs.stats().mounts, 0);
}

#[test]
fn names_of_watched_directories_are_bounded() {
    const EACH: u64 = 60_000;
    let mut options = MountOptions::new(Trans::Fd { rfd: 0, wfd: 0 });
    options.cache = InteropMode::Shared;
    let remote = Arc::new(WideRemote::new(7, EACH));
    let fs = Filesystem::mount(remote, options, MountFlags::default()).unwrap();
    let creds = Credentials::root();
    let cx = Context::new(&creds);
    let root = fs.root();
    let notifier = fs.notifier().unwrap();
    for directory in 0..7 {
        let path = format!("d{directory}");
        let at = At::new(&root, path.as_bytes());
        notifier.add(&cx, at, crate::EventMask::CREATE).unwrap();
    }
    let fit = KEPT_MAX / EACH * EACH;
    for _ in 0..2 {
        notifier.look(&cx).unwrap();
        assert_eq!(fs.stats().watched_names, fit);
    }
    assert!(notifier.try_read(1).is_empty());
    drop(notifier);
    assert_eq!(fs.stats().watched_names, 0);
}
