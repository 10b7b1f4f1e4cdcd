//! Walks: short ones, dots, clones, attributes on the way.

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
