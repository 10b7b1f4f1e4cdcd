//! The cache against the in-memory server: what is asked for, what waits, what is reported.

use super::PageCache;
use crate::interop::InteropMode;
use crate::testing::Outside;
use crate::testing::mem_remote::{Fault, MemServer, Op};
use crate::tests::{Rig, Setup, errno};
use crate::{Errno, File, OpenFlags, Protection, SetAttr, Sharing};

const KIB: u64 = 1 << 10;

fn pattern(len: u64) -> Vec<u8> {
    (0..len)
        .map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8)
        .collect()
}

/// A mount, a file of `len` bytes in it, open for reading and writing.
fn open_file(mode: InteropMode, len: u64) -> (Rig, File) {
    let rig = Rig::new(mode);
    rig.outside.write(b"f", &pattern(len)).unwrap();
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    rig.calls();
    (rig, file)
}

fn cache(file: &File) -> &PageCache {
    file.node().inode().cache().unwrap()
}

fn read(rig: &Rig, file: &File, len: u64, at: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    let n = file.read_at(&rig.cx(), &mut bytes, at).unwrap();
    bytes.truncate(n);
    bytes
}

fn served(rig: &Rig) -> Vec<u8> {
    rig.outside.read(b"f").unwrap()
}

fn size_of(size: u64) -> SetAttr {
    SetAttr {
        size: Some(size),
        ..SetAttr::default()
    }
}

#[test]
fn what_was_read_once_is_not_asked_for_again() {
    for mode in [InteropMode::Exclusive, InteropMode::Writethrough] {
        let (rig, file) = open_file(mode, 100 * KIB);
        let expected = pattern(100 * KIB);
        assert_eq!(read(&rig, &file, 10, 5000), expected[5000..5010]);
        assert_eq!(rig.calls(), [Op::Read], "{mode}");
        // The rest of the page came with it, and nothing else.
        assert_eq!(read(&rig, &file, 4096, 4096), expected[4096..8192]);
        assert_eq!(rig.calls(), [], "{mode}");
        read(&rig, &file, 1, 8192);
        assert_eq!(rig.calls(), [Op::Read], "{mode}");
    }
}

#[test]
fn reading_in_sequence_asks_for_more_and_more() {
    let (rig, file) = open_file(InteropMode::Exclusive, 4096 * KIB);
    let mut content = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match file.read(&rig.cx(), &mut buffer).unwrap() {
            0 => break,
            n => content.extend_from_slice(&buffer[..n]),
        }
    }
    assert!(content == pattern(4096 * KIB));
    // 64, 128, 256 and 512 KiB, then as much as one reply carries.
    let reads = rig.calls().iter().filter(|op| **op == Op::Read).count();
    assert!(reads <= 8, "{reads} requests");
}

#[test]
fn what_is_overwritten_waits_in_exclusive_mode_alone() {
    for mode in [InteropMode::Exclusive, InteropMode::Writethrough] {
        let (rig, file) = open_file(mode, 100);
        read(&rig, &file, 100, 0);
        file.write_at(&rig.cx(), b"new", 10).unwrap();
        let waits = mode == InteropMode::Exclusive;
        assert_eq!(&served(&rig)[10..13] != b"new", waits, "{mode}");
        assert_eq!(&read(&rig, &file, 5, 9)[1..4], b"new", "{mode}");
        assert_eq!(cache(&file).unsent().len(), usize::from(waits), "{mode}");
        file.sync(&rig.cx(), false).unwrap();
        assert_eq!(&served(&rig)[10..13], b"new", "{mode}");
        assert!(!cache(&file).is_dirty());
    }
}

#[test]
fn what_is_new_goes_to_the_server_at_once_and_is_never_fetched() {
    let (rig, file) = open_file(InteropMode::Exclusive, 0);
    for at in [0, 100, 5000] {
        file.write_at(&rig.cx(), b"0123456789", at).unwrap();
    }
    assert_eq!(rig.calls(), [Op::Write; 3]);
    assert_eq!(served(&rig).len(), 5010);
    read(&rig, &file, 10, 100);
    assert_eq!(rig.calls(), []);
}

