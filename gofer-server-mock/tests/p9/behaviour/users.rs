//! As whom requests are carried out: `Users` of the policy, with real users of the host.

use std::os::unix::fs::chown;
use std::sync::Arc;

use gofer_9p::wire::{Message, Tattach};
use gofer_server_mock::host::{UserDatabase, Users};
use gofer_server_mock::server::{Protocol, spawn};

use super::*;
use crate::common::Server;
use crate::p9::client::Answer;

const EACCES: u32 = 13;

const ALICE: u32 = 4001;
const BOB: u32 = 4002;
/// Alice's first group.
const STAFF: u32 = 4100;
/// A group of both.
const SHARED: u32 = 4200;
/// A group of nobody.
const FOREIGN: u32 = 4300;

const PASSWD: &[u8] = b"root:x:0:0:::\nalice:x:4001:4100:::\nbob:x:4002:4002:::\n\
    nobody:x:65534:65534:::\n";
const GROUP: &[u8] = b"shared:x:4200:alice,bob\n";

/// Alice's and Bob's roots.
const HERS: Fid = Fid(100);
const HIS: Fid = Fid(200);

fn export(root: &Path, users: Users) -> Arc<Export> {
    let policy = Policy { users, ..ALL };
    Export::open_for(root, policy, UserDatabase::parse(PASSWD, GROUP)).unwrap()
}

/// A client with both of them attached, and root as [`ROOT`]'s user.
fn client(root: &Path) -> Client {
    let client = Client::of(&export(root, Users::Attach));
    let msize = 1 << 20;
    let version = GOOGLE.as_bytes();
    client.send(Tag::NONE, &Tversion { msize, version });
    client.receive().unwrap();
    client.attach_as(ROOT, "", 0).unwrap();
    client.attach_as(HERS, "", ALICE).unwrap();
    client.attach_as(HIS, "", BOB).unwrap();
    client
}

/// A directory everybody may use, or `None` where the tests cannot be run.
fn open_tree() -> Option<tempfile::TempDir> {
    if !is_root() {
        eprintln!("not run: needs root");
        return None;
    }
    let dir = tree();
    set_mode(dir.path(), 0o777);
    Some(dir)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn owner_of(path: &Path) -> (u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.uid(), found.gid())
}

fn create(client: &Client, fid: Fid, name: &str, mode: u32, gid: u32) -> Result<Answer, u32> {
    client.ask(&Tlcreate {
        fid,
        name: name.as_bytes(),
        flags: OpenFlags::RDWR,
        mode,
        gid,
    })
}

/// Clones `from` and creates a file with the clone.
fn create_from(client: &Client, from: Fid, name: &str, mode: u32, gid: u32) -> Result<(), u32> {
    let fid = Fid(0x6000_0000);
    client.walk(from, fid, &[]).unwrap();
    let created = create(client, fid, name, mode, gid);
    client.clunk(fid).unwrap();
    created.map(drop)
}

#[test]
fn new_files_belong_to_whoever_attached() {
    let Some(dir) = open_tree() else { return };
    let client = client(dir.path());
    let path = |name: &str| dir.path().join(name);
    create_from(&client, HERS, "hers", 0o640, NO_ID).unwrap();
    assert_eq!(owner_of(&path("hers")), (ALICE, STAFF));
    create_from(&client, HERS, "shared", 0o2750, SHARED).unwrap();
    assert_eq!(owner_of(&path("shared")), (ALICE, SHARED));
    assert_eq!(mode_of(&path("shared")), 0o2750);
    let dfid = HIS;
    let (mode, gid) = (0o755, SHARED);
    client
        .ask(&Tmkdir {
            dfid,
            name: b"dir-his",
            mode,
            gid,
        })
        .unwrap();
    assert_eq!(owner_of(&path("dir-his")), (BOB, SHARED));
    let (name, symtgt) = (&b"link-his"[..], &b"x"[..]);
    client
        .ask(&Tsymlink {
            dfid,
            name,
            symtgt,
            gid: NO_ID,
        })
        .unwrap();
    assert_eq!(owner_of(&path("link-his")), (BOB, BOB));
    let fifo = Tmknod {
        dfid,
        name: b"fifo",
        mode: 0o010_600,
        major: 0,
        minor: 0,
        gid: NO_ID,
    };
    client.ask(&fifo).unwrap();
    assert_eq!(owner_of(&path("fifo")), (BOB, BOB));
    create_from(&client, ROOT, "roots", 0o600, FOREIGN).unwrap();
    assert_eq!(
        owner_of(&path("roots")),
        (0, FOREIGN),
        "root may name any group"
    );
}

