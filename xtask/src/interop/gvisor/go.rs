//! The Go programs in `xtask/interop/gvisor`, built with the packages that gVisor itself uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::interop::{install, install_package};
use crate::workspace;

/// Where Debian puts Go packages.
const GOCODE: &str = "/usr/share/gocode";
/// The one of gVisor's files that Debian leaves empty and its gofer needs.
const EMPTY: &str = "src/gvisor.dev/gvisor/pkg/sentry/loader/vdsodata/vdsodata.go";

/// The programs, ready to run. They live as long as their directory.
pub(super) struct Programs(TempDir);

impl Programs {
    /// Installs what is missing, and builds all of them.
    pub(super) fn build() -> Result<Programs> {
        Programs::build_some(&["client", "server", "p9client", "p9server"])
    }

    fn build_some(names: &[&str]) -> Result<Programs> {
        install("go", "golang-go")?;
        if !Path::new(GOCODE)
            .join("src/gvisor.dev/gvisor/pkg/lisafs")
            .is_dir()
        {
            install_package("golang-gvisor-gvisor-dev")?;
        }
        let programs = Programs(tempfile::Builder::new().prefix("gofer-go-").tempdir()?);
        let replaced = serde_json::json!({
            "Replace": { format!("{GOCODE}/{EMPTY}"): sources().join("overlay/vdsodata.go") }
        });
        fs::write(programs.overlay(), replaced.to_string())?;
        for name in names {
            programs.compile(name)?;
        }
        Ok(programs)
    }

    /// gVisor's client, driven by a program of ours.
    pub(super) fn client(&self) -> Command {
        Command::new(self.0.path().join("bin/client"))
    }

    /// gVisor's gofer.
    pub(super) fn server(&self) -> Command {
        Command::new(self.0.path().join("bin/server"))
    }

    /// The client of gVisor's package p9, driven by a program of ours.
    pub(super) fn p9_client(&self) -> Command {
        Command::new(self.0.path().join("bin/p9client"))
    }

    /// The server of that package, over a directory.
    pub(super) fn p9_server(&self) -> Command {
        Command::new(self.0.path().join("bin/p9server"))
    }

    fn overlay(&self) -> PathBuf {
        self.0.path().join("overlay.json")
    }

    fn compile(&self, name: &str) -> Result<()> {
        let dir = self.0.path();
        let output = Command::new("go")
            .args(["build", "-overlay"])
            .arg(self.overlay())
            .arg("-o")
            .arg(dir.join("bin").join(name))
            .arg(".")
            .current_dir(sources().join(name))
            .env("GO111MODULE", "off")
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "")
            .env("GOPATH", format!("{}:{GOCODE}", dir.join("go").display()))
            .env("GOCACHE", cache())
            .stdin(Stdio::null())
            .output()
            .context("run go")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "go build of the {name}: {said}");
        Ok(())
    }
}

/// The programs that speak 9P, `p9client` and `p9server`. They live as long as this.
pub struct P9Programs {
    dir: PathBuf,
    _programs: Programs,
}

impl P9Programs {
    /// Installs what is missing, and builds both.
    pub fn build() -> Result<P9Programs> {
        let programs = Programs::build_some(&["p9client", "p9server"])?;
        Ok(P9Programs {
            dir: programs.0.path().join("bin"),
            _programs: programs,
        })
    }

    /// The directory they are in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Compiled packages of an earlier run, which the compiler trusts only if they are up to date.
fn cache() -> PathBuf {
    workspace::root().join("target/interop-gvisor")
}

fn sources() -> PathBuf {
    workspace::root().join("xtask/interop/gvisor")
}
