//! Mapped files (semantics 15.11, 16.9).

use super::client::size_of;
use super::{CaseResult, Client, Fixture};
use crate::flags::{AllocMode, OpenFlags};
use crate::{Errno, File, Mapping, Protection, Sharing};

cases![
    mapping_shows_the_file,
    writes_show_in_a_mapping,
    what_is_mapped_and_written_is_the_file_s_content,
    msync_brings_mapped_writes_to_the_server,
    mapped_writes_outlive_the_mapping_and_the_file,
    private_mapping_keeps_its_writes_to_itself,
    mapping_ends_with_the_file,
    mapping_follows_a_file_that_grows,
    mapping_of_a_deleted_file_works,
    mapping_survives_opening_for_writing,
    mapping_is_refused_in_linux_s_order,
    shared_writes_need_a_descriptor_or_nobody_else,
    two_mappings_are_one_memory,
    punched_holes_show_in_a_mapping: allocate,
];

const PAGE: usize = 4096;

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8)) as u8 | 1).collect()
}

/// A mapping of the first `pages` of `file`; `None` where the mode and the server allow for none.
fn map(
    fs: &Client,
    file: &File,
    pages: usize,
    protection: Protection,
    sharing: Sharing,
) -> crate::Result<Option<Mapping>> {
    match file.map(&fs.cx(), 0, pages * PAGE, protection, sharing) {
        Ok(map) => Ok(Some(map)),
        Err(error) if error.errno() == Errno::ENODEV => Ok(None),
        Err(error) => Err(error),
    }
}

/// As [`map`], or the end of the case.
macro_rules! map_or_pass {
    ($fx:expr, $($args:expr),*) => {
        match map($($args),*)? {
            Some(map) => map,
            None => {
                check!(
                    !$fx.mode.may_defer_writes(),
                    "a file that nobody else uses cannot be mapped"
                );
                return Ok(());
            }
        }
    };
}

fn look(map: &Mapping, at: usize, len: usize) -> crate::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let n = map.read(at, &mut bytes)?;
    bytes.truncate(n);
    Ok(bytes)
}

fn mapping_shows_the_file(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let expected = content(10_000);
    fs.create("f", &expected)?;
    let file = fs.open("f", OpenFlags::RDONLY)?;
    for sharing in [Sharing::Shared, Sharing::Private] {
        let map = map_or_pass!(fx, &fs, &file, 3, Protection::empty(), sharing);
        check_eq!(map.length(), 3 * PAGE, "length");
        check!(
            look(&map, 0, 10_000)? == expected,
            "{sharing:?}: another content"
        );
        check_eq!(look(&map, 10_000, 4)?, [0; 4], "bytes after the end");
        check_errno!(map.write(0, b"x"), EACCES);
    }
    Ok(())
}

fn writes_show_in_a_mapping(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", content(10_000))?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    let map = map_or_pass!(fx, &fs, &file, 3, Protection::empty(), Sharing::Shared);
    fs.write_all(&file, b"written", 5000)?;
    check_eq!(look(&map, 5000, 7)?, b"written", "through the descriptor");
    let other = fs.open("f", OpenFlags::WRONLY | OpenFlags::DIRECT)?;
    fs.write_all(&other, b"direct", 6000)?;
    check_eq!(look(&map, 6000, 6)?, b"direct", "past the cache");
    Ok(())
}

fn what_is_mapped_and_written_is_the_file_s_content(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", content(10_000))?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    let map = map_or_pass!(fx, &fs, &file, 3, Protection::WRITE, Sharing::Shared);
    check_eq!(map.write(4090, b"mapped write")?, 12, "bytes written");
    check_eq!(fs.read_at(&file, 12, 4090)?, b"mapped write", "content");
    let other = fs.open("f", OpenFlags::RDONLY | OpenFlags::DIRECT)?;
    check_eq!(fs.read_at(&other, 6, 4090)?, b"mapped", "past the cache");
    Ok(())
}

fn msync_brings_mapped_writes_to_the_server(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", content(PAGE))?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    let map = map_or_pass!(fx, &fs, &file, 1, Protection::WRITE, Sharing::Shared);
    map.write(7, b"synced")?;
    map.sync(&fs.cx(), 0, PAGE)?;
    check_eq!(&fx.outside.read(b"f")?[7..13], b"synced", "on the server");
    map.write(7, b"by the")
        .and_then(|_| file.sync(&fs.cx(), false))?;
    check_eq!(&fx.outside.read(b"f")?[7..13], b"by the", "after fsync");
    Ok(())
}

fn mapped_writes_outlive_the_mapping_and_the_file(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", content(PAGE))?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    let map = map_or_pass!(fx, &fs, &file, 1, Protection::WRITE, Sharing::Shared);
    file.close(&fs.cx())?;
    map.write(0, b"late")?;
    drop(map);
    check_eq!(&fs.read("f")?[..4], b"late", "content");
    check_eq!(&fx.served(b"f")?[..4], b"late", "on the server");
    Ok(())
}

fn private_mapping_keeps_its_writes_to_itself(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let expected = content(PAGE);
    fs.create("f", &expected)?;
    let file = fs.open("f", OpenFlags::RDONLY)?;
    let map = map_or_pass!(fx, &fs, &file, 1, Protection::WRITE, Sharing::Private);
    map.write(0, b"mine")?;
    check_eq!(look(&map, 0, 4)?, b"mine", "in the mapping");
    check!(fs.read_all(&file)? == expected, "the file has changed");
    check!(
        fx.served(b"f")? == expected,
        "the server's file has changed"
    );
    Ok(())
}

