//! Requests under way: who waits for each, and giving one up when its caller is being killed.
//!
//! The kernel would tell with `FUSE_INTERRUPT`, which fuser does not pass on (it answers that
//! it cannot, and the kernel never asks again; whoever waits then cannot even be killed). So a
//! thread looks after the callers of requests that take long: one with a deadly signal pending
//! has its call cancelled, as with NFS. Other signals do not interrupt file operations; programs
//! do not expect that of `stat`.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gofer_vfs::remote::Cancel;
use parking_lot::{Condvar, Mutex, MutexGuard};

/// A request younger than this is left alone; also how often the others are looked at.
const PATIENCE: Duration = Duration::from_millis(50);

/// Signals that do not end a process that does nothing about them: CHLD, CONT, STOP, TSTP, TTIN,
/// TTOU, URG, WINCH.
const HARMLESS: u64 = bit(17) | bit(18) | bit(19) | bit(20) | bit(21) | bit(22) | bit(23) | bit(28);

const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// Whose signals count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waits {
    /// An operation on files: only what ends the caller.
    Deadly,
    /// Waiting for a lock: any signal the caller does not block or ignore.
    AnySignal,
}

/// One thread's request.
struct Slot {
    busy: Mutex<Option<Busy>>,
    cancel: Cancel,
}

#[derive(Clone, Copy)]
struct Busy {
    /// The thread that waits, as the mount's process sees it.
    thread: u32,
    waits: Waits,
    since: Instant,
}

/// See the module.
pub(crate) struct Requests {
    id: u64,
    shared: Arc<Shared>,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    slots: Mutex<Vec<Arc<Slot>>>,
    /// Nothing was under way for a while: the watcher sleeps until somebody wakes it.
    asleep: AtomicBool,
    state: Mutex<WatcherState>,
    wake: Condvar,
}

#[derive(Default)]
struct WatcherState {
    woken: bool,
    ended: bool,
}

thread_local! {
    /// This thread's slot, and of which [`Requests`].
    static SLOT: RefCell<Option<(u64, Arc<Slot>)>> = const { RefCell::new(None) };
}

/// A request under way; over when dropped.
pub(crate) struct Underway(Arc<Slot>);

impl Underway {
    /// What the call to the server is given.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.0.cancel
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        *self.0.busy.lock() = None;
    }
}

impl Requests {
    pub(crate) fn new() -> std::io::Result<Requests> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let shared = Arc::new(Shared::default());
        let watched = shared.clone();
        let watcher = std::thread::Builder::new()
            .name("fuse-callers".to_owned())
            .spawn(move || watched.watch())?;
        Ok(Requests {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            shared,
            watcher: Mutex::new(Some(watcher)),
        })
    }

    /// Begins a request of `thread` on this thread, which has none under way.
    ///
    /// # Errors
    /// No descriptor is left to cancel it by.
    pub(crate) fn begin(&self, thread: u32, waits: Waits) -> std::io::Result<Underway> {
        let slot = SLOT.with_borrow_mut(|mine| match mine {
            Some((id, slot)) if *id == self.id => Ok(slot.clone()),
            _ => {
                let slot = self.new_slot()?;
                *mine = Some((self.id, slot.clone()));
                Ok::<_, std::io::Error>(slot)
            }
        })?;
        let mut busy = slot.busy.lock();
        if slot.cancel.is_set() {
            slot.cancel.reset();
        }
        *busy = Some(Busy {
            thread,
            waits,
            since: Instant::now(),
        });
        drop(busy);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.shared.rouse(false);
        }
        Ok(Underway(slot))
    }

    fn new_slot(&self) -> std::io::Result<Arc<Slot>> {
        let slot = Arc::new(Slot {
            busy: Mutex::new(None),
            cancel: Cancel::new()?,
        });
        let mut slots = self.shared.slots.lock();
        // Those of threads that have ended.
        slots.retain(|slot| Arc::strong_count(slot) > 1);
        slots.push(slot.clone());
        Ok(slot)
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.shared.rouse(true);
        if let Some(watcher) = self.watcher.lock().take() {
            let _ = watcher.join();
        }
    }
}

impl Shared {
    fn rouse(&self, for_good: bool) {
        let mut state = self.state.lock();
        state.woken = true;
        state.ended |= for_good;
        self.asleep.store(false, Ordering::SeqCst);
        self.wake.notify_one();
    }

