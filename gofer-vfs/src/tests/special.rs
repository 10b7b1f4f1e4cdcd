//! Fifos and devices of a server that hands out no descriptors (semantics 16).

use std::time::{Duration, Instant};

use super::*;
use crate::clock::Clock;
use crate::remote::Cancel;
use crate::testing::mem_remote::Fault;
use crate::{AllocMode, Device, FileType, Readiness, Whence};

const ZERO: Device = Device { major: 1, minor: 5 };

fn with_fifo(mode: InteropMode) -> Rig {
    let rig = Rig::new(mode);
    rig.outside.mkfifo(b"p").unwrap();
    rig
}

fn with_device(setup: Setup) -> Rig {
    let rig = Setup::new(InteropMode::Exclusive).mount();
    let (cx, device) = (rig.cx(), FileType::CharDevice);
    rig.fs
        .mknod(&cx, rig.at("zero"), device, 0o600, ZERO)
        .unwrap();
    setup.mount_on(rig.server.clone())
}

const NONBLOCK: OpenFlags = OpenFlags::NONBLOCK;

#[test]
fn a_writer_without_a_reader_waits_fails_or_gives_up() {
    for mode in InteropMode::ALL {
        let rig = with_fifo(mode);
        let write = OpenFlags::WRONLY;
        assert_eq!(errno(rig.open("p", write | NONBLOCK)), Errno::ENXIO);
        // Who reads does not wait where nobody can tell whether somebody writes.
        let reader = rig.open("p", OpenFlags::RDONLY).unwrap();
        let writer = rig.open("p", write).unwrap();
        drop((reader, writer));
        drop(rig.open("p", OpenFlags::RDWR).unwrap());
        let cancel = Cancel::new().unwrap();
        let late = Context {
            deadline: Some(Instant::now() + Duration::from_millis(2)),
            ..rig.cx()
        };
        assert_eq!(
            errno(rig.fs.open(&late, rig.at("p"), write, 0)),
            Errno::ETIMEDOUT
        );
        std::thread::scope(|scope| {
            let cx = Context {
                cancel: Some(&cancel),
                ..rig.cx()
            };
            let (rig, asked) = (&rig, std::sync::mpsc::channel());
            let sender = asked.0;
            rig.remote
                .before(Op::Open, move || sender.send(()).unwrap());
            let opens = scope.spawn(move || rig.fs.open(&cx, rig.at("p"), write, 0).map(drop));
            asked.1.recv().unwrap();
            cancel.set();
            assert_eq!(errno(opens.join().unwrap()), Errno::EINTR, "{mode}");
        });
        assert_eq!(rig.remote.live_handles(), 0, "{mode}");
    }
}

#[test]
fn a_blocked_writer_is_let_in_when_a_reader_comes() {
    let rig = with_fifo(InteropMode::Exclusive);
    let (sender, asked) = std::sync::mpsc::channel();
    rig.remote
        .before(Op::Open, move || sender.send(()).unwrap());
    std::thread::scope(|scope| {
        let rig = &rig;
        let opens = scope.spawn(move || rig.open("p", OpenFlags::WRONLY).unwrap());
        asked.recv().unwrap();
        let reader = rig.open("p", OpenFlags::RDONLY).unwrap();
        let writer = opens.join().unwrap();
        writer.write(&rig.cx(), b"hello").unwrap();
        drop(writer);
        let mut into = [0; 8];
        assert_eq!(reader.read(&rig.cx(), &mut into[..2]).unwrap(), 2);
        assert_eq!(reader.read(&rig.cx(), &mut into[2..]).unwrap(), 3);
        assert_eq!(&into[..5], b"hello");
        assert_eq!(reader.read(&rig.cx(), &mut into).unwrap(), 0);
    });
}

#[test]
fn fifos_have_no_offsets_and_are_never_cached() {
    for mode in InteropMode::ALL {
        let rig = with_fifo(mode);
        let cx = rig.cx();
        let both = rig.open("p", OpenFlags::RDWR | NONBLOCK).unwrap();
        let mut into = [0; 8];
        assert_eq!(errno(both.read_at(&cx, &mut into, 0)), Errno::ESPIPE);
        assert_eq!(errno(both.write_at(&cx, b"x", 0)), Errno::ESPIPE);
        assert_eq!(errno(both.seek(&cx, Whence::Set(0))), Errno::ESPIPE);
        let nothing = AllocMode::empty();
        assert_eq!(errno(both.allocate(&cx, nothing, 0, 1)), Errno::ESPIPE);
        assert_eq!(errno(both.read(&cx, &mut into)), Errno::EAGAIN, "{mode}");
        for round in 0..3 {
            rig.calls();
            both.write(&cx, &[round; 4]).unwrap();
            // The size says 0, which is no end.
            assert_eq!(both.read(&cx, &mut into).unwrap(), 4);
            assert_eq!(into[..4], [round; 4]);
            let moved = rig.calls();
            assert_eq!(moved, [Op::Write, Op::Read], "{mode}");
        }
        assert_eq!(rig.remote.count(Op::Open), 1);
        drop(rig.open("p", OpenFlags::RDONLY | NONBLOCK).unwrap());
        assert_eq!(
            rig.remote.count(Op::Open),
            2,
            "each has a handle of its own"
        );
        drop(both);
        assert_eq!(rig.remote.live_handles(), 0, "closed with its description");
    }
}

