//! [`RangeSet`]: a set of bytes of a file, kept as ranges that neither touch nor overlap.

use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes that a page of the cache has.
pub(crate) const PAGE: u64 = 4096;

/// The whole pages that hold any byte of `range`.
pub(crate) fn pages_around(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE * PAGE..range.end.div_ceil(PAGE).saturating_mul(PAGE)
}

/// See the module.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct RangeSet {
    /// Start to end.
    ranges: BTreeMap<u64, u64>,
    total: u64,
}

impl RangeSet {
    pub(crate) fn of(range: Range<u64>) -> RangeSet {
        let mut set = RangeSet::default();
        set.insert(range);
        set
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Bytes in the set.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Ranges it takes to tell them.
    pub(crate) fn count(&self) -> usize {
        self.ranges.len()
    }

    /// Where the set ends; 0 if it is empty.
    pub(crate) fn end(&self) -> u64 {
        self.ranges.last_key_value().map_or(0, |(_, end)| *end)
    }

    /// Adds `range`; returns how many bytes were not in the set before.
    pub(crate) fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        // Most often a range grows at its end, and nothing follows near it.
        let before = self.ranges.range_mut(..=range.start).next_back();
        if let Some((_, end)) = before
            && *end >= range.start
        {
            if *end >= range.end {
                return 0;
            }
            let (old_end, here) = (*end, range.start);
            let next = self.ranges.range(here + 1..).next();
            if next.is_none_or(|(next, _)| *next > range.end)
                && let Some((_, end)) = self.ranges.range_mut(..=here).next_back()
            {
                *end = range.end;
                self.total += range.end - old_end;
                return range.end - old_end;
            }
        }
        let (mut start, mut end) = (range.start, range.end);
        let before = self.total;
        loop {
            let touching = self.ranges.range(..=end).next_back();
            let Some((&from, &to)) = touching.filter(|(_, to)| **to >= start) else {
                break;
            };
            self.ranges.remove(&from);
            self.total -= to - from;
            (start, end) = (start.min(from), end.max(to));
        }
        self.ranges.insert(start, end);
        self.total += end - start;
        self.total - before
    }

    /// Takes `range` out; returns how many bytes of it were in the set.
    pub(crate) fn remove(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let mut gone = 0;
        while let Some((&from, &to)) = self.ranges.range(..range.end).next_back()
            && to > range.start
        {
            self.ranges.remove(&from);
            gone += to.min(range.end) - from.max(range.start);
            if from < range.start {
                self.ranges.insert(from, range.start);
            }
            if to > range.end {
                self.ranges.insert(range.end, to);
            }
        }
        self.total -= gone;
        gone
    }

    /// Where the run of bytes ends that `at` is in, if it is in the set.
    pub(crate) fn run_end(&self, at: u64) -> Option<u64> {
        let (_, &end) = self.ranges.range(..=at).next_back()?;
        (end > at).then_some(end)
    }

    /// The first part of the set in `range`.
    pub(crate) fn first_in(&self, range: &Range<u64>) -> Option<Range<u64>> {
        self.iter_in(range).next()
    }

    pub(crate) fn overlaps(&self, range: &Range<u64>) -> bool {
        self.first_in(range).is_some()
    }

    /// The parts of the set in `range`, in order.
    pub(crate) fn iter_in(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let (start, end) = (range.start, range.end.max(range.start));
        let head = self.run_end(start).map(|to| start..to.min(end));
        let head = head.filter(|head| !head.is_empty());
        let tail = self.ranges.range(start..end);
        let tail = tail.filter(move |(from, _)| **from > start);
        head.into_iter()
            .chain(tail.map(move |(&from, &to)| from..to.min(end)))
    }

    /// Whether all of `range` is in the set.
    pub(crate) fn covers(&self, range: &Range<u64>) -> bool {
        range.is_empty()
            || self
                .run_end(range.start)
                .is_some_and(|end| end >= range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: usize = 64;

    fn check(set: &RangeSet, model: &[bool; SIZE]) {
        let mut found = [false; SIZE];
        let mut last_end = None;
        for range in set.iter_in(&(0..SIZE as u64)) {
            assert!(last_end.is_none_or(|end| range.start > end), "{set:?}");
            last_end = Some(range.end);
            found[range.start as usize..range.end as usize].fill(true);
        }
        assert_eq!(&found, model);
        let total = model.iter().filter(|there| **there).count() as u64;
        assert_eq!(set.total(), total);
        for at in 0..SIZE {
            let run = model[at..].iter().take_while(|there| **there).count();
            let expected = (run > 0).then_some((at + run) as u64);
            assert_eq!(set.run_end(at as u64), expected, "{set:?} at {at}");
        }
    }

    proptest! {
        #[test]
        fn is_what_a_row_of_flags_is(
            ops in proptest::collection::vec((any::<bool>(), 0..SIZE as u64, 0..20u64), 1..60),
        ) {
            let mut set = RangeSet::default();
            let mut model = [false; SIZE];
            for (insert, start, len) in ops {
                let end = (start + len).min(SIZE as u64);
                let part = &mut model[start as usize..end as usize];
                let there = part.iter().filter(|there| **there).count() as u64;
                part.fill(insert);
                if insert {
                    prop_assert_eq!(set.insert(start..end), end - start - there);
                } else {
                    prop_assert_eq!(set.remove(start..end), there);
                }
                check(&set, &model);
                let part = 7..41;
                let inside: u64 = set.iter_in(&part).map(|range| range.end - range.start).sum();
                let expected = model[7..41].iter().filter(|there| **there).count() as u64;
                prop_assert_eq!(inside, expected);
            }
        }
    }

    #[test]
    fn pages_reach_around_a_range() {
        assert_eq!(pages_around(&(1..2)), 0..4096);
        assert_eq!(pages_around(&(4096..8192)), 4096..8192);
        assert_eq!(pages_around(&(4095..4097)), 0..8192);
    }
}
