//! Renaming (semantics 9), row by row.

use super::{CaseResult, Fixture};
use crate::attr::FileType;
use crate::flags::{OpenFlags, RenameFlags};

cases![
    rename_moves_a_file_within_its_directory,
    rename_moves_a_file_to_another_directory,
    rename_moves_a_directory_with_its_content,
    rename_replaces_a_file,
    rename_replaces_an_empty_directory,
    rename_over_a_full_directory_is_enotempty,
    rename_of_a_file_over_a_directory_is_eisdir,
    rename_of_a_directory_over_a_file_is_enotdir,
    rename_into_the_own_subtree_is_einval,
    rename_over_an_ancestor_is_enotempty,
    rename_to_itself_changes_nothing,
    rename_between_names_of_one_inode_changes_nothing,
    rename_of_a_missing_name_is_enoent,
    rename_to_a_missing_directory_is_enoent,
    rename_of_dots_is_ebusy,
    rename_of_a_file_with_a_trailing_slash_is_enotdir,
    rename_of_a_directory_takes_a_trailing_slash,
    rename_moves_a_link_itself,
    rename_over_a_link_replaces_the_link,
    renamed_open_file_stays_usable,
    replaced_open_file_stays_usable,
    files_below_a_renamed_directory_stay_usable,
    names_come_and_go_with_renames,
    renamed_away_name_can_be_made_again,
    rename_counts_directories,
    noreplace_keeps_the_target: noreplace,
    noreplace_moves_to_a_free_name: noreplace,
    noreplace_to_itself_is_eexist: noreplace,
    exchange_swaps_two_files: exchange,
    exchange_swaps_a_file_and_a_directory: exchange,
    exchange_without_a_target_is_enoent: exchange,
    exchange_is_refused_where_the_server_cannot: no_exchange,
    impossible_flags_are_einval,
    rename_of_what_was_never_looked_at_works,
];

fn rename_moves_a_file_within_its_directory(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "x")?;
    let ino = fs.stat("a")?.ino;
    fs.rename("a", "b")?;
    check_errno!(fs.stat("a"), ENOENT);
    check_eq!(fs.stat("b")?.ino, ino, "inode number");
    check_eq!(fs.read("b")?, b"x", "content");
    check_eq!(fx.outside.list(b"")?, [b"b"], "names on the server");
    Ok(())
}

fn rename_moves_a_file_to_another_directory(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.mkdir("e")?;
    fs.create("d/a", "x")?;
    fs.rename("d/a", "e/b")?;
    check_errno!(fs.stat("d/a"), ENOENT);
    check_eq!(fs.read("e/b")?, b"x", "content");
    check_eq!(fs.list("d")?.len(), 0, "names in the old directory");
    check_eq!(fs.list("e")?, [b"b"], "names in the new one");
    Ok(())
}

fn rename_moves_a_directory_with_its_content(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.mkdir("a/b")?;
    fs.create("a/b/f", "x")?;
    fs.mkdir("to")?;
    fs.rename("a", "to/c")?;
    check_eq!(fs.read("to/c/b/f")?, b"x", "content");
    check_errno!(fs.stat("a/b/f"), ENOENT);
    check_eq!(
        fs.stat("to/c/..")?.ino,
        fs.stat("to")?.ino,
        "`..` of the moved directory"
    );
    fs.create("to/c/b/g", "y")?;
    check_eq!(fx.served("to/c/b/g")?, b"y", "what was made below it");
    Ok(())
}

fn rename_replaces_a_file(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "new")?;
    fs.create("b", "old")?;
    fs.stat("b")?;
    fs.rename("a", "b")?;
    check_eq!(fs.read("b")?, b"new", "content");
    check_eq!(fs.attr("b")?.nlink, 1, "link count");
    check_eq!(fs.list("/")?, [b"b"], "names left");
    Ok(())
}

fn rename_replaces_an_empty_directory(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.create("a/f", "x")?;
    fs.mkdir("b")?;
    fs.rename("a", "b")?;
    check_eq!(fs.list("b")?, [b"f"], "names in it");
    check_errno!(fs.stat("a"), ENOENT);
    Ok(())
}

