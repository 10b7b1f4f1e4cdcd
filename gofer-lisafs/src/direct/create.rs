//! Making files: make it, find it, give it its owner and mode; take it away again on failure.

use std::sync::Arc;

use gofer_vfs::remote::{Found, New, Owner, RemoteError, RemoteHandle, RemoteResult};
use gofer_vfs::{Access, Attr, Device, Errno, FileType, Name};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, makedev};

use super::file::DirectFile;
use super::handle::DirectHandle;
use super::host::{self, refused};
use super::{attr, xattr};

/// As `RemoteFile::create`. Whatever happens to the name meanwhile, file and handle are those of
/// the file that was made.
pub(super) fn create(
    dir: &DirectFile,
    name: Name<'_>,
    perm: u16,
    owner: Owner,
    access: Access,
) -> RemoteResult<(Found, Arc<dyn RemoteHandle>)> {
    let flags = OFlags::from_bits_retain(access.bits())
        | OFlags::CREATE
        | OFlags::EXCL
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let fd = rustix::io::retry_on_intr(|| {
        rustix::fs::openat(&dir.fd, name.as_bytes(), flags, bits(perm))
    })
    .map_err(refused)?;
    let made = host::place_of(&fd)
        .map_err(refused)
        .and_then(|place| DirectFile::look(&dir.tree, place));
    let (file, attr) = match made {
        Ok(made) => made,
        Err(error) => {
            undo(dir, name, attr::look(host::stat(&fd)).map(|(key, _)| key));
            return Err(error);
        }
    };
    let handle = DirectHandle::new(&file, fd, access);
    let found = settle(dir, name, (file, attr), perm, owner)?;
    Ok((found, Arc::new(handle)))
}

/// As `RemoteFile::make`.
pub(super) fn make(
    dir: &DirectFile,
    name: Name<'_>,
    new: New<'_>,
    perm: u16,
    owner: Owner,
) -> RemoteResult<Found> {
    let file_type = make_entry(dir, name, new, perm).map_err(refused)?;
    let fd = host::lookup(&dir.fd, name).map_err(refused)?;
    let (file, attr) = DirectFile::look(&dir.tree, fd)?;
    if file.file_type != file_type {
        // Somebody put another file there: it is not ours to touch.
        return Err(RemoteError::refused(Errno::EAGAIN));
    }
    settle(dir, name, (file, attr), perm, owner)
}

fn make_entry(dir: &DirectFile, name: Name<'_>, new: New<'_>, perm: u16) -> host::Result<FileType> {
    let node = |file_type: FileType, device: Device| {
        let kind = rustix::fs::FileType::from_raw_mode(file_type.mode_bits());
        let device = makedev(device.major, device.minor);
        rustix::fs::mknodat(&dir.fd, name.as_bytes(), kind, bits(perm), device)?;
        Ok(file_type)
    };
    match new {
        New::Dir => {
            rustix::fs::mkdirat(&dir.fd, name.as_bytes(), bits(perm))?;
            Ok(FileType::Directory)
        }
        New::Symlink(target) => {
            rustix::fs::symlinkat(target, &dir.fd, name.as_bytes())?;
            Ok(FileType::Symlink)
        }
        New::Regular => node(FileType::Regular, Device::default()),
        New::Fifo => node(FileType::Fifo, Device::default()),
        New::Socket => node(FileType::Socket, Device::default()),
        New::Char(device) => node(FileType::CharDevice, device),
        New::Block(device) => node(FileType::BlockDevice, device),
    }
}

fn bits(perm: u16) -> Mode {
    Mode::from_raw_mode(u32::from(perm & 0o7777))
}

/// Gives a file that was just made under `name` its owner and its mode, or removes it.
fn settle(
    dir: &DirectFile,
    name: Name<'_>,
    (file, attr): (DirectFile, Attr),
    perm: u16,
    owner: Owner,
) -> RemoteResult<Found> {
    let settled = adjust(dir, &file, &attr, perm, owner).and_then(|changed| match changed {
        true => attr::look(host::stat(&file.fd)).map(|(_, attr)| attr),
        false => Ok(attr),
    });
    match settled {
        Ok(attr) => Ok(Arc::new(file).as_found(attr)),
        Err(error) => {
            undo(dir, name, Ok(file.key));
            Err(error)
        }
    }
}

/// Sets what the host did not make as it was asked for; whether there was anything.
fn adjust(
    dir: &DirectFile,
    file: &DirectFile,
    attr: &Attr,
    perm: u16,
    owner: Owner,
) -> RemoteResult<bool> {
    let owner = Owner {
        uid: owner.uid.filter(|uid| *uid != attr.uid),
        gid: owner.gid.filter(|gid| *gid != attr.gid),
    };
    let given_away = owner != Owner::default();
    if given_away {
        // The host gives no descriptor of what it makes. Somebody else's file must not be given
        // away because it was put under the name meanwhile.
        let ours = attr.uid == rustix::process::geteuid().as_raw();
        let one_name = attr.nlink == 1 || attr.file_type == FileType::Directory;
        if !ours || !one_name {
            return Err(RemoteError::refused(Errno::EAGAIN));
        }
        attr::set_owner(file, owner).map_err(refused)?;
    }
    if attr.file_type == FileType::Symlink {
        return Ok(given_away);
    }
    // mkdir(2) does not take these bits; of other files the host takes them with the owner.
    let perm = match attr.file_type {
        FileType::Directory => perm & 0o1777,
        _ => perm & 0o7777,
    };
    let lost = given_away && perm & 0o6000 != 0;
    let masked = perm & !attr.mode & 0o777 != 0 && !xattr::has_default_acl(dir);
    if lost || masked {
        attr::set_mode(file, perm | attr.mode & 0o7000).map_err(refused)?;
    }
    Ok(given_away || masked)
}

/// Removes what a failed creation left under `name`, if it is still that. The first error is the
/// one to report.
fn undo(dir: &DirectFile, name: Name<'_>, made: RemoteResult<gofer_vfs::remote::FileKey>) {
    let there = attr::look(host::stat_at(&dir.fd, name));
    if let (Ok(made), Ok((key, attr))) = (made, there)
        && key == made
    {
        let flags = match attr.file_type {
            FileType::Directory => AtFlags::REMOVEDIR,
            _ => AtFlags::empty(),
        };
        let _ = rustix::fs::unlinkat(&dir.fd, name.as_bytes(), flags);
    }
}

/// As `RemoteFile::link`. `None` when somebody changed the name meanwhile.
pub(super) fn link(
    dir: &DirectFile,
    name: Name<'_>,
    target: &DirectFile,
) -> RemoteResult<Option<Found>> {
    // The magic link leads to the file itself, also where that is a symbolic link.
    let path = host::magic_path(&target.fd);
    let follow = AtFlags::SYMLINK_FOLLOW;
    rustix::fs::linkat(CWD, path, &dir.fd, name.as_bytes(), follow).map_err(refused)?;
    let found = host::lookup(&dir.fd, name)
        .map_err(refused)
        .and_then(|fd| DirectFile::found(&dir.tree, fd));
    Ok(found.ok().filter(|found| found.key == target.key))
}
