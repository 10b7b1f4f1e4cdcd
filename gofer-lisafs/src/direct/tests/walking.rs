//! Walking, looking again, and where a tree begins.

use super::*;
use gofer_vfs::FileType;
use std::os::unix::fs::{MetadataExt, symlink};

#[test]
fn several_names_are_found_in_one_call_and_missing_ones_end_it() {
    let rig = Rig::new();
    fs::create_dir_all(rig.path("a/b")).unwrap();
    fs::write(rig.path("a/b/f"), "12345").unwrap();
    let (found, end) = walk(&rig.root, "a/b/f").unwrap();
    assert_eq!((found.len(), end), (3, WalkEnd::Complete));
    let meta = fs::metadata(rig.path("a/b/f")).unwrap();
    assert_eq!(found[2].key.id[0], meta.ino());
    assert_eq!(found[2].attr.size, 5);
    assert_eq!(found[1].attr.file_type, FileType::Directory);
    let (found, end) = walk(&rig.root, "a/x/f").unwrap();
    assert_eq!((found.len(), end), (1, WalkEnd::Missing));
    let (found, end) = walk(&rig.root, "x").unwrap();
    assert_eq!((found.len(), end), (0, WalkEnd::Missing));
    assert_eq!(errno(walk(&rig.root, "a/b/f/g")), Some(Errno::ENOTDIR));
    let long = "n".repeat(256);
    assert_eq!(errno(walk(&rig.root, &long)), Some(Errno::ENAMETOOLONG));
}

#[test]
fn a_link_is_found_and_never_followed() {
    let rig = Rig::new();
    fs::create_dir(rig.path("d")).unwrap();
    fs::write(rig.path("d/f"), "").unwrap();
    symlink("d", rig.path("l")).unwrap();
    let (found, end) = walk(&rig.root, "l").unwrap();
    assert_eq!(end, WalkEnd::Complete);
    assert_eq!(found[0].attr.file_type, FileType::Symlink);
    assert_eq!(found[0].file.read_link(&CALL).unwrap(), b"d");
    let (found, end) = walk(&rig.root, "l/f").unwrap();
    assert_eq!((found.len(), end), (1, WalkEnd::Symlink));
    assert_eq!(errno(walk(&found[0].file, "f")), Some(Errno::ENOTDIR));
    assert_eq!(errno(found[0].file.open(&CALL, READ)), Some(Errno::ELOOP));
    let dir = rig.walk("d").unwrap().file;
    assert_eq!(errno(dir.read_link(&CALL)), Some(Errno::EINVAL));
}

#[test]
fn looking_again_follows_the_names_and_not_the_files() {
    let rig = Rig::new();
    fs::create_dir_all(rig.path("a/b")).unwrap();
    fs::write(rig.path("a/b/f"), "1").unwrap();
    let (found, _) = walk(&rig.root, "a/b/f").unwrap();
    let look = || {
        let known: Vec<_> = ["a", "b", "f"]
            .into_iter()
            .zip(&found)
            .map(|(text, found)| (name(text), &*found.file))
            .collect();
        let mut seen = Vec::new();
        rig.root
            .revalidate(&CALL, &known, &mut |file| seen.push(file))
            .unwrap();
        seen
    };
    fs::write(rig.path("a/b/f"), "12").unwrap();
    let seen = look();
    assert_eq!(seen.len(), 4);
    assert_eq!((seen[3].key, seen[3].attr.size), (found[2].key, 2));
    // Another directory under the name of the first, with another file in it.
    fs::rename(rig.path("a"), rig.path("old")).unwrap();
    fs::create_dir_all(rig.path("a/b")).unwrap();
    fs::write(rig.path("a/b/f"), "123").unwrap();
    let seen = look();
    assert_eq!(seen.len(), 4);
    assert!(
        seen[1..]
            .iter()
            .zip(&found)
            .all(|(now, then)| now.key != then.key)
    );
    assert_eq!(seen[3].attr.size, 3);
    // A file where a directory was ends it, a missing name too.
    fs::remove_dir_all(rig.path("a/b")).unwrap();
    assert_eq!(look().len(), 2);
    fs::write(rig.path("a/b"), "").unwrap();
    assert_eq!(look().len(), 3);
}