fn rename_over_a_full_directory_is_enotempty(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.mkdir("b")?;
    fs.create("b/f", "x")?;
    check_errno!(fs.rename("a", "b"), ENOTEMPTY);
    check!(fs.exists("a")? && fs.exists("b/f")?, "something is gone");
    Ok(())
}

fn rename_of_a_file_over_a_directory_is_eisdir(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    fs.mkdir("d")?;
    check_errno!(fs.rename("f", "d"), EISDIR);
    check_eq!(fs.read("f")?, b"x", "the file");
    Ok(())
}

fn rename_of_a_directory_over_a_file_is_enotdir(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    fs.mkdir("d")?;
    check_errno!(fs.rename("d", "f"), ENOTDIR);
    check_eq!(fs.read("f")?, b"x", "the file");
    Ok(())
}

fn rename_into_the_own_subtree_is_einval(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.mkdir("a/b")?;
    fs.mkdir("a/b/c")?;
    check_errno!(fs.rename("a", "a/x"), EINVAL);
    check_errno!(fs.rename("a", "a/b/x"), EINVAL);
    check_errno!(fs.rename("a", "a/b/c"), EINVAL);
    check!(fs.exists("a/b/c")?, "the tree is damaged");
    Ok(())
}

fn rename_over_an_ancestor_is_enotempty(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.mkdir("a/b")?;
    fs.mkdir("a/b/c")?;
    fs.create("a/b/f", "")?;
    check_errno!(fs.rename("a/b/c", "a"), ENOTEMPTY);
    check_errno!(fs.rename("a/b/c", "a/b"), ENOTEMPTY);
    Ok(())
}

fn rename_to_itself_changes_nothing(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    fs.mkdir("d")?;
    fs.rename("f", "f")?;
    fs.rename("d", "d")?;
    fs.rename("d", "./d/")?;
    check_eq!(fs.list("/")?, [b"d", b"f"], "names");
    check_eq!(fs.read("f")?, b"x", "content");
    Ok(())
}

fn rename_between_names_of_one_inode_changes_nothing(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "x")?;
    fs.mkdir("d")?;
    fs.link("a", "d/b")?;
    fs.rename("a", "d/b")?;
    check!(fs.exists("a")? && fs.exists("d/b")?, "a name is gone");
    let server = (fx.outside.exists(b"a"), fx.outside.exists(b"d/b"));
    check_eq!(server, (true, true), "names on the server");
    check_eq!(fs.attr("a")?.nlink, 2, "link count");
    check_eq!(fs.list("/")?, [b"a", b"d"], "the listing");
    Ok(())
}

fn rename_of_a_missing_name_is_enoent(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("b", "x")?;
    check_errno!(fs.rename("missing", "b"), ENOENT);
    check_errno!(fs.rename("missing/a", "b"), ENOENT);
    check_errno!(fs.rename("b/a", "c"), ENOTDIR);
    check_eq!(fs.read("b")?, b"x", "the target");
    Ok(())
}

fn rename_to_a_missing_directory_is_enoent(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "x")?;
    check_errno!(fs.rename("a", "missing/b"), ENOENT);
    check_errno!(fs.rename("a", "a/b"), ENOTDIR);
    check!(fs.exists("a")?, "the source is gone");
    Ok(())
}

fn rename_of_dots_is_ebusy(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.mkdir("e")?;
    check_errno!(fs.rename("d/.", "x"), EBUSY);
    check_errno!(fs.rename("d/..", "x"), EBUSY);
    check_errno!(fs.rename("e", "d/."), EBUSY);
    check_errno!(fs.rename("e", "d/.."), EBUSY);
    Ok(())
}

fn rename_of_a_file_with_a_trailing_slash_is_enotdir(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    check_errno!(fs.rename("f/", "g"), ENOTDIR);
    check_errno!(fs.rename("f", "g/"), ENOTDIR);
    check!(fs.exists("f")?, "the file is gone");
    Ok(())
}

fn rename_of_a_directory_takes_a_trailing_slash(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.rename("a/", "b/")?;
    check_eq!(fs.attr("b")?.file_type, FileType::Directory, "b");
    Ok(())
}

fn rename_moves_a_link_itself(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    fs.symlink("f", "l")?;
    fs.rename("l", "m")?;
    check_eq!(fs.read_link("m")?, b"f", "the moved link");
    check!(fs.exists("f")?, "its target is gone");
    Ok(())
}

