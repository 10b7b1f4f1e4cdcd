//! Mounts of trees that others change as well.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Instant;

use gofer_transport::mapping::{Access, Mapping};

use super::{Mount, PATIENCE};
use crate::common::both;

/// Modes in which others may change the tree.
const SHARED: [&str; 2] = ["remote_revalidating", "none"];

#[test]
fn what_others_change_is_seen_by_those_who_have_it_open_or_mapped() {
    both(|tree| {
        for mode in SHARED {
            let name = format!("file-{mode}");
            tree.write(&name, "old content");
            let Some(mount) = Mount::new(tree, &format!("cache={mode}")) else {
                return;
            };
            let file = fs::File::open(mount.at(&name)).unwrap();
            let access = Access {
                execute: false,
                write: false,
                shared: true,
            };
            let mapping = Mapping::new(file.as_fd(), 0, 4096, access).unwrap();
            let mapped = || {
                let mut bytes = [0; 11];
                mapping.read(0, &mut bytes).unwrap();
                String::from_utf8(bytes.to_vec()).unwrap()
            };
            assert_eq!(mapped(), "old content");
            let host = fs::File::options()
                .write(true)
                .open(tree.host(&name))
                .unwrap();
            host.write_all_at(b"new content, and more", 0).unwrap();
            // Whoever reads or asks sees it, and has mappings brought in line.
            let mut text = String::new();
            (&file).read_to_string(&mut text).unwrap();
            assert_eq!(text, "new content, and more", "{mode}");
            assert_eq!(file.metadata().unwrap().len(), 21, "{mode}");
            assert_eq!(mapped(), "new content", "{mode}");

            tree.write("appeared", "");
            assert!(mount.at("appeared").exists(), "{mode}");
            fs::rename(tree.host("appeared"), tree.host("renamed")).unwrap();
            assert!(!mount.at("appeared").exists(), "{mode}");
            assert!(mount.at("renamed").exists(), "{mode}");
            let listed = fs::read_dir(mount.dir()).unwrap();
            assert!(
                listed
                    .map(|entry| entry.unwrap().file_name())
                    .any(|name| name == "renamed")
            );
            fs::remove_file(tree.host("renamed")).unwrap();
        }
    });
}

#[test]
fn checks_are_trusted_for_as_long_as_the_option_says() {
    both(|tree| {
        tree.write("file", "1");
        let Some(mount) = Mount::new(tree, "cache=none,revalidate_after=3600000") else {
            return;
        };
        let size = |mount: &Mount| fs::metadata(mount.at("file")).unwrap().size();
        assert_eq!(size(&mount), 1);
        tree.write("file", "22");
        assert_eq!(size(&mount), 1);
        // What is done through the mount shows at once, and so does what is read.
        assert_eq!(fs::read(mount.at("file")).unwrap(), b"22");
        fs::write(mount.at("file"), "333").unwrap();
        assert_eq!(size(&mount), 3);
        drop(mount);

        let Some(mount) = Mount::new(tree, "cache=none,revalidate_after=20") else {
            return;
        };
        assert_eq!(size(&mount), 3);
        tree.write("file", "4444");
        let begun = Instant::now();
        while size(&mount) != 4 {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    });
}
