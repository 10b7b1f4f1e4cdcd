//! Extended attributes (semantics 14).

use crate::attr::FileType;
use crate::context::{At, Context, Follow};
use crate::dentry::Node;
use crate::error::{Errno, Result};
use crate::filesystem::Filesystem;
use crate::flags::XattrFlags;
use crate::metadata::Metadata;
use crate::notify::EventMask;
use crate::permissions::{AccessMask, S_ISVTX, acts_as_owner, check_access};
use crate::superblock::{Failure, Res};

/// The longest name of an attribute, in bytes, as in Linux.
const NAME_MAX: usize = 255;

/// The largest value, and the longest list of names, in bytes, as in Linux.
const SIZE_MAX: usize = 65536;

/// The only namespace that reaches the server.
const USER: &[u8] = b"user.";

/// Namespaces that are refused whoever asks (semantics 14.1).
const REFUSED: [&[u8]; 3] = [b"security.", b"system.", b"trusted."];

impl Filesystem {
    /// The value of an attribute. `size` is the caller's buffer, in bytes: a longer value is
    /// `ERANGE`; with 0 any value fits.
    ///
    /// `ENODATA` if there is none, `EACCES` without permission to read the file, `EOPNOTSUPP` for
    /// names that do not begin with `user.` and from servers without attributes, `ERANGE` for empty
    /// names and those of more than 255 bytes. Values are not cached.
    pub fn get_xattr(
        &self,
        cx: &Context<'_>,
        at: At<'_>,
        follow: Follow,
        name: &[u8],
        size: usize,
    ) -> Result<Vec<u8>> {
        self.run("getxattr", at.path, || {
            check_xattr_name(name)?;
            get(cx, &self.walk_to_end(cx, at, follow)?, name, size)
        })
    }

