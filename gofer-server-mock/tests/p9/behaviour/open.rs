//! Opening and creating files.

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
    // Before a write: that may clear some of it.
    assert_eq!(mode_of(&dir.path().join("dir/new")), 0o6766);
    assert_eq!(write(&client, Fid(1), 0, b"x"), Ok(1));
    assert_eq!(client.read(Fid(1), 0, 1).unwrap(), b"x");
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
