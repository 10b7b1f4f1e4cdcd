//! The connected tree as commands see it: a current directory, credentials, a way to give up.

use std::ffi::OsString;
use std::ops::{ControlFlow, Deref};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::builder::{OsStringValueParser, TryMapValueParser, TypedValueParser, ValueParserFactory};
use gofer_transport::Cancel;
use gofer_vfs::error::printable;
use gofer_vfs::remote::{Call, RemoteFilesystem};
use gofer_vfs::{
    At, Context, Credentials, Errno, FileType, Filesystem, Follow, MountPoint, Node, OpenFlags,
    Result, Stat, Verify,
};

use crate::error::{CliError, CliResult, Tally};
use crate::exit::Exit;
use crate::target::{Again, Connection, Kept};
use crate::ui::Ui;

/// A path argument: any bytes, but not none.
#[derive(Clone, Debug)]
pub struct PathArg(Vec<u8>);

impl Deref for PathArg {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl PathArg {
    /// The path as a local one.
    pub fn local(&self) -> &std::path::Path {
        use std::os::unix::ffi::OsStrExt;
        std::path::Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }
}

impl From<&[u8]> for PathArg {
    fn from(bytes: &[u8]) -> PathArg {
        PathArg(bytes.to_vec())
    }
}

type PathResult = std::result::Result<PathArg, &'static str>;

impl ValueParserFactory for PathArg {
    type Parser = TryMapValueParser<OsStringValueParser, fn(OsString) -> PathResult>;

    fn value_parser() -> Self::Parser {
        // An empty path must not come to mean the current directory: think of `rm -r "$UNSET"`.
        let parse: fn(OsString) -> PathResult = |path| match path.into_vec() {
            path if path.is_empty() => Err("a path cannot be empty"),
            path if path.contains(&0) => Err("a path cannot contain a zero byte"),
            path => Ok(PathArg(path)),
        };
        OsStringValueParser::new().try_map(parse)
    }
}

/// An entry of a directory.
pub struct Entry {
    /// Its name.
    pub name: Vec<u8>,
    /// Its inode number.
    pub ino: u64,
    /// Its type, where the server lists types.
    pub file_type: Option<FileType>,
}

/// A mounted tree, and who looks at it from where.
pub struct Client {
    /// The tree.
    pub fs: Filesystem,
    /// The current directory.
    pub cwd: Node,
    /// The directory before the last `cd`.
    pub previous: Option<Node>,
    /// On whose behalf commands act.
    pub creds: Credentials,
    /// Bits taken from the mode of what is made.
    pub umask: u16,
    /// Set by Ctrl-C.
    pub cancel: Arc<Cancel>,
    /// What the prompt calls the tree.
    pub label: String,
    remote: Arc<dyn RemoteFilesystem>,
    server: Option<Child>,
    host_root: Option<PathBuf>,
    again: Again,
    /// Further trees that are mounted in this one, in the order they were.
    mounted: Vec<Connection>,
}

impl Client {
    /// Stands in the root of `connection`.
    pub fn new(connection: Connection, creds: Credentials, cancel: Arc<Cancel>) -> Client {
        Client {
            cwd: connection.fs.root(),
            previous: None,
            fs: connection.fs,
            creds,
            umask: process_umask(),
            cancel,
            label: connection.label,
            remote: connection.remote,
            server: connection.server,
            host_root: connection.host_root,
            again: connection.again,
            mounted: Vec::new(),
        }
    }

    /// What goes with every operation.
    pub fn cx(&self) -> Context<'_> {
        Context {
            cancel: Some(&self.cancel),
            ..Context::new(&self.creds)
        }
    }

    /// `path` from the current directory.
    pub fn at<'a>(&'a self, path: &'a [u8]) -> At<'a> {
        At::new(&self.cwd, path)
    }

    /// `mode` without the bits of the umask.
    pub fn masked(&self, mode: u16) -> u16 {
        mode & !self.umask
    }

    /// Attributes of what `path` leads to.
    pub fn stat(&self, path: &[u8]) -> Result<Stat> {
        self.fs.stat(&self.cx(), self.at(path), Follow::Yes)
    }

    /// Attributes of `path` itself, which may be a link.
    pub fn lstat(&self, path: &[u8]) -> Result<Stat> {
        self.fs.stat(&self.cx(), self.at(path), Follow::No)
    }

    /// Whether `path` leads to a directory.
    pub fn is_dir(&self, path: &[u8]) -> bool {
        self.stat(path)
            .is_ok_and(|stat| stat.attr.file_type == FileType::Directory)
    }

