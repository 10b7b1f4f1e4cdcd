//! `mount` and `umount`: the tree as a directory, as programs see it.
//!
//! Where nothing can be mounted these are not run; `cargo xtask suites` then counts that.

mod ending;
mod kinds;
mod limits;
mod locks;
mod shared;

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use gofer_transport::mapping::{Access, Mapping};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, XattrFlags, utimensat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::common::{Tree, both, copy_program, finish, gofer, is_root, me};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A mount of a [`Tree`].
struct Mount {
    base: TempDir,
    attached: bool,
}

impl Mount {
    /// Mounts `tree`; `None` where that cannot be done.
    fn new(tree: &Tree, options: &str) -> Option<Mount> {
        Mount::with(|| tree.command(&[] as &[&str]), options)
    }

    /// Mounts what the program is connected to by `command`.
    fn with(command: impl Fn() -> Command, options: &str) -> Option<Mount> {
        if !Path::new("/dev/fuse").exists() || !is_root() {
            eprintln!("not run: mounting needs /dev/fuse and root");
            return None;
        }
        let mount = Mount {
            base: TempDir::new().expect("temporary directory"),
            attached: true,
        };
        fs::create_dir(mount.dir()).expect("mount point");
        let mut command = command();
        command.args(["mount", "-o", options, "--pid-file"]);
        command.arg(mount.base.path().join("pid")).arg(mount.dir());
        finish(command, b"").ok();
        Some(mount)
    }

    fn dir(&self) -> PathBuf {
        self.base.path().join("mnt")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// The process that serves it.
    fn process(&self) -> Pid {
        pid(&fs::read_to_string(self.base.path().join("pid")).expect("pid file"))
    }

    /// The server it started.
    fn server(&self) -> Pid {
        let own = self.process().as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        pid(&children.expect("children"))
    }

    /// Unmounts what no test uses any more. What other tests have just started may have copies of
    /// this process's descriptors still: then it is in use for a moment.
    fn umount_unused(&mut self) -> crate::common::Run {
        let begun = Instant::now();
        loop {
            let run = self.umount(&[]);
            if !run.stderr.contains("EBUSY") || begun.elapsed() > PATIENCE {
                return run;
            }
        }
    }

    fn umount(&mut self, flags: &[&str]) -> crate::common::Run {
        let mut command = gofer();
        command.arg("umount").args(flags).arg(self.dir());
        let run = finish(command, b"");
        self.attached &= run.code != Some(0);
        run
    }

    /// Waits until the process that served it has ended.
    fn wait_for_end(&self, process: Pid) {
        let proc = PathBuf::from(format!("/proc/{}", process.as_raw_nonzero()));
        let gone = || match fs::read_to_string(proc.join("stat")) {
            // A zombie has ended; who waits for it is not our affair.
            Ok(stat) => stat
                .rsplit(')')
                .next()
                .is_some_and(|rest| rest.starts_with(" Z")),
            Err(_) => true,
        };
        let begun = Instant::now();
        while !gone() {
            assert!(begun.elapsed() < PATIENCE, "the mount's process goes on");
            std::thread::yield_now();
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.attached {
            let run = self.umount(&["-l"]);
            if !std::thread::panicking() {
                run.ok();
            }
        }
    }
}

fn pid(text: &str) -> Pid {
    let number = text.split_whitespace().next().expect("a number");
    Pid::from_raw(number.parse().expect("a number")).expect("a process")
}

fn errno(error: &std::io::Error) -> i32 {
    error.raw_os_error().expect("an error number")
}

const EIO: i32 = 5;

/// An operation on a mount.
type Attempt<'a> = Box<dyn Fn() -> std::io::Result<()> + 'a>;

#[test]
fn a_mount_answers_when_the_command_ends_and_ends_with_umount() {
    both(|tree| {
        tree.write("file", "content");
        let Some(mut mount) = Mount::new(tree, "cache=fscache") else {
            return;
        };
        assert_eq!(fs::read(mount.at("file")).unwrap(), b"content");
        fs::write(mount.at("new"), "from the mount").unwrap();
        let (process, server) = (mount.process(), mount.server());
        mount.umount_unused().ok();
        mount.wait_for_end(process);
        mount.wait_for_end(server);
        assert_eq!(tree.read("new"), "from the mount");
        assert!(!mount.base.path().join("pid").exists());
    });
}

#[test]
fn files_on_a_mount_are_what_they_are_on_the_host() {
    both(|tree| {
        for mode in ["fscache", "none"] {
            let Some(mount) = Mount::new(tree, &format!("cache={mode}")) else {
                return;
            };
            let odd = OsStr::from_bytes(b"odd \xff\x01name");
            fs::write(mount.dir().join(odd), "x").unwrap();
            assert!(tree.dir.path().join(odd).exists());
            fs::remove_file(mount.dir().join(odd)).unwrap();

            fs::write(mount.at("one"), "1").unwrap();
            fs::hard_link(mount.at("one"), mount.at("two")).unwrap();
            let links = ["one", "two"].map(|name| fs::metadata(mount.at(name)).unwrap());
            assert_eq!(links[0].ino(), links[1].ino());
            assert_eq!(links.map(|metadata| metadata.nlink()), [2, 2]);
            fs::remove_file(mount.at("one")).unwrap();
            assert_eq!(fs::metadata(mount.at("two")).unwrap().nlink(), 1);

            // A file without a name goes on.
            let mut open = fs::File::options()
                .read(true)
                .write(true)
                .open(mount.at("two"))
                .unwrap();
            fs::remove_file(mount.at("two")).unwrap();
            open.write_all(b"more").unwrap();
            open.set_len(3).unwrap();
            let mut text = String::new();
            std::io::Seek::rewind(&mut open).unwrap();
            open.read_to_string(&mut text).unwrap();
            assert_eq!(text, "mor");
            assert_eq!(open.metadata().unwrap().nlink(), 0);

            for number in 0..500 {
                fs::write(mount.at(&format!("many-{number}")), "").unwrap();
            }
            let listed = fs::read_dir(mount.dir()).unwrap();
            let mut names: Vec<_> = listed.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), 500);
            for name in names {
                fs::remove_file(mount.dir().join(name)).unwrap();
            }
        }
    });
}

