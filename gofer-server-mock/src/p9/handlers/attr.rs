//! Attributes: Tgetattr, Tsetattr, Tsetattrclunk, Tstatfs, Treadlink.

use gofer_9p::wire::{
    NO_ID, Rgetattr, Rreadlink, Rsetattr, Rsetattrclunk, Rstatfs, SetattrMask, Tclunk, Tgetattr,
    Treadlink, Tsetattr, Tsetattrclunk, Tstatfs,
};

use crate::host::{Errno, Owner, Result, SetTime};
use crate::p9::fids::{State, Target};
use crate::p9::qid;
use crate::p9::reply::Reply;
use crate::p9::session::Session;

impl Session {
    /// All attributes the host has, whichever were asked for (9P 8.15). The fid's descriptor
    /// names the file, so it may have lost its name.
    pub(super) fn getattr(&self, request: Tgetattr) -> Result<Rgetattr> {
        let target = self.target(request.fid)?;
        let stat = target.file()?.stat()?;
        let (valid, attr) = qid::attributes(&stat);
        Ok(Rgetattr {
            valid,
            qid: self.qid(&stat),
            attr,
        })
    }

    /// Changes attributes (9P 8.16).
    pub(super) fn setattr(&self, request: Tsetattr) -> Result<Rsetattr> {
        let (target, _acting) = self.act(request.fid)?;
        self.change(&target, &request)?;
        Ok(Rsetattr {})
    }

    /// [`Session::setattr`], then the fid ends whatever came of it (9P 9.11).
    pub(super) fn setattr_clunk(&self, request: Tsetattrclunk) -> Result<Rsetattrclunk> {
        let fid = request.fid;
        let changed = self.setattr(Tsetattr {
            fid,
            valid: request.valid,
            mode: request.mode,
            uid: request.uid,
            gid: request.gid,
            size: request.size,
            atime_sec: request.atime_sec,
            atime_nsec: request.atime_nsec,
            mtime_sec: request.mtime_sec,
            mtime_nsec: request.mtime_nsec,
        });
        let ended = self.clunk(Tclunk { fid });
        changed?;
        ended?;
        Ok(Rsetattrclunk {})
    }

    /// Size, owner, mode, times, in this order: a new owner clears mode bits, a new size sets
    /// times. The first failure ends it.
    fn change(&self, target: &Target, request: &Tsetattr) -> Result<()> {
        let node = target.file()?;
        self.check_writable()?;
        let asked = |bit| request.valid.contains(bit);
        let set_time = |bit, value_bit, sec: u64, nsec: u64| match (asked(bit), asked(value_bit)) {
            (false, _) => Ok(SetTime::Omit),
            (true, false) => Ok(SetTime::Now),
            // Numbers of a second and more have meanings of their own for the host.
            (true, true) if nsec >= 1_000_000_000 => Err(Errno::INVAL),
            (true, true) => Ok(SetTime::At {
                sec: sec as i64,
                nsec: nsec as i64,
            }),
        };
        let (atime_sec, atime_nsec) = (request.atime_sec, request.atime_nsec);
        let (mtime_sec, mtime_nsec) = (request.mtime_sec, request.mtime_nsec);
        let atime = set_time(
            SetattrMask::ATIME,
            SetattrMask::ATIME_SET,
            atime_sec,
            atime_nsec,
        )?;
        let mut mtime = set_time(
            SetattrMask::MTIME,
            SetattrMask::MTIME_SET,
            mtime_sec,
            mtime_nsec,
        )?;

        if asked(SetattrMask::SIZE) {
            match &target.state {
                // The mode of the file does not matter any more.
                State::Open(open) if open.file.can_write() => {
                    open.file.set_size(request.size)?;
                    if mtime == SetTime::Now {
                        // It is done, also where the user may not set times any more.
                        mtime = SetTime::Omit;
                    }
                }
                _ => node.edit()?.set_size(request.size)?,
            }
        }
        let mut edit = node.edit()?;
        let id = |bit, id| Some(id).filter(|&id| asked(bit) && id != NO_ID);
        edit.set_owner(Owner {
            uid: id(SetattrMask::UID, request.uid),
            gid: id(SetattrMask::GID, request.gid),
        })?;
        if asked(SetattrMask::MODE) {
            edit.set_mode(request.mode & 0o7777)?;
        }
        if (atime, mtime) != (SetTime::Omit, SetTime::Omit) {
            edit.set_times(atime, mtime)?;
        }
        Ok(())
    }

    /// Numbers of the file system a file is on, as the host has them (9P 8.8).
    pub(super) fn statfs(&self, request: Tstatfs) -> Result<Rstatfs> {
        let target = self.target(request.fid)?;
        let numbers = target.file()?.statfs()?;
        Ok(Rstatfs {
            r#type: numbers.f_type as u32,
            bsize: numbers.f_bsize as u32,
            blocks: numbers.f_blocks,
            bfree: numbers.f_bfree,
            bavail: numbers.f_bavail,
            files: numbers.f_files,
            ffree: numbers.f_ffree,
            fsid: target.file()?.filesystem_id()?,
            namelen: numbers.f_namelen as u32,
        })
    }

    /// The target of a symbolic link; `EINVAL` for other files (9P 8.14).
    pub(super) fn read_link(&self, request: Treadlink, reply: &mut Reply) -> Result<()> {
        let target = self.target(request.fid)?.file()?.read_link()?;
        reply.send(Rreadlink { target: &target })
    }
}
