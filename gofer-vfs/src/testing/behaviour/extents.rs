//! Where a file's data lies: fallocate in all its modes, seeking to data and holes, copies between
//! files (semantics 15.8, 15.10).

use super::client::size_of;
use super::{CaseResult, Client, Fixture};
use crate::flags::{AllocMode, OpenFlags};
use crate::{Errno, File, Whence};

cases![
    punched_holes_read_as_zeros: allocate,
    zeroed_ranges_read_as_zeros_and_may_grow_the_file: allocate,
    allocating_beyond_the_end_may_keep_the_size: allocate,
    collapsed_ranges_close_up: allocate,
    inserted_ranges_push_the_rest_away: allocate,
    combinations_that_make_no_sense_are_refused,
    allocation_needs_a_writable_file,
    allocation_of_a_deleted_file_works: allocate,
    allocation_without_the_protocol_is_eopnotsupp,
    holes_are_found_after_what_was_just_written,
    seeking_beyond_the_end_is_enxio,
    copies_between_files,
    copies_within_a_file,
    copies_end_with_the_source,
    copies_that_make_no_sense_are_refused,
    copies_of_megabytes_pass_unchanged,
];

const BLOCK: usize = 4096;

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8)) as u8 | 1).collect()
}

/// Whether the host's file system did it; the protocols pass every mode on.
fn allocate(fs: &Client, file: &File, mode: AllocMode, at: u64, len: u64) -> crate::Result<bool> {
    match file.allocate(&fs.cx(), mode, at, len) {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Errno::EOPNOTSUPP => Ok(false),
        Err(error) => Err(error),
    }
}

/// A file of three blocks whose middle was read and whose start was rewritten, so that a cache
/// has some of it, and has something to write back.
fn three_blocks(fs: &Client) -> crate::Result<(File, Vec<u8>)> {
    let mut expected = content(3 * BLOCK);
    fs.create("f", &expected)?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    fs.read_at(&file, 2 * BLOCK, 0)?;
    fs.write_all(&file, b"rewritten", 4000)?;
    expected[4000..4009].copy_from_slice(b"rewritten");
    fs.write_all(&file, b"too", 9000)?;
    expected[9000..9003].copy_from_slice(b"too");
    Ok((file, expected))
}

#[track_caller]
fn compare(fx: &Fixture, fs: &Client, file: &File, expected: &[u8]) -> CaseResult {
    let same = fs.read_all(file)? == expected;
    check!(same, "another content");
    check_eq!(
        file.stat(&fs.cx())?.attr.size,
        expected.len() as u64,
        "size"
    );
    check!(
        fx.served(b"f")? == expected,
        "another content on the server"
    );
    Ok(())
}

fn punched_holes_read_as_zeros(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let (file, mut expected) = three_blocks(&fs)?;
    let mode = AllocMode::PUNCH_HOLE | AllocMode::KEEP_SIZE;
    if allocate(&fs, &file, mode, 3000, 6001)? {
        expected[3000..9001].fill(0);
    }
    if allocate(&fs, &file, mode, 12_000, 100_000)? {
        expected[12_000..].fill(0);
    }
    compare(fx, &fs, &file, &expected)
}

fn zeroed_ranges_read_as_zeros_and_may_grow_the_file(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let (file, mut expected) = three_blocks(&fs)?;
    if !allocate(&fs, &file, AllocMode::ZERO_RANGE, 3000, 6001)? {
        return Ok(());
    }
    expected[3000..9001].fill(0);
    let keep = AllocMode::ZERO_RANGE | AllocMode::KEEP_SIZE;
    allocate(&fs, &file, keep, 12_000, 100_000)?;
    expected[12_000..].fill(0);
    compare(fx, &fs, &file, &expected)?;
    allocate(&fs, &file, AllocMode::ZERO_RANGE, 12_000, 8000)?;
    expected.resize(20_000, 0);
    compare(fx, &fs, &file, &expected)
}

fn allocating_beyond_the_end_may_keep_the_size(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let (file, mut expected) = three_blocks(&fs)?;
    if allocate(&fs, &file, AllocMode::KEEP_SIZE, 10_000, 10_000)? {
        compare(fx, &fs, &file, &expected)?;
    }
    if allocate(&fs, &file, AllocMode::empty(), 0, 20_000)? {
        expected.resize(20_000, 0);
    }
    compare(fx, &fs, &file, &expected)
}

