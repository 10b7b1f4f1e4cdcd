//! Many threads at once (semantics 23).

use std::sync::Barrier;
use std::thread;

use super::{CaseResult, Failure, Fixture};
use crate::flags::OpenFlags;

cases![
    threads_work_in_their_own_directories,
    threads_create_and_remove_in_one_directory,
    exclusive_create_has_one_winner,
    two_clients_racing_to_create_both_succeed: sharing,
    renames_in_both_directions_do_not_deadlock,
    readers_meet_writers,
    lookups_meet_renames,
    appenders_lose_nothing,
    listings_meet_changes,
    links_meet_unlinks,
];

/// Runs `work` on several threads at once, each with its number.
fn together(count: usize, work: impl Fn(usize) -> CaseResult + Sync) -> CaseResult {
    let barrier = Barrier::new(count);
    let (work, barrier) = (&work, &barrier);
    thread::scope(|scope| {
        let start = |index| {
            move || {
                barrier.wait();
                work(index)
            }
        };
        let threads: Vec<_> = (0..count).map(|index| scope.spawn(start(index))).collect();
        let ends: Vec<CaseResult> = threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(Failure::new("a thread panicked")))
            })
            .collect();
        ends.into_iter().collect()
    })
}

/// Ignores that somebody else was faster.
fn allow(result: crate::Result<()>, errors: &[crate::Errno]) -> CaseResult {
    match result {
        Err(error) if !errors.contains(&error.errno()) => Err(Failure::new(error)),
        _ => Ok(()),
    }
}

fn threads_work_in_their_own_directories(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    together(4, |index| {
        let dir = format!("d{index}");
        fs.mkdir(&dir)?;
        for round in 0..25 {
            let (a, b) = (format!("{dir}/a{round}"), format!("{dir}/b{round}"));
            let content = format!("{index}.{round}");
            fs.create(&a, &content)?;
            fs.rename(&a, &b)?;
            check_eq!(fs.read(&b)?, content.as_bytes(), "content of {b}");
            check_errno!(fs.stat(&a), ENOENT);
            if round % 2 == 0 {
                fs.unlink(&b)?;
            }
        }
        check_eq!(fs.list(&dir)?.len(), 12, "names in {dir}");
        Ok(())
    })
}

fn threads_create_and_remove_in_one_directory(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    together(4, |index| {
        for round in 0..40 {
            let name = format!("{index}-{round}");
            fs.create(&name, &name)?;
            check_eq!(fs.read(&name)?, name.as_bytes(), "content of {name}");
            fs.unlink(&name)?;
            check_errno!(fs.stat(&name), ENOENT);
        }
        Ok(())
    })?;
    check_eq!(fs.list("/")?.len(), 0, "names left");
    check_eq!(fx.outside.list(b"")?.len(), 0, "names left on the server");
    Ok(())
}

fn exclusive_create_has_one_winner(fx: &Fixture) -> CaseResult {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let fs = fx.root();
    for round in 0..20 {
        let winners = AtomicUsize::new(0);
        let name = format!("n{round}");
        together(4, |_| {
            let made = fs.create(&name, "");
            winners.fetch_add(usize::from(made.is_ok()), Ordering::Relaxed);
            allow(made, &[crate::Errno::EEXIST])
        })?;
        check_eq!(winners.into_inner(), 1, "winners in round {round}");
    }
    Ok(())
}

fn two_clients_racing_to_create_both_succeed(fx: &Fixture) -> CaseResult {
    let clients = [fx.root(), fx.second()?];
    for round in 0..30 {
        let name = format!("n{round}");
        together(2, |index| {
            let fs = &clients[index];
            let file = fs.open(&name, OpenFlags::CREAT | OpenFlags::RDWR)?;
            fs.write_all(&file, b"x", index as u64)
                .map_err(Failure::new)
        })?;
        check_eq!(
            fx.outside.read(name.as_bytes())?,
            b"xx",
            "content of {name}"
        );
    }
    Ok(())
}

