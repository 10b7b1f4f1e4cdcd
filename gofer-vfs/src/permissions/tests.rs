//! The tables of semantics 12, one row a case.

use super::*;
use crate::attr::{AttrMask, Timestamp};

fn file(file_type: FileType, mode: u16, uid: u32, gid: u32) -> Attr {
    Attr {
        mask: AttrMask::BASIC,
        mode,
        uid,
        gid,
        ..Attr::of_type(file_type)
    }
}

fn user() -> Credentials {
    Credentials::user(1000, 100, vec![200, 300])
}

fn with_caps(caps: Caps) -> Credentials {
    Credentials { caps, ..user() }
}

const R: AccessMask = AccessMask::READ;
const W: AccessMask = AccessMask::WRITE;
const X: AccessMask = AccessMask::EXECUTE;
const EPERM: Result<(), Errno> = Err(Errno::EPERM);
const EACCES: Result<(), Errno> = Err(Errno::EACCES);

#[test]
fn exactly_one_triplet_counts() {
    let rows = [
        // mode, uid, gid, wanted, granted
        (0o700, 1000, 1, R | W | X, true),
        (0o077, 1000, 100, R, false), // the owner's triplet, though group and others may
        (0o070, 1, 100, R | W | X, true),
        (0o070, 1, 300, R | W | X, true), // a supplementary group
        (0o707, 1, 200, R, false),        // the group's triplet, though others may
        (0o007, 1, 1, R | W | X, true),
        (0o006, 1, 1, X, false),
        (0o770, 1, 1, R, false),
        (0o000, 1, 1, AccessMask::empty(), true),
    ];
    for (mode, uid, gid, want, granted) in rows {
        let attr = file(FileType::Regular, mode, uid, gid);
        let found = check_access(&user(), &attr, want);
        assert_eq!(found.is_ok(), granted, "{mode:o} {uid}:{gid} {want:?}");
    }
}

#[test]
fn capabilities_stand_in_for_bits() {
    let rows = [
        // capability, type, mode, wanted, granted
        (Caps::DAC_READ_SEARCH, FileType::Directory, 0, R | X, true),
        (Caps::DAC_READ_SEARCH, FileType::Directory, 0, W, false),
        (Caps::DAC_READ_SEARCH, FileType::Regular, 0, R, true),
        (
            Caps::DAC_READ_SEARCH,
            FileType::Regular,
            0o111,
            R | X,
            false,
        ),
        (Caps::DAC_OVERRIDE, FileType::Directory, 0, R | W | X, true),
        (Caps::DAC_OVERRIDE, FileType::Regular, 0, R | W, true),
        (Caps::DAC_OVERRIDE, FileType::Regular, 0o666, X, false),
        (Caps::DAC_OVERRIDE, FileType::Regular, 0o001, X, true),
        (Caps::FOWNER | Caps::CHOWN, FileType::Regular, 0, R, false),
    ];
    for (caps, file_type, mode, want, granted) in rows {
        let attr = file(file_type, mode, 1, 1);
        let found = check_access(&with_caps(caps), &attr, want);
        assert_eq!(
            found.is_ok(),
            granted,
            "{caps:?} {file_type:?} {mode:o} {want:?}"
        );
    }
}

#[test]
fn open_flags_tell_the_access_they_need() {
    let rows = [
        (OpenFlags::RDONLY, R),
        (OpenFlags::WRONLY, W),
        (OpenFlags::RDWR, R | W),
        (OpenFlags::WRONLY | OpenFlags::RDWR, R | W),
        (OpenFlags::TRUNC, R | W),
        (OpenFlags::WRONLY | OpenFlags::TRUNC, W),
    ];
    for (flags, want) in rows {
        assert_eq!(access_to_open(flags), want, "{flags:?}");
    }
}

#[test]
fn others_may_link_only_harmless_files_they_can_write() {
    let rows = [
        // type, mode, owner, may
        (FileType::Regular, 0o666, 1, true),
        (FileType::Regular, 0o644, 1, false),
        (FileType::Regular, 0o4666, 1, false),
        (FileType::Regular, 0o2676, 1, false), // runs as its group
        (FileType::Regular, 0o2666, 1, true),
        (FileType::Fifo, 0o666, 1, false),
        (FileType::Symlink, 0o777, 1, false),
        (FileType::Regular, 0o6000, 1000, true), // his own
    ];
    for (file_type, mode, uid, may) in rows {
        let attr = file(file_type, mode, uid, 1);
        let expected = if may { Ok(()) } else { EPERM };
        assert_eq!(
            check_link(&user(), &attr),
            expected,
            "{file_type:?} {mode:o}"
        );
        assert_eq!(check_link(&with_caps(Caps::FOWNER), &attr), Ok(()));
    }
}

