//! Link counts: what is counted here, and what a reply says that comes meanwhile.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use super::*;
use crate::testing::mem_remote::Fault;
use crate::{AllocMode, EventMask, Node};

/// A mount on which the count of a file with three names is in doubt: `a` and `b` are cached, and
/// somebody removed `c`, which was not.
fn doubted(mode: InteropMode) -> Arc<Rig> {
    let rig = Rig::new(mode);
    rig.outside.write(b"a", b"").unwrap();
    for name in [&b"b"[..], b"c"] {
        rig.outside.link(b"a", name).unwrap();
    }
    rig.lstat("a").unwrap();
    rig.lstat("b").unwrap();
    rig.unlink("c").unwrap();
    Arc::new(rig)
}

/// Has another thread look at `path`, which asks the server, after `op` was carried out and before
/// its caller hears of it. What was seen.
fn look_after(rig: &Arc<Rig>, op: Op, path: &'static str) -> Arc<Mutex<Option<u64>>> {
    let seen = Arc::new(Mutex::new(None));
    let (other, told) = (rig.clone(), seen.clone());
    rig.remote.after(op, move || {
        let look = std::thread::spawn(move || other.attr(path).nlink);
        *told.lock().unwrap() = Some(look.join().unwrap());
    });
    seen
}

#[test]
fn a_name_that_went_is_not_counted_again() {
    for mode in EW {
        let rig = doubted(mode);
        let seen = look_after(&rig, Op::Unlink, "b");
        rig.unlink("a").unwrap();
        assert_eq!(*seen.lock().unwrap(), Some(1), "{mode}");
        assert_eq!(rig.attr("b").nlink, 1, "{mode}");
        // Once it was asked for, it is known.
        rig.calls();
        assert_eq!(rig.attr("b").nlink, 1);
        assert_eq!(rig.calls(), []);
    }
}

#[test]
fn a_name_that_came_is_not_counted_again() {
    for mode in EW {
        let rig = doubted(mode);
        let seen = look_after(&rig, Op::Link, "b");
        rig.link("a", "d").unwrap();
        assert_eq!(*seen.lock().unwrap(), Some(3), "{mode}");
        assert_eq!(rig.attr("b").nlink, 3, "{mode}");
    }
}

#[test]
fn a_name_that_was_replaced_is_not_counted_again() {
    for mode in EW {
        let rig = doubted(mode);
        drop(rig.create("new").unwrap());
        let seen = look_after(&rig, Op::Rename, "b");
        rig.rename("new", "a").unwrap();
        assert_eq!(*seen.lock().unwrap(), Some(1), "{mode}");
        assert_eq!(rig.attr("b").nlink, 1, "{mode}");
    }
}

#[test]
fn directories_in_one_are_not_counted_again() {
    for mode in EW {
        let rig = Rig::new(mode);
        rig.mkdir("d").unwrap();
        rig.mkdir("d/gone").unwrap();
        // Nobody knows what is in it, for now.
        rig.remote.inject(Op::Make, 0, Fault::Late(Errno::EINTR));
        assert_eq!(errno(rig.mkdir("d/lost")), Errno::EINTR);
        let rig = Arc::new(rig);
        let seen = look_after(&rig, Op::Make, "d");
        rig.mkdir("d/new").unwrap();
        assert_eq!(*seen.lock().unwrap(), Some(5), "{mode}");
        assert_eq!(rig.attr("d").nlink, 5, "{mode}");
        rig.rmdir("d/gone").unwrap();
        assert_eq!(rig.attr("d").nlink, 4, "{mode}");
    }
}

