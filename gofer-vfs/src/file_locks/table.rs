//! All locks of one filesystem, and who waits for one.
//!
//! One table, since whether waiting would never end depends on what is held and waited for on
//! all files. It keys files by the address of their inode: who holds or waits for a lock has the
//! file open, and that keeps the inode.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::LockOwner;
use super::ranges::{Held, LockRange, RangeLocks};
use crate::context::Context;
use crate::error::Errno;
use crate::locks::{FILE_LOCKS, Mutex, MutexGuard, assert_may_call};
use crate::remote::{Cancel, LockKind};
use crate::stats::Counters;
use crate::superblock::Res;
use crate::sync;

/// Most range locks on one file: changing and searching them takes time in proportion. Also the
/// most callers that may wait for locks on one file.
const PER_FILE_MAX: usize = 8192;

/// Who holds a lock: a process, by the caller's number, or an open file description, by ours.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Owner {
    Process(u64),
    Description(u64),
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    /// A range lock, of `fcntl(2)`.
    Range(Held<Owner>),
    /// A lock on the whole file, of `flock(2)`, by a description.
    Whole { owner: u64, exclusive: bool },
}

/// See the module.
pub(crate) struct FileLocks(Mutex<State, FILE_LOCKS>);

#[derive(Default)]
struct State {
    files: HashMap<usize, OfFile>,
}

/// What is held and waited for on one file.
#[derive(Default)]
struct OfFile {
    ranges: RangeLocks<Owner>,
    /// Descriptions, and whether exclusively.
    whole: Vec<(u64, bool)>,
    /// First come, first served.
    waiting: Vec<Arc<Waiter>>,
}

/// Somebody who waits.
struct Waiter {
    /// `None`: for any lock on the file to go.
    request: Option<Request>,
    /// A lock without a rank: nothing else is locked while it is held.
    outcome: sync::Mutex<Option<Result<(), Errno>>>,
    /// Also when the wait is given up.
    changed: sync::Condvar,
}

impl OfFile {
    fn is_unused(&self) -> bool {
        self.ranges.is_empty() && self.whole.is_empty() && self.waiting.is_empty()
    }

    fn allows(&self, request: &Request) -> bool {
        match request {
            Request::Range(wanted) => self.ranges.conflicts(wanted).next().is_none(),
            Request::Whole { owner, exclusive } => self
                .whole
                .iter()
                .all(|(other, held)| other == owner || !(*held || *exclusive)),
        }
    }

    fn take(&mut self, request: &Request) {
        match request {
            Request::Range(lock) => {
                let kind = kind(lock.exclusive);
                self.ranges.set(lock.owner, kind, lock.range, lock.pid);
            }
            Request::Whole { owner, exclusive } => self.whole.push((*owner, *exclusive)),
        }
    }

    /// Gives waiters what they can have now.
    fn hand_on(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|waiter| {
            let Some(request) = &waiter.request else {
                waiter.end(Ok(()));
                return false;
            };
            if !self.allows(request) {
                return true;
            }
            self.take(request);
            waiter.end(Ok(()));
            false
        });
        self.waiting = waiting;
    }
}

impl Waiter {
    fn new(request: Option<Request>) -> Arc<Waiter> {
        Arc::new(Waiter {
            request,
            outcome: sync::Mutex::new(None),
            changed: sync::Condvar::new(),
        })
    }

    fn end(&self, outcome: Result<(), Errno>) {
        *self.outcome.lock() = Some(outcome);
        self.changed.notify_all();
    }

    /// Waits for the outcome; an error if the caller gives up or `at_most` has passed before.
    fn wait(self: &Arc<Waiter>, cx: &Context<'_>, at_most: Option<Duration>) -> Result<(), Errno> {
        assert_may_call();
        let until = at_most.map(|time| Instant::now() + time);
        let until = [until, cx.deadline].into_iter().flatten().min();
        let _watch = cx.cancel.map(|cancel| {
            let waiter = self.clone();
            cancel.watch(Arc::new(move || {
                let _outcome = waiter.outcome.lock();
                waiter.changed.notify_all();
            }))
        });
        let mut outcome = self.outcome.lock();
        loop {
            if let Some(outcome) = *outcome {
                return outcome;
            }
            if cx.cancel.is_some_and(Cancel::is_set) {
                return Err(Errno::EINTR);
            }
            match until {
                Some(until) if Instant::now() >= until => return Err(Errno::ETIMEDOUT),
                Some(until) => drop(self.changed.wait_until(&mut outcome, until)),
                None => self.changed.wait(&mut outcome),
            }
        }
    }
}

