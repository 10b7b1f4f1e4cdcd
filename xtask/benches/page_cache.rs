//! What reading a cached file from front to back costs beside copying as much memory. Run by
//! `cargo xtask bench --page-cache`; fails when a goal is missed.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use allocation_counter::measure;
use gofer_vfs::testing::mem_remote::MemRemote;
use gofer_vfs::{
    At, Context, Credentials, File, Filesystem, InteropMode, MountFlags, MountOptions, OpenFlags,
    Trans,
};

/// The least speed, as a part of that of memcpy.
const SPEED_MIN: f64 = 0.8;
/// Shorter reads are shown and have no goal: so little is copied in the time that a call takes.
const LENGTH_MIN: usize = 16 << 10;

/// Larger than what processors keep by themselves.
const FILE: usize = 64 << 20;
const READS: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, 1 << 20];
const REPEATS: usize = 15;

fn main() -> ExitCode {
    let (remote, _server) = MemRemote::new();
    let mut options = MountOptions::new(Trans::Fd { rfd: 0, wfd: 0 });
    options.cache = InteropMode::Exclusive;
    let fs = Filesystem::mount(Arc::new(remote), options, MountFlags::default()).expect("mount");
    let creds = Credentials::root();
    let cx = Context::new(&creds);
    let root = fs.root();
    let flags = OpenFlags::RDWR | OpenFlags::CREAT;
    let file = fs
        .open(&cx, At::new(&root, b"file"), flags, 0o644)
        .expect("open");
    let memory: Vec<u8> = (0..FILE).map(|at| (at >> 7) as u8).collect();
    let written = file.write_at(&cx, &memory, 0).expect("write");
    assert_eq!(written, FILE);
    file.sync(&cx, false).expect("fsync");

    read(&cx, &file, &mut vec![0; 1 << 20]);
    let before = fs.traffic().requests;
    let mut met = true;
    for length in READS {
        let mut buffer = vec![0; length];
        let (mut cached, mut copied) = (f64::MAX, f64::MAX);
        let mut allocations = 0;
        for _ in 0..REPEATS {
            // In turns, so that both meet the same neighbours; the least is what it costs.
            let used = measure(|| cached = cached.min(time(|| read(&cx, &file, &mut buffer))));
            allocations += used.count_total;
            copied = copied.min(time(|| copy(&memory, &mut buffer)));
        }
        let speed = copied / cached;
        met &= allocations == 0;
        let verdict = if length < LENGTH_MIN {
            "no goal"
        } else if speed >= SPEED_MIN {
            "goal met"
        } else {
            met = false;
            "goal MISSED"
        };
        println!(
            "reads of {:>4} KiB   cached {:>6.0} ns   memcpy {:>6.0} ns   allocations \
             {allocations}   speed {speed:.2}: {verdict}",
            length >> 10,
            per_read(cached, length),
            per_read(copied, length),
        );
    }
    let messages = fs.traffic().requests - before;
    println!("messages {messages}");
    match met && messages == 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn per_read(nanoseconds: f64, length: usize) -> f64 {
    nanoseconds * length as f64 / FILE as f64
}

fn time(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_nanos() as f64
}

fn read(cx: &Context<'_>, file: &File, buffer: &mut [u8]) {
    let mut at = 0;
    while at < FILE as u64 {
        let n = file.read_at(cx, buffer, at).expect("read");
        black_box(&*buffer);
        at += n as u64;
    }
}

fn copy(memory: &[u8], buffer: &mut [u8]) {
    for part in memory.chunks_exact(buffer.len()) {
        buffer.copy_from_slice(black_box(part));
        black_box(&*buffer);
    }
}
