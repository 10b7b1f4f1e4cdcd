//! Writing an image.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use super::Keep;
use super::image::{
    DATA_MAX, Head, Index, NOTIFIER_PART, Record, SavedDentry, SavedFile, SavedInode,
    SavedListener, Writer, socket_number, time,
};
use crate::attr::{Attr, AttrMask, FileType};
use crate::context::{At, Context, Follow};
use crate::dentry::{Node, evict_all};
use crate::error::{Errno, Error, Result};
use crate::file::File;
use crate::filesystem::Filesystem;
use crate::flags::Access;
use crate::handle::Handle;
use crate::inode::Inode;
use crate::metadata::complete;
use crate::notify::{Notifier, NotifierImage};
use crate::options::LockPlace;
use crate::permissions::Credentials;
use crate::superblock::Res;
use crate::times::{is_owed, send_now};

impl Filesystem {
    /// Writes an image of what is in use: `keep`, and the names on the way to it. Everything
    /// written is synced before, and the server told when; data that it does not take goes into the
    /// image. The filesystem goes on as it was; nobody may change it until this returns, or the
    /// image shows a mixture.
    ///
    /// A file that is in use and has no name any more is saved with its content. Fails with
    /// `EOPNOTSUPP` for what an image cannot hold: a file whose open name is gone while it has
    /// others that are not known here, a socket that is bound on the server, and a connection; with `EXDEV` for
    /// what is of another filesystem; with whatever a sync fails with, and what writing the image
    /// fails with.
    pub fn checkpoint(
        &self,
        cx: &Context<'_>,
        keep: &Keep<'_>,
        image: &mut dyn Write,
    ) -> Result<()> {
        let root = Credentials::root();
        let cx = Context {
            creds: &root,
            ..*cx
        };
        let nodes = keep.nodes.iter().map(|(_, node)| *node);
        let files = keep.files.iter().map(|(_, file)| file.node());
        let listeners = keep.listeners.iter().map(|(_, listener)| listener.node());
        let kept: Vec<&Node> = nodes.chain(files).chain(listeners).collect();
        if kept.iter().any(|node| !Arc::ptr_eq(node.sb(), self.sb())) {
            return Err(Error::new("checkpoint", Errno::EXDEV));
        }
        // A connection is to somebody who does not come back with it.
        let connected =
            |file: &File| file.node().file_type() == FileType::Socket && !file.is_path();
        if let Some((_, file)) = keep.files.iter().find(|(_, file)| connected(file)) {
            return Err(failed(&file.node().path(), Errno::EOPNOTSUPP));
        }
        let elsewhere = |one: &&(u64, &Notifier)| !Arc::ptr_eq(one.1.sb(), self.sb());
        if keep.notifiers.iter().any(|one| elsewhere(&one)) {
            return Err(Error::new("checkpoint", Errno::EXDEV));
        }
        let synced = self.sync(&cx);
        let unsent = |inode: &Arc<Inode>| {
            inode
                .cache()
                .is_some_and(|cache| !cache.unsent().is_empty())
        };
        if synced.is_err() && !self.sb().pages.files().iter().any(unsent) {
            synced?;
        }
        // Closing a file tells the server when it was written; that must not come after the image.
        let written = kept.iter().filter(|node| is_owed(node.inode()));
        send_now(written.map(|node| (*node).clone()).collect());
        let _others: Vec<Node> = kept
            .iter()
            .filter_map(|node| self.other_name(&cx, node))
            .collect();
        evict_all(self.sb(), false);
        let mut saving = Saving {
            fs: self,
            cx: &cx,
            dentries: Vec::new(),
            known: HashMap::new(),
            inodes: HashMap::new(),
            handles: own_handles(keep),
        };
        saving.look_again(&kept);
        saving.collect(&kept);
        saving.write(keep, image)
    }

    /// Of a file whose name is gone, another that is cached: by that it is found again.
    fn other_name(&self, cx: &Context<'_>, node: &Node) -> Option<Node> {
        if node.has_name() {
            return None;
        }
        let path = node.inode().live_path()?;
        let other = self.walk_to_end(cx, At::new(self.root_ref(), &path), Follow::No);
        other.ok().filter(|other| other.same_file(node))
    }
}

