//! Walking down names, for files (Walk) and for their attributes only (WalkStat).

use std::sync::Arc;

use gofer_vfs::remote::{
    Call, Found, Promptness, RemoteError, RemoteFile, RemoteResult, Seen, WalkEnd,
};
use gofer_vfs::{Errno, FileType, Name};

use super::connection::Connection;
use super::convert;
use super::file::ControlFile;
use crate::wire::{
    Inode, Message, Statx, Strings, WalkReq, WalkResp, WalkStatReq, WalkStatResp, WalkStatus,
};

/// Names that are sent from the stack; more need a list on the heap.
const FEW: usize = 16;

/// As [`RemoteFile::walk`].
pub(super) fn walk(
    from: &ControlFile,
    call: &Call<'_>,
    names: &[Name<'_>],
    found: &mut dyn FnMut(Found),
) -> RemoteResult<WalkEnd> {
    let connection = &from.connection;
    let most = room(connection, WalkResp::MIN_SIZE) / size_of::<Inode>();
    let asked = fitting(
        names.iter().copied(),
        room(connection, WalkReq::MIN_SIZE),
        most,
    );
    let strings = names[..asked].iter().map(Name::as_bytes);
    let end = with_strings(asked, strings, |path| {
        connection.call(
            call,
            &WalkReq {
                dir_fd: from.fd,
                path,
            },
            |response, _| {
                let end =
                    judge(&response, asked).inspect_err(|_| reject(connection, response.inodes))?;
                adopt_all(connection, response.inodes, found)?;
                Ok(end)
            },
        )
    })?;
    match end {
        WalkEnd::Complete if asked < names.len() => Ok(WalkEnd::CallAgain),
        end => Ok(end),
    }
}

/// Bytes of payload that are left beside `fixed` ones.
fn room(connection: &Connection, fixed: usize) -> usize {
    (connection.terms().max_message_size as usize).saturating_sub(fixed)
}

/// How many of `names` fit into a request with `room` bytes for them, and into a list of at most
/// `most`. At least one: a message too large for even that is refused where it is sent.
fn fitting<'n>(names: impl Iterator<Item = Name<'n>>, room: usize, most: usize) -> usize {
    let mut size = 0;
    names
        .take(most.clamp(1, usize::from(u16::MAX)))
        .take_while(|name| {
            size += 2 + name.as_bytes().len();
            size <= room
        })
        .count()
        .max(1)
}

/// Makes a list of `count` strings, on the stack when they are few.
fn with_strings<'s, T>(
    count: usize,
    strings: impl Iterator<Item = &'s [u8]>,
    send: impl FnOnce(Strings<'_>) -> T,
) -> T {
    let mut few = [&b""[..]; FEW];
    match few.get_mut(..count) {
        Some(list) => {
            list.iter_mut()
                .zip(strings)
                .for_each(|(place, string)| *place = string);
            send(Strings::new(list))
        }
        None => send(Strings::new(&strings.collect::<Vec<_>>())),
    }
}

/// Whether status, number and types of the inodes agree (lisafs 6.5, 10.4).
fn judge(response: &WalkResp<'_>, asked: usize) -> RemoteResult<WalkEnd> {
    let bad = Err(RemoteError::unknown(Errno::EIO));
    let count = response.inodes.len();
    let kind = |inode: &Inode| FileType::from_mode(inode.stat.mode.get().into());
    // Only a directory can have another file below it.
    if let Some((_, above)) = response.inodes.split_last()
        && above
            .iter()
            .any(|inode| kind(inode) != Some(FileType::Directory))
    {
        return bad;
    }
    match response.status {
        _ if count > asked => bad,
        WalkStatus::SUCCESS if count == 0 => Ok(WalkEnd::Missing),
        WalkStatus::SUCCESS if count == asked => Ok(WalkEnd::Complete),
        WalkStatus::MISSING if count < asked => Ok(WalkEnd::Missing),
        // The start itself is a link, or a single name ended "before its last component".
        WalkStatus::SYMLINK if count == 0 || asked == 1 => {
            Err(RemoteError::refused(Errno::ENOTDIR))
        }
        WalkStatus::SYMLINK
            if count < asked
                && response.inodes.last().and_then(kind) == Some(FileType::Symlink) =>
        {
            Ok(WalkEnd::Symlink)
        }
        _ => bad,
    }
}

/// Takes over and emits all files or, when one of them cannot be one, none.
fn adopt_all(
    connection: &Arc<Connection>,
    inodes: &[Inode],
    found: &mut dyn FnMut(Found),
) -> RemoteResult<()> {
    if !inodes.iter().all(ControlFile::can_adopt) {
        reject(connection, inodes);
        return Err(RemoteError::unknown(Errno::EIO));
    }
    for inode in inodes {
        found(ControlFile::adopt(connection, inode)?);
    }
    Ok(())
}

fn reject(connection: &Connection, inodes: &[Inode]) {
    for inode in inodes {
        connection
            .closes
            .push(inode.control_fd, Promptness::Batched);
    }
}

/// As [`RemoteFile::revalidate`].
pub(super) fn revalidate(
    from: &ControlFile,
    call: &Call<'_>,
    known: &[(Name<'_>, &dyn RemoteFile)],
    seen: &mut dyn FnMut(Seen),
) -> RemoteResult<()> {
    look(from, call, true, known, seen)
}

/// Looks at `from`, if `itself` is wanted, and at the files below it. More names than a message
/// can carry go on from the last one that fitted.
fn look(
    from: &ControlFile,
    call: &Call<'_>,
    itself: bool,
    known: &[(Name<'_>, &dyn RemoteFile)],
    seen: &mut dyn FnMut(Seen),
) -> RemoteResult<()> {
    let connection = &from.connection;
    let own = usize::from(itself);
    let room_in_request = room(connection, WalkStatReq::MIN_SIZE + 2 * own);
    let most = (room(connection, WalkStatResp::MIN_SIZE) / size_of::<Statx>()).saturating_sub(own);
    let names = known.iter().map(|(name, _)| *name);
    let count = match known {
        [] => 0,
        _ => fitting(names.clone(), room_in_request, most),
    };
    // An empty first name is the start itself (lisafs 6.6).
    let strings = std::iter::repeat_n(&b""[..], own).chain(names.take(count).map(|n| n.as_bytes()));
    let complete = with_strings(own + count, strings, |path| {
        connection.call(
            call,
            &WalkStatReq {
                dir_fd: from.fd,
                path,
            },
            |response, _| emit(response.stats, own + count, seen),
        )
    })?;
    match (known[..count].last(), &known[count..]) {
        (Some((_, last)), rest) if complete && !rest.is_empty() => {
            look(from.sibling(*last)?, call, false, rest, seen)
        }
        _ => Ok(()),
    }
}

/// Emits what was seen, up to the first file that is no directory. Whether that was all that was
/// asked for. Fewer results than names is no error, not even none for the start: some servers
/// forget that entry when the start is a link (semantics 24, defect 78).
fn emit(stats: &[Statx], asked: usize, seen: &mut dyn FnMut(Seen)) -> RemoteResult<bool> {
    if stats.len() > asked {
        return Err(RemoteError::unknown(Errno::EIO));
    }
    for stat in stats {
        let attr = convert::attr(stat).map_err(RemoteError::unknown)?;
        let key = convert::stat_key(stat);
        seen(Seen { key, attr });
        if attr.file_type != FileType::Directory {
            return Ok(false);
        }
    }
    Ok(stats.len() == asked)
}
