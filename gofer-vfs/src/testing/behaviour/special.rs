//! Files that only this client has (semantics 11), fifos of either kind (16), and sockets.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use super::check::{CaseResult, Failure};
use super::{Client, Fixture, Remount};
use crate::remote::SocketType;
use crate::{AccessMask, AllocMode, File, FileType, MountFlags, OpenFlags, Readiness, Whence};

cases![
    a_blocking_open_of_a_fifo_waits_for_the_other_end: usable_fifos,
    a_fifo_gives_every_byte_and_then_its_end: usable_fifos,
    a_fifo_says_what_it_is_ready_for: usable_fifos,
    files_without_offsets_cannot_be_sought_in: usable_fifos,
    a_deleted_fifo_goes_on_between_its_ends: usable_fifos,
    a_fifo_may_be_written_on_a_readonly_mount: server_fifos,
    other_files_are_always_ready,
    opening_a_socket_may_be_connecting_to_it: server_sockets,
    a_fifo_the_server_refuses_is_kept_here: no_fifos,
    a_mount_point_is_a_directory_like_others,
    an_open_fifo_is_no_error_of_a_sync: fifos,
    a_fifo_is_opened_for_one_end_or_both,
    connecting_to_a_file_that_is_no_socket_is_refused,
    a_bound_socket_is_reached_by_its_name,
];

/// How long something that others hold up may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens both ends, each of which waits for the other.
fn ends(c: &Client, path: &str) -> Result<(File, File), Failure> {
    let opened = thread::scope(|scope| {
        let writer = scope.spawn(|| c.open(path, OpenFlags::WRONLY));
        let reader = c.open(path, OpenFlags::RDONLY);
        Some((reader, writer.join().ok()?))
    });
    let Some((reader, writer)) = opened else {
        return Err(Failure::new("a thread panicked"));
    };
    Ok((reader?, writer?))
}

fn a_blocking_open_of_a_fifo_waits_for_the_other_end(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.mkfifo("p")?;
    let flags = OpenFlags::WRONLY | OpenFlags::NONBLOCK;
    check_errno!(c.open("p", flags), ENXIO);
    for _ in 0..3 {
        let (reader, writer) = ends(&c, "p")?;
        check_eq!(writer.write(&c.cx(), b"hello")?, 5, "bytes written");
        let mut into = [0; 9];
        check_eq!(reader.read(&c.cx(), &mut into)?, 5, "bytes read");
        check_eq!(&into[..5], b"hello", "content");
    }
    // The ends are closed; a process that was just started may have copies for a moment yet.
    let start = Instant::now();
    while c.open("p", flags).is_ok() && start.elapsed() < PATIENCE {
        thread::yield_now();
    }
    check_errno!(c.open("p", flags), ENXIO);
    Ok(())
}

