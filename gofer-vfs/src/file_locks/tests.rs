//! Locks against a map of bytes, against the host's kernel, and among threads.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::FcntlArg;
use nix::libc;
use proptest::prelude::*;

use super::ranges::{Held, RangeLocks};
use super::*;
use crate::interop::InteropMode;
use crate::options::LockPlace;
use crate::remote::Cancel;
use crate::testing::mem_remote::{MemConfig, MemServer};
use crate::tests::Rig;
use crate::{Filesystem, MountFlags, MountOptions, OpenFlags, Trans};

/// Bytes the random tests lock, so that ranges meet.
const SPAN: u64 = 24;

fn any_kind() -> impl Strategy<Value = LockKind> {
    prop::sample::select(vec![LockKind::Read, LockKind::Write, LockKind::Unlock])
}

/// A range within the span, or from somewhere in it to the end of all files.
fn any_range() -> impl Strategy<Value = LockRange> {
    (0..SPAN as i64, 0..SPAN as i64).prop_map(|(start, length)| {
        let length = length.min(SPAN as i64 - start);
        LockRange::new(start, length).unwrap()
    })
}

proptest! {
    #[test]
    fn ranges_behave_as_a_map_of_bytes(
        steps in prop::collection::vec((0u8..3, any_kind(), any_range()), 1..60)
    ) {
        let mut locks = RangeLocks::<u8>::default();
        // One more byte stands for all behind the span.
        let mut bytes: Vec<BTreeMap<u8, bool>> = vec![BTreeMap::new(); SPAN as usize + 1];
        for (owner, kind, range) in steps {
            let wanted = Held { owner, exclusive: kind == LockKind::Write, range, pid: 0 };
            let last = if range.length() == 0 { SPAN } else { range.start() + range.length() - 1 };
            let covered = range.start() as usize..=last as usize;
            let taken = kind != LockKind::Unlock && bytes[covered.clone()].iter().any(|byte| {
                byte.iter().any(|(other, exclusive)| {
                    *other != owner && (*exclusive || wanted.exclusive)
                })
            });
            if kind != LockKind::Unlock {
                prop_assert_eq!(locks.conflicts(&wanted).next().is_some(), taken);
            }
            if taken {
                continue;
            }
            locks.set(owner, kind, range, 0);
            for byte in &mut bytes[covered] {
                match kind {
                    LockKind::Unlock => drop(byte.remove(&owner)),
                    _ => drop(byte.insert(owner, wanted.exclusive)),
                }
            }
            let mut found: Vec<BTreeMap<u8, bool>> = vec![BTreeMap::new(); SPAN as usize + 1];
            for held in locks.iter() {
                let last = match held.range.length() {
                    0 => SPAN,
                    length => held.range.start() + length - 1,
                };
                for at in held.range.start()..=last {
                    let twice = found[at as usize].insert(held.owner, held.exclusive);
                    prop_assert_eq!(twice, None, "two locks of one owner overlap");
                }
            }
            prop_assert_eq!(&found, &bytes);
            // Neighbours of one kind are one lock.
            let all: Vec<Held<u8>> = locks.iter().copied().collect();
            for pair in all.windows(2).filter(|pair| pair[0].owner == pair[1].owner) {
                let apart = pair[0].exclusive != pair[1].exclusive
                    || pair[0].range.start() + pair[0].range.length() < pair[1].range.start();
                prop_assert!(apart, "{:?}", pair);
            }
        }
    }
}

/// A rig with one file, opened `count` times.
fn opened(count: usize) -> (Rig, Vec<File>) {
    let rig = Rig::new(InteropMode::Exclusive);
    rig.outside_file("f");
    let files = (0..count).map(|_| open(&rig, OpenFlags::RDWR)).collect();
    (rig, files)
}

fn open(rig: &Rig, flags: OpenFlags) -> File {
    rig.fs.open(&rig.cx(), rig.at("f"), flags, 0).unwrap()
}

