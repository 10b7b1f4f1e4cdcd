//! A tree that others change: what they do shows at the next look (semantics 6).

use super::client::{mode_of, owner_of};
use super::{CaseResult, Fixture};
use crate::attr::FileType;
use crate::flags::OpenFlags;

cases![
    stat_asks_once_for_a_known_path: sharing,
    missing_name_is_asked_for_each_time: sharing,
    going_up_costs_one_round_trip_more: sharing,
    outside_growth_shows_at_once: sharing,
    outside_removal_shows_at_once: sharing,
    outside_creation_shows_at_once: sharing,
    outside_mode_and_owner_show_at_once: sharing,
    outside_replacement_shows_at_once: sharing,
    old_descriptor_keeps_the_replaced_file: sharing,
    replaced_directory_in_the_middle_shows_at_once: sharing,
    file_replaced_by_a_directory_shows_at_once: sharing,
    directory_replaced_by_a_link_shows_at_once: sharing,
    swapped_link_shows_at_once: sharing,
    swapped_link_in_the_middle_of_a_chain_shows_at_once: sharing,
    outside_rename_shows_at_once: sharing,
    outside_names_show_in_a_new_listing: sharing,
    outside_data_shows_in_the_next_read: sharing,
    open_file_sees_outside_truncation: sharing,
    fstat_sees_outside_changes: sharing,
    append_follows_outside_growth: sharing,
    name_taken_outside_is_eexist: sharing,
    removal_of_what_is_gone_is_enoent: sharing,
    rmdir_of_what_was_filled_outside_is_enotempty: sharing,
    create_of_what_is_there_already_opens_it: sharing,
    directory_known_as_missing_can_be_made_outside: sharing,
    held_directory_that_was_removed_outside_is_dead: sharing,
    two_clients_see_each_other: sharing,
    two_clients_rename_under_each_other: sharing,
    outside_permission_change_takes_effect: sharing,
    descriptors_follow_outside_changes_of_the_owner: sharing_as_root,
    mapping_covers_what_was_written_outside: sharing,
];

fn stat_asks_once_for_a_known_path(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.mkdir("a/b")?;
    fs.create("a/b/c", "")?;
    fs.stat("a/b/c")?;
    let (stat, trips) = fs.trips(|| fs.stat("a/b/c"));
    stat?;
    check_eq!(trips, 1, "round trips");
    Ok(())
}

fn missing_name_is_asked_for_each_time(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    for _ in 0..2 {
        let (result, trips) = fs.trips(|| fs.stat("missing"));
        check_errno!(result, ENOENT);
        check!(trips >= 1, "the server was not asked");
    }
    Ok(())
}

fn going_up_costs_one_round_trip_more(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.create("b", "")?;
    fs.stat("a/../b")?;
    let (stat, trips) = fs.trips(|| fs.stat("a/../b"));
    stat?;
    check_eq!(trips, 2, "round trips for a/../b");
    Ok(())
}

fn outside_growth_shows_at_once(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "123")?;
    check_eq!(fs.attr("f")?.size, 3, "size before");
    fx.outside.append(b"f", b"4567")?;
    check_eq!(fs.attr("f")?.size, 7, "size after");
    check_eq!(fs.read("f")?, b"1234567", "content");
    fx.outside.truncate(b"f", 1)?;
    check_eq!(fs.attr("f")?.size, 1, "size in the end");
    Ok(())
}

fn outside_removal_shows_at_once(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.create("d/f", "")?;
    fs.stat("d/f")?;
    fx.outside.unlink(b"d/f")?;
    check_errno!(fs.stat("d/f"), ENOENT);
    check_errno!(fs.open("d/f", OpenFlags::RDONLY), ENOENT);
    fx.outside.rmdir(b"d")?;
    check_errno!(fs.stat("d"), ENOENT);
    check_errno!(fs.create("d/g", ""), ENOENT);
    Ok(())
}

fn outside_creation_shows_at_once(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    check_errno!(fs.stat("f"), ENOENT);
    check_errno!(fs.stat("d/f"), ENOENT);
    fx.outside.write(b"f", b"x")?;
    fx.outside.mkdir(b"d")?;
    fx.outside.write(b"d/f", b"y")?;
    check_eq!(fs.read("f")?, b"x", "content of f");
    check_eq!(fs.read("d/f")?, b"y", "content of d/f");
    Ok(())
}

fn outside_mode_and_owner_show_at_once(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.stat("f")?;
    fx.outside.chmod(b"f", 0o611)?;
    check_eq!(fs.attr("f")?.mode, 0o611, "mode");
    if fx.server.runs_as_root {
        fx.outside.chown(b"f", 12, 34)?;
        let attr = fs.attr("f")?;
        check_eq!((attr.uid, attr.gid), (12, 34), "owner and group");
    }
    Ok(())
}

