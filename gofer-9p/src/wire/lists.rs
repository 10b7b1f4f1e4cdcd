//! Lists inside messages: either bytes as they came, checked once and never copied, or a slice
//! of the sender's.

use std::fmt;

use gofer_transport::codec::{DecodeError, Reader, Writer};

use super::types::{Dirent, Qid, Stat};

macro_rules! list {
    ($(#[$doc:meta])* $list:ident of $item:ty, read $read:path, write $write:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $list<'a>(Source<'a, $item>);

        impl<'a> $list<'a> {
            /// A list to send. At most 65,535 items count.
            pub fn new(items: &'a [$item]) -> $list<'a> {
                $list(Source::Slice(items))
            }

            /// How many items there are.
            pub fn len(&self) -> usize {
                match self.0 {
                    Source::Wire { count, .. } => usize::from(count),
                    Source::Slice(items) => items.len(),
                }
            }

            /// Whether there are none.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// The items, in order.
            pub fn iter(&self) -> impl Iterator<Item = $item> + use<'a> {
                let (mut reader, items) = match self.0 {
                    Source::Wire { bytes, .. } => (Reader::new(bytes), &[][..]),
                    Source::Slice(items) => (Reader::new(&[]), items),
                };
                // Checked when it was decoded: it ends with its bytes.
                std::iter::from_fn(move || $read(&mut reader).ok()).chain(items.iter().copied())
            }

            pub(super) fn read(reader: &mut Reader<'a>) -> Result<$list<'a>, DecodeError> {
                let count = reader.u16()?;
                let bytes = reader.rest();
                for _ in 0..count {
                    $read(reader)?;
                }
                let used = bytes.len() - reader.remaining();
                let bytes = bytes.get(..used).unwrap_or_default();
                Ok($list(Source::Wire { count, bytes }))
            }
        }

        impl $list<'_> {
            pub(super) fn write(&self, out: &mut Writer<'_>) {
                let count = u16::try_from(self.len()).unwrap_or(u16::MAX);
                out.u16(count);
                for item in self.iter().take(usize::from(count)) {
                    $write(out, item);
                }
            }
        }

        impl PartialEq for $list<'_> {
            fn eq(&self, other: &$list<'_>) -> bool {
                self.iter().eq(other.iter())
            }
        }

        impl Eq for $list<'_> {}

        impl fmt::Debug for $list<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.iter()).finish()
            }
        }
    };
}

#[derive(Clone, Copy)]
enum Source<'a, T> {
    /// Checked: `count` items and nothing else.
    Wire {
        count: u16,
        bytes: &'a [u8],
    },
    Slice(&'a [T]),
}

list! {
    /// Names, of Twalk and others.
    Names of &'a [u8], read Reader::string, write |out: &mut Writer<'_>, name| out.string(name)
}

list! {
    /// The qids of Rwalk.
    Qids of Qid, read Qid::read, write |out, qid: Qid| qid.write(out)
}

list! {
    /// The records of Rmultigetattr.
    Stats of Stat, read Stat::read, write |out, stat: Stat| stat.write(out)
}

/// The entries of Rreaddir, as the bytes they are: a server makes them with [`Dirent::write`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Dirents<'a>(&'a [u8]);

impl<'a> Dirents<'a> {
    /// Encoded entries.
    pub fn new(bytes: &'a [u8]) -> Dirents<'a> {
        Dirents(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The entries, in order; one that does not decode is an error and the last item.
    pub fn iter(&self) -> impl Iterator<Item = Result<Dirent<'a>, DecodeError>> + use<'a> {
        let mut reader = Reader::new(self.0);
        std::iter::from_fn(move || {
            if reader.remaining() == 0 {
                return None;
            }
            let entry = Dirent::read(&mut reader);
            if entry.is_err() {
                reader = Reader::new(&[]);
            }
            Some(entry)
        })
    }
}

impl fmt::Debug for Dirents<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
