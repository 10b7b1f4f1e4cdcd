//! Attributes and extended attributes.

use super::*;
use gofer_vfs::{AttrMask, FileType, SetAttr, SetTime, Timestamp, XattrFlags};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn at(sec: i64, nsec: u32) -> SetTime {
    SetTime::At(Timestamp { sec, nsec })
}

#[test]
fn attributes_are_those_of_the_host() {
    let rig = Rig::new();
    fs::write(rig.path("f"), "12345").unwrap();
    fs::set_permissions(rig.path("f"), fs::Permissions::from_mode(0o4640)).unwrap();
    let file = rig.walk("f").unwrap();
    let meta = fs::metadata(rig.path("f")).unwrap();
    let attr = file.file.attr(&CALL, AttrMask::all()).unwrap();
    assert!(attr.mask.contains(AttrMask::BASIC));
    assert_eq!(attr, file.attr);
    assert_eq!(attr.st_mode(), meta.mode());
    assert_eq!((attr.size, attr.nlink, attr.blocks), (5, 1, meta.blocks()));
    assert_eq!((attr.uid, attr.gid), (meta.uid(), meta.gid()));
    let mtime = Timestamp {
        sec: meta.mtime(),
        nsec: meta.mtime_nsec() as u32,
    };
    assert_eq!(attr.mtime, mtime);
    let handle = file.file.open(&CALL, READ).unwrap();
    assert_eq!(handle.attr(&CALL, AttrMask::all()).unwrap().size, 5);
    let numbers = file.file.stat_fs(&CALL).unwrap();
    assert!(numbers.block_size > 0 && numbers.name_length >= 255);
}

#[test]
fn all_that_can_be_set_is_set_at_once() {
    let rig = Rig::new();
    fs::write(rig.path("f"), "12345").unwrap();
    let file = rig.walk("f").unwrap().file;
    let set = SetAttr {
        mode: Some(0o640),
        size: Some(3),
        atime: Some(at(-5, 6)),
        mtime: Some(at(1_000_000_000, 999_999_999)),
        ..SetAttr::default()
    };
    let report = file.set_attr(&CALL, &set, None).unwrap();
    assert_eq!((report.failed, report.errno), (AttrMask::empty(), None));
    let attr = file.attr(&CALL, AttrMask::all()).unwrap();
    assert_eq!((attr.mode, attr.size), (0o640, 3));
    assert_eq!((attr.atime.sec, attr.atime.nsec), (-5, 6));
    // Not the time of the truncation.
    assert_eq!(
        (attr.mtime.sec, attr.mtime.nsec),
        (1_000_000_000, 999_999_999)
    );
    let now = SetAttr {
        atime: Some(SetTime::Now),
        ..SetAttr::default()
    };
    file.set_attr(&CALL, &now, None).unwrap();
    let again = file.attr(&CALL, AttrMask::all()).unwrap();
    assert!(again.atime.sec > 0);
    assert_eq!(again.mtime, attr.mtime, "left alone");
}

#[test]
fn what_fails_is_told_and_the_rest_is_done() {
    let rig = Rig::new();
    fs::create_dir(rig.path("d")).unwrap();
    symlink("d", rig.path("l")).unwrap();
    let set = SetAttr {
        mode: Some(0o700),
        size: Some(1),
        mtime: Some(at(7, 0)),
        ..SetAttr::default()
    };
    let dir = rig.walk("d").unwrap().file;
    let report = dir.set_attr(&CALL, &set, None).unwrap();
    assert_eq!(report.failed, AttrMask::SIZE);
    assert_eq!(report.errno, Some(Errno::EISDIR));
    let attr = dir.attr(&CALL, AttrMask::all()).unwrap();
    assert_eq!((attr.mode, attr.mtime.sec), (0o700, 7));
    // Of a link the times change, and not those of what it leads to.
    let link = rig.walk("l").unwrap().file;
    let set = SetAttr {
        mode: Some(0o600),
        mtime: Some(at(9, 0)),
        ..SetAttr::default()
    };
    let report = link.set_attr(&CALL, &set, None).unwrap();
    assert_eq!(report.failed, AttrMask::MODE);
    assert_eq!(report.errno, Some(Errno::EOPNOTSUPP));
    assert_eq!(link.attr(&CALL, AttrMask::all()).unwrap().mtime.sec, 9);
    assert_eq!(dir.attr(&CALL, AttrMask::all()).unwrap().mtime.sec, 7);
    let set = SetAttr {
        uid: Some(u32::MAX),
        ..SetAttr::default()
    };
    let report = dir.set_attr(&CALL, &set, None).unwrap();
    assert_eq!(
        (report.failed, report.errno),
        (AttrMask::UID, Some(Errno::EINVAL))
    );
}

