//! The wire format of lisafs (lisafs 2.2, 3, 4, 6): bytes to messages and back.
//!
//! No I/O and no threads, so that the client, the server and the tests share it. Messages borrow
//! from the bytes they were decoded from; decoding allocates nothing, and every count is checked
//! against the bytes that are there before it is believed. Bytes after the end of a message and
//! the content of padding are ignored; padding must be there, though (lisafs 3).
//!
//! - [`SocketHeader`], [`ChannelHeader`]: what comes before a payload.
//! - One struct per message, all made from one table in `messages.rs`; [`AnyRequest`] and
//!   [`AnyResponse`] hold any of them.
//! - [`Message::encode`] appends a whole socket frame; [`Message::encode_head`] leaves bulk data
//!   out, so that it can be sent from where it lies.

mod field;
mod lists;
mod messages;
mod types;

use gofer_transport::codec::{Reader, Writer};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use field::Value;
pub use gofer_transport::codec::DecodeError;
pub use lists::{Dirent, Dirents, DirentsBuf, ReadData, Strings, WriteData};
pub use messages::*;
pub use types::{
    CreateCommon, Fdid, Inode, Mid, NO_ID, StatFs, Statx, StatxMask, StatxTimestamp, Timespec,
    UTIME_NOW, UTIME_OMIT, WalkStatus,
};
pub use zerocopy::little_endian;

/// What a client takes for `max_message_size` before Mount has answered (lisafs 2.4).
pub const MAX_MESSAGE_SIZE_BEFORE_MOUNT: u32 = 1 << 20;

/// `max_message_size` of gVisor's server: 2 MiB less a page (lisafs 2.4).
pub const MAX_MESSAGE_SIZE_STOCK: u32 = (2 << 20) - 4096;

/// `AT_REMOVEDIR` in the flags of [`UnlinkAtReq`].
pub const AT_REMOVEDIR: u32 = 0x200;

/// The eight bytes before a payload on a socket (lisafs 2.2).
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct SocketHeader {
    /// Bytes of payload that follow; these eight are not counted.
    pub payload_len: little_endian::U32,
    /// Which message it is.
    pub message: Mid,
    /// 0 when written, ignored when read.
    pub padding: [u8; 2],
}

const _: () = assert!(size_of::<SocketHeader>() == SocketHeader::SIZE);

impl SocketHeader {
    /// Its size in bytes.
    pub const SIZE: usize = 8;

    /// A header with zero padding.
    pub fn new(message: Mid, payload_len: u32) -> SocketHeader {
        SocketHeader {
            payload_len: payload_len.into(),
            message,
            padding: [0; 2],
        }
    }

    /// Reads a header. Whether the length is acceptable is the caller's question.
    pub fn decode(bytes: &[u8; SocketHeader::SIZE]) -> SocketHeader {
        zerocopy::transmute!(*bytes)
    }
}

/// The four bytes before a payload in a channel (lisafs 7.2).
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct ChannelHeader {
    /// Which message it is.
    pub message: Mid,
    /// Descriptors that come with it; 0 in requests.
    pub num_fds: u8,
    /// 0 when written, ignored when read.
    pub padding: u8,
}

const _: () = assert!(size_of::<ChannelHeader>() == ChannelHeader::SIZE);

impl ChannelHeader {
    /// Its size in bytes.
    pub const SIZE: usize = 4;

    /// A header with zero padding.
    pub fn new(message: Mid, num_fds: u8) -> ChannelHeader {
        ChannelHeader {
            message,
            num_fds,
            padding: 0,
        }
    }

    /// Reads a header.
    pub fn decode(bytes: &[u8; ChannelHeader::SIZE]) -> ChannelHeader {
        zerocopy::transmute!(*bytes)
    }

    /// The bytes to send.
    pub fn encode(self) -> [u8; ChannelHeader::SIZE] {
        zerocopy::transmute!(self)
    }
}

/// One message of the protocol, in one direction.
pub trait Message<'a>: Sized {
    /// Its number.
    const MID: Mid;
    /// Its name with its direction, such as `WalkReq`.
    const NAME: &'static str;
    /// Bytes of its payload when every string, list and data in it is empty.
    const MIN_SIZE: usize;

    /// Takes the message off the front of a payload. What follows it stays in the reader.
    fn read(payload: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// Appends the payload without its bulk data (but with the count of that).
    fn write(&self, out: &mut Writer<'_>);

    /// The bulk data that ends the payload of a PWrite request or a PRead response; empty for
    /// all others.
    fn data(&self) -> &'a [u8];

    /// Shows each field, in wire order, by its name in the specification.
    fn fields(&self, each: &mut dyn FnMut(&'static str, Value<'_>));

    /// Reads a payload; surplus bytes are ignored (lisafs 3).
    fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        Self::read(&mut Reader::new(payload))
    }

    /// Appends socket header and payload, except for the bulk data, whose bytes must follow on
    /// the wire.
    fn encode_head(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(SocketHeader::new(Self::MID, 0).as_bytes());
        let mut writer = Writer::new(out);
        self.write(&mut writer);
        let size = writer.position() - start - SocketHeader::SIZE + self.data().len();
        writer.patch_u32(start, u32::try_from(size).unwrap_or(u32::MAX));
    }

    /// Appends the whole frame as a socket carries it.
    fn encode(&self, out: &mut Vec<u8>) {
        self.encode_head(out);
        out.extend_from_slice(self.data());
    }
}

/// A request and the response that answers it.
pub trait Request<'a>: Message<'a> {
    /// The response of the same [`Mid`].
    type Response<'r>: Message<'r>;

    /// The most descriptors that come with the response (lisafs 2.3).
    const DESCRIPTORS: usize;
}
