//! Content: Tread, Twrite, Treaddir, Tfsync, Tflushf, Tallocate.

use std::ops::{ControlFlow, Range};

use gofer_9p::wire::{
    Dirent, Fid, Qid, Rallocate, Rflushf, Rfsync, Rwrite, Tallocate, Tflushf, Tfsync, Tread,
    Treaddir, Twrite,
};
use gofer_transport::codec::Writer;
use gofer_transport::shm::Window;

use crate::host::{DirEntry, Errno, FileType, Identity, OpenFile, ReadNow, Result};
use crate::p9::SHARED;
use crate::p9::fids::{State, Target, XATTR_SIZE_MAX, XattrWrite};
use crate::p9::qid;
use crate::p9::reply::{Pace, Reply};
use crate::p9::session::Session;

impl Session {
    /// Reads from a file or from the value of an attribute; too large a count is cut (9P 8.6).
    pub(super) fn read(&self, request: Tread, reply: &mut Reply) -> Result<()> {
        let target = self.target(request.fid)?;
        let count = self.payload_max().min(request.count as usize);
        match &target.state {
            State::Open(_) if target.node.is_dir() => Err(Errno::ISDIR),
            State::Open(open) => read_file(&open.file, count, request.offset, reply),
            State::XattrRead(value) => {
                let start = usize::try_from(request.offset).unwrap_or(usize::MAX);
                let rest = value.bytes.get(start..).unwrap_or_default();
                reply.send_read(count.min(rest.len()), |buffer| {
                    let count = buffer.len();
                    buffer.copy_from_slice(rest.get(..count).unwrap_or_default());
                    Ok(count)
                })
            }
            State::Unopened | State::XattrWrite(_) => Err(Errno::BADF),
        }
    }

    /// Writes to a file, or the value of an attribute before it is stored (9P 8.7).
    pub(super) fn write(&self, request: Twrite<'_>, reply: &mut Reply) -> Result<()> {
        // Whoever writes clears set-user-id bits, unless it may set them.
        let (target, _acting) = self.act(request.fid)?;
        let data = request.data.as_bytes();
        let count = match &target.state {
            State::Open(open) if open.file.is_synchronous() && reply.pace() != Pace::Any => {
                reply.postpone();
                return Ok(());
            }
            State::Open(open) => open.file.write_at(data, request.offset)?,
            State::XattrWrite(write) => write_value(write, data, request.offset)?,
            State::Unopened | State::XattrRead(_) => return Err(Errno::BADF),
        };
        send_written(count, data.len(), reply)
    }

    /// As [`Session::write`], from `place` in the window of a channel.
    pub(in crate::p9) fn write_from(
        &self,
        window: &Window,
        place: Range<usize>,
        fid: Fid,
        offset: u64,
        reply: &mut Reply,
    ) -> Result<()> {
        let (target, _acting) = self.act(fid)?;
        let count = match &target.state {
            State::Open(open) => {
                open.file
                    .write_with(place.len(), offset, |file, offset, part| {
                        window.write_to(file, offset, place.start + part.start, part.len())
                    })?
            }
            State::XattrWrite(write) => {
                // Not more than a value can have: the rest would be refused anyway.
                let mut data = vec![0; place.len().min(XATTR_SIZE_MAX + 1)];
                window.read(place.start, &mut data);
                write_value(write, &data, offset)?
            }
            State::Unopened | State::XattrRead(_) => return Err(Errno::BADF),
        };
        send_written(count, place.len(), reply)
    }

    /// Lists as many entries behind the cookie as fit. Where not even one fits, that is `EINVAL`:
    /// an empty reply is the end (9P 8.19).
    pub(super) fn read_dir(&self, request: Treaddir, reply: &mut Reply) -> Result<()> {
        let target = self.target(request.fid)?;
        let open = target.open()?;
        let room = self.payload_max().min(request.count as usize);
        reply.send_entries(|out| {
            let begin = out.len();
            let mut failed = None;
            open.file
                .read_dir(request.offset, usize::MAX, &mut |entry| {
                    if out.len() - begin + Dirent::HEAD_SIZE + entry.name.len() > room {
                        if out.len() == begin {
                            failed = Some(Errno::INVAL);
                        }
                        return ControlFlow::Break(());
                    }
                    if let Some(dirent) = dirent(&target, entry) {
                        dirent.write(&mut Writer::new(out));
                    }
                    ControlFlow::Continue(())
                })?;
            failed.map_or(Ok(()), Err)
        })
    }

