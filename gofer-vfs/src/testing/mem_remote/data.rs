//! Contents of a regular file: sparse, in pages, or in a file of the host that a descriptor can be
//! donated of.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SeekFrom, fallocate, fstat, ftruncate, memfd_create,
};

use crate::flags::Access;

const PAGE: u64 = 4096;

/// Bytes of a file.
pub(super) enum Data {
    Pages(Pages),
    Host(OwnedFd),
}

impl Data {
    /// Moves what lies from `from` on to `to`, and the end with it; `None` if that is too much.
    /// What comes free is zeros.
    pub fn shift(&mut self, from: u64, to: u64) -> Option<()> {
        const MOST: u64 = 64 << 20;
        let left = self.size().saturating_sub(from);
        let mut tail = vec![0; usize::try_from(left).ok().filter(|_| left <= MOST)?];
        self.read(&mut tail, from);
        self.set_size(to.max(from));
        self.zero(from, to.saturating_sub(from));
        self.write(&tail, to);
        self.set_size(to + left);
        Some(())
    }

    pub fn new(on_host: bool) -> Data {
        match on_host {
            false => Data::Pages(Pages::default()),
            true => {
                let file = memfd_create(c"gofer-test", MemfdFlags::CLOEXEC);
                Data::Host(file.expect("a file in memory"))
            }
        }
    }

    /// A descriptor of the file on the host, if it is there, with these rights.
    pub fn donate(&self, access: Access) -> Option<OwnedFd> {
        let Data::Host(file) = self else {
            return None;
        };
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::WRONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).ok()
    }

    pub fn size(&self) -> u64 {
        match self {
            Data::Pages(pages) => pages.size(),
            Data::Host(file) => fstat(file).map_or(0, |stat| stat.st_size as u64),
        }
    }

    /// Allocated 512-byte units.
    pub fn blocks(&self) -> u64 {
        match self {
            Data::Pages(pages) => pages.blocks(),
            Data::Host(file) => fstat(file).map_or(0, |stat| stat.st_blocks as u64),
        }
    }

    /// Reads what there is at `offset`; returns how much that was.
    pub fn read(&self, into: &mut [u8], offset: u64) -> usize {
        match self {
            Data::Pages(pages) => pages.read(into, offset),
            Data::Host(file) => {
                let mut done = 0;
                while let Ok(n @ 1..) =
                    rustix::io::pread(file, &mut into[done..], offset + done as u64)
                {
                    done += n;
                }
                done
            }
        }
    }

    /// Writes all of `from` at `offset`.
    pub fn write(&mut self, mut from: &[u8], mut offset: u64) {
        match self {
            Data::Pages(pages) => pages.write(from, offset),
            Data::Host(file) => {
                while let Ok(n @ 1..) = rustix::io::pwrite(file.as_fd(), from, offset) {
                    from = &from[n..];
                    offset += n as u64;
                }
            }
        }
    }

    /// Cuts or extends.
    pub fn set_size(&mut self, size: u64) {
        match self {
            Data::Pages(pages) => pages.set_size(size),
            Data::Host(file) => ftruncate(file, size).expect("a size that a file can have"),
        }
    }

    /// Makes a range read as zeros.
    pub fn zero(&mut self, offset: u64, len: u64) {
        match self {
            Data::Pages(pages) => pages.zero(offset, len),
            Data::Host(file) => {
                let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(file, mode, offset, len).expect("holes in memory");
            }
        }
    }

    /// The first byte of data (or of a hole) at or after `offset`; `None` when there is none
    /// before the end. The end counts as a hole.
    pub fn seek(&self, offset: u64, hole: bool) -> Option<u64> {
        match self {
            Data::Pages(pages) => pages.seek(offset, hole),
            Data::Host(file) => {
                let to = if hole {
                    SeekFrom::Hole(offset)
                } else {
                    SeekFrom::Data(offset)
                };
                rustix::fs::seek(file, to).ok()
            }
        }
    }
}

/// Bytes in pages. Those that were never written are holes.
#[derive(Clone, Default)]
pub(super) struct Pages {
    size: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
}

