//! The one place that names a lock implementation. Everything else takes its locks from
//! [`crate::locks`], which adds ranks, or from here where they have none.
//!
//! In tests they may be those of a scheduler, to which every step from lock to lock is a
//! decision: see `tests/schedules.rs`.

#[cfg(test)]
pub(crate) mod scheduled;

#[cfg(not(test))]
pub(crate) use parking_lot::{
    Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
#[cfg(test)]
pub(crate) use scheduled::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Starts a thread that nobody waits for; false if there can be none.
pub(crate) fn start(name: &str, run: impl FnOnce() + Send + 'static) -> bool {
    #[cfg(test)]
    if scheduled::is_on() {
        // It would outlive the schedule.
        return false;
    }
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(run).is_ok()
}
