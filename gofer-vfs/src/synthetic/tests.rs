//! Files of the client alone, over a server that refuses to make them.

mod pipes;

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::attr::FileType;
use crate::context::Context;
use crate::flags::OpenFlags;
use crate::interop::InteropMode;
use crate::remote::Cancel;
use crate::testing::Outside;
use crate::testing::mem_remote::{Fault, MemServer, Op};
use crate::tests::{EW, Rig, S, Setup};
use crate::{Device, File, Follow};

const ALL: [InteropMode; 4] = [EW[0], EW[1], S[0], S[1]];

impl Rig {
    fn mknod(&self, path: &str, file_type: FileType) -> crate::Result<()> {
        let (cx, device) = (self.cx(), Device::default());
        self.fs.mknod(&cx, self.at(path), file_type, 0o644, device)
    }

    /// Makes a fifo or a socket that the server refuses.
    fn refused(&self, path: &str, file_type: FileType) {
        self.remote.inject(Op::Make, 0, Fault::Refuse(Errno::EPERM));
        self.mknod(path, file_type).unwrap();
    }

    /// Makes a directory that the server refuses.
    fn refused_dir(&self, path: &str) {
        self.remote
            .inject(Op::Make, 0, Fault::Refuse(Errno::EACCES));
        let made = self.fs.mkdir_mount_point(&self.cx(), self.at(path), 0o755);
        made.unwrap();
    }

    fn listed(&self, path: &str) -> Vec<String> {
        let dir = self.open(path, OpenFlags::DIRECTORY).unwrap();
        let mut names = Vec::new();
        let read = dir.read_dir(&self.cx(), &mut |entry| {
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            ControlFlow::Continue(())
        });
        read.unwrap();
        names.sort();
        names.split_off(2)
    }
}

fn errno<T>(result: crate::Result<T>) -> Option<Errno> {
    result.err().map(|error| error.errno())
}

/// A mount used by user 7, whose root anybody may change.
fn anybodys(mode: InteropMode) -> Rig {
    let server = MemServer::new();
    server.outside().chmod(b"", 0o777).unwrap();
    Setup::new(mode).user(7).mount_on(server)
}

#[test]
fn only_what_a_server_may_refuse_is_made_here() {
    for mode in ALL {
        let rig = Rig::new(mode);
        for file_type in [FileType::Fifo, FileType::Socket] {
            rig.remote.inject(Op::Make, 0, Fault::Refuse(Errno::EACCES));
            assert_eq!(errno(rig.mknod("x", file_type)), Some(Errno::EACCES));
        }
        for file_type in [FileType::Regular, FileType::CharDevice] {
            rig.remote.inject(Op::Make, 0, Fault::Refuse(Errno::EPERM));
            assert_eq!(errno(rig.mknod("x", file_type)), Some(Errno::EPERM));
        }
        rig.remote.inject(Op::Make, 0, Fault::Refuse(Errno::EPERM));
        assert_eq!(errno(rig.mkdir("x")), Some(Errno::EPERM));
        // Refused before it was seen that it is there.
        rig.outside.write(b"there", b"").unwrap();
        rig.remote.inject(Op::Make, 0, Fault::Refuse(Errno::EPERM));
        assert_eq!(
            errno(rig.mknod("there", FileType::Fifo)),
            Some(Errno::EEXIST)
        );
        assert_eq!(rig.fs.stats().synthetic_files, 0);
        rig.refused("fifo", FileType::Fifo);
        assert_eq!(
            errno(rig.mknod("fifo", FileType::Fifo)),
            Some(Errno::EEXIST)
        );
        assert!(!rig.outside.exists(b"fifo"));
        assert_eq!(rig.fs.stats().synthetic_files, 1);
    }
}

