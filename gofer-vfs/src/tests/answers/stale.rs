//! Each kind of change, and what it does to an answer that rests on what was changed.

use super::*;
use crate::permissions::Credentials;
use crate::testing::mem_remote::Fault;
use crate::{AccessMask, SetTime, Timestamp};

/// Makes `change` while `path` is answered as a whole: what is seen of it must be another thing
/// then, and the same as without answers.
#[track_caller]
fn notices(rig: &Rig, path: &str, change: impl FnOnce(&Rig)) {
    warm(rig, path);
    let before = seen(rig, path);
    change(rig);
    let after = seen(rig, path);
    assert_ne!(before, after, "{path}");
    // A path that was never asked for, to the same place.
    let other = format!("./{path}");
    assert_eq!(seen(rig, &other), after, "{path}");
    warm(rig, path);
    assert_eq!(seen(rig, path), after, "{path}");
}

/// Makes `change` while `path` is answered as a whole, and it still is.
#[track_caller]
fn ignores(rig: &Rig, path: &str, change: impl FnOnce(&Rig)) {
    warm(rig, path);
    let before = seen(rig, path);
    change(rig);
    assert!(is_answered(rig, path), "{path}");
    assert_eq!(seen(rig, path), before, "{path}");
}

fn seen(rig: &Rig, path: &str) -> std::result::Result<Stat, Errno> {
    rig.lstat(path).map_err(|error| error.errno())
}

fn tree(mode: InteropMode) -> Rig {
    let rig = deep(mode);
    for dir in ["x", "x/y"] {
        rig.mkdir(dir).unwrap();
    }
    for file in ["x/y/file", "a/b/other"] {
        drop(rig.create(file).unwrap());
    }
    rig
}

#[test]
fn changes_of_names_are_noticed() {
    for mode in EW {
        let rig = tree(mode);
        let file = "a/b/c/file";
        notices(&rig, file, |rig| rig.rename("a/b", "a/moved").unwrap());
        notices(&rig, file, |rig| rig.rename("a/moved", "a/b").unwrap());
        notices(&rig, file, |rig| rig.rename("a", "x/a").unwrap());
        notices(&rig, file, |rig| rig.rename("x/a", "a").unwrap());
        let exchange = RenameFlags::EXCHANGE;
        notices(&rig, file, |rig| {
            rig.rename_with("a/b/c", "x/y", exchange).unwrap()
        });
        notices(&rig, file, |rig| {
            rig.rename_with(file, "a/b/other", exchange).unwrap()
        });
        notices(&rig, file, |rig| rig.unlink(file).unwrap());
        notices(&rig, file, |rig| drop(rig.create(file).unwrap()));
        notices(&rig, file, |rig| rig.rename("a/b/other", file).unwrap());
        notices(&rig, file, |rig| rig.unlink(file).unwrap());
        notices(&rig, file, |rig| rig.mkdir(file).unwrap());
        notices(&rig, file, |rig| rig.rmdir(file).unwrap());
        notices(&rig, file, |rig| rig.symlink("x", file).unwrap());
        notices(&rig, file, |rig| rig.unlink(file).unwrap());
        notices(&rig, file, |rig| rig.link("x/y/file", file).unwrap());
        assert_eq!(rig.remote.misuses(), 0);
    }
}

#[test]
fn absence_through_missing_directories_ends_with_them() {
    for mode in EW {
        let rig = tree(mode);
        notices(&rig, "new", |rig| rig.mkdir("new").unwrap());
        let deep = "new/dir/file";
        assert_eq!(errno(rig.lstat(deep)), Errno::ENOENT);
        rig.mkdir("new/dir").unwrap();
        notices(&rig, deep, |rig| drop(rig.create(deep).unwrap()));
        notices(&rig, "x/y/none", |rig| {
            let listed = rig.open("x/y", OpenFlags::DIRECTORY).unwrap();
            assert_eq!(rig.names(&listed).len(), 3);
            rig.rename("x/y/file", "x/y/none").unwrap();
        });
    }
}

