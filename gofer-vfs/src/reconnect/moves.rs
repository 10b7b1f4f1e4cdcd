//! Renames under way: a walk by path that crosses one proves nothing.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the renames of a filesystem.
#[derive(Default)]
pub(crate) struct Moves {
    begun_or_ended: AtomicU64,
    under_way: AtomicU64,
}

/// A rename, until the cached tree shows it as the server does.
pub(crate) struct Moving<'m>(&'m Moves);

impl Moves {
    /// Begins one.
    pub(crate) fn begin(&self) -> Moving<'_> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        self.begun_or_ended.fetch_add(1, Ordering::SeqCst);
        Moving(self)
    }

    /// A count to hand to [`Moves::any_since`].
    pub(super) fn now(&self) -> u64 {
        self.begun_or_ended.load(Ordering::SeqCst)
    }

    /// Whether there was a rename at any moment since `then`.
    pub(super) fn any_since(&self, then: u64) -> bool {
        self.under_way.load(Ordering::SeqCst) > 0 || self.now() != then
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.0.begun_or_ended.fetch_add(1, Ordering::SeqCst);
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}
