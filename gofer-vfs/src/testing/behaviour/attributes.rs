//! Attributes: modes, owners, link counts, the file system's numbers (semantics 13).

use super::client::{mode_of, owner_of, times_of};
use super::{CaseResult, Fixture};
use crate::attr::{FileType, SetAttr, SetTime, Timestamp};
use crate::flags::OpenFlags;
use crate::{AttrMask, Follow};

cases![
    chmod_changes_the_bits_and_nothing_else,
    chmod_of_a_directory_and_special_bits_works: root_server,
    chmod_of_a_link_is_not_supported,
    chmod_follows_links_when_told,
    chown_changes_owner_and_group: root_server,
    chown_of_a_link_changes_the_link: root_server,
    chown_drops_set_id_bits: root_server,
    chown_to_the_same_owner_keeps_set_id_bits: root_server,
    write_by_others_drops_set_id_bits: root_server,
    truncate_by_others_drops_set_id_bits: root_server,
    several_attributes_change_together: root_server,
    nothing_to_change_succeeds,
    change_of_a_missing_file_is_enoent,
    link_count_of_directories_follows_subdirectories,
    fstat_and_stat_agree,
    statfs_has_plausible_numbers,
    blocks_grow_with_data,
    attributes_survive_a_new_mount,
];

fn at(sec: i64, nsec: u32) -> SetTime {
    SetTime::At(Timestamp { sec, nsec })
}

fn chmod_changes_the_bits_and_nothing_else(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "12345")?;
    let before = fs.attr("f")?;
    for mode in [0o600, 0o755, 0o000, 0o777] {
        fs.chmod("f", mode)?;
        let attr = fs.attr("f")?;
        check_eq!(attr.mode, mode, "mode");
        check_eq!(fx.outside.stat(b"f")?.attr.mode, mode, "mode on the server");
        let rest = (attr.size, attr.uid, attr.gid, attr.mtime);
        check_eq!(
            rest,
            (before.size, before.uid, before.gid, before.mtime),
            "the rest"
        );
    }
    Ok(())
}

fn chmod_of_a_directory_and_special_bits_works(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.create("f", "")?;
    for mode in [0o1777, 0o2755, 0o3770] {
        fs.chmod("d", mode)?;
        check_eq!(fs.attr("d")?.mode, mode, "mode of the directory");
        check_eq!(
            fx.outside.stat(b"d")?.attr.mode,
            mode,
            "its mode on the server"
        );
    }
    fs.chmod("f", 0o6755)?;
    check_eq!(
        fx.outside.stat(b"f")?.attr.mode,
        0o6755,
        "mode of the file on the server"
    );
    Ok(())
}

fn chmod_of_a_link_is_not_supported(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.symlink("f", "l")?;
    let before = fs.attr("f")?.mode;
    check_errno!(fs.chmod("l", 0o600), EOPNOTSUPP);
    check_eq!(fs.attr("f")?.mode, before, "mode of the target");
    Ok(())
}

fn chmod_follows_links_when_told(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.symlink("f", "l")?;
    fs.fs
        .set_attr(&fs.cx(), fs.at("l"), Follow::Yes, &mode_of(0o600))?;
    check_eq!(fs.attr("f")?.mode, 0o600, "mode of the target");
    Ok(())
}

fn chown_changes_owner_and_group(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.mkdir("d")?;
    for name in ["f", "d"] {
        fs.chown(name, 1234, 5678)?;
        let attr = fs.attr(name)?;
        check_eq!((attr.uid, attr.gid), (1234, 5678), "owner of {name}");
        let host = fx.outside.stat(name.as_bytes())?.attr;
        check_eq!(
            (host.uid, host.gid),
            (1234, 5678),
            "owner of {name} on the server"
        );
    }
    let group_only = SetAttr {
        gid: Some(9),
        ..SetAttr::default()
    };
    fs.set("f", group_only)?;
    let attr = fs.attr("f")?;
    check_eq!(
        (attr.uid, attr.gid),
        (1234, 9),
        "owner after a change of the group"
    );
    Ok(())
}

fn chown_of_a_link_changes_the_link(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.symlink("f", "l")?;
    fs.chown("l", 77, 88)?;
    check_eq!(fs.attr("l")?.uid, 77, "owner of the link");
    check_eq!(fs.attr("f")?.uid, 0, "owner of the target");
    Ok(())
}

fn chown_drops_set_id_bits(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.mkdir("d")?;
    fs.chmod("f", 0o6755)?;
    fs.chmod("d", 0o2755)?;
    fs.chown("f", 1, 1)?;
    fs.chown("d", 1, 1)?;
    check_eq!(fs.attr("f")?.mode, 0o755, "mode of the file");
    check_eq!(
        fx.outside.stat(b"f")?.attr.mode,
        0o755,
        "its mode on the server"
    );
    check_eq!(fs.attr("d")?.mode, 0o2755, "mode of the directory");
    Ok(())
}

fn chown_to_the_same_owner_keeps_set_id_bits(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.chmod("f", 0o4755)?;
    let attr = fs.attr("f")?;
    fs.chown("f", attr.uid, attr.gid)?;
    check_eq!(fs.attr("f")?.mode, 0o4755, "mode");
    Ok(())
}

fn write_by_others_drops_set_id_bits(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "content")?;
    let user = fx.user();
    for (mode, after) in [(0o6777, 0o777), (0o2766, 0o2766)] {
        fs.chmod("f", mode)?;
        let file = user.open("f", OpenFlags::WRONLY)?;
        check_eq!(file.write_at(&user.cx(), b"C", 0)?, 1, "bytes written");
        let found = file.stat(&user.cx())?.attr.mode;
        check_eq!(found, after, "mode {mode:o} after a write");
        let host = fx.outside.stat(b"f")?.attr.mode;
        check_eq!(host, after, "mode {mode:o} on the server");
    }
    Ok(())
}

