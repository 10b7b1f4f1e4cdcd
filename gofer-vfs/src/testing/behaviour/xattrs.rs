//! Extended attributes (semantics 14).

use super::{CaseResult, Client, Fixture};
use crate::Follow;
use crate::error::Result;
use crate::flags::{OpenFlags, XattrFlags};

cases![
    xattr_values_are_kept_to_the_byte: xattrs,
    xattr_values_may_be_empty: empty_xattrs,
    xattr_of_size_zero_asks_for_the_length: xattrs,
    xattr_buffer_that_is_too_small_is_erange: xattrs,
    missing_xattr_is_enodata: xattrs,
    xattr_flags_decide_between_new_and_old: xattrs,
    xattrs_are_listed_and_removed: xattrs,
    xattrs_through_a_descriptor_are_the_same: xattrs,
    large_xattr_values_work: xattrs,
    xattr_names_and_values_have_limits: xattrs,
    other_xattr_namespaces_are_not_supported: xattrs,
    user_xattrs_are_for_files_and_directories: xattrs,
    xattrs_need_permission: xattrs,
    xattrs_of_no_namespace_need_permission_first: xattrs,
    xattrs_through_a_descriptor_follow_outside_permission: shared_xattrs,
];

const NAME: &[u8] = b"user.test";
const ROOM: usize = 1 << 16;

fn get(fs: &Client, path: &str, name: &[u8], size: usize) -> Result<Vec<u8>> {
    fs.fs
        .get_xattr(&fs.cx(), fs.at(path), Follow::No, name, size)
}

fn set(fs: &Client, path: &str, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
    fs.fs
        .set_xattr(&fs.cx(), fs.at(path), Follow::No, name, value, flags)
}

fn put(fs: &Client, path: &str, name: &[u8], value: &[u8]) -> Result<()> {
    set(fs, path, name, value, XattrFlags::empty())
}

fn list(fs: &Client, path: &str) -> Result<Vec<Vec<u8>>> {
    let mut names = fs.fs.list_xattr(&fs.cx(), fs.at(path), Follow::No)?;
    names.sort();
    Ok(names)
}

fn remove(fs: &Client, path: &str, name: &[u8]) -> Result<()> {
    fs.fs.remove_xattr(&fs.cx(), fs.at(path), Follow::No, name)
}

fn xattr_values_are_kept_to_the_byte(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.mkdir("d")?;
    for path in ["f", "d"] {
        for value in [&b"value"[..], b"\0\xff\n", b"another"] {
            put(&fs, path, NAME, value)?;
            check_eq!(get(&fs, path, NAME, ROOM)?, value, "value on {path}");
        }
    }
    let again = fx.second()?;
    check_eq!(
        get(&again, "f", NAME, ROOM)?,
        b"another",
        "value for another client"
    );
    Ok(())
}

fn xattr_values_may_be_empty(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    put(&fs, "f", NAME, b"")?;
    check_eq!(get(&fs, "f", NAME, ROOM)?, b"", "value");
    check_eq!(list(&fs, "f")?, [NAME], "names");
    Ok(())
}

fn xattr_of_size_zero_asks_for_the_length(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    put(&fs, "f", NAME, b"12345")?;
    check_eq!(get(&fs, "f", NAME, 0)?.len(), 5, "length");
    Ok(())
}

fn xattr_buffer_that_is_too_small_is_erange(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    put(&fs, "f", NAME, b"12345")?;
    check_errno!(get(&fs, "f", NAME, 4), ERANGE);
    check_eq!(
        get(&fs, "f", NAME, 5)?,
        b"12345",
        "value with just enough room"
    );
    Ok(())
}

fn missing_xattr_is_enodata(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    check_errno!(get(&fs, "f", NAME, ROOM), ENODATA);
    check_errno!(remove(&fs, "f", NAME), ENODATA);
    check_eq!(list(&fs, "f")?.len(), 0, "names");
    check_errno!(get(&fs, "missing", NAME, ROOM), ENOENT);
    Ok(())
}

fn xattr_flags_decide_between_new_and_old(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    check_errno!(set(&fs, "f", NAME, b"x", XattrFlags::REPLACE), ENODATA);
    set(&fs, "f", NAME, b"one", XattrFlags::CREATE)?;
    check_errno!(set(&fs, "f", NAME, b"x", XattrFlags::CREATE), EEXIST);
    set(&fs, "f", NAME, b"two", XattrFlags::REPLACE)?;
    check_eq!(get(&fs, "f", NAME, ROOM)?, b"two", "value");
    Ok(())
}

