//! Makes the corpus anew from the golden vectors of the wire crates, and from what our own
//! servers answer to the workload of the client targets:
//! `cargo run -p gofer-fuzz --example seeds`.
//!
//! Findings stay: nothing is removed.

// A tool for developers fails by panicking.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use gofer_fuzz::client::{self, Next};
use gofer_fuzz::home;
use gofer_fuzz::session::Session;
use gofer_lisafs::wire::{Mid, SocketHeader};
use gofer_server_mock::limits::Limits;
use gofer_server_mock::server::Protocol;
use gofer_transport::{FdQueue, Stream, Wait};
use gofer_vfs::remote::RemoteFilesystem;
use serde_json::Value as Json;
use zerocopy::IntoBytes;

/// Larger seeds make mutation slow, and show nothing that smaller ones do not.
const SEED_MAX: usize = 32 << 10;

fn main() {
    lisafs_messages();
    lisafs_edges();
    lisafs_conversations();
    p9_messages();
    p9_conversations();
    recordings();
    windows();
    mount_options();
    for (name, seed) in gofer_fuzz::image::seeds() {
        save("restore_image", name, &seed);
    }
}

fn save(target: &str, name: &str, seed: &[u8]) {
    if seed.len() > SEED_MAX {
        return;
    }
    let dir = home().join("corpus").join(target);
    fs::create_dir_all(&dir).unwrap();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let mut name: String = name.chars().map(plain).collect();
    name.truncate(60);
    // cargo-fuzz names what it finds by 40 hexadecimal digits, and git ignores such names.
    if name.len() == 40 {
        name.push('-');
    }
    fs::write(dir.join(name), seed).unwrap();
}

fn vectors(path: &str) -> PathBuf {
    home().parent().unwrap().join(path)
}

fn json(path: &str) -> Vec<Json> {
    serde_json::from_slice(&fs::read(vectors(path)).unwrap()).unwrap()
}

fn lisafs_json(name: &str) -> Vec<Json> {
    json(&format!("gofer-lisafs/tests/vectors/{name}.json"))
}

fn text<'a>(object: &'a Json, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

fn frame(mid: Mid, payload: &[u8]) -> Vec<u8> {
    let header = SocketHeader::new(mid, payload.len() as u32);
    [header.as_bytes(), payload].concat()
}

/// Appends a record of the client targets.
fn record(records: &mut Vec<u8>, fds: usize, answer: &[u8]) {
    let fds = fds.min(3);
    records.push(fds as u8);
    records.extend(std::iter::repeat_n(0, fds));
    counted(records, answer);
}

fn counted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Appends the act of a peer that takes a turn in a window.
fn turn(script: &mut Vec<u8>, datagram: &[u8]) {
    script.push(4);
    counted(script, datagram);
}

fn lisafs_messages() {
    let dir = vectors("gofer-lisafs/tests/vectors");
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let target = match stem {
            _ if stem.ends_with("_req") => "lisafs_request",
            _ if stem.ends_with("_resp") => "lisafs_response",
            _ => continue,
        };
        for vector in lisafs_json(stem) {
            let name = format!("{stem}-{}", text(&vector, "case"));
            save(target, &name, &hex(text(&vector, "sock_frame_hex")));
        }
    }
}

fn lisafs_edges() {
    for (index, vector) in lisafs_json("decode_edge").iter().enumerate() {
        let message = text(vector, "message");
        let (stem, target) = match message.strip_suffix("Req") {
            Some(stem) => (stem, "lisafs_request"),
            None => (message.trim_end_matches("Resp"), "lisafs_response"),
        };
        let stem = if stem.starts_with("Stat") {
            "FStat"
        } else {
            stem
        };
        let mut mids = Mid::REQUESTS.iter();
        let mid = mids.find(|mid| mid.name() == Some(stem)).unwrap();
        let name = format!("edge-{index}-{}", text(vector, "case"));
        save(target, &name, &frame(*mid, &hex(text(vector, "hex"))));
    }
}

