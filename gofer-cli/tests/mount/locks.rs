//! Locks on mounts: with `locks=server` they meet those of other mounts and of the shell.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{FlockOperation, fcntl_lock, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::{Mount, PATIENCE};
use crate::common::{Run, Server, finish};

const OPTIONS: &str = "cache=none,version=9P2000.L,locks=server";

/// Two mounts of one server.
fn two(server: &Server) -> Option<[Mount; 2]> {
    let mount = || Mount::with(|| server.command(&[]), OPTIONS);
    Some([mount()?, mount()?])
}

fn open(mount: &Mount) -> File {
    File::options()
        .read(true)
        .write(true)
        .open(mount.at("file"))
        .unwrap()
}

#[test]
fn two_mounts_see_each_others_locks() {
    let server = Server::start();
    std::fs::write(server.tree.host("file"), "0123456789").unwrap();
    let Some([one, two]) = two(&server) else {
        return;
    };
    let (a, b) = (open(&one), open(&two));
    flock(&a, FlockOperation::NonBlockingLockExclusive).unwrap();
    let refused = flock(&b, FlockOperation::NonBlockingLockShared);
    assert_eq!(refused, Err(Errno::AGAIN));
    flock(&a, FlockOperation::Unlock).unwrap();
    flock(&b, FlockOperation::NonBlockingLockShared).unwrap();
    flock(&a, FlockOperation::NonBlockingLockShared).unwrap();
    // Closing gives up what is held; the kernel tells of the last close without waiting.
    drop(b);
    let begun = Instant::now();
    while flock(&a, FlockOperation::NonBlockingLockExclusive).is_err() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    // The two kinds of locks see each other: this one is not to go at some later time.
    flock(&a, FlockOperation::Unlock).unwrap();
    drop(a);

    let (a, b) = (open(&one), open(&two));
    fcntl_lock(&a, FlockOperation::NonBlockingLockExclusive).unwrap();
    let refused = fcntl_lock(&b, FlockOperation::NonBlockingLockExclusive);
    assert_eq!(refused, Err(Errno::AGAIN));
    assert_eq!(holder(&b), i32::from(libc::F_WRLCK as i16));
    // Any close of the file by the process, as fcntl(2) has it.
    drop(File::open(one.at("file")).unwrap());
    fcntl_lock(&b, FlockOperation::NonBlockingLockExclusive).unwrap();
}

/// The type of the lock that is in the way of an exclusive one.
fn holder(file: &File) -> i32 {
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file.as_fd(), FcntlArg::F_GETLK(&mut lock)).unwrap();
    i32::from(lock.l_type)
}

#[test]
fn exclusive_flock_through_a_file_that_cannot_be_written() {
    let server = Server::start();
    std::fs::write(server.tree.host("file"), "").unwrap();
    let Some([one, _]) = two(&server) else {
        return;
    };
    let a = File::open(one.at("file")).unwrap();
    let b = File::open(one.at("file")).unwrap();
    flock(&a, FlockOperation::NonBlockingLockExclusive).unwrap();
    let refused = flock(&b, FlockOperation::NonBlockingLockExclusive);
    assert_eq!(refused, Err(Errno::AGAIN));
    flock(&a, FlockOperation::Unlock).unwrap();
    flock(&b, FlockOperation::NonBlockingLockExclusive).unwrap();
}

#[test]
fn the_shell_and_a_mount_see_each_others_locks() {
    let server = Server::start();
    std::fs::write(server.tree.host("file"), "").unwrap();
    let Some([one, _]) = two(&server) else {
        return;
    };
    let lock = || -> Run {
        let mut command = server.command(&["-o", "version=9P2000.L,locks=server"]);
        command.args(["lock", "file", "--", "true"]);
        finish(command, b"")
    };
    lock().ok();
    let held = open(&one);
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    let refused = lock().fails(1);
    assert!(
        refused.stderr.contains("locked by somebody else"),
        "{refused:?}"
    );
    flock(&held, FlockOperation::Unlock).unwrap();
    lock().ok();
}

/// A program that waits for the lock of `file`.
fn waiter(mount: &Mount) -> Child {
    let mut command = Command::new("flock");
    command.arg(mount.at("file")).args(["echo", "had it"]);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// Waits until a process sleeps in a request to a mount.
fn wait_until_it_waits(child: &Child) {
    let begun = Instant::now();
    loop {
        let call = std::fs::read_to_string(format!("/proc/{}/syscall", child.id()));
        // flock(2) on this architecture.
        if call.is_ok_and(|text| text.starts_with(&format!("{} ", libc::SYS_flock))) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not wait");
        std::thread::yield_now();
    }
}

#[test]
fn whoever_waits_for_a_lock_gets_it_or_can_be_ended_and_holds_up_nobody() {
    let server = Server::start();
    std::fs::write(server.tree.host("file"), "").unwrap();
    let Some([one, two]) = two(&server) else {
        return;
    };
    let held = open(&one);
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    // More than there are threads to serve the mount.
    let mut waiters: Vec<Child> = (0..40).map(|_| waiter(&two)).collect();
    waiters.iter().for_each(wait_until_it_waits);
    let begun = Instant::now();
    assert_eq!(std::fs::metadata(two.at("file")).unwrap().len(), 0);
    assert!(begun.elapsed() < Duration::from_secs(5));
    for (number, waiter) in waiters.iter_mut().enumerate().skip(1) {
        let signal = [Signal::TERM, Signal::KILL, Signal::INT][number % 3];
        kill_process(Pid::from_child(waiter), signal).unwrap();
        assert!(!waiter.wait().unwrap().success());
    }
    flock(&held, FlockOperation::Unlock).unwrap();
    let output = waiters.swap_remove(0).wait_with_output().unwrap();
    assert_eq!(output.stdout, b"had it\n");
}

#[test]
fn without_the_option_locks_are_the_kernels_own() {
    let server = Server::start();
    std::fs::write(server.tree.host("file"), "").unwrap();
    let mount = || Mount::with(|| server.command(&[]), "cache=none");
    let (Some(one), Some(two)) = (mount(), mount()) else {
        return;
    };
    let (a, b, c) = (open(&one), open(&one), open(&two));
    flock(&a, FlockOperation::NonBlockingLockExclusive).unwrap();
    let refused = flock(&b, FlockOperation::NonBlockingLockExclusive);
    assert_eq!(refused, Err(Errno::AGAIN));
    flock(&c, FlockOperation::NonBlockingLockExclusive).unwrap();
}
