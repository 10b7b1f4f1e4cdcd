//! Paths that are answered as a whole: when they are, and that no answer outlives what it says.

mod stale;
mod storm;

use super::*;

/// Looks at `path` until it is answered as a whole.
#[track_caller]
fn warm(rig: &Rig, path: &str) {
    for _ in 0..3 {
        let _ = rig.lstat(path);
    }
    assert!(is_answered(rig, path), "{path} is not answered as a whole");
}

/// Whether the next look at `path` is answered as a whole.
fn is_answered(rig: &Rig, path: &str) -> bool {
    let before = rig.fs.stats().answer_hits;
    let _ = rig.lstat(path);
    rig.fs.stats().answer_hits > before
}

/// As the usual, with a server that can exchange names.
fn exchanging(mode: InteropMode) -> Setup {
    let mut setup = Setup::new(mode);
    setup.config.capabilities.rename_flags = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE;
    setup
}

/// A tree with a path of four names.
fn deep(mode: InteropMode) -> Rig {
    let rig = exchanging(mode).mount();
    for dir in ["a", "a/b", "a/b/c"] {
        rig.mkdir(dir).unwrap();
    }
    drop(rig.create("a/b/c/file").unwrap());
    rig
}

#[test]
fn answers_are_what_a_walk_finds() {
    for mode in EW {
        let rig = deep(mode);
        rig.symlink("b", "a/link").unwrap();
        let paths = [
            "a",
            "/a/b",
            "a//b/./c/",
            "a/b/c/file",
            "a/link",
            "a/none",
            "a/b/c/none",
        ];
        let walked: Vec<_> = paths
            .map(|path| rig.lstat(path).map_err(|e| e.errno()))
            .into();
        for (path, walked) in paths.iter().zip(walked) {
            warm(&rig, path);
            let answered = rig.lstat(path).map_err(|error| error.errno());
            assert_eq!(answered, walked, "{mode} {path}");
        }
        // Permissions are those of what was found.
        let want = crate::AccessMask::WRITE;
        let user = Credentials::user(1000, 1000, Vec::new());
        let access = |creds| {
            let at = rig.at("a/b/c/file");
            rig.fs.access(&Context::new(creds), at, want)
        };
        access(&rig.creds).unwrap();
        assert_eq!(errno(access(&user)), Errno::EACCES);
    }
}

#[test]
fn an_answer_costs_no_message_and_no_memory_and_counts_as_a_walk() {
    for mode in EW {
        let rig = deep(mode);
        rig.calls();
        for (path, [lookups, hits, negative]) in
            [("a/b/c/file", [4, 4, 0]), ("a/b/c/none", [4, 3, 1])]
        {
            warm(&rig, path);
            rig.calls();
            let before = rig.fs.stats();
            let used = allocation_counter::measure(|| drop(rig.lstat(path)));
            // The error has the path.
            assert_eq!(used.count_total, 2 * negative, "{path}");
            let after = rig.fs.stats();
            assert_eq!(after.answer_hits, before.answer_hits + 1);
            assert_eq!(after.lookups, before.lookups + lookups);
            assert_eq!(after.cache_hits, before.cache_hits + hits);
            assert_eq!(after.negative_hits, before.negative_hits + negative);
            assert_eq!(rig.calls(), []);
        }
    }
}

#[test]
fn an_answer_makes_no_system_call() {
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

    /// The thread that must not make any, and whether it has done its work.
    static THREAD: AtomicI32 = AtomicI32::new(0);
    static DONE: AtomicBool = AtomicBool::new(false);

    let rig = deep(InteropMode::Exclusive);
    warm(&rig, "a/b/c/file");
    // It ends with its first system call, whatever that is.
    std::thread::spawn(move || {
        rig.lstat("a/b/c/file").unwrap();
        THREAD.store(
            rustix::thread::gettid().as_raw_nonzero().get(),
            Ordering::SeqCst,
        );
        let filter = seccompiler::SeccompFilter::new(
            Default::default(),
            seccompiler::SeccompAction::KillThread,
            seccompiler::SeccompAction::Allow,
            std::env::consts::ARCH.try_into().unwrap(),
        );
        let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
        seccompiler::apply_filter(&program).unwrap();
        for _ in 0..100 {
            if rig.lstat("a/b/c/file").is_err() {
                break;
            }
        }
        DONE.store(true, Ordering::SeqCst);
        std::thread::park();
    });
    let lives = || {
        let thread = THREAD.load(Ordering::SeqCst);
        thread == 0 || std::path::Path::new(&format!("/proc/self/task/{thread}")).exists()
    };
    while lives() && !DONE.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    assert!(DONE.load(Ordering::SeqCst), "it made a system call");
    // The filter is one that ends a thread: parking is a call.
    while lives() {
        std::thread::yield_now();
    }
}

