//! How mounts end: what `umount` waits for and tells, and who else may end one.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use gofer_transport::mapping::{Access, Mapping};
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use super::{Mount, PATIENCE};
use crate::common::{Run, Tree, both, copy_program, finish, gofer, is_root};

#[test]
fn umount_returns_when_the_process_has_written_everything() {
    both(|tree| {
        // What is written stays in the mount's process until it must go.
        let Some(mut mount) = Mount::new(tree, "cache=fscache,force_page_cache") else {
            return;
        };
        fs::write(mount.at("file"), vec![b'd'; 3 << 20]).unwrap();
        mount.umount_unused().ok();
        assert_eq!(fs::read(tree.host("file")).unwrap(), vec![b'd'; 3 << 20]);
        assert!(!mount.base.path().join("pid").exists());
    });
}

#[test]
fn umount_waits_for_its_own_process_when_that_of_an_earlier_mount_lingers() {
    let tree = Tree::new(false);
    let Some(mut earlier) = Mount::new(&tree, "cache=fscache") else {
        return;
    };
    let lingers = earlier.process();
    kill_process(lingers, Signal::STOP).unwrap();
    // The kernel gives its device number to the next mount.
    rustix::mount::unmount(earlier.dir(), rustix::mount::UnmountFlags::empty()).unwrap();
    earlier.attached = false;
    let mut mount = Mount::new(&tree, "cache=fscache,force_page_cache").unwrap();
    fs::write(mount.at("file"), vec![b'd'; 3 << 20]).unwrap();
    mount.umount_unused().ok();
    assert!(!mount.base.path().join("pid").exists());
    assert_eq!(fs::read(tree.host("file")).unwrap(), vec![b'd'; 3 << 20]);
    kill_process(lingers, Signal::KILL).unwrap();
    earlier.wait_for_end(lingers);
}

#[test]
fn umount_tells_of_what_could_not_be_written() {
    both(|tree| {
        let Some(mut mount) = Mount::new(tree, "cache=fscache,force_page_cache") else {
            return;
        };
        let mut file = fs::File::create(mount.at("file")).unwrap();
        file.write_all(b"dirty").unwrap();
        let server = mount.server();
        kill_process(server, Signal::KILL).unwrap();
        mount.wait_for_end(server);
        drop(file);
        let failed = mount.umount_unused().fails(32);
        assert!(failed.stderr.contains("unmounted, but"), "{failed:?}");
        mount.attached = false;
        let nothing = mount.umount(&[]).fails(32);
        assert!(nothing.stderr.contains("nothing is mounted"), "{nothing:?}");
        mount.attached = false;
    });
}

/// A small file system of the host's on a directory of the tree, until dropped.
struct Small(PathBuf);

impl Small {
    fn new(dir: PathBuf) -> Small {
        fs::create_dir(&dir).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]);
        command.arg(&dir);
        finish(command, b"").ok();
        Small(dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // The server may not have ended yet.
        let mut command = Command::new("umount");
        command.arg("--lazy").arg(&self.0);
        finish(command, b"");
    }
}

/// Writes to a mapping of a hole where there is no space left, whose file is closed before or
/// after that; then unmounts.
fn umount_after_a_lost_page(tree: &Tree, closed_before: bool) -> Option<Run> {
    if !is_root() {
        eprintln!("not run: a full file system needs root");
        return None;
    }
    let small = Small::new(tree.host("small"));
    let mut mount = Mount::new(tree, "cache=fscache_writethrough")?;
    let file = fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(mount.at("small/file"))
        .unwrap();
    file.set_len(4096).unwrap();
    let full = fs::write(small.0.join("rest"), vec![b'r'; 1 << 20]);
    assert!(full.is_err());
    let access = Access {
        write: true,
        execute: false,
        shared: true,
    };
    let mapping = Mapping::new(file.as_fd(), 0, 4096, access).unwrap();
    let file = (!closed_before).then_some(file);
    mapping.write(0, b"lost").unwrap();
    drop(mapping);
    if let Some(file) = file {
        let closed = nix::unistd::close(file);
        assert_eq!(closed, Err(nix::errno::Errno::ENOSPC), "a close tells");
    }
    let run = mount.umount_unused();
    mount.attached = false;
    Some(run)
}

#[test]
fn umount_tells_of_mapped_pages_that_nobody_was_told_of() {
    both(|tree| {
        if let Some(untold) = umount_after_a_lost_page(tree, true) {
            let said = &untold.fails(32).stderr;
            let lost = "what was written to mappings of closed files is lost";
            assert!(said.contains(lost), "{said}");
        }
    });
    both(|tree| {
        if let Some(told) = umount_after_a_lost_page(tree, false) {
            told.ok();
        }
    });
}