#[test]
fn a_running_program_is_not_emptied_by_an_open_that_is_refused() {
    both(|tree| {
        for mode in ["fscache", "none"] {
            let Some(mount) = Mount::new(tree, &format!("cache={mode}")) else {
                return;
            };
            let name = format!("program-{mode}");
            copy_program("/bin/sleep", &mount.at(&name));
            let size = fs::metadata("/bin/sleep").unwrap().len();
            let mut program = Command::new(mount.at(&name)).arg("1000").spawn().unwrap();
            for flags in [OFlags::RDONLY | OFlags::TRUNC, OFlags::WRONLY, OFlags::RDWR] {
                let opened = rustix::fs::open(mount.at(&name), flags, Mode::empty());
                assert_eq!(opened.unwrap_err(), Errno::TXTBSY, "{mode} {flags:?}");
            }
            assert_eq!(fs::metadata(tree.host(&name)).unwrap().len(), size);
            program.kill().unwrap();
            program.wait().unwrap();
            // With nobody running it, it is emptied as any other file.
            let flags = OFlags::WRONLY | OFlags::TRUNC;
            rustix::fs::open(mount.at(&name), flags, Mode::empty()).unwrap();
            assert_eq!(fs::metadata(tree.host(&name)).unwrap().len(), 0);
            assert_eq!(fs::metadata(mount.at(&name)).unwrap().len(), 0);
        }
    });
}

/// `script` run by somebody who owns nothing here.
fn stranger(script: &str, path: &Path) -> Command {
    let mut program = Command::new("sh");
    program.args(["-c", script, "sh"]).arg(path);
    program.uid(1000).gid(1000);
    program
}

