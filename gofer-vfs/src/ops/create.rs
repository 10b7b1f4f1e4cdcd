//! Making names: mkdir, mknod, symlink, link (semantics 7).

use std::sync::Arc;

use crate::attr::{Device, FileType};
use crate::context::{At, Context, Follow};
use crate::dentry::{Child, Node};
use crate::error::{Errno, Result};
use crate::filesystem::Filesystem;
use crate::inode::Origin;
use crate::locks::WriteGuard;
use crate::lookup::fetch_locked;
use crate::metadata::Before;
use crate::name::Name;
use crate::notify::EventMask;
use crate::ops::check_change_names;
use crate::permissions::{Caps, check_link, new_file};
use crate::remote::{Found, New, Owner, RemoteSocket, SocketType};
use crate::resolve::{Form, Last, Walk};
use crate::superblock::{Failure, Res};
use crate::synthetic::{Endpoint, LocalSocket, Synthetic};

/// The longest target of a symbolic link, in bytes.
const TARGET_MAX: usize = 4095;

impl Filesystem {
    /// Makes a directory; `mode` has its permission bits (01777), no umask is applied. It belongs to
    /// the caller, its group is that of a set-group-ID parent, which hands the bit down, else the
    /// caller's. `EEXIST`, also for `.`, `..` and `/`; `EACCES` without permission to write the parent.
    pub fn mkdir(&self, cx: &Context<'_>, at: At<'_>, mode: u16) -> Result<()> {
        self.run("mkdir", at.path, || {
            self.make(cx, at, New::Dir, mode & 0o1777).map(drop)
        })
    }

    /// As [`Filesystem::mkdir`], to mount something on. A directory that the server does not make,
    /// whatever its reason, is made in this client alone: it is in listings and can be removed and
    /// renamed, but nothing but such directories can be made in it (`EPERM`).
    pub fn mkdir_mount_point(&self, cx: &Context<'_>, at: At<'_>, mode: u16) -> Result<()> {
        self.run("mkdir", at.path, || {
            self.make_even(cx, at, New::Dir, mode & 0o1777, true)
                .map(drop)
        })
    }

    /// Makes a file of any type but directory and symbolic link, which are `EPERM` and `EINVAL`; not
    /// open. `mode` has its permission bits (07777), owner and group are as of
    /// [`Filesystem::mkdir`]. `EEXIST`; `EPERM` for devices without `CAP_SYS_ADMIN`. A fifo or socket
    /// that the server refuses with `EPERM` is made in this client alone.
    pub fn mknod(
        &self,
        cx: &Context<'_>,
        at: At<'_>,
        file_type: FileType,
        mode: u16,
        device: Device,
    ) -> Result<()> {
        self.run("mknod", at.path, || {
            let new = special(file_type, device)?;
            self.make(cx, at, new, mode & 0o7777).map(drop)
        })
    }

    /// Makes a symbolic link to `target`, any bytes but 0, at most 4095 (`ENAMETOOLONG`). An empty
    /// target is `ENOENT`, an existing name `EEXIST`.
    pub fn symlink(&self, cx: &Context<'_>, target: &[u8], at: At<'_>) -> Result<()> {
        self.run("symlink", at.path, || {
            self.make_link(cx, target, at).map(drop)
        })
        .map_err(|error| error.with_target(target))
    }

    /// Makes `new` another name of `old`. `EEXIST`; `EXDEV` between filesystems; `EPERM` for
    /// directories, and for files of others that the caller could not copy or that would lend it an
    /// identity (semantics 12.3); `EMLINK` with 2^32 - 1 names; `ENOENT` for a file without any;
    /// `EOPNOTSUPP` for files of this client alone.
    pub fn link(&self, cx: &Context<'_>, old: At<'_>, follow: Follow, new: At<'_>) -> Result<()> {
        self.run("link", old.path, || {
            self.hard_link(cx, old, follow, new).map(drop)
        })
        .map_err(|error| error.with_target(new.path))
    }

    /// [`Filesystem::mkdir`] by node; returns the new directory.
    pub fn mkdir_in(
        &self,
        cx: &Context<'_>,
        dir: &Node,
        name: Name<'_>,
        mode: u16,
    ) -> Result<Node> {
        let at = At::new(dir, name.as_bytes());
        self.run("mkdir", at.path, || {
            let made = self.make(cx, at, New::Dir, mode & 0o1777)?;
            self.node_made(cx, at, made)
        })
    }

