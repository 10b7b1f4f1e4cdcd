//! What each request does, family by family.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use gofer_9p::wire::{Data, Request};
use gofer_9p::wire::{
    Dirent, Fid, GetattrMask, LockFlags, LockStatus, LockType, NO_ID, Names, OpenFlags, QidType,
    RMessage, Rgetattr, Rgetlock, Rgetxattr, Rlcreate, Rlistxattr, Rlock, Rlopen, Rmultigetattr,
    Rreaddir, Rreadlink, Rstatfs, Rucreate, Rversion, Rwalkgetattr, Rwrite, Rxattrwalk,
    SetattrMask, SocketType, Tag, Tallocate, Tauth, Tbind, Tchannel, Tflushf, Tfsync, Tgetattr,
    Tgetlock, Tgetxattr, Tlconnect, Tlcreate, Tlink, Tlistxattr, Tlock, Tlopen, Tmkdir, Tmknod,
    Tmultigetattr, Treaddir, Treadlink, Tremove, Tremovexattr, Trename, Trenameat, Tsetattr,
    Tsetattrclunk, Tsetxattr, Tstatfs, Tsymlink, Tucreate, Tumkdir, Tunlinkat, Tversion,
    Twalkgetattr, Twrite, Txattrcreate, Txattrwalk, UnlinkFlags, XattrFlags,
};
use gofer_server_mock::host::{Export, Policy};
use gofer_server_mock::limits::Limits;

use super::client::{BASE, Client, GOOGLE, ROOT};
use crate::common::{ALL, READONLY, has_user_xattrs, is_root};

const EPERM: u32 = 1;
const ENOENT: u32 = 2;
const EBADF: u32 = 9;
const EAGAIN: u32 = 11;
const EEXIST: u32 = 17;
const ENOTDIR: u32 = 20;
const EISDIR: u32 = 21;
const EINVAL: u32 = 22;
const EMFILE: u32 = 24;
const EROFS: u32 = 30;
const ENAMETOOLONG: u32 = 36;
const ENOSYS: u32 = 38;
const ENOTEMPTY: u32 = 39;
const ELOOP: u32 = 40;
const ENODATA: u32 = 61;
const EMSGSIZE: u32 = 90;
const EOPNOTSUPP: u32 = 95;
const ECONNREFUSED: u32 = 111;

/// A fid no test makes.
const NOWHERE: Fid = Fid(999);

/// `dir/` with `file` ("content") and `sub/deep`, `link` to it, `empty`.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir_all(root.join("dir/sub")).unwrap();
    fs::write(root.join("dir/file"), "content").unwrap();
    fs::write(root.join("dir/sub/deep"), "deep").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    symlink("dir/file", root.join("link")).unwrap();
    dir
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn getattr(client: &Client, fid: Fid) -> Result<Rgetattr, u32> {
    let request_mask = GetattrMask::BASIC;
    let answer = client.ask(&Tgetattr { fid, request_mask })?;
    Ok(answer.of())
}

fn write(client: &Client, fid: Fid, offset: u64, data: &[u8]) -> Result<u32, u32> {
    let answer = client.ask(&Twrite {
        fid,
        offset,
        data: Data::new(data),
    })?;
    Ok(answer.of::<Rwrite>().count)
}

fn setattr(fid: Fid, valid: SetattrMask) -> Tsetattr {
    Tsetattr {
        fid,
        valid,
        mode: 0,
        uid: NO_ID,
        gid: NO_ID,
        size: 0,
        atime_sec: 0,
        atime_nsec: 0,
        mtime_sec: 0,
        mtime_nsec: 0,
    }
}

fn error<'m, M: Request<'m>>(client: &Client, request: &M) -> Option<u32> {
    client.ask(request).err()
}

mod version {
    use super::*;

    fn ask(client: &Client, msize: u32, version: &[u8]) -> Result<(u32, String), u32> {
        client.send(Tag(7), &Tversion { msize, version });
        let answer = client.receive().unwrap();
        assert_eq!(answer.tag, Tag(7), "any tag comes back");
        if let Some(ecode) = answer.error() {
            return Err(ecode);
        }
        let reply: Rversion<'_> = answer.of();
        Ok((
            reply.msize,
            String::from_utf8(reply.version.to_vec()).unwrap(),
        ))
    }

    #[test]
    fn supported_strings_are_echoed_and_google_clients_sent_down() {
        let dir = tree();
        let client = Client::of(&Export::open(dir.path(), ALL).unwrap());
        for version in [BASE, "9P2000.L.Google.0", "9P2000.L.Google.7", GOOGLE] {
            let answer = ask(&client, 65_536, version.as_bytes());
            assert_eq!(answer, Ok((65_536, version.to_string())));
        }
        assert_eq!(ask(&client, 65_536, b"9P2000.L.Google.14"), Err(EAGAIN));
        for version in [&b"9P2000"[..], b"9P2000.u", b"", b"9P2000.LX", b"\xff"] {
            assert_eq!(
                ask(&client, 65_536, version),
                Ok((65_536, "unknown".into()))
            );
        }
    }

    #[test]
    fn the_size_is_cut_to_the_limit_and_never_below_a_page() {
        let dir = tree();
        let export = Export::open(dir.path(), ALL).unwrap();
        let limits = Limits {
            message_size: 10_000,
            ..Limits::default()
        };
        let (client, _) = Client::with_limits(&export, limits);
        assert_eq!(
            ask(&client, u32::MAX, BASE.as_bytes()),
            Ok((10_000, BASE.into()))
        );
        assert_eq!(ask(&client, 4096, BASE.as_bytes()), Ok((4096, BASE.into())));
        assert_eq!(ask(&client, 4095, BASE.as_bytes()), Err(EMSGSIZE));
        let client = Client::of(&export);
        assert_eq!(
            ask(&client, u32::MAX, BASE.as_bytes()),
            Ok((1 << 20, BASE.into()))
        );
    }

    #[test]
    fn it_starts_over_whatever_comes_of_it() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        ask(&client, 65_536, BASE.as_bytes()).unwrap();
        assert_eq!(getattr(&client, ROOT), Err(EBADF));
        client.attach(ROOT, b"").unwrap();
        ask(&client, 65_536, b"9P2000.L.Google.99").unwrap_err();
        const EPROTO: u32 = 71;
        assert_eq!(getattr(&client, ROOT), Err(EPROTO));
    }

    #[test]
    fn replies_stay_below_the_size_agreed_on() {
        let dir = tree();
        fs::write(dir.path().join("large"), vec![1; 100_000]).unwrap();
        symlink("x".repeat(4095), dir.path().join("long")).unwrap();
        let client = Client::of(&Export::open(dir.path(), ALL).unwrap());
        ask(&client, 4096, BASE.as_bytes()).unwrap();
        client.attach(ROOT, b"").unwrap();
        client.open(Fid(1), &["large"], OpenFlags::RDONLY).unwrap();
        assert_eq!(client.read(Fid(1), 0, u32::MAX).unwrap().len(), 4096 - 24);
        client.walk(ROOT, Fid(2), &["long"]).unwrap();
        assert_eq!(error(&client, &Treadlink { fid: Fid(2) }), Some(EMSGSIZE));
    }
}

mod fids {
    use super::*;

    #[test]
    fn numbers_in_use_and_unknown_ones_are_refused() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        client.walk(ROOT, Fid(1), &["dir"]).unwrap();
        assert_eq!(client.walk(ROOT, Fid(1), &["dir"]), Err(EINVAL));
        assert_eq!(client.attach(Fid(1), b"").unwrap_err(), EINVAL);
        assert_eq!(client.attach(Fid::NONE, b"").unwrap_err(), EINVAL);
        assert_eq!(client.walk(ROOT, Fid::NONE, &[]), Err(EINVAL));
        assert_eq!(client.walk(NOWHERE, Fid(2), &[]), Err(EBADF));
        client.clunk(Fid(1)).unwrap();
        assert_eq!(client.clunk(Fid(1)).unwrap_err(), EBADF);
        client.walk(ROOT, Fid(1), &["empty"]).unwrap();
    }

    #[test]
    fn there_is_a_limit_and_failed_requests_make_none() {
        let dir = tree();
        let export = Export::open(dir.path(), ALL).unwrap();
        let limits = Limits {
            handles: 3,
            ..Limits::default()
        };
        let client = Client::with_limits(&export, limits).0.start(BASE);
        assert_eq!(client.walk(ROOT, Fid(1), &["missing"]), Err(ENOENT));
        assert_eq!(client.clunk(Fid(1)).unwrap_err(), EBADF);
        client.walk(ROOT, Fid(1), &[]).unwrap();
        client.walk(ROOT, Fid(2), &[]).unwrap();
        assert_eq!(client.walk(ROOT, Fid(3), &[]), Err(EMFILE));
        assert_eq!(client.attach(Fid(3), b"").unwrap_err(), EMFILE);
        // Moving one needs no other.
        client.walk(Fid(2), Fid(2), &["dir"]).unwrap();
        client.clunk(Fid(1)).unwrap();
        client.walk(ROOT, Fid(3), &[]).unwrap();
    }

    #[test]
    fn each_request_wants_a_fid_in_the_right_state() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        client.walk(ROOT, Fid(1), &["dir", "file"]).unwrap();
        assert_eq!(client.read(Fid(1), 0, 10), Err(EBADF));
        assert_eq!(write(&client, Fid(1), 0, b"x"), Err(EBADF));
        assert_eq!(
            error(
                &client,
                &Tfsync {
                    fid: Fid(1),
                    datasync: Some(0)
                }
            ),
            Some(EBADF)
        );
        assert_eq!(
            error(
                &client,
                &Treaddir {
                    fid: Fid(1),
                    offset: 0,
                    count: 100
                }
            ),
            Some(EBADF)
        );
        client
            .ask(&Tlopen {
                fid: Fid(1),
                flags: OpenFlags::RDONLY,
            })
            .unwrap();
        assert_eq!(
            error(
                &client,
                &Tlopen {
                    fid: Fid(1),
                    flags: OpenFlags::RDONLY
                }
            ),
            Some(EINVAL)
        );
        assert_eq!(write(&client, Fid(1), 0, b"x"), Err(EBADF));
        assert_eq!(
            error(
                &client,
                &Treaddir {
                    fid: Fid(1),
                    offset: 0,
                    count: 100
                }
            ),
            Some(ENOTDIR)
        );
        client
            .open(Fid(2), &["dir", "file"], OpenFlags::WRONLY)
            .unwrap();
        assert_eq!(client.read(Fid(2), 0, 10), Err(EBADF));
        client.open(Fid(3), &["dir"], OpenFlags::RDONLY).unwrap();
        assert_eq!(client.read(Fid(3), 0, 10), Err(EISDIR));
        // An open fid cannot move.
        assert_eq!(client.walk(Fid(3), Fid(3), &["file"]), Err(EINVAL));
        client.walk(Fid(3), Fid(4), &["file"]).unwrap();
    }
}