fn outside_replacement_shows_at_once(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "old")?;
    let before = fs.stat("f")?.ino;
    fx.outside.write(b"new", b"brand new")?;
    fx.outside.rename(b"new", b"f")?;
    check!(fs.stat("f")?.ino != before, "the inode number stayed");
    check_eq!(fs.read("f")?, b"brand new", "content");
    Ok(())
}

fn old_descriptor_keeps_the_replaced_file(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "old")?;
    let old = fs.open("f", OpenFlags::RDWR)?;
    fx.outside.write(b"new", b"brand new")?;
    fx.outside.rename(b"new", b"f")?;
    check_eq!(fs.read("f")?, b"brand new", "content by name");
    check_eq!(fs.read_all(&old)?, b"old", "content of the old descriptor");
    fs.write_all(&old, b"OLD", 0)?;
    check_eq!(
        fx.outside.read(b"f")?,
        b"brand new",
        "content on the server"
    );
    check_eq!(
        old.stat(&fs.cx())?.attr.nlink,
        0,
        "link count of the old file"
    );
    Ok(())
}

fn replaced_directory_in_the_middle_shows_at_once(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.mkdir("a/b")?;
    fs.create("a/b/f", "old")?;
    check_eq!(fs.read("a/b/f")?, b"old", "content before");
    fx.outside.rename(b"a/b", b"a/old")?;
    fx.outside.mkdir(b"a/b")?;
    check_errno!(fs.stat("a/b/f"), ENOENT);
    fx.outside.write(b"a/b/f", b"new")?;
    check_eq!(fs.read("a/b/f")?, b"new", "content after");
    check_eq!(
        fs.read("a/old/f")?,
        b"old",
        "content where the old one went"
    );
    Ok(())
}

fn file_replaced_by_a_directory_shows_at_once(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("n", "file")?;
    fs.stat("n")?;
    fx.outside.unlink(b"n")?;
    fx.outside.mkdir(b"n")?;
    fx.outside.write(b"n/inside", b"x")?;
    check_eq!(fs.attr("n")?.file_type, FileType::Directory, "type");
    check_eq!(fs.read("n/inside")?, b"x", "content of a file in it");
    fx.outside.unlink(b"n/inside")?;
    fx.outside.rmdir(b"n")?;
    fx.outside.write(b"n", b"file again")?;
    check_errno!(fs.stat("n/inside"), ENOTDIR);
    check_eq!(fs.read("n")?, b"file again", "content in the end");
    Ok(())
}

fn directory_replaced_by_a_link_shows_at_once(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.create("d/f", "first")?;
    fs.mkdir("other")?;
    fs.create("other/f", "second")?;
    check_eq!(fs.read("d/f")?, b"first", "content before");
    fx.outside.rename(b"d", b"gone")?;
    fx.outside.symlink(b"other", b"d")?;
    check_eq!(fs.read("d/f")?, b"second", "content after");
    check_eq!(fs.attr("d")?.file_type, FileType::Symlink, "type");
    Ok(())
}

fn swapped_link_shows_at_once(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("one", "1")?;
    fs.create("two", "2")?;
    fs.symlink("one", "l")?;
    check_eq!(fs.read("l")?, b"1", "content before");
    fx.outside.symlink(b"two", b"l2")?;
    fx.outside.rename(b"l2", b"l")?;
    check_eq!(fs.read("l")?, b"2", "content after");
    Ok(())
}

/// The layout in which configuration volumes are swapped: a link to a link to a directory.
fn swapped_link_in_the_middle_of_a_chain_shows_at_once(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    for (dir, content) in [(&b"v1"[..], &b"old"[..]), (b"v2", b"new")] {
        fx.outside.mkdir(dir)?;
        fx.outside.write(&[dir, b"/key"].concat(), content)?;
    }
    fx.outside.symlink(b"v1", b"..data")?;
    fx.outside.symlink(b"..data/key", b"key")?;
    for _ in 0..2 {
        check_eq!(fs.read("key")?, b"old", "content before");
    }
    fx.outside.symlink(b"v2", b"..tmp")?;
    fx.outside.rename(b"..tmp", b"..data")?;
    check_eq!(fs.read("key")?, b"new", "content after the swap");
    fx.outside.unlink(b"..data")?;
    check_errno!(fs.read("key"), ENOENT);
    Ok(())
}

fn outside_rename_shows_at_once(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.create("d/f", "x")?;
    let open = fs.open("d/f", OpenFlags::RDWR)?;
    fx.outside.rename(b"d", b"e")?;
    check_errno!(fs.stat("d/f"), ENOENT);
    check_eq!(fs.read("e/f")?, b"x", "content by the new name");
    fs.write_all(&open, b"y", 0)?;
    check_eq!(fs.read("e/f")?, b"y", "what the old descriptor wrote");
    Ok(())
}