#[test]
fn sticky_directories_protect_names_of_others() {
    let rows = [
        // directory's mode and owner, child's owner, may
        (0o1777, 0, 0, false),
        (0o0777, 0, 0, true),
        (0o1777, 1000, 0, true),
        (0o1777, 0, 1000, true),
    ];
    for (mode, dir_uid, child_uid, may) in rows {
        let dir = file(FileType::Directory, mode, dir_uid, 0);
        let child = file(FileType::Regular, 0o666, child_uid, 0);
        let expected = if may { Ok(()) } else { EPERM };
        assert_eq!(check_sticky(&user(), &dir, &child), expected);
        assert_eq!(check_sticky(&with_caps(Caps::FOWNER), &dir, &child), Ok(()));
    }
}

#[test]
fn setgid_directories_hand_down_their_group() {
    let plain = file(FileType::Directory, 0o755, 5, 6);
    let setgid = file(FileType::Directory, 0o2755, 5, 6);
    let rows = [
        // parent, directory, mode, resulting group and mode
        (&plain, false, 0o644, 100, 0o644),
        (&plain, true, 0o755, 100, 0o755),
        (&setgid, false, 0o644, 6, 0o644),
        (&setgid, true, 0o755, 6, 0o2755),
        (&setgid, false, 0o2755, 6, 0o755), // no member of group 6
        (&setgid, false, 0o2745, 6, 0o2745),
        (&plain, false, 0o2755, 100, 0o2755),
    ];
    for (parent, directory, mode, gid, result) in rows {
        let (owner, found) = new_file(&user(), parent, directory, mode);
        assert_eq!((owner.uid, owner.gid), (Some(1000), Some(gid)));
        assert_eq!(found, result, "{:o} {mode:o}", parent.mode);
    }
}

fn by_path() -> SetAttrSetting {
    SetAttrSetting {
        readonly: false,
        size_needs_write: true,
        file_size_limit: u64::MAX,
    }
}

fn at(sec: i64) -> Option<SetTime> {
    Some(SetTime::At(Timestamp { sec, nsec: 0 }))
}

#[test]
fn only_the_owner_changes_mode_and_explicit_times() {
    let now = Some(SetTime::Now);
    let mode = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    let explicit = SetAttr {
        atime: at(1),
        mtime: now,
        ..SetAttr::default()
    };
    let touch = SetAttr {
        atime: now,
        mtime: now,
        ..SetAttr::default()
    };
    let half = SetAttr {
        mtime: now,
        ..SetAttr::default()
    };
    let rows = [
        // change, verdict on 0666 of somebody else, on 0444 of somebody else, on his own 0000
        (mode, EPERM, EPERM, Ok(())),
        (explicit, EPERM, EPERM, Ok(())),
        (touch, Ok(()), EACCES, Ok(())),
        (half, EPERM, EPERM, Ok(())),
    ];
    for (set, writable, readable, own) in rows {
        let verdict = |mode, uid| {
            let attr = file(FileType::Regular, mode, uid, 1);
            check_set_attr(&user(), &attr, &set, by_path())
        };
        assert_eq!(verdict(0o666, 1), writable, "{set:?}");
        assert_eq!(verdict(0o444, 1), readable, "{set:?}");
        assert_eq!(verdict(0, 1000), own, "{set:?}");
    }
}

#[test]
fn giving_away_needs_a_capability_and_groups_a_membership() {
    let rows = [
        // new uid, new gid, verdict for the owner 1000:100
        (Some(1000), None, Ok(())),
        (Some(1), None, EPERM),
        (None, Some(200), Ok(())),
        (None, Some(100), Ok(())),
        (None, Some(999), EPERM),
        (Some(1000), Some(300), Ok(())),
    ];
    let own = file(FileType::Regular, 0o644, 1000, 100);
    let foreign = file(FileType::Regular, 0o666, 1, 100);
    for (uid, gid, verdict) in rows {
        let set = SetAttr {
            uid,
            gid,
            ..SetAttr::default()
        };
        assert_eq!(check_set_attr(&user(), &own, &set, by_path()), verdict);
        assert_eq!(check_set_attr(&user(), &foreign, &set, by_path()), EPERM);
        let chown = with_caps(Caps::CHOWN);
        assert_eq!(check_set_attr(&chown, &foreign, &set, by_path()), Ok(()));
    }
}

