//! Making files anew that had no name any more when they were saved.

use std::collections::HashMap;
use std::io::IoSlice;
use std::sync::Arc;

use super::RestoreError;
use super::image::{Image, Index, SavedInode, timestamp};
use super::rebuild::failed;
use super::verify::AllFound;
use crate::attr::{Device, FileType, SetAttr, SetTime};
use crate::context::Context;
use crate::error::Errno;
use crate::flags::Access;
use crate::name::Name;
use crate::remote::{Found, New, OpenMode, Owner, RemoteFile, RemoteHandle, RemoteResult};

/// How many names are tried for a file that is to have none.
const ATTEMPTS_MAX: u32 = 1000;

/// A file that has no name, made anew, and open if it is a regular one.
pub(super) struct Made {
    pub(super) found: Found,
    pub(super) handle: Option<Arc<dyn RemoteHandle>>,
}

/// Makes all that the image has, each in the nearest directory that still has a name.
pub(super) fn make_nameless(
    image: &Image<'_>,
    cx: &Context<'_>,
    found: &AllFound,
) -> Result<HashMap<Index, Made>, RestoreError> {
    let mut all = HashMap::new();
    for (index, dentry) in image.dentries.iter().enumerate() {
        let saved = image.inode(dentry.inode);
        let saved = saved.filter(|saved| saved.nameless && !saved.synthetic);
        let Some(saved) = saved.filter(|_| !all.contains_key(&dentry.inode)) else {
            continue;
        };
        let path = || image.path(Index::try_from(index).unwrap_or(Index::MAX));
        // The root always has its name.
        let mut above = dentry.parent;
        let dir = loop {
            let at = above.and_then(|above| usize::try_from(above).ok());
            let at = at.ok_or_else(|| failed(&path(), Errno::EIO))?;
            match found.get(at).and_then(Option::as_ref) {
                Some(dir) => break dir,
                None => above = image.dentries.get(at).and_then(|one| one.parent),
            }
        };
        let job = Nameless {
            image,
            cx,
            index: dentry.inode,
            saved,
            dir: &*dir.file,
        };
        let made = job.make().map_err(|errno| failed(&path(), errno))?;
        all.insert(dentry.inode, made);
    }
    Ok(all)
}

/// One such file.
struct Nameless<'n> {
    image: &'n Image<'n>,
    cx: &'n Context<'n>,
    index: Index,
    saved: &'n SavedInode,
    dir: &'n dyn RemoteFile,
}

impl Nameless<'_> {
    /// Makes it under a free name, fills it, and removes the name again, come what may.
    fn make(&self) -> Result<Made, Errno> {
        let is_dir = self.saved.file_type() == Some(FileType::Directory);
        for attempt in 0..ATTEMPTS_MAX {
            let text = format!(".gofer-restore-{}-{attempt}", std::process::id());
            let name = Name::new(text.as_bytes())?;
            let made = self.make_named(name);
            let made = match made {
                Err(error) if error.errno == Errno::EEXIST => continue,
                made => made.map_err(|error| error.errno)?,
            };
            let filled = match &made.handle {
                Some(handle) => self.fill(&*made.found.file, &**handle),
                None => Ok(()),
            };
            let child = Some(&*made.found.file);
            let removed = self.dir.unlink(&self.cx.call(), name, is_dir, child);
            filled?;
            removed.map_err(|error| error.errno)?;
            return Ok(made);
        }
        Err(Errno::EEXIST)
    }

    fn make_named(&self, name: Name<'_>) -> RemoteResult<Made> {
        let (major, minor) = self.saved.rdev;
        let device = Device { major, minor };
        let parts = self.image.data.iter();
        let target = parts
            .filter(|part| part.0 == self.index)
            .map(|part| part.2)
            .next_back();
        match self.saved.file_type() {
            Some(FileType::Directory) => self.make_other(name, New::Dir),
            Some(FileType::Symlink) => {
                self.make_other(name, New::Symlink(target.unwrap_or_default()))
            }
            Some(FileType::Fifo) => self.make_other(name, New::Fifo),
            Some(FileType::Socket) => self.make_other(name, New::Socket),
            Some(FileType::CharDevice) => self.make_other(name, New::Char(device)),
            Some(FileType::BlockDevice) => self.make_other(name, New::Block(device)),
            Some(FileType::Regular) | None => self.make_file(name),
        }
    }

    fn make_other(&self, name: Name<'_>, new: New<'_>) -> RemoteResult<Made> {
        let call = self.cx.call();
        let mode = self.saved.mode | 0o700;
        let made = self.dir.make(&call, name, new, mode, Owner::default())?;
        let mut found = made;
        if found.is_none() {
            self.dir
                .walk(&call, &[name], &mut |one| found = Some(one))?;
        }
        let found = found.ok_or(crate::remote::RemoteError::refused(Errno::ENOENT))?;
        Ok(Made {
            found,
            handle: None,
        })
    }

    fn make_file(&self, name: Name<'_>) -> RemoteResult<Made> {
        let mode = OpenMode {
            access: Access::ReadWrite,
            truncate: false,
        };
        let owner = Owner::default();
        let (found, handle) = self.dir.create(&self.cx.call(), name, 0o600, owner, mode)?;
        Ok(Made {
            found,
            handle: Some(handle),
        })
    }

    /// Content and attributes. Where the server refuses an owner, it keeps its own.
    fn fill(&self, file: &dyn RemoteFile, handle: &dyn RemoteHandle) -> Result<(), Errno> {
        let call = self.cx.call();
        let parts = self.image.data.iter().filter(|part| part.0 == self.index);
        for (_, offset, data) in parts {
            let mut done = 0;
            while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
                let at = offset + done as u64;
                let moved = handle.write_at(&call, &[IoSlice::new(rest)], at);
                match moved.error {
                    Some(error) if moved.n == 0 => return Err(error.errno),
                    _ if moved.n == 0 => return Err(Errno::EIO),
                    _ => done += moved.n,
                }
            }
        }
        let set = |set: SetAttr| {
            let report = file.set_attr(&call, &set, Some(handle));
            let report = report.map_err(|error| error.errno)?;
            match report.errno.filter(|_| !report.failed.is_empty()) {
                Some(errno) => Err(errno),
                None => Ok(()),
            }
        };
        set(SetAttr {
            size: Some(self.saved.size),
            ..SetAttr::default()
        })?;
        let owned = set(SetAttr {
            uid: Some(self.saved.uid),
            gid: Some(self.saved.gid),
            ..SetAttr::default()
        });
        if let Err(errno) = owned {
            tracing::warn!(%errno, "a file without a name has another owner now");
        }
        set(SetAttr {
            mode: Some(self.saved.mode),
            mtime: Some(SetTime::At(timestamp(self.saved.mtime))),
            ..SetAttr::default()
        })
    }
}