impl Rig {
    fn outside_file(&self, path: &str) {
        use crate::testing::Outside;
        self.outside.write(path.as_bytes(), b"content").unwrap();
    }
}

fn record(kind: LockKind, owner: LockOwner, start: i64, length: i64) -> RecordLock {
    RecordLock {
        kind,
        range: LockRange::new(start, length).unwrap(),
        owner,
        pid: 7,
    }
}

/// The host's word for a lock.
fn host_lock(kind: LockKind, range: LockRange) -> libc::flock {
    let kind = match kind {
        LockKind::Read => libc::F_RDLCK,
        LockKind::Write => libc::F_WRLCK,
        LockKind::Unlock => libc::F_UNLCK,
    };
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: range.start() as i64,
        l_len: range.length() as i64,
        l_pid: 0,
    }
}

/// What stands in the way on the host: kind, start and length.
fn host_conflict(
    file: &std::fs::File,
    kind: LockKind,
    range: LockRange,
) -> Option<(i32, i64, i64)> {
    let mut asked = host_lock(kind, range);
    nix::fcntl::fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut asked)).unwrap();
    let kind = i32::from(asked.l_type);
    (kind != libc::F_UNLCK).then_some((kind, asked.l_start, asked.l_len))
}

fn our_conflict(
    rig: &Rig,
    file: &File,
    kind: LockKind,
    range: LockRange,
) -> Option<(i32, i64, i64)> {
    let lock = RecordLock {
        kind,
        range,
        owner: LockOwner::Description,
        pid: 0,
    };
    let found = file.get_lock(&rig.cx(), &lock).unwrap()?;
    let shown = host_lock(found.kind, found.range);
    Some((i32::from(shown.l_type), shown.l_start, shown.l_len))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn locks_of_descriptions_come_out_as_on_the_host(
        steps in prop::collection::vec((0usize..3, any_kind(), any_range()), 1..40)
    ) {
        let temp = tempfile::NamedTempFile::new().unwrap();
        let host: Vec<std::fs::File> = (0..3)
            .map(|_| std::fs::File::options().read(true).write(true).open(temp.path()).unwrap())
            .collect();
        let (rig, ours) = opened(3);
        for (who, kind, range) in steps {
            let lock = RecordLock { kind, range, owner: LockOwner::Description, pid: 0 };
            let done = ours[who].set_lock(&rig.cx(), &lock, false);
            let on_host = nix::fcntl::fcntl(
                host[who].as_fd(),
                FcntlArg::F_OFD_SETLK(&host_lock(kind, range)),
            );
            prop_assert_eq!(
                done.as_ref().map_err(|error| error.errno().raw()).err(),
                on_host.as_ref().map_err(|errno| *errno as i32).err()
            );
            for (file, host) in ours.iter().zip(&host) {
                for kind in [LockKind::Read, LockKind::Write] {
                    for at in 0..SPAN as i64 {
                        let range = LockRange::new(at, 1).unwrap();
                        prop_assert_eq!(
                            our_conflict(&rig, file, kind, range),
                            host_conflict(host, kind, range)
                        );
                    }
                    let whole = LockRange::WHOLE;
                    prop_assert_eq!(
                        our_conflict(&rig, file, kind, whole),
                        host_conflict(host, kind, whole)
                    );
                }
            }
        }
    }

    #[test]
    fn locks_on_whole_files_come_out_as_on_the_host(
        steps in prop::collection::vec((0usize..3, any_kind()), 1..40)
    ) {
        use rustix::fs::FlockOperation as Op;
        let temp = tempfile::NamedTempFile::new().unwrap();
        let host: Vec<std::fs::File> =
            (0..3).map(|_| std::fs::File::open(temp.path()).unwrap()).collect();
        let (rig, ours) = opened(3);
        for (who, kind) in steps {
            let operation = match kind {
                LockKind::Read => Op::NonBlockingLockShared,
                LockKind::Write => Op::NonBlockingLockExclusive,
                LockKind::Unlock => Op::NonBlockingUnlock,
            };
            let done = ours[who].flock(&rig.cx(), kind, false);
            let on_host = rustix::fs::flock(&host[who], operation);
            prop_assert_eq!(
                done.map_err(|error| error.errno().raw()),
                on_host.map_err(|errno| errno.raw_os_error())
            );
        }
    }
}

