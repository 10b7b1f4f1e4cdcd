//! Clients that break the protocol, vanish, or race cost others nothing and leave nothing.

use std::fs;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use gofer_lisafs::wire::*;
use gofer_server_mock::host::{Export, Name};
use gofer_transport::{Stream, Wait};
use zerocopy::IntoBytes;

use crate::common::{ALL, Client, PATIENCE, Server, is_root, program, vector_tree};

fn frame(mid: u16, length: u32) -> Vec<u8> {
    SocketHeader::new(Mid::new(mid), length).as_bytes().to_vec()
}

#[test]
fn an_oversized_payload_is_an_error_and_a_giant_one_the_end() {
    let tree = vector_tree(0o600);
    let client = Client::of(tree.path(), ALL);
    let root = client.mount();
    let length = 3 << 20;
    client.send(&frame(3, length));
    client.send(&vec![0; length as usize]);
    let answer = client.receive().unwrap();
    assert_eq!(
        (answer.mid, &answer.payload[..]),
        (Mid::ERROR, &5u32.to_le_bytes()[..])
    );
    client.ask(&FStatReq { fd: root }).unwrap();
    for length in [0xffff_fff8, u32::MAX, (16 << 20) + 1] {
        let client = Client::of(tree.path(), ALL);
        client.send(&frame(3, length));
        assert!(client.receive().is_none(), "{length} bytes were believed");
    }
}

#[test]
fn garbage_in_every_payload_is_answered_and_the_connection_goes_on() {
    let tree = vector_tree(0o600);
    let client = Client::of(tree.path(), ALL);
    client.mount();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..4000 {
        let mut payload = Vec::new();
        while payload.len() < round % 97 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Small numbers reach further into the handlers than large ones.
            payload.push(if state & 3 == 0 {
                (state >> 8) as u8
            } else {
                (state >> 8) as u8 & 3
            });
        }
        let mid = (state >> 32) as u16 % 36;
        let answer = client.exchange(Mid::new(mid), &payload);
        assert!(
            answer.mid == Mid::new(mid) || answer.mid == Mid::ERROR,
            "{mid} got {:?}",
            answer.mid
        );
        AnyResponse::decode(answer.mid, &answer.payload).unwrap();
    }
}

#[test]
fn a_client_that_stops_in_the_middle_of_a_frame_holds_up_nobody() {
    let tree = vector_tree(0o600);
    let export = Export::open(tree.path(), ALL).unwrap();
    let silent = Client::of_export(&export);
    silent.mount();
    silent.send(&frame(11, 100)[..5]);
    let other = Client::of_export(&export);
    let root = other.mount();
    other.walk_to(root, &["dir1", "file.txt"]);
    let cut = Client::of_export(&export);
    cut.send(&frame(11, 100));
    cut.stream.shutdown();
    other.walk_to(root, &["dir1", "file.txt"]);
}

#[test]
fn descriptors_that_a_client_sends_are_dropped() {
    let tree = vector_tree(0o600);
    let client = Client::of(tree.path(), ALL);
    client.mount();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let frame = frame(1, 0);
    let parts = [IoSlice::new(&frame)];
    client
        .stream
        .send(&parts, &[writer.as_fd()], &Wait::default())
        .unwrap();
    client.receive().unwrap();
    drop(writer);
    assert_eq!(
        rustix::io::read(&reader, &mut [0u8; 1]),
        Ok(0),
        "the server keeps a copy"
    );
}

#[test]
fn names_made_removed_moved_and_walked_at_once_stay_consistent() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["x", "y"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let export = Export::open(dir.path(), ALL).unwrap();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let export = &export;
            scope.spawn(move || hammer(export, worker));
        }
    });
    // What is left can be walked, listed and removed: the tree and the host agree.
    let client = Client::of_export(&export);
    let root = client.mount();
    for top in ["x", "y"] {
        let at = client.walk_to(root, &[top]);
        for entry in fs::read_dir(dir.path().join(top)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            client.walk_to(at, &[name.to_str().unwrap()]);
            let flags = if entry.file_type().unwrap().is_dir() {
                AT_REMOVEDIR
            } else {
                0
            };
            let name = name.as_encoded_bytes();
            client
                .ask(&UnlinkAtReq {
                    dir_fd: at,
                    flags,
                    name,
                })
                .unwrap();
        }
    }
}

