//! Replies on their way out: their bytes, and the descriptor that may travel beside one.
//!
//! Several lie one behind the other in one buffer, and leave in one call: the one in the making,
//! and before it those that were kept.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use gofer_9p::wire::{Data, Dirents, HEADER_SIZE, Message, Rlerror, Rread, Rreaddir, Tag};

use gofer_transport::flipcall::Endpoint;

use super::channel::READ_DATA_AT;
use crate::host::{Errno, OpenFile, Result};

/// Bytes of an Rread or Rreaddir before its data: header and count.
const DATA_AT: usize = HEADER_SIZE + 4;

/// How long a request may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    /// Whatever it takes.
    Any,
    /// Nobody waits for it yet, but somebody may come: it is put off when it is known to have to
    /// wait for storage.
    Brisk,
    /// Others wait behind it: it is put off when it might have to.
    Quick,
}

/// Replies to requests, in a buffer that is used again.
#[derive(Debug)]
pub(super) struct Reply {
    tag: Tag,
    msize: u32,
    pace: Pace,
    postponed: bool,
    /// What is behind `end` stays from earlier replies, so that the kernel can write there without
    /// somebody having to clear it first.
    buffer: Vec<u8>,
    /// Where the one in the making starts, behind those that were kept, and where it ends.
    start: usize,
    end: usize,
    /// Messages are put together here, but for their bulk data.
    head: Vec<u8>,
    /// Of those that were kept.
    tags: Vec<Tag>,
    /// Goes with the first byte of the reply in the making (9P 10.2).
    pub(super) fd: Option<OwnedFd>,
    /// Where data of files goes, for the replies of a channel.
    window: Option<Arc<Endpoint>>,
    /// Bytes of data that are there already, behind the reply in the making.
    apart: usize,
}

impl Reply {
    /// Room for replies.
    pub(super) fn new() -> Reply {
        Reply {
            tag: Tag::NONE,
            msize: 0,
            pace: Pace::Any,
            postponed: false,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            head: Vec::new(),
            tags: Vec::new(),
            fd: None,
            window: None,
            apart: 0,
        }
    }

    /// Replies for a channel: the data of files goes straight to its window.
    pub(super) fn in_window(endpoint: Arc<Endpoint>) -> Reply {
        Reply {
            window: Some(endpoint),
            ..Reply::new()
        }
    }

    /// Begins the reply to `tag`, behind those that were kept. It stays below `msize`: some clients
    /// refuse one of exactly that size (9P 4.4).
    pub(super) fn begin(&mut self, tag: Tag, msize: u32, pace: Pace) {
        self.tag = tag;
        self.msize = msize;
        self.pace = pace;
        self.postponed = false;
        self.end = self.start;
        self.fd = None;
        self.apart = 0;
    }

    /// How long the request may take.
    pub(super) fn pace(&self) -> Pace {
        self.pace
    }

    /// The request has to be carried out again, at any pace; so far it has had no effect.
    pub(super) fn postpone(&mut self) {
        self.postponed = true;
    }

    /// Whether it was [postponed](Reply::postpone).
    pub(super) fn is_postponed(&self) -> bool {
        self.postponed
    }