#[test]
fn images_can_tell_what_the_server_lacks() {
    let (rig, file) = open_file(InteropMode::Exclusive, 100);
    read(&rig, &file, 100, 0);
    file.write_at(&rig.cx(), b"abc", 10).unwrap();
    file.write_at(&rig.cx(), b"de", 50).unwrap();
    assert_eq!(cache(&file).unsent(), [10..13, 50..52]);
    let mut bytes = [0; 3];
    assert_eq!(cache(&file).peek(&mut bytes, 10), 3);
    assert_eq!(&bytes, b"abc");
}

#[test]
fn a_failed_write_back_is_told_once_and_the_data_kept() {
    let (rig, file) = open_file(InteropMode::Exclusive, 100);
    let other = rig.open("f", OpenFlags::RDWR).unwrap();
    let third = rig.open("f", OpenFlags::RDWR).unwrap();
    read(&rig, &file, 100, 0);
    file.write_at(&rig.cx(), b"kept", 0).unwrap();
    rig.remote
        .inject(Op::Write, 0, Fault::Refuse(Errno::ENOSPC));
    assert_eq!(errno(file.sync(&rig.cx(), false)), Errno::ENOSPC);
    assert_ne!(&served(&rig)[..4], b"kept");
    assert_eq!(read(&rig, &file, 4, 0), b"kept");
    // There is room again: it goes, this one was told, and the others are, once.
    file.sync(&rig.cx(), false).unwrap();
    assert_eq!(&served(&rig)[..4], b"kept");
    assert_eq!(errno(other.sync(&rig.cx(), false)), Errno::ENOSPC);
    other.sync(&rig.cx(), false).unwrap();
    assert_eq!(errno(third.close(&rig.cx())), Errno::ENOSPC);
    file.close(&rig.cx()).unwrap();
}

#[test]
fn a_connection_lost_in_write_back_keeps_what_was_not_written() {
    let (rig, file) = open_file(InteropMode::Exclusive, 3 << 20);
    read(&rig, &file, 3 << 20, 0);
    file.write_at(&rig.cx(), &vec![7; 3 << 20], 0).unwrap();
    rig.remote.inject(Op::Write, 1, Fault::Cut);
    assert_eq!(errno(file.sync(&rig.cx(), false)), Errno::EIO);
    let left: u64 = cache(&file)
        .unsent()
        .iter()
        .map(|range| range.end - range.start)
        .sum();
    assert_eq!(left, 2 << 20);
    assert_eq!(read(&rig, &file, 1, 0), [7]);
    assert_eq!(errno(rig.fs.unmount(&rig.cx())), Errno::EIO);
}

#[test]
fn short_writes_are_gone_on_with() {
    let (rig, file) = open_file(InteropMode::Exclusive, 100);
    read(&rig, &file, 100, 0);
    file.write_at(&rig.cx(), &[7; 100], 0).unwrap();
    rig.remote.inject(Op::Write, 0, Fault::Short(3));
    rig.remote.inject(Op::Write, 1, Fault::Short(50));
    file.sync(&rig.cx(), false).unwrap();
    assert_eq!(served(&rig), [7; 100]);
}

#[test]
fn short_and_failed_reads_give_what_there_is() {
    let (rig, file) = open_file(InteropMode::Exclusive, 100);
    rig.remote.inject(Op::Read, 0, Fault::Refuse(Errno::EDQUOT));
    let mut bytes = [0; 50];
    assert_eq!(errno(file.read_at(&rig.cx(), &mut bytes, 0)), Errno::EDQUOT);
    assert_eq!(read(&rig, &file, 50, 0), pattern(50));
}

#[test]
fn truncation_takes_what_waits_beyond_it() {
    let (rig, file) = open_file(InteropMode::Exclusive, 10_000);
    read(&rig, &file, 10_000, 0);
    file.write_at(&rig.cx(), &[7; 10_000], 0).unwrap();
    file.set_attr(&rig.cx(), &size_of(5000)).unwrap();
    file.set_attr(&rig.cx(), &size_of(10_000)).unwrap();
    let mut expected = vec![7; 5000];
    expected.resize(10_000, 0);
    assert!(read(&rig, &file, 20_000, 0) == expected);
    file.sync(&rig.cx(), false).unwrap();
    assert!(served(&rig) == expected);
}

