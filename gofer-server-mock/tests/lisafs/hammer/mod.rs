//! Many clients with several channels each, hammering one tree. `cargo xtask hammer` runs this for
//! longer, by the variables of the environment that are read here.

mod content;
mod team;
mod worker;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gofer_transport::Stream;

use super::channel::Channel;
use crate::common::{Client, PATIENCE, Resources, Server};
use content::Dice;
use team::{Pool, Way, World};
use worker::{Item, Worker};

const SHARED: [&str; 3] = ["one", "two", "three"];

/// How much to do.
#[derive(Debug)]
struct Load {
    clients: u64,
    /// Of each client; every one has a thread, as the socket has.
    channels: u64,
    time: Duration,
}

/// A number of it: as the environment says, or a little.
fn from_environment(variable: &str, usual: u64) -> u64 {
    match std::env::var(variable) {
        Ok(value) => value.parse().expect("a number"),
        Err(_) => usual,
    }
}

#[test]
fn clients_hammering_one_tree_keep_it_right_and_leave_nothing() {
    let load = Load {
        clients: from_environment("HAMMER_CLIENTS", 8),
        channels: from_environment("HAMMER_CHANNELS", 4),
        time: Duration::from_secs(from_environment("HAMMER_SECONDS", 5)),
    };
    let tree = tempfile::tempdir().unwrap();
    let world = World::new((load.clients * (load.channels + 1)) as usize);
    for dir in SHARED.into_iter().chain(["here", "there"]) {
        fs::create_dir(tree.path().join(dir)).unwrap();
    }
    for thread in 0..world.homes() {
        fs::create_dir(tree.path().join(format!("here/home-{thread}"))).unwrap();
    }
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("config");
    fs::write(&config, format!("[limits]\nchannels = {}\n", load.channels)).unwrap();
    let options = ["--protocol", "lisafs", "--config", config.to_str().unwrap()];
    let (server, socket) = Server::at(place.path(), tree.path(), &options);
    let fresh = warm_up(&server, &socket);
    let homes = hammer(&server, &socket, &load, &world);
    server.settle_at(fresh);
    let steps = world.steps.load(Ordering::Relaxed);
    println!("{steps} steps in {:?}", load.time);
    assert!(steps > 0);
    check_homes(tree.path(), &homes, &world);
    check_shared(tree.path(), &world);
}

/// Has the server open what it keeps from the first use on; what it has then, without a client.
pub fn warm_up(server: &Server, socket: &Path) -> Resources {
    let threads = server.use_of_resources().threads;
    let client = Client::on(Stream::connect_unix(socket).unwrap());
    let root = client.mount();
    let way = Way::Socket(client);
    let open = way.open(root, 0).unwrap();
    way.list(open, -4096).unwrap();
    drop(way);
    let until = Instant::now() + PATIENCE;
    while server.use_of_resources().threads != threads {
        assert!(Instant::now() < until, "the connection does not end");
        std::thread::yield_now();
    }
    server.use_of_resources()
}

