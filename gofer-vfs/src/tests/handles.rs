//! Which handle serves what, and what they do side by side (semantics 15, 20).

use super::*;
use crate::clock::Clock;
use crate::testing::mem_remote::{Fault, MemServer};
use crate::{Protection, Sharing};

#[test]
fn a_file_is_synced_through_the_handle_that_may_have_written() {
    // Which of two handles comes with a descriptor; one that does is not asked for over the wire.
    for (reader_donated, writer_donated) in [(true, false), (false, true)] {
        let rig = Setup::new(InteropMode::Exclusive).mount_on(MemServer::on_host());
        rig.outside.write(b"f", b"content").unwrap();
        rig.remote.donate(reader_donated);
        let reader = rig.open("f", OpenFlags::RDONLY).unwrap();
        rig.remote.donate(writer_donated);
        rig.remote.inject(Op::Open, 0, Fault::Refuse(Errno::EACCES));
        let writer = rig.open("f", OpenFlags::WRONLY).unwrap();
        for file in [&reader, &writer] {
            rig.calls();
            file.sync(&rig.cx(), false).unwrap();
            let asked: &[Op] = if writer_donated { &[] } else { &[Op::Sync] };
            assert_eq!(rig.calls(), asked, "{writer_donated}");
        }
        drop(writer);
    }
}

#[test]
fn a_file_open_for_reading_and_a_directory_are_synced_too() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        rig.mkdir("d").unwrap();
        rig.outside.write(b"f", b"content").unwrap();
        let file = rig.open("f", OpenFlags::RDONLY).unwrap();
        let dir = rig.open("d", OpenFlags::DIRECTORY).unwrap();
        for file in [&file, &dir] {
            rig.calls();
            file.sync(&rig.cx(), false).unwrap();
            assert_eq!(rig.calls(), [Op::Sync], "{mode}");
            rig.remote.inject(Op::Sync, 0, Fault::Refuse(Errno::ENOSPC));
            assert_eq!(errno(file.sync(&rig.cx(), true)), Errno::ENOSPC);
        }
    }
}

#[test]
fn an_upgrade_that_is_refused_for_both_directions_is_tried_for_one() {
    for mode in [EW[0], EW[1], S[0]] {
        let rig = Rig::new(mode);
        rig.outside.write(b"f", b"content").unwrap();
        let reader = rig.open("f", OpenFlags::RDONLY).unwrap();
        rig.remote.inject(Op::Open, 0, Fault::Refuse(Errno::EACCES));
        rig.calls();
        let writer = rig.open("f", OpenFlags::WRONLY).unwrap();
        let opens = rig.calls().iter().filter(|op| **op == Op::Open).count();
        assert_eq!(opens, 2, "{mode}");
        assert_eq!(rig.remote.live_handles(), 2, "{mode}");
        writer.write(&rig.cx(), b"CON").unwrap();
        let mut into = [0; 7];
        assert_eq!(reader.read(&rig.cx(), &mut into).unwrap(), 7);
        assert_eq!(&into, b"CONtent", "{mode}");
        // Refused for what was asked for, it is refused.
        rig.outside.write(b"g", b"").unwrap();
        rig.remote.inject(Op::Open, 0, Fault::Refuse(Errno::EACCES));
        assert_eq!(errno(rig.open("g", OpenFlags::WRONLY)), Errno::EACCES);
    }
}

#[test]
fn an_upgrade_leaves_one_handle() {
    for mode in [EW[0], EW[1], S[0]] {
        let rig = Rig::new(mode);
        rig.outside.write(b"f", b"content").unwrap();
        let reader = rig.open("f", OpenFlags::RDONLY).unwrap();
        let writer = rig.open("f", OpenFlags::WRONLY).unwrap();
        assert_eq!(rig.remote.live_handles(), 1, "{mode}");
        drop(writer);
        // It stays with the file, not with who opened it.
        assert_eq!(rig.remote.live_handles(), 1, "{mode}");
        drop(reader);
    }
}