/// A node under its name.
struct Named {
    name: Vec<u8>,
    node: Node,
}

impl Named {
    fn new(node: Node) -> Named {
        let name = node.name();
        Named { name, node }
    }
}

/// Dentries in the order of the image: parents first.
struct Saving<'s> {
    fs: &'s Filesystem,
    cx: &'s Context<'s>,
    dentries: Vec<Node>,
    /// By the dentry's address, which does not go while its node is here.
    known: HashMap<usize, Index>,
    /// Likewise, and whether a name of it is among them.
    inodes: HashMap<usize, (Option<Index>, bool)>,
    /// A handle of each open file, one that reads where there is one.
    handles: HashMap<usize, Arc<Handle>>,
}

/// Handles that belong to descriptions, by the address of their inode.
fn own_handles(keep: &Keep<'_>) -> HashMap<usize, Arc<Handle>> {
    let mut handles: HashMap<usize, Arc<Handle>> = HashMap::new();
    for (_, file) in keep.files {
        if let Ok(handle) = file.reader() {
            let known = handles.get(&address(file.node().inode()));
            if known.is_none_or(|known| !known.access.can_read()) {
                handles.insert(address(file.node().inode()), handle);
            }
        }
    }
    handles
}

/// A queue of events in parts that are not too long for a record.
fn parts(mut image: NotifierImage) -> Vec<NotifierImage> {
    let mut all = Vec::new();
    loop {
        let watches = image.watches.len().min(NOTIFIER_PART);
        let events = image.events.len().min(NOTIFIER_PART);
        all.push(NotifierImage {
            watches: image.watches.drain(..watches).collect(),
            events: image.events.drain(..events).collect(),
        });
        if image.watches.is_empty() && image.events.is_empty() {
            return all;
        }
    }
}

fn failed(path: &[u8], errno: Errno) -> Error {
    Error::at("checkpoint", path, errno)
}

fn address(inode: &Arc<Inode>) -> usize {
    Arc::as_ptr(inode) as usize
}

