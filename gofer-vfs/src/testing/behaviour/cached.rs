//! What a client that is alone on the tree saves, and that saving changes nothing else
//! (semantics 4, 5, 13).

use super::{CaseResult, Client, Failure, Fixture, Remount};
use crate::flags::OpenFlags;
use crate::{Follow, InteropMode, StepSource};

cases![
    repeated_stat_asks_nothing: caching,
    stat_of_what_was_just_made_asks_nothing: caching,
    repeated_stat_of_a_missing_name_asks_nothing: caching,
    stat_of_a_removed_name_asks_nothing: caching,
    repeated_read_link_asks_nothing: caching,
    repeated_listing_asks_nothing: caching,
    read_at_the_end_asks_nothing: caching,
    link_to_cached_files_asks_nothing: caching,
    long_path_is_not_walked_name_by_name: multi_walk_caching,
    outside_change_is_not_noticed: caching,
    walk_trace_names_the_cache: caching,
    cache_limit_0_changes_nothing_but_cost,
    cache_limit_1_changes_nothing_but_cost,
    eviction_leaves_no_negative_entry,
    dropped_caches_are_filled_again,
    many_missing_names_are_forgotten_again: caching,
    writethrough_data_is_served_at_once: caching,
    open_files_survive_a_dropped_cache,
];

fn repeated_stat_asks_nothing(fx: &Fixture) -> CaseResult {
    fx.outside.mkdir(b"a")?;
    fx.outside.mkdir(b"a/b")?;
    fx.outside.write(b"a/b/c", b"x")?;
    let fs = fx.root();
    let (first, cold) = fs.trips(|| fs.stat("a/b/c"));
    check!(
        (1..=3).contains(&cold),
        "the first stat takes {cold} round trips"
    );
    let (second, warm) = fs.trips(|| fs.stat("a/b/c"));
    check_eq!(warm, 0, "round trips of the second stat");
    check_eq!(first?.ino, second?.ino, "inode numbers");
    let (_, partly) = fs.trips(|| fs.stat("a/b/../../a/./b"));
    check_eq!(partly, 0, "round trips by another way");
    Ok(())
}

fn stat_of_what_was_just_made_asks_nothing(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "123")?;
    let (stat, trips) = fs.trips(|| fs.stat("f"));
    check_eq!(stat?.attr.size, 3, "size");
    check_eq!(trips, 0, "round trips after create");
    Ok(())
}

fn repeated_stat_of_a_missing_name_asks_nothing(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let (result, first) = fs.trips(|| fs.stat("missing"));
    check_errno!(result, ENOENT);
    check!(first <= 1, "the first stat takes {first} round trips");
    let (result, second) = fs.trips(|| fs.stat("missing"));
    check_errno!(result, ENOENT);
    check_eq!(second, 0, "round trips of the second stat");
    fs.create("missing", "")?;
    check!(
        fs.exists("missing")?,
        "it is not there although it was made"
    );
    Ok(())
}

fn stat_of_a_removed_name_asks_nothing(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.create("g", "")?;
    fs.unlink("f")?;
    fs.rename("g", "h")?;
    for name in ["f", "g"] {
        let (result, trips) = fs.trips(|| fs.stat(name));
        check_errno!(result, ENOENT);
        check_eq!(trips, 0, "round trips for {name}");
    }
    Ok(())
}

fn repeated_read_link_asks_nothing(fx: &Fixture) -> CaseResult {
    fx.outside.symlink(b"target", b"l")?;
    let fs = fx.root();
    fs.read_link("l")?;
    let (target, trips) = fs.trips(|| fs.read_link("l"));
    check_eq!(target?, b"target", "target");
    check_eq!(trips, 0, "round trips");
    Ok(())
}

fn repeated_listing_asks_nothing(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    for index in 0..20 {
        fs.create(format!("f{index}"), "")?;
    }
    let first = fs.list("/")?;
    let open = fs.open("/", OpenFlags::DIRECTORY)?;
    let (names, trips) = fs.trips(|| fs.names(&open));
    check_eq!(names?.len(), first.len() + 2, "names");
    check_eq!(trips, 0, "round trips");
    Ok(())
}

fn read_at_the_end_asks_nothing(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "123")?;
    let file = fs.open("f", OpenFlags::RDONLY)?;
    let (read, trips) = fs.trips(|| fs.read_at(&file, 10, 3));
    check_eq!(read?.len(), 0, "bytes");
    check_eq!(trips, 0, "round trips");
    Ok(())
}

fn link_to_cached_files_asks_nothing(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.create("d/f", "")?;
    fs.symlink("d", "l")?;
    fs.stat("l/f")?;
    let (_, trips) = fs.trips(|| fs.stat("l/f"));
    check_eq!(trips, 0, "round trips");
    Ok(())
}

fn long_path_is_not_walked_name_by_name(fx: &Fixture) -> CaseResult {
    let mut path = Vec::new();
    for level in 0..8u8 {
        path.extend([b'a' + level]);
        fx.outside.mkdir(&path)?;
        path.push(b'/');
    }
    path.push(b'f');
    fx.outside.write(&path, b"")?;
    let fs = fx.root();
    let (stat, trips) = fs.trips(|| fs.stat(&path));
    stat?;
    // Plain 9P walks in one round trip and asks for attributes in another.
    check!(trips <= 2, "nine components took {trips} round trips");
    Ok(())
}

