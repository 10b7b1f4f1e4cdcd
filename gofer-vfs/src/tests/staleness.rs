//! `revalidate_after`: what others do shows within the time, what we do shows at once.

use std::time::Duration;

use super::*;
use Op::*;

/// Milliseconds.
const WINDOW: u32 = 1000;

fn rig(mode: InteropMode) -> Rig {
    let rig = Setup::new(mode).revalidate_after(WINDOW).mount();
    rig.outside.mkdir(b"a").unwrap();
    rig.outside.mkdir(b"a/b").unwrap();
    rig.outside.write(b"a/b/c", b"content").unwrap();
    // The root was looked at before all this.
    rig.stat("").unwrap();
    rig.stat("a/b/c").unwrap();
    rig.calls();
    rig
}

fn pass(rig: &Rig, milliseconds: u64) {
    rig.clock.pass(Duration::from_millis(milliseconds));
}

#[test]
fn nothing_is_asked_until_the_time_is_over() {
    for mode in S {
        let rig = rig(mode);
        for _ in 0..9 {
            rig.stat("a/b/c").unwrap();
            rig.stat("a").unwrap();
            assert_eq!(rig.calls(), [], "{mode}");
            pass(&rig, 100);
        }
        pass(&rig, 101);
        rig.stat("a/b/c").unwrap();
        assert_eq!(rig.calls(), [Revalidate], "{mode}");
        rig.stat("a/b/c").unwrap();
        assert_eq!(rig.calls(), [], "{mode}");
    }
}

#[test]
fn one_name_that_is_due_has_all_checked_in_one_round_trip() {
    let rig = rig(InteropMode::Shared);
    pass(&rig, 600);
    rig.stat("").unwrap();
    rig.outside.write(b"a/b/d", b"").unwrap();
    rig.stat("a/b/d").unwrap();
    rig.calls();
    pass(&rig, 600);
    rig.stat("a/b/c").unwrap();
    assert_eq!(rig.calls(), [Revalidate]);
}

#[test]
fn changes_by_others_show_when_the_time_is_over() {
    for mode in S {
        let rig = rig(mode);
        rig.outside.chmod(b"a/b/c", 0o600).unwrap();
        rig.outside.rename(b"a/b", b"a/moved").unwrap();
        pass(&rig, 1001);
        assert_eq!(errno(rig.stat("a/b/c")), Errno::ENOENT);
        assert_eq!(rig.attr("a/moved/c").mode, 0o600, "{mode}");
    }
}

#[test]
fn absent_names_are_asked_for_each_time() {
    let rig = rig(InteropMode::Shared);
    assert_eq!(errno(rig.stat("a/b/new")), Errno::ENOENT);
    rig.outside.write(b"a/b/new", b"").unwrap();
    rig.stat("a/b/new").unwrap();
}

#[test]
fn what_this_client_changes_shows_at_once() {
    for mode in S {
        let rig = rig(mode);
        let check = |path: &str| {
            let (seen, there) = (rig.attr(path), rig.server_attr(path));
            assert_eq!(
                (seen.nlink, seen.mtime, seen.ctime),
                (there.nlink, there.mtime, there.ctime),
                "{path} in {mode}"
            );
        };
        rig.chmod("a/b/c", 0o640).unwrap();
        assert_eq!(rig.attr("a/b/c").mode, 0o640);
        let file = rig.open("a/b/c", OpenFlags::RDWR).unwrap();
        file.write_at(&rig.cx(), b"more than there was", 0).unwrap();
        assert_eq!(rig.attr("a/b/c").size, 19);
        assert_eq!(file.stat(&rig.cx()).unwrap().attr.size, 19);
        rig.link("a/b/c", "a/two").unwrap();
        assert_eq!(rig.attr("a/b/c").nlink, 2);
        rig.unlink("a/two").unwrap();
        assert_eq!(rig.attr("a/b/c").nlink, 1);
        rig.mkdir("a/b/sub").unwrap();
        check("a/b");
        rig.rename("a/b/c", "a/c").unwrap();
        assert_eq!(errno(rig.stat("a/b/c")), Errno::ENOENT);
        check("a/c");
        check("a");
        rig.fs
            .set_xattr(
                &rig.cx(),
                rig.at("a/c"),
                Follow::No,
                b"user.x",
                b"1",
                crate::XattrFlags::empty(),
            )
            .unwrap();
        check("a/c");
    }
}

#[test]
fn refusals_do_not_rest_on_what_may_be_old() {
    let rig = Setup::new(InteropMode::Shared)
        .revalidate_after(WINDOW)
        .user(1000)
        .mount();
    rig.outside.mkdir(b"d").unwrap();
    rig.outside.write(b"d/f", b"").unwrap();
    rig.outside.chmod(b"d", 0o700).unwrap();
    assert_eq!(errno(rig.stat("d/f")), Errno::EACCES);
    rig.outside.chmod(b"d", 0o755).unwrap();
    rig.stat("d/f").unwrap();
}
