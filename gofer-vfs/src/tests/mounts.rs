//! Filesystems mounted on files of others.

use super::{EW, Rig, S, Setup, errno};
use crate::testing::Outside;
use crate::testing::mem_remote::MemServer;
use crate::{
    At, Context, Credentials, Errno, Filesystem, InteropMode, Node, OpenFlags, RenameFlags,
};

/// `outer` with `inner` mounted on `/mnt`, which has `/dir/file` and `/link -> /top`.
fn nested(mode: InteropMode) -> (Rig, Rig) {
    let (outer, inner) = (Rig::new(mode), Rig::new(mode));
    outer.mkdir("mnt").unwrap();
    outer.mkdir("top").unwrap();
    outer.create("mnt/hidden").unwrap();
    inner.mkdir("dir").unwrap();
    inner.create("dir/file").unwrap();
    inner.symlink("/top", "link").unwrap();
    mount(&outer, "mnt", &inner.fs).unwrap();
    (outer, inner)
}

fn mount(outer: &Rig, path: &str, inner: &Filesystem) -> crate::Result<()> {
    outer.fs.mount_at(&outer.cx(), outer.at(path), inner)
}

fn umount(outer: &Rig, path: &str) -> crate::Result<Filesystem> {
    outer.fs.unmount_at(&outer.cx(), outer.at(path))
}

fn node(rig: &Rig, path: &str) -> Node {
    let at = rig.at(path);
    rig.fs.resolve(&rig.cx(), at, crate::Follow::Yes).unwrap()
}

fn paths(rig: &Rig) -> Vec<String> {
    let mounts = rig.fs.mounts().into_iter();
    mounts
        .map(|mount| String::from_utf8(mount.path).unwrap())
        .collect()
}

#[test]
fn paths_lead_in_and_out_again() {
    for mode in EW.into_iter().chain(S) {
        let (outer, inner) = nested(mode);
        assert_eq!(errno(outer.stat("mnt/hidden")), Errno::ENOENT);
        assert_eq!(
            outer.stat("mnt/dir/file").unwrap(),
            inner.stat("dir/file").unwrap()
        );
        assert_eq!(node(&outer, "mnt"), inner.fs.root());
        assert_eq!(node(&outer, "mnt/dir/../.."), outer.fs.root());
        assert_eq!(
            node(&outer, "mnt/link"),
            node(&outer, "top"),
            "an absolute link"
        );
        assert_eq!(node(&outer, "mnt/dir/file").path(), b"/mnt/dir/file");
        // From within, as far as the root that the walk has.
        let dir = node(&inner, "dir");
        let cx = outer.cx();
        let resolve = |fs: &Filesystem, path: &str| {
            let at = At::new(&dir, path.as_bytes());
            fs.resolve(&cx, at, crate::Follow::Yes).unwrap()
        };
        assert_eq!(resolve(&outer.fs, "../../top"), node(&outer, "top"));
        assert_eq!(resolve(&inner.fs, "../../dir"), dir);
        let names = outer.names(&outer.open("mnt", OpenFlags::RDONLY).unwrap());
        assert!(names.contains(&"dir".to_owned()), "{names:?}");
    }
}

#[test]
fn what_is_made_and_written_goes_where_it_is_seen() {
    for mode in EW.into_iter().chain(S) {
        let (outer, inner) = nested(mode);
        let file = outer.create("mnt/new").unwrap();
        file.write_at(&outer.cx(), b"in", 0).unwrap();
        file.close(&outer.cx()).unwrap();
        outer.mkdir("mnt/made").unwrap();
        outer.rename("mnt/new", "mnt/made/moved").unwrap();
        assert_eq!(inner.outside.read(b"made/moved").unwrap(), b"in");
        outer.unlink("mnt/made/moved").unwrap();
        outer.rmdir("mnt/made").unwrap();
        assert!(outer.outside.stat(b"mnt/hidden").is_ok());
    }
}

#[test]
fn two_files_have_to_be_in_one_filesystem() {
    let (outer, _inner) = nested(InteropMode::Exclusive);
    outer.create("here").unwrap();
    for (old, new) in [("here", "mnt/there"), ("mnt/dir/file", "there")] {
        assert_eq!(errno(outer.rename(old, new)), Errno::EXDEV);
        assert_eq!(errno(outer.link(old, new)), Errno::EXDEV);
    }
    assert_eq!(errno(outer.link("here", "mnt/dir")), Errno::EEXIST);
    assert_eq!(errno(outer.rename("none", "mnt/there")), Errno::EXDEV);
}

