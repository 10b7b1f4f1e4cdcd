//! Unix sockets, which stay with the server: its policy says who may connect and bind.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use gofer_vfs::remote::{
    Call, FileKey, Found, Owner, RemoteError, RemoteFile, RemoteResult, RemoteSocket, SocketType,
    WalkEnd,
};
use gofer_vfs::{Errno, FileType, Name};

use super::file::DirectFile;
use super::host::{self, refused};

/// As `RemoteFile::connect`.
pub(super) fn connect(
    file: &DirectFile,
    call: &Call<'_>,
    kind: SocketType,
) -> RemoteResult<OwnedFd> {
    if file.file_type != FileType::Socket {
        return Err(RemoteError::refused(Errno::ENOTSOCK));
    }
    at_server(file, call)?.connect(call, kind)
}

/// As `RemoteFile::bind`.
pub(super) fn bind(
    dir: &DirectFile,
    call: &Call<'_>,
    name: Name<'_>,
    kind: SocketType,
    (perm, owner): (u16, Owner),
) -> RemoteResult<(Found, Box<dyn RemoteSocket>)> {
    let (made, socket) = at_server(dir, call)?.bind(call, name, kind, perm, owner)?;
    let fd = host::lookup(&dir.fd, name).map_err(refused)?;
    let found = DirectFile::found(&dir.tree, fd)?;
    same(found.key, made.key)?;
    Ok((found, socket))
}

/// The file as the server has it: walked to over the connection, and compared. `ESTALE` where the
/// server has another file at that place, or none.
fn at_server(here: &DirectFile, call: &Call<'_>) -> RemoteResult<Arc<dyn RemoteFile>> {
    let path = path_below_root(here)?;
    let names: Vec<Name<'_>> = super::names(&path)
        .collect::<Result<_, _>>()
        .map_err(RemoteError::not_sent)?;
    let Found {
        mut file, mut key, ..
    } = here.tree.server.root(call)?;
    let mut left = names.as_slice();
    while !left.is_empty() {
        let mut count = 0;
        let mut last = None;
        let end = file.walk(call, left, &mut |found| {
            count += 1;
            last = Some(found);
        })?;
        left = left.get(count..).unwrap_or_default();
        let Some(found) = last else {
            return Err(RemoteError::refused(Errno::ESTALE));
        };
        (file, key) = (found.file, found.key);
        if matches!(end, WalkEnd::Missing | WalkEnd::Symlink) && !left.is_empty() {
            return Err(RemoteError::refused(Errno::ESTALE));
        }
    }
    same(key, here.key)?;
    Ok(file)
}

fn same(one: FileKey, other: FileKey) -> RemoteResult<()> {
    match one == other {
        true => Ok(()),
        false => Err(RemoteError::refused(Errno::ESTALE)),
    }
}

/// Where the host says that the file is now. It may have moved when this returns, and the path of
/// a deleted file is none; what is found there is compared.
fn path_below_root(file: &DirectFile) -> RemoteResult<Vec<u8>> {
    let path = |fd: &OwnedFd| {
        rustix::fs::readlink(host::magic_path(fd), Vec::new())
            .map(|path| path.into_bytes())
            .map_err(refused)
    };
    let (root, path) = (path(&file.tree.root)?, path(&file.fd)?);
    let top = root.strip_suffix(b"/").unwrap_or(&root);
    match path.strip_prefix(top) {
        Some(below) if below.is_empty() || below.starts_with(b"/") => Ok(below.to_vec()),
        _ => Err(RemoteError::refused(Errno::ESTALE)),
    }
}
