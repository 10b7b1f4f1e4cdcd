//! Numbers for fids: allotted by us, reused only when the server has forgotten them (9P 5.3).

use crate::wire::Fid;

/// Most fids in use at once: what a server would have to keep for us.
const FIDS_MAX: u32 = 1 << 20;

/// Allots fids.
#[derive(Debug, Default)]
pub(super) struct Fids {
    next: u32,
    free: Vec<u32>,
    /// Numbers that are never used again.
    retired: usize,
}

impl Fids {
    /// A number that is not in use; `None` at the limit.
    pub(super) fn take(&mut self) -> Option<Fid> {
        if let Some(number) = self.free.pop() {
            return Some(Fid(number));
        }
        if self.next == FIDS_MAX {
            return None;
        }
        self.next += 1;
        Some(Fid(self.next - 1))
    }

    /// Makes a number free again. One whose clunk failed is never given back (9P 15.1).
    pub(super) fn give_back(&mut self, fid: Fid) {
        self.free.push(fid.0);
    }

    /// One of the numbers in use was ended, and is never used again.
    pub(super) fn retire(&mut self) {
        self.retired += 1;
    }

    /// How many numbers are in use.
    pub(super) fn held(&self) -> usize {
        let taken = self.next as usize - self.free.len();
        taken.saturating_sub(self.retired)
    }

    /// How many numbers are in use or retired.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.next as usize - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_reused_only_after_it_came_back() {
        let mut fids = Fids::default();
        assert_eq!((fids.take(), fids.take()), (Some(Fid(0)), Some(Fid(1))));
        fids.give_back(Fid(0));
        assert_eq!((fids.take(), fids.take()), (Some(Fid(0)), Some(Fid(2))));
        assert_eq!(fids.in_use(), 3);
        fids.retire();
        assert_eq!((fids.in_use(), fids.held()), (3, 2));
    }

    #[test]
    fn numbers_end_at_the_limit() {
        let mut fids = Fids {
            next: FIDS_MAX,
            free: Vec::new(),
            retired: 0,
        };
        assert_eq!(fids.take(), None);
    }
}