#[test]
fn a_group_must_be_ones_own_and_nothing_stays_behind_if_it_is_not() {
    let Some(dir) = open_tree() else { return };
    let client = client(dir.path());
    assert_eq!(create_from(&client, HERS, "f", 0o644, FOREIGN), Err(EPERM));
    assert!(!dir.path().join("f").exists());
    let mkdir = Tmkdir {
        dfid: HERS,
        name: b"d",
        mode: 0o755,
        gid: FOREIGN,
    };
    assert_eq!(error(&client, &mkdir), Some(EPERM));
    assert!(!dir.path().join("d").exists());
    let given_away = Tucreate {
        fid: HERS,
        name: b"f",
        flags: OpenFlags::RDWR,
        mode: 0o644,
        gid: NO_ID,
        uid: BOB,
    };
    client.walk(HERS, Fid(1), &[]).unwrap();
    let given_away = Tucreate {
        fid: Fid(1),
        ..given_away
    };
    assert_eq!(error(&client, &given_away), Some(EPERM));
    assert!(!dir.path().join("f").exists());
}

#[test]
fn a_set_group_id_directory_passes_its_group_on() {
    let Some(dir) = open_tree() else { return };
    let place = dir.path().join("dir");
    chown(&place, Some(0), Some(FOREIGN)).unwrap();
    set_mode(&place, 0o2777);
    let client = client(dir.path());
    client.walk(HERS, Fid(1), &["dir"]).unwrap();
    // As the kernel client does it: the directory's group, and 02000 for a directory.
    create_from(&client, Fid(1), "f", 0o644, FOREIGN).unwrap();
    create_from(&client, Fid(1), "g", 0o644, NO_ID).unwrap();
    let mkdir = Tmkdir {
        dfid: Fid(1),
        name: b"d",
        mode: 0o2755,
        gid: FOREIGN,
    };
    client.ask(&mkdir).unwrap();
    for name in ["f", "g", "d"] {
        assert_eq!(owner_of(&place.join(name)), (ALICE, FOREIGN), "{name}");
    }
    assert_eq!(mode_of(&place.join("d")), 0o2755);
    // The kernel lets nobody make set-group-id programs of foreign groups.
    create_from(&client, Fid(1), "program", 0o2755, FOREIGN).unwrap();
    assert_eq!(mode_of(&place.join("program")), 0o755);
}