#[test]
fn attributes_are_kept_here_by_our_clock() {
    for mode in ALL {
        let rig = anybodys(mode);
        rig.refused("fifo", FileType::Fifo);
        rig.refused_dir("dir");
        rig.clock.advance(50);
        rig.refused("socket", FileType::Socket);
        if mode.client_clock() {
            assert_eq!(rig.attr("").mtime, rig.clock.now(), "the directory's time");
        }
        let numbers = ["", "fifo", "dir", "socket"].map(|path| rig.lstat(path).unwrap().ino);
        let different: std::collections::HashSet<u64> = numbers.into_iter().collect();
        assert_eq!(different.len(), 4, "{numbers:?}");
        for (path, mode, nlink) in [("fifo", 0o644, 1), ("dir", 0o755, 2), ("socket", 0o644, 1)] {
            let attr = rig.attr(path);
            assert_eq!(
                (attr.mode, attr.nlink, attr.size),
                (mode, nlink, 0),
                "{path}"
            );
            assert_eq!((attr.uid, attr.gid), (7, 7));
            assert_eq!(attr.block_size, 4096);
            assert!(attr.mtime.sec >= 2_000_000_000 && attr.mask.contains(AttrMask::BTIME));
        }
        rig.calls();
        let set = SetAttr {
            mode: Some(0o600),
            mtime: Some(SetTime::Now),
            ..SetAttr::default()
        };
        let node = rig
            .fs
            .resolve(&rig.cx(), rig.at("fifo"), Follow::No)
            .unwrap();
        rig.calls();
        rig.fs.set_attr_node(&rig.cx(), &node, &set).unwrap();
        let stat = rig.fs.stat_node(&rig.cx(), &node).unwrap();
        assert_eq!(stat.attr.mode, 0o600);
        assert_eq!(rig.calls(), [], "{mode:?}");
        let numbers = rig.fs.statfs(&rig.cx(), rig.at("dir")).unwrap();
        assert!(numbers.block_size > 0);
        let x = &b"user.x"[..];
        let no = Follow::No;
        assert_eq!(
            errno(rig.fs.get_xattr(&rig.cx(), rig.at("dir"), no, x, 0)),
            Some(Errno::ENODATA)
        );
        let flags = XattrFlags::empty();
        let set = rig
            .fs
            .set_xattr(&rig.cx(), rig.at("dir"), no, x, b"", flags);
        assert_eq!(errno(set), Some(Errno::EPERM));
        let listed = rig.fs.list_xattr(&rig.cx(), rig.at("dir"), no).unwrap();
        assert_eq!(listed, Vec::<Vec<u8>>::new());
    }
}

#[test]
fn a_synthetic_directory_holds_synthetic_directories_only() {
    for mode in ALL {
        let rig = Rig::new(mode);
        rig.refused_dir("d");
        rig.outside.write(b"f", b"").unwrap();
        rig.calls();
        assert_eq!(errno(rig.mkdir("d/x")), Some(Errno::EPERM));
        assert_eq!(errno(rig.mknod("d/x", FileType::Fifo)), Some(Errno::EPERM));
        assert_eq!(errno(rig.symlink("f", "d/x")), Some(Errno::EPERM));
        assert_eq!(errno(rig.link("f", "d/x")), Some(Errno::EPERM));
        assert_eq!(errno(rig.create("d/x")), Some(Errno::EPERM));
        let flags = RenameFlags::empty();
        let moved = rig.fs.rename(&rig.cx(), rig.at("f"), rig.at("d/f"), flags);
        assert_eq!(errno(moved), Some(Errno::EPERM));
        assert_eq!(errno(rig.lstat("d/none")), Some(Errno::ENOENT));
        let calls = rig.calls();
        // Nobody is asked for a name that is not there, from here or from above.
        let d = rig.fs.resolve(&rig.cx(), rig.at("d"), Follow::No).unwrap();
        rig.calls();
        let from_here = crate::At::new(&d, b"none");
        let missing = rig.fs.stat(&rig.cx(), from_here, Follow::No);
        assert_eq!(errno(missing), Some(Errno::ENOENT));
        assert_eq!(rig.calls(), [], "{mode:?}");
        drop(d);
        assert!(
            !calls
                .iter()
                .any(|op| matches!(op, Op::Make | Op::Create | Op::Rename | Op::Link))
        );
        let before = rig.attr("d").nlink;
        rig.fs
            .mkdir_mount_point(&rig.cx(), rig.at("d/e"), 0o700)
            .unwrap();
        assert_eq!(rig.attr("d").nlink, before + 1);
        assert_eq!(rig.listed("d"), ["e"]);
        assert_eq!(errno(rig.rmdir("d")), Some(Errno::ENOTEMPTY));
        rig.rmdir("d/e").unwrap();
        assert_eq!(rig.attr("d").nlink, before);
        rig.rmdir("d").unwrap();
        assert_eq!(rig.listed(""), ["f"]);
        assert_eq!(rig.fs.stats().synthetic_files, 0);
    }
}

