//! Symbolic and hard links (semantics 5.7, 5.8, 7.3, 7.4).

use super::{CaseResult, Fixture};
use crate::Follow;
use crate::attr::FileType;
use crate::flags::OpenFlags;

cases![
    symlink_keeps_its_target_to_the_byte,
    read_link_of_anything_else_is_einval,
    links_in_the_middle_are_followed,
    absolute_links_start_at_the_root,
    link_to_the_root_itself_works,
    link_with_dots_is_resolved_where_it_lies,
    forty_links_pass_and_one_more_is_eloop,
    link_to_itself_is_eloop,
    dangling_links_are_there_and_lead_nowhere,
    long_targets_work,
    empty_target_is_enoent,
    target_with_trailing_slash_asks_for_a_directory,
    nofollow_applies_to_the_last_component_only,
    hard_links_share_one_inode,
    hard_link_survives_the_first_name,
    links_of_an_open_file_are_counted_down_by_names_never_seen,
    write_through_one_name_shows_through_the_other,
    mode_change_shows_through_every_name,
    hard_link_to_a_directory_is_eperm,
    hard_link_over_an_existing_name_is_eexist,
    hard_link_to_a_missing_file_is_enoent,
    hard_link_follows_a_link_only_when_told: links_to_symlinks,
];

fn symlink_keeps_its_target_to_the_byte(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let targets: [&[u8]; 5] = [b"a", b"../x//y/", b"/abs/", b"\xff\n", b"with space"];
    for (index, target) in targets.iter().enumerate() {
        let name = format!("l{index}");
        fs.symlink(target, &name)?;
        check_eq!(fs.read_link(&name)?, *target, "target of {name}");
        check_eq!(
            fx.outside.read_link(name.as_bytes())?,
            *target,
            "{name} on the server"
        );
        check_eq!(fs.attr(&name)?.size, target.len() as u64, "size of {name}");
    }
    Ok(())
}

fn read_link_of_anything_else_is_einval(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    check_errno!(fs.read_link("f"), EINVAL);
    check_errno!(fs.read_link("/"), EINVAL);
    check_errno!(fs.read_link("missing"), ENOENT);
    Ok(())
}

fn links_in_the_middle_are_followed(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.mkdir("d/e")?;
    fs.create("d/e/f", "x")?;
    fs.symlink("d", "l1")?;
    fs.symlink("e", "d/l2")?;
    check_eq!(fs.read("l1/l2/f")?, b"x", "content through two links");
    fs.create("l1/l2/g", "y")?;
    check_eq!(fx.served(b"d/e/g")?, b"y", "where the new file lies");
    Ok(())
}

fn absolute_links_start_at_the_root(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.create("f", "top")?;
    fs.create("d/f", "below")?;
    fs.symlink("/f", "d/l")?;
    check_eq!(fs.read("d/l")?, b"top", "content");
    Ok(())
}

fn link_to_the_root_itself_works(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    fs.mkdir("d")?;
    fs.symlink("/", "d/root")?;
    check_eq!(fs.stat("d/root")?.ino, fs.root.ino(), "d/root");
    check_eq!(fs.read("d/root/f")?, b"x", "content of d/root/f");
    let dir = fs.open("d/root", OpenFlags::DIRECTORY)?;
    check_eq!(dir.stat(&fs.cx())?.ino, fs.root.ino(), "d/root opened");
    Ok(())
}

fn link_with_dots_is_resolved_where_it_lies(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.mkdir("a/b")?;
    fs.create("f", "top")?;
    fs.symlink("../../f", "a/b/l")?;
    fs.symlink("a/b", "short")?;
    check_eq!(fs.read("a/b/l")?, b"top", "content");
    check_eq!(fs.read("short/l")?, b"top", "content by the short way");
    let up = fs.stat("short/..")?.ino;
    check_eq!(
        up,
        fs.stat("a")?.ino,
        "`..` after a link leaves the link's target"
    );
    Ok(())
}

