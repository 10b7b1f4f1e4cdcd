//! Many clients that behave, beside some that do not.

use std::fs;
use std::io::{IoSlice, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use gofer_9p::wire::{
    Data, Fid, GetattrMask, Message, Names, OpenFlags, Rflush, Rgetattr, Rread, Rwrite, Tag,
    Tattach, Tclunk, Tflush, Tgetattr, Tread, Twalk, Twrite,
};
use gofer_transport::{Stream, Wait};

use super::client::{BASE, Client, ROOT};
use crate::common::{PATIENCE, Server, program};

const EMFILE: u32 = 24;

const CONNECTIONS: usize = 64;
const IN_FLIGHT: u16 = 16;
/// Fids of one connection.
const HANDLES: u32 = 2000;

fn connect(socket: &Path) -> Client {
    Client::on(Stream::connect_unix(socket).unwrap()).start(BASE)
}

/// Sends `bytes` as long as somebody takes them; whether all were taken.
fn pour(client: &Client, bytes: &[u8]) -> bool {
    let parts = [IoSlice::new(bytes)];
    client.stream.send(&parts, &[], &Wait::default()).is_ok()
}

/// Whether the server hangs up, whatever it has sent before.
fn is_dropped(client: &Client) -> bool {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let wait = Wait {
            deadline: Some(Instant::now() + PATIENCE),
            cancel: None,
        };
        match client.stream.receive(&mut bytes, None, &wait) {
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return false,
            Ok(0) | Err(_) => return true,
            Ok(_) => {}
        }
    }
}

/// A client that goes on working on a file of its own, with many requests in flight, until `done`.
fn work(socket: &Path, number: usize, done: &AtomicBool) -> usize {
    let client = connect(socket);
    let name = format!("file-{number}");
    client.open(Fid(1), &[&name], OpenFlags::RDWR).unwrap();
    let mut rounds = 0;
    while rounds < 4 || !done.load(Ordering::Relaxed) {
        let mut bytes = Vec::new();
        for tag in 0..IN_FLIGHT {
            let (fid, offset) = (Fid(1), u64::from(tag / 4) * 1000);
            let request_mask = GetattrMask::BASIC;
            let data = [number as u8; 1000];
            let data = Data::new(&data);
            let count = 1000;
            match tag % 4 {
                0 => Twrite { fid, offset, data }.encode(Tag(tag), &mut bytes),
                1 => Tgetattr { fid, request_mask }.encode(Tag(tag), &mut bytes),
                _ => Tread { fid, offset, count }.encode(Tag(tag), &mut bytes),
            }
        }
        client.send_bytes(&bytes);
        for _ in 0..IN_FLIGHT {
            let answer = client.receive().unwrap();
            match answer.tag.0 % 4 {
                0 => assert_eq!(answer.of::<Rwrite>().count, 1000),
                1 => assert!(answer.of::<Rgetattr>().attr.size <= 4000),
                _ => {
                    let data = answer.of::<Rread<'_>>().data;
                    assert!(data.as_bytes().iter().all(|byte| *byte == number as u8));
                }
            }
        }
        rounds += 1;
    }
    rounds
}

/// Makes fids until there are too many, and far beyond.
fn hoard(socket: &Path) {
    let client = connect(socket);
    let mut refused = 0;
    for start in (1..20_000).step_by(1000) {
        let mut bytes = Vec::new();
        for fid in start..start + 1000 {
            let clone = Twalk {
                fid: ROOT,
                newfid: Fid(fid),
                wnames: Names::new(&[]),
            };
            clone.encode(Tag(fid as u16), &mut bytes);
        }
        client.send_bytes(&bytes);
        for _ in 0..1000 {
            let error = client.receive().unwrap().error();
            assert!(error.is_none() || error == Some(EMFILE));
            refused += usize::from(error.is_some());
        }
    }
    assert_eq!(refused, 20_000 - (HANDLES as usize - 1));
    client.clunk(Fid(1)).unwrap();
    client.walk(ROOT, Fid(1), &[]).unwrap();
}

