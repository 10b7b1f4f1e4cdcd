//! What has arrived and is not cut into messages yet, and descriptors with it.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;

use gofer_transport::{FdQueue, Stream, Wait};

use super::End;
use crate::client::table::Table;
use crate::wire::{HEADER_SIZE, Header, Tag};

/// Descriptors kept of one receive. One is ever used; the rest is closed.
const FDS_MAX: usize = 2;

/// Bytes in the order of the stream; the first one is the first of a message.
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    /// Where the bytes of the last receive begin.
    came: usize,
    /// Descriptors of the last receive.
    fds: FdQueue,
    /// Descriptors that have a message, by its first byte.
    assigned: VecDeque<(usize, OwnedFd)>,
}

impl Buffer {
    /// Most bytes of one receive.
    pub(super) const SIZE: usize = 64 << 10;

    pub(super) fn new() -> Buffer {
        Buffer {
            bytes: vec![0; Buffer::SIZE].into(),
            start: 0,
            end: 0,
            came: 0,
            fds: FdQueue::new(FDS_MAX),
            assigned: VecDeque::new(),
        }
    }

    /// How many bytes are there.
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Receives what has arrived, at most `room` bytes, and waits if that is nothing.
    pub(super) fn receive(
        &mut self,
        stream: &Stream,
        room: usize,
        wait: &Wait<'_>,
    ) -> io::Result<usize> {
        self.settle();
        self.came = self.end;
        let end = self.bytes.len().min(self.end.saturating_add(room));
        let into = self.bytes.get_mut(self.end..end).unwrap_or_default();
        let count = stream.receive(into, Some(&mut self.fds), wait)?;
        self.end += count;
        Ok(count)
    }

    /// As [`Buffer::receive`], while there is nothing here and the stream first brings what
    /// belongs into `part`. Returns how many bytes came in all.
    pub(super) fn receive_behind(
        &mut self,
        stream: &Stream,
        part: &mut [u8],
        room: usize,
        wait: &Wait<'_>,
    ) -> io::Result<usize> {
        self.settle();
        let size = part.len();
        let behind = self.bytes.get_mut(..room).unwrap_or_default();
        let mut parts = [IoSliceMut::new(part), IoSliceMut::new(behind)];
        let count = stream.receive_vectored(&mut parts, Some(&mut self.fds), wait)?;
        (self.came, self.end) = (0, count.saturating_sub(size));
        Ok(count)
    }

    /// Moves what is there to the front.
    fn settle(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        for (at, _) in &mut self.assigned {
            *at -= self.start;
        }
        (self.start, self.end) = (0, self.end - self.start);
    }

    /// Decides whose the descriptor of the last receive is. A chunk of bytes with a descriptor is
    /// the last of its receive, and begins with a message, whose it is (9P 10.2); in case others
    /// are glued behind that one, it goes to the last message that may have it.
    pub(super) fn assign(&mut self, msize: u32, table: &mut Table) {
        if self.fds.is_empty() {
            return;
        }
        let (mut owner, mut at) = (None, self.start);
        while at < self.end {
            let header = self.header_at(at, msize);
            let takes = match header {
                Some(Ok(header)) => table.takes_fd(header.kind, header.tag),
                // It may be this one. Its tag will tell.
                _ => true,
            };
            if takes && at >= self.came {
                owner = Some(at);
            }
            let Some(Ok(header)) = header else { break };
            at += header.size as usize;
        }
        let fd = self.fds.pop();
        self.fds.clear();
        self.assigned.extend(owner.zip(fd));
    }

    /// The header of the first message, when it is there.
    pub(super) fn header(&self, msize: u32) -> Result<Option<Header>, End> {
        self.header_at(self.start, msize).transpose()
    }

    fn header_at(&self, at: usize, msize: u32) -> Option<Result<Header, End>> {
        let bytes = self.bytes.get(at..self.end)?;
        let head = bytes.first_chunk::<HEADER_SIZE>()?;
        let header = Header::decode(head, msize);
        Some(header.map_err(|_| End::Lost("message of an impossible size")))
    }

    /// The descriptor of the first message.
    pub(super) fn take_fd(&mut self) -> Option<OwnedFd> {
        let first = self.assigned.front().map(|(at, _)| *at);
        let (_, fd) = self.assigned.pop_front_if(|_| first == Some(self.start))?;
        Some(fd)
    }

    /// Takes the first `size` bytes, or as many as there are.
    pub(super) fn take(&mut self, size: usize) -> &[u8] {
        let start = self.start;
        self.start = self.end.min(start.saturating_add(size));
        self.bytes.get(start..self.start).unwrap_or_default()
    }

    /// Shows each message that is whole.
    pub(super) fn each_whole(&self, msize: u32, mut each: impl FnMut(Tag, u8, &[u8])) {
        let mut at = self.start;
        while let Some(Ok(header)) = self.header_at(at, msize) {
            let (body, next) = (at + HEADER_SIZE, at + header.size as usize);
            if next > self.end {
                return;
            }
            let body = self.bytes.get(body..next).unwrap_or_default();
            each(header.tag, header.kind, body);
            at = next;
        }
    }
}
