//! Making, linking, renaming and removing.

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