#[test]
fn listings_show_them_once_and_caches_do_not_lose_them() {
    for mode in ALL {
        let rig = Setup::new(mode).limit(0).mount();
        rig.mkdir("d").unwrap();
        rig.outside.write(b"d/real", b"").unwrap();
        rig.refused("d/fifo", FileType::Fifo);
        rig.fs.drop_caches();
        assert_eq!(rig.listed("d"), ["fifo", "real"]);
        rig.calls();
        assert_eq!(rig.attr("d/fifo").file_type, FileType::Fifo);
        // What the server would agree to is refused all the same.
        rig.outside.unlink(b"d/real").unwrap();
        rig.remote.take_log();
        assert_eq!(errno(rig.rmdir("d")), Some(Errno::ENOTEMPTY), "{mode:?}");
        assert!(!rig.calls().contains(&Op::Unlink));
        assert_eq!(errno(rig.link("d/fifo", "other")), Some(Errno::EOPNOTSUPP));
        rig.unlink("d/fifo").unwrap();
        assert!(!rig.calls().contains(&Op::Unlink));
        assert_eq!(errno(rig.lstat("d/fifo")), Some(Errno::ENOENT));
        rig.rmdir("d").unwrap();
    }
}

#[test]
fn renames_stay_here_but_for_what_is_in_the_way() {
    for mode in ALL {
        let rig = Rig::new(mode);
        rig.mkdir("d").unwrap();
        rig.outside.write(b"there", b"").unwrap();
        rig.outside.mkdir(b"full").unwrap();
        rig.outside.write(b"full/x", b"").unwrap();
        rig.refused("fifo", FileType::Fifo);
        rig.refused_dir("dir");
        rig.refused_dir("dir2");
        let flags = RenameFlags::empty();
        let rename = |old, new| errno(rig.fs.rename(&rig.cx(), rig.at(old), rig.at(new), flags));
        assert_eq!(rename("fifo", "d/fifo"), None);
        assert!(!rig.remote.take_log().contains(&Op::Rename));
        assert_eq!(rig.listed("d"), ["fifo"]);
        assert_eq!(rename("d/fifo", "there"), None);
        assert!(!rig.outside.exists(b"there"));
        assert_eq!(rig.attr("there").file_type, FileType::Fifo);
        assert_eq!(rename("dir", "full"), Some(Errno::ENOTEMPTY));
        rig.fs
            .mkdir_mount_point(&rig.cx(), rig.at("dir2/sub"), 0o700)
            .unwrap();
        assert_eq!(rename("d", "dir2"), Some(Errno::ENOTEMPTY));
        assert_eq!(rename("dir", "dir2/sub/x"), None);
        assert_eq!(rig.listed("dir2/sub"), ["x"]);
        // A real file takes the place of one that is not.
        rig.outside.write(b"real", b"1").unwrap();
        assert_eq!(rename("real", "there"), None);
        assert_eq!(rig.attr("there").file_type, FileType::Regular);
        assert_eq!(rig.fs.stats().synthetic_files, 3);
    }
}

#[test]
fn a_file_of_the_server_wins_where_others_may_make_one() {
    for mode in S {
        let rig = Rig::new(mode);
        rig.refused_dir("d");
        rig.fs
            .mkdir_mount_point(&rig.cx(), rig.at("d/e"), 0o755)
            .unwrap();
        rig.refused("fifo", FileType::Fifo);
        rig.calls();
        rig.lstat("d/e").unwrap();
        assert_eq!(rig.calls(), [Op::Walk], "one look at the first name");
        let (cx, no) = (rig.cx(), Follow::No);
        let ours = ["d", "fifo"].map(|path| rig.fs.resolve(&cx, rig.at(path), no).unwrap());
        rig.outside.mkdir(b"d").unwrap();
        rig.outside.write(b"d/real", b"").unwrap();
        rig.outside.write(b"fifo", b"content").unwrap();
        assert_eq!(rig.listed(""), ["d", "fifo"]);
        assert_eq!(rig.attr("fifo").file_type, FileType::Regular);
        assert_eq!(rig.listed("d"), ["real"]);
        assert_eq!(errno(rig.lstat("d/e")), Some(Errno::ENOENT));
        // Whoever has ours still finds that they are deleted.
        for node in &ours {
            assert!(node.is_deleted(), "{mode:?}");
            assert_eq!(rig.fs.stat_node(&cx, node).unwrap().attr.nlink, 0);
        }
        let in_ours = crate::At::new(&ours[0], b"x");
        let made = rig.fs.mkdir_mount_point(&cx, in_ours, 0o755);
        assert_eq!(errno(made), Some(Errno::ENOENT));
        drop(ours);
        assert_eq!(rig.fs.stats().synthetic_files, 0);
        assert_eq!(rig.remote.misuses(), 0);
    }
    for mode in EW {
        let rig = Rig::new(mode);
        rig.refused("fifo", FileType::Fifo);
        rig.outside.write(b"fifo", b"").unwrap();
        assert_eq!(rig.attr("fifo").file_type, FileType::Fifo);
        assert_eq!(rig.listed(""), ["fifo"]);
    }
}

