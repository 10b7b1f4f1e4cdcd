//! Reading, writing, sizes, seeking (semantics 15).

use super::client::size_of;
use super::{CaseResult, Failure, Fixture};
use crate::flags::{AllocMode, OpenFlags};
use crate::{Context, Whence};

cases![
    written_data_is_on_the_server_after_sync,
    reads_end_at_the_end_of_the_file,
    write_in_the_middle_keeps_the_rest,
    write_beyond_the_end_leaves_zeros,
    megabytes_pass_unchanged,
    odd_sizes_and_offsets_pass_unchanged,
    huge_sparse_files_work,
    truncate_cuts_and_extends_with_zeros,
    truncate_through_a_descriptor_works,
    truncate_of_directories_is_eisdir,
    append_writes_go_to_the_end,
    append_ignores_the_offset_given,
    appending_descriptors_do_not_overwrite_each_other,
    sequential_io_moves_the_offset,
    seek_counts_from_start_here_and_end,
    seek_to_nowhere_is_einval,
    seek_data_and_hole_end_at_the_size,
    empty_reads_and_writes_do_nothing,
    file_size_limit_is_kept,
    offsets_beyond_the_largest_file_are_refused,
    synchronous_writes_reach_the_server,
    fsync_and_fdatasync_succeed,
    sync_of_the_mount_succeeds,
    allocate_extends_the_file: allocate,
    allocate_keeps_what_is_there: allocate,
    allocate_refuses_nonsense,
    one_byte_writes_add_up,
    pages_written_back_have_their_place_in_a_file_that_appends,
];

/// Bytes without a short period, so that a shifted or repeated block shows.
fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(len)
    .collect()
}

/// Compares long contents without printing them.
#[track_caller]
fn same(found: &[u8], expected: &[u8], what: &str) -> CaseResult {
    if found == expected {
        return Ok(());
    }
    let at = found.iter().zip(expected).position(|(a, b)| a != b);
    let (lengths, at) = ((found.len(), expected.len()), at.unwrap_or(found.len()));
    Err(Failure::new(format!(
        "{what}: differs at byte {at}; lengths {lengths:?}"
    )))
}

fn written_data_is_on_the_server_after_sync(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let file = fs.open("f", OpenFlags::CREAT | OpenFlags::RDWR)?;
    fs.write_all(&file, b"some data", 0)?;
    file.sync(&fs.cx(), false)?;
    check_eq!(fx.outside.read(b"f")?, b"some data", "content after fsync");
    fs.write_all(&file, b"SOME", 0)?;
    if fx.mode.flush_before_write_returns() {
        check_eq!(
            fx.outside.read(b"f")?,
            b"SOME data",
            "content after the write"
        );
    }
    file.close(&fs.cx())?;
    fs.fs.sync(&fs.cx())?;
    check_eq!(fx.outside.read(b"f")?, b"SOME data", "content after sync");
    Ok(())
}

fn reads_end_at_the_end_of_the_file(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "12345")?;
    let file = fs.open("f", OpenFlags::RDONLY)?;
    check_eq!(fs.read_at(&file, 3, 0)?, b"123", "3 at 0");
    check_eq!(fs.read_at(&file, 10, 3)?, b"45", "10 at 3");
    check_eq!(fs.read_at(&file, 1, 5)?, b"", "1 at the end");
    check_eq!(fs.read_at(&file, 10, 1 << 40)?, b"", "10 far beyond it");
    Ok(())
}

fn write_in_the_middle_keeps_the_rest(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "0123456789")?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    fs.write_all(&file, b"ab", 4)?;
    check_eq!(fs.read_all(&file)?, b"0123ab6789", "content");
    check_eq!(file.stat(&fs.cx())?.attr.size, 10, "size");
    Ok(())
}

fn write_beyond_the_end_leaves_zeros(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "ab")?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    fs.write_all(&file, b"z", 5)?;
    check_eq!(fs.read_all(&file)?, b"ab\0\0\0z", "content");
    check_eq!(fs.attr("f")?.size, 6, "size");
    Ok(())
}

fn megabytes_pass_unchanged(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let content = pattern((5 << 20) + 12_345);
    fs.create("f", &content)?;
    fs.fs.sync(&fs.cx())?;
    same(&fx.served(b"f")?, &content, "content on the server")?;
    let other = fx.second()?;
    same(&other.read("f")?, &content, "content for another client")?;
    let file = other.open("f", OpenFlags::RDONLY)?;
    let once = other.read_at(&file, 3 << 20, 77)?;
    same(&once, &content[77..77 + once.len()], "one long read")?;
    check!(
        once.len() > 4096,
        "a long read gives only {} bytes",
        once.len()
    );
    Ok(())
}

