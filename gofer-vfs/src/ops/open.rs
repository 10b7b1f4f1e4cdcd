//! open, with and without creating (semantics 10).

use std::sync::Arc;

use crate::attr::{FileType, SetAttr};
use crate::context::{At, Context, Follow};
use crate::dentry::{Child, Node};
use crate::error::{Errno, Result};
use crate::file::File;
use crate::filesystem::Filesystem;
use crate::flags::{Access, OpenFlags};
use crate::handle::Handle;
use crate::inode::Origin;
use crate::name::Name;
use crate::notify::EventMask;
use crate::ops::check_change_names;
use crate::ops::create::{enter, lock_to_create};
use crate::page_cache::PageCache;
use crate::permissions::{
    AccessMask, access_to_open, acts_as_owner, check_access, mode_to_set, new_file,
    readonly_forbids,
};
use crate::remote::OpenMode;
use crate::resolve::{Form, Last, Walk};
use crate::special;
use crate::superblock::{Failure, Res};

/// How often creating and looking up may contradict each other before we believe neither.
const ATTEMPTS_MAX: u32 = 16;

impl Filesystem {
    /// Opens a file, as `openat(2)`. `mode` has the permission bits of a file that is made (07777);
    /// no umask is applied. Waits for the other end of a fifo unless told not to.
    ///
    /// `EACCES` without permission, `EEXIST` with `CREAT | EXCL`, `EISDIR` for writing to a
    /// directory, `ENXIO` for sockets (but see [`MountFlags::connect_sockets`]) and for a fifo
    /// without a reader that is opened for writing and not to wait, `EPERM` for `NOATIME` on files
    /// of others, `EINVAL` for flags that do not go together, `EOPNOTSUPP` for nameless files.
    ///
    /// [`MountFlags::connect_sockets`]: crate::MountFlags::connect_sockets
    pub fn open(&self, cx: &Context<'_>, at: At<'_>, flags: OpenFlags, mode: u16) -> Result<File> {
        self.run("open", at.path, || self.open_path(cx, at, flags, mode))
    }

    /// [`Filesystem::open`] by node; creates nothing.
    pub fn open_node(&self, cx: &Context<'_>, node: &Node, flags: OpenFlags) -> Result<File> {
        self.run("open", b"", || {
            let flags = prepare(flags & !(OpenFlags::CREAT | OpenFlags::EXCL))?;
            if flags.contains(OpenFlags::TMPFILE_BIT) {
                return Err(Errno::EOPNOTSUPP.into());
            }
            check_existing(node, flags, false)?;
            let refused = || check_access(cx.creds, &node.inode().attr(), access_to_open(flags));
            if node.sb().mode.must_revalidate()
                && !flags.contains(OpenFlags::PATH)
                && refused().is_err()
            {
                // No refusal rests on old news.
                node.inode().refresh(cx, &*node.remote(), None)?;
            }
            self.open_existing(cx, node, flags, b"")
        })
    }

    /// [`Filesystem::open`] of one name with `CREAT`.
    pub fn create_in(
        &self,
        cx: &Context<'_>,
        dir: &Node,
        name: Name<'_>,
        flags: OpenFlags,
        mode: u16,
    ) -> Result<File> {
        let at = At::new(dir, name.as_bytes());
        self.open(cx, at, flags | OpenFlags::CREAT, mode)
    }

    fn open_path(&self, cx: &Context<'_>, at: At<'_>, flags: OpenFlags, mode: u16) -> Res<File> {
        let flags = prepare(flags)?;
        if flags.contains(OpenFlags::TMPFILE_BIT) {
            return Err(self.refuse_nameless(cx, at, flags)?);
        }
        let mut walk = Walk::new(cx, at, self.root_ref(), Form::Open)?;
        let mut attempts = 0;
        loop {
            // A path without a name is its start, which need not be a directory.
            let last = if at.path.iter().all(|&byte| byte == b'/') {
                None
            } else {
                let last = walk.reach_parent()?;
                (!matches!(last.name(), b"" | b"." | b"..")).then_some(last)
            };
            let Some(last) = last else {
                // The path ends at a directory that is known without looking up a name.
                walk.reach_end_without_name()?;
                if flags.contains(OpenFlags::CREAT | OpenFlags::EXCL) {
                    return Err(Errno::EEXIST.into());
                }
                check_existing(&walk.dir, flags, false)?;
                return self.open_existing(cx, &walk.dir, flags, at.path);
            };
            if flags.contains(OpenFlags::CREAT) && last.slash {
                return Err(Errno::EISDIR.into());
            }
            let there = match walk.known(&last)? {
                Child::Present(node) => Some(node),
                Child::Absent => None,
                // Most files that may be created are new: the server will tell if not.
                Child::Unknown if attempts == 0 && may_create(cx, &walk.dir, flags) => None,
                Child::Unknown => walk.look_up(&last)?,
            };
            match there.map(Node::top) {
                Some(node) => {
                    if flags.contains(OpenFlags::CREAT | OpenFlags::EXCL) {
                        return Err(Errno::EEXIST.into());
                    }
                    let follow = last.slash || !flags.contains(OpenFlags::NOFOLLOW);
                    if follow && node.file_type() == FileType::Symlink {
                        walk.follow_last(&node, &last)?;
                        continue;
                    }
                    check_existing(&node, flags, last.slash)?;
                    return self.open_existing(cx, &node, flags, at.path);
                }
                None if !flags.contains(OpenFlags::CREAT) => return Err(Errno::ENOENT.into()),
                None => match self.create(cx, &walk.dir, &last, flags, mode, at.path) {
                    // It was there, or somebody was faster (semantics 24, item 28), or it is not
                    // known whether it was made before the connection was lost.
                    Err(failure)
                        if (failure.errno() == Errno::EEXIST
                            || (failure.is_uncertain() && self.options().reconnect > 0))
                            && !flags.contains(OpenFlags::EXCL)
                            && attempts < ATTEMPTS_MAX =>
                    {
                        attempts += 1;
                        walk.forget_ahead();
                        walk.dir.forget_absent(last.name());
                    }
                    outcome => return outcome,
                },
            }
        }
    }

