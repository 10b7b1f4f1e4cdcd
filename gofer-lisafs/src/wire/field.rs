//! What a field of a message can do: be read, be written, be shown.

use gofer_transport::codec::{DecodeError, Reader, Writer};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::lists::{Dirents, ReadData, Strings, WriteData};
use super::types::{CreateCommon, Fdid, Inode, Mid, StatFs, Statx, Timespec, WalkStatus};

/// A field's content, for those who print, compare or collect.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A number without a sign.
    Number(u64),
    /// A number with a sign.
    Signed(i64),
    /// An object of the server.
    Fdid(Fdid),
    /// Objects of the server.
    Fdids(&'a [Fdid]),
    /// Message numbers.
    Mids(&'a [Mid]),
    /// A string.
    Text(&'a [u8]),
    /// Strings.
    Texts(Strings<'a>),
    /// Bulk data.
    Data(&'a [u8]),
    /// Attributes.
    Stat(&'a Statx),
    /// Attributes of several files.
    Stats(&'a [Statx]),
    /// A file with its control FD.
    Inode(&'a Inode),
    /// Files with their control FDs.
    Inodes(&'a [Inode]),
    /// Numbers of a file system.
    StatFs(&'a StatFs),
    /// A time to set.
    Time(&'a Timespec),
    /// The common start of requests that make something.
    Create(&'a CreateCommon),
    /// Directory entries.
    Dirents(Dirents<'a>),
}

pub(super) trait Field<'a>: Sized + Copy {
    /// Bytes of the field when what is variable in it is empty.
    const SIZE: usize;

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// Appends the field; of bulk data only the count.
    fn write(&self, out: &mut Writer<'_>);

    fn value(&self) -> Value<'_>;

    /// Bulk data, whose bytes go behind everything else.
    fn data(&self) -> &'a [u8] {
        &[]
    }
}

macro_rules! numbers {
    ($($type:ident as $variant:ident),*) => {$(
        impl<'a> Field<'a> for $type {
            const SIZE: usize = size_of::<$type>();
            fn read(reader: &mut Reader<'a>) -> Result<$type, DecodeError> {
                reader.$type()
            }
            fn write(&self, out: &mut Writer<'_>) {
                out.$type(*self);
            }
            fn value(&self) -> Value<'_> {
                Value::$variant((*self).into())
            }
        }
    )*};
}

numbers!(u32 as Number, u64 as Number, i32 as Signed, i64 as Signed);

impl<'a> Field<'a> for WalkStatus {
    const SIZE: usize = 1;
    fn read(reader: &mut Reader<'a>) -> Result<WalkStatus, DecodeError> {
        reader.u8().map(WalkStatus)
    }
    fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.0);
    }
    fn value(&self) -> Value<'_> {
        Value::Number(self.0.into())
    }
}

impl<'a> Field<'a> for Fdid {
    const SIZE: usize = 8;
    fn read(reader: &mut Reader<'a>) -> Result<Fdid, DecodeError> {
        reader.u64().map(Fdid::new)
    }
    fn write(&self, out: &mut Writer<'_>) {
        out.u64(self.get());
    }
    fn value(&self) -> Value<'_> {
        Value::Fdid(*self)
    }
}

macro_rules! structures {
    ($($type:ty as $variant:ident),*) => {$(
        impl<'a> Field<'a> for $type {
            const SIZE: usize = size_of::<$type>();
            fn read(reader: &mut Reader<'a>) -> Result<$type, DecodeError> {
                let bytes = reader.array::<{ size_of::<$type>() }>()?;
                Ok(zerocopy::transmute!(*bytes))
            }
            fn write(&self, out: &mut Writer<'_>) {
                out.bytes(self.as_bytes());
            }
            fn value(&self) -> Value<'_> {
                Value::$variant(self)
            }
        }
    )*};
}

structures!(
    Statx as Stat,
    Inode as Inode,
    StatFs as StatFs,
    Timespec as Time,
    CreateCommon as Create
);

fn read_array<'a, T>(reader: &mut Reader<'a>) -> Result<&'a [T], DecodeError>
where
    T: FromBytes + Immutable + KnownLayout + Unaligned,
{
    let count = usize::from(reader.u16()?);
    // At most 65535 elements of at most 152 bytes: the product cannot overflow.
    let bytes = reader.bytes(count * size_of::<T>())?;
    <[T]>::ref_from_bytes(bytes).map_err(|_| DecodeError::BadValue("array"))
}

macro_rules! arrays {
    ($($type:ty as $variant:ident),*) => {$(
        impl<'a> Field<'a> for &'a [$type] {
            const SIZE: usize = 2;
            fn read(reader: &mut Reader<'a>) -> Result<&'a [$type], DecodeError> {
                read_array(reader)
            }
            fn write(&self, out: &mut Writer<'_>) {
                // More than the count can say is left out, so that the message stays well-formed.
                let count = u16::try_from(self.len()).unwrap_or(u16::MAX);
                out.u16(count);
                out.bytes(self[..usize::from(count)].as_bytes());
            }
            fn value(&self) -> Value<'_> {
                Value::$variant(self)
            }
        }
    )*};
}

arrays!(Fdid as Fdids, Mid as Mids, Statx as Stats, Inode as Inodes);

impl<'a> Field<'a> for &'a [u8] {
    const SIZE: usize = 2;
    fn read(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
        reader.string()
    }
    fn write(&self, out: &mut Writer<'_>) {
        out.string(self);
    }
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

macro_rules! lists {
    ($($type:ident as $variant:ident),*) => {$(
        impl<'a> Field<'a> for $type<'a> {
            const SIZE: usize = 2;
            fn read(reader: &mut Reader<'a>) -> Result<$type<'a>, DecodeError> {
                $type::read(reader)
            }
            fn write(&self, out: &mut Writer<'_>) {
                $type::write(self, out);
            }
            fn value(&self) -> Value<'_> {
                Value::$variant(*self)
            }
        }
    )*};
}

lists!(Strings as Texts, Dirents as Dirents);

macro_rules! bulk {
    ($($type:ident),*) => {$(
        impl<'a> Field<'a> for $type<'a> {
            const SIZE: usize = $type::COUNT_SIZE;
            fn read(reader: &mut Reader<'a>) -> Result<$type<'a>, DecodeError> {
                $type::read(reader)
            }
            fn write(&self, out: &mut Writer<'_>) {
                $type::write(self, out);
            }
            fn value(&self) -> Value<'_> {
                Value::Data(self.0)
            }
            fn data(&self) -> &'a [u8] {
                self.0
            }
        }
    )*};
}

bulk!(WriteData, ReadData);
