//! Somebody on the machine of the in-memory server.

use std::sync::Arc;

use parking_lot::Mutex;

use super::tree::{Content, Ino, ROOT, Tree};
use crate::attr::{AttrMask, FileType, SetAttr, SetTime, Timestamp};
use crate::error::Errno;
use crate::flags::RenameFlags;
use crate::remote::{New, Owner};
use crate::testing::outside::{Outside, OutsideResult, OutsideStat};

/// Changes the tree of a [`super::MemServer`] as user 0, past every client.
#[derive(Clone)]
pub struct MemOutside {
    tree: Arc<Mutex<Tree>>,
    base: Vec<u8>,
}

impl MemOutside {
    pub(super) fn new(tree: Arc<Mutex<Tree>>) -> MemOutside {
        MemOutside {
            tree,
            base: Vec::new(),
        }
    }

    /// The same, but with paths that begin in directory `dir`.
    #[must_use]
    pub fn within(&self, dir: &[u8]) -> MemOutside {
        MemOutside {
            tree: Arc::clone(&self.tree),
            base: [self.base.as_slice(), dir, b"/"].concat(),
        }
    }

    /// The inode at `path`, no link followed.
    fn find(&self, tree: &Tree, path: &[u8]) -> OutsideResult<Ino> {
        let whole = [self.base.as_slice(), path].concat();
        whole
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
            .try_fold(ROOT, |dir, name| tree.lookup(dir, name))
    }

    /// The directory a path lies in, and the name it has there.
    fn split<'p>(&self, tree: &Tree, path: &'p [u8]) -> OutsideResult<(Ino, &'p [u8])> {
        let (dir, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&path[..0], path),
        };
        Ok((self.find(tree, dir)?, name))
    }

    fn make(&self, path: &[u8], new: New<'_>, mode: u16) -> OutsideResult<()> {
        let tree = &mut *self.tree.lock();
        let (dir, name) = self.split(tree, path)?;
        tree.make(dir, name, &new, mode, Owner::default()).map(drop)
    }

    fn set(&self, path: &[u8], set: SetAttr) -> OutsideResult<()> {
        let tree = &mut *self.tree.lock();
        let ino = self.find(tree, path)?;
        let report = tree.set_attr(ino, &set, None);
        report.errno.map_or(Ok(()), Err)
    }

    fn move_with(&self, old: &[u8], new: &[u8], flags: RenameFlags) -> OutsideResult<()> {
        let tree = &mut *self.tree.lock();
        let (from, to) = (self.split(tree, old)?, self.split(tree, new)?);
        tree.rename(from, to, flags)
    }

    fn remove(&self, path: &[u8], directory: bool) -> OutsideResult<()> {
        let tree = &mut *self.tree.lock();
        let (dir, name) = self.split(tree, path)?;
        tree.unlink(dir, name, directory)
    }
}

impl Outside for MemOutside {
    fn write(&self, path: &[u8], content: &[u8]) -> OutsideResult<()> {
        match self.make(path, New::Regular, 0o644) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        self.truncate(path, 0)?;
        self.append(path, content)
    }

    fn append(&self, path: &[u8], content: &[u8]) -> OutsideResult<()> {
        let tree = &mut *self.tree.lock();
        let ino = self.find(tree, path)?;
        let end = tree.attr(ino).size;
        tree.write(ino, content, end).map(drop)
    }

    fn read(&self, path: &[u8]) -> OutsideResult<Vec<u8>> {
        let tree = &*self.tree.lock();
        let ino = self.find(tree, path)?;
        let Content::Regular(data) = &tree.get(ino).content else {
            return Err(Errno::EISDIR);
        };
        let size = usize::try_from(data.size()).map_err(|_| Errno::EFBIG)?;
        let mut content = vec![0; size];
        data.read(&mut content, 0);
        Ok(content)
    }

    fn mkdir(&self, path: &[u8]) -> OutsideResult<()> {
        self.make(path, New::Dir, 0o755)
    }

    fn symlink(&self, target: &[u8], path: &[u8]) -> OutsideResult<()> {
        self.make(path, New::Symlink(target), 0o777)
    }

