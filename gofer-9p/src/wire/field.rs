//! What a field of a message can do: be read, be written, be shown.

use gofer_transport::codec::{DecodeError, Reader, Writer};

use super::flags::{
    GetattrMask, LockFlags, OpenFlags, QidType, SetattrMask, UnlinkFlags, XattrFlags,
};
use super::lists::{Dirents, Names, Qids, Stats};
use super::types::{AttrBlock, Data, Fid, LockStatus, LockType, Qid, SocketType, Tag};

/// A field's content, for those who print or compare messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// A number.
    Number(u64),
    /// A word of flags.
    Flags(u64),
    /// A string.
    Text(&'a [u8]),
    /// Bulk data.
    Data(Data<'a>),
    /// A qid.
    Qid(Qid),
    /// The attribute block.
    Attr(AttrBlock),
    /// Names.
    Names(Names<'a>),
    /// Qids.
    Qids(Qids<'a>),
    /// Directory entries.
    Dirents(Dirents<'a>),
    /// Records of Rmultigetattr.
    Stats(Stats<'a>),
    /// An optional field that is not there.
    Absent,
}

pub(super) trait Field<'a>: Sized + Copy {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// Appends the field; bulk data only with its count.
    fn write(&self, out: &mut Writer<'_>);

    fn value(&self) -> Value<'a>;

    /// The bulk data, whose bytes go behind everything else.
    fn payload(&self) -> Data<'a> {
        Data::new(&[])
    }
}

macro_rules! numbers {
    ($($type:ident),*) => {$(
        impl<'a> Field<'a> for $type {
            fn read(reader: &mut Reader<'a>) -> Result<$type, DecodeError> {
                reader.$type()
            }
            fn write(&self, out: &mut Writer<'_>) {
                out.$type(*self);
            }
            fn value(&self) -> Value<'a> {
                Value::Number(u64::from(*self))
            }
        }
    )*};
}

numbers!(u16, u32, u64);

macro_rules! newtypes {
    ($($type:ident of $inner:ident),*) => {$(
        impl<'a> Field<'a> for $type {
            fn read(reader: &mut Reader<'a>) -> Result<$type, DecodeError> {
                reader.$inner().map($type)
            }
            fn write(&self, out: &mut Writer<'_>) {
                out.$inner(self.0);
            }
            fn value(&self) -> Value<'a> {
                Value::Number(u64::from(self.0))
            }
        }
    )*};
}

newtypes!(Fid of u32, Tag of u16, LockType of u8, LockStatus of u8, SocketType of u32);

macro_rules! flags {
    ($($type:ident of $inner:ident),*) => {$(
        impl<'a> Field<'a> for $type {
            fn read(reader: &mut Reader<'a>) -> Result<$type, DecodeError> {
                reader.$inner().map($type::from_bits_retain)
            }
            fn write(&self, out: &mut Writer<'_>) {
                out.$inner(self.bits());
            }
            fn value(&self) -> Value<'a> {
                Value::Flags(u64::from(self.bits()))
            }
        }
    )*};
}

flags!(
    OpenFlags of u32, GetattrMask of u64, SetattrMask of u32, QidType of u8, LockFlags of u32,
    UnlinkFlags of u32, XattrFlags of u32
);

macro_rules! composites {
    ($($type:ty as $variant:ident),*) => {$(
        impl<'a> Field<'a> for $type {
            fn read(reader: &mut Reader<'a>) -> Result<$type, DecodeError> {
                <$type>::read(reader)
            }
            fn write(&self, out: &mut Writer<'_>) {
                <$type>::write(self, out);
            }
            fn value(&self) -> Value<'a> {
                Value::$variant(*self)
            }
        }
    )*};
}

composites!(Qid as Qid, AttrBlock as Attr, Names<'a> as Names, Qids<'a> as Qids, Stats<'a> as Stats);

impl<'a> Field<'a> for &'a [u8] {
    fn read(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
        reader.string()
    }
    fn write(&self, out: &mut Writer<'_>) {
        out.string(self);
    }
    fn value(&self) -> Value<'a> {
        Value::Text(self)
    }
}

/// The one optional field: `datasync` of Tfsync, which an old form leaves out (9P 8.22).
impl<'a> Field<'a> for Option<u32> {
    fn read(reader: &mut Reader<'a>) -> Result<Option<u32>, DecodeError> {
        if reader.remaining() == 0 {
            Ok(None)
        } else {
            reader.u32().map(Some)
        }
    }
    fn write(&self, out: &mut Writer<'_>) {
        if let Some(number) = self {
            out.u32(*number);
        }
    }
    fn value(&self) -> Value<'a> {
        self.map_or(Value::Absent, |number| Value::Number(u64::from(number)))
    }
}

fn read_counted<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let count = reader.u32()?;
    reader.bytes(usize::try_from(count).unwrap_or(usize::MAX))
}

fn write_count(len: usize, out: &mut Writer<'_>) {
    out.u32(u32::try_from(len).unwrap_or(u32::MAX));
}

impl<'a> Field<'a> for Data<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Data<'a>, DecodeError> {
        read_counted(reader).map(Data::new)
    }
    fn write(&self, out: &mut Writer<'_>) {
        write_count(self.len(), out);
    }
    fn value(&self) -> Value<'a> {
        Value::Data(*self)
    }
    fn payload(&self) -> Data<'a> {
        *self
    }
}

impl<'a> Field<'a> for Dirents<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Dirents<'a>, DecodeError> {
        read_counted(reader).map(Dirents::new)
    }
    fn write(&self, out: &mut Writer<'_>) {
        write_count(self.as_bytes().len(), out);
    }
    fn value(&self) -> Value<'a> {
        Value::Dirents(*self)
    }
    fn payload(&self) -> Data<'a> {
        Data::new(self.as_bytes())
    }
}