mod walk {
    use super::*;

    #[test]
    fn a_failure_half_way_is_told_as_the_dialect_wants() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        let qids = client.walk(ROOT, Fid(1), &["dir", "missing", "x"]).unwrap();
        assert_eq!(qids.len(), 1);
        assert_eq!(client.clunk(Fid(1)).unwrap_err(), EBADF);
        client.walk(ROOT, Fid(2), &["dir"]).unwrap();
        let before = getattr(&client, Fid(2)).unwrap().qid;
        assert_eq!(
            client
                .walk(Fid(2), Fid(2), &["sub", "missing"])
                .unwrap()
                .len(),
            1
        );
        assert_eq!(
            getattr(&client, Fid(2)).unwrap().qid,
            before,
            "the fid has not moved"
        );

        let client = Client::attached(dir.path(), ALL, GOOGLE);
        assert_eq!(
            client.walk(ROOT, Fid(1), &["dir", "missing", "x"]),
            Err(ENOENT)
        );
        assert_eq!(client.clunk(Fid(1)).unwrap_err(), EBADF);
    }

    #[test]
    fn dots_stop_where_the_attach_was() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        for aname in [&b"dir/sub"[..], b"/dir/sub", b"dir/sub/", b"//dir//sub//"] {
            let fid = Fid(10);
            client.attach(fid, aname).unwrap();
            let root = getattr(&client, fid).unwrap().qid;
            for names in [&[".."][..], &["..", "..", ".."], &["."], &[".", "..", "."]] {
                let qids = client.walk(fid, Fid(11), names).unwrap();
                assert!(qids.iter().all(|qid| *qid == root), "{names:?}");
                client.clunk(Fid(11)).unwrap();
            }
            client.clunk(fid).unwrap();
        }
        let up = client
            .walk(ROOT, Fid(12), &["dir", "sub", "..", "file"])
            .unwrap();
        assert_eq!(up[0].path, up[2].path);
        assert_eq!(client.read_file(&["dir", "sub", "..", "file"]), b"content");
        assert_eq!(client.attach(Fid(13), b"missing").unwrap_err(), ENOENT);
        assert_eq!(client.attach(Fid(13), b"dir/..").unwrap_err(), EINVAL);
        assert_eq!(client.attach(Fid(13), b"link/x").unwrap_err(), ENOTDIR);
    }

    #[test]
    fn names_that_are_none_are_refused_and_links_not_followed() {
        let dir = tree();
        symlink("dir", dir.path().join("to-dir")).unwrap();
        let client = Client::attached(dir.path(), ALL, BASE);
        let long = "x".repeat(256);
        for (names, ecode) in [
            (&[""][..], EINVAL),
            (&["dir/file"], EINVAL),
            (&["a\0b"], EINVAL),
            (&[&long], ENAMETOOLONG),
        ] {
            assert_eq!(client.walk(ROOT, Fid(1), names), Err(ecode), "{names:?}");
        }
        assert_eq!(
            client
                .walk(ROOT, Fid(1), &["dir", "file", "x"])
                .unwrap()
                .len(),
            2
        );
        client.walk(ROOT, Fid(2), &["dir", "file"]).unwrap();
        for name in ["x", ".", ".."] {
            assert_eq!(client.walk(Fid(2), Fid(3), &[name]), Err(ENOTDIR), "{name}");
        }
        let qids = client.walk(ROOT, Fid(3), &["to-dir", "file"]).unwrap();
        assert_eq!(qids.len(), 1);
        assert_eq!(qids[0].kind, QidType::SYMLINK);
        let many = ["."; 17];
        assert_eq!(client.walk(ROOT, Fid(4), &many), Err(EINVAL));
        client.walk(ROOT, Fid(4), &many[..16]).unwrap();
    }

    #[test]
    fn clones_come_from_open_and_unlinked_files() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        client
            .open(Fid(1), &["dir", "file"], OpenFlags::RDWR)
            .unwrap();
        fs::remove_file(dir.path().join("dir/file")).unwrap();
        client.walk(Fid(1), Fid(2), &[]).unwrap();
        client
            .ask(&Tlopen {
                fid: Fid(2),
                flags: OpenFlags::RDONLY,
            })
            .unwrap();
        assert_eq!(client.read(Fid(2), 0, 100).unwrap(), b"content");
        let attr = getattr(&client, Fid(2)).unwrap().attr;
        assert_eq!((attr.nlink, attr.size), (0, 7));
    }

    #[test]
    fn attributes_come_with_a_whole_walk_only() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, GOOGLE);
        let ask = |newfid, names: &[&[u8]]| {
            client.ask(&Twalkgetattr {
                fid: ROOT,
                newfid,
                wnames: Names::new(names),
            })
        };
        let answer = ask(Fid(1), &[b"dir", b"file"]).unwrap();
        let reply: Rwalkgetattr<'_> = answer.of();
        assert_eq!((reply.wqids.len(), reply.attr.size), (2, 7));
        assert!(reply.valid.contains(GetattrMask::BASIC));
        let answer = ask(Fid(2), &[]).unwrap();
        assert_eq!(
            answer.of::<Rwalkgetattr<'_>>().attr.mode & 0o170_000,
            0o040_000
        );
        assert_eq!(ask(Fid(3), &[b"dir", b"missing"]).unwrap_err(), ENOENT);
        assert_eq!(client.clunk(Fid(3)).unwrap_err(), EBADF);
    }

    #[test]
    fn attributes_along_a_path_end_where_the_path_does() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, GOOGLE);
        let sizes = |fid, names: &[&str]| -> Result<Vec<u64>, u32> {
            let names: Vec<_> = names.iter().map(|name| name.as_bytes()).collect();
            let answer = client.ask(&Tmultigetattr {
                fid,
                names: Names::new(&names),
            })?;
            let reply: Rmultigetattr<'_> = answer.of();
            Ok(reply.stats.iter().map(|stat| stat.attr.size).collect())
        };
        assert_eq!(sizes(ROOT, &["", "dir", "sub", "deep"]).unwrap().len(), 4);
        assert_eq!(sizes(ROOT, &["dir", "missing", "x"]).unwrap().len(), 1);
        assert_eq!(
            sizes(ROOT, &["dir", "file", "beyond", "further"]).unwrap()[1..],
            [7]
        );
        assert_eq!(sizes(ROOT, &["link", "beyond"]).unwrap(), [8]);
        assert_eq!(sizes(ROOT, &["missing"]), Ok(vec![]));
        assert_eq!(sizes(ROOT, &["dir", ".."]), Err(EINVAL));
        client.walk(ROOT, Fid(1), &["dir", "file"]).unwrap();
        assert_eq!(sizes(Fid(1), &["", "beyond"]), Ok(vec![7]));
        assert_eq!(sizes(Fid(1), &["beyond"]), Err(ENOTDIR));
    }
}

impl Client {
    /// The content of a small file.
    fn read_file(&self, names: &[&str]) -> Vec<u8> {
        let fid = Fid(0x7000_0000);
        self.open(fid, names, OpenFlags::RDONLY).unwrap();
        let content = self.read(fid, 0, 65_536).unwrap();
        self.clunk(fid).unwrap();
        content
    }

    /// All entries of an open directory, `count` bytes at a time.
    fn list(&self, fid: Fid, count: u32) -> Result<Vec<(String, u64, u8)>, u32> {
        let mut entries = Vec::new();
        let mut offset = 0;
        loop {
            let answer = self.ask(&Treaddir { fid, offset, count })?;
            assert!(answer.body.len() <= count as usize + 4);
            let reply: Rreaddir<'_> = answer.of();
            let some: Vec<Dirent<'_>> = reply.entries.iter().map(Result::unwrap).collect();
            let Some(last) = some.last() else {
                return Ok(entries);
            };
            offset = last.offset;
            let name = |entry: &Dirent<'_>| String::from_utf8(entry.name.to_vec()).unwrap();
            entries.extend(
                some.iter()
                    .map(|entry| (name(entry), entry.qid.path, entry.kind)),
            );
        }
    }
}

