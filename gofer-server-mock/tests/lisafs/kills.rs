//! Peers that die: at any moment, with `SIGKILL`. The other side hears of it at once and keeps
//! nothing.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gofer_lisafs::client::{self, Config};
use gofer_lisafs::wire::*;
use gofer_transport::Stream;
use gofer_transport::flipcall::StateWord;
use gofer_vfs::remote::{Call, OpenMode, RemoteFile, RemoteFilesystem};
use gofer_vfs::{Access, AttrMask, Errno, Name};
use rustix::process::Signal;
use zerocopy::IntoBytes;

use super::channel::Channel;
use super::hammer::warm_up;
use crate::common::{Client, Resources, SOON, Server, vector_tree};

const CHANNELS: u32 = 2;

fn server() -> (
    tempfile::TempDir,
    tempfile::TempDir,
    Server,
    std::path::PathBuf,
) {
    let tree = vector_tree(0o644);
    let place = tempfile::tempdir().unwrap();
    let (server, socket) = Server::at(place.path(), tree.path(), &["--protocol", "lisafs"]);
    (tree, place, server, socket)
}

fn frame(mid: Mid, length: usize) -> Vec<u8> {
    SocketHeader::new(mid, length as u32).as_bytes().to_vec()
}

fn request<'q>(request: &impl Request<'q>) -> Vec<u8> {
    let mut frame = Vec::new();
    request.encode(&mut frame);
    frame
}

/// What a client has when it dies; the kernel closes and unmaps all of it.
type Remains = (Client, Vec<Channel>);

/// Hands the window to the server and looks no further, as one does who is killed right then.
fn pass(channel: &Channel, datagram: &[u8], wake: bool) {
    let window = channel.endpoint.window();
    window.write(0, datagram);
    window.set_datagram_length(datagram.len() as u32);
    window.state().store(1, Ordering::Release);
    if wake {
        StateWord::wake(window.state(), false);
    }
}

fn datagram(frame: &[u8]) -> Vec<u8> {
    let mid = SocketHeader::decode(frame.first_chunk().unwrap()).message;
    let header = ChannelHeader::new(mid, 0).encode();
    [&header[..], &frame[SocketHeader::SIZE..]].concat()
}

