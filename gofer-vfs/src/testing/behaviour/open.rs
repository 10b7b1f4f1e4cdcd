//! Opening what is there (semantics 10), and read-only mounts.

use super::{CaseResult, Client, Failure, Fixture, Remount};
use crate::attr::FileType;
use crate::flags::{AllocMode, OpenFlags, XattrFlags};
use crate::permissions::AccessMask;
use crate::{Follow, MountFlags, Whence};

cases![
    access_mode_limits_what_a_descriptor_does,
    open_of_a_missing_file_is_enoent,
    directory_flag_wants_a_directory,
    directories_open_for_reading_only,
    file_with_a_trailing_slash_does_not_open,
    nofollow_refuses_a_link,
    truncate_on_open_empties,
    truncate_with_read_only_access_empties_too,
    path_descriptor_names_a_file_and_no_more,
    tmpfile_is_not_supported,
    unknown_tmpfile_combination_is_einval,
    descriptors_have_their_own_offsets,
    reader_and_writer_of_one_file_see_each_other,
    read_then_read_write_open_of_one_file_work_together,
    noatime_is_refused_to_others,
    direct_is_for_files_only,
    open_file_knows_its_flags_and_node,
    readonly_mount_refuses_every_change,
    readonly_mount_reads,
    readonly_mount_never_truncates,
    readonly_mount_says_exists_before_readonly,
];

fn access_mode_limits_what_a_descriptor_does(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "12345")?;
    let cx = fs.cx();
    let reader = fs.open("f", OpenFlags::RDONLY)?;
    check_eq!(
        fs.read_at(&reader, 9, 0)?,
        b"12345",
        "what the reader reads"
    );
    check_errno!(reader.write_at(&cx, b"x", 0), EBADF);
    check_errno!(reader.set_attr(&cx, &super::client::size_of(0)), EINVAL);
    check_errno!(reader.allocate(&cx, AllocMode::empty(), 0, 10), EBADF);
    let writer = fs.open("f", OpenFlags::WRONLY)?;
    check_errno!(fs.read_at(&writer, 1, 0), EBADF);
    check_eq!(
        writer.write_at(&cx, b"abc", 0)?,
        3,
        "what the writer writes"
    );
    let both = fs.open("f", OpenFlags::RDWR)?;
    check_eq!(both.write_at(&cx, b"X", 4)?, 1, "what the third writes");
    check_eq!(fs.read_all(&both)?, b"abc4X", "what the third reads");
    Ok(())
}

fn open_of_a_missing_file_is_enoent(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    for flags in [
        OpenFlags::RDONLY,
        OpenFlags::RDWR,
        OpenFlags::TRUNC,
        OpenFlags::EXCL,
    ] {
        check_errno!(fs.open("missing", flags), ENOENT);
    }
    check!(!fx.outside.exists(b"missing"), "the file was made");
    Ok(())
}

fn directory_flag_wants_a_directory(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.mkdir("d")?;
    fs.symlink("d", "ld")?;
    check_errno!(fs.open("f", OpenFlags::DIRECTORY), ENOTDIR);
    check_errno!(
        fs.open("f", OpenFlags::DIRECTORY | OpenFlags::PATH),
        ENOTDIR
    );
    for name in ["d", "ld", "d/", "."] {
        let dir = fs.open(name, OpenFlags::DIRECTORY)?;
        let kind = dir.stat(&fs.cx())?.attr.file_type;
        check_eq!(kind, FileType::Directory, "{name}");
    }
    Ok(())
}

fn directories_open_for_reading_only(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    check_errno!(fs.open("d", OpenFlags::WRONLY), EISDIR);
    check_errno!(fs.open("d", OpenFlags::RDWR), EISDIR);
    check_errno!(fs.open("d", OpenFlags::TRUNC), EISDIR);
    check_errno!(fs.open("d", OpenFlags::CREAT), EISDIR);
    check_errno!(fs.open("/", OpenFlags::RDWR), EISDIR);
    let dir = fs.open("d", OpenFlags::RDONLY)?;
    check_errno!(fs.read_at(&dir, 1, 0), EISDIR);
    check_errno!(dir.write_at(&fs.cx(), b"x", 0), EBADF);
    Ok(())
}

fn file_with_a_trailing_slash_does_not_open(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    check_errno!(fs.open("f/", OpenFlags::RDONLY), ENOTDIR);
    check_errno!(fs.open("missing/", OpenFlags::RDONLY), ENOENT);
    Ok(())
}

fn nofollow_refuses_a_link(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    fs.symlink("f", "l")?;
    check_errno!(fs.open("l", OpenFlags::NOFOLLOW), ELOOP);
    check_errno!(fs.open("l", OpenFlags::NOFOLLOW | OpenFlags::RDWR), ELOOP);
    check_errno!(fs.open("l", OpenFlags::NOFOLLOW | OpenFlags::CREAT), ELOOP);
    let file = fs.open("f", OpenFlags::NOFOLLOW)?;
    check_eq!(fs.read_all(&file)?, b"x", "content of a file opened so");
    Ok(())
}

