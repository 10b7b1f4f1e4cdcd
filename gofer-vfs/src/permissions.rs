//! Who may do what (semantics 12). Pure functions of credentials and attributes.
//!
//! The server usually runs with other credentials than the caller and may refuse more; nothing
//! here relies on it refusing anything. Ids are those of the server: every id counts as mapped.

use crate::attr::{Attr, FileType, SetAttr, SetTime};
use crate::error::Errno;
use crate::flags::OpenFlags;
use crate::remote::Owner;

bitflags::bitflags! {
    /// The Linux capabilities that matter to files.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Caps: u32 {
        /// Ignore permission bits, but for executing what nobody may execute.
        const DAC_OVERRIDE = 1;
        /// Read any file, read and search any directory.
        const DAC_READ_SEARCH = 1 << 1;
        /// Act as the owner of any file.
        const FOWNER = 1 << 2;
        /// Give files away.
        const CHOWN = 1 << 3;
        /// Keep set-user-ID and set-group-ID bits where they would be dropped.
        const FSETID = 1 << 4;
        /// Administer: `trusted.*` attributes.
        const SYS_ADMIN = 1 << 5;
    }

    /// What is wanted of a file; the numbers of `access(2)`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct AccessMask: u16 {
        /// Execute a file, search a directory.
        const EXECUTE = 1;
        /// Write a file, change the names in a directory.
        const WRITE = 2;
        /// Read a file, list a directory.
        const READ = 4;
    }
}

/// Set-user-ID bit of a mode.
pub const S_ISUID: u16 = 0o4000;
/// Set-group-ID bit of a mode.
pub const S_ISGID: u16 = 0o2000;
/// Sticky bit of a mode.
pub const S_ISVTX: u16 = 0o1000;
/// Execute bit of the group in a mode.
pub const S_IXGRP: u16 = 0o010;

/// On whose behalf an operation runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credentials {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Effective capabilities.
    pub caps: Caps,
}

impl Credentials {
    /// User and group 0 with every capability.
    pub fn root() -> Credentials {
        Credentials::user(0, 0, Vec::new())
    }

    /// A user; has every capability if and only if it is user 0.
    pub fn user(uid: u32, gid: u32, groups: Vec<u32>) -> Credentials {
        let caps = if uid == 0 { Caps::all() } else { Caps::empty() };
        Credentials {
            uid,
            gid,
            groups,
            caps,
        }
    }

    /// Whether `gid` is the effective or a supplementary group.
    pub fn in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    fn has(&self, cap: Caps) -> bool {
        self.caps.contains(cap)
    }

    fn owns_as(&self, attr: &Attr, cap: Caps) -> bool {
        self.uid == attr.uid || self.has(cap)
    }
}

/// Whether `creds` may act as the owner of the file (12.2).
pub fn acts_as_owner(creds: &Credentials, attr: &Attr) -> bool {
    creds.owns_as(attr, Caps::FOWNER)
}

/// Whether all of `want` is granted (12.1); `EACCES` when not.
///
/// Exactly one triplet of the mode counts: the owner's, the group's or the others'.
pub fn check_access(creds: &Credentials, attr: &Attr, want: AccessMask) -> Result<(), Errno> {
    let shift = if creds.uid == attr.uid {
        6
    } else if creds.in_group(attr.gid) {
        3
    } else {
        0
    };
    let granted = AccessMask::from_bits_truncate((attr.mode >> shift) & 7);
    if granted.contains(want) || capability_grants(creds, attr, want) {
        Ok(())
    } else {
        Err(Errno::EACCES)
    }
}

fn capability_grants(creds: &Credentials, attr: &Attr, want: AccessMask) -> bool {
    let directory = attr.file_type == FileType::Directory;
    let reads = if directory {
        !want.contains(AccessMask::WRITE)
    } else {
        want == AccessMask::READ
    };
    let nobody_executes = attr.mode & 0o111 == 0;
    let overrides = directory || !(want.contains(AccessMask::EXECUTE) && nobody_executes);
    (reads && creds.has(Caps::DAC_READ_SEARCH)) || (overrides && creds.has(Caps::DAC_OVERRIDE))
}

/// What opening an existing file with `flags` needs (10.6). Access mode 3 needs both.
pub fn access_to_open(flags: OpenFlags) -> AccessMask {
    let mut want = match flags.access_bits() {
        0 => AccessMask::READ,
        1 => AccessMask::WRITE,
        _ => AccessMask::READ | AccessMask::WRITE,
    };
    if flags.contains(OpenFlags::TRUNC) {
        want |= AccessMask::WRITE;
    }
    want
}

/// Whether `access(2)` for writing fails with `EROFS` on a read-only mount for this type (12.5):
/// devices, fifos and sockets do not write to the mount.
pub fn readonly_forbids(file_type: FileType) -> bool {
    matches!(
        file_type,
        FileType::Regular | FileType::Directory | FileType::Symlink
    )
}

/// Hard-link protection (12.3): others than the owner may link only what they could also copy
/// and what gains them no identity. `EPERM`.
pub fn check_link(creds: &Credentials, attr: &Attr) -> Result<(), Errno> {
    if acts_as_owner(creds, attr) {
        return Ok(());
    }
    let runs_as_group = attr.mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP;
    let safe = attr.file_type == FileType::Regular
        && attr.mode & S_ISUID == 0
        && !runs_as_group
        && check_access(creds, attr, AccessMask::READ | AccessMask::WRITE).is_ok();
    if safe { Ok(()) } else { Err(Errno::EPERM) }
}

