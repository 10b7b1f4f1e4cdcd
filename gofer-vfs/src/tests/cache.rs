//! What the dentry cache keeps and lets go.

use super::*;
use crate::clock::Clock;
use crate::testing::mem_remote::Fault;

#[test]
fn the_limit_bounds_unused_leaves() {
    for limit in [0, 1, 3] {
        let rig = Setup::new(InteropMode::Exclusive).limit(limit).mount();
        for name in ["a", "b", "c", "d", "e"] {
            rig.outside.write(name.as_bytes(), b"x").unwrap();
            rig.stat(name).unwrap();
        }
        let stats = rig.fs.stats();
        assert_eq!(stats.lru_length, limit);
        assert_eq!(stats.live_dentries, limit + 1);
        assert_eq!(stats.live_inodes, limit + 1);
        assert_eq!(rig.remote.live_files(), limit + 1);
    }
}

/// Looks `names` up, and which of `asked` are cached after that: seen without using them.
fn outliving<'n>(rig: &Rig, names: &[&str], asked: &[&'n str]) -> Vec<&'n str> {
    for name in names {
        rig.stat(name).unwrap();
    }
    let cached = rig.fs.root_ref().sb().cache.all();
    let cached: Vec<Box<[u8]>> = cached.iter().map(|dentry| dentry.above().1).collect();
    let is_cached = |name: &&&str| cached.iter().any(|cached| **cached == *name.as_bytes());
    asked.iter().filter(is_cached).copied().collect()
}

#[test]
fn what_is_used_again_outlives_what_is_not() {
    for mode in InteropMode::ALL {
        let rig = Setup::new(mode).limit(4).mount();
        let names: Vec<String> = (0..12).map(|n| format!("f{n}")).collect();
        for name in &names {
            rig.outside.write(name.as_bytes(), b"x").unwrap();
        }
        // Once each, then two of them again, however often: the others go first.
        let first = ["f0", "f1", "f2", "f3"];
        assert_eq!(outliving(&rig, &first, &first), first, "{mode}");
        let again = ["f0", "f2", "f0", "f0", "f0", "f2"];
        assert_eq!(outliving(&rig, &again, &first), first, "{mode}");
        let used = ["f0", "f2"];
        assert_eq!(outliving(&rig, &["f4", "f5"], &first), used, "{mode}");
        // One that is used all the time stays, whatever else comes and goes.
        for name in &names[6..] {
            assert_eq!(outliving(&rig, &["f0", name], &["f0"]), ["f0"], "{mode}");
        }
        assert_eq!(rig.fs.stats().lru_length, 4, "{mode}");
        // If all of them were used, the first to come is the first to go.
        let rig = Setup::new(mode).limit(4).mount();
        for name in &names {
            rig.outside.write(name.as_bytes(), b"x").unwrap();
        }
        outliving(&rig, &first, &[]);
        outliving(&rig, &["f3", "f2", "f1", "f0"], &[]);
        assert_eq!(outliving(&rig, &["f4"], &first), ["f1", "f2", "f3"]);
        assert_eq!(rig.remote.misuses(), 0);
    }
}

#[test]
fn eviction_leaves_no_absent_name_behind() {
    let rig = Setup::new(InteropMode::Exclusive).limit(0).mount();
    rig.outside.write(b"f", b"x").unwrap();
    rig.stat("f").unwrap();
    assert_eq!(rig.fs.stats().negative_entries, 0);
    rig.stat("f").unwrap();
}

#[test]
fn an_idle_chain_unwinds_upward() {
    let rig = Setup::new(InteropMode::Exclusive).limit(0).mount();
    for path in ["a", "a/b", "a/b/c", "a/b/c/d"] {
        rig.outside.mkdir(path.as_bytes()).unwrap();
    }
    let node = rig
        .fs
        .resolve(&rig.cx(), rig.at("a/b/c/d"), Follow::No)
        .unwrap();
    assert_eq!(node.path(), b"/a/b/c/d");
    assert_eq!(rig.fs.stats().live_dentries, 5);
    drop(node);
    assert_eq!(rig.fs.stats().live_dentries, 1);
    assert_eq!(rig.remote.live_files(), 1);
}

