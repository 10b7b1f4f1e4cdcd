//! What cached names cost: bytes of each, and how fast listed ones are taken in. Run by
//! `cargo xtask bench --memory`; fails when a goal is missed.
//!
//! Bytes are those asked of the allocator and not given back, of everything: the server of the
//! tree is in this process, and what it keeps for each file is counted, too.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use allocation_counter::measure;
use gofer_vfs::testing::wide_remote::WideRemote;
use gofer_vfs::{
    At, Context, Credentials, File, Filesystem, Follow, InteropMode, MountFlags, MountOptions,
    OpenFlags, Trans,
};

const DIRECTORIES: u64 = 100;
const FILES: u64 = 10_000;

/// Bytes of a dentry that was walked.
const WALKED_MAX: f64 = 400.0;
/// Bytes of a name that is known from a listing.
const LISTED_MAX: f64 = 160.0;
/// Names taken in from listings, a second.
const LISTED_PER_SECOND: f64 = 500_000.0;
/// Bytes at most while all of the tree is walked with a small cache.
const WALK_MAX: u64 = 64 << 20;

fn main() -> ExitCode {
    let mut goals = Goals(true);
    walked(&mut goals);
    listed(&mut goals);
    small_cache(&mut goals);
    match goals.0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Whether all were met so far.
struct Goals(bool);

impl Goals {
    fn show(&mut self, what: &str, figure: f64, goal: f64, met: bool) {
        let verdict = if met { "met" } else { "MISSED" };
        println!("{what:<58} {figure:>12.1}   goal {goal:>12.1}   {verdict}");
        self.0 &= met;
    }
}

fn mount(limit: u64) -> Filesystem {
    let mut options = MountOptions::new(Trans::Fd { rfd: 0, wfd: 0 });
    options.cache = InteropMode::Exclusive;
    options.dentry_cache_limit = limit;
    let remote = Arc::new(WideRemote::new(DIRECTORIES, FILES));
    Filesystem::mount(remote, options, MountFlags::default()).expect("mount")
}

fn stat(fs: &Filesystem, creds: &Credentials, path: &str) {
    let root = fs.root();
    fs.stat(
        &Context::new(creds),
        At::new(&root, path.as_bytes()),
        Follow::No,
    )
    .expect("stat");
}

/// All files, walked and kept.
fn walked(goals: &mut Goals) {
    let fs = mount(u64::MAX);
    let creds = Credentials::root();
    let begin = Instant::now();
    let used = measure(|| {
        for dir in 0..DIRECTORIES {
            for file in 0..FILES {
                stat(&fs, &creds, &format!("d{dir}/file{file}"));
            }
        }
    });
    let seconds = begin.elapsed().as_secs_f64();
    let dentries = fs.stats().live_dentries;
    assert_eq!(dentries, DIRECTORIES * (FILES + 1) + 1, "all are cached");
    let each = used.bytes_current as f64 / dentries as f64;
    goals.show(
        "walked dentry, bytes (one million)",
        each,
        WALKED_MAX,
        each <= WALKED_MAX,
    );
    println!(
        "    walked at {:.0} a second, allocations each {:.2}",
        dentries as f64 / seconds,
        used.count_current as f64 / dentries as f64
    );
}

fn open_dir(fs: &Filesystem, creds: &Credentials, path: &str) -> File {
    let root = fs.root();
    let at = At::new(&root, path.as_bytes());
    let flags = OpenFlags::RDONLY | OpenFlags::DIRECTORY;
    fs.open(&Context::new(creds), at, flags, 0).expect("open")
}

fn list(file: &File, creds: &Credentials) -> u64 {
    let mut entries = 0;
    file.read_dir(&Context::new(creds), &mut |_| {
        entries += 1;
        ControlFlow::Continue(())
    })
    .expect("list");
    entries - 2
}

/// All names, listed and kept: open directories hold on to their listings.
fn listed(goals: &mut Goals) {
    let fs = mount(u64::MAX);
    let creds = Credentials::root();
    let mut open = Vec::with_capacity(DIRECTORIES as usize);
    let mut names = 0;
    let begin = Instant::now();
    let used = measure(|| {
        for dir in 0..DIRECTORIES {
            let file = open_dir(&fs, &creds, &format!("d{dir}"));
            names += list(&file, &creds);
            open.push(file);
        }
    });
    let rate = names as f64 / begin.elapsed().as_secs_f64();
    let each = used.bytes_current as f64 / names as f64;
    goals.show(
        "listed name, bytes (one million)",
        each,
        LISTED_MAX,
        each <= LISTED_MAX,
    );
    goals.show(
        "listed names taken in, a second",
        rate,
        LISTED_PER_SECOND,
        rate >= LISTED_PER_SECOND,
    );
}

/// Lists and looks at everything, as `find -ls` does, with a small cache.
fn small_cache(goals: &mut Goals) {
    let fs = mount(1000);
    let creds = Credentials::root();
    let used = measure(|| {
        for dir in 0..DIRECTORIES {
            let file = open_dir(&fs, &creds, &format!("d{dir}"));
            assert_eq!(list(&file, &creds), FILES);
            for file in 0..FILES {
                stat(&fs, &creds, &format!("d{dir}/file{file}"));
            }
        }
    });
    goals.show(
        "one million entries, dentry_cache_limit=1000, bytes at most",
        used.bytes_max as f64,
        WALK_MAX as f64,
        used.bytes_max <= WALK_MAX,
    );
}