#[test]
fn a_write_under_a_fill_is_not_undone_by_it() {
    let (rig, file) = open_file(InteropMode::Exclusive, 8192);
    let writer = rig.open("f", OpenFlags::RDWR).unwrap();
    let creds = crate::Credentials::root();
    // The write comes between the server's reply and its arrival.
    let tree = rig.outside.clone();
    rig.remote.before(Op::Read, move || {
        writer
            .write_at(&crate::Context::new(&creds), b"late", 100)
            .unwrap();
        // What the reply brings is older.
        tree.write(b"f", &pattern(8192)).unwrap();
    });
    read(&rig, &file, 10, 0);
    assert_eq!(read(&rig, &file, 4, 100), b"late");
}

#[test]
fn two_readers_ask_once() {
    let (rig, file) = open_file(InteropMode::Exclusive, 64 * KIB);
    let (entered, reached) = std::sync::mpsc::channel();
    let (release, held) = std::sync::mpsc::channel::<()>();
    rig.remote.before(Op::Read, move || {
        entered.send(()).unwrap();
        let _ = held.recv();
    });
    std::thread::scope(|scope| {
        let first = scope.spawn(|| read(&rig, &file, 4096, 0));
        reached.recv().unwrap();
        let second = scope.spawn(|| read(&rig, &file, 100, 0));
        drop(release);
        assert_eq!(first.join().unwrap(), pattern(4096));
        assert_eq!(second.join().unwrap(), pattern(100));
    });
    assert_eq!(rig.calls(), [Op::Read]);
}

#[test]
fn the_limit_holds_and_old_pages_make_room() {
    let mut setup = Setup::new(InteropMode::Exclusive);
    setup.page_cache_limit = 1 << 20;
    let rig = setup.mount();
    let content = pattern(256 * KIB);
    for index in 0..16 {
        let name = format!("f{index}");
        rig.outside.write(name.as_bytes(), &content).unwrap();
        let file = rig.open(&name, OpenFlags::RDWR).unwrap();
        assert!(read(&rig, &file, 256 * KIB, 0) == content);
        file.write_at(&rig.cx(), &[index; 100], 1000).unwrap();
        let stats = rig.fs.stats();
        assert!(stats.page_cache_bytes <= 1 << 20, "{stats:?}");
    }
    assert!(rig.fs.stats().page_cache_evicted > 0);
    for index in 0..16 {
        let file = rig.open(&format!("f{index}"), OpenFlags::RDONLY).unwrap();
        assert_eq!(read(&rig, &file, 100, 1000), [index; 100]);
    }
}

#[test]
fn only_so_many_files_take_a_descriptor() {
    let rig = Rig::new(InteropMode::Exclusive);
    let mut open = Vec::new();
    for index in 0..300 {
        let name = format!("f{index}");
        rig.outside.write(name.as_bytes(), b"content").unwrap();
        let file = rig.open(&name, OpenFlags::RDWR).unwrap();
        assert_eq!(read(&rig, &file, 10, 0), b"content");
        file.write_at(&rig.cx(), b"C", 0).unwrap();
        open.push(file);
        let files = rig.fs.stats().page_cache_files;
        assert!(files <= 256, "{files}");
    }
    for file in open {
        assert_eq!(read(&rig, &file, 10, 0), b"Content");
    }
}

#[test]
fn without_memory_everything_goes_to_the_server() {
    let mut setup = Setup::new(InteropMode::Exclusive);
    setup.page_cache_limit = 0;
    let rig = setup.mount();
    rig.outside.write(b"f", b"content").unwrap();
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    for _ in 0..2 {
        assert_eq!(read(&rig, &file, 100, 0), b"content");
    }
    file.write_at(&rig.cx(), b"C", 0).unwrap();
    assert_eq!(served(&rig), b"Content");
    assert_eq!(rig.fs.stats().page_cache_bytes, 0);
    let mapped = file.map(&rig.cx(), 0, 4096, Protection::empty(), Sharing::Shared);
    assert_eq!(errno(mapped), Errno::ENOMEM);
}

