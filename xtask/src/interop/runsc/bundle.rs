//! A container for runsc: a root directory with a busybox shell, directories and files to mount,
//! and the copy of runsc that starts our gofer.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::super::find;
use crate::workspace;

/// By this runsc executes itself again. The string can be replaced by one of the same length.
const ITSELF: &[u8] = b"/proc/self/exe";
/// Directory of the link that replaces it: its path has to be short.
const LINKS: &str = "/tmp";

const SHELL_CAPABILITIES: [&str; 8] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_MKNOD",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_KILL",
];

/// A container and what it is made of. Removed when dropped.
pub(super) struct Bundle {
    base: tempfile::TempDir,
    busybox: PathBuf,
    runsc: PathBuf,
    /// What the copy of runsc executes.
    _link: tempfile::NamedTempFile<()>,
}

/// What takes the place of `runsc gofer`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gofer {
    /// runsc's own.
    Stock,
    /// Our server: the very process that runsc starts.
    Ours,
    /// Our server as a child of that process, which reports its exit status.
    Watched,
    /// A server for each mount, and their exit statuses.
    Separate,
}

impl Bundle {
    pub(super) fn new() -> Result<Bundle> {
        let base = tempfile::Builder::new()
            .prefix("gofer-runsc-")
            // The sandbox runs as another user when it executes what lies here.
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()?;
        let busybox = find("busybox").context("busybox is not installed")?;
        let runsc = find("runsc").context("runsc is not installed")?;
        let launch = base.path().join("launch");
        let link = tempfile::Builder::new()
            .prefix("g")
            .rand_bytes(ITSELF.len() - LINKS.len() - 2)
            .make_in(LINKS, |path| symlink(&launch, path))?;
        let mut program = fs::read(&runsc)?;
        let places: Vec<usize> = program
            .windows(ITSELF.len())
            .enumerate()
            .filter(|(_, window)| *window == ITSELF)
            .map(|(at, _)| at)
            .collect();
        let replacement = link.path().as_os_str().as_encoded_bytes();
        ensure!(
            places.len() == 1 && replacement.len() == ITSELF.len(),
            "this runsc has the path of itself {} times",
            places.len()
        );
        program[places[0]..places[0] + ITSELF.len()].copy_from_slice(replacement);
        executable(&base.path().join("runsc"), &program)?;
        fs::copy("/proc/self/exe", base.path().join("xtask"))?;
        let bundle = Bundle {
            base,
            busybox,
            runsc,
            _link: link,
        };
        bundle.make_root()?;
        Ok(bundle)
    }

    fn make_root(&self) -> Result<()> {
        let root = self.root();
        for dir in ["bin", "own", "rw", "ro", "usr", "proc", "dev", "tmp", "etc"] {
            fs::create_dir_all(root.join(dir))?;
        }
        for file in ["one", "only-read"] {
            fs::write(root.join(file), "")?;
        }
        fs::copy(&self.busybox, root.join("bin/busybox"))?;
        let applets = Command::new(&self.busybox).arg("--list").output()?;
        for applet in String::from_utf8_lossy(&applets.stdout).lines() {
            if applet != "busybox" {
                symlink("busybox", root.join("bin").join(applet))?;
            }
        }
        // Where the host's programs look for their libraries.
        for dir in ["lib", "lib64"] {
            symlink(format!("usr/{dir}"), root.join(dir))?;
        }
        let workload = workspace::root().join("xtask/interop/runsc/workload.sh");
        fs::copy(workload, root.join("workload.sh"))?;
        fs::create_dir_all(self.path("ro/dir"))?;
        fs::write(self.path("ro/file"), "from the host\n")?;
        fs::write(self.path("ro/dir/inner"), "inner\n")?;
        symlink("dir", self.path("ro/link"))?;
        fs::write(self.path("only-read"), "cannot be written\n")?;
        Ok(())
    }

    /// Empties what the container can write, and sets what it runs and who serves it.
    pub(super) fn prepare(&self, script: &str, server: &Path, gofer: Gofer) -> Result<()> {
        for dir in [
            self.root().join("own"),
            self.path("rw"),
            self.path("report"),
        ] {
            if dir.exists() {
                fs::remove_dir_all(&dir)?;
            }
            fs::create_dir(&dir)?;
        }
        for name in ["own", "rw"] {
            let _ = fs::remove_file(self.root().join(format!("manifest-{name}")));
        }
        let one = self.path("one");
        fs::write(&one, "may be written\n")?;
        chown(&one, Some(0), Some(0))?;
        fs::write(self.path("config.json"), self.spec(script).to_string())?;

        let mut ours = format!(
            "{} runsc-gofer --server {} --report {}",
            self.path("xtask").display(),
            server.display(),
            self.path("report").display()
        );
        match gofer {
            Gofer::Stock | Gofer::Ours => {}
            Gofer::Watched => ours += " --watch",
            Gofer::Separate => ours += " --separate",
        }
        let settings = format!("GOFER='{ours}'\nRUNSC='{}'\n", self.runsc.display());
        let launch = workspace::root().join("xtask/interop/runsc/launch.sh");
        let launch = fs::read_to_string(launch)?.replacen("\n\n", &format!("\n\n{settings}\n"), 1);
        executable(&self.path("launch"), launch.as_bytes())
    }

    fn spec(&self, script: &str) -> serde_json::Value {
        let bind = |destination: &str, source: PathBuf, mode: &str| {
            json!({
                "destination": destination,
                "type": "bind",
                "source": source,
                "options": ["rbind", mode],
            })
        };
        json!({
            "ociVersion": "1.0.0",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["/bin/sh", "-c", script],
                "env": ["PATH=/bin", "TZ=UTC0"],
                "cwd": "/",
                "capabilities": {
                    "bounding": SHELL_CAPABILITIES,
                    "effective": SHELL_CAPABILITIES,
                    "permitted": SHELL_CAPABILITIES,
                },
            },
            "root": {"path": "rootfs", "readonly": false},
            "hostname": "gofer",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                bind("/rw", self.path("rw"), "rw"),
                bind("/ro", self.path("ro"), "ro"),
                bind("/usr", "/usr".into(), "ro"),
                bind("/one", self.path("one"), "rw"),
                bind("/only-read", self.path("only-read"), "ro"),
            ],
            "linux": {"namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "network"},
                {"type": "ipc"}, {"type": "uts"},
            ]},
        })
    }

    /// runsc with `flags` and where it keeps its state; ended after `limit`.
    pub(super) fn runsc(&self, gofer: Gofer, limit: Duration) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &limit.as_secs().to_string()]);
        command.arg(match gofer {
            Gofer::Stock => self.runsc.clone(),
            _ => self.path("runsc"),
        });
        command.arg(format!("--root={}", self.path("state").display()));
        command.args(["--network=none", "--ignore-cgroups", "--overlay2=none"]);
        command.stdin(Stdio::null());
        command
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    pub(super) fn root(&self) -> PathBuf {
        self.path("rootfs")
    }

    /// Every file below `dir` of the host, as the workload lists them inside.
    pub(super) fn manifest(&self, dir: &Path) -> Result<String> {
        let output = Command::new(&self.busybox)
            .arg("sh")
            .arg(self.root().join("workload.sh"))
            .arg("manifest")
            .arg(dir)
            .env("TZ", "UTC0")
            .env("PATH", self.root().join("bin"))
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && said.is_empty(),
            "manifest: {said}"
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn executable(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
