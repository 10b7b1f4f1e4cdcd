//! Large values, long and odd names, large directories and deep trees on mounts.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr, statvfs};
use rustix::io::Errno;

use tempfile::TempDir;

use super::Mount;
use crate::common::{Tree, both};

/// Trees for both protocols that no disk slows down.
fn in_memory() -> [Tree; 2] {
    [false, true].map(|lisafs| Tree {
        dir: TempDir::new_in("/dev/shm").unwrap(),
        lisafs,
    })
}

/// The longest value that travels over either protocol: one byte less than Linux allows.
const VALUE_MAX: usize = 65_535;

#[test]
fn attributes_of_64_kib() {
    // On a file system that takes such values.
    for tree in in_memory() {
        let Some(mount) = Mount::new(&tree, "cache=fscache") else {
            return;
        };
        fs::write(mount.at("file"), "").unwrap();
        let none = XattrFlags::empty();
        let value: Vec<u8> = (0..=VALUE_MAX).map(|n| (n % 251) as u8).collect();
        let mut buffer = vec![0; 70_000];
        for (name, size) in [("user.small", 3000), ("user.large", VALUE_MAX)] {
            // What the file system below takes depends on it: the mount says the same.
            let below = setxattr(tree.host("file"), "user.below", &value[..size], none);
            let ours = setxattr(mount.at("file"), name, &value[..size], none);
            assert_eq!(ours, below);
            if ours.is_ok() {
                let read = getxattr(mount.at("file"), name, &mut buffer[..]).unwrap();
                assert_eq!(&buffer[..read], &value[..size]);
                let short = getxattr(mount.at("file"), name, &mut buffer[..10]);
                assert_eq!(short, Err(Errno::RANGE));
            }
        }
        let size = listxattr(mount.at("file"), &mut buffer[..]).unwrap();
        let mut names = buffer[..size].split(|byte| *byte == 0);
        assert!(names.any(|name| name == b"user.small"));
        removexattr(mount.at("file"), "user.small").unwrap();
        let gone = getxattr(mount.at("file"), "user.small", &mut buffer[..]);
        assert_eq!(gone, Err(Errno::NODATA));
        let over = setxattr(mount.at("file"), "user.over", &value, none);
        assert_eq!(over, Err(Errno::TOOBIG));
    }
}

#[test]
fn names_of_every_length_and_any_bytes() {
    both(|tree| {
        for mode in ["fscache", "none"] {
            let Some(mount) = Mount::new(tree, &format!("cache={mode}")) else {
                return;
            };
            let bytes: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
            let names = [
                vec![b'n'; 255],
                vec![0xff; 255],
                bytes,
                b"\xc3\x28".to_vec(),
            ];
            for name in &names {
                let name = OsStr::from_bytes(name);
                fs::write(mount.dir().join(name), "x").unwrap();
                assert!(tree.dir.path().join(name).exists());
            }
            let listed = fs::read_dir(mount.dir()).unwrap();
            let listed: BTreeSet<_> = listed.map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(listed.len(), names.len());
            for name in names {
                assert!(listed.contains(OsStr::from_bytes(&name)));
                fs::remove_file(mount.dir().join(OsStr::from_bytes(&name))).unwrap();
            }
            let long = fs::write(mount.at(&"n".repeat(256)), "");
            assert_eq!(
                Errno::from_io_error(&long.unwrap_err()),
                Some(Errno::NAMETOOLONG)
            );
        }
    });
}

#[test]
fn a_directory_of_20_000_and_a_tree_of_60_levels() {
    for tree in in_memory() {
        fs::create_dir(tree.host("many")).unwrap();
        for number in 0..20_000 {
            tree.write(&format!("many/{number:05}"), "");
        }
        for mode in ["fscache", "none"] {
            let Some(mount) = Mount::new(&tree, &format!("cache={mode}")) else {
                return;
            };
            let listed = fs::read_dir(mount.at("many")).unwrap();
            let names: BTreeSet<_> = listed.map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names.len(), 20_000, "{mode}");

            let mut path = PathBuf::from(mode);
            for level in 0..60 {
                path.push(format!("level-{level}"));
            }
            fs::create_dir_all(mount.dir().join(&path)).unwrap();
            fs::write(mount.dir().join(&path).join("leaf"), "deep").unwrap();
            let leaf = fs::read(tree.dir.path().join(&path).join("leaf")).unwrap();
            assert_eq!(leaf, b"deep");
            fs::remove_dir_all(mount.at(mode)).unwrap();
            assert!(!tree.host(mode).exists());
        }
    }
}

#[test]
fn more_files_than_the_server_has_descriptors() {
    for tree in in_memory() {
        for dir in 0..100 {
            fs::create_dir(tree.host(&format!("{dir}"))).unwrap();
            for file in 0..60 {
                tree.write(&format!("{dir}/{file}"), "x");
            }
        }
        let few = || {
            // The program and the server that it starts.
            let mut command = Command::new("prlimit");
            let direct = tree.command(&[] as &[&str]);
            command
                .env_clear()
                .envs(
                    direct
                        .get_envs()
                        .filter_map(|(key, value)| Some((key, value?))),
                )
                .args(["--nofile=4000:4000"])
                .arg(direct.get_program())
                .args(direct.get_args());
            command
        };
        for mode in ["fscache", "none"] {
            let Some(mount) = Mount::with(few, &format!("cache={mode}")) else {
                return;
            };
            if !forgets_on_demand() {
                eprintln!("not run: the kernel cannot be asked to forget before Linux 6.18");
                return;
            }
            // Twice: what was forgotten is found again. Its open file stays.
            let open = fs::File::open(mount.at("0/0")).unwrap();
            for _ in 0..2 {
                let mut found = 0;
                for dir in fs::read_dir(mount.dir()).unwrap() {
                    for file in fs::read_dir(dir.unwrap().path()).unwrap() {
                        assert_eq!(file.unwrap().metadata().unwrap().len(), 1, "{mode}");
                        found += 1;
                    }
                }
                assert_eq!(found, 6000, "{mode}");
            }
            assert_eq!(open.metadata().unwrap().nlink(), 1);
        }
    }
}

fn forgets_on_demand() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(18))
}

#[test]
fn the_space_left_is_that_of_the_host() {
    both(|tree| {
        let Some(mount) = Mount::new(tree, "cache=fscache") else {
            return;
        };
        let (ours, host) = (
            statvfs(mount.dir()).unwrap(),
            statvfs(tree.dir.path()).unwrap(),
        );
        assert_eq!(ours.f_blocks * ours.f_frsize, host.f_blocks * host.f_frsize);
        assert_eq!(ours.f_files, host.f_files);
        assert_eq!(ours.f_namemax, 255);
    });
}
