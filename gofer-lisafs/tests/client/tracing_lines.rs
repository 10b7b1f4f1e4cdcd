//! The lines of `--trace`.

use std::io::{IoSlice, IoSliceMut};
use std::sync::{Arc, Mutex};

use gofer_lisafs::client::{Config, connect};
use gofer_lisafs::wire::{
    Fdid, Mid, OpenAtResp, PReadResp, PWriteResp, ReadData, SymlinkAtResp, WalkResp, WalkStatus,
};
use gofer_transport::Tracer;
use gofer_vfs::remote::{New, OpenMode, Owner};
use gofer_vfs::{Access, AttrMask, Name};

use crate::common::peer::{Marked, call, frame, inode, socket_only, start};

#[test]
fn each_message_is_one_line() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    let tracer = Tracer::new(move |line| sink.lock().unwrap().push(line.to_string()));
    let (stream, server) = start(|peer| {
        peer.mount(
            &[
                Mid::MOUNT,
                Mid::WALK,
                Mid::OPEN_AT,
                Mid::PREAD,
                Mid::PWRITE,
                Mid::FSTAT,
                Mid::SYMLINK_AT,
            ],
            65536,
        );
        peer.expect(Mid::WALK);
        let inodes = [inode(2, 0o040755), inode(3, 0o100644)];
        peer.reply(
            &WalkResp {
                status: WalkStatus::SUCCESS,
                inodes: &inodes,
            },
            &[],
        );
        peer.expect(Mid::OPEN_AT);
        let host = Marked::new();
        peer.reply(
            &OpenAtResp {
                open_fd: Fdid::new(9),
            },
            &[host.fd()],
        );
        peer.expect(Mid::PREAD);
        peer.reply(
            &PReadResp {
                data: ReadData(b"hello"),
            },
            &[],
        );
        peer.expect(Mid::PREAD);
        peer.reply(
            &PReadResp {
                data: ReadData(b""),
            },
            &[],
        );
        peer.expect(Mid::PWRITE);
        peer.reply(&PWriteResp { count: 5 }, &[]);
        peer.expect(Mid::SYMLINK_AT);
        peer.reply(
            &SymlinkAtResp {
                symlink: inode(4, 0o120777),
            },
            &[],
        );
        peer.expect(Mid::FSTAT);
        peer.error(13);
        peer.expect(Mid::FSTAT);
        peer.send(&frame(77, b"abc"), &[]);
        peer.expect(Mid::FSTAT);
        peer.send(&frame(3, b"abc"), &[]);
    });
    let fs = connect(
        stream,
        Config {
            tracer,
            ..socket_only()
        },
    )
    .unwrap();
    let root = fs.root(&call()).unwrap();
    let names = [Name::new(b"usr").unwrap(), Name::new(b"odd\nname").unwrap()];
    root.file.walk(&call(), &names, &mut drop).unwrap();
    let mode = OpenMode {
        access: Access::ReadWrite,
        truncate: false,
    };
    let handle = root.file.open(&call(), mode).unwrap();
    let mut buffer = [0; 4096];
    for _ in 0..2 {
        assert!(
            handle
                .read_at(&call(), &mut [IoSliceMut::new(&mut buffer)], 0)
                .error
                .is_none()
        );
    }
    let parts = [IoSlice::new(b"hel"), IoSlice::new(b"lo")];
    assert_eq!(handle.write_at(&call(), &parts, 7).n, 5);
    let link = Name::new(b"l").unwrap();
    let owner = Owner {
        uid: Some(0),
        gid: Some(0),
    };
    root.file
        .make(&call(), link, New::Symlink(b"to"), 0, owner)
        .unwrap();
    for _ in 0..3 {
        root.file.attr(&call(), AttrMask::BASIC).unwrap_err();
    }
    fs.shutdown();
    server.join().unwrap();
    insta::assert_snapshot!(lines.lock().unwrap().join("\n"));
}