    fn mkfifo(&self, path: &[u8]) -> OutsideResult<()> {
        self.make(path, New::Fifo, 0o644)
    }

    fn link(&self, old: &[u8], new: &[u8]) -> OutsideResult<()> {
        let tree = &mut *self.tree.lock();
        let target = self.find(tree, old)?;
        let (dir, name) = self.split(tree, new)?;
        tree.link(dir, name, target)
    }

    fn rename(&self, old: &[u8], new: &[u8]) -> OutsideResult<()> {
        self.move_with(old, new, RenameFlags::empty())
    }

    fn exchange(&self, a: &[u8], b: &[u8]) -> OutsideResult<()> {
        self.move_with(a, b, RenameFlags::EXCHANGE)
    }

    fn unlink(&self, path: &[u8]) -> OutsideResult<()> {
        self.remove(path, false)
    }

    fn rmdir(&self, path: &[u8]) -> OutsideResult<()> {
        self.remove(path, true)
    }

    fn stat(&self, path: &[u8]) -> OutsideResult<OutsideStat> {
        let tree = &*self.tree.lock();
        let ino = self.find(tree, path)?;
        let mut attr = tree.attr(ino);
        attr.mask = AttrMask::BASIC;
        Ok(OutsideStat { ino, attr })
    }

    fn read_link(&self, path: &[u8]) -> OutsideResult<Vec<u8>> {
        let tree = &*self.tree.lock();
        tree.read_link(self.find(tree, path)?)
    }

    fn list(&self, path: &[u8]) -> OutsideResult<Vec<Vec<u8>>> {
        let tree = &*self.tree.lock();
        Ok(tree
            .entries(self.find(tree, path)?)?
            .keys()
            .cloned()
            .collect())
    }

    fn chmod(&self, path: &[u8], mode: u16) -> OutsideResult<()> {
        self.set(
            path,
            SetAttr {
                mode: Some(mode),
                ..SetAttr::default()
            },
        )
    }

    fn chown(&self, path: &[u8], uid: u32, gid: u32) -> OutsideResult<()> {
        self.set(
            path,
            SetAttr {
                uid: Some(uid),
                gid: Some(gid),
                ..SetAttr::default()
            },
        )
    }

    fn truncate(&self, path: &[u8], size: u64) -> OutsideResult<()> {
        self.set(
            path,
            SetAttr {
                size: Some(size),
                ..SetAttr::default()
            },
        )
    }

    fn set_times(&self, path: &[u8], atime: Timestamp, mtime: Timestamp) -> OutsideResult<()> {
        self.set(
            path,
            SetAttr {
                atime: Some(SetTime::At(atime)),
                mtime: Some(SetTime::At(mtime)),
                ..SetAttr::default()
            },
        )
    }

    fn supports_xattrs(&self) -> bool {
        true
    }
}

impl MemOutside {
    /// Puts a copy in the place of a file's content on the host, as overlayfs does with a file of
    /// its lower layer: descriptors that were donated go on showing the old one.
    pub fn copy_up(&self, path: &[u8]) -> OutsideResult<()> {
        let tree = &mut *self.tree.lock();
        let ino = self.find(tree, path)?;
        let Content::Regular(old) = &mut tree.get_mut(ino).content else {
            return Err(Errno::EINVAL);
        };
        let mut bytes = vec![0; usize::try_from(old.size()).map_err(|_| Errno::EFBIG)?];
        old.read(&mut bytes, 0);
        let mut new = super::data::Data::new(true);
        new.write(&bytes, 0);
        *old = new;
        Ok(())
    }

    /// Replaces whatever `path` is by a file of another type under the *same* identity, as when
    /// a server reuses a number.
    pub fn change_type(&self, path: &[u8], directory: bool) -> OutsideResult<()> {
        let tree = &mut *self.tree.lock();
        let ino = self.find(tree, path)?;
        let inode = tree.get_mut(ino);
        (inode.content, inode.attr.file_type) = if directory {
            (Content::Directory(Default::default()), FileType::Directory)
        } else {
            (
                Content::Regular(super::data::Data::new(false)),
                FileType::Regular,
            )
        };
        Ok(())
    }
}
