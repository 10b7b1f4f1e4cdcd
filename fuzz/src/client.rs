//! Targets that give a client whatever bytes as the answers of a server.
//!
//! Every call must come back, with no more than was asked for, and leave nothing open. An input
//! is one record per request: how many descriptors come along (low two bits), which (a byte
//! each), how many bytes the answer has (16 bits, little-endian), and these. After the last
//! record, and after one that is not just whole messages, the server hangs up: otherwise both
//! sides would wait for the other. For 9P a byte before all records says which dialect to ask for.

use std::io::{IoSlice, IoSliceMut};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Instant, SystemTime};

use gofer_9p::wire::{HEADER_SIZE, Header, MSIZE_MAX};
use gofer_lisafs::wire::SocketHeader;
use gofer_transport::{FdQueue, PacketSocket, Stream, Wait};
use gofer_vfs::remote::{
    Call, DirPos, FileLock, Found, LockKind, Moved, New, OpenMode, Owner, Promptness, RemoteFile,
    RemoteFilesystem, RemoteHandle, SocketType,
};
use gofer_vfs::{
    Access, AllocMode, Attr, AttrMask, Name, RenameFlags, SetAttr, SetTime, Timestamp, XattrFlags,
};

use crate::input::{Input, PATIENCE};
use crate::session::Alone;

/// A client of lisafs.
pub fn lisafs(input: &[u8]) {
    run(Input::new(input), lisafs_frame, lisafs_size, |stream| {
        let config = gofer_lisafs::client::Config {
            timeout: Some(PATIENCE),
            channels: Some(1),
            ..Default::default()
        };
        gofer_lisafs::client::connect(stream, config).ok()
    });
}

/// A client of 9P.
pub fn p9(input: &[u8]) {
    let mut input = Input::new(input);
    let version = DIALECTS[usize::from(input.byte()) % DIALECTS.len()];
    run(input, p9_message, p9_size, |stream| {
        let config = gofer_9p::client::Config {
            version: version.map(str::to_owned),
            timeout: Some(PATIENCE),
            channels: Some(0),
            ..Default::default()
        };
        gofer_9p::client::connect(stream, config).ok()
    });
}

/// What a 9P client may ask for, by the first byte of its input.
pub const DIALECTS: [Option<&str>; 3] = [None, Some("9P2000.L"), Some("9P2000.L.Google.7")];

/// Receives one message, and the descriptors with it if there is a queue for them; `None` when
/// the other side has left.
pub type Next = fn(&Stream, Option<&mut FdQueue>) -> Option<Vec<u8>>;

fn run(
    input: Input<'_>,
    next: Next,
    size: Size,
    connect: impl FnOnce(Stream) -> Option<Arc<dyn RemoteFilesystem>>,
) {
    let alone = Alone::begin();
    let begin = Instant::now();
    let (ours, theirs) = Stream::pair().expect("make a socket pair");
    thread::scope(|scope| {
        let server = scope.spawn(|| serve(theirs, input, next, size));
        if let Some(fs) = connect(ours) {
            workload(fs.as_ref());
            fs.shutdown();
        }
        // Not left to the scope, which does not wait for what a thread frees last.
        server.join().expect("the server does what it is told");
    });
    assert!(begin.elapsed() < PATIENCE, "a call does not come back");
    alone.end();
}

/// The bytes of the message that `bytes` begin with, whether all are there or not; `None` when
/// not even that can be told.
pub type Size = fn(bytes: &[u8]) -> Option<usize>;

pub(crate) fn lisafs_size(bytes: &[u8]) -> Option<usize> {
    let header = SocketHeader::decode(bytes.first_chunk()?);
    Some(SocketHeader::SIZE + header.payload_len.get() as usize)
}

fn p9_size(bytes: &[u8]) -> Option<usize> {
    let header = Header::decode(bytes.first_chunk()?, MSIZE_MAX).ok()?;
    Some(header.size as usize)
}

/// Whether `bytes` are one message or several, and nothing else.
pub(crate) fn is_whole(mut bytes: &[u8], size: Size) -> bool {
    while let Some((_, rest)) = size(bytes).and_then(|size| bytes.split_at_checked(size)) {
        if rest.is_empty() {
            return true;
        }
        bytes = rest;
    }
    false
}