/// Does things to four names in two directories, as do others at the same time.
fn hammer(export: &Arc<Export>, worker: usize) {
    let client = Client::of_export(export);
    let root = client.mount();
    let dirs = [client.walk_to(root, &["x"]), client.walk_to(root, &["y"])];
    let names = ["a", "b", "c", "d"];
    let mut state = worker + 1;
    for _ in 0..1500 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let pick = state >> 33;
        let (dir, other) = (dirs[pick & 1], dirs[(pick >> 1) & 1]);
        let (name, new_name) = (names[(pick >> 2) & 3], names[(pick >> 4) & 3]);
        let common = CreateCommon::new(dir, NO_ID, NO_ID, 0o100755);
        let (name, new_name) = (name.as_bytes(), new_name.as_bytes());
        let answer = match (pick >> 6) % 7 {
            0 => client.ask(&MkdirAtReq { common, name }),
            1 => client.ask(&OpenCreateAtReq {
                common,
                flags: 2,
                name,
            }),
            2 => client.ask(&UnlinkAtReq {
                dir_fd: dir,
                flags: 0,
                name,
            }),
            3 => client.ask(&UnlinkAtReq {
                dir_fd: dir,
                flags: AT_REMOVEDIR,
                name,
            }),
            4 => client.ask(&RenameAtReq {
                old_dir: dir,
                new_dir: other,
                old_name: name,
                new_name,
            }),
            5 => client.ask(&RenameAt2Req {
                old_dir: dir,
                new_dir: other,
                old_name: name,
                new_name,
                flags: 2,
            }),
            _ => {
                let path = [name];
                client.ask(&WalkReq {
                    dir_fd: dir,
                    path: Strings::new(&path),
                })
            }
        };
        // Others are faster now and then: it is there, it is gone, it is of another type.
        let harmless = [2, 17, 20, 21, 39];
        match answer {
            Ok(answer) => assert!(answer.mid != Mid::ERROR),
            Err(errno) => assert!(harmless.contains(&errno), "errno {errno}"),
        }
    }
}

#[test]
fn no_rename_comes_between_the_lookups_of_a_walk() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    let export = Export::open(dir.path(), ALL).unwrap();
    let root = export.root();
    let [a, b] = [b"a", b"b"].map(|name| Name::new(name).unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                root.rename(a, root, b, 0).unwrap();
                root.rename(b, root, a, 0).unwrap();
            }
        });
        for _ in 0..3000 {
            let names = root.hold_names();
            let found = [a, b, a, b].map(|name| names.walk(root, name).is_ok());
            assert!(
                found == [true, false, true, false] || found == [false, true, false, true],
                "{found:?}"
            );
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_client_that_dies_leaves_no_descriptor_behind() {
    let tree = vector_tree(0o600);
    let place = tempfile::tempdir().unwrap();
    let (server, socket) = Server::at(place.path(), tree.path(), &["--host-uds", "all"]);
    let one = Client::on(Stream::connect_unix(&socket).unwrap());
    one.mount();
    let before = server.descriptors();
    for round in 0..5 {
        let client = Client::on(Stream::connect_unix(&socket).unwrap());
        let root = client.mount();
        for name in 0..12 {
            let fd = client.walk_to(root, &["many", &format!("entry-{name:02}")]);
            client.ask(&OpenAtReq { fd, flags: 2 }).unwrap();
        }
        let common = CreateCommon::new(root, NO_ID, NO_ID, 0o600);
        let name = format!("socket-{round}");
        client
            .ask(&BindAtReq {
                common,
                sock_type: 1,
                name: name.as_bytes(),
            })
            .unwrap();
        // In the middle of a frame.
        client.send(&frame(11, 1000));
        assert!(server.descriptors() > before + 20);
        drop(client);
        server.settle(before);
    }
    one.mount();
}

#[test]
fn running_out_of_descriptors_is_an_error_for_the_greedy_and_not_for_others() {
    let tree = vector_tree(0o600);
    for name in 0..80 {
        fs::write(tree.path().join(format!("many/more-{name}")), "").unwrap();
    }
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -n 64 && exec \"$0\" serve --root \"$1\" --listen unix:\"$2\"",
    ]);
    let _server = Server::start(command.arg(program()).arg(tree.path()).arg(&socket));
    let greedy = Client::on(Stream::connect_unix(&socket).unwrap());
    let root = greedy.mount();
    let many = greedy.walk_to(root, &["many"]);
    let refused = (0..80).find_map(|name| greedy.walk(many, &[&format!("more-{name}")]).err());
    assert_eq!(refused, Some(23), "ENFILE");
    let modest = Client::on(Stream::connect_unix(&socket).unwrap());
    let root = modest.mount();
    modest.ask(&FStatReq { fd: root }).unwrap();
}

