//! Threads that look while others change what they look at: once a change has returned, nobody
//! sees what was before.
//!
//! Each story is a thing that one thread changes, one step after the other, and says of each step
//! when it begins and when it is done. Those who look check what they saw against the last step
//! that was done, unless another had begun by then. The next step waits until all have looked
//! several times, so that there is an answer to be outdated.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

const LOOKERS: usize = 3;
/// Looks of each looker at each step.
const LOOKS: u64 = 4;

/// Makes step `.1` of its story.
type Change = fn(&World, u64);
/// What is wrong with what is seen after a step.
type Check = fn(&World, u64) -> std::result::Result<(), String>;

struct Story {
    name: &'static str,
    change: Change,
    check: Check,
    begun: AtomicU64,
    done: AtomicU64,
    looks: [AtomicU64; LOOKERS],
}

struct World {
    rig: Rig,
    inner: Rig,
    user: Credentials,
    failed: Mutex<Option<String>>,
    over: AtomicBool,
}

impl World {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    fn fail(&self, what: String) {
        self.failed.lock().unwrap().get_or_insert(what);
        self.over.store(true, Ordering::SeqCst);
    }

    /// What there is: the inode number, or an error.
    fn look(&self, path: &str) -> std::result::Result<u64, Errno> {
        let found = self.rig.lstat(path);
        found.map(|stat| stat.ino).map_err(|error| error.errno())
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(seen: T, expected: T) -> std::result::Result<(), String> {
    match seen == expected {
        true => Ok(()),
        false => Err(format!("saw {seen:?} instead of {expected:?}")),
    }
}

fn is_even(step: u64) -> bool {
    step.is_multiple_of(2)
}

/// Every step is either way of two: there, or not.
fn there(world: &World, path: &str, expected: bool) -> std::result::Result<(), String> {
    let seen = world.look(path).map(|_| ());
    expect(seen, if expected { Ok(()) } else { Err(Errno::ENOENT) })
}

const STORIES: [(&str, Change, Check); 9] = [
    (
        "an ancestor is renamed",
        |world, step| {
            let (from, to) = if is_even(step) {
                ("top/y", "top/x")
            } else {
                ("top/x", "top/y")
            };
            world.rig.rename(from, to).unwrap();
        },
        |world, step| {
            there(world, "top/x/d/file", is_even(step))?;
            there(world, "top/y/d/file", !is_even(step))
        },
    ),
    (
        "a directory is closed to others",
        |world, step| {
            let mode = if is_even(step) { 0o755 } else { 0o700 };
            world.rig.chmod("guarded/by", mode).unwrap();
        },
        |world, step| {
            let cx = Context::new(&world.user);
            let at = world.rig.at("guarded/by/mode/file");
            let seen = world.rig.fs.stat(&cx, at, Follow::No);
            let seen = seen.map(|_| ()).map_err(|error| error.errno());
            expect(
                seen,
                if is_even(step) {
                    Ok(())
                } else {
                    Err(Errno::EACCES)
                },
            )?;
            there(world, "guarded/by/mode/file", true)
        },
    ),
    (
        "a file comes and goes",
        |world, step| match is_even(step) {
            true => drop(world.rig.create("dir/now").unwrap()),
            false => world.rig.unlink("dir/now").unwrap(),
        },
        |world, step| there(world, "dir/now", is_even(step)),
    ),
    (
        "a directory comes and goes",
        |world, step| match is_even(step) {
            true => {
                world.rig.mkdir("dir/sub").unwrap();
                drop(world.rig.create("dir/sub/in").unwrap());
            }
            false => {
                world.rig.unlink("dir/sub/in").unwrap();
                world.rig.rmdir("dir/sub").unwrap();
            }
        },
        |world, step| {
            there(world, "dir/sub/in", is_even(step))?;
            there(world, "dir/sub", is_even(step))
        },
    ),
    (
        "a file changes its size",
        |world, step| {
            let size = SetAttr {
                size: Some(step),
                ..SetAttr::default()
            };
            world.rig.set_attr("dir/sized", size).unwrap();
        },
        |world, step| expect(world.rig.attr("dir/sized").size, step),
    ),
    (
        "two files change places",
        |world, _| {
            let exchange = RenameFlags::EXCHANGE;
            world
                .rig
                .rename_with("swap/one/f", "swap/two/f", exchange)
                .unwrap();
        },
        |world, step| {
            let (one, two) = (world.look("swap/one/f"), world.look("swap/two/f"));
            let (first, second) = (world.look("swap/first"), world.look("swap/second"));
            match is_even(step) {
                true => expect((one, two), (first, second)),
                false => expect((one, two), (second, first)),
            }
        },
    ),
    (
        "a file has another name for a while",
        |world, step| match is_even(step) {
            true => world.rig.unlink("links/b").unwrap(),
            false => world.rig.link("links/a", "links/b").unwrap(),
        },
        |world, step| {
            expect(world.rig.attr("links/a").nlink, 1 + step % 2)?;
            there(world, "links/b", !is_even(step))
        },
    ),
    (
        "another filesystem is mounted on the way",
        |world, step| {
            let (rig, at) = (&world.rig, world.rig.at("point/m"));
            match is_even(step) {
                // Busy while somebody looks at what is in it.
                true => {
                    while world.goes_on() && rig.fs.unmount_at(&rig.cx(), at).is_err() {
                        std::thread::yield_now();
                    }
                }
                false => rig.fs.mount_at(&rig.cx(), at, &world.inner.fs).unwrap(),
            }
        },
        |world, step| {
            there(world, "point/m/below", is_even(step))?;
            there(world, "point/m/above", !is_even(step))
        },
    ),
    (
        "everything is dropped",
        |world, _| world.rig.fs.drop_caches(),
        |world, _| there(world, "point/still", true),
    ),
];

fn world(setup: Setup) -> World {
    let inner = Setup::new(setup.mode).mount();
    drop(inner.create("above").unwrap());
    let rig = setup.mount();
    for dir in [
        "top",
        "top/x",
        "top/x/d",
        "guarded",
        "guarded/by",
        "guarded/by/mode",
        "dir",
        "dir/sub",
        "swap",
        "swap/one",
        "swap/two",
        "links",
        "point",
        "point/m",
    ] {
        rig.mkdir(dir).unwrap();
    }
    for file in [
        "top/x/d/file",
        "guarded/by/mode/file",
        "dir/now",
        "dir/sub/in",
        "dir/sized",
        "swap/one/f",
        "swap/two/f",
        "links/a",
        "point/m/below",
        "point/still",
    ] {
        drop(rig.create(file).unwrap());
    }
    rig.link("swap/one/f", "swap/first").unwrap();
    rig.link("swap/two/f", "swap/second").unwrap();
    World {
        rig,
        inner,
        user: Credentials::user(1000, 1000, vec![5]),
        failed: Mutex::new(None),
        over: AtomicBool::new(false),
    }
}

fn tell(world: &World, story: &Story, steps: u64) {
    for step in 1..=steps {
        if !world.goes_on() {
            return;
        }
        story.begun.store(step, Ordering::SeqCst);
        (story.change)(world, step);
        story.done.store(step, Ordering::SeqCst);
        let before = story
            .looks
            .each_ref()
            .map(|looks| looks.load(Ordering::SeqCst));
        let seen =
            |(looks, before): (&AtomicU64, &u64)| looks.load(Ordering::SeqCst) >= before + LOOKS;
        while world.goes_on() && !story.looks.iter().zip(&before).all(seen) {
            std::thread::yield_now();
        }
    }
}

fn look_on(world: &World, stories: &[Story], looker: usize) {
    while world.goes_on() {
        for story in stories {
            let step = story.done.load(Ordering::SeqCst);
            let checked = (story.check)(world, step);
            let begun = story.begun.load(Ordering::SeqCst);
            if let Err(wrong) = checked
                && begun == step
            {
                world.fail(format!("{}, step {step}: {wrong}", story.name));
            }
            story.looks[looker].fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Ends the others if a thread panics, which would else wait for it.
struct EndAll<'w>(&'w World);

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.over.store(true, Ordering::SeqCst);
        }
    }
}

fn storm(setup: Setup, steps: u64) {
    let limit = setup.limit;
    let world = world(setup);
    let stories = STORIES.map(|(name, change, check)| Story {
        name,
        change,
        check,
        begun: AtomicU64::new(0),
        done: AtomicU64::new(0),
        looks: Default::default(),
    });
    let (world, all) = (&world, &stories);
    std::thread::scope(|scope| {
        for looker in 0..LOOKERS {
            scope.spawn(move || {
                let _end = EndAll(world);
                look_on(world, all, looker);
            });
        }
        let told = all.each_ref().map(|story| {
            scope.spawn(move || {
                let _end = EndAll(world);
                tell(world, story, steps);
            })
        });
        let ends: Vec<_> = told.into_iter().map(|told| told.join().is_ok()).collect();
        world.over.store(true, Ordering::SeqCst);
        assert!(ends.iter().all(|end| *end), "a change failed");
    });
    assert_eq!(*world.failed.lock().unwrap(), None);
    let stats = world.rig.fs.stats();
    // With hardly any cache, what an answer rests on is evicted before it is asked for.
    assert!(stats.answer_hits > steps || limit < 100, "{stats:?}");
    world.rig.fs.drop_caches();
    assert_eq!(
        world.rig.fs.stats().live_dentries,
        1,
        "nothing is kept alive"
    );
    assert_eq!(world.rig.remote.live_files(), 1);
    assert_eq!(world.rig.remote.misuses(), 0);
}

/// More where it is fast.
const STEPS: u64 = if cfg!(debug_assertions) { 60 } else { 300 };

#[test]
fn no_answer_outlives_a_change() {
    for mode in EW {
        storm(exchanging(mode), STEPS);
    }
}

#[test]
fn no_answer_outlives_a_change_while_all_is_evicted() {
    let mut setup = exchanging(InteropMode::Exclusive).limit(3);
    setup.config.capabilities.multi_walk = false;
    setup.config.found_on_make = false;
    storm(setup, STEPS);
}
