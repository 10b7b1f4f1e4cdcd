//! Which threads ask the kernel for requests.
//!
//! As few as will do, and one while its caller is alone. The kernel hands requests to the threads
//! that wait for them in turns, so that with several each request meets another thread. With one
//! processor that is worse still: a reply wakes the caller in the place of the thread that sent
//! it, and the caller's next request then wakes a second thread, although the first would take
//! the request as soon as it may run again.
//!
//! Yet several are needed while requests wait for the server, or when there are more than one
//! thread can serve. That does not show when a request begins. So the crew is looked at every
//! now and then while it has work: a thread is called up when none is left for the kernel and the
//! others get nowhere, or when requests have been queueing for a while; one goes to sleep again
//! when there was always one too many.
//!
//! fuser has no place to decide that in: a thread that has answered a request, and would be one
//! too many, sleeps before it goes back to fuser.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How often a crew with work is looked at: the longest a request waits for a thread while all
/// others wait for the server.
const PERIOD: Duration = Duration::from_millis(1);

/// After so many looks in a row that found requests queueing, one more thread is called up. A
/// caller that is alone has requests queue now and then, such as those that close a file.
const QUEUEING: u32 = 16;

/// After so many looks in a row that found a thread to spare, one less is kept awake.
const SPARE: u32 = 20;

/// After so many looks in a row during which no request began, nobody looks until one does.
const QUIET: u32 = 8;

/// The threads of one mount.
#[derive(Clone, Default)]
pub(crate) struct Crew(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// For sleepers.
    call: Condvar,
    /// For whoever looks after the crew.
    begin: Condvar,
}

/// Of threads that have served a request before; others wait for the kernel and are not known
/// here.
#[derive(Default)]
struct State {
    /// All that do not sleep.
    awake: usize,
    /// Of those, the ones that wait for the kernel.
    waiting: usize,
    asleep: usize,
    /// Sleepers that were told to go on, and have not woken yet. They count as awake.
    called: usize,
    /// How many had better be awake.
    wanted: usize,
    /// A request began since the last look.
    begun: bool,
    /// Nobody looks.
    unwatched: bool,
    /// Looks in a row: see the constants.
    queueing: u32,
    spare: u32,
    quiet: u32,
    /// The mount is gone: nobody sleeps any more.
    over: bool,
}

thread_local! {
    static MEMBER: RefCell<Option<Member>> = const { RefCell::new(None) };
}

/// What this thread is to its crew. fuser's threads end with the mount, and not before.
struct Member(Crew);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A request being served. Once that is over, the thread may have to sleep.
pub(crate) struct Serving<'c>(&'c Shared);

impl Crew {
    /// This thread has been given a request.
    pub(crate) fn serve(&self) -> Serving<'_> {
        let is_new = MEMBER.with_borrow_mut(|member| {
            let is_new = member.is_none();
            member.get_or_insert_with(|| Member(self.clone()));
            is_new
        });
        let mut state = self.0.state.lock();
        match is_new {
            true => state.awake += 1,
            false => state.waiting -= 1,
        }
        state.begun = true;
        if state.unwatched {
            state.unwatched = false;
            self.0.begin.notify_one();
        }
        Serving(&self.0)
    }

    /// Looks after the crew on a thread of its own, until the mount is gone. `device` leads to
    /// the kernel.
    pub(crate) fn start(&self, device: OwnedFd) -> io::Result<()> {
        let shared = self.0.clone();
        std::thread::Builder::new()
            .name("fuse-crew".to_owned())
            .spawn(move || shared.watch(&device))
            .map(drop)
    }

    /// The mount is gone, or was never made.
    pub(crate) fn end(&self) {
        self.0.state.lock().over = true;
        self.0.call.notify_all();
        self.0.begin.notify_all();
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut state = self.0.state.lock();
        if state.waiting > 0 && state.awake > state.wanted.max(1) && !state.over {
            state.awake -= 1;
            state.asleep += 1;
            while state.called == 0 && !state.over {
                self.0.call.wait(&mut state);
            }
            state.asleep -= 1;
            state.called = state.called.saturating_sub(1);
        }
        state.waiting += 1;
    }
}

impl Shared {
    fn watch(&self, device: &OwnedFd) {
        let mut state = self.state.lock();
        while !state.over {
            if state.unwatched {
                self.begin.wait(&mut state);
                continue;
            }
            self.begin.wait_for(&mut state, PERIOD);
            let queued = state.waiting == 0
                && MutexGuard::unlocked(&mut state, || has_requests(device.as_fd()));
            if state.look(queued) {
                self.call.notify_one();
            }
        }
    }
}

impl State {
    /// Looks after the crew; requests are `queued` in the kernel and nobody waits for them, or
    /// not. True: a sleeper is to be woken.
    fn look(&mut self, queued: bool) -> bool {
        let begun = std::mem::take(&mut self.begun);
        let has_one_to_spare = self.waiting > 0;
        self.spare = in_a_row(self.spare, has_one_to_spare);
        self.queueing = in_a_row(self.queueing, queued && !has_one_to_spare);
        self.quiet = in_a_row(self.quiet, !begun);
        self.unwatched = self.quiet >= QUIET;
        if self.spare >= SPARE {
            self.spare = 0;
            self.wanted = self.wanted.saturating_sub(1);
        }
        let gets_nowhere = !has_one_to_spare && !begun;
        (gets_nowhere || self.queueing >= QUEUEING) && self.call_up()
    }

    /// True: there was a sleeper to call.
    fn call_up(&mut self) -> bool {
        if self.asleep == self.called {
            return false;
        }
        self.called += 1;
        self.awake += 1;
        self.wanted = self.awake;
        self.queueing = 0;
        true
    }
}

