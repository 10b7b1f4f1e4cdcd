//! Opening, making, removing, renaming; attributes of both kinds.
//!
//! The snapshots are trace lines: requests as they were sent, replies as they were read.

use gofer_vfs::remote::{New, OpenMode, Owner, RemoteError};
use gofer_vfs::{Access, AttrMask, Device, Errno, RenameFlags, SetAttr, SetTime, XattrFlags};

use super::agreeable::{CALL, READ_WRITE, name, session, session_but};
use super::peer::file;
use crate::wire::{Rucreate, Rxattrwalk, SetattrMask, TMessage, Tsetattr, Version};

#[test]
fn a_file_is_made_on_a_clone_of_its_directory() {
    let owner = Owner {
        uid: Some(7),
        gid: Some(8),
    };
    for version in [Version::NEWEST, Version::Base] {
        let session = self::session(version);
        let (found, handle) = session
            .file()
            .create(&CALL, name("f"), 0o640, owner, READ_WRITE)
            .unwrap();
        assert_eq!(found.key.id, [0x66, 0]);
        drop(handle);
        match version {
            Version::Base => insta::assert_snapshot!(session.lines(), @r#"
            > Twalk tag 0 fid 0 newfid 1 names []
            < Rwalk tag 0 qids []
            > Tlcreate tag 0 fid 1 name "f" flags 0xc2 mode 0640 gid 8
            < Rlcreate tag 0 qid 00.0.66 iounit 0
            > Twalk tag 0 fid 0 newfid 2 names [f]
            > Tgetattr tag 1 fid 1 request_mask 0x7ff
            < Rwalk tag 0 qids [00.0.66]
            < Rgetattr tag 1 valid 0x7ff qid 00.0.66 mode 0100644 uid 0 gid 0 nlink 1 size 0
            "#),
            _ => insta::assert_snapshot!(session.lines(), @r#"
            > Twalk tag 0 fid 0 newfid 1 names []
            < Rwalk tag 0 qids []
            > Tucreate tag 0 fid 1 name "f" flags 0x2 mode 0640 gid 8 uid 7
            < Rucreate tag 0 qid 00.0.66 iounit 0
            > Twalkgetattr tag 0 fid 0 newfid 2 names [f]
            < Rwalkgetattr tag 0 valid 0x7ff mode 0100644 uid 0 gid 0 nlink 1 size 0 qids [00.0.66]
            "#),
        }
    }
}

#[test]
fn a_file_made_and_replaced_meanwhile_is_stale_and_leaves_no_fid() {
    let session = session_but(Version::NEWEST, |peer, request| match request.message() {
        TMessage::Tucreate(_) => {
            peer.reply(
                request.tag,
                Rucreate {
                    qid: file(0xbad),
                    iounit: 0,
                },
            );
            true
        }
        _ => false,
    });
    let made = session
        .file()
        .create(&CALL, name("f"), 0o640, Owner::default(), READ_WRITE);
    assert_eq!(made.err(), Some(RemoteError::refused(Errno::ESTALE)));
    for _ in 0..2 {
        session.file().attr(&CALL, AttrMask::BASIC).unwrap();
    }
    assert_eq!(
        session.filesystem.line.session().lock().table.fids_in_use(),
        1
    );
}

#[test]
fn the_rest_is_made_with_an_owner_where_the_dialect_has_one() {
    let owner = Owner {
        uid: Some(7),
        gid: None,
    };
    let device = Device { major: 1, minor: 3 };
    let new = [
        New::Dir,
        New::Regular,
        New::Symlink(b"to"),
        New::Fifo,
        New::Char(device),
    ];
    for version in [Version::NEWEST, Version::Base] {
        let session = self::session(version);
        for new in new {
            let made = session
                .file()
                .make(&CALL, name("n"), new, 0o640, owner)
                .unwrap();
            assert!(made.is_none());
        }
        let lines = session.lines();
        let sent: Vec<_> = lines.lines().filter(|line| line.starts_with('>')).collect();
        match version {
            Version::Base => insta::assert_snapshot!(sent.join("\n"), @r#"
            > Tmkdir tag 0 dfid 0 name "n" mode 0640 gid none
            > Tmknod tag 0 dfid 0 name "n" mode 0100640 major 0 minor 0 gid none
            > Tsymlink tag 0 dfid 0 name "n" symtgt "to" gid none
            > Tmknod tag 0 dfid 0 name "n" mode 010640 major 0 minor 0 gid none
            > Tmknod tag 0 dfid 0 name "n" mode 020640 major 1 minor 3 gid none
            "#),
            _ => insta::assert_snapshot!(sent.join("\n"), @r#"
            > Tumkdir tag 0 dfid 0 name "n" mode 0640 gid none uid 7
            > Tumknod tag 0 dfid 0 name "n" mode 0100640 major 0 minor 0 gid none uid 7
            > Tusymlink tag 0 dfid 0 name "n" symtgt "to" gid none uid 7
            > Tumknod tag 0 dfid 0 name "n" mode 010640 major 0 minor 0 gid none uid 7
            > Tumknod tag 0 dfid 0 name "n" mode 020640 major 1 minor 3 gid none uid 7
            "#),
        }
    }
}

#[test]
fn opening_truncates_by_flag_or_by_size() {
    let mode = OpenMode {
        access: Access::Write,
        truncate: true,
    };
    for version in [Version::Google(9), Version::Google(8)] {
        let session = self::session(version);
        session.file().open(&CALL, mode).unwrap();
        match version {
            Version::Google(9) => insta::assert_snapshot!(session.lines(), @r#"
            > Twalk tag 0 fid 0 newfid 1 names []
            < Rwalk tag 0 qids []
            > Tlopen tag 0 fid 1 flags 0x201
            < Rlopen tag 0 qid 80.0.1 iounit 0
            "#),
            _ => insta::assert_snapshot!(session.lines(), @r#"
            > Twalk tag 0 fid 0 newfid 1 names []
            < Rwalk tag 0 qids []
            > Tlopen tag 0 fid 1 flags 0x1
            < Rlopen tag 0 qid 80.0.1 iounit 0
            > Tsetattr tag 0 fid 1 valid 0x8 mode 00 uid none gid none size 0 atime_sec 0 atime_nsec 0 mtime_sec 0 mtime_nsec 0
            < Rsetattr tag 0
            "#),
        }
    }
}

#[test]
fn without_removal_and_renaming_by_name_it_goes_by_fid_from_then_on() {
    let session = session_but(Version::Base, |peer, request| match request.message() {
        TMessage::Tunlinkat(_) | TMessage::Trenameat(_) => {
            peer.error(request.tag, 95);
            true
        }
        _ => false,
    });
    let root = session.file();
    for text in ["f", "f2"] {
        root.unlink(&CALL, name(text), false, None).unwrap();
    }
    insta::assert_snapshot!(session.lines(), @r#"
    > Tunlinkat tag 0 dirfid 0 name "f" flags 0x0
    < Rlerror tag 0 EOPNOTSUPP
    > Twalk tag 0 fid 0 newfid 1 names [f]
    < Rwalk tag 0 qids [00.0.66]
    > Tremove tag 0 fid 1
    < Rremove tag 0
    > Twalk tag 0 fid 0 newfid 1 names [f2]
    < Rwalk tag 0 qids [00.0.6632]
    > Tremove tag 0 fid 1
    < Rremove tag 0
    "#);
    let wrong = [("f", true, Errno::ENOTDIR), ("d", false, Errno::EISDIR)];
    for (text, dir, errno) in wrong {
        let error = root.unlink(&CALL, name(text), dir, None).unwrap_err();
        assert_eq!(error, RemoteError::refused(errno));
        session.settle();
    }
    let (_, found) = session.walk(&["f"]);
    session.lines();
    let flags = RenameFlags::empty();
    root.rename(
        &CALL,
        name("f"),
        Some(found[0].file.as_ref()),
        (root, name("g")),
        flags,
    )
    .unwrap();
    root.rename(&CALL, name("f"), None, (root, name("g")), flags)
        .unwrap();
    insta::assert_snapshot!(session.lines(), @r#"
    > Trenameat tag 0 olddirfid 0 oldname "f" newdirfid 0 newname "g"
    < Rlerror tag 0 EOPNOTSUPP
    > Trename tag 0 fid 1 dfid 0 name "g"
    < Rrename tag 0
    > Twalk tag 0 fid 0 newfid 2 names [f]
    < Rwalk tag 0 qids [00.0.66]
    > Trename tag 0 fid 2 dfid 0 name "g"
    < Rrename tag 0
    "#);
    let refused = root.rename(
        &CALL,
        name("f"),
        None,
        (root, name("g")),
        RenameFlags::NOREPLACE,
    );
    assert_eq!(refused, Err(RemoteError::not_sent(Errno::EINVAL)));
}

#[test]
fn errors_other_than_95_do_not_fall_back() {
    let session = session_but(Version::Base, |peer, request| match request.message() {
        TMessage::Tunlinkat(_) => {
            peer.error(request.tag, 38);
            true
        }
        _ => false,
    });
    let error = session
        .file()
        .unlink(&CALL, name("f"), false, None)
        .unwrap_err();
    assert_eq!(error, RemoteError::refused(Errno::ENOSYS));
}

#[test]
fn attributes_that_could_not_be_set_are_reported() {
    let session = session_but(Version::Base, |peer, request| match request.message() {
        TMessage::Tsetattr(Tsetattr { valid, .. }) if valid.contains(SetattrMask::UID) => {
            peer.error(request.tag, 1);
            true
        }
        _ => false,
    });
    let root = session.file();
    let handle = session.open();
    let set = SetAttr {
        mode: Some(0o600),
        mtime: Some(SetTime::Now),
        ..SetAttr::default()
    };
    let report = root.set_attr(&CALL, &set, None).unwrap();
    assert!(report.failed.is_empty());
    root.set_attr(
        &CALL,
        &SetAttr {
            size: Some(3),
            ..SetAttr::default()
        },
        Some(&*handle),
    )
    .unwrap();
    let set = SetAttr {
        uid: Some(0),
        ..set
    };
    let report = root.set_attr(&CALL, &set, None).unwrap();
    assert_eq!(
        (report.failed, report.errno),
        (set.mask(), Some(Errno::EPERM))
    );
    root.set_attr(&CALL, &SetAttr::default(), None).unwrap();
    insta::assert_snapshot!(session.lines(), @r#"
    > Tsetattr tag 0 fid 0 valid 0x21 mode 0600 uid none gid none size 0 atime_sec 0 atime_nsec 0 mtime_sec 0 mtime_nsec 0
    < Rsetattr tag 0
    > Tsetattr tag 0 fid 1 valid 0x8 mode 00 uid none gid none size 3 atime_sec 0 atime_nsec 0 mtime_sec 0 mtime_nsec 0
    < Rsetattr tag 0
    > Tsetattr tag 0 fid 0 valid 0x23 mode 0600 uid 0 gid none size 0 atime_sec 0 atime_nsec 0 mtime_sec 0 mtime_nsec 0
    < Rlerror tag 0 EPERM
    "#);
}

#[test]
fn attributes_go_by_message_or_as_files() {
    for version in [Version::NEWEST, Version::Base] {
        let session = self::session(version);
        let root = session.file();
        let value = root.get_xattr(&CALL, b"user.a", 100).unwrap();
        let mut names = Vec::new();
        root.list_xattr(&CALL, &mut |name| names.push(name.to_vec()))
            .unwrap();
        root.set_xattr(&CALL, b"user.a", b"value", XattrFlags::CREATE)
            .unwrap();
        root.remove_xattr(&CALL, b"user.a").unwrap();
        let lines = session.lines();
        let sent: Vec<_> = lines.lines().filter(|line| line.starts_with('>')).collect();
        match version {
            Version::Base => {
                assert_eq!(
                    (&value[..], &names[..]),
                    (&b"ab\0cd\0"[..], &[b"ab", b"cd"].map(|n| n.to_vec())[..])
                );
                insta::assert_snapshot!(sent.join("\n"), @r#"
                > Txattrwalk tag 0 fid 0 newfid 1 name "user.a"
                > Tread tag 0 fid 1 offset 0 count 6
                > Tread tag 0 fid 1 offset 4 count 2
                > Txattrwalk tag 0 fid 0 newfid 2 name ""
                > Tclunk tag 1 fid 1
                > Tread tag 0 fid 2 offset 0 count 6
                > Tread tag 0 fid 2 offset 4 count 2
                > Twalk tag 0 fid 0 newfid 1 names []
                > Tclunk tag 1 fid 2
                > Txattrcreate tag 0 fid 1 name "user.a" attr_size 5 flags 0x1
                > Twrite tag 0 fid 1 offset 0 data 5 bytes
                > Twrite tag 0 fid 1 offset 4 data 1 bytes
                > Tclunk tag 0 fid 1
                > Twalk tag 0 fid 0 newfid 1 names []
                > Txattrcreate tag 0 fid 1 name "user.a" attr_size 0 flags 0x2
                > Tclunk tag 0 fid 1
                "#);
                let error = root.set_xattr(&CALL, b"user.a", b"", XattrFlags::empty());
                assert_eq!(error, Err(RemoteError::not_sent(Errno::EOPNOTSUPP)));
            }
            _ => {
                assert_eq!((&value[..], names.len()), (&b"value"[..], 2));
                insta::assert_snapshot!(sent.join("\n"), @r#"
                > Tgetxattr tag 0 fid 0 name "user.a" size 100
                > Tlistxattr tag 0 fid 0 size 0
                > Tsetxattr tag 0 fid 0 name "user.a" value 5 bytes flags 0x1
                > Tremovexattr tag 0 fid 0 name "user.a"
                "#);
                let error = root.set_xattr(&CALL, b"user.a", &[0; 65536], XattrFlags::empty());
                assert_eq!(error, Err(RemoteError::not_sent(Errno::E2BIG)));
            }
        }
    }
    let session = self::session(Version::Google(9));
    let error = session.file().get_xattr(&CALL, b"user.a", 100);
    assert_eq!(error, Err(RemoteError::not_sent(Errno::EOPNOTSUPP)));
}

#[test]
fn an_absurd_attribute_size_is_not_believed() {
    let session = session_but(Version::Base, |peer, request| match request.message() {
        TMessage::Txattrwalk(_) => {
            peer.reply(request.tag, Rxattrwalk { size: u64::MAX });
            true
        }
        _ => false,
    });
    let error = session.file().get_xattr(&CALL, b"user.a", 0);
    assert_eq!(error, Err(RemoteError::refused(Errno::E2BIG)));
}
