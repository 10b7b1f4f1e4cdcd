//! Walking, and looking whether known names still lead to the same files.
//!
//! The snapshots are trace lines: requests as they were sent, replies as they were read.

use gofer_vfs::AttrMask;
use gofer_vfs::remote::{Found, RemoteFilesystem, WalkEnd};
use gofer_vfs::{Errno, FileType};

use super::agreeable::{CALL, Session, name, session, session_but};
use super::peer::dir;
use crate::wire::{Qids, Rwalk, TMessage, Twalk, Version};

#[test]
fn a_walk_of_one_name_takes_one_round_trip_with_walkgetattr_and_two_without() {
    let session = self::session(Version::NEWEST);
    let (end, found) = session.walk(&["a"]);
    assert_eq!(
        (end, found.len(), found[0].key.id),
        (Ok(WalkEnd::Complete), 1, [0x61, 0])
    );
    insta::assert_snapshot!(session.lines(), @r#"
    > Twalkgetattr tag 0 fid 0 newfid 1 names [a]
    < Rwalkgetattr tag 0 valid 0x7ff mode 040755 uid 0 gid 0 nlink 1 size 0 qids [80.0.61]
    "#);
    let session = self::session(Version::Base);
    let (end, found) = session.walk(&["a"]);
    assert_eq!(
        (end, found.len(), found[0].attr.mode),
        (Ok(WalkEnd::Complete), 1, 0o755)
    );
    insta::assert_snapshot!(session.lines(), @r#"
    > Twalk tag 0 fid 0 newfid 1 names [a]
    < Rwalk tag 0 qids [80.0.61]
    > Tgetattr tag 0 fid 1 request_mask 0x7ff
    < Rgetattr tag 0 valid 0x7ff qid 80.0.61 mode 040755 uid 0 gid 0 nlink 1 size 0
    "#);
}

#[test]
fn a_walk_of_many_names_is_as_cheap() {
    for (version, trips) in [(Version::NEWEST, 1), (Version::Base, 2)] {
        let session = self::session(version);
        let before = session.filesystem.traffic().round_trips;
        let (end, found) = session.walk(&["a", "b", "c", "f"]);
        assert_eq!(end, Ok(WalkEnd::Complete));
        let types: Vec<_> = found.iter().map(|found| found.attr.file_type).collect();
        assert_eq!(types[2..], [FileType::Directory, FileType::Regular]);
        assert_eq!(session.filesystem.traffic().round_trips - before, trips);
        // One more name than fits in a message.
        let (end, found) = session.walk(&["a"; 17]);
        assert_eq!((end, found.len()), (Ok(WalkEnd::CallAgain), 16));
    }
}

#[test]
fn a_walk_ends_at_what_is_missing_a_link_or_no_directory() {
    for version in [Version::NEWEST, Version::Base] {
        let session = self::session(version);
        let walk = |names: &[&str]| {
            let (end, found) = session.walk(names);
            (end, found.len())
        };
        assert_eq!(walk(&["x"]), (Ok(WalkEnd::Missing), 0));
        assert_eq!(walk(&["a", "b", "x", "c"]), (Ok(WalkEnd::Missing), 2));
        assert_eq!(walk(&["a", "l", "c"]), (Ok(WalkEnd::Symlink), 2));
        assert_eq!(walk(&["a", "l"]), (Ok(WalkEnd::Complete), 2));
        assert_eq!(walk(&["a", "f", "c"]), (Err(Errno::ENOTDIR), 2));
    }
}

#[test]
fn a_short_walk_is_missing_and_its_fid_clunked_without_regard_to_the_answer() {
    let session = session_but(Version::Base, |peer, request| match request.message() {
        // As the protocol has it: the fid was not made.
        TMessage::Tclunk(_) => {
            peer.error(request.tag, 9);
            true
        }
        _ => false,
    });
    let (end, found) = session.walk(&["a", "x"]);
    assert_eq!((end, found.len()), (Ok(WalkEnd::Missing), 1));
    session.file().attr(&CALL, AttrMask::BASIC).unwrap();
    session.file().attr(&CALL, AttrMask::BASIC).unwrap();
    // The root and `a`: the number of the short walk is free.
    assert_eq!(
        session.filesystem.line.session().lock().table.fids_in_use(),
        2
    );
}

#[test]
fn a_tree_that_changes_under_a_walk_is_walked_again() {
    let session = session_but(Version::Base, |peer, request| match request.message() {
        TMessage::Twalk(Twalk { wnames, .. }) if wnames.len() == 2 => {
            let qids = [dir(0xbad), dir(0x62)];
            peer.reply(
                request.tag,
                Rwalk {
                    wqids: Qids::new(&qids),
                },
            );
            true
        }
        _ => false,
    });
    let (end, found) = session.walk(&["a", "b"]);
    assert_eq!((end, found.len()), (Ok(WalkEnd::CallAgain), 1));
}

fn revalidate(session: &Session, known: &[(&str, &Found)]) -> Vec<(u64, u16)> {
    let known: Vec<_> = known
        .iter()
        .map(|(text, found)| (name(text), found.file.as_ref()))
        .collect();
    let mut seen = Vec::new();
    session.lines();
    let before = session.filesystem.traffic().round_trips;
    session
        .file()
        .revalidate(&CALL, &known, &mut |one| {
            seen.push((one.key.id[0], one.attr.mode))
        })
        .unwrap();
    assert_eq!(session.filesystem.traffic().round_trips - before, 1);
    seen
}

#[test]
fn known_files_are_looked_at_in_one_round_trip() {
    let session = self::session(Version::NEWEST);
    let (_, found) = session.walk(&["a", "b"]);
    let seen = revalidate(&session, &[("a", &found[0]), ("b", &found[1])]);
    assert_eq!(seen, [(1, 0o755), (0x61, 0o755), (0x62, 0o755)]);
    insta::assert_snapshot!(session.lines(), @r#"
    > Tmultigetattr tag 1 fid 0 names [, a, b]
    < Rmultigetattr tag 1 stats [80.0.1 mode 040755 uid 0 gid 0 nlink 1 size 0, 80.0.61 mode 040755 uid 0 gid 0 nlink 1 size 0, 80.0.62 mode 040755 uid 0 gid 0 nlink 1 size 0]
    "#);
    assert_eq!(
        revalidate(&session, &[("x", &found[0]), ("b", &found[1])]).len(),
        1
    );
    assert_eq!(revalidate(&session, &[]).len(), 1);

    let session = self::session(Version::Google(2));
    let (_, found) = session.walk(&["a", "b"]);
    let seen = revalidate(&session, &[("a", &found[0]), ("b", &found[1])]);
    assert_eq!(seen, [(1, 0o755), (0x61, 0o755), (0x62, 0o755)]);

    let session = self::session(Version::Base);
    let (_, found) = session.walk(&["a", "b"]);
    let seen = revalidate(&session, &[("a", &found[0]), ("b", &found[1])]);
    assert_eq!(seen, [(1, 0o755), (0x61, 0o755), (0x62, 0o755)]);
    insta::assert_snapshot!(session.lines(), @r#"
    > Tgetattr tag 0 fid 0 request_mask 0x7ff
    > Twalk tag 1 fid 0 newfid 3 names [a]
    > Tgetattr tag 2 fid 1 request_mask 0x7ff
    > Twalk tag 3 fid 1 newfid 4 names [b]
    > Tgetattr tag 4 fid 2 request_mask 0x7ff
    < Rgetattr tag 0 valid 0x7ff qid 80.0.1 mode 040755 uid 0 gid 0 nlink 1 size 0
    < Rwalk tag 1 qids [80.0.61]
    < Rgetattr tag 2 valid 0x7ff qid 80.0.61 mode 040755 uid 0 gid 0 nlink 1 size 0
    < Rwalk tag 3 qids [80.0.62]
    < Rgetattr tag 4 valid 0x7ff qid 80.0.62 mode 040755 uid 0 gid 0 nlink 1 size 0
    "#);
    assert_eq!(
        revalidate(&session, &[("x", &found[0]), ("b", &found[1])]).len(),
        1
    );
}

#[test]
fn another_file_under_a_known_name_is_seen_and_ends_it() {
    let session = self::session(Version::Base);
    let (_, found) = session.walk(&["a", "b", "f"]);
    let known = [
        (name("f"), found[0].file.as_ref()),
        (name("b"), found[1].file.as_ref()),
    ];
    let mut seen = Vec::new();
    session
        .file()
        .revalidate(&CALL, &known, &mut |one| seen.push(one.attr.mode))
        .unwrap();
    assert_eq!(seen, [0o755, 0o644]);
}

#[test]
fn long_chains_are_looked_at_piece_by_piece() {
    for version in [Version::NEWEST, Version::Google(2), Version::Base] {
        let session = self::session(version);
        let (_, found) = session.walk(&["a"]);
        let known = vec![(name("a"), found[0].file.as_ref()); 70];
        let mut seen = 0;
        session
            .file()
            .revalidate(&CALL, &known, &mut |_| seen += 1)
            .unwrap();
        assert_eq!(seen, 71, "{version}");
    }
}