    /// All entries of a directory, in the server's order, with `.` and `..` on request.
    pub fn list(&self, at: At<'_>, dots: bool) -> Result<Vec<Entry>> {
        let cx = self.cx();
        let dir = self
            .fs
            .open(&cx, at, OpenFlags::RDONLY | OpenFlags::DIRECTORY, 0)?;
        let mut entries = Vec::new();
        dir.read_dir(&cx, &mut |entry| {
            if dots || !matches!(entry.name, b"." | b"..") {
                entries.push(Entry {
                    name: entry.name.to_vec(),
                    ino: entry.ino,
                    file_type: entry.file_type,
                });
            }
            ControlFlow::Continue(())
        })?;
        Ok(entries)
    }

    /// Fails once Ctrl-C was pressed. For loops that do not ask the server.
    pub fn check_cancel(&self) -> CliResult<()> {
        match self.cancel.is_set() {
            true => Err(CliError::interrupted()),
            false => Ok(()),
        }
    }

    /// Says of an error what only the connection knows: that it is gone, that the user gave up,
    /// who it was that had no permission.
    pub fn explain(&self, error: CliError) -> CliError {
        if error.exit() != Exit::Failed || error.is_told() {
            return error;
        }
        match error.errno() {
            Some(Errno::EINTR | Errno::ECANCELED) if self.cancel.is_set() => {
                CliError::interrupted()
            }
            Some(Errno::EACCES | Errno::EPERM) => {
                let Credentials {
                    uid, gid, groups, ..
                } = &self.creds;
                error.hint(match groups.as_slice() {
                    [] => format!("this ran as uid {uid}, gid {gid}"),
                    groups => format!("this ran as uid {uid}, gid {gid}, groups {groups:?}"),
                })
            }
            Some(Errno::EIO | Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN)
                if self.is_lost() =>
            {
                error
                    .with_exit(Exit::Lost)
                    .hint("the connection to the server is lost")
            }
            _ => error,
        }
    }

    /// Counts a result into `tally` and shows its error, unless going on makes no sense.
    pub fn note(&self, ui: &Ui, tally: &mut Tally, result: CliResult<()>) -> CliResult<()> {
        let result = result.map_err(|error| self.explain(error));
        tally.note(result, |error| ui.error(error))
    }

