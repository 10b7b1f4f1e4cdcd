//! Connected byte streams that may carry descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags,
    SocketType, recvmsg, sendmsg, shutdown,
};

use crate::cancel::{Cancel, Wait};
use crate::fds::FdQueue;

/// Bytes that go into a pipe whole or not at all: PIPE_BUF of Linux.
const PIPE_ATOMIC_SIZE: usize = 4096;

/// What a Unix socket is asked to take before its peer reads: a megabyte of data, or several
/// replies, in one call. Linux gives twice as much, or twice `wmem_max`, whichever is less.
const SEND_BUFFER: usize = 1 << 20;

/// What a stream is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransportKind {
    /// A Unix stream socket: can carry descriptors.
    Unix,
    /// A TCP socket.
    Tcp,
    /// Pipes or other descriptors, one for each direction.
    Pipes,
}

/// A connected byte stream, usable from several threads: one may receive while another sends.
/// Receivers (and senders) among themselves need a lock of the caller's.
#[derive(Debug)]
pub struct Stream {
    kind: TransportKind,
    input: OwnedFd,
    /// `None`: the input serves both directions.
    output: Option<OwnedFd>,
    /// Ends waits on pipes, which have no shutdown(2).
    closed: Cancel,
}

impl Stream {
    /// Two connected ends over a Unix socket pair.
    pub fn pair() -> io::Result<(Stream, Stream)> {
        let (a, b) = UnixStream::pair()?;
        Ok((Stream::from_fd(a.into())?, Stream::from_fd(b.into())?))
    }