fn in_a_row(count: u32, again: bool) -> u32 {
    if again { count.saturating_add(1) } else { 0 }
}

/// Whether the kernel has requests that no thread has taken.
fn has_requests(device: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&device, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut fds, Some(&now)), Ok(1)) && fds[0].revents().contains(PollFlags::IN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::Scope;

    #[derive(Debug, PartialEq, Eq)]
    enum Did {
        Begin(usize),
        /// The thread waits for the kernel.
        Return(usize),
    }

    /// Threads as fuser has them. Each is told when the kernel gives it a request, and when it
    /// has answered that.
    struct Threads {
        crew: Crew,
        tell: Vec<Sender<()>>,
        did: Receiver<Did>,
    }

    impl Threads {
        /// Threads that have all been given their first request.
        fn start<'s>(scope: &'s Scope<'s, '_>, count: usize) -> Threads {
            let crew = Crew::default();
            let (say, did) = channel();
            let mut tell = Vec::new();
            for number in 0..count {
                let (sender, told) = channel();
                tell.push(sender);
                let (crew, say) = (crew.clone(), say.clone());
                scope.spawn(move || {
                    while let Ok(()) = told.recv() {
                        let serving = crew.serve();
                        say.send(Did::Begin(number)).unwrap();
                        let _ = told.recv();
                        drop(serving);
                        let _ = say.send(Did::Return(number));
                    }
                });
            }
            let threads = Threads { crew, tell, did };
            (0..count).for_each(|number| threads.begin(number));
            threads
        }

        fn begin(&self, number: usize) {
            self.tell[number].send(()).unwrap();
            assert_eq!(self.did.recv(), Ok(Did::Begin(number)));
        }

        /// Answers; the thread then waits for the kernel.
        fn answer(&self, number: usize) {
            self.tell[number].send(()).unwrap();
            self.returns(number);
        }

        fn returns(&self, number: usize) {
            assert_eq!(self.did.recv(), Ok(Did::Return(number)));
        }

        /// Answers; the thread then sleeps.
        fn answer_and_sleep(&self, number: usize) {
            let asleep = self.state().asleep;
            self.tell[number].send(()).unwrap();
            while self.state().asleep == asleep {
                std::thread::yield_now();
            }
            assert!(self.did.try_recv().is_err());
        }

        fn look(&self, queued: bool) -> bool {
            let calls = self.state().look(queued);
            if calls {
                self.crew.0.call.notify_one();
            }
            calls
        }

        fn state(&self) -> MutexGuard<'_, State> {
            self.crew.0.state.lock()
        }
    }

    impl Drop for Threads {
        fn drop(&mut self) {
            self.crew.end();
        }
    }

    fn with_threads(count: usize, test: impl FnOnce(&Threads)) {
        std::thread::scope(|scope| test(&Threads::start(scope, count)));
    }

    #[test]
    fn one_waits_for_the_kernel_and_the_others_sleep_until_the_mount_is_gone() {
        with_threads(4, |threads| {
            threads.answer(2);
            threads.answer_and_sleep(0);
            threads.answer_and_sleep(3);
            threads.answer_and_sleep(1);
            threads.begin(2);
            threads.answer(2);
            threads.crew.end();
            let mut back: Vec<usize> = (0..3)
                .map(|_| match threads.did.recv() {
                    Ok(Did::Return(number)) => number,
                    other => panic!("{other:?}"),
                })
                .collect();
            back.sort_unstable();
            assert_eq!(back, [0, 1, 3]);
        });
    }

    #[test]
    fn who_waits_for_the_server_is_relieved_and_both_stay_awake_for_a_while() {
        with_threads(2, |threads| {
            threads.answer(0);
            threads.answer_and_sleep(1);
            threads.look(false);
            threads.begin(0);
            assert!(!threads.look(true), "it has only begun");
            assert!(threads.look(false));
            threads.returns(1);
            assert!(!threads.look(false), "one waits");
            threads.answer(0);
            // Never again were both at work.
            for _ in 2..=SPARE {
                threads.begin(1);
                threads.answer(1);
                threads.look(false);
            }
            threads.begin(1);
            threads.answer_and_sleep(1);
        });
    }

    #[test]
    fn more_requests_than_one_thread_can_serve_get_another() {
        with_threads(2, |threads| {
            threads.answer(0);
            threads.answer_and_sleep(1);
            for _ in 1..QUEUEING {
                threads.begin(0);
                assert!(!threads.look(true));
                threads.answer(0);
            }
            threads.begin(0);
            assert!(threads.look(true));
            threads.returns(1);
        });
    }

    #[test]
    fn requests_that_queue_now_and_then_need_nobody() {
        with_threads(2, |threads| {
            threads.answer(0);
            threads.answer_and_sleep(1);
            for round in 0..4 * QUEUEING {
                threads.begin(0);
                assert!(!threads.look(round % QUEUEING != 0));
                threads.answer(0);
            }
        });
    }

    #[test]
    fn a_device_with_something_to_read_has_requests() {
        use std::io::Write;
        let (device, mut kernel) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(!has_requests(device.as_fd()));
        kernel.write_all(b"request").unwrap();
        assert!(has_requests(device.as_fd()));
    }

    #[test]
    fn nobody_looks_while_nothing_begins() {
        with_threads(1, |threads| {
            threads.look(false);
            // There is nobody else to call.
            for _ in 0..QUIET {
                assert!(!threads.state().unwatched);
                assert!(!threads.look(true));
            }
            assert!(threads.state().unwatched);
            threads.answer(0);
            threads.begin(0);
            assert!(!threads.state().unwatched);
        });
    }
}
