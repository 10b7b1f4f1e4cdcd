//! The tree against the host, without a protocol.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::*;

const WRITABLE: Policy = Policy {
    readonly: false,
    sockets: Sockets::All,
    fifos: Fifos::Open,
    all_types: false,
    donate: true,
    users: Users::Server,
};

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn export(path: &Path) -> Arc<Export> {
    Export::open(path, WRITABLE).unwrap()
}

fn walk(from: &Arc<Node>, path: &str) -> Arc<Node> {
    path.split('/')
        .fold(from.clone(), |at, part| at.walk(name(part)).unwrap().node)
}

#[test]
fn only_names_of_one_entry_are_names() {
    for bad in [&b""[..], b".", b"..", b"/", b"a/b", b"a\0"] {
        assert_eq!(Name::new(bad), Err(Errno::INVAL));
    }
    for good in [&b"..."[..], b"\xff", b" ", b"a..b"] {
        assert_eq!(Name::new(good).unwrap().as_bytes(), good);
    }
}

#[test]
fn one_place_has_one_node_while_somebody_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    let export = export(dir.path());
    let one = walk(export.root(), "a");
    assert!(Arc::ptr_eq(&one, &walk(export.root(), "a")));
    assert_eq!(one.path(), b"/a");
    assert!(Arc::ptr_eq(&one.parent(), export.root()));
    assert!(Arc::ptr_eq(&export.root().parent(), export.root()));
}

#[test]
fn a_file_replaced_from_outside_gets_a_new_node_and_the_old_one_stays_usable() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "old").unwrap();
    let export = export(dir.path());
    let old = walk(export.root(), "a");
    fs::remove_file(dir.path().join("a")).unwrap();
    fs::write(dir.path().join("a"), "new").unwrap();
    let new = walk(export.root(), "a");
    assert!(!Arc::ptr_eq(&old, &new));
    assert!(!old.is_deleted(), "what others remove is not noticed");
    let mut buffer = [0; 8];
    let count = old
        .open(OFlags::RDONLY)
        .unwrap()
        .read_at(&mut buffer, 0)
        .unwrap();
    assert_eq!(&buffer[..count], b"old");
    // By its own handle the old file cannot be removed or moved: another has its name.
    assert_eq!(old.remove(), Err(Errno::NOENT));
    assert_eq!(old.move_to(export.root(), name("b")), Err(Errno::NOENT));
    export.root().unlink(name("a"), 0).unwrap();
    assert_eq!((old.is_deleted(), new.is_deleted()), (false, true));
}

#[test]
fn a_handle_can_be_moved_and_removed_from_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/b/file"), "").unwrap();
    let export = export(dir.path());
    let root = export.root();
    let (b, file) = (walk(root, "a/b"), walk(root, "a/b/file"));
    b.move_to(root, name("moved")).unwrap();
    assert_eq!(file.path(), b"/moved/file");
    assert_eq!(root.move_to(&b, name("x")), Err(Errno::INVAL));
    assert_eq!(root.remove(), Err(Errno::INVAL));
    assert_eq!(b.remove(), Err(Errno::NOTEMPTY));
    file.remove().unwrap();
    b.remove().unwrap();
    assert!(file.is_deleted() && b.is_deleted());
    assert_eq!(b.remove(), Err(Errno::NOENT));
    assert_eq!(
        b.mkdir(name("x"), 0o755, Owner::default()).unwrap_err(),
        Errno::NOENT
    );
}

#[test]
fn replacing_by_rename_marks_what_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "").unwrap();
    fs::write(dir.path().join("b"), "").unwrap();
    let export = export(dir.path());
    let root = export.root();
    let (a, b) = (walk(root, "a"), walk(root, "b"));
    root.rename(name("a"), root, name("b"), 0).unwrap();
    assert_eq!((a.is_deleted(), b.is_deleted()), (false, true));
    assert!(Arc::ptr_eq(&a, &walk(root, "b")));
    assert_eq!(
        root.rename(name("none"), root, name("none"), 0),
        Ok(()),
        "the same place"
    );
}

