//! What a cached lookup costs: nanoseconds, allocations and messages. Run by
//! `cargo xtask bench --lookup`; fails when a goal is missed.

use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use allocation_counter::measure;
use gofer_vfs::testing::mem_remote::MemRemote;
use gofer_vfs::{
    At, Context, Credentials, Filesystem, Follow, InteropMode, MountFlags, MountOptions, Trans,
};

/// Nanoseconds of a cached stat at depth 4, and of a lookup of a name known to be absent.
const STAT_MAX: f64 = 150.0;
/// How much longer each takes when two threads do it.
const SHARED_MAX: f64 = 1.5;

const ROUNDS: u32 = 200_000;
const REPEATS: usize = 15;

fn main() -> ExitCode {
    let (remote, _server) = MemRemote::new();
    let mut options = MountOptions::new(Trans::Fd { rfd: 0, wfd: 0 });
    options.cache = InteropMode::Exclusive;
    let fs = Filesystem::mount(Arc::new(remote), options, MountFlags::default()).expect("mount");
    let creds = Credentials::root();
    let cx = Context::new(&creds);
    let root = fs.root();
    for dir in ["a", "a/b", "a/b/c", "a/b/c/d"] {
        fs.mkdir(&cx, At::new(&root, dir.as_bytes()), 0o755)
            .expect("mkdir");
    }
    let stat = |path: &str| fs.stat(&cx, At::new(&root, path.as_bytes()), Follow::No);
    stat("a/b/c/d").expect("stat");
    stat("a/b/c/missing").expect_err("a missing name");
    let before = fs.traffic().requests;
    let used = measure(|| {
        for _ in 0..100 {
            let _ = stat("a/b/c/d");
        }
    });
    let found = median(|| {
        let _ = stat("a/b/c/d");
    });
    let absent = median(|| {
        let _ = stat("a/b/c/missing");
    });
    let two = two_threads(&fs);
    let messages = fs.traffic().requests - before;
    let mut met = true;
    let mut show = |what: &str, figure: f64, goal: f64| {
        let good = figure <= goal;
        met &= good;
        let verdict = if good { "met" } else { "MISSED" };
        println!("{what:<48} {figure:>8.1}   goal {goal:>8.1}   {verdict}");
    };
    show("cached stat at depth 4, ns", found, STAT_MAX);
    show("absent name at depth 4, ns", absent, STAT_MAX);
    show("two threads, times one", two / found, SHARED_MAX);
    show("allocations of 100 stats", used.count_total as f64, 0.0);
    show("messages", messages as f64, 0.0);
    match met {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Median nanoseconds of `work`.
fn median(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let begin = Instant::now();
            (0..ROUNDS).for_each(|_| work());
            begin.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[REPEATS / 2]
}

/// Median nanoseconds of a stat while another thread does the same.
fn two_threads(fs: &Filesystem) -> f64 {
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let run = || {
            let creds = Credentials::root();
            let cx = Context::new(&creds);
            let root = fs.root();
            barrier.wait();
            median(|| {
                let _ = fs.stat(&cx, At::new(&root, b"a/b/c/d"), Follow::No);
            })
        };
        let other = scope.spawn(run);
        let own = run();
        let other = other.join().expect("the other thread");
        own.max(other)
    })
}