#[test]
fn an_unprivileged_server_passes_the_errors_of_the_host_on() {
    if !is_root() {
        eprintln!("not run: only root can become somebody else");
        return;
    }
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    // The build directory may be closed to others. Another process copies: what other tests start
    // has our descriptors for a moment, and what is open for writing cannot be run.
    let copied = Command::new("cp")
        .arg(program())
        .arg(path.join("server"))
        .status();
    assert!(copied.unwrap().success());
    let root_path = path.join("root");
    fs::create_dir(&root_path).unwrap();
    chown(&root_path, Some(1000), Some(1000)).unwrap();
    fs::write(root_path.join("closed"), "secret").unwrap();
    fs::set_permissions(root_path.join("closed"), fs::Permissions::from_mode(0o600)).unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = Command::new(path.join("server"));
    command
        .args(["serve", "--protocol", "lisafs", "--fd", "0", "--root"])
        .arg(&root_path);
    command
        .uid(1000)
        .gid(1000)
        .stdin(std::os::fd::OwnedFd::from(theirs));
    let mut server = Server::start(&mut command);
    drop(command);
    let client = Client::on(Stream::from_fd(ours.into()).unwrap());
    let root = client.mount();
    let closed = client.walk_to(root, &["closed"]);
    assert_eq!(
        client
            .ask(&OpenAtReq {
                fd: closed,
                flags: 0
            })
            .unwrap_err(),
        13
    );
    let common = CreateCommon::new(root, 1000, 1000, 0o4755);
    client
        .ask(&OpenCreateAtReq {
            common,
            flags: 2,
            name: b"own",
        })
        .unwrap();
    let common = CreateCommon::new(root, 0, 0, 0o755);
    let given_away = client.ask(&OpenCreateAtReq {
        common,
        flags: 2,
        name: b"given",
    });
    assert_eq!(given_away.unwrap_err(), 1);
    assert!(
        !root_path.join("given").exists(),
        "the failed creation left a file"
    );
    assert_eq!(
        client
            .ask(&MkdirAtReq {
                common,
                name: b"dir"
            })
            .unwrap_err(),
        1
    );
    assert!(
        !root_path.join("dir").exists(),
        "the failed creation left a directory"
    );
    let own = client.walk_to(root, &["own"]);
    assert_eq!(
        fs::metadata(root_path.join("own"))
            .unwrap()
            .permissions()
            .mode(),
        0o104755
    );
    let answer = client.ask(&OpenAtReq { fd: own, flags: 2 }).unwrap();
    let fd = OpenAtResp::decode(&answer.payload).unwrap().open_fd;
    client
        .ask(&PWriteReq {
            offset: 0,
            fd,
            data: WriteData(b"x"),
        })
        .unwrap();
    let until = Instant::now() + PATIENCE;
    drop(client);
    assert!(server.wait().success());
    assert!(Instant::now() < until);
}
