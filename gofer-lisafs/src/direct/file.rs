//! A place in the tree.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use gofer_vfs::remote::{
    Call, FileKey, Found, New, OpenMode, Owner, Promptness, RemoteError, RemoteFile, RemoteHandle,
    RemoteResult, RemoteSocket, Seen, SocketType, WalkEnd,
};
use gofer_vfs::{
    Attr, AttrMask, Errno, FileType, Name, RenameFlags, SetAttr, SetAttrReport, StatFs, XattrFlags,
};
use rustix::fs::AtFlags;

use super::handle::DirectHandle;
use super::host::{self, refused};
use super::{Tree, attr, create, socket, walk, xattr};

/// A file that is not open, held by a descriptor that only names it.
pub(super) struct DirectFile {
    pub(super) tree: Arc<Tree>,
    pub(super) fd: OwnedFd,
    pub(super) file_type: FileType,
    pub(super) key: FileKey,
}

impl DirectFile {
    /// Takes over `fd`, and looks at what it names.
    pub(super) fn found(tree: &Arc<Tree>, fd: OwnedFd) -> RemoteResult<Found> {
        let (file, attr) = DirectFile::look(tree, fd)?;
        Ok(Arc::new(file).as_found(attr))
    }

    /// As [`DirectFile::found`], for more to be done before others see it.
    pub(super) fn look(tree: &Arc<Tree>, fd: OwnedFd) -> RemoteResult<(DirectFile, Attr)> {
        let (key, attr) = attr::look(host::stat(&fd))?;
        let file = DirectFile {
            tree: tree.clone(),
            fd,
            file_type: attr.file_type,
            key,
        };
        Ok((file, attr))
    }

    pub(super) fn as_found(self: &Arc<DirectFile>, attr: Attr) -> Found {
        Found {
            file: self.clone(),
            key: self.key,
            attr,
        }
    }

    /// `other` as a file of this tree; any other is `EXDEV`.
    pub(super) fn sibling<'f>(&self, other: &'f dyn RemoteFile) -> RemoteResult<&'f DirectFile> {
        let other: &dyn Any = other;
        other
            .downcast_ref::<DirectFile>()
            .filter(|other| Arc::ptr_eq(&self.tree, &other.tree))
            .ok_or(RemoteError::not_sent(Errno::EXDEV))
    }
}

impl RemoteFile for DirectFile {
    fn walk(
        &self,
        call: &Call<'_>,
        names: &[Name<'_>],
        found: &mut dyn FnMut(Found),
    ) -> RemoteResult<WalkEnd> {
        self.tree.admit(call)?;
        walk::walk(self, names, found)
    }

    fn revalidate(
        &self,
        call: &Call<'_>,
        known: &[(Name<'_>, &dyn RemoteFile)],
        seen: &mut dyn FnMut(Seen),
    ) -> RemoteResult<()> {
        self.tree.admit(call)?;
        walk::revalidate(self, known, seen)
    }

    fn attr(&self, call: &Call<'_>, _want: AttrMask) -> RemoteResult<Attr> {
        self.tree.admit(call)?;
        attr::look(host::stat(&self.fd)).map(|(_, attr)| attr)
    }

    fn set_attr(
        &self,
        call: &Call<'_>,
        set: &SetAttr,
        through: Option<&dyn RemoteHandle>,
    ) -> RemoteResult<SetAttrReport> {
        self.tree.admit(call)?;
        Ok(attr::set(self, set, through))
    }

    fn open(&self, call: &Call<'_>, mode: OpenMode) -> RemoteResult<Arc<dyn RemoteHandle>> {
        self.tree.admit(call)?;
        let handle = DirectHandle::open(self, mode).map_err(refused)?;
        Ok(Arc::new(handle))
    }

    fn create(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        perm: u16,
        owner: Owner,
        mode: OpenMode,
    ) -> RemoteResult<(Found, Arc<dyn RemoteHandle>)> {
        self.tree.admit(call)?;
        create::create(self, name, perm, owner, mode.access)
    }

    fn make(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        new: New<'_>,
        perm: u16,
        owner: Owner,
    ) -> RemoteResult<Option<Found>> {
        self.tree.admit(call)?;
        create::make(self, name, new, perm, owner).map(Some)
    }

    fn link(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        target: &dyn RemoteFile,
    ) -> RemoteResult<Option<Found>> {
        self.tree.admit(call)?;
        create::link(self, name, self.sibling(target)?)
    }

    fn unlink(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        dir: bool,
        _child: Option<&dyn RemoteFile>,
    ) -> RemoteResult<()> {
        self.tree.admit(call)?;
        let flags = match dir {
            true => AtFlags::REMOVEDIR,
            false => AtFlags::empty(),
        };
        rustix::fs::unlinkat(&self.fd, name.as_bytes(), flags).map_err(refused)
    }

    fn rename(
        &self,
        call: &Call<'_>,
        from: Name<'_>,
        _moved: Option<&dyn RemoteFile>,
        to: (&dyn RemoteFile, Name<'_>),
        flags: RenameFlags,
    ) -> RemoteResult<()> {
        self.tree.admit(call)?;
        let target = &self.sibling(to.0)?.fd;
        let (from, to) = (from.as_bytes(), to.1.as_bytes());
        // Without flags by the older call, which every file system has.
        let renamed = if flags.is_empty() {
            rustix::fs::renameat(&self.fd, from, target, to)
        } else {
            let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
            rustix::fs::renameat_with(&self.fd, from, target, to, flags)
        };
        renamed.map_err(refused)
    }

    fn read_link(&self, call: &Call<'_>) -> RemoteResult<Vec<u8>> {
        self.tree.admit(call)?;
        if self.file_type != FileType::Symlink {
            return Err(RemoteError::refused(Errno::EINVAL));
        }
        let target = rustix::fs::readlinkat(&self.fd, c"", Vec::new()).map_err(refused)?;
        Ok(target.into_bytes())
    }

    fn stat_fs(&self, call: &Call<'_>) -> RemoteResult<StatFs> {
        self.tree.admit(call)?;
        attr::stat_fs(self)
    }

    fn get_xattr(&self, call: &Call<'_>, name: &[u8], _limit: usize) -> RemoteResult<Vec<u8>> {
        self.tree.admit(call)?;
        xattr::get(self, name).map_err(refused)
    }

    fn set_xattr(
        &self,
        call: &Call<'_>,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> RemoteResult<()> {
        self.tree.admit(call)?;
        xattr::set(self, name, value, flags).map_err(refused)
    }

    fn list_xattr(&self, call: &Call<'_>, each: &mut dyn FnMut(&[u8])) -> RemoteResult<()> {
        self.tree.admit(call)?;
        xattr::list(self, each).map_err(refused)
    }

    fn remove_xattr(&self, call: &Call<'_>, name: &[u8]) -> RemoteResult<()> {
        self.tree.admit(call)?;
        xattr::remove(self, name).map_err(refused)
    }

    fn connect(&self, call: &Call<'_>, kind: SocketType) -> RemoteResult<OwnedFd> {
        self.tree.admit(call)?;
        socket::connect(self, call, kind)
    }

    fn bind(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        kind: SocketType,
        perm: u16,
        owner: Owner,
    ) -> RemoteResult<(Found, Box<dyn RemoteSocket>)> {
        self.tree.admit(call)?;
        socket::bind(self, call, name, kind, (perm, owner))
    }

    /// Nothing is queued: dropping the file closes its descriptor.
    fn release(&self, _when: Promptness) {}
}