#[test]
fn mount_points_are_busy() {
    for mode in EW.into_iter().chain(S) {
        let (outer, _inner) = nested(mode);
        assert_eq!(errno(outer.rmdir("mnt")), Errno::EBUSY);
        assert_eq!(errno(outer.unlink("mnt")), Errno::EISDIR, "its type first");
        assert_eq!(errno(outer.rename("mnt", "other")), Errno::EBUSY);
        assert_eq!(errno(outer.rename("top", "mnt")), Errno::EBUSY);
        assert_eq!(
            errno(outer.rename_with("top", "mnt", RenameFlags::NOREPLACE)),
            if mode.must_revalidate() {
                Errno::EINVAL
            } else {
                Errno::EEXIST
            }
        );
        assert_eq!(errno(outer.mkdir("mnt")), Errno::EEXIST);
        // What is above one may move, and what is mounted moves along.
        let (deep, low) = (Rig::new(mode), Rig::new(mode));
        deep.mkdir("a").unwrap();
        deep.mkdir("a/b").unwrap();
        mount(&deep, "a/b", &low.fs).unwrap();
        deep.rename("a", "z").unwrap();
        assert_eq!(node(&deep, "z/b"), low.fs.root());
        assert_eq!(paths(&deep), ["/z/b"]);
    }
}

/// What Linux checks before it looks for mounts.
#[test]
fn other_errors_come_before_that_a_mount_point_is_busy() {
    for mode in EW.into_iter().chain(S) {
        let server = MemServer::new();
        for dir in [&b""[..], b"from", b"to"] {
            server.outside().mkdir(dir).ok();
            server.outside().chmod(dir, 0o777).unwrap();
        }
        server.outside().mkdir(b"from/theirs").unwrap();
        server.outside().write(b"from/file", b"").unwrap();
        let outer = Setup::new(mode).user(7).mount_on(server);
        let (dir, file) = (Rig::new(mode), MemServer::new());
        file.outside().change_type(b"", false).unwrap();
        let file = Setup::new(mode).mount_on(file);
        let root = Credentials::root();
        let cx = Context::new(&root);
        let cover = |path, inner: &Rig| outer.fs.mount_at(&cx, outer.at(path), &inner.fs);
        cover("from/theirs", &dir).unwrap();
        cover("from/file", &file).unwrap();
        let moved = outer.rename("from/theirs", "to/theirs");
        assert_eq!(errno(moved), Errno::EACCES, "its .. would change: {mode}");
        assert_eq!(errno(outer.rmdir("from/file")), Errno::ENOTDIR);
        assert_eq!(errno(outer.unlink("from/file")), Errno::EBUSY);
        assert_eq!(errno(outer.rename("from/file", "to/file")), Errno::EBUSY);
    }
}

#[test]
fn nobody_unmounts_what_is_in_use() {
    let (outer, inner) = nested(InteropMode::Exclusive);
    let file = outer.open("mnt/dir/file", OpenFlags::RDONLY).unwrap();
    assert_eq!(errno(umount(&outer, "mnt")), Errno::EBUSY);
    file.close(&outer.cx()).unwrap();
    let kept = node(&outer, "mnt/dir");
    assert_eq!(errno(umount(&outer, "mnt")), Errno::EBUSY);
    drop(kept);
    let third = Rig::new(InteropMode::Exclusive);
    mount(&outer, "mnt/dir", &third.fs).unwrap();
    assert_eq!(errno(umount(&outer, "mnt")), Errno::EBUSY);
    assert_eq!(paths(&outer), ["/mnt", "/mnt/dir"]);
    umount(&outer, "mnt/dir").unwrap();
    assert_eq!(errno(umount(&outer, "mnt/dir")), Errno::EINVAL);
    assert_eq!(errno(umount(&outer, "top")), Errno::EINVAL);
    umount(&outer, "mnt").unwrap();
    assert!(outer.stat("mnt/hidden").is_ok());
    assert!(paths(&outer).is_empty());
    // It lives on, and can be mounted again.
    assert!(inner.stat("dir/file").is_ok());
    mount(&outer, "top", &inner.fs).unwrap();
    assert!(outer.stat("top/dir/file").is_ok());
}

#[test]
fn mounts_that_make_no_sense_are_refused() {
    let (outer, inner) = nested(InteropMode::Exclusive);
    outer.create("file").unwrap();
    assert_eq!(errno(mount(&outer, "top", &inner.fs)), Errno::EBUSY);
    assert_eq!(errno(mount(&outer, "top", &outer.fs)), Errno::ELOOP);
    assert_eq!(errno(mount(&inner, "dir", &outer.fs)), Errno::ELOOP);
    let third = Rig::new(InteropMode::Exclusive);
    assert_eq!(errno(mount(&outer, "file", &third.fs)), Errno::ENOTDIR);
    assert_eq!(errno(mount(&outer, "none", &third.fs)), Errno::ENOENT);
    let user = Credentials::user(1, 1, Vec::new());
    let cx = Context::new(&user);
    let refused = outer.fs.mount_at(&cx, outer.at("top"), &third.fs);
    assert_eq!(errno(refused), Errno::EPERM);
    assert_eq!(
        errno(outer.fs.unmount_at(&cx, outer.at("mnt"))),
        Errno::EPERM
    );
    // Another tree is no place to start from.
    let there = third.fs.root();
    let at = At::new(&there, b"x");
    assert_eq!(
        errno(outer.fs.stat(&outer.cx(), at, crate::Follow::Yes)),
        Errno::EXDEV
    );
}

