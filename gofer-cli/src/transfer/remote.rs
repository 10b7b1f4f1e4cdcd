//! The remote end of a copy.

use std::ops::ControlFlow;

use gofer_vfs::{
    At, Attr, Context, Errno, File, FileType, Filesystem, Follow, Node, OpenFlags, SetAttr, Whence,
};

use super::side::{BATCH, Batch, Create, Fault, Reader, Settable, Side, SideResult, Writer};
use crate::client::Client;

/// The remote tree, for one command.
pub struct Remote<'a> {
    fs: &'a Filesystem,
    cwd: &'a Node,
    cx: Context<'a>,
}

impl<'a> Remote<'a> {
    /// The tree of `client`, from its current directory, with its credentials.
    pub fn new(client: &'a Client) -> Remote<'a> {
        Remote {
            fs: &client.fs,
            cwd: &client.cwd,
            cx: client.cx(),
        }
    }
}

/// A held directory.
pub struct RemoteDir<'a> {
    node: Node,
    fs: &'a Filesystem,
    cx: Context<'a>,
}

/// An open file.
pub struct RemoteFile<'a> {
    file: File,
    cx: Context<'a>,
}

fn follow(follow: bool) -> Follow {
    if follow { Follow::Yes } else { Follow::No }
}

impl<'a> Remote<'a> {
    fn file(&self, at: At<'_>, flags: OpenFlags, mode: u16) -> SideResult<RemoteFile<'a>> {
        let file = self.fs.open(&self.cx, at, flags, mode)?;
        Ok(RemoteFile { file, cx: self.cx })
    }
}

impl<'a> Side for Remote<'a> {
    type Dir = RemoteDir<'a>;
    type List = File;
    type Reader = RemoteFile<'a>;
    type Writer = RemoteFile<'a>;

    fn current(&self) -> SideResult<RemoteDir<'a>> {
        Ok(RemoteDir {
            node: self.cwd.clone(),
            fs: self.fs,
            cx: self.cx,
        })
    }

    fn attr(&self, dir: &RemoteDir<'a>, name: &[u8], links: bool) -> SideResult<Attr> {
        let stat = self
            .fs
            .stat(&self.cx, At::new(&dir.node, name), follow(links))?;
        Ok(stat.attr)
    }

