//! Contents of a regular file: sparse, in pages.

use std::collections::BTreeMap;

const PAGE: u64 = 4096;

/// Bytes of a file. Pages that were never written are holes.
#[derive(Clone, Default)]
pub(super) struct Data {
    size: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
}

impl Data {
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
        let mut data = Data::default();
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
        let mut data = Data::default();
        data.write(&[7; 10_000], 0);
        data.set_size(5_000);
        data.set_size(10_000);
        let mut buffer = [1; 10_000];
        assert_eq!(data.read(&mut buffer, 0), 10_000);
        assert!(buffer[..5_000].iter().all(|byte| *byte == 7));
        assert!(buffer[5_000..].iter().all(|byte| *byte == 0));
    }
}
