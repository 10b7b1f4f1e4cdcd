//! What each request does, family by family.

mod attributes;
mod data;
mod donation;
mod fids;
mod locks;
mod names;
mod open;
mod sockets;
mod users;
mod version;
mod walk;
mod xattrs;

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
    SetattrMask, SocketType, Tag, Tallocate, Tauth, Tbind, Tflushf, Tfsync, Tgetattr, Tgetlock,
    Tgetxattr, Tlconnect, Tlcreate, Tlink, Tlistxattr, Tlock, Tlopen, Tmkdir, Tmknod,
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