mod open {
    use super::*;

    fn try_open(client: &Client, names: &[&str], flags: OpenFlags) -> Result<(), u32> {
        let fid = Fid(0x7000_0001);
        client.walk(ROOT, fid, names).unwrap();
        let result = client.ask(&Tlopen { fid, flags });
        client.clunk(fid).unwrap();
        result.map(drop)
    }

    #[test]
    fn flags_are_the_protocols_own() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        let file = ["dir", "file"];
        let noise = OpenFlags::LARGEFILE
            | OpenFlags::NOCTTY
            | OpenFlags::NONBLOCK
            | OpenFlags::FASYNC
            | OpenFlags::DIRECT
            | OpenFlags::NOFOLLOW
            | OpenFlags::NOATIME
            | OpenFlags::CLOEXEC
            | OpenFlags::CREATE
            | OpenFlags::EXCL
            | OpenFlags::SYNC
            | OpenFlags::DSYNC;
        assert_eq!(try_open(&client, &file, noise | OpenFlags::RDWR), Ok(()));
        assert_eq!(
            try_open(&client, &file, OpenFlags::from_bits_retain(3)),
            Err(EINVAL)
        );
        assert_eq!(try_open(&client, &file, OpenFlags::DIRECTORY), Err(ENOTDIR));
        assert_eq!(try_open(&client, &["dir"], OpenFlags::DIRECTORY), Ok(()));
        assert_eq!(try_open(&client, &["dir"], OpenFlags::WRONLY), Err(EISDIR));
        assert_eq!(try_open(&client, &["dir"], OpenFlags::TRUNC), Err(EISDIR));
        assert_eq!(try_open(&client, &["link"], OpenFlags::RDONLY), Err(ELOOP));
        let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        assert_eq!(try_open(&client, &["sock"], OpenFlags::RDONLY), Err(6));
        drop(listener);
        assert_eq!(fs::read(dir.path().join("dir/file")).unwrap(), b"content");
        assert_eq!(
            try_open(&client, &file, OpenFlags::WRONLY | OpenFlags::TRUNC),
            Ok(())
        );
        assert_eq!(fs::read(dir.path().join("dir/file")).unwrap(), b"");
    }

    #[test]
    fn appends_do_not_overwrite_each_other() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        let flags = OpenFlags::WRONLY | OpenFlags::APPEND;
        client.open(Fid(1), &["empty"], flags).unwrap();
        client.open(Fid(2), &["empty"], flags).unwrap();
        assert_eq!(write(&client, Fid(1), 0, b"one"), Ok(3));
        assert_eq!(write(&client, Fid(2), 0, b"two"), Ok(3));
        assert_eq!(fs::read(dir.path().join("empty")).unwrap(), b"onetwo");
    }

    fn create(fid: Fid, name: &'static str, flags: OpenFlags, mode: u32) -> Tlcreate<'static> {
        Tlcreate {
            fid,
            name: name.as_bytes(),
            flags,
            mode,
            gid: NO_ID,
        }
    }

    #[test]
    fn a_created_file_takes_its_directorys_fid_and_its_exact_mode() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        client.walk(ROOT, Fid(1), &["dir"]).unwrap();
        let answer = client
            .ask(&create(Fid(1), "new", OpenFlags::RDWR, 0o106_766))
            .unwrap();
        let reply: Rlcreate = answer.of();
        assert_eq!(reply.iounit, 0);
        assert_eq!(getattr(&client, Fid(1)).unwrap().qid.path, reply.qid.path);
        assert_eq!(write(&client, Fid(1), 0, b"x"), Ok(1));
        assert_eq!(client.read(Fid(1), 0, 1).unwrap(), b"x");
        assert_eq!(mode_of(&dir.path().join("dir/new")), 0o6766);
        // Written to in spite of its mode.
        client.walk(ROOT, Fid(2), &["dir"]).unwrap();
        client
            .ask(&create(Fid(2), "none", OpenFlags::WRONLY, 0))
            .unwrap();
        assert_eq!(write(&client, Fid(2), 0, b"x"), Ok(1));
    }

    #[test]
    fn creation_is_exclusive_only_when_asked_to_be() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, GOOGLE);
        let again = |flags| create(Fid(1), "file", flags, 0o600);
        client.walk(ROOT, Fid(1), &["dir"]).unwrap();
        assert_eq!(
            error(&client, &again(OpenFlags::RDWR | OpenFlags::EXCL)),
            Some(EEXIST)
        );
        assert_eq!(
            getattr(&client, Fid(1)).unwrap().qid.kind,
            QidType::DIR,
            "still the directory"
        );
        client.ask(&again(OpenFlags::RDWR)).unwrap();
        assert_eq!(client.read(Fid(1), 0, 100).unwrap(), b"content");
        client.walk(ROOT, Fid(2), &["dir"]).unwrap();
        let exclusive = Tucreate {
            fid: Fid(2),
            name: b"file",
            flags: OpenFlags::RDWR,
            mode: 0o600,
            gid: NO_ID,
            uid: NO_ID,
        };
        assert_eq!(error(&client, &exclusive), Some(EEXIST));
        let truncated = create(Fid(2), "file", OpenFlags::RDWR | OpenFlags::TRUNC, 0o600);
        client.ask(&truncated).unwrap();
        assert_eq!(client.read(Fid(2), 0, 100).unwrap(), b"");
    }

    #[test]
    fn creation_needs_an_unopened_directory_and_a_name() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        client.walk(ROOT, Fid(1), &["empty"]).unwrap();
        let flags = OpenFlags::RDWR;
        assert_eq!(
            error(&client, &create(Fid(1), "x", flags, 0o600)),
            Some(ENOTDIR)
        );
        client.open(Fid(2), &["dir"], OpenFlags::RDONLY).unwrap();
        assert_eq!(
            error(&client, &create(Fid(2), "x", flags, 0o600)),
            Some(EINVAL)
        );
        for name in ["", ".", "..", "a/b", "a\0b"] {
            client.walk(ROOT, Fid(3), &["dir"]).unwrap();
            assert_eq!(
                error(&client, &create(Fid(3), name, flags, 0o600)),
                Some(EINVAL)
            );
            client.clunk(Fid(3)).unwrap();
        }
        client.walk(ROOT, Fid(3), &[]).unwrap();
        assert_eq!(
            error(&client, &create(Fid(3), "link", flags, 0o600)),
            Some(ELOOP)
        );
        assert_eq!(
            error(&client, &create(Fid(3), "dir", flags, 0o600)),
            Some(EISDIR)
        );
    }

    #[test]
    fn owners_are_those_asked_for() {
        if !is_root() {
            eprintln!("not run: only root gives files away");
            return;
        }
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, GOOGLE);
        client.walk(ROOT, Fid(1), &["dir"]).unwrap();
        let answer = client
            .ask(&Tucreate {
                fid: Fid(1),
                name: b"owned",
                flags: OpenFlags::WRONLY,
                mode: 0o4750,
                gid: 34,
                uid: 12,
            })
            .unwrap();
        assert_eq!(answer.of::<Rucreate>().iounit, 0);
        client
            .ask(&Tumkdir {
                dfid: ROOT,
                name: b"made",
                mode: 0o2755,
                gid: 34,
                uid: 12,
            })
            .unwrap();
        for (path, mode) in [("dir/owned", 0o4750), ("made", 0o2755)] {
            let found = fs::metadata(dir.path().join(path)).unwrap();
            assert_eq!(
                (found.uid(), found.gid(), found.mode() & 0o7777),
                (12, 34, mode),
                "{path}"
            );
        }
        // Below a setgid directory, the group is the directory's where none is asked for.
        client
            .ask(&Tmkdir {
                dfid: ROOT,
                name: b"made-too",
                mode: 0o755,
                gid: NO_ID,
            })
            .unwrap();
        client.walk(ROOT, Fid(2), &["made"]).unwrap();
        client
            .ask(&Tmkdir {
                dfid: Fid(2),
                name: b"inner",
                mode: 0o700,
                gid: NO_ID,
            })
            .unwrap();
        let inner = fs::metadata(dir.path().join("made/inner")).unwrap();
        assert_eq!((inner.uid(), inner.gid()), (0, 34));
    }
}

mod donation {
    use super::*;

    /// Descriptors that came with opening and creating a file.
    fn donated(policy: Policy, version: &str, flags: OpenFlags) -> Vec<std::os::fd::OwnedFd> {
        let dir = tree();
        let client = Client::attached(dir.path(), policy, version);
        client.open(Fid(1), &["dir", "file"], flags).unwrap().fds
    }

    #[test]
    fn descriptors_come_in_google_dialects_unless_turned_off() {
        let none = Policy {
            donate: false,
            ..ALL
        };
        assert_eq!(donated(ALL, GOOGLE, OpenFlags::RDONLY).len(), 1);
        assert_eq!(
            donated(ALL, "9P2000.L.Google.1", OpenFlags::RDONLY).len(),
            1
        );
        assert_eq!(
            donated(ALL, "9P2000.L.Google.0", OpenFlags::RDONLY).len(),
            0
        );
        assert_eq!(donated(ALL, BASE, OpenFlags::RDONLY).len(), 0);
        assert_eq!(donated(none, GOOGLE, OpenFlags::RDONLY).len(), 0);
    }