    /// Where the remote `path` (absolute) is on this machine, if the server was started for us
    /// and serves the whole of its directory.
    pub fn host_path(&self, path: &[u8]) -> Option<PathBuf> {
        let root = self
            .host_root
            .as_ref()
            .filter(|_| self.fs.options().aname == b"/")?;
        let covers = |mount: &MountPoint| {
            let rest = path.strip_prefix(&*mount.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        if self.fs.mounts().iter().any(covers) {
            return None;
        }
        let below = path.strip_prefix(b"/").unwrap_or(path);
        Some(root.join(OsString::from_vec(below.to_vec())))
    }

    /// Mounts another tree on `path`.
    pub fn mount(&mut self, path: &[u8], other: Connection) -> CliResult<()> {
        let done = self.fs.mount_at(&self.cx(), self.at(path), &other.fs);
        match done {
            Ok(()) => {
                self.mounted.push(other);
                Ok(())
            }
            Err(error) => {
                let _ = self.end(other);
                Err(error.into())
            }
        }
    }

    /// Takes the tree that is mounted on `path` out and ends its connection.
    pub fn umount(&mut self, path: &[u8]) -> CliResult<()> {
        let take_out = |client: &Client| client.fs.unmount_at(&client.cx(), client.at(path));
        let mut taken = take_out(self);
        if matches!(&taken, Err(error) if error.errno() == Errno::EBUSY) {
            // Where `cd -` leads is no use of it.
            self.previous = None;
            taken = take_out(self);
        }
        let fs = taken.map_err(|error| match error.errno() {
            Errno::EBUSY => CliError::from(error)
                .hint("this directory, an open file, a lock or another mount is in it"),
            _ => error.into(),
        })?;
        let root = fs.root();
        let at = self.mounted.iter().position(|one| one.fs.root() == root);
        match at {
            Some(at) => {
                let connection = self.mounted.remove(at);
                self.end(connection)
            }
            None => Ok(()),
        }
    }

    /// What the tree `fs` is called, which is mounted in this one.
    pub fn label_of(&self, fs: &Filesystem) -> String {
        let root = fs.root();
        let mut mounted = self.mounted.iter();
        let found = mounted.find(|one| one.fs.root() == root);
        found.map_or_else(String::new, |one| one.label.clone())
    }

    /// Writes a further tree back and ends its connection, and the server started for it.
    fn end(&self, mut connection: Connection) -> CliResult<()> {
        let (fs, remote) = (&connection.fs, &connection.remote);
        end(&self.cx(), fs, remote, &mut connection.server)
    }

    /// For commands that wait for something else: an error once the server is gone for good. One
    /// that is only slow is not. Costs a round trip.
    pub fn check_connection(&self, op: &'static str) -> CliResult<()> {
        match self.silence() {
            Some(Errno::EIO) if self.fs.options().reconnect == 0 => {
                Err(gofer_vfs::Error::new(op, Errno::EIO).into())
            }
            _ => Ok(()),
        }
    }

    /// Whether the server no longer answers.
    fn is_lost(&self) -> bool {
        matches!(self.silence(), Some(Errno::EIO | Errno::ETIMEDOUT))
    }

    /// Why the server does not answer, if it does not.
    fn silence(&self) -> Option<Errno> {
        let call = Call {
            deadline: Some(Instant::now() + Duration::from_secs(2)),
            cancel: None,
        };
        self.remote.root(&call).err().map(|error| error.errno)
    }

    /// Restores an image over a new connection, which takes the place of the one there is.
    pub fn restore(&mut self, image: &[u8], verify: Verify) -> CliResult<Kept> {
        let (connection, kept) = self.again.restore(image, verify)?;
        let left = self.disconnect();
        self.cwd = connection.fs.root();
        self.previous = None;
        self.fs = connection.fs;
        self.label = connection.label;
        self.remote = connection.remote;
        self.server = connection.server;
        self.host_root = connection.host_root;
        left.map(|()| kept)
    }

    /// Writes everything back and ends the connection, and the server that was started for it.
    pub fn close(mut self) -> CliResult<()> {
        self.disconnect()
    }

    fn disconnect(&mut self) -> CliResult<()> {
        self.cancel.reset();
        let mut inner = Ok(());
        while let Some(connection) = self.mounted.pop() {
            inner = inner.and(self.end(connection));
        }
        let mut server = self.server.take();
        let ended = end(&self.cx(), &self.fs, &self.remote, &mut server);
        ended.map_err(|error| self.explain(error)).and(inner)
    }
}

/// Writes everything back and ends a connection, and the server that was started for it.
fn end(
    cx: &Context<'_>,
    fs: &Filesystem,
    remote: &Arc<dyn RemoteFilesystem>,
    server: &mut Option<Child>,
) -> CliResult<()> {
    let unmounted = fs.unmount(cx);
    remote.shutdown();
    if let Some(server) = server {
        wait_for(server);
    }
    Ok(unmounted?)
}

/// Waits for the server to notice that the connection is gone, but not for ever.
fn wait_for(server: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        match server.try_wait() {
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            _ => return,
        }
    }
    let _ = server.kill();
    let _ = server.wait();
}

/// The umask of this process. Reading it means setting it, so this is for start-up.
fn process_umask() -> u16 {
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustix::process::umask(mask);
    (mask.as_raw_mode() & 0o777) as u16
}

/// `path` without slashes at its end, but for the root itself.
pub fn trim_slashes(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/');
    match end {
        Some(end) => &path[..=end],
        None => &path[..path.len().min(1)],
    }
}

/// The last name of `path`, to be used in another directory; `None` when it ends in `/`, `.` or
/// `..` and has none.
pub fn base_name(path: &[u8]) -> Option<&[u8]> {
    let name = trim_slashes(path).rsplit(|byte| *byte == b'/').next()?;
    (!matches!(name, b"" | b"." | b"..")).then_some(name)
}

/// `name` in `dir`, as text: `dir/name`.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = dir.to_vec();
    if !path.is_empty() && !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// `name` for a message.
pub fn show(name: &[u8]) -> String {
    printable(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_names_are_names_or_nothing() {
        for (path, name) in [
            ("a", Some("a")),
            ("/a/b", Some("b")),
            ("a/b//", Some("b")),
            ("/", None),
            (".", None),
            ("a/..", None),
        ] {
            assert_eq!(
                base_name(path.as_bytes()),
                name.map(str::as_bytes),
                "{path}"
            );
        }
        assert_eq!(trim_slashes(b"///"), b"/");
        assert_eq!(join(b"/", b"a"), b"/a");
        assert_eq!(join(b"", b"a"), b"a");
        assert_eq!(join(b"d", b"a"), b"d/a");
    }
}