fn rename_over_a_link_replaces_the_link(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "target")?;
    fs.create("g", "new")?;
    fs.symlink("f", "l")?;
    fs.rename("g", "l")?;
    check_eq!(
        fs.attr("l")?.file_type,
        FileType::Regular,
        "what goes by the link's name"
    );
    check_eq!(fs.read("f")?, b"target", "the link's target");
    Ok(())
}

fn renamed_open_file_stays_usable(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "one")?;
    fs.mkdir("d")?;
    let file = fs.open("a", OpenFlags::RDWR)?;
    fs.rename("a", "d/b")?;
    fs.write_all(&file, b"two!", 0)?;
    check_eq!(
        fs.read_all(&file)?,
        b"two!",
        "content through the descriptor"
    );
    check_eq!(fs.read("d/b")?, b"two!", "content by the new name");
    let stat = file.stat(&fs.cx())?;
    check_eq!(
        (stat.attr.size, stat.attr.nlink),
        (4, 1),
        "size and link count"
    );
    file.set_attr(&fs.cx(), &super::client::size_of(2))?;
    check_eq!(fs.attr("d/b")?.size, 2, "size by the new name");
    Ok(())
}

fn replaced_open_file_stays_usable(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "new")?;
    fs.create("b", "old")?;
    let old = fs.open("b", OpenFlags::RDWR)?;
    fs.rename("a", "b")?;
    check_eq!(fs.read_all(&old)?, b"old", "content of the replaced file");
    fs.write_all(&old, b"OLD", 0)?;
    check_eq!(old.stat(&fs.cx())?.attr.nlink, 0, "its link count");
    check_eq!(fx.served("b")?, b"new", "content on the server");
    Ok(())
}

fn files_below_a_renamed_directory_stay_usable(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.mkdir("a/b")?;
    fs.create("a/b/f", "x")?;
    let file = fs.open("a/b/f", OpenFlags::RDWR)?;
    let dir = fs.resolve("a/b")?;
    fs.rename("a", "c")?;
    check_eq!(fs.read_all(&file)?, b"x", "content");
    fs.write_all(&file, b"y", 0)?;
    let cx = fs.cx();
    let below = crate::At::new(&dir, b"new");
    fs.fs.mkdir(&cx, below, 0o755)?;
    check!(
        fs.exists("c/b/new")?,
        "what was made through the held directory is not there"
    );
    check_eq!(fs.read("c/b/f")?, b"y", "content by the new path");
    Ok(())
}

fn names_come_and_go_with_renames(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.create("d/0", "x")?;
    for index in 0..50 {
        let (from, to) = (format!("d/{index}"), format!("d/{}", index + 1));
        check_errno!(fs.stat(&to), ENOENT);
        fs.rename(&from, &to)?;
        check_errno!(fs.stat(&from), ENOENT);
        check_eq!(fs.read(&to)?, b"x", "content of {to}");
        check_eq!(fs.list("d")?.len(), 1, "names after {to}");
    }
    Ok(())
}

fn renamed_away_name_can_be_made_again(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "first")?;
    fs.rename("a", "b")?;
    fs.create("a", "second")?;
    check_eq!(fs.read("a")?, b"second", "the new one");
    check_eq!(fs.read("b")?, b"first", "the moved one");
    fs.mkdir("d")?;
    fs.rename("d", "e")?;
    fs.mkdir("d")?;
    fs.create("d/x", "")?;
    check_eq!(fs.list("e")?.len(), 0, "names in the moved directory");
    Ok(())
}

fn rename_counts_directories(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    // Not every host file system counts subdirectories; this one's own count is the measure.
    let count = |fs: &super::Client, name: &str| fs.attr(name).map(|attr| attr.nlink);
    fs.mkdir("a")?;
    fs.mkdir("b")?;
    let empty = count(&fs, "b")?;
    fs.mkdir("a/sub")?;
    let full = count(&fs, "a")?;
    fs.rename("a/sub", "b/sub")?;
    check_eq!(count(&fs, "a")?, empty, "links of the old parent");
    check_eq!(count(&fs, "b")?, full, "links of the new parent");
    fs.mkdir("a/sub")?;
    fs.rename("a/sub", "b/sub")?;
    check_eq!(
        count(&fs, "b")?,
        full,
        "links of the new parent after a replacement"
    );
    check_eq!(
        count(&fs, "a")?,
        empty,
        "links of the old parent in the end"
    );
    Ok(())
}

