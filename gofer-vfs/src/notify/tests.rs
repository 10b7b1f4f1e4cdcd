//! Events on their own; what the host's kernel tells of the same operations is in `host`.

mod host;

use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::interop::InteropMode;
use crate::remote::Cancel;
use crate::testing::Outside;
use crate::tests::{EW, Rig, S, Setup};
use crate::{File, OpenFlags};

fn open(rig: &Rig, path: &str, flags: OpenFlags) -> File {
    rig.fs.open(&rig.cx(), rig.at(path), flags, 0o644).unwrap()
}

fn make(rig: &Rig, path: &str) {
    drop(open(rig, path, OpenFlags::CREAT | OpenFlags::WRONLY));
}

/// The events that wait, in short.
fn told(notifier: &Notifier) -> Vec<(i32, EventMask, String)> {
    let events = notifier.try_read(usize::MAX);
    let short = events.into_iter().map(|event| {
        let name = String::from_utf8(event.name).unwrap();
        (event.watch, event.mask, name)
    });
    short.collect()
}

fn masks(notifier: &Notifier) -> Vec<EventMask> {
    told(notifier).into_iter().map(|event| event.1).collect()
}

#[test]
fn what_can_be_watched_is_checked_as_in_linux() {
    let rig = Setup::new(InteropMode::Exclusive).user(7).mount();
    rig.outside.write(b"f", b"").unwrap();
    rig.outside.write(b"secret", b"").unwrap();
    rig.outside.chmod(b"secret", 0o600).unwrap();
    rig.outside.symlink(b"f", b"link").unwrap();
    let notifier = rig.fs.notifier().unwrap();
    let add = |path, mask| {
        let added = notifier.add(&rig.cx(), rig.at(path), mask);
        added.map_err(|error| error.errno())
    };
    let all = EventMask::ALL;
    assert_eq!(add("f", EventMask::empty()), Err(Errno::EINVAL));
    assert_eq!(
        add("f", EventMask::from_bits_retain(0x1000) | all),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        add("f", all | EventMask::MASK_ADD | EventMask::MASK_CREATE),
        Err(Errno::EINVAL)
    );
    assert_eq!(add("none", all), Err(Errno::ENOENT));
    assert_eq!(add("secret", all), Err(Errno::EACCES));
    assert_eq!(add("f", all | EventMask::ONLYDIR), Err(Errno::ENOTDIR));
    assert_eq!(add("f", EventMask::OPEN), Ok(1));
    assert_eq!(add("link", EventMask::OPEN | EventMask::DONT_FOLLOW), Ok(2));
    assert_eq!(
        add("link", all | EventMask::MASK_CREATE),
        Err(Errno::EEXIST)
    );
    assert_eq!(add("link", EventMask::ACCESS | EventMask::MASK_ADD), Ok(1));
    assert_eq!(rig.fs.stats().watches, 2);
    drop(open(&rig, "f", OpenFlags::RDONLY));
    assert_eq!(told(&notifier), [(1, EventMask::OPEN, String::new())]);
    // Without MASK_ADD the new mask is all there is.
    assert_eq!(add("f", EventMask::CLOSE_NOWRITE), Ok(1));
    drop(open(&rig, "f", OpenFlags::RDONLY));
    assert_eq!(masks(&notifier), [EventMask::CLOSE_NOWRITE]);
    assert_eq!(notifier.remove(3).unwrap_err().errno(), Errno::EINVAL);
    notifier.remove(1).unwrap();
    assert_eq!(masks(&notifier), [EventMask::IGNORED]);
    // Numbers are not used again.
    assert_eq!(add("f", all), Ok(3));
    drop(notifier);
    assert_eq!(rig.fs.stats().watches, 0);
}

#[test]
fn a_watch_for_one_event_goes_with_it() {
    let rig = Rig::new(InteropMode::Exclusive);
    make(&rig, "f");
    let notifier = rig.fs.notifier().unwrap();
    let mask = EventMask::ALL | EventMask::ONESHOT;
    notifier.add(&rig.cx(), rig.at("f"), mask).unwrap();
    drop(open(&rig, "f", OpenFlags::RDONLY));
    assert_eq!(masks(&notifier), [EventMask::OPEN, EventMask::IGNORED]);
    assert_eq!(rig.fs.stats().watches, 0);
}