    fn dir(&self, dir: &RemoteDir<'a>, name: &[u8], links: bool) -> SideResult<RemoteDir<'a>> {
        let node = self
            .fs
            .resolve(&self.cx, At::new(&dir.node, name), follow(links))?;
        match node.file_type() {
            FileType::Directory => Ok(RemoteDir {
                node,
                fs: self.fs,
                cx: self.cx,
            }),
            FileType::Symlink => Err(Fault::new("open", Errno::ELOOP)),
            _ => Err(Fault::new("open", Errno::ENOTDIR)),
        }
    }

    fn list(&self, dir: &RemoteDir<'a>) -> SideResult<File> {
        let flags = OpenFlags::RDONLY | OpenFlags::DIRECTORY;
        Ok(self.fs.open(&self.cx, At::new(&dir.node, b""), flags, 0)?)
    }

    fn next(&self, list: &mut File) -> SideResult<Batch> {
        let mut batch = Batch::new();
        list.read_dir(&self.cx, &mut |entry| {
            // Whatever a server makes up, no name may lead out of the directory.
            if !matches!(entry.name, b"." | b".." | b"") && !entry.name.contains(&b'/') {
                batch.push((entry.name.to_vec(), entry.file_type));
            }
            match batch.len() {
                BATCH.. => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })?;
        Ok(batch)
    }

    fn read_link(&self, dir: &RemoteDir<'a>, name: &[u8]) -> SideResult<Vec<u8>> {
        Ok(self.fs.read_link(&self.cx, At::new(&dir.node, name))?)
    }

    fn open(&self, dir: &RemoteDir<'a>, name: &[u8], links: bool) -> SideResult<RemoteFile<'a>> {
        let flags = OpenFlags::RDONLY | OpenFlags::NONBLOCK;
        let flags = if links {
            flags
        } else {
            flags | OpenFlags::NOFOLLOW
        };
        self.file(At::new(&dir.node, name), flags, 0)
    }

    fn create(&self, dir: &RemoteDir<'a>, name: &[u8], how: Create) -> SideResult<RemoteFile<'a>> {
        let (flags, mode) = match how {
            Create::New(mode) => (OpenFlags::CREAT | OpenFlags::EXCL, mode),
            Create::Over => (
                OpenFlags::TRUNC | OpenFlags::NOFOLLOW | OpenFlags::NONBLOCK,
                0,
            ),
            Create::Append => (OpenFlags::NOFOLLOW | OpenFlags::NONBLOCK, 0),
            Create::Named(mode) => (OpenFlags::CREAT | OpenFlags::TRUNC, mode),
        };
        self.file(At::new(&dir.node, name), OpenFlags::WRONLY | flags, mode)
    }

    fn make_dir(&self, dir: &RemoteDir<'a>, name: &[u8], mode: u16) -> SideResult<()> {
        Ok(self.fs.mkdir(&self.cx, At::new(&dir.node, name), mode)?)
    }

    fn make_link(&self, dir: &RemoteDir<'a>, name: &[u8], target: &[u8]) -> SideResult<()> {
        Ok(self
            .fs
            .symlink(&self.cx, target, At::new(&dir.node, name))?)
    }

    fn make_node(&self, dir: &RemoteDir<'a>, name: &[u8], attr: &Attr) -> SideResult<()> {
        let at = At::new(&dir.node, name);
        Ok(self
            .fs
            .mknod(&self.cx, at, attr.file_type, attr.mode & 0o777, attr.rdev)?)
    }

    fn unlink(&self, dir: &RemoteDir<'a>, name: &[u8]) -> SideResult<()> {
        Ok(self.fs.unlink(&self.cx, At::new(&dir.node, name))?)
    }

    fn set(&self, dir: &RemoteDir<'a>, name: &[u8], set: &SetAttr) -> SideResult<()> {
        Ok(self
            .fs
            .set_attr(&self.cx, At::new(&dir.node, name), Follow::No, set)?)
    }

    fn uid(&self) -> u32 {
        self.cx.creds.uid
    }
}

impl Settable for RemoteDir<'_> {
    fn attr(&self) -> SideResult<Attr> {
        Ok(self
            .fs
            .stat(&self.cx, At::new(&self.node, b""), Follow::No)?
            .attr)
    }

    fn set(&self, set: &SetAttr) -> SideResult<()> {
        Ok(self
            .fs
            .set_attr(&self.cx, At::new(&self.node, b""), Follow::No, set)?)
    }
}

impl Settable for RemoteFile<'_> {
    fn attr(&self) -> SideResult<Attr> {
        Ok(self.file.stat(&self.cx)?.attr)
    }

    fn set(&self, set: &SetAttr) -> SideResult<()> {
        Ok(self.file.set_attr(&self.cx, set)?)
    }
}

impl Reader for RemoteFile<'_> {
    fn attr(&self) -> SideResult<Attr> {
        Settable::attr(self)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> SideResult<usize> {
        Ok(self.file.read_at(&self.cx, into, offset)?)
    }

    fn next_data(&self, offset: u64) -> SideResult<Option<u64>> {
        let Ok(signed) = i64::try_from(offset) else {
            return Ok(Some(offset));
        };
        match self.file.seek(&self.cx, Whence::Data(signed)) {
            Ok(at) => Ok(Some(at.max(offset))),
            Err(error) if error.errno() == Errno::ENXIO => Ok(None),
            Err(error) if matches!(error.errno(), Errno::EINTR | Errno::EIO) => Err(error.into()),
            // A server that does not know holes.
            Err(_) => Ok(Some(offset)),
        }
    }
}

impl Writer for RemoteFile<'_> {
    fn write_at(&self, from: &[u8], offset: u64) -> SideResult<()> {
        let (mut from, mut offset) = (from, offset);
        while !from.is_empty() {
            let n = self.file.write_at(&self.cx, from, offset)?;
            if n == 0 {
                return Err(Fault::new("write", Errno::EIO));
            }
            from = from.get(n..).unwrap_or_default();
            offset += n as u64;
        }
        Ok(())
    }

    fn sync(&self) -> SideResult<()> {
        Ok(self.file.sync(&self.cx, false)?)
    }

    fn close(self) -> SideResult<()> {
        Ok(self.file.close(&self.cx)?)
    }
}