#[test]
fn a_tree_begins_at_its_aname_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    symlink("a", dir.path().join("l")).unwrap();
    let told = dir.path().join("a/b");
    let (fs, _peer) = attach(open_dir(dir.path()), "/a/b", &told).unwrap();
    let root = fs.root(&CALL).unwrap();
    assert_eq!(root.key.id[0], told.metadata().unwrap().ino());
    let refuse = |aname: &str| errno(attach(open_dir(dir.path()), aname, &told));
    assert_eq!(refuse("/a"), Some(Errno::EINVAL), "not the server's root");
    assert_eq!(refuse("/l/b"), Some(Errno::ENOTDIR));
    assert_eq!(refuse("/l"), Some(Errno::ELOOP));
    assert_eq!(refuse("/a/x"), Some(Errno::ENOENT));
    assert_eq!(refuse("/a/../a/b"), Some(Errno::EINVAL));
}

#[test]
fn a_single_file_can_be_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f");
    fs::write(&file, "content").unwrap();
    let (fs, _peer) = attach(open_dir(&file), "/", &file).unwrap();
    let root = fs.root(&CALL).unwrap();
    assert_eq!(root.attr.file_type, FileType::Regular);
    // The descriptor was open for reading only; the tree opens the file anew.
    let handle = root.file.open(&CALL, WRITE).unwrap();
    let moved = handle.write_at(&CALL, &[std::io::IoSlice::new(b"C")], 0);
    assert_eq!((moved.n, moved.error), (1, None));
    assert_eq!(fs::read(&file).unwrap(), b"Content");
    assert_eq!(errno(walk(&root.file, "x")), Some(Errno::ENOTDIR));
}

#[test]
fn files_of_another_tree_are_not_taken() {
    let (one, other) = (Rig::new(), Rig::new());
    fs::write(one.path("f"), "").unwrap();
    let file = one.walk("f").unwrap().file;
    let linked = other.root.link(&CALL, name("g"), &*file);
    assert_eq!(errno(linked), Some(Errno::EXDEV));
    let to = (&*one.root, name("g"));
    let moved = other
        .root
        .rename(&CALL, name("f"), None, to, RenameFlags::empty());
    assert_eq!(errno(moved), Some(Errno::EXDEV));
    let handle = file.open(&CALL, READ).unwrap();
    let mut results = Vec::new();
    other.fs.sync_all(&CALL, &[handle], &mut |_, result| {
        results.push(errno(result))
    });
    assert_eq!(results, [Some(Errno::EXDEV)]);
}

#[test]
fn calls_are_given_up_before_they_start_and_end_with_the_connection() {
    let rig = Rig::new();
    let cancel = Cancel::new().unwrap();
    cancel.set();
    let cancelled = Call {
        cancel: Some(&cancel),
        ..CALL
    };
    let late = Call {
        deadline: Some(std::time::Instant::now()),
        ..CALL
    };
    let ask = |call: &Call<'_>| errno(rig.root.attr(call, gofer_vfs::AttrMask::all()));
    assert_eq!(ask(&cancelled), Some(Errno::EINTR));
    assert_eq!(ask(&late), Some(Errno::ETIMEDOUT));
    assert_eq!(ask(&CALL), None);
    assert_eq!(rig.fs.traffic().round_trips, 2, "the root, and one attr");
    rig.peer.shutdown(std::net::Shutdown::Both).unwrap();
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while ask(&CALL).is_none() {
        assert!(std::time::Instant::now() < patience, "nobody noticed");
        std::thread::yield_now();
    }
    assert_eq!(ask(&CALL), Some(Errno::EIO));
}

