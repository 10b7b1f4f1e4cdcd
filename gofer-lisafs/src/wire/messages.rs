//! Every message, from one table (lisafs 6).

use gofer_transport::codec::{DecodeError, Reader, Writer};

use super::field::{Field, Value};
use super::lists::{Dirents, ReadData, Strings, WriteData};
use super::types::{CreateCommon, Fdid, Inode, Mid, StatFs, Statx, Timespec, WalkStatus};
use super::{Message, Request};

/// One message in one direction. `pad` after a field is that many bytes of padding.
macro_rules! message {
    (
        $lt:lifetime $(#[$doc:meta])* $Name:ident $(<$own:lifetime>)? of $mid:expr, $size:literal bytes
        { $($field:ident: $type:ty $(; pad $pad:literal)?),* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[allow(missing_docs)]
        pub struct $Name $(<$own>)? { $(pub $field: $type),* }

        impl<$lt> Message<$lt> for $Name $(<$own>)? {
            const MID: Mid = $mid;
            const NAME: &'static str = stringify!($Name);
            const MIN_SIZE: usize = 0 $(+ <$type as Field<$lt>>::SIZE $(+ $pad)?)*;

            #[allow(unused_variables)]
            fn read(payload: &mut Reader<$lt>) -> Result<Self, DecodeError> {
                $(
                    let $field = <$type as Field<$lt>>::read(payload)?;
                    $(payload.bytes($pad)?;)?
                )*
                Ok($Name { $($field),* })
            }

            #[allow(unused_variables)]
            fn write(&self, out: &mut Writer<'_>) {
                $(
                    Field::write(&self.$field, out);
                    $(out.zeros($pad);)?
                )*
            }

            fn data(&self) -> &$lt [u8] {
                let data: &$lt [u8] = &[];
                $(let data = match Field::<$lt>::data(&self.$field) {
                    [] => data,
                    bytes => bytes,
                };)*
                data
            }

            #[allow(unused_variables)]
            fn fields(&self, each: &mut dyn FnMut(&'static str, Value<'_>)) {
                $(each(stringify!($field), Field::value(&self.$field));)*
            }
        }

        const _: () = assert!(<$Name as Message<'static>>::MIN_SIZE == $size);
    };
}

macro_rules! messages {
    ($q:lifetime $r:lifetime; $(
        $(#[$doc:meta])*
        $number:literal $CONSTANT:ident $Variant:ident, $descriptors:literal descriptors
        $Req:ident $(<$ql:lifetime>)? $req_size:literal bytes { $($req:tt)* }
        $Resp:ident $(<$rl:lifetime>)? $resp_size:literal bytes { $($resp:tt)* }
    )*) => {
        $(
            message! { $q $(#[$doc])* $Req $(<$ql>)? of Mid::$CONSTANT, $req_size bytes { $($req)* } }
            message! {
                $r
                #[doc = concat!("Answers [`", stringify!($Req), "`].")]
                $Resp $(<$rl>)? of Mid::$CONSTANT, $resp_size bytes { $($resp)* }
            }

            impl<$q> Request<$q> for $Req $(<$ql>)? {
                type Response<$r> = $Resp $(<$rl>)?;
                const DESCRIPTORS: usize = $descriptors;
            }
        )*

        impl Mid {
            $(
                #[doc = concat!("[`", stringify!($Req), "`], [`", stringify!($Resp), "`].")]
                pub const $CONSTANT: Mid = Mid::new($number);
            )*

            /// All requests with a name, ascending.
            pub const REQUESTS: &'static [Mid] = &[$(Mid::$CONSTANT),*];

            /// The message's name; `None` for a number without one.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    Mid::ERROR => Some("Error"),
                    $(Mid::$CONSTANT => Some(stringify!($Variant)),)*
                    _ => None,
                }
            }

            /// The most descriptors that may come with a response of this type (lisafs 2.3).
            pub fn descriptors(self) -> usize {
                match self {
                    $(Mid::$CONSTANT => $descriptors,)*
                    _ => 0,
                }
            }
        }

        /// Any request.
        #[derive(Clone, Copy, Debug)]
        #[allow(missing_docs)]
        pub enum AnyRequest<$q> { $($Variant($Req $(<$ql>)?)),* }

        impl<$q> AnyRequest<$q> {
            /// Reads the payload of request `mid`; surplus bytes are ignored. A number without a
            /// name, and that of Error, is [`DecodeError::UnknownType`].
            pub fn decode(mid: Mid, payload: &$q [u8]) -> Result<AnyRequest<$q>, DecodeError> {
                match mid {
                    $(Mid::$CONSTANT => $Req::decode(payload).map(AnyRequest::$Variant),)*
                    _ => Err(DecodeError::UnknownType(mid.get())),
                }
            }

            /// Appends the whole frame as a socket carries it.
            pub fn encode(&self, out: &mut Vec<u8>) {
                match self { $(AnyRequest::$Variant(message) => message.encode(out)),* }
            }

            /// Its number.
            pub fn mid(&self) -> Mid {
                match self { $(AnyRequest::$Variant(_) => Mid::$CONSTANT),* }
            }

            /// Shows each field, in wire order, by its name in the specification.
            pub fn fields(&self, each: &mut dyn FnMut(&'static str, Value<'_>)) {
                match self { $(AnyRequest::$Variant(message) => message.fields(each)),* }
            }
        }

        /// Any response.
        #[derive(Clone, Copy, Debug)]
        #[allow(missing_docs)]
        pub enum AnyResponse<$r> { Error(ErrorResp), $($Variant($Resp $(<$rl>)?)),* }

        impl<$r> AnyResponse<$r> {
            /// Reads the payload of response `mid`; surplus bytes are ignored. A number without a
            /// name is [`DecodeError::UnknownType`].
            pub fn decode(mid: Mid, payload: &$r [u8]) -> Result<AnyResponse<$r>, DecodeError> {
                match mid {
                    Mid::ERROR => ErrorResp::decode(payload).map(AnyResponse::Error),
                    $(Mid::$CONSTANT => $Resp::decode(payload).map(AnyResponse::$Variant),)*
                    _ => Err(DecodeError::UnknownType(mid.get())),
                }
            }

            /// Appends the whole frame as a socket carries it.
            pub fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    AnyResponse::Error(message) => message.encode(out),
                    $(AnyResponse::$Variant(message) => message.encode(out)),*
                }
            }

            /// Its number.
            pub fn mid(&self) -> Mid {
                match self {
                    AnyResponse::Error(_) => Mid::ERROR,
                    $(AnyResponse::$Variant(_) => Mid::$CONSTANT),*
                }
            }

            /// Shows each field, in wire order, by its name in the specification.
            pub fn fields(&self, each: &mut dyn FnMut(&'static str, Value<'_>)) {
                match self {
                    AnyResponse::Error(message) => message.fields(each),
                    $(AnyResponse::$Variant(message) => message.fields(each)),*
                }
            }
        }
    };
}

impl Mid {
    /// [`ErrorResp`]: answers any request.
    pub const ERROR: Mid = Mid::new(0);
}

message! { 'r
    /// Answers any request that failed, with a positive Linux error number (lisafs 5.2).
    ErrorResp of Mid::ERROR, 4 bytes { errno: u32 }
}

impl PWriteReq<'_> {
    /// Appends header and payload as [`Message::encode_head`] does, for `len` bytes of data that
    /// lie in several places.
    pub fn encode_head_for(offset: u64, fd: Fdid, len: usize, out: &mut Vec<u8>) {
        let start = out.len();
        PWriteReq {
            offset,
            fd,
            data: WriteData(&[]),
        }
        .encode_head(out);
        let size = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let end = out.len();
        let mut writer = Writer::new(out);
        writer.patch_u32(start, size(PWriteReq::MIN_SIZE.saturating_add(len)));
        writer.patch_u32(end - 4, size(len));
    }

    /// Reads the payload up to the data, which lies elsewhere: `available` bytes of it. Returns
    /// the request without data, and how many bytes of data there are.
    pub fn decode_head(
        payload: &[u8],
        available: usize,
    ) -> Result<(PWriteReq<'static>, usize), DecodeError> {
        let mut reader = Reader::new(payload);
        let (offset, fd) = (reader.u64()?, Fdid::new(reader.u64()?));
        // A count beyond the address space is certainly beyond the bytes.
        let needed = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
        if needed > available {
            return Err(DecodeError::Truncated {
                needed,
                left: available,
            });
        }
        let data = WriteData(&[]);
        Ok((PWriteReq { offset, fd, data }, needed))
    }
}

impl PReadResp<'_> {
    /// Appends header and payload as [`Message::encode_head`] does, for `len` bytes of data that
    /// lie elsewhere.
    pub fn encode_head_for(len: usize, out: &mut Vec<u8>) {
        let start = out.len();
        let data = ReadData(&[]);
        PReadResp { data }.encode_head(out);
        let size = PReadResp::MIN_SIZE.saturating_add(len);
        let end = out.len();
        let mut writer = Writer::new(out);
        writer.patch_u32(start, u32::try_from(size).unwrap_or(u32::MAX));
        writer.patch_u64(end - size_of::<u64>(), len as u64);
    }
}

