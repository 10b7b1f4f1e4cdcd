//! Round trips are a budget: what each operation may cost.

use super::*;
use Op::*;

fn tree(rig: &Rig) {
    rig.outside.mkdir(b"a").unwrap();
    rig.outside.mkdir(b"a/b").unwrap();
    rig.outside.write(b"a/b/c", b"content").unwrap();
}

#[test]
fn cached_stat_is_free_where_the_cache_is_the_truth() {
    for mode in EW {
        let rig = Rig::new(mode);
        tree(&rig);
        rig.stat("a/b/c").unwrap();
        rig.calls();
        rig.stat("a/b/c").unwrap();
        rig.stat("/a/../a/b/./c").unwrap();
        assert_eq!(rig.calls(), [], "{mode}");
    }
}

#[test]
fn cached_stat_of_any_depth_is_one_check_in_a_shared_tree() {
    for mode in S {
        let rig = Rig::new(mode);
        tree(&rig);
        rig.stat("a/b/c").unwrap();
        rig.calls();
        rig.stat("a/b/c").unwrap();
        assert_eq!(rig.calls(), [Revalidate], "{mode}");
        rig.stat("").unwrap();
        assert_eq!(rig.calls(), [Revalidate], "{mode}");
        rig.stat("a/../a").unwrap();
        assert_eq!(rig.calls(), [Revalidate, Revalidate], "{mode}");
    }
}

#[test]
fn cold_stat_is_one_walk_where_walks_take_many_names() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        tree(&rig);
        rig.stat("a/b/c").unwrap();
        assert_eq!(rig.calls(), [Walk], "{mode}");
        let rig = Setup::new(mode).like_9p().mount();
        tree(&rig);
        rig.stat("a/b/c").unwrap();
        assert_eq!(rig.calls(), [Walk, Walk, Walk], "{mode}");
    }
}

#[test]
fn absent_names_are_asked_for_once_or_always() {
    for (modes, again) in [(EW, &[][..]), (S, &[Walk][..])] {
        for mode in modes {
            let rig = Rig::new(mode);
            assert_eq!(errno(rig.stat("missing")), Errno::ENOENT);
            assert_eq!(rig.calls(), [Walk], "{mode}");
            assert_eq!(errno(rig.stat("missing")), Errno::ENOENT);
            assert_eq!(rig.calls(), again, "{mode}");
        }
    }
}

#[test]
fn a_walk_that_ends_early_tells_that_the_next_name_is_missing() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        tree(&rig);
        assert_eq!(errno(rig.stat("a/b/missing/x")), Errno::ENOENT);
        assert_eq!(rig.calls(), [Walk], "{mode}");
    }
}

#[test]
fn names_are_made_without_asking_whether_they_exist() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        rig.mkdir("d").unwrap();
        assert_eq!(rig.calls(), [Make], "{mode}");
        rig.create("new").unwrap();
        assert_eq!(rig.calls(), [Create], "{mode}");
        rig.symlink("x", "l").unwrap();
        assert_eq!(rig.calls(), [Make], "{mode}");
        rig.mkdir("d/e").unwrap();
        let parent: &[Op] = match mode.must_revalidate() {
            true => &[Revalidate, Make],
            false => &[Make],
        };
        assert_eq!(rig.calls(), parent, "{mode}");
    }
}

#[test]
fn exclusive_creation_asks_once() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        rig.open("new", OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::RDWR)
            .unwrap();
        assert_eq!(rig.calls(), [Create], "{mode}");
    }
}

#[test]
fn removing_an_uncached_name_is_one_call() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        rig.outside.write(b"f", b"").unwrap();
        rig.outside.mkdir(b"d").unwrap();
        rig.unlink("f").unwrap();
        rig.rmdir("d").unwrap();
        assert_eq!(rig.calls(), [Unlink, Unlink], "{mode}");
        assert_eq!(errno(rig.unlink("f")), Errno::ENOENT);
        let again: &[Op] = match mode.must_revalidate() {
            true => &[Unlink],
            false => &[],
        };
        assert_eq!(rig.calls(), again, "{mode}");
    }
}