#[test]
fn ranges_are_read_as_fcntl_reads_them() {
    let read =
        |start, length| LockRange::new(start, length).map(|range| (range.start(), range.length()));
    let max = i64::MAX;
    assert_eq!(read(5, 10), Ok((5, 10)));
    assert_eq!(read(5, 0), Ok((5, 0)));
    assert_eq!(read(5, -5), Ok((0, 5)));
    assert_eq!(read(5, -6), Err(Errno::EINVAL));
    assert_eq!(read(-1, 3), Err(Errno::EINVAL));
    assert_eq!(read(max, 1), Ok((max as u64, 0)));
    assert_eq!(read(max, 2), Err(Errno::EOVERFLOW));
    assert_eq!(read(0, i64::MIN), Err(Errno::EINVAL));
}

#[test]
fn places_of_a_range_count_from_where_they_say() {
    let (rig, files) = opened(1);
    let file = &files[0];
    let range = |from, length| {
        let range = file.lock_range(&rig.cx(), from, length);
        range
            .map(|range| (range.start(), range.length()))
            .map_err(|error| error.errno())
    };
    file.seek(&rig.cx(), Whence::Set(3)).unwrap();
    assert_eq!(range(Whence::Cur(1), 2), Ok((4, 2)));
    assert_eq!(range(Whence::End(-2), 0), Ok((5, 0)));
    assert_eq!(range(Whence::End(-8), 1), Err(Errno::EINVAL));
    assert_eq!(range(Whence::Data(0), 1), Err(Errno::EINVAL));
    assert_eq!(range(Whence::Cur(i64::MAX), 1), Err(Errno::EOVERFLOW));
}

#[test]
fn locking_needs_a_file_that_is_open_for_it() {
    let (rig, _) = opened(0);
    let cx = rig.cx();
    let set = |file: &File, kind| {
        let lock = record(kind, LockOwner::Process(1), 0, 0);
        file.set_lock(&cx, &lock, false)
            .map_err(|error| error.errno())
    };
    let reader = open(&rig, OpenFlags::RDONLY);
    let writer = open(&rig, OpenFlags::WRONLY);
    let place = open(&rig, OpenFlags::PATH);
    assert_eq!(set(&reader, LockKind::Read), Ok(()));
    assert_eq!(set(&reader, LockKind::Write), Err(Errno::EBADF));
    assert_eq!(set(&writer, LockKind::Write), Ok(()));
    assert_eq!(set(&writer, LockKind::Read), Err(Errno::EBADF));
    assert_eq!(set(&place, LockKind::Unlock), Err(Errno::EBADF));
    reader.flock(&cx, LockKind::Write, false).unwrap();
    let refused = place.flock(&cx, LockKind::Read, false).unwrap_err();
    assert_eq!(refused.errno(), Errno::EBADF);
    let asked = reader.get_lock(&cx, &record(LockKind::Unlock, LockOwner::Process(1), 0, 0));
    assert_eq!(asked.unwrap_err().errno(), Errno::EINVAL);
}

