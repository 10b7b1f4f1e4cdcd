//! Requests in, responses out: the socket of one connection, and what every request goes through
//! whichever way it came.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use gofer_lisafs::wire::{
    AnyRequest, ChannelHeader, DirentsBuf, ErrorResp, Inode, Message, Mid, PReadResp, SocketHeader,
};
use gofer_transport::flipcall::Endpoint;
use gofer_transport::shm::Window;
use gofer_transport::{Stream, Wait};
use rustix::io::Errno;

use super::fds::OpenFd;
use super::{CHANGES, Session, bit};
use crate::host::{OpenFile, Result};
use crate::survive::survive;

/// The largest payload that is read and thrown away to answer `EIO`; a client that announces more
/// is cut off.
const SKIP_MAX: u32 = 16 << 20;
/// Room for requests; it grows with the largest that comes.
const BUFFER_SIZE: usize = 64 << 10;

/// A response in the making, and the descriptors to go with it.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// The frame, but for bulk data.
    frame: Vec<u8>,
    bulk: Bulk,
    /// How many bytes of bulk data end the frame.
    bulk_len: usize,
    /// Descriptors of the response's own.
    pub(super) fds: Vec<OwnedFd>,
    /// An open file whose descriptor goes along as well.
    donated: Option<Arc<OpenFd>>,
    /// Memory that handlers make lists in.
    pub(super) inodes: Vec<Inode>,
    pub(super) dirents: DirentsBuf,
}

/// Where bulk data is read to.
#[derive(Debug)]
enum Bulk {
    /// Never shrinks, so that it is zeroed once and not for each read.
    Buffer(Vec<u8>),
    /// Behind what comes first in a PRead response.
    Window(Arc<Endpoint>),
}

impl Default for Bulk {
    fn default() -> Bulk {
        Bulk::Buffer(Vec::new())
    }
}

/// Where in a window the data of a PRead response is.
const BULK_AT: usize = ChannelHeader::SIZE + <PReadResp<'_> as Message<'_>>::MIN_SIZE;

impl Reply {
    /// Responses for a channel: bulk data goes straight to its window, at its final place.
    pub(super) fn in_window(endpoint: Arc<Endpoint>) -> Reply {
        Reply {
            bulk: Bulk::Window(endpoint),
            ..Reply::default()
        }
    }

    /// Makes `message` the response.
    pub(super) fn set<'a>(&mut self, message: &impl Message<'a>) {
        self.frame.clear();
        self.bulk_len = 0;
        message.encode(&mut self.frame);
    }

    /// Makes up to `size` bytes of `file` the data of a PRead response. The caller has made sure
    /// that a response can be so large.
    pub(super) fn set_data(&mut self, file: &OpenFile, size: usize, offset: u64) -> Result<()> {
        let count = match &mut self.bulk {
            Bulk::Buffer(buffer) => {
                if buffer.len() < size {
                    buffer.resize(size, 0);
                }
                file.read_at(buffer.get_mut(..size).unwrap_or_default(), offset)?
            }
            Bulk::Window(endpoint) => file.read_with(size, offset, |file, offset, part| {
                let at = BULK_AT + part.start;
                endpoint.window().read_from(file, offset, at, part.len())
            })?,
        };
        self.frame.clear();
        self.bulk_len = count;
        PReadResp::encode_head_for(count, &mut self.frame);
        Ok(())
    }

    /// Sends the client a copy of the descriptor of `file`, if it may have one.
    pub(super) fn donate(&mut self, file: Arc<OpenFd>) {
        self.donated = Some(file);
    }

    /// Hands the descriptors to go with the response to `send`, and gives up those of its own.
    pub(super) fn send_fds<T>(&mut self, send: impl FnOnce(&[BorrowedFd<'_>]) -> T) -> T {
        let file = self.donated.take();
        let donated = file.as_ref().and_then(|open| open.file.donated());
        let result = match (donated, &self.fds[..]) {
            (None, []) => send(&[]),
            (Some(one), []) => send(&[one]),
            (one, fds) => send(&Vec::from_iter(fds.iter().map(AsFd::as_fd).chain(one))),
        };
        self.fds.clear();
        result
    }

    pub(super) fn set_error(&mut self, error: Errno) {
        self.fds.clear();
        self.donated = None;
        self.set(&ErrorResp {
            errno: error.raw_os_error().unsigned_abs(),
        });
    }

    /// What a channel carries, but for bulk data: `header` and the payload.
    pub(super) fn datagram_head(&mut self, header: ChannelHeader) -> &[u8] {
        // Headers of sockets are longer, so there is room.
        let start = SocketHeader::SIZE - ChannelHeader::SIZE;
        let datagram = self.frame.get_mut(start..).unwrap_or_default();
        if let Some(place) = datagram.first_chunk_mut() {
            *place = header.encode();
        }
        datagram
    }

    /// Bytes of the payload with its bulk data.
    pub(super) fn payload_len(&self) -> usize {
        self.frame.len() - SocketHeader::SIZE + self.bulk_len
    }

    fn send(&mut self, stream: &Stream) -> io::Result<()> {
        let frame = std::mem::take(&mut self.frame);
        let bulk = std::mem::take(&mut self.bulk);
        let data = match &bulk {
            Bulk::Buffer(buffer) => buffer.get(..self.bulk_len).unwrap_or_default(),
            Bulk::Window(_) => &[],
        };
        let parts = [IoSlice::new(&frame), IoSlice::new(data)];
        let sent = self.send_fds(|fds| stream.send(&parts, fds, &Wait::default()));
        (self.frame, self.bulk) = (frame, bulk);
        sent
    }
}

/// The payload of a request.
#[derive(Clone, Copy)]
pub(super) struct Payload<'a> {
    /// All of it, or what comes before the data of a PWrite request.
    pub(super) bytes: &'a [u8],
    /// Where that data is: in a window, from a place on, this many bytes.
    pub(super) rest: Option<(&'a Window, usize, usize)>,
}

/// Answers one request after the other until the client hangs up.
pub(super) fn run(stream: &Stream, session: &Arc<Session>) -> io::Result<()> {
    let mut requests = Requests::new(stream);
    let mut reply = Reply::default();
    while let Some(header) = requests.header()? {
        let length = header.payload_len.get();
        if length > session.max_message_size {
            requests.skip(length)?;
            reply.set_error(Errno::IO);
        } else {
            let payload = requests.payload(length as usize)?;
            let payload = Payload {
                bytes: payload,
                rest: None,
            };
            session.answer(header.message, payload, &mut reply);
        }
        reply.send(stream)?;
    }
    Ok(())
}

/// Takes requests off a stream: mostly one system call for one, header and payload together.
/// Reading ahead loses nothing, since clients send no descriptors.
struct Requests<'a> {
    stream: &'a Stream,
    buffer: Vec<u8>,
    /// The bytes of `buffer` that were received and not taken yet.
    unread: Range<usize>,
}

