//! What each operation sends, and what it makes of the answer.

use gofer_lisafs::wire::{
    FGetXattrResp, FListXattrResp, FRemoveXattrResp, FSetXattrResp, FStatFSResp, FSyncResp, Fdid,
    LinkAtResp, Message, Mid, MkdirAtResp, MknodAtResp, OpenAtResp, OpenCreateAtResp,
    ReadLinkAtResp, RenameAt2Resp, RenameAtResp, SetStatResp, StatFs, Strings, SymlinkAtResp,
    UnlinkAtResp,
};
use gofer_vfs::remote::{Fate, Found, New, OpenMode, Owner, RemoteHandle, RemoteResult};
use gofer_vfs::{
    Access, AttrMask, Device, Errno, FileType, Name, RenameFlags, SetAttr, SetTime, Timestamp,
    XattrFlags,
};

use crate::common::peer::{Session, all, call, inode, session, session_with};

const OWNER: Owner = Owner {
    uid: Some(1000),
    gid: None,
};

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

/// A server that expects one request, shown as `request`, and answers it with `response`.
fn one<M>(request: &'static str, response: M) -> Session<()>
where
    M: for<'r> Message<'r> + Send + 'static,
{
    session(move |peer| {
        assert_eq!(peer.expect(M::MID), request);
        peer.reply(&response, &[]);
    })
}

fn made(result: RemoteResult<Option<Found>>) -> FileType {
    result
        .unwrap()
        .expect("lisafs always names what it made")
        .attr
        .file_type
}

#[test]
fn making_sends_the_owner_and_takes_the_new_file() {
    let request = "> MkdirAt common dir_fd 1 owner 1000:-1 mode 750 name d";
    let served = one(
        request,
        MkdirAtResp {
            child_dir: inode(2, 0o040750),
        },
    );
    let result = served
        .root
        .file
        .make(&call(), name("d"), New::Dir, 0o750, OWNER);
    assert_eq!(made(result), FileType::Directory);
    served.finish();

    let request = "> SymlinkAt dir_fd 1 uid 1000 gid 4294967295 name l target ../t";
    let served = one(
        request,
        SymlinkAtResp {
            symlink: inode(2, 0o120777),
        },
    );
    let result = served
        .root
        .file
        .make(&call(), name("l"), New::Symlink(b"../t"), 0, OWNER);
    assert_eq!(made(result), FileType::Symlink);
    served.finish();

    let nodes = [
        (New::Regular, 0o100000, "100640 minor 0 major 0"),
        (New::Fifo, 0o010000, "10640 minor 0 major 0"),
        (New::Socket, 0o140000, "140640 minor 0 major 0"),
        (
            New::Char(Device { major: 5, minor: 1 }),
            0o020000,
            "20640 minor 1 major 5",
        ),
        (
            New::Block(Device { major: 8, minor: 2 }),
            0o060000,
            "60640 minor 2 major 8",
        ),
    ];
    for (new, type_bits, shown) in nodes {
        let served = session(move |peer| {
            let request = peer.expect(Mid::MKNOD_AT);
            assert_eq!(
                request,
                format!("> MknodAt common dir_fd 1 owner 1000:-1 mode {shown} name n")
            );
            peer.reply(
                &MknodAtResp {
                    child: inode(2, type_bits | 0o640),
                },
                &[],
            );
        });
        let result = served.root.file.make(&call(), name("n"), new, 0o640, OWNER);
        assert_eq!(made(result).mode_bits(), u32::from(type_bits));
        served.finish();
    }
}

#[test]
fn something_else_than_what_was_made_is_eio_and_closed() {
    let session = session(|peer| {
        peer.expect(Mid::MKDIR_AT);
        peer.reply(
            &MkdirAtResp {
                child_dir: inode(2, 0o100644),
            },
            &[],
        );
        peer.expect(Mid::OPEN_CREATE_AT);
        let child = inode(3, 0o120777);
        peer.reply(
            &OpenCreateAtResp {
                child,
                open_fd: Fdid::new(4),
            },
            &[],
        );
        peer.expect(Mid::OPEN_CREATE_AT);
        let child = inode(5, 0o100644);
        peer.reply(
            &OpenCreateAtResp {
                child,
                open_fd: Fdid::NONE,
            },
            &[],
        );
        peer.expect_close()
    });
    let file = &session.root.file;
    let error = file
        .make(&call(), name("d"), New::Dir, 0o755, OWNER)
        .err()
        .unwrap();
    assert_eq!(error.errno, Errno::EIO);
    let mode = OpenMode {
        access: Access::Write,
        truncate: false,
    };
    for _ in 0..2 {
        let error = file
            .create(&call(), name("f"), 0o644, OWNER, mode)
            .err()
            .unwrap();
        assert_eq!(error.errno, Errno::EIO);
    }
    session.fs.flush_closes(&call()).unwrap();
    assert_eq!(session.finish(), [2, 3, 4, 5]);
}

#[test]
fn create_sends_the_access_mode_and_gives_file_and_handle() {
    let host = tempfile::tempfile().unwrap();
    let session = session(move |peer| {
        let request = peer.expect(Mid::OPEN_CREATE_AT);
        assert_eq!(
            request,
            "> OpenCreateAt common dir_fd 1 owner 1000:-1 mode 644 flags 2 name f"
        );
        let response = OpenCreateAtResp {
            child: inode(2, 0o100644),
            open_fd: Fdid::new(3),
        };
        peer.reply(&response, &[std::os::fd::AsFd::as_fd(&host)]);
    });
    let mode = OpenMode {
        access: Access::ReadWrite,
        truncate: true,
    };
    let result = session
        .root
        .file
        .create(&call(), name("f"), 0o644, OWNER, mode);
    let (found, handle) = result.unwrap();
    assert_eq!(found.attr.file_type, FileType::Regular);
    assert!(handle.host_fd().is_some());
    drop((found, handle));
    session.finish();
}

#[test]
fn open_sends_access_mode_and_truncation_only() {
    for (access, truncate, flags) in [
        (Access::Read, false, 0),
        (Access::Write, true, 0o1001),
        (Access::ReadWrite, true, 0o1002),
    ] {
        let session = session(move |peer| {
            let request = peer.expect(Mid::OPEN_AT);
            assert_eq!(request, format!("> OpenAt fd 1 flags {flags}"));
            peer.reply(
                &OpenAtResp {
                    open_fd: Fdid::new(9),
                },
                &[],
            );
        });
        drop(
            session
                .root
                .file
                .open(&call(), OpenMode { access, truncate })
                .unwrap(),
        );
        session.finish();
    }
}

#[test]
fn set_attr_reports_what_could_not_be_set() {
    let request = "> SetStat fd 1 mask 618 mode 493 uid 7 gid 4294967295 size 10 \
                   atime 0s 1073741823ns mtime 5s 6ns";
    let response = SetStatResp {
        failure_mask: 0x8 | 0x800 | 0x10,
        failure_errno: 1,
    };
    let session = one(request, response);
    let set = SetAttr {
        mode: Some(0o755),
        uid: Some(7),
        gid: None,
        size: Some(10),
        atime: Some(SetTime::Now),
        mtime: Some(SetTime::At(Timestamp { sec: 5, nsec: 6 })),
    };
    let report = session.root.file.set_attr(&call(), &set, None).unwrap();
    // Only what was asked for can have failed.
    assert_eq!(report.failed, AttrMask::UID);
    assert_eq!(report.errno, Some(Errno::EPERM));
    session.finish();

    let request = "> SetStat fd 1 mask 2 mode 420 uid 4294967295 gid 4294967295 size 0 \
                   atime 0s 0ns mtime 0s 0ns";
    let session = one(
        request,
        SetStatResp {
            failure_mask: 0,
            failure_errno: 0,
        },
    );
    let set = SetAttr {
        mode: Some(0o644),
        ..SetAttr::default()
    };
    let report = session.root.file.set_attr(&call(), &set, None).unwrap();
    assert_eq!((report.failed, report.errno), (AttrMask::empty(), None));
    session.finish();
}

#[test]
fn link_unlink_and_rename_name_both_ends() {
    let session = session(|peer| {
        peer.expect(Mid::MKDIR_AT);
        peer.reply(
            &MkdirAtResp {
                child_dir: inode(2, 0o040755),
            },
            &[],
        );
        assert_eq!(
            peer.expect(Mid::LINK_AT),
            "> LinkAt dir_fd 2 target 1 name hard"
        );
        peer.reply(
            &LinkAtResp {
                link: inode(3, 0o040755),
            },
            &[],
        );
        assert_eq!(
            peer.expect(Mid::UNLINK_AT),
            "> UnlinkAt dir_fd 2 flags 0 name f"
        );
        peer.reply(&UnlinkAtResp {}, &[]);
        assert_eq!(
            peer.expect(Mid::UNLINK_AT),
            "> UnlinkAt dir_fd 2 flags 512 name d"
        );
        peer.reply(&UnlinkAtResp {}, &[]);
        let request = peer.expect(Mid::RENAME_AT);
        assert_eq!(
            request,
            "> RenameAt old_dir 1 new_dir 2 old_name a new_name b"
        );
        peer.reply(&RenameAtResp {}, &[]);
        let request = peer.expect(Mid::RENAME_AT2);
        assert_eq!(
            request,
            "> RenameAt2 old_dir 1 new_dir 2 old_name a new_name b flags 1"
        );
        peer.reply(&RenameAt2Resp {}, &[]);
    });
    let root = &session.root.file;
    let dir = root
        .make(&call(), name("d"), New::Dir, 0o755, OWNER)
        .unwrap()
        .unwrap()
        .file;
    drop(dir.link(&call(), name("hard"), &**root).unwrap());
    dir.unlink(&call(), name("f"), false, None).unwrap();
    dir.unlink(&call(), name("d"), true, None).unwrap();
    let to = (&*dir, name("b"));
    root.rename(&call(), name("a"), None, to, RenameFlags::empty())
        .unwrap();
    root.rename(&call(), name("a"), None, to, RenameFlags::NOREPLACE)
        .unwrap();
    drop(dir);
    session.finish();
}

#[test]
fn files_of_another_connection_are_exdev() {
    let (one, other) = (session(|peer| peer.rest()), session(|peer| peer.rest()));
    let (file, foreign) = (&one.root.file, &other.root.file);
    let error = file.link(&call(), name("l"), &**foreign).err().unwrap();
    assert_eq!((error.errno, error.fate), (Errno::EXDEV, Fate::NotSent));
    let to = (&**foreign, name("b"));
    let error = file
        .rename(&call(), name("a"), None, to, RenameFlags::empty())
        .unwrap_err();
    assert_eq!(error.errno, Errno::EXDEV);
    assert_eq!((one.finish(), other.finish()), (vec![], vec![]));
}

#[test]
fn what_the_server_does_not_list_is_refused_here() {
    let session = session_with(&[Mid::MOUNT, Mid::OPEN_AT], 65536, |peer| {
        peer.expect(Mid::OPEN_AT);
        peer.reply(
            &OpenAtResp {
                open_fd: Fdid::new(9),
            },
            &[],
        );
        peer.rest()
    });
    let file = &session.root.file;
    let mode = OpenMode {
        access: Access::Read,
        truncate: false,
    };
    let handle = file.open(&call(), mode).unwrap();
    let refused = |result: RemoteResult<()>| {
        let error = result.unwrap_err();
        assert_eq!(
            (error.errno, error.fate),
            (Errno::EOPNOTSUPP, Fate::NotSent)
        );
    };
    refused(file.attr(&call(), AttrMask::BASIC).map(drop));
    refused(file.list_xattr(&call(), &mut |_| ()));
    refused(file.walk(&call(), &[name("a")], &mut drop).map(drop));
    refused(file.stat_fs(&call()).map(drop));
    refused(handle.sync(&call(), false));
    let to = (&**file, name("b"));
    let error = file
        .rename(&call(), name("a"), None, to, RenameFlags::EXCHANGE)
        .unwrap_err();
    assert_eq!((error.errno, error.fate), (Errno::EINVAL, Fate::NotSent));
    // Not listing Flush only means that there is nothing to do.
    handle.flush(&call()).unwrap();
    assert!(session.fs.capabilities().rename_flags.is_empty());
    assert!(!session.fs.capabilities().allocate && !session.fs.capabilities().xattrs);
    drop(handle);
    assert_eq!(session.finish(), []);
}

#[test]
fn what_does_not_fit_is_refused_here() {
    let session = session_with(all(), 1000, |peer| peer.rest());
    let file = &session.root.file;
    let errno = |result: RemoteResult<()>| {
        let error = result.unwrap_err();
        assert_eq!(error.fate, Fate::NotSent);
        error.errno
    };
    let long = "n".repeat(70_000);
    assert_eq!(
        errno(file.unlink(&call(), name(&long[..1000]), false, None)),
        Errno::EIO
    );
    assert_eq!(
        errno(file.unlink(&call(), name(&long), false, None)),
        Errno::ENAMETOOLONG
    );
    let bytes = long.as_bytes();
    let make = file.make(&call(), name("l"), New::Symlink(bytes), 0, OWNER);
    assert_eq!(errno(make.map(drop)), Errno::ENAMETOOLONG);
    let flags = XattrFlags::empty();
    assert_eq!(
        errno(file.set_xattr(&call(), b"user.a", bytes, flags)),
        Errno::E2BIG
    );
    assert_eq!(
        errno(file.set_xattr(&call(), bytes, b"", flags)),
        Errno::ERANGE
    );
    assert_eq!(session.finish(), []);
}

#[test]
fn a_link_without_a_target_is_none() {
    for (target, expected) in [
        (&b"../usr"[..], Ok(b"../usr".to_vec())),
        (b"", Err(Errno::EINVAL)),
        (b"a\0b", Err(Errno::EIO)),
    ] {
        let session = session(move |peer| {
            peer.expect(Mid::READ_LINK_AT);
            peer.reply(&ReadLinkAtResp { target }, &[]);
        });
        let result = session
            .root
            .file
            .read_link(&call())
            .map_err(|error| error.errno);
        assert_eq!(result, expected);
        session.finish();
    }
}

#[test]
fn attributes_of_a_file_system_come_over_whole() {
    let fs = StatFs {
        fs_type: 0xef53.into(),
        block_size: 4096.into(),
        blocks: 9.into(),
        name_length: 255.into(),
        ..StatFs::default()
    };
    let session = one("> FStatFS fd 1", FStatFSResp { statfs: fs });
    let fs = session.root.file.stat_fs(&call()).unwrap();
    assert_eq!(
        (fs.fs_type, fs.block_size, fs.blocks, fs.name_length),
        (0xef53, 4096, 9, 255)
    );
    session.finish();
}

#[test]
fn extended_attributes_ask_for_the_whole_value() {
    let session = session(|peer| {
        let get = |shown: &str, value: &[u8]| {
            assert_eq!(peer.expect(Mid::FGET_XATTR), shown);
            peer.reply(&FGetXattrResp { value }, &[]);
        };
        get("> FGetXattr fd 1 buf_size 65536 name user.a", b"value");
        get("> FGetXattr fd 1 buf_size 10 name user.a", b"value");
        let request = peer.expect(Mid::FSET_XATTR);
        assert_eq!(request, "> FSetXattr fd 1 flags 1 name user.a value v");
        peer.reply(&FSetXattrResp {}, &[]);
        assert_eq!(peer.expect(Mid::FLIST_XATTR), "> FListXattr fd 1 size 0");
        peer.reply(
            &FListXattrResp {
                xattrs: Strings::new(&[b"user.a", b"user.b"]),
            },
            &[],
        );
        peer.expect(Mid::FLIST_XATTR);
        peer.reply(
            &FListXattrResp {
                xattrs: Strings::new(&[b"user.a", b""]),
            },
            &[],
        );
        assert_eq!(
            peer.expect(Mid::FREMOVE_XATTR),
            "> FRemoveXattr fd 1 name user.a"
        );
        peer.reply(&FRemoveXattrResp {}, &[]);
    });
    let file = &session.root.file;
    assert_eq!(file.get_xattr(&call(), b"user.a", 0).unwrap(), b"value");
    assert_eq!(file.get_xattr(&call(), b"user.a", 10).unwrap(), b"value");
    file.set_xattr(&call(), b"user.a", b"v", XattrFlags::CREATE)
        .unwrap();
    let mut names = Vec::new();
    file.list_xattr(&call(), &mut |name| names.push(name.to_vec()))
        .unwrap();
    assert_eq!(names, [b"user.a", b"user.b"]);
    let error = file.list_xattr(&call(), &mut |_| ()).unwrap_err();
    assert_eq!(error.errno, Errno::EIO);
    file.remove_xattr(&call(), b"user.a").unwrap();
    session.finish();
}

#[test]
fn sync_all_is_one_request_unless_it_fails() {
    let session = session(|peer| {
        for fd in [11, 12, 13] {
            peer.expect(Mid::OPEN_AT);
            peer.reply(
                &OpenAtResp {
                    open_fd: Fdid::new(fd),
                },
                &[],
            );
        }
        assert_eq!(peer.expect(Mid::FSYNC), "> FSync fds [11, 12, 13]");
        peer.reply(&FSyncResp {}, &[]);
        assert_eq!(peer.expect(Mid::FSYNC), "> FSync fds [11, 12, 13]");
        peer.error(28);
        for fd in [11, 12, 13] {
            assert_eq!(peer.expect(Mid::FSYNC), format!("> FSync fds [{fd}]"));
            match fd {
                12 => peer.error(28),
                _ => peer.reply(&FSyncResp {}, &[]),
            }
        }
    });
    let mode = OpenMode {
        access: Access::Write,
        truncate: false,
    };
    let handles: Vec<std::sync::Arc<dyn RemoteHandle>> = (0..3)
        .map(|_| session.root.file.open(&call(), mode).unwrap())
        .collect();
    let sync = || {
        let mut results = vec![None; 3];
        session
            .fs
            .sync_all(&call(), &handles, &mut |index, result| {
                results[index] = Some(result.map_err(|error| error.errno));
            });
        results
    };
    assert_eq!(sync(), [Some(Ok(())); 3]);
    assert_eq!(
        sync(),
        [Some(Ok(())), Some(Err(Errno::ENOSPC)), Some(Ok(()))]
    );
    drop(handles);
    session.finish();
}
