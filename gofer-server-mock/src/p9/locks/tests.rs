//! Byte ranges of locks.

use super::*;

const FILE: Identity = Identity {
    dev_major: 1,
    dev_minor: 2,
    ino: 3,
};

const SESSION: u64 = 5;

fn lock(process: u32, exclusive: bool, start: u64, length: u64) -> Lock {
    let owner = Owner::new(SESSION, process, b"node").unwrap();
    Lock::new(exclusive, start, length, owner).unwrap()
}

fn ranges(locks: &Arc<Locks>) -> Vec<(u32, bool, u64, u64)> {
    let table = locks.table.lock();
    let mut ranges: Vec<_> = table
        .held(FILE)
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

fn assert_nothing_left(locks: &Locks) {
    let table = locks.table.lock();
    assert!(
        table.files.is_empty() && table.sessions.is_empty(),
        "{table:?}"
    );
}

#[test]
fn readers_share_and_writers_do_not() {
    let locks = Arc::new(Locks::default());
    let (a, b) = (locks.handle(SESSION, FILE), locks.handle(SESSION, FILE));
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
    let handle = locks.handle(SESSION, FILE);
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
    assert_nothing_left(&locks);
}

#[test]
fn locks_end_with_their_handle_alone() {
    let locks = Arc::new(Locks::default());
    let (first, second) = (locks.handle(SESSION, FILE), locks.handle(SESSION, FILE));
    assert_eq!(first.take(lock(1, true, 0, 10)), Ok(true));
    assert_eq!(second.take(lock(1, true, 20, 10)), Ok(true));
    drop(first);
    assert_eq!(ranges(&locks), [(1, true, 20, 10)]);
    drop(second);
    assert_nothing_left(&locks);
}

#[test]
fn the_last_byte_is_as_good_as_any() {
    let top = lock(1, true, u64::MAX, 1);
    assert_eq!((top.start, top.last), (u64::MAX, u64::MAX));
    let owner = top.owner.clone();
    assert_eq!(Lock::new(true, u64::MAX, 2, owner), Err(Errno::INVAL));
    let locks = Arc::new(Locks::default());
    let handle = locks.handle(SESSION, FILE);
    assert_eq!(handle.take(lock(1, true, 0, 0)), Ok(true));
    handle.give_back(&top).unwrap();
    assert_eq!(ranges(&locks), [(1, true, 0, u64::MAX)]);
}

#[test]
fn too_many_locks_on_a_file_are_refused_and_pieces_count() {
    let locks = Arc::new(Locks::default());
    let handle = locks.handle(SESSION, FILE);
    for index in 0..FILE_LOCKS_MAX as u64 {
        assert_eq!(handle.take(lock(1, true, index * 4, 3)), Ok(true));
    }
    assert_eq!(handle.take(lock(1, true, 1 << 40, 1)), Err(Errno::NOLCK));
    assert_eq!(handle.give_back(&lock(1, true, 1, 1)), Err(Errno::NOLCK));
    handle.give_back(&lock(1, true, 0, 3)).unwrap();
    handle.give_back(&lock(1, true, 5, 1)).unwrap();
}

#[test]
fn a_session_cannot_have_more_than_its_share() {
    let locks = Arc::new(Locks::default());
    let mut handles = Vec::new();
    let mut taken = 0;
    'all: for ino in 0.. {
        let handle = locks.handle(SESSION, Identity { ino, ..FILE });
        for index in 0..1000 {
            match handle.take(lock(1, true, index * 2, 1)) {
                Ok(granted) => taken += usize::from(granted),
                Err(errno) => {
                    assert_eq!(errno, Errno::NOLCK);
                    break 'all;
                }
            }
        }
        handles.push(handle);
    }
    assert_eq!(taken, SESSION_LOCKS_MAX);
    let other = locks.handle(SESSION + 1, FILE);
    let owner = Owner::new(SESSION + 1, 1, b"").unwrap();
    assert_eq!(
        other.take(Lock::new(true, 1 << 40, 1, owner).unwrap()),
        Ok(true)
    );
    drop((handles, other));
    assert_nothing_left(&locks);
    assert_eq!(Owner::new(1, 1, &[b'x'; 256]), Err(Errno::NAMETOOLONG));
}