/// A rig with a synthetic fifo.
fn with_fifo(mode: InteropMode) -> Rig {
    let rig = Rig::new(mode);
    rig.refused("fifo", FileType::Fifo);
    rig
}

fn open(rig: &Rig, flags: OpenFlags) -> File {
    rig.open("fifo", flags).unwrap()
}

const NONBLOCK: OpenFlags = OpenFlags::NONBLOCK;

#[test]
fn bound_sockets_meet_their_listeners() {
    for mode in ALL {
        let rig = Rig::new(mode);
        let cx = rig.cx();
        let connect = |kind| rig.fs.connect(&cx, rig.at("s"), kind);
        let listener = rig
            .fs
            .bind(&cx, rig.at("s"), SocketType::Stream, 0o600)
            .unwrap();
        let again = rig.fs.bind(&cx, rig.at("s"), SocketType::Stream, 0o600);
        assert_eq!(errno(again), Some(Errno::EADDRINUSE));
        assert_eq!(errno(connect(SocketType::Any)), Some(Errno::ECONNREFUSED));
        listener.listen(&cx, 2).unwrap();
        assert_eq!(errno(listener.try_accept(&cx)), Some(Errno::EAGAIN));
        assert_eq!(
            errno(connect(SocketType::Datagram)),
            Some(Errno::EPROTOTYPE)
        );
        let ours = connect(SocketType::Stream).unwrap();
        let _second = connect(SocketType::Any).unwrap();
        assert_eq!(errno(connect(SocketType::Any)), Some(Errno::EAGAIN));
        let theirs = listener.accept(&cx).unwrap();
        let mut ours = std::os::unix::net::UnixStream::from(ours);
        let mut theirs = std::os::unix::net::UnixStream::from(theirs);
        ours.write_all(b"hello").unwrap();
        let mut into = [0; 5];
        theirs.read_exact(&mut into).unwrap();
        assert_eq!(&into, b"hello");
        assert_eq!(errno(rig.open("s", OpenFlags::RDWR)), Some(Errno::ENXIO));
        drop(listener);
        assert_eq!(errno(connect(SocketType::Any)), Some(Errno::ECONNREFUSED));
        rig.unlink("s").unwrap();
        // A socket nobody bound, and what is none.
        rig.refused("t", FileType::Socket);
        let refused = rig.fs.connect(&cx, rig.at("t"), SocketType::Any);
        assert_eq!(errno(refused), Some(Errno::ECONNREFUSED));
        rig.outside.write(b"f", b"").unwrap();
        let refused = rig.fs.connect(&cx, rig.at("f"), SocketType::Any);
        assert_eq!(errno(refused), Some(Errno::ECONNREFUSED));
    }
}

#[test]
fn connecting_needs_permission_to_write() {
    let rig = anybodys(InteropMode::Exclusive);
    let cx = rig.cx();
    let _listener = rig
        .fs
        .bind(&cx, rig.at("s"), SocketType::Stream, 0o400)
        .unwrap();
    let refused = rig.fs.connect(&cx, rig.at("s"), SocketType::Any);
    assert_eq!(errno(refused), Some(Errno::EACCES));
    // That comes before what it is.
    rig.outside.write(b"f", b"").unwrap();
    let refused = rig.fs.connect(&cx, rig.at("f"), SocketType::Any);
    assert_eq!(errno(refused), Some(Errno::EACCES));
    rig.outside.chmod(b"f", 0o666).unwrap();
    rig.fs.drop_caches();
    let refused = rig.fs.connect(&cx, rig.at("f"), SocketType::Any);
    assert_eq!(errno(refused), Some(Errno::ECONNREFUSED));
}

