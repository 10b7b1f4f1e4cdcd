//! Those who are measured: a directory each, and the processes behind it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};

use crate::work;

/// How long a mount may take to appear or its process to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a tree is mounted.
type Mounter = fn(tree: &Path, mountpoint: &Path) -> Result<Command>;

/// One that is measured.
pub(crate) struct Contender {
    name: &'static str,
    tree: PathBuf,
    mountpoint: PathBuf,
    /// `None`: the tree itself.
    mounter: Option<Mounter>,
    process: Option<Child>,
}

const ALL: [(&str, Option<Mounter>); 8] = [
    (crate::HOST, None),
    (crate::BARE, Some(bare)),
    (crate::BINDFS, Some(bindfs)),
    (
        "lisafs",
        Some(|tree, dir| ours(tree, dir, &["--lisafs"], "fscache")),
    ),
    (
        "direct",
        Some(|tree, dir| ours(tree, dir, &["--lisafs"], "fscache,directfs")),
    ),
    ("9p", Some(|tree, dir| ours(tree, dir, &[], "fscache"))),
    (
        "lisafs shared",
        Some(|tree, dir| ours(tree, dir, &["--lisafs"], "remote_revalidating")),
    ),
    (
        "9p shared",
        Some(|tree, dir| ours(tree, dir, &[], "remote_revalidating")),
    ),
];

/// Makes a tree for each and mounts it.
pub(crate) fn start_all(base: &Path) -> Result<Vec<Contender>> {
    let mut all = Vec::new();
    for (at, (name, mounter)) in ALL.into_iter().enumerate() {
        let dir = base.join(at.to_string());
        let mut contender = Contender {
            name,
            tree: dir.join("tree"),
            mountpoint: dir.join("mount"),
            mounter,
            process: None,
        };
        fs::create_dir_all(&contender.tree)?;
        fs::create_dir_all(&contender.mountpoint)?;
        work::fill(&contender.tree)?;
        contender.mount()?;
        all.push(contender);
    }
    // What was made is on the disk before anything is measured.
    rustix::fs::sync();
    Ok(all)
}

impl Contender {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Where it is used.
    pub(crate) fn dir(&self) -> &Path {
        match self.mounter {
            Some(_) => &self.mountpoint,
            None => &self.tree,
        }
    }

    /// Mounts it anew: nobody knows anything of it any more.
    pub(crate) fn remount(&mut self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    fn mount(&mut self) -> Result<()> {
        let Some(mounter) = self.mounter else {
            return Ok(());
        };
        let below = fs::metadata(&self.tree)?.dev();
        let mut command = mounter(&self.tree, &self.mountpoint)?;
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        let process = self.process.insert(process);
        let deadline = Instant::now() + PATIENCE;
        while fs::metadata(&self.mountpoint)?.dev() == below {
            if let Some(status) = process.try_wait()? {
                bail!("{} ended: {status}", self.name);
            }
            if Instant::now() > deadline {
                bail!("{} does not mount", self.name);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn unmount(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        umount2(&self.mountpoint, MntFlags::empty()).context("unmount")?;
        let status = process.wait()?;
        match status.success() {
            true => Ok(()),
            false => bail!("{} ended with {status}", self.name),
        }
    }

    pub(crate) fn end(mut self) -> Result<()> {
        self.unmount()
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = umount2(&self.mountpoint, MntFlags::MNT_DETACH);
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn bare(tree: &Path, mountpoint: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bare").args([tree, mountpoint]);
    Ok(command)
}

fn bindfs(tree: &Path, mountpoint: &Path) -> Result<Command> {
    let mut command = Command::new("bindfs");
    command
        .args(["-f", "-o", "big_writes"])
        .args([tree, mountpoint]);
    Ok(command)
}

fn ours(tree: &Path, mountpoint: &Path, flags: &[&str], mode: &str) -> Result<Command> {
    let program = std::env::var_os(xtask::bench::CLI).context("run `cargo xtask bench --fuse`")?;
    let mut command = Command::new(program);
    command
        .args(flags)
        .arg("--root")
        .arg(tree)
        .args(["mount", "-f", "-o", &format!("cache={mode}")])
        .arg(mountpoint);
    Ok(command)
}
