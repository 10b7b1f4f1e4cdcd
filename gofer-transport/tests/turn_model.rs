//! The turn-taking of flipcall under a model checker: every interleaving of the threads, and
//! every value the memory model lets them see.
//!
//! The word is modelled with its futex: comparing and falling asleep are one step, a sleep has no
//! end but a wake, and a wake that finds nobody is lost. So a wake-up that goes missing is a
//! deadlock, which the checker reports.
//!
//! What [`Turn`] keeps beside the word is not modelled but real, and changes only in sequence;
//! the model word has a step of its own after each load, so that others may come in between.

// Helpers of tests fail by panicking, as tests do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Mutex as StdMutex;
use std::time::Duration;

use gofer_transport::flipcall::{FlipError, Side, StateWord, Turn};
use loom::model::Builder;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// The state word of the model.
struct Word {
    value: AtomicU32,
    /// The kernel's queue for the address. Held while a waiter compares and lies down.
    queue: Mutex<()>,
    woken: Condvar,
    /// Sleeps end by themselves, at once: for peers that do not wake.
    naps: bool,
    step: AtomicBool,
}

impl Word {
    fn new(naps: bool) -> Word {
        Word {
            value: AtomicU32::new(0),
            queue: Mutex::new(()),
            woken: Condvar::new(),
            naps,
            step: AtomicBool::new(false),
        }
    }
}

impl StateWord for Word {
    fn load(&self) -> u32 {
        let value = self.value.load(Ordering::Acquire);
        self.step.load(Ordering::Relaxed);
        value
    }

    fn compare_swap(&self, from: u32, to: u32) -> Result<(), u32> {
        self.value
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
    }

    fn swap(&self, to: u32) -> u32 {
        self.value.swap(to, Ordering::AcqRel)
    }

    fn wait_while(&self, value: u32, _limit: Duration) -> Result<(), FlipError> {
        if self.naps {
            thread::yield_now();
            return Ok(());
        }
        let queue = self.queue.lock().unwrap();
        if self.value.load(Ordering::Relaxed) == value {
            drop(self.woken.wait(queue).unwrap());
        }
        Ok(())
    }

    fn wake(&self, all: bool) {
        let _queue = self.queue.lock().unwrap();
        match all {
            true => self.woken.notify_all(),
            false => self.woken.notify_one(),
        }
    }
}

/// A window of the model: the word and a datagram of one number.
struct Window {
    word: Word,
    datagram: AtomicU32,
    /// Whether somebody holds the turn.
    active: AtomicBool,
}

impl Window {
    fn new(naps: bool) -> Window {
        Window {
            word: Word::new(naps),
            datagram: AtomicU32::new(0),
            active: AtomicBool::new(false),
        }
    }

    /// What an active side does: reads the datagram, which must be `expected`, and answers with
    /// the next number.
    fn work(&self, expected: u32) {
        assert!(
            !self.active.swap(true, Ordering::Relaxed),
            "both are active"
        );
        assert_eq!(self.datagram.load(Ordering::Relaxed), expected);
        self.datagram.store(expected + 1, Ordering::Relaxed);
        self.active.store(false, Ordering::Relaxed);
    }
}

fn patient() -> Result<Duration, FlipError> {
    Ok(Duration::MAX)
}

/// `rounds` datagrams and answers, as the client has them.
fn client(turn: &Turn, window: &Window, rounds: u32) -> Result<(), FlipError> {
    for round in 0..rounds {
        window.work(2 * round);
        turn.pass(&window.word)?;
        turn.wait(&window.word, &mut patient)?;
    }
    window.work(2 * rounds);
    Ok(())
}

/// The other side of it.
fn server(turn: &Turn, window: &Window, rounds: u32) -> Result<(), FlipError> {
    for round in 0..rounds {
        turn.wait(&window.word, &mut patient)?;
        window.work(2 * round + 1);
        turn.pass(&window.word)?;
    }
    Ok(())
}

/// Explores all schedules. `preemptions` bounds how often a thread is stopped where it could go
/// on, where there are too many schedules without a bound.
fn check(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(model);
}

fn turns(spins: u32) -> (Turn, Turn) {
    (
        Turn::new(Side::Client, spins),
        Turn::new(Side::Server, spins),
    )
}

#[test]
fn no_wake_up_is_lost_and_one_side_is_active() {
    for (spins, rounds, preemptions) in [(0, 1, None), (1, 1, Some(4)), (0, 2, Some(4))] {
        check(preemptions, move || {
            let window = Arc::new(Window::new(false));
            let (ours, theirs) = turns(spins);
            let peer = {
                let window = window.clone();
                thread::spawn(move || server(&theirs, &window, rounds))
            };
            assert_eq!(client(&ours, &window, rounds), Ok(()));
            assert_eq!(peer.join().unwrap(), Ok(()));
        });
    }
}

/// Outcomes of all schedules of a model.
#[derive(Clone, Default)]
struct Outcomes(std::sync::Arc<StdMutex<BTreeSet<String>>>);

