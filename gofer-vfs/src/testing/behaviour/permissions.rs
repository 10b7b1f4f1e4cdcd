//! What users other than 0 may do (semantics 12). The server runs as root and refuses nothing.

use super::client::{mode_of, times_of};
use super::{CaseResult, Client, Failure, Fixture};
use crate::attr::{SetAttr, SetTime, Timestamp};
use crate::flags::OpenFlags;
use crate::permissions::{AccessMask, Credentials};

cases![
    reading_and_writing_need_the_bits: root_server,
    group_members_get_the_group_s_bits: root_server,
    owner_without_bits_is_refused: root_server,
    search_is_needed_on_every_directory: root_server,
    search_is_needed_even_for_what_is_cached: root_server,
    search_is_refused_before_a_file_on_the_way: root_server,
    the_root_exists_for_those_who_may_not_search_it: root_server,
    listing_needs_read_permission: root_server,
    making_and_removing_need_write_and_search: root_server,
    access_answers_for_its_user: root_server,
    root_may_do_without_bits: root_server,
    truncate_needs_write_permission: root_server,
    read_only_open_with_truncate_needs_write_permission: root_server,
    only_the_owner_changes_the_mode: root_server,
    only_root_gives_files_away: root_server,
    owner_may_choose_among_his_groups: root_server,
    explicit_times_are_for_the_owner: root_server,
    current_times_are_for_those_who_may_write: root_server,
    chmod_by_a_stranger_to_the_group_drops_setgid: root_server,
    sticky_directory_protects_the_files_of_others: root_server,
    sticky_directory_protects_the_target_of_a_rename: root_server,
    hard_links_to_files_of_others_are_refused: root_server,
    moving_a_directory_needs_write_permission_on_it: root_server,
    exists_is_reported_before_permission: root_server,
    open_descriptor_survives_a_loss_of_permission: root_server,
];

/// A file of somebody else with this mode.
fn foreign(fx: &Fixture, name: &str, mode: u16) -> Result<Client, Failure> {
    let root = fx.root();
    root.create(name, "content")?;
    root.chown(name, 500, 600)?;
    root.chmod(name, mode)?;
    Ok(root)
}

/// A directory that anybody may write to.
fn open_directory(fx: &Fixture, name: &str, mode: u16) -> Result<Client, Failure> {
    let root = fx.root();
    root.mkdir(name)?;
    root.chmod(name, mode)?;
    Ok(root)
}

fn reading_and_writing_need_the_bits(fx: &Fixture) -> CaseResult {
    let user = fx.user();
    for (name, mode, reads, writes) in [
        ("r", 0o004, true, false),
        ("w", 0o002, false, true),
        ("n", 0o770, false, false),
    ] {
        foreign(fx, name, mode)?;
        for (flags, may) in [
            (OpenFlags::RDONLY, reads),
            (OpenFlags::WRONLY, writes),
            (OpenFlags::RDWR, reads && writes),
        ] {
            match user.open(name, flags) {
                Ok(_) => check!(may, "mode {mode:o} opens with {flags:?}"),
                Err(error) => {
                    check!(!may, "{error} with mode {mode:o} and {flags:?}");
                    check_eq!(
                        error.errno(),
                        crate::Errno::EACCES,
                        "error with mode {mode:o}"
                    );
                }
            }
        }
    }
    Ok(())
}

fn group_members_get_the_group_s_bits(fx: &Fixture) -> CaseResult {
    foreign(fx, "f", 0o040)?;
    let with = |gid, groups| Client::new(&fx.fs, Credentials::user(1000, gid, groups));
    check_eq!(
        with(600, vec![]).read("f")?,
        b"content",
        "content for the group"
    );
    check_eq!(
        with(1, vec![2, 600]).read("f")?,
        b"content",
        "content for a supplementary member"
    );
    check_errno!(with(1, vec![2]).read("f"), EACCES);
    Ok(())
}

fn owner_without_bits_is_refused(fx: &Fixture) -> CaseResult {
    let root = foreign(fx, "f", 0o077)?;
    root.chown("f", 1000, 1000)?;
    check_errno!(fx.user().read("f"), EACCES);
    Ok(())
}

