//! Target of saved images: a file that anybody may have written is restored over a server.

use std::ops::ControlFlow;
use std::sync::Arc;

use gofer_vfs::saving::{check_image, seal_image};
use gofer_vfs::testing::Outside;
use gofer_vfs::testing::mem_remote::{MemConfig, MemServer};
use gofer_vfs::{
    At, Context, Credentials, Device, EventMask, File, FileType, Filesystem, Follow, Keep,
    MountFlags, MountOptions, OpenFlags, SocketType, Trans, Verify,
};

use crate::input::check_line;

/// The first byte tells whether the rest is an image as it is, or records, each after its length
/// in two bytes: with right checksums more of them get somewhere. Whatever it is, it is restored
/// or refused; the server has no names more than before, and what came back can be used.
pub fn restore(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else {
        return;
    };
    let image = match how & 1 {
        0 => rest.to_vec(),
        _ => seal_image(records(rest)),
    };
    let creds = Credentials::root();
    let cx = Context::new(&creds);
    let server = server();
    let before = server.outside().list(b"").unwrap_or_default();
    let verify = Verify {
        size: how & 2 != 0,
        mtime: how & 4 != 0,
        identity: how & 8 != 0,
    };
    let config = match how & 16 {
        0 => MemConfig::like_lisafs(),
        _ => MemConfig::like_9p(),
    };
    let remote = Arc::new(server.connect(config));
    let options = MountOptions::new(Trans::Fd { rfd: 0, wfd: 0 });
    match Filesystem::restore(&cx, remote, options, &image, verify) {
        Ok(restored) => {
            assert!(check_image(&image).is_ok());
            for (_, file) in &restored.files {
                let _ = file.stat(&cx);
                let _ = file.read_at(&cx, &mut [0; 64], 0);
                let _ = file.write_at(&cx, b"x", 0);
                let _ = file.read_dir(&cx, &mut |_| ControlFlow::Continue(()));
                // What has no offsets may wait for its other end.
                if file.flags().contains(OpenFlags::NONBLOCK) {
                    let _ = file.read(&cx, &mut [0; 64]);
                    let _ = file.write(&cx, b"x");
                }
            }
            for (_, notifier) in &restored.notifiers {
                let _ = notifier.try_read(usize::MAX);
            }
            for (_, listener) in &restored.listeners {
                let _ = listener.try_accept(&cx);
            }
            for (_, node) in &restored.nodes {
                let _ = restored.fs.stat(&cx, At::new(node, b"d/f"), Follow::Yes);
            }
            let _ = restored.fs.unmount(&cx);
        }
        Err(error) => check_line(&error.to_string()),
    }
    let after = server.outside().list(b"").unwrap_or_default();
    assert_eq!(before, after);
}

fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (record, rest) = rest.split_at(length);
        all.push(record);
        bytes = rest;
    }
    all
}

/// A server with the tree that [`seeds`] are images of.
fn server() -> MemServer {
    let server = MemServer::new();
    let outside = server.outside();
    let _ = outside.mkdir(b"d");
    let _ = outside.write(b"d/f", b"content");
    let _ = outside.write(b"gone", b"without a name");
    server
}

/// Inputs to begin with: an image as it is, and its records.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let server = server();
    let creds = Credentials::root();
    let cx = Context::new(&creds);
    // Fifos and sockets are this client's alone.
    let config = MemConfig {
        makes_fifos: false,
        ..MemConfig::like_lisafs()
    };
    let remote = Arc::new(server.connect(config));
    let options = MountOptions::new(Trans::Fd { rfd: 0, wfd: 0 });
    let mut image = Vec::new();
    let saved = Filesystem::mount(remote, options, MountFlags::default()).and_then(|fs| {
        let root = fs.root();
        let open = |path: &[u8]| fs.open(&cx, At::new(&root, path), OpenFlags::RDWR, 0);
        let (file, gone): (File, File) = (open(b"d/f")?, open(b"gone")?);
        fs.unlink(&cx, At::new(&root, b"gone"))?;
        let node = file.node().clone();
        let at = |path: &'static [u8]| At::new(&root, path);
        let (fifo, device) = (FileType::Fifo, Device::default());
        fs.mknod(&cx, at(b"d/p"), fifo, 0o600, device)?;
        let flags = OpenFlags::RDWR | OpenFlags::NONBLOCK;
        let pipe = fs.open(&cx, at(b"d/p"), flags, 0)?;
        pipe.write(&cx, b"waits")?;
        let dir = fs.open(&cx, at(b"d"), OpenFlags::DIRECTORY, 0)?;
        dir.read_dir_at(&cx, 2, &mut |_| ControlFlow::Break(()))?;
        let socket = fs.bind(&cx, at(b"s"), SocketType::Stream, 0o600)?;
        socket.listen(&cx, 1)?;
        let notifier = fs.notifier()?;
        notifier.add(&cx, at(b"d"), EventMask::ALL)?;
        drop(fs.open(&cx, at(b"d/f"), OpenFlags::RDONLY, 0)?);
        let keep = Keep {
            files: &[(1, &file), (2, &gone), (4, &pipe), (5, &dir)],
            nodes: &[(3, &node)],
            notifiers: &[(6, &notifier)],
            listeners: &[(7, &socket)],
        };
        fs.checkpoint(&cx, &keep, &mut image)
    });
    if let Err(error) = saved {
        panic!("{error}");
    }
    let mut parts = vec![31];
    let mut rest = image.get(12..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes(*length);
        let record = after.get(4..).unwrap_or_default();
        let (record, after) = record.split_at(length as usize);
        parts.extend((length as u16).to_le_bytes());
        parts.extend(record);
        rest = after;
    }
    let whole = [&[0], image.as_slice()].concat();
    let cut = whole.get(..whole.len() / 2).unwrap_or_default().to_vec();
    vec![("whole", whole), ("records", parts), ("cut", cut)]
}
