//! FUSE requests as operations on nodes.

mod calls;
mod locks;
mod set_id;

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fuser::{
    FileHandle, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyWrite, ReplyXattr, Request, WriteFlags,
};
use gofer_vfs::{
    Caps, Context, Credentials, DirectoryEntry, Errno, File, FileType, Name, Node, OpenFlags,
    SetAttr,
};

use gofer_vfs::permissions::{S_ISGID, S_ISUID};

use crate::convert;
use crate::files::Files;
use crate::nodes::Nodes;
use crate::policy::Policy;
use crate::requests::{Requests, Waits};
use crate::trim::Trimmer;
use crate::untold::Untold;

type Reply<T> = Result<T, fuser::Errno>;

/// Numbers are not used for another file while the kernel knows them.
const GENERATION: Generation = Generation(0);

/// What a kernel knows of one mounted tree.
pub(crate) struct Adapter {
    pub(crate) fs: gofer_vfs::Filesystem,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) files: Files,
    pub(crate) untold: Arc<Untold>,
    policy: Policy,
    /// To tell the kernel something it has not asked for; set when the mount begins.
    pub(crate) kernel: Arc<OnceLock<fuser::Notifier>>,
    /// Shared with those who wait for locks.
    requests: Arc<Requests>,
}

/// Whoever sent a request.
#[derive(Clone, Copy)]
struct Caller {
    uid: u32,
    gid: u32,
    thread: u32,
}

impl Caller {
    fn of(request: &Request) -> Caller {
        Caller {
            uid: request.uid(),
            gid: request.gid(),
            thread: request.pid(),
        }
    }

    /// Runs an operation on its behalf.
    fn run<T>(
        self,
        requests: &Requests,
        waits: Waits,
        work: impl FnOnce(&Context<'_>) -> Reply<T>,
    ) -> Reply<T> {
        // See the crate: the kernel has checked what the caller may do.
        let creds = Credentials {
            uid: self.uid,
            gid: self.gid,
            groups: Vec::new(),
            caps: Caps::all(),
        };
        let underway = requests
            .begin(self.thread, waits)
            .map_err(fuser::Errno::from)?;
        let cx = Context {
            cancel: Some(underway.cancel()),
            ..Context::new(&creds)
        };
        work(&cx)
    }
}

impl Adapter {
    pub(crate) fn new(
        fs: gofer_vfs::Filesystem,
        policy: Policy,
        trimmer: Trimmer,
    ) -> std::io::Result<Adapter> {
        Ok(Adapter {
            nodes: Arc::new(Nodes::new(fs.root(), trimmer)),
            fs,
            files: Files::default(),
            untold: Arc::default(),
            policy,
            kernel: Arc::default(),
            requests: Arc::new(Requests::new()?),
        })
    }