pub(super) fn kind(exclusive: bool) -> LockKind {
    match exclusive {
        true => LockKind::Write,
        false => LockKind::Read,
    }
}

impl State {
    /// Changes what is held on a file, then hands on what became free. `counters` are told.
    fn change<R>(
        &mut self,
        counters: &Counters,
        file: usize,
        change: impl FnOnce(&mut OfFile) -> R,
    ) -> R {
        let of_file = self.files.entry(file).or_default();
        let before = of_file.ranges.len() + of_file.whole.len();
        let result = change(of_file);
        of_file.hand_on();
        let after = of_file.ranges.len() + of_file.whole.len();
        let waits = !of_file.waiting.is_empty();
        if of_file.is_unused() {
            self.files.remove(&file);
        }
        counters.file_locks.add(after as u64);
        counters.file_locks.sub(before as u64);
        if waits {
            self.end_deadlocks(file);
        }
        result
    }

    /// Whether `request` on `file` would wait for an owner who waits, over whatever corners, for
    /// its own owner. Descriptions are nobody in particular and never found, as in Linux.
    fn would_deadlock(&self, file: usize, request: &Request) -> bool {
        let Request::Range(wanted) = request else {
            return false;
        };
        let Owner::Process(_) = wanted.owner else {
            return false;
        };
        let mut seen = HashSet::new();
        let mut asked = vec![(file, *wanted)];
        while let Some((file, wanted_now)) = asked.pop() {
            let Some(of_file) = self.files.get(&file) else {
                continue;
            };
            for holder in of_file.ranges.conflicts(&wanted_now) {
                if holder.owner == wanted.owner {
                    return true;
                }
                if matches!(holder.owner, Owner::Process(_)) && seen.insert(holder.owner) {
                    asked.extend(self.waits_of(holder.owner));
                }
            }
        }
        false
    }

    fn waits_of(&self, owner: Owner) -> impl Iterator<Item = (usize, Held<Owner>)> {
        self.files.iter().flat_map(move |(file, of_file)| {
            let waits = of_file.waiting.iter();
            waits.filter_map(move |waiter| match waiter.request {
                Some(Request::Range(wanted)) if wanted.owner == owner => Some((*file, wanted)),
                _ => None,
            })
        })
    }

    /// Those who wait on `file` wait for others than before: whoever would now wait for ever is
    /// told.
    fn end_deadlocks(&mut self, file: usize) {
        let Some(of_file) = self.files.get(&file) else {
            return;
        };
        for waiter in of_file.waiting.clone() {
            let dead = waiter
                .request
                .is_some_and(|request| self.would_deadlock(file, &request));
            if dead && let Some(of_file) = self.files.get_mut(&file) {
                waiter.end(Err(Errno::EDEADLK));
                of_file.waiting.retain(|other| !Arc::ptr_eq(other, &waiter));
            }
        }
    }
}