#[test]
fn opening_again_reuses_the_handle_unless_each_has_its_own() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        tree(&rig);
        let _first = rig.open("a/b/c", OpenFlags::RDONLY).unwrap();
        assert_eq!(rig.calls(), [Walk, Open], "{mode}");
        let _second = rig.open("a/b/c", OpenFlags::RDONLY).unwrap();
        let again: &[Op] = match mode {
            InteropMode::Shared => &[Revalidate],
            InteropMode::SharedPerHandle => &[Revalidate, Open],
            _ => &[],
        };
        assert_eq!(rig.calls(), again, "{mode}");
    }
}

#[test]
fn listings_are_kept_where_the_cache_is_the_truth() {
    for mode in EW {
        let rig = Rig::new(mode);
        tree(&rig);
        let dir = rig.open("a", OpenFlags::DIRECTORY).unwrap();
        assert_eq!(rig.names(&dir), [".", "..", "b"]);
        rig.calls();
        let dir = rig.open("a", OpenFlags::DIRECTORY).unwrap();
        assert_eq!(rig.names(&dir), [".", "..", "b"]);
        assert_eq!(rig.calls(), [], "{mode}");
        rig.mkdir("a/new").unwrap();
        let dir = rig.open("a", OpenFlags::DIRECTORY).unwrap();
        assert_eq!(rig.names(&dir), [".", "..", "b", "new"]);
    }
}

#[test]
fn every_step_of_a_walk_tells_where_it_came_from() {
    use crate::StepSource;
    let rig = Rig::new(InteropMode::Exclusive);
    tree(&rig);
    rig.outside.symlink(b"a/b", b"l").unwrap();
    let walk = |path| {
        let (steps, end) = rig.fs.trace_walk(&rig.cx(), rig.at(path), Follow::Yes);
        let steps: Vec<_> = steps
            .into_iter()
            .map(|step| {
                let name = String::from_utf8(step.name).unwrap();
                (name, step.source, step.round_trips)
            })
            .collect();
        (
            steps,
            end.map(|node| node.ino()).map_err(|error| error.errno()),
        )
    };
    let step = |name: &str, source, trips| (name.to_owned(), source, trips);
    let (steps, end) = walk("l/c");
    assert_eq!(
        steps,
        [
            step("/", StepSource::Root, 0),
            step("l", StepSource::Remote, 2),
            step("a", StepSource::Remote, 1),
            step("b", StepSource::Prefetched, 0),
            step("c", StepSource::Prefetched, 0),
        ]
    );
    assert_eq!(end, Ok(rig.stat("a/b/c").unwrap().ino));
    let (steps, end) = walk("a/x");
    assert_eq!(steps[2], step("x", StepSource::Remote, 1));
    assert_eq!(end, Err(Errno::ENOENT));
    let (steps, _) = walk("a/x");
    assert_eq!(steps[2], step("x", StepSource::Negative, 0));
}

/// Directories `d1/d2/...` down to `depth`, and a file `f` in each.
fn deep(rig: &Rig, depth: usize) -> String {
    let mut path = String::new();
    for level in 1..=depth {
        path += &format!("d{level}");
        rig.outside.mkdir(path.as_bytes()).unwrap();
        path += "/";
    }
    rig.outside
        .write(format!("{path}f").as_bytes(), b"content")
        .unwrap();
    path
}

/// Both kinds of server, with the number of walks that a cold path of `depth` names takes.
fn servers(mode: InteropMode, depth: usize) -> [(Rig, usize); 2] {
    [
        (Setup::new(mode).mount(), 1),
        (Setup::new(mode).like_9p().mount(), depth),
    ]
}

#[test]
fn stat_of_any_depth_costs_one_walk_then_nothing_or_one_check() {
    for mode in InteropMode::ALL {
        for depth in [1, 2, 4, 8, 16] {
            for (rig, cold) in servers(mode, depth + 1) {
                let path = deep(&rig, depth) + "f";
                rig.stat(&path).unwrap();
                assert_eq!(rig.calls(), vec![Walk; cold], "{mode}, depth {depth}");
                for _ in 0..3 {
                    rig.stat(&path).unwrap();
                    let warm = vec![Revalidate; usize::from(mode.must_revalidate())];
                    assert_eq!(rig.calls(), warm, "{mode}, depth {depth}");
                }
            }
        }
    }
}

