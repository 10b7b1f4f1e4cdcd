//! A tree of the host, mounted through a server of ours.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gofer_vfs::InteropMode;

use super::tools;
use crate::matrix::Protocol;

/// How long the process behind a mount may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Mounted until it is dropped.
pub(super) struct Mounted {
    program: PathBuf,
    dir: PathBuf,
    tree: PathBuf,
    pid_file: PathBuf,
    log_file: PathBuf,
    /// The file system below: a mount has another.
    below: u64,
    mounted: bool,
}

impl Mounted {
    /// Starts a server on `base/tree` and mounts it on `base/mount`.
    pub(super) fn start(
        program: &Path,
        base: &Path,
        protocol: Protocol,
        mode: InteropMode,
    ) -> Result<Mounted> {
        let tree = base.join("tree");
        let mut mounted = Mounted {
            program: program.to_owned(),
            dir: base.join("mount"),
            tree: tree.clone(),
            pid_file: base.join("pid"),
            log_file: base.join("log"),
            below: fs::metadata(base)?.dev(),
            mounted: false,
        };
        for dir in [&tree, &mounted.dir] {
            fs::create_dir(dir)?;
            tools::open_to_all(dir)?;
        }
        let options = format!(
            "{},cache={},allow_other,suid,dev",
            protocol.options(),
            mode.name()
        );
        let mut command = Command::new(program);
        command
            .arg("mount")
            .args(["-o", &options])
            .arg("--root")
            .arg(&tree)
            .arg("--pid-file")
            .arg(&mounted.pid_file)
            .arg("--log-file")
            .arg(&mounted.log_file)
            .arg(&mounted.dir);
        tools::run(&mut command, Duration::from_secs(30)).context("mount")?;
        mounted.mounted = true;
        if fs::metadata(&mounted.dir)?.dev() == mounted.below {
            bail!("mount said that it is done, and nothing is mounted");
        }
        Ok(mounted)
    }

    /// The root of the mount.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What is mounted.
    pub(super) fn served(&self) -> &Path {
        &self.tree
    }

    /// Unmounts and waits for the process behind it. An error if it is in use, or something went
    /// wrong while it was mounted.
    pub(super) fn end(mut self) -> Result<()> {
        self.unmount(&[])?;
        let deadline = Instant::now() + PATIENCE;
        while self.pid_file.exists() {
            if Instant::now() > deadline {
                bail!("the mount's process has not ended");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let log = fs::read_to_string(&self.log_file).unwrap_or_default();
        if !log.is_empty() {
            bail!("the mount's process said: {log}");
        }
        Ok(())
    }

    fn unmount(&mut self, flags: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.arg("umount").args(flags).arg(&self.dir);
        tools::run(&mut command, PATIENCE).context("unmount")?;
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.mounted
            && let Err(error) = self.unmount(&["--lazy"])
        {
            eprintln!("{}: {error:#}", self.dir.display());
        }
    }
}