#[test]
fn open_files_are_never_evicted() {
    let rig = Setup::new(InteropMode::Exclusive).limit(1).mount();
    rig.outside.write(b"kept", b"content").unwrap();
    let file = rig.open("kept", OpenFlags::RDONLY).unwrap();
    for name in ["a", "b", "c", "d"] {
        rig.outside.write(name.as_bytes(), b"x").unwrap();
        rig.stat(name).unwrap();
    }
    let mut buffer = [0; 16];
    assert_eq!(file.read(&rig.cx(), &mut buffer).unwrap(), 7);
    assert_eq!(rig.remote.misuses(), 0);
}

#[test]
fn absent_names_are_bounded_oldest_out() {
    let rig = Rig::new(InteropMode::Exclusive);
    for n in 0..1500 {
        assert_eq!(errno(rig.stat(&format!("missing{n}"))), Errno::ENOENT);
    }
    assert_eq!(rig.fs.stats().negative_entries, 1000);
    assert_eq!(rig.fs.root_ref().absent_names(), 1000);
    rig.calls();
    assert_eq!(errno(rig.stat("missing1499")), Errno::ENOENT);
    assert_eq!(rig.calls(), []);
    assert_eq!(errno(rig.stat("missing0")), Errno::ENOENT);
    assert_eq!(rig.calls(), [Op::Walk]);
}

#[test]
fn everything_goes_with_the_filesystem() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        rig.mkdir("d").unwrap();
        drop(rig.create("d/f").unwrap());
        let open = rig.create("d/g").unwrap();
        let Rig { fs, remote, .. } = rig;
        drop(fs);
        // What is open stays usable; the rest is gone.
        assert_eq!(remote.live_handles(), 1);
        drop(open);
        assert_eq!(remote.live_handles(), 0, "{mode}");
        assert_eq!(remote.live_files(), 0, "{mode}");
        assert_eq!(remote.misuses(), 0);
    }
}

#[test]
fn dropped_caches_are_read_again() {
    let rig = Rig::new(InteropMode::Exclusive);
    rig.outside.write(b"f", b"old").unwrap();
    assert_eq!(rig.read_all("f").unwrap(), b"old");
    assert_eq!(errno(rig.stat("later")), Errno::ENOENT);
    rig.outside.write(b"f", b"newer").unwrap();
    rig.outside.write(b"later", b"").unwrap();
    rig.fs.drop_caches();
    assert_eq!(rig.fs.stats().live_dentries, 1);
    assert_eq!(rig.read_all("f").unwrap(), b"newer");
    rig.stat("later").unwrap();
}