    /// [`Filesystem::mknod`] by node; returns the new file.
    pub fn mknod_in(
        &self,
        cx: &Context<'_>,
        dir: &Node,
        name: Name<'_>,
        file_type: FileType,
        mode: u16,
        device: Device,
    ) -> Result<Node> {
        let at = At::new(dir, name.as_bytes());
        self.run("mknod", at.path, || {
            let new = special(file_type, device)?;
            let made = self.make(cx, at, new, mode & 0o7777)?;
            self.node_made(cx, at, made)
        })
    }

    /// [`Filesystem::symlink`] by node; returns the new link.
    pub fn symlink_in(
        &self,
        cx: &Context<'_>,
        target: &[u8],
        dir: &Node,
        name: Name<'_>,
    ) -> Result<Node> {
        let at = At::new(dir, name.as_bytes());
        self.run("symlink", at.path, || {
            let made = self.make_link(cx, target, at)?;
            self.node_made(cx, at, made)
        })
    }

    /// [`Filesystem::link`] by node; returns the new name's node.
    pub fn link_in(
        &self,
        cx: &Context<'_>,
        old: &Node,
        dir: &Node,
        name: Name<'_>,
    ) -> Result<Node> {
        let at = At::new(dir, name.as_bytes());
        self.run("link", at.path, || {
            let made = self.hard_link(cx, At::new(old, b""), Follow::No, at)?;
            self.node_made(cx, at, made)
        })
    }

    /// What was just made: from the reply, else from the server.
    fn node_made(&self, cx: &Context<'_>, at: At<'_>, made: Option<Node>) -> Res<Node> {
        match made {
            Some(node) => Ok(node),
            None => self.walk_to_end(cx, at, Follow::No),
        }
    }

    fn make(&self, cx: &Context<'_>, at: At<'_>, new: New<'_>, mode: u16) -> Res<Option<Node>> {
        self.make_even(cx, at, new, mode, false)
    }

    /// `mount_point`: a directory that is made in this client alone if it cannot be on the server.
    fn make_even(
        &self,
        cx: &Context<'_>,
        at: At<'_>,
        new: New<'_>,
        mode: u16,
        mount_point: bool,
    ) -> Res<Option<Node>> {
        let directory = new == New::Dir;
        let mut creation = Creation::begin(cx, at, self.root_ref(), directory)?;
        creation.check_parent(cx)?;
        let privileged = matches!(new, New::Char(_) | New::Block(_));
        if privileged && !cx.creds.caps.contains(Caps::SYS_ADMIN) {
            // Linux asks for a capability of its own here, which whoever administers has.
            return Err(creation.refuse(Errno::EPERM));
        }
        let parent = creation.walk.dir.inode().attr();
        let (owner, mode) = new_file(cx.creds, &parent, directory, mode);
        let links = i64::from(directory);
        creation.finish(links, Origin::Made, cx, |dir, name| {
            match dir.remote().make(&cx.call(), name, new, mode, owner) {
                Err(error) if may_be_synthetic(dir, &new, error.errno, mount_point) => {
                    stand_in(cx, dir, name, &new, mode, owner, None).map(Some)
                }
                made => Ok(made?),
            }
        })
    }

    /// Makes a socket and binds it: see [`Filesystem::bind`].
    pub(crate) fn bind_name(
        &self,
        cx: &Context<'_>,
        at: At<'_>,
        kind: SocketType,
        mode: u16,
    ) -> Res<(Node, Box<dyn RemoteSocket>)> {
        let mut creation = Creation::begin(cx, at, self.root_ref(), false)?;
        creation.check_parent(cx)?;
        let parent = creation.walk.dir.inode().attr();
        let (owner, mode) = new_file(cx.creds, &parent, false, mode);
        let mut socket: Option<Box<dyn RemoteSocket>> = None;
        let made = creation.finish(0, Origin::Made, cx, |dir, name| {
            let bound = dir.remote().bind(&cx.call(), name, kind, mode, owner);
            match bound {
                Err(error) if !dir.is_synthetic() && cannot_bind(error.errno) => {
                    let local = LocalSocket::new(kind)?;
                    let endpoint = Some(local.endpoint());
                    socket = Some(Box::new(local));
                    stand_in(cx, dir, name, &New::Socket, mode, owner, endpoint).map(Some)
                }
                bound => {
                    let (found, bound) = bound?;
                    socket = Some(bound);
                    Ok(Some(found))
                }
            }
        })?;
        match made.zip(socket) {
            Some(both) => Ok(both),
            None => Err(Errno::EIO.into()),
        }
    }