/// The sticky rule (12.4): who may take a name of `child` out of `dir`, by removing it, renaming
/// it or renaming over it. `EPERM`.
pub fn check_sticky(creds: &Credentials, dir: &Attr, child: &Attr) -> Result<(), Errno> {
    let free = dir.mode & S_ISVTX == 0
        || creds.uid == child.uid
        || creds.uid == dir.uid
        || creds.has(Caps::FOWNER);
    if free { Ok(()) } else { Err(Errno::EPERM) }
}

/// Owner and mode of a new file in `parent` (7.1, 7.3): a set-group-ID directory hands down its
/// group, and to directories the bit itself.
///
/// A new file that would run as a group its maker is no member of loses that bit, as on Linux.
pub fn new_file(creds: &Credentials, parent: &Attr, directory: bool, mode: u16) -> (Owner, u16) {
    let inherits = parent.mode & S_ISGID != 0;
    let gid = if inherits { parent.gid } else { creds.gid };
    let mode = match (directory, inherits) {
        (true, true) => mode | S_ISGID,
        (false, true) if runs_as_foreign_group(creds, mode, gid) => mode & !S_ISGID,
        _ => mode,
    };
    let owner = Owner {
        uid: Some(creds.uid),
        gid: Some(gid),
    };
    (owner, mode)
}

fn runs_as_foreign_group(creds: &Credentials, mode: u16, gid: u32) -> bool {
    mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP
        && !creds.in_group(gid)
        && !creds.has(Caps::FSETID)
}

/// What a change of attributes is checked against besides the file.
#[derive(Clone, Copy, Debug)]
pub struct SetAttrSetting {
    /// The mount is read-only.
    pub readonly: bool,
    /// A new size needs write permission: true by path, false through a descriptor that was
    /// opened for writing.
    pub size_needs_write: bool,
    /// The largest size the caller may give a file (`RLIMIT_FSIZE`), in bytes.
    pub file_size_limit: u64,
}

/// Whether `creds` may make the changes `set` to a file (12.6, 13.5).
///
/// The checks come in the order of Linux (semantics 24, item 73): type, read-only mount, write
/// permission, file-size limit, owner, group, mode, times. An empty `set` is always allowed.
pub fn check_set_attr(
    creds: &Credentials,
    attr: &Attr,
    set: &SetAttr,
    setting: SetAttrSetting,
) -> Result<(), Errno> {
    if set.mask().is_empty() {
        return Ok(());
    }
    match (set.size, attr.file_type) {
        (None, _) | (Some(_), FileType::Regular) => {}
        (Some(_), FileType::Directory) => return Err(Errno::EISDIR),
        (Some(_), _) => return Err(Errno::EINVAL),
    }
    if setting.readonly {
        return Err(Errno::EROFS);
    }
    if set.size.is_some() && setting.size_needs_write {
        check_access(creds, attr, AccessMask::WRITE)?;
    }
    let owner_like = acts_as_owner(creds, attr);
    if is_touch(set) && !owner_like {
        check_access(creds, attr, AccessMask::WRITE)?;
    }
    if set.mode.is_some() && attr.file_type == FileType::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    if set.size.is_some_and(|size| size > setting.file_size_limit) {
        return Err(Errno::EFBIG);
    }
    check_new_owner(creds, attr, set)?;
    let sets_times = set.atime.is_some() || set.mtime.is_some();
    if !owner_like && (set.mode.is_some() || (sets_times && !is_touch(set))) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Both times to now, and nothing but that kind of time: what anybody who may write may do.
/// Linux asks for the owner when only one of the two is set.
fn is_touch(set: &SetAttr) -> bool {
    set.atime == Some(SetTime::Now) && set.mtime == Some(SetTime::Now)
}

fn check_new_owner(creds: &Credentials, attr: &Attr, set: &SetAttr) -> Result<(), Errno> {
    if creds.has(Caps::CHOWN) {
        return Ok(());
    }
    let owner = creds.uid == attr.uid;
    let uid_ok = set.uid.is_none_or(|uid| owner && uid == attr.uid);
    let gid_ok = set
        .gid
        .is_none_or(|gid| owner && (gid == attr.gid || creds.in_group(gid)));
    if uid_ok && gid_ok {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// The mode to send along with `set`, if any (13.5.7, 12.6): what the caller asked for, or the
/// present one, less the bits that a new owner, a new size or a foreign group takes away.
///
/// A new owner always costs the bits; a new size only callers without `FSETID`.
pub fn mode_to_set(creds: &Credentials, attr: &Attr, set: &SetAttr) -> Option<u16> {
    let mut mode = set.mode.unwrap_or(attr.mode) & 0o7777;
    if set.mode.is_some()
        && !creds.in_group(set.gid.unwrap_or(attr.gid))
        && !creds.has(Caps::FSETID)
    {
        mode &= !S_ISGID;
    }
    let new_owner =
        set.uid.is_some_and(|uid| uid != attr.uid) || set.gid.is_some_and(|gid| gid != attr.gid);
    let new_size = set.size.is_some() && !creds.has(Caps::FSETID);
    if attr.file_type != FileType::Directory && (new_owner || new_size) {
        mode = without_privileges(mode);
    }
    (set.mode.is_some() || mode != attr.mode).then_some(mode)
}

/// The mode a regular file takes on when `creds` has written to it, if that is another one
/// (15.5.11).
pub fn mode_after_write(creds: &Credentials, attr: &Attr) -> Option<u16> {
    let mode = without_privileges(attr.mode);
    let drops =
        attr.file_type == FileType::Regular && mode != attr.mode && !creds.has(Caps::FSETID);
    drops.then_some(mode)
}

/// Set-group-ID without group-execute is no privilege: it once meant mandatory locking.
fn without_privileges(mode: u16) -> u16 {
    let mut mode = mode & !S_ISUID;
    if mode & S_IXGRP != 0 {
        mode &= !S_ISGID;
    }
    mode
}

#[cfg(test)]
mod tests;