#[test]
fn direct_reads_do_not_wait_for_each_other() {
    for mode in InteropMode::ALL {
        let rig = Arc::new(Rig::new(mode));
        rig.outside.write(b"f", b"content").unwrap();
        let flags = OpenFlags::RDWR | OpenFlags::DIRECT;
        let file = Arc::new(rig.open("f", flags).unwrap());
        let (other, again) = (rig.clone(), file.clone());
        // Inside the one, another begins and ends.
        rig.remote.before(Op::Read, move || {
            let reads = std::thread::spawn(move || {
                let mut into = [0; 7];
                again.read_at(&other.cx(), &mut into, 0).map(|n| (n, into))
            });
            assert_eq!(reads.join().unwrap().unwrap(), (7, *b"content"));
        });
        let mut into = [0; 4];
        assert_eq!(file.read_at(&rig.cx(), &mut into, 3).unwrap(), 4, "{mode}");
        assert_eq!(&into, b"tent");
    }
}

#[test]
fn direct_reads_see_what_waits_in_the_cache() {
    let rig = Rig::new(InteropMode::Exclusive);
    rig.outside.write(b"f", b"0123456789").unwrap();
    let cached = rig.open("f", OpenFlags::RDWR).unwrap();
    let mut into = [0; 10];
    cached.read_at(&rig.cx(), &mut into, 0).unwrap();
    cached.write_at(&rig.cx(), b"waits", 2).unwrap();
    assert_eq!(rig.outside.read(b"f").unwrap(), b"0123456789");
    let direct = rig
        .open("f", OpenFlags::RDONLY | OpenFlags::DIRECT)
        .unwrap();
    direct.read_at(&rig.cx(), &mut into, 0).unwrap();
    assert_eq!(&into, b"01waits789");
    assert_eq!(rig.outside.read(b"f").unwrap(), b"01waits789");
    // What cannot be brought there first is an error, not old data.
    cached.write_at(&rig.cx(), b"WAITS", 2).unwrap();
    rig.remote
        .inject(Op::Write, 0, Fault::Refuse(Errno::ENOSPC));
    assert_eq!(
        errno(direct.read_at(&rig.cx(), &mut into, 0)),
        Errno::ENOSPC
    );
}

#[test]
fn a_write_through_that_fails_wrote_nothing() {
    let rig = Rig::new(InteropMode::Writethrough);
    rig.outside.write(b"f", b"0123456789").unwrap();
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    let mut into = [0; 16];
    file.read_at(&rig.cx(), &mut into, 0).unwrap();
    rig.remote
        .inject(Op::Write, 0, Fault::Refuse(Errno::ENOSPC));
    assert_eq!(errno(file.write(&rig.cx(), b"lost")), Errno::ENOSPC);
    // It stands where it stood, and nobody sees what is not on the server.
    let n = file.read(&rig.cx(), &mut into).unwrap();
    assert_eq!(&into[..n], b"0123456789");
    rig.remote
        .inject(Op::Write, 0, Fault::Refuse(Errno::ENOSPC));
    assert_eq!(errno(file.write_at(&rig.cx(), b"x", 100)), Errno::ENOSPC);
    assert_eq!(rig.attr("f").size, 10);
    file.close(&rig.cx()).unwrap();
}

#[test]
fn a_mapping_of_a_handle_of_ones_own_ends_with_the_file() {
    let rig = Setup::new(InteropMode::SharedPerHandle).mount_on(MemServer::on_host());
    rig.outside.write(b"f", &[7; 8192]).unwrap();
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    let other = rig.open("f", OpenFlags::RDWR).unwrap();
    let map = file
        .map(&rig.cx(), 0, 8192, Protection::empty(), Sharing::Shared)
        .unwrap();
    let mut into = [0; 4];
    other.write_at(&rig.cx(), b"seen", 5000).unwrap();
    map.read(5000, &mut into).unwrap();
    assert_eq!(&into, b"seen");
    let set = SetAttr {
        size: Some(100),
        ..SetAttr::default()
    };
    other.set_attr(&rig.cx(), &set).unwrap();
    assert_eq!(errno(map.read(4096, &mut into)), Errno::EFAULT);
    map.read(98, &mut into).unwrap();
    assert_eq!(into, [7, 7, 0, 0]);
    // Without a descriptor there is nothing to map.
    rig.remote.donate(false);
    let plain = rig.open("f", OpenFlags::RDONLY).unwrap();
    let mapped = plain.map(&rig.cx(), 0, 100, Protection::empty(), Sharing::Shared);
    assert_eq!(errno(mapped), Errno::ENODEV);
}

