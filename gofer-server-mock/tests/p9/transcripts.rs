//! The requests of recorded connections, in order, against our server.
//!
//! What a reply has to share with the recorded one is its *shape*: type, error, descriptors,
//! number and type of qids, content, and those attributes that the tree fixes. The recorded
//! servers break the specification in places, and have no extended attributes, locks or Google
//! messages in others; `DEVIATIONS` says what ours answers there and which section asks for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use gofer_9p::wire::{
    Dirent, Dirents, HEADER_SIZE, Header, Message, QidType, RMessage, Rlerror, Stat, TMessage, Tag,
    Tflush, Treaddir, Value,
};
use gofer_server_mock::host::Export;
use tempfile::TempDir;

use super::client::{Answer, Client};
use super::deviations::DEVIATIONS;
use crate::common::{ALL, has_user_xattrs, is_root};

/// A line of a transcript.
enum Line {
    Request(Vec<u8>),
    Reply { bytes: Vec<u8>, fds: usize },
}

#[test]
fn recorded_requests_get_the_recorded_replies() {
    if !is_root() {
        eprintln!("not run: the recorded clients change owners and make devices, as root");
        return;
    }
    let mut used = BTreeSet::new();
    let mut wrong = String::new();
    let mut replies = 0;
    for path in transcripts() {
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        let (dir, _listener) = tree(&name);
        if !has_user_xattrs(dir.path()) {
            eprintln!("not run: no user attributes in {}", dir.path().display());
            return;
        }
        let client = Client::of(&Export::open(dir.path(), ALL).unwrap());
        let mut replay = Replay::new(&client);
        for (number, line) in lines(&path) {
            let Some((request, recorded, ours)) = replay.line(line) else {
                continue;
            };
            replies += 1;
            if recorded == ours {
                continue;
            }
            let known = DEVIATIONS
                .iter()
                .position(|(transcripts, asked, theirs, own, _)| {
                    name.starts_with(transcripts)
                        && (*asked, *theirs, *own) == (&request, &recorded, &ours)
                });
            match known {
                Some(index) => drop(used.insert(index)),
                None => writeln!(wrong, "{name}:{number} {request}: {recorded} -> {ours}").unwrap(),
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(replies > 1000, "{replies} replies compared");
    for (index, deviation) in DEVIATIONS.iter().enumerate() {
        assert!(used.contains(&index), "{deviation:?} does not occur");
    }
}

fn transcripts() -> Vec<std::path::PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/9p/transcripts");
    let mut paths: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert_eq!(paths.len(), 25);
    paths
}

fn lines(path: &Path) -> Vec<(usize, Line)> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.starts_with(['<', '>']));
    lines
        .map(|(index, line)| {
            let mut words = line.split_whitespace();
            let to_server = words.next() == Some(">");
            let bytes = unhex(words.next().unwrap());
            let fds = words.next().map_or(0, |word| {
                word.strip_prefix("fds=").unwrap().parse().unwrap()
            });
            let line = match to_server {
                true => Line::Request(bytes),
                false => Line::Reply { bytes, fds },
            };
            (index + 1, line)
        })
        .collect()
}

