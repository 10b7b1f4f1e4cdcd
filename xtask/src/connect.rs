//! From a connected stream to a mounted file system.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use gofer_transport::Stream;
use gofer_vfs::remote::RemoteFilesystem;
use gofer_vfs::testing::behaviour::Remount;
use gofer_vfs::{Filesystem, MountOptions};

/// How long a single call may take. A server that never answers must not be taken for a slow
/// test case.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Speaks the protocol that `options` ask for over `stream`.
pub fn connect(stream: Stream, options: &MountOptions) -> Result<Arc<dyn RemoteFilesystem>> {
    if options.lisafs {
        let config = gofer_lisafs::client::Config {
            aname: options.aname.clone(),
            timeout: Some(CALL_TIMEOUT),
            directfs: options.directfs,
            channels: options.channels,
            ..Default::default()
        };
        Ok(gofer_lisafs::client::connect(stream, config)?)
    } else {
        let config = gofer_9p::client::Config {
            aname: options.aname.clone(),
            msize: options.msize,
            version: options.version.clone(),
            uname: b"root".to_vec(),
            n_uname: Some(0),
            channels: options.channels,
            timeout: Some(CALL_TIMEOUT),
            ..Default::default()
        };
        Ok(gofer_9p::client::connect(stream, config)?)
    }
}

/// Connects and mounts with the mount option string `text`, changed as `how` says.
pub fn mount(stream: Stream, text: &str, how: &Remount) -> Result<Filesystem> {
    let mut options: MountOptions = text.parse().map_err(|error| anyhow!("{text}: {error}"))?;
    how.apply(&mut options);
    let remote = connect(stream, &options)?;
    how.mount(remote, options).map_err(|error| anyhow!(error))
}
