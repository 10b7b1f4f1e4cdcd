//! Round trips are a budget: what operations may cost over a real connection. Round trips are
//! counted everywhere, messages where the protocol has one for the job.

use std::cell::Cell;

use super::{CaseResult, Client, Failure, Fixture};
use crate::flags::OpenFlags;
use crate::remote::Traffic;

cases![
    cold_stat_costs_one_walk_or_one_a_name,
    warm_stat_costs_nothing_or_one_check,
    deep_path_is_checked_in_one_round_trip: sharing,
    new_names_cost_one_round_trip,
    removal_of_an_uncached_name_costs_one_round_trip,
    rename_of_cached_names_costs_one_round_trip: caching,
    changes_of_a_cached_file_cost_one_round_trip,
    opening_a_cached_file_again_costs_nothing: caching,
    names_missing_from_a_listing_are_not_asked_for: caching,
];

/// Names in the deepest path.
const DEPTH: usize = 8;

fn deep(fx: &Fixture) -> Result<String, Failure> {
    let mut path = String::new();
    for level in 1..DEPTH {
        path += &format!("d{level}");
        fx.outside.mkdir(path.as_bytes())?;
        path += "/";
    }
    path += "f";
    fx.outside.write(path.as_bytes(), b"content")?;
    Ok(path)
}

/// Round trips for one check of cached names.
fn check(fx: &Fixture) -> u64 {
    u64::from(fx.mode.must_revalidate())
}

/// Requests and round trips of `work`. What it returns is dropped later: that may cost, too.
fn cost<T>(fx: &Fixture, work: impl FnOnce() -> Result<T, Failure>) -> Result<Traffic, Failure> {
    let before = fx.fs.traffic();
    let _kept = work()?;
    let after = fx.fs.traffic();
    Ok(Traffic {
        round_trips: after.round_trips - before.round_trips,
        requests: after.requests - before.requests,
        ..Traffic::default()
    })
}

#[track_caller]
fn at_most(what: &str, found: u64, budget: u64) -> CaseResult {
    if found > budget {
        return Err(Failure::new(format!("{what}: {found}, budget {budget}")));
    }
    Ok(())
}

/// A server that finds files by fids.
fn speaks_9p(fx: &Fixture) -> bool {
    fx.fs.capabilities().protocol.starts_with("9P")
}

/// Whether a protocol has one message for a check of many names; others send several at once.
fn checks_in_one_message(fx: &Fixture) -> bool {
    !speaks_9p(fx) || fx.fs.capabilities().protocol == "9P2000.L.Google.13"
}

fn stat(fs: &Client, path: &str) -> CaseResult {
    fs.stat(path)?;
    Ok(())
}

fn cold_stat_costs_one_walk_or_one_a_name(fx: &Fixture) -> CaseResult {
    let path = deep(fx)?;
    let fs = fx.root();
    let cold = cost(fx, || stat(&fs, &path))?;
    let names = match fx.fs.capabilities().multi_walk {
        // Below level 2 9P walks, and then asks for the attributes of what it found.
        true if matches!(
            fx.fs.capabilities().protocol.as_str(),
            "9P2000.L" | "9P2000.L.Google.0" | "9P2000.L.Google.1"
        ) =>
        {
            2
        }
        true => 1,
        false => DEPTH as u64,
    };
    at_most("round trips", cold.round_trips, names)?;
    match speaks_9p(fx) {
        true => Ok(()),
        false => at_most("requests", cold.requests, names),
    }
}

fn warm_stat_costs_nothing_or_one_check(fx: &Fixture) -> CaseResult {
    let path = deep(fx)?;
    let fs = fx.root();
    fs.stat(&path)?;
    for _ in 0..5 {
        let warm = cost(fx, || stat(&fs, &path))?;
        at_most("round trips", warm.round_trips, check(fx))?;
        if !fx.mode.must_revalidate() || checks_in_one_message(fx) {
            at_most("requests", warm.requests, check(fx))?;
        }
    }
    Ok(())
}