fn noreplace_keeps_the_target(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "a")?;
    fs.create("b", "b")?;
    fs.mkdir("d")?;
    check_errno!(fs.rename_with("a", "b", RenameFlags::NOREPLACE), EEXIST);
    check_errno!(fs.rename_with("a", "d", RenameFlags::NOREPLACE), EEXIST);
    check_errno!(fs.rename_with("a", "d/.", RenameFlags::NOREPLACE), EEXIST);
    check_eq!(fs.read("b")?, b"b", "the target");
    check_eq!(fs.read("a")?, b"a", "the source");
    Ok(())
}

fn noreplace_moves_to_a_free_name(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "a")?;
    fs.rename_with("a", "b", RenameFlags::NOREPLACE)?;
    check_eq!(fs.list("/")?, [b"b"], "names");
    Ok(())
}

fn noreplace_to_itself_is_eexist(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "a")?;
    check_errno!(fs.rename_with("a", "a", RenameFlags::NOREPLACE), EEXIST);
    Ok(())
}

fn exchange_swaps_two_files(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "from a")?;
    fs.mkdir("d")?;
    fs.create("d/b", "from b")?;
    let open = fs.open("a", OpenFlags::RDONLY)?;
    fs.rename_with("a", "d/b", RenameFlags::EXCHANGE)?;
    check_eq!(fs.read("a")?, b"from b", "content of a");
    check_eq!(fs.read("d/b")?, b"from a", "content of d/b");
    check_eq!(fs.read_all(&open)?, b"from a", "content of the open file");
    check_eq!(fx.served("a")?, b"from b", "content on the server");
    Ok(())
}

fn exchange_swaps_a_file_and_a_directory(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("p")?;
    fs.create("p/f", "x")?;
    fs.mkdir("d")?;
    fs.create("d/inside", "y")?;
    fs.rename_with("p/f", "d", RenameFlags::EXCHANGE)?;
    check_eq!(
        fs.read("p/f/inside")?,
        b"y",
        "the directory under the file's name"
    );
    check_eq!(fs.read("d")?, b"x", "the file under the directory's name");
    let (found, host) = (fs.attr("p")?.nlink, fx.outside.stat(b"p")?.attr.nlink);
    check_eq!(found, host, "links of the parent that gained a directory");
    check_errno!(
        fs.rename_with("p/f", "p/f/inside", RenameFlags::EXCHANGE),
        EINVAL
    );
    check_errno!(
        fs.rename_with("p/f/inside", "p/f", RenameFlags::EXCHANGE),
        EINVAL
    );
    Ok(())
}

fn exchange_without_a_target_is_enoent(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "x")?;
    check_errno!(fs.rename_with("a", "b", RenameFlags::EXCHANGE), ENOENT);
    check!(fs.exists("a")?, "the source is gone");
    Ok(())
}

fn exchange_is_refused_where_the_server_cannot(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "a")?;
    fs.create("b", "b")?;
    check_errno!(fs.rename_with("a", "b", RenameFlags::EXCHANGE), EINVAL);
    check_eq!(fs.read("a")?, b"a", "content of a");
    Ok(())
}

fn impossible_flags_are_einval(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "x")?;
    let both = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE;
    check_errno!(fs.rename_with("a", "b", both), EINVAL);
    check_errno!(fs.rename_with("a", "b", RenameFlags::WHITEOUT), EINVAL);
    check_eq!(fs.list("/")?, [b"a"], "names");
    Ok(())
}

fn rename_of_what_was_never_looked_at_works(fx: &Fixture) -> CaseResult {
    fx.outside.mkdir(b"d")?;
    fx.outside.write(b"d/a", b"new")?;
    fx.outside.write(b"b", b"old")?;
    let fs = fx.root();
    fs.rename("d/a", "b")?;
    check_eq!(fs.read("b")?, b"new", "content");
    check_errno!(fs.stat("d/a"), ENOENT);
    Ok(())
}