fn truncate_by_others_drops_set_id_bits(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "content")?;
    let user = fx.user();
    let ways: [&dyn Fn() -> crate::Result<()>; 3] = [
        &|| user.truncate("f", 3),
        &|| {
            user.open("f", OpenFlags::WRONLY | OpenFlags::TRUNC)
                .map(drop)
        },
        &|| user.open("f", OpenFlags::TRUNC).map(drop),
    ];
    for (way, cut) in ways.iter().enumerate() {
        fs.chmod("f", 0o6777)?;
        cut()?;
        check_eq!(fs.attr("f")?.mode, 0o777, "mode, way {way}");
        let host = fx.outside.stat(b"f")?.attr.mode;
        check_eq!(host, 0o777, "mode on the server, way {way}");
    }
    Ok(())
}

fn several_attributes_change_together(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "0123456789")?;
    let set = SetAttr {
        mode: Some(0o640),
        uid: Some(5),
        gid: Some(6),
        size: Some(4),
        atime: Some(at(77, 0)),
        mtime: Some(at(88, 0)),
    };
    fs.set("f", set)?;
    for attr in [fs.attr("f")?, fx.outside.stat(b"f")?.attr] {
        let found = (
            attr.mode,
            attr.uid,
            attr.gid,
            attr.size,
            attr.atime.sec,
            attr.mtime.sec,
        );
        check_eq!(
            found,
            (0o640, 5, 6, 4, 77, 88),
            "mode, owner, group, size, times"
        );
    }
    Ok(())
}

fn nothing_to_change_succeeds(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    let before = fs.attr("f")?;
    fs.set("f", SetAttr::default())?;
    fx.user().set("f", SetAttr::default())?;
    check_eq!(fs.attr("f")?.ctime, before.ctime, "change time");
    Ok(())
}

fn change_of_a_missing_file_is_enoent(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    check_errno!(fs.chmod("missing", 0o600), ENOENT);
    check_errno!(fs.touch("d/missing"), ENOENT);
    Ok(())
}

fn link_count_of_directories_follows_subdirectories(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    // The host decides whether subdirectories count at all; the client must agree with it.
    let agrees = |what: &str| -> CaseResult {
        let (found, host) = (fs.attr("d")?.nlink, fx.outside.stat(b"d")?.attr.nlink);
        check_eq!(
            found,
            host,
            "links of the directory {what}, here and on the server"
        );
        Ok(())
    };
    if fx.outside.stat(b"d")?.attr.nlink != 2 {
        return Ok(());
    }
    agrees("when empty")?;
    fs.mkdir("d/a")?;
    fs.mkdir("d/b")?;
    agrees("with two inside")?;
    fs.rmdir("d/a")?;
    agrees("with one inside")?;
    fs.rename("d/b", "b")?;
    agrees("when the last was moved out")
}

fn fstat_and_stat_agree(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "12345")?;
    fs.set("f", times_of(at(10, 5), at(20, 6)))?;
    let file = fs.open("f", OpenFlags::RDONLY)?;
    let (open, named) = (file.stat(&fs.cx())?, fs.stat("f")?);
    check_eq!(open.ino, named.ino, "inode numbers");
    let pick = |attr: crate::Attr| (attr.st_mode(), attr.size, attr.nlink, attr.mtime, attr.uid);
    check_eq!(pick(open.attr), pick(named.attr), "attributes");
    check!(
        named.attr.mask.contains(AttrMask::BASIC),
        "only {:?} known",
        named.attr.mask
    );
    Ok(())
}

fn statfs_has_plausible_numbers(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    let stat = fs.fs.statfs(&fs.cx(), fs.at("f"))?;
    check!(stat.block_size > 0, "block size 0");
    check!(
        stat.blocks >= stat.blocks_free,
        "more free blocks than blocks: {stat:?}"
    );
    check_eq!(stat.name_length, 255, "longest name");
    check_eq!(stat.fs_type, 0x0102_1997, "type");
    check_errno!(fs.fs.statfs(&fs.cx(), fs.at("missing")), ENOENT);
    Ok(())
}

fn blocks_grow_with_data(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", vec![1; 100_000])?;
    fs.fs.sync(&fs.cx())?;
    let attr = fx.second()?.attr("f")?;
    check!(attr.blocks * 512 >= 100_000, "only {} blocks", attr.blocks);
    check_eq!(attr.file_type, FileType::Regular, "type");
    Ok(())
}

fn attributes_survive_a_new_mount(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "123")?;
    fs.mkdir_mode("d", 0o711)?;
    fs.chmod("f", 0o604)?;
    if fx.server.runs_as_root {
        fs.set("f", owner_of(12, 34))?;
    }
    fs.set("f", times_of(at(100, 1), at(200, 2)))?;
    let (before, again) = (fs.attr("f")?, fx.second()?);
    let after = again.attr("f")?;
    check_eq!(
        (
            after.mode,
            after.uid,
            after.gid,
            after.size,
            after.atime,
            after.mtime
        ),
        (
            before.mode,
            before.uid,
            before.gid,
            before.size,
            before.atime,
            before.mtime
        ),
        "attributes of the file"
    );
    check_eq!(again.attr("d")?.mode, 0o711, "mode of the directory");
    Ok(())
}
