//! Which error wins when two conditions fail at once: the one Linux gives. Each row makes two
//! conditions of semantics 7, 8, 9 or 10 true, and names the winner.

use super::*;
use crate::attr::FileType;
use crate::{Device, SetTime, XattrFlags};

/// A tree with everything the rows need, seen by a user who owns `mine` and nothing else.
fn rig(mode: InteropMode, readonly: bool) -> Rig {
    let mut setup = Setup::new(mode).user(1000);
    if readonly {
        setup = setup.readonly();
    }
    let rig = setup.mount();
    let outside = &rig.outside;
    for dir in [
        "mine",
        "mine/d",
        "mine/full",
        "theirs",
        "theirs/d",
        "sticky",
        "closed",
    ] {
        outside.mkdir(dir.as_bytes()).unwrap();
    }
    for file in [
        "mine/f",
        "mine/g",
        "mine/full/x",
        "theirs/f",
        "theirs/d/x",
        "sticky/f",
        "closed/f",
    ] {
        outside.write(file.as_bytes(), b"x").unwrap();
    }
    outside.symlink(b"f", b"mine/l").unwrap();
    for path in [
        "mine",
        "mine/d",
        "mine/full",
        "mine/f",
        "mine/g",
        "mine/full/x",
    ] {
        outside.chown(path.as_bytes(), 1000, 1000).unwrap();
    }
    outside.chmod(b"sticky", 0o1777).unwrap();
    outside.chmod(b"closed", 0o600).unwrap();
    rig
}

#[track_caller]
fn check(readonly: bool, what: &str, run: impl Fn(&Rig) -> Result<()>, winner: Errno) {
    for mode in InteropMode::ALL {
        // Once cold, and once with every name in the cache.
        for warm in [false, true] {
            let rig = rig(mode, readonly);
            if warm {
                for name in ["mine/f", "mine/g", "mine/d", "mine/full/x", "mine/l"] {
                    rig.lstat(name).unwrap();
                }
                for name in [
                    "theirs/f",
                    "theirs/d/x",
                    "sticky/f",
                    "mine/new",
                    "theirs/new",
                ] {
                    rig.lstat(name).ok();
                }
            }
            assert_eq!(errno(run(&rig)), winner, "{what} ({mode}, warm: {warm})");
        }
    }
}

#[test]
fn making_names() {
    use Errno as E;
    let mkdir = |path: &'static str| move |rig: &Rig| rig.mkdir(path);
    let symlink = |path: &'static str| move |rig: &Rig| rig.symlink("x", path);
    check(true, "no search, read-only", mkdir("closed/new"), E::EACCES);
    check(false, "no search, exists", mkdir("closed/f"), E::EACCES);
    check(true, "dots, read-only", mkdir("mine/."), E::EEXIST);
    check(false, "dots, no write", mkdir("theirs/.."), E::EEXIST);
    check(true, "root, read-only", mkdir("/"), E::EEXIST);
    check(true, "exists, read-only", mkdir("mine/f"), E::EEXIST);
    check(false, "exists, no write", mkdir("theirs/f"), E::EEXIST);
    check(true, "read-only, no write", mkdir("theirs/new"), E::EROFS);
    check(false, "slash, no write", symlink("theirs/new/"), E::ENOENT);
    check(true, "slash, read-only", symlink("mine/new/"), E::ENOENT);
    check(true, "slash, exists", symlink("mine/d/"), E::EEXIST);
    check(false, "missing parent, dots", mkdir("missing/."), E::ENOENT);
    check(
        false,
        "file as parent, exists",
        mkdir("mine/f/x"),
        E::ENOTDIR,
    );
    check(true, "empty path", mkdir(""), E::ENOENT);
    let long = format!("theirs/{}", "n".repeat(256));
    let long = |rig: &Rig| rig.mkdir(&long);
    check(true, "too long, read-only", long, E::ENAMETOOLONG);
    check(false, "too long, no write", long, E::ENAMETOOLONG);
}

