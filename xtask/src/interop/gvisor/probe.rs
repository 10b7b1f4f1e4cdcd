//! A connection to a server of its own, used below the VFS, and the calls that cases make most.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use gofer_transport::Stream;
use gofer_vfs::remote::{
    Call, Found, Moved, OpenMode, Owner, RemoteError, RemoteFile, RemoteFilesystem, RemoteHandle,
    RemoteResult, WalkEnd,
};
use gofer_vfs::{Access, Errno, MountOptions, Name};
use tempfile::TempDir;

use crate::connect;
use crate::process::Server;

/// How long the server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A case at work: a server of its own, and a connection to it.
pub(super) struct Probe {
    pub(super) remote: Arc<dyn RemoteFilesystem>,
    pub(super) root: Arc<dyn RemoteFile>,
    /// What the server serves.
    pub(super) dir: PathBuf,
    pub(super) server: Server,
    _base: TempDir,
}

pub(super) fn name(bytes: &[u8]) -> Result<Name<'_>> {
    Name::new(bytes).map_err(|errno| anyhow!("no name: {errno}"))
}

/// The result of a call that must work.
pub(super) fn works<T>(what: &str, result: RemoteResult<T>) -> Result<T> {
    result.map_err(|error| anyhow!("{what}: {}", error.errno))
}

/// Checks that a call is refused with `errno`.
pub(super) fn fails<T>(what: &str, result: RemoteResult<T>, errno: Errno) -> Result<()> {
    match result {
        Err(error) if error.errno == errno => Ok(()),
        Err(error) => Err(anyhow!("{what}: {} instead of {errno}", error.errno)),
        Ok(_) => Err(anyhow!("{what} works instead of {errno}")),
    }
}

pub(super) fn mode(access: Access) -> OpenMode {
    OpenMode {
        access,
        truncate: false,
    }
}

pub(super) const CALL: Call<'static> = Call {
    deadline: None,
    cancel: None,
};
pub(super) const OWNER: Owner = Owner {
    uid: Some(0),
    gid: Some(0),
};

pub(super) fn read(handle: &dyn RemoteHandle, length: usize) -> Result<Vec<u8>, RemoteError> {
    let mut buffer = vec![0; length];
    match handle.read_at(&CALL, &mut [IoSliceMut::new(&mut buffer)], 0) {
        Moved { n, error: None } => {
            buffer.truncate(n);
            Ok(buffer)
        }
        Moved {
            error: Some(error), ..
        } => Err(error),
    }
}

pub(super) fn write(handle: &dyn RemoteHandle, data: &[u8]) -> Result<()> {
    match handle.write_at(&CALL, &[IoSlice::new(data)], 0) {
        Moved { n, error: None } if n == data.len() => Ok(()),
        other => Err(anyhow!("wrote {other:?} of {} bytes", data.len())),
    }
}

impl Probe {
    /// Starts a server with `command` and connects to it with the mount options `options`.
    pub(super) fn start(mut command: Command, options: &str) -> Result<Probe> {
        let base = tempfile::Builder::new().prefix("gofer-go-").tempdir()?;
        let (socket, dir) = (base.path().join("socket"), base.path().join("export"));
        fs::create_dir(&dir)?;
        command.args([&socket, &dir]);
        let mut server = Server::start(command, None)?;
        server.ready_line(PATIENCE)?;
        let text = format!("trans=unix,address={},{options}", socket.display());
        let options: MountOptions = text.parse().map_err(|error| anyhow!("{text}: {error}"))?;
        let remote = connect::connect(Stream::connect_unix(&socket)?, &options)?;
        let root = works("attach", remote.root(&CALL))?.file;
        Ok(Probe {
            remote,
            root,
            dir,
            server,
            _base: base,
        })
    }

    /// Every file on the way to `path`.
    pub(super) fn walk(&self, path: &str) -> Result<Vec<Found>> {
        let names: Vec<Name<'_>> = path
            .split('/')
            .map(|part| name(part.as_bytes()))
            .collect::<Result<_>>()?;
        let mut found = Vec::new();
        let end = self.root.walk(&CALL, &names, &mut |file| found.push(file));
        let end = works(path, end)?;
        ensure!(end == WalkEnd::Complete, "{path}: the walk ends: {end:?}");
        ensure!(found.len() == names.len(), "{path}: found {}", found.len());
        Ok(found)
    }

    pub(super) fn file(&self, path: &str) -> Result<Arc<dyn RemoteFile>> {
        let last = self.walk(path)?.pop();
        Ok(last.ok_or_else(|| anyhow!("{path}: nothing found"))?.file)
    }

    pub(super) fn open(&self, path: &str, access: Access) -> Result<Arc<dyn RemoteHandle>> {
        works(path, self.file(path)?.open(&CALL, mode(access)))
    }

    pub(super) fn create(&self, text: &str) -> Result<(Found, Arc<dyn RemoteHandle>)> {
        let name = name(text.as_bytes())?;
        let made = self
            .root
            .create(&CALL, name, 0o640, OWNER, mode(Access::ReadWrite));
        works(text, made)
    }

    /// How many requests `work` costs.
    pub(super) fn requests(&self, work: impl FnOnce() -> Result<()>) -> Result<u64> {
        let before = self.remote.traffic().requests;
        work()?;
        Ok(self.remote.traffic().requests - before)
    }
}
