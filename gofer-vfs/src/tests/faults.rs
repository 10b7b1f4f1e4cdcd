//! What the engine does when calls fail: refused, half done, cut off, or without an answer.

use super::*;
use crate::attr::{AttrMask, FileType};
use crate::flags::{AllocMode, XattrFlags};
use crate::testing::mem_remote::Fault;
use crate::{Device, Name, SetTime, Timestamp};

pub(super) type Case = (&'static str, fn(&Rig) -> Result<()>, &'static [Op]);

/// Every kind of operation, with the calls that may serve it.
pub(super) fn cases() -> Vec<Case> {
    vec![
        ("stat", |rig| rig.stat("d/cold").map(drop), &[Op::Walk]),
        ("create", |rig| rig.create("new").map(drop), &[Op::Create]),
        (
            "open",
            |rig| rig.open("f", OpenFlags::RDONLY).map(drop),
            &[Op::Walk, Op::Open],
        ),
        ("mkdir", |rig| rig.mkdir("new"), &[Op::Make]),
        ("symlink", |rig| rig.symlink("x", "new"), &[Op::Make]),
        (
            "mknod",
            |rig| {
                let none = Device::default();
                rig.fs
                    .mknod(&rig.cx(), rig.at("new"), FileType::Fifo, 0o600, none)
            },
            &[Op::Make],
        ),
        ("link", |rig| rig.link("f", "new"), &[Op::Walk, Op::Link]),
        ("unlink", |rig| rig.unlink("f"), &[Op::Unlink]),
        ("rmdir", |rig| rig.rmdir("empty"), &[Op::Unlink]),
        (
            "rename",
            |rig| rig.rename("f", "new"),
            &[Op::Walk, Op::Rename],
        ),
        (
            "chmod",
            |rig| rig.chmod("f", 0o600),
            &[Op::Walk, Op::SetAttr],
        ),
        (
            "readlink",
            |rig| rig.fs.read_link(&rig.cx(), rig.at("l")).map(drop),
            &[Op::Walk, Op::ReadLink],
        ),
        (
            "follow",
            |rig| rig.stat("l").map(drop),
            &[Op::Walk, Op::ReadLink],
        ),
        (
            "statfs",
            |rig| rig.fs.statfs(&rig.cx(), rig.at("")).map(drop),
            &[Op::StatFs],
        ),
        (
            "getxattr",
            |rig| {
                rig.fs
                    .get_xattr(&rig.cx(), rig.at("f"), Follow::Yes, b"user.x", 0)
                    .map(drop)
            },
            &[Op::GetXattr],
        ),
        (
            "setxattr",
            |rig| {
                let flags = XattrFlags::empty();
                rig.fs
                    .set_xattr(&rig.cx(), rig.at("f"), Follow::Yes, b"user.y", b"v", flags)
            },
            &[Op::SetXattr],
        ),
        (
            "listxattr",
            |rig| {
                rig.fs
                    .list_xattr(&rig.cx(), rig.at("f"), Follow::Yes)
                    .map(drop)
            },
            &[Op::ListXattr],
        ),
        (
            "removexattr",
            |rig| {
                rig.fs
                    .remove_xattr(&rig.cx(), rig.at("f"), Follow::Yes, b"user.x")
            },
            &[Op::RemoveXattr],
        ),
        ("read", |rig| rig.read_all("f").map(drop), &[Op::Read]),
        (
            "write",
            |rig| {
                let file = rig.open("f", OpenFlags::WRONLY)?;
                file.write(&rig.cx(), b"x").map(drop)
            },
            &[Op::Write],
        ),
        (
            "close",
            |rig| {
                let file = rig.open("f", OpenFlags::WRONLY)?;
                file.write(&rig.cx(), b"x")?;
                file.close(&rig.cx())
            },
            &[Op::Flush],
        ),
        (
            "fsync",
            |rig| {
                let file = rig.open("f", OpenFlags::WRONLY)?;
                file.sync(&rig.cx(), false)
            },
            &[Op::Sync],
        ),
        (
            "allocate",
            |rig| {
                let file = rig.open("f", OpenFlags::WRONLY)?;
                file.allocate(&rig.cx(), AllocMode::empty(), 0, 1 << 20)
            },
            &[Op::Allocate],
        ),
        (
            "readdir",
            |rig| {
                let dir = rig.open("d", OpenFlags::DIRECTORY)?;
                dir.read_dir(&rig.cx(), &mut |_| ControlFlow::Continue(()))
            },
            &[Op::ReadDir],
        ),
    ]
}

