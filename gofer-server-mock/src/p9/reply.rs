//! One reply: its bytes and the descriptor that may travel beside them.

use std::os::fd::OwnedFd;

use gofer_9p::wire::{Data, Message, Rlerror, Rread, Tag};

use crate::host::{Errno, Result};

/// The reply to one request, made in a buffer that is used again.
#[derive(Debug)]
pub(super) struct Reply {
    tag: Tag,
    msize: u32,
    pub(super) bytes: Vec<u8>,
    /// Goes with the first byte of the reply (9P 10.2).
    pub(super) fd: Option<OwnedFd>,
}

impl Reply {
    /// No reply yet to `tag`. Replies stay below `msize`: some clients refuse one of exactly that
    /// size (9P 4.4).
    pub(super) fn new(tag: Tag, msize: u32, mut buffer: Vec<u8>) -> Reply {
        buffer.clear();
        Reply {
            tag,
            msize,
            bytes: buffer,
            fd: None,
        }
    }

    pub(super) fn tag(&self) -> Tag {
        self.tag
    }

    /// Answers with `message`; one that is too large is `EMSGSIZE`.
    pub(super) fn send<'r>(&mut self, message: impl Message<'r>) -> Result<()> {
        self.bytes.clear();
        message.encode(self.tag, &mut self.bytes);
        if self.bytes.len() >= self.msize as usize {
            return Err(Errno::MSGSIZE);
        }
        Ok(())
    }

    /// Answers with Rread: `read` fills up to `count` bytes and says how many it did. No copy is
    /// made of them.
    pub(super) fn send_read(
        &mut self,
        count: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize>,
    ) -> Result<()> {
        const HEAD_SIZE: usize = 11;
        self.bytes.clear();
        self.bytes.resize(HEAD_SIZE + count, 0);
        let data = self.bytes.get_mut(HEAD_SIZE..).unwrap_or_default();
        let filled = read(data)?.min(count);
        self.bytes.truncate(HEAD_SIZE + filled);
        let mut head = Vec::with_capacity(HEAD_SIZE);
        let data = Data::apart(filled);
        Rread { data }.encode_head(self.tag, &mut head);
        if let Some(start) = self.bytes.get_mut(..HEAD_SIZE) {
            start.copy_from_slice(&head);
        }
        Ok(())
    }

    /// Answers with Rlerror.
    pub(super) fn fail(&mut self, errno: Errno) {
        self.bytes.clear();
        self.fd = None;
        let ecode = errno_on_wire(errno);
        Rlerror { ecode }.encode(self.tag, &mut self.bytes);
    }
}

/// The number for the wire: positive, and none that only kernels know among themselves (9P 7.3).
fn errno_on_wire(errno: Errno) -> u32 {
    match errno.raw_os_error() {
        number @ 1..512 => number.unsigned_abs(),
        _ => Errno::IO.raw_os_error().unsigned_abs(),
    }
}
