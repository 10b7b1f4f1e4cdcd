//! Shared trees: what others do is seen, and what is open goes on.

use super::*;
use crate::testing::mem_remote::Fault;

#[test]
fn a_replaced_file_is_another_file_and_the_open_one_stays() {
    for mode in S {
        let rig = Rig::new(mode);
        rig.outside.write(b"f", b"old").unwrap();
        let open = rig.open("f", OpenFlags::RDONLY).unwrap();
        let before = rig.stat("f").unwrap().ino;
        rig.outside.write(b"new", b"newer").unwrap();
        rig.outside.rename(b"new", b"f").unwrap();
        assert_ne!(rig.stat("f").unwrap().ino, before, "{mode}");
        assert_eq!(rig.read_all("f").unwrap(), b"newer");
        let mut buffer = [0; 8];
        assert_eq!(open.read(&rig.cx(), &mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], b"old");
        assert_eq!(open.stat(&rig.cx()).unwrap().ino, before);
    }
}

#[test]
fn a_replaced_directory_takes_its_whole_subtree_along() {
    for mode in S {
        let rig = Rig::new(mode);
        for path in ["d", "d/e", "other", "other/e"] {
            rig.outside.mkdir(path.as_bytes()).unwrap();
        }
        rig.outside.write(b"d/e/f", b"old").unwrap();
        rig.outside.write(b"other/e/f", b"newer").unwrap();
        assert_eq!(rig.read_all("d/e/f").unwrap(), b"old");
        let live = rig.fs.stats().live_dentries;
        rig.outside.exchange(b"d", b"other").unwrap();
        assert_eq!(rig.read_all("d/e/f").unwrap(), b"newer", "{mode}");
        // As many as before: nothing of the old subtree lingers.
        assert_eq!(rig.fs.stats().live_dentries, live, "{mode}");
    }
}

#[test]
fn a_link_in_the_middle_of_a_chain_may_be_swapped() {
    for mode in S {
        let rig = Rig::new(mode);
        for (dir, content) in [("v1", "one"), ("v2", "two")] {
            rig.outside.mkdir(dir.as_bytes()).unwrap();
            let path = format!("{dir}/f");
            rig.outside
                .write(path.as_bytes(), content.as_bytes())
                .unwrap();
        }
        rig.outside.symlink(b"v1", b"data").unwrap();
        rig.outside.symlink(b"data/f", b"f").unwrap();
        assert_eq!(rig.read_all("f").unwrap(), b"one");
        rig.outside.symlink(b"v2", b"tmp").unwrap();
        rig.outside.rename(b"tmp", b"data").unwrap();
        assert_eq!(rig.read_all("f").unwrap(), b"two", "{mode}");
    }
}

#[test]
fn a_removed_file_is_gone_at_once_and_costs_one_check() {
    for mode in S {
        let rig = Rig::new(mode);
        rig.outside.write(b"f", b"").unwrap();
        rig.stat("f").unwrap();
        rig.outside.unlink(b"f").unwrap();
        rig.calls();
        assert_eq!(errno(rig.stat("f")), Errno::ENOENT);
        assert_eq!(rig.calls(), [Op::Revalidate], "{mode}");
    }
}

#[test]
fn the_same_number_with_another_type_is_another_file() {
    for mode in S {
        let rig = Rig::new(mode);
        rig.outside.write(b"f", b"x").unwrap();
        rig.stat("f").unwrap();
        rig.outside.change_type(b"f", true).unwrap();
        assert_eq!(
            rig.stat("f").unwrap().attr.file_type,
            crate::FileType::Directory,
            "{mode}"
        );
    }
}

#[test]
fn a_directory_that_became_a_file_is_enotdir_on_the_way() {
    for mode in S {
        let rig = Rig::new(mode);
        rig.outside.mkdir(b"d").unwrap();
        rig.outside.write(b"d/f", b"").unwrap();
        rig.stat("d/f").unwrap();
        rig.outside.unlink(b"d/f").unwrap();
        rig.outside.rmdir(b"d").unwrap();
        rig.outside.write(b"d", b"a file now").unwrap();
        assert_eq!(errno(rig.stat("d/f")), Errno::ENOTDIR, "{mode}");
    }
}

#[test]
fn a_check_that_fails_as_the_tree_changes_is_done_in_smaller_steps() {
    for mode in S {
        for refusal in [Errno::ENOTDIR, Errno::ELOOP, Errno::EACCES] {
            let rig = Rig::new(mode);
            rig.outside.mkdir(b"d").unwrap();
            rig.outside.write(b"d/f", b"x").unwrap();
            rig.stat("d/f").unwrap();
            rig.remote.inject(Op::Revalidate, 0, Fault::Refuse(refusal));
            assert_eq!(rig.stat("d/f").unwrap().attr.size, 1, "{mode}, {refusal}");
            // Even if the smaller step is refused: then the lookup tells.
            rig.remote.inject(Op::Revalidate, 0, Fault::Refuse(refusal));
            rig.remote.inject(Op::Revalidate, 0, Fault::Refuse(refusal));
            assert_eq!(rig.stat("d/f").unwrap().attr.size, 1, "{mode}, {refusal}");
        }
    }
}

