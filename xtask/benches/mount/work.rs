//! What is measured: the tree, and each operation on it.

use std::fs::{self, File};
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{Advice, Mode, OFlags, RawDir, fadvise, open, stat, unlink};

use crate::contenders::Contender;
use crate::{BINDFS, HOST};

/// The large file, its pages and its larger blocks.
const DATA: &str = "dir/data";
const DATA_SIZE: u64 = 64 << 20;
const PAGE: usize = 4 << 10;
const LARGE: usize = 1 << 20;

/// A small file, two levels down.
const SMALL: &str = "dir/small";
/// The directory that is listed, and of whose files attributes are read.
const MANY: &str = "many";
const ENTRIES: u32 = 10_000;

/// Calls of one turn.
const CALLS: u32 = 1000;
const BLOCKS: u32 = (DATA_SIZE / LARGE as u64) as u32;

/// An operation that is done `count` times in a turn.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) count: u32,
    /// Whom the goal compares with.
    pub(crate) beside: &'static str,
    /// What goes before, and is not measured.
    before: fn(&mut Contender) -> Result<()>,
    work: fn(&Path, u32) -> Result<()>,
}

macro_rules! operations {
    ($($name:literal, $count:expr, $beside:expr, $before:expr, $work:expr;)*) => {
        pub(crate) const OPERATIONS: &[Operation] = &[$(Operation {
            name: $name,
            count: $count,
            beside: $beside,
            before: $before,
            work: $work,
        },)*];
    };
}

operations! {
    "stat", CALLS, HOST, nothing, stat_one;
    "stat-cold", ENTRIES, BINDFS, Contender::remount, stat_many;
    "open+close", CALLS, BINDFS, nothing, open_close;
    "create+unlink", CALLS, BINDFS, nothing, create_unlink;
    "read-4k-cold", CALLS, BINDFS, drop_pages, |dir, n| read_random(dir, n, OFlags::empty());
    "read-4k-warm", CALLS, BINDFS, load_pages, |dir, n| read_random(dir, n, OFlags::empty());
    "read-4k-direct", CALLS, BINDFS, drop_pages, |dir, n| read_random(dir, n, OFlags::DIRECT);
    "write-4k", CALLS, BINDFS, drop_pages, |dir, n| write_random(dir, n, n + 1);
    "write-4k-fsync-64", 256, BINDFS, drop_pages, |dir, n| write_random(dir, n, 64);
    "write-4k-fsync-1", 32, BINDFS, drop_pages, |dir, n| write_random(dir, n, 1);
    "read-1m-cold", BLOCKS, BINDFS, drop_pages, read_blocks;
    "read-1m-warm", BLOCKS, BINDFS, load_pages, read_blocks;
    "write-1m", BLOCKS, BINDFS, drop_pages, write_blocks;
    "write-1m-new", BLOCKS, BINDFS, nothing, write_new;
    "readdir", ENTRIES, BINDFS, nothing, list;
    "readdir-cold", ENTRIES, BINDFS, Contender::remount, list;
}

/// One turn.
pub(crate) fn run(operation: &Operation, contender: &mut Contender) -> Result<Duration> {
    (operation.before)(contender)?;
    let begun = Instant::now();
    (operation.work)(contender.dir(), operation.count)?;
    let taken = begun.elapsed();
    // What is still to be written is nobody else's turn.
    let data = File::options()
        .write(true)
        .open(contender.dir().join(DATA))?;
    data.sync_all()?;
    Ok(taken)
}

/// Makes what is worked on.
pub(crate) fn fill(tree: &Path) -> Result<()> {
    fs::create_dir(tree.join("dir"))?;
    fs::write(tree.join(SMALL), "small")?;
    let data = File::create(tree.join(DATA))?;
    let block: Vec<u8> = (0..LARGE).map(|at| (at * 7 % 251) as u8).collect();
    for number in 0..u64::from(BLOCKS) {
        data.write_all_at(&block, number * LARGE as u64)?;
    }
    fs::create_dir(tree.join(MANY))?;
    for number in 0..ENTRIES {
        File::create(tree.join(MANY).join(number.to_string()))?;
    }
    Ok(())
}

