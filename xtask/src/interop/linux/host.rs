//! What the host sees afterwards: each look is named as the check of the guest that left something,
//! and gets that check's directory.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

type Look = fn(&Path) -> Result<()>;

pub(super) const LOOKS: [(&str, Look); 15] = [
    ("small_file", |dir| content(&dir.join("file"), b"hello\n")),
    ("big_file", |dir| pattern(&dir.join("kept"), 6 << 20, 1)),
    ("holes", holes),
    ("appending", |dir| content(&dir.join("file"), b"one+")),
    ("four_writers", four_writers),
    ("odd_names", odd_names),
    ("big_directory", big_directory),
    ("symbolic_links", symbolic_links),
    ("hard_links", hard_links),
    ("below_a_renamed_directory", renamed_directory),
    ("modes", modes),
    ("owners", owners),
    ("times", times),
    ("extended_attributes", attributes),
    ("mapped_for_writing", mapped),
];

/// As the guest computes it.
fn byte(at: usize, salt: u64) -> u8 {
    let at = at as u64;
    let mixed = (at / 7 + 1)
        .wrapping_mul(2_654_435_761)
        .wrapping_add(at)
        .wrapping_add(salt.wrapping_mul(97));
    (mixed >> 8 ^ mixed) as u8
}

fn pattern(path: &Path, size: usize, salt: u64) -> Result<()> {
    let data = fs::read(path)?;
    ensure!(data.len() == size, "{} bytes, not {size}", data.len());
    let wrong = data
        .iter()
        .enumerate()
        .position(|(at, &is)| is != byte(at, salt));
    ensure!(wrong.is_none(), "another byte at {wrong:?}");
    Ok(())
}

fn content(path: &Path, expected: &[u8]) -> Result<()> {
    let data = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    ensure!(data == expected, "{} other bytes", data.len());
    Ok(())
}

fn holes(dir: &Path) -> Result<()> {
    let found = fs::metadata(dir.join("kept"))?;
    ensure!(found.len() == (5 << 30) + 3, "size {}", found.len());
    ensure!(found.blocks() < 1 << 20, "{} blocks", found.blocks());
    Ok(())
}

fn four_writers(dir: &Path) -> Result<()> {
    (0..4).try_for_each(|worker| pattern(&dir.join(format!("kept-{worker}")), 1 << 20, 10 + worker))
}

fn names(dir: &Path) -> Result<BTreeSet<Vec<u8>>> {
    let entries = fs::read_dir(dir)?;
    entries
        .map(|entry| Ok(entry?.file_name().as_bytes().to_vec()))
        .collect()
}

fn odd_names(dir: &Path) -> Result<()> {
    let all: [&[u8]; 9] = [
        b"with space",
        b"new\nline",
        b"\xff\xfe\x80",
        b"...",
        b"-rf",
        b"\xc3\xa4\xc3\xb6",
        b"back\\slash",
        b"quote\"'",
        b".hidden",
    ];
    let dir = dir.join("kept");
    let found = names(&dir)?;
    let expected: BTreeSet<Vec<u8>> = all.iter().map(|name| name.to_vec()).collect();
    ensure!(found == expected, "{found:?}");
    all.iter()
        .try_for_each(|name| content(&dir.join(OsStr::from_bytes(name)), name))
}

fn big_directory(dir: &Path) -> Result<()> {
    let found = names(&dir.join("kept"))?;
    let odd = (0..2000).filter(|index| index % 2 == 1);
    let expected = odd.map(|index| format!("entry-{index:04}").into_bytes());
    ensure!(found == expected.collect(), "{} entries", found.len());
    Ok(())
}

fn symbolic_links(dir: &Path) -> Result<()> {
    let target = |name: &str| fs::read_link(dir.join(name));
    ensure!(target("kept")? == Path::new("target"));
    ensure!(target("dangling")? == Path::new("nowhere"));
    ensure!(target("long")?.as_os_str().len() == 4000);
    Ok(())
}

fn hard_links(dir: &Path) -> Result<()> {
    let (one, kept) = (
        fs::metadata(dir.join("one"))?,
        fs::metadata(dir.join("kept"))?,
    );
    ensure!(
        one.ino() == kept.ino() && one.nlink() == 2,
        "{} names",
        one.nlink()
    );
    content(&dir.join("kept"), b"Shared")
}

fn renamed_directory(dir: &Path) -> Result<()> {
    ensure!(!dir.join("old").exists(), "the old name is there");
    content(&dir.join("new/sub/file"), b"one two")
}

fn modes(dir: &Path) -> Result<()> {
    let mode = fs::metadata(dir.join("kept"))?.mode() & 0o7777;
    ensure!(mode == 0o4751, "{mode:o}");
    let mode = fs::metadata(dir.join("dir"))?.mode() & 0o7777;
    ensure!(mode == 0o1777, "{mode:o}");
    Ok(())
}

fn owners(dir: &Path) -> Result<()> {
    let owner = |name: &str| -> Result<(u32, u32)> {
        let found = fs::symlink_metadata(dir.join(name))?;
        Ok((found.uid(), found.gid()))
    };
    ensure!(owner("kept")? == (1234, 5678), "{:?}", owner("kept")?);
    ensure!(owner("link")? == (77, 88), "{:?}", owner("link")?);
    Ok(())
}

fn times(dir: &Path) -> Result<()> {
    let found = fs::metadata(dir.join("kept"))?;
    ensure!(found.mtime() == 981_173_106, "{}", found.mtime());
    let link = fs::symlink_metadata(dir.join("link"))?;
    ensure!(link.mtime() == 981_173_106, "link: {}", link.mtime());
    Ok(())
}

fn attributes(dir: &Path) -> Result<()> {
    let value = |name: &str| -> Result<Vec<u8>> {
        let mut buffer = vec![0; 100];
        let size = rustix::fs::getxattr(dir.join("kept"), name, &mut buffer[..])?;
        buffer.truncate(size);
        Ok(buffer)
    };
    ensure!(value("user.one")? == b"nul\0nul", "{:?}", value("user.one"));
    ensure!(value("user.three")? == b"3");
    ensure!(value("user.two").is_err(), "user.two is there");
    Ok(())
}

/// Every thousandth byte is of another pattern.
fn mapped(dir: &Path) -> Result<()> {
    let data = fs::read(dir.join("kept"))?;
    ensure!(data.len() == 300_000, "{} bytes", data.len());
    for (at, &is) in data.iter().enumerate() {
        let salt = if at % 1000 == 0 { 7 } else { 6 };
        ensure!(is == byte(at, salt), "another byte at {at}");
    }
    Ok(())
}