/// What each thread left in its directory, which is in `here` (0) or `there` (1).
type Homes = Vec<(usize, BTreeMap<&'static str, Item>)>;

/// Connects, works and leaves; the server holds nothing for what was closed.
fn hammer(server: &Server, socket: &Path, load: &Load, world: &World) -> Homes {
    let fresh = server.use_of_resources();
    let roots: Vec<_> = (0..load.clients)
        .map(|_| {
            let client = Client::on(Stream::connect_unix(socket).unwrap());
            let root = client.mount();
            let channels: Vec<_> = (0..load.channels).map(|_| Channel::open(&client)).collect();
            // Answered after the server has let go of the descriptors that it gave away.
            assert!(client.walk(root, &["nowhere"]).unwrap().is_empty());
            (client, root, channels)
        })
        .collect();
    let mounted = server.use_of_resources();
    let (clients, channels) = (load.clients as usize, load.channels as usize);
    assert_eq!(mounted.windows, clients * channels);
    // One for each channel and one for each socket.
    assert_eq!(mounted.threads, fresh.threads + clients * (channels + 1));
    let pools: Vec<Pool> = roots.iter().map(|_| Pool::default()).collect();
    let mut workers = Vec::new();
    for ((client, root, channels), pool) in roots.into_iter().zip(&pools) {
        let socket = std::iter::once(Way::Socket(client));
        for way in channels.into_iter().map(Way::Channel).chain(socket) {
            let to = |names: &[&str]| way.reach(root, names);
            let name = format!("home-{}", workers.len());
            workers.push(Worker {
                home: to(&["here", &name]),
                name,
                places: [to(&["here"]), to(&["there"])],
                place: 0,
                shared: SHARED.iter().map(|dir| to(&[dir])).collect(),
                pool,
                world,
                dice: Dice(workers.len() as u64),
                items: BTreeMap::new(),
                way,
            });
        }
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = workers
            .iter_mut()
            .map(|worker| scope.spawn(|| worker.run()))
            .collect();
        watch(server, world, Instant::now() + load.time, || {
            threads.iter().any(|thread| thread.is_finished())
        });
        world.stop.store(true, Ordering::Relaxed);
    });
    for worker in &workers {
        worker.pool.close_all(&worker.way);
        worker.way.close(&worker.all_fds());
    }
    server.settle_at(mounted);
    workers
        .into_iter()
        .map(|worker| (worker.place, worker.items))
        .collect()
}

/// Waits until `end`, or until a thread has failed; says where the server's threads are when
/// nothing moves any more.
fn watch(server: &Server, world: &World, end: Instant, failed: impl Fn() -> bool) {
    let mut last = (0, Instant::now());
    while Instant::now() < end && !failed() {
        std::thread::sleep(Duration::from_millis(50));
        let steps = world.steps.load(Ordering::Relaxed);
        if steps != last.0 {
            last = (steps, Instant::now());
        } else if last.1.elapsed() > PATIENCE / 3 {
            // The threads' own patience ends the test.
            eprintln!("nothing moves:\n{}", threads_of(server.child.id()));
            return;
        }
    }
}

/// What the threads of a process wait for.
fn threads_of(process: u32) -> String {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    tasks
        .flatten()
        .map(|task| {
            let [name, wait, call, stack] = ["comm", "wchan", "syscall", "stack"]
                .map(|file| read(&task.path().join(file)).trim_end().to_string());
            format!("{name}: in {wait}, system call {call}\n{stack}\n")
        })
        .collect()
}

/// The directories of single threads have what their threads know, to the byte.
fn check_homes(tree: &Path, homes: &Homes, world: &World) {
    assert_eq!(homes.len(), world.homes());
    for (thread, (place, items)) in homes.iter().enumerate() {
        let home = tree
            .join(["here", "there"][*place])
            .join(format!("home-{thread}"));
        let mut names = Vec::new();
        for entry in fs::read_dir(&home).unwrap() {
            names.push(entry.unwrap().file_name().into_string().unwrap());
        }
        names.sort();
        assert_eq!(names, items.keys().copied().collect::<Vec<_>>());
        for (name, item) in items {
            let path = home.join(name);
            let meta = fs::symlink_metadata(&path).unwrap();
            match item {
                Item::Directory => assert!(meta.is_dir()),
                Item::File { id, ino, blocks } => {
                    assert_eq!(meta.ino(), *ino);
                    let should = content::content(*id, *blocks);
                    assert!(fs::read(&path).unwrap() == should, "{}", path.display());
                }
            }
        }
    }
}

/// The shared directories have as many names as were made and not removed, and every file has
/// its own content.
fn check_shared(tree: &Path, world: &World) {
    let mut left = 0;
    let mut todo: Vec<_> = SHARED.iter().map(|dir| tree.join(dir)).collect();
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            left += 1;
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            } else {
                let bytes = fs::read(entry.path()).unwrap();
                world.check(&bytes, entry.metadata().unwrap().ino());
            }
        }
    }
    let made = world.names.load(Ordering::Relaxed);
    let replaced = world.replacing.load(Ordering::Relaxed);
    assert!(
        (made - replaced..=made).contains(&left),
        "{left} names are left of {made}, {replaced} of them may have been replaced"
    );
}
