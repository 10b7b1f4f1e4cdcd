//! One reply: its bytes and the descriptor that may travel beside them.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use gofer_9p::wire::{Data, Dirents, Message, Rlerror, Rread, Rreaddir, Tag};

use crate::host::{Errno, Result};

/// The reply to a request, in buffers that are used for one after the other.
#[derive(Debug)]
pub(super) struct Reply {
    tag: Tag,
    msize: u32,
    /// The message up to its bulk data.
    head: Vec<u8>,
    /// Bulk data lies at its start. What is behind stays from earlier replies, so that the kernel
    /// can write there without somebody having to clear it first.
    data: Vec<u8>,
    data_len: usize,
    /// Goes with the first byte of the reply (9P 10.2).
    pub(super) fd: Option<OwnedFd>,
}

impl Reply {
    /// Room for replies.
    pub(super) fn new() -> Reply {
        Reply {
            tag: Tag::NONE,
            msize: 0,
            head: Vec::new(),
            data: Vec::new(),
            data_len: 0,
            fd: None,
        }
    }

    /// Begins the reply to `tag`. It stays below `msize`: some clients refuse one of exactly that
    /// size (9P 4.4).
    pub(super) fn begin(&mut self, tag: Tag, msize: u32) {
        self.tag = tag;
        self.msize = msize;
        self.head.clear();
        self.data_len = 0;
        self.fd = None;
    }

    pub(super) fn tag(&self) -> Tag {
        self.tag
    }

    /// Bytes of the message.
    pub(super) fn len(&self) -> usize {
        self.head.len() + self.data_len
    }

    /// Bytes of memory, roughly.
    pub(super) fn footprint(&self) -> usize {
        size_of::<Reply>() + self.head.capacity() + self.data.capacity()
    }

    /// What goes on the wire.
    pub(super) fn parts(&self) -> [IoSlice<'_>; 2] {
        let data = self.data.get(..self.data_len).unwrap_or_default();
        [IoSlice::new(&self.head), IoSlice::new(data)]
    }

    /// Answers with `message`; one that is too large is `EMSGSIZE`.
    pub(super) fn send<'r>(&mut self, message: impl Message<'r>) -> Result<()> {
        self.head.clear();
        self.data_len = 0;
        message.encode(self.tag, &mut self.head);
        if self.head.len() >= self.msize as usize {
            return Err(Errno::MSGSIZE);
        }
        Ok(())
    }

    /// Answers with Rread: `fill` puts up to `count` bytes where they are sent from, and says how
    /// many.
    pub(super) fn send_read(
        &mut self,
        count: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize>,
    ) -> Result<()> {
        if self.data.len() < count {
            self.data.resize(count, 0);
        }
        let filled = fill(self.data.get_mut(..count).unwrap_or_default())?;
        self.data_len = filled.min(count);
        let data = Data::apart(self.data_len);
        Rread { data }.encode_head(self.tag, &mut self.head);
        Ok(())
    }

    /// Answers with Rreaddir: `fill` appends entries, no more than the client has asked for.
    pub(super) fn send_entries(
        &mut self,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        self.data.clear();
        fill(&mut self.data)?;
        self.data_len = self.data.len();
        let entries = Dirents::new(&self.data);
        Rreaddir { entries }.encode_head(self.tag, &mut self.head);
        Ok(())
    }

    /// Answers with Rlerror.
    pub(super) fn fail(&mut self, errno: Errno) {
        self.head.clear();
        self.data_len = 0;
        self.fd = None;
        let ecode = errno_on_wire(errno);
        Rlerror { ecode }.encode(self.tag, &mut self.head);
    }
}

/// The number for the wire: positive, and none that only kernels know among themselves (9P 7.3).
fn errno_on_wire(errno: Errno) -> u32 {
    match errno.raw_os_error() {
        number @ 1..512 => number.unsigned_abs(),
        _ => Errno::IO.raw_os_error().unsigned_abs(),
    }
}
