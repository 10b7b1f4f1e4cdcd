//! Writes that failed when nobody was left to be told: of pages that were mapped still when their
//! file was closed. The kernel tells of others at a close or an fsync.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

/// The first of them, if there was one.
#[derive(Default)]
pub(crate) struct Untold(AtomicI32);

impl Untold {
    /// A write failed so.
    pub(crate) fn note(&self, errno: i32) {
        let first = self
            .0
            .compare_exchange(0, errno, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() {
            tracing::warn!(errno, "pages of a closed file that is mapped are lost");
        }
    }

    /// The error, as people read it.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            errno => {
                let why = io::Error::from_raw_os_error(errno);
                let what = "what was written to mappings of closed files is lost";
                Err(io::Error::new(why.kind(), format!("{what}: {why}")))
            }
        }
    }
}
