//! Bad input: what is said, and the exit code.

use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;

use tempfile::TempDir;

use crate::common::{both, chmod, finish, gofer, stable};

#[test]
fn wrong_usage_is_named_and_exits_2() {
    both(|tree| {
        stable(&[tree.dir.path()], || {
            for (name, line) in [
                ("unknown_flag", "ls --bogus"),
                ("unknown_command", "lss"),
                ("unknown_option", "ls -o cahce=none"),
                ("bad_option_value", "ls -o cache=sometimes"),
                ("missing_argument", "mv a"),
                ("bad_mode", "chmod 999 a"),
                ("bad_timeout", "--timeout -1 ls"),
                ("trans_without_address", "--trans unix -o lisafs=false ls"),
            ] {
                let run = if name == "trans_without_address" {
                    let mut command = gofer();
                    command.args(line.split(' '));
                    finish(command, b"")
                } else {
                    tree.run(line)
                };
                insta::assert_snapshot!(name, run.fails(2).all());
            }
        });
        let empty = finish(tree.command(&["rm", "-r", ""]), b"").fails(2);
        assert!(empty.stderr.contains("cannot be empty"), "{empty:?}");
    });
}

#[test]
fn a_failed_operation_is_named_and_exits_1() {
    both(|tree| {
        std::fs::create_dir_all(tree.host("d/e")).unwrap();
        std::fs::create_dir(tree.host("f")).unwrap();
        tree.write("file", "");
        stable(&[tree.dir.path()], || {
            for (name, line) in [
                ("missing_path", "cat nope"),
                ("missing_parent", "stat file/x"),
                ("rename_not_empty", "rename f d"),
                ("remove_directory", "rm d"),
                ("rmdir_not_empty", "rmdir d"),
                ("readonly", "--readonly mkdir x"),
                ("get_directory", "get d /tmp"),
                ("json_error", "--json cat nope"),
                ("local_missing", "put /nonexistent/file"),
            ] {
                insta::assert_snapshot!(name, tree.run(line).fails(1).all());
            }
            let pattern = finish(tree.command(&["shell", "-c", "ls q*"]), b"").fails(1);
            insta::assert_snapshot!("no_pattern", pattern.all());
            let long = "x".repeat(256);
            let run = tree.run(&format!("touch {long}")).fails(1);
            insta::assert_snapshot!("name_too_long", run.all().replace(&long, "[LONG]"));
        });
    });
}

#[test]
fn another_user_has_no_permission() {
    both(|tree| {
        tree.write("secret", "x");
        // Closed even for its owner, who may well be uid 1000.
        chmod(&tree.host("secret"), 0o000);
        chmod(tree.dir.path(), 0o555);
        stable(&[], || {
            let run = tree.run("--uid 1000 cat secret").fails(1);
            insta::assert_snapshot!("permission", run.all());
            let run = tree
                .run("--uid 1000 --gid 5 --groups 6,7 touch new")
                .fails(1);
            insta::assert_snapshot!("permission_groups", run.all());
        });
        chmod(tree.dir.path(), 0o755);
    });
}

#[test]
fn several_files_of_which_some_fail_exit_6() {
    both(|tree| {
        tree.write("a", "A");
        let run = tree.run("cat nope a").fails(6);
        assert_eq!(run.text(), "A");
        assert!(
            run.stderr
                .contains("open nope: no such file or directory (ENOENT)")
        );
        tree.run("rm nope nope2").fails(1);
    });
}

#[test]
fn a_wrong_configuration_exits_3() {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("c.toml");
    std::fs::write(&config, "[profile.x]\nadress = 1\n").unwrap();
    let run = |args: &[&str]| {
        let mut command = gofer();
        command.arg("--config").arg(&config).args(args);
        finish(command, b"").fails(3)
    };
    stable(&[dir.path()], || {
        insta::assert_snapshot!("config_unknown_key", run(&["ls"]).all());
    });
    std::fs::write(&config, "[profile.x]\n").unwrap();
    stable(&[dir.path()], || {
        insta::assert_snapshot!("config_no_profile", run(&["--profile", "y", "ls"]).all());
    });
}

#[test]
fn descriptors_that_do_not_fit_exit_4() {
    both(|tree| {
        let protocol = if tree.lisafs { "--lisafs" } else { "-q" };
        let mut closed = gofer();
        closed.args(["--rfdno", "77", "ls", protocol]);
        let closed = finish(closed, b"").fails(4);
        assert!(
            closed
                .stderr
                .contains("descriptor 77: bad file descriptor (EBADF)"),
            "{closed:?}"
        );
        // Standard input is a pipe here: open, but no socket.
        let mut pipe = gofer();
        pipe.args(["--rfdno", "0", "ls", protocol]);
        let pipe = finish(pipe, b"").fails(4);
        assert!(pipe.stderr.contains("descriptor 0: "), "{pipe:?}");
        assert!(pipe.stderr.contains("(ENOTSOCK)"), "{pipe:?}");
    });
}

#[test]
fn dead_servers_are_told_apart() {
    both(|tree| {
        let dir = TempDir::new().unwrap();
        let socket = dir.path().join("s");
        let connect = || {
            let mut command = gofer();
            command.args(["--trans", "unix", "--address"]).arg(&socket);
            command.args(tree.lisafs.then_some("--lisafs")).arg("ls");
            finish(command, b"").fails(4)
        };
        stable(&[dir.path()], || {
            insta::assert_snapshot!("socket_missing", connect().all());
            drop(UnixListener::bind(&socket).unwrap());
            insta::assert_snapshot!("socket_refused", connect().all());
        });
        let mut nowhere = gofer();
        nowhere.args(["--root", "/nonexistent", "ls"]);
        stable(&[], || {
            insta::assert_snapshot!("root_missing", finish(nowhere, b"").fails(4).all());
        });
    });
}

/// A server of `protocol` on one end of a socket pair; the other end for the program's standard
/// input.
fn server(protocol: &str) -> (std::process::Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut command = gofer();
    command.args(["serve", "--protocol", protocol, "--root", "/", "--fd", "0"]);
    let child = command
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (child, ours)
}

#[test]
fn a_server_of_the_other_protocol_is_suspected() {
    for (spoken, flag) in [("lisafs", None), ("9p", Some("--lisafs"))] {
        let (mut child, stream) = server(spoken);
        let mut command = gofer();
        command
            .args(["--rfdno", "0", "--timeout", "2"])
            .args(flag)
            .arg("ls");
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(stream)));
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains("may speak another protocol"), "{said}");
        drop(command);
        child.wait().unwrap();
    }
}

#[test]
fn a_server_that_dies_midway_exits_5() {
    both(|tree| {
        tree.write("a", "A");
        // Dead for certain: a zombie has closed its files.
        let kill = "!for p in /proc/[0-9]*; do \
                    if [ \"$(tr '\\0' ' ' <$p/cmdline | cut -d' ' -f2)\" = serve ] && \
                    grep -q \"^PPid:.$PPID$\" $p/status; then \
                    kill -9 ${p#/proc/}; until grep -q 'State:.Z' $p/status; do :; done; fi; done";
        let run = tree
            .script(&[], &format!("cat a\n{kill}\ncat b\n"))
            .fails(5);
        assert_eq!(run.text(), "A");
        assert!(
            run.stderr.contains("the connection to the server is lost"),
            "{run:?}"
        );
    });
}
