//! How often to look at a word before sleeping.
//!
//! Waking a thread on another CPU costs far more than a short answer takes, so a wait spins
//! first. That pays only while the peer runs on another CPU at the same time. Whether it does is
//! learned from the last waits: after a spin in vain the next 2^k - 1 waits do not spin, k growing
//! by two with each; one that paid lowers k by one. So spinning stays where more than two of three
//! spins pay, and becomes rare where more threads want to run than there are CPUs.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long one wait spins at most: longer than it takes a peer to be woken on another CPU and to
/// answer. If it were shorter, one side asleep would make the other's spins vain, and both would
/// stay asleep.
const SPIN_TIME: Duration = Duration::from_micros(60);

/// Waits that do not spin between two that do: at most 2^this - 1.
const BACK_OFF_MAX: u32 = 9;

/// Looks at the word that fit into [`SPIN_TIME`] on this machine, or 0 where this thread may use
/// one CPU only: there the peer cannot run while this side spins.
pub(super) fn worthwhile() -> u32 {
    static LOOKS: OnceLock<u32> = OnceLock::new();
    match shares_one_cpu() {
        true => 0,
        false => *LOOKS.get_or_init(measure),
    }
}

/// Whether the threads of this process are confined to one CPU.
fn shares_one_cpu() -> bool {
    let cpus = rustix::thread::sched_getaffinity(None);
    // Not known on machines with more CPUs than the set can name.
    cpus.is_ok_and(|cpus| cpus.count() < 2)
}

/// A pause takes 10 to 150 cycles, as the processor has it. The best of some tries is one that
/// nothing interrupted.
fn measure() -> u32 {
    const PAUSES: u32 = 64;
    let best = (0..8)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..PAUSES {
                std::hint::spin_loop();
            }
            start.elapsed()
        })
        .min()
        .unwrap_or_default();
    let looks = SPIN_TIME.as_nanos() * u128::from(PAUSES) / best.as_nanos().max(1);
    u32::try_from(looks).map_or(10_000, |looks| looks.clamp(100, 10_000))
}

/// Decides for each wait of one side. Used by one thread at a time; atomic so that it can change
/// hands.
#[derive(Debug)]
pub(super) struct Spin {
    max: u32,
    /// k: after a spin in vain, 2^k - 1 waits do not spin.
    back_off: AtomicU32,
    /// Waits that are left not to spin.
    skip: AtomicU32,
}

impl Spin {
    pub(super) fn new(max: u32) -> Spin {
        Spin {
            max,
            back_off: AtomicU32::new(0),
            skip: AtomicU32::new(0),
        }
    }

    /// How often this wait may look before it sleeps.
    pub(super) fn budget(&self) -> u32 {
        if self.max == 0 {
            return 0;
        }
        match self.skip.load(Ordering::Relaxed) {
            0 => self.max,
            left => {
                self.skip.store(left - 1, Ordering::Relaxed);
                0
            }
        }
    }

    /// The wait was over before the budget was used up.
    pub(super) fn paid(&self) {
        let back_off = self.back_off.load(Ordering::Relaxed);
        if back_off > 0 {
            self.back_off.store(back_off - 1, Ordering::Relaxed);
        }
    }

    /// The whole budget was used up for nothing.
    pub(super) fn in_vain(&self) {
        let back_off = (self.back_off.load(Ordering::Relaxed) + 2).min(BACK_OFF_MAX);
        self.back_off.store(back_off, Ordering::Relaxed);
        self.skip.store((1 << back_off) - 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Budgets of waits of which all or none pay.
    fn spun(spin: &Spin, waits: u32, pays: bool) -> u32 {
        let spun = (0..waits).filter(|_| spin.budget() > 0);
        spun.inspect(|_| match pays {
            true => spin.paid(),
            false => spin.in_vain(),
        })
        .count() as u32
    }

    #[test]
    fn spins_in_vain_become_rare_and_one_that_pays_brings_them_back() {
        let spin = Spin::new(10);
        assert_eq!(spun(&spin, 100, true), 100);
        assert!(spun(&spin, 10_000, false) < 32);
        assert!(spun(&spin, 10_000, true) > 8000);
    }

    #[test]
    fn on_one_cpu_nothing_spins() {
        let alone = std::thread::spawn(|| {
            let all = rustix::thread::sched_getaffinity(None).unwrap();
            let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu));
            let mut one = rustix::thread::CpuSet::new();
            one.set(first.unwrap());
            rustix::thread::sched_setaffinity(None, &one).unwrap();
            worthwhile()
        });
        assert_eq!(alone.join().unwrap(), 0);
        assert_eq!(spun(&Spin::new(0), 100, false), 0);
    }
}