fn search_is_needed_on_every_directory(fx: &Fixture) -> CaseResult {
    let root = fx.root();
    root.mkdir("a")?;
    root.mkdir("a/b")?;
    root.create("a/b/f", "x")?;
    let user = fx.user();
    check_eq!(user.read("a/b/f")?, b"x", "content before");
    root.chmod("a", 0o744)?;
    check_errno!(user.stat("a/b/f"), EACCES);
    check_errno!(user.stat("a/b"), EACCES);
    check_errno!(user.stat("a/."), EACCES);
    check_errno!(user.stat("a/missing"), EACCES);
    check_eq!(user.attr("a")?.mode, 0o744, "mode of the directory itself");
    root.chmod("a", 0o711)?;
    root.chmod("a/b", 0o700)?;
    check_errno!(user.open("a/b/f", OpenFlags::RDONLY), EACCES);
    check_errno!(user.stat("a/b/../b/f"), EACCES);
    check_errno!(user.stat("a/b/.."), EACCES);
    Ok(())
}

fn search_is_needed_even_for_what_is_cached(fx: &Fixture) -> CaseResult {
    let root = fx.root();
    root.mkdir_mode("d", 0o700)?;
    root.create("d/f", "x")?;
    root.stat("d/f")?;
    check_errno!(root.stat("d/missing"), ENOENT);
    let user = fx.user();
    check_errno!(user.stat("d/f"), EACCES);
    check_errno!(user.stat("d/missing"), EACCES);
    Ok(())
}

fn search_is_refused_before_a_file_on_the_way(fx: &Fixture) -> CaseResult {
    let root = fx.root();
    root.mkdir("d")?;
    root.create("d/f", "")?;
    root.chmod("d", 0o644)?;
    let how = super::Remount {
        dentry_cache_limit: Some(0),
        ..super::Remount::default()
    };
    // It has seen none of it.
    let fresh = fx.remount(&how)?;
    let user = Client::new(&fresh.fs, Credentials::user(1000, 1000, Vec::new()));
    for path in ["d/f/x", "d/f/x/y", "d/f/x/.", "d/f/", "d/x/y/"] {
        check_errno!(user.stat(path), EACCES);
        check_errno!(user.mkdir(path), EACCES);
    }
    check_errno!(fresh.mkdir("d/f/x/y"), ENOTDIR);
    Ok(())
}

fn the_root_exists_for_those_who_may_not_search_it(fx: &Fixture) -> CaseResult {
    let (root, user) = (fx.root(), fx.user());
    root.chmod("/", 0o666)?;
    check_errno!(user.mkdir("/"), EEXIST);
    check_errno!(user.symlink("x", "/"), EEXIST);
    check_errno!(user.rmdir("/"), EBUSY);
    check_errno!(user.mkdir("."), EACCES);
    check_errno!(user.mkdir("d"), EACCES);
    root.chmod("/", 0o755)?;
    Ok(())
}

fn listing_needs_read_permission(fx: &Fixture) -> CaseResult {
    let root = open_directory(fx, "d", 0o711)?;
    root.create("d/f", "x")?;
    let user = fx.user();
    check_errno!(user.list("d"), EACCES);
    check_eq!(user.read("d/f")?, b"x", "content of a known name");
    root.chmod("d", 0o744)?;
    check_eq!(user.list("d")?, [b"f"], "listing without search permission");
    check_errno!(user.read("d/f"), EACCES);
    Ok(())
}

fn making_and_removing_need_write_and_search(fx: &Fixture) -> CaseResult {
    let root = fx.root();
    let user = fx.user();
    for (name, mode) in [("no-write", 0o755), ("no-search", 0o776)] {
        open_directory(fx, name, mode)?;
        let path = |last: &str| format!("{name}/{last}");
        root.create(path("f"), "")?;
        root.mkdir(path("d"))?;
        check_errno!(user.create(path("new"), ""), EACCES);
        check_errno!(user.mkdir(path("new")), EACCES);
        check_errno!(user.symlink("x", path("new")), EACCES);
        check_errno!(user.unlink(path("f")), EACCES);
        check_errno!(user.rmdir(path("d")), EACCES);
        check_errno!(user.rename(path("f"), path("g")), EACCES);
        check_eq!(root.list(name)?, [b"d", b"f"], "names in {name}");
    }
    Ok(())
}

