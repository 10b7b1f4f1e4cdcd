//! Recorded exchanges with gVisor's server of release-20221219, repeated with ours. Every answer
//! has the same type, error, descriptors and content, but for times, inode numbers and the like,
//! and but for the tables of deviations below.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use gofer_lisafs::wire::{AnyResponse, Fdid, Mid, Statx, Value};
use gofer_server_mock::host::Export;
use gofer_server_mock::limits::Limits;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use serde_json::Value as Json;

use super::channel::Channel;
use crate::common::{ALL, Answer, Client, READONLY, has_user_xattrs, is_root, vector_tree};

/// A recorded answer that ours differs from: section or step, note, our answer, and why.
type Deviation = (&'static str, &'static str, &'static str, &'static str);

const NO_FLUSH: &str = "6.20, 12.2: not listed, so not served";
const LISTED: &str = "12.3: listed by a server of HEAD";
const XATTR: &str = "6.25-6.28, 12.2: extended attributes work in HEAD";
const OPEN_DELETED: &str = "6.7, 12.2: deleted files can be opened in HEAD";

const BEHAVIOUR: &[Deviation] = &[
    (
        "message IDs that are not served",
        "unknown to this release",
        "Error EIO",
        LISTED,
    ),
    (
        "message IDs that are not served",
        "Flush is not advertised, yet answered",
        "Error EOPNOTSUPP",
        NO_FLUSH,
    ),
    (
        "message IDs that are not served",
        "FListXattr is not advertised",
        "FListXattr xattrs=[]",
        XATTR,
    ),
    (
        "message IDs that are not served",
        "FRemoveXattr is not advertised",
        "Error ENODATA",
        XATTR,
    ),
    (
        "empty payloads",
        "empty payload",
        "Error EOPNOTSUPP",
        NO_FLUSH,
    ),
    (
        "empty payloads, read-only connection",
        "empty payload",
        "Error EOPNOTSUPP",
        NO_FLUSH,
    ),
    (
        "empty payloads, read-only connection",
        "empty payload",
        "Error EROFS",
        "12.2: BindAt is refused",
    ),
    (
        "FD kinds",
        "FStat of a bound socket FD",
        "Error EINVAL",
        "5.3: a flaw; answer EINVAL",
    ),
    (
        "FD kinds",
        "Flush of a control FD",
        "Error EOPNOTSUPP",
        NO_FLUSH,
    ),
    (
        "open and data",
        "PRead whose size wraps around",
        "Error ENOBUFS",
        "6.12: compute in 64 bits",
    ),
    (
        "creation",
        "MknodAt, character device 0:0",
        "MknodAt child={fd mode 20644 links 1 size 0}",
        "6.14: whiteouts can be made",
    ),
    (
        "creation",
        "SetStat mode of a symlink",
        "SetStat failure_mask=2 failure_errno=95",
        "6.4: EOPNOTSUPP without trying",
    ),
    ("deleted files", "OpenAt", "OpenAt open_fd=fd", OPEN_DELETED),
    (
        "deleted files",
        "FRemoveXattr",
        "Error EINVAL",
        "6.28: deleted is EINVAL",
    ),
    (
        "renamed over",
        "the file that was replaced counts as deleted",
        "OpenAt open_fd=fd",
        OPEN_DELETED,
    ),
    (
        "read-only connection",
        "BindAt: not refused in this release",
        "Error EROFS",
        "12.2: BindAt is refused",
    ),
];

const TRANSCRIPT: &[Deviation] = &[
    (
        "FGetXattr, fails with EOPNOTSUPP in this release",
        "",
        "Error ENODATA",
        XATTR,
    ),
    (
        "FSetXattr, fails with EOPNOTSUPP in this release",
        "",
        "FSetXattr",
        XATTR,
    ),
    (
        "OpenAt of the deleted file, fails with EINVAL in this release",
        "",
        "OpenAt open_fd=fd",
        OPEN_DELETED,
    ),
];

/// Numbers of FDs as they were recorded, and ours. They drift apart where we succeed and the
/// recorded server did not.
#[derive(Default)]
struct Numbers(HashMap<Fdid, Fdid>);