impl Outcomes {
    fn add(&self, outcome: impl std::fmt::Debug) {
        self.0.lock().unwrap().insert(format!("{outcome:?}"));
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().cloned().collect()
    }
}

#[test]
fn a_shutdown_at_any_moment_ends_both_sides() {
    for side in [Side::Client, Side::Server] {
        let outcomes = Outcomes::default();
        let seen = outcomes.clone();
        check(Some(3), move || {
            let window = Arc::new(Window::new(false));
            let (ours, theirs) = turns(0);
            let (ours, theirs) = (Arc::new(ours), Arc::new(theirs));
            let peer = {
                let (window, turn) = (window.clone(), theirs.clone());
                thread::spawn(move || server(&turn, &window, 1))
            };
            let ending = {
                let window = window.clone();
                let turn = match side {
                    Side::Client => ours.clone(),
                    Side::Server => theirs.clone(),
                };
                thread::spawn(move || turn.shut_down(&window.word))
            };
            let results = (client(&ours, &window, 1), peer.join().unwrap());
            ending.join().unwrap();
            seen.add(results);
            for turn in [ours, theirs] {
                assert_eq!(turn.pass(&window.word), Err(FlipError::ShutDown));
                let waited = turn.wait(&window.word, &mut || panic!("sleeps for ever"));
                assert_eq!(waited, Err(FlipError::ShutDown));
            }
        });
        let ended = "Err(ShutDown)";
        assert_eq!(
            outcomes.all(),
            [
                format!("({ended}, {ended})"),
                format!("({ended}, Ok(()))"),
                "(Ok(()), Ok(()))".to_string()
            ]
        );
    }
}

#[test]
fn a_wait_that_was_given_up_is_taken_up_again() {
    check(None, || {
        let window = Arc::new(Window::new(false));
        let (ours, theirs) = turns(0);
        let peer = {
            let window = window.clone();
            thread::spawn(move || server(&theirs, &window, 1))
        };
        window.work(0);
        ours.pass(&window.word).unwrap();
        match ours.wait(&window.word, &mut || Err(FlipError::GaveUp)) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error, FlipError::GaveUp);
                ours.wait(&window.word, &mut patient).unwrap();
            }
        }
        window.work(2);
        assert_eq!(peer.join().unwrap(), Ok(()));
    });
}

/// Sleeps between two looks at a peer that does not play by the rules.
const NAPS: u32 = 2;

/// Waits for a few naps.
fn impatient(turn: &Turn, word: &Word) -> (Result<(), FlipError>, u32) {
    let mut asked = 0;
    let result = turn.wait(word, &mut || {
        asked += 1;
        match asked > NAPS {
            true => Err(FlipError::GaveUp),
            false => Ok(Duration::ZERO),
        }
    });
    (result, asked)
}

#[test]
fn whatever_a_peer_writes_a_wait_ends() {
    for garbage in [[7, 1], [1, 7], [2, 1], [0, 1], [u32::MAX, 0]] {
        check(Some(3), move || {
            let window = Arc::new(Window::new(true));
            let (ours, _) = turns(1);
            let peer = {
                let window = window.clone();
                thread::spawn(move || {
                    for state in garbage {
                        // Without a wake, too: that is the peer's to leave out.
                        window.word.swap(state);
                    }
                })
            };
            match ours.pass(&window.word) {
                Ok(()) => {
                    let (result, asked) = impatient(&ours, &window.word);
                    assert!(asked <= NAPS + 1, "a sleep without a question");
                    if let Err(FlipError::BadState(state)) = result {
                        assert!(garbage.contains(&state) && state > 2);
                    }
                }
                Err(FlipError::ShutDown) => assert!(garbage.contains(&2)),
                Err(error) => assert!(matches!(error, FlipError::BadState(_)), "{error}"),
            }
            peer.join().unwrap();
        });
    }
}

#[test]
fn what_we_shut_down_stays_so_whatever_a_peer_writes() {
    check(Some(3), || {
        let window = Arc::new(Window::new(true));
        let (ours, _) = turns(0);
        let ours = Arc::new(ours);
        let peer = {
            let window = window.clone();
            // As if nothing had happened.
            thread::spawn(move || window.word.swap(1))
        };
        let waiting = {
            let (window, turn) = (window.clone(), ours.clone());
            thread::spawn(move || match turn.pass(&window.word) {
                Ok(()) => impatient(&turn, &window.word).0,
                Err(error) => Err(error),
            })
        };
        ours.shut_down(&window.word);
        waiting.join().unwrap().unwrap_err();
        peer.join().unwrap();
        for state in [0, 1, 2] {
            window.word.swap(state);
            assert_eq!(ours.pass(&window.word), Err(FlipError::ShutDown));
            if state > 0 {
                let (waited, asked) = impatient(&ours, &window.word);
                assert_eq!((waited, asked), (Err(FlipError::ShutDown), 0));
            }
        }
    });
}
