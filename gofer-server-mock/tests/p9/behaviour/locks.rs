//! Byte-range locks between processes and connections.

use super::*;

fn lock(kind: LockType, start: u64, length: u64, proc_id: u32) -> Tlock<'static> {
    Tlock {
        fid: Fid(1),
        r#type: kind,
        flags: LockFlags::BLOCK,
        start,
        length,
        proc_id,
        client_id: b"node",
    }
}

fn status(client: &Client, request: &Tlock<'_>) -> LockStatus {
    client.ask(request).unwrap().of::<Rlock>().status
}

fn test(kind: LockType, start: u64, length: u64, proc_id: u32) -> Tgetlock<'static> {
    Tgetlock {
        fid: Fid(1),
        r#type: kind,
        start,
        length,
        proc_id,
        client_id: b"node",
    }
}

fn two_clients(dir: &Path) -> (Client, Client) {
    let export = Export::open(dir, ALL).unwrap();
    let clients = [
        Client::of(&export).start(BASE),
        Client::of(&export).start(BASE),
    ];
    for client in &clients {
        client
            .open(Fid(1), &["dir", "file"], OpenFlags::RDWR)
            .unwrap();
    }
    clients.into()
}

#[test]
fn connections_conflict_by_range_and_are_told_at_once() {
    let dir = tree();
    let (a, b) = two_clients(dir.path());
    assert_eq!(
        status(&a, &lock(LockType::WRITE, 10, 10, 1)),
        LockStatus::SUCCESS
    );
    // The same process number on the same node, but another connection.
    assert_eq!(
        status(&b, &lock(LockType::READ, 19, 1, 1)),
        LockStatus::BLOCKED
    );
    assert_eq!(
        status(&b, &lock(LockType::WRITE, 20, 0, 1)),
        LockStatus::SUCCESS
    );
    assert_eq!(
        status(&a, &lock(LockType::READ, 0, 0, 1)),
        LockStatus::BLOCKED
    );
    for kind in [LockType::READ, LockType::WRITE, LockType::UNLOCK] {
        let answer = b.ask(&test(kind, 0, 15, 2)).unwrap();
        let held: Rgetlock<'_> = answer.of();
        assert_eq!(
            (held.r#type, held.start, held.length),
            (LockType::WRITE, 10, 10)
        );
        assert_eq!((held.proc_id, held.client_id), (1, &b"node"[..]));
    }
    let answer = b.ask(&test(LockType::WRITE, 0, 10, 2)).unwrap();
    let free: Rgetlock<'_> = answer.of();
    assert_eq!(
        (free.r#type, free.start, free.length, free.proc_id),
        (LockType::UNLOCK, 0, 10, 2)
    );
    assert_eq!(
        status(&a, &lock(LockType::UNLOCK, 0, 0, 1)),
        LockStatus::SUCCESS
    );
    assert_eq!(
        status(&b, &lock(LockType::READ, 19, 1, 1)),
        LockStatus::SUCCESS
    );
}

#[test]
fn processes_of_one_connection_conflict_too() {
    let dir = tree();
    let (a, _b) = two_clients(dir.path());
    assert_eq!(
        status(&a, &lock(LockType::READ, 0, 0, 1)),
        LockStatus::SUCCESS
    );
    assert_eq!(
        status(&a, &lock(LockType::READ, 0, 0, 2)),
        LockStatus::SUCCESS
    );
    assert_eq!(
        status(&a, &lock(LockType::WRITE, 0, 0, 1)),
        LockStatus::BLOCKED
    );
    assert_eq!(
        status(&a, &lock(LockType::UNLOCK, 0, 0, 2)),
        LockStatus::SUCCESS
    );
    assert_eq!(
        status(&a, &lock(LockType::WRITE, 0, 0, 1)),
        LockStatus::SUCCESS
    );
    let reclaim = Tlock {
        flags: LockFlags::RECLAIM,
        ..lock(LockType::READ, 0, 0, 3)
    };
    assert_eq!(error(&a, &reclaim), Some(EINVAL));
    assert_eq!(error(&a, &lock(LockType(3), 0, 0, 3)), Some(EINVAL));
    assert_eq!(
        error(&a, &lock(LockType::READ, u64::MAX, 2, 3)),
        Some(EINVAL)
    );
    assert_eq!(
        error(
            &a,
            &Tlock {
                fid: ROOT,
                ..lock(LockType::READ, 0, 0, 3)
            }
        ),
        Some(EBADF)
    );
}

#[test]
fn locks_end_with_the_fid_and_with_the_connection() {
    let dir = tree();
    let export = Export::open(dir.path(), ALL).unwrap();
    let (a, server) = Client::with_limits(&export, Limits::default());
    let a = a.start(BASE);
    let b = Client::of(&export).start(BASE);
    for client in [&a, &b] {
        client
            .open(Fid(1), &["dir", "file"], OpenFlags::RDWR)
            .unwrap();
    }
    assert_eq!(
        status(&a, &lock(LockType::WRITE, 0, 0, 1)),
        LockStatus::SUCCESS
    );
    a.clunk(Fid(1)).unwrap();
    assert_eq!(
        status(&b, &lock(LockType::WRITE, 0, 0, 1)),
        LockStatus::SUCCESS
    );
    assert_eq!(
        status(&b, &lock(LockType::UNLOCK, 0, 0, 1)),
        LockStatus::SUCCESS
    );
    a.open(Fid(1), &["dir", "file"], OpenFlags::RDWR).unwrap();
    assert_eq!(
        status(&a, &lock(LockType::WRITE, 0, 0, 1)),
        LockStatus::SUCCESS
    );
    assert_eq!(
        status(&b, &lock(LockType::WRITE, 0, 0, 1)),
        LockStatus::BLOCKED
    );
    drop(a);
    server.join().unwrap().unwrap();
    assert_eq!(
        status(&b, &lock(LockType::WRITE, 0, 0, 1)),
        LockStatus::SUCCESS
    );
}
