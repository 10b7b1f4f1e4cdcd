//! Handlers of Unix sockets: Connect, ConnectWithCreds, BindAt, Listen, Accept.

use gofer_lisafs::wire::{
    AcceptReq, AcceptResp, BindAtReq, BindAtResp, ConnectReq, ConnectResp, ConnectWithCredsReq,
    ConnectWithCredsResp, Fdid, ListenReq, ListenResp,
};
use rustix::io::Errno;
use std::sync::Arc;

use super::connection::Reply;
use super::{Session, inode, owner};
use crate::host::{BoundSocket, FileType, Name, Node, Owner, Result};

impl Session {
    /// lisafs 6.21.
    pub(super) fn connect(&self, request: &ConnectReq, reply: &mut Reply) -> Result<()> {
        let node = self.socket_file(request.fd)?;
        reply
            .fds
            .push(node.connect(request.sock_type, Owner::default())?);
        reply.set(&ConnectResp {});
        Ok(())
    }

    /// lisafs 6.32. What policy says comes first here.
    pub(super) fn connect_with_creds(
        &self,
        request: &ConnectWithCredsReq,
        reply: &mut Reply,
    ) -> Result<()> {
        if !self.export.policy().allows_connect() {
            return Err(Errno::PERM);
        }
        let node = self.socket_file(request.fd)?;
        let owner = owner(request.uid, request.gid);
        reply.fds.push(node.connect(request.sock_type, owner)?);
        reply.set(&ConnectWithCredsResp {});
        Ok(())
    }

    fn socket_file(&self, fd: Fdid) -> Result<Arc<Node>> {
        let node = self.fds.control(fd)?;
        if node.file_type() != FileType::Socket {
            return Err(Errno::NOTSOCK);
        }
        if node.is_deleted() {
            Err(Errno::INVAL)
        } else {
            Ok(node)
        }
    }

    /// lisafs 6.29. The control FD is of the file in the directory.
    pub(super) fn bind_at(&self, request: &BindAtReq<'_>, reply: &mut Reply) -> Result<()> {
        let common = &request.common;
        let (dir, mut room) = self.create_place(common, request.name, 2)?;
        let made = dir.bind(
            Name::new(request.name)?,
            request.sock_type,
            common.mode.get().into(),
            owner(common.uid.get(), common.gid.get()),
        )?;
        reply.fds.push(made.copy);
        reply.set(&BindAtResp {
            child: inode(&mut room, made.found),
            bound_socket_fd: room.add_bound(made.socket),
        });
        Ok(())
    }

    /// lisafs 6.30.
    pub(super) fn listen(&self, request: &ListenReq, reply: &mut Reply) -> Result<()> {
        self.bound_socket(request.fd)?.listen(request.backlog)?;
        reply.set(&ListenResp {});
        Ok(())
    }

    /// lisafs 6.31. The peer's address stays here: it would be a path of the host.
    pub(super) fn accept(&self, request: &AcceptReq, reply: &mut Reply) -> Result<()> {
        reply.fds.push(self.bound_socket(request.fd)?.accept()?);
        reply.set(&AcceptResp { peer_addr: b"" });
        Ok(())
    }

    fn bound_socket(&self, fd: Fdid) -> Result<Arc<BoundSocket>> {
        let socket = self.fds.bound(fd)?;
        if socket.node().is_deleted() {
            Err(Errno::INVAL)
        } else {
            Ok(socket)
        }
    }
}