#[test]
fn changes_of_attributes_are_noticed() {
    for mode in EW {
        let rig = tree(mode);
        let file = "a/b/c/file";
        notices(&rig, file, |rig| rig.chmod(file, 0o600).unwrap());
        let chown = SetAttr {
            uid: Some(7),
            ..SetAttr::default()
        };
        notices(&rig, file, |rig| rig.set_attr(file, chown).unwrap());
        let size = SetAttr {
            size: Some(9),
            ..SetAttr::default()
        };
        notices(&rig, file, |rig| rig.set_attr(file, size).unwrap());
        let time = SetTime::At(Timestamp { sec: 5, nsec: 6 });
        let times = SetAttr {
            mtime: Some(time),
            ..SetAttr::default()
        };
        notices(&rig, file, |rig| rig.set_attr(file, times).unwrap());
        let open = rig.open(file, OpenFlags::RDWR).unwrap();
        rig.clock.advance(1);
        notices(&rig, file, |rig| {
            assert_eq!(open.write_at(&rig.cx(), b"hello", 20).unwrap(), 5);
        });
        rig.clock.advance(1);
        notices(&rig, file, |rig| {
            assert_eq!(open.read_at(&rig.cx(), &mut [0; 3], 0).unwrap(), 3);
        });
        notices(&rig, file, |rig| rig.link(file, "x/second").unwrap());
        notices(&rig, file, |rig| rig.unlink("x/second").unwrap());
        // What is in a directory is an attribute of it.
        notices(&rig, "a/b", |rig| rig.mkdir("a/b/new").unwrap());
    }
}

#[test]
fn names_that_go_unseen_are_counted() {
    for mode in EW {
        let rig = Rig::new(mode);
        for (file, other) in [(&b"a"[..], &b"b"[..]), (b"c", b"d")] {
            rig.outside.write(file, b"").unwrap();
            rig.outside.link(file, other).unwrap();
        }
        notices(&rig, "a", |rig| rig.unlink("b").unwrap());
        // Only files with several names are in doubt.
        ignores(&rig, "a", |rig| rig.unlink("d").unwrap());
    }
}

#[test]
fn what_has_nothing_to_do_with_an_answer_leaves_it_alone() {
    for mode in EW {
        let rig = tree(mode);
        for path in ["a/b/c/file", "a/b/c/none"] {
            ignores(&rig, path, |rig| drop(rig.create("a/b/c/new").unwrap()));
            ignores(&rig, path, |rig| rig.unlink("a/b/c/new").unwrap());
            ignores(&rig, path, |rig| {
                rig.rename("a/b/other", "a/b/else").unwrap()
            });
            ignores(&rig, path, |rig| {
                rig.rename("a/b/else", "a/b/other").unwrap()
            });
            ignores(&rig, path, |rig| rig.chmod("a/b/other", 0o600).unwrap());
            ignores(&rig, path, |rig| rig.chmod("x", 0o700).unwrap());
            ignores(&rig, path, |rig| rig.mkdir("a/d").unwrap());
            ignores(&rig, path, |rig| rig.rmdir("a/d").unwrap());
        }
    }
}

#[test]
fn each_caller_is_told_what_he_may_know() {
    for mode in EW {
        let rig = tree(mode);
        rig.chmod("a/b", 0o750).unwrap();
        let group = SetAttr {
            gid: Some(50),
            ..SetAttr::default()
        };
        rig.set_attr("a/b", group).unwrap();
        let member = Credentials::user(1000, 1000, vec![40, 50]);
        let stranger = Credentials::user(1000, 1000, vec![40]);
        let look = |creds: &Credentials| {
            let at = rig.at("a/b/c/file");
            let seen = rig.fs.stat(&Context::new(creds), at, Follow::Yes);
            seen.map(|_| ()).map_err(|error| error.errno())
        };
        for _ in 0..4 {
            assert_eq!(look(&rig.creds), Ok(()), "{mode}");
            assert_eq!(look(&stranger), Err(Errno::EACCES), "{mode}");
            assert_eq!(look(&member), Ok(()), "{mode}");
        }
        (0..4).for_each(|_| look(&member).unwrap());
        rig.chmod("a/b", 0o700).unwrap();
        assert_eq!(look(&member), Err(Errno::EACCES), "{mode}");
        assert_eq!(look(&rig.creds), Ok(()), "{mode}");
        rig.chmod("a/b", 0o711).unwrap();
        (0..4).for_each(|_| look(&stranger).unwrap());
        let hits = rig.fs.stats().answer_hits;
        assert_eq!(look(&member), Ok(()));
        assert_eq!(rig.fs.stats().answer_hits, hits + 1, "what all may search");
        rig.chmod("a", 0o600).unwrap();
        assert_eq!(look(&stranger), Err(Errno::EACCES), "{mode}");
        assert_eq!(look(&member), Err(Errno::EACCES), "{mode}");
        // Nobody is told for whom it is not known.
        let crowd = Credentials::user(0, 0, (0..100).collect());
        let answers = rig.fs.stats().answers;
        (0..4).for_each(|_| look(&crowd).unwrap());
        assert_eq!(rig.fs.stats().answers, answers);
    }
}