/// Asks for much and reads nothing.
fn stay_deaf(socket: &Path) {
    let client = connect(socket);
    client.open(Fid(1), &["large"], OpenFlags::RDONLY).unwrap();
    let mut bytes = Vec::new();
    for tag in 0..2000 {
        let (fid, offset, count) = (Fid(1), 0, 1 << 20);
        Tread { fid, offset, count }.encode(Tag(tag), &mut bytes);
    }
    client.send_bytes(&bytes);
    // To look at it is not to read.
    assert!(client.stream.is_hung_up(PATIENCE));
}

/// Flushes everything there could be, and flushes.
fn flood(socket: &Path) {
    let client = connect(socket);
    for _ in 0..20 {
        let mut bytes = Vec::new();
        for tag in 0..1000 {
            let oldtag = Tag(tag ^ 1);
            Tflush { oldtag }.encode(Tag(tag), &mut bytes);
        }
        client.send_bytes(&bytes);
        for _ in 0..1000 {
            assert_eq!(client.receive().unwrap().of::<Rflush>(), Rflush {});
        }
    }
    client.clunk(ROOT).unwrap();
}

/// As [`flood`], without reading what comes back.
fn flood_deaf(socket: &Path) {
    let client = connect(socket);
    let mut bytes = Vec::new();
    (0..60_000).for_each(|tag| Tflush { oldtag: Tag(9) }.encode(Tag(tag), &mut bytes));
    // Until nobody takes them any more.
    while pour(&client, &bytes) {}
}

/// Uses a tag for two requests.
fn repeat_a_tag(socket: &Path) {
    let client = connect(socket);
    let mut bytes = Vec::new();
    for _ in 0..2 {
        Tclunk { fid: Fid(9) }.encode(Tag(7), &mut bytes);
    }
    client.send_bytes(&bytes);
    assert!(is_dropped(&client));
}

fn send_garbage(socket: &Path) {
    let client = connect(socket);
    let bytes: Vec<u8> = (0..1 << 16).map(|index: u32| (index * 167) as u8).collect();
    pour(&client, &bytes);
    assert!(is_dropped(&client));
}

/// The most memory a process has had, in KiB.
fn peak_memory(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    kib.unwrap().parse().unwrap()
}

#[test]
fn clients_that_do_not_behave_cost_the_others_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..CONNECTIONS {
        let content = vec![number as u8; 4000];
        fs::write(dir.path().join(format!("file-{number}")), content).unwrap();
    }
    fs::write(dir.path().join("large"), vec![7; 1 << 20]).unwrap();
    let place = tempfile::tempdir().unwrap();
    let socket = &place.path().join("socket");
    let mut command = Command::new(program());
    command.args(["serve", "--protocol", "9p", "--limit", "patience=1"]);
    command.args(["--limit", &format!("handles={HANDLES}")]);
    command.args(["--listen", &format!("unix:{}", socket.display()), "--root"]);
    let mut server = Server::start(command.arg(dir.path()).stderr(Stdio::piped()));
    // Once one connection is served, the server has opened what it needs for itself.
    let one = connect(socket);
    let before = server.descriptors();
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CONNECTIONS)
            .map(|number| scope.spawn(move || work(socket, number, done)))
            .collect();
        // Stops in the middle of a request, and stays.
        let half = connect(socket);
        half.send_bytes(&[100, 0, 0, 0, Tattach::KIND, 1]);
        let hostile: [fn(&Path); 6] = [
            hoard,
            stay_deaf,
            flood,
            flood_deaf,
            repeat_a_tag,
            send_garbage,
        ];
        let hostile: Vec<_> = hostile
            .into_iter()
            .map(|harm| scope.spawn(move || harm(socket)))
            .collect();
        let ended: Vec<_> = hostile.into_iter().map(|harm| harm.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(
            workers
                .into_iter()
                .all(|worker| worker.join().unwrap() >= 4)
        );
        assert!(ended.iter().all(Result::is_ok));
    });
    let peak = peak_memory(server.child.id());
    assert!(peak < 128 << 10, "{peak} KiB");
    server.settle(before);
    drop(one);
    server.signal(rustix::process::Signal::TERM);
    let mut log = String::new();
    let stderr = server.child.stderr.as_mut().unwrap();
    stderr.read_to_string(&mut log).unwrap();
    for limit in ["limit: handles", "limit: patience", "the tag of another"] {
        assert!(log.contains(limit), "{limit}: {log}");
    }
}