fn furnished(mode: InteropMode) -> Rig {
    furnish(Setup::new(mode))
}

/// A mount with something for each of [`cases`], and nothing cached.
pub(super) fn furnish(setup: Setup) -> Rig {
    let rig = setup.mount();
    rig.outside.write(b"f", b"content").unwrap();
    rig.outside.mkdir(b"d").unwrap();
    rig.outside.write(b"d/cold", b"").unwrap();
    rig.outside.mkdir(b"empty").unwrap();
    rig.outside.symlink(b"f", b"l").unwrap();
    let flags = XattrFlags::empty();
    rig.fs
        .set_xattr(&rig.cx(), rig.at("f"), Follow::Yes, b"user.x", b"v", flags)
        .unwrap();
    rig.fs.drop_caches();
    rig.calls();
    rig
}

#[test]
fn every_call_of_every_operation_may_be_cut_off() {
    for mode in InteropMode::ALL {
        for (name, run, calls) in cases() {
            for &call in calls {
                for fault in [Fault::Cut, Fault::CutAfter] {
                    let rig = furnished(mode);
                    rig.remote.inject(call, 0, fault);
                    assert_eq!(errno(run(&rig)), Errno::EIO, "{name}, {call:?}, {mode}");
                    // Nothing hangs afterwards, and no lock was left behind.
                    assert_eq!(
                        errno(run(&rig)),
                        Errno::EIO,
                        "{name} again, {call:?}, {mode}"
                    );
                    rig.fs.unmount(&rig.cx()).ok();
                    let Rig { fs, remote, .. } = rig;
                    drop(fs);
                    assert_eq!(remote.live_files(), 0, "{name}, {call:?}, {mode}");
                    assert_eq!(remote.misuses(), 0);
                }
            }
        }
    }
}

#[test]
fn every_refusal_reaches_the_caller_and_changes_nothing() {
    for mode in InteropMode::ALL {
        for (name, run, calls) in cases() {
            for &call in calls {
                let rig = furnished(mode);
                rig.remote.inject(call, 0, Fault::Refuse(Errno::EDQUOT));
                assert_eq!(errno(run(&rig)), Errno::EDQUOT, "{name}, {call:?}, {mode}");
                run(&rig).unwrap_or_else(|error| panic!("{name}, {call:?}, {mode}: {error}"));
            }
        }
    }
}

#[test]
fn what_is_cached_is_served_after_the_server_died() {
    for mode in EW {
        let rig = furnished(mode);
        rig.stat("f").unwrap();
        assert_eq!(errno(rig.stat("missing")), Errno::ENOENT);
        rig.remote.drop_connection();
        assert_eq!(rig.stat("f").unwrap().attr.size, 7);
        assert_eq!(errno(rig.stat("missing")), Errno::ENOENT);
        assert_eq!(errno(rig.stat("cold")), Errno::EIO);
        assert_eq!(errno(rig.read_all("f")), Errno::EIO);
    }
    for mode in S {
        let rig = furnished(mode);
        rig.stat("f").unwrap();
        rig.remote.drop_connection();
        assert_eq!(errno(rig.stat("f")), Errno::EIO);
    }
}

#[test]
fn a_change_without_an_answer_leaves_no_false_memory() {
    // The server does it, and the answer is lost; then somebody reconnects in its place.
    let rig = furnished(InteropMode::Exclusive);
    rig.stat("f").unwrap();
    assert_eq!(errno(rig.stat("made")), Errno::ENOENT);
    rig.remote.inject(Op::Make, 0, Fault::CutAfter);
    assert_eq!(errno(rig.mkdir("made")), Errno::EIO);
    rig.remote.inject(Op::Unlink, 0, Fault::CutAfter);
    assert_eq!(errno(rig.unlink("f")), Errno::EIO);
    // Neither the old absence nor the old presence is served from the cache any more.
    for name in ["made", "f"] {
        assert_eq!(errno(rig.stat(name)), Errno::EIO, "{name}");
    }
}

