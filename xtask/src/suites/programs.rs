//! Programs that people use, doing what they do, and looks at what came of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Bench, tools};
use crate::workspace;

/// fio writes random blocks and verifies what it reads back, through system calls and mappings.
pub(super) fn fio(bench: &Bench<'_>) -> Result<()> {
    for (name, engine, how) in [
        ("random", "psync", "randrw"),
        ("mapped", "mmap", "randwrite"),
        ("sequential", "psync", "write"),
    ] {
        let mut command = Command::new("fio");
        command
            .current_dir(bench.scratch)
            .arg(format!("--directory={}", bench.dir.display()))
            .arg(format!("--name={name}"))
            .arg(format!("--ioengine={engine}"))
            .arg(format!("--rw={how}"))
            .args(["--size=16m", "--bs=4k", "--numjobs=2", "--group_reporting"])
            .args(["--verify=crc32c", "--verify_fatal=1", "--do_verify=1"])
            .args(["--fsync=512", "--thread"]);
        tools::run(&mut command, super::PATIENCE).context(name)?;
    }
    Ok(())
}

/// A repository is cloned onto the mount, checked, changed, and checked again.
pub(super) fn git(bench: &Bench<'_>) -> Result<()> {
    let source = bench.scratch.join("source");
    make_repository(&source)?;
    let clone = bench.dir.join("clone");
    git_in(
        bench.scratch,
        &["clone", "--quiet", "--no-hardlinks"],
        &[&source, &clone],
    )?;
    git_in(&clone, &["fsck", "--full", "--strict"], &[])?;
    expect_clean(&clone)?;
    fs::write(clone.join("file-1"), "changed\n")?;
    fs::remove_file(clone.join("file-2"))?;
    let status = say_git(&clone, &["status", "--porcelain"])?;
    if status != " M file-1\n D file-2\n" {
        bail!("git status: {status:?}");
    }
    git_in(
        &clone,
        &["commit", "--quiet", "--all", "-m", "changed"],
        &[],
    )?;
    git_in(&clone, &["gc", "--quiet", "--aggressive"], &[])?;
    git_in(&clone, &["fsck", "--full", "--strict"], &[])?;
    git_in(&clone, &["checkout", "--quiet", "HEAD~1"], &[])?;
    expect_clean(&clone)
}

fn make_repository(at: &Path) -> Result<()> {
    fs::create_dir(at)?;
    git_in(at, &["init", "--quiet"], &[])?;
    for round in 0..3 {
        for number in 0..200 {
            let dir = at.join(format!("dir-{}", number % 7));
            fs::create_dir_all(&dir)?;
            let text = format!("{round} {number}\n").repeat(number + 1);
            fs::write(dir.join(format!("file-{number}")), &text)?;
            fs::write(at.join(format!("file-{}", number % 5)), &text)?;
        }
        git_in(at, &["add", "--all"], &[])?;
        git_in(at, &["commit", "--quiet", "-m", "round"], &[])?;
    }
    Ok(())
}

fn expect_clean(clone: &Path) -> Result<()> {
    match say_git(clone, &["status", "--porcelain"])? {
        status if status.is_empty() => Ok(()),
        status => bail!("git status: {status:?}"),
    }
}

fn git_command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
        .args(["-c", "safe.directory=*"])
        .args(args);
    command
}

fn git_in(dir: &Path, args: &[&str], paths: &[&Path]) -> Result<()> {
    let mut command = git_command(dir, args);
    command.args(paths);
    tools::run(&mut command, super::PATIENCE).with_context(|| args.join(" "))
}

fn say_git(dir: &Path, args: &[&str]) -> Result<String> {
    tools::say(&mut git_command(dir, args), super::PATIENCE).with_context(|| args.join(" "))
}

/// A database whose journal is a log beside it, which is mapped and shared.
pub(super) fn sqlite_wal(bench: &Bench<'_>) -> Result<()> {
    sqlite(bench, "wal")
}

/// A database with a journal to roll back from.
pub(super) fn sqlite_rollback(bench: &Bench<'_>) -> Result<()> {
    sqlite(bench, "delete")
}

/// Two processes count up in one database; no step may get lost.
fn sqlite(bench: &Bench<'_>, journal: &str) -> Result<()> {
    const STEPS: usize = 100;
    let database = bench.dir.join("database");
    let mode = sql(&database, &format!("pragma journal_mode={journal};"))?;
    if mode.trim() != journal {
        bail!("the journal mode is {mode:?}");
    }
    sql(
        &database,
        "create table t(n integer, filler blob); create table c(n integer); \
         insert into c values(0); create index i on t(n);",
    )?;
    let step = "begin immediate; update c set n = n + 1; \
                insert into t select n, randomblob(300) from c; commit;";
    let script = step.repeat(STEPS);
    let counted = std::thread::scope(|scope| {
        let one = scope.spawn(|| sql(&database, &script));
        let two = sql(&database, &script);
        one.join().map(|one| one.and(two))
    });
    counted.map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    let checked = sql(
        &database,
        "pragma integrity_check; select n from c; select count(distinct n), max(n) from t;",
    )?;
    let all = 2 * STEPS;
    if checked != format!("ok\n{all}\n{all}|{all}\n") {
        bail!("the database says {checked:?}");
    }
    Ok(())
}

fn sql(database: &Path, script: &str) -> Result<String> {
    let mut command = Command::new("sqlite3");
    command
        .args(["-batch", "-bail", "-cmd", ".timeout 60000"])
        .arg(database)
        .arg(script);
    tools::say(&mut command, super::PATIENCE)
}

