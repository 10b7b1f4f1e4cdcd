//! The servers, each in a process of its own.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};

use anyhow::{Context, Result};
use xtask::interop;
use xtask::process::Server;

use crate::{Tree, UNBOXED, socket};

/// The directory of gVisor's programs `p9client` and `p9server`, where they are to be measured.
pub(super) fn gvisor() -> Option<PathBuf> {
    std::env::var_os(xtask::bench::P9_PROGRAMS).map(PathBuf::from)
}

/// Whose server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Maker {
    Ours,
    Diod,
    Go,
}

impl Maker {
    pub(super) fn name(self) -> &'static str {
        match self {
            Maker::Ours => "ours",
            Maker::Diod => "diod",
            Maker::Go => "gVisor",
        }
    }
}

/// Ours first, then diod: the table knows their places.
pub(super) fn makers() -> Vec<Maker> {
    let mut makers = vec![Maker::Ours, Maker::Diod];
    makers.extend(gvisor().map(|_| Maker::Go));
    makers
}

/// A server that runs, and one connection to it.
pub(super) struct Running {
    /// What to attach to.
    pub(super) aname: String,
    socket: Option<UnixStream>,
    process: Process,
}

enum Process {
    Child(Child),
    Server { _server: Server },
}

impl Running {
    pub(super) fn start(tree: &Tree, maker: Maker) -> Result<Running> {
        let root = tree.path("");
        let path = root.to_str().context("a temporary directory in UTF-8")?;
        let path = path.trim_end_matches('/');
        if maker == Maker::Ours {
            let mut args = vec!["serve", "--protocol", "9p", "--root", path, "--fd", "0"];
            args.extend(UNBOXED);
            let (child, socket) = socket::spawn(&args)?;
            return Ok(Running {
                aname: "/".to_owned(),
                socket: Some(socket),
                process: Process::Child(child),
            });
        }
        let at: PathBuf = format!("{path}-{maker:?}-{}", unique()).into();
        let (server, socket, aname) = match maker {
            Maker::Go => {
                let programs = gvisor().context("no such server")?;
                let mut command = Command::new(programs.join("p9server"));
                command.args([at.as_path(), root.as_path()]);
                let mut server = Server::start(command, None)?;
                server.ready_line(std::time::Duration::from_secs(20))?;
                (server, UnixStream::connect(&at)?, "/")
            }
            _ => {
                let (server, socket) = interop::start_diod(&root, &at)?;
                (server, socket, path)
            }
        };
        let _ = std::fs::remove_file(&at);
        Ok(Running {
            aname: aname.to_owned(),
            socket: Some(socket),
            process: Process::Server { _server: server },
        })
    }

    /// The connection, once.
    pub(super) fn socket(&mut self) -> Result<UnixStream> {
        self.socket.take().context("the connection is in use")
    }
}

fn unique() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Process::Child(child) = &mut self.process {
            // It ends with its connection, which its client has shut down.
            self.socket = None;
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
