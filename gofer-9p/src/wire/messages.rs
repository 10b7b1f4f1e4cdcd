//! All messages: one table makes the structs, both enums, the codec and the names.
//!
//! The order of fields is the order on the wire. `type` is a raw identifier because the
//! specification calls it so.

use gofer_transport::codec::{DecodeError, Reader, Writer};

use super::field::{Field, Value};
use super::flags::{GetattrMask, LockFlags, OpenFlags, SetattrMask, UnlinkFlags, XattrFlags};
use super::lists::{Dirents, Names, Qids, Stats};
use super::types::{AttrBlock, Data, Fid, LockStatus, LockType, Qid, SocketType, Tag};
use super::{Message, Request};

macro_rules! message {
    ($lt:lifetime $(#[$doc:meta])* $kind:literal $name:ident $(<$own:lifetime>)? {
        $($field:ident: $type:ty),* $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(missing_docs)]
        pub struct $name $(<$own>)? { $(pub $field: $type,)* }

        impl<$lt> Message<$lt> for $name $(<$own>)? {
            const KIND: u8 = $kind;
            const NAME: &'static str = stringify!($name);

            fn decode(_body: &mut Reader<$lt>) -> Result<Self, DecodeError> {
                Ok($name { $($field: Field::read(_body)?,)* })
            }

            fn encode_fields(&self, _out: &mut Writer<'_>) {
                $(Field::write(&self.$field, _out);)*
            }

            fn payload(&self) -> Data<$lt> {
                let payload = Data::new(&[]);
                // Bulk data is always the last field.
                $(let payload = if payload.is_empty() { Field::payload(&self.$field) } else { payload };)*
                payload
            }

            fn fields(&self, _each: &mut dyn FnMut(&'static str, Value<$lt>)) {
                $(_each(stringify!($field).trim_start_matches("r#"), Field::value(&self.$field));)*
            }
        }
    };
}

macro_rules! direction {
    ($lt:lifetime $(#[$doc:meta])* $enum:ident { $($name:ident $(<$own:lifetime>)?,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(missing_docs)]
        pub enum $enum<$lt> { $($name($name $(<$own>)?),)* }

        impl<$lt> $enum<$lt> {
            /// Reads the body of a message of type `kind`. Types of the other direction are
            /// unknown, too (9P 2.5).
            pub fn decode(kind: u8, body: &$lt [u8]) -> Result<$enum<$lt>, DecodeError> {
                let mut body = Reader::new(body);
                match kind {
                    $($name::KIND => $name::decode(&mut body).map($enum::$name),)*
                    _ => Err(DecodeError::UnknownType(u16::from(kind))),
                }
            }

            /// The name of the messages of type `kind`.
            pub fn name_of(kind: u8) -> Option<&'static str> {
                match kind { $($name::KIND => Some($name::NAME),)* _ => None }
            }

            /// The type number.
            pub fn kind(&self) -> u8 {
                match self { $($enum::$name(_) => $name::KIND,)* }
            }

            /// The name, such as `Twalk` or `Rwalk`.
            pub fn name(&self) -> &'static str {
                match self { $($enum::$name(_) => $name::NAME,)* }
            }

            /// Appends the whole message.
            pub fn encode(&self, tag: Tag, out: &mut Vec<u8>) {
                match self { $($enum::$name(message) => message.encode(tag, out),)* }
            }

            /// Appends header and body without the bulk data, see [`Message::encode_head`].
            pub fn encode_head(&self, tag: Tag, out: &mut Vec<u8>) {
                match self { $($enum::$name(message) => message.encode_head(tag, out),)* }
            }

            /// The bulk data, see [`Message::payload`].
            pub fn payload(&self) -> Data<$lt> {
                match self { $($enum::$name(message) => message.payload(),)* }
            }

            /// Shows each field in wire order.
            pub fn fields(&self, each: &mut dyn FnMut(&'static str, Value<$lt>)) {
                match self { $($enum::$name(message) => message.fields(each),)* }
            }
        }

        $(impl<$lt> From<$name $(<$own>)?> for $enum<$lt> {
            fn from(message: $name $(<$own>)?) -> $enum<$lt> {
                $enum::$name(message)
            }
        })*
    };
}

macro_rules! messages {
    ($t:lifetime $r:lifetime
        { $(#[$edoc:meta])* $ekind:literal $error:ident { $($efields:tt)* } }
        $({
            $(#[$tdoc:meta])* $tkind:literal $request:ident $(<$town:lifetime>)? { $($tfields:tt)* }
            $(#[$rdoc:meta])* $rkind:literal $reply:ident $(<$rown:lifetime>)? { $($rfields:tt)* }
        })*
    ) => {
        message! { $r $(#[$edoc])* $ekind $error { $($efields)* } }
        $(
            message! { $t $(#[$tdoc])* $tkind $request $(<$town>)? { $($tfields)* } }
            message! { $r $(#[$rdoc])* $rkind $reply $(<$rown>)? { $($rfields)* } }

            impl<$t> Request<$t> for $request $(<$town>)? {
                type Reply<$r> = $reply $(<$rown>)?;
            }

            const _: () = assert!($rkind == $tkind + 1);
        )*
        direction! {
            $t
            /// Any request.
            TMessage { $($request $(<$town>)?,)* }
        }
        direction! {
            $r
            /// Any reply.
            RMessage { $error, $($reply $(<$rown>)?,)* }
        }
    };
}

messages! { 't 'r
    {
        /// An errno in place of any reply (9P 7.3).
        7 Rlerror { ecode: u32 }
    }
    {
        /// statfs(2) (9P 8.8).
        8 Tstatfs { fid: Fid }
        /// Answers [`Tstatfs`].
        9 Rstatfs {
            r#type: u32, bsize: u32, blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64,
            fsid: u64, namelen: u32,
        }
    }
    {
        /// Opens the file of a fid (9P 8.9).
        12 Tlopen { fid: Fid, flags: OpenFlags }
        /// Answers [`Tlopen`]; a descriptor may come along.
        13 Rlopen { qid: Qid, iounit: u32 }
    }
    {
        /// Makes and opens a regular file; the fid becomes the file (9P 8.10).
        14 Tlcreate<'t> { fid: Fid, name: &'t [u8], flags: OpenFlags, mode: u32, gid: u32 }
        /// Answers [`Tlcreate`]; a descriptor may come along.
        15 Rlcreate { qid: Qid, iounit: u32 }
    }
    {
        /// Makes a symbolic link (9P 8.11).
        16 Tsymlink<'t> { dfid: Fid, name: &'t [u8], symtgt: &'t [u8], gid: u32 }
        /// Answers [`Tsymlink`].
        17 Rsymlink { qid: Qid }
    }
    {
        /// Makes a fifo, socket, device or regular file (9P 8.12).
        18 Tmknod<'t> {
            dfid: Fid, name: &'t [u8], mode: u32, major: u32, minor: u32, gid: u32,
        }
        /// Answers [`Tmknod`].
        19 Rmknod { qid: Qid }
    }
    {
        /// Renames by fid (9P 8.13).
        20 Trename<'t> { fid: Fid, dfid: Fid, name: &'t [u8] }
        /// Answers [`Trename`].
        21 Rrename {}
    }
    {
        /// readlink(2) (9P 8.14).
        22 Treadlink { fid: Fid }
        /// Answers [`Treadlink`].
        23 Rreadlink<'r> { target: &'r [u8] }
    }
    {
        /// Asks for attributes (9P 8.15).
        24 Tgetattr { fid: Fid, request_mask: GetattrMask }
        /// Answers [`Tgetattr`].
        25 Rgetattr { valid: GetattrMask, qid: Qid, attr: AttrBlock }
    }
    {
        /// Changes attributes (9P 8.16).
        26 Tsetattr {
            fid: Fid, valid: SetattrMask, mode: u32, uid: u32, gid: u32, size: u64,
            atime_sec: u64, atime_nsec: u64, mtime_sec: u64, mtime_nsec: u64,
        }
        /// Answers [`Tsetattr`].
        27 Rsetattr {}
    }
    {
        /// Lists extended attributes; `size` is a hint (9P 9.10).
        28 Tlistxattr { fid: Fid, size: u64 }
        /// Answers [`Tlistxattr`].
        29 Rlistxattr<'r> { names: Names<'r> }
    }
    {
        /// Makes a fid of an extended attribute's value (9P 8.17).
        30 Txattrwalk<'t> { fid: Fid, newfid: Fid, name: &'t [u8] }
        /// Answers [`Txattrwalk`].
        31 Rxattrwalk { size: u64 }
    }
    {
        /// Turns a fid into one that takes an extended attribute's value (9P 8.18).
        32 Txattrcreate<'t> { fid: Fid, name: &'t [u8], attr_size: u64, flags: XattrFlags }
        /// Answers [`Txattrcreate`].
        33 Rxattrcreate {}
    }
    {
        /// Reads an extended attribute; `size` is a hint (9P 9.9).
        34 Tgetxattr<'t> { fid: Fid, name: &'t [u8], size: u64 }
        /// Answers [`Tgetxattr`].
        35 Rgetxattr<'r> { value: &'r [u8] }
    }
    {
        /// Sets an extended attribute (9P 9.9).
        36 Tsetxattr<'t> { fid: Fid, name: &'t [u8], value: &'t [u8], flags: XattrFlags }
        /// Answers [`Tsetxattr`].
        37 Rsetxattr {}
    }
    {
        /// Removes an extended attribute (9P 9.10).
        38 Tremovexattr<'t> { fid: Fid, name: &'t [u8] }
        /// Answers [`Tremovexattr`].
        39 Rremovexattr {}
    }
    {
        /// Lists a directory from a cookie on (9P 8.19).
        40 Treaddir { fid: Fid, offset: u64, count: u32 }
        /// Answers [`Treaddir`].
        41 Rreaddir<'r> { entries: Dirents<'r> }
    }
    {
        /// fsync(2); `datasync` is absent in an old form that is only read (9P 8.22).
        50 Tfsync { fid: Fid, datasync: Option<u32> }
        /// Answers [`Tfsync`].
        51 Rfsync {}
    }
    {
        /// Takes or gives back a lock (9P 8.23).
        52 Tlock<'t> {
            fid: Fid, r#type: LockType, flags: LockFlags, start: u64, length: u64, proc_id: u32,
            client_id: &'t [u8],
        }
        /// Answers [`Tlock`].
        53 Rlock { status: LockStatus }
    }
    {
        /// Asks what stands in a lock's way (9P 8.24).
        54 Tgetlock<'t> {
            fid: Fid, r#type: LockType, start: u64, length: u64, proc_id: u32, client_id: &'t [u8],
        }
        /// Answers [`Tgetlock`].
        55 Rgetlock<'r> {
            r#type: LockType, start: u64, length: u64, proc_id: u32, client_id: &'r [u8],
        }
    }
    {
        /// Makes a hard link (9P 8.20).
        70 Tlink<'t> { dfid: Fid, fid: Fid, name: &'t [u8] }
        /// Answers [`Tlink`].
        71 Rlink {}
    }
    {
        /// Makes a directory (9P 8.21).
        72 Tmkdir<'t> { dfid: Fid, name: &'t [u8], mode: u32, gid: u32 }
        /// Answers [`Tmkdir`].
        73 Rmkdir { qid: Qid }
    }
    {
        /// Renames by name (9P 8.25).
        74 Trenameat<'t> {
            olddirfid: Fid, oldname: &'t [u8], newdirfid: Fid, newname: &'t [u8],
        }
        /// Answers [`Trenameat`].
        75 Rrenameat {}
    }
    {
        /// Removes by name (9P 8.26).
        76 Tunlinkat<'t> { dirfid: Fid, name: &'t [u8], flags: UnlinkFlags }
        /// Answers [`Tunlinkat`].
        77 Runlinkat {}
    }
    {
        /// Agrees on dialect and message size (9P 4).
        100 Tversion<'t> { msize: u32, version: &'t [u8] }
        /// Answers [`Tversion`].
        101 Rversion<'r> { msize: u32, version: &'r [u8] }
    }
    {
        /// Opens an authentication conversation (9P 8.2).
        102 Tauth<'t> { afid: Fid, uname: &'t [u8], aname: &'t [u8], n_uname: u32 }
        /// Answers [`Tauth`].
        103 Rauth { aqid: Qid }
    }
    {
        /// Makes a fid of the root of a tree (9P 8.2).
        104 Tattach<'t> { fid: Fid, afid: Fid, uname: &'t [u8], aname: &'t [u8], n_uname: u32 }
        /// Answers [`Tattach`].
        105 Rattach { qid: Qid }
    }
    {
        /// Gives up an earlier request (9P 3.3).
        108 Tflush { oldtag: Tag }
        /// Answers [`Tflush`].
        109 Rflush {}
    }
    {
        /// Walks down names (9P 8.3).
        110 Twalk<'t> { fid: Fid, newfid: Fid, wnames: Names<'t> }
        /// Answers [`Twalk`].
        111 Rwalk<'r> { wqids: Qids<'r> }
    }
    {
        /// Reads (9P 8.6).
        116 Tread { fid: Fid, offset: u64, count: u32 }
        /// Answers [`Tread`].
        117 Rread<'r> { data: Data<'r> }
    }
    {
        /// Writes (9P 8.7).
        118 Twrite<'t> { fid: Fid, offset: u64, data: Data<'t> }
        /// Answers [`Twrite`].
        119 Rwrite { count: u32 }
    }
    {
        /// Ends a fid (9P 8.4).
        120 Tclunk { fid: Fid }
        /// Answers [`Tclunk`].
        121 Rclunk {}
    }
    {
        /// Removes the file of a fid and ends the fid (9P 8.5).
        122 Tremove { fid: Fid }
        /// Answers [`Tremove`].
        123 Rremove {}
    }
    {
        /// Hands buffered data on before a close (9P 9.2).
        124 Tflushf { fid: Fid }
        /// Answers [`Tflushf`].
        125 Rflushf {}
    }
    {
        /// Walks and asks for the attributes of the last file (9P 9.3).
        126 Twalkgetattr<'t> { fid: Fid, newfid: Fid, wnames: Names<'t> }
        /// Answers [`Twalkgetattr`].
        127 Rwalkgetattr<'r> { valid: GetattrMask, attr: AttrBlock, wqids: Qids<'r> }
    }
    {
        /// [`Tlcreate`] with an owner, always exclusive (9P 9.4).
        128 Tucreate<'t> {
            fid: Fid, name: &'t [u8], flags: OpenFlags, mode: u32, gid: u32, uid: u32,
        }
        /// Answers [`Tucreate`]; a descriptor may come along.
        129 Rucreate { qid: Qid, iounit: u32 }
    }
    {
        /// [`Tmkdir`] with an owner (9P 9.4).
        130 Tumkdir<'t> { dfid: Fid, name: &'t [u8], mode: u32, gid: u32, uid: u32 }
        /// Answers [`Tumkdir`].
        131 Rumkdir { qid: Qid }
    }
    {
        /// [`Tmknod`] with an owner (9P 9.4).
        132 Tumknod<'t> {
            dfid: Fid, name: &'t [u8], mode: u32, major: u32, minor: u32, gid: u32, uid: u32,
        }
        /// Answers [`Tumknod`].
        133 Rumknod { qid: Qid }
    }
    {
        /// [`Tsymlink`] with an owner (9P 9.4).
        134 Tusymlink<'t> { dfid: Fid, name: &'t [u8], symtgt: &'t [u8], gid: u32, uid: u32 }
        /// Answers [`Tusymlink`].
        135 Rusymlink { qid: Qid }
    }
    {
        /// Connects to a Unix socket (9P 9.5).
        136 Tlconnect { fid: Fid, socket_type: SocketType }
        /// Answers [`Tlconnect`]; the connected socket comes along.
        137 Rlconnect {}
    }
    {
        /// fallocate(2) (9P 9.6).
        138 Tallocate { fid: Fid, mode: u32, offset: u64, length: u64 }
        /// Answers [`Tallocate`].
        139 Rallocate {}
    }
    {
        /// [`Tsetattr`], then [`Tclunk`] whatever came of it (9P 9.11).
        140 Tsetattrclunk {
            fid: Fid, valid: SetattrMask, mode: u32, uid: u32, gid: u32, size: u64,
            atime_sec: u64, atime_nsec: u64, mtime_sec: u64, mtime_nsec: u64,
        }
        /// Answers [`Tsetattrclunk`].
        141 Rsetattrclunk {}
    }
    {
        /// Attributes of each file on a path (9P 9.12).
        142 Tmultigetattr<'t> { fid: Fid, names: Names<'t> }
        /// Answers [`Tmultigetattr`]; shorter where the path ends early.
        143 Rmultigetattr<'r> { stats: Stats<'r> }
    }
    {
        /// Makes a bound Unix socket; no dialect announces it (9P 9.13).
        144 Tbind<'t> {
            dfid: Fid, sock_type: u32, sock_name: &'t [u8], uid: u32, gid: u32, newfid: Fid,
        }
        /// Answers [`Tbind`].
        145 Rbind { qid: Qid, valid: GetattrMask, attr: AttrBlock }
    }
    {
        /// Asks for a shared-memory channel (9P 11.1).
        250 Tchannel { id: u32, control: u32 }
        /// Answers [`Tchannel`]; a descriptor comes along.
        251 Rchannel { offset: u64, length: u64 }
    }
}