#[test]
fn the_same_event_again_is_told_once_and_too_many_are_told_as_lost() {
    let rig = Rig::new(InteropMode::Exclusive);
    make(&rig, "f");
    let notifier = rig.fs.notifier().unwrap();
    notifier
        .add(&rig.cx(), rig.at("f"), EventMask::MODIFY)
        .unwrap();
    let file = open(&rig, "f", OpenFlags::WRONLY);
    for _ in 0..10 {
        file.write(&rig.cx(), b"x").unwrap();
    }
    assert_eq!(masks(&notifier), [EventMask::MODIFY]);
    notifier
        .add(&rig.cx(), rig.at("f"), EventMask::ALL)
        .unwrap();
    for _ in 0..10_000 {
        drop(open(&rig, "f", OpenFlags::RDONLY));
    }
    let all = told(&notifier);
    assert_eq!(all.len(), 16384 + 1);
    assert_eq!(
        all.last().unwrap(),
        &(-1, EventMask::Q_OVERFLOW, String::new())
    );
    // There is room again.
    drop(open(&rig, "f", OpenFlags::RDONLY));
    assert_eq!(
        masks(&notifier),
        [EventMask::OPEN, EventMask::CLOSE_NOWRITE]
    );
}

#[test]
fn reading_waits_for_an_event_and_can_be_given_up() {
    let rig = Rig::new(InteropMode::Exclusive);
    make(&rig, "f");
    let notifier = rig.fs.notifier().unwrap();
    notifier
        .add(&rig.cx(), rig.at("f"), EventMask::OPEN)
        .unwrap();
    let late = Context {
        deadline: Some(Instant::now() + Duration::from_millis(2)),
        ..rig.cx()
    };
    assert_eq!(
        notifier.read(&late, 9).unwrap_err().errno(),
        Errno::ETIMEDOUT
    );
    let cancel = Cancel::new().unwrap();
    cancel.set();
    let cancelled = Context {
        cancel: Some(&cancel),
        ..rig.cx()
    };
    assert_eq!(
        notifier.read(&cancelled, 9).unwrap_err().errno(),
        Errno::EINTR
    );
    thread::scope(|scope| {
        let reads = scope.spawn(|| notifier.read(&rig.cx(), 9).unwrap());
        drop(open(&rig, "f", OpenFlags::RDONLY));
        assert_eq!(reads.join().unwrap().len(), 1);
    });
    assert_eq!(told(&notifier), []);
    let mut poll = [rustix::event::PollFd::new(
        &notifier,
        rustix::event::PollFlags::IN,
    )];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    assert_eq!(rustix::event::poll(&mut poll, Some(&now)).unwrap(), 0);
}

#[test]
fn watched_files_stay_in_the_smallest_cache() {
    for mode in EW.into_iter().chain(S) {
        let rig = Setup::new(mode).limit(0).mount();
        make(&rig, "f");
        let notifier = rig.fs.notifier().unwrap();
        notifier
            .add(&rig.cx(), rig.at("f"), EventMask::ATTRIB)
            .unwrap();
        rig.fs.drop_caches();
        let live = rig.fs.stats().live_dentries;
        let set = SetAttr {
            mode: Some(0o600),
            ..SetAttr::default()
        };
        rig.fs
            .set_attr(&rig.cx(), rig.at("f"), Follow::Yes, &set)
            .unwrap();
        assert_eq!(masks(&notifier), [EventMask::ATTRIB], "{mode:?}");
        drop(notifier);
        assert_eq!(rig.fs.stats().live_dentries, live - 1, "{mode:?}");
    }
}

#[test]
fn the_end_of_a_deleted_file_comes_with_its_last_close() {
    for mode in EW.into_iter().chain(S) {
        let rig = Rig::new(mode);
        make(&rig, "f");
        let notifier = rig.fs.notifier().unwrap();
        notifier
            .add(&rig.cx(), rig.at("f"), EventMask::ALL)
            .unwrap();
        let file = open(&rig, "f", OpenFlags::RDONLY);
        rig.fs.unlink(&rig.cx(), rig.at("f")).unwrap();
        assert_eq!(masks(&notifier), [EventMask::OPEN, EventMask::ATTRIB]);
        assert_eq!(rig.fs.stats().watches, 1);
        drop(file);
        let end = [
            EventMask::CLOSE_NOWRITE,
            EventMask::DELETE_SELF,
            EventMask::IGNORED,
        ];
        assert_eq!(masks(&notifier), end, "{mode:?}");
        assert_eq!(rig.fs.stats().watches, 0);
    }
}

