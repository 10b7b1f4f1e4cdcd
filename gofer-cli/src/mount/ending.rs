//! How the process behind a mount ended, told to whoever unmounts it.
//!
//! The process listens on an abstract Unix socket that is named after the mount's device number
//! and the time. No other mount of this machine has the number, but a process whose mount is
//! gone, and its number used again, may still have something to write: of those with a number the
//! newest is meant. `umount` connects to it before it unmounts. When everything has been written,
//! or could not be, the process says so to all who connected; its end closes the connection.

use std::io::{self, Read, Write};
use std::os::fd::IntoRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{major, minor};
use rustix::net::sockopt::socket_peercred;
use rustix::time::{ClockId, clock_gettime};

use crate::error::{CliError, CliResult};
use crate::exit::Exit;

/// The first line of what is said when all went well.
const WELL: &str = "ended\n";

/// How long `umount` waits. Longer than a mount takes to give up on a server that does not answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest text that is taken from a peer.
const TEXT_MAX: u64 = 4096;

/// The process's side.
pub struct Ending(UnixListener);

impl Ending {
    /// Listens for those who will unmount what is mounted on `path`.
    pub fn announce(path: &Path) -> io::Result<Ending> {
        let device = std::fs::metadata(path)?.dev();
        let now = clock_gettime(ClockId::Boottime);
        let prefix = prefix(major(device), minor(device));
        let name = format!("{prefix}{:020}.{:09}", now.tv_sec, now.tv_nsec);
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
        listener.set_nonblocking(true)?;
        Ok(Ending(listener))
    }

    /// Says how it ended. Right before the process ends.
    pub fn tell(self, outcome: &CliResult<()>) {
        let text = match outcome {
            Ok(()) => WELL.to_owned(),
            Err(error) => format!("{error}\n"),
        };
        while let Ok((mut peer, _)) = self.0.accept() {
            // Small enough for the socket: a peer that does not read holds up nobody.
            if peer.set_nonblocking(true).is_ok() {
                let _ = peer.write_all(text.as_bytes());
            }
            // Closed by the end of the process, and not before.
            let _ = peer.into_raw_fd();
        }
    }
}

/// How the names of processes begin whose mount has this device number.
fn prefix(major: u32, minor: u32) -> String {
    format!("gofer-mount-{major}:{minor}-")
}

/// The names of sockets in a `/proc/net/unix` that begin with `prefix`, the newest first.
fn names(table: &[u8], prefix: &str) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.rsplit(|byte| *byte == b' ').next()?.strip_prefix(b"@"))
        .filter(|name| name.starts_with(prefix.as_bytes()))
        .map(<[u8]>::to_vec)
        .collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    // One line for the listener, and one for each connection.
    names.dedup();
    names
}

/// The side of `umount`.
pub struct Wait(UnixStream);

impl Wait {
    /// Finds the process behind the mount on `path`. `None` if it has none that can be asked: it
    /// is gone, or the mount is somebody else's.
    pub fn for_mount(path: &Path) -> Option<Wait> {
        let table = std::fs::read("/proc/self/mountinfo").ok()?;
        // Does not ask the mount, which may be dead.
        let path = path.canonicalize().ok()?;
        let mount = find(&table, path.as_os_str().as_bytes())?;
        let sockets = std::fs::read("/proc/net/unix").ok()?;
        let names = names(&sockets, &prefix(mount.major, mount.minor));
        names.into_iter().find_map(|name| {
            let address = SocketAddr::from_abstract_name(name).ok()?;
            let stream = UnixStream::connect_addr(&address).ok()?;
            // Anybody may take a name; the process runs as the user who mounted.
            let peer = socket_peercred(&stream).ok()?;
            (peer.uid.as_raw() == mount.user).then_some(Wait(stream))
        })
    }

