//! Every command, over both protocols, with the host looked at behind the server's back.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use serde_json::json;

use crate::common::{Tree, both, finish, is_root, me, stable};

fn sample(tree: &Tree) {
    tree.write("a", "one\ntwo\nthree\n");
    std::fs::create_dir_all(tree.host("d/e")).unwrap();
    tree.write("d/x.rs", "fn main() {}\n");
    tree.write("d/.hidden", "");
    symlink("a", tree.host("link")).unwrap();
    symlink("nowhere", tree.host("dead")).unwrap();
    for name in ["a", "d/x.rs", "d/.hidden"] {
        std::fs::set_permissions(tree.host(name), PermissionsExt::from_mode(0o644)).unwrap();
    }
}

#[test]
fn ls_lists_sorts_and_recurses() {
    both(|tree| {
        sample(tree);
        assert_eq!(tree.run("ls").ok().text(), "a\nd\ndead\nlink\n");
        assert_eq!(tree.run("ls -r").ok().text(), "link\ndead\nd\na\n");
        assert_eq!(tree.run("ls -a d").ok().text(), ".\n..\n.hidden\ne\nx.rs\n");
        assert_eq!(tree.run("ls -A d").ok().text(), ".hidden\ne\nx.rs\n");
        assert_eq!(tree.run("ls -d d").ok().text(), "d\n");
        assert_eq!(tree.run("ls -F").ok().text(), "a\nd/\ndead@\nlink@\n");
        assert_eq!(tree.run("ls -S d").ok().text().lines().next(), Some("e"));
        assert_eq!(
            tree.run("ls -R").ok().text(),
            ".:\na\nd\ndead\nlink\n\n./d:\ne\nx.rs\n\n./d/e:\n"
        );
        assert_eq!(tree.run("ls a d").ok().text(), "a\n\nd:\ne\nx.rs\n");
        let ino = std::fs::metadata(tree.host("a")).unwrap().ino();
        assert_eq!(tree.run("ls -i a").ok().text(), format!("{ino} a\n"));
        let colored = tree.run("ls --color=always").ok().text();
        assert!(colored.contains("\x1b[1m\x1b[34md\x1b[0m"), "{colored:?}");
    });
}

#[test]
fn ls_long_looks_like_ls() {
    both(|tree| {
        sample(tree);
        std::fs::remove_dir_all(tree.host("d")).unwrap();
        let text = tree.run("ls -ln").ok().text();
        let (uid, gid) = me();
        let text = text.replace(&format!(" {uid} {gid} "), " [UID] [GID] ");
        stable(&[], || insta::assert_snapshot!("ls_long", text));
        assert!(tree.run("ls -lh a").ok().text().contains(" 14 "));
    });
}

#[test]
fn names_are_raw_in_a_pipe_and_exact_in_json() {
    both(|tree| {
        let name = std::ffi::OsStr::from_bytes(b"bad\xff\nname");
        std::fs::write(tree.dir.path().join(name), "").unwrap();
        assert_eq!(tree.run("ls").ok().stdout, b"bad\xff\nname\n");
        let listed = tree.run("ls --json").ok().json();
        assert_eq!(listed[0]["name"], json!({ "bytes": "626164ff0a6e616d65" }));
        let by_name = tree.command(&[std::ffi::OsStr::new("stat"), "--json".as_ref(), name]);
        assert_eq!(finish(by_name, b"").ok().json()[0]["size"], 0);
    });
}

#[test]
fn stat_and_its_json_agree_with_the_host() {
    both(|tree| {
        sample(tree);
        let host = std::fs::symlink_metadata(tree.host("a")).unwrap();
        let stat = tree.run("stat --json a link").ok().json();
        assert_eq!(stat[0]["ino"], host.ino());
        assert_eq!(stat[0]["mode_string"], "-rw-r--r--");
        assert_eq!(stat[0]["type"], "file");
        assert_eq!(
            stat[0]["mtime"].as_str().unwrap().len(),
            "2026-01-01T00:00:00.000000000Z".len()
        );
        assert_eq!(stat[1]["type"], "symlink");
        assert_eq!(stat[1]["target"], "a");
        assert_eq!(tree.run("stat --json -L link").ok().json()[0]["size"], 14);
        assert!(
            tree.run("stat a")
                .ok()
                .text()
                .contains("Access: (0644/-rw-r--r--)")
        );
    });
}