#[test]
fn creating_without_exclusion_takes_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("old"), "content").unwrap();
    std::os::unix::fs::symlink("old", dir.path().join("link")).unwrap();
    let export = export(dir.path());
    let create = |text, flags| {
        export
            .root()
            .create(name(text), 0o644, Owner::default(), flags)
    };
    let old = create("old", OFlags::RDWR).unwrap();
    assert_eq!(old.found.stat.stx_size, 7);
    assert!(old.file.can_write());
    assert_eq!(
        create("old", OFlags::RDWR | OFlags::EXCL).unwrap_err(),
        Errno::EXIST
    );
    assert_eq!(create("link", OFlags::RDWR).unwrap_err(), Errno::LOOP);
    create("old", OFlags::WRONLY | OFlags::TRUNC).unwrap();
    assert_eq!(fs::read(dir.path().join("old")).unwrap(), b"");
}

#[test]
fn a_listing_has_the_identity_of_what_is_mounted() {
    use std::os::unix::fs::MetadataExt;

    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let dir = tempfile::tempdir().unwrap();
    for sub in ["plain", "covered"] {
        fs::create_dir(dir.path().join(sub)).unwrap();
    }
    let export = export(dir.path());
    let file = export.root().open(OFlags::RDONLY).unwrap();
    let listed = || {
        let points = file.mount_points();
        let mut known = Vec::new();
        file.read_dir(0, usize::MAX, &mut |entry| {
            if !entry.name.starts_with(b".") {
                let path = dir.path().join(str::from_utf8(entry.name).unwrap());
                let there = fs::metadata(path).unwrap();
                let listed = entry.listed(&points).unwrap();
                assert_eq!(listed.file_type, FileType::Directory);
                let identity = Identity {
                    dev_major: rustix::fs::major(there.dev()),
                    dev_minor: rustix::fs::minor(there.dev()),
                    ino: there.ino(),
                };
                known.push((listed.identity, identity));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(known.len(), 2);
        for (listed, there) in known {
            assert_eq!(listed, there);
        }
    };
    listed();
    let covered = dir.path().join("covered");
    // Mounted after the export looked for the first time.
    match mount("none", &covered, "tmpfs", MountFlags::empty(), None) {
        Err(Errno::PERM) => eprintln!("not run to the end: needs the right to mount"),
        mounted => {
            mounted.unwrap();
            let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(listed));
            unmount(&covered, UnmountFlags::DETACH).unwrap();
            seen.unwrap();
        }
    }
}

#[test]
fn listing_goes_on_from_any_cookie_and_never_shows_what_is_above_the_root() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..300 {
        fs::write(dir.path().join(format!("file-{number}")), "").unwrap();
    }
    let export = export(dir.path());
    let file = export.root().open(OFlags::RDONLY).unwrap();
    let mut all = Vec::new();
    let above = fs::metadata(dir.path().join("..")).unwrap();
    file.read_dir(0, usize::MAX, &mut |entry| {
        if entry.name == b".." {
            let ino = entry.stat().unwrap().stx_ino;
            assert_ne!(ino, std::os::unix::fs::MetadataExt::ino(&above));
        }
        all.push((entry.name.to_vec(), entry.cookie));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(all.len(), 302);
    for at in [0, 17, 150, 300] {
        let mut next = None;
        file.read_dir(all[at].1, usize::MAX, &mut |entry| {
            next = Some(entry.name.to_vec());
            ControlFlow::Break(())
        })
        .unwrap();
        assert_eq!(next.as_ref(), Some(&all[at + 1].0));
    }
    let other = walk(export.root(), "file-1").open(OFlags::RDONLY).unwrap();
    let unlisted = other.read_dir(0, usize::MAX, &mut |_| ControlFlow::Break(()));
    assert_eq!(unlisted, Err(Errno::NOTDIR));
}

#[test]
fn an_entry_that_cannot_be_looked_at_is_left_out_of_a_listing() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    let export = export(dir.path());
    let file = export.root().open(OFlags::RDONLY).unwrap();
    let points = MountPoints::unknown();
    let (mut seen, mut listed) = (0, Vec::new());
    file.read_dir(0, usize::MAX, &mut |entry| {
        if !entry.name.starts_with(b".") {
            seen += 1;
            if entry.name == b"b" {
                // It goes between the host's list and the look at it.
                fs::remove_file(dir.path().join("b")).unwrap();
            }
            let shown = entry.listed(&points).map(|_| entry.name.to_vec());
            listed.extend(shown);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    listed.sort();
    assert_eq!((seen, listed), (3, vec![b"a".to_vec(), b"c".to_vec()]));
}

#[test]
fn a_fifo_takes_what_there_is_room_for_whatever_the_offset() {
    let dir = tempfile::tempdir().unwrap();
    let export = export(dir.path());
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("p"), fifo, 0o600.into(), 0).unwrap();
    let node = walk(export.root(), "p");
    let reader = node.open(OFlags::RDONLY).unwrap();
    let writer = node.open(OFlags::WRONLY).unwrap();
    // More than a pipe holds: it stops in the middle, which is no error.
    let sent: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let n = writer.write_at(&sent, u64::MAX).unwrap();
    assert!((4096..100_000).contains(&n), "{n}");
    assert_eq!(writer.write_at(&sent[n..], u64::MAX), Err(Errno::AGAIN));
    let mut into = vec![0; 100_000];
    assert_eq!(reader.read_at(&mut into, u64::MAX).unwrap(), n);
    assert_eq!(into[..n], sent[..n]);
}

#[test]
fn a_deep_chain_of_directories_goes_without_recursion() {
    const DEPTH: usize = 800;
    raise_descriptor_limit();
    let dir = tempfile::tempdir().unwrap();
    let export = export(dir.path());
    let mut deepest = export.root().clone();
    for _ in 0..DEPTH {
        deepest = deepest
            .mkdir(name("d"), 0o755, Owner::default())
            .unwrap()
            .node;
    }
    let top = walk(export.root(), "d");
    top.mark_deleted();
    assert!(deepest.is_deleted());
    drop(top);
    // Freeing a chain this long by recursion would need far more stack than this thread has.
    let small = std::thread::Builder::new().stack_size(64 << 10);
    small.spawn(move || drop(deepest)).unwrap().join().unwrap();
    assert!(export.root().child(b"d").is_none());
}

#[test]
fn a_failed_creation_leaves_a_file_of_somebody_else_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("theirs"), "content").unwrap();
    fs::hard_link(dir.path().join("theirs"), dir.path().join("other")).unwrap();
    let export = export(dir.path());
    let made = create::Made::Fresh(FileType::RegularFile);
    let _lock = export.root().lock.write();
    let found = export
        .root()
        .finish(name("theirs"), 0o644, Owner::default(), made);
    assert_eq!(found.unwrap_err(), Errno::AGAIN);
    let flags = rustix::fs::AtFlags::empty();
    let failed: Result<()> = Err(Errno::AGAIN);
    let _ = export
        .root()
        .undo_on_error(name("theirs"), made, flags, failed);
    assert_eq!(fs::read(dir.path().join("theirs")).unwrap(), b"content");
}

#[test]
fn directories_that_others_turned_inside_out_are_still_freed() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    let export = export(dir.path());
    let (a, b) = (walk(export.root(), "a"), walk(export.root(), "a/b"));
    // The tree still has `b` in `a` when `a` is moved into it.
    fs::rename(dir.path().join("a/b"), dir.path().join("b")).unwrap();
    export.root().rename(name("a"), &b, name("a"), 0).unwrap();
    assert!(dir.path().join("b/a").is_dir());
    assert_eq!(b.path(), b"/a/b", "what others move is not noticed");
    let nodes = [Arc::downgrade(&a), Arc::downgrade(&b)];
    let found = walk(export.root(), "b/a");
    assert_eq!(found.identity(), a.identity());
    drop((a, b, found));
    assert!(nodes.iter().all(|node| node.upgrade().is_none()));
}
