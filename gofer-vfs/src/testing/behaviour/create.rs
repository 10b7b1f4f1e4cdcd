//! Making names: open with O_CREAT, mkdir, mknod (semantics 7, 10.5).

use super::{CaseResult, Fixture, Remount};
use crate::attr::FileType;
use crate::flags::OpenFlags;

cases![
    created_file_is_empty_and_has_its_mode,
    no_umask_is_applied,
    exclusive_create_refuses_what_is_there,
    plain_create_opens_what_is_there,
    create_with_truncate_empties_what_is_there,
    create_through_a_dangling_link_makes_the_target,
    exclusive_create_refuses_a_dangling_link,
    create_with_mode_0_may_still_be_written,
    created_file_can_be_read_and_written_through_one_descriptor,
    create_with_access_mode_3_gives_no_io,
    create_below_a_missing_directory_is_enoent,
    create_with_a_trailing_slash_is_eisdir,
    create_of_dot_and_dot_dot_is_refused,
    create_in_a_deleted_directory_is_enoent,
    mkdir_makes_an_empty_directory,
    mkdir_over_anything_is_eexist,
    mkdir_accepts_a_trailing_slash,
    symlink_with_a_trailing_slash_is_enoent,
    setgid_directory_hands_down_its_group: owners,
    new_files_belong_to_their_maker: owners,
    mknod_makes_a_fifo: fifos,
    name_can_be_taken_again_after_removal,
    file_and_directory_swap_places,
];

fn rdwr() -> OpenFlags {
    OpenFlags::CREAT | OpenFlags::RDWR
}

fn created_file_is_empty_and_has_its_mode(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let file = fs.open_mode("f", rdwr() | OpenFlags::EXCL, 0o640)?;
    let stat = file.stat(&fs.cx())?;
    let found = (
        stat.attr.file_type,
        stat.attr.size,
        stat.attr.mode,
        stat.attr.nlink,
    );
    check_eq!(found, (FileType::Regular, 0, 0o640, 1), "the open file");
    check_eq!(fs.stat("f")?.ino, stat.ino, "inode number");
    check_eq!(
        fx.outside.stat(b"f")?.attr.mode,
        0o640,
        "mode on the server"
    );
    Ok(())
}

fn no_umask_is_applied(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.open_mode("f", rdwr(), 0o777)?.close(&fs.cx())?;
    fs.mkdir_mode("d", 0o777)?;
    for name in ["f", "d"] {
        check_eq!(fs.attr(name)?.mode, 0o777, "mode of {name}");
        let host = fx.outside.stat(name.as_bytes())?.attr.mode;
        check_eq!(host, 0o777, "mode of {name} on the server");
    }
    Ok(())
}

fn exclusive_create_refuses_what_is_there(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "old")?;
    fs.mkdir("d")?;
    let exclusive = rdwr() | OpenFlags::EXCL | OpenFlags::TRUNC;
    check_errno!(fs.open("f", exclusive), EEXIST);
    check_errno!(fs.open("d", exclusive), EEXIST);
    check_eq!(fs.read("f")?, b"old", "content afterwards");
    Ok(())
}

fn plain_create_opens_what_is_there(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "old")?;
    fs.chmod("f", 0o600)?;
    let file = fs.open_mode("f", rdwr(), 0o777)?;
    check_eq!(fs.read_all(&file)?, b"old", "content");
    check_eq!(fs.attr("f")?.mode, 0o600, "mode");
    Ok(())
}

fn create_with_truncate_empties_what_is_there(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "old content")?;
    let file = fs.open("f", rdwr() | OpenFlags::TRUNC)?;
    check_eq!(file.stat(&fs.cx())?.attr.size, 0, "size");
    check_eq!(fx.outside.stat(b"f")?.attr.size, 0, "size on the server");
    Ok(())
}

fn create_through_a_dangling_link_makes_the_target(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.symlink("d/target", "l")?;
    let file = fs.open("l", rdwr())?;
    fs.write_all(&file, b"x", 0)?;
    file.close(&fs.cx())?;
    check_eq!(fx.served(b"d/target")?, b"x", "content of the target");
    check_eq!(fs.attr("l")?.file_type, FileType::Symlink, "the link");
    Ok(())
}

