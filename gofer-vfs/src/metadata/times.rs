//! Four times in 32 bytes.

use crate::attr::Timestamp;

/// Bits that hold nanoseconds; the others hold seconds, with their sign.
const NSEC_BITS: u32 = 30;
const SEC_MAX: i64 = (1 << (63 - NSEC_BITS)) - 1;
const NSEC_MAX: u32 = 999_999_999;

/// Access, modification, change and creation time. Times between 1698 and 2242 are packed, four
/// others take a box.
#[derive(Default)]
pub(super) struct PackedTimes {
    packed: [u64; 4],
    far: Option<Box<[Timestamp; 4]>>,
}

impl PackedTimes {
    #[inline]
    pub(super) fn get(&self) -> [Timestamp; 4] {
        match &self.far {
            Some(far) => **far,
            None => self.packed.map(unpack),
        }
    }

    /// Changes one of them: the place it has in [`PackedTimes::get`].
    #[inline]
    pub(super) fn change(&mut self, which: usize, time: Timestamp) {
        match self.packed.get_mut(which) {
            Some(packed) if self.far.is_none() && packs(&time) => *packed = pack(time),
            _ => self.change_far(which, time),
        }
    }

    #[cold]
    fn change_far(&mut self, which: usize, time: Timestamp) {
        let mut times = self.get();
        if let Some(old) = times.get_mut(which) {
            *old = time;
        }
        self.set(times);
    }

    pub(super) fn set(&mut self, times: [Timestamp; 4]) {
        if times.iter().all(packs) {
            self.packed = times.map(pack);
            self.far = None;
        } else {
            self.far = Some(Box::new(times));
        }
    }
}

fn packs(time: &Timestamp) -> bool {
    time.sec.unsigned_abs() <= SEC_MAX as u64 && time.nsec <= NSEC_MAX
}

fn pack(time: Timestamp) -> u64 {
    (time.sec << NSEC_BITS) as u64 | u64::from(time.nsec)
}

fn unpack(packed: u64) -> Timestamp {
    Timestamp {
        sec: packed as i64 >> NSEC_BITS,
        nsec: packed as u32 & ((1 << NSEC_BITS) - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_comes_out_as_it_went_in() {
        let mut times = PackedTimes::default();
        let at = |sec, nsec| Timestamp { sec, nsec };
        for (sec, packed) in [
            (0, true),
            (-1, true),
            (1_900_000_000, true),
            (SEC_MAX, true),
            (-SEC_MAX, true),
            (SEC_MAX + 1, false),
            (-SEC_MAX - 1, false),
            (i64::MAX, false),
            (i64::MIN, false),
        ] {
            for nsec in [0, 1, NSEC_MAX] {
                let given = [at(sec, nsec), at(5, 6), at(-7, 8), at(0, NSEC_MAX)];
                times.set(given);
                assert_eq!(times.get(), given);
                assert_eq!(times.far.is_none(), packed, "{sec}");
            }
        }
        let senseless = [at(1, u32::MAX); 4];
        times.set(senseless);
        assert_eq!(times.get(), senseless);
    }

    #[test]
    fn one_time_changes_and_the_others_stay() {
        let at = |sec| Timestamp { sec, nsec: 7 };
        let mut expected = [1, 2, 3, 4].map(at);
        let mut times = PackedTimes::default();
        times.set(expected);
        let changes = [5, i64::MAX, 6, i64::MIN, 7, 8, 9, 10];
        for (which, sec) in [0, 1, 2, 3].into_iter().cycle().zip(changes) {
            times.change(which, at(sec));
            expected[which] = at(sec);
            assert_eq!(times.get(), expected);
        }
        assert!(times.far.is_none());
    }
}