fn truncate_on_open_empties(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "old content")?;
    let other = fs.open("f", OpenFlags::RDONLY)?;
    let file = fs.open("f", OpenFlags::WRONLY | OpenFlags::TRUNC)?;
    check_eq!(file.stat(&fs.cx())?.attr.size, 0, "size");
    check_eq!(
        fs.read_all(&other)?,
        b"",
        "what an earlier descriptor reads"
    );
    check_eq!(fx.served(b"f")?, b"", "content on the server");
    fs.write_all(&file, b"new", 0)?;
    check_eq!(fs.read_all(&other)?, b"new", "what it reads after a write");
    Ok(())
}

fn truncate_with_read_only_access_empties_too(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "old content")?;
    let file = fs.open("f", OpenFlags::TRUNC)?;
    check_eq!(fs.read_all(&file)?, b"", "content");
    check_errno!(file.write(&fs.cx(), b"x"), EBADF);
    check_eq!(fx.outside.stat(b"f")?.attr.size, 0, "size on the server");
    Ok(())
}

fn path_descriptor_names_a_file_and_no_more(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "content")?;
    fs.symlink("f", "l")?;
    let cx = fs.cx();
    let file = fs.open("f", OpenFlags::PATH)?;
    check_eq!(file.stat(&cx)?.attr.size, 7, "size");
    check_errno!(fs.read_at(&file, 1, 0), EBADF);
    check_errno!(file.write_at(&cx, b"x", 0), EBADF);
    check_errno!(file.set_attr(&cx, &super::client::mode_of(0o600)), EBADF);
    check_errno!(file.sync(&cx, false), EBADF);
    let link = fs.open("l", OpenFlags::PATH | OpenFlags::NOFOLLOW)?;
    check_eq!(
        link.stat(&cx)?.attr.file_type,
        FileType::Symlink,
        "a link opened so"
    );
    let truncating = fs.open("f", OpenFlags::PATH | OpenFlags::TRUNC | OpenFlags::CREAT)?;
    check_eq!(truncating.stat(&cx)?.attr.size, 7, "size afterwards");
    Ok(())
}

fn tmpfile_is_not_supported(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let tmpfile = OpenFlags::TMPFILE_BIT | OpenFlags::DIRECTORY | OpenFlags::RDWR;
    check_errno!(fs.open("/", tmpfile), EOPNOTSUPP);
    let plain = fs.open("/", OpenFlags::DIRECTORY)?;
    check_eq!(
        plain.stat(&fs.cx())?.ino,
        fs.root.ino(),
        "O_DIRECTORY by itself"
    );
    Ok(())
}

fn unknown_tmpfile_combination_is_einval(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let bit = OpenFlags::TMPFILE_BIT;
    check_errno!(fs.open("/", bit | OpenFlags::RDWR), EINVAL);
    check_errno!(fs.open("/", bit | OpenFlags::DIRECTORY), EINVAL);
    let create = bit | OpenFlags::DIRECTORY | OpenFlags::RDWR | OpenFlags::CREAT;
    check_errno!(fs.open("/", create), EINVAL);
    Ok(())
}

fn descriptors_have_their_own_offsets(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "abcdef")?;
    let cx = fs.cx();
    let (one, two) = (
        fs.open("f", OpenFlags::RDONLY)?,
        fs.open("f", OpenFlags::RDWR)?,
    );
    let mut buffer = [0; 2];
    one.read(&cx, &mut buffer)?;
    one.read(&cx, &mut buffer)?;
    check_eq!(&buffer, b"cd", "second read of the first");
    two.read(&cx, &mut buffer)?;
    check_eq!(&buffer, b"ab", "first read of the second");
    two.write(&cx, b"XY")?;
    check_eq!(one.seek(&cx, Whence::Cur(0))?, 4, "offset of the first");
    check_eq!(two.seek(&cx, Whence::Cur(0))?, 4, "offset of the second");
    check_eq!(fs.read("f")?, b"abXYef", "content");
    Ok(())
}

fn reader_and_writer_of_one_file_see_each_other(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    let reader = fs.open("f", OpenFlags::RDONLY)?;
    let writer = fs.open("f", OpenFlags::WRONLY)?;
    for round in 0..10u8 {
        fs.write_all(&writer, &[b'0' + round], round.into())?;
        let seen = fs.read_all(&reader)?;
        check_eq!(
            seen,
            &b"0123456789"[..=round.into()],
            "content in round {round}"
        );
    }
    Ok(())
}

fn read_then_read_write_open_of_one_file_work_together(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "one")?;
    fs.symlink("f", "l")?;
    let reader = fs.open("f", OpenFlags::RDONLY)?;
    let both = fs.open("l", OpenFlags::RDWR)?;
    fs.write_all(&both, b"two", 0)?;
    check_eq!(fs.read_all(&reader)?, b"two", "what the reader sees");
    reader.close(&fs.cx())?;
    fs.write_all(&both, b"three", 0)?;
    check_eq!(
        fs.read_all(&both)?,
        b"three",
        "what the other sees after the close"
    );
    Ok(())
}

