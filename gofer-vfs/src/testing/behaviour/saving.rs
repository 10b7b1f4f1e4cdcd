//! Save and restore over a new connection (semantics 21).

use std::sync::Arc;

use super::{CaseResult, Client, Failure, Fixture, Kept, Remount, Revival};
use crate::error::Errno;
use crate::flags::OpenFlags;
use crate::remote::{LockKind, SocketType};
use crate::{File, Keep, Node, Verify, Whence};

cases![
    open_files_go_on_after_a_restore,
    deleted_files_are_restored_with_their_content,
    locks_are_restored_with_their_files,
    what_was_added_meanwhile_is_seen_after_a_restore,
    a_restore_says_what_differs,
    a_restore_refuses_what_is_no_image,
    what_this_client_alone_has_is_restored: no_fifos,
    a_fifo_is_restored_with_what_it_held: usable_fifos,
];

/// An image of what `fs` has in use.
fn save(fs: &Client, files: &[(u64, &File)], nodes: &[(u64, &Node)]) -> Result<Vec<u8>, Failure> {
    let mut image = Vec::new();
    let keep = Keep {
        files,
        nodes,
        ..Keep::default()
    };
    fs.fs
        .checkpoint(&fs.cx(), &keep, &mut image)
        .map_err(Failure::new)?;
    Ok(image)
}

/// Another client that goes on from an image.
fn restore(fx: &Fixture, image: Vec<u8>) -> Result<(Client, Kept), Failure> {
    let revival = Arc::new(Revival {
        image,
        verify: Verify::default(),
        ..Revival::default()
    });
    let how = Remount {
        revival: Some(revival.clone()),
        ..Remount::default()
    };
    let fs = fx.remount(&how)?;
    let kept = std::mem::take(&mut *revival.kept.lock());
    Ok((fs, kept))
}

fn open_files_go_on_after_a_restore(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.create("d/f", "0123456789")?;
    let file = fs.open("d/f", OpenFlags::RDWR)?;
    fs.write_all(&file, b"abcd", 0)?;
    file.seek(&fs.cx(), Whence::Set(6)).map_err(Failure::new)?;
    let appends = fs.open("d/f", OpenFlags::WRONLY | OpenFlags::APPEND)?;
    let dir = fs.open("d", OpenFlags::DIRECTORY | OpenFlags::RDONLY)?;
    let ino = file.node().ino();
    let place = dir.node().clone();
    let files = [(1, &file), (2, &appends), (3, &dir)];
    let image = save(&fs, &files, &[(4, &place)])?;
    drop((file, appends, dir, place));

    let (again, (files, nodes)) = restore(fx, image)?;
    let [(1, file), (2, appends), (3, dir)] = &files[..] else {
        return Err(Failure::new("files under other numbers"));
    };
    let mut into = [0; 4];
    let n = file.read(&again.cx(), &mut into).map_err(Failure::new)?;
    check_eq!(&into[..n], b"6789", "where the file stood");
    let n = appends.write(&again.cx(), b"+").map_err(Failure::new)?;
    check_eq!(n, 1, "an append");
    check_eq!(again.read("d/f")?, b"abcd456789+", "content");
    check_eq!(file.node().ino(), ino, "inode number");
    check_eq!(nodes[0].1.path(), b"/d", "a place");
    check_eq!(dir.node(), &nodes[0].1, "an open directory");
    again.fs.sync(&again.cx()).map_err(Failure::new)?;
    check_eq!(fx.outside.read(b"d/f")?, b"abcd456789+", "on the server");
    Ok(())
}

fn deleted_files_are_restored_with_their_content(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    let file = fs.open("f", OpenFlags::CREAT | OpenFlags::RDWR)?;
    fs.write_all(&file, b"begin", 0)?;
    fs.write_all(&file, b"end", 300_000)?;
    fs.unlink("f")?;
    let image = save(&fs, &[(1, &file)], &[])?;
    drop(file);
    let (again, (files, _)) = restore(fx, image)?;
    let file = &files[0].1;
    let mut into = vec![1; 300_010];
    let n = file
        .read_at(&again.cx(), &mut into, 0)
        .map_err(Failure::new)?;
    check_eq!(n, 300_003, "size");
    check_eq!(&into[..6], b"begin\0", "the beginning");
    check_eq!(&into[299_999..n], b"\0end", "the end");
    let stat = file.stat(&again.cx()).map_err(Failure::new)?;
    check_eq!(stat.attr.nlink, 0, "links");
    fs_is_empty(fx)?;
    again.write_all(file, b"B", 0)?;
    file.read_at(&again.cx(), &mut into[..1], 0)
        .map_err(Failure::new)?;
    check_eq!(into[0], b'B', "written afterwards");
    check_errno!(again.stat("f"), ENOENT);
    Ok(())
}