#[test]
fn opening_reading_and_closing_a_cached_file() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        let path = deep(&rig, 3) + "f";
        assert_eq!(rig.read_all(&path).unwrap(), b"content");
        rig.calls();
        assert_eq!(rig.read_all(&path).unwrap(), b"content");
        let mut calls = rig.calls();
        // Where data is cached it need not be read again; the end of the file is known.
        let reads = calls.iter().filter(|op| **op == Read).count();
        calls.retain(|op| *op != Read);
        let (opening, reading): (&[Op], usize) = match mode {
            InteropMode::Exclusive | InteropMode::Writethrough => (&[], 1),
            InteropMode::Shared => (&[Revalidate], 2),
            InteropMode::SharedPerHandle => (&[Revalidate, Open], 2),
        };
        assert_eq!(calls, opening, "{mode}");
        assert!(reads <= reading, "{mode}: {reads} reads");
    }
}

#[test]
fn names_known_to_be_absent_are_made_in_one_call() {
    for mode in EW {
        let rig = Rig::new(mode);
        deep(&rig, 1);
        assert_eq!(errno(rig.stat("d1/new")), Errno::ENOENT);
        rig.calls();
        rig.create("d1/new").unwrap();
        assert_eq!(rig.calls(), [Create], "{mode}");
        let dir = rig.open("d1", OpenFlags::DIRECTORY).unwrap();
        rig.names(&dir);
        rig.calls();
        rig.create("d1/newer").unwrap();
        assert_eq!(rig.calls(), [Create], "{mode}");
        rig.stat("d1/newer").unwrap();
        assert_eq!(rig.calls(), [], "{mode}");
    }
}

#[test]
fn a_listing_saves_the_lookups_of_what_is_not_there() {
    for mode in EW {
        let rig = Rig::new(mode);
        deep(&rig, 1);
        let dir = rig.open("d1", OpenFlags::DIRECTORY).unwrap();
        rig.names(&dir);
        rig.calls();
        for n in 0..100 {
            assert_eq!(errno(rig.stat(&format!("d1/n{n}"))), Errno::ENOENT);
        }
        assert_eq!(rig.calls(), [], "{mode}");
        rig.stat("d1/f").unwrap();
        rig.stat("d1/f").unwrap();
        assert_eq!(rig.calls(), [Walk], "{mode}");
    }
}

#[test]
fn changes_of_cached_files_cost_one_call_each() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        let path = deep(&rig, 8) + "f";
        rig.outside.symlink(b"target", b"link").unwrap();
        rig.outside.mkdir(b"to").unwrap();
        rig.stat(&path).unwrap();
        rig.lstat("link").unwrap();
        rig.stat("to").unwrap();
        assert_eq!(errno(rig.stat("to/f")), Errno::ENOENT);
        rig.calls();
        let checks = usize::from(mode.must_revalidate());
        let costs = |what: &str, checks: usize, calls: &[Op], work: &dyn Fn()| {
            work();
            let expected = [&vec![Revalidate; checks][..], calls].concat();
            assert_eq!(rig.calls(), expected, "{what} in {mode}");
        };
        costs("chmod", checks, &[SetAttr], &|| {
            rig.chmod(&path, 0o600).unwrap();
        });
        costs("readlink", checks, &[ReadLink], &|| {
            rig.fs.read_link(&rig.cx(), rig.at("link")).unwrap();
        });
        let again: &[Op] = if checks == 0 { &[] } else { &[ReadLink] };
        costs("readlink again", checks, again, &|| {
            rig.fs.read_link(&rig.cx(), rig.at("link")).unwrap();
        });
        costs("mkdir", checks, &[Make], &|| {
            rig.mkdir("to/dir").unwrap();
        });
        // Both paths are checked; that the new name is absent is only known in a cached tree.
        let rename: &[Op] = if checks == 0 {
            &[Rename]
        } else {
            &[Walk, Rename]
        };
        costs("rename", 2 * checks, rename, &|| {
            rig.rename(&path, "to/f").unwrap();
        });
        costs("unlink", checks, &[Unlink], &|| {
            rig.unlink("to/f").unwrap();
        });
    }
}

#[test]
fn a_changed_directory_costs_one_check_and_one_walk() {
    for mode in S {
        let rig = Rig::new(mode);
        let path = deep(&rig, 8) + "f";
        rig.stat(&path).unwrap();
        rig.outside.rename(b"d1/d2", b"d1/old").unwrap();
        rig.outside.mkdir(b"d1/d2").unwrap();
        rig.calls();
        assert_eq!(errno(rig.stat(&path)), Errno::ENOENT);
        assert_eq!(rig.calls(), [Revalidate, Walk], "{mode}");
    }
}