#[test]
fn a_shut_down_tree_answers_at_once_and_a_dropped_one_hangs_up() {
    use std::io::Read;
    let mut rig = Rig::new();
    rig.fs.shutdown();
    rig.fs.shutdown();
    assert_eq!(errno(walk(&rig.root, "x")), Some(Errno::EIO));
    assert_eq!(rig.peer.read(&mut [0]).unwrap(), 0);
    let Rig {
        fs, root, mut peer, ..
    } = Rig::new();
    drop((fs, root));
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

#[test]
fn nothing_keeps_a_descriptor_that_nobody_holds() {
    let rig = Rig::new();
    fs::create_dir_all(rig.path("a/b/c")).unwrap();
    let before = descriptors_below(rig.dir.path());
    let (found, _) = walk(&rig.root, "a/b/c").unwrap();
    assert_eq!(descriptors_below(rig.dir.path()), before + 3);
    drop(found);
    let _ = walk(&rig.root, "a/b/x/y");
    let _ = rig
        .root
        .create(&CALL, name("a"), 0o600, Owner::default(), WRITE);
    let _ = rig
        .root
        .make(&CALL, name("a"), New::Dir, 0o700, Owner::default());
    let nobody = Owner {
        uid: Some(u32::MAX),
        gid: None,
    };
    let made = rig.root.create(&CALL, name("n"), 0o600, nobody, WRITE);
    assert_eq!(errno(made), Some(Errno::EINVAL));
    assert_eq!(descriptors_below(rig.dir.path()), before);
    assert!(!rig.path("n").exists(), "a failed creation leaves nothing");
}

/// In a process of its own, since the limit is that of the process: this test starts itself.
#[test]
fn without_descriptors_calls_fail_and_nothing_is_lost() {
    const CHILD: &str = "DIRECTFS_WITHOUT_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args([
            "without_descriptors_calls_fail_and_nothing_is_lost",
            "--nocapture",
        ]);
        let output = child.env(CHILD, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        return;
    }
    let rig = Rig::new();
    fs::create_dir_all(rig.path("a/b/c/d/e/f/g/h")).unwrap();
    fs::write(rig.path("f"), "x").unwrap();
    let file = rig.walk("f").unwrap().file;
    let before = descriptors_below(rig.dir.path());
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let enough = limit.current;
    // Descriptors have the lowest free numbers: there is room for a few more.
    let next = std::os::fd::AsRawFd::as_raw_fd(&open_dir(rig.dir.path()));
    limit.current = Some(next as u64 + 3);
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let names: Vec<Name<'_>> = "a/b/c/d/e/f/g/h".split('/').map(name).collect();
    let mut found = Vec::new();
    let end = rig.root.walk(&CALL, &names, &mut |file| found.push(file));
    assert_eq!(errno(end), Some(Errno::EMFILE));
    let count = found.len();
    assert!(
        0 < count && count < 8,
        "{count}: what was found is the caller's"
    );
    assert_eq!(errno(file.open(&CALL, READ)), Some(Errno::EMFILE));
    let made = rig
        .root
        .create(&CALL, name("n"), 0o600, Owner::default(), WRITE);
    assert_eq!(errno(made), Some(Errno::EMFILE));
    // Room for one: the file is made, but cannot be held as a place as well.
    found.pop();
    let made = rig
        .root
        .create(&CALL, name("n"), 0o600, Owner::default(), WRITE);
    assert_eq!(errno(made), Some(Errno::EMFILE));
    file.attr(&CALL, gofer_vfs::AttrMask::all()).unwrap();
    limit.current = enough;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    assert!(!rig.path("n").exists(), "a failed creation leaves nothing");
    drop(found);
    assert_eq!(descriptors_below(rig.dir.path()), before);
}

#[test]
fn what_is_no_directory_and_no_file_of_the_server_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    assert_eq!(errno(attach(pipe, "/", dir.path())), Some(Errno::EINVAL));
    let other = tempfile::tempdir().unwrap();
    let refused = attach(open_dir(other.path()), "/", dir.path());
    assert_eq!(errno(refused), Some(Errno::EINVAL));
}
