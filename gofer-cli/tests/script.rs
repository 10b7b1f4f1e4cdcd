//! The shell without a terminal: scripts and `-c`.

use crate::common::{both, finish, me};

#[test]
fn commands_share_a_directory_and_quotes_work() {
    both(|tree| {
        let script =
            "mkdir 'a b'  # comment\ncd a\\ b\npwd\ntouch \"x y\" $'n\\xff'\nls\ncd -\npwd\n";
        let run = tree.script(&["-q"], script).ok();
        assert_eq!(run.stdout, b"/a b\nn\xff\nx y\n/\n");
    });
}

#[test]
fn patterns_expand_on_the_remote_side_and_put_on_the_local_one() {
    both(|tree| {
        let here = tempfile::TempDir::new().unwrap();
        for name in ["1.txt", "2.txt", "3.md"] {
            std::fs::write(here.path().join(name), name).unwrap();
        }
        let script = format!(
            "lcd {}\nmkdir d\nput *.txt d\nls d/*\nls d/{{1,2}}.[a-z]*\ntouch './-l'\nls *\nls '*'\n",
            here.path().display()
        );
        let run = tree.script(&["-k"], &script).fails(6);
        assert_eq!(
            run.text(),
            "d/1.txt\nd/2.txt\nd/1.txt\nd/2.txt\n./-l\n\nd:\n1.txt\n2.txt\n"
        );
        assert!(
            run.stderr.contains("line 8: stat *: no such file"),
            "{run:?}"
        );
    });
}

#[test]
fn the_first_error_ends_a_script() {
    both(|tree| {
        tree.write("a", "A");
        let run = tree.script(&[], "cat a\ncat nope\ncat a\n").fails(1);
        assert_eq!(run.text(), "A");
        assert_eq!(
            run.stderr,
            "gofer-cli: line 2: open nope: no such file or directory (ENOENT)\n"
        );
        let run = tree
            .script(&["--keep-going"], "cat a\ncat nope\ncat a\n")
            .fails(6);
        assert_eq!(run.text(), "AA");
        tree.script(&["-k"], "cat nope\ncat nope\n").fails(1);
        let run = tree.script(&[], "-cat nope\ncat a\n").fails(0);
        assert_eq!(run.text(), "A");
        assert!(run.stderr.contains("line 1"), "{run:?}");
        tree.script(&[], "cat a; bogus\n").fails(2);
        tree.script(&[], "cat 'a\n").fails(2);
        let piped = tree.script(&[], "ls | head\n").fails(2);
        assert!(piped.stderr.contains("no pipes"), "{piped:?}");
        assert_eq!(tree.script(&[], "exit\ncat a\n").ok().text(), "");
    });
}

#[test]
fn c_takes_several_commands() {
    both(|tree| {
        let run = finish(
            tree.command(&["shell", "-c", "mkdir d; cd d; touch x; ls; pwd"]),
            b"",
        );
        assert_eq!(run.ok().text(), "x\n/d\n");
    });
}

#[test]
fn as_changes_who_acts() {
    both(|tree| {
        let (uid, gid) = me();
        let script = format!("as 54321 touch x\nas 54321:5,6\nas\nas {uid}:{gid}\ntouch y\nas\n");
        let run = tree.script(&["-k"], &script).fails(6);
        assert_eq!(
            run.text(),
            format!("uid 54321 gid 5 groups 6\nuid {uid} gid {gid}\n")
        );
        assert!(
            run.stderr
                .contains("line 1: open x: permission denied (EACCES)"),
            "{run:?}"
        );
        assert!(
            run.stderr.contains("this ran as uid 54321, gid 54321"),
            "{run:?}"
        );
        assert!(tree.host("y").exists() && !tree.host("x").exists());
    });
}

#[test]
fn caches_answer_what_was_asked_before() {
    both(|tree| {
        tree.write("a", "A");
        let count = |script: &str| -> u64 {
            let run = tree.script(&[], &format!("{script}\nstats --json\n")).ok();
            let text = run.text();
            let last: serde_json::Value =
                serde_json::from_str(text.lines().last().unwrap()).unwrap();
            last["wire_round_trips"].as_u64().unwrap()
        };
        assert_eq!(count("stat a"), count("stat a\nstat a\nstat a"));
        assert!(count("stat a\ncache drop\nstat a") > count("stat a"));
    });
}

