//! A directory of the host, in which operations are plain system calls.

mod calls;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use gofer_vfs::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::op::{Op, Outcome, Side, User};
use calls::Calls;

/// A tree that a thread of its own works on, whose root is the tree's: so `..`, absolute paths
/// and links lead where they lead on a mount. What is open there is closed when this is dropped.
pub struct HostTree {
    /// `None` once it is being dropped.
    requests: Option<Sender<(User, Op)>>,
    answers: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
}

impl HostTree {
    /// Works in `dir`. Needs root.
    pub fn new(dir: &Path) -> Result<HostTree> {
        let (requests, jobs) = channel::<(User, Op)>();
        let (results, answers) = channel();
        let (ready, begun) = channel();
        let dir = PathBuf::from(dir);
        let thread = thread::Builder::new()
            .name("tree".to_owned())
            .spawn(move || {
                let entered = enter(&dir);
                let failed = entered.is_err();
                // Both ends live until the thread is joined.
                let _ = ready.send(entered);
                if failed {
                    return;
                }
                let mut calls = Calls::default();
                for (user, op) in jobs {
                    let outcome = act_as(user).and_then(|()| calls.run(&op));
                    // The kernel lets the thread be itself again whatever it was.
                    let outcome = act_as(User::Root).and(outcome);
                    if results.send(outcome).is_err() {
                        break;
                    }
                }
            })
            .context("start a thread")?;
        begun
            .recv()
            .map_err(|_| anyhow!("the thread of a tree ended"))?
            .context("enter a tree")?;
        Ok(HostTree {
            requests: Some(requests),
            answers,
            thread: Some(thread),
        })
    }
}

impl Side for HostTree {
    fn run(&mut self, user: User, op: &Op) -> Outcome {
        // A thread that is gone has panicked: that is a bug of this test.
        let sent = self.requests.as_ref().map(|to| to.send((user, op.clone())));
        let answer = sent.and_then(Result::ok).map(|()| self.answers.recv());
        match answer {
            Some(Ok(outcome)) => outcome,
            _ => panic!("the thread of a tree has ended"),
        }
    }
}

impl Drop for HostTree {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was seen by whoever asked it last.
            let _ = thread.join();
        }
    }
}

/// Makes `dir` the root of this thread alone.
fn enter(dir: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_FS)?;
    rustix::process::chroot(dir)?;
    std::env::set_current_dir("/")?;
    umask(Mode::empty());
    Ok(())
}

fn act_as(user: User) -> Result<(), Errno> {
    let (uid, gid, groups) = user.ids();
    let groups: Vec<Gid> = groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // Whoever gives up being root does so last, whoever becomes root does so first.
    let root = uid.is_root();
    if root {
        set_thread_res_uid(None, uid, None)?;
    }
    set_thread_groups(&groups)?;
    set_thread_res_gid(None, gid, None)?;
    if !root {
        set_thread_res_uid(None, uid, None)?;
    }
    Ok(())
}

/// Removes all that is in `dir` and gives it this mode.
pub fn clear(dir: &Path, mode: u32) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let real = fs::symlink_metadata(&path)?.is_dir();
        match real {
            true => fs::remove_dir_all(&path)?,
            false => fs::remove_file(&path)?,
        }
    }
    std::os::unix::fs::chown(dir, Some(0), Some(0))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(mode))?;
    for name in xattr_names(dir)? {
        rustix::fs::removexattr(dir, name.as_slice())?;
    }
    Ok(())
}

fn xattr_names(dir: &Path) -> Result<Vec<Vec<u8>>> {
    let mut buffer = vec![0; 1 << 16];
    let len = rustix::fs::listxattr(dir, buffer.as_mut_slice())?;
    buffer.truncate(len);
    let names = buffer.split(|byte| *byte == 0).map(<[u8]>::to_vec);
    Ok(names.filter(|name| !name.is_empty()).collect())
}
