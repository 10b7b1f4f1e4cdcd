//! What the server gives up before it serves, seen from outside of it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::thread;

use gofer_lisafs::wire::{FStatReq, OpenAtReq};
use gofer_transport::Stream;
use seccompiler::{SeccompAction, SeccompFilter};

use crate::common::{Client, Server, program};

/// A server of `place`/root at `place`/socket with `flags`, and its standard error.
fn start(place: &Path, flags: &[&str]) -> (Server, ChildStderr) {
    fs::create_dir_all(place.join("root")).unwrap();
    let mut command = Command::new(program());
    command
        .args(["serve", "--listen"])
        .arg(format!("unix:{}", place.join("socket").display()))
        .arg("--root")
        .arg(place.join("root"))
        .args(flags)
        .stderr(Stdio::piped());
    let mut server = Server::start(&mut command);
    let stderr = server.child.stderr.take().unwrap();
    (server, stderr)
}

fn first_line(stderr: ChildStderr) -> String {
    let mut line = String::new();
    BufReader::new(stderr).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn connect(place: &Path) -> Client {
    Client::on(Stream::connect_unix(&place.join("socket")).unwrap())
}

/// The value of `field` in /proc/PID/task/TID/status of every thread.
fn of_threads(server: &Server, field: &str) -> Vec<String> {
    let tasks = format!("/proc/{}/task", server.child.id());
    let status = |task: std::io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(field));
        value.unwrap().trim_start_matches(':').trim().to_owned()
    };
    fs::read_dir(tasks).unwrap().map(status).collect()
}

#[test]
fn every_thread_of_a_server_is_restricted() {
    let place = tempfile::tempdir().unwrap();
    let (server, stderr) = start(place.path(), &[]);
    let line = first_line(stderr);
    assert!(
        line.starts_with("gofer-server-mock: sandbox: capabilities ("),
        "{line}"
    );
    assert!(line.contains("no new privileges, "), "{line}");
    let client = connect(place.path());
    let root = client.mount();
    client.ask(&FStatReq { fd: root }).unwrap();
    for (field, expected) in [("NoNewPrivs", "1"), ("Seccomp", "2")] {
        let found = of_threads(&server, field);
        assert!(found.len() >= 2, "{found:?}");
        assert!(
            found.iter().all(|value| value == expected),
            "{field}: {found:?}"
        );
    }
    // chown, dac_override, dac_read_search, fowner, fsetid, mknod, setfcap
    const NEEDED: u64 = 0x1f & !(1 << 5) | 1 << 27 | 1 << 31;
    for field in ["CapEff", "CapPrm"] {
        for found in of_threads(&server, field) {
            let found = u64::from_str_radix(&found, 16).unwrap();
            assert_eq!(found & !NEEDED, 0, "{field}: {found:x}");
        }
    }
}

#[test]
fn a_server_without_a_sandbox_says_nothing_and_has_none() {
    let place = tempfile::tempdir().unwrap();
    let (mut server, stderr) = start(place.path(), &["--sandbox", "off"]);
    let ours = fs::read_to_string("/proc/thread-self/status").unwrap();
    for field in ["NoNewPrivs", "Seccomp", "CapEff"] {
        let line = ours.lines().find(|line| line.starts_with(field)).unwrap();
        let ours = line.split_whitespace().last().unwrap();
        assert_eq!(of_threads(&server, field), [ours], "{field}");
    }
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(first_line(stderr), "");
}

/// Runs `work` on a thread, whose children have a kernel without `call`.
fn without<T: Send>(call: i64, work: impl FnOnce() -> T + Send) -> T {
    let rules = [(call, Vec::new())].into_iter().collect();
    let absent = SeccompAction::Errno(rustix::io::Errno::NOSYS.raw_os_error() as u32);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, absent, arch).unwrap();
    let filter: seccompiler::BpfProgram = filter.try_into().unwrap();
    thread::scope(|scope| {
        let filtered = || {
            seccompiler::apply_filter(&filter).unwrap();
            work()
        };
        scope.spawn(filtered).join().unwrap()
    })
}

#[test]
fn what_a_kernel_lacks_is_done_without_or_refused() {
    for (call, part) in [
        (libc::SYS_landlock_create_ruleset, "landlock"),
        (libc::SYS_seccomp, "seccomp"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let (_server, stderr) = without(call, || start(place.path(), &["--sandbox", "auto"]));
        let line = first_line(stderr);
        assert!(line.contains(&format!("; without {part}: ")), "{line}");
        connect(place.path()).mount();

        let output = without(call, || {
            Command::new(program())
                .args(["serve", "--sandbox", "require", "--root", "/", "--listen"])
                .arg(format!("unix:{}", place.path().join("other").display()))
                .output()
                .unwrap()
        });
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        let expected = format!("gofer-server-mock: cannot sandbox this process: {part}: ");
        assert!(error.starts_with(&expected), "{error}");
        assert!(output.stdout.is_empty(), "it was announced");
        assert!(!place.path().join("other").exists(), "its socket is left");
    }
}

/// Only landlock keeps a server from opening what it once found below its root.
#[test]
fn what_is_moved_out_of_the_root_cannot_be_opened_any_more() {
    for (mode, expected) in [("auto", Err(13)), ("off", Ok(()))] {
        let place = tempfile::tempdir().unwrap();
        let (dir, outside) = (place.path().join("root/dir"), place.path().join("outside"));
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(dir.join("file"), "secret").unwrap();
        let (_server, stderr) = start(place.path(), &["--sandbox", mode]);
        if mode == "auto" {
            let line = first_line(stderr);
            if !line.contains("landlock (") {
                eprintln!("not run: {line}");
                return;
            }
        }
        let client = connect(place.path());
        let file = client.walk_to(client.mount(), &["dir", "file"]);
        fs::rename(&dir, outside.join("dir")).unwrap();
        let opened = client.ask(&OpenAtReq { fd: file, flags: 0 });
        assert_eq!(opened.map(drop), expected, "{mode}");
    }
}
