//! Open files: data, listings, fifos.

use super::*;
use gofer_vfs::AllocMode;
use std::collections::BTreeSet;
use std::io::{IoSlice, IoSliceMut};
use std::ops::ControlFlow;

fn read(handle: &dyn RemoteHandle, size: usize, offset: u64) -> (Vec<u8>, Option<Errno>) {
    let mut bytes = vec![0; size];
    let moved = handle.read_at(&CALL, &mut [IoSliceMut::new(&mut bytes)], offset);
    bytes.truncate(moved.n);
    (bytes, moved.error.map(|error| error.errno))
}

#[test]
fn data_goes_both_ways_in_pieces() {
    let rig = Rig::new();
    let (found, handle) = rig
        .root
        .create(&CALL, name("f"), 0o600, Owner::default(), WRITE)
        .unwrap();
    let from = [
        IoSlice::new(b"hello "),
        IoSlice::new(b""),
        IoSlice::new(b"there"),
    ];
    let moved = handle.write_at(&CALL, &from, 3);
    assert_eq!((moved.n, moved.error), (11, None));
    assert_eq!(fs::read(rig.path("f")).unwrap(), b"\0\0\0hello there");
    let (mut one, mut two) = ([0; 2], [0; 30]);
    let into = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
    assert_eq!(handle.read_at(&CALL, into, 3).n, 11);
    assert_eq!((&one, &two[..9]), (b"he", &b"llo there"[..]));
    assert_eq!(read(&*handle, 10, 100), (vec![], None));
    handle.allocate(&CALL, AllocMode::empty(), 0, 5000).unwrap();
    assert_eq!(fs::metadata(rig.path("f")).unwrap().len(), 5000);
    assert_eq!(handle.seek_data(&CALL, 0, false), Ok(0));
    assert_eq!(
        errno(handle.seek_data(&CALL, 5000, false)),
        Some(Errno::ENXIO)
    );
    for data_only in [false, true] {
        handle.sync(&CALL, data_only).unwrap();
    }
    assert!(handle.host_fd().is_some());
    let reader = found.file.open(&CALL, READ).unwrap();
    let refused = reader.write_at(&CALL, &[IoSlice::new(b"x")], 0);
    assert_eq!(refused.error.map(|error| error.errno), Some(Errno::EBADF));
    let truncate = OpenMode {
        truncate: true,
        ..WRITE
    };
    found.file.open(&CALL, truncate).unwrap();
    assert_eq!(read(&*reader, 10, 0), (vec![], None));
}

#[test]
fn a_listing_goes_on_where_a_reader_stopped() {
    let rig = Rig::new();
    let all: BTreeSet<String> = (0..700).map(|number| format!("{number:0>60}")).collect();
    for name in &all {
        fs::write(rig.path(name), "").unwrap();
    }
    let handle = rig.root.open(&CALL, READ).unwrap();
    assert!(handle.host_fd().is_none(), "its position is the listing's");
    for piece in [usize::MAX, 1, 7] {
        let (mut names, mut at) = (Vec::new(), DirPos::default());
        loop {
            let mut taken = 0;
            let more = handle.read_dir(&CALL, at, &mut |entry| {
                names.push(String::from_utf8(entry.name.as_bytes().to_vec()).unwrap());
                at = entry.next;
                taken += 1;
                if taken == piece {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            if !more.unwrap() {
                break;
            }
            assert!(taken > 0, "there is more, but nothing comes");
        }
        assert_eq!(names.len(), all.len());
        assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), all);
    }
    fs::write(rig.path("later"), "").unwrap();
    let mut found = false;
    let mut at = DirPos::default();
    while handle
        .read_dir(&CALL, at, &mut |entry| {
            found |= entry.name.as_bytes() == b"later";
            at = entry.next;
            ControlFlow::Continue(())
        })
        .unwrap()
    {}
    assert!(found, "the start reads anew");
}

#[test]
fn entries_have_the_keys_of_the_files() {
    let rig = Rig::new();
    fs::write(rig.path("f"), "").unwrap();
    std::os::unix::fs::symlink("x", rig.path("l")).unwrap();
    let handle = rig.root.open(&CALL, READ).unwrap();
    let mut seen = Vec::new();
    handle
        .read_dir(&CALL, DirPos::default(), &mut |entry| {
            let text = String::from_utf8(entry.name.as_bytes().to_vec()).unwrap();
            seen.push((text, entry.key, entry.file_type));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen.len(), 2);
    for (text, key, file_type) in seen {
        let found = rig.walk(&text).unwrap();
        assert_eq!(key, found.key);
        assert_eq!(file_type, Some(found.attr.file_type));
    }
    fs::create_dir(rig.path("empty")).unwrap();
    let empty = rig.walk("empty").unwrap().file.open(&CALL, READ).unwrap();
    let mut nothing = |_: DirEntry<'_>| -> ControlFlow<()> { panic!("an entry") };
    assert_eq!(
        empty.read_dir(&CALL, DirPos::default(), &mut nothing),
        Ok(false)
    );
    let file = rig.walk("f").unwrap().file.open(&CALL, READ).unwrap();
    let refused = file.read_dir(&CALL, DirPos::default(), &mut nothing);
    assert_eq!(errno(refused), Some(Errno::ENOTDIR));
    assert_eq!(errno(rig.root.open(&CALL, WRITE)), Some(Errno::EISDIR));
}

#[test]
fn fifos_never_wait() {
    let rig = Rig::new();
    let made = rig
        .root
        .make(&CALL, name("p"), New::Fifo, 0o600, Owner::default());
    let fifo = made.unwrap().unwrap().file;
    let write_only = OpenMode {
        access: Access::Write,
        truncate: false,
    };
    assert_eq!(errno(fifo.open(&CALL, write_only)), Some(Errno::ENXIO));
    let reader = fifo.open(&CALL, READ).unwrap();
    assert_eq!(read(&*reader, 4, 0), (vec![], None), "nobody writes");
    let writer = fifo.open(&CALL, write_only).unwrap();
    assert_eq!(read(&*reader, 4, 0), (vec![], Some(Errno::EAGAIN)));
    assert_eq!(writer.write_at(&CALL, &[IoSlice::new(b"abc")], 0).n, 3);
    assert_eq!(read(&*reader, 4, 0), (b"abc".to_vec(), None));
}

#[test]
fn files_without_permission_bits_open_for_those_who_may() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new();
    let (found, handle) = rig
        .root
        .create(&CALL, name("f"), 0, Owner::default(), WRITE)
        .unwrap();
    assert_eq!(found.attr.mode, 0);
    assert_eq!(handle.write_at(&CALL, &[IoSlice::new(b"x")], 0).n, 1);
    let meta = fs::metadata(rig.path("f")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0);
    let opened = errno(found.file.open(&CALL, READ));
    match rustix::process::geteuid().is_root() {
        true => assert_eq!(opened, None),
        false => assert_eq!(opened, Some(Errno::EACCES)),
    }
}