fn lisafs_conversations() {
    for transcript in ["transcript_socket", "transcript_channel"] {
        let (mut requests, mut answers) = (Vec::new(), Vec::new());
        let mut script = Vec::new();
        turn(&mut script, b"{}\n");
        for entry in lisafs_json(transcript) {
            let mut bytes = hex(text(&entry, "hex"));
            if text(&entry, "transport") != "socket" {
                if text(&entry, "dir") == "c2s" {
                    turn(&mut script, &bytes);
                }
                let mid = Mid::new(u16::from_le_bytes([bytes[0], bytes[1]]));
                bytes = frame(mid, &bytes[4..]);
            }
            match text(&entry, "dir") {
                "c2s" => requests.extend(bytes),
                _ => {
                    let fds = entry["num_fds"].as_u64().unwrap_or(0);
                    record(&mut answers, fds as usize, &bytes);
                }
            }
        }
        save("lisafs_server", transcript, &requests);
        save("lisafs_client", transcript, &answers);
        if transcript == "transcript_channel" {
            save("lisafs_channel_server", transcript, &script);
        }
    }
    for section in lisafs_json("server_behaviour") {
        let mut requests = Vec::new();
        for exchange in section["exchanges"].as_array().unwrap() {
            requests.extend(hex(text(exchange, "request_hex")));
            let zeros = exchange["request_zero_payload_len"].as_u64().unwrap_or(0);
            requests.resize(requests.len() + zeros as usize, 0);
        }
        let kind = match section["readonly"].as_bool() {
            Some(true) => "ro",
            _ => "rw",
        };
        let name = format!("{}-{kind}", text(&section, "section"));
        save("lisafs_server", &name, &requests);
    }
}

fn p9_messages() {
    for file in ["messages-base", "messages-google"] {
        for (index, vector) in json(&format!("gofer-9p/tests/vectors/{file}.json"))
            .iter()
            .enumerate()
        {
            let name = format!("{}-{index}", text(vector, "message"));
            save("p9_message", &name, &hex(text(vector, "hex")));
        }
    }
    for vector in json("gofer-9p/tests/vectors/malformed.json") {
        let name = format!("malformed-{}", text(&vector, "what"));
        let bytes = hex(text(&vector, "hex"));
        save("p9_message", &name, &bytes);
        save("p9_server", &name, &bytes);
    }
}

fn p9_conversations() {
    let dir = vectors("gofer-9p/tests/vectors/transcripts");
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        // The first byte asks for the plain dialect where that was spoken.
        let plain = !name.contains("-v13") && !name.contains("negotiate");
        let (mut requests, mut answers) = (Vec::new(), vec![u8::from(plain)]);
        for line in fs::read_to_string(&path).unwrap().lines() {
            let mut words = line.split_whitespace();
            let direction = words.next();
            let bytes = || hex(words.clone().next().unwrap_or_default());
            match direction {
                Some(">") => requests.extend(bytes()),
                Some("<") => record(&mut answers, usize::from(line.contains("fds=1")), &bytes()),
                _ => {}
            }
        }
        save("p9_server", &name, &requests);
        save("p9_client", &name, &answers);
    }
}

/// What our servers answer to the workload of the client targets.
fn recordings() {
    let limits = Limits {
        // What goes through a channel does not pass the recorder.
        channels: 0,
        ..Limits::default()
    };
    for (kind, donate) in [("donated", true), ("undonated", false)] {
        let next = client::lisafs_frame;
        let (requests, answers) = relay(Protocol::Lisafs, limits, next, donate, |stream| {
            gofer_lisafs::client::connect(stream, Default::default()).unwrap()
        });
        let name = format!("workload-{kind}");
        save("lisafs_client", &name, &records(&answers));
        save("lisafs_server", &name, &requests);
        channel_answers(kind, &answers);
    }
    for (dialect, version) in client::DIALECTS.iter().enumerate() {
        let (requests, answers) = relay(Protocol::P9, limits, client::p9_message, true, |stream| {
            let config = gofer_9p::client::Config {
                version: version.map(str::to_owned),
                channels: Some(0),
                ..Default::default()
            };
            gofer_9p::client::connect(stream, config).unwrap()
        });
        let answers = [&[dialect as u8], &records(&answers)[..]].concat();
        save("p9_client", &format!("workload-{dialect}"), &answers);
        save("p9_server", &format!("workload-{dialect}"), &requests);
    }
}