#[test]
fn umount_tells_of_a_process_that_was_killed() {
    let tree = Tree::new(false);
    let Some(mut mount) = Mount::new(&tree, "cache=fscache") else {
        return;
    };
    let process = mount.process();
    kill_process(process, Signal::STOP).unwrap();
    let umount = std::thread::scope(|scope| {
        let umount = scope.spawn(|| {
            let mut command = gofer();
            command.arg("umount").arg(mount.dir());
            finish(command, b"")
        });
        // It asked for the process before it unmounted, and waits for it now.
        let begun = Instant::now();
        let mounted = || {
            let table = fs::read_to_string("/proc/self/mounts").unwrap();
            table.contains(mount.dir().to_str().unwrap())
        };
        while mounted() {
            assert!(begun.elapsed() < PATIENCE, "it does not unmount");
            std::thread::yield_now();
        }
        kill_process(process, Signal::KILL).unwrap();
        umount.join().unwrap()
    });
    mount.attached = false;
    let said = &umount.fails(32).stderr;
    assert!(
        said.contains("unmounted, but its process was lost"),
        "{said}"
    );
}

#[test]
fn fusermount_ends_a_mount() {
    both(|tree| {
        let Some(mut mount) = Mount::new(tree, "cache=fscache") else {
            return;
        };
        fs::write(mount.at("file"), "written").unwrap();
        let process = mount.process();
        let mut command = Command::new("fusermount3");
        command.arg("-u").arg(mount.dir());
        finish(command, b"").ok();
        mount.attached = false;
        mount.wait_for_end(process);
        assert_eq!(tree.read("file"), "written");
    });
}

/// The user that is nobody.
const NOBODY: u32 = 65534;

/// Runs `script` as an ordinary user, who may open /dev/fuse as on most systems.
fn as_nobody(script: &str, arguments: &[&Path]) -> Run {
    let become_nobody = r#"
        device=$(mktemp -u); mknod -m 666 "$device" c 10 229
        mount --bind "$device" /dev/fuse; rm "$device"
        exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -ec "$@"
    "#;
    let mut command = Command::new("unshare");
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .args(["--mount", "--propagation", "private"])
        .args(["sh", "-ec", become_nobody, "sh", script, "sh"])
        .args(arguments);
    finish(command, b"")
}

#[test]
fn an_ordinary_user_mounts_and_unmounts_through_fusermount() {
    if !Path::new("/dev/fuse").exists() || !is_root() {
        eprintln!("not run: mounting needs /dev/fuse, becoming another user needs root");
        return;
    }
    let base = TempDir::new().unwrap();
    fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // The build directory may be out of this user's reach.
    let program = base.path().join("gofer-cli");
    copy_program(env!("CARGO_BIN_EXE_gofer-cli"), &program);
    for protocol in ["9p", "lisafs"] {
        let [tree, dir] =
            ["tree", "mnt"].map(|name| base.path().join(format!("{protocol}-{name}")));
        for dir in [&tree, &dir] {
            fs::create_dir(dir).unwrap();
            std::os::unix::fs::chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let flag = match protocol {
            "lisafs" => "--lisafs",
            _ => "--color=never",
        };
        let script = r#"
            "$1" "$4" --root "$2" mount "$3"
            grep " $3 fuse.gofer .*user_id=65534" /proc/self/mounts > /dev/null
            (cd "$3"; echo a > f; mkdir d; mv f d; cat d/f; ln -s f l; chmod 600 d/f)
            "$1" umount "$3"
            ls "$3"
        "#;
        let run = as_nobody(script, &[&program, &tree, &dir, Path::new(flag)]);
        assert_eq!(run.ok().text(), "a\n");
        assert_eq!(fs::read(tree.join("d/f")).unwrap(), b"a\n");
    }
}

#[test]
fn mount_and_umount_of_the_system_know_the_type() {
    let tree = Tree::new(false);
    let Some(mount) = Mount::new(&tree, "cache=fscache") else {
        return;
    };
    drop(mount);
    tree.write("file", "content");
    let base = TempDir::new().unwrap();
    let [helpers, dir] = ["helpers", "mnt"].map(|name| base.path().join(name));
    for dir in [&helpers, &dir] {
        fs::create_dir(dir).unwrap();
    }
    for name in ["mount.fuse.gofer", "umount.fuse.gofer"] {
        let link = helpers.join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_gofer-cli"), link).unwrap();
    }
    let fstab = base.path().join("fstab");
    let line = format!(
        "lisafs+{} {} fuse.gofer ro,nosuid,cache=none,noauto,_netdev,x-test.word 0 0\n",
        tree.dir.path().display(),
        dir.display()
    );
    fs::write(&fstab, line).unwrap();
    // In a mount namespace of its own the helpers are where mount(8) looks for them.
    let script = r#"
        mount -t overlay overlay -o lowerdir="$1":/usr/sbin /usr/sbin
        mount --fstab "$2" "$3"
        cat "$3/file"
        ! touch "$3/new" 2>/dev/null
        grep " $3 fuse.gofer ro,nosuid" /proc/self/mounts | wc -l
        umount "$3"
        mount -t fuse.gofer "$4" "$3"
        touch "$3/made"
        umount "$3"
        ls "$3"
    "#;
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            script,
            "sh",
        ])
        .args([&helpers, &fstab, &dir])
        .arg(tree.dir.path());
    let run = finish(command, b"").ok();
    assert_eq!(run.text(), "content1\n");
    assert!(tree.host("made").exists());
}