fn nothing(_: &mut Contender) -> Result<()> {
    Ok(())
}

/// The mount's pages of the file go, those of the file below stay.
fn drop_pages(contender: &mut Contender) -> Result<()> {
    let file = File::open(contender.dir().join(DATA))?;
    file.sync_all()?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    Ok(())
}

fn load_pages(contender: &mut Contender) -> Result<()> {
    read_blocks(contender.dir(), BLOCKS)
}

fn stat_one(dir: &Path, count: u32) -> Result<()> {
    let path = dir.join(SMALL);
    for _ in 0..count {
        black_box(stat(&path)?);
    }
    Ok(())
}

fn stat_many(dir: &Path, count: u32) -> Result<()> {
    let many = dir.join(MANY);
    for number in 0..count {
        black_box(stat(many.join(number.to_string()))?);
    }
    Ok(())
}

fn open_close(dir: &Path, count: u32) -> Result<()> {
    let path = dir.join(SMALL);
    for _ in 0..count {
        open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    }
    Ok(())
}

fn create_unlink(dir: &Path, count: u32) -> Result<()> {
    let path = dir.join("dir/new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    for _ in 0..count {
        open(&path, flags, Mode::from_raw_mode(0o644))?;
        unlink(&path)?;
    }
    Ok(())
}

/// Offsets of pages in no order, each once.
fn scattered(count: u32) -> impl Iterator<Item = u64> {
    let pages = DATA_SIZE / PAGE as u64;
    // Odd, so that it meets every page of a power of two.
    (0..u64::from(count))
        .map(move |n| (n * 6_364_136_223_846_793_005 + 1_442_695) % pages * PAGE as u64)
}

fn read_random(dir: &Path, count: u32, flags: OFlags) -> Result<()> {
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(dir.join(DATA))?;
    // Direct reads want a buffer that is aligned.
    let mut space = vec![0; 2 * PAGE];
    let start = space.as_ptr().align_offset(PAGE);
    let buffer = space.get_mut(start..start + PAGE).context("aligned")?;
    for offset in scattered(count) {
        file.read_exact_at(buffer, offset)?;
    }
    Ok(())
}

/// Writes pages, and syncs after each `group` of them. The close, which may write what is left,
/// is part of it.
fn write_random(dir: &Path, count: u32, group: u32) -> Result<()> {
    let file = File::options().write(true).open(dir.join(DATA))?;
    let page = [b'p'; PAGE];
    for (number, offset) in (1..).zip(scattered(count)) {
        file.write_all_at(&page, offset)?;
        if number % group == 0 {
            file.sync_data()?;
        }
    }
    Ok(())
}

fn read_blocks(dir: &Path, count: u32) -> Result<()> {
    let file = File::open(dir.join(DATA))?;
    let mut block = vec![0; LARGE];
    for number in 0..u64::from(count) {
        file.read_exact_at(&mut block, number * LARGE as u64)?;
    }
    Ok(())
}

fn write_blocks(dir: &Path, count: u32) -> Result<()> {
    write_to(File::options().write(true).open(dir.join(DATA))?, count)
}

fn write_new(dir: &Path, count: u32) -> Result<()> {
    let path = dir.join("dir/written");
    write_to(File::create(&path)?, count)?;
    Ok(fs::remove_file(path)?)
}

fn write_to(file: File, count: u32) -> Result<()> {
    let block = vec![b'b'; LARGE];
    for number in 0..u64::from(count) {
        file.write_all_at(&block, number * LARGE as u64)?;
    }
    Ok(())
}

fn list(dir: &Path, count: u32) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let many = open(dir.join(MANY), flags, Mode::empty())?;
    let mut space = vec![MaybeUninit::uninit(); 32 << 10];
    let mut entries = RawDir::new(&many, &mut space);
    let mut found = 0;
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_bytes().to_vec();
        found += u32::from(!matches!(name.as_slice(), b"." | b".."));
    }
    match found == count {
        true => Ok(()),
        false => bail!("{found} entries instead of {count}"),
    }
}
