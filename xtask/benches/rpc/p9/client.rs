//! The operations through our client.

use std::hint::black_box;
use std::io::{IoSlice, IoSliceMut};
use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use gofer_transport::Stream;
use gofer_vfs::remote::{
    Call, DirPos, Found, OpenMode, Owner, Promptness, RemoteFile, RemoteFilesystem, RemoteHandle,
    WalkEnd,
};
use gofer_vfs::{Access, AttrMask, MountOptions, Name};
use xtask::connect;

use super::server::Running;
use super::{MSIZE, Sizes};
use crate::DEEP;
use crate::floor::{MANY, NEW};

/// One caller. Several may share a connection.
pub(super) struct Client {
    remote: Arc<dyn RemoteFilesystem>,
    root: Arc<dyn RemoteFile>,
    file: Arc<dyn RemoteFile>,
    fresh: Arc<dyn RemoteFile>,
    data: Arc<dyn RemoteHandle>,
    many: Arc<dyn RemoteHandle>,
    names: Vec<Name<'static>>,
    /// What this caller makes and removes.
    own: String,
    buffer: Vec<u8>,
}

const MODE: OpenMode = OpenMode {
    access: Access::ReadWrite,
    truncate: false,
};
const LISTING: OpenMode = OpenMode {
    access: Access::Read,
    truncate: false,
};

impl Client {
    pub(super) fn connect(server: &mut Running) -> Result<Client> {
        let stream = Stream::from_fd(server.socket()?.into())?;
        let text = format!(
            "trans=fd,rfdno=0,wfdno=0,version=9P2000.L,msize={MSIZE},aname={}",
            server.aname
        );
        let options: MountOptions = text.parse().map_err(|error| anyhow!("{text}: {error}"))?;
        let remote = connect::connect(stream, &options)?;
        let root = remote.root(&Call::default());
        let root = root
            .map_err(|error| anyhow!("attach: {}", error.errno))?
            .file;
        Client::on(remote, root, 0)
    }

    fn on(
        remote: Arc<dyn RemoteFilesystem>,
        root: Arc<dyn RemoteFile>,
        number: usize,
    ) -> Result<Client> {
        let name = |name: &'static str| Name::new(name.as_bytes()).expect("a name");
        let file = child(&root, name("data"));
        let open = |file: &Arc<dyn RemoteFile>, mode| {
            let opened = file.open(&Call::default(), mode);
            opened.map_err(|error| anyhow!("open: {}", error.errno))
        };
        Ok(Client {
            data: open(&file, MODE)?,
            many: open(&child(&root, name(MANY)), LISTING)?,
            fresh: child(&root, name(NEW)),
            names: DEEP.split('/').map(name).collect(),
            own: format!("made-{number}"),
            buffer: vec![7; Sizes::LARGE],
            remote,
            root,
            file,
        })
    }

    /// So many callers on the same connection.
    pub(super) fn shared(self, count: usize) -> Result<Vec<Client>> {
        let mut clients = Vec::new();
        for number in 1..count {
            clients.push(Client::on(self.remote.clone(), self.root.clone(), number)?);
        }
        clients.push(self);
        Ok(clients)
    }

    pub(super) fn getattr(&mut self) {
        let attr = self.file.attr(&Call::default(), AttrMask::BASIC);
        black_box(attr.expect("getattr"));
    }

    pub(super) fn walk(&mut self, count: usize) {
        black_box(walk(&self.root, &self.names[..count]));
    }

    pub(super) fn open(&mut self) {
        let handle = self.file.open(&Call::default(), LISTING).expect("open");
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

    pub(super) fn create(&mut self) {
        let (call, name) = (
            Call::default(),
            Name::new(self.own.as_bytes()).expect("a name"),
        );
        let owner = Owner {
            uid: None,
            gid: Some(0),
        };
        let made = self.fresh.create(&call, name, 0o600, owner, MODE);
        let (found, handle) = made.expect("create");
        handle.close(&call, Promptness::Batched).expect("close");
        let removed = self.fresh.unlink(&call, name, false, Some(&*found.file));
        removed.expect("unlink");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.remote.shutdown();
    }
}

fn child(root: &Arc<dyn RemoteFile>, name: Name<'static>) -> Arc<dyn RemoteFile> {
    walk(root, &[name]).pop().expect("a file").file
}

/// In as many round trips as it takes.
fn walk(root: &Arc<dyn RemoteFile>, names: &[Name<'_>]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::with_capacity(names.len());
    loop {
        let from = found.last().map_or(root, |found| &found.file).clone();
        let left = &names[found.len()..];
        match from.walk(&Call::default(), left, &mut |file| found.push(file)) {
            Ok(WalkEnd::CallAgain) => {}
            Ok(WalkEnd::Complete) => return found,
            other => panic!("the walk ends with {other:?}"),
        }
    }
}