    /// Sets an attribute to a value of up to 65536 bytes (`E2BIG`). `EEXIST` and `ENODATA` as `flags`
    /// ask for; `EACCES` without permission to write the file; `EPERM` for what is neither a
    /// regular file nor a directory, and for sticky directories of others; names as of
    /// [`Filesystem::get_xattr`].
    pub fn set_xattr(
        &self,
        cx: &Context<'_>,
        at: At<'_>,
        follow: Follow,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<()> {
        self.run("setxattr", at.path, || {
            check_xattr(name, value, flags)?;
            set(cx, &self.walk_to_end(cx, at, follow)?, name, value, flags)
        })
    }

    /// The names of all attributes that [`Filesystem::get_xattr`] would give, sorted; none on a
    /// server without attributes. `E2BIG` for more than 65536 bytes of names.
    pub fn list_xattr(&self, cx: &Context<'_>, at: At<'_>, follow: Follow) -> Result<Vec<Vec<u8>>> {
        self.run("listxattr", at.path, || {
            list(cx, &self.walk_to_end(cx, at, follow)?)
        })
    }

    /// Removes an attribute; `ENODATA` if there is none, else as [`Filesystem::set_xattr`].
    pub fn remove_xattr(
        &self,
        cx: &Context<'_>,
        at: At<'_>,
        follow: Follow,
        name: &[u8],
    ) -> Result<()> {
        self.run("removexattr", at.path, || {
            check_xattr_name(name)?;
            remove(cx, &self.walk_to_end(cx, at, follow)?, name)
        })
    }
}

/// What is checked before the file is looked for, as Linux does.
pub(crate) fn check_xattr_name(name: &[u8]) -> Res<()> {
    if name.is_empty() || name.len() > NAME_MAX || name.contains(&0) {
        return Err(Errno::ERANGE.into());
    }
    Ok(())
}

/// As [`check_xattr_name`], of all that is to be set.
pub(crate) fn check_xattr(name: &[u8], value: &[u8], flags: XattrFlags) -> Res<()> {
    if !XattrFlags::all().contains(flags) {
        return Err(Errno::EINVAL.into());
    }
    check_xattr_name(name)?;
    if value.len() > SIZE_MAX {
        return Err(Errno::E2BIG.into());
    }
    Ok(())
}

/// Whether this node may have an attribute of this name, and the caller use it.
fn check(cx: &Context<'_>, node: &Node, name: &[u8], write: bool) -> Res<()> {
    let refused = REFUSED.iter().any(|start| name.starts_with(start));
    if refused {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let attr = node.inode().attr();
    let want = if write {
        AccessMask::WRITE
    } else {
        AccessMask::READ
    };
    if !name.starts_with(USER) {
        // Linux asks whether the caller may before it looks who knows the namespace.
        allow(cx, node, want)?;
        return Err(Errno::EOPNOTSUPP.into());
    }
    if !matches!(attr.file_type, FileType::Regular | FileType::Directory) {
        return Err(if write { Errno::EPERM } else { Errno::ENODATA }.into());
    }
    let sticky = attr.file_type == FileType::Directory && attr.mode & S_ISVTX != 0;
    if write && sticky && !acts_as_owner(cx.creds, &attr) {
        return Err(Errno::EPERM.into());
    }
    allow(cx, node, want)
}

/// In shared mode no refusal rests on old news.
fn allow(cx: &Context<'_>, node: &Node, want: AccessMask) -> Res<()> {
    let inode = node.inode();
    if check_access(cx.creds, &inode.attr(), want).is_ok() {
        return Ok(());
    }
    if node.sb().mode.must_revalidate() {
        inode.refresh(cx, &*node.remote(), None)?;
    }
    Ok(check_access(cx.creds, &inode.attr(), want)?)
}

/// See [`Filesystem::get_xattr`]. The name was checked.
pub(crate) fn get(cx: &Context<'_>, node: &Node, name: &[u8], size: usize) -> Res<Vec<u8>> {
    check(cx, node, name, false)?;
    let limit = size.min(SIZE_MAX);
    let value = node.remote().get_xattr(&cx.call(), name, limit)?;
    if size != 0 && value.len() > limit {
        let largest = limit == SIZE_MAX;
        return Err(if largest { Errno::E2BIG } else { Errno::ERANGE }.into());
    }
    Ok(value)
}

/// See [`Filesystem::set_xattr`]. What is to be set was checked.
pub(crate) fn set(
    cx: &Context<'_>,
    node: &Node,
    name: &[u8],
    value: &[u8],
    flags: XattrFlags,
) -> Res<()> {
    node.sb().check_writable()?;
    check(cx, node, name, true)?;
    changed(
        node,
        node.remote()
            .set_xattr(&cx.call(), name, value, flags)
            .map_err(Failure::from),
    )
}

/// See [`Filesystem::remove_xattr`]. The name was checked.
pub(crate) fn remove(cx: &Context<'_>, node: &Node, name: &[u8]) -> Res<()> {
    node.sb().check_writable()?;
    check(cx, node, name, true)?;
    changed(
        node,
        node.remote()
            .remove_xattr(&cx.call(), name)
            .map_err(Failure::from),
    )
}

/// A changed attribute changes the change time.
fn changed(node: &Node, outcome: Res<()>) -> Res<()> {
    outcome?;
    let now = node.sb().stamp();
    let touch = |meta: &mut Metadata| now.map(|now| meta.touch_ctime(now));
    node.inode().change(touch);
    node.notify(EventMask::ATTRIB);
    Ok(())
}

/// See [`Filesystem::list_xattr`].
pub(crate) fn list(cx: &Context<'_>, node: &Node) -> Res<Vec<Vec<u8>>> {
    let has_any = matches!(node.file_type(), FileType::Regular | FileType::Directory);
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut bytes = 0;
    let listed = node.remote().list_xattr(&cx.call(), &mut |name| {
        if has_any && name.starts_with(USER) && name.len() <= NAME_MAX {
            bytes += name.len() + 1;
            if bytes <= SIZE_MAX {
                names.push(name.to_vec());
            }
        }
    });
    match listed {
        Err(error) if error.errno == Errno::EOPNOTSUPP => return Ok(Vec::new()),
        listed => listed?,
    }
    if bytes > SIZE_MAX {
        return Err(Errno::E2BIG.into());
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}