#[test]
fn inode_numbers_survive_eviction() {
    let rig = Setup::new(InteropMode::Exclusive).limit(0).mount();
    rig.outside.write(b"f", b"").unwrap();
    let before = rig.stat("f").unwrap().ino;
    assert_eq!(rig.stat("f").unwrap().ino, before);
    let dir = rig.open("", OpenFlags::DIRECTORY).unwrap();
    let mut listed = None;
    dir.read_dir(&rig.cx(), &mut |entry| {
        if entry.name == b"f" {
            listed = Some(entry.ino);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(listed, Some(before));
}

#[test]
fn a_file_changed_and_evicted_while_it_is_looked_up_is_asked_for_again() {
    // The reply that is under way shows the file empty; by the time it arrives, another thread
    // has looked the file up, written to it, and the dentry was evicted.
    let rig = Arc::new(Setup::new(InteropMode::Exclusive).limit(0).mount());
    rig.outside.write(b"f", b"").unwrap();
    rig.outside.link(b"f", b"g").unwrap();
    let other = rig.clone();
    rig.remote.before(Op::Walk, move || {
        // Another name of the same file: the lookup of `f` holds nobody up.
        let write = move || {
            let file = other.open("g", OpenFlags::WRONLY).unwrap();
            file.write(&other.cx(), b"content").unwrap();
        };
        std::thread::spawn(write).join().unwrap();
    });
    assert_eq!(rig.stat("f").unwrap().attr.size, 7);
    assert_eq!(rig.read_all("f").unwrap(), b"content");
}

#[test]
fn modification_times_do_not_jump_at_eviction() {
    let rig = Rig::new(InteropMode::Exclusive);
    let file = rig.create("f").unwrap();
    file.write(&rig.cx(), b"x").unwrap();
    drop(file);
    let seen = rig.attr("f").mtime;
    assert_eq!(seen.sec, 2_000_000_000);
    rig.fs.drop_caches();
    assert_eq!(rig.fs.stats().live_dentries, 1);
    assert_eq!(rig.attr("f").mtime, seen);
    assert_eq!(rig.fs.stats().times_sent, 1);
    assert_eq!(rig.server_attr("f").mtime, seen);
}

#[test]
fn modification_times_of_directories_do_not_jump_either() {
    for mode in EW {
        let server = MemServer::new();
        let rig = Setup::new(mode).mount_on(server.clone());
        rig.mkdir("d").unwrap();
        drop(rig.create("d/f").unwrap());
        let seen = rig.attr("d").mtime;
        assert_eq!(seen, rig.clock.now());
        rig.fs.drop_caches();
        assert_eq!(rig.fs.stats().live_dentries, 1);
        assert_eq!(rig.attr("d").mtime, seen, "{mode}");
        assert_eq!(rig.server_attr("d").mtime, seen);
        // What was not changed since costs nothing.
        rig.calls();
        rig.fs.drop_caches();
        assert_eq!(rig.calls(), []);
        // Nor those of the root, with the mount.
        let seen = rig.attr("").mtime;
        rig.fs.unmount(&rig.cx()).unwrap();
        let again = Setup::new(mode).mount_on(server);
        assert_eq!(again.attr("").mtime, seen, "{mode}");
    }
}

#[test]
fn times_are_sent_before_an_eviction_while_nobody_waits() {
    let rig = Setup::new(InteropMode::Exclusive).limit(1).mount();
    rig.outside.write(b"other", b"").unwrap();
    rig.outside.write(b"cut", b"content").unwrap();
    rig.mkdir("d").unwrap();
    drop(rig.create("d/f").unwrap());
    // Not open for writing, and changed all the same.
    drop(rig.open("cut", OpenFlags::TRUNC).unwrap());
    rig.unlink("d/f").unwrap();
    let (directory, cut) = (rig.attr("d").mtime, rig.attr("cut").mtime);
    rig.calls();
    for _ in 0..3 {
        rig.stat("other").unwrap();
    }
    assert!(!rig.calls().contains(&Op::SetAttr), "somebody waited");
    while !rig.fs.sb().times.is_idle() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(rig.server_attr("d").mtime, directory);
    assert_eq!(rig.server_attr("cut").mtime, cut);
    assert!(rig.fs.stats().lru_length <= 1);
}

#[test]
fn a_time_the_server_does_not_take_keeps_nothing_from_being_evicted() {
    for fault in [Fault::Refuse(Errno::EPERM), Fault::Refuse(Errno::EIO)] {
        let rig = Rig::new(InteropMode::Exclusive);
        rig.mkdir("d").unwrap();
        drop(rig.create("d/f").unwrap());
        rig.remote.inject(Op::SetAttr, 0, fault);
        rig.fs.drop_caches();
        assert_eq!(rig.fs.stats().live_dentries, 1);
        let server = rig.server_attr("d").mtime;
        assert_eq!(rig.attr("d").mtime, server, "it shows its own");
    }
}

/// As on a host, and without a word to the server.
#[test]
fn the_owner_a_file_has_is_a_change_of_attributes() {
    for mode in EW {
        let rig = Rig::new(mode);
        drop(rig.create("f").unwrap());
        let mtime = rig.attr("f").mtime;
        rig.clock.advance(1);
        rig.calls();
        let owner = SetAttr {
            uid: Some(0),
            ..SetAttr::default()
        };
        rig.set_attr("f", owner).unwrap();
        let attr = rig.attr("f");
        assert_eq!((attr.ctime, attr.mtime), (rig.clock.now(), mtime));
        rig.clock.advance(1);
        rig.set_attr("f", SetAttr::default()).unwrap();
        assert_eq!(rig.attr("f").ctime, attr.ctime, "nothing is no change");
        assert_eq!(rig.calls(), []);
    }
}

#[test]
fn removed_files_send_no_times() {
    let rig = Rig::new(InteropMode::Exclusive);
    let file = rig.create("f").unwrap();
    file.write(&rig.cx(), b"x").unwrap();
    drop(file);
    rig.unlink("f").unwrap();
    rig.fs.drop_caches();
    assert_eq!(rig.fs.stats().times_sent, 0);
    assert_eq!(rig.remote.live_files(), 1);
}

#[test]
fn modification_times_are_sent_while_nobody_waits() {
    let rig = Rig::new(InteropMode::Exclusive);
    let file = rig.create("f").unwrap();
    file.write(&rig.cx(), b"x").unwrap();
    let (sender, sent) = std::sync::mpsc::channel();
    rig.remote.before(Op::SetAttr, move || {
        sender.send(std::thread::current().id()).unwrap();
    });
    file.close(&rig.cx()).unwrap();
    let thread = sent
        .recv_timeout(std::time::Duration::from_secs(30))
        .unwrap();
    assert_ne!(thread, std::thread::current().id());
}

#[test]
fn explicit_times_are_not_sent_twice() {
    let rig = Rig::new(InteropMode::Exclusive);
    let file = rig.create("f").unwrap();
    file.write(&rig.cx(), b"x").unwrap();
    let then = crate::Timestamp { sec: 7, nsec: 9 };
    let set = SetAttr {
        mtime: Some(crate::SetTime::At(then)),
        ..SetAttr::default()
    };
    file.set_attr(&rig.cx(), &set).unwrap();
    file.close(&rig.cx()).unwrap();
    rig.fs.drop_caches();
    assert_eq!(rig.fs.stats().times_sent, 0);
    assert_eq!(rig.attr("f").mtime, then);
}

#[test]
fn removals_that_were_not_seen_are_counted_at_the_other_names() {
    let rig = Rig::new(InteropMode::Exclusive);
    rig.outside.write(b"a", b"").unwrap();
    rig.outside.link(b"a", b"b").unwrap();
    assert_eq!(rig.attr("a").nlink, 2);
    // `b` was never looked up, so nothing here knows that it is a name of the same file.
    rig.unlink("b").unwrap();
    assert_eq!(rig.attr("a").nlink, 1);
}

#[test]
fn reading_a_link_is_an_access_where_this_client_keeps_the_times() {
    for mode in EW {
        let rig = Rig::new(mode);
        drop(rig.create("f").unwrap());
        rig.symlink("f", "l").unwrap();
        let read = |rig: &Rig| rig.fs.read_link(&rig.cx(), rig.at("l")).unwrap();
        rig.clock.advance(1);
        read(&rig);
        assert_eq!(rig.attr("l").atime, rig.clock.now(), "{mode}");
        rig.clock.advance(1);
        rig.stat("l").unwrap();
        assert_eq!(rig.attr("l").atime, rig.clock.now(), "following it");
        let mut setup = Setup::new(mode);
        setup.flags.noatime = true;
        let rig = setup.mount_on(rig.server.clone());
        let before = rig.attr("l").atime;
        read(&rig);
        assert_eq!(rig.attr("l").atime, before);
    }
    for mode in S {
        let rig = Rig::new(mode);
        rig.outside.symlink(b"f", b"l").unwrap();
        rig.fs.read_link(&rig.cx(), rig.at("l")).unwrap();
        assert_eq!(rig.attr("l").atime, rig.server_attr("l").atime, "{mode}");
    }
}

#[test]
fn a_name_more_or_less_changes_the_file() {
    for mode in EW {
        let rig = Rig::new(mode);
        let file = rig.create("f").unwrap();
        let made = rig.attr("f").mtime;
        rig.clock.advance(1);
        rig.link("f", "g").unwrap();
        let attr = rig.attr("f");
        assert_eq!((attr.nlink, attr.ctime), (2, rig.clock.now()), "{mode}");
        rig.clock.advance(1);
        rig.unlink("f").unwrap();
        let attr = rig.attr("g");
        assert_eq!((attr.nlink, attr.ctime), (1, rig.clock.now()), "{mode}");
        assert_eq!(attr.mtime, made);
        rig.unlink("g").unwrap();
        // Without a name it gets none any more.
        let name = crate::Name::new(b"h").unwrap();
        rig.calls();
        let again = rig
            .fs
            .link_in(&rig.cx(), file.node(), rig.fs.root_ref(), name);
        assert_eq!(errno(again), Errno::ENOENT, "{mode}");
        assert!(!rig.calls().contains(&Op::Link));
    }
}

#[test]
fn cutting_a_file_by_opening_it_leaves_nothing_of_it() {
    for mode in EW {
        let rig = Rig::new(mode);
        rig.outside.write(b"f", b"content").unwrap();
        let file = rig.open("f", OpenFlags::RDWR).unwrap();
        let mut into = [0; 9];
        assert_eq!(file.read_at(&rig.cx(), &mut into, 0).unwrap(), 7);
        file.write_at(&rig.cx(), b"C", 0).unwrap();
        rig.clock.advance(1);
        drop(rig.open("f", OpenFlags::TRUNC).unwrap());
        let (attr, now) = (rig.attr("f"), rig.clock.now());
        assert_eq!((attr.size, attr.mtime, attr.ctime), (0, now, now), "{mode}");
        assert_eq!(file.read_at(&rig.cx(), &mut into, 0).unwrap(), 0);
        let longer = SetAttr {
            size: Some(7),
            ..SetAttr::default()
        };
        rig.set_attr("f", longer).unwrap();
        assert_eq!(file.read_at(&rig.cx(), &mut into, 0).unwrap(), 7);
        assert_eq!(into[..7], [0; 7], "{mode}");
        file.sync(&rig.cx(), false).unwrap();
        assert_eq!(rig.outside.read(b"f").unwrap(), [0; 7]);
        // Of an empty one the time changes as well.
        rig.outside.write(b"empty", b"").unwrap();
        rig.attr("empty");
        rig.clock.advance(1);
        drop(rig.open("empty", OpenFlags::TRUNC).unwrap());
        assert_eq!(rig.attr("empty").mtime, rig.clock.now());
    }
    for mode in S {
        let rig = Rig::new(mode);
        rig.outside.write(b"f", b"content").unwrap();
        drop(rig.open("f", OpenFlags::TRUNC).unwrap());
        assert_eq!(rig.attr("f").mtime, rig.server_attr("f").mtime, "{mode}");
    }
}

#[test]
fn times_that_are_set_come_after_what_was_written() {
    let rig = Rig::new(InteropMode::Exclusive);
    rig.outside.write(b"f", b"content").unwrap();
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    file.read_at(&rig.cx(), &mut [0; 9], 0).unwrap();
    rig.calls();
    file.write_at(&rig.cx(), b"C", 0).unwrap();
    assert_eq!(rig.calls(), [], "it waits here");
    let then = crate::Timestamp { sec: 7, nsec: 9 };
    let set = SetAttr {
        mtime: Some(crate::SetTime::At(then)),
        ..SetAttr::default()
    };
    rig.set_attr("f", set).unwrap();
    assert_eq!(rig.calls(), [Op::Write, Op::SetAttr]);
    file.sync(&rig.cx(), false).unwrap();
    drop(file);
    rig.fs.drop_caches();
    assert_eq!(rig.server_attr("f").mtime, then);
    assert_eq!(rig.fs.stats().times_sent, 0);
}

#[test]
fn a_read_that_a_truncation_overtakes_brings_nothing_back() {
    for mode in EW {
        let rig = Rig::new(mode);
        rig.outside.write(b"f", b"content").unwrap();
        let file = rig.open("f", OpenFlags::RDWR).unwrap();
        let (fs, creds) = (rig.fs.clone(), rig.creds.clone());
        let sized = |size| SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        // The truncation comes between the server's reply and its arrival.
        rig.remote.after(Op::Read, move || {
            let (cx, root) = (Context::new(&creds), fs.root());
            fs.set_attr(&cx, At::new(&root, b"f"), Follow::Yes, &sized(2))
                .unwrap();
        });
        file.read_at(&rig.cx(), &mut [0; 7], 0).unwrap();
        rig.set_attr("f", sized(7)).unwrap();
        let mut into = [1; 9];
        assert_eq!(file.read_at(&rig.cx(), &mut into, 0).unwrap(), 7);
        assert_eq!(&into[..7], b"co\0\0\0\0\0", "{mode}");
    }
}

#[test]
fn extended_attributes_change_the_file_and_are_the_owners_in_sticky_directories() {
    for mode in EW {
        let rig = Rig::new(mode);
        rig.mkdir("d").unwrap();
        let (name, flags) = (&b"user.a"[..], crate::XattrFlags::empty());
        let set = |cx: &Context<'_>| {
            let at = rig.at("d");
            rig.fs.set_xattr(cx, at, Follow::Yes, name, b"x", flags)
        };
        let mtime = rig.attr("d").mtime;
        rig.clock.advance(1);
        set(&rig.cx()).unwrap();
        assert_eq!(rig.attr("d").ctime, rig.clock.now(), "{mode}");
        rig.clock.advance(1);
        let removed = rig
            .fs
            .remove_xattr(&rig.cx(), rig.at("d"), Follow::Yes, name);
        removed.unwrap();
        let attr = rig.attr("d");
        assert_eq!((attr.ctime, attr.mtime), (rig.clock.now(), mtime));
        let other = Credentials::user(7, 7, Vec::new());
        rig.chmod("d", 0o1777).unwrap();
        assert_eq!(errno(set(&Context::new(&other))), Errno::EPERM, "{mode}");
        set(&rig.cx()).unwrap();
        rig.chmod("d", 0o777).unwrap();
        set(&Context::new(&other)).unwrap();
    }
}