    #[test]
    fn they_are_the_file_and_no_more_than_what_was_opened() {
        let mut fds = donated(ALL, GOOGLE, OpenFlags::RDONLY);
        let mut file = fs::File::from(fds.pop().unwrap());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        assert!(file.write_at(b"x", 0).is_err());
        let mut fds = donated(READONLY, GOOGLE, OpenFlags::RDONLY);
        let file = fs::File::from(fds.pop().unwrap());
        assert!(file.write_at(b"x", 0).is_err());
        let mut fds = donated(ALL, GOOGLE, OpenFlags::RDWR);
        let file = fs::File::from(fds.pop().unwrap());
        assert_eq!(file.write_at(b"x", 0).unwrap(), 1);
    }

    #[test]
    fn directories_are_kept() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, GOOGLE);
        assert!(
            client
                .open(Fid(1), &["dir"], OpenFlags::RDONLY)
                .unwrap()
                .fds
                .is_empty()
        );
    }

    #[test]
    fn nothing_is_sent_over_tcp() {
        let dir = tree();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let export = Export::open(dir.path(), ALL).unwrap();
        let ours = gofer_transport::Stream::connect_tcp(&address, crate::common::PATIENCE).unwrap();
        let theirs = gofer_transport::Stream::from_fd(listener.accept().unwrap().0.into()).unwrap();
        let protocol = gofer_server_mock::server::Protocol::P9;
        gofer_server_mock::server::spawn(theirs, export, protocol, Limits::default()).unwrap();
        let client = Client::on(ours).start(GOOGLE);
        assert!(
            client
                .open(Fid(1), &["dir", "file"], OpenFlags::RDONLY)
                .unwrap()
                .fds
                .is_empty()
        );
        let _listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        client.walk(ROOT, Fid(2), &["sock"]).unwrap();
        let connect = Tlconnect {
            fid: Fid(2),
            socket_type: SocketType::STREAM,
        };
        assert_eq!(error(&client, &connect), Some(ECONNREFUSED));
    }
}

mod attributes {
    use super::*;

    #[test]
    fn all_the_host_has_is_filled_in_and_said_so() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        client.walk(ROOT, Fid(1), &["dir", "file"]).unwrap();
        let reply = getattr(&client, Fid(1)).unwrap();
        let found = fs::metadata(dir.path().join("dir/file")).unwrap();
        assert!(reply.valid.contains(GetattrMask::BASIC));
        assert!(
            !reply
                .valid
                .intersects(GetattrMask::GEN | GetattrMask::DATA_VERSION)
        );
        let attr = reply.attr;
        assert_eq!(attr.mode, found.mode());
        assert_eq!(
            (attr.uid, attr.gid, attr.nlink),
            (found.uid(), found.gid(), 1)
        );
        assert_eq!((attr.size, attr.blocks), (7, found.blocks()));
        assert_eq!(attr.mtime_sec as i64, found.mtime());
        assert_eq!(attr.mtime_nsec as i64, found.mtime_nsec());
        assert_eq!(attr.ctime_nsec as i64, found.ctime_nsec());
        assert!(attr.blksize >= 4096);
    }

    #[test]
    fn qids_tell_files_apart_and_change_with_content() {
        let dir = tree();
        fs::hard_link(dir.path().join("dir/file"), dir.path().join("hard")).unwrap();
        let client = Client::attached(dir.path(), ALL, BASE);
        let qid = |names: &[&str]| {
            let qids = client.walk(ROOT, Fid(1), names).unwrap();
            client.clunk(Fid(1)).unwrap();
            *qids.last().unwrap()
        };
        let file = qid(&["dir", "file"]);
        assert_eq!(qid(&["hard"]), file);
        assert_ne!(qid(&["empty"]).path, file.path);
        assert_ne!(file.version, 0);
        assert_eq!(qid(&["dir"]).kind, QidType::DIR);
        assert_eq!(qid(&["link"]).kind, QidType::SYMLINK);
        fs::write(dir.path().join("dir/file"), "other content").unwrap();
        let changed = qid(&["dir", "file"]);
        assert_eq!(changed.path, file.path);
        assert_ne!(changed.version, file.version);
        assert_ne!(changed.version, 0);
    }

    #[test]
    fn several_changes_are_made_in_an_order_that_keeps_them_all() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        client.walk(ROOT, Fid(1), &["dir", "file"]).unwrap();
        let (uid, gid) = if is_root() { (12, 34) } else { (NO_ID, NO_ID) };
        let all = SetattrMask::MODE
            | SetattrMask::UID
            | SetattrMask::GID
            | SetattrMask::SIZE
            | SetattrMask::ATIME
            | SetattrMask::ATIME_SET
            | SetattrMask::MTIME
            | SetattrMask::MTIME_SET
            | SetattrMask::CTIME;
        let request = Tsetattr {
            mode: 0o106_711,
            uid,
            gid,
            size: 3,
            atime_sec: 1_000,
            atime_nsec: 999_999_999,
            mtime_sec: -5i64 as u64,
            mtime_nsec: 7,
            ..setattr(Fid(1), all)
        };
        client.ask(&request).unwrap();
        let found = fs::metadata(dir.path().join("dir/file")).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o6711);
        assert_eq!(found.len(), 3);
        assert_eq!((found.atime(), found.atime_nsec()), (1_000, 999_999_999));
        assert_eq!((found.mtime(), found.mtime_nsec()), (-5, 7));
        if is_root() {
            assert_eq!((found.uid(), found.gid()), (12, 34));
        }
    }

    #[test]
    fn times_without_a_value_are_the_servers_and_odd_values_are_refused() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        client.walk(ROOT, Fid(1), &["dir", "file"]).unwrap();
        let set = SetattrMask::MTIME | SetattrMask::MTIME_SET;
        client
            .ask(&Tsetattr {
                mtime_sec: 5,
                ..setattr(Fid(1), set)
            })
            .unwrap();
        let path = dir.path().join("dir/file");
        assert_eq!(fs::metadata(&path).unwrap().mtime(), 5);
        client.ask(&setattr(Fid(1), SetattrMask::CTIME)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mtime(), 5);
        client
            .ask(&setattr(Fid(1), SetattrMask::ATIME | SetattrMask::MTIME))
            .unwrap();
        assert!(fs::metadata(&path).unwrap().mtime() > 1_000_000_000);
        // "Now" and "leave it alone" of the host, and anything else above a second.
        for mtime_nsec in [(1 << 30) - 1, (1 << 30) - 2, 1_000_000_000, u64::MAX] {
            let request = Tsetattr {
                mtime_nsec,
                ..setattr(Fid(1), set)
            };
            assert_eq!(error(&client, &request), Some(EINVAL));
        }
    }

    #[test]
    fn sizes_go_through_the_descriptor_of_an_open_fid() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        client
            .open(Fid(1), &["dir", "file"], OpenFlags::RDWR)
            .unwrap();
        let path = dir.path().join("dir/file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
        let to = |size| Tsetattr {
            size,
            ..setattr(Fid(1), SetattrMask::SIZE)
        };
        client.ask(&to(2)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 2);
        assert_eq!(error(&client, &to(u64::MAX)), Some(EINVAL));
        fs::remove_file(&path).unwrap();
        client.ask(&to(5)).unwrap();
        assert_eq!(client.read(Fid(1), 0, 100).unwrap(), b"co\0\0\0");
        client
            .ask(&Tsetattr {
                mode: 0o640,
                ..setattr(Fid(1), SetattrMask::MODE)
            })
            .unwrap();
        assert_eq!(getattr(&client, Fid(1)).unwrap().attr.mode, 0o100_640);
        let directory = Tsetattr {
            size: 1,
            ..setattr(ROOT, SetattrMask::SIZE)
        };
        assert_eq!(error(&client, &directory), Some(EISDIR));
    }

    #[test]
    fn links_have_owners_and_times_of_their_own_but_no_mode() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        client.walk(ROOT, Fid(1), &["link"]).unwrap();
        let mode = Tsetattr {
            mode: 0o600,
            ..setattr(Fid(1), SetattrMask::MODE)
        };
        assert_eq!(error(&client, &mode), Some(EOPNOTSUPP));
        let set = SetattrMask::MTIME | SetattrMask::MTIME_SET;
        client
            .ask(&Tsetattr {
                mtime_sec: 77,
                ..setattr(Fid(1), set)
            })
            .unwrap();
        let link = fs::symlink_metadata(dir.path().join("link")).unwrap();
        assert_eq!(link.mtime(), 77);
        assert_ne!(fs::metadata(dir.path().join("link")).unwrap().mtime(), 77);
        if is_root() {
            let ids = SetattrMask::UID | SetattrMask::GID;
            client
                .ask(&Tsetattr {
                    uid: 12,
                    gid: 34,
                    ..setattr(Fid(1), ids)
                })
                .unwrap();
            let link = fs::symlink_metadata(dir.path().join("link")).unwrap();
            assert_eq!((link.uid(), link.gid()), (12, 34));
        }
        let answer = client.ask(&Treadlink { fid: Fid(1) }).unwrap();
        assert_eq!(answer.of::<Rreadlink<'_>>().target, b"dir/file");
        assert_eq!(error(&client, &Treadlink { fid: ROOT }), Some(EINVAL));
    }

    #[test]
    fn set_and_clunk_ends_the_fid_in_any_case() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, GOOGLE);
        let request = |size| Tsetattrclunk {
            fid: Fid(1),
            valid: SetattrMask::SIZE,
            mode: 0,
            uid: 0,
            gid: 0,
            size,
            atime_sec: 0,
            atime_nsec: 0,
            mtime_sec: 0,
            mtime_nsec: 0,
        };
        client.walk(ROOT, Fid(1), &["dir", "file"]).unwrap();
        client.ask(&request(1)).unwrap();
        assert_eq!(client.clunk(Fid(1)).unwrap_err(), EBADF);
        client.walk(ROOT, Fid(1), &["dir"]).unwrap();
        assert_eq!(error(&client, &request(1)), Some(EISDIR));
        assert_eq!(client.clunk(Fid(1)).unwrap_err(), EBADF);
        assert_eq!(error(&client, &request(1)), Some(EBADF));
        assert_eq!(fs::read(dir.path().join("dir/file")).unwrap(), b"c");
    }

    #[test]
    fn numbers_of_the_file_system_are_the_hosts() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        let answer = client.ask(&Tstatfs { fid: ROOT }).unwrap();
        let reply: Rstatfs = answer.of();
        let host = rustix::fs::statvfs(dir.path()).unwrap();
        assert_eq!((reply.blocks, reply.files), (host.f_blocks, host.f_files));
        assert_eq!(
            (reply.fsid, u64::from(reply.namelen)),
            (host.f_fsid, host.f_namemax)
        );
        assert_eq!(u64::from(reply.bsize), host.f_bsize);
    }
}