fn odd_sizes_and_offsets_pass_unchanged(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let mut expected = vec![0; 200_000];
    let file = fs.open("f", OpenFlags::CREAT | OpenFlags::RDWR)?;
    let sizes = [1, 511, 512, 513, 4095, 4096, 4097, 8191, 65_535, 65_537];
    for (round, size) in sizes.into_iter().enumerate() {
        let offset = (round * 7919) % 100_000;
        let content = pattern(size + round);
        expected[offset..offset + content.len()].copy_from_slice(&content);
        fs.write_all(&file, &content, offset as u64)?;
    }
    let size = file.stat(&fs.cx())?.attr.size as usize;
    same(&fs.read_all(&file)?, &expected[..size], "the whole")?;
    for (len, offset) in [(1, 4095), (4097, 4095), (513, 511), (70_000, 3)] {
        let found = fs.read_at(&file, len, offset as u64)?;
        let end = (offset + len).min(size);
        same(
            &found,
            &expected[offset..end],
            &format!("{len} bytes at {offset}"),
        )?;
    }
    Ok(())
}

fn huge_sparse_files_work(fx: &Fixture) -> CaseResult {
    const END: u64 = 4 << 30;
    let fs = fx.root();
    let file = fs.open("f", OpenFlags::CREAT | OpenFlags::RDWR)?;
    fs.write_all(&file, b"end", END)?;
    check_eq!(fs.attr("f")?.size, END + 3, "size");
    check_eq!(
        fs.read_at(&file, 8, END - 4)?,
        b"\0\0\0\0end",
        "bytes at the end"
    );
    check_eq!(
        fs.read_at(&file, 4, 1 << 31)?,
        b"\0\0\0\0",
        "bytes in the hole"
    );
    fs.truncate("f", END + (1 << 40))?;
    check_eq!(fs.attr("f")?.size, END + (1 << 40), "size after extending");
    check_eq!(
        fx.outside.stat(b"f")?.attr.size,
        END + (1 << 40),
        "size on the server"
    );
    fs.truncate("f", 0)?;
    Ok(())
}

fn truncate_cuts_and_extends_with_zeros(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", pattern(10_000))?;
    let reader = fs.open("f", OpenFlags::RDONLY)?;
    fs.read_all(&reader)?;
    fs.truncate("f", 5_000)?;
    check_eq!(fs.attr("f")?.size, 5_000, "size after cutting");
    fs.truncate("f", 10_000)?;
    let mut expected = pattern(5_000);
    expected.resize(10_000, 0);
    same(&fs.read_all(&reader)?, &expected, "content after extending")?;
    same(&fx.served(b"f")?, &expected, "content on the server")
}

fn truncate_through_a_descriptor_works(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let file = fs.open("f", OpenFlags::CREAT | OpenFlags::RDWR)?;
    fs.write_all(&file, b"content", 0)?;
    file.set_attr(&fs.cx(), &size_of(3))?;
    check_eq!(fs.read_all(&file)?, b"con", "content");
    check_eq!(fs.attr("f")?.size, 3, "size");
    Ok(())
}

fn truncate_of_directories_is_eisdir(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    check_errno!(fs.truncate("d", 0), EISDIR);
    check_errno!(fs.truncate("missing", 0), ENOENT);
    Ok(())
}

fn append_writes_go_to_the_end(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "start")?;
    let cx = fs.cx();
    let file = fs.open("f", OpenFlags::RDWR | OpenFlags::APPEND)?;
    file.write(&cx, b"-1")?;
    file.seek(&cx, Whence::Set(0))?;
    file.write(&cx, b"-2")?;
    check_eq!(
        file.seek(&cx, Whence::Cur(0))?,
        9,
        "offset after the second write"
    );
    fs.truncate("f", 1)?;
    file.write(&cx, b"-3")?;
    check_eq!(fs.read("f")?, b"s-3", "content");
    Ok(())
}

fn append_ignores_the_offset_given(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "start")?;
    let file = fs.open("f", OpenFlags::WRONLY | OpenFlags::APPEND)?;
    file.write_at(&fs.cx(), b"-end", 0)?;
    check_eq!(fs.read("f")?, b"start-end", "content");
    Ok(())
}