#[test]
fn the_host_checks_what_a_user_may() {
    let Some(dir) = open_tree() else { return };
    let path = |name: &str| dir.path().join(name);
    for (name, mode, gid) in [("secret", 0o600, STAFF), ("team", 0o640, SHARED)] {
        fs::write(path(name), "secret").unwrap();
        set_mode(&path(name), mode);
        chown(path(name), Some(ALICE), Some(gid)).unwrap();
    }
    let private = path("private");
    fs::create_dir(&private).unwrap();
    fs::write(private.join("inside"), "").unwrap();
    chown(&private, Some(ALICE), Some(STAFF)).unwrap();
    set_mode(&private, 0o700);
    let client = client(dir.path());
    let open = |from, fid: u32, name, flags| {
        client.walk(from, Fid(fid), &[name]).unwrap();
        client
            .ask(&Tlopen {
                fid: Fid(fid),
                flags,
            })
            .map(drop)
    };
    assert_eq!(open(HERS, 1, "secret", OpenFlags::RDWR), Ok(()));
    assert_eq!(open(HIS, 2, "secret", OpenFlags::RDONLY), Err(EACCES));
    assert_eq!(
        open(HIS, 3, "team", OpenFlags::RDONLY),
        Ok(()),
        "by his further group"
    );
    assert_eq!(open(HIS, 4, "team", OpenFlags::RDWR), Err(EACCES));
    assert_eq!(open(ROOT, 5, "secret", OpenFlags::RDWR), Ok(()));
    // Search permission, of each directory that is passed.
    client.walk(HERS, Fid(10), &["private", "inside"]).unwrap();
    assert_eq!(client.walk(HIS, Fid(11), &["private"]).unwrap().len(), 1);
    assert_eq!(client.walk(Fid(11), Fid(12), &["inside"]), Err(EACCES));
    assert_eq!(
        client.walk(HIS, Fid(12), &["private", "inside"]),
        Err(EACCES)
    );
    assert_eq!(open(HIS, 13, "private", OpenFlags::RDONLY), Err(EACCES));
    let names: [&[u8]; 2] = [b"private", b"inside"];
    let names = Names::new(&names);
    assert_eq!(
        error(&client, &Tmultigetattr { fid: HIS, names }),
        Some(EACCES)
    );
    // Names.
    let (flags, dirfid) = (UnlinkFlags::empty(), Fid(11));
    assert_eq!(
        error(
            &client,
            &Tunlinkat {
                dirfid,
                name: b"inside",
                flags
            }
        ),
        Some(EACCES)
    );
    assert_eq!(
        create_from(&client, Fid(11), "x", 0o644, NO_ID),
        Err(EACCES)
    );
    set_mode(dir.path(), 0o1777);
    let sticky = Tunlinkat {
        dirfid: HIS,
        name: b"secret",
        flags,
    };
    assert_eq!(error(&client, &sticky), Some(EPERM));
    let sticky = Trenameat {
        olddirfid: HIS,
        oldname: b"secret",
        newdirfid: HIS,
        newname: b"mine",
    };
    assert_eq!(error(&client, &sticky), Some(EPERM));
    assert_eq!(
        error(
            &client,
            &Trename {
                fid: Fid(2),
                dfid: HIS,
                name: b"mine"
            }
        ),
        Some(EPERM)
    );
    client.walk(HIS, Fid(14), &["secret"]).unwrap();
    assert_eq!(error(&client, &Tremove { fid: Fid(14) }), Some(EPERM));
    assert_eq!(client.clunk(Fid(14)).unwrap_err(), EBADF);
    client
        .ask(&Tunlinkat {
            dirfid: HERS,
            name: b"secret",
            flags,
        })
        .unwrap();
}

#[test]
fn the_host_checks_who_changes_attributes() {
    let Some(dir) = open_tree() else { return };
    let file = dir.path().join("file");
    fs::write(&file, "content").unwrap();
    chown(&file, Some(ALICE), Some(STAFF)).unwrap();
    let client = client(dir.path());
    client.walk(HERS, Fid(1), &["file"]).unwrap();
    client.walk(HIS, Fid(2), &["file"]).unwrap();
    let chmod = |fid, mode| Tsetattr {
        mode,
        ..setattr(fid, SetattrMask::MODE)
    };
    let chown = |fid, uid, gid| {
        let valid = SetattrMask::UID | SetattrMask::GID;
        Tsetattr {
            uid,
            gid,
            ..setattr(fid, valid)
        }
    };
    assert_eq!(error(&client, &chmod(Fid(2), 0o666)), Some(EPERM));
    client.ask(&chmod(Fid(1), 0o4755)).unwrap();
    assert_eq!(mode_of(&file), 0o4755);
    assert_eq!(error(&client, &chown(Fid(1), BOB, STAFF)), Some(EPERM));
    assert_eq!(error(&client, &chown(Fid(1), ALICE, FOREIGN)), Some(EPERM));
    client.ask(&chown(Fid(1), ALICE, SHARED)).unwrap();
    assert_eq!(owner_of(&file), (ALICE, SHARED));
    assert_eq!(
        error(&client, &setattr(Fid(2), SetattrMask::SIZE)),
        Some(EACCES)
    );
    assert_eq!(
        error(
            &client,
            &setattr(Fid(2), SetattrMask::ATIME | SetattrMask::MTIME)
        ),
        Some(EACCES)
    );
    client.ask(&setattr(Fid(1), SetattrMask::MTIME)).unwrap();
    let name = b"security.capability";
    let privileges = Tsetxattr {
        fid: Fid(1),
        name,
        value: &[
            0, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        flags: XattrFlags::empty(),
    };
    assert_eq!(
        error(&client, &privileges),
        Some(EPERM),
        "not with the server's rights"
    );
    if has_user_xattrs(dir.path()) {
        let value = &b"x"[..];
        let set = |fid| Tsetxattr {
            fid,
            name: b"user.a",
            value,
            flags: XattrFlags::empty(),
        };
        client.ask(&chmod(Fid(1), 0o600)).unwrap();
        assert_eq!(error(&client, &set(Fid(2))), Some(EACCES));
        client.ask(&set(Fid(1))).unwrap();
        assert_eq!(
            error(
                &client,
                &Tgetxattr {
                    fid: Fid(2),
                    name: b"user.a",
                    size: 10
                }
            ),
            Some(EACCES)
        );
        // The clunk stores it, as the same user.
        client.walk(HIS, Fid(3), &["file"]).unwrap();
        let create = Txattrcreate {
            fid: Fid(3),
            name: b"user.b",
            attr_size: 1,
            flags: XattrFlags::empty(),
        };
        assert_eq!(error(&client, &create), Some(EACCES));
    }
}

#[test]
fn what_was_opened_stays_usable_as_on_the_host() {
    let Some(dir) = open_tree() else { return };
    let file = dir.path().join("file");
    fs::write(&file, "content").unwrap();
    chown(&file, Some(BOB), Some(BOB)).unwrap();
    set_mode(&file, 0o4766);
    let client = client(dir.path());
    client.walk(HERS, Fid(1), &["file"]).unwrap();
    client
        .ask(&Tlopen {
            fid: Fid(1),
            flags: OpenFlags::RDWR,
        })
        .unwrap();
    // Writing takes away what would give the writer's content the owner's rights.
    assert_eq!(write(&client, Fid(1), 0, b"C"), Ok(1));
    assert_eq!(mode_of(&file), 0o766);
    set_mode(&file, 0o700);
    assert_eq!(client.read(Fid(1), 0, 100).unwrap(), b"Content");
    assert_eq!(write(&client, Fid(1), 7, b"s"), Ok(1));
    // ftruncate as the kernel client sends it.
    let times = SetattrMask::MTIME | SetattrMask::CTIME;
    let truncate = Tsetattr {
        size: 3,
        ..setattr(Fid(1), SetattrMask::SIZE | times)
    };
    client.ask(&truncate).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"Con");
    client.walk(HERS, Fid(2), &["file"]).unwrap();
    let truncate = Tsetattr {
        fid: Fid(2),
        ..truncate
    };
    assert_eq!(error(&client, &truncate), Some(EACCES));
}