#[test]
fn setattr_checks_come_in_the_order_of_linux() {
    let strict = SetAttrSetting {
        readonly: true,
        size_needs_write: true,
        file_size_limit: 10,
    };
    let writable_mount = SetAttrSetting {
        readonly: false,
        ..strict
    };
    let descriptor = SetAttrSetting {
        size_needs_write: false,
        ..writable_mount
    };
    let size = SetAttr {
        size: Some(11),
        mode: Some(0),
        ..SetAttr::default()
    };
    let foreign = |file_type| file(file_type, 0o444, 1, 1);
    let verdict = |file_type, setting| check_set_attr(&user(), &foreign(file_type), &size, setting);
    assert_eq!(verdict(FileType::Directory, strict), Err(Errno::EISDIR));
    assert_eq!(verdict(FileType::Fifo, strict), Err(Errno::EINVAL));
    assert_eq!(verdict(FileType::Regular, strict), Err(Errno::EROFS));
    assert_eq!(verdict(FileType::Regular, writable_mount), EACCES);
    assert_eq!(verdict(FileType::Regular, descriptor), Err(Errno::EFBIG));
    let link = SetAttr {
        mode: Some(0o777),
        ..SetAttr::default()
    };
    let symlink = foreign(FileType::Symlink);
    let found = check_set_attr(&user(), &symlink, &link, by_path());
    assert_eq!(found, Err(Errno::EOPNOTSUPP));
    let nothing = check_set_attr(&user(), &symlink, &SetAttr::default(), strict);
    assert_eq!(nothing, Ok(()));
}

#[test]
fn privileges_go_with_owner_and_size() {
    let chown = SetAttr {
        uid: Some(7),
        ..SetAttr::default()
    };
    let same = SetAttr {
        uid: Some(1000),
        gid: Some(100),
        ..SetAttr::default()
    };
    let truncate = SetAttr {
        size: Some(0),
        ..SetAttr::default()
    };
    let chown_and_mode = SetAttr {
        mode: Some(0o6711),
        ..chown
    };
    let rows = [
        // type, mode, change, mode sent
        (FileType::Regular, 0o4755, chown, Some(0o755)),
        (FileType::Regular, 0o6755, chown, Some(0o755)),
        (FileType::Regular, 0o2644, chown, None), // no group-execute: stays
        (FileType::Regular, 0o755, chown, None),
        (FileType::Regular, 0o6755, same, None),
        (FileType::Directory, 0o6755, chown, None),
        (FileType::BlockDevice, 0o4660, chown, Some(0o660)),
        (FileType::Socket, 0o4660, chown, Some(0o660)),
        (FileType::Regular, 0o6755, truncate, Some(0o755)),
        (FileType::Regular, 0o755, chown_and_mode, Some(0o711)),
    ];
    for (file_type, mode, set, sent) in rows {
        let attr = file(file_type, mode, 1000, 100);
        assert_eq!(
            mode_to_set(&user(), &attr, &set),
            sent,
            "{file_type:?} {mode:o}"
        );
    }
    let suid = file(FileType::Regular, 0o4755, 0, 0);
    assert_eq!(mode_to_set(&Credentials::root(), &suid, &truncate), None);
    assert_eq!(
        mode_to_set(&Credentials::root(), &suid, &chown),
        Some(0o755)
    );
}

#[test]
fn chmod_by_a_stranger_to_the_group_drops_setgid() {
    let chmod = SetAttr {
        mode: Some(0o2755),
        ..SetAttr::default()
    };
    let rows = [(100, 0o2755), (200, 0o2755), (999, 0o755)];
    for (gid, sent) in rows {
        let attr = file(FileType::Regular, 0o644, 1000, gid);
        assert_eq!(mode_to_set(&user(), &attr, &chmod), Some(sent));
        assert_eq!(
            mode_to_set(&with_caps(Caps::FSETID), &attr, &chmod),
            Some(0o2755)
        );
    }
}

#[test]
fn writing_drops_privileges_of_regular_files() {
    let rows = [
        (FileType::Regular, 0o4755, Some(0o755)),
        (FileType::Regular, 0o2755, Some(0o755)),
        (FileType::Regular, 0o2644, None),
        (FileType::Regular, 0o644, None),
        (FileType::Fifo, 0o4644, None),
    ];
    for (file_type, mode, after) in rows {
        let attr = file(file_type, mode, 1000, 100);
        assert_eq!(mode_after_write(&user(), &attr), after);
        assert_eq!(mode_after_write(&Credentials::root(), &attr), None);
    }
}
