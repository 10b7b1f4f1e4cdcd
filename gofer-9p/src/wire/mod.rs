//! The wire format of 9P2000.L and its Google dialects: bytes to messages and back.
//!
//! No I/O and no threads, so that the client, the server and the tests share it. Messages borrow
//! from the bytes they were decoded from; decoding allocates nothing, and every count is checked
//! against the bytes that are there before it is believed. Bytes left over after a body are
//! ignored (9P 2.5).
//!
//! - [`Header`]: the seven bytes before every body.
//! - [`TMessage`], [`RMessage`] and one struct per message, all made from one table.
//! - [`Message::encode`] appends a whole message; [`Message::encode_head`] leaves the bulk data
//!   out, so that it can be sent from where it lies.

mod field;
mod flags;
mod lists;
mod messages;
mod types;
mod version;

#[cfg(test)]
mod tests;

use gofer_transport::codec::{Reader, Writer};

pub use field::Value;
pub use flags::{GetattrMask, LockFlags, OpenFlags, QidType, SetattrMask, UnlinkFlags, XattrFlags};
pub use gofer_transport::codec::DecodeError;
pub use lists::{Dirents, Names, Qids, Stats};
pub use messages::*;
pub use types::{AttrBlock, Data, Dirent, Fid, LockStatus, LockType, Qid, SocketType, Stat, Tag};
pub use version::{Level, Version};

/// Bytes of a message's header: size, type, tag.
pub const HEADER_SIZE: usize = 7;

/// What everybody takes off msize for the payload of Tread, Twrite and Treaddir (9P 4.4).
pub const IO_HEADER_SIZE: u32 = 24;

/// Smallest msize either side of ours accepts (9P 4.3).
pub const MSIZE_MIN: u32 = 4096;

/// Largest msize we ask for or grant. gVisor's server refuses more (9P 4.3).
pub const MSIZE_MAX: u32 = 1 << 20;

/// Most names in one Twalk (9P 2.3).
pub const WALK_NAMES_MAX: usize = 16;

/// "No number": owner or group that stays as it is, or is left to the server (9P 2.3).
pub const NO_ID: u32 = u32::MAX;

/// The seven bytes before every body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Bytes of the whole message, these included.
    pub size: u32,
    /// Which message it is.
    pub kind: u8,
    /// Which request it is or answers.
    pub tag: Tag,
}

impl Header {
    /// Reads a header. A size below 7 or above `limit` is [`DecodeError::BadValue`]: nothing
    /// that follows on such a stream can be trusted.
    pub fn decode(bytes: &[u8; HEADER_SIZE], limit: u32) -> Result<Header, DecodeError> {
        let mut reader = Reader::new(bytes);
        let header = Header {
            size: reader.u32()?,
            kind: reader.u8()?,
            tag: Tag(reader.u16()?),
        };
        if header.size < HEADER_SIZE as u32 || header.size > limit {
            return Err(DecodeError::BadValue("size"));
        }
        Ok(header)
    }

    /// Bytes of the body.
    pub fn body_size(&self) -> usize {
        self.size as usize - HEADER_SIZE
    }
}

/// One message of the protocol.
pub trait Message<'a>: Sized {
    /// Its type number.
    const KIND: u8;
    /// Its name, such as `Twalk`.
    const NAME: &'static str;

    /// Reads the body. Surplus bytes stay in the reader.
    fn decode(body: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// Appends the body without its bulk data (but with its count).
    fn encode_fields(&self, out: &mut Writer<'_>);

    /// The bulk data that ends the body of Twrite, Rread and Rreaddir; empty for others.
    fn payload(&self) -> Data<'a>;

    /// Shows each field, in wire order, by its name in the specification.
    fn fields(&self, each: &mut dyn FnMut(&'static str, Value<'a>));

    /// Appends header and body, except for the bulk data, whose bytes must follow on the wire.
    fn encode_head(&self, tag: Tag, out: &mut Vec<u8>) {
        let start = out.len();
        let mut writer = Writer::new(out);
        writer.u32(0);
        writer.u8(Self::KIND);
        writer.u16(tag.0);
        self.encode_fields(&mut writer);
        let size = writer.position() - start + self.payload().len();
        writer.patch_u32(start, u32::try_from(size).unwrap_or(u32::MAX));
    }

    /// Appends the whole message.
    fn encode(&self, tag: Tag, out: &mut Vec<u8>) {
        self.encode_head(tag, out);
        out.extend_from_slice(self.payload().as_bytes());
    }
}

/// A request and the reply that answers it.
pub trait Request<'a>: Message<'a> {
    /// The message of type number [`Message::KIND`] + 1.
    type Reply<'r>: Message<'r>;
}
