//! Making a filesystem of an image, once everything in it was found on the server.

use std::collections::HashMap;
use std::sync::Arc;

use super::image::{Image, Index, SavedFile, socket_type, timestamp};
use super::nameless::{Made, make_nameless};
use super::verify::{AllFound, Verifier};
use super::{RestoreError, Restored, Verify};
use crate::attr::{Attr, AttrMask, FileType};
use crate::clock::{Clock, SystemClock};
use crate::context::Context;
use crate::dentry::Node;
use crate::error::{Errno, Error};
use crate::file::{File, SavedState};
use crate::filesystem::{Filesystem, MountFlags};
use crate::flags::{Access, OpenFlags};
use crate::handle::Handle;
use crate::inode::{Inode, Origin};
use crate::interop::InteropMode;
use crate::ops::wanted;
use crate::options::{LockPlace, MountOptions};
use crate::permissions::Credentials;
use crate::remote::{Found, RemoteFile, RemoteFilesystem};
use crate::socket::Listener;
use crate::superblock::{Res, Superblock};
use crate::synthetic::{LocalSocket, Synthetic};

impl Filesystem {
    /// Brings an image back over `remote`, a new connection of any protocol to the same tree.
    ///
    /// Of `options`, those that say what is cached and for whom are the image's: `cache`,
    /// `dfltuid`, `dfltgid`, `locks`, and the flags of the mount. Every file of the image is
    /// found by its path and compared as `verify` says; only then anything is done. Files without
    /// a name are made anew, under a name that is removed at once, in the nearest directory that
    /// still has one. Open files are opened as they were, without truncating, creating or
    /// waiting, whatever the permissions are now; a fifo for writing without a reader is `ENXIO`.
    /// A directory that was being listed is listed anew and goes on behind the name it had reached,
    /// or, if that is gone, at the same count of entries.
    ///
    /// Blocks for as many round trips as there are files, or fewer. `image` may be anything.
    pub fn restore(
        cx: &Context<'_>,
        remote: Arc<dyn RemoteFilesystem>,
        options: MountOptions,
        image: &[u8],
        verify: Verify,
    ) -> Result<Restored, RestoreError> {
        Filesystem::restore_with_clock(cx, remote, options, image, verify, Arc::new(SystemClock))
    }

    /// As [`Filesystem::restore`], with another source of time.
    pub fn restore_with_clock(
        cx: &Context<'_>,
        remote: Arc<dyn RemoteFilesystem>,
        mut options: MountOptions,
        image: &[u8],
        verify: Verify,
        clock: Arc<dyn Clock>,
    ) -> Result<Restored, RestoreError> {
        let image = Image::read(image)?;
        let head = &image.head;
        let cache = InteropMode::from_name(head.cache.as_bytes());
        options.cache = cache.ok_or(super::ImageError::Damaged {
            offset: 0,
            what: "an unknown cache mode",
        })?;
        (options.dfltuid, options.dfltgid) = (head.dfltuid, head.dfltgid);
        options.locks = match head.server_locks {
            true => LockPlace::Server,
            false => LockPlace::Local,
        };
        let flags = MountFlags {
            readonly: head.readonly,
            noatime: head.noatime,
            relatime: head.relatime,
            connect_sockets: head.connect_sockets,
        };
        let root = Credentials::root();
        let cx = &Context {
            creds: &root,
            ..*cx
        };
        let remote = Filesystem::lasting(remote, &options);
        let verifier = Verifier {
            image: &image,
            cx,
            remote: &*remote,
            options: &options,
            verify,
        };
        let found = verifier.find_all()?;
        let made = make_nameless(&image, cx, &found)?;
        let numbers = numbers(&image, &found, &made);
        let root = found.first().and_then(Option::as_ref).map(again);
        let root = root.ok_or_else(|| failed(b"/", Errno::EIO))?;
        let fs = Filesystem::assemble(&cx.call(), remote, options, flags, clock, numbers, root)
            .map_err(|errno| failed(b"/", errno))?;
        let mut rebuild = Rebuild {
            image: &image,
            cx,
            nodes: vec![fs.root()],
            inodes: HashMap::new(),
            handles: HashMap::new(),
            sockets: Vec::new(),
            fs,
        };
        rebuild.tree(found, made)?;
        rebuild.finish()
    }
}

pub(super) fn failed(path: &[u8], errno: Errno) -> RestoreError {
    Error::at("restore", path, errno).into()
}

fn again(found: &Found) -> Found {
    Found {
        file: found.file.clone(),
        key: found.key,
        attr: found.attr,
    }
}

