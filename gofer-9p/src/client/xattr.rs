//! Extended attributes: by messages of their own in the newer Google dialects, else as files
//! (9P 8.17, 8.18, 9.9, 9.10).

use std::io::IoSlice;

use gofer_vfs::Errno;
use gofer_vfs::remote::{Call, RemoteError, RemoteResult};

use super::file::File;
use super::table::Effect;
use crate::wire::{
    Data, Fid, Level, Tgetxattr, Tlistxattr, Tread, Tremovexattr, Tsetxattr, Twrite, Txattrcreate,
    Txattrwalk, XattrFlags,
};

/// Largest value and longest list of names on Linux. A server that announces more is not asked
/// for it.
const SIZE_MAX: u64 = 64 << 10;

/// Bytes of a Tsetxattr before name and value.
const SET_HEAD_SIZE: usize = 19;

impl File {
    /// Which way attributes go: by message, as files, or not at all.
    fn xattr_by_message(&self, level: Level) -> RemoteResult<bool> {
        let version = self.session().version();
        if version.has(level) {
            Ok(true)
        } else if version.level() == 0 {
            Ok(false)
        } else {
            // Servers of the middle dialects have neither form.
            Err(RemoteError::not_sent(Errno::EOPNOTSUPP))
        }
    }

    /// The value of an attribute.
    pub(super) fn xattr_value(
        &self,
        call: &Call<'_>,
        name: &[u8],
        limit: usize,
    ) -> RemoteResult<Vec<u8>> {
        if !self.xattr_by_message(Level::Xattr)? {
            return self.xattr_read(call, name);
        }
        let request = Tgetxattr {
            fid: self.fid(),
            name,
            size: limit as u64,
        };
        self.session()
            .call(call, request, |reply| reply.value.to_vec())
    }

    /// Shows each attribute's name.
    pub(super) fn xattr_names(
        &self,
        call: &Call<'_>,
        each: &mut dyn FnMut(&[u8]),
    ) -> RemoteResult<()> {
        if self.xattr_by_message(Level::XattrList)? {
            let request = Tlistxattr {
                fid: self.fid(),
                size: 0,
            };
            return self
                .session()
                .call(call, request, |reply| reply.names.iter().for_each(each));
        }
        let list = self.xattr_read(call, b"")?;
        list.split(|&byte| byte == 0)
            .filter(|name| !name.is_empty())
            .for_each(each);
        Ok(())
    }

    /// Stores a value.
    pub(super) fn xattr_store(
        &self,
        call: &Call<'_>,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> RemoteResult<()> {
        if self.xattr_by_message(Level::Xattr)? {
            // The value travels as a string, one byte shorter than Linux allows (9P 9.9).
            let fits = SET_HEAD_SIZE + name.len() + value.len() <= self.session().msize() as usize;
            if value.len() > usize::from(u16::MAX) || !fits {
                return Err(RemoteError::not_sent(Errno::E2BIG));
            }
            let request = Tsetxattr {
                fid: self.fid(),
                name,
                value,
                flags,
            };
            return self.session().call(call, request, |_| ());
        }
        if value.is_empty() {
            // It would remove the attribute (9P 8.18).
            return Err(RemoteError::not_sent(Errno::EOPNOTSUPP));
        }
        self.xattr_write(call, name, value, flags)
    }

    /// Removes an attribute.
    pub(super) fn xattr_remove(&self, call: &Call<'_>, name: &[u8]) -> RemoteResult<()> {
        if self.xattr_by_message(Level::XattrList)? {
            let request = Tremovexattr {
                fid: self.fid(),
                name,
            };
            return self.session().call(call, request, |_| ());
        }
        self.xattr_write(call, name, b"", XattrFlags::REPLACE)
    }

    /// Reads a value, or with an empty name the list of names, as a file.
    fn xattr_read(&self, call: &Call<'_>, name: &[u8]) -> RemoteResult<Vec<u8>> {
        let session = self.session();
        let newfid = session.new_fid()?;
        let mut exchange = session.begin(call);
        let request = Txattrwalk {
            fid: self.fid(),
            newfid,
            name,
        };
        let index = exchange.push(
            request,
            Effect::Makes {
                fid: newfid,
                names: 0,
            },
        )?;
        exchange.run()?;
        let size = exchange.reply::<Txattrwalk<'_>>(index)?.size;
        // Clunked in the end, in passing.
        let value = exchange.made(index)?;
        drop(exchange);
        if size > SIZE_MAX {
            return Err(RemoteError::refused(Errno::E2BIG));
        }
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < size {
            let offset = bytes.len() as u64;
            let count = session.payload().min((size - offset) as u32);
            let request = Tread {
                fid: value.get(),
                offset,
                count,
            };
            let mut exchange = session.begin(call);
            let index = exchange.push(request, Effect::None)?;
            exchange.run()?;
            let data = exchange.reply::<Tread>(index)?.data;
            if data.len() > count as usize {
                return Err(exchange.broken("more data than was asked for"));
            }
            if data.is_empty() {
                break;
            }
            bytes.extend_from_slice(data.as_bytes());
        }
        Ok(bytes)
    }

    /// Writes a value as a file; the clunk stores it. An empty one removes.
    fn xattr_write(
        &self,
        call: &Call<'_>,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> RemoteResult<()> {
        let session = self.session();
        let clone = self.clone_fid(call)?;
        let fid: Fid = clone.get();
        let request = Txattrcreate {
            fid,
            name,
            attr_size: value.len() as u64,
            flags,
        };
        session.call(call, request, |_| ())?;
        let mut offset = 0;
        while let Some(rest) = value.get(offset..).filter(|rest| !rest.is_empty()) {
            let part = rest.get(..session.payload() as usize).unwrap_or(rest);
            let request = Twrite {
                fid,
                offset: offset as u64,
                data: Data::apart(part.len()),
            };
            let mut exchange = session.begin(call);
            let index = exchange.push(request, Effect::None)?;
            exchange.run_with(&[IoSlice::new(part)], None, 0)?;
            let count = exchange.reply::<Twrite<'_>>(index)?.count as usize;
            if count == 0 || count > part.len() {
                return Err(exchange.broken("impossible count of bytes written"));
            }
            offset += count;
        }
        match clone.disown() {
            Some(fid) => session.clunk_now(call, fid),
            None => Ok(()),
        }
    }
}