fn noatime_is_refused_to_others(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    fs.chmod("f", 0o644)?;
    let file = fs.open("f", OpenFlags::NOATIME)?;
    check_eq!(fs.read_all(&file)?, b"x", "content for the owner");
    check_errno!(fx.user().open("f", OpenFlags::NOATIME), EPERM);
    Ok(())
}

fn direct_is_for_files_only(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "content")?;
    let file = fs.open("f", OpenFlags::RDWR | OpenFlags::DIRECT)?;
    fs.write_all(&file, b"C", 0)?;
    check_eq!(fs.read_all(&file)?, b"Content", "content");
    check_errno!(fs.open("/", OpenFlags::DIRECT), EINVAL);
    Ok(())
}

fn open_file_knows_its_flags_and_node(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    let file = fs.open("f", OpenFlags::RDWR | OpenFlags::APPEND)?;
    let flags = file.flags();
    check!(flags.contains(OpenFlags::APPEND), "flags are {flags:?}");
    check_eq!(flags.access_bits(), 2, "access mode");
    check_eq!(file.node().ino(), fs.stat("f")?.ino, "the node's number");
    Ok(())
}

/// A read-only mount of a small tree.
fn readonly(fx: &Fixture) -> Result<Client, Failure> {
    let fs = fx.root();
    fs.create("f", "content")?;
    fs.mkdir("d")?;
    fs.symlink("f", "l")?;
    fs.fs.sync(&fs.cx())?;
    fx.remount(&Remount {
        flags: MountFlags {
            readonly: true,
            ..MountFlags::default()
        },
        ..Remount::default()
    })
}

fn readonly_mount_refuses_every_change(fx: &Fixture) -> CaseResult {
    let fs = readonly(fx)?;
    let cx = fs.cx();
    check_errno!(fs.open("f", OpenFlags::WRONLY), EROFS);
    check_errno!(fs.open("f", OpenFlags::RDWR), EROFS);
    check_errno!(fs.open("new", OpenFlags::CREAT), EROFS);
    check_errno!(fs.mkdir("new"), EROFS);
    check_errno!(fs.symlink("x", "new"), EROFS);
    check_errno!(fs.mkfifo("new"), EROFS);
    check_errno!(fs.link("f", "new"), EROFS);
    check_errno!(fs.unlink("f"), EROFS);
    check_errno!(fs.rmdir("d"), EROFS);
    check_errno!(fs.rename("f", "new"), EROFS);
    check_errno!(fs.chmod("f", 0o600), EROFS);
    check_errno!(fs.chown("f", 1, 1), EROFS);
    check_errno!(fs.truncate("f", 0), EROFS);
    check_errno!(fs.touch("f"), EROFS);
    let (follow, flags) = (Follow::Yes, XattrFlags::empty());
    let set = fs
        .fs
        .set_xattr(&cx, fs.at("f"), follow, b"user.x", b"", flags);
    check_errno!(set, EROFS);
    check_errno!(
        fs.fs.remove_xattr(&cx, fs.at("f"), follow, b"user.x"),
        EROFS
    );
    check_errno!(fs.access("f", AccessMask::WRITE), EROFS);
    check_errno!(fs.access("d", AccessMask::WRITE), EROFS);
    check_eq!(fx.outside.list(b"")?.len(), 3, "names on the server");
    Ok(())
}

fn readonly_mount_reads(fx: &Fixture) -> CaseResult {
    let fs = readonly(fx)?;
    let before = fx.outside.stat(b"f")?.attr;
    check_eq!(fs.read("l")?, b"content", "content");
    check_eq!(fs.list("/")?, [&b"d"[..], b"f", b"l"], "the listing");
    fs.access("f", AccessMask::READ)?;
    let after = fx.outside.stat(b"f")?.attr;
    check_eq!(before.mtime, after.mtime, "modification time on the server");
    fs.fs.sync(&fs.cx())?;
    Ok(())
}

fn readonly_mount_never_truncates(fx: &Fixture) -> CaseResult {
    let fs = readonly(fx)?;
    for flags in [OpenFlags::RDONLY, OpenFlags::WRONLY, OpenFlags::RDWR] {
        check_errno!(fs.open("f", flags | OpenFlags::TRUNC), EROFS);
        let truncating = flags | OpenFlags::TRUNC | OpenFlags::CREAT;
        check_errno!(fs.open("f", truncating), EROFS);
    }
    check_eq!(fx.served(b"f")?, b"content", "content on the server");
    Ok(())
}

fn readonly_mount_says_exists_before_readonly(fx: &Fixture) -> CaseResult {
    let fs = readonly(fx)?;
    check_errno!(fs.mkdir("d"), EEXIST);
    check_errno!(fs.symlink("x", "f"), EEXIST);
    check_errno!(fs.link("f", "d"), EEXIST);
    check_errno!(fs.open("f", OpenFlags::CREAT | OpenFlags::EXCL), EEXIST);
    check_errno!(fs.unlink("missing/x"), ENOENT);
    Ok(())
}