    /// The message in the making, without the data that is [apart](Reply::apart).
    pub(super) fn in_the_making(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Bytes of data that end the message and are in the window already.
    pub(super) fn apart(&self) -> usize {
        self.apart
    }

    /// Keeps the reply in the making, to go with those before it and those to come.
    pub(super) fn keep(&mut self) {
        self.tags.push(self.tag);
        self.start = self.end;
    }

    /// Bytes of those that were kept.
    pub(super) fn kept(&self) -> &[u8] {
        self.buffer.get(..self.start).unwrap_or_default()
    }

    /// Tags of those that were kept.
    pub(super) fn kept_tags(&self) -> &[Tag] {
        &self.tags
    }

    /// Takes those that were kept away: what is left is empty.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let taken = if self.start < self.buffer.capacity() / 2 {
            self.kept().to_vec()
        } else {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.truncate(self.start);
            buffer
        };
        self.forget();
        taken
    }

    /// Forgets those that were kept, and the one in the making.
    pub(super) fn forget(&mut self) {
        self.tags.clear();
        (self.start, self.end) = (0, 0);
    }

    /// Answers with `message`; one that is too large is `EMSGSIZE`.
    pub(super) fn send<'r>(&mut self, message: impl Message<'r>) -> Result<()> {
        self.apart = 0;
        self.head.clear();
        message.encode(self.tag, &mut self.head);
        if self.head.len() >= self.msize as usize {
            return Err(Errno::MSGSIZE);
        }
        self.put_head(self.head.len());
        Ok(())
    }

    /// Answers with Rread: `fill` puts up to `count` bytes where they are sent from, and says how
    /// many.
    pub(super) fn send_read(
        &mut self,
        count: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize>,
    ) -> Result<()> {
        let data_at = self.start + DATA_AT;
        self.make_room(data_at + count);
        let place = self.buffer.get_mut(data_at..data_at + count);
        let filled = fill(place.unwrap_or_default())?.min(count);
        self.head.clear();
        let data = Data::apart(filled);
        Rread { data }.encode_head(self.tag, &mut self.head);
        self.put_head(DATA_AT + filled);
        Ok(())
    }

    /// Answers with Rread of up to `count` bytes of `file`, waiting for storage if need be.
    pub(super) fn send_file(&mut self, file: &OpenFile, count: usize, offset: u64) -> Result<()> {
        let Some(endpoint) = &self.window else {
            return self.send_read(count, |buffer| file.read_at(buffer, offset));
        };
        let filled = file.read_with(count, offset, |file, offset, part| {
            let at = READ_DATA_AT + part.start;
            endpoint.window().read_from(file, offset, at, part.len())
        })?;
        self.head.clear();
        let data = Data::apart(filled);
        Rread { data }.encode_head(self.tag, &mut self.head);
        self.put_head(DATA_AT);
        self.apart = filled;
        Ok(())
    }

    /// Answers with Rreaddir: `fill` appends entries to the bytes it is given, no more than the
    /// client has asked for.
    pub(super) fn send_entries(
        &mut self,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let data_at = self.start + DATA_AT;
        self.make_room(data_at);
        self.buffer.truncate(data_at);
        fill(&mut self.buffer)?;
        let entries = Dirents::new(self.buffer.get(data_at..).unwrap_or_default());
        self.head.clear();
        Rreaddir { entries }.encode_head(self.tag, &mut self.head);
        self.put_head(self.buffer.len() - self.start);
        Ok(())
    }

    /// Answers with Rlerror.
    pub(super) fn fail(&mut self, errno: Errno) {
        self.fd = None;
        self.apart = 0;
        self.head.clear();
        let ecode = errno_on_wire(errno);
        Rlerror { ecode }.encode(self.tag, &mut self.head);
        self.put_head(self.head.len());
    }

    /// Puts the head of the reply in its place; with what is there already behind it, the reply
    /// takes `size` bytes.
    fn put_head(&mut self, size: usize) {
        self.end = self.start + size;
        self.make_room(self.end);
        let place = self.start..self.start + self.head.len();
        if let Some(place) = self.buffer.get_mut(place) {
            place.copy_from_slice(&self.head);
        }
    }

    fn make_room(&mut self, size: usize) {
        if self.buffer.len() < size {
            self.buffer.resize(size, 0);
        }
    }
}

/// The number for the wire: positive, and none that only kernels know among themselves (9P 7.3).
fn errno_on_wire(errno: Errno) -> u32 {
    match errno.raw_os_error() {
        number @ 1..512 => number.unsigned_abs(),
        _ => Errno::IO.raw_os_error().unsigned_abs(),
    }
}