#[test]
fn partial_changes_of_attributes_are_kept_and_reported() {
    for mode in InteropMode::ALL {
        let rig = furnished(mode);
        let fault = Fault::RefuseFields(AttrMask::MTIME, Errno::EPERM);
        rig.remote.inject(Op::SetAttr, 0, fault);
        let then = Timestamp { sec: 7, nsec: 0 };
        let set = SetAttr {
            mode: Some(0o600),
            mtime: Some(SetTime::At(then)),
            ..SetAttr::default()
        };
        assert_eq!(errno(rig.set_attr("f", set)), Errno::EPERM, "{mode}");
        let attr = rig.attr("f");
        assert_eq!(attr.mode, 0o600, "{mode}");
        assert_ne!(attr.mtime, then, "{mode}");
    }
}

#[test]
fn a_file_that_could_not_be_cut_keeps_its_set_id_bits_and_times() {
    for mode in InteropMode::ALL {
        let rig = furnished(mode);
        rig.outside.chmod(b"f", 0o4777).unwrap();
        let rig = Setup::new(mode).user(1000).mount_on(rig.server.clone());
        let before = rig.attr("f");
        let fault = Fault::RefuseFields(AttrMask::SIZE, Errno::EFBIG);
        rig.remote.inject(Op::SetAttr, 0, fault);
        let size = SetAttr {
            size: Some(1 << 40),
            ..SetAttr::default()
        };
        assert_eq!(errno(rig.set_attr("f", size)), Errno::EFBIG, "{mode}");
        let kept = |attr: Attr| (attr.mode, attr.mtime, attr.size);
        assert_eq!(kept(rig.attr("f")), kept(before), "{mode}");
        assert_eq!(rig.server_attr("f").mode, 0o4777, "{mode}");
        if mode.client_clock() {
            assert_eq!(rig.server_attr("f").mtime, before.mtime, "{mode}");
        }
    }
}

#[test]
fn a_failed_mode_change_does_not_undo_a_write() {
    for mode in InteropMode::ALL {
        let rig = furnished(mode);
        rig.chmod("/", 0o777).unwrap();
        rig.outside.chmod(b"f", 0o4777).unwrap();
        let rig = Setup::new(mode).user(1000).mount_on(rig.server.clone());
        let file = rig.open("f", OpenFlags::WRONLY).unwrap();
        rig.remote
            .inject_always(Op::SetAttr, Fault::Refuse(Errno::EPERM));
        assert_eq!(file.write(&rig.cx(), b"new").unwrap(), 3, "{mode}");
        rig.remote.heal();
        assert_eq!(file.write(&rig.cx(), b"er").unwrap(), 2, "{mode}");
        assert_eq!(rig.server_attr("f").mode, 0o777, "{mode}");
    }
}

#[test]
fn sync_errors_are_told_to_every_description_once() {
    let rig = furnished(InteropMode::Exclusive);
    let one = rig.open("f", OpenFlags::WRONLY).unwrap();
    let two = rig.open("f", OpenFlags::WRONLY).unwrap();
    rig.remote.inject(Op::Sync, 0, Fault::Refuse(Errno::ENOSPC));
    assert_eq!(errno(one.sync(&rig.cx(), false)), Errno::ENOSPC);
    one.sync(&rig.cx(), false).unwrap();
    assert_eq!(errno(two.sync(&rig.cx(), false)), Errno::ENOSPC);
    two.sync(&rig.cx(), false).unwrap();
}

#[test]
fn an_error_that_a_drop_lost_is_found_by_fsync() {
    let rig = furnished(InteropMode::Exclusive);
    let keeper = rig.open("f", OpenFlags::WRONLY).unwrap();
    let writer = rig.open("f", OpenFlags::WRONLY).unwrap();
    writer.write(&rig.cx(), b"x").unwrap();
    rig.remote
        .inject(Op::Flush, 0, Fault::Refuse(Errno::ENOSPC));
    drop(writer);
    assert_eq!(errno(keeper.sync(&rig.cx(), false)), Errno::ENOSPC);
}

#[test]
fn sync_of_the_filesystem_goes_on_after_an_error() {
    let rig = furnished(InteropMode::Exclusive);
    let _one = rig.open("f", OpenFlags::WRONLY).unwrap();
    let _two = rig.create("new").unwrap();
    rig.fs.sync(&rig.cx()).unwrap();
    rig.remote
        .inject(Op::SyncAll, 0, Fault::Refuse(Errno::ENOSPC));
    assert_eq!(errno(rig.fs.sync(&rig.cx())), Errno::ENOSPC);
    rig.fs.sync(&rig.cx()).unwrap();
}

