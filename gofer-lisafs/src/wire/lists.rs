//! Parts of variable size: strings, directory entries, bulk data (lisafs 3, 4.6).

use std::fmt;

use gofer_transport::codec::{DecodeError, Reader, Writer};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A list of strings: taken from a payload as it lies there, or given as a slice to be written.
#[derive(Clone, Copy)]
pub struct Strings<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    /// `count` strings with their lengths, checked.
    Wire {
        count: u16,
        bytes: &'a [u8],
    },
    Slice(&'a [&'a [u8]]),
}

impl<'a> Strings<'a> {
    /// A list to be written. Entries beyond 65535 cannot be said on the wire and are left out.
    pub fn new(strings: &'a [&'a [u8]]) -> Strings<'a> {
        let end = strings.len().min(usize::from(u16::MAX));
        Strings(Source::Slice(&strings[..end]))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self.0 {
            Source::Wire { count, .. } => usize::from(count),
            Source::Slice(strings) => strings.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The strings, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (mut wire, slice) = match self.0 {
            Source::Wire { bytes, .. } => (Reader::new(bytes), &[][..]),
            Source::Slice(strings) => (Reader::new(&[]), strings),
        };
        // The bytes were checked when they were read; past their end the reader gives nothing.
        std::iter::from_fn(move || wire.string().ok()).chain(slice.iter().copied())
    }

    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Strings<'a>, DecodeError> {
        let count = reader.u16()?;
        let bytes = taken(reader, |reader| {
            for _ in 0..count {
                reader.string()?;
            }
            Ok(())
        })?;
        Ok(Strings(Source::Wire { count, bytes }))
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.u16(self.len() as u16);
        match self.0 {
            Source::Wire { bytes, .. } => out.bytes(bytes),
            Source::Slice(strings) => strings.iter().for_each(|string| out.string(string)),
        }
    }
}

impl fmt::Debug for Strings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|string| string.escape_ascii().to_string()))
            .finish()
    }
}

/// The bytes that `walk` takes off the front of `reader`.
fn taken<'a>(
    reader: &mut Reader<'a>,
    walk: impl FnOnce(&mut Reader<'a>) -> Result<(), DecodeError>,
) -> Result<&'a [u8], DecodeError> {
    let before = reader.rest();
    let mut ahead = reader.clone();
    walk(&mut ahead)?;
    reader.bytes(before.len() - ahead.remaining())
}

/// A directory entry. Not the kernel's record: no record length, no terminator (lisafs 4.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dirent<'a> {
    /// Inode number.
    pub ino: u64,
    /// Device of the file; minor comes first here.
    pub dev_minor: u32,
    /// Device of the file.
    pub dev_major: u32,
    /// Position cookie of the host's file system.
    pub off: u64,
    /// `DT_*` number.
    pub dtype: u8,
    /// Its name.
    pub name: &'a [u8],
}

/// An entry up to its name, read and written in one piece: listings are long.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct DirentHead {
    ino: U64,
    dev_minor: U32,
    dev_major: U32,
    off: U64,
    dtype: u8,
}

const _: () = assert!(size_of::<DirentHead>() + 2 == Dirent::FIXED_SIZE);

impl<'a> Dirent<'a> {
    /// Bytes of an entry without its name.
    pub const FIXED_SIZE: usize = 27;

    fn read(reader: &mut Reader<'a>) -> Result<Dirent<'a>, DecodeError> {
        let fixed: DirentHead =
            zerocopy::transmute!(*reader.array::<{ size_of::<DirentHead>() }>()?);
        Ok(Dirent {
            ino: fixed.ino.get(),
            dev_minor: fixed.dev_minor.get(),
            dev_major: fixed.dev_major.get(),
            off: fixed.off.get(),
            dtype: fixed.dtype,
            name: reader.string()?,
        })
    }

    fn write(&self, out: &mut Writer<'_>) {
        let fixed = DirentHead {
            ino: self.ino.into(),
            dev_minor: self.dev_minor.into(),
            dev_major: self.dev_major.into(),
            off: self.off.into(),
            dtype: self.dtype,
        };
        out.bytes(fixed.as_bytes());
        out.string(self.name);
    }
}

/// Directory entries as they lie in a payload, checked.
#[derive(Clone, Copy)]
pub struct Dirents<'a> {
    count: u16,
    bytes: &'a [u8],
}

impl<'a> Dirents<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = Dirent<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || Dirent::read(&mut reader).ok())
    }

    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Dirents<'a>, DecodeError> {
        let count = reader.u16()?;
        let bytes = taken(reader, |reader| {
            for _ in 0..count {
                Dirent::read(reader)?;
            }
            Ok(())
        })?;
        Ok(Dirents { count, bytes })
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.u16(self.count);
        out.bytes(self.bytes);
    }
}

impl fmt::Debug for Dirents<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Collects directory entries for a response.
#[derive(Clone, Default, Debug)]
pub struct DirentsBuf {
    count: u16,
    bytes: Vec<u8>,
}

impl DirentsBuf {
    /// Appends an entry. `false`, and nothing appended, once 65535 are there.
    pub fn push(&mut self, entry: &Dirent<'_>) -> bool {
        let Some(count) = self.count.checked_add(1) else {
            return false;
        };
        self.count = count;
        entry.write(&mut Writer::new(&mut self.bytes));
        true
    }

    /// Holds `entries` and nothing else, as they lie there.
    pub fn copy_from(&mut self, entries: Dirents<'_>) {
        self.count = entries.count;
        self.bytes.clear();
        self.bytes.extend_from_slice(entries.bytes);
    }

    /// Bytes the entries take on the wire, without the count before them.
    pub fn wire_len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets all entries and keeps the memory.
    pub fn clear(&mut self) {
        self.count = 0;
        self.bytes.clear();
    }

    /// The entries so far.
    pub fn as_dirents(&self) -> Dirents<'_> {
        Dirents {
            count: self.count,
            bytes: &self.bytes,
        }
    }
}

macro_rules! data {
    ($($(#[$doc:meta])* $Name:ident $read:ident $type:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $Name<'a>(pub &'a [u8]);

        impl<'a> $Name<'a> {
            pub(super) const COUNT_SIZE: usize = size_of::<$type>();

            pub(super) fn read(reader: &mut Reader<'a>) -> Result<$Name<'a>, DecodeError> {
                let count = reader.$read()?;
                // A count beyond the address space is certainly beyond the bytes.
                reader.bytes(usize::try_from(count).unwrap_or(usize::MAX)).map($Name)
            }

            /// Only the count; the bytes go behind everything else.
            pub(super) fn write(&self, out: &mut Writer<'_>) {
                out.$read($type::try_from(self.0.len()).unwrap_or($type::MAX));
            }
        }

        impl fmt::Debug for $Name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} bytes", self.0.len())
            }
        }
    )*};
}

data! {
    /// Data to write: a 32-bit count, then the bytes (lisafs 6.11).
    WriteData u32 u32;
    /// Data that was read: a 64-bit count, then the bytes (lisafs 6.12).
    ReadData u64 u64;
}
