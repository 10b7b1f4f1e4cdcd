//! What reading a cached file from front to back costs beside copying as much memory. Run by
//! `cargo xtask bench --page-cache`; fails when a goal is missed.
//!
//! How fast the processor copies depends on where source and destination lie in their pages, by a
//! quarter and more, and an allocator puts a buffer of one length in another place from build to
//! build. So both sides copy from the beginning of a page into the same buffer, and that in each
//! of the places that buffers have: at the beginning of a page, or a little after it, where
//! allocators put large ones.
//!
//! With the argument `call` it only repeats the shortest of reads, for a profiler to look at.

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

/// What the figures mean.
const LEGEND: &str = "\
Nanoseconds for each read, the least of several passes over 64 MiB, by turns. cached: read_at of a
file whose pages are all cached. memcpy: copy_from_slice from the heap, page by page as aligned as
the cached file, into the same buffer. buffer +16: 16 bytes after the beginning of a page, as
allocators place large ones. Both sides are read once before, and lie in pages of 4 KiB unless the
kernel was told to use larger ones for the heap.";

/// The least speed, as a part of that of memcpy.
const SPEED_MIN: f64 = 0.8;
/// Shorter reads are shown and have no goal: so little is copied in the time that a call takes.
const LENGTH_MIN: usize = 16 << 10;

/// Larger than what processors keep by themselves.
const FILE: usize = 64 << 20;
const READS: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, 1 << 20];
const PLACES: [usize; 2] = [0, 16];
const REPEATS: usize = 15;
/// Reads of one byte that are timed together.
const CALLS: usize = 100_000;
const PAGE: usize = 4096;

fn main() -> ExitCode {
    let only_call = std::env::args().any(|arg| arg == "call");
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
    let mut memory = Placed::new(0, FILE);
    for (at, byte) in memory.bytes().iter_mut().enumerate() {
        *byte = (at >> 7) as u8;
    }
    let written = file.write_at(&cx, memory.bytes(), 0).expect("write");
    assert_eq!(written, FILE);
    file.sync(&cx, false).expect("fsync");

    read(&cx, &file, &mut vec![0; 1 << 20]);
    let before = fs.traffic().requests;
    if only_call {
        println!("{:.0} ns a call", call(&cx, &file));
        return ExitCode::SUCCESS;
    }
    println!("{LEGEND}");
    println!("a read of 1 byte {:.0}", call(&cx, &file));
    let mut met = true;
    for length in READS {
        for place in PLACES {
            met &= compare(&cx, &file, memory.bytes(), length, place);
        }
    }
    let messages = fs.traffic().requests - before;
    println!("messages {messages}");
    match met && messages == 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Measures reads of `length` into a buffer `place` bytes into a page; whether the goal is met.
fn compare(cx: &Context<'_>, file: &File, memory: &[u8], length: usize, place: usize) -> bool {
    let mut buffer = Placed::new(place, length);
    let buffer = buffer.bytes();
    let (mut cached, mut copied) = (f64::MAX, f64::MAX);
    let mut allocations = 0;
    for _ in 0..REPEATS {
        // In turns, so that both meet the same neighbours; the least is what it costs.
        let used = measure(|| cached = cached.min(time(|| read(cx, file, buffer))));
        allocations += used.count_total;
        copied = copied.min(time(|| copy(memory, buffer)));
    }
    let speed = copied / cached;
    let (verdict, met) = match speed >= SPEED_MIN {
        _ if length < LENGTH_MIN => ("no goal", true),
        true => ("goal met", true),
        false => ("goal MISSED", false),
    };
    println!(
        "reads of {:>4} KiB   buffer +{place:<2}   cached {:>6.0}   memcpy {:>6.0}   \
         allocations {allocations}   speed {speed:.2}: {verdict}",
        length >> 10,
        per_read(cached, length),
        per_read(copied, length),
    );
    met && allocations == 0
}

/// Memory that begins so many bytes after the beginning of a page.
struct Placed {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Placed {
    fn new(place: usize, length: usize) -> Placed {
        let memory = vec![1; length + 2 * PAGE];
        let start = memory.as_ptr().align_offset(PAGE) + place;
        Placed {
            memory,
            start,
            length,
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

/// What a read costs that copies next to nothing.
#[inline(never)]
fn call(cx: &Context<'_>, file: &File) -> f64 {
    let mut byte = [0];
    let mut pass = || {
        for _ in 0..CALLS {
            let n = file.read_at(cx, &mut byte, 0).expect("read");
            black_box((n, &byte));
        }
    };
    let passes = (0..REPEATS).map(|_| time(&mut pass));
    passes.fold(f64::MAX, f64::min) / CALLS as f64
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
