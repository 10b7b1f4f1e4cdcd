//! Descriptors: what a server without any left does, and what it gives up with FDIDs.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use gofer_lisafs::wire::*;
use gofer_transport::Stream;
use rustix::process::{Pid, Resource, Rlimit};

use super::{bind, create};
use crate::common::{Answer, Client, Server, is_root, vector_tree};

const EMFILE: i32 = 24;

/// Lets a process have descriptors up to a number.
fn limit_descriptors(server: &Server, most: u64) {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(1 << 12),
    };
    let pid = Pid::from_child(&server.child);
    rustix::process::prlimit(Some(pid), Resource::Nofile, limit).unwrap();
}

fn names(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn a_creation_that_runs_out_of_descriptors_leaves_nothing() {
    if !is_root() {
        eprintln!("skipped: the limits of another process are root's to set");
        return;
    }
    let tree = vector_tree(0o600);
    let made = tree.path().join("made");
    fs::create_dir(&made).unwrap();
    let place = tempfile::tempdir().unwrap();
    let options = ["--protocol", "lisafs", "--host-uds", "all"];
    let (server, socket) = Server::at(place.path(), tree.path(), &options);
    let client = Client::on(Stream::connect_unix(&socket).unwrap());
    let root = client.mount();
    let dir = client.walk_to(root, &["made"]);
    let target = client.walk_to(root, &["big.bin"]);
    let common = create(dir);
    let name = b"new".as_slice();
    type Make<'a> = Box<dyn Fn() -> Result<Answer, i32> + 'a>;
    let makes: [(&str, Make<'_>); 6] = [
        (
            "OpenCreateAt",
            Box::new(|| {
                client.ask(&OpenCreateAtReq {
                    common,
                    flags: 2,
                    name,
                })
            }),
        ),
        (
            "MkdirAt",
            Box::new(|| client.ask(&MkdirAtReq { common, name })),
        ),
        (
            "MknodAt",
            Box::new(|| {
                client.ask(&MknodAtReq {
                    common,
                    minor: 0,
                    major: 0,
                    name,
                })
            }),
        ),
        (
            "SymlinkAt",
            Box::new(|| {
                let target = b"t".as_slice();
                let (uid, gid) = (NO_ID, NO_ID);
                client.ask(&SymlinkAtReq {
                    dir_fd: dir,
                    uid,
                    gid,
                    name,
                    target,
                })
            }),
        ),
        (
            "LinkAt",
            Box::new(|| {
                client.ask(&LinkAtReq {
                    dir_fd: dir,
                    target,
                    name,
                })
            }),
        ),
        (
            "BindAt",
            Box::new(|| {
                client.ask(&BindAtReq {
                    common,
                    sock_type: 1,
                    name,
                })
            }),
        ),
    ];
    let base = server.descriptors();
    for (request, make) in makes {
        let mut refused = 0;
        for most in 3..base as u64 + 8 {
            limit_descriptors(&server, most);
            let answer = make();
            limit_descriptors(&server, 1 << 12);
            match answer {
                Err(errno) => {
                    assert_eq!(errno, EMFILE, "{request}");
                    assert_eq!(
                        names(&made),
                        0,
                        "{request} with {most} descriptors left something"
                    );
                    refused += 1;
                }
                Ok(_) => {
                    fs::remove_file(made.join("new"))
                        .or_else(|_| fs::remove_dir(made.join("new")))
                        .unwrap();
                }
            }
        }
        assert!(refused > 0, "{request} was never refused");
    }
}

#[test]
fn sockets_are_given_up_with_their_fdids() {
    let tree = vector_tree(0o600);
    let outside = UnixListener::bind(tree.path().join("outside")).unwrap();
    let place = tempfile::tempdir().unwrap();
    let options = ["--protocol", "lisafs", "--host-uds", "all"];
    let (server, socket) = Server::at(place.path(), tree.path(), &options);
    let client = Client::on(Stream::connect_unix(&socket).unwrap());
    let root = client.mount();
    let before = server.use_of_resources();
    for round in 0..20 {
        let name = format!("sock-{round}");
        let (control, bound) = bind(&client, root, &name);
        for _ in 0..3 {
            client
                .ask(&ListenReq {
                    fd: bound,
                    backlog: 2,
                })
                .unwrap();
            let there = tree.path().join(&name);
            let _peer = UnixStream::connect(there).unwrap();
            client.ask(&AcceptReq { fd: bound }).unwrap();
        }
        let fd = client.walk_to(root, &["outside"]);
        client.ask(&ConnectReq { fd, sock_type: 1 }).unwrap();
        client.ask(&ConnectReq { fd, sock_type: 0 }).unwrap_err();
        let (uid, gid) = (12, 34);
        let connect = ConnectWithCredsReq {
            fd,
            sock_type: 1,
            uid,
            gid,
        };
        client.ask(&connect).unwrap();
        drop((outside.accept().unwrap(), outside.accept().unwrap()));
        client
            .ask(&CloseReq {
                fds: &[control, bound, fd],
            })
            .unwrap();
    }
    server.settle_at(before);
}