pub fn unhex(hex: &str) -> Vec<u8> {
    let digits = |index| u8::from_str_radix(&hex[index..index + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}

/// One transcript against one connection.
struct Replay<'a> {
    client: &'a Client,
    /// Requests that wait for their reply.
    outstanding: HashMap<Tag, Vec<u8>>,
    /// Replies that came before their turn.
    early: Vec<Answer>,
    /// Our directory cookies for the recorded ones.
    cookies: HashMap<u64, u64>,
}

impl<'a> Replay<'a> {
    fn new(client: &'a Client) -> Replay<'a> {
        Replay {
            client,
            outstanding: HashMap::new(),
            early: Vec::new(),
            cookies: HashMap::new(),
        }
    }

    /// Sends a request, or compares a reply: request, recorded shape, our shape.
    fn line(&mut self, line: Line) -> Option<(String, String, String)> {
        match line {
            Line::Request(bytes) => {
                let bytes = self.with_our_cookie(bytes);
                let (header, _) = split(&bytes);
                if header.kind == Tflush::KIND {
                    // The recorder held replies back: the server had made them already.
                    while self.early.len() < self.outstanding.len() {
                        self.early
                            .push(self.client.receive().expect("the server hung up"));
                    }
                }
                self.client.send_bytes(&bytes);
                self.outstanding.insert(header.tag, bytes);
                None
            }
            Line::Reply { bytes, fds } => {
                let (header, body) = split(&bytes);
                let request = self.outstanding.remove(&header.tag).unwrap();
                let answer = self.receive(header.tag);
                let recorded = RMessage::decode(header.kind, body).unwrap();
                let ours = answer.message();
                self.learn_cookies(&recorded, &ours);
                self.level_fids(&request, &recorded, &ours);
                let (asked, request) = split(&request);
                let request = TMessage::decode(asked.kind, request).unwrap();
                let recorded = shape(&request, &recorded, fds);
                let ours = shape(&request, &ours, answer.fds.len());
                Some((request.name().to_string(), recorded, ours))
            }
        }
    }

    /// After a deviation: gives the client the fids it believes to have. One that ours made and
    /// the recorded server did not is clunked; one that the recorded server made anew, although it
    /// was in use, is clunked and asked for again.
    fn level_fids(&self, request: &[u8], recorded: &RMessage<'_>, ours: &RMessage<'_>) {
        const IN_USE: u32 = 22;
        let (header, body) = split(request);
        let fid = match TMessage::decode(header.kind, body).unwrap() {
            TMessage::Tattach(request) => request.fid,
            TMessage::Twalk(request) if request.newfid != request.fid => request.newfid,
            // Ours has turned the fid of the root into a value's.
            TMessage::Txattrcreate(request) if matches!(ours, RMessage::Rxattrcreate(_)) => {
                if matches!(recorded, RMessage::Rlerror(_)) {
                    assert!(self.client.clunk(request.fid).is_err());
                    self.client.attach(request.fid, b"").unwrap();
                }
                return;
            }
            _ => return,
        };
        let refused = |reply: &RMessage<'_>| matches!(reply, RMessage::Rlerror(_));
        if refused(recorded) && !refused(ours) {
            // A short walk has made none.
            let _ = self.client.clunk(fid);
        } else if !refused(recorded)
            && *ours == RMessage::Rlerror(Rlerror { ecode: IN_USE })
            && self.client.clunk(fid).is_ok()
        {
            self.client.send_bytes(request);
            assert_eq!(self.client.receive().unwrap().error(), None);
        }
    }

    fn receive(&mut self, tag: Tag) -> Answer {
        if let Some(index) = self.early.iter().position(|answer| answer.tag == tag) {
            return self.early.remove(index);
        }
        loop {
            let answer = self.client.receive().expect("the server hung up");
            if answer.tag == tag {
                return answer;
            }
            self.early.push(answer);
        }
    }

    fn with_our_cookie(&self, bytes: Vec<u8>) -> Vec<u8> {
        let (header, body) = split(&bytes);
        match TMessage::decode(header.kind, body) {
            Ok(TMessage::Treaddir(request)) => {
                let offset = self.cookies.get(&request.offset).copied();
                let offset = offset.unwrap_or(request.offset);
                let mut bytes = Vec::new();
                Treaddir { offset, ..request }.encode(header.tag, &mut bytes);
                bytes
            }
            _ => bytes,
        }
    }

    /// A recorded cookie stands for ours of the same name, the last one for our last.
    fn learn_cookies(&mut self, recorded: &RMessage<'_>, ours: &RMessage<'_>) {
        let (RMessage::Rreaddir(recorded), RMessage::Rreaddir(ours)) = (recorded, ours) else {
            return;
        };
        let ours = entries(&ours.entries);
        for theirs in entries(&recorded.entries) {
            if let Some(own) = ours.iter().find(|own| own.name == theirs.name) {
                self.cookies.insert(theirs.offset, own.offset);
            }
        }
        if let (Some(theirs), Some(own)) = (entries(&recorded.entries).last(), ours.last()) {
            self.cookies.insert(theirs.offset, own.offset);
        }
    }
}

fn split(bytes: &[u8]) -> (Header, &[u8]) {
    let header = Header::decode(bytes.first_chunk().unwrap(), u32::MAX).unwrap();
    (header, &bytes[HEADER_SIZE..])
}

fn entries<'a>(entries: &Dirents<'a>) -> Vec<Dirent<'a>> {
    entries.iter().map(Result::unwrap).collect()
}

