//! A place in the tree: an unopened fid.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use gofer_vfs::remote::{
    Call, Found, New, OpenMode, Owner, Promptness, RemoteError, RemoteFile, RemoteHandle,
    RemoteResult, RemoteSocket, Seen, SocketType, WalkEnd,
};
use gofer_vfs::{
    Attr, AttrMask, Errno, FileType, Name, RenameFlags, SetAttr, SetAttrReport, StatFs, XattrFlags,
};

use super::fid::OwnedFid;
use super::handle::Handle;
use super::session::Session;
use super::table::Effect;
use super::{ByName, convert};
use crate::wire::{
    self, AttrBlock, Fid, GetattrMask, Level, Names, Qid, QidType, Tgetattr, Tlconnect, Tlink,
    Treadlink, Tremove, Trename, Trenameat, Tstatfs, Tunlinkat, UnlinkFlags,
};

/// The file that an unopened fid names.
pub(super) struct File {
    pub(super) fid: OwnedFid,
    pub(super) qid: Qid,
    pub(super) file_type: FileType,
    pub(super) names: Arc<ByName>,
}

impl File {
    /// Makes a file of what a walk or an attach brought.
    pub(super) fn found(
        fid: OwnedFid,
        names: &Arc<ByName>,
        qid: Qid,
        valid: GetattrMask,
        block: &AttrBlock,
    ) -> RemoteResult<Found> {
        let attr = convert::attr(fid.session().version(), qid, valid, block)?;
        let key = fid.session().key(qid);
        let names = names.clone();
        let file = Arc::new(File {
            fid,
            qid,
            file_type: attr.file_type,
            names,
        });
        Ok(Found { file, key, attr })
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        self.fid.session()
    }

    pub(super) fn fid(&self) -> Fid {
        self.fid.get()
    }

    /// A file of this connection; `ESTALE` for one of an earlier connection, else `EXDEV`.
    pub(super) fn of<'f>(&self, file: &'f dyn RemoteFile) -> RemoteResult<&'f File> {
        let file = (file as &dyn Any)
            .downcast_ref::<File>()
            .ok_or(RemoteError::not_sent(Errno::EXDEV))?;
        match Arc::ptr_eq(file.session(), self.session()) {
            true => Ok(file),
            false => Err(self.session().mismatch(file.session())),
        }
    }

    /// Attributes of any fid.
    pub(super) fn getattr(
        session: &Arc<Session>,
        call: &Call<'_>,
        fid: Fid,
        want: AttrMask,
    ) -> RemoteResult<Attr> {
        let request = Tgetattr {
            fid,
            request_mask: convert::request_mask(want),
        };
        let reply = session.call(call, request, |reply| reply)?;
        convert::attr(session.version(), reply.qid, reply.valid, &reply.attr)
    }

    /// Removes by fid, for servers that cannot by name. The walk makes sure that it is this name
    /// that goes, not another of the same file.
    fn remove(&self, call: &Call<'_>, name: Name<'_>, dir: bool) -> RemoteResult<()> {
        let (fid, qid) = self.walk_one(call, name)?;
        match (dir, qid.kind.contains(QidType::DIR)) {
            (true, false) => return Err(RemoteError::refused(Errno::ENOTDIR)),
            (false, true) => return Err(RemoteError::refused(Errno::EISDIR)),
            _ => {}
        }
        let Some(fid) = fid.disown() else {
            return Err(RemoteError::not_sent(Errno::EIO));
        };
        let mut exchange = self.session().begin(call);
        let index = exchange.push(Tremove { fid }, Effect::Ends { fid, retire: false })?;
        exchange.run()?;
        exchange.reply::<Tremove>(index).map(|_| ())
    }
}

/// Whether the server says that it lacks the message (9P 12.9: only this number).
fn lacking(result: &RemoteResult<()>) -> bool {
    matches!(result, Err(error) if *error == RemoteError::refused(Errno::EOPNOTSUPP))
}

