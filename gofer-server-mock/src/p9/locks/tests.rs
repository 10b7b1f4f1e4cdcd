use super::*;

const FILE: Identity = Identity {
    dev_major: 1,
    dev_minor: 2,
    ino: 3,
};

fn lock(process: u32, exclusive: bool, start: u64, length: u64) -> Lock {
    let owner = Owner {
        session: 0,
        proc_id: process,
        client_id: b"node".to_vec(),
    };
    Lock::new(exclusive, start, length, owner).unwrap()
}

fn ranges(locks: &Arc<Locks>) -> Vec<(u32, bool, u64, u64)> {
    let files = locks.files.lock();
    let held = files.get(&FILE).map(Vec::as_slice).unwrap_or_default();
    let mut ranges: Vec<_> = held
        .iter()
        .map(|held| &held.lock)
        .map(|lock| {
            (
                lock.owner.proc_id,
                lock.exclusive,
                lock.start,
                lock.length(),
            )
        })
        .collect();
    ranges.sort_unstable();
    ranges
}

#[test]
fn readers_share_and_writers_do_not() {
    let locks = Arc::new(Locks::default());
    let (a, b) = (locks.handle(FILE), locks.handle(FILE));
    assert_eq!(a.take(lock(1, false, 0, 10)), Ok(true));
    assert_eq!(b.take(lock(2, false, 5, 10)), Ok(true));
    assert_eq!(b.take(lock(2, true, 9, 1)), Ok(false));
    assert_eq!(b.take(lock(2, true, 10, 1)), Ok(true));
    assert_eq!(
        b.conflict(&lock(2, true, 0, 0)),
        Some(lock(1, false, 0, 10))
    );
    assert_eq!(a.conflict(&lock(1, false, 0, 10)), None);
}

#[test]
fn a_lock_replaces_and_splits_those_of_its_owner() {
    let locks = Arc::new(Locks::default());
    let handle = locks.handle(FILE);
    assert_eq!(handle.take(lock(1, true, 0, 0)), Ok(true));
    assert_eq!(handle.take(lock(1, false, 10, 10)), Ok(true));
    assert_eq!(
        ranges(&locks),
        [(1, false, 10, 10), (1, true, 0, 10), (1, true, 20, 0)]
    );
    handle.give_back(&lock(1, true, 5, 10)).unwrap();
    assert_eq!(
        ranges(&locks),
        [(1, false, 15, 5), (1, true, 0, 5), (1, true, 20, 0)]
    );
    handle.give_back(&lock(1, true, 0, 0)).unwrap();
    assert_eq!(ranges(&locks), []);
    assert!(locks.files.lock().is_empty());
}

#[test]
fn locks_end_with_their_handle_alone() {
    let locks = Arc::new(Locks::default());
    let (first, second) = (locks.handle(FILE), locks.handle(FILE));
    assert_eq!(first.take(lock(1, true, 0, 10)), Ok(true));
    assert_eq!(second.take(lock(1, true, 20, 10)), Ok(true));
    drop(first);
    assert_eq!(ranges(&locks), [(1, true, 20, 10)]);
    drop(second);
    assert!(locks.files.lock().is_empty());
}

#[test]
fn the_last_byte_is_as_good_as_any() {
    let top = lock(1, true, u64::MAX, 1);
    assert_eq!((top.start, top.last), (u64::MAX, u64::MAX));
    let owner = top.owner.clone();
    assert_eq!(Lock::new(true, u64::MAX, 2, owner), Err(Errno::INVAL));
    let locks = Arc::new(Locks::default());
    let handle = locks.handle(FILE);
    assert_eq!(handle.take(lock(1, true, 0, 0)), Ok(true));
    handle.give_back(&top).unwrap();
    assert_eq!(ranges(&locks), [(1, true, 0, u64::MAX)]);
}

#[test]
fn too_many_locks_are_refused_and_pieces_count() {
    let locks = Arc::new(Locks::default());
    let handle = locks.handle(FILE);
    for index in 0..LOCKS_PER_FILE_MAX as u64 {
        assert_eq!(handle.take(lock(1, true, index * 4, 3)), Ok(true));
    }
    assert_eq!(handle.take(lock(1, true, 1 << 40, 1)), Err(Errno::NOLCK));
    assert_eq!(handle.give_back(&lock(1, true, 1, 1)), Err(Errno::NOLCK));
    handle.give_back(&lock(1, true, 0, 3)).unwrap();
    handle.give_back(&lock(1, true, 5, 1)).unwrap();
}