#[test]
fn their_times_are_this_clients_in_every_mode() {
    for mode in ALL {
        let rig = with_fifo(mode);
        rig.refused_dir("dir");
        let (cx, no) = (rig.cx(), Follow::No);
        let fifo = rig.fs.resolve(&cx, rig.at("fifo"), no).unwrap();
        let dir = rig.fs.resolve(&cx, rig.at("dir"), no).unwrap();
        let attr = |node| rig.fs.stat_node(&cx, node).unwrap().attr;
        let born = rig.clock.now();
        rig.clock.advance(1);
        let end = open(&rig, OpenFlags::RDWR);
        end.write(&cx, b"x").unwrap();
        let wrote = rig.clock.now();
        assert_eq!((attr(&fifo).mtime, attr(&fifo).ctime), (wrote, wrote));
        assert_eq!(attr(&fifo).atime, born, "{mode:?}");
        rig.clock.advance(1);
        end.read(&cx, &mut [0]).unwrap();
        let read = rig.clock.now();
        assert_eq!((attr(&fifo).atime, attr(&fifo).mtime), (read, wrote));
        rig.listed("dir");
        assert_eq!((attr(&dir).atime, attr(&dir).ctime), (read, born));
        rig.clock.advance(1);
        rig.rename("fifo", "renamed").unwrap();
        assert_eq!(attr(&fifo).ctime, rig.clock.now(), "{mode:?}");
        assert_eq!(attr(&fifo).mtime, wrote);
        // What is asked by path is the same.
        rig.calls();
        assert_eq!(rig.attr("renamed"), attr(&fifo));
    }
}

#[test]
fn a_deleted_one_lives_as_long_as_it_is_open() {
    for mode in ALL {
        let rig = with_fifo(mode);
        let cx = rig.cx();
        let end = open(&rig, OpenFlags::RDWR);
        rig.unlink("fifo").unwrap();
        assert_eq!(end.stat(&cx).unwrap().attr.nlink, 0, "{mode:?}");
        end.write(&cx, b"x").unwrap();
        assert_eq!(end.read(&cx, &mut [0]).unwrap(), 1);
        drop(end);
        // Another by the same name is another.
        rig.mknod("fifo", FileType::Fifo).unwrap();
        assert!(rig.outside.exists(b"fifo"));
        rig.fs.unmount(&cx).unwrap();
    }
}

#[test]
fn a_walk_that_begins_at_one_asks_for_what_is_real_only() {
    for mode in S {
        let rig = Rig::new(mode);
        rig.refused_dir("d");
        rig.fs
            .mkdir_mount_point(&rig.cx(), rig.at("d/e"), 0o755)
            .unwrap();
        let d = rig.fs.resolve(&rig.cx(), rig.at("d"), Follow::No).unwrap();
        rig.outside.write(b"real", b"content").unwrap();
        rig.calls();
        let look = |path: &[u8]| {
            let at = crate::At::new(&d, path);
            rig.fs.stat(&rig.cx(), at, Follow::No)
        };
        look(b"e").unwrap();
        assert_eq!(rig.calls(), [], "{mode:?}");
        assert_eq!(look(b"../real").unwrap().attr.size, 7, "{mode:?}");
        assert_eq!(rig.remote.misuses(), 0);
    }
}

#[test]
fn set_group_id_directories_hand_down_to_them_too() {
    for mode in ALL {
        let server = MemServer::new();
        server.outside().mkdir(b"d").unwrap();
        server.outside().chown(b"d", 0, 99).unwrap();
        server.outside().chmod(b"d", 0o2777).unwrap();
        let rig = Setup::new(mode).user(7).mount_on(server);
        rig.refused_dir("d/sub");
        rig.refused("d/fifo", FileType::Fifo);
        let (sub, fifo) = (rig.attr("d/sub"), rig.attr("d/fifo"));
        assert_eq!((sub.gid, sub.mode), (99, 0o2755), "{mode:?}");
        assert_eq!((fifo.gid, fifo.mode), (99, 0o644), "{mode:?}");
    }
}

#[test]
fn a_refused_directory_is_one_dentry() {
    for mode in ALL {
        let rig = Rig::new(mode);
        rig.refused_dir("d");
        let stats = rig.fs.stats();
        assert_eq!((stats.live_dentries, stats.synthetic_files), (2, 1));
        assert_eq!(rig.remote.live_files(), 1, "{mode:?}: the root's");
    }
}
