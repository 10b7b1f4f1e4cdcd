//! Copies while the server is killed and started again on its address (`reconnect=SECONDS`).

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Run, gofer};

use tempfile::TempDir;

/// A reproducible sequence (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

#[derive(Clone, Copy, Debug)]
enum Over {
    Unix,
    Tcp,
}

/// A server process that can be killed and started again.
struct Server {
    root: PathBuf,
    listen: String,
    flags: [String; 4],
    child: Option<Child>,
}

impl Server {
    fn new(over: Over, sockets: &Path, root: &Path) -> Server {
        let (listen, trans, address) = match over {
            Over::Unix => {
                let path = sockets.join("s").display().to_string();
                (format!("unix:{path}"), "unix", path)
            }
            Over::Tcp => {
                let free = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = free.local_addr().unwrap().to_string();
                (format!("tcp:{address}"), "tcp", address)
            }
        };
        let flags = ["--trans", trans, "--address", &address].map(str::to_owned);
        Server {
            root: root.to_owned(),
            listen,
            flags,
            child: None,
        }
    }

    /// Starts it; returns when it listens.
    fn start(&mut self) {
        let mut command = gofer();
        command
            .args([
                "serve",
                "--protocol",
                "9p",
                "--listen",
                &self.listen,
                "--root",
            ])
            .arg(&self.root)
            .args(["--sandbox", "off", "--die-with-parent"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.starts_with("listening on"), "{line}");
        self.child = Some(child);
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// A command that is connected to it.
    fn command(&self, options: &str, args: &[&str]) -> Command {
        let mut command = gofer();
        command.args(&self.flags).args(["-o", options]).args(args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command, and kills the server now and then as long as it runs: how often. It
    /// writes its messages to `trace`, which tells when it is connected.
    fn run_disturbed(
        &mut self,
        dice: &mut Dice,
        command: &mut Command,
        trace: &Path,
    ) -> (Run, u32) {
        let mut child = command.spawn().unwrap();
        let mut kills = 0;
        let is_connected = || fs::read_to_string(trace).is_ok_and(|text| text.contains("Twalk"));
        while !is_connected() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        loop {
            let until = Instant::now() + Duration::from_millis(5 + dice.below(60));
            while Instant::now() < until && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            if child.try_wait().unwrap().is_some() {
                break;
            }
            self.kill();
            kills += 1;
            self.start();
        }
        let output = child.wait_with_output().unwrap();
        let run = Run {
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
        };
        (run, kills)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes a tree of files of many sizes.
fn furnish(root: &Path, dice: &mut Dice) {
    for dir in 0..12 {
        let dir = root.join(format!("dir {dir}/sub"));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..20 {
            let size = match dice.below(10) {
                0 => 0,
                1 => 1_500_000,
                _ => dice.below(60_000),
            };
            let mut content = Vec::with_capacity(size as usize + 8);
            while (content.len() as u64) < size {
                content.extend(dice.next().to_le_bytes());
            }
            content.truncate(size as usize);
            let path = dir.join(format!("file {file}"));
            fs::write(&path, content).unwrap();
            let mode = [0o644, 0o600, 0o755][dice.below(3) as usize];
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("file 1", dir.join("link")).unwrap();
    }
}

/// Everything in a tree, one line each.
fn contents(root: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let what = if meta.is_dir() {
                dirs.push(path);
                "directory".to_owned()
            } else if meta.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else {
                let content = fs::read(&path).unwrap();
                let sum = content
                    .iter()
                    .fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
                        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
                    });
                format!("{} bytes, {sum:x}", content.len())
            };
            all.push(format!("{name}: {:o} {what}", meta.mode() & 0o7777));
        }
    }
    all.sort();
    all
}

fn copies_survive(over: Over, seed: u64) {
    let dirs = TempDir::new().unwrap();
    let [source, served, back] = ["source", "served", "back"].map(|name| dirs.path().join(name));
    for dir in [&source, &served, &back] {
        fs::create_dir(dir).unwrap();
    }
    let mut dice = Dice(seed);
    furnish(&source, &mut dice);
    let expected = contents(&source);
    let mut server = Server::new(over, dirs.path(), &served);
    server.start();
    let mut kills = 0;
    let mut copy = |args: &[&str]| {
        let trace = dirs.path().join("trace");
        let _ = fs::remove_file(&trace);
        let mut command = server.command("reconnect=30", args);
        command.arg(format!("--trace={}", trace.display()));
        let (run, times) = server.run_disturbed(&mut dice, &mut command, &trace);
        assert_eq!(run.code, Some(0), "seed {seed}, {args:?}: {run:?}");
        assert!(!run.stderr.contains("E"), "seed {seed}: {run:?}");
        kills += times;
    };
    copy(&["put", "-r", "-p", &source.display().to_string(), "/"]);
    copy(&["get", "-r", "-p", "/source", &back.display().to_string()]);
    // Onto what is there already.
    copy(&["put", "-r", "-p", &source.display().to_string(), "/"]);
    assert_eq!(contents(&served.join("source")), expected, "seed {seed}");
    assert_eq!(contents(&back.join("source")), expected, "seed {seed}");
    copy(&["rm", "-r", "/source"]);
    assert!(contents(&served).is_empty(), "seed {seed}");
    assert!(kills >= 8, "only {kills} kills");
}

#[test]
fn copies_over_a_unix_socket_survive_kills_of_the_server() {
    copies_survive(Over::Unix, 1);
}

#[test]
fn copies_over_tcp_survive_kills_of_the_server() {
    copies_survive(Over::Tcp, 2);
}

#[test]
fn without_reconnect_the_end_of_the_server_is_the_end_at_once() {
    for (options, at_least) in [("cache=none", 0), ("cache=none,reconnect=1", 1)] {
        let dirs = TempDir::new().unwrap();
        fs::write(dirs.path().join("f"), "content\n").unwrap();
        let mut server = Server::new(Over::Unix, dirs.path(), dirs.path());
        server.start();
        let mut shell = server
            .command(options, &["shell"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = shell.stdin.take().unwrap();
        let mut output = BufReader::new(shell.stdout.take().unwrap());
        writeln!(input, "cat f").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "content\n");
        server.kill();
        let start = Instant::now();
        writeln!(input, "cat f").unwrap();
        drop(input);
        let mut errors = String::new();
        shell
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut errors)
            .unwrap();
        assert_eq!(shell.wait().unwrap().code(), Some(5), "{options}: {errors}");
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(at_least), "{options}: {took:?}");
        assert!(
            took < Duration::from_secs(at_least + 2),
            "{options}: {took:?}"
        );
        assert!(errors.contains("EIO"), "{options}: {errors}");
    }
}

#[test]
fn another_tree_behind_the_address_is_stale() {
    for cache in ["fscache", "remote_revalidating", "none"] {
        let dirs = TempDir::new().unwrap();
        let roots = ["one", "two"].map(|name| dirs.path().join(name));
        for root in &roots {
            fs::create_dir(root).unwrap();
            fs::write(root.join("f"), format!("of {}\n", root.display())).unwrap();
            fs::write(root.join("g"), format!("of {}\n", root.display())).unwrap();
        }
        let mut server = Server::new(Over::Unix, dirs.path(), &roots[0]);
        server.start();
        let options = format!("cache={cache},reconnect=5");
        let mut shell = server
            .command(&options, &["shell"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = shell.stdin.take().unwrap();
        let mut output = BufReader::new(shell.stdout.take().unwrap());
        writeln!(input, "cat f").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, format!("of {}\n", roots[0].display()));
        server.kill();
        server.root.clone_from(&roots[1]);
        server.start();
        writeln!(input, "cat g").unwrap();
        drop(input);
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "{cache}");
        let mut errors = String::new();
        shell
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut errors)
            .unwrap();
        assert!(errors.contains("ESTALE"), "{cache}: {errors}");
        shell.wait().unwrap();
    }
}

#[test]
fn files_of_several_messages_arrive_whole_beside_each_other() {
    let dirs = TempDir::new().unwrap();
    let [source, served] = ["source", "served"].map(|name| dirs.path().join(name));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&served).unwrap();
    let mut dice = Dice(3);
    for file in 0..8 {
        let words = (0..200_000).flat_map(|_| dice.next().to_le_bytes());
        fs::write(
            source.join(format!("file {file}")),
            words.collect::<Vec<_>>(),
        )
        .unwrap();
    }
    let expected = contents(&source);
    let mut server = Server::new(Over::Tcp, dirs.path(), &served);
    server.start();
    let run = |args: &[&str]| {
        let output = server.command("cache=none", args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    run(&["put", "-r", "-p", &source.display().to_string(), "/"]);
    assert_eq!(contents(&served.join("source")), expected);
    for round in 0..4 {
        let back = dirs.path().join(format!("back {round}"));
        fs::create_dir(&back).unwrap();
        run(&["get", "-r", "-p", "/source", &back.display().to_string()]);
        assert_eq!(contents(&back.join("source")), expected);
    }
}

/// Commands that wait for something else notice, too.
#[test]
fn whoever_watches_or_holds_a_lock_is_told_that_the_server_is_gone() {
    for (words, told) in [
        (&["watch", "-v", "f"][..], "watching 1 files"),
        (&["lock", "-v", "f"], "locked f"),
    ] {
        let server = crate::common::Server::start();
        server.tree.write("f", "");
        let mut command = server.command(words);
        let mut waits = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(waits.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains(told), "{line}");
        drop(server);
        assert_eq!(waits.wait().unwrap().code(), Some(5), "{words:?}");
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("connection"), "{rest}");
    }
}