    fn make_link(&self, cx: &Context<'_>, target: &[u8], at: At<'_>) -> Res<Option<Node>> {
        if target.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        if target.len() > TARGET_MAX {
            return Err(Errno::ENAMETOOLONG.into());
        }
        if target.contains(&0) {
            return Err(Errno::EINVAL.into());
        }
        let made = self.make(cx, at, New::Symlink(target), 0o777)?;
        if let Some(link) = &made
            && link.sb().mode.may_cache_metadata()
            && link.file_type() == FileType::Symlink
        {
            link.inode().remember_link_target(target.into());
        }
        Ok(made)
    }

    fn hard_link(
        &self,
        cx: &Context<'_>,
        old: At<'_>,
        follow: Follow,
        new: At<'_>,
    ) -> Res<Option<Node>> {
        let source = self.walk_to_end(cx, old, follow)?;
        let mut creation = Creation::begin(cx, new, self.root_ref(), false)?;
        if !Arc::ptr_eq(source.sb(), creation.walk.dir.sb()) {
            return Err(creation.refuse(Errno::EXDEV));
        }
        let attr = source.inode().attr();
        if let Err(errno) = check_link(cx.creds, &attr) {
            return Err(creation.refuse(errno));
        }
        creation.check_parent(cx)?;
        let refused = if source.inode().is_dir() {
            Some(Errno::EPERM)
        } else if source.is_synthetic() {
            Some(Errno::EOPNOTSUPP)
        } else if attr.nlink == 0 {
            Some(Errno::ENOENT)
        } else if attr.nlink >= u64::from(u32::MAX) {
            Some(Errno::EMLINK)
        } else {
            None
        };
        if let Some(errno) = refused {
            return Err(creation.refuse(errno));
        }
        // The file is known and in use: what the reply says of it cannot be outdated.
        let origin = Origin::Found {
            then: u64::MAX,
            ticket: source.sb().ticket(),
            removals: source.sb().unknown_removals(),
        };
        let file = source.remote();
        let before = source.inode().about_to_count();
        let made = creation.finish(0, origin, cx, |dir, name| {
            let found = dir.remote().link(&cx.call(), name, &*file)?;
            source.notify_inode(EventMask::ATTRIB);
            Ok(found)
        });
        match &made {
            Ok(_) => {
                let now = source.sb().stamp();
                source.inode().change(|meta| {
                    if let Some(now) = now {
                        meta.add_links(1, before);
                        meta.touch_ctime(now);
                    }
                });
            }
            Err(failure) if failure.is_uncertain() => {
                source.inode().change(|meta| meta.doubt());
            }
            Err(_) => {}
        }
        made
    }
}

/// Whether the client makes a file that the server does not (semantics 7.1, 7.2). Servers refuse
/// sockets and fifos so that nobody reaches the host through them.
fn may_be_synthetic(dir: &Node, new: &New<'_>, errno: Errno, mount_point: bool) -> bool {
    match new {
        New::Dir => mount_point && errno != Errno::EEXIST,
        New::Fifo | New::Socket => errno == Errno::EPERM && !dir.is_synthetic(),
        _ => false,
    }
}

/// Errors of servers that bind no sockets.
fn cannot_bind(errno: Errno) -> bool {
    matches!(errno, Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EPERM)
}

/// A file of this client alone in place of one that the server did not make. It may have refused
/// before it saw that the name exists: `EEXIST`.
fn stand_in(
    cx: &Context<'_>,
    dir: &Node,
    name: Name<'_>,
    new: &New<'_>,
    mode: u16,
    owner: Owner,
    endpoint: Option<Endpoint>,
) -> Res<Found> {
    let there = fetch_locked(cx, dir, &[name]);
    match there {
        Ok(Some(_)) => return Err(Errno::EEXIST.into()),
        // A mount point is there for whoever mounts, also when the server is not.
        Err(failure) if *new != New::Dir => return Err(failure),
        _ => {}
    }
    let owner = (
        owner.uid.unwrap_or(cx.creds.uid),
        owner.gid.unwrap_or(cx.creds.gid),
    );
    Ok(Synthetic::found(dir.sb(), new, mode, owner, endpoint)?)
}

/// What mknod makes.
fn special(file_type: FileType, device: Device) -> Res<New<'static>> {
    Ok(match file_type {
        FileType::Regular => New::Regular,
        FileType::Fifo => New::Fifo,
        FileType::Socket => New::Socket,
        FileType::CharDevice => New::Char(device),
        FileType::BlockDevice => New::Block(device),
        FileType::Directory => return Err(Errno::EPERM.into()),
        FileType::Symlink => return Err(Errno::EINVAL.into()),
    })
}

/// A name that is about to be made: what all such operations check alike.
struct Creation<'p> {
    walk: Walk<'p>,
    last: Last<'p>,
}

