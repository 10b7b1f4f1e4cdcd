//! Paths: components, dots, slashes, lengths, odd bytes (semantics 5).

use super::{CaseResult, Fixture};
use crate::attr::FileType;
use crate::flags::OpenFlags;
use crate::{At, Follow};

cases![
    stat_tells_type_and_size,
    missing_name_is_enoent,
    missing_directory_on_the_way_is_enoent,
    file_on_the_way_is_enotdir,
    dot_stays_and_dot_dot_goes_up,
    dot_dot_at_the_root_stays,
    repeated_slashes_count_as_one,
    trailing_slash_asks_for_a_directory,
    empty_path_is_the_start,
    path_of_slashes_is_the_root,
    relative_paths_start_where_they_are_told,
    absolute_paths_start_at_the_given_root,
    names_of_255_bytes_work_and_longer_are_refused,
    overlong_name_is_refused_without_asking,
    overlong_path_is_refused,
    names_of_any_bytes_work,
    deep_trees_work,
    inode_numbers_tell_files_apart,
    nodes_know_their_path,
    outside_files_made_before_the_first_look_are_found,
    walk_trace_tells_each_step,
];

fn stat_tells_type_and_size(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("file", "12345")?;
    fs.mkdir("dir")?;
    fs.symlink("file", "link")?;
    let file = fs.attr("file")?;
    check_eq!(
        (file.file_type, file.size),
        (FileType::Regular, 5),
        "the file"
    );
    check_eq!(
        fs.attr("dir")?.file_type,
        FileType::Directory,
        "the directory"
    );
    let link = fs.attr("link")?;
    check_eq!(
        (link.file_type, link.size),
        (FileType::Symlink, 4),
        "the link"
    );
    check_eq!(fs.stat("link")?.attr.size, 5, "size through the link");
    Ok(())
}

fn missing_name_is_enoent(fx: &Fixture) -> CaseResult {
    check_errno!(fx.root().stat("missing"), ENOENT);
    check_errno!(fx.root().lstat("missing"), ENOENT);
    Ok(())
}

fn missing_directory_on_the_way_is_enoent(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    check_errno!(fs.stat("a/b/c/d"), ENOENT);
    check_errno!(fs.stat("x/b"), ENOENT);
    fs.mkdir("a/b")?;
    check_errno!(fs.stat("a/b/c/d"), ENOENT);
    Ok(())
}

fn file_on_the_way_is_enotdir(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("file", "")?;
    check_errno!(fs.stat("file/x"), ENOTDIR);
    check_errno!(fs.stat("file/x/y"), ENOTDIR);
    check_errno!(fs.stat("file/."), ENOTDIR);
    check_errno!(fs.stat("file/.."), ENOTDIR);
    check_errno!(fs.create("file/x", ""), ENOTDIR);
    check_errno!(fs.mkdir("file/x"), ENOTDIR);
    Ok(())
}

fn dot_stays_and_dot_dot_goes_up(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.mkdir("a/b")?;
    fs.create("c", "")?;
    let a = fs.stat("a")?.ino;
    check_eq!(fs.stat("a/.")?.ino, a, "a/.");
    check_eq!(fs.stat("./a/./.")?.ino, a, "./a/./.");
    check_eq!(fs.stat("a/b/..")?.ino, a, "a/b/..");
    check_eq!(
        fs.stat("a/b/../../c")?.ino,
        fs.stat("c")?.ino,
        "a/b/../../c"
    );
    check_errno!(fs.stat("missing/../c"), ENOENT);
    Ok(())
}

fn dot_dot_at_the_root_stays(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    let root = fs.stat("/")?.ino;
    check_eq!(fs.stat("..")?.ino, root, "..");
    check_eq!(fs.stat("/../../.")?.ino, root, "/../../.");
    check_eq!(fs.stat("/../../f")?.ino, fs.stat("f")?.ino, "/../../f");
    Ok(())
}

fn repeated_slashes_count_as_one(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.create("a/f", "x")?;
    check_eq!(fs.stat("//a///f")?.ino, fs.stat("a/f")?.ino, "//a///f");
    check_eq!(fs.read("a//f")?, b"x", "content of a//f");
    Ok(())
}