    /// A file without a name, which neither protocol can make: that comes last (semantics 10.2).
    fn refuse_nameless(&self, cx: &Context<'_>, at: At<'_>, flags: OpenFlags) -> Res<Failure> {
        let follow = match flags.contains(OpenFlags::NOFOLLOW) {
            true => Follow::No,
            false => Follow::Yes,
        };
        let dir = self.walk_to_end(cx, at, follow)?;
        if !dir.inode().is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        dir.sb().check_writable()?;
        check_change_names(cx, &dir)?;
        Ok(Errno::EOPNOTSUPP.into())
    }

    fn create(
        &self,
        cx: &Context<'_>,
        dir: &Node,
        last: &Last<'_>,
        flags: OpenFlags,
        mode: u16,
        path: &[u8],
    ) -> Res<File> {
        let sb = dir.sb();
        if dir.is_deleted() {
            return Err(Errno::ENOENT.into());
        }
        sb.check_writable()?;
        check_change_names(cx, dir)?;
        let name = Name::new(last.name())?;
        let (owner, mode) = new_file(cx.creds, &dir.inode().attr(), false, mode & 0o7777);
        let access = wanted(flags);
        let open = OpenMode {
            access,
            truncate: false,
        };
        let _names = lock_to_create(cx, dir, name)?;
        let before = dir.inode().about_to_count();
        let made = dir.remote().create(&cx.call(), name, mode, owner, open);
        let (found, handle) = match made {
            Ok(made) => made,
            Err(error) => {
                let failure = crate::superblock::Failure::from(error);
                if failure.is_uncertain() {
                    sb.distrust_name(dir, name.as_bytes(), None);
                } else if failure.errno() == Errno::EEXIST {
                    dir.forget_absent(name.as_bytes());
                }
                return Err(failure);
            }
        };
        let handle = Handle::new(sb, handle, access);
        let node = enter(dir, name, Some(found), Origin::Made, (0, before)).ok_or(Errno::EIO)?;
        if node.file_type() != FileType::Regular {
            return Err(Errno::EIO.into());
        }
        if sb.mode.handle_per_description() {
            return Ok(File::new(node, flags, Some(handle), path));
        }
        node.inode().open().handles.install(&handle);
        node.inode().settle_route(cx, false);
        Ok(File::new(node, flags, None, path))
    }

    /// Opens what is there, after [`check_existing`].
    fn open_existing(
        &self,
        cx: &Context<'_>,
        node: &Node,
        flags: OpenFlags,
        path: &[u8],
    ) -> Res<File> {
        let node = node.clone();
        if flags.contains(OpenFlags::PATH) {
            return Ok(File::new(node, flags, None, path));
        }
        let sb = node.sb();
        let inode = node.inode();
        let attr = inode.attr();
        let want = access_to_open(flags);
        if want.contains(AccessMask::WRITE) && readonly_forbids(attr.file_type) {
            sb.check_writable()?;
        }
        check_access(cx.creds, &attr, want)?;
        if flags.contains(OpenFlags::NOATIME) && !acts_as_owner(cx.creds, &attr) {
            return Err(Errno::EPERM.into());
        }
        match attr.file_type {
            FileType::Regular => {
                let own = self.open_regular(cx, &node, flags)?;
                let file = File::new(node, flags, own, path);
                if flags.contains(OpenFlags::TRUNC) {
                    file.node().notify(EventMask::MODIFY);
                }
                Ok(file)
            }
            FileType::Directory if flags.contains(OpenFlags::DIRECT) => Err(Errno::EINVAL.into()),
            FileType::Directory => {
                let file = node.remote();
                inode
                    .open()
                    .handles
                    .acquire(sb, cx, &*file, Access::Read, false)?;
                Ok(File::new(node, flags, None, path))
            }
            FileType::Symlink => Err(Errno::ELOOP.into()),
            FileType::Socket if sb.flags.connect_sockets && !node.is_synthetic() => {
                let own = crate::socket::open(cx, &node, flags)?;
                Ok(File::new(node, flags, Some(own), path))
            }
            FileType::Socket => Err(Errno::ENXIO.into()),
            // Neither for reading nor for writing (fifo(7) knows no other end).
            FileType::Fifo if flags.access_bits() == 3 => Err(Errno::EINVAL.into()),
            FileType::Fifo | FileType::CharDevice | FileType::BlockDevice => {
                let own = special::open(cx, &node, wanted(flags), flags)?;
                Ok(File::new(node, flags, Some(own), path))
            }
        }
    }