    /// Brings a file or directory to stable storage; the old form of the request has no
    /// `datasync` (9P 8.22).
    pub(super) fn fsync(&self, request: Tfsync) -> Result<Rfsync> {
        let target = self.target(request.fid)?;
        let data_only = request.datasync.is_some_and(|datasync| datasync != 0);
        target.open()?.file.sync(data_only)?;
        Ok(Rfsync {})
    }

    /// Nothing is buffered here that the host does not have yet (9P 9.2).
    pub(super) fn flush_file(&self, request: Tflushf) -> Result<Rflushf> {
        self.target(request.fid)?;
        Ok(Rflushf {})
    }

    /// fallocate(2) (9P 9.6).
    pub(super) fn allocate(&self, request: Tallocate) -> Result<Rallocate> {
        let (target, _acting) = self.act(request.fid)?;
        self.check_writable()?;
        let file = &target.open()?.file;
        file.allocate(request.mode, request.offset, request.length)?;
        Ok(Rallocate {})
    }
}

/// Reads from an open file. Where the pace does not allow to wait for storage, puts it off instead.
fn read_file(file: &OpenFile, count: usize, offset: u64, reply: &mut Reply) -> Result<()> {
    let pace = reply.pace();
    if pace == Pace::Any {
        return reply.send_file(file, count, offset);
    }
    let mut put_off = false;
    reply.send_read(count, |buffer| match file.read_now(buffer, offset)? {
        ReadNow::Done(count) => Ok(count),
        ReadNow::Unknown if pace == Pace::Brisk => file.read_at(buffer, offset),
        ReadNow::Unknown | ReadNow::WouldWait => {
            put_off = true;
            Ok(0)
        }
    })?;
    if put_off {
        reply.postpone();
    }
    Ok(())
}

/// Answers that `count` of `asked` bytes were written.
fn send_written(count: usize, asked: usize, reply: &mut Reply) -> Result<()> {
    if count == 0 && asked != 0 {
        // The kernel client would try again for ever.
        return Err(Errno::IO);
    }
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    reply.send(Rwrite { count })
}

/// Puts `data` into the value that a clunk will store, never beyond what was announced.
fn write_value(write: &XattrWrite, data: &[u8], offset: u64) -> Result<usize> {
    let start = usize::try_from(offset).map_err(|_| Errno::INVAL)?;
    let end = start.checked_add(data.len()).ok_or(Errno::INVAL)?;
    if end > write.size {
        return Err(Errno::NOSPC);
    }
    let value = &mut write.value.lock().bytes;
    if start > value.len() {
        return Err(Errno::INVAL);
    }
    if value.len() < end {
        value.resize(end, 0);
    }
    if let Some(place) = value.get_mut(start..end) {
        place.copy_from_slice(data);
    }
    Ok(data.len())
}

/// An entry for the wire. Its qid has the number that the directory lists, without a look at the
/// file, and no version. `None` for one that cannot be looked at.
fn dirent<'a>(target: &Target, entry: &DirEntry<'a>) -> Option<Dirent<'a>> {
    let dir = &target.node;
    let (file, file_type) = match entry.name {
        b"." => (dir.identity(), FileType::Directory),
        b".." if dir.identity() == target.attach.root.identity() => {
            (dir.identity(), FileType::Directory)
        }
        b".." => (dir.parent().identity(), FileType::Directory),
        _ => {
            let ino = entry.ino;
            (
                Identity {
                    ino,
                    ..dir.identity()
                },
                entry.known_type()?,
            )
        }
    };
    Some(Dirent {
        qid: Qid {
            kind: qid::qid_type(file_type),
            version: 0,
            path: SHARED.qid_paths.path(file),
        },
        offset: entry.cookie,
        kind: qid::entry_type(file_type),
        name: entry.name,
    })
}
