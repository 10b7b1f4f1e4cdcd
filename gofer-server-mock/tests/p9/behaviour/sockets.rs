//! Unix sockets in the tree.

use super::*;
use gofer_server_mock::host::Sockets;

#[test]
fn a_connected_descriptor_comes_back() {
    let dir = tree();
    let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
    let client = Client::attached(dir.path(), ALL, GOOGLE);
    client.walk(ROOT, Fid(1), &["sock"]).unwrap();
    for socket_type in [SocketType::STREAM, SocketType::ANONYMOUS] {
        let mut answer = client
            .ask(&Tlconnect {
                fid: Fid(1),
                socket_type,
            })
            .unwrap();
        let near = UnixStream::from(answer.fds.pop().unwrap());
        let mut far = listener.accept().unwrap().0;
        std::io::Write::write_all(&mut &near, b"hi").unwrap();
        let mut two = [0; 2];
        far.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"hi");
    }
    for (socket_type, ecode) in [
        (SocketType::SEQPACKET, ECONNREFUSED),
        (SocketType(4), EINVAL),
    ] {
        let request = Tlconnect {
            fid: Fid(1),
            socket_type,
        };
        assert_eq!(error(&client, &request), Some(ecode));
    }
    let socket_type = SocketType::STREAM;
    assert_eq!(
        error(
            &client,
            &Tlconnect {
                fid: ROOT,
                socket_type
            }
        ),
        Some(EINVAL)
    );
    drop(listener);
    assert_eq!(
        error(
            &client,
            &Tlconnect {
                fid: Fid(1),
                socket_type
            }
        ),
        Some(ECONNREFUSED)
    );
}

#[test]
fn the_policy_may_refuse() {
    let dir = tree();
    let _listener = UnixListener::bind(dir.path().join("sock")).unwrap();
    let policy = Policy {
        sockets: Sockets::None,
        ..ALL
    };
    let client = Client::attached(dir.path(), policy, GOOGLE);
    client.walk(ROOT, Fid(1), &["sock"]).unwrap();
    let request = Tlconnect {
        fid: Fid(1),
        socket_type: SocketType::STREAM,
    };
    assert_eq!(error(&client, &request), Some(ECONNREFUSED));
}