mod data {
    use super::*;

    #[test]
    fn reads_end_with_the_file_and_writes_extend_it() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        client
            .open(Fid(1), &["dir", "file"], OpenFlags::RDWR)
            .unwrap();
        assert_eq!(client.read(Fid(1), 3, 2).unwrap(), b"te");
        assert_eq!(client.read(Fid(1), 3, 65_536).unwrap(), b"tent");
        assert_eq!(client.read(Fid(1), 7, 10).unwrap(), b"");
        assert_eq!(client.read(Fid(1), 1 << 40, 10).unwrap(), b"");
        assert_eq!(client.read(Fid(1), 0, 0).unwrap(), b"");
        assert_eq!(client.read(Fid(1), u64::MAX, 10), Err(EINVAL));
        assert_eq!(write(&client, Fid(1), 9, b"end"), Ok(3));
        assert_eq!(write(&client, Fid(1), 0, b""), Ok(0));
        assert_eq!(write(&client, Fid(1), u64::MAX, b"x"), Err(EINVAL));
        assert_eq!(
            fs::read(dir.path().join("dir/file")).unwrap(),
            b"content\0\0end"
        );
    }

    #[test]
    fn short_reads_behind_long_ones_bring_nothing_old() {
        let dir = tree();
        let large: Vec<u8> = (0..300_000u32).map(|index| index as u8 | 1).collect();
        fs::write(dir.path().join("large"), &large).unwrap();
        let client = Client::attached(dir.path(), ALL, BASE);
        client.open(Fid(1), &["large"], OpenFlags::RDONLY).unwrap();
        client
            .open(Fid(2), &["dir", "file"], OpenFlags::RDONLY)
            .unwrap();
        assert_eq!(client.read(Fid(1), 0, 1 << 20).unwrap(), large);
        assert_eq!(client.read(Fid(2), 0, 1 << 20).unwrap(), b"content");
        assert_eq!(
            client.read(Fid(1), 299_990, 1 << 20).unwrap(),
            large[299_990..]
        );
    }

    #[test]
    fn files_and_directories_are_synced_by_both_forms() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, GOOGLE);
        client
            .open(Fid(1), &["dir", "file"], OpenFlags::RDWR)
            .unwrap();
        client.open(Fid(2), &["dir"], OpenFlags::RDONLY).unwrap();
        for fid in [Fid(1), Fid(2)] {
            for datasync in [None, Some(0), Some(1)] {
                client.ask(&Tfsync { fid, datasync }).unwrap();
            }
        }
        client.ask(&Tflushf { fid: Fid(1) }).unwrap();
        assert_eq!(error(&client, &Tflushf { fid: NOWHERE }), Some(EBADF));
    }

    #[test]
    fn space_is_allocated_through_writable_fids() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, GOOGLE);
        client.open(Fid(1), &["empty"], OpenFlags::RDWR).unwrap();
        let allocate = |fid, mode| Tallocate {
            fid,
            mode,
            offset: 0,
            length: 8192,
        };
        client.ask(&allocate(Fid(1), 1)).unwrap();
        assert_eq!(getattr(&client, Fid(1)).unwrap().attr.size, 0);
        client.ask(&allocate(Fid(1), 0)).unwrap();
        assert_eq!(getattr(&client, Fid(1)).unwrap().attr.size, 8192);
        client.open(Fid(2), &["empty"], OpenFlags::RDONLY).unwrap();
        assert_eq!(error(&client, &allocate(Fid(2), 0)), Some(EBADF));
        assert_eq!(
            error(&client, &allocate(Fid(1), 0x8000_0000)),
            Some(EOPNOTSUPP)
        );
    }

    #[test]
    fn a_listing_has_every_name_once_with_dots_and_types() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        client.open(Fid(1), &[], OpenFlags::RDONLY).unwrap();
        let found: BTreeMap<_, _> = client
            .list(Fid(1), 60_000)
            .unwrap()
            .into_iter()
            .map(|(name, path, kind)| (name, (path, kind)))
            .collect();
        let kinds: Vec<_> = found
            .iter()
            .map(|(name, (_, kind))| (name.as_str(), *kind))
            .collect();
        assert_eq!(
            kinds,
            [(".", 4), ("..", 4), ("dir", 4), ("empty", 8), ("link", 10)]
        );
        assert_eq!(found["."].0, found[".."].0, "the root is its own parent");
        let root = getattr(&client, ROOT).unwrap().qid;
        assert_eq!(found["."].0, root.path);
        let qids = client.walk(ROOT, Fid(2), &["empty"]).unwrap();
        assert_eq!(found["empty"].0, qids[0].path);
        client.open(Fid(3), &["dir"], OpenFlags::RDONLY).unwrap();
        let below = client.list(Fid(3), 60_000).unwrap();
        assert!(
            below
                .iter()
                .any(|(name, path, _)| name == ".." && *path == root.path)
        );
    }

    #[test]
    fn listings_go_on_from_cookies_though_entries_vanish() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..500 {
            fs::write(
                dir.path().join(format!("{number:03}-{}", "n".repeat(40))),
                "",
            )
            .unwrap();
        }
        let client = Client::attached(dir.path(), ALL, BASE);
        client.open(Fid(1), &[], OpenFlags::RDONLY).unwrap();
        // As `rm -r` does: remove what was listed before going on.
        let mut offset = 0;
        let mut removed = 0;
        loop {
            let answer = client
                .ask(&Treaddir {
                    fid: Fid(1),
                    offset,
                    count: 2_000,
                })
                .unwrap();
            let reply: Rreaddir<'_> = answer.of();
            if reply.entries.as_bytes().is_empty() {
                break;
            }
            for entry in reply.entries.iter().map(Result::unwrap) {
                offset = entry.offset;
                assert!(offset != 0 && offset < 1 << 63);
                let name = str::from_utf8(entry.name).unwrap();
                if !name.starts_with('.') {
                    fs::remove_file(dir.path().join(name)).unwrap();
                    removed += 1;
                }
            }
        }
        assert_eq!(removed, 500);
        for _ in 0..3 {
            let end = client
                .ask(&Treaddir {
                    fid: Fid(1),
                    offset,
                    count: 2_000,
                })
                .unwrap();
            assert!(
                end.of::<Rreaddir<'_>>().entries.as_bytes().is_empty(),
                "the end repeats"
            );
        }
        fs::write(dir.path().join("late"), "").unwrap();
        let names: Vec<_> = client.list(Fid(1), 2_000).unwrap();
        assert_eq!(names.len(), 3, "offset 0 starts again");
    }

    #[test]
    fn a_listing_with_no_room_for_an_entry_is_an_error_and_not_the_end() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        client.open(Fid(1), &["dir"], OpenFlags::RDONLY).unwrap();
        for count in [0, 1, 24] {
            let request = Treaddir {
                fid: Fid(1),
                offset: 0,
                count,
            };
            assert_eq!(error(&client, &request), Some(EINVAL), "{count}");
        }
        let names = client.list(Fid(1), 30).unwrap();
        assert_eq!(names.len(), 4, "{names:?}");
    }
}

mod names {
    use super::*;

