//! The system calls an operation comes down to, made by this process itself.

use std::fs;
use std::hint::black_box;
use std::os::unix::fs::FileExt;

use criterion::Criterion;

use crate::{DEEP, READS, Tree};

pub(crate) fn measure(criterion: &mut Criterion, tree: &Tree) {
    let mut group = criterion.benchmark_group("direct");
    let deep = tree.path(DEEP);
    let stat = |name: &str| tree.path(name);
    let (top, fourth) = (stat("a"), stat("a/b/c/d"));
    for (name, path) in [
        ("stat", &top),
        ("walk-1", &top),
        ("walk-8", &deep),
        ("cached-stat-4", &fourth),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(fs::symlink_metadata(path).expect("stat")));
        });
    }
    let file = fs::File::open(tree.path("data")).expect("open");
    for (name, size) in READS {
        let mut buffer = vec![0; size];
        group.bench_function(name, |bencher| {
            bencher.iter(|| file.read_exact_at(&mut buffer, 0).expect("read"));
        });
    }
    let new = tree.path("new");
    group.bench_function("create-unlink", |bencher| {
        bencher.iter(|| {
            drop(fs::File::create_new(&new).expect("create"));
            fs::remove_file(&new).expect("unlink");
        });
    });
    group.finish();
}