/// Not a count of links, but what else is changed by something rather than to something.
#[test]
fn a_size_is_not_changed_again() {
    for mode in EW {
        for (verb, size) in [
            (AllocMode::INSERT_RANGE, 16_384),
            (AllocMode::COLLAPSE_RANGE, 8_192),
        ] {
            let rig = doubted(mode);
            let file = rig.open("b", OpenFlags::RDWR).unwrap();
            file.write_at(&rig.cx(), &[1; 12_288], 0).unwrap();
            let seen = look_after(&rig, Op::Allocate, "a");
            file.allocate(&rig.cx(), verb, 4096, 4096).unwrap();
            assert_eq!(*seen.lock().unwrap(), Some(2), "asked");
            assert_eq!(rig.attr("b").size, size, "{mode}");
            file.sync(&rig.cx(), false).unwrap();
            assert_eq!(rig.server_attr("b").size, size, "{mode}");
        }
    }
}

#[test]
fn an_older_question_that_is_answered_late_counts_as_one() {
    let rig = doubted(InteropMode::Exclusive);
    let (carried_out, removed) = channel();
    let (answered, merged) = channel();
    std::thread::scope(|scope| {
        let other = rig.clone();
        // The question is on its way when the name goes, and reaches the server after that.
        rig.remote.after(Op::Unlink, move || {
            carried_out.send(()).unwrap();
            merged.recv().unwrap();
        });
        let (begin, begun) = channel();
        rig.remote.before(Op::Attr, move || {
            begin.send(()).unwrap();
            removed.recv().unwrap();
        });
        let remover = scope.spawn(move || {
            begun.recv().unwrap();
            other.unlink("a").unwrap();
        });
        assert_eq!(rig.attr("b").nlink, 1);
        answered.send(()).unwrap();
        remover.join().unwrap();
    });
    assert_eq!(rig.attr("b").nlink, 1);
}

#[test]
fn the_last_name_is_known_to_be_it() {
    let rig = doubted(InteropMode::Exclusive);
    rig.unlink("b").unwrap();
    let notifier = rig.fs.notifier().unwrap();
    let watched = EventMask::ATTRIB | EventMask::DELETE_SELF;
    notifier.add(&rig.cx(), rig.at("a"), watched).unwrap();
    // Just before it goes somebody is told that it is the only one.
    let (other, told) = (rig.clone(), Arc::new(Mutex::new(None)));
    let seen = told.clone();
    rig.remote.before(Op::Unlink, move || {
        let look = std::thread::spawn(move || other.attr("a").nlink);
        *told.lock().unwrap() = Some(look.join().unwrap());
    });
    rig.unlink("a").unwrap();
    assert_eq!(*seen.lock().unwrap(), Some(1));
    let events = notifier.try_read(usize::MAX);
    let masks: Vec<_> = events.iter().map(|event| event.mask).collect();
    let end = [
        EventMask::ATTRIB,
        EventMask::DELETE_SELF,
        EventMask::IGNORED,
    ];
    assert_eq!(masks, end);
}

#[test]
fn a_reply_older_than_the_one_a_file_was_found_with_is_not_applied() {
    for mode in S {
        let rig = Arc::new(Rig::new(mode));
        rig.outside.write(b"a", b"").unwrap();
        rig.outside.link(b"a", b"b").unwrap();
        let found: Arc<Mutex<Option<Node>>> = Arc::default();
        let (other, there) = (rig.clone(), found.clone());
        // While the answer about one name is on its way, the file changes and is found by another.
        rig.remote.after(Op::Walk, move || {
            let look = std::thread::spawn(move || {
                other.outside.chmod(b"a", 0o600).unwrap();
                let found = other.fs.resolve(&other.cx(), other.at("b"), Follow::No);
                *there.lock().unwrap() = Some(found.unwrap());
            });
            look.join().unwrap();
        });
        rig.fs.resolve(&rig.cx(), rig.at("a"), Follow::No).unwrap();
        let found = found.lock().unwrap().take().unwrap();
        let known = rig.fs.known_stat_node(&rig.cx(), &found).unwrap();
        assert_eq!(known.attr.mode, 0o600, "{mode}");
    }
}
