//! `get`, `put` and `cp` of trees, over both protocols.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use tempfile::TempDir;

use crate::common::{both, chmod, finish, is_root};

/// What one file is like: type and mode, content or link text, owner, time.
type Like = (u32, Vec<u8>, (u32, u32), (i64, i64));

/// Everything below `top`, by relative path.
fn survey(top: &Path, with_owner_and_times: bool) -> BTreeMap<Vec<u8>, Like> {
    let mut found = BTreeMap::new();
    let mut todo = vec![top.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata().unwrap();
        let content = if meta.is_dir() {
            todo.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if meta.is_symlink() {
            path.read_link().unwrap().as_os_str().as_bytes().to_vec()
        } else if meta.is_file() {
            std::fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        let name = path
            .strip_prefix(top)
            .unwrap()
            .as_os_str()
            .as_bytes()
            .to_vec();
        let (owner, time) = match with_owner_and_times {
            true => ((meta.uid(), meta.gid()), (meta.mtime(), meta.mtime_nsec())),
            false => Default::default(),
        };
        found.insert(name, (meta.mode(), content, owner, time));
    }
    found
}

/// A tree with everything that has ever tripped a copy program.
fn nasty(top: &Path) {
    let write = |name: &[u8], content: &[u8]| {
        std::fs::write(top.join(OsStr::from_bytes(name)), content).unwrap();
    };
    let mode = |name: &str, mode: u32| {
        std::fs::set_permissions(top.join(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    write(b"empty", b"");
    write(b"-rf", b"a flag?");
    write(b"new\nline", b"1");
    write(b"not utf8 \xff\xfe", b"2");
    write("k\u{f6}nig".as_bytes(), b"3");
    write(b"* [a] {b,c} $x 'q' \"d\" \\", b"4");
    write(&[b'n'; 255], b"5");
    write(b"exactly", &vec![7; 1 << 20]);
    write(b"one more", &vec![8; (1 << 20) + 1]);
    let noise: Vec<u8> = (0..3_000_001u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    write(b"large", &noise);
    write(b"closed", b"6");
    if is_root() {
        mode("closed", 0o000);
    }
    write(b"program", b"#!");
    mode("program", 0o755);
    write(b"setuid", b"7");
    mode("setuid", 0o4755);
    symlink("../outside", top.join("up")).unwrap();
    symlink("nowhere", top.join("dead")).unwrap();
    symlink(".", top.join("loop")).unwrap();
    symlink(OsStr::from_bytes(b"\xff"), top.join("odd link")).unwrap();
    std::fs::create_dir(top.join("empty dir")).unwrap();
    std::fs::create_dir(top.join("readonly")).unwrap();
    write(b"readonly/f", b"8");
    mode("readonly", 0o555);
    std::fs::create_dir(top.join("sticky")).unwrap();
    mode("sticky", 0o1777);
    let mut deep = top.to_owned();
    for _ in 0..40 {
        deep.push("deep directory");
        std::fs::create_dir(&deep).unwrap();
    }
    std::fs::write(deep.join("bottom"), "9").unwrap();
    std::fs::create_dir(top.join("many")).unwrap();
    for n in 0..1100 {
        std::fs::write(top.join(format!("many/{n}")), n.to_string()).unwrap();
    }
    let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    for name in ["large", "many", "program"] {
        std::fs::File::open(top.join(name))
            .unwrap()
            .set_modified(old)
            .unwrap();
    }
    if is_root() {
        std::os::unix::fs::lchown(top.join("program"), Some(12), Some(34)).unwrap();
        std::os::unix::fs::lchown(top.join("dead"), Some(56), Some(78)).unwrap();
        mode("program", 0o755);
    }
}

#[test]
fn a_nasty_tree_comes_back_the_same() {
    both(|tree| {
        let local = TempDir::new().unwrap();
        let source = local.path().join("source");
        std::fs::create_dir(&source).unwrap();
        nasty(&source);
        let expected = survey(&source, true);
        let arg = |text: &str| OsStr::new(text).to_owned();
        let put = [arg("put"), arg("-rp"), source.clone().into(), arg("there")];
        finish(tree.command(&put), b"").ok();
        assert!(survey(&tree.host("there"), true) == expected, "put");
        let back = local.path().join("back");
        let get = [arg("get"), arg("-rp"), arg("there"), back.clone().into()];
        finish(tree.command(&get), b"").ok();
        assert!(survey(&back, true) == expected, "get");
        tree.run("cp -rp there again").ok();
        assert!(survey(&tree.host("again"), true) == expected, "cp");
        // Once more over what is there, with one thread, and without -p.
        let get = [
            arg("get"),
            arg("-r"),
            arg("--parallel=1"),
            arg("there/."),
            back.clone().into(),
        ];
        finish(tree.command(&get), b"").ok();
        assert!(survey(&back, false) == survey(&source, false), "over");
        // Only root removes what is in a directory that is closed for writing.
        tree.run("chmod -R u+w there again").ok();
        tree.run("rm -r there again").ok();
        chmod(&source.join("readonly"), 0o755);
        chmod(&back.join("readonly"), 0o755);
        assert_eq!(std::fs::read_dir(tree.dir.path()).unwrap().count(), 0);
    });
}

#[test]
fn holes_stay_holes() {
    both(|tree| {
        use std::os::unix::fs::FileExt;
        let size = 4 << 30;
        let file = std::fs::File::create(tree.host("sparse")).unwrap();
        file.set_len(size).unwrap();
        file.write_all_at(b"data", 3 << 30).unwrap();
        if file.metadata().unwrap().blocks() > 1 << 20 {
            // The host's file system has no holes.
            return;
        }
        let local = TempDir::new().unwrap();
        let out = local.path().join("out");
        let words = |words: &[&OsStr]| tree.command(words);
        finish(
            words(&["get".as_ref(), "sparse".as_ref(), out.as_ref()]),
            b"",
        )
        .ok();
        finish(words(&["put".as_ref(), out.as_ref(), "back".as_ref()]), b"").ok();
        for copy in [&out, &tree.host("back")] {
            let meta = std::fs::metadata(copy).unwrap();
            assert_eq!(meta.len(), size);
            assert!(meta.blocks() < 1 << 12, "{} blocks", meta.blocks());
            let mut data = [0; 4];
            let file = std::fs::File::open(copy).unwrap();
            file.read_exact_at(&mut data, 3 << 30).unwrap();
            assert_eq!(&data, b"data");
        }
    });
}

#[test]
fn a_copy_into_itself_is_refused() {
    both(|tree| {
        std::fs::create_dir_all(tree.host("d/e")).unwrap();
        tree.run("cp -r d d/e").fails(1);
        tree.run("cp -r d d/e/new").fails(1);
        let inside = tree.host("d/e/new");
        let get = [
            OsStr::new("get"),
            "-r".as_ref(),
            "d".as_ref(),
            inside.as_ref(),
        ];
        let run = finish(tree.command(&get), b"").fails(1);
        assert!(run.stderr.contains("into itself"), "{run:?}");
        let outer = tree.host("d");
        let put = [
            OsStr::new("put"),
            "-r".as_ref(),
            outer.as_ref(),
            "d/e".as_ref(),
        ];
        let run = finish(tree.command(&put), b"").fails(1);
        assert!(run.stderr.contains("into itself"), "{run:?}");
    });
}

#[test]
fn what_fails_does_not_stop_the_rest() {
    both(|tree| {
        std::fs::create_dir(tree.host("d")).unwrap();
        for name in ["d/a", "d/closed", "d/z"] {
            tree.write(name, name);
        }
        let mode = |name: &str, mode| chmod(&tree.host(name), mode);
        mode("d", 0o755);
        mode("d/a", 0o644);
        mode("d/z", 0o644);
        mode("d/closed", 0o000);
        let local = TempDir::new().unwrap();
        let out = local.path().join("out");
        let args: [&OsStr; 6] = [
            "--uid".as_ref(),
            "1000".as_ref(),
            "get".as_ref(),
            "-r".as_ref(),
            "d".as_ref(),
            out.as_ref(),
        ];
        let run = finish(tree.command(&args), b"").fails(6);
        assert!(
            run.stderr
                .contains("open d/closed: permission denied (EACCES)"),
            "{run:?}"
        );
        assert!(out.join("a").exists() && out.join("z").exists());
        std::fs::remove_dir_all(&out).unwrap();
        let all: Vec<&OsStr> = [&args[..], &["--fail-fast".as_ref()]].concat();
        finish(tree.command(&all), b"").fails(6);
    });
}

#[test]
fn a_link_in_the_target_is_replaced_not_followed() {
    both(|tree| {
        let local = TempDir::new().unwrap();
        let (out, victim) = (local.path().join("out"), local.path().join("victim"));
        std::fs::create_dir(tree.host("d")).unwrap();
        tree.write("d/f", "new");
        std::fs::create_dir(&out).unwrap();
        std::fs::write(&victim, "precious").unwrap();
        symlink(&victim, out.join("f")).unwrap();
        let get = [
            OsStr::new("get"),
            "-r".as_ref(),
            "d/.".as_ref(),
            out.as_ref(),
        ];
        finish(tree.command(&get), b"").ok();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(std::fs::read_to_string(out.join("f")).unwrap(), "new");
    });
}

#[test]
fn pipes_can_be_put_and_cut_off_copies_resumed() {
    both(|tree| {
        finish(tree.command(&["put", "-", "piped"]), &vec![b'p'; 700_000]).ok();
        assert_eq!(tree.read("piped"), "p".repeat(700_000));
        let local = TempDir::new().unwrap();
        let out = local.path().join("out");
        tree.write("whole", "0123456789");
        assert_eq!(tree.run("get whole /dev/stdout").ok().text(), "0123456789");
        finish(
            tree.command(&["put", "/dev/stdin", "named"]),
            b"from a pipe",
        )
        .ok();
        assert_eq!(tree.read("named"), "from a pipe");
        std::fs::write(&out, "01234").unwrap();
        let get = [
            OsStr::new("get"),
            "-a".as_ref(),
            "-f".as_ref(),
            "whole".as_ref(),
            out.as_ref(),
        ];
        finish(tree.command(&get), b"").ok();
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "0123456789");
    });
}
