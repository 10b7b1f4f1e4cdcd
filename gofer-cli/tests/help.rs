//! Help texts, completion scripts, the manual page.

use crate::common::{finish, gofer, stable};

fn run(line: &str) -> String {
    let mut command = gofer();
    command.args(line.split(' '));
    finish(command, b"").ok().text()
}

#[test]
fn help_texts() {
    stable(&[], || {
        insta::assert_snapshot!("help_short", run("-h"));
        insta::assert_snapshot!("help_long", run("--help"));
        insta::assert_snapshot!("help_ls", run("help ls"));
        insta::assert_snapshot!("help_commands", run("help"));
    });
}

#[test]
fn short_help_fits_one_screen() {
    let lines = run("-h").lines().count();
    assert!(lines <= 40, "{lines} lines");
}

#[test]
fn scripts_and_manual_are_complete() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            run(&format!("completions {shell}")).contains("truncate"),
            "{shell}"
        );
    }
    let page = run("man");
    assert!(page.contains(".TH gofer"), "{page}");
    assert!(page.contains("partial success"), "{page}");
    assert!(run("--version").starts_with("gofer-cli "));
    assert!(run("serve --help").contains("--listen"));
}