messages! { 'q 'r;
    /// Asks for the root and for what the server can do (lisafs 6.1).
    1 MOUNT Mount, 1 descriptors
    MountReq 0 bytes {}
    MountResp<'r> 158 bytes { root: Inode, max_message_size: u32, supported_mids: &'r [Mid] }

    /// Asks for a channel in shared memory: memory file and socket come with it (lisafs 6.2).
    2 CHANNEL Channel, 2 descriptors
    ChannelReq 0 bytes {}
    ChannelResp 16 bytes { data_offset: i64, data_length: u64 }

    /// Attributes of a control or open FD (lisafs 6.3).
    3 FSTAT FStat, 0 descriptors
    FStatReq 8 bytes { fd: Fdid }
    FStatResp 144 bytes { stat: Statx }

    /// Changes attributes; `mask` is of [`super::StatxMask`], `mode` has permission bits only
    /// (lisafs 6.4).
    4 SET_STAT SetStat, 0 descriptors
    SetStatReq 64 bytes {
        fd: Fdid, mask: u32, mode: u32, uid: u32, gid: u32, size: u64, atime: Timespec,
        mtime: Timespec
    }
    SetStatResp 8 bytes { failure_mask: u32, failure_errno: u32 }

    /// Walks down names, a control FD for each (lisafs 6.5).
    5 WALK Walk, 0 descriptors
    WalkReq<'q> 10 bytes { dir_fd: Fdid, path: Strings<'q> }
    WalkResp<'r> 3 bytes { status: WalkStatus, inodes: &'r [Inode] }

    /// Walks down names for their attributes only; an empty first name is the start itself
    /// (lisafs 6.6).
    6 WALK_STAT WalkStat, 0 descriptors
    WalkStatReq<'q> 10 bytes { dir_fd: Fdid, path: Strings<'q> }
    WalkStatResp<'r> 2 bytes { stats: &'r [Statx] }

    /// Opens a file; of the flags only access mode and `O_TRUNC` count (lisafs 6.7).
    7 OPEN_AT OpenAt, 1 descriptors
    OpenAtReq 16 bytes { fd: Fdid, flags: u32; pad 4 }
    OpenAtResp 8 bytes { open_fd: Fdid }

    /// Makes and opens a regular file (lisafs 6.8).
    8 OPEN_CREATE_AT OpenCreateAt, 1 descriptors
    OpenCreateAtReq<'q> 30 bytes { common: CreateCommon, flags: u32, name: &'q [u8] }
    OpenCreateAtResp 160 bytes { child: Inode, open_fd: Fdid }

    /// Gives FDs up (lisafs 6.9).
    9 CLOSE Close, 0 descriptors
    CloseReq<'q> 2 bytes { fds: &'q [Fdid] }
    CloseResp 0 bytes {}

    /// Brings open FDs to stable storage (lisafs 6.10).
    10 FSYNC FSync, 0 descriptors
    FSyncReq<'q> 2 bytes { fds: &'q [Fdid] }
    FSyncResp 0 bytes {}

    /// Writes data at an offset (lisafs 6.11).
    11 PWRITE PWrite, 0 descriptors
    PWriteReq<'q> 20 bytes { offset: u64, fd: Fdid, data: WriteData<'q> }
    PWriteResp 8 bytes { count: u64 }

    /// Reads data at an offset (lisafs 6.12).
    12 PREAD PRead, 0 descriptors
    PReadReq 24 bytes { offset: u64, fd: Fdid, count: u32; pad 4 }
    PReadResp<'r> 8 bytes { data: ReadData<'r> }

    /// Makes a directory (lisafs 6.13).
    13 MKDIR_AT MkdirAt, 0 descriptors
    MkdirAtReq<'q> 26 bytes { common: CreateCommon, name: &'q [u8] }
    MkdirAtResp 152 bytes { child_dir: Inode }

    /// Makes a file of the type in the mode; minor comes before major (lisafs 6.14).
    14 MKNOD_AT MknodAt, 0 descriptors
    MknodAtReq<'q> 34 bytes { common: CreateCommon, minor: u32, major: u32, name: &'q [u8] }
    MknodAtResp 152 bytes { child: Inode }

    /// Makes a symbolic link (lisafs 6.15).
    15 SYMLINK_AT SymlinkAt, 0 descriptors
    SymlinkAtReq<'q> 20 bytes { dir_fd: Fdid, uid: u32, gid: u32, name: &'q [u8], target: &'q [u8] }
    SymlinkAtResp 152 bytes { symlink: Inode }

    /// Makes another name for a file (lisafs 6.16).
    16 LINK_AT LinkAt, 0 descriptors
    LinkAtReq<'q> 18 bytes { dir_fd: Fdid, target: Fdid, name: &'q [u8] }
    LinkAtResp 152 bytes { link: Inode }

    /// Numbers of the file system (lisafs 6.17).
    17 FSTATFS FStatFS, 0 descriptors
    FStatFSReq 8 bytes { fd: Fdid }
    FStatFSResp 64 bytes { statfs: StatFs }

    /// Reserves or frees space; of the mode the low 32 bits count (lisafs 6.18).
    18 FALLOCATE FAllocate, 0 descriptors
    FAllocateReq 32 bytes { fd: Fdid, mode: u64, offset: u64, length: u64 }
    FAllocateResp 0 bytes {}

    /// Target of a symbolic link (lisafs 6.19).
    19 READ_LINK_AT ReadLinkAt, 0 descriptors
    ReadLinkAtReq 8 bytes { fd: Fdid }
    ReadLinkAtResp<'r> 2 bytes { target: &'r [u8] }

    /// What close(2) does first (lisafs 6.20).
    20 FLUSH Flush, 0 descriptors
    FlushReq 8 bytes { fd: Fdid }
    FlushResp 0 bytes {}

    /// Connects to a socket; the connection comes with the response (lisafs 6.21).
    21 CONNECT Connect, 1 descriptors
    ConnectReq 16 bytes { fd: Fdid, sock_type: u32; pad 4 }
    ConnectResp 0 bytes {}

    /// Removes a name; flags as of unlinkat(2) (lisafs 6.22).
    22 UNLINK_AT UnlinkAt, 0 descriptors
    UnlinkAtReq<'q> 14 bytes { dir_fd: Fdid, flags: u32, name: &'q [u8] }
    UnlinkAtResp 0 bytes {}

    /// Renames (lisafs 6.23).
    23 RENAME_AT RenameAt, 0 descriptors
    RenameAtReq<'q> 20 bytes { old_dir: Fdid, new_dir: Fdid, old_name: &'q [u8], new_name: &'q [u8] }
    RenameAtResp 0 bytes {}

    /// Lists an open directory; a negative count starts over (lisafs 6.24).
    24 GETDENTS64 Getdents64, 0 descriptors
    Getdents64Req 16 bytes { dir_fd: Fdid, count: i32; pad 4 }
    Getdents64Resp<'r> 2 bytes { dirents: Dirents<'r> }

    /// Value of an extended attribute; size 0 asks for all of it (lisafs 6.25).
    25 FGET_XATTR FGetXattr, 0 descriptors
    FGetXattrReq<'q> 14 bytes { fd: Fdid, buf_size: u32, name: &'q [u8] }
    FGetXattrResp<'r> 2 bytes { value: &'r [u8] }

    /// Sets an extended attribute (lisafs 6.26).
    26 FSET_XATTR FSetXattr, 0 descriptors
    FSetXattrReq<'q> 16 bytes { fd: Fdid, flags: u32, name: &'q [u8], value: &'q [u8] }
    FSetXattrResp 0 bytes {}

    /// Names of the extended attributes; size 0 is no limit (lisafs 6.27).
    27 FLIST_XATTR FListXattr, 0 descriptors
    FListXattrReq 16 bytes { fd: Fdid, size: u64 }
    FListXattrResp<'r> 2 bytes { xattrs: Strings<'r> }

    /// Removes an extended attribute (lisafs 6.28).
    28 FREMOVE_XATTR FRemoveXattr, 0 descriptors
    FRemoveXattrReq<'q> 10 bytes { fd: Fdid, name: &'q [u8] }
    FRemoveXattrResp 0 bytes {}

    /// Makes a socket bound to a name; it comes with the response (lisafs 6.29).
    29 BIND_AT BindAt, 1 descriptors
    BindAtReq<'q> 30 bytes { common: CreateCommon, sock_type: u32, name: &'q [u8] }
    BindAtResp 160 bytes { child: Inode, bound_socket_fd: Fdid }

    /// listen(2) on a bound socket (lisafs 6.30).
    30 LISTEN Listen, 0 descriptors
    ListenReq 16 bytes { fd: Fdid, backlog: i32; pad 4 }
    ListenResp 0 bytes {}

    /// accept(2) on a bound socket; the connection comes with the response (lisafs 6.31).
    31 ACCEPT Accept, 1 descriptors
    AcceptReq 8 bytes { fd: Fdid }
    AcceptResp<'r> 2 bytes { peer_addr: &'r [u8] }

    /// [`ConnectReq`] as another user (lisafs 6.32).
    32 CONNECT_WITH_CREDS ConnectWithCreds, 1 descriptors
    ConnectWithCredsReq 24 bytes { fd: Fdid, sock_type: u32; pad 4, uid: u32, gid: u32 }
    ConnectWithCredsResp 0 bytes {}

    /// [`RenameAtReq`] with the flags of renameat2(2) (lisafs 6.33).
    33 RENAME_AT2 RenameAt2, 0 descriptors
    RenameAt2Req<'q> 24 bytes {
        old_dir: Fdid, new_dir: Fdid, old_name: &'q [u8], new_name: &'q [u8], flags: u32
    }
    RenameAt2Resp 0 bytes {}
}
