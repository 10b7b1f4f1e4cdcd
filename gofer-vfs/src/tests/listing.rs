//! What a listing tells of names that were not looked up (semantics 17.7, 25.5).

use super::*;
use Op::*;

fn listed(mode: InteropMode) -> Rig {
    let rig = Rig::new(mode);
    rig.outside.mkdir(b"d").unwrap();
    for name in ["d/one", "d/two", "d/three"] {
        rig.outside.write(name.as_bytes(), b"").unwrap();
    }
    let dir = rig.open("d", OpenFlags::DIRECTORY).unwrap();
    assert_eq!(rig.names(&dir).len(), 5);
    rig.calls();
    rig
}

#[test]
fn names_that_are_not_listed_are_absent() {
    for mode in EW {
        let rig = listed(mode);
        for name in ["d/four", "d/on", "d/onee", "d/\u{fc}"] {
            assert_eq!(errno(rig.stat(name)), Errno::ENOENT);
            assert_eq!(errno(rig.unlink(name)), Errno::ENOENT);
            assert_eq!(errno(rig.rename(name, "x")), Errno::ENOENT);
        }
        assert_eq!(rig.calls(), [], "{mode}");
        assert!(rig.fs.stats().listing_absences >= 12);
        rig.stat("d/one").unwrap();
        assert_eq!(rig.calls(), [Walk], "{mode}");
    }
}

#[test]
fn listings_prove_nothing_in_a_shared_tree() {
    for mode in S {
        let rig = listed(mode);
        rig.outside.write(b"d/four", b"").unwrap();
        rig.stat("d/four").unwrap();
    }
}

#[test]
fn a_name_that_is_made_is_not_absent() {
    for mode in EW {
        type Maker = fn(&Rig);
        let makers: [(&str, Maker); 5] = [
            ("d/file", |rig| drop(rig.create("d/file").unwrap())),
            ("d/dir", |rig| rig.mkdir("d/dir").unwrap()),
            ("d/link", |rig| rig.symlink("x", "d/link").unwrap()),
            ("d/hard", |rig| rig.link("d/one", "d/hard").unwrap()),
            ("d/moved", |rig| rig.rename("d/two", "d/moved").unwrap()),
        ];
        for (name, make) in makers {
            let rig = Setup::new(mode).like_9p().mount();
            rig.outside.mkdir(b"d").unwrap();
            rig.outside.write(b"d/one", b"").unwrap();
            rig.outside.write(b"d/two", b"").unwrap();
            let dir = rig.open("d", OpenFlags::DIRECTORY).unwrap();
            rig.names(&dir);
            assert_eq!(errno(rig.lstat(name)), Errno::ENOENT);
            make(&rig);
            rig.lstat(name).unwrap();
            // The open directory still has the old listing: it must prove nothing.
            assert!(!rig.names(&dir).iter().any(|listed| *listed == name[2..]));
            rig.lstat(name).unwrap();
        }
    }
}

#[test]
fn names_in_doubt_are_asked_for() {
    use crate::testing::mem_remote::Fault;
    let rig = listed(InteropMode::Exclusive);
    rig.remote.inject(Make, 0, Fault::Late(Errno::EINTR));
    assert_eq!(errno(rig.mkdir("d/sub")), Errno::EINTR);
    rig.stat("d/sub").unwrap();
}

#[test]
fn dropped_listings_prove_nothing() {
    let rig = listed(InteropMode::Exclusive);
    rig.fs.drop_caches();
    assert_eq!(errno(rig.stat("d/four")), Errno::ENOENT);
    assert_eq!(rig.calls(), [Walk]);
}

#[test]
fn a_saved_offset_leads_back_to_the_same_name() {
    let rig = Rig::new(InteropMode::Exclusive);
    for n in 0..500 {
        rig.outside
            .write(format!("f{n:03}").as_bytes(), b"")
            .unwrap();
    }
    let dir = rig.open("", OpenFlags::DIRECTORY).unwrap();
    let mut places = Vec::new();
    dir.read_dir(&rig.cx(), &mut |entry| {
        places.push((entry.name.to_vec(), entry.next));
        ControlFlow::Continue(())
    })
    .unwrap();
    // Names change behind the reader's back, and it does not look again.
    rig.unlink("f100").unwrap();
    rig.create("new").unwrap();
    for pair in places.windows(2).step_by(37) {
        let [(_, next), (name, _)] = pair else {
            unreachable!("windows of two");
        };
        dir.seek(&rig.cx(), crate::Whence::Set(*next as i64))
            .unwrap();
        let mut at = None;
        dir.read_dir(&rig.cx(), &mut |entry| {
            at = Some(entry.name.to_vec());
            ControlFlow::Break(())
        })
        .unwrap();
        assert_eq!(at.as_ref(), Some(name));
    }
    dir.seek(&rig.cx(), crate::Whence::Set(0)).unwrap();
    let names = rig.names(&dir);
    assert!(names.contains(&"new".to_owned()) && !names.contains(&"f100".to_owned()));
}

#[test]
fn a_hundred_thousand_names_come_in_few_round_trips() {
    let mut setup = Setup::new(InteropMode::Exclusive);
    setup.config.dir_batch = 1000;
    let rig = setup.mount();
    for n in 0..100_000 {
        rig.outside.write(format!("f{n}").as_bytes(), b"").unwrap();
    }
    let dir = rig.open("", OpenFlags::DIRECTORY).unwrap();
    rig.calls();
    assert_eq!(rig.names(&dir).len(), 100_002);
    assert!(rig.calls().len() <= 101);
    assert_eq!(errno(rig.stat("f100000")), Errno::ENOENT);
    assert_eq!(rig.calls(), []);
}
