//! Sockets of the server's tree that are opened by connecting to them.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use crate::common::{Server, finish};

const SCRIPT: &str = "open -rw s; write 3 hello; read 3; close 3";

/// Over Google's 9P and over lisafs, each with a message of its own for it.
#[test]
fn opening_a_socket_connects_where_that_is_asked_for() {
    for lisafs in [false, true] {
        let server = Server::with(lisafs, &["--host-uds", "open"]);
        let listener = UnixListener::bind(server.tree.host("s")).unwrap();
        let answer = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut heard = [0; 5];
            peer.read_exact(&mut heard).unwrap();
            peer.write_all(b"heard ").unwrap();
            peer.write_all(&heard).unwrap();
        });
        let plain = finish(server.command(&["shell", "-c", SCRIPT]), b"");
        assert!(plain.stderr.contains("(ENXIO)"), "{}", plain.stderr);
        let connects = ["-o", "connect_sockets", "shell", "-c", SCRIPT];
        let run = finish(server.command(&connects), b"").ok();
        assert_eq!(run.text(), "3\nheard hello", "lisafs: {lisafs}");
        answer.join().unwrap();
        // Nobody listens any more.
        let refused = finish(server.command(&connects), b"").fails(1);
        assert!(refused.stderr.contains("(ECONNREFUSED)"), "{refused:?}");
        // A server that lets nobody connect.
        let strict = Server::with(lisafs, &[]);
        let _listener = UnixListener::bind(strict.tree.host("s")).unwrap();
        let refused = finish(strict.command(&connects), b"").fails(1);
        assert!(refused.stderr.contains("(ECONNREFUSED)"), "{refused:?}");
    }
}
