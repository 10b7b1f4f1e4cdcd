//! The virtual machine.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::kernel::Kernel;
use crate::process::Server;

/// How long the guest may take to boot, and for each mount, on a machine that has other work.
const BOOT: Duration = Duration::from_secs(120);
const MOUNT: Duration = Duration::from_secs(420);
/// How much of the console is shown, from its end.
const CONSOLE_SHOWN: usize = 3000;

/// What came of it.
pub(super) struct Ended {
    /// Why there is no more.
    pub(super) how: String,
    /// What came over the port for results.
    pub(super) results: String,
    /// The end of what the kernel said.
    pub(super) console: String,
    pub(super) took: Duration,
}

/// Runs the guest to its end, or until its time is over.
pub(super) fn run(kernel: &Kernel, image: &Path, dir: &Path, mounts: usize) -> Result<Ended> {
    let (console, results) = (dir.join("console"), dir.join("results"));
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-smp", "1", "-m", "512", "-nodefaults", "-no-reboot"])
        .args(["-display", "none", "-netdev", "user,id=n0"])
        .args(["-device", "virtio-net-pci,netdev=n0,romfile="])
        .args(["-append", "console=ttyS0 loglevel=4 panic=-1 oops=panic"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-serial")
        .arg(format!("file:{}", results.display()))
        .arg("-kernel")
        .arg(kernel.image())
        .arg("-initrd")
        .arg(image);
    let start = Instant::now();
    let mut machine = Server::start(command, None)?;
    let limit = BOOT + MOUNT * mounts as u32;
    let how = match machine.wait(limit)? {
        Some(status) => format!("the machine ended with {status}\n{}", machine.log()),
        None => format!("no end within {limit:?}"),
    };
    machine.kill();
    let read = |path: &Path| -> Result<String> {
        let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Ended {
        how,
        results: read(&results)?,
        console: tail(&read(&console)?),
        took: start.elapsed(),
    })
}

fn tail(text: &str) -> String {
    let skipped = text.chars().count().saturating_sub(CONSOLE_SHOWN);
    text.chars().skip(skipped).collect()
}