#[test]
fn owner_and_mode_together_keep_the_bits_that_a_new_owner_takes() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: only user 0 gives files away");
        return;
    }
    let rig = Rig::new();
    fs::write(rig.path("f"), "").unwrap();
    let file = rig.walk("f").unwrap().file;
    let set = SetAttr {
        mode: Some(0o6711),
        uid: Some(7),
        gid: Some(8),
        ..SetAttr::default()
    };
    file.set_attr(&CALL, &set, None).unwrap();
    let attr = file.attr(&CALL, AttrMask::all()).unwrap();
    assert_eq!((attr.mode, attr.uid, attr.gid), (0o6711, 7, 8));
}

#[test]
fn a_size_is_set_through_the_handle_that_may_write() {
    let rig = Rig::new();
    fs::write(rig.path("f"), "12345").unwrap();
    fs::write(rig.path("g"), "12345").unwrap();
    let file = rig.walk("f").unwrap().file;
    let other = rig.walk("g").unwrap().file;
    let set = SetAttr {
        size: Some(2),
        ..SetAttr::default()
    };
    let (read, write) = (
        file.open(&CALL, READ).unwrap(),
        file.open(&CALL, WRITE).unwrap(),
    );
    fs::remove_file(rig.path("f")).unwrap();
    for through in [&write, &read] {
        let report = file.set_attr(&CALL, &set, Some(&**through)).unwrap();
        assert_eq!(report.errno, None);
        assert_eq!(write.attr(&CALL, AttrMask::all()).unwrap().size, 2);
    }
    // A handle of another file is not used for this one.
    let report = other.set_attr(&CALL, &set, Some(&*write)).unwrap();
    assert_eq!(report.errno, None);
    assert_eq!(fs::read(rig.path("g")).unwrap(), b"12");
}

#[test]
fn extended_attributes_of_files_that_may_have_them() {
    let rig = Rig::new();
    fs::write(rig.path("f"), "").unwrap();
    let file = rig.walk("f").unwrap().file;
    let plain = XattrFlags::empty();
    let set = |value: &[u8], flags| file.set_xattr(&CALL, b"user.a", value, flags);
    if errno(set(b"1", plain)) == Some(Errno::EOPNOTSUPP) {
        eprintln!("not run: the file system has none");
        return;
    }
    let long = vec![7; 3000];
    set(&long, XattrFlags::REPLACE).unwrap();
    assert_eq!(file.get_xattr(&CALL, b"user.a", 1).unwrap(), long);
    assert_eq!(errno(set(b"2", XattrFlags::CREATE)), Some(Errno::EEXIST));
    file.set_xattr(&CALL, b"user.empty", b"", plain).unwrap();
    assert_eq!(file.get_xattr(&CALL, b"user.empty", 0).unwrap(), b"");
    let mut names = Vec::new();
    let mut each = |name: &[u8]| names.push(name.to_vec());
    file.list_xattr(&CALL, &mut each).unwrap();
    names.retain(|name| name.starts_with(b"user."));
    names.sort();
    assert_eq!(names, [&b"user.a"[..], b"user.empty"]);
    file.remove_xattr(&CALL, b"user.a").unwrap();
    assert_eq!(
        errno(file.get_xattr(&CALL, b"user.a", 0)),
        Some(Errno::ENODATA)
    );
    assert_eq!(
        errno(file.remove_xattr(&CALL, b"user.a")),
        Some(Errno::ENODATA)
    );
    assert_eq!(
        errno(file.get_xattr(&CALL, b"user.\0", 0)),
        Some(Errno::EINVAL)
    );
    assert_eq!(
        file.attr(&CALL, AttrMask::TYPE).unwrap().file_type,
        FileType::Regular
    );
}