fn outside_change_is_not_noticed(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "123")?;
    fs.fs.sync(&fs.cx())?;
    check_errno!(fs.stat("g"), ENOENT);
    fx.outside.append(b"f", b"4567")?;
    fx.outside.write(b"g", b"")?;
    check_eq!(fs.attr("f")?.size, 3, "size of a file that was seen");
    check_errno!(fs.stat("g"), ENOENT);
    Ok(())
}

fn walk_trace_names_the_cache(fx: &Fixture) -> CaseResult {
    fx.outside.write(b"f", b"")?;
    let fs = fx.root();
    let source = |name: &str| {
        let (steps, _) = fs.fs.trace_walk(&fs.cx(), fs.at(name), Follow::Yes);
        steps.last().map(|step| (step.source, step.round_trips))
    };
    check_eq!(source("f"), Some((StepSource::Remote, 1)), "the first walk");
    check_eq!(source("f"), Some((StepSource::Cache, 0)), "the second walk");
    check_eq!(
        source("none"),
        Some((StepSource::Remote, 1)),
        "a missing name"
    );
    check_eq!(
        source("none"),
        Some((StepSource::Negative, 0)),
        "a missing name again"
    );
    Ok(())
}

/// A day's work in a small tree, checked at each step.
fn daily_work(fs: &Client) -> Result<(), Failure> {
    for index in 0..5 {
        let dir = format!("dir{index}");
        fs.mkdir(&dir)?;
        for file in 0..5 {
            fs.create(format!("{dir}/f{file}"), format!("{index}.{file}"))?;
        }
        check_errno!(fs.stat(format!("{dir}/missing")), ENOENT);
    }
    let open = fs.open("dir2/f2", OpenFlags::RDWR)?;
    fs.rename("dir2", "moved")?;
    fs.link("moved/f1", "dir0/linked")?;
    fs.symlink("../moved/f3", "dir1/soft")?;
    fs.unlink("moved/f2")?;
    check_eq!(fs.read_all(&open)?, b"2.2", "content of the unlinked file");
    check_eq!(fs.read("dir1/soft")?, b"2.3", "content through the link");
    check_eq!(fs.read("dir0/linked")?, b"2.1", "content by the other name");
    check_eq!(fs.attr("moved/f1")?.nlink, 2, "link count");
    check_eq!(fs.list("moved")?.len(), 4, "names in the moved directory");
    for index in 0..5 {
        check_eq!(
            fs.read(format!("dir4/f{index}"))?.len(),
            3,
            "size of dir4/f{index}"
        );
    }
    check_errno!(fs.stat("dir2"), ENOENT);
    check_eq!(
        fs.stat("dir3/../dir4/..")?.ino,
        fs.root.ino(),
        "number of the root"
    );
    Ok(())
}

fn with_limit(fx: &Fixture, limit: u64) -> CaseResult {
    let fs = fx.remount(&Remount {
        dentry_cache_limit: Some(limit),
        ..Remount::default()
    })?;
    daily_work(&fs)
}

fn cache_limit_0_changes_nothing_but_cost(fx: &Fixture) -> CaseResult {
    with_limit(fx, 0)
}

fn cache_limit_1_changes_nothing_but_cost(fx: &Fixture) -> CaseResult {
    with_limit(fx, 1)
}

fn eviction_leaves_no_negative_entry(fx: &Fixture) -> CaseResult {
    let fs = fx.remount(&Remount {
        dentry_cache_limit: Some(2),
        ..Remount::default()
    })?;
    for index in 0..20 {
        fs.create(format!("f{index}"), format!("{index}"))?;
    }
    for index in 0..20 {
        let content = fs.read(format!("f{index}"))?;
        check_eq!(
            content,
            format!("{index}").into_bytes(),
            "content of f{index}"
        );
    }
    Ok(())
}

fn dropped_caches_are_filled_again(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.create("d/f", "x")?;
    let ino = fs.stat("d/f")?.ino;
    fs.fs.drop_caches();
    let (stat, trips) = fs.trips(|| fs.stat("d/f"));
    check_eq!(stat?.ino, ino, "inode number");
    check!(trips >= 1, "nothing was dropped");
    check_eq!(fs.read("d/f")?, b"x", "content");
    Ok(())
}

fn many_missing_names_are_forgotten_again(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    for index in 0..3000 {
        check_errno!(fs.stat(format!("missing{index}")), ENOENT);
    }
    let (_, recent) = fs.trips(|| fs.stat("missing2999"));
    let (_, old) = fs.trips(|| fs.stat("missing0"));
    check_eq!(recent, 0, "round trips for the last name");
    check_eq!(
        old,
        1,
        "round trips for the first name, which there is no room for"
    );
    Ok(())
}

fn writethrough_data_is_served_at_once(fx: &Fixture) -> CaseResult {
    let fs = fx.remount(&Remount {
        cache: Some(InteropMode::Writethrough),
        ..Remount::default()
    })?;
    let file = fs.open("f", OpenFlags::CREAT | OpenFlags::RDWR)?;
    fs.write_all(&file, b"at once", 0)?;
    check_eq!(fx.outside.read(b"f")?, b"at once", "content on the server");
    Ok(())
}

fn open_files_survive_a_dropped_cache(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.create("d/f", "x")?;
    let file = fs.open("d/f", OpenFlags::RDWR)?;
    let dir = fs.resolve("d")?;
    fs.fs.drop_caches();
    fs.write_all(&file, b"y", 0)?;
    check_eq!(fs.read_all(&file)?, b"y", "content");
    check_eq!(dir.path(), b"/d", "path of a held directory");
    check_eq!(fs.stat("d")?.ino, dir.ino(), "its number");
    Ok(())
}