impl Pages {
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Allocated 512-byte units.
    pub fn blocks(&self) -> u64 {
        self.pages.len() as u64 * (PAGE / 512)
    }

    /// Reads what there is at `offset`; returns how much that was.
    pub fn read(&self, into: &mut [u8], offset: u64) -> usize {
        let left = self.size.saturating_sub(offset);
        let n = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        for (page, within, part) in pieces(offset, n) {
            match self.pages.get(&page) {
                Some(bytes) => {
                    let from = &bytes[within..within + part.len()];
                    into[part].copy_from_slice(from);
                }
                None => into[part].fill(0),
            }
        }
        n
    }

    /// Writes all of `from` at `offset`.
    pub fn write(&mut self, from: &[u8], offset: u64) {
        for (page, within, part) in pieces(offset, from.len()) {
            let bytes = self
                .pages
                .entry(page)
                .or_insert_with(|| Box::new([0; PAGE as usize]));
            let len = part.len();
            bytes[within..within + len].copy_from_slice(&from[part]);
        }
        self.size = self.size.max(offset + from.len() as u64);
    }

    /// Cuts or extends.
    pub fn set_size(&mut self, size: u64) {
        if size < self.size {
            self.zero(size, self.size - size);
            self.pages.split_off(&size.div_ceil(PAGE));
        }
        self.size = size;
    }

    /// Makes a range read as zeros, freeing whole pages.
    pub fn zero(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let touched: Vec<u64> = self
            .pages
            .range(offset / PAGE..end.div_ceil(PAGE))
            .map(|entry| *entry.0)
            .collect();
        for page in touched {
            let (start, stop) = (page * PAGE, page * PAGE + PAGE);
            if offset <= start && stop <= end {
                self.pages.remove(&page);
            } else if let Some(bytes) = self.pages.get_mut(&page) {
                let from = offset.max(start) - start;
                let to = end.min(stop) - start;
                bytes[from as usize..to as usize].fill(0);
            }
        }
    }

    /// The first byte of data (or of a hole) at or after `offset`; `None` when there is none
    /// before the end. The end counts as a hole.
    pub fn seek(&self, offset: u64, hole: bool) -> Option<u64> {
        if offset >= self.size {
            return None;
        }
        let mut page = offset / PAGE;
        if hole {
            while self.pages.contains_key(&page) {
                page += 1;
            }
            Some((page * PAGE).max(offset).min(self.size))
        } else {
            let (page, _) = self.pages.range(page..).next()?;
            Some((page * PAGE).max(offset)).filter(|at| *at < self.size)
        }
    }
}

/// Cuts `len` bytes at `offset` at page boundaries: page, offset within it, range of the buffer.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % PAGE) as usize;
        let n = (len - done).min(PAGE as usize - within);
        let part = done..done + n;
        done += n;
        (n > 0).then_some((at / PAGE, within, part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_read_as_zeros_and_cost_nothing() {
        let mut data = Pages::default();
        data.write(b"end", 1 << 32);
        assert_eq!((data.size(), data.blocks()), ((1 << 32) + 3, 8));
        let mut buffer = [1; 6];
        assert_eq!(data.read(&mut buffer, (1 << 32) - 2), 5);
        assert_eq!(&buffer[..5], b"\0\0end");
        assert_eq!(data.seek(0, false), Some(1 << 32));
        assert_eq!(data.seek(0, true), Some(0));
        assert_eq!(data.seek(1 << 32, true), Some((1 << 32) + 3));
        assert_eq!(data.seek((1 << 32) + 3, true), None);
    }

    #[test]
    fn what_was_cut_off_reads_as_zeros_when_extended_again() {
        let mut data = Pages::default();
        data.write(&[7; 10_000], 0);
        data.set_size(5_000);
        data.set_size(10_000);
        let mut buffer = [1; 10_000];
        assert_eq!(data.read(&mut buffer, 0), 10_000);
        assert!(buffer[..5_000].iter().all(|byte| *byte == 7));
        assert!(buffer[5_000..].iter().all(|byte| *byte == 0));
    }
}
