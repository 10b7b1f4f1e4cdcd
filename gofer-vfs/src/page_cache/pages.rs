//! What is cached of one file, behind one short lock.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use gofer_transport::MemoryFile;

use super::fill::Latch;
use super::ranges::{PAGE, RangeSet, pages_around};

/// See the module. Valid bytes lie below the size of the file; dirty ones, and those that are
/// being written back, are valid.
#[derive(Default)]
pub(super) struct Pages {
    memory: Option<MemoryFile>,
    pub(super) valid: RangeSet,
    dirty: RangeSet,
    /// On their way to the server.
    writing: RangeSet,
    /// Whole pages that take memory.
    resident: RangeSet,
    fills: Vec<Fill>,
    pins: Vec<Pin>,
    serial: u64,
    /// Where evicting goes on.
    hand: u64,
}

/// Bytes that were asked for.
struct Fill {
    id: u64,
    range: Range<u64>,
    /// The part that the reply still counts for.
    keep: RangeSet,
    done: Arc<Latch>,
}

/// A mapped range, whole pages.
struct Pin {
    id: u64,
    range: Range<u64>,
    written: bool,
}

/// How much is cached: bytes of memory, dirty bytes, memory files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Sizes {
    pub resident: u64,
    pub dirty: u64,
    pub files: u64,
}

/// Why a fill may not begin.
pub(super) enum Gap {
    /// The bytes are there by now.
    Filled,
    /// Somebody else has asked for them.
    Asked(Arc<Latch>),
    /// Nobody has, up to the end of this range. It may begin before the place asked for, at the
    /// start of the page.
    Open(Range<u64>),
}

impl Pages {
    pub fn sizes(&self) -> Sizes {
        Sizes {
            resident: self.resident.total(),
            dirty: self.dirty.total() + self.writing.total(),
            files: u64::from(self.memory.is_some()),
        }
    }

    pub fn has_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// How many ranges it takes to tell what is cached.
    pub fn fragments(&self) -> usize {
        self.valid.count() + self.dirty.count()
    }

    pub fn unsent_end(&self) -> u64 {
        let mapped = self.pins.iter().filter(|pin| pin.written);
        let mapped = mapped.filter_map(|pin| self.valid.iter_in(&pin.range).last());
        let mapped = mapped.map(|range| range.end).max().unwrap_or(0);
        self.dirty.end().max(self.writing.end()).max(mapped)
    }

    pub fn unsent(&self) -> Vec<Range<u64>> {
        let mut all = self.dirty.clone();
        for range in self.writing.iter_in(&(0..u64::MAX)) {
            all.insert(range);
        }
        all.iter_in(&(0..u64::MAX)).collect()
    }

    /// Pages that storing `range` would take in addition.
    pub fn missing(&self, range: &Range<u64>) -> u64 {
        let pages = pages_around(range);
        let there: u64 = self
            .resident
            .iter_in(&pages)
            .map(|part| part.end - part.start)
            .sum();
        pages.end - pages.start - there
    }

    /// The memory file, made if need be; it reaches to `length` at least.
    pub fn memory_of(&mut self, length: u64) -> io::Result<&mut MemoryFile> {
        let memory = match &mut self.memory {
            Some(memory) => memory,
            none => none.insert(MemoryFile::create()?),
        };
        if memory.length() < length {
            memory.set_length(length)?;
        }
        Ok(memory)
    }

    /// Copies what is valid from `at` on; returns how many bytes that are.
    #[inline]
    pub fn copy_out(&self, into: &mut [u8], at: u64) -> usize {
        let Some(end) = self.valid.run_end(at) else {
            return 0;
        };
        let n = into
            .len()
            .min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let (Some(memory), Some(into)) = (&self.memory, into.get_mut(..n)) else {
            return 0;
        };
        match memory.read(at, into) {
            Ok(()) => n,
            Err(error) => {
                tracing::error!(%error, at, n, "cached bytes cannot be read");
                0
            }
        }
    }