#[test]
fn a_directory_that_may_only_be_read_is_listed() {
    let Some(dir) = open_tree() else { return };
    set_mode(&dir.path().join("dir"), 0o744);
    let client = client(dir.path());
    client.walk(HERS, Fid(1), &["dir"]).unwrap();
    client
        .ask(&Tlopen {
            fid: Fid(1),
            flags: OpenFlags::DIRECTORY,
        })
        .unwrap();
    assert_eq!(client.list(Fid(1), 4096).unwrap().len(), 4);
    assert_eq!(client.walk(Fid(1), Fid(2), &["file"]), Err(EACCES));
}

#[test]
fn who_attaches_is_found_by_number_then_by_name() {
    let Some(dir) = open_tree() else { return };
    let client = client(dir.path());
    let mut made = Vec::new();
    for (uname, n_uname) in [
        ("alice", NO_ID),
        ("alice", BOB),
        ("nobody", NO_ID),
        ("", NO_ID),
        ("stranger", NO_ID),
        ("", 5000),
        ("", 0),
    ] {
        let name = format!("file-{}", made.len());
        client.attach_as(Fid(1), uname, n_uname).unwrap();
        create_from(&client, Fid(1), &name, 0o644, NO_ID).unwrap();
        client.clunk(Fid(1)).unwrap();
        made.push(owner_of(&dir.path().join(name)));
    }
    let nobody = (65_534, 65_534);
    let expected = [
        (ALICE, STAFF),
        (BOB, BOB),
        nobody,
        nobody,
        nobody,
        (5000, 5000),
        (0, 0),
    ];
    assert_eq!(made, expected);
    // A name below the root is walked as that user.
    let private = dir.path().join("private");
    fs::create_dir_all(private.join("home")).unwrap();
    set_mode(&private, 0o700);
    let attach = |n_uname| {
        let (fid, afid, uname) = (Fid(2), Fid::NONE, &b""[..]);
        client.ask(&Tattach {
            fid,
            afid,
            uname,
            aname: b"private/home",
            n_uname,
        })
    };
    assert_eq!(attach(ALICE).err(), Some(EACCES));
    attach(0).unwrap();
}

