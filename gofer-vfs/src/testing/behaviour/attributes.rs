//! Attributes: modes, owners, times, link counts, the file system's numbers (semantics 13).

use std::sync::Arc;

use super::client::{mode_of, owner_of, times_of};
use super::{CaseResult, Client, Fixture, Remount};
use crate::attr::{FileType, SetAttr, SetTime, Timestamp};
use crate::flags::OpenFlags;
use crate::testing::TestClock;
use crate::{AttrMask, Clock, Follow, MountFlags};

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
    times_are_kept_to_the_nanosecond,
    times_before_1970_and_after_2038_are_kept,
    one_time_can_be_set_alone,
    times_of_a_directory_and_a_link_can_be_set,
    touch_sets_both_times_to_now,
    several_attributes_change_together: root_server,
    nothing_to_change_succeeds,
    change_of_a_missing_file_is_enoent,
    write_moves_the_modification_time,
    reading_leaves_the_modification_time,
    making_and_removing_names_moves_the_directory_s_time,
    change_time_moves_with_mode_and_name,
    caching_client_stamps_with_its_own_clock: caching,
    sharing_client_leaves_time_to_the_server: sharing,
    noatime_mount_leaves_access_times: caching,
    link_count_of_directories_follows_subdirectories,
    fstat_and_stat_agree,
    statfs_has_plausible_numbers,
    blocks_grow_with_data,
    attributes_survive_a_new_mount,
];

/// Something done to a tree.
type Change = fn(&Client) -> crate::Result<()>;

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
    fs.chmod("f", 0o6777)?;
    fx.user().truncate("f", 3)?;
    check_eq!(fs.attr("f")?.mode, 0o777, "mode");
    check_eq!(
        fx.outside.stat(b"f")?.attr.mode,
        0o777,
        "mode on the server"
    );
    Ok(())
}

fn times_are_kept_to_the_nanosecond(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.set(
        "f",
        times_of(
            at(1_000_000_000, 123_456_789),
            at(1_500_000_000, 987_654_321),
        ),
    )?;
    for attr in [fs.attr("f")?, fx.outside.stat(b"f")?.attr] {
        let atime = (attr.atime.sec, attr.atime.nsec);
        check_eq!(atime, (1_000_000_000, 123_456_789), "access time");
        let mtime = (attr.mtime.sec, attr.mtime.nsec);
        check_eq!(mtime, (1_500_000_000, 987_654_321), "modification time");
    }
    Ok(())
}

fn times_before_1970_and_after_2038_are_kept(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    for sec in [-1, -1_000_000_000, 0, 4_000_000_000] {
        fs.set("f", times_of(at(sec, 500_000_000), at(sec, 250_000_000)))?;
        let host = fx.outside.stat(b"f")?.attr;
        let again = fx.second()?.attr("f")?;
        for attr in [fs.attr("f")?, host, again] {
            check_eq!(
                (attr.atime.sec, attr.atime.nsec),
                (sec, 500_000_000),
                "access time"
            );
            check_eq!(
                (attr.mtime.sec, attr.mtime.nsec),
                (sec, 250_000_000),
                "modification time"
            );
        }
    }
    Ok(())
}

fn one_time_can_be_set_alone(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.set("f", times_of(at(100, 0), at(200, 0)))?;
    let only_mtime = SetAttr {
        mtime: Some(at(300, 0)),
        ..SetAttr::default()
    };
    fs.set("f", only_mtime)?;
    let attr = fx.outside.stat(b"f")?.attr;
    check_eq!(
        (attr.atime.sec, attr.mtime.sec),
        (100, 300),
        "times on the server"
    );
    let attr = fs.attr("f")?;
    check_eq!((attr.atime.sec, attr.mtime.sec), (100, 300), "times");
    Ok(())
}

fn times_of_a_directory_and_a_link_can_be_set(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.symlink("d", "l")?;
    for name in ["d", "l"] {
        fs.set(name, times_of(at(11, 0), at(22, 0)))?;
        let attr = fx.outside.stat(name.as_bytes())?.attr;
        check_eq!(
            attr.mtime.sec,
            22,
            "modification time of {name} on the server"
        );
        check_eq!(fs.attr(name)?.mtime.sec, 22, "modification time of {name}");
    }
    Ok(())
}