fn deep_path_is_checked_in_one_round_trip(fx: &Fixture) -> CaseResult {
    let path = deep(fx)?;
    let fs = fx.root();
    fs.stat(&path)?;
    fx.outside.chmod(path.as_bytes(), 0o600)?;
    let mode = Cell::new(0);
    let checked = cost(fx, || {
        mode.set(fs.attr(&path)?.mode);
        Ok(())
    })?;
    at_most("round trips", checked.round_trips, 1)?;
    check_eq!(mode.get(), 0o600, "the mode");
    Ok(())
}

fn new_names_cost_one_round_trip(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.mkdir("d")?;
    fs.stat("d")?;
    // Walking to the directory again is a check where others change the tree. 9P needs a fid
    // before, and a name for the file after.
    let fids = if speaks_9p(fx) { 2 } else { 0 };
    let unknown = cost(fx, || {
        let flags = OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::RDWR;
        Ok(fs.open("d/new", flags)?)
    })?;
    at_most(
        "round trips for a file",
        unknown.round_trips,
        check(fx) + 1 + fids,
    )?;
    let made = cost(fx, || Ok(fs.mkdir("d/sub")?))?;
    at_most(
        "round trips for a directory",
        made.round_trips,
        check(fx) + 1,
    )?;
    let linked = cost(fx, || Ok(fs.symlink("x", "d/link")?))?;
    at_most("round trips for a link", linked.round_trips, check(fx) + 1)?;
    Ok(())
}

fn removal_of_an_uncached_name_costs_one_round_trip(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fx.outside.write(b"f", b"")?;
    fx.outside.mkdir(b"d")?;
    let unlinked = cost(fx, || Ok(fs.unlink("f")?))?;
    at_most("round trips of unlink", unlinked.round_trips, 1)?;
    let removed = cost(fx, || Ok(fs.rmdir("d")?))?;
    at_most("round trips of rmdir", removed.round_trips, 1)?;
    Ok(())
}

fn rename_of_cached_names_costs_one_round_trip(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "")?;
    fs.mkdir("d")?;
    fs.stat("f")?;
    fs.stat("d")?;
    check_errno!(fs.stat("d/g"), ENOENT);
    check_errno!(fs.stat("d/g"), ENOENT);
    let renamed = cost(fx, || Ok(fs.rename("f", "d/g")?))?;
    at_most("round trips", renamed.round_trips, 1)?;
    Ok(())
}

fn changes_of_a_cached_file_cost_one_round_trip(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fx.outside.write(b"f", b"")?;
    fx.outside.symlink(b"target", b"link")?;
    fs.stat("f")?;
    fs.lstat("link")?;
    let changed = cost(fx, || Ok(fs.chmod("f", 0o600)?))?;
    at_most("round trips of chmod", changed.round_trips, check(fx) + 1)?;
    let read = cost(fx, || Ok(fs.read_link("link")?))?;
    at_most("round trips of readlink", read.round_trips, check(fx) + 1)?;
    Ok(())
}

fn opening_a_cached_file_again_costs_nothing(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fx.outside.write(b"f", b"content")?;
    fs.read("f")?;
    let again = cost(fx, || Ok(fs.open("f", OpenFlags::RDONLY)?))?;
    at_most("round trips", again.round_trips, 0)?;
    Ok(())
}

fn names_missing_from_a_listing_are_not_asked_for(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fx.outside.mkdir(b"d")?;
    fx.outside.write(b"d/one", b"")?;
    fs.list("d")?;
    let asked = cost(fx, || {
        for n in 0..20 {
            check_errno!(fs.stat(format!("d/missing{n}")), ENOENT);
        }
        Ok(())
    })?;
    at_most("round trips", asked.round_trips, 0)?;
    fs.create("d/missing7", "")?;
    check!(fs.exists("d/missing7")?, "a new file is not there");
    Ok(())
}
