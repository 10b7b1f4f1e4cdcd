//! Making files that are not opened: Tmkdir, Tmknod, Tsymlink, each also with an owner.

use gofer_9p::wire::{
    NO_ID, Qid, Rmkdir, Rmknod, Rsymlink, Rumkdir, Rumknod, Rusymlink, Tmkdir, Tmknod, Tsymlink,
    Tumkdir, Tumknod, Tusymlink,
};

use super::open::owner;
use crate::host::{Errno, FileType, Name, Result};
use crate::p9::session::Session;

impl Session {
    /// Makes a directory (9P 8.21).
    pub(super) fn mkdir(&self, request: Tmkdir<'_>) -> Result<Rmkdir> {
        let Tmkdir {
            dfid,
            name,
            mode,
            gid,
        } = request;
        let uid = NO_ID;
        let qid = self.make_dir(Tumkdir {
            dfid,
            name,
            mode,
            gid,
            uid,
        })?;
        Ok(Rmkdir { qid })
    }

    /// As [`Session::mkdir`] with an owner (9P 9.4).
    pub(super) fn mkdir_with_owner(&self, request: Tumkdir<'_>) -> Result<Rumkdir> {
        let qid = self.make_dir(request)?;
        Ok(Rumkdir { qid })
    }

    fn make_dir(&self, request: Tumkdir<'_>) -> Result<Qid> {
        let (target, _acting) = self.act(request.dfid)?;
        let name = Name::new(request.name)?;
        let owner = owner(request.uid, request.gid);
        let found = target.file()?.mkdir(name, request.mode & 0o7777, owner)?;
        // mkdir(2) leaves these out.
        let special = request.mode & 0o6000;
        let mode = u32::from(found.stat.stx_mode) & 0o7777;
        if special & !mode != 0 {
            found.node.edit()?.set_mode(mode | special)?;
        }
        Ok(self.qid(&found.stat))
    }

    /// Makes a fifo, a socket, a device or an empty file (9P 8.12).
    pub(super) fn mknod(&self, request: Tmknod<'_>) -> Result<Rmknod> {
        let Tmknod {
            dfid,
            name,
            mode,
            major,
            minor,
            gid,
        } = request;
        let uid = NO_ID;
        let qid = self.make_node(Tumknod {
            dfid,
            name,
            mode,
            major,
            minor,
            gid,
            uid,
        })?;
        Ok(Rmknod { qid })
    }

    /// As [`Session::mknod`] with an owner (9P 9.4).
    pub(super) fn mknod_with_owner(&self, request: Tumknod<'_>) -> Result<Rumknod> {
        let qid = self.make_node(request)?;
        Ok(Rumknod { qid })
    }

    fn make_node(&self, request: Tumknod<'_>) -> Result<Qid> {
        let (target, _acting) = self.act(request.dfid)?;
        let name = Name::new(request.name)?;
        let file_type = match FileType::from_raw_mode(request.mode) {
            FileType::Directory | FileType::Symlink => return Err(Errno::INVAL),
            FileType::Unknown if request.mode & 0o170_000 != 0 => return Err(Errno::INVAL),
            FileType::Unknown => FileType::RegularFile,
            file_type => file_type,
        };
        let device = (request.major, request.minor);
        let mode = request.mode & 0o7777;
        let owner = owner(request.uid, request.gid);
        let found = target.file()?.mknod(name, file_type, mode, device, owner)?;
        Ok(self.qid(&found.stat))
    }

    /// Makes a symbolic link; any target will do (9P 8.11).
    pub(super) fn symlink(&self, request: Tsymlink<'_>) -> Result<Rsymlink> {
        let Tsymlink {
            dfid,
            name,
            symtgt,
            gid,
        } = request;
        let uid = NO_ID;
        let qid = self.make_symlink(Tusymlink {
            dfid,
            name,
            symtgt,
            gid,
            uid,
        })?;
        Ok(Rsymlink { qid })
    }

    /// As [`Session::symlink`] with an owner (9P 9.4).
    pub(super) fn symlink_with_owner(&self, request: Tusymlink<'_>) -> Result<Rusymlink> {
        let qid = self.make_symlink(request)?;
        Ok(Rusymlink { qid })
    }

    fn make_symlink(&self, request: Tusymlink<'_>) -> Result<Qid> {
        let (target, _acting) = self.act(request.dfid)?;
        let name = Name::new(request.name)?;
        let owner = owner(request.uid, request.gid);
        let found = target.file()?.symlink(name, request.symtgt, owner)?;
        Ok(self.qid(&found.stat))
    }
}
