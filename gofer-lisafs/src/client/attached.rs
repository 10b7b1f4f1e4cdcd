//! The attached tree: [`RemoteFilesystem`] over a connection.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use gofer_vfs::remote::{
    Call, Capabilities, Fate, Found, Holdings, RemoteError, RemoteEvents, RemoteFilesystem,
    RemoteHandle, RemoteResult, Traffic, WalkEnd,
};
use gofer_vfs::{Errno, FileType, Name, RenameFlags};
use parking_lot::Mutex;

use super::connection::{Connection, Terms};
use super::file::ControlFile;
use super::handle::OpenFile;
use crate::wire::{FSyncReq, Fdid, Inode, Message, Mid, MountReq, PReadResp, PWriteReq};

/// A connection that has mounted, and where below the server's root the tree begins.
pub(super) struct Attached {
    connection: Arc<Connection>,
    aname: Vec<u8>,
    capabilities: Capabilities,
    /// What the Mount of [`Attached::new`] answered, for the first caller of `root`.
    mounted: Mutex<Option<Inode>>,
    /// The descriptor of the server's root that came with it, if the server gives it away.
    donated_root: Option<OwnedFd>,
}

impl Attached {
    /// Mounts, checks that there is something at `aname`, and opens up to `channels` channels.
    pub(super) fn new(
        connection: Arc<Connection>,
        aname: &[u8],
        channels: usize,
        call: &Call<'_>,
    ) -> RemoteResult<Attached> {
        let (mounted, donated_root) = connection.call(call, &MountReq {}, |response, fds| {
            if response.max_message_size == 0 {
                return Err(RemoteError::unknown(Errno::EIO));
            }
            connection.agree(Terms::new(&response));
            Ok((response.root, fds.pop()))
        })?;
        let mut attached = Attached {
            capabilities: capabilities(&connection),
            aname: Vec::new(),
            mounted: Mutex::new(Some(mounted)),
            donated_root,
            connection,
        };
        if aname.iter().any(|&byte| byte != b'/') {
            attached.aname = aname.to_vec();
            // Looked up again for whoever asks for the root; this only tells now whether it can.
            drop(attached.root(call)?);
        }
        attached.connection.open_channels(call, channels);
        match attached.connection.loss() {
            Some(_) => Err(RemoteError::unknown(Errno::EIO)),
            None => Ok(attached),
        }
    }

    /// The descriptor of the server's root, for whoever works on it directly.
    pub(super) fn take_donated_root(&mut self) -> Option<OwnedFd> {
        self.donated_root.take()
    }

    /// Sends Mount, or uses what it answered before.
    fn mount(&self, call: &Call<'_>) -> RemoteResult<Found> {
        let mounted = self.mounted.lock().take();
        match mounted {
            Some(root) => ControlFile::adopt(&self.connection, &root),
            None => self.connection.call(call, &MountReq {}, |response, _| {
                ControlFile::adopt(&self.connection, &response.root)
            }),
        }
    }
}

fn capabilities(connection: &Connection) -> Capabilities {
    let terms = connection.terms();
    let size = terms.max_message_size as usize;
    Capabilities {
        protocol: "lisafs".to_string(),
        rename_flags: match terms.supports(Mid::RENAME_AT2) {
            true => RenameFlags::all(),
            false => RenameFlags::empty(),
        },
        multi_walk: true,
        owner_on_create: true,
        locks: false,
        xattrs: terms.supports(Mid::FGET_XATTR),
        allocate: terms.supports(Mid::FALLOCATE),
        read_size_max: size.saturating_sub(PReadResp::MIN_SIZE),
        write_size_max: size.saturating_sub(PWriteReq::MIN_SIZE),
    }
}

impl RemoteFilesystem for Attached {
    /// Walks from the server's root to the attach name one step at a time, through directories
    /// only: a link could lead anywhere (semantics 24, defect 58).
    fn root(&self, call: &Call<'_>) -> RemoteResult<Found> {
        let mut at = self.mount(call)?;
        for part in self
            .aname
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
        {
            let name = Name::new(part).map_err(RemoteError::not_sent)?;
            let mut next = None;
            match at
                .file
                .walk(call, &[name], &mut |found| next = Some(found))?
            {
                WalkEnd::Complete => {}
                _ => return Err(RemoteError::refused(Errno::ENOENT)),
            }
            at = next.ok_or(RemoteError::unknown(Errno::EIO))?;
            if at.attr.file_type == FileType::Symlink {
                return Err(RemoteError::refused(Errno::ELOOP));
            }
        }
        Ok(at)
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn traffic(&self) -> Traffic {
        self.connection.traffic()
    }

    fn holdings(&self) -> Holdings {
        self.connection.closes.holdings()
    }

    /// All in one request; only when that fails one by one, to tell which (semantics 20.4).
    fn sync_all(
        &self,
        call: &Call<'_>,
        handles: &[Arc<dyn RemoteHandle>],
        done: &mut dyn FnMut(usize, RemoteResult<()>),
    ) {
        let mut ours: Vec<(usize, Fdid)> = Vec::with_capacity(handles.len());
        for (index, handle) in handles.iter().enumerate() {
            match OpenFile::of(&self.connection, handle.as_ref()) {
                Ok(handle) => ours.push((index, handle.fd())),
                Err(error) => done(index, Err(error)),
            }
        }
        let size = self.connection.terms().max_message_size as usize;
        let most = size.saturating_sub(FSyncReq::MIN_SIZE) / size_of::<Fdid>();
        let sync = |fds: &[Fdid]| self.connection.call(call, &FSyncReq { fds }, |_, _| Ok(()));
        for batch in ours.chunks(most.clamp(1, usize::from(u16::MAX))) {
            let fds: Vec<Fdid> = batch.iter().map(|(_, fd)| *fd).collect();
            let together = sync(&fds);
            for (index, fd) in batch {
                let result = match together {
                    Err(error) if batch.len() > 1 && error.fate == Fate::Refused => sync(&[*fd]),
                    all => all,
                };
                done(*index, result);
            }
        }
    }

    fn flush_closes(&self, call: &Call<'_>) -> RemoteResult<()> {
        self.connection.flush_closes(call)
    }

    fn subscribe(&self, sink: Weak<dyn RemoteEvents>) {
        self.connection.subscribe(sink);
    }

    fn shutdown(&self) {
        self.connection.shutdown();
    }
}