/// As [`Mount::new`], with set-ID bits, for everybody.
fn mount_for_all(tree: &Tree, mode: &str) -> Option<Mount> {
    let mount = Mount::new(tree, &format!("cache={mode},suid,allow_other"))?;
    for dir in [mount.base.path(), &mount.dir()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
    Some(mount)
}

const MODES: [&str; 3] = ["fscache", "remote_revalidating", "none"];

#[test]
fn changes_by_others_take_set_id_bits_away() {
    both(|tree| {
        for mode in MODES {
            let Some(mount) = mount_for_all(tree, mode) else {
                return;
            };
            for (what, script) in [
                ("write", "echo y >> \"$1\""),
                ("cut", "truncate -s 1 \"$1\""),
                ("empty", ": > \"$1\""),
                ("allocate", "fallocate -l 8192 \"$1\""),
            ] {
                for (before, after) in [(0o6777, 0o777), (0o2777, 0o777), (0o666, 0o666)] {
                    let name = format!("{mode}-{what}-{before:o}");
                    fs::write(mount.at(&name), "xyz").unwrap();
                    let permissions = fs::Permissions::from_mode(before);
                    fs::set_permissions(mount.at(&name), permissions).unwrap();
                    let done = stranger(script, &mount.at(&name)).status().unwrap();
                    if what == "allocate" && !done.success() {
                        // Plain 9P2000.L cannot.
                        continue;
                    }
                    assert!(done.success(), "{name}");
                    for path in [mount.at(&name), tree.host(&name)] {
                        let found = fs::metadata(&path).unwrap().mode() & 0o7777;
                        assert_eq!(found, after, "{}", path.display());
                    }
                }
            }
        }
    });
}

#[test]
fn a_new_owner_costs_set_id_bits_and_root_may_write() {
    both(|tree| {
        for mode in MODES {
            let Some(mount) = mount_for_all(tree, mode) else {
                return;
            };
            let file = mount.at("file");
            let mode_of = || fs::metadata(&file).unwrap().mode() & 0o7777;
            fs::write(&file, "x").unwrap();
            for (owner, before, after) in [
                (Some(0), 0o6777, 0o777),
                (Some(1000), 0o4755, 0o755),
                (Some(0), 0o2644, 0o2644),
            ] {
                fs::set_permissions(&file, fs::Permissions::from_mode(before)).unwrap();
                std::os::unix::fs::chown(&file, owner, None).unwrap();
                assert_eq!(mode_of(), after, "{mode} {before:o}");
            }
            fs::set_permissions(&file, fs::Permissions::from_mode(0o6755)).unwrap();
            fs::write(&file, "more").unwrap();
            assert_eq!(mode_of(), 0o6755, "{mode}");
        }
    });
}

#[test]
fn a_program_that_others_changed_runs_without_its_set_id_bits() {
    both(|tree| {
        for mode in MODES {
            let Some(mount) = mount_for_all(tree, mode) else {
                return;
            };
            let program = mount.at("id");
            copy_program("/usr/bin/id", &program);
            fs::set_permissions(&program, fs::Permissions::from_mode(0o4777)).unwrap();
            let runs_as = || stranger("\"$1\" -u", &program).output().unwrap().stdout;
            assert_eq!(runs_as(), b"0\n", "{mode}");
            // Nobody looks at the file in between.
            let script = "echo >> \"$1\" && \"$1\" -u";
            let out = stranger(script, &program).output().unwrap().stdout;
            assert_eq!(out, b"1000\n", "{mode}");
        }
    });
}

#[test]
fn what_is_written_to_a_mapping_stays_in_its_place_in_a_file_that_appends() {
    both(|tree| {
        let Some(mut mount) = Mount::new(tree, "cache=fscache") else {
            return;
        };
        fs::write(mount.at("file"), [b'.'; 5000]).unwrap();
        let mut options = fs::OpenOptions::new();
        let file = options
            .read(true)
            .append(true)
            .open(mount.at("file"))
            .unwrap();
        let access = Access {
            write: true,
            execute: false,
            shared: true,
        };
        let map = Mapping::new(file.as_fd(), 0, 4096, access).unwrap();
        assert_eq!(map.write(7, b"mapped").unwrap(), 6);
        map.sync(0, 4096).unwrap();
        drop((map, file));
        mount.umount_unused().ok();
        let mut expected = [b'.'; 5000];
        expected[7..13].copy_from_slice(b"mapped");
        assert!(fs::read(tree.host("file")).unwrap() == expected);
    });
}

#[test]
fn times_and_attributes_that_fuser_mistakes_arrive_as_they_were_meant() {
    both(|tree| {
        let Some(mount) = Mount::new(tree, "cache=fscache") else {
            return;
        };
        fs::write(mount.at("file"), "").unwrap();
        for (tv_sec, tv_nsec) in [(-2, 250_000_000), (-1, 0), (-1, 999_999_999), (5, 1)] {
            let time = Timespec { tv_sec, tv_nsec };
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            utimensat(CWD, mount.at("file"), &times, AtFlags::empty()).unwrap();
            for place in [mount.at("file"), tree.host("file")] {
                let metadata = fs::metadata(place).unwrap();
                assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (tv_sec, tv_nsec));
            }
        }
        // The earliest time there is must not end a thread; more often than there are threads.
        let time = Timespec {
            tv_sec: i64::MIN,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        for _ in 0..40 {
            // What the server's file system makes of it is its affair.
            let _ = utimensat(CWD, mount.at("file"), &times, AtFlags::empty());
        }
        for _ in 0..40 {
            let set = rustix::fs::setxattr(mount.at("file"), "user.a", b"b", XattrFlags::empty());
            set.unwrap();
        }
        let mut value = [0u8; 8];
        let size = rustix::fs::getxattr(mount.at("file"), "user.a", &mut value[..]).unwrap();
        assert_eq!(&value[..size], b"b");
    });
}

#[test]
fn a_dead_server_is_an_error_within_a_second_and_no_hang() {
    both(|tree| {
        tree.write("file", "content");
        std::fs::create_dir(tree.host("dir")).unwrap();
        symlink("file", tree.host("link")).unwrap();
        for mode in ["fscache", "remote_revalidating", "none"] {
            let Some(mount) = Mount::new(tree, &format!("cache={mode}")) else {
                return;
            };
            let open = fs::File::options()
                .read(true)
                .write(true)
                .open(mount.at("file"))
                .unwrap();
            kill_process(mount.server(), Signal::KILL).unwrap();
            mount.wait_for_end(mount.server_or(mount.process()));
            let at = |name: &str| mount.at(name);
            let attempts: Vec<(&str, Attempt<'_>)> = vec![
                ("stat", Box::new(|| fs::metadata(at("unknown")).map(drop))),
                (
                    "open",
                    Box::new(|| fs::File::open(at("unknown-2")).map(drop)),
                ),
                ("mkdir", Box::new(|| fs::create_dir(at("new-dir")))),
                ("create", Box::new(|| fs::write(at("new"), "x"))),
                ("symlink", Box::new(|| symlink("a", at("new-link")))),
                ("readlink", Box::new(|| fs::read_link(at("link")).map(drop))),
                ("unlink", Box::new(|| fs::remove_file(at("file-2")))),
                ("rmdir", Box::new(|| fs::remove_dir(at("dir")))),
                ("rename", Box::new(|| fs::rename(at("link"), at("moved")))),
                (
                    "link",
                    Box::new(|| fs::hard_link(at("dir-2"), at("second"))),
                ),
                ("list", Box::new(|| fs::read_dir(at("dir")).map(drop))),
                (
                    "statfs",
                    Box::new(|| Ok(rustix::fs::statfs(mount.dir()).map(drop)?)),
                ),
                (
                    "setxattr",
                    Box::new(|| {
                        let none = XattrFlags::empty();
                        Ok(rustix::fs::fsetxattr(&open, "user.a", b"b", none)?)
                    }),
                ),
            ];
            for (name, attempt) in attempts {
                let begun = Instant::now();
                let error = attempt().expect_err(name);
                assert_eq!(errno(&error), EIO, "{name} in mode {mode}");
                assert!(
                    begun.elapsed() < Duration::from_secs(1),
                    "{name} in mode {mode}"
                );
            }
            // With a donated descriptor the data stays within reach.
            let begun = Instant::now();
            let _ = open.read_at(&mut [0; 4], 0);
            let _ = open.write_at(b"x", 0);
            let _ = open.sync_all();
            drop(open);
            assert!(begun.elapsed() < Duration::from_secs(2), "mode {mode}");
        }
    });
}

impl Mount {
    /// The server while there is one, else `other`.
    fn server_or(&self, other: Pid) -> Pid {
        let own = self.process().as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        match children {
            Ok(text) if !text.trim().is_empty() => pid(&text),
            _ => other,
        }
    }
}

#[test]
fn a_mount_in_use_stays_until_it_is_told_to_go() {
    let tree = Tree::new(false);
    tree.write("file", "content");
    let Some(mut mount) = Mount::new(&tree, "cache=none") else {
        return;
    };
    let process = mount.process();
    let open = fs::File::open(mount.at("file")).unwrap();
    let refused = mount.umount(&[]).fails(32);
    assert!(refused.stderr.contains("EBUSY"), "{refused:?}");
    assert_eq!(fs::read(mount.at("file")).unwrap(), b"content");
    mount.umount(&["--lazy"]).ok();
    assert!(!mount.at("file").exists());
    // Whoever uses it goes on.
    let mut buffer = [0; 7];
    open.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"content");
    drop(open);
    mount.wait_for_end(process);
}