impl Numbers {
    /// Puts our numbers into a recorded request.
    fn translate(&self, mid: Mid, payload: &mut [u8]) {
        let ends = match mid {
            Mid::PWRITE | Mid::PREAD => 8..16,
            Mid::LINK_AT | Mid::RENAME_AT | Mid::RENAME_AT2 => 0..16,
            Mid::CLOSE | Mid::FSYNC => 2..payload.len().max(2),
            _ => 0..8,
        };
        let Some(bytes) = payload.get_mut(ends) else {
            return;
        };
        for number in bytes.chunks_exact_mut(8) {
            let recorded = Fdid::new(u64::from_le_bytes((&*number).try_into().unwrap()));
            let ours = self.0.get(&recorded).copied().unwrap_or(recorded);
            number.copy_from_slice(&ours.get().to_le_bytes());
        }
    }

    fn learn(&mut self, recorded: &[Fdid], ours: &[Fdid]) {
        self.0
            .extend(recorded.iter().copied().zip(ours.iter().copied()));
    }
}

/// A response as text, without what depends on the machine, and the FDs in it.
fn shape(mid: Mid, payload: &[u8]) -> (String, Vec<Fdid>) {
    let response = AnyResponse::decode(mid, payload).unwrap();
    if let AnyResponse::Error(error) = response {
        let errno = errno_name(error.errno);
        return (format!("Error {errno}"), Vec::new());
    }
    let mut text = mid.to_string();
    let mut fds = Vec::new();
    response.fields(&mut |name, value| {
        let value = match value {
            Value::Number(number) => number.to_string(),
            Value::Signed(number) => number.to_string(),
            Value::Fdid(fd) => {
                fds.push(fd);
                "fd".into()
            }
            Value::Inode(inode) => {
                fds.push(inode.control_fd);
                format!("{{fd {}}}", attributes(&inode.stat))
            }
            Value::Inodes(inodes) => {
                fds.extend(inodes.iter().map(|inode| inode.control_fd));
                let all: Vec<_> = inodes.iter().map(|inode| attributes(&inode.stat)).collect();
                format!("{all:?}")
            }
            Value::Stat(stat) => format!("{{{}}}", attributes(stat)),
            Value::Stats(stats) => {
                format!("{:?}", stats.iter().map(attributes).collect::<Vec<_>>())
            }
            Value::Data(data) => format!("{:?}", data.escape_ascii().to_string()),
            Value::Text(text) => format!("{:?}", text.escape_ascii().to_string()),
            Value::Texts(texts) => format!("{texts:?}"),
            // Which come first is the host's choice.
            Value::Dirents(entries) => format!("{} entries", entries.len()),
            Value::StatFs(_) => "numbers".into(),
            Value::Mids(_) => "list".into(),
            other => panic!("{name}: {other:?} in a response"),
        };
        text += &format!(" {name}={value}");
    });
    (text, fds)
}

fn attributes(stat: &Statx) -> String {
    assert_eq!(stat.mask.get() & 0x7ff, 0x7ff, "attributes are missing");
    let mode = stat.mode.get();
    let mut text = format!("mode {mode:o}");
    // Those of directories are up to the file system.
    if mode & 0o170000 != 0o040000 {
        text += &format!(" links {} size {}", stat.nlink, stat.size);
    }
    if is_root() && (stat.uid.get(), stat.gid.get()) != (0, 0) {
        text += &format!(" owner {}:{}", stat.uid, stat.gid);
    }
    text
}

fn errno_name(number: u32) -> String {
    const NAMES: &[(u32, &str)] = &[
        (1, "EPERM"),
        (2, "ENOENT"),
        (5, "EIO"),
        (6, "ENXIO"),
        (9, "EBADF"),
        (11, "EAGAIN"),
        (12, "ENOMEM"),
        (17, "EEXIST"),
        (20, "ENOTDIR"),
        (21, "EISDIR"),
        (22, "EINVAL"),
        (30, "EROFS"),
        (36, "ENAMETOOLONG"),
        (39, "ENOTEMPTY"),
        (61, "ENODATA"),
        (88, "ENOTSOCK"),
        (91, "EPROTOTYPE"),
        (95, "EOPNOTSUPP"),
        (105, "ENOBUFS"),
        (111, "ECONNREFUSED"),
        (121, "EREMOTEIO"),
    ];
    let found = NAMES.iter().find(|(known, _)| *known == number);
    found.map_or(number.to_string(), |(_, name)| name.to_string())
}

