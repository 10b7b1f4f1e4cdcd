//! Advisory locks (semantics 18).

use super::check::{CaseResult, Failure};
use super::{Fixture, Remount};
use crate::options::LockPlace;
use crate::remote::LockKind;
use crate::{LockOwner, LockRange, OpenFlags, RecordLock};

cases! {
    ranges_lock_other_owners_out_and_split_and_merge,
    a_wait_for_a_lock_ends_when_its_holder_closes,
    whole_files_are_locked_by_description,
    names_of_one_file_share_its_locks,
    locks_outlive_the_name_and_a_rename,
    clients_without_server_locks_do_not_meet,
    clients_meet_in_locks_on_the_server: server_locks,
}

fn lock(kind: LockKind, process: u64, start: i64, length: i64) -> Result<RecordLock, Failure> {
    Ok(RecordLock {
        kind,
        range: LockRange::new(start, length).map_err(Failure::new)?,
        owner: LockOwner::Process(process),
        pid: u32::try_from(process).unwrap_or_default(),
    })
}

fn ranges_lock_other_owners_out_and_split_and_merge(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.create("f", "content")?;
    let (a, b) = (c.open("f", OpenFlags::RDWR)?, c.open("f", OpenFlags::RDWR)?);
    let cx = c.cx();
    a.set_lock(&cx, &lock(LockKind::Write, 1, 0, 100)?, false)?;
    check_errno!(
        b.set_lock(&cx, &lock(LockKind::Read, 2, 50, 1)?, false),
        EAGAIN
    );
    let same = b.set_lock(&cx, &lock(LockKind::Write, 1, 50, 1)?, false);
    check!(same.is_ok(), "one process locks itself out: {same:?}");
    a.set_lock(&cx, &lock(LockKind::Unlock, 1, 40, 20)?, false)?;
    b.set_lock(&cx, &lock(LockKind::Read, 2, 40, 20)?, false)?;
    let probe = lock(LockKind::Write, 3, 0, 0)?;
    let in_way = b
        .get_lock(&cx, &probe)?
        .map(|found| (found.pid, found.range.length()));
    check_eq!(in_way, Some((1, 40)), "what is left of the first lock");
    b.set_lock(&cx, &lock(LockKind::Unlock, 2, 0, 0)?, false)?;
    a.set_lock(&cx, &lock(LockKind::Write, 1, 40, 20)?, false)?;
    let in_way = b.get_lock(&cx, &probe)?.map(|found| found.range.length());
    check_eq!(in_way, Some(100), "the length of the pieces together");
    Ok(())
}

fn a_wait_for_a_lock_ends_when_its_holder_closes(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.create("f", "")?;
    let holder = c.open("f", OpenFlags::RDWR)?;
    let waiter = c.open("f", OpenFlags::RDWR)?;
    holder.set_lock(&c.cx(), &lock(LockKind::Write, 1, 0, 0)?, false)?;
    let wanted = lock(LockKind::Read, 2, 7, 1)?;
    std::thread::scope(|scope| {
        let c = c.clone();
        let waits = scope.spawn(move || waiter.set_lock(&c.cx(), &wanted, true));
        drop(holder);
        waits
            .join()
            .map_err(|_| Failure::new("the waiter panics"))??;
        Ok(())
    })
}

fn whole_files_are_locked_by_description(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.create("f", "")?;
    let cx = c.cx();
    let (a, b) = (
        c.open("f", OpenFlags::RDONLY)?,
        c.open("f", OpenFlags::RDONLY)?,
    );
    a.flock(&cx, LockKind::Read, false)?;
    b.flock(&cx, LockKind::Read, false)?;
    check_errno!(a.flock(&cx, LockKind::Write, false), EAGAIN);
    // The shared lock was given up for the exclusive one, and is lost.
    b.flock(&cx, LockKind::Write, false)?;
    // The other kind of lock is another world.
    a.set_lock(&cx, &lock(LockKind::Read, 1, 0, 0)?, false)?;
    b.close(&cx)?;
    a.flock(&cx, LockKind::Write, false)?;
    Ok(())
}

fn names_of_one_file_share_its_locks(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.create("f", "")?;
    c.link("f", "g")?;
    let (a, b) = (c.open("f", OpenFlags::RDWR)?, c.open("g", OpenFlags::RDWR)?);
    a.flock(&c.cx(), LockKind::Write, false)?;
    check_errno!(b.flock(&c.cx(), LockKind::Read, false), EAGAIN);
    Ok(())
}

fn locks_outlive_the_name_and_a_rename(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.create("f", "")?;
    let (a, b) = (c.open("f", OpenFlags::RDWR)?, c.open("f", OpenFlags::RDWR)?);
    a.flock(&c.cx(), LockKind::Write, false)?;
    c.rename("f", "g")?;
    check_errno!(b.flock(&c.cx(), LockKind::Write, false), EAGAIN);
    c.unlink("g")?;
    check_errno!(b.flock(&c.cx(), LockKind::Write, false), EAGAIN);
    a.close(&c.cx())?;
    b.flock(&c.cx(), LockKind::Write, false)?;
    Ok(())
}

fn clients_without_server_locks_do_not_meet(fx: &Fixture) -> CaseResult {
    let (c, other) = (fx.root(), fx.second()?);
    c.create("f", "")?;
    let (a, b) = (
        c.open("f", OpenFlags::RDWR)?,
        other.open("f", OpenFlags::RDWR)?,
    );
    a.flock(&c.cx(), LockKind::Write, false)?;
    b.flock(&other.cx(), LockKind::Write, false)?;
    Ok(())
}

fn clients_meet_in_locks_on_the_server(fx: &Fixture) -> CaseResult {
    let remount = Remount {
        locks: Some(LockPlace::Server),
        ..Remount::default()
    };
    let (c, d) = (fx.remount(&remount)?, fx.remount(&remount)?);
    c.create("f", "")?;
    let (a, b) = (c.open("f", OpenFlags::RDWR)?, d.open("f", OpenFlags::RDWR)?);
    a.flock(&c.cx(), LockKind::Write, false)?;
    check_errno!(b.flock(&d.cx(), LockKind::Write, false), EAGAIN);
    a.close(&c.cx())?;
    b.flock(&d.cx(), LockKind::Write, true)?;
    let again = c.open("f", OpenFlags::RDWR)?;
    check_errno!(again.flock(&c.cx(), LockKind::Write, false), EAGAIN);
    b.flock(&d.cx(), LockKind::Unlock, false)?;
    again.flock(&c.cx(), LockKind::Write, true)?;
    Ok(())
}