#[test]
fn a_process_loses_its_locks_with_any_descriptor_and_a_description_with_the_last() {
    let (rig, mut files) = opened(3);
    let cx = rig.cx();
    let (one, two) = (LockOwner::Process(1), LockOwner::Process(2));
    files[0]
        .set_lock(&cx, &record(LockKind::Write, one, 0, 1), false)
        .unwrap();
    files[0]
        .set_lock(
            &cx,
            &record(LockKind::Write, LockOwner::Description, 9, 1),
            false,
        )
        .unwrap();
    files[0].flock(&cx, LockKind::Write, false).unwrap();
    let probe = record(LockKind::Write, two, 0, 1);
    let other = record(LockKind::Write, two, 9, 1);
    let in_way = files[2].get_lock(&cx, &probe).unwrap().unwrap();
    assert_eq!((in_way.owner, in_way.pid), (one, 7));
    assert_eq!(rig.fs.stats().file_locks, 3);
    // Process 1 closes a descriptor it never locked through.
    files[1].release_locks(&cx, 1).unwrap();
    assert_eq!(files[2].get_lock(&cx, &probe).unwrap(), None);
    assert!(files[2].get_lock(&cx, &other).unwrap().is_some());
    assert!(files[2].flock(&cx, LockKind::Read, false).is_err());
    // What it takes through a description goes with that, too.
    files[0]
        .set_lock(&cx, &record(LockKind::Write, one, 0, 1), false)
        .unwrap();
    files.remove(0).close(&cx).unwrap();
    assert_eq!(files[1].get_lock(&cx, &probe).unwrap(), None);
    assert_eq!(files[1].get_lock(&cx, &other).unwrap(), None);
    files[1].flock(&cx, LockKind::Read, false).unwrap();
    assert_eq!(rig.fs.stats().file_locks, 1);
    drop(files);
    assert_eq!(rig.fs.stats().file_locks, 0);
}

#[test]
fn both_names_of_a_file_share_its_locks() {
    use crate::testing::Outside;
    let (rig, files) = opened(1);
    let cx = rig.cx();
    rig.outside.link(b"f", b"g").unwrap();
    let other = rig.fs.open(&cx, rig.at("g"), OpenFlags::RDWR, 0).unwrap();
    files[0].flock(&cx, LockKind::Write, false).unwrap();
    let refused = other.flock(&cx, LockKind::Write, false).unwrap_err();
    assert_eq!(refused.errno(), Errno::EAGAIN);
}

/// Waits until `count` callers wait for a lock.
fn until_waiting(rig: &Rig, count: usize) {
    let begin = Instant::now();
    while rig.fs.sb().file_locks.waiting() < count {
        assert!(begin.elapsed() < Duration::from_secs(10), "nobody waits");
        thread::yield_now();
    }
}

#[test]
fn waiters_are_served_in_turn() {
    let (rig, files) = opened(3);
    let cx = rig.cx();
    files[0].flock(&cx, LockKind::Write, false).unwrap();
    let order = parking_lot::Mutex::new(Vec::new());
    thread::scope(|scope| {
        for (who, file) in files.iter().enumerate().skip(1) {
            let (rig, order) = (&rig, &order);
            scope.spawn(move || {
                file.flock(&rig.cx(), LockKind::Write, true).unwrap();
                order.lock().push(who);
                file.flock(&rig.cx(), LockKind::Unlock, false).unwrap();
            });
            until_waiting(rig, who);
        }
        files[0].flock(&cx, LockKind::Unlock, false).unwrap();
    });
    assert_eq!(*order.lock(), [1, 2]);
}

#[test]
fn a_wait_ends_when_it_is_given_up() {
    let (rig, files) = opened(2);
    let cx = rig.cx();
    let lock = |owner| record(LockKind::Write, LockOwner::Process(owner), 0, 0);
    files[0].set_lock(&cx, &lock(1), false).unwrap();
    let late = Context {
        deadline: Some(Instant::now() + Duration::from_millis(5)),
        ..cx
    };
    let error = files[1].set_lock(&late, &lock(2), true).unwrap_err();
    assert_eq!(error.errno(), Errno::ETIMEDOUT);
    let cancel = Cancel::new().unwrap();
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let cx = Context {
                cancel: Some(&cancel),
                ..rig.cx()
            };
            files[1].set_lock(&cx, &lock(2), true).unwrap_err().errno()
        });
        until_waiting(&rig, 1);
        cancel.set();
        assert_eq!(waits.join().unwrap(), Errno::EINTR);
    });
    assert_eq!(rig.fs.sb().file_locks.waiting(), 0);
    files[0].release_locks(&cx, 1).unwrap();
    files[1].set_lock(&cx, &lock(2), false).unwrap();
}

