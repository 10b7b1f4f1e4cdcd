//! Extended attributes.

use gofer_vfs::{FileType, XattrFlags};
use rustix::buffer::spare_capacity;

use super::file::DirectFile;
use super::host::{self, Result, magic_path};

/// The whole value.
pub(super) fn get(file: &DirectFile, name: &[u8]) -> Result<Vec<u8>> {
    let path = magic_path(&file.fd);
    host::sized(|buffer| match buffer {
        None => rustix::fs::getxattr_query(&path, name),
        Some(buffer) => rustix::fs::getxattr(&path, name, spare_capacity(buffer)),
    })
}

/// Sets a value.
pub(super) fn set(file: &DirectFile, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
    let flags = rustix::fs::XattrFlags::from_bits_retain(flags.bits());
    rustix::fs::setxattr(magic_path(&file.fd), name, value, flags)
}

/// Emits each name.
pub(super) fn list(file: &DirectFile, each: &mut dyn FnMut(&[u8])) -> Result<()> {
    let path = magic_path(&file.fd);
    let names = host::sized(|buffer| match buffer {
        None => rustix::fs::listxattr_query(&path),
        Some(buffer) => rustix::fs::listxattr(&path, spare_capacity(buffer)),
    })?;
    names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .for_each(each);
    Ok(())
}

/// Removes one.
pub(super) fn remove(file: &DirectFile, name: &[u8]) -> Result<()> {
    rustix::fs::removexattr(magic_path(&file.fd), name)
}

/// Whether the modes of new files in `dir` come from an access list, and not from a umask.
pub(super) fn has_default_acl(dir: &DirectFile) -> bool {
    dir.file_type == FileType::Directory
        && rustix::fs::getxattr_query(magic_path(&dir.fd), c"system.posix_acl_default").is_ok()
}
