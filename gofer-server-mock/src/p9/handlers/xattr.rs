//! Extended attributes: Txattrwalk and Txattrcreate of the base dialect, Tgetxattr, Tsetxattr,
//! Tlistxattr and Tremovexattr of the Google dialects.

use std::sync::Arc;

use gofer_9p::wire::{
    Names, Rgetxattr, Rlistxattr, Rremovexattr, Rsetxattr, Rxattrcreate, Rxattrwalk, Tgetxattr,
    Tlistxattr, Tremovexattr, Tsetxattr, Txattrcreate, Txattrwalk, XattrFlags,
};
use parking_lot::Mutex;

use crate::host::{Errno, Node, Result};
use crate::p9::fids::{State, XATTR_SIZE_MAX, XattrWrite};
use crate::p9::reply::Reply;
use crate::p9::session::Session;

impl Session {
    /// Makes `newfid` of an attribute's value, or of the list of names when `name` is empty, as it
    /// is now (9P 8.17).
    pub(super) fn xattr_walk(&self, request: Txattrwalk<'_>) -> Result<Rxattrwalk> {
        let (target, _acting) = self.act(request.fid)?;
        let node = target.file()?;
        self.fids.check_new(request.newfid)?;
        let bytes = match request.name {
            b"" => node.list_xattr()?,
            name => node.get_xattr(name)?,
        };
        let size = bytes.len();
        let value = self.fids.xattr_bytes(bytes, size)?;
        self.fids.insert(
            request.newfid,
            target.with(State::XattrRead(Arc::new(value))),
        )?;
        Ok(Rxattrwalk { size: size as u64 })
    }

    /// Turns an unopened fid into one that takes an attribute's value; the clunk stores it
    /// (9P 8.18). What can be known to fail then fails here.
    pub(super) fn xattr_create(&self, request: Txattrcreate<'_>) -> Result<Rxattrcreate> {
        let (target, _acting) = self.act(request.fid)?;
        let node = target.unopened_file()?;
        self.check_writable()?;
        let size = usize::try_from(request.attr_size).unwrap_or(usize::MAX);
        if size > XATTR_SIZE_MAX {
            return Err(Errno::TOOBIG);
        }
        check_flags(request.flags)?;
        match node.get_xattr(request.name) {
            Ok(_) if request.flags.contains(XattrFlags::CREATE) => return Err(Errno::EXIST),
            Err(Errno::NODATA) if !request.flags.contains(XattrFlags::REPLACE) => {}
            result => drop(result?),
        }
        let write = XattrWrite {
            name: request.name.to_vec(),
            size,
            flags: request.flags,
            value: Mutex::new(self.fids.xattr_bytes(Vec::new(), size)?),
        };
        let state = State::XattrWrite(Arc::new(write));
        self.fids
            .replace(request.fid, &target, target.with(state))?;
        Ok(Rxattrcreate {})
    }

    /// The value, whole; the size in the request is a hint. `ERANGE` when no reply can hold it
    /// (9P 9.9).
    pub(super) fn get_xattr(&self, request: Tgetxattr<'_>, reply: &mut Reply) -> Result<()> {
        let (target, _acting) = self.act(request.fid)?;
        let value = target.file()?.get_xattr(request.name)?;
        if value.len() > usize::from(u16::MAX) || value.len() + 2 > self.body_max() {
            return Err(Errno::RANGE);
        }
        reply.send(Rgetxattr { value: &value })
    }

    /// Sets an attribute (9P 9.9).
    pub(super) fn set_xattr(&self, request: Tsetxattr<'_>) -> Result<Rsetxattr> {
        let (target, _acting) = self.act(request.fid)?;
        check_flags(request.flags)?;
        target
            .file()?
            .set_xattr(request.name, request.value, request.flags.bits())?;
        Ok(Rsetxattr {})
    }

    /// The names of all attributes (9P 9.10).
    pub(super) fn list_xattr(&self, request: Tlistxattr, reply: &mut Reply) -> Result<()> {
        let (target, _acting) = self.act(request.fid)?;
        let list = target.file()?.list_xattr()?;
        let names: Vec<&[u8]> = list
            .split(|&byte| byte == 0)
            .filter(|name| !name.is_empty())
            .collect();
        if list.len() + names.len() + 2 > self.body_max() {
            return Err(Errno::RANGE);
        }
        reply.send(Rlistxattr {
            names: Names::new(&names),
        })
    }

    /// Removes an attribute (9P 9.10).
    pub(super) fn remove_xattr(&self, request: Tremovexattr<'_>) -> Result<Rremovexattr> {
        let (target, _acting) = self.act(request.fid)?;
        target.file()?.remove_xattr(request.name)?;
        Ok(Rremovexattr {})
    }
}

/// Stores the value that was written to a fid. Nothing announced for an attribute that has to
/// exist removes it: so the kernel client does (9P 8.18).
pub(super) fn store(node: &Node, write: &XattrWrite) -> Result<()> {
    let value = write.value.lock();
    if value.bytes.len() != write.size {
        return Err(Errno::INVAL);
    }
    if write.size == 0 && write.flags == XattrFlags::REPLACE {
        return node.remove_xattr(&write.name);
    }
    node.set_xattr(&write.name, &value.bytes, write.flags.bits())
}

fn check_flags(flags: XattrFlags) -> Result<()> {
    if (XattrFlags::CREATE | XattrFlags::REPLACE).contains(flags) {
        Ok(())
    } else {
        Err(Errno::INVAL)
    }
}