#[test]
fn pages_whose_data_the_server_refuses_stay_under_pressure() {
    let mut setup = Setup::new(InteropMode::Exclusive);
    setup.page_cache_limit = 64 * KIB;
    let rig = setup.mount();
    rig.outside.write(b"f", &pattern(32 * KIB)).unwrap();
    rig.outside.write(b"g", &pattern(256 * KIB)).unwrap();
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    read(&rig, &file, 32 * KIB, 0);
    file.write_at(&rig.cx(), &[7; 100], 0).unwrap();
    rig.remote
        .inject_always(Op::Write, Fault::Refuse(Errno::ENOSPC));
    let other = rig.open("g", OpenFlags::RDONLY).unwrap();
    assert!(read(&rig, &other, 256 * KIB, 0) == pattern(256 * KIB));
    assert!(read(&rig, &other, 64 * KIB, 0) == pattern(256 * KIB)[..64 << 10]);
    assert_eq!(read(&rig, &file, 100, 0), [7; 100]);
    rig.remote.heal();
    assert_eq!(errno(file.sync(&rig.cx(), false)), Errno::ENOSPC);
    assert_eq!(served(&rig)[..100], [7; 100]);
}

#[test]
fn a_closed_file_is_written_back_before_it_is_forgotten() {
    let (rig, file) = open_file(InteropMode::Exclusive, 100);
    read(&rig, &file, 100, 0);
    file.write_at(&rig.cx(), b"late", 0).unwrap();
    let mtime = rig.attr("f").mtime;
    file.close(&rig.cx()).unwrap();
    rig.fs.drop_caches();
    assert_eq!(&served(&rig)[..4], b"late");
    assert_eq!(rig.attr("f").mtime, mtime, "the time does not jump");
}

#[test]
fn closed_data_that_is_refused_waits_for_better_times() {
    let (rig, file) = open_file(InteropMode::Exclusive, 100);
    read(&rig, &file, 100, 0);
    file.write_at(&rig.cx(), b"late", 0).unwrap();
    rig.remote
        .inject_always(Op::Write, Fault::Refuse(Errno::ENOSPC));
    file.close(&rig.cx()).unwrap();
    rig.fs.drop_caches();
    assert_eq!(errno(rig.fs.sync(&rig.cx())), Errno::ENOSPC);
    // Somebody who opens it later is told, as nobody was.
    let later = rig.open("f", OpenFlags::RDWR).unwrap();
    assert_eq!(read(&rig, &later, 4, 0), b"late");
    rig.remote.heal();
    assert_eq!(errno(later.sync(&rig.cx(), false)), Errno::ENOSPC);
    later.sync(&rig.cx(), false).unwrap();
    assert_eq!(&served(&rig)[..4], b"late");
}

#[test]
fn mapped_memory_is_the_file() {
    let (rig, file) = open_file(InteropMode::Exclusive, 10_000);
    let map = file
        .map(&rig.cx(), 4096, 8192, Protection::WRITE, Sharing::Shared)
        .unwrap();
    let mut bytes = [0; 10];
    map.read(10, &mut bytes).unwrap();
    assert_eq!(bytes, pattern(10_000)[4106..4116]);
    map.write(0, b"mapped").unwrap();
    assert_eq!(read(&rig, &file, 6, 4096), b"mapped");
    file.write_at(&rig.cx(), b"written", 5000).unwrap();
    map.read(904, &mut bytes).unwrap();
    assert_eq!(&bytes[..7], b"written");
    map.sync(&rig.cx(), 0, 8192).unwrap();
    assert_eq!(&served(&rig)[4096..4102], b"mapped");
    // A file that grows is seen through the same mapping.
    file.write_at(&rig.cx(), b"end", 12_000).unwrap();
    map.read(12_000 - 4096 - 2, &mut bytes).unwrap();
    assert_eq!(&bytes[..5], b"\0\0end");
    // What is gone is an error, not a signal.
    file.set_attr(&rig.cx(), &size_of(100)).unwrap();
    assert_eq!(errno(map.read(0, &mut bytes)), Errno::EFAULT);
}

#[test]
fn what_is_mapped_stays_cached() {
    let (rig, file) = open_file(InteropMode::Exclusive, 10_000);
    let map = file
        .map(&rig.cx(), 0, 4096, Protection::empty(), Sharing::Shared)
        .unwrap();
    rig.calls();
    rig.fs.drop_caches();
    read(&rig, &file, 4096, 0);
    assert_eq!(rig.calls(), []);
    drop(map);
    rig.fs.drop_caches();
    read(&rig, &file, 4096, 0);
    assert_eq!(rig.calls(), [Op::Read]);
}

