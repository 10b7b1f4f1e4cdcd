//! An open file in an image, and out of one (semantics 21).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{File, OFFSET_MAX};
use crate::attr::FileType;
use crate::context::Context;
use crate::dentry::Node;
use crate::error::Errno;
use crate::file_locks::{HeldLocks, RecordLock};
use crate::flags::OpenFlags;
use crate::handle::Handle;
use crate::inode::Seen;
use crate::remote::LockKind;
use crate::special;
use crate::superblock::Res;

/// What a description has beside its node and its flags.
pub(crate) struct State {
    pub(crate) offset: u64,
    /// In a directory that is being listed: the name before that place.
    pub(crate) after: Vec<u8>,
    pub(crate) wrote: bool,
    /// An error it has not been told of.
    pub(crate) error: Option<Errno>,
    /// What a fifo held, taken out but not lost: it is read before anything else.
    pub(crate) drained: Vec<u8>,
    pub(crate) locks: HeldLocks,
}

impl File {
    /// What there is to save. Takes what a fifo holds out of it.
    pub(crate) fn state(&self, cx: &Context<'_>) -> State {
        let position = self.position.lock();
        let offset = match self.file_type() {
            FileType::Directory => position.stream.offset,
            _ => position.offset,
        };
        let mut seen = *self.errors_seen.lock();
        let after = position.stream.name_before().unwrap_or_default().to_vec();
        // What waits in a synthetic one is saved with it.
        let reads_fifo =
            self.file_type() == FileType::Fifo && self.is_readable() && !self.node.is_synthetic();
        let drained = match self.reader() {
            Ok(handle) if reads_fifo => special::drain(cx, &handle),
            _ => Vec::new(),
        };
        State {
            offset,
            after,
            wrote: self.wrote.load(Ordering::Relaxed),
            error: self.node.inode().open().errors.since(&mut seen),
            drained,
            locks: self.held_locks(),
        }
    }

    /// A description as it was. `own` is its handle, where it has one of its own.
    pub(crate) fn resume(
        cx: &Context<'_>,
        node: Node,
        flags: OpenFlags,
        own: Option<Arc<Handle>>,
        path: &[u8],
        state: &State,
    ) -> Res<File> {
        if let Some(handle) = &own {
            handle.push_back(&state.drained);
        }
        if let Some(errno) = state.error {
            node.inode().open().errors.record(errno);
        }
        let file = File::new(node, flags, own, path);
        if state.error.is_some() {
            *file.errors_seen.lock() = Seen::default();
        }
        file.wrote.store(state.wrote, Ordering::Relaxed);
        {
            let mut position = file.position.lock();
            let offset = state.offset.min(OFFSET_MAX);
            match file.file_type() {
                FileType::Directory => position.stream.go_on(offset, &state.after),
                _ => position.offset = offset,
            }
        }
        file.take_locks(cx, &state.locks)?;
        Ok(file)
    }

    fn take_locks(&self, cx: &Context<'_>, locks: &HeldLocks) -> Res<()> {
        let kind = |exclusive| match exclusive {
            true => LockKind::Write,
            false => LockKind::Read,
        };
        let taken = locks
            .ranges
            .iter()
            .map(|&(exclusive, range, owner, pid)| {
                let lock = RecordLock {
                    kind: kind(exclusive),
                    range,
                    owner,
                    pid,
                };
                self.set_lock(cx, &lock, false)
            })
            .chain(
                locks
                    .whole_exclusive
                    .map(|exclusive| self.flock(cx, kind(exclusive), false)),
            )
            .collect::<crate::Result<()>>();
        taken.map_err(|error| error.errno().into())
    }
}
