//! Opening files and making new ones.

use std::sync::Arc;

use gofer_vfs::remote::{
    Call, Fate, Found, New, OpenMode, Owner, RemoteError, RemoteHandle, RemoteResult,
};
use gofer_vfs::{Access, Device, Errno, FileType, Name};

use super::convert;
use super::fid::OwnedFid;
use super::file::File;
use super::handle::Handle;
use super::table::Effect;
use crate::wire::{
    GetattrMask, Level, NO_ID, Names, OpenFlags, Qid, SetattrMask, Tgetattr, Tlcreate, Tlopen,
    Tmkdir, Tmknod, Tsetattr, Tsymlink, Tucreate, Tumkdir, Tumknod, Tusymlink, Twalk, Twalkgetattr,
};

fn access_flags(access: Access) -> OpenFlags {
    OpenFlags::from_bits_retain(access.bits())
}

impl File {
    /// Opens a clone of the fid, so that the fid stays what it is.
    pub(super) fn open_clone(
        &self,
        call: &Call<'_>,
        mode: OpenMode,
    ) -> RemoteResult<Arc<dyn RemoteHandle>> {
        let session = self.session();
        let mut flags = access_flags(mode.access);
        // From level 9 on the server must honour it; before, it is a change of size (9P 9.1).
        let truncate_by_flag = mode.truncate && session.has(Level::OpenTruncate);
        flags.set(OpenFlags::TRUNC, truncate_by_flag);
        // The open of a fifo must not wait for its other end.
        flags.set(OpenFlags::NONBLOCK, self.file_type == FileType::Fifo);
        let fid = self.clone_fid(call)?;
        let mut exchange = session.begin(call);
        let index = exchange.push(
            Tlopen {
                fid: fid.get(),
                flags,
            },
            Effect::None,
        )?;
        exchange.run()?;
        let iounit = exchange.reply::<Tlopen>(index)?.iounit;
        let fd = exchange.fd(index);
        drop(exchange);
        if mode.truncate && !truncate_by_flag {
            let request = Tsetattr {
                fid: fid.get(),
                valid: SetattrMask::SIZE,
                mode: 0,
                uid: NO_ID,
                gid: NO_ID,
                size: 0,
                atime_sec: 0,
                atime_nsec: 0,
                mtime_sec: 0,
                mtime_nsec: 0,
            };
            session.call(call, request, |_| ())?;
        }
        Ok(Arc::new(Handle::new(
            fid,
            self.file_type,
            mode.access,
            iounit,
            fd,
        )))
    }

    /// Makes a regular file: on a clone of this directory's fid, which becomes the open file.
    /// A third round trip walks to the name for a fid that is not open.
    pub(super) fn create_open(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        perm: u16,
        owner: Owner,
        mode: OpenMode,
    ) -> RemoteResult<(Found, Arc<dyn RemoteHandle>)> {
        let session = self.session();
        let open = self.clone_fid(call)?;
        let (fid, flags, mode_bits) = (open.get(), access_flags(mode.access), u32::from(perm));
        let (name, gid) = (name.as_bytes(), owner.gid.unwrap_or(NO_ID));
        let mut exchange = session.begin(call);
        let index;
        let (qid, iounit) = if session.has(Level::CreateWithOwner) {
            let uid = owner.uid.unwrap_or(NO_ID);
            let request = Tucreate {
                fid,
                name,
                flags,
                mode: mode_bits,
                gid,
                uid,
            };
            index = exchange.push(request, Effect::None)?;
            exchange.run()?;
            let reply = exchange.reply::<Tucreate<'_>>(index)?;
            (reply.qid, reply.iounit)
        } else {
            let flags = flags | OpenFlags::CREATE | OpenFlags::EXCL;
            let request = Tlcreate {
                fid,
                name,
                flags,
                mode: mode_bits,
                gid,
            };
            index = exchange.push(request, Effect::None)?;
            exchange.run()?;
            let reply = exchange.reply::<Tlcreate<'_>>(index)?;
            (reply.qid, reply.iounit)
        };
        let fd = exchange.fd(index);
        drop(exchange);
        let handle = Handle::new(open, FileType::Regular, mode.access, iounit, fd);
        let found = self.find_created(call, name, qid, &handle);
        // It was made: whoever takes this for a request that never left would make it again.
        let found = found.map_err(|error| match error.fate {
            Fate::NotSent => RemoteError::unknown(error.errno),
            _ => error,
        })?;
        Ok((found, Arc::new(handle)))
    }