impl Requests<'_> {
    fn new(stream: &Stream) -> Requests<'_> {
        Requests {
            stream,
            buffer: vec![0; BUFFER_SIZE],
            unread: 0..0,
        }
    }

    /// The next header; `None` when the stream ended before it.
    fn header(&mut self) -> io::Result<Option<SocketHeader>> {
        if !self.fill(SocketHeader::SIZE)? {
            return Ok(None);
        }
        Ok(self
            .take(SocketHeader::SIZE)
            .first_chunk()
            .map(SocketHeader::decode))
    }

    /// The payload after a header, whose length was checked.
    fn payload(&mut self, length: usize) -> io::Result<&[u8]> {
        if !self.fill(length)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.take(length))
    }

    /// Throws a payload away.
    fn skip(&mut self, length: u32) -> io::Result<()> {
        if length > SKIP_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a payload of {length} bytes was announced"),
            ));
        }
        let mut left = length as usize;
        while left > 0 {
            let piece = left.min(BUFFER_SIZE);
            self.payload(piece)?;
            left -= piece;
        }
        Ok(())
    }

    /// Receives until `count` bytes are unread. `false`: the stream ended before the first.
    fn fill(&mut self, count: usize) -> io::Result<bool> {
        if self.unread.len() >= count {
            return Ok(true);
        }
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if self.buffer.len() < count {
            self.buffer.resize(count, 0);
        }
        while self.unread.len() < count {
            let free = self.buffer.get_mut(self.unread.end..).unwrap_or_default();
            match self.stream.receive(free, None, &Wait::default())? {
                0 if self.unread.is_empty() => return Ok(false),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                received => self.unread.end += received,
            }
        }
        Ok(true)
    }

    fn take(&mut self, count: usize) -> &[u8] {
        let start = self.unread.start;
        self.unread.start += count;
        self.buffer.get(start..start + count).unwrap_or_default()
    }
}

impl Session {
    /// Makes `reply` the response to a request whose payload is within the limit; returns the
    /// response's number.
    pub(super) fn answer(
        self: &Arc<Session>,
        mid: Mid,
        payload: Payload<'_>,
        reply: &mut Reply,
    ) -> Mid {
        let result = survive(|| dispatch(self, mid, payload, reply));
        tracing::trace!(request = %mid, bytes = payload.bytes.len(), error = ?result.err());
        match result {
            Ok(()) if reply.payload_len() <= self.max_message_size as usize => return mid,
            Ok(()) => reply.set_error(Errno::IO),
            Err(error) => reply.set_error(error),
        }
        Mid::ERROR
    }
}

/// The checks of lisafs 5.1, in their order, then the handler.
fn dispatch(
    session: &Arc<Session>,
    mid: Mid,
    payload: Payload<'_>,
    reply: &mut Reply,
) -> Result<()> {
    if mid == Mid::ERROR {
        return Err(Errno::INVAL);
    }
    if !session.supports(mid) {
        return Err(Errno::OPNOTSUPP);
    }
    if CHANGES & bit(mid) != 0 {
        session.export.policy().check_writable()?;
    }
    if let Some(data) = payload.rest {
        return session.pwrite_from_window(payload.bytes, data, reply);
    }
    let request = AnyRequest::decode(mid, payload.bytes).map_err(|_| Errno::IO)?;
    handle(session, &request, reply)
}

fn handle(session: &Arc<Session>, request: &AnyRequest<'_>, reply: &mut Reply) -> Result<()> {
    match request {
        AnyRequest::Mount(_) => session.mount(reply),
        AnyRequest::Channel(_) => session.channel(reply),
        // Not listed, so it does not come here.
        AnyRequest::Flush(_) => Err(Errno::OPNOTSUPP),
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