/// A donated descriptor in the words of the recordings.
fn descriptor(fd: &OwnedFd) -> String {
    let flags = fcntl_getfl(fd).unwrap();
    let access = match flags & OFlags::ACCMODE {
        OFlags::RDONLY => "rdonly",
        OFlags::WRONLY => "wronly",
        OFlags::RDWR => "rdwr",
        _ => "neither",
    };
    let kind = match FileType::from_raw_mode(fstat(fd).unwrap().st_mode) {
        FileType::RegularFile if is_window_file(fd) => "memfd flipcall_packet_windows",
        FileType::RegularFile => "regular file",
        FileType::Socket => match rustix::net::sockopt::socket_type(fd.as_fd()).unwrap() {
            rustix::net::SocketType::STREAM => "unix socket, stream",
            rustix::net::SocketType::SEQPACKET => "unix socket, seqpacket",
            _ => "unix socket of another type",
        },
        _ => "another file",
    };
    format!(
        "{kind} {access} nonblock {}",
        flags.contains(OFlags::NONBLOCK)
    )
}

fn is_window_file(fd: &OwnedFd) -> bool {
    let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
    link.to_string_lossy()
        .starts_with("/memfd:flipcall_packet_windows")
}

fn recorded_descriptors(exchange: &Json) -> Vec<String> {
    let fds = exchange["fds"].as_array().map_or(&[][..], Vec::as_slice);
    fds.iter()
        .map(|fd| {
            let text = |key: &str| fd[key].as_str().unwrap().to_string();
            format!(
                "{} {} nonblock {}",
                text("type"),
                text("access"),
                fd["nonblock"]
            )
        })
        .collect()
}

