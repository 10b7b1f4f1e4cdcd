//! `reconnect=SECONDS`: what a connection that is lost and made again does to operations under
//! way, and to what was open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::faults::{cases, furnish};
use super::*;
use crate::attr::FileType;
use crate::error::Errno;
use crate::testing::mem_remote::Fault;

const FAULTS: [Fault; 2] = [Fault::Cut, Fault::CutAfter];

fn lasting(mode: InteropMode) -> Setup {
    Setup::new(mode).reconnect(30)
}

/// Everything the server has but times, in words.
fn tree(rig: &Rig) -> Vec<String> {
    let mut all = Vec::new();
    let mut dirs = vec![Vec::new()];
    while let Some(dir) = dirs.pop() {
        for name in rig.outside.list(&dir).unwrap() {
            let path = [&dir[..], b"/", name.as_slice()].concat();
            let attr = rig.outside.stat(&path).unwrap().attr;
            let content = match attr.file_type {
                FileType::Regular => rig.outside.read(&path).unwrap(),
                _ => Vec::new(),
            };
            all.push(format!(
                "{} {:?} {:o} {} {} {:?}",
                String::from_utf8_lossy(&path),
                attr.file_type,
                attr.mode,
                attr.nlink,
                attr.size,
                String::from_utf8_lossy(&content),
            ));
            if attr.file_type == FileType::Directory {
                dirs.push(path);
            }
        }
    }
    all.sort();
    all
}