#[test]
fn a_signal_ends_a_mount_in_use() {
    for signal in [Signal::TERM, Signal::INT] {
        let tree = Tree::new(true);
        tree.write("file", "content");
        let Some(mut mount) = Mount::new(&tree, "cache=none") else {
            return;
        };
        let process = mount.process();
        let open = fs::File::open(mount.at("file")).unwrap();
        kill_process(process, signal).unwrap();
        mount.wait_for_end(process);
        mount.attached = false;
        assert!(!mount.at("file").exists());
        assert!(open.read_at(&mut [0; 7], 0).is_err());
    }
}

#[test]
fn what_a_killed_mount_leaves_is_cleared_by_umount() {
    let tree = Tree::new(false);
    tree.write("file", "content");
    // Attributes that the kernel keeps outlive the process.
    let Some(mut mount) = Mount::new(&tree, "cache=none") else {
        return;
    };
    let process = mount.process();
    kill_process(process, Signal::KILL).unwrap();
    mount.wait_for_end(process);
    // The second is what the kernel says while it is still taking the connection down.
    let error = fs::metadata(mount.dir()).unwrap_err().kind();
    let gone = [ErrorKind::NotConnected, ErrorKind::ConnectionAborted];
    assert!(gone.contains(&error), "{error}");
    // A mount on top of that is refused, with what helps.
    let mut again = tree.command(&["mount"]);
    again.arg(mount.dir());
    let refused = finish(again, b"").fails(32);
    assert!(refused.stderr.contains("umount"), "{refused:?}");
    mount.umount_unused().ok();
    assert_eq!(fs::read_dir(mount.dir()).unwrap().count(), 0);
    let nothing = mount.umount(&[]).fails(32);
    assert!(nothing.stderr.contains("nothing is mounted"), "{nothing:?}");
}

#[test]
fn options_that_make_no_sense_are_refused_before_anything_starts() {
    let tree = Tree::new(false);
    for (options, says) in [
        ("atr_timeout=1", "attr_timeout"),
        ("fsname=a\\,suid", "fsname"),
        ("attr_timeout=-1", "attr_timeout"),
        ("ro=1", "ro"),
        ("cache=sometimes", "cache"),
    ] {
        let command = tree.command(&["mount", "-o", options, "/nonexistent"]);
        let refused = finish(command, b"").fails(2);
        assert!(refused.stderr.contains(says), "{options}: {refused:?}");
    }
    if Path::new("/dev/fuse").exists() && me().0 == 0 {
        finish(tree.command(&["mount", "/nonexistent"]), b"").fails(32);
    }
}
