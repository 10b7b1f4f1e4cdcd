//! The operations through our client and our server, over one transport.

use std::hint::black_box;
use std::io::{IoSlice, IoSliceMut};
use std::ops::ControlFlow;
use std::process::Child;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use gofer_lisafs::client::Config;
use gofer_transport::Stream;
use gofer_vfs::remote::{
    Call, DirPos, OpenMode, Promptness, RemoteFile, RemoteFilesystem, RemoteHandle, WalkEnd,
};
use gofer_vfs::{Access, AttrMask, Name};

use super::{MANY, Sizes, Transport};
use crate::{DEEP, Tree, UNBOXED, socket};

/// A server process and the connection to it.
pub(crate) struct Session {
    child: Child,
    remote: Arc<dyn RemoteFilesystem>,
    pub(super) root: Arc<dyn RemoteFile>,
}

impl Session {
    /// Starts a server, with descriptors for its clients if `donate`, and connects to it.
    pub(super) fn start(tree: &Tree, transport: Transport, donate: bool) -> Result<Session> {
        let root = tree.path("");
        let root = root.to_str().context("a temporary directory in UTF-8")?;
        let mut args = vec!["serve", "--protocol", "lisafs", "--root", root, "--fd", "0"];
        args.extend(UNBOXED);
        if !donate {
            args.push("--no-donate");
        }
        let (child, socket) = socket::spawn(&args)?;
        let remote = connect(Stream::from_fd(socket.into())?, transport)?;
        let root = remote.root(&Call::default());
        let root = root.map_err(|error| anyhow!("attach: {}", error.errno))?;
        Ok(Session {
            child,
            remote,
            root: root.file,
        })
    }

    /// The process of the server.
    pub(super) fn server(&self) -> u32 {
        self.child.id()
    }

    fn file(&self, name: &str) -> Arc<dyn RemoteFile> {
        let mut file = None;
        let names = [Name::new(name.as_bytes()).expect("a name")];
        let end = self.root.walk(&Call::default(), &names, &mut |found| {
            file = Some(found.file)
        });
        assert_eq!(end, Ok(WalkEnd::Complete));
        file.expect("a file")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.remote.shutdown();
        let _ = self.child.wait();
    }
}

fn open(file: &Arc<dyn RemoteFile>, access: Access) -> Arc<dyn RemoteHandle> {
    let mode = OpenMode {
        access,
        truncate: false,
    };
    file.open(&Call::default(), mode).expect("open")
}

/// The operations, each on one connection.
pub(crate) struct Ours {
    plain: Session,
    names: Vec<Name<'static>>,
    data: Arc<dyn RemoteHandle>,
    many: Arc<dyn RemoteHandle>,
    /// A file whose server gives descriptors away.
    donated: Arc<dyn RemoteFile>,
    _donating: Session,
    buffer: Vec<u8>,
}

impl Ours {
    pub(super) fn connect(tree: &Tree, transport: Transport) -> Result<Ours> {
        let plain = Session::start(tree, transport, false)?;
        let donating = Session::start(tree, transport, true)?;
        let name = |name: &'static str| Name::new(name.as_bytes()).expect("a name");
        Ok(Ours {
            names: DEEP.split('/').map(name).collect(),
            data: open(&plain.file("data"), Access::ReadWrite),
            many: open(&plain.file(MANY), Access::Read),
            plain,
            donated: donating.file("data"),
            _donating: donating,
            buffer: vec![7; Sizes::LARGE],
        })
    }

    pub(super) fn stat(&mut self) {
        let attr = self.plain.root.attr(&Call::default(), AttrMask::BASIC);
        black_box(attr.expect("stat"));
    }

    /// The files are given up again, with what that costs.
    pub(super) fn walk(&mut self) {
        let mut count = 0;
        let end = self
            .plain
            .root
            .walk(&Call::default(), &self.names, &mut |found| {
                black_box(found);
                count += 1;
            });
        assert_eq!((end, count), (Ok(WalkEnd::Complete), self.names.len()));
    }

    pub(super) fn open(&mut self) {
        let handle = open(&self.donated, Access::Read);
        assert!(handle.host_fd().is_some(), "a descriptor was donated");
        let closed = handle.close(&Call::default(), Promptness::Batched);
        closed.expect("close");
    }

    pub(super) fn read(&mut self, size: usize) {
        let into = &mut [IoSliceMut::new(&mut self.buffer[..size])];
        let moved = self.data.read_at(&Call::default(), into, 0);
        assert_eq!((moved.n, moved.error), (size, None));
    }

    pub(super) fn write(&mut self, size: usize) {
        let from = &[IoSlice::new(&self.buffer[..size])];
        let moved = self.data.write_at(&Call::default(), from, 0);
        assert_eq!((moved.n, moved.error), (size, None));
    }

    pub(super) fn readdir(&mut self) {
        let (mut count, mut position, mut more) = (0, DirPos(0), true);
        while more {
            let read = self
                .many
                .read_dir(&Call::default(), position, &mut |entry| {
                    count += 1;
                    position = entry.next;
                    black_box(entry.key);
                    ControlFlow::Continue(())
                });
            more = read.expect("readdir");
        }
        assert_eq!(count, Sizes::ENTRIES);
    }
}

/// Connects over one transport alone.
fn connect(stream: Stream, transport: Transport) -> Result<Arc<dyn RemoteFilesystem>> {
    let channels = match transport {
        Transport::Channel => 1,
        Transport::Socket => 0,
    };
    let config = Config {
        channels: Some(channels),
        ..Config::default()
    };
    Ok(gofer_lisafs::client::connect(stream, config)?)
}
