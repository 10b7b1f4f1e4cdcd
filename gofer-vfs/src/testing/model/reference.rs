//! A file system in the simplest words that are right: what every client must agree with.
//!
//! As user 0 sees it, so without permissions; times are left out.

use std::collections::BTreeMap;

use crate::error::Errno;

pub type Result<T> = std::result::Result<T, Errno>;

/// Number of an inode of the model.
pub type Ino = usize;

pub const ROOT: Ino = 0;

const LINKS_MAX: usize = 40;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    Directory(BTreeMap<String, Ino>),
    Regular(Vec<u8>),
    Symlink(String),
}

#[derive(Clone, Debug)]
pub struct Inode {
    pub kind: Kind,
    pub mode: u16,
    /// Names of a file; a directory's is counted from its content.
    names: u64,
}

/// What `stat` tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    pub ino: Ino,
    pub kind: &'static str,
    pub mode: u16,
    pub nlink: u64,
    /// Of files and links.
    pub size: Option<u64>,
}

/// Inodes are never forgotten: open files need them, and a test is short.
pub struct Reference(Vec<Inode>);

impl Reference {
    pub fn new() -> Reference {
        Reference(vec![Inode {
            kind: Kind::Directory(BTreeMap::new()),
            mode: 0o755,
            names: 1,
        }])
    }

    fn entries(&self, dir: Ino) -> Result<&BTreeMap<String, Ino>> {
        match &self.0[dir].kind {
            Kind::Directory(entries) => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn entries_mut(&mut self, dir: Ino) -> &mut BTreeMap<String, Ino> {
        match &mut self.0[dir].kind {
            Kind::Directory(entries) => entries,
            _ => unreachable!("a parent is a directory"),
        }
    }

    fn is_dir(&self, ino: Ino) -> bool {
        matches!(self.0[ino].kind, Kind::Directory(_))
    }

    /// Resolves `path` from `dir` (links from where they lie), `links` so far.
    fn walk_from(&self, dir: Ino, path: &str, follow: bool, links: &mut usize) -> Result<Ino> {
        let mut here = if path.starts_with('/') { ROOT } else { dir };
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        for (index, part) in parts.iter().enumerate() {
            let entries = self.entries(here)?;
            let next = match *part {
                ".." => self.parent_of(here),
                part => *entries.get(part).ok_or(Errno::ENOENT)?,
            };
            let last = index + 1 == parts.len();
            here = match &self.0[next].kind {
                Kind::Symlink(target) if follow || !last => {
                    *links += 1;
                    if *links > LINKS_MAX {
                        return Err(Errno::ELOOP);
                    }
                    self.walk_from(here, target, true, links)?
                }
                _ => next,
            };
        }
        Ok(here)
    }

    fn parent_of(&self, dir: Ino) -> Ino {
        let holds = |inode: &Inode| match &inode.kind {
            Kind::Directory(entries) => entries.values().any(|child| *child == dir),
            _ => false,
        };
        self.0.iter().position(holds).unwrap_or(dir)
    }

    pub fn resolve(&self, path: &str, follow: bool) -> Result<Ino> {
        self.walk_from(ROOT, path, follow, &mut 0)
    }

    /// The directory a new or old name lies in, and the name.
    fn parent<'p>(&self, path: &'p str) -> Result<(Ino, &'p str)> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.resolve(dir, true)?;
        self.entries(dir)?;
        Ok((dir, name))
    }

    /// The same path without links on the way: what somebody who follows none may use.
    pub fn plain_path(&self, path: &str) -> Result<String> {
        let (mut dir, name) = self.parent(path)?;
        let mut parts = vec![name.to_owned()];
        while dir != ROOT {
            let parent = self.parent_of(dir);
            let entries = self.entries(parent)?;
            let own = entries.iter().find(|entry| *entry.1 == dir);
            parts.push(own.map(|entry| entry.0.clone()).ok_or(Errno::ENOENT)?);
            dir = parent;
        }
        parts.reverse();
        Ok(parts.join("/"))
    }

    pub fn make(&mut self, path: &str, kind: Kind, mode: u16) -> Result<Ino> {
        let (dir, name) = self.parent(path)?;
        if self.entries(dir)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let ino = self.0.len();
        self.0.push(Inode {
            kind,
            mode,
            names: 1,
        });
        self.entries_mut(dir).insert(name.to_owned(), ino);
        Ok(ino)
    }

    pub fn link(&mut self, old: &str, new: &str) -> Result<()> {
        let source = self.resolve(old, false)?;
        let (dir, name) = self.parent(new)?;
        if self.entries(dir)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        if self.is_dir(source) {
            return Err(Errno::EPERM);
        }
        self.0[source].names += 1;
        self.entries_mut(dir).insert(name.to_owned(), source);
        Ok(())
    }

    pub fn remove(&mut self, path: &str, directory: bool) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        let ino = *self.entries(dir)?.get(name).ok_or(Errno::ENOENT)?;
        match (directory, self.is_dir(ino)) {
            (false, true) => return Err(Errno::EISDIR),
            (true, false) => return Err(Errno::ENOTDIR),
            (true, true) if !self.entries(ino)?.is_empty() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        self.entries_mut(dir).remove(name);
        self.0[ino].names -= 1;
        Ok(())
    }

    fn is_inside(&self, mut dir: Ino, ancestor: Ino) -> bool {
        while dir != ancestor && dir != ROOT {
            dir = self.parent_of(dir);
        }
        dir == ancestor
    }

    pub fn rename(&mut self, old: &str, new: &str) -> Result<()> {
        let (old_dir, old_name) = self.parent(old)?;
        let (new_dir, new_name) = self.parent(new)?;
        let source = *self.entries(old_dir)?.get(old_name).ok_or(Errno::ENOENT)?;
        if self.is_dir(source) && self.is_inside(new_dir, source) {
            return Err(Errno::EINVAL);
        }
        if let Some(&target) = self.entries(new_dir)?.get(new_name) {
            if self.is_dir(target) && target != source && self.is_inside(old_dir, target) {
                return Err(Errno::ENOTEMPTY);
            }
            if source == target {
                return Ok(());
            }
            match (self.is_dir(source), self.is_dir(target)) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                (true, true) if !self.entries(target)?.is_empty() => {
                    return Err(Errno::ENOTEMPTY);
                }
                _ => self.0[target].names -= 1,
            }
        }
        self.entries_mut(old_dir).remove(old_name);
        self.entries_mut(new_dir)
            .insert(new_name.to_owned(), source);
        Ok(())
    }