#[test]
fn no_refusal_rests_on_old_permissions() {
    for mode in S {
        let rig = Setup::new(mode).user(1000).mount();
        assert_eq!(errno(rig.mkdir("d")), Errno::EACCES);
        rig.outside.chmod(b"", 0o777).unwrap();
        rig.mkdir("d").unwrap();
        rig.outside.chmod(b"d", 0o755).unwrap();
        rig.outside.chown(b"d", 0, 0).unwrap();
        assert_eq!(errno(rig.create("d/f")), Errno::EACCES, "{mode}");
    }
}

#[test]
fn appending_goes_to_the_end_that_others_moved() {
    for mode in S {
        let rig = Rig::new(mode);
        rig.outside.write(b"f", b"one").unwrap();
        let file = rig
            .open("f", OpenFlags::WRONLY | OpenFlags::APPEND)
            .unwrap();
        file.write(&rig.cx(), b"two").unwrap();
        rig.outside.append(b"f", b"theirs").unwrap();
        file.write(&rig.cx(), b"three").unwrap();
        assert_eq!(
            rig.outside.read(b"f").unwrap(),
            b"onetwotheirsthree",
            "{mode}"
        );
    }
}

#[test]
fn times_are_the_servers() {
    for mode in S {
        let rig = Rig::new(mode);
        let file = rig.create("f").unwrap();
        file.write(&rig.cx(), b"x").unwrap();
        assert_eq!(rig.attr("f").mtime, rig.server_attr("f").mtime, "{mode}");
        assert_eq!(file.stat(&rig.cx()).unwrap().attr.mtime.sec, 1_000_000_000);
    }
    for mode in EW {
        let rig = Rig::new(mode);
        let file = rig.create("f").unwrap();
        rig.clock.advance(60);
        file.write(&rig.cx(), b"x").unwrap();
        assert_eq!(rig.attr("f").mtime.sec, 2_000_000_060, "{mode}");
        assert_eq!(rig.attr("").mtime.sec, 2_000_000_000, "{mode}");
    }
}

#[test]
fn handles_are_closed_at_once_where_others_wait_for_it() {
    for mode in S {
        let rig = Setup::new(mode).limit(0).mount();
        drop(rig.create("f").unwrap());
        assert_eq!(rig.remote.live_handles(), 0, "{mode}");
        assert_eq!(rig.remote.live_files(), 1, "{mode}");
    }
}

#[test]
fn names_of_one_file_share_attributes_and_handles() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        rig.outside.write(b"a", b"").unwrap();
        rig.outside.link(b"a", b"b").unwrap();
        let file = rig.open("a", OpenFlags::RDWR).unwrap();
        let other = rig.open("b", OpenFlags::RDONLY).unwrap();
        file.write(&rig.cx(), b"content").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(other.read(&rig.cx(), &mut buffer).unwrap(), 7, "{mode}");
        assert_eq!(rig.attr("b").size, 7, "{mode}");
        assert_eq!(rig.fs.stats().live_inodes, 2, "{mode}");
        rig.unlink("a").unwrap();
        assert_eq!(rig.attr("b").nlink, 1, "{mode}");
        rig.chmod("b", 0o600).unwrap();
        assert_eq!(file.stat(&rig.cx()).unwrap().attr.mode, 0o600, "{mode}");
    }
}

#[test]
fn a_root_that_is_a_file_can_be_opened() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        rig.outside.change_type(b"", false).unwrap();
        let rig = Setup::new(mode).mount_on(rig.server.clone());
        for path in ["", "/"] {
            assert_eq!(rig.stat(path).unwrap().attr.size, 0, "{mode}");
            rig.open(path, OpenFlags::RDWR).unwrap();
            let directory = rig.open(path, OpenFlags::DIRECTORY);
            assert_eq!(errno(directory), Errno::ENOTDIR, "{mode}");
        }
        assert_eq!(errno(rig.stat("x")), Errno::ENOTDIR);
        assert_eq!(errno(rig.mkdir("x")), Errno::ENOTDIR);
        assert_eq!(errno(rig.stat("/.")), Errno::ENOTDIR);
    }
}