#[test]
fn every_call_of_every_operation_survives_a_loss() {
    for setup in EW
        .map(lasting)
        .into_iter()
        .chain(EW.map(|mode| lasting(mode).like_9p()))
    {
        for (name, run, _) in cases() {
            let calm = furnish(setup.clone());
            run(&calm).unwrap();
            let calls = calm.calls().len() as u64;
            let expected = tree(&calm);
            assert!(calls > 0, "{name}");
            for (nth, fault) in (0..calls).flat_map(|nth| FAULTS.map(|fault| (nth, fault))) {
                let rig = furnish(setup.clone());
                rig.remote.inject_any(nth, fault);
                let what = format!("{name}, call {nth} of {calls}, {fault:?}, {}", setup.mode);
                run(&rig).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(tree(&rig), expected, "{what}");
                assert_eq!(rig.remote.count(Op::Reattach), 1, "{what}");
                assert_eq!(rig.remote.misuses(), 0, "{what}");
                rig.fs.unmount(&rig.cx()).unwrap();
                let Rig { fs, remote, .. } = rig;
                drop(fs);
                assert_eq!(
                    (remote.live_files(), remote.live_handles()),
                    (0, 0),
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn where_others_write_only_what_cannot_be_settled_is_an_error() {
    for mode in S {
        for (name, run, _) in cases() {
            let calm = furnish(lasting(mode));
            run(&calm).unwrap();
            let calls = calm.calls().len() as u64;
            let expected = tree(&calm);
            for (nth, fault) in (0..calls).flat_map(|nth| FAULTS.map(|fault| (nth, fault))) {
                let rig = furnish(lasting(mode));
                rig.remote.inject_any(nth, fault);
                let what = format!("{name}, call {nth} of {calls}, {fault:?}, {mode}");
                match run(&rig) {
                    Ok(()) => {}
                    // It was made; whether by us is not to be told apart from others.
                    Err(error) => {
                        assert_eq!(error.errno(), Errno::EIO, "{what}");
                        let makes = ["mkdir", "symlink", "mknod", "link"];
                        assert!(makes.contains(&name), "{what}");
                        assert_eq!(fault, Fault::CutAfter, "{what}");
                    }
                }
                assert_eq!(tree(&rig), expected, "{what}");
            }
        }
    }
}

#[test]
fn a_name_that_was_taken_before_is_never_taken_for_ours() {
    for setup in [
        lasting(InteropMode::Exclusive),
        lasting(InteropMode::Shared),
    ] {
        for fault in FAULTS {
            let exclusive = OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::WRONLY;
            type Make<'m> = &'m dyn Fn(&Rig) -> Result<()>;
            let makes: [Make<'_>; 4] = [
                &|rig| rig.open("f", exclusive).map(drop),
                &|rig| rig.mkdir("f"),
                &|rig| rig.symlink("x", "f"),
                &|rig| rig.link("d/cold", "f"),
            ];
            for make in makes {
                for nth in 0..4 {
                    let rig = furnish(setup.clone());
                    rig.remote.inject_any(nth, fault);
                    let made = errno(make(&rig));
                    let honest = made == Errno::EEXIST
                        || (made == Errno::EIO && setup.mode == InteropMode::Shared);
                    assert!(honest, "{made}");
                }
            }
        }
    }
}

#[test]
fn open_files_go_on_after_any_loss() {
    for mode in InteropMode::ALL {
        let rig = lasting(mode).mount();
        rig.mkdir("d").unwrap();
        let file = rig.create("d/f").unwrap();
        let mut expected = Vec::new();
        for round in 0..20u8 {
            match round % 4 {
                0 => rig.remote.drop_connection(),
                1 => rig.remote.inject(Op::Write, 0, Fault::Cut),
                2 => rig.remote.inject(Op::Write, 0, Fault::CutAfter),
                _ => {}
            }
            let part = [round; 100];
            assert_eq!(file.write(&rig.cx(), &part).unwrap(), 100);
            expected.extend(part);
            if round == 7 {
                rig.rename("d", "e").unwrap();
            }
            if round == 11 {
                rig.rename("e/f", "g").unwrap();
            }
        }
        rig.remote.drop_connection();
        file.sync(&rig.cx(), false).unwrap();
        let mut content = vec![0; 3000];
        let n = file.read_at(&rig.cx(), &mut content, 0).unwrap();
        assert_eq!(content[..n], expected[..], "{mode}");
        rig.remote.drop_connection();
        file.close(&rig.cx()).unwrap();
        assert_eq!(rig.outside.read(b"g").unwrap(), expected, "{mode}");
        // 3 of 4 rounds, and the two just now; closing needs no connection but to flush.
        assert!(rig.remote.count(Op::Reattach) >= 16, "{mode}");
    }
}

#[test]
fn appending_and_creating_are_not_done_twice() {
    for mode in InteropMode::ALL {
        let rig = furnish(lasting(mode));
        let file = rig
            .open("f", OpenFlags::WRONLY | OpenFlags::APPEND)
            .unwrap();
        for _ in 0..3 {
            rig.remote.inject(Op::Write, 0, Fault::CutAfter);
            assert_eq!(file.write(&rig.cx(), b"+").unwrap(), 1);
        }
        assert_eq!(rig.outside.read(b"f").unwrap(), b"content+++", "{mode}");
    }
}

#[test]
fn another_file_in_its_place_is_stale_and_its_data_is_not_served() {
    for mode in InteropMode::ALL {
        let rig = furnish(lasting(mode));
        let file = rig.open("f", OpenFlags::RDWR).unwrap();
        let below = rig.open("d/cold", OpenFlags::RDWR).unwrap();
        rig.remote.drop_connection();
        rig.outside.unlink(b"f").unwrap();
        rig.outside.write(b"f", b"other!!").unwrap();
        rig.outside.rename(b"d", b"moved").unwrap();
        rig.outside.mkdir(b"d").unwrap();
        rig.outside.write(b"d/cold", b"").unwrap();
        let mut into = [0; 7];
        for file in [&file, &below] {
            assert_eq!(errno(file.write_at(&rig.cx(), b"x", 0)), Errno::ESTALE);
        }
        assert_eq!(errno(file.read_at(&rig.cx(), &mut into, 0)), Errno::ESTALE);
        assert_eq!(into, [0; 7]);
        assert_eq!(rig.outside.read(b"f").unwrap(), b"other!!", "{mode}");
        assert_eq!(rig.outside.read(b"d/cold").unwrap(), b"", "{mode}");
        if mode.must_revalidate() {
            // By its path there is the new one.
            assert_eq!(rig.read_all("f").unwrap(), b"other!!", "{mode}");
            assert_eq!(rig.read_all("d/cold").unwrap(), b"", "{mode}");
        } else {
            assert_eq!(errno(rig.read_all("f")), Errno::ESTALE, "{mode}");
        }
    }
}

#[test]
fn a_removed_file_does_not_come_back_but_another_name_of_it_does() {
    for mode in InteropMode::ALL {
        let rig = furnish(lasting(mode));
        rig.link("f", "other").unwrap();
        let file = rig.open("f", OpenFlags::RDWR).unwrap();
        let gone = rig.open("d/cold", OpenFlags::RDWR).unwrap();
        rig.stat("other").unwrap();
        let held = rig.open("other", OpenFlags::PATH).unwrap();
        rig.unlink("f").unwrap();
        rig.unlink("d/cold").unwrap();
        rig.remote.drop_connection();
        assert_eq!(file.write_at(&rig.cx(), b"C", 0).unwrap(), 1, "{mode}");
        assert_eq!(rig.outside.read(b"other").unwrap(), b"Content", "{mode}");
        assert_eq!(errno(gone.write_at(&rig.cx(), b"x", 0)), Errno::ESTALE);
        drop(held);
    }
}

#[test]
fn listings_are_whole_whatever_happens_in_their_middle() {
    for mode in InteropMode::ALL {
        let mut setup = lasting(mode);
        setup.config.dir_batch = 3;
        let rig = setup.mount();
        let mut expected: Vec<String> = (0..20).map(|n| format!("n{n:02}")).collect();
        for name in &expected {
            rig.outside.write(name.as_bytes(), b"").unwrap();
        }
        for (nth, fault) in (0..7).flat_map(|nth| FAULTS.map(|fault| (nth, fault))) {
            rig.fs.drop_caches();
            let dir = rig.open("/", OpenFlags::DIRECTORY).unwrap();
            rig.remote.inject(Op::ReadDir, nth, fault);
            let mut names = rig.names(&dir);
            names.retain(|name| !name.starts_with('.'));
            names.sort();
            assert_eq!(names, expected, "{mode}, {nth}, {fault:?}");
            // The next listing meets another order.
            let moved = expected.remove(nth as usize);
            rig.outside.unlink(moved.as_bytes()).unwrap();
            rig.outside.write(moved.as_bytes(), b"").unwrap();
            expected.push(moved);
            expected.sort();
        }
    }
}

#[test]
fn one_caller_connects_and_all_go_on() {
    let rig = furnish(lasting(InteropMode::Shared));
    for n in 0..8 {
        rig.outside.write(format!("n{n}").as_bytes(), b"x").unwrap();
        rig.stat(&format!("n{n}")).unwrap();
    }
    for refusals in 0..3 {
        rig.remote.drop_connection();
        for _ in 0..refusals {
            let fault = Fault::Refuse(Errno::ECONNREFUSED);
            rig.remote.inject(Op::Reattach, 0, fault);
        }
        let before = rig.remote.count(Op::Reattach);
        std::thread::scope(|scope| {
            for n in 0..8 {
                let rig = &rig;
                scope.spawn(move || rig.stat(&format!("n{n}")).unwrap());
            }
        });
        assert_eq!(rig.remote.count(Op::Reattach), before + refusals + 1);
    }
}

#[test]
fn a_server_that_stays_away_is_given_up_for_good() {
    let rig = furnish(Setup::new(InteropMode::Shared).reconnect(1));
    rig.stat("f").unwrap();
    let fault = Fault::Refuse(Errno::ECONNREFUSED);
    rig.remote.inject_always(Op::Reattach, fault);
    rig.remote.drop_connection();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(errno(rig.stat("f")), Errno::EIO));
        }
    });
    assert!(start.elapsed() >= Duration::from_secs(1));
    // From now on at once, also if it came back.
    rig.remote.heal();
    let tried = rig.remote.count(Op::Reattach);
    assert_eq!(errno(rig.stat("f")), Errno::EIO);
    assert_eq!(errno(rig.mkdir("new")), Errno::EIO);
    assert_eq!(rig.remote.count(Op::Reattach), tried);
}

#[test]
fn a_waiting_caller_may_give_up_and_another_takes_over() {
    let rig = furnish(lasting(InteropMode::Shared));
    rig.stat("f").unwrap();
    let fault = Fault::Refuse(Errno::ECONNREFUSED);
    rig.remote.inject_always(Op::Reattach, fault);
    rig.remote.drop_connection();
    let cancel = crate::Cancel::new().unwrap();
    let (tries, began) = std::sync::mpsc::channel();
    rig.remote
        .before(Op::Reattach, move || tries.send(()).unwrap());
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            let cx = Context {
                cancel: Some(&cancel),
                ..rig.cx()
            };
            errno(rig.fs.stat(&cx, rig.at("f"), Follow::Yes))
        });
        began.recv().unwrap();
        let late = Context {
            deadline: Some(Instant::now() + Duration::from_millis(20)),
            ..rig.cx()
        };
        let found = rig.fs.stat(&late, rig.at("f"), Follow::Yes);
        assert_eq!(errno(found), Errno::ETIMEDOUT);
        let second = scope.spawn(|| rig.stat("f").map(drop));
        cancel.set();
        assert_eq!(first.join().unwrap(), Errno::EINTR);
        rig.remote.heal();
        second.join().unwrap().unwrap();
    });
}

