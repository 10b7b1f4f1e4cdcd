//! Removing names, and files that live on without one (semantics 8).

use super::client::{mode_of, size_of};
use super::{CaseResult, Fixture, Remount};
use crate::flags::OpenFlags;

cases![
    unlink_removes_the_name,
    unlink_of_a_missing_name_is_enoent,
    unlink_of_a_directory_is_eisdir,
    unlink_of_dots_is_eisdir,
    unlink_with_a_trailing_slash_is_refused,
    unlink_removes_a_link_and_not_its_target,
    rmdir_removes_an_empty_directory,
    rmdir_of_a_full_directory_is_enotempty,
    rmdir_of_a_file_is_enotdir,
    rmdir_of_dots_is_refused,
    rmdir_of_a_missing_name_is_enoent,
    removal_of_what_was_never_looked_at_works,
    unlinked_open_file_reads_and_writes,
    unlinked_open_file_has_no_names,
    unlinked_open_file_can_be_changed,
    unlinked_file_opened_again_by_its_name_is_a_new_one,
    unlinked_file_with_another_name_keeps_one,
    many_deleted_files_stay_apart,
    deleted_directory_is_empty,
    removal_frees_the_server_s_file,
    removal_works_without_a_cache,
];

fn unlink_removes_the_name(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.unlink("f")?;
    check_errno!(fs.stat("f"), ENOENT);
    check!(!fx.outside.exists(b"f"), "the file is still on the server");
    check_eq!(fs.list("/")?.len(), 0, "names left");
    check_errno!(fs.unlink("f"), ENOENT);
    Ok(())
}

fn unlink_of_a_missing_name_is_enoent(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    check_errno!(fs.unlink("f"), ENOENT);
    check_errno!(fs.unlink("d/f"), ENOENT);
    fs.create("f", "")?;
    check_errno!(fs.unlink("f/x"), ENOTDIR);
    Ok(())
}

fn unlink_of_a_directory_is_eisdir(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    check_errno!(fs.unlink("d"), EISDIR);
    check_errno!(fs.unlink("d/"), EISDIR);
    fx.outside.mkdir(b"unseen")?;
    check_errno!(fs.unlink("unseen"), EISDIR);
    check!(fx.outside.exists(b"d"), "the directory is gone");
    Ok(())
}

fn unlink_of_dots_is_eisdir(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    check_errno!(fs.unlink("d/."), EISDIR);
    check_errno!(fs.unlink("d/.."), EISDIR);
    Ok(())
}

fn unlink_with_a_trailing_slash_is_refused(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    check_errno!(fs.unlink("f/"), ENOTDIR);
    check_errno!(fs.unlink("missing/"), ENOENT);
    check!(fs.exists("f")?, "the file is gone");
    Ok(())
}

fn unlink_removes_a_link_and_not_its_target(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    fs.mkdir("d")?;
    fs.symlink("f", "lf")?;
    fs.symlink("d", "ld")?;
    fs.unlink("lf")?;
    check_errno!(fs.rmdir("ld"), ENOTDIR);
    fs.unlink("ld")?;
    check_eq!(fs.list("/")?, [b"d", b"f"], "names left");
    Ok(())
}

fn rmdir_removes_an_empty_directory(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.create("d/f", "")?;
    fs.unlink("d/f")?;
    fs.rmdir("d")?;
    check_errno!(fs.stat("d"), ENOENT);
    fs.mkdir("e")?;
    fs.rmdir("e/")?;
    check_eq!(fx.outside.list(b"")?.len(), 0, "names on the server");
    Ok(())
}

fn rmdir_of_a_full_directory_is_enotempty(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.create("d/f", "")?;
    check_errno!(fs.rmdir("d"), ENOTEMPTY);
    fx.outside.mkdir(b"unseen")?;
    fx.outside.write(b"unseen/f", b"")?;
    check_errno!(fs.rmdir("unseen"), ENOTEMPTY);
    check!(fs.exists("d/f")?, "the file in it is gone");
    Ok(())
}

fn rmdir_of_a_file_is_enotdir(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    check_errno!(fs.rmdir("f"), ENOTDIR);
    fx.outside.write(b"unseen", b"")?;
    check_errno!(fs.rmdir("unseen"), ENOTDIR);
    check!(fs.exists("f")?, "the file is gone");
    Ok(())
}

fn rmdir_of_dots_is_refused(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    check_errno!(fs.rmdir("d/."), EINVAL);
    check_errno!(fs.rmdir("d/.."), ENOTEMPTY);
    Ok(())
}

fn rmdir_of_a_missing_name_is_enoent(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    check_errno!(fs.rmdir("d"), ENOENT);
    check_errno!(fs.rmdir("d/e"), ENOENT);
    Ok(())
}

fn removal_of_what_was_never_looked_at_works(fx: &Fixture) -> CaseResult {
    fx.outside.write(b"f", b"")?;
    fx.outside.mkdir(b"d")?;
    fx.outside.symlink(b"x", b"l")?;
    let fs = fx.root();
    fs.unlink("f")?;
    fs.unlink("l")?;
    fs.rmdir("d")?;
    check_eq!(fx.outside.list(b"")?.len(), 0, "names on the server");
    Ok(())
}