#[test]
fn making_devices_and_links() {
    use Errno as E;
    let device = |path: &'static str| {
        move |rig: &Rig| {
            let none = Device::default();
            rig.fs
                .mknod(&rig.cx(), rig.at(path), FileType::CharDevice, 0o600, none)
        }
    };
    check(
        true,
        "read-only, no privilege",
        device("mine/new"),
        E::EROFS,
    );
    check(false, "exists, no privilege", device("mine/f"), E::EEXIST);
    check(
        false,
        "no write, no privilege",
        device("theirs/new"),
        E::EACCES,
    );
    check(false, "no privilege", device("mine/new"), E::EPERM);
    let link = |old: &'static str, new: &'static str| move |rig: &Rig| rig.link(old, new);
    check(
        false,
        "no source, target exists",
        link("mine/x", "mine/f"),
        E::ENOENT,
    );
    check(
        false,
        "target exists, foreign",
        link("theirs/f", "mine/f"),
        E::EEXIST,
    );
    check(
        false,
        "target exists, directory",
        link("mine/d", "mine/f"),
        E::EEXIST,
    );
    check(
        true,
        "read-only, foreign",
        link("theirs/f", "mine/new"),
        E::EROFS,
    );
    check(
        false,
        "foreign, no write",
        link("theirs/f", "theirs/new"),
        E::EPERM,
    );
    check(
        false,
        "no write, directory",
        link("mine/d", "theirs/new"),
        E::EACCES,
    );
    check(false, "directory", link("mine/d", "mine/new"), E::EPERM);
    check(
        true,
        "slash, read-only",
        link("mine/f", "mine/new/"),
        E::ENOENT,
    );
}

#[test]
fn removing_names() {
    use Errno as E;
    let unlink = |path: &'static str| move |rig: &Rig| rig.unlink(path);
    let rmdir = |path: &'static str| move |rig: &Rig| rig.rmdir(path);
    check(true, "no search, read-only", unlink("closed/f"), E::EACCES);
    check(true, "dots, read-only", unlink("mine/."), E::EISDIR);
    check(true, "root, read-only", unlink("/"), E::EISDIR);
    check(true, "root, read-only", rmdir("/"), E::EBUSY);
    check(true, "dot, read-only", rmdir("mine/d/."), E::EINVAL);
    check(true, "dot dot, read-only", rmdir("mine/d/.."), E::ENOTEMPTY);
    check(true, "read-only, missing", unlink("mine/new"), E::EROFS);
    check(true, "read-only, no write", unlink("theirs/f"), E::EROFS);
    check(false, "missing, no write", unlink("theirs/new"), E::ENOENT);
    check(false, "missing, slash", unlink("mine/new/"), E::ENOENT);
    check(false, "slash, no write", unlink("theirs/f/"), E::ENOTDIR);
    check(false, "slash, directory", unlink("theirs/d/"), E::EISDIR);
    check(false, "no write, directory", unlink("theirs/d"), E::EACCES);
    check(
        false,
        "no write, not a directory",
        rmdir("theirs/f"),
        E::EACCES,
    );
    check(false, "no write, not empty", rmdir("theirs/d"), E::EACCES);
    check(
        false,
        "sticky, not a directory",
        rmdir("sticky/f"),
        E::EPERM,
    );
    check(false, "sticky, missing", unlink("sticky/new"), E::ENOENT);
    check(false, "sticky", unlink("sticky/f"), E::EPERM);
    check(
        false,
        "not a directory, slash",
        rmdir("mine/f/"),
        E::ENOTDIR,
    );
    check(false, "not empty", rmdir("mine/full"), E::ENOTEMPTY);
}

