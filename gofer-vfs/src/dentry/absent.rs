//! The bound on absent names of all directories together.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::Dentry;
use crate::locks::{ABSENT, Mutex};
use crate::superblock::Superblock;

/// Absent names remembered in all.
pub(crate) const ABSENT_TOTAL_MAX: u64 = 1 << 16;

/// Directories with absent names, the oldest first: those that lose them when there are too many
/// in all.
#[derive(Default)]
pub(crate) struct AbsentDirectories(Mutex<VecDeque<Weak<Dentry>>, ABSENT>);

impl AbsentDirectories {
    pub(super) fn add(&self, dentry: &Arc<Dentry>) {
        let mut queue = self.0.lock();
        if queue.len() == queue.capacity() {
            queue.retain(|one| one.strong_count() > 0);
        }
        queue.push_back(Arc::downgrade(dentry));
        let counters = &dentry.inode.sb.counters;
        counters.negative_directories.set(queue.len() as u64);
    }

    /// Makes room where there are too many absent names. No lock may be held.
    pub(super) fn keep_bounded(&self, sb: &Superblock) {
        while sb.counters.negative_entries.get() > ABSENT_TOTAL_MAX {
            let mut queue = self.0.lock();
            let Some(oldest) = queue.pop_front() else {
                break;
            };
            sb.counters.negative_directories.set(queue.len() as u64);
            drop(queue);
            if let Some(dentry) = oldest.upgrade()
                && let Some(directory) = &dentry.directory
            {
                sb.counters.negative_entries.sub(directory.forget_absent());
            }
        }
    }
}