    /// Finds a file that was just made, in one round trip.
    fn find_created(
        &self,
        call: &Call<'_>,
        name: &[u8],
        made: Qid,
        handle: &Handle,
    ) -> RemoteResult<Found> {
        let session = self.session();
        let names = [name];
        let (fid, newfid, wnames) = (self.fid(), session.new_fid()?, Names::new(&names));
        let effect = Effect::Makes {
            fid: newfid,
            names: 1,
        };
        let mut exchange = session.begin(call);
        let (walk, qids, valid, block) = if session.has(Level::WalkGetattr) {
            let walk = exchange.push(
                Twalkgetattr {
                    fid,
                    newfid,
                    wnames,
                },
                effect,
            )?;
            exchange.run()?;
            let reply = exchange.reply::<Twalkgetattr<'_>>(walk)?;
            (walk, reply.wqids, reply.valid, reply.attr)
        } else {
            // The attributes come from the open fid meanwhile.
            let walk = exchange.push(
                Twalk {
                    fid,
                    newfid,
                    wnames,
                },
                effect,
            )?;
            let request = Tgetattr {
                fid: handle.fid(),
                request_mask: GetattrMask::BASIC,
            };
            let getattr = exchange.push(request, Effect::None)?;
            exchange.run()?;
            let reply = exchange.reply::<Tgetattr>(getattr)?;
            let walked = exchange.reply::<Twalk<'_>>(walk)?;
            (walk, walked.wqids, reply.valid, reply.attr)
        };
        match qids.iter().next() {
            None => return Err(RemoteError::refused(Errno::ENOENT)),
            // Somebody else's file has the name by now.
            Some(qid) if qid.path != made.path => {
                return Err(RemoteError::refused(Errno::ESTALE));
            }
            Some(_) => {}
        }
        let fid: OwnedFid = exchange.made(walk)?;
        File::found(fid, &self.names, made, valid, &block)
    }

    /// Makes anything that is not opened at once.
    pub(super) fn make_new(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        new: New<'_>,
        perm: u16,
        owner: Owner,
    ) -> RemoteResult<()> {
        let (dfid, name, perm) = (self.fid(), name.as_bytes(), u32::from(perm));
        let (uid, gid) = (owner.uid.unwrap_or(NO_ID), owner.gid.unwrap_or(NO_ID));
        let with_owner = self.session().has(Level::CreateWithOwner);
        let session = self.session();
        let (file_type, device) = match new {
            New::Dir if with_owner => {
                return session.call(
                    call,
                    Tumkdir {
                        dfid,
                        name,
                        mode: perm,
                        gid,
                        uid,
                    },
                    |_| (),
                );
            }
            New::Dir => {
                return session.call(
                    call,
                    Tmkdir {
                        dfid,
                        name,
                        mode: perm,
                        gid,
                    },
                    |_| (),
                );
            }
            New::Symlink(symtgt) if with_owner => {
                return session.call(
                    call,
                    Tusymlink {
                        dfid,
                        name,
                        symtgt,
                        gid,
                        uid,
                    },
                    |_| (),
                );
            }
            New::Symlink(symtgt) => {
                return session.call(
                    call,
                    Tsymlink {
                        dfid,
                        name,
                        symtgt,
                        gid,
                    },
                    |_| (),
                );
            }
            New::Regular => (FileType::Regular, Device::default()),
            New::Fifo => (FileType::Fifo, Device::default()),
            New::Socket => (FileType::Socket, Device::default()),
            New::Char(device) => (FileType::CharDevice, device),
            New::Block(device) => (FileType::BlockDevice, device),
        };
        let (mode, Device { major, minor }) = (file_type.mode_bits() | perm, device);
        match with_owner {
            true => {
                let request = Tumknod {
                    dfid,
                    name,
                    mode,
                    major,
                    minor,
                    gid,
                    uid,
                };
                session.call(call, request, |_| ())
            }
            false => session.call(
                call,
                Tmknod {
                    dfid,
                    name,
                    mode,
                    major,
                    minor,
                    gid,
                },
                |_| (),
            ),
        }
        .map_err(convert::unsupported)
    }
}
