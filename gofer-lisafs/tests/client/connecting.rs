//! Mount, the attach name, and servers that are none.

use std::time::Duration;

use gofer_lisafs::client::{Config, ConnectError};
use gofer_lisafs::wire::{Mid, MountResp, WalkResp, WalkStatus};
use gofer_transport::Stream;
use gofer_vfs::Errno;
use gofer_vfs::remote::RemoteFilesystem;

use crate::common::peer::{
    Marked, ROOT, all, call, connecting, frame, inode, session, socket_only,
};

fn below(aname: &[u8]) -> Config {
    Config {
        aname: aname.to_vec(),
        ..socket_only()
    }
}

#[test]
fn the_terms_of_mount_become_capabilities() {
    let session = session(|_| ());
    let capabilities = session.fs.capabilities();
    assert_eq!(capabilities.protocol, "lisafs");
    assert_eq!(capabilities.read_size_max, 2093056 - 8);
    assert_eq!(capabilities.write_size_max, 2093056 - 20);
    assert!(capabilities.multi_walk && capabilities.xattrs && !capabilities.locks);
    assert_eq!(session.root.key.id, [101, 8 << 32 | 1]);
    session.finish();
}

#[test]
fn each_further_root_is_another_mount() {
    let session = session(|peer| {
        peer.expect(Mid::MOUNT);
        let root = inode(2, 0o040755);
        peer.reply(
            &MountResp {
                root,
                max_message_size: 5,
                supported_mids: &[],
            },
            &[],
        );
        peer.expect_close()
    });
    drop(session.fs.root(&call()).unwrap());
    session.fs.flush_closes(&call()).unwrap();
    // The terms of the first Mount stay.
    assert_eq!(session.fs.capabilities().read_size_max, 2093048);
    assert_eq!(session.finish(), [2]);
}

#[test]
fn a_descriptor_donated_with_mount_is_closed() {
    let host = std::sync::Arc::new(Marked::new());
    let given = host.clone();
    let (result, ()) = connecting(socket_only(), move |peer| {
        peer.expect(Mid::MOUNT);
        let root = inode(1, 0o040755);
        let mount = MountResp {
            root,
            max_message_size: 65536,
            supported_mids: all(),
        };
        peer.reply(&mount, &[given.fd()]);
    });
    result.unwrap();
    assert_eq!(host.copies(), 0);
}

#[test]
fn the_attach_name_is_walked_step_by_step() {
    let (result, ()) = connecting(below(b"/srv//data/"), |peer| {
        peer.mount(all(), 65536);
        let step = |name: &str, from: u64, fd: u64| {
            assert_eq!(
                peer.expect(Mid::WALK),
                format!("> Walk dir_fd {from} path [{name}]")
            );
            let inodes = [inode(fd, 0o040755)];
            peer.reply(
                &WalkResp {
                    status: WalkStatus::SUCCESS,
                    inodes: &inodes,
                },
                &[],
            );
        };
        step("srv", ROOT.get(), 2);
        step("data", 2, 3);
    });
    result.unwrap();
}

#[test]
fn an_attach_name_through_a_link_or_to_nothing_is_refused() {
    let cases = [
        (WalkStatus::SUCCESS, vec![(2, 0o120777)], Errno::ELOOP),
        (WalkStatus::MISSING, vec![], Errno::ENOENT),
        (WalkStatus::SYMLINK, vec![(2, 0o120777)], Errno::ENOTDIR),
    ];
    for (status, found, errno) in cases {
        let (result, ()) = connecting(below(b"gone"), move |peer| {
            peer.mount(all(), 65536);
            peer.expect(Mid::WALK);
            let inodes: Vec<_> = found.iter().map(|&(fd, mode)| inode(fd, mode)).collect();
            peer.reply(
                &WalkResp {
                    status,
                    inodes: &inodes,
                },
                &[],
            );
        });
        let error = result.err().expect("a refusal");
        assert_eq!(error.errno(), errno, "{error}");
        assert!(error.to_string().starts_with("mount gone: "), "{error}");
    }
}

