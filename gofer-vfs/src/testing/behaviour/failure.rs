//! Servers that die, calls that are given up, mounts that end (semantics 20.5, 22).

use std::time::{Duration, Instant};

use super::{CaseResult, Fixture};
use crate::Context;
use crate::flags::OpenFlags;
use crate::remote::Cancel;

cases![
    dead_server_is_eio_at_once: kill,
    dead_server_leaves_cached_metadata: kill_caching,
    waiting_threads_learn_of_the_death: kill,
    unmount_after_death_comes_back: kill,
    unmounted_filesystem_refuses_at_once,
    unmount_twice_is_fine,
    files_outlive_the_unmount_without_harm,
    cancelled_call_is_eintr,
    deadline_in_the_past_is_etimedout,
    failed_operations_leave_no_trace,
    errors_name_operation_and_path,
];

/// Far more than an answer from memory takes, far less than any timeout.
const AT_ONCE: Duration = Duration::from_secs(2);

fn kill(fx: &Fixture) {
    if let Some(kill) = &fx.kill {
        kill();
    }
}

fn dead_server_is_eio_at_once(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    kill(fx);
    let start = Instant::now();
    check_errno!(fs.stat("never seen"), EIO);
    check_errno!(fs.mkdir("d"), EIO);
    check_errno!(fs.create("new", ""), EIO);
    check_errno!(fs.rename("f", "g"), EIO);
    check_errno!(fs.fs.statfs(&fs.cx(), fs.at("/")), EIO);
    let took = start.elapsed();
    check!(took < AT_ONCE, "five calls took {took:?}");
    Ok(())
}

fn dead_server_leaves_cached_metadata(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "123")?;
    check_errno!(fs.stat("missing"), ENOENT);
    kill(fx);
    check_eq!(fs.attr("f")?.size, 3, "size of a known file");
    check_errno!(fs.stat("missing"), ENOENT);
    check_errno!(fs.stat("never seen"), EIO);
    Ok(())
}

fn waiting_threads_learn_of_the_death(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let working = |index: usize| {
            let fs = &fs;
            move || {
                for round in 0.. {
                    if let Err(error) = fs.create(format!("d/{index}-{round}"), "x") {
                        return error.errno();
                    }
                }
                crate::Errno::EFAULT
            }
        };
        let threads: Vec<_> = (0..3).map(|index| scope.spawn(working(index))).collect();
        while fx.outside.list(b"d").is_ok_and(|names| names.len() < 20) {
            std::thread::yield_now();
        }
        kill(fx);
        for thread in threads {
            let errno = thread
                .join()
                .map_err(|_| super::Failure::new("a thread panicked"))?;
            check_eq!(errno, crate::Errno::EIO, "error of a call in flight");
        }
        Ok(())
    })?;
    let took = start.elapsed();
    check!(took < 5 * AT_ONCE, "it took {took:?}");
    Ok(())
}

fn unmount_after_death_comes_back(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    kill(fx);
    let start = Instant::now();
    // Whether it is an error that nothing could be flushed is not the point here.
    let _ = fs.fs.unmount(&fs.cx());
    drop(file);
    let took = start.elapsed();
    check!(took < AT_ONCE, "it took {took:?}");
    Ok(())
}

fn unmounted_filesystem_refuses_at_once(fx: &Fixture) -> CaseResult {
    let fs = fx.second()?;
    fs.create("f", "x")?;
    fs.fs.unmount(&fs.cx())?;
    let start = Instant::now();
    check_errno!(fs.stat("never seen"), EIO);
    check_errno!(fs.mkdir("d"), EIO);
    let took = start.elapsed();
    check!(took < AT_ONCE, "it took {took:?}");
    check_eq!(fx.outside.read(b"f")?, b"x", "content on the server");
    Ok(())
}

fn unmount_twice_is_fine(fx: &Fixture) -> CaseResult {
    let fs = fx.second()?;
    fs.fs.unmount(&fs.cx())?;
    fs.fs.unmount(&fs.cx())?;
    Ok(())
}

fn files_outlive_the_unmount_without_harm(fx: &Fixture) -> CaseResult {
    let fs = fx.second()?;
    let file = fs.open("f", OpenFlags::CREAT | OpenFlags::RDWR)?;
    fs.write_all(&file, b"x", 0)?;
    fs.fs.unmount(&fs.cx())?;
    check_eq!(fx.outside.read(b"f")?, b"x", "content on the server");
    // A descriptor that the server donated still works; a handle on the server does not.
    match file.write_at(&fs.cx(), b"y", 0) {
        Ok(n) => check_eq!(
            (n, fx.outside.read(b"f")?),
            (1, b"y".to_vec()),
            "a donated descriptor"
        ),
        Err(error) => check_eq!(
            error.errno(),
            crate::Errno::EIO,
            "a write after the unmount"
        ),
    }
    let start = Instant::now();
    drop(file);
    let took = start.elapsed();
    check!(took < AT_ONCE, "the last close took {took:?}");
    Ok(())
}

fn cancelled_call_is_eintr(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let cancel = Cancel::new().map_err(super::Failure::new)?;
    cancel.set();
    let cx = Context {
        cancel: Some(&cancel),
        ..fs.cx()
    };
    let found = fs.fs.stat(&cx, fs.at("missing"), crate::Follow::Yes);
    check_errno!(found, EINTR);
    check_errno!(fs.stat("missing"), ENOENT);
    fs.create("f", "x")?;
    check_eq!(fs.read("f")?, b"x", "content afterwards");
    Ok(())
}

fn deadline_in_the_past_is_etimedout(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let cx = Context {
        deadline: Some(Instant::now()),
        ..fs.cx()
    };
    let found = fs.fs.stat(&cx, fs.at("missing"), crate::Follow::Yes);
    check_errno!(found, ETIMEDOUT);
    fs.create("f", "x")?;
    check_eq!(fs.read("f")?, b"x", "content afterwards");
    Ok(())
}

fn failed_operations_leave_no_trace(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.create("f", "x")?;
    let before = fx.outside.list(b"")?;
    let _ = fs.mkdir("d");
    let _ = fs.rename("d", "d/x");
    let _ = fs.rename("f", "d");
    let _ = fs.link("d", "e");
    let _ = fs.open("d", OpenFlags::WRONLY | OpenFlags::CREAT);
    let _ = fs.symlink("", "s");
    let _ = fs.rmdir("f");
    let _ = fs.unlink("d");
    check_eq!(fx.outside.list(b"")?, before, "names on the server");
    check_eq!(fs.list("/")?, before, "names");
    for name in ["e", "s", "d/x"] {
        check_errno!(fs.stat(name), ENOENT);
    }
    Ok(())
}

fn errors_name_operation_and_path(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("a", "")?;
    fs.mkdir("b")?;
    fs.create("b/c", "")?;
    let text = |result: crate::Result<()>| result.map_err(|error| error.to_string());
    let renamed = text(fs.rename("a", "b"));
    check_eq!(
        renamed,
        Err("rename a -> b: is a directory (EISDIR)".to_owned()),
        "rename"
    );
    let removed = text(fs.rmdir("b"));
    check_eq!(
        removed,
        Err("rmdir b: directory not empty (ENOTEMPTY)".to_owned()),
        "rmdir"
    );
    let opened = text(fs.open("x/y", OpenFlags::RDONLY).map(drop));
    let expected = "open x/y: no such file or directory (ENOENT)".to_owned();
    check_eq!(opened, Err(expected), "open");
    Ok(())
}