fn exclusive_create_refuses_a_dangling_link(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.symlink("target", "l")?;
    check_errno!(fs.open("l", rdwr() | OpenFlags::EXCL), EEXIST);
    check!(!fx.outside.exists(b"target"), "the target was made");
    Ok(())
}

fn create_with_mode_0_may_still_be_written(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let file = fs.open_mode("f", rdwr() | OpenFlags::EXCL, 0)?;
    fs.write_all(&file, b"x", 0)?;
    check_eq!(fs.read_all(&file)?, b"x", "content");
    check_eq!(fs.attr("f")?.mode, 0, "mode");
    Ok(())
}

fn created_file_can_be_read_and_written_through_one_descriptor(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let file = fs.open("f", rdwr())?;
    check_eq!(file.write(&fs.cx(), b"hello")?, 5, "bytes written");
    check_eq!(fs.read_all(&file)?, b"hello", "content");
    check_eq!(file.stat(&fs.cx())?.attr.size, 5, "size");
    let write_only = fs.open("g", OpenFlags::CREAT | OpenFlags::WRONLY)?;
    check_errno!(fs.read_all(&write_only), EBADF);
    let read_only = fs.open("h", OpenFlags::CREAT)?;
    check_errno!(read_only.write(&fs.cx(), b"x"), EBADF);
    Ok(())
}

fn create_with_access_mode_3_gives_no_io(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let neither = OpenFlags::WRONLY | OpenFlags::RDWR;
    for flags in [neither | OpenFlags::CREAT, neither] {
        let file = fs.open("f", flags)?;
        check_errno!(fs.read_all(&file), EBADF);
        check_errno!(file.write(&fs.cx(), b"x"), EBADF);
        file.close(&fs.cx())?;
    }
    Ok(())
}

fn create_below_a_missing_directory_is_enoent(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    check_errno!(fs.open("missing/f", rdwr()), ENOENT);
    check_errno!(fs.mkdir("missing/d"), ENOENT);
    check_errno!(fs.symlink("x", "missing/l"), ENOENT);
    Ok(())
}

fn create_with_a_trailing_slash_is_eisdir(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    check_errno!(fs.open("f/", rdwr()), EISDIR);
    check_errno!(fs.open("d/", rdwr()), EISDIR);
    check_errno!(fs.open("d", rdwr()), EISDIR);
    check!(!fx.outside.exists(b"f"), "the file was made");
    Ok(())
}

fn create_of_dot_and_dot_dot_is_refused(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    for path in [".", "..", "d/.", "d/.."] {
        check_errno!(fs.mkdir(path), EEXIST);
        check_errno!(fs.symlink("x", path), EEXIST);
    }
    fs.create("f", "")?;
    check_errno!(fs.link("f", "d/."), EEXIST);
    Ok(())
}

fn create_in_a_deleted_directory_is_enoent(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.create("f", "")?;
    let dir = fs.resolve("d")?;
    fs.rmdir("d")?;
    let cx = fs.cx();
    let below = |path| crate::At::new(&dir, path);
    check_errno!(fs.fs.mkdir(&cx, below(b"x"), 0o755), ENOENT);
    check_errno!(fs.fs.open(&cx, below(b"x"), rdwr(), 0o644), ENOENT);
    check_errno!(fs.fs.symlink(&cx, b"t", below(b"x")), ENOENT);
    let link = fs.fs.link(&cx, fs.at("f"), crate::Follow::No, below(b"x"));
    check_errno!(link, ENOENT);
    let none = crate::RenameFlags::empty();
    check_errno!(fs.fs.rename(&cx, fs.at("f"), below(b"x"), none), ENOENT);
    check!(fs.exists("f")?, "the file that was not moved is gone");
    Ok(())
}

