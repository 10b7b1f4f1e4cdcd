//! Data that is in memory when an image is made (semantics 21.5).

use super::*;
use crate::{Mapping, Protection, Sharing};

fn mapped(rig: &Rig, file: &File) -> Mapping {
    file.map(&rig.cx(), 0, 8192, Protection::WRITE, Sharing::Shared)
        .unwrap()
}

#[test]
fn what_was_written_to_a_mapping_is_saved() {
    for on_host in [false, true] {
        let server = match on_host {
            true => crate::testing::mem_remote::MemServer::on_host(),
            false => crate::testing::mem_remote::MemServer::new(),
        };
        server.outside().write(b"f", &[7; 8192]).unwrap();
        let rig = Setup::new(InteropMode::Exclusive).mount_on(server);
        let file = rig.open("f", OpenFlags::RDWR).unwrap();
        let map = mapped(&rig, &file);
        map.write(5000, b"mapped").unwrap();
        let image = save(&rig, &[(1, &file)], &[]);
        // The mapping goes on, and so does the file.
        map.write(5000, b"MAPPED").unwrap();
        let mut into = [0; 6];
        file.read_at(&rig.cx(), &mut into, 5000).unwrap();
        assert_eq!(&into, b"MAPPED");
        // That is of after the image.
        map.write(5000, b"mapped").unwrap();
        map.sync(&rig.cx(), 0, 8192).unwrap();
        drop((map, file));
        rig.fs.unmount(&rig.cx()).unwrap();
        let unchecked = Verify {
            mtime: false,
            ..Verify::default()
        };
        let restored = restore_with(&rig, MemConfig::like_9p(), &image, unchecked).unwrap();
        let file = &restored.files[0].1;
        assert_eq!(&content(&rig, file)[4999..5007], b"\x07mapped\x07");
        // Mapped anew, it is the file again.
        let map = mapped(&rig, file);
        map.write(0, b"again").unwrap();
        file.sync(&rig.cx(), false).unwrap();
        assert_eq!(&rig.outside.read(b"f").unwrap()[..5], b"again");
    }
}

#[test]
fn what_was_written_to_a_mapping_and_the_server_refuses_is_in_the_image() {
    let rig = Rig::new(InteropMode::Exclusive);
    rig.outside.write(b"f", &[7; 8192]).unwrap();
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    let map = mapped(&rig, &file);
    map.write(5000, b"mapped").unwrap();
    rig.remote
        .inject_always(Op::Write, Fault::Refuse(Errno::ENOSPC));
    let image = save(&rig, &[(1, &file)], &[]);
    rig.remote.drop_connection();
    drop((map, file));
    assert_eq!(rig.outside.read(b"f").unwrap(), [7; 8192]);
    let restored = restore(&rig, &image);
    let expected = content(&rig, &restored.files[0].1);
    assert_eq!(&expected[4999..5007], b"\x07mapped\x07");
    assert_eq!(rig.outside.read(b"f").unwrap(), expected);
}

#[test]
fn what_was_written_to_a_mapping_of_a_deleted_file_is_in_the_image() {
    let rig = Rig::new(InteropMode::Exclusive);
    rig.outside.write(b"f", &[7; 8192]).unwrap();
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    let map = mapped(&rig, &file);
    rig.unlink("f").unwrap();
    map.write(5000, b"mapped").unwrap();
    let image = save(&rig, &[(1, &file)], &[]);
    drop((map, file));
    let restored = restore(&rig, &image);
    let file = &restored.files[0].1;
    assert_eq!(&content(&rig, file)[4999..5007], b"\x07mapped\x07");
}
