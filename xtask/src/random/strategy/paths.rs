//! Which paths there are.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::random::path::Path;

/// The longest path the host takes, in bytes.
const PATH_MAX: usize = 4095;

/// What is there in a tree that is populated, and what it leads to.
const KNOWN: [&str; 9] = ["a", "a/b", "a/c", "b", "c", "c/a", "d", "d/a", "."];

/// Names that are no words: not of UTF-8, with a line's end, nearly the parent's.
const ODD: [&[u8]; 4] = [b"\xff\xfe", b"a\nb", b"...", b"..a"];

/// Few names, so that paths meet; half of the time what may well be there.
pub(super) fn path() -> BoxedStrategy<Path> {
    let known = select(KNOWN.to_vec()).prop_map(Path::from);
    let next_to_known = (
        select(vec!["", "a/", "c/", "d/"]),
        select(vec!["a", "b", "c", "e"]),
    )
        .prop_map(|(dir, name)| Path::from([dir, name].concat().into_bytes()));
    prop_oneof![5 => known, 3 => next_to_known, 4 => any_path()].boxed()
}

/// A path that is likely one of a file.
pub(super) fn file_path() -> BoxedStrategy<Path> {
    let files = select(vec!["a/b", "a/c", "b", "c/a", "d/a", "c/e", "a/e", "e"]);
    prop_oneof![3 => files.prop_map(Path::from), 1 => path()].boxed()
}

/// A path for what makes, moves or removes a name. On a mount within this process an empty one is
/// a file by itself where a file is asked for, and here, as on the host, nothing.
pub(super) fn name_path() -> BoxedStrategy<Path> {
    prop_oneof![60 => path(), 1 => Just(Path::from(""))].boxed()
}

/// Names in a row.
fn any_path() -> impl Strategy<Value = Path> {
    let word = |text: &str| Just(text.as_bytes().to_vec());
    let name = prop_oneof![
        12 => word("a"),
        10 => word("b"),
        8 => word("c"),
        4 => word("d"),
        1 => word("."),
        2 => word(".."),
        1 => select(vec![vec![b'x'; 255], vec![b'x'; 256]]),
        1 => select(ODD.map(<[u8]>::to_vec).to_vec()),
    ];
    let decoration = prop_oneof![
        20 => Just(("", "/", "")),
        1 => Just(("/", "/", "")),
        2 => Just(("", "/", "/")),
        1 => Just(("", "//", "")),
        1 => Just(("", "/", "/.")),
    ];
    let path = (vec(name, 1..=3), decoration).prop_map(|(names, (before, between, after))| {
        let names = names.join(between.as_bytes());
        Path::from([before.as_bytes(), &names, after.as_bytes()].concat())
    });
    let long = (path.clone(), 0..=1usize).prop_map(|(path, more)| padded(&path, PATH_MAX + more));
    // An empty path is no path on the host, and the place it starts at on a mount.
    prop_oneof![100 => path, 1 => Just(Path::from("/")), 2 => long]
}

/// The same place, by a path that is so long.
fn padded(path: &Path, length: usize) -> Path {
    let missing = length.saturating_sub(path.as_bytes().len());
    let slash = if missing % 2 == 1 { "/" } else { "" };
    let before = ["./".repeat(missing / 2), slash.to_owned()].concat();
    Path::from([before.as_bytes(), path.as_bytes()].concat())
}

/// What symbolic links hold.
pub(super) fn link_text() -> impl Strategy<Value = Path> {
    let after = |before: &'static str| {
        path().prop_map(move |path| Path::from([before.as_bytes(), path.as_bytes()].concat()))
    };
    prop_oneof![5 => path(), 2 => after("/"), 2 => after("../"), 1 => Just(Path::from(".."))]
}

/// Text and path of links that lead in a circle.
pub(super) fn circle() -> impl Strategy<Value = (Path, Path)> {
    let links = vec![
        ("e", "e"),
        ("c/e", "e"),
        ("../e", "c/e"),
        ("e/a", "e"),
        ("d/d", "d"),
    ];
    select(links).prop_map(|(text, path)| (Path::from(text), Path::from(path)))
}