#[test]
fn trees_are_drawn_searched_and_summed() {
    both(|tree| {
        sample(tree);
        stable(&[], || {
            insta::assert_snapshot!("tree", tree.run("tree").ok().text());
            insta::assert_snapshot!("tree_all", tree.run("tree -a -F d").ok().text());
        });
        assert_eq!(
            tree.run("tree --json").ok().json()[0]["children"][1]["name"],
            "d"
        );
        assert_eq!(tree.run("find . --name *.rs").ok().text(), "./d/x.rs\n");
        assert_eq!(tree.run("find --iname *.RS").ok().text(), "./d/x.rs\n");
        assert_eq!(tree.run("find . --type dir").ok().text(), ".\n./d\n./d/e\n");
        assert_eq!(tree.run("find . --size +13 --type f").ok().text(), "./a\n");
        assert_eq!(tree.run("find d --empty").ok().text(), "d/.hidden\nd/e\n");
        assert_eq!(
            tree.run("find . --max-depth 1 --min-depth 1 -0")
                .ok()
                .stdout,
            b"./a\0./d\0./dead\0./link\0"
        );
        assert_eq!(
            tree.run("find d --json --name e").ok().json()[0]["path"],
            "d/e"
        );
        let du = tree.run("du -b -s d").ok().text();
        let sum = |names: &[&str]| -> u64 {
            let size = |name: &&str| std::fs::metadata(tree.host(name)).unwrap().len();
            names.iter().map(size).sum()
        };
        assert_eq!(
            du,
            format!("{}\td\n", sum(&["d", "d/e", "d/x.rs", "d/.hidden"]))
        );
        assert_eq!(
            tree.run("du --json -a d")
                .ok()
                .json()
                .as_array()
                .unwrap()
                .len(),
            4
        );
        assert_eq!(tree.run("df --json").ok().json()[0]["path"], ".");
        assert!(tree.run("df -h").ok().text().starts_with("TYPE"));
        assert!(tree.run("df -i").ok().text().contains("INODES"));
    });
}

#[test]
fn content_is_printed_whole_and_in_parts() {
    both(|tree| {
        sample(tree);
        assert_eq!(
            tree.run("cat a link").ok().text(),
            "one\ntwo\nthree\n".repeat(2)
        );
        assert_eq!(tree.run("head -n 2 a").ok().text(), "one\ntwo\n");
        assert_eq!(tree.run("head -c 5 a").ok().text(), "one\nt");
        assert_eq!(tree.run("tail -n 1 a").ok().text(), "three\n");
        assert_eq!(tree.run("tail -c 4 a").ok().text(), "ree\n");
        assert_eq!(
            tree.run("head -n 1 a d/x.rs").ok().text(),
            "==> a <==\none\n\n==> d/x.rs <==\nfn main() {}\n"
        );
        let long: String = (0..100_000).map(|n| format!("{n}\n")).collect();
        tree.write("long", &long);
        assert_eq!(tree.run("cat long").ok().text(), long);
        assert_eq!(tree.run("tail -n 2 long").ok().text(), "99998\n99999\n");
    });
}

