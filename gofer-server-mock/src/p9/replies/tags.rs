//! The tags of outstanding requests.

use std::collections::HashMap;

use gofer_9p::wire::Tag;

/// A bit for each tag there can be.
const WORDS: usize = (1 << 16) / 64;

/// Which tags are outstanding, and which of them are Tflush requests that wait for another.
#[derive(Debug)]
pub(super) struct Tags {
    outstanding: Box<[u64; WORDS]>,
    /// By the tag that is waited for.
    flushes: HashMap<Tag, Vec<Tag>>,
}

impl Default for Tags {
    fn default() -> Tags {
        Tags {
            outstanding: Box::new([0; WORDS]),
            flushes: HashMap::new(),
        }
    }
}

impl Tags {
    /// Makes `tag` outstanding; `false` when it was.
    pub(super) fn begin(&mut self, tag: Tag) -> bool {
        let (word, bit) = self.place(tag);
        let free = *word & bit == 0;
        *word |= bit;
        free
    }

    /// Ends `tag`, and appends to `flushes` what waited for it; `false` when it was not outstanding.
    pub(super) fn end(&mut self, tag: Tag, flushes: &mut Vec<Tag>) -> bool {
        let (word, bit) = self.place(tag);
        let was = *word & bit != 0;
        *word &= !bit;
        if !self.flushes.is_empty() {
            flushes.extend(self.flushes.remove(&tag).unwrap_or_default());
        }
        was
    }

    /// Notes that Tflush `flush` waits for `tag`; `false` when that is not outstanding.
    pub(super) fn wait_for(&mut self, tag: Tag, flush: Tag) -> bool {
        let (word, bit) = self.place(tag);
        if *word & bit == 0 {
            return false;
        }
        self.flushes.entry(tag).or_default().push(flush);
        true
    }

    fn place(&mut self, Tag(tag): Tag) -> (&mut u64, u64) {
        // Six bits choose the bit, ten the word: there are as many.
        let word = usize::from(tag >> 6) % WORDS;
        (&mut self.outstanding[word], 1 << (tag & 63))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_has_a_bit_of_its_own() {
        let mut tags = Tags::default();
        let mut none = Vec::new();
        for tag in 0..=u16::MAX {
            assert!(tags.begin(Tag(tag)) && !tags.begin(Tag(tag)));
        }
        for tag in (0..=u16::MAX).rev() {
            assert!(tags.end(Tag(tag), &mut none) && !tags.end(Tag(tag), &mut none));
        }
        assert!(none.is_empty());
    }

    #[test]
    fn what_waits_for_a_tag_is_told_once() {
        let mut tags = Tags::default();
        let mut flushes = Vec::new();
        assert!(!tags.wait_for(Tag(1), Tag(2)));
        tags.begin(Tag(1));
        assert!(tags.wait_for(Tag(1), Tag(2)) && tags.wait_for(Tag(1), Tag(3)));
        assert!(tags.end(Tag(1), &mut flushes));
        assert_eq!(flushes, [Tag(2), Tag(3)]);
        tags.begin(Tag(1));
        flushes.clear();
        assert!(tags.end(Tag(1), &mut flushes) && flushes.is_empty());
    }
}