fn unlinked_open_file_reads_and_writes(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "before")?;
    let reader = fs.open("f", OpenFlags::RDONLY)?;
    let writer = fs.open("f", OpenFlags::RDWR)?;
    fs.unlink("f")?;
    check_eq!(fs.read_all(&reader)?, b"before", "content");
    fs.write_all(&writer, b"AFTER and more", 0)?;
    check_eq!(
        fs.read_all(&reader)?,
        b"AFTER and more",
        "content after a write"
    );
    check_eq!(reader.stat(&fs.cx())?.attr.size, 14, "size");
    writer.sync(&fs.cx(), false)?;
    writer.close(&fs.cx())?;
    check_eq!(
        fs.read_at(&reader, 5, 0)?,
        b"AFTER",
        "content after the writer closed"
    );
    Ok(())
}

fn unlinked_open_file_has_no_names(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    let ino = file.stat(&fs.cx())?.ino;
    fs.unlink("f")?;
    let stat = file.stat(&fs.cx())?;
    check_eq!(stat.attr.nlink, 0, "link count");
    check_eq!(stat.ino, ino, "inode number");
    Ok(())
}

fn unlinked_open_file_can_be_changed(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let cx = fs.cx();
    fs.create("f", "content")?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    fs.unlink("f")?;
    file.set_attr(&cx, &size_of(4))?;
    check_eq!(fs.read_all(&file)?, b"cont", "content after ftruncate");
    file.set_attr(&cx, &mode_of(0o600))?;
    let attr = file.stat(&cx)?.attr;
    check_eq!((attr.size, attr.mode), (4, 0o600), "size and mode");
    file.set_attr(&cx, &size_of(100))?;
    check_eq!(file.stat(&cx)?.attr.size, 100, "size after extending");
    Ok(())
}

fn unlinked_file_opened_again_by_its_name_is_a_new_one(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "old")?;
    let old = fs.open("f", OpenFlags::RDWR)?;
    fs.unlink("f")?;
    fs.create("f", "new")?;
    check_eq!(fs.read("f")?, b"new", "content of the new one");
    check_eq!(fs.read_all(&old)?, b"old", "content of the old one");
    fs.write_all(&old, b"OLD", 0)?;
    check_eq!(fx.served(b"f")?, b"new", "content on the server");
    check!(
        fs.stat("f")?.ino != old.stat(&fs.cx())?.ino,
        "both have one inode number"
    );
    Ok(())
}

fn unlinked_file_with_another_name_keeps_one(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "x")?;
    fs.link("a", "b")?;
    let file = fs.open("a", OpenFlags::RDWR)?;
    fs.unlink("a")?;
    check_eq!(file.stat(&fs.cx())?.attr.nlink, 1, "link count");
    file.set_attr(&fs.cx(), &mode_of(0o600))?;
    check_eq!(fs.attr("b")?.mode, 0o600, "mode by the other name");
    fs.unlink("b")?;
    check_eq!(file.stat(&fs.cx())?.attr.nlink, 0, "link count in the end");
    Ok(())
}

fn many_deleted_files_stay_apart(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let mut files = Vec::new();
    for index in 0..50 {
        let content = format!("generation {index}");
        fs.create("f", &content)?;
        files.push((content, fs.open("f", OpenFlags::RDONLY)?));
        fs.unlink("f")?;
    }
    for (content, file) in &files {
        check_eq!(
            fs.read_all(file)?,
            content.as_bytes(),
            "content of {content}"
        );
    }
    Ok(())
}

fn deleted_directory_is_empty(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    let dir = fs.open("d", OpenFlags::DIRECTORY)?;
    fs.rmdir("d")?;
    check_eq!(fs.names(&dir)?.len(), 0, "names in a deleted directory");
    check_eq!(dir.stat(&fs.cx())?.attr.nlink, 0, "link count");
    Ok(())
}

fn removal_frees_the_server_s_file(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "x")?;
    fx.outside.link(b"a", b"witness")?;
    let file = fs.open("a", OpenFlags::RDWR)?;
    fs.unlink("a")?;
    check_eq!(
        fx.outside.stat(b"witness")?.attr.nlink,
        1,
        "names on the server"
    );
    file.close(&fs.cx())?;
    check_eq!(
        fx.served(b"witness")?,
        b"x",
        "content under the name outside"
    );
    Ok(())
}

fn removal_works_without_a_cache(fx: &Fixture) -> CaseResult {
    for limit in [0, 1] {
        let fs = fx.remount(&Remount {
            dentry_cache_limit: Some(limit),
            ..Remount::default()
        })?;
        fs.mkdir("d")?;
        fs.create("d/f", "x")?;
        let file = fs.open("d/f", OpenFlags::RDWR)?;
        fs.unlink("d/f")?;
        fs.rmdir("d")?;
        check_eq!(fs.read_all(&file)?, b"x", "content with room for {limit}");
        check_eq!(
            file.stat(&fs.cx())?.attr.nlink,
            0,
            "link count with room for {limit}"
        );
    }
    Ok(())
}
