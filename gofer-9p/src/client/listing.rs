//! Listings: one Treaddir after the other, and on the socket the next one ahead.
//!
//! A reply that nobody has asked for yet may stay in the socket for long, so it must not be more
//! than a socket holds; over channels the next reply is as near as the one that was read ahead.

use std::ops::ControlFlow;

use gofer_vfs::remote::{Call, DirEntry, DirPos, RemoteError, RemoteResult};
use gofer_vfs::{Errno, FileType, Name};

use super::convert;
use super::exchange::{Exchange, Parked};
use super::handle::Handle;
use super::session::Session;
use super::table::Effect;
use crate::wire::{Dirent, Dirents, Treaddir};

/// Bytes asked for in one Treaddir over a channel: a listing is handed on while its reply is held.
const READDIR_SIZE: u32 = 256 << 10;

/// As much where the next reply is read ahead: a socket holds it.
const READDIR_AHEAD_SIZE: u32 = 64 << 10;

/// Longest name of a directory entry that is believed.
const NAME_MAX: usize = 255;

/// Replies in a row that may hold nothing but `.` and `..`.
const DOTS_MAX: usize = 4;

/// What one Treaddir brought.
enum Listed {
    End,
    /// Nothing to show, and where to go on.
    Dots(u64),
    Entries,
}

/// A Treaddir that was sent before anybody asked for it. It is of use only to who goes on there.
pub(super) struct Ahead {
    from: u64,
    parked: Parked,
}

impl Handle {
    /// Shows what one reply brings from `from` on; whether there may be more.
    pub(super) fn list(
        &self,
        call: &Call<'_>,
        mut from: u64,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> RemoteResult<bool> {
        for _ in 0..DOTS_MAX {
            match self.list_some(call, from, each)? {
                Listed::End => return Ok(false),
                Listed::Entries => return Ok(true),
                // The caller saw nothing, so it does not know where to go on.
                Listed::Dots(next) => from = next,
            }
        }
        Err(RemoteError::refused(Errno::EIO))
    }

    /// One Treaddir.
    fn list_some(
        &self,
        call: &Call<'_>,
        from: u64,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> RemoteResult<Listed> {
        let session = self.session();
        let ahead = !session.has_channels();
        let size = match ahead {
            true => READDIR_AHEAD_SIZE,
            false => READDIR_SIZE,
        };
        let count = session.payload().min(size);
        // A rewind, or a seek, wants fresh entries.
        let parked = self.ahead.lock().take();
        let parked = parked.filter(|ahead| ahead.from == from);
        let (mut exchange, index) = match parked {
            Some(Ahead { parked, .. }) => (parked.resume(session, call), 0),
            None => self.ask(call, from, count)?,
        };
        exchange.run()?;
        let entries = exchange.reply::<Treaddir>(index)?.entries;
        if entries.as_bytes().len() > count as usize {
            return Err(exchange.broken("more entries than were asked for"));
        }
        if ahead && let Some(from) = last_offset(entries) {
            self.read_ahead(call, from, count);
        }
        let mut listed = Listed::End;
        for entry in entries.iter() {
            let Ok(entry) = entry else {
                return Err(exchange.broken("directory entry that does not decode"));
            };
            if !matches!(entry.name, b"." | b"..") {
                listed = Listed::Entries;
                if each(dir_entry(session, entry)?).is_break() {
                    break;
                }
            } else if !matches!(listed, Listed::Entries) {
                listed = Listed::Dots(entry.offset);
            }
        }
        Ok(listed)
    }

    fn ask<'h>(
        &'h self,
        call: &Call<'h>,
        offset: u64,
        count: u32,
    ) -> RemoteResult<(Exchange<'h>, usize)> {
        let mut exchange = self.session().begin(call);
        let fid = self.fid();
        let request = Treaddir { fid, offset, count };
        let index = exchange.push(request, Effect::None)?;
        Ok((exchange, index))
    }

    /// Asks for the entries from `from` on, and does not wait for them. If that fails they are
    /// asked for when they are wanted.
    fn read_ahead(&self, call: &Call<'_>, from: u64, count: u32) {
        let Ok((mut exchange, _)) = self.ask(call, from, count) else {
            return;
        };
        if exchange.run_with(&[], None, usize::MAX).is_ok() {
            let parked = exchange.park();
            *self.ahead.lock() = Some(Ahead { from, parked });
        }
    }
}

/// Where to go on behind the entries; `None` when there are none, or they are not whole.
fn last_offset(entries: Dirents<'_>) -> Option<u64> {
    let mut last = None;
    for entry in entries.iter() {
        last = Some(entry.ok()?.offset);
    }
    last
}

/// An entry for the caller. A name that is none is the server's fault: `EIO`.
fn dir_entry<'a>(session: &Session, entry: Dirent<'a>) -> RemoteResult<DirEntry<'a>> {
    let name = Name::new(entry.name)
        .ok()
        .filter(|name| name.as_bytes().len() <= NAME_MAX);
    // gVisor puts the qid's type where others have a DT number (9P 8.19); DT numbers are small,
    // and a DT number never contradicts the qid.
    let by_qid = convert::qid_type(entry.qid);
    let by_number = FileType::from_dirent_type(entry.kind).filter(|_| entry.kind < 16);
    let plausible = |file_type: &FileType| match by_qid {
        Some(by_qid) => by_qid == *file_type,
        None => !matches!(file_type, FileType::Directory | FileType::Symlink),
    };
    Ok(DirEntry {
        name: name.ok_or(RemoteError::refused(Errno::EIO))?,
        key: session.key(entry.qid),
        file_type: by_number.filter(plausible).or(by_qid),
        attr: None,
        next: DirPos(entry.offset),
    })
}