#[test]
fn listing_is_reading_also_at_the_end() {
    for mode in EW {
        let rig = Rig::new(mode);
        rig.mkdir("d").unwrap();
        let dir = rig.open("d", OpenFlags::DIRECTORY).unwrap();
        for _ in 0..2 {
            rig.clock.advance(100);
            rig.names(&dir);
            assert_eq!(rig.attr("d").atime, rig.clock.now(), "{mode}");
        }
    }
}

#[test]
fn closing_tells_the_server_of_what_was_written_and_of_nothing_else() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        rig.outside.write(b"f", b"content").unwrap();
        let close = |file: File| {
            rig.calls();
            let closed = file.close(&rig.cx());
            let flushes = rig.calls().iter().filter(|op| **op == Op::Flush).count();
            (closed.err().map(|error| error.errno()), flushes)
        };
        let reader = rig.open("f", OpenFlags::RDONLY).unwrap();
        assert_eq!(close(reader), (None, 0), "{mode}");
        let idle = rig.open("f", OpenFlags::RDWR).unwrap();
        assert_eq!(close(idle), (None, 0), "{mode}");
        let writer = rig.open("f", OpenFlags::RDWR).unwrap();
        writer.write_at(&rig.cx(), b"new", 100).unwrap();
        assert_eq!(close(writer), (None, 1), "{mode}");
        let unlucky = rig.open("f", OpenFlags::RDWR).unwrap();
        unlucky.write_at(&rig.cx(), b"new", 200).unwrap();
        rig.remote
            .inject(Op::Flush, 0, Fault::Refuse(Errno::EDQUOT));
        assert_eq!(close(unlucky), (Some(Errno::EDQUOT), 1), "{mode}");
        // What waits here is not on the server, which has nothing to flush.
        let waits = rig.open("f", OpenFlags::RDWR).unwrap();
        waits.read_at(&rig.cx(), &mut [0; 7], 0).unwrap();
        waits.write_at(&rig.cx(), b"CON", 0).unwrap();
        let expected = usize::from(mode != InteropMode::Exclusive);
        assert_eq!(close(waits), (None, expected), "{mode}");
    }
}

#[test]
fn the_size_shown_includes_what_waits_and_costs_nothing() {
    let rig = Rig::new(InteropMode::Exclusive);
    rig.outside.write(b"f", b"content").unwrap();
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    file.read_at(&rig.cx(), &mut [0; 7], 0).unwrap();
    rig.clock.advance(10);
    file.write_at(&rig.cx(), b"CONTENT and more", 0).unwrap();
    rig.calls();
    let attr = rig.attr("f");
    assert_eq!((attr.size, attr.mtime), (16, rig.clock.now()));
    assert_eq!(file.stat(&rig.cx()).unwrap().attr, attr);
    assert_eq!(rig.calls(), []);
    assert_ne!(&rig.outside.read(b"f").unwrap()[..7], b"CONTENT");
}

/// What smaps(5) says of the memory at `start`, in the line called `VmFlags`.
fn flags_of_memory(start: *mut u8) -> Vec<String> {
    let all = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let head = format!("{:x}-", start as usize);
    let mut lines = all.lines().skip_while(|line| !line.starts_with(&head));
    let flags = lines.find_map(|line| line.strip_prefix("VmFlags:"));
    flags
        .unwrap()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

#[test]
fn host_files_are_mapped_in_small_pieces_where_that_is_asked_for() {
    for small in [false, true] {
        for mode in InteropMode::ALL {
            let mut setup = Setup::new(mode);
            setup.limit_host_fd_translation = small;
            let rig = setup.mount_on(MemServer::on_host());
            rig.outside.write(b"f", &[1; 8192]).unwrap();
            let file = rig.open("f", OpenFlags::RDWR).unwrap();
            let map = |sharing| {
                let mapping = file.map(&rig.cx(), 0, 8192, Protection::WRITE, sharing);
                flags_of_memory(mapping.unwrap().as_ptr())
            };
            for flags in [map(Sharing::Shared), map(Sharing::Private)] {
                // "Random reads": nothing is read ahead.
                assert_eq!(flags.iter().any(|flag| flag == "rr"), small, "{mode}");
            }
        }
    }
}