    fn fifo(dfid: Fid, name: &[u8]) -> Tmknod<'_> {
        Tmknod {
            dfid,
            name,
            mode: 0o010_644,
            major: 0,
            minor: 0,
            gid: NO_ID,
        }
    }

    #[test]
    fn every_kind_of_file_is_made_with_its_exact_mode() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        let at = |name: &str| dir.path().join(name);
        client
            .ask(&Tmkdir {
                dfid: ROOT,
                name: b"d",
                mode: 0o043_777,
                gid: NO_ID,
            })
            .unwrap();
        assert_eq!(mode_of(&at("d")), 0o3777);
        client.ask(&fifo(ROOT, b"p")).unwrap();
        assert_eq!(fs::symlink_metadata(at("p")).unwrap().mode(), 0o010_644);
        for mode in [0o640, 0o100_640] {
            let name: &[u8] = if mode == 0o640 { b"f" } else { b"g" };
            client
                .ask(&Tmknod {
                    mode,
                    ..fifo(ROOT, name)
                })
                .unwrap();
            let path = at(str::from_utf8(name).unwrap());
            assert_eq!(fs::symlink_metadata(path).unwrap().mode(), 0o100_640);
        }
        client
            .ask(&Tmknod {
                mode: 0o140_600,
                ..fifo(ROOT, b"s")
            })
            .unwrap();
        assert_eq!(fs::symlink_metadata(at("s")).unwrap().mode(), 0o140_600);
        for mode in [0o040_755, 0o120_777, 0o170_000, 0o150_000] {
            assert_eq!(
                error(
                    &client,
                    &Tmknod {
                        mode,
                        ..fifo(ROOT, b"x")
                    }
                ),
                Some(EINVAL)
            );
        }
        let odd = b"\xff\xfe/../anywhere";
        client
            .ask(&Tsymlink {
                dfid: ROOT,
                name: b"l",
                symtgt: odd,
                gid: NO_ID,
            })
            .unwrap();
        client.walk(ROOT, Fid(1), &["l"]).unwrap();
        let answer = client.ask(&Treadlink { fid: Fid(1) }).unwrap();
        assert_eq!(answer.of::<Rreadlink<'_>>().target, odd);
        assert_eq!(error(&client, &fifo(ROOT, b"p")), Some(EEXIST));
        if is_root() {
            let null = Tmknod {
                mode: 0o020_600,
                major: 1,
                minor: 3,
                ..fifo(ROOT, b"null")
            };
            client.ask(&null).unwrap();
            client.walk(ROOT, Fid(2), &["null"]).unwrap();
            assert_eq!(getattr(&client, Fid(2)).unwrap().attr.rdev, 259);
        }
    }

    #[test]
    fn no_request_but_a_walk_takes_dots_or_paths() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, GOOGLE);
        client.walk(ROOT, Fid(1), &["empty"]).unwrap();
        for name in [&b""[..], b".", b"..", b"a/b", b"../x", b"a\0"] {
            let gid = NO_ID;
            let flags = UnlinkFlags::empty();
            let refused = [
                error(
                    &client,
                    &Tmkdir {
                        dfid: ROOT,
                        name,
                        mode: 0o755,
                        gid,
                    },
                ),
                error(&client, &fifo(ROOT, name)),
                error(
                    &client,
                    &Tsymlink {
                        dfid: ROOT,
                        name,
                        symtgt: b"x",
                        gid,
                    },
                ),
                error(
                    &client,
                    &Tlink {
                        dfid: ROOT,
                        fid: Fid(1),
                        name,
                    },
                ),
                error(
                    &client,
                    &Tunlinkat {
                        dirfid: ROOT,
                        name,
                        flags,
                    },
                ),
                error(
                    &client,
                    &Trename {
                        fid: Fid(1),
                        dfid: ROOT,
                        name,
                    },
                ),
                error(
                    &client,
                    &Trenameat {
                        olddirfid: ROOT,
                        oldname: name,
                        newdirfid: ROOT,
                        newname: b"x",
                    },
                ),
                error(
                    &client,
                    &Trenameat {
                        olddirfid: ROOT,
                        oldname: b"empty",
                        newdirfid: ROOT,
                        newname: name,
                    },
                ),
            ];
            assert_eq!(refused, [Some(EINVAL); 8], "{name:?}");
        }
    }

    #[test]
    fn fids_follow_renames_of_the_file_and_above() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        client.walk(ROOT, Fid(1), &["dir", "sub", "deep"]).unwrap();
        client
            .open(Fid(2), &["dir", "file"], OpenFlags::RDWR)
            .unwrap();
        client
            .ask(&Trenameat {
                olddirfid: ROOT,
                oldname: b"dir",
                newdirfid: ROOT,
                newname: b"moved",
            })
            .unwrap();
        client
            .ask(&Trename {
                fid: Fid(2),
                dfid: ROOT,
                name: b"file2",
            })
            .unwrap();
        assert_eq!(getattr(&client, Fid(1)).unwrap().attr.size, 4);
        assert_eq!(write(&client, Fid(2), 0, b"C"), Ok(1));
        assert_eq!(client.read_file(&["file2"]), b"Content");
        // The name to remove is the new one.
        client.ask(&Tremove { fid: Fid(1) }).unwrap();
        assert!(!dir.path().join("moved/sub/deep").exists());
        client.ask(&Tremove { fid: Fid(2) }).unwrap();
        assert!(!dir.path().join("file2").exists());
    }

    #[test]
    fn a_rename_over_a_file_leaves_its_open_fids_alone() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        client
            .open(Fid(1), &["dir", "file"], OpenFlags::RDONLY)
            .unwrap();
        client.walk(ROOT, Fid(2), &["dir"]).unwrap();
        client
            .ask(&Trenameat {
                olddirfid: ROOT,
                oldname: b"empty",
                newdirfid: Fid(2),
                newname: b"file",
            })
            .unwrap();
        assert_eq!(client.read(Fid(1), 0, 10).unwrap(), b"content");
        assert_eq!(getattr(&client, Fid(1)).unwrap().attr.nlink, 0);
        assert_eq!(client.read_file(&["dir", "file"]), b"");
        // What it stood for has no name that could be removed.
        assert_eq!(error(&client, &Tremove { fid: Fid(1) }), Some(ENOENT));
        assert!(dir.path().join("dir/file").exists());
    }

    #[test]
    fn removal_tells_files_from_directories() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        let unlink = |name, flags| {
            let flags = UnlinkFlags::from_bits_retain(flags);
            error(
                &client,
                &Tunlinkat {
                    dirfid: ROOT,
                    name,
                    flags,
                },
            )
        };
        assert_eq!(unlink(b"dir", 0), Some(EISDIR));
        assert_eq!(unlink(b"dir", 0x200), Some(ENOTEMPTY));
        assert_eq!(unlink(b"empty", 0x200), Some(ENOTDIR));
        assert_eq!(unlink(b"empty", 0x100), Some(EINVAL));
        assert_eq!(unlink(b"missing", 0), Some(ENOENT));
        client.open(Fid(1), &["empty"], OpenFlags::RDWR).unwrap();
        assert_eq!(unlink(b"empty", 0), None);
        assert_eq!(write(&client, Fid(1), 0, b"still"), Ok(5));
        assert_eq!(client.read(Fid(1), 0, 10).unwrap(), b"still");
    }

    #[test]
    fn remove_ends_the_fid_in_any_case_and_keeps_roots() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        client.walk(ROOT, Fid(1), &["dir"]).unwrap();
        assert_eq!(error(&client, &Tremove { fid: Fid(1) }), Some(ENOTEMPTY));
        assert_eq!(client.clunk(Fid(1)).unwrap_err(), EBADF);
        client.attach(Fid(2), b"dir/sub").unwrap();
        assert_eq!(
            error(
                &client,
                &Trename {
                    fid: Fid(2),
                    dfid: ROOT,
                    name: b"x"
                }
            ),
            Some(EINVAL)
        );
        assert_eq!(error(&client, &Tremove { fid: Fid(2) }), Some(EINVAL));
        assert_eq!(client.clunk(Fid(2)).unwrap_err(), EBADF);
        fs::create_dir(dir.path().join("dir/none")).unwrap();
        client.walk(ROOT, Fid(3), &["dir", "none"]).unwrap();
        client.ask(&Tremove { fid: Fid(3) }).unwrap();
        assert!(!dir.path().join("dir/none").exists());
    }

    #[test]
    fn links_are_made_of_files_and_of_links_but_not_of_directories() {
        let dir = tree();
        let client = Client::attached(dir.path(), ALL, BASE);
        for (name, from) in [("hard", &["dir", "file"][..]), ("hard-link", &["link"])] {
            client.walk(ROOT, Fid(1), from).unwrap();
            client
                .ask(&Tlink {
                    dfid: ROOT,
                    fid: Fid(1),
                    name: name.as_bytes(),
                })
                .unwrap();
            client.clunk(Fid(1)).unwrap();
        }
        assert_eq!(fs::metadata(dir.path().join("hard")).unwrap().nlink(), 2);
        assert!(
            fs::symlink_metadata(dir.path().join("hard-link"))
                .unwrap()
                .is_symlink()
        );
        client.walk(ROOT, Fid(1), &["dir"]).unwrap();
        assert_eq!(
            error(
                &client,
                &Tlink {
                    dfid: ROOT,
                    fid: Fid(1),
                    name: b"x"
                }
            ),
            Some(EPERM)
        );
    }
}

mod xattrs {
    use super::*;

    const E2BIG: u32 = 7;
    const ENOMEM: u32 = 12;

    /// A tree and a client of it, where the file system has attributes of users.
    fn start(version: &str) -> Option<(tempfile::TempDir, Client)> {
        let dir = tree();
        if !has_user_xattrs(dir.path()) {
            eprintln!("not run: no user attributes in {}", dir.path().display());
            return None;
        }
        let client = Client::attached(dir.path(), ALL, version);
        Some((dir, client))
    }

    fn create(client: &Client, name: &[u8], attr_size: u64, flags: XattrFlags) -> Result<(), u32> {
        client.walk(ROOT, Fid(1), &["dir", "file"]).unwrap();
        let result = client.ask(&Txattrcreate {
            fid: Fid(1),
            name,
            attr_size,
            flags,
        });
        if result.is_err() {
            client.clunk(Fid(1)).unwrap();
        }
        result.map(drop)
    }