fn collapsed_ranges_close_up(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let (file, mut expected) = three_blocks(&fs)?;
    let (at, len) = (BLOCK as u64, BLOCK as u64);
    if allocate(&fs, &file, AllocMode::COLLAPSE_RANGE, at, len)? {
        expected.drain(BLOCK..2 * BLOCK);
    }
    compare(fx, &fs, &file, &expected)
}

fn inserted_ranges_push_the_rest_away(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let (file, mut expected) = three_blocks(&fs)?;
    let (at, len) = (BLOCK as u64, 2 * BLOCK as u64);
    if allocate(&fs, &file, AllocMode::INSERT_RANGE, at, len)? {
        expected.splice(BLOCK..BLOCK, vec![0; 2 * BLOCK]);
    }
    compare(fx, &fs, &file, &expected)
}

fn combinations_that_make_no_sense_are_refused(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    let cx = fs.cx();
    let file = fs.open("f", OpenFlags::RDWR)?;
    use AllocMode as M;
    for mode in [
        M::PUNCH_HOLE,
        M::PUNCH_HOLE | M::ZERO_RANGE | M::KEEP_SIZE,
        M::COLLAPSE_RANGE | M::KEEP_SIZE,
        M::INSERT_RANGE | M::KEEP_SIZE,
        M::COLLAPSE_RANGE | M::INSERT_RANGE,
        M::NO_HIDE_STALE,
        M::from_bits_retain(0x400),
    ] {
        check_errno!(file.allocate(&cx, mode, 0, 4096), EOPNOTSUPP);
        check_errno!(file.allocate(&cx, mode, 0, 0), EINVAL);
    }
    check_eq!(fs.read("f")?, b"x", "content");
    Ok(())
}

fn allocation_needs_a_writable_file(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    let file = fs.open("f", OpenFlags::RDONLY)?;
    let nothing = AllocMode::empty();
    check_errno!(file.allocate(&fs.cx(), nothing, 0, 1), EBADF);
    check_errno!(file.allocate(&fs.cx(), nothing, 0, 0), EINVAL);
    let path = fs.open("f", OpenFlags::PATH)?;
    check_errno!(path.allocate(&fs.cx(), nothing, 0, 1), EBADF);
    Ok(())
}

fn allocation_of_a_deleted_file_works(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "content")?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    fs.unlink("f")?;
    let grown = allocate(&fs, &file, AllocMode::empty(), 0, 100)?;
    let mut expected = b"content".to_vec();
    if grown {
        expected.resize(100, 0);
    }
    check_eq!(fs.read_all(&file)?, expected, "content");
    file.set_attr(&fs.cx(), &size_of(3))?;
    check_eq!(fs.read_all(&file)?, b"con", "content after a truncation");
    check_eq!(file.stat(&fs.cx())?.attr.nlink, 0, "links");
    Ok(())
}

fn allocation_without_the_protocol_is_eopnotsupp(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    if fx.fs.capabilities().allocate {
        return Ok(());
    }
    check_errno!(
        file.allocate(&fs.cx(), AllocMode::empty(), 0, 100),
        EOPNOTSUPP
    );
    let mode = AllocMode::PUNCH_HOLE | AllocMode::KEEP_SIZE;
    check_errno!(file.allocate(&fs.cx(), mode, 0, 1), EOPNOTSUPP);
    check_eq!(file.stat(&fs.cx())?.attr.size, 1, "size");
    Ok(())
}

fn holes_are_found_after_what_was_just_written(fx: &Fixture) -> CaseResult {
    const FAR: u64 = 1 << 20;
    let fs = fx.root();
    let cx = fs.cx();
    let file = fs.open("f", OpenFlags::CREAT | OpenFlags::RDWR)?;
    fs.write_all(&file, b"start", 0)?;
    fs.write_all(&file, b"end", FAR)?;
    fs.read_at(&file, 5, 0)?;
    fs.write_all(&file, b"START", 0)?;
    check_eq!(file.seek(&cx, Whence::Data(2))?, 2, "data at 2");
    let hole = file.seek(&cx, Whence::Hole(0))?;
    check!((5..=FAR + 3).contains(&hole), "hole at {hole}");
    let data = file.seek(&cx, Whence::Data(FAR as i64 + 1))?;
    check_eq!(data, FAR + 1, "data near the end");
    let last = file.seek(&cx, Whence::Hole(FAR as i64 + 1))?;
    check_eq!(last, FAR + 3, "the end is a hole");
    Ok(())
}