fn forty_links_pass_and_one_more_is_eloop(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("l0", "end")?;
    for index in 1..=41 {
        fs.symlink(format!("l{}", index - 1), format!("l{index}"))?;
    }
    check_eq!(fs.read("l40")?, b"end", "content through 40 links");
    check_errno!(fs.stat("l41"), ELOOP);
    check_errno!(fs.open("l41", OpenFlags::RDONLY), ELOOP);
    check_eq!(
        fs.attr("l41")?.file_type,
        FileType::Symlink,
        "the last link itself"
    );
    Ok(())
}

fn link_to_itself_is_eloop(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.symlink("self", "self")?;
    check_errno!(fs.stat("self"), ELOOP);
    check_errno!(fs.stat("self/x"), ELOOP);
    check_errno!(fs.open("self", OpenFlags::RDWR | OpenFlags::CREAT), ELOOP);
    fs.unlink("self")?;
    check!(!fs.exists("self")?, "the link is still there");
    Ok(())
}

fn dangling_links_are_there_and_lead_nowhere(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.symlink("nowhere", "l")?;
    check_errno!(fs.stat("l"), ENOENT);
    check_errno!(fs.open("l", OpenFlags::RDONLY), ENOENT);
    check_eq!(
        fs.attr("l")?.file_type,
        FileType::Symlink,
        "the link itself"
    );
    check_errno!(fs.mkdir("l"), EEXIST);
    check_errno!(fs.symlink("x", "l"), EEXIST);
    Ok(())
}

fn long_targets_work(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    let target = "./".repeat(2000) + "f";
    fs.symlink(&target, "long")?;
    check_eq!(fs.read_link("long")?, target.as_bytes(), "the target");
    check_eq!(
        fs.read("long")?,
        b"x",
        "content through a target of 4001 bytes"
    );
    Ok(())
}

fn empty_target_is_enoent(fx: &Fixture) -> CaseResult {
    check_errno!(fx.root().symlink("", "l"), ENOENT);
    check!(!fx.outside.exists(b"l"), "a link without a target was made");
    Ok(())
}

fn target_with_trailing_slash_asks_for_a_directory(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.mkdir("d")?;
    fs.symlink("f/", "to-file")?;
    fs.symlink("d/", "to-dir")?;
    check_errno!(fs.stat("to-file"), ENOTDIR);
    check_eq!(fs.stat("to-dir")?.ino, fs.stat("d")?.ino, "to-dir");
    Ok(())
}

fn nofollow_applies_to_the_last_component_only(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.create("d/f", "x")?;
    fs.symlink("d", "ld")?;
    fs.symlink("f", "d/lf")?;
    check_eq!(fs.attr("ld/lf")?.file_type, FileType::Symlink, "ld/lf");
    check_errno!(fs.open("ld/lf", OpenFlags::NOFOLLOW), ELOOP);
    let file = fs.open("ld/f", OpenFlags::NOFOLLOW)?;
    check_eq!(fs.read_all(&file)?, b"x", "content of ld/f");
    let both = OpenFlags::NOFOLLOW | OpenFlags::DIRECTORY;
    check_errno!(fs.open("ld", both), ENOTDIR);
    Ok(())
}

fn hard_links_share_one_inode(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "x")?;
    check_eq!(fs.attr("a")?.nlink, 1, "link count of a new file");
    fs.mkdir("d")?;
    fs.link("a", "d/b")?;
    let (a, b) = (fs.stat("a")?, fs.stat("d/b")?);
    check_eq!(a.ino, b.ino, "inode numbers");
    check_eq!((a.attr.nlink, b.attr.nlink), (2, 2), "link counts");
    fs.link("d/b", "c")?;
    check_eq!(fs.attr("a")?.nlink, 3, "link count after a third name");
    fs.unlink("d/b")?;
    check_eq!(fs.attr("a")?.nlink, 2, "link count after one is gone");
    check_eq!(
        fx.outside.stat(b"c")?.attr.nlink,
        2,
        "link count on the server"
    );
    Ok(())
}