#[test]
fn an_unmount_ends_the_wait() {
    let rig = furnish(lasting(InteropMode::Shared));
    rig.stat("f").unwrap();
    let fault = Fault::Refuse(Errno::ECONNREFUSED);
    rig.remote.inject_always(Op::Reattach, fault);
    let (tries, began) = std::sync::mpsc::channel();
    rig.remote
        .before(Op::Reattach, move || tries.send(()).unwrap());
    rig.remote.drop_connection();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| errno(rig.stat("f")));
        began.recv().unwrap();
        rig.fs.unmount(&rig.cx()).unwrap();
        assert_eq!(waiting.join().unwrap(), Errno::EIO);
    });
}

#[test]
fn renames_and_losses_at_once_make_nothing_stale() {
    for mode in InteropMode::ALL {
        let rig = lasting(mode).mount();
        rig.mkdir("a").unwrap();
        rig.mkdir("a/b").unwrap();
        let file = rig.create("a/b/f").unwrap();
        let renames = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let renamer = scope.spawn(|| {
                for round in 0..100 {
                    let (from, to) = if round % 2 == 0 {
                        ("a", "z")
                    } else {
                        ("z", "a")
                    };
                    rig.rename(from, to).unwrap();
                    renames.fetch_add(1, Ordering::SeqCst);
                }
            });
            let mut round = 0u64;
            let mut met = u64::MAX;
            while !renamer.is_finished() {
                // Each rename meets a loss, and none meets them for ever.
                let now = renames.load(Ordering::SeqCst);
                if now != met {
                    rig.remote.drop_connection();
                    met = now;
                }
                file.write_at(&rig.cx(), &round.to_le_bytes(), 0).unwrap();
                round += 1;
            }
        });
        assert_eq!(rig.remote.misuses(), 0, "{mode}");
    }
}

#[test]
fn a_request_that_ends_every_connection_is_given_up() {
    let rig = furnish(Setup::new(InteropMode::Exclusive).reconnect(1));
    rig.stat("f").unwrap();
    rig.remote.inject_always(Op::Open, Fault::Cut);
    assert_eq!(errno(rig.open("f", OpenFlags::RDONLY)), Errno::EIO);
    rig.remote.heal();
    // It is that request alone.
    let file: Arc<File> = Arc::new(rig.open("f", OpenFlags::RDONLY).unwrap());
    assert_eq!(file.read_at(&rig.cx(), &mut [0; 9], 0).unwrap(), 7);
}