fn access_answers_for_its_user(fx: &Fixture) -> CaseResult {
    let root = foreign(fx, "f", 0o754)?;
    let user = fx.user();
    user.access("f", AccessMask::READ)?;
    user.access("f", AccessMask::empty())?;
    check_errno!(user.access("f", AccessMask::WRITE), EACCES);
    check_errno!(user.access("f", AccessMask::EXECUTE), EACCES);
    check_errno!(
        user.access("f", AccessMask::READ | AccessMask::EXECUTE),
        EACCES
    );
    check_errno!(user.access("missing", AccessMask::empty()), ENOENT);
    root.access("f", AccessMask::all())?;
    Ok(())
}

fn root_may_do_without_bits(fx: &Fixture) -> CaseResult {
    let root = foreign(fx, "f", 0)?;
    check_eq!(root.read("f")?, b"content", "content");
    root.overwrite("f", "more")?;
    check_errno!(root.access("f", AccessMask::EXECUTE), EACCES);
    root.chmod("f", 0o100)?;
    root.access("f", AccessMask::EXECUTE)?;
    open_directory(fx, "d", 0)?;
    root.create("d/f", "")?;
    check_eq!(root.list("d")?, [b"f"], "listing");
    Ok(())
}

fn truncate_needs_write_permission(fx: &Fixture) -> CaseResult {
    let root = foreign(fx, "f", 0o664)?;
    let user = fx.user();
    check_errno!(user.truncate("f", 0), EACCES);
    root.chmod("f", 0o662)?;
    user.truncate("f", 3)?;
    check_eq!(root.read("f")?, b"con", "content");
    Ok(())
}

fn read_only_open_with_truncate_needs_write_permission(fx: &Fixture) -> CaseResult {
    let root = foreign(fx, "f", 0o664)?;
    check_errno!(fx.user().open("f", OpenFlags::TRUNC), EACCES);
    check_eq!(root.read("f")?, b"content", "content");
    Ok(())
}

fn only_the_owner_changes_the_mode(fx: &Fixture) -> CaseResult {
    let root = foreign(fx, "f", 0o666)?;
    let user = fx.user();
    check_errno!(user.chmod("f", 0o777), EPERM);
    let file = user.open("f", OpenFlags::RDWR)?;
    check_errno!(file.set_attr(&user.cx(), &mode_of(0o777)), EPERM);
    root.chown("f", 1000, 1000)?;
    user.chmod("f", 0o600)?;
    check_eq!(root.attr("f")?.mode, 0o600, "mode");
    Ok(())
}

fn only_root_gives_files_away(fx: &Fixture) -> CaseResult {
    let root = foreign(fx, "f", 0o666)?;
    let user = fx.user();
    check_errno!(user.chown("f", 1000, 1000), EPERM);
    root.chown("f", 1000, 1000)?;
    check_errno!(user.chown("f", 500, 1000), EPERM);
    user.chown("f", 1000, 1000)?;
    check_eq!(root.attr("f")?.uid, 1000, "owner");
    Ok(())
}

fn owner_may_choose_among_his_groups(fx: &Fixture) -> CaseResult {
    let root = foreign(fx, "f", 0o666)?;
    root.chown("f", 1000, 1000)?;
    let member = Client::new(&fx.fs, Credentials::user(1000, 1000, vec![777]));
    let group = |gid| SetAttr {
        gid: Some(gid),
        ..SetAttr::default()
    };
    member.set("f", group(777))?;
    check_eq!(root.attr("f")?.gid, 777, "group");
    check_errno!(member.set("f", group(778)), EPERM);
    Ok(())
}

fn explicit_times_are_for_the_owner(fx: &Fixture) -> CaseResult {
    let root = foreign(fx, "f", 0o666)?;
    let user = fx.user();
    let when = SetTime::At(Timestamp { sec: 5, nsec: 0 });
    check_errno!(user.set("f", times_of(when, when)), EPERM);
    check_errno!(user.set("f", times_of(SetTime::Now, when)), EPERM);
    root.chown("f", 1000, 1000)?;
    user.set("f", times_of(when, when))?;
    check_eq!(root.attr("f")?.mtime.sec, 5, "modification time");
    Ok(())
}

fn current_times_are_for_those_who_may_write(fx: &Fixture) -> CaseResult {
    let root = foreign(fx, "f", 0o666)?;
    let old = SetTime::At(Timestamp { sec: 5, nsec: 0 });
    root.set("f", times_of(old, old))?;
    let user = fx.user();
    user.touch("f")?;
    check!(root.attr("f")?.mtime.sec > 5, "the time did not move");
    root.chmod("f", 0o664)?;
    check_errno!(user.touch("f"), EACCES);
    Ok(())
}

