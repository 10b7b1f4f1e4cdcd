//! Debian's kernel, unpacked and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::workspace;

const PACKAGE: &str = "linux-image-amd64";

/// What a 9P mount over TCP takes, in the order in which it has to be loaded.
pub(super) const MODULES: [&str; 13] = [
    "failover",
    "net_failover",
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_net",
    "netfs",
    "fscache",
    "9pnet",
    "9pnet_fd",
    "9p",
];

/// A directory that has `vmlinuz` and every module.
pub(super) struct Kernel(PathBuf);

impl Kernel {
    /// Takes what an earlier run has left below the target directory, or downloads the package.
    pub(super) fn fetch() -> Result<Kernel> {
        let kept = workspace::root().join("target/interop-linux");
        let kernel = Kernel(kept.clone());
        if kernel.image().is_file() {
            return Ok(kernel);
        }
        fs::create_dir_all(&kept)?;
        let scratch = tempfile::tempdir_in(&kept)?;
        let package = download(scratch.path())?;
        let tree = scratch.path().join("tree");
        run(Command::new("dpkg").arg("-x").arg(package).arg(&tree))?;
        for module in MODULES {
            let file = format!("{module}.ko");
            let found = find(&tree.join("lib/modules"), &|name| name == file)?;
            let found = found.with_context(|| format!("the package has no module {module}"))?;
            fs::copy(found, kernel.module(module))?;
        }
        let image = find(&tree.join("boot"), &|name| name.starts_with("vmlinuz"))?;
        let image = image.context("the package has no kernel")?;
        // Last and at once: a run that is cut short must not leave half of it.
        fs::rename(image, kernel.image())?;
        Ok(kernel)
    }

    pub(super) fn image(&self) -> PathBuf {
        self.0.join("vmlinuz")
    }

    pub(super) fn module(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.ko"))
    }
}

/// The package that the one without a version depends on.
fn download(dir: &Path) -> Result<PathBuf> {
    super::super::apt_get(&["update"])?;
    let text = run(Command::new("apt-cache").args(["depends", PACKAGE]))?;
    let name = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .with_context(|| format!("{PACKAGE} depends on nothing"))?;
    println!("downloading {name}");
    run(Command::new("apt-get")
        .args(["download", name])
        .current_dir(dir))?;
    let package = find(dir, &|file| file.ends_with(".deb"))?;
    package.with_context(|| format!("apt-get has downloaded no {name}"))
}

/// What `command` prints; it must succeed.
pub(super) fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}: {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first file below `dir` whose name `wanted` takes.
fn find(dir: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    let mut left = vec![dir.to_path_buf()];
    while let Some(dir) = left.pop() {
        let entries = fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))?;
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                left.push(entry.path());
            } else if kind.is_file() && wanted(&entry.file_name().to_string_lossy()) {
                return Ok(Some(entry.path()));
            }
        }
    }
    Ok(None)
}