#[test]
fn help_is_the_same_everywhere() {
    both(|tree| {
        let by_help = tree.script(&[], "help stat\n").ok().text();
        let by_flag = tree.script(&[], "stat --help\n").ok().text();
        assert_eq!(by_help.trim(), by_flag.trim());
        assert!(tree.script(&[], "help\n").ok().text().contains("truncate"));
    });
}

#[test]
fn json_works_on_a_single_line() {
    both(|tree| {
        tree.write("a", "A");
        let run = tree
            .script(&["-k"], "ls --json a\nls a\ncat --json nope\n")
            .fails(6);
        let text = run.text();
        let (first, second) = text.split_once('\n').unwrap();
        assert!(first.starts_with("[{\"name\":\"a\""), "{first}");
        assert_eq!(second, "a\n");
        let error: serde_json::Value = serde_json::from_str(run.stderr.trim()).unwrap();
        assert_eq!(error["errno"], "ENOENT");
    });
}

#[test]
fn files_stay_open_from_one_command_to_the_next() {
    both(|tree| {
        tree.write("old", "0123456789");
        let script = "open -rc new\nopen old\nwrite 3 'some text'\nread 3 --at 5\nread 4 3\n\
            files\nseek 4 -1 --from end\nread 4\nfsync 3\nclose 3\nopen -a old\n\
            write 3 x\nclose 3\nread 4\nclose 4\n";
        let run = tree.script(&["-q"], script).ok();
        let expected = "3\n4\ntext0123 rw 9 new\n4 r  3 old\n9\n93\nx";
        assert_eq!(run.text(), expected, "{run:?}");
        assert_eq!(tree.read("new"), "some text");
        let run = tree.script(&[], "close 3\n").fails(2);
        assert!(run.stderr.contains("no file is open as 3"), "{run:?}");
        let run = tree.script(&["-q"], "open -x old\n").fails(2);
        assert!(run.stderr.contains("--create"), "{run:?}");
        let run = tree.script(&["-q"], "open -cx old\n").fails(1);
        assert!(run.stderr.contains("EEXIST"), "{run:?}");
    });
}

#[test]
fn other_trees_are_mounted_in_this_one() {
    both(|tree| {
        let other = tempfile::TempDir::new().unwrap();
        std::fs::create_dir(other.path().join("sub")).unwrap();
        std::fs::write(other.path().join("sub/file"), "there").unwrap();
        tree.write("here", "here");
        let root = other.path().display();
        let script = format!(
            "mkdir mnt\nmount --root {root} --lisafs mnt\ncat mnt/sub/file\ncd mnt/sub\npwd\n\
             cat ../../here\ncp file /mnt/copy\ncp file /copy\n-mv file /\n-umount /mnt\ncd /\n\
             mounts\n-rmdir mnt\numount mnt\nls mnt\nmounts\n",
        );
        let run = tree.script(&["-q"], &script).fails(0);
        let text = run.text();
        assert!(text.starts_with("there/mnt/sub\nhere"), "{run:?}");
        let rows: Vec<&str> = text.lines().filter(|line| line.contains(" rw ")).collect();
        assert_eq!(rows.len(), 3, "{run:?}");
        assert!(
            rows[1].starts_with("/mnt ") && rows[1].contains("lisafs"),
            "{run:?}"
        );
        assert!(
            run.stderr.contains("umount /mnt: in use (EBUSY)"),
            "{run:?}"
        );
        assert!(run.stderr.contains("rmdir mnt: in use (EBUSY)"), "{run:?}");
        assert_eq!(std::fs::read(other.path().join("copy")).unwrap(), b"there");
        assert_eq!(tree.read("copy"), "there");
        assert!(run.stderr.contains("(EXDEV)"), "{run:?}");
        tree.script(&[], "mount --uid 3 --root / mnt\n").fails(2);
        tree.script(&[], "mount --root / nowhere\n").fails(1);
        tree.script(&[], "mount --root /nowhere mnt\n").fails(4);
    });
}