impl<'p> Creation<'p> {
    /// Walks to the parent and checks everything up to the read-only mount. The server is not
    /// asked whether the name exists, unless that decides between two errors.
    fn begin(
        cx: &'p Context<'p>,
        at: At<'p>,
        root: &'p Node,
        directory: bool,
    ) -> Res<Creation<'p>> {
        if at.path.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        let mut walk = Walk::new(cx, at, root, Form::Parent)?;
        let last = walk.reach_parent()?;
        if matches!(last.name(), b"" | b"." | b"..") {
            return Err(Errno::EEXIST.into());
        }
        if walk.dir.is_deleted() {
            return Err(Errno::ENOENT.into());
        }
        if let Child::Present(_) = walk.known(&last)? {
            return Err(Errno::EEXIST.into());
        }
        let slash = last.slash && !directory;
        let mut creation = Creation { walk, last };
        if slash {
            return Err(creation.refuse(Errno::ENOENT));
        }
        if let Err(failure) = creation.walk.dir.sb().check_writable() {
            return Err(creation.refuse(failure.errno()));
        }
        Ok(creation)
    }

    /// W on the parent.
    fn check_parent(&mut self, cx: &Context<'_>) -> Res<()> {
        check_change_names(cx, &self.walk.dir).map_err(|failure| self.refuse(failure.errno()))
    }

    /// The error for a name that cannot be made because of `errno`: that it exists comes first.
    fn refuse(&mut self, errno: Errno) -> Failure {
        match self.walk.look_up(&self.last) {
            Ok(Some(_)) => Errno::EEXIST.into(),
            Ok(None) => errno.into(),
            Err(failure) => failure,
        }
    }

    /// Asks the server with the directory locked, and puts what it made into the tree.
    fn finish(
        &self,
        links: i64,
        origin: Origin,
        cx: &Context<'_>,
        ask: impl FnOnce(&Node, Name<'_>) -> Res<Option<Found>>,
    ) -> Res<Option<Node>> {
        let dir = &self.walk.dir;
        let name = Name::new(self.last.name())?;
        let _names = lock_to_create(cx, dir, name)?;
        let before = dir.inode().about_to_count();
        match ask(dir, name) {
            Ok(found) => Ok(enter(dir, name, found, origin, (links, before))),
            Err(failure) => {
                if failure.is_uncertain() {
                    dir.sb().distrust_name(dir, name.as_bytes(), None);
                } else if failure.errno() == Errno::EEXIST {
                    dir.forget_absent(name.as_bytes());
                }
                Err(failure)
            }
        }
    }
}

/// Locks the names of `dir`; `ENOENT` if it was removed, `EEXIST` if the name appeared.
pub(crate) fn lock_to_create<'d>(
    cx: &Context<'_>,
    dir: &'d Node,
    name: Name<'_>,
) -> Res<WriteGuard<'d, ()>> {
    let Some(directory) = dir.directory() else {
        return Err(Errno::ENOTDIR.into());
    };
    let names = directory.names.write();
    if dir.is_deleted() {
        return Err(Errno::ENOENT.into());
    }
    let present = match dir.child(name.as_bytes()) {
        Child::Present(_) => dir.sb().mode.may_cache_metadata(),
        Child::Absent => false,
        // The server is going to tell, unless its answer may be lost.
        Child::Unknown => dir.sb().looks_first() && fetch_locked(cx, dir, &[name])?.is_some(),
    };
    if present {
        return Err(Errno::EEXIST.into());
    }
    Ok(names)
}

/// Puts a file that was made into the tree; the directory's names are locked, and it has so many
/// directories more than `before`. `None` if the
/// server did not name it, or in a way that makes no sense: it exists all the same, and a later
/// lookup will tell.
pub(crate) fn enter(
    dir: &Node,
    name: Name<'_>,
    found: Option<Found>,
    origin: Origin,
    (links, before): (i64, Before),
) -> Option<Node> {
    let sb = dir.sb();
    sb.touch_names(dir, links, before);
    dir.forget_absent(name.as_bytes());
    dir.notify_name(EventMask::CREATE, name.as_bytes(), links > 0);
    let found = found?;
    let inode = match sb.inodes.adopt(sb, found.key, found.attr, origin) {
        Ok(inode) => inode?,
        Err(errno) => {
            tracing::warn!(%errno, "the server made a file and described it badly");
            return None;
        }
    };
    let node = Node::new(Some(dir), name.as_bytes(), inode, found.file);
    if let Ok(Some(replaced)) = dir.publish(name.as_bytes(), &node, |_| true) {
        replaced.invalidate_below();
    }
    if node.is_synthetic() {
        sb.synthetics.hold(&node);
    }
    Some(node)
}
