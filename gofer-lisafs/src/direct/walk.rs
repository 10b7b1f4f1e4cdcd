//! Walking down names.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use gofer_vfs::remote::{Found, RemoteFile, RemoteResult, Seen, WalkEnd};
use gofer_vfs::{FileType, Name};

use super::attr;
use super::file::DirectFile;
use super::host::{self, refused};

/// As [`RemoteFile::walk`]: for each name one system call that finds it and one that looks at it.
pub(super) fn walk(
    from: &DirectFile,
    names: &[Name<'_>],
    found: &mut dyn FnMut(Found),
) -> RemoteResult<WalkEnd> {
    // Keeps the descriptor of the directory, which the caller may drop as soon as it has it.
    let mut above: Option<Arc<DirectFile>> = None;
    for name in names {
        if above
            .as_ref()
            .is_some_and(|above| above.file_type == FileType::Symlink)
        {
            return Ok(WalkEnd::Symlink);
        }
        let dir = above.as_deref().unwrap_or(from);
        let fd = match host::lookup(&dir.fd, *name) {
            Err(rustix::io::Errno::NOENT) => return Ok(WalkEnd::Missing),
            fd => fd.map_err(refused)?,
        };
        let (file, attr) = DirectFile::look(&from.tree, fd)?;
        let file = Arc::new(file);
        found(file.as_found(attr));
        above = Some(file);
    }
    Ok(WalkEnd::Complete)
}

/// As [`RemoteFile::revalidate`]: one system call for each file, as long as the names are still
/// those of the files that are known.
pub(super) fn revalidate(
    from: &DirectFile,
    known: &[(Name<'_>, &dyn RemoteFile)],
    seen: &mut dyn FnMut(Seen),
) -> RemoteResult<()> {
    let (key, attr) = attr::look(host::stat(&from.fd))?;
    seen(Seen { key, attr });
    let mut dir = from;
    // Where a name has become another directory's, the next name is looked for in that one.
    let mut other: Option<OwnedFd> = None;
    let mut file_type = from.file_type;
    for (name, file) in known {
        if file_type != FileType::Directory {
            return Ok(());
        }
        let at = other.as_ref().map_or(dir.fd.as_fd(), AsFd::as_fd);
        let stat = match host::stat_at(at, *name) {
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            stat => stat,
        };
        let (key, attr) = attr::look(stat)?;
        let file = from.sibling(*file)?;
        other = match key == file.key {
            true => None,
            false => Some(host::lookup(at, *name).map_err(refused)?),
        };
        (dir, file_type) = (file, attr.file_type);
        seen(Seen { key, attr });
    }
    Ok(())
}