fn mapping_ends_with_the_file(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", content(3 * PAGE))?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    let map = map_or_pass!(fx, &fs, &file, 3, Protection::empty(), Sharing::Shared);
    fs.truncate("f", 100)?;
    check_eq!(look(&map, 96, 8)?[4..], [0; 4], "bytes that were cut off");
    check_errno!(map.read(PAGE, &mut [0; 4]), EFAULT);
    fs.truncate("f", 2 * PAGE as u64)?;
    check_eq!(look(&map, PAGE, 4)?, [0; 4], "bytes of a longer file");
    Ok(())
}

fn mapping_follows_a_file_that_grows(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "short")?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    let map = map_or_pass!(fx, &fs, &file, 4, Protection::empty(), Sharing::Shared);
    fs.write_all(&file, b"end", 2 * PAGE as u64 + 10)?;
    check_eq!(look(&map, 2 * PAGE + 8, 5)?, b"\0\0end", "what was written");
    check_eq!(look(&map, PAGE, 4)?, [0; 4], "the hole");
    check_eq!(look(&map, 0, 5)?, b"short", "the start");
    Ok(())
}

fn mapping_of_a_deleted_file_works(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", content(2 * PAGE))?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    fs.unlink("f")?;
    let map = map_or_pass!(fx, &fs, &file, 2, Protection::WRITE, Sharing::Shared);
    check!(
        look(&map, 0, 2 * PAGE)? == content(2 * PAGE),
        "another content"
    );
    map.write(10, b"still there")?;
    drop(file);
    check_eq!(look(&map, 10, 11)?, b"still there", "after the last close");
    Ok(())
}

fn mapping_survives_opening_for_writing(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", content(PAGE))?;
    let other = fx.second()?;
    let reader = other.open("f", OpenFlags::RDONLY)?;
    let map = map_or_pass!(fx, &other, &reader, 1, Protection::empty(), Sharing::Shared);
    let writer = other.open("f", OpenFlags::RDWR)?;
    other.write_all(&writer, b"new", 0)?;
    check_eq!(look(&map, 0, 3)?, b"new", "in the mapping");
    check_eq!(other.read_at(&reader, 3, 0)?, b"new", "by the reader");
    Ok(())
}

fn mapping_is_refused_in_linux_s_order(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    let cx = fs.cx();
    let (none, write) = (Protection::empty(), Protection::WRITE);
    let wronly = fs.open("f", OpenFlags::WRONLY)?;
    check_errno!(wronly.map(&cx, 0, 0, none, Sharing::Shared), EINVAL);
    check_errno!(wronly.map(&cx, 1, 1, none, Sharing::Shared), EINVAL);
    check_errno!(wronly.map(&cx, 0, PAGE, none, Sharing::Shared), EACCES);
    let rdonly = fs.open("f", OpenFlags::RDONLY)?;
    check_errno!(rdonly.map(&cx, 0, PAGE, write, Sharing::Shared), EACCES);
    let far = i64::MAX as u64 / PAGE as u64 * PAGE as u64;
    check_errno!(
        rdonly.map(&cx, far, 2 * PAGE, none, Sharing::Shared),
        EOVERFLOW
    );
    let dir = fs.open("/", OpenFlags::DIRECTORY)?;
    check_errno!(dir.map(&cx, 0, PAGE, none, Sharing::Shared), ENODEV);
    Ok(())
}

/// The matrix of semantics 15.11.
fn shared_writes_need_a_descriptor_or_nobody_else(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", content(PAGE))?;
    let before = fs.fs.stats();
    let file = fs.open("f", OpenFlags::RDWR)?;
    fs.read_all(&file)?;
    let after = fs.fs.stats();
    let donated = after.host_reads > before.host_reads;
    let force = fs.fs.options().force_page_cache;
    let per_handle = fx.mode.handle_per_description();
    for (sharing, protection) in [
        (Sharing::Shared, Protection::WRITE),
        (Sharing::Shared, Protection::empty()),
        (Sharing::Private, Protection::WRITE),
    ] {
        let shows = sharing == Sharing::Shared && protection.contains(Protection::WRITE);
        let expected = match (per_handle, force) {
            (true, force) => donated && !force,
            (false, true) => true,
            (false, false) => {
                donated || fx.mode.may_defer_writes() || (fx.mode.may_cache_data() && !shows)
            }
        };
        let found = map(&fs, &file, 1, protection, sharing)?.is_some();
        check_eq!(
            found,
            expected,
            "{sharing:?}, {protection:?}, descriptor: {donated}"
        );
    }
    Ok(())
}

fn two_mappings_are_one_memory(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", content(2 * PAGE))?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    let one = map_or_pass!(fx, &fs, &file, 2, Protection::WRITE, Sharing::Shared);
    let two = map_or_pass!(fx, &fs, &file, 1, Protection::empty(), Sharing::Shared);
    one.write(20, b"seen")?;
    check_eq!(look(&two, 20, 4)?, b"seen", "in the other mapping");
    drop(one);
    check_eq!(look(&two, 20, 4)?, b"seen", "after the first is gone");
    Ok(())
}

fn punched_holes_show_in_a_mapping(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", content(3 * PAGE))?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    let map = map_or_pass!(fx, &fs, &file, 3, Protection::empty(), Sharing::Shared);
    let mode = AllocMode::PUNCH_HOLE | AllocMode::KEEP_SIZE;
    match file.allocate(&fs.cx(), mode, 100, 2 * PAGE as u64) {
        Err(error) if error.errno() == Errno::EOPNOTSUPP => return Ok(()),
        other => other?,
    }
    let mut expected = content(3 * PAGE);
    expected[100..100 + 2 * PAGE].fill(0);
    check!(look(&map, 0, 3 * PAGE)? == expected, "another content");
    file.set_attr(&fs.cx(), &size_of(10))?;
    check_eq!(look(&map, 8, 4)?[2..], [0; 2], "after a truncation");
    Ok(())
}