/// Answers each request with the next record.
fn serve(stream: Stream, mut input: Input<'_>, next: Next, size: Size) {
    while !input.is_empty() && next(&stream, None).is_some() {
        let count = input.byte() % 4;
        let fds: Vec<OwnedFd> = (0..count).map(|_| descriptor(input.byte())).collect();
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let answer = input.counted();
        let parts = [IoSlice::new(answer)];
        if stream.send(&parts, &fds, &Wait::default()).is_err() || !is_whole(answer, size) {
            break;
        }
    }
    stream.shutdown();
}

/// A descriptor of some kind, as good for the purpose or as bad as it may be.
pub(crate) fn descriptor(kind: u8) -> OwnedFd {
    let opened = match kind % 5 {
        0 => tempfile::tempfile().map(OwnedFd::from),
        1 => std::fs::File::open("/").map(OwnedFd::from),
        2 => std::fs::File::open("/dev/null").map(OwnedFd::from),
        3 => PacketSocket::pair().map(|(one, _other)| OwnedFd::from(one)),
        _ => rustix::pipe::pipe()
            .map(|(_reader, writer)| writer)
            .map_err(Into::into),
    };
    opened.expect("open a descriptor")
}

/// The [`Next`] of lisafs.
pub fn lisafs_frame(stream: &Stream, fds: Option<&mut FdQueue>) -> Option<Vec<u8>> {
    let mut frame = vec![0; SocketHeader::SIZE];
    receive(stream, &mut frame, fds)?;
    let header = SocketHeader::decode(frame.first_chunk()?);
    frame.resize(SocketHeader::SIZE + header.payload_len.get() as usize, 0);
    receive(stream, &mut frame[SocketHeader::SIZE..], None)?;
    Some(frame)
}

/// The [`Next`] of 9P.
pub fn p9_message(stream: &Stream, fds: Option<&mut FdQueue>) -> Option<Vec<u8>> {
    let mut message = vec![0; HEADER_SIZE];
    receive(stream, &mut message, fds)?;
    let size = u32::from_le_bytes(*message.first_chunk()?);
    message.resize(size as usize, 0);
    receive(stream, &mut message[HEADER_SIZE..], None)?;
    Some(message)
}

fn receive(stream: &Stream, into: &mut [u8], fds: Option<&mut FdQueue>) -> Option<()> {
    let whole = into.is_empty() || stream.receive_exact(into, fds, &Wait::default()).ok()?;
    whole.then_some(())
}

const OWNER: Owner = Owner {
    uid: Some(1000),
    gid: None,
};

const READ_WRITE: OpenMode = OpenMode {
    access: Access::ReadWrite,
    truncate: false,
};

fn call() -> Call<'static> {
    Call {
        deadline: Instant::now().checked_add(PATIENCE),
        cancel: None,
    }
}

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).expect("a good name")
}

/// Everything a client can ask for, whatever becomes of it. The seeds are answers to just this,
/// in this order.
pub fn workload(fs: &dyn RemoteFilesystem) {
    let Ok(root) = fs.root(&call()) else {
        return;
    };
    check_found(&root);
    assert!(!fs.capabilities().protocol.is_empty());
    let root = root.file.as_ref();
    places(root);
    if let Some(file) = walk(root, &["dir1", "file.txt"]) {
        attributes(file.as_ref());
        if let Ok(handle) = file.open(&call(), READ_WRITE) {
            data(handle.as_ref());
            let handles = [handle];
            fs.sync_all(&call(), &handles, &mut |index, _| assert_eq!(index, 0));
            let _ = handles[0].close(&call(), Promptness::Prompt);
        }
    }
    listing(root);
    changes(root);
    sockets(root);
    let _ = fs.flush_closes(&call());
}

/// Walks, and gives the last file if all were found.
fn walk(from: &dyn RemoteFile, names: &[&str]) -> Option<Arc<dyn RemoteFile>> {
    let path: Vec<_> = names.iter().copied().map(name).collect();
    let mut files = Vec::new();
    let _ = from.walk(&call(), &path, &mut |found| {
        check_found(&found);
        files.push(found.file);
    });
    assert!(files.len() <= names.len(), "more files than names");
    files.pop().filter(|_| files.len() + 1 == names.len())
}

fn places(root: &dyn RemoteFile) {
    walk(root, &["missing"]);
    if let Some(link) = walk(root, &["link"])
        && let Ok(target) = link.read_link(&call())
    {
        assert!(!target.is_empty());
    }
    if let Some(dir) = walk(root, &["dir1"]) {
        let known = [(name("dir1"), dir.as_ref())];
        let mut count = 0;
        let _ = root.revalidate(&call(), &known, &mut |seen| {
            check_attr(&seen.attr);
            count += 1;
        });
        assert!(count <= 2, "more files than were looked at");
    }
    let _ = root.stat_fs(&call());
}