#[test]
fn an_upgrade_keeps_the_old_lock_until_it_succeeds() {
    let (rig, files) = opened(2);
    let cx = rig.cx();
    let lock = |kind, owner| record(kind, LockOwner::Process(owner), 0, 0);
    files[0]
        .set_lock(&cx, &lock(LockKind::Read, 1), false)
        .unwrap();
    files[1]
        .set_lock(&cx, &lock(LockKind::Read, 2), false)
        .unwrap();
    let refused = files[0]
        .set_lock(&cx, &lock(LockKind::Write, 1), false)
        .unwrap_err();
    assert_eq!(refused.errno(), Errno::EAGAIN);
    let in_way = files[1]
        .get_lock(&cx, &lock(LockKind::Write, 2))
        .unwrap()
        .unwrap();
    assert_eq!(
        (in_way.kind, in_way.owner),
        (LockKind::Read, LockOwner::Process(1))
    );
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| files[0].set_lock(&rig.cx(), &lock(LockKind::Write, 1), true));
        until_waiting(&rig, 1);
        // The other one's upgrade would wait for the first for ever.
        let dead = files[1]
            .set_lock(&cx, &lock(LockKind::Write, 2), true)
            .unwrap_err();
        assert_eq!(dead.errno(), Errno::EDEADLK);
        files[1]
            .set_lock(&cx, &lock(LockKind::Unlock, 2), false)
            .unwrap();
        upgrade.join().unwrap().unwrap();
    });
}

#[test]
fn deadlocks_over_several_files_and_owners_are_found() {
    let rig = Rig::new(InteropMode::Exclusive);
    let names = ["a", "b", "c"];
    for name in names {
        rig.outside_file(name);
    }
    let files: Vec<File> = names
        .iter()
        .map(|name| {
            rig.fs
                .open(&rig.cx(), rig.at(name), OpenFlags::RDWR, 0)
                .unwrap()
        })
        .collect();
    let lock = |owner| record(LockKind::Write, LockOwner::Process(owner), 0, 0);
    for (owner, file) in files.iter().enumerate() {
        file.set_lock(&rig.cx(), &lock(owner as u64), false)
            .unwrap();
    }
    thread::scope(|scope| {
        let (rig, files, lock) = (&rig, &files, &lock);
        let waits: Vec<_> = (0..2u64)
            .map(|owner| {
                let file = &files[owner as usize + 1];
                let waiter = scope.spawn(move || file.set_lock(&rig.cx(), &lock(owner), true));
                until_waiting(rig, owner as usize + 1);
                waiter
            })
            .collect();
        let dead = files[0].set_lock(&rig.cx(), &lock(2), true).unwrap_err();
        assert_eq!(dead.errno(), Errno::EDEADLK);
        files[2].release_locks(&rig.cx(), 2).unwrap();
        let mut waits = waits.into_iter().rev();
        waits.next().unwrap().join().unwrap().unwrap();
        files[1].release_locks(&rig.cx(), 1).unwrap();
        waits.next().unwrap().join().unwrap().unwrap();
    });
}

#[test]
fn what_is_held_comes_back_from_its_image() {
    let (rig, files) = opened(2);
    let cx = rig.cx();
    files[0].flock(&cx, LockKind::Read, false).unwrap();
    files[0]
        .set_lock(
            &cx,
            &record(LockKind::Write, LockOwner::Process(4), 2, 3),
            false,
        )
        .unwrap();
    files[0]
        .set_lock(
            &cx,
            &record(LockKind::Read, LockOwner::Description, 9, 0),
            false,
        )
        .unwrap();
    let held = files[0].held_locks();
    assert_eq!(held.whole_exclusive, Some(false));
    assert_eq!(held.ranges.len(), 2);
    assert_eq!(files[1].held_locks(), HeldLocks::default());
}