fn trailing_slash_asks_for_a_directory(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("dir")?;
    fs.create("file", "")?;
    fs.symlink("dir", "to-dir")?;
    fs.symlink("file", "to-file")?;
    check_eq!(fs.stat("dir/")?.ino, fs.stat("dir")?.ino, "dir/");
    check_errno!(fs.stat("file/"), ENOTDIR);
    check_errno!(fs.lstat("file//"), ENOTDIR);
    let through = fs.lstat("to-dir/")?.attr.file_type;
    check_eq!(through, FileType::Directory, "a link with a trailing slash");
    check_errno!(fs.lstat("to-file/"), ENOTDIR);
    Ok(())
}

fn empty_path_is_the_start(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    let dir = fs.resolve("d")?;
    let stat = fs.fs.stat(&fs.cx(), At::new(&dir, b""), Follow::Yes)?;
    check_eq!(stat.ino, fs.stat("d")?.ino, "the empty path");
    check_errno!(fs.fs.unlink(&fs.cx(), At::new(&dir, b"")), ENOENT);
    check_errno!(fs.mkdir(""), ENOENT);
    check_errno!(fs.rename("", "x"), ENOENT);
    Ok(())
}

fn path_of_slashes_is_the_root(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    check_eq!(fs.stat("///")?.ino, fs.root.ino(), "///");
    check_errno!(fs.mkdir("/"), EEXIST);
    check_errno!(fs.symlink("x", "//"), EEXIST);
    check_errno!(fs.rmdir("/"), EBUSY);
    check_errno!(fs.rename("/", "x"), EBUSY);
    check_errno!(fs.rename("d", "/"), EBUSY);
    Ok(())
}

fn relative_paths_start_where_they_are_told(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.mkdir("a/b")?;
    fs.create("a/f", "x")?;
    let b = fs.resolve("a/b")?;
    let cx = fs.cx();
    let stat = fs.fs.stat(&cx, At::new(&b, b"../f"), Follow::Yes)?;
    check_eq!(stat.ino, fs.stat("a/f")?.ino, "../f from a/b");
    let file = fs.resolve("a/f")?;
    let below_file = fs.fs.stat(&cx, At::new(&file, b"x"), Follow::Yes);
    check_errno!(below_file, ENOTDIR);
    Ok(())
}

fn absolute_paths_start_at_the_given_root(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("jail")?;
    fs.create("jail/f", "in")?;
    fs.create("f", "out")?;
    fs.symlink("/f", "jail/link")?;
    let jail = fs.resolve("jail")?;
    let cx = fs.cx();
    for path in [&b"/f"[..], b"/../f", b"../../f", b"link", b"/link"] {
        let at = At {
            dir: &jail,
            root: Some(&jail),
            path,
        };
        let found = fs.fs.stat(&cx, at, Follow::Yes)?.ino;
        let shown = crate::error::printable(path);
        check_eq!(found, fs.stat("jail/f")?.ino, "{shown} in the jail");
    }
    Ok(())
}

fn names_of_255_bytes_work_and_longer_are_refused(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let longest = "n".repeat(255);
    fs.create(&longest, "x")?;
    check_eq!(fs.read(&longest)?, b"x", "content under the longest name");
    check_eq!(fs.list("/")?, [longest.clone().into_bytes()], "the listing");
    let longer = "n".repeat(256);
    check_errno!(fs.stat(&longer), ENAMETOOLONG);
    check_errno!(fs.create(&longer, ""), ENAMETOOLONG);
    check_errno!(fs.mkdir(&longer), ENAMETOOLONG);
    check_errno!(fs.symlink("x", &longer), ENAMETOOLONG);
    check_errno!(fs.link(&longest, &longer), ENAMETOOLONG);
    check_errno!(fs.rename(&longest, &longer), ENAMETOOLONG);
    check_errno!(fs.unlink(&longer), ENAMETOOLONG);
    check_errno!(fs.stat(format!("{longer}/x")), ENAMETOOLONG);
    Ok(())
}

fn overlong_name_is_refused_without_asking(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let long = "n".repeat(3000);
    // The server may be asked once what its limit is.
    check_errno!(fs.stat(&long), ENAMETOOLONG);
    let (result, trips) = fs.trips(|| fs.stat(&long));
    check_errno!(result, ENAMETOOLONG);
    // In a shared mode the directory itself may be looked at.
    let allowed = u64::from(fx.mode.must_revalidate());
    check!(
        trips <= allowed,
        "the server was asked {trips} times for a name it cannot have"
    );
    Ok(())
}

fn overlong_path_is_refused(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let path = "./".repeat(2048) + "f";
    check_errno!(fs.stat(&path), ENAMETOOLONG);
    let fits = "./".repeat(2040);
    check_eq!(
        fs.stat(&fits)?.ino,
        fs.root.ino(),
        "a path just short enough"
    );
    Ok(())
}