#[test]
fn unmounting_is_idempotent_and_ends_with_a_dead_server() {
    for mode in InteropMode::ALL {
        let rig = furnished(mode);
        drop(rig.create("new").unwrap());
        rig.fs.unmount(&rig.cx()).unwrap();
        rig.fs.unmount(&rig.cx()).unwrap();
        assert_eq!(errno(rig.stat("f")), Errno::EIO);
        let rig = furnished(mode);
        let file = rig.create("new").unwrap();
        rig.remote.drop_connection();
        assert_eq!(errno(rig.fs.unmount(&rig.cx())), Errno::EIO);
        drop(file);
    }
}

#[test]
fn short_transfers_do_not_lose_bytes() {
    for mode in InteropMode::ALL {
        let rig = furnished(mode);
        let file = rig.create("new").unwrap();
        rig.remote.inject(Op::Write, 0, Fault::Short(3));
        assert_eq!(file.write(&rig.cx(), b"abcdef").unwrap(), 3, "{mode}");
        assert_eq!(file.write(&rig.cx(), b"def").unwrap(), 3, "{mode}");
        assert_eq!(rig.attr("new").size, 6, "{mode}");
        assert_eq!(rig.read_all("new").unwrap(), b"abcdef", "{mode}");
    }
}

#[test]
fn cancelled_operations_end_with_eintr() {
    let rig = furnished(InteropMode::Exclusive);
    let cancel = crate::Cancel::new().unwrap();
    cancel.set();
    let cx = Context {
        cancel: Some(&cancel),
        ..rig.cx()
    };
    let name = Name::new(b"f").unwrap();
    let found = rig.fs.lookup(&cx, rig.fs.root_ref(), name);
    assert_eq!(errno(found), Errno::EINTR);
    rig.stat("f").unwrap();
}

#[test]
fn a_mount_that_fails_half_way_leaves_nothing() {
    for mode in InteropMode::ALL {
        for (op, fault, mounts) in [
            (Op::Root, Fault::Refuse(Errno::EACCES), false),
            (Op::Root, Fault::Cut, false),
            // A server may have no numbers to tell.
            (Op::StatFs, Fault::Refuse(Errno::EOPNOTSUPP), true),
            (Op::StatFs, Fault::Cut, true),
        ] {
            let server = MemServer::new();
            let remote = server.connect(MemConfig::like_lisafs());
            remote.inject(op, 0, fault);
            let mut options = MountOptions::new(Trans::Fd { rfd: 0, wfd: 0 });
            options.cache = mode;
            let mounted =
                Filesystem::mount(Arc::new(remote.clone()), options, MountFlags::default());
            assert_eq!(mounted.is_ok(), mounts, "{op:?}, {fault:?}");
            drop(mounted);
            assert_eq!(remote.live_files(), 0, "{op:?}, {fault:?}");
            assert_eq!(remote.misuses(), 0);
        }
    }
}

#[test]
fn the_length_of_names_is_the_servers() {
    for (told, limit) in [(0, 255), (255, 255), (10, 10)] {
        let mut setup = Setup::new(InteropMode::Exclusive);
        setup.config.name_length = told;
        let rig = setup.mount();
        let name = |len: usize| "n".repeat(len);
        assert_eq!(errno(rig.stat(&name(limit))), Errno::ENOENT, "{told}");
        rig.calls();
        assert_eq!(errno(rig.stat(&name(limit + 1))), Errno::ENAMETOOLONG);
        assert_eq!(errno(rig.mkdir(&name(limit + 1))), Errno::ENAMETOOLONG);
        assert_eq!(rig.calls(), [], "{told}");
        let numbers = rig.fs.statfs(&rig.cx(), rig.at("")).unwrap();
        let shown = if told == 0 { 255 } else { told };
        assert_eq!(numbers.name_length, shown);
        assert_eq!(numbers.fs_type, 0x0102_1997);
    }
}

#[test]
fn no_name_is_longer_than_a_message_can_tell() {
    let mut setup = Setup::new(InteropMode::Exclusive);
    setup.config.name_length = 99_999;
    let rig = setup.mount();
    let numbers = rig.fs.statfs(&rig.cx(), rig.at("")).unwrap();
    assert_eq!(numbers.name_length, 65535);
}