#[test]
fn devices_have_offsets_and_no_end() {
    for mode in InteropMode::ALL {
        let rig = with_device(Setup::new(mode));
        let cx = rig.cx();
        let attr = rig.attr("zero");
        assert_eq!((attr.file_type, attr.rdev), (FileType::CharDevice, ZERO));
        let direct = rig.open("zero", OpenFlags::DIRECT);
        assert_eq!(errno(direct), Errno::EINVAL);
        let device = rig.open("zero", OpenFlags::RDWR).unwrap();
        let mut into = [9; 4];
        assert_eq!(device.read_at(&cx, &mut into, 1000).unwrap(), 4, "{mode}");
        assert_eq!(into, [0; 4]);
        assert_eq!(
            errno(device.read_at(&cx, &mut into, u64::MAX)),
            Errno::EINVAL
        );
        assert_eq!(device.seek(&cx, Whence::Set(70)).unwrap(), 70);
        assert_eq!(device.write(&cx, b"abc").unwrap(), 3);
        assert_eq!(device.seek(&cx, Whence::Cur(0)).unwrap(), 73);
        assert_eq!(rig.attr("zero").size, 0, "{mode}");
        let nothing = AllocMode::empty();
        assert_eq!(errno(device.allocate(&cx, nothing, 0, 1)), Errno::ENODEV);
        let ready = Readiness::READ | Readiness::WRITE;
        assert_eq!(device.ready().unwrap(), ready);
        assert_eq!(device.wait_ready(&cx, Readiness::READ).unwrap(), ready);
        let mapped = device.map(&cx, 0, 4096, Default::default(), crate::Sharing::Shared);
        assert_eq!(errno(mapped), Errno::ENODEV, "{mode}: no descriptor");
    }
}

#[test]
fn times_of_special_files_are_this_clients_where_it_is_alone() {
    for mode in EW {
        let rig = with_fifo(mode);
        let cx = rig.cx();
        let both = rig.open("p", OpenFlags::RDWR | NONBLOCK).unwrap();
        rig.clock.advance(100);
        // A read that finds nothing is one all the same.
        assert_eq!(errno(both.read(&cx, &mut [0; 8])), Errno::EAGAIN);
        assert_eq!(rig.attr("p").atime, rig.clock.now(), "{mode}");
        rig.clock.advance(100);
        both.write(&cx, b"x").unwrap();
        let attr = rig.attr("p");
        let now = rig.clock.now();
        assert_eq!((attr.mtime, attr.ctime), (now, now), "{mode}");
        assert_ne!(attr.atime, now);
    }
}

#[test]
fn a_readonly_mount_lets_write_to_fifos_and_devices() {
    for mode in InteropMode::ALL {
        let rig = with_device(Setup::new(mode).readonly());
        rig.outside.mkfifo(b"p").unwrap();
        rig.outside.write(b"f", b"").unwrap();
        let device = rig.open("zero", OpenFlags::RDWR).unwrap();
        assert_eq!(device.write(&rig.cx(), b"x").unwrap(), 1, "{mode}");
        drop(rig.open("p", OpenFlags::RDWR).unwrap());
        assert_eq!(errno(rig.open("f", OpenFlags::WRONLY)), Errno::EROFS);
        let write = crate::AccessMask::WRITE;
        rig.fs.access(&rig.cx(), rig.at("zero"), write).unwrap();
        rig.fs.access(&rig.cx(), rig.at("p"), write).unwrap();
        let refused = rig.fs.access(&rig.cx(), rig.at("f"), write);
        assert_eq!(errno(refused), Errno::EROFS, "{mode}");
    }
}

#[test]
fn what_a_fifo_could_not_be_opened_for_is_closed() {
    let rig = with_fifo(InteropMode::Shared);
    rig.remote.inject(Op::Open, 0, Fault::Refuse(Errno::EACCES));
    assert_eq!(errno(rig.open("p", OpenFlags::RDONLY)), Errno::EACCES);
    assert_eq!(rig.remote.live_handles(), 0);
}

#[test]
fn handles_of_fifos_and_devices_are_closed_at_once() {
    for mode in InteropMode::ALL {
        let rig = with_fifo(mode);
        let (cx, device) = (rig.cx(), FileType::CharDevice);
        rig.fs
            .mknod(&cx, rig.at("zero"), device, 0o600, ZERO)
            .unwrap();
        for path in ["p", "zero"] {
            let file = rig.open(path, NONBLOCK).unwrap();
            let (sender, closed) = std::sync::mpsc::channel();
            // Closes that are sent together with others do not come here.
            rig.remote
                .before(Op::Close, move || sender.send(()).unwrap());
            drop(file);
            assert!(closed.try_recv().is_ok(), "{path} {mode}");
        }
    }
}