/// An answer, and how many descriptors came with it.
type Answer = (usize, Vec<u8>);

fn records(answers: &[Answer]) -> Vec<u8> {
    let mut records = Vec::new();
    for (fds, answer) in answers {
        record(&mut records, *fds, answer);
    }
    records
}

/// The same answers for a client that has a channel, and each way to do harm in between.
fn channel_answers(kind: &str, answers: &[Answer]) {
    let script = |harm: &[u8]| {
        let mut script = 0xf000u16.to_le_bytes().to_vec();
        record(&mut script, 0, b"{}\n");
        // The first answered Mount, which is not asked for again.
        for (index, (fds, frame)) in answers.iter().enumerate().skip(1) {
            if index == 3 {
                script.extend_from_slice(harm);
            }
            let datagram = [&frame[4..6], &[*fds as u8, 0], &frame[8..]].concat();
            record(&mut script, *fds, &datagram);
        }
        script
    };
    let harms: [(&str, &[u8]); 7] = [
        ("workload", b""),
        (
            "length-beyond-the-window",
            &[4 << 2, 0, 0, 0xff, 0xff, 0xff, 0xff],
        ),
        ("length-of-no-header", &[4 << 2, 0, 0, 3, 0, 0, 0]),
        ("state-that-does-not-exist", &[5 << 2, 0, 0, 77]),
        ("shut-down", &[5 << 2, 0, 0, 2]),
        (
            "changed-in-flight",
            &[6 << 2, 4, 0, 3, 0, 0, 0, 4, 0, 2, 0, 1, 1],
        ),
        ("hang-up", &[7 << 2, 0, 0]),
    ];
    for (name, harm) in harms {
        save(
            "lisafs_channel_client",
            &format!("{name}-{kind}"),
            &script(harm),
        );
    }
}

/// Runs the workload against a server; the requests, and the answers. Descriptors that came with
/// them reach the client where `donate` says so.
fn relay(
    protocol: Protocol,
    limits: Limits,
    next: Next,
    donate: bool,
    connect: impl FnOnce(Stream) -> Arc<dyn RemoteFilesystem>,
) -> (Vec<u8>, Vec<Answer>) {
    let session = Session::start(protocol, limits);
    let server = Stream::from_fd(session.stream.try_clone().unwrap().into()).unwrap();
    let (theirs, ours) = Stream::pair().unwrap();
    let recorded = thread::scope(|scope| {
        let recorder = scope.spawn(|| {
            let (mut requests, mut answers) = (Vec::new(), Vec::new());
            while let Some(request) = next(&ours, None) {
                requests.extend_from_slice(&request);
                server
                    .send(&[IoSlice::new(&request)], &[], &Wait::default())
                    .unwrap();
                let mut queue = FdQueue::new(8);
                let answer = next(&server, Some(&mut queue)).unwrap();
                if !donate {
                    queue.clear();
                }
                answers.push((queue.len(), answer.clone()));
                let fds: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
                let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                let _ = ours.send(&[IoSlice::new(&answer)], &fds, &Wait::default());
            }
            (requests, answers)
        });
        let fs = connect(theirs);
        client::workload(fs.as_ref());
        fs.shutdown();
        drop(fs);
        recorder.join().unwrap()
    });
    drop(server);
    session.end();
    recorded
}

