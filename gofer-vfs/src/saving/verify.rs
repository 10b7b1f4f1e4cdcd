//! Finding every named file of an image on a server, and comparing.

use std::collections::{HashMap, HashSet};

use super::image::{Image, Index, timestamp};
use super::{RestoreError, Verify};
use crate::attr::FileType;
use crate::context::Context;
use crate::error::{Errno, Error};
use crate::metadata::complete;
use crate::name::Name;
use crate::options::MountOptions;
use crate::remote::{Found, RemoteError, RemoteFilesystem, WalkEnd};

/// Names sent in one walk.
const BATCH_MAX: usize = 128;

/// What was found for each dentry: nothing for those that are gone.
pub(super) type AllFound = Vec<Option<Found>>;

pub(super) struct Verifier<'v> {
    pub(super) image: &'v Image<'v>,
    pub(super) cx: &'v Context<'v>,
    pub(super) remote: &'v dyn RemoteFilesystem,
    pub(super) options: &'v MountOptions,
    pub(super) verify: Verify,
}

fn position(index: Index) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

impl Verifier<'_> {
    /// Walks to everything that has a name, parents first. Nothing is changed anywhere.
    pub(super) fn find_all(&self) -> Result<AllFound, RestoreError> {
        let first_child = self.first_children()?;
        let mut all: AllFound = self.image.dentries.iter().map(|_| None).collect();
        let root = self.remote.root(&self.cx.call());
        let root = root.map_err(|error| self.failed(0, error))?;
        self.compare(0, &root)?;
        if let Some(slot) = all.first_mut() {
            *slot = Some(root);
        }
        for start in 1..all.len() {
            let gone = self.image.dentries.get(start).is_none_or(|one| one.gone)
                || self.is_synthetic(start);
            if gone || all.get(start).is_some_and(Option::is_some) {
                continue;
            }
            self.find_down(start, &first_child, &mut all)?;
        }
        self.compare_links(&all)?;
        Ok(all)
    }

    /// The first named child of each dentry, which a walk to the dentry goes on to. Names must
    /// be unique.
    fn first_children(&self) -> Result<Vec<Option<usize>>, RestoreError> {
        let mut first = vec![None; self.image.dentries.len()];
        let mut names = HashSet::new();
        for (index, dentry) in self.image.dentries.iter().enumerate() {
            let Some(parent) = dentry.parent.filter(|_| !dentry.gone) else {
                continue;
            };
            if !names.insert((parent, dentry.name)) {
                return Err(self.mismatch(index, "the name", "one file", "two in the image"));
            }
            if self.is_synthetic(index) {
                continue;
            }
            if let Some(slot @ None) = first.get_mut(position(parent)) {
                *slot = Some(index);
            }
        }
        Ok(first)
    }

    /// One walk from the parent of `start`, as far down as first children lead.
    fn find_down(
        &self,
        start: usize,
        first_child: &[Option<usize>],
        all: &mut AllFound,
    ) -> Result<(), RestoreError> {
        let mut chain = vec![start];
        while self.remote.capabilities().multi_walk
            && chain.len() < BATCH_MAX
            && let Some(&last) = chain.last()
            && let Some(Some(child)) = first_child.get(last)
        {
            chain.push(*child);
        }
        let mut names = Vec::with_capacity(chain.len());
        for &index in &chain {
            let dentry = self.image.dentries.get(index);
            let name = dentry.map_or(&b""[..], |dentry| dentry.name);
            let bad = |errno| self.failed(index, RemoteError::not_sent(errno));
            names.push(Name::new(name).map_err(bad)?);
        }
        let parent = self.image.dentries.get(start).and_then(|one| one.parent);
        let parent = parent.and_then(|parent| all.get(position(parent))?.as_ref());
        let parent =
            parent.ok_or_else(|| self.mismatch(start, "the parent", "there", "missing"))?;
        let mut found = Vec::with_capacity(names.len());
        let end = parent
            .file
            .walk(&self.cx.call(), &names, &mut |file| found.push(file));
        let mut reached = 0;
        for (&index, found) in chain.iter().zip(found) {
            self.compare(index, &found)?;
            if let Some(slot) = all.get_mut(index) {
                *slot = Some(found);
            }
            reached += 1;
        }
        let next = chain.get(reached).copied();
        match (end, next) {
            (Ok(WalkEnd::Missing), Some(next)) => {
                Err(self.mismatch(next, "the file", "there", "missing"))
            }
            (Err(error), Some(next)) if error == RemoteError::refused(Errno::ENOENT) => {
                Err(self.mismatch(next, "the file", "there", "missing"))
            }
            (Err(error), Some(next)) => Err(self.failed(next, error)),
            (Ok(_), _) if reached == 0 => Err(self.failed(start, RemoteError::refused(Errno::EIO))),
            _ => Ok(()),
        }
    }

    /// Whether the server knows nothing of a dentry.
    fn is_synthetic(&self, index: usize) -> bool {
        let dentry = self.image.dentries.get(index);
        let inode = dentry.and_then(|dentry| self.image.inode(dentry.inode));
        inode.is_some_and(|inode| inode.synthetic)
    }

    fn compare(&self, index: usize, found: &Found) -> Result<(), RestoreError> {
        let dentry = self.image.dentries.get(index);
        let Some(saved) = dentry.and_then(|dentry| self.image.inode(dentry.inode)) else {
            return Ok(());
        };
        let now = || crate::attr::Timestamp::default();
        let attr = complete(found.attr, self.options, now);
        let attr = attr.map_err(|errno| self.failed(index, RemoteError::refused(errno)))?;
        let file_type = saved.file_type().unwrap_or(FileType::Regular);
        if attr.file_type != file_type {
            let (was, is) = (word(file_type), word(attr.file_type));
            return Err(self.mismatch(index, "the type", was, is));
        }
        if file_type == FileType::Regular && self.verify.size && attr.size != saved.size {
            let (was, is) = (bytes(saved.size), bytes(attr.size));
            return Err(self.mismatch(index, "the size", &was, &is));
        }
        let mtime = timestamp(saved.mtime);
        if file_type == FileType::Regular && self.verify.mtime && attr.mtime != mtime {
            let show = |time: crate::Timestamp| format!("{}.{:09}", time.sec, time.nsec);
            let (was, is) = (show(mtime), show(attr.mtime));
            return Err(self.mismatch(index, "the modification time", &was, &is));
        }
        let comparable = self.image.head.protocol == self.remote.capabilities().protocol;
        if self.verify.identity && comparable && found.key.id != saved.id {
            let show = |id: [u64; 2]| format!("{:x}:{:x}", id[1], id[0]);
            let (was, is) = (show(saved.id), show(found.key.id));
            return Err(self.mismatch(index, "the identity", &was, &is));
        }
        Ok(())
    }

    /// Names of one file must still be that.
    fn compare_links(&self, all: &AllFound) -> Result<(), RestoreError> {
        let mut ids: HashMap<Index, [u64; 2]> = HashMap::new();
        for (index, found) in all.iter().enumerate() {
            let dentry = self.image.dentries.get(index);
            if let Some((dentry, found)) = dentry.zip(found.as_ref())
                && *ids.entry(dentry.inode).or_insert(found.key.id) != found.key.id
            {
                let (was, is) = ("that of its other names", "another");
                return Err(self.mismatch(index, "the file", was, is));
            }
        }
        Ok(())
    }

    fn path(&self, index: usize) -> Vec<u8> {
        self.image
            .path(Index::try_from(index).unwrap_or(Index::MAX))
    }

    fn mismatch(&self, index: usize, what: &'static str, was: &str, is: &str) -> RestoreError {
        RestoreError::Mismatch {
            path: self.path(index),
            what,
            expected: was.to_owned(),
            found: is.to_owned(),
        }
    }

    fn failed(&self, index: usize, error: RemoteError) -> RestoreError {
        Error::at("restore", self.path(index), error.errno).into()
    }
}

fn bytes(size: u64) -> String {
    format!("{size} bytes")
}

fn word(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Regular => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        FileType::CharDevice => "a character device",
        FileType::BlockDevice => "a block device",
    }
}
