//! Content, space and listings.

use gofer_9p::wire::{Message, Rread, Tread};

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

#[test]
fn what_is_not_in_memory_is_read_from_storage_beside_what_is() {
    let dir = tree();
    let content: Vec<u8> = (0..1 << 20).map(|index: u32| (index >> 8) as u8).collect();
    fs::write(dir.path().join("cold"), &content).unwrap();
    let cold = fs::File::open(dir.path().join("cold")).unwrap();
    cold.sync_all().unwrap();
    let client = Client::attached(dir.path(), ALL, BASE);
    client.open(Fid(1), &["cold"], OpenFlags::RDONLY).unwrap();
    for count in [4096, 100_000] {
        let advice = rustix::fs::Advice::DontNeed;
        rustix::fs::fadvise(&cold, 0, None, advice).unwrap();
        let mut requests = Vec::new();
        for tag in 0..16 {
            let offset = u64::from(tag) * 60_000;
            let read = Tread {
                fid: Fid(1),
                offset,
                count,
            };
            read.encode(Tag(tag), &mut requests);
        }
        client.send_bytes(&requests);
        for _ in 0..16 {
            let answer = client.receive().unwrap();
            let start = usize::from(answer.tag.0) * 60_000;
            let data = answer.of::<Rread<'_>>().data;
            // Fewer are legal, but some there are.
            let got = data.as_bytes();
            assert!(!got.is_empty());
            assert_eq!(got, &content[start..start + got.len()]);
        }
    }
    assert_eq!(client.read(Fid(1), 1 << 20, 10).unwrap(), b"");
}

#[test]
fn a_write_to_a_synchronous_file_arrives() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, BASE);
    let flags = OpenFlags::RDWR | OpenFlags::SYNC | OpenFlags::DSYNC;
    client.open(Fid(1), &["empty"], flags).unwrap();
    assert_eq!(write(&client, Fid(1), 0, b"abc"), Ok(3));
    assert_eq!(client.read(Fid(1), 0, 10).unwrap(), b"abc");
}