#[test]
fn attributes_by_node_follow_what_others_did() {
    for mode in S {
        let server = MemServer::new();
        server.outside().write(b"f", b"x").unwrap();
        server.outside().chown(b"f", 7, 7).unwrap();
        let rig = Setup::new(mode).user(7).mount_on(server);
        let node = rig.fs.resolve(&rig.cx(), rig.at("f"), Follow::No).unwrap();
        rig.outside.chown(b"f", 8, 8).unwrap();
        let open = |flags| rig.fs.open_node(&rig.cx(), &node, flags);
        rig.outside.chmod(b"f", 0o600).unwrap();
        assert_eq!(errno(rig.open("f", OpenFlags::RDWR)), Errno::EACCES);
        rig.outside.chmod(b"f", 0o606).unwrap();
        open(OpenFlags::RDWR).unwrap();
        let mode_of = |mode| SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        };
        let refused = rig.fs.set_attr_node(&rig.cx(), &node, &mode_of(0o600));
        assert_eq!(errno(refused), Errno::EPERM, "{mode}");
        // What it was before is another owner now.
        let root = Credentials::root();
        let seven = SetAttr {
            uid: Some(7),
            gid: Some(7),
            ..SetAttr::default()
        };
        let given = rig.fs.set_attr_node(&Context::new(&root), &node, &seven);
        given.unwrap();
        assert_eq!(rig.server_attr("f").uid, 7);
        rig.outside.chmod(b"f", 0o640).unwrap();
        let allowed = rig.fs.set_attr_node(&rig.cx(), &node, &mode_of(0o600));
        allowed.unwrap();
        assert_eq!(rig.server_attr("f").mode, 0o600);
    }
}

#[test]
fn a_write_takes_set_id_bits_off_the_mode_there_is() {
    for mode in S {
        let server = MemServer::new();
        server.outside().write(b"f", b"x").unwrap();
        server.outside().chmod(b"f", 0o4777).unwrap();
        let rig = Setup::new(mode).user(7).mount_on(server);
        let file = rig.open("f", OpenFlags::WRONLY).unwrap();
        // Others take permissions away, and the bit stays.
        rig.outside.chmod(b"f", 0o4700).unwrap();
        file.write_at(&rig.cx(), b"y", 0).unwrap();
        assert_eq!(rig.server_attr("f").mode, 0o700, "{mode}");
        rig.calls();
        file.write_at(&rig.cx(), b"z", 0).unwrap();
        assert_eq!(rig.calls(), [Op::Write], "nothing is left to take");
    }
}

#[test]
fn mapped_pages_end_where_others_cut_the_file() {
    let mut setup = Setup::new(InteropMode::Shared);
    setup.force_page_cache = true;
    let rig = setup.mount();
    rig.outside.write(b"f", &[7; 8192]).unwrap();
    let file = rig.open("f", OpenFlags::RDONLY).unwrap();
    let mapped = file.map(
        &rig.cx(),
        0,
        8192,
        crate::Protection::empty(),
        crate::Sharing::Shared,
    );
    let mapped = mapped.unwrap();
    let mut byte = [0];
    assert_eq!(mapped.read(5000, &mut byte).unwrap(), 1);
    assert_eq!(byte, [7]);
    rig.outside.truncate(b"f", 100).unwrap();
    // The check of the path is what finds out.
    assert_eq!(rig.attr("f").size, 100);
    assert_eq!(errno(mapped.read(5000, &mut byte)), Errno::EFAULT);
    assert_eq!(mapped.read(200, &mut byte).unwrap(), 1);
    assert_eq!(byte, [0], "the rest of the page");
}

#[test]
fn whether_a_start_may_be_searched_comes_with_the_check_of_its_names() {
    for mode in S {
        let rig = Setup::new(mode).user(1000).mount();
        rig.outside.mkdir(b"d").unwrap();
        rig.outside.write(b"d/f", b"").unwrap();
        let dir = rig.fs.resolve(&rig.cx(), rig.at("d"), Follow::Yes).unwrap();
        let (cx, f) = (rig.cx(), crate::At::new(&dir, b"f"));
        rig.fs.stat(&cx, f, Follow::No).unwrap();
        rig.outside.chmod(b"d", 0o700).unwrap();
        rig.calls();
        let closed = rig.fs.stat(&cx, f, Follow::No);
        assert_eq!(errno(closed), Errno::EACCES, "{mode}");
        // No refusal rests on the answer of another question.
        assert_eq!(rig.calls(), [Op::Revalidate, Op::Attr], "{mode}");
        assert_eq!(errno(rig.fs.mkdir(&cx, f, 0o700)), Errno::EACCES, "{mode}");
        rig.outside.chmod(b"d", 0o755).unwrap();
        rig.calls();
        rig.fs.stat(&cx, f, Follow::No).unwrap();
        assert_eq!(rig.calls(), [Op::Revalidate], "{mode}");
    }
}
