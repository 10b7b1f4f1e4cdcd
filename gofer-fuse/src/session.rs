//! A mounted tree being served: from the first request to the last.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use fuser::{Config, SessionACL};
use gofer_vfs::{FileType, Filesystem};
use parking_lot::Mutex;

use crate::adapter::Adapter;
use crate::crew::Crew;
use crate::mountpoint::{Detach, MountError, Mountpoint, can_open_device};
use crate::options::{FuseOptions, Share};
use crate::policy::Policy;
use crate::served::Served;
use crate::trim::{self, Trimmer};
use crate::untold::Untold;

/// Threads that serve requests: each waits for the server by itself. Most sleep; see [`Crew`].
const THREADS: usize = 16;

/// A tree that is mounted, and served by threads of its own until it is unmounted.
///
/// Dropping it unmounts, lazily if it is in use, and waits for the threads.
pub struct Session {
    mountpoint: Arc<Mountpoint>,
    server: Mutex<Option<JoinHandle<io::Result<()>>>>,
    untold: Arc<Untold>,
}

/// Unmounts a [`Session`] from another thread.
#[derive(Clone)]
pub struct Stopper(Arc<Mountpoint>);

impl Session {
    /// Mounts `fs` on `path`. The mount answers when this returns.
    ///
    /// # Errors
    /// See [`MountError`].
    pub fn mount(
        fs: Filesystem,
        path: &Path,
        options: &FuseOptions,
    ) -> Result<Session, MountError> {
        let directory = fs.root().file_type() == FileType::Directory;
        let policy = Policy::new(fs.options().cache, fs.options().locks, options);
        let (trimmer, trimming) = Trimmer::new(trim::limit());
        let adapter = Adapter::new(fs, policy, trimmer)?;
        let nodes = Arc::downgrade(&adapter.nodes);
        let kernel = adapter.kernel.clone();
        let untold = adapter.untold.clone();
        let crew = Crew::default();
        let served = Served::new(adapter, crew.clone());
        let mountpoint = Mountpoint::attach(path, directory, options)?;
        let mut config = Config::default();
        config.n_threads = Some(THREADS);
        config.clone_fd = can_open_device();
        config.acl = match options.share {
            Share::Owner => SessionACL::Owner,
            Share::Root => SessionACL::RootAndOwner,
            Share::Everybody => SessionACL::All,
        };
        let acl = config.acl;
        let started = mountpoint
            .device()
            .and_then(|device| fuser::Session::from_fd(served, device, acl, config))
            .and_then(|session| {
                trimming.start(mountpoint.device()?, nodes)?;
                crew.start(mountpoint.device()?)?;
                let _ = kernel.set(session.notifier());
                Ok(session)
            })
            .and_then(|session| {
                std::thread::Builder::new()
                    .name("fuse".to_owned())
                    .spawn(move || session.run())
            });
        match started {
            Ok(server) => Ok(Session {
                mountpoint: Arc::new(mountpoint),
                server: Mutex::new(Some(server)),
                untold,
            }),
            Err(error) => {
                crew.end();
                let _ = mountpoint.detach(Detach::Lazily);
                Err(error.into())
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.mountpoint.path()
    }

    /// To unmount it from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.mountpoint.clone())
    }

    /// Waits until it was unmounted, by whomever, and nobody uses it any more.
    ///
    /// # Errors
    /// Serving ended for another reason; or pages of a mapping could not be written after its file
    /// was closed, which nobody else was told of.
    pub fn wait(&self) -> io::Result<()> {
        let Some(server) = self.server.lock().take() else {
            return Ok(());
        };
        let ended = match server.join() {
            // The kernel takes requests away when a mount is aborted: that is an end, too.
            Ok(Err(error))
                if error.raw_os_error() == Some(rustix::io::Errno::CONNABORTED.raw_os_error()) =>
            {
                Ok(())
            }
            Ok(ended) => ended,
            Err(_) => Err(io::Error::other(
                "a thread that serves requests has panicked",
            )),
        };
        ended.and_then(|()| self.untold.check())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.server.lock().is_none() {
            return;
        }
        if let Err(error) = self.mountpoint.detach(Detach::Lazily) {
            tracing::warn!(%error, "unmounting failed");
            return;
        }
        if let Err(error) = self.wait() {
            tracing::warn!(%error, "serving ended badly");
        }
    }
}

impl Stopper {
    /// Unmounts; see [`Mountpoint::detach`].
    ///
    /// # Errors
    /// See [`MountError`].
    pub fn stop(&self, how: Detach) -> Result<(), MountError> {
        self.0.detach(how)
    }

    /// Whether it is mounted still, or in use after a lazy unmount.
    pub fn is_attached(&self) -> bool {
        self.0.is_attached()
    }
}