impl Saving<'_> {
    /// Where others change the tree: cuts off what is not there any more.
    fn look_again(&self, kept: &[&Node]) {
        if !self.fs.sb().mode.must_revalidate() {
            return;
        }
        for node in kept.iter().filter(|node| node.has_name()) {
            let at = At::new(self.fs.root_ref(), &node.path()).path.to_vec();
            let at = At::new(self.fs.root_ref(), &at);
            // A failure is met again below.
            let _ = self.fs.walk_to_end(self.cx, at, Follow::No);
        }
    }

    /// Finds every dentry to be saved: what is in use of the tree, and what was cut off of it.
    fn collect(&mut self, kept: &[&Node]) {
        let mut left = vec![self.fs.root()];
        while let Some(node) = left.pop() {
            self.add(&node);
            // The same tree gives the same image.
            let children = node.children();
            let mut children: Vec<_> = children.into_iter().map(Named::new).collect();
            children.sort_by(|one, other| other.name.cmp(&one.name));
            left.extend(children.into_iter().map(|child| child.node));
        }
        for node in kept {
            let mut way = Vec::new();
            let mut at = Some((*node).clone());
            while let Some(node) = at
                && !self.known.contains_key(&node.address())
            {
                at = node.parent();
                way.push(node);
            }
            while let Some(node) = way.pop() {
                self.add(&node);
            }
        }
    }

    fn add(&mut self, node: &Node) {
        let named = node.has_name();
        self.known
            .insert(node.address(), self.dentries.len() as Index);
        let entry = self.inodes.entry(address(node.inode()));
        entry.or_insert((None, false)).1 |= named;
        self.dentries.push(node.clone());
    }

    fn write(mut self, keep: &Keep<'_>, image: &mut dyn Write) -> Result<()> {
        let broken = |error: std::io::Error| failed(b"", Errno::from(&error));
        let mut out = Writer::begin(image).map_err(broken)?;
        let sb = self.fs.sb().clone();
        let head = Head {
            protocol: &sb.capabilities.protocol,
            cache: sb.mode.name(),
            dfltuid: sb.options.dfltuid,
            dfltgid: sb.options.dfltgid,
            server_locks: sb.options.locks == LockPlace::Server,
            readonly: sb.flags.readonly,
            noatime: sb.flags.noatime,
            relatime: sb.flags.relatime,
            connect_sockets: sb.flags.connect_sockets,
        };
        out.put(&Record::Head(head)).map_err(broken)?;
        let mut inodes: Index = 0;
        for node in std::mem::take(&mut self.dentries) {
            let key = address(node.inode());
            let (index, named) = self.inodes.get(&key).copied().unwrap_or_default();
            let index = match index {
                Some(index) => index,
                None => {
                    self.write_inode(&mut out, &node, inodes, !named)?;
                    self.inodes.insert(key, (Some(inodes), named));
                    inodes += 1;
                    inodes - 1
                }
            };
            let parent = node.parent();
            let parent = parent.and_then(|parent| self.known.get(&parent.address()).copied());
            let name = node.name();
            let dentry = SavedDentry {
                parent,
                name: &name,
                inode: index,
                gone: !node.has_name(),
            };
            out.put(&Record::Dentry(dentry)).map_err(broken)?;
        }
        let index = |node: &Node| {
            let index = self.known.get(&node.address()).copied();
            index.ok_or_else(|| failed(&node.path(), Errno::EIO))
        };
        for (id, node) in keep.nodes {
            out.put(&Record::Node(*id, index(node)?)).map_err(broken)?;
        }
        for (id, file) in keep.files {
            let state = file.state(self.cx);
            let saved = SavedFile {
                id: *id,
                dentry: index(file.node())?,
                flags: file.flags().bits(),
                offset: state.offset,
                after: &state.after,
                wrote: state.wrote,
                error: state.error.map(Errno::raw),
                path: file.path(),
                drained: &state.drained,
                locks: state.locks,
            };
            out.put(&Record::File(saved)).map_err(broken)?;
        }
        for (id, notifier) in keep.notifiers {
            for part in parts(notifier.image()) {
                out.put(&Record::Notifier(*id, part)).map_err(broken)?;
            }
        }
        for (id, listener) in keep.listeners {
            let node = listener.node();
            let terms = listener.terms();
            let (kind, backlog) = terms.ok_or_else(|| failed(&node.path(), Errno::EOPNOTSUPP))?;
            let saved = SavedListener {
                id: *id,
                dentry: index(node)?,
                kind: socket_number(kind),
                backlog,
            };
            out.put(&Record::Listener(saved)).map_err(broken)?;
        }
        out.end().map_err(broken)
    }

    fn write_inode(
        &self,
        out: &mut Writer<'_>,
        node: &Node,
        index: Index,
        nameless: bool,
    ) -> Result<()> {
        let inode = node.inode();
        let fail = |errno| failed(&node.path(), errno);
        let server = self
            .ask(node, nameless)
            .map_err(|failure| fail(failure.errno()))?;
        if nameless && inode.file_type != FileType::Directory && server.nlink > 0 {
            return Err(fail(Errno::EOPNOTSUPP));
        }
        if nameless {
            // A sync leaves these out. What is left is in the image, below.
            let _ = inode.write_back(self.cx);
        }
        let (shown, known) = {
            let meta = inode.meta();
            (meta.attr(), meta.times_known())
        };
        let saved = SavedInode {
            file_type: inode.file_type.dirent_type(),
            ino: inode.ino,
            id: inode.key.id,
            mode: shown.mode,
            uid: shown.uid,
            gid: shown.gid,
            size: match nameless && inode.sb.mode.may_cache_metadata() {
                true => shown.size,
                false => server.size,
            },
            mtime: time(server.mtime),
            shown: [shown.atime, shown.mtime, shown.ctime].map(time),
            known,
            nameless,
            synthetic: node.is_synthetic(),
            rdev: (shown.rdev.major, shown.rdev.minor),
        };
        let broken = |error: std::io::Error| failed(b"", Errno::from(&error));
        out.put(&Record::Inode(saved)).map_err(broken)?;
        if nameless && inode.file_type == FileType::Regular {
            self.write_content(out, node, index, saved.size)?;
        }
        let content = match inode.file_type {
            FileType::Fifo if saved.synthetic => node.synthetic_content(),
            FileType::Symlink if nameless => self
                .fs
                .read_link_node(self.cx, node)
                .map_err(|error| fail(error.errno()))?,
            _ => Vec::new(),
        };
        if !content.is_empty() {
            let record = Record::Data(index, 0, &content);
            out.put(&record).map_err(broken)?;
        }
        self.write_unsent(out, node, index)
    }

    /// What waits to be written to the server and could not be.
    fn write_unsent(&self, out: &mut Writer<'_>, node: &Node, index: Index) -> Result<()> {
        let Some(cache) = node.inode().cache() else {
            return Ok(());
        };
        let mut buffer = vec![0; DATA_MAX];
        for range in cache.unsent() {
            let mut offset = range.start;
            while offset < range.end {
                let want = usize::try_from(range.end - offset).unwrap_or(usize::MAX);
                let room = buffer.len().min(want);
                let part = buffer.get_mut(..room).unwrap_or_default();
                let n = cache.peek(part, offset);
                if n == 0 {
                    break;
                }
                let record = Record::Data(index, offset, part.get(..n).unwrap_or_default());
                let broken = |error| failed(&node.path(), Errno::from(&error));
                out.put(&record).map_err(broken)?;
                offset += n as u64;
            }
        }
        Ok(())
    }

    /// What the server says now of a regular file, or of one without a name, which may have
    /// others; of the rest, what is known.
    fn ask(&self, node: &Node, nameless: bool) -> Res<Attr> {
        let inode = node.inode();
        let asks = match inode.file_type {
            FileType::Regular => true,
            FileType::Directory => false,
            _ => nameless && !node.is_synthetic(),
        };
        if !asks {
            return Ok(inode.attr());
        }
        let own = || self.handles.get(&address(inode)).cloned();
        let reply = match inode.any_handle().or_else(own) {
            Some(handle) => handle.attr(self.cx)?,
            None => node.remote().attr(&self.cx.call(), AttrMask::all())?,
        };
        let counts_links = reply.mask.contains(AttrMask::NLINK);
        let sb = node.sb();
        let mut attr = complete(reply, &sb.options, || sb.clock.now())?;
        if !counts_links {
            attr.nlink = 0;
        }
        Ok(attr)
    }

    /// The content of a file that only its users still have. Zeros are left out.
    fn write_content(
        &self,
        out: &mut Writer<'_>,
        node: &Node,
        index: Index,
        size: u64,
    ) -> Result<()> {
        let fail = |errno| failed(&node.path(), errno);
        let own = || self.handles.get(&address(node.inode())).cloned();
        let own = || own().filter(|handle| handle.access.can_read());
        let handle = match node.inode().reader().or_else(own) {
            Some(handle) => handle,
            None => Handle::open(node.sb(), self.cx, &*node.remote(), Access::Read, false)
                .map_err(|failure| fail(failure.errno()))?,
        };
        let mut buffer = vec![0; DATA_MAX];
        let mut offset = 0;
        while offset < size {
            let want = usize::try_from(size - offset).unwrap_or(usize::MAX);
            let room = buffer.len().min(want);
            let part = buffer.get_mut(..room).unwrap_or_default();
            let read = handle.read_at(self.cx, part, offset);
            let n = read.map_err(|failure| fail(failure.errno()))?;
            if n == 0 {
                break;
            }
            let part = part.get(..n).unwrap_or_default();
            if n > 0 && part.iter().any(|byte| *byte != 0) {
                let record = Record::Data(index, offset, part);
                out.put(&record)
                    .map_err(|error| fail(Errno::from(&error)))?;
            }
            offset += n as u64;
        }
        Ok(())
    }
}