/// What it is called, and how a client gets there.
type Moment = (&'static str, fn(Client) -> Remains);

/// Everything a client can be in the middle of. Dropping what is returned is all that the server
/// can see of a `SIGKILL`.
const MOMENTS: [Moment; 17] = [
    ("connected", |client| (client, Vec::new())),
    ("in a header", |client| {
        client.send(&frame(Mid::MOUNT, 0)[..5]);
        (client, Vec::new())
    }),
    ("before the answer to Mount", |client| {
        client.send(&frame(Mid::MOUNT, 0));
        (client, Vec::new())
    }),
    ("mounted", |client| {
        client.mount();
        (client, Vec::new())
    }),
    ("in a payload", |client| {
        client.mount();
        client.send(&frame(Mid::PWRITE, 1 << 20));
        client.send(&[0; 70_000]);
        (client, Vec::new())
    }),
    ("in an oversized payload", |client| {
        client.mount();
        client.send(&frame(Mid::PWRITE, 3 << 20));
        client.send(&[0; 70_000]);
        (client, Vec::new())
    }),
    ("before the answer to Channel", |client| {
        client.mount();
        client.send(&frame(Mid::CHANNEL, 0));
        (client, Vec::new())
    }),
    ("before the handshake", |client| {
        client.mount();
        let channel = Channel::request(&client);
        (client, vec![channel])
    }),
    ("in the handshake", |client| {
        client.mount();
        let channel = Channel::request(&client);
        pass(&channel, b"{}\n", true);
        (client, vec![channel])
    }),
    ("in the handshake, before the wake", |client| {
        client.mount();
        let channel = Channel::request(&client);
        pass(&channel, b"{}\n", false);
        (client, vec![channel])
    }),
    ("with idle channels", |client| {
        client.mount();
        let channels = (0..2).map(|_| Channel::open(&client)).collect();
        (client, channels)
    }),
    ("in a call on a channel", |client| {
        let fd = client.mount();
        let channel = Channel::open(&client);
        pass(&channel, &datagram(&request(&FStatReq { fd })), true);
        (client, vec![channel])
    }),
    ("in a call on a channel, before the wake", |client| {
        let fd = client.mount();
        let channel = Channel::open(&client);
        pass(&channel, &datagram(&request(&FStatReq { fd })), false);
        (client, vec![channel])
    }),
    ("with a state that does not exist", |client| {
        client.mount();
        let channel = Channel::open(&client);
        channel
            .endpoint
            .window()
            .state()
            .store(7, Ordering::Release);
        (client, vec![channel])
    }),
    ("with descriptors on their way in both ways", |client| {
        let root = client.mount();
        let channel = Channel::open(&client);
        let fd = client.walk_to(root, &["dir1", "file.txt"]);
        let open = request(&OpenAtReq { fd, flags: 2 });
        pass(&channel, &datagram(&open), true);
        client.send(&open);
        (client, vec![channel])
    }),
    ("before an answer that fills the socket", |client| {
        let root = client.mount();
        let fd = client.walk_to(root, &["dir1", "file.txt"]);
        let answer = client.ask(&OpenAtReq { fd, flags: 2 }).unwrap();
        let fd = OpenAtResp::decode(&answer.payload).unwrap().open_fd;
        let data = WriteData(&[1; 1 << 20]);
        let offset = 0;
        client.ask(&PWriteReq { offset, fd, data }).unwrap();
        let count = 1 << 20;
        client.send(&request(&PReadReq { offset, fd, count }));
        (client, Vec::new())
    }),
    ("with many FDIDs of all kinds", |client| {
        let root = client.mount();
        for round in 0..50 {
            let common = CreateCommon::new(root, NO_ID, NO_ID, 0o600);
            let name = format!("new-{round}");
            let name = name.as_bytes();
            let flags = 2;
            client
                .ask(&OpenCreateAtReq {
                    common,
                    flags,
                    name,
                })
                .unwrap();
            client
                .ask(&UnlinkAtReq {
                    dir_fd: root,
                    flags: 0,
                    name,
                })
                .unwrap();
            client.walk(root, &["many", "entry-00"]).unwrap();
        }
        (client, Vec::new())
    }),
];

#[test]
fn a_client_that_dies_at_any_moment_leaves_nothing_on_the_server() {
    let (_tree, _place, server, socket) = server();
    let fresh = warm_up(&server, &socket);
    for (moment, live) in MOMENTS {
        for _ in 0..3 {
            let client = Client::on(Stream::connect_unix(&socket).unwrap());
            let remains = live(client);
            drop(remains);
        }
        eprintln!("{moment}");
        server.settle_at(fresh);
    }
}

/// Runs this very test in a process of its own with `variable` set.
fn again(test: &str, variable: &str, value: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([&format!("lisafs::kills::{test}"), "--exact", "--nocapture"])
        .env(variable, value)
        .stdout(Stdio::null());
    command
}

/// Uses a server through channels and the socket, from several threads, until `end`; how many
/// calls were answered. What one call meets all later ones do.
fn use_server(remote: &Arc<dyn RemoteFilesystem>, end: Instant) -> u64 {
    let calls = AtomicU64::new(0);
    let Ok(root) = remote.root(&call()) else {
        return 0;
    };
    let root = root.file;
    std::thread::scope(|scope| {
        for _ in 0..CHANNELS + 2 {
            scope.spawn(|| {
                while Instant::now() < end && work(&*root).is_ok() {
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    calls.into_inner()
}

fn call() -> Call<'static> {
    Call {
        deadline: Instant::now().checked_add(crate::common::PATIENCE),
        cancel: None,
    }
}

/// A walk, an open, a read, closes.
fn work(root: &dyn RemoteFile) -> Result<(), Errno> {
    let names = [b"dir1".as_slice(), b"file.txt"].map(|name| Name::new(name).unwrap());
    let mut found = Vec::new();
    let walked = root.walk(&call(), &names, &mut |file| found.push(file));
    walked.map_err(|error| error.errno)?;
    let file = found.pop().ok_or(Errno::ENOENT)?.file;
    let mode = OpenMode {
        access: Access::Read,
        truncate: false,
    };
    let handle = file.open(&call(), mode).map_err(|error| error.errno)?;
    handle
        .attr(&call(), AttrMask::all())
        .map_err(|error| error.errno)?;
    Ok(())
}

fn connect(socket: &Path) -> Result<Arc<dyn RemoteFilesystem>, client::ConnectError> {
    let stream = Stream::connect_unix(socket).map_err(|_| client::ConnectError::Closed)?;
    let config = Config {
        channels: Some(CHANNELS),
        ..Config::default()
    };
    client::connect(stream, config)
}

/// Alone, this is one busy client for a moment. With `KILL_ME_AT` it is a client of the server at
/// that socket until it is killed.
#[test]
fn a_busy_client_is_answered_until_its_end() {
    if let Some(socket) = std::env::var_os("KILL_ME_AT") {
        loop {
            let remote = connect(Path::new(&socket)).unwrap();
            use_server(&remote, Instant::now() + Duration::from_millis(20));
        }
    }
    let (_tree, _place, server, socket) = server();
    let fresh = warm_up(&server, &socket);
    let remote = connect(&socket).unwrap();
    let calls = use_server(&remote, Instant::now() + Duration::from_millis(100));
    assert!(calls > 0);
    drop(remote);
    server.settle_at(fresh);
}

#[test]
fn clients_killed_while_they_work_leave_nothing_on_the_server() {
    let (_tree, _place, server, socket) = server();
    let fresh = warm_up(&server, &socket);
    for round in 0..12_u64 {
        let mut clients: Vec<_> = (0..2)
            .map(|_| {
                let test = "a_busy_client_is_answered_until_its_end";
                again(test, "KILL_ME_AT", &socket).spawn().unwrap()
            })
            .collect();
        // Not before it has connected, and then anywhere.
        let until = Instant::now() + crate::common::PATIENCE;
        while server.use_of_resources().windows == 0 {
            assert!(Instant::now() < until, "no client comes");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(round * 2717));
        for client in &mut clients {
            client.kill().unwrap();
        }
        for client in &mut clients {
            client.wait().unwrap();
        }
        server.settle_at(fresh);
    }
}

/// Runs `body` in a process where nothing else opens descriptors or maps windows.
fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var_os("ALONE").is_some() {
        return body();
    }
    let status = again(test, "ALONE", Path::new("yes")).status().unwrap();
    assert!(status.success(), "{test}: {status}");
}

/// Waits until this process has what it had.
#[track_caller]
fn settle_here(wanted: Resources) {
    let until = Instant::now() + SOON;
    while Resources::of("/proc/self") != wanted {
        let is = Resources::of("/proc/self");
        assert!(Instant::now() < until, "{is:?} are in use, not {wanted:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Stops every thread of a server.
fn stop(server: &Server) {
    server.signal(Signal::STOP);
    let tasks = format!("/proc/{}/task", server.child.id());
    let stopped = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap();
        status.contains("State:\tT")
    };
    while !std::fs::read_dir(&tasks).unwrap().flatten().all(stopped) {
        std::thread::yield_now();
    }
}

#[test]
fn calls_in_progress_when_the_server_dies_fail_at_once_and_leave_nothing() {
    alone(
        "calls_in_progress_when_the_server_dies_fail_at_once_and_leave_nothing",
        || {
            let fresh = Resources::of("/proc/self");
            for _ in 0..3 {
                let (tree, place, mut server, socket) = server();
                let remote = connect(&socket).unwrap();
                let root = remote.root(&call()).unwrap().file;
                // It takes requests and does not answer: on every channel and the socket.
                stop(&server);
                let threads: Vec<_> = (0..CHANNELS + 2)
                    .map(|_| {
                        let root = root.clone();
                        std::thread::spawn(move || {
                            let answer = root.attr(&call(), AttrMask::all());
                            (
                                answer.map(drop).map_err(|error| error.errno),
                                Instant::now(),
                            )
                        })
                    })
                    .collect();
                std::thread::sleep(Duration::from_millis(30));
                assert!(threads.iter().all(|thread| !thread.is_finished()));
                let killed = Instant::now();
                server.child.kill().unwrap();
                for thread in threads {
                    let (answer, at) = thread.join().unwrap();
                    assert_eq!(answer, Err(Errno::EIO));
                    assert!(at - killed < SOON, "{:?} after the end", at - killed);
                }
                assert_eq!(work(&*root), Err(Errno::EIO));
                drop((root, remote));
                server.wait();
                drop((tree, place, server));
                settle_here(fresh);
            }
        },
    );
}

#[test]
fn a_server_killed_while_it_works_is_an_error_for_its_clients_and_leaves_nothing() {
    alone(
        "a_server_killed_while_it_works_is_an_error_for_its_clients_and_leaves_nothing",
        || {
            let fresh = Resources::of("/proc/self");
            for round in 0..25_u64 {
                let (tree, place, mut server, socket) = server();
                let client = std::thread::spawn(move || {
                    let worked = connect(&socket).map(|remote| {
                        use_server(&remote, Instant::now() + crate::common::PATIENCE)
                    });
                    (worked.map_err(|error| error.errno()), Instant::now())
                });
                // The first few meet the connection in the making.
                std::thread::sleep(Duration::from_micros(round * round * 80));
                let killed = Instant::now();
                server.child.kill().unwrap();
                server.wait();
                let (worked, at) = client.join().unwrap();
                assert!(at < killed + SOON, "{:?} after the end", at - killed);
                if let Err(errno) = worked {
                    let expected = [Errno::EIO, Errno::ECONNRESET, Errno::EPIPE];
                    assert!(expected.contains(&errno), "{errno}");
                }
                drop((tree, place, server));
                settle_here(fresh);
            }
        },
    );
}