    /// A handle for a regular file: the description's own where the mode says so.
    pub(crate) fn open_regular(
        &self,
        cx: &Context<'_>,
        node: &Node,
        flags: OpenFlags,
    ) -> Res<Option<Arc<Handle>>> {
        let sb = node.sb();
        let inode = node.inode();
        let file = node.remote();
        let truncate = flags.contains(OpenFlags::TRUNC);
        // `O_RDONLY|O_TRUNC` truncates too, which takes a handle that may write.
        let access = match (truncate, wanted(flags)) {
            (true, Access::Read) => Access::ReadWrite,
            (_, access) => access,
        };
        let _end = truncate.then(|| inode.open().data.write());
        // What is on its way must not make the file longer again.
        let cache = inode.cache().filter(|_| truncate);
        let turn = cache.map(PageCache::stop_writing_back);
        let opened = if sb.mode.handle_per_description() {
            Handle::open(sb, cx, &*file, access, truncate).map(Some)
        } else {
            let acquired = inode
                .open()
                .handles
                .acquire(sb, cx, &*file, access, truncate);
            acquired.map(|()| None)
        };
        let own = match opened {
            Err(failure) if truncate && failure.is_uncertain() => {
                inode.change(|meta| meta.doubt());
                return Err(failure);
            }
            opened => opened?,
        };
        if truncate {
            self.truncated(cx, node)?;
            if let Some(cache) = cache {
                cache.resize(&sb.pages, 0);
            }
        }
        drop(turn);
        if own.is_none() {
            inode.settle_route(cx, truncate);
        }
        Ok(own)
    }

    /// A file was cut to nothing by opening it (semantics 10.9).
    fn truncated(&self, cx: &Context<'_>, node: &Node) -> Res<()> {
        let inode = node.inode();
        let now = node.sb().stamp();
        let set = SetAttr {
            size: Some(0),
            ..SetAttr::default()
        };
        let mode = mode_to_set(cx.creds, &inode.attr(), &set);
        inode.change(|meta| {
            meta.set_size(0);
            if let Some(now) = now {
                meta.touch_mtime(now);
            }
        });
        if mode.is_some() {
            crate::file::drop_privileges(cx, node, mode);
        }
        Ok(())
    }
}

/// Whether `flags` ask for creation and nothing known here speaks against it.
fn may_create(cx: &Context<'_>, dir: &Node, flags: OpenFlags) -> bool {
    flags.contains(OpenFlags::CREAT)
        && dir.sb().check_writable().is_ok()
        && check_change_names(cx, dir).is_ok()
}

/// Flags in the shape the rest of this file expects (semantics 10.1).
fn prepare(flags: OpenFlags) -> Res<OpenFlags> {
    if flags.contains(OpenFlags::PATH) {
        let kept = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW;
        return Ok(flags & kept);
    }
    let flags = flags & !OpenFlags::CLOEXEC & OpenFlags::all();
    if flags.contains(OpenFlags::TMPFILE_BIT) {
        let valid = flags.contains(OpenFlags::DIRECTORY)
            && !flags.contains(OpenFlags::CREAT)
            && flags.access_bits() != 0;
        return if valid {
            Ok(flags)
        } else {
            Err(Errno::EINVAL.into())
        };
    }
    // Linux refuses the combination since 6.4 rather than guess what was meant.
    if flags.contains(OpenFlags::CREAT | OpenFlags::DIRECTORY) {
        return Err(Errno::EINVAL.into());
    }
    Ok(flags)
}

/// Refuses by type, before permissions count.
fn check_existing(node: &Node, flags: OpenFlags, slash: bool) -> Res<()> {
    let is_dir = node.inode().is_dir();
    if flags.contains(OpenFlags::CREAT) && is_dir {
        return Err(Errno::EISDIR.into());
    }
    if (slash || flags.contains(OpenFlags::DIRECTORY)) && !is_dir {
        return Err(Errno::ENOTDIR.into());
    }
    if flags.contains(OpenFlags::PATH) {
        return Ok(());
    }
    if node.file_type() == FileType::Symlink {
        return Err(Errno::ELOOP.into());
    }
    if is_dir && access_to_open(flags).contains(AccessMask::WRITE) {
        return Err(Errno::EISDIR.into());
    }
    Ok(())
}

/// What the handle must be able to do. The reserved access mode 3 asks for both, although its
/// description may then do neither (semantics 10.7).
pub(crate) fn wanted(flags: OpenFlags) -> Access {
    match flags.access_bits() {
        0 => Access::Read,
        1 => Access::Write,
        _ => Access::ReadWrite,
    }
}