#[test]
fn walk_names_every_step_and_what_it_cost() {
    both(|tree| {
        sample(tree);
        let walk = tree.run("walk --json d/e").ok().json();
        let names: Vec<&str> = walk["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| step["name"].as_str().unwrap())
            .collect();
        assert_eq!(names.last(), Some(&"e"));
        assert_eq!(walk["round_trips"], 1);
        let text = tree.run("walk d/nope").fails(1);
        assert!(text.text().contains("missing"), "{text:?}");
        let twice = finish(tree.command(&["shell", "-c", "walk d/e; walk d/e"]), b"")
            .ok()
            .text();
        assert!(twice.contains("cache"), "{twice}");
        assert!(twice.ends_with("0 round trips\n"), "{twice}");
    });
}

#[test]
fn files_are_made_changed_and_removed() {
    both(|tree| {
        tree.run("mkdir -p x/y/z").ok();
        tree.run("touch x/f").ok();
        assert_eq!(tree.read("x/f"), "");
        tree.run("truncate -s 4K x/f").ok();
        assert_eq!(std::fs::metadata(tree.host("x/f")).unwrap().len(), 4096);
        tree.run("truncate -s -4090 x/f").ok();
        assert_eq!(tree.read("x/f"), "\0\0\0\0\0\0");
        tree.run("fallocate -l 4K x/f").ok();
        assert_eq!(std::fs::metadata(tree.host("x/f")).unwrap().len(), 4096);
        tree.run("fallocate -p --offset 1 -l 3 x/f").ok();
        tree.run("fallocate -c -z -l 1 x/f").fails(2);
        tree.run("truncate -s 6 x/f").ok();
        assert_eq!(tree.read("x/f"), "\0\0\0\0\0\0");
        tree.run("chmod u=rw,go= x/f").ok();
        assert_eq!(
            std::fs::metadata(tree.host("x/f")).unwrap().mode() & 0o7777,
            0o600
        );
        tree.run("chmod -R 750 x").ok();
        assert_eq!(
            std::fs::metadata(tree.host("x/y/z")).unwrap().mode() & 0o7777,
            0o750
        );
        tree.run("touch -d @1000000000.5 x/f").ok();
        let touched = std::fs::metadata(tree.host("x/f")).unwrap();
        assert_eq!(
            (touched.mtime(), touched.mtime_nsec()),
            (1_000_000_000, 500_000_000)
        );
        tree.run("ln x/f x/hard").ok();
        assert_eq!(std::fs::metadata(tree.host("x/hard")).unwrap().nlink(), 2);
        tree.run("ln -s f x/soft").ok();
        assert_eq!(tree.run("readlink x/soft").ok().text(), "f\n");
        assert_eq!(tree.run("readlink -f x/soft").ok().text(), "/x/f\n");
        tree.run("ln -sf hard x/soft").ok();
        assert_eq!(
            std::fs::read_link(tree.host("x/soft")).unwrap(),
            std::path::Path::new("hard")
        );
        tree.run("rename x/hard x/other").ok();
        tree.run("mv x/other x/soft x/y").ok();
        assert!(tree.host("x/y/other").exists());
        tree.run("mv -n x/f x/y/other").fails(1);
        tree.run("cp x/f x/copy").ok();
        assert_eq!(tree.read("x/copy"), "\0\0\0\0\0\0");
        tree.run("cp -r x x2").ok();
        assert_eq!(tree.read("x2/y/other"), "\0\0\0\0\0\0");
        tree.run("cp -r x x/y").fails(1);
        if !tree.lisafs {
            // The protocol has the message, but its servers refuse to make anything but files.
            tree.run("mknod x/pipe p").ok();
            assert!(
                std::fs::metadata(tree.host("x/pipe"))
                    .unwrap()
                    .file_type()
                    .is_fifo()
            );
        }
        tree.run("rmdir x/y/z").ok();
        tree.run("rm x/f").ok();
        tree.run("rm -f x/f").ok();
        tree.run("rm -r x x2").ok();
        assert_eq!(std::fs::read_dir(tree.dir.path()).unwrap().count(), 0);
        tree.run("sync").ok();
    });
}

#[test]
fn owners_are_changed_by_root() {
    if !is_root() {
        return;
    }
    both(|tree| {
        sample(tree);
        tree.run("chown -R 7:8 d").ok();
        let owner = |name: &str| {
            let meta = std::fs::symlink_metadata(tree.host(name)).unwrap();
            (meta.uid(), meta.gid())
        };
        assert_eq!(owner("d/x.rs"), (7, 8));
        tree.run("chown -h :9 link").ok();
        assert_eq!((owner("link"), owner("a")), ((0, 9), (0, 0)));
    });
}

#[test]
fn extended_attributes_are_set_listed_and_removed() {
    both(|tree| {
        sample(tree);
        let set = tree.run("xattr set user.k v a");
        if set.stderr.contains("EOPNOTSUPP") {
            // The host's file system has none.
            return;
        }
        set.ok();
        assert_eq!(tree.run("xattr get user.k a").ok().text(), "v");
        assert_eq!(tree.run("xattr list a").ok().text(), "user.k\n");
        assert_eq!(tree.run("xattr list -l a").ok().text(), "user.k=v\n");
        tree.run("xattr set -c user.k v a").fails(1);
        tree.run("xattr rm user.k a").ok();
        assert_eq!(tree.run("xattr list a").ok().text(), "");
        tree.run("xattr get user.k a").fails(1);
    });
}

#[test]
fn options_stats_and_cache_tell_what_is_in_effect() {
    both(|tree| {
        let options = tree.run("options -o cache=none,ro --json").ok().json();
        let string = options["options"].as_str().unwrap();
        assert!(string.contains("cache=none"), "{string}");
        assert!(string.starts_with("trans=fd,rfdno="), "{string}");
        assert_eq!(string.ends_with(",lisafs"), tree.lisafs);
        assert!(!string.contains("rfdno=0"), "{string}");
        let text = tree.run("options").ok().text();
        assert!(text.contains("largest 9P message"), "{text}");
        assert!(
            tree.run("stats --json").ok().json()["wire_round_trips"]
                .as_u64()
                .unwrap()
                > 0
        );
        assert!(tree.run("stats").ok().text().contains("cache_hits"));
        assert!(tree.run("cache").ok().text().contains("fscache"));
        tree.run("cache drop").ok();
    });
}

#[test]
fn the_umask_of_the_caller_is_applied() {
    both(|tree| {
        let script = "umask 027; exec \"$0\" \"$@\"";
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_gofer-cli"), "--root"]);
        command
            .arg(tree.dir.path())
            .args(tree.lisafs.then_some("--lisafs"));
        command.args(["shell", "-c", "mkdir d; touch f; mkdir -m 777 open"]);
        finish(command, b"").ok();
        let mode = |name: &str| std::fs::metadata(tree.host(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode("d"), mode("f"), mode("open")), (0o750, 0o640, 0o777));
    });
}

#[test]
fn a_running_server_is_reached_over_its_socket() {
    both(|tree| {
        sample(tree);
        let run = tempfile::TempDir::new().unwrap();
        let socket = run.path().join("s");
        let mut server = crate::common::gofer();
        server
            .args(["serve", "--protocol", "auto", "--root"])
            .arg(tree.dir.path());
        server
            .arg("--listen")
            .arg(format!("unix:{}", socket.display()));
        let mut server = server.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let stdout = server.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        assert!(line.starts_with("listening on unix:"), "{line}");
        let mut client = crate::common::gofer();
        client.args(["--trans", "unix", "--address"]).arg(&socket);
        client.args(tree.lisafs.then_some("--lisafs"));
        client.args(["--aname", "/d", "ls"]);
        assert_eq!(finish(client, b"").ok().text(), "e\nx.rs\n");
        server.kill().unwrap();
        server.wait().unwrap();
    });
}

#[test]
fn a_running_server_is_reached_over_tcp() {
    let tree = Tree::new(false);
    sample(&tree);
    let mut server = crate::common::gofer();
    server
        .args([
            "serve",
            "--protocol",
            "9p",
            "--listen",
            "tcp:127.0.0.1:0",
            "--root",
        ])
        .arg(tree.dir.path());
    let mut server = server.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let stdout = server.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    let address = line
        .trim()
        .strip_prefix("listening on tcp:")
        .unwrap()
        .to_owned();
    let run = |words: &[&str]| {
        let mut client = crate::common::gofer();
        client
            .args(["--trans", "tcp", "--address", &address])
            .args(words);
        finish(client, b"")
    };
    assert_eq!(run(&["cat", "a"]).ok().text(), "one\ntwo\nthree\n");
    assert!(run(&["options"]).ok().text().contains("version=9P2000.L,"));
    run(&["--lisafs", "ls"]).fails(2);
    server.kill().unwrap();
    server.wait().unwrap();
    let refused = run(&["ls"]).fails(4);
    assert!(refused.stderr.contains("(ECONNREFUSED)"), "{refused:?}");
}

#[test]
fn a_profile_names_a_connection() {
    both(|tree| {
        sample(tree);
        let config = tree.host("config.toml");
        let text = format!(
            "[profile.t]\nroot = {:?}\nlisafs = {}\noptions = \"ro\"\n",
            tree.host("d"),
            tree.lisafs
        );
        std::fs::write(&config, text).unwrap();
        let mut command = crate::common::gofer();
        command
            .env("GOFER_CONFIG", &config)
            .args(["--profile", "t", "ls"]);
        assert_eq!(finish(command, b"").ok().text(), "e\nx.rs\n");
        let mut command = crate::common::gofer();
        command
            .env("GOFER_CONFIG", &config)
            .env("GOFER_PROFILE", "t")
            .args(["touch", "x"]);
        let failed = finish(command, b"").fails(1);
        assert!(failed.stderr.contains("(EROFS)"), "{failed:?}");
    });
}

#[test]
fn trace_writes_a_line_a_message() {
    both(|tree| {
        sample(tree);
        let log = tempfile::NamedTempFile::new().unwrap();
        let flag = format!("--trace={}", log.path().display());
        tree.run(&format!("{flag} stat a")).ok();
        let text = std::fs::read_to_string(log.path()).unwrap();
        let sent = text.lines().filter(|line| line.starts_with('>')).count();
        let received = text.lines().filter(|line| line.starts_with('<')).count();
        assert!(sent > 1 && received > 1, "{text}");
        assert!(tree.run("--trace cat a").stderr.contains('>'));
    });
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    both(|tree| {
        tree.write("big", vec![b'x'; 4 << 20]);
        let mut command = tree.command(&["cat", "big"]);
        let mut child = command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
    });
}

#[test]
fn lock_holds_a_lock_while_a_command_runs() {
    both(|tree| {
        tree.write("f", "content");
        assert_eq!(tree.run("lock -x f -- echo held").ok().text(), "held\n");
        tree.run("lock --shared --range 0:4 new -- grep -q word /dev/null")
            .fails(1);
        assert!(tree.host("new").exists());
        tree.run("lock f -- ls --no-such-flag").fails(2);
        tree.run("lock f -- /no/such/program").fails(1);
        tree.run("lock --range 4 f").fails(2);
        // In a shell it stays until it is given up.
        let run = tree.script(
            &["-k"],
            "lock f; lock -s f; lock -u f; lock -s f; lock -s f; lock -u d",
        );
        assert_eq!(
            run.stderr.matches("locked by somebody else").count(),
            1,
            "{run:?}"
        );
    });
}

#[test]
fn watch_prints_what_happens() {
    both(|tree| {
        std::fs::create_dir(tree.host("d")).unwrap();
        tree.run("watch none").fails(1);
        tree.run("watch -e nonsense d").fails(2);
        let mut watch = tree
            .command(&["watch", "-v", "-o", "cache=none", "-n", "2", "--json", "d"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Once it says that it watches, what is there was seen.
        let mut said = std::io::BufReader::new(watch.stderr.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        assert!(line.contains("watching 1"), "{line}");
        tree.write("d/new", "");
        let event = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let mut lines =
            std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().unwrap()));
        let told = |word: &str| {
            json!({
                "path": "d", "events": [word], "name": "new", "cookie": null,
            })
        };
        assert_eq!(event(&lines.next().unwrap().unwrap()), told("create"));
        std::fs::remove_file(tree.host("d/new")).unwrap();
        assert_eq!(event(&lines.next().unwrap().unwrap()), told("delete"));
        assert!(watch.wait().unwrap().success());
    });
}
