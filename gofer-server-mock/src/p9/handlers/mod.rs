//! One method for each request, by family. Every method may run at the same time as any other; what
//! has to be one step on the host is one call of the host layer, which has the locks.

mod attach;
mod attr;
mod data;
mod lock;
mod make;
mod names;
mod open;
mod walk;
mod xattr;

use std::sync::Arc;

use gofer_9p::wire::TMessage;

use super::reply::Reply;
use super::session::Session;
use crate::host::{Errno, Result};

impl Session {
    /// Carries `request` out; an error is for the client.
    pub(super) fn dispatch(
        self: &Arc<Session>,
        request: TMessage<'_>,
        reply: &mut Reply,
    ) -> Result<()> {
        match request {
            // The connection's, never handed on.
            TMessage::Tversion(_) | TMessage::Tflush(_) => Err(Errno::PROTO),
            // No authentication: clients take this as "not needed" (9P 8.2).
            TMessage::Tauth(_) => Err(Errno::NOENT),
            TMessage::Tattach(request) => reply.send(self.attach(request)?),
            TMessage::Twalk(request) => self.walk(request, reply),
            TMessage::Twalkgetattr(request) => self.walk_getattr(request, reply),
            TMessage::Tmultigetattr(request) => self.multi_getattr(request, reply),
            TMessage::Tclunk(request) => reply.send(self.clunk(request)?),
            TMessage::Tremove(request) => reply.send(self.remove(request)?),
            TMessage::Tlopen(request) => self.open(request, reply),
            TMessage::Tlcreate(request) => self.create(request, reply),
            TMessage::Tucreate(request) => self.create_with_owner(request, reply),
            TMessage::Tread(request) => self.read(request, reply),
            TMessage::Twrite(request) => self.write(request, reply),
            TMessage::Treaddir(request) => self.read_dir(request, reply),
            TMessage::Tfsync(request) => reply.send(self.fsync(request)?),
            TMessage::Tflushf(request) => reply.send(self.flush_file(request)?),
            TMessage::Tallocate(request) => reply.send(self.allocate(request)?),
            TMessage::Tgetattr(request) => reply.send(self.getattr(request)?),
            TMessage::Tsetattr(request) => reply.send(self.setattr(request)?),
            TMessage::Tsetattrclunk(request) => reply.send(self.setattr_clunk(request)?),
            TMessage::Tstatfs(request) => reply.send(self.statfs(request)?),
            TMessage::Treadlink(request) => self.read_link(request, reply),
            TMessage::Tmkdir(request) => reply.send(self.mkdir(request)?),
            TMessage::Tumkdir(request) => reply.send(self.mkdir_with_owner(request)?),
            TMessage::Tmknod(request) => reply.send(self.mknod(request)?),
            TMessage::Tumknod(request) => reply.send(self.mknod_with_owner(request)?),
            TMessage::Tsymlink(request) => reply.send(self.symlink(request)?),
            TMessage::Tusymlink(request) => reply.send(self.symlink_with_owner(request)?),
            TMessage::Tlink(request) => reply.send(self.link(request)?),
            TMessage::Trename(request) => reply.send(self.rename(request)?),
            TMessage::Trenameat(request) => reply.send(self.rename_at(request)?),
            TMessage::Tunlinkat(request) => reply.send(self.unlink_at(request)?),
            TMessage::Txattrwalk(request) => reply.send(self.xattr_walk(request)?),
            TMessage::Txattrcreate(request) => reply.send(self.xattr_create(request)?),
            TMessage::Tgetxattr(request) => self.get_xattr(request, reply),
            TMessage::Tsetxattr(request) => reply.send(self.set_xattr(request)?),
            TMessage::Tlistxattr(request) => self.list_xattr(request, reply),
            TMessage::Tremovexattr(request) => reply.send(self.remove_xattr(request)?),
            TMessage::Tlock(request) => reply.send(self.lock(request)?),
            TMessage::Tgetlock(request) => self.get_lock(request, reply),
            TMessage::Tlconnect(request) => self.connect(request, reply),
            TMessage::Tbind(_) => Err(Errno::OPNOTSUPP),
            TMessage::Tchannel(request) => self.channel(request, reply),
        }
    }
}
