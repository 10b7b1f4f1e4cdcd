//! Attaching to a mount point and leaving it: as root with mount(2), else through fusermount3.

use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gofer_vfs::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::FdFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::options::{FuseOptions, Share};

/// The kernel's end.
const DEVICE: &str = "/dev/fuse";

/// What hands a user the descriptor of a mount.
const HELPER: &str = "fusermount3";

/// Why a file system could not be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum MountError {
    #[error("{}: {source}", path.display())]
    MountPoint { path: PathBuf, source: io::Error },
    #[error("{DEVICE} cannot be opened: {0}")]
    NoDevice(io::Error),
    #[error("mount on {}: {source}", path.display())]
    Refused { path: PathBuf, source: io::Error },
    #[error("{HELPER} cannot be started: {0}")]
    NoHelper(io::Error),
    #[error("{HELPER}: {0}")]
    Helper(String),
    #[error("talking to the kernel: {0}")]
    Kernel(#[from] io::Error),
}

impl MountError {
    /// The error number; `EIO` where there is none.
    pub fn errno(&self) -> Errno {
        match self {
            MountError::MountPoint { source, .. } | MountError::Refused { source, .. } => {
                Errno::from(source)
            }
            MountError::NoDevice(source)
            | MountError::NoHelper(source)
            | MountError::Kernel(source) => Errno::from(source),
            MountError::Helper(_) => Errno::EPERM,
        }
    }
}

/// How to leave a mount point that is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detach {
    /// Not at all: `EBUSY`.
    IfIdle,
    /// At once; whoever uses it goes on until it is done.
    Lazily,
}

/// A place where a tree is mounted.
#[derive(Debug)]
pub struct Mountpoint {
    path: PathBuf,
    device: OwnedFd,
}

impl Mountpoint {
    /// Mounts a tree whose root is, or is not, a `directory` on `path`. Blocks while the helper
    /// runs, for users who are not root.
    ///
    /// # Errors
    /// See [`MountError`]; `ENOTDIR` if one is a directory and the other is not.
    pub fn attach(
        path: &Path,
        directory: bool,
        options: &FuseOptions,
    ) -> Result<Mountpoint, MountError> {
        let wrong = |source| MountError::MountPoint {
            path: path.to_owned(),
            source,
        };
        let path = path.canonicalize().map_err(wrong)?;
        let wrong = |source| MountError::MountPoint {
            path: path.clone(),
            source,
        };
        let metadata = std::fs::metadata(&path).map_err(wrong)?;
        if metadata.is_dir() != directory {
            // The kernel takes the type from the path and finds out later, which helps nobody.
            return Err(wrong(rustix::io::Errno::NOTDIR.into()));
        }
        let device = match mount_directly(&path, &metadata, options)? {
            Some(device) => device,
            None => mount_with_helper(&path, options)?,
        };
        Ok(Mountpoint { path, device })
    }