    fn get(client: &Client, name: &[u8]) -> Result<Vec<u8>, u32> {
        client.walk(ROOT, Fid(2), &["dir", "file"]).unwrap();
        let walked = client.ask(&Txattrwalk {
            fid: Fid(2),
            newfid: Fid(3),
            name,
        });
        client.clunk(Fid(2)).unwrap();
        let size = walked?.of::<Rxattrwalk>().size;
        let value = client.read(Fid(3), 0, size as u32 + 10).unwrap();
        assert_eq!(value.len() as u64, size);
        assert_eq!(client.read(Fid(3), size, 10).unwrap(), b"");
        client.clunk(Fid(3)).unwrap();
        Ok(value)
    }

    #[test]
    fn a_value_is_stored_when_its_fid_is_clunked() {
        let Some((_dir, client)) = start(BASE) else {
            return;
        };
        assert_eq!(get(&client, b"user.a"), Err(ENODATA));
        create(&client, b"user.a", 6, XattrFlags::empty()).unwrap();
        assert_eq!(write(&client, Fid(1), 0, b"val"), Ok(3));
        assert_eq!(write(&client, Fid(1), 3, b"ues"), Ok(3));
        assert_eq!(get(&client, b"user.a"), Err(ENODATA));
        client.clunk(Fid(1)).unwrap();
        assert_eq!(get(&client, b"user.a").unwrap(), b"values");
        assert_eq!(get(&client, b"").unwrap(), b"user.a\0");
        create(&client, b"user.a", 0, XattrFlags::REPLACE).unwrap();
        client.clunk(Fid(1)).unwrap();
        assert_eq!(get(&client, b"user.a"), Err(ENODATA));
        create(&client, b"user.none", 0, XattrFlags::empty()).unwrap();
        client.clunk(Fid(1)).unwrap();
        assert_eq!(get(&client, b"user.none").unwrap(), b"");
    }

    #[test]
    fn what_cannot_work_fails_early_and_a_short_value_late() {
        let Some((_dir, client)) = start(BASE) else {
            return;
        };
        assert_eq!(
            create(&client, b"user.a", 65_537, XattrFlags::empty()),
            Err(E2BIG)
        );
        assert_eq!(
            create(&client, b"user.a", u64::MAX, XattrFlags::empty()),
            Err(E2BIG)
        );
        assert_eq!(
            create(&client, b"user.a", 3, XattrFlags::REPLACE),
            Err(ENODATA)
        );
        assert_eq!(
            create(&client, b"nonsense", 3, XattrFlags::empty()),
            Err(EOPNOTSUPP)
        );
        let odd = XattrFlags::from_bits_retain(4);
        assert_eq!(create(&client, b"user.a", 3, odd), Err(EINVAL));
        create(&client, b"user.a", 3, XattrFlags::CREATE).unwrap();
        assert_eq!(write(&client, Fid(1), 0, b"valu"), Err(28));
        assert_eq!(write(&client, Fid(1), 2, b"v"), Err(EINVAL));
        assert_eq!(write(&client, Fid(1), 0, b"va"), Ok(2));
        assert_eq!(client.clunk(Fid(1)).unwrap_err(), EINVAL);
        assert_eq!(client.clunk(Fid(1)).unwrap_err(), EBADF);
        assert_eq!(get(&client, b"user.a"), Err(ENODATA));
        create(&client, b"user.a", 1, XattrFlags::CREATE).unwrap();
        write(&client, Fid(1), 0, b"v").unwrap();
        client.clunk(Fid(1)).unwrap();
        assert_eq!(
            create(&client, b"user.a", 3, XattrFlags::CREATE),
            Err(EEXIST)
        );
    }

    #[test]
    fn values_that_wait_are_limited_in_all() {
        let Some((_dir, client)) = start(BASE) else {
            return;
        };
        let mut made = 0;
        let refused = loop {
            let fid = Fid(100 + made);
            client.walk(ROOT, fid, &["empty"]).unwrap();
            let flags = XattrFlags::empty();
            let name = b"user.large";
            match client.ask(&Txattrcreate {
                fid,
                name,
                attr_size: 65_536,
                flags,
            }) {
                Ok(_) => made += 1,
                Err(ecode) => break ecode,
            }
        };
        assert_eq!((refused, made), (ENOMEM, 64));
        assert_eq!(client.clunk(Fid(100)).unwrap_err(), EINVAL);
        create(&client, b"user.large", 65_536, XattrFlags::empty()).unwrap();
    }

    #[test]
    fn the_google_requests_need_no_fid_of_their_own() {
        let Some((_dir, client)) = start(GOOGLE) else {
            return;
        };
        client.walk(ROOT, Fid(1), &["dir", "file"]).unwrap();
        let fid = Fid(1);
        let set = |name, value, flags| {
            error(
                &client,
                &Tsetxattr {
                    fid,
                    name,
                    value,
                    flags,
                },
            )
        };
        let get = |size| {
            let answer = client.ask(&Tgetxattr {
                fid,
                name: b"user.a",
                size,
            })?;
            Ok(answer.of::<Rgetxattr<'_>>().value.to_vec())
        };
        assert_eq!(set(b"user.a", b"one", XattrFlags::CREATE), None);
        assert_eq!(set(b"user.a", b"two", XattrFlags::CREATE), Some(EEXIST));
        assert_eq!(set(b"user.b", b"", XattrFlags::REPLACE), Some(ENODATA));
        assert_eq!(set(b"user.b", b"", XattrFlags::empty()), None);
        for size in [0, 1, 100] {
            assert_eq!(get(size), Ok(b"one".to_vec()));
        }
        let answer = client.ask(&Tlistxattr { fid, size: 0 }).unwrap();
        let mut names: Vec<_> = answer.of::<Rlistxattr<'_>>().names.iter().collect();
        names.sort_unstable();
        assert_eq!(names, [b"user.a", b"user.b"]);
        client
            .ask(&Tremovexattr {
                fid,
                name: b"user.a",
            })
            .unwrap();
        assert_eq!(get(0), Err(ENODATA));
        assert_eq!(
            error(
                &client,
                &Tremovexattr {
                    fid,
                    name: b"user.a"
                }
            ),
            Some(ENODATA)
        );
    }
}

mod locks {
    use super::*;

    fn lock(kind: LockType, start: u64, length: u64, proc_id: u32) -> Tlock<'static> {
        Tlock {
            fid: Fid(1),
            r#type: kind,
            flags: LockFlags::BLOCK,
            start,
            length,
            proc_id,
            client_id: b"node",
        }
    }

    fn status(client: &Client, request: &Tlock<'_>) -> LockStatus {
        client.ask(request).unwrap().of::<Rlock>().status
    }