#[test]
fn nothing_is_answered_as_a_whole_where_others_may_change_it() {
    for mode in S {
        let rig = Setup::new(mode).revalidate_after(1000).mount();
        drop(rig.create("f").unwrap());
        for path in ["f", "none"] {
            (0..4).for_each(|_| drop(rig.lstat(path)));
        }
        let stats = rig.fs.stats();
        assert_eq!((stats.answers, stats.answer_hits), (0, 0), "{mode}");
    }
}

#[test]
fn only_plain_walks_are_remembered() {
    let rig = deep(InteropMode::Exclusive);
    rig.symlink("a/b", "link").unwrap();
    let long = format!("{}a", "./".repeat(300));
    for path in ["a/../a", "link/c", "a/b/..", long.as_str(), ""] {
        for _ in 0..4 {
            rig.stat(path).unwrap();
        }
    }
    assert_eq!(rig.fs.stats().answers, 0);
    // A link is one thing, and what it leads to another.
    warm(&rig, "link");
    assert_eq!(
        rig.lstat("link").unwrap().attr.file_type,
        crate::FileType::Symlink
    );
    assert_eq!(rig.stat("link").unwrap(), rig.stat("a/b").unwrap());
    // What lies on the same names elsewhere is another thing, too.
    let start = rig
        .fs
        .resolve(&rig.cx(), rig.at("a/b"), Follow::No)
        .unwrap();
    drop(rig.create("a/b/a").unwrap());
    let from = |start| {
        let at = At::new(start, b"a");
        rig.fs.stat(&rig.cx(), at, Follow::No).unwrap().ino
    };
    for _ in 0..3 {
        assert_ne!(from(&start), from(rig.fs.root_ref()));
    }
}

#[test]
fn answers_are_bounded_and_go_with_the_caches() {
    let rig = Setup::new(InteropMode::Exclusive).limit(10_000).mount();
    for n in 0..3000 {
        let path = format!("missing{n}");
        for _ in 0..3 {
            assert_eq!(errno(rig.lstat(&path)), Errno::ENOENT);
        }
    }
    let stats = rig.fs.stats();
    assert!((500..=1024).contains(&stats.answers), "{stats:?}");
    let each = stats.answer_bytes / stats.answers;
    assert!((200..600).contains(&each), "{stats:?}");
    rig.fs.drop_caches();
    let stats = rig.fs.stats();
    assert_eq!((stats.answers, stats.answer_bytes), (0, 0));
}

#[test]
fn answers_keep_no_file_alive() {
    let rig = deep(InteropMode::Exclusive);
    warm(&rig, "a/b/c/file");
    warm(&rig, "a/b/c/none");
    rig.unlink("a/b/c/file").unwrap();
    assert_eq!(rig.fs.stats().live_dentries, 4);
    assert_eq!(rig.remote.live_files(), 4);
    rig.rmdir("a/b/c").unwrap();
    assert_eq!(rig.remote.live_files(), 3);
    assert_eq!(errno(rig.lstat("a/b/c/none")), Errno::ENOENT);
    let remote = rig.remote.clone();
    drop(rig);
    assert_eq!(remote.live_files(), 0);
}

#[test]
fn what_is_answered_as_a_whole_is_not_evicted_before_what_is_not_used() {
    let rig = Setup::new(InteropMode::Exclusive).limit(40).mount();
    drop(rig.create("hot").unwrap());
    warm(&rig, "hot");
    for n in 0..400 {
        let cold = format!("cold{n}");
        drop(rig.create(&cold).unwrap());
        rig.calls();
        for _ in 0..3 {
            rig.lstat("hot").unwrap();
        }
        assert_eq!(rig.calls(), [], "{n}");
    }
    let stats = rig.fs.stats();
    assert!(stats.answer_hits > 1000, "{stats:?}");
    assert!(stats.evictions > 300, "{stats:?}");
}
