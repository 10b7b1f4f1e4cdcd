//! Opening: Tlopen, Tlcreate, Tucreate, Tlconnect.

use std::sync::Arc;

use gofer_9p::wire::{
    Fid, NO_ID, OpenFlags, Rlconnect, Rlcreate, Rlopen, Rucreate, SocketType, Tlconnect, Tlcreate,
    Tlopen, Tucreate,
};

use crate::host::{Created, Errno, FileType, Name, OFlags, OpenFile, Owner, Result};
use crate::p9::fids::{Open, State, Target};
use crate::p9::reply::Reply;
use crate::p9::session::Session;

/// Numbers of the host for socket types, in the order in which an anonymous one is tried.
const STREAM: u32 = 1;
const SEQPACKET: u32 = 5;
const DATAGRAM: u32 = 2;

impl Session {
    /// Opens the file of an unopened fid (9P 8.9). A descriptor may go with the reply.
    pub(super) fn open(&self, request: Tlopen, reply: &mut Reply) -> Result<()> {
        let (target, _acting) = self.act(request.fid)?;
        let node = target.unopened_file()?;
        // Exclusive and creating opens are Tlcreate's.
        let flags = host_flags(request.flags)? - OFlags::EXCL;
        if node.file_type() == FileType::Socket {
            return Err(Errno::NXIO);
        }
        let file = node.open(flags)?;
        let qid = self.qid(&file.stat()?);
        self.opened(request.fid, &target, file, reply)?;
        reply.send(Rlopen { qid, iounit: 0 })
    }

    /// Makes a regular file, or without EXCL takes one that is there, and opens it; the fid
    /// becomes the file (9P 8.10).
    pub(super) fn create(&self, request: Tlcreate<'_>, reply: &mut Reply) -> Result<()> {
        let flags = host_flags(request.flags)?;
        let owner = owner(NO_ID, request.gid);
        let (target, created) =
            self.make_file(request.fid, request.name, flags, request.mode, owner)?;
        let qid = self.qid(&created.found.stat);
        self.opened(request.fid, &target, created.file, reply)?;
        reply.send(Rlcreate { qid, iounit: 0 })
    }

    /// As [`Session::create`] with an owner, and always exclusive (9P 9.4).
    pub(super) fn create_with_owner(&self, request: Tucreate<'_>, reply: &mut Reply) -> Result<()> {
        let flags = host_flags(request.flags)? | OFlags::EXCL;
        let owner = owner(request.uid, request.gid);
        let (target, created) =
            self.make_file(request.fid, request.name, flags, request.mode, owner)?;
        let qid = self.qid(&created.found.stat);
        self.opened(request.fid, &target, created.file, reply)?;
        reply.send(Rucreate { qid, iounit: 0 })
    }

    /// Connects to a Unix socket; the connected descriptor goes with the reply (9P 9.5). Refused
    /// where the policy or the transport has no way for it.
    pub(super) fn connect(&self, request: Tlconnect, reply: &mut Reply) -> Result<()> {
        let (target, _acting) = self.act(request.fid)?;
        let node = target.file()?;
        let types: &[u32] = match request.socket_type {
            SocketType::STREAM => &[STREAM],
            SocketType::DATAGRAM => &[DATAGRAM],
            SocketType::SEQPACKET => &[SEQPACKET],
            SocketType::ANONYMOUS => &[STREAM, SEQPACKET, DATAGRAM],
            _ => return Err(Errno::INVAL),
        };
        if node.file_type() != FileType::Socket || node.is_deleted() {
            return Err(Errno::INVAL);
        }
        if !self.carries_descriptors() {
            return Err(Errno::CONNREFUSED);
        }
        let mut result = Err(Errno::PROTOTYPE);
        for &socket_type in types {
            if result
                .as_ref()
                .is_err_and(|&error| error == Errno::PROTOTYPE)
            {
                result = node.connect(socket_type, Owner::default());
            }
        }
        let socket = result.map_err(|error| match error {
            Errno::PERM | Errno::PROTOTYPE => Errno::CONNREFUSED,
            error => error,
        })?;
        reply.fd = Some(socket);
        reply.send(Rlconnect {})
    }

    fn make_file(
        &self,
        fid: Fid,
        name: &[u8],
        flags: OFlags,
        mode: u32,
        owner: Owner,
    ) -> Result<(Target, Created)> {
        let (target, _acting) = self.act(fid)?;
        let dir = target.unopened_file()?;
        if !dir.is_dir() {
            return Err(Errno::NOTDIR);
        }
        let created = dir.create(Name::new(name)?, mode & 0o7777, owner, flags)?;
        Ok((target, created))
    }

    /// Turns `fid`, which was `before`, into the open `file`.
    fn opened(&self, fid: Fid, before: &Target, file: OpenFile, reply: &mut Reply) -> Result<()> {
        if self.donates() {
            reply.fd = file.donate();
        }
        let node = file.node().clone();
        let handle = self.lock_handle(node.identity());
        let target = Target {
            node,
            attach: before.attach.clone(),
            state: State::Open(Arc::new(Open { file, handle })),
        };
        self.fids.replace(fid, before, target)
    }
}

/// The host's flags for those of the protocol, bit by bit: the numbers may differ (9P 7.2). What
/// is not here is ignored, or is the host layer's to add.
fn host_flags(flags: OpenFlags) -> Result<OFlags> {
    let access = match flags.access() {
        0 => OFlags::RDONLY,
        1 => OFlags::WRONLY,
        2 => OFlags::RDWR,
        _ => return Err(Errno::INVAL),
    };
    let bits = [
        (OpenFlags::EXCL, OFlags::EXCL),
        (OpenFlags::TRUNC, OFlags::TRUNC),
        (OpenFlags::APPEND, OFlags::APPEND),
        (OpenFlags::DSYNC, OFlags::DSYNC),
        (OpenFlags::SYNC, OFlags::SYNC),
        (OpenFlags::DIRECTORY, OFlags::DIRECTORY),
    ];
    let bits = bits.into_iter().filter(|(wire, _)| flags.contains(*wire));
    Ok(bits.fold(access, |all, (_, host)| all | host))
}

/// The owner that a request asks for.
pub(super) fn owner(uid: u32, gid: u32) -> Owner {
    Owner {
        uid: Some(uid).filter(|&uid| uid != NO_ID),
        gid: Some(gid).filter(|&gid| gid != NO_ID),
    }
}