impl RemoteFile for File {
    fn walk(
        &self,
        call: &Call<'_>,
        names: &[Name<'_>],
        found: &mut dyn FnMut(Found),
    ) -> RemoteResult<WalkEnd> {
        self.walk_names(call, names, found)
    }

    fn revalidate(
        &self,
        call: &Call<'_>,
        known: &[(Name<'_>, &dyn RemoteFile)],
        seen: &mut dyn FnMut(Seen),
    ) -> RemoteResult<()> {
        self.revalidate_known(call, known, seen)
    }

    fn attr(&self, call: &Call<'_>, want: AttrMask) -> RemoteResult<Attr> {
        File::getattr(self.session(), call, self.fid(), want)
    }

    fn set_attr(
        &self,
        call: &Call<'_>,
        set: &SetAttr,
        through: Option<&dyn RemoteHandle>,
    ) -> RemoteResult<SetAttrReport> {
        let fid = match through {
            None => self.fid(),
            Some(handle) => {
                let handle = (handle as &dyn Any).downcast_ref::<Handle>();
                Handle::fid_in(handle, self.session())?
            }
        };
        let Some(request) = convert::setattr(fid, set) else {
            return Ok(SetAttrReport::default());
        };
        match self.session().call(call, request, |_| ()) {
            Ok(()) => Ok(SetAttrReport::default()),
            // All or nothing, so far as the reply tells.
            Err(error) if error.fate == gofer_vfs::remote::Fate::Refused => Ok(SetAttrReport {
                failed: set.mask(),
                errno: Some(error.errno),
            }),
            Err(error) => Err(error),
        }
    }

    fn open(&self, call: &Call<'_>, mode: OpenMode) -> RemoteResult<Arc<dyn RemoteHandle>> {
        self.open_clone(call, mode)
    }

    fn create(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        perm: u16,
        owner: Owner,
        mode: OpenMode,
    ) -> RemoteResult<(Found, Arc<dyn RemoteHandle>)> {
        self.create_open(call, name, perm, owner, mode)
    }

    fn make(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        new: New<'_>,
        perm: u16,
        owner: Owner,
    ) -> RemoteResult<Option<Found>> {
        // Only a qid comes back: attributes and a fid would take another round trip.
        self.make_new(call, name, new, perm, owner).map(|()| None)
    }

    fn link(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        target: &dyn RemoteFile,
    ) -> RemoteResult<Option<Found>> {
        let target = self.of(target)?;
        let request = Tlink {
            dfid: self.fid(),
            fid: target.fid(),
            name: name.as_bytes(),
        };
        self.session().call(call, request, |_| None)
    }

    fn unlink(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        dir: bool,
        _child: Option<&dyn RemoteFile>,
    ) -> RemoteResult<()> {
        if !self.names.no_unlinkat.load(Relaxed) {
            let mut flags = UnlinkFlags::empty();
            flags.set(UnlinkFlags::REMOVEDIR, dir);
            let request = Tunlinkat {
                dirfid: self.fid(),
                name: name.as_bytes(),
                flags,
            };
            let result = self.session().call(call, request, |_| ());
            if !lacking(&result) {
                return result;
            }
            self.names.no_unlinkat.store(true, Relaxed);
        }
        self.remove(call, name, dir)
    }

    fn rename(
        &self,
        call: &Call<'_>,
        from: Name<'_>,
        moved: Option<&dyn RemoteFile>,
        to: (&dyn RemoteFile, Name<'_>),
        flags: RenameFlags,
    ) -> RemoteResult<()> {
        let (dir, name) = (self.of(to.0)?, to.1.as_bytes());
        if !flags.is_empty() {
            return Err(RemoteError::not_sent(Errno::EINVAL));
        }
        if !self.names.no_renameat.load(Relaxed) {
            let request = Trenameat {
                olddirfid: self.fid(),
                oldname: from.as_bytes(),
                newdirfid: dir.fid(),
                newname: name,
            };
            let result = self.session().call(call, request, |_| ());
            if !lacking(&result) {
                return result;
            }
            self.names.no_renameat.store(true, Relaxed);
        }
        // The caller's own fid is the one that diod lets follow (9P 5.5).
        let walked;
        let fid = match moved {
            Some(file) => self.of(file)?.fid(),
            None => {
                walked = self.walk_one(call, from)?.0;
                walked.get()
            }
        };
        self.session().call(
            call,
            Trename {
                fid,
                dfid: dir.fid(),
                name,
            },
            |_| (),
        )
    }

    fn read_link(&self, call: &Call<'_>) -> RemoteResult<Vec<u8>> {
        let request = Treadlink { fid: self.fid() };
        let target = self
            .session()
            .call(call, request, |reply| reply.target.to_vec())?;
        // No link on Linux has an empty target, or a zero byte in it.
        match target.is_empty() || target.contains(&0) {
            true => Err(RemoteError::refused(Errno::EIO)),
            false => Ok(target),
        }
    }

    fn stat_fs(&self, call: &Call<'_>) -> RemoteResult<StatFs> {
        self.session()
            .call(call, Tstatfs { fid: self.fid() }, convert::statfs)
            .map_err(convert::unsupported)
    }

    fn get_xattr(&self, call: &Call<'_>, name: &[u8], limit: usize) -> RemoteResult<Vec<u8>> {
        self.xattr_value(call, name, limit)
            .map_err(convert::unsupported)
    }

    fn set_xattr(
        &self,
        call: &Call<'_>,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> RemoteResult<()> {
        let flags = wire::XattrFlags::from_bits_retain(flags.bits());
        self.xattr_store(call, name, value, flags)
            .map_err(convert::unsupported)
    }

    fn list_xattr(&self, call: &Call<'_>, each: &mut dyn FnMut(&[u8])) -> RemoteResult<()> {
        self.xattr_names(call, each).map_err(convert::unsupported)
    }

    fn remove_xattr(&self, call: &Call<'_>, name: &[u8]) -> RemoteResult<()> {
        self.xattr_remove(call, name).map_err(convert::unsupported)
    }

    fn connect(&self, call: &Call<'_>, kind: SocketType) -> RemoteResult<OwnedFd> {
        let session = self.session();
        if !session.has(Level::Connect) {
            return Err(RemoteError::not_sent(Errno::ECONNREFUSED));
        }
        let socket_type = match kind {
            SocketType::Stream => wire::SocketType::STREAM,
            SocketType::Datagram => wire::SocketType::DATAGRAM,
            SocketType::SeqPacket => wire::SocketType::SEQPACKET,
            SocketType::Any if session.has(Level::AnonymousSocket) => wire::SocketType::ANONYMOUS,
            // The server cannot choose: the usual type.
            SocketType::Any => wire::SocketType::STREAM,
        };
        let mut exchange = session.begin(call);
        let request = Tlconnect {
            fid: self.fid(),
            socket_type,
        };
        let index = exchange.push(request, Effect::None)?;
        exchange.run()?;
        exchange.reply::<Tlconnect>(index)?;
        exchange.fd(index).ok_or(RemoteError::refused(Errno::EIO))
    }

    fn bind(
        &self,
        _call: &Call<'_>,
        _name: Name<'_>,
        _kind: SocketType,
        _perm: u16,
        _owner: Owner,
    ) -> RemoteResult<(Found, Box<dyn RemoteSocket>)> {
        // No dialect announces Tbind (9P 9.13).
        Err(RemoteError::not_sent(Errno::EOPNOTSUPP))
    }

    fn release(&self, when: Promptness) {
        self.fid.release(when);
    }
}

/// A walk of no names: the same file once more.
pub(super) const NO_NAMES: &[&[u8]] = &[];

impl File {
    /// A second, unopened fid of this file.
    pub(super) fn clone_fid(&self, call: &Call<'_>) -> RemoteResult<OwnedFid> {
        let session = self.session();
        let newfid = session.new_fid()?;
        let mut exchange = session.begin(call);
        let request = wire::Twalk {
            fid: self.fid(),
            newfid,
            wnames: Names::new(NO_NAMES),
        };
        let index = exchange.push(
            request,
            Effect::Makes {
                fid: newfid,
                names: 0,
            },
        )?;
        exchange.run()?;
        exchange.reply::<wire::Twalk<'_>>(index)?;
        exchange.made(index)
    }
}