    /// Content of an open file.
    pub fn content(&self, ino: Ino) -> Result<&Vec<u8>> {
        match &self.0[ino].kind {
            Kind::Regular(content) => Ok(content),
            Kind::Directory(_) => Err(Errno::EISDIR),
            Kind::Symlink(_) => Err(Errno::ELOOP),
        }
    }

    pub fn write(&mut self, ino: Ino, offset: usize, bytes: &[u8]) -> Result<()> {
        self.content(ino)?;
        if let Kind::Regular(content) = &mut self.0[ino].kind {
            content.resize(content.len().max(offset + bytes.len()), 0);
            content[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        Ok(())
    }

    pub fn set_size(&mut self, ino: Ino, size: usize) -> Result<()> {
        self.content(ino)?;
        if let Kind::Regular(content) = &mut self.0[ino].kind {
            content.resize(size, 0);
        }
        Ok(())
    }

    pub fn chmod(&mut self, path: &str, mode: u16) -> Result<()> {
        let ino = self.resolve(path, false)?;
        if matches!(self.0[ino].kind, Kind::Symlink(_)) {
            return Err(Errno::EOPNOTSUPP);
        }
        self.0[ino].mode = mode;
        Ok(())
    }

    pub fn target(&self, ino: Ino) -> Result<String> {
        match &self.0[ino].kind {
            Kind::Symlink(target) => Ok(target.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    pub fn list(&self, path: &str) -> Result<Vec<String>> {
        Ok(self
            .entries(self.resolve(path, true)?)?
            .keys()
            .cloned()
            .collect())
    }

    pub fn facts(&self, ino: Ino) -> Facts {
        let inode = &self.0[ino];
        let (kind, nlink, size) = match &inode.kind {
            Kind::Directory(entries) => {
                let inside = entries
                    .values()
                    .filter(|child| self.is_dir(**child))
                    .count();
                ("directory", 2 + inside as u64, None)
            }
            Kind::Regular(content) => ("file", inode.names, Some(content.len() as u64)),
            Kind::Symlink(target) => ("link", inode.names, Some(target.len() as u64)),
        };
        Facts {
            ino,
            kind,
            mode: inode.mode,
            nlink,
            size,
        }
    }
}