fn names_of_any_bytes_work(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let names: [&[u8]; 8] = [
        b"with space",
        b"new\nline",
        b"\xff\xfe not utf-8",
        b"-rf",
        b"...",
        b"a\\b",
        b"\x01\x7f",
        "\u{65e5}\u{672c}".as_bytes(),
    ];
    for name in names {
        let shown = crate::error::printable(name);
        fs.create(name, name)?;
        check_eq!(fs.read(name)?, name, "content of {shown}");
        check_eq!(fx.served(name)?, name, "content of {shown} on the server");
    }
    let mut sorted: Vec<Vec<u8>> = names.iter().map(|name| name.to_vec()).collect();
    sorted.sort();
    check_eq!(fs.list("/")?, sorted, "the listing");
    for name in names {
        fs.unlink(name)?;
    }
    check_eq!(fx.outside.list(b"")?.len(), 0, "names left");
    Ok(())
}

fn deep_trees_work(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let mut path = String::new();
    for level in 0..64 {
        path.push_str(&format!("level{level}"));
        fs.mkdir(&path)?;
        path.push('/');
    }
    fs.create(format!("{path}f"), "deep")?;
    let again = fx.second()?;
    check_eq!(
        again.read(format!("{path}f"))?,
        b"deep",
        "content at the bottom"
    );
    let up = format!("{path}{}", "../".repeat(64));
    check_eq!(again.stat(&up)?.ino, again.root.ino(), "all the way up");
    Ok(())
}

fn inode_numbers_tell_files_apart(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let mut numbers = vec![fs.root.ino()];
    for index in 0..50 {
        let name = format!("f{index}");
        fs.create(&name, "")?;
        numbers.push(fs.stat(&name)?.ino);
    }
    let (all, again) = (numbers.len(), fs.stat("f7")?.ino);
    check_eq!(again, numbers[8], "number of f7 the second time");
    numbers.sort_unstable();
    numbers.dedup();
    check_eq!(numbers.len(), all, "different numbers");
    Ok(())
}

fn nodes_know_their_path(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.create("a/f", "")?;
    check_eq!(fs.root.path(), b"/", "path of the root");
    let node = fs.resolve("a/f")?;
    check_eq!(node.path(), b"/a/f", "path of a file");
    fs.rename("a", "b")?;
    check_eq!(node.path(), b"/b/f", "path after its directory was renamed");
    check!(!node.is_deleted(), "a renamed file counts as deleted");
    fs.unlink("b/f")?;
    check!(
        node.is_deleted(),
        "an unlinked file does not count as deleted"
    );
    Ok(())
}

fn outside_files_made_before_the_first_look_are_found(fx: &Fixture) -> CaseResult {
    fx.outside.mkdir(b"d")?;
    fx.outside.write(b"d/f", b"made outside")?;
    fx.outside.symlink(b"d/f", b"l")?;
    let fs = fx.root();
    check_eq!(fs.read("d/f")?, b"made outside", "content");
    check_eq!(fs.read("l")?, b"made outside", "content through the link");
    let file = fs.open("d/f", OpenFlags::RDWR)?;
    check_eq!(file.stat(&fs.cx())?.attr.size, 12, "size");
    Ok(())
}

fn walk_trace_tells_each_step(fx: &Fixture) -> CaseResult {
    fx.outside.mkdir(b"d")?;
    fx.outside.write(b"d/f", b"")?;
    let fs = fx.root();
    let (steps, node) = fs.fs.trace_walk(&fs.cx(), fs.at("d/f"), Follow::Yes);
    let node = node?;
    check_eq!(node.file_type(), FileType::Regular, "what is found");
    let names: Vec<&[u8]> = steps.iter().map(|step| step.name.as_slice()).collect();
    let expected: [&[u8]; 2] = [b"d", b"f"];
    check!(names.ends_with(&expected), "steps are named {names:?}");
    let last = steps.last().map(|step| (step.file_type, step.ino));
    check_eq!(
        last,
        Some((Some(FileType::Regular), Some(node.ino()))),
        "the last step"
    );
    let (steps, node) = fs.fs.trace_walk(&fs.cx(), fs.at("d/x"), Follow::Yes);
    check_errno!(node, ENOENT);
    let last = steps
        .last()
        .map(|step| (step.name.as_slice(), step.file_type));
    check_eq!(
        last,
        Some((&b"x"[..], None)),
        "the last step to a missing name"
    );
    Ok(())
}