fn appending_descriptors_do_not_overwrite_each_other(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    let flags = OpenFlags::WRONLY | OpenFlags::APPEND;
    let (one, two) = (fs.open("f", flags)?, fs.open("f", flags)?);
    for _ in 0..10 {
        one.write(&fs.cx(), b"aa")?;
        two.write(&fs.cx(), b"b")?;
    }
    check_eq!(fs.read("f")?, b"aab".repeat(10), "content");
    Ok(())
}

fn sequential_io_moves_the_offset(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let cx = fs.cx();
    let file = fs.open("f", OpenFlags::CREAT | OpenFlags::RDWR)?;
    for part in ["one ", "two ", "three"] {
        file.write(&cx, part.as_bytes())?;
    }
    check_eq!(file.seek(&cx, Whence::Set(4))?, 4, "offset after the seek");
    let mut buffer = [0; 4];
    check_eq!(file.read(&cx, &mut buffer)?, 4, "bytes of the first read");
    check_eq!(&buffer, b"two ", "the first read");
    fs.read_at(&file, 2, 0)?;
    let mut rest = [0; 16];
    let n = file.read(&cx, &mut rest)?;
    check_eq!(&rest[..n], b"three", "the second read");
    check_eq!(file.read(&cx, &mut rest)?, 0, "bytes at the end");
    Ok(())
}

fn seek_counts_from_start_here_and_end(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let cx = fs.cx();
    fs.create("f", "0123456789")?;
    let file = fs.open("f", OpenFlags::RDONLY)?;
    check_eq!(file.seek(&cx, Whence::Set(3))?, 3, "from the start");
    check_eq!(file.seek(&cx, Whence::Cur(4))?, 7, "from here");
    check_eq!(file.seek(&cx, Whence::Cur(-2))?, 5, "back from here");
    check_eq!(file.seek(&cx, Whence::End(-1))?, 9, "back from the end");
    check_eq!(file.seek(&cx, Whence::End(100))?, 110, "beyond the end");
    check_eq!(file.read(&cx, &mut [0; 4])?, 0, "bytes there");
    Ok(())
}

fn seek_to_nowhere_is_einval(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let cx = fs.cx();
    fs.create("f", "0123456789")?;
    let file = fs.open("f", OpenFlags::RDONLY)?;
    check_errno!(file.seek(&cx, Whence::Set(-1)), EINVAL);
    check_errno!(file.seek(&cx, Whence::Cur(-1)), EINVAL);
    check_errno!(file.seek(&cx, Whence::End(-11)), EINVAL);
    check_eq!(file.seek(&cx, Whence::Cur(0))?, 0, "offset afterwards");
    Ok(())
}

fn seek_data_and_hole_end_at_the_size(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let cx = fs.cx();
    fs.create("f", "0123456789")?;
    let file = fs.open("f", OpenFlags::RDONLY)?;
    check_eq!(file.seek(&cx, Whence::Data(4))?, 4, "data at 4");
    check_eq!(file.seek(&cx, Whence::Hole(4))?, 10, "hole after 4");
    check_errno!(file.seek(&cx, Whence::Data(10)), ENXIO);
    check_errno!(file.seek(&cx, Whence::Hole(10)), ENXIO);
    check_errno!(file.seek(&cx, Whence::Data(11)), ENXIO);
    Ok(())
}

fn empty_reads_and_writes_do_nothing(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let cx = fs.cx();
    fs.create("f", "abc")?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    check_eq!(file.write_at(&cx, b"", 100)?, 0, "bytes written");
    check_eq!(file.read_at(&cx, &mut [], 0)?, 0, "bytes read");
    check_eq!(file.stat(&cx)?.attr.size, 3, "size");
    Ok(())
}

fn file_size_limit_is_kept(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    let cx = Context {
        file_size_limit: 10,
        ..fs.cx()
    };
    check_eq!(
        file.write_at(&cx, b"12345678", 6)?,
        4,
        "bytes of a write across the limit"
    );
    check_errno!(file.write_at(&cx, b"x", 10), EFBIG);
    check_errno!(file.set_attr(&cx, &size_of(11)), EFBIG);
    check_eq!(file.stat(&cx)?.attr.size, 10, "size");
    Ok(())
}

