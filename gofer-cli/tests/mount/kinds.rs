//! Kinds of files and ways to open them, as programs meet them on mounts.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};

use gofer_transport::mapping::{Access, Mapping};
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags, makedev, mknodat, renameat_with};
use rustix::io::Errno;

use super::Mount;
use crate::common::{Tree, both, finish, gofer};

const MODES: [&str; 2] = ["fscache", "none"];

/// Runs `test` over both protocols and with a mode that trusts itself and one that asks.
fn everywhere(more: &str, test: impl Fn(&Tree, &Mount)) {
    both(|tree| {
        for mode in MODES {
            let Some(mount) = Mount::new(tree, &format!("cache={mode}{more}")) else {
                return;
            };
            test(tree, &mount);
            drop(mount);
            for entry in fs::read_dir(tree.dir.path()).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }
    });
}

#[test]
fn a_tree_that_is_a_file_goes_on_a_file_and_others_on_directories() {
    both(|tree| {
        tree.write("f", "content");
        let Some(_proof) = Mount::new(tree, "cache=none") else {
            return;
        };
        let places = tempfile::TempDir::new().unwrap();
        let (file, dir) = (places.path().join("f"), places.path().join("d"));
        fs::write(&file, "covered").unwrap();
        fs::create_dir(&dir).unwrap();
        let mount = |flags: &[&str], on: &std::path::Path| {
            let mut command = tree.command(flags);
            command.arg("mount").arg(on);
            finish(command, b"")
        };
        let root = ["--aname", "/f"];
        for (flags, on) in [(&[][..], &file), (&root[..], &dir)] {
            let refused = mount(flags, on).fails(32);
            assert!(refused.stderr.contains("(ENOTDIR)"), "{refused:?}");
        }
        mount(&root, &file).ok();
        assert_eq!(fs::read_to_string(&file).unwrap(), "content");
        fs::write(&file, "changed").unwrap();
        let mut umount = gofer();
        umount.arg("umount").arg(&file);
        finish(umount, b"").ok();
        assert_eq!(fs::read_to_string(&file).unwrap(), "covered");
        assert_eq!(tree.read("f"), "changed");
    });
}

#[test]
fn fifos_sockets_and_devices_are_made_and_used() {
    everywhere(",dev", |tree, mount| {
        let mode = Mode::from_raw_mode(0o640);
        mknodat(CWD, mount.at("fifo"), FileType::Fifo, mode, 0).unwrap();
        assert!(
            fs::metadata(tree.host("fifo"))
                .unwrap()
                .file_type()
                .is_fifo()
        );
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| fs::read(mount.at("fifo")).unwrap());
            fs::write(mount.at("fifo"), "through the fifo").unwrap();
            assert_eq!(reader.join().unwrap(), b"through the fifo");
        });

        let listener = UnixListener::bind(mount.at("socket")).unwrap();
        let mut client = UnixStream::connect(mount.at("socket")).unwrap();
        client.write_all(b"hello").unwrap();
        drop(client);
        let mut heard = String::new();
        listener
            .accept()
            .unwrap()
            .0
            .read_to_string(&mut heard)
            .unwrap();
        assert_eq!(heard, "hello");

        let null = makedev(1, 3);
        mknodat(CWD, mount.at("null"), FileType::CharacterDevice, mode, null).unwrap();
        assert_eq!(fs::metadata(mount.at("null")).unwrap().rdev(), null);
        fs::write(mount.at("null"), "nowhere").unwrap();
        assert_eq!(fs::read(mount.at("null")).unwrap(), b"");
        assert_eq!(fs::metadata(tree.host("null")).unwrap().rdev(), null);
    });
}

#[test]
fn files_opened_directly_or_to_append() {
    everywhere("", |tree, mount| {
        let flags = OFlags::DIRECT.bits().cast_signed();
        let direct = File::options()
            .read(true)
            .write(true)
            .create(true)
            .custom_flags(flags)
            .open(mount.at("direct"))
            .unwrap();
        let mut space = vec![b'd'; 3 * 4096];
        let start = space.as_ptr().align_offset(4096);
        let block = &mut space[start..start + 4096];
        direct.write_all_at(block, 4096).unwrap();
        assert_eq!(fs::metadata(tree.host("direct")).unwrap().len(), 8192);
        direct.read_exact_at(block, 0).unwrap();
        assert!(block.iter().all(|byte| *byte == 0));
        // Beside a reader whose pages the kernel keeps.
        assert_eq!(fs::read(mount.at("direct")).unwrap()[4096], b'd');
        block.fill(b'e');
        direct.write_all_at(block, 4096).unwrap();
        assert_eq!(fs::read(mount.at("direct")).unwrap()[4096], b'e');

        let open = || {
            File::options()
                .append(true)
                .create(true)
                .open(mount.at("log"))
        };
        let (mut one, mut two) = (open().unwrap(), open().unwrap());
        for number in 0..10 {
            write!(one, "a{number}").unwrap();
            write!(two, "b{number}").unwrap();
        }
        let expected: String = (0..10).map(|n| format!("a{n}b{n}")).collect();
        assert_eq!(tree.read("log"), expected);
        assert_eq!(fs::read_to_string(mount.at("log")).unwrap(), expected);
    });
}

