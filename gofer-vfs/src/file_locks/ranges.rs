//! The locks on the ranges of one file: who holds what, and how a new lock changes that.

use crate::error::Errno;
use crate::remote::LockKind;

/// The last byte a file can have.
const LAST: u64 = i64::MAX as u64;

/// Bytes of a file, from the first to the last, both included; never empty.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize,
)]
pub struct LockRange {
    start: u64,
    last: u64,
}

impl LockRange {
    /// All bytes a file can have.
    pub const WHOLE: LockRange = LockRange {
        start: 0,
        last: LAST,
    };

    /// What `fcntl(2)` makes of `l_start` (from the start of the file) and `l_len`: a length of 0
    /// reaches to the end however far that moves, a negative one lies before `start`. `EINVAL`
    /// for bytes before the start of the file, `EOVERFLOW` for bytes that no file can have.
    pub fn new(start: i64, length: i64) -> Result<LockRange, Errno> {
        let at = u64::try_from(start).map_err(|_| Errno::EINVAL)?;
        let by = length.unsigned_abs();
        match length {
            0 => Ok(LockRange {
                start: at,
                last: LAST,
            }),
            1.. => match at.checked_add(by - 1) {
                Some(last) if last <= LAST => Ok(LockRange { start: at, last }),
                _ => Err(Errno::EOVERFLOW),
            },
            _ => {
                let start = at.checked_sub(by).ok_or(Errno::EINVAL)?;
                Ok(LockRange {
                    start,
                    last: at - 1,
                })
            }
        }
    }

    /// Whether it is a range, wherever it came from.
    pub(crate) fn is_valid(&self) -> bool {
        self.start <= self.last && self.last <= LAST
    }

    /// The first byte.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// How many bytes, 0 for all the rest of the file: the form `fcntl(2)` and servers take.
    pub fn length(&self) -> u64 {
        match self.last {
            LAST => 0,
            last => last - self.start + 1,
        }
    }

    /// From what a server says; what it cannot mean is cut to what it can.
    pub(crate) fn from_server(start: u64, length: u64) -> LockRange {
        let start = start.min(LAST);
        let last = match length {
            0 => LAST,
            length => start.saturating_add(length - 1).min(LAST),
        };
        LockRange { start, last }
    }

    fn overlaps(&self, other: &LockRange) -> bool {
        self.start <= other.last && other.start <= self.last
    }

    /// Whether both together are one range.
    fn touches(&self, other: &LockRange) -> bool {
        self.start <= other.last.saturating_add(1) && other.start <= self.last.saturating_add(1)
    }
}

/// A lock that is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held<O> {
    pub(crate) owner: O,
    pub(crate) exclusive: bool,
    pub(crate) range: LockRange,
    pub(crate) pid: u32,
}

/// All range locks on one file. Those of one owner lie together, sorted, and never overlap;
/// owners come in the order in which they took their first lock, as in Linux, which decides
/// which of several conflicting locks is reported.
#[derive(Clone, Debug)]
pub(crate) struct RangeLocks<O>(Vec<Held<O>>);

impl<O> Default for RangeLocks<O> {
    fn default() -> Self {
        RangeLocks(Vec::new())
    }
}

impl<O: Copy + PartialEq> RangeLocks<O> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Held<O>> {
        self.0.iter()
    }

    /// The locks that stand in the way of `wanted`.
    pub(crate) fn conflicts(&self, wanted: &Held<O>) -> impl Iterator<Item = &Held<O>> {
        self.0.iter().filter(move |held| {
            held.owner != wanted.owner
                && (held.exclusive || wanted.exclusive)
                && held.range.overlaps(&wanted.range)
        })
    }

    /// Gives `owner` in `range` what `kind` says in place of what it has there: what lies outside
    /// stays, ranges of one kind that touch become one. Conflicts are the caller's to check.
    pub(crate) fn set(&mut self, owner: O, kind: LockKind, range: LockRange, pid: u32) {
        let at = self.0.iter().position(|held| held.owner == owner);
        let at = at.unwrap_or(self.0.len());
        let mut new = Held {
            owner,
            exclusive: kind == LockKind::Write,
            range,
            pid,
        };
        let adds = kind != LockKind::Unlock;
        let mut own = Vec::new();
        self.0.retain(|held| {
            if held.owner != owner {
                return true;
            }
            if adds && held.exclusive == new.exclusive && held.range.touches(&new.range) {
                new.range.start = new.range.start.min(held.range.start);
                new.range.last = new.range.last.max(held.range.last);
            } else {
                own.extend(outside(held, &range));
            }
            false
        });
        if adds {
            own.push(new);
        }
        own.sort_unstable_by_key(|held| held.range.start);
        self.0.splice(at..at, own);
    }

    /// What `owner` holds in `range`, cut to it.
    pub(crate) fn of_owner_in(&self, owner: O, range: LockRange) -> Vec<Held<O>> {
        let own = self.0.iter().filter(|held| held.owner == owner);
        own.filter(|held| held.range.overlaps(&range))
            .map(|held| Held {
                range: LockRange {
                    start: held.range.start.max(range.start),
                    last: held.range.last.min(range.last),
                },
                ..*held
            })
            .collect()
    }
}

/// What is left of a lock before and after `cut`.
fn outside<O: Copy>(held: &Held<O>, cut: &LockRange) -> impl Iterator<Item = Held<O>> + use<O> {
    if !held.range.overlaps(cut) {
        return [Some(*held), None].into_iter().flatten();
    }
    let mut before = *held;
    let mut after = *held;
    let has_before = held.range.start < cut.start;
    let has_after = held.range.last > cut.last;
    if has_before {
        before.range.last = cut.start - 1;
    }
    if has_after {
        after.range.start = cut.last + 1;
    }
    [has_before.then_some(before), has_after.then_some(after)]
        .into_iter()
        .flatten()
}
