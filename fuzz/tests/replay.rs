//! Runs each target over its corpus, and checks that none is forgotten anywhere.

// Helpers of tests fail by panicking, as tests do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gofer_fuzz::session::Alone;
use gofer_fuzz::{TARGETS, Target, home};

/// An input that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

fn corpus(target: &str) -> Vec<PathBuf> {
    let dir = home().join("corpus").join(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut inputs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    inputs
}

#[test]
fn every_target_survives_its_corpus() {
    for target in TARGETS {
        let inputs = corpus(target.0);
        assert!(!inputs.is_empty(), "{} has no corpus", target.0);
        for input in inputs {
            replay(target, &input);
        }
    }
}

/// Runs one input on a thread of its own, so that one that hangs can be named.
fn replay(&(name, run): &Target, input: &Path) {
    let bytes = fs::read(input).unwrap();
    let (tell, ended) = mpsc::channel();
    thread::spawn(move || {
        let survived = catch_unwind(AssertUnwindSafe(|| run(&bytes))).is_ok();
        let _ = tell.send(survived);
    });
    match ended.recv_timeout(PATIENCE) {
        Ok(true) => {}
        Ok(false) => panic!("{name} fails on {}", input.display()),
        Err(_) => panic!("{name} hangs on {}", input.display()),
    }
}

fn names_in(dir: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(home().join(dir)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn targets_programs_and_corpora_are_the_same() {
    // Reading directories takes descriptors, which the targets count.
    let _alone = Alone::begin();
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names_in("fuzz_targets"), targets);
    assert_eq!(names_in("corpus"), targets);
}
