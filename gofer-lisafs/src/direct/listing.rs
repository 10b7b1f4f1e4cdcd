//! Listing a directory: the positions given out are the host's own.

use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use gofer_vfs::remote::{DirEntry, DirPos, FileKey};
use gofer_vfs::{FileType, Name};
use rustix::fs::{RawDir, SeekFrom};

use super::host::Result;

/// Bytes of host records read at a time.
const BUFFER_SIZE: usize = 32 << 10;

/// Where the descriptor of an open directory stands.
#[derive(Default)]
pub(super) struct Listing {
    /// The position after the last entry that was read; `None` when a reader stopped before it.
    position: Option<u64>,
    buffer: Vec<MaybeUninit<u8>>,
}

impl Listing {
    /// As `RemoteHandle::read_dir`: one getdents64(2), another where it brought no names. Entries
    /// have the device of the directory, `dir`; one that is a mount point has the number of what it
    /// covers, as everywhere on Linux.
    pub(super) fn read(
        &mut self,
        fd: &OwnedFd,
        dir: FileKey,
        from: DirPos,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<bool> {
        // The start is sought even there: entries may have been added since.
        if self.position != Some(from.0) || from.0 == 0 {
            rustix::fs::seek(fd, SeekFrom::Start(from.0))?;
        }
        self.position = None;
        self.buffer.resize(BUFFER_SIZE, MaybeUninit::uninit());
        let mut records = RawDir::new(fd, &mut self.buffer);
        let (mut next, mut any) = (from.0, false);
        while let Some(record) = records.next() {
            let record = record?;
            next = record.next_entry_cookie();
            // Only `.` and `..` are no names.
            if let Ok(name) = Name::new(record.file_name().to_bytes()) {
                let entry = DirEntry {
                    name,
                    key: FileKey {
                        epoch: dir.epoch,
                        id: [record.ino(), dir.id[1]],
                    },
                    file_type: FileType::from_mode(record.file_type().as_raw_mode()),
                    attr: None,
                    next: DirPos(next),
                };
                any = true;
                if each(entry).is_break() {
                    return Ok(true);
                }
            }
            if any && records.is_buffer_empty() {
                self.position = Some(next);
                return Ok(true);
            }
        }
        self.position = Some(next);
        Ok(false)
    }
}