#[test]
fn private_writes_stay_private() {
    let (rig, file) = open_file(InteropMode::Exclusive, 4096);
    let map = file
        .map(&rig.cx(), 0, 4096, Protection::WRITE, Sharing::Private)
        .unwrap();
    map.write(0, b"mine").unwrap();
    assert_eq!(read(&rig, &file, 4, 0), pattern(4));
    drop(map);
    file.sync(&rig.cx(), false).unwrap();
    assert_eq!(served(&rig), pattern(4096));
}

#[test]
fn a_file_written_in_crumbs_stays_bounded() {
    let (rig, file) = open_file(InteropMode::Exclusive, 40_000);
    for at in (0..40_000).step_by(2) {
        file.write_at(&rig.cx(), b"x", at).unwrap();
    }
    let fragments = cache(&file).pages.read().fragments();
    assert!(fragments <= 8300, "{fragments}");
}

#[test]
fn handles_that_cannot_be_one_are_two_and_share_the_cache() {
    let setup = Setup::new(InteropMode::Exclusive);
    let rig = setup.mount_on(MemServer::on_host());
    rig.outside.write(b"f", &pattern(10_000)).unwrap();
    let reader = rig.open("f", OpenFlags::RDONLY).unwrap();
    let map = reader
        .map(&rig.cx(), 0, 4096, Protection::empty(), Sharing::Shared)
        .unwrap();
    assert!(!reader.node().inode().is_cached(), "there is a descriptor");
    // Reading and writing with one handle is refused: then there are two, and no descriptor that
    // is good for both.
    rig.remote.inject(Op::Open, 0, Fault::Refuse(Errno::EACCES));
    let writer = rig.open("f", OpenFlags::WRONLY).unwrap();
    assert!(writer.node().inode().is_cached());
    read(&rig, &reader, 100, 0);
    writer.write_at(&rig.cx(), b"late", 0).unwrap();
    assert_eq!(read(&rig, &reader, 4, 0), b"late");
    let mut bytes = [0; 4];
    map.read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"late", "the mapping has changed over");
    assert_ne!(&served(&rig)[..4], b"late");
    writer.sync(&rig.cx(), false).unwrap();
    assert_eq!(&served(&rig)[..4], b"late");
}

#[test]
fn other_refusals_of_an_upgrade_are_the_caller_s() {
    let (rig, _reader) = open_file(InteropMode::Exclusive, 100);
    let other = rig.open("g", OpenFlags::RDONLY | OpenFlags::CREAT).unwrap();
    rig.remote
        .inject(Op::Open, 0, Fault::Refuse(Errno::ETXTBSY));
    assert_eq!(errno(rig.open("g", OpenFlags::WRONLY)), Errno::ETXTBSY);
    drop(other);
}

#[test]
fn a_stale_descriptor_is_left_for_the_newest_if_asked() {
    for asked in [true, false] {
        let mut setup = Setup::new(InteropMode::Exclusive);
        setup.overlayfs_stale_read = asked;
        let rig = setup.mount_on(MemServer::on_host());
        rig.outside.write(b"f", &pattern(4096)).unwrap();
        let reader = rig.open("f", OpenFlags::RDONLY).unwrap();
        let map = reader
            .map(&rig.cx(), 0, 4096, Protection::empty(), Sharing::Shared)
            .unwrap();
        // As overlayfs does when a file of its lower layer is opened for writing.
        rig.outside.copy_up(b"f").unwrap();
        let writer = rig.open("f", OpenFlags::RDWR).unwrap();
        writer.write_at(&rig.cx(), b"upper", 0).unwrap();
        assert_eq!(read(&rig, &reader, 5, 0), b"upper");
        let mut bytes = [0; 5];
        map.read(0, &mut bytes).unwrap();
        assert_eq!(&bytes == b"upper", asked);
    }
}