/// What has to be equal, in words.
pub fn shape(request: &TMessage<'_>, reply: &RMessage<'_>, fds: usize) -> String {
    let mut text = match reply {
        RMessage::Rlerror(reply) => format!("Rlerror {}", reply.ecode),
        RMessage::Rversion(reply) => {
            format!(
                "Rversion {} {}",
                reply.msize,
                String::from_utf8_lossy(reply.version)
            )
        }
        RMessage::Rattach(reply) => format!("Rattach {}", kind(reply.qid.kind)),
        RMessage::Rwalk(reply) => {
            let kinds: Vec<_> = reply.wqids.iter().map(|qid| kind(qid.kind)).collect();
            format!("Rwalk {kinds:?}")
        }
        RMessage::Rlopen(reply) => format!("Rlopen {}", kind(reply.qid.kind)),
        RMessage::Rlcreate(reply) => format!("Rlcreate {}", kind(reply.qid.kind)),
        RMessage::Rucreate(reply) => format!("Rucreate {}", kind(reply.qid.kind)),
        RMessage::Rmkdir(reply) => format!("Rmkdir {}", kind(reply.qid.kind)),
        RMessage::Rumkdir(reply) => format!("Rumkdir {}", kind(reply.qid.kind)),
        RMessage::Rsymlink(reply) => format!("Rsymlink {}", kind(reply.qid.kind)),
        RMessage::Rusymlink(reply) => format!("Rusymlink {}", kind(reply.qid.kind)),
        RMessage::Rmknod(reply) => format!("Rmknod {}", kind(reply.qid.kind)),
        RMessage::Rumknod(reply) => format!("Rumknod {}", kind(reply.qid.kind)),
        RMessage::Rgetattr(reply) => {
            let (valid, qid, attr) = (reply.valid, reply.qid, reply.attr);
            attributes(&Stat { qid, valid, attr })
        }
        RMessage::Rwalkgetattr(reply) => {
            let (valid, attr) = (reply.valid, reply.attr);
            let qid = reply.wqids.iter().last().unwrap_or_default();
            format!(
                "{} walked {}",
                attributes(&Stat { qid, valid, attr }),
                reply.wqids.len()
            )
        }
        RMessage::Rmultigetattr(reply) => {
            let stats: Vec<_> = reply.stats.iter().map(|stat| attributes(&stat)).collect();
            format!("Rmultigetattr {stats:?}")
        }
        RMessage::Rread(reply) => {
            let mut bytes = BTreeMap::new();
            for byte in reply.data.as_bytes() {
                *bytes.entry(*byte).or_insert(0) += 1;
            }
            match reply.data.len() {
                0..100 => format!("Rread {}", reply.data.as_bytes().escape_ascii()),
                count => format!("Rread {count} bytes, {bytes:?}"),
            }
        }
        RMessage::Rreaddir(reply) => listing(request, &entries(&reply.entries)),
        RMessage::Rlistxattr(reply) => format!("Rlistxattr {:?}", reply.names),
        // Only to say that ours has none.
        RMessage::Rbind(_) => "Rbind".to_string(),
        // The file system's own numbers.
        RMessage::Rstatfs(_) => "Rstatfs".to_string(),
        // Whatever is left has nothing that depends on the server.
        reply => {
            let mut text = reply.name().to_string();
            reply.fields(&mut |_, value| match value {
                Value::Number(number) => write!(text, " {number}").unwrap(),
                Value::Text(bytes) => write!(text, " {}", bytes.escape_ascii()).unwrap(),
                other => panic!("{other:?} depends on the server"),
            });
            text
        }
    };
    if fds > 0 {
        write!(text, " with {fds} descriptor").unwrap();
    }
    text
}