/// Two clients of one server that arbitrates.
fn two_clients() -> (Vec<Filesystem>, Credentials) {
    let server = MemServer::new();
    let mut config = MemConfig::like_9p();
    config.capabilities.locks = true;
    let clients = (0..2).map(|_| {
        let mut options = MountOptions::new(Trans::Fd { rfd: 0, wfd: 0 });
        options.locks = LockPlace::Server;
        options.cache = InteropMode::Shared;
        let remote = Arc::new(server.connect(config.clone()));
        Filesystem::mount(remote, options, MountFlags::default()).unwrap()
    });
    (clients.collect(), Credentials::root())
}

#[test]
fn clients_of_one_server_lock_each_other_out() {
    let (clients, creds) = two_clients();
    let cx = Context::new(&creds);
    let files: Vec<File> = clients
        .iter()
        .map(|fs| {
            let root = fs.root();
            let at = crate::At::new(&root, b"f");
            fs.open(&cx, at, OpenFlags::RDWR | OpenFlags::CREAT, 0o644)
                .unwrap()
        })
        .collect();
    let lock = |kind, start, length| record(kind, LockOwner::Process(3), start, length);
    files[0]
        .set_lock(&cx, &lock(LockKind::Write, 0, 10), false)
        .unwrap();
    // The same number at another client is somebody else.
    let refused = files[1]
        .set_lock(&cx, &lock(LockKind::Read, 5, 10), false)
        .unwrap_err();
    assert_eq!(refused.errno(), Errno::EAGAIN);
    assert_eq!(files[1].held_locks().ranges, []);
    let in_way = files[1]
        .get_lock(&cx, &lock(LockKind::Read, 5, 10))
        .unwrap()
        .unwrap();
    assert_eq!(
        (in_way.kind, in_way.range),
        (LockKind::Write, LockRange::new(0, 10).unwrap())
    );
    // A refused change leaves what was held.
    files[1]
        .set_lock(&cx, &lock(LockKind::Read, 10, 5), false)
        .unwrap();
    files[1]
        .set_lock(&cx, &lock(LockKind::Write, 5, 10), false)
        .unwrap_err();
    assert_eq!(files[1].held_locks().ranges.len(), 1);
    assert!(!files[1].held_locks().ranges[0].0);
    // Waiting takes turns at the server.
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let cx = Context::new(&creds);
            files[1].set_lock(&cx, &lock(LockKind::Write, 5, 10), true)
        });
        files[0].release_locks(&cx, 3).unwrap();
        waits.join().unwrap().unwrap();
    });
    assert!(
        files[0]
            .get_lock(&cx, &lock(LockKind::Read, 5, 1))
            .unwrap()
            .is_some()
    );
    let mut files = files.into_iter();
    let first = files.next().unwrap();
    drop(files);
    assert_eq!(
        first.get_lock(&cx, &lock(LockKind::Read, 5, 1)).unwrap(),
        None
    );
    first.flock(&cx, LockKind::Write, false).unwrap();
}

#[test]
fn a_server_without_locks_makes_them_fail_and_not_the_mount() {
    let mut options = MountOptions::new(Trans::Fd { rfd: 0, wfd: 0 });
    options.locks = LockPlace::Server;
    let remote = Arc::new(MemServer::new().connect(MemConfig::like_lisafs()));
    let fs = Filesystem::mount(remote, options, MountFlags::default()).unwrap();
    let creds = Credentials::root();
    let cx = Context::new(&creds);
    let root = fs.root();
    let at = crate::At::new(&root, b"f");
    let file = fs
        .open(&cx, at, OpenFlags::RDWR | OpenFlags::CREAT, 0o644)
        .unwrap();
    assert_eq!(
        file.flock(&cx, LockKind::Read, true).unwrap_err().errno(),
        Errno::ENOLCK
    );
    assert_eq!(fs.stats().file_locks, 0);
}