#[test]
fn renaming() {
    use Errno as E;
    let mv = |old: &'static str, new: &'static str| move |rig: &Rig| rig.rename(old, new);
    let keep = |old: &'static str, new: &'static str| {
        move |rig: &Rig| rig.rename_with(old, new, RenameFlags::NOREPLACE)
    };
    check(
        false,
        "below a file, nowhere",
        mv("mine/f/x", ""),
        E::ENOTDIR,
    );
    check(
        false,
        "nothing, below a file",
        mv("", "mine/f/x"),
        E::ENOENT,
    );
    check(true, "dots, read-only", mv("mine/.", "mine/new"), E::EBUSY);
    check(
        true,
        "target dots, read-only",
        mv("mine/f", "mine/.."),
        E::EBUSY,
    );
    check(
        true,
        "read-only, missing",
        mv("mine/x", "mine/new"),
        E::EROFS,
    );
    check(
        false,
        "missing, no write",
        mv("theirs/x", "theirs/new"),
        E::ENOENT,
    );
    check(
        false,
        "missing, slash",
        mv("mine/x/", "mine/new"),
        E::ENOENT,
    );
    check(
        false,
        "slash, no write",
        mv("theirs/f", "theirs/new/"),
        E::ENOTDIR,
    );
    check(
        false,
        "own subtree, no write",
        mv("theirs", "theirs/d/new"),
        E::EINVAL,
    );
    check(
        false,
        "ancestor, no write",
        mv("theirs/d/x", "theirs"),
        E::ENOTEMPTY,
    );
    check(
        false,
        "no write here, sticky there",
        mv("theirs/f", "sticky/f"),
        E::EACCES,
    );
    check(
        false,
        "sticky, no write there",
        mv("sticky/f", "theirs/new"),
        E::EPERM,
    );
    check(
        false,
        "no write there, wrong type",
        mv("mine/d", "theirs/f"),
        E::EACCES,
    );
    check(
        false,
        "sticky target, wrong type",
        mv("mine/d", "sticky/f"),
        E::EPERM,
    );
    check(
        false,
        "directory over file",
        mv("mine/d", "mine/f"),
        E::ENOTDIR,
    );
    check(
        false,
        "file over directory, full",
        mv("mine/f", "mine/full"),
        E::EISDIR,
    );
    check(false, "not empty", mv("mine/d", "mine/full"), E::ENOTEMPTY);
    for mode in EW {
        let rig = rig(mode, false);
        assert_eq!(errno(keep("mine/f", "mine/d")(&rig)), E::EEXIST);
        assert_eq!(errno(keep("theirs/f", "mine/f")(&rig)), E::EEXIST);
        assert_eq!(errno(keep("mine/f", "mine/f/.")(&rig)), E::ENOTDIR);
        keep("mine/f", "mine/free")(&rig).unwrap();
    }
    for mode in S {
        // This server cannot do it, and in a shared tree nobody else can.
        let rig = rig(mode, false);
        assert_eq!(errno(keep("mine/f", "mine/free")(&rig)), E::EINVAL);
    }
    // The same name is nothing to do, whoever asks.
    let rig = rig(InteropMode::Exclusive, false);
    rig.rename("theirs/f", "theirs/f").unwrap();
}

#[test]
fn opening() {
    use Errno as E;
    let open =
        |path: &'static str, flags: OpenFlags| move |rig: &Rig| rig.open(path, flags).map(drop);
    let (creat, excl) = (OpenFlags::CREAT, OpenFlags::CREAT | OpenFlags::EXCL);
    let (write, trunc) = (OpenFlags::WRONLY, OpenFlags::TRUNC);
    check(true, "exists, read-only", open("mine/f", excl), E::EEXIST);
    check(false, "exists, no write", open("theirs/f", excl), E::EEXIST);
    check(false, "exists, a link", open("mine/l", excl), E::EEXIST);
    check(
        true,
        "read-only, no write",
        open("theirs/new", creat),
        E::EROFS,
    );
    check(false, "no write", open("theirs/new", creat), E::EACCES);
    check(false, "slash, exists", open("mine/f/", creat), E::EISDIR);
    check(false, "slash, missing", open("mine/new/", creat), E::EISDIR);
    check(false, "directory, create", open("mine/d", creat), E::EISDIR);
    check(
        false,
        "directory, no write",
        open("theirs/d", write),
        E::EISDIR,
    );
    check(
        false,
        "directory, truncate",
        open("theirs/d", trunc),
        E::EISDIR,
    );
    check(
        true,
        "read-only, no write",
        open("theirs/f", write),
        E::EROFS,
    );
    check(
        true,
        "read-only truncation",
        open("mine/f", trunc),
        E::EROFS,
    );
    check(
        false,
        "truncation, no write",
        open("theirs/f", trunc),
        E::EACCES,
    );
    let nofollow = OpenFlags::NOFOLLOW;
    check(
        false,
        "link, no following",
        open("mine/l", nofollow),
        E::ELOOP,
    );
    let directory = OpenFlags::DIRECTORY;
    check(
        false,
        "link, directory",
        open("mine/l", nofollow | directory),
        E::ENOTDIR,
    );
    check(
        false,
        "file, directory, no write",
        open("theirs/f", directory | write),
        E::ENOTDIR,
    );
    check(
        false,
        "foreign, no atime",
        open("theirs/f", OpenFlags::NOATIME),
        E::EPERM,
    );
    let direct = directory | OpenFlags::DIRECT;
    check(
        false,
        "direct, no permission",
        open("closed", direct),
        E::EACCES,
    );
    check(false, "direct", open("theirs", direct), E::EINVAL);
    let path = OpenFlags::PATH | directory;
    check(false, "path of a file", open("mine/f", path), E::ENOTDIR);
}