    /// Runs an operation on behalf of whoever sent `request`.
    fn run<T>(
        &self,
        request: &Request,
        work: impl FnOnce(&Context<'_>) -> gofer_vfs::Result<T>,
    ) -> Reply<T> {
        self.run_with(request, |cx| work(cx).map_err(convert::error))
    }

    fn run_with<T>(
        &self,
        request: &Request,
        work: impl FnOnce(&Context<'_>) -> Reply<T>,
    ) -> Reply<T> {
        Caller::of(request).run(&self.requests, Waits::Deadly, work)
    }

    /// Runs an operation on a file that the kernel knows.
    fn on_node<T>(
        &self,
        request: &Request,
        number: INodeNo,
        work: impl FnOnce(&Context<'_>, &Node) -> gofer_vfs::Result<T>,
    ) -> Reply<T> {
        let node = self.node(number)?;
        self.run(request, |cx| work(cx, &node))
    }

    /// Runs an operation on an open file.
    fn on_file<T>(
        &self,
        request: &Request,
        handle: FileHandle,
        work: impl FnOnce(&Context<'_>, &File) -> gofer_vfs::Result<T>,
    ) -> Reply<T> {
        let file = self.file(handle)?;
        self.run(request, |cx| work(cx, &file))
    }

    fn write_file(
        &self,
        request: &Request,
        (number, handle): (INodeNo, FileHandle),
        data: &[u8],
        offset: u64,
        flags: WriteFlags,
    ) -> Reply<usize> {
        let file = self.file(handle)?;
        // Pages of a mapping come through any open file, also one that appends.
        if flags.contains(WriteFlags::FUSE_WRITE_CACHE) {
            return self.run(request, |cx| {
                let written = file.write_back_at(cx, data, offset);
                written.inspect_err(|error| {
                    if self.files.was_closed(handle) {
                        self.untold.note(error.errno().raw());
                    }
                })
            });
        }
        let takes = flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        self.change_content(request, (number, file.node()), takes, |cx| {
            file.write_at(cx, data, offset)
        })
    }

    fn set_attr(
        &self,
        request: &Request,
        number: INodeNo,
        handle: Option<FileHandle>,
        mut set: SetAttr,
    ) -> Reply<fuser::FileAttr> {
        let file = handle.and_then(|handle| self.files.get(handle));
        let node = match &file {
            Some(file) => file.node().clone(),
            None => self.node(number)?,
        };
        let takes = set.size.is_some() && set.mode.is_none() && self.takes_set_id(request);
        set.mode = self.run_with(request, |cx| self.mode_of_new_owner(cx, &node, &set))?;
        self.change_content(request, (number, &node), takes, |cx| match &file {
            Some(file) => file.set_attr(cx, &set),
            None => self.fs.set_attr_node(cx, &node, &set),
        })?;
        self.run_with(request, |cx| self.attr(cx, number))
    }

    fn node(&self, number: INodeNo) -> Reply<Node> {
        self.nodes.get(number.0).ok_or(fuser::Errno::ESTALE)
    }

    fn file(&self, handle: FileHandle) -> Reply<Arc<File>> {
        self.files.get(handle).ok_or(fuser::Errno::EBADF)
    }

    /// What the kernel is told of a node it looked up or made.
    fn entry(&self, cx: &Context<'_>, node: Node) -> Reply<fuser::FileAttr> {
        // A lookup in shared mode has just brought the attributes.
        let stat = self.fs.known_stat_node(cx, &node).map_err(convert::error)?;
        let number = self.nodes.enter(node);
        Ok(convert::attr(number, &stat.attr))
    }

    /// What the kernel is told of a node that was just made.
    fn made(&self, cx: &Context<'_>, node: Node) -> Reply<fuser::FileAttr> {
        self.give_to_maker(cx, &node);
        self.entry(cx, node)
    }

    /// A server that cannot be told who makes a file makes it as whoever attached: it is given
    /// to its maker afterwards, where the server may do that. New files keep the bits of their
    /// mode that another owner costs.
    fn give_to_maker(&self, cx: &Context<'_>, node: &Node) {
        if self.fs.capabilities().owner_on_create {
            return;
        }
        let given = self.fs.known_stat_node(cx, node).and_then(|stat| {
            if stat.attr.uid == cx.creds.uid {
                return Ok(());
            }
            let owner = SetAttr {
                uid: Some(cx.creds.uid),
                ..SetAttr::default()
            };
            self.fs.set_attr_node(cx, node, &owner)?;
            let mode = stat.attr.mode;
            if mode & (S_ISUID | S_ISGID) == 0 || node.file_type() == FileType::Directory {
                return Ok(());
            }
            let mode = SetAttr {
                mode: Some(mode),
                ..SetAttr::default()
            };
            self.fs.set_attr_node(cx, node, &mode)
        });
        if let Err(error) = given {
            tracing::debug!(%error, "a new file stays with whom the server made it as");
        }
    }

    fn reply_entry(&self, reply: ReplyEntry, entry: Reply<fuser::FileAttr>) {
        match entry {
            Ok(attr) => {
                let (entry, attributes) = (self.policy.entry, self.policy.attr);
                reply.entry_with_ttls(&attributes, &entry, &attr, GENERATION);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn reply_attr(&self, reply: ReplyAttr, attr: Reply<fuser::FileAttr>) {
        match attr {
            Ok(attr) => reply.attr(&self.policy.attr, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    /// Attributes of a file under the number the kernel knows it by; the root shows its own.
    fn attr(&self, cx: &Context<'_>, number: INodeNo) -> Reply<fuser::FileAttr> {
        let node = self.node(number)?;
        let stat = self.fs.stat_node(cx, &node).map_err(convert::error)?;
        let shown = match number {
            INodeNo::ROOT => stat.ino,
            INodeNo(number) => number,
        };
        Ok(convert::attr(shown, &stat.attr))
    }

    fn open_node(&self, request: &Request, number: INodeNo, flags: i32) -> Reply<File> {
        let flags = OpenFlags::from_bits_truncate(flags as u32) - OpenFlags::CREAT;
        let node = self.node(number)?;
        self.run(request, |cx| self.fs.open_node(cx, &node, flags))
    }

    /// Takes in a file, for the kernel to use.
    fn opened(&self, file: File) -> (FileHandle, FopenFlags) {
        let writes = file.flags().access_bits() != 0;
        (self.files.add(file), self.policy.open_flags(writes))
    }

    fn close(&self, request: &Request, handle: FileHandle) -> Reply<()> {
        let file = self.files.remove(handle).ok_or(fuser::Errno::EBADF)?;
        match Arc::try_unwrap(file) {
            Ok(file) => self.run(request, |cx| file.close(cx)),
            // A request that is still under way drops it.
            Err(_) => Ok(()),
        }
    }
}

fn empty(reply: ReplyEmpty, done: Reply<()>) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn permissions(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

impl Adapter {
    /// Adds an entry to a listing with attributes; true when it is full.
    ///
    /// fuser cannot list an entry without attributes here. One whose file cannot be looked up
    /// gets a number that leads nowhere and that is not trusted: who uses it looks it up again,
    /// and is told why that fails.
    fn add_plus(
        &self,
        cx: &Context<'_>,
        dir: &Node,
        entry: &DirectoryEntry<'_>,
        reply: &mut ReplyDirectoryPlus,
    ) -> bool {
        let found = match Name::new(entry.name) {
            Ok(name) => match self.fs.lookup(cx, dir, name) {
                Ok(node) => self.entry(cx, node),
                // Removed since the listing was taken.
                Err(error) if error.errno() == Errno::ENOENT => return false,
                Err(error) => Err(convert::error(error)),
            },
            // `.` and `..`, which the kernel does not look at.
            Err(errno) => Err(convert::errno(errno)),
        };
        let (counted, time) = match found {
            Ok(_) => (true, self.policy.entry),
            Err(_) => (false, Duration::ZERO),
        };
        let attr = found.unwrap_or_else(|_| {
            let dots = matches!(entry.name, b"." | b"..");
            let number = if dots {
                entry.ino
            } else {
                self.nodes.nowhere()
            };
            convert::no_file(number, entry.file_type.unwrap_or(FileType::Regular))
        });
        let full = reply.add(
            INodeNo(entry.ino),
            entry.next,
            OsStr::from_bytes(entry.name),
            &time,
            &attr,
            GENERATION,
        );
        if full && counted {
            self.nodes.forget(attr.ino.0, 1);
        }
        full
    }
}

fn flow(full: bool) -> ControlFlow<()> {
    match full {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// Replies how many bytes went.
fn reply_written(reply: ReplyWrite, written: Reply<u64>) {
    match written {
        Ok(n) => reply.written(u32::try_from(n).unwrap_or(u32::MAX)),
        Err(errno) => reply.error(errno),
    }
}

/// Replies to a question that may be about the size only.
fn reply_sized(reply: ReplyXattr, size: u32, value: Reply<Vec<u8>>) {
    match value {
        Err(errno) => reply.error(errno),
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(convert::errno(Errno::ERANGE)),
        Ok(value) => reply.data(&value),
    }
}

/// Lends this thread's buffer, at least `size` bytes long.
fn with_buffer<T>(size: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    thread_local! {
        static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < size {
            buffer.resize(size, 0);
        }
        work(buffer.get_mut(..size).unwrap_or_default())
    })
}