fn fs_is_empty(fx: &Fixture) -> CaseResult {
    check_eq!(fx.outside.list(b"")?, Vec::<Vec<u8>>::new(), "names");
    Ok(())
}

fn locks_are_restored_with_their_files(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    let file = fs.open("f", OpenFlags::RDWR)?;
    file.flock(&fs.cx(), LockKind::Write, false)
        .map_err(Failure::new)?;
    let held = file.held_locks();
    let image = save(&fs, &[(1, &file)], &[])?;
    drop(file);
    let (again, (files, _)) = restore(fx, image)?;
    check_eq!(files[0].1.held_locks(), held, "locks");
    let other = again.open("f", OpenFlags::RDWR)?;
    let taken = other.flock(&again.cx(), LockKind::Read, false);
    check_eq!(
        taken.map_err(|error| error.errno()),
        Err(Errno::EAGAIN),
        "a second lock"
    );
    Ok(())
}

fn what_was_added_meanwhile_is_seen_after_a_restore(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    check_errno!(fs.stat("d/new"), ENOENT);
    check_eq!(fs.list("d")?, Vec::<Vec<u8>>::new(), "names before");
    let dir = fs.open("d", OpenFlags::DIRECTORY | OpenFlags::RDONLY)?;
    let image = save(&fs, &[(1, &dir)], &[])?;
    drop(dir);
    fx.outside.write(b"d/new", b"x")?;
    let (again, kept) = restore(fx, image)?;
    check_eq!(again.attr("d/new")?.size, 1, "size");
    check_eq!(again.list("d")?, [b"new".to_vec()], "names after");
    drop(kept);
    Ok(())
}

fn a_restore_says_what_differs(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.create("d/f", "123")?;
    let file = fs.open("d/f", OpenFlags::RDONLY)?;
    let image = save(&fs, &[(1, &file)], &[])?;
    drop(file);
    fx.outside.append(b"d/f", b"4")?;
    let Err(failure) = restore(fx, image.clone()) else {
        return Err(Failure::new("another size was not noticed"));
    };
    let told = failure.to_string();
    let expected = "restore /d/f: the size was 3 bytes, is 4 bytes";
    check!(told.contains(expected), "{told}");
    fx.outside.unlink(b"d/f")?;
    let Err(failure) = restore(fx, image) else {
        return Err(Failure::new("a missing file was not noticed"));
    };
    let told = failure.to_string();
    check!(
        told.contains("restore /d/f: the file was there, is missing"),
        "{told}"
    );
    Ok(())
}

fn a_restore_refuses_what_is_no_image(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    let file = fs.open("f", OpenFlags::RDONLY)?;
    let mut image = save(&fs, &[(1, &file)], &[])?;
    image.truncate(image.len() - 3);
    for image in [image, b"no image".to_vec(), Vec::new()] {
        check!(restore(fx, image).is_err(), "it was accepted");
    }
    Ok(())
}

fn what_this_client_alone_has_is_restored(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.mkfifo("d/p")?;
    fs.chmod("d/p", 0o600)?;
    let before = fs.lstat("d/p")?;
    let socket = fs
        .fs
        .bind(&fs.cx(), fs.at("d/s"), SocketType::Stream, 0o600)?;
    let image = save(&fs, &[], &[])?;
    let (again, _) = restore(fx, image)?;
    let names = again.list("d")?;
    check!(
        names.contains(&b"p".to_vec()) && names.contains(&b"s".to_vec()),
        "the listing is {names:?}"
    );
    let after = again.lstat("d/p")?;
    check_eq!(after.ino, before.ino, "inode number");
    check_eq!(after.attr.mode, 0o600, "mode");
    check_eq!(after.attr.mtime, before.attr.mtime, "modification time");
    check_errno!(again.mkfifo("d/p"), EEXIST);
    again.unlink("d/p")?;
    check!(!fx.outside.exists(b"d/p"), "the server made it");
    drop(socket);
    Ok(())
}

fn a_fifo_is_restored_with_what_it_held(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkfifo("p")?;
    let both = fs.open("p", OpenFlags::RDWR | OpenFlags::NONBLOCK)?;
    both.write(&fs.cx(), b"early").map_err(Failure::new)?;
    let image = save(&fs, &[(1, &both)], &[])?;
    drop(both);
    let (again, (files, _)) = restore(fx, image)?;
    let both = &files[0].1;
    both.write(&again.cx(), b"late").map_err(Failure::new)?;
    let mut content = Vec::new();
    let mut into = [0; 16];
    while content.len() < 9 {
        let n = both.read(&again.cx(), &mut into).map_err(Failure::new)?;
        content.extend_from_slice(&into[..n]);
    }
    check_eq!(content, b"earlylate".to_vec(), "what it held");
    check_errno!(both.read(&again.cx(), &mut into), EAGAIN);
    Ok(())
}