    /// Where it is, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another descriptor of the kernel's end, for whoever answers its requests.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn device(&self) -> io::Result<OwnedFd> {
        self.device.try_clone()
    }

    /// Whether it is mounted still, anywhere: somebody else may have unmounted it, and mounted
    /// something else on the same path.
    pub fn is_attached(&self) -> bool {
        let mut fds = [PollFd::new(&self.device, PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match poll(&mut fds, Some(&now)) {
            Ok(0) => true,
            Ok(_) => !fds.iter().any(|fd| fd.revents().contains(PollFlags::ERR)),
            Err(_) => true,
        }
    }

    /// Unmounts, if that was not done yet.
    ///
    /// # Errors
    /// `EBUSY` if it is in use and `how` says to leave it then.
    pub fn detach(&self, how: Detach) -> Result<(), MountError> {
        if !self.is_attached() {
            return Ok(());
        }
        unmount(&self.path, how)
    }
}

/// Unmounts whatever is on `path`, a mount whose server is gone as well.
///
/// # Errors
/// `EBUSY` if it is in use and `how` says to leave it then; `EINVAL` if nothing is mounted there.
pub fn unmount(path: &Path, how: Detach) -> Result<(), MountError> {
    let flags = match how {
        Detach::IfIdle => MntFlags::UMOUNT_NOFOLLOW,
        Detach::Lazily => MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH,
    };
    match umount2(path, flags) {
        Ok(()) => Ok(()),
        Err(nix::errno::Errno::EPERM) => {
            let mut helper = Command::new(HELPER);
            helper.arg("-u");
            if how == Detach::Lazily {
                helper.arg("-z");
            }
            let output = helper
                .arg("--")
                .arg(path)
                .stdin(Stdio::null())
                .output()
                .map_err(MountError::NoHelper)?;
            match output.status.success() {
                true => Ok(()),
                false => Err(helper_failed(&output.stderr)),
            }
        }
        Err(errno) => Err(MountError::Refused {
            path: path.to_owned(),
            source: errno.into(),
        }),
    }
}

fn helper_failed(said: &[u8]) -> MountError {
    let text = String::from_utf8_lossy(said);
    let text = text.trim();
    let text = text.strip_prefix("fusermount3: ").unwrap_or(text);
    MountError::Helper(text.to_owned())
}

fn open_device() -> io::Result<File> {
    File::options().read(true).write(true).open(DEVICE)
}

/// Whether a thread can have an end of the kernel's device of its own: some systems let only root
/// open that.
pub(crate) fn can_open_device() -> bool {
    open_device().is_ok()
}

/// As root. `None`: the kernel does not let us.
fn mount_directly(
    path: &Path,
    metadata: &std::fs::Metadata,
    options: &FuseOptions,
) -> Result<Option<OwnedFd>, MountError> {
    let device = match open_device() {
        Ok(device) => device,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(MountError::NoDevice(error)),
    };
    let mut data = format!(
        "fd={},rootmode={:o},user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        metadata.mode() & 0o170000,
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    if options.share != Share::Owner {
        data.push_str(",allow_other");
    }
    let mut flags = MsFlags::empty();
    for (flag, wanted) in [
        (MsFlags::MS_RDONLY, options.readonly),
        (MsFlags::MS_NOSUID, !options.suid),
        (MsFlags::MS_NODEV, !options.dev),
        (MsFlags::MS_NOEXEC, !options.exec),
        (MsFlags::MS_NOATIME, options.noatime),
        (MsFlags::MS_DIRSYNC, options.dirsync),
        (MsFlags::MS_SYNCHRONOUS, options.sync),
    ] {
        flags.set(flag, wanted);
    }
    let fs_type = format!("fuse.{}", options.subtype);
    let mounted = nix::mount::mount(
        Some(options.fsname.as_str()),
        path,
        Some(fs_type.as_str()),
        flags,
        Some(data.as_str()),
    );
    match mounted {
        Ok(()) => Ok(Some(device.into())),
        Err(nix::errno::Errno::EPERM) => Ok(None),
        Err(errno) => Err(MountError::Refused {
            path: path.to_owned(),
            source: errno.into(),
        }),
    }
}

/// As an ordinary user.
fn mount_with_helper(path: &Path, options: &FuseOptions) -> Result<OwnedFd, MountError> {
    let (ours, theirs) = UnixStream::pair()?;
    // The helper finds it by its number.
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).map_err(io::Error::from)?;
    let mut child = Command::new(HELPER)
        .arg("-o")
        .arg(helper_options(options))
        .arg("--")
        .arg(path)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(MountError::NoHelper)?;
    drop(theirs);
    let device = receive_descriptor(&ours)?;
    drop(ours);
    let mut said = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_end(&mut said)?;
    }
    let status = child.wait()?;
    match device {
        Some(device) if status.success() => Ok(device),
        _ => Err(helper_failed(&said)),
    }
}

fn helper_options(options: &FuseOptions) -> String {
    let mut words = vec![
        "default_permissions".to_owned(),
        format!("fsname={}", options.fsname),
        format!("subtype={}", options.subtype),
    ];
    for (word, wanted) in [
        ("allow_other", options.share != Share::Owner),
        ("ro", options.readonly),
        ("suid", options.suid),
        ("dev", options.dev),
        ("noexec", !options.exec),
        ("noatime", options.noatime),
        ("dirsync", options.dirsync),
        ("sync", options.sync),
    ] {
        if wanted {
            words.push(word.to_owned());
        }
    }
    words.join(",")
}

/// The descriptor the helper sends; `None` if it ends without.
fn receive_descriptor(from: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    loop {
        let received = recvmsg(
            from.as_fd(),
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        );
        match received {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(descriptors.flatten().next())
}
