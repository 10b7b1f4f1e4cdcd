//! A tree on a directory of the test's own, beside a server that only says where its root is.

mod attributes;
mod escapes;
mod making;
mod reading;
mod walking;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use gofer_vfs::remote::*;
use gofer_vfs::{Access, Errno, Name, RenameFlags};

use super::DirectFilesystem;

const CALL: Call<'static> = Call {
    deadline: None,
    cancel: None,
};

const READ: OpenMode = OpenMode {
    access: Access::Read,
    truncate: false,
};

const WRITE: OpenMode = OpenMode {
    access: Access::ReadWrite,
    truncate: false,
};

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

/// A server that does nothing.
struct Idle {
    capabilities: Capabilities,
    connection: UnixStream,
}

impl RemoteFilesystem for Idle {
    fn root(&self, _call: &Call<'_>) -> RemoteResult<Found> {
        Err(RemoteError::refused(Errno::EIO))
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    fn holdings(&self) -> Holdings {
        Holdings::default()
    }

    fn sync_all(
        &self,
        _call: &Call<'_>,
        handles: &[Arc<dyn RemoteHandle>],
        done: &mut dyn FnMut(usize, RemoteResult<()>),
    ) {
        (0..handles.len()).for_each(|index| done(index, Ok(())));
    }

    fn flush_closes(&self, _call: &Call<'_>) -> RemoteResult<()> {
        Ok(())
    }

    fn subscribe(&self, _sink: Weak<dyn RemoteEvents>) {}

    fn shutdown(&self) {
        let _ = self.connection.shutdown(std::net::Shutdown::Both);
    }
}

/// A directory, and a tree on it.
struct Rig {
    dir: tempfile::TempDir,
    fs: DirectFilesystem,
    root: Arc<dyn RemoteFile>,
    /// The server's end of the connection.
    peer: UnixStream,
}

fn open_dir(path: &Path) -> OwnedFd {
    fs::File::open(path).unwrap().into()
}

/// Attaches to the descriptor `root`, for a server whose root is `told`.
fn attach(root: OwnedFd, aname: &str, told: &Path) -> RemoteResult<(DirectFilesystem, UnixStream)> {
    let (ours, peer) = UnixStream::pair().unwrap();
    let (key, _) = super::attr::look(super::host::stat(open_dir(told))).unwrap();
    let server = Arc::new(Idle {
        capabilities: Capabilities {
            protocol: "idle".to_owned(),
            rename_flags: RenameFlags::empty(),
            multi_walk: false,
            owner_on_create: false,
            locks: false,
            xattrs: false,
            allocate: false,
            read_size_max: 1,
            write_size_max: 1,
        },
        connection: ours.try_clone().unwrap(),
    });
    DirectFilesystem::attach(root, aname.as_bytes(), server, key, ours.into())
        .map(|direct| (direct, peer))
}

impl Rig {
    fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let (fs, peer) = attach(open_dir(dir.path()), "/", dir.path()).unwrap();
        let root = fs.root(&CALL).unwrap().file;
        Rig {
            dir,
            fs,
            root,
            peer,
        }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn walk(&self, path: &str) -> RemoteResult<Found> {
        walk(&self.root, path).map(|(mut found, _)| found.pop().unwrap())
    }
}

/// Everything found on the way, and why it ended.
fn walk(from: &Arc<dyn RemoteFile>, path: &str) -> RemoteResult<(Vec<Found>, WalkEnd)> {
    let names: Vec<Name<'_>> = path.split('/').map(name).collect();
    let mut found = Vec::new();
    let end = from.walk(&CALL, &names, &mut |file| found.push(file))?;
    Ok((found, end))
}

fn errno<T>(result: RemoteResult<T>) -> Option<Errno> {
    result.err().map(|error| error.errno)
}

/// How many descriptors of this process are below `path`: tests run side by side.
fn descriptors_below(path: &Path) -> usize {
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.starts_with(path))
        .count()
}