    fn test(kind: LockType, start: u64, length: u64, proc_id: u32) -> Tgetlock<'static> {
        Tgetlock {
            fid: Fid(1),
            r#type: kind,
            start,
            length,
            proc_id,
            client_id: b"node",
        }
    }

    fn two_clients(dir: &Path) -> (Client, Client) {
        let export = Export::open(dir, ALL).unwrap();
        let clients = [
            Client::of(&export).start(BASE),
            Client::of(&export).start(BASE),
        ];
        for client in &clients {
            client
                .open(Fid(1), &["dir", "file"], OpenFlags::RDWR)
                .unwrap();
        }
        clients.into()
    }

    #[test]
    fn connections_conflict_by_range_and_are_told_at_once() {
        let dir = tree();
        let (a, b) = two_clients(dir.path());
        assert_eq!(
            status(&a, &lock(LockType::WRITE, 10, 10, 1)),
            LockStatus::SUCCESS
        );
        // The same process number on the same node, but another connection.
        assert_eq!(
            status(&b, &lock(LockType::READ, 19, 1, 1)),
            LockStatus::BLOCKED
        );
        assert_eq!(
            status(&b, &lock(LockType::WRITE, 20, 0, 1)),
            LockStatus::SUCCESS
        );
        assert_eq!(
            status(&a, &lock(LockType::READ, 0, 0, 1)),
            LockStatus::BLOCKED
        );
        for kind in [LockType::READ, LockType::WRITE, LockType::UNLOCK] {
            let answer = b.ask(&test(kind, 0, 15, 2)).unwrap();
            let held: Rgetlock<'_> = answer.of();
            assert_eq!(
                (held.r#type, held.start, held.length),
                (LockType::WRITE, 10, 10)
            );
            assert_eq!((held.proc_id, held.client_id), (1, &b"node"[..]));
        }
        let answer = b.ask(&test(LockType::WRITE, 0, 10, 2)).unwrap();
        let free: Rgetlock<'_> = answer.of();
        assert_eq!(
            (free.r#type, free.start, free.length, free.proc_id),
            (LockType::UNLOCK, 0, 10, 2)
        );
        assert_eq!(
            status(&a, &lock(LockType::UNLOCK, 0, 0, 1)),
            LockStatus::SUCCESS
        );
        assert_eq!(
            status(&b, &lock(LockType::READ, 19, 1, 1)),
            LockStatus::SUCCESS
        );
    }

    #[test]
    fn processes_of_one_connection_conflict_too() {
        let dir = tree();
        let (a, _b) = two_clients(dir.path());
        assert_eq!(
            status(&a, &lock(LockType::READ, 0, 0, 1)),
            LockStatus::SUCCESS
        );
        assert_eq!(
            status(&a, &lock(LockType::READ, 0, 0, 2)),
            LockStatus::SUCCESS
        );
        assert_eq!(
            status(&a, &lock(LockType::WRITE, 0, 0, 1)),
            LockStatus::BLOCKED
        );
        assert_eq!(
            status(&a, &lock(LockType::UNLOCK, 0, 0, 2)),
            LockStatus::SUCCESS
        );
        assert_eq!(
            status(&a, &lock(LockType::WRITE, 0, 0, 1)),
            LockStatus::SUCCESS
        );
        let reclaim = Tlock {
            flags: LockFlags::RECLAIM,
            ..lock(LockType::READ, 0, 0, 3)
        };
        assert_eq!(error(&a, &reclaim), Some(EINVAL));
        assert_eq!(error(&a, &lock(LockType(3), 0, 0, 3)), Some(EINVAL));
        assert_eq!(
            error(&a, &lock(LockType::READ, u64::MAX, 2, 3)),
            Some(EINVAL)
        );
        assert_eq!(
            error(
                &a,
                &Tlock {
                    fid: ROOT,
                    ..lock(LockType::READ, 0, 0, 3)
                }
            ),
            Some(EBADF)
        );
    }

    #[test]
    fn locks_end_with_the_fid_and_with_the_connection() {
        let dir = tree();
        let export = Export::open(dir.path(), ALL).unwrap();
        let (a, server) = Client::with_limits(&export, Limits::default());
        let a = a.start(BASE);
        let b = Client::of(&export).start(BASE);
        for client in [&a, &b] {
            client
                .open(Fid(1), &["dir", "file"], OpenFlags::RDWR)
                .unwrap();
        }
        assert_eq!(
            status(&a, &lock(LockType::WRITE, 0, 0, 1)),
            LockStatus::SUCCESS
        );
        a.clunk(Fid(1)).unwrap();
        assert_eq!(
            status(&b, &lock(LockType::WRITE, 0, 0, 1)),
            LockStatus::SUCCESS
        );
        assert_eq!(
            status(&b, &lock(LockType::UNLOCK, 0, 0, 1)),
            LockStatus::SUCCESS
        );
        a.open(Fid(1), &["dir", "file"], OpenFlags::RDWR).unwrap();
        assert_eq!(
            status(&a, &lock(LockType::WRITE, 0, 0, 1)),
            LockStatus::SUCCESS
        );
        assert_eq!(
            status(&b, &lock(LockType::WRITE, 0, 0, 1)),
            LockStatus::BLOCKED
        );
        drop(a);
        server.join().unwrap().unwrap();
        assert_eq!(
            status(&b, &lock(LockType::WRITE, 0, 0, 1)),
            LockStatus::SUCCESS
        );
    }
}

mod sockets {
    use super::*;
    use gofer_server_mock::host::Sockets;

    #[test]
    fn a_connected_descriptor_comes_back() {
        let dir = tree();
        let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        let client = Client::attached(dir.path(), ALL, GOOGLE);
        client.walk(ROOT, Fid(1), &["sock"]).unwrap();
        for socket_type in [SocketType::STREAM, SocketType::ANONYMOUS] {
            let mut answer = client
                .ask(&Tlconnect {
                    fid: Fid(1),
                    socket_type,
                })
                .unwrap();
            let near = UnixStream::from(answer.fds.pop().unwrap());
            let mut far = listener.accept().unwrap().0;
            std::io::Write::write_all(&mut &near, b"hi").unwrap();
            let mut two = [0; 2];
            far.read_exact(&mut two).unwrap();
            assert_eq!(&two, b"hi");
        }
        for (socket_type, ecode) in [
            (SocketType::SEQPACKET, ECONNREFUSED),
            (SocketType(4), EINVAL),
        ] {
            let request = Tlconnect {
                fid: Fid(1),
                socket_type,
            };
            assert_eq!(error(&client, &request), Some(ecode));
        }
        let socket_type = SocketType::STREAM;
        assert_eq!(
            error(
                &client,
                &Tlconnect {
                    fid: ROOT,
                    socket_type
                }
            ),
            Some(EINVAL)
        );
        drop(listener);
        assert_eq!(
            error(
                &client,
                &Tlconnect {
                    fid: Fid(1),
                    socket_type
                }
            ),
            Some(ECONNREFUSED)
        );
    }

    #[test]
    fn the_policy_may_refuse() {
        let dir = tree();
        let _listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        let policy = Policy {
            sockets: Sockets::None,
            ..ALL
        };
        let client = Client::attached(dir.path(), policy, GOOGLE);
        client.walk(ROOT, Fid(1), &["sock"]).unwrap();
        let request = Tlconnect {
            fid: Fid(1),
            socket_type: SocketType::STREAM,
        };
        assert_eq!(error(&client, &request), Some(ECONNREFUSED));
    }
}

#[test]
fn what_is_not_served_is_refused_by_the_right_number() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, GOOGLE);
    let auth = Tauth {
        afid: Fid(9),
        uname: b"",
        aname: b"",
        n_uname: 0,
    };
    assert_eq!(error(&client, &auth), Some(ENOENT));
    assert_eq!(
        error(&client, &Tchannel { id: 0, control: 0 }),
        Some(ENOSYS)
    );
    let bind = Tbind {
        dfid: ROOT,
        sock_type: 1,
        sock_name: b"s",
        uid: 0,
        gid: 0,
        newfid: Fid(9),
    };
    assert_eq!(error(&client, &bind), Some(EOPNOTSUPP));
}

#[test]
fn a_read_only_export_is_not_changed() {
    let dir = tree();
    let client = Client::attached(dir.path(), READONLY, GOOGLE);
    let open = |fid: u32, flags| client.open(Fid(fid), &["dir", "file"], flags);
    assert_eq!(open(1, OpenFlags::RDWR).unwrap_err(), EROFS);
    assert_eq!(open(2, OpenFlags::WRONLY).unwrap_err(), EROFS);
    assert_eq!(open(3, OpenFlags::TRUNC).unwrap_err(), EROFS);
    let opened: Rlopen = open(4, OpenFlags::RDONLY).unwrap().of();
    assert_eq!(opened.iounit, 0);
    assert_eq!(write(&client, Fid(4), 0, b"x"), Err(EBADF));
    client.walk(ROOT, Fid(5), &["dir"]).unwrap();
    client.walk(ROOT, Fid(6), &["dir", "file"]).unwrap();
    let (name, gid, mode) = (&b"new"[..], NO_ID, 0o644);
    let flags = OpenFlags::RDONLY;
    let (fid, dfid) = (Fid(6), Fid(5));
    let exchange = Trenameat {
        olddirfid: dfid,
        oldname: b"file",
        newdirfid: ROOT,
        newname: name,
    };
    let unlink = Tunlinkat {
        dirfid: dfid,
        name: b"file",
        flags: UnlinkFlags::empty(),
    };
    let refused = [
        error(
            &client,
            &Tlcreate {
                fid: dfid,
                name,
                flags,
                mode,
                gid,
            },
        ),
        error(
            &client,
            &Tlcreate {
                fid: dfid,
                name: b"file",
                flags,
                mode,
                gid,
            },
        ),
        error(
            &client,
            &Tucreate {
                fid: dfid,
                name,
                flags,
                mode,
                gid,
                uid: NO_ID,
            },
        ),
        error(
            &client,
            &Tsymlink {
                dfid,
                name,
                symtgt: b"x",
                gid,
            },
        ),
        error(
            &client,
            &Tmknod {
                dfid,
                name,
                mode,
                major: 0,
                minor: 0,
                gid,
            },
        ),
        error(
            &client,
            &Tmkdir {
                dfid,
                name,
                mode,
                gid,
            },
        ),
        error(&client, &Tlink { dfid, fid, name }),
        error(
            &client,
            &Trename {
                fid,
                dfid: ROOT,
                name,
            },
        ),
        error(&client, &exchange),
        error(&client, &unlink),
        error(&client, &setattr(fid, SetattrMask::CTIME)),
        error(&client, &setattr(fid, SetattrMask::MODE)),
        error(&client, &setattr(fid, SetattrMask::SIZE)),
        error(
            &client,
            &Txattrcreate {
                fid,
                name: b"user.a",
                attr_size: 1,
                flags: XattrFlags::empty(),
            },
        ),
        error(
            &client,
            &Tsetxattr {
                fid,
                name: b"user.a",
                value: b"x",
                flags: XattrFlags::empty(),
            },
        ),
        error(
            &client,
            &Tremovexattr {
                fid,
                name: b"user.a",
            },
        ),
        error(
            &client,
            &Tallocate {
                fid: Fid(4),
                mode: 0,
                offset: 0,
                length: 10,
            },
        ),
        error(&client, &Tremove { fid }),
    ];
    assert_eq!(refused, [Some(EROFS); 18]);
    assert_eq!(
        client.clunk(fid).unwrap_err(),
        EBADF,
        "Tremove has ended it"
    );
    assert_eq!(client.read_file(&["dir", "file"]), b"content");
    assert_eq!(fs::read_dir(dir.path().join("dir")).unwrap().count(), 2);
}

#[test]
fn a_single_file_is_a_root() {
    let dir = tree();
    let client = Client::attached(&dir.path().join("dir/file"), ALL, BASE);
    assert_eq!(client.walk(ROOT, Fid(1), &["x"]), Err(ENOTDIR));
    assert_eq!(client.read_file(&[]), b"content");
    assert!(matches!(
        client.ask(&Tgetattr { fid: ROOT, request_mask: GetattrMask::BASIC }).unwrap().message(),
        RMessage::Rgetattr(reply) if reply.attr.size == 7
    ));
}