fn xattrs_are_listed_and_removed(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    for name in [&b"user.a"[..], b"user.b", b"user.c"] {
        put(&fs, "f", name, name)?;
    }
    check_eq!(list(&fs, "f")?, [b"user.a", b"user.b", b"user.c"], "names");
    remove(&fs, "f", b"user.b")?;
    check_eq!(list(&fs, "f")?, [b"user.a", b"user.c"], "names left");
    check_errno!(get(&fs, "f", b"user.b", ROOM), ENODATA);
    Ok(())
}

fn xattrs_through_a_descriptor_are_the_same(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let cx = fs.cx();
    fs.create("f", "")?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    file.set_xattr(&cx, NAME, b"by descriptor", XattrFlags::empty())?;
    check_eq!(
        get(&fs, "f", NAME, ROOM)?,
        b"by descriptor",
        "value by path"
    );
    put(&fs, "f", NAME, b"by path")?;
    check_eq!(
        file.get_xattr(&cx, NAME, ROOM)?,
        b"by path",
        "value by descriptor"
    );
    check_eq!(file.list_xattr(&cx)?, [NAME], "names by descriptor");
    file.remove_xattr(&cx, NAME)?;
    check_errno!(get(&fs, "f", NAME, ROOM), ENODATA);
    Ok(())
}

fn large_xattr_values_work(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    let value: Vec<u8> = (0..3000u32).map(|index| (index % 251) as u8).collect();
    put(&fs, "f", NAME, &value)?;
    check_eq!(get(&fs, "f", NAME, ROOM)?, value, "value");
    Ok(())
}

fn xattr_names_and_values_have_limits(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    let long = [b"user.".as_slice(), &[b'n'; 251]].concat();
    check_errno!(put(&fs, "f", &long, b""), ERANGE);
    check_errno!(get(&fs, "f", &long, ROOM), ERANGE);
    check_errno!(put(&fs, "f", b"", b""), ERANGE);
    check_errno!(put(&fs, "f", NAME, &vec![0; ROOM + 1]), E2BIG);
    Ok(())
}

fn other_xattr_namespaces_are_not_supported(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    for name in [&b"security.x"[..], b"system.x", b"trusted.x"] {
        check_errno!(put(&fs, "f", name, b""), EOPNOTSUPP);
        check_errno!(get(&fs, "f", name, ROOM), EOPNOTSUPP);
        check_errno!(remove(&fs, "f", name), EOPNOTSUPP);
    }
    Ok(())
}

fn user_xattrs_are_for_files_and_directories(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.symlink("x", "l")?;
    check_errno!(put(&fs, "l", NAME, b""), EPERM);
    check_errno!(get(&fs, "l", NAME, ROOM), ENODATA);
    check_errno!(remove(&fs, "l", NAME), EPERM);
    Ok(())
}

fn xattrs_need_permission(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    put(&fs, "f", NAME, b"x")?;
    fs.chmod("f", 0o644)?;
    let user = fx.user();
    check_eq!(get(&user, "f", NAME, ROOM)?, b"x", "value for a reader");
    check_errno!(put(&user, "f", NAME, b""), EACCES);
    check_errno!(remove(&user, "f", NAME), EACCES);
    fs.chmod("f", 0o600)?;
    check_errno!(get(&user, "f", NAME, ROOM), EACCES);
    check_eq!(list(&user, "f")?, [NAME], "names for anybody");
    Ok(())
}

fn xattrs_of_no_namespace_need_permission_first(fx: &Fixture) -> CaseResult {
    let (fs, user) = (fx.root(), fx.user());
    fs.create("f", "")?;
    fs.chmod("f", 0o600)?;
    for name in [&b"nothing.a"[..], b"plain"] {
        check_errno!(remove(&user, "f", name), EACCES);
        check_errno!(put(&user, "f", name, b"x"), EACCES);
        check_errno!(get(&user, "f", name, ROOM), EACCES);
        check_errno!(put(&fs, "f", name, b"x"), EOPNOTSUPP);
    }
    check_errno!(put(&user, "f", b"security.a", b"x"), EOPNOTSUPP);
    Ok(())
}

fn xattrs_through_a_descriptor_follow_outside_permission(fx: &Fixture) -> CaseResult {
    let (fs, user) = (fx.root(), fx.user());
    fs.create("f", "")?;
    fs.chmod("f", 0o600)?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    let put = || file.set_xattr(&user.cx(), NAME, b"x", XattrFlags::empty());
    check_errno!(put(), EACCES);
    fx.outside.chmod(b"f", 0o666)?;
    put()?;
    check_eq!(file.get_xattr(&user.cx(), NAME, ROOM)?, b"x", "value");
    Ok(())
}