fn touch_sets_both_times_to_now(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.set("f", times_of(at(1, 0), at(1, 0)))?;
    fs.touch("f")?;
    let now = crate::SystemClock.now().sec;
    let attr = fs.attr("f")?;
    check!(
        attr.atime.sec > 1 && attr.mtime.sec > 1,
        "times are {attr:?}"
    );
    if fx.mode.client_clock() {
        check!(
            (now - attr.mtime.sec).abs() < 60,
            "it is {now}, the file says {}",
            attr.mtime.sec
        );
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

fn write_moves_the_modification_time(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    fs.set("f", times_of(at(1, 0), at(1, 0)))?;
    let file = fs.open("f", OpenFlags::WRONLY)?;
    fs.write_all(&file, b"y", 0)?;
    let written = fs.attr("f")?.mtime;
    check!(
        written.sec > 1,
        "modification time after a write is {written:?}"
    );
    fs.set("f", times_of(at(1, 0), at(1, 0)))?;
    fs.truncate("f", 0)?;
    let cut = fs.attr("f")?.mtime;
    check!(
        cut.sec > 1,
        "modification time after a truncation is {cut:?}"
    );
    Ok(())
}

fn reading_leaves_the_modification_time(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    fs.set("f", times_of(at(1, 0), at(2, 0)))?;
    fs.read("f")?;
    check_eq!(fs.attr("f")?.mtime.sec, 2, "modification time");
    Ok(())
}

fn making_and_removing_names_moves_the_directory_s_time(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.mkdir("e")?;
    fs.create("f", "")?;
    let changes: [(&str, Change); 6] = [
        ("create", |fs| fs.create("d/a", "")),
        ("mkdir", |fs| fs.mkdir("d/b")),
        ("symlink", |fs| fs.symlink("x", "d/c")),
        ("rename out", |fs| fs.rename("d/a", "e/a")),
        ("rename in", |fs| fs.rename("e/a", "d/a")),
        ("unlink", |fs| fs.unlink("d/a")),
    ];
    for (what, change) in changes {
        fs.set("d", times_of(at(1, 0), at(1, 0)))?;
        change(&fs)?;
        let mtime = fs.attr("d")?.mtime.sec;
        check!(
            mtime > 1,
            "modification time of the directory after {what} is {mtime}"
        );
    }
    Ok(())
}

fn change_time_moves_with_mode_and_name(fx: &Fixture) -> CaseResult {
    let clock = Arc::new(TestClock::at(2_000_000_000));
    let fs = fx.remount(&Remount {
        clock: Some(Arc::clone(&clock) as Arc<dyn Clock>),
        ..Remount::default()
    })?;
    fs.create("f", "")?;
    let mut last = fs.attr("f")?.ctime;
    let changes: [(&str, Change); 3] = [
        ("chmod", |fs| fs.chmod("f", 0o600)),
        ("utimes", |fs| fs.set("f", times_of(at(1, 0), at(1, 0)))),
        ("rename", |fs| {
            fs.rename("f", "f2").and_then(|()| fs.rename("f2", "f"))
        }),
    ];
    for (what, change) in changes {
        clock.advance(10);
        pass_some_time();
        change(&fs)?;
        let ctime = fs.attr("f")?.ctime;
        check!(
            ctime > last,
            "change time after {what} is {ctime:?}, before it was {last:?}"
        );
        last = ctime;
    }
    Ok(())
}

/// Until the kernel's coarse clock, which stamps files, has moved.
fn pass_some_time() {
    let start = std::time::Instant::now();
    while start.elapsed() < std::time::Duration::from_millis(12) {
        std::thread::yield_now();
    }
}

fn caching_client_stamps_with_its_own_clock(fx: &Fixture) -> CaseResult {
    let clock = Arc::new(TestClock::at(3_000_000_000));
    let fs = fx.remount(&Remount {
        clock: Some(Arc::clone(&clock) as Arc<dyn Clock>),
        ..Remount::default()
    })?;
    fs.mkdir("d")?;
    fs.create("d/f", "x")?;
    clock.advance(1000);
    let file = fs.open("d/f", OpenFlags::RDWR)?;
    fs.write_all(&file, b"y", 0)?;
    check_eq!(
        fs.attr("d/f")?.mtime.sec,
        3_000_001_000,
        "modification time of the file"
    );
    clock.advance(1000);
    fs.read_all(&file)?;
    check_eq!(
        fs.attr("d/f")?.atime.sec,
        3_000_002_000,
        "access time of the file"
    );
    clock.advance(1000);
    fs.touch("d/f")?;
    check_eq!(
        fs.attr("d/f")?.mtime.sec,
        3_000_003_000,
        "modification time after a touch"
    );
    clock.advance(1000);
    fs.create("d/g", "")?;
    check_eq!(
        fs.attr("d")?.mtime.sec,
        3_000_004_000,
        "modification time of the directory"
    );
    Ok(())
}

fn sharing_client_leaves_time_to_the_server(fx: &Fixture) -> CaseResult {
    let clock = Arc::new(TestClock::at(3_000_000_000));
    let fs = fx.remount(&Remount {
        clock: Some(clock as Arc<dyn Clock>),
        ..Remount::default()
    })?;
    fs.mkdir("d")?;
    fs.create("d/f", "x")?;
    fs.touch("d/f")?;
    let file = fs.open("d/f", OpenFlags::RDWR)?;
    fs.write_all(&file, b"y", 0)?;
    for name in ["d", "d/f"] {
        let (found, host) = (fs.attr(name)?, fx.outside.stat(name.as_bytes())?.attr);
        check_eq!(found.mtime, host.mtime, "modification time of {name}");
        check_eq!(found.ctime, host.ctime, "change time of {name}");
        check!(
            found.mtime.sec < 3_000_000_000,
            "{name} has the client's time"
        );
    }
    Ok(())
}

fn noatime_mount_leaves_access_times(fx: &Fixture) -> CaseResult {
    let fs = fx.remount(&Remount {
        flags: MountFlags {
            noatime: true,
            ..MountFlags::default()
        },
        ..Remount::default()
    })?;
    fs.create("f", "x")?;
    fs.set("f", times_of(at(1, 0), at(1, 0)))?;
    fs.read("f")?;
    check_eq!(fs.attr("f")?.atime.sec, 1, "access time on a noatime mount");
    let plain = fx.root();
    let file = plain.open("f", OpenFlags::NOATIME)?;
    let before = file.stat(&plain.cx())?.attr.atime;
    plain.read_all(&file)?;
    check_eq!(
        file.stat(&plain.cx())?.attr.atime,
        before,
        "access time after O_NOATIME"
    );
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
