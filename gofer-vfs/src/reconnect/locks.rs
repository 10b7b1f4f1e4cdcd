//! Which locks a handle holds on the server, to take them again.

use crate::remote::{FileLock, LockKind};

/// Ranges that are locked, none overlapping another of its owner, and none of one kind next to
/// another: so these are as many as the client's own table has, which is bounded.
#[derive(Clone, Default)]
pub(super) struct HeldLocks(Vec<FileLock>);

impl HeldLocks {
    /// Takes on what a lock or unlock that succeeded has changed (POSIX: the new state of a
    /// range replaces the old one, of the same owner).
    pub(super) fn apply(&mut self, change: &FileLock) {
        let (start, end) = bounds(change);
        let mut left = Vec::with_capacity(self.0.len() + 1);
        for lock in &self.0 {
            let (from, to) = bounds(lock);
            if lock.owner != change.owner || to <= start || from >= end {
                left.push(*lock);
                continue;
            }
            let parts = [(from, start.min(to)), (end.max(from), to)];
            let parts = parts.into_iter().filter(|(from, to)| from < to);
            left.extend(parts.map(|(from, to)| FileLock {
                start: from,
                length: length(from, to),
                ..*lock
            }));
        }
        if change.kind != LockKind::Unlock {
            let (mut first, mut last) = (start, end);
            left.retain(|lock| {
                let (from, to) = bounds(lock);
                let same = (lock.owner, lock.kind) == (change.owner, change.kind);
                let joins = same && (to == start || from == end);
                if joins {
                    (first, last) = (first.min(from), last.max(to));
                }
                !joins
            });
            left.push(FileLock {
                start: first,
                length: length(first, last),
                ..*change
            });
        }
        self.0 = left;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &FileLock> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// First byte, and the one after the last.
fn bounds(lock: &FileLock) -> (u64, u64) {
    let end = match lock.length {
        0 => u64::MAX,
        length => lock.start.saturating_add(length),
    };
    (lock.start, end)
}

fn length(from: u64, to: u64) -> u64 {
    match to {
        u64::MAX => 0,
        to => to - from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(kind: LockKind, start: u64, length: u64, owner: u32) -> FileLock {
        FileLock {
            kind,
            start,
            length,
            owner,
        }
    }

    #[test]
    fn unlocking_the_middle_leaves_both_ends_and_others_alone() {
        let mut held = HeldLocks::default();
        held.apply(&lock(LockKind::Write, 0, 0, 1));
        held.apply(&lock(LockKind::Read, 5, 5, 2));
        held.apply(&lock(LockKind::Unlock, 10, 10, 1));
        let all: Vec<_> = held.iter().map(|l| (l.owner, l.start, l.length)).collect();
        assert_eq!(all, [(1, 0, 10), (1, 20, 0), (2, 5, 5)]);
        held.apply(&lock(LockKind::Read, 0, 5, 1));
        let first = held.iter().find(|l| l.owner == 1 && l.start == 0).unwrap();
        assert_eq!((first.kind, first.length), (LockKind::Read, 5));
        held.apply(&lock(LockKind::Unlock, 0, 0, 1));
        held.apply(&lock(LockKind::Unlock, 0, 0, 2));
        assert!(held.is_empty());
    }

    #[test]
    fn neighbours_of_one_kind_take_one_place() {
        let mut held = HeldLocks::default();
        for n in 0..20_000 {
            // From the middle on in both directions, and another owner's between them.
            let at = match n % 2 {
                0 => 20_000 + n / 2,
                _ => 19_999 - n / 2,
            };
            held.apply(&lock(LockKind::Write, at, 1, 1));
            held.apply(&lock(LockKind::Read, at, 1, 2));
            assert!(held.iter().count() <= 2, "{at}");
        }
        let of_one = |held: &HeldLocks| {
            let ours = held.iter().filter(|l| l.owner == 1);
            ours.map(|l| (l.start, l.length)).collect::<Vec<_>>()
        };
        assert_eq!(of_one(&held), [(10_000, 20_000)]);
        // Of another kind it stays apart, and so does what it cuts off.
        held.apply(&lock(LockKind::Read, 15_000, 1, 1));
        assert_eq!(of_one(&held).len(), 3);
        held.apply(&lock(LockKind::Write, 15_000, 1, 1));
        assert_eq!(of_one(&held), [(10_000, 20_000)]);
        held.apply(&lock(LockKind::Write, 30_000, 0, 1));
        assert_eq!(of_one(&held), [(10_000, 0)]);
    }
}
