//! Tests of the engine against the in-memory server: what each operation costs in round trips,
//! which error wins, what the caches keep, and what survives races and faults.

mod admission;
mod answers;
mod arguments;
mod bounds;
mod budget;
mod cache;
mod faults;
mod file_model;
mod handles;
mod link_counts;
mod listing;
mod mounts;
mod order;
mod races;
mod reconnect;
mod saving;
mod schedules;
mod shared;
mod special;
mod staleness;

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::interop::InteropMode;
use crate::options::{Admission, MountOptions, Trans};
use crate::testing::mem_remote::{MemConfig, MemOutside, MemRemote, MemServer, Op};
use crate::testing::{Outside, TestClock};
use crate::{
    At, Attr, Context, Credentials, Errno, File, Filesystem, Follow, MountFlags, OpenFlags,
    RenameFlags, Result, SetAttr, Stat,
};

pub(crate) const EW: [InteropMode; 2] = [InteropMode::Exclusive, InteropMode::Writethrough];
pub(crate) const S: [InteropMode; 2] = [InteropMode::Shared, InteropMode::SharedPerHandle];

/// A server, one client of it, and shorthands.
pub(crate) struct Rig {
    pub(crate) server: MemServer,
    pub(crate) remote: MemRemote,
    pub(crate) outside: MemOutside,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) fs: Filesystem,
    pub(crate) creds: Credentials,
}

/// How a [`Rig`] differs from the usual.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) mode: InteropMode,
    pub(crate) limit: u64,
    pub(crate) reconnect: u32,
    pub(crate) access: Admission,
    /// Milliseconds.
    pub(crate) revalidate_after: u32,
    pub(crate) config: MemConfig,
    pub(crate) flags: MountFlags,
    pub(crate) creds: Credentials,
    pub(crate) page_cache_limit: u64,
    pub(crate) overlayfs_stale_read: bool,
    pub(crate) force_page_cache: bool,
    pub(crate) limit_host_fd_translation: bool,
}

impl Setup {
    pub(crate) fn new(mode: InteropMode) -> Setup {
        Setup {
            mode,
            limit: 1000,
            reconnect: 0,
            access: Admission::Any,
            revalidate_after: 0,
            config: MemConfig::like_lisafs(),
            flags: MountFlags::default(),
            creds: Credentials::root(),
            page_cache_limit: 256 << 20,
            overlayfs_stale_read: false,
            force_page_cache: false,
            limit_host_fd_translation: false,
        }
    }

    pub(crate) fn like_9p(mut self) -> Setup {
        self.config = MemConfig::like_9p();
        self
    }

    pub(crate) fn limit(mut self, limit: u64) -> Setup {
        self.limit = limit;
        self
    }

    pub(crate) fn reconnect(mut self, seconds: u32) -> Setup {
        self.reconnect = seconds;
        self
    }

    pub(crate) fn revalidate_after(mut self, milliseconds: u32) -> Setup {
        self.revalidate_after = milliseconds;
        self
    }

    pub(crate) fn readonly(mut self) -> Setup {
        self.flags.readonly = true;
        self
    }

    pub(crate) fn user(mut self, uid: u32) -> Setup {
        self.creds = Credentials::user(uid, uid, Vec::new());
        self
    }

    pub(crate) fn mount(self) -> Rig {
        self.mount_on(MemServer::new())
    }

    pub(crate) fn mount_on(self, server: MemServer) -> Rig {
        let remote = server.connect(self.config);
        let mut options = MountOptions::new(Trans::Fd { rfd: 0, wfd: 0 });
        options.cache = self.mode;
        options.dentry_cache_limit = self.limit;
        options.reconnect = self.reconnect;
        options.access = self.access;
        options.page_cache_limit = self.page_cache_limit;
        options.revalidate_after = self.revalidate_after;
        options.overlayfs_stale_read = self.overlayfs_stale_read;
        options.force_page_cache = self.force_page_cache;
        options.limit_host_fd_translation = self.limit_host_fd_translation;
        let clock = Arc::new(TestClock::at(2_000_000_000));
        let fs = Filesystem::mount_with_clock(
            Arc::new(remote.clone()),
            options,
            self.flags,
            clock.clone(),
        )
        .unwrap();
        remote.take_log();
        Rig {
            outside: server.outside(),
            server,
            remote,
            clock,
            fs,
            creds: self.creds,
        }
    }
}

