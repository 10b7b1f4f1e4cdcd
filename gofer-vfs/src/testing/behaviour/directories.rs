//! Listings (semantics 17).

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::{CaseResult, Client, Failure, Fixture};
use crate::flags::OpenFlags;
use crate::{File, Whence};

cases![
    listing_starts_with_dot_and_dot_dot,
    listing_names_everything_once,
    listing_tells_types_and_numbers,
    offsets_count_up_and_can_be_returned_to,
    reading_in_small_steps_gives_the_same,
    rewind_sees_new_names,
    removal_while_reading_loses_no_other_name,
    two_descriptors_read_independently,
    ten_thousand_entries_are_listed_once_each,
    directory_is_emptied_while_it_is_read,
    seek_beyond_the_end_gives_nothing,
    seek_to_nonsense_is_einval,
    listing_of_a_file_is_enotdir,
    listing_follows_changes_by_this_client,
    listing_of_a_renamed_directory_goes_on,
    dot_dot_has_the_number_of_the_parent,
    reading_what_is_no_directory_is_enotdir,
];

fn dir(fs: &Client, path: &str) -> Result<File, Failure> {
    Ok(fs.open(path, OpenFlags::DIRECTORY)?)
}

fn fill(fs: &Client, count: usize) -> Result<BTreeSet<Vec<u8>>, Failure> {
    let mut names = BTreeSet::new();
    for index in 0..count {
        let name = format!("entry-{index:05}");
        fs.create(&name, "")?;
        names.insert(name.into_bytes());
    }
    Ok(names)
}

fn listing_starts_with_dot_and_dot_dot(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.mkdir("d")?;
    for path in ["/", "d"] {
        let names = fs.list_all(path)?;
        check_eq!(
            &names[..2],
            &[b".".to_vec(), b"..".to_vec()],
            "first names of {path}"
        );
    }
    Ok(())
}

fn listing_names_everything_once(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fill(&fs, 5)?;
    fs.mkdir("d")?;
    fs.symlink("x", "l")?;
    fs.create("d/inside", "")?;
    let found = fs.list("/")?;
    check_eq!(
        found,
        fx.outside.list(b"")?,
        "names, here and on the server"
    );
    check_eq!(found.len(), 7, "names");
    Ok(())
}

fn listing_tells_types_and_numbers(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.mkdir("d")?;
    fs.symlink("x", "l")?;
    let mut entries = Vec::new();
    dir(&fs, "/")?.read_dir(&fs.cx(), &mut |entry| {
        entries.push((entry.name.to_vec(), entry.file_type, entry.ino));
        ControlFlow::Continue(())
    })?;
    for (name, file_type, ino) in entries {
        let shown = crate::error::printable(&name).into_owned();
        let stat = fs.lstat(&name)?;
        check_eq!(ino, stat.ino, "number of {shown}");
        if let Some(file_type) = file_type {
            check_eq!(file_type, stat.attr.file_type, "type of {shown}");
        }
    }
    Ok(())
}

fn offsets_count_up_and_can_be_returned_to(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fill(&fs, 30)?;
    let open = dir(&fs, "/")?;
    let all = fs.some_names(&open, usize::MAX)?;
    let offsets: Vec<u64> = all.iter().map(|entry| entry.1).collect();
    let expected: Vec<u64> = (1..=32).collect();
    check_eq!(offsets, expected, "offsets");
    for (index, (_, offset)) in all.iter().enumerate() {
        open.seek(&fs.cx(), Whence::Set(*offset as i64))?;
        let next = fs.some_names(&open, 1)?;
        check_eq!(
            next.first(),
            all.get(index + 1),
            "the entry at offset {offset}"
        );
    }
    Ok(())
}

fn reading_in_small_steps_gives_the_same(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fill(&fs, 50)?;
    let whole = fs.list_all("/")?;
    for step in [1, 3, 51] {
        let open = dir(&fs, "/")?;
        let mut names = Vec::new();
        loop {
            let some = fs.some_names(&open, step)?;
            if some.is_empty() {
                break;
            }
            names.extend(some.into_iter().map(|entry| entry.0));
        }
        check_eq!(names, whole, "names in steps of {step}");
    }
    Ok(())
}

fn rewind_sees_new_names(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fill(&fs, 10)?;
    let open = dir(&fs, "/")?;
    fs.some_names(&open, 5)?;
    fs.create("new", "")?;
    fs.unlink("entry-00003")?;
    fs.rewind(&open)?;
    let names = fs.names(&open)?;
    check!(names.contains(&b"new".to_vec()), "the new name is missing");
    check!(
        !names.contains(&b"entry-00003".to_vec()),
        "the removed name is there"
    );
    check_eq!(names.len(), 12, "names");
    check_eq!(fs.names(&open)?.len(), 0, "names after the end");
    Ok(())
}

fn removal_while_reading_loses_no_other_name(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let mut expected = fill(&fs, 100)?;
    let open = dir(&fs, "/")?;
    let mut seen: Vec<Vec<u8>> = fs.some_names(&open, 40)?.into_iter().map(|e| e.0).collect();
    let victims: Vec<Vec<u8>> = seen.iter().skip(2).step_by(3).cloned().collect();
    for victim in &victims {
        fs.unlink(victim)?;
    }
    seen.extend(fs.names(&open)?);
    let count = seen.len();
    let seen: BTreeSet<Vec<u8>> = seen.into_iter().collect();
    check_eq!(seen.len(), count, "names that came once");
    expected.extend([b".".to_vec(), b"..".to_vec()]);
    check_eq!(seen, expected, "names");
    Ok(())
}