fn chmod_by_a_stranger_to_the_group_drops_setgid(fx: &Fixture) -> CaseResult {
    let root = foreign(fx, "f", 0o666)?;
    root.chown("f", 1000, 600)?;
    let user = fx.user();
    user.chmod("f", 0o2755)?;
    check_eq!(root.attr("f")?.mode, 0o755, "mode");
    check_eq!(
        fx.outside.stat(b"f")?.attr.mode,
        0o755,
        "mode on the server"
    );
    Ok(())
}

fn sticky_directory_protects_the_files_of_others(fx: &Fixture) -> CaseResult {
    let root = open_directory(fx, "tmp", 0o1777)?;
    foreign(fx, "tmp/f", 0o666)?;
    root.mkdir("tmp/d")?;
    root.create("tmp/mine", "")?;
    root.chown("tmp/mine", 1000, 1000)?;
    let user = fx.user();
    check_errno!(user.unlink("tmp/f"), EPERM);
    check_errno!(user.rmdir("tmp/d"), EPERM);
    check_errno!(user.rename("tmp/f", "tmp/g"), EPERM);
    user.rename("tmp/mine", "tmp/still-mine")?;
    user.unlink("tmp/still-mine")?;
    root.unlink("tmp/f")?;
    Ok(())
}

fn sticky_directory_protects_the_target_of_a_rename(fx: &Fixture) -> CaseResult {
    let root = open_directory(fx, "tmp", 0o1777)?;
    foreign(fx, "tmp/f", 0o666)?;
    root.create("tmp/mine", "mine")?;
    root.chown("tmp/mine", 1000, 1000)?;
    check_errno!(fx.user().rename("tmp/mine", "tmp/f"), EPERM);
    check_eq!(root.read("tmp/f")?, b"content", "the target");
    Ok(())
}

fn hard_links_to_files_of_others_are_refused(fx: &Fixture) -> CaseResult {
    let root = open_directory(fx, "d", 0o777)?;
    let user = fx.user();
    for (name, mode, may) in [
        ("readable", 0o644, false),
        ("writable", 0o666, true),
        ("suid", 0o4666, false),
        ("sgid", 0o2676, false),
    ] {
        foreign(fx, name, mode)?;
        let linked = user.link(name, format!("d/{name}"));
        if may {
            linked?;
        } else {
            check_errno!(linked, EPERM);
        }
    }
    check_eq!(root.list("d")?, [b"writable"], "links made");
    Ok(())
}

fn moving_a_directory_needs_write_permission_on_it(fx: &Fixture) -> CaseResult {
    let root = open_directory(fx, "a", 0o777)?;
    open_directory(fx, "b", 0o777)?;
    root.mkdir("a/d")?;
    let user = fx.user();
    user.rename("a/d", "a/e")?;
    check_errno!(user.rename("a/e", "b/e"), EACCES);
    root.chmod("a/e", 0o757)?;
    user.rename("a/e", "b/e")?;
    check!(root.exists("b/e")?, "the directory did not move");
    Ok(())
}

fn exists_is_reported_before_permission(fx: &Fixture) -> CaseResult {
    let root = open_directory(fx, "d", 0o755)?;
    root.create("d/f", "")?;
    let user = fx.user();
    check_errno!(user.mkdir("d/f"), EEXIST);
    check_errno!(user.symlink("x", "d/f"), EEXIST);
    check_errno!(user.open("d/f", OpenFlags::CREAT | OpenFlags::EXCL), EEXIST);
    check_errno!(user.unlink("d/missing"), ENOENT);
    Ok(())
}

fn open_descriptor_survives_a_loss_of_permission(fx: &Fixture) -> CaseResult {
    let root = foreign(fx, "f", 0o666)?;
    let user = fx.user();
    let file = user.open("f", OpenFlags::RDWR)?;
    root.chmod("f", 0)?;
    check_eq!(user.read_all(&file)?, b"content", "content");
    user.write_all(&file, b"C", 0)?;
    check_errno!(user.open("f", OpenFlags::RDONLY), EACCES);
    Ok(())
}