impl Rig {
    pub(crate) fn new(mode: InteropMode) -> Rig {
        Setup::new(mode).mount()
    }

    pub(crate) fn cx(&self) -> Context<'_> {
        Context::new(&self.creds)
    }

    pub(crate) fn at<'a>(&'a self, path: &'a str) -> At<'a> {
        At::new(self.fs.root_ref(), path.as_bytes())
    }

    /// Round trips, by kind, since the last time: what nobody waits for is left out.
    pub(crate) fn calls(&self) -> Vec<Op> {
        let mut log = self.remote.take_log();
        log.retain(|op| !matches!(op, Op::Release | Op::Close));
        log
    }

    pub(crate) fn stat(&self, path: &str) -> Result<Stat> {
        self.fs.stat(&self.cx(), self.at(path), Follow::Yes)
    }

    pub(crate) fn lstat(&self, path: &str) -> Result<Stat> {
        self.fs.stat(&self.cx(), self.at(path), Follow::No)
    }

    pub(crate) fn attr(&self, path: &str) -> Attr {
        self.lstat(path).unwrap().attr
    }

    pub(crate) fn open(&self, path: &str, flags: OpenFlags) -> Result<File> {
        self.fs.open(&self.cx(), self.at(path), flags, 0o644)
    }

    pub(crate) fn create(&self, path: &str) -> Result<File> {
        self.open(path, OpenFlags::CREAT | OpenFlags::RDWR)
    }

    pub(crate) fn mkdir(&self, path: &str) -> Result<()> {
        self.fs.mkdir(&self.cx(), self.at(path), 0o755)
    }

    pub(crate) fn symlink(&self, target: &str, path: &str) -> Result<()> {
        self.fs
            .symlink(&self.cx(), target.as_bytes(), self.at(path))
    }

    pub(crate) fn link(&self, old: &str, new: &str) -> Result<()> {
        self.fs
            .link(&self.cx(), self.at(old), Follow::No, self.at(new))
    }

    pub(crate) fn unlink(&self, path: &str) -> Result<()> {
        self.fs.unlink(&self.cx(), self.at(path))
    }

    pub(crate) fn rmdir(&self, path: &str) -> Result<()> {
        self.fs.rmdir(&self.cx(), self.at(path))
    }

    pub(crate) fn rename(&self, old: &str, new: &str) -> Result<()> {
        self.rename_with(old, new, RenameFlags::empty())
    }

    pub(crate) fn rename_with(&self, old: &str, new: &str, flags: RenameFlags) -> Result<()> {
        self.fs
            .rename(&self.cx(), self.at(old), self.at(new), flags)
    }

    pub(crate) fn set_attr(&self, path: &str, set: SetAttr) -> Result<()> {
        self.fs
            .set_attr(&self.cx(), self.at(path), Follow::Yes, &set)
    }

    pub(crate) fn chmod(&self, path: &str, mode: u16) -> Result<()> {
        let set = SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        };
        self.set_attr(path, set)
    }

    pub(crate) fn read_all(&self, path: &str) -> Result<Vec<u8>> {
        let file = self.open(path, OpenFlags::RDONLY)?;
        let mut content = Vec::new();
        let mut buffer = [0; 64];
        loop {
            match file.read(&self.cx(), &mut buffer)? {
                0 => return Ok(content),
                n => content.extend_from_slice(&buffer[..n]),
            }
        }
    }

    pub(crate) fn names(&self, file: &File) -> Vec<String> {
        let mut names = Vec::new();
        file.read_dir(&self.cx(), &mut |entry| {
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            ControlFlow::Continue(())
        })
        .unwrap();
        names
    }

    /// The server's view of a file.
    pub(crate) fn server_attr(&self, path: &str) -> Attr {
        self.outside.stat(path.as_bytes()).unwrap().attr
    }
}

/// The error of an operation that has to fail.
#[track_caller]
pub(crate) fn errno<T>(result: Result<T>) -> Errno {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(error) => error.errno(),
    }
}