fn seeking_beyond_the_end_is_enxio(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let cx = fs.cx();
    fs.create("f", "0123456789")?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    for offset in [10, 11, i64::MAX, -1] {
        check_errno!(file.seek(&cx, Whence::Data(offset)), ENXIO);
        check_errno!(file.seek(&cx, Whence::Hole(offset)), ENXIO);
    }
    fs.write_all(&file, b"x", 20)?;
    check_eq!(file.seek(&cx, Whence::Data(20))?, 20, "what was written");
    Ok(())
}

fn copies_between_files(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", content(10_000))?;
    fs.create("f", "0123456789")?;
    let from = fs.open("a", OpenFlags::RDWR)?;
    let to = fs.open("f", OpenFlags::RDWR)?;
    // What was just written counts, too.
    fs.read_at(&from, 100, 0)?;
    fs.write_all(&from, b"new", 50)?;
    let n = from.copy_range(&fs.cx(), 50, &to, 5, 6000)?;
    check_eq!(n, 6000, "bytes copied");
    let mut source = content(10_000);
    source[50..53].copy_from_slice(b"new");
    let mut expected = b"01234".to_vec();
    expected.extend_from_slice(&source[50..6050]);
    compare(fx, &fs, &to, &expected)
}

fn copies_within_a_file(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let (file, mut expected) = three_blocks(&fs)?;
    check_eq!(
        file.copy_range(&fs.cx(), 4000, &file, 100, 500)?,
        500,
        "bytes"
    );
    expected.copy_within(4000..4500, 100);
    let end = expected.len() as u64;
    check_eq!(
        file.copy_range(&fs.cx(), 0, &file, end, 1000)?,
        1000,
        "bytes"
    );
    expected.extend_from_within(0..1000);
    check_errno!(file.copy_range(&fs.cx(), 0, &file, 50, 100), EINVAL);
    compare(fx, &fs, &file, &expected)
}

fn copies_end_with_the_source(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "0123456789")?;
    fs.create("f", "")?;
    let from = fs.open("a", OpenFlags::RDONLY)?;
    let to = fs.open("f", OpenFlags::WRONLY)?;
    let cx = fs.cx();
    check_eq!(from.copy_range(&cx, 4, &to, 0, 100)?, 6, "up to the end");
    check_eq!(from.copy_range(&cx, 10, &to, 0, 100)?, 0, "at the end");
    check_eq!(from.copy_range(&cx, 99, &to, 0, 100)?, 0, "beyond it");
    check_eq!(from.copy_range(&cx, 0, &to, 0, 0)?, 0, "nothing");
    check_eq!(fs.read("f")?, b"456789", "content");
    Ok(())
}

fn copies_that_make_no_sense_are_refused(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "0123456789")?;
    fs.create("f", "")?;
    let cx = fs.cx();
    let (reader, writer) = (
        fs.open("a", OpenFlags::RDONLY)?,
        fs.open("f", OpenFlags::WRONLY)?,
    );
    check_errno!(writer.copy_range(&cx, 0, &writer, 0, 1), EBADF);
    check_errno!(reader.copy_range(&cx, 0, &reader, 0, 1), EBADF);
    let append = fs.open("f", OpenFlags::WRONLY | OpenFlags::APPEND)?;
    check_errno!(reader.copy_range(&cx, 0, &append, 0, 1), EBADF);
    let dir = fs.open("/", OpenFlags::DIRECTORY)?;
    check_errno!(dir.copy_range(&cx, 0, &writer, 0, 1), EISDIR);
    check_errno!(dir.copy_range(&cx, 0, &dir, 0, 1), EISDIR);
    check_errno!(reader.copy_range(&cx, 0, &dir, 0, 1), EISDIR);
    check_errno!(
        reader.copy_range(&cx, 0, &writer, u64::MAX - 1, 9),
        EOVERFLOW
    );
    let other = fx.second()?;
    let elsewhere = other.open("f", OpenFlags::WRONLY)?;
    check_errno!(reader.copy_range(&cx, 0, &elsewhere, 0, 1), EXDEV);
    Ok(())
}

fn copies_of_megabytes_pass_unchanged(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let expected = content((3 << 20) + 12_345);
    fs.create("a", &expected)?;
    let from = fs.open("a", OpenFlags::RDONLY)?;
    let to = fs.open("f", OpenFlags::CREAT | OpenFlags::RDWR)?;
    let n = from.copy_range(&fs.cx(), 0, &to, 0, u64::MAX >> 2)?;
    check_eq!(n, expected.len() as u64, "bytes copied");
    compare(fx, &fs, &to, &expected)
}