fn a_fifo_gives_every_byte_and_then_its_end(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.mkfifo("p")?;
    let (reader, writer) = ends(&c, "p")?;
    let sent: Vec<u8> = (0..300_000u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    let received = thread::scope(|scope| {
        let writes = scope.spawn(|| -> CaseResult {
            for part in sent.chunks(70_000) {
                check_eq!(writer.write(&c.cx(), part)?, part.len(), "bytes written");
            }
            writer.close(&c.cx())?;
            Ok(())
        });
        let mut received = Vec::new();
        // Sizes that fit no buffer on the way.
        let mut into = vec![0; 10_007];
        loop {
            match reader.read(&c.cx(), &mut into)? {
                0 => break,
                n => received.extend_from_slice(&into[..n]),
            }
        }
        match writes.join() {
            Ok(written) => written.map(|()| received),
            Err(_) => Err(Failure::new("a thread panicked")),
        }
    })?;
    check!(received == sent, "other bytes than were written");
    check_eq!(reader.read(&c.cx(), &mut [0; 3])?, 0, "bytes after the end");
    Ok(())
}

fn a_fifo_says_what_it_is_ready_for(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.mkfifo("p")?;
    let (reader, writer) = ends(&c, "p")?;
    let always = Readiness::READ | Readiness::WRITE;
    // Servers that donate nothing do not tell.
    if reader.ready()? == always {
        check!(fx.server.makes_fifos, "a fifo of this client says nothing");
        return Ok(());
    }
    check_eq!(reader.ready()?, Readiness::empty(), "an empty fifo");
    check_eq!(writer.ready()?, Readiness::WRITE, "its writer");
    let ready = thread::scope(|scope| {
        let waits = scope.spawn(|| reader.wait_ready(&c.cx(), Readiness::READ));
        let written = writer.write(&c.cx(), b"x");
        waits.join().map(|ready| written.and(ready))
    });
    let ready = ready.map_err(|_| Failure::new("a thread panicked"))?;
    check_eq!(ready?, Readiness::READ, "once it was written to");
    writer.close(&c.cx())?;
    let both = Readiness::READ | Readiness::HANGUP;
    // The server may still be about to close what it has of the writer.
    let left = reader.wait_ready(&c.cx(), Readiness::HANGUP)?;
    check_eq!(left, both, "with a byte and no writer");
    check_eq!(reader.read(&c.cx(), &mut [0; 9])?, 1, "bytes left");
    let end = reader.wait_ready(&c.cx(), Readiness::READ)?;
    check!(end.contains(Readiness::HANGUP), "at the end it is {end:?}");
    Ok(())
}

fn files_without_offsets_cannot_be_sought_in(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.mkfifo("p")?;
    let both = c.open("p", OpenFlags::RDWR)?;
    let cx = c.cx();
    for to in [
        Whence::Set(0),
        Whence::Cur(0),
        Whence::End(0),
        Whence::Data(0),
    ] {
        check_errno!(both.seek(&cx, to), ESPIPE);
    }
    check_errno!(both.read_at(&cx, &mut [0; 3], 0), ESPIPE);
    check_errno!(both.write_at(&cx, b"x", 0), ESPIPE);
    check_errno!(both.allocate(&cx, AllocMode::empty(), 0, 1), ESPIPE);
    check_errno!(c.truncate("p", 0), EINVAL);
    check_errno!(c.open("p", OpenFlags::RDWR | OpenFlags::DIRECT), EINVAL);
    check_errno!(c.open("p", OpenFlags::DIRECTORY), ENOTDIR);
    both.write(&cx, b"moved")?;
    let mut into = [0; 9];
    check_eq!(both.read(&cx, &mut into)?, 5, "bytes read");
    Ok(())
}

fn a_deleted_fifo_goes_on_between_its_ends(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.mkfifo("p")?;
    let (reader, writer) = ends(&c, "p")?;
    c.rename("p", "q")?;
    c.unlink("q")?;
    c.mkfifo("q")?;
    writer.write(&c.cx(), b"still")?;
    let mut into = [0; 9];
    check_eq!(reader.read(&c.cx(), &mut into)?, 5, "bytes read");
    check_eq!(reader.stat(&c.cx())?.attr.nlink, 0, "links");
    check!(
        reader.stat(&c.cx())?.ino != c.lstat("q")?.ino,
        "the new one has its number"
    );
    Ok(())
}

fn a_fifo_may_be_written_on_a_readonly_mount(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.mkfifo("p")?;
    c.create("f", "")?;
    let readonly = fx.remount(&Remount {
        flags: MountFlags {
            readonly: true,
            ..MountFlags::default()
        },
        ..Remount::default()
    })?;
    let both = readonly.open("p", OpenFlags::RDWR)?;
    check_eq!(both.write(&readonly.cx(), b"x")?, 1, "bytes written");
    readonly.access("p", AccessMask::WRITE)?;
    check_errno!(readonly.access("f", AccessMask::WRITE), EROFS);
    check_errno!(readonly.open("f", OpenFlags::WRONLY), EROFS);
    check_errno!(readonly.unlink("p"), EROFS);
    Ok(())
}

fn other_files_are_always_ready(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.create("f", "")?;
    let always = Readiness::READ | Readiness::WRITE;
    for (path, flags) in [("f", OpenFlags::RDONLY), ("/", OpenFlags::DIRECTORY)] {
        let file = c.open(path, flags)?;
        check_eq!(file.ready()?, always, "{path}");
        check_eq!(file.wait_ready(&c.cx(), Readiness::READ)?, always, "{path}");
    }
    check_errno!(c.open("f", OpenFlags::PATH)?.ready(), EBADF);
    Ok(())
}

fn a_fifo_the_server_refuses_is_kept_here(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.mkdir("d")?;
    c.mkfifo("d/p")?;
    check!(!fx.outside.exists(b"d/p"), "the server made it");
    check_eq!(c.attr("d/p")?.file_type, FileType::Fifo, "its type");
    check_errno!(c.mkfifo("d/p"), EEXIST);
    check_eq!(c.list("d")?, vec![b"p".to_vec()], "the listing");
    check_errno!(c.rmdir("d"), ENOTEMPTY);
    check_errno!(
        c.open("d/p", OpenFlags::WRONLY | OpenFlags::NONBLOCK),
        ENXIO
    );
    let reader = c.open("d/p", OpenFlags::RDONLY | OpenFlags::NONBLOCK)?;
    let writer = c.open("d/p", OpenFlags::WRONLY)?;
    writer.write(&c.cx(), b"hello")?;
    let mut into = [0; 9];
    check_eq!(reader.read(&c.cx(), &mut into)?, 5, "bytes read");
    check_errno!(reader.read(&c.cx(), &mut into), EAGAIN);
    writer.close(&c.cx())?;
    check_eq!(
        reader.read(&c.cx(), &mut into)?,
        0,
        "bytes after the last writer"
    );
    c.rename("d/p", "q")?;
    c.unlink("q")?;
    c.rmdir("d")?;
    Ok(())
}

fn a_mount_point_is_a_directory_like_others(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.fs.mkdir_mount_point(&c.cx(), c.at("d"), 0o750)?;
    check_eq!(c.attr("d")?.mode, 0o750, "its mode");
    check_errno!(c.fs.mkdir_mount_point(&c.cx(), c.at("d"), 0o750), EEXIST);
    c.rmdir("d")?;
    Ok(())
}

fn an_open_fifo_is_no_error_of_a_sync(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.mkfifo("p")?;
    match c.open("p", OpenFlags::RDWR | OpenFlags::NONBLOCK) {
        Ok(_fifo) => c.fs.sync(&c.cx())?,
        // Some servers make fifos and open none.
        Err(error) => check_eq!(error.errno(), crate::Errno::EPERM, "opening it"),
    }
    Ok(())
}

fn a_fifo_is_opened_for_one_end_or_both(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.mkfifo("p")?;
    let neither = OpenFlags::WRONLY | OpenFlags::RDWR;
    check_errno!(c.open("p", neither | OpenFlags::NONBLOCK), EINVAL);
    match c.open("p", OpenFlags::NONBLOCK) {
        // Linux asks where before it asks whether.
        Ok(fifo) => check_errno!(fifo.write_at(&c.cx(), b"", 0), ESPIPE),
        // Some servers make fifos and open none.
        Err(error) => check_eq!(error.errno(), crate::Errno::EPERM, "opening it"),
    }
    Ok(())
}

fn connecting_to_a_file_that_is_no_socket_is_refused(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.create("f", "")?;
    let connect = |path: &str| c.fs.connect(&c.cx(), c.at(path), SocketType::Any);
    check_errno!(connect("f"), ECONNREFUSED);
    check_errno!(connect("none"), ENOENT);
    Ok(())
}

fn a_bound_socket_is_reached_by_its_name(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    let cx = c.cx();
    let listener = c.fs.bind(&cx, c.at("s"), SocketType::Stream, 0o600)?;
    check_errno!(
        c.fs.bind(&cx, c.at("s"), SocketType::Stream, 0o600),
        EADDRINUSE
    );
    check_eq!(c.attr("s")?.file_type, FileType::Socket, "its type");
    listener.listen(&cx, 4)?;
    c.fs.drop_caches();
    let mut ours = UnixStream::from(c.fs.connect(&cx, c.at("s"), SocketType::Stream)?);
    let mut theirs = UnixStream::from(listener.accept(&cx)?);
    let io = |result: std::io::Result<()>| result.map_err(super::Failure::new);
    io(ours.write_all(b"hello"))?;
    let mut into = [0; 5];
    io(theirs.set_nonblocking(false))?;
    io(theirs.read_exact(&mut into))?;
    check_eq!(&into, b"hello", "what came through");
    c.unlink("s")?;
    Ok(())
}

fn opening_a_socket_may_be_connecting_to_it(fx: &Fixture) -> CaseResult {
    let c = fx.remount(&Remount {
        flags: MountFlags {
            connect_sockets: true,
            ..MountFlags::default()
        },
        ..Remount::default()
    })?;
    let cx = c.cx();
    let listener = c.fs.bind(&cx, c.at("s"), SocketType::Stream, 0o600)?;
    if listener.node().is_synthetic() {
        check_errno!(c.open("s", OpenFlags::RDWR), ENXIO);
        return Ok(());
    }
    check_errno!(fx.root().open("s", OpenFlags::RDWR), ENXIO);
    check_errno!(c.open("s", OpenFlags::RDWR), ECONNREFUSED);
    listener.listen(&cx, 4)?;
    check_errno!(c.open("s", OpenFlags::RDWR | OpenFlags::DIRECT), EINVAL);
    let flags = OpenFlags::RDWR | OpenFlags::NONBLOCK;
    let ours = c.open("s", flags)?;
    let mut theirs = UnixStream::from(listener.accept(&cx)?);
    let io = |result: std::io::Result<()>| result.map_err(Failure::new);
    io(theirs.set_nonblocking(false))?;
    check_errno!(ours.read(&cx, &mut [0; 3]), EAGAIN);
    check_errno!(ours.seek(&cx, Whence::Set(0)), ESPIPE);
    check_eq!(ours.ready()?, Readiness::WRITE, "a new connection");
    check_eq!(ours.write(&cx, b"question")?, 8, "bytes written");
    let mut into = [0; 8];
    io(theirs.read_exact(&mut into))?;
    check_eq!(&into, b"question", "what came through");
    // What was sent before the end is read, byte by byte, and then the end.
    io(theirs.write_all(b"answer"))?;
    io(theirs.shutdown(std::net::Shutdown::Write))?;
    let mut read = Vec::new();
    loop {
        ours.wait_ready(&cx, Readiness::READ)?;
        match ours.read(&cx, &mut into[..1])? {
            0 => break,
            n => read.extend_from_slice(&into[..n]),
        }
    }
    check_eq!(read, b"answer".to_vec(), "before the end");
    // It is half closed: the other way is open yet.
    check_eq!(ours.write(&cx, b"late")?, 4, "bytes after its end");
    io(theirs.read_exact(&mut into[..4]))?;
    check_eq!(ours.stat(&cx)?.attr.file_type, FileType::Socket, "its type");
    c.fs.sync(&cx)?;
    ours.close(&cx)?;
    check_eq!(theirs.read(&mut into).map_err(Failure::new)?, 0, "the end");
    Ok(())
}
