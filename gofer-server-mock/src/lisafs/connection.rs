//! Frames in, frames out: the socket of one connection, and what is checked before a handler runs.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};

use gofer_lisafs::wire::{AnyRequest, ErrorResp, Message, Mid, SocketHeader};
use gofer_transport::{Stream, Wait};
use rustix::io::Errno;

use super::{CHANGES, SUPPORTED, Session};
use crate::host::Result;

/// The largest payload that is read and thrown away to answer `EIO`; a client that announces more
/// is cut off.
const DRAIN_MAX: u32 = 16 << 20;
/// Bytes thrown away at a time.
const DRAIN_CHUNK: u32 = 64 << 10;

/// A response in the making: a whole frame, and a descriptor to go with it.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) frame: Vec<u8>,
    pub(super) fd: Option<OwnedFd>,
}

impl Reply {
    /// Makes `message` the response.
    pub(super) fn set<'a>(&mut self, message: &impl Message<'a>) {
        self.frame.clear();
        message.encode(&mut self.frame);
    }

    fn set_error(&mut self, error: Errno) {
        self.fd = None;
        self.set(&ErrorResp {
            errno: error.raw_os_error().unsigned_abs(),
        });
    }
}

/// Answers one request after the other until the client hangs up.
pub(super) fn run(stream: &Stream, session: &Session) -> io::Result<()> {
    let wait = Wait::default();
    let mut payload = Vec::new();
    let mut reply = Reply::default();
    let mut header = [0; SocketHeader::SIZE];
    while stream.receive_exact(&mut header, None, &wait)? {
        let header = SocketHeader::decode(&header);
        let length = header.payload_len.get();
        let result = if length > session.max_message_size {
            drain(stream, length)?;
            Err(Errno::IO)
        } else {
            receive(stream, length as usize, &mut payload)?;
            let payload = payload.get(..length as usize).unwrap_or_default();
            dispatch(session, header.message, payload, &mut reply)
        };
        if let Err(error) = result {
            reply.set_error(error);
        } else if reply.frame.len() - SocketHeader::SIZE > session.max_message_size as usize {
            reply.set_error(Errno::IO);
        }
        tracing::trace!(request = %header.message, bytes = length, result = ?result.err());
        let fd = reply.fd.take();
        let fds = fd.as_ref().map(AsFd::as_fd);
        stream.send(&[IoSlice::new(&reply.frame)], fds.as_slice(), &wait)?;
    }
    Ok(())
}

/// Reads a payload whose length was checked. The buffer grows to the largest that came.
fn receive(stream: &Stream, length: usize, payload: &mut Vec<u8>) -> io::Result<()> {
    if payload.len() < length {
        payload.resize(length, 0);
    }
    let into = payload.get_mut(..length).unwrap_or_default();
    whole(stream.receive_exact(into, None, &Wait::default())?, length)
}

fn drain(stream: &Stream, length: u32) -> io::Result<()> {
    if length > DRAIN_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a payload of {length} bytes was announced"),
        ));
    }
    let mut sink = vec![0; DRAIN_CHUNK as usize];
    let mut left = length as usize;
    while left > 0 {
        let chunk = left.min(sink.len());
        let into = sink.get_mut(..chunk).unwrap_or_default();
        whole(stream.receive_exact(into, None, &Wait::default())?, chunk)?;
        left -= chunk;
    }
    Ok(())
}

/// The end of the stream between header and payload is a cut, not an end.
fn whole(received: bool, length: usize) -> io::Result<()> {
    if received || length == 0 {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// The checks of lisafs 5.1, in their order, then the handler.
fn dispatch(session: &Session, mid: Mid, payload: &[u8], reply: &mut Reply) -> Result<()> {
    if mid == Mid::ERROR {
        return Err(Errno::INVAL);
    }
    if !SUPPORTED.contains(&mid) {
        return Err(Errno::OPNOTSUPP);
    }
    if CHANGES.contains(&mid) {
        session.export.policy().check_writable()?;
    }
    let request = AnyRequest::decode(mid, payload).map_err(|_| Errno::IO)?;
    handle(session, &request, reply)
}

fn handle(session: &Session, request: &AnyRequest<'_>, reply: &mut Reply) -> Result<()> {
    match request {
        AnyRequest::Mount(_) => session.mount(reply),
        // Not listed, so they do not come here: channels have their place in this match.
        AnyRequest::Channel(_) | AnyRequest::Flush(_) => Err(Errno::OPNOTSUPP),
        AnyRequest::FStat(request) => session.fstat(request, reply),
        AnyRequest::SetStat(request) => session.set_stat(request, reply),
        AnyRequest::Walk(request) => session.walk(request, reply),
        AnyRequest::WalkStat(request) => session.walk_stat(request, reply),
        AnyRequest::OpenAt(request) => session.open_at(request, reply),
        AnyRequest::OpenCreateAt(request) => session.open_create_at(request, reply),
        AnyRequest::Close(request) => session.close(request, reply),
        AnyRequest::FSync(request) => session.fsync(request, reply),
        AnyRequest::PWrite(request) => session.pwrite(request, reply),
        AnyRequest::PRead(request) => session.pread(request, reply),
        AnyRequest::MkdirAt(request) => session.mkdir_at(request, reply),
        AnyRequest::MknodAt(request) => session.mknod_at(request, reply),
        AnyRequest::SymlinkAt(request) => session.symlink_at(request, reply),
        AnyRequest::LinkAt(request) => session.link_at(request, reply),
        AnyRequest::FStatFS(request) => session.fstatfs(request, reply),
        AnyRequest::FAllocate(request) => session.fallocate(request, reply),
        AnyRequest::ReadLinkAt(request) => session.read_link_at(request, reply),
        AnyRequest::Connect(request) => session.connect(request, reply),
        AnyRequest::UnlinkAt(request) => session.unlink_at(request, reply),
        AnyRequest::RenameAt(request) => session.rename_at(request, reply),
        AnyRequest::Getdents64(request) => session.getdents(request, reply),
        AnyRequest::FGetXattr(request) => session.get_xattr(request, reply),
        AnyRequest::FSetXattr(request) => session.set_xattr(request, reply),
        AnyRequest::FListXattr(request) => session.list_xattr(request, reply),
        AnyRequest::FRemoveXattr(request) => session.remove_xattr(request, reply),
        AnyRequest::BindAt(request) => session.bind_at(request, reply),
        AnyRequest::Listen(request) => session.listen(request, reply),
        AnyRequest::Accept(request) => session.accept(request, reply),
        AnyRequest::ConnectWithCreds(request) => session.connect_with_creds(request, reply),
        AnyRequest::RenameAt2(request) => session.rename_at2(request, reply),
    }
}
