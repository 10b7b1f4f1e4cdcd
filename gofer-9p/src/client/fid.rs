//! A fid that exists on the server, owned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use gofer_vfs::remote::Promptness;

use super::session::Session;
use crate::wire::Fid;

/// Dropping it queues the clunk.
pub(super) struct OwnedFid {
    session: Arc<Session>,
    fid: Fid,
    owned: AtomicBool,
}

impl OwnedFid {
    pub(super) fn new(session: Arc<Session>, fid: Fid) -> OwnedFid {
        OwnedFid {
            session,
            fid,
            owned: AtomicBool::new(true),
        }
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The number.
    pub(super) fn get(&self) -> Fid {
        self.fid
    }

    /// Takes the ownership away; `None` when it is gone already.
    pub(super) fn disown(&self) -> Option<Fid> {
        self.owned.swap(false, Relaxed).then_some(self.fid)
    }

    /// Queues the clunk; with `Prompt` it is sent at once if that needs no waiting. Idempotent.
    pub(super) fn release(&self, when: Promptness) {
        if let Some(fid) = self.disown() {
            self.session.clunk(fid, when);
        }
    }
}

impl Drop for OwnedFid {
    fn drop(&mut self) {
        self.release(Promptness::Batched);
    }
}