/// A tree goes onto the mount and back by tar, and is what it was.
pub(super) fn tar(bench: &Bench<'_>) -> Result<()> {
    let source = bench.scratch.join("source");
    make_tree(&source)?;
    let script = "set -e
        mkdir \"$2/tree\" \"$3/back\"
        tar -C \"$1\" --xattrs -cf - . | tar -C \"$2/tree\" --xattrs -xpf -
        tar -C \"$2/tree\" --xattrs -cf - . | tar -C \"$3/back\" --xattrs -xpf -";
    shell(bench, script, &source)?;
    same(bench, &source, &bench.dir.join("tree"))?;
    same(bench, &source, &bench.scratch.join("back"))
}

/// A tree goes onto the mount and back by rsync, and a second time nothing has to.
pub(super) fn rsync(bench: &Bench<'_>) -> Result<()> {
    let source = bench.scratch.join("source");
    make_tree(&source)?;
    let script = "set -e
        rsync -aHX --modify-window=-1 --devices --specials \"$1/\" \"$2/tree/\"
        rsync -aHX --modify-window=-1 --devices --specials \"$2/tree/\" \"$3/back/\"
        again=$(rsync -aHX --modify-window=-1 -i --checksum --devices --specials \"$1/\" \"$2/tree/\")
        test -z \"$again\" || { echo \"$again\"; exit 1; }
        echo more >> \"$1/dir/file\"; rm \"$1/hard\"; chmod 600 \"$1/exe\"
        rsync -aHX --modify-window=-1 --delete --checksum \"$1/\" \"$2/tree/\"
        rsync -aHX --modify-window=-1 --delete --checksum \"$1/\" \"$3/back/\"";
    shell(bench, script, &source)?;
    same(bench, &source, &bench.dir.join("tree"))?;
    same(bench, &source, &bench.scratch.join("back"))
}

fn shell(bench: &Bench<'_>, script: &str, source: &Path) -> Result<()> {
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .args([source, bench.dir, bench.scratch]);
    tools::run(&mut command, super::PATIENCE)
}

/// Files of all kinds: names with odd bytes, links, modes, owners, old times, holes, attributes.
fn make_tree(at: &Path) -> Result<()> {
    let script = r#"set -e
        mkdir -p "$1/dir/deep/er" "$1/empty"
        cd "$1"
        printf 'hello\n' > dir/file
        printf 'x' > "$(printf 'odd \377\001name')"
        ln dir/file hard
        ln -s dir/file link
        ln -s nowhere dangling
        mkfifo fifo
        cp /bin/true exe; chmod 4755 exe
        truncate -s 1M sparse; printf 'end' >> sparse
        head -c 3000000 /dev/urandom > big
        chown 65534:65534 dir/file; chmod 2750 dir/deep; chmod 1777 empty
        setfattr -n user.note -v value dir/file 2>/dev/null || true
        i=0; while [ $i -lt 300 ]; do echo $i > dir/deep/er/$i; i=$((i+1)); done
        touch -d '1969-12-31 23:59:58.25 UTC' dir/file
        touch -d '2001-02-03 04:05:06.789 UTC' big dir/deep dir empty"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(at);
    tools::run(&mut command, super::PATIENCE)
}

/// Whether two trees have the same files: content, type, mode, owner, time and links.
fn same(bench: &Bench<'_>, one: &Path, other: &Path) -> Result<()> {
    let script = r#"set -e
        sums() { cd "$1"; find . -type f -print0 | sort -z | xargs -0 sha256sum; }
        sums "$1" > "$3/one"; sums "$2" > "$3/other"
        diff "$3/one" "$3/other"
        list() { cd "$1"; find . -printf '%P %y %m %U %G %T@ %n %l ' -type f -printf '%s\n' -o -printf '\n' | sort; }
        list "$1" > "$3/one"; list "$2" > "$3/other"
        diff "$3/one" "$3/other""#;
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .args([one, other, bench.scratch]);
    tools::run(&mut command, super::PATIENCE)
        .with_context(|| format!("compare {}", other.display()))
}

/// A crate is built on the mount, and its tests run from there.
pub(super) fn cargo_build(bench: &Bench<'_>) -> Result<()> {
    let package = bench.dir.join("package");
    fs::create_dir_all(package.join("src"))?;
    fs::write(
        package.join("Cargo.toml"),
        "[package]\nname = \"answer\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    )?;
    let modules = 20;
    let mut root = String::new();
    for number in 0..modules {
        root += &format!("pub mod m{number};\n");
        let text = format!(
            "pub fn value() -> u64 {{ {number} }}\n\
             #[test]\nfn holds() {{ assert_eq!(value(), {number}); }}\n"
        );
        fs::write(package.join(format!("src/m{number}.rs")), text)?;
    }
    fs::write(package.join("src/lib.rs"), root)?;
    fs::write(
        package.join("src/main.rs"),
        "fn main() { println!(\"{}\", answer::m19::value() + answer::m7::value()); }\n",
    )?;
    for task in ["build", "test"] {
        let mut command = workspace::cargo();
        command
            .current_dir(&package)
            .env("CARGO_TARGET_DIR", package.join("target"))
            .args([task, "--quiet", "--offline"]);
        tools::run(&mut command, super::PATIENCE).context(task)?;
    }
    let mut built = Command::new(package.join("target/debug/answer"));
    match tools::say(&mut built, super::PATIENCE)? {
        said if said == "26\n" => Ok(()),
        said => bail!("what was built says {said:?}"),
    }
}