fn hex(text: &Json) -> Vec<u8> {
    let text = text.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn load(name: &str) -> Vec<Json> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors/lisafs")
        .join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Compares one answer; differences are collected in `deviated` when the table has them.
struct Judge {
    table: &'static [Deviation],
    deviated: HashSet<usize>,
    failures: Vec<String>,
}

impl Judge {
    fn new(table: &'static [Deviation]) -> Judge {
        Judge {
            table,
            deviated: HashSet::new(),
            failures: Vec::new(),
        }
    }

    fn compare(
        &mut self,
        place: (&str, &str),
        recorded: (&str, &[String]),
        ours: (&str, &[String]),
    ) {
        if recorded == ours {
            return;
        }
        let known = self
            .table
            .iter()
            .position(|(section, note, text, _)| (*section, *note) == place && *text == ours.0);
        match known {
            Some(index) => {
                self.deviated.insert(index);
            }
            None => self.failures.push(format!(
                "{place:?}\n  recorded {recorded:?}\n  ours     {ours:?}"
            )),
        }
    }

    /// Fails on differences that are not in the table, and on lines of the table that are not
    /// differences any more. `excused` are lines that need what this machine does not have.
    fn verdict(self, excused: impl Fn(&Deviation) -> bool) {
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n"));
        for (index, line) in self.table.iter().enumerate() {
            assert!(
                self.deviated.contains(&index) || excused(line),
                "no deviation any more: {line:?}"
            );
        }
    }
}

fn texts(answer: &Answer) -> Vec<String> {
    answer.fds.iter().map(descriptor).collect()
}

#[test]
fn answers_are_those_of_the_recorded_server_section_by_section() {
    let mut judge = Judge::new(BEHAVIOUR);
    let mut xattrs = true;
    for section in load("server_behaviour.json") {
        let tree = vector_tree(0o600);
        xattrs = has_user_xattrs(tree.path());
        let policy = if section["readonly"].as_bool().unwrap() {
            READONLY
        } else {
            ALL
        };
        let export = Export::open(tree.path(), policy).unwrap();
        let client = Client::with_limits(&export, recorded_limits());
        let mut numbers = Numbers::default();
        for exchange in section["exchanges"].as_array().unwrap() {
            let mut request = hex(&exchange["request_hex"]);
            if let Some(length) = exchange["request_zero_payload_len"].as_u64() {
                request.resize(8 + length as usize, 0);
            }
            let mid = Mid::new(exchange["mid"].as_u64().unwrap() as u16);
            numbers.translate(mid, &mut request[8..]);
            client.send(&request);
            let answer = client.receive().expect("the server hung up");
            let recorded = hex(&exchange["response_hex"]);
            let recorded_mid = Mid::new(exchange["response_mid"].as_u64().unwrap() as u16);
            let (theirs, their_fds) = shape(recorded_mid, &recorded[8..]);
            let (ours, our_fds) = shape(answer.mid, &answer.payload);
            numbers.learn(&their_fds, &our_fds);
            let place = (
                section["section"].as_str().unwrap(),
                exchange["note"].as_str().unwrap(),
            );
            let descriptors = recorded_descriptors(exchange);
            judge.compare(place, (&theirs, &descriptors), (&ours, &texts(&answer)));
        }
    }
    judge.verdict(|line| !xattrs && line.3 == XATTR);
}

/// The recorded client asks for as many channels as its server allowed.
fn recorded_limits() -> Limits {
    Limits {
        channels: 2,
        ..Limits::default()
    }
}

/// Replays a whole session; `exchange` sends one request the way it was sent then.
fn replay(
    name: &str,
    client: &Client,
    xattrs: bool,
    mut exchange: impl FnMut(&str, Mid, &[u8]) -> Answer,
) {
    let mut judge = Judge::new(TRANSCRIPT);
    let mut numbers = Numbers::default();
    let messages = load(name);
    for pair in messages.chunks_exact(2) {
        let [request, response] = pair else {
            panic!("an odd number of messages")
        };
        assert_eq!(
            (&request["dir"], &response["dir"]),
            (&"c2s".into(), &"s2c".into())
        );
        let transport = request["transport"].as_str().unwrap();
        let header = if transport == "socket" { 8 } else { 4 };
        let mut bytes = hex(&request["hex"]);
        let mid = Mid::new(request["mid"].as_u64().unwrap() as u16);
        numbers.translate(mid, &mut bytes[header..]);
        let answer = match transport {
            "socket" => {
                client.send(&bytes);
                client.receive().expect("the server hung up")
            }
            channel => exchange(channel, mid, &bytes[header..]),
        };
        let recorded_mid = Mid::new(response["mid"].as_u64().unwrap() as u16);
        let (theirs, their_fds) = shape(recorded_mid, &hex(&response["hex"])[header..]);
        let (ours, our_fds) = shape(answer.mid, &answer.payload);
        numbers.learn(&their_fds, &our_fds);
        let place = (request["step"].as_str().unwrap(), "");
        let descriptors = recorded_descriptors(response);
        judge.compare(place, (&theirs, &descriptors), (&ours, &texts(&answer)));
    }
    judge.verdict(|line| !xattrs && line.3 == XATTR);
}

fn session_tree() -> Option<tempfile::TempDir> {
    if is_root() {
        return Some(vector_tree(0o644));
    }
    eprintln!("not run: the recorded session gives files away, which only root can do");
    None
}

#[test]
fn a_recorded_session_goes_the_same_way() {
    let Some(tree) = session_tree() else { return };
    let xattrs = has_user_xattrs(tree.path());
    let export = Export::open(tree.path(), ALL).unwrap();
    let client = Client::with_limits(&export, recorded_limits());
    replay(
        "transcript_socket.json",
        &client,
        xattrs,
        |transport, _, _| panic!("{transport} in a session on the socket"),
    );
}

#[test]
fn a_recorded_session_on_a_channel_goes_the_same_way() {
    let Some(tree) = session_tree() else { return };
    let xattrs = has_user_xattrs(tree.path());
    let export = Export::open(tree.path(), ALL).unwrap();
    let client = Client::with_limits(
        &export,
        Limits {
            channels: 3,
            ..recorded_limits()
        },
    );
    // Opened after those the recorded client asks for.
    let mut channel = None;
    replay(
        "transcript_channel.json",
        &client,
        xattrs,
        |_, mid, payload| {
            channel
                .get_or_insert_with(|| Channel::open(&client))
                .exchange(mid, payload)
        },
    );
}