    /// New content that this side knows. On error, nothing is known of the range but what the caller
    /// has.
    pub fn store(&mut self, at: u64, bytes: &[u8], dirty: bool) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let range = at..at + bytes.len() as u64;
        self.overtake(&range);
        self.put(at, bytes)?;
        if dirty {
            self.dirty.insert(range);
        } else {
            self.dirty.remove(range);
        }
        Ok(())
    }

    /// New content in place of what is cached, as far as something is from `at` on without a gap:
    /// that becomes dirty. Returns how many bytes that are.
    pub fn overwrite(&mut self, at: u64, bytes: &[u8]) -> usize {
        let Some(end) = self.valid.run_end(at) else {
            return 0;
        };
        let n = usize::try_from(end - at).unwrap_or(usize::MAX);
        let bytes = bytes.get(..n).unwrap_or(bytes);
        match self.store(at, bytes, true) {
            Ok(()) => bytes.len(),
            Err(error) => {
                tracing::error!(%error, "cached bytes cannot be replaced");
                0
            }
        }
    }

    /// How many of `length` bytes at `at` come before the next that is cached; not 0.
    pub fn gap_length(&self, at: u64, length: usize) -> usize {
        let range = at + 1..at.saturating_add(length as u64);
        let next = self.valid.first_in(&range);
        next.map_or(length, |next| (next.start - at) as usize)
    }

    /// New content that the server has and that is not to take memory: replaces what is cached.
    pub fn update(&mut self, at: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let range = at..at + bytes.len() as u64;
        self.overtake(&range);
        self.dirty.remove(range.clone());
        let mut cached = RangeSet::default();
        let mapped = self.pins.iter().map(|pin| &pin.range);
        let mapped = mapped.map(|pin| pin.start.max(range.start)..pin.end.min(range.end));
        // What is mapped shows the file, also where it has just grown.
        for part in self.valid.iter_in(&range).chain(mapped) {
            cached.insert(part);
        }
        let cached: Vec<Range<u64>> = cached.iter_in(&range).collect();
        for part in cached {
            let from = (part.start - at) as usize..(part.end - at) as usize;
            let stored = bytes.get(from).map(|from| self.put(part.start, from));
            if !matches!(stored, Some(Ok(()))) {
                self.valid.remove(part);
            }
        }
        self.extend_pins(range.end);
        self.lengthen(range.end);
    }

    /// Has mappings reach to the new end of the file.
    fn lengthen(&mut self, size: u64) {
        if !self.pins.is_empty()
            && let Some(memory) = &mut self.memory
            && memory.length() < size
            && let Err(error) = memory.set_length(size)
        {
            tracing::error!(%error, size, "a mapping cannot follow its file");
        }
    }

    fn put(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let range = at..at + bytes.len() as u64;
        self.extend_pins(range.start);
        let stored = self.memory_of(0).and_then(|memory| memory.write(at, bytes));
        // Even a part of it may have taken memory.
        self.resident.insert(pages_around(&range));
        stored?;
        self.valid.insert(range);
        Ok(())
    }

    /// The file grows to `size`: what is mapped of that is known to be zeros.
    fn extend_pins(&mut self, size: u64) {
        let Some(memory) = &self.memory else {
            return;
        };
        let old = memory.length();
        if size > old {
            for pin in &self.pins {
                self.valid
                    .insert(pin.range.start.max(old)..pin.range.end.min(size).max(old));
            }
        }
    }

    /// Replies to what was asked before are too old for `range`.
    fn overtake(&mut self, range: &Range<u64>) {
        for fill in &mut self.fills {
            fill.keep.remove(range.clone());
        }
    }

    pub fn resize(&mut self, size: u64) {
        let beyond = size..u64::MAX;
        self.overtake(&beyond);
        self.extend_pins(size);
        for set in [&mut self.valid, &mut self.dirty, &mut self.writing] {
            set.remove(beyond.clone());
        }
        self.resident
            .remove(size.div_ceil(PAGE).saturating_mul(PAGE)..u64::MAX);
        let Some(memory) = &mut self.memory else {
            return;
        };
        if memory.length() > size
            && let Err(error) = memory.set_length(size)
        {
            tracing::error!(%error, size, "the cache cannot follow a new size");
        }
        self.lengthen(size);
    }

    pub fn zero(&mut self, range: Range<u64>) {
        self.overtake(&range);
        self.dirty.remove(range.clone());
        let inner = range.start.div_ceil(PAGE) * PAGE..range.end / PAGE * PAGE;
        let edges = match inner.is_empty() {
            true => [range.clone(), 0..0],
            false => [range.start..inner.start, inner.end..range.end],
        };
        for edge in edges {
            let cached: Vec<Range<u64>> = self.valid.iter_in(&edge).collect();
            for part in cached {
                let zeros = [0; 2 * PAGE as usize];
                let zeros = zeros.get(..(part.end - part.start) as usize);
                let stored = zeros.map(|zeros| self.put(part.start, zeros));
                if !matches!(stored, Some(Ok(()))) {
                    self.valid.remove(part);
                }
            }
        }
        if !inner.is_empty() {
            self.free(&inner);
        }
    }

    pub fn forget(&mut self, range: Range<u64>) {
        self.overtake(&range);
        let mut gone = RangeSet::of(range.clone());
        for pin in &self.pins {
            gone.remove(pin.range.clone());
        }
        for unsent in self
            .dirty
            .iter_in(&range)
            .chain(self.writing.iter_in(&range))
        {
            gone.remove(unsent);
        }
        let gone: Vec<Range<u64>> = gone.iter_in(&(0..u64::MAX)).collect();
        for part in gone {
            self.valid.remove(part);
        }
    }

    /// Gives the memory of whole pages back. They read as zeros.
    fn free(&mut self, pages: &Range<u64>) -> u64 {
        if let Some(memory) = &self.memory {
            let length = pages.end.min(i64::MAX as u64) - pages.start;
            if let Err(error) = memory.free(pages.start, length) {
                tracing::error!(%error, "cached pages cannot be freed");
                return 0;
            }
        }
        self.resident.remove(pages.clone())
    }

    /// Drops clean pages that are not mapped until `want` bytes are free, going on from where it
    /// stopped the last time; returns how many are. Without any left, the memory file goes, too.
    pub fn evict(&mut self, want: u64) -> u64 {
        let mut freed = 0;
        for part in [self.hand..u64::MAX, 0..self.hand] {
            let resident: Vec<Range<u64>> = self.resident.iter_in(&part).collect();
            for range in resident {
                if freed >= want {
                    break;
                }
                freed += self.evict_from(range, want - freed);
            }
        }
        if self.resident.is_empty() && self.pins.is_empty() && self.dirty.is_empty() {
            self.valid = RangeSet::default();
            if self.writing.is_empty() {
                self.memory = None;
            }
        }
        freed
    }

    fn evict_from(&mut self, range: Range<u64>, want: u64) -> u64 {
        let mut idle = RangeSet::of(range.clone());
        let around = range.start.saturating_sub(PAGE)..range.end.saturating_add(PAGE);
        for busy in [&self.dirty, &self.writing] {
            for part in busy.iter_in(&around) {
                idle.remove(pages_around(&part));
            }
        }
        for pin in &self.pins {
            idle.remove(pin.range.clone());
        }
        let mut freed = 0;
        let idle: Vec<Range<u64>> = idle.iter_in(&range).collect();
        for part in idle {
            if freed >= want {
                break;
            }
            let left = (want - freed).div_ceil(PAGE).saturating_mul(PAGE);
            let part = part.start..part.end.min(part.start.saturating_add(left));
            self.valid.remove(part.clone());
            freed += self.free(&part);
            self.hand = part.end;
        }
        freed
    }

    /// What may be asked for at `at`, where nothing is valid, below `size`.
    pub fn gap(&self, at: u64, size: u64) -> Gap {
        if self.valid.run_end(at).is_some() {
            return Gap::Filled;
        }
        let covers = |fill: &&Fill| fill.range.contains(&at);
        if let Some(fill) = self.fills.iter().find(covers) {
            return Gap::Asked(fill.done.clone());
        }
        let after = at..size;
        let valid = self.valid.first_in(&after).map(|range| range.start);
        let asked = self.fills.iter().map(|fill| fill.range.start);
        let end = asked
            .filter(|start| *start > at)
            .chain(valid)
            .fold(size, u64::min);
        let page = at / PAGE * PAGE..at;
        let alone = !self.valid.overlaps(&page)
            && !self
                .fills
                .iter()
                .any(|fill| fill.range.end > page.start && fill.range.start < at);
        Gap::Open(if alone { page.start } else { at }..end)
    }

    /// Registers that `range` is asked for.
    pub fn begin_fill(&mut self, range: Range<u64>) -> u64 {
        self.serial += 1;
        self.fills.push(Fill {
            id: self.serial,
            keep: RangeSet::of(range.clone()),
            range,
            done: Arc::new(Latch::default()),
        });
        self.serial
    }

    /// The reply to a fill: `parts` follow each other from its start, and `zeros` follow them.
    /// Stores what still counts and has the others go on.
    pub fn end_fill(&mut self, id: u64, parts: &[&[u8]], zeros: u64) {
        let Some(at) = self.fills.iter().position(|fill| fill.id == id) else {
            return;
        };
        let fill = self.fills.swap_remove(at);
        let mut start = fill.range.start;
        for part in parts {
            let range = start..start + part.len() as u64;
            for keep in fill.keep.iter_in(&range) {
                let from = (keep.start - start) as usize..(keep.end - start) as usize;
                if let Some(bytes) = part.get(from)
                    && let Err(error) = self.put(keep.start, bytes)
                {
                    tracing::debug!(%error, "no memory for a page");
                }
            }
            start = range.end;
        }
        for keep in fill.keep.iter_in(&(start..start + zeros)) {
            self.put_zeros(keep);
        }
        fill.done.open();
    }

    fn put_zeros(&mut self, range: Range<u64>) {
        static ZEROS: [u8; 16 * PAGE as usize] = [0; 16 * PAGE as usize];
        let mut at = range.start;
        while at < range.end {
            let n = (range.end - at).min(ZEROS.len() as u64);
            let zeros = ZEROS.get(..n as usize).unwrap_or_default();
            if self.put(at, zeros).is_err() {
                break;
            }
            at += n;
        }
    }

    pub fn make_dirty(&mut self, range: Range<u64>) {
        let valid: Vec<Range<u64>> = self.valid.iter_in(&range).collect();
        for part in valid {
            self.resident.insert(pages_around(&part));
            self.dirty.insert(part);
        }
    }

    /// Counts what may have been written through mappings as dirty.
    pub fn suspect_mapped(&mut self, within: &Range<u64>) {
        let pins = self.pins.iter().filter(|pin| pin.written);
        let ranges: Vec<Range<u64>> = pins
            .map(|pin| pin.range.start.max(within.start)..pin.range.end.min(within.end))
            .filter(|range| !range.is_empty())
            .collect();
        for range in ranges {
            self.make_dirty(range);
        }
    }

    pub fn is_dirty_in(&self, range: &Range<u64>) -> bool {
        self.dirty.overlaps(range)
    }

    /// Takes the first dirty bytes in `within` to be written back, as many as `into` has room
    /// for: where they are and how many.
    pub fn take_dirty(&mut self, within: &Range<u64>, into: &mut [u8]) -> Option<(u64, usize)> {
        let first = self.dirty.first_in(within)?;
        let room = usize::try_from(first.end - first.start).unwrap_or(usize::MAX);
        let into = into.get_mut(..room.min(into.len()))?;
        let n = self.copy_out(into, first.start);
        let range = first.start..first.start + n as u64;
        self.dirty.remove(range.clone());
        self.writing.insert(range);
        Some((first.start, n))
    }

    /// Of what [`Pages::take_dirty`] gave, `done` bytes are on the server.
    pub fn wrote_back(&mut self, at: u64, n: usize, done: usize) {
        let end = at + n as u64;
        let left = at + done as u64..end;
        // Truncation waits for this; evicting keeps off. What is left is still there.
        let left: Vec<Range<u64>> = self.writing.iter_in(&left).collect();
        self.writing.remove(at..end);
        for part in left {
            self.dirty.insert(part);
        }
    }

    pub fn is_pinned(&self) -> bool {
        !self.pins.is_empty()
    }

    pub fn pin(&mut self, range: Range<u64>) -> u64 {
        self.serial += 1;
        self.pins.push(Pin {
            id: self.serial,
            range,
            written: false,
        });
        self.serial
    }

    /// Returns how many bytes are no longer pinned.
    pub fn unpin(&mut self, id: u64, size: u64) -> u64 {
        let Some(at) = self.pins.iter().position(|pin| pin.id == id) else {
            return 0;
        };
        if self.pins.get(at).is_some_and(|pin| pin.written) {
            self.suspect_mapped(&(0..size));
        }
        let pin = self.pins.swap_remove(at);
        pin.range.end - pin.range.start
    }

    pub fn expect_writes(&mut self, id: u64) {
        if let Some(pin) = self.pins.iter_mut().find(|pin| pin.id == id) {
            pin.written = true;
        }
    }
}
