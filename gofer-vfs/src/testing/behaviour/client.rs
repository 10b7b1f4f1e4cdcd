//! Short words for what cases do with a mount.

use std::ops::ControlFlow;

use crate::attr::{Attr, FileType, SetAttr, SetTime};
use crate::error::{Error, Result};
use crate::flags::{OpenFlags, RenameFlags};
use crate::permissions::{AccessMask, Credentials};
use crate::{At, Context, File, Filesystem, Follow, Node, Stat, Whence};

/// One user of one mount. Paths start at the mount's root and are followed to the end unless a
/// method says otherwise.
#[derive(Clone)]
pub struct Client {
    /// The mount.
    pub fs: Filesystem,
    /// Its user.
    pub creds: Credentials,
    /// Its root.
    pub root: Node,
}

#[allow(missing_docs)]
impl Client {
    pub fn new(fs: &Filesystem, creds: Credentials) -> Client {
        Client {
            fs: fs.clone(),
            creds,
            root: fs.root(),
        }
    }

    pub fn cx(&self) -> Context<'_> {
        Context::new(&self.creds)
    }

    pub fn at<'a>(&'a self, path: &'a (impl AsRef<[u8]> + ?Sized)) -> At<'a> {
        At::new(&self.root, path.as_ref())
    }

    pub fn stat(&self, path: impl AsRef<[u8]>) -> Result<Stat> {
        self.fs.stat(&self.cx(), self.at(&path), Follow::Yes)
    }

    pub fn lstat(&self, path: impl AsRef<[u8]>) -> Result<Stat> {
        self.fs.stat(&self.cx(), self.at(&path), Follow::No)
    }

    pub fn attr(&self, path: impl AsRef<[u8]>) -> Result<Attr> {
        Ok(self.lstat(path)?.attr)
    }

    /// Whether the path leads anywhere; other errors than `ENOENT` pass.
    pub fn exists(&self, path: impl AsRef<[u8]>) -> Result<bool> {
        match self.lstat(path) {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == crate::Errno::ENOENT => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub fn resolve(&self, path: impl AsRef<[u8]>) -> Result<Node> {
        self.fs.resolve(&self.cx(), self.at(&path), Follow::Yes)
    }

    pub fn access(&self, path: impl AsRef<[u8]>, want: AccessMask) -> Result<()> {
        self.fs.access(&self.cx(), self.at(&path), want)
    }

    pub fn open_mode(&self, path: impl AsRef<[u8]>, flags: OpenFlags, mode: u16) -> Result<File> {
        self.fs.open(&self.cx(), self.at(&path), flags, mode)
    }

    pub fn open(&self, path: impl AsRef<[u8]>, flags: OpenFlags) -> Result<File> {
        self.open_mode(path, flags, 0o644)
    }

    /// Makes a file, which must not be there, and fills it.
    pub fn create(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Result<()> {
        let flags = OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::WRONLY;
        let file = self.open(path, flags)?;
        self.write_all(&file, content.as_ref(), 0)?;
        file.close(&self.cx())
    }

    /// Cuts a file that is there and fills it.
    pub fn overwrite(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Result<()> {
        let file = self.open(path, OpenFlags::WRONLY | OpenFlags::TRUNC)?;
        self.write_all(&file, content.as_ref(), 0)?;
        file.close(&self.cx())
    }

    pub fn write_all(&self, file: &File, mut content: &[u8], mut offset: u64) -> Result<()> {
        while !content.is_empty() {
            match file.write_at(&self.cx(), content, offset)? {
                0 => return Err(Error::new("write", crate::Errno::EIO)),
                n => {
                    content = &content[n..];
                    offset += n as u64;
                }
            }
        }
        Ok(())
    }

    /// The whole content of a file.
    pub fn read(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let file = self.open(path, OpenFlags::RDONLY)?;
        self.read_all(&file)
    }

    /// The whole content of an open file, from its start.
    pub fn read_all(&self, file: &File) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match file.read_at(&self.cx(), &mut buffer, content.len() as u64)? {
                0 => return Ok(content),
                n => content.extend_from_slice(&buffer[..n]),
            }
        }
    }

    /// At most `len` bytes at `offset`.
    pub fn read_at(&self, file: &File, len: usize, offset: u64) -> Result<Vec<u8>> {
        let mut buffer = vec![0; len];
        let n = file.read_at(&self.cx(), &mut buffer, offset)?;
        buffer.truncate(n);
        Ok(buffer)
    }

    pub fn mkdir(&self, path: impl AsRef<[u8]>) -> Result<()> {
        self.mkdir_mode(path, 0o755)
    }

    pub fn mkdir_mode(&self, path: impl AsRef<[u8]>, mode: u16) -> Result<()> {
        self.fs.mkdir(&self.cx(), self.at(&path), mode).map(drop)
    }

    pub fn symlink(&self, target: impl AsRef<[u8]>, path: impl AsRef<[u8]>) -> Result<()> {
        self.fs
            .symlink(&self.cx(), target.as_ref(), self.at(&path))
            .map(drop)
    }

    pub fn mkfifo(&self, path: impl AsRef<[u8]>) -> Result<()> {
        let (kind, device) = (FileType::Fifo, crate::Device::default());
        self.fs
            .mknod(&self.cx(), self.at(&path), kind, 0o644, device)
            .map(drop)
    }

    /// Links without following a link.
    pub fn link(&self, old: impl AsRef<[u8]>, new: impl AsRef<[u8]>) -> Result<()> {
        self.fs
            .link(&self.cx(), self.at(&old), Follow::No, self.at(&new))
            .map(drop)
    }

    pub fn unlink(&self, path: impl AsRef<[u8]>) -> Result<()> {
        self.fs.unlink(&self.cx(), self.at(&path))
    }

    pub fn rmdir(&self, path: impl AsRef<[u8]>) -> Result<()> {
        self.fs.rmdir(&self.cx(), self.at(&path))
    }

    pub fn rename(&self, old: impl AsRef<[u8]>, new: impl AsRef<[u8]>) -> Result<()> {
        self.rename_with(old, new, RenameFlags::empty())
    }

    pub fn rename_with(
        &self,
        old: impl AsRef<[u8]>,
        new: impl AsRef<[u8]>,
        flags: RenameFlags,
    ) -> Result<()> {
        self.fs
            .rename(&self.cx(), self.at(&old), self.at(&new), flags)
    }

    pub fn read_link(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        self.fs.read_link(&self.cx(), self.at(&path))
    }

    pub fn set(&self, path: impl AsRef<[u8]>, set: SetAttr) -> Result<()> {
        self.fs
            .set_attr(&self.cx(), self.at(&path), Follow::No, &set)
    }

    pub fn chmod(&self, path: impl AsRef<[u8]>, mode: u16) -> Result<()> {
        self.set(path, mode_of(mode))
    }

    pub fn chown(&self, path: impl AsRef<[u8]>, uid: u32, gid: u32) -> Result<()> {
        self.set(path, owner_of(uid, gid))
    }

    pub fn truncate(&self, path: impl AsRef<[u8]>, size: u64) -> Result<()> {
        self.set(path, size_of(size))
    }

    /// Both times to now.
    pub fn touch(&self, path: impl AsRef<[u8]>) -> Result<()> {
        self.set(path, times_of(SetTime::Now, SetTime::Now))
    }

    /// Names in a directory, in the order they come, with `.` and `..`.
    pub fn list_all(&self, path: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>> {
        let dir = self.open(path, OpenFlags::DIRECTORY)?;
        self.names(&dir)
    }

    /// Names in a directory, sorted, without `.` and `..`.
    pub fn list(&self, path: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>> {
        let mut names = self.list_all(path)?;
        names.retain(|name| name != b"." && name != b"..");
        names.sort();
        Ok(names)
    }

    /// The names an open directory gives from its position to the end.
    pub fn names(&self, dir: &File) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        dir.read_dir(&self.cx(), &mut |entry| {
            names.push(entry.name.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok(names)
    }

    /// The next `count` names of an open directory, each with the offset after it.
    pub fn some_names(&self, dir: &File, count: usize) -> Result<Vec<(Vec<u8>, u64)>> {
        let mut names = Vec::new();
        dir.read_dir(&self.cx(), &mut |entry| {
            names.push((entry.name.to_vec(), entry.next));
            if names.len() == count {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        Ok(names)
    }

    pub fn rewind(&self, dir: &File) -> Result<()> {
        dir.seek(&self.cx(), Whence::Set(0)).map(drop)
    }

    /// What `work` returns, and the round trips it took.
    pub fn trips<T>(&self, work: impl FnOnce() -> T) -> (T, u64) {
        let before = self.fs.traffic().round_trips;
        let done = work();
        (done, self.fs.traffic().round_trips - before)
    }
}

/// Changes the mode.
pub fn mode_of(mode: u16) -> SetAttr {
    SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    }
}

/// Changes owner and group.
pub fn owner_of(uid: u32, gid: u32) -> SetAttr {
    SetAttr {
        uid: Some(uid),
        gid: Some(gid),
        ..SetAttr::default()
    }
}

/// Changes the size.
pub fn size_of(size: u64) -> SetAttr {
    SetAttr {
        size: Some(size),
        ..SetAttr::default()
    }
}

/// Changes both times.
pub fn times_of(atime: SetTime, mtime: SetTime) -> SetAttr {
    SetAttr {
        atime: Some(atime),
        mtime: Some(mtime),
        ..SetAttr::default()
    }
}
