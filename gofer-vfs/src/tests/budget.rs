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