#[test]
fn access_is_for_the_one_who_asks() {
    let rig = tree(InteropMode::Exclusive);
    warm(&rig, "a/b/c/file");
    let may_read = |uid| {
        let creds = Credentials::user(uid, uid, Vec::new());
        let at = rig.at("a/b/c/file");
        rig.fs
            .access(&Context::new(&creds), at, AccessMask::READ)
            .is_ok()
    };
    assert!(may_read(0) && may_read(7));
    rig.chmod("a/b/c/file", 0o600).unwrap();
    warm(&rig, "a/b/c/file");
    assert!(may_read(0) && !may_read(7));
    let mut setup = Setup::new(InteropMode::Exclusive);
    setup.access = Admission::Only(0);
    let rig = setup.mount();
    drop(rig.create("f").unwrap());
    warm(&rig, "f");
    let other = Credentials::user(5, 5, Vec::new());
    let seen = rig.fs.stat(&Context::new(&other), rig.at("f"), Follow::No);
    assert_eq!(errno(seen), Errno::EPERM);
}

#[test]
fn what_is_mounted_on_the_way_is_noticed() {
    for mode in EW {
        let (rig, inner) = (tree(mode), Rig::new(mode));
        drop(inner.create("file").unwrap());
        let mount = |path: &str| rig.fs.mount_at(&rig.cx(), rig.at(path), &inner.fs).unwrap();
        let umount = |path: &str| drop(rig.fs.unmount_at(&rig.cx(), rig.at(path)).unwrap());
        for (on, path) in [("a/b/c", "a/b/c/file"), ("a/b", "a/b"), ("a", "a/none")] {
            warm(&rig, path);
            let before = seen(&rig, path);
            mount(on);
            let inside = path.strip_prefix(on).unwrap();
            assert_eq!(
                seen(&rig, path),
                seen(&inner, &format!(".{inside}")),
                "{path}"
            );
            assert!(
                !is_answered(&rig, path),
                "what is mounted answers for itself"
            );
            umount(on);
            assert_eq!(seen(&rig, path), before, "{path}");
            warm(&rig, path);
        }
    }
}

#[test]
fn what_may_have_happened_is_asked_for() {
    for mode in EW {
        let rig = tree(mode);
        warm(&rig, "a/new");
        // It is made, and nobody waits for the answer any more.
        rig.remote.inject(Op::Make, 0, Fault::Late(Errno::EINTR));
        rig.mkdir("a/new").unwrap_err();
        rig.lstat("a/new").unwrap();
        warm(&rig, "a/new");
        rig.remote.inject(Op::Unlink, 0, Fault::Late(Errno::EINTR));
        rig.rmdir("a/new").unwrap_err();
        assert_eq!(errno(rig.lstat("a/new")), Errno::ENOENT);
    }
}

#[test]
fn dropped_caches_leave_no_answer() {
    for mode in EW {
        let rig = tree(mode);
        warm(&rig, "a/b/c/file");
        warm(&rig, "a/b/c/none");
        rig.outside.write(b"a/b/c/file", b"changed").unwrap();
        rig.outside.write(b"a/b/c/none", b"new").unwrap();
        rig.fs.drop_caches();
        assert_eq!(rig.lstat("a/b/c/file").unwrap().attr.size, 7);
        assert_eq!(rig.lstat("a/b/c/none").unwrap().attr.size, 3);
    }
}

#[test]
fn synthetic_files_are_answered_like_others() {
    for mode in EW {
        let rig = tree(mode);
        notices(&rig, "a/made", |rig| {
            // The server refuses it.
            let refuse = Fault::Refuse(Errno::EACCES);
            rig.remote.inject(Op::Make, 0, refuse);
            let at = rig.at("a/made");
            rig.fs.mkdir_mount_point(&rig.cx(), at, 0o755).unwrap();
            assert_eq!(rig.fs.stats().synthetic_files, 1);
        });
        notices(&rig, "a/made", |rig| rig.chmod("a/made", 0o700).unwrap());
        notices(&rig, "a/made", |rig| rig.rmdir("a/made").unwrap());
    }
}