    fn watch(&self) {
        let mut state = self.state.lock();
        loop {
            if state.ended {
                return;
            }
            self.wake.wait_for(&mut state, PATIENCE);
            state.woken = false;
            if state.ended {
                return;
            }
            let any = MutexGuard::unlocked(&mut state, || self.look());
            if any || state.woken {
                continue;
            }
            self.asleep.store(true, Ordering::SeqCst);
            // Somebody may have begun before that could be seen.
            if MutexGuard::unlocked(&mut state, || self.look()) {
                self.asleep.store(false, Ordering::SeqCst);
                continue;
            }
            while !state.woken && !state.ended {
                self.wake.wait(&mut state);
            }
        }
    }

    /// Looks at every request; true if there was any.
    fn look(&self) -> bool {
        let slots = self.slots.lock().clone();
        let mut any = false;
        for slot in slots {
            // Held while the caller is looked at: its request does not end meanwhile, so the
            // next one is not cancelled in its place.
            let busy = slot.busy.lock();
            let Some(request) = *busy else {
                continue;
            };
            any = true;
            let old = request.since.elapsed() >= PATIENCE;
            if old && !slot.cancel.is_set() && gives_up(request) {
                tracing::debug!(thread = request.thread, "the caller gives up");
                slot.cancel.set();
            }
        }
        any
    }
}

fn gives_up(request: Busy) -> bool {
    if request.thread == 0 {
        return false;
    }
    match std::fs::read(format!("/proc/{}/status", request.thread)) {
        Ok(status) => interrupts(&status, request.waits),
        // Nobody is left to wait for the answer.
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Whether a thread with this `/proc/PID/status` has a signal pending that makes it give up.
fn interrupts(status: &[u8], waits: Waits) -> bool {
    let mask = |key: &[u8]| {
        let line = status.split(|&byte| byte == b'\n');
        let mut values = line.filter_map(|line| line.strip_prefix(key));
        let digits = values.next().map(<[u8]>::trim_ascii);
        let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        text.and_then(|text| u64::from_str_radix(text, 16).ok())
            .unwrap_or(0)
    };
    let pending = mask(b"SigPnd:") | mask(b"ShdPnd:");
    let open = pending & !mask(b"SigBlk:") & !mask(b"SigIgn:");
    let deadly = open & !mask(b"SigCgt:") & !HARMLESS;
    let killed = pending & bit(9) != 0;
    killed || deadly != 0 || (waits == Waits::AnySignal && open & !HARMLESS != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pending: u64, shared: u64, blocked: u64, ignored: u64, caught: u64) -> Vec<u8> {
        format!(
            "Name:\tcat\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\n\
             SigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"
        )
        .into_bytes()
    }

    #[test]
    fn deadly_signals_end_every_wait_and_caught_ones_only_waits_for_locks() {
        let (int, kill, chld) = (bit(2), bit(9), bit(17));
        // (status, file operation gives up, lock gives up)
        let table = [
            (status(0, 0, 0, 0, 0), false, false),
            (status(0, int, 0, 0, 0), true, true),
            (status(int, 0, 0, 0, int), false, true),
            (status(0, int, int, 0, 0), false, false),
            (status(0, int, 0, int, 0), false, false),
            (status(kill, 0, u64::MAX, 0, 0), true, true),
            (status(0, chld, 0, 0, 0), false, false),
        ];
        for (at, (status, operation, lock)) in table.iter().enumerate() {
            assert_eq!(interrupts(status, Waits::Deadly), *operation, "{at}");
            assert_eq!(interrupts(status, Waits::AnySignal), *lock, "{at}");
        }
    }

    #[test]
    fn a_request_whose_caller_is_gone_is_cancelled_and_the_next_is_not() {
        let requests = Requests::new().unwrap();
        // Beyond the largest number a thread can have.
        let underway = requests.begin(1 << 30, Waits::Deadly).unwrap();
        let began = Instant::now();
        while !underway.cancel().is_set() {
            assert!(began.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
        drop(underway);
        let next = requests.begin(std::process::id(), Waits::Deadly).unwrap();
        assert!(!next.cancel().is_set());
    }

    #[test]
    fn the_watcher_ends_with_the_mount() {
        for _ in 0..20 {
            let requests = Requests::new().unwrap();
            drop(requests.begin(0, Waits::Deadly).unwrap());
        }
    }
}