fn attributes(file: &dyn RemoteFile) {
    if let Ok(attr) = file.attr(&call(), AttrMask::BASIC) {
        check_attr(&attr);
    }
    let set = SetAttr {
        mode: Some(0o600),
        mtime: Some(SetTime::At(Timestamp { sec: 1, nsec: 2 })),
        ..SetAttr::default()
    };
    let _ = file.set_attr(&call(), &set, None);
    let _ = file.set_xattr(&call(), b"user.a", b"value", XattrFlags::empty());
    let _ = file.get_xattr(&call(), b"user.a", 64);
    let _ = file.list_xattr(&call(), &mut |_| ());
    let _ = file.remove_xattr(&call(), b"user.a");
}

fn data(handle: &dyn RemoteHandle) {
    let mut buffer = [0; 700];
    let Moved { n, .. } = handle.read_at(&call(), &mut [IoSliceMut::new(&mut buffer)], 0);
    assert!(n <= buffer.len(), "{n} bytes read");
    let (one, two) = ([1; 300], [2; 5]);
    let parts = [IoSlice::new(&one), IoSlice::new(&two)];
    let Moved { n, .. } = handle.write_at(&call(), &parts, 3);
    assert!(n <= one.len() + two.len(), "{n} bytes written");
    if let Ok(attr) = handle.attr(&call(), AttrMask::SIZE) {
        check_attr(&attr);
    }
    let _ = handle.allocate(&call(), AllocMode::empty(), 0, 4096);
    let _ = handle.seek_data(&call(), 0, true);
    let lock = FileLock {
        kind: LockKind::Write,
        start: 0,
        length: 0,
        owner: 1,
    };
    let _ = handle.lock(&call(), &lock);
    let _ = handle.test_lock(&call(), &lock);
    let _ = handle.sync(&call(), true);
    let _ = handle.flush(&call());
    handle.host_fd();
}

/// Lists a directory. A server may invent entries for ever, so the number of questions is bounded.
fn listing(root: &dyn RemoteFile) {
    let Some(dir) = walk(root, &["many"]) else {
        return;
    };
    let mode = OpenMode {
        access: Access::Read,
        truncate: false,
    };
    let Ok(handle) = dir.open(&call(), mode) else {
        return;
    };
    let mut from = DirPos(0);
    for _ in 0..4 {
        let more = handle.read_dir(&call(), from, &mut |entry| {
            Name::new(entry.name.as_bytes()).expect("a valid name");
            from = entry.next;
            ControlFlow::Continue(())
        });
        if more != Ok(true) {
            break;
        }
    }
}

fn changes(root: &dyn RemoteFile) {
    let created = root.create(&call(), name("new"), 0o640, OWNER, READ_WRITE);
    if let Ok((found, _handle)) = created {
        check_found(&found);
        let link = root.link(&call(), name("again"), found.file.as_ref());
        check_made(link.ok().flatten());
    }
    for (text, new) in [
        ("dir", New::Dir),
        ("symlink", New::Symlink(b"dir")),
        ("fifo", New::Fifo),
        ("file", New::Regular),
    ] {
        check_made(
            root.make(&call(), name(text), new, 0o750, OWNER)
                .ok()
                .flatten(),
        );
    }
    let flags = RenameFlags::empty();
    let _ = root.rename(&call(), name("new"), None, (root, name("other")), flags);
    let _ = root.unlink(&call(), name("other"), false, None);
    let _ = root.unlink(&call(), name("dir"), true, None);
}

fn sockets(root: &dyn RemoteFile) {
    let kind = SocketType::Stream;
    if let Ok((found, socket)) = root.bind(&call(), name("socket"), kind, 0o600, OWNER) {
        check_found(&found);
        let _ = socket.listen(&call(), 1);
        let connected = found.file.connect(&call(), kind);
        let accepted = socket.accept(&call());
        drop((connected, accepted));
    }
}

fn check_made(found: Option<Found>) {
    if let Some(found) = found {
        check_found(&found);
    }
}

fn check_found(found: &Found) {
    check_attr(&found.attr);
}

/// Attributes are within what their types promise: those who print them rely on it.
fn check_attr(attr: &Attr) {
    assert_eq!(attr.mode & !0o7777, 0, "type bits in the mode");
    for time in [attr.atime, attr.mtime, attr.ctime, attr.btime] {
        assert!(time.nsec < 1_000_000_000, "{time:?}");
        let _ = SystemTime::from(time);
    }
}