#[test]
fn what_is_written_to_a_shared_mapping_is_in_the_file() {
    everywhere("", |tree, mount| {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(mount.at("mapped"))
            .unwrap();
        file.set_len(10_000).unwrap();
        let access = Access {
            execute: false,
            write: true,
            shared: true,
        };
        let mapping = Mapping::new(file.as_fd(), 4096, 4096, access).unwrap();
        mapping.write(10, b"by mapping").unwrap();
        let mut bytes = [0; 10];
        file.read_exact_at(&mut bytes, 4106).unwrap();
        assert_eq!(&bytes, b"by mapping");
        mapping.sync(0, 4096).unwrap();
        assert_eq!(
            &fs::read(tree.host("mapped")).unwrap()[4106..4116],
            b"by mapping"
        );
        file.write_all_at(b"by write", 4096).unwrap();
        let mut bytes = [0; 8];
        mapping.read(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"by write");
        // The mapping outlives the descriptor.
        drop(file);
        mapping.write(100, b"later").unwrap();
        drop(mapping);
        assert_eq!(&fs::read(mount.at("mapped")).unwrap()[4196..4201], b"later");
    });
}

#[test]
fn ranges_are_copied_between_files() {
    everywhere("", |tree, mount| {
        let data: Vec<u8> = (0..200_000u32).map(|n| (n * 31 % 253) as u8).collect();
        fs::write(mount.at("from"), &data).unwrap();
        let from = File::open(mount.at("from")).unwrap();
        let to = File::create(mount.at("to")).unwrap();
        let (mut start, mut end) = (1000, 5);
        let mut left = 150_000;
        while left > 0 {
            let n = rustix::fs::copy_file_range(&from, Some(&mut start), &to, Some(&mut end), left);
            let n = n.unwrap();
            assert!(n > 0);
            left -= n;
        }
        let expected = [&[0; 5], &data[1000..151_000]].concat();
        assert_eq!(fs::read(mount.at("to")).unwrap(), expected);
        assert_eq!(fs::read(tree.host("to")).unwrap(), expected);
        assert_eq!(to.metadata().unwrap().len(), 150_005);
    });
}

#[test]
fn flags_of_rename_do_what_they_say_or_are_refused() {
    everywhere("", |tree, mount| {
        tree.write("one", "1");
        tree.write("two", "2");
        let rename = |flags| renameat_with(CWD, mount.at("one"), CWD, mount.at("two"), flags);
        // Where the server has no flags, Linux says EINVAL, and nothing happens.
        match rename(RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            other => assert_eq!(other, Err(Errno::INVAL)),
        }
        assert_eq!(
            (tree.read("one"), tree.read("two")),
            ("1".into(), "2".into())
        );
        match rename(RenameFlags::EXCHANGE) {
            Ok(()) => {
                assert_eq!(
                    (tree.read("one"), tree.read("two")),
                    ("2".into(), "1".into())
                );
                assert_eq!(fs::read(mount.at("one")).unwrap(), b"2");
            }
            other => assert_eq!(other, Err(Errno::INVAL)),
        }
        assert_eq!(rename(RenameFlags::WHITEOUT), Err(Errno::INVAL));
    });
}

#[test]
fn holes_are_found_and_space_is_allocated() {
    everywhere("", |tree, mount| {
        let mut file = File::create(mount.at("sparse")).unwrap();
        file.write_all_at(b"end", 1 << 20).unwrap();
        file.sync_all().unwrap();
        let host = File::open(tree.host("sparse")).unwrap();
        let data = |file: &File| rustix::fs::seek(file, rustix::fs::SeekFrom::Data(0)).unwrap();
        assert_eq!(data(&file), data(&host));
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 2 << 20).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 2 << 20);
        assert_eq!(fs::metadata(tree.host("sparse")).unwrap().len(), 2 << 20);
        assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), 2 << 20);
    });
}