#[test]
fn mounts_are_stacked() {
    let (outer, inner) = nested(InteropMode::Exclusive);
    let upper = Rig::new(InteropMode::Exclusive);
    upper.create("upper").unwrap();
    mount(&outer, "mnt", &upper.fs).unwrap();
    assert!(outer.stat("mnt/upper").is_ok());
    assert_eq!(node(&outer, "mnt/.."), outer.fs.root());
    assert_eq!(node(&outer, "mnt").path(), b"/mnt");
    assert_eq!(paths(&outer), ["/mnt", "/mnt"]);
    umount(&outer, "mnt").unwrap();
    assert_eq!(node(&outer, "mnt"), inner.fs.root());
}

#[test]
fn a_read_only_filesystem_is_so_where_it_is_mounted() {
    let (outer, _inner) = nested(InteropMode::Exclusive);
    let third = Setup::new(InteropMode::Exclusive).readonly().mount();
    mount(&outer, "top", &third.fs).unwrap();
    assert_eq!(errno(outer.create("top/new")), Errno::EROFS);
    assert_eq!(errno(outer.mkdir("top/new")), Errno::EROFS);
    assert_eq!(errno(outer.unlink("top/none")), Errno::EROFS);
    outer.create("mnt/new").unwrap();
    outer.create("new").unwrap();
}

#[test]
fn a_mount_goes_with_the_name_it_is_on() {
    for mode in S {
        for gone in ["dir/mnt", "dir"] {
            let (outer, inner) = (Rig::new(mode), Rig::new(mode));
            outer.mkdir("dir").unwrap();
            outer.mkdir("dir/mnt").unwrap();
            mount(&outer, "dir/mnt", &inner.fs).unwrap();
            outer.outside.rmdir(b"dir/mnt").unwrap();
            if gone == "dir" {
                outer.outside.rmdir(b"dir").unwrap();
            }
            assert_eq!(errno(outer.stat("dir/mnt")), Errno::ENOENT);
            assert!(paths(&outer).is_empty());
            // Nobody holds the name any more, and the other can be mounted again.
            outer.mkdir("again").unwrap();
            mount(&outer, "again", &inner.fs).unwrap();
        }
    }
}

#[test]
fn the_end_of_a_filesystem_is_that_of_what_is_mounted_in_it() {
    let (outer, inner) = nested(InteropMode::Exclusive);
    outer.fs.unmount(&outer.cx()).unwrap();
    assert!(errno(inner.create("late")) == Errno::EIO);
    let (outer, inner) = nested(InteropMode::Exclusive);
    drop(outer);
    assert_eq!(node(&inner, "dir").path(), b"/dir");
}

#[test]
fn relative_access_times_are_set_when_they_tell_something() {
    let mut setup = Setup::new(InteropMode::Exclusive);
    setup.flags.relatime = true;
    let rig = setup.mount();
    let file = rig.create("file").unwrap();
    file.write_at(&rig.cx(), b"x", 0).unwrap();
    let read = || {
        rig.clock.advance(60);
        let mut byte = [0];
        file.read_at(&rig.cx(), &mut byte, 0).unwrap();
        rig.attr("file").atime
    };
    let first = read();
    assert!(first > rig.attr("file").mtime);
    assert_eq!(read(), first);
    rig.clock.advance(24 * 60 * 60);
    assert!(read() > first);
}

#[test]
fn checks_of_names_end_where_something_is_mounted() {
    for mode in S {
        let (outer, inner) = (Rig::new(mode), Rig::new(mode));
        // What is mounted has the names of what it covers.
        for (rig, top) in [(&outer, "mnt/"), (&inner, "")] {
            rig.outside.mkdir(b"mnt").unwrap();
            rig.mkdir(&format!("{top}dir")).unwrap();
            rig.create(&format!("{top}dir/file")).unwrap();
        }
        mount(&outer, "mnt", &inner.fs).unwrap();
        outer.stat("mnt/dir/file").unwrap();
        let hidden = outer.fs.stats().live_dentries;
        // The covered names go on the server, which is not to be noticed now.
        outer.outside.unlink(b"mnt/dir/file").unwrap();
        outer.outside.rmdir(b"mnt/dir").unwrap();
        let before = outer.fs.stats().invalidated;
        outer.stat("mnt/dir/file").unwrap();
        let stats = outer.fs.stats();
        assert_eq!(stats.invalidated, before, "{mode}");
        assert_eq!(stats.live_dentries, hidden, "{mode}");
        umount(&outer, "mnt").unwrap();
        assert_eq!(errno(outer.stat("mnt/dir")), Errno::ENOENT, "{mode}");
    }
}