fn outside_names_show_in_a_new_listing(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "")?;
    check_eq!(fs.list("/")?, [b"a"], "names before");
    let open = fs.open("/", OpenFlags::DIRECTORY)?;
    fs.names(&open)?;
    fx.outside.write(b"b", b"")?;
    fx.outside.unlink(b"a")?;
    check_eq!(fs.list("/")?, [b"b"], "names after");
    fs.rewind(&open)?;
    check!(
        fs.names(&open)?.contains(&b"b".to_vec()),
        "an open listing misses it after a rewind"
    );
    Ok(())
}

fn outside_data_shows_in_the_next_read(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "old data")?;
    let (one, two) = (
        fs.open("f", OpenFlags::RDONLY)?,
        fs.open("f", OpenFlags::RDWR)?,
    );
    check_eq!(fs.read_all(&one)?, b"old data", "content before");
    fx.outside.write(b"f", b"new")?;
    check_eq!(fs.read_all(&one)?, b"new", "what one descriptor reads");
    check_eq!(fs.read_all(&two)?, b"new", "what another reads");
    fs.write_all(&two, b"N", 0)?;
    check_eq!(fx.outside.read(b"f")?, b"New", "content on the server");
    Ok(())
}

fn open_file_sees_outside_truncation(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "0123456789")?;
    let file = fs.open("f", OpenFlags::RDONLY)?;
    fs.read_all(&file)?;
    fx.outside.truncate(b"f", 4)?;
    check_eq!(fs.read_at(&file, 10, 0)?, b"0123", "content");
    check_eq!(fs.read_at(&file, 10, 4)?, b"", "content beyond the new end");
    let end = file.seek(&fs.cx(), crate::Whence::End(0))?;
    check_eq!(end, 4, "end of the file");
    Ok(())
}

fn fstat_sees_outside_changes(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    let file = fs.open("f", OpenFlags::RDONLY)?;
    fx.outside.append(b"f", b"yz")?;
    fx.outside.chmod(b"f", 0o640)?;
    fx.outside.link(b"f", b"g")?;
    let attr = file.stat(&fs.cx())?.attr;
    check_eq!(
        (attr.size, attr.mode, attr.nlink),
        (3, 0o640, 2),
        "size, mode and link count"
    );
    Ok(())
}

fn append_follows_outside_growth(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "start")?;
    let file = fs.open("f", OpenFlags::WRONLY | OpenFlags::APPEND)?;
    fx.outside.append(b"f", b" outside")?;
    file.write(&fs.cx(), b" end")?;
    check_eq!(fx.outside.read(b"f")?, b"start outside end", "content");
    Ok(())
}

fn name_taken_outside_is_eexist(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    check_errno!(fs.stat("n"), ENOENT);
    fx.outside.write(b"n", b"theirs")?;
    check_errno!(fs.mkdir("n"), EEXIST);
    check_errno!(fs.symlink("x", "n"), EEXIST);
    check_errno!(fs.open("n", OpenFlags::CREAT | OpenFlags::EXCL), EEXIST);
    check_eq!(fs.read("n")?, b"theirs", "content");
    Ok(())
}

fn removal_of_what_is_gone_is_enoent(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.mkdir("d")?;
    fs.stat("f")?;
    fx.outside.unlink(b"f")?;
    fx.outside.rmdir(b"d")?;
    check_errno!(fs.unlink("f"), ENOENT);
    check_errno!(fs.rmdir("d"), ENOENT);
    check_errno!(fs.rename("f", "g"), ENOENT);
    check_errno!(fs.chmod("f", 0o600), ENOENT);
    Ok(())
}

fn rmdir_of_what_was_filled_outside_is_enotempty(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    check_eq!(fs.list("d")?.len(), 0, "names before");
    fx.outside.write(b"d/f", b"")?;
    check_errno!(fs.rmdir("d"), ENOTEMPTY);
    fx.outside.unlink(b"d/f")?;
    fs.rmdir("d")?;
    Ok(())
}

fn create_of_what_is_there_already_opens_it(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    check_errno!(fs.stat("f"), ENOENT);
    fx.outside.write(b"f", b"theirs")?;
    let file = fs.open("f", OpenFlags::CREAT | OpenFlags::RDWR)?;
    check_eq!(fs.read_all(&file)?, b"theirs", "content");
    let cut = fs.open("f", OpenFlags::CREAT | OpenFlags::RDWR | OpenFlags::TRUNC)?;
    check_eq!(fs.read_all(&cut)?, b"", "content after a truncating open");
    Ok(())
}