fn offsets_beyond_the_largest_file_are_refused(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let cx = fs.cx();
    fs.create("f", "")?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    let far = i64::MAX as u64;
    check!(
        file.write_at(&cx, b"xy", far).is_err(),
        "a write beyond 2^63 succeeds"
    );
    check_errno!(file.write_at(&cx, b"x", u64::MAX), EINVAL);
    check_errno!(file.read_at(&cx, &mut [0], u64::MAX), EINVAL);
    check_eq!(file.stat(&cx)?.attr.size, 0, "size");
    Ok(())
}

fn synchronous_writes_reach_the_server(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    for (name, flag) in [("s", OpenFlags::SYNC), ("d", OpenFlags::DSYNC)] {
        let flags = OpenFlags::CREAT | OpenFlags::WRONLY | flag;
        let file = fs.open(name, flags)?;
        file.write(&fs.cx(), b"durable")?;
        check_eq!(
            fx.outside.read(name.as_bytes())?,
            b"durable",
            "content of {name}"
        );
    }
    Ok(())
}

fn fsync_and_fdatasync_succeed(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    for flags in [OpenFlags::RDONLY, OpenFlags::RDWR] {
        let file = fs.open("f", flags)?;
        file.sync(&fs.cx(), false)?;
        file.sync(&fs.cx(), true)?;
    }
    fs.open("/", OpenFlags::DIRECTORY)?.sync(&fs.cx(), false)?;
    Ok(())
}

fn sync_of_the_mount_succeeds(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let mut open = Vec::new();
    for index in 0..20 {
        let name = format!("f{index}");
        let file = fs.open(&name, OpenFlags::CREAT | OpenFlags::WRONLY)?;
        fs.write_all(&file, name.as_bytes(), 0)?;
        open.push((name, file));
    }
    fs.fs.sync(&fs.cx())?;
    for (name, _) in &open {
        let found = fx.served(name.as_bytes())?;
        check_eq!(found, name.as_bytes(), "content of {name}");
    }
    Ok(())
}

fn allocate_extends_the_file(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "abc")?;
    let cx = fs.cx();
    let file = fs.open("f", OpenFlags::RDWR)?;
    match file.allocate(&cx, AllocMode::empty(), 1, 99) {
        // The host's file system may not be able to.
        Err(error) if error.errno() == crate::Errno::EOPNOTSUPP => return Ok(()),
        other => other?,
    }
    check_eq!(file.stat(&cx)?.attr.size, 100, "size");
    check_eq!(fs.read_at(&file, 5, 0)?, b"abc\0\0", "content");
    Ok(())
}

fn allocate_keeps_what_is_there(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "0123456789")?;
    let cx = fs.cx();
    let file = fs.open("f", OpenFlags::RDWR)?;
    file.allocate(&cx, AllocMode::empty(), 2, 3)?;
    check_eq!(fs.read_all(&file)?, b"0123456789", "content");
    check_eq!(fs.attr("f")?.size, 10, "size");
    Ok(())
}

fn allocate_refuses_nonsense(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    let cx = fs.cx();
    let file = fs.open("f", OpenFlags::RDWR)?;
    check_errno!(file.allocate(&cx, AllocMode::empty(), 0, 0), EINVAL);
    check_errno!(
        file.allocate(&cx, AllocMode::empty(), i64::MAX as u64, 1),
        EFBIG
    );
    let dir = fs.open("/", OpenFlags::DIRECTORY)?;
    check_errno!(dir.allocate(&cx, AllocMode::empty(), 0, 1), EBADF);
    check_eq!(fs.attr("f")?.size, 1, "size");
    Ok(())
}

fn one_byte_writes_add_up(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let content = pattern(600);
    let file = fs.open("f", OpenFlags::CREAT | OpenFlags::RDWR)?;
    for byte in &content {
        file.write(&fs.cx(), std::slice::from_ref(byte))?;
    }
    same(&fs.read_all(&file)?, &content, "content")
}

fn pages_written_back_have_their_place_in_a_file_that_appends(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "0123456789")?;
    let file = fs.open("f", OpenFlags::RDWR | OpenFlags::APPEND)?;
    check_eq!(
        file.write_back_at(&fs.cx(), b"ab", 3)?,
        2,
        "bytes written back"
    );
    check_eq!(file.write_at(&fs.cx(), b"c", 0)?, 1, "bytes appended");
    check_eq!(fx.served("f")?, b"012ab56789c", "content");
    let reader = fs.open("f", OpenFlags::RDONLY)?;
    check_errno!(reader.write_back_at(&fs.cx(), b"x", 0), EBADF);
    Ok(())
}
