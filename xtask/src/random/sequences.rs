//! Sequences by their seeds, and shorter ones of those that fail.

use std::ops::Range;
use std::time::Duration;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::strategy::{self, Scope, Sequence};
use super::world;

/// How long one sequence may take: it has hung.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Which sequences are run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The seed of the first.
    pub seed: u64,
    /// How many.
    pub sequences: u64,
    /// Steps of each, at most.
    pub steps: usize,
    /// How long a failing one is made shorter, in milliseconds.
    pub shrinking: u32,
    /// Go on after a failure.
    pub keep_going: bool,
}

impl Plan {
    /// Fixed seeds, and little time for each.
    pub fn for_ci() -> Plan {
        Plan {
            seed: 0,
            sequences: 60,
            steps: 40,
            shrinking: 8_000,
            keep_going: false,
        }
    }

    /// The seeds, in their order.
    pub fn seeds(&self) -> Range<u64> {
        self.seed..self.seed.saturating_add(self.sequences)
    }
}

/// The sequences of one cell.
pub struct Seeds<'c> {
    /// Tells cells apart: each has sequences of its own.
    pub cell: &'c str,
    /// What they may be about.
    pub scope: Scope,
}

impl Seeds<'_> {
    /// Checks the sequence of one seed, and shorter ones if it fails. The error has the shortest
    /// that was found.
    pub fn check(
        &self,
        seed: u64,
        plan: &Plan,
        check: &dyn Fn(&Sequence) -> Result<(), String>,
    ) -> Result<(), String> {
        let config = Config {
            cases: 1,
            failure_persistence: None,
            max_shrink_time: plan.shrinking,
            max_shrink_iters: 20_000,
            ..Config::default()
        };
        let mut runner = TestRunner::new_with_rng(config, self.rng(seed));
        let strategy = strategy::sequence(self.scope, plan.steps);
        let end = runner.run(&strategy, |sequence| {
            check(&sequence).map_err(TestCaseError::fail)
        });
        match end {
            Ok(()) => Ok(()),
            Err(TestError::Fail(why, sequence)) => {
                let steps = world::describe(&sequence);
                Err(format!("seed {seed}: {why}\n{steps}"))
            }
            Err(TestError::Abort(why)) => Err(format!("seed {seed}: {why}")),
        }
    }

    fn rng(&self, seed: u64) -> TestRng {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        for (at, byte) in self.cell.bytes().enumerate() {
            let place = &mut bytes[8 + at % 24];
            *place = place.rotate_left(3) ^ byte;
        }
        TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
    }
}