#[test]
fn the_other_names_of_a_file_keep_its_watches() {
    let rig = Rig::new(InteropMode::Exclusive);
    make(&rig, "a");
    rig.fs
        .link(&rig.cx(), rig.at("a"), Follow::No, rig.at("b"))
        .unwrap();
    let notifier = rig.fs.notifier().unwrap();
    notifier
        .add(&rig.cx(), rig.at("a"), EventMask::ALL)
        .unwrap();
    rig.fs.unlink(&rig.cx(), rig.at("a")).unwrap();
    assert_eq!(masks(&notifier), [EventMask::ATTRIB]);
    drop(open(&rig, "b", OpenFlags::RDONLY));
    assert_eq!(
        masks(&notifier),
        [EventMask::OPEN, EventMask::CLOSE_NOWRITE]
    );
    rig.fs.unlink(&rig.cx(), rig.at("b")).unwrap();
    let end = [
        EventMask::ATTRIB,
        EventMask::DELETE_SELF,
        EventMask::IGNORED,
    ];
    assert_eq!(masks(&notifier), end);
}

#[test]
fn changes_by_others_are_told_when_a_check_finds_them() {
    for mode in S {
        let rig = Rig::new(mode);
        rig.outside.mkdir(b"d").unwrap();
        for name in [&b"d/gone"[..], b"d/replaced", b"d/changed"] {
            rig.outside.write(name, b"1").unwrap();
        }
        let notifier = rig.fs.notifier().unwrap();
        let dir = notifier
            .add(&rig.cx(), rig.at("d"), EventMask::ALL)
            .unwrap();
        let own = notifier
            .add(&rig.cx(), rig.at("d/replaced"), EventMask::ALL)
            .unwrap();
        let look = |path: &str| rig.fs.stat(&rig.cx(), rig.at(path), Follow::No);
        for path in ["d/gone", "d/replaced", "d/changed"] {
            look(path).unwrap();
        }
        assert_eq!(told(&notifier), []);
        rig.outside.unlink(b"d/gone").unwrap();
        rig.outside.write(b"d/new", b"").unwrap();
        rig.outside.rename(b"d/new", b"d/replaced").unwrap();
        rig.outside.write(b"d/changed", b"longer").unwrap();
        assert_eq!(look("d/gone").unwrap_err().errno(), Errno::ENOENT);
        let name = |mask, name: &str| (dir, mask, name.to_owned());
        assert_eq!(told(&notifier), [name(EventMask::DELETE, "gone")]);
        look("d/replaced").unwrap();
        let expected = [
            name(EventMask::DELETE, "replaced"),
            name(EventMask::CREATE, "replaced"),
            (own, EventMask::IGNORED, String::new()),
        ];
        let mut found = told(&notifier);
        found.sort_by_key(|event| event.0);
        assert_eq!(found, expected);
        look("d/changed").unwrap();
        assert_eq!(told(&notifier), [name(EventMask::MODIFY, "changed")]);
        rig.outside.chmod(b"d/changed", 0o640).unwrap();
        look("d/changed").unwrap();
        assert_eq!(told(&notifier), [name(EventMask::ATTRIB, "changed")]);
        // What was done here is not told twice.
        let file = open(&rig, "d/changed", OpenFlags::WRONLY);
        file.write(&rig.cx(), b"more").unwrap();
        notifier.try_read(usize::MAX);
        look("d/changed").unwrap();
        assert_eq!(told(&notifier), []);
    }
}

#[test]
fn unmounting_is_told() {
    let rig = Rig::new(InteropMode::Exclusive);
    make(&rig, "f");
    let notifier = rig.fs.notifier().unwrap();
    notifier
        .add(&rig.cx(), rig.at("f"), EventMask::OPEN)
        .unwrap();
    rig.fs.unmount(&rig.cx()).unwrap();
    assert_eq!(masks(&notifier), [EventMask::UNMOUNT, EventMask::IGNORED]);
}

#[test]
fn a_notifier_comes_back_from_its_image() {
    let rig = Rig::new(InteropMode::Exclusive);
    for name in ["kept", "gone", "nameless"] {
        make(&rig, name);
    }
    let notifier = rig.fs.notifier().unwrap();
    for name in ["kept", "gone", "nameless"] {
        notifier
            .add(&rig.cx(), rig.at(name), EventMask::OPEN)
            .unwrap();
    }
    let _open = open(&rig, "nameless", OpenFlags::RDONLY);
    rig.fs.unlink(&rig.cx(), rig.at("nameless")).unwrap();
    let image = notifier.image();
    drop(notifier);
    rig.fs.unlink(&rig.cx(), rig.at("gone")).unwrap();
    let restored = rig.fs.restore_notifier(&rig.cx(), &image).unwrap();
    let none = String::new();
    let expected = [
        (3, EventMask::OPEN, none.clone()),
        (2, EventMask::IGNORED, none.clone()),
        (3, EventMask::IGNORED, none.clone()),
    ];
    assert_eq!(told(&restored), expected);
    drop(open(&rig, "kept", OpenFlags::RDONLY));
    assert_eq!(told(&restored), [(1, EventMask::OPEN, none)]);
    make(&rig, "next");
    let next = restored.add(&rig.cx(), rig.at("next"), EventMask::OPEN);
    assert!(next.unwrap() > 1);
}