    /// Waits until the process has ended. An error if something could not be written.
    pub fn wait(self, path: &Path) -> CliResult<()> {
        let failed = |what: &str| {
            let text = format!("umount {}: unmounted, but {what}", path.display());
            Err(CliError::new(Exit::Mount, text))
        };
        let mut said = Vec::new();
        match read_to_end(self.0, &mut said) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let hint = "another mount namespace may use it";
                return failed("its process goes on").map_err(|error| error.hint(hint));
            }
            Err(error) => return failed(&format!("its process was lost: {error}")),
        }
        match String::from_utf8_lossy(&said).trim_end() {
            "" => failed("its process ended before everything was written"),
            text if text == WELL.trim_end() => Ok(()),
            text => failed(text),
        }
    }
}

/// Reads all that is said, for [`PATIENCE`] at most.
fn read_to_end(mut from: UnixStream, said: &mut Vec<u8>) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 512];
    while (said.len() as u64) < TEXT_MAX {
        let left = deadline.saturating_duration_since(Instant::now());
        from.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => said.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What `/proc/self/mountinfo` says of a mount.
#[derive(PartialEq, Eq, Debug)]
struct Mounted {
    major: u32,
    minor: u32,
    /// Who mounted it.
    user: u32,
}

/// The FUSE mount on `path` that is on top of the others.
fn find(table: &[u8], path: &[u8]) -> Option<Mounted> {
    let lines = table.split(|byte| *byte == b'\n').rev();
    let top = lines
        .map(|line| line.split(|byte| *byte == b' ').collect::<Vec<_>>())
        .find(|fields| fields.get(4).is_some_and(|on| unescaped(on) == path))?;
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let device = text(top.get(2)?);
    let (major, minor) = device.split_once(':')?;
    let options = text(top.last()?);
    let user = options
        .split(',')
        .find_map(|option| option.strip_prefix("user_id="))?;
    Some(Mounted {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        user: user.parse().ok()?,
    })
}

/// Without the kernel's `\040` and the like.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, more)) = rest.split_first() {
        let code = more
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.unwrap_or(*first));
        rest = match code {
            Some(_) => more.get(3..).unwrap_or_default(),
            None => more,
        };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
90 22 0:50 / /a\\040b rw,nosuid shared:2 - fuse.gofer /srv rw,user_id=0,group_id=0\n\
91 90 0:51 / /a\\040b rw,nosuid - fuse.gofer /srv\\134x rw,user_id=1000,group_id=7\n";

    #[test]
    fn the_mount_on_top_is_found() {
        let found = find(TABLE, b"/a b").unwrap();
        let expected = Mounted {
            major: 0,
            minor: 51,
            user: 1000,
        };
        assert_eq!(found, expected);
        // Not FUSE, and nothing at all.
        assert_eq!(find(TABLE, b"/"), None);
        assert_eq!(find(TABLE, b"/a"), None);
    }

    #[test]
    fn the_newest_process_of_a_number_is_asked() {
        let table = b"\
Num       RefCount Protocol Flags    Type St Inode Path\n\
0000000000000000: 00000002 00000000 00010000 0001 01 4100 @gofer-mount-0:51-00000000000000000009.100000000\n\
0000000000000000: 00000002 00000000 00010000 0001 01 4101 @gofer-mount-0:51-00000000000000000010.000000001\n\
0000000000000000: 00000003 00000000 00000000 0001 03 4102 @gofer-mount-0:51-00000000000000000010.000000001\n\
0000000000000000: 00000002 00000000 00010000 0001 01 4103 @gofer-mount-0:5-00000000000000000011.000000000\n\
0000000000000000: 00000002 00000000 00010000 0001 01 4104 /run/gofer-mount-0:51-\n\
0000000000000000: 00000003 00000000 00000000 0001 03 4105\n";
        let expected = ["10.000000001", "09.100000000"]
            .map(|end| format!("gofer-mount-0:51-000000000000000000{end}").into_bytes());
        assert_eq!(names(table, &prefix(0, 51)), expected);
        assert!(names(table, &prefix(0, 52)).is_empty());
    }

    #[test]
    fn escapes_of_the_kernel_are_undone() {
        for (given, plain) in [
            (&b"a\\040b\\134"[..], &b"a b\\"[..]),
            (b"\\", b"\\"),
            (b"\\9", b"\\9"),
        ] {
            assert_eq!(unescaped(given), plain);
        }
    }
}
