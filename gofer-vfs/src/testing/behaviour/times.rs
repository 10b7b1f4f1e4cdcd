//! Times, and whose clock they come from (semantics 13.6, 13.7).

use std::sync::Arc;

use super::client::times_of;
use super::{CaseResult, Client, Fixture, Remount};
use crate::attr::{SetAttr, SetTime, Timestamp};
use crate::flags::OpenFlags;
use crate::testing::TestClock;
use crate::{Clock, MountFlags};

cases![
    times_are_kept_to_the_nanosecond,
    times_before_1970_and_after_2038_are_kept,
    one_time_can_be_set_alone,
    times_of_a_directory_and_a_link_can_be_set,
    touch_sets_both_times_to_now,
    write_moves_the_modification_time,
    reading_leaves_the_modification_time,
    making_and_removing_names_moves_the_directory_s_time,
    change_time_moves_with_mode_and_name,
    caching_client_stamps_with_its_own_clock: caching,
    sharing_client_leaves_time_to_the_server: sharing,
    noatime_mount_leaves_access_times: caching,
];

/// Something done to a tree.
type Change = fn(&Client) -> crate::Result<()>;

fn at(sec: i64, nsec: u32) -> SetTime {
    SetTime::At(Timestamp { sec, nsec })
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
