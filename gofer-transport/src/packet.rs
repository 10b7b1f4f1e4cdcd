//! A Unix seqpacket socket, for descriptors that travel beside a channel.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::fds::FdQueue;
use crate::stream::take_fds;

/// One end of a Unix seqpacket socket. Packets keep their bounds; an empty packet is a packet.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// Two connected ends.
    pub fn pair() -> io::Result<(PacketSocket, PacketSocket)> {
        let (a, b) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((PacketSocket { socket: a }, PacketSocket { socket: b }))
    }

    /// Takes a descriptor that must be a seqpacket socket (`EPROTOTYPE` otherwise).
    pub fn from_fd(socket: OwnedFd) -> io::Result<PacketSocket> {
        match rustix::net::sockopt::socket_type(&socket)? {
            SocketType::SEQPACKET => Ok(PacketSocket { socket }),
            _ => Err(rustix::io::Errno::PROTOTYPE.into()),
        }
    }

    /// Sends one packet with its descriptors, in one control message.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FdQueue::PER_RECEIVE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(rustix::io::Errno::MSGSIZE.into());
        }
        rustix::io::retry_on_intr(|| {
            sendmsg(
                &self.socket,
                &[IoSlice::new(bytes)],
                &mut control,
                SendFlags::NOSIGNAL,
            )
        })?;
        Ok(())
    }

    /// Receives one packet without waiting (`EAGAIN`). An empty packet and the end of the socket
    /// both give 0 bytes: tell them apart by the descriptors. Truncated control data is an error.
    pub fn receive_now(&self, into: &mut [u8], fds: &mut FdQueue) -> io::Result<usize> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FdQueue::PER_RECEIVE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let message = rustix::io::retry_on_intr(|| {
            recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(into)],
                &mut control,
                flags,
            )
        })?;
        take_fds(&mut control, message.flags, fds)?;
        Ok(message.bytes)
    }

    /// Whether the other end is closed.
    pub fn is_hung_up(&self) -> bool {
        crate::stream::is_hung_up(self.socket.as_fd(), Duration::ZERO)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<PacketSocket> for OwnedFd {
    fn from(packet: PacketSocket) -> OwnedFd {
        packet.socket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_packet_brings_its_descriptor() {
        let (a, b) = PacketSocket::pair().unwrap();
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        a.send(&[], &[reader.as_fd()]).unwrap();
        let mut fds = FdQueue::new(2);
        assert_eq!(b.receive_now(&mut [0; 4], &mut fds).unwrap(), 0);
        assert_eq!(fds.len(), 1);
        let error = b.receive_now(&mut [0; 4], &mut fds).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_stream_socket_is_refused() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(PacketSocket::from_fd(a.into()).is_err());
    }
}