fn directory_known_as_missing_can_be_made_outside(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    check_errno!(fs.stat("a/b/c"), ENOENT);
    fx.outside.mkdir(b"a/b")?;
    check_errno!(fs.stat("a/b/c"), ENOENT);
    fs.create("a/b/c", "x")?;
    check_eq!(fx.outside.read(b"a/b/c")?, b"x", "content on the server");
    Ok(())
}

fn held_directory_that_was_removed_outside_is_dead(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.create("d/f", "")?;
    let dir = fs.resolve("d")?;
    fx.outside.unlink(b"d/f")?;
    fx.outside.rmdir(b"d")?;
    let cx = fs.cx();
    let made = fs
        .fs
        .mkdir(&cx, crate::At::new(&dir, b"x"), 0o755)
        .map(drop);
    check!(made.is_err(), "a directory was made in one that is gone");
    let found = fs
        .fs
        .stat(&cx, crate::At::new(&dir, b"f"), crate::Follow::Yes);
    check!(
        found.is_err(),
        "a file was found in a directory that is gone"
    );
    Ok(())
}

fn two_clients_see_each_other(fx: &Fixture) -> CaseResult {
    let (one, two) = (fx.root(), fx.second()?);
    for round in 0..5 {
        let (a, b) = (format!("a{round}"), format!("b{round}"));
        one.create(&a, "from one")?;
        check_eq!(two.read(&a)?, b"from one", "content for the second");
        two.overwrite(&a, "from two")?;
        check_eq!(one.read(&a)?, b"from two", "content for the first");
        two.rename(&a, &b)?;
        check_errno!(one.stat(&a), ENOENT);
        one.unlink(&b)?;
        check_errno!(two.stat(&b), ENOENT);
    }
    check_eq!(fx.outside.list(b"")?.len(), 0, "names left");
    Ok(())
}

fn two_clients_rename_under_each_other(fx: &Fixture) -> CaseResult {
    let (one, two) = (fx.root(), fx.second()?);
    one.mkdir("d")?;
    one.create("d/f", "x")?;
    two.stat("d/f")?;
    one.rename("d", "e")?;
    check_errno!(two.stat("d/f"), ENOENT);
    two.rename("e/f", "e/g")?;
    check_eq!(one.list("e")?, [b"g"], "names for the first");
    one.mkdir("d")?;
    check_eq!(
        two.list("d")?.len(),
        0,
        "names in the new directory for the second"
    );
    Ok(())
}

fn outside_permission_change_takes_effect(fx: &Fixture) -> CaseResult {
    let (root, user) = (fx.root(), fx.user());
    root.mkdir("d")?;
    root.create("d/f", "x")?;
    check_eq!(user.read("d/f")?, b"x", "content before");
    fx.outside.chmod(b"d", 0o700)?;
    check_errno!(user.read("d/f"), EACCES);
    fx.outside.chmod(b"d", 0o755)?;
    fx.outside.chmod(b"d/f", 0o600)?;
    check_errno!(user.read("d/f"), EACCES);
    root.set("d/f", mode_of(0o644))?;
    check_eq!(user.read("d/f")?, b"x", "content in the end");
    Ok(())
}

fn descriptors_follow_outside_changes_of_the_owner(fx: &Fixture) -> CaseResult {
    let (fs, user) = (fx.root(), fx.user());
    fs.create("f", "")?;
    let file = fs.open("f", OpenFlags::RDONLY)?;
    check_errno!(file.set_attr(&user.cx(), &mode_of(0o600)), EPERM);
    fx.outside.chown(b"f", 1000, 1000)?;
    file.set_attr(&user.cx(), &mode_of(0o600))?;
    check_eq!(fx.outside.stat(b"f")?.attr.mode, 0o600, "mode");
    fx.outside.chown(b"f", 0, 0)?;
    check_errno!(file.set_attr(&user.cx(), &mode_of(0o644)), EPERM);
    // It was told of this owner before.
    file.set_attr(&fs.cx(), &owner_of(1000, 1000))?;
    let attr = fx.outside.stat(b"f")?.attr;
    check_eq!((attr.uid, attr.gid), (1000, 1000), "owner");
    Ok(())
}

fn mapping_covers_what_was_written_outside(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "123")?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    fx.outside.append(b"f", b"4567")?;
    let nothing = crate::Protection::empty();
    let map = match file.map(&fs.cx(), 0, 4096, nothing, crate::Sharing::Private) {
        Err(error) if error.errno() == crate::Errno::ENODEV => return Ok(()),
        map => map?,
    };
    let mut into = [0; 7];
    map.read(0, &mut into)?;
    check_eq!(&into, b"1234567", "what is mapped");
    Ok(())
}