/// Scripts for the two sides of a window: what was recorded, then each way to do harm.
fn windows() {
    let scenarios = lisafs_json("flipcall_window");
    for (writer, target) in [("client", "flipcall_server"), ("server", "flipcall_client")] {
        for scenario in &scenarios {
            let Some(phases) = scenario["phases"].as_array() else {
                continue;
            };
            let mut script = Vec::new();
            for phase in phases
                .iter()
                .filter(|phase| text(phase, "written_by") == writer)
            {
                let window = hex(text(phase, "hex"));
                match phase["fields"]["conn_state"].as_u64() {
                    Some(2) => script.extend([2, 2]),
                    _ => turn(&mut script, &window[16..]),
                }
            }
            save(target, text(scenario, "scenario"), &script);
        }
        let hello = || {
            let mut script = Vec::new();
            turn(&mut script, b" {\"a\": 1}\n");
            turn(&mut script, b"first");
            script
        };
        let harms: [(&str, &[u8]); 6] = [
            (
                "length-beyond-the-window",
                &[1, 0xff, 0xff, 0xff, 0xff, 2, 1],
            ),
            ("length-of-the-window", &[1, 0xf0, 0x1f, 0, 0, 2, 0]),
            ("state-that-does-not-exist", &[2, 77]),
            ("control-taken-back", &[2, 0, 2, 1, 2, 0, 4, 0, 0]),
            (
                "datagram-changed-in-flight",
                &[4, 1, 0, b'x', 0, 0, 0, 2, 0, b'y', b'z'],
            ),
            (
                "both-ends-of-the-window",
                &[0, 0xff, 0xff, 4, 0, 1, 2, 3, 4, 0, 0, 0, 1, 0, 5],
            ),
        ];
        for (name, harm) in harms {
            save(target, name, &[&hello()[..], harm].concat());
            save(target, &format!("at-once-{name}"), harm);
            let mut script = Vec::new();
            turn(&mut script, b"{}\n");
            script.extend_from_slice(&[3, 4, 0, 1, 0, 0, 0]);
            turn(&mut script, &[3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
            script.extend_from_slice(harm);
            save("lisafs_channel_server", name, &script);
        }
        let mut script = Vec::new();
        turn(&mut script, b"[]\n");
        save(target, "no-object", &script);
    }
}

fn mount_options() {
    let texts: [(&str, &str); 12] = [
        ("fd", "trans=fd,rfdno=3,wfdno=3,aname=/"),
        ("fds", "trans=fd,rfdno=3,wfdno=4,version=9P2000.L"),
        (
            "unix",
            "trans=unix,address=/run/gofer.sock,aname=/tree,cache=remote_revalidating",
        ),
        (
            "tcp",
            "trans=tcp,address=[::1]:564,msize=8192,dfltuid=1000,dfltgid=1000",
        ),
        ("lisafs", "trans=unix,address=/s,lisafs,cache=fscache"),
        (
            "escapes",
            "trans=unix,address=/a\\,b\\\\c,aname=/x/../y//z/.",
        ),
        (
            "flags",
            "trans=fd,rfdno=0,wfdno=0,force_page_cache,overlayfs_stale_read",
        ),
        (
            "limits",
            "trans=fd,rfdno=0,wfdno=0,dentry_cache_limit=18446744073709551615",
        ),
        (
            "channels",
            "trans=unix,address=/s,lisafs,channels=4,directfs",
        ),
        ("twice", "trans=fd,trans=fd,rfdno=0,wfdno=0"),
        ("unknown", "trans=fd,rfdno=0,wfdno=0,nonsense=1"),
        ("number", "trans=fd,rfdno=0x1,wfdno=-1,msize=99999999999"),
    ];
    for (name, text) in texts {
        save("mount_options", name, text.as_bytes());
    }
    let mut bytes = b"trans=unix,address=/".to_vec();
    bytes.extend([
        0xff, 0xfe, b'\n', b',', b'a', b'n', b'a', b'm', b'e', b'=', b'/', 0x80,
    ]);
    save("mount_options", "not-text", &bytes);
}
