//! What an operation costs over each protocol, client and server in two processes, beside what
//! the same costs without us: a bare ping-pong over the same kind of socket, and the system
//! calls themselves. `cargo xtask bench` runs this and prints the ratios.
//!
//! This program is its own server: with `serve` as its first argument it does what
//! `gofer-server-mock` does, with `pong` it answers the ping-pong. With `floor` it measures lisafs
//! beside the least it could cost instead, with `p9` 9P beside other servers.

mod direct;
mod floor;
mod p9;
mod remote;
mod socket;

use std::path::PathBuf;
use std::process::ExitCode;

use criterion::Criterion;
use tempfile::TempDir;

/// Sizes of the reads that are measured.
const READS: [(&str, usize); 2] = [("read-4k", 4 << 10), ("read-1m", 1 << 20)];

/// Directories from the root down to the file that is looked at: eight components.
const DEEP: &str = "a/b/c/d/e/f/g/file";

/// Servers are measured without their sandbox, as the bare system calls are: a filter makes every
/// call of either a little slower.
const UNBOXED: [&str; 2] = ["--sandbox", "off"];

/// The directory everything is measured in.
struct Tree {
    dir: TempDir,
}

impl Tree {
    fn new() -> std::io::Result<Tree> {
        let dir = tempfile::Builder::new().prefix("gofer-bench-").tempdir()?;
        let deep = dir.path().join(DEEP);
        if let Some(parent) = deep.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(deep, "x")?;
        std::fs::write(dir.path().join("data"), vec![7; 4 << 20])?;
        Ok(Tree { dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["serve", ..] => return gofer_server_mock::run(std::env::args_os()),
        ["pong"] => return socket::pong(),
        ["pong-channel", waiting] => return floor::pong(waiting),
        ["burn"] => return floor::burn(),
        _ => {}
    }
    let tree = match Tree::new() {
        Ok(tree) => tree,
        Err(error) => {
            eprintln!("no directory to measure in: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let ["floor", ref args @ ..] = args[..] {
        return floor::run(&tree, args);
    }
    if let ["p9", ref args @ ..] = args[..] {
        return p9::run(&tree, args);
    }
    let mut criterion = Criterion::default().configure_from_args();
    direct::measure(&mut criterion, &tree);
    socket::measure(&mut criterion);
    for protocol in remote::PROTOCOLS {
        remote::measure(&mut criterion, &tree, protocol);
    }
    criterion.final_summary();
    ExitCode::SUCCESS
}
