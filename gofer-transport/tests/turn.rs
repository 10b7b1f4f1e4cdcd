//! The turn-taking of flipcall on a real word with real waits, without a mapping: what Miri can
//! run.

// Helpers of tests fail by panicking, as tests do.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use gofer_transport::flipcall::{FlipError, Side, StateWord, Turn};

/// A word, and a datagram of one number that only the active side touches.
#[derive(Default)]
struct Window {
    state: AtomicU32,
    datagram: AtomicU32,
}

const ROUNDS: u32 = if cfg!(miri) { 20 } else { 2000 };

fn patient() -> Result<Duration, FlipError> {
    Ok(Duration::from_secs(10))
}

/// Answers each number with the next until the other side ends it.
fn answer(turn: &Turn, window: &Window) -> FlipError {
    loop {
        if let Err(error) = turn.wait(&window.state, &mut patient) {
            return error;
        }
        window.datagram.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = turn.pass(&window.state) {
            return error;
        }
    }
}

#[test]
fn numbers_go_back_and_forth_until_one_side_ends_it() {
    for spins in [0, 50] {
        let window = Window::default();
        let (ours, theirs) = (
            Turn::new(Side::Client, spins),
            Turn::new(Side::Server, spins),
        );
        thread::scope(|scope| {
            let peer = scope.spawn(|| answer(&theirs, &window));
            for round in 0..ROUNDS {
                assert_eq!(window.datagram.load(Ordering::Relaxed), 2 * round);
                window.datagram.store(2 * round + 1, Ordering::Relaxed);
                ours.pass(&window.state).unwrap();
                ours.wait(&window.state, &mut patient).unwrap();
            }
            ours.shut_down(&window.state);
            assert_eq!(peer.join().unwrap(), FlipError::ShutDown);
        });
        assert_eq!(StateWord::load(&window.state), 2);
    }
}

#[test]
fn a_waiter_is_woken_by_the_end() {
    let window = Window::default();
    let turn = Turn::new(Side::Client, 0);
    turn.pass(&window.state).unwrap();
    thread::scope(|scope| {
        let (tell, asked) = std::sync::mpsc::channel();
        let waiting = scope.spawn(|| {
            let tell = tell;
            turn.wait(&window.state, &mut || {
                let _ = tell.send(());
                patient()
            })
        });
        asked.recv().unwrap();
        turn.shut_down(&window.state);
        assert_eq!(waiting.join().unwrap(), Err(FlipError::ShutDown));
    });
}
