//! Creation, links, removal, renames.

use super::*;
use gofer_vfs::{Device, FileType};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

const NOBODY: Owner = Owner {
    uid: Some(65534),
    gid: Some(65533),
};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn files_are_made_with_mode_and_owner_whatever_the_umask() {
    let rig = Rig::new();
    // The umask of the process hides some of these bits, unless it is 0.
    let (found, handle) = rig
        .root
        .create(&CALL, name("f"), 0o666, Owner::default(), WRITE)
        .unwrap();
    assert_eq!((found.attr.mode, mode(&rig.path("f"))), (0o666, 0o666));
    let moved = handle.write_at(&CALL, &[std::io::IoSlice::new(b"x")], 0);
    assert_eq!(moved.n, 1);
    let dir = rig
        .root
        .make(&CALL, name("d"), New::Dir, 0o1777, Owner::default());
    assert_eq!(dir.unwrap().unwrap().attr.mode, 0o1777);
    if !is_root() {
        eprintln!("not run: only user 0 gives files away");
        return;
    }
    let (found, _) = rig
        .root
        .create(&CALL, name("g"), 0o6755, NOBODY, WRITE)
        .unwrap();
    assert_eq!((found.attr.uid, found.attr.gid), (65534, 65533));
    assert_eq!(found.attr.mode, 0o6755, "kept although the owner changed");
    let dir = rig
        .root
        .make(&CALL, name("e"), New::Dir, 0o750, NOBODY)
        .unwrap()
        .unwrap();
    assert_eq!((dir.attr.uid, dir.attr.mode), (65534, 0o750));
    let link = rig
        .root
        .make(&CALL, name("l"), New::Symlink(b"/x/y"), 0o777, NOBODY);
    let link = link.unwrap().unwrap();
    assert_eq!((link.attr.uid, link.attr.gid), (65534, 65533));
    assert_eq!(link.file.read_link(&CALL).unwrap(), b"/x/y");
}

#[test]
fn every_type_is_made_and_none_over_another() {
    let rig = Rig::new();
    let make = |text: &str, new: New<'_>| {
        rig.root
            .make(&CALL, name(text), new, 0o600, Owner::default())
    };
    for (text, new, file_type) in [
        ("dir", New::Dir, FileType::Directory),
        ("regular", New::Regular, FileType::Regular),
        ("link", New::Symlink(b"dir"), FileType::Symlink),
        ("fifo", New::Fifo, FileType::Fifo),
        ("socket", New::Socket, FileType::Socket),
    ] {
        let found = make(text, new).unwrap().unwrap();
        assert_eq!(found.attr.file_type, file_type, "{text}");
        assert_eq!(errno(make(text, New::Dir)), Some(Errno::EEXIST), "{text}");
        let taken = rig
            .root
            .create(&CALL, name(text), 0o600, Owner::default(), WRITE);
        assert_eq!(errno(taken), Some(Errno::EEXIST), "{text}");
    }
    let device = make("null", New::Char(Device { major: 1, minor: 3 }));
    match device {
        Ok(found) => {
            let found = found.unwrap();
            assert_eq!(found.attr.rdev, Device { major: 1, minor: 3 });
            assert_eq!(errno(found.file.open(&CALL, READ)), Some(Errno::EPERM));
        }
        Err(error) => assert_eq!(error.errno, Errno::EPERM),
    }
    assert_eq!(
        errno(rig.walk("socket").unwrap().file.open(&CALL, READ)),
        Some(Errno::ENXIO)
    );
}

#[test]
fn links_removals_and_renames_are_the_hosts() {
    let rig = Rig::new();
    fs::write(rig.path("f"), "x").unwrap();
    fs::create_dir(rig.path("d")).unwrap();
    let file = rig.walk("f").unwrap();
    let dir = rig.walk("d").unwrap().file;
    let link = dir.link(&CALL, name("g"), &*file.file).unwrap().unwrap();
    assert_eq!((link.key, link.attr.nlink), (file.key, 2));
    let to = (&*dir, name("h"));
    let plain = RenameFlags::empty();
    rig.root
        .rename(&CALL, name("f"), Some(&*file.file), to, plain)
        .unwrap();
    assert_eq!(fs::read(rig.path("d/h")).unwrap(), b"x");
    let to = (&*dir, name("g"));
    let taken = dir.rename(&CALL, name("h"), None, to, RenameFlags::NOREPLACE);
    assert_eq!(errno(taken), Some(Errno::EEXIST));
    let to = (&*rig.root, name("d"));
    rig.root
        .make(&CALL, name("e"), New::Dir, 0o700, Owner::default())
        .unwrap();
    rig.root
        .rename(&CALL, name("e"), None, to, RenameFlags::EXCHANGE)
        .unwrap();
    assert!(rig.path("e/h").exists());
    assert_eq!(
        errno(dir.unlink(&CALL, name("h"), true, None)),
        Some(Errno::ENOTDIR)
    );
    dir.unlink(&CALL, name("h"), false, None).unwrap();
    dir.unlink(&CALL, name("g"), false, None).unwrap();
    assert_eq!(
        errno(dir.unlink(&CALL, name("g"), false, None)),
        Some(Errno::ENOENT)
    );
    rig.root.unlink(&CALL, name("e"), true, None).unwrap();
    // Without a name the file is still there for those who hold it.
    assert_eq!(
        file.file
            .attr(&CALL, gofer_vfs::AttrMask::all())
            .unwrap()
            .nlink,
        0
    );
    let handle = file.file.open(&CALL, READ).unwrap();
    let mut byte = [0];
    let into = &mut [std::io::IoSliceMut::new(&mut byte)];
    assert_eq!(handle.read_at(&CALL, into, 0).n, 1);
}

#[test]
fn a_link_itself_can_have_another_name() {
    let rig = Rig::new();
    std::os::unix::fs::symlink("nowhere", rig.path("l")).unwrap();
    let link = rig.walk("l").unwrap();
    let again = rig
        .root
        .link(&CALL, name("m"), &*link.file)
        .unwrap()
        .unwrap();
    assert_eq!(
        (again.key, again.attr.file_type),
        (link.key, FileType::Symlink)
    );
    assert_eq!(fs::symlink_metadata(rig.path("m")).unwrap().nlink(), 2);
}

#[test]
fn in_a_removed_directory_there_is_nothing_and_nothing_is_made() {
    let rig = Rig::new();
    fs::create_dir(rig.path("d")).unwrap();
    let dir = rig.walk("d").unwrap().file;
    fs::remove_dir(rig.path("d")).unwrap();
    assert_eq!(walk(&dir, "x").unwrap().1, WalkEnd::Missing);
    let made = dir.make(&CALL, name("x"), New::Dir, 0o700, Owner::default());
    assert_eq!(errno(made), Some(Errno::ENOENT));
    let made = dir.create(&CALL, name("x"), 0o600, Owner::default(), WRITE);
    assert_eq!(errno(made), Some(Errno::ENOENT));
}