#[test]
fn a_descriptor_that_comes_later_takes_over_without_loss() {
    let rig = Setup::new(InteropMode::Exclusive).mount_on(MemServer::on_host());
    rig.outside.write(b"f", &pattern(10_000)).unwrap();
    rig.remote.donate(false);
    let reader = rig.open("f", OpenFlags::RDONLY).unwrap();
    read(&rig, &reader, 10_000, 0);
    let writer = rig.open("f", OpenFlags::WRONLY).unwrap();
    writer.write_at(&rig.cx(), b"waits", 0).unwrap();
    assert_ne!(&served(&rig)[..5], b"waits");
    // The next handle is opened to truncate, and brings a descriptor.
    rig.remote.donate(true);
    let last = rig.open("f", OpenFlags::RDWR | OpenFlags::TRUNC).unwrap();
    assert!(!last.node().inode().is_cached());
    last.write_at(&rig.cx(), b"direct", 0).unwrap();
    assert_eq!(served(&rig), b"direct");
    assert_eq!(read(&rig, &reader, 10, 0), b"direct");
    assert_eq!(rig.fs.stats().page_cache_bytes, 0);
}

/// Each thread owns a stripe of the file, in which it must always find what it wrote last,
/// whatever the others do: they fill, write, truncate, evict, write back and map.
#[test]
fn threads_share_pages_and_lose_no_write() {
    const STRIPE: u64 = 10_000;
    const WRITERS: u64 = 4;
    for limit in [256 << 20, 32 * KIB] {
        let mut setup = Setup::new(InteropMode::Exclusive);
        setup.page_cache_limit = limit;
        setup.config.capabilities.read_size_max = 8192;
        let rig = setup.mount();
        rig.outside.write(b"f", &pattern(WRITERS * STRIPE)).unwrap();
        rig.outside.write(b"g", &pattern(64 * KIB)).unwrap();
        let busy = std::sync::atomic::AtomicU64::new(WRITERS);
        let done = || busy.load(std::sync::atomic::Ordering::SeqCst) == 0;
        std::thread::scope(|scope| {
            for stripe in 0..WRITERS {
                let (rig, busy) = (&rig, &busy);
                scope.spawn(move || {
                    let file = rig.open("f", OpenFlags::RDWR).unwrap();
                    let mut mine = pattern(WRITERS * STRIPE)[(stripe * STRIPE) as usize..]
                        [..STRIPE as usize]
                        .to_vec();
                    let mut state = stripe + 1;
                    for round in 0..150u64 {
                        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                        let at = (state >> 33) % (STRIPE - 700);
                        let len = 1 + (state >> 20) % 700;
                        let bytes = vec![round as u8; len as usize];
                        let n = file
                            .write_at(&rig.cx(), &bytes, stripe * STRIPE + at)
                            .unwrap();
                        assert_eq!(n as u64, len);
                        mine[at as usize..(at + len) as usize].copy_from_slice(&bytes);
                        let found = read(rig, &file, STRIPE, stripe * STRIPE);
                        assert!(found == mine, "stripe {stripe}, round {round}");
                    }
                    busy.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                });
            }
            scope.spawn(|| {
                let file = rig.open("f", OpenFlags::RDONLY).unwrap();
                while !done() {
                    file.sync(&rig.cx(), false).unwrap();
                    rig.fs.drop_caches();
                }
            });
            scope.spawn(|| {
                // The end moves, beyond what the others use.
                let file = rig.open("f", OpenFlags::RDWR).unwrap();
                let other = rig.open("g", OpenFlags::RDONLY).unwrap();
                while !done() {
                    let size = WRITERS * STRIPE;
                    file.set_attr(&rig.cx(), &size_of(size + 9000)).unwrap();
                    assert!(read(&rig, &file, 9000, size).iter().all(|byte| *byte == 0));
                    file.set_attr(&rig.cx(), &size_of(size)).unwrap();
                    assert!(read(&rig, &other, 64 * KIB, 0) == pattern(64 * KIB));
                    let map = file.map(&rig.cx(), 8192, 8192, Protection::empty(), Sharing::Shared);
                    drop(map);
                }
            });
        });
        rig.fs.sync(&rig.cx()).unwrap();
        let file = rig.open("f", OpenFlags::RDONLY).unwrap();
        assert!(served(&rig) == read(&rig, &file, WRITERS * STRIPE, 0));
        assert!(!cache(&file).is_dirty());
    }
}
