//! The pipe behind a synthetic fifo.

use super::*;

#[test]
fn opening_waits_for_the_other_end_unless_told_not_to() {
    for mode in ALL {
        let rig = with_fifo(mode);
        let write = OpenFlags::WRONLY;
        assert_eq!(
            errno(rig.open("fifo", write | NONBLOCK)),
            Some(Errno::ENXIO)
        );
        let reader = open(&rig, NONBLOCK);
        let writer = open(&rig, write | NONBLOCK);
        drop((reader, writer));
        thread::scope(|scope| {
            let reads = scope.spawn(|| open(&rig, OpenFlags::RDONLY));
            let writer = open(&rig, write);
            let reader = reads.join().unwrap();
            writer.write(&rig.cx(), b"hello").unwrap();
            let mut into = [0; 9];
            assert_eq!(reader.read(&rig.cx(), &mut into).unwrap(), 5);
            assert_eq!(&into[..5], b"hello");
        });
        // Both directions need no partner.
        drop(open(&rig, OpenFlags::RDWR));
        let cancel = Cancel::new().unwrap();
        cancel.set();
        let cx = Context {
            cancel: Some(&cancel),
            ..rig.cx()
        };
        let given_up = rig.fs.open(&cx, rig.at("fifo"), OpenFlags::RDONLY, 0);
        assert_eq!(errno(given_up), Some(Errno::EINTR));
        // Who gave up is no reader any more.
        assert_eq!(
            errno(rig.open("fifo", write | NONBLOCK)),
            Some(Errno::ENXIO)
        );
    }
}

#[test]
fn a_pipe_ends_breaks_fills_and_forgets_as_the_hosts() {
    let rig = with_fifo(InteropMode::Exclusive);
    let cx = rig.cx();
    let reader = open(&rig, NONBLOCK);
    let mut into = vec![0; 128 << 10];
    assert_eq!(reader.read(&cx, &mut into).unwrap(), 0, "no writer yet");
    let writer = open(&rig, OpenFlags::WRONLY | NONBLOCK);
    assert_eq!(errno(reader.read(&cx, &mut into)), Some(Errno::EAGAIN));
    let big = vec![7; 100 << 10];
    assert_eq!(writer.write(&cx, &big).unwrap(), 64 << 10);
    assert_eq!(errno(writer.write(&cx, b"x")), Some(Errno::EAGAIN));
    assert_eq!(reader.read(&cx, &mut into[..1000]).unwrap(), 1000);
    // A write of up to 4096 bytes is one piece or nothing, a longer one what there is room for.
    assert_eq!(errno(writer.write(&cx, &big[..4096])), Some(Errno::EAGAIN));
    assert_eq!(writer.write(&cx, &big[..4097]).unwrap(), 1000);
    assert_eq!(reader.read(&cx, &mut into).unwrap(), 64 << 10);
    assert_eq!(
        errno(reader.read_at(&cx, &mut into, 0)),
        Some(Errno::ESPIPE)
    );
    writer.write(&cx, b"left").unwrap();
    drop(writer);
    assert_eq!(reader.read(&cx, &mut into[..2]).unwrap(), 2);
    drop(reader);
    // What was left is gone with the last end.
    let reader = open(&rig, NONBLOCK);
    assert_eq!(reader.read(&cx, &mut into).unwrap(), 0);
    let writer = open(&rig, OpenFlags::WRONLY | NONBLOCK);
    drop(reader);
    assert_eq!(errno(writer.write(&cx, b"x")), Some(Errno::EPIPE));
    assert!(writer.sync(&cx, false).is_err());
    rig.fs.sync(&cx).unwrap();
}

#[test]
fn blocking_transfers_wait_for_each_other_and_lose_nothing() {
    let rig = with_fifo(InteropMode::Shared);
    let sent: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    let both = open(&rig, OpenFlags::RDWR);
    let (reader, writer) = (open(&rig, OpenFlags::RDONLY), open(&rig, OpenFlags::WRONLY));
    drop(both);
    let received = thread::scope(|scope| {
        let writes = scope.spawn(|| {
            assert_eq!(writer.write(&rig.cx(), &sent).unwrap(), sent.len());
            drop(writer);
        });
        let mut received = Vec::new();
        let mut into = vec![0; 10_000];
        // Giving up in between takes no byte.
        let late = Context {
            deadline: Some(Instant::now() - Duration::from_millis(1)),
            ..rig.cx()
        };
        loop {
            if let Ok(n) = reader.read(&late, &mut into[..10]) {
                received.extend_from_slice(&into[..n]);
            }
            match reader.read(&rig.cx(), &mut into).unwrap() {
                0 => break,
                n => received.extend_from_slice(&into[..n]),
            }
        }
        writes.join().unwrap();
        received
    });
    assert!(received == sent);
}

#[test]
fn reading_nothing_waits_for_nothing() {
    let rig = with_fifo(InteropMode::Exclusive);
    let end = open(&rig, OpenFlags::RDWR);
    assert_eq!(end.read(&rig.cx(), &mut []).unwrap(), 0);
    assert_eq!(end.write(&rig.cx(), &[]).unwrap(), 0);
}

#[test]
fn ends_of_a_pipe_tell_what_they_are_ready_for() {
    let rig = with_fifo(InteropMode::Exclusive);
    let cx = rig.cx();
    let is = |file: &File, ready: crate::Readiness| assert_eq!(file.ready().unwrap(), ready);
    use crate::Readiness as R;
    let reader = open(&rig, NONBLOCK);
    is(&reader, R::empty());
    let writer = open(&rig, OpenFlags::WRONLY | NONBLOCK);
    is(&reader, R::empty());
    is(&writer, R::WRITE);
    writer.write(&cx, b"x").unwrap();
    is(&reader, R::READ);
    assert_eq!(writer.write(&cx, &[0; 64 << 10]).unwrap(), (64 << 10) - 1);
    is(&writer, R::empty());
    reader.read(&cx, &mut [0; 4095]).unwrap();
    is(&writer, R::empty());
    reader.read(&cx, &mut [0; 1]).unwrap();
    is(&writer, R::WRITE);
    let late = Context {
        deadline: Some(Instant::now()),
        ..rig.cx()
    };
    assert_eq!(writer.wait_ready(&late, R::WRITE).unwrap(), R::WRITE);
    assert_eq!(
        errno(writer.wait_ready(&late, R::READ)),
        Some(Errno::ETIMEDOUT)
    );
    drop(writer);
    is(&reader, R::READ | R::HANGUP);
    let next = open(&rig, OpenFlags::WRONLY);
    thread::scope(|scope| {
        let waits = scope.spawn(|| next.wait_ready(&rig.cx(), R::empty()).unwrap());
        drop(reader);
        assert!(waits.join().unwrap().contains(R::ERROR));
    });
}
