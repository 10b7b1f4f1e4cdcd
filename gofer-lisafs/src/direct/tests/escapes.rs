//! Nothing leads out of the tree.

use super::*;
use gofer_vfs::{FileType, SetAttr};
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a race is tried.
const RACE: Duration = Duration::from_millis(500);

#[test]
fn names_that_lead_elsewhere_are_no_names() {
    for text in ["..", ".", "", "/", "../x", "/etc/passwd", "a\0b"] {
        assert_eq!(Name::new(text.as_bytes()), Err(Errno::EINVAL), "{text:?}");
    }
}

#[test]
fn links_out_of_the_tree_are_only_read() {
    let rig = Rig::new();
    symlink("/etc/passwd", rig.path("absolute")).unwrap();
    symlink("../../../../etc/passwd", rig.path("relative")).unwrap();
    symlink("/proc/self/root", rig.path("magic")).unwrap();
    for text in ["absolute", "relative", "magic"] {
        let link = rig.walk(text).unwrap();
        assert_eq!(link.attr.file_type, FileType::Symlink);
        assert_eq!(errno(link.file.open(&CALL, READ)), Some(Errno::ELOOP));
        assert_eq!(errno(walk(&link.file, "etc")), Some(Errno::ENOTDIR));
        let (found, end) = walk(&rig.root, &format!("{text}/etc")).unwrap();
        assert_eq!((found.len(), end), (1, WalkEnd::Symlink));
        let size = SetAttr {
            size: Some(0),
            ..SetAttr::default()
        };
        let report = link.file.set_attr(&CALL, &size, None).unwrap();
        assert_eq!(report.errno, Some(Errno::EINVAL));
        let taken = rig
            .root
            .create(&CALL, name(text), 0o600, Owner::default(), WRITE);
        assert_eq!(errno(taken), Some(Errno::EEXIST));
    }
}

#[test]
fn magic_links_of_proc_are_not_followed() {
    let proc = Path::new("/proc/self");
    let Ok((fs, _peer)) = attach(open_dir(proc), "/", proc) else {
        panic!("/proc/self is a directory");
    };
    let root = fs.root(&CALL).unwrap().file;
    for path in ["root/etc", "cwd/x", "fd/0/x"] {
        let (found, end) = walk(&root, path).unwrap();
        assert_eq!(end, WalkEnd::Symlink, "{path}");
        let last = found.last().unwrap();
        assert_eq!(last.attr.file_type, FileType::Symlink);
        assert_eq!(errno(last.file.open(&CALL, READ)), Some(Errno::ELOOP));
    }
}

/// Walks, opens and makes files below `root/swap` while `exchange` swaps it with something that
/// leads to a directory outside, and sees to it that nothing outside is ever reached.
fn race(rig: &Rig, outside: &Path, exchange: impl Fn() + Sync) {
    let secret = fs::metadata(outside.join("secret")).unwrap().ino();
    let stop = AtomicBool::new(false);
    let inside = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                exchange();
            }
        });
        let until = Instant::now() + RACE;
        let mut inside = 0;
        while Instant::now() < until {
            let mut found = Vec::new();
            let names = [name("swap"), name("secret")];
            let _ = rig.root.walk(&CALL, &names, &mut |file| found.push(file));
            for file in &found {
                assert_ne!(file.key.id[0], secret, "walked out");
            }
            if let [dir, file] = found.as_slice() {
                inside += 1;
                if let Ok(handle) = file.file.open(&CALL, READ) {
                    let attr = handle.attr(&CALL, gofer_vfs::AttrMask::all()).unwrap();
                    assert_eq!(attr.size, 6, "opened what is outside");
                }
                let _ = dir
                    .file
                    .make(&CALL, name("made"), New::Dir, 0o700, Owner::default());
                let known = [(names[0], &*dir.file), (names[1], &*file.file)];
                let _ = rig.root.revalidate(&CALL, &known, &mut |seen| {
                    assert_ne!(seen.key.id[0], secret, "looked outside");
                });
            }
        }
        stop.store(true, Ordering::Relaxed);
        inside
    });
    assert!(inside > 0, "the race never ran");
    let names: Vec<_> = fs::read_dir(outside).unwrap().collect();
    assert_eq!(names.len(), 1, "something was made outside");
}

fn swap(one: &Path, other: &Path) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

#[test]
fn directories_that_become_links_lead_nowhere() {
    let rig = Rig::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "outside!").unwrap();
    fs::create_dir(rig.path("swap")).unwrap();
    fs::write(rig.path("swap/secret"), "inside").unwrap();
    symlink(outside.path(), rig.path("other")).unwrap();
    race(&rig, outside.path(), || {
        swap(&rig.path("swap"), &rig.path("other"))
    });
}

#[test]
fn files_that_become_links_are_not_opened() {
    let rig = Rig::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "outside!").unwrap();
    fs::create_dir(rig.path("swap")).unwrap();
    fs::write(rig.path("swap/secret"), "inside").unwrap();
    symlink(outside.path().join("secret"), rig.path("swap/other")).unwrap();
    race(&rig, outside.path(), || {
        swap(&rig.path("swap/secret"), &rig.path("swap/other"));
    });
}

#[test]
fn a_directory_that_is_moved_out_takes_nobody_up_with_it() {
    let base = tempfile::tempdir().unwrap();
    let (top, out) = (base.path().join("top"), base.path().join("out"));
    fs::create_dir_all(top.join("d/e")).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(out.join("secret"), "").unwrap();
    let (fs, _peer) = attach(open_dir(&top), "/", &top).unwrap();
    let root = fs.root(&CALL).unwrap().file;
    let (found, _) = walk(&root, "d/e").unwrap();
    fs::rename(top.join("d"), out.join("d")).unwrap();
    // What was held stays held, and below it there is still only what is below it.
    assert_eq!(walk(&found[0].file, "e").unwrap().0[0].key, found[1].key);
    assert_eq!(walk(&found[0].file, "secret").unwrap().1, WalkEnd::Missing);
    assert_eq!(walk(&root, "d").unwrap().1, WalkEnd::Missing);
}