    /// Takes one connected descriptor for both directions. Sockets must be stream sockets:
    /// another type is `EPROTOTYPE`; a descriptor that is no socket is `ENOTSOCK`.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Stream> {
        let kind = match rustix::net::sockopt::socket_domain(&fd)? {
            AddressFamily::UNIX => TransportKind::Unix,
            AddressFamily::INET | AddressFamily::INET6 => TransportKind::Tcp,
            _ => return Err(Errno::AFNOSUPPORT.into()),
        };
        if rustix::net::sockopt::socket_type(&fd)? != SocketType::STREAM {
            return Err(Errno::PROTOTYPE.into());
        }
        if kind == TransportKind::Tcp {
            rustix::net::sockopt::set_tcp_nodelay(&fd, true)?;
        } else {
            // Refused, it costs waits and no more.
            let _ = rustix::net::sockopt::set_socket_send_buffer_size(&fd, SEND_BUFFER);
        }
        Ok(Stream {
            kind,
            input: fd,
            output: None,
            closed: Cancel::new()?,
        })
    }

    /// Takes one descriptor to read from and another to write to.
    pub fn from_pipes(input: OwnedFd, output: OwnedFd) -> io::Result<Stream> {
        Ok(Stream {
            kind: TransportKind::Pipes,
            input,
            output: Some(output),
            closed: Cancel::new()?,
        })
    }

    /// Connects to the Unix socket at `path`.
    pub fn connect_unix(path: &Path) -> io::Result<Stream> {
        Stream::from_fd(UnixStream::connect(path)?.into())
    }

    /// As [`Stream::connect_unix`], and takes at most `timeout`: a server that accepts nothing
    /// lets connections wait once its backlog is full.
    pub fn connect_unix_within(path: &Path, timeout: Duration) -> io::Result<Stream> {
        use rustix::net::sockopt::{Timeout, set_socket_timeout};
        let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        let limit = timeout.max(Duration::from_millis(1));
        set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        set_socket_timeout(&socket, Timeout::Send, None)?;
        Stream::from_fd(socket)
    }

    /// Connects to `HOST:PORT` (IPv6 in brackets), trying each address the name has, with
    /// Nagle's algorithm off. All attempts together take at most `timeout`.
    pub fn connect_tcp(address: &str, timeout: Duration) -> io::Result<Stream> {
        let deadline = Instant::now() + timeout;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
        for candidate in address.to_socket_addrs()? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Errno::TIMEDOUT.into());
            }
            match TcpStream::connect_timeout(&candidate, left) {
                Ok(socket) => return Stream::from_fd(socket.into()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// What the stream is made of.
    pub fn kind(&self) -> TransportKind {
        self.kind
    }

    /// Receives some bytes, at least one; 0 is the end of the stream. Descriptors that come with
    /// them go to `fds`; without a queue none is accepted and the kernel drops them. A truncated
    /// control message is `EMSGSIZE`, and what came with it is closed.
    pub fn receive(
        &self,
        into: &mut [u8],
        fds: Option<&mut FdQueue>,
        wait: &Wait<'_>,
    ) -> io::Result<usize> {
        self.receive_vectored(&mut [IoSliceMut::new(into)], fds, wait)
    }

    /// As [`Stream::receive`], into several buffers, one after the other.
    pub fn receive_vectored(
        &self,
        into: &mut [IoSliceMut<'_>],
        fds: Option<&mut FdQueue>,
        wait: &Wait<'_>,
    ) -> io::Result<usize> {
        if wait.is_bounded() || self.kind == TransportKind::Pipes {
            self.wait_input(wait)?;
        }
        let mut fds = fds;
        loop {
            match self.receive_once(into, fds.as_deref_mut()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The other side may have made the shared description non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_input(wait)?,
                result => return result,
            }
        }
    }

    /// Fills `into`. The end of the stream before the first byte is `Ok(false)`; after it,
    /// `UnexpectedEof`. Descriptors are accepted with any of these bytes.
    pub fn receive_exact(
        &self,
        into: &mut [u8],
        mut fds: Option<&mut FdQueue>,
        wait: &Wait<'_>,
    ) -> io::Result<bool> {
        let mut filled = 0;
        while filled < into.len() {
            match self.receive(&mut into[filled..], fds.as_deref_mut(), wait)? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => filled += n,
            }
        }
        Ok(true)
    }

    /// Sends all of `parts`, in order. `fds` ride on the first byte; only Unix sockets carry
    /// them (`EOPNOTSUPP`).
    pub fn send(
        &self,
        parts: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        wait: &Wait<'_>,
    ) -> io::Result<()> {
        if !fds.is_empty() && self.kind != TransportKind::Unix {
            return Err(Errno::OPNOTSUPP.into());
        }
        // Copied only when a send was partial, or there are more parts than a caller has use for.
        let mut stack = [IoSlice::new(&[]); 8];
        let mut heap;
        let mut left: &mut [IoSlice<'_>] = match stack.get_mut(..parts.len()) {
            Some(few) => {
                few.copy_from_slice(parts);
                few
            }
            None => {
                heap = parts.to_vec();
                &mut heap
            }
        };
        IoSlice::advance_slices(&mut left, 0);
        let mut fds = fds;
        while !left.is_empty() {
            if wait.is_bounded() {
                wait.ready(self.output(), PollFlags::OUT, self.closing())?;
            }
            // A blocking send of many bytes would outlast the wait's bounds.
            match self.send_once(left, fds, !wait.is_bounded()) {
                Ok(sent) => {
                    fds = &[];
                    IoSlice::advance_slices(&mut left, sent);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait.ready(self.output(), PollFlags::OUT, self.closing())?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends as much of `parts` as the kernel takes at once and says how much that was, at least
    /// one byte. `WouldBlock`: nothing now. `fds` went along unless this failed.
    pub fn try_send(&self, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        if !fds.is_empty() && self.kind != TransportKind::Unix {
            return Err(Errno::OPNOTSUPP.into());
        }
        loop {
            match self.send_once(parts, fds, false) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Looks at the first bytes without taking them, waiting for at least one. Sockets only.
    pub fn peek(&self, into: &mut [u8], wait: &Wait<'_>) -> io::Result<usize> {
        wait.ready(self.input.as_fd(), PollFlags::IN, None)?;
        let (count, _) = rustix::net::recv(&self.input, into, RecvFlags::PEEK)?;
        Ok(count)
    }

    /// Waits until there is something to receive, the end of the stream included.
    pub fn wait_input(&self, wait: &Wait<'_>) -> io::Result<()> {
        wait.ready(self.input.as_fd(), PollFlags::IN, self.closing())?;
        if self.closed.is_set() {
            return Err(Errno::CONNABORTED.into());
        }
        Ok(())
    }

    /// Waits until [`Stream::try_send`] may take something, the end of the stream included; with
    /// `or_input` until then or until there is something to receive. Sockets only.
    pub fn wait_output(&self, or_input: bool, wait: &Wait<'_>) -> io::Result<()> {
        let flags = match or_input {
            true => PollFlags::OUT | PollFlags::IN,
            false => PollFlags::OUT,
        };
        wait.ready(self.output(), flags, self.closing())?;
        if self.closed.is_set() {
            return Err(Errno::CONNABORTED.into());
        }
        Ok(())
    }

    /// Whether the stream has ended, in either direction, or does so within `limit`. What has
    /// arrived and was not received does not matter.
    pub fn is_hung_up(&self, limit: Duration) -> bool {
        is_hung_up(self.input.as_fd(), limit)
    }

    /// A copy of the descriptor that is received from, to wait on for the end of the stream.
    pub fn duplicate_input(&self) -> io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(&self.input, 0)?)
    }

    /// Ends the stream in both directions and wakes whoever waits on it. Idempotent.
    pub fn shutdown(&self) {
        self.closed.set();
        if self.kind != TransportKind::Pipes {
            // Fails only when the other side was faster.
            let _ = shutdown(&self.input, Shutdown::Both);
        }
    }

    fn output(&self) -> BorrowedFd<'_> {
        self.output.as_ref().unwrap_or(&self.input).as_fd()
    }

    fn closing(&self) -> Option<BorrowedFd<'_>> {
        (self.kind == TransportKind::Pipes).then(|| self.closed.as_fd())
    }

    fn receive_once(
        &self,
        into: &mut [IoSliceMut<'_>],
        fds: Option<&mut FdQueue>,
    ) -> io::Result<usize> {
        let Some(fds) = fds.filter(|_| self.kind == TransportKind::Unix) else {
            return Ok(match into {
                // The usual receive, by the cheaper call.
                [one] => rustix::io::read(&self.input, &mut **one)?,
                _ => rustix::io::readv(&self.input, into)?,
            });
        };
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FdQueue::PER_RECEIVE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = recvmsg(&self.input, into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        take_fds(&mut control, message.flags, fds)?;
        Ok(message.bytes)
    }

    fn send_once(
        &self,
        parts: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        may_block: bool,
    ) -> io::Result<usize> {
        if self.kind == TransportKind::Pipes && may_block {
            return Ok(rustix::io::writev(self.output(), parts)?);
        }
        if self.kind == TransportKind::Pipes {
            let mut polled = [PollFd::from_borrowed_fd(self.output(), PollFlags::OUT)];
            if poll(&mut polled, Some(&Timespec::default()))? == 0 {
                return Err(Errno::AGAIN.into());
            }
            // A pipe that is ready takes this much without blocking.
            let first: &[u8] = parts
                .iter()
                .find(|part| !part.is_empty())
                .map_or(&[], |p| p);
            let first = &first[..first.len().min(PIPE_ATOMIC_SIZE)];
            return Ok(rustix::io::write(self.output(), first)?);
        }
        let flags = match may_block {
            true => SendFlags::NOSIGNAL,
            false => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        };
        if let ([one, others @ ..], []) = (parts, fds)
            && others.iter().all(|part| part.is_empty())
        {
            // The usual message, by the cheaper call.
            return Ok(rustix::net::send(self.output(), one, flags)?);
        }
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FdQueue::PER_RECEIVE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::MSGSIZE.into());
        }
        Ok(sendmsg(self.output(), parts, &mut control, flags)?)
    }
}

/// Waits for the end of what `fd` is connected to, at most for `limit`; whether it came.
pub(crate) fn is_hung_up(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    let limit = Timespec::try_from(limit).unwrap_or_default();
    // Errors and hang-up are always polled for.
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::RDHUP)];
    loop {
        match poll(&mut polled, Some(&limit)) {
            Err(Errno::INTR) if Instant::now() < until => {}
            result => return result.is_ok_and(|ready| ready > 0),
        }
    }
}

/// Moves received descriptors to `fds`; truncation is `EMSGSIZE`, and everything is closed.
pub(crate) fn take_fds(
    control: &mut RecvAncillaryBuffer<'_>,
    flags: ReturnFlags,
    fds: &mut FdQueue,
) -> io::Result<()> {
    let truncated = flags.contains(ReturnFlags::CTRUNC);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            for fd in received {
                if !truncated {
                    fds.push(fd);
                }
            }
        }
    }
    if truncated {
        Err(Errno::MSGSIZE.into())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn forever() -> Wait<'static> {
        Wait::default()
    }

    #[test]
    fn descriptors_ride_on_the_first_byte() {
        let (a, b) = Stream::pair().unwrap();
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        a.send(
            &[IoSlice::new(b"he"), IoSlice::new(b"llo")],
            &[reader.as_fd()],
            &forever(),
        )
        .unwrap();
        let mut fds = FdQueue::new(4);
        let mut first = [0; 2];
        assert!(
            b.receive_exact(&mut first, Some(&mut fds), &forever())
                .unwrap()
        );
        assert_eq!((&first, fds.len()), (b"he", 1));
        let mut rest = [0; 3];
        assert!(b.receive_exact(&mut rest, None, &forever()).unwrap());
        assert_eq!(&rest, b"llo");
    }

    #[test]
    fn a_truncated_control_message_is_an_error_and_leaks_nothing() {
        let (a, b) = Stream::pair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let many: Vec<_> = std::iter::repeat_n(writer.as_fd(), 40).collect();
        let mut space = vec![MaybeUninit::uninit(); 1024];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
        sendmsg(
            &a.input,
            &[IoSlice::new(b"x")],
            &mut control,
            SendFlags::empty(),
        )
        .unwrap();
        let mut fds = FdQueue::new(100);
        let error = b
            .receive(&mut [0; 1], Some(&mut fds), &forever())
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::MSGSIZE.raw_os_error()));
        assert!(fds.is_empty());
        drop(writer);
        assert_eq!(
            rustix::io::read(&reader, &mut [0u8; 1]),
            Ok(0),
            "a copy is still open"
        );
    }

    #[test]
    fn the_end_is_told_from_a_cut() {
        let (a, b) = Stream::pair().unwrap();
        a.send(&[IoSlice::new(b"abc")], &[], &forever()).unwrap();
        drop(a);
        let mut two = [0; 2];
        assert!(b.receive_exact(&mut two, None, &forever()).unwrap());
        let error = b.receive_exact(&mut two, None, &forever()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(!b.receive_exact(&mut two, None, &forever()).unwrap());
    }

    #[test]
    fn shutdown_wakes_a_receiver_on_sockets_and_pipes() {
        let (a, _b) = Stream::pair().unwrap();
        let (input, _keep) = rustix::pipe::pipe().unwrap();
        let (_keep_too, output) = rustix::pipe::pipe().unwrap();
        for stream in [a, Stream::from_pipes(input, output).unwrap()] {
            let stream = Arc::new(stream);
            let waiting = {
                let stream = stream.clone();
                std::thread::spawn(move || stream.receive(&mut [0; 1], None, &Wait::default()))
            };
            stream.shutdown();
            assert!(!matches!(waiting.join().unwrap(), Ok(1)));
        }
    }

    #[test]
    fn seqpacket_and_plain_files_are_refused() {
        let (packet, _other) = crate::PacketSocket::pair().unwrap();
        let error = Stream::from_fd(packet.into()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::PROTOTYPE.raw_os_error()));
        let file = tempfile::tempfile().unwrap();
        let error = Stream::from_fd(file.into()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NOTSOCK.raw_os_error()));
    }

    #[test]
    fn a_deadline_ends_a_wait_on_a_silent_peer() {
        let (a, _b) = Stream::pair().unwrap();
        let wait = Wait {
            deadline: Some(Instant::now()),
            cancel: None,
        };
        let error = a.receive(&mut [0; 1], None, &wait).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_deadline_ends_a_send_to_a_peer_that_does_not_read() {
        let (a, _b) = Stream::pair().unwrap();
        let (_input, output) = rustix::pipe::pipe().unwrap();
        let (input, _output) = rustix::pipe::pipe().unwrap();
        let large = vec![0; 8 << 20];
        for stream in [a, Stream::from_pipes(input, output).unwrap()] {
            let wait = Wait {
                deadline: Some(Instant::now() + Duration::from_millis(20)),
                cancel: None,
            };
            let error = stream
                .send(&[IoSlice::new(&large)], &[], &wait)
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            let error = stream.try_send(&[IoSlice::new(&large)], &[]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn many_parts_arrive_whole_through_a_small_buffer() {
        let (a, b) = Stream::pair().unwrap();
        let part = vec![7u8; 100_000];
        let receiver = std::thread::spawn(move || {
            let mut all = vec![0; 20 * 100_000];
            assert!(b.receive_exact(&mut all, None, &Wait::default()).unwrap());
            all
        });
        let parts: Vec<_> = (0..20).map(|_| IoSlice::new(&part)).collect();
        a.send(&parts, &[], &forever()).unwrap();
        assert!(receiver.join().unwrap().iter().all(|&byte| byte == 7));
    }
}
