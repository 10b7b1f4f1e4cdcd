//! Measuring things side by side: a little of each in turn, so that whatever else the machine does
//! meets all of them.

use std::time::{Duration, Instant};

/// How long one thing runs before it is the next one's turn.
const TURN: Duration = Duration::from_micros(700);
/// Runs at the start of a turn that do not count: they find the caches as the others left them.
const WARM_UP: u32 = 3;
/// Fewest turns of each.
const ROUNDS_MIN: usize = 15;

/// Nanoseconds of one run of each subject, by round and subject.
pub(crate) struct Rounds(Vec<Vec<f64>>);

/// Runs all `subjects` in turn, for `time` in all and at least [`ROUNDS_MIN`] rounds.
pub(crate) fn measure(subjects: &mut [&mut dyn FnMut()], time: Duration) -> Rounds {
    let runs: Vec<u32> = subjects.iter_mut().map(|subject| runs(*subject)).collect();
    let end = Instant::now() + time;
    let mut rounds = Vec::new();
    while rounds.len() < ROUNDS_MIN || Instant::now() < end {
        let round = subjects.iter_mut().zip(&runs);
        rounds.push(round.map(|(subject, &runs)| turn(*subject, runs)).collect());
    }
    Rounds(rounds)
}

fn turn(subject: &mut dyn FnMut(), runs: u32) -> f64 {
    for _ in 0..WARM_UP.min(runs) {
        subject();
    }
    let start = Instant::now();
    for _ in 0..runs {
        subject();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(runs)
}

/// How many runs fill a turn.
fn runs(subject: &mut dyn FnMut()) -> u32 {
    let mut runs = 1;
    loop {
        let took = turn(subject, runs) * f64::from(runs);
        if took >= TURN.as_secs_f64() * 1e9 / 2.0 {
            return runs;
        }
        runs *= 2;
    }
}

impl Rounds {
    /// The median of subject `index`.
    pub(crate) fn median(&self, index: usize) -> f64 {
        median(self.0.iter().map(|round| round[index]))
    }

    /// The median over all rounds of what `of` makes of one.
    pub(crate) fn median_of(&self, of: impl Fn(&[f64]) -> f64) -> f64 {
        median(self.0.iter().map(|round| of(round)))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