#[test]
fn naming_attributes() {
    use Errno as E;
    let set = |path: &'static str, name: &'static str, flags: u32| {
        move |rig: &Rig| {
            let flags = XattrFlags::from_bits_retain(flags);
            let (cx, at) = (rig.cx(), rig.at(path));
            rig.fs
                .set_xattr(&cx, at, Follow::Yes, name.as_bytes(), b"x", flags)
        }
    };
    let get = |path: &'static str, name: &'static str| {
        move |rig: &Rig| {
            let (cx, at) = (rig.cx(), rig.at(path));
            let got = rig.fs.get_xattr(&cx, at, Follow::Yes, name.as_bytes(), 9);
            got.map(drop)
        }
    };
    check(true, "flags, no name", set("mine/f", "", 77), E::EINVAL);
    check(true, "no name, missing", set("mine/x", "", 0), E::ERANGE);
    check(false, "no name, missing", get("mine/x", ""), E::ERANGE);
    check(false, "missing, namespace", get("mine/x", "x"), E::ENOENT);
    let large = |rig: &Rig| {
        let (cx, at, flags) = (rig.cx(), rig.at("mine/x"), XattrFlags::empty());
        rig.fs
            .set_xattr(&cx, at, Follow::Yes, b"user.a", &[0; 65537], flags)
    };
    check(true, "too large, missing", large, E::E2BIG);
    check(
        true,
        "read-only, namespace",
        set("mine/f", "security.x", 0),
        E::EROFS,
    );
    check(
        false,
        "no write, unknown namespace",
        set("theirs/f", "x", 0),
        E::EACCES,
    );
}

#[test]
fn opening_without_a_name() {
    use Errno as E;
    let nameless = OpenFlags::TMPFILE_BIT | OpenFlags::DIRECTORY;
    let open = |path: &'static str, flags: OpenFlags| {
        move |rig: &Rig| rig.open(path, nameless | flags).map(drop)
    };
    let write = OpenFlags::RDWR;
    check(
        false,
        "missing, to read",
        open("no", OpenFlags::RDONLY),
        E::EINVAL,
    );
    check(
        false,
        "missing, made",
        open("no", write | OpenFlags::CREAT),
        E::EINVAL,
    );
    check(false, "missing", open("no", write), E::ENOENT);
    let reserved = open("no", OpenFlags::from_bits_retain(3));
    check(false, "missing, access 3", reserved, E::ENOENT);
    check(
        true,
        "missing, read-only",
        open("mine/no", write),
        E::ENOENT,
    );
    check(true, "a file, read-only", open("mine/f", write), E::ENOTDIR);
    let link = open("mine/l", write | OpenFlags::NOFOLLOW);
    check(false, "a link", link, E::ENOTDIR);
    check(true, "no write, read-only", open("theirs", write), E::EROFS);
    check(false, "no write", open("theirs", write), E::EACCES);
    check(false, "nothing else", open("mine", write), E::EOPNOTSUPP);
}

#[test]
fn changing_attributes() {
    use Errno as E;
    let set = |path: &'static str, set: SetAttr| move |rig: &Rig| rig.set_attr(path, set);
    let size = SetAttr {
        size: Some(0),
        ..SetAttr::default()
    };
    let mode = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    let now = SetAttr {
        mtime: Some(SetTime::Now),
        atime: Some(SetTime::Now),
        ..SetAttr::default()
    };
    check(true, "directory, read-only", set("mine/d", size), E::EISDIR);
    check(
        false,
        "directory, no write",
        set("theirs/d", size),
        E::EISDIR,
    );
    check(true, "read-only, no write", set("theirs/f", size), E::EROFS);
    check(false, "no write", set("theirs/f", size), E::EACCES);
    check(true, "read-only, foreign", set("theirs/f", mode), E::EROFS);
    check(false, "foreign", set("theirs/f", mode), E::EPERM);
    check(true, "read-only, foreign", set("theirs/f", now), E::EROFS);
    check(
        false,
        "foreign, current times",
        set("theirs/f", now),
        E::EACCES,
    );
}
