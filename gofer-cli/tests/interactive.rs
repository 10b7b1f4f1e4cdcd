//! The shell on a terminal.

use std::process::Command;

use rexpect::session::{PtySession, spawn_command};

use crate::common::{Tree, both, gofer, is_root};

const TIMEOUT_MS: u64 = 20_000;

/// How the prompt ends: as in other shells, it tells root.
fn end() -> &'static str {
    if is_root() { " # " } else { " $ " }
}

fn shell(tree: &Tree) -> PtySession {
    let mut command: Command = gofer();
    command.env("TERM", "xterm").env("NO_COLOR", "1");
    let state = tree.host(".state");
    command.env("XDG_STATE_HOME", state);
    command.arg("--root").arg(tree.dir.path());
    command.args(tree.lisafs.then_some("--lisafs")).arg("shell");
    spawn_command(command, Some(TIMEOUT_MS)).expect("spawn")
}

#[test]
fn a_user_moves_around_and_leaves_with_ctrl_d() {
    both(|tree| {
        std::fs::create_dir(tree.host("some dir")).unwrap();
        tree.write("some dir/file", "content\n");
        let mut shell = shell(tree);
        let label = if tree.lisafs { "[lisafs " } else { "[9p " };
        shell.exp_string(label).unwrap();
        shell.send_line("cd 'some dir'").unwrap();
        shell.exp_string("] /some dir ").unwrap();
        shell.send_line("cat file").unwrap();
        shell.exp_string("content").unwrap();
        shell.send_line("cat nope").unwrap();
        shell
            .exp_string("open nope: no such file or directory (ENOENT)")
            .unwrap();
        shell.exp_string("!").unwrap();
        shell.send_line("pwd").unwrap();
        shell.exp_string("/some dir").unwrap();
        shell.send_control('d').unwrap();
        shell.exp_eof().unwrap();
        let history = std::fs::read_to_string(tree.host(".state/gofer/history")).unwrap();
        assert!(history.contains("cat nope"), "{history}");
    });
}

#[test]
fn ctrl_c_ends_the_command_not_the_shell() {
    both(|tree| {
        let mut shell = shell(tree);
        shell.exp_string(end()).unwrap();
        // Waits for standard input for ever.
        shell.send_line("put - x").unwrap();
        // The command runs once the file is there.
        let begun = std::time::Instant::now();
        while !tree.host("x").exists() && begun.elapsed().as_millis() < TIMEOUT_MS.into() {
            std::thread::yield_now();
        }
        shell.send_control('c').unwrap();
        shell.exp_string("interrupted").unwrap();
        shell.exp_string(end()).unwrap();
        shell.send_line("pwd").unwrap();
        shell.exp_string("/").unwrap();
        // At the prompt it only clears the line.
        shell.exp_string(end()).unwrap();
        shell.send("rm nonsense").unwrap();
        shell.flush().unwrap();
        shell.send_control('c').unwrap();
        shell.exp_string(end()).unwrap();
        shell.send_line("exit").unwrap();
        shell.exp_eof().unwrap();
    });
}

#[test]
fn tab_completes_commands_and_remote_paths() {
    both(|tree| {
        std::fs::create_dir(tree.host("a directory")).unwrap();
        tree.write("a directory/only file", "found\n");
        let mut command = gofer();
        command.env("TERM", "xterm").env("NO_COLOR", "1");
        command.arg("--root").arg(tree.dir.path());
        command.args(tree.lisafs.then_some("--lisafs")).arg("shell");
        let mut shell = spawn_command(command, Some(TIMEOUT_MS)).expect("spawn");
        shell.exp_string(end()).unwrap();
        shell.send("trunc\t").unwrap();
        shell.flush().unwrap();
        shell.exp_string("truncate").unwrap();
        shell.send_control('c').unwrap();
        shell.exp_string(end()).unwrap();
        shell.send("cat a\tonly\t\n").unwrap();
        shell.exp_string("found").unwrap();
        shell.send_line("exit").unwrap();
        shell.exp_eof().unwrap();
    });
}