fn mkdir_makes_an_empty_directory(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir_mode("d", 0o750)?;
    let attr = fs.attr("d")?;
    check_eq!(
        (attr.file_type, attr.mode),
        (FileType::Directory, 0o750),
        "the directory"
    );
    check_eq!(
        fs.list_all("d")?,
        [b".".to_vec(), b"..".to_vec()],
        "its listing"
    );
    check_eq!(
        fx.outside.stat(b"d")?.attr.mode,
        0o750,
        "mode on the server"
    );
    fs.mkdir("d/e")?;
    check!(
        fx.outside.exists(b"d/e"),
        "a directory in the new one is not on the server"
    );
    Ok(())
}

fn mkdir_over_anything_is_eexist(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.mkdir("d")?;
    fx.outside.mkdir(b"unseen")?;
    for name in ["f", "d", "unseen"] {
        check_errno!(fs.mkdir(name), EEXIST);
        check_errno!(fs.symlink("x", name), EEXIST);
    }
    Ok(())
}

fn mkdir_accepts_a_trailing_slash(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d//")?;
    check_eq!(fs.stat("d/")?.attr.file_type, FileType::Directory, "d");
    Ok(())
}

fn symlink_with_a_trailing_slash_is_enoent(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    check_errno!(fs.symlink("x", "l/"), ENOENT);
    fs.mkdir("d")?;
    check_errno!(fs.symlink("x", "d/"), EEXIST);
    Ok(())
}

fn setgid_directory_hands_down_its_group(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.chown("d", 0, 4242)?;
    fs.chmod("d", 0o2775)?;
    fs.create("d/f", "")?;
    fs.mkdir("d/sub")?;
    fs.symlink("x", "d/l")?;
    for name in ["d/f", "d/sub", "d/l"] {
        check_eq!(fs.attr(name)?.gid, 4242, "group of {name}");
        let host = fx.outside.stat(name.as_bytes())?.attr.gid;
        check_eq!(host, 4242, "group of {name} on the server");
    }
    check_eq!(
        fs.attr("d/sub")?.mode,
        0o2755,
        "mode of the directory inside"
    );
    check_eq!(fs.attr("d/f")?.mode, 0o644, "mode of the file inside");
    Ok(())
}

fn new_files_belong_to_their_maker(fx: &Fixture) -> CaseResult {
    fx.root().chmod("/", 0o777)?;
    let user = fx.user();
    user.create("f", "x")?;
    user.mkdir("d")?;
    user.symlink("f", "l")?;
    for name in ["f", "d", "l"] {
        let attr = user.attr(name)?;
        check_eq!((attr.uid, attr.gid), (1000, 1000), "owner of {name}");
        let host = fx.outside.stat(name.as_bytes())?.attr;
        check_eq!(
            (host.uid, host.gid),
            (1000, 1000),
            "owner of {name} on the server"
        );
    }
    Ok(())
}

fn mknod_makes_a_fifo(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkfifo("p")?;
    check_eq!(fs.attr("p")?.file_type, FileType::Fifo, "the type");
    check_errno!(fs.mkfifo("p"), EEXIST);
    check_errno!(fs.truncate("p", 0), EINVAL);
    fs.unlink("p")?;
    check!(!fs.exists("p")?, "the fifo is still there");
    Ok(())
}

fn name_can_be_taken_again_after_removal(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    for round in 0..20 {
        let content = format!("round {round}");
        fs.create("f", &content)?;
        check_eq!(
            fs.read("f")?,
            content.as_bytes(),
            "content in round {round}"
        );
        fs.unlink("f")?;
        check_errno!(fs.stat("f"), ENOENT);
    }
    Ok(())
}

fn file_and_directory_swap_places(fx: &Fixture) -> CaseResult {
    let fs = fx.remount(&Remount::default())?;
    fs.create("n", "")?;
    fs.unlink("n")?;
    fs.mkdir("n")?;
    fs.create("n/f", "x")?;
    fs.unlink("n/f")?;
    fs.rmdir("n")?;
    fs.symlink("t", "n")?;
    check_eq!(
        fs.attr("n")?.file_type,
        FileType::Symlink,
        "what is there in the end"
    );
    Ok(())
}