fn hard_link_survives_the_first_name(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "one")?;
    fs.link("a", "b")?;
    let ino = fs.stat("a")?.ino;
    fs.unlink("a")?;
    check_errno!(fs.stat("a"), ENOENT);
    check_eq!(fs.stat("b")?.ino, ino, "number under the second name");
    check_eq!(fs.read("b")?, b"one", "content under the second name");
    fs.overwrite("b", "two")?;
    fs.chmod("b", 0o600)?;
    fs.truncate("b", 1)?;
    check_eq!(fx.served(b"b")?, b"t", "content on the server");
    check_eq!(
        fx.outside.stat(b"b")?.attr.mode,
        0o600,
        "mode on the server"
    );
    Ok(())
}

fn write_through_one_name_shows_through_the_other(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "12")?;
    fs.link("a", "b")?;
    check_eq!(fs.attr("b")?.size, 2, "size before");
    let a = fs.open("a", OpenFlags::WRONLY)?;
    let b = fs.open("b", OpenFlags::RDONLY)?;
    fs.write_all(&a, b"345", 2)?;
    check_eq!(fs.attr("b")?.size, 5, "size through the other name");
    check_eq!(fs.read_all(&b)?, b"12345", "content through the other name");
    fs.truncate("b", 1)?;
    check_eq!(a.stat(&fs.cx())?.attr.size, 1, "size after truncation");
    Ok(())
}

fn mode_change_shows_through_every_name(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "")?;
    fs.link("a", "b")?;
    fs.chmod("a", 0o640)?;
    check_eq!(fs.attr("b")?.mode, 0o640, "mode through the other name");
    Ok(())
}

fn links_of_an_open_file_are_counted_down_by_names_never_seen(fx: &Fixture) -> CaseResult {
    // Nothing of it is cached yet.
    fx.outside.write(b"f", b"x")?;
    fx.outside.link(b"f", b"g")?;
    fx.outside.link(b"f", b"h")?;
    let fs = fx.root();
    let file = fs.open("f", OpenFlags::RDONLY)?;
    let links = || file.stat(&fs.cx()).map(|stat| stat.attr.nlink);
    check_eq!(links()?, 3, "links at first");
    for (name, left) in [("g", 2), ("f", 1), ("h", 0)] {
        fs.unlink(name)?;
        check_eq!(links()?, left, "links without {name}");
    }
    Ok(())
}

fn hard_link_to_a_directory_is_eperm(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    check_errno!(fs.link("d", "e"), EPERM);
    Ok(())
}

fn hard_link_over_an_existing_name_is_eexist(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "")?;
    fs.create("b", "b")?;
    fs.mkdir("d")?;
    check_errno!(fs.link("a", "b"), EEXIST);
    check_errno!(fs.link("a", "a"), EEXIST);
    check_errno!(fs.link("a", "d"), EEXIST);
    check_errno!(fs.link("d", "b"), EEXIST);
    check_eq!(fs.read("b")?, b"b", "what was in the way");
    Ok(())
}

fn hard_link_to_a_missing_file_is_enoent(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "")?;
    check_errno!(fs.link("missing", "b"), ENOENT);
    check_errno!(fs.link("a", "missing/b"), ENOENT);
    check_errno!(fs.link("a", "b/"), ENOENT);
    Ok(())
}

fn hard_link_follows_a_link_only_when_told(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.symlink("f", "l")?;
    fs.link("l", "name-of-link")?;
    let kind = fs.attr("name-of-link")?.file_type;
    check_eq!(kind, FileType::Symlink, "what was linked without following");
    let cx = fs.cx();
    fs.fs
        .link(&cx, fs.at("l"), Follow::Yes, fs.at("name-of-file"))?;
    let linked = fs.stat("name-of-file")?.ino;
    check_eq!(linked, fs.stat("f")?.ino, "what was linked following");
    Ok(())
}