fn renames_in_both_directions_do_not_deadlock(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.mkdir("b")?;
    fs.mkdir("a/sub")?;
    fs.create("b/f", "x")?;
    let missing = [crate::Errno::ENOENT];
    together(4, |index| {
        for _ in 0..40 {
            match index {
                0 => allow(fs.rename("a/sub", "b/sub"), &missing)?,
                1 => allow(fs.rename("b/sub", "a/sub"), &missing)?,
                2 => allow(fs.rename("b/f", "a/f"), &missing)?,
                _ => allow(fs.rename("a/f", "b/f"), &missing)?,
            }
        }
        Ok(())
    })?;
    let mut names = fs.list("a")?;
    names.extend(fs.list("b")?);
    names.sort();
    check_eq!(names, [&b"f"[..], b"sub"], "names in both");
    let mut served = fx.outside.list(b"a")?;
    served.extend(fx.outside.list(b"b")?);
    check_eq!(served.len(), 2, "names on the server");
    Ok(())
}

fn readers_meet_writers(fx: &Fixture) -> CaseResult {
    const BLOCK: usize = 8192;
    let fs = fx.root();
    fs.create("f", vec![b'0'; BLOCK])?;
    together(4, |index| {
        if index == 0 {
            let file = fs.open("f", OpenFlags::WRONLY)?;
            for round in 0..50u8 {
                fs.write_all(&file, &[b'0' + round % 10; BLOCK], 0)?;
            }
            return Ok(());
        }
        let file = fs.open("f", OpenFlags::RDONLY)?;
        for _ in 0..50 {
            let block = fs.read_at(&file, BLOCK, 0)?;
            check_eq!(block.len(), BLOCK, "bytes read");
            let digits = block.iter().all(u8::is_ascii_digit);
            check!(digits, "a block has bytes that nobody wrote");
            check_eq!(fs.attr("f")?.size, BLOCK as u64, "size");
        }
        Ok(())
    })
}

fn lookups_meet_renames(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("a")?;
    fs.mkdir("a/b")?;
    fs.create("a/b/f", "x")?;
    let missing = [crate::Errno::ENOENT];
    together(3, |index| {
        for _ in 0..60 {
            match index {
                0 => {
                    fs.rename("a", "c")?;
                    fs.rename("c", "a")?;
                }
                1 => match fs.read("a/b/f") {
                    Ok(content) => check_eq!(content, b"x", "content"),
                    other => allow(other.map(drop), &missing)?,
                },
                _ => allow(fs.stat("c/b/../b/f").map(drop), &missing)?,
            }
        }
        Ok(())
    })?;
    check_eq!(fs.read("a/b/f")?, b"x", "content in the end");
    check_errno!(fs.stat("c"), ENOENT);
    Ok(())
}

fn appenders_lose_nothing(fx: &Fixture) -> CaseResult {
    const ROUNDS: usize = 50;
    let fs = fx.root();
    fs.create("f", "")?;
    together(3, |index| {
        let file = fs.open("f", OpenFlags::WRONLY | OpenFlags::APPEND)?;
        for _ in 0..ROUNDS {
            file.write(&fs.cx(), &[b'a' + index as u8; 10])?;
        }
        Ok(())
    })?;
    let content = fx.served("f")?;
    check_eq!(content.len(), 3 * ROUNDS * 10, "bytes");
    for line in content.chunks(10) {
        check!(
            line.iter().all(|byte| *byte == line[0]),
            "two writes are mixed"
        );
    }
    Ok(())
}

fn listings_meet_changes(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    for index in 0..20 {
        fs.create(format!("stays{index:02}"), "")?;
    }
    together(3, |index| {
        for round in 0..30 {
            if index == 0 {
                let names = fs.list("/")?;
                let stays = names
                    .iter()
                    .filter(|name| name.starts_with(b"stays"))
                    .count();
                check_eq!(stays, 20, "names that were never touched");
                continue;
            }
            let name = format!("comes{index}-{round}");
            fs.create(&name, "")?;
            fs.unlink(&name)?;
        }
        Ok(())
    })?;
    check_eq!(fs.list("/")?.len(), 20, "names in the end");
    Ok(())
}

fn links_meet_unlinks(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    together(3, |index| {
        for round in 0..30 {
            let name = format!("l{index}-{round}");
            fs.link("f", &name)?;
            check_eq!(fs.read(&name)?, b"x", "content of {name}");
            fs.unlink(&name)?;
        }
        Ok(())
    })?;
    check_eq!(fs.attr("f")?.nlink, 1, "link count in the end");
    check_eq!(fs.list("/")?, [b"f"], "names in the end");
    Ok(())
}
