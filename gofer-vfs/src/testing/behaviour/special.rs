//! Files that only this client has (semantics 11), and sockets.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::Fixture;
use super::check::CaseResult;
use crate::remote::SocketType;
use crate::{FileType, OpenFlags};

cases! {
    a_fifo_the_server_refuses_is_kept_here: no_fifos,
    a_mount_point_is_a_directory_like_others,
    connecting_to_a_file_that_is_no_socket_is_refused,
    a_bound_socket_is_reached_by_its_name,
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