/// The numbers to show for files by their identity now.
fn numbers(
    image: &Image<'_>,
    found: &AllFound,
    made: &HashMap<Index, Made>,
) -> HashMap<[u64; 2], u64> {
    let mut numbers = HashMap::new();
    for (dentry, found) in image.dentries.iter().zip(found) {
        let made = made.get(&dentry.inode).map(|made| &made.found);
        if let Some((found, saved)) = found.as_ref().or(made).zip(image.inode(dentry.inode)) {
            numbers.insert(found.key.id, saved.ino);
        }
    }
    numbers
}

/// The filesystem as far as it is there.
struct Rebuild<'r> {
    image: &'r Image<'r>,
    cx: &'r Context<'r>,
    fs: Filesystem,
    /// By the numbers of the image's dentries.
    nodes: Vec<Node>,
    /// What the names of one file share.
    inodes: HashMap<Index, (Arc<Inode>, Arc<dyn RemoteFile>)>,
    /// Of regular files without a name.
    handles: HashMap<Index, Arc<Handle>>,
    /// Bound sockets: number, dentry, and what they are bound to.
    sockets: Vec<(u64, Index, LocalSocket)>,
}

impl Rebuild<'_> {
    fn sb(&self) -> &Arc<Superblock> {
        self.fs.sb()
    }

    fn tree(
        &mut self,
        found: AllFound,
        mut made: HashMap<Index, Made>,
    ) -> Result<(), RestoreError> {
        // Names first, so that what lost one of its names finds the file.
        let named = self.image.dentries.iter().zip(&found);
        let mut named_inodes: HashMap<Index, &Found> = HashMap::new();
        for (dentry, found) in named {
            if let Some(found) = found {
                named_inodes.entry(dentry.inode).or_insert(found);
            }
        }
        let links = self.directories_in();
        self.resume_attributes(0, &self.fs.root());
        for (index, dentry) in self.image.dentries.iter().enumerate().skip(1) {
            let image = self.image;
            let path = || image.path(Index::try_from(index).unwrap_or(Index::MAX));
            let errno = |errno| failed(&path(), errno);
            let parent = dentry.parent.and_then(|one| usize::try_from(one).ok());
            let parent = parent.and_then(|parent| self.nodes.get(parent)).cloned();
            let parent = parent.ok_or_else(|| errno(Errno::EIO))?;
            let here = found.get(index).and_then(Option::as_ref);
            let file = here.or_else(|| named_inodes.get(&dentry.inode).copied());
            let own = self.synthetic(index, links.get(&index).copied());
            let own = own.map_err(errno)?;
            let file = own.as_ref().or(file);
            let (inode, file) = match (self.inodes.get(&dentry.inode), file) {
                (Some((inode, _)), Some(found)) => (inode.clone(), found.file.clone()),
                (Some((inode, file)), None) => (inode.clone(), file.clone()),
                (None, Some(found)) => {
                    let inode = self.adopt(found, found.attr).map_err(errno)?;
                    (inode, found.file.clone())
                }
                (None, None) => {
                    let made = made.remove(&dentry.inode);
                    let made = made.ok_or_else(|| errno(Errno::EIO))?;
                    self.adopt_made(dentry.inode, made).map_err(errno)?
                }
            };
            let known = (inode.clone(), file.clone());
            let synthetic = inode.key.is_synthetic();
            let first = self.inodes.insert(dentry.inode, known).is_none();
            let node = Node::new(Some(&parent), dentry.name, inode, file);
            match dentry.gone {
                true => node.lose_name(),
                false => {
                    if parent.publish(dentry.name, &node, |_| true).is_err() {
                        return Err(errno(Errno::ENOTDIR));
                    }
                }
            }
            if first && !synthetic {
                self.resume_attributes(index, &node);
            }
            if synthetic && !dentry.gone {
                self.sb().synthetics.hold(&node);
            }
            self.nodes.push(node);
        }
        Ok(())
    }

    /// How many synthetic directories are in each.
    fn directories_in(&self) -> HashMap<usize, u64> {
        let mut links = HashMap::new();
        for dentry in &self.image.dentries {
            let inode = self.image.inode(dentry.inode);
            let counts = inode.is_some_and(|inode| {
                inode.synthetic && inode.file_type() == Some(FileType::Directory) && !dentry.gone
            });
            let parent = dentry.parent.and_then(|one| usize::try_from(one).ok());
            if let Some(parent) = parent.filter(|_| counts) {
                *links.entry(parent).or_default() += 1;
            }
        }
        links
    }

    /// A file of this client alone as it was, with `links` directories in it; `None` for others.
    fn synthetic(&mut self, index: usize, links: Option<u64>) -> Result<Option<Found>, Errno> {
        let dentry = self.image.dentries.get(index);
        let saved = dentry.and_then(|one| Some((one, self.image.inode(one.inode)?)));
        let Some((dentry, saved)) = saved.filter(|(_, saved)| saved.synthetic) else {
            return Ok(None);
        };
        let file_type = saved.file_type().unwrap_or(FileType::Fifo);
        let [atime, mtime, ctime] = saved.shown.map(timestamp);
        let attr = Attr {
            mask: AttrMask::BASIC | AttrMask::BTIME,
            mode: saved.mode,
            nlink: match file_type {
                _ if dentry.gone => 0,
                FileType::Directory => 2 + links.unwrap_or(0),
                _ => 1,
            },
            uid: saved.uid,
            gid: saved.gid,
            block_size: 4096,
            atime,
            mtime,
            ctime,
            btime: ctime,
            ..Attr::of_type(file_type)
        };
        let parts = self.image.data.iter().filter(|part| part.0 == dentry.inode);
        let content = parts.map(|part| part.2).next_back().unwrap_or_default();
        let mut endpoint = None;
        let mut bound = self.image.listeners.iter();
        if let Some(bound) = bound.find(|one| usize::try_from(one.dentry) == Ok(index)) {
            let kind = socket_type(bound.kind).ok_or(Errno::EINVAL)?;
            let socket = LocalSocket::again(kind, bound.backlog)?;
            endpoint = Some(socket.endpoint());
            self.sockets.push((bound.id, bound.dentry, socket));
        }
        let sb = self.sb();
        Synthetic::again(sb, attr, saved.id, content, endpoint).map(Some)
    }

    fn adopt(&self, found: &Found, attr: Attr) -> Result<Arc<Inode>, Errno> {
        let sb = self.sb();
        let origin = Origin::Found {
            then: sb.inodes.now(),
            ticket: sb.ticket(),
            removals: sb.unknown_removals(),
        };
        let inode = sb.inodes.adopt(sb, found.key, attr, origin)?;
        inode.ok_or(Errno::EIO)
    }

    fn adopt_made(
        &mut self,
        index: Index,
        made: Made,
    ) -> Result<(Arc<Inode>, Arc<dyn RemoteFile>), Errno> {
        let mut attr = made.found.attr;
        attr.mask |= AttrMask::NLINK;
        attr.nlink = 0;
        if let Some(saved) = self.image.inode(index) {
            (attr.mode, attr.uid, attr.gid) = (saved.mode, saved.uid, saved.gid);
            attr.size = saved.size;
            attr.mtime = timestamp(saved.mtime);
        }
        let inode = self.adopt(&made.found, attr)?;
        if let Some(remote) = made.handle {
            let handle = Handle::new(self.sb(), remote, Access::ReadWrite);
            if !self.sb().mode.handle_per_description() {
                inode.open().handles.install(&handle);
            }
            self.handles.insert(index, handle);
        }
        Ok((inode, made.found.file))
    }

    /// Times that this client knows better than the server.
    fn resume_attributes(&self, index: usize, node: &Node) {
        let saved = self.image.dentries.get(index);
        let saved = saved.and_then(|dentry| self.image.inode(dentry.inode));
        if let Some(saved) = saved.filter(|_| self.sb().mode.client_clock()) {
            let times = saved.shown.map(timestamp);
            let inode = node.inode();
            inode.update(|meta| meta.resume_times(times, saved.known));
        }
    }

    fn finish(mut self) -> Result<Restored, RestoreError> {
        let mut files: Vec<(u64, Option<File>)> = Vec::with_capacity(self.image.files.len());
        files.extend(self.image.files.iter().map(|file| (file.id, None)));
        // A fifo can be opened for writing once it is open for reading (semantics 21.2).
        for last in [false, true] {
            for (saved, slot) in self.image.files.iter().zip(&mut files) {
                let flags = OpenFlags::from_bits_retain(saved.flags);
                let flags = flags & !(OpenFlags::TRUNC | OpenFlags::CREAT | OpenFlags::EXCL);
                let node = self.node(saved.dentry)?;
                let writes_fifo = node.file_type() == FileType::Fifo && flags.access_bits() == 1;
                if writes_fifo == last {
                    let file = self.open(saved, flags, node);
                    let path = || self.image.path(saved.dentry);
                    let file = file.map_err(|failure| failed(&path(), failure.errno()))?;
                    slot.1 = Some(file);
                }
            }
        }
        self.write_unsent()?;
        let files = files.into_iter();
        let files = files.filter_map(|(id, file)| Some((id, file?))).collect();
        let mut nodes = Vec::with_capacity(self.image.nodes.len());
        for (id, dentry) in &self.image.nodes {
            nodes.push((*id, self.node(*dentry)?));
        }
        let mut listeners = Vec::with_capacity(self.sockets.len());
        for (id, dentry, socket) in std::mem::take(&mut self.sockets) {
            listeners.push((id, Listener::again(self.node(dentry)?, socket)));
        }
        let mut notifiers = Vec::with_capacity(self.image.notifiers.len());
        for (id, saved) in &self.image.notifiers {
            notifiers.push((*id, self.fs.restore_notifier(self.cx, saved)?));
        }
        self.inodes.clear();
        // Children before their parents, so that nothing goes that is still needed.
        while self.nodes.pop().is_some() {}
        Ok(Restored {
            fs: self.fs,
            files,
            nodes,
            notifiers,
            listeners,
        })
    }

    /// Gives the server what it could not be given before.
    fn write_unsent(&self) -> Result<(), RestoreError> {
        let named = |index| {
            let inode = self.image.inode(index);
            inode.is_some_and(|inode| {
                !inode.nameless && inode.file_type() == Some(FileType::Regular)
            })
        };
        for (index, offset, data) in self.image.data.iter().filter(|part| named(part.0)) {
            let at = self
                .image
                .dentries
                .iter()
                .position(|one| one.inode == *index);
            let node = at.and_then(|at| self.nodes.get(at));
            let path = || {
                self.image
                    .path(at.and_then(|at| at.try_into().ok()).unwrap_or(0))
            };
            let Some(node) = node else {
                return Err(failed(&path(), Errno::EIO));
            };
            let written = self.write(node, data, *offset);
            written.map_err(|failure| failed(&path(), failure.errno()))?;
        }
        Ok(())
    }

    fn write(&self, node: &Node, data: &[u8], offset: u64) -> Res<()> {
        let inode = node.inode();
        let handle = match inode.writer() {
            Some(handle) => handle,
            None => {
                let file = node.remote();
                Handle::open(self.sb(), self.cx, &*file, Access::Write, false)?
            }
        };
        let (n, stopped) = handle.write_at(self.cx, data, offset);
        inode.change(|meta| meta.grow(offset + n as u64, n as u64));
        match stopped {
            Some(failure) if n < data.len() => Err(failure),
            _ if n < data.len() => Err(Errno::EIO.into()),
            _ => Ok(()),
        }
    }

    fn node(&self, index: Index) -> Result<Node, RestoreError> {
        let at = usize::try_from(index).ok();
        let node = at.and_then(|at| self.nodes.get(at)).cloned();
        node.ok_or_else(|| failed(&self.image.path(index), Errno::EIO))
    }

    fn open(&self, saved: &SavedFile<'_>, flags: OpenFlags, node: Node) -> Res<File> {
        let sb = self.sb();
        let inode = node.inode().clone();
        let own = match inode.file_type {
            _ if flags.contains(OpenFlags::PATH) => None,
            FileType::Regular => {
                let at = self.image.dentry(saved.dentry).map(|dentry| dentry.inode);
                match at.and_then(|at| self.handles.get(&at)) {
                    Some(handle) if sb.mode.handle_per_description() => Some(handle.clone()),
                    Some(_) => {
                        inode.settle_route(self.cx, false);
                        None
                    }
                    None => self.fs.open_regular(self.cx, &node, flags)?,
                }
            }
            FileType::Directory => {
                if node.has_name() {
                    let handles = &inode.open().handles;
                    handles.acquire(sb, self.cx, &*node.remote(), Access::Read, false)?;
                }
                None
            }
            FileType::Symlink => return Err(Errno::ELOOP.into()),
            FileType::Socket => return Err(Errno::ENXIO.into()),
            FileType::Fifo if node.is_synthetic() => {
                let access = wanted(flags);
                let end = node.open_synthetic_fifo(access)?;
                Some(Handle::new(sb, Arc::new(end), access))
            }
            FileType::Fifo | FileType::CharDevice | FileType::BlockDevice => {
                let file = node.remote();
                let handle = Handle::open(sb, self.cx, &*file, wanted(flags), false)?;
                handle.close_promptly();
                Some(handle)
            }
        };
        let state = SavedState {
            offset: saved.offset,
            after: saved.after.to_vec(),
            wrote: saved.wrote,
            error: saved.error.map(Errno::from_raw),
            drained: saved.drained.to_vec(),
            locks: saved.locks.clone(),
        };
        File::resume(self.cx, node, flags, own, saved.path, &state)
    }
}
