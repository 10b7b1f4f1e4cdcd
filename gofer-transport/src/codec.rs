//! Little-endian fields in byte strings. Reading never panics and never trusts a count.

use std::fmt;

/// Why bytes do not decode. Small and without heap, so that refusing garbage costs nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// A field needs more bytes than are left.
    Truncated {
        /// Bytes the field needs.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A message type this side does not know.
    UnknownType(u16),
    /// A field holds a value it must not.
    BadValue(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated { needed, left } => {
                write!(f, "truncated: {needed} bytes needed, {left} left")
            }
            DecodeError::UnknownType(number) => write!(f, "unknown message type {number}"),
            DecodeError::BadValue(field) => write!(f, "bad value in {field}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Takes fields off the front of a byte string.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

macro_rules! read_integers {
    ($($name:ident $type:ty),*) => {$(
        /// The next integer.
        pub fn $name(&mut self) -> Result<$type, DecodeError> {
            const SIZE: usize = size_of::<$type>();
            let Some((head, tail)) = self.rest.split_first_chunk::<SIZE>() else {
                return Err(DecodeError::Truncated { needed: SIZE, left: self.rest.len() });
            };
            self.rest = tail;
            Ok(<$type>::from_le_bytes(*head))
        }
    )*};
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    read_integers!(u8 u8, u16 u16, u32 u32, u64 u64, i32 i32, i64 i64);

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(count) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(DecodeError::Truncated {
                needed: count,
                left: self.rest.len(),
            }),
        }
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], DecodeError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(DecodeError::Truncated {
                needed: N,
                left: self.rest.len(),
            }),
        }
    }

    /// A string with a 16-bit length before it: both protocols have the same.
    pub fn string(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }

    /// Bytes not read yet, without taking them.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }
}

/// Appends fields to a byte vector that is reused from message to message.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

macro_rules! write_integers {
    ($($name:ident $type:ty),*) => {$(
        /// Appends an integer.
        pub fn $name(&mut self, value: $type) {
            self.out.extend_from_slice(&value.to_le_bytes());
        }
    )*};
}

impl<'a> Writer<'a> {
    /// Appends after what `out` holds.
    pub fn new(out: &'a mut Vec<u8>) -> Writer<'a> {
        Writer { out }
    }

    write_integers!(u8 u8, u16 u16, u32 u32, u64 u64, i32 i32, i64 i64);

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends a string with its 16-bit length. A longer one is cut to what the length can say:
    /// callers check lengths first, and a cut string stays a well-formed message.
    pub fn string(&mut self, bytes: &[u8]) {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.u16(length);
        self.bytes(&bytes[..usize::from(length)]);
    }

    /// Appends `count` zero bytes.
    pub fn zeros(&mut self, count: usize) {
        self.out.resize(self.out.len() + count, 0);
    }

    /// Bytes in the vector so far.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// Overwrites the 32-bit integer at `position`, such as a size that is known at the end.
    ///
    /// # Panics
    /// When those four bytes have not been written yet: a mistake of the caller.
    pub fn patch_u32(&mut self, position: usize, value: u32) {
        self.out[position..position + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// As [`Writer::patch_u32`], 64 bits.
    ///
    /// # Panics
    /// When those eight bytes have not been written yet.
    pub fn patch_u64(&mut self, position: usize, value: u64) {
        self.out[position..position + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// As [`Writer::patch_u32`], 16 bits.
    ///
    /// # Panics
    /// When those two bytes have not been written yet.
    pub fn patch_u16(&mut self, position: usize, value: u16) {
        self.out[position..position + 2].copy_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_in_order() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.u32(0);
        writer.u8(7);
        writer.string(b"ab");
        writer.i64(-2);
        writer.patch_u32(0, 99);
        let mut reader = Reader::new(&out);
        assert_eq!(reader.u32(), Ok(99));
        assert_eq!(reader.u8(), Ok(7));
        assert_eq!(reader.string(), Ok(&b"ab"[..]));
        assert_eq!(reader.i64(), Ok(-2));
        assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn a_count_beyond_the_end_is_refused() {
        let mut reader = Reader::new(&[5, 0, b'a', b'b']);
        assert_eq!(
            reader.string(),
            Err(DecodeError::Truncated { needed: 5, left: 2 })
        );
        assert_eq!(
            Reader::new(&[1]).u32(),
            Err(DecodeError::Truncated { needed: 4, left: 1 })
        );
    }

    #[test]
    fn a_string_too_long_for_its_count_stays_well_formed() {
        let mut out = Vec::new();
        Writer::new(&mut out).string(&vec![b'x'; 70_000]);
        assert_eq!(Reader::new(&out).string().unwrap().len(), 65_535);
        assert_eq!(out.len(), 65_537);
    }
}