impl FileLocks {
    pub(crate) fn new() -> FileLocks {
        FileLocks(Mutex::new(State::default()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// Takes a lock. `EAGAIN` if it cannot be had now and `wait` is false; `EDEADLK` if waiting
    /// would never end; `EINTR` and `ETIMEDOUT` when the caller gives up; `ENOLCK` beyond the
    /// limits.
    ///
    /// A range lock replaces what its owner has there in one step, or stays as it was. A
    /// description's lock on the whole file is given up before another kind is asked for, so
    /// that changing it may lose it (flock(2)).
    pub(crate) fn take(
        &self,
        cx: &Context<'_>,
        counters: &Counters,
        file: usize,
        request: Request,
        wait: bool,
    ) -> Res<()> {
        let waiter = {
            let mut state = self.state();
            if let Request::Whole { owner, exclusive } = request {
                let has = state.files.get(&file).and_then(|of_file| {
                    let mut whole = of_file.whole.iter();
                    whole.find(|(other, _)| *other == owner)
                });
                if has.is_some_and(|(_, held)| *held == exclusive) {
                    return Ok(());
                }
                if has.is_some() {
                    state.change(counters, file, |of_file| {
                        of_file.whole.retain(|(other, _)| *other != owner);
                    });
                }
            }
            let of_file = state.files.entry(file).or_default();
            let full = of_file.ranges.len() + of_file.whole.len() >= PER_FILE_MAX
                || of_file.waiting.len() >= PER_FILE_MAX;
            let free = !full && of_file.allows(&request);
            if of_file.is_unused() {
                state.files.remove(&file);
            }
            if full {
                return Err(Errno::ENOLCK.into());
            }
            if free {
                state.change(counters, file, |of_file| of_file.take(&request));
                return Ok(());
            }
            if !wait {
                return Err(Errno::EAGAIN.into());
            }
            if state.would_deadlock(file, &request) {
                return Err(Errno::EDEADLK.into());
            }
            let waiter = Waiter::new(Some(request));
            let of_file = state.files.entry(file).or_default();
            of_file.waiting.push(waiter.clone());
            waiter
        };
        let waited = waiter.wait(cx, None);
        Ok(self.leave(counters, file, &waiter, waited)?)
    }

    /// Waits until a lock on `file` goes, for `at_most` a time.
    pub(crate) fn wait_for_change(
        &self,
        cx: &Context<'_>,
        counters: &Counters,
        file: usize,
        at_most: Duration,
    ) -> Res<()> {
        let waiter = Waiter::new(None);
        {
            let mut state = self.state();
            let of_file = state.files.entry(file).or_default();
            of_file.waiting.push(waiter.clone());
        }
        let waited = waiter.wait(cx, Some(at_most));
        match self.leave(counters, file, &waiter, waited) {
            Err(Errno::ETIMEDOUT) if cx.deadline.is_none_or(|at| Instant::now() < at) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Ends a wait: what was granted meanwhile is granted, whatever made the caller give up.
    fn leave(
        &self,
        counters: &Counters,
        file: usize,
        waiter: &Arc<Waiter>,
        waited: Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut state = self.state();
        if let Some(outcome) = *waiter.outcome.lock() {
            return outcome;
        }
        state.change(counters, file, |of_file| {
            of_file.waiting.retain(|other| !Arc::ptr_eq(other, waiter));
        });
        waited
    }

    /// Gives a range up.
    pub(crate) fn release_range(
        &self,
        counters: &Counters,
        file: usize,
        owner: Owner,
        range: LockRange,
    ) {
        self.state().change(counters, file, |of_file| {
            of_file.ranges.set(owner, LockKind::Unlock, range, 0);
        });
    }

    /// Gives a description's lock on the whole file up; true if it had one.
    pub(crate) fn release_whole(&self, counters: &Counters, file: usize, owner: u64) -> bool {
        self.state().change(counters, file, |of_file| {
            let before = of_file.whole.len();
            of_file.whole.retain(|(other, _)| *other != owner);
            of_file.whole.len() < before
        })
    }

    /// Puts back what an owner had in a range before a request that failed on the server.
    pub(crate) fn restore(
        &self,
        counters: &Counters,
        file: usize,
        owner: Owner,
        range: LockRange,
        before: &[Held<Owner>],
    ) {
        self.state().change(counters, file, |of_file| {
            of_file.ranges.set(owner, LockKind::Unlock, range, 0);
            for held in before {
                // Nobody else got in between who could not have been there before, but for a
                // waiter whom the failed request had let pass: then it is lost.
                if of_file.ranges.conflicts(held).next().is_none() {
                    of_file
                        .ranges
                        .set(owner, kind(held.exclusive), held.range, held.pid);
                }
            }
        });
    }

    /// The first lock in the way of `wanted`.
    pub(crate) fn conflict(&self, file: usize, wanted: &Held<Owner>) -> Option<Held<Owner>> {
        let state = self.state();
        let of_file = state.files.get(&file)?;
        of_file.ranges.conflicts(wanted).next().copied()
    }

    /// How many callers wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let state = self.state();
        state
            .files
            .values()
            .map(|of_file| of_file.waiting.len())
            .sum()
    }

    /// What an owner holds in a range.
    pub(crate) fn held_in(&self, file: usize, owner: Owner, range: LockRange) -> Vec<Held<Owner>> {
        let state = self.state();
        let of_file = state.files.get(&file);
        of_file.map_or_else(Vec::new, |of_file| of_file.ranges.of_owner_in(owner, range))
    }

    /// The kind of a description's lock on the whole file.
    pub(crate) fn whole(&self, file: usize, owner: u64) -> Option<LockKind> {
        let state = self.state();
        let whole = &state.files.get(&file)?.whole;
        let held = whole.iter().find(|(other, _)| *other == owner)?;
        Some(kind(held.1))
    }
}

impl Owner {
    /// As the caller knows it; `description` is the one it is asked through.
    pub(super) fn of(owner: LockOwner, description: u64) -> Owner {
        match owner {
            LockOwner::Process(process) => Owner::Process(process),
            LockOwner::Description => Owner::Description(description),
        }
    }
}