#[test]
fn everybody_is_one_when_squashed() {
    let Some(dir) = open_tree() else { return };
    let squash = Users::Squash {
        uid: BOB,
        gid: SHARED,
    };
    let client = Client::of(&export(dir.path(), squash)).start(GOOGLE);
    client.attach_as(Fid(1), "", 0).unwrap();
    client.attach_as(Fid(2), "alice", ALICE).unwrap();
    for fid in [ROOT, Fid(1), Fid(2)] {
        let name = format!("file-{}", fid.0);
        create_from(&client, fid, &name, 0o644, NO_ID).unwrap();
        assert_eq!(owner_of(&dir.path().join(name)), (BOB, SHARED));
    }
    assert_eq!(create_from(&client, Fid(1), "x", 0o644, STAFF), Err(EPERM));
    set_mode(&dir.path().join("dir/file"), 0o600);
    assert_eq!(
        client
            .open(Fid(3), &["dir", "file"], OpenFlags::RDONLY)
            .unwrap_err(),
        EACCES
    );
}

#[test]
fn users_of_one_connection_do_not_get_in_each_others_way() {
    let Some(dir) = open_tree() else { return };
    let client = client(dir.path());
    // In one piece, so that some may be carried out at the same time.
    const TURNS: u16 = 200;
    let users = [(HERS, (ALICE, STAFF)), (HIS, (BOB, BOB)), (ROOT, (0, 0))];
    let mut requests = Vec::new();
    for turn in 0..TURNS {
        let (fid, _) = users[usize::from(turn) % 3];
        let name = format!("file-{turn}");
        let make = Tmknod {
            dfid: fid,
            name: name.as_bytes(),
            mode: 0o100_644,
            major: 0,
            minor: 0,
            gid: NO_ID,
        };
        make.encode(Tag(turn), &mut requests);
    }
    client.send_bytes(&requests);
    for _ in 0..TURNS {
        assert_eq!(client.receive().unwrap().error(), None);
    }
    for turn in 0..TURNS {
        let (_, owner) = users[usize::from(turn) % 3];
        assert_eq!(owner_of(&dir.path().join(format!("file-{turn}"))), owner);
    }
}

#[test]
fn a_sandboxed_server_acts_for_users() {
    let Some(dir) = open_tree() else { return };
    let place = tempfile::tempdir().unwrap();
    let args = ["--protocol", "9p", "--users", "attach"];
    let (_server, socket) = Server::at(place.path(), dir.path(), &args);
    let client = Client::on(gofer_transport::Stream::connect_unix(&socket).unwrap()).start(BASE);
    client.attach_as(HERS, "", ALICE).unwrap();
    create_from(&client, HERS, "hers", 0o600, NO_ID).unwrap();
    assert_eq!(owner_of(&dir.path().join("hers")), (ALICE, ALICE));
    client.attach_as(HIS, "", BOB).unwrap();
    client.walk(HIS, Fid(1), &["hers"]).unwrap();
    let flags = OpenFlags::RDONLY;
    assert_eq!(error(&client, &Tlopen { fid: Fid(1), flags }), Some(EACCES));
    client.attach_as(Fid(2), "", 0).unwrap();
    client.walk(Fid(2), Fid(3), &["hers"]).unwrap();
    client.ask(&Tlopen { fid: Fid(3), flags }).unwrap();
}

#[test]
fn lisafs_clients_are_refused_where_requests_are_for_users() {
    let Some(dir) = open_tree() else { return };
    let (ours, theirs) = gofer_transport::Stream::pair().unwrap();
    let export = export(dir.path(), Users::Attach);
    let server = spawn(theirs, export, Protocol::Auto, Limits::default()).unwrap();
    crate::common::Client::on(ours).send(&[0, 0, 0, 0, 1, 0, 0, 0]);
    let error = server.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn only_root_acts_for_others() {
    let dir = tree();
    let policy = Policy {
        users: Users::Attach,
        ..ALL
    };
    let open = || Export::open(dir.path(), policy).map(drop);
    if !is_root() {
        assert_eq!(open().unwrap_err().raw_os_error() as u32, EPERM);
        return;
    }
    let work = || {
        let nobody = rustix::thread::Uid::from_raw(65_534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        Export::open(dir.path(), policy).map(drop)
    };
    let refused = std::thread::scope(|scope| scope.spawn(work).join().unwrap());
    assert_eq!(refused.unwrap_err().raw_os_error() as u32, EPERM);
}