/// The bits of a qid's type that count in 9P2000.L. gVisor has a further one for special files
/// (9P 6.1).
fn kind(kind: QidType) -> &'static str {
    if kind.contains(QidType::DIR) {
        "directory"
    } else if kind.contains(QidType::SYMLINK) {
        "link"
    } else {
        "file"
    }
}

fn attributes(stat: &Stat) -> String {
    let attr = &stat.attr;
    let mut text = format!("attributes {:o} {}:{}", attr.mode, attr.uid, attr.gid);
    // The size and link count of a directory are its file system's business.
    if attr.mode & 0o170_000 != 0o040_000 {
        write!(
            text,
            " links {} size {} device {}",
            attr.nlink, attr.size, attr.rdev
        )
        .unwrap();
    }
    text
}

/// Names and types where the whole directory came at once, otherwise whether anything did: the
/// order of names is the host's.
fn listing(request: &TMessage<'_>, entries: &[Dirent<'_>]) -> String {
    let TMessage::Treaddir(request) = request else {
        panic!("no Treaddir");
    };
    if request.offset != 0 || request.count < 32_768 {
        return format!(
            "Rreaddir {}",
            if entries.is_empty() {
                "nothing"
            } else {
                "something"
            }
        );
    }
    let mut names: Vec<_> = entries
        .iter()
        .map(|entry| (entry.name.escape_ascii().to_string(), entry.kind))
        .collect();
    names.sort();
    format!("Rreaddir {names:?}")
}

/// A directory like the one that `transcript` was recorded on, and who listens in it.
fn tree(transcript: &str) -> (TempDir, Option<UnixListener>) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    let mut listener = None;
    match transcript {
        "v9fs-gvisor" => listener = Some(memory_tree(root)),
        // The first fid is the root; the server ignores the second's name, ours has it.
        "qemu-server-probes" => disk_tree(&root.join("ignored")),
        "diodcat-ctl" => {
            // A made-up tree of that server's.
            fs::create_dir(root.join("ctl")).unwrap();
            fs::write(root.join("ctl/version"), "diod-1.0.24\n").unwrap();
        }
        name if name.starts_with("gvisor-client-diod") => disk_tree(&root.join("srv/export")),
        name if name.starts_with("gvisor") => listener = Some(memory_tree(root)),
        _ => disk_tree(&root.join("srv/export")),
    }
    (dir, listener)
}

/// The tree of the diod and QEMU servers.
fn disk_tree(root: &Path) {
    fs::create_dir_all(root.join("docs/deep")).unwrap();
    fs::create_dir(root.join("docs/many")).unwrap();
    fs::create_dir(root.join("open")).unwrap();
    fs::set_permissions(root.join("open"), fs::Permissions::from_mode(0o777)).unwrap();
    let write = |name: &str, content: &[u8]| {
        fs::write(root.join(name), content).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    };
    write("hello.txt", b"hello from 9p\n");
    write("docs/second.txt", b"second\n");
    write("docs/mid.bin", &[b'z'; 10_000]);
    for number in 1..=12 {
        write(&format!("docs/deep/file-{number}"), b"");
    }
    for number in 1..=300 {
        write(
            &format!("docs/many/entry-with-a-long-name-{number:03}"),
            b"",
        );
    }
    symlink("hello.txt", root.join("link")).unwrap();
    for name in ["", "docs", "docs/deep", "docs/many"] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// The tree of the gVisor server.
pub fn memory_tree(root: &Path) -> UnixListener {
    fs::create_dir(root.join("dir")).unwrap();
    fs::set_permissions(root.join("dir"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(root.join("dir/hello.txt"), "hello from 9p\n").unwrap();
    fs::set_permissions(
        root.join("dir/hello.txt"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    symlink("dir/hello.txt", root.join("link")).unwrap();
    for name in ["dir", "dir/hello.txt"] {
        chown(root.join(name), Some(1000), Some(1000)).unwrap();
    }
    let listener = UnixListener::bind(root.join("sock")).unwrap();
    fs::set_permissions(root.join("sock"), fs::Permissions::from_mode(0o755)).unwrap();
    listener
}
