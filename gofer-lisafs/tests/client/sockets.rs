//! Connect, bind, listen, accept.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use gofer_lisafs::wire::{AcceptResp, BindAtResp, ConnectResp, Fdid, ListenResp, Mid};
use gofer_vfs::remote::{Owner, SocketType};
use gofer_vfs::{Errno, Name};

use crate::common::peer::{Marked, call, inode, session};

#[test]
fn connect_gives_the_descriptor_that_came() {
    let (socket, _other) = UnixStream::pair().unwrap();
    let session = session(move |peer| {
        assert_eq!(peer.expect(Mid::CONNECT), "> Connect fd 1 sock_type 5");
        peer.reply(&ConnectResp {}, &[socket.as_fd()]);
    });
    let fd = session
        .root
        .file
        .connect(&call(), SocketType::SeqPacket)
        .unwrap();
    let flags = rustix::io::fcntl_getfd(&fd).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    session.finish();
}

#[test]
fn any_type_of_socket_is_found_by_trying() {
    let (socket, _other) = UnixStream::pair().unwrap();
    let session = session(move |peer| {
        for sock_type in [1, 5] {
            let request = peer.expect(Mid::CONNECT);
            assert_eq!(request, format!("> Connect fd 1 sock_type {sock_type}"));
            peer.error(91);
        }
        assert_eq!(peer.expect(Mid::CONNECT), "> Connect fd 1 sock_type 2");
        peer.reply(&ConnectResp {}, &[socket.as_fd()]);
        peer.expect(Mid::CONNECT);
        peer.error(111);
    });
    session.root.file.connect(&call(), SocketType::Any).unwrap();
    let error = session
        .root
        .file
        .connect(&call(), SocketType::Any)
        .unwrap_err();
    assert_eq!(
        error.errno,
        Errno::ECONNREFUSED,
        "another error ends the trying"
    );
    session.finish();
}

#[test]
fn a_bound_socket_listens_accepts_and_goes_at_once() {
    let host = Arc::new(Marked::new());
    let given = host.clone();
    let session = session(move |peer| {
        let request = peer.expect(Mid::BIND_AT);
        assert_eq!(
            request,
            "> BindAt common dir_fd 1 owner -1:-1 mode 600 sock_type 1 name s"
        );
        let response = BindAtResp {
            child: inode(2, 0o140600),
            bound_socket_fd: Fdid::new(3),
        };
        peer.reply(&response, &[given.fd()]);
        assert_eq!(peer.expect(Mid::LISTEN), "> Listen fd 3 backlog 2147483647");
        peer.reply(&ListenResp {}, &[]);
        peer.expect(Mid::ACCEPT);
        peer.error(11);
        assert_eq!(peer.expect(Mid::ACCEPT), "> Accept fd 3");
        peer.reply(&AcceptResp { peer_addr: b"" }, &[given.fd()]);
        peer.expect(Mid::ACCEPT);
        peer.reply(&AcceptResp { peer_addr: b"" }, &[]);
        // The next call takes the Close along.
        let closed = peer.expect_close();
        peer.expect(Mid::FSTATFS);
        peer.error(5);
        closed
    });
    let name = Name::new(b"s").unwrap();
    let owner = Owner::default();
    let file = &session.root.file;
    let (found, socket) = file
        .bind(&call(), name, SocketType::Stream, 0o600, owner)
        .unwrap();
    assert!(rustix::io::fcntl_getfd(socket.poll_fd()).is_ok());
    socket.listen(&call(), u32::MAX).unwrap();
    assert_eq!(socket.accept(&call()).unwrap_err().errno, Errno::EAGAIN);
    socket.accept(&call()).unwrap();
    assert_eq!(socket.accept(&call()).unwrap_err().errno, Errno::EBADF);
    drop((found, socket));
    assert_eq!(file.stat_fs(&call()).unwrap_err().errno, Errno::EIO);
    assert_eq!(session.finish(), [2, 3]);
    assert_eq!(host.copies(), 0);
}

#[test]
fn a_bound_socket_without_its_descriptor_is_ebadf_and_closed() {
    let session = session(move |peer| {
        peer.expect(Mid::BIND_AT);
        let response = BindAtResp {
            child: inode(2, 0o140600),
            bound_socket_fd: Fdid::new(3),
        };
        peer.reply(&response, &[]);
        peer.expect_close()
    });
    let name = Name::new(b"s").unwrap();
    let owner = Owner::default();
    let result = session
        .root
        .file
        .bind(&call(), name, SocketType::Stream, 0o600, owner);
    assert_eq!(result.err().unwrap().errno, Errno::EBADF);
    session.fs.flush_closes(&call()).unwrap();
    assert_eq!(session.finish(), [2, 3]);
}
