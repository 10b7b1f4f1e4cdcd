//! Descriptors beside replies.

use super::*;

/// Descriptors that came with opening and creating a file.
fn donated(policy: Policy, version: &str, flags: OpenFlags) -> Vec<std::os::fd::OwnedFd> {
    let dir = tree();
    let client = Client::attached(dir.path(), policy, version);
    client.open(Fid(1), &["dir", "file"], flags).unwrap().fds
}

#[test]
fn descriptors_come_in_google_dialects_unless_turned_off() {
    let none = Policy {
        donate: false,
        ..ALL
    };
    assert_eq!(donated(ALL, GOOGLE, OpenFlags::RDONLY).len(), 1);
    assert_eq!(
        donated(ALL, "9P2000.L.Google.1", OpenFlags::RDONLY).len(),
        1
    );
    assert_eq!(
        donated(ALL, "9P2000.L.Google.0", OpenFlags::RDONLY).len(),
        0
    );
    assert_eq!(donated(ALL, BASE, OpenFlags::RDONLY).len(), 0);
    assert_eq!(donated(none, GOOGLE, OpenFlags::RDONLY).len(), 0);
}

#[test]
fn they_are_the_file_and_no_more_than_what_was_opened() {
    let mut fds = donated(ALL, GOOGLE, OpenFlags::RDONLY);
    let mut file = fs::File::from(fds.pop().unwrap());
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
    assert!(file.write_at(b"x", 0).is_err());
    let mut fds = donated(READONLY, GOOGLE, OpenFlags::RDONLY);
    let file = fs::File::from(fds.pop().unwrap());
    assert!(file.write_at(b"x", 0).is_err());
    let mut fds = donated(ALL, GOOGLE, OpenFlags::RDWR);
    let file = fs::File::from(fds.pop().unwrap());
    assert_eq!(file.write_at(b"x", 0).unwrap(), 1);
}

#[test]
fn directories_are_kept() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, GOOGLE);
    assert!(
        client
            .open(Fid(1), &["dir"], OpenFlags::RDONLY)
            .unwrap()
            .fds
            .is_empty()
    );
}

#[test]
fn nothing_is_sent_over_tcp() {
    let dir = tree();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let export = Export::open(dir.path(), ALL).unwrap();
    let ours = gofer_transport::Stream::connect_tcp(&address, crate::common::PATIENCE).unwrap();
    let theirs = gofer_transport::Stream::from_fd(listener.accept().unwrap().0.into()).unwrap();
    let protocol = gofer_server_mock::server::Protocol::P9;
    gofer_server_mock::server::spawn(theirs, export, protocol, Limits::default()).unwrap();
    let client = Client::on(ours).start(GOOGLE);
    assert!(
        client
            .open(Fid(1), &["dir", "file"], OpenFlags::RDONLY)
            .unwrap()
            .fds
            .is_empty()
    );
    let _listener = UnixListener::bind(dir.path().join("sock")).unwrap();
    client.walk(ROOT, Fid(2), &["sock"]).unwrap();
    let connect = Tlconnect {
        fid: Fid(2),
        socket_type: SocketType::STREAM,
    };
    assert_eq!(error(&client, &connect), Some(ECONNREFUSED));
}
