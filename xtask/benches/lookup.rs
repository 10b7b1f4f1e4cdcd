//! What a cached lookup costs: nanoseconds, allocations and messages. Run by
//! `cargo xtask bench --lookup`; fails when a goal is missed.
//!
//! Times are medians of many short runs: those that something else interrupted do not count, as
//! long as they are the fewer.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// Of one run: some tenths of a millisecond.
const ROUNDS: u32 = 2000;
const REPEATS: usize = 2001;

fn main() -> ExitCode {
    let (remote, _server) = MemRemote::new();
    let mut options = MountOptions::new(Trans::Fd { rfd: 0, wfd: 0 });
    options.cache = InteropMode::Exclusive;
    let fs = Filesystem::mount(Arc::new(remote), options, MountFlags::default()).expect("mount");
    let creds = Credentials::root();
    let cx = Context::new(&creds);
    let root = fs.root();
    for dir in ["a", "a/b", "a/b/c", "a/b/c/d", "a/x", "a/x/c", "a/x/c/d"] {
        fs.mkdir(&cx, At::new(&root, dir.as_bytes()), 0o755)
            .expect("mkdir");
    }
    let stat = |path: &str| fs.stat(&cx, At::new(&root, path.as_bytes()), Follow::No);
    for _ in 0..3 {
        stat("a/b/c/d").expect("stat");
        stat("a/x/c/d").expect("stat");
        stat("a/b/c/missing").expect_err("a missing name");
    }
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
    // A walk that is not plain is not answered as a whole.
    let walked = median(|| {
        let _ = stat("a/../a/b/c/d");
    });
    let same = two_threads(&fs, ["a/b/c/d", "a/b/c/d"]);
    let different = two_threads(&fs, ["a/b/c/d", "a/x/c/d"]);
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
    show("two threads, one path, times one", same / found, SHARED_MAX);
    show(
        "two threads, two paths, times one",
        different / found,
        SHARED_MAX,
    );
    show("allocations of 100 stats", used.count_total as f64, 0.0);
    show("messages", messages as f64, 0.0);
    println!(
        "{:<48} {walked:>8.1}",
        "walked name by name, with one `..`, ns"
    );
    match met {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Nanoseconds of each `work` in one run.
fn run(work: &mut impl FnMut()) -> f64 {
    let begin = Instant::now();
    (0..ROUNDS).for_each(|_| work());
    begin.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}

/// Median nanoseconds of `work`.
fn median(mut work: impl FnMut()) -> f64 {
    middle((0..REPEATS).map(|_| run(&mut work)).collect())
}

fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Median nanoseconds of a stat while another thread does the same. Only runs count in which the
/// other has looked all the time: it may have no processor.
fn two_threads(fs: &Filesystem, paths: [&str; 2]) -> f64 {
    let (looks, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let root = fs.root();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let creds = Credentials::root();
            let cx = Context::new(&creds);
            while !over.load(Ordering::Relaxed) {
                for _ in 0..100 {
                    let _ = fs.stat(&cx, At::new(&root, paths[1].as_bytes()), Follow::No);
                }
                looks.fetch_add(100, Ordering::Relaxed);
            }
        });
        let creds = Credentials::root();
        let cx = Context::new(&creds);
        let mut times = Vec::new();
        let begin = Instant::now();
        while times.len() < REPEATS && begin.elapsed().as_secs() < 20 {
            let before = looks.load(Ordering::Relaxed);
            let time = run(&mut || {
                let _ = fs.stat(&cx, At::new(&root, paths[0].as_bytes()), Follow::No);
            });
            if looks.load(Ordering::Relaxed) - before > u64::from(ROUNDS) / 2 {
                times.push(time);
            }
        }
        over.store(true, Ordering::Relaxed);
        middle(times)
    })
}
