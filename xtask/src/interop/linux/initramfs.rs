//! The guest's root: busybox, the program of checks, the kernel's modules, and what to mount.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::kernel::{Kernel, MODULES, run};
use crate::workspace;

/// Makes it below `dir` and says where it is. `mounts` are the names of cells and their options.
pub(super) fn build(kernel: &Kernel, dir: &Path, mounts: &[(&str, String)]) -> Result<PathBuf> {
    let root = dir.join("root");
    for name in [
        "bin", "modules", "proc", "sys", "dev", "tmp", "first", "second",
    ] {
        fs::create_dir_all(root.join(name))?;
    }
    let sources = workspace::root().join("xtask/interop/linux");
    fs::copy(sources.join("init"), root.join("init"))?;
    compile(&sources.join("guest"), &root.join("checks"))?;
    install_busybox(&root)?;
    for module in MODULES {
        fs::copy(
            kernel.module(module),
            root.join(format!("modules/{module}.ko")),
        )?;
    }
    fs::write(root.join("modules/order"), MODULES.join("\n"))?;
    let cells: String = mounts
        .iter()
        .map(|(name, options)| format!("{name} {options}\n"))
        .collect();
    fs::write(root.join("cells"), cells)?;
    pack(&root, &dir.join("initramfs"))
}

fn install_busybox(root: &Path) -> Result<()> {
    let busybox = super::super::find("busybox").context("busybox is not installed")?;
    let applets = run(Command::new(&busybox).arg("--list"))?;
    fs::copy(&busybox, root.join("bin/busybox"))?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    Ok(())
}

fn compile(sources: &Path, program: &Path) -> Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(sources)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "c") {
            files.push(path);
        }
    }
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-Wall", "-Wextra", "-Werror", "-static", "-o"]);
    run(compiler.arg(program).args(files)).map(drop)
}

fn pack(root: &Path, archive: &Path) -> Result<PathBuf> {
    let names = run(Command::new("find").args([".", "-print"]).current_dir(root))?;
    let list = archive.with_extension("list");
    fs::write(&list, names)?;
    let output = Command::new("cpio")
        .args(["--quiet", "--create", "--format=newc", "--owner=0:0"])
        .current_dir(root)
        .stdin(File::open(&list)?)
        .stdout(File::create(archive)?)
        .stderr(Stdio::piped())
        .output()
        .context("run cpio")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cpio: {}: {said}", output.status);
    Ok(archive.to_path_buf())
}