#[test]
fn who_only_watches_can_look_for_changes_by_others() {
    for mode in S {
        let rig = Rig::new(mode);
        rig.outside.mkdir(b"d").unwrap();
        for name in [&b"d/gone"[..], b"d/changed", b"d/ours"] {
            rig.outside.write(name, b"1").unwrap();
        }
        let notifier = rig.fs.notifier().unwrap();
        notifier
            .add(&rig.cx(), rig.at("d"), EventMask::ALL)
            .unwrap();
        notifier.look(&rig.cx()).unwrap();
        rig.fs
            .stat(&rig.cx(), rig.at("d/changed"), Follow::No)
            .unwrap();
        assert_eq!(told(&notifier), []);
        rig.outside.unlink(b"d/gone").unwrap();
        rig.outside.mkdir(b"d/new").unwrap();
        rig.outside.write(b"d/changed", b"longer").unwrap();
        rig.fs.unlink(&rig.cx(), rig.at("d/ours")).unwrap();
        notifier.look(&rig.cx()).unwrap();
        let mut found = told(&notifier);
        found.sort_by(|a, b| a.2.cmp(&b.2));
        let event = |mask, name: &str| (1, mask, name.to_owned());
        let expected = [
            event(EventMask::MODIFY, "changed"),
            event(EventMask::DELETE, "gone"),
            event(EventMask::CREATE | EventMask::ISDIR, "new"),
            event(EventMask::DELETE, "ours"),
        ];
        assert_eq!(found, expected, "{mode:?}");
        notifier.look(&rig.cx()).unwrap();
        assert_eq!(told(&notifier), []);
        // The directory itself is replaced.
        rig.outside.rename(b"d", b"e").unwrap();
        notifier.look(&rig.cx()).unwrap();
        assert_eq!(masks(&notifier), [EventMask::IGNORED]);
    }
}

#[test]
fn extended_attributes_are_attributes() {
    for mode in EW.into_iter().chain(S) {
        let rig = Rig::new(mode);
        rig.outside.mkdir(b"d").unwrap();
        make(&rig, "d/f");
        let notifier = rig.fs.notifier().unwrap();
        let add = |path| notifier.add(&rig.cx(), rig.at(path), EventMask::ALL);
        let (dir, file) = (add("d").unwrap(), add("d/f").unwrap());
        let both = [
            (dir, EventMask::ATTRIB, "f".to_owned()),
            (file, EventMask::ATTRIB, String::new()),
        ];
        let (yes, any) = (Follow::Yes, crate::XattrFlags::empty());
        let name = &b"user.x"[..];
        let set = || {
            rig.fs
                .set_xattr(&rig.cx(), rig.at("d/f"), yes, name, b"1", any)
        };
        set().unwrap();
        assert_eq!(told(&notifier), both, "{mode}: set");
        rig.fs
            .get_xattr(&rig.cx(), rig.at("d/f"), yes, name, 9)
            .unwrap();
        assert_eq!(told(&notifier), [], "{mode}: read");
        rig.fs
            .remove_xattr(&rig.cx(), rig.at("d/f"), yes, name)
            .unwrap();
        assert_eq!(told(&notifier), both, "{mode}: removed");
        rig.fs
            .remove_xattr(&rig.cx(), rig.at("d/f"), yes, name)
            .unwrap_err();
        assert_eq!(told(&notifier), [], "{mode}: what fails is no event");
    }
}

#[test]
fn a_rename_to_itself_is_no_event() {
    for mode in EW.into_iter().chain(S) {
        let rig = Rig::new(mode);
        rig.outside.mkdir(b"d").unwrap();
        make(&rig, "d/f");
        rig.fs
            .link(&rig.cx(), rig.at("d/f"), Follow::No, rig.at("d/g"))
            .unwrap();
        let notifier = rig.fs.notifier().unwrap();
        for path in ["d", "d/f"] {
            notifier
                .add(&rig.cx(), rig.at(path), EventMask::ALL)
                .unwrap();
        }
        rig.rename("d/f", "d/f").unwrap();
        rig.rename("d/f", "d/g").unwrap();
        assert_eq!(told(&notifier), [], "{mode}");
    }
}