#[test]
fn an_attach_name_that_climbs_is_refused() {
    let (result, _) = connecting(below(b"a/../b"), |peer| {
        peer.mount(all(), 65536);
        peer.expect(Mid::WALK);
        let inodes = [inode(2, 0o040755)];
        peer.reply(
            &WalkResp {
                status: WalkStatus::SUCCESS,
                inodes: &inodes,
            },
            &[],
        );
        peer.rest()
    });
    assert_eq!(result.err().map(|error| error.errno()), Some(Errno::EINVAL));
}

#[test]
fn a_server_that_hangs_up_may_speak_another_protocol() {
    let (result, _) = connecting(socket_only(), |peer| peer.next());
    let error = result.err().unwrap();
    assert!(matches!(error, ConnectError::Closed), "{error}");
    assert_eq!(error.errno(), Errno::ECONNRESET);
    insta::assert_snapshot!(
        error,
        @"the server closed the connection (does it speak another protocol?)"
    );
}

#[test]
fn a_server_that_answers_nonsense_is_told_at_once() {
    let garbage: [Vec<u8>; 6] = [
        b"HTTP/1.1 400 Bad Request\r\n".to_vec(),
        frame(1, &[0; 40]),
        frame(5, &[0; 200]),
        frame(0, &[1]),
        vec![0xff; 64],
        // A limit that allows no message at all.
        frame(1, &[&[1; 8][..], &[0xff; 144], &[0; 6]].concat()),
    ];
    for answer in garbage {
        let (result, ()) = connecting(socket_only(), move |peer| {
            peer.expect(Mid::MOUNT);
            peer.send(&answer, &[]);
            // Silence afterwards must not matter.
            let _ = peer.rest();
        });
        let error = result.err().expect("no mount");
        assert!(matches!(error, ConnectError::Protocol(_)), "{error}");
        assert_eq!(error.errno(), Errno::EPROTO);
    }
}

#[test]
fn a_refusal_and_a_silence_have_their_errno() {
    let (result, ()) = connecting(socket_only(), |peer| {
        peer.expect(Mid::MOUNT);
        peer.error(1);
    });
    insta::assert_snapshot!(result.err().unwrap(), @"mount: operation not permitted (EPERM)");

    let config = Config {
        timeout: Some(Duration::from_millis(60)),
        ..socket_only()
    };
    let (result, _) = connecting(config, |peer| peer.rest());
    insta::assert_snapshot!(result.err().unwrap(), @"mount: timed out (ETIMEDOUT)");
}

#[test]
fn a_root_without_a_type_or_without_a_number_is_refused() {
    let mut typeless = inode(1, 0o040755);
    typeless.stat.mask = 0x7fe.into();
    for root in [typeless, inode(0, 0o040755)] {
        let (result, ()) = connecting(socket_only(), move |peer| {
            peer.expect(Mid::MOUNT);
            peer.reply(
                &MountResp {
                    root,
                    max_message_size: 65536,
                    supported_mids: all(),
                },
                &[],
            );
        });
        let error = result.unwrap().root(&call()).err().unwrap();
        assert_eq!(error.errno, Errno::EIO);
    }
}

#[test]
fn a_root_that_is_a_file_is_a_root() {
    let (result, ()) = connecting(socket_only(), |peer| {
        peer.expect(Mid::MOUNT);
        let root = inode(1, 0o100644);
        peer.reply(
            &MountResp {
                root,
                max_message_size: 65536,
                supported_mids: all(),
            },
            &[],
        );
    });
    let fs: std::sync::Arc<dyn RemoteFilesystem> = result.unwrap();
    assert_eq!(fs.root(&call()).unwrap().attr.size, 5);
}

#[test]
fn only_unix_sockets_will_do() {
    let (a, b) = rustix::pipe::pipe().unwrap();
    let stream = Stream::from_pipes(a, b).unwrap();
    let error = gofer_lisafs::client::connect(stream, socket_only())
        .err()
        .unwrap();
    assert_eq!(error.errno(), Errno::EINVAL);
}
