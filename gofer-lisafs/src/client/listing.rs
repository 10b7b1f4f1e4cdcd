//! Listing a directory whose position the server keeps (lisafs 6.24).
//!
//! Positions given out count the entries that the server sent since the start. Going on where
//! the last call stopped, or within what it left over, costs nothing extra; the start is a
//! rewind; any other place is a rewind and skipping.

use std::ops::ControlFlow;

use gofer_vfs::remote::{Call, DirEntry, DirPos, RemoteError, RemoteResult};
use gofer_vfs::{Errno, FileType, Name};

use super::connection::Connection;
use super::convert;
use crate::wire::{Dirent, DirentsBuf, Fdid, Getdents64Req};

/// What is asked for at once, in bytes of the kernel's records, as gVisor does.
const BUDGET: u32 = 65536;

/// Where a directory handle stands.
#[derive(Default)]
pub(super) struct Listing {
    /// Entries the server has sent since the start; `None` before the first request, and when a
    /// request failed and nobody knows.
    sent: Option<u64>,
    /// The last of them, kept while a reader has not taken them all.
    kept: DirentsBuf,
}

impl Listing {
    /// As `RemoteHandle::read_dir`, for the open directory `fd`.
    pub(super) fn read(
        &mut self,
        connection: &Connection,
        fd: Fdid,
        call: &Call<'_>,
        from: DirPos,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> RemoteResult<bool> {
        let behind = |listing: &Listing| listing.first().is_none_or(|first| from.0 < first);
        if from.0 == 0 || behind(self) {
            self.fetch(connection, fd, call, true)?;
            if self.kept.as_dirents().is_empty() {
                return Ok(false);
            }
        }
        while self.sent.is_some_and(|sent| sent <= from.0) {
            self.fetch(connection, fd, call, false)?;
            if self.kept.as_dirents().is_empty() {
                return Ok(false);
            }
        }
        Ok(self.emit(from, each))
    }

    /// The position before the first kept entry.
    fn first(&self) -> Option<u64> {
        self.sent
            .map(|sent| sent - self.kept.as_dirents().len() as u64)
    }

    /// Has the server send what comes next, or, with `rewind`, what comes first. Nothing kept
    /// afterwards is the end.
    fn fetch(
        &mut self,
        connection: &Connection,
        fd: Fdid,
        call: &Call<'_>,
        rewind: bool,
    ) -> RemoteResult<()> {
        let before = if rewind { Some(0) } else { self.sent };
        // Until the answer is there, the server's position is not known.
        self.sent = None;
        self.kept.clear();
        // Entries are up to half as large again on the wire as in the kernel's records.
        let budget = BUDGET.min(connection.terms().max_message_size / 2) as i32;
        let count = if rewind { -budget } else { budget };
        let kept = &mut self.kept;
        connection.call(call, &Getdents64Req { dir_fd: fd, count }, |response, _| {
            if !response.dirents.iter().all(|entry| is_sound(&entry)) {
                return Err(RemoteError::unknown(Errno::EIO));
            }
            kept.copy_from(response.dirents);
            Ok(())
        })?;
        self.sent = before.map(|before| before + self.kept.as_dirents().len() as u64);
        Ok(())
    }

    /// Shows the kept entries from a position on, until the reader has enough.
    fn emit(
        &mut self,
        from: DirPos,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> bool {
        let first = self.first().unwrap_or(0);
        let skip = usize::try_from(from.0 - first).unwrap_or(usize::MAX);
        for (next, entry) in (first + 1..).zip(self.kept.as_dirents().iter()).skip(skip) {
            // Only `.` and `..` are still there that are no names.
            let Ok(name) = Name::new(entry.name) else {
                continue;
            };
            let shown = DirEntry {
                name,
                key: convert::key(entry.ino, entry.dev_major, entry.dev_minor),
                file_type: FileType::from_dirent_type(entry.dtype),
                attr: None,
                next: DirPos(next),
            };
            if each(shown).is_break() {
                return true;
            }
        }
        self.kept = DirentsBuf::default();
        true
    }
}

/// Whether an entry may be listed: `.` and `..` should not come, but may (lisafs 6.24); anything
/// else must be a name (semantics 22.5).
fn is_sound(entry: &Dirent<'_>) -> bool {
    matches!(entry.name, b"." | b"..") || Name::new(entry.name).is_ok()
}