fn two_descriptors_read_independently(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fill(&fs, 20)?;
    let (one, two) = (dir(&fs, "/")?, dir(&fs, "/")?);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..11 {
        first.extend(fs.some_names(&one, 2)?);
        second.extend(fs.some_names(&two, 3)?);
    }
    check_eq!(first.len(), 22, "names from the first");
    check_eq!(first, second, "names from both");
    Ok(())
}

fn ten_thousand_entries_are_listed_once_each(fx: &Fixture) -> CaseResult {
    const COUNT: usize = 10_000;
    fx.outside.mkdir(b"big")?;
    for index in 0..COUNT {
        let name = format!("big/a rather long name for a file, number {index:06}");
        fx.outside.symlink(b"x", name.as_bytes())?;
    }
    let fs = fx.root();
    let names = fs.list("big")?;
    check_eq!(names.len(), COUNT, "names");
    let distinct: BTreeSet<&Vec<u8>> = names.iter().collect();
    check_eq!(distinct.len(), COUNT, "different names");
    check_eq!(fs.list("big")?.len(), COUNT, "names the second time");
    Ok(())
}

fn directory_is_emptied_while_it_is_read(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    for index in 0..300 {
        fs.create(format!("d/{index}"), "")?;
    }
    let open = dir(&fs, "d")?;
    loop {
        let some = fs.some_names(&open, 7)?;
        if some.is_empty() {
            break;
        }
        for (name, _) in some {
            if name != b"." && name != b".." {
                fs.unlink([b"d/", name.as_slice()].concat())?;
            }
        }
    }
    fs.rmdir("d")?;
    Ok(())
}

fn seek_beyond_the_end_gives_nothing(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fill(&fs, 3)?;
    let open = dir(&fs, "/")?;
    open.seek(&fs.cx(), Whence::Set(1_000_000))?;
    check_eq!(fs.names(&open)?.len(), 0, "names beyond the end");
    fs.rewind(&open)?;
    check_eq!(fs.names(&open)?.len(), 5, "names from the start");
    Ok(())
}

fn seek_to_nonsense_is_einval(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let open = dir(&fs, "/")?;
    check_errno!(open.seek(&fs.cx(), Whence::Set(-1)), EINVAL);
    check_errno!(open.seek(&fs.cx(), Whence::End(0)), EINVAL);
    check_errno!(open.seek(&fs.cx(), Whence::Cur(-1)), EINVAL);
    Ok(())
}

fn listing_of_a_file_is_enotdir(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    let file = fs.open("f", OpenFlags::RDONLY)?;
    check_errno!(fs.names(&file), ENOTDIR);
    Ok(())
}

fn listing_follows_changes_by_this_client(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    let mut expected = BTreeSet::new();
    let agrees = |expected: &BTreeSet<String>, what: &str| -> CaseResult {
        let names: Vec<Vec<u8>> = expected
            .iter()
            .map(|name| name.clone().into_bytes())
            .collect();
        check_eq!(fs.list("d")?, names, "the listing after {what}");
        Ok(())
    };
    for index in 0..5 {
        let name = format!("n{index}");
        fs.create(format!("d/{name}"), "")?;
        expected.insert(name);
        agrees(&expected, "create")?;
    }
    fs.unlink("d/n1")?;
    expected.remove("n1");
    agrees(&expected, "unlink")?;
    fs.rename("d/n2", "d/m")?;
    expected.remove("n2");
    expected.insert("m".to_owned());
    agrees(&expected, "rename")?;
    fs.mkdir("d/sub")?;
    expected.insert("sub".to_owned());
    agrees(&expected, "mkdir")?;
    fs.rename("d/m", "d/sub/m")?;
    expected.remove("m");
    agrees(&expected, "rename away")?;
    fs.link("d/n0", "d/linked")?;
    fs.symlink("x", "d/soft")?;
    expected.extend(["linked".to_owned(), "soft".to_owned()]);
    agrees(&expected, "links")
}

fn listing_of_a_renamed_directory_goes_on(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    for index in 0..10 {
        fs.create(format!("d/{index}"), "")?;
    }
    let open = dir(&fs, "d")?;
    let before = fs.some_names(&open, 4)?.len();
    fs.rename("d", "e")?;
    check_eq!(
        before + fs.names(&open)?.len(),
        12,
        "names before and after"
    );
    fs.rewind(&open)?;
    check_eq!(fs.names(&open)?.len(), 12, "names after a rewind");
    Ok(())
}

fn dot_dot_has_the_number_of_the_parent(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.mkdir("a/b")?;
    let mut numbers = Vec::new();
    dir(&fs, "a/b")?.read_dir(&fs.cx(), &mut |entry| {
        numbers.push(entry.ino);
        ControlFlow::Continue(())
    })?;
    check_eq!(
        numbers,
        [fs.stat("a/b")?.ino, fs.stat("a")?.ino],
        "numbers of . and .."
    );
    Ok(())
}

fn reading_what_is_no_directory_is_enotdir(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    for flags in [OpenFlags::RDONLY, OpenFlags::WRONLY, OpenFlags::RDWR] {
        check_errno!(fs.names(&fs.open("f", flags)?), ENOTDIR);
    }
    let path = fs.open("f", OpenFlags::PATH)?;
    check_errno!(fs.names(&path), EBADF);
    Ok(())
}
