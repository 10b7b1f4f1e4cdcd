//! Locks for tests: the usual ones, or those of `shuttle` if they were made while it is on.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::{LockResult, PoisonError};
use std::time::{Duration, Instant};

use shuttle::sync;

thread_local! {
    /// A schedule runs all its threads on this one.
    static ON: Cell<bool> = const { Cell::new(false) };
}

/// Whether a schedule runs on this thread.
pub(crate) fn is_on() -> bool {
    ON.get()
}

/// Runs `test` under a scheduler: its locks are made while it is on.
pub(crate) fn run(test: impl FnOnce()) {
    ON.set(true);
    test();
    ON.set(false);
}

/// A place where another thread may go on.
pub(crate) fn step() {
    if is_on() {
        shuttle::thread::yield_now();
    }
}

/// A test that panicked with a lock has failed already.
fn whatever<G>(locked: LockResult<G>) -> G {
    locked.unwrap_or_else(PoisonError::into_inner)
}

macro_rules! guard {
    ($name:ident, $usual:ty, $scheduled:ty $(, $mutable:tt)?) => {
        /// `None` only while a condition variable has the lock.
        pub(crate) enum $name<'a, T> {
            Usual($usual),
            Scheduled(Option<$scheduled>),
        }

        impl<T> Deref for $name<'_, T> {
            type Target = T;

            fn deref(&self) -> &T {
                match self {
                    $name::Usual(guard) => guard,
                    $name::Scheduled(guard) => guard.as_ref().unwrap(),
                }
            }
        }

        $(impl<T> DerefMut for $name<'_, T> {
            fn deref_mut(&mut self) -> &$mutable T {
                match self {
                    $name::Usual(guard) => guard,
                    $name::Scheduled(guard) => guard.as_mut().unwrap(),
                }
            }
        })?
    };
}

guard!(
    MutexGuard,
    parking_lot::MutexGuard<'a, T>,
    sync::MutexGuard<'a, T>,
    mut
);
guard!(
    RwLockReadGuard,
    parking_lot::RwLockReadGuard<'a, T>,
    sync::RwLockReadGuard<'a, T>
);
guard!(
    RwLockWriteGuard,
    parking_lot::RwLockWriteGuard<'a, T>,
    sync::RwLockWriteGuard<'a, T>,
    mut
);

pub(crate) enum Mutex<T> {
    Usual(parking_lot::Mutex<T>),
    Scheduled(sync::Mutex<T>),
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        match is_on() {
            true => Mutex::Scheduled(sync::Mutex::new(value)),
            false => Mutex::Usual(parking_lot::Mutex::new(value)),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        match self {
            Mutex::Usual(mutex) => MutexGuard::Usual(mutex.lock()),
            Mutex::Scheduled(mutex) => MutexGuard::Scheduled(Some(whatever(mutex.lock()))),
        }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

pub(crate) enum RwLock<T> {
    Usual(parking_lot::RwLock<T>),
    Scheduled(sync::RwLock<T>),
}

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> RwLock<T> {
        match is_on() {
            true => RwLock::Scheduled(sync::RwLock::new(value)),
            false => RwLock::Usual(parking_lot::RwLock::new(value)),
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        match self {
            RwLock::Usual(lock) => RwLockReadGuard::Usual(lock.read()),
            RwLock::Scheduled(lock) => RwLockReadGuard::Scheduled(Some(whatever(lock.read()))),
        }
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        match self {
            RwLock::Usual(lock) => RwLockWriteGuard::Usual(lock.write()),
            RwLock::Scheduled(lock) => RwLockWriteGuard::Scheduled(Some(whatever(lock.write()))),
        }
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

pub(crate) enum Condvar {
    Usual(parking_lot::Condvar),
    Scheduled(sync::Condvar),
}

/// Whether the time was over; for a scheduler it does not pass.
pub(crate) struct TimedOut(bool);

impl TimedOut {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) fn new() -> Condvar {
        match is_on() {
            true => Condvar::Scheduled(sync::Condvar::new()),
            false => Condvar::Usual(parking_lot::Condvar::new()),
        }
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        match (self, guard) {
            (Condvar::Usual(condvar), MutexGuard::Usual(guard)) => condvar.wait(guard),
            (Condvar::Scheduled(condvar), MutexGuard::Scheduled(guard)) => {
                let inner = guard.take().unwrap();
                *guard = Some(whatever(condvar.wait(inner)));
            }
            _ => panic!("made by different schedulers"),
        }
    }

    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, until: Instant) -> TimedOut {
        if let (Condvar::Usual(condvar), MutexGuard::Usual(guard)) = (self, &mut *guard) {
            return TimedOut(condvar.wait_until(guard, until).timed_out());
        }
        self.wait(guard);
        TimedOut(false)
    }

    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, time: Duration) -> TimedOut {
        self.wait_until(guard, Instant::now() + time)
    }

    pub(crate) fn notify_one(&self) {
        match self {
            Condvar::Usual(condvar) => drop(condvar.notify_one()),
            Condvar::Scheduled(condvar) => condvar.notify_one(),
        }
    }

    pub(crate) fn notify_all(&self) {
        match self {
            Condvar::Usual(condvar) => drop(condvar.notify_all()),
            Condvar::Scheduled(condvar) => condvar.notify_all(),
        }
    }
}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}
